"""Ways of scoring labels, and the requests that score, restrict or split them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from . import _server_answers as answers

if TYPE_CHECKING:
    from ._request import Request

TOKENIZERS = (("/tokenize", "content"), ("/extras/tokenize", "input"))
COPIED = len(TOKENIZERS)  # no path: read off what the server copies
COPIES = 8
FORCE = 100  # added to a token's logit, the most that servers allow
# How servers are told the only answers that they may give, best first: vLLM, vLLM until
# 2025, llama.cpp.  Not by a schema, as an answer within braces is often another one.
RESTRICTIONS = ("structured_outputs", "guided_choice", "grammar")


@dataclass(frozen=True)
class Offer:
    """A way of scoring labels that a server was found to support.

    Parameters
    ----------
    interface : str
        One of the interfaces of `OpenAIClient`.
    way : {"echo", "given", "forced", "spelled", "top-k", "chosen", "samples", "text"}
        Where the scores come from: the log-probabilities of the echoed prompt, those of
        an answer that is given with the message, those of tokens that the server is
        made to generate, those of the tokens with which it
        spells the only string that it may answer, those of the likeliest first tokens,
        the text of the only answers that it may give, sampled answers, or the text of
        any answer.
    lists : bool
        Whether a request may hold several prompts, or ask for several answers.
    tokenizer : int or None
        Index of the path in TOKENIZERS that splits texts into tokens, or COPIED.
    means : str or None
        One of RESTRICTIONS, by which the server allows certain answers only.
    lead : sequence of int
        The tokens before an answer that is given with its message.
    """

    interface: str
    way: str
    lists: bool = True
    tokenizer: int | None = None
    means: str | None = None
    lead: Sequence[int] = ()

    def scored(self, option: str) -> str:
        """Return what is scored for an option: an answer starts without a blank."""
        return option.lstrip() if self.interface == "chat" else option


def echo_request(
    request: Callable[..., Request], context: str, options: Sequence[str], lists: bool
) -> Request:
    """Ask for the log-probabilities of a context with each option, as an echo."""
    whole = [context + option for option in options]
    # Some servers treat max_tokens=0 as no limit: generate one token, ignore it.
    body = {
        "prompt": whole if lists else whole[0],
        "max_tokens": 1,
        "echo": True,
        "logprobs": 1,
    }
    read = partial(answers.continuation_scores, context=context, options=list(options))
    return request("completions", body, read, len(options))


def given_request(
    request: Callable[..., Request],
    context: str,
    option: str,
    tokens: Sequence[int] = (),
    lead: Sequence[int] = (),
) -> Request:
    """Ask for the log-probabilities of a message with the option as its answer.

    By fields of vLLM: the answer is one that the model is to go on with.  ``tokens``
    are those of the option, ``lead`` those before it.
    """
    body = {
        "messages": [
            {"role": "user", "content": context},
            {"role": "assistant", "content": option},
        ],
        "add_generation_prompt": False,
        "continue_final_message": True,
        "max_tokens": 1,
        "prompt_logprobs": 0,
    }
    read = partial(
        answers.given_score, option=option, tokens=list(tokens), lead=list(lead)
    )
    return replace(request("chat", body, read), whole=True)


def forced_request(
    request: Callable[..., Request],
    interface: str,
    context: str,
    option: str,
    tokens: Sequence[int],
) -> Request:
    """Ask for the log-probability of an option by making the server generate it."""
    body: dict[str, Any] = {"max_tokens": len(tokens)}
    if len(tokens) == 1:
        body["logit_bias"] = {str(tokens[0]): FORCE}
    else:
        body["grammar"] = "root ::= " + " ".join(f"<[{token}]>" for token in tokens)
    read = partial(answers.forced_score, option=option, count=len(tokens))
    return _scored(request, interface, context, body, read)


def spelled_request(
    request: Callable[..., Request],
    interface: str,
    context: str,
    option: str,
    means: str,
) -> Request:
    """Ask for the log-probability of an option by allowing no other answer."""
    body = {"max_tokens": len(option.encode()) + 1, **restriction(means, [option])}
    read = partial(answers.spelled_score, option=option)
    return _scored(request, interface, context, body, read)


def _scored(
    request: Callable[..., Request],
    interface: str,
    context: str,
    body: dict[str, Any],
    read: Callable[[Any], Any],
) -> Request:
    """Ask for the log-probabilities of the tokens that a server generates."""
    if interface == "chat":
        messages = [{"role": "user", "content": context}]
        body = body | {"messages": messages, "logprobs": True, "top_logprobs": 1}
        return request("chat", body, read)
    return request("completions", body | {"prompt": context, "logprobs": 1}, read)


def chosen_request(
    request: Callable[..., Request],
    interface: str,
    context: str,
    options: Sequence[str],
    means: str,
) -> Request:
    """Ask for one of the only answers that the server allows."""
    if not options:
        raise ValueError("no continuations: expected the answers that are allowed.")
    count = max(len(option.encode()) for option in options) + 1
    if interface == "completions":
        body = {"prompt": context, "max_tokens": count, **restriction(means, options)}
        return request("completions", body, answers.continued_texts)
    allowed = [option.strip() for option in options]
    messages = [{"role": "user", "content": context}]
    body = {"messages": messages, "max_tokens": count, **restriction(means, allowed)}
    return request("chat", body, answers.said_texts)


def restriction(means: str, options: Sequence[str]) -> dict[str, Any]:
    """Return the field by which a server allows these strings only as the answer."""
    strings = list(dict.fromkeys(options))
    if means == "structured_outputs":
        return {means: {"choice": strings}}
    if means == "guided_choice":
        return {means: strings}
    written = [json.dumps(one, ensure_ascii=False) for one in strings]
    return {means: "root ::= " + " | ".join(written)}


def tokens_request(
    request: Callable[..., Request], text: str, tokenizer: int
) -> Request:
    """Ask for the tokens of a text."""
    path, name = TOKENIZERS[tokenizer]
    return request("tokenize", {"path": path, name: text}, answers.token_numbers)


def copied_request(request: Callable[..., Request], option: str) -> Request:
    """Ask for the tokens of a string by making the server copy it.

    Proxies pass on no path for tokens, but numbers of generated ones.  A grammar of
    characters would allow any tokens that spell the string; after some copies of it the
    model's own are by far the likeliest.
    """
    start = "it" if option[:1].isspace() else ""  # the place where it will be scored
    body = {
        "prompt": f"{start}{option}\n" * COPIES + start,
        "max_tokens": len(option.encode()) + 1,
        "logprobs": 1,
        **restriction("grammar", [option]),
    }
    return request("completions", body, partial(answers.copied_tokens, option=option))
