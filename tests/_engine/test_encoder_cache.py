"""Caches: nothing twice, nothing damaged, nothing unpickled."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config

import fute_sklearn
from fute_sklearn import MomentEmbedder, config_context, get_config
from fute_sklearn._engine import (
    _encoder,
    _encoder_cache,
    _packs,
    encode_texts,
    encoder_steps,
    load_surrogate,
)
from fute_sklearn._engine._encoder_cache import EncoderCache
from fute_sklearn._utils._store import ArrayStore, text_key
from fute_sklearn.exceptions import CacheUnavailableWarning, DamagedCacheWarning
from fute_sklearn.testing import TINY_SURROGATE
from tests.forked import run_forked

PACKAGE = Path(fute_sklearn.__file__).parent


@pytest.fixture
def encoded_rows(monkeypatch):
    """Count the rows that the encoder really reads."""
    count = []
    original = _packs._encode_pack

    def counted(surrogate, rows, room):
        count.append(len(rows))
        return original(surrogate, rows, room)

    monkeypatch.setattr(_packs, "_encode_pack", counted)
    return count


def test_each_distinct_text_is_encoded_once(encoded_rows, texts):
    surrogate = load_surrogate(TINY_SURROGATE)
    first = encode_texts(surrogate, texts + texts)
    assert sum(encoded_rows) == len(texts)
    again = encode_texts(surrogate, texts)
    assert sum(encoded_rows) == len(texts)
    np.testing.assert_array_equal(first.states[0], again.states[0])
    encode_texts(load_surrogate(TINY_SURROGATE, max_length=20), texts[:1])
    assert sum(encoded_rows) == len(texts) + 1


def test_means_are_kept_apart_from_states(encoded_rows, texts, cache_dir):
    """The closed form writes no states; tuning's states give the means for nothing."""
    surrogate = load_surrogate(TINY_SURROGATE)
    means = encode_texts(surrogate, texts, states=False).pooled()
    assert sum(encoded_rows) == len(texts)
    (segment,) = (cache_dir / "encoder").rglob("*.states")
    assert segment.stat().st_size == means.nbytes
    again = encode_texts(surrogate, texts, states=False)
    np.testing.assert_array_equal(again.pooled(), means)
    assert sum(encoded_rows) == len(texts)
    whole = encode_texts(surrogate, texts)
    assert sum(encoded_rows) == 2 * len(texts)
    np.testing.assert_array_equal(whole.pooled(), means)
    for path in (cache_dir / "encoder" / f"{surrogate.fingerprint}-means").iterdir():
        path.unlink()
    np.testing.assert_array_equal(
        encode_texts(surrogate, texts, states=False).pooled(), means
    )
    assert sum(encoded_rows) == 2 * len(texts)


def test_states_are_computed_when_they_are_asked_for(encoded_rows, texts):
    surrogate = load_surrogate(TINY_SURROGATE)
    some = encode_texts(surrogate, texts, states=False).take(np.arange(3))
    np.testing.assert_array_equal(
        some.pooled(), encode_texts(surrogate, texts[:3], states=False).pooled()
    )
    assert sum(encoded_rows) == len(texts)
    for one, other in zip(
        some.states, encode_texts(surrogate, texts).states, strict=False
    ):
        np.testing.assert_array_equal(one, other)


def test_damaged_segment_is_found_and_made_anew(encoded_rows, texts, cache_dir):
    surrogate = load_surrogate(TINY_SURROGATE)
    sound = [np.array(s) for s in encode_texts(surrogate, texts).states]
    (segment,) = (cache_dir / "encoder").rglob("*.states")
    data = bytearray(segment.read_bytes())
    data[-5] ^= 0xFF
    segment.write_bytes(data)
    with pytest.warns(DamagedCacheWarning, match="computed again"):
        again = encode_texts(surrogate, texts).states
    for a, b in zip(sound, again, strict=True):
        np.testing.assert_array_equal(a, b)
    encode_texts(surrogate, texts)
    assert sum(encoded_rows) <= 2 * len(texts)


