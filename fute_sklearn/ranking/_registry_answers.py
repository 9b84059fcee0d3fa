"""A model's answers to a registry's texts, as a file holds them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._utils._columns import scalar
from .._utils._store import text_key
from ..models._answer_reading import ABSTAINED
from ..models._mte_wrapper import MTEWrapper
from ..tasks._task import Task
from ..tasks._validation import label_name
from ._labelled_rows import places


@dataclass(frozen=True, eq=False)
class RegistryAnswers:
    """Labels, or probabilities of the labels, for all texts.

    Parameters
    ----------
    labels : tuple
        The labels, sorted by name.
    values : ndarray (n_texts,) of int, or (n_texts, n_labels) of float
        Places of the answers among the labels, -1 for none; or probabilities, NaN in
        rows without an answer.
    """

    labels: tuple[Any, ...]
    values: np.ndarray

    @classmethod
    def of(cls, task: Task, texts: tuple[str, ...]) -> RegistryAnswers:
        """Take the answers of a model that has labelled the texts.

        Raises
        ------
        ValueError
            If they are no labels.
        """
        targets = task.targets
        if targets.kind != "label":
            raise ValueError(
                f"the model {task.name!r} answers with targets of kind "
                f"{targets.kind!r}, as far as can be told; a registry ranks "
                "classifiers. If they are labels, say so: MTEWrapper(model, "
                "kind='label')."
            )
        classes = [scalar(label) for label in targets.classes]
        real = [i for i, name in enumerate(targets.names) if name != ABSTAINED]
        proba = targets.proba
        gone = np.ones(len(proba), dtype=bool)
        if real:
            gone = proba[:, real].sum(1) == 0
        rows = places(task.texts, texts)
        labels = tuple(classes[i] for i in real)
        if targets.certain:
            values = np.full(len(texts), -1, dtype=_code_type(len(real)))
            if real:
                values[rows] = np.where(gone, -1, proba[:, real].argmax(1))
        else:
            values = np.full((len(texts), len(real)), np.nan, dtype=np.float32)
            values[rows] = np.where(gone[:, None], np.nan, proba[:, real])
        return cls(labels, values)

    @property
    def soft(self) -> bool:
        """Whether these are probabilities."""
        return self.values.ndim == 2

    @property
    def abstained(self) -> np.ndarray:
        """Rows without an answer (n_texts,)."""
        return np.isnan(self.values).any(1) if self.soft else self.values < 0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the labels, with that of abstentions where there are some."""
        names = [label_name(label) for label in self.labels]
        if self.abstained.any():
            names.append(ABSTAINED)
        return tuple(sorted(names))

    @property
    def key(self) -> str:
        """Hash of the content."""
        names = map(label_name, self.labels)
        return text_key(str(self.values.dtype), *names, self.values.tobytes().hex())

    def filled(self, rows: np.ndarray, other: RegistryAnswers) -> RegistryAnswers:
        """Return these with ``other`` answers, to the texts of some ``rows``.

        Rows that have an answer keep it.
        """
        known = {label_name(one): one for one in (*other.labels, *self.labels)}
        names, soft = sorted(known), self.soft or other.soft
        values, new = self._over(names, soft), other._over(names, soft)
        left = self.abstained[rows]
        values[rows[left]] = new[left]
        return RegistryAnswers(tuple(known[name] for name in names), values)

    def _over(self, names: list[str], soft: bool) -> np.ndarray:
        """Return the values over other labels, which hold these."""
        places = np.array([names.index(label_name(one)) for one in self.labels], int)
        rows = np.flatnonzero(~self.abstained)
        if not soft:
            out = np.full(len(self.values), -1, _code_type(len(names)))
            out[rows] = places[self.values[rows]]
            return out
        out = np.full((len(self.values), len(names)), np.nan, np.float32)
        out[rows] = 0.0
        if self.soft:
            out[np.ix_(rows, places)] = self.values[rows]
        else:
            out[rows, places[self.values[rows]]] = 1.0
        return out

    def proba(self) -> np.ndarray:
        """Distributions over ``names`` (n_texts, n_names)."""
        names = list(self.names)
        out = np.zeros((len(self.values), len(names)))
        places = np.array([names.index(label_name(label)) for label in self.labels])
        gone = self.abstained
        rows = np.flatnonzero(~gone)
        if self.soft:
            out[np.ix_(rows, places)] = self.values[rows]
        elif len(rows):
            out[rows, places[self.values[rows]]] = 1.0
        if gone.any():
            out[gone, names.index(ABSTAINED)] = 1.0
        return out

    def labelled(self) -> list[Any]:
        """Most probable label of each text, or None."""
        if self.soft:
            best = np.where(self.abstained, -1, np.nan_to_num(self.values).argmax(1))
        else:
            best = self.values
        return [None if i < 0 else self.labels[i] for i in best.tolist()]

    def wrapper(self, name: str) -> MTEWrapper:
        """Return a model that gives these answers."""
        if not self.soft:
            return MTEWrapper(self.labelled(), name=name, classes=self.labels)
        return MTEWrapper(
            self.values.astype(np.float64),
            name=name,
            classes=self.labels,
            response_method="predict_proba",
        )

    def task(self, name: str, texts: tuple[str, ...]) -> Task:
        """Return the texts with an answer, and the answers."""
        rows = np.flatnonzero(~self.abstained)
        if self.soft:
            y: Any = self.values[rows].astype(np.float64)
        else:
            y = [self.labels[i] for i in self.values[rows].tolist()]
        some = [texts[i] for i in rows]
        return Task(
            some, y, name=name, classes=self.labels, kind="label", origin="model"
        )

    def to_bytes(self) -> bytes:
        """Write the values in numpy's format."""
        body = io.BytesIO()
        np.save(body, self.values, allow_pickle=False)
        return body.getvalue()

    @classmethod
    def from_bytes(cls, labels: Any, data: bytes) -> RegistryAnswers:
        """Read what `to_bytes` wrote."""
        return cls(tuple(labels), np.load(io.BytesIO(data), allow_pickle=False))


def _code_type(count: int) -> Any:
    return next(t for t in (np.int8, np.int16, np.int32) if count <= np.iinfo(t).max)
