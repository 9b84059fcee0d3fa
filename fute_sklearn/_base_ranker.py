"""What both rankers do with a matrix of scores."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ._callbacks import CallbackSupportMixin
from ._validation import first_seen
from .metrics import ndcg_score


def check_names(names: Any, n_models: int) -> np.ndarray:
    """Return model names as given, first-seen order kept; refuse doubles."""
    if names is None:
        return np.array([f"model{i}" for i in range(n_models)], dtype=object)
    found = [str(name) for name in names]
    if len(found) != n_models:
        raise ValueError(
            f"{len(found)} names are given for {n_models} models; expected as many."
        )
    if len(first_seen(found)) < len(found):
        twice = sorted({n for n in found if found.count(n) > 1})
        raise ValueError(f"the names {twice} are given to several models each.")
    return np.array(found, dtype=object)


def align_gains(gains: Any, names: np.ndarray) -> np.ndarray:
    """Return gains (n_tasks, n_models) with columns in the order of ``names``."""
    columns = getattr(gains, "columns", None)
    if columns is not None:
        given = [str(c) for c in columns]
        missing = sorted(set(names) - set(given))
        if missing:
            raise ValueError(
                f"gains lack columns for the models {missing}; they have {given}."
            )
        array = np.asarray(gains, dtype=np.float64)
        return array[:, [given.index(name) for name in names]]
    array = np.atleast_2d(np.asarray(gains, dtype=np.float64))
    if array.shape[1] != len(names):
        raise ValueError(
            f"gains have {array.shape[1]} columns for {len(names)} models; give one "
            "column per model, in the models' order or as a DataFrame with their names."
        )
    return array


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

    def rank(self, X: Any) -> np.ndarray:
        """Names of the models, best first.

        Parameters
        ----------
        X : sequence of length n_tasks
            Targets, as this ranker takes them.

        Returns
        -------
        names : ndarray (n_tasks, n_models)
            Ties stay in the order of ``fit``.
        """
        scores = self.decision_function(X)
        return self.model_names_[np.argsort(-scores, axis=1, kind="stable")]

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
        return self.rank(X)[:, 0]

    def score(self, X: Any, y: Any) -> float:
        """Mean NDCG of the rankings; see `fute_sklearn.metrics.ranking_report` too.

        Parameters
        ----------
        X : sequence of length n_tasks
            Targets, as this ranker takes them.
        y : array-like or DataFrame (n_tasks, n_models)
            True gains; columns of a DataFrame are matched by the models' names.

        Returns
        -------
        score : float
            Linear-gain NDCG, mean over the tasks.
        """
        return ndcg_score(align_gains(y, self.model_names_), self.decision_function(X))
