"""Expected scores of students' predictions on one target task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import check_scoring, get_scorer

from ..embedders._student import Predictions
from ..metrics import TEXT_SCORERS
from ..tasks._task import Task
from ._counted_scores import CountedScores
from ._scorer_proxies import LabelProxy, ProbabilityProxy, Proxy, ValueProxy

N_DRAWS = 50
N_GROUPS = 20
DRAW_SEED = 0
N_PROBES = 2
N_CHECKS = 10  # draws that the score of expected counts is compared with
MOST_ERRORS = 2  # standard errors that it may be off by
TOLERANCE = 1e-9
EXACT_MATCH = "exact_match"


def scorer_of(scoring: Any) -> Any:
    """Return the scorer of a name; callables are returned as they are.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if not isinstance(scoring, str):
        return scoring
    return TEXT_SCORERS[scoring] if scoring in TEXT_SCORERS else get_scorer(scoring)


@dataclass(frozen=True)
class LinearLoss:
    """A score that is linear in which rows are predicted correctly.

    ``perfect`` is the score if all rows are correct; ``losses`` (n,) is the amount by
    which an error in each row lowers it.
    """

    perfect: float
    losses: np.ndarray

    def of(self, right: np.ndarray) -> float:
        """Return the expected score, given the rows' probabilities (n,) of no error."""
        return self.perfect - float(self.losses @ (1.0 - right))


