"""Metrics of rankings (NDCG, regret, rank correlation) and of free-text answers.

A gain is the true performance of a candidate on a task, a score the number by which a
ranking orders the candidates.  Both may be arrays, dicts, Series or tables of pandas
and polars.  If both name their candidates (by dict key, index or column) or tasks (by a
table's index), they are aligned by name, and differing names raise a ValueError; arrays
are aligned by position.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
import sklearn.metrics
from scipy.stats import rankdata, spearmanr
from sklearn.metrics import make_scorer
from sklearn.utils import check_consistent_length

from ._utils._alignment import align, align_gains, row_names
from ._utils._stack_level import find_stack_level

__all__ = [
    "average_rank_loss",
    "exact_match_score",
    "ndcg_score",
    "ndcg_scorer",
    "performance_rate_score",
    "performance_rate_scorer",
    "ranking_report",
    "regret_loss",
    "regret_scorer",
    "spearman_score",
    "token_f1_score",
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
    # Over the task's highest gain, which NDCG does not see: 2 ** gain would overflow.
    best = gains.max(1, keepdims=True)
    if gain == "exponential":
        return np.exp2(gains - best) - np.exp2(-best)
    return gains / np.where(best > 0, best, 1)


def _choice(gains: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Gain of the top-scored candidate of each task; the mean over ties."""
    top = scores == scores.max(1, keepdims=True)
    return (gains * top).sum(1) / top.sum(1)


