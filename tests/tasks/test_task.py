"""Tasks and the four kinds of targets."""

import pickle

import numpy as np
import pandas as pd
import pytest

from fute_sklearn import Task
from fute_sklearn.tasks._task import as_task

X = ["a fine film", "a dull film", "so so"]


def test_labels_are_sorted_by_name():
    task = Task(X, ["b", "a", "b"], name="t")
    assert task.targets.names == ("a", "b")
    np.testing.assert_array_equal(task.targets.proba, [[0, 1], [1, 0], [0, 1]])
    assert list(task.y) == ["b", "a", "b"]
    assert repr(task) == "Task(name='t', n_samples=3, classes=['a', 'b'])"


@pytest.mark.parametrize(
    ("y", "kind"),
    [
        ([0, 1, 1], "label"),
        ([0.0, 1.0, 1.0], "label"),
        ([True, False, True], "label"),
        (pd.Categorical(["u", "v", "u"]), "label"),
        ([0.25, 1.0, 2.0], "number"),
        (np.float32([0.25, 1.0, 2.0]), "number"),
    ],
)
def test_kinds(y, kind):
    assert Task(X, y).targets.kind == kind


def test_many_distinct_strings_are_free_texts():
    texts = [f"text {i}" for i in range(30)]
    assert Task(texts, [f"answer {i}" for i in range(30)]).targets.kind == "text"
    few = [f"answer {i % 12}" for i in range(30)]
    assert Task(texts, few).targets.kind == "label"
    named = Task(
        texts,
        [f"answer {i}" for i in range(30)],
        classes=[f"answer {i}" for i in range(30)],
    )
    assert named.targets.kind == "label"


def test_numbers_are_written_with_four_digits():
    assert Task(X, [0.123456, 10.0, -2.0]).targets.texts == ("0.1235", "10", "-2")


def test_probabilities_by_column_name():
    frame = pd.DataFrame({"pos": [0.2, 0.5, 1.0], "neg": [0.8, 0.5, 0.0]})
    task = Task(X, frame)
    assert task.targets.names == ("neg", "pos")
    np.testing.assert_allclose(task.targets.proba[0], [0.8, 0.2])
    assert task == Task(X, frame.to_numpy(), classes=["pos", "neg"])
    np.testing.assert_allclose(task.y, task.targets.proba)


def test_classes_that_do_not_occur():
    task = Task(X, ["a", "a", "a"], classes=["a", "b"])
    assert task.targets.proba.shape == (3, 2)


@pytest.mark.parametrize(
    ("texts", "y", "options", "error", "message"),
    [
        ("abc", ["a"], {}, TypeError, "one string"),
        ([], [], {}, ValueError, "empty"),
        (["a", 3], ["a", "b"], {}, TypeError, r"X\[1\]"),
        (7, ["a"], {}, TypeError, "expected a sequence"),
        (X, None, {}, ValueError, "y is None"),
        (X, "abc", {}, TypeError, "y is one string"),
        (X, ["a", "b"], {}, ValueError, "same length"),
        (X, ["a", "", "b"], {}, ValueError, "no name"),
        (X, ["a", None, "b"], {}, ValueError, r"y\[1\]"),
        (X, [0.5, np.nan, 0.1], {}, ValueError, r"y\[1\]"),
        (X, [0.5, np.inf, 0.1], {}, ValueError, "infinite"),
        (X, ["a", "b", "c"], {"classes": ["a", "b"]}, ValueError, "not among"),
        (X, [1, 0, 1], {"classes": [0, 1, "1"]}, ValueError, "several labels"),
        (X, np.full((3, 2), 0.5), {}, ValueError, "without names"),
        (X, np.full((3, 2), 0.6), {"classes": list("ab")}, ValueError, "sum to 1"),
        (X, np.full((3, 2), 0.5), {"classes": list("abc")}, ValueError, "2 columns"),
        (X, [[0.5, np.nan]] * 3, {"classes": ["a", "b"]}, ValueError, r"y\[0\]"),
    ],
)
def test_bad_input(texts, y, options, error, message):
    with pytest.raises(error, match=message):
        Task(texts, y, **options)


def test_a_task_is_frozen_and_pickles():
    task = Task(X, ["a", "b", "a"], name="t")
    with pytest.raises(AttributeError, match="frozen"):
        task.name = "other"
    assert pickle.loads(pickle.dumps(task)) == task
    assert len({task, Task(X, ["a", "b", "a"], name="t")}) == 1
    assert task != Task(X, ["a", "b", "b"], name="t")


def test_from_long():
    frame = pd.DataFrame(
        {
            "task": ["z", "a", "z", "a"],
            "text": ["one", "two", "three", "four"],
            "label": ["u", "v", "w", "x"],
        }
    )
    tasks = Task.from_long(frame)
    assert [t.name for t in tasks] == ["z", "a"]
    assert tasks[0].texts == ("one", "three")


def test_pairs_and_objects_are_tasks():
    class Sample:
        X = X
        y = ("a", "b", "a")

    assert as_task((X, ["a", "b", "a"])) == as_task(Sample())
    with pytest.raises(TypeError, match=r"tasks\[4\]"):
        as_task(3, 4)


def test_lists_of_tasks_do_not_turn_into_arrays():
    array = np.empty(2, dtype=object)
    array[:] = [Task(X, ["a", "b", "a"]), Task(X, ["a", "b", "b"])]
    assert array[0].n_samples == 3
