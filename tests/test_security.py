"""What SECURITY.md promises: hostile files and names do nothing."""

import io
import json
import os
import stat
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from fute_sklearn import (
    ModelRegistry,
    MTEWrapper,
    StudentClassifier,
    TransformersClient,
    config_context,
    load_embeddings,
    save_embeddings,
)
from fute_sklearn._engine import load_surrogate
from fute_sklearn._utils._store import ArrayStore, with_checksum, write_atomically
from fute_sklearn.exceptions import (
    DamagedCacheWarning,
    LanguageModelNotFoundError,
    SurrogateNotFoundError,
)
from fute_sklearn.llm.clients._answer_store import AnswerStore


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


class Rule:
    fingerprint = "rule"

    def predict(self, X):
        return ["a" if "fine" in x else "b" for x in X]


TEXTS = ["a fine film", "a dull film", "fine", "dull"]


def hostile_npy(path):
    body = io.BytesIO()
    np.save(body, np.array([Bomb(path)], dtype=object), allow_pickle=True)
    return body.getvalue()


def test_arrays_of_objects_are_not_read(tmp_path):
    fuse = tmp_path / "fuse"
    store = ArrayStore(tmp_path / "store")
    for body in (hostile_npy(fuse), b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535):
        (tmp_path / "store" / "a.array").write_bytes(with_checksum(body, "a"))
        with pytest.warns(DamagedCacheWarning):
            assert store.get("a") is None
    with config_context(cache_dir=tmp_path / "cache"):
        expected = MTEWrapper(Rule()).label(TEXTS)
        (kept,) = (tmp_path / "cache").rglob("*.answers")
        body = io.BytesIO()
        np.savez(body, keys=np.array([Bomb(fuse)], dtype=object))
        kept.write_bytes(with_checksum(body.getvalue()))
        with pytest.warns(DamagedCacheWarning):
            assert MTEWrapper(Rule()).label(TEXTS) == expected
    assert not fuse.exists()


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b"[" * 100_000,
        json.dumps(
            {"embeddings": {"dtype": "F64", "shape": [2**62], "data_offsets": [0, 8]}}
        ),
        json.dumps(
            {"embeddings": {"dtype": "F64", "shape": [1, 1], "data_offsets": [-8, 8]}}
        ),
        json.dumps(
            {
                "embeddings": {
                    "dtype": "F64",
                    "shape": [1, 1],
                    "data_offsets": [0, 10**12],
                }
            }
        ),
        json.dumps({"__metadata__": {"names": "[" * 10_000}}),
    ],
)
def test_hostile_headers_are_refused(header, tmp_path):
    header = header if isinstance(header, bytes) else header.encode()
    path = tmp_path / "zoo"
    for size in (len(header), 2**63, 0):
        path.write_bytes(struct.pack("<Q", size) + header + b"\0" * 8)
        with pytest.raises(ValueError, match="no file of save_embeddings"):
            load_embeddings(path)


@pytest.mark.parametrize(
    "body", ["{", "[]", '{"kind": "label"}', "[" * 100_000, "null"]
)
def test_hostile_students_are_refused(body, tmp_path):
    (tmp_path / "student.json").write_text(body)
    with pytest.raises(ValueError, match="no file of save_pretrained"):
        StudentClassifier.from_pretrained(tmp_path)


CODE = """
from pathlib import Path
Path({fuse!r}).touch()
from transformers import PretrainedConfig
class Config(PretrainedConfig):
    model_type = "odd"
"""


@pytest.mark.parametrize("load", ["surrogate", "language model"])
def test_code_beside_weights_is_not_run(load, tmp_path):
    fuse, folder = tmp_path / "fuse", tmp_path / "model"
    folder.mkdir()
    names = (
        "AutoConfig",
        "AutoModelForSeq2SeqLM",
        "AutoModelForCausalLM",
        "AutoTokenizer",
    )
    code = dict.fromkeys(names, "odd.Config")
    config = {"model_type": "odd", "auto_map": code, "architectures": ["Odd"]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"auto_map": {"AutoTokenizer": ["odd.Config", None]}})
    )
    (folder / "odd.py").write_text(CODE.format(fuse=str(fuse)))
    calls = {
        "surrogate": (
            "from fute_sklearn._engine import load_surrogate\n"
            f"load_surrogate({str(folder)!r})"
        ),
        "language model": (
            "from fute_sklearn import TransformersClient\n"
            f"TransformersClient({str(folder)!r}).score(['a'], [['b']])"
        ),
    }
    # Whoever asks on the standard input whether to run it is told so.
    done = subprocess.run(
        [sys.executable, "-c", calls[load]],
        input="y\n" * 9,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "NotFoundError" in done.stderr
    assert not fuse.exists()


def test_pickled_weights_are_not_loaded(tmp_path):
    import torch
    from transformers import T5Config

    fuse = tmp_path / "fuse"
    T5Config(d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2).save_pretrained(
        tmp_path / "model"
    )
    torch.save({"shared.weight": Bomb(fuse)}, tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(SurrogateNotFoundError, match="safetensors"):
        load_surrogate(tmp_path / "model")
    with pytest.raises(LanguageModelNotFoundError):
        TransformersClient(tmp_path / "model").score(["a"], [["b"]])
    assert not fuse.exists()


@pytest.mark.parametrize(
    "name", ["../../evil", "/etc/evil", "a/b", "..", "con\x01", "x" * 999, "é\n"]
)
def test_names_are_no_paths(name, tmp_path):
    folder = tmp_path / "deep" / "registry"
    registry = ModelRegistry(folder, texts=TEXTS)
    registry.add(name, Rule())
    save_embeddings(tmp_path / "zoo", [[1.0]], [name])
    assert load_embeddings(tmp_path / "zoo")[1] == [name]
    outside = {p.name for p in tmp_path.rglob("*") if folder not in (p, *p.parents)}
    assert outside == {
        "deep",
        "zoo",
        *(p.name for p in (tmp_path / "cache").rglob("*")),
        *(["cache"] if (tmp_path / "cache").exists() else []),
    }
    assert not any("evil" in p.name for p in folder.rglob("*"))


def test_links_are_replaced_and_not_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    link = tmp_path / "cache" / "file"
    link.parent.mkdir()
    link.symlink_to(precious)
    write_atomically(link, b"new")
    assert (precious.read_text(), link.read_bytes()) == ("precious", b"new")
    store = ArrayStore(tmp_path / "cache")
    (tmp_path / "cache" / "a.array").symlink_to(precious)
    with pytest.warns(DamagedCacheWarning):
        assert store.get("a") is None
    assert precious.read_text() == "precious"


@pytest.mark.skipif(os.name == "nt", reason="rights are others there")
def test_folders_of_caches_are_private(tmp_path):
    before = os.umask(0)
    try:
        with config_context(cache_dir=tmp_path / "cache"):
            MTEWrapper(Rule()).label(TEXTS)
            AnswerStore(tmp_path / "cache").close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


def test_deep_json_in_caches_is_a_miss(tmp_path):
    with config_context(cache_dir=tmp_path):
        MTEWrapper(Rule()).label(TEXTS)
        for kept in tmp_path.rglob("*.answers"):
            kept.write_bytes(b"[" * 10**6 + b"\n")
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            MTEWrapper(Rule()).label(TEXTS)
    assert [one.category for one in told] == [DamagedCacheWarning]
