"""Parse targets: labels, class probabilities, numbers or free texts."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._utils._columns import (
    Coded,
    are_plain,
    categories_of,
    column_names,
    column_of,
    is_table,
    plain,
    scalar,
    table_of,
    typed_array,
)
from .._utils._stack_level import find_stack_level
from .._utils._store import text_key
from ._validation import check_label_names, first_seen, label_name, unreadable_at

MAX_AUTO_CLASSES = 20


@dataclass(frozen=True)
class TargetSet:
    """Parsed targets of n texts.

    Attributes
    ----------
    kind : {"label", "number", "text"}
        Labels and class probabilities are both of kind ``"label"``.
    names : tuple of str
        Label names, sorted; empty for other kinds.
    classes : ndarray (n_classes,)
        The labels as given, in the order of ``names``.
    proba : ndarray (n, n_classes)
        Target distribution over the names; one-hot for plain labels.
    values : ndarray (n,)
        Numbers; empty for other kinds.
    texts : tuple of str
        Free texts, or numbers formatted as text; empty for labels.
    """

    kind: str
    names: tuple[str, ...] = ()
    classes: np.ndarray = field(default_factory=lambda: np.empty(0))
    proba: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    values: np.ndarray = field(default_factory=lambda: np.empty(0))
    texts: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.proba) if self.kind == "label" else len(self.texts)

    @property
    def certain(self) -> bool:
        """Whether every row is one label, and not a distribution over several."""
        return bool(((self.proba == 0) | (self.proba == 1)).all())

    @property
    def key(self) -> str:
        """Hash of the content."""
        rows = (self.proba if self.kind == "label" else self.values).tobytes().hex()
        return text_key(self.kind, *self.names, rows, *self.texts)

    def take(self, rows: np.ndarray) -> TargetSet:
        """Return the chosen rows."""
        label = self.kind == "label"
        return TargetSet(
            self.kind,
            self.names,
            self.classes,
            self.proba[rows] if label else self.proba,
            self.values[rows] if self.kind == "number" else self.values,
            () if label else tuple(self.texts[i] for i in rows),
        )

    def label_names(self) -> np.ndarray:
        """Most probable label name of each row."""
        return np.array(self.names, dtype=object)[self.proba.argmax(1)]


def number_text(value: float) -> str:
    """Write a number with four significant digits."""
    return f"{value:.4g}"


def parse_targets(y: Any, classes: Any = None, kind: str | None = None) -> TargetSet:
    """Parse targets of the given kind, or infer the kind from the values.

    Two or more columns are class probabilities, whose classes are given by ``classes``
    or by the column names of a table.  One column holds numbers if all values are
    floats and some are not whole; free texts if all values are strings, more than 20 of
    them distinct, and most rows hold one that no other row has; otherwise labels.
    """
    if y is None:
        raise ValueError(
            "y is None; a task embedding is learnt from texts with their targets. Give "
            "labels, class probabilities, numbers or target texts."
        )
    if classes is not None:
        check_label_names(classes := plain(classes))
        classes = [scalar(label) for label in classes]
    if isinstance(y, Coded) and are_plain(y.levels):
        column = y
    else:
        y = y.values() if isinstance(y, Coded) else plain(y)
        if is_table(y):
            if kind not in (None, "label"):
                raise ValueError(
                    f"y has several columns, which are class probabilities, but "
                    f"kind={kind!r} is asked for; give one column."
                )
            return _parse_proba(table_of(y, "y"), column_names(y), classes)
        column = Coded.of(column_of(y, "y"))
        if classes is None and kind in (None, "label"):
            classes = categories_of(y)
    if kind is None:
        kind = "label" if classes is not None else _kind_of(column)
    if kind == "number":
        return _parse_numbers(column.values())
    if kind == "text":
        return TargetSet("text", texts=_parse_texts(column.values()))
    return _parse_labels(column.levels, column.places, classes)


def refuse_numbers(y: Any) -> None:
    """Raise if one column holds floats that are not all whole, which are no labels."""
    if y is None or is_table(y):
        return  # refused elsewhere, or probabilities
    if _are_fractions(Coded.of(column_of(y, "y")).levels):
        raise ValueError(
            "Unknown label type: y holds numbers that are not all whole. Numbers are "
            "for StudentRegressor; if they are labels, make them strings."
        )


def _are_fractions(levels: list[Any]) -> bool:
    if not levels or not all(isinstance(v, float) for v in levels):
        return False
    return not all(math.isfinite(v) and v == round(v) for v in levels)


def _kind_of(column: Coded) -> str:
    levels, count = column.levels, len(column)
    if _are_fractions(levels):
        return "number"
    if not _mostly_unique(levels, column.places):
        return "label"
    if all(isinstance(v, str) and v.strip() for v in levels):
        return "text"
    if all(isinstance(v, (int, float)) for v in levels):
        warnings.warn(
            f"y holds {len(set(levels))} different whole numbers in {count} "
            "rows, which are taken for labels; say kind='number' where they are "
            "quantities, kind='label' where they are not",
            stacklevel=find_stack_level(),
        )
    return "label"


def _mostly_unique(levels: list[Any], places: np.ndarray) -> bool:
    """Return whether more than 20 names are distinct and most rows' occur once."""
    if len(levels) <= MAX_AUTO_CLASSES:
        return False
    counts: Counter[str] = Counter()
    for value, count in zip(levels, np.bincount(places).tolist(), strict=True):
        counts[label_name(value)] += count
    once = sum(count == 1 for count in counts.values())
    return len(counts) > MAX_AUTO_CLASSES and once > len(places) / 2


