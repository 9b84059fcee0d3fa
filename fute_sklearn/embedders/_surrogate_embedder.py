"""Base class of embedders on a T5 surrogate: loading, encoding, fingerprints."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from .._utils._store import text_key
from ..exceptions import FingerprintMismatchError
from ..tasks._task import Task
from ..tasks._validation import check_texts
from ._base_embedder import BaseTaskEmbedder, Fitted, OnStep, seed_of
from ._student import STUDENTS, StudentState

if TYPE_CHECKING:
    from .._engine import Encoded, EncoderWork, Surrogate

SURROGATE_CONSTRAINTS: dict[str, list[Any]] = {
    "surrogate": [str, HasMethods("__fspath__")],
    "max_length": [Interval(Integral, 2, None, closed="left")],
    "device": [str],
    "dtype": [StrOptions({"float32", "bfloat16", "int8"})],
}


class SurrogateEmbedder(BaseTaskEmbedder):
    """Base class of embedders that use a T5 surrogate.

    Subclasses implement `_fit_group` and `_space`.
    """

    surrogate: Any
    max_length: int
    device: str
    dtype: str
    _parameter_constraints: dict[str, list[Any]] = SURROGATE_CONSTRAINTS
    # Whether token states are read, or their means suffice, which are kept for long.
    _reads_states = True

    @abstractmethod
    def _space(self, surrogate: Surrogate, task: Task, seed: int) -> tuple[Any, ...]:
        """Return the parameters that, with the surrogate, determine the space."""

    @abstractmethod
    def _fit_group(
        self,
        surrogate: Surrogate,
        encoded: Encoded,
        tasks: Sequence[Task],
        seed: int,
        on_step: OnStep,
    ) -> list[tuple[Fitted, StudentState]]:
        """Fit tasks over the encoded texts; return attributes and student states."""

    def _of_weights(self, task: Task) -> bool:
        """Whether a task's space belongs to one surrogate's weights."""
        return True

    def _column_labels(self, task: Task) -> tuple[str, ...] | None:
        """Return the label names of the embedding's columns, or None if it has none."""
        return None

    def _embed_tasks(self, tasks: Sequence[Task], on_step: OnStep) -> list[Fitted]:
        from .._engine import encode_texts

        seed = seed_of(getattr(self, "random_state", 0))
        surrogate = self.load_surrogate()
        # Rows are sorted by text, so that the embedding does not depend on their order.
        order = sorted(range(tasks[0].n_samples), key=tasks[0].texts.__getitem__)
        rows = np.array(order)
        texts = [tasks[0].texts[i] for i in order]
        encoded = encode_texts(surrogate, texts, on_step, states=self._reads_states)
        ordered = [task.take(rows) for task in tasks]
        found = self._fit_group(surrogate, encoded, ordered, seed, on_step)
        out = []
        for task, (fitted, state) in zip(tasks, found, strict=True):
            student = STUDENTS[task.targets.kind](self)
            student.state_ = state
            student.target_kind_ = task.targets.kind
            student.surrogate_fingerprint_ = surrogate.fingerprint
            if task.targets.kind == "label":
                student.classes_ = task.targets.classes
                student.label_names_ = task.targets.names
            fitted["student_"] = student
            fitted["surrogate_fingerprint_"] = surrogate.fingerprint
            fitted["fingerprint_"] = self._fingerprint(surrogate, task, seed)
            fitted["_n_features_out"] = surrogate.architecture.d_model
            out.append(fitted)
        return out

    def n_steps(self, tasks: Sequence[Task]) -> int:
        """Count the steps that embedding some tasks together takes.

        Parameters
        ----------
        tasks : sequence of Task
            Tasks that share their texts.

        Returns
        -------
        n_steps : int
            One per thousand distinct texts that the encoder reads, and one per epoch.
        """
        from .._engine import encoder_steps

        return encoder_steps(tasks[0].texts) + self._n_epochs(tasks)

    def _n_epochs(self, tasks: Sequence[Task]) -> int:
        """Count the epochs that embedding some tasks together takes."""
        return 0

    def space_of(self, task: Task) -> tuple[str | None, tuple[str, ...] | None]:
        """Return the identifier of a task's embedding space without embedding the task.

        Parameters
        ----------
        task : Task
            The task.

        Returns
        -------
        fingerprint : str
            Hash of all that determines the space, such as surrogate and parameters.
        label_names : tuple of str or None
            Label names of the vector's columns, if it has columns for each label.
        """
        seed = seed_of(getattr(self, "random_state", 0))
        fingerprint = self._fingerprint(self.load_surrogate(), task, seed)
        return fingerprint, self._column_labels(task)

    def _fingerprint(self, surrogate: Surrogate, task: Task, seed: int) -> str:
        weights = surrogate.weights_fingerprint if self._of_weights(task) else ""
        parts = (type(self).__name__, weights, *self._space(surrogate, task, seed))
        return text_key(*map(str, parts))[:16]

    def load_surrogate(self, fingerprint: str | None = None) -> Surrogate:
        """Load the surrogate, or return it if this process has loaded it before.

        Parameters
        ----------
        fingerprint : str, optional
            Fingerprint that the surrogate must have; by default it is not checked.

        Returns
        -------
        surrogate : Surrogate
            The frozen weights on the device, with tokenizer and architecture.

        Raises
        ------
        FingerprintMismatchError
            If the surrogate has another fingerprint.
        SurrogateError
            If the model is not a T5 or mT5.
        SurrogateNotFoundError
            If the model cannot be loaded.
        """
        from .._engine import load_surrogate

        surrogate = load_surrogate(
            self.surrogate,
            device=self.device,
            dtype=self.dtype,
            max_length=self.max_length,
        )
        if fingerprint not in (None, surrogate.fingerprint):
            raise FingerprintMismatchError(
                f"surrogate={self.surrogate!r} is not the one of the fit: its "
                f"fingerprint is {surrogate.fingerprint}, at fit {fingerprint}. "
                "Load the weights of then, with the same dtype and max_length."
            )
        return surrogate

    def encode(self, X: Any, fingerprint: str | None = None) -> Encoded:
        """Compute what the surrogate's encoder makes of texts, using the cache.

        Embedders that need no token states, as the closed form, compute and keep their
        means only, a twentieth of the space.

        Parameters
        ----------
        X : sequence of str of length n_samples, or EncodedTexts
            The texts.  EncodedTexts, the return value of this method, are returned as
            they are.
        fingerprint : str, optional
            Fingerprint that the surrogate must have; by default it is not checked.

        Returns
        -------
        encoded : EncodedTexts
            Token ids of each text with its encoder states or their mean.  Students on
            the same surrogate accept them in place of the texts.

        Raises
        ------
        FingerprintMismatchError
            If the surrogate has another fingerprint, or another one encoded X.
        """
        from .._engine import Encoded, encode_texts

        surrogate = self.load_surrogate(fingerprint)
        if isinstance(X, Encoded):
            if X.surrogate.fingerprint != surrogate.fingerprint:
                raise FingerprintMismatchError(
                    "the texts were encoded by another surrogate, of fingerprint "
                    f"{X.surrogate.fingerprint} instead of {surrogate.fingerprint}."
                )
            return X
        return encode_texts(surrogate, check_texts(X), states=self._reads_states)

    def encoder_work(self, X: Any) -> EncoderWork:
        """Count what `encode` has to compute for texts; nothing is encoded.

        Parameters
        ----------
        X : sequence of str of length n_samples
            The texts.

        Returns
        -------
        work : EncoderWork
            ``batches``, the texts that are not cached, by the batches in which they
            are encoded; ``n_tokens``, their tokens; ``n_bytes``, the size of what is
            kept of all texts.
        """
        from .._engine import encoder_work

        surrogate = self.load_surrogate()
        return encoder_work(surrogate, check_texts(X), states=self._reads_states)

    def unreadable_share(self, X: Any) -> float:
        """Compute the share of texts that consist mostly of unknown tokens.

        Parameters
        ----------
        X : sequence of str of length n_samples
            The texts.

        Returns
        -------
        share : float
            Share of the texts, 0 to 1, in which half or more of the tokens are the
            surrogate's unknown token.
        """
        from .._engine import unreadable_share

        return unreadable_share(self.load_surrogate(), check_texts(X))
