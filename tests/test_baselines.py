"""DataSize, CurveGrad and the fusion of rankings, against a few lines of their own."""

import numpy as np
import pandas as pd
import pytest

from fute_sklearn import Task
from fute_sklearn.baselines import curve_gradients, data_size, reciprocal_rank_fusion


def test_data_size_counts_the_rows_of_tasks_lists_and_tables():
    task = Task(["a", "b", "c"], ["x", "y", "x"])
    frame = pd.DataFrame({"text": ["a", "b"], "label": [0, 1]})
    assert data_size([task, ["a"], frame, np.zeros((5, 2))]).tolist() == [3, 1, 2, 5]


@pytest.mark.parametrize("source", [3, "a text", None])
def test_data_size_refuses_what_has_no_rows(source):
    with pytest.raises(TypeError, match=r"sources\[1\] is .*training data of a model"):
        data_size([["a"], source])


def test_slopes_are_those_of_lines_through_the_steps_around_each_place():
    rng = np.random.default_rng(0)
    curves = [
        np.exp(-3 * np.linspace(0, 1, n)) + rng.normal(0, 0.1, n) for n in (80, 47)
    ]
    found = curve_gradients(curves, at=(0.1, 0.6), window=0.15)
    for row, curve in zip(found, curves, strict=True):
        share = (np.arange(len(curve)) + 0.5) / len(curve)
        for slope, place in zip(row, (0.1, 0.6), strict=True):
            x, y = (v[np.abs(share - place) <= 0.15] for v in (share, curve))
            covariance = ((x - x.mean()) * (y - y.mean())).sum()
            assert slope == pytest.approx(covariance / ((x - x.mean()) ** 2).sum())


def test_the_slopes_do_not_depend_on_how_often_the_loss_was_noted():
    share = np.linspace(0, 1, 1000, endpoint=False) + 0.0005
    fine = 2 * np.exp(-share)
    coarse = fine.reshape(100, 10).mean(1)
    assert curve_gradients([fine]) == pytest.approx(curve_gradients([coarse]), abs=0.01)
    assert curve_gradients([fine])[0] == pytest.approx(
        -2 * np.exp([-0.1, -0.2, -0.3, -0.5, -0.7]), abs=0.01
    )


@pytest.mark.parametrize(
    ("losses", "params", "message"),
    [
        (
            [[1.0, 0.5]],
            {},
            r"losses\[0\] has 2 steps, of which 0 lie within 0.1 of 0.1",
        ),
        ([np.ones(50), [[1.0]]], {}, r"losses\[1\] has the shape \(1, 1\)"),
        ([[1.0, np.nan, 0.5]], {}, "finite loss per step"),
        ([[]], {}, "has 0 steps"),
        ([np.ones(50)], {"at": [1.5]}, "places between 0 and 1"),
        ([np.ones(50)], {"at": []}, "places between 0 and 1"),
        ([np.ones(50)], {"window": 0}, "above 0"),
        ([np.ones(50)], {"window": float("nan")}, "above 0"),
    ],
)
def test_curves_that_have_no_slope_are_refused(losses, params, message):
    with pytest.raises(ValueError, match=message):
        curve_gradients(losses, **params)


def test_no_curves_give_no_rows():
    assert curve_gradients([]).shape == (0, 5)


def test_fusion_sums_reciprocal_ranks():
    scores = [[3.0, 1.0, 2.0], [0.1, 0.2, 0.3]]
    wanted = [1 / 61 + 1 / 63, 1 / 63 + 1 / 62, 1 / 62 + 1 / 61]
    assert reciprocal_rank_fusion(scores) == pytest.approx(wanted)
    assert reciprocal_rank_fusion([[1.0, 1.0]]) == pytest.approx([1 / 61.5] * 2)


@pytest.mark.parametrize(
    ("scores", "k", "message"),
    [
        ([1.0, 2.0], 60, r"shape \(2,\)"),
        (np.empty((0, 3)), 60, "expected finite scores"),
        ([[1.0, np.nan]], 60, "expected finite scores"),
        ([[1.0, 2.0]], -1, "at least 0"),
        ([[1.0, 2.0]], float("nan"), "at least 0"),
    ],
)
def test_fusion_refuses_what_is_no_ranking(scores, k, message):
    with pytest.raises(ValueError, match=message):
        reciprocal_rank_fusion(scores, k=k)
