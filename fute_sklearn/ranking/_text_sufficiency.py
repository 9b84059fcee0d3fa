"""Whether there are enough unlabelled texts for a stable ranking."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from .._utils._stack_level import find_stack_level
from ..embedders._moment_state import MomentState, fitted_to_target
from ..embedders._normal_equations import (
    FeatureSpace,
    FeatureSums,
    RidgeSolution,
    TargetSums,
)
from ..embedders._student import Predictions
from ..exceptions import UnlabelledTextsWarning
from ..metrics import spearman_score
from ..tasks._task import Task
from ._target_scorer import TargetScorer

N_PARTS = 8
LEAST_TEXTS = 64
ENOUGH = 0.9
PART_SEED = 0
SHOWN = 5
MOST_MODELS = 200  # whose order is compared for fewer texts than all


def learning_curve(
    encoded: Any,
    labelled: Sequence[Task],
    encoded_target: Any,
    scorer: TargetScorer,
    weights: np.ndarray,
    alpha: float | str,
) -> tuple[dict[int, float], np.ndarray | None]:
    """Compute split-half rank correlations of closed-form rankings, by number of texts.

    Two disjoint halves of the texts yield a ranking each.  The statistics of eight
    parts of the texts are computed once and merged for every size.

    Parameters
    ----------
    encoded : EncodedTexts
        The unlabelled texts.
    labelled : sequence of Task
        The models' labels of these texts, in the same order.
    encoded_target : EncodedTexts
        The target's texts.
    scorer : TargetScorer
        Scores a student on the target.
    weights : ndarray (n_samples,)
        Weights of the target's rows.
    alpha : float or "auto"
        The students' penalty.

    Returns
    -------
    curve : dict of int to float
        Correlation by number of texts: a quarter of them, half and all.  Of more than
        200 models, a quarter and half compare 200 that are drawn.  Empty with fewer
        than 64 texts or three models.
    halves : ndarray (2, n_models) or None
        The scores by either half of all texts; None with fewer than 64.
    """
    count = len(encoded)
    if count < LEAST_TEXTS:
        return {}, None
    order = np.random.default_rng(PART_SEED).permutation(count)
    features = encoded.pooled()[order]
    margins = [2.0 * task.targets.proba[order] - 1.0 for task in labelled]
    parts = []
    for rows in np.array_split(np.arange(count), N_PARTS):
        part = slice(rows[0], rows[-1] + 1)
        answers = TargetSums.of(features[part], [margin[part] for margin in margins])
        parts.append((FeatureSums.of(features[part]), answers))

    def scores(chosen: slice, models: np.ndarray) -> np.ndarray:
        sums = reduce(FeatureSums.merged, [part[0] for part in parts[chosen]])
        space = FeatureSpace.of(sums, "part")
        states = []
        for j in models:
            summed = reduce(TargetSums.merged, [p[1][j] for p in parts[chosen]])
            solution = RidgeSolution.of(space, summed)
            states.append(MomentState.of_alpha(solution, alpha))
        names = [labelled[j].targets.names for j in models]
        targets = scorer.task.targets
        fitted = fitted_to_target(states, names, encoded_target, targets, weights)
        return np.array(
            [
                _or_nan(scorer, n, state.log_proba(encoded_target, n))
                for n, state in zip(names, fitted, strict=True)
            ]
        )

    every = np.arange(len(labelled))
    drawn = np.random.default_rng(PART_SEED).permutation(every)[:MOST_MODELS]
    some = np.sort(drawn)
    curve, first, second = {}, None, None
    for share in (4, 2, 1) if len(labelled) > 2 else (1,):
        half = N_PARTS // share // 2
        models = every if share == 1 else some
        first, second = (
            scores(slice(start, start + half), models) for start in (0, half)
        )
        if len(labelled) > 2 and not np.isnan([*first, *second]).any():
            curve[2 * half * count // N_PARTS] = spearman_score(first, second)
    return curve, np.array([first, second])


def _or_nan(
    scorer: TargetScorer, names: tuple[str, ...], log_proba: np.ndarray
) -> float:
    try:
        return scorer.score(Predictions("label", names, log_proba))
    except Exception:  # a scorer may be anybody's; reported with the students
        return float("nan")


def stability_of(curve: dict[int, float]) -> float:
    """Return the expected rank correlation with a ranking by as many other texts.

    It follows from the correlation of two halves by the Spearman-Brown formula; NaN if
    the curve is empty.
    """
    if not curve:
        return float("nan")
    half = max(curve[max(curve)], 0.0)
    return 2 * half / (1 + half)


def warn_if_unstable(stability: float, n_texts: int) -> None:
    """Warn if the expected correlation with a ranking by other texts is below 0.9."""
    if stability < ENOUGH:
        warnings.warn(
            f"the unlabelled texts, {n_texts}, do not settle the order: as many others "
            "would give one that correlates with it at about "
            f"{stability:.2f}; more texts, which the models label, would settle it",
            UnlabelledTextsWarning,
            stacklevel=find_stack_level(),
        )


def warn_if_constant(names: Sequence[str], count: int) -> None:
    """Warn that some models' students answer alike to all texts of the target."""
    if names:
        warnings.warn(
            f"the unlabelled texts tell nothing of {len(names)} of {count} models, as "
            f"{list(names)[:SHOWN]}: their students give nearly the same answer to all "
            "of the target's texts, and are ranked by how often these models give each "
            "label. That is right for models that are constant; the remedy for others: "
            "more unlabelled texts, similar to the models' training texts",
            UnlabelledTextsWarning,
            stacklevel=find_stack_level(),
        )
