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
            repr(list(zip(self._names(), self._strings(), strict=True))),
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

    def _strings(self) -> list[list[str]]:
        """What the model may say for each class; checked."""
        names = self._names()
        if len(names) < 2 or len(names) < len(self.labels) or not all(names):
            raise ValueError(
                f"labels={list(self.labels)!r}, expected two or more different names."
            )
        said: dict[str, str | Sequence[str]] = {name: name for name in names}
        if self.verbalizer is not None:
            said = {label_name(k): v for k, v in self.verbalizer.items()}
            if set(said) != set(names):
                raise ValueError(
                    f"verbalizer has the labels {sorted(said)}, expected {names}."
                )
        words_of = [said[name] for name in names]
        out = [[words] if isinstance(words, str) else list(words) for words in words_of]
        flat = [word for words in out for word in words]
        if not all(out) or not all(isinstance(w, str) and w.strip() for w in flat):
            raise ValueError(f"verbalizer={said!r} has an empty string for a label.")
        out = [[word.strip() for word in words] for words in out]
        flat = [word for words in out for word in words]
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

    def _rows(self, X: Any) -> list[dict[str, str]]:
        """Return the template's fields of every row, in the row's own order."""
        if isinstance(X, (str, bytes, Mapping)):
            raise TypeError("X is one text or record, expected a sequence of them.")
        fields = self._fields()
        if hasattr(X, "columns"):  # a table of pandas or polars
            X = X.to_dicts() if hasattr(X, "to_dicts") else X.to_dict("records")
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
            values = {name: row[name] for name in row if name in fields}
            if not all(isinstance(v, str) for v in values.values()):
                raise TypeError(f"X[{i}] is {row!r}, expected str in every field.")
            out.append(values)
        if not out:
            raise ValueError("X is empty.")
        return out

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

    def _asked(self, X: Any) -> list[str]:
        """Return what the model reads: filled templates and how to reason."""
        filled = [self.template.format(**values) for values in self._rows(X)]
        return [f"{text} {self.cot}" for text in filled] if self.cot else filled

    def _need(self, capability: str) -> None:
        if capability not in self.client.capabilities:
            raise ClientCapabilityError(
                f"{self.client!r} cannot {capability}, which this prompt needs; it can "
                f"{sorted(self.client.capabilities)}."
            )

    def _questions(self, X: Any) -> tuple[list[str], list[str]]:
        """Return what the labels are scored after, and the strings for them."""
        self._need("score")
        flat = [f" {word}" for words in self._strings() for word in words]
        contexts = self._asked(X)
        if self.cot:
            self._need("generate")
            asked = [f"{context}\n" for context in contexts]
            reasons = self.client.generate(asked, self.max_reasoning_tokens)
            contexts = [
                f"{question}{reason.strip()}\nAnswer:"
                for question, reason in zip(asked, reasons, strict=True)
            ]
        return contexts, flat

    def _summed(self, found: Any) -> np.ndarray:
        """Log-likelihood of the labels from that of their strings, checked."""
        sizes = [len(words) for words in self._strings()]
        scores = np.array([np.asarray(row, dtype=np.float64) for row in found])
        if scores.shape != (len(found), sum(sizes)) or not np.isfinite(scores).all():
            raise ValueError(
                f"{self.client!r} gave scores of shape {scores.shape} for "
                f"{len(found)} contexts and {sum(sizes)} strings, or some that are "
                "no numbers."
            )
        parts = np.split(scores, np.cumsum(sizes)[:-1], axis=1)
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
        self._fields()
        self._strings()
        if self.calibration is not None:
            rows = X if self.calibration == "batch" else self._content_free()
            self.label_log_prior_ = self._log_prior(rows)
            self._prior_key = self._settings_key()
        return self

    def _content_free(self) -> list[dict[str, str]]:
        return [dict.fromkeys(self._fields(), word) for word in CONTENT_FREE]

    def _log_prior(self, X: Any) -> np.ndarray:
        scores = _log_normalised(label_scores([self], X)[0])
        return np.logaddexp.reduce(scores, axis=0) - np.log(len(scores))

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
        return log_probabilities([self], X)[0]

    def _calibrated(self, scores: np.ndarray) -> np.ndarray:
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
            The labels.
        """
        return self.classes_[self.predict_log_proba(X).argmax(1)]

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
        """
        wanted = [label_name(label) for label in y]
        found = [label_name(label) for label in self.predict(X)]
        if len(wanted) != len(found):
            raise ValueError(
                f"X has {len(found)} rows and y {len(wanted)}; expected as many."
            )
        return float(np.mean([a == b for a, b in zip(found, wanted, strict=True)]))


def _log_normalised(scores: np.ndarray) -> np.ndarray:
    return scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)


def label_scores(prompts: Sequence[PromptedLLM], X: Any) -> list[np.ndarray]:
    """Log-likelihood of the labels under several prompts, (n, n_classes) each.

    Prompts that share a client are asked in one call: a client that reads what
    contexts share once then reads a text once for all prompts that start with it.
    """
    asked = [prompt._questions(X) for prompt in prompts]
    out: list[np.ndarray] = [np.empty(0)] * len(prompts)
    for client in {id(prompt.client): prompt.client for prompt in prompts}.values():
        mine = [i for i, prompt in enumerate(prompts) if prompt.client is client]
        contexts = [context for i in mine for context in asked[i][0]]
        options = [asked[i][1] for i in mine for _ in asked[i][0]]
        found = list(client.score(contexts, options))
        if len(found) != len(contexts):
            raise ValueError(
                f"{client!r} gave {len(found)} rows of scores for {len(contexts)} "
                "contexts."
            )
        size = len(contexts) // len(mine)
        for at, i in enumerate(mine):
            out[i] = prompts[i]._summed(found[at * size : (at + 1) * size])
    return out


def log_probabilities(prompts: Sequence[PromptedLLM], X: Any) -> list[np.ndarray]:
    """Calibrated log-probabilities of the labels under several prompts."""
    for prompt in prompts:
        prompt._validate_params()
        check_is_fitted(prompt)
    found = label_scores(prompts, X)
    return [p._calibrated(scores) for p, scores in zip(prompts, found, strict=True)]
