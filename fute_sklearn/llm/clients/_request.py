"""A request to a server of language models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...exceptions import LanguageModelServerError


@dataclass(frozen=True)
class Request:
    """A request, and the function that converts its answer to JSON values.

    ``check`` raises LanguageModelServerError for an answer that tells nothing; such an
    answer is kept, but a job whose first answers all are of this kind is stopped.
    ``family`` is the same for requests of which one sound answer shows that the others
    can be answered; later calls know of it if they are of a ``prompt`` with a name.
    ``row`` is the row that a request is for, and ``part`` its place among those of the
    row, if each scores a label of its own.  ``once`` requests are not repeated after a
    fault of the server.  ``read`` takes the choices of an answer, or the ``whole`` of
    it.
    """

    key: str
    kind: str
    body: dict[str, Any]
    rows: int
    read: Callable[[Any], Any]
    check: Callable[[Any], None] | None = None
    family: str = ""
    prompt: str = ""
    part: int = 0
    row: int = 0
    once: bool = False
    whole: bool = False

    def looked_at(self, answer: Any) -> LanguageModelServerError | None:
        """Return what is wrong with an answer, if anything."""
        if self.check is not None:
            try:
                self.check(answer)
            except LanguageModelServerError as error:
                return error
        return None
