"""Parse the answers of OpenAI-compatible servers, and detect invalid ones.

Some servers omit log-probabilities, return zeros or -9999 for them, truncate prompts,
answer with another model or return fewer rows than requested.  Such answers raise
LanguageModelServerError, so that only valid ones are cached.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...exceptions import LanguageModelServerError

PLACEHOLDER = -9998.0  # below it: -9999, which some servers return for unknown values
ROUNDING = 1e-3
PART = "\N{REPLACEMENT CHARACTER}"  # how a part of a character is told
LONE = re.compile("[\ud800-\udfff]")  # half of one, by servers that count in two bytes
LEAD = 3  # tokens before an answer, by which it is told from the same text elsewhere
OTHERS = "Remedy: interface='completions' or 'text', or another word for the label."
# What may follow a model's name: a date or number of a revision, a commit, a suffix.
REVISION = re.compile(
    r"(-\d{4}-\d{2}-\d{2}|-\d{8}|-\d{6}|-\d{3,4}|@[\w.+-]+|[-:]latest|\.gguf)$"
)
LATEST = ("-latest", ":latest")
SURE_COPY = math.log(0.05)  # of each token; others that spell the same are far less so


def fault(kind: str, message: str, *, fatal: bool = False) -> LanguageModelServerError:
    """Return the error of a kind, which its message names too."""
    return LanguageModelServerError(f"{message} [{kind}]", kind, fatal=fatal)


def checked_choices(response: Any, names: Sequence[str], count: int) -> list[Any]:
    """Check a response and return its ``count`` choices in order.

    ``names`` are those of the model: the one that is asked for, and those by which it
    may answer.
    """
    if not hasattr(response, "choices"):
        raise fault("not json", f"the server sent no JSON object: {response!r:.80}.")
    if not response.choices:
        said = (response.model_extra or {}).get("error", "nothing else")
        raise fault("no choices", f"the answer has no choices, but {said!r:.200}.")
    said = str(getattr(response, "model", None) or names[0])
    if not any(_same_model(name, said) for name in names):
        raise fault(
            "other model",
            f"asked for model={names[0]!r}, {said!r} answered. Remedy: if this is the "
            f"model that you mean, answers_as={said!r}.",
            fatal=True,
        )
    choices = sorted(response.choices, key=lambda choice: choice.index or 0)
    if len(choices) < count:
        raise fault("fewer rows", f"asked for {count} rows, got {len(choices)}.")
    if [choice.index or 0 for choice in choices] != list(range(count)):
        found = [choice.index for choice in choices]
        raise fault("rows in doubt", f"{count} rows came back numbered {found}.")
    for choice in choices:
        if choice.finish_reason == "content_filter":
            raise fault("content filter", "the server's filter withheld the answer.")
    return choices


def _same_model(asked: str, said: str) -> bool:
    """Compare names without folder or provider; one may have a date or revision."""
    one, other = (name.rstrip("/").rsplit("/", 1)[-1].lower() for name in (asked, said))
    plain, bare = (REVISION.sub("", name) for name in (one, other))
    latest = one.removeprefix(plain) in LATEST and plain == bare
    return one == other or plain == other or bare == one or latest


def _sound(values: Sequence[Any]) -> list[float]:
    """Return values as floats; raise if they are not log-probabilities."""
    if any(value is None for value in values):
        raise fault("null logprobs", "the server left log-probabilities empty.")
    numbers = [float(value) for value in values]
    if any(math.isnan(v) or v > ROUNDING for v in numbers):
        raise fault("impossible logprobs", f"{numbers[:5]} are no log-probabilities.")
    if any(value < PLACEHOLDER for value in numbers):
        raise fault(
            "placeholder logprobs", "the server wrote -9999 for log-probabilities."
        )
    return numbers


def _echoed(choice: Any, whole: str) -> list[tuple[float, Any]]:
    """Return the start position and log-probability of each token of an echo."""
    found = choice.logprobs
    if found is None or not found.tokens or not found.token_logprobs:
        raise fault(
            "no logprobs",
            "the server gave no log-probabilities for the echoed prompt. Remedy: "
            "interface='chat' or 'text'.",
        )
    if len(found.tokens) != len(found.token_logprobs):
        raise fault(
            "ragged logprobs",
            f"{len(found.tokens)} tokens have {len(found.token_logprobs)} "
            "log-probabilities.",
        )
    text = choice.text or ""
    if not text.startswith(whole):
        cut = len(text) < len(whole)
        raise fault(
            "truncated" if cut else "no echo",
            f"a prompt of {len(whole)} characters came back as {len(text)} others.",
        )
    if not all(isinstance(token, str) for token in found.tokens):
        raise fault("no echo", "the echoed tokens are no texts.")
    starts = _starts(found, text, whole)
    return list(zip(starts, found.token_logprobs, strict=True))


def _starts(found: Any, text: str, whole: str) -> list[float]:
    """Return the tokens' start positions, from their texts or ``text_offset``."""
    lengths = np.cumsum([0, *map(len, found.tokens)])
    joined = "".join(found.tokens)
    at = joined.find(whole)
    # A special start token may precede the text.
    if at == 0 or at in lengths[:2]:
        return [int(start) - at for start in lengths[:-1]]
    said = found.text_offset or []
    if len(said) == len(found.tokens) and list(said) == sorted(said) and said[0] >= 0:
        # Offsets that were summed up go astray at parts of characters.
        if whole.isascii() or said[-1] in (
            len(text),
            len(text) - len(found.tokens[-1]),
        ):
            return list(said)
    return _aligned(list(found.tokens), text, whole)


