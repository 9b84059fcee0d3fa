"""Scores of models by their students and by the baselines, for one target."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone

from .._utils._stack_level import find_stack_level
from ..embedders._moment_embedder import (
    MomentEmbedder,
    balanced_weights,
    warn_if_unlike,
)
from ..embedders._student import Predictions
from ..embedders._surrogate_embedder import SurrogateEmbedder
from ..tasks._task import Task
from ._baselines import ignorant_scores, moment_scores, prior_distance
from ._confidence import Evidence, correlations, range_of
from ._model_ranker import ModelRanker
from ._student_errors import (
    MEASURED,
    PastScores,
    StudentErrors,
    blind_scores,
    errors_of,
)
from ._student_ranker import StudentRanker
from ._target_scorer import TargetScorer
from ._text_sufficiency import learning_curve, stability_of, warn_if_constant

# Texts times epochs that low-rank tuning of the built-in surrogate does in a second, in
# a batch of models on two cores; a GPU does many times as much.
TUNED_TEXTS_PER_SECOND = 6500.0
GPU_FACTOR = 20.0
BUILT_IN_WEIGHTS = 17e6
LEAST_SPREAD = 0.01  # of a student's probabilities over the target's texts


@dataclass(frozen=True)
class Plan:
    """Which students are made, by which embedders, and how long that may take."""

    taken: str
    closed: MomentEmbedder
    tuned: SurrogateEmbedder | None
    seconds: float


def closed_form_of(embedder: SurrogateEmbedder) -> MomentEmbedder:
    """Return the closed form with the surrogate of an embedder."""
    if isinstance(embedder, MomentEmbedder):
        return clone(embedder)
    return MomentEmbedder(
        embedder.surrogate,
        max_length=embedder.max_length,
        device=embedder.device,
        dtype=embedder.dtype,
    )


def make_plan(
    embedder: SurrogateEmbedder,
    n_models: int,
    n_texts: int,
    students: str,
    quick: bool,
    max_seconds: float,
) -> Plan:
    if isinstance(embedder, MomentEmbedder):
        if students in ("both", "tuned"):
            raise ValueError(
                f"students={students!r}, but embedder is a MomentEmbedder, which tunes "
                "nothing; give a TuPaTEEmbedder, or students='closed'."
            )
        return Plan("closed", embedder, None, 0.0)
    closed = closed_form_of(embedder)
    surrogate = embedder.load_surrogate()
    rate = TUNED_TEXTS_PER_SECOND * BUILT_IN_WEIGHTS / surrogate.n_weights
    rate *= 1.0 if surrogate.device.type == "cpu" else GPU_FACTOR
    epochs = getattr(embedder, "max_epochs", 1)
    seconds = n_models * n_texts * epochs / rate
    if students == "auto":
        fits = seconds <= max_seconds and not quick
        students = "both" if fits else "closed"
    return Plan(students, closed, embedder, seconds)


class Ranking:
    """Students of the models, made when they are first needed, and their scores."""

    def __init__(
        self,
        names: list[str],
        labelled: list[Task],
        target: Task,
        scoring: Any,
        plan: Plan,
        balanced: bool,
        callbacks: Sequence[Any],
    ) -> None:
        self.names = names
        self.labelled = labelled
        self.target = target
        self.scorer = TargetScorer(target, scoring)
        self.plan = plan
        self.balanced = balanced
        self.callbacks = callbacks
        self._rankers: dict[str, StudentRanker] = {}
        self._found: dict[str, list[Predictions]] = {}
        self._halves: np.ndarray | None = None

    def _ranker(self, which: str) -> StudentRanker:
        if which == "closed" and self.plan.taken != "closed":
            # Means are had from the token states that tuning reads; the other way
            # round, the encoder would run twice.
            self._ranker("tuned")
        if which not in self._rankers:
            embedder = self.plan.closed if which == "closed" else self.plan.tuned
            if embedder is None:
                raise ValueError("a MomentEmbedder tunes no students")
            ranker = StudentRanker(embedder, scoring=self.scorer.scoring)
            ranker.set_callbacks(*self.callbacks)
            self._rankers[which] = ranker.fit(self.labelled, names=self.names)
        return self._rankers[which]

    def _predictions(self, which: str) -> list[Predictions]:
        if which not in self._found:
            if which == "both":  # either is kept as well
                pairs = [self._predictions(one) for one in ("tuned", "closed")]
                found = [mixed(b, a) for a, b in zip(*pairs, strict=True)]
            else:
                found = self._predicted(which, self.target)
            self._found[which] = found
        return self._found[which]

    def _predicted(self, which: str, task: Task) -> list[Predictions]:
        if which == "both":
            pairs = [self._predicted(one, task) for one in ("tuned", "closed")]
            return [mixed(b, a) for a, b in zip(*pairs, strict=True)]
        return list(self._ranker(which).predictions(task, self.weights(task)))

    def weights(self, task: Task) -> np.ndarray:
        """Weights of a task's rows."""
        if self.balanced:
            return balanced_weights(task.targets)
        return np.full(task.n_samples, 1 / task.n_samples)

    def errors(self, past: Sequence[tuple[Task, Mapping[str, float]]]) -> StudentErrors:
        """Errors of the students, from past tasks with true scores by model."""
        found = [self._past_scores(task, known) for task, known in past]
        if lost := [i for i, one in enumerate(found) if not len(one.known().true)]:
            warnings.warn(
                f"past tasks {lost} tell nothing: the scorer fails on them, or no "
                "model that could be scored has a true score there",
                stacklevel=find_stack_level(),
            )
        prior = ignorant_scores(self.scorer)["prior_score"]
        return errors_of(found, range_of(self.scorer, prior))

    def _past_scores(self, task: Task, known: Mapping[str, float]) -> PastScores:
        scorer = TargetScorer(task, self.scorer.scoring)
        predictions = self._predicted(self.plan.taken, task)
        expected = []
        for one in predictions:
            try:
                expected.append(scorer.score(one))
            except Exception:  # a scorer may be anybody's
                expected.append(np.nan)
        return PastScores(
            np.array([known.get(name, np.nan) for name in self.names]),
            np.array(expected),
            blind_scores(predictions, scorer),
            range_of(scorer, ignorant_scores(scorer)["prior_score"]),
        )

    def scores(self, which: str) -> np.ndarray:
        """Expected scores by ``"both"`` students, or one of them."""
        column = "score" if which == self.plan.taken else which
        found = self._predictions(which)
        out, reason = np.full(len(found), np.nan), ""
        for i, one in enumerate(found):
            try:
                out[i] = self.scorer.score(one)
            except Exception as error:  # a scorer may be anybody's
                reason = reason or f"{type(error).__name__}: {error}"
        return or_nan(lambda: (out, reason), column, len(found))

    def baseline(self, name: str) -> np.ndarray:
        """Scores by another ranking."""
        if name == "prior":
            return np.array([-prior_distance(t, self.target) for t in self.labelled])
        if name in ("closed", "tuned") and (self.plan.tuned or name == "closed"):
            return self.scores(name)
        compute = {"moment": self._moment, "cosine": self._cosine}.get(
            name, lambda: self._ranker(name)
        )
        return or_nan(lambda: (compute(), ""), name, len(self.names))

    def _moment(self) -> np.ndarray:
        moment = clone(self.plan.closed)
        return moment_scores(moment, self.labelled, self.target, self.balanced)

    def _cosine(self) -> np.ndarray:
        students = self._ranker("tuned" if self.plan.tuned else "closed")
        own = students.embedder_.embed([self.target])[0]
        ranker = ModelRanker().fit(students.embeddings_, names=self.names)
        return ranker.decision_function([own.embedding_])[0]

    def _constant(self) -> list[str]:
        """Names of the models whose students give one answer to all texts."""
        found = self._predictions("tuned" if self.plan.taken == "tuned" else "closed")
        names = [
            name
            for name, one in zip(self.names, found, strict=True)
            if np.exp(one.values).std(0).max() < LEAST_SPREAD
        ]
        warn_if_constant(names, len(found))
        return names

    def facts(self) -> dict[str, Any]:
        """What the target is worth without a model, and whether the texts suffice."""
        out: dict[str, Any] = ignorant_scores(self.scorer)
        closed = self.plan.closed
        encoded = closed.encode(self.target.texts)
        shared = [t for t in self.labelled if t.text_key == self.labelled[0].text_key]
        unlabelled = closed.encode(shared[0].texts)
        curve, self._halves = learning_curve(
            unlabelled,
            shared,
            encoded,
            self.scorer,
            self.weights(self.target),
            closed.alpha,
        )
        out["learning_curve"] = curve
        out["stability"] = stability_of(curve)
        out["constant"] = self._constant()
        learnt = clone(closed)
        learnt.learn_space(shared)
        out["text_distance"] = warn_if_unlike(
            learnt.feature_space(), encoded.pooled(), "the target"
        )
        return out

    def evidence(
        self,
        expected: np.ndarray,
        prior_score: float,
        label_names: dict[str, Any],
        errors: StudentErrors = MEASURED,
    ) -> Evidence:
        """What is known of the true scores, once the ``facts`` are."""
        return Evidence(
            tuple(self.names),
            expected,
            self._predictions(self.plan.taken),
            self.scorer,
            self._halves,
            correlations(self.labelled),
            range_of(self.scorer, prior_score),
            self.labelled,
            self.plan.closed,
            label_names,
            errors,
        )


def mixed(first: Predictions, second: Predictions) -> Predictions:
    """Mean of the probabilities that two students of one model give."""
    columns = [second.names.index(name) for name in first.names]
    values = np.logaddexp(first.values, second.values[:, columns]) - np.log(2)
    return Predictions("label", first.names, values)


def or_nan(
    compute: Callable[[], tuple[np.ndarray, str]], name: str, count: int
) -> np.ndarray:
    """Return NaN with a warning where a column cannot be computed."""
    try:
        values, reason = compute()
    except Exception as error:  # a scorer may be anybody's
        values, reason = np.full(count, np.nan), f"{type(error).__name__}: {error}"
    if np.isnan(values).any():
        warnings.warn(
            f"the column {name!r} cannot be computed for {np.isnan(values).sum()} of "
            f"{count} models ({reason or 'not defined'}); it holds NaN there",
            stacklevel=find_stack_level(),
        )
    return values
