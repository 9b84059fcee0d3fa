"""Read a label from a sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..tasks._validation import check_label_names, label_name

TAKES = ("first", "last", "only")


@dataclass(frozen=True)
class LabelParser:
    """Read a label from a model's answer in words, as "The answer is: positive.".

    A label is found where its name, or one of its words, stands in the answer as a
    whole word or words; upper and lower case are the same.  Of words that overlap, as
    "not true" and "true", the longest counts.

    Parameters
    ----------
    labels : sequence, or dict of label to str or to sequence of str
        The labels; with a dict, the words that stand for each.
    take : {"first", "last", "only"}, default="first"
        Which to take where several labels stand in an answer; ``"only"`` takes none
        then.  Models that reason before they answer need ``"last"``.

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

        Raises
        ------
        ValueError
            If two labels have a word in common, or ``take`` is unknown.
        """
        words = self._words()
        if self.take not in TAKES:
            raise ValueError(f"take={self.take!r}, expected one of {TAKES}.")
        longest = sorted(words, key=len, reverse=True)
        pattern = "|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in longest)
        seen = (one.lower() for one in re.findall(pattern, answer, re.I))
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
                other = out.setdefault(str(word).strip().lower(), label)
                if other != label:
                    raise ValueError(
                        f"labels has the word {word!r} for both {other!r} and "
                        f"{label!r}; a word can stand for one label."
                    )
        return out


def _checked(labels: Sequence[Any]) -> Sequence[Any]:
    check_label_names(labels)
    return labels
