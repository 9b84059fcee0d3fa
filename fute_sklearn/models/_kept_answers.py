"""Answers of one model by text, kept in memory and on disk as they come."""

from __future__ import annotations

import hashlib
import io
import os
import time
import uuid
import warnings
import weakref
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .._utils._cache_files import note_written
from .._utils._stack_level import find_stack_level
from .._utils._store import (
    UNREADABLE,
    cache_folder,
    discard,
    read_file,
    text_key,
    usable_folder,
    warn_damaged,
    warn_unusable,
    with_checksum,
    without_checksum,
    write_atomically,
)
from ..exceptions import UnknownModelWarning
from ._content_hash import content_hash, content_mark
from ._model_answers import ModelAnswers, joined

MOST_FILES = 64  # more files of one model are merged when they are read
WAIT = 0.02  # seconds for which answers may lie in memory only


class KeptAnswers:
    """Answers of one model by text.

    Every text has an answer of its own, so that other texts, or the same ones in
    another order, do not call the model again for those it has answered.

    Parameters
    ----------
    folder : path or None
        Folder of this model's answers; None keeps them in memory only.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = usable_folder(folder)
        self._found: dict[str, tuple[Any, tuple[str, ...]]] = {}
        self._new: list[tuple[list[str], ModelAnswers]] = []
        self._flushed = time.monotonic()
        if self.folder is not None:
            self._read(self.folder)

    def __contains__(self, key: str) -> bool:
        return key in self._found

    def add(
        self, keys: Sequence[str], answers: ModelAnswers, passing: bool = False
    ) -> None:
        """Add the answers to some texts; write them unless that was done just now.

        Abstentions that are ``passing`` are for this object only.
        """
        self._remember(keys, answers)
        if passing and answers.abstained.any():
            rows = np.flatnonzero(~answers.abstained).tolist()
            keys = [keys[i] for i in rows]
            answers = ModelAnswers(
                answers.values[rows], answers.names, answers.abstained[rows]
            )
        if self.folder is not None and len(keys):
            self._new.append((list(keys), answers))
            if time.monotonic() - self._flushed > WAIT:
                self.flush()

    def flush(self) -> None:
        """Write what is not yet on disk; warn, but do not raise, if that fails."""
        if self._new and self.folder is not None:
            for keys, answers in _merged(self._new):
                self._write(keys, answers)
            self._new.clear()
        self._flushed = time.monotonic()

    def gather(self, keys: Sequence[str], fill: bool = False) -> ModelAnswers:
        """Return the answers to some texts; ``fill`` as in `joined`."""
        return joined([self._found[key] for key in keys], fill)

    def _remember(self, keys: Sequence[str], answers: ModelAnswers) -> None:
        rows = answers.values if answers.values.ndim == 2 else answers.values.tolist()
        for key, row, none in zip(keys, rows, answers.abstained, strict=True):
            self._found[key] = (None if none else row), answers.names

    def _write(self, keys: list[str], answers: ModelAnswers) -> bool:
        """Write a file; warn and return False if that fails."""
        assert self.folder is not None
        body = io.BytesIO()
        np.savez(
            body,
            keys=np.array(keys),
            values=answers.values,
            abstained=answers.abstained,
            names=np.array(answers.names, dtype=str),
        )
        # A name of its own, so that processes with the same model do not collide.
        path = self.folder / f"{uuid.uuid4().hex}.answers"
        try:
            write_atomically(path, with_checksum(body.getvalue()))
            note_written(len(body.getvalue()))
        except OSError as error:
            warn_unusable(self.folder, error)
            return False
        return True

    def _read(self, folder: Path) -> None:
        paths = sorted(folder.glob("*.answers"))
        parts = []
        for path in paths:
            try:
                part = _read_file(path)
                with suppress(OSError):  # what is used last is removed last
                    os.utime(path)
            except FileNotFoundError:  # merged by another process
                continue
            except OSError as error:
                warn_unusable(folder, error)
                continue
            except UNREADABLE as error:
                warn_damaged(path, error)
                continue
            self._remember(*part)
            parts.append(part)
        if len(paths) > MOST_FILES:
            # The parts stay unless all of them are in the merged files.
            if all(self._write(*part) for part in _merged(parts)):
                for path in paths:
                    discard(path)


def _read_file(path: Path) -> tuple[list[str], ModelAnswers]:
    body = io.BytesIO(without_checksum(read_file(path)))
    with zipfile.ZipFile(body) as packed:
        if any(one.compress_type != zipfile.ZIP_STORED for one in packed.infolist()):
            raise ValueError("it is compressed, as none of these files is")
    with np.load(body, allow_pickle=False) as file:
        keys, names = file["keys"].tolist(), tuple(file["names"].tolist())
        answers = ModelAnswers(file["values"], names, file["abstained"])
    sizes = {len(keys), len(answers.values), len(answers.abstained)}
    forms = answers.values.ndim in (1, 2) and answers.abstained.ndim == 1
    if len(sizes) != 1 or not forms or not all(isinstance(key, str) for key in keys):
        raise ValueError("its parts do not agree")
    return keys, answers


def _merged(
    parts: Sequence[tuple[list[str], ModelAnswers]],
) -> list[tuple[list[str], ModelAnswers]]:
    """Concatenate the parts that have the same form."""
    forms: dict[Any, list[tuple[list[str], ModelAnswers]]] = {}
    for keys, answers in parts:
        values = answers.values
        form = (values.dtype.kind, values.shape[1:], answers.names)
        forms.setdefault(form, []).append((keys, answers))
    return [
        (
            [key for keys, _ in some for key in keys],
            ModelAnswers(
                np.concatenate([answers.values for _, answers in some]),
                some[0][1].names,
                np.concatenate([answers.abstained for _, answers in some]),
            ),
        )
        for some in forms.values()
    ]


def answers_of(identity: str, *settings: str) -> KeptAnswers:
    """Open the answers of a model that is known by a fingerprint or a hash."""
    root = cache_folder("predictions")
    return KeptAnswers(root and root / text_key(identity, *settings))


def answer_key(content: str) -> str:
    """Name the answer to a text."""
    return hashlib.sha256(content.encode("utf8", "surrogatepass")).hexdigest()


@dataclass
class InMemory:
    """Answers of a model that this process alone can tell from others.

    ``held`` is the model or a reference to it, ``by_mark`` its answers by its content,
    ``parts`` what counts by its address there.
    """

    held: Any
    by_mark: dict[str, KeptAnswers] = field(default_factory=dict)
    parts: dict[int, Any] = field(default_factory=dict)

    def keep(self, parts: list[Any]) -> None:
        """Keep parts, so that their addresses are not given to others."""
        self.parts |= {id(part): part for part in parts if part is not self.model()}

    def model(self) -> Any:
        """Return the model, or None if it is gone."""
        return self.held() if isinstance(self.held, weakref.ref) else self.held


_of_process: dict[int, InMemory] = {}


def answers_in_memory(model: Any) -> tuple[InMemory, bool]:
    """Return what is known of a model, and whether it is seen for the first time."""
    place = id(model)
    known = _of_process.get(place)
    if known is not None and known.model() is model:
        return known, False
    try:
        held = weakref.ref(model, lambda _: _of_process.pop(place, None))
    except TypeError:  # it stays as long as its answers
        held = model
    _of_process[place] = InMemory(held)
    return _of_process[place], True


@contextmanager
def kept_answers(
    model: Any, name: str, hashed: Any, mark: str | None, settings: Sequence[str]
) -> Iterator[KeptAnswers]:
    """Open the answers that a model gave before, when asked with the same settings.

    Without a mark it is known by the content of what is hashed; where that cannot be
    told, its answers are kept for this process, by what it holds now.
    """
    content = None if mark is not None else content_hash(hashed)
    if mark is not None:
        yield answers_of(f"fingerprint:{mark}", *settings)
    elif content is not None:
        yield answers_of(f"hash:{content}", *settings)
    else:
        known, new = answers_in_memory(model)
        if new:
            _tell_unknown(name)
        content, parts = content_mark(hashed)
        known.keep(parts)
        kept = known.by_mark.setdefault(text_key(content, *settings), KeptAnswers(None))
        try:
            yield kept
        finally:
            # Counters and the like may have changed by being asked.
            content, parts = content_mark(hashed)
            known.keep(parts)
            known.by_mark[text_key(content, *settings)] = kept


def _tell_unknown(name: str) -> None:
    warnings.warn(
        f"the model {name!r} holds what cannot be hashed, so that it is not known "
        "again in another process; its answers are kept for this process only. To keep "
        "them, name it: MTEWrapper(model, fingerprint='a name that changes with it')",
        UnknownModelWarning,
        stacklevel=find_stack_level(),
    )
