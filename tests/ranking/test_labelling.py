"""Models label the texts: failures, abstentions, labels by behaviour, threads."""

import threading
import time

import numpy as np
import pandas as pd
import pytest

from fute_sklearn import (
    LabelParser,
    MTEWrapper,
    Task,
    TuPaTEEmbedder,
    forecast,
    match_labels,
    rank_models,
)
from fute_sklearn.exceptions import (
    LabelMismatchError,
    LabelMismatchWarning,
    ModelLabelError,
    ModelLabelWarning,
    UnknownModelWarning,
    UnlabelledTextsWarning,
)
from fute_sklearn.testing import TINY_SURROGATE as TINY

GOOD, BAD = "fine good joy best great".split(), "dull sad slow worse bad".split()


@pytest.fixture(scope="module")
def films():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 300)
    places = ["film", "song", "meal", "trip"]
    return [
        f"a {rng.choice((BAD, GOOD)[c])} {rng.choice(places)} of {rng.choice(places)}s"
        for c in y
    ], ["good" if c else "bad" for c in y]


def right(text: str) -> str:
    return "good" if any(word in text for word in GOOD) else "bad"


def partly(text: str) -> str:
    return "good" if any(word in text for word in GOOD[:2]) else "bad"


def wrong(text: str) -> str:
    return "bad" if right(text) == "good" else "good"


def ranked(models, films, **settings):
    texts, y = films
    return rank_models(
        models, texts[:100], y[:100], texts=texts, quick=True, **settings
    )


def forecast_of(models, films):
    texts, y = films
    return forecast(models, texts[:100], y[:100], texts=texts, quick=True)


def test_pairs_functions_and_answers_are_ranked_together(films, tmp_path):
    texts, y = films
    path = tmp_path / "bert.csv"
    pd.DataFrame({"text": texts, "label": y}).to_csv(path, index=False)
    models = [("rule", right), wrong, path, ("list", [partly(t) for t in texts])]
    table = ranked(models, films)
    assert set(table.index) == {"rule", "wrong", "bert", "list"}
    assert list(table.index)[2:] == ["list", "wrong"]
    assert table.loc["rule", "score"] == table.loc["bert", "score"]
    assert "error" not in table
    assert "abstained" not in table


def test_a_model_that_fails_does_not_stop_the_others(films):
    def fails(texts: list[str]) -> list[str]:
        raise RuntimeError("no memory")

    models = {"right": right, "fails": fails, "wrong": wrong}
    with pytest.warns(ModelLabelWarning, match="1 of 3 models failed .* no memory"):
        table = ranked(models, films, n_labelled=5)
    assert list(table.index) == ["right", "wrong", "fails"]
    assert np.isnan(table.loc["fails", "score"])
    assert "RuntimeError: no memory" in table.loc["fails", "error"]
    assert not isinstance(table.loc["right", "error"], str)
    with pytest.raises(ModelLabelError, match="no memory"):
        ranked(models, films, on_error="raise")
    with pytest.raises(ModelLabelError, match="no memory"):
        ranked({"fails": fails}, films)


def test_abstentions_are_wrong_or_not_counted(films):
    def doubtful(text: str) -> str | None:
        return None if text.endswith("songs") else right(text)

    models = {"right": right, "doubtful": doubtful, "wrong": wrong}
    table = ranked(models, films)
    share = np.mean([text.endswith("songs") for text in films[0]])
    assert table.loc["doubtful", "abstained"] == pytest.approx(share)
    assert table.loc["right", "abstained"] == 0
    lost = table.loc["right", "score"] - table.loc["doubtful", "score"]
    assert share / 3 < lost
    with pytest.warns(ModelLabelWarning, match="dropped"):
        table = ranked(models, films, abstentions="drop")
    lost = table.loc["right", "score"] - table.loc["doubtful", "score"]
    assert abs(lost) < share / 3


def test_models_label_at_the_same_time_in_threads(films):
    together = threading.Barrier(3, timeout=20)

    def waits(name):
        def model(texts: list[str]) -> list[str]:
            if len(texts) == len(films[0]):
                together.wait()
            return [right(text) for text in texts]

        return MTEWrapper(model, fingerprint=name, batch_size=1000, name=name)

    from fute_sklearn import config_context

    distinct = [f"{text} {i}" for i, text in enumerate(films[0])]
    with config_context(cache_dir=None):
        table = ranked([waits(name) for name in "abc"], (distinct, films[1]), n_jobs=3)
    assert len(set(table["score"])) == 1


def test_progress_tells_of_every_model(films):
    class Recorder:
        names: list = []

        def setup(self, estimator, context):
            pass

        def on_fit_task_begin(self, estimator, context):
            self.names.append((type(estimator).__name__, context.task_name))

        def on_fit_task_end(self, estimator, context):
            pass

        def teardown(self, estimator, context):
            pass

    ranked([right, wrong], films, callbacks=[Recorder()])
    assert Recorder.names.count(("_Progress", "models")) == 2


