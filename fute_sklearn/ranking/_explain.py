"""Which texts and labels make the difference between two ranked models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone

from .._utils._table_attribute import FrameAttribute
from ..embedders._moment_state import fixed_alpha
from ..tasks._task import Task
from ._add_labels import evidence_of
from ._confidence import Evidence
from ._target_scorer import LinearLoss

if TYPE_CHECKING:
    import pandas as pd

OTHERS = "the others"


def explain(
    ranking: pd.DataFrame, model: str, other: str | None = None
) -> pd.DataFrame:
    """Say which texts and labels make the difference between two ranked models.

    An expected score is a sum over the target's rows, so that the difference of two is
    a sum of contributions.  Each rests on what the models answered to the unlabelled
    texts, of which those count most on which they differ and which are like the row.
    Labelled rows that moved the scores since (`add_labels`) are not in it.

    Parameters
    ----------
    ranking : DataFrame
        What `rank_models` or `ModelRegistry.rank` returned.
    model : str
        A ranked model.
    other : str, optional
        Another one; by default the mean of all others.

    Returns
    -------
    table : DataFrame (n_samples, ...)
        The target's rows, those that contribute most first, indexed by their positions
        in X: ``text``, ``label``, ``p_model`` and ``p_other`` (the probabilities that
        the models answer the label), and ``contribution`` to the difference of the
        expected scores.  ``table.attrs`` holds

        - ``difference``: the sum of the contributions;
        - ``labels.frame``: a DataFrame by label, with ``contribution`` (the sum over
          its rows) and ``n_rows``;
        - ``unlabelled.frame``: a DataFrame of the unlabelled texts that both models
          answered, those that count most first, with ``answer_model``,
          ``answer_other`` (not where ``other`` is None) and ``contribution`` to the
          difference by the closed-form students.  It is empty where the models
          labelled different texts;
        - ``model`` and ``other``: the names.

    Raises
    ------
    TypeError
        If ``ranking`` was not made by `rank_models`.
    KeyError
        If it has no such model, or the model has no score.
    ValueError
        If it was made with a scorer that is no sum over rows, or there is one model.

    See Also
    --------
    ExplanationDisplay : A picture of it.

    Examples
    --------
    >>> from fute_sklearn import TuPaTEEmbedder, explain, rank_models
    >>> texts = ["a fine film", "a dull film", "fine food", "dull and grey"]
    >>> first = {text: "good" if "fine" in text else "bad" for text in texts}
    >>> second = {text: "good" for text in texts[:3]} | {texts[3]: "bad"}
    >>> table = rank_models(
    ...     {"first": first, "second": second},
    ...     ["fine wine", "a dull day"], ["good", "bad"], texts=texts,
    ...     embedder=TuPaTEEmbedder("fute-tiny-random", max_epochs=1))
    >>> found = explain(table, "first", "second")
    >>> found.attrs["unlabelled"].frame.iloc[0]["text"]
    'a dull film'
    """
    import pandas as pd

    evidence = evidence_of(ranking)
    linear = evidence.scorer.linear_loss()
    if linear is None:
        raise ValueError(
            f"scoring={evidence.scorer.scoring!r} is no sum over the target's rows, so "
            "that it cannot be explained by them; rank with scoring='accuracy' or "
            "'balanced_accuracy'."
        )
    first = _place(evidence, model)
    if other is None:
        rest = [i for i, s in enumerate(evidence.expected) if i != first and s == s]
        if not rest:
            raise ValueError("there is no other model to compare with.")
    else:
        rest = [_place(evidence, other)]
    task = evidence.scorer.task
    right = np.array([evidence.scorer.right(one) for one in evidence.predictions])
    mean = right[rest].mean(0)
    contribution = linear.losses * (right[first] - mean)
    table = pd.DataFrame(
        {
            "text": task.texts,
            "label": task.targets.classes[task.targets.proba.argmax(1)],
            "p_model": right[first],
            "p_other": mean,
            "contribution": contribution,
        }
    )
    by_label = table.groupby("label", sort=True)["contribution"]
    labels = pd.DataFrame({"contribution": by_label.sum(), "n_rows": by_label.size()})
    table = table.iloc[np.argsort(-abs(contribution), kind="stable")]
    table.attrs = {
        "difference": float(contribution.sum()),
        "labels": FrameAttribute(labels),
        "unlabelled": FrameAttribute(
            _unlabelled(evidence, linear, first, rest, other is None)
        ),
        "model": model,
        "other": OTHERS if other is None else other,
    }
    return table


def _place(evidence: Evidence, given: Any) -> int:
    name = str(given)  # as rankings name their models
    if name not in evidence.names:
        raise KeyError(f"{name!r} is not ranked; the models are {[*evidence.names]}.")
    place = evidence.names.index(name)
    if np.isnan(evidence.expected[place]):
        raise KeyError(f"the model {name!r} has no score.")
    return place


def _unlabelled(
    evidence: Evidence,
    linear: LinearLoss,
    first: int,
    rest: Sequence[int],
    several: bool,
) -> pd.DataFrame:
    """Contributions of the unlabelled texts, by ridge regressions on them."""
    import pandas as pd

    one = evidence.labelled[first]
    others = [evidence.labelled[i] for i in rest]
    alike = [t for t in others if t.text_key == one.text_key]
    columns = ["text", "answer_model", "answer_other", "contribution"]
    if not alike or (len(alike) < len(others) and not several):
        return pd.DataFrame(columns=columns)
    embedder, target = evidence.closed, evidence.scorer.task
    learnt = clone(embedder)
    learnt.learn_space([one])
    space = learnt.feature_space()
    seen = space.coordinates(learnt.encode(one.texts).pooled())
    solved = seen / (space.values + fixed_alpha(embedder.alpha))
    rows = space.coordinates(learnt.encode(target.texts).pooled())
    truth = target.targets.label_names()
    total = np.zeros(len(seen))
    for name in np.unique(truth):
        wanted = linear.losses * (truth == name) @ rows
        mean = np.mean([_share(task, name) for task in alike], axis=0)
        total += solved @ wanted / len(seen) * (_share(one, name) - mean)
    table = pd.DataFrame(
        {
            "text": one.texts,
            "answer_model": one.targets.label_names(),
            "answer_other": alike[0].targets.label_names(),
            "contribution": total,
        }
    )
    if several:
        table = table.drop(columns="answer_other")
    return table.iloc[np.argsort(-abs(total), kind="stable")]


def _share(task: Task, name: str) -> np.ndarray:
    """Probability of a label for each text, 0 where the model does not know it."""
    names = task.targets.names
    if name not in names:
        return np.zeros(task.n_samples)
    return task.targets.proba[:, names.index(name)]
