"""The record of a task: texts with their targets."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._utils._store import text_key, texts_key
from ._targets import TargetSet, parse_targets
from ._validation import check_same_length, check_texts, label_name


class Task:
    """Texts with their targets: the sample that task embedders work on.

    A task is a frozen record.  Rows are the task's content; scikit-learn sees a task
    as one opaque sample, so that lists of tasks pass through `Pipeline` and
    `GridSearchCV` unharmed.

    Parameters
    ----------
    X : sequence of str of length n_samples
        The texts.
    y : sequence of length n_samples, or array-like (n_samples, n_classes)
        The targets: labels (str, int, bool), class probabilities (2-D), numbers, or
        free texts.  Labels are compared between tasks by their names, never by their
        position, so that 1, 1.0 and "1" are one label.
    name : str, optional
        Name of the task or of the model that labelled it.
    classes : sequence, optional
        All labels that could occur; the columns of probabilities.  By default the
        labels seen in ``y``, the categories of a categorical column, or the column
        names of a DataFrame of probabilities.
    kind : {"label", "number", "text"}, optional
        Kind of the targets.  By default it is told from them: floats that are not all
        whole are numbers; more than 20 different strings, where most rows have one
        that no other row has, are free texts; all else are labels.

    Attributes
    ----------
    texts : tuple of str
        The texts.
    targets : TargetSet
        The targets, by name.
    name : str or None
        The name.
    key : str
        Hash of texts and targets.
    text_key : str
        Hash of the texts.

    Raises
    ------
    TypeError, ValueError
        For texts or targets that no embedding can be learnt from; the message names
        the row and the remedy.

    Examples
    --------
    >>> from fute_sklearn import Task
    >>> Task(["a fine film", "a dull film"], ["positive", "negative"], name="films")
    Task(name='films', n_samples=2, classes=['negative', 'positive'])
    """

    __slots__ = ("key", "text_key", "classes", "name", "targets", "texts")
    name: str | None
    texts: tuple[str, ...]
    targets: TargetSet
    classes: np.ndarray | None
    key: str
    text_key: str

    def __init__(
        self,
        X: Any,
        y: Any,
        *,
        name: str | None = None,
        classes: Any = None,
        kind: str | None = None,
    ) -> None:
        texts = tuple(check_texts(X))
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name={name!r}, expected str or None.")
        if kind not in (None, "label", "number", "text"):
            raise ValueError(
                f"kind={kind!r}, expected 'label', 'number', 'text' or None."
            )
        targets = parse_targets(y, classes, kind)
        check_same_length(len(texts), len(targets))
        self._set(texts, targets, name)

    def _set(
        self, texts: tuple[str, ...], targets: TargetSet, name: str | None
    ) -> None:
        put = object.__setattr__
        put(self, "texts", texts)
        put(self, "targets", targets)
        put(self, "name", name)
        put(self, "classes", targets.classes if targets.kind == "label" else None)
        put(self, "text_key", texts_key(texts))
        put(self, "key", text_key(self.text_key, targets.key))

    def __setattr__(self, key: str, value: Any) -> None:
        raise AttributeError(f"a Task is frozen; {key!r} cannot be set.")

    def __getstate__(self) -> tuple[tuple[str, ...], TargetSet, str | None]:
        return self.texts, self.targets, self.name

    def __setstate__(
        self, state: tuple[tuple[str, ...], TargetSet, str | None]
    ) -> None:
        self._set(*state)

    def take(self, rows: Any) -> Task:
        """Return a task of some rows, with all classes.

        Parameters
        ----------
        rows : array-like of int, or of bool (n_samples,)
            Positions of the rows, or a mask.

        Returns
        -------
        task : Task
            The chosen rows in the given order.
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
        texts = tuple(self.texts[i] for i in rows)
        found._set(texts, self.targets.take(rows), self.name)
        return found

    def with_classes(self, classes: Any) -> Task:
        """Return the same task with more labels that could occur.

        Parameters
        ----------
        classes : sequence
            Labels; those that the task knows already, by name, change nothing.

        Returns
        -------
        task : Task
            The task; a label that is new has the probability 0 in every row.

        Raises
        ------
        ValueError
            If the targets are no labels.
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
        return Task(self.texts, proba, name=self.name, classes=named)

    @property
    def n_samples(self) -> int:
        """Number of texts."""
        return len(self.texts)

    @property
    def X(self) -> tuple[str, ...]:
        """The texts, under scikit-learn's name."""
        return self.texts

    @property
    def y(self) -> Any:
        """The targets: labels, probabilities, numbers or texts."""
        if self.targets.kind == "label":
            proba = self.targets.proba
            if ((proba == 0) | (proba == 1)).all():
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
        """Read several tasks from a long table, one row per text.

        Parameters
        ----------
        frame : DataFrame
            The table (pandas or polars).
        text, target, task : str
            Names of the columns with the texts, the targets and the tasks' names.
        kind : {"label", "number", "text"}, optional
            Kind of the targets of all tasks, as above.

        Returns
        -------
        tasks : list of Task
            In the order in which their names come first.

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


def as_task(item: Any, index: int = 0) -> Task:
    """Accept a Task, an (X, y) pair or an object with ``X`` and ``y``."""
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
    """Return a list of tasks, or raise naming the first item that is none."""
    if isinstance(tasks, (str, bytes, Task)) or not hasattr(tasks, "__iter__"):
        raise TypeError(
            f"expected a sequence of tasks, got a {type(tasks).__name__}. Put a single "
            "task in a list."
        )
    found = [as_task(item, i) for i, item in enumerate(tasks)]
    if not found:
        raise ValueError("the sequence of tasks is empty.")
    return found
