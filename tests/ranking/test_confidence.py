"""How sure a ranking is: intervals, shortlists, verdicts, labelled rows."""

import zlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.metrics import make_scorer, matthews_corrcoef

from fute_sklearn import (
    MomentEmbedder,
    ScorePosterior,
    Task,
    add_labels,
    rank_models,
)
from fute_sklearn.embedders._student import Predictions
from fute_sklearn.ranking._confidence import (
    Evidence,
    LabelledGroup,
    correlations,
    drawn_together,
    verdict,
)
from fute_sklearn.ranking._labelled_rows import LabelledRows
from fute_sklearn.ranking._student_errors import MEASURED
from fute_sklearn.ranking._target_scorer import TargetScorer

GOOD, BAD = "fine good joy best great".split(), "dull sad slow worse bad".split()
NAMES = ("a", "b", "c")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def posterior(mean, spread=0.05, shared=0.0):
    names = tuple(f"m{i}" for i in range(len(mean)))
    covariance = spread**2 * np.eye(len(mean)) + shared**2
    return ScorePosterior(names, np.array(mean, dtype=float), covariance)


# The posterior ------------------------------------------------------------------


def test_intervals_and_comparisons_are_those_of_the_normal_distribution(rng):
    found = posterior([0.8, 0.75, 0.6], shared=0.1)
    drawn = rng.multivariate_normal(found.mean, found.covariance, 200_000)
    low, high = found.interval(0.8)
    np.testing.assert_allclose(
        np.mean((drawn > low) & (drawn < high), 0), 0.8, atol=0.01
    )
    best = np.bincount(drawn.argmax(1), minlength=3) / len(drawn)
    np.testing.assert_allclose(found.p_best, best, atol=0.02)
    beats = found.p_beats()
    assert beats.loc["m0", "m2"] == pytest.approx(
        np.mean(drawn[:, 0] > drawn[:, 2]), abs=0.01
    )
    np.testing.assert_allclose(beats + beats.T, 1)


def test_what_all_models_share_changes_no_comparison():
    first, second = posterior([0.8, 0.7], 0.05), posterior([0.8, 0.7], 0.05, shared=1.0)
    np.testing.assert_allclose(first.p_beats(), second.p_beats())
    np.testing.assert_allclose(first.p_best, second.p_best, atol=0.03)


def test_the_shortlist_is_the_smallest_that_holds_the_best():
    found = posterior([0.8, 0.79, 0.78, 0.2])
    chosen = found.shortlist()
    assert set(chosen) == {"m0", "m1", "m2"}
    share = dict(zip(found.names, found.p_best, strict=True))
    assert sum(share[name] for name in chosen) >= 0.9
    assert sum(share[name] for name in chosen[:-1]) < 0.9
    assert len(found.shortlist(0.3)) == 1
    for level in (0, 1, 1.5):
        with pytest.raises(ValueError, match=f"level={level}"):
            found.shortlist(level)
        with pytest.raises(ValueError, match=f"level={level}"):
            found.interval(level)


def test_models_without_a_score_are_never_the_best():
    found = posterior([0.8, np.nan, 0.3])
    assert found.p_best[1] == 0
    assert np.isnan(found.interval()[0][1])
    assert found.p_beats().loc["m1"].isna().all()
    assert posterior([np.nan]).shortlist() == []
    assert verdict(posterior([np.nan]), 0.5) == "no model has a score"
    equal = posterior([0.5, 0.5], 0.0)
    assert equal.p_beats().loc["m0", "m1"] == 0.5


def test_a_thousand_contenders_of_many():
    found = posterior(np.linspace(0, 1, 3000), 0.001)
    assert found.p_best[-1] > 0.3
    assert found.p_best.sum() == pytest.approx(1)


# What it is made of ---------------------------------------------------------------


