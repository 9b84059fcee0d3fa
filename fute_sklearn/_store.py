"""Content-addressed arrays on disk, checked on reading, never pickled."""

from __future__ import annotations

import hashlib
import io
import json
import os
import uuid
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .exceptions import DamagedCacheWarning


def text_key(*parts: str) -> str:
    """Hash strings so that ("ab", "c") and ("a", "bc") differ."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Write so that a kill leaves no half-written file under the final name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def warn_damaged(path: Path, reason: object) -> None:
    """Remove a damaged cache file and say that its content is computed again."""
    warnings.warn(
        f"the cache file {path.name} is damaged ({reason}); it is removed and its "
        "content computed again",
        DamagedCacheWarning,
        stacklevel=3,
    )
    path.unlink(missing_ok=True)


class ArrayStore:
    """One small file per array: a line with the checksum, then npy bytes.

    A store whose folder is None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def get(self, key: str) -> np.ndarray | None:
        """Return the array of ``key``, or None where there is no sound one."""
        if self.folder is None:
            return None
        path = self.folder / f"{key}.array"
        try:
            header, _, body = path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        try:
            if json.loads(header)["sha256"] != hashlib.sha256(body).hexdigest():
                raise ValueError("its checksum differs")
            return np.load(io.BytesIO(body), allow_pickle=False)
        except (ValueError, KeyError, TypeError, EOFError) as error:
            warn_damaged(path, error)
            return None

    def put(self, key: str, array: np.ndarray) -> None:
        """Keep ``array``; a store that cannot be written stays silent but warns."""
        if self.folder is None:
            return
        body = io.BytesIO()
        np.save(body, array, allow_pickle=False)
        header = json.dumps({"sha256": hashlib.sha256(body.getvalue()).hexdigest()})
        try:
            write_atomically(
                self.folder / f"{key}.array",
                header.encode() + b"\n" + body.getvalue(),
            )
        except OSError as error:
            warnings.warn(f"the cache cannot be written: {error}", stacklevel=2)


def texts_key(texts: Iterable[str]) -> str:
    """Hash a sequence of texts."""
    return text_key(*texts)