def _aligned(tokens: Sequence[str], text: str, whole: str) -> list[float]:
    """Return start positions where some tokens are told as parts of characters.

    The tokens before and after these are found from both ends of the text; those
    between start where the first of them does, or after it.
    """
    ahead: list[float] = []
    place = 0
    for token in tokens:
        if text.startswith(token, place):
            ahead.append(place)
            place += len(token)
        elif not ahead and PART not in token:
            ahead.append(-1)  # a special start token
        else:
            break
    behind: list[float] = []
    end = len(text)
    for token in reversed(tokens[len(ahead) :]):
        if not token or not text[place:end].endswith(token):
            break
        end -= len(token)
        behind.append(end)
    parts = tokens[len(ahead) : len(tokens) - len(behind)]
    sound = parts and PART in parts[0] and PART in parts[-1]
    if PART in whole or not sound or not place < end <= len(whole):
        raise fault("no echo", "the echoed tokens are not those of the prompt.")
    later = [place + 0.5] * (len(parts) - 1)
    return [*ahead, place, *later, *reversed(behind)]


def continuation_scores(
    choices: Sequence[Any], context: str, options: Sequence[str]
) -> list[float]:
    """Return the log-likelihood of each option given the context, from echoes."""
    out = []
    for choice, option in zip(choices, options, strict=True):
        end = len(context) + len(option)
        tokens = _echoed(choice, context + option)
        mine = [(start, v) for start, v in tokens if len(context) <= start < end]
        if not mine or mine[0][0] != len(context):
            raise fault(
                "merged tokens",
                f"no token starts where {option!r} starts. Remedy: a prompt that does "
                "not end with a space.",
            )
        out.append(sum(_sound([value for _, value in mine])))
    different = not any(
        one != other and one.startswith(other) for one in options for other in options
    )
    if different and sum(map(math.exp, out)) > 1 + 10 * ROUNDING:
        raise fault(
            "impossible logprobs",
            f"the probabilities of {list(options)} add up to more than one.",
        )
    return out


def scores_to_an_end(
    choices: Sequence[Any], context: str, options: Sequence[str], end: str
) -> list[float]:
    """Return the options' scores, then that of the end of the last one."""
    before = context + options[-1].removesuffix(end)
    return [
        *continuation_scores(choices, context, options),
        *continuation_scores(choices[-1:], before, [end]),
    ]


def text_score(choices: Sequence[Any], text: str) -> list[float]:
    """Return the log-likelihood of a text given its first token, and token count."""
    tokens = [(start, v) for start, v in _echoed(choices[0], text) if start < len(text)]
    values = _sound([value for start, value in tokens if start > 0])
    if len(values) > 1 and not any(values):
        raise fault("impossible logprobs", "all log-probabilities are zero.")
    return [sum(values), len(values)]


def generated_tokens(choices: Sequence[Any]) -> list[list[Any]]:
    """Return the generated tokens, their log-probabilities, and numbers if told."""
    found = choices[0].logprobs
    content = _part(found, "content")
    if content:  # as in chats
        names = ("token", "logprob", "id")
        rows = [[_part(one, name) for name in names] for one in content]
    else:
        tokens, values = _part(found, "tokens"), _part(found, "token_logprobs")
        pairs = zip(tokens or [], values or [], strict=True)
        rows = [[*pair, None] for pair in pairs]
    if not rows or not all(isinstance(row[0], str) for row in rows):
        raise fault(
            "no logprobs",
            "the server gave no log-probabilities of the tokens that it generated.",
        )
    _sound([value for _, value, _ in rows])
    return rows


def _part(found: Any, name: str) -> Any:
    """Return a field of an object, or of a dict where the package knows none."""
    return found.get(name) if isinstance(found, dict) else getattr(found, name, None)


