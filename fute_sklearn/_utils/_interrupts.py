"""Interrupts that reach the threads which work for the one that is interrupted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_stop: ContextVar[threading.Event | None] = ContextVar("stop", default=None)


@contextmanager
def stopped_by(stop: threading.Event) -> Iterator[None]:
    """Let what this thread does here end when ``stop`` is set."""
    token = _stop.set(stop)
    try:
        yield
    finally:
        _stop.reset(token)


def check_interrupt() -> None:
    """Raise KeyboardInterrupt if the thread that waits for this one was interrupted."""
    stop = _stop.get()
    if stop is not None and stop.is_set():
        raise KeyboardInterrupt
