"""Rank models by the similarity of their embeddings to a task's, or by past tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import _fit_context
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from .._utils._alignment import align_gains, aligned_column, index_names, order_of
from .._utils._callbacks import fit_progress
from ..metrics import regret_loss, spearman_score
from ..tasks._names import check_names
from ..tasks._vectors import check_spaces, space_of
from ._base_ranker import BaseRanker
from ._past_gains import PastGains
from ._score_posterior import checked_level

BLOCK_NUMBERS = 2**20
EXACT_NUMBERS = 2**22


class ModelRanker(BaseRanker):
    """Rank models by the similarity of their embeddings to that of a target task.

    With gains of the models on past tasks, these are the evidence instead: a model's
    score is the mean gain, plus how much better than the others it was on all past
    tasks, plus a weight times how much more so it was on those similar to the target.
    The weight is chosen by predicting every past task from the others, and is 0 where
    similarity adds nothing; the ranking is then the same for all targets.

    Parameters
    ----------
    metric : {"cosine", "dot", "euclidean"}, default="cosine"
        Similarity of a target's and a model's embedding.  ``"cosine"`` is that of the
        FUTE paper; ``"dot"`` is to be used with `MomentEmbedder`, for which it is an
        expected margin; ``"euclidean"`` is minus the distance.
    center : bool, default=False
        Whether to subtract the mean of the fitted embeddings from all embeddings,
        those of targets too; False subtracts nothing.

    Attributes
    ----------
    model_names_ : ndarray (n_models,)
        Names of the models, in the order of ``fit``.
    embeddings_ : ndarray (n_rows, dim)
        Embeddings of the models, or of the past tasks.
    gains_ : ndarray (n_past_tasks, n_models) or None
        Gains of the models on the past tasks, where ``fit`` got them.
    static_scores_ : ndarray (n_models,)
        Mean gains on the past tasks, where ``fit`` got them: the static list, which is
        the baseline that is hard to beat.
    similarity_weight_ : float
        Weight of the tasks similar to a target; 0 if they add nothing, or there are
        fewer than ten, which cannot tell.
    past_results_ : DataFrame
        How well past tasks were predicted from the others, ``"static"``, and
        ``"with similarity"``: root mean squared ``error``, mean rank correlation
        ``spearman`` and mean ``regret``.
    fingerprint_ : str or None
        Space of the embeddings, where known.
    n_features_in_ : int
        Length of an embedding.

    Examples
    --------
    >>> from fute_sklearn import ModelRanker
    >>> ranker = ModelRanker().fit([[1.0, 0.0], [0.0, 1.0]], names=["svm", "tree"])
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

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None, *, names: Any = None) -> ModelRanker:
        """Store embeddings of models, or of past tasks with the models' gains.

        Parameters
        ----------
        X : array-like (n_rows, dim)
            Embeddings.  float16, float32 and float64 are kept as they are and never
            copied, so a memory-mapped file (``np.load(path, mmap_mode="r")``) may hold
            more of them than the memory.  Up to four million numbers are compared in
            double precision, more in single: cosines closer than about 1e-6 are then
            not told apart; ``center=True`` helps where all have much in common.
        y : array-like or DataFrame (n_rows, n_models) or (n_rows,), optional
            Gains: the rows of X are past tasks.  One column is the gain of one model.
            None: the rows are models, compared with targets directly.
        names : sequence of str, optional
            Names of the models; by default the columns of a DataFrame of gains, or the
            index of a DataFrame of models, or else numbers.

        Returns
        -------
        self : object
            The fitted ranker.

        Raises
        ------
        ValueError
            If embeddings hold NaN or infinity, or names and gains do not fit them.
        """
        with fit_progress(self, 0, ""):
            self._register(X, y, names)
        return self

    def _register(self, X: Any, y: Any, names: Any) -> None:
        self.fingerprint_, self._label_names = space_of(X)
        index = index_names(X)
        # Finiteness is checked on the norms, which are computed in blocks.
        self.embeddings_ = validate_data(
            self,
            X,
            dtype=[np.float64, np.float32, np.float16],
            ensure_all_finite=False,
        )
        self.gains_: np.ndarray | None = None
        if y is None:
            given = index if names is None else aligned_column(names, index, "names")
            self.model_names_ = check_names(given, len(self.embeddings_))
        else:
            self._register_gains(y, names, index)
        with np.errstate(invalid="ignore", over="ignore"):  # raised below
            mean = _mean(self.embeddings_)
            shift = mean if self._shifts() else None
            squares = _squared_norms(self.embeddings_, shift)
        if not np.isfinite(squares).all():
            raise ValueError("the embeddings contain NaN or infinity.")
        precision = _precision(self.embeddings_)
        self._mean = mean.astype(precision) if self._shifts() else None
        self._squares = squares.astype(precision)
        if self.gains_ is not None:
            self._learn_past(self.gains_)

    def _learn_past(self, gains: np.ndarray) -> None:
        self._past = past = PastGains.fit(
            gains, lambda rows: self._closeness(self.embeddings_[rows])
        )
        self.static_scores_ = past.level + past.static
        self.similarity_weight_ = past.weight
        tried = {"static": past.static_errors, "with similarity": past.errors}
        found = gains[np.linspace(0, len(gains) - 1, len(past.errors)).astype(int)]
        self.past_results_ = pd.DataFrame(
            {
                name: {
                    "error": float(np.sqrt(np.mean(errors**2))),
                    "spearman": spearman_score(found, found - errors),
                    "regret": regret_loss(found, found - errors),
                }
                if errors.size > len(errors)
                else {}
                for name, errors in tried.items()
            },
            index=["error", "spearman", "regret"],
        ).T

    def _register_gains(self, y: Any, names: Any, index: list[str] | None) -> None:
        y = pd.DataFrame(y) if isinstance(y, Mapping) else y
        if np.ndim(y) == 1:
            try:
                column = np.asarray(y, dtype=np.float64)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    "y holds gains of past tasks, which are numbers; names of models "
                    f"are given as fit(X, names=[...]). {error}"
                ) from error
            rows = index_names(y)
            if rows is not None and index is not None:
                column = column[order_of(rows, index, "the gains' rows")]
            y = column[:, None]
        else:
            names = getattr(y, "columns", None) if names is None else names
        self.model_names_ = check_names(names, np.shape(y)[1])
        gains = align_gains(y, self.model_names_, index)
        if len(gains) != len(self.embeddings_):
            raise ValueError(
                f"there are {len(self.embeddings_)} past tasks but gains for "
                f"{len(gains)}."
            )
        if not np.isfinite(gains).all():
            raise ValueError("y contains NaN or infinity; gains must be finite.")
        self.gains_ = gains

    def _shifts(self) -> bool:
        # A shift changes no distance, and keeps their precision.
        return self.center or self.metric == "euclidean"

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
        fingerprint, label_names = space_of(X)
        if self.fingerprint_ is not None and fingerprint is not None:
            check_spaces(
                {self.fingerprint_: self._label_names, fingerprint: label_names}
            )
        targets = validate_data(self, X, dtype=[np.float32, np.float64], reset=False)
        if self.gains_ is None:
            return self._similarity(targets)
        return self._past.scores(self._closeness(targets))

    def _closeness(self, targets: np.ndarray) -> np.ndarray:
        """Similarities that are not negative."""
        similarity = self._similarity(targets)
        if self.metric == "euclidean":
            return 1 / (1 - similarity)
        return np.clip(similarity, 0, None)

    def predict_interval(
        self, X: Any, level: float = 0.9
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predict intervals of the models' gains on targets, from past tasks.

        They are conformal: as wide as the errors were on past tasks, each predicted
        from the others, so that they hold on a share ``level`` of targets that are
        drawn as the past tasks were.

        Parameters
        ----------
        X : array-like (n_tasks, dim)
            Embeddings of the targets.
        level : float, default=0.9
            Share of targets for which an interval is to hold.

        Returns
        -------
        low, high : ndarray (n_tasks, n_models)
            The ends; infinite with fewer past tasks than ``level / (1 - level)``, 9 by
            default.

        Raises
        ------
        AttributeError
            If the ranker was fitted without gains.
        ValueError
            If ``level`` is not between 0 and 1.
        NotFittedError
            If the ranker is not fitted.
        """
        check_is_fitted(self)
        if self.gains_ is None:
            raise AttributeError(
                "intervals come from past tasks; fit the ranker with their gains: "
                "fit(X, gains)."
            )
        half = self._past.half_widths(checked_level(level))
        scores = self._scores(X)
        return scores - half, scores + half


def _precision(rows: np.ndarray) -> Any:
    """Precision to compute in: half precision only saves memory."""
    small = rows.size <= EXACT_NUMBERS
    return np.float64 if small or rows.dtype == np.float64 else np.float32


def _blocks(rows: np.ndarray, dtype: Any) -> Iterator[tuple[slice, np.ndarray]]:
    """Cut rows into blocks of some megabytes, in another precision."""
    size = max(1, BLOCK_NUMBERS // rows.shape[1])
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        yield part, np.asarray(rows[part], dtype=dtype)


def _mean(rows: np.ndarray) -> np.ndarray:
    total = np.zeros(rows.shape[1])
    for _, block in _blocks(rows, np.float64):
        total += block.sum(0)
    return total / len(rows)


def _squared_norms(rows: np.ndarray, mean: np.ndarray | None) -> np.ndarray:
    """Squared norms of the rows, less their mean where given."""
    out = np.empty(len(rows))
    for part, block in _blocks(rows, np.float64):
        block = block if mean is None else block - mean
        out[part] = np.einsum("ij,ij->i", block, block)
    return out


def _products(targets: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Dot products (n_targets, n_rows), without a copy of all rows."""
    if rows.dtype == targets.dtype:
        return targets @ rows.T
    out = np.empty((len(targets), len(rows)), targets.dtype)
    for part, block in _blocks(rows, targets.dtype):
        out[:, part] = targets @ block.T
    return out