def _parse_texts(values: list[Any]) -> tuple[str, ...]:
    texts = tuple(str(v).strip() for v in values)
    for i, text in enumerate(texts):
        if (at := unreadable_at(text)) is not None:
            raise ValueError(
                f"y[{i}] holds a lone surrogate at place {at}, which is no character."
            )
    return texts


def _parse_numbers(values: list[Any]) -> TargetSet:
    try:
        numbers = np.array([float(v) for v in values])
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"y holds something that is no number: {error}") from error
    if not np.isfinite(numbers).all():
        raise ValueError(f"y[{int(np.argmin(np.isfinite(numbers)))}] is infinite.")
    return TargetSet("number", values=numbers, texts=tuple(map(number_text, numbers)))


def _parse_labels(levels: list[Any], places: np.ndarray, classes: Any) -> TargetSet:
    if not levels:
        raise ValueError("y is empty; at least one target is required.")
    names = [label_name(value) for value in levels]
    seen = first_seen(names)
    if classes is None:
        by_name = dict(zip(reversed(names), reversed(levels), strict=True))
        labels = [by_name[name] for name in seen]
    else:
        check_label_names(classes)
        labels = list(classes)
    known = check_label_names(labels)
    if strange := set(seen) - set(known):
        raise ValueError(
            f"y holds labels {sorted(strange)}, which are not among classes={known}."
        )
    order = np.argsort(known)
    place = {known[c]: i for i, c in enumerate(order)}
    columns = np.array([place[name] for name in names])[places]
    proba = np.zeros((len(places), len(known)), np.float32)
    proba[np.arange(len(places)), columns] = 1
    return TargetSet(
        "label",
        names=tuple(known[c] for c in order),
        classes=typed_array([labels[c] for c in order]),
        proba=proba,
    )


def _parse_proba(
    proba: np.ndarray, columns: list[Any] | None, classes: Any
) -> TargetSet:
    given = columns if classes is None else classes
    if given is None:
        raise ValueError(
            f"y holds probabilities of {proba.shape[1]} classes without names. Give "
            "classes=[...], or a DataFrame whose columns are the labels."
        )
    names = check_label_names(given)
    labels = list(given)
    if classes is not None and columns is not None:
        proba = reordered(proba, columns, names, "classes")
    if len(names) != proba.shape[1] or len(names) < 2:
        raise ValueError(
            f"y has {proba.shape[1]} columns but {len(names)} classes are named; "
            "expected one column per class and at least two."
        )
    total = proba.sum(1)
    wrong = ~np.isfinite(total) | (proba < -1e-6).any(1) | (np.abs(total - 1) > 1e-3)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"y[{row}] = {proba[row].tolist()} is no probability distribution: values "
            "must be finite, not negative, and sum to 1."
        )
    order = np.argsort(names)
    proba = np.clip(proba[:, order], 0, None)
    return TargetSet(
        "label",
        names=tuple(names[c] for c in order),
        classes=typed_array([labels[c] for c in order]),
        proba=(proba / proba.sum(1, keepdims=True)).astype(np.float32),
    )


def reordered(
    table: np.ndarray, columns: list[Any], names: list[str], owner: str
) -> np.ndarray:
    """Sort the columns of a table by ``names``; ``owner`` is their source in errors."""
    given = check_label_names(columns)
    if set(given) != set(names):
        raise ValueError(
            f"the table has the columns {given}, but {owner} are {names}; expected "
            "one column per class, under its name."
        )
    return table[:, [given.index(name) for name in names]]
