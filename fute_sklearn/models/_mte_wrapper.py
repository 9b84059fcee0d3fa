"""Model task embedding (MTE): label texts with a model and embed the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, _fit_context, clone
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._utils._parameters import validate_params
from .._utils._store import text_key
from ..exceptions import ModelLabelError
from ..tasks._task import Task
from ..tasks._validation import check_texts, label_name
from ._answer_reading import AnswerReading
from ._content_hash import content_hash
from ._kept_answers import KeptAnswers, answer_key, kept_answers
from ._labeller import Labeller
from .adapters._adapted import RESPONSES, AdaptedModel, Options
from .adapters._recorded import RecordedAnswers
from .adapters._table import adapt


class MTEWrapper(BaseEstimator):
    """Label texts with a fitted model and embed the model by its predictions (MTE).

    The model is neither fitted nor copied (``clone`` keeps a reference) and is left out
    of pickles.  Its answers are kept on disk text by text as they come, so that no text
    is asked for twice, be it after a stop or among other texts.

    Parameters
    ----------
    estimator : object
        The fitted model, one of

        - any object with ``predict``, ``predict_proba``, ``predict_log_proba`` or
          ``decision_function``; see `fute_sklearn.base.Model`;
        - a function of a list of texts, or of one text;
        - a pipeline of transformers for text classification, zero-shot classification
          (with ``classes``) or generation (with ``parser``);
        - with its ``tokenizer``, a model of transformers or peft that classifies
          sequences or generates, or any torch module that gives logits;
        - a model of spaCy, fastText, Keras, onnxruntime, CatBoost or LangChain;
        - steps ``(vectorizer, ..., model)``, where a vectorizer has ``transform`` or
          ``encode`` or is a function, and the model may be a booster of XGBoost or
          LightGBM;
        - answers that exist already: a `Task`, a dict from text to label, a table or a
          csv, tsv, jsonl or parquet file with a column of texts (or of ids, where the
          texts have an index), or labels in the order of the texts.
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
        Name of the model; None means the name of its class, function or file.
    classes : sequence or None, default=None
        Labels that the model could predict in addition to its ``classes_`` and those
        that it does predict; None adds none.  For a model without ``classes_``, the
        labels of the columns of its probabilities; without them these are numbered.
    label_names : dict, sequence or None, default=None
        The task's labels by the model's labels, such as ``{"LABEL_0": "negative",
        "LABEL_1": "positive"}``, or in the order of the model's classes; labels that
        are not keys are kept, and None keeps all.  Labels mapped to the same one are
        merged.
    kind : {"label", "number", "text"} or None, default=None
        Kind of the model's predictions; None infers it, see `Task`.
    tokenizer : callable or None, default=None
        For models that do not read texts: the tokenizer of transformers, or a function
        from a list of texts to the model's inputs.
    parser : callable or None, default=None
        Reads a label from each answer, for models that answer in sentences; None for
        an answer in which there is none.  See `LabelParser`.
    fingerprint : str or None, default=None
        Identifies the model among the kept answers, and must change if these would.
        None takes the model's own ``fingerprint``, or else a hash of its content.
    abstentions : {"raise", "drop", "keep"} or None, default=None
        What to do where the model answers None, NaN, an empty string or
        ``abstention_label``: raise `ModelLabelError`; leave the text out with a
        warning; or keep the abstention as a class of its own, ``"(abstained)"``.  None
        does as ``on_error`` says.
    abstention_label : object, default=None
        Label by which the model says that it does not know, for
        ``response_method="predict"``.  It is none of the model's classes then.
    on_error : {"raise", "drop"}, default="raise"
        What to do if the model fails on a portion: ``"raise"`` raises
        `ModelLabelError`; ``"drop"`` calls the model text by text and leaves out the
        texts on which it fails, with a warning.  A task with fewer texts cannot be
        embedded together with tasks over all texts, which takes longer.
    batch_size : int or None, default=None
        Number of texts per call of the model.  None means 512 for estimators of
        scikit-learn and boosters, and 32 for all others.  A stop loses the answers of
        one call, and of a fiftieth of a second before it, at most.
    max_seconds : float or None, default=None
        Most seconds for labelling: `ModelLabelError` is raised after the call by which
        more are forecast.  A call is not interrupted.  None sets no limit.

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
    A model without a fingerprint is identified by a hash of its pickled state and of
    its loaded code: its classes, their bases, all that their methods refer to, and the
    content of files whose paths are among it (folders count by their name).  What its
    own ``__getstate__`` leaves out counts too.  A model whose state changes by
    predicting, for instance by a counter, needs a ``fingerprint``.  Answers of a model
    that cannot be hashed as a whole are kept for this process only, with a warning.

    Examples
    --------
    >>> from fute_sklearn import MTEWrapper
    >>> def rule(text: str) -> str:
    ...     return "good" if "fine" in text else "bad"
    >>> MTEWrapper(rule).label(["a fine film", "a dull film"])
    Task(name='rule', n_samples=2, classes=['bad', 'good'])
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "estimator": [object],
        "embedder": [HasMethods(["fit", "embed"]), None],
        "response_method": [StrOptions(set(RESPONSES))],
        "name": [str, None],
        "classes": ["array-like", None],
        "label_names": [Mapping, list, tuple, np.ndarray, None],
        "kind": [StrOptions({"label", "number", "text"}), None],
        "tokenizer": [callable, None],
        "parser": [callable, None],
        "fingerprint": [str, None],
        "abstentions": [StrOptions({"raise", "drop", "keep"}), None],
        "abstention_label": [object],
        "on_error": [StrOptions({"raise", "drop"})],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "max_seconds": [Interval(Real, 0, None, closed="neither"), None],
    }

    def __init__(
        self,
        estimator: Any,
        embedder: Any = None,
        *,
        response_method: str = "predict",
        name: str | None = None,
        classes: Any = None,
        label_names: Mapping[Any, Any] | Sequence[Any] | None = None,
        kind: str | None = None,
        tokenizer: Any = None,
        parser: Any = None,
        fingerprint: str | None = None,
        abstentions: str | None = None,
        abstention_label: Any = None,
        on_error: str = "raise",
        batch_size: int | None = None,
        max_seconds: float | None = None,
    ) -> None:
        self.estimator = estimator
        self.embedder = embedder
        self.response_method = response_method
        self.name = name
        self.classes = classes
        self.label_names = label_names
        self.kind = kind
        self.tokenizer = tokenizer
        self.parser = parser
        self.fingerprint = fingerprint
        self.abstentions = abstentions
        self.abstention_label = abstention_label
        self.on_error = on_error
        self.batch_size = batch_size
        self.max_seconds = max_seconds

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
        return {k: v for k, v in state.items() if k != "estimator"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.estimator = None

    @property
    def model_name(self) -> str:
        """Name of the model: ``name``, or that of its class, function or file."""
        return self.name or self._model().name

    def _model(self) -> AdaptedModel:
        if self.estimator is None:
            raise ValueError(
                f"MTEWrapper(estimator=None, name={self.name!r}) has no model; give a "
                "fitted one. The model is not part of a pickle "
                "either: there, set_params(estimator=model) first."
            )
        classes = None if self.classes is None else self._reading.more_classes
        return adapt(self.estimator, Options(self.tokenizer, classes))

    def _asked_model(self) -> AdaptedModel:
        """Return the model, if it can be asked as the parameters say."""
        model, method = self._model(), self.response_method
        if method not in model.responses:
            raise AttributeError(
                f"the model {self.name or model.name!r} has no method {method!r}; "
                f"choose another response_method, of {list(model.responses)}."
            )
        for name in ("parser", "abstention_label"):
            if method != "predict" and getattr(self, name) is not None:
                raise ValueError(
                    f"{name} reads labels, but response_method={method!r} gives "
                    "scores; use response_method='predict', or leave it out."
                )
        if self.kind == "number" and self.abstentions == "keep":
            raise ValueError(
                "abstentions='keep' makes a class of them, but kind='number' has no "
                "classes; use abstentions='drop' or 'raise'."
            )
        return model

    def __deepcopy__(self, memo: dict[int, Any]) -> MTEWrapper:
        """Copy the fitted wrapper; the model is kept by reference."""
        other = type(self)(**self.get_params(deep=False))
        other.__dict__.update(self.__dict__)
        return other

    # Labelling ------------------------------------------------------------------

    def label(self, X: Any, *, anew: bool = False) -> Task:
        """Label texts with the model.

        Parameters
        ----------
        X : sequence of str or of records of length n_samples
            The unlabelled texts, in a container type that the model accepts; slices of
            it are passed to the model.  Records are accepted for models with a method
            ``text_of``, such as `PromptedLLM`; see `fute_sklearn.base.Model`.
        anew : bool, default=False
            Whether to ask the model for all texts, also for those that it answered
            before; what it then answers is not kept.  Clients of language models may
            keep answers of their own.

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
        model, name, X, texts, content = self._prepared(X)
        labeller = self._labeller(model, name)
        kept_before = (
            nullcontext(KeptAnswers(None)) if anew else self._kept(model, name)
        )
        with kept_before as kept:
            rows, answers = labeller.answers(X, texts, content, kept)
        reading = self._reading
        rows, answers = reading.without_abstentions(rows, answers, name)
        try:
            y, classes = reading.targets(model, answers)
            return Task(
                texts if len(rows) == len(texts) else [texts[i] for i in rows],
                y,
                name=name,
                classes=classes,
                kind=self.kind,
                origin="model",
            )
        except (TypeError, ValueError) as error:
            raise ModelLabelError(
                f"the answers of the model {name!r} cannot be used: {error}"
            ) from error

    def rows_to_ask(self, X: Any) -> np.ndarray:
        """Return the rows of the texts that `label` would ask the model for.

        Parameters
        ----------
        X : sequence of str or of records of length n_samples
            The texts, as in ``label``.

        Returns
        -------
        rows : ndarray of int (n_rows,)
            The first row of each distinct text without a kept answer; none for answers
            that exist already.

        Raises
        ------
        AttributeError, TypeError, ValueError
            As in ``label``.
        """
        model, name, _, _, content = self._prepared(X)
        if isinstance(model, RecordedAnswers):
            return np.empty(0, int)
        first: dict[str, int] = {}
        for i, one in enumerate(content):
            first.setdefault(answer_key(one), i)
        with self._kept(model, name) as kept:
            rows = [i for key, i in first.items() if key not in kept]
        return np.array(rows, dtype=int)

    def _prepared(
        self, X: Any
    ) -> tuple[AdaptedModel, str, Any, list[str], Sequence[str]]:
        """Return model, name, checked texts and what the model's answers depend on."""
        validate_params(self)
        model = self._asked_model()
        name = self.name or model.name
        self._reading.renaming(model.classes or [])
        X = list(X) if hasattr(X, "__next__") else X
        # For records, the model provides the text of each.
        text_of = getattr(self.estimator, "text_of", None)
        texts = check_texts(X if text_of is None else text_of(X))
        content_of = getattr(self.estimator, "content_of", None)
        content = texts if content_of is None else content_of(X)
        return model, name, X, texts, content

    def _labeller(self, model: AdaptedModel, name: str) -> Labeller:
        return Labeller(
            model,
            name,
            self.response_method,
            self.parser,
            self.on_error == "drop",
            self.batch_size or model.batch_size,
            self.max_seconds,
            self.abstention_label,
            "drop" in (self.abstentions, self.on_error),
        )

    def identity(self) -> str | None:
        """Return a name of the model and of how it is asked, the same in all processes.

        Returns
        -------
        identity : str or None
            A hash of the model's fingerprint, or without one of its content, and of the
            parameters that change its labels; None for answers that exist already and
            for models that cannot be hashed.

        Raises
        ------
        AttributeError, ValueError
            If the model cannot be asked as the parameters say, see `label`.
        """
        model = self._asked_model()
        if isinstance(model, RecordedAnswers):
            return None
        mark = self.fingerprint or model.fingerprint or content_hash(model.hashed)
        how = content_hash(
            (self.classes, self.label_names, self.kind, self.parser)
            + (self.abstentions, self.abstention_label)
        )
        if not mark or how is None:
            return None
        return text_key(str(mark), self.response_method, how)

    def known_labels(self) -> list[Any] | None:
        """Return the labels that the model can predict, without calling the model.

        Returns
        -------
        labels : list or None
            The model's classes, or without these the parameter ``classes`` if scores
            are asked for, after renaming by ``label_names``.  None if unknown, or if
            ``kind`` is ``"number"`` or ``"text"``, or answers are parsed.

        Raises
        ------
        AttributeError, ValueError
            If the model cannot be asked as the parameters say, see `label`.
        """
        return self._reading.known_labels(self._asked_model().classes)

    @property
    def _reading(self) -> AnswerReading:
        return AnswerReading(
            self.response_method,
            self.classes,
            self.label_names,
            self.kind,
            self.parser,
            self.abstentions,
            self.abstention_label,
            self.on_error,
        )

    def _kept(
        self, model: AdaptedModel, name: str
    ) -> AbstractContextManager[KeptAnswers]:
        """Open the answers that this model gave before."""
        if isinstance(model, RecordedAnswers):
            return nullcontext(KeptAnswers(None))
        mark = self.fingerprint or model.fingerprint or None
        settings = map(label_name, self._reading.more_classes)
        return kept_answers(
            self.estimator, name, model.hashed, mark, (self.response_method, *settings)
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
        return self._model().answer(X, "predict")

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