class TargetScorer:
    """Score predictions for a target's texts by any scorer.

    A student predicts a distribution over its model's predictions; the expected score
    is the expectation of the scorer under that distribution.  It is exact for scorers
    that are linear in the correct rows of each class (accuracy, balanced accuracy,
    recall), which is found out by test calls, and for scorers that use probabilities,
    which get the student's.  Otherwise labels are drawn, with the same random numbers
    for all students.  Numbers are drawn from a normal distribution with the student's
    standard deviation.  Free texts are scored as generated; for exact match, the
    likelihood of the target text is used if it is known.

    Parameters
    ----------
    task : Task
        The target.
    scoring : str or callable
        Name of a scorer, or a scorer.
    expected : bool, default=True
        Whether to compute the expected score; False scores the most probable labels,
        the mean numbers or the generated texts.
    part_of : (int, ndarray), optional
        Number of rows of a larger task, and the places of this one's among them, so
        that each row gets the same random numbers as there.
    """

    def __init__(
        self,
        task: Task,
        scoring: Any,
        expected: bool = True,
        part_of: tuple[int, np.ndarray] | None = None,
    ) -> None:
        self.task = task
        count = task.n_samples
        self._n_drawn: int
        self._drawn: np.ndarray
        self._n_drawn, self._drawn = part_of or (count, np.arange(count))
        self.scoring = scoring
        self.scorer = scorer_of(scoring)
        self.expected = expected
        targets = task.targets
        if targets.kind != "label":
            self._truth: Any = task.y
            return
        self._rows = targets.proba.argmax(1)
        present = np.unique(self._rows)
        # Scorers reject labels of mixed types and fractional floats: use their names.
        own = targets.classes
        decimals = own.dtype.kind == "f" and (own != np.round(own)).any()
        named = own.dtype == object or decimals
        self._labels = np.array(targets.names) if named else own
        self._present = present[np.argsort(self._labels[present])]
        self._truth = self._labels[self._rows]
        self._by_counts: dict[tuple[str, ...], CountedScores | None] = {}
        self._linear: LinearLoss | None = None
        self._probed = False

    def score(self, predictions: Predictions) -> float:
        """Return the score of predictions for the target's texts."""
        kind = self.task.targets.kind
        if predictions.kind != kind:
            raise ValueError(
                f"the model gives targets of kind {predictions.kind!r}, the task has "
                f"{kind!r}. Where one was told wrongly, say which: Task(X, y, "
                "kind=...), MTEWrapper(model, kind=...)."
            )
        if kind == "label":
            return self._score_labels(predictions)
        if kind == "number" and self.expected:
            return self._expected_score_of_numbers(predictions)
        if self.wants_likelihood and predictions.likelihood is not None:
            return float(predictions.likelihood.mean())
        return self._call(ValueProxy(predictions.values))

    def deviations(self, predictions: Sequence[Predictions]) -> np.ndarray:
        """Compute how scores deviate by the task's rows (n_predictions, n_columns).

        Sums of products over the columns are the covariances of the scores over draws
        of as many rows.  Exact, with a column a row, for scores that are linear in the
        correct rows, where each class keeps its number of rows if classes have weights;
        otherwise by a jackknife that leaves out a twentieth of the rows at a time, of
        the expected numbers of answers to each class where the scorer depends on these
        only (F1, kappa), and of drawn labels where it does not.
        """
        count = self.task.n_samples
        if count < 2:
            return np.zeros((len(predictions), 1))
        linear = self.linear_loss()
        if linear is None:
            return self._jackknife(predictions)
        right = np.array([self.right(one) for one in predictions])
        parts = -linear.losses * (1.0 - right)
        groups = [np.arange(count)]
        if not np.allclose(linear.losses, linear.losses[0]):
            groups = [np.flatnonzero(self._rows == place) for place in self._present]
        for rows in groups:
            parts[:, rows] -= parts[:, rows].mean(1, keepdims=True)
        return parts * np.sqrt(count / (count - 1))

    def answer_variances(self, predictions: Sequence[Predictions]) -> np.ndarray | None:
        """Variances (n_predictions,) of scores by what is open about the answers.

        That is for one row; over k rows it is the k-th part.  None for scores that are
        not linear in the correct rows.
        """
        linear = self.linear_loss()
        if linear is None:
            return None
        right = np.array([self.right(one) for one in predictions])
        return self.task.n_samples * (right * (1.0 - right)) @ linear.losses**2

    def _jackknife(self, predictions: Sequence[Predictions]) -> np.ndarray:
        count = self.task.n_samples
        order = np.random.default_rng(DRAW_SEED).permutation(count)
        groups = np.array_split(order, min(N_GROUPS, count))
        out = np.zeros((len(predictions), len(groups)))
        others = [np.setdiff1d(order, group) for group in groups]
        parts = [
            TargetScorer(
                self.task.take(rows), self.scoring, self.expected, (count, rows)
            )
            for rows in others
        ]
        for i, one in enumerate(predictions):
            counted, proba = self._counted(one), np.exp(one.values)
            for j, (part, rows) in enumerate(zip(parts, others, strict=True)):
                some = Predictions(one.kind, one.names, one.values[rows])
                try:
                    out[i, j] = (
                        part.score(some)
                        if counted is None
                        else counted.expected(proba, rows)
                    )
                except Exception:  # as a row less leaves a class without rows
                    out[i, j] = np.nan
        failed = np.isnan(out)
        counts = np.maximum((~failed).sum(1, keepdims=True), 1)
        out = np.where(failed, 0.0, out)
        out = np.where(failed, 0.0, out - out.sum(1, keepdims=True) / counts)
        return out * np.sqrt((len(groups) - 1) / len(groups))

    def linear_loss(self) -> LinearLoss | None:
        """Return the score as a linear function of the correct rows, if it is one."""
        if self.expected and not self._probed:
            self._linear, self._probed = self._probe(), True
        return self._linear

    @property
    def wants_likelihood(self) -> bool:
        """Whether the score is the mean likelihood of the target texts."""
        is_text = self.task.targets.kind == "text"
        return self.expected and is_text and self.scoring == EXACT_MATCH

    def _call(self, proxy: Proxy) -> float:
        scorer = check_scoring(proxy, scoring=self.scorer)
        return float(scorer(proxy, list(self.task.texts), self._truth))

    # Labels ---------------------------------------------------------------------

    def _score_labels(self, predictions: Predictions) -> float:
        linear = self.linear_loss()
        if linear is not None:
            return linear.of(self.right(predictions))
        proxy = self._proxy(predictions)
        likeliest = self._call(proxy)
        if not (self.expected and proxy.asked):
            return likeliest
        return float(np.mean(self._draws(proxy, N_DRAWS)))

    def _counted(self, predictions: Predictions) -> CountedScores | None:
        """Return the scores of counts, if these tell how predictions are scored.

        That is where the scorer depends on the counts only, and where the score of the
        expected counts is the expected score, as far as some draws can tell.
        """
        if not self.expected or self.task.targets.kind != "label":
            return None
        names, proxy = predictions.names, self._proxy(predictions)
        if names not in self._by_counts:
            classes, rows = np.unique(self._truth, return_inverse=True)
            counted = CountedScores(self.scorer, classes, rows, proxy.labels)
            suffice = counted.suffice(
                lambda answers: self._call(LabelProxy(answers, classes))
            )
            self._by_counts[names] = counted if suffice else None
        found = self._by_counts[names]
        if found is None:
            return None
        try:
            draws = self._draws(proxy, N_CHECKS)
            gap = abs(found.expected(proxy.proba) - np.mean(draws))
        except Exception:  # a scorer may raise anything; reported with the scores
            return None
        error = np.std(draws) / np.sqrt(N_CHECKS - 1)
        close = gap < MOST_ERRORS * error + 1 / self.task.n_samples
        return found if close else None

    def _draws(self, proxy: ProbabilityProxy, count: int) -> list[float]:
        """Scores of drawn labels."""
        rng = np.random.default_rng(DRAW_SEED)
        scores = []
        for _ in range(count):
            proxy.uniform = rng.random(self._n_drawn)[self._drawn]
            scores.append(self._call(proxy))
        return scores

    def _proxy(self, predictions: Predictions) -> ProbabilityProxy:
        names = self.task.targets.names
        known = dict(zip(names, self._labels.tolist(), strict=True))
        known |= _stand_ins(set(predictions.names) - set(known), self._labels)
        return ProbabilityProxy(
            np.exp(predictions.values),
            predictions.names,
            np.array([known[name] for name in predictions.names]),
            [names[i] for i in self._present],
            self._labels[self._present],
        )

    def right(
        self, predictions: Predictions, rows: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the probability of the true label of each row, or of some (n,)."""
        place = {name: i for i, name in enumerate(predictions.names)}
        of_target = np.array([place.get(n, -1) for n in self.task.targets.names])
        columns = of_target[self._rows if rows is None else self._rows[rows]]
        found = np.exp(predictions.values[np.arange(len(columns)), columns])
        return np.where(columns < 0, 0.0, found)

    def _probe(self) -> LinearLoss | None:
        """Measure the loss per error of each class; None if it is not constant."""
        present = self._present
        if len(present) < 2:
            return None

        def score(rows: np.ndarray) -> float:
            return self._call(LabelProxy(self._labels[rows], self._labels[present]))

        try:
            perfect = score(self._rows)
            losses = np.zeros(len(self._labels))
            following = dict(zip(present, np.roll(present, -1), strict=True))
            for place in present:
                wrong = self._rows.copy()
                wrong[int(np.argmax(self._rows == place))] = following[place]
                losses[place] = perfect - score(wrong)
            linear = LinearLoss(perfect, losses[self._rows])
            rng = np.random.default_rng(DRAW_SEED)
            for _ in range(N_PROBES):
                drawn = present[rng.integers(len(present), size=len(self._rows))]
                if not abs(score(drawn) - linear.of(drawn == self._rows)) < TOLERANCE:
                    return None
        except Exception:  # it needs probabilities, or fails and is reported on scoring
            return None
        return linear

    # Numbers --------------------------------------------------------------------

    def _expected_score_of_numbers(self, predictions: Predictions) -> float:
        values, spread = predictions.values, predictions.spread
        if spread is None or not spread.any():
            return self._call(ValueProxy(values))
        rng = np.random.default_rng(DRAW_SEED)
        scores = []
        for _ in range(N_DRAWS // 2):
            noise = spread * rng.standard_normal(self._n_drawn)[self._drawn]
            scores += [self._call(ValueProxy(values + n)) for n in (noise, -noise)]
        return float(np.mean(scores))


def _stand_ins(strange: set[str], labels: np.ndarray) -> dict[str, Any]:
    """Map label names that the target lacks to labels of the target's type."""
    if labels.dtype.kind not in "iu":
        return {name: name for name in strange}
    out, free = {}, int(labels.max()) + 1
    for name in sorted(strange):
        whole = name.lstrip("-").isdigit() and int(name) not in labels
        out[name] = int(name) if whole else free
        free += not whole
    return out


def weighs_classes_equally(scoring: Any, classes: np.ndarray) -> bool:
    """Test whether a scorer gives all classes the same weight, as balanced accuracy.

    On 50 rows, 40 of them of one class, a scorer that weighs rows equally prefers the
    constant prediction of that class to one that is right on half of each class; a
    scorer that weighs classes equally does not.

    Parameters
    ----------
    scoring : str or callable
        The scorer.
    classes : ndarray (n_classes,)
        Labels of a target, of which the first two are used.

    Returns
    -------
    equally : bool
        The result; False also if there is one class or the scorer fails.
    """
    if len(classes) < 2:
        return False
    rows = np.repeat([0, 1], [40, 10])
    coin = np.arange(50) % 2
    task = Task([str(i) for i in range(50)], classes[rows].tolist(), kind="label")
    common = int(task.targets.proba[0].argmax())

    def score(others: np.ndarray) -> float:
        column = np.where(others == 0, common, 1 - common)
        proba = np.full((50, 2), 0.01)
        proba[np.arange(50), column] = 0.99
        found = Predictions("label", task.targets.names, np.log(proba))
        return TargetScorer(task, scoring, expected=False).score(found)

    try:
        return score(np.zeros(50, dtype=int)) <= score(coin) + TOLERANCE
    except Exception:  # a scorer may raise anything; reported where it is used
        return False


def is_balanced(class_weight: str | None, scoring: Any, task: Task) -> bool:
    """Whether a target's classes get the same weight; "auto" does as the scorer."""
    if class_weight == "auto":
        return weighs_classes_equally(scoring, task.targets.classes)
    return class_weight == "balanced"
