"""Find how often the data set nearest to a model is that of its own task.

    python benchmarks/own_task.py [--data DIR] [--archives DIR] [--texts 2000]
        [--seeds 1] [--surrogate fute-mini]

Fifteen tasks of different label sets, six families of models on each.  Models label
varied sentences that belong to none of the tasks (see ``beds.py``); models and data
sets (400 labelled rows) are embedded with the texts of their labels, and the mean over
the models and the mean over the data sets are removed.  Prints, per family, for how
many models the data set of their own task is the nearest by cosine (recall@1), as
vectors come and centred, for models whose labels keep their names and, the hard
subset, for models whose labels were renamed to numbers in another order.  There, labels
are matched by behaviour first: class moments of the model and of the data set are
assigned to each other so that their similarity is the largest; centred there means
less a data set's mean similarity with all models.

Then, for the models that are better than the majority class, how often `match_labels`
finds out what all of their renamed labels mean, and how sure it says to be.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from beds import FAMILIES, bed_arguments, family, sentences
from scipy.optimize import linear_sum_assignment

from fute_sklearn import (
    MomentEmbedder,
    MTEWrapper,
    Task,
    TaskVectorizer,
    match_labels,
)
from fute_sklearn.datasets import load_task_file

TASKS = (
    "agnews banking77 cb clinc10 emotion irony mqp offensive pubmedqa rte scitail "
    "snli2 sst2 subj trec"
).split()
N_TRAIN, N_KNOWN = 2000, 400
COLUMNS = ("as they come", "centred", "renamed", "renamed, centred")


def parts_of(data: Path, rng: np.random.Generator) -> dict[str, dict[str, Task]]:
    """Cut each task into rows to train on and rows that describe it."""
    out = {}
    for name in TASKS:
        path = data / f"{name}.jsonl.gz"
        if not path.exists():
            raise SystemExit(f"{path} is missing: give --data.")
        task = load_task_file(path)["train"]
        order = rng.permutation(task.n_samples)
        known = min(N_KNOWN, task.n_samples // 3)
        rows = order[known:][:N_TRAIN]
        out[name] = {"known": task.take(order[:known]), "train": task.take(rows)}
    return out


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosines of rows."""
    first = first / np.linalg.norm(first, axis=1, keepdims=True)
    return first @ (second / np.linalg.norm(second, axis=1, keepdims=True)).T


def class_moments(vectors: list[np.ndarray], classes: list[int]) -> list[np.ndarray]:
    """Whitened moments of each class, (n_classes, d), centred over the classes."""
    found = []
    for vector, count in zip(vectors, classes, strict=True):
        # Columns are 2 P - 1; the last row is the mean target.
        columns = np.asarray(vector, dtype=float).reshape(-1, count, order="F")[:-1]
        found.append((columns - columns.mean(1, keepdims=True)).T)
    return found


def matched(model: np.ndarray, data: np.ndarray) -> float:
    """Cosine of class moments under the assignment of labels that suits them best."""
    size = max(len(model), len(data))
    products = np.zeros((size, size))
    products[: len(model), : len(data)] = model @ data.T
    rows, columns = linear_sum_assignment(-products)
    norm = np.linalg.norm(model) * np.linalg.norm(data)
    return float(products[rows, columns].sum() / norm)


