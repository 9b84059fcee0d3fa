"""Embeddings keep the name of their space, or lose it; never a wrong one."""

import os
import pickle

import numpy as np
import pytest

from fute_sklearn import TaskVectors, load_embeddings, save_embeddings
from fute_sklearn.exceptions import FingerprintMismatchError

ONE = TaskVectors(np.eye(3), "one")
TWO = TaskVectors(np.eye(3), "two")


@pytest.mark.parametrize(
    "found",
    [
        ONE + 1,
        ONE - ONE.mean(0),
        ONE * np.ones(3),
        2 - ONE,
        -ONE,
        np.sqrt(ONE),
        ONE[1:],
        ONE[0],
        ONE.mean(0),
        ONE / np.linalg.norm(ONE, axis=1, keepdims=True),
        np.vstack([ONE, ONE]),
    ],
)
def test_the_space_is_kept_within_it(found):
    assert isinstance(found, TaskVectors)
    assert found.fingerprint == "one"


def assigned(vectors):
    vectors = vectors.copy()
    vectors += TWO
    return vectors


@pytest.mark.parametrize(
    "compute",
    [
        lambda: ONE + TWO,
        lambda: ONE - TWO[0],
        lambda: np.add(ONE, TWO),
        lambda: np.add(np.ones(3), TWO, out=ONE.copy()),
        lambda: assigned(ONE),
        lambda: ONE @ TWO,
        lambda: ONE.dot(TWO),
        lambda: np.dot(ONE, TWO),
        lambda: np.einsum("ij,ij->i", ONE, TWO),
        lambda: np.concatenate([ONE, TWO]),
        lambda: np.where(True, ONE, TWO),
        lambda: np.maximum(ONE, TWO),
    ],
)
def test_different_spaces_are_refused(compute):
    with pytest.raises(FingerprintMismatchError, match="'one', 'two'"):
        compute()


def test_nothing_is_written_before_the_refusal():
    left = ONE.copy()
    with pytest.raises(FingerprintMismatchError):
        left += TWO
    np.testing.assert_array_equal(left, ONE)
    left += ONE
    assert left.fingerprint == "one"
    assert left[0, 0] == 2


@pytest.mark.parametrize(
    "found", [ONE @ ONE.T, ONE.dot(ONE), np.inner(ONE, ONE), ONE == ONE, ONE > 0]
)
def test_results_that_are_no_embeddings_are_plain(found):
    assert type(found) is np.ndarray


def test_questions_may_be_asked_of_any_two():
    assert np.array_equal(ONE, TWO)
    assert np.allclose(ONE, TWO)
    assert (ONE == TWO).all()


def test_an_unknown_space_makes_the_result_unknown():
    unknown = TaskVectors(np.eye(3))
    assert (ONE + unknown).fingerprint is None
    assert np.vstack([ONE, unknown]).fingerprint is None
    assert np.vstack([ONE, np.eye(3)]).fingerprint is None
    assert not hasattr(np.average([ONE, TWO], axis=0), "fingerprint")


def test_label_names_travel_with_the_space(tmp_path):
    vectors = TaskVectors(np.eye(2), "one", ["neg", "pos"])
    again = pickle.loads(pickle.dumps(vectors))
    assert (again.fingerprint, again.label_names) == ("one", ("neg", "pos"))
    save_embeddings(tmp_path / "v.safetensors", vectors)
    loaded, _ = load_embeddings(tmp_path / "v.safetensors")
    assert (loaded.fingerprint, loaded.label_names) == ("one", ("neg", "pos"))
    other = TaskVectors(np.eye(2), "two", ["no", "yes"])
    with pytest.raises(
        FingerprintMismatchError, match=r"\['neg', 'pos'\].*label_names"
    ):
        np.vstack([vectors, other])


def test_every_damaged_byte_of_saved_embeddings_is_noticed(tmp_path):
    path = tmp_path / "zoo.safetensors"
    save_embeddings(
        path, TaskVectors(np.eye(3, dtype=np.float32), "space"), ["a", "b", "c"]
    )
    whole, draw = path.read_bytes(), np.random.default_rng(0)
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << draw.integers(8)
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="no file of save_embeddings"):
            load_embeddings(path)
    for cut in (0, 7, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="no file of save_embeddings"):
            load_embeddings(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_embeddings_that_are_no_numbers_are_not_saved(value, tmp_path):
    with pytest.raises(ValueError, match=r"rows \[1\] hold NaN"):
        save_embeddings(tmp_path / "zoo", np.array([[1.0], [value]]))


def test_a_file_of_embeddings_is_whole_or_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "zoo"
    save_embeddings(path, [[1.0]])
    old = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        save_embeddings(path, [[2.0]])
    assert path.read_bytes() == old
    assert [one.name for one in tmp_path.iterdir()] == ["zoo"]
