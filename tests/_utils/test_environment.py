"""Work goes on without a cache where its folder cannot be used, with one warning."""

import os
import threading
import warnings
from pathlib import Path

import pytest

from fute_sklearn import (
    MomentEmbedder,
    MTEWrapper,
    TaskVectorizer,
    TuPaTEEmbedder,
    config_context,
    get_config,
    set_config,
)
from fute_sklearn._utils import _config, _store
from fute_sklearn.exceptions import CacheUnavailableWarning
from fute_sklearn.llm.clients._answer_store import AnswerStore
from fute_sklearn.models import _kept_answers
from fute_sklearn.testing import TINY_SURROGATE
from tests.forked import run_forked

JOB = """
import warnings
warnings.simplefilter("always")
from fute_sklearn import MomentEmbedder, MTEWrapper
class Rule:
    def predict(self, X):
        return ["a" if "fine" in x else "b" for x in X]
texts = ["a fine film", "a dull film"]
est = MomentEmbedder("fute-tiny-random", reference=texts)
for _ in range(2):
    est.fit(texts, MTEWrapper(Rule()).label(texts).y)
print(est.embedding_.shape)
"""


def run(tmp_path, code=JOB, **variables):
    """Run a job in a process with little but these variables."""
    keep = {"PATH", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "LD_LIBRARY_PATH"}
    env = {k: v for k, v in os.environ.items() if k in keep}
    env |= variables
    folder = tmp_path / "work"
    folder.mkdir(exist_ok=True)
    out, err = run_forked(code, env=env, cwd=folder)
    assert not list(folder.iterdir()), "files in the working directory"
    return out, err.count("cannot be used"), err


NO_USER = """
import os, pwd
def nobody(*_):
    raise KeyError("no entry")
pwd.getpwuid = pwd.getpwnam = nobody
"""


