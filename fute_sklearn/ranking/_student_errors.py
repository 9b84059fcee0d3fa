"""Errors of students: as measured on a bed, and as past tasks show them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..embedders._student import Predictions
from ..tasks._task import Task
from ._target_scorer import TargetScorer

LEAST_MODELS = 3  # of a past task that tell of a straight line and what is beyond it
PRIOR_TASKS = 2.0  # past tasks that the measured errors count for


@dataclass(frozen=True)
class StudentErrors:
    """Errors of students as shares of the range from the prior's to a perfect score.

    The defaults are rounded from what ``benchmarks/confidence.py`` prints for the
    targets of the bed "topics", seed 0; other beds are for checking them.

    Parameters
    ----------
    own : float
        What is left of true scores beyond a straight line through the expected ones.
    level : float
        How far the line lies above or below.
    slope : float
        By how much its slope differs from 1 (without films, where the expected scores
        hardly differ); it is no share.
    gain : float
        How many times as much as their students, who are less sure, models gain by
        telling rows apart; over all models and targets.  It is no share.
    """

    own: float = 0.08
    level: float = 0.1
    slope: float = 0.2
    gain: float = 1.75


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


def errors_of(past: Sequence[PastScores]) -> StudentErrors:
    """Return the root mean squares of the errors on past tasks and the measured ones.

    The measured errors count as two tasks; a slope counts by the spread of the expected
    scores that it was found with.
    """
    some = [one for one in (given.known() for given in past) if len(one.true)]
    level = [(np.mean(one.true - one.expected) / one.scale) ** 2 for one in some]
    seen = [one.expected - one.blind for one in some]
    gains = [
        float((one.true - one.blind) @ s) for one, s in zip(some, seen, strict=True)
    ]
    sizes = [float(s @ s) for s in seen]
    lines = [_line(one) for one in some if len(one.true) >= LEAST_MODELS]
    own = [left for left, _, _ in lines]
    spreads = [spread for _, _, spread in lines]
    slopes = [error * spread for _, error, spread in lines]
    return StudentErrors(
        own=math.sqrt(_shrunk(own, [1.0] * len(own), MEASURED.own**2)),
        level=math.sqrt(_shrunk(level, [1.0] * len(level), MEASURED.level**2)),
        slope=math.sqrt(_shrunk(slopes, spreads, MEASURED.slope**2)),
        gain=_shrunk(gains, sizes, MEASURED.gain),
    )


def _shrunk(sums: Sequence[float], weights: Sequence[float], prior: float) -> float:
    """Mean of values, given as their weighted sums, and the prior as two of them."""
    if not sum(weights):
        return prior
    own = PRIOR_TASKS * float(np.mean(weights))
    return float((sum(sums) + own * prior) / (sum(weights) + own))


def _line(one: PastScores) -> tuple[float, float, float]:
    """Variance beyond a line, squared error of its slope, and the spread behind it.

    Variance and spread are squared shares of the scale.
    """
    x = (one.expected - one.expected.mean()) / one.scale
    y = (one.true - one.true.mean()) / one.scale
    spread = float(x @ x)
    if spread == 0:
        return float(y @ y) / (len(y) - 1), 0.0, 0.0
    slope = float(x @ y) / spread
    left = float(((y - slope * x) ** 2).sum()) / (len(y) - 2)
    return left, max((slope - 1) ** 2 - left / spread, 0.0), spread


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


def checked_past(past: Any, target: Task) -> list[tuple[Task, Mapping[str, float]]]:
    """Return past tasks with the true scores of models on them, by name.

    Raises
    ------
    TypeError
        If a pair is none, or holds no Task or no scores by name.
    ValueError
        If a task has other labels than the target, or a score is no finite number.
    """
    out: list[tuple[Task, Mapping[str, float]]] = []
    for i, pair in enumerate(past):
        whole = isinstance(pair, (tuple, list)) and len(pair) == 2
        task, scores = pair if whole else (None, None)
        if not isinstance(task, Task) or scores is None or not hasattr(scores, "items"):
            raise TypeError(
                f"past[{i}] is {repr(pair)[:80]}; expected a pair (task, scores) of a "
                "Task and a dict or Series of the models' true scores on it, by name."
            )
        if set(task.targets.names) != set(target.targets.names):
            raise ValueError(
                f"past[{i}] has the labels {list(task.targets.names)}, the target "
                f"{list(target.targets.names)}; students' errors carry over between "
                "tasks of the same labels only. Leave it out."
            )
        known = {str(name): float(score) for name, score in scores.items()}
        if wrong := [name for name, score in known.items() if not np.isfinite(score)]:
            raise ValueError(
                f"past[{i}] has no finite score of {wrong[:5]}; leave these out."
            )
        out.append((task, known))
    return out
