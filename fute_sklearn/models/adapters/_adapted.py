"""What an adapted model is, and the adapters that need no library."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
from scipy.special import expit

from ..._utils._columns import is_missing, scalar

RESPONSES = ("predict", "predict_proba", "predict_log_proba", "decision_function")
SCORES = ("predict", "predict_proba", "predict_log_proba")
LOG_FLOOR = 1e-30
# Estimators of these libraries answer hundreds of texts in the time of a few.
FAST = {"sklearn", "imblearn", "lightgbm", "xgboost", "catboost"}


@dataclass(frozen=True)
class Options:
    """What a user says of a model beside the model."""

    tokenizer: Any = None
    classes: Sequence[Any] | None = None


class AdaptedModel:
    """A model as `MTEWrapper` asks it.

    Parameters
    ----------
    model : object
        The model.
    options : Options
        What the user says of it.

    Attributes
    ----------
    responses : tuple of str
        Names of the response methods that it has.
    classes : list or None
        Labels that it can answer with, in the order of its scores.
    batch_size : int
        Texts per call, unless the user says otherwise.
    hashed : object
        What identifies it, if it has no fingerprint.
    """

    responses: tuple[str, ...] = ("predict",)
    batch_size = 32

    def __init__(self, model: Any, options: Options) -> None:
        self.model = model
        self.options = options
        self.classes: list[Any] | None = None
        self.hashed: Any = model

    @property
    def name(self) -> str:
        """Name of the model, if the user gives none."""
        return type(self.model).__name__

    @property
    def fingerprint(self) -> str | None:
        """Fingerprint that the model itself has."""
        mark = getattr(self.model, "fingerprint", None)
        return None if mark is None else str(mark() if callable(mark) else mark)

    def answer(self, X: Any, method: str) -> Any:
        """Answer some texts by one of the ``responses``."""
        raise NotImplementedError


class EstimatorModel(AdaptedModel):
    """Any object with scikit-learn's response methods."""

    def __init__(self, model: Any, options: Options) -> None:
        super().__init__(model, options)
        self.responses = tuple(name for name in RESPONSES if hasattr(model, name))
        own = getattr(model, "classes_", None)
        self.classes = None if own is None else [scalar(label) for label in own]
        if type(model).__module__.partition(".")[0] in FAST:
            self.batch_size = 512

    def answer(self, X: Any, method: str) -> Any:
        return plain_rows(getattr(self.model, method)(X), method)


class ScoringModel(AdaptedModel):
    """Base class of models that give a probability to each of their classes."""

    responses = SCORES

    def scores(self, X: list[Any]) -> np.ndarray:
        """Probabilities (n, n_classes)."""
        raise NotImplementedError

    def answer(self, X: Any, method: str) -> Any:
        found = np.asarray(self.scores(self.inputs(X)), dtype=float)
        labels = self.classes or list(self.options.classes or range(found.shape[1]))
        return from_scores(found, labels, method)

    def inputs(self, X: Any) -> Any:
        """Return what ``scores`` is called with."""
        return list(X)


class FunctionModel(AdaptedModel):
    """A function of one text, or of a list of texts.

    A type hint of the first parameter tells which.  Without one it is called with a
    list of one text; if it fails or does not answer with a list of one value, it is
    called text by text.
    """

    responses = SCORES[:2]

    def __init__(self, model: Any, options: Options) -> None:
        super().__init__(model, options)
        if is_async(model):
            raise TypeError(
                f"{self.name} is an async function, which answers only where it is "
                "awaited; give a function that waits for it: "
                "lambda texts: asyncio.run(function(texts))."
            )
        self.of_list = _takes_list(model)

    @property
    def name(self) -> str:
        return getattr(self.model, "__name__", super().name)

    def answer(self, X: Any, method: str) -> Any:
        texts = list(X)
        if self.of_list is None:
            self.of_list = self._reads_lists(texts[0])
        if self.of_list:
            return plain_rows(self.model(texts), method)
        return plain_rows([self.model(text) for text in texts], method)

    def _reads_lists(self, text: Any) -> bool:
        try:
            found = self.model([text])
        except Exception as error:  # a function of one text may raise anything here
            one = self.model(text)
            if hasattr(one, "__len__") and not isinstance(one, (str, Mapping)):
                raise error
            return False
        if isinstance(found, (str, bytes, tuple, Mapping)):
            return False
        return hasattr(found, "__len__") and len(found) == 1