@pytest.mark.parametrize(
    "case", ["file", "missing", "tilde", "unknown home", "home that is a file"]
)
def test_a_folder_that_cannot_be_used_is_done_without(case, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    code = JOB
    variables = {"HOME": str(tmp_path)}
    if case == "file":
        variables["FUTE_SKLEARN_CACHE"] = str(blocked)
    elif case == "missing":
        variables["FUTE_SKLEARN_CACHE"] = "/proc/nowhere/cache"
    elif case == "tilde":
        variables["FUTE_SKLEARN_CACHE"] = "~nobody-of-this-name/x"
    elif case == "unknown home":
        variables, code = {}, NO_USER + JOB
    else:
        variables = {"HOME": str(blocked)}
    out, warned, err = run(tmp_path, code, **variables)
    assert out == "(34,)\n"
    assert warned == 1, err
    assert "FUTE_SKLEARN_CACHE" in err
    assert "set_config(cache_dir=" in err


@pytest.mark.parametrize(
    ("variables", "where"),
    [
        ({"FUTE_SKLEARN_CACHE": "~/mine"}, "mine"),
        ({"FUTE_SKLEARN_CACHE": ""}, ".cache/fute_sklearn"),
        ({"FUTE_SKLEARN_CACHE": " "}, ".cache/fute_sklearn"),
        ({"XDG_CACHE_HOME": ""}, ".cache/fute_sklearn"),
        ({"XDG_CACHE_HOME": "relative"}, ".cache/fute_sklearn"),
        ({}, ".cache/fute_sklearn"),
    ],
)
def test_where_the_environment_puts_the_cache(variables, where, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    _, warned, err = run(tmp_path, HOME=str(home), **variables)
    assert warned == 0, err
    assert list((home / where).iterdir())
    assert [p.name for p in home.iterdir()] == [where.split("/")[0]]


def test_folders_that_refuse_reading_or_writing(tmp_path, monkeypatch, texts):
    """As for users who are not root, whom permissions stop."""
    monkeypatch.setattr(_store, "_usable", set())

    def refuse(*args, **more):
        raise PermissionError(13, "Permission denied")

    for owner, name in ((os, "listdir"), (Path, "mkdir")):
        folder = tmp_path / name
        monkeypatch.setattr(owner, name, refuse)
        with (
            config_context(cache_dir=folder),
            pytest.warns(CacheUnavailableWarning, match=f"{name} cannot be used"),
        ):
            MomentEmbedder(TINY_SURROGATE, reference=texts).fit(texts, list("abababab"))
        monkeypatch.undo()
    monkeypatch.setattr(_store.tempfile, "TemporaryFile", refuse)
    with (
        config_context(cache_dir=tmp_path),
        pytest.warns(CacheUnavailableWarning, match="Permission denied"),
    ):
        TaskVectorizer(
            MomentEmbedder(TINY_SURROGATE, reference=texts), memory=tmp_path / "m"
        ).fit([(texts, list("abababab"))])


def test_files_that_cannot_be_read_later_are_computed_again(tmp_path, monkeypatch):
    class Rule:
        fingerprint = "rule"

        def predict(self, X):
            return [len(x) % 2 for x in X]

    texts = ["a", "bb"]
    with config_context(cache_dir=tmp_path):
        first = MTEWrapper(Rule()).label(texts)

        def refuse(path):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(_kept_answers, "read_file", refuse)
        with pytest.warns(CacheUnavailableWarning):
            assert MTEWrapper(Rule()).label(texts) == first


def test_answers_are_kept_for_the_process_where_the_folder_cannot_be_used(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    with pytest.warns(CacheUnavailableWarning):
        store = AnswerStore(blocked)
    store.put("key", [1, 2])
    store.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = AnswerStore(blocked)
    assert again.get("key") == [1, 2]
    again.close()
    (tmp_path / "answers.sqlite").mkdir()
    with pytest.warns(CacheUnavailableWarning, match="unable to open"):
        AnswerStore(tmp_path).close()


def test_settings_are_checked(tmp_path):
    with pytest.raises(ValueError, match="empty path"):
        set_config(cache_dir="")
    with pytest.raises(ValueError, match="max_cache_bytes=0"):
        set_config(max_cache_bytes=0)
    with pytest.raises(TypeError), config_context(no_such_setting=1):
        pass
    embedder = MomentEmbedder(TINY_SURROGATE, reference=["a", "b"])
    with pytest.raises(ValueError, match="empty path"):
        TaskVectorizer(embedder, memory="").fit([(["a", "b"], [1, 2])])
    with config_context(cache_dir="~/x"):
        assert get_config()["cache_dir"] == Path.home() / "x"


def test_a_context_is_local_to_its_thread(tmp_path):
    seen = {}
    started, done = threading.Event(), threading.Event()

    def other():
        with config_context(max_cache_bytes=7):
            started.set()
            done.wait()
            seen["inside"] = get_config()["max_cache_bytes"]
        seen["after"] = get_config()["max_cache_bytes"]

    before = get_config()["max_cache_bytes"]
    thread = threading.Thread(target=other)
    thread.start()
    started.wait()
    assert get_config()["max_cache_bytes"] == before
    with config_context(max_cache_bytes=9):
        set_config(max_cache_bytes=11)
        assert get_config()["max_cache_bytes"] == 11
        done.set()
        thread.join()
        assert get_config()["max_cache_bytes"] == 11
    assert get_config()["max_cache_bytes"] == before
    assert seen == {"inside": 7, "after": before}


def test_set_config_counts_for_all_threads(monkeypatch):
    monkeypatch.setitem(_config._config, "max_cache_bytes", 5)
    set_config(max_cache_bytes=13)
    seen = []
    thread = threading.Thread(
        target=lambda: seen.append(get_config()["max_cache_bytes"])
    )
    thread.start()
    thread.join()
    assert seen == [13]


def test_parameter_validation_can_be_skipped(texts, labels):
    import sklearn

    bad = {"dropout": -1.0}  # of no consequence without a prefix
    with pytest.raises(ValueError, match="dropout"):
        TuPaTEEmbedder(TINY_SURROGATE, max_epochs=1, **bad).fit(texts, labels)
    with sklearn.config_context(skip_parameter_validation=True):
        est = TuPaTEEmbedder(TINY_SURROGATE, max_epochs=1, **bad)
        est.fit(texts, labels)
        TaskVectorizer(est).fit([(texts, labels)])
        MTEWrapper(est.student_, embedder=est).fit(texts)


def test_transform_leaves_the_vectorizer_unchanged(texts, labels):
    import pickle

    est = TaskVectorizer(MomentEmbedder(TINY_SURROGATE, reference=texts))
    est.fit([(texts, labels)])
    before = pickle.dumps(est)
    other = ["pos" if x == "neg" else "neg" for x in labels]
    est.transform([(texts, other), (texts[:4], labels[:4])])
    assert pickle.dumps(est) == before
