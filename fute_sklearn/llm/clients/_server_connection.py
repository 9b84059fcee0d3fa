"""Connection to a server: API key, budget, and translation of errors."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ..._utils._optional import import_optional_dependency
from ...exceptions import BudgetExceededError, LanguageModelServerError
from ._call_history import History
from ._event_loop import ForkedLock
from ._key_mask import key_was_told, masked_text
from ._request import Request
from ._server_answers import checked_choices, fault

NAMED = ("model", "prompt", "messages")
KINDS = {
    401: "key refused",
    403: "key refused",
    404: "not found",
    405: "not found",
    413: "too long",
    502: "unavailable",
    503: "unavailable",
    504: "unavailable",
}
OPENAI = "api.openai.com"
FATAL = (401, 403, 404, 405)
CHARACTERS_PER_TOKEN = 4

Send = Callable[[Request], Awaitable[Any]]


@dataclass(eq=False, repr=False)
class ServerConnection:
    """Sends requests through the package ``openai`` and checks the answers."""

    model: str
    answer_names: tuple[str, ...]
    base_url: str | None
    api_key_env: str | None
    timeout: float
    max_retries: int
    n_concurrent: int
    budgets: Callable[[], dict[str, int | None]]
    n_requests: int = 0
    n_tokens: int = 0
    history: History = field(default_factory=History)
    _key: str | None = None
    _lock: ForkedLock = field(default_factory=ForkedLock)

    def _read_key(self) -> None:
        if self.api_key_env is None:
            return
        key = os.environ.get(self.api_key_env)
        if not key:
            raise LanguageModelServerError(
                f"the variable {self.api_key_env} holds no key.", "no key", fatal=True
            )
        if not key.isascii() or not key.isprintable() or " " in key:
            raise LanguageModelServerError(
                f"the key in the variable {self.api_key_env} has a line end, a blank "
                "or another character that no key has, probably from the file it was "
                "read from. Remedy: set the variable without it.",
                "malformed key",
                fatal=True,
            )
        self._key = key

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Send]:
        """Connect for some requests; yield the function that sends one."""
        self._read_key()
        openai = import_optional_dependency(
            "openai", "llm", "servers are reached through"
        )
        from ._bounded_http import BoundedClient, httpx

        try:
            made = openai.AsyncOpenAI(
                api_key=self._key or "none",
                base_url=self.base_url,
                max_retries=self.max_retries,
                http_client=BoundedClient(
                    self.timeout, self.n_concurrent, self._key, self._is_elsewhere()
                ),
            )
        except (
            ImportError,
            ValueError,
            httpx.InvalidURL,
        ) as error:  # of a proxy that cannot be used
            raise LanguageModelServerError(
                f"no connection can be made: {self._masked(str(error)):.200}. Remedy: "
                "check the proxies in the environment (HTTP_PROXY, ALL_PROXY, ...); "
                "NO_PROXY names hosts that need none. [no connection]",
                "no connection",
                fatal=True,
            ) from None
        async with made as client:

            async def send(request: Request) -> Any:
                return await self._send(client, request)

            yield send

    def _is_elsewhere(self) -> bool:
        """Return whether the server is another one than OpenAI's."""
        return self.base_url is not None and urlsplit(self.base_url).hostname != OPENAI

    def _spend(self) -> None:
        with self._lock:
            used_of = {"max_requests": self.n_requests, "max_tokens": self.n_tokens}
            for name, most in self.budgets().items():
                used = used_of[name]
                if most is not None and used >= most:
                    raise BudgetExceededError(
                        f"the budget {name}={most} is spent ({used}): raise it, or "
                        "take fewer texts or prompts; forecast() counts beforehand."
                    )
            self.n_requests += 1

    def _count(self, request: Request, response: Any) -> None:
        """Add the tokens that the server counted, or an estimate if it did not."""
        said = getattr(getattr(response, "usage", None), "total_tokens", None)
        if type(said) is not int or said < 1:
            said = characters(request) // CHARACTERS_PER_TOKEN + request.rows
        with self._lock:
            self.n_tokens += said

    async def _send(self, client: Any, request: Request) -> Any:
        """Send one request and return its checked answer as JSON values."""
        self._spend()
        try:
            response = await self._response(client, request)
            self._count(request, response)
            if request.kind == "tokenize":
                found = request.read(response)
            else:
                names = (self.model, *self.answer_names)
                choices = checked_choices(response, names, request.rows)
                found = request.read(response if request.whole else choices)
            if key_was_told.get():
                raise fault(
                    "key in answer",
                    "the answer contains the key, so it is not kept.",
                    fatal=True,
                )
            return found
        except asyncio.CancelledError:
            raise
        except LanguageModelServerError as error:
            text = self._masked(str(error))
            found_fault = LanguageModelServerError(text, error.kind, fatal=error.fatal)
        except (
            AttributeError,
            IndexError,
            KeyError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:
            # The package does not validate the structure of answers.
            found_fault = LanguageModelServerError(
                f"the answer cannot be read: {self._masked(str(error)):.300} "
                "[malformed answer]",
                "malformed answer",
            )
        except Exception as error:  # errors of the package, the network or the server
            found_fault = self._translated(error)
        # Raised outside of except, so that no chained exception exposes the key.
        raise found_fault

    async def _response(self, client: Any, request: Request) -> Any:
        if request.once:
            try:
                return await self._posted(client.with_options(max_retries=0), request)
            except Exception as error:
                # A limit of requests says nothing about this one.
                if getattr(error, "status_code", None) != 429 or not self.max_retries:
                    raise
        return await self._posted(client, request)

    async def _posted(self, client: Any, request: Request) -> Any:
        if request.kind == "tokenize":
            body = {n: v for n, v in request.body.items() if n != "path"}
            root = str(client.base_url).rstrip("/").removesuffix("/v1")
            return await client.post(
                root + request.body["path"], body=body, cast_to=object
            )
        ends = {"completions": client.completions, "chat": client.chat.completions}
        # Fields that the package does not know are passed on as extra_body.
        named = {k: v for k, v in request.body.items() if k in NAMED}
        more = {k: v for k, v in request.body.items() if k not in NAMED}
        return await ends[request.kind].create(**named, extra_body=more)

    def _masked(self, text: str) -> str:
        return masked_text(text, self._key)

    def _translated(self, error: Exception) -> LanguageModelServerError:
        status = getattr(error, "status_code", None)
        # The package tells what an error of the network was by its cause only, and what
        # the server said by the body, unless it is as OpenAI's.
        more = error.__cause__ if status is None else getattr(error, "body", None)
        told = str(error)
        if more and str(more) not in told:
            told += f" ({more})"
        said = self._masked(told)
        kind = KINDS.get(status or 0, type(error).__name__)
        remedy = {
            "key refused": f" Remedy: check the variable {self.api_key_env}."
            if self.api_key_env
            else " Remedy: api_key_env='NAME' of the variable that holds the key.",
            "not found": " Remedy: check model, base_url and interface.",
        }
        return LanguageModelServerError(
            f"model {self.model!r} at {self.base_url or 'OpenAI'}: "
            f"{type(error).__name__}: {said:.300} [{kind}]" + remedy.get(kind, ""),
            kind,
            fatal=status in FATAL,
        )


def characters(request: Request) -> int:
    """Count the characters that a request sends."""
    asked = request.body.get("prompt", request.body.get("messages", ""))
    return len(asked if isinstance(asked, str) else json.dumps(asked))
