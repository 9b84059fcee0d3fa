"""Model task embedding (MTE): label texts with a model and embed the result."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, _fit_context, clone
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._utils._columns import scalar
from .._utils._parameters import validate_params
from .._utils._stack_level import find_stack_level
from .._utils._store import ArrayStore, cache_folder, text_key
from ..exceptions import ModelLabelError, ModelLabelWarning
from ..tasks._task import Task
from ..tasks._validation import check_label_names, check_texts, label_name
from ._content_hash import content_hash
from ._model_answers import (
    MemoryStore,
    ModelAnswers,
    Renaming,
    checked_answers,
    chunk_of,
    in_classes_order,
    in_rows_order,
    joined,
    looks_one_vs_one,
    probabilities,
    with_columns,
)

RESPONSES = ("predict", "predict_proba", "predict_log_proba", "decision_function")


class MTEWrapper(BaseEstimator):
    """Label texts with a fitted model and embed the model by its predictions (MTE).

    The model is any object with ``predict`` or another response method: a scikit-learn
    estimator, a class around a torch module, a client of a server.  It is neither
    fitted nor copied (``clone`` keeps a reference) and is left out of pickles.
    Predictions are cached on disk per batch, so that a repeated or interrupted run does
    not call the model again for the same texts.

    Parameters
    ----------
    estimator : object
        The fitted model; see `fute_sklearn.base.Model`.
    embedder : embedder or None, default=None
        Embeds the labelled texts in ``fit``; None means ``TuPaTEEmbedder()``.
    response_method : {"predict", "predict_proba", "predict_log_proba", \
            "decision_function"}, default="predict"
        Method of the model that labels the texts.  Probabilities become soft targets,
        which hold more information than labels; values of ``decision_function`` are
        converted to probabilities by a softmax (a logistic function for two classes),
        without calibration.  Columns are in the order of the model's ``classes_``;
        columns of a DataFrame are matched by name.
    name : str or None, default=None
        Name of the model; None means the name of its class.
    classes : sequence or None, default=None
        Labels that the model could predict in addition to its ``classes_`` and those
        that it does predict; None adds none.  For a model without ``classes_``, the
        labels of the columns of its probabilities, which are then required unless it
        returns a DataFrame.
    label_names : dict or None, default=None
        The task's labels by the model's labels, such as ``{"LABEL_0": "negative",
        "LABEL_1": "positive"}``; labels that are not keys are kept, and None keeps all.
        Labels mapped to the same one are merged.
    kind : {"label", "number", "text"} or None, default=None
        Kind of the model's predictions; None infers it, see `Task`.
    on_error : {"raise", "drop"}, default="raise"
        What to do if the model fails on a batch: ``"raise"`` raises `ModelLabelError`;
        ``"drop"`` calls the model text by text and drops the texts on which it fails,
        with a warning.  A task with dropped texts cannot be embedded together with
        tasks over all texts, which takes longer.
    batch_size : int, default=512
        Number of texts per call of the model and per file of cached predictions.

    Attributes
    ----------
    embedding_ : TaskVectors (dim,)
        The model task embedding.
    embedder_ : embedder
        The fitted clone of ``embedder``; its ``student_`` imitates the model.
    task_ : Task
        The texts with the model's predictions as targets.

    Notes
    -----
    In the cache, a model is identified by its attribute or method ``fingerprint``, if
    it has one; else by a hash of its pickled state and of its loaded code: its classes,
    their bases, and all that their methods refer to.  A model whose state changes by
    predicting, for instance by a counter, needs a ``fingerprint``.  Predictions of a
    model that cannot be pickled are kept in memory, for the life of this wrapper.

    Examples
    --------
    >>> from fute_sklearn import MTEWrapper
    >>> class Rule:
    ...     def predict(self, X):
    ...         return ["good" if "fine" in x else "bad" for x in X]
    >>> MTEWrapper(Rule()).label(["a fine film", "a dull film"])
    Task(name='Rule', n_samples=2, classes=['bad', 'good'])
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "estimator": [
            HasMethods("predict"),
            HasMethods("predict_proba"),
            HasMethods("predict_log_proba"),
            HasMethods("decision_function"),
        ],
        "embedder": [HasMethods(["fit", "embed"]), None],
        "response_method": [StrOptions(set(RESPONSES))],
        "name": [str, None],
        "classes": ["array-like", None],
        "label_names": [Mapping, None],
        "kind": [StrOptions({"label", "number", "text"}), None],
        "on_error": [StrOptions({"raise", "drop"})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        estimator: Any,
        embedder: Any = None,
        *,
        response_method: str = "predict",
        name: str | None = None,
        classes: Any = None,
        label_names: Mapping[Any, Any] | None = None,
        kind: str | None = None,
        on_error: str = "raise",
        batch_size: int = 512,
    ) -> None:
        self.estimator = estimator
        self.embedder = embedder
        self.response_method = response_method
        self.name = name
        self.classes = classes
        self.label_names = label_names
        self.kind = kind
        self.on_error = on_error
        self.batch_size = batch_size

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters of the wrapper and its embedder, but not of the model.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include the embedder's parameters, as ``embedder__<name>``.

        Returns
        -------
        params : dict
            Parameter names and values.
        """
        params = super().get_params(deep=False)
        if deep and hasattr(self.embedder, "get_params"):
            inner = self.embedder.get_params()
            params.update({f"embedder__{k}": v for k, v in inner.items()})
        return params

    def set_params(self, **params: Any) -> MTEWrapper:
        """Set parameters of the wrapper and its embedder, but not of the model.

        Parameters
        ----------
        **params : dict
            Parameter names and values.

        Returns
        -------
        self : object
            The wrapper.

        Raises
        ------
        ValueError
            If a parameter is unknown or belongs to the model.
        """
        inner = sorted(key for key in params if key.startswith("estimator__"))
        if inner:
            raise ValueError(
                f"{inner} would change the wrapped model, which is never touched; set "
                "parameters of the model itself."
            )
        return super().set_params(**params)

    def __sklearn_clone__(self) -> MTEWrapper:
        params = self.get_params(deep=False)
        if hasattr(self.embedder, "get_params"):
            params["embedder"] = clone(self.embedder)
        return type(self)(**params)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {k: v for k, v in state.items() if k not in ("estimator", "_memory")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.estimator = None

    @property
    def model_name(self) -> str:
        """Name of the model: the parameter ``name``, or the name of its class."""
        return self.name or type(self.estimator).__name__

    def _model(self) -> Any:
        if self.estimator is None:
            raise ValueError(
                "the model is not part of a pickle: set_params(estimator=model) first."
            )
        return self.estimator

    def __deepcopy__(self, memo: dict[int, Any]) -> MTEWrapper:
        """Copy the fitted wrapper; the model is kept by reference."""
        other = type(self)(**self.get_params(deep=False))
        other.__dict__.update(self.__dict__)
        return other

    # Labelling ------------------------------------------------------------------

    def label(self, X: Any) -> Task:
        """Label texts with the model.

        Parameters
        ----------
        X : sequence of str or of records of length n_samples
            The unlabelled texts, in a container type that the model accepts; slices of
            it are passed to the model.  Records are accepted for models with a method
            ``text_of``, such as `PromptedLLM`; see `fute_sklearn.base.Model`.

        Returns
        -------
        task : Task
            The texts with the model's predictions as targets, ``name`` being the
            model's name.

        Raises
        ------
        ModelLabelError
            If the model raises, or returns predictions of a wrong number or form; the
            message names the model and the rows.
        AttributeError
            If the model lacks the response method.
        TypeError, ValueError
            If X is not a sequence of texts, a parameter is invalid, or the wrapper was
            unpickled and has no model.

        Warns
        -----
        ModelLabelWarning
            If texts are dropped (``on_error="drop"``).
        """
        self._model()
        validate_params(self)
        if not hasattr(self.estimator, self.response_method):
            raise AttributeError(
                f"the model {self.model_name!r} has no method "
                f"{self.response_method!r}; choose another response_method."
            )
        X = list(X) if hasattr(X, "__next__") else X
        # For records, the model provides the text of each.
        text_of = getattr(self.estimator, "text_of", None)
        texts = check_texts(X if text_of is None else text_of(X))
        content_of = getattr(self.estimator, "content_of", None)
        content = texts if content_of is None else content_of(X)
        rows, found = self._respond(X, texts, content)
        kept = [texts[i] for i in rows]
        try:
            y, classes = self._targets(joined(found))
            return Task(
                kept,
                y,
                name=self.model_name,
                classes=classes,
                kind=self.kind,
                origin="model",
            )
        except (TypeError, ValueError) as error:
            raise ModelLabelError(
                f"the answers of the model {self.model_name!r} cannot be used: {error}"
            ) from error

    def known_labels(self) -> list[Any] | None:
        """Return the labels that the model can predict, without calling the model.

        Returns
        -------
        labels : list or None
            The model's ``classes_``, or without these the parameter ``classes`` if
            scores are asked for, after renaming by ``label_names``.  None if unknown,
            or if ``kind`` is ``"number"`` or ``"text"``.
        """
        own = getattr(self.estimator, "classes_", None)
        if own is None and self.response_method != "predict":
            own = self.classes  # the labels of the score columns
        if own is None or self.kind in ("number", "text"):
            return None
        renaming = Renaming(self.label_names)
        labels = [renaming.of(scalar(label)) for label in own]
        return list({label_name(label): label for label in labels}.values())

    def _more_classes(self) -> list[Any]:
        if self.classes is None:
            return []
        check_label_names(self.classes)
        return [scalar(label) for label in self.classes]

    def _targets(self, answers: ModelAnswers) -> tuple[Any, list[Any] | None]:
        """Return targets, and all classes that the model can predict if known."""
        own = getattr(self.estimator, "classes_", None)
        own = [] if own is None else [scalar(label) for label in own]
        more = self._more_classes()
        renaming = Renaming(self.label_names)
        values, method = answers.values, self.response_method
        if method != "predict":
            n_classes = len(own or more or answers.names)
            values = with_columns(values, method, n_classes)
        if values.ndim == 2:
            answers = replace(answers, values=values)
            table, classes = in_classes_order(answers, own, more)
            renaming.check([*classes, *more])
            table, classes = renaming.of_columns(probabilities(table, method), classes)
            known = {label_name(label) for label in classes}
            extra = [c for c in map(renaming.of, more) if label_name(c) not in known]
            return np.hstack([table, np.zeros((len(table), len(extra)))]), [
                *classes,
                *extra,
            ]
        y = values.tolist()
        if own:
            renaming.check([*own, *more, *y])
        elif renaming.names and not set(map(label_name, y)) & set(renaming.names):
            raise ValueError(
                f"label_names names {sorted(renaming.names)}, but the model answers "
                f"{sorted(set(map(label_name, y)))[:5]}."
            )
        y = [renaming.of(label) for label in y]
        named = [renaming.of(label) for label in own + more]
        named += renaming.names.values()
        if not named or self.kind in ("number", "text"):
            return y, None
        return y, list({label_name(label): label for label in named + y}.values())

    def _respond(
        self, X: Any, texts: list[str], content: list[str]
    ) -> tuple[list[int], list[ModelAnswers]]:
        store, model = self._store()
        rows: list[int] = []
        parts: list[ModelAnswers] = []
        for start in range(0, len(texts), self.batch_size):
            part = list(range(start, min(start + self.batch_size, len(texts))))
            key = text_key(model, self.response_method, *[content[i] for i in part])
            known = _kept(store, key)
            found = self._ask(X, texts, part) if known is None else [(part, known)]
            if known is None and [kept for kept, _ in found] == [part]:
                _keep(store, key, found[0][1])
            for kept, answers in found:
                rows += kept
                parts.append(answers)
        if not rows:
            raise ModelLabelError(
                f"the model {self.model_name!r} failed on every text."
            )
        return rows, parts

    def _store(self) -> tuple[ArrayStore, str]:
        store = ArrayStore(cache_folder("predictions"))
        mark = getattr(self.estimator, "fingerprint", None)
        if mark is not None:
            return store, f"fingerprint:{mark() if callable(mark) else mark}"
        content = content_hash(self.estimator)
        if content is not None:
            return store, f"hash:{content}"
        memory = getattr(self, "_memory", None)
        if memory is None or memory.owner is not self.estimator:
            memory = self._memory = MemoryStore(self.estimator)
        return memory, "identity"

    def _ask(
        self, X: Any, texts: list[str], part: list[int]
    ) -> list[tuple[list[int], ModelAnswers]]:
        """Return answers with their rows: of the whole batch, or text by text."""
        try:
            return [(part, self._call(X, texts, part))]
        except ModelLabelError as error:
            if self.on_error == "raise":
                raise
            reason = error
        found = []
        for i in part:
            try:
                found.append(([i], self._call(X, texts, [i])))
            except ModelLabelError as error:
                reason = error
        lost = sorted(set(part) - {i for rows, _ in found for i in rows})
        if lost:
            warnings.warn(
                f"{len(lost)} texts (rows {_short(lost)}) are dropped: {reason}",
                ModelLabelWarning,
                stacklevel=find_stack_level(),
            )
        return found

    def _call(self, X: Any, texts: list[str], part: list[int]) -> ModelAnswers:
        """Call the model on some rows and check the result."""
        chunk = chunk_of(X, texts, part)
        method = self.response_method
        where = f"the model {self.model_name!r}, rows {part[0]} to {part[-1]}"
        try:
            found = getattr(self.estimator, method)(chunk)
        except Exception as error:  # a model may raise anything
            raise ModelLabelError(
                f"{where}: {method} raised {type(error).__name__}: {error}"
            ) from error
        try:
            found = in_rows_order(found, chunk)
            answers = checked_answers(found, len(part), method)
            if method == "decision_function":
                self._check_scores(answers.values, chunk)
        except (TypeError, ValueError) as error:
            raise ModelLabelError(f"{where}: {error}") from error
        return answers

    def _check_scores(self, scores: np.ndarray, chunk: Any) -> None:
        three = scores.ndim == 2 and scores.shape[1] == 3
        if not three or len(getattr(self.estimator, "classes_", ())) != 3:
            return
        if looks_one_vs_one(self.estimator, scores, chunk):
            raise ValueError(
                "decision_function gives a score for every pair of classes "
                "(one-vs-one), which ranks no class; set "
                "decision_function_shape='ovr', or use response_method='predict'."
            )

    # Embedding ------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None) -> MTEWrapper:
        """Label texts with the model and embed them; the model itself is not fitted.

        Parameters
        ----------
        X : sequence of str or of records of length n_samples
            The unlabelled texts, as in ``label``.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted wrapper.

        Raises
        ------
        ModelLabelError
            If the model fails on the texts.
        ValueError
            If the model predicts a single label and no other ``classes`` are known.
        """
        from ..embedders._tupate_embedder import TuPaTEEmbedder

        self.task_ = self.label(X)
        embedder = TuPaTEEmbedder() if self.embedder is None else self.embedder
        blank = clone(embedder)
        validate_params(blank)
        self.embedder_ = blank.embed([self.task_])[0]
        self.embedding_ = self.embedder_.embedding_
        return self

    def predict(self, X: Any) -> Any:
        """Call the model's ``predict``; the wrapper need not be fitted.

        Parameters
        ----------
        X : sequence of str
            The texts.

        Returns
        -------
        y : object
            Return value of the model.

        Raises
        ------
        ValueError
            If the wrapper was unpickled and has no model.
        """
        return self._model().predict(X)

    def score(self, X: Any, y: Any) -> float:
        """Compute the mean log-likelihood of targets under the model's student.

        Parameters
        ----------
        X : sequence of str of length n_samples
            The texts.
        y : sequence of length n_samples
            Their targets.

        Returns
        -------
        score : float
            Nats per text, as ``score`` of the fitted embedder; high is better.

        Raises
        ------
        NotFittedError
            If the wrapper is not fitted.
        """
        check_is_fitted(self)
        return self.embedder_.score(X, y)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags


def _short(rows: list[int]) -> str:
    shown = ", ".join(map(str, rows[:10]))
    return shown + (", ..." if len(rows) > 10 else "")


def _kept(store: ArrayStore, key: str) -> ModelAnswers | None:
    values = store.get(key)
    if values is None:
        return None
    names = store.get(f"{key}-names")
    return ModelAnswers(values, () if names is None else tuple(names.tolist()))


def _keep(store: ArrayStore, key: str, answers: ModelAnswers) -> None:
    if answers.names:
        store.put(f"{key}-names", np.array(answers.names))
    store.put(key, answers.values)
