"""Compare unlabelled texts: five pools of equal size, on two beds.

    python benchmarks/pools.py [--data DIR] [--archives DIR] [--texts 800] [--seeds 3]

The models of a bed (see ``beds.py``) label as many texts of each pool: posts without an
opinion, varied English sentences, exam questions and how-to texts, texts of installed
packages (`fute_sklearn.datasets.unlabelled_texts`, without near-duplicates of the
targets' rows) and a mixture of all in equal parts; and, to compare, rows of the
target's own domain.  Prints, for closed-form students, the rank correlation of expected
and true accuracy and the regret, mean over the targets and seeds, with the spread of
the seeds.
"""

from __future__ import annotations

import argparse
import json
import warnings

import numpy as np
from beds import LOADERS, Bed, bed_arguments, make_bed

from fute_sklearn import MomentEmbedder, MTEWrapper, StudentRanker
from fute_sklearn.datasets import unlabelled_texts
from fute_sklearn.metrics import regret_loss, spearman_score

BEDS = ("topics", "domains")
# The pool of which bed's unlabelled texts.
POOLS = {"posts": "topics", "sentences": "domains", "exams and how-to": "unlike"}
PER_SOURCE = 1000
OWN = "target's own domain"


def measure(bed: Bed, target: str, texts: list[str], truth: np.ndarray) -> list[float]:
    """Rank correlation and regret of the models of other domains for a target."""
    names = bed.others(target)
    labelled = [MTEWrapper(bed.zoo[n], name=n).label(texts) for n in names]
    ranker = StudentRanker(MomentEmbedder()).fit(labelled)
    scores = ranker.decision_function([bed.targets[target]])[0]
    return [spearman_score(truth, scores), regret_loss(truth, scores)]


def one_seed(
    name: str, pools: dict[str, list[str]], args: argparse.Namespace, seed: int
) -> dict[str, np.ndarray]:
    """Mean rank correlation and regret over a bed's targets, by pool."""
    rng = np.random.default_rng(seed)
    bed = make_bed(name, args.data, args.archives, args.texts, seed)
    known = list(bed.targets.values())
    found, report = unlabelled_texts(PER_SOURCE, targets=known, random_state=seed)
    if not seed:
        print(report.to_string())
    drawn = {
        pool: [texts[i] for i in rng.permutation(len(texts))[: args.texts]]
        for pool, texts in {**pools, "packages": found}.items()
    }
    part = args.texts // len(drawn)
    drawn["mixture"] = [t for texts in drawn.values() for t in texts[:part]]
    rows: dict[str, list[list[float]]] = {}
    for target, parts in bed.parts.items():
        test, y = list(parts["test"].texts), parts["test"].y
        truth = np.array(
            [np.mean(bed.zoo[n].predict(test) == y) for n in bed.others(target)]
        )
        own = {OWN: list(parts["train"].texts)[: args.texts]}
        for pool, texts in {**drawn, **own}.items():
            rows.setdefault(pool, []).append(measure(bed, target, texts, truth))
    return {pool: np.mean(values, axis=0) for pool, values in rows.items()}


def main() -> None:
    parser = bed_arguments(__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.set_defaults(texts=800)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    print(json.dumps({name: str(value) for name, value in vars(args).items()}))
    pools = {
        name: LOADERS[bed](args.data, args.archives)[1] for name, bed in POOLS.items()
    }
    for name in BEDS:
        runs = [one_seed(name, pools, args, seed) for seed in range(args.seeds)]
        print(f"\n{name}: {args.texts} texts of")
        for pool in runs[0]:
            means = [run[pool] for run in runs]
            rho, regret = np.mean(means, axis=0)
            spread = np.std(means, axis=0)
            print(
                f"  {pool:24}rho {rho:.3f} +-{spread[0]:.3f}  "
                f"regret {regret:.3f} +-{spread[1]:.3f}"
            )
        print(f"  {'random (expected)':24}rho 0.000", flush=True)


if __name__ == "__main__":
    main()
