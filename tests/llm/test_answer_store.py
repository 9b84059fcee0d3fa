"""Answers that were paid for last: through damage, full disks and several processes."""

import os
import shutil
import sqlite3
import threading
import time
import warnings

import numpy as np
import pytest

from fute_sklearn.exceptions import CacheUnavailableWarning, DamagedCacheWarning
from fute_sklearn.llm.clients import _answer_store
from fute_sklearn.llm.clients._answer_store import AnswerStore
from tests.forked import CONTEXT, run_forked


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(_answer_store, "_unwritten", {})


def filled(folder, count=30):
    store = AnswerStore(folder)
    for i in range(count):
        store.put(f"key {i}", {"text": f"answer {i}", "values": [i, -1.5]})
    store.close()


def test_every_damaged_byte_is_noticed(tmp_path):
    """Flips and cuts are a miss and a warning, never an error or a wrong value."""
    filled(tmp_path / "sound")
    whole = (tmp_path / "sound" / "answers.sqlite").read_bytes()
    draw = np.random.default_rng(0)
    for n in range(200):
        folder = tmp_path / str(n)
        folder.mkdir()
        body = bytearray(whole)
        if n % 4 == 0:
            body = body[: draw.integers(len(body))]
        else:
            for place in draw.integers(len(body), size=1 + 30 * (n % 4 == 1)):
                body[place] ^= 1 << draw.integers(8)
        (folder / "answers.sqlite").write_bytes(body)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DamagedCacheWarning)
            warnings.simplefilter("ignore", CacheUnavailableWarning)
            store = AnswerStore(folder)
            for i in range(30):
                found = store.get(f"key {i}")
                assert found in (None, {"text": f"answer {i}", "values": [i, -1.5]})
            store.put("new", [1])
            assert store.get("new") == [1]
            assert store.claim("new")
            store.release()
            store.close()
        shutil.rmtree(folder)


@pytest.mark.parametrize("extra", ["-wal", "-shm", "-journal"])
def test_rubbish_beside_the_file(extra, tmp_path):
    filled(tmp_path)
    (tmp_path / f"answers.sqlite{extra}").write_bytes(b"rubbish" * 999)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store = AnswerStore(tmp_path)
        store.put("new", [1])
        assert store.get("new") == [1]
        assert store.get("key 1") in (None, {"text": "answer 1", "values": [1, -1.5]})
        store.close()


ENDLESS = (
    "CREATE VIEW answers AS WITH RECURSIVE n(key) AS "
    "(SELECT 1 UNION ALL SELECT key + 1 FROM n) "
    "SELECT key, key AS answer, key AS digest FROM n"
)


@pytest.mark.parametrize(
    "command",
    [
        "CREATE TABLE answers (other TEXT)",
        "CREATE TABLE more (other TEXT)",
        ENDLESS,
        "CREATE TRIGGER t AFTER INSERT ON answers BEGIN DELETE FROM answers; END",
    ],
)
def test_a_file_of_other_tables_is_put_aside(command, tmp_path):
    if "TRIGGER" in command:
        AnswerStore(tmp_path).close()
    with sqlite3.connect(tmp_path / "answers.sqlite") as file:
        file.execute(command)
    file.close()
    with pytest.warns(DamagedCacheWarning, match="other tables"):
        store = AnswerStore(tmp_path)
    store.put("a", 1)
    assert store.get("a") == 1
    store.close()
    again = AnswerStore(tmp_path)
    assert again.get("a") == 1
    again.close()


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "pipe beside"])
def test_what_is_no_file_of_its_own_is_put_aside(kind, tmp_path):
    folder, other = tmp_path / "cache", tmp_path / "other"
    folder.mkdir()
    if kind == "link":
        with sqlite3.connect(other) as file:
            file.execute("CREATE TABLE precious (x)")
        file.close()
    if kind.startswith("pipe"):
        beside = "-journal" if kind == "pipe beside" else ""
        os.mkfifo(folder / f"answers.sqlite{beside}")
    else:
        (folder / "answers.sqlite").symlink_to(other)
    before = other.read_bytes() if kind == "link" else None
    with pytest.warns(DamagedCacheWarning, match="no file of its own"):
        store = AnswerStore(folder)
    store.put("a", 1)
    assert store.get("a") == 1
    store.close()
    assert (folder / "answers.sqlite").is_file()
    assert not (folder / "answers.sqlite").is_symlink()
    assert (other.read_bytes() if other.exists() else None) == before


def test_a_damaged_page_costs_only_its_own_answers(tmp_path):
    store = AnswerStore(tmp_path)
    for i in range(300):
        store.put(f"key {i}", f"answer {i} " * 10)
    store.close()
    path = tmp_path / "answers.sqlite"
    data = bytearray(path.read_bytes())
    page = 4096 * (len(data) // 4096 // 2)
    data[page : page + 8] = b"\xff" * 8
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamagedCacheWarning)
        store = AnswerStore(tmp_path)
        found = [store.get(f"key {i}") for i in range(300)]
        found = [store.get(f"key {i}") for i in range(300)]
    store.close()
    kept = [i for i, one in enumerate(found) if one is not None]
    assert len(kept) > 150
    assert all(found[i] == f"answer {i} " * 10 for i in kept)


