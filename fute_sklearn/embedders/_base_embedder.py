"""What all embedders share: one task in, one vector and one student out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
    clone,
)
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from .._utils._callbacks import CallbackSupportMixin, fit_progress
from ..tasks._task import Task
from ..tasks._vectors import TaskVectors
from ._student import BaseStudent

Fitted = dict[str, Any]
OnStep = Callable[[], None]


def seed_of(random_state: Any) -> int:
    """Turn a ``random_state`` into an integer seed."""
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def nothing() -> None:
    """Follow no progress."""


class BaseTaskEmbedder(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Base of all embedders: derive from it to write your own.

    ``fit`` takes one task, texts X with their targets y, and leaves the task's vector
    in ``embedding_``.  A subclass gives `_embed_tasks`, which embeds several tasks over
    the same texts at once, and may give ``space_of``, ``n_steps`` and, in the fitted
    attributes, a ``student_`` that answers for the task.
    """

    _parameter_constraints: dict[str, list[Any]] = {}
    embedding_: TaskVectors
    student_: BaseStudent

    @abstractmethod
    def _embed_tasks(self, tasks: Sequence[Task], on_step: OnStep) -> list[Fitted]:
        """Embed tasks that share their texts.

        Parameters
        ----------
        tasks : sequence of Task
            At least one; all have the same texts in the same order.
        on_step : callable
            To be called after each step that ``n_steps`` counts.

        Returns
        -------
        fitted : list of dict
            Fitted attributes for each task: ``"embedding_"`` (dim,) at least, and
            ``"fingerprint_"``, the name of the space, so that vectors of different
            spaces are told apart.
        """

    def n_steps(self, tasks: Sequence[Task]) -> int:
        """Count the steps of progress that embedding some tasks together takes.

        Parameters
        ----------
        tasks : sequence of Task
            Tasks that share their texts.

        Returns
        -------
        n_steps : int
            0 where there is nothing to follow.
        """
        return 0

    def space_of(self, task: Task) -> tuple[str | None, tuple[str, ...] | None]:
        """Name the space that a task's vector would lie in, without embedding it.

        Parameters
        ----------
        task : Task
            The task.

        Returns
        -------
        fingerprint : str or None
            Name of the space; None where it shows in the vector only.
        label_names : tuple of str or None
            Label names of the vector's columns, where it has a column for each.
        """
        return None, None

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self, X: Any, y: Any, *, classes: Any = None, kind: str | None = None
    ) -> BaseTaskEmbedder:
        """Embed the task of the texts X with the targets y.

        Parameters
        ----------
        X : sequence of str of length n_samples
            The texts.
        y : sequence of length n_samples, or array-like (n_samples, n_classes)
            Labels, class probabilities, numbers or free texts, as in `Task`.
        classes : sequence, optional
            All labels that could occur; the columns of probabilities.
        kind : {"label", "number", "text"}, optional
            Kind of the targets, where it shall not be told from them; see `Task`.

        Returns
        -------
        self : object
            The fitted embedder.
        """
        task = Task(X, y, classes=classes, kind=kind)
        with fit_progress(self, self.n_steps([task]), "epoch") as step:
            self._take_over(self._checked([task], step)[0])
        return self

    def embed(
        self, tasks: Sequence[Task], on_step: OnStep = nothing
    ) -> list[BaseTaskEmbedder]:
        """Embed tasks that share their texts, together where that is quicker.

        Parameters
        ----------
        tasks : sequence of Task
            Tasks over the same texts, as models labelled on the same texts are.
        on_step : callable, optional
            Is called after each step that ``n_steps`` counts.

        Returns
        -------
        fitted : list of embedders
            A fitted copy of this embedder for each task; this one stays as it is.

        Raises
        ------
        ValueError
            If the tasks have different texts, or one has a single class.
        """
        out = []
        for fitted in self._checked(tasks, on_step):
            copy = clone(self)
            copy._take_over(fitted)  # noqa: SLF001 - a copy of this object
            out.append(copy)
        return out

    def _checked(self, tasks: Sequence[Task], on_step: OnStep) -> list[Fitted]:
        if len({task.text_key for task in tasks}) > 1:
            raise ValueError("tasks that are embedded together must share their texts.")
        for task in tasks:
            if task.targets.kind == "label" and len(task.targets.names) < 2:
                raise ValueError(
                    f"y of {task.name or 'the task'} holds 1 class, "
                    f"{list(task.targets.names)}; nothing can be learnt from it. If "
                    "other labels could occur, name them all: Task(X, y, "
                    "classes=[...]), or MTEWrapper(model, classes=[...])."
                )
        found = self._embed_tasks(tasks, on_step)
        for task, fitted in zip(tasks, found, strict=True):
            _, label_names = self.space_of(task)
            fitted.setdefault("fingerprint_", None)
            fitted["embedding_"] = TaskVectors(
                np.asarray(fitted["embedding_"], dtype=np.float32),
                fitted["fingerprint_"],
                label_names,
            )
            fitted["n_samples_seen_"] = task.n_samples
            fitted["target_kind_"] = task.targets.kind
            if task.targets.kind == "label":
                fitted["classes_"] = task.targets.classes
                fitted["label_names_"] = task.targets.names
        return found

    def _take_over(self, fitted: Fitted) -> None:
        """Take over fitted attributes; none of an earlier fit stays."""
        for name in self.__dict__.pop("_fitted_names", ()):
            self.__dict__.pop(name, None)
        self.__dict__.update(fitted, _fitted_names=tuple(fitted))
        if isinstance(fitted.get("student_"), BaseStudent):
            # A change of device or surrogate by set_params counts for the student too.
            self.student_.embedder = self

    def transform(self, X: Any) -> np.ndarray:
        """Features of the texts under the task's student.

        Parameters
        ----------
        X : sequence of str of length n_samples
            The texts.

        Returns
        -------
        features : ndarray (n_samples, n_features)
            One row per text.
        """
        check_is_fitted(self, "embedding_")
        return self.student_.transform(X)

    def score(self, X: Any, y: Any) -> float:
        """Mean log-likelihood of the targets given the texts, in nats per text.

        Parameters
        ----------
        X : sequence of str of length n_samples
            The texts.
        y : sequence of length n_samples, or array-like (n_samples, n_classes)
            Targets of the kind seen in ``fit``.

        Returns
        -------
        score : float
            The mean; 0 is perfect.
        """
        check_is_fitted(self, "embedding_")
        return float(self.student_.log_likelihood(X, y).mean())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = []
        return tags
