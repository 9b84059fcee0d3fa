"""Rank by few labelled rows of the target: asking students, or running the models.

    python benchmarks/few_rows.py [--beds topics domains unlike] [--data DIR]
        [--archives DIR] [--texts 8000] [--seeds 3]

For every target of a bed (see ``beds.py``) some of its 400 labelled rows are drawn, 50
times.
The closed form ranks by what the models' students are expected to score on these rows,
the label prior by the rows' shares, and neither runs a model on them; "run" are the
models' true scores on the same rows, for which every model is called on each.  Prints
rank correlation and regret (mean over targets, draws and seeds, the same draws for
all), and the spread of the correlation over the seeds.
"""

from __future__ import annotations

import numpy as np
from beds import LOADERS, Bed, bed_arguments, draws, make_bed, settings_of
from ranking_bed import GAINS, true_scores

from fute_sklearn import MomentEmbedder, StudentRanker
from fute_sklearn.embedders._student import Predictions
from fute_sklearn.metrics import regret_loss, spearman_score
from fute_sklearn.ranking._baselines import prior_distance
from fute_sklearn.ranking._target_scorer import TargetScorer

COUNTS = (5, 10, 30, 100, 300, 400)
N_DRAWS = 50
WAYS = ("closed form", "run", "prior", "random")
Found = dict[tuple[str, int, str], list[list[float]]]  # gain, rows, way


def one_seed(bed: Bed) -> Found:
    """Rank correlation and regret by gain, number of rows and way."""
    labelled = bed.labelled()
    ranker = StudentRanker(MomentEmbedder()).fit(
        list(labelled.values()), names=list(labelled)
    )
    truth, seen = true_scores(bed, "test"), true_scores(bed, "known")
    out: Found = {}
    for target, parts in bed.parts.items():
        names, known, test = bed.others(target), parts["known"], parts["test"]
        said = dict(zip(labelled, ranker.predictions(known), strict=True))
        for count in COUNTS:
            for rows in draws(known.n_samples, count, N_DRAWS, 0):
                some = known.take(rows)
                prior = [-prior_distance(labelled[name], some) for name in names]
                for gain, metric in GAINS.items():
                    gains = [metric(test.y, truth[target][name]) for name in names]
                    scorer = TargetScorer(some, gain)
                    by_way = {
                        "closed form": [
                            scorer.score(cut(said[n], rows)) for n in names
                        ],
                        "run": [metric(some.y, seen[target][n][rows]) for n in names],
                        "prior": prior,
                        "random": [0.0] * len(names),
                    }
                    for way, scores in by_way.items():
                        out.setdefault((gain, count, way), []).append(
                            [spearman_score(gains, scores), regret_loss(gains, scores)]
                        )
    return out


def cut(found: Predictions, rows: np.ndarray) -> Predictions:
    """Predictions of some rows."""
    return Predictions(found.kind, found.names, found.values[rows])


def show(name: str, runs: list[Found]) -> None:
    """Print the means of all runs on a bed."""
    for gain in GAINS:
        print(f"\n{name}, {gain}: rank correlation (spread) regret")
        print("  rows" + "".join(f"{way:>22s}" for way in WAYS))
        for count in COUNTS:
            line = f"{count:6d}"
            for way in WAYS:
                means = np.array([np.mean(run[gain, count, way], 0) for run in runs])
                rank, regret = means.mean(0)
                line += f"{rank:9.2f} ({means[:, 0].std():.2f}) {regret:.3f}"
            print(line, flush=True)


def main() -> None:
    parser = bed_arguments(__doc__)
    parser.add_argument("--beds", nargs="+", default=list(LOADERS), choices=LOADERS)
    parser.add_argument("--seeds", type=int, default=1)
    args = settings_of(parser)
    for name in args.beds:
        runs = [
            one_seed(make_bed(name, args.data, args.archives, args.texts, seed))
            for seed in range(args.seeds)
        ]
        show(name, runs)


if __name__ == "__main__":
    main()
