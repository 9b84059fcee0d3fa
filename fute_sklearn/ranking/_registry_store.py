"""The models of a registry: what there is, what other processes change, versions."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..exceptions import ModelChangedError
from ..tasks._validation import label_name
from ._registry_answers import RegistryAnswers
from ._registry_files import Entry, RegistryFiles
from ._segments import Segment, Segments

CATALOGUE = "catalogue"
SHOWN = 5


class RegistryStore:
    """Entries of a registry, as they are in its folder at every call."""

    def __init__(self, folder: Path, texts: Sequence[str] | None) -> None:
        self._files = RegistryFiles(folder, texts)
        self.texts = self._files.texts
        self.lock = self._files.lock
        self._catalogue = Segments(folder / CATALOGUE)
        self._listed: dict[str, Entry] = {}
        self._entries: dict[str, Entry] = {}
        self._latest: dict[str, str] = {}
        self._label_names: dict[str, tuple[str, ...]] = {}
        self._seen: set[str] | None = None
        self._thread_lock = threading.RLock()

    def entries(self) -> dict[str, Entry]:
        """Return the entries by file."""
        with self._thread_lock:
            names = self._files.names()
            if names != self._seen:
                self._entries = self._read(names)
                self._latest = _latest(self._entries)
                self._seen = names
            return self._entries

    def _read(self, names: set[str]) -> dict[str, Entry]:
        if names - self._listed.keys():
            for segment in self._catalogue.new():
                self._listed |= {row[0]: Entry.of(row[1]) for row in segment.rows}
        new = {}
        for name in sorted(names - self._listed.keys()):
            if (found := self._files.read(name)) is not None:
                new[name] = found[0]
        if new:
            rows = [[name, entry.record] for name, entry in new.items()]
            self._catalogue.add(Segment("entries", rows, None))
            self._listed |= new
        known = {n: self._listed[n] for n in names if n in self._listed}
        # A change that was cut short leaves the file from before it.
        last: dict[str, int] = {}
        for entry in known.values():
            last[entry.id] = max(entry.revision, last.get(entry.id, 0))
        return {n: e for n, e in known.items() if e.revision == last[e.id]}

    def latest(self) -> dict[str, str]:
        """Return the files of the models' latest versions, by name."""
        with self._thread_lock:
            self.entries()
            return self._latest

    def file_of(self, name: str) -> str:
        """Return the file of a model's latest version; KeyError if there is none."""
        latest = self.latest()
        if name not in latest:
            shown = ", ".join(map(repr, list(latest)[:SHOWN]))
            more = ", ..." if len(latest) > SHOWN else ""
            raise KeyError(
                f"there is no model {name!r}; the registry has {len(latest)}: "
                f"{shown}{more}"
            )
        return latest[name]

    def entry(self, file: str) -> Entry:
        """Return what is known of a model's file, also if it is gone by now."""
        return self._listed[file]

    def label_names(self, file: str) -> tuple[str, ...]:
        """Names of a model's labels."""
        if file not in self._label_names:
            self._label_names[file] = tuple(map(label_name, self._listed[file].labels))
        return self._label_names[file]

    def find(self, file: str) -> RegistryAnswers | None:
        """Return a model's answers; None if they are damaged or gone."""
        found = self._files.read(file)
        return None if found is None else found[1]

    def answers(self, name: str, file: str | None = None) -> RegistryAnswers:
        """Return the answers of a model's latest version; KeyError if there is none.

        That was in ``file``, where given, but another process may have replaced it.
        """
        if file is not None and (known := self.find(file)) is not None:
            return known
        while True:
            file = self.file_of(name)
            if (found := self.find(file)) is not None:
                return found
            self._seen = None  # look again

    # Changes --------------------------------------------------------------------

    def versions(self, name: str) -> dict[str, Entry]:
        """Return all versions of a model, by file."""
        return {f: e for f, e in self.entries().items() if e.name == name}

    def holds(
        self, name: str, identity: str, may_change: bool, metadata: dict[str, Any]
    ) -> bool:
        """Whether a model is there, after an update of its metadata.

        Another one of its name is an error, unless it ``may_change``.
        """
        with self.lock:
            file = self.latest().get(name)
            if file is None:
                return False
            known = self._listed[file]
            if known.identity == identity:
                if self.find(file) is None:  # damaged, and set aside
                    return False
                if metadata and any(
                    key not in known.metadata or known.metadata[key] != value
                    for key, value in metadata.items()
                ):
                    self._rewrite(file, metadata={**known.metadata, **metadata})
                return True
        if may_change:
            return False
        raise ModelChangedError(
            f"the registry has another model {name!r}, of {known.created}; give "
            "if_changed='version' to add this one as its next version, or another "
            "name, or remove the old one first."
        )

    def write(self, entry: Entry, answers: RegistryAnswers, may_change: bool) -> None:
        """Add a model as the next version of its name, unless it is there already."""
        with self.lock:
            if self.holds(entry.name, entry.identity, may_change, entry.metadata):
                return
            known = [e.version for e in self.versions(entry.name).values()]
            version = max(known, default=0) + 1
            self._files.write(replace(entry, version=version), answers)

    def left_out(self, name: str, identity: str) -> np.ndarray:
        """Return the places of texts that a model has not answered, if it is there."""
        with self.lock:
            file = self._file(name, identity)
            found = None if file is None else self.find(file)
            return np.flatnonzero([] if found is None else found.abstained)

    def fill(
        self, name: str, identity: str, rows: np.ndarray, answers: RegistryAnswers
    ) -> None:
        """Add answers to the texts of some rows, where a model has none."""
        with self.lock:
            file = self._file(name, identity)
            known = None if file is None else self.find(file)
            if file is None or known is None:  # removed meanwhile
                return
            new = known.filled(rows, answers)
            if new.abstained.sum() < known.abstained.sum():
                share = float(new.abstained.mean())
                self._rewrite(file, new, labels=[*new.labels], abstained=share)

    def _file(self, name: str, identity: str) -> str | None:
        """Return the latest file of a model, if it is the one that is meant."""
        file = self.latest().get(name)
        return file if file and self._listed[file].identity == identity else None

    def _rewrite(
        self, file: str, answers: RegistryAnswers | None = None, **changes: Any
    ) -> None:
        found = self._files.read(file)
        if found is not None:
            entry, known = found
            entry = replace(entry, revision=entry.revision + 1, **changes)
            self._files.write(entry, known if answers is None else answers)
            self._files.remove(file)

    def _in_order(self, name: str) -> list[str]:
        """Return the files of a model's versions, the latest one last.

        What is done to them in this order can be done again if it was cut short, as
        the model is there until its last one.
        """
        found = self.versions(name)
        return sorted(found, key=lambda file: found[file].version)

    def remove(self, name: str) -> None:
        """Remove all versions of a model."""
        with self.lock:
            self.file_of(name)
            for file in self._in_order(name):
                self._files.remove(file)

    def rename(self, name: str, new_name: str) -> None:
        """Rename all versions of a model."""
        with self.lock:
            self.file_of(name)
            left = self._in_order(name)
            last = self._listed[left[-1]].id
            # Of the same model, where a renaming was cut short.
            if any(e.was != last for e in self.versions(new_name).values()):
                raise ValueError(f"there is a model {new_name!r} already.")
            for file in left:
                self._rewrite(file, name=new_name, was=last)


def _latest(entries: dict[str, Entry]) -> dict[str, str]:
    out: dict[str, str] = {}
    for file, entry in entries.items():
        known = out.get(entry.name)
        if known is None or entries[known].version < entry.version:
            out[entry.name] = file
    return dict(sorted(out.items()))
