"""Task vectors in function space: margins on reference texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..tasks._targets import TargetSet
from ._moment_embedder import balanced_weights
from ._moment_state import DEFAULT_ALPHA
from ._normal_equations import FeatureSpace, FeatureSums, RidgeSolution, TargetSums
from ._student import StudentState

if TYPE_CHECKING:
    from .._engine import Encoded


def student_margins(
    state: StudentState, targets: TargetSet, anchors: Encoded
) -> np.ndarray:
    """Margins 2 P - 1 of each label, or standardised numbers, of a student (n, k)."""
    if targets.kind == "label":
        return 2 * np.exp(state.log_proba(anchors, targets.names)) - 1
    mean, spread = _mean_and_spread(targets.values)
    return ((state.predicted_numbers(anchors)[0] - mean) / spread)[:, None]


def data_set_margins(
    encoded: Encoded, targets: TargetSet, anchors: Encoded, class_weight: str | None
) -> np.ndarray:
    """Margins on the reference that follow from a data set's own moments (n, k).

    f(x) = phi(x)^T (C + alpha I)^(-1) mean[phi psi^T] + mean[psi^T], with C the second
    moment of the features over the reference.  The mean of its product with a model's
    margins, over the reference, estimates the model's mean margin on the data set.
    """
    features = anchors.pooled()
    space = FeatureSpace.of(FeatureSums.of(features), "reference")
    weights = None
    if targets.kind == "label":
        margins = 2.0 * targets.proba - 1.0
        if class_weight == "balanced":
            weights = len(targets) * balanced_weights(targets)
    else:
        mean, spread = _mean_and_spread(targets.values)
        margins = ((targets.values - mean) / spread)[:, None]
    sums = TargetSums.of(encoded.pooled(), [margins], weights)[0]
    solution = RidgeSolution.of(space, sums)
    moments = solution.cross + np.outer(solution.offset, solution.intercept)
    solved = moments / (space.values + DEFAULT_ALPHA)[:, None]
    return space.coordinates(features) @ solved + solution.intercept


def _mean_and_spread(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), max(float(values.std()), 1e-12)
