"""What models return, checked, and kept while they live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax

from .._utils._columns import (
    EXACT_FLOAT,
    column_names,
    column_of,
    is_table,
    plain,
    table_of,
    typed_array,
)
from .._utils._store import ArrayStore
from ..tasks._targets import reordered
from ..tasks._validation import label_name

LEAST_ROWS = 8  # for comparing scores with predictions


@dataclass(frozen=True)
class ModelAnswers:
    """One answer per text, (n,) or (n, n_columns), and a table's column names."""

    values: np.ndarray
    names: tuple[str, ...] = ()


def checked_answers(found: Any, count: int, method: str) -> ModelAnswers:
    """Turn what a model returned into an array of sound answers."""
    if isinstance(found, (str, bytes, dict)) or not hasattr(found, "__iter__"):
        raise TypeError(f"expected an array, got {found!r}.")
    found = plain(found)
    names = tuple(label_name(c) for c in column_names(found) or ())
    if is_table(found) and not _one_column(found):
        values = table_of(found, "the answer")
        if not np.isfinite(values).all() and method != "predict_log_proba":
            row = int(np.argmin(np.isfinite(values).all(1)))
            raise ValueError(f"row {row} is {values[row].tolist()}, no finite numbers.")
        if np.isnan(values).any():
            row = int(np.argmax(np.isnan(values).any(1)))
            raise ValueError(f"row {row} is {values[row].tolist()}, no numbers.")
    else:
        values, names = _column(found), ()
    if len(values) != count:
        raise ValueError(f"expected {count} predictions, got {len(values)}.")
    return ModelAnswers(values, names)


def in_rows_order(found: Any, chunk: Any) -> Any:
    """Bring a pandas object whose index is that of the texts into their order."""
    index = getattr(found, "index", None)
    if index is None or callable(index) or not hasattr(found, "iloc"):
        return found
    texts = getattr(chunk, "index", None) if hasattr(chunk, "iloc") else None
    wanted = list(range(len(chunk))) if texts is None else list(texts)
    given = list(index)
    if given == wanted or len(set(given)) < len(given) or set(given) != set(wanted):
        return found
    place = {name: i for i, name in enumerate(given)}
    return found.iloc[[place[name] for name in wanted]]


def _one_column(found: Any) -> bool:
    shape = getattr(found, "shape", None)
    return shape[1] == 1 if shape is not None else {len(row) for row in found} == {1}


def _column(found: Any) -> np.ndarray:
    """Labels, numbers or texts; names where numpy has no type that holds them all."""
    if is_table(found):  # of one column
        rows = found.to_numpy() if hasattr(found, "to_numpy") else found
        found = [row[0] for row in rows]
    values = column_of(found, "prediction")
    for i, value in enumerate(values):
        if not label_name(value):
            raise ValueError(f"prediction[{i}] is {value!r}, which names nothing.")
    array = typed_array(values)
    if array.dtype != object:
        return array
    if {type(value) for value in values} == {int, float} and not any(
        isinstance(value, int) and abs(value) > EXACT_FLOAT for value in values
    ):
        return np.array(values, dtype=np.float64)
    return np.array([label_name(v) for v in values])


def in_classes_order(
    answers: ModelAnswers, own: Sequence[Any], more: Sequence[Any]
) -> tuple[np.ndarray, list[Any]]:
    """Return a table of answers and its classes.

    A model's ``classes_`` name its columns, else the classes that the user has given,
    else the table's own names.  Where two of them are known they must agree.
    """
    table = answers.values
    owner, classes = ("the model's classes_", own) if own else ("classes", more)
    if not classes:
        if not answers.names:
            raise ValueError(
                f"it has no classes_ that name the {table.shape[1]} columns. Give "
                "MTEWrapper(..., classes=[...]) in the columns' order."
            )
        return table, list(answers.names)
    names = [label_name(label) for label in classes]
    if answers.names:
        return reordered(table, list(answers.names), names, owner), list(classes)
    if table.shape[1] != len(names):
        pairs = len(names) * (len(names) - 1) // 2
        hint = (
            " There is one for every pair of classes: scores of one class against "
            "another (one-vs-one) rank no class; set decision_function_shape='ovr'."
            if table.shape[1] == pairs
            else ""
        )
        raise ValueError(
            f"{table.shape[1]} columns came for the {len(names)} classes {names}; "
            f"expected one per class.{hint}"
        )
    return table, list(classes)


