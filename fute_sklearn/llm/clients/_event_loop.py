"""An event loop in a thread of its own, for requests that can be cancelled at once."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Coroutine
from concurrent.futures import wait
from typing import Any, TypeVar

from ..._utils._interrupts import check_interrupt

T = TypeVar("T")
LOOK_SECONDS = 0.2
CANCEL_SECONDS = 1.0  # most time that cancelled requests may take to close


class EventLoop:
    """An event loop that any thread can run coroutines in, also notebooks' threads.

    It starts on first use.  A forked process has no threads, so it starts another one.
    """

    def __init__(self) -> None:
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                # A daemon, so that no request holds up the end of the process.
                threading.Thread(
                    target=self._loop.run_forever, name="fute_sklearn", daemon=True
                ).start()
            return self._loop

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and return its result; an interrupt here cancels it."""
        ended = threading.Event()

        async def watched() -> T:
            try:
                return await coroutine
            finally:
                ended.set()

        future = asyncio.run_coroutine_threadsafe(watched(), self._running())
        try:
            while not future.done():  # only between two waits is an interrupt noticed
                wait([future], LOOK_SECONDS)
                check_interrupt()
            return future.result()
        except BaseException:
            if future.cancel():
                ended.wait(CANCEL_SECONDS)
            raise


class ForkedLock:
    """A lock that is free in a forked process, whose other threads are gone."""

    def __init__(self) -> None:
        self._renew()
        _LOCKS.add(self)

    def _renew(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


_LOCKS: weakref.WeakSet[ForkedLock] = weakref.WeakSet()


def _renew_locks() -> None:
    for lock in list(_LOCKS):
        lock._renew()  # noqa: SLF001


os.register_at_fork(after_in_child=_renew_locks)


LOOP = EventLoop()