class RunnableModel(AdaptedModel):
    """A runnable of LangChain."""

    @property
    def name(self) -> str:
        return str(self.model.get_name())

    def answer(self, X: Any, method: str) -> Any:
        return plain_rows(self.model.batch(list(X)), method)


def plain_rows(found: Any, method: str) -> Any:
    """Replace answers that hold more than a label by the label, or by their scores.

    Dicts with a ``label``, messages with a ``content`` and dicts of scores by label are
    known.
    """
    if not isinstance(found, (list, tuple)):
        return found
    said = [row for row in found if not is_missing(row)]
    if said and all(isinstance(row, Mapping) for row in said):
        if all("label" in row for row in said):
            return [None if is_missing(row) else row["label"] for row in found]
        if method == "predict":
            return [max(row, key=row.__getitem__) if row else None for row in found]
        labels = list(dict.fromkeys(label for row in said for label in row))
        none = [np.nan] * len(labels)
        table = [
            [float(row.get(label, 0.0)) for label in labels] if row else none
            for row in found
        ]
        return labelled_table(np.array(table, dtype=float), labels)
    if said and all(isinstance(getattr(row, "content", None), str) for row in said):
        return [None if is_missing(row) else row.content for row in found]
    return found


def from_scores(found: np.ndarray, labels: Sequence[Any], method: str) -> Any:
    """Answer by a method from a table of probabilities, one column a label."""
    if len(labels) != found.shape[1]:
        raise ValueError(
            f"it gives {found.shape[1]} scores for {len(labels)} classes, {labels}."
        )
    if method == "predict":
        return likeliest(found, labels)
    if method == "predict_log_proba":
        found = np.log(np.clip(found, LOG_FLOOR, None))
    return labelled_table(found, labels)


def two_columns(found: np.ndarray) -> np.ndarray:
    """Return a table of probabilities; one column is that of the second class."""
    found = found.reshape(len(found), -1)
    if found.shape[1] > 1:
        return found
    low, high = found.min(initial=0), found.max(initial=0)
    if low < 0 or high > 1:  # logits
        found = expit(found)
    return np.hstack([1 - found, found])


def labelled_table(values: np.ndarray, labels: Sequence[Any]) -> Any:
    """Make a table whose columns are named by the labels."""
    import pandas as pd

    return pd.DataFrame(values, columns=pd.Index(labels, dtype=object))


def likeliest(table: np.ndarray, labels: Sequence[Any]) -> list[Any]:
    """Label of each row's highest score; None for rows with NaN."""
    unknown = np.isnan(table).any(1)
    best = np.where(np.isnan(table), -np.inf, table).argmax(1)
    return [None if none else labels[i] for i, none in zip(best, unknown, strict=True)]


def _takes_list(function: Callable[..., Any]) -> bool | None:
    """Tell from the type hint of the first parameter; None without one."""
    try:
        called = function if inspect.isroutine(function) else type(function).__call__
        names = list(inspect.signature(function).parameters)
        hint = get_type_hints(called).get(names[0]) if names else None
    except Exception:  # hints may be any text
        return None
    hints = set(get_args(hint)) - {type(None)} if is_union(hint) else {hint}
    kinds = [get_origin(one) or one for one in hints]
    if kinds == [str]:
        return False
    several = [
        isinstance(kind, type) and issubclass(kind, Iterable) and kind is not str
        for kind in kinds
    ]
    return all(several) or None


def is_union(hint: Any) -> bool:
    """Whether a type hint is ``Union[...]``, ``Optional[...]`` or ``a | b``."""
    return get_origin(hint) in (Union, types.UnionType)


def is_async(function: Any) -> bool:
    """Whether what is called returns a coroutine."""
    while isinstance(function, functools.partial):
        function = function.func
    called = function if inspect.isroutine(function) else type(function).__call__
    return inspect.iscoroutinefunction(called)
