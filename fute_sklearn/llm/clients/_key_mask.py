"""Keeps an API key out of answers and messages."""

from __future__ import annotations

import json
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

LEAST_KEY = 8  # characters; shorter ones are no secrets, but "none" or "EMPTY"
MASK = "***"
# Whether the answer that was read last in this context held the key.
key_was_told: ContextVar[bool] = ContextVar("key_was_told", default=False)


def masked_text(text: str, key: str | None) -> str:
    """Return a text with a mask in place of the key."""
    return text.replace(key, MASK) if key and len(key) >= LEAST_KEY else text


def masked_body(body: bytes, key: str | None) -> bytes:
    """Return an answer with a mask in place of the key, also where JSON escapes it.

    Tells ``key_was_told`` whether it was there.
    """
    if key is None or len(key) < LEAST_KEY:
        return body
    plain = body.replace(key.encode(), MASK.encode())
    if b"\\" in plain:
        with suppress(ValueError, RecursionError):
            found = json.loads(plain)
            masked = _masked(found, key)
            if masked != found:
                plain = json.dumps(masked).encode()
    key_was_told.set(plain != body)
    return plain


def _masked(value: Any, key: str) -> Any:
    if isinstance(value, str):
        return value.replace(key, MASK)
    if isinstance(value, list):
        return [_masked(one, key) for one in value]
    if isinstance(value, dict):
        return {_masked(k, key): _masked(v, key) for k, v in value.items()}
    return value
