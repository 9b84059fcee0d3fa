"""Scores of how often each answer was given to each class, without the rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from sklearn.metrics import check_scoring

from ._scorer_proxies import LabelProxy

FEWEST = 0.5  # expected rows with an answer that is no class
N_PROBES = 3
PROBE_SEED = 0
TOLERANCE = 1e-9


class CountedScores:
    """Score counts of classes and answers by a scorer that takes weights of rows.

    Many scorers, as the F1 of the classes or kappa, depend on these counts only, so
    that one call with a row for each pair, weighted by its count, tells the score.

    Parameters
    ----------
    scorer : callable
        A scorer of scikit-learn.
    classes : ndarray (n_classes,)
        Labels of the classes, sorted.
    rows : ndarray (n,) of int
        Places of the rows' classes.
    answers : ndarray (n_answers,)
        Labels of the answers.
    """

    def __init__(
        self,
        scorer: Callable[..., float],
        classes: np.ndarray,
        rows: np.ndarray,
        answers: np.ndarray,
    ) -> None:
        self._scorer = scorer
        self._classes, self._rows, self._names = classes, rows, answers
        self._truth = np.repeat(classes, len(answers))
        self._answers = np.tile(answers, len(classes))

    def suffice(self, score: Callable[[np.ndarray], float]) -> bool:
        """Return whether counts tell what ``score`` gives to answers of the rows.

        It is called with labels (n,), which are drawn by shares that differ.
        """
        rng = np.random.default_rng(PROBE_SEED)
        n_answers = len(self._names)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # as of weights that are set already
                for _ in range(N_PROBES):
                    shares = rng.dirichlet(np.ones(n_answers))
                    chosen = rng.choice(n_answers, len(self._rows), p=shares)
                    counts = self._counts(self._rows, np.eye(n_answers)[chosen])
                    found = self._score(counts, counts > 0)
                    if not abs(found - score(self._names[chosen])) < TOLERANCE:
                        return False
        except Exception:  # it takes no weights, needs probabilities, or raises
            return False
        return True

    def expected(self, proba: np.ndarray, part: np.ndarray | None = None) -> float:
        """Return the score of expected counts.

        ``proba`` (n, n_answers) are the probabilities of the answers; ``part`` are the
        rows that count, by default all.
        """
        # An answer that may never be given would count as a class of its own.
        given = (proba.sum(0) >= FEWEST) | np.isin(self._names, self._classes)
        rows = self._rows
        if part is not None:
            proba, rows = proba[part], rows[part]
        counts = self._counts(rows, proba)
        return self._score(counts, given & (counts.sum(1, keepdims=True) > 0))

    def _counts(self, rows: np.ndarray, proba: np.ndarray) -> np.ndarray:
        out = np.zeros((len(self._classes), len(self._names)))
        np.add.at(out, rows, proba)
        return out

    def _score(self, counts: np.ndarray, used: np.ndarray) -> float:
        """Score counts of the pairs that are ``used``."""
        keep = used.ravel()
        proxy = LabelProxy(self._answers[keep], self._classes)
        scorer = check_scoring(proxy, scoring=self._scorer)
        truth, weights = self._truth[keep], counts.ravel()[keep]
        return float(scorer(proxy, [""] * len(truth), truth, sample_weight=weights))
