"""Errors of students: as measured on a bed, and as past tasks show them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from ..embedders._student import Predictions
from ..tasks._task import Task
from ._target_scorer import TargetScorer

LEAST_MODELS = 3  # of a past task that tell of a straight line and what is beyond it
PRIOR_TASKS = 2.0  # past tasks that the measured errors count for
# Mean squares, over the models of a task where they were measured, of what slope and
# gain were found with: the spread of the expected scores, and what students gain by
# telling rows apart; as shares of the range, from the same script.
MEASURED_SPREAD = 0.7**2
MEASURED_GAIN = 0.095**2
SHOWN = 5


@dataclass(frozen=True)
class StudentErrors:
    """Errors of students as shares of the range from the prior's to a perfect score.

    The defaults are rounded from the root mean squares (and the mean gain) of what
    ``benchmarks/confidence.py --beds topics --first-seed 3 --seeds 4`` prints; the
    seeds 0 to 2 of this bed, and the other beds, are for checking them.

    Parameters
    ----------
    own : float
        What is left of true scores beyond a straight line through the expected ones.
    level : float
        How far the line lies above or below.
    slope : float
        By how much its slope differs from 1; it is no share.
    gain : float
        How many times as much as their students, who are less sure, models gain by
        telling rows apart; over all models and targets.  It is no share.
    """

    own: float = 0.07
    level: float = 0.085
    slope: float = 0.1
    gain: float = 1.7


MEASURED = StudentErrors()


@dataclass(frozen=True, eq=False)
class PastScores:
    """Scores of models on a past task.

    Parameters
    ----------
    true, expected, blind : ndarray (n_models,)
        True scores, those that the students expect, and those expected of answers with
        the students' frequencies on any row; NaN where one is not known.
    scale : float
        Range from the label prior's score to a perfect one.
    """

    true: np.ndarray
    expected: np.ndarray
    blind: np.ndarray
    scale: float

    def known(self) -> PastScores:
        """Return those of the models of which all is known."""
        rows = np.isfinite(self.true + self.expected + self.blind)
        return PastScores(
            self.true[rows], self.expected[rows], self.blind[rows], self.scale
        )


def errors_of(past: Sequence[PastScores], scale: float) -> StudentErrors:
    """Return the root mean squares of the errors on past tasks and the measured ones.

    The measured errors count as two tasks like those that they were measured on.  A
    past task counts less, by the squared ratio, if its range from the label prior's
    score to a perfect one is less than the target's, ``scale``: small errors are large
    shares of it.  Slope and gain count by the squares that they are found with.
    """
    some = [one for one in (given.known() for given in past) if len(one.true)]
    weights = [min(one.scale / scale, 1.0) ** 2 for one in some]
    level, own, slope, gain = (_Pooled() for _ in range(4))
    level.add(PRIOR_TASKS, MEASURED.level**2)
    own.add(PRIOR_TASKS, MEASURED.own**2)
    slope.add(PRIOR_TASKS * MEASURED_SPREAD, MEASURED.slope**2)
    gain.add(PRIOR_TASKS * MEASURED_GAIN, MEASURED.gain)
    for one, weight in zip(some, weights, strict=True):
        true, expected, blind = (
            values / one.scale for values in (one.true, one.expected, one.blind)
        )
        level.add(weight, float(np.mean(true - expected)) ** 2)
        seen = expected - blind
        if known := float(np.mean(seen**2)):
            gain.add(weight * known, float(np.mean((true - blind) * seen)) / known)
        if len(true) >= LEAST_MODELS:
            x, y = expected - expected.mean(), true - true.mean()
            spread = float(x @ x)
            steep = float(x @ y) / spread if spread else 0.0
            left = float(((y - steep * x) ** 2).sum()) / (len(y) - 2)
            own.add(weight, left)
            if spread:
                # Less what the models' own errors add to it on average.
                error = (steep - 1) ** 2 - left / spread
                slope.add(weight * spread / len(x), error)
    return StudentErrors(
        own=math.sqrt(own.mean),
        level=math.sqrt(level.mean),
        slope=math.sqrt(max(slope.mean, 0.0)),
        gain=max(gain.mean, 1.0),
    )


class _Pooled:
    """A weighted mean."""

    def __init__(self) -> None:
        self.total = self.weight = 0.0

    def add(self, weight: float, value: float) -> None:
        self.total += weight * value
        self.weight += weight

    @property
    def mean(self) -> float:
        return self.total / self.weight


def blind_scores(
    predictions: Iterable[Predictions], scorer: TargetScorer
) -> np.ndarray:
    """Expected scores of answers with the students' frequencies on any row."""
    out = []
    for one in predictions:
        shares = np.exp(one.values).mean(0, keepdims=True)
        rows = np.log(np.repeat(shares, len(one.values), axis=0))
        try:
            out.append(scorer.score(Predictions("label", one.names, rows)))
        except Exception:  # a scorer may be anybody's; it failed before, too
            out.append(np.nan)
    return np.array(out)