@pytest.mark.parametrize("content", ["not json", '{"a": 1}', "[1]", "[" * 10**5])
def test_damaged_index_is_made_anew(content, texts, cache_dir):
    surrogate = load_surrogate(TINY_SURROGATE)
    encode_texts(surrogate, texts)
    (index,) = (cache_dir / "encoder").rglob("*.index")
    index.write_text(content)
    _encoder_cache._indexes.clear()
    with pytest.warns(DamagedCacheWarning):
        encode_texts(surrogate, texts)


def test_truncated_segment(texts, cache_dir):
    surrogate = load_surrogate(TINY_SURROGATE)
    encode_texts(surrogate, texts)
    (segment,) = (cache_dir / "encoder").rglob("*.states")
    segment.write_bytes(segment.read_bytes()[:50])
    with pytest.warns(DamagedCacheWarning):
        assert len(encode_texts(surrogate, texts).states) == len(texts)


def test_segments_used_longest_ago_go_when_the_cache_is_full(tmp_path):
    folder = tmp_path / "encoder" / "x"
    with config_context(cache_dir=tmp_path, max_cache_bytes=5400):
        cache = EncoderCache(folder)
        for i in range(4):
            cache.put({f"k{i}": np.full((64, 4), i, np.float32)})
            time.sleep(0.01)
        assert EncoderCache(folder).get("k0") is not None  # used again
        cache.put({"k4": np.ones((64, 4), np.float32)})
    kept = EncoderCache(folder)
    assert [i for i in range(5) if kept.get(f"k{i}") is not None] == [0, 2, 3, 4]
    assert cache.get("k1")[0, 0] == 1  # what an object has it keeps


def test_many_small_segments_become_one(tmp_path):
    cache = EncoderCache(tmp_path)
    for i in range(40):
        cache.put({f"k{i}": np.full((i + 1, 4), i, np.float32)})
    assert len(list(tmp_path.glob("*.states"))) < 10
    for read in (cache, EncoderCache(tmp_path)):
        for i in range(40):
            np.testing.assert_array_equal(read.get(f"k{i}"), np.full((i + 1, 4), i))


def test_damage_does_not_spread_when_segments_are_merged(tmp_path):
    first = EncoderCache(tmp_path)
    for i in range(20):
        both = np.full((2, 2, 4), i, np.float32)
        first.put({f"k{i}": both[0], f"beside k{i}": both[1]})
    place = first._index.where["k7"][0].data  # noqa: SLF001
    place.write_bytes(b"\xff" + place.read_bytes()[1:])
    cache = EncoderCache(tmp_path)
    for i in range(20, 32):
        cache.put({f"k{i}": np.full((2, 4), i, np.float32)})
    with pytest.warns(DamagedCacheWarning, match=place.name):
        cache.put({"k32": np.ones((2, 4), np.float32)})
    assert len(list(tmp_path.glob("*.states"))) == 1
    read = EncoderCache(tmp_path)
    assert [i for i in range(33) if read.get(f"k{i}") is None] == [7]
    assert all(read.get(f"beside k{i}") is not None for i in range(20))


def test_segments_that_another_process_merged_are_found(tmp_path):
    reader = EncoderCache(tmp_path)
    run_forked(WRITER.format(folder=str(tmp_path), start=0, end=3))
    reader = EncoderCache(tmp_path)
    run_forked(WRITER.format(folder=str(tmp_path), start=3, end=40))
    for i in range(3):
        np.testing.assert_array_equal(reader.get(f"k{i}"), np.full((2, 4), i))


WRITER = """
import numpy as np
from pathlib import Path
from fute_sklearn._engine._encoder_cache import EncoderCache
cache = EncoderCache(Path({folder!r}))
for i in range({start}, {end}):
    cache.put({{f"k{{i}}": np.full((2, 4), i, np.float32)}})
"""


def test_an_index_is_read_once(tmp_path, monkeypatch):
    EncoderCache(tmp_path).put({"a": np.ones((2, 4), np.float32)})
    _encoder_cache._indexes.clear()
    read = []
    whole = _encoder_cache.read_file
    monkeypatch.setattr(
        _encoder_cache, "read_file", lambda path: read.append(path) or whole(path)
    )
    for _ in range(3):
        assert EncoderCache(tmp_path).get("a") is not None
    assert len(read) == 1


