"""Ridge regression from sufficient statistics: sums, eigenvectors and solutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEAST_SPREAD = 1e-6
# Penalties of the reference solution for bias estimates, and of the noise estimate.
UNBIASED_ALPHA = 3e-3
NOISE_ALPHA = 0.1
ALPHAS = tuple(np.geomspace(0.01, 10, 13).tolist())


@dataclass(frozen=True, eq=False)
class FeatureSums:
    """Count, mean and scatter matrix (d, d) of features, in double precision.

    Statistics of disjoint parts of the texts can be merged into those of all texts.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> FeatureSums:
        """Compute the statistics of features (n, d)."""
        rows = np.asarray(features, dtype=np.float64)
        mean = rows.mean(0)
        rows = rows - mean
        return cls(len(rows), mean, rows.T @ rows)

    def merged(self, other: FeatureSums) -> FeatureSums:
        """Return the statistics of the union of both parts."""
        count = self.count + other.count
        shift = other.mean - self.mean
        mean = self.mean + shift * (other.count / count)
        between = np.outer(shift, shift) * (self.count * other.count / count)
        return FeatureSums(count, mean, self.scatter + other.scatter + between)


@dataclass(frozen=True, eq=False)
class TargetSums:
    """Mean and scatter (k, k) of a task's targets, and cross products (d, k).

    ``cross`` holds the centred products of the features and the targets of the rows.
    """

    count: float
    feature_mean: np.ndarray
    mean: np.ndarray
    cross: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(
        cls,
        features: np.ndarray,
        targets: Sequence[np.ndarray],
        weights: np.ndarray | None = None,
    ) -> list[TargetSums]:
        """Compute the statistics of several tasks' targets (n, k) and features (n, d).

        ``weights`` (n,) of the rows are 1 by default.
        """
        rows = np.asarray(features, dtype=np.float64)
        weights = np.ones(len(rows)) if weights is None else weights
        count = float(weights.sum())
        feature_mean = weights @ rows / count
        rows = (rows - feature_mean) * weights[:, None]
        widths = np.cumsum([0, *(block.shape[1] for block in targets)])
        stacked = np.empty((len(rows), widths[-1]))
        np.concatenate(targets, axis=1, out=stacked)
        means = weights @ stacked / count
        stacked -= means
        cross = rows.T @ stacked
        out = []
        for start, stop in zip(widths[:-1], widths[1:], strict=True):
            block = stacked[:, start:stop]
            out.append(
                cls(
                    count,
                    feature_mean,
                    means[start:stop],
                    cross[:, start:stop],
                    block.T @ (block * weights[:, None]),
                )
            )
        return out

    def merged(self, other: TargetSums) -> TargetSums:
        """Return the statistics of the union of both parts."""
        count = self.count + other.count
        part = self.count * other.count / count
        shift = other.feature_mean - self.feature_mean
        rise = other.mean - self.mean
        share = other.count / count
        return TargetSums(
            count,
            self.feature_mean + shift * share,
            self.mean + rise * share,
            self.cross + other.cross + np.outer(shift, rise) * part,
            self.scatter + other.scatter + np.outer(rise, rise) * part,
        )


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """Standardisation of features and eigenvectors of their second moment.

    Attributes
    ----------
    mean, spread : ndarray (d,)
        Mean and standard deviation of the features.
    axes : ndarray (d, d)
        Eigenvectors of the standardised features' second moment, as columns.
    values : ndarray (d,)
        Its eigenvalues.
    name : str
        Hash of what the space was computed from.
    count : float
        Number of texts that it was computed from; infinite where that is not known.
    """

    mean: np.ndarray
    spread: np.ndarray
    axes: np.ndarray
    values: np.ndarray
    name: str
    count: float

    @classmethod
    def of(cls, sums: FeatureSums, name: str) -> FeatureSpace:
        """Compute the space from the statistics of features."""
        second = sums.scatter / sums.count
        spread = np.maximum(np.sqrt(np.diag(second)), LEAST_SPREAD)
        standardised = second / np.outer(spread, spread)
        return cls.of_moments(sums.mean, spread, standardised, name, sums.count)

    @classmethod
    def of_moments(
        cls,
        mean: np.ndarray,
        spread: np.ndarray,
        second: np.ndarray,
        name: str,
        count: float = np.inf,
    ) -> FeatureSpace:
        """Compute the space from the second moment (d, d) of standardised features."""
        values, axes = np.linalg.eigh(second)
        return cls(mean, spread, axes, np.clip(values, 0, None), name, count)

    def blended(self, own: FeatureSums, name: str) -> FeatureSpace:
        """Return a space about the mean of a task's texts, for its lone student.

        Its second moment is that of the texts and of this space, which counts as much
        as one text for every feature.
        """
        second = (self.axes * self.values) @ self.axes.T
        second = second * np.outer(self.spread, self.spread)
        width = len(self.mean)
        return FeatureSpace.of(
            own.merged(FeatureSums(width, own.mean, width * second)), name
        )

    def standardised(self, features: np.ndarray) -> np.ndarray:
        """Standardise features (n, d)."""
        return (features - self.mean) / self.spread

    def coordinates(self, features: np.ndarray) -> np.ndarray:
        """Standardised features (n, d) along the axes.

        Those of features that cannot change are kept, for the students of a zoo.
        """
        kept = self.__dict__.get("_kept")
        if kept is not None and kept[0] is features:
            return kept[1]
        found = self.standardised(features) @ self.axes
        if not features.flags.writeable:
            found.flags.writeable = False
            object.__setattr__(self, "_kept", (features, found))
        return found

    def relative_leverage(self, features: np.ndarray) -> float:
        """Mean leverage of features (n, d), divided by that of the space's own texts.

        The leverage of standardised features x is x^T (C + alpha I)^(-1) x, with the
        space's second moment C; it is large for x unlike the space's own texts.
        """
        weights = 1 / (self.values + NOISE_ALPHA)
        found = (self.coordinates(features) ** 2 @ weights).mean()
        return float(found / (self.values @ weights))

    def whitened(self, moments: np.ndarray, alpha: float) -> np.ndarray:
        """Whiten moments given along the axes (d, k); rows are features again."""
        return self.axes @ (moments / np.sqrt(self.values + alpha)[:, None])