def with_columns(found: np.ndarray, method: str, n_classes: int) -> np.ndarray:
    """Return scores with a column per class; the sign of one score tells two apart."""
    if found.ndim == 2:
        return found
    if method != "decision_function":
        raise ValueError(
            f"{method} gave one number per text; expected a row of probabilities with "
            "one column per class, shape (n, n_classes). For a model that tells the "
            "probability p of its second class only, return [1 - p, p]."
        )
    if n_classes > 2:
        raise ValueError(
            f"decision_function gave one score per text for {n_classes} classes; "
            "expected one column per class."
        )
    return np.stack([-found, found], 1) / 2


def probabilities(found: np.ndarray, method: str) -> np.ndarray:
    """Turn a table of a model's scores into probabilities of its classes."""
    if method == "predict_log_proba":
        return np.exp(found)
    if method == "decision_function":
        return softmax(found, axis=1)
    return found


def joined(parts: Sequence[ModelAnswers]) -> ModelAnswers:
    """Put the answers to several chunks of texts together."""
    shapes = {(part.values.ndim, part.names, part.values.shape[1:]) for part in parts}
    if len(shapes) > 1:
        raise ValueError(
            "chunks of texts got answers of different forms, (dimensions, column "
            f"names, columns) {sorted(map(str, shapes))}; expected the same for all."
        )
    if parts[0].values.ndim == 2:
        return ModelAnswers(np.concatenate([p.values for p in parts]), parts[0].names)
    values = [value for part in parts for value in part.values.tolist()]
    return ModelAnswers(_column(values))


def looks_one_vs_one(model: Any, scores: np.ndarray, chunk: Any) -> bool:
    """Tell scores of three pairs of classes from scores of three classes.

    Both have three columns.  Scores of classes have their greatest at the class that
    the model predicts, but for some texts where its votes are tied.
    """
    last = model
    while inner := getattr(last, "best_estimator_", None) or getattr(
        last, "steps", None
    ):
        last = inner[-1][1] if isinstance(inner, list) else inner
    if getattr(last, "decision_function_shape", None) == "ovo":
        return True
    if len(scores) < LEAST_ROWS or not hasattr(model, "predict"):
        return False
    names = [label_name(label) for label in model.classes_]
    said = [
        label_name(v)
        for v in checked_answers(
            model.predict(chunk), len(scores), "predict"
        ).values.tolist()
    ]
    best = [names[i] for i in scores.argmax(1)]
    return sum(a != b for a, b in zip(said, best, strict=True)) > len(scores) / 2


class Renaming:
    """What a model's labels are called in a task.

    Parameters
    ----------
    label_names : mapping or None
        Names by the model's labels, both compared by name; several labels may get one
        name.
    """

    def __init__(self, label_names: Mapping[Any, Any] | None) -> None:
        given = dict(label_names or {})
        self.names = {label_name(old): new for old, new in given.items()}
        if len(self.names) < len(given):
            raise ValueError(
                f"label_names={given!r} names one label of the model twice: labels "
                "are compared by name."
            )

    def check(self, labels: Sequence[Any]) -> None:
        """Refuse names for labels that the model does not have."""
        known = {label_name(label) for label in labels}
        if strange := sorted(set(self.names) - known):
            raise ValueError(
                f"label_names names {strange}, but the model's labels are "
                f"{sorted(known)}."
            )

    def of(self, label: Any) -> Any:
        """Return what a label is called."""
        return self.names.get(label_name(label), label)

    def of_columns(
        self, table: np.ndarray, classes: Sequence[Any]
    ) -> tuple[np.ndarray, list[Any]]:
        """Rename a table's columns, those that get one name summed."""
        places: dict[str, list[int]] = {}
        renamed = [self.of(label) for label in classes]
        for i, label in enumerate(renamed):
            places.setdefault(label_name(label), []).append(i)
        columns = [table[:, rows].sum(1) for rows in places.values()]
        return np.stack(columns, 1), [renamed[rows[0]] for rows in places.values()]


class MemoryStore(ArrayStore):
    """Predictions of an object that only its identity tells apart."""

    def __init__(self, owner: Any) -> None:
        super().__init__(None)
        self.owner = owner
        self.kept: dict[str, np.ndarray] = {}

    def get(self, key: str) -> np.ndarray | None:
        return self.kept.get(key)

    def put(self, key: str, array: np.ndarray) -> None:
        self.kept[key] = array


def chunk_of(X: Any, texts: list[str], part: list[int]) -> Any:
    """Rows of X in X's own type, where it can be sliced."""
    rows = slice(part[0], part[-1] + 1)
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    if isinstance(X, np.ndarray):
        return X[rows]
    return X[rows] if isinstance(X, (list, tuple)) else texts[rows]
