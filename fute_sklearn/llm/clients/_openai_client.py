"""Client of language models on OpenAI-compatible servers."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..._utils._config import get_config
from ..._utils._store import text_key
from ...exceptions import (
    ClientCapabilityError,
    LanguageModelServerError,
    RowsFailedError,
)
from . import _server_answers as answers
from ._answer_store import AnswerStore
from ._request_queue import Request, RequestQueue
from ._server_connection import ServerConnection

CAN = {
    "completions": frozenset({"score", "score_text", "generate"}),
    "chat": frozenset({"bounds", "generate"}),
    "samples": frozenset({"frequencies", "generate"}),
    "text": frozenset({"choose", "generate"}),
}
FIDELITY = {
    "completions": "echo",
    "chat": "top-k with bounds",
    "samples": "sampled",
    "text": "text only",
}
UNRELATED = {
    "APIConnectionError",
    "APITimeoutError",
    "RateLimitError",
    "key refused",
    "no key",
    "other model",
}
# Faults that may be temporary, so that the interface found despite them is not cached.
PASSING = {
    "InternalServerError",
    "cut off",
    "empty answer",
    "malformed answer",
    "no choices",
    "not json",
}
ANSWER_TOKENS = 16
CHARACTERS_PER_TOKEN = 4


class OpenAIClient:
    """Client of a language model on an OpenAI-compatible server.

    The server may be OpenAI, vLLM, llama-cpp-python, ``transformers serve`` or another;
    requests are sent by the package ``openai``.  Every answer is validated and cached
    on disk when it arrives, so that a repeated or interrupted run does not send the
    same requests again.

    Parameters
    ----------
    model : str
        Name of the model on the server.
    base_url : str, optional
        Address of the server, such as ``"http://localhost:8000/v1"``; by default the
        environment variable ``OPENAI_BASE_URL``, else that of OpenAI.
    api_key_env : str, optional
        Name of the environment variable that holds the API key.  By default
        ``OPENAI_API_KEY`` for OpenAI and none for other servers, so that the key of
        OpenAI is not sent to them.  The key is read at the first request and is not
        part of the representation, logs, caches or pickles.
    interface : {"auto", "completions", "chat", "samples", "text"}, default="auto"
        How labels are scored.  ``"completions"``: by the exact likelihoods of their
        strings, on servers that echo prompts with log-probabilities; ``"chat"``: by
        bounds from the most likely first tokens; ``"samples"``: by their frequencies in
        ``n_samples`` sampled answers; ``"text"``: only the label of the answer is
        known.  ``"auto"`` takes the first of completions, chat and text that the server
        supports, which is found by at most two requests and cached.
    top_logprobs : int, default=20
        Number of most likely first tokens to request, for ``"chat"``.
    n_samples : int, default=10
        Number of answers per text, sampled at temperature 1, for ``"samples"``.
    request_options : dict, optional
        Fields to set in every request, such as ``{"temperature": 0.5}``; the value None
        removes a field.  By default none is set.
    timeout : float, default=60.0
        Time to wait for an answer, in seconds.
    max_retries : int, default=5
        Number of times that a request is repeated after a rate limit, a time-out or a
        server error, with increasing pauses or those that the server requests.
    n_concurrent : int, default=4
        Number of concurrent requests.
    max_requests, max_tokens : int, optional
        Budgets of this object, by default unlimited.  When one is used up, no further
        request is sent and `BudgetExceededError` is raised.  Cached answers do not
        count, repetitions of a request count once, and requests already sent may exceed
        ``max_tokens``.

    Attributes
    ----------
    capabilities : frozenset of str
        Methods that `PromptedLLM` may call.  With ``interface="auto"``, the first use
        sends requests.
    fidelity : {"echo", "top-k with bounds", "sampled", "text only"}
        Accuracy of the scores.
    fingerprint : str
        Hash of address, model name and settings, which identifies cached predictions.
        Other weights under the same name on the server are not detected.
    n_requests_, n_tokens_ : int
        Number of requests sent, and of tokens that the server counted for them.

    Raises
    ------
    ValueError
        If a parameter is invalid, or ``base_url`` holds a password or query.
    ClientCapabilityError
        By methods that the interface does not support.
    LanguageModelServerError
        By methods, if the server cannot be reached or its answers are invalid.
    RowsFailedError
        By methods, if some rows got no answer; the answers to the others are cached.
    BudgetExceededError
        By methods, if a budget is used up.

    Examples
    --------
    >>> from fute_sklearn import OpenAIClient
    >>> OpenAIClient("smollm2", base_url="http://localhost:8000/v1")
    OpenAIClient('smollm2', base_url='http://localhost:8000/v1')
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key_env: str | None = None,
        interface: str = "auto",
        top_logprobs: int = 20,
        n_samples: int = 10,
        request_options: Mapping[str, Any] | None = None,
        timeout: float = 60.0,
        max_retries: int = 5,
        n_concurrent: int = 4,
        max_requests: int | None = None,
        max_tokens: int | None = None,
    ) -> None:
        if interface != "auto" and interface not in CAN:
            raise ValueError(
                f"interface={interface!r}, expected 'auto' or one of {sorted(CAN)}."
            )
        base_url = base_url or os.environ.get("OPENAI_BASE_URL")
        host = (base_url or "").split("://")[-1].split("/")[0]
        if "@" in host or "?" in (base_url or ""):
            raise ValueError(
                "base_url holds a user, a password or a query: put the key into the "
                "environment variable that api_key_env names."
            )
        if api_key_env is None and base_url is None:
            api_key_env = "OPENAI_API_KEY"
        if n_concurrent < 1 or n_samples < 1 or top_logprobs < 1 or max_retries < 0:
            raise ValueError(
                f"n_concurrent={n_concurrent}, n_samples={n_samples}, top_logprobs="
                f"{top_logprobs}, max_retries={max_retries}: expected 1 or more, "
                "max_retries 0 or more."
            )
        self.model = model
        self.base_url = base_url
        self.api_key_env = api_key_env
        self.interface = interface
        self.top_logprobs = top_logprobs
        self.n_samples = n_samples
        self.request_options = dict(request_options or {})
        self.timeout = timeout
        self.max_retries = max_retries
        self.n_concurrent = n_concurrent
        self.max_requests = max_requests
        self.max_tokens = max_tokens
        self._start()

    def _start(self) -> None:
        self._connection = ServerConnection(
            self.model,
            self.base_url,
            self.api_key_env,
            self.timeout,
            self.max_retries,
            self.max_requests,
            self.max_tokens,
        )
        self._found: str | None = None
        self._lock = threading.Lock()

    @property
    def n_requests_(self) -> int:
        """Number of requests sent so far."""
        return self._connection.n_requests

    @property
    def n_tokens_(self) -> int:
        """Number of tokens that the server counted so far."""
        return self._connection.n_tokens

    def __repr__(self) -> str:
        return f"OpenAIClient({self.model!r}, base_url={self.base_url!r})"

    def __getstate__(self) -> dict[str, Any]:
        # The connection, which holds the key, is not pickled.
        left = ("_connection", "_lock", "_found")
        return {name: v for name, v in self.__dict__.items() if name not in left}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    @property
    def fingerprint(self) -> str:
        """Hash of address, model name and settings."""
        return text_key(
            str(self.base_url),
            self.model,
            self.interface,
            f"{self.top_logprobs}|{self.n_samples}",
            json.dumps(self.request_options, sort_keys=True),
        )[:16]

    @property
    def capabilities(self) -> frozenset[str]:
        """Methods that `PromptedLLM` may call; may send requests to find out."""
        return CAN[self._interface()]

    @property
    def fidelity(self) -> str:
        """Accuracy of the scores; may send requests to find out."""
        return FIDELITY[self._interface()]

    # Sending --------------------------------------------------------------------

    def _request(
        self,
        kind: str,
        body: dict[str, Any],
        read: Callable[[Sequence[Any]], Any],
        rows: int = 1,
    ) -> Request:
        body = {"model": self.model, "temperature": 0, **body, **self.request_options}
        body = {name: value for name, value in body.items() if value is not None}
        if kind == "chat" and self.base_url is None and "max_tokens" in body:
            body["max_completion_tokens"] = body.pop("max_tokens")
        name = getattr(read, "func", read).__name__
        given = getattr(read, "keywords", {})
        written = json.dumps([body, name, given], sort_keys=True)
        key = text_key(str(self.base_url), kind, written)
        return Request(key, kind, body, rows, read)

    def _queue(self, store: AnswerStore) -> RequestQueue:
        return RequestQueue(self._connection.send, store, self.n_concurrent)

    def _answers(
        self, requests: Sequence[Request], convert: Callable[[int, Any], Any]
    ) -> list[Any]:
        store = AnswerStore(get_config()["cache_dir"])
        try:
            found = self._queue(store).run(requests)
        except RowsFailedError as error:
            error.answers = [
                None if answer is None else convert(i, answer)
                for i, answer in enumerate(error.answers)
            ]
            raise
        finally:
            store.close()
        return [convert(i, answer) for i, answer in enumerate(found)]

    def _interface(self) -> str:
        """Return the interface in use; for ``"auto"``, find the first supported."""
        if self.interface != "auto":
            return self.interface
        with self._lock:
            if self._found is None:
                self._found = self._try_interfaces()
            return self._found

    def _try_interfaces(self) -> str:
        store = AnswerStore(get_config()["cache_dir"])
        key = text_key("interface", self.fingerprint)
        try:
            known = store.get(key)
            if known is not None:
                return str(known)
            found, sure = "text", True
            for name, request in (
                ("completions", self._echo_request("One two", [" three"])),
                ("chat", self._chat_request("Say yes.", answers.first_tokens)),
            ):
                try:
                    self._connection.send(request)
                except LanguageModelServerError as error:
                    # Errors for unsupported features differ between servers, so any
                    # error counts except those known to have other causes.
                    if error.kind in UNRELATED:
                        raise
                    sure = sure and error.kind not in PASSING
                    continue
                found = name
                break
            if sure:
                store.put(key, found)
            return found
        finally:
            store.close()

    # What to send ---------------------------------------------------------------

    def _echo_request(self, context: str, options: Sequence[str]) -> Request:
        whole = [context + option for option in options]
        # Some servers treat max_tokens=0 as no limit: generate one token, ignore it.
        body = {"prompt": whole, "max_tokens": 1, "echo": True, "logprobs": 1}
        read = partial(
            answers.continuation_scores, context=context, options=list(options)
        )
        return self._request("completions", body, read, len(options))

    def _chat_request(
        self,
        context: str,
        read: Callable[[Sequence[Any]], Any],
        max_tokens: int = ANSWER_TOKENS,
        **more: Any,
    ) -> Request:
        body = {
            "messages": [{"role": "user", "content": context}],
            "max_tokens": max_tokens,
            **more,
        }
        if read is answers.first_tokens:
            body |= {"logprobs": True, "top_logprobs": self.top_logprobs}
        return self._request("chat", body, read, more.get("n", 1))

    def _label_requests(
        self, contexts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[Request]:
        interface = self._interface()
        if interface == "completions":
            pairs = zip(contexts, continuations, strict=True)
            return [self._echo_request(context, options) for context, options in pairs]
        if interface == "chat":
            return [self._chat_request(c, answers.first_tokens) for c in contexts]
        more: dict[str, Any] = {}
        if interface == "samples":
            more = {"n": self.n_samples, "temperature": 1}
        return [self._chat_request(c, answers.said_texts, **more) for c in contexts]

    def _written_requests(
        self, prompts: Sequence[str], max_tokens: int
    ) -> list[Request]:
        if self._interface() == "completions":
            return [
                self._request(
                    "completions",
                    {"prompt": prompt, "max_tokens": max_tokens},
                    answers.continued_texts,
                )
                for prompt in prompts
            ]
        return [
            self._chat_request(prompt, answers.said_texts, max_tokens)
            for prompt in prompts
        ]

    def _need(self, capability: str) -> None:
        if capability not in self.capabilities:
            raise ClientCapabilityError(
                f"{self!r} cannot give {capability!r}: its interface is "
                f"{self._interface()!r}, its fidelity {self.fidelity!r}."
            )

    # Answers --------------------------------------------------------------------

    def score(
        self, contexts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[np.ndarray]:
        """Compute the log-likelihood of continuations given their contexts.

        Parameters
        ----------
        contexts : sequence of str of length n
            Contexts; one request is sent for each.
        continuations : sequence of sequences of str of length n
            For each context, the strings to score.

        Returns
        -------
        scores : list of ndarray
            One array per context, in nats, summed over all tokens of a string.
        """
        self._need("score")
        requests = self._label_requests(contexts, continuations)
        return self._answers(requests, lambda _, row: np.array(row))

    def score_text(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        """Compute the log-likelihood of whole texts given their first token.

        Parameters
        ----------
        texts : sequence of str
            The texts.

        Returns
        -------
        scores : list of (float, int)
            Log-likelihood in nats and the number of tokens it is summed over.
        """
        self._need("score_text")
        body = {"max_tokens": 1, "echo": True, "logprobs": 1}
        requests = [
            self._request(
                "completions",
                {"prompt": [text], **body},
                partial(answers.text_score, text=text),
            )
            for text in texts
        ]
        return self._answers(requests, lambda _, found: (found[0], int(found[1])))

    def bounds(
        self, contexts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Bound the probabilities that an answer starts with given strings.

        Parameters
        ----------
        contexts : sequence of str of length n
            User messages.
        continuations : sequence of sequences of str of length n
            For each context, the strings; case and surrounding spaces are ignored.

        Returns
        -------
        bounds : list of (ndarray, ndarray)
            Lower and upper bounds for the strings of each context.
        """
        self._need("bounds")
        return self._answers(
            self._label_requests(contexts, continuations),
            lambda i, answer: answers.label_bounds(answer, continuations[i]),
        )

    def frequencies(
        self, contexts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[list[str]]:
        """Sample ``n_samples`` answers to each context.

        Parameters
        ----------
        contexts : sequence of str of length n
            User messages.
        continuations : sequence of sequences of str of length n
            Ignored; the answers are not restricted to them.

        Returns
        -------
        texts : list of list of str
            The sampled answers to each context.
        """
        self._need("frequencies")
        requests = self._label_requests(contexts, continuations)
        return self._answers(requests, lambda _, texts: texts)

    def choose(
        self, contexts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[str]:
        """Generate an answer to each context at temperature 0.

        Parameters
        ----------
        contexts : sequence of str of length n
            User messages.
        continuations : sequence of sequences of str of length n
            Ignored; the answers are not restricted to them.

        Returns
        -------
        texts : list of str
            One answer per context.
        """
        self._need("choose")
        requests = self._label_requests(contexts, continuations)
        return self._answers(requests, lambda _, texts: texts[0])

    def generate(self, prompts: Sequence[str], max_tokens: int) -> list[str]:
        """Generate text for prompts at temperature 0.

        Parameters
        ----------
        prompts : sequence of str
            Texts to continue (``interface="completions"``), else user messages.
        max_tokens : int
            Maximum number of tokens to generate.

        Returns
        -------
        texts : list of str
            The generated texts.
        """
        requests = self._written_requests(prompts, max_tokens)
        return self._answers(requests, lambda _, texts: texts[0])

    def forecast(
        self, contexts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> dict[str, int]:
        """Estimate the cost of scoring continuations, without scoring them.

        Parameters
        ----------
        contexts : sequence of str of length n
            Contexts, as for the scoring method.
        continuations : sequence of sequences of str of length n
            For each context, the strings to score.

        Returns
        -------
        cost : dict of str to int
            ``requests``: number of requests to send; ``kept``: number of cached
            answers; ``tokens``: input tokens of the requests, at four characters each.
        """
        store = AnswerStore(get_config()["cache_dir"])
        try:
            requests = self._label_requests(contexts, continuations)
            missing = self._queue(store).missing(requests)
        finally:
            store.close()
        read = sum(
            len(str(r.body.get("prompt", r.body.get("messages")))) for r in missing
        )
        return {
            "requests": len(missing),
            "kept": len({request.key for request in requests}) - len(missing),
            "tokens": -(-read // CHARACTERS_PER_TOKEN),
        }
