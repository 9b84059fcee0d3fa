"""The short way: models and a labelled task in, a table out."""

import pickle
import threading

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, make_scorer

from fute_sklearn import (
    LabelMatch,
    MomentEmbedder,
    MTEWrapper,
    StudentRanker,
    Task,
    TuPaTEEmbedder,
    add_labels,
    explain,
    rank_models,
    settle_ranking,
)
from fute_sklearn.exceptions import (
    LabelMismatchError,
    LabelMismatchWarning,
    ModelLabelError,
    UnknownTokensWarning,
    UnlabelledTextsWarning,
)
from fute_sklearn.ranking import _text_sufficiency
from fute_sklearn.testing import TINY_SURROGATE as TINY


class Rule:
    def __init__(self, word):
        self.word = word

    def predict(self, X):
        return ["pos" if self.word in x else "neg" for x in X]


@pytest.fixture
def zoo():
    return {word: Rule(word) for word in ("fine", "dull", "food")}


def test_rank_models_table(zoo, texts, labels):
    embedder = TuPaTEEmbedder(TINY, max_epochs=2)
    table = rank_models(
        zoo,
        texts,
        labels,
        texts=texts,
        embedder=embedder,
        baselines="all",
        n_labelled=4,
    )
    assert list(table.columns[:2]) == ["score", "rank"]
    assert (table["score"].rank(ascending=False) == table["rank"]).all()
    assert set(table.index) == set(zoo)
    for key in ("closed", "tuned", "cosine", "moment", "prior", "labelled"):
        scores, ranks = table[f"{key}_score"], table[f"{key}_rank"]
        assert (scores.rank(ascending=False) == ranks).all(), key
    assert table["rank"].is_monotonic_increasing
    assert (table["random_rank"] == 2).all()
    assert table.attrs["surrogate"] == TINY
    shares = {w: np.mean([w in x for x in texts]) for w in zoo}
    for word in zoo:
        assert table.loc[word, "prior_score"] == pytest.approx(-abs(shares[word] - 0.5))


def test_models_are_called_on_the_target_only_where_asked(texts, labels):
    seen = []

    class Spy(Rule):
        def predict(self, X):
            seen.extend(X)
            return super().predict(X)

    embedder = MomentEmbedder(TINY, reference=texts)
    options = {"texts": ["some fine text", "other dull text"], "embedder": embedder}
    models = {"a": Spy("fine"), "b": Spy("dull")}
    rank_models(models, texts, labels, **options)
    assert set(seen) == set(options["texts"])
    rank_models(models, texts, labels, n_labelled=3, **options)
    assert len(set(seen) & set(texts)) == 3


def test_rank_models_with_a_list_and_other_label_names(texts):
    embedder = MomentEmbedder(TINY, reference=texts, target_encoding="text")
    table = rank_models(
        [Rule("fine"), Rule("dull"), MTEWrapper(Rule("food"), name="own")],
        texts,
        ["pos", "neg", "neutral", "neg"] * 2,
        texts=texts,
        embedder=embedder,
        scoring="balanced_accuracy",
    )
    assert sorted(table.index) == ["Rule", "Rule-2", "own"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": {}}, "no models"),
        ({"y": np.linspace(0.1, 0.9, 8)}, "kind 'number'"),
        ({"students": "luck"}, "students='luck'"),
        ({"baselines": ["luck"]}, "baselines holds .'luck'."),
    ],
)
def test_rank_models_refuses(change, message, zoo, texts, labels):
    options = {
        "models": zoo,
        "X": texts,
        "y": labels,
        "texts": texts,
        "embedder": MomentEmbedder(TINY, reference=texts),
    }
    with pytest.raises(ValueError, match=message):
        rank_models(**{**options, **change})


