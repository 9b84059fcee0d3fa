"""Answers that exist already, joined to the texts by text, by id or by position."""

from __future__ import annotations

import numbers
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..._utils._columns import are_plain, has, is_missing, scalars
from ...tasks._task import Task
from ...tasks._validation import label_name
from ._adapted import (
    SCORES,
    AdaptedModel,
    Options,
    from_scores,
    plain_rows,
)

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
TEXT_COLUMNS = ("text", "sentence", "input")
ID_COLUMNS = ("id", "idx", "index")
ANSWER_COLUMNS = ("label", "answer", "prediction", "pred")
ROWS = (list, tuple, np.ndarray)
SHOWN = 3
# Numbers as they are written, which "007" and "+1" are not.
NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")


def is_file(model: Any) -> bool:
    """Whether a model is the path of a file of answers."""
    path = isinstance(model, (str, os.PathLike))
    return path and str(model).lower().endswith(SUFFIXES)


def is_recorded(model: Any) -> bool:
    """Whether a model is a container of answers, or the path of one."""
    if isinstance(model, (Task, Mapping, np.ndarray)) or is_file(model):
        return True
    if isinstance(model, (list, tuple)):
        if are_plain(model):
            return True
        return all(map(_is_answer, model)) or all(map(_is_row, model))
    return has(model, "to_pandas") or (has(model, "iloc") and has(model, "index"))


def _is_answer(value: Any) -> bool:
    return is_missing(value) or isinstance(value, (str, numbers.Number, np.generic))


def _is_row(value: Any) -> bool:
    """Whether a value is a row of probabilities, or scores by label."""
    if isinstance(value, Mapping):
        value = list(value.values())
        return bool(value) and all(isinstance(v, numbers.Real) for v in value)
    several = isinstance(value, ROWS) and len(value) > 1
    return several and all(isinstance(v, numbers.Real) for v in value)


def _holds_rows(values: list[Any]) -> bool:
    kinds = set(map(type, values))
    if not any(issubclass(kind, (Mapping, *ROWS)) for kind in kinds):
        return False
    return any(map(_is_row, values))


class RecordedAnswers(AdaptedModel):
    """Answers that were given before.

    A dict, a `Task` and a table with a column of texts are joined by text; a table with
    a column of ids and a Series or table with an index of its own, by the index of the
    texts; all else by position.
    """

    def __init__(self, model: Any, options: Options) -> None:
        super().__init__(model, options)
        self.path = Path(model) if is_file(model) else None
        found = model if self.path is None else _read(self.path)
        if has(found, "to_pandas"):
            found = found.to_pandas()
        self.keys: list[Any] | None = None
        self.numbered = False  # whether they are in a column whose rows are numbered
        self.by = "position"
        self.values: Any = None
        self._take(found)
        values = self.values
        if isinstance(values, list) and _holds_rows(values):
            self.values = _rows_of_scores(values)
        if getattr(self.values, "ndim", 1) == 2 or _are_scores(self.values):
            self.responses = SCORES[:2]

    @property
    def name(self) -> str:
        if self.path is not None:
            return self.path.stem
        own = None if has(self.model, "columns") else getattr(self.model, "name", None)
        return "answers" if own is None or str(own) == "" else str(own)

    def _take(self, found: Any) -> None:
        if isinstance(found, Task):
            self.by, self.keys = "text", list(found.texts)
            self.classes = None if found.classes is None else found.classes.tolist()
            soft = found.classes is not None and not found.targets.certain
            self.values = found.targets.proba if soft else scalars(found.y)
            self.columns = self.classes if soft else None
        elif isinstance(found, Mapping):
            self.by, self.keys = "text", list(found)
            self.values, self.columns = list(found.values()), None
        elif has(found, "columns"):
            self._take_table(found)
        else:
            self._take_index(found)
            self.values, self.columns = found, None
            if getattr(found, "ndim", 1) == 1 and not _is_column(found):
                self.values = scalars(found)

    def _take_index(self, found: Any) -> None:
        self.numbered = has(found, "iloc") and _is_numbered(found.index)
        if has(found, "iloc") and not self.numbered:
            self.by, self.keys = "index", list(found.index)

    def _take_table(self, table: Any) -> None:
        names = {str(name).lower(): name for name in table.columns}
        keys = [names[n] for n in (*TEXT_COLUMNS, *ID_COLUMNS) if n in names]
        if keys:
            self.by = "text" if str(keys[0]).lower() in TEXT_COLUMNS else "index"
            self.keys = table[keys[0]].tolist()
        else:
            self._take_index(table)
        rest = [name for name in table.columns if name not in keys]
        answers = [names[n] for n in ANSWER_COLUMNS if names.get(n) in rest]
        column = answers[0] if answers else rest[0] if len(rest) == 1 else None
        if column is not None:
            self.values, self.columns = table[column].tolist(), None
            return
        numeric = [n for n in rest if table[n].dtype.kind in "fiu"]
        if not rest or len(numeric) < len(rest):
            raise ValueError(
                f"a table of answers has the columns {list(table.columns)}; expected "
                f"one of {ANSWER_COLUMNS}, one column beside text and id, or "
                "probabilities under the names of the labels."
            )
        self.values, self.columns = table[rest].to_numpy(dtype=float), rest

    def answers_to(
        self, X: Any, texts: Sequence[str], method: str, partly: bool = False
    ) -> Any:
        """Return the answers to some texts, in their order.

        Where they may be there only ``partly``, texts without one are abstentions.
        """
        values = self.values
        index = getattr(X, "index", None) if hasattr(X, "iloc") else None
        rows: Sequence[int | None]
        if self.keys is None:
            if len(values) != len(texts):
                raise ValueError(
                    f"there are {len(values)} answers for {len(texts)} texts; without "
                    "texts or ids they are joined by position, one for each text."
                )
            if self.numbered and index is not None and not _is_numbered(index):
                raise ValueError(
                    "the texts have an index and the answers are numbered from 0, so "
                    "that it cannot be told whether they go by index or by position; "
                    "give the answers the texts' index, or give them as a list."
                )
            rows = range(len(texts))
        elif self.by == "text" and self.keys == texts and _no_twice(self.keys):
            rows = range(len(texts))
        else:
            rows = self._rows(index, texts, partly)
        if getattr(values, "ndim", 1) == 1:
            found = values
            if not isinstance(rows, range):
                found = [None if i is None else values[i] for i in rows]
            return plain_rows(found, method) if _are_scores(values) else found
        columns = self.columns or self.options.classes
        if columns is None:
            raise ValueError(
                f"there are {values.shape[1]} columns of probabilities without names; "
                "give classes=[...] in the order of the columns."
            )
        table = np.full((len(rows), values.shape[1]), np.nan)
        there = [i for i, row in enumerate(rows) if row is not None]
        table[there] = values[[row for row in rows if row is not None]]
        return from_scores(table, list(columns), method)

    def _rows(self, index: Any, texts: Sequence[str], partly: bool) -> list[int | None]:
        assert self.keys is not None
        keys, wanted = self.keys, list(texts)
        if self.by == "index" and index is not None:
            keys, wanted = [_id_of(key) for key in keys], [_id_of(key) for key in index]
        place = {key: i for i, key in enumerate(keys)}
        if self.by == "index" and index is None and not set(texts) & set(place):
            raise ValueError(
                "answers are given by id, but the texts have none; give the texts as a "
                "Series whose index holds the ids, or answers with a column of texts."
            )
        if len(place) < len(keys) and (twice := self._conflicts(keys, set(wanted))):
            raise ValueError(
                f"answers are given twice for one {self.by}, and not the same: "
                f"{twice[:SHOWN]}."
            )
        lost = [key for key in wanted if key not in place]
        if lost and not (partly and len(lost) < len(wanted)):
            raise ValueError(
                f"there is no answer for {len(lost)} of {len(wanted)} texts, joined by "
                f"{self.by}, as {lost[:SHOWN]}. Have the model answer these too, or "
                "leave them out: MTEWrapper(answers, abstentions='drop')."
            )
        return [place.get(key) for key in wanted]

    def _conflicts(self, keys: list[Any], wanted: set[Any]) -> list[Any]:
        first: dict[Any, int] = {}
        return [
            key
            for i, key in enumerate(keys)
            if key in wanted
            and not _alike(self.values[i], self.values[first.setdefault(key, i)])
        ]


