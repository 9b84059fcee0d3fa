"""Compare ways to compare tuned vectors: published, centred, in a metric, for longer.

    python benchmarks/tuned_vectors.py [--bed topics] [--data DIR] [--archives DIR]
        [--texts 2000] [--seeds 3] [--surrogate fute-mini]

Every row is the cosine between the vector of a model and that of a data set, on a bed
of ``ranking_bed.py``.  *Products* are the low-rank products by which tuning changed the
surrogate's weights, *Fisher metric* is their product weighted by the Fisher information
of undecided answers, which is, to first order, the product of changed answers.
*Centred* subtracts the mean over the models, and that over the data sets.  Prints the
rank correlation with accuracy and balanced accuracy, mean over the targets (and spread
over the seeds).
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from beds import make_bed, one_bed_arguments, settings_of
from ranking_bed import GAINS, true_scores
from sklearn.base import clone

from fute_sklearn import MTEWrapper, StudentRanker, Task, TaskEmbedder, TuPaTEEmbedder
from fute_sklearn.metrics import spearman_score
from fute_sklearn.ranking._baselines import prior_distance
from fute_sklearn.ranking._target_scorer import TargetScorer

MODULES = {"cross_q": "q", "cross_k": "k", "cross_v": "v", "cross_o": "o"}
MORE = 3  # times as many epochs


def cosines(models: np.ndarray, data: np.ndarray) -> np.ndarray:
    """Cosines of the rows (n_models, n_data)."""
    models = models / np.linalg.norm(models, axis=1, keepdims=True)
    return models @ (data / np.linalg.norm(data, axis=1, keepdims=True)).T


def centred(models: np.ndarray, data: np.ndarray) -> np.ndarray:
    """Cosines after the mean over the rows of each side is subtracted."""
    return cosines(models - models.mean(0), data - data.mean(0))


def products(fitted: list[Any]) -> np.ndarray:
    """Changes of the weights by low-rank tuning, one row per task."""
    rows = []
    for one in fitted:
        found = one.student_.state_.parameters
        parts = [found[f"{m}.up"] @ found[f"{m}.down"] for m in MODULES]
        rows.append(np.concatenate([part.ravel() for part in parts]))
    return np.array(rows, dtype=np.float32)


def metric(surrogate: str, texts: list[str], names: list[str]) -> np.ndarray:
    """Fisher information of undecided answers, in the order of ``products``."""
    undecided = np.full((len(texts), len(names)), 1 / len(names))
    est = TaskEmbedder(surrogate, reduction="full")
    task = Task(texts, undecided, classes=names)
    loaded = est.load_surrogate()
    from fute_sklearn._engine import LabelObjective, fisher_diagonals, label_tree

    tree = label_tree(loaded, task.targets.names)
    objective = LabelObjective(loaded, [tree], [task.targets.proba])
    # One answer at a time: the gradient of the undecided mean would vanish.
    total: dict[str, np.ndarray] = {}
    for column in np.eye(len(names), dtype=np.float32):
        proba = np.tile(column, (len(texts), 1))
        (found,) = fisher_diagonals(
            loaded, est.encode(texts), objective, [proba], params="decoder"
        )
        total = {name: total.get(name, 0.0) + value for name, value in found.items()}
    layers = range(loaded.architecture.n_decoder_layers)
    place = "decoder.block.{}.layer.1.EncDecAttention.{}.weight"
    parts = [total[place.format(i, m)] for m in MODULES.values() for i in layers]
    return np.concatenate([part.ravel() for part in parts])


def both(embedder: Any, labelled: list[Task], data: list[Task]) -> tuple[Any, Any]:
    """Fitted embedders of models and of data sets."""
    models = embedder.embed(labelled)
    return models, [embedder.embed([task])[0] for task in data]


def vectors(fitted: list[Any]) -> np.ndarray:
    """Embeddings as rows."""
    return np.array([np.asarray(one.embedding_, dtype=float) for one in fitted])


def similarities(
    surrogate: str, texts: list[str], labelled: list[Task], data: list[Task], seed: int
) -> dict[str, np.ndarray]:
    """Scores (n_models, n_targets) by method."""
    out: dict[str, np.ndarray] = {}
    base = TuPaTEEmbedder(surrogate, space="parameters", random_state=seed)
    ratio = len(texts) / np.mean([task.n_samples for task in data])
    longer = {"max_epochs": round(base.max_epochs * ratio)}
    most = {"max_epochs": base.max_epochs * MORE}
    runs = {
        "as published": (base, base),
        "equal steps": (base, clone(base).set_params(**longer)),
        f"{MORE} times the epochs": (clone(base).set_params(**most),) * 2,
    }
    fisher = np.sqrt(metric(surrogate, texts, list(labelled[0].targets.names)))
    for label, (for_models, for_data) in runs.items():
        models = for_models.embed(labelled)
        sets = [for_data.embed([task])[0] for task in data]
        pair = vectors(models), vectors(sets)
        out[f"parameters, {label}"] = cosines(*pair)
        out[f"parameters, {label}, centred"] = centred(*pair)
        pair = products(models), products(sets)
        out[f"products, {label}"] = cosines(*pair)
        out[f"products, {label}, centred"] = centred(*pair)
        pair = pair[0] * fisher, pair[1] * fisher
        out[f"Fisher metric, {label}"] = cosines(*pair)
        out[f"Fisher metric, {label}, centred"] = centred(*pair)
        print(f"  {label}", flush=True)
    for statistic in ("fisher", "gradient"):
        est = TaskEmbedder(surrogate, statistic=statistic)
        pair = tuple(vectors(found) for found in both(est, labelled, data))
        out[f"TaskEmb, {statistic}"] = cosines(*pair)
        out[f"TaskEmb, {statistic}, centred"] = centred(*pair)
    function = StudentRanker(TuPaTEEmbedder(surrogate, random_state=seed))
    function.fit(labelled)
    models = np.asarray(function.embeddings_, dtype=float)
    data_vectors = vectors([function.embedder_.embed([task])[0] for task in data])
    out["function space"] = cosines(models, data_vectors)
    out["function space, centred"] = centred(models, data_vectors)
    out["label prior"] = np.array(
        [[-prior_distance(model, task) for task in data] for model in labelled]
    )
    out["expected accuracy of the student"] = np.array(
        [
            [
                TargetScorer(task, "accuracy").score(p)
                for p in function.predictions(task)
            ]
            for task in data
        ]
    ).T
    return out


def one_seed(args: argparse.Namespace, seed: int) -> dict[str, dict[str, float]]:
    """Rank correlations by gain and method."""
    bed = make_bed(args.bed, args.data, args.archives, args.texts, seed)
    labelled = [
        MTEWrapper(model, name=name).label(bed.texts) for name, model in bed.zoo.items()
    ]
    print(f" seed {seed}: {len(labelled)} models, {len(bed.texts)} texts", flush=True)
    data = list(bed.targets.values())
    found = similarities(args.surrogate, bed.texts, labelled, data, seed)
    truth = true_scores(bed, "test")
    names = list(bed.zoo)
    table: dict[str, dict[str, float]] = {}
    for gain, score in GAINS.items():
        table[gain] = {}
        for method, values in found.items():
            row = []
            for column, target in enumerate(bed.targets):
                others = bed.others(target)
                rows = [names.index(name) for name in others]
                y = bed.parts[target]["test"].y
                gains = [score(y, truth[target][name]) for name in others]
                row.append(spearman_score(gains, values[rows, column]))
            table[gain][method] = float(np.mean(row))
    return table


def main() -> None:
    args = settings_of(one_bed_arguments(__doc__, seeds=3))
    runs = [one_seed(args, seed) for seed in range(args.seeds)]
    print(f"{'cosine of':48s}" + "".join(f"{gain:>20s}" for gain in GAINS))
    for method in runs[0]["accuracy"]:
        found = [[run[gain][method] for run in runs] for gain in GAINS]
        cells = "".join(f"{np.mean(f):13.2f} ({np.std(f):.2f})" for f in found)
        print(f"{method:48s}{cells}")
    print(f"{'random (expected)':48s}" + f"{0:13.2f} (0.00)" * len(GAINS))


if __name__ == "__main__":
    main()
