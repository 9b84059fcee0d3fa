"""What is learnt by tuning a surrogate: parameters or weights, and their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import NotFittedError

from ..tasks._targets import number_text
from ..tasks._task import Task

if TYPE_CHECKING:
    from .._engine import Encoded, Student, Surrogate

MAX_NUMBERS = 64
LOST = (
    "the fine-tuned weights are not part of a pickle: fit this embedder again to use "
    "its student; embedding_ is still there."
)


@dataclass
class TunedState:
    """A surrogate with small tuned parameters, or with fine-tuned weights of its own.

    ``numbers`` are those that a numeric task may answer, ``longest`` is the length of
    the longest target text in bytes.  Fine-tuned weights of a whole surrogate are left
    out of pickles.
    """

    parameters: dict[str, np.ndarray] | None = None
    weights: dict[str, Any] | None = None
    numbers: tuple[str, ...] = ()
    longest: int = 0
    weights_lost: bool = False

    def of(self, task: Task) -> TunedState:
        """Return the same with what a task's targets allow as answers."""
        if task.targets.kind == "number":
            grid = np.linspace(0, 1, MAX_NUMBERS)
            values = np.unique(np.quantile(task.targets.values, grid, method="nearest"))
            texts = sorted({number_text(v) for v in values}, key=float)
            return replace(self, numbers=tuple(texts))
        if task.targets.kind == "text":
            longest = max(len(text.encode()) for text in task.targets.texts)
            return replace(self, longest=longest)
        return self

    def __getstate__(self) -> dict[str, Any]:
        lost = self.weights is not None or self.weights_lost
        return {**vars(self), "weights": None, "weights_lost": lost}

    def _student(self, encoded: Encoded) -> Student:
        from .._engine import Student

        if self.weights_lost:
            raise NotFittedError(LOST)
        return Student(encoded.surrogate, self.parameters, self.weights)

    def save(self, surrogate: Surrogate, folder: Path) -> dict[str, Any]:
        """Write the tuned surrogate for stock libraries; return what else to keep."""
        from .._engine import save_adapter, save_model

        if self.weights_lost:
            raise NotFittedError(LOST)
        if self.parameters is None:
            save_model(surrogate, folder, self.weights)
        elif "cross_q.down" in self.parameters:
            save_adapter(surrogate, self.parameters, folder)
        else:
            raise NotImplementedError(
                "only low-rank tuning and fine-tuned weights can be saved for stock "
                "libraries: peft's prefixes for a T5 leave out cross-attention, and a "
                "T5 has no biases. Use tuning='lora', or a pickle of the embedder."
            )
        return {"numbers": list(self.numbers), "longest": self.longest}

    @classmethod
    def load(cls, folder: Path, record: dict[str, Any]) -> TunedState:
        """Read what `save` has written."""
        from .._engine import load_adapter

        parameters = load_adapter(folder) if record["low_rank"] else None
        return cls(
            parameters, numbers=tuple(record["numbers"]), longest=record["longest"]
        )

    def features(self, encoded: Encoded) -> np.ndarray:
        """Decoder states at the first target position (n, d_model)."""
        return self._student(encoded).features(encoded)

    def log_proba(self, encoded: Encoded, names: tuple[str, ...]) -> np.ndarray:
        """Log-probabilities of the labels (n, n_classes)."""
        from .._engine import label_tree

        tree = label_tree(encoded.surrogate, names)
        return self._student(encoded).log_proba(encoded, tree)

    def values(self, encoded: Encoded, kind: str) -> np.ndarray:
        """Numbers or texts (n,)."""
        student = self._student(encoded)
        if kind == "text":
            return np.array(student.generate(encoded, self.longest + 1), dtype=object)
        # The mean of the training numbers, weighted by how likely their text is.
        numbers = np.array([float(text) for text in self.numbers])
        if len(numbers) == 1:
            return np.full(len(encoded), numbers[0])
        return np.exp(self.log_proba(encoded, self.numbers)) @ numbers

    def log_likelihood(self, encoded: Encoded, texts: Sequence[str]) -> np.ndarray:
        """Log-likelihood of a target text per row (n,)."""
        return self._student(encoded).text_log_likelihood(encoded, texts)