def one_seed(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Recall@1 by family, for named and renamed labels."""
    rng = np.random.default_rng(seed)
    parts = parts_of(args.data, rng)
    pool = sentences(args.archives)
    texts = [pool[i] for i in rng.permutation(len(pool))[: args.texts]]
    labelled: list[Task] = []
    own: list[int] = []
    families: list[str] = []
    better: list[bool] = []
    for place, part in enumerate(parts.values()):
        for kind in FAMILIES:
            model = family(kind, seed).fit(list(part["train"].texts), part["train"].y)
            wrapper = MTEWrapper(model, classes=sorted(set(part["train"].y)))
            labelled.append(wrapper.label(texts))
            known = part["known"]
            right = np.mean(model.predict(list(known.texts)) == known.y)
            better.append(right > known.targets.proba.mean(0).max())
            own.append(place)
            families.append(kind)
    data_sets = [part["known"] for part in parts.values()]
    start = time.perf_counter()
    named = TaskVectorizer(MomentEmbedder(args.surrogate, target_encoding="text"))
    models = np.asarray(named.fit_transform(labelled), dtype=float)
    data = np.asarray(named.transform(data_sets), dtype=float)
    plain = cosines(models, data)
    centred = cosines(models - models.mean(0), data - data.mean(0))
    spent = (time.perf_counter() - start) / len(labelled)
    opaque = [renamed(task, rng) for task in labelled]
    hard = renamed_similarities(args.surrogate, texts, opaque, data_sets)
    pairs = [
        (task, hidden, data_sets[place])
        for task, hidden, place, good in zip(labelled, opaque, own, better, strict=True)
        if good
    ]
    out: dict[str, Any] = {
        "seconds": spent,
        "matches": [matching(args.surrogate, *pair) for pair in pairs],
    }
    columns = (plain, centred, hard, hard - hard.mean(0))
    for label, found in zip(COLUMNS, columns, strict=True):
        right = found.argmax(1) == np.array(own)
        by = {k: right[np.array(families) == k].mean() for k in FAMILIES}
        out[label] = {**by, "all": right.mean()}
    return out


def renamed(task: Task, rng: np.random.Generator) -> Task:
    """The same answers, with numbers in another order for labels."""
    names = rng.permutation(len(task.targets.names)).astype(str).tolist()
    return Task(task.texts, task.targets.proba, classes=names, origin="model")


def matching(
    surrogate: str, task: Task, hidden: Task, data: Task
) -> tuple[int, bool, float, list[tuple[bool, float]]]:
    """Number of labels, whether all are matched right, confidence, and per label."""
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


def print_matches(runs: list[dict[str, Any]]) -> None:
    """Print how often labels are matched right, by the confidence that is stated."""
    found = [match for run in runs for match in run["matches"]]
    for label, some in (
        ("all", found),
        ("at most ten labels", [f for f in found if f[0] <= 10]),
    ):
        share = np.mean([whole for _, whole, _, _ in some])
        print(f"\nmodels better than the majority, {label}: {len(some)}")
        print(f"all labels matched right: {share:.3f}")
    heads = ("models", "right", "labels", "right")
    print(f"{'stated confidence':20s}" + "".join(f"{head:>8s}" for head in heads))
    for low, high in itertools.pairwise((0.0, 0.5, 0.8, 0.9, 1.01)):
        wholes = [w for _, w, c, _ in found if low <= c < high]
        each = [w for *_, e in found for w, c in e if low <= c < high]
        cells = "".join(
            f"{len(some):8d}{np.mean(some) if some else np.nan:8.3f}"
            for some in (wholes, each)
        )
        print(f"{low:.1f} to {min(high, 1):.1f}{'':10s}{cells}")


def renamed_similarities(
    surrogate: str, texts: list[str], opaque: list[Task], data_sets: list[Task]
) -> np.ndarray:
    """Similarities of models whose labels are numbers, matched by behaviour."""
    embedder = MomentEmbedder(surrogate, reference=texts)
    vectors, counts = [], []
    for task in [*opaque, *data_sets]:
        vectors.append(np.asarray(embedder.embed([task])[0].embedding_))
        counts.append(len(task.targets.names))
    moments = class_moments(vectors, counts)
    models, data = moments[: len(opaque)], moments[len(opaque) :]
    return np.array([[matched(m, d) for d in data] for m in models])


def main() -> None:
    parser = bed_arguments(__doc__)
    parser.add_argument("--surrogate", default="fute-mini")
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    shown = {name: str(value) for name, value in vars(args).items()}
    print(json.dumps(shown), flush=True)
    runs = [one_seed(args, seed) for seed in range(args.seeds)]
    seconds = np.mean([run["seconds"] for run in runs])
    print(f"{len(TASKS)} tasks, chance {1 / len(TASKS):.2f}, {seconds:.3f} s a model")
    print(f"{'recall@1':16s}" + "".join(f"{label:>18s}" for label in COLUMNS))
    for kind in [*FAMILIES, "all"]:
        found = [[run[label][kind] for run in runs] for label in COLUMNS]
        print(f"{kind:16s}" + "".join(f"{np.mean(f):18.2f}" for f in found))
    print_matches(runs)


if __name__ == "__main__":
    main()
