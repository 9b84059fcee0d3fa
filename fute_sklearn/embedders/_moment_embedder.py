"""The moment embedding: a task vector in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from .._utils._store import text_key, texts_key
from ..exceptions import ReferenceStatisticsError
from ..tasks._targets import TargetSet
from ..tasks._task import Task
from ..tasks._validation import check_texts
from ._base_embedder import Fitted, OnStep
from ._student import StudentState, no_answers
from ._surrogate_embedder import SURROGATE_CONSTRAINTS, SurrogateEmbedder

if TYPE_CHECKING:
    from .._engine import Encoded, Surrogate

REFERENCE_FILE = "reference.safetensors"
LEAST_PROBABILITY = 1e-3


@dataclass(frozen=True, eq=False)
class Reference:
    """Mean, spread and second moment of features over texts that all tasks share."""

    mean: np.ndarray
    spread: np.ndarray
    second: np.ndarray  # (d + 1, d + 1), of standardised features with a constant
    name: str

    def standardise(self, features: np.ndarray) -> np.ndarray:
        """Standardise features (n, d) and append the constant 1."""
        return standardised(features, self.mean, self.spread)


def standardised(
    features: np.ndarray, mean: np.ndarray, spread: np.ndarray
) -> np.ndarray:
    """Return features (n, d) less a mean, over a spread, with the constant 1."""
    scaled = (features - mean) / spread
    return np.hstack([scaled, np.ones((len(scaled), 1))])


def reference_of(features: np.ndarray, name: str) -> Reference:
    """Compute the reference statistics of features (n, d)."""
    features = features.astype(np.float64)
    mean = features.mean(0)
    spread = np.maximum(features.std(0), 1e-6)
    scaled = np.hstack([(features - mean) / spread, np.ones((len(features), 1))])
    return Reference(mean, spread, scaled.T @ scaled / len(scaled), name)


@lru_cache(maxsize=8)
def _shipped(path: Path) -> Reference:
    from safetensors.numpy import load_file

    found = load_file(path)
    mean, spread, second = (
        found[k].astype(np.float64) for k in ("mean", "spread", "second")
    )
    digest = text_key(*(found[k].tobytes().hex() for k in sorted(found)))
    return Reference(mean, spread, second, digest[:16])


@lru_cache(maxsize=8)
def _of_texts(surrogate: Surrogate, texts: tuple[str, ...]) -> Reference:
    from .._engine import encode_texts

    return reference_of(encode_texts(surrogate, texts).pooled(), texts_key(texts)[:16])


@lru_cache(maxsize=8)
def _whitening(reference: Reference, alpha: float) -> np.ndarray:
    values, axes = np.linalg.eigh(reference.second)
    return (axes / np.sqrt(np.clip(values, 0, None) + alpha)) @ axes.T


class MomentEmbedder(SurrogateEmbedder):
    """Embed a task by whitened moments of encoder features with the targets.

    With phi(x) the surrogate's mean-pooled features of a text, standardised over
    reference texts and extended by 1, C their second moment over the reference and
    psi(y) the target, the embedding is::

        (C + alpha I)^(-1/2)  mean[ phi(x) psi(y)^T ]

    The dot product of a model's and a data set's embedding is the margin that the
    ridge student of the model is expected to have on the data set.  Nothing is tuned
    and nothing is random; unless classes are weighed, the embedding of many labelled
    texts is the mean of the embeddings of its parts.

    Parameters
    ----------
    surrogate : str or path, default="fute-mini"
        The T5 that all tasks share; see `TuPaTEEmbedder`.  Only its encoder is used.
    alpha : float, default=0.1
        Ridge on the second moment of unit-variance features; .03 to .3 make hardly
        any difference.
    reference : sequence of str or None, default=None
        Texts whose statistics define the space; by default the statistics that are
        shipped with the surrogate (``"fute-mini"`` has them); surrogates without any
        need texts here, best the unlabelled texts that models are labelled on.
        The same reference must be used for all embeddings that are compared.
    target_encoding : {"label", "text"}, default="label"
        psi.  ``"label"`` has one column per label name, +1 for the label and -1
        otherwise, in the order of the names: only tasks with the same label names can
        be compared.  ``"text"`` takes the surrogate's features of the label's own text,
        so that tasks with other label sets and free texts live in the same space.
    class_weight : {"balanced"} or None, default=None
        ``"balanced"`` averages per class first.  Use it on data sets whose gains weigh
        classes equally (balanced accuracy); it does not change the space.
    max_length : int, default=128
        Tokens per text; longer texts are cut with a warning.
    device : str, default="auto"
        ``"auto"`` takes CUDA, then MPS, then the CPU.
    dtype : {"float32", "bfloat16"}, default="float32"
        Precision of the surrogate.

    Attributes
    ----------
    embedding_ : TaskVectors (dim,)
        The embedding: (d_model + 1) times the number of columns of psi.
    student_ : StudentClassifier or StudentRegressor
        The ridge regression of the targets, as an estimator of its own.
    classes_ : ndarray (n_classes,)
        Labels, sorted by name, where the targets are classes.
    fingerprint_ : str
        Name of the space.
    n_samples_seen_ : int
        Number of texts.
    target_kind_ : {"label", "number", "text"}
        Kind of the targets.

    Raises
    ------
    ReferenceStatisticsError
        If ``reference`` is None and the surrogate ships no statistics.

    See Also
    --------
    TuPaTEEmbedder : Tuned parameters as an embedding.
    ModelRanker : With ``metric="dot"``, ranks by the expected margin.

    Examples
    --------
    >>> from fute_sklearn import MomentEmbedder
    >>> X = ["a fine film", "a dull film", "what joy", "how sad"]
    >>> y = ["positive", "negative", "positive", "negative"]
    >>> est = MomentEmbedder("fute-tiny-random", reference=X).fit(X, y)
    >>> est.embedding_.shape
    (34,)
    >>> list(est.student_.predict(X)) == y
    True
    """

    _parameter_constraints = {
        **SURROGATE_CONSTRAINTS,
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "reference": ["array-like", None],
        "target_encoding": [StrOptions({"label", "text"})],
        "class_weight": [StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        surrogate: Any = "fute-mini",
        *,
        alpha: float = 0.1,
        reference: Any = None,
        target_encoding: str = "label",
        class_weight: str | None = None,
        max_length: int = 128,
        device: str = "auto",
        dtype: str = "float32",
    ) -> None:
        self.surrogate = surrogate
        self.alpha = alpha
        self.reference = reference
        self.target_encoding = target_encoding
        self.class_weight = class_weight
        self.max_length = max_length
        self.device = device
        self.dtype = dtype

    def reference_statistics(self) -> Reference:
        """Return the statistics that define the space.

        Returns
        -------
        reference : Reference
            ``mean``, ``spread`` and second moment of the features over the reference.

        Raises
        ------
        ReferenceStatisticsError
            If ``reference`` is None and the surrogate ships none.
        """
        return self._reference(self.load_surrogate())

    def _reference(self, surrogate: Surrogate) -> Reference:
        if self.reference is not None:
            texts = tuple(sorted(set(check_texts(self.reference, "reference"))))
            return _of_texts(surrogate, texts)
        path = surrogate.folder and surrogate.folder / REFERENCE_FILE
        if not path or not path.exists():
            raise ReferenceStatisticsError(
                f"surrogate={surrogate.name!r} ships no reference statistics. Give "
                "reference=texts: the unlabelled texts that all tasks share."
            )
        return _shipped(path)

    def _space(self, surrogate: Surrogate, task: Task, seed: int) -> tuple[Any, ...]:
        columns: tuple[str, ...] = ()
        if self.target_encoding == "label":
            columns = task.targets.names
        return (
            self.alpha,
            self._reference(surrogate).name,
            self.target_encoding,
            *columns,
        )

    def _column_labels(self, task: Task) -> tuple[str, ...] | None:
        by_label = self.target_encoding == "label" and task.targets.kind == "label"
        return task.targets.names if by_label else None

    def _fit_group(
        self,
        surrogate: Surrogate,
        encoded: Encoded,
        tasks: Sequence[Task],
        seed: int,
        on_step: OnStep,
    ) -> list[tuple[Fitted, StudentState]]:
        reference = self._reference(surrogate)
        phi = reference.standardise(encoded.pooled())
        white = _whitening(reference, self.alpha)
        found: list[tuple[Fitted, StudentState]] = []
        for task in tasks:
            targets = task.targets
            weights = self._row_weights(targets)
            psi = self._psi(surrogate, reference, targets)
            fitted: Fitted = {
                "embedding_": (white @ (phi.T * weights) @ psi).ravel(order="F")
            }
            state = MomentState(reference.mean, reference.spread)
            if targets.kind == "label":
                margins = 2.0 * targets.proba - 1.0
                state.weights = white @ (white @ ((phi.T * weights) @ margins))
            elif targets.kind == "number":
                state.scale = _mean_and_spread(targets.values)
                scaled = _scaled(targets.values)
                state.weights = white @ (white @ ((phi.T * weights) @ scaled))
            found.append((fitted, state))
        return found

    def _row_weights(self, targets: TargetSet) -> np.ndarray:
        count = len(targets)
        if self.class_weight is None or targets.kind != "label":
            return np.full(count, 1 / count)
        mass = targets.proba.sum(0, dtype=np.float64)
        present = mass > 0
        return (targets.proba[:, present] / mass[present]).sum(1) / present.sum()

    def _psi(
        self, surrogate: Surrogate, reference: Reference, targets: TargetSet
    ) -> np.ndarray:
        if self.target_encoding == "label" and targets.kind == "label":
            return 2.0 * targets.proba - 1.0
        if targets.kind == "number":
            return _scaled(targets.values)[:, None]
        if self.target_encoding == "label":
            raise ValueError(
                "free-text targets have no label columns; give target_encoding='text'."
            )
        from .._engine import encode_texts

        names = targets.names or tuple(sorted(set(targets.texts)))
        words = reference.standardise(encode_texts(surrogate, names).pooled())[:, :-1]
        words /= np.maximum(np.linalg.norm(words, axis=1, keepdims=True), 1e-12)
        if targets.kind == "label":
            return targets.proba @ words
        place = {name: i for i, name in enumerate(names)}
        return words[[place[text] for text in targets.texts]]


@dataclass
class MomentState:
    """A ridge regression of the targets on standardised features, in closed form."""

    mean: np.ndarray
    spread: np.ndarray
    weights: np.ndarray | None = None  # (d + 1, n_classes), or (d + 1,) for numbers
    scale: tuple[float, float] = (0.0, 1.0)  # mean and spread of the numbers

    def _standardised(self, encoded: Encoded) -> np.ndarray:
        return standardised(encoded.pooled(), self.mean, self.spread)

    def features(self, encoded: Encoded) -> np.ndarray:
        """Standardised mean token states (n, d_model)."""
        return self._standardised(encoded)[:, :-1].astype(np.float32)

    def log_proba(self, encoded: Encoded, names: tuple[str, ...]) -> np.ndarray:
        """Log-probabilities of the labels (n, n_classes)."""
        # Least squares on +1/-1 targets estimates 2 P - 1.
        share = (1 + self._standardised(encoded) @ self.weights) / 2
        share = np.clip(share, LEAST_PROBABILITY, 1)
        return np.log(share / share.sum(1, keepdims=True))

    def values(self, encoded: Encoded, kind: str) -> np.ndarray:
        """Numbers (n,); there is no closed form for texts."""
        if kind != "number":
            raise no_answers("MomentEmbedder", kind)
        mean, spread = self.scale
        return mean + spread * (self._standardised(encoded) @ self.weights)

    def log_likelihood(self, encoded: Encoded, texts: Sequence[str]) -> np.ndarray:
        """Refuse: least squares gives targets no likelihood."""
        raise AttributeError(
            "MomentEmbedder gives no likelihood to targets that are no labels; "
            "TuPaTEEmbedder does."
        )


def _mean_and_spread(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), max(float(values.std()), 1e-12)


def _scaled(values: np.ndarray) -> np.ndarray:
    mean, spread = _mean_and_spread(values)
    return (values - mean) / spread