def forced_values(choices: Sequence[Any], option: str, count: int) -> list[float]:
    """Return the log-probability of each token that the server had to generate."""
    rows = generated_tokens(choices)[:count]
    said = getattr(choices[0], "message", None)
    # The whole text, as a token may be a part of a character.
    written = (choices[0].text if said is None else said.content) or ""
    if written.strip() != option.strip() or len(rows) < count:
        raise fault(
            "not forced",
            f"the server was told to generate {option!r}, and wrote {written!r:.60}.",
        )
    return _sound([value for _, value, _ in rows])


def forced_score(choices: Sequence[Any], option: str, count: int) -> list[float]:
    """Return the log-likelihood of an option that the server had to generate."""
    return [sum(forced_values(choices, option, count))]


def token_numbers(found: Any) -> list[int]:
    """Return the numbers of a text's tokens."""
    tokens = found.get("tokens") if isinstance(found, dict) else None
    if not tokens or not all(type(token) is int and token >= 0 for token in tokens):
        raise fault("no tokenizer", f"{found!r:.80} are no numbers of tokens.")
    return list(tokens)


def _spelling(choices: Sequence[Any], option: str) -> list[list[Any]]:
    """Return bytes, log-probability and number of the tokens that spell a string.

    An answer to a message may start with blanks, which are none of the string.
    """
    found, spelled = [], b""
    rows = generated_tokens(choices)
    chat = hasattr(choices[0], "message")
    content = _part(choices[0].logprobs, "content") or [None] * len(rows)
    for (token, value, number), one in zip(rows, content, strict=True):
        if (spelled.lstrip() if chat else spelled) == option.encode():
            break  # what follows ends the text
        # A token may be a part of a character, whose bytes alone can be told.
        told = None if one is None else _part(one, "bytes")
        part = bytes(told) if isinstance(told, list) else token.encode()
        spelled += part
        found.append([part, value, number])
    return found


def spelled_tokens(choices: Sequence[Any], option: str) -> list[list[Any]]:
    """Return the tokens, and their log-probabilities, of the only answer allowed."""
    found = _spelling(choices, option)
    said = b"".join(part for part, _, _ in found)
    if hasattr(choices[0], "message"):
        said = said.lstrip()
    if not option.strip() or said != option.encode():
        raise fault(
            "not forced",
            f"the server was told to answer {option!r} only, and wrote "
            f"{said.decode(errors='replace')!r:.60}.",
        )
    return [[part.decode(errors="replace"), value] for part, value, _ in found]


def _prompt_tokens(response: Any) -> list[list[Any]]:
    """Return number, text and log-probability of each token of a prompt."""
    told = _part(response, "prompt_logprobs")
    if not isinstance(told, list):
        raise fault("no echo", "the server gave no log-probabilities of the prompt.")
    rows: list[list[Any]] = []
    for one in told:
        if one is not None and len(one) != 1:
            raise fault("ragged logprobs", f"{one!r:.80} is not one token's.")
        number, token = next(iter((one or {None: None}).items()))
        parts = [_part(token, name) for name in ("decoded_token", "logprob")]
        rows.append([None if number is None else int(number), *parts])
    return rows


def given_tokens(response: Any, option: str) -> dict[str, Any]:
    """Return the tokens of an answer that was given, and the numbers of those before.

    The answer's first token may start with a blank.  Tokens that begin a character are
    told as empty texts; so may be those that end a text, which are no answer's.
    """
    rows = _prompt_tokens(response)
    said, at = "", len(rows)
    while at and said.lstrip() != option and option.endswith(said.lstrip()):
        at -= 1
        text = rows[at][1]
        if not isinstance(text, str) or not (said or text):
            break
        said = text + said
    found = said.lstrip() == option
    while found and not option[0].isascii() and at and rows[at - 1][1] == "":
        at -= 1
    lead = [number for number, _, _ in rows[max(at - LEAD, 0) : at]]
    if not found or len(lead) < LEAD or None in lead:
        raise fault(
            "merged tokens",
            f"the prompt's last tokens are {said!r}, not those of {option!r}. {OTHERS}",
        )
    return {"lead": lead, "tokens": rows[at:]}


def given_score(
    response: Any, option: str, tokens: Sequence[int], lead: Sequence[int]
) -> list[float]:
    """Return the log-likelihood of an answer that was given with its message.

    The prompt has to end with the ``tokens`` of the answer after those of ``lead``.
    """
    rows = _prompt_tokens(response)[-len(lead) - len(tokens) :]
    if [number for number, _, _ in rows] != [*lead, *tokens]:
        raise fault(
            "merged tokens",
            f"the prompt does not end with the tokens of {option!r}. {OTHERS}",
        )
    return [sum(_sound([value for _, _, value in rows[len(lead) :]]))]


