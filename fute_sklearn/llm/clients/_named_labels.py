"""Which label the words or the likeliest first tokens of an answer name."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...exceptions import LanguageModelServerError
from ._server_answers import PART, fault, text_of

DECORATION = r"[\"'*(\[#`\- ]"  # before an answer, unless the label starts with it


def _plain(word: str) -> str:
    return unicodedata.normalize("NFC", word.strip().casefold())


def _begins(string: str, token: str) -> bool:
    """Return whether a string starts, or may start, with a token.

    Of a part of a character its bytes are known, as surrogates, or nothing.
    """
    head, part, _ = token.partition(PART)
    if part:
        return string.startswith(head) and not string[len(head) :][:1].isascii()
    start = token.encode(errors="surrogateescape")
    return string.encode(errors="surrogateescape").startswith(start)


def begun_share(answer: dict[str, Any], strings: Sequence[str]) -> float:
    """Return the probability of the first tokens with which a string starts."""
    return sum(
        math.exp(value)
        for token, value in answer["top"]
        if _plain(token) and any(_begins(_plain(one), _plain(token)) for one in strings)
    )


def label_bounds(
    answer: dict[str, Any], strings: Sequence[str], allowed: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Bound the probability that the answer starts with each string.

    Both bounds contain the probability of first tokens that equal the string, ignoring
    case.  The upper bound also contains that of first tokens which are a beginning of
    the string, and of all tokens that the server did not list.  ``allowed`` tells that
    no other answers were allowed: a beginning of one string only goes on to it.
    """
    plain = [_plain(string) for string in strings]
    mass = [(_plain(token), math.exp(value)) for token, value in answer["top"]]
    unseen = max(0.0, 1 - sum(value for _, value in mass))
    written = _written_label(answer["path"], plain)
    lower = np.zeros(len(plain))
    upper = np.zeros(len(plain))
    for i, string in enumerate(plain):
        if string in plain[:i]:
            continue  # counted for its first spelling
        # The answer may continue to a longer string that starts with this one.
        open_ended = any(o != string and o.startswith(string) for o in plain)
        exact = sum(value for token, value in mass if token == string)
        begun = sum(
            value for token, value in mass if token != string and _begins(string, token)
        )
        lower[i] = 0.0 if open_ended else exact
        upper[i] = exact + begun + unseen
        others = [other for other in plain if other != string]
        sole = {
            token
            for token, _ in mass
            if allowed and token and _begins(string, token)
            if not any(_begins(other, token) for other in others)
        }
        lower[i] += sum(v for token, v in mass if token in sole - {string})
        if written is not None and written[0] == string:
            lower[i] += 0.0 if _plain(answer["path"][0][0]) in sole else written[1]
    if allowed:
        upper = np.minimum(upper, 1 - (lower.sum() - lower))
    return lower, np.minimum(np.maximum(upper, lower), 1.0)


def _written_label(path: list[list[Any]], plain: list[str]) -> tuple[str, float] | None:
    """Return the longest string formed by several tokens, and its probability."""
    total, found = 0.0, None
    for i, (token, value) in enumerate(path):
        total += value
        said = _plain(text_of(path[: i + 1]))
        if i and token.strip() and said in plain:
            found = said, math.exp(total)
    return found


def _word(label: str) -> str:
    """Return a pattern of a label as a word of its own; 1 is none in 1.5."""
    before = r"(?<!\d[.,])" if label[:1].isdigit() else ""
    after = r"(?![.,]\d)" if label[-1:].isdigit() else ""
    return rf"(?<!\w){before}{re.escape(label)}{after}(?!\w)"


def named_label(text: str, strings: Sequence[str]) -> int:
    """Return the index of the string that a text starts with, or else contains.

    Raises LanguageModelServerError if the text contains none or several of them.
    """
    words = [_word(_plain(string)) for string in strings]
    plain = _plain(text)
    longest = sorted(range(len(words)), key=lambda i: -len(_plain(strings[i])))
    for i in longest:
        if re.match(rf"{DECORATION}*?{words[i]}", plain):
            return i
    inside = re.findall("|".join(words[i] for i in longest), plain)
    named = {_plain(string): i for i, string in enumerate(strings)}
    found = {named[word] for word in inside}
    if len(found) != 1:
        raise fault(
            "no label",
            f"the answer {text!r:.60} names {len(found)} of {list(strings)}.",
        )
    return found.pop()


def check_first_tokens(
    answer: dict[str, Any], strings: Sequence[str], allowed: bool = False
) -> None:
    """Raise LanguageModelServerError if no label can be told, whatever its strings."""
    if allowed:
        check_allowed([answer["text"]], strings)
    lower, upper = label_bounds(answer, strings, allowed)
    # One string against all others together, which may be those of one label.
    if not lower.any() or not (lower.sum() - lower >= upper).any():
        first = [token for token, _ in answer["top"]][:5]
        raise fault(
            "wide bounds",
            f"the likeliest first tokens, {first} and so on, only tell that "
            f"{list(strings)} have the probabilities {lower.round(2)} to "
            f"{upper.round(2)}. Remedy: a prompt that asks for these words only, "
            "labels of one token each, more top_logprobs, or interface='text'.",
        )


def check_allowed(texts: Sequence[str], strings: Sequence[str]) -> None:
    """Raise LanguageModelServerError for an answer that was not allowed."""
    text = texts[0]
    if text.strip() not in strings:
        raise fault(
            "not forced",
            f"the server was told to answer one of {list(strings)}, and wrote "
            f"{text!r:.60}.",
        )


def check_text(texts: Sequence[str], strings: Sequence[str]) -> None:
    """Raise LanguageModelServerError if no answer names one of the strings."""
    problem = None
    for text in texts:
        try:
            named_label(text, strings)
        except LanguageModelServerError as error:
            problem = error
        else:
            return
    if problem is not None:
        raise problem
