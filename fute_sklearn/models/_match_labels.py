"""Find out which of a model's labels is which of a task's, by behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.base import clone

from .._utils._table_attribute import TableAttribute
from ..embedders._base_embedder import seed_of
from ..embedders._moment_embedder import MomentEmbedder
from ..embedders._normal_equations import FeatureSpace, FeatureSums
from ..embedders._surrogate_embedder import SurrogateEmbedder
from ..tasks._task import Task

ALPHA = 0.1
N_FOLDS = 50
N_DRAWS = 200
DECIMALS = 12


@dataclass(frozen=True, eq=False)
class LabelMatch(TableAttribute):
    """Which of a model's labels is which of a task's.

    Parameters
    ----------
    names : dict
        The task's labels by the model's labels, to be given as ``label_names``.
    confidence : float
        Probability that all of them are right.
    confidences : dict
        Probability that each is right, by the model's labels.

    Examples
    --------
    >>> from fute_sklearn import LabelMatch
    >>> match = LabelMatch({"LABEL_1": "positive"}, 0.98, {"LABEL_1": 0.98})
    >>> match.names["LABEL_1"]
    'positive'
    """

    names: dict[Any, Any]
    confidence: float
    confidences: dict[Any, float]


@dataclass(frozen=True)
class _Moments:
    """Sums over the folds of a task's rows, from which resampled moments are made."""

    counts: np.ndarray  # (folds,)
    features: np.ndarray  # (folds, d)
    targets: np.ndarray  # (folds, k)
    products: np.ndarray  # (folds, k, d)

    @classmethod
    def of(
        cls, features: np.ndarray, proba: np.ndarray, rng: np.random.Generator
    ) -> _Moments:
        rows = rng.permutation(len(features))
        folds = np.array_split(rows, min(N_FOLDS, len(rows)))
        return cls(
            np.array([len(fold) for fold in folds], dtype=float),
            np.array([features[fold].sum(0) for fold in folds]),
            np.array([proba[fold].sum(0) for fold in folds]),
            np.array([proba[fold].T @ features[fold] for fold in folds]),
        )

    def drawn(self, rng: np.random.Generator | None) -> np.ndarray:
        """Centred moments of the classes (k, d), of all folds or of a resample."""
        size = len(self.counts)
        weights = np.ones(size)
        if rng is not None:
            weights = rng.multinomial(size, np.full(size, 1 / size)).astype(float)
        count = weights @ self.counts
        mean = weights @ self.features / count
        shares = weights @ self.targets / count
        products = np.tensordot(weights, self.products, 1) / count
        moments = products - np.outer(shares, mean)
        # Of labels that do not vary nothing must be left but 0.
        return np.round(moments - moments.mean(0), DECIMALS)


def match_labels(
    model: Task,
    target: Task,
    *,
    embedder: SurrogateEmbedder | None = None,
    random_state: Any = 0,
) -> LabelMatch:
    """Find out which of a model's labels is which of a task's, by behaviour.

    No call of the model on the task's texts is needed.  A label's moment is the
    covariance of its probability with the surrogate's features.  Labels are assigned
    one to one so that the sum of the products of their moments, whitened by the
    features of the model's texts, is the largest; this is the assignment by which a
    ridge regression of the model's answers is expected to agree best with the task.

    Parameters
    ----------
    model : Task
        Texts labelled by the model, as `MTEWrapper.label` returns them: thousands.
    target : Task
        The labelled task.
    embedder : embedder, optional
        Gives the surrogate; ``MomentEmbedder()`` by default.
    random_state : int, RandomState instance or None, default=0
        Seeds the resampling by which the confidence is estimated.

    Returns
    -------
    match : LabelMatch
        The names, to be given as ``label_names``, with their confidence: the share of
        200 resamples of both tasks' texts that give the same.  Labels of the model that
        are left over, as it has more, are not among the names.

    Raises
    ------
    ValueError
        If the tasks' targets are no labels, or there is one label only.

    Notes
    -----
    Models that are hardly better than chance or constant, and dozens of labels, get a
    low confidence.  ``benchmarks/own_task.py`` prints how often labels are matched
    right, by the confidence that is stated.

    Examples
    --------
    >>> from fute_sklearn import Task, match_labels
    >>> texts = ["a fine film", "a dull film", "fine food", "dull and grey"] * 5
    >>> model = Task(texts, ["LABEL_1", "LABEL_0"] * 10)
    >>> target = Task(texts, ["good", "bad"] * 10)
    >>> match_labels(model, target).names
    {'LABEL_0': 'bad', 'LABEL_1': 'good'}
    """
    for task in (model, target):
        if task.targets.kind != "label" or len(task.targets.names) < 2:
            raise ValueError(
                f"{task.name or 'a task'} has targets of kind {task.targets.kind!r} "
                f"with {len(task.targets.names)} labels; expected two labels or more."
            )
    space = MomentEmbedder() if embedder is None else clone(embedder)
    features = space.encode(model.texts).pooled()
    reference = FeatureSpace.of(FeatureSums.of(features), "model")
    weights = 1 / np.sqrt(reference.values + ALPHA)
    rng = np.random.default_rng(seed_of(random_state))
    first, second = (
        _Moments.of(
            reference.coordinates(space.encode(task.texts).pooled()) * weights,
            task.targets.proba.astype(np.float64),
            rng,
        )
        for task in (model, target)
    )
    ties = np.random.default_rng(0)
    best = _assigned(first.drawn(None), second.drawn(None), ties)
    draws = np.array(
        [_assigned(first.drawn(rng), second.drawn(rng), ties) for _ in range(N_DRAWS)]
    )
    theirs, ours = model.targets.classes.tolist(), target.targets.classes.tolist()
    pairs = [(i, int(j)) for i, j in enumerate(best) if j >= 0]
    return LabelMatch(
        {theirs[i]: ours[j] for i, j in pairs},
        float((draws == best).all(1).mean()),
        {theirs[i]: float((draws[:, i] == j).mean()) for i, j in pairs},
    )


def _assigned(
    model: np.ndarray, data: np.ndarray, ties: np.random.Generator
) -> np.ndarray:
    """Row of ``data`` (m, d) for each row of ``model`` (k, d), or -1.

    Rows that suit alike are drawn.
    """
    order = ties.permutation(len(data))
    rows, columns = linear_sum_assignment(-(model @ data[order].T))
    out = np.full(len(model), -1)
    out[rows] = order[columns]
    return out
