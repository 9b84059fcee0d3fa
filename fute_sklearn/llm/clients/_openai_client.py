"""Client of language models on OpenAI-compatible servers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from ..._utils._config import get_config
from ..._utils._store import text_key
from ...exceptions import (
    ClientCapabilityError,
    LanguageModelServerError,
    RowsFailedError,
)
from ._answer_store import AnswerStore
from ._event_loop import LOOP, ForkedLock
from ._label_requests import Offer
from ._named_labels import label_bounds
from ._request import Request
from ._request_queue import RequestQueue
from ._server_connection import CHARACTERS_PER_TOKEN, Send, ServerConnection, characters
from ._server_offer import UNRELATED, OfferFinder
from ._server_requests import RequestMaker

INTERFACES = ("completions", "chat", "samples", "text", "continued")
AUTO = ("completions", "chat", "text", "continued")
OFFER = "offer 3"  # version of what is tried, so that others are not taken for it
# What the ways of scoring can do, and how true the scores are.
CAN = {
    "echo": frozenset({"score", "score_text", "generate"}),
    "given": frozenset({"score", "generate"}),
    "forced": frozenset({"score", "generate"}),
    "spelled": frozenset({"score", "generate"}),
    "top-k": frozenset({"bounds", "generate"}),
    "chosen": frozenset({"choose", "generate"}),
    "samples": frozenset({"frequencies", "generate"}),
    "text": frozenset({"choose", "generate"}),
}
FIDELITY = {
    "echo": "echo",
    "given": "echo",
    "forced": "forced",
    "spelled": "spelled",
    "top-k": "top-k with bounds",
    "chosen": "labels only",
    "samples": "sampled",
    "text": "text only",
}
# Faults by which a server tells that it no longer offers what it was found to offer.
OUTDATED = {
    "no echo",
    "no logprobs",
    "no tokenizer",
    "not forced",
    "not found",
    "BadRequestError",
    "UnprocessableEntityError",
}


def _check_address(base_url: str) -> None:
    """Refuse an address that holds a secret, or none that can be asked."""
    try:
        parts = urlsplit(base_url)
        host, port = parts.netloc, parts.port
    except ValueError:  # a bracket or a port that is none, or a part of a password
        host, port = "@", None
    plain = base_url.startswith(("http://", "https://")) and base_url.isprintable()
    if base_url and (not plain or port == 0 or "@" in host or "?" in base_url):
        raise ValueError(
            "base_url is no plain address, or holds a user, a password or a query; "
            "expected one as 'http://localhost:8000/v1'. The key belongs into the "
            "environment variable that api_key_env names."
        )


class OpenAIClient:
    """Client of a language model on an OpenAI-compatible server.

    The server may be OpenAI, vLLM, llama-server, llama-cpp-python, ``transformers
    serve``, a proxy such as litellm, or another; requests are sent by the package
    ``openai``.  Before log-probabilities are trusted they are proved by two or three
    answered requests, beside those that find out what the server takes (up to about a
    dozen): the server must give the
    same number for a token that it generates and for one that it is given, find a
    likely text likelier than noise, and notice the order of words.  Every answer is
    validated and cached on disk when it arrives, so that a repeated or interrupted run
    does not send the same requests again; several processes share one job.

    Parameters
    ----------
    model : str
        Name of the model on the server.
    base_url : str, optional
        Address of the server, such as ``"http://localhost:8000/v1"``; by default the
        environment variable ``OPENAI_BASE_URL``, else that of OpenAI.
    answers_as : str or sequence of str, optional
        Other names by which the server may give the model in its answers, as proxies do
        for an alias.  The name asked for is always accepted, also with a provider's
        prefix, a date or a revision; an answer of any other model is an error.
    api_key_env : str, optional
        Name of the environment variable that holds the API key.  By default
        ``OPENAI_API_KEY`` for OpenAI and none for other servers, so that the key of
        OpenAI is not sent to them.  The key is read at the first request and is not
        part of the representation, logs, caches or pickles.
    interface : {"auto", "completions", "chat", "samples", "text", "continued"}, \
