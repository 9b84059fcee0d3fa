"""Embeddings that remember the space they belong to."""

from __future__ import annotations

from typing import Any

import numpy as np

from .exceptions import FingerprintMismatchError


class TaskVectors(np.ndarray):
    """An array of embeddings with the fingerprint of their space.

    Behaves as a plain array; slices keep the fingerprint.  `ModelRanker` refuses to
    compare vectors whose fingerprints are known and differ.

    Parameters
    ----------
    values : array-like
        One embedding (dim,) or several (n, dim).
    fingerprint : str or None
        Name of the space.

    Attributes
    ----------
    fingerprint : str or None
        Name of the space.

    Examples
    --------
    >>> from fute_sklearn import TaskVectors
    >>> TaskVectors([[1.0, 0.0], [0.0, 1.0]], "demo")[0].fingerprint
    'demo'
    """

    fingerprint: str | None

    def __new__(cls, values: Any, fingerprint: str | None = None) -> TaskVectors:
        found = np.asarray(values).view(cls)
        found.fingerprint = fingerprint
        return found

    def __array_finalize__(self, source: Any) -> None:
        self.fingerprint = getattr(source, "fingerprint", None)

    def __reduce__(self) -> Any:
        rebuild, args, state = tuple(super().__reduce__())
        return rebuild, args, (self.fingerprint, state)

    def __setstate__(self, state: Any) -> None:
        self.fingerprint = state[0]
        super().__setstate__(state[1])

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        found = super().__array_function__(func, types, args, kwargs)
        if func in (np.concatenate, np.stack, np.vstack) and isinstance(
            found, np.ndarray
        ):
            known = {getattr(part, "fingerprint", None) for part in args[0]}
            check_fingerprints(*known)
            if len(known) == 1:
                return TaskVectors(found, known.pop())
        return found


def fingerprint_of(vectors: Any) -> str | None:
    """Return the known fingerprint of an array or of a list of vectors, or None."""
    if isinstance(vectors, (list, tuple)):
        known = {fingerprint_of(v) for v in vectors if isinstance(v, TaskVectors)}
        check_fingerprints(*known)
        return next(iter(known)) if len(known) == 1 else None
    return getattr(vectors, "fingerprint", None)


def check_fingerprints(*fingerprints: str | None) -> None:
    """Refuse embeddings of different spaces."""
    known = sorted({f for f in fingerprints if f is not None})
    if len(known) > 1:
        raise FingerprintMismatchError(
            f"embeddings of different spaces {known} cannot be compared: surrogate, "
            "embedder, its parameters (random_state too) and, for label-wise moment "
            "embeddings, the label names must be the same. Embed all of them with one "
            "embedder."
        )
