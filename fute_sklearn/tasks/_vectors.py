"""Embeddings that remember the space they belong to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..exceptions import FingerprintMismatchError

# Functions that put vectors side by side, so that the result is of their space.
JOINING = (np.concatenate, np.stack, np.vstack)
# Functions that tell whether arrays are alike, which may be asked of any two.
COMPARING: tuple[Any, ...] = (np.array_equal, np.array_equiv, np.allclose, np.isclose)
COMPARING += (np.shares_memory, np.may_share_memory)
QUESTIONS = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal"}
QUESTIONS |= {"isfinite", "isnan", "isinf", "signbit", "logical_not"}
# Functions whose results are no embeddings.
PRODUCTS: tuple[Any, ...] = (
    np.dot,
    np.inner,
    np.outer,
    np.vdot,
    np.tensordot,
    np.einsum,
    np.kron,
)
PRODUCTS += (np.cov, np.corrcoef)


class TaskVectors(np.ndarray):
    """An array of embeddings with the fingerprint of their space.

    Behaves as a plain array; slices, and results of arithmetic with numbers, plain
    arrays and vectors of the same space, keep the fingerprint.  Arithmetic between
    vectors of different spaces raises, as does comparing them in `ModelRanker`; results
    that are no embeddings, such as products of matrices, are plain arrays.

    Parameters
    ----------
    values : array-like
        One embedding (dim,) or several (n, dim).
    fingerprint : str or None
        Name of the space.
    label_names : sequence of str or None, default=None
        Label names that the space's columns stand for, where it has such columns.

    Attributes
    ----------
    fingerprint : str or None
        Name of the space.
    label_names : tuple of str or None
        Label names of the space's columns.

    Examples
    --------
    >>> from fute_sklearn import TaskVectors
    >>> TaskVectors([[1.0, 0.0], [0.0, 1.0]], "demo")[0].fingerprint
    'demo'
    """

    fingerprint: str | None
    label_names: tuple[str, ...] | None

    def __new__(
        cls, values: Any, fingerprint: str | None = None, label_names: Any = None
    ) -> TaskVectors:
        found = np.asarray(values).view(cls)
        found.fingerprint = fingerprint
        found.label_names = None if label_names is None else tuple(label_names)
        return found

    def __array_finalize__(self, source: Any) -> None:
        self.fingerprint = getattr(source, "fingerprint", None)
        self.label_names = getattr(source, "label_names", None)

    def __reduce__(self) -> Any:
        rebuild, args, state = tuple(super().__reduce__())
        return rebuild, args, (self.fingerprint, self.label_names, state)

    def __setstate__(self, state: Any) -> None:
        self.fingerprint, self.label_names = state[:2]
        super().__setstate__(state[2])

    def __setitem__(self, key: Any, value: Any) -> None:
        common_space(self, value)
        super().__setitem__(key, value)

    def __array_ufunc__(
        self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **kwargs: Any
    ) -> Any:
        space = (
            (None, None)
            if ufunc.__name__ in QUESTIONS
            else common_space(*inputs, *(out or ()))  # before anything is written
        )
        if out is not None:
            kwargs["out"] = tuple(_plain(value) for value in out)
        found = getattr(ufunc, method)(*map(_plain, inputs), **kwargs)
        if out is not None:
            return out[0] if len(out) == 1 else out
        if ufunc is np.matmul or ufunc.__name__ in QUESTIONS:
            return found
        return TaskVectors(found, *space) if isinstance(found, np.ndarray) else found

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func in COMPARING:
            return func(*map(_plain, args), **{k: _plain(v) for k, v in kwargs.items()})
        space = common_space(*_vectors_in(args), *_vectors_in(kwargs.values()))
        found = super().__array_function__(func, types, args, kwargs)
        if func in PRODUCTS:
            return _plain(found)
        if func in JOINING and isinstance(found, np.ndarray):
            known = list(_vectors_in(args[0]))
            return TaskVectors(found, *(space if len(known) == len(args[0]) else ()))
        return found

    def dot(self, other: Any, out: Any = None) -> Any:  # type: ignore[override]
        """Matrix product as a plain array; see `numpy.dot`.

        Parameters
        ----------
        other : array-like
            The second factor, of the same space where it knows its own.
        out : ndarray, optional
            Where to write the product.

        Returns
        -------
        product : ndarray or float
            The product, which is no embedding.
        """
        return np.dot(self, other, out)


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, TaskVectors) else value


def _vectors_in(values: Any) -> Iterator[TaskVectors]:
    """Vectors among arguments, also in lists of them."""
    for value in values:
        if isinstance(value, TaskVectors):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _vectors_in(value)


def common_space(*vectors: Any) -> tuple[str | None, tuple[str, ...] | None]:
    """Fingerprint and label names that vectors share; refused if they differ."""
    own = [v for v in vectors if isinstance(v, TaskVectors)]
    known = {v.fingerprint: v.label_names for v in own if v.fingerprint is not None}
    check_spaces(known)
    if any(v.fingerprint is None for v in own):
        return None, None
    return next(iter(known.items()), (None, None))


def space_of(vectors: Any) -> tuple[str | None, tuple[str, ...] | None]:
    """Return the known space of an array or of a list of vectors."""
    if isinstance(vectors, (list, tuple)):
        return common_space(*vectors)
    return common_space(vectors)


def check_spaces(spaces: Mapping[Any, tuple[str, ...] | None]) -> None:
    """Refuse embeddings of different spaces, by fingerprint with its label names."""
    known = {name: labels for name, labels in spaces.items() if name is not None}
    if len(known) < 2:
        return
    labels = sorted({names for names in known.values() if names is not None})
    if len(labels) > 1:
        raise FingerprintMismatchError(
            f"embeddings with a column for each label can only be compared where the "
            f"labels have the same names; here are {[list(n) for n in labels[:5]]}. "
            "Remedy: MTEWrapper(model, label_names={...}) where labels mean the same, "
            "MTEWrapper(model, classes=[...]) or Task(..., classes=[...]) where some "
            "did not occur, or target_encoding='text', which compares labels by their "
            "meaning."
        )
    raise FingerprintMismatchError(
        f"embeddings of different spaces {sorted(known)} cannot be compared: "
        "surrogate, embedder, its parameters (random_state too) and, for label-wise "
        "moment embeddings, the label names must be the same. Embed all of them with "
        "one embedder."
    )
