"""Baselines that rank source data sets, or models fine-tuned on them, without a target.

They are two baselines of the FUTE paper (Wang et al. 2024, Table 1), and the way in
which several rankings become one.  All return scores, high is better.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from scipy.stats import rankdata

from .tasks._task import Task

__all__ = ["curve_gradients", "data_size", "reciprocal_rank_fusion"]

PLACES = (0.1, 0.2, 0.3, 0.5, 0.7)


def data_size(sources: Sequence[Any]) -> np.ndarray:
    """Count the examples that each model was trained on (DataSize).

    Parameters
    ----------
    sources : sequence of Task, or of sized objects
        The training data of each model: tasks, or lists, arrays or tables of its rows.

    Returns
    -------
    scores : ndarray (n_models,)
        Number of rows of each source.

    Raises
    ------
    TypeError
        If a source has no length.

    References
    ----------
    Vu et al. (2020), "Exploring and predicting transferability across NLP tasks".

    Examples
    --------
    >>> from fute_sklearn.baselines import data_size
    >>> data_size([["a fine film", "a dull film"], ["what joy"]])
    array([2., 1.])
    """
    counts = []
    for i, source in enumerate(sources):
        if isinstance(source, str) or not (
            isinstance(source, Task) or hasattr(source, "__len__")
        ):
            raise TypeError(
                f"sources[{i}] is {source!r}, expected the training data of a model: "
                "a Task, or a list, array or table of its rows."
            )
        counts.append(source.n_samples if isinstance(source, Task) else len(source))
    return np.array(counts, dtype=float)


def curve_gradients(
    losses: Sequence[Any], *, at: Sequence[float] = PLACES, window: float = 0.1
) -> np.ndarray:
    """Compute the slopes of training-loss curves at several places (CurveGrad).

    A model that still improves late in its training (steep slopes, far below 0) was
    found to be a better source for transfer than one that soon reaches a plateau
    (Bingel & Søgaard).  A ranking is the fusion of those at each place, as in the
    example.  The papers do not say how a slope is read from a noisy curve; here it is
    that of the least-squares line through the losses of the steps around the place.

    Parameters
    ----------
    losses : sequence of array-like (n_steps,)
        The training loss (mean negative log-likelihood, in nats) of each model, step by
        step, or the means of as many equal parts of the training; the lengths may
        differ.
    at : sequence of float, default=(0.1, 0.2, 0.3, 0.5, 0.7)
        The places, as shares of the training, between 0 and 1.
    window : float, default=0.1
        Steps within this share of the training on either side of a place count.  Small
        values follow the noise of single batches.

    Returns
    -------
    gradients : ndarray (n_models, n_places)
        Change of the loss in nats per whole training; negative where it falls.

    Raises
    ------
    ValueError
        If a curve is not finite or not one-dimensional, a place lies outside of 0 to 1,
        or fewer than two steps lie in a window.

    References
    ----------
    Bingel & Søgaard (2017), "Identifying beneficial task relations for multi-task
    learning in deep neural networks"; Vu et al. (2020), "Exploring and predicting
    transferability across NLP tasks".

    Examples
    --------
    >>> import numpy as np
    >>> from fute_sklearn.baselines import curve_gradients, reciprocal_rank_fusion
    >>> share = (np.arange(100) + 0.5) / 100
    >>> gradients = curve_gradients([1 - 0.5 * share, np.exp(-20 * share)])
    >>> gradients.round(2)
    array([[-0.5 , -0.5 , -0.5 , -0.5 , -0.5 ],
           [-3.95, -0.53, -0.07, -0.  , -0.  ]])
    >>> reciprocal_rank_fusion(-gradients.T).argmax()
    np.int64(0)
    """
    places = np.asarray(at, dtype=float)
    if places.ndim != 1 or not len(places) or not ((0 <= places) & (places <= 1)).all():
        raise ValueError(f"at={at!r}, expected places between 0 and 1.")
    if not isinstance(window, Real) or not 0 < window <= 1:
        raise ValueError(f"window={window!r}, expected a number above 0, at most 1.")
    return np.array(
        [_slopes(i, curve, places, float(window)) for i, curve in enumerate(losses)]
    ).reshape(-1, len(places))


def _slopes(row: int, curve: Any, places: np.ndarray, window: float) -> list[float]:
    values = np.asarray(curve, dtype=float)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(
            f"losses[{row}] has the shape {values.shape}, expected one finite loss per "
            "step; leave out models whose training diverged."
        )
    steps = (np.arange(len(values)) + 0.5) / max(len(values), 1)
    out = []
    for place in places:
        near = np.abs(steps - place) <= window + 1e-12
        if near.sum() < 2:
            raise ValueError(
                f"losses[{row}] has {len(values)} steps, of which {near.sum()} lie "
                f"within {window:g} of {place:g}; give finer curves or a larger window."
            )
        out.append(float(np.polyfit(steps[near], values[near], 1)[0]))
    return out


def reciprocal_rank_fusion(scores: Any, *, k: float = 60) -> np.ndarray:
    """Fuse several rankings of the same models: the sum of 1 / (k + rank).

    Vu et al. fuse the rankings by the parts of a TaskEmb (its layers and components)
    and by the slopes of `curve_gradients` in this way.

    Parameters
    ----------
    scores : array-like (n_rankings, n_models)
        Scores by which each ranking orders the models, high is better.
    k : float, default=60
        How little the first ranks count more than the others; the published value.

    Returns
    -------
    fused : ndarray (n_models,)
        Fused scores, high is better; tied models share their mean rank.

    Raises
    ------
    ValueError
        If scores are not a finite matrix, or ``k`` is negative.

    References
    ----------
    Cormack et al. (2009), "Reciprocal rank fusion outperforms Condorcet and individual
    rank learning methods".

    Examples
    --------
    >>> from fute_sklearn.baselines import reciprocal_rank_fusion
    >>> reciprocal_rank_fusion([[0.9, 0.5, 0.1], [3.0, 1.0, 2.0]], k=0).round(2)
    array([2.  , 0.83, 0.83])
    """
    array = np.asarray(scores, dtype=float)
    if array.ndim != 2 or not array.size or not np.isfinite(array).all():
        raise ValueError(
            f"scores have the shape {array.shape}, expected finite scores (n_rankings, "
            "n_models)."
        )
    if not isinstance(k, Real) or not k >= 0:
        raise ValueError(f"k={k!r}, expected a number of at least 0.")
    return np.asarray((1 / (k + rankdata(-array, axis=1))).sum(0))