def test_dropped_rows_of_one_model_do_not_shift_the_others(texts, labels):
    class Half(Rule):
        def predict(self, X):
            if any("sad" in x for x in X):
                raise RuntimeError("too sad")
            return super().predict(X)

    embedder = MomentEmbedder(TINY, reference=texts)
    options = {"texts": texts, "embedder": embedder, "n_labelled": 8}
    alone = rank_models({"fine": Rule("fine")}, texts, labels, **options)
    half = MTEWrapper(Half("dull"), on_error="drop")
    with pytest.warns(UserWarning, match="dropped"):
        both = rank_models(
            {"half": half, "fine": Rule("fine")}, texts, labels, **options
        )
    scores = [c for c in alone.columns if c.endswith("_score")]
    np.testing.assert_allclose(
        both.loc["fine", scores].astype(float),
        alone.loc["fine", scores].astype(float),
        rtol=1e-5,
    )


def test_a_column_that_cannot_be_computed_is_nan(zoo, texts, labels):
    """After hours of work nothing is thrown away."""
    embedder = MomentEmbedder(TINY, reference=texts)
    options = {"texts": texts, "embedder": embedder, "baselines": ["moment"]}
    many = [f"{x} {i}" for i in range(4) for x in texts]
    y = ["pos"] * 31 + ["neg"]
    with pytest.warns(UserWarning, match="'labelled' cannot.*3 of 3 models .'fine'"):
        table = rank_models(zoo, many, y, n_labelled=4, scoring="roc_auc", **options)
    assert table["labelled_score"].isna().all()
    assert table["score"].notna().all()

    def broken(estimator, X, y):
        if list(estimator.predict(X)) != list(y):
            raise RuntimeError("a scorer of one's own")
        return 1.0

    with pytest.warns(UserWarning, match="'score'.*of one's own"):
        table = rank_models(zoo, texts, labels, scoring=broken, **options)
    assert table["score"].isna().all()
    assert table["moment_score"].notna().all()

    class Down(Rule):
        def predict(self, X):
            if "sad" in X[0]:
                raise ConnectionError("gone")
            return super().predict(X)

    sad = ["so sad a fine film", "so sad a dull film"]
    with pytest.warns(UserWarning, match="'labelled' cannot.* 1 of 4 .*'down'.*gone"):
        table = rank_models(
            {**zoo, "down": Down("fine")}, sad, ["pos", "neg"], n_labelled=2, **options
        )
    assert table["labelled_score"].isna().tolist() == (table.index == "down").tolist()
    assert np.isnan(table.loc["down", "labelled_rank"])


def test_wrong_numbers_of_labelled_rows_are_refused(zoo, texts, labels):
    with pytest.raises(ValueError, match="n_labelled=-1"):
        rank_models(zoo, texts, labels, texts=texts, n_labelled=-1)


def test_what_newcomers_mix_up_is_named(zoo, texts, labels):
    many = [f"{text} {i}" for text in texts for i in range(8)]
    answers = [label for label in labels for _ in range(8)]
    with pytest.raises(ValueError, match=r"X and y look swapped: X holds 2 different"):
        rank_models(zoo, answers, many, texts=texts)
    with pytest.raises(ValueError, match="kind 'number', as kind says"):
        rank_models(zoo, texts, range(len(texts)), texts=texts, kind="number")
    for wrong, shown in (("t5", "embedder='t5'"), (MomentEmbedder, "=MomentEmbedder")):
        with pytest.raises(TypeError, match=f"{shown}, expected an embedder over"):
            rank_models(zoo, texts, labels, texts=texts, embedder=wrong)
    with pytest.raises(
        ValueError, match="scoring='f1' fails on the target's own.*f1_macro"
    ):
        rank_models({"never": None}, texts, labels, texts=texts, scoring="f1")
    with pytest.raises(LabelMismatchError) as found:
        rank_models(zoo, answers, many, texts=texts, kind="label")
    assert f"and {len(many) - 20} more" in str(found.value)


def test_iterators_are_read_once(zoo, texts, labels):
    embedder = MomentEmbedder(TINY, reference=texts)
    whole = rank_models(zoo, texts, labels, texts=texts, embedder=embedder)
    streamed = rank_models(
        zoo, iter(texts), iter(labels), texts=iter(texts), embedder=embedder
    )
    pd.testing.assert_frame_equal(whole, streamed)