# Labels -------------------------------------------------------------------------


def opaque(text: str) -> str:
    return {"good": "LABEL_0", "bad": "LABEL_1"}[right(text)]


def test_labels_are_matched_by_behaviour(films):
    texts, y = films
    match = match_labels(MTEWrapper(opaque).label(texts), Task(texts[:100], y[:100]))
    assert match.names == {"LABEL_0": "good", "LABEL_1": "bad"}
    assert match.confidence == 1
    assert set(match.confidences) == {"LABEL_0", "LABEL_1"}
    models = {"opaque": opaque, "wrong": wrong, "right": right}
    with pytest.raises(LabelMismatchError, match="label_names"):
        ranked(models, films)
    table = ranked(models, films, label_names={"opaque": "match"})
    assert table.loc["opaque", "score"] == table.loc["right", "score"]
    assert table.attrs["matches"]["opaque"].names == match.names
    # One that is always wrong is then right, if it is named.
    table = ranked(models, films, label_names=dict.fromkeys(models, "match"))
    assert len(set(table["score"].round(9))) == 1


def test_ten_labels_one_of_which_the_task_lacks(films):
    rng = np.random.default_rng(0)
    words = "red green blue grey black white pink brown gold lime".split()
    rows = rng.integers(0, 10, 1000)
    texts = [f"the {words[i]} car number {rng.integers(99)}" for i in rows]
    model = Task(texts, [f"L{i}" for i in rows], name="colours")
    known = rows < 9
    target = Task(
        [t for t, k in zip(texts[:400], known, strict=False) if k],
        [words[i] for i, k in zip(rows[:400], known, strict=False) if k],
    )
    match = match_labels(model, target)
    for i in range(9):
        assert match.names[f"L{i}"] == words[i]
    assert "L9" not in match.names


def test_the_mismatch_names_the_labels_that_go_together(films):
    """The models were asked already, so that behaviour can tell."""
    with pytest.raises(LabelMismatchError) as caught:
        ranked({"opaque": opaque}, films)
    assert "label_names={'opaque': {'LABEL_0': 'good', 'LABEL_1': 'bad'}}" in str(
        caught.value
    ), caught.value


OPAQUE = "label_names={'opaque': {'LABEL_0': 'good', 'LABEL_1': 'bad'}}"


class Opaque:
    """Tells its labels before it is asked."""

    classes_ = ("LABEL_0", "LABEL_1")

    def __init__(self):
        self.asked = 0

    def predict(self, X):
        self.asked += len(X)
        return [opaque(text) for text in X]


@pytest.mark.parametrize("give", [Task, lambda X, y: y], ids=["task", "list"])
def test_answers_that_exist_tell_which_labels_go_together(give, films):
    answers = give(films[0], [opaque(text) for text in films[0]])
    models = {"opaque": MTEWrapper(answers, classes=list(Opaque.classes_))}
    for call in (ranked, forecast_of):
        with pytest.raises(LabelMismatchError) as caught:
            call(models, films)
        assert OPAQUE in str(caught.value), caught.value


def test_kept_answers_tell_which_labels_go_together(films):
    """Also those to some of the texts; a model without any is not asked for it."""
    model, other = Opaque(), Opaque()
    wrappers = {
        "opaque": MTEWrapper(model, fingerprint="opaque-kept"),
        "other": MTEWrapper(other, fingerprint="other-not-kept"),
    }
    distinct = [f"{text} {i}" for i, text in enumerate(films[0])]
    with pytest.raises(LabelMismatchError) as caught:
        ranked(wrappers, (distinct, films[1]))
    assert "By behaviour" not in str(caught.value)
    wrappers["opaque"].label(distinct[:200])
    asked = model.asked
    with pytest.raises(LabelMismatchError) as caught:
        ranked(wrappers, ([*distinct, *distinct[:50]], films[1]))
    assert f"{OPAQUE}." in str(caught.value), caught.value
    assert (model.asked, other.asked) == (asked, 0)


def test_no_model_is_asked_for_a_message(films):
    """Where several texts are one question, the first is told to be asked only."""

    class Stripped(Opaque):
        def text_of(self, X):
            return list(X)

        def content_of(self, X):
            return [text.strip() for text in X]

    model = Stripped()
    wrapper = MTEWrapper(model, fingerprint="stripped")
    distinct = [f"{text} {i}" for i, text in enumerate(films[0])]
    twice = [*distinct, *(f"{text} " for text in distinct)]
    with pytest.raises(LabelMismatchError, match="share no label"):
        ranked({"opaque": wrapper}, (twice, films[1]))
    assert model.asked == 0


