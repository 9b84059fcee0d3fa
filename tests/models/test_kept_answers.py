"""Answers are kept as they come: after a stop, by other processes, on bad disks."""

import os
import signal
import time
import warnings

import numpy as np
import pytest

from fute_sklearn import MTEWrapper, config_context
from fute_sklearn.exceptions import (
    DamagedCacheWarning,
    ModelLabelError,
    ModelLabelWarning,
)
from fute_sklearn.models import _kept_answers
from fute_sklearn.models._kept_answers import KeptAnswers, answer_key

TEXTS = [f"text number {i}" for i in range(200)]
PORTION = 32
MOMENTS = 20


def counted(path, seconds):
    """A model that notes every text it is asked, at once."""

    def model(texts: list[str]) -> list[str]:
        with open(path, "a") as file:
            file.write("".join(f"{text}\n" for text in texts))
        time.sleep(seconds * len(texts))
        return [text[-1] for text in texts]

    return MTEWrapper(model, fingerprint="counted")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_killed_at_any_moment_one_portion_is_asked_again(tmp_path):
    rng = np.random.default_rng(0)
    for moment in range(MOMENTS):
        path = tmp_path / f"{moment}.txt"
        with config_context(cache_dir=tmp_path / f"cache{moment}"):
            child = os.fork()
            if child == 0:
                counted(path, 1e-3).label(TEXTS)
                os._exit(0)
            time.sleep(rng.uniform(0.01, 0.3))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            task = counted(path, 0).label(TEXTS)
        assert list(task.y) == [text[-1] for text in TEXTS]
        asked = path.read_text().splitlines()
        assert set(asked) == set(TEXTS)
        assert len(asked) - len(set(asked)) <= PORTION


def test_a_fault_keeps_the_answers_before_it(tmp_path):
    asked = []

    def model(texts: list[str]) -> list[str]:
        asked.extend(texts)
        if broken and TEXTS[100] in texts:
            raise RuntimeError("no more")
        return ["a" for _ in texts]

    broken = True
    with pytest.raises(ModelLabelError, match="no more"):
        MTEWrapper(model, fingerprint="faulty").label(TEXTS)
    count = len(asked)
    broken = False
    MTEWrapper(model, fingerprint="faulty").label(TEXTS)
    assert len(asked) == len(TEXTS) + PORTION
    assert count == 4 * PORTION


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "other"])
def test_damaged_files_are_asked_again(damage, tmp_path):
    path = tmp_path / "asked.txt"
    with config_context(cache_dir=tmp_path / "cache"):
        first = counted(path, 0).label(TEXTS)
        # A slow machine writes the portions to several files.
        for file in (tmp_path / "cache" / "predictions").rglob("*.answers"):
            data = file.read_bytes()
            file.write_bytes(
                {
                    "cut": data[:-20],
                    "changed": data[:-5] + b"\0" + data[-4:],
                    "empty": b"",
                    "other": b'{"sha256": 3}\nnothing',
                }[damage]
            )
        with pytest.warns(DamagedCacheWarning):
            again = counted(path, 0).label(TEXTS)
    assert list(again.y) == list(first.y)
    assert len(path.read_text().splitlines()) == 2 * len(TEXTS)


@pytest.mark.parametrize(
    "answers",
    [
        ["a", "b", None, "a longer one"],
        [1, 2, 3, None],
        [0.5, 1.5, np.nan, 2.0],
        [True, False, True, True],
        np.array([[0.25, 0.75], [np.nan, np.nan], [1, 0], [0, 1]]),
    ],
)
def test_every_form_of_answer_comes_back_as_it_was(answers, tmp_path):
    from fute_sklearn.models._model_answers import checked_answers

    keys = [answer_key(str(i)) for i in range(4)]
    found = checked_answers(answers, 4, "predict")
    kept = KeptAnswers(tmp_path)
    kept.add(keys[:2], checked_answers(answers[:2], 2, "predict"))
    kept.flush()
    kept.add(keys[2:], checked_answers(answers[2:], 2, "predict"))
    kept.flush()
    assert len(list(tmp_path.iterdir())) == 2
    back = KeptAnswers(tmp_path).gather(keys)
    np.testing.assert_array_equal(back.abstained, found.abstained)
    there = ~found.abstained
    assert back.values[there].tolist() == found.values[there].tolist()
    assert back.values.dtype.kind == found.values.dtype.kind


def test_many_files_are_merged(tmp_path, monkeypatch):
    from fute_sklearn.models._model_answers import checked_answers

    monkeypatch.setattr(_kept_answers, "MOST_FILES", 5)
    keys = [answer_key(str(i)) for i in range(8)]
    for i, key in enumerate(keys):
        kept = KeptAnswers(tmp_path)
        kept.add([key], checked_answers([i], 1, "predict"))
        kept.flush()
    assert len(list(tmp_path.iterdir())) < 8
    assert KeptAnswers(tmp_path).gather(keys).values.tolist() == list(range(8))


def test_forms_that_do_not_fit_are_named():
    def model(texts: list[str]):
        first = texts[0] == TEXTS[0]
        return np.full((len(texts), 2 if first else 3), 1 / (2 if first else 3))

    wrapper = MTEWrapper(model, response_method="predict_proba", classes=["a", "b"])
    with pytest.raises(ModelLabelError, match="answers of different forms"):
        wrapper.label(TEXTS)


def test_a_merge_that_cannot_be_written_loses_nothing(tmp_path, monkeypatch):
    from fute_sklearn.exceptions import CacheUnavailableWarning
    from fute_sklearn.models._model_answers import checked_answers

    monkeypatch.setattr(_kept_answers, "MOST_FILES", 2)
    keys = [answer_key(str(i)) for i in range(4)]
    for i, key in enumerate(keys):
        kept = KeptAnswers(None)
        kept.folder = tmp_path
        kept.add([key], checked_answers([i], 1, "predict"))
        kept.flush()
    before = sorted(tmp_path.iterdir())

    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_kept_answers, "write_atomically", full)
    with pytest.warns(CacheUnavailableWarning):
        kept = KeptAnswers(tmp_path)
    assert sorted(tmp_path.iterdir()) == before
    assert kept.gather(keys).values.tolist() == [0, 1, 2, 3]


class Failing:
    """Leaves out answers while its server is away."""

    failures_pass = True
    fingerprint = "failing"
    away = True
    asked = 0

    def predict(self, X):
        type(self).asked += len(X)
        return [None if self.away and "3" in text else "good" for text in X]


@pytest.mark.parametrize("passing", [True, False])
def test_failures_that_may_pass_are_not_kept_as_abstentions(passing, monkeypatch):
    monkeypatch.setattr(Failing, "failures_pass", passing)
    monkeypatch.setattr(Failing, "asked", 0)
    texts = [f"film {i}" for i in range(6)]
    wrapper = MTEWrapper(Failing(), abstentions="drop")
    with pytest.warns(ModelLabelWarning, match="1 of 6"):
        assert wrapper.label(texts).n_samples == 5
    monkeypatch.setattr(Failing, "away", False)
    warnings.simplefilter("ignore", ModelLabelWarning)
    assert wrapper.label(texts).n_samples == (6 if passing else 5)
    assert Failing.asked == (7 if passing else 6)
