"""Find how often the data set nearest to a model is that of its own task.

    python benchmarks/own_task.py [--data DIR] [--archives DIR] [--texts 2000]
        [--seeds 1] [--surrogate fute-mini]

Fifteen tasks of different label sets, six families of models on each.  Models label
varied sentences that belong to none of the tasks (see ``beds.py``); models and data
sets (400 labelled rows) are embedded with the texts of their labels.  Prints, per
family, for how many models the data set of their own task is the nearest by cosine
(recall@1; data sets that are equally near share it), as mean and, for all families
together, spread over the seeds, for models whose labels keep their names and, the hard
subset, for models whose labels were renamed to numbers in another order.  There, labels
are matched by behaviour first: class moments of the model and of the data set are
assigned to each other so that their similarity is the largest.  "Centred": the mean
over the models and the mean over the data sets are removed from the vectors.
"Standardised": from the similarities of all models with a data set, their mean is
subtracted, and they are divided by their standard deviation.  "Of as many labels":
among the data sets of as many labels as the model has.

Baselines: the share of labels' names in common, the likeness of the labels' shares, and
k labelled rows of every data set on which every model is run (200 draws): how many it
gets right under the best assignment of its labels, above the most frequent label.
"Worth": the smallest k whose mean recall is no lower.

The same for the models that are better than the majority class by more than chance (a
one-sided exact test at 5 % on the rows that describe their task): the others answer as
the majority does, or at random.

Then, for the models that are better than the majority class, how often `match_labels`
finds out what all of their renamed labels mean, and how sure it says to be; beside it,
how often k labelled rows do on which the model is run (200 draws).
"""

from __future__ import annotations

import itertools
import json
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from beds import FAMILIES, bed_arguments
from own_task_bed import (
    COUNTS,
    LEVEL,
    TASKS,
    OwnTasks,
    labelled_rows,
    make_bed,
    names_in_common,
    rows_match,
    share_distances,
)
from scipy.optimize import linear_sum_assignment

from fute_sklearn import MomentEmbedder, Task, TaskVectorizer, match_labels

ALPHA = 0.1  # ridge of the whitening, as `MomentEmbedder` has it
COLUMNS = [*FAMILIES, "all"]
# Groups of methods, each with its own random choice and labelled rows.
NAMED, RENAMED, ALIKE = "named", "renamed", "renamed, of as many labels"
Found = dict[str, dict[str, tuple[np.ndarray, float]]]


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosines of rows."""
    first = first / np.linalg.norm(first, axis=1, keepdims=True)
    return first @ (second / np.linalg.norm(second, axis=1, keepdims=True)).T


def class_moments(task: Task, embedder: MomentEmbedder) -> np.ndarray:
    """Whitened covariances of features and classes, (n_classes, d), centred."""
    space = embedder.feature_space()
    rows = space.coordinates(embedder.encode(task.texts).pooled())
    rows = (rows - rows.mean(0)) / np.sqrt(space.values + ALPHA)
    found = task.targets.proba.T @ rows / len(rows)
    return np.asarray(found - found.mean(0))


def matched(model: np.ndarray, data: np.ndarray) -> float:
    """Cosine of class moments under the assignment of labels that suits them best."""
    size = max(len(model), len(data))
    products = np.zeros((size, size))
    products[: len(model), : len(data)] = model @ data.T
    rows, columns = linear_sum_assignment(-products)
    norm = np.linalg.norm(model) * np.linalg.norm(data)
    return float(products[rows, columns].sum() / norm)


def standardised(similarities: np.ndarray) -> np.ndarray:
    """Similarities of models (n, m) with data sets, by how all models stand to each."""
    return (similarities - similarities.mean(0)) / similarities.std(0)


def timed(make: Callable[..., Any], *args: Any) -> tuple[Any, float]:
    """What a function returns, and the seconds it takes."""
    start = time.perf_counter()
    return make(*args), time.perf_counter() - start


def named_vectors(bed: OwnTasks, surrogate: str) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of models and of data sets, with the texts of their labels."""
    made = TaskVectorizer(MomentEmbedder(surrogate, target_encoding="text"))
    models = made.fit_transform(bed.labelled)
    data = made.transform(bed.data_sets)
    return np.asarray(models, dtype=float), np.asarray(data, dtype=float)


