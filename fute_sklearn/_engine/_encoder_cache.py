"""Cache of encoder states on disk: immutable, memory-mapped segments with checksums.

A segment is a ``.states`` file with the bytes of the token states of some texts, and an
``.index`` file, which is written last and says what they are.  Segments are never
changed, so that several processes can use one folder, and a killed process leaves at
most a file without an index.  Small segments are merged, as every memory map keeps a
file open.
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from fute_sklearn._utils._cache_files import note_written
from fute_sklearn._utils._store import (
    UNREADABLE,
    discard,
    is_plain_file,
    read_file,
    usable_folder,
    warn_damaged,
    warn_unusable,
    with_checksum,
    without_checksum,
    write_atomically,
)

MAPPED_BYTES = 2**20  # smaller segments are loaded
SMALL_BYTES = 2**26  # smaller segments are merged, once there are more than MOST_SMALL
MOST_SMALL = 32
STALE_SECONDS = 24 * 3600


@dataclass(frozen=True)
class _Segment:
    """What an index says of its segment: type, width, and the place of each text."""

    path: Path
    dtype: np.dtype
    width: int
    lengths: Sequence[int]
    checks: Sequence[int]
    starts: np.ndarray

    @property
    def data(self) -> Path:
        return self.path.with_suffix(".states")

    @property
    def n_bytes(self) -> int:
        return int(self.starts[-1]) * self.width * self.dtype.itemsize

    def load(self) -> np.ndarray:
        """Return the rows of all texts."""
        if not is_plain_file(self.data) or self.data.stat().st_size != self.n_bytes:
            raise ValueError("its size differs")
        flat: np.ndarray
        if self.n_bytes > MAPPED_BYTES:
            # As a plain array: to cut a memory map costs as much as to read a text.
            flat = np.asarray(np.memmap(self.data, self.dtype, mode="r"))
        else:
            flat = np.fromfile(self.data, self.dtype)
        return flat.reshape(-1, self.width)


def _segment_of(path: Path, record: dict[str, Any]) -> _Segment:
    """Return what an index says; raise if that cannot be."""
    keys, lengths, checks = (record[name] for name in ("keys", "lengths", "checks"))
    dtype, width = np.dtype(record["dtype"]), record["width"]
    numbers = [width, *lengths, *checks]
    if not all(type(one) is int and 0 <= one < 2**62 for one in numbers):
        raise ValueError("its sizes are no numbers")
    if not all(isinstance(key, str) for key in keys) or dtype.kind not in "fi":
        raise ValueError("its names or its type are others")
    if not width or not len(keys) == len(lengths) == len(checks):
        raise ValueError("its sizes do not agree")
    return _Segment(path, dtype, width, lengths, checks, np.cumsum([0, *lengths]))


class _FolderIndex:
    """The segments of a folder, read once per process and followed as they change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.where: dict[str, tuple[_Segment, int]] = {}
        self.segments: dict[str, tuple[_Segment, list[str]]] = {}
        self.lock = threading.RLock()

    def refresh(self) -> None:
        """Read the indexes that are new; forget those that are gone."""
        with self.lock:
            names = {
                one.name
                for one in os.scandir(self.folder)
                if one.name.endswith(".index")
            }
            for name in set(self.segments) - names:
                self.forget(self.segments[name][0])
            for name in sorted(names - set(self.segments)):
                self._read(self.folder / name)

    def _read(self, path: Path) -> None:
        try:
            record = json.loads(without_checksum(read_file(path), path.name))
            self.add(_segment_of(path, record), record["keys"])
        except FileNotFoundError:  # another process has just removed it
            return
        except OSError as error:
            warn_unusable(self.folder, error)
        except UNREADABLE as error:
            warn_damaged(path, error)
            discard(path.with_suffix(".states"))

    def add(self, segment: _Segment, keys: list[str]) -> None:
        """Take up a segment."""
        with self.lock:
            self.segments[segment.path.name] = segment, keys
            self.where.update((key, (segment, row)) for row, key in enumerate(keys))

    def forget(self, segment: _Segment) -> None:
        """Leave out a segment."""
        with self.lock:
            _, keys = self.segments.pop(segment.path.name, (None, []))
            for key in keys:
                if self.where.get(key, (None,))[0] is segment:
                    del self.where[key]


_indexes: dict[Path, _FolderIndex] = {}


def _index_of(folder: Path) -> _FolderIndex:
    return _indexes.setdefault(folder, _FolderIndex(folder))


