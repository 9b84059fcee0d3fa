"""Closed-form task embedding from moments of features and targets."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache, reduce
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from .._utils._stack_level import find_stack_level
from .._utils._store import text_key, texts_key
from ..exceptions import ReferenceStatisticsError, UnlabelledTextsWarning
from ..tasks._targets import TargetSet
from ..tasks._task import Task
from ._base_embedder import Fitted, OnStep
from ._moment_state import MomentState, fixed_alpha
from ._normal_equations import (
    FeatureSpace,
    FeatureSums,
    RidgeSolution,
    TargetSums,
)
from ._reference_texts import DataTexts, ReferenceTexts, shared_texts
from ._student import StudentState
from ._surrogate_embedder import SURROGATE_CONSTRAINTS, SurrogateEmbedder

if TYPE_CHECKING:
    from .._engine import Encoded, Surrogate

REFERENCE_FILE = "reference.safetensors"
ROWS_AT_ONCE = 2**16
WORDS = "words less their mean over the labels"  # what the space of texts is of
# Mean leverage of a data set's texts relative to the reference's own, above which a
# warning is given; the rankings that were measured lie between 0.7 and 1.7.
FAR = 2.5


@lru_cache(maxsize=8)
def _shipped(path: Path) -> FeatureSpace:
    from safetensors.numpy import load_file

    found = load_file(path)
    mean, spread, second = (
        found[k].astype(np.float64) for k in ("mean", "spread", "second")
    )
    digest = text_key(*(found[k].tobytes().hex() for k in sorted(found)))
    width = len(mean)
    return FeatureSpace.of_moments(mean, spread, second[:width, :width], digest[:16])


@lru_cache(maxsize=8)
def _of_texts(surrogate: Surrogate, texts: ReferenceTexts) -> FeatureSpace:
    from .._engine import encode_texts

    return _space_of(
        encode_texts(surrogate, texts, states=False), texts_key(texts)[:16]
    )


def _sums_of(encoded: Encoded) -> FeatureSums:
    return reduce(FeatureSums.merged, map(FeatureSums.of, feature_blocks(encoded)))


def _space_of(encoded: Encoded, name: str) -> FeatureSpace:
    return FeatureSpace.of(_sums_of(encoded), name)


def feature_blocks(encoded: Encoded) -> Iterator[np.ndarray]:
    """Mean token states (n, d_model), some rows at a time."""
    for start in range(0, len(encoded), ROWS_AT_ONCE):
        stop = min(start + ROWS_AT_ONCE, len(encoded))
        yield encoded.take(np.arange(start, stop)).pooled()


class MomentEmbedder(SurrogateEmbedder):
    """Embed a task by moments of encoder features with the targets, in closed form.

    With phi(x) the surrogate's mean-pooled features of a text, standardised over
    reference texts, C their second moment there and psi(y) the target, the embedding of
    a data set is, with a last row that holds the mean target::

        [ (C + alpha I)^(-1/2)  mean[ phi(x) psi(y)^T ] ;  mean psi(y)^T ]

    The embedding of a model (a task that `MTEWrapper` has labelled) holds its student
    W, b: the ridge regression, with a free intercept, of its answers on the texts that
    it labelled, with their own mean and second moment C_U::

        [ (C + alpha I)^(1/2) W ;  b ],   W = (C_U + alpha I)^(-1) mean[ phi psi^T ]

    Both forms are equal where the reference is the texts that were labelled, as it is
    in a `TaskVectorizer`.  The dot product of a model's and a data set's embedding is
    the margin that the model's student is expected to have on the data set.  No
    parameter is tuned by gradient descent, and the result is deterministic.

    Parameters
    ----------
    surrogate : str or path, default="fute-mini"
        The T5 that all tasks share; see `TuPaTEEmbedder`.  Only its encoder is used.
    alpha : float or "auto", default="auto"
        Ridge on the second moment of unit-variance features.  ``"auto"`` takes .1 for
        embeddings and lone students; in rankings by students of classes it takes, for
        each target, the value with the least estimated error of the models' expected
        score there, if there are
        as many texts as features at least.
    reference : sequence of str or None, default=None
        Texts whose mean and second moment define the space.  By default a
        `TaskVectorizer` and a `StudentRanker` take the texts that the models labelled;
        a lone ``fit`` takes the statistics shipped with the surrogate (``"fute-mini"``
        has them; others need texts here).  The student of a lone data set blends the
        reference's second moment, which counts as much as one text for every feature,
        with that of its own texts if it learns labels: with 100 labelled rows that is
        better than the rows' own alone (SST-2: .65 instead of .61), with 2,000 it costs
        nothing (.77, .76).  For numbers, which shipped statistics overshoot far
        where texts vary more than those, it takes its own texts' alone.
        The same reference must be used for all embeddings that are compared.
    target_encoding : {"label", "text"}, default="label"
        How psi stands for a label.  ``"label"`` has one column per label name, +1 for
        the label and -1 otherwise, in the order of the names: only tasks with the same
        label names can be compared.  ``"text"`` takes the surrogate's features of the
        label's own text, so that tasks with other label sets and free texts live in the
        same space.  For the moments of a task's labels, their mean over the labels is
        subtracted from these features; it stays in the last row, the mean target.
    class_weight : {"balanced"} or None, default=None
        ``"balanced"`` weights all classes equally in the moments; None weights all rows
        equally.  Use it on data sets whose gains weigh classes equally (balanced
        accuracy); it does not change the space.
    max_length : int, default=128
        Tokens per text; longer texts are cut with a warning.
    device : str, default="auto"
        ``"auto"`` takes CUDA, then MPS, then the CPU.
    dtype : {"float32", "bfloat16", "int8"}, default="float32"
        Precision of the surrogate.
        ``"int8"``, on CPUs only, rounds the products of the encoder's pass: up
        to three times as fast where the CPU multiplies 8-bit integers, and rankings
        hardly change (see :ref:`precision`).  Every type is a space of its own.

    Attributes
    ----------
    embedding_ : TaskVectors (dim,)
        The embedding: (d_model + 1) times the number of columns of psi.
    student_ : StudentClassifier or StudentRegressor
        The ridge regression of the targets, as a classifier or regressor.
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
    ValueError
        If targets are free texts and ``target_encoding`` is ``"label"``.

    Warns
    -----
    UnlabelledTextsWarning
        If a learnt reference has few texts, or texts unlike a data set's.

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

    _reads_states = False
    _parameter_constraints = {
        **SURROGATE_CONSTRAINTS,
        "alpha": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "reference": ["array-like", None],
        "target_encoding": [StrOptions({"label", "text"})],
        "class_weight": [StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        surrogate: Any = "fute-mini",
        *,
        alpha: float | str = "auto",
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

    def learn_space(self, tasks: Sequence[Task]) -> None:
        """Take as reference the texts that most of some tasks were labelled on.

        Where no two tasks have the same texts, those of all tasks are the reference.  A
        reference that was given stays.

        Parameters
        ----------
        tasks : sequence of Task
            Tasks that will be compared.

        Warns
        -----
        UnlabelledTextsWarning
            If no model labelled them and they are fewer than the surrogate's features.
        """
        if self.reference is not None:
            return
        self.reference = shared_texts(tasks)
        if isinstance(self.reference, DataTexts):
            width = self.load_surrogate().architecture.d_model
            if len(self.reference) < width:
                warnings.warn(
                    f"the tasks' own {len(self.reference)} texts are the reference, as "
                    f"no model has labelled any; they are fewer than the surrogate's "
                    f"{width} features, which makes embeddings unsteady. Give "
                    "reference=texts, thousands of any that are like them",
                    UnlabelledTextsWarning,
                    stacklevel=find_stack_level(),
                )

    def feature_space(self) -> FeatureSpace:
        """Return the statistics that define the space.

        Returns
        -------
        space : FeatureSpace
            ``mean`` and ``spread`` (d_model,) of the features over the reference,
            ``axes`` and ``values`` of the standardised features' second moment.

        Raises
        ------
        ReferenceStatisticsError
            If ``reference`` is None and the surrogate ships no statistics.
        """
        return self._reference(self.load_surrogate())

    def _reference(self, surrogate: Surrogate) -> FeatureSpace:
        if self.reference is not None:
            return _of_texts(surrogate, self._reference_texts())
        path = surrogate.folder and surrogate.folder / REFERENCE_FILE
        if not path or not path.exists():
            raise ReferenceStatisticsError(
                f"surrogate={surrogate.name!r} ships no reference statistics. Give "
                "reference=texts: the unlabelled texts that all tasks share."
            )
        return _shipped(path)

    def _reference_texts(self) -> ReferenceTexts:
        return ReferenceTexts.of(self.reference)

    def _space(self, surrogate: Surrogate, task: Task, seed: int) -> tuple[Any, ...]:
        columns: tuple[str, ...] = ()
        if self.target_encoding == "label":
            columns = task.targets.names
        return (
            fixed_alpha(self.alpha),
            self._reference(surrogate).name,
            WORDS if self.target_encoding == "text" else "label",
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
        space = self._reference(surrogate)
        answers = [self._targets(surrogate, space, task.targets) for task in tasks]
        sums = self._sums(encoded, tasks, answers)
        own, alpha = None, fixed_alpha(self.alpha)
        found: list[tuple[Fitted, StudentState]] = []
        for task, summed in zip(tasks, sums, strict=True):
            student = RidgeSolution.of(space, summed)
            matrix = _moment_form(student, alpha)
            if task.origin == "model" and not self._is_reference(task):
                own = own or _space_of(encoded, texts_key(task.texts)[:16])
                student = RidgeSolution.of(own, summed)
                matrix = _function_form(student, space, alpha)
            elif self._is_lone(task):
                lone = _lone_space(space, encoded, task)
                student = RidgeSolution.of(lone, summed)
            matrix = self._encoded_targets(surrogate, space, task.targets, matrix)
            targets = task.targets
            kept = None if targets.kind == "text" else student
            state = MomentState.of_alpha(kept, self.alpha)
            if targets.kind == "number":
                state.scale = _mean_and_spread(targets.values)
            if task.origin == "data" and type(self.reference) is ReferenceTexts:
                warn_if_unlike(space, encoded.pooled(), task.name or "the data set")
            found.append(({"embedding_": matrix.ravel(order="F")}, state))
        return found

    def _is_lone(self, task: Task) -> bool:
        """Whether a data set is compared with no zoo, so that its student counts."""
        return task.origin == "data" and not isinstance(self.reference, ReferenceTexts)

    def _is_reference(self, task: Task) -> bool:
        return self.reference is not None and self._reference_texts() == task.texts

    def _sums(
        self, encoded: Encoded, tasks: Sequence[Task], answers: list[np.ndarray]
    ) -> list[TargetSums]:
        """Sum up the tasks' targets (n, k) with their texts' features."""
        weights = [self._row_weights(task.targets) for task in tasks]
        alike = self.class_weight is None
        out: list[TargetSums] = []
        start = 0
        for block in feature_blocks(encoded):
            rows = slice(start, start + len(block))
            start += len(block)
            part = [answer[rows] for answer in answers]
            if alike:
                found = TargetSums.of(block, part)
            else:
                found = [
                    TargetSums.of(block, [answer], weight[rows])[0]
                    for answer, weight in zip(part, weights, strict=True)
                ]
            if out:
                found = [a.merged(b) for a, b in zip(out, found, strict=True)]
            out = found
        return out

    def _row_weights(self, targets: TargetSet) -> np.ndarray:
        if self.class_weight is None or targets.kind != "label":
            return np.ones(len(targets))
        return len(targets) * balanced_weights(targets)

    def _targets(
        self, surrogate: Surrogate, space: FeatureSpace, targets: TargetSet
    ) -> np.ndarray:
        """Return the regression targets (n, k)."""
        if targets.kind == "label":
            return 2.0 * targets.proba - 1.0
        if targets.kind == "number":
            mean, spread = _mean_and_spread(targets.values)
            return ((targets.values - mean) / spread)[:, None]
        if self.target_encoding == "label":
            raise ValueError(
                "free-text targets have no label columns; give target_encoding='text'."
            )
        names = tuple(sorted(set(targets.texts)))
        words = _word_features(surrogate, space, names)
        place = {name: i for i, name in enumerate(names)}
        return words[[place[text] for text in targets.texts]]

    def _encoded_targets(
        self,
        surrogate: Surrogate,
        space: FeatureSpace,
        targets: TargetSet,
        matrix: np.ndarray,
    ) -> np.ndarray:
        """Turn columns of margins into those of the labels' texts, where asked for."""
        if self.target_encoding == "label" or targets.kind != "label":
            return matrix
        words = _word_features(surrogate, space, targets.names)
        # Columns are margins, 2 P - 1, whose constant must not meet the words' sum.
        return np.vstack(
            [matrix[:-1] / 2 @ (words - words.mean(0)), (matrix[-1] + 1) / 2 @ words]
        )


def balanced_weights(targets: TargetSet) -> np.ndarray:
    """Weights of rows (n,), summing to 1, that give each class the same weight."""
    mass = targets.proba.sum(0, dtype=np.float64)
    present = mass > 0
    return (targets.proba[:, present] / mass[present]).sum(1) / present.sum()


def warn_if_unlike(space: FeatureSpace, features: np.ndarray, name: str) -> float:
    """Return how far a data set's features lie from a reference's; warn where far.

    The distance is the mean leverage of the texts over that of the reference's own, or
    NaN, with another warning, where the reference has fewer texts than features.
    """
    if space.count < len(space.mean):
        warnings.warn(
            f"the unlabelled texts are {space.count:.0f}, fewer than the surrogate's "
            f"{len(space.mean)} features, which makes rankings by them unsteady; let "
            "the models label thousands",
            UnlabelledTextsWarning,
            stacklevel=find_stack_level(),
        )
        return float("nan")
    distance = space.relative_leverage(features)
    if distance > FAR:
        warnings.warn(
            f"the unlabelled texts are unlike those of {name}, whose distance from "
            f"them is {distance:.1f}, where their own is 1 and rankings were measured "
            "up to 1.7; let the models label texts that are nearer",
            UnlabelledTextsWarning,
            stacklevel=find_stack_level(),
        )
    return distance


def _word_features(
    surrogate: Surrogate, space: FeatureSpace, names: tuple[str, ...]
) -> np.ndarray:
    from .._engine import encode_texts

    words = space.standardised(encode_texts(surrogate, names, states=False).pooled())
    return words / np.maximum(np.linalg.norm(words, axis=1, keepdims=True), 1e-12)


def _lone_space(space: FeatureSpace, encoded: Encoded, task: Task) -> FeatureSpace:
    """Statistics for the student of a data set: its own, and for labels the space's.

    Numbers are overshot far where the texts vary more than those of the space.
    """
    name = texts_key(task.texts)[:16]
    if task.targets.kind != "label":
        return _space_of(encoded, name)
    return space.blended(_sums_of(encoded), name)


def _moment_form(solution: RidgeSolution, alpha: float) -> np.ndarray:
    """Whitened moments about the space's mean, and the mean target, (d + 1, k)."""
    about_mean = solution.cross + np.outer(solution.offset, solution.intercept)
    return np.vstack([solution.space.whitened(about_mean, alpha), solution.intercept])


def _function_form(
    solution: RidgeSolution, space: FeatureSpace, alpha: float
) -> np.ndarray:
    """Weights and intercept of a student, in the coordinates of another space."""
    own = solution.space
    weights = (own.axes @ solution.weights(alpha)) / own.spread[:, None]
    intercept = solution.predicted(own.coordinates(space.mean[None]), alpha)
    along = space.axes.T @ (weights * space.spread[:, None])
    return np.vstack(
        [space.axes @ (along * np.sqrt(space.values + alpha)[:, None]), intercept]
    )


def _mean_and_spread(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), max(float(values.std()), 1e-12)
