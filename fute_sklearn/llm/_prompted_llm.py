"""Classification of texts by a language model with a prompt."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from scipy.special import log_softmax, logsumexp
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._utils._columns import column_of, plain
from .._utils._parameters import validate_params
from .._utils._store import text_key
from ..exceptions import ClientCapabilityError, ModelLabelWarning, RowsFailedError
from ..tasks._label_spaces import OF_PROMPTS, refuse_other_labels
from ..tasks._validation import label_name
from ._label_scores import (
    LabelScores,
    Query,
    ask,
    chosen_labels,
    label_scores,
    require,
)
from ._prompt_text import fields_of, rows_of, strings_of
from .clients._filled_prompt import FilledPrompt

CONTENT_FREE = ("N/A", "[MASK]", "")
REASONING_TOKENS = 128


class PromptedLLM(ClassifierMixin, BaseEstimator):
    """Classify texts with a language model and a prompt.

    The prompt is filled with the text, and the label whose string is the most likely
    continuation is predicted.  The score of a label is the log-likelihood of all tokens
    of its string given the prompt; with several strings per label, likelihoods are
    summed.  Clients that cannot score strings give bounds, frequencies or choices of
    answers instead.  No ``fit`` is needed unless ``calibration="batch"``.  In
    `MTEWrapper` and `rank_models` a prompted language model is a model like any other.

    Parameters
    ----------
    client : object
        Client of the language model: `TransformersClient`, `OpenAIClient`, or an object
        with the methods of `fute_sklearn.base.LanguageModelClient`.
    template : str
        Prompt with fields in braces: ``{text}`` if samples are texts, else keys of the
        records, such as ``{premise}`` and ``{hypothesis}``.
    labels : sequence
        The classes, at least two.
    verbalizer : dict of label to str or sequence of str, optional
        Answer string or strings for each label; by default the label's name.  The
        client is asked for the string after one space.
    calibration : {"contextual", "batch"} or None, default=None
        Correction of the language model's preference for some answers regardless of
        the text: probabilities are divided by a prior and normalised.  The prior is the
        mean over content-free inputs (``"contextual"``; Zhao et al. 2021, *Calibrate
        before use*) or over the texts given to ``fit`` (``"batch"``; Zhou et al. 2024,
        *Batch calibration*).  With None, all texts may get the same label.
    cot : str, optional
        Chain-of-thought instruction that is appended to the prompt, such as ``"Reason
        step by step before answering."``; labels are scored after the generated
        reasoning.  By default there is no reasoning.
    max_reasoning_tokens : int, default=128
        Maximum number of generated tokens of reasoning, if ``cot`` is given.
    on_error : {"raise", "missing"}, default="raise"
        What to do, after all rows were processed, if some have no valid answer:
        ``"raise"`` raises `RowsFailedError`; ``"missing"`` warns and returns None as
        label and NaN as probabilities.  To drop such rows, use
        ``MTEWrapper(..., on_error="drop")``.

    Attributes
    ----------
    classes_ : ndarray (n_classes,)
        The labels, sorted; the columns of the probabilities.
    fingerprint : str
        Hash of client, prompt and settings, which identifies cached predictions.
    label_log_prior_ : ndarray (n_classes,)
        Log of the prior that calibration divides by, after ``fit`` with calibration.

    Examples
    --------
    >>> import numpy as np
    >>> from fute_sklearn import PromptedLLM
    >>> class Client:
    ...     capabilities, fingerprint = {"score"}, "a"
    ...     def score(self, contexts, continuations):
    ...         return [np.array([-1.0, -0.1 if "fine" in c else -3.0])
    ...                 for c in contexts]
    >>> model = PromptedLLM(Client(), "{text} It was", ["bad", "good"])
    >>> model.predict(["a fine film", "a dull film"])
    array(['good', 'bad'], dtype='<U4')
    """

    # Rows without an answer; the client keeps those that were paid for.
    failures_pass = True

    _parameter_constraints: dict[str, list[Any]] = {
        "client": [
            HasMethods(["score"]),
            HasMethods(["bounds"]),
            HasMethods(["frequencies"]),
            HasMethods(["choose"]),
        ],
        "template": [str],
        "labels": ["array-like"],
        "verbalizer": [dict, None],
        "calibration": [StrOptions({"contextual", "batch"}), None],
        "cot": [str, None],
        "max_reasoning_tokens": [Interval(Integral, 1, None, closed="left")],
        "on_error": [StrOptions({"raise", "missing"})],
    }

    def __init__(
        self,
        client: Any,
        template: str,
        labels: Sequence[str],
        *,
        verbalizer: Mapping[str, str | Sequence[str]] | None = None,
        calibration: str | None = None,
        cot: str | None = None,
        max_reasoning_tokens: int = REASONING_TOKENS,
        on_error: str = "raise",
    ) -> None:
        self.client = client
        self.template = template
        self.labels = labels
        self.verbalizer = verbalizer
        self.calibration = calibration
        self.cot = cot
        self.max_reasoning_tokens = max_reasoning_tokens
        self.on_error = on_error

    def __sklearn_clone__(self) -> PromptedLLM:
        # The client may hold a connection: it is kept by reference.
        return type(self)(**self.get_params(deep=False))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.target_tags.required = False
        tags.requires_fit = self.calibration == "batch"
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return self.calibration != "batch" or self._fitted_prior() is not None

    @property
    def classes_(self) -> np.ndarray:
        """The labels, sorted."""
        return np.unique(np.asarray(self.labels))

    def _names(self) -> list[str]:
        return [label_name(label) for label in self.classes_]

    def _settings_key(self) -> str:
        return text_key(
            str(self.client.fingerprint),
            self.template,
            repr(list(zip(self._names(), self.label_strings(), strict=True))),
            str(self.calibration),
            f"{self.cot}|{self.max_reasoning_tokens}" if self.cot else "",
        )

    @property
    def fingerprint(self) -> str:
        """Hash of client, prompt and settings."""
        if self.calibration != "batch":
            return self._settings_key()
        prior = self._fitted_prior()
        known = None if prior is None else prior.tolist()
        return text_key(self._settings_key(), repr(known))

    def _fitted_prior(self) -> np.ndarray | None:
        """Return the prior estimated by ``fit``, or None if settings have changed."""
        if getattr(self, "_prior_key", None) != self._settings_key():
            return None
        return self.label_log_prior_

    def label_strings(self) -> list[list[str]]:
        """Return the answer strings of each class.

        Returns
        -------
        strings : list of list of str
            In the order of ``classes_``, without surrounding spaces.

        Raises
        ------
        ValueError
            If there are fewer than two labels, or the verbalizer has other labels,
            empty strings or the same string for two labels.
        """
        return strings_of(self.labels, self._names(), self.verbalizer)

    def _fields(self) -> list[str]:
        return fields_of(self.template)

    def _rows(self, X: Any) -> list[dict[str, str]]:
        return rows_of(X, self._fields())

    def text_of(self, X: Any) -> list[str]:
        """Join the template's fields of each record to one text, for the surrogate.

        Parameters
        ----------
        X : sequence of str or of records of length n_samples
            Texts, or records with the template's fields.

        Returns
        -------
        texts : list of str
            Values of the fields in the order of the record, joined by a space.

        Raises
        ------
        TypeError, ValueError
            If X is not a sequence of texts or records with the template's fields.
        """
        return [" ".join(values.values()) for values in self._rows(X)]

    def content_of(self, X: Any) -> list[str]:
        """Return a str per row that identifies it in the cache of predictions.

        Parameters
        ----------
        X : sequence of str or of records of length n_samples
            Texts, or records with the template's fields.

        Returns
        -------
        content : list of str
            The filled prompts.

        Raises
        ------
        TypeError, ValueError
            If X is not a sequence of texts or records with the template's fields.
        """
        return list(self._asked(X))

    def _asked(self, X: Any) -> list[FilledPrompt]:
        """Return the filled templates, with the chain-of-thought instruction if any."""
        # A trailing space of the text would double the one before the label.
        filled = [
            self.template.format(**values).rstrip(" \t") for values in self._rows(X)
        ]
        name = text_key(self.template, self.cot or "")
        return [
            FilledPrompt(f"{text} {self.cot}" if self.cot else text, name)
            for text in filled
        ]

    def query(self, X: Any) -> Query:
        """Prepare the client's input for some texts; generate reasoning if ``cot``.

        Parameters
        ----------
        X : sequence of str or of records of length n_samples
            Texts, or records with the template's fields.

        Returns
        -------
        query : Query
            ``client``, ``contexts`` after which the labels are scored, ``strings`` of
            each class, and ``faults``: the errors of the reasoning by row.

        Raises
        ------
        ClientCapabilityError
            If ``cot`` is given and the client cannot generate.
        TypeError, ValueError
            If X is not a sequence of texts or records with the template's fields.
        """
        strings, contexts = self.label_strings(), self._asked(X)
        if self.cot is None:
            return Query(self.client, contexts, strings, {})
        require(self.client, "generate")
        asked = [FilledPrompt(f"{one}\n", one.prompt) for one in contexts]
        reasons, faults = ask(self.client.generate, asked, self.max_reasoning_tokens)
        contexts = [
            FilledPrompt(
                f"{question}{(reason or '').strip()}\nAnswer:", question.prompt
            )
            for question, reason in zip(asked, reasons, strict=True)
        ]
        return Query(self.client, contexts, strings, faults)

    def forecast(self, X: Any) -> dict[str, int]:
        """Estimate the cost of labelling texts, without labelling any.

        Parameters
        ----------
        X : sequence of str or of records of length n_samples
            Texts, or records with the template's fields.

        Returns
        -------
        cost : dict of str to int
            ``requests``: number of requests to send; ``kept``: number of cached
            answers; ``tokens``: approximate number of input tokens.  With ``cot``, an
            upper bound of the requests, since cached answers after the reasoning cannot
            be looked up; the generated tokens are not counted.

        Raises
        ------
        ClientCapabilityError
            If the client has no ``forecast``, as one in this process.
        LanguageModelServerError
            If the server, which is asked what it can do, does not answer.
        """
        if not hasattr(self.client, "forecast"):
            raise ClientCapabilityError(
                f"{self.client!r} sends no requests, so there is nothing to forecast."
            )
        contexts = self._asked(X)
        if self.calibration == "contextual" and self._fitted_prior() is None:
            contexts += self._asked(self._content_free())
        options = Query(self.client, contexts, self.label_strings(), {}).options
        cost = self.client.forecast(contexts, [options] * len(contexts))
        if self.cot is None:
            return cost
        known = cost["requests"] + cost["kept"]
        return {"requests": 2 * known, "kept": 0, "tokens": 2 * cost["tokens"]}

    def settled(self, found: LabelScores) -> np.ndarray:
        """Return label scores; raise or warn about failed rows as ``on_error`` says.

        Parameters
        ----------
        found : LabelScores
            Scores, and the errors of rows without scores.

        Returns
        -------
        scores : ndarray (n_samples, n_classes)
            The scores; NaN in rows that failed.

        Raises
        ------
        RowsFailedError
            If rows failed and ``on_error="raise"``.
        """
        if found.faults:
            message = (
                f"{len(found.faults)} of {len(found.values)} rows have no label (rows "
                f"{sorted(found.faults)[:10]}): "
                + " ".join(sorted({str(e) for e in found.faults.values()})[:3])
            )
            if self.on_error == "raise":
                known = [
                    None if i in found.faults else v for i, v in enumerate(found.values)
                ]
                raise RowsFailedError(
                    f"{message} Remedy: on_error='missing', or MTEWrapper(..., "
                    "on_error='drop').",
                    found.faults,
                    known,
                )
            warnings.warn(message, ModelLabelWarning, stacklevel=4)
        return found.values

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None) -> PromptedLLM:
        """Estimate the prior of the calibration; without calibration, do nothing.

        Parameters
        ----------
        X : sequence of str or of records
            Unlabelled texts, used for ``calibration="batch"`` only.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The classifier.

        Raises
        ------
        ValueError
            If template, labels or verbalizer are invalid, or no row has scores.
        ClientCapabilityError
            If the client lacks a method that calibration needs.
        RowsFailedError
            If rows failed and ``on_error="raise"``.
        """
        self._fields()
        self.label_strings()
        if self.calibration is not None:
            rows = X if self.calibration == "batch" else self._content_free()
            self.label_log_prior_ = self._log_prior(rows)
            self._prior_key = self._settings_key()
        return self

    def _content_free(self) -> list[dict[str, str]]:
        return [dict.fromkeys(self._fields(), word) for word in CONTENT_FREE]

    def _log_prior(self, X: Any) -> np.ndarray:
        scores = _log_normalised(self.settled(label_scores([self.query(X)])[0]))
        known = scores[~np.isnan(scores).any(1)]
        if not len(known):
            raise ValueError(
                "no row has label scores, so there is none to calibrate by."
            )
        return logsumexp(known, axis=0) - np.log(len(known))

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Predict log-probabilities of the labels.

        Parameters
        ----------
        X : sequence of str or of records of length n_samples
            Texts, or records with the template's fields.

        Returns
        -------
        log_proba : ndarray (n_samples, n_classes)
            Columns in the order of ``classes_``; NaN in rows that failed.

        Raises
        ------
        ValueError
            If a row does not have the template's fields.
        ClientCapabilityError
            If the client gives no probabilities of labels.
        NotFittedError
            If ``calibration="batch"`` and ``fit`` was not called.
        RowsFailedError
            If rows failed and ``on_error="raise"``; it holds the other rows' scores.
        """
        return log_probabilities([self], X)[0]

    def calibrated(self, scores: np.ndarray) -> np.ndarray:
        """Convert label scores to log-probabilities, with calibration if it is set.

        Parameters
        ----------
        scores : ndarray (n_samples, n_classes)
            Log-likelihoods of the labels.

        Returns
        -------
        log_proba : ndarray (n_samples, n_classes)
            Normalised log-probabilities.
        """
        if self.calibration is not None:
            prior = self._fitted_prior()
            if prior is None:
                prior = self._log_prior(self._content_free())
            scores = scores - prior
        return _log_normalised(scores)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict probabilities of the labels.

        Parameters
        ----------
        X : sequence of str or of records of length n_samples
            Texts, or records with the template's fields.

        Returns
        -------
        proba : ndarray (n_samples, n_classes)
            Columns in the order of ``classes_``; NaN in rows that failed.

        Raises
        ------
        ValueError, ClientCapabilityError, NotFittedError, RowsFailedError
            As ``predict_log_proba``.
        """
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: Any) -> np.ndarray:
        """Predict the most likely label of each text.

        Parameters
        ----------
        X : sequence of str or of records of length n_samples
            Texts, or records with the template's fields.

        Returns
        -------
        y : ndarray (n_samples,)
            The labels; None in rows that failed, with ``on_error="missing"``.

        Raises
        ------
        ValueError, ClientCapabilityError, NotFittedError, RowsFailedError
            As ``predict_log_proba``.
        """
        validate_params(self)
        check_is_fitted(self)
        values = self.label_evidence(X)
        missing = np.isnan(values).any(1)
        if not missing.any():
            return self.classes_[values.argmax(1)]
        out = np.array([None] * len(values), dtype=object)
        out[~missing] = self.classes_[values[~missing].argmax(1)]
        return out

    def label_evidence(self, X: Any) -> np.ndarray:
        """Compute label scores whose maximum is the predicted label.

        Parameters
        ----------
        X : sequence of str or of records of length n_samples
            Texts, or records with the template's fields.

        Returns
        -------
        scores : ndarray (n_samples, n_classes)
            Log-probabilities; or, if the client gives none, 1 for the chosen label and
            0 for the others.  NaN in rows that failed.

        Raises
        ------
        ValueError, ClientCapabilityError, RowsFailedError
            As ``predict_log_proba``.
        """
        can = self.client.capabilities
        if self.calibration is None and not {"score", "frequencies"} & set(can):
            return self.settled(chosen_labels(self.query(X)))
        return log_probabilities([self], X)[0]

    def score(self, X: Any, y: Any) -> float:
        """Compute the accuracy, with labels compared by name.

        Parameters
        ----------
        X : sequence of str or of records of length n_samples
            Texts, or records with the template's fields.
        y : sequence of length n_samples
            True labels; 1, 1.0 and ``"1"`` are the same label.

        Returns
        -------
        score : float
            Share of the texts whose label is predicted; failed rows count as wrong.

        Raises
        ------
        LabelMismatchError
            If the prompt and y share no label, or labels differ in case, spaces or
            Unicode form only.
        ValueError
            If X and y differ in length.
        """
        wanted = [label_name(label) for label in column_of(plain(y), "y")]
        refuse_other_labels(
            {"prompt": self._names()}, sorted(set(wanted)), remedy=OF_PROMPTS
        )
        found = [label_name(label) for label in self.predict(X)]
        if len(wanted) != len(found):
            raise ValueError(
                f"X has {len(found)} rows and y {len(wanted)}; expected as many."
            )
        return float(np.mean([a == b for a, b in zip(found, wanted, strict=True)]))


def _log_normalised(scores: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # rows that failed are NaN
        return log_softmax(scores, axis=1)


def log_probabilities(prompts: Sequence[PromptedLLM], X: Any) -> list[np.ndarray]:
    """Return calibrated log-probabilities of the labels under several prompts."""
    X = list(X) if hasattr(X, "__next__") else X
    for prompt in prompts:
        validate_params(prompt)
        check_is_fitted(prompt)
    scores = label_scores([prompt.query(X) for prompt in prompts])
    return [
        prompt.settled(LabelScores(prompt.calibrated(found.values), found.faults))
        for prompt, found in zip(prompts, scores, strict=True)
    ]
