"""Label scores of language models, from clients with any capabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import logsumexp

from ..exceptions import (
    ClientCapabilityError,
    LanguageModelServerError,
    RowsFailedError,
)
from .clients._named_labels import named_label

# Largest difference of two bounds whose midpoint is taken for a probability.
TOLERANCE = 0.05
PRIOR_COUNT = 0.5  # Jeffreys prior, added to the count of every label


@dataclass(frozen=True)
class Query:
    """A prompt's input to a client for some rows.

    ``contexts`` are the texts after which the labels are scored; ``strings`` the answer
    strings of each class; ``faults`` the errors of rows that failed before, by row.
    """

    client: Any
    contexts: Sequence[str]
    strings: list[list[str]]
    faults: dict[int, Exception]

    @property
    def options(self) -> list[str]:
        """All answer strings, each preceded by a space."""
        return [f" {word}" for words in self.strings for word in words]


@dataclass
class LabelScores:
    """Label scores (n_samples, n_classes), and errors by row; failed rows are NaN."""

    values: np.ndarray
    faults: dict[int, Exception] = field(default_factory=dict)


def require(client: Any, capability: str) -> None:
    """Raise ClientCapabilityError if a client lacks a capability."""
    if capability not in client.capabilities:
        raise ClientCapabilityError(
            f"{client!r} cannot {capability}, which this prompt needs; it can "
            f"{sorted(client.capabilities)}."
        )


def ask(call: Callable[..., Any], *args: Any) -> tuple[list[Any], dict[int, Exception]]:
    """Call a client; return its answers, None for failed rows, and errors by row."""
    try:
        return list(call(*args)), {}
    except RowsFailedError as error:
        return error.answers, error.rows


def label_scores(queries: Sequence[Query]) -> list[LabelScores]:
    """Return the log-likelihoods of the labels under several prompts.

    All prompts of a client are passed in one call, so that it can compute common
    beginnings of the contexts once.
    """
    return _asked_together(queries, _score_row, ("score", "bounds", "frequencies"))


def chosen_labels(query: Query) -> LabelScores:
    """Return one-hot choices of labels, from clients without label probabilities."""
    return _asked_together([query], _choice_row, ("bounds", "choose"))[0]


def _asked_together(
    queries: Sequence[Query], read: Callable[..., np.ndarray], ways: tuple[str, ...]
) -> list[LabelScores]:
    asked = [_way(query.client, ways) for query in queries]
    out = [
        LabelScores(np.full((len(q.contexts), len(q.strings)), np.nan), dict(q.faults))
        for q in queries
    ]
    for client in {id(query.client): query.client for query in queries}.values():
        rows = [
            (i, row)
            for i, query in enumerate(queries)
            if query.client is client
            for row in range(len(query.contexts))
            if row not in query.faults
        ]
        way = asked[rows[0][0]] if rows else ways[0]
        contexts = [queries[i].contexts[row] for i, row in rows]
        options = [queries[i].options for i, _ in rows]
        found, faults = ask(getattr(client, way), contexts, options)
        if len(found) != len(rows):
            raise ValueError(
                f"{client!r} gave {len(found)} rows of scores for {len(rows)} contexts."
            )
        for at, (i, row) in enumerate(rows):
            if at in faults:
                out[i].faults[row] = faults[at]
                continue
            try:
                out[i].values[row] = read(queries[i], way, found[at])
            except LanguageModelServerError as error:
                out[i].faults[row] = error
    return out


def _way(client: Any, ways: tuple[str, ...]) -> str:
    for way in ways:
        if way in client.capabilities:
            return way
    raise ClientCapabilityError(
        f"{client!r} can only {sorted(client.capabilities)}; one of {sorted(ways)} is "
        "needed."
    )


def _per_class(query: Query, values: np.ndarray) -> np.ndarray:
    """Sum values of the answer strings over the strings of each class."""
    ends = np.cumsum([len(words) for words in query.strings])[:-1]
    return np.array([part.sum() for part in np.split(values, ends)])


def _score_row(query: Query, way: str, found: Any) -> np.ndarray:
    """Convert a client's result for one context to log-likelihoods of the classes."""
    sizes = [len(words) for words in query.strings]
    if way == "bounds":
        return _log_of_bounds(*(_per_class(query, part) for part in found))
    if way == "frequencies":
        counts = _counts(query, found)
        return np.log((counts + PRIOR_COUNT) / (counts + PRIOR_COUNT).sum())
    scores = np.asarray(found, dtype=np.float64)
    if scores.shape != (sum(sizes),) or not np.isfinite(scores).all():
        raise ValueError(
            f"{query.client!r} gave scores of shape {scores.shape} for {sum(sizes)} "
            "strings, or some that are no numbers."
        )
    parts = np.split(scores, np.cumsum(sizes)[:-1])
    return np.array([logsumexp(part) for part in parts])


def _counts(query: Query, texts: list[str]) -> np.ndarray:
    """Count the answers that name each class."""
    words = [word.strip() for word in query.options]
    counts = np.zeros(len(words))
    fault: LanguageModelServerError | None = None
    for text in texts:
        try:
            counts[named_label(text, words)] += 1
        except LanguageModelServerError as error:
            fault = error
    if fault is not None and not counts.any():
        raise fault
    return _per_class(query, counts)


def _log_of_bounds(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Convert probability bounds to log-probabilities; raise if they are too wide."""
    least = lower / np.maximum(lower + upper.sum() - upper, 1e-300)
    most = upper / np.maximum(upper + lower.sum() - lower, 1e-300)
    if lower.max() <= 0 or (most - least).max() > TOLERANCE:
        raise LanguageModelServerError(
            f"the likeliest first tokens only tell that the labels' probabilities are "
            f"{np.round(least, 2)} to {np.round(most, 2)}. Remedy: labels of one "
            "token each, a prompt that asks for these words only, more top_logprobs. "
            "[wide bounds]",
            "wide bounds",
        )
    middle = (least + most) / 2
    return np.log(np.maximum(middle, 1e-12) / middle.sum())


def _choice_row(query: Query, way: str, found: Any) -> np.ndarray:
    """Return 1 for the class that is answered or certainly most likely, else 0."""
    if way == "choose":
        return _counts(query, [found])
    lower, upper = (_per_class(query, part) for part in found)
    best = int(lower.argmax())
    if lower[best] <= 0 or lower[best] < np.delete(upper, best).max():
        raise LanguageModelServerError(
            f"which label is likeliest cannot be told from bounds {np.round(lower, 2)} "
            f"to {np.round(upper, 2)}. [wide bounds]",
            "wide bounds",
        )
    return np.eye(len(lower))[best]
