"""Metrics of rankings, each with what a random ranking is expected to reach.

Gains and scores may be arrays, dicts, Series or tables of pandas and polars.  Where
both name their candidates (by dict key, index or column) or tasks (by a table's index)
they are aligned by name, and refused if the names differ; arrays go by position.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
import sklearn.metrics
from scipy.stats import rankdata, spearmanr

from ._utils._alignment import align, align_gains, row_names
from ._utils._stack_level import find_stack_level

__all__ = [
    "average_rank_loss",
    "ndcg_score",
    "ndcg_scorer",
    "performance_rate_score",
    "performance_rate_scorer",
    "ranking_report",
    "regret_loss",
    "regret_scorer",
    "spearman_score",
]


def _check(y_true: Any, y_score: Any) -> tuple[np.ndarray, np.ndarray]:
    gains, scores, _ = align(y_true, y_score)
    if gains.shape != scores.shape:
        raise ValueError(
            f"gains have shape {gains.shape}, scores {scores.shape}; expected one row "
            "per task and one column per candidate in both."
        )
    if gains.size == 0:
        raise ValueError("there are no candidates to rank.")
    if gains.ndim != 2 or gains.shape[1] < 2:
        raise ValueError(
            f"gains and scores have shape {gains.shape}; a ranking needs two "
            "candidates or more, in one row per task. Give the column of one task as "
            "1-D: .ravel()."
        )
    for name, array in (("gains", gains), ("scores", scores)):
        if not np.isfinite(array).all():
            raise ValueError(f"{name} hold NaN or infinite values.")
    return gains, scores


def _gain(gains: np.ndarray, gain: str) -> np.ndarray:
    if gain not in ("linear", "exponential"):
        raise ValueError(f"gain={gain!r}, expected 'linear' or 'exponential'.")
    if (gains < 0).any():
        raise ValueError(
            "NDCG is not defined for negative gains; shift them, or use regret_loss."
        )
    return gains if gain == "linear" else np.exp2(gains) - 1


def _choice(gains: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Gain of the chosen candidate, the mean over those tied for the top."""
    top = scores == scores.max(1, keepdims=True)
    return (gains * top).sum(1) / top.sum(1)


def ndcg_score(
    y_true: Any, y_score: Any, *, gain: str = "linear", k: int | None = None
) -> float:
    """Normalised discounted cumulative gain of rankings.

    Parameters
    ----------
    y_true : array-like (n_tasks, n_candidates) or (n_candidates,), or dict
        True gains, not negative; for instance accuracies.
    y_score : array-like of the same shape, or dict
        Scores by which the candidates are ranked, high is better.  Ties count as the
        mean over their orders, never as the order that happens to be best.
    gain : {"linear", "exponential"}, default="linear"
        ``"linear"`` agrees with `sklearn.metrics.ndcg_score`; ``"exponential"`` is the
        literature's ``2 ** gain - 1``.
    k : int or None, default=None
        Look at the first k only, 1 or more.

    Returns
    -------
    score : float
        Mean over the tasks, between 0 and 1; a task whose gains are all 0 counts 0.

    Examples
    --------
    >>> from fute_sklearn.metrics import ndcg_score
    >>> round(ndcg_score([0.9, 0.5, 0.7], [0.1, 0.3, 0.2]), 3)
    0.874
    """
    if k is not None and (not isinstance(k, Integral) or k < 1):
        raise ValueError(f"k={k!r}, expected a positive int or None.")
    gains, scores = _check(y_true, y_score)
    return float(sklearn.metrics.ndcg_score(_gain(gains, gain), scores, k=k))


def average_rank_loss(y_true: Any, y_score: Any) -> float:
    """Average rank that the rankings give to the truly best candidate; 1 is best.

    Parameters
    ----------
    y_true, y_score : array-like (n_tasks, n_candidates) or (n_candidates,)
        True gains and scores.

    Returns
    -------
    rank : float
        The paper's rho, mean over the tasks.  Ties take their mean rank, and where
        several candidates are truly best, the one ranked first counts.

    Examples
    --------
    >>> from fute_sklearn.metrics import average_rank_loss
    >>> average_rank_loss([0.9, 0.5, 0.7], [0.1, 0.3, 0.2])
    3.0
    """
    gains, scores = _check(y_true, y_score)
    ranks = rankdata(-scores, axis=1)
    best = gains == gains.max(1, keepdims=True)
    return float(np.where(best, ranks, np.inf).min(1).mean())


