"""Content-addressed arrays on disk, checked on reading, never pickled."""

from __future__ import annotations

import atexit
import hashlib
import io
import json
import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np

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


_usable: set[Path] = set()
_warned: set[Path] = set()
_stand_in: list[Path] = []


def usable_folder(folder: Path | None) -> Path | None:
    """Return a folder that can be made, read and written, or else None.

    A folder is tried until it can be used, and warned about once.
    """
    if folder is None:
        return None
    if folder not in _usable:
        try:
            if str(folder).startswith("~"):
                raise OSError("there is no home folder")
            folder.mkdir(parents=True, exist_ok=True)
            os.listdir(folder)
            with tempfile.TemporaryFile(dir=folder):
                _usable.add(folder)
        except OSError as error:
            warn_unusable(folder, error)
            return None
    return folder


def cache_folder(name: str) -> Path | None:
    """Return a folder in the caches', or None where they are off or of no use."""
    root = usable_folder(get_config()["cache_dir"])
    return None if root is None else root / name


def warn_unusable(folder: Path, error: object) -> None:
    """Say once that a folder of caches cannot be used, and what to do."""
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


def answers_folder(folder: Path | None) -> Path | None:
    """Return where language models' answers are kept."""
    if folder is None or usable_folder(folder) is not None:
        return folder
    return stand_in_folder()


def stand_in_folder() -> Path:
    """Return a temporary folder that keeps answers while this process lives.

    Answers may have cost money, so that they are kept even without a usable cache.
    """
    if not _stand_in:
        _stand_in.append(Path(tempfile.mkdtemp(prefix="fute_sklearn-")))
        atexit.register(shutil.rmtree, _stand_in[0], ignore_errors=True)
    return _stand_in[0]


class ArrayStore:
    """One small file per array: a line with the checksum, then npy bytes.

    A store whose folder is None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = usable_folder(folder)

    def get(self, key: str) -> np.ndarray | None:
        """Return the array of ``key``, or None where there is no sound one."""
        if self.folder is None:
            return None
        path = self.folder / f"{key}.array"
        try:
            header, _, body = path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        except OSError as error:
            warn_unusable(self.folder, error)
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
            warn_unusable(self.folder, error)


def texts_key(texts: Iterable[str]) -> str:
    """Hash a sequence of texts."""
    return text_key(*texts)
