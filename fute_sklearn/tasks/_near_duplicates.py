"""Texts that nearly repeat others: word sequences that both contain."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

WORD = re.compile(r"\w+")
LENGTH = 4  # words of a sequence
# A sequence in more known texts than this number (rows about one passage are fewer) and
# this share belongs to a template.
COMMON_ROWS, COMMON_SHARE = 20, 0.01


def _sequences(text: str) -> set[str]:
    """Return the text's sequences of four words; the text itself if it is shorter."""
    words = WORD.findall(text.replace("[SEP]", " ").lower())
    if len(words) <= LENGTH:
        return {" ".join(words)} - {""}
    return {" ".join(words[i : i + LENGTH]) for i in range(len(words) - LENGTH + 1)}


class NearDuplicates:
    """Known texts, and whether others nearly repeat one of them.

    A text does if one known text and the text share at least half of the sequences of
    four words of the shorter of both.  Case, punctuation, blanks and ``[SEP]`` do not
    count, nor do sequences that more than 20 known texts and 1 % of them contain.

    Parameters
    ----------
    texts : iterable of str
        The known texts.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        found = [_sequences(text) for text in dict.fromkeys(texts)]
        counts = Counter(one for sequences in found for one in sequences)
        most = max(COMMON_ROWS, COMMON_SHARE * len(found))
        self._common = {one for one, count in counts.items() if count > most}
        self._sizes: list[int] = []
        self._places: dict[str, list[int]] = {}
        for i, sequences in enumerate(found):
            own = sequences - self._common
            self._sizes.append(len(own))
            for one in own:
                self._places.setdefault(one, []).append(i)

    def __contains__(self, text: str) -> bool:
        """Return whether the text nearly repeats a known one."""
        own = _sequences(text) - self._common
        shared = Counter(i for one in own for i in self._places.get(one, ()))
        return any(
            2 * count >= min(len(own), self._sizes[i]) for i, count in shared.items()
        )
