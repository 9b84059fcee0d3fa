"""The Task class: texts with their targets."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from .._utils._store import text_key, texts_key
from ._targets import TargetSet, parse_targets
from ._validation import CheckedTexts, check_same_length, check_texts, label_name

ORIGINS = ("data", "model")


class Task:
    """Texts with their targets, the unit that task embedders map to a vector.

    A task is immutable.  In a list of tasks, as `TaskVectorizer` and `StudentRanker`
    take it, every task is one sample, so that such lists can be passed through
    `~sklearn.pipeline.Pipeline` and split by `~sklearn.model_selection.GridSearchCV`.

    Parameters
    ----------
    X : sequence of str of length n_samples
        The texts.
    y : sequence of length n_samples, or array-like (n_samples, n_classes)
        The targets: labels (str, int, bool), class probabilities (2-D), numbers, or
        free texts.  Labels of different tasks are matched by name, not by position;
        the name of a label is its text, so that 1, 1.0 and ``"1"`` are one label.
    name : str, optional
        Name of the task or of the model that labelled it; by default None.
    classes : sequence, optional
        All labels that could occur; for class probabilities, the labels of the columns
        in their order.  By default the labels seen in ``y``, the categories of a
        categorical column, or the column names of a DataFrame of probabilities.
    kind : {"label", "number", "text"}, optional
        Kind of the targets.  By default it is inferred: floats that are not all whole
        are numbers; strings are free texts if more than 20 are distinct and most rows
        hold one that no other row has; all other values are labels.
    origin : {"data", "model"}, default="data"
        Whether the targets come from a data set or are predictions of a model, as in
        tasks made by `MTEWrapper`.  Embedders may embed the two differently, as
        `MomentEmbedder` does if the texts are not its reference texts.

    Attributes
    ----------
    texts : tuple of str
        The texts.
    targets : TargetSet
        The parsed targets: ``kind``, label ``names``, and ``proba``, ``values`` or
        ``texts``.
    classes : ndarray (n_classes,) or None
        The labels, sorted by name; None for numbers and free texts.
    name : str or None
        The parameter ``name``.
    origin : {"data", "model"}
        The parameter ``origin``.
    key : str
        Hash of texts, targets and origin.
    text_key : str
        Hash of the texts.

    Raises
    ------
    TypeError, ValueError
        If X is not a sequence of str, or y is None, of another length, holds missing
        values or contradicts ``classes`` or ``kind``; the message names the row and a
        remedy.

    Examples
    --------
    >>> from fute_sklearn import Task
    >>> Task(["a fine film", "a dull film"], ["positive", "negative"], name="films")
    Task(name='films', n_samples=2, classes=['negative', 'positive'])
    """

    __slots__ = ("_key", "_text_key", "classes", "name", "origin", "targets", "texts")
    name: str | None
    origin: str
    texts: tuple[str, ...]
    targets: TargetSet
    classes: np.ndarray | None
    _key: str
    _text_key: str

    def __init__(
        self,
        X: Any,
        y: Any,
        *,
        name: str | None = None,
        classes: Any = None,
        kind: str | None = None,
        origin: str = "data",
    ) -> None:
        texts = X.whole if type(X) is CheckedTexts else tuple(check_texts(X))
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name={name!r}, expected str or None.")
        if kind not in (None, "label", "number", "text"):
            raise ValueError(
                f"kind={kind!r}, expected 'label', 'number', 'text' or None."
            )
        if origin not in ORIGINS:
            raise ValueError(f"origin={origin!r}, expected one of {ORIGINS}.")
        targets = parse_targets(y, classes, kind)
        check_same_length(len(texts), len(targets))
        self._set(texts, targets, name, origin)

    def _set(
        self,
        texts: tuple[str, ...],
        targets: TargetSet,
        name: str | None,
        origin: str,
    ) -> None:
        put = object.__setattr__
        put(self, "texts", texts)
        put(self, "targets", targets)
        put(self, "name", name)
        put(self, "origin", origin)
        put(self, "classes", targets.classes if targets.kind == "label" else None)
        put(self, "_key", "")
        put(self, "_text_key", "")

    @property
    def text_key(self) -> str:
        """Hash of the texts."""
        if not self._text_key:
            object.__setattr__(self, "_text_key", texts_key(self.texts))
        return self._text_key

    @property
    def key(self) -> str:
        """Hash of texts, targets and origin."""
        if not self._key:
            mark = [self.origin] if self.origin == "model" else []
            found = text_key(self.text_key, self.targets.key, *mark)
            object.__setattr__(self, "_key", found)
        return self._key

    def __setattr__(self, key: str, value: Any) -> None:
        raise AttributeError(f"a Task is frozen; {key!r} cannot be set.")

    def __getstate__(self) -> tuple[tuple[str, ...], TargetSet, str | None, str]:
        return self.texts, self.targets, self.name, self.origin

    def __setstate__(
        self, state: tuple[tuple[str, ...], TargetSet, str | None, str]
    ) -> None:
        self._set(*state)

    def take(self, rows: Any) -> Task:
        """Return the task of some rows; all classes are kept.

        Parameters
        ----------
        rows : array-like of int, or of bool (n_samples,)
            Positions of the rows, or a mask.

        Returns
        -------
        task : Task
            The chosen rows in the given order.

        Raises
        ------
        ValueError
            If ``rows`` is neither.
        """
        rows = np.asarray(rows)
        if rows.dtype == bool and len(rows) == len(self.texts):
            rows = np.flatnonzero(rows)
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise ValueError(
                f"rows={rows!r}; expected positions (int), or a mask of bools with one "
                f"for each of the {len(self.texts)} texts."
            )
        rows = rows.astype(np.intp)
        found = object.__new__(Task)
        texts = _taken(self.texts, rows.tobytes())
        found._set(texts, self.targets.take(rows), self.name, self.origin)
        return found

    def with_origin(self, origin: str) -> Task:
        """Return the same task as that of a data set, or of a model.

        Parameters
        ----------
        origin : {"data", "model"}
            Where the targets come from.

        Returns
        -------
        task : Task
            The task.
        """
        if origin not in ORIGINS:
            raise ValueError(f"origin={origin!r}, expected one of {ORIGINS}.")
        found = object.__new__(Task)
        found._set(self.texts, self.targets, self.name, origin)
        return found

    def with_classes(self, classes: Any) -> Task:
        """Return the task with additional possible classes.

        Parameters
        ----------
        classes : sequence
            Labels to add; those whose name the task already has are ignored.

        Returns
        -------
        task : Task
            A task in which the added labels have probability 0 in every row.

        Raises
        ------
        ValueError
            If the targets are not labels.
        """
        if self.targets.kind != "label":
            raise ValueError(
                f"the targets are of kind {self.targets.kind!r} and have no classes."
            )
        known = set(self.targets.names)
        new = [c for c in classes if label_name(c) not in known]
        if not new:
            return self
        proba = np.hstack([self.targets.proba, np.zeros((len(self.texts), len(new)))])
        named = [*self.targets.classes.tolist(), *new]
        return Task(
            self.texts, proba, name=self.name, classes=named, origin=self.origin
        )

    @property
    def n_samples(self) -> int:
        """Number of texts."""
        return len(self.texts)

    @property
    def X(self) -> tuple[str, ...]:
        """The texts; the same as ``texts``."""
        return self.texts

    @property
    def y(self) -> Any:
        """The targets: labels, class probabilities, numbers or free texts."""
        if self.targets.kind == "label":
            proba = self.targets.proba
            if self.targets.certain:
                return self.targets.classes[proba.argmax(1)]
            return proba
        if self.targets.kind == "number":
            return self.targets.values
        return np.array(self.targets.texts, dtype=object)

    def __repr__(self) -> str:
        what = (
            f"classes={list(self.targets.names)}"
            if self.targets.kind == "label"
            else f"targets={self.targets.kind!r}"
        )
        return f"Task(name={self.name!r}, n_samples={self.n_samples}, {what})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Task):
            return NotImplemented
        return (self.key, self.name) == (other.key, other.name)

    def __hash__(self) -> int:
        return hash((self.key, self.name))

    @classmethod
    def from_long(
        cls,
        frame: Any,
        *,
        text: str = "text",
        target: str = "label",
        task: str = "task",
        kind: str | None = None,
    ) -> list[Task]:
        """Create tasks from a table in long format, with one row per text.

        Parameters
        ----------
        frame : DataFrame
            A pandas or polars table.
        text : str, default="text"
            Name of the column with the texts.
        target : str, default="label"
            Name of the column with the targets.
        task : str, default="task"
            Name of the column with the name of each row's task.
        kind : {"label", "number", "text"}, optional
            Kind of the targets of all tasks; by default inferred for each task.

        Returns
        -------
        tasks : list of Task
            In the order in which their names first occur.

        Examples
        --------
        >>> import pandas as pd
        >>> from fute_sklearn import Task
        >>> frame = pd.DataFrame({
        ...     "task": ["a", "a", "b", "b"],
        ...     "text": ["good", "bad", "fine", "poor"],
        ...     "label": ["pos", "neg", "pos", "neg"],
        ... })
        >>> [t.name for t in Task.from_long(frame)]
        ['a', 'b']
        """
        rows: dict[str, tuple[list[str], list[Any]]] = {}
        columns = [list(frame[c]) for c in (task, text, target)]
        for name, one_text, one_target in zip(*columns, strict=True):
            texts, targets = rows.setdefault(str(name), ([], []))
            texts.append(one_text)
            targets.append(one_target)
        return [cls(X, y, name=name, kind=kind) for name, (X, y) in rows.items()]


# Models of one zoo have labelled the same texts.
@lru_cache(maxsize=8)
def _taken(texts: tuple[str, ...], rows: bytes) -> tuple[str, ...]:
    return tuple([texts[i] for i in np.frombuffer(rows, np.intp)])


def as_task(item: Any, index: int = 0) -> Task:
    """Convert a Task, an (X, y) tuple or an object with ``X`` and ``y`` to a Task."""
    if isinstance(item, Task):
        return item
    if isinstance(item, tuple) and len(item) == 2:
        return Task(*item)
    if hasattr(item, "X") and hasattr(item, "y"):
        return Task(item.X, item.y, name=getattr(item, "name", None))
    raise TypeError(
        f"tasks[{index}] is a {type(item).__name__}; expected a Task, a tuple (X, y) "
        "or an object with .X and .y."
    )


def check_tasks(tasks: Any) -> list[Task]:
    """Return a list of tasks; raise TypeError naming the first item that is not one."""
    if isinstance(tasks, (str, bytes, Task)) or not hasattr(tasks, "__iter__"):
        raise TypeError(
            f"expected a sequence of tasks, got a {type(tasks).__name__}. Put a single "
            "task in a list."
        )
    found = [as_task(item, i) for i, item in enumerate(tasks)]
    if not found:
        raise ValueError("the sequence of tasks is empty.")
    return found
