"""Rows that are kept in immutable files, as JSON lines with an array beside them."""

from __future__ import annotations

import json
import os
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .._utils._store import (
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

MOST_FILES = 64  # more segments are merged, the smallest ones first
SUFFIX = ".jsonl"


@dataclass(frozen=True, eq=False)
class Segment:
    """Some rows: values that JSON can hold, and an array with as many rows."""

    kind: Any
    rows: list[Any]
    array: np.ndarray | None


class Segments:
    """Rows in a folder that several processes add to.

    A segment has a ``kind``, and only segments of a kind are merged.  All of it can be
    computed again, so that damaged files are removed with a warning, and a folder that
    cannot be written is done without.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = usable_folder(folder)
        self._known: dict[Path, Segment] = {}

    def new(self) -> list[Segment]:
        """Return the segments that were added since the last call."""
        if self.folder is None:
            return []
        found = []
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            if path not in self._known and (segment := self._read(path)) is not None:
                self._known[path] = segment
                found.append(segment)
        return found

    def _read(self, path: Path) -> Segment | None:
        try:
            body = without_checksum(read_file(path))
            head, *lines = body.decode().split("\n")[:-1]
            header = json.loads(head)
            rows = [json.loads(line) for line in lines]
            array = None
            if header["crc"] is not None:
                if not is_plain_file(path.with_suffix(".npy")):
                    raise ValueError("its array is no file")
                array = np.load(path.with_suffix(".npy"), mmap_mode="r")
                if len(array) != len(rows) or _crc(array) != header["crc"]:
                    raise ValueError("its array is another")
            return Segment(header["kind"], rows, array)
        except FileNotFoundError:  # another process has merged it
            return None
        except OSError as error:
            warn_unusable(path.parent, error)
            return None
        except UNREADABLE as error:
            warn_damaged(path, error)
            discard(path.with_suffix(".npy"))
            return None

    def add(self, segment: Segment) -> None:
        """Write a segment; merge the smallest ones of its kind if there are many."""
        if self.folder is None:
            return
        try:
            self._write(segment)
            alike = [p for p, s in self._known.items() if s.kind == segment.kind]
            if len(alike) > MOST_FILES:
                alike.sort(key=lambda path: len(self._known[path].rows))
                self._merge(alike[:-1])
        except OSError as error:
            warn_unusable(self.folder, error)

    def _write(self, segment: Segment) -> None:
        assert self.folder is not None
        path = self.folder / f"{uuid.uuid4().hex}{SUFFIX}"
        crc = None
        if segment.array is not None:
            crc = _crc(segment.array)
            partial = path.with_suffix(".partial")
            with open(partial, "wb") as file:
                np.save(file, segment.array, allow_pickle=False)
            os.replace(partial, path.with_suffix(".npy"))
        header = {"kind": segment.kind, "crc": crc}
        lines = [json.dumps(one) for one in (header, *segment.rows)]
        body = "".join(f"{line}\n" for line in lines)
        write_atomically(path, with_checksum(body.encode()))
        self._known[path] = segment

    def _merge(self, paths: list[Path]) -> None:
        parts = [self._known[path] for path in paths]
        rows = [row for part in parts for row in part.rows]
        arrays = [part.array for part in parts if part.array is not None]
        array = np.concatenate(arrays) if arrays else None
        self._write(Segment(parts[0].kind, rows, array))
        for path in paths:
            # Whoever has a file open keeps what is in it.
            self._known.pop(path)
            path.unlink(missing_ok=True)
            path.with_suffix(".npy").unlink(missing_ok=True)


def _crc(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data)