def test_texts_that_the_surrogate_cannot_read_are_told(zoo):
    chinese = ["\u4eca\u5929\u5929\u6c14\u5f88\u597d", "\u4e00\u90e8\u597d\u7535\u5f71"]
    emoji = ["\U0001f642", "\U0001f389 \U0001f642"]
    texts = ["a fine film", "a dull film"]
    embedder = MomentEmbedder("fute-mini", reference=texts)
    with pytest.warns(UnknownTokensWarning, match=r"4 of 6 texts \(67%\).*row 2"):
        table = rank_models(
            zoo, texts, ["pos", "neg"], texts=texts + chinese + emoji, embedder=embedder
        )
    assert table.attrs["unreadable_texts"] == pytest.approx(4 / 6)
    assert table.attrs["unreadable_samples"] == 0
    with pytest.warns(UnknownTokensWarning, match="2 of 2 texts"):
        embedder.fit(chinese, ["pos", "neg"])


def test_rank_models_without_a_fixed_seed(zoo, texts, labels):
    embedder = TuPaTEEmbedder(TINY, max_epochs=1, random_state=None)
    table = rank_models(
        zoo, texts, labels, texts=texts, embedder=embedder, baselines=["cosine"]
    )
    assert table["cosine_score"].notna().all()


def test_a_model_with_a_label_of_its_own(zoo, texts, labels):
    class Other(Rule):
        def predict(self, X):
            return ["strange" if "slow" in x else "pos" for x in X]

    embedder = MomentEmbedder(TINY, reference=texts)
    with (
        pytest.warns(LabelMismatchWarning, match="'other' answers .'strange'."),
        pytest.warns(UserWarning, match="'cosine' cannot be computed"),
    ):
        table = rank_models(
            {**zoo, "other": Other("x")},
            texts,
            labels,
            texts=texts,
            embedder=embedder,
            baselines="cosine",
        )
    assert table["cosine_score"].isna().all()
    assert table["score"].notna().all()


def test_wrong_settings_are_refused_before_any_model_is_called(texts, labels):
    class Never:
        def predict(self, X):
            raise AssertionError("called")

    with pytest.raises(ValueError, match="students"):
        rank_models([Never()], texts, labels, texts=texts, students="luck")
    embedder = MomentEmbedder(TINY, reference=texts)
    with pytest.raises(ValueError, match="no_such_metric"):
        StudentRanker(embedder, scoring="no_such_metric").fit([Task(texts, labels)])


def test_progress_of_rank_models(zoo, texts, labels, capsys):
    from sklearn.callback import ProgressBar

    embedder = TuPaTEEmbedder(TINY, max_epochs=2)
    rank_models(
        zoo, texts, labels, texts=texts, embedder=embedder, callbacks=[ProgressBar()]
    )
    assert "StudentRanker" in capsys.readouterr().out


@pytest.mark.parametrize("fails", [False, True])
def test_progress_ends_with_the_ranking(fails, zoo, texts, labels):
    """Or its thread would keep the process from ending."""
    from sklearn.callback import ProgressBar

    class Fails(Rule):
        def predict(self, X):
            raise RuntimeError("gone")

    models = {**zoo, "fails": Fails("x")} if fails else zoo
    before = set(threading.enumerate())
    try:
        rank_models(
            models,
            texts,
            labels,
            texts=texts,
            embedder=MomentEmbedder(TINY, reference=texts),
            callbacks=[ProgressBar()],
            on_error="raise",
        )
    except ModelLabelError:
        assert fails
    left = [t for t in set(threading.enumerate()) - before if not t.daemon]
    assert not left


# Students, facts and warnings -----------------------------------------------------


def many_texts(count=400):
    rng = np.random.default_rng(0)
    words = "fine dull film food day night slow quick song room".split()
    return [" ".join(rng.choice(words, 5)) for _ in range(count)]