class EncoderCache:
    """Cache of token states by text hash.

    Whatever is wrong with its files, states are missing and one warning is given; work
    goes on without them.

    Parameters
    ----------
    folder : Path or None
        Folder of one surrogate's segments; None keeps everything in memory for the
        life of this object only.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = usable_folder(folder)
        self._open: dict[Path, np.ndarray] = {}
        self._kept: dict[str, np.ndarray] = {}
        self._index: _FolderIndex | None = None
        if self.folder is not None:
            self._index = _index_of(self.folder)
            self._refresh()

    def _refresh(self) -> None:
        assert self._index is not None
        try:
            self._index.refresh()
        except OSError as error:
            warn_unusable(self._index.folder, error)

    def get(self, key: str) -> np.ndarray | None:
        """Return (n_tokens, width) states, or None if they are missing or damaged."""
        if key not in self._kept and self._index is not None:
            for again in (False, True):
                place = self._index.where.get(key)
                if place is None:
                    return None
                try:
                    self._kept[key] = self._rows(key, *place)
                    break
                except FileNotFoundError:  # merged or removed by another process
                    self._index.forget(place[0])
                    if not again:
                        self._refresh()
                except OSError as error:
                    warn_unusable(self._index.folder, error)
                    self._index.forget(place[0])
                    return None
                except ValueError as error:
                    self._discard(place[0], error)
        return self._kept.get(key)

    def _rows(self, key: str, segment: _Segment, row: int) -> np.ndarray:
        if segment.path not in self._open:
            self._open[segment.path] = segment.load()
            with suppress(OSError):  # what is used last is removed last
                os.utime(segment.path)
        start, end = segment.starts[row : row + 2]
        found = self._open[segment.path][start:end]
        if _check(key, found) != segment.checks[row]:
            raise ValueError("its checksum differs")
        return found

    def _discard(self, segment: _Segment, error: Exception) -> None:
        assert self._index is not None
        warn_damaged(segment.data, error)
        discard(segment.path)
        self._open.pop(segment.path, None)
        self._index.forget(segment)

    def kept(self, key: str) -> np.ndarray:
        """Return states that `get` returned or `put` stored before."""
        return self._kept[key]

    def put(self, states: dict[str, np.ndarray]) -> None:
        """Store new states on disk.

        This object keeps returning them even if the files are removed.
        """
        self._kept.update(states)
        if self._index is None or not states:
            return
        try:
            checks = [_check(key, rows) for key, rows in states.items()]
            segment = self._write(list(states), list(states.values()), checks)
            rows = self._open[segment.path] = segment.load()
            # Memory maps take the place of what was computed.
            for i, key in enumerate(states):
                self._kept[key] = rows[segment.starts[i] : segment.starts[i + 1]]
            self._merge_small()
            note_written(segment.n_bytes)
        except (OSError, ValueError) as error:
            warn_unusable(self._index.folder, error)

    def _write(
        self, keys: list[str], blocks: list[np.ndarray], checks: list[int]
    ) -> _Segment:
        """Write a segment; nothing of it stays if that fails."""
        assert self._index is not None
        path = self._index.folder / f"{uuid.uuid4().hex}.index"
        data, partial = path.with_suffix(".states"), path.with_suffix(".partial")
        dtype, width = blocks[0].dtype, blocks[0].shape[1]
        lengths = [len(block) for block in blocks]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(partial, "wb") as file:
                for block in blocks:
                    file.write(np.ascontiguousarray(block).data)
            os.replace(partial, data)
            record = {
                "dtype": dtype.str,
                "width": width,
                "keys": keys,
                "lengths": lengths,
                "checks": checks,
            }
            body = json.dumps(record).encode()
            write_atomically(path, with_checksum(body, path.name))
        except BaseException:
            for one in (partial, data):
                discard(one)
            raise
        starts = np.cumsum([0, *lengths])
        segment = _Segment(path, dtype, width, lengths, checks, starts)
        self._index.add(segment, keys)
        return segment

    def _merge_small(self) -> None:
        """Write small segments as one, unless another process is doing so."""
        assert self._index is not None
        small = [
            segment
            for segment, _ in list(self._index.segments.values())
            if segment.n_bytes < SMALL_BYTES
        ]
        if len(small) <= MOST_SMALL:
            return
        try:
            with FileLock(self._index.folder / "merge.lock", timeout=0):
                self._refresh()
                self._merge([one for one in small if one.path.exists()])
                self._remove_stale()
        except Timeout:
            return

    def _merge(self, segments: list[_Segment]) -> None:
        kinds = {(one.dtype, one.width) for one in segments}
        for kind in kinds:
            alike = [one for one in segments if (one.dtype, one.width) == kind]
            self._merge_alike(alike)

    def _merge_alike(self, segments: list[_Segment]) -> None:
        """Write what is sound of segments of one form as one."""
        assert self._index is not None
        found = [text for one in segments for text in self._sound(one)]
        if found:
            keys, blocks, checks = map(list, zip(*found, strict=True))
            merged = self._write(keys, blocks, checks)
            rows = self._open[merged.path] = merged.load()
            for i, key in enumerate(keys):
                if key in self._kept:  # its old rows keep a removed file open
                    self._kept[key] = rows[merged.starts[i] : merged.starts[i + 1]]
        for one in segments:
            self._open.pop(one.path, None)
            self._index.forget(one)
            discard(one.path)
            discard(one.data)

    def _sound(self, segment: _Segment) -> list[tuple[str, np.ndarray, int]]:
        """Return key, rows and checksum of sound texts that the index still has."""
        assert self._index is not None
        found = []
        try:
            rows = self._open.get(segment.path)
            rows = segment.load() if rows is None else rows
            _, keys = self._index.segments.get(segment.path.name, (None, []))
            for i, key in enumerate(keys):
                block = rows[segment.starts[i] : segment.starts[i + 1]]
                if self._index.where.get(key, (None,))[0] is segment:
                    found.append((key, block, segment.checks[i]))
        except FileNotFoundError:  # removed by another process
            return []
        except ValueError as error:
            warn_damaged(segment.data, error)
            return []
        sound = [one for one in found if _check(*one[:2]) == one[2]]
        if len(sound) < len(found):
            warn_damaged(segment.data, "checksums differ")
        return sound

    def _remove_stale(self) -> None:
        """Remove files that killed processes and earlier versions have left."""
        assert self._index is not None
        before = time.time() - STALE_SECONDS
        for path in self._index.folder.iterdir():
            known = path.suffix in (".index", ".lock")
            if path.suffix == ".states":
                known = path.with_suffix(".index").exists()
            with suppress(OSError):
                if not known and path.stat().st_mtime < before:
                    path.unlink()


def _check(key: str, rows: np.ndarray) -> int:
    """Return the checksum of a text's states, their form, and the text they are of."""
    form = f"{key} {rows.dtype.str} {rows.shape}"
    return zlib.crc32(np.ascontiguousarray(rows).data, zlib.crc32(form.encode()))
