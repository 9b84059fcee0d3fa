"""Try how sure rankings are: intervals, shortlists, comparisons, labelled rows, pools.

    python benchmarks/confidence.py [--beds topics domains unlike] [--data DIR]
        [--archives DIR] [--texts 2000] [--seeds 1] [--students closed] [--pools 50]

For every target of the beds (see ``beds.py``) the models of all other domains are
ranked with 400 labelled rows of the target; the truth is their accuracy on other rows
of it. Prints for each target the straight line from the expected scores to the true
ones: its slope, how far it lies above at their mean, and what is left beyond it and the
truth's own error, which are the students' errors; at last their root mean squares as
shares of the range from the label prior's score to a perfect one, and how much more
models gain by telling rows apart than their students. Over all targets of a bed it
prints how often 90 % intervals hold the truth (widened by the error of the truth,
measured on up to 1,000 rows), how often 90 % shortlists hold the best and which share
of the pool they are (and in which range both would be for nine of ten beds of as many
targets if the posteriors were right, as all models of a target err together), for how
many targets the verdict is right whether the best beats the majority class, and how far
stated probabilities of one model to beat another are from what came out (expected
calibration error, ten bins); beside that, equally long shortlists by the baselines.
Then the same with k labelled rows that every model answers: rank correlation and regret
of the expected scores alone, of the labelled rows alone and of both. ``--past`` takes
the other targets of the bed for past tasks, on which the models' scores are known, but
those of the target's own domain. Last, what is said of pools of twenty models of one
kind that are equal (trained on resamples of the target's domain) or useless (trained on
shuffled labels), and for how many of them one is truly better than the majority class:
on the other rows, and beyond chance there (sign test, p < .05 for all twenty).
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
from beds import FAMILIES, LOADERS, Bed, bed_arguments, draws, family, make_bed
from scipy.stats import binomtest

from fute_sklearn import ScorePosterior, Task, add_labels, rank_models
from fute_sklearn.metrics import regret_loss, spearman_score

COUNTS = (10, 30, 100)
N_DRAWS = 20
POOL, POOL_ROWS = 20, 300
N_BINS = 10
BASELINES = ("prior", "moment")
PHRASES = ("take", "cannot be told apart", "none is better than the majority class")
Z90 = 1.6449
N_TRUTHS = 2000
CHANCE = 0.05  # for all models of a pool together


def ranked(
    args: argparse.Namespace, models: Any, task: Any, bed: Bed, **more: Any
) -> Any:
    """Rank by the students that are asked for."""
    return rank_models(
        models, task, texts=bed.texts, students=args.students, on_error="raise", **more
    )


def held(posterior: ScorePosterior, truth: pd.Series, n_rows: int) -> dict[str, Any]:
    """What intervals, shortlist and comparisons say, and whether it is so."""
    names = list(posterior.names)
    gains = truth[names].to_numpy()
    spread = np.sqrt(posterior.deviation**2 + gains * (1 - gains) / n_rows)
    chosen = posterior.shortlist()
    best = set(truth.index[truth == truth.max()])
    rows, columns = np.triu_indices(len(names), 1)
    stated = posterior.p_beats().to_numpy()[rows, columns]
    came = (np.sign(gains[rows] - gains[columns]) + 1) / 2
    return {
        "cover": np.mean(abs(gains - posterior.mean) < Z90 * spread),
        "holds": float(bool(best & set(chosen))),
        "share": len(chosen) / len(names),
        "pairs": np.stack([np.maximum(stated, 1 - stated), abs(came - (stated < 0.5))]),
        "score": [
            spearman_score(gains, posterior.mean),
            regret_loss(gains, posterior.mean),
        ],
    }


def if_right(posterior: ScorePosterior, n_rows: int, seed: int) -> np.ndarray:
    """What `held` would find for truths that are drawn from the posterior itself.

    Returns the shares of intervals and shortlists that hold (N_TRUTHS, 2).
    """
    rng = np.random.default_rng(seed)
    mean = posterior.mean
    true = rng.multivariate_normal(mean, posterior.covariance, N_TRUTHS)
    true = np.clip(true, *posterior.bounds)
    noise = true * (1 - true) / n_rows
    seen = true + np.sqrt(noise) * rng.standard_normal(true.shape)
    inside = abs(seen - mean) < Z90 * np.sqrt(posterior.deviation**2 + noise)
    chosen = [posterior.names.index(name) for name in posterior.shortlist()]
    return np.stack([inside.mean(1), np.isin(seen.argmax(1), chosen)], axis=1)


def line_of(expected: np.ndarray, gains: np.ndarray, n_rows: int) -> str:
    """The straight line from expected to true scores, and what is left beyond it."""
    slope, start = np.polyfit(expected, gains, 1)
    left = np.var(gains - start - slope * expected)
    own = np.mean(gains * (1 - gains)) / n_rows
    return (
        f"slope {slope:.2f} above {np.mean(gains - expected):+.3f} "
        f"left {np.sqrt(max(left - own, 0)):.3f}"
    )


def errors_of(table: pd.DataFrame, gains: np.ndarray, n_rows: int) -> dict[str, Any]:
    """Squared errors of students as shares of the range from prior to perfect score.

    Also what models gain by telling rows apart, and what their students do.
    """
    evidence = table.attrs["evidence"]
    expected = table["score"][list(evidence.names)].to_numpy()
    slope, start = np.polyfit(expected, gains, 1)
    own = np.mean(gains * (1 - gains)) / n_rows
    left = max(np.var(gains - start - slope * expected) - own, 0.0)
    # As `StudentErrors` are told from past tasks.
    spread = np.var(expected)
    residual = np.var(gains - start - slope * expected) / (len(gains) - 2)
    return {
        "steep": (spread * (slope - 1) ** 2 - residual) / evidence.scale**2,
        "left": left / evidence.scale**2,
        "height": np.mean(gains - expected) ** 2 / evidence.scale**2,
        "gain": (gains - evidence.blind, expected - evidence.blind),
        "spread": spread / evidence.scale**2,
        "seen": np.mean((expected - evidence.blind) ** 2) / evidence.scale**2,
    }


def calibration_error(pairs: np.ndarray) -> float:
    """Expected calibration error of stated probabilities of what came."""
    stated, came = pairs
    bins = np.minimum(((stated - 0.5) * 2 * N_BINS).astype(int), N_BINS - 1)
    return float(
        sum(
            np.mean(bins == b) * abs(stated[bins == b].mean() - came[bins == b].mean())
            for b in np.unique(bins)
        )
    )


def past_truth(bed: Bed, name: str) -> dict[str, float]:
    """Accuracies of the models of other domains on a domain's test rows."""
    test = bed.parts[name]["test"]
    return {
        key: float(np.mean(bed.zoo[key].predict(list(test.texts)) == test.y))
        for key in bed.others(name)
    }


