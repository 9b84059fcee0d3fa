"""How sure a ranking is: what its scores may be wrong by, and what follows from it.

The true score of a model is its expected score plus errors of four kinds: of the
target's rows, which all models share; of the unlabelled texts; of the students, as
measured where the truth was known, or as past tasks show them; and these errors' common
part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from scipy.stats import chi2, norm

from .._utils._table_attribute import TableAttribute
from ..embedders._moment_embedder import MomentEmbedder
from ..embedders._student import Predictions
from ..tasks._task import Task
from ._baselines import ignorant_answers
from ._score_posterior import ScorePosterior
from ._student_errors import MEASURED, StudentErrors, blind_scores, perfect_score
from ._target_scorer import TargetScorer

ALIKE_SHARE = 0.5  # of a student's error that models share which answer alike
# Error of the texts where they are too few to be halved, as a share of the range from
# the label prior's score to a perfect one.
UNKNOWN_TEXTS_ERROR = 0.2
# Variance by which models differ from their students on labelled rows, over what the
# students' probabilities say, which are a little wrong on every row.  Chosen so that
# intervals with labelled rows hold on the bed of `StudentErrors`.
ROW_ERROR = 2.0
MORE_LIKELY_THAN_NOT = 0.5
# Models that may all be equal: as many as can be told to be so, and the test's level.
LEAST_ALIKE_MODELS, ALIKE_MODELS_LEVEL = 4, 0.95
SHOWN = 5


@dataclass(frozen=True)
class LabelledGroup:
    """Labelled rows that the same models answered.

    Parameters
    ----------
    models : ndarray of int (n_seen,)
        The models.
    count : int
        Number of the rows.
    gaps : ndarray (n_seen,)
        Scores on the rows, less those that the students expect on the same rows.
    """

    models: np.ndarray
    count: int
    gaps: np.ndarray


@dataclass(frozen=True, eq=False)
class Evidence(TableAttribute):
    """What the posterior of some models' scores is made of.

    Parameters
    ----------
    names : tuple of str
        The models.
    expected : ndarray (n_models,)
        Expected scores.
    predictions : sequence of Predictions
        The students', for the rows of the target.
    scorer : TargetScorer
        Scores them.
    halves : ndarray (2, n_models) or None
        Scores by either half of the unlabelled texts.
    alike : ndarray (n_models, n_models)
        Correlations of the models' answers.
    scale : float
        Range from the label prior's score to a perfect one.
    labelled : sequence of Task
        The unlabelled texts as the models labelled them.
    closed : MomentEmbedder
        Makes the closed-form students.
    label_names : dict of str to object
        What the models' labels are called in the target, or None.
    errors : StudentErrors
        By how much students are wrong.
    """

    names: tuple[str, ...]
    expected: np.ndarray
    predictions: Sequence[Predictions]
    scorer: TargetScorer
    halves: np.ndarray | None
    alike: np.ndarray
    scale: float
    labelled: Sequence[Task]
    closed: MomentEmbedder
    label_names: dict[str, Any] = field(default_factory=dict)
    errors: StudentErrors = MEASURED

    @cached_property
    def _deviations(self) -> np.ndarray:
        """Those of the models, and last of the answers that ignore the texts."""
        same = ignorant_answers(self.scorer).values()
        try:
            return self.scorer.deviations([*self.predictions, *same])
        except Exception:  # a scorer may fail on one answer to all rows
            found = self.scorer.deviations(self.predictions)
            return np.vstack([found, np.zeros((len(same), found.shape[1]))])

    @property
    def rows(self) -> np.ndarray:
        """Deviations by the target's rows; see `TargetScorer.deviations`."""
        return self._deviations[: len(self.predictions)]

    def lead_deviations(self, posterior: ScorePosterior, over: str) -> np.ndarray:
        """Deviations (n_models,) of scores less one of those of `ignorant_scores`.

        That one is known from the target's rows only, which it shares with the models.
        """
        place = [*ignorant_answers(self.scorer)].index(over)
        rows, same = self.rows, self._deviations[len(self.predictions) + place]
        variance = posterior.deviation**2 + same @ same - 2 * rows @ same
        return np.sqrt(np.maximum(variance, 0.0))

    @cached_property
    def row_covariance(self) -> np.ndarray:
        """Covariance of what a labelled row adds to the models' ``gaps``."""
        variance = self.scorer.answer_variances(self.predictions)
        if variance is None:
            variance = np.full(len(self.names), self.scale**2)
        spread = np.sqrt(ROW_ERROR * variance)
        return self.alike * np.outer(spread, spread)

    @cached_property
    def blind(self) -> np.ndarray:
        """Expected scores of answers with the students' frequencies on any row."""
        return blind_scores(self.predictions, self.scorer)

    def rises(self, labelled: Sequence[LabelledGroup] = ()) -> np.ndarray:
        """How far the models' true scores lie above the posterior's mean (n_models,).

        That is a share of what students gain by telling rows apart, over all models;
        no more than of a model's own gain, as one that tells none apart is known.
        Labelled rows show of it what they show of the scores.
        """
        gains = self.expected - self.blind
        known = gains[~np.isnan(gains)]
        usual = max(float(known.mean()), 0.0) if len(known) else 0.0
        rises = (self.errors.gain - 1) * np.clip(np.nan_to_num(gains), 0.0, usual)
        return self._combined(labelled)[2] @ rises

    @cached_property
    def bounds(self) -> tuple[float, float]:
        """Scores of answering every row wrongly, if that is known, and rightly.

        The lower one comes first, as there are scorers of errors.
        """
        linear, least = self.scorer.linear_loss(), -np.inf
        if linear is not None:
            # Without the rounding errors of a sum over the rows.
            least = round(linear.of(np.zeros(len(linear.losses))), 12) + 0.0
        best = perfect_score(self.scorer)
        return min(least, best), max(least, best)

    def posterior(self, labelled: Sequence[LabelledGroup] = ()) -> ScorePosterior:
        """Return the distribution of the true scores.

        The weights of labelled rows are the best for errors that models share evenly or
        have of their own; the covariance is that which these weights have under all
        errors, so that it does not rest on fine patterns of them.
        """
        mean, covariance, _ = self._combined(labelled)
        return ScorePosterior(
            self.names, mean, (covariance + covariance.T) / 2, self.bounds
        )

    def _combined(
        self, labelled: Sequence[LabelledGroup]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return mean and covariance of the true scores, and what is left of errors.

        The last (n_models, n_models) is 1 without labelled rows.
        """
        count = len(self.names)
        own = ALIKE_SHARE * self.alike + (1 - ALIKE_SHARE) * np.eye(count)
        each, shared = self._texts_error()
        shared += (self.errors.level * self.scale) ** 2
        known = ~np.isnan(self.expected)
        centred = np.where(known, self.expected, 0.0)
        centred[known] -= centred[known].sum() / max(known.sum(), 1)
        common = shared + self.errors.slope**2 * np.outer(centred, centred)
        common += each * np.eye(count)
        variance = (self.errors.own * self.scale) ** 2
        covariance = self.rows @ self.rows.T + common + variance * own
        simple = common + variance * np.eye(count)
        mean, left = self.expected, np.eye(count)
        for group in labelled:
            seen, identity = group.models, np.eye(count)
            noise = self.row_covariance[np.ix_(seen, seen)] / group.count
            total = simple[np.ix_(seen, seen)] + _even(noise)
            weights = np.linalg.solve(total, simple[seen]).T
            found = self.expected[seen] + group.gaps
            mean = mean + weights @ (found - mean[seen])
            kept = identity.copy()
            kept[:, seen] -= weights
            covariance = kept @ covariance @ kept.T + weights @ noise @ weights.T
            simple, left = kept @ simple, kept @ left
        return mean, covariance, left

    def _texts_error(self) -> tuple[float, float]:
        """Variances by other unlabelled texts: of each model alone, and shared."""
        if self.halves is None or not np.isfinite(self.halves).all():
            return (UNKNOWN_TEXTS_ERROR * self.scale) ** 2, 0.0
        gap = self.halves[0] - self.halves[1]
        return float(gap.var() / 4), float(gap.mean() ** 2 / 4)


def _even(covariance: np.ndarray) -> np.ndarray:
    """Return the covariance with equal entries of the same mean off the diagonal."""
    count = len(covariance)
    total = covariance.sum() - np.trace(covariance)
    shared = max(total / max(count * (count - 1), 1), 0.0)
    own = np.clip(np.diag(covariance) - shared, 1e-12, None)
    return np.diag(own) + shared


def correlations(labelled: Sequence[Task]) -> np.ndarray:
    """Compute the correlations of models' answers over the same texts.

    Answers are vectors of label probabilities; models with other texts than most have
    the correlation 0 with all.
    """
    keys = [task.text_key for task in labelled]
    most = max(set(keys), key=keys.count)
    columns = list(dict.fromkeys(n for task in labelled for n in task.targets.names))
    out = np.eye(len(labelled))
    rows = [i for i, key in enumerate(keys) if key == most]
    gram = np.zeros((len(rows), len(rows)))
    for name in columns:
        block = np.array(
            [
                labelled[i].targets.proba[:, labelled[i].targets.names.index(name)]
                if name in labelled[i].targets.names
                else np.zeros(labelled[i].n_samples)
                for i in rows
            ],
            dtype=np.float32,
        )
        block -= block.mean(1, keepdims=True)
        gram += block @ block.T
    spread = np.sqrt(np.diag(gram))
    scale = np.outer(spread, spread)
    found = np.divide(gram, scale, out=np.zeros_like(gram), where=scale > 0)
    np.fill_diagonal(found, 1.0)
    out[np.ix_(rows, rows)] = found
    return out


def range_of(scorer: TargetScorer, prior_score: float) -> float:
    """Range from the label prior's score to a perfect one; 1 where one is not known."""
    found = abs(perfect_score(scorer) - prior_score)
    return float(found) if np.isfinite(found) and found > 0 else 1.0


def drawn_together(posterior: ScorePosterior) -> np.ndarray:
    """Return the means (n_models,), drawn to their mean where they differ by chance.

    The best of many equal models seems better than it is.  Where the means spread no
    more than their errors alone would make them (chi-squared test), differences are
    multiplied by the positive part of James and Stein's factor (Efron and Morris 1973).
    """
    known = ~np.isnan(posterior.mean)
    count = int(known.sum())
    if count < LEAST_ALIKE_MODELS:
        return posterior.mean
    centred = posterior.mean[known] - posterior.mean[known].mean()
    covariance = posterior.covariance[np.ix_(known, known)]
    error = (np.trace(covariance) - covariance.sum() / count) / (count - 1)
    spread = centred @ centred / (count - 1)
    limit = chi2.ppf(ALIKE_MODELS_LEVEL, count - 1) / (count - 1)
    if spread <= 0 or spread > limit * error:
        return posterior.mean
    share = max(1 - (count - 3) / (count - 1) * error / spread, 0.0)
    out = posterior.mean.copy()
    out[known] += (share - 1) * centred
    return out


def verdict(
    posterior: ScorePosterior,
    ignorant: float,
    rises: np.ndarray | float = 0.0,
    deviations: np.ndarray | None = None,
    than: str = "the majority class",
) -> str:
    """Say in words which model may be taken.

    The best model's lead is drawn to that of all where these may well be equal.
    ``ignorant`` is the score of the best answer that ignores the texts, ``than`` its
    name; ``rises`` (n_models,) are how far true scores lie above the expected ones;
    ``deviations`` (n_models,) are those of the models' leads over that score.
    """
    if np.isnan(posterior.mean).all():
        return "no model has a score"
    leads = drawn_together(posterior) + rises - ignorant
    first = best = int(np.nanargmax(posterior.mean))
    if leads[first] <= 0:  # as of one that is sure of what it says on every row
        best = int(np.nanargmax(leads))
    gap = leads[best]
    spread = (posterior.deviation if deviations is None else deviations)[best]
    sure = float(norm.cdf(gap / max(spread, 1e-12)))
    chosen = posterior.shortlist()
    if sure < MORE_LIKELY_THAN_NOT:
        alike = (
            f"; {len(chosen)} models cannot be told apart" if len(chosen) > 1 else ""
        )
        return (
            f"none is better than {than}, as far as can be told: the best, "
            f"{posterior.names[best]!r}, is so with probability {sure:.2f}{alike}"
        )
    better = ""
    if not np.isnan(sure):
        which = "the best" if best == first else repr(posterior.names[best])
        better = f" ({which} beats {than} with probability {sure:.2f})"
    if len(chosen) == 1:
        return f"take {chosen[0]!r}{better}"
    shown = ", ".join(map(repr, chosen[:SHOWN]))
    more = ", ..." if len(chosen) > SHOWN else ""
    return f"these {len(chosen)} cannot be told apart: {shown}{more}{better}"
