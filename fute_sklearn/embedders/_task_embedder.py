"""TaskEmb: the Fisher information as a task's embedding."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.random_projection import SparseRandomProjection
from sklearn.utils._param_validation import Interval, StrOptions

from ..tasks._task import Task
from ._base_embedder import Fitted, OnStep
from ._student import READERS, StudentState
from ._surrogate_embedder import SURROGATE_CONSTRAINTS, SurrogateEmbedder
from ._tuned_state import TunedState

if TYPE_CHECKING:
    from .._engine import Encoded, Surrogate

LEARNING_RATES = {"full": 1e-4, "head": 1e-3}


@lru_cache(maxsize=2)
def _projection(
    n_features: int, n_components: int, seed: int
) -> SparseRandomProjection:
    projection = SparseRandomProjection(n_components, random_state=seed)
    return projection.fit(np.zeros((1, n_features), dtype=np.float32))


class TaskEmbedder(SurrogateEmbedder):
    """Embed a task by the diagonal Fisher information of the surrogate (TaskEmb).

    The diagonal of the empirical Fisher information, one gradient per text, squared,
    then averaged: ``F = 1/n sum_i (d log P(y_i | x_i) / d theta)^2``.  It is exact,
    and depends neither on the batch size nor on the order of texts and classes.

    Parameters
    ----------
    surrogate : str or path, default="fute-mini"
        The T5 that all tasks share; see `TuPaTEEmbedder`.
    fine_tuning : {"none", "head", "full"}, default="none"
        Weights that are fine-tuned on the task first: none; the output word vectors; or
        all, as in the paper, which takes a pass through the encoder per step.
        Tuned weights are not pickled: a loaded embedder keeps its embedding, but its
        student must be fitted again.
    params : {"decoder", "all"}, default="decoder"
        Weights whose Fisher information is taken.  ``"decoder"`` works on cached
        encoder outputs and is many times faster.
    reduction : {"unit", "projection", "full"}, default="unit"
        ``"unit"`` takes the mean over each output unit's incoming weights;
        ``"projection"`` takes a sparse random projection to ``n_components`` numbers;
        ``"full"`` keeps all numbers, one per weight (223 million for T5-base).
    n_components : int, default=1024
        Numbers kept by ``reduction="projection"``.
    statistic : {"fisher", "gradient"}, default="fisher"
        ``"fisher"`` averages the squares of the gradients, as in the paper, which tell
        the weights that matter for a task but not in which direction; ``"gradient"``
        averages the gradients themselves, so that tasks with opposite labels point in
        opposite directions.  Its dot product with ``reduction="full"`` is, to first
        order, the product of what two tasks would change in the surrogate's answers.
    learning_rate : float or None, default=None
        Learning rate of AdamW; by default 1e-4 for ``"full"`` and 1e-3 for ``"head"``.
    max_epochs : int, default=3
        Passes of the fine-tuning.
    batch_size : int, default=32
        Texts per step; the Fisher information does not depend on it.
    max_length : int, default=128
        Tokens per text; longer texts are cut with a warning.
    device : str, default="auto"
        ``"auto"`` takes CUDA, then MPS, then the CPU.
    dtype : {"float32", "bfloat16"}, default="float32"
        Precision of the weights.
    random_state : int, RandomState instance or None, default=0
        Seeds the projection and the order of the texts; None gives a new space at
        every fit.

    Attributes
    ----------
    embedding_ : TaskVectors (dim,)
        The task embedding; not negative for ``statistic="fisher"``, unless
        ``reduction="projection"``.
    classes_ : ndarray (n_classes,)
        Labels, sorted by name, where the targets are classes.
    fingerprint_ : str
        Name of the space.
    n_samples_seen_ : int
        Number of texts.
    target_kind_ : {"label", "number", "text"}
        Kind of the targets.

    See Also
    --------
    TuPaTEEmbedder : Tuned parameters as an embedding.

    References
    ----------
    Vu et al. (2020), "Exploring and predicting transferability across NLP tasks".
    Wang et al. (2024), "Towards unified task embeddings across multiple models"
    (FUTE), Eq. 3.  Achille et al. (2019), "Task2Vec", for the mean per unit.

    Examples
    --------
    >>> from fute_sklearn import TaskEmbedder
    >>> X = ["a fine film", "a dull film", "what joy", "how sad"]
    >>> y = ["positive", "negative", "positive", "negative"]
    >>> est = TaskEmbedder("fute-tiny-random").fit(X, y)
    >>> bool((est.embedding_ >= 0).all())
    True
    """

    _parameter_constraints = {
        **SURROGATE_CONSTRAINTS,
        "dtype": [StrOptions({"float32", "bfloat16"})],  # integers have no gradients
        "fine_tuning": [StrOptions({"none", "head", "full"})],
        "params": [StrOptions({"decoder", "all"})],
        "reduction": [StrOptions({"unit", "projection", "full"})],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "statistic": [StrOptions({"fisher", "gradient"})],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), None],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        surrogate: Any = "fute-mini",
        *,
        fine_tuning: str = "none",
        params: str = "decoder",
        reduction: str = "unit",
        n_components: int = 1024,
        statistic: str = "fisher",
        learning_rate: float | None = None,
        max_epochs: int = 3,
        batch_size: int = 32,
        max_length: int = 128,
        device: str = "auto",
        dtype: str = "float32",
        random_state: Any = 0,
    ) -> None:
        self.surrogate = surrogate
        self.fine_tuning = fine_tuning
        self.params = params
        self.reduction = reduction
        self.n_components = n_components
        self.statistic = statistic
        self.learning_rate = learning_rate
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.max_length = max_length
        self.device = device
        self.dtype = dtype
        self.random_state = random_state

    def _n_epochs(self, tasks: Sequence[Task]) -> int:
        return 0 if self.fine_tuning == "none" else self.max_epochs * len(tasks)

    def _space(self, surrogate: Surrogate, task: Task, seed: int) -> tuple[Any, ...]:
        projected = (self.n_components, seed)
        space = (
            self.fine_tuning,
            self.params,
            self.reduction,
            projected if self.reduction == "projection" else "",
        )
        # Spaces of before there were two statistics keep their fingerprints.
        return space if self.statistic == "fisher" else (*space, self.statistic)

    def _fit_group(
        self,
        surrogate: Surrogate,
        encoded: Encoded,
        tasks: Sequence[Task],
        seed: int,
        on_step: OnStep,
    ) -> list[tuple[Fitted, StudentState]]:
        results: dict[int, tuple[Fitted, StudentState]] = {}
        for members in self._alike(tasks):
            some = [tasks[i] for i in members]
            found = self._fit_alike(surrogate, encoded, some, seed, on_step)
            results.update(zip(members, found, strict=True))
        return [results[i] for i in range(len(tasks))]

    def _alike(self, tasks: Sequence[Task]) -> list[list[int]]:
        """Group the tasks that can share their gradients."""
        groups: dict[Any, list[int]] = {}
        for i, task in enumerate(tasks):
            shared = task.targets.kind == "label" and self.fine_tuning == "none"
            groups.setdefault(tuple(task.targets.names) if shared else i, []).append(i)
        return list(groups.values())

    def _fit_alike(
        self,
        surrogate: Surrogate,
        encoded: Encoded,
        tasks: Sequence[Task],
        seed: int,
        on_step: OnStep,
    ) -> list[tuple[Fitted, StudentState]]:
        from .._engine import (
            LabelObjective,
            TextObjective,
            fine_tune,
            fisher_diagonals,
            label_tree,
        )

        targets = tasks[0].targets
        proba = [task.targets.proba for task in tasks]
        objective: LabelObjective | TextObjective
        if targets.kind == "label":
            tree = label_tree(surrogate, targets.names)
            objective = LabelObjective(surrogate, [tree], proba[:1])
        else:
            objective = TextObjective(surrogate, targets.texts)
        weights = None
        if self.fine_tuning != "none":
            rate = self.learning_rate
            weights = fine_tune(
                surrogate,
                encoded,
                objective,
                which=self.fine_tuning,
                learning_rate=LEARNING_RATES[self.fine_tuning]
                if rate is None
                else rate,
                max_epochs=self.max_epochs,
                batch_size=self.batch_size,
                seed=seed,
                on_epoch=lambda epoch: on_step(),
            )
        found = fisher_diagonals(
            surrogate,
            encoded,
            objective,
            proba,
            params=self.params,
            weights=weights,
            squared=self.statistic == "fisher",
        )
        state = TunedState(weights=weights)
        return [
            ({"embedding_": self._reduce(fisher, seed)}, state.of(task))
            for fisher, task in zip(found, tasks, strict=True)
        ]

    def _reduce(self, fisher: dict[str, np.ndarray], seed: int) -> np.ndarray:
        if self.reduction == "unit":
            rows = [
                # Word vectors have no output units: their mean is over the words.
                v if v.ndim == 1 else v.mean(0 if _is_table(n) else 1)
                for n, v in fisher.items()
            ]
            return np.concatenate(rows)
        full = np.concatenate([v.ravel().astype(np.float32) for v in fisher.values()])
        if self.reduction == "full":
            return full
        projection = _projection(full.size, self.n_components, seed)
        return projection.transform(full[None])[0]


def _is_table(name: str) -> bool:
    return name in ("shared.weight", "lm_head.weight") or "attention_bias" in name


def _read(folder: Path, record: dict[str, Any]) -> tuple[TaskEmbedder, TunedState]:
    """Read a saved student: an embedder over the saved weights, and its state."""
    dtype = record.get("dtype", "float32")
    embedder = TaskEmbedder(folder, max_length=record["max_length"], dtype=dtype)
    return embedder, TunedState.load(folder, record)


READERS["TaskEmbedder"] = _read