def test_a_folder_that_is_removed_is_made_again(tmp_path):
    folder = tmp_path / "cache"
    store = AnswerStore(folder)
    store.put("a", 1)
    shutil.rmtree(folder)
    store.put("b", 2)
    store.close()
    assert folder.stat().st_mode & 0o777 == 0o700
    again = AnswerStore(folder)
    assert again.get("b") == 2
    again.close()


def put_many(folder, name):
    warnings.simplefilter("ignore")
    store = AnswerStore(folder)
    for i in range(100):
        store.put(f"{name} {i}", i)
    store.close()


def test_processes_that_meet_a_damaged_file_lose_nothing(tmp_path):
    for trial in range(3):
        folder = tmp_path / str(trial)
        filled(folder)
        path = folder / "answers.sqlite"
        path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 8192)
        children = [
            CONTEXT.Process(target=put_many, args=(folder, name)) for name in range(4)
        ]
        for child in children:
            child.start()
        for child in children:
            child.join(60)
            assert child.exitcode == 0
        store = AnswerStore(folder)
        lost = [
            (name, i)
            for name in range(4)
            for i in range(100)
            if store.get(f"{name} {i}") != i
        ]
        store.close()
        assert not lost
        assert len(list(folder.glob("*.damaged"))) == 1


def refusing(code, message):
    error = sqlite3.OperationalError(message)
    error.sqlite_errorcode = code

    class Connection(sqlite3.Connection):
        def execute(self, statement, *values):
            if statement.startswith(("INSERT", "CREATE", "PRAGMA", "BEGIN")):
                raise error
            return super().execute(statement, *values)

    return Connection


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (sqlite3.SQLITE_FULL, "database or disk is full"),
        (sqlite3.SQLITE_READONLY, "attempt to write a readonly database"),
        (sqlite3.SQLITE_IOERR, "disk I/O error"),
        (sqlite3.SQLITE_BUSY, "database is locked"),
    ],
)
def test_answers_stay_in_memory_where_the_disk_takes_none(
    code, message, tmp_path, monkeypatch
):
    monkeypatch.setattr(_answer_store, "BUSY_SECONDS", 0.1)
    filled(tmp_path)
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3,
        "connect",
        lambda *a, **k: connect(*a, **k, factory=refusing(code, message)),
    )
    with pytest.warns(CacheUnavailableWarning, match=message):
        store = AnswerStore(tmp_path)
    store.put("new", [1])
    assert store.get("new") == [1]
    assert store.claim("other")
    assert store.get("key 3")["text"] == "answer 3"
    store.close()
    again = AnswerStore(tmp_path)
    assert again.get("new") == [1]  # of this process
    again.close()
    monkeypatch.undo()
    assert not list(tmp_path.glob("*.damaged"))


def test_a_folder_where_the_file_should_be(tmp_path):
    (tmp_path / "answers.sqlite").mkdir()
    with pytest.warns(CacheUnavailableWarning):
        store = AnswerStore(tmp_path)
    store.put("a", 1)
    assert store.get("a") == 1
    store.close()


def test_a_claim_made_while_another_one_waits_holds(tmp_path):
    """Both looked before either had written: the second one has to see the first."""
    first, second = AnswerStore(tmp_path), AnswerStore(tmp_path)
    holder = sqlite3.connect(tmp_path / "answers.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    claimed = []
    waiting = threading.Thread(target=lambda: claimed.append(second.claim("a")))
    waiting.start()
    time.sleep(0.2)
    until = time.time() + _answer_store.LEASE_SECONDS
    values = ("a", first._owner, until)
    holder.execute("INSERT INTO claims VALUES (?, ?, ?)", values)
    holder.execute("COMMIT")
    waiting.join()
    assert claimed == [False]
    for one in (first, second, holder):
        one.close()


LIMITED = """
import resource, signal, sys, warnings
from pathlib import Path
from fute_sklearn.llm.clients._answer_store import AnswerStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
warnings.simplefilter("always")
folder = Path({folder!r})
AnswerStore(folder).close()
resource.setrlimit(resource.RLIMIT_{limit}, ({value}, {value}))
store = AnswerStore(folder)
for i in range(200):
    store.put(str(i), "x" * 1000)
assert all(store.get(str(i)) == "x" * 1000 for i in range(200))
print("sound")
"""


@pytest.mark.parametrize(("limit", "value"), [("FSIZE", 50_000), ("NOFILE", 3)])
def test_limits_of_the_system(limit, value, tmp_path):
    pytest.importorskip("resource")
    code = LIMITED.format(folder=str(tmp_path), limit=limit, value=value)
    out, err = run_forked(code)
    assert out == "sound\n"
    assert err.count("CacheUnavailableWarning") == 1, err


def test_the_folder_may_vanish(tmp_path):
    store = AnswerStore(tmp_path / "cache")
    store.put("a", 1)
    shutil.rmtree(tmp_path / "cache")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store.put("b", 2)
        assert store.get("b") == 2
    store.close()
