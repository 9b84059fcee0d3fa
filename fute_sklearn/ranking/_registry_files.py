"""Files of a model registry: the texts, and one file for each model."""

from __future__ import annotations

import json
import os
import uuid
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from filelock import FileLock

from .._utils._stack_level import find_stack_level
from .._utils._store import (
    UNREADABLE,
    read_file,
    texts_key,
    with_checksum,
    without_checksum,
    write_atomically,
)
from ..exceptions import DamagedRegistryWarning, RegistryDamagedError
from ._registry_answers import RegistryAnswers

SCHEMA = 1
TEXTS, MODELS, LOCK = "texts.jsonl", "models", "lock"
SUFFIX = ".model"


@dataclass(frozen=True)
class Entry:
    """What a registry knows of one version of a model, beside its answers.

    ``id`` stays through renaming, which counts ``revision``; ``was`` is that of the
    latest version of the model that was renamed; ``drops`` tells that its wrapper
    leaves out texts without an answer.
    """

    name: str
    identity: str
    labels: list[Any]
    abstained: float
    created: str
    seconds: float
    version: int = 1
    revision: int = 1
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    metadata: dict[str, Any] = field(default_factory=dict)
    drops: bool = False
    was: str = ""

    @classmethod
    def of(cls, record: dict[str, Any]) -> Entry:
        """Read a record; fields that later versions may add are left out."""
        return cls(**{k: v for k, v in record.items() if k in FIELDS})

    @property
    def record(self) -> dict[str, Any]:
        """The fields, for a file."""
        return asdict(self)


FIELDS = frozenset(one.name for one in fields(Entry))


class RegistryFiles:
    """The folder of a registry.

    Files of models never change: what is written anew gets another file name, so that
    the names tell whether anything is new.
    """

    def __init__(self, folder: Path, texts: Sequence[str] | None) -> None:
        self.folder = folder
        self.models = folder / MODELS
        path = folder / TEXTS
        if texts is None and not path.exists():
            raise FileNotFoundError(
                f"{folder} is no registry yet; give texts=..., the unlabelled texts "
                "that all models label, to create one."
            )
        self.models.mkdir(parents=True, exist_ok=True)
        # Keeps other processes and threads from changing the registry.
        self.lock = FileLock(folder / LOCK)
        if not path.exists():
            with self.lock:
                if not path.exists():
                    self._write_texts(self._checked(texts or ()))
        self.texts = self._read_texts(texts)
        self.key = texts_key(self.texts)

    # Texts ----------------------------------------------------------------------

    def _write_texts(self, texts: Sequence[str]) -> None:
        header = {"schema": SCHEMA, "key": texts_key(texts), "n_texts": len(texts)}
        lines = [json.dumps(one) for one in (header, *texts)]
        body = "".join(f"{line}\n" for line in lines)
        write_atomically(self.folder / TEXTS, body.encode())

    def _checked(self, given: Sequence[str]) -> Sequence[str]:
        """Return texts to be written, if no model has answered others."""
        key = texts_key(given)
        for name in sorted(self.names()):
            try:
                body = without_checksum(read_file(self.models / name))
                found = json.loads(body.partition(b"\n")[0])["texts"]
            except (OSError, *UNREADABLE):
                continue
            if found != key:
                raise ValueError(
                    f"the models in {self.folder} have answered other texts than those "
                    f"given, {len(given)}; give the registry's own, in their order."
                )
            break
        return given

    def _read_texts(self, given: Sequence[str] | None) -> tuple[str, ...]:
        path = self.folder / TEXTS
        try:
            header, *lines = read_file(path).decode().split("\n")[:-1]
            found = json.loads(header)
            schema = int(found["schema"])
            texts = tuple(json.loads(line) for line in lines)
            whole = schema > SCHEMA or found["key"] == texts_key(texts)
        except UNREADABLE:
            whole = False
        if not whole:
            if given is None:
                raise RegistryDamagedError(
                    f"{path} is damaged. Give the same texts again, and it is written "
                    "anew: ModelRegistry(folder, texts)."
                )
            self._write_texts(self._checked(given))
            warn_damaged_file(path, "its checksum differs", "it is written anew")
            return tuple(given)
        if schema > SCHEMA:
            raise ValueError(
                f"{self.folder} was written by a later version of fute_sklearn "
                f"(schema {schema}, this one knows {SCHEMA}); upgrade it."
            )
        if given is not None and tuple(given) != texts:
            raise ValueError(
                f"{self.folder} holds {len(texts)} texts, which are others than the "
                f"{len(given)} given; leave texts out, or take another folder."
            )
        return texts

    # Models ---------------------------------------------------------------------

    def names(self) -> set[str]:
        """Names of the models' files."""
        found = os.scandir(self.models)
        return {one.name for one in found if one.name.endswith(SUFFIX)}

    def read(self, name: str) -> tuple[Entry, RegistryAnswers] | None:
        """Read a model's file; None if another process has just removed it.

        A damaged one is set aside, with a warning.
        """
        path = self.models / name
        try:
            body = without_checksum(read_file(path))
            head, _, data = body.partition(b"\n")
            record = json.loads(head)
            if record["texts"] != self.key:
                warn_damaged_file(path, "it answers other texts", "it is left out")
                return None
            entry = Entry.of(record)
            return entry, RegistryAnswers.from_bytes(entry.labels, data)
        except FileNotFoundError:
            return None
        except OSError as error:
            warn_damaged_file(path, error, "it is left out")
        except UNREADABLE as error:
            warn_damaged_file(path, error, "it is set aside; add the model again")
            with suppress(OSError):  # removed just now, or the folder is read-only
                os.replace(path, path.with_suffix(".damaged"))
        return None

    def write(self, entry: Entry, answers: RegistryAnswers) -> str:
        """Write a model's file; return its name."""
        record = {"texts": self.key, **entry.record}
        body = json.dumps(record).encode() + b"\n" + answers.to_bytes()
        name = f"{uuid.uuid4().hex}{SUFFIX}"
        write_atomically(self.models / name, with_checksum(body))
        return name

    def remove(self, name: str) -> None:
        """Remove a model's file."""
        (self.models / name).unlink(missing_ok=True)


def warn_damaged_file(path: Path, reason: object, done: str) -> None:
    """Warn that a file of a registry is damaged, and say what was done."""
    warnings.warn(
        f"the registry's file {path.name} is damaged ({reason}); {done}",
        DamagedRegistryWarning,
        stacklevel=find_stack_level(),
    )