def performance_rate_score(y_true: Any, y_score: Any) -> float:
    """Gain of the chosen candidate over the best gain; 1 is best.

    Parameters
    ----------
    y_true, y_score : array-like (n_tasks, n_candidates) or (n_candidates,)
        True gains, of which at least one per task is positive, and scores.

    Returns
    -------
    rate : float
        Mean over the tasks.

    Examples
    --------
    >>> from fute_sklearn.metrics import performance_rate_score
    >>> performance_rate_score([0.8, 0.4], [0.1, 0.2])
    0.5
    """
    gains, scores = _check(y_true, y_score)
    best = gains.max(1)
    if (best <= 0).any():
        raise ValueError("the best gain of a task is not positive: no rate exists.")
    return float((_choice(gains, scores) / best).mean())


def regret_loss(y_true: Any, y_score: Any) -> float:
    """Best gain minus the gain of the chosen candidate; 0 is best.

    Parameters
    ----------
    y_true, y_score : array-like (n_tasks, n_candidates) or (n_candidates,)
        True gains and scores.

    Returns
    -------
    regret : float
        Mean over the tasks, in the unit of the gains.

    Examples
    --------
    >>> from fute_sklearn.metrics import regret_loss
    >>> regret_loss([0.75, 0.5], [0.1, 0.2])
    0.25
    """
    gains, scores = _check(y_true, y_score)
    return float((gains.max(1) - _choice(gains, scores)).mean())


def spearman_score(y_true: Any, y_score: Any) -> float:
    """Rank correlation of scores and gains; 1 is best, 0 is random.

    Parameters
    ----------
    y_true, y_score : array-like (n_tasks, n_candidates) or (n_candidates,)
        True gains and scores.

    Returns
    -------
    correlation : float
        Mean over the tasks; a task with constant gains or scores counts 0.

    Examples
    --------
    >>> from fute_sklearn.metrics import spearman_score
    >>> round(spearman_score([0.9, 0.5, 0.7], [3, 1, 2]), 3)
    1.0
    """
    gains, scores = _check(y_true, y_score)
    found = [
        spearmanr(g, s).statistic if np.ptp(g) and np.ptp(s) else 0.0
        for g, s in zip(gains, scores, strict=True)
    ]
    return float(np.mean(found))


def ranking_report(y_true: Any, y_score: Any) -> Any:
    """All metrics of rankings beside the expected values of a random ranking.

    A random order often reaches an NDCG above .8; its rank correlation is 0.

    Parameters
    ----------
    y_true, y_score : array-like (n_tasks, n_candidates) or (n_candidates,), or dict
        True gains and scores.

    Returns
    -------
    report : DataFrame
        One row per metric; columns ``"value"`` and ``"random"``.  A metric that is not
        defined, as NDCG of negative gains, is NaN with a warning.

    Examples
    --------
    >>> from fute_sklearn.metrics import ranking_report
    >>> report = ranking_report([0.9, 0.5, 0.7], [3, 1, 2])
    >>> float(report.loc["average_rank", "random"])
    2.0
    """
    import pandas as pd

    gains, scores = _check(y_true, y_score)
    flat = np.zeros_like(gains)
    functions = {
        "ndcg": ndcg_score,
        "ndcg_exponential": lambda g, s: ndcg_score(g, s, gain="exponential"),
        "spearman": spearman_score,
        "average_rank": average_rank_loss,
        "performance_rate": performance_rate_score,
        "regret": regret_loss,
    }
    # Scores that are all tied average over every order, which is a random ranking;
    # only the rank of the best of several best needs a formula of its own.
    rows: dict[str, dict[str, float]] = {}
    for name, function in functions.items():
        try:
            rows[name] = {
                "value": function(gains, scores),
                "random": function(gains, flat),
            }
        except ValueError as error:
            warnings.warn(
                f"{name} cannot be computed ({error}); it is NaN",
                stacklevel=find_stack_level(),
            )
            rows[name] = {"value": np.nan, "random": np.nan}
    best = (gains == gains.max(1, keepdims=True)).sum(1)
    first = (gains.shape[1] + 1) / (best + 1)
    rows["average_rank"]["random"] = float(first.mean())
    return pd.DataFrame.from_dict(rows, orient="index")


class _RankingScorer:
    """Score a ranker, or a pipeline that ends in one, with gains aligned by name."""

    def __init__(self, metric: Callable[..., float], sign: int) -> None:
        self.metric = metric
        self.sign = sign

    def __call__(self, estimator: Any, X: Any, y: Any) -> float:
        ranker = estimator[-1] if hasattr(estimator, "steps") else estimator
        gains = align_gains(y, ranker.model_names_, row_names(X))
        return self.sign * self.metric(gains, estimator.decision_function(X))

    def __repr__(self) -> str:
        return f"<scorer of {self.metric.__name__}>"


ndcg_scorer = _RankingScorer(ndcg_score, 1)
performance_rate_scorer = _RankingScorer(performance_rate_score, 1)
regret_scorer = _RankingScorer(regret_loss, -1)
