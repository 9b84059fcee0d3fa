"""Read and write embeddings with their row names as safetensors files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._utils._alignment import aligned_column, index_names
from .._utils._config import expanded
from .._utils._store import write_atomically
from ._names import check_names
from ._vectors import TaskVectors, space_of


def save_embeddings(
    path: str | os.PathLike[str], embeddings: Any, names: Sequence[str] | None = None
) -> None:
    """Save embeddings, their row names and the fingerprint of their space.

    Parameters
    ----------
    path : path-like
        File to write, in the safetensors format; an existing file is overwritten.
    embeddings : array-like (n, dim) of float
        Embeddings of one space.  The fingerprint is known for `TaskVectors` only.
    names : sequence of str, optional
        Distinct names of the rows; by default the index of a pandas table, else
        ``"model0"``, ``"model1"`` and so on.

    Raises
    ------
    FileNotFoundError
        If the folder of the file does not exist.
    TypeError
        If ``names`` is a str or a set.
    ValueError
        If embeddings are not a 2-D array of finite floats, or names are duplicated or
        of another number than the rows.
    FingerprintMismatchError
        If a list holds embeddings of different spaces.

    See Also
    --------
    load_embeddings : Reads the file.

    Examples
    --------
    >>> import tempfile, os
    >>> from fute_sklearn import TaskVectors, load_embeddings, save_embeddings
    >>> path = os.path.join(tempfile.mkdtemp(), "zoo.safetensors")
    >>> save_embeddings(path, TaskVectors([[1.0, 2.0]], "demo"), ["svm"])
    >>> vectors, names = load_embeddings(path)
    >>> names, vectors.fingerprint
    (['svm'], 'demo')
    """
    from safetensors.numpy import save

    array = np.ascontiguousarray(embeddings)
    if array.ndim != 2 or array.dtype.kind != "f":
        raise ValueError(
            f"embeddings have shape {array.shape} and type {array.dtype}; expected "
            "floats (n, dim). Put a single embedding in a list."
        )
    _check_finite(array)
    index = index_names(embeddings)
    if isinstance(names, (str, bytes)):
        raise TypeError(f"names={names!r}; expected a sequence, one name for each row.")
    names = index if names is None else aligned_column(names, index, "names")
    found = check_names(names, len(array))
    metadata = {"names": json.dumps(list(found))}
    fingerprint, label_names = space_of(embeddings)
    if fingerprint is not None:
        metadata["fingerprint"] = fingerprint
    if label_names is not None:
        metadata["label_names"] = json.dumps(label_names)
    if not (target := expanded(path)).absolute().parent.is_dir():
        raise FileNotFoundError(f"the folder {target.parent} does not exist.")
    metadata["sha256"] = _checksum(np.asarray(array), metadata)
    body = save({"embeddings": np.asarray(array)}, metadata=metadata)
    write_atomically(target, body)


def load_embeddings(path: str | os.PathLike[str]) -> tuple[TaskVectors, list[str]]:
    """Load embeddings, their row names and the fingerprint of their space.

    Parameters
    ----------
    path : path-like
        A file written by `save_embeddings`.

    Returns
    -------
    embeddings : TaskVectors (n, dim)
        The embeddings; their ``fingerprint`` is None if it was not known when saved.
    names : list of str
        Names of the rows.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file was not written by `save_embeddings`, or is damaged.

    See Also
    --------
    save_embeddings : Writes the file.

    Examples
    --------
    >>> import tempfile, os
    >>> from fute_sklearn import load_embeddings, save_embeddings
    >>> path = os.path.join(tempfile.mkdtemp(), "zoo.safetensors")
    >>> save_embeddings(path, [[1.0, 2.0]])
    >>> load_embeddings(path)[1]
    ['model0']
    """
    from safetensors import SafetensorError, safe_open

    unreadable = (SafetensorError, RecursionError, LookupError, TypeError, ValueError)

    path = expanded(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{path} {what}; expected a file of save_embeddings.")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            array = file.get_tensor("embeddings")
        if metadata.pop("sha256") != _checksum(array, metadata):
            raise ValueError("its checksum differs, so it is damaged")
        names = check_names(json.loads(metadata["names"]), len(array)).tolist()
        _check_finite(array)
        label_names = json.loads(metadata.get("label_names", "null"))
    except unreadable as error:
        raise ValueError(
            f"{path.name} is no file of save_embeddings: {error}"
        ) from error
    return TaskVectors(array, metadata.get("fingerprint"), label_names), names


def _check_finite(array: np.ndarray) -> None:
    if not np.isfinite(array).all():
        rows = np.flatnonzero(~np.isfinite(array).all(1)).tolist()
        raise ValueError(
            f"the embeddings of rows {rows[:10]} hold NaN or infinity; expected finite "
            "numbers."
        )


def _checksum(array: np.ndarray, metadata: dict[str, str]) -> str:
    """Return the checksum of everything a file says."""
    form = json.dumps([array.dtype.str, array.shape, metadata], sort_keys=True)
    digest = hashlib.sha256(form.encode())
    digest.update(array.tobytes())
    return digest.hexdigest()
