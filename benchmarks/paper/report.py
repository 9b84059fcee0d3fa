"""Measure rankings of candidates against their gains, each measure beside random's."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from fute_sklearn.metrics import (
    average_rank_loss,
    ndcg_score,
    ranking_report,
    regret_loss,
    spearman_score,
)

PERCENT = 100  # gains of the exponential NDCG are in percent, as in the literature
FEWEST = 3  # candidates that a ranking must have


def _spearman(gains: np.ndarray, scores: np.ndarray) -> float:
    return spearman_score(gains, scores) if np.ptp(scores) > 0 else 0.0


MEASURES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "rank": average_rank_loss,
    "NDCG": ndcg_score,
    "NDCG exp": lambda g, s: ndcg_score(PERCENT * g, s, gain="exponential"),
    "rho": _spearman,
    "regret": regret_loss,
}


def random_row(gains: np.ndarray) -> list[float]:
    """Expected measures of a random ranking."""
    flat = np.zeros_like(gains)
    found = [measure(gains, flat) for measure in MEASURES.values()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a constant ranking has no correlation
        found[0] = ranking_report(gains, flat).loc["average_rank", "random"]
    return found


def measured(
    gains: np.ndarray,
    scores: Mapping[str, np.ndarray],
    pools: Sequence[np.ndarray],
) -> pd.DataFrame:
    """Mean measures over targets and pools.

    Parameters
    ----------
    gains : ndarray (n_candidates, n_targets)
        NaN where a candidate does not take part.
    scores : mapping of str to ndarray (n_candidates, n_targets)
        By method; a method that has no score for a candidate is left out.
    pools : sequence of ndarray of bool (n_candidates,)
        Candidates that are ranked together.

    Returns
    -------
    table : DataFrame
        A row a method, random first; columns the measures, and ``"of"``, the mean
        number of candidates.
    """
    rows: dict[str, list[list[float]]] = {"random": []}
    for pool in pools:
        for column in range(gains.shape[1]):
            part = pool & ~np.isnan(gains[:, column])
            if part.sum() < FEWEST:
                continue
            truth = gains[part, column]
            rows["random"].append([*random_row(truth), part.sum()])
            for method, values in scores.items():
                given = values[part, column]
                if np.isnan(given).any():
                    rows.setdefault(method, []).append([np.nan] * (len(MEASURES) + 1))
                    continue
                found = [measure(truth, given) for measure in MEASURES.values()]
                rows.setdefault(method, []).append([*found, part.sum()])
    columns = [*MEASURES, "of"]
    # A method without scores for some candidates would be measured on easier rankings.
    means = {name: np.mean(found, axis=0) for name, found in rows.items() if found}
    table = pd.DataFrame.from_dict(means, orient="index", columns=columns)
    return table.dropna()


def reliability(gains: np.ndarray, pools: Sequence[np.ndarray], n_test: int) -> float:
    """Share of the variance of gains over candidates that is no sampling noise.

    Accuracies on ``n_test`` rows have the variance p (1 - p) / n_test by chance.  The
    rows are the same for all candidates, so that the true noise of differences is lower
    and this share a lower bound; where it is near 0, no ranking can be told from
    another.
    """
    between, noise = [], []
    for pool in pools:
        for column in gains.T:
            part = column[pool & ~np.isnan(column)]
            if len(part) >= FEWEST:
                between.append(part.var(ddof=1))
                noise.append((part * (1 - part)).mean() / n_test)
    return max(0.0, 1 - float(np.sum(noise) / np.sum(between))) if between else np.nan


def show(title: str, tables: Sequence[pd.DataFrame]) -> None:
    """Print the mean over the seeds, and the spread of the rank where it has one."""
    mean = sum(tables[1:], tables[0]) / len(tables)
    spread = pd.concat([t["rank"] for t in tables], axis=1).std(axis=1, ddof=0)
    print(f"\n{title}")
    names = "".join(f"{name:>9}" for name in MEASURES)
    print(f"{'':34}{names}   (rank: +- over the seeds)")
    for method, row in mean.iterrows():
        cells = "".join(f"{row[name]:9.3f}" for name in list(MEASURES)[1:])
        rank = f"{row['rank']:9.2f}"
        print(f"{method!s:34}{rank}{cells}   of {row['of']:.1f} +-{spread[method]:.2f}")
