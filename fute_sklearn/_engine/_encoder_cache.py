"""Cache of encoder states on disk: immutable, memory-mapped segments with checksums.

A segment is an ``.npy`` file with the token states of some texts and a ``.json``
index, which is written last.  Segments are never changed, so that several processes can
use one folder, and a killed process leaves at most a file without an index.
"""

from __future__ import annotations

import json
import os
import time
import uuid
import zlib
from pathlib import Path
from typing import Literal

import numpy as np

from fute_sklearn._utils._store import (
    usable_folder,
    warn_damaged,
    warn_unusable,
    write_atomically,
)

STALE_SECONDS = 24 * 3600
MAPPED_BYTES = 2**20


class EncoderCache:
    """Cache of token states by text hash.

    Parameters
    ----------
    folder : Path or None
        Folder of one surrogate's segments; None keeps everything in memory for the
        life of this object only.
    max_bytes : int
        Size at which the oldest segments are removed.
    """

    def __init__(self, folder: Path | None, max_bytes: int) -> None:
        self.folder = folder = usable_folder(folder)
        self.max_bytes = max_bytes
        self._where: dict[str, tuple[Path, int, int, int]] = {}
        self._open: dict[Path, np.ndarray] = {}
        self._kept: dict[str, np.ndarray] = {}
        if folder is not None:
            self._read_indexes(folder)

    def _read_indexes(self, folder: Path) -> None:
        for path in sorted(folder.glob("*.json")):
            try:
                records = json.loads(path.read_text(encoding="utf8"))
                for key, start, length, check in records:
                    self._where[key] = (path, int(start), int(length), int(check))
            except FileNotFoundError:  # another process has just removed it
                continue
            except OSError as error:
                warn_unusable(folder, error)
            except (ValueError, TypeError) as error:
                warn_damaged(path, error)

    def get(self, key: str) -> np.ndarray | None:
        """Return (n_tokens, width) states, or None if they are missing or damaged."""
        if key in self._kept:
            return self._kept[key]
        if key not in self._where:
            return None
        path, start, length, check = self._where[key]
        data = path.with_suffix(".npy")
        try:
            if path not in self._open:
                self._open[path] = self._load(data)
            found = self._open[path][start : start + length]
            if len(found) != length or zlib.crc32(found.tobytes()) != check:
                raise ValueError("its checksum differs")
        except FileNotFoundError:
            self._forget(path)
            return None
        except OSError as error:
            warn_unusable(path.parent, error)
            self._forget(path)
            return None
        except (ValueError, EOFError) as error:
            warn_damaged(data, error)
            path.unlink(missing_ok=True)
            self._forget(path)
            return None
        self._kept[key] = found
        return found

    def kept(self, key: str) -> np.ndarray:
        """Return states that `get` returned or `put` stored before."""
        return self._kept[key]

    @staticmethod
    def _load(data: Path) -> np.ndarray:
        # A memory map keeps its file open, so small segments are loaded instead.
        mode: Literal["r"] | None
        mode = "r" if data.stat().st_size > MAPPED_BYTES else None
        return np.load(data, mmap_mode=mode, allow_pickle=False)

    def _forget(self, path: Path) -> None:
        self._open.pop(path, None)
        self._where = {k: v for k, v in self._where.items() if v[0] != path}

    def put(self, states: dict[str, np.ndarray]) -> None:
        """Store new states on disk.

        This object keeps returning them even if the files are removed.
        """
        if self.folder is None or not states:
            self._kept.update(states)
            return
        records: list[tuple[str, int, int, int]] = []
        start = 0
        for key, rows in states.items():
            records.append((key, start, len(rows), zlib.crc32(rows.tobytes())))
            start += len(rows)
        path = self.folder / f"{uuid.uuid4().hex}.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            with open(partial, "wb") as file:
                np.save(file, np.concatenate(list(states.values())), allow_pickle=False)
            os.replace(partial, path.with_suffix(".npy"))
            write_atomically(path, json.dumps(records).encode())
            self._open[path] = self._load(path.with_suffix(".npy"))
            for key, first, length, _ in records:
                self._kept[key] = self._open[path][first : first + length]
            self._shrink()
        except OSError as error:
            self._kept.update(states)
            warn_unusable(self.folder, error)

    def _shrink(self) -> None:
        """Remove the oldest segments above the size limit, and old partial files."""
        assert self.folder is not None
        now, sizes = time.time(), []
        for path in self.folder.iterdir():
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue
            orphan = path.suffix == ".npy" and not path.with_suffix(".json").exists()
            if (path.suffix == ".partial" or orphan) and (
                now - stat.st_mtime > STALE_SECONDS
            ):
                path.unlink(missing_ok=True)
            elif path.suffix == ".npy":
                sizes.append((stat.st_mtime, stat.st_size, path))
        total = sum(size for _, size, _ in sizes)
        for _, size, path in sorted(sizes)[:-1]:
            if total <= self.max_bytes:
                return
            path.with_suffix(".json").unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            total -= size
