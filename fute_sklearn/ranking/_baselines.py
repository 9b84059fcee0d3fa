"""Baseline rankings, and scores of predictions that ignore the texts."""

from __future__ import annotations

import numpy as np

from ..embedders._moment_embedder import MomentEmbedder
from ..embedders._student import Predictions
from ..embedders._task_vectorizer import TaskVectorizer
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


def ignorant_answers(scorer: TargetScorer) -> dict[str, Predictions]:
    """Predict the same for every row, by the attribute that tells the score of it.

    That is the most common class, the first of several, or the classes' shares.
    """
    targets = scorer.task.targets
    shares = targets.proba.mean(0)
    chosen = np.arange(len(shares)) == shares.argmax()
    out = {}
    for name, proba in (("majority_score", chosen), ("prior_score", shares)):
        proba = np.clip(proba, LEAST_PROBABILITY, None)
        rows = np.tile(np.log(proba / proba.sum()), (len(targets), 1))
        out[name] = Predictions("label", targets.names, rows)
    return out


def ignorant_scores(scorer: TargetScorer) -> dict[str, float]:
    """Score predictions that do not depend on the texts.

    Returns
    -------
    scores : dict of str to float
        ``majority_score`` of always predicting the most common class, ``prior_score``
        of predicting classes with their shares as probabilities; NaN if the scorer
        fails.
    """
    out = {}
    for name, answers in ignorant_answers(scorer).items():
        try:
            out[name] = scorer.score(answers)
        except Exception:  # a scorer may raise anything; reported with the students
            out[name] = float("nan")
    return out