def test_few_kept_answers_among_many_are_found(films):
    wrapper = MTEWrapper(Opaque(), fingerprint="few-kept")
    distinct = [f"{text} {i}" for i, text in enumerate(films[0])]
    wrapper.label(distinct[:100])
    many = [*distinct, *(f"{text} {i}" for i in range(20) for text in distinct)]
    with pytest.raises(LabelMismatchError) as caught:
        ranked({"opaque": wrapper}, (many, films[1]))
    assert OPAQUE in str(caught.value), caught.value


def test_nothing_is_proposed_that_could_not_be_given(films):
    """A label that the model has itself, and names where some were given."""

    class Shy(Opaque):
        classes_ = ("bad", "good", "neutral")

        def predict(self, X):
            return [{"bad": "neutral"}.get(right(text), "good") for text in X]

    with pytest.warns(LabelMismatchWarning) as seen:
        ranked({"shy": Shy(), "right": right}, films)
    assert not [one for one in seen if "By behaviour" in str(one.message)]
    answers = Task(films[0], [opaque(text) for text in films[0]])
    named = MTEWrapper(answers, label_names={"LABEL_0": "p", "LABEL_1": "n"})
    with pytest.raises(LabelMismatchError) as caught:
        ranked({"opaque": named}, films)
    assert "By behaviour" not in str(caught.value)


def test_labels_that_differ_in_part_are_proposed_with_a_warning(films):
    def half(text: str) -> str:
        return {"good": "good", "bad": "LABEL_1"}[right(text)]

    class Half(Opaque):
        classes_ = ("LABEL_1", "good")

        def predict(self, X):
            return [half(text) for text in X]

    def more(text: str) -> str:
        return "neutral" if text.endswith("songs") else right(text)

    models = {"half": half, "known": Half(), "more": more, "right": right}
    with pytest.warns(LabelMismatchWarning) as seen:
        ranked(models, films)
    told = [str(one.message) for one in seen if "By behaviour" in str(one.message)]
    renamed = {"LABEL_1": "bad"}
    assert len(told) == 1
    assert f"label_names={ {'half': renamed, 'known': renamed} }." in told[0]
    with pytest.warns(LabelMismatchWarning) as seen:
        table = ranked(models, films, label_names={"half": renamed, "known": renamed})
    assert not [one for one in seen if "By behaviour" in str(one.message)]
    assert table["score"]["half"] == table["score"]["right"]


def test_a_model_without_answers_cannot_be_matched(films):
    models = {"opaque": opaque, "none": lambda text: None}
    with pytest.warns(ModelLabelWarning, match="gives no answer to any text"):
        table = ranked(models, films, label_names="match")
    assert np.isnan(table.loc["none", "score"])


def test_labels_that_cannot_be_matched_are_refused(films):
    texts, y = films
    rng = np.random.default_rng(3)
    coin = {text: str(rng.integers(2)) for text in texts}
    with pytest.warns(ModelLabelWarning, match=r"confidence 0\.\d+, less than 0\.9"):
        ranked({"coin": coin, "right": right}, films, label_names={"coin": "match"})
    with pytest.raises(ValueError, match="two labels or more"):
        match_labels(Task(texts, y), Task(texts, [1.5] * len(texts)))
    with pytest.raises(ValueError, match="label_names='guess'"):
        ranked([right], films, label_names="guess")


def test_sentences_and_many_labels_are_refused_with_a_remedy(films):
    def talks(text: str) -> str:
        return f"I read {text!r} and think it is {right(text)}"

    def counts(text: str) -> str:
        return f"bucket {hash(text) % 60}"

    for model, name in ((talks, "talks"), (counts, "counts")):
        with pytest.raises(LabelMismatchError, match=f"'{name}' gives .* parser="):
            ranked([right, model], films)
    parsed = MTEWrapper(talks, parser=LabelParser(["good", "bad"], take="last"))
    table = ranked({"right": right, "talks": parsed}, films)
    assert table.loc["talks", "score"] == table.loc["right", "score"]


def test_students_that_learn_nothing_are_told(films):
    texts, y = films
    with pytest.warns(UnlabelledTextsWarning, match=r"tell nothing of 1 of 2 .*always"):
        table = ranked({"right": right, "always": lambda text: "good"}, films)
    assert table.attrs["constant"] == ["always"]


def test_choices_are_checked(films):
    for setting in ({"on_error": "warn"}, {"abstentions": "keep"}):
        with pytest.raises(ValueError, match=r"expected one of \("):
            ranked([right], films, **setting)