def majority_share(task: Any) -> float:
    """Share of the most common label."""
    return max(Counter(task.y).values()) / task.n_samples


def one_bed(args: argparse.Namespace, name: str, seed: int) -> dict[str, list[Any]]:
    """Rank for every target of a bed, without and with labelled rows."""
    bed = make_bed(name, args.data, args.archives, args.texts, seed)
    labelled = bed.labelled()
    out: dict[str, list[Any]] = {}
    truths = {name: past_truth(bed, name) for name in bed.parts} if args.past else {}
    for target, parts in bed.parts.items():
        models = {key: labelled[key] for key in bed.others(target)}
        known, test = parts["known"], parts["test"]
        answers = {
            part: pd.DataFrame(
                {k: bed.zoo[k].predict(list(parts[part].texts)) for k in models}
            )
            for part in ("known", "test")
        }
        truth = answers["test"].eq(pd.Series(test.y), axis=0).mean()
        past = [
            (bed.parts[name]["known"], {k: v for k, v in scores.items() if k in models})
            for name, scores in truths.items()
            if name != target and args.past
        ]
        plain = ranked(args, models, known, bed, baselines=BASELINES, past=past)
        posterior = plain.attrs["posterior"]
        found = held(posterior, truth, test.n_samples)
        best = set(truth.index[truth == truth.max()])
        for name in BASELINES:
            count = len(plain.attrs["shortlist"])
            top = set(plain[f"{name}_score"].nlargest(count).index)
            found[f"{name} holds"] = float(bool(best & top))
        place = len(out.setdefault("0", []))
        found["if right"] = if_right(posterior, test.n_samples, place)
        out["0"].append(found)
        gains = truth[list(posterior.names)].to_numpy()
        found["errors"] = errors_of(plain, gains, test.n_samples)
        none = truth[plain.index[0]] <= majority_share(test)
        found["verdict"] = none == (PHRASES[-1] in plain.attrs["verdict"])
        print(f"  {target:18s} {line_of(posterior.mean, gains, test.n_samples)}")
        print(
            f"  {'':18s} cover {found['cover']:.2f} holds {found['holds']:.0f} "
            f"share {found['share']:.2f} Spearman {found['score'][0]:.2f}: "
            f"{plain.attrs['verdict'][:40]}",
            flush=True,
        )
        for count in COUNTS:
            for rows in draws(known.n_samples, count, N_DRAWS, 0):
                some = answers["known"].iloc[np.sort(rows)]
                combined = add_labels(plain, some)
                both = held(combined.attrs["posterior"], truth, test.n_samples)
                alone = combined["labelled_score"][list(posterior.names)]
                both["labelled"] = [
                    spearman_score(gains, alone.to_numpy()),
                    regret_loss(gains, alone.to_numpy()),
                ]
                both["expected"] = found["score"]
                out.setdefault(str(count), []).append(both)
    return out


