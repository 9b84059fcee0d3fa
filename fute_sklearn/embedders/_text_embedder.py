"""TextEmb: the mean encoder feature of the texts as task embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..tasks._task import Task
from ._base_embedder import Fitted, OnStep
from ._student import StudentState, no_answers
from ._surrogate_embedder import SurrogateEmbedder

if TYPE_CHECKING:
    from .._engine import Encoded, Surrogate


class TextEmbedder(SurrogateEmbedder):
    """Embed a task by the mean encoder feature of its texts (TextEmb).

    The states of the surrogate's last encoder layer are averaged over the tokens of
    each text, then over the texts.  Targets are ignored, so that all models that label
    the same texts get the same embedding: this is a baseline for data sets.

    Parameters
    ----------
    surrogate : str or path-like, default="fute-mini"
        Name or folder of the T5 that encodes the texts; see `TuPaTEEmbedder`.
    max_length : int, default=128
        Maximum number of tokens per text; longer texts are truncated with a warning.
    device : str, default="auto"
        ``"auto"`` takes CUDA, then MPS, then the CPU.
    dtype : {"float32", "bfloat16", "int8"}, default="float32"
        Precision of the surrogate.
        ``"int8"``, on CPUs only, rounds the products of the encoder's pass: up
        to three times as fast where the CPU multiplies 8-bit integers, and rankings
        hardly change (see :ref:`precision`).  Every type is a space of its own.

    Attributes
    ----------
    embedding_ : TaskVectors (d_model,)
        The embedding.
    student_ : StudentClassifier
        For labels: predicts the label shares of the task for every text.
    classes_ : ndarray (n_classes,)
        Labels, sorted by name, if the targets are labels.
    fingerprint_ : str
        Identifier of the embedding space.
    n_samples_seen_ : int
        Number of texts.
    target_kind_ : {"label", "number", "text"}
        Kind of the targets.

    See Also
    --------
    MomentEmbedder : Moments of the same features with the targets.

    References
    ----------
    Vu et al. (2020), "Exploring and predicting transferability across NLP tasks".

    Examples
    --------
    >>> from fute_sklearn import TextEmbedder
    >>> X = ["a fine film", "a dull film"]
    >>> TextEmbedder("fute-tiny-random").fit(X, ["good", "bad"]).embedding_.shape
    (16,)
    """

    _reads_states = False

    def __init__(
        self,
        surrogate: Any = "fute-mini",
        *,
        max_length: int = 128,
        device: str = "auto",
        dtype: str = "float32",
    ) -> None:
        self.surrogate = surrogate
        self.max_length = max_length
        self.device = device
        self.dtype = dtype

    def _space(self, surrogate: Surrogate, task: Task, seed: int) -> tuple[Any, ...]:
        return ()

    def _fit_group(
        self,
        surrogate: Surrogate,
        encoded: Encoded,
        tasks: Sequence[Task],
        seed: int,
        on_step: OnStep,
    ) -> list[tuple[Fitted, StudentState]]:
        mean = encoded.pooled().mean(0, dtype=np.float64)
        return [
            ({"embedding_": mean}, PriorState(task.targets.proba.mean(0)))
            if task.targets.kind == "label"
            else ({"embedding_": mean}, PriorState(None))
            for task in tasks
        ]


@dataclass
class PriorState:
    """State of a student that predicts the label shares of its task for every text."""

    prior: np.ndarray | None

    def features(self, encoded: Encoded) -> np.ndarray:
        """Mean token states (n, d_model)."""
        return encoded.pooled()

    def log_proba(self, encoded: Encoded, names: tuple[str, ...]) -> np.ndarray:
        """The same log-probabilities for every text (n, n_classes)."""
        prior = np.log(np.maximum(np.asarray(self.prior), 1e-12))
        return np.tile(prior, (len(encoded), 1))

    def predicted_numbers(self, encoded: Encoded) -> tuple[np.ndarray, np.ndarray]:
        """Raise AttributeError: only labels can be predicted."""
        raise no_answers("TextEmbedder", "number")

    def texts(self, encoded: Encoded) -> np.ndarray:
        """Raise AttributeError: only labels can be predicted."""
        raise no_answers("TextEmbedder", "text")

    def log_likelihood(self, encoded: Encoded, texts: Sequence[str]) -> np.ndarray:
        """Raise AttributeError: only labels can be predicted."""
        raise no_answers("TextEmbedder", "number or text")