@pytest.fixture
def pool():
    texts = many_texts()
    target = texts[:60]
    return texts[60:], target, ["pos" if "fine" in x else "neg" for x in target]


def test_the_score_is_in_the_scorers_unit_and_the_facts_are_told(pool):
    texts, X, y = pool
    zoo = {word: Rule(word) for word in ("fine", "dull", "food", "night")}
    embedder = MomentEmbedder("fute-mini")
    table = rank_models(zoo, X, y, texts=texts, embedder=embedder)
    assert list(table.columns) == ["score", "rank", "low", "high", "p_best"]
    assert table.index[0] == "fine"
    assert table["score"].between(0, 1).all()
    facts = table.attrs
    share = np.mean(np.array(y) == "pos")
    assert facts["majority_score"] == pytest.approx(max(share, 1 - share), abs=1e-5)
    assert facts["prior_score"] == pytest.approx(share**2 + (1 - share) ** 2, abs=1e-5)
    assert facts["worth_taking"]
    assert list(facts["learning_curve"]) == [85, 170, 340]
    assert 0.5 < facts["stability"] <= 1
    assert facts["text_distance"] == pytest.approx(1, abs=0.5)
    bad = rank_models({"dull": Rule("dull")}, X, y, texts=texts, embedder=embedder)
    assert not bad.attrs["worth_taking"]


def test_the_curve_of_many_models_is_that_of_some(pool, monkeypatch):
    texts, X, y = pool
    words = ("fine", "dull", "food", "night", "crew", "sad")
    zoo = {word: Rule(word) for word in words}
    embedder = MomentEmbedder("fute-mini")
    kwargs = {"texts": texts, "embedder": embedder}
    whole = rank_models(zoo, X, y, **kwargs)
    monkeypatch.setattr(_text_sufficiency, "MOST_MODELS", 3)
    found = rank_models(zoo, X, y, **kwargs)
    pd.testing.assert_frame_equal(found, whole)
    curve, of_all = found.attrs["learning_curve"], whole.attrs["learning_curve"]
    assert list(curve) == list(of_all)
    assert curve[340] == of_all[340]
    drawn = np.sort(np.random.default_rng(0).permutation(6)[:3])
    others = {words[i]: zoo[words[i]] for i in drawn}
    some = rank_models(others, X, y, **kwargs).attrs["learning_curve"]
    assert [curve[85], curve[170]] == pytest.approx([some[85], some[170]])


@pytest.mark.parametrize("more", [{}, {"baselines": "all", "n_labelled": 4}])
def test_tables_are_written_and_read(more, zoo, texts, labels, tmp_path):
    table = rank_models(zoo, texts, labels, texts=texts, quick=True, **more)
    table.to_parquet(tmp_path / "ranking.parquet")
    found = pd.read_parquet(tmp_path / "ranking.parquet")
    pd.testing.assert_frame_equal(found, table, check_flags=False)
    assert found.attrs["verdict"] == table.attrs["verdict"]
    again = pickle.loads(pickle.dumps(table))
    assert again.attrs["posterior"].shortlist() == table.attrs["posterior"].shortlist()
    with pytest.raises(TypeError, match="without the attrs of a ranking"):
        add_labels(found, {})


def test_tables_with_tables_in_them_are_joined_and_written(
    zoo, texts, labels, tmp_path
):
    table = rank_models(zoo, texts, labels, texts=texts, quick=True)
    settled = settle_ranking(table, zoo, 6, level=0.99999)
    matched = table.copy()
    matched.attrs["matches"] = {"fine": LabelMatch({"yes": "pos"}, 0.9, {"yes": 0.9})}
    for found in (settled, explain(table, table.index[0]), matched):
        both = pd.concat([found.head(1), found.tail(1)])
        assert both.attrs == found.attrs
        numbers = found.select_dtypes("number").columns
        assert len(found.nlargest(1, numbers[0])) == 1
        found.melt()
        found.to_parquet(tmp_path / "table.parquet")
        pickle.loads(pickle.dumps(found))


