"""Try what could be made of the same answers: probabilities, and weights per model.

    python benchmarks/combinations.py [--bed topics] [--data DIR] [--archives DIR]
        [--texts 2000] [--seeds 3] [--surrogate fute-mini]

The beds are those of ``ranking_bed.py``.  Students learn the models' labels, as
`rank_models` has it, or the models' probabilities where they give some (not the SVM).
The two students of a model, closed form and low-rank, are joined by the mean of their
probabilities, as `rank_models` has it, or with a weight for each model, under which
students of three quarters of the texts make the model's answers to the last quarter the
likeliest.  No setting is chosen by what comes out.  Prints the rank correlation and the
regret of expected scores, as mean over the targets (and spread over the seeds), beside
the label prior.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from beds import make_bed, one_bed_arguments, settings_of
from ranking_bed import GAINS, true_scores

from fute_sklearn import (
    MomentEmbedder,
    MTEWrapper,
    StudentRanker,
    Task,
    TuPaTEEmbedder,
)
from fute_sklearn.embedders._student import Predictions
from fute_sklearn.metrics import regret_loss, spearman_score
from fute_sklearn.ranking._baselines import prior_distance
from fute_sklearn.ranking._target_scorer import TargetScorer

WEIGHTS = np.linspace(0, 1, 11)  # of the low-rank student
HELD_OUT = 0.25
Students = dict[str, StudentRanker]


def students(surrogate: str, labelled: list[Task], seed: int) -> Students:
    """Fit both students of every model."""
    made = {
        "closed": StudentRanker(MomentEmbedder(surrogate)),
        "low-rank": StudentRanker(TuPaTEEmbedder(surrogate, random_state=seed)),
    }
    return {name: ranker.fit(labelled) for name, ranker in made.items()}


def joined(
    closed: Predictions, tuned: Predictions, weight: float | np.floating
) -> Predictions:
    """Mix the probabilities of two students."""
    places = [tuned.names.index(name) for name in closed.names]
    proba = (1 - weight) * np.exp(closed.values)
    proba += weight * np.exp(tuned.values[:, places])
    return Predictions("label", closed.names, np.log(proba))


def held_out_weights(
    surrogate: str, labelled: Sequence[Task], seed: int
) -> list[np.floating]:
    """Weight of each model's low-rank student."""
    count = labelled[0].n_samples
    order = np.random.default_rng(seed).permutation(count)
    cut = round(HELD_OUT * count)
    rest = [task.take(order[:cut]) for task in labelled]
    made = students(surrogate, [task.take(order[cut:]) for task in labelled], seed)
    found = {name: list(ranker.predictions(rest[0])) for name, ranker in made.items()}
    out = []
    for task, closed, tuned in zip(
        rest, found["closed"], found["low-rank"], strict=True
    ):
        column = [closed.names.index(name) for name in task.targets.label_names()]
        rows = np.arange(len(column))
        fits = [joined(closed, tuned, w).values[rows, column].mean() for w in WEIGHTS]
        out.append(WEIGHTS[int(np.argmax(fits))])
    return out


def soft(model: Any, name: str, texts: list[str]) -> Task:
    """Label texts with a model's probabilities, or its labels if it has none."""
    if not hasattr(model, "predict_proba"):
        return MTEWrapper(model, name=name).label(texts)
    return MTEWrapper(model, name=name, response_method="predict_proba").label(texts)


def predictions(
    target: Task, made: dict[str, Students], weights: Sequence[np.floating]
) -> dict[str, list[Predictions]]:
    """What the models are expected to answer to a target's texts, by each way."""
    out: dict[str, list[Predictions]] = {}
    for of, pair in made.items():
        found = {
            name: list(ranker.predictions(target)) for name, ranker in pair.items()
        }
        closed, tuned = found["closed"], found["low-rank"]
        out |= {
            f"closed form, {of}": closed,
            f"low-rank, {of}": tuned,
            f"mean, {of}": [
                joined(a, b, 0.5) for a, b in zip(closed, tuned, strict=True)
            ],
        }
        if of == "labels":
            out["weights of held-out texts, labels"] = [
                joined(a, b, one)
                for a, b, one in zip(closed, tuned, weights, strict=True)
            ]
    return out


def one_seed(args: argparse.Namespace, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Rank correlation and regret by gain and way."""
    bed = make_bed(args.bed, args.data, args.archives, args.texts, seed)
    labelled = list(bed.labelled().values())
    print(f" seed {seed}: {len(labelled)} models, {len(bed.texts)} texts", flush=True)
    probabilities = [soft(model, name, bed.texts) for name, model in bed.zoo.items()]
    made = {
        "labels": students(args.surrogate, labelled, seed),
        "probabilities": students(args.surrogate, probabilities, seed),
    }
    weights = held_out_weights(args.surrogate, labelled, seed)
    print(f"  weights of low-rank students: {np.mean(weights):.2f}", flush=True)
    truth, names = true_scores(bed, "test"), list(bed.zoo)
    table: dict[str, dict[str, list[list[float]]]] = {gain: {} for gain in GAINS}
    for target, task in bed.targets.items():
        ways = predictions(task, made, weights)
        others = bed.others(target)
        rows = [names.index(name) for name in others]
        y = bed.parts[target]["test"].y
        prior = np.array([-prior_distance(labelled[i], task) for i in rows])
        for gain, metric in GAINS.items():
            gains = [metric(y, truth[target][name]) for name in others]
            scorer = TargetScorer(task, gain)
            found = {
                way: np.array([scorer.score(several[i]) for i in rows])
                for way, several in ways.items()
            }
            for way, scores in {**found, "label prior": prior}.items():
                pair = [spearman_score(gains, scores), regret_loss(gains, scores)]
                table[gain].setdefault(way, []).append(pair)
    return {
        gain: {way: np.mean(pairs, axis=0) for way, pairs in found.items()}
        for gain, found in table.items()
    }


def main() -> None:
    args = settings_of(one_bed_arguments(__doc__, seeds=3))
    runs = [one_seed(args, seed) for seed in range(args.seeds)]
    print(f"{'':36s}" + "".join(f"{gain:>26s}" for gain in GAINS))
    for way in runs[0]["accuracy"]:
        cells = ""
        for gain in GAINS:
            found = np.array([run[gain][way] for run in runs])
            rho, regret = found.mean(0)
            cells += f"{rho:12.2f} ({found[:, 0].std():.2f}){regret:7.3f}"
        print(f"{way:36s}{cells}")


if __name__ == "__main__":
    main()
