"""What a server offers, found out by requests and proved before it is trusted."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ...exceptions import LanguageModelServerError
from . import _server_answers as answers

if TYPE_CHECKING:
    from ._request import Request
    from ._server_connection import Send

# What any language model goes on with, and what none does.
CONTEXT, QUESTION = "The capital of France is", "What is the capital of France?"
KNOWN, NOISE, PERMUTED = " Paris", " purple zebra", " zebra purple"
AGREEMENT = 0.1  # nats between two requests for the same number; batches round
TOKENIZERS = (("/tokenize", "content"), ("/extras/tokenize", "input"))
COPIED = len(TOKENIZERS)  # no path: read off what the server copies
COPIES = 8
# Faults of the connection or the account, which tell nothing of what a server offers.
UNRELATED = {
    "APIConnectionError",
    "APITimeoutError",
    "RateLimitError",
    "key in answer",
    "key refused",
    "malformed key",
    "no key",
    "other model",
    "unavailable",
}
# Faults by which servers answer a list of prompts if they take one prompt only.
OF_LISTS = {
    "BadRequestError",
    "InternalServerError",
    "UnprocessableEntityError",
    "fewer rows",
    "malformed answer",
    "no choices",
    "rows in doubt",
}
FORCE = 100  # added to a token's logit, the most that servers allow


@dataclass(frozen=True)
class Offer:
    """A way of scoring labels that a server was found to support.

    Parameters
    ----------
    interface : str
        One of the interfaces of `OpenAIClient`.
    way : {"echo", "forced", "top-k", "samples", "text"}
        Where the scores come from: the log-probabilities of the echoed prompt, those of
        tokens that the server is made to generate, those of the likeliest first tokens,
        sampled answers, or the text of the answer.
    lists : bool
        Whether a request may hold several prompts, or ask for several answers.
    tokenizer : int or None
        Index of the path in TOKENIZERS that splits texts into tokens, or COPIED.
    """

    interface: str
    way: str
    lists: bool = True
    tokenizer: int | None = None

    def scored(self, option: str) -> str:
        """Return what is scored for an option: an answer starts without a blank."""
        return option.lstrip() if self.interface == "chat" else option


@dataclass
class OfferFinder:
    """Tries the ways of scoring labels, best first, and proves the one that it returns.

    Parameters
    ----------
    send : callable
        Sends a request.
    request : callable
        Makes a request of a kind, a body and a reader of the answer.
    top_logprobs, n_samples : int
        Numbers of likeliest first tokens, and of sampled answers, to ask for.
    """

    send: Send
    request: Callable[..., Request]
    top_logprobs: int
    n_samples: int

    async def first_of(self, interfaces: Sequence[str]) -> tuple[Offer, bool]:
        """Return the first way that works, and whether better ones are ruled out.

        They are not if a path was not found, which may be so for a while only.

        Raises
        ------
        LanguageModelServerError
            If none works, with the reason for each; or at once if the server cannot be
            reached or refuses the key, which says nothing about the others.
        """
        ways = {
            "completions": (self.echo, self.forced),
            "chat": (self.forced_chat, self.top_k),
            "samples": (self.samples,),
            "text": (self.text,),
            "continued": (self.continued,),
        }
        reasons, kinds = [], []
        for interface in interfaces:
            for way in ways[interface]:
                try:
                    return await way(), "not found" not in kinds
                except LanguageModelServerError as error:
                    if error.kind in UNRELATED:
                        raise
                    kinds.append(error.kind)
                    reasons.append(f"{interface}, {way.__name__}: {error}")
        raise LanguageModelServerError(
            "the server supports none of the ways to score labels that were tried. "
            + " | ".join(reasons)
            + " Remedy: another interface, or another server.",
            kinds[0] if len(interfaces) == 1 else "no interface",
            fatal=True,
        )

    # Requests -------------------------------------------------------------------

    async def _generated(self, request: Request) -> tuple[str, float, str, bool]:
        """Return a generated token, its log-probability, and what to score for it.

        Last comes whether the server tells the token's number.
        """
        token, value, number = (await self.send(request))[0]
        # A blank may become part of the next token.
        return token, value, token if token.strip() else KNOWN, number is not None

    async def _echoed(self, known: str, lists: bool) -> list[float]:
        """Return the log-likelihoods of ``known``, NOISE and PERMUTED, from echoes."""
        options = [known, NOISE + PERMUTED]
        parts = [options] if lists else [[option] for option in options]
        found: list[float] = []
        for part in parts:
            request = echo_request(self.request, CONTEXT, part, lists)
            if part[-1] == options[-1]:
                read = partial(
                    answers.scores_to_an_end,
                    context=CONTEXT,
                    options=part,
                    end=PERMUTED,
                )
                request = replace(request, read=read)
            found += await self.send(replace(request, once=lists))
        score, both, permuted = found
        return [score, both - permuted, permuted]

    async def _forced(self, offer: Offer, context: str, known: str) -> list[float]:
        """Return the same from tokens that the server has to generate."""
        noise, both = offer.scored(NOISE), offer.scored(NOISE + PERMUTED)
        first = len(await self.option_tokens(offer, noise))
        found = []
        for option in (offer.scored(known), both):
            tokens = await self.option_tokens(offer, option)
            request = forced_request(self.request, offer, context, option, tokens)
            read = partial(answers.forced_values, option=option, count=len(tokens))
            found.append(await self.send(replace(request, read=read)))
        return [sum(found[0]), sum(found[1][:first]), sum(found[1][first:])]

    async def _tokens(self, text: str, tokenizer: int) -> list[int]:
        """Return a text's tokens by one of the server's paths."""
        return await self.send(tokens_request(self.request, text, tokenizer))

    # Ways -----------------------------------------------------------------------

    async def echo(self) -> Offer:
        """Score by echoed prompts."""
        offer = Offer("completions", "echo")
        body = {"prompt": CONTEXT, "max_tokens": 1, "logprobs": 1}
        token, value, known, _ = await self._generated(
            self.request("completions", body, answers.generated_tokens)
        )
        try:
            scores = await self._echoed(known, lists=True)
        except LanguageModelServerError as error:
            if error.kind not in OF_LISTS:
                raise
            offer = replace(offer, lists=False)
            scores = await self._echoed(known, lists=False)
        self._prove("an echoed token", token, value, scores)
        return offer

    async def forced(self) -> Offer:
        """Score by making the server continue a prompt with the label's tokens."""
        body = {"prompt": CONTEXT, "max_tokens": 1, "logprobs": 1}
        request = self.request("completions", body, answers.generated_tokens)
        return await self._proved_force("completions", CONTEXT, request)

    async def forced_chat(self) -> Offer:
        """Score by making the server answer a chat with the label's tokens."""
        request = self._chat(answers.generated_tokens)
        return await self._proved_force("chat", QUESTION, request)

    async def _proved_force(
        self, interface: str, context: str, request: Request
    ) -> Offer:
        token, value, known, numbered = await self._generated(request)
        offer = Offer(interface, "forced", tokenizer=await self._splits(numbered))
        scores = await self._forced(offer, context, known)
        self._prove("a forced token", token, value, scores)
        return offer

    async def top_k(self) -> Offer:
        """Score by the likeliest first tokens of a chat's answer."""
        await self.send(self._chat(answers.first_tokens))
        return Offer("chat", "top-k")

    async def samples(self) -> Offer:
        """Sample several answers to a message, by one request if the server can."""
        many = {"n": self.n_samples, "temperature": 1}
        try:
            request = self._chat(answers.sampled_texts, self.n_samples, **many)
            await self.send(replace(request, once=True))
            return Offer("samples", "samples")
        except LanguageModelServerError as error:
            if error.kind not in OF_LISTS:
                raise
        await self.send(self._chat(answers.sampled_texts, temperature=1))
        return Offer("samples", "samples", lists=False)

    async def text(self) -> Offer:
        """Take the label that a chat's answer names."""
        await self.send(self._chat(answers.said_texts))
        return Offer("text", "text")

    async def continued(self) -> Offer:
        """Take the label that the continued prompt names."""
        body = {"prompt": CONTEXT, "max_tokens": 2}
        await self.send(self.request("completions", body, answers.continued_texts))
        return Offer("continued", "text")

    def _chat(self, read: Callable[..., Any], rows: int = 1, **more: Any) -> Request:
        body: dict[str, Any] = {
            "messages": [{"role": "user", "content": QUESTION}],
            "max_tokens": 16,
            **more,
        }
        if read in (answers.generated_tokens, answers.first_tokens):
            body |= {"logprobs": True, "top_logprobs": self.top_logprobs}
        return self.request("chat", body, read, rows)

    async def _splits(self, numbered: bool) -> int:
        """Return the index of the way in which texts are split into tokens."""
        reasons = []
        for i in range(COPIED + numbered):
            try:
                if i == COPIED:
                    await self.send(copied_request(self.request, KNOWN))
                else:
                    await self._tokens(KNOWN, i)
                return i
            except LanguageModelServerError as error:
                if error.kind in UNRELATED:
                    raise
                reasons.append(str(error))
        raise LanguageModelServerError(
            f"the server does not tell the tokens of a text: {' | '.join(reasons)}",
            "no tokenizer",
        )

    async def option_tokens(self, offer: Offer, option: str) -> list[int]:
        """Return the tokens of a string in the place where it is scored."""
        assert offer.tokenizer is not None
        if offer.tokenizer == COPIED:
            return await self.send(copied_request(self.request, option))
        if offer.interface == "chat":
            return await self._tokens(option, offer.tokenizer)
        # After a word, as some tokenizers add a blank to the start of a text.
        before = await self._tokens("it", offer.tokenizer)
        whole = await self._tokens(f"it{option}", offer.tokenizer)
        if whole[: len(before)] != before or len(whole) == len(before):
            raise LanguageModelServerError(
                f"no token starts where {option!r} starts. [merged tokens]",
                "merged tokens",
            )
        return whole[len(before) :]

    def _prove(
        self, what: str, token: str, value: float, scores: Sequence[float]
    ) -> None:
        """Raise unless the scores can be log-probabilities of those very strings.

        ``scores`` are those of the token that was generated with the log-probability
        ``value`` (of KNOWN, if that was blank), of NOISE, and of PERMUTED after it.
        """
        again, noise, permuted = scores
        if abs(noise - permuted) < 1e-6:
            raise LanguageModelServerError(
                f"the server's log-probabilities of {NOISE!r} and {PERMUTED!r} are the "
                f"same, {noise:.2f}, so they are not a model's. [wrong logprobs]",
                "wrong logprobs",
            )
        if again <= noise:
            raise LanguageModelServerError(
                f"the server's log-probability of {token.strip() or KNOWN!r} after "
                f"{CONTEXT!r} is {again:.2f}, and {noise:.2f} of {NOISE!r}: a language "
                "model would not say so. [wrong logprobs]",
                "wrong logprobs",
            )
        # Some servers count a token at temperature 0 as certain, which tells nothing.
        if token.strip() and value != 0 and abs(value - again) > AGREEMENT:
            raise LanguageModelServerError(
                f"the server's log-probability of {what} is {again:.2f}, but "
                f"{value:.2f} when it is generated, so these are not the scores of the "
                "labels. [wrong logprobs]",
                "wrong logprobs",
            )


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


def forced_request(
    request: Callable[..., Request],
    offer: Offer,
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
    if offer.interface == "chat":
        messages = [{"role": "user", "content": context}]
        body |= {"messages": messages, "logprobs": True, "top_logprobs": 1}
        return request("chat", body, read)
    return request("completions", body | {"prompt": context, "logprobs": 1}, read)


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
        "grammar": f"root ::= {json.dumps(option, ensure_ascii=False)}",
    }
    return request("completions", body, partial(answers.copied_tokens, option=option))
