"""Estimators with given predictions, which are passed to scikit-learn's scorers."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

LEAST_PROBABILITY = 1e-7


class Proxy(BaseEstimator):
    """Base of estimators that return given predictions for any X."""

    def fit(self, X: Any, y: Any) -> Proxy:
        """Do nothing; scorers require the method."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True


class ProbabilityProxy(ClassifierMixin, Proxy):
    """Classifier with given label probabilities.

    Parameters
    ----------
    proba : ndarray (n, n_names)
        Probabilities of a student's labels.
    names : sequence of str
        Names of these labels.
    labels : ndarray (n_names,)
        Labels that ``predict`` returns for them.
    wanted : sequence of str
        Names of the classes that occur in the target.  ``predict_proba`` returns these
        only, because log loss, among others, rejects other columns.
    classes : ndarray (n_wanted,)
        Labels of these classes, ``classes_`` of the classifier.

    Attributes
    ----------
    asked : bool
        Whether the scorer has called ``predict``.
    uniform : ndarray (n,) or None
        Uniform random numbers by which ``predict`` draws labels; None for the most
        probable labels.
    """

    def __init__(
        self,
        proba: np.ndarray,
        names: tuple[str, ...],
        labels: np.ndarray,
        wanted: list[str],
        classes: np.ndarray,
    ) -> None:
        self.proba = proba
        self.names = names
        self.labels = labels
        self.wanted = wanted
        self.classes_ = classes
        self.asked = False
        self.uniform: np.ndarray | None = None

    def predict(self, X: Any) -> np.ndarray:
        self.asked = True
        if self.uniform is None:
            return self.labels[self.proba.argmax(1)]
        cumulated = self.proba.cumsum(1)
        drawn = (cumulated <= self.uniform[:, None] * cumulated[:, -1:]).sum(1)
        return self.labels[np.minimum(drawn, len(self.labels) - 1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        out = np.full((len(self.proba), len(self.wanted)), LEAST_PROBABILITY)
        for column, name in enumerate(self.wanted):
            if name in self.names:
                out[:, column] += self.proba[:, self.names.index(name)]
        return out / out.sum(1, keepdims=True)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        return np.log(self.predict_proba(X))


class LabelProxy(ClassifierMixin, Proxy):
    """Classifier with given labels and without probabilities."""

    def __init__(self, answers: np.ndarray, classes: np.ndarray) -> None:
        self.answers = answers
        self.classes_ = classes

    def predict(self, X: Any) -> np.ndarray:
        return self.answers


class ValueProxy(RegressorMixin, Proxy):
    """Regressor with given numbers or texts."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def predict(self, X: Any) -> np.ndarray:
        return self.values
