"""Cache files that someone else wrote are misses: no error, no wait, no open file."""

import io
import json
import os
import warnings

import numpy as np
import pytest

from fute_sklearn._engine import _encoder_cache
from fute_sklearn._engine._encoder_cache import EncoderCache
from fute_sklearn._utils._store import ArrayStore, with_checksum
from fute_sklearn.exceptions import CacheUnavailableWarning, DamagedCacheWarning
from fute_sklearn.models._kept_answers import KeptAnswers
from fute_sklearn.ranking._segments import Segments


def packed(**parts):
    body = io.BytesIO()
    np.savez(body, **parts)
    return body.getvalue()


def header(text):
    line = text.ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(line).to_bytes(2, "little") + line


@pytest.mark.parametrize(
    "body",
    [
        b"",
        header("{'descr': (("),
        header("{'descr': '(,)f4,f4', 'fortran_order': False, 'shape': (1,), }"),
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (10**15,), }"),
        header("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"),
        packed(a=np.zeros(2)),
    ],
)
def test_arrays_with_a_right_checksum_and_anything_within(body, tmp_path):
    (tmp_path / "k.array").write_bytes(with_checksum(body, "k"))
    with pytest.warns(DamagedCacheWarning):
        assert ArrayStore(tmp_path).get("k") is None
    assert not (tmp_path / "k.array").exists()


SOUND = {"dtype": "<f4", "width": 4, "keys": ["k"], "lengths": [4], "checks": [1]}


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "|O"},
        {"dtype": "(,)f4,f4"},
        {"dtype": None},
        {"width": "4"},
        {"width": 0},
        {"lengths": ["a"]},
        {"lengths": [2**62]},
        {"lengths": [-1]},
        {"checks": []},
        {"keys": 5},
        {"keys": [[1]]},
        {"keys": None},
    ],
)
def test_indexes_of_the_encoder_with_anything_within(changes, tmp_path):
    body = json.dumps({**SOUND, **changes}).encode()
    (tmp_path / "x.index").write_bytes(with_checksum(body, "x.index"))
    (tmp_path / "x.states").write_bytes(b"\0" * 64)
    with pytest.warns(DamagedCacheWarning):
        assert EncoderCache(tmp_path).get("k") is None


@pytest.mark.parametrize("body", [b"[" * 100_000, b"[]", b"{}", b"5"])
def test_indexes_of_the_encoder_that_are_none(body, tmp_path):
    (tmp_path / "x.index").write_bytes(with_checksum(body, "x.index"))
    with pytest.warns(DamagedCacheWarning):
        assert EncoderCache(tmp_path).get("k") is None


@pytest.mark.parametrize(
    "parts",
    [
        {"keys": np.array("k"), "values": np.array(0.0), "abstained": np.array(False)},
        {"keys": ["k"], "values": [0, 1], "abstained": [False]},
        {"keys": [1], "values": [0], "abstained": [False]},
        {"keys": ["k"], "values": np.zeros((1, 2, 3)), "abstained": [False]},
        {"keys": ["k"], "values": [0]},
    ],
)
def test_answers_of_models_with_anything_within(parts, tmp_path):
    body = packed(names=np.array(["a", "b"]), **parts)
    (tmp_path / "x.answers").write_bytes(with_checksum(body))
    with pytest.warns(DamagedCacheWarning):
        assert "k" not in KeptAnswers(tmp_path)


def test_compressed_answers_are_none_of_ours(tmp_path):
    body = io.BytesIO()
    some = np.zeros(1)
    np.savez_compressed(body, keys=["k"], values=some, abstained=[False], names=["a"])
    (tmp_path / "x.answers").write_bytes(with_checksum(body.getvalue()))
    with pytest.warns(DamagedCacheWarning, match="compressed"):
        assert "k" not in KeptAnswers(tmp_path)


READERS = {
    "k.array": lambda folder: ArrayStore(folder).get("k"),
    "x.index": lambda folder: EncoderCache(folder).get("k"),
    "x.answers": lambda folder: KeptAnswers(folder).folder and None,
    "x.jsonl": lambda folder: Segments(folder).new() or None,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_pipes_and_devices_are_not_read(name, kind, tmp_path):
    _encoder_cache._indexes.clear()
    if kind == "pipe":
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).symlink_to("/dev/zero")
    with pytest.warns(DamagedCacheWarning, match="it is no file"):
        assert READERS[name](tmp_path) is None


def test_pipes_beside_an_index_are_not_read(tmp_path):
    body = json.dumps({**SOUND, "lengths": [0]}).encode()
    (tmp_path / "x.index").write_bytes(with_checksum(body, "x.index"))
    os.mkfifo(tmp_path / "x.states")
    with pytest.warns(DamagedCacheWarning):
        assert EncoderCache(tmp_path).get("k") is None
    lines = json.dumps({"kind": "a", "crc": 1}) + "\n"
    (tmp_path / "y.jsonl").write_bytes(with_checksum(lines.encode()))
    os.mkfifo(tmp_path / "y.npy")
    with pytest.warns(DamagedCacheWarning):
        assert Segments(tmp_path).new() == []


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts files in /proc")
def test_folders_leave_no_file_open(tmp_path):
    (tmp_path / "k.array").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheUnavailableWarning)
        for _ in range(20):
            assert ArrayStore(tmp_path).get("k") is None
    assert len(os.listdir("/proc/self/fd")) <= before + 1
