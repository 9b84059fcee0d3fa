"""Find whether two surrogates rank a zoo alike, and whether their vectors can be mixed.

    python benchmarks/two_surrogates.py --second DIR [--bed topics] [--data DIR]
        [--archives DIR] [--texts 2000] [--seeds 3] [--surrogate fute-mini]

``--second`` is the folder of another trained T5; the guide's is ``run/encoder`` of
``tools/pretrain/distil.py`` with a copy of its ``config.json`` in which are changed:
``seed`` 1; ``d_model`` 192, ``num_heads`` 6, ``d_ff`` 768, ``num_layers`` 6,
``num_decoder_layers`` 2; ``total_tokens`` 2000000, ``warmup_steps`` 60.  The
beds are those of ``ranking_bed.py``.  In function space a vector is what a model or a
data set answers to the same reference texts, whichever surrogate learnt it.  Prints, as
mean over the targets (and spread over the seeds), the rank correlation between the
two surrogates' rankings, and that of each with the models' true accuracy, for the
cosine in function space, for expected scores, and for models embedded by one surrogate
with data sets embedded by the other, beside the label prior, which needs no surrogate.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from beds import Bed, make_bed, one_bed_arguments, settings_of
from ranking_bed import true_scores

from fute_sklearn import MomentEmbedder, StudentRanker, Task, TuPaTEEmbedder
from fute_sklearn.metrics import spearman_score
from fute_sklearn.ranking._baselines import prior_distance

FIRST, SECOND = "first", "second"


def unit(vectors: Any) -> np.ndarray:
    """Vectors (n, d) divided by their norms."""
    rows = np.asarray(vectors, dtype=float)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def scores_of(
    surrogates: dict[str, str], labelled: list[Task], data: list[Task], seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """Scores (n_models, n_targets) by method and by whose they are."""
    places, out = {}, {}
    for which, surrogate in surrogates.items():
        tuned = StudentRanker(TuPaTEEmbedder(surrogate, random_state=seed))
        closed = StudentRanker(MomentEmbedder(surrogate))
        for label, ranker in (("low-rank", tuned), ("closed form", closed)):
            found = ranker.fit(labelled).decision_function(data).T
            out.setdefault(f"expected score, {label}", {})[which] = found
        goals = [tuned.embedder_.embed([task])[0].embedding_ for task in data]
        places[which] = unit(tuned.embeddings_), unit(goals)
    cosines = {which: models @ goals.T for which, (models, goals) in places.items()}
    mixed = {
        FIRST: places[FIRST][0] @ places[SECOND][1].T,
        SECOND: places[SECOND][0] @ places[FIRST][1].T,
    }
    prior = [[-prior_distance(model, task) for task in data] for model in labelled]
    return {
        "function space, cosine": cosines,
        "models by one, data by the other": mixed,
        **out,
        "label prior": dict.fromkeys((FIRST, SECOND), np.array(prior)),
    }


def correlations(bed: Bed, both: dict[str, np.ndarray]) -> np.ndarray:
    """Rank correlations of both with each other, and of each with the truth."""
    truth, names = true_scores(bed, "test"), list(bed.zoo)
    found = []
    for column, target in enumerate(bed.targets):
        others = bed.others(target)
        rows = [names.index(name) for name in others]
        y = bed.parts[target]["test"].y
        gains = [np.mean(truth[target][name] == y) for name in others]
        first, second = (both[which][rows, column] for which in (FIRST, SECOND))
        pairs = ((first, second), (gains, first), (gains, second))
        found.append([spearman_score(a, b) for a, b in pairs])
    return np.mean(found, axis=0)


def one_seed(args: argparse.Namespace, seed: int) -> dict[str, np.ndarray]:
    """Correlations by method."""
    bed = make_bed(args.bed, args.data, args.archives, args.texts, seed)
    labelled = list(bed.labelled().values())
    print(f" seed {seed}: {len(labelled)} models, {len(bed.texts)} texts", flush=True)
    surrogates = {FIRST: args.surrogate, SECOND: args.second}
    found = scores_of(surrogates, labelled, list(bed.targets.values()), seed)
    return {method: correlations(bed, both) for method, both in found.items()}


def main() -> None:
    parser = one_bed_arguments(__doc__, seeds=3)
    parser.add_argument("--second", required=True)
    args = settings_of(parser)
    runs = [one_seed(args, seed) for seed in range(args.seeds)]
    heads = ("with each other", "first, truth", "second, truth")
    print(f"{'rank correlation':36s}" + "".join(f"{head:>18s}" for head in heads))
    for method in runs[0]:
        found = np.array([run[method] for run in runs])
        means, spread = found.mean(0), found.std(0)
        cells = [f"{m:.2f} ({s:.2f})" for m, s in zip(means, spread, strict=True)]
        print(f"{method:36s}" + "".join(f"{cell:>18s}" for cell in cells))


if __name__ == "__main__":
    main()
