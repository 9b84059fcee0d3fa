"""The caches on disk: what they hold, their common limit, and how they are emptied."""

import os
import time

import numpy as np
import pytest

from fute_sklearn import MTEWrapper, cache_info, clear_cache, config_context
from fute_sklearn._engine._encoder_cache import EncoderCache
from fute_sklearn.llm.clients._answer_store import AnswerStore


class Rule:
    fingerprint = "rule"
    asked = 0

    def predict(self, X):
        Rule.asked += len(X)
        return ["good"] * len(X)


STATES = {f"k{i}": np.full((3, 4), i, np.float32) for i in range(5)}


@pytest.fixture
def folder(tmp_path):
    with config_context(cache_dir=tmp_path / "cache"):
        yield tmp_path / "cache"


def fill(folder):
    EncoderCache(folder / "encoder" / "one").put(STATES)
    MTEWrapper(Rule()).label(["a film", "a book"])
    store = AnswerStore(folder)
    store.put("a", 1)
    store.close()


def age(path, days):
    then = time.time() - 86400 * days
    os.utime(path, (then, then))


def answer(folder):
    store = AnswerStore(folder)
    try:
        return store.get("a")
    finally:
        store.close()


def test_info_counts_every_byte(folder):
    fill(folder)
    info = cache_info()
    for kind in ("encoder", "predictions"):
        files = [
            path
            for path in (folder / kind).rglob("*")
            if path.is_file() and path.suffix != ".lock"
        ]
        assert info[kind]["n_bytes"] == sum(path.stat().st_size for path in files) > 0
        assert info[kind]["last_used"] == pytest.approx(time.time(), abs=60)
    assert info["answers"]["n_bytes"] > 0


def test_all_leaves_what_was_paid_for(folder):
    fill(folder)
    before = cache_info()
    removed = clear_cache()
    assert removed == before["encoder"]["n_bytes"] + before["predictions"]["n_bytes"]
    info = cache_info()
    assert info["encoder"]["n_files"] == info["predictions"]["n_files"] == 0
    assert answer(folder) == 1
    assert clear_cache("answers") > 0
    assert answer(folder) is None


def test_what_is_cleared_is_computed_again(folder):
    fill(folder)
    asked = Rule.asked
    MTEWrapper(Rule()).label(["a film", "a book"])
    assert Rule.asked == asked
    clear_cache("predictions")
    MTEWrapper(Rule()).label(["a film", "a book"])
    assert Rule.asked == asked + 2
    assert cache_info()["encoder"]["n_files"] == 1


def test_only_what_was_not_used_for_long(folder):
    cache = EncoderCache(folder / "encoder" / "old")
    cache.put(STATES)
    for path in (folder / "encoder").rglob("*.*"):
        age(path, 40)
    EncoderCache(folder / "encoder" / "new").put(STATES)
    assert clear_cache("encoder", older_than=50) == 0
    assert clear_cache("encoder", older_than=30) > 0
    assert EncoderCache(folder / "encoder" / "new").get("k1") is not None
    assert not list((folder / "encoder" / "old").glob("*.states"))


@pytest.mark.parametrize("kind", ["encoder", "predictions"])
def test_what_killed_processes_left_is_removed(folder, kind):
    fill(folder)
    places = [path.parent for path in (folder / kind).rglob("*") if path.is_file()]
    left = places[0] / "x.index.0123.partial"
    left.write_bytes(b"0" * 1000)
    before = cache_info()[kind]["n_bytes"]
    age(left, 0.01)  # somebody may be at it
    assert cache_info()[kind]["n_bytes"] == before
    age(left, 1)
    assert cache_info()[kind]["n_bytes"] == before + 1000
    clear_cache(kind)
    assert not left.exists()


def test_states_without_index_are_counted_and_removed(folder):
    fill(folder)
    size = cache_info()["encoder"]["n_bytes"]
    index = next((folder / "encoder").rglob("*.index"))
    size -= index.stat().st_size
    index.unlink()
    assert cache_info()["encoder"]["n_bytes"] == size
    assert clear_cache("encoder") == size
    assert not list((folder / "encoder").rglob("*.states"))


def test_the_limit_removes_what_was_used_longest_ago(folder):
    with config_context(max_cache_bytes=60_000):
        for i in range(40):
            cache = EncoderCache(folder / "encoder" / str(i))
            cache.put({f"{i}": np.full((50, 20), i, np.float32)})
            for path in (folder / "encoder" / str(i)).glob("*.*"):
                age(path, 1 - i / 1000)
        assert 20_000 < cache_info()["encoder"]["n_bytes"] <= 70_000
    assert EncoderCache(folder / "encoder" / "0").get("0") is None
    assert EncoderCache(folder / "encoder" / "39").get("39") is not None


def test_no_folder():
    with config_context(cache_dir=None):
        assert cache_info()["encoder"] == {
            "n_files": 0,
            "n_bytes": 0,
            "last_used": None,
        }
        assert clear_cache() == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [({"what": "everything"}, "everything"), ({"older_than": -1}, "older_than=-1")],
)
def test_bad_arguments(given, message):
    with pytest.raises(ValueError, match=message):
        clear_cache(**given)
