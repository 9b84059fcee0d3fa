"""Read a label from a sentence."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..tasks._validation import check_label_names, label_name

TAKES = ("first", "last", "only")
# Scripts that put no space between words, or append to words.
JOINED = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR")
# A number does not begin or end inside another, as 1 in 0.1, -1 and 1.5.
NO_DIGIT_BEFORE = r"(?<!\w)(?<!\d[.,])(?<!^[-\u2212])(?<![^\w][-\u2212])"
NO_DIGIT_AFTER = r"(?!\w)(?![.,]\d)"


@dataclass(frozen=True)
class LabelParser:
    """Read a label from a model's answer in words, as "The answer is: positive.".

    A label is found where its name, or one of its words, stands in the answer as a
    whole word or words; upper and lower case are the same, and so are all white spaces.
    In scripts without spaces between words it is found anywhere.  Of words that
    overlap, as "not true" and "true", the longest counts.

    Parameters
    ----------
    labels : sequence, or dict of label to str or to sequence of str
        The labels; with a dict, the words that stand for each.
    take : {"first", "last", "only"}, default="first"
        Which to take where several labels stand in an answer; ``"only"`` takes none
        then.  Models that reason before they answer need ``"last"``.

    Raises
    ------
    ValueError
        If two labels have a word in common, a word is empty, or ``take`` is unknown.

    Examples
    --------
    >>> from fute_sklearn import LabelParser
    >>> parse = LabelParser(["positive", "negative"])
    >>> parse("The answer is: Positive.")
    'positive'
    >>> parse("I cannot tell.") is None
    True
    >>> LabelParser({1: ["yes", "true"], 0: ["no", "not true"]})("It is not true.")
    0
    """

    labels: Any
    take: str = "first"

    def __post_init__(self) -> None:
        if self.take not in TAKES:
            raise ValueError(f"take={self.take!r}, expected one of {TAKES}.")
        self._words()

    def __call__(self, answer: str) -> Any:
        """Read the label of one answer.

        Parameters
        ----------
        answer : str
            What the model answered.

        Returns
        -------
        label : object or None
            The label; None if the answer holds none, or several with ``take="only"``.
        """
        words = self._words()
        longest = sorted(words, key=len, reverse=True)
        pattern = "|".join(map(_whole_word, longest))
        seen = (_plain(one) for one in re.findall(pattern, answer, re.I))
        found = [words[one] for one in seen if one in words]
        if not found or (self.take == "only" and len(set(found)) > 1):
            return None
        return found[-1 if self.take == "last" else 0]

    def _words(self) -> dict[str, Any]:
        """Labels by their words, in lower case."""
        if isinstance(self.labels, Mapping):
            given = {
                label: [words] if isinstance(words, str) else list(words)
                for label, words in self.labels.items()
            }
        else:
            given = {label: [label_name(label)] for label in _checked(self.labels)}
        out: dict[str, Any] = {}
        for label, words in given.items():
            for word in words:
                if not str(word).strip():
                    raise ValueError(f"labels has an empty word for {label!r}.")
                other = out.setdefault(_plain(str(word)), label)
                if other != label:
                    raise ValueError(
                        f"labels has the word {word!r} for both {other!r} and "
                        f"{label!r}; a word can stand for one label."
                    )
        return out


def _plain(word: str) -> str:
    return " ".join(word.split()).lower()


def _whole_word(word: str) -> str:
    """Return a pattern for a word that is no part of a longer one."""
    before, after = (_boundary(word[0], True), _boundary(word[-1], False))
    return before + r"\s+".join(map(re.escape, word.split())) + after


def _boundary(edge: str, before: bool) -> str:
    if unicodedata.name(edge, "").startswith(JOINED):
        return ""
    if edge.isdigit():
        return NO_DIGIT_BEFORE if before else NO_DIGIT_AFTER
    return r"(?<!\w)" if before else r"(?!\w)"


def _checked(labels: Sequence[Any]) -> Sequence[Any]:
    check_label_names(labels)
    return labels
