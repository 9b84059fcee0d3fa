"""Answers that exist already, joined to the texts by text, by id or by position."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..._utils._columns import has, scalar
from ...tasks._task import Task
from ._adapted import AdaptedModel, Options, labelled_table, likeliest

SUFFIXES = (".csv", ".jsonl", ".parquet")
TEXT_COLUMNS = ("text", "sentence", "input")
ID_COLUMNS = ("id", "idx", "index")
ANSWER_COLUMNS = ("label", "answer", "prediction", "pred")
SHOWN = 3


def is_file(model: Any) -> bool:
    """Whether a model is the path of a file of answers."""
    path = isinstance(model, (str, os.PathLike))
    return path and str(model).lower().endswith(SUFFIXES)


def is_recorded(model: Any) -> bool:
    """Whether a model is a container of answers, or the path of one."""
    if isinstance(model, (Task, Mapping, np.ndarray)) or is_file(model):
        return True
    if isinstance(model, (list, tuple)):
        return all(isinstance(v, (str, int, float, type(None))) for v in model)
    return has(model, "to_pandas") or (has(model, "iloc") and has(model, "index"))


class RecordedAnswers(AdaptedModel):
    """Answers that were given before.

    A dict, a `Task` and a table with a column of texts are joined by text; a Series
    and a table with a column of ids, by the index of the texts where these have one;
    all else by position.
    """

    responses = ("predict", "predict_proba")

    def __init__(self, model: Any, options: Options) -> None:
        super().__init__(model, options)
        self.path = Path(model) if is_file(model) else None
        found = model if self.path is None else _read(self.path)
        if has(found, "to_pandas"):
            found = found.to_pandas()
        self.keys: list[Any] | None = None
        self.by = "position"
        self._take(found)

    @property
    def name(self) -> str:
        if self.path is not None:
            return self.path.stem
        return getattr(self.model, "name", None) or "answers"

    def _take(self, found: Any) -> None:
        if isinstance(found, Task):
            self.by, self.keys = "text", list(found.texts)
            self.classes = None if found.classes is None else found.classes.tolist()
            soft = (
                found.classes is not None
                and not np.isin(found.targets.proba, (0, 1)).all()
            )
            self.values: Any = found.targets.proba if soft else list(found.y)
            self.columns = self.classes if soft else None
        elif isinstance(found, Mapping):
            self.by, self.keys = "text", list(found)
            self.values, self.columns = list(found.values()), None
        elif has(found, "columns"):
            self._take_table(found)
        else:
            if has(found, "iloc") and type(found.index).__name__ != "RangeIndex":
                self.by, self.keys = "index", list(found.index)
            self.values, self.columns = found, None
            if getattr(found, "ndim", 1) == 1:
                self.values = [scalar(value) for value in found]

    def _take_table(self, table: Any) -> None:
        names = {str(name).lower(): name for name in table.columns}
        keys = [names[n] for n in (*TEXT_COLUMNS, *ID_COLUMNS) if n in names]
        if keys:
            self.by = "text" if str(keys[0]).lower() in TEXT_COLUMNS else "index"
            self.keys = table[keys[0]].tolist()
        elif type(table.index).__name__ != "RangeIndex":
            self.by, self.keys = "index", list(table.index)
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

    def answers_to(self, X: Any, texts: Sequence[str], method: str) -> Any:
        """Return the answers to some texts, in their order."""
        values = self.values
        if self.keys is None:
            if len(values) != len(texts):
                raise ValueError(
                    f"there are {len(values)} answers for {len(texts)} texts; without "
                    "texts or ids they are joined by position, one for each text."
                )
            rows = list(range(len(texts)))
        else:
            rows = self._rows(X, texts)
        table = getattr(values, "ndim", 1) == 2
        if not table:
            return [values[i] for i in rows]
        columns = self.columns or self.options.classes
        if columns is None:
            raise ValueError(
                f"there are {values.shape[1]} columns of probabilities without names; "
                "give classes=[...] in the order of the columns."
            )
        if method == "predict":
            return likeliest(values[rows], list(columns))
        return labelled_table(values[rows], list(columns))

    def _rows(self, X: Any, texts: Sequence[str]) -> list[int]:
        assert self.keys is not None
        place = {key: i for i, key in enumerate(self.keys)}
        wanted: Sequence[Any] = texts
        index = getattr(X, "index", None) if hasattr(X, "iloc") else None
        if self.by == "index" and index is not None:
            wanted = list(index)
        elif self.by == "index" and not set(texts) & set(place):
            raise ValueError(
                "answers are given by id, but the texts have none; give the texts as a "
                "Series whose index holds the ids, or answers with a column of texts."
            )
        repeated = len(place) < len(self.keys)
        if repeated and self._conflicts(place):
            raise ValueError(
                f"answers are given twice for one {self.by}, and not the same: "
                f"{self._conflicts(place)[:SHOWN]}."
            )
        lost = [key for key in wanted if key not in place]
        if lost:
            raise ValueError(
                f"there is no answer for {len(lost)} of {len(wanted)} texts, joined by "
                f"{self.by}, as {lost[:SHOWN]}. Have the model answer these too, or "
                "leave them out of the texts."
            )
        return [place[key] for key in wanted]

    def _conflicts(self, place: dict[Any, int]) -> list[Any]:
        assert self.keys is not None
        return [
            key
            for i, key in enumerate(self.keys)
            if np.any(np.asarray(self.values[i] != self.values[place[key]]))
        ]


def _read(path: Path) -> Any:
    """Read a file of answers as a table."""
    import pandas as pd

    if not path.is_file():
        raise FileNotFoundError(f"the file of answers {path} does not exist.")
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return pd.read_csv(path, keep_default_na=False, na_values=[""])
    if suffix == ".jsonl":
        return pd.read_json(path, lines=True, dtype=False)
    return pd.read_parquet(path)
