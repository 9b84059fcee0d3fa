"""A language model with a prompt, as one classifier of texts."""

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

CONTENT_FREE = ("N/A", "[MASK]", "")
REASONING_TOKENS = 128


class PromptedLLM(ClassifierMixin, BaseEstimator):
    """Classify texts by the labels' likelihood after a filled prompt.

    A language model together with a prompt is one model: `MTEWrapper` labels texts
    with it like with any other.  A label's score is the log-likelihood of its WHOLE
    string given the prompt, all tokens of it; of several strings for one label the
    likelihoods are summed.

    Parameters
    ----------
    client : object
        Reaches the language model: `TransformersClient`, `OpenAIClient`, or any object
        with ``score(contexts, continuations)``, ``capabilities`` and ``fingerprint``.
    template : str
        Prompt with fields in braces: ``{text}`` for texts, or the names that records
        hold, as ``{premise}`` and ``{hypothesis}``.
    labels : sequence
        The classes.
    verbalizer : dict of str to str or sequence of str, optional
        What the model says for a label; the label's own name by default.  One space
        is put before it.
    calibration : {"contextual", "batch"} or None, default=None
        Divide the probabilities by those of content-free inputs (Zhao et al. 2021,
        *Calibrate before use*), or by their mean over the texts given to ``fit`` (Zhou
        et al. 2024, *Batch calibration*), and normalise.  Language models prefer some
        words whatever the text: without it, all texts may get one label.
    cot : str, optional
        Instruction to reason first, as ``"Reason step by step before answering."``;
        the model then writes at most ``max_reasoning_tokens``, and labels are scored
        after that.
    max_reasoning_tokens : int, default=128
        Length of the reasoning.
    on_error : {"raise", "missing"}, default="raise"
        What to do about rows that a server has no sound answer for, once all others
        are answered: raise, naming them; or warn and label them as missing, None in
        predictions and NaN in probabilities.  To drop them, wrap the prompt in
        ``MTEWrapper(..., on_error="drop")``.

    Attributes
    ----------
    classes_ : ndarray (n_classes,)
        The labels, sorted, as scikit-learn's scorers expect them; columns of the
        probabilities follow them.
    fingerprint : str
        Client, prompt and settings: keys of kept predictions.
    label_log_prior_ : ndarray (n_classes,)
        Logarithm of what calibration divides by, after ``fit``.

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
        """Return what ``fit`` has measured, if it was with the present settings."""
        if getattr(self, "_prior_key", None) != self._settings_key():
            return None
        return self.label_log_prior_

    def label_strings(self) -> list[list[str]]:
        """Return what the model may say for each class.

        Returns
        -------
        strings : list of list of str
            In the order of ``classes_``, without blanks.

        Raises
        ------
        ValueError
            If there are fewer than two labels, or the verbalizer does not fit them.
        """
        return strings_of(self.labels, self._names(), self.verbalizer)

    def _fields(self) -> list[str]:
        return fields_of(self.template)

    def _rows(self, X: Any) -> list[dict[str, str]]:
        return rows_of(X, self._fields())

    def text_of(self, X: Any) -> list[str]:
        """Join the fields of records to one text each, for a surrogate to read.

        Parameters
        ----------
        X : sequence of str or of records of length n_samples
            Texts, or records with the template's fields.

        Returns
        -------
        texts : list of str
            The fields' values in the order of the record, with a space between.
        """
        return [" ".join(values.values()) for values in self._rows(X)]

    def content_of(self, X: Any) -> list[str]:
        """Return what tells rows apart, for keys of kept predictions.

        Parameters
        ----------
        X : sequence of str or of records of length n_samples
            Texts, or records with the template's fields.

        Returns
        -------
        content : list of str
            The filled prompts.
        """
        return self._asked(X)

    def _asked(self, X: Any) -> list[str]:
        """Return what the model reads: filled templates and how to reason."""
        # A text's own blank at the end would stand before the label's.
        filled = [
            self.template.format(**values).rstrip(" \t") for values in self._rows(X)
        ]
        return [f"{text} {self.cot}" for text in filled] if self.cot else filled

    def query(self, X: Any) -> Query:
        """Return what the client is asked about some texts, reasoning included.

        Parameters
        ----------
        X : sequence of str or of records of length n_samples
            Texts, or records with the template's fields.

        Returns
        -------
        query : Query
            ``client``, ``contexts`` after which the labels are scored, ``strings`` that
            stand for each class, and ``faults`` of the reasoning by row.
        """
        strings, contexts = self.label_strings(), self._asked(X)
        if self.cot is None:
            return Query(self.client, contexts, strings, {})
        require(self.client, "generate")
        asked = [f"{context}\n" for context in contexts]
        reasons, faults = ask(self.client.generate, asked, self.max_reasoning_tokens)
        contexts = [
            f"{question}{(reason or '').strip()}\nAnswer:"
            for question, reason in zip(asked, reasons, strict=True)
        ]
        return Query(self.client, contexts, strings, faults)

    def forecast(self, X: Any) -> dict[str, int]:
        """Count what labelling texts would cost, without labelling any.

        Parameters
        ----------
        X : sequence of str or of records of length n_samples
            Texts, or records with the template's fields.

        Returns
        -------
        cost : dict of str to int
            ``requests`` to send, answers ``kept`` already, and about the ``tokens`` to
            read.  With reasoning an upper bound of the requests, as what is kept about
            reasons not yet read cannot be known; their own tokens are not counted.

        Raises
        ------
        ClientCapabilityError
            If the client costs nothing per request, as one in this process.
        """
        if not hasattr(self.client, "forecast"):
            raise ClientCapabilityError(
                f"{self.client!r} sends no requests, so there is nothing to forecast."
            )
        contexts = self._asked(X)
        options = Query(self.client, contexts, self.label_strings(), {}).options
        cost = self.client.forecast(contexts, [options] * len(contexts))
        if self.cot is None:
            return cost
        known = cost["requests"] + cost["kept"]
        return {"requests": 2 * known, "kept": 0, "tokens": 2 * cost["tokens"]}

    def settled(self, found: LabelScores) -> np.ndarray:
        """Return label scores, after raising or warning about rows that failed.

        Parameters
        ----------
        found : LabelScores
            Scores, with the faults of rows that have none.

        Returns
        -------
        scores : ndarray (n_samples, n_classes)
            NaN in rows that failed, with ``on_error="missing"``.

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
        """Measure what calibration divides by; nothing else is learnt.

        Parameters
        ----------
        X : sequence of str or of records
            Unlabelled texts; used by ``calibration="batch"`` only.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The classifier.
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
            Columns as ``classes_``; NaN in rows that failed.

        Raises
        ------
        ValueError
            If a row does not fit the template.
        ClientCapabilityError
            If the client cannot give what the prompt needs.
        NotFittedError
            If ``calibration="batch"`` and ``fit`` was not called.
        RowsFailedError
            If rows failed and ``on_error="raise"``; it holds the others' answers.
        """
        return log_probabilities([self], X)[0]

    def calibrated(self, scores: np.ndarray) -> np.ndarray:
        """Turn label scores into log-probabilities, by the prompt's calibration.

        Parameters
        ----------
        scores : ndarray (n_samples, n_classes)
            Log-likelihoods of the labels.

        Returns
        -------
        log_proba : ndarray (n_samples, n_classes)
            Rows sum to 1 after `exp`.
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
            Columns as ``classes_``; rows sum to 1.
        """
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: Any) -> np.ndarray:
        """Predict the likeliest labels.

        Parameters
        ----------
        X : sequence of str or of records of length n_samples
            Texts, or records with the template's fields.

        Returns
        -------
        y : ndarray (n_samples,)
            The labels; None where a row failed and ``on_error="missing"``.
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
        """Return scores whose greatest is the label; they need be no probabilities.

        Parameters
        ----------
        X : sequence of str or of records of length n_samples
            Texts, or records with the template's fields.

        Returns
        -------
        scores : ndarray (n_samples, n_classes)
            Log-probabilities, or from clients that tell none 1 for the label that was
            said and 0 for others; NaN in rows that failed.
        """
        can = self.client.capabilities
        if self.calibration is None and not {"score", "frequencies"} & set(can):
            return self.settled(chosen_labels(self.query(X)))
        return log_probabilities([self], X)[0]

    def score(self, X: Any, y: Any) -> float:
        """Measure accuracy, with labels compared by name.

        Parameters
        ----------
        X : sequence of str or of records of length n_samples
            Texts, or records with the template's fields.
        y : sequence of length n_samples
            Their labels; 1, 1.0 and ``"1"`` are one label.

        Returns
        -------
        score : float
            Share of the texts that get their label.

        Raises
        ------
        LabelMismatchError
            If no label in y is one of the prompt's, or one is nearly one of them.
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
    """Calibrated log-probabilities of the labels under several prompts."""
    X = list(X) if hasattr(X, "__next__") else X
    for prompt in prompts:
        validate_params(prompt)
        check_is_fitted(prompt)
    scores = label_scores([prompt.query(X) for prompt in prompts])
    return [
        prompt.settled(LabelScores(prompt.calibrated(found.values), found.faults))
        for prompt, found in zip(prompts, scores, strict=True)
    ]
