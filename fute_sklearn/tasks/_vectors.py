"""Arrays of task embeddings that carry the fingerprint of their space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..exceptions import FingerprintMismatchError

# Functions whose result holds the rows of all inputs and thus keeps their space.
JOINING = (np.concatenate, np.stack, np.vstack)
# Functions and ufuncs with boolean results, allowed between different spaces.
COMPARING: tuple[Any, ...] = (np.array_equal, np.array_equiv, np.allclose, np.isclose)
COMPARING += (np.shares_memory, np.may_share_memory)
QUESTIONS = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal"}
QUESTIONS |= {"isfinite", "isnan", "isinf", "signbit", "logical_not"}
# Functions whose results are not embeddings, so that they lose the fingerprint.
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
    """Array of task embeddings with the fingerprint of their space.

    A subclass of `numpy.ndarray`.  Only embeddings of the same space can be compared;
    the fingerprint is a hash of all that determines the space, which depends on the
    embedder.  Slices, and results of arithmetic with numbers, plain arrays and vectors
    of the same space, keep it; results that are not embeddings, such as matrix
    products, are plain arrays.

    Parameters
    ----------
    values : array-like (dim,) or (n, dim)
        One embedding or several.
    fingerprint : str or None, default=None
        Identifier of the space.  None means unknown: such vectors are not checked.
    label_names : sequence of str or None, default=None
        Label names of the columns, in a space with one column (or block of columns)
        per label; None in other spaces.

    Attributes
    ----------
    fingerprint : str or None
        Identifier of the space.
    label_names : tuple of str or None
        Label names of the columns.

    Raises
    ------
    FingerprintMismatchError
        By arithmetic or assignment between vectors of different spaces.

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
        """Compute the dot product as a plain array; see `numpy.dot`.

        Parameters
        ----------
        other : array-like
            The second factor.
        out : ndarray, optional
            Array to write the product to; by default a new one.

        Returns
        -------
        product : ndarray or float
            The product, without a fingerprint.

        Raises
        ------
        FingerprintMismatchError
            If ``other`` belongs to another space.
        """
        return np.dot(self, other, out)


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, TaskVectors) else value


def _vectors_in(values: Any) -> Iterator[TaskVectors]:
    """Yield the TaskVectors among arguments, also those in lists and tuples."""
    for value in values:
        if isinstance(value, TaskVectors):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _vectors_in(value)


def common_space(*vectors: Any) -> tuple[str | None, tuple[str, ...] | None]:
    """Return the fingerprint and label names of vectors; raise if they differ."""
    own = [v for v in vectors if isinstance(v, TaskVectors)]
    known = {v.fingerprint: v.label_names for v in own if v.fingerprint is not None}
    check_spaces(known)
    if any(v.fingerprint is None for v in own):
        return None, None
    return next(iter(known.items()), (None, None))


def space_of(vectors: Any) -> tuple[str | None, tuple[str, ...] | None]:
    """Return fingerprint and label names of an array, or of a list of vectors."""
    if isinstance(vectors, (list, tuple)):
        return common_space(*vectors)
    return common_space(vectors)


def check_spaces(spaces: Mapping[Any, tuple[str, ...] | None]) -> None:
    """Raise FingerprintMismatchError unless all known fingerprints are the same."""
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
        "surrogate, embedder, its parameters (random_state too), the reference texts "
        "and, for label-wise moment embeddings, the label names must be the same. "
        "Embed all of them with one embedder; in another process with a fitted "
        "TaskVectorizer that was pickled, or MomentEmbedder(reference=models' texts)."
    )
