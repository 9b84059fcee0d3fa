"""Embed a sequence of tasks as rows of a matrix."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from typing import Any

import joblib
import numpy as np
from sklearn.base import (
    BaseEstimator,
    TransformerMixin,
    _fit_context,
    clone,
)
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.validation import check_is_fitted

from .._utils._callbacks import CallbackSupportMixin, nested_progress
from .._utils._config import config_context, expanded, get_config
from .._utils._parameters import validate_params
from .._utils._store import ArrayStore, text_key
from ..tasks._label_spaces import labels_of, with_shared_classes
from ..tasks._task import Task, check_tasks
from ..tasks._vectors import TaskVectors, check_spaces, common_space
from ._base_embedder import BaseTaskEmbedder, seed_of

Space = tuple[str | None, tuple[str, ...] | None]
KEPT_AT_ONCE = 32  # tasks over the same texts after which embeddings are written


def groups_of(tasks: Sequence[Task]) -> list[list[int]]:
    """Positions of tasks that share their texts, in first-seen order."""
    found: dict[str, list[int]] = {}
    for i, task in enumerate(tasks):
        found.setdefault(task.text_key, []).append(i)
    return list(found.values())


def _in_worker(
    embedder: BaseTaskEmbedder,
    tasks: list[Task],
    config: dict[str, Any],
    keep: Callable[[BaseTaskEmbedder], Any],
) -> list[Any]:
    with config_context(**config):
        return [keep(fitted) for fitted in embedder.embed(tasks)]


def embed_tasks(
    embedder: BaseTaskEmbedder,
    tasks: Sequence[Task],
    n_jobs: int | None,
    group_progress: Callable[[int], Any],
    keep: Callable[[BaseTaskEmbedder], Any],
    on_done: Callable[[int, Any], None] | None = None,
) -> list[Any]:
    """Embed tasks, those over the same texts together.

    ``keep`` selects what to retain of each fitted embedder, as students may be large;
    ``on_done`` is called with the position of a task and what was retained, for some
    tasks at a time.
    """
    groups = [_portions(rows, on_done is not None) for rows in groups_of(tasks)]
    out: list[Any] = [None] * len(tasks)

    def note(rows: Sequence[int], found: Iterable[Any]) -> None:
        for i, one in zip(rows, found, strict=True):
            out[i] = one
            if on_done is not None:
                on_done(i, one)

    def portion(rows: Sequence[int]) -> list[Task]:
        return [tasks[i] for i in rows]

    if joblib.effective_n_jobs(n_jobs) == 1 or len(groups) == 1:
        for group in groups:
            n_steps = sum(embedder.n_steps(portion(rows)) for rows in group)
            with group_progress(n_steps) as step:
                for rows in group:
                    note(rows, map(keep, embedder.embed(portion(rows), step)))
        return out
    found = joblib.Parallel(n_jobs=n_jobs, return_as="generator")(
        joblib.delayed(_in_worker)(embedder, portion(rows), get_config(), keep)
        for group in groups
        for rows in group
    )
    for group in groups:
        with group_progress(0):
            for rows in group:
                note(rows, next(found))
    next(found, None)  # it ends its workers after the last result only
    return out


def _portions(rows: list[int], split: bool) -> list[list[int]]:
    """Split a group whose results are kept as they come."""
    size = KEPT_AT_ONCE if split else len(rows)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def embedding_of(embedder: BaseTaskEmbedder) -> TaskVectors:
    """Return the vector of a fitted embedder."""
    return embedder.embedding_


class TaskVectorizer(
    CallbackSupportMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Transform a sequence of tasks to a matrix of embeddings, one row per task.

    Tasks that share their texts, as models labelled on the same texts do, are embedded
    together.  What the space depends on is learnt from the tasks of ``fit``: the
    reference of `MomentEmbedder` and `TuPaTEEmbedder` is the texts that most of them
    share.

    Parameters
    ----------
    embedder : embedder
        `MomentEmbedder`, `TuPaTEEmbedder`, `TaskEmbedder` or `TextEmbedder`; cloned.
    n_jobs : int or None, default=None
        Number of processes, each with its own surrogate, for groups of tasks over
        different texts.  None means 1, unless in a `joblib.parallel_config` context.
        On a GPU keep None.
    memory : str, path or None, default=None
        Folder in which embeddings are cached by the content of task, embedder and
        surrogate, as they come, in a format that is never unpickled; None caches none.
        Embedders whose ``space_of`` returns None are not cached.

    Attributes
    ----------
    embedder_ : embedder
        The embedder in use, unfitted.
    embeddings_ : TaskVectors (n_tasks, dim)
        Embeddings of the tasks of ``fit``.
    n_features_out_ : int
        Length of an embedding.

    Examples
    --------
    >>> from fute_sklearn import Task, TaskVectorizer, TextEmbedder
    >>> tasks = [Task(["a fine film", "a dull film"], ["good", "bad"])]
    >>> TaskVectorizer(TextEmbedder("fute-tiny-random")).fit_transform(tasks).shape
    (1, 16)
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "embedder": [HasMethods(["fit", "embed"])],
        "n_jobs": [Integral, None],
        "memory": [str, os.PathLike, None],
    }

    def __init__(
        self,
        embedder: BaseTaskEmbedder,
        *,
        n_jobs: int | None = None,
        memory: str | os.PathLike[str] | None = None,
    ) -> None:
        self.embedder = embedder
        self.n_jobs = n_jobs
        self.memory = memory

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None) -> TaskVectorizer:
        """Embed tasks and keep their embeddings.

        Parameters
        ----------
        X : sequence of Task, (X, y) pairs or objects with X and y
            The tasks.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted vectorizer.
        """
        tasks = with_shared_classes(check_tasks(X))
        self.embedder_ = clone(self.embedder)
        validate_params(self.embedder_)
        if hasattr(self.embedder_, "random_state"):
            # One space for all tasks, also where every fit would draw a new one.
            self.embedder_.random_state = seed_of(self.embedder_.random_state)
        self.embedder_.learn_space(tasks)
        self._known: dict[str, np.ndarray] = {}
        self._spaces: dict[str | None, tuple[str, ...] | None] = {}
        self._labels = labels_of(tasks)
        with nested_progress(self, len(groups_of(tasks)), "tasks") as group:
            self.embeddings_ = self._embed(tasks, group)
        self._spaces = {self.embeddings_.fingerprint: self.embeddings_.label_names}
        self._known = {
            task.key: np.asarray(row)
            for task, row in zip(tasks, self.embeddings_, strict=True)
        }
        self.n_features_out_ = self.embeddings_.shape[1]
        return self

    def transform(self, X: Any) -> TaskVectors:
        """Embed tasks; those of ``fit`` are not embedded again.

        Parameters
        ----------
        X : sequence of Task, (X, y) pairs or objects with X and y
            The tasks.

        Returns
        -------
        embeddings : TaskVectors (n_tasks, dim)
            One row per task.
        """
        check_is_fitted(self)
        tasks = with_shared_classes(check_tasks(X), self._labels)
        return self._embed(tasks, _no_progress)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return column names that start with the fingerprint of the space.

        Tables of different spaces have different columns, so that estimators that were
        fitted on one refuse the other.

        Parameters
        ----------
        input_features : None
            Ignored.

        Returns
        -------
        names : ndarray of str (dim,)
            ``"<fingerprint>_<number>"``.
        """
        check_is_fitted(self)
        space = self.embeddings_.fingerprint or "taskvectorizer"
        names = [f"{space}_{i}" for i in range(self.n_features_out_)]
        return np.array(names, dtype=object)

    def _embed(self, tasks: list[Task], group: Callable[[int], Any]) -> TaskVectors:
        space = self._common_space(tasks)
        store = ArrayStore(None if self.memory is None else expanded(self.memory))
        found: dict[int, np.ndarray] = {}
        keys = self._keys(tasks)
        for i, task in enumerate(tasks):
            known = self._known.get(task.key)
            if known is None:
                known = store.get(keys[i]) if keys[i] else None
            if known is not None:
                found[i] = known
        todo = [i for i in range(len(tasks)) if i not in found]

        def write(at: int, one: TaskVectors) -> None:
            if key := keys[todo[at]]:
                store.put(key, np.asarray(one))

        fitted = embed_tasks(
            self.embedder_,
            [tasks[i] for i in todo],
            self.n_jobs,
            group,
            keep=embedding_of,
            on_done=write if any(keys) else None,
        )
        found |= {i: np.asarray(one) for i, one in zip(todo, fitted, strict=True)}
        if space[0] is None:  # an embedder that names its space with the vector only
            space = common_space(*fitted)
        rows = [found[i] for i in range(len(tasks))]
        return TaskVectors(np.stack(rows), *space)

    def _common_space(self, tasks: list[Task]) -> Space:
        """Space of all tasks, those of ``fit`` too; refused before any is embedded."""
        spaces = self._spaces | dict(self.embedder_.space_of(task) for task in tasks)
        check_spaces(spaces)
        return next(iter(spaces.items()))

    def _keys(self, tasks: list[Task]) -> list[str]:
        """Names of the tasks' embeddings on disk; empty where they are not kept."""
        kind = type(self.embedder_)
        spaces = [self.embedder_.space_of(task)[0] for task in tasks]
        if self.memory is None or None in spaces:
            return [""] * len(tasks)
        name = f"{kind.__module__}.{kind.__qualname__}"
        params = joblib.hash(self.embedder_.get_params())
        return [
            text_key(name, params, str(space), task.key)
            for space, task in zip(spaces, tasks, strict=True)
        ]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags


class _NoGroup:
    def __enter__(self) -> Callable[[], None]:
        return lambda: None

    def __exit__(self, *error: object) -> None:
        return None


def _no_progress(n_steps: int) -> _NoGroup:
    return _NoGroup()
