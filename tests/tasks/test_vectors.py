"""Embeddings keep the name of their space, or lose it; never a wrong one."""

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