def _is_column(values: Any) -> bool:
    """Whether values are an array of labels, which need not be made a list."""
    return isinstance(values, np.ndarray) and values.dtype.kind in "Ub"


def _no_twice(keys: list[Any]) -> bool:
    return len(set(keys)) == len(keys)


def _is_numbered(index: Any) -> bool:
    """Whether an index is the one that pandas gives where none is given."""
    return type(index).__name__ == "RangeIndex" and index.start == 0 and index.step == 1


def _id_of(key: Any) -> Any:
    """Ids are compared by name: files hold 7 as "7"."""
    return tuple(map(_id_of, key)) if isinstance(key, tuple) else label_name(key)


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other, equal_nan=True)
    return (is_missing(one) and is_missing(other)) or one == other


def _are_scores(values: Any) -> bool:
    """Whether answers are scores by label."""
    if not isinstance(values, list):
        return False
    return any(issubclass(kind, Mapping) for kind in set(map(type, values)))


def _rows_of_scores(values: list[Any]) -> Any:
    """Make a table of rows of probabilities; scores by label stay."""
    if any(isinstance(v, Mapping) for v in values):
        return values
    width = {len(v) for v in values if not is_missing(v)}
    if len(width) > 1:
        raise ValueError(
            f"the rows of probabilities have {sorted(width)} columns; expected one "
            "number for all."
        )
    none = [np.nan] * width.pop()
    return np.array([none if is_missing(v) else list(v) for v in values], dtype=float)


def _read(path: Path) -> Any:
    """Read a file of answers as a table."""
    import pandas as pd

    if not path.is_file():
        raise FileNotFoundError(f"the file of answers {path} does not exist.")
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        separator = "," if suffix == ".csv" else "\t"
        table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False)
        texts = [c for c in table if str(c).lower() in (*TEXT_COLUMNS, *ID_COLUMNS)]
        return table.assign(
            **{str(c): _typed(table[c]) for c in table if c not in texts}
        )
    if suffix == ".jsonl":
        return pd.read_json(path, lines=True, dtype=False)
    return pd.read_parquet(path)


def _typed(column: Any) -> Any:
    """Convert a column of numbers; labels such as "007" stay as they are written."""
    filled = [value for value in column if value.strip()]
    if not filled or not all(map(NUMBER.fullmatch, filled)):
        return column.where(column.str.strip() != "", None)
    number = float if any(set(value) & set(".eE") for value in filled) else int
    found = [number(value) if value.strip() else None for value in column]
    # With missing ones, pandas would make 1.0 of 1.
    return type(column)(
        found, dtype=object if None in found and number is int else None
    )