def renamed_similarities(bed: OwnTasks, surrogate: str) -> np.ndarray:
    """Similarities of models whose labels are numbers, matched by behaviour."""
    embedder = MomentEmbedder(surrogate, reference=bed.texts)
    models, data = (
        [class_moments(task, embedder) for task in tasks]
        for tasks in (bed.opaque, bed.data_sets)
    )
    return np.array([[matched(m, d) for d in data] for m in models])


def similarities(bed: OwnTasks, surrogate: str, seed: int) -> Found:
    """Similarities (n_draws, n_models, n_data) and seconds a model, by method."""
    (models, data), named_seconds = timed(named_vectors, bed, surrogate)
    centred = cosines(models - models.mean(0), data - data.mean(0))
    hard, seconds = timed(renamed_similarities, bed, surrogate)
    alike = bed.sizes[bed.own][:, None] == bed.sizes
    n_models, n_data = hard.shape
    named, seconds = named_seconds / n_models, seconds / n_models
    same = np.zeros((n_models, n_data))
    by_shares = share_distances(bed)
    found: Found = {
        NAMED: {
            "random (expected)": (same, 0.0),
            "names in common": (names_in_common(bed), 0.0),
            "as they come": (cosines(models, data), named),
            "centred": (centred, named),
            "standardised": (standardised(centred), named),
        },
        RENAMED: {
            "random (expected)": (same, 0.0),
            "labels' shares": (by_shares, 0.0),
            "matched": (hard, seconds),
            "matched, standardised": (standardised(hard), seconds),
        },
    }
    for count in COUNTS:
        rows = labelled_rows(bed, count, seed)
        spent = bed.seconds * count * n_data
        found[RENAMED][f"{count} labelled rows"] = rows, spent
    found[ALIKE] = {
        method: (np.where(alike, values, -np.inf), spent)
        for method, (values, spent) in found[RENAMED].items()
    }
    return found


def recalls(values: np.ndarray, bed: OwnTasks, rows: np.ndarray) -> list[float]:
    """Recall@1 of some models for each family and for all."""
    values = values.reshape(-1, *values.shape[-2:])
    own = np.take_along_axis(values, bed.own[None, :, None], axis=2)
    first = values == values.max(2, keepdims=True)
    right = ((own[..., 0] == values.max(2)) / first.sum(2)).mean(0)
    return [
        right[rows & ((bed.families == kind) | (kind == "all"))].mean()
        for kind in COLUMNS
    ]


def matching(
    surrogate: str, task: Task, hidden: Task, data: Task
) -> tuple[int, bool, float, list[tuple[bool, float]]]:
    """Number of labels, whether all are right, confidence, and both per label."""
    match = match_labels(hidden, data, embedder=MomentEmbedder(surrogate))
    columns = hidden.targets.proba.T
    true = {}
    for label, column in zip(task.targets.names, task.targets.proba.T, strict=True):
        same = [np.array_equal(column, other) for other in columns]
        true[label] = {hidden.targets.names[i] for i in np.flatnonzero(same)}
    each = [
        (str(old) in true[str(new)], match.confidences[old])
        for old, new in match.names.items()
    ]
    whole = all(found for found, _ in each) and len(each) == len(data.targets.names)
    return len(task.targets.names), whole, match.confidence, each


def one_seed(args: Any, seed: int) -> dict[str, Any]:
    """Recall@1 and seconds by group and method, and what `match_labels` finds."""
    bed = make_bed(args.data, args.archives, args.texts, seed)
    found = similarities(bed, args.surrogate, seed)
    chosen = (np.ones(len(bed.own), dtype=bool), bed.chances < LEVEL)
    print(f" seed {seed}: {len(bed.own)} models, {chosen[1].sum()} sure", flush=True)
    return {
        "recalls": [
            {
                group: {m: recalls(v, bed, rows) for m, (v, _) in methods.items()}
                for group, methods in found.items()
            }
            for rows in chosen
        ],
        "seconds": {
            group: {m: spent for m, (_, spent) in methods.items()}
            for group, methods in found.items()
        },
        "n_sure": int(chosen[1].sum()),
        "matches": [
            (
                *matching(
                    args.surrogate,
                    bed.labelled[i],
                    bed.opaque[i],
                    bed.data_sets[bed.own[i]],
                ),
                [rows_match(bed, i, count, seed) for count in COUNTS],
                bed.chances[i],
            )
            for i in np.flatnonzero(bed.chances < 0.5)
        ],
    }