def test_a_slow_model_is_reported_with_its_forecast(films):
    def slow(texts: list[str]) -> list[str]:
        time.sleep(0.05)
        return [right(text) for text in texts]

    wrapper = MTEWrapper(slow, max_seconds=0.1, batch_size=10, name="slow")
    with pytest.warns(ModelLabelWarning, match="would take"):
        table = ranked([wrapper, right], films)
    assert "more than max_seconds=0.1" in table.loc["slow", "error"]


def test_a_second_ranking_asks_no_model(films):
    asked = []

    def counted(texts: list[str]) -> list[str]:
        asked.extend(texts)
        return [right(text) for text in texts]

    model = MTEWrapper(counted, fingerprint="second", name="counted")
    embedder = TuPaTEEmbedder(TINY, max_epochs=1)
    first = ranked([model, wrong], films, embedder=embedder)
    count = len(asked)
    second = ranked([wrong, model], films, embedder=embedder)
    assert len(asked) == count
    pd.testing.assert_frame_equal(first, second, check_like=True)


def test_names_that_collide_lose_no_model(films):
    table = ranked([("a", right), ("a-2", wrong), ("a", partly)], films)
    assert sorted(table.index) == ["a", "a-2", "a-3"]
    with pytest.raises(TypeError, match="expected several"):
        ranked(right, films)


def test_a_constant_model_that_cannot_be_matched_stops_no_other(films):
    opaque = {"good": "LABEL_1", "bad": "LABEL_0"}

    def hidden(text: str) -> str:
        return opaque[right(text)]

    def always(text: str) -> str:
        return "LABEL_1"

    def numbers(text: str) -> float:
        return len(text) / 7

    models = {"hidden": hidden, "always": always, "numbers": numbers}
    with pytest.warns(ModelLabelWarning, match="2 of 3 models failed"):
        table = ranked(models, films, label_names="match")
    assert table.loc["hidden", "score"] > 0.6
    with pytest.warns(ModelLabelWarning):
        asked = ranked(models, films, label_names="match", n_labelled=20)
    assert asked.loc["hidden", "labelled_score"] == 1
    assert table.loc["always"].isna()["score"]
    assert "one label or none cannot be matched" in table.loc["always", "error"]
    assert "answers with numbers" in table.loc["numbers", "error"]
    with pytest.raises(LabelMismatchError, match="always"):
        ranked(models, films, label_names="match", on_error="raise")


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_constant_with_two_labels_is_not_matched(share, films):
    """Nothing tells which label is which."""
    texts, y = films
    table = np.tile([share, 1 - share], (len(texts), 1))
    model = Task(texts, table, classes=["LABEL_0", "LABEL_1"], origin="model")
    match = match_labels(model, Task(texts[:100], y[:100]))
    assert match.confidence < 0.65
    assert max(match.confidences.values()) < 0.65


def test_matching_for_all_leaves_models_alone_that_speak_the_targets_words(films):
    models = {"right": right, "wrong": wrong, "hidden": opaque}
    table = ranked(models, films, label_names="match")
    assert table["score"]["right"] > 0.6 > 0.4 > table["score"]["wrong"]
    assert table["score"]["hidden"] > 0.6
    assert list(table.attrs["matches"]) == ["hidden"]

    def numbered(text: str) -> int:
        return int(right(text) == "bad")

    X, y = films
    numbers = rank_models(
        {"numbered": numbered},
        X[:100],
        [int(one == "good") for one in y[:100]],
        texts=X,
        label_names="match",
        quick=True,
    )
    assert numbers["score"]["numbered"] > 0.6


def test_the_share_of_abstentions_is_told_where_they_are_left_out(films):
    def doubtful(text: str):
        return None if "film" in text else right(text)

    share = np.mean(["film" in text for text in films[0]])
    with pytest.warns(ModelLabelWarning, match="gave no answer"):
        table = ranked({"a": doubtful, "b": right}, films, abstentions="drop")
    assert table.loc["a", "abstained"] == pytest.approx(share)
    assert table.loc["b", "abstained"] == 0


def test_what_is_asked_wrongly_is_refused_before_any_model_is_called(films):
    def counted(text: str):
        raise AssertionError("called")

    wrapper = MTEWrapper(right, response_method="decision_function")
    for settings in ({}, {"label_names": "match"}):
        with pytest.raises(AttributeError, match="decision_function"):
            ranked({"a": counted, "b": wrapper}, films, **settings)
    with pytest.raises(TypeError, match="models is one DataFrame"):
        ranked(pd.DataFrame({"text": films[0], "label": films[1]}), films)


def test_warnings_of_unknown_models_point_to_the_caller(films):
    class Local:
        def __init__(self):
            self.local = threading.local()

        def predict(self, X):
            return [right(text) for text in X]

    with pytest.warns(UnknownModelWarning) as caught:
        MTEWrapper(Local()).label(films[0])
    assert caught[0].filename == __file__
