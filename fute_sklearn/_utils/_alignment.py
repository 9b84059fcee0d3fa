"""Put named values side by side by their names; by position only where none are."""

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
    numbered: bool = False  # the candidates' names are numbers that pandas gave


def index_names(values: Any) -> list[str] | None:
    """Return the row names of a pandas object; numbers that pandas gave are none."""
    index = values.index if has(values, "index") else None
    if index is None or callable(index) or type(index).__name__ == "RangeIndex":
        return None
    return [label_name(name) for name in index]


def named(values: Any) -> Named:
    """Read gains or scores: dicts, Series and tables of pandas and polars, arrays."""
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
    """Positions in ``given`` of the names ``wanted``; the sets must be the same."""
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
    """Return gains and scores with the same rows and columns, and the columns' names.

    Tasks and candidates that both sides name are brought into the order of the gains.
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
    """Order of named rows; None where one side has names and the other numbers."""
    if given is None or wanted is None:
        return None
    numbers = [
        all(name.lstrip("-").isdigit() for name in side) for side in (given, wanted)
    ]
    return None if numbers[0] != numbers[1] else order_of(given, wanted, what)


def align_gains(
    gains: Any, models: Iterable[str], tasks: Sequence[str] | None = None
) -> np.ndarray:
    """Return gains (n_tasks, n_models) in the order of models, and tasks if named."""
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
    """Names of targets: a table's index, or the names of tasks that all have one."""
    if hasattr(X, "index") and not isinstance(X, (list, tuple)):
        return index_names(X)
    if isinstance(X, (list, tuple)):
        named_items = [getattr(item, "name", None) for item in X]
        names = [name for name in named_items if isinstance(name, str)]
        if names and len(set(names)) == len(named_items):
            return names
    return None


def aligned_column(values: Any, rows: list[str] | None, what: str) -> list[Any]:
    """Return one value per row, by the rows' names where both have names."""
    if isinstance(values, (set, frozenset)):
        raise TypeError(f"{what} are a set, which has no order; give a sequence.")
    names = index_names(values)
    out = list(values)
    if names is None or rows is None:
        return out
    return [out[i] for i in order_of(names, rows, what)]