def print_recalls(runs: list[dict[str, Any]], place: int) -> None:
    """Print the recalls of all models, or of those that are surely good."""
    heads = [*COLUMNS, "spread", "seconds", "worth"]
    for group, methods in runs[0]["recalls"][place].items():
        print(f"{group:24s}" + "".join(f"{head:>14s}" for head in heads))
        found = {
            m: np.array([run["recalls"][place][group][m] for run in runs])
            for m in methods
        }
        rows = {c: found.get(f"{c} labelled rows") for c in COUNTS}
        worths = {c: v[:, -1].mean() for c, v in rows.items() if v is not None}
        if worths:
            worths = {0: found["random (expected)"][:, -1].mean()} | worths
        for method, values in found.items():
            cells = "".join(f"{value:14.2f}" for value in values.mean(0))
            spent = np.mean([run["seconds"][group][method] for run in runs])
            enough = [c for c, v in worths.items() if v >= values[:, -1].mean()]
            worth = str(min(enough, default=f">{max(COUNTS)}")) if worths else "-"
            print(
                f"  {method:22s}{cells}{values[:, -1].std():14.3f}{spent:14.3f}"
                f"{'' if 'rows' in method else worth:>14s}"
            )


def print_matches(runs: list[dict[str, Any]]) -> None:
    """Print how often labels are matched right, by the confidence that is stated."""
    found = [match for run in runs for match in run["matches"]]
    for label, some in (
        ("all", found),
        ("at most ten labels", [f for f in found if f[0] <= 10]),
        (
            "at most ten labels, by more than chance",
            [f for f in found if f[0] <= 10 and f[-1] < LEVEL],
        ),
    ):
        share = np.mean([whole for _, whole, *_ in some])
        print(f"\nmodels better than the majority, {label}: {len(some)}")
        print(f"all labels matched right: {share:.3f}")
        by_rows = np.mean([rows for *_, rows, _ in some], axis=0)
        for count, mean in zip(COUNTS, by_rows, strict=True):
            print(f"  by {count} labelled rows on which it is run: {mean:.3f}")
    heads = ("models", "stated", "right", "labels", "stated", "right")
    print(f"{'stated confidence':20s}" + "".join(f"{head:>8s}" for head in heads))
    for low, high in itertools.pairwise((0.0, 0.5, 0.8, 0.9, 1.01)):
        wholes = [(c, w) for _, w, c, *_ in found if low <= c < high]
        each = [(c, w) for _, _, _, e, *_ in found for w, c in e if low <= c < high]
        cells = ""
        for some in (wholes, each):
            stated, right = np.mean(some, axis=0) if some else (np.nan, np.nan)
            cells += f"{len(some):8d}{stated:8.3f}{right:8.3f}"
        print(f"{low:.1f} to {min(high, 1):.1f}{'':10s}{cells}")


def main() -> None:
    parser = bed_arguments(__doc__)
    parser.add_argument("--surrogate", default="fute-mini")
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    shown = {name: str(value) for name, value in vars(args).items()}
    print(json.dumps(shown), flush=True)
    runs = [one_seed(args, seed) for seed in range(args.seeds)]
    sure = np.mean([run["n_sure"] for run in runs])
    print(f"{len(TASKS)} tasks\n\nrecall@1, all models")
    print_recalls(runs, 0)
    print(f"\nrecall@1, the {sure:.0f} better than the majority by more than chance")
    print_recalls(runs, 1)
    print_matches(runs)


if __name__ == "__main__":
    main()
