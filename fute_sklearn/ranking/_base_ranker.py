"""What both rankers do with a matrix of scores."""

from __future__ import annotations

from abc import abstractmethod
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from .._utils._alignment import align_gains, row_names
from .._utils._callbacks import CallbackSupportMixin
from ..metrics import ndcg_score


class BaseRanker(CallbackSupportMixin, BaseEstimator):
    """Base of the rankers; subclasses give ``fit`` and `_scores`."""

    model_names_: np.ndarray

    @abstractmethod
    def _scores(self, X: Any) -> np.ndarray:
        """Scores of the models for targets, (n_tasks, n_models), high is better."""

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores of the models for the target tasks.

        Parameters
        ----------
        X : sequence of length n_tasks
            Targets, as this ranker takes them.

        Returns
        -------
        scores : ndarray (n_tasks, n_models)
            High is better; columns in the order of ``model_names_``.
        """
        check_is_fitted(self)
        return self._scores(X)

    def rank(self, X: Any, top: int | None = None) -> np.ndarray:
        """Names of the models, best first.

        Parameters
        ----------
        X : sequence of length n_tasks
            Targets, as this ranker takes them.
        top : int or None, default=None
            Give only so many of the best, without sorting the rest; None gives all.

        Returns
        -------
        names : ndarray (n_tasks, n_models) or (n_tasks, top)
            Ties stay in the order of ``fit``.
        """
        if top is not None and (not isinstance(top, Integral) or top < 1):
            raise ValueError(f"top={top!r}, expected a positive int or None.")
        scores = self.decision_function(X)
        count = min(top or scores.shape[1], scores.shape[1])
        return self.model_names_[np.vstack([_best(row, int(count)) for row in scores])]

    def predict(self, X: Any) -> np.ndarray:
        """Name of the best model for each target.

        Parameters
        ----------
        X : sequence of length n_tasks
            Targets, as this ranker takes them.

        Returns
        -------
        names : ndarray (n_tasks,)
            The first of the ranking.
        """
        return self.rank(X, top=1)[:, 0]

    def score(self, X: Any, y: Any) -> float:
        """Mean NDCG of the rankings; see `fute_sklearn.metrics.ranking_report` too.

        Parameters
        ----------
        X : sequence of length n_tasks
            Targets, as this ranker takes them.
        y : array-like or DataFrame (n_tasks, n_models)
            True gains; columns of a DataFrame are matched by the models' names, and its
            rows, where its index has names, by those of the targets.

        Returns
        -------
        score : float
            Linear-gain NDCG, mean over the tasks.
        """
        gains = align_gains(y, self.model_names_, row_names(X))
        return ndcg_score(gains, self.decision_function(X))


def _best(scores: np.ndarray, count: int) -> np.ndarray:
    """Indices of the highest scores, best first, ties in their order."""
    scores = np.where(np.isnan(scores), -np.inf, scores)
    if count < len(scores):
        least = np.partition(scores, len(scores) - count)[len(scores) - count]
        rows = np.flatnonzero(scores >= least)
    else:
        rows = np.arange(len(scores))
    return rows[np.argsort(-scores[rows], kind="stable")][:count]
