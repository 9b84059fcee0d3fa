"""Columns are read by their distinct values, and as if each were read alone."""

import numpy as np
import pandas as pd
import pytest

from fute_sklearn import Task
from fute_sklearn._utils._columns import (
    MOST_LEVELS,
    Coded,
    by_distinct,
    is_plain_array,
    label_name,
    scalar,
    scalars,
)
from fute_sklearn.tasks._validation import CheckedTexts, check_texts

COLUMNS = {
    "words": ["a", "b ", " a", "a"],
    "numbers and truth": [1, True, 0, False, "1"],
    "floats": [1.0, 0.5, float("nan")],
    "missing": ["a", None, "b"],
    "numpy": [np.str_("a"), np.int64(3), np.float32(0.1)],
}


@pytest.mark.parametrize("values", COLUMNS.values(), ids=COLUMNS)
def test_by_distinct_is_the_function_of_each(values):
    expected = [(type(v), label_name(v)) for v in values]
    assert by_distinct(lambda v: (type(v), label_name(v)), values) == expected


@pytest.mark.parametrize("values", COLUMNS.values(), ids=COLUMNS)
def test_places_among_the_distinct_values_give_the_values(values):
    found, plain = Coded.of(values).values(), scalars(values)
    assert repr(found) == repr(plain)
    assert list(map(type, found)) == list(map(type, plain))


def test_distinct_values_come_as_they_are_seen():
    column = Coded.of(["b", "a", "b", " b"])
    assert column.levels == ["b", "a", " b"]
    assert column.places.tolist() == [0, 1, 0, 2]
    assert Coded.of([1, True, 1, True]).places.tolist() == [0, 1, 0, 1]
    assert Coded.of([]).levels == []


def test_by_distinct_asks_once():
    asked = []
    by_distinct(lambda v: asked.append(v) or v * 2, ["a", "b"] * 50)
    assert sorted(asked) == ["a", "b"]


def test_by_distinct_returns_another_list():
    values = ["a", "b"]
    found = by_distinct(label_name, values)
    assert found == values
    assert found is not values


@pytest.mark.parametrize(
    "values",
    [
        np.array(["a", "bc"]),
        np.array([1, 2], np.uint8),
        np.array([True, False]),
        np.array([0.1, 2.0]),
        np.array([0.1, 2.0], np.float32),
        np.array(["2020-01-01"], "datetime64[D]"),
        np.array(["a", 1, None], object),
        pd.Series(["a", None, "b"]),
        pd.Series([1, 2]),
        pd.Series([1, None], dtype="Int64"),
        *COLUMNS.values(),
    ],
    ids=repr,
)
def test_scalars_are_those_of_each_value(values):
    found, expected = scalars(values), [scalar(value) for value in values]
    assert repr(found) == repr(expected)
    assert list(map(type, found)) == list(map(type, expected))


@pytest.mark.parametrize("count", [1, 2, MOST_LEVELS, MOST_LEVELS + 1, 200])
@pytest.mark.parametrize("dtype", ["U8", "U1", bool, np.uint8, np.int64, object, float])
def test_an_array_is_coded_as_its_list(count, dtype):
    values = np.random.default_rng(0).integers(0, count, 300).astype(dtype)
    found = Coded.of(values)
    assert found.values() == values.tolist()
    listed = Coded.of(values.tolist())
    assert list(map(type, found.levels)) == list(map(type, listed.levels))
    assert found.levels == listed.levels
    assert found.places.tolist() == listed.places.tolist()
    assert len(found) == 300


def test_checked_texts_are_shared_by_tasks():
    texts = CheckedTexts(check_texts(["a film", "a day"]))
    first, second = (Task(texts, y) for y in (["yes", "no"], ["no", "no"]))
    assert first.texts is second.texts == ("a film", "a day")
    assert check_texts(texts) is texts


@pytest.mark.parametrize(
    "values",
    [
        np.char.array(["yes", "no", "yes"]),
        np.array(["yes", "no", "yes"])[:, None],
        np.ma.array([1, 2, 1]),
        np.array("yes"),
    ],
    ids=["chararray", "two dimensions", "masked", "none"],
)
def test_arrays_of_other_forms_are_not_read_as_columns(values):
    assert not is_plain_array(values)
