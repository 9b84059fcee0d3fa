"""Cache of language models' answers in an SQLite file."""

from __future__ import annotations

import json
import sqlite3
import threading
import uuid
import warnings
from pathlib import Path
from typing import Any

from ..._utils._store import answers_folder, stand_in_folder, text_key, warn_unusable
from ...exceptions import DamagedCacheWarning


class AnswerStore:
    """Answers by key in one SQLite file, which stays valid if a process is killed.

    Several processes may use it at once.  If the folder is None, answers are kept in
    memory.
    """

    def __init__(self, folder: Path | None) -> None:
        self._lock = threading.Lock()
        folder = answers_folder(folder)
        self._path = None if folder is None else folder / "answers.sqlite"
        try:
            self._file = self._open()
        except sqlite3.OperationalError as error:
            if folder is None or "locked" in str(error):
                raise  # a locked file is not damaged, so it must not be replaced
            warn_unusable(folder, error)
            self._path = stand_in_folder() / "answers.sqlite"
            self._file = self._open()
        except sqlite3.DatabaseError as error:
            self._discard(error)

    def _open(self) -> sqlite3.Connection:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        file = sqlite3.connect(
            self._path or ":memory:", timeout=60, check_same_thread=False
        )
        file.execute("PRAGMA journal_mode=WAL")
        file.execute("PRAGMA synchronous=NORMAL")
        file.execute(
            "CREATE TABLE IF NOT EXISTS answers "
            "(key TEXT PRIMARY KEY, answer TEXT, digest TEXT)"
        )
        file.commit()
        return file

    def _discard(self, error: Exception) -> None:
        """Rename the damaged file and open an empty one."""
        if self._path is None:
            raise error
        aside = self._path.with_name(f"answers-{uuid.uuid4().hex[:8]}.damaged")
        warnings.warn(
            f"the answers in {self._path.name} cannot be read ({error}); they are "
            f"left in {aside.name} and asked for again",
            DamagedCacheWarning,
            stacklevel=5,
        )
        self._path.replace(aside)
        for extra in ("-wal", "-shm"):
            beside = self._path.with_name(self._path.name + extra)
            if beside.exists():
                beside.replace(aside.with_name(aside.name + extra))
        self._file = self._open()

    def _execute(self, statement: str, *values: str) -> Any:
        """Run a statement and return its first row; replace the file if damaged."""
        with self._lock:
            try:
                return self._committed(statement, values)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as error:
                self._discard(error)
                return self._committed(statement, values)

    def _committed(self, statement: str, values: tuple[str, ...]) -> Any:
        row = self._file.execute(statement, values).fetchone()
        self._file.commit()
        return row

    def get(self, key: str) -> Any:
        """Return the answer, or None if there is none or its checksum is wrong."""
        row = self._execute("SELECT answer, digest FROM answers WHERE key = ?", key)
        if row is None or text_key(key, row[0]) != row[1]:
            return None
        return json.loads(row[0])

    def put(self, key: str, answer: Any) -> None:
        """Store an answer, which must be serialisable as JSON."""
        text = json.dumps(answer)
        self._execute(
            "INSERT OR REPLACE INTO answers VALUES (?, ?, ?)",
            key,
            text,
            text_key(key, text),
        )

    def close(self) -> None:
        """Close the connection to the file."""
        self._file.close()