def spelled_score(choices: Sequence[Any], option: str) -> list[float]:
    """Return the log-likelihood of the tokens of the only answer allowed."""
    return [total(spelled_tokens(choices, option))]


def total(tokens: Sequence[Sequence[Any]]) -> float:
    """Return the log-likelihood of tokens."""
    return sum(_sound([value for _, value in tokens]))


def parted(
    tokens: Sequence[list[Any]], start: str
) -> tuple[list[list[Any]], list[list[Any]]]:
    """Part tokens where those end that spell a string."""
    said = ""
    for i, (token, _) in enumerate(tokens):
        if said.lstrip() == start.lstrip():
            return list(tokens[:i]), list(tokens[i:])
        said += token
    raise fault("merged tokens", f"no token of {said!r} ends where {start!r} ends.")


def copied_tokens(choices: Sequence[Any], option: str) -> list[int]:
    """Return the numbers of the tokens of a string that was copied for sure."""
    found = _spelling(choices, option)
    spelled = b"".join(part for part, _, _ in found)
    numbers = [number for _, _, number in found]
    least = min((value for _, value, _ in found), default=0.0)
    if spelled != option.encode() or least < SURE_COPY:
        raise fault(
            "no tokenizer",
            f"told to copy {option!r}, the server wrote "
            f"{spelled.decode(errors='replace')!r:.60}, a token of it with the "
            f"log-probability {least:.2f}, so that the tokens of it are in doubt. "
            "Remedy: interface='text' or 'samples', or another word for the label.",
        )
    return token_numbers({"tokens": numbers})


def continued_texts(choices: Sequence[Any]) -> list[str]:
    """Return the completions of prompts; they may be empty."""
    return [_text(choice.text) for choice in choices]


def _text(value: Any) -> str:
    """Return an answer's text; raise if it is something else."""
    if value is not None and not isinstance(value, str):
        raise fault("malformed answer", f"the answer's text is {value!r:.40}.")
    return value or ""


def said_texts(choices: Sequence[Any]) -> list[str]:
    """Return the texts of chat answers; raise for refused or empty ones."""
    out = []
    for choice in choices:
        refusal = getattr(choice.message, "refusal", None)
        if refusal:
            raise fault("refusal", f"the model refused: {refusal:.80}")
        text = _text(choice.message.content)
        if not text.strip():
            cut = choice.finish_reason == "length"
            raise fault(
                "cut off" if cut else "empty answer",
                "the model wrote nothing"
                + (" before its tokens ran out." if cut else "."),
            )
        out.append(text)
    return out


def sampled_texts(choices: Sequence[Any]) -> list[str]:
    """Return the texts of sampled answers; those refused or empty are empty."""
    refused = [getattr(choice.message, "refusal", None) for choice in choices]
    return [
        "" if no else _text(choice.message.content)
        for no, choice in zip(refused, choices, strict=True)
    ]


def _told(token: Any) -> str:
    """Return a token's text; bytes that are parts of characters as surrogates."""
    told = _part(token, "bytes")
    text = token.token
    if not isinstance(text, str):
        raise fault("malformed answer", f"a token's text is {text!r:.40}.")
    text = LONE.sub(PART, text)
    if not told or not isinstance(told, list):
        return text
    return bytes(told).decode(errors="surrogateescape")


def text_of(path: Sequence[Sequence[Any]]) -> str:
    """Return the text of tokens, of which some may be parts of characters."""
    whole = "".join(token for token, _ in path)
    return whole.encode(errors="surrogateescape").decode(errors="replace")


def first_tokens(choices: Sequence[Any]) -> dict[str, Any]:
    """Return a chat answer's text, its tokens, and the most likely first tokens."""
    text = said_texts(choices)[0]
    found = choices[0].logprobs
    if found is None or not found.content or not found.content[0].top_logprobs:
        raise fault(
            "no logprobs",
            "the server gave no log-probabilities of the first token. Remedy: "
            "interface='text'.",
        )
    path = [[_told(token), token.logprob] for token in found.content]
    # Some servers tell the token that ends the text, by its name or as an empty one.
    if text_of(path[:-1]).strip() == text.strip():
        path = path[:-1]
    if text_of(path).strip() != text.strip():
        raise fault("ragged logprobs", "the answer's tokens are not its text.")
    top = [[_told(token), token.logprob] for token in found.content[0].top_logprobs]
    known = [pair for pair in top if pair[1] is None or not pair[1] < PLACEHOLDER]
    values = _sound([value for _, value in known or top])
    _sound([value for _, value in path])
    if sum(map(math.exp, values)) > 1 + 10 * ROUNDING:
        raise fault(
            "impossible logprobs", "the first tokens' probabilities exceed one."
        )
    return {"text": text, "top": known, "path": path}
