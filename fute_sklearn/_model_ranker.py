"""Rank models by the similarity of their embeddings to a task's."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_array

from ._base_ranker import BaseRanker, align_gains, check_names
from ._callbacks import fit_progress, with_callbacks
from ._vectors import check_fingerprints, fingerprint_of

ROWS_AT_ONCE = 2048


class ModelRanker(BaseRanker):
    """Rank models for a task by the similarity of embeddings.

    Parameters
    ----------
    metric : {"cosine", "dot", "euclidean"}, default="cosine"
        Similarity of a target's and a model's embedding.  ``"cosine"`` is the paper's;
        ``"dot"`` is right for `MomentEmbedder`, where it is an expected margin;
        ``"euclidean"`` takes minus the distance.
    center : bool, default=False
        Subtract the mean of the fitted embeddings from all of them first, which
        removes what all models share.

    Attributes
    ----------
    model_names_ : ndarray (n_models,)
        Names of the models, in the order of ``fit``.
    embeddings_ : ndarray (n_rows, dim)
        Embeddings of the models, or of the past tasks.
    gains_ : ndarray (n_past_tasks, n_models) or None
        Gains of the models on the past tasks, where ``fit`` got them.
    fingerprint_ : str or None
        Space of the embeddings, where known.
    n_features_in_ : int
        Length of an embedding.

    Examples
    --------
    >>> from fute_sklearn import ModelRanker
    >>> ranker = ModelRanker().fit([[1.0, 0.0], [0.0, 1.0]], ["svm", "tree"])
    >>> ranker.predict([[0.1, 0.9]])
    array(['tree'], dtype=object)
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "metric": [StrOptions({"cosine", "dot", "euclidean"})],
        "center": ["boolean"],
    }

    def __init__(self, metric: str = "cosine", *, center: bool = False) -> None:
        self.metric = metric
        self.center = center

    @with_callbacks
    def fit(self, X: Any, y: Any = None) -> ModelRanker:
        """Register embeddings of models, or of past tasks with the models' gains.

        Parameters
        ----------
        X : array-like (n_rows, dim)
            Embeddings.  float16, float32 and float64 are kept as they are and never
            copied, so a memory-mapped file (``np.load(path, mmap_mode="r")``) may hold
            more of them than the memory.
        y : sequence of str, or array-like or DataFrame (n_rows, n_models)
            Names: the rows are models, compared with targets directly; None numbers
            them.  2-D gains: the rows are past tasks, and a model's score for a target
            is the mean of its past gains, weighted by the tasks' similarity to the
            target; names are the columns' of a DataFrame.

        Returns
        -------
        self : object
            The fitted ranker.
        """
        self._validate_params()
        with fit_progress(self, 0, ""):
            self._register(X, y)
        return self

    def _register(self, X: Any, y: Any) -> None:
        self.fingerprint_ = fingerprint_of(X)
        self.embeddings_ = check_array(X, dtype=[np.float32, np.float64, np.float16])
        self.n_features_in_ = self.embeddings_.shape[1]
        self.gains_ = None
        if y is not None and np.ndim(y) == 2:
            columns = getattr(y, "columns", None)
            self.model_names_ = check_names(columns, np.shape(y)[1])
            self.gains_ = align_gains(y, self.model_names_)
            if len(self.gains_) != len(self.embeddings_):
                raise ValueError(
                    f"there are {len(self.embeddings_)} past tasks but gains for "
                    f"{len(self.gains_)}."
                )
        else:
            self.model_names_ = check_names(y, len(self.embeddings_))
        self._mean = None
        if self.center:
            mean = self.embeddings_.mean(0, dtype=np.float64)
            self._mean = mean.astype(_precision(self.embeddings_))
        self._squares = _squared_norms(self.embeddings_, self._mean)

    def _similarity(self, targets: np.ndarray) -> np.ndarray:
        targets = targets.astype(_precision(self.embeddings_), copy=False)
        shift: Any = 0.0
        if self._mean is not None:
            targets = targets - self._mean
            shift = targets @ self._mean
        products = _products(targets, self.embeddings_)
        products -= np.reshape(shift, (-1, 1))
        if self.metric == "dot":
            return products
        square = np.einsum("ij,ij->i", targets, targets)[:, None]
        if self.metric == "euclidean":
            return -np.sqrt(np.maximum(square + self._squares - 2 * products, 0))
        norms = np.sqrt(square * self._squares)
        return products / np.where(norms > 0, norms, 1)

    def _scores(self, X: Any) -> np.ndarray:
        check_fingerprints(self.fingerprint_, fingerprint_of(X))
        targets = check_array(X, dtype=[np.float32, np.float64])
        if targets.shape[1] != self.n_features_in_:
            raise ValueError(
                f"the targets' embeddings have {targets.shape[1]} numbers, the fitted "
                f"ones {self.n_features_in_}."
            )
        similarity = self._similarity(targets)
        if self.gains_ is None:
            return similarity
        if self.metric == "euclidean":
            weights = 1 / (1 - similarity)
        else:
            weights = np.clip(similarity, 0, None)
        # A target like no past task gets the plain mean of the gains.
        weights = np.where(weights.sum(1, keepdims=True) > 0, weights, 1.0)
        return weights @ self.gains_ / weights.sum(1, keepdims=True)


def _precision(rows: np.ndarray) -> Any:
    """Precision to compute in: half precision only saves memory."""
    return np.float64 if rows.dtype == np.float64 else np.float32


def _squared_norms(rows: np.ndarray, mean: np.ndarray | None) -> np.ndarray:
    """Squared norms of the centred rows, without a copy of all rows."""
    out = np.empty(len(rows), _precision(rows))
    for start in range(0, len(rows), ROWS_AT_ONCE):
        block = rows[start : start + ROWS_AT_ONCE].astype(out.dtype, copy=False)
        block = block if mean is None else block - mean
        out[start : start + ROWS_AT_ONCE] = np.einsum("ij,ij->i", block, block)
    return out


def _products(targets: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Dot products (n_targets, n_rows), without a copy of all rows."""
    if rows.dtype == targets.dtype:
        return targets @ rows.T
    out = np.empty((len(targets), len(rows)), targets.dtype)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        block = rows[start : start + ROWS_AT_ONCE].astype(targets.dtype)
        out[:, start : start + ROWS_AT_ONCE] = targets @ block.T
    return out