@pytest.mark.parametrize("scoring", ["accuracy", "balanced_accuracy"])
def test_rows_deviate_as_the_scores_of_other_draws_do(scoring, rng):
    y = np.array([0] * 60 + [1] * 20)
    proba = rng.dirichlet([2, 1], 80)
    names = ("0", "1")
    found = [Predictions("label", names, np.log(p)) for p in (proba, np.sqrt(proba))]
    deviations = TargetScorer(
        Task([f"t{i}" for i in range(80)], y), scoring
    ).deviations(found)
    scores = []
    for _ in range(400):
        if scoring == "accuracy":
            rows = rng.integers(0, 80, 80)
        else:
            rows = np.concatenate([rng.integers(0, 60, 60), rng.integers(60, 80, 20)])
        scorer = TargetScorer(Task([f"t{i}" for i in rows], y[rows]), scoring)
        scores.append(
            [
                scorer.score(Predictions("label", names, one.values[rows]))
                for one in found
            ]
        )
    np.testing.assert_allclose(
        deviations @ deviations.T, np.cov(np.array(scores).T), rtol=0.25
    )


def test_other_scorers_are_jackknifed(rng):
    y = np.arange(200) % 2
    right = rng.random((2, 200)) < 0.8
    answers = np.where(right, y, 1 - y)
    names = ("0", "1")
    found = [
        Predictions("label", names, np.log(np.where(np.eye(2)[a] > 0, 1 - 1e-9, 1e-9)))
        for a in answers
    ]
    task = Task([f"t{i}" for i in range(200)], y)
    scorer = make_scorer(matthews_corrcoef)
    deviations = TargetScorer(task, scorer).deviations(found)
    drawn = []
    for _ in range(150):
        rows = rng.integers(0, 200, 200)
        drawn.append([matthews_corrcoef(y[rows], a[rows]) for a in answers])
    found = np.sqrt(np.diag(deviations @ deviations.T))
    np.testing.assert_allclose(found, np.std(drawn, 0), rtol=0.5)
    assert not np.isnan(deviations).any()


