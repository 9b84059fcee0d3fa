"""Base class of task embedders: a fit maps one task to a vector and a student."""

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
    """Do nothing; the default progress callback."""


class BaseTaskEmbedder(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Base class of task embedders.

    ``fit`` maps one task, texts X with targets y, to a vector, ``embedding_``.
    Subclasses must implement ``_embed_tasks``, which embeds several tasks over the same
    texts at once, and may override ``space_of``, ``n_steps`` and ``learn_space``.  They
    may set the fitted attribute ``student_``, an estimator that predicts the targets;
    ``transform`` and ``score`` need it.
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
            Function without arguments, to be called after each step that ``n_steps``
            counts.

        Returns
        -------
        fitted : list of dict
            Fitted attributes of each task: at least ``"embedding_"`` (dim,), and
            ``"fingerprint_"``, the identifier of the space.  Without the latter,
            vectors of different spaces are not told apart.
        """

    def n_steps(self, tasks: Sequence[Task]) -> int:
        """Return the number of progress steps of embedding some tasks together.

        Parameters
        ----------
        tasks : sequence of Task
            Tasks that share their texts.

        Returns
        -------
        n_steps : int
            Number of calls of ``on_step``; 0 by default, for no progress reports.
        """
        return 0

    def space_of(self, task: Task) -> tuple[str | None, tuple[str, ...] | None]:
        """Return the identifier of a task's embedding space without embedding the task.

        Parameters
        ----------
        task : Task
            The task.

        Returns
        -------
        fingerprint : str or None
            Identifier of the space; None, the default, if it is known only after
            embedding.
        label_names : tuple of str or None
            Label names of the vector's columns, if it has columns for each label.
        """
        return None, None

    def learn_space(self, tasks: Sequence[Task]) -> None:  # noqa: B027
        """Set parameters of the embedding space from the tasks to be compared.

        `TaskVectorizer` and `StudentRanker` call it on a clone of their embedder before
        they embed tasks.  By default it does nothing.

        Parameters
        ----------
        tasks : sequence of Task
            The tasks given to ``fit``.
        """

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
            All labels that could occur; for class probabilities, the labels of the
            columns.  By default those seen in ``y``; see `Task`.
        kind : {"label", "number", "text"}, optional
            Kind of the targets; by default inferred from ``y``, see `Task`.

        Returns
        -------
        self : object
            The fitted embedder.

        Raises
        ------
        TypeError, ValueError
            If texts or targets are invalid, or there is a single class.
        """
        task = Task(X, y, classes=classes, kind=kind)
        with fit_progress(self, self.n_steps([task]), "step") as step:
            self._take_over(self._checked([task], step)[0])
        return self

    def embed(
        self, tasks: Sequence[Task], on_step: OnStep = nothing
    ) -> list[BaseTaskEmbedder]:
        """Embed several tasks over the same texts.

        The results agree with those of separate fits; common computations are shared.

        Parameters
        ----------
        tasks : sequence of Task
            Tasks with the same texts in the same order.
        on_step : callable, optional
            Function without arguments, called after each step that ``n_steps`` counts;
            by default nothing is called.

        Returns
        -------
        fitted : list of embedders
            A fitted clone of this embedder per task; this object is not changed.

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
        """Set fitted attributes and remove those of an earlier fit."""
        for name in self.__dict__.pop("_fitted_names", ()):
            self.__dict__.pop(name, None)
        self.__dict__.update(fitted, _fitted_names=tuple(fitted))
        if isinstance(fitted.get("student_"), BaseStudent):
            # set_params(device=..., surrogate=...) then applies to the student too.
            self.student_.embedder = self

    def transform(self, X: Any) -> np.ndarray:
        """Compute features of texts with the student of the fitted task.

        Parameters
        ----------
        X : sequence of str of length n_samples
            The texts.

        Returns
        -------
        features : ndarray (n_samples, n_features)
            One row per text.

        Raises
        ------
        NotFittedError
            If the embedder is not fitted.
        """
        check_is_fitted(self, "embedding_")
        return self.student_.transform(X)

    def score(self, X: Any, y: Any) -> float:
        """Compute the mean log-likelihood of targets under the fitted task's student.

        Parameters
        ----------
        X : sequence of str of length n_samples
            The texts.
        y : sequence of length n_samples, or array-like (n_samples, n_classes)
            Targets of the kind seen in ``fit``.

        Returns
        -------
        score : float
            Nats per text, at most 0 for labels; high is better.

        Raises
        ------
        NotFittedError
            If the embedder is not fitted.
        ValueError
            If y holds labels that were not seen in ``fit``.
        AttributeError
            If the student gives no likelihood to targets of this kind.
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