default="auto"
        How labels are scored.  ``"completions"``: by the exact likelihoods of their
        strings after the prompt, on servers that echo prompts with log-probabilities
        (vLLM) or can be made to generate given tokens (llama-server, llama-cpp-python,
        also behind a proxy) or to answer with a given string only (a list or grammar of
        the answers allowed); one request per string but for echoes.  ``"chat"``: of
        their strings as the answer to a message: exact on servers that tell how likely
        an answer is that they are given with the message (vLLM) or can be made to
        generate it, else bounds from the most likely first tokens, else only which
        label the server answers, if it can be restricted to them.  ``"samples"``: by
        their frequencies in ``n_samples`` sampled answers.  ``"text"``,
        ``"continued"``: only the label that the answer to a message, or the continued
        prompt, names is known; the answer is free.
        ``"auto"`` takes the first of completions, chat, text and continued that the
        server supports; it is cached, and looked for again by the next client if a
        better one was not found (404).
    top_logprobs : int, default=20
        Number of most likely first tokens to request, for ``"chat"``.
    n_samples : int, default=10
        Number of answers per text, sampled at temperature 1, for ``"samples"``.
    request_options : dict, optional
        Fields to set in every request, such as ``{"temperature": 0.5}``; the value None
        removes a field.  By default none is set.
    timeout : float, default=60.0
        Time to wait for a whole answer, in seconds.
    max_retries : int, default=5
        Number of times that a request is repeated after a rate limit, a time-out or a
        server error, with increasing pauses or those that the server requests, up to
        two minutes.
    n_concurrent : int, default=4
        Number of concurrent requests.
    max_requests, max_tokens : int, optional
        Budgets of this object, by default unlimited.  When one is used up, no further
        request is sent and `BudgetExceededError` is raised.  Cached answers do not
        count, repetitions of a request count once, and requests already sent may exceed
        ``max_tokens``.  Where the server counts no tokens, they are estimated.
    retry_failed : bool, default=False
        Whether to ask again for rows whose answer came, and was paid for, but tells
        nothing: refused, cut off, empty or withheld by a filter.  By default they fail
        again without a request.

    Attributes
    ----------
    capabilities : frozenset of str
        Methods that `PromptedLLM` may call.  But with the interfaces text and
        continued, the first use of it, of ``fidelity`` or of ``fingerprint`` sends
        requests.
    fidelity : {"echo", "forced", "spelled", "top-k with bounds", "labels only", \
"sampled", "text only"}
        Accuracy of the scores.  Echo: of the prompt with the label, in a chat with the
        label as the answer that the model is to go on with.  Spelled: of the tokens
        with which the server spells a label that is the only answer allowed, which may
        be others than the model's own for that string.
    fingerprint : str
        Hash of address, model name, settings and the interface that was found, which
        identifies cached predictions.
        Other weights under the same name on the server are not detected.
    interface_ : str
        The interface in use, found by requests if it is ``"auto"``.
    n_requests_, n_tokens_ : int
        Number of requests sent, and of tokens that the server counted for them.

    Raises
    ------
    ValueError
        If a parameter is invalid, or ``base_url`` holds a password or query.
    ClientCapabilityError
        By methods that the interface does not support.
    LanguageModelServerError
        By methods, if the server cannot be reached, offers none of the interfaces, its
        answers are invalid, or the first eight rows of a prompt fail alike (the first
        32 where others of the prompt were answered before), so that no more of them
        are sent.
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
        answers_as: str | Sequence[str] | None = None,
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
        retry_failed: bool = False,
    ) -> None:
        if interface != "auto" and interface not in INTERFACES:
            raise ValueError(
                f"interface={interface!r}, expected 'auto' or one of {INTERFACES}."
            )
        base_url = base_url or os.environ.get("OPENAI_BASE_URL")
        _check_address(base_url or "")
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
        self.answers_as = answers_as
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
        self.retry_failed = retry_failed
        self._start()

    def _start(self) -> None:
        names = self.answers_as or ()
        self._connection = ServerConnection(
            self.model,
            (names,) if isinstance(names, str) else tuple(names),
            self.base_url,
            self.api_key_env,
            self.timeout,
            self.max_retries,
            self.n_concurrent,
            lambda: {"max_requests": self.max_requests, "max_tokens": self.max_tokens},
        )
        self._make = RequestMaker(
            self.model,
            self.base_url,
            self.request_options,
            self.top_logprobs,
            self.n_samples,
        )
        self._found: Offer | None = None
        self._lock = ForkedLock()

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
        left = ("_connection", "_lock", "_found", "_make")
        return {name: v for name, v in self.__dict__.items() if name not in left}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def _settings_key(self) -> str:
        return text_key(
            str(self.base_url),
            self.model,
            self.interface,
            f"{self.top_logprobs}|{self.n_samples}",
            json.dumps(self.request_options, sort_keys=True),
        )

    @property
    def fingerprint(self) -> str:
        """Hash of address, model name, settings and interface; may send requests."""
        offer = self._offer()
        found = (offer.interface, offer.way, *filter(None, [offer.means]))
        return text_key(self._settings_key(), *found)[:16]

    @property
    def interface_(self) -> str:
        """Interface in use; may send requests to find out."""
        return self._offer().interface

    @property
    def capabilities(self) -> frozenset[str]:
        """Methods that `PromptedLLM` may call; may send requests to find out."""
        return CAN[self._offer().way]

    @property
    def fidelity(self) -> str:
        """Accuracy of the scores; may send requests to find out."""
        return FIDELITY[self._offer().way]

    # What the server offers -----------------------------------------------------

    def _offer(self) -> Offer:
        """Return the way of scoring; find and prove it on first use."""
        if self.interface in ("text", "continued"):
            return Offer(self.interface, "text")
        with self._lock, self._store() as store:
            if self._found is None:
                key = text_key(OFFER, self._settings_key())
                known = store.get(key)
                if known is None or not known["sure"]:
                    known = self._looked_up(known)
                    store.put(key, known)
                self._found = Offer(**known["offer"])
            return self._found

    def _looked_up(self, known: dict[str, Any] | None) -> dict[str, Any]:
        """Ask the server what it offers; if it cannot be asked, take what was found."""
        try:
            offer, sure = LOOP.run(self._look())
        except LanguageModelServerError as error:
            if known is None or error.kind not in UNRELATED:
                raise
            return known
        return {"offer": asdict(offer), "sure": sure}

    async def _look(self) -> tuple[Offer, bool]:
        names = AUTO if self.interface == "auto" else (self.interface,)
        async with self._connection.opened() as send:
            return await self._finder(send).first_of(names)

    def _finder(self, send: Send) -> OfferFinder:
        return OfferFinder(send, self._make.request, self.top_logprobs, self.n_samples)

    def _tokens(self, offer: Offer, options: Sequence[str]) -> dict[str, list[int]]:
        """Return the server's tokens of strings that it is made or given to answer."""
        with self._store() as store:
            keys = {
                option: text_key(
                    "tokens", self._settings_key(), offer.interface, offer.way, option
                )
                for option in options
            }
            known = {option: store.get(key) for option, key in keys.items()}
            missing = [option for option, found in known.items() if found is None]

            async def split() -> None:
                async with self._connection.opened() as send:
                    finder = self._finder(send)
                    for option in missing:
                        known[option] = await finder.option_tokens(offer, option)
                        store.put(keys[option], known[option])

            if missing:
                try:
                    LOOP.run(split())
                except LanguageModelServerError as error:
                    self._forget_if_outdated(error, store)
                    raise
        return known

    # Sending --------------------------------------------------------------------

    @contextmanager
    def _store(self) -> Iterator[AnswerStore]:
        store = AnswerStore(get_config()["cache_dir"])
        try:
            yield store
        finally:
            store.close()

    def _queue(self, store: AnswerStore) -> RequestQueue:
        return RequestQueue(
            self._connection, store, self.n_concurrent, self.retry_failed
        )

    def _answers(
        self,
        requests: Sequence[list[Request]],
        convert: Callable[[int, list[Any]], Any],
    ) -> list[Any]:
        """Return what ``convert`` makes of the answers to the requests of each row."""
        ends = np.cumsum([0, *map(len, requests)]).tolist()
        rows = [range(a, b) for a, b in zip(ends, ends[1:], strict=False)]

        def converted(found: Sequence[Any]) -> list[Any]:
            parts = [[found[at] for at in row] for row in rows]
            return [
                None if any(one is None for one in part) else convert(i, part)
                for i, part in enumerate(parts)
            ]

        with self._store() as store:
            try:
                found = self._queue(store).run(
                    [replace(r, row=i) for i, row in enumerate(requests) for r in row]
                )
            except RowsFailedError as error:
                failed = {
                    i: next(error.rows[at] for at in row if at in error.rows)
                    for i, row in enumerate(rows)
                    if any(at in error.rows for at in row)
                }
                raise RowsFailedError(
                    str(error), failed, converted(error.answers)
                ) from None
            except LanguageModelServerError as error:
                self._forget_if_outdated(error, store)
                raise
        return converted(found)

    def _forget_if_outdated(
        self, error: LanguageModelServerError, store: AnswerStore
    ) -> None:
        if error.kind in OUTDATED:
            self._found = None
            store.remove(text_key(OFFER, self._settings_key()))

    def _label_requests(
        self, contexts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[list[Request]]:
        offer = self._offer()
        tokens: dict[str, list[int]] = {}
        if offer.interface == "chat" and not all(
            option.strip() for row in continuations for option in row
        ):
            raise ValueError("a continuation is blank, which is no answer to a chat.")
        if offer.way in ("forced", "given"):
            options = {one for row in continuations for one in map(offer.scored, row)}
            tokens = self._tokens(offer, sorted(options))
        return self._make.labels(offer, contexts, continuations, tokens)

    def _need(self, capability: str) -> None:
        if capability not in self.capabilities:
            raise ClientCapabilityError(
                f"{self!r} cannot give {capability!r}: its interface is "
                f"{self.interface_!r}, its fidelity {self.fidelity!r}."
            )

    # Answers --------------------------------------------------------------------

    def score(
        self, contexts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[np.ndarray]:
        """Compute the log-likelihood of continuations given their contexts.

        Parameters
        ----------
        contexts : sequence of str of length n
            Contexts.
        continuations : sequence of sequences of str of length n
            For each context, the strings to score; one request is sent for each, but
            for echoed completions.

        Returns
        -------
        scores : list of ndarray
            One array per context, in nats, summed over all tokens of a string.
        """
        self._need("score")
        requests = self._label_requests(contexts, continuations)
        return self._answers(requests, lambda _, found: np.concatenate(found))

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
        requests = [[one] for one in self._make.texts(self._offer(), texts)]
        return self._answers(requests, lambda _, found: (found[0][0], int(found[0][1])))

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
        allowed = self._offer().means is not None
        return self._answers(
            self._label_requests(contexts, continuations),
            lambda i, found: label_bounds(found[0], continuations[i], allowed),
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
        return self._answers(requests, lambda _, found: sum(found, []))

    def choose(
        self, contexts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[str]:
        """Generate an answer to each context at temperature 0.

        Parameters
        ----------
        contexts : sequence of str of length n
            User messages.
        continuations : sequence of sequences of str of length n
            For each context, the only answers that are allowed where ``fidelity`` is
            ``"labels only"``; else ignored.

        Returns
        -------
        texts : list of str
            One answer per context.
        """
        self._need("choose")
        requests = self._label_requests(contexts, continuations)
        return self._answers(requests, lambda _, found: found[0][0])

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
        found = self._make.written(self._offer(), prompts, max_tokens)
        requests = [[one] for one in found]
        return self._answers(requests, lambda _, found: found[0][0])

    def forecast(
        self, contexts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> dict[str, int]:
        """Estimate the cost of scoring continuations, without scoring them.

        What the server offers, and the tokens of the strings where it is made to
        generate them, is asked for first, once; these requests are not in the estimate.

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
        groups = self._label_requests(contexts, continuations)
        requests = {one.key: one for row in groups for one in row}
        with self._store() as store:
            missing = self._queue(store).missing(list(requests.values()))
        return {
            "requests": len(missing),
            "kept": len(requests) - len(missing),
            "tokens": -(-sum(map(characters, missing)) // CHARACTERS_PER_TOKEN),
        }
