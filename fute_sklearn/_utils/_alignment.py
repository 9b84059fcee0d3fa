"""Align gains and scores by the names of candidates and tasks, or by position."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._columns import has, label_name, plain

SHOWN = 5


@dataclass(frozen=True)
class Named:
    """Values of candidates on tasks (n_tasks, n_candidates), with names if known."""

    values: np.ndarray
    candidates: list[str] | None = None
    tasks: list[str] | None = None
    numbered: bool = False  # the candidates' names are a default pandas RangeIndex


def index_names(values: Any) -> list[str] | None:
    """Return the row names of a pandas object, or None for a default RangeIndex."""
    index = values.index if has(values, "index") else None
    if index is None or callable(index) or type(index).__name__ == "RangeIndex":
        return None
    return [label_name(name) for name in index]


def named(values: Any) -> Named:
    """Convert a dict, Series, table or array of gains or scores to `Named`."""
    if isinstance(values, Mapping):
        row = np.array([list(values.values())], dtype=np.float64)
        return Named(row, [str(name) for name in values])
    if has(values, "columns"):
        array = np.asarray(values, dtype=np.float64)
        numbered = type(values.columns).__name__ == "RangeIndex"
        names = [str(name) for name in values.columns]
        return Named(array, names, index_names(values), numbered)
    array = np.asarray(plain(values), dtype=np.float64)
    index = values.index if has(values, "index") else None
    if array.ndim == 1 and index is not None and not callable(index):
        numbered = type(index).__name__ == "RangeIndex"
        return Named(array[None], [str(n) for n in index], numbered=numbered)
    return Named(np.atleast_2d(array))


def order_of(given: Sequence[str], wanted: Sequence[str], what: str) -> list[int]:
    """Return the positions in ``given`` of ``wanted``; raise if the names differ."""
    if list(given) == list(wanted):
        return list(range(len(given)))
    missing = [name for name in dict.fromkeys(wanted) if name not in given]
    strange = [name for name in dict.fromkeys(given) if name not in wanted]
    if missing or strange:
        parts = [f"lack {missing[:SHOWN]}"] if missing else []
        parts += [f"have {strange[:SHOWN]}, which the others lack"] if strange else []
        raise ValueError(
            f"{what} are aligned by name, but {' and '.join(parts)}; the others are "
            f"named {list(wanted)[:SHOWN]}. Select and rename them, or give plain "
            "arrays in the same order."
        )
    if len(set(given)) < len(given) or len(given) != len(wanted):
        twice = sorted({name for name in given if list(given).count(name) > 1})
        raise ValueError(f"{what} cannot be aligned: the names {twice} stand twice.")
    return [list(given).index(name) for name in wanted]


def align(y_true: Any, y_score: Any) -> tuple[np.ndarray, np.ndarray, list[str] | None]:
    """Return aligned gains and scores, and the names of the columns if known.

    Tasks and candidates named on both sides are sorted in the order of the gains.
    """
    gains, scores = named(y_true), named(y_score)
    values = scores.values
    if gains.candidates is not None and scores.candidates is not None:
        what = "the candidates of gains and scores"
        values = values[:, order_of(scores.candidates, gains.candidates, what)]
    if (rows := _row_order(scores.tasks, gains.tasks, "the scores' tasks")) is not None:
        values = values[rows]
    known = [n.candidates for n in (gains, scores) if n.candidates and not n.numbered]
    return gains.values, values, known[0] if known else None


def _row_order(
    given: Sequence[str] | None, wanted: Sequence[str] | None, what: str
) -> list[int] | None:
    """Return the order of rows; None if a side is unnamed or only one is numbered."""
    if given is None or wanted is None:
        return None
    numbers = [
        all(name.lstrip("-").isdigit() for name in side) for side in (given, wanted)
    ]
    return None if numbers[0] != numbers[1] else order_of(given, wanted, what)


def align_gains(
    gains: Any, models: Iterable[str], tasks: Sequence[str] | None = None
) -> np.ndarray:
    """Return gains (n_tasks, n_models) in the order of models and of named tasks."""
    found, models = named(gains), list(models)
    values = found.values
    unnamed = found.numbered and set(found.candidates or ()) != set(models)
    if found.candidates is not None and not unnamed:
        order = order_of(found.candidates, models, "the gains' columns")
        values = values[:, order]
    if values.shape[1] != len(models):
        raise ValueError(
            f"gains have {values.shape[1]} columns for {len(models)} models; give one "
            "column per model, in the models' order or as a DataFrame with their names."
        )
    if (rows := _row_order(found.tasks, tasks, "the gains' rows")) is not None:
        values = values[rows]
    return values


def row_names(X: Any) -> list[str] | None:
    """Return the index of a table, or the names of tasks if all have distinct ones."""
    if hasattr(X, "index") and not isinstance(X, (list, tuple)):
        return index_names(X)
    if isinstance(X, (list, tuple)):
        named_items = [getattr(item, "name", None) for item in X]
        names = [name for name in named_items if isinstance(name, str)]
        if names and len(set(names)) == len(named_items):
            return names
    return None


def aligned_column(values: Any, rows: list[str] | None, what: str) -> list[Any]:
    """Return values as a list, sorted by the rows' names if both are named."""
    if isinstance(values, (set, frozenset)):
        raise TypeError(f"{what} are a set, which has no order; give a sequence.")
    names = index_names(values)
    out = list(values)
    if names is None or rows is None:
        return out
    return [out[i] for i in order_of(names, rows, what)]
