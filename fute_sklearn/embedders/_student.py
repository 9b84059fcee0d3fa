"""Students: estimators that are fitted to a task on top of a surrogate."""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    RegressorMixin,
    _fit_context,
    clone,
)
from sklearn.metrics import accuracy_score
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.validation import check_is_fitted

from .._utils._columns import column_names, column_of, plain, typed_array
from .._utils._config import expanded
from .._utils._store import write_atomically
from ..tasks._targets import parse_targets, refuse_numbers
from ..tasks._validation import check_same_length, label_name

if TYPE_CHECKING:
    from .._engine import Encoded


STUDENT_FILE = "student.json"


@dataclass(frozen=True)
class Predictions:
    """What a student or a model predicts for some texts.

    ``values`` holds log-probabilities (n, n_classes) in the order of the label
    ``names``, or numbers or texts (n,).  ``spread`` (n,) is the standard deviation of
    the numbers, ``likelihood`` (n,) that of given target texts, where known.
    """

    kind: str
    names: tuple[str, ...]
    values: np.ndarray
    spread: np.ndarray | None = None
    likelihood: np.ndarray | None = None


class StudentState(Protocol):
    """Fitted state of a student, without the surrogate's weights."""

    def features(self, encoded: Encoded) -> np.ndarray:
        """Row-wise features (n, n_features)."""

    def log_proba(self, encoded: Encoded, names: tuple[str, ...]) -> np.ndarray:
        """Log-probabilities of the labels (n, n_classes)."""

    def predicted_numbers(self, encoded: Encoded) -> tuple[np.ndarray, np.ndarray]:
        """Numbers and their standard deviations, (n,) each."""

    def texts(self, encoded: Encoded) -> np.ndarray:
        """Texts (n,)."""

    def log_likelihood(self, encoded: Encoded, texts: Sequence[str]) -> np.ndarray:
        """Log-likelihood of a target text per row (n,)."""


def no_answers(embedder: str, kind: str) -> AttributeError:
    """Return the error for targets that an embedder's student cannot predict."""
    return AttributeError(
        f"{embedder} has no student for targets of kind {kind!r}; TuPaTEEmbedder has."
    )


