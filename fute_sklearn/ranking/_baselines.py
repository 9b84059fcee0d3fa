"""Baseline rankings, and scores of predictions that ignore the texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from ..embedders._moment_embedder import MomentEmbedder
from ..embedders._student import Predictions
from ..embedders._task_vectorizer import TaskVectorizer
from ..models._mte_wrapper import MTEWrapper
from ..tasks._label_spaces import answers_as_labels
from ..tasks._task import Task
from ..tasks._validation import first_seen
from ._model_ranker import ModelRanker
from ._scorer_proxies import LEAST_PROBABILITY
from ._target_scorer import TargetScorer


def moment_scores(
    moment: MomentEmbedder, labelled: list[Task], target: Task, balanced: bool
) -> np.ndarray:
    """Return dot products of the models' and the target's moment embeddings."""
    alike = len({t.targets.names for t in [*labelled, target]}) == 1
    moment.set_params(target_encoding="label" if alike else "text")
    vectorizer = TaskVectorizer(moment).fit(labelled)
    own = vectorizer.embedder_.set_params(class_weight="balanced" if balanced else None)
    vector = own.embed([target])[0].embedding_
    ranker = ModelRanker("dot").fit(vectorizer.embeddings_)
    return ranker.decision_function(vector[None])[0]


def prior_distance(task: Task, target: Task) -> float:
    """Return the total variation distance of two tasks' label shares."""
    shares = [
        dict(zip(t.targets.names, t.targets.proba.mean(0), strict=True))
        for t in (task, target)
    ]
    names = first_seen([*shares[0], *shares[1]])
    return sum(abs(shares[0].get(n, 0) - shares[1].get(n, 0)) for n in names) / 2


def labelled_scores(
    wrapped: Mapping[str, MTEWrapper],
    target: Task,
    n_labelled: int,
    scoring: Any,
    random_state: Any,
) -> tuple[np.ndarray, str]:
    """Score the models on some labelled rows; also return the first error message."""
    rng = check_random_state(random_state)
    count = min(n_labelled, target.n_samples)
    rows = np.sort(rng.choice(target.n_samples, count, replace=False))
    part = target.take(rows)
    scores, reason = np.full(len(wrapped), np.nan), ""
    for i, wrapper in enumerate(wrapped.values()):
        try:
            scores[i] = _score_on(wrapper, part, scoring)
        except Exception as error:  # custom models and scorers may raise anything
            reason = reason or f"{wrapper.name!r}: {error}"
    return scores, reason


def _score_on(wrapper: MTEWrapper, part: Task, scoring: Any) -> float:
    found = answers_as_labels(wrapper.label(part.texts), part.targets)
    log_proba = np.log(np.clip(found.targets.proba, LEAST_PROBABILITY, 1))
    predictions = Predictions("label", found.targets.names, log_proba)
    answered = part.take(_rows_of(found.texts, part.texts))
    return TargetScorer(answered, scoring, expected=False).score(predictions)


def _rows_of(kept: tuple[str, ...], texts: tuple[str, ...]) -> np.ndarray:
    """Return the positions in ``texts`` of the subsequence ``kept``."""
    rows, start = [], 0
    for text in kept:
        start = texts.index(text, start) + 1
        rows.append(start - 1)
    return np.array(rows)


def ignorant_scores(scorer: TargetScorer) -> dict[str, float]:
    """Score predictions that do not depend on the texts.

    Returns
    -------
    scores : dict of str to float
        ``majority_score`` of always predicting the most common class, ``prior_score``
        of predicting classes with their shares as probabilities; NaN if the scorer
        fails.
    """
    targets = scorer.task.targets
    shares = targets.proba.mean(0)
    constant = np.where(shares == shares.max(), 1.0, LEAST_PROBABILITY)
    out = {}
    for name, proba in (("majority_score", constant), ("prior_score", shares)):
        proba = np.clip(proba, LEAST_PROBABILITY, None)
        rows = np.tile(np.log(proba / proba.sum()), (len(targets), 1))
        try:
            out[name] = scorer.score(Predictions("label", targets.names, rows))
        except Exception:  # a scorer may raise anything; reported with the students
            out[name] = float("nan")
    return out