def checked_past(
    past: Any, target: Task, names: Sequence[str], scoring: Any
) -> list[tuple[Task, dict[str, float]]]:
    """Return past tasks with the true scores of models on them, by name.

    Raises
    ------
    TypeError
        If ``past`` holds no pairs of a Task and scores by name.
    ValueError
        If a task is the target or has other labels, no score is that of a model, or one
        is no finite number, stands twice, or is above a perfect one.
    """
    if isinstance(past, (str, bytes, Mapping)) or not isinstance(past, Iterable):
        raise TypeError(
            f"past is {repr(past)[:80]}; expected pairs (task, scores) in a list."
        )
    out: list[tuple[Task, dict[str, float]]] = []
    for i, pair in enumerate(past):
        whole = isinstance(pair, (tuple, list)) and len(pair) == 2
        task, scores = pair if whole else (None, None)
        by_name = hasattr(scores, "items") and not hasattr(scores, "columns")
        if not isinstance(task, Task) or not by_name:
            raise TypeError(
                f"past[{i}] is {repr(pair)[:80]}; expected a pair (task, scores) of a "
                "Task and a dict or Series of the models' true scores on it, by name."
            )
        _check_past_task(task, target, f"past[{i}]")
        best = perfect_score(TargetScorer(task, scoring))
        known = _checked_scores(scores, best, f"past[{i}]")
        if not set(known) & set(names):
            raise ValueError(
                f"past[{i}] has scores of {list(known)[:5]}, none of which is a model: "
                f"{list(names)[:5]}."
            )
        out.append((task, known))
    return out


def _check_past_task(task: Task, target: Task, place: str) -> None:
    if set(task.targets.names) != set(target.targets.names):
        raise ValueError(
            f"{place} has the labels {list(task.targets.names)}, the target "
            f"{list(target.targets.names)}; students' errors carry over between tasks "
            "of the same labels only. Leave it out, or name the labels that it lacks: "
            "Task(..., classes=[...])."
        )
    if task.text_key == target.text_key:
        raise ValueError(
            f"{place} has the target's own texts; scores that are known there need no "
            "ranking. Leave it out."
        )


def _checked_scores(scores: Any, best: float, place: str) -> dict[str, float]:
    known: dict[str, float] = {}
    for name, score in scores.items():
        number = isinstance(score, Real) and not isinstance(score, (bool, np.bool_))
        if not number or not np.isfinite(score):
            raise ValueError(
                f"{place} has the score {score!r} of {name!r}; expected a finite "
                "number. Leave models without a score out."
            )
        if score > best + 1e-6 * (1 + abs(best)):
            raise ValueError(
                f"{place} has the score {score!r} of {name!r}, which is above a "
                f"perfect one, {best:g}; give scores in the scorer's own unit."
            )
        if str(name) in known:
            raise ValueError(f"{place} has two scores of {str(name)!r}.")
        known[str(name)] = float(score)
    return known


def perfect_score(scorer: TargetScorer) -> float:
    """Score of answering every row rightly; infinite where the scorer fails on it."""
    try:
        return _score_of_truth(scorer)
    except Exception:  # a scorer may raise anything; reported with the students
        return math.inf


def check_scorer(target: Task, scoring: Any) -> None:
    """Refuse a scorer that fails on the target's own labels, before the work."""
    try:
        _score_of_truth(TargetScorer(target, scoring))
    except Exception as error:  # a scorer may raise anything
        raise ValueError(
            f"scoring={scoring!r} fails on the target's own labels, "
            f"{list(target.targets.names)[:SHOWN]}: {type(error).__name__}: {error}. "
            "'f1' and its like need the labels 0 and 1, where 'f1_macro' takes any; or "
            "give make_scorer(metric, pos_label=...)."
        ) from error


def _score_of_truth(scorer: TargetScorer) -> float:
    targets = scorer.task.targets
    rows = np.full(targets.proba.shape, 1e-9)
    rows[np.arange(len(rows)), targets.proba.argmax(1)] = 1.0
    return scorer.score(Predictions("label", targets.names, np.log(rows)))