def test_both_students_are_mixed_where_the_tuned_ones_are_forecast_in_time(pool):
    texts, X, y = pool
    zoo = {word: Rule(word) for word in ("fine", "dull", "food")}
    options = {"texts": texts, "embedder": TuPaTEEmbedder(TINY, max_epochs=1)}
    both = rank_models(zoo, X, y, baselines=["closed", "tuned"], **options)
    assert both.attrs["students"] == "both"
    mean = (both["closed_score"] + both["tuned_score"]) / 2
    pd.testing.assert_series_equal(both["score"], mean, check_names=False, rtol=1e-5)
    quick = rank_models(zoo, X, y, quick=True, **options)
    late = rank_models(zoo, X, y, max_seconds=0, **options)
    for table in (quick, late):
        assert table.attrs["students"] == "closed"
        pd.testing.assert_series_equal(
            table["score"].sort_index(),
            both["closed_score"].sort_index(),
            check_names=False,
        )
    tuned = rank_models(zoo, X, y, students="tuned", **options)
    assert tuned.attrs["students"] == "tuned"
    assert tuned.attrs["forecast_seconds"] > 0
    with pytest.raises(ValueError, match="tunes nothing"):
        rank_models(
            zoo,
            X,
            y,
            texts=texts,
            embedder=MomentEmbedder(TINY),
            students="both",
        )


def test_class_weight_follows_the_scorer(pool):
    texts, X, y = pool
    zoo = {word: Rule(word) for word in ("fine", "dull", "food")}
    options = {"texts": texts, "embedder": MomentEmbedder("fute-mini")}
    found = rank_models(zoo, X, y, scoring="balanced_accuracy", **options)
    assert found.attrs["class_weight"] == "balanced"
    own = make_scorer(balanced_accuracy_score)
    assert rank_models(zoo, X, y, scoring=own, **options).attrs["class_weight"]
    assert rank_models(zoo, X, y, **options).attrs["class_weight"] is None
    with pytest.raises(ValueError, match="class_weight='equal'"):
        rank_models(zoo, X, y, class_weight="equal", **options)
    with pytest.raises(ValueError, match="max_seconds=-1"):
        rank_models(zoo, X, y, max_seconds=-1, **options)


def test_an_order_that_is_not_settled_is_told(pool):
    texts, X, y = pool
    rng = np.random.default_rng(1)

    class Noise:
        def __init__(self, seed):
            self.seed = seed

        def predict(self, X):
            rng = np.random.default_rng([self.seed, len(X)])
            return rng.choice(["pos", "neg"], len(X))

    zoo = {f"noise {i}": Noise(int(rng.integers(1000))) for i in range(12)}
    embedder = MomentEmbedder("fute-mini")
    with pytest.warns(UnlabelledTextsWarning, match="do not settle the order"):
        table = rank_models(zoo, X, y, texts=texts, embedder=embedder)
    assert table.attrs["stability"] < 0.9


def test_texts_unlike_the_targets_are_told(pool):
    texts, _, _ = pool
    zoo = {"fine": Rule("fine"), "dull": Rule("dull")}
    X = ["$4,000 (1987) Q: %%% ???", "A. B. C. D. 1 2 3 4 5 6 7 8"]
    with pytest.warns(UnlabelledTextsWarning, match="unlabelled texts are unlike"):
        rank_models(
            zoo,
            X,
            ["pos", "neg"],
            texts=texts,
            embedder=MomentEmbedder("fute-mini"),
        )


def test_too_few_texts_are_told(texts, labels, zoo):
    with pytest.warns(UnlabelledTextsWarning, match="are 8, fewer than .* 16 features"):
        table = rank_models(
            zoo, texts, labels, texts=texts, embedder=MomentEmbedder(TINY)
        )
    assert np.isnan(table.attrs["text_distance"])
    assert np.isnan(table.attrs["stability"])
    assert table.attrs["learning_curve"] == {}
