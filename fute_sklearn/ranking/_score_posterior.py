"""What is known of the true scores of ranked models."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm

from .._utils._table_attribute import TableAttribute

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.9
N_DRAWS = 4000
DRAW_SEED = 0
# Models that may be the best: those whose score reaches the others', with its spread.
MOST_CONTENDERS = 1000
CONTENDER_SPREAD = 3.0


@dataclass(frozen=True, eq=False)
class ScorePosterior(TableAttribute):
    """Joint normal distribution of the true scores of ranked models.

    It is in ``attrs["posterior"]`` of the table that `rank_models` returns.  Errors
    that models share, as those of the target's rows, cancel in comparisons.

    Parameters
    ----------
    names : tuple of str of length n_models
        Names of the models.
    mean : ndarray (n_models,)
        Expected scores, in the scorer's unit; NaN for models without one.
    covariance : ndarray (n_models, n_models)
        Covariance of the true scores.
    bounds : tuple of float, default=(-inf, inf)
        Lowest and highest score that the scorer can give, as far as they are known.

    Examples
    --------
    >>> import numpy as np
    >>> from fute_sklearn import ScorePosterior
    >>> spread = 0.0025 * np.eye(2)
    >>> found = ScorePosterior(("svm", "tree"), np.array([0.8, 0.7]), spread)
    >>> float(found.p_beats().loc["svm", "tree"].round(2))
    0.92
    >>> found.shortlist()
    ['svm']
    """

    names: tuple[str, ...]
    mean: np.ndarray
    covariance: np.ndarray
    bounds: tuple[float, float] = (-np.inf, np.inf)

    @property
    def deviation(self) -> np.ndarray:
        """Standard deviation of each model's true score (n_models,)."""
        return np.sqrt(np.clip(np.diag(self.covariance), 0, None))

    def interval(self, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of the models' central intervals.

        Parameters
        ----------
        level : float, default=0.9
            Probability that a true score lies within.

        Returns
        -------
        low, high : ndarray (n_models,)
            The ends, within the scorer's bounds; NaN for models without a score.

        Raises
        ------
        ValueError
            If ``level`` is not between 0 and 1.
        """
        half = norm.ppf((1 + checked_level(level)) / 2) * self.deviation
        ends = self.mean - half, self.mean + half
        return np.clip(ends[0], *self.bounds), np.clip(ends[1], *self.bounds)

    @cached_property
    def p_best(self) -> np.ndarray:
        """Probability of each model to have the highest true score (n_models,)."""
        out = np.zeros(len(self.names))
        known = np.flatnonzero(~np.isnan(self.mean))
        if not len(known):
            return out
        reach = CONTENDER_SPREAD * self.deviation[known]
        least = (self.mean[known] - reach).max()
        upper = self.mean[known] + reach
        known = known[upper >= least]
        known = known[np.argsort(-self.mean[known], kind="stable")[:MOST_CONTENDERS]]
        values, vectors = np.linalg.eigh(self.covariance[np.ix_(known, known)])
        factor = vectors * np.sqrt(np.clip(values, 0, None))
        rng = np.random.default_rng(DRAW_SEED)
        drawn = rng.standard_normal((N_DRAWS, len(known))) @ factor.T
        best = (self.mean[known] + drawn).argmax(1)
        out[known] = np.bincount(best, minlength=len(known)) / N_DRAWS
        return out

    def p_beats(self) -> pd.DataFrame:
        """Compute the probability of each model to have a higher score than another.

        Returns
        -------
        table : DataFrame (n_models, n_models)
            By model and by the other one; 0.5 in the diagonal, NaN for models without a
            score.
        """
        import pandas as pd

        variance = np.diag(self.covariance)
        spread = variance[:, None] + variance - 2 * self.covariance
        gap = self.mean[:, None] - self.mean
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = gap / np.sqrt(np.clip(spread, 0, None))
        ratio[(gap == 0) & (spread <= 0)] = 0
        np.fill_diagonal(ratio, np.where(np.isnan(self.mean), np.nan, 0.0))
        return pd.DataFrame(norm.cdf(ratio), index=self.names, columns=self.names)

    def shortlist(self, level: float = LEVEL) -> list[str]:
        """Return the smallest set of models that holds the best one.

        Parameters
        ----------
        level : float, default=0.9
            Probability that the set holds it.

        Returns
        -------
        names : list of str
            The models, most probably the best first; empty if none has a score.

        Raises
        ------
        ValueError
            If ``level`` is not between 0 and 1.
        """
        level = checked_level(level)
        order = np.argsort(-self.p_best, kind="stable")
        total = np.cumsum(self.p_best[order])
        if not total[-1]:
            return []
        count = int(np.searchsorted(total, level * total[-1] - 1e-12)) + 1
        return [self.names[i] for i in order[:count]]


def checked_level(level: float) -> float:
    """Return the probability of an interval, which lies between 0 and 1."""
    if not 0 < level < 1:
        raise ValueError(f"level={level!r}, expected a number between 0 and 1.")
    return float(level)
