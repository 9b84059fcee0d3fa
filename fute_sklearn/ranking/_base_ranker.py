"""Base class of rankers: rankings from a matrix of scores."""

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
    """Base class of rankers of models.

    Subclasses implement ``fit``, which sets ``model_names_``, and ``_scores``.
    """

    model_names_: np.ndarray

    @abstractmethod
    def _scores(self, X: Any) -> np.ndarray:
        """Return scores of the models for targets, (n_tasks, n_models)."""

    def decision_function(self, X: Any) -> np.ndarray:
        """Compute the scores of the models for target tasks.

        Parameters
        ----------
        X : sequence of length n_tasks
            The target tasks: embeddings for `ModelRanker`, tasks for `StudentRanker`.

        Returns
        -------
        scores : ndarray (n_tasks, n_models)
            High is better; columns in the order of ``model_names_``.

        Raises
        ------
        NotFittedError
            If the ranker is not fitted.
        """
        check_is_fitted(self)
        return self._scores(X)

    def rank(self, X: Any, top: int | None = None) -> np.ndarray:
        """Rank the models for target tasks.

        Parameters
        ----------
        X : sequence of length n_tasks
            The target tasks, as in ``decision_function``.
        top : int or None, default=None
            Number of best models to return, the rest not being sorted; None returns
            all.

        Returns
        -------
        names : ndarray (n_tasks, n_models) or (n_tasks, top)
            Names of the models, best first; ties in the order of ``model_names_``,
            models with a score of NaN last.

        Raises
        ------
        ValueError
            If ``top`` is not a positive int or None.
        NotFittedError
            If the ranker is not fitted.
        """
        if top is not None and (not isinstance(top, Integral) or top < 1):
            raise ValueError(f"top={top!r}, expected a positive int or None.")
        scores = self.decision_function(X)
        count = min(top or scores.shape[1], scores.shape[1])
        return self.model_names_[np.vstack([_best(row, int(count)) for row in scores])]

    def predict(self, X: Any) -> np.ndarray:
        """Predict the best model for each target task.

        Parameters
        ----------
        X : sequence of length n_tasks
            The target tasks, as in ``decision_function``.

        Returns
        -------
        names : ndarray (n_tasks,)
            Name of the first model of each ranking.

        Raises
        ------
        NotFittedError
            If the ranker is not fitted.
        """
        return self.rank(X, top=1)[:, 0]

    def score(self, X: Any, y: Any) -> float:
        """Compute the mean NDCG of the rankings of the target tasks.

        Parameters
        ----------
        X : sequence of length n_tasks
            The target tasks, as in ``decision_function``.
        y : array-like or DataFrame (n_tasks, n_models)
            True gains of the models, not negative.  Columns of a DataFrame are matched
            with the models by name, and rows with the targets if both are named.

        Returns
        -------
        score : float
            NDCG with linear gains, mean over the tasks, between 0 and 1.  For its
            expected value under a random ranking see
            `fute_sklearn.metrics.ranking_report`.

        Raises
        ------
        ValueError
            If gains are negative or not finite, or do not fit models and targets.
        NotFittedError
            If the ranker is not fitted.
        """
        gains = align_gains(y, self.model_names_, row_names(X))
        return ndcg_score(gains, self.decision_function(X))


def _best(scores: np.ndarray, count: int) -> np.ndarray:
    """Return indices of the ``count`` highest scores in stable descending order."""
    scores = np.where(np.isnan(scores), -np.inf, scores)
    if count < len(scores):
        least = np.partition(scores, len(scores) - count)[len(scores) - count]
        rows = np.flatnonzero(scores >= least)
    else:
        rows = np.arange(len(scores))
    return rows[np.argsort(-scores[rows], kind="stable")][:count]
