"""Send requests concurrently and cache every answer as soon as it arrives."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...exceptions import BudgetExceededError, LanguageModelServerError, RowsFailedError
from ._answer_store import LEASE_SECONDS, AnswerStore
from ._call_history import History
from ._event_loop import LOOP
from ._request import Request

if TYPE_CHECKING:
    from ._server_connection import Send, ServerConnection

FAULTS_IN_A_ROW = 8
FAULTS_AFTER_ANSWERS = 32  # the same where the prompt was answered before
WAIT_SECONDS = 0.2  # between two looks for an answer that another process asked for
# Faults of answers that came whole, so that they were paid for: they are kept.
PAID = {
    "content filter",
    "cut off",
    "empty answer",
    "merged tokens",
    "refusal",
    "truncated",
}
# Faults of single rows, which do not count once another row was answered.
OF_ROWS = PAID | {
    "BadRequestError",
    "UnprocessableEntityError",
    "malformed answer",
    "no label",
    "too long",
    "wide bounds",
}


@dataclass
class _Job:
    """What happened so far to the requests of one call.

    ``before`` are the families of which a request was answered before this call,
    ``answered`` those answered by it; ``own`` is the history of requests without the
    name of a prompt.
    """

    history: History
    call: int = field(init=False)
    before: set[str] = field(init=False)
    answered: set[str] = field(default_factory=set)
    answers: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, Exception] = field(default_factory=dict)
    own: History = field(default_factory=History)
    fatal: Exception | None = None

    def __post_init__(self) -> None:
        self.before = set(self.history.answered)
        self.history.n_calls += 1
        self.call = self.history.n_calls

    def note(self, request: Request, error: Exception | None) -> None:
        """Record a fault, or an answer; decide whether to stop."""
        kinds = self.history.kinds
        history = self.history if request.prompt else self.own
        alike = history.alike[request.prompt, request.part]
        if error is None:
            self.answered.add(request.family)
            history.answered.add(request.family)
            kinds.clear()
            alike.clear()
            return
        self.failed[request.key] = error
        kind = getattr(error, "kind", "")
        kinds[self.call, request.row] = alike[request.key] = kind
        if getattr(error, "fatal", True):
            self.fatal = self.fatal or error
            return
        others = sum(one not in OF_ROWS for one in kinds.values())
        if len(set(alike.values())) == 1 and len(alike) >= self._most(request):
            said = f"{len(alike)} rows in a row failed alike"
        elif others >= FAULTS_IN_A_ROW:
            said = f"{others} rows in a row failed"
        else:
            return
        self.fatal = self.fatal or LanguageModelServerError(
            f"{said}, so the others are not sent: {error}", kind, fatal=True
        )
        kinds.clear()
        alike.clear()  # the next call goes on with other rows

    def _most(self, request: Request) -> float:
        """Return how many first rows that fail alike stop the job."""
        if request.family in self.answered:
            return math.inf
        known = request.family in self.before
        return FAULTS_AFTER_ANSWERS if known else FAULTS_IN_A_ROW


class RequestQueue:
    """Answer requests from the store, and missing ones by concurrent requests.

    Processes that use the same store share the work: what one of them has asked for,
    the others wait for.

    Parameters
    ----------
    connection : ServerConnection
        Sends requests.
    store : AnswerStore
        Answers, failures that were paid for, and claims of requests in flight.
    n_concurrent : int
        Number of requests in flight.
    retry_failed : bool
        Whether failures that were paid for are asked for again.
    """

    def __init__(
        self,
        connection: ServerConnection,
        store: AnswerStore,
        n_concurrent: int,
        retry_failed: bool,
    ) -> None:
        self._connection = connection
        self._store = store
        self._n_concurrent = n_concurrent
        self._retry_failed = retry_failed

    def missing(self, requests: Sequence[Request]) -> list[Request]:
        """Return the distinct requests without a cached answer or failure."""
        unique = {request.key: request for request in requests}
        return [
            request
            for key, request in unique.items()
            if self._store.get(key) is None and self._failure(key) is None
        ]

    def _failure(self, key: str) -> LanguageModelServerError | None:
        if self._retry_failed:
            return None
        found = self._store.get(failure_key(key))
        return None if found is None else LanguageModelServerError(*found)

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
        job = _Job(self._connection.history)
        todo = self._begun(requests, job)
        if todo and job.fatal is None:
            LOOP.run(self._sent(todo, job))
        answers = [job.answers.get(request.key) for request in requests]
        if job.fatal is not None:
            known = sum(answer is not None for answer in answers)
            job.fatal.add_note(
                f"{known} of {len(requests)} answers are kept: the same call goes on "
                "from there."
                if self._store.lasts
                else f"{known} of {len(requests)} answers came, and are not kept, as "
                "cache_dir is None."
            )
            raise job.fatal
        rows = {
            i: job.failed[request.key]
            for i, request in enumerate(requests)
            if answers[i] is None
        }
        if rows:
            kinds = sorted({str(error) for error in rows.values()})
            raise RowsFailedError(
                f"{len(rows)} of {len(requests)} rows got no answer: "
                + " ".join(kinds[:3]),
                rows,
                answers,
            )
        return answers

    def _begun(self, requests: Sequence[Request], job: _Job) -> list[Request]:
        """Return the requests to send; note what is known of the others."""
        todo = []
        for request in {request.key: request for request in requests}.values():
            answer = self._store.get(request.key)
            failure = self._failure(request.key) if answer is None else None
            if failure is not None:
                job.failed[request.key] = failure
            elif answer is None:
                todo.append(request)
            else:
                job.answers[request.key] = answer
                if request.looked_at(answer) is None:
                    job.before.add(request.family)
        return todo

    async def _sent(self, requests: Sequence[Request], job: _Job) -> None:
        todo, elsewhere = deque(requests), deque[Request]()
        leases = asyncio.create_task(self._renew())
        try:
            async with self._connection.opened() as send:
                for queue in (todo, elsewhere):
                    async with asyncio.TaskGroup() as group:
                        for _ in range(min(self._n_concurrent, len(queue))):
                            group.create_task(self._work(send, queue, elsewhere, job))
        except ExceptionGroup as error:
            raise error.exceptions[0] from None
        finally:
            leases.cancel()
            with suppress(asyncio.CancelledError):
                await leases
            self._store.release()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            self._store.renew()

    async def _work(
        self, send: Send, queue: deque[Request], elsewhere: deque[Request], job: _Job
    ) -> None:
        """Send requests of a queue; those in flight elsewhere come last."""
        while queue and job.fatal is None:
            request = queue.popleft()
            if not self._store.claim(request.key):
                elsewhere.append(request)
                if queue is elsewhere:
                    await asyncio.sleep(WAIT_SECONDS)
                continue
            answer = self._store.get(request.key)
            failure = self._failure(request.key) if answer is None else None
            if answer is not None or failure is not None:  # another process was quicker
                if answer is not None:
                    job.answers[request.key] = answer
                job.note(request, failure or request.looked_at(answer))
                self._store.release(request.key)
                continue
            try:
                answer = await send(request)
            except (LanguageModelServerError, BudgetExceededError) as error:
                kind = getattr(error, "kind", "")
                if kind in PAID:
                    self._store.put(failure_key(request.key), [str(error), kind])
                job.note(request, error)
            else:
                job.answers[request.key] = answer
                self._store.put(request.key, answer)
                job.note(request, request.looked_at(answer))
            self._store.release(request.key)


def failure_key(key: str) -> str:
    """Return the key under which the failure of a request is kept."""
    return f"failed {key}"
