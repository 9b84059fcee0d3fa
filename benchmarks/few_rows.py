"""Rank by few labelled rows of the target: asking students, or running the models.

    python benchmarks/few_rows.py [--beds topics domains unlike] [--data DIR]
        [--archives DIR] [--texts 8000] [--seeds 3] [--json FILE]

For every target of a bed (see ``beds.py``) some of its 400 labelled rows are drawn, 20
times.  The closed form ranks by what the models' students are expected to score on
these rows, the label prior by the rows' shares, and neither runs a model on them; "run"
are the models' true scores on the same rows, for which every model is called on each.
Prints rank correlation and regret, mean over targets, draws and seeds, the same draws
for all, and the spread of the correlation over the seeds.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from beds import LOADERS, Bed, bed_arguments, draws, make_bed, settings_of
from ranking_bed import GAINS, true_scores

from fute_sklearn import MomentEmbedder, StudentRanker
from fute_sklearn.embedders._student import Predictions
from fute_sklearn.metrics import regret_loss, spearman_score
from fute_sklearn.ranking._baselines import prior_distance
from fute_sklearn.ranking._target_scorer import TargetScorer

COUNTS = (5, 10, 30, 100, 300, 400)
N_DRAWS = 20
WAYS = ("closed form", "run", "prior", "random")
Found = dict[tuple[str, int, str], list[list[float]]]  # gain, rows, way


def one_seed(bed: Bed) -> Found:
    """Rank correlation and regret of each target by gain, number of rows and way."""
    labelled = bed.labelled()
    ranker = StudentRanker(MomentEmbedder()).fit(
        list(labelled.values()), names=list(labelled)
    )
    truth, seen = true_scores(bed, "test"), true_scores(bed, "known")
    out: Found = {}
    for target, parts in bed.parts.items():
        names, known, test = bed.others(target), parts["known"], parts["test"]
        said = dict(zip(labelled, ranker.predictions(known), strict=True))
        for gain, metric in GAINS.items():
            gains = [metric(test.y, truth[target][name]) for name in names]
            for count in COUNTS:
                n_draws = N_DRAWS if count < known.n_samples else 1
                found: dict[str, list[list[float]]] = {way: [] for way in WAYS}
                for rows in draws(known.n_samples, count, n_draws, 0):
                    some = known.take(rows)
                    scorer = TargetScorer(some, gain)
                    by_way = (
                        [scorer.score(cut(said[name], rows)) for name in names],
                        [metric(some.y, seen[target][name][rows]) for name in names],
                        [-prior_distance(labelled[name], some) for name in names],
                        [0.0] * len(names),
                    )
                    for way, scores in zip(WAYS, by_way, strict=True):
                        found[way].append(
                            [spearman_score(gains, scores), regret_loss(gains, scores)]
                        )
                for way, rates in found.items():
                    mean = list(np.mean(rates, axis=0))
                    out.setdefault((gain, count, way), []).append(mean)
    return out


def cut(found: Predictions, rows: np.ndarray) -> Predictions:
    """Predictions of some rows."""
    return Predictions(found.kind, found.names, found.values[rows])


def means_of(runs: list[Found]) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Mean correlation, its spread and mean regret by gain, rows and way."""
    out: dict[str, dict[str, dict[str, list[float]]]] = {}
    for gain in GAINS:
        for count in COUNTS:
            for way in WAYS:
                means = np.array([np.mean(run[gain, count, way], 0) for run in runs])
                (rank, regret), spread = means.mean(0), means[:, 0].std()
                by_count = out.setdefault(gain, {}).setdefault(str(count), {})
                by_count[way] = [float(rank), float(spread), float(regret)]
    return out


def show(name: str, means: dict[str, dict[str, dict[str, list[float]]]]) -> None:
    """Print the means of all runs on a bed."""
    for gain, rows in means.items():
        print(f"\n{name}, {gain}: rank correlation (spread) regret")
        print("  rows" + "".join(f"{way:>22s}" for way in WAYS))
        for count, by_way in rows.items():
            shown = [f"{a:9.2f} ({b:.2f}) {c:.3f}" for a, b, c in by_way.values()]
            print(f"{count:>6s}" + "".join(shown), flush=True)


def main() -> None:
    parser = bed_arguments(__doc__)
    parser.add_argument("--beds", nargs="+", default=list(LOADERS), choices=LOADERS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = settings_of(parser)
    kept = {}
    for name in args.beds:
        runs = [
            one_seed(make_bed(name, args.data, args.archives, args.texts, seed))
            for seed in range(args.seeds)
        ]
        kept[name] = means_of(runs)
        show(name, kept[name])
    if args.json:
        shown = {"texts": args.texts, "seeds": args.seeds, "draws": N_DRAWS}
        written = json.dumps({"settings": shown, "means": kept}, indent=1)
        args.json.write_text(written + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
