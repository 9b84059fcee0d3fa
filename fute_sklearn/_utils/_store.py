"""Cache of arrays on disk by hash of their input, with checksums, without pickles."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import struct
import tempfile
import tokenize
import uuid
import warnings
import zipfile
import zlib
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.lib.format import read_array

from ..exceptions import CacheUnavailableWarning, DamagedCacheWarning
from ._config import get_config
from ._stack_level import find_stack_level


def text_key(*parts: str) -> str:
    """Hash strings so that ("ab", "c") and ("a", "bc") differ."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Write to a temporary file and rename it, so that no partial file remains."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    finally:
        discard(partial)


# What a damaged or hostile file may raise when it is read.
UNREADABLE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,  # RecursionError too
    SyntaxError,  # of numpy's headers, as the next
    tokenize.TokenError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def read_file(path: Path) -> bytes:
    """Read a file of a cache or registry; raise ValueError for a pipe or a device."""
    # Not blocking, as no one may ever write to a pipe.
    opened = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        mode = os.fstat(opened).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(f"{path} is a folder")
        if not stat.S_ISREG(mode):
            raise ValueError("it is no file")
        with open(opened, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(opened)


def is_plain_file(path: Path) -> bool:
    """Return whether there is a file, and no pipe, device or folder."""
    return stat.S_ISREG(path.stat().st_mode)


def warn_damaged(path: Path, reason: object) -> None:
    """Warn about a damaged cache file and remove it."""
    warnings.warn(
        f"the cache file {path.name} is damaged ({reason}); it is removed and its "
        "content computed again",
        DamagedCacheWarning,
        stacklevel=3,
    )
    discard(path)


def discard(path: Path) -> None:
    """Remove a cache file, where that can be done."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


_usable: set[Path] = set()
_warned: set[Path] = set()


def usable_folder(folder: Path | None) -> Path | None:
    """Create a folder and return it, or None if it cannot be read and written.

    The first failure warns; later calls try again.
    """
    if folder is None:
        return None
    if folder not in _usable or not folder.is_dir():  # it may have been removed since
        try:
            if str(folder).startswith("~"):
                raise OSError("there is no home folder")
            for one in (*reversed(folder.parents), folder):  # all for its owner only
                one.mkdir(mode=0o700, exist_ok=True)
            os.listdir(folder)
            with tempfile.TemporaryFile(dir=folder):
                _usable.add(folder)
        except OSError as error:
            warn_unusable(folder, error)
            return None
    return folder


def cache_folder(name: str) -> Path | None:
    """Return a subfolder of the cache folder, or None if caches are off or unusable."""
    root = usable_folder(get_config()["cache_dir"])
    return None if root is None else root / name


def warn_unusable(folder: Path, error: object) -> None:
    """Warn, once per folder, that a cache folder cannot be used."""
    if folder not in _warned:
        _warned.add(folder)
        warnings.warn(
            f"the cache folder {folder} cannot be used ({error}); work goes on without "
            "it, and texts are encoded and models called again in later processes. "
            "Remedy: set_config(cache_dir=...) or the environment variable "
            "FUTE_SKLEARN_CACHE, with a folder that can be written; "
            "set_config(cache_dir=None) turns the caches off.",
            CacheUnavailableWarning,
            stacklevel=find_stack_level(),
        )


def with_checksum(body: bytes, key: str = "") -> bytes:
    """Prepend a line with the checksum of some bytes, and of what they are kept for."""
    header = json.dumps({"sha256": _checksum(body, key)})
    return header.encode() + b"\n" + body


def without_checksum(data: bytes, key: str = "") -> bytes:
    """Return the bytes after the line with their checksum; raise if it is another."""
    header, _, body = data.partition(b"\n")
    try:
        said = json.loads(header)["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError("its first line holds no checksum") from None
    if said != _checksum(body, key):
        raise ValueError("its checksum differs")
    return body


def _checksum(body: bytes, key: str) -> str:
    digest = hashlib.sha256(body)
    digest.update(key.encode())
    return digest.hexdigest()


class ArrayStore:
    """Store with one file per array: a line with the checksum, then npy bytes.

    If the folder is None, nothing is stored.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = usable_folder(folder)

    def get(self, key: str) -> np.ndarray | None:
        """Return the array of ``key``, or None if it is missing or damaged."""
        if self.folder is None:
            return None
        path = self.folder / f"{key}.array"
        try:
            body = io.BytesIO(without_checksum(read_file(path), key))
            return read_array(body, allow_pickle=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            warn_unusable(self.folder, error)
        except UNREADABLE as error:
            warn_damaged(path, error)
        return None

    def put(self, key: str, array: np.ndarray) -> None:
        """Store an array; warn, but do not raise, if the folder cannot be written."""
        if self.folder is None:
            return
        body = io.BytesIO()
        np.save(body, array, allow_pickle=False)
        try:
            write_atomically(
                self.folder / f"{key}.array", with_checksum(body.getvalue(), key)
            )
        except OSError as error:
            warn_unusable(self.folder, error)


def texts_key(texts: Iterable[str]) -> str:
    """Hash a sequence of texts."""
    return _texts_key(tuple(texts))


# Models of one zoo have labelled the same texts.
@lru_cache(maxsize=8)
def _texts_key(texts: tuple[str, ...]) -> str:
    return text_key(*texts)
