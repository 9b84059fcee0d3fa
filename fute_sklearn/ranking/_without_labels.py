"""What can be said of models for texts without labels."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._utils._stack_level import find_stack_level
from ..embedders._moment_embedder import MomentEmbedder, warn_if_unlike
from ..embedders._normal_equations import NOISE_ALPHA, FeatureSpace
from ..embedders._student import Predictions
from ..exceptions import ModelLabelWarning
from ..models._mte_wrapper import MTEWrapper
from ..tasks._label_spaces import with_shared_classes
from ..tasks._task import Task
from ..tasks._validation import check_texts
from ._labelling import answers_of_models
from ._student_ranker import StudentRanker

if TYPE_CHECKING:
    import pandas as pd

    from .._engine import Encoded

# Mean rank correlations with true accuracy on three beds of ``agreement``, of the
# negative ``training_distance``, and of the label prior, by
# ``benchmarks/without_labels.py``.
VERDICT = (
    "no ranking: without labels nothing tells reliably which model is better. The rank "
    "correlation of agreement with accuracy was 0.29, 0.18 and 0.51 on three beds, "
    "where knowing the labels' shares alone gives 0.75, 0.66 and 0.64. Label some rows"
)
VERDICT_OF_DISTANCE = (
    "; that of nearness to the training texts was 0.24, -0.01 and -0.09"
)


def table_without_labels(
    wrapped: dict[str, MTEWrapper],
    texts: Any,
    X: Sequence[str],
    closed: MomentEmbedder,
    training_texts: Mapping[str, list[str]],
    *,
    on_error: str,
    n_jobs: int | None,
    callbacks: Sequence[Any],
) -> pd.DataFrame:
    """List models by how their students agree on texts without labels."""
    import pandas as pd

    labelled: dict[str, Task] = {}
    errors: dict[str, str] = {}
    for name, found in answers_of_models(wrapped, texts, n_jobs, on_error, callbacks):
        if isinstance(found, Task) and found.targets.kind == "label":
            labelled[name] = found
        elif isinstance(found, Task):
            errors[name] = f"answers with targets of kind {found.targets.kind!r}"
        else:
            errors[name] = str(found)
    if len(labelled) < 2:
        raise ValueError(
            f"y is None, and {len(labelled)} models label texts: without labels models "
            "can only be compared with each other. Give labels y, or more models."
        )
    if errors:
        name, reason = next(iter(errors.items()))
        warnings.warn(
            f"{len(errors)} of {len(wrapped)} models failed, as {name!r}: {reason}",
            ModelLabelWarning,
            stacklevel=find_stack_level(),
        )
    tasks = with_shared_classes(list(labelled.values()))
    ranker = StudentRanker(closed).fit(tasks, names=list(labelled))
    learnt = ranker.embedder_
    encoded = learnt.encode(X)
    values = agreements([one.predictions(encoded) for one in ranker.students_])
    table = pd.DataFrame(
        {"agreement": values}, index=pd.Index(list(labelled), name="model")
    ).reindex(pd.Index(list(wrapped), name="model"))
    if training_texts:
        space = learnt.feature_space()
        near = distances(space, encoded, map(learnt.encode, training_texts.values()))
        found = pd.Series(near, index=list(training_texts))
        table["training_distance"] = found.reindex(table.index)
    if errors:
        table["error"] = pd.Series(errors, dtype=object).reindex(table.index)
    table = table.sort_values("agreement", ascending=False, kind="stable")
    table.attrs = {
        "surrogate": str(closed.surrogate),
        "students": "closed",
        "verdict": VERDICT + VERDICT_OF_DISTANCE * bool(training_texts),
        "text_distance": warn_if_unlike(
            learnt.feature_space(), encoded.pooled(), "the target"
        ),
        "n_texts": len(tasks[0].texts),
        "n_samples": len(X),
    }
    return table


def checked_training_texts(
    given: Mapping[str, Any] | None, names: Sequence[str]
) -> dict[str, list[str]]:
    """Return models' training texts by name; raise if they are of other models."""
    if given is None:
        return {}
    if not hasattr(given, "items"):
        raise TypeError(
            f"training_texts is a {type(given).__name__}; expected a dict of texts by "
            "the names of the models."
        )
    out = {
        str(name): check_texts(some, f"training_texts[{name!r}]")
        for name, some in given.items()
    }
    if strange := [name for name in out if name not in names]:
        raise ValueError(
            f"training_texts holds {strange[:5]}, but the models are {list(names)}."
        )
    return out


def distances(
    space: FeatureSpace, target: Encoded, others: Iterable[Encoded]
) -> list[float]:
    """Distances between the mean features of texts and of others, in their spread.

    For standardised features of mean x and y it is the root of (x - y)^T (C + alpha
    I)^(-1) (x - y), with the space's second moment C, less what the sampling error of
    both means adds to it, so that few texts are as near as many; 0 where that is more,
    NaN for a single text.
    """
    scale = np.sqrt(space.values + NOISE_ALPHA)

    def moments(encoded: Encoded) -> tuple[np.ndarray, float]:
        rows = space.coordinates(encoded.pooled()) / scale
        count = len(rows)
        noise = float(rows.var(0).sum()) / (count - 1) if count > 1 else np.nan
        return rows.mean(0), noise

    mean, noise = moments(target)
    out = []
    for other in others:
        own, own_noise = moments(other)
        square = float(((own - mean) ** 2).sum()) - noise - own_noise
        out.append(float(np.sqrt(max(square, 0.0))))
    return out


def agreements(predictions: Sequence[Predictions]) -> np.ndarray:
    """Correlations of each model's probabilities with the mean of the others'.

    Each model's are taken less their means over the texts: how often models give a
    label says nothing of how well they do on texts whose labels' shares are not known.
    """
    names = sorted({name for one in predictions for name in one.names})
    table = np.zeros((len(predictions), len(predictions[0].values), len(names)))
    for i, one in enumerate(predictions):
        table[i][:, [names.index(name) for name in one.names]] = np.exp(one.values)
    table -= table.mean(1, keepdims=True)
    others = table.sum(0) - table
    products = np.einsum("ijk,ijk->i", table, others)
    scale = np.linalg.norm(table, axis=(1, 2)) * np.linalg.norm(others, axis=(1, 2))
    return np.divide(products, scale, out=np.zeros(len(products)), where=scale > 0)