class BaseStudent(BaseEstimator):
    """Base of the students; a fitted embedder has one in ``student_``.

    Parameters
    ----------
    embedder : embedder
        How the student is made; ``fit`` clones it.
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "embedder": [HasMethods(["fit", "embed"])]
    }
    state_: StudentState
    target_kind_: str
    label_names_: tuple[str, ...]
    classes_: np.ndarray

    def __init__(self, embedder: Any) -> None:
        self.embedder = embedder

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any) -> BaseStudent:
        """Fit the student to texts X and targets y.

        Parameters
        ----------
        X : sequence of str of length n_samples
            The texts.
        y : sequence of length n_samples
            Their targets, of this student's kind.

        Returns
        -------
        self : object
            The fitted student.

        Raises
        ------
        ValueError
            If labels are expected and y holds numbers that are not all whole.
        """
        if self._kind == "label":
            refuse_numbers(y := plain(y))
        fitted = clone(self.embedder).fit(X, y, kind=self._kind)
        self.__dict__.update(
            (name, value)
            for name, value in vars(fitted.student_).items()
            if name.endswith("_")
        )
        return self

    @property
    @abstractmethod
    def _kind(self) -> str:
        """Kind of the targets."""

    def _encoded(self, X: Any) -> Encoded:
        check_is_fitted(self)
        return self.embedder.encode(X, self.surrogate_fingerprint_)

    def transform(self, X: Any) -> np.ndarray:
        """Features of the texts under the tuned surrogate.

        Parameters
        ----------
        X : sequence of str of length n_samples, or EncodedTexts
            The texts.

        Returns
        -------
        features : ndarray (n_samples, n_features)
            One row per text.
        """
        return self.state_.features(self._encoded(X))

    def predictions(self, X: Any) -> Predictions:
        """Predict targets in the form that rankers compare.

        Parameters
        ----------
        X : sequence of str of length n_samples, or EncodedTexts
            The texts.

        Returns
        -------
        predictions : Predictions
            Log-probabilities by label name, or numbers or texts.
        """
        encoded = self._encoded(X)
        if self.target_kind_ == "label":
            values = self.state_.log_proba(encoded, self.label_names_)
            return Predictions("label", self.label_names_, values)
        if self.target_kind_ == "number":
            values, spread = self.state_.predicted_numbers(encoded)
            return Predictions("number", (), values, spread)
        return Predictions("text", (), self.state_.texts(encoded))

    def log_likelihood(self, X: Any, y: Any) -> np.ndarray:
        """Log-likelihood of each target given its text, in nats.

        Parameters
        ----------
        X : sequence of str of length n_samples, or EncodedTexts
            The texts.
        y : sequence of length n_samples, or array-like (n_samples, n_classes)
            Targets of the kind seen in ``fit``; for class probabilities, the
            expectation is returned.

        Returns
        -------
        log_likelihood : ndarray (n_samples,)
            0 is perfect.

        Raises
        ------
        ValueError
            If y holds other labels than those of the fit.
        """
        encoded = self._encoded(X)
        if self.target_kind_ != "label":
            targets = parse_targets(y, kind=self.target_kind_)
            check_same_length(len(encoded), len(targets))
            return self.state_.log_likelihood(encoded, targets.texts)
        named = column_names(y) is not None
        targets = parse_targets(y, None if named else self.classes_)
        check_same_length(len(encoded), len(targets))
        if set(targets.names) - set(self.label_names_):
            raise ValueError(
                f"y holds labels {targets.names}, the fit saw {self.label_names_}."
            )
        log_proba = self.state_.log_proba(encoded, self.label_names_)
        columns = [self.label_names_.index(name) for name in targets.names]
        return (targets.proba * log_proba[:, columns]).sum(1)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the tuned surrogate in the format of transformers or peft.

        A student tuned with ``tuning="lora"`` becomes an adapter of peft, with the
        surrogate beside it in ``base``::

            base = AutoModelForSeq2SeqLM.from_pretrained(folder / "base")
            model = PeftModel.from_pretrained(base, folder)

        Fine-tuned weights become a T5 of their own.  ``student.json`` holds the labels.

        Parameters
        ----------
        folder : path-like
            Where to write; made where there is none.

        Raises
        ------
        NotImplementedError
            If the student is not a tuned T5, or is tuned in a way that neither peft nor
            a stock T5 can hold: prefixes of cross-attention, and biases.
        """
        check_is_fitted(self)
        if not hasattr(self.state_, "save"):
            raise NotImplementedError(
                f"the student of {type(self.embedder).__name__} is no tuned T5, so no "
                "other library can load it; use a pickle."
            )
        target = expanded(folder)
        target.mkdir(parents=True, exist_ok=True)
        surrogate = self.embedder.load_surrogate(self.surrogate_fingerprint_)
        record = self.state_.save(surrogate, target)
        labels = self.classes_.tolist() if self.target_kind_ == "label" else []
        record |= {
            "embedder": type(self.embedder).__name__,
            "kind": self.target_kind_,
            "classes": labels,
            "low_rank": (target / "base").is_dir(),
            "max_length": self.embedder.max_length,
            "dtype": self.embedder.dtype,
        }
        text = json.dumps(record, indent=2, default=str)
        write_atomically(target / STUDENT_FILE, f"{text}\n".encode())

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> Any:
        """Read a student that ``save_pretrained`` has written.

        Parameters
        ----------
        folder : path-like
            Its folder.

        Returns
        -------
        student : StudentClassifier, StudentRegressor or StudentGenerator
            The fitted student, whose surrogate is the one in the folder.

        Raises
        ------
        FileNotFoundError
            If there is no student in the folder.
        ValueError
            If the student is of another kind than this class.
        """
        source = expanded(folder)
        path = source / STUDENT_FILE
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist: no student lies there.")
        try:
            record = json.loads(path.read_text(encoding="utf8"))
            kind, read = STUDENTS[record["kind"]], READERS[record["embedder"]]
        except (LookupError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(
                f"{path} is no file of save_pretrained: {error}"
            ) from error
        if not issubclass(kind, cls):
            raise ValueError(
                f"{source} holds a {kind.__name__}, no {cls.__name__}; call "
                f"{kind.__name__}.from_pretrained."
            )
        student = kind(None)
        student.embedder, student.state_ = read(source, record)
        student.target_kind_ = record["kind"]
        student.surrogate_fingerprint_ = student.embedder.load_surrogate().fingerprint
        if record["kind"] == "label":
            student.classes_ = typed_array(record["classes"])
            names = [label_name(label) for label in record["classes"]]
            student.label_names_ = tuple(names)
        return student

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.target_tags.required = True
        return tags


class StudentClassifier(ClassifierMixin, BaseStudent):
    """Classify texts by a surrogate that is fitted to a task.

    A fitted embedder has its task's student in ``student_``; it can also be constructed
    directly, for cross-validation and scorers.

    Parameters
    ----------
    embedder : embedder
        How the student is made, as `TuPaTEEmbedder` or `MomentEmbedder`; ``fit`` clones
        it.

    Attributes
    ----------
    classes_ : ndarray (n_classes,)
        Labels, sorted by name.
    label_names_ : tuple of str
        Their names.
    state_ : object
        What was learnt.

    See Also
    --------
    StudentRanker : Ranks models by their students' scores.

    Examples
    --------
    >>> from fute_sklearn import MomentEmbedder, StudentClassifier
    >>> X = ["a fine film", "a dull film", "what joy", "how sad"]
    >>> y = ["positive", "negative", "positive", "negative"]
    >>> embedder = MomentEmbedder("fute-tiny-random", reference=X)
    >>> StudentClassifier(embedder).fit(X, y).score(X, y)
    1.0
    """

    _kind = "label"

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return log-probabilities of the classes.

        Parameters
        ----------
        X : sequence of str of length n_samples, or EncodedTexts
            The texts.

        Returns
        -------
        log_proba : ndarray (n_samples, n_classes)
            Columns in the order of ``classes_``.
        """
        return self.predictions(X).values

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities of the classes.

        Parameters
        ----------
        X : sequence of str of length n_samples, or EncodedTexts
            The texts.

        Returns
        -------
        proba : ndarray (n_samples, n_classes)
            Columns in the order of ``classes_``.
        """
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: Any) -> np.ndarray:
        """Likeliest class of each text.

        Parameters
        ----------
        X : sequence of str of length n_samples, or EncodedTexts
            The texts.

        Returns
        -------
        y : ndarray (n_samples,)
            Labels.
        """
        return self.classes_[self.predict_log_proba(X).argmax(1)]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy of the predicted classes, with labels compared by name.

        Parameters
        ----------
        X : sequence of str of length n_samples, or EncodedTexts
            The texts.
        y : sequence of length n_samples
            Their labels.
        sample_weight : array-like (n_samples,), optional
            Weights of the texts.

        Returns
        -------
        score : float
            Weighted share of the texts that get their label.
        """
        wanted = [label_name(label) for label in column_of(plain(y), "y")]
        if not set(wanted) & set(self.label_names_):
            raise ValueError(
                f"y holds labels {sorted(set(wanted))}, the fit saw "
                f"{list(self.label_names_)}; labels are compared by name."
            )
        found = [label_name(label) for label in self.predict(X)]
        return float(accuracy_score(wanted, found, sample_weight=sample_weight))


class StudentRegressor(RegressorMixin, BaseStudent):
    """Predict numbers from texts by a surrogate that is fitted to a task.

    Parameters
    ----------
    embedder : embedder
        How the student is made, as `TuPaTEEmbedder` or `MomentEmbedder`; ``fit`` clones
        it.

    Attributes
    ----------
    state_ : object
        What was learnt.

    See Also
    --------
    StudentClassifier : The same for labels.

    Examples
    --------
    >>> from fute_sklearn import MomentEmbedder, StudentRegressor
    >>> X = ["a fine film", "a dull film", "what joy", "how sad"]
    >>> embedder = MomentEmbedder("fute-tiny-random", reference=X)
    >>> StudentRegressor(embedder).fit(X, [1.5, 0.25, 2.0, 0.5]).predict(X).shape
    (4,)
    """

    _kind = "number"

    def predict(self, X: Any) -> np.ndarray:
        """Predict a number for each text.

        Parameters
        ----------
        X : sequence of str of length n_samples, or EncodedTexts
            The texts.

        Returns
        -------
        y : ndarray (n_samples,)
            Numbers.
        """
        return self.predictions(X).values

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Coefficient of determination of the predicted numbers.

        Parameters
        ----------
        X : sequence of str of length n_samples, or EncodedTexts
            The texts.
        y : sequence of float of length n_samples
            Their numbers.
        sample_weight : array-like (n_samples,), optional
            Weights of the texts.

        Returns
        -------
        score : float
            R squared; 1 is perfect, 0 is the mean.
        """
        return super().score(X, y, sample_weight)


