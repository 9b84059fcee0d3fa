"""Check and normalise what models return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax

from .._utils._columns import (
    CONTAINERS,
    EXACT_FLOAT,
    Coded,
    by_distinct,
    column_names,
    column_of,
    distinct,
    is_missing,
    is_plain_array,
    is_table,
    plain,
    scalars,
    table_of,
    typed_array,
)
from ..tasks._targets import reordered
from ..tasks._validation import label_name

LEAST_ROWS = 8  # fewest rows on which scores are compared with predictions


@dataclass(frozen=True)
class ModelAnswers:
    """Predictions (n,) or scores (n, n_columns), with the column names of a table.

    Rows that are ``abstained`` (n,) hold no answer, and any value.
    """

    values: np.ndarray
    names: tuple[str, ...]
    abstained: np.ndarray


def checked_answers(
    found: Any, count: int, method: str, abstention_label: Any = None
) -> ModelAnswers:
    """Convert a model's return value to an array of ``count`` valid rows, or raise.

    None, NaN, an empty string, a row of NaN and the label that stands for them are
    abstentions.
    """
    if isinstance(found, (str, bytes, dict)) or not hasattr(found, "__iter__"):
        raise TypeError(f"expected an array, got {found!r}.")
    found = plain(found)
    names = tuple(label_name(c) for c in column_names(found) or ())
    scores = method == "predict_proba" and names
    if is_table(found) and (scores or not _one_column(found)):
        values, abstained = _table(found, method)
    else:
        (values, abstained), names = _column_of(found, abstention_label), ()
    if len(values) != count:
        raise ValueError(f"expected {count} predictions, got {len(values)}.")
    return ModelAnswers(values, names, abstained)


def _table(found: Any, method: str) -> tuple[np.ndarray, np.ndarray]:
    if _one_column(found):  # scores of one label, of which others follow
        values = np.asarray(found, dtype=float)
    else:
        values = table_of(found, "the answer")
    abstained = np.isnan(values).all(1)
    good = np.isfinite(values)
    if method == "predict_log_proba":
        good = ~np.isnan(values)
    good[abstained] = True
    if not good.all():
        row = int(np.argmin(good.all(1)))
        raise ValueError(f"row {row} is {values[row].tolist()}, no finite numbers.")
    return values, abstained


def _column_of(found: Any, abstention_label: Any) -> tuple[np.ndarray, np.ndarray]:
    """Convert one column of answers; abstentions take the value of another row."""
    if is_table(found):  # of one column
        rows = found.to_numpy() if hasattr(found, "to_numpy") else found
        found = [row[0] for row in rows]
    named = None if abstention_label is None else label_name(abstention_label)

    def is_none(value: Any) -> bool:
        return (
            is_missing(value)
            or (isinstance(value, str) and not value.strip())
            or (not isinstance(value, CONTAINERS) and label_name(value) == named)
        )

    if is_plain_array(found) and found.dtype.kind in "Ub":
        if not any(map(is_none, Coded.of(found).levels)):
            return found, np.zeros(len(found), dtype=bool)
    values = scalars(found)
    abstained = np.zeros(len(values), dtype=bool)
    if any(map(is_none, distinct(values))):
        abstained[:] = by_distinct(is_none, values)
    answered = values
    if abstained.any():
        answered = [v for v, none in zip(values, abstained, strict=True) if not none]
    array = _typed(column_of(answered, "prediction"))
    if len(answered) == len(values) or not answered:
        return array if answered else np.full(len(values), ""), abstained
    whole = np.full(len(values), array[0], dtype=array.dtype)
    whole[~abstained] = array
    return whole, abstained


def joined(
    parts: Sequence[tuple[Any, tuple[str, ...]]], fill: bool = False
) -> ModelAnswers:
    """Join the answers to single texts: a value, row of scores or None, and names.

    Columns are joined by name; those that some texts lack are an error, unless they are
    to be filled with 0.
    """
    abstained = np.array([value is None for value, _ in parts])
    answered = _by_name([(v, names) for v, names in parts if v is not None], fill)
    forms = {(np.shape(value), names) for value, names in answered}
    if len(forms) > 1:
        raise ValueError(
            "texts got answers of different forms, (columns, column names) "
            f"{sorted(map(str, forms))}; expected the same for all."
        )
    if not answered:
        return ModelAnswers(np.full(len(parts), ""), (), abstained)
    (shape, names), values = next(iter(forms)), [value for value, _ in answered]
    if shape:
        whole = np.full((len(parts), *shape), np.nan)
        whole[~abstained] = np.stack(values)
        return ModelAnswers(whole, names, abstained)
    array = _typed(values)
    column = np.full(len(parts), array[0], dtype=array.dtype)
    column[~abstained] = array
    return ModelAnswers(column, (), abstained)


def _by_name(
    parts: list[tuple[Any, tuple[str, ...]]], fill: bool
) -> list[tuple[Any, tuple[str, ...]]]:
    """Bring rows of scores with column names into one order of columns."""
    orders = dict.fromkeys(names for _, names in parts)
    if len(orders) < 2 or () in orders:
        return parts
    columns = tuple(dict.fromkeys(name for names in orders for name in names))
    if not fill and any(len(names) < len(columns) for names in orders):
        return parts
    places = {names: [columns.index(name) for name in names] for names in orders}
    out = []
    for row, names in parts:
        whole = np.zeros(len(columns))
        whole[places[names]] = row
        out.append((whole, columns))
    return out


def in_rows_order(found: Any, chunk: Any) -> Any:
    """Sort a pandas object by the texts' index, if its index is a permutation of it."""
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