@dataclass(frozen=True, eq=False)
class RidgeSolution:
    """Ridge regressions of one task's targets, for any penalty.

    The intercept is not penalised.  ``cross`` (d, k) holds the moments of the targets
    with the features along the space's axes, ``intercept`` (k,) the mean target,
    ``offset`` (d,) the mean of the features along the axes, and ``noise`` (k, k) the
    covariance of the residuals.
    """

    space: FeatureSpace
    count: float
    cross: np.ndarray
    intercept: np.ndarray
    offset: np.ndarray
    noise: np.ndarray

    @classmethod
    def of(cls, space: FeatureSpace, sums: TargetSums) -> RidgeSolution:
        """Solve from the statistics of the targets, for features of a space."""
        cross = space.axes.T @ (sums.cross / sums.count / space.spread[:, None])
        offset = space.coordinates(sums.feature_mean[None])[0]
        shrunk = 1 / (space.values + NOISE_ALPHA)
        kept = space.values * shrunk
        left = sums.scatter / sums.count - cross.T @ (
            cross * (shrunk * (2 - kept))[:, None]
        )
        free = max(sums.count - 1 - float((2 * kept - kept**2).sum()), 1.0)
        return cls(
            space, sums.count, cross, sums.mean, offset, left * (sums.count / free)
        )

    @property
    def determined(self) -> bool:
        """Whether there are at least as many texts as features."""
        return self.space.count >= len(self.space.values)

    def weights(self, alpha: float) -> np.ndarray:
        """Weights (d, k) along the axes."""
        return self.cross / (self.space.values + alpha)[:, None]

    def predicted(self, coordinates: np.ndarray, alpha: float) -> np.ndarray:
        """Predict targets (n, k) for features along the axes (n, d)."""
        return (coordinates - self.offset) @ self.weights(alpha) + self.intercept


def functional_errors(
    solutions: Sequence[RidgeSolution], moments: np.ndarray
) -> np.ndarray:
    """Estimate the squared error of sum(weights * moments) for each penalty.

    Parameters
    ----------
    solutions : sequence of RidgeSolution
        Solutions in one space.
    moments : ndarray (d, k)
        Coefficients of a linear functional of the weights, along the axes.

    Returns
    -------
    errors : ndarray (n_solutions, n_alphas)
        Squared bias plus variance, one for each of ``ALPHAS``.  The bias is measured
        against the solution with ``UNBIASED_ALPHA``; the variance of that difference
        is subtracted.
    """
    space = solutions[0].space
    values = space.values[:, None]
    alphas = np.array(ALPHAS)[:, None, None]
    solved = moments / (values + alphas)
    bias = solved - moments / (values + UNBIASED_ALPHA)
    spread = _spread(solved, values) - _spread(bias, values)
    out = np.empty((len(solutions), len(ALPHAS)))
    for i, one in enumerate(solutions):
        off = np.tensordot(bias, one.cross, 2) ** 2
        out[i] = off + np.tensordot(spread, one.noise, 2) / one.count
    return out


def _spread(functionals: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Second moments (n, k, k) of what functionals (n, d, k) give to features."""
    found: np.ndarray = functionals.transpose(0, 2, 1) @ (functionals * values)
    return found


def least_error_alpha(errors: Sequence[np.ndarray]) -> float:
    """Return the penalty with the least mean error over several solutions."""
    return ALPHAS[int(np.argmin(np.mean(errors, axis=0)))]