def test_models_that_answer_alike_are_correlated():
    texts = [f"t{i}" for i in range(100)]
    y = np.arange(100) % 2
    tasks = [
        Task(texts, y, classes=[0, 1]),
        Task(texts, 1 - y, classes=[0, 1]),
        Task(texts, [0] * 100, classes=[0, 1]),
        Task(texts[:50], y[:50], classes=[0, 1]),
    ]
    found = correlations(tasks)
    np.testing.assert_allclose(found[0], [1, -1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(np.diag(found), 1)


def evidence(rng, n_models=3, n_rows=400, alike=None, halves=None):
    """Students whose probabilities are right about their models' answers."""
    y = np.arange(n_rows) % 2
    right = rng.beta(4, 2, (n_models, n_rows))
    found = [
        Predictions(
            "label",
            ("0", "1"),
            np.log(np.where(np.eye(2)[y] > 0, p[:, None], 1 - p[:, None])),
        )
        for p in right
    ]
    scorer = TargetScorer(Task([f"t{i}" for i in range(n_rows)], y), "accuracy")
    names = tuple(f"m{i}" for i in range(n_models))
    alike = np.eye(n_models) if alike is None else alike
    made = Evidence(
        names, right.mean(1), found, scorer, halves, alike, 0.5, [], MomentEmbedder()
    )
    return made, right


def test_errors_add_up(rng):
    halves = np.array([[0.6, 0.7], [0.64, 0.66]])
    found, right = evidence(rng, 2, halves=halves)
    own = (MEASURED.own * 0.5) ** 2 + 0.04**2 / 4
    centred = right.mean(1) - right.mean()
    slope = MEASURED.slope**2 * np.outer(centred, centred)
    level = (MEASURED.level * 0.5) ** 2
    np.testing.assert_allclose(
        found.posterior().covariance,
        np.cov(right) / 400 + own * np.eye(2) + level + slope,
    )
    few = replace(found, halves=None)
    assert few.posterior().deviation[0] > found.posterior().deviation[0]


def test_labelled_rows_are_combined_by_the_normal_equations(rng):
    found, right = evidence(rng, halves=np.full((2, 3), 0.6))
    gaps = np.array([0.1, -0.1])
    before = found.posterior()
    after = found.posterior([LabelledGroup(np.array([0, 2]), 50, gaps)])
    # With equal noise and no fine pattern of errors the weights are the best ones.
    spread = 2 * (right * (1 - right)).mean(1)[[0, 2]] / 50
    simple = before.covariance - np.cov(right) / 400
    total = simple[np.ix_([0, 2], [0, 2])] + np.diag(spread)
    weights = np.linalg.solve(total, simple[[0, 2]]).T
    np.testing.assert_allclose(after.mean, before.mean + weights @ gaps)
    assert (after.deviation < before.deviation).all()
    assert after.deviation[1] > after.deviation[0]


def test_groups_of_rows_add_up_to_one_of_all(rng):
    found, _ = evidence(rng, halves=np.full((2, 3), 0.6))
    everyone = np.arange(3)
    parts = [
        LabelledGroup(everyone, 20, np.array([0.1, 0.0, 0.05])),
        LabelledGroup(everyone, 60, np.array([0.02, -0.1, 0.01])),
    ]
    gaps = (20 * parts[0].gaps + 60 * parts[1].gaps) / 80
    one = found.posterior([LabelledGroup(everyone, 80, gaps)])
    np.testing.assert_allclose(found.posterior(parts).mean, one.mean)
    np.testing.assert_allclose(found.posterior(parts).covariance, one.covariance)


def test_many_rows_settle_what_students_cannot(rng):
    """A model that is much better than its student, on all rows but those expected."""
    found, right = evidence(rng, halves=np.full((2, 3), 0.6))
    answers = rng.random(right.shape) < right
    answers[1] |= rng.random(400) < 0.6
    truth = answers.mean(1)
    rows = LabelledRows(found.names)
    y = np.asarray(found.scorer.task.y)
    for i, one in enumerate(answers):
        labels = Task(found.scorer.task.texts, np.where(one, y, 1 - y), classes=[0, 1])
        rows.take(i, np.arange(400), labels)
    after = found.posterior(rows.groups(found))
    assert abs(after.mean[1] - truth[1]) < 0.5 * abs(found.expected[1] - truth[1])
    assert after.shortlist() == ["m1"]
    np.testing.assert_allclose(rows.scores(found.scorer.task, "accuracy"), truth)


def test_true_scores_lie_above_expected_ones_where_something_was_learnt(rng):
    found, right = evidence(rng)
    gain = (right.mean() - 0.5) * 0.75
    mean = found.expected - found.blind
    np.testing.assert_allclose(
        found.rises(), gain * np.minimum(mean, mean.mean()) / mean.mean(), atol=0.01
    )
    assert found.rises().max() == pytest.approx(gain, abs=0.01)
    flat = [
        Predictions("label", ("0", "1"), np.log(np.full((400, 2), 0.5)))
        for _ in range(3)
    ]
    assert replace(found, predictions=flat, expected=np.full(3, 0.5)).rises().max() == 0
    assert replace(found, expected=np.full(3, np.nan)).rises().max() == 0
    assert verdict(posterior([0.48]), 0.5, 0.05).startswith("take 'm0'")


def test_a_constant_model_does_not_beat_the_majority_class(films):
    """Whatever the others of the zoo gain by telling rows apart."""
    models = {"constant": lambda texts: ["good"] * len(texts), "right": right}
    (texts, _), (X, y) = films
    rows = [i for i, one in enumerate(y) if one == "good"][:60]
    rows += [i for i, one in enumerate(y) if one == "bad"][:20]
    # Answers that "right" gets wrong half of the time, so that the constant is best.
    target = [X[i] for i in rows], ["good"] * 60 + ["bad"] * 20
    swapped = [X[i] for i in rows[::-1]]
    table = rank_models(models, swapped, target[1], texts=texts, quick=True)
    assert table.index[0] == "constant"
    assert not table.attrs["worth_taking"]
    assert "none is better" in table.attrs["verdict"]


def test_the_best_of_many_equal_models_is_not_taken_for_better(rng):
    said = dict.fromkeys(("equal", "unlike"), 0)
    unlike = np.linspace(0.3, 0.8, 20)
    for _ in range(200):
        errors = 0.05 * rng.standard_normal(20)
        for name, true in (("equal", np.full(20, 0.44)), ("unlike", unlike)):
            found = verdict(posterior(true + errors, spread=0.05), 0.5)
            said[name] += "none is better" in found
    assert said["equal"] >= 180
    assert said["unlike"] == 0


def test_differences_by_chance_are_shrunk_and_others_kept(rng):
    def drawn(mean, **how):
        return drawn_together(posterior(mean, **how))

    alike = 0.5 + 0.04 * rng.standard_normal(20)
    for shared in (0.0, 0.3):  # errors that all models share change nothing
        found = drawn(alike, spread=0.05, shared=shared)
        np.testing.assert_allclose(found, alike.mean())
    some = drawn(alike, spread=0.035)  # James and Stein's factor, by hand
    share = 1 - 17 * 0.035**2 / ((alike - alike.mean()) ** 2).sum()
    assert 0 < share < 0.5
    np.testing.assert_allclose(some - alike.mean(), share * (alike - alike.mean()))
    np.testing.assert_array_equal(drawn(alike, spread=0.02), alike)
    few = [0.52, 0.48, 0.5]  # of these it cannot be told
    np.testing.assert_array_equal(drawn(few, spread=0.05), few)
    lacking = drawn([np.nan, *alike], spread=0.05)
    np.testing.assert_allclose(lacking[1:], alike.mean())
    assert np.isnan(lacking[0])
    np.testing.assert_array_equal(drawn([0.5] * 5, spread=0.0), [0.5] * 5)


def test_verdicts():
    assert verdict(posterior([0.9, 0.6]), 0.5) == (
        "take 'm0' (the best beats the majority class with probability 1.00)"
    )
    found = verdict(posterior([0.9] * 7), 0.85)
    assert found.startswith("these 7 cannot be told apart: 'm")
    assert found.endswith(
        ", ... (the best beats the majority class with probability 0.84)"
    )
    found = verdict(posterior([0.48, 0.2]), 0.5)
    assert found.startswith("none is better than the majority class")
    assert found.endswith("'m0', is so with probability 0.34")
    found = verdict(posterior([0.48] * 3), 0.5)
    assert found.startswith("none is better than the majority class")
    assert found.endswith("with probability 0.34; 3 models cannot be told apart")
    assert verdict(posterior([0.9, 0.6]), np.nan) == "take 'm0'"
    wide = np.array([0.1, 0.1])
    found = verdict(posterior([0.6, 0.5]), 0.5, deviations=wide)
    assert found.endswith("probability 0.84)")


def test_few_rows_do_not_settle_whether_the_majority_class_is_beaten(films):
    """Its share is known from these rows only."""
    (texts, _), (X, y) = films
    leads = []
    for count in (2, 40):
        goods = [i for i, one in enumerate(y) if one == "good"][:count]
        bads = [i for i, one in enumerate(y) if one == "bad"][:count]
        rows = [*goods, *bads]
        target = [X[i] for i in rows], [y[i] for i in rows]
        table = rank_models({"right": right}, *target, texts=texts, quick=True)
        evidence, found = table.attrs["evidence"], table.attrs["posterior"]
        (lead,) = evidence.lead_deviations(found, "majority_score")
        # Of the row-wise differences to always saying one class.
        own = found.deviation[0] ** 2 - (evidence.rows[0] ** 2).sum()
        said = evidence.scorer.right(evidence.predictions[0])
        gaps = said - (np.array(target[1]) == evidence.scorer.task.targets.names[0])
        assert lead == pytest.approx(
            np.sqrt(own + gaps.var(ddof=1) / len(gaps)), rel=1e-3
        )
        # The verdict rests on it.
        gap = (found.mean + evidence.rises())[0] - table.attrs["majority_score"]
        said = f"with probability {norm.cdf(gap / lead):.2f})"
        assert table.attrs["verdict"].endswith(said)
        leads.append(lead)
    assert leads[0] > 2 * leads[1]


@pytest.mark.parametrize("scoring", ["neg_log_loss", "f1_macro", "accuracy"])
def test_models_have_to_beat_the_best_answer_that_ignores_the_texts(scoring, films):
    (texts, _), (X, y) = films
    table = rank_models(
        {"half": Noisy(0.5, 0), "right": right},
        X,
        y,
        texts=texts,
        quick=True,
        scoring=scoring,
    )
    facts, counts = table.attrs, np.unique(y, return_counts=True)[1]
    shares = counts / counts.sum()
    if scoring == "neg_log_loss":
        assert facts["prior_score"] == pytest.approx(shares @ np.log(shares), abs=1e-4)
    named = "the majority class" if scoring == "accuracy" else "guesses by the classes"
    assert named in facts["verdict"]
    useless = rank_models(
        {"half": Noisy(0.5, 0)}, X, y, texts=texts, quick=True, scoring=scoring
    )
    if scoring == "neg_log_loss":
        assert useless.attrs["verdict"].startswith(f"none is better than {named}")


# In the table ---------------------------------------------------------------------


def film_texts(count, seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, count)
    places = ["film", "song", "meal", "trip", "book"]
    drawn = [(rng.choice((BAD, GOOD)[c]), *rng.choice(places, 3)) for c in y]
    texts = [
        f"a {a} {b} with a {c} and {d} {i}" for i, (a, b, c, d) in enumerate(drawn)
    ]
    return texts, ["good" if c else "bad" for c in y]


def right(text: str) -> str:
    return "good" if any(word in text for word in GOOD) else "bad"


class Noisy:
    """Right but for a share of texts, by their hash."""

    def __init__(self, share, seed):
        self.share, self.seed = share, seed

    def predict(self, X):
        out = []
        for text in X:
            u = np.random.default_rng([zlib.crc32(text.encode()), self.seed])
            wrong = u.random() < self.share
            out.append(
                right(text) if not wrong else "good" if right(text) == "bad" else "bad"
            )
        return out


@pytest.fixture(scope="module")
def films():
    return film_texts(400, 0), film_texts(200, 1)


def ranked(models, films, **settings):
    (texts, _), (X, y) = films
    return rank_models(models, X, y, texts=texts, quick=True, **settings)


def test_the_table_tells_how_sure_it_is(films):
    models = {"right": Noisy(0.0, 0), "worse": Noisy(0.45, 1), "noise": Noisy(0.5, 2)}
    table = ranked(models, films)
    assert (table["low"] < table["score"]).all()
    assert (table["score"] < table["high"]).all()
    assert table["p_best"].sum() == pytest.approx(1)
    assert table.attrs["shortlist"] == ["right"]
    assert table.attrs["verdict"].startswith("take 'right'")
    assert table.attrs["posterior"].p_beats().loc["right", "noise"] > 0.95
    # Attributes travel with the table.
    assert table.head(1).attrs["verdict"] == table.attrs["verdict"]
    assert len(pd.concat([table, table])) == 6


def test_equal_models_are_not_told_apart(films):
    table = ranked({f"m{i}": Noisy(0.1, i) for i in range(6)}, films)
    assert "cannot be told apart" in table.attrs["verdict"]


def test_models_that_are_mostly_wrong_are_called_useless(films):
    table = ranked({f"m{i}": Noisy(0.7, i) for i in range(6)}, films)
    assert "none is better" in table.attrs["verdict"]


def test_intervals_end_where_the_scorer_does(films):
    models = {"right": Noisy(0.0, 0), "wrong": Noisy(1.0, 1)}
    table = ranked(models, films)
    assert table["high"].max() == 1.0
    assert table["low"].min() == 0.0
    losses = ranked(models, films, scoring="neg_log_loss")
    assert losses["high"].max() <= 0
    assert losses["low"].min() < -1
    free = table.attrs["posterior"]
    free = ScorePosterior(free.names, free.mean, free.covariance)
    low, high = free.interval()
    assert high.max() > 1
    assert low.min() < 0
    beyond = ScorePosterior(("a",), np.array([1.1]), np.array([[0.01]]), (0.0, 1.0))
    low, high = beyond.interval()
    assert low[0] < high[0] == 1.0


def test_labelled_answers_move_the_scores_and_narrow_them(films):
    models = {"right": Noisy(0.1, 0), "other": Noisy(0.12, 1), "third": Noisy(0.14, 2)}
    plain = ranked(models, films)
    asked = ranked(models, films, n_labelled=100)
    width = asked["high"] - asked["low"]
    assert (width < (plain["high"] - plain["low"]).reindex(asked.index)).all()
    rows = np.sort(np.random.default_rng(0).choice(200, 100, replace=False))
    X, _ = films[1]
    answers = pd.DataFrame(
        {name: model.predict([X[i] for i in rows]) for name, model in models.items()},
        index=rows,
    )
    given = ranked(models, films, labelled=answers)
    assert given.attrs["n_labelled"] == 100
    assert (given["labelled_score"] > 0.7).all()
    some = ranked(models, films, labelled=answers[["right"]])
    assert some["labelled_score"].isna().sum() == 2
    narrower = (some["high"] - some["low"]).sort_values()
    assert narrower.index[0] == "right"


@pytest.mark.parametrize(
    ("labelled", "error", "message"),
    [
        ({"right": ["good"]}, TypeError, "labelled is a dict"),
        (pd.DataFrame({"x": ["good"]}), ValueError, r"the columns \['x'\]"),
        (pd.DataFrame({"right": ["good"]}, index=["i"]), ValueError, "no positions"),
        (pd.DataFrame({"right": ["good"]}, index=[999]), ValueError, "from 0 to 199"),
        (pd.DataFrame({"right": ["a", "b"]}, index=[1, 1]), ValueError, "twice"),
        (pd.DataFrame({"right": [None]}), ValueError, "holds no answer"),
    ],
)
def test_labelled_answers_that_do_not_fit(labelled, error, message, films):
    with pytest.raises(error, match=message):
        ranked({"right": right}, films, labelled=labelled)


def test_few_texts_make_unsure(films):
    models = {"right": Noisy(0.0, 0), "other": Noisy(0.4, 1)}
    (texts, _), (X, y) = films
    wide = rank_models(models, X, y, texts=texts[:40], embedder=MomentEmbedder())
    narrow = ranked(models, films)
    assert (wide["high"] - wide["low"]).min() > (narrow["high"] - narrow["low"]).max()


def majority_pool():
    """A constant model and one that is right more often than its student is sure."""
    rng = np.random.default_rng(1)
    texts = [f"{w} {n} film" for w in ("fine", "dull") for n in range(60)]
    X = [f"{rng.choice(['fine', 'fine', 'fine', 'dull'])} {n} day" for n in range(60)]
    y = ["good" if "fine" in x else "bad" for x in X]
    wrong = set(rng.choice(60, 9, replace=False).tolist())
    y = [
        {"good": "bad", "bad": "good"}[v] if i in wrong else v for i, v in enumerate(y)
    ]

    class Fine:
        classes_ = ["bad", "good"]

        def predict(self, X):
            return ["good" if "fine" in x else "bad" for x in X]

    class Same:
        classes_ = ["bad", "good"]

        def predict(self, X):
            return ["good"] * len(X)

    return {"same": Same(), "fine": Fine()}, X, y, texts


def test_verdict_and_worth_taking_agree():
    models, X, y, texts = majority_pool()
    table = rank_models(models, X, y, texts=texts, embedder=MomentEmbedder())
    said = {}
    for count in (0, 1, 2, 5, 20, 60):
        if count:
            rows = pd.DataFrame({n: m.predict(X[:count]) for n, m in models.items()})
            table = add_labels(table, rows)
        said[count] = "none is better" in table.attrs["verdict"]
        assert said[count] != table.attrs["worth_taking"]
    assert said[0] == said[1]  # one row shows next to nothing
    evidence = table.attrs["evidence"]
    rises = [
        evidence.rises(
            [LabelledGroup(np.arange(2), count, np.zeros(2))] if count else []
        ).max()
        for count in (0, 1, 30, 1000)
    ]
    assert rises[0] > rises[1] > 0.8 * rises[0]
    assert rises[1] > rises[2] > rises[3]
    assert rises[3] < 0.2 * rises[0]
