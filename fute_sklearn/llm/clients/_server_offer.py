"""What a server offers, found out by requests and proved before it is trusted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ...exceptions import LanguageModelServerError
from . import _server_answers as answers
from ._label_requests import (
    COPIED,
    RESTRICTIONS,
    Offer,
    chosen_request,
    copied_request,
    echo_request,
    forced_request,
    given_request,
    restriction,
    spelled_request,
    tokens_request,
)
from ._named_labels import begun_share

if TYPE_CHECKING:
    from ._request import Request
    from ._server_connection import Send

# What any language model goes on with, and what none does.
CONTEXT, QUESTION = "The capital of France is", "What is the capital of France?"
KNOWN, NOISE, PERMUTED = " Paris", " purple zebra", " zebra purple"
LIKELY_NOISE = math.log(0.01)  # above it, NOISE was not weighed against other answers
AGREEMENT = 0.1  # nats between two requests for the same number; batches round
ALLOWED_SHARE = 0.99  # of the answers that were allowed, but for rounding
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
# Faults that may be over when the next client asks.
PASSING = {"APITimeoutError", "unavailable"}
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
    _tried: dict[tuple[str, str], bool] = field(default_factory=dict, init=False)
    _generations: dict[str, Any] = field(default_factory=dict, init=False)
    _doubts: list[str] = field(default_factory=list, init=False)

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
            "completions": (self.echo, self.forced, self.spelled),
            "chat": (
                self.forced_chat,
                self.given,
                self.spelled_chat,
                self.top_k,
                self.chosen,
            ),
            "samples": (self.samples,),
            "text": (self.text,),
            "continued": (self.continued,),
        }
        reasons: list[str] = []
        kinds: list[str] = []
        for interface in interfaces:
            for way in ways[interface]:
                try:
                    offer = await way()
                    return offer, not ("not found" in kinds or self._doubts)
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
        if request.key not in self._generations:
            try:
                self._generations[request.key] = (await self.send(request))[0]
            except LanguageModelServerError as error:
                self._generations[request.key] = error
        found = self._generations[request.key]
        if isinstance(found, LanguageModelServerError):
            raise found
        token, value, number = found
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
            request = forced_request(
                self.request, offer.interface, context, option, tokens
            )
            read = partial(answers.forced_values, option=option, count=len(tokens))
            found.append(await self.send(replace(request, read=read)))
        return [sum(found[0]), sum(found[1][:first]), sum(found[1][first:])]

    async def _spelled(self, offer: Offer, context: str, known: str) -> list[float]:
        """Return the same from strings that are the only answers allowed."""
        assert offer.means is not None
        found = []
        for option in (offer.scored(known), offer.scored(NOISE + PERMUTED)):
            request = spelled_request(
                self.request, offer.interface, context, option, offer.means
            )
            read = partial(answers.spelled_tokens, option=option)
            found.append(await self.send(replace(request, read=read)))
        return self._parted(offer, *found)

    @staticmethod
    def _parted(
        offer: Offer, known: list[list[Any]], both: list[list[Any]]
    ) -> list[float]:
        noise, rest = answers.parted(both, offer.scored(NOISE))
        return [answers.total(part) for part in (known, noise, rest)]

    async def _given(self, option: str) -> dict[str, Any]:
        """Return the tokens of an answer to QUESTION that is given with it."""
        request = given_request(self.request, QUESTION, option)
        read = partial(answers.given_tokens, option=option)
        try:
            return await self.send(replace(request, read=read, once=True))
        except LanguageModelServerError as error:
            if error.kind not in {*PASSING, "InternalServerError"}:
                raise
            self._doubts.append(error.kind)  # it may be the field that it cannot take
            raise answers.fault("not given", str(error)) from None

    async def _restriction(self, interface: str) -> str | None:
        """Return the first means by which the server allows given answers only."""
        for means in RESTRICTIONS:
            if await self._restricts(interface, means):
                return means
        return None

    async def _restricts(self, interface: str, means: str) -> bool:
        if (interface, means) not in self._tried:
            request = chosen_request(self.request, interface, QUESTION, [NOISE], means)
            try:
                said = await self.send(replace(request, once=True))
            except LanguageModelServerError as error:
                if error.kind in PASSING:
                    self._doubts.append(error.kind)
                elif error.kind in UNRELATED:
                    raise
                said = [""]
            self._tried[interface, means] = said[0].strip() == NOISE.strip()
        return self._tried[interface, means]

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

    async def given(self) -> Offer:
        """Score by giving the label as the answer to a chat, to be gone on with."""
        request = self._chat(answers.generated_tokens)
        token, value, known, _ = await self._generated(request)
        offer = Offer("chat", "given")
        first = await self._given(offer.scored(known))
        other = await self._given(offer.scored(NOISE + PERMUTED))
        if first["lead"] != other["lead"]:
            raise answers.fault(
                "merged tokens", "what comes before an answer depends on the answer."
            )
        pair = [[part[1:] for part in one["tokens"]] for one in (first, other)]
        scores = self._parted(offer, *pair)
        self._prove("a given token", token, value, scores, certain=False)
        return replace(offer, lead=first["lead"])

    async def spelled(self) -> Offer:
        """Score by allowing only the label as the continuation of a prompt."""
        body = {"prompt": CONTEXT, "max_tokens": 1, "logprobs": 1}
        request = self.request("completions", body, answers.generated_tokens)
        return await self._proved_spelling("completions", CONTEXT, request)

    async def spelled_chat(self) -> Offer:
        """Score by allowing only the label as the answer to a chat."""
        request = self._chat(answers.generated_tokens)
        return await self._proved_spelling("chat", QUESTION, request)

    async def _proved_spelling(
        self, interface: str, context: str, request: Request
    ) -> Offer:
        token, value, known, _ = await self._generated(request)
        means = await self._restriction(interface)
        if means is None:
            raise _unrestricted()
        offer = Offer(interface, "spelled", means=means)
        scores = await self._spelled(offer, context, known)
        if max(scores[1:]) > LIKELY_NOISE:
            raise answers.fault(
                "wrong logprobs",
                f"the server's log-probabilities of {NOISE!r} and {PERMUTED!r}, as the "
                f"only answer, are {scores[1]:.2f} and {scores[2]:.2f}: those among "
                "the spellings of what is allowed, not the model's.",
            )
        self._prove("a spelled token", token, value, scores)
        return offer

    async def top_k(self) -> Offer:
        """Score by the likeliest first tokens of a chat's answer.

        They are those of the labels alone where the server tells probabilities among
        the answers that it was told to allow.
        """
        await self.send(self._chat(answers.first_tokens))
        means = await self._restriction("chat")
        if means is not None and not await self._among_allowed(means):
            means = None
        return Offer("chat", "top-k", means=means)

    async def _among_allowed(self, means: str) -> bool:
        """Return whether the probabilities are those among the answers allowed."""
        allowed = [NOISE.strip(), PERMUTED.strip()]
        fields = restriction(means, allowed)
        try:
            found = await self.send(self._chat(answers.first_tokens, **fields))
        except LanguageModelServerError as error:
            if error.kind in UNRELATED:
                raise
            return False
        return begun_share(found, allowed) > ALLOWED_SHARE

    async def chosen(self) -> Offer:
        """Take the label that is answered where the server allows labels only."""
        means = await self._restriction("chat")
        if means is None:
            raise _unrestricted()
        return Offer("chat", "chosen", means=means)

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
        if offer.way == "given":
            found = await self._given(option)
            if found["lead"] != list(offer.lead):
                raise answers.fault(
                    "merged tokens",
                    f"before {option!r} the prompt is another than before other "
                    f"answers. {answers.OTHERS}",
                )
            return [number for number, _, _ in found["tokens"]]
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
        self,
        what: str,
        token: str,
        value: float,
        scores: Sequence[float],
        *,
        certain: bool = True,
    ) -> None:
        """Raise unless the scores can be log-probabilities of those very strings.

        ``scores`` are those of the token that was generated with the log-probability
        ``value`` (of KNOWN, if that was blank), of NOISE, and of PERMUTED after it.
        ``certain`` servers may count a token at temperature 0 as such, which tells
        nothing.
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
        told = token.strip() and not (certain and value == 0)
        if told and abs(value - again) > AGREEMENT:
            raise LanguageModelServerError(
                f"the server's log-probability of {what} is {again:.2f}, but "
                f"{value:.2f} when it is generated, so these are not the scores of the "
                "labels. [wrong logprobs]",
                "wrong logprobs",
            )


def _unrestricted() -> LanguageModelServerError:
    return answers.fault(
        "not restricted",
        "the server takes no list or grammar of the answers that are allowed.",
    )