def show(name: str, found: dict[str, list[dict[str, Any]]]) -> None:
    """Print the means over the targets."""
    print(
        f"\n{name}: rows  intervals hold  shortlist holds  of pool  comparisons off by"
    )
    for count, rows in found.items():
        mean = {k: np.mean([r[k] for r in rows]) for k in ("cover", "holds", "share")}
        error = calibration_error(np.hstack([r["pairs"] for r in rows]))
        print(
            f"{'':{len(name)}s}{count:>6s}{mean['cover']:16.3f}{mean['holds']:17.2f}"
            f"{mean['share']:9.2f}{error:20.3f}"
        )
    right = sum(row["verdict"] for row in found["0"])
    print(f"  is the best above the majority: {right} of {len(found['0'])} right")
    drawn = np.mean([row["if right"] for row in found["0"]], axis=0)
    for i, what in enumerate(("intervals", "shortlists")):
        low, high = np.quantile(drawn[:, i], [0.05, 0.95])
        print(f"  right {what} would hold in {low:.2f} to {high:.2f}")
    for base in BASELINES:
        share = np.mean([r[f"{base} holds"] for r in found["0"]])
        print(f"  as many by {base}: hold the best {share:.2f}")
    print(f"  as many at random: {np.mean([r['share'] for r in found['0']]):.2f}")
    errors = [row["errors"] for row in found["0"]]
    left, height, spread, learnt = (
        np.sqrt(np.mean([e[k] for e in errors]))
        for k in ("left", "height", "spread", "seen")
    )
    steep = max(np.mean([e["steep"] for e in errors]) / spread**2, 0.0)
    true, seen = (np.concatenate([e["gain"][i] for e in errors]) for i in (0, 1))
    print(
        f"  students' errors, of the range: {left:.3f} beyond the line, {height:.3f} "
        f"of its height, slopes off by {np.sqrt(steep):.2f}; models gain "
        f"{true @ seen / (seen @ seen):.2f} times as much; expected scores spread by "
        f"{spread:.3f}, students gain {learnt:.3f}"
    )
    print("  Spearman, regret      expected        labelled rows   both")
    for count in map(str, COUNTS):
        means = [
            np.mean([r[k] for r in found[count]], axis=0)
            for k in ("expected", "labelled", "score")
        ]
        shown = "".join(f"{a:8.3f}{b:8.4f}" for a, b in means)
        print(f"  {count:>5s} rows         {shown}", flush=True)


def pools(args: argparse.Namespace, name: str, kind: str) -> Counter[str]:
    """What is said of pools of equal or useless models on a bed."""
    bed = make_bed(name, args.data, args.archives, args.texts, 0)
    said: Counter[str] = Counter()
    domains = list(bed.parts)
    for draw in range(args.pools):
        rng = np.random.default_rng(draw)
        parts = bed.parts[domains[draw % len(domains)]]
        train = parts["train"]
        models = {}
        for i in range(POOL):
            rows = rng.choice(train.n_samples, POOL_ROWS)
            y = np.asarray(train.y)[rows]
            if kind == "useless":
                y = rng.permutation(y)
            texts = [train.texts[j] for j in rows]
            models[f"model {i}"] = family(FAMILIES[draw % 3], i).fit(texts, y)
        table = ranked(args, models, parts["known"], bed)
        for phrase in PHRASES:
            said[phrase] += phrase in table.attrs["verdict"]
        test = parts["test"]
        right = [m.predict(list(test.texts)) == test.y for m in models.values()]
        none = bool(np.mean(right, 1).max() <= majority_share(test))
        said_none = PHRASES[-1] in table.attrs["verdict"]
        said["in truth none is better"] += none
        said["both"] += none and said_none
        surely = any(beyond_chance(one, test) for one in right)
        said["in truth one is better, beyond chance"] += surely
        said["and yet called no better"] += surely and said_none
    return said


def beyond_chance(right: np.ndarray, test: Task) -> bool:
    """Whether a model of a pool beats the majority's answer, by a paired sign test."""
    labels, counts = np.unique(test.y, return_counts=True)
    other = test.y == labels[counts.argmax()]
    won, lost = int((right & ~other).sum()), int((other & ~right).sum())
    if not won + lost:
        return False
    found = binomtest(won, won + lost, alternative="greater")
    return bool(found.pvalue < CHANCE / POOL)


def main() -> None:
    parser = bed_arguments(__doc__)
    parser.add_argument("--beds", nargs="+", default=list(LOADERS), choices=LOADERS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--students", default="closed")
    parser.add_argument("--pools", type=int, default=50)
    parser.add_argument(
        "--past",
        action="store_true",
        help="take the other targets of the bed for past tasks",
    )
    args = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    print(json.dumps({name: str(value) for name, value in vars(args).items()}))
    for name in args.beds:
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            print(f"{name}, seed {seed}", flush=True)
            show(f"{name}, seed {seed}", one_bed(args, name, seed))
    for name in args.beds if args.pools else ():
        for kind in ("equal", "useless"):
            said = dict(pools(args, name, kind))
            print(f"\n{name}, {args.pools} pools of {POOL} {kind} models: {said}")


if __name__ == "__main__":
    main()
