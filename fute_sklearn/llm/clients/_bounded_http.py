"""HTTP client whose answers are limited in time and size."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

import openai

from ._key_mask import key_was_told, masked_body


def _http_package() -> Any:
    """Return the HTTP package that ``openai`` uses, which differs by its version."""
    parents = openai.DefaultAsyncHttpxClient.__mro__
    base = next(parent for parent in parents if parent.__name__ == "AsyncClient")
    return importlib.import_module(base.__module__.partition(".")[0])


httpx: Any = _http_package()
MOST_BYTES = 2**25  # of one answer, before and after decompression
SAID_HEADERS = ("content-type", "retry-after", "retry-after-ms", "x-should-retry")
PLAIN = ("", "identity", "gzip", "deflate")
# Headers that other servers than OpenAI get: the package adds those of variables that
# are meant for OpenAI.
SENT_HEADERS = {
    "accept",
    "accept-encoding",
    "connection",
    "content-length",
    "content-type",
    "host",
    "user-agent",
}


class BoundedClient(httpx.AsyncClient):  # type: ignore[misc, name-defined]
    """HTTP client that reads whole answers, within a time and a number of bytes.

    The time limits of httpx count between two pieces of an answer, so that a server
    which sends a byte now and then would never meet them.  Redirects are not followed,
    as they would send texts to other servers.

    Parameters
    ----------
    seconds : float
        Most time for one answer, from its request to its last byte.
    n_connections : int
        Most open connections.
    key : str or None
        The key, which is taken out of all answers.
    elsewhere : bool
        Whether the server is another one than OpenAI's.
    """

    def __init__(
        self, seconds: float, n_connections: int, key: str | None, elsewhere: bool
    ) -> None:
        super().__init__(
            timeout=seconds,
            follow_redirects=False,
            headers={"Accept-Encoding": "gzip, deflate"},
            limits=httpx.Limits(max_connections=n_connections),
        )
        self._seconds = seconds
        self._key = key
        self._elsewhere = elsewhere

    async def send(self, request: Any, **options: Any) -> Any:
        """Send a request and return its answer, read to the end, without the key."""
        if self._elsewhere:
            for name in set(request.headers) - SENT_HEADERS:
                del request.headers[name]
            request.headers["Authorization"] = f"Bearer {self._key or 'none'}"
        key_was_told.set(False)
        try:
            async with asyncio.timeout(self._seconds):
                response = await super().send(request, **{**options, "stream": True})
                try:
                    body = await _body(response)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise httpx.ReadTimeout(
                f"the answer was not complete after {self._seconds:g} s",
                request=request,
            ) from None
        headers = {n: v for n, v in response.headers.items() if n in SAID_HEADERS}
        if isinstance(body, str):
            return httpx.Response(
                413, json={"error": {"message": body}}, request=request
            )
        return httpx.Response(
            response.status_code,
            headers=headers,
            content=masked_body(body, self._key),
            request=request,
        )


async def _body(response: Any) -> bytes | str:
    """Return an answer's bytes, or what is wrong with them."""
    encoding = response.headers.get("content-encoding", "").lower()
    if encoding not in PLAIN:
        return f"the answer is compressed by {encoding!r:.40}, which was not asked for"
    parts, size = [], 0
    async for part in response.aiter_bytes():
        parts.append(part)
        size += len(part)
        if max(size, response.num_bytes_downloaded) > MOST_BYTES:
            return f"the answer is longer than {MOST_BYTES} bytes"
    return b"".join(parts)
