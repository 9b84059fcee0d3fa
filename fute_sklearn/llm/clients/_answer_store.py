"""Cache of language models' answers in an SQLite file."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import stat
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock
from filelock import Timeout as LockTimeout

from ..._utils._stack_level import find_stack_level
from ..._utils._store import text_key, usable_folder, warn_unusable
from ...exceptions import DamagedCacheWarning

LEASE_SECONDS = 15.0  # after which a request of a process that died is free again
BUSY_SECONDS = 60
# Results of SQLite that tell of the disk, its rights or other users, not of damage.
UNUSABLE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}
# What the file holds; anything else may run code, or without end, when it is read.
TABLES = {
    "answers": "CREATE TABLE answers (key TEXT PRIMARY KEY, answer TEXT, digest TEXT)",
    "claims": "CREATE TABLE claims (key TEXT PRIMARY KEY, owner TEXT, until REAL)",
}
INDICES = {f"sqlite_autoindex_{name}_1" for name in TABLES}
# Answers that could not be written: they may have cost money, so they stay in memory.
_unwritten: dict[str, dict[str, str]] = {}


class AnswerStore:
    """Answers by key in one SQLite file, which stays valid if a process is killed.

    Several processes may use it at once.  If the file is damaged it is put aside, and
    the answers that can be read in it go into a new one; if it cannot be written, it is
    read as far as it can be, and new answers are kept in the memory of this process.
    Neither raises.  If the folder is None, answers are kept in this object.

    Parameters
    ----------
    folder : path or None
        The cache folder.
    """

    def __init__(self, folder: Path | None) -> None:
        self._lock = threading.Lock()
        self._owner = f"{socket.gethostname()}|{os.getpid()}|{uuid.uuid4().hex}"
        self._file: sqlite3.Connection | None = None
        self._inode = 0
        self._writable = True
        self._path: Path | None = None
        self._named = folder is not None
        self._memory: dict[str, str] = {}
        if folder is not None:
            self._memory = _unwritten.setdefault(str(folder), {})
            if usable_folder(folder) is not None:
                self._path = folder / "answers.sqlite"
                self._run(lambda file: None)

    def _open(self) -> sqlite3.Connection:
        assert self._path is not None
        if usable_folder(self._path.parent) is None:
            raise FileNotFoundError(f"{self._path.parent} was removed")
        self._inode = _inode(self._path)
        if any(map(_is_strange, _with_extras(self._path))):
            raise _ForeignFile("it is no file of its own")
        file = sqlite3.connect(
            self._path, timeout=BUSY_SECONDS, check_same_thread=False
        )
        file.text_factory = bytes  # a damaged file may hold bytes that are no text
        try:
            if not _is_ours(file):
                raise _ForeignFile("it holds other tables")
            file.execute("PRAGMA journal_mode=WAL")
            file.execute("PRAGMA synchronous=NORMAL")
            for command in TABLES.values():
                file.execute(command.replace("TABLE", "TABLE IF NOT EXISTS", 1))
            file.commit()
            self._inode = self._inode or _inode(self._path)
        except BaseException:
            file.close()
            raise
        return file

    def _run(self, use: Callable[[sqlite3.Connection], Any], write: bool = True) -> Any:
        """Return what ``use`` makes of the file; None if the file cannot be used."""
        with self._lock:
            for last in (False, True):
                if self._path is None or (write and not self._writable):
                    return None
                try:
                    if write and self._file is not None:
                        self._renew_file()
                    if self._file is None:
                        self._file = self._open()
                    with self._file:
                        return use(self._file)
                except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
                    if last or not _is_damage(error) or not self._put_aside(error):
                        warn_unusable(self._path.parent, error)
                        self._only_read(write)
        return None

    def _renew_file(self) -> None:
        """Leave a file that was removed, or put aside by another process."""
        assert self._path is not None
        if _inode(self._path) != self._inode:
            self._drop()

    def _only_read(self, write: bool) -> None:
        """Go on without writing, and without reading if that failed too."""
        assert self._path is not None
        if self._file is None and self._writable and self._path.is_file():
            try:
                # Takes no locks, as none can be written.
                address = f"{self._path.absolute().as_uri()}?mode=ro&immutable=1"
                self._file = sqlite3.connect(address, uri=True, check_same_thread=False)
                self._file.text_factory = bytes
            except (sqlite3.Error, OSError):
                self._file = None
        elif not write:
            self._drop()
        self._writable = False
        if self._file is None:
            self._path = None

    def _drop(self) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except sqlite3.Error:
                pass
            self._file = None

    def _put_aside(self, error: Exception) -> bool:
        """Rename the damaged file, unless another process has just done so."""
        assert self._path is not None
        self._drop()
        try:
            with FileLock(f"{self._path}.lock", timeout=BUSY_SECONDS):
                if _inode(self._path) != self._inode:
                    return True
                aside = self._path.with_name(f"answers-{uuid.uuid4().hex[:8]}.damaged")
                pairs = zip(_with_extras(self._path), _with_extras(aside), strict=True)
                for beside, there in pairs:
                    if os.path.lexists(beside):
                        os.replace(beside, there)
                count = self._rescue(aside)
        except (OSError, LockTimeout):
            return False
        warnings.warn(
            f"the answers in {self._path.name} cannot be read ({error}); the file "
            f"is left as {aside.name}, {count} of its answers are kept, and the others "
            "asked for again",
            DamagedCacheWarning,
            stacklevel=find_stack_level(),
        )
        return True

    def _rescue(self, aside: Path) -> int:
        """Copy the answers that can be read from a damaged file; count them."""
        if any(map(_is_strange, _with_extras(aside))):
            return 0
        count = 0
        with suppress(sqlite3.Error, OSError):
            self._file = self._open()
            for row in _readable(aside):
                self._file.execute(
                    "INSERT OR IGNORE INTO answers VALUES (?, ?, ?)", row
                )
                count += 1
            self._file.commit()
        return count

    def get(self, key: str) -> Any:
        """Return the answer, or None if there is none or its checksum is wrong."""
        row = self._run(
            lambda file: file.execute(
                "SELECT answer, digest FROM answers WHERE key = ?", (key,)
            ).fetchone(),
            write=False,
        )
        try:
            text = row[0].decode()
            if text_key(key, text) == row[1].decode():
                return json.loads(text)
        except (TypeError, AttributeError, ValueError):  # no row, or a damaged one
            pass
        kept = self._memory.get(key)
        return None if kept is None else json.loads(kept)

    def put(self, key: str, answer: Any) -> None:
        """Store an answer, which must be serialisable as JSON."""
        text = json.dumps(answer)
        values = (key, text, text_key(key, text))

        def write(file: sqlite3.Connection) -> bool:
            file.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", values)
            return True

        if not self._run(write):
            self._memory[key] = text

    @property
    def lasts(self) -> bool:
        """Whether answers are still there when the store is closed."""
        return self._named

    def remove(self, key: str) -> None:
        """Forget an answer."""
        self._memory.pop(key, None)
        self._run(
            lambda file: file.execute("DELETE FROM answers WHERE key = ?", (key,))
        )

    # Requests in flight ---------------------------------------------------------

    def claim(self, key: str) -> bool:
        """Return whether this process may ask, as no other is asking now."""

        def write(file: sqlite3.Connection) -> bool:
            file.execute("BEGIN IMMEDIATE")
            now = time.time()  # later than all claims that it may find
            row = file.execute(
                "SELECT owner, until FROM claims WHERE key = ?", (key,)
            ).fetchone()
            if row is not None and _is_alive(row[0], row[1], now):
                return bool(row[0].decode() == self._owner)
            file.execute(
                "INSERT OR REPLACE INTO claims VALUES (?, ?, ?)",
                (key, self._owner, now + LEASE_SECONDS),
            )
            return True

        return self._run(write) is not False

    def renew(self) -> None:
        """Go on claiming what this process claimed."""
        until = time.time() + LEASE_SECONDS
        self._run(
            lambda file: file.execute(
                "UPDATE claims SET until = ? WHERE owner = ?", (until, self._owner)
            )
        )

    def release(self, key: str | None = None) -> None:
        """Give up the claim of a key, by default all of this process."""
        self._run(
            lambda file: file.execute(
                "DELETE FROM claims WHERE owner = ? AND key = ifnull(?, key)",
                (self._owner, key),
            )
        )

    def close(self) -> None:
        """Close the connection to the file."""
        with self._lock:
            self._drop()
            self._path = None


class _ForeignFile(sqlite3.DatabaseError):
    """A file that this package did not write."""


def _with_extras(path: Path) -> list[Path]:
    """Return the files that SQLite keeps beside a file, and that one last."""
    extras = ("-wal", "-shm", "-journal", "")
    return [path.with_name(path.name + extra) for extra in extras]


def _is_strange(path: Path) -> bool:
    """Return whether a path is a link, a pipe or a device."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _is_ours(file: sqlite3.Connection) -> bool:
    """Return whether a file holds nothing but the tables of answers."""
    for kind, name, command in file.execute(
        "SELECT type, name, sql FROM sqlite_master"
    ):
        known = INDICES if kind == b"index" else TABLES
        if kind not in (b"index", b"table") or name.decode() not in known:
            return False
        if command is not None and command.decode() != TABLES.get(name.decode()):
            return False
    return True


