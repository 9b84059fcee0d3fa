"""State of students made by tuning a surrogate: tuned parameters or weights."""

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
    """Tuned ``parameters``, or fine-tuned ``weights``, of a surrogate.

    ``numbers`` are the values that can be predicted for a numeric task, formatted as
    text; ``longest`` is the length of the longest target text in bytes.  ``weights``
    are left out of pickles; ``weights_lost`` says that this has happened.
    """

    parameters: dict[str, np.ndarray] | None = None
    weights: dict[str, Any] | None = None
    numbers: tuple[str, ...] = ()
    longest: int = 0
    weights_lost: bool = False

    def of(self, task: Task) -> TunedState:
        """Return a copy with the predictable numbers or text length of a task."""
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
        """Write weights for peft or transformers; return the rest of the state."""
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
        """Read a state that `save` has written."""
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

    def predicted_numbers(self, encoded: Encoded) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the numbers, (n,) each."""
        # Expectation over quantiles of the training numbers, weighted by likelihood.
        known = np.array([float(text) for text in self.numbers])
        if len(known) == 1:
            return np.full(len(encoded), known[0]), np.zeros(len(encoded))
        proba = np.exp(self.log_proba(encoded, self.numbers))
        mean = proba @ known
        return mean, np.sqrt(np.maximum(proba @ known**2 - mean**2, 0))

    def texts(self, encoded: Encoded) -> np.ndarray:
        """Texts (n,)."""
        found = self._student(encoded).generate(encoded, self.longest + 1)
        return np.array(found, dtype=object)

    def log_likelihood(self, encoded: Encoded, texts: Sequence[str]) -> np.ndarray:
        """Log-likelihood of a target text per row (n,)."""
        return self._student(encoded).text_log_likelihood(encoded, texts)
