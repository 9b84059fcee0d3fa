"""What can be said of models for texts without labels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._utils._stack_level import find_stack_level
from ..embedders._moment_embedder import MomentEmbedder, warn_if_unlike
from ..embedders._student import Predictions
from ..exceptions import ModelLabelWarning
from ..models._mte_wrapper import MTEWrapper
from ..tasks._label_spaces import with_shared_classes
from ..tasks._task import Task
from ._labelling import answers_of_models
from ._student_ranker import StudentRanker

if TYPE_CHECKING:
    import pandas as pd

# Mean rank correlation of ``agreement`` with true accuracy on three beds, and that of
# the label prior, by ``benchmarks/without_labels.py``.
VERDICT = (
    "no ranking: without labels nothing tells reliably which model is better. The rank "
    "correlation of agreement with accuracy was 0.29, 0.18 and 0.51 on three beds, "
    "where knowing the labels' shares alone gives 0.75, 0.66 and 0.64. Label some rows"
)


def table_without_labels(
    wrapped: dict[str, MTEWrapper],
    texts: Any,
    X: Sequence[str],
    closed: MomentEmbedder,
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
    if errors:
        table["error"] = pd.Series(errors, dtype=object).reindex(table.index)
    table = table.sort_values("agreement", ascending=False, kind="stable")
    table.attrs = {
        "surrogate": str(closed.surrogate),
        "students": "closed",
        "verdict": VERDICT,
        "text_distance": warn_if_unlike(
            learnt.feature_space(), encoded.pooled(), "the target"
        ),
        "n_texts": len(tasks[0].texts),
        "n_samples": len(X),
    }
    return table


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
