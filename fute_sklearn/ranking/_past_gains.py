"""Scores of models from their gains on past tasks: a static part, and by similarity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SHARPNESS = (1.0, 4.0, 16.0)
LEAST_TASKS = 10  # fewer validate nothing: see benchmarks/past_tasks.py
MOST_TASKS = 2000  # that are left out in turn
MOST_WEIGHT = 2.0


@dataclass(frozen=True, eq=False)
class PastGains:
    """Gains of models on past tasks, and how far similar tasks tell more than all do.

    A model's score for a target is ``level`` (the mean gain) plus its ``static`` effect
    (how much better than the models' mean it was on past tasks), plus ``weight`` times
    what tasks similar to the target add to that.

    Parameters
    ----------
    centred : ndarray (n_tasks, n_models)
        Gains less each task's mean.
    level : float
        Mean gain.
    static : ndarray (n_models,)
        Mean of the centred gains.
    weight, sharpness : float
        The weight, 0 if similarity adds nothing, and the power of the similarities.
    errors : ndarray (n_left_out, n_models)
        Gains less predictions on past tasks that were left out in turn.
    static_errors : ndarray (n_left_out, n_models)
        The same with weight 0.
    """

    centred: np.ndarray
    level: float
    static: np.ndarray
    weight: float
    sharpness: float
    errors: np.ndarray
    static_errors: np.ndarray

    @classmethod
    def fit(
        cls, gains: np.ndarray, similarity: Callable[[np.ndarray], np.ndarray]
    ) -> PastGains:
        """Choose the weight by cross-validation over past tasks.

        Each task is predicted from the others.  Similarity counts only if it lowers the
        squared error by more than the standard error of this difference.
        ``similarity`` maps positions of tasks to their similarities (n, n_tasks), not
        negative, with all.
        """
        count = len(gains)
        levels = gains.mean(1)
        centred = gains - levels[:, None]
        static = centred.mean(0)
        rows = np.unique(np.linspace(0, count - 1, min(count, MOST_TASKS)).astype(int))
        if count < 2:
            nothing = np.zeros((0, gains.shape[1]))
            return cls(centred, levels.mean(), static, 0.0, 1.0, nothing, nothing)
        others = (count * static - centred[rows]) / (count - 1)
        rest = centred[rows] - others  # what a static list leaves
        off = levels[rows] - (levels.sum() - levels[rows]) / (count - 1)
        best = (0.0, 1.0, np.zeros_like(rest), 0.0)
        if count >= LEAST_TASKS:
            similar = similarity(rows)
            similar[np.arange(len(rows)), rows] = 0.0
            for sharpness in SHARPNESS:
                more = normalised(similar, sharpness) @ centred - others
                # Where no other task is similar, nothing is added.
                more[~(similar > 0).any(1)] = 0.0
                square = (more**2).sum()
                if not square > 0:  # as with one model
                    continue
                weight = float(np.clip((rest * more).sum() / square, 0, MOST_WEIGHT))
                found = (rest**2 - (rest - weight * more) ** 2).mean(1)
                saved = found.mean()
                error = found.std(ddof=1) / np.sqrt(len(found))
                if saved > max(error, best[3]):
                    best = (weight, sharpness, more, saved)
        weight, sharpness, more, _ = best
        static_errors = rest + off[:, None]
        errors = static_errors - weight * more
        return cls(
            centred,
            float(levels.mean()),
            static,
            weight,
            sharpness,
            errors,
            static_errors,
        )

    def scores(self, similar: np.ndarray) -> np.ndarray:
        """Predict gains (n, n_models) from similarities (n, n_tasks) to past tasks."""
        out = np.tile(self.level + self.static, (len(similar), 1))
        if self.weight:
            some = (similar > 0).any(1)
            weights = normalised(similar[some], self.sharpness)
            out[some] += self.weight * (weights @ self.centred - self.static)
        return out

    def half_widths(self, level: float) -> np.ndarray:
        """Half the widths (n_models,) of conformal intervals, which may be infinite."""
        count = len(self.errors)
        place = int(np.ceil((count + 1) * level)) - 1
        if place >= count:
            return np.full(len(self.static), np.inf)
        return np.sort(abs(self.errors), axis=0)[place]


def normalised(similar: np.ndarray, sharpness: float) -> np.ndarray:
    """Weights of tasks (n, n_tasks) by their similarities; rows sum to 1, or are 0."""
    most = similar.max(1, keepdims=True)
    weights = np.divide(similar, most, out=np.zeros_like(similar), where=most > 0)
    weights = weights**sharpness
    total = weights.sum(1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