def _readable(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the sound answers of a damaged file, from both of its ends."""
    file = sqlite3.connect(path, check_same_thread=False)
    file.text_factory = bytes
    with closing(file), suppress(sqlite3.Error, UnicodeDecodeError):
        if not _is_ours(file):
            return
        for order in ("ASC", "DESC"):
            # A page that is damaged ends the reading; the table is read, no index.
            with suppress(sqlite3.Error):
                rows = f"SELECT key, answer, digest FROM answers ORDER BY rowid {order}"
                for row in file.execute(rows):
                    with suppress(AttributeError, ValueError):  # a damaged row
                        key, text, digest = (value.decode() for value in row)
                        if text_key(key, text) == digest:
                            yield key, text, digest


def _is_damage(error: Exception) -> bool:
    """Return whether an error tells of the file's content."""
    # Names of tables that are no text, or another program's file.
    if isinstance(error, (UnicodeDecodeError, _ForeignFile)):
        return True
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF not in UNUSABLE


def _inode(path: Path) -> int:
    """Return what tells a file from the one that took its place; 0 without a file."""
    try:
        return path.lstat().st_ino
    except FileNotFoundError:
        return 0


def _is_alive(owner: Any, until: Any, now: float) -> bool:
    """Return whether a claim holds: it has not lapsed, and its process runs."""
    try:
        host, pid, _ = owner.decode().split("|")
        if not now <= until <= now + LEASE_SECONDS:
            return False
        if host == socket.gethostname():
            os.kill(int(pid), 0)
    except PermissionError:  # it runs, as another user's
        return True
    except (AttributeError, TypeError, ValueError, OverflowError, OSError):
        return False
    return True
