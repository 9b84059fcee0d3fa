"""Requests to an OpenAI-compatible server, by what it offers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..._utils._store import text_key
from . import _server_answers as answers
from ._filled_prompt import prompt_of
from ._label_requests import (
    Offer,
    chosen_request,
    echo_request,
    forced_request,
    given_request,
    restriction,
    spelled_request,
)
from ._named_labels import check_allowed, check_first_tokens, check_text
from ._request import Request

ANSWER_TOKENS = 16


@dataclass(frozen=True)
class RequestMaker:
    """Makes the requests of one client.

    Parameters
    ----------
    model : str
        Name of the model on the server.
    base_url : str or None
        Address of the server.
    options : mapping
        Fields of every request; None removes one.
    top_logprobs, n_samples : int
        As of `OpenAIClient`.
    """

    model: str
    base_url: str | None
    options: Mapping[str, Any]
    top_logprobs: int
    n_samples: int

    def request(
        self, kind: str, body: dict[str, Any], read: Callable[[Any], Any], rows: int = 1
    ) -> Request:
        """Make a request; its key tells it from all others."""
        if kind != "tokenize":
            body = {"temperature": 0, **body, **self.options}
        body = {"model": self.model, **body}
        body = {name: value for name, value in body.items() if value is not None}
        if kind == "chat" and self.base_url is None and "max_tokens" in body:
            body["max_completion_tokens"] = body.pop("max_tokens")
        name = getattr(read, "func", read).__name__
        given = getattr(read, "keywords", {})
        written = json.dumps([body, name, given], sort_keys=True)
        return Request(
            text_key(str(self.base_url), kind, written), kind, body, rows, read
        )

    def labels(
        self,
        offer: Offer,
        contexts: Sequence[str],
        continuations: Sequence[Sequence[str]],
        tokens: Mapping[str, Sequence[int]],
    ) -> list[list[Request]]:
        """Return the requests that score strings after each context.

        ``tokens`` are those of the strings, where the server is made to generate them.
        """
        pairs = list(zip(contexts, continuations, strict=True))
        if offer.way == "echo":
            parts = [
                [options] if offer.lists else [[option] for option in options]
                for _, options in pairs
            ]
            found = [
                [echo_request(self.request, context, one, offer.lists) for one in part]
                for (context, _), part in zip(pairs, parts, strict=True)
            ]
        elif offer.way in ("given", "forced", "spelled"):
            found = [
                [
                    self._label(offer, context, option, tokens)
                    for option in map(offer.scored, options)
                ]
                for context, options in pairs
            ]
        elif offer.way == "top-k":
            first, named = answers.first_tokens, check_first_tokens
            found = []
            for context, options in pairs:
                fields, check = {}, named
                if offer.means is not None:
                    strings = [option.strip() for option in options]
                    fields = restriction(offer.means, strings)
                    check = partial(named, allowed=True)
                request = self.chat(context, first, **fields)
                found.append([self._checked(request, check, options)])
        else:
            found = [self._said(offer, *pair) for pair in pairs]
        return [
            [
                self._placed(offer, request, place, context, options)
                for place, request in enumerate(row)
            ]
            for row, (context, options) in zip(found, pairs, strict=True)
        ]

    @staticmethod
    def _placed(
        offer: Offer, request: Request, place: int, context: str, options: Sequence[str]
    ) -> Request:
        """Say which other requests can be answered if this one is."""
        part = 0 if offer.way == "samples" else place  # samples are all alike
        return replace(_of_prompt(request, context, part, *options), part=part)

    def _label(
        self,
        offer: Offer,
        context: str,
        option: str,
        tokens: Mapping[str, Sequence[int]],
    ) -> Request:
        """Return the one request that scores a string after a context."""
        if offer.way == "given":
            return given_request(
                self.request, context, option, tokens[option], offer.lead
            )
        if offer.way == "forced":
            return forced_request(
                self.request, offer.interface, context, option, tokens[option]
            )
        assert offer.means is not None
        return spelled_request(
            self.request, offer.interface, context, option, offer.means
        )

    @staticmethod
    def _checked(
        request: Request, check: Callable[..., None], options: Sequence[str]
    ) -> Request:
        strings = [option.strip() for option in options]
        return replace(request, check=partial(check, strings=strings))

    def _said(
        self, offer: Offer, context: str, options: Sequence[str]
    ) -> list[Request]:
        if offer.way == "samples" and not offer.lists:
            # Seeds of their own, as equal requests may be answered alike.
            return [
                self.chat(context, answers.sampled_texts, temperature=1, seed=seed)
                for seed in range(self.n_samples)
            ]
        if offer.way == "chosen":
            assert offer.means is not None
            request = chosen_request(
                self.request, offer.interface, context, options, offer.means
            )
            return [self._checked(request, check_allowed, options)]
        if offer.interface == "continued":
            request = self.continued(context, ANSWER_TOKENS)
        elif offer.interface == "text":
            request = self.chat(context, answers.said_texts)
        else:
            several = {"n": self.n_samples, "temperature": 1}
            request = self.chat(context, answers.sampled_texts, **several)
        return [self._checked(request, check_text, options)]

    def chat(
        self,
        context: str,
        read: Callable[[Any], Any],
        max_tokens: int = ANSWER_TOKENS,
        **more: Any,
    ) -> Request:
        """Ask for an answer to a message."""
        body = {
            "messages": [{"role": "user", "content": context}],
            "max_tokens": max_tokens,
            **more,
        }
        if read is answers.first_tokens:
            body |= {"logprobs": True, "top_logprobs": self.top_logprobs}
        return self.request("chat", body, read, more.get("n", 1))

    def continued(self, prompt: str, max_tokens: int) -> Request:
        """Ask for the continuation of a prompt."""
        body = {"prompt": prompt, "max_tokens": max_tokens}
        return self.request("completions", body, answers.continued_texts)

    def written(
        self, offer: Offer, prompts: Sequence[str], max_tokens: int
    ) -> list[Request]:
        """Return the requests for texts that the model writes after prompts."""
        if offer.interface in ("completions", "continued"):
            found = [self.continued(prompt, max_tokens) for prompt in prompts]
        else:
            found = [self.chat(p, answers.said_texts, max_tokens) for p in prompts]
        return [
            _of_prompt(request, prompt, "written", max_tokens)
            for request, prompt in zip(found, prompts, strict=True)
        ]

    def texts(self, offer: Offer, texts: Sequence[str]) -> list[Request]:
        """Return the requests that score whole texts."""
        return [
            _of_prompt(self._text(offer, text), text, "whole text") for text in texts
        ]

    def _text(self, offer: Offer, text: str) -> Request:
        body = {
            "prompt": [text] if offer.lists else text,
            "max_tokens": 1,
            "echo": True,
            "logprobs": 1,
        }
        return self.request("completions", body, partial(answers.text_score, text=text))


def _of_prompt(request: Request, context: str, *family: str | int) -> Request:
    """Return a request with the prompt and the family that it belongs to."""
    prompt = prompt_of(context)
    return replace(request, family=json.dumps([prompt, *family]), prompt=prompt)