class StudentGenerator(BaseStudent):
    """Write texts by a surrogate that is tuned to a task.

    Parameters
    ----------
    embedder : embedder
        How the student is made, as `TuPaTEEmbedder`; ``fit`` clones it.

    Attributes
    ----------
    state_ : object
        What was learnt.

    See Also
    --------
    StudentClassifier : The same for labels.

    Examples
    --------
    >>> from fute_sklearn import StudentGenerator, TuPaTEEmbedder
    >>> student = StudentGenerator(TuPaTEEmbedder("fute-tiny-random", max_epochs=1))
    >>> student.fit(["one", "two"], ["eins", "zwei"]).predict(["one"]).shape
    (1,)
    """

    _kind = "text"

    def predict(self, X: Any) -> np.ndarray:
        """Generate a text for each text by greedy decoding.

        Parameters
        ----------
        X : sequence of str of length n_samples, or EncodedTexts
            The texts.

        Returns
        -------
        y : ndarray of str (n_samples,)
            Texts, no longer than the longest of the fit.
        """
        return self.predictions(X).values


# How the embedders whose students can be saved read them, by the embedder's name.
READERS: dict[str, Callable[[Path, dict[str, Any]], tuple[Any, StudentState]]] = {}
STUDENTS: dict[str, Any] = {
    "label": StudentClassifier,
    "number": StudentRegressor,
    "text": StudentGenerator,
}