def ndcg_score(
    y_true: Any, y_score: Any, *, gain: str = "linear", k: int | None = None
) -> float:
    """Compute the normalised discounted cumulative gain (NDCG) of rankings.

    Parameters
    ----------
    y_true : array-like (n_tasks, n_candidates) or (n_candidates,), or dict
        True gains, not negative; for instance accuracies.
    y_score : array-like of the same shape, or dict
        Scores by which the candidates are ranked, high is better.  Tied scores count
        as the mean over all orders of the tied candidates.
    gain : {"linear", "exponential"}, default="linear"
        ``"linear"`` takes the gains as they are, like `sklearn.metrics.ndcg_score`;
        ``"exponential"`` takes ``2 ** gain - 1``.  The latter depends on the scale of
        the gains: papers mostly take percent, ``ndcg_score(100 * gains, ...)``.
    k : int or None, default=None
        Number of top-ranked candidates that count; None counts all.

    Returns
    -------
    score : float
        Mean over the tasks, between 0 and 1; a task whose gains are all 0 counts 0.

    Raises
    ------
    ValueError
        If gains are negative, shapes or names differ, values are not finite, there are
        fewer than two candidates, or ``gain`` or ``k`` is invalid.

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
    """Compute the average rank of the candidate with the highest gain; 1 is best.

    Parameters
    ----------
    y_true, y_score : array-like (n_tasks, n_candidates) or (n_candidates,), or dict
        True gains, and scores by which the candidates are ranked, high is better.

    Returns
    -------
    rank : float
        Mean over the tasks (rho in the FUTE paper).  Tied scores take their mean rank;
        if several candidates have the highest gain, the one ranked first counts.

    Raises
    ------
    ValueError
        If shapes or names differ, values are not finite, or there are fewer than two
        candidates.

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
    """Compute the gain of the top-ranked candidate over the highest gain; 1 is best.

    Parameters
    ----------
    y_true, y_score : array-like (n_tasks, n_candidates) or (n_candidates,), or dict
        True gains, of which at least one per task is positive, and scores by which the
        candidates are ranked, high is better.

    Returns
    -------
    rate : float
        Mean over the tasks; candidates tied for the top count with their mean gain.

    Raises
    ------
    ValueError
        If the highest gain of a task is not positive, shapes or names differ, values
        are not finite, or there are fewer than two candidates.

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
    """Compute the regret: highest gain minus that of the top-ranked candidate.

    Parameters
    ----------
    y_true, y_score : array-like (n_tasks, n_candidates) or (n_candidates,), or dict
        True gains, and scores by which the candidates are ranked, high is better.

    Returns
    -------
    regret : float
        Mean over the tasks, in the unit of the gains; 0 is best.  Candidates tied for
        the top count with their mean gain.

    Raises
    ------
    ValueError
        If shapes or names differ, values are not finite, or there are fewer than two
        candidates.

    Examples
    --------
    >>> from fute_sklearn.metrics import regret_loss
    >>> regret_loss([0.75, 0.5], [0.1, 0.2])
    0.25
    """
    gains, scores = _check(y_true, y_score)
    return float((gains.max(1) - _choice(gains, scores)).mean())


def spearman_score(y_true: Any, y_score: Any) -> float:
    """Compute Spearman's rank correlation of scores and gains; 1 is best.

    Parameters
    ----------
    y_true, y_score : array-like (n_tasks, n_candidates) or (n_candidates,), or dict
        True gains, and scores by which the candidates are ranked, high is better.

    Returns
    -------
    correlation : float
        Mean over the tasks, between -1 and 1; 0 is expected of a random ranking.  A
        task with constant gains or scores counts 0.

    Raises
    ------
    ValueError
        If shapes or names differ, values are not finite, or there are fewer than two
        candidates.

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
    """Compute all metrics of rankings and their expected values for a random ranking.

    The random values are needed to read the others: a random ranking often has an NDCG
    above .8, whereas its expected rank correlation is 0.

    Parameters
    ----------
    y_true, y_score : array-like (n_tasks, n_candidates) or (n_candidates,), or dict
        True gains, and scores by which the candidates are ranked, high is better.

    Returns
    -------
    report : DataFrame
        Rows ``"ndcg"``, ``"ndcg_exponential"``, ``"spearman"``, ``"average_rank"``,
        ``"performance_rate"`` and ``"regret"``; columns ``"value"`` and ``"random"``.

    Raises
    ------
    ValueError
        If shapes or names differ, values are not finite, or there are fewer than two
        candidates.

    Warns
    -----
    UserWarning
        If a metric is not defined, such as the NDCG of negative gains; it is NaN.

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
    # Metrics of constant scores average over all orders, as the expectation of a
    # random ranking does.  Only average_rank with tied best gains differs; see below.
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


def _words(text: Any) -> list[str]:
    """Split an answer into lower-case words without punctuation and articles."""
    plain = re.sub(r"[^\w\s]", "", str(text).lower())
    return re.sub(r"\b(?:a|an|the)\b", " ", plain).split()


def exact_match_score(y_true: Any, y_pred: Any) -> float:
    """Compute the share of answers that match the true answer (exact match).

    Case, punctuation and articles are ignored, as in SQuAD (Rajpurkar et al. 2016).

    Parameters
    ----------
    y_true, y_pred : sequence of str of length n_samples
        True and predicted answers.

    Returns
    -------
    score : float
        Between 0 and 1; 1 is best.

    Raises
    ------
    ValueError
        If the lengths differ.

    Examples
    --------
    >>> from fute_sklearn.metrics import exact_match_score
    >>> exact_match_score(["The red door.", "blue"], ["red door", "green"])
    0.5
    """
    check_consistent_length(y_true, y_pred)
    found = [_words(a) == _words(b) for a, b in zip(y_true, y_pred, strict=True)]
    return float(np.mean(found))


def token_f1_score(y_true: Any, y_pred: Any) -> float:
    """Compute the mean token F1 score of predicted and true answers.

    Case, punctuation and articles are ignored, as in SQuAD (Rajpurkar et al. 2016).

    Parameters
    ----------
    y_true, y_pred : sequence of str of length n_samples
        True and predicted answers.

    Returns
    -------
    score : float
        Between 0 and 1; 1 is best.  A pair of answers without words counts 1.

    Raises
    ------
    ValueError
        If the lengths differ.

    Examples
    --------
    >>> from fute_sklearn.metrics import token_f1_score
    >>> token_f1_score(["the red door", "blue"], ["a red wall", "blue"])
    0.75
    """
    check_consistent_length(y_true, y_pred)
    scores = []
    for right, given in zip(map(_words, y_true), map(_words, y_pred), strict=True):
        shared = (Counter(right) & Counter(given)).total()
        total = len(right) + len(given)
        scores.append(2 * shared / total if total else 1.0)
    return float(np.mean(scores))


TEXT_SCORERS: dict[str, Any] = {
    "exact_match": make_scorer(exact_match_score),
    "token_f1": make_scorer(token_f1_score),
}


class _RankingScorer:
    """scikit-learn scorer of a ranker, or of a pipeline that ends in one.

    Columns and rows of the gains are aligned with models and targets by name.
    """

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
