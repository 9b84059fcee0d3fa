"""Label-free criteria for prompt selection, from label probabilities.

All take ``proba`` (n_prompts, n_texts, n_labels): the label probabilities that one LLM
gives under every prompt, the labels in one order for all prompts.  All return one score
per prompt, (n_prompts,), high is better.  They are the label-free baselines of the FUTE
paper (Wang et al. 2024, Table 3).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import entr

__all__ = [
    "global_entropy",
    "local_entropy",
    "mutual_information",
    "zps_calibrated",
    "zps_log",
    "zps_prob",
    "zps_vote",
]

TOLERANCE = 1e-3
LEAST_PROBABILITY = 1e-12


def _checked(proba: Any) -> np.ndarray:
    array = np.asarray(proba, dtype=np.float64)
    if array.ndim != 3 or 0 in array.shape or array.shape[2] < 2:
        raise ValueError(
            f"proba has the shape {array.shape}, expected (n_prompts, n_texts, "
            "n_labels) with at least one prompt and text and two labels."
        )
    wrong = ~(np.isfinite(array) & (array >= 0)).all(2)
    wrong |= np.abs(array.sum(2) - 1) > TOLERANCE
    if wrong.any():
        prompt, text = np.argwhere(wrong)[0]
        raise ValueError(
            f"proba[{prompt}, {text}] is {array[prompt, text]}, no distribution over "
            "the labels. Normalise label scores, and leave out texts that a prompt "
            "could not label from all prompts."
        )
    return array / array.sum(2, keepdims=True)


def _entropy(proba: np.ndarray) -> np.ndarray:
    return entr(proba).sum(-1)


def mutual_information(proba: Any) -> np.ndarray:
    """Entropy of the mean prediction minus mean entropy, in nats (MI).

    Parameters
    ----------
    proba : array-like (n_prompts, n_texts, n_labels)
        Label probabilities.

    Returns
    -------
    scores : ndarray (n_prompts,)
        Between 0 and the log of the number of labels.

    Raises
    ------
    ValueError
        If a row is no distribution.

    References
    ----------
    Sorensen et al. 2022, *An information-theoretic approach to prompt engineering
    without ground truth labels*, ACL.

    Examples
    --------
    >>> from fute_sklearn.llm.criteria import mutual_information
    >>> sure, dull = [[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]]
    >>> mutual_information([sure, dull]).round(3)
    array([0.693, 0.   ])
    """
    proba = _checked(proba)
    return _entropy(proba.mean(1)) - _entropy(proba).mean(1)


def local_entropy(proba: Any) -> np.ndarray:
    """Mean entropy of the predictions, in nats (LocalE).

    Parameters
    ----------
    proba : array-like (n_prompts, n_texts, n_labels)
        Label probabilities.

    Returns
    -------
    scores : ndarray (n_prompts,)
        High where the prompt is not overconfident.

    Raises
    ------
    ValueError
        If a row is no distribution.

    References
    ----------
    Lu et al. 2022, *Fantastically ordered prompts and where to find them*, ACL.

    Examples
    --------
    >>> from fute_sklearn.llm.criteria import local_entropy
    >>> local_entropy([[[1.0, 0.0]], [[0.5, 0.5]]]).round(3)
    array([0.   , 0.693])
    """
    return _entropy(_checked(proba)).mean(1)


def global_entropy(proba: Any) -> np.ndarray:
    """Entropy of the predicted labels' shares, in nats (GlobalE).

    Parameters
    ----------
    proba : array-like (n_prompts, n_texts, n_labels)
        Label probabilities; of equally likely labels the first counts.

    Returns
    -------
    scores : ndarray (n_prompts,)
        High where the prompt does not give one label to all texts.

    Raises
    ------
    ValueError
        If a row is no distribution.

    References
    ----------
    Lu et al. 2022, *Fantastically ordered prompts and where to find them*, ACL.

    Examples
    --------
    >>> from fute_sklearn.llm.criteria import global_entropy
    >>> global_entropy([[[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.6, 0.4]]]).round(3)
    array([0.693, 0.   ])
    """
    proba = _checked(proba)
    hard = np.eye(proba.shape[2])[proba.argmax(2)]
    return _entropy(hard.mean(1))


def _confident(proba: np.ndarray) -> np.ndarray:
    """Indices of the prompts whose pseudo-labels count in zero-label selection."""
    top = np.sort(proba, axis=2)
    margins = (top[:, :, -1] - top[:, :, -2]).mean(1)
    order = np.argsort(-margins, kind="stable")
    ranked = margins[order]
    count = len(margins)
    # Two-means in one dimension: the best cut of the sorted values, ties kept whole.
    cuts = [i for i in range(1, count) if ranked[i] < ranked[i - 1]]
    if not cuts:
        return order
    spread = [
        ranked[:i].var() * i + ranked[i:].var() * (count - i)  # within both clusters
        for i in cuts
    ]
    kept = cuts[int(np.argmin(spread))]
    return order[: kept if kept > 1 else max(1, count // 2)]


def _agreement(proba: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """Share of the texts on which a prompt gives the pseudo-label."""
    return (proba.argmax(2) == votes.argmax(1)).mean(1)


def zps_log(proba: Any) -> np.ndarray:
    """Agreement with pseudo-labels from summed log-probabilities (ZPS-Log).

    The most confident prompts, the upper of two clusters of the mean distance between
    the two likeliest labels, give the pseudo-labels; where that cluster holds one
    prompt, the more confident half does.

    Parameters
    ----------
    proba : array-like (n_prompts, n_texts, n_labels)
        Label probabilities.

    Returns
    -------
    scores : ndarray (n_prompts,)
        Between 0 and 1.

    Raises
    ------
    ValueError
        If a row is no distribution.

    References
    ----------
    Liao, Zheng and Yang 2022, *Zero-label prompt selection*, arXiv 2211.04668.

    Examples
    --------
    >>> from fute_sklearn.llm.criteria import zps_log
    >>> good, bad = [[0.9, 0.1], [0.2, 0.8]], [[0.4, 0.6], [0.6, 0.4]]
    >>> zps_log([good, good, bad])
    array([1., 1., 0.])
    """
    proba = _checked(proba)
    kept = np.maximum(proba[_confident(proba)], LEAST_PROBABILITY)
    return _agreement(proba, np.log(kept).sum(0))


def zps_prob(proba: Any) -> np.ndarray:
    """Agreement with pseudo-labels from summed probabilities (ZPS-Prob).

    Parameters
    ----------
    proba : array-like (n_prompts, n_texts, n_labels)
        Label probabilities.

    Returns
    -------
    scores : ndarray (n_prompts,)
        Between 0 and 1.

    Raises
    ------
    ValueError
        If a row is no distribution.

    See Also
    --------
    zps_log : Says which prompts give the pseudo-labels.

    Examples
    --------
    >>> from fute_sklearn.llm.criteria import zps_prob
    >>> good, bad = [[0.9, 0.1], [0.2, 0.8]], [[0.4, 0.6], [0.6, 0.4]]
    >>> zps_prob([good, good, bad])
    array([1., 1., 0.])
    """
    proba = _checked(proba)
    return _agreement(proba, proba[_confident(proba)].sum(0))


def zps_vote(proba: Any) -> np.ndarray:
    """Agreement with pseudo-labels from the prompts' votes (ZPS-Vote).

    Parameters
    ----------
    proba : array-like (n_prompts, n_texts, n_labels)
        Label probabilities; of labels with as many votes the first counts.

    Returns
    -------
    scores : ndarray (n_prompts,)
        Between 0 and 1.

    Raises
    ------
    ValueError
        If a row is no distribution.

    See Also
    --------
    zps_log : Says which prompts give the pseudo-labels.

    Examples
    --------
    >>> from fute_sklearn.llm.criteria import zps_vote
    >>> good, bad = [[0.9, 0.1], [0.2, 0.8]], [[0.4, 0.6], [0.6, 0.4]]
    >>> zps_vote([good, good, bad])
    array([1., 1., 0.])
    """
    proba = _checked(proba)
    hard = np.eye(proba.shape[2])[proba[_confident(proba)].argmax(2)]
    return _agreement(proba, hard.sum(0))


def zps_calibrated(proba: Any) -> np.ndarray:
    """Compute ZPS-Vote on batch-calibrated label probabilities.

    Batch calibration (Zhou et al. 2024) divides each prompt's probabilities by their
    mean over the texts, so that a prompt's preference for one label does not count.

    Parameters
    ----------
    proba : array-like (n_prompts, n_texts, n_labels)
        Label probabilities.

    Returns
    -------
    scores : ndarray (n_prompts,)
        Between 0 and 1, high is better.

    Raises
    ------
    ValueError
        If a row is no distribution.

    See Also
    --------
    zps_vote : The same without calibration.

    Examples
    --------
    >>> from fute_sklearn.llm.criteria import zps_calibrated
    >>> good, shy = [[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.6, 0.4]]
    >>> zps_calibrated([good, good, shy])
    array([1., 1., 1.])
    """
    proba = _checked(proba)
    calibrated = proba / np.maximum(proba.mean(1, keepdims=True), LEAST_PROBABILITY)
    return zps_vote(calibrated / calibrated.sum(2, keepdims=True))
