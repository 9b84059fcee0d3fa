"""How wrong students are, as past tasks tell."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fute_sklearn import MomentEmbedder, Task, rank_models
from fute_sklearn.exceptions import LabelMismatchError
from fute_sklearn.ranking._student_errors import (
    MEASURED,
    PRIOR_TASKS,
    PastScores,
    errors_of,
)

from .test_confidence import Noisy, film_texts

pytestmark = pytest.mark.filterwarnings(
    "ignore::fute_sklearn.exceptions.UnlabelledTextsWarning"
)


def past_tasks(own, level, slope, count=4000, n_models=20, spread=0.1, seed=0):
    """True scores drawn around a line through expected ones."""
    rng, scale, out = np.random.default_rng(seed), 0.5, []
    for _ in range(count):
        expected = 0.6 + spread * rng.standard_normal(n_models)
        steep = 1 + slope * rng.standard_normal()
        true = expected.mean() + steep * (expected - expected.mean())
        true += scale * (level * rng.standard_normal())
        true += scale * own * rng.standard_normal(n_models)
        out.append(PastScores(true, expected, np.full(n_models, 0.5), scale))
    return out


@pytest.mark.parametrize("n_models", [3, 20])
@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_the_errors_of_many_past_tasks_are_found(slope, n_models):
    found = errors_of(past_tasks(0.03, 0.05, slope, n_models=n_models), 0.5)
    assert found.own == pytest.approx(0.03, rel=0.05)
    # The line's height at the mean has the models' own errors in it, too.
    height = np.hypot(0.05, 0.03 / np.sqrt(n_models))
    assert found.level == pytest.approx(height, rel=0.05)
    assert found.slope == pytest.approx(slope, rel=0.07, abs=0.05)
    assert found.gain == pytest.approx(1.0, rel=0.05)


def test_without_past_tasks_they_are_those_that_were_measured():
    nothing = PastScores(np.full(3, np.nan), np.ones(3), np.ones(3), 0.5)
    for past in ([], [nothing]):
        found = errors_of(past, 0.5)
        for name in ("own", "level", "slope", "gain"):
            assert getattr(found, name) == pytest.approx(getattr(MEASURED, name))


def test_the_measured_errors_count_as_some_tasks():
    one = past_tasks(0.0, 0.0, 0.0, count=1)
    own = MEASURED.own * np.sqrt(PRIOR_TASKS / (PRIOR_TASKS + 1))
    assert errors_of(one, 0.5).own == pytest.approx(own)
    assert errors_of(one * 6, 0.5).own < errors_of(one, 0.5).own
    # Where the target's range is larger, shares of the past task's say less.
    assert own < errors_of(one, 1.0).own < MEASURED.own
    assert errors_of(one, 0.1).own == pytest.approx(own)


def test_students_that_learnt_nothing_tell_nothing_of_slope_and_gain():
    for sign in (1, -1):
        tasks = [
            PastScores(sign * one.true, one.expected, one.blind, one.scale)
            for one in past_tasks(0.3, 0.1, 0.0, count=20, spread=1e-3)
        ]
        for one in tasks:
            one.blind[:] = one.expected - 1e-3
        found = errors_of(tasks, 0.5)
        assert found.slope == pytest.approx(MEASURED.slope, abs=0.2)
        assert 1 <= found.gain < 2.5


def test_models_without_a_score_and_flat_expectations_tell_what_they_can():
    (one,) = past_tasks(0.02, 0.05, 0.0, count=1)
    one.true[3:] = np.nan
    few = PastScores(one.true[:3], one.expected[:3], one.blind[:3], one.scale)
    assert errors_of([one], 0.5) == errors_of([few], 0.5)
    two = PastScores(one.true[:2], one.expected[:2], one.blind[:2], one.scale)
    found = errors_of([two], 0.5)
    assert found.own == pytest.approx(MEASURED.own)  # no line through two
    assert found.level != pytest.approx(MEASURED.level)
    flat = PastScores(one.true[:3], np.full(3, 0.5), one.blind[:3], one.scale)
    found = errors_of([flat], 0.5)
    assert found.slope == pytest.approx(MEASURED.slope)
    assert np.isfinite([found.own, found.level, found.gain]).all()


@pytest.fixture(scope="module")
def zoo():
    return {f"m{i}": Noisy(0.08 * i, i) for i in range(6)}


def truth(zoo, X, y):
    return {
        name: np.mean(np.array(model.predict(X)) == y) for name, model in zoo.items()
    }


@pytest.mark.parametrize("scoring", ["accuracy", "f1_macro"])
def test_past_tasks_change_the_intervals_alone(zoo, scoring):
    texts, target = film_texts(300, 0)[0], film_texts(80, 1)
    pairs = [film_texts(200, seed) for seed in range(2, 8)]
    past = [(Task(X, y), truth(zoo, X, np.array(y))) for X, y in pairs]
    options = {
        "texts": texts,
        "embedder": MomentEmbedder("fute-mini"),
        "scoring": scoring,
    }
    plain = rank_models(zoo, *target, **options)
    found = rank_models(zoo, *target, past=past, **options)
    same = ["score", "rank"]
    pd.testing.assert_frame_equal(found[same], plain[same])
    assert plain.attrs["student_errors"]["own"] == MEASURED.own
    assert found.attrs["student_errors"] != plain.attrs["student_errors"]
    width = (found["high"] - found["low"]) / (plain["high"] - plain["low"])
    assert ((width - 1).abs() > 0.01).all()
    # By a Series, and with a model that nobody ranks.
    again = [(task, pd.Series({**known, "else": 0.5})) for task, known in past]
    pd.testing.assert_frame_equal(
        rank_models(zoo, *target, past=iter(again), **options), found
    )


def test_a_students_known_errors_widen_and_narrow(zoo):
    """Past scores that are as expected narrow the intervals, others widen them."""
    texts, target = film_texts(300, 0)[0], film_texts(80, 1)
    embedder = MomentEmbedder("fute-mini")
    options = {"texts": texts, "embedder": embedder}
    X, y = film_texts(200, 2)
    expected = rank_models(zoo, X, y, **options)["score"]
    wrong = dict(zip(expected.index, expected[::-1], strict=True))
    widths = []
    for known in (expected, wrong):
        table = rank_models(zoo, *target, past=[(Task(X, y), known)] * 5, **options)
        widths.append((table["high"] - table["low"]).mean())
    plain = rank_models(zoo, *target, **options)
    assert widths[0] < (plain["high"] - plain["low"]).mean() < widths[1]


def test_past_tasks_that_tell_nothing_are_named(zoo):
    """The area under the curve is not defined for one class."""
    texts, target = film_texts(300, 0)[0], film_texts(80, 1)
    X, y = film_texts(60, 2)
    single = Task(
        [x for x, one in zip(X, y, strict=True) if one == "good"],
        ["good"] * y.count("good"),
        classes=["bad", "good"],
    )
    options = {
        "texts": texts,
        "embedder": MomentEmbedder("fute-mini"),
        "scoring": "roc_auc",
    }
    with pytest.warns(UserWarning, match=r"past tasks \[0\] tell nothing"):
        table = rank_models(zoo, *target, past=[(single, {"m0": 0.9})], **options)
    assert table.attrs["student_errors"]["own"] == pytest.approx(MEASURED.own)


def test_wrong_tables_are_refused_before_a_model_is_asked():
    def never(text: str) -> str:
        raise AssertionError("asked")

    X, y = film_texts(20, 1)
    past_X, past_y = film_texts(20, 2)
    good, one = Task(past_X, past_y), {"never": 0.5}
    twice = pd.Series([0.5, 0.6], ["never", "never"])
    for past, error, message in [
        (None, TypeError, "past is None"),
        ({"never": 0.5}, TypeError, "past is {'never'"),
        ([good], TypeError, r"past\[0\] is Task.*expected a pair"),
        ([(good, one), (X, y)], TypeError, r"past\[1\] is"),
        ([(good, [0.5])], TypeError, "dict or Series"),
        ([(good, pd.DataFrame(one, [0]))], TypeError, "dict or Series"),
        ([(good, {"never": float("nan")})], ValueError, r"past\[0\] has the score nan"),
        ([(good, {"never": "high"})], ValueError, "the score 'high' of 'never'"),
        ([(good, {"never": 85})], ValueError, "above a perfect one, 1"),
        ([(good, twice)], ValueError, "two scores of 'never'"),
        ([(good, {"always": 0.5})], ValueError, "none of which is a model"),
        ([(good, {})], ValueError, "none of which is a model"),
        ([(Task(X, y), one)], ValueError, "the target's own texts"),
        ([(Task(past_X, ["a", "b"] * 10), one)], ValueError, "has the labels"),
        ([(Task(past_X, range(20), kind="number"), one)], ValueError, "has the labels"),
    ]:
        with pytest.raises(error, match=message):
            rank_models({"never": never}, X, y, texts=X, past=past)
    for labelled, error, message in [
        ({"never": ["good"]}, TypeError, "labelled is a dict"),
        (pd.DataFrame({"other": ["good"]}), ValueError, "the models are"),
        (pd.DataFrame({"never": ["good"]}, [20]), ValueError, "no positions of rows"),
        (pd.DataFrame({"never": [None]}), ValueError, "holds no answer"),
        (pd.DataFrame(), ValueError, "holds no answer"),
    ]:
        with pytest.raises(error, match=message):
            rank_models({"never": never}, X, y, texts=X, labelled=labelled)
    told = SimpleNamespace(predict=never, classes_=["bad", "good"])
    labelled = pd.DataFrame({"never": ["Good"]})
    for models in ({"never": told}, {"never": told, "other": never}):
        with pytest.raises(LabelMismatchError, match="'Good'"):
            rank_models(models, X, y, texts=X, labelled=labelled)
    with pytest.raises(ValueError, match="y is None: labels are needed"):
        rank_models({"never": never}, X, texts=X, past=[(good, {"never": 0.5})])
