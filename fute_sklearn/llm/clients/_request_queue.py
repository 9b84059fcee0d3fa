"""Send requests concurrently and cache every answer as soon as it arrives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ...exceptions import BudgetExceededError, LanguageModelServerError, RowsFailedError
from ._answer_store import AnswerStore

FAULTS_IN_A_ROW = 8
# Faults of single rows, which do not count towards FAULTS_IN_A_ROW.
OF_ROWS = {
    "BadRequestError",
    "UnprocessableEntityError",
    "content filter",
    "cut off",
    "empty answer",
    "malformed answer",
    "merged tokens",
    "refusal",
    "truncated",
}


@dataclass(frozen=True)
class Request:
    """A request, and the function that converts its answer to JSON values."""

    key: str
    kind: str
    body: dict[str, Any]
    rows: int
    read: Callable[[Sequence[Any]], Any]


class RequestQueue:
    """Answer requests from the store, and missing ones by concurrent ``send`` calls."""

    def __init__(
        self, send: Callable[[Request], Any], store: AnswerStore, n_concurrent: int
    ) -> None:
        self._send = send
        self._store = store
        self._n_concurrent = n_concurrent
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._faults = 0
        self._fatal: Exception | None = None

    def missing(self, requests: Sequence[Request]) -> list[Request]:
        """Return the distinct requests without a cached answer."""
        unique = {request.key: request for request in requests}
        return [r for key, r in unique.items() if self._store.get(key) is None]

    def run(self, requests: Sequence[Request]) -> list[Any]:
        """Return the answers in order.

        Raises
        ------
        LanguageModelServerError
            If an error would affect all requests, or too many failed in a row.
        BudgetExceededError
            If the budget is used up before the last request.
        RowsFailedError
            If some requests failed; it holds the answers to the others.
        """
        failed: dict[str, Exception] = {}
        with ThreadPoolExecutor(self._n_concurrent) as pool:
            waiting = [
                (request.key, pool.submit(self._answer, request))
                for request in self.missing(requests)
            ]
            try:
                for key, future in waiting:
                    error = future.result()
                    if error is not None:
                        failed[key] = error
            except BaseException:
                self._stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        answers = [self._store.get(request.key) for request in requests]
        known = sum(answer is not None for answer in answers)
        if self._fatal is not None:
            self._fatal.add_note(
                f"{known} of {len(requests)} answers are kept: the same call goes on "
                "from there."
            )
            raise self._fatal
        rows = {i: failed[r.key] for i, r in enumerate(requests) if r.key in failed}
        if rows:
            kinds = sorted({str(error) for error in rows.values()})
            raise RowsFailedError(
                f"{len(rows)} of {len(requests)} rows got no answer: "
                + " ".join(kinds[:3]),
                rows,
                answers,
            )
        return answers

    def _answer(self, request: Request) -> Exception | None:
        """Send a request and store its answer; return the error if it fails."""
        if self._stop.is_set():
            return None
        try:
            self._store.put(request.key, self._send(request))
        except (LanguageModelServerError, BudgetExceededError) as error:
            with self._lock:
                self._faults += getattr(error, "kind", "") not in OF_ROWS
                fatal = getattr(error, "fatal", True)
                if fatal or self._faults >= FAULTS_IN_A_ROW:
                    self._fatal = self._fatal or error
                    self._stop.set()
            return error
        with self._lock:
            self._faults = 0
        return None
