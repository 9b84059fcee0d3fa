"""A language model with a prompt, as one classifier of texts."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from ._store import text_key
from ._validation import label_name
from .exceptions import ClientCapabilityError

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
        Reaches the language model: `TransformersClient`, or any object with
        ``score(contexts, continuations)``, ``capabilities`` and ``fingerprint``.
    template : str
        Prompt with fields in braces: ``{text}`` for texts, or the names that records
        hold, as ``{premise}`` and ``{hypothesis}``.
    labels : sequence of str
        Names of the classes.
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

    Attributes
    ----------
    classes_ : ndarray of str
        The labels, as given.
    fingerprint : str
        Client, prompt and settings: keys of kept predictions.
    label_prior_ : ndarray (n_classes,)
        What calibration divides by, after ``fit``.

    Examples
    --------
    >>> import numpy as np
    >>> from fute_sklearn import PromptedLLM
    >>> class Client:
    ...     capabilities, fingerprint = {"score"}, "a"
    ...     def score(self, contexts, continuations):
    ...         return [np.array([-0.1 if "fine" in c else -3.0, -1.0])
    ...                 for c in contexts]
    >>> model = PromptedLLM(Client(), "{text} It was", ["good", "bad"])
    >>> model.predict(["a fine film", "a dull film"])
    array(['good', 'bad'], dtype='<U4')
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "client": [HasMethods(["score"])],
        "template": [str],
        "labels": ["array-like"],
        "verbalizer": [dict, None],
        "calibration": [StrOptions({"contextual", "batch"}), None],
        "cot": [str, None],
        "max_reasoning_tokens": [Interval(Integral, 1, None, closed="left")],
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
    ) -> None:
        self.client = client
        self.template = template
        self.labels = labels
        self.verbalizer = verbalizer
        self.calibration = calibration
        self.cot = cot
        self.max_reasoning_tokens = max_reasoning_tokens

    def __sklearn_clone__(self) -> PromptedLLM:
        # The client may hold a connection: it is kept by reference.
        return type(self)(**self.get_params(deep=False))

    def __sklearn_is_fitted__(self) -> bool:
        return self.calibration != "batch" or hasattr(self, "label_prior_")

    @property
    def classes_(self) -> np.ndarray:
        """The labels, as given."""
        return np.array([str(label) for label in self.labels])

    @property
    def fingerprint(self) -> str:
        """Hash of client, prompt and settings."""
        prior = getattr(self, "label_prior_", None)
        return text_key(
            str(self.client.fingerprint),
            self.template,
            repr(self._strings()),
            str(self.calibration),
            "" if self.calibration != "batch" else repr(np.asarray(prior).tolist()),
            f"{self.cot}|{self.max_reasoning_tokens}" if self.cot else "",
        )

    def _strings(self) -> list[list[str]]:
        """What the model may say for each label; checked."""
        names = [label_name(label) for label in self.labels]
        if len(names) < 2 or len(set(names)) < len(names) or not all(names):
            raise ValueError(
                f"labels={list(self.labels)!r}, expected two or more different names."
            )
        said: dict[str, str | Sequence[str]] = {name: name for name in names}
        if self.verbalizer is not None:
            if set(map(str, self.verbalizer)) != set(names):
                raise ValueError(
                    f"verbalizer has the labels {sorted(map(str, self.verbalizer))}, "
                    f"expected {sorted(names)}."
                )
            said = {str(k): v for k, v in self.verbalizer.items()}
        words_of = [said[name] for name in names]
        out = [[words] if isinstance(words, str) else list(words) for words in words_of]
        flat = [word for words in out for word in words]
        if not all(out) or not all(isinstance(w, str) and w.strip() for w in flat):
            raise ValueError(f"verbalizer={said!r} has an empty string for a label.")
        if len(set(flat)) < len(flat):
            raise ValueError(f"verbalizer={said!r} has one string for two labels.")
        return out

    def _fields(self) -> list[str]:
        try:
            parts = list(string.Formatter().parse(self.template))
        except ValueError as error:
            raise ValueError(
                f"template={self.template!r} is no template: {error}. Write {{{{ and "
                "}} for braces."
            ) from error
        found = [name for _, name, _, _ in parts if name is not None]
        if not found or not all(name.isidentifier() for name in found):
            raise ValueError(
                f"template={self.template!r} has the fields {found}, expected names in "
                "braces such as {text}."
            )
        return list(dict.fromkeys(found))

    def _fill(self, X: Any) -> list[str]:
        """Fill the template with every row."""
        if isinstance(X, (str, bytes, Mapping)):
            raise TypeError("X is one text or record, expected a sequence of them.")
        fields = self._fields()
        if hasattr(X, "to_dict") and hasattr(X, "columns"):
            X = X.to_dict("records")
        out = []
        for i, row in enumerate(X):
            if isinstance(row, str) and fields == ["text"]:
                row = {"text": row}
            if not isinstance(row, Mapping) or not set(fields) <= set(row):
                raise ValueError(
                    f"X[{i}] is {row!r}, which does not fit the template's fields "
                    f"{fields}: give a text where the only field is {{text}}, else a "
                    "record with these keys."
                )
            values = {name: row[name] for name in fields}
            if not all(isinstance(v, str) for v in values.values()):
                raise TypeError(f"X[{i}] is {row!r}, expected str in every field.")
            out.append(self.template.format(**values))
        if not out:
            raise ValueError("X is empty.")
        return out

    def _need(self, capability: str) -> None:
        if capability not in self.client.capabilities:
            raise ClientCapabilityError(
                f"{self.client!r} cannot {capability}, which this prompt needs; it can "
                f"{sorted(self.client.capabilities)}."
            )

    def _label_scores(self, contexts: list[str]) -> np.ndarray:
        """Log-likelihood of the labels after filled prompts, (n, n_classes)."""
        self._need("score")
        strings = self._strings()
        if self.cot is not None:
            self._need("generate")
            asked = [f"{context} {self.cot}\n" for context in contexts]
            reasons = self.client.generate(asked, self.max_reasoning_tokens)
            contexts = [
                f"{question}{reason.strip()}\nAnswer:"
                for question, reason in zip(asked, reasons, strict=True)
            ]
        flat = [f" {word}" for words in strings for word in words]
        found = self.client.score(contexts, [flat] * len(contexts))
        scores = np.array([np.asarray(row, dtype=np.float64) for row in found])
        if scores.shape != (len(contexts), len(flat)) or not np.isfinite(scores).all():
            raise ValueError(
                f"{self.client!r} gave scores of shape {scores.shape} for "
                f"{len(contexts)} contexts and {len(flat)} strings, or some that are "
                "no numbers."
            )
        ends = np.cumsum([len(words) for words in strings])[:-1]
        parts = np.split(scores, ends, axis=1)
        return np.stack([np.logaddexp.reduce(part, axis=1) for part in parts], 1)

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
        self._validate_params()
        self._fields(), self._strings()
        if self.calibration == "batch":
            scores = self._label_scores(self._fill(X))
            self.label_prior_ = _normalised(scores).mean(0)
        elif self.calibration == "contextual":
            self.label_prior_ = self._content_free()
        return self

    def _content_free(self) -> np.ndarray:
        rows = [dict.fromkeys(self._fields(), word) for word in CONTENT_FREE]
        return _normalised(self._label_scores(self._fill(rows))).mean(0)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Predict log-probabilities of the labels.

        Parameters
        ----------
        X : sequence of str or of records of length n_samples
            Texts, or records with the template's fields.

        Returns
        -------
        log_proba : ndarray (n_samples, n_classes)
            Columns as ``classes_``.

        Raises
        ------
        ValueError
            If a row does not fit the template.
        ClientCapabilityError
            If the client cannot give what the prompt needs.
        NotFittedError
            If ``calibration="batch"`` and ``fit`` was not called.
        """
        self._validate_params()
        check_is_fitted(self)
        scores = self._label_scores(self._fill(X))
        if self.calibration is not None:
            prior = getattr(self, "label_prior_", None)
            scores = scores - np.log(self._content_free() if prior is None else prior)
        return scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)

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
        y : ndarray of str (n_samples,)
            Names of the labels.
        """
        return self.classes_[self.predict_log_proba(X).argmax(1)]


def _normalised(scores: np.ndarray) -> np.ndarray:
    return np.exp(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))