@pytest.mark.parametrize("suffix", [".index", ".states"])
def test_every_damaged_byte_is_noticed(suffix, tmp_path):
    """Flips in any place are a miss and a warning, never an error or a wrong value."""
    states = {f"k{i}": np.arange(8.0).reshape(2, 4) + i for i in range(3)}
    EncoderCache(tmp_path / "sound").put(states)
    files = {p.name: p.read_bytes() for p in (tmp_path / "sound").iterdir()}
    (name,) = (name for name in files if name.endswith(suffix))
    whole, draw = files[name], np.random.default_rng(0)
    for n, place in enumerate(draw.permutation(len(whole))[:150]):
        folder = tmp_path / str(n)
        folder.mkdir()
        for other, body in files.items():
            (folder / other).write_bytes(body)
        flipped = bytearray(whole)
        flipped[place] ^= 1 << draw.integers(8)
        (folder / name).write_bytes(flipped)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DamagedCacheWarning)
            cache = EncoderCache(folder)
            found = {key: cache.get(key) for key in states}
        for key, rows in found.items():
            assert rows is None or np.array_equal(rows, states[key])
        assert any(rows is None for rows in found.values())


def test_a_folder_where_a_file_should_be_is_a_miss(tmp_path):
    cache = EncoderCache(tmp_path)
    cache.put({"a": np.ones((2, 4), np.float32)})
    (path,) = tmp_path.glob("*.index")
    path.unlink()
    path.mkdir()
    _encoder_cache._indexes.clear()
    with pytest.warns(CacheUnavailableWarning):
        assert EncoderCache(tmp_path).get("a") is None


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path, monkeypatch):
    cache = EncoderCache(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(CacheUnavailableWarning, match="No space left"):
        cache.put({"a": np.ones((2, 4), np.float32)})
    assert cache.get("a").shape == (2, 4)
    assert not list(tmp_path.iterdir())


def test_killed_process_leaves_what_it_had(tmp_path):
    """Segments that a killed process has written are sound and are read again."""
    code = f"""
import os, sys
os.environ["FUTE_SKLEARN_CACHE"] = {str(tmp_path)!r}
from fute_sklearn._engine import (
    _encoder,
    encode_texts,
    encoder_steps,
    load_surrogate,
)
_encoder.TEXTS_PER_SEGMENT = 4
surrogate = load_surrogate("fute-tiny-random")
print("ready", flush=True)
encode_texts(surrogate, [f"text number {{i}}" for i in range(100_000)])
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    folder = tmp_path / "encoder"
    while len(list(folder.rglob("*.index"))) < 5:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with config_context(cache_dir=tmp_path):
        surrogate = load_surrogate(TINY_SURROGATE)
        written = EncoderCache(folder / f"{surrogate.fingerprint}-states")
        texts = [f"text number {i}" for i in range(100_000)]
        known = [t for t in texts if written.get(text_key(t)) is not None]
        assert len(known) >= 20
        found = encode_texts(surrogate, known[:8]).states
    with config_context(cache_dir=None):
        expected = encode_texts(surrogate, known[:8]).states
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_processes_share_one_cache(tmp_path, encoded_rows, monkeypatch):
    """Two writers at once: both right, and a third encodes nothing again."""
    monkeypatch.setenv("FUTE_SKLEARN_CACHE", str(tmp_path))
    code = """
from fute_sklearn._engine import (
    _encoder,
    encode_texts,
    encoder_steps,
    load_surrogate,
)
_encoder.TEXTS_PER_SEGMENT = 50
surrogate = load_surrogate("fute-tiny-random")
found = encode_texts(surrogate, [f"text {i}" for i in range(400)])
print(sum(float(rows.sum()) for rows in found.states))
"""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    sums = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0, 0]
    with config_context(cache_dir=tmp_path):
        texts = [f"text {i}" for i in range(400)]
        found = encode_texts(load_surrogate(TINY_SURROGATE), texts)
    assert not encoded_rows
    assert sums == {f"{sum(float(rows.sum()) for rows in found.states)}\n"}


def encode_share(part, folder):
    with config_context(cache_dir=folder):
        MomentEmbedder(TINY_SURROGATE).encode(part)


@contextmanager
def dask_cluster():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster),
        parallel_config(backend="dask"),
    ):
        yield


@pytest.mark.parametrize("workers", [nullcontext, dask_cluster])
def test_shares_that_workers_encode_are_read_by_all(workers, tmp_path, encoded_rows):
    """As the guide says: two worker processes, and then nothing is left to encode."""
    texts = [f"text {i}" for i in range(300)]
    with workers():
        Parallel(n_jobs=2)(
            delayed(encode_share)(texts[i::4], tmp_path / "shared") for i in range(4)
        )
    with config_context(cache_dir=tmp_path / "shared"):
        found = MomentEmbedder(TINY_SURROGATE).encode(texts).pooled()
    assert not encoded_rows
    with config_context(cache_dir=None):
        alone = MomentEmbedder(TINY_SURROGATE).encode(texts).pooled()
    np.testing.assert_array_equal(found, alone)


def test_no_cache_writes_nothing(tmp_path, texts):
    with config_context(cache_dir=None):
        assert get_config()["cache_dir"] is None
        encode_texts(load_surrogate(TINY_SURROGATE), texts)
    assert not list(tmp_path.rglob("*.states"))


def test_unwritable_cache_warns_and_goes_on(tmp_path, texts):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    with (
        config_context(cache_dir=blocked),
        pytest.warns(UserWarning, match="cannot be used"),
    ):
        found = encode_texts(load_surrogate(TINY_SURROGATE), texts)
    assert len(found.states) == len(texts)


def test_array_store(tmp_path):
    store = ArrayStore(tmp_path)
    assert store.get("a") is None
    store.put("a", np.array(["x", "yy"]))
    np.testing.assert_array_equal(store.get("a"), ["x", "yy"])
    with pytest.raises(ValueError, match="allow_pickle"):
        store.put("b", np.array([object()]))
    path = tmp_path / "a.array"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.warns(DamagedCacheWarning):
        assert store.get("a") is None
    path.write_bytes(b"rubbish")
    with pytest.warns(DamagedCacheWarning):
        assert store.get("a") is None


def test_settings_come_from_the_environment(monkeypatch, tmp_path):
    from fute_sklearn._utils import _config

    monkeypatch.setitem(_config._config, "cache_dir", _config._UNSET)
    monkeypatch.setenv("FUTE_SKLEARN_CACHE", str(tmp_path))
    assert get_config()["cache_dir"] == tmp_path
    monkeypatch.delenv("FUTE_SKLEARN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert get_config()["cache_dir"] == tmp_path / "home" / "fute_sklearn"


def test_nothing_in_the_package_unpickles():
    words = (
        "pickle.load",
        "torch.load",
        "joblib.load",
        "allow_pickle=True",
        "joblib.Memory",
    )
    for path in PACKAGE.rglob("*.py"):
        if path.name != "_estimator_checks.py":
            source = path.read_text(encoding="utf8")
            assert not [word for word in words if word in source], path


def test_cache_files_hold_no_text(texts, cache_dir):
    encode_texts(load_surrogate(TINY_SURROGATE), texts)
    (index,) = (cache_dir / "encoder").rglob("*.index")
    record = json.loads(index.read_text().partition("\n")[2])
    assert len(record["keys"]) == len(texts)
    assert not any(text in index.read_text() for text in texts if len(text) > 4)


def test_a_full_cache_does_not_lose_what_is_being_encoded(cache_dir, monkeypatch):
    monkeypatch.setattr(_encoder, "TEXTS_PER_SEGMENT", 4)
    texts = [f"text {i}" for i in range(20)]
    surrogate = load_surrogate(TINY_SURROGATE)
    with config_context(max_cache_bytes=1):
        found = encode_texts(surrogate, texts)
    assert len(list((cache_dir / "encoder").rglob("*.states"))) == 1
    with config_context(cache_dir=None):
        expected = encode_texts(surrogate, texts)
    for a, b in zip(found.states, expected.states, strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_thousand_texts_are_a_step_whether_kept_or_not():
    tiny = load_surrogate(TINY_SURROGATE)
    texts = [f"text {i}" for i in range(2100)]
    counts = []
    for some in (texts[:1500], texts, texts, [*texts, *texts]):
        steps = []
        encode_texts(tiny, some, lambda steps=steps: steps.append(1))
        assert len(steps) == encoder_steps(some)
        counts.append(len(steps))
    assert counts == [2, 3, 3, 3]
