"""Find how often the data set nearest to a model is that of its own task.

    python benchmarks/own_task.py [--data DIR] [--archives DIR] [--texts 2000]
        [--seeds 1] [--surrogate fute-mini]

Fifteen tasks of different label sets, six families of models on each.  Models label
varied sentences that belong to none of the tasks (see ``beds.py``); models and data
sets (400 labelled rows) are embedded with the texts of their labels.  Prints, per
family, for how many models the data set of their own task is the nearest by cosine
(recall@1), for models whose labels keep their names and, the hard subset, for models
whose labels were renamed to numbers in another order.  There, labels are matched by
behaviour first: class moments of the model and of the data set are assigned to each
other so that their similarity is the largest.  "Centred": the mean over the models and
the mean over the data sets are removed from the vectors.  "Standardised": from the
similarities of all models with a data set, their mean is subtracted, and they are
divided by their standard deviation.  "Same number" compares a model with the data sets
of as many labels only, where chance is higher, as printed.  The same for the models
that are better than the majority class by more than chance (a one-sided exact test at
5 % on the rows that describe their task): the others answer as the majority does, or
at random.

Then, for the models that are better than the majority class, how often `match_labels`
finds out what all of their renamed labels mean, and how sure it says to be.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from beds import FAMILIES, bed_arguments, family, sentences
from scipy.optimize import linear_sum_assignment
from scipy.stats import binom

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
ALPHA = 0.1  # ridge of the whitening, as `MomentEmbedder` has it
LEVEL = 0.05  # of the test whether a model beats the majority class
COLUMNS = (
    "as they come",
    "centred",
    "standardised",
    "renamed",
    "ren., standardised",
    "same number",
)


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


def one_seed(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Recall@1 by family, for named and renamed labels."""
    rng = np.random.default_rng(seed)
    parts = parts_of(args.data, rng)
    pool = sentences(args.archives)
    texts = [pool[i] for i in rng.permutation(len(pool))[: args.texts]]
    labelled: list[Task] = []
    own: list[int] = []
    families: list[str] = []
    chances: list[float] = []
    for place, part in enumerate(parts.values()):
        for kind in FAMILIES:
            model = family(kind, seed).fit(list(part["train"].texts), part["train"].y)
            wrapper = MTEWrapper(model, classes=sorted(set(part["train"].y)))
            labelled.append(wrapper.label(texts))
            known = part["known"]
            right = int(np.sum(model.predict(list(known.texts)) == known.y))
            majority = known.targets.proba.mean(0).max()
            chances.append(chance_of(right, known.n_samples, majority))
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
        (task, hidden, data_sets[place], chance)
        for task, hidden, place, chance in zip(
            labelled, opaque, own, chances, strict=True
        )
        if chance < 0.5
    ]
    moved = standardised(hard)
    sizes = np.array([len(task.targets.names) for task in data_sets])
    alike = sizes[own][:, None] == sizes
    columns = (
        plain,
        centred,
        standardised(centred),
        hard,
        moved,
        np.where(alike, moved, -np.inf),
    )
    sure = np.array(chances) < LEVEL
    return {
        "seconds": spent,
        "matches": [matching(args.surrogate, *pair) for pair in pairs],
        "chance": (1 / len(TASKS), (1 / alike.sum(1)).mean()),
        "recalls": [
            recalls(columns, np.array(own), np.array(families), rows)
            for rows in (np.ones(len(own), dtype=bool), sure)
        ],
        "n_sure": int(sure.sum()),
    }


def standardised(similarities: np.ndarray) -> np.ndarray:
    """Similarities of models (n, m) with data sets, by how all models stand to each."""
    return (similarities - similarities.mean(0)) / similarities.std(0)


def chance_of(right: int, n_rows: int, share: float) -> float:
    """Chance that guessing the majority gets as many right (mid-p, one-sided)."""
    return float(binom.sf(right, n_rows, share) + 0.5 * binom.pmf(right, n_rows, share))


def recalls(
    columns: Sequence[np.ndarray],
    own: np.ndarray,
    families: np.ndarray,
    rows: np.ndarray,
) -> dict[str, dict[str, float]]:
    """Recall@1 of some rows by column, for each family and for all."""
    out = {}
    for label, found in zip(COLUMNS, columns, strict=True):
        right = found.argmax(1) == own
        by = {k: right[rows & (families == k)].mean() for k in FAMILIES}
        out[label] = {**by, "all": right[rows].mean()}
    return out


def renamed(task: Task, rng: np.random.Generator) -> Task:
    """The same answers, with numbers in another order for labels."""
    names = rng.permutation(len(task.targets.names)).astype(str).tolist()
    return Task(task.texts, task.targets.proba, classes=names, origin="model")


def matching(
    surrogate: str, task: Task, hidden: Task, data: Task, chance: float
) -> tuple[int, bool, float, list[tuple[bool, float]], float]:
    """Number of labels, whether all are right, confidence, per label, and chance."""
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
    return len(task.targets.names), whole, match.confidence, each, chance


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
    heads = ("models", "stated", "right", "labels", "stated", "right")
    print(f"{'stated confidence':20s}" + "".join(f"{head:>8s}" for head in heads))
    for low, high in itertools.pairwise((0.0, 0.5, 0.8, 0.9, 1.01)):
        wholes = [(c, w) for _, w, c, *_ in found if low <= c < high]
        each = [(c, w) for *_, e, _ in found for w, c in e if low <= c < high]
        cells = ""
        for some in (wholes, each):
            stated, right = np.mean(some, axis=0) if some else (np.nan, np.nan)
            cells += f"{len(some):8d}{stated:8.3f}{right:8.3f}"
        print(f"{low:.1f} to {min(high, 1):.1f}{'':10s}{cells}")


def renamed_similarities(
    surrogate: str, texts: list[str], opaque: list[Task], data_sets: list[Task]
) -> np.ndarray:
    """Similarities of models whose labels are numbers, matched by behaviour."""
    embedder = MomentEmbedder(surrogate, reference=texts)
    models, data = (
        [class_moments(task, embedder) for task in tasks]
        for tasks in (opaque, data_sets)
    )
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
    chance, of_number = np.mean([run["chance"] for run in runs], axis=0)
    print(
        f"{len(TASKS)} tasks, chance {chance:.2f}, among tasks of the same number of "
        f"labels {of_number:.2f}; {seconds:.3f} s a model"
    )
    sure = np.mean([run["n_sure"] for run in runs])
    heads = (
        "all models",
        f"the {sure:.0f} better than the majority by more than chance",
    )
    for place, head in enumerate(heads):
        print(f"\nrecall@1, {head}")
        print(f"{'':16s}" + "".join(f"{label:>19s}" for label in COLUMNS))
        for kind in [*FAMILIES, "all"]:
            found = [[r["recalls"][place][c][kind] for r in runs] for c in COLUMNS]
            print(f"{kind:16s}" + "".join(f"{np.mean(f):19.2f}" for f in found))
    print_matches(runs)


if __name__ == "__main__":
    main()
