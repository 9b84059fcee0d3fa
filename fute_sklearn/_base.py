"""What all embedders share: one task in, one vector and one student out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
    clone,
)
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ._callbacks import CallbackSupportMixin, fit_progress
from ._columns import column_names
from ._store import text_key
from ._targets import parse_targets
from ._task import Task
from ._validation import check_same_length, check_texts
from ._vectors import TaskVectors
from .exceptions import FingerprintMismatchError

if TYPE_CHECKING:
    from .surrogate import Encoded, Surrogate

Fitted = dict[str, Any]
OnEpoch = Callable[[], None]

SURROGATE_CONSTRAINTS: dict[str, list[Any]] = {
    "surrogate": [str, HasMethods("__fspath__")],
    "max_length": [Interval(Integral, 2, None, closed="left")],
    "device": [str],
    "dtype": [StrOptions({"float32", "bfloat16"})],
}


@dataclass(frozen=True)
class Answers:
    """A student's or a model's answers to some texts.

    ``values`` holds log-probabilities (n, n_classes) in the order of the label
    ``names``, or numbers or texts (n,).
    """

    kind: str
    names: tuple[str, ...]
    values: np.ndarray


def _has_classes(self: Any) -> bool:
    if not hasattr(self, "classes_"):
        raise AttributeError(
            "available after a fit on labels or class probabilities only."
        )
    return True


def seed_of(random_state: Any) -> int:
    """Turn a ``random_state`` into an integer seed."""
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


class BaseTaskEmbedder(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Base of the embedders; subclasses give `_fit_group`, `_space` and a student.

    ``fit`` takes one task: texts X with their targets y.  It leaves the task's
    vector in ``embedding_`` and the surrogate tuned to the task, its student, behind
    ``transform``, ``predict`` and ``score``.
    """

    surrogate: Any
    max_length: int
    device: str
    dtype: str
    _parameter_constraints: dict[str, list[Any]] = SURROGATE_CONSTRAINTS

    # What subclasses give -------------------------------------------------------

    @abstractmethod
    def _space(self, surrogate: Surrogate, task: Task) -> tuple[Any, ...]:
        """Parameters that change the space, beside the surrogate."""

    def _column_labels(self, task: Task) -> tuple[str, ...] | None:
        """Label names of an embedding's columns, where it has one for each label."""
        return None

    @abstractmethod
    def _fit_group(
        self,
        surrogate: Surrogate,
        encoded: Encoded,
        tasks: Sequence[Task],
        on_epoch: OnEpoch,
    ) -> list[Fitted]:
        """Fit tasks whose texts are ``encoded``; return fitted attributes of each."""

    @abstractmethod
    def _label_log_proba(self, surrogate: Surrogate, encoded: Encoded) -> np.ndarray:
        """Return the student's log-probabilities, (n, n_classes)."""

    @abstractmethod
    def _features(self, surrogate: Surrogate, encoded: Encoded) -> np.ndarray:
        """Row-wise features under the student, (n, d_model)."""

    def _n_steps(self, tasks: Sequence[Task]) -> int:
        """Steps of progress that `_fit_group` reports for these tasks."""
        return 0

    # Fitting --------------------------------------------------------------------

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
        with fit_progress(self, self._n_steps([task]), "epoch") as step:
            self._set_fitted(self._embed([task], step)[0])
        return self

    def _set_fitted(self, fitted: Fitted) -> None:
        """Take over fitted attributes; none of an earlier fit stays."""
        for name in self.__dict__.pop("_fitted_names", ()):
            self.__dict__.pop(name, None)
        self.__dict__.update(fitted, _fitted_names=tuple(fitted))

    def _embed(self, tasks: Sequence[Task], on_epoch: OnEpoch) -> list[Fitted]:
        """Fit tasks that share their texts; return fitted attributes of each."""
        from .surrogate import encode_texts

        if len({task._text_key for task in tasks}) > 1:
            raise ValueError("tasks that are embedded together must share their texts.")
        for task in tasks:
            if task.targets.kind == "label" and len(task.targets.names) < 2:
                raise ValueError(
                    f"y of {task.name or 'the task'} holds 1 class, "
                    f"{list(task.targets.names)}; nothing can be learnt from it. If "
                    "other labels could occur, name them all: Task(X, y, "
                    "classes=[...]), or MTEWrapper(model, classes=[...])."
                )
        self._pin_seed()
        surrogate = self._load()
        # A task is a set of pairs: a fixed order keeps the rows' order out of it.
        order = sorted(range(tasks[0].n_samples), key=tasks[0].texts.__getitem__)
        rows = np.array(order)
        encoded = encode_texts(surrogate, [tasks[0].texts[i] for i in order])
        ordered = [task.take(rows) for task in tasks]
        found = self._fit_group(surrogate, encoded, ordered, on_epoch)
        for task, fitted in zip(tasks, found, strict=True):
            fitted["surrogate_fingerprint_"] = surrogate.fingerprint
            fitted["fingerprint_"] = self._fingerprint(surrogate, task)
            fitted["embedding_"] = TaskVectors(
                np.asarray(fitted["embedding_"], dtype=np.float32),
                fitted["fingerprint_"],
                self._column_labels(task),
            )
            fitted["_seed"] = self._seed
            fitted["n_samples_seen_"] = task.n_samples
            fitted["target_kind_"] = task.targets.kind
            fitted["_n_features_out"] = surrogate.architecture.d_model
            if task.targets.kind == "label":
                fitted["classes_"] = task.targets.classes
                fitted["label_names_"] = task.targets.names
        return found

    def _pin_seed(self) -> None:
        """Draw the seed of the space, where the embedder has a random state."""
        self._seed = seed_of(getattr(self, "random_state", 0))

    def _fingerprint(self, surrogate: Surrogate, task: Task) -> str:
        parts = (
            type(self).__name__,
            surrogate.weights_fingerprint,
            *self._space(surrogate, task),
        )
        return text_key(*map(str, parts))[:16]

    def _fitted_clone(self, fitted: Fitted) -> BaseTaskEmbedder:
        """Return a fitted embedder from attributes of `_embed`."""
        found = clone(self)
        found._set_fitted(fitted)
        return found

    def _load(self, expected: str | None = None) -> Surrogate:
        from .surrogate import load_surrogate

        surrogate = load_surrogate(
            self.surrogate,
            device=self.device,
            dtype=self.dtype,
            max_length=self.max_length,
        )
        if expected not in (None, surrogate.fingerprint):
            raise FingerprintMismatchError(
                f"surrogate={self.surrogate!r} is not the one of the fit: its "
                f"fingerprint is {surrogate.fingerprint}, at fit {expected}. "
                "Load the weights of then, with the same dtype and max_length."
            )
        return surrogate

    def _encode(self, X: Any) -> tuple[Surrogate, Encoded]:
        from .surrogate import encode_texts

        check_is_fitted(self)
        texts = check_texts(X)
        surrogate = self._load(self.surrogate_fingerprint_)
        return surrogate, encode_texts(surrogate, texts)

    def unreadable_share(self, X: Any) -> float:
        """Share of texts that the surrogate cannot read.

        Parameters
        ----------
        X : sequence of str of length n_samples
            The texts.

        Returns
        -------
        share : float
            Part of the texts, 0 to 1, of which half the tokens or more stand for
            characters or words that the surrogate's vocabulary lacks.
        """
        from .surrogate import unreadable_share

        return unreadable_share(self._load(), check_texts(X))

    # The student ----------------------------------------------------------------

    def transform(self, X: Any) -> np.ndarray:
        """Features of the texts under the student.

        Parameters
        ----------
        X : sequence of str of length n_samples
            The texts.

        Returns
        -------
        features : ndarray (n_samples, d_model)
            One row per text.
        """
        return self._features(*self._encode(X))

    @available_if(_has_classes)
    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Log-probabilities of the classes by the student.

        Parameters
        ----------
        X : sequence of str of length n_samples
            The texts.

        Returns
        -------
        log_proba : ndarray (n_samples, n_classes)
            Columns in the order of ``classes_``.
        """
        return self._label_log_proba(*self._encode(X))

    @available_if(_has_classes)
    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes by the student.

        Parameters
        ----------
        X : sequence of str of length n_samples
            The texts.

        Returns
        -------
        proba : ndarray (n_samples, n_classes)
            Columns in the order of ``classes_``.
        """
        return np.exp(self.predict_log_proba(X))

    def _answers(self, surrogate: Surrogate, encoded: Encoded) -> Answers:
        if self.target_kind_ == "label":
            values = self._label_log_proba(surrogate, encoded)
            return Answers("label", self.label_names_, values)
        return Answers(self.target_kind_, (), self._predict_other(surrogate, encoded))

    def predict(self, X: Any) -> np.ndarray:
        """Targets of the texts by the student.

        Parameters
        ----------
        X : sequence of str of length n_samples
            The texts.

        Returns
        -------
        y : ndarray (n_samples,)
            Labels, numbers or texts, as in the fit.
        """
        answers = self._answers(*self._encode(X))
        if answers.kind == "label":
            return self.classes_[answers.values.argmax(1)]
        return answers.values

    def _predict_other(self, surrogate: Surrogate, encoded: Encoded) -> np.ndarray:
        raise AttributeError(
            f"{type(self).__name__} has no student for targets of kind "
            f"{self.target_kind_!r}; TuPaTEEmbedder has one."
        )

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
        surrogate, encoded = self._encode(X)
        if self.target_kind_ != "label":
            targets = parse_targets(y, kind=self.target_kind_)
            check_same_length(len(encoded), len(targets))
            return self._text_score(surrogate, encoded, targets.texts)
        named = column_names(y) is not None
        targets = parse_targets(y, None if named else self.classes_)
        check_same_length(len(encoded), len(targets))
        if set(targets.names) - set(self.label_names_):
            raise ValueError(
                f"y holds labels {targets.names}, the fit saw {self.label_names_}."
            )
        log_proba = self._label_log_proba(surrogate, encoded)
        columns = [self.label_names_.index(name) for name in targets.names]
        return float((targets.proba * log_proba[:, columns]).sum(1).mean())

    def _text_score(
        self, surrogate: Surrogate, encoded: Encoded, texts: Sequence[str]
    ) -> float:
        raise AttributeError(
            f"{type(self).__name__} gives no likelihood to targets of kind "
            f"{self.target_kind_!r}; TuPaTEEmbedder does."
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = []
        return tags
