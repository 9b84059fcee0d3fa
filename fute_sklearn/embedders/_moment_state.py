"""State of closed-form students (ridge regression), and the choice of the penalty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..tasks._targets import TargetSet
from ._normal_equations import RidgeSolution, functional_errors, least_error_alpha
from ._student import no_answers

if TYPE_CHECKING:
    from .._engine import Encoded

LEAST_PROBABILITY = 1e-3
DEFAULT_ALPHA = 0.1


def fixed_alpha(alpha: Any) -> float:
    """Penalty for embeddings and for students that no target tunes; 0.1 for "auto"."""
    return DEFAULT_ALPHA if alpha == "auto" else float(alpha)


@dataclass
class MomentState:
    """A ridge regression of the targets on text features.

    Attributes
    ----------
    solution : RidgeSolution or None
        Solutions for all penalties, of the targets 2 P - 1 (n_classes columns; P are
        the class probabilities) or of standardised numbers; None for free texts.
    alpha : float
        The penalty in use.
    chosen : bool
        Whether `fitted_to_target` may replace the penalty.
    scale : tuple of float
        Mean and standard deviation of the numbers.
    """

    solution: RidgeSolution | None
    alpha: float
    chosen: bool = False
    scale: tuple[float, float] = (0.0, 1.0)

    @classmethod
    def of_alpha(cls, solution: RidgeSolution | None, alpha: Any) -> MomentState:
        """Create a state from an embedder's parameter ``alpha``."""
        return cls(solution, fixed_alpha(alpha), chosen=alpha == "auto")

    def _solved(self, kind: str) -> RidgeSolution:
        if self.solution is None:
            raise no_answers("MomentEmbedder", kind)
        return self.solution

    def _predicted(self, encoded: Encoded, kind: str) -> np.ndarray:
        solution = self._solved(kind)
        return solution.predicted(
            solution.space.coordinates(encoded.pooled()), self.alpha
        )

    def features(self, encoded: Encoded) -> np.ndarray:
        """Standardised mean token states (n, d_model)."""
        space = self._solved("text").space
        return space.standardised(encoded.pooled()).astype(np.float32)

    def log_proba(self, encoded: Encoded, names: tuple[str, ...]) -> np.ndarray:
        """Log-probabilities of the labels (n, n_classes)."""
        # Least squares on targets +1 and -1 estimates 2 P - 1.
        share = (1 + self._predicted(encoded, "label")) / 2
        share = np.clip(share, LEAST_PROBABILITY, 1)
        return np.log(share / share.sum(1, keepdims=True))

    def predicted_numbers(self, encoded: Encoded) -> tuple[np.ndarray, np.ndarray]:
        """Numbers and their standard deviations, (n,) each."""
        mean, spread = self.scale
        values = mean + spread * self._predicted(encoded, "number")[:, 0]
        noise = max(float(self._solved("number").noise[0, 0]), 0.0)
        return values, np.full(len(values), spread * np.sqrt(noise))

    def texts(self, encoded: Encoded) -> np.ndarray:
        """Raise AttributeError: free texts cannot be predicted in closed form."""
        raise no_answers("MomentEmbedder", "text")

    def log_likelihood(self, encoded: Encoded, texts: Sequence[str]) -> np.ndarray:
        """Raise AttributeError: ridge regression defines no likelihood of targets."""
        raise AttributeError(
            "MomentEmbedder gives no likelihood to targets that are no labels; "
            "TuPaTEEmbedder does."
        )


def fitted_to_target(
    states: Sequence[MomentState],
    names: Sequence[tuple[str, ...]],
    encoded: Encoded,
    targets: TargetSet,
    weights: np.ndarray,
) -> list[MomentState]:
    """Return states with the penalty chosen for a target task.

    The expected score of a student, the mean margin of the true label with ``weights``
    (n,) of the target's rows, is linear in the student's weights.  The penalty
    minimises the estimated squared error of this score, averaged over the states that
    share their texts and hence the penalty.
    """
    out = list(states)
    truth = targets.proba.argmax(1)
    groups: dict[int, list[int]] = {}
    for i, state in enumerate(states):
        # With fewer texts than features nothing says how biased a penalty is.
        if state.chosen and state.solution is not None and state.solution.determined:
            groups.setdefault(id(state.solution.space), []).append(i)
    pooled = encoded.pooled() if groups else np.empty(0)
    for rows in groups.values():
        first = states[rows[0]].solution
        assert first is not None
        weighed = (first.space.coordinates(pooled) - first.offset) * weights[:, None]
        alike: dict[tuple[str, ...], list[RidgeSolution]] = {}
        for i in rows:
            solution = states[i].solution
            assert solution is not None
            alike.setdefault(names[i], []).append(solution)
        errors: list[np.ndarray] = []
        for own, solutions in alike.items():
            wanted = [[targets.names[t] == n for n in own] for t in truth]
            moments = weighed.T @ np.array(wanted, dtype=np.float64)
            errors.extend(functional_errors(solutions, moments))
        alpha = least_error_alpha(errors)
        for i in rows:
            out[i] = replace(states[i], alpha=alpha)
    return out