def _typed(values: list[Any]) -> np.ndarray:
    """Convert answers to an array; mixed types become label names."""
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
    """Return the columns of a table of scores with their classes.

    The classes are the model's ``classes_``, or else those given by the user, or else
    the table's column names.  Column names must agree with given classes and are then
    sorted by them.
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
    """Return scores with one column per class; a binary score is split into two."""
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


def looks_one_vs_one(model: Any, scores: np.ndarray, chunk: Any) -> bool:
    """Return whether three columns of scores are one-vs-one scores of three classes.

    One score per class is greatest for the predicted class.  If it is not so for more
    than half of the texts, the columns are taken for pairs of classes.
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
    """Renaming of a model's labels to those of a task.

    Parameters
    ----------
    label_names : mapping or None
        Task labels by model label, which are matched by name; several labels of the
        model may be mapped to one.  None renames nothing.
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
        """Raise ValueError if the model lacks a label that is to be renamed."""
        known = {label_name(label) for label in labels}
        if strange := sorted(set(self.names) - known):
            raise ValueError(
                f"label_names names {strange}, but the model's labels are "
                f"{sorted(known)}."
            )

    def of(self, label: Any) -> Any:
        """Return the task label of a model's label."""
        return self.names.get(label_name(label), label) if self.names else label

    def of_columns(
        self, table: np.ndarray, classes: Sequence[Any]
    ) -> tuple[np.ndarray, list[Any]]:
        """Rename the columns of a table; sum columns that get the same name."""
        places: dict[str, list[int]] = {}
        renamed = [self.of(label) for label in classes]
        for i, label in enumerate(renamed):
            places.setdefault(label_name(label), []).append(i)
        columns = [table[:, rows].sum(1) for rows in places.values()]
        return np.stack(columns, 1), [renamed[rows[0]] for rows in places.values()]


def rows_of(X: Any, texts: list[str], rows: Sequence[int]) -> Any:
    """Return rows of X in X's type, or a list of texts if X cannot be indexed."""
    first, last = rows[0], rows[-1] + 1
    if last - first == len(rows):
        part: Any = slice(first, last)
        if hasattr(X, "iloc"):
            return X.iloc[part]
        return X[part] if isinstance(X, (list, tuple, np.ndarray)) else texts[part]
    if hasattr(X, "iloc"):
        return X.iloc[list(rows)]
    if isinstance(X, np.ndarray):
        return X[list(rows)]
    found = [X[i] if isinstance(X, (list, tuple)) else texts[i] for i in rows]
    return tuple(found) if isinstance(X, tuple) else found
