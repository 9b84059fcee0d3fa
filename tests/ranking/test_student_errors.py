"""How wrong students are, as past tasks tell."""

import numpy as np
import pandas as pd
import pytest

from fute_sklearn import MomentEmbedder, Task, rank_models
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


def past_tasks(own, level, slope, count=4000, n_models=20, scale=0.5, seed=0):
    """True scores drawn around a line through expected ones."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        expected = 0.6 + 0.1 * rng.standard_normal(n_models)
        steep = 1 + slope * rng.standard_normal()
        true = expected.mean() + steep * (expected - expected.mean())
        true += scale * (level * rng.standard_normal())
        true += scale * own * rng.standard_normal(n_models)
        out.append(PastScores(true, expected, np.full(n_models, 0.5), scale))
    return out


def test_the_errors_of_many_past_tasks_are_found():
    found = errors_of(past_tasks(0.03, 0.05, 0.3))
    assert found.own == pytest.approx(0.03, rel=0.03)
    # The line's height at the mean has the models' own errors in it, too.
    assert found.level == pytest.approx(np.hypot(0.05, 0.03 / np.sqrt(20)), rel=0.05)
    assert found.slope == pytest.approx(0.3, rel=0.05)
    assert found.gain == pytest.approx(1.0, rel=0.05)


def test_without_past_tasks_they_are_those_that_were_measured():
    nothing = PastScores(np.full(3, np.nan), np.ones(3), np.ones(3), 0.5)
    for past in ([], [nothing]):
        found = errors_of(past)
        for name in ("own", "level", "slope", "gain"):
            assert getattr(found, name) == pytest.approx(getattr(MEASURED, name))


def test_the_measured_errors_count_as_some_tasks():
    one = past_tasks(0.0, 0.0, 0.0, count=1)
    own = MEASURED.own * np.sqrt(PRIOR_TASKS / (PRIOR_TASKS + 1))
    assert errors_of(one).own == pytest.approx(own)
    assert errors_of(one * 6).own < errors_of(one).own


def test_models_without_a_score_and_flat_expectations_tell_what_they_can():
    (one,) = past_tasks(0.02, 0.05, 0.0, count=1)
    one.true[3:] = np.nan
    few = PastScores(one.true[:3], one.expected[:3], one.blind[:3], one.scale)
    assert errors_of([one]) == errors_of([few])
    two = PastScores(one.true[:2], one.expected[:2], one.blind[:2], one.scale)
    assert errors_of([two]).own == pytest.approx(MEASURED.own)  # no line through two
    assert errors_of([two]).level != pytest.approx(MEASURED.level)
    flat = PastScores(one.true[:3], np.full(3, 0.5), one.blind[:3], one.scale)
    found = errors_of([flat])
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


def test_wrong_tables_are_refused_before_a_model_is_asked():
    def never(text: str) -> str:
        raise AssertionError("asked")

    X, y = film_texts(20, 1)
    good = Task(X, y)
    for past, error, message in [
        ([good], TypeError, r"past\[0\] is Task.*expected a pair"),
        ([(good, {"never": 0.5}), (X, y)], TypeError, r"past\[1\] is"),
        ([(good, [0.5])], TypeError, "dict or Series"),
        ([(good, {"never": float("nan")})], ValueError, "no finite score of"),
        ([(Task(X, ["a", "b"] * 10), {"never": 0.5})], ValueError, "has the labels"),
    ]:
        with pytest.raises(error, match=message):
            rank_models({"never": never}, X, y, texts=X, past=past)
    for labelled, error, message in [
        ({"never": ["good"]}, TypeError, "labelled is a dict"),
        (pd.DataFrame({"other": ["good"]}), ValueError, "the models are"),
        (pd.DataFrame({"never": ["good"]}, [20]), ValueError, "no positions of rows"),
    ]:
        with pytest.raises(error, match=message):
            rank_models({"never": never}, X, y, texts=X, labelled=labelled)
    with pytest.raises(ValueError, match="y is None: labels are needed"):
        rank_models({"never": never}, X, texts=X, past=[(good, {"never": 0.5})])
