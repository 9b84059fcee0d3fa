"""Connection to a server: API key, budget, and translation of errors."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from typing import Any

from ..._utils._optional import import_optional_dependency
from ...exceptions import BudgetExceededError, LanguageModelServerError
from ._request_queue import Request
from ._server_answers import checked_choices

NAMED = ("model", "prompt", "messages")
KINDS = {401: "key refused", 403: "key refused", 404: "not found"}


@dataclass(eq=False, repr=False)
class ServerConnection:
    """Sends requests through the package ``openai`` and checks the answers."""

    model: str
    base_url: str | None
    api_key_env: str | None
    timeout: float
    max_retries: int
    max_requests: int | None
    max_tokens: int | None
    n_requests: int = 0
    n_tokens: int = 0
    _client: Any = None
    _key: str | None = None
    _lock: Any = field(default_factory=threading.Lock)

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                if self.api_key_env is not None:
                    self._key = os.environ.get(self.api_key_env)
                    if not self._key:
                        raise LanguageModelServerError(
                            f"the variable {self.api_key_env} holds no key.",
                            "no key",
                            fatal=True,
                        )
                openai = import_optional_dependency(
                    "openai", "llm", "servers are reached through"
                )
                self._client = openai.OpenAI(
                    api_key=self._key or "none",
                    base_url=self.base_url,
                    timeout=self.timeout,
                    max_retries=self.max_retries,
                )
            return self._client

    def _spend(self) -> None:
        with self._lock:
            for name, used, most in (
                ("max_requests", self.n_requests, self.max_requests),
                ("max_tokens", self.n_tokens, self.max_tokens),
            ):
                if most is not None and used >= most:
                    raise BudgetExceededError(
                        f"the budget {name}={most} is spent ({used}): raise it, or "
                        "take fewer texts or prompts; forecast() counts beforehand."
                    )
            self.n_requests += 1

    def send(self, request: Request) -> Any:
        """Send one request and return its checked answer as JSON values."""
        client = self._connected()
        self._spend()
        ends = {"completions": client.completions, "chat": client.chat.completions}
        try:
            # Fields that the package does not know are passed on as extra_body.
            named = {k: v for k, v in request.body.items() if k in NAMED}
            more = {k: v for k, v in request.body.items() if k not in NAMED}
            response = ends[request.kind].create(**named, extra_body=more)
            usage = getattr(response, "usage", None)
            with self._lock:
                self.n_tokens += getattr(usage, "total_tokens", None) or 0
            return request.read(checked_choices(response, self.model, request.rows))
        except LanguageModelServerError as error:
            text = self._masked(str(error))
            fault = LanguageModelServerError(text, error.kind, fatal=error.fatal)
        except (AttributeError, TypeError, ValueError) as error:
            # The package does not validate the structure of answers.
            fault = LanguageModelServerError(
                f"the answer cannot be read: {self._masked(str(error))} "
                "[malformed answer]",
                "malformed answer",
            )
        except Exception as error:  # errors of the package, the network or the server
            fault = self._translated(error)
        # Raised outside of except, so that no chained exception exposes the key.
        raise fault

    def _masked(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text

    def _translated(self, error: Exception) -> LanguageModelServerError:
        status = getattr(error, "status_code", None)
        said = self._masked(str(error))
        kind = KINDS.get(status or 0, type(error).__name__)
        remedy = {
            "key refused": f" Remedy: check the variable {self.api_key_env}.",
            "not found": " Remedy: check model, base_url and interface.",
        }
        return LanguageModelServerError(
            f"model {self.model!r} at {self.base_url or 'OpenAI'}: "
            f"{type(error).__name__}: {said:.300} [{kind}]" + remedy.get(kind, ""),
            kind,
            fatal=status in KINDS,
        )
