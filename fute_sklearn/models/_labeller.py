"""Ask a model for the labels of texts, in portions that are kept as they come."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._utils._interrupts import check_interrupt
from .._utils._stack_level import find_stack_level
from ..exceptions import BudgetExceededError, ModelLabelError, ModelLabelWarning
from ._kept_answers import KeptAnswers, answer_key
from ._model_answers import (
    ModelAnswers,
    checked_answers,
    in_rows_order,
    looks_one_vs_one,
    rows_of,
)
from .adapters._adapted import AdaptedModel
from .adapters._recorded import RecordedAnswers

SHOWN = 10


@dataclass(frozen=True)
class Labeller:
    """Asks one model by one method.

    Parameters
    ----------
    model : AdaptedModel
        The model.
    name : str
        Its name in messages.
    method : str
        Its response method.
    parser : callable or None
        Reads a label from what the model answers.
    drops : bool
        Whether texts on which the model fails are left out, instead of raising.
    batch_size : int
        Texts per call.
    max_seconds : float or None
        Most seconds that all calls may be forecast to take.
    abstention_label : object
        Label that stands for no answer.
    partly : bool
        Whether answers that exist already may lack some texts.
    """

    model: AdaptedModel
    name: str
    method: str
    parser: Callable[[str], Any] | None
    drops: bool
    batch_size: int
    max_seconds: float | None
    abstention_label: Any
    partly: bool

    def answers(
        self, X: Any, texts: list[str], content: Sequence[str], kept: KeptAnswers
    ) -> tuple[Sequence[int], ModelAnswers]:
        """Return the rows with an answer, and the answers.

        Each distinct content is asked for once.
        """
        if isinstance(self.model, RecordedAnswers):
            return range(len(texts)), self._recorded(X, texts)
        keys = [answer_key(one) for one in content]
        first: dict[str, int] = {}
        for i, key in enumerate(keys):
            first.setdefault(key, i)
        todo = [i for key, i in first.items() if key not in kept]
        start = time.monotonic()
        passing = bool(getattr(self.model.model, "failures_pass", False))
        try:
            for at in range(0, len(todo), self.batch_size):
                check_interrupt()
                part = todo[at : at + self.batch_size]
                for rows, found in self._ask(X, texts, part):
                    kept.add([keys[i] for i in rows], found, passing)
                self._check_time(at + len(part), len(todo), time.monotonic() - start)
        finally:
            kept.flush()
        rows = [i for i, key in enumerate(keys) if key in kept]
        if not rows:
            raise ModelLabelError(f"the model {self.name!r} failed on every text.")
        try:
            return rows, self._settled(
                kept.gather([keys[i] for i in rows], self.method == "predict_proba")
            )
        except (TypeError, ValueError) as error:
            raise ModelLabelError(
                f"the answers of the model {self.name!r} cannot be used: {error}"
            ) from error

    def _recorded(self, X: Any, texts: list[str]) -> ModelAnswers:
        assert isinstance(self.model, RecordedAnswers)
        try:
            found = self.model.answers_to(X, texts, self.method, self.partly)
            return self._settled(checked_answers(found, len(texts), self.method))
        except (TypeError, ValueError) as error:
            raise ModelLabelError(f"the model {self.name!r}: {error}") from error

    def _settled(self, answers: ModelAnswers) -> ModelAnswers:
        """Read labels from what the model answered, which is kept as it came."""
        labels = answers.values.ndim == 1
        if not labels or (self.parser is None and self.abstention_label is None):
            return answers
        pairs = zip(answers.values.tolist(), answers.abstained, strict=True)
        found = [None if none else value for value, none in pairs]
        if (parser := self.parser) is not None:
            try:
                found = [None if one is None else parser(str(one)) for one in found]
            except Exception as error:  # a parser may be anybody's
                raise ValueError(
                    f"the parser raised {type(error).__name__}: {error}"
                ) from error
        return checked_answers(found, len(found), self.method, self.abstention_label)

    def _check_time(self, done: int, count: int, seconds: float) -> None:
        if self.max_seconds is None or done == count:
            return
        forecast = seconds / done * count
        if forecast > self.max_seconds:
            raise ModelLabelError(
                f"the model {self.name!r} would take {forecast:.0f} s for {count} texts"
                f", more than max_seconds={self.max_seconds:g}; it is stopped after "
                f"{done}, whose answers are kept. Allow more, or give fewer texts."
            )

    def _ask(
        self, X: Any, texts: list[str], part: list[int]
    ) -> list[tuple[list[int], ModelAnswers]]:
        """Return answers with their rows: of the whole portion, or text by text."""
        try:
            return [(part, self._call(X, texts, part))]
        except ModelLabelError as error:
            if not self.drops or concerns_all_rows(error.__cause__):
                raise
            reason = error
        # Rows that the model itself names as failed are not asked again at once.
        known = getattr(reason.__cause__, "rows", {})
        rest = [i for at, i in enumerate(part) if at not in known]
        found = []
        for one in [rest] if known and rest else [[i] for i in rest]:
            try:
                found.append((one, self._call(X, texts, one)))
            except ModelLabelError as error:
                if concerns_all_rows(error.__cause__):
                    raise
                reason = error
        lost = sorted(set(part) - {i for rows, _ in found for i in rows})
        if lost:
            warnings.warn(
                f"{len(lost)} texts (rows {short(lost)}) are dropped: {reason}",
                ModelLabelWarning,
                stacklevel=find_stack_level(),
            )
        return found

    def _call(self, X: Any, texts: list[str], part: list[int]) -> ModelAnswers:
        """Call the model on some rows and check the result."""
        chunk = rows_of(X, texts, part)
        where = f"the model {self.name!r}, rows {part[0]} to {part[-1]}"
        try:
            found = self.model.answer(chunk, self.method)
        except Exception as error:  # a model may raise anything
            raise ModelLabelError(
                f"{where}: {self.method} raised {type(error).__name__}: {error}"
            ) from error
        try:
            found = in_rows_order(found, chunk)
            answers = checked_answers(found, len(part), self.method)
            if self.method == "decision_function":
                self._check_scores(answers.values, chunk)
        except (TypeError, ValueError) as error:
            raise ModelLabelError(f"{where}: {error}") from error
        return answers

    def _check_scores(self, scores: np.ndarray, chunk: Any) -> None:
        three = scores.ndim == 2 and scores.shape[1] == 3
        if not three or len(self.model.classes or ()) != 3:
            return
        if looks_one_vs_one(self.model.model, scores, chunk):
            raise ValueError(
                "decision_function gives a score for every pair of classes "
                "(one-vs-one), which ranks no class; set "
                "decision_function_shape='ovr', or use response_method='predict'."
            )


def concerns_all_rows(error: BaseException | None) -> bool:
    """Return whether an error means that further calls would fail as well."""
    return isinstance(error, BudgetExceededError) or getattr(error, "fatal", False)


def short(rows: Sequence[int]) -> str:
    """List the first rows."""
    shown = ", ".join(map(str, rows[:SHOWN]))
    return shown + (", ..." if len(rows) > SHOWN else "")
