"""Checks of texts and targets, shared by tasks, embedders and wrappers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .._utils._columns import is_missing, label_name, plain


class CheckedTexts(list[str]):
    """Texts that are checked once for many models, with the tuple their tasks share."""

    def __init__(self, texts: Iterable[str]) -> None:
        super().__init__(texts)
        self.whole = tuple(self)


def check_texts(X: Any, name: str = "X") -> list[str]:
    """Return texts as a list of str; raise naming the first item that is not a str.

    Accepts lists, tuples, iterators, 1-D arrays, arrow arrays and pandas or polars
    Series.
    """
    if type(X) is CheckedTexts:
        return X
    X = plain(X)
    if isinstance(X, (str, bytes)):
        raise TypeError(
            f"{name} is one string; expected a sequence of texts. Put it in a list: "
            f"[{name}]."
        )
    if not isinstance(X, Iterable) or isinstance(X, (dict, set, frozenset)):
        raise TypeError(
            f"{name} is a {type(X).__name__}; expected a sequence of texts (list, "
            "tuple, 1-D array or Series of str)."
        )
    if getattr(X, "ndim", 1) != 1:
        raise ValueError(
            f"{name} has {X.ndim} dimensions; expected a 1-D sequence of texts. "  # type: ignore[attr-defined]
            "Select one column of a table."
        )
    texts = list(X)
    if not texts:
        raise ValueError(f"{name} is empty; at least one text is required.")
    if {str}.issuperset(map(type, texts)) and unreadable_at("".join(texts)) is None:
        return texts  # as nearly always
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(
                f"{name}[{i}] is {text!r} of type {type(text).__name__}; expected str. "
                "Fill or drop missing texts before."
            )
        if (at := unreadable_at(text)) is not None:
            raise ValueError(
                f"{name}[{i}] holds a lone surrogate at place {at}, which is no "
                "character: half of a pair of UTF-16, or a byte read with "
                "errors='surrogateescape'. Remedy: text.encode('utf8', 'replace')"
                ".decode('utf8'), or drop the row."
            )
    return [str(text) for text in texts]


def check_label_names(labels: Sequence[Any]) -> list[str]:
    """Return the names of labels; raise if one is empty or not unique."""
    if isinstance(labels, (str, bytes, set, frozenset, Mapping)):
        raise TypeError(
            f"the labels are one {type(labels).__name__}, {labels!r}; expected a "
            "sequence of labels, whose order counts where they name columns."
        )
    names = [label_name(label) for label in labels]
    for label, name in zip(labels, names, strict=True):
        if is_missing(label) or not name:
            raise ValueError(
                f"the label {label!r} has no name, and labels are compared by their "
                "names: give it a text."
            )
        if (at := unreadable_at(name)) is not None:
            raise ValueError(
                f"the label {label!r} holds a lone surrogate at place {at}, which is "
                "no character; decode the labels anew."
            )
    if len(set(names)) < len(names):
        twice = sorted({n for n in names if names.count(n) > 1})
        raise ValueError(f"the label names {twice} stand for several labels each.")
    return names


def unreadable_at(text: str) -> int | None:
    """Position of the first lone surrogate (not encodable as UTF-8), or None."""
    if text.isascii():
        return None
    try:
        text.encode("utf8")
    except UnicodeEncodeError as error:
        return error.start
    return None


def check_same_length(n_texts: int, n_targets: int) -> None:
    """Raise where X and y differ in length."""
    if n_texts != n_targets:
        raise ValueError(
            f"X has {n_texts} texts but y has {n_targets} targets; they must have the "
            "same length."
        )


def first_seen(values: Iterable[Any]) -> list[Any]:
    """Return the distinct values in order of first occurrence."""
    return list(dict.fromkeys(values))
