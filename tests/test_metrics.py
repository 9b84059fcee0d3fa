"""Metrics against scikit-learn and against values worked out by hand."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import ndcg_score as sklearn_ndcg

from fute_sklearn import metrics


def test_ndcg_equals_scikit_learn_with_ties():
    rng = np.random.default_rng(0)
    for n in (2, 5, 20):
        gains = rng.integers(0, 4, (6, n)).astype(float)
        scores = rng.integers(0, 3, (6, n)).astype(float)
        for k in (None, 1, 3):
            np.testing.assert_allclose(
                metrics.ndcg_score(gains, scores, k=k),
                sklearn_ndcg(gains, scores, k=k),
                rtol=1e-12,
            )


def test_ndcg_by_hand():
    log3 = np.log2(3)
    # Gains 1, 0 ranked the wrong way round: (0 + 1 / log2 3) / 1.
    assert metrics.ndcg_score([1, 0], [0, 1]) == pytest.approx(1 / log3)
    # All tied: the mean of both orders.
    assert metrics.ndcg_score([1, 0], [5, 5]) == pytest.approx((1 + 1 / log3) / 2)
    # Exponential gain 2^g - 1: 3 and 1, ranked the wrong way round.
    expected = (1 + 3 / log3) / (3 + 1 / log3)
    found = metrics.ndcg_score([2, 1], [0, 1], gain="exponential")
    assert found == pytest.approx(expected)
    assert metrics.ndcg_score([0, 0], [1, 2]) == 0


def test_ties_do_not_keep_the_gold_order():
    """A constant score is a random ranking, not a perfect one."""
    gains = [3, 2, 1, 0]
    assert metrics.ndcg_score(gains, [1, 1, 1, 1]) < 0.9


def test_other_metrics_by_hand():
    gains, scores = [[0.9, 0.5, 0.7]], [[1, 3, 2]]
    assert metrics.average_rank_loss(gains, scores) == 3
    assert metrics.performance_rate_score(gains, scores) == pytest.approx(5 / 9)
    assert metrics.regret_loss(gains, scores) == pytest.approx(0.4)
    assert metrics.spearman_score(gains, scores) == pytest.approx(-1)
    # Ties for the top: the mean of what could be chosen; ranks 1.5.
    assert metrics.regret_loss([1, 0], [2, 2]) == 0.5
    assert metrics.average_rank_loss([1, 0], [2, 2]) == 1.5
    assert metrics.spearman_score([1, 1], [2, 3]) == 0


def test_random_column_is_the_mean_over_orders():
    gains = np.array([[0.9, 0.9, 0.2, 0.5]])
    report = metrics.ranking_report(gains, [[1, 2, 3, 4]])
    orders = [np.array([order], float) for order in itertools.permutations(range(4))]
    functions = {
        "ndcg": metrics.ndcg_score,
        "average_rank": metrics.average_rank_loss,
        "performance_rate": metrics.performance_rate_score,
        "regret": metrics.regret_loss,
        "spearman": metrics.spearman_score,
    }
    for name, function in functions.items():
        mean = np.mean([function(gains, d) for d in orders])
        assert report.loc[name, "random"] == pytest.approx(mean, abs=1e-9), name
        assert report.loc[name, "value"] == function(gains, [[1, 2, 3, 4]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.ndcg_score([1, -1], [1, 2]), "negative gains"),
        (lambda: metrics.ndcg_score([1, 1], [1, 2], gain="cubic"), "gain='cubic'"),
        (lambda: metrics.ndcg_score([1, 1], [1]), "shape"),
        (lambda: metrics.ndcg_score([], []), "no candidates"),
        (lambda: metrics.ndcg_score([1, np.nan], [1, 2]), "NaN"),
        (lambda: metrics.performance_rate_score([0, 0], [1, 2]), "not positive"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("scale", [100, 5000, 1e300])
@pytest.mark.parametrize("gain", ["linear", "exponential"])
def test_ndcg_of_large_gains_neither_warns_nor_overflows(scale, gain):
    gains = scale * np.array([0.5, 0.9, 0.7])
    reverse = metrics.ndcg_score(gains, -gains, gain=gain)
    assert metrics.ndcg_score(gains, gains, gain=gain) == pytest.approx(1)
    small = metrics.ndcg_score(gains / scale, -gains)
    # Of exponential gains that large, only the highest counts; it comes third, at 1/2.
    assert reverse == pytest.approx(small if gain == "linear" else 0.5, abs=1e-4)
