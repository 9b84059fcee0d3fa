"""Compare ways to spend a budget of models' answers to labelled rows.

    python benchmarks/plan_labels.py [--beds topics domains] [--data DIR]
        [--archives DIR] [--texts 2000] [--seeds 3]

For every target of the beds (see ``beds.py``) the models of all other domains are
ranked with 400 labelled rows, to which they then give answers until a budget is spent:

- ``uniform``: all models answer the same random rows;
- ``shortlist``: so do those on the shortlist of the ranking;
- ``planned``: `settle_ranking`, which stops by itself where one model is left.

All answers are combined with the ranking by `add_labels`.  Prints, by budget, the mean
regret (the best accuracy, less that of the model that is taken) over targets and orders
of rows, with its standard error over targets, and what was spent; also without any
answer, and for the answers alone.  The accuracy is that on other rows of the target, up
to 1,000, and then that on the very rows that can be labelled, which has no error of its
own.
"""

from __future__ import annotations

import argparse
import json
import warnings

import numpy as np
import pandas as pd
from beds import LOADERS, bed_arguments, make_bed

from fute_sklearn import MTEWrapper, add_labels, rank_models, settle_ranking

BUDGETS = (100, 200, 400, 800, 1600, 3200)
WAYS = ("answers alone", "uniform", "shortlist", "planned")


def one_target(
    table: pd.DataFrame,
    answers: pd.DataFrame,
    truths: dict[str, pd.Series],
    args: argparse.Namespace,
) -> pd.DataFrame:
    """Regrets and what was spent, by budget and way, means over orders of rows."""
    texts = table.attrs["evidence"].scorer.task.texts
    given = {
        name: MTEWrapper(dict(zip(texts, answers[name], strict=True)), name=name)
        for name in answers
    }
    chosen = table.attrs["shortlist"]
    found = []
    for seed in range(args.seeds):
        order = np.random.RandomState(seed).permutation(len(texts))
        for budget in BUDGETS:
            rows = np.sort(order[: max(budget // answers.shape[1], 1)])
            uniform = add_labels(table, answers.iloc[rows])
            alone = uniform["labelled_score"].idxmax()
            some = np.sort(order[: max(budget // len(chosen), 1)])
            few = add_labels(table, answers.iloc[some][chosen])
            planned = settle_ranking(table, given, budget, random_state=seed)
            taken = [alone, uniform.index[0], few.index[0], planned.index[0]]
            spent = [
                len(rows) * answers.shape[1],
                len(rows) * answers.shape[1],
                len(some) * len(chosen),
                planned.attrs["spent"],
            ]
            found += [
                (kind, budget, way, truth.max() - truth[name], price)
                for kind, truth in truths.items()
                for way, name, price in zip(WAYS, taken, spent, strict=True)
            ]
    return pd.DataFrame(found, columns=["truth", "budget", "way", "regret", "spent"])


def main() -> None:
    parser = bed_arguments(__doc__)
    parser.add_argument("--beds", nargs="+", default=["topics", "domains"])
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    if strange := set(args.beds) - set(LOADERS):
        raise SystemExit(f"--beds {sorted(strange)}: expected some of {list(LOADERS)}.")
    warnings.simplefilter("ignore", UserWarning)
    print(json.dumps({name: str(value) for name, value in vars(args).items()}))
    for name in args.beds:
        bed = make_bed(name, args.data, args.archives, args.texts, 0)
        labelled = bed.labelled()
        found = []
        for target, parts in bed.parts.items():
            models = {key: labelled[key] for key in bed.others(target)}
            known, test = parts["known"], parts["test"]
            table = rank_models(models, known, texts=bed.texts, students="closed")
            said = {
                part: pd.DataFrame(
                    {k: bed.zoo[k].predict(list(task.texts)) for k in models}
                )
                for part, task in (("known", known), ("test", test))
            }
            truths = {
                "other rows": said["test"].eq(pd.Series(test.y), axis=0).mean(),
                "the same rows": said["known"].eq(pd.Series(known.y), axis=0).mean(),
            }
            one = one_target(table, said["known"], truths, args)
            for kind, truth in truths.items():
                first = truth.max() - truth[table.index[0]]
                one.loc[one["truth"] == kind, "without"] = first
            found.append(one.assign(target=target))
        show(name, pd.concat(found))


def show(name: str, found: pd.DataFrame) -> None:
    """Print mean regrets over targets and orders of rows."""
    for kind, rows in found.groupby("truth"):
        without = rows["without"].mean()
        print(f"\n{name}, accuracy on {kind}; without answers: {without:.4f}")
        print(f"{'budget':>8s}" + "".join(f"{way:>26s}" for way in WAYS))
        means = rows.groupby(["budget", "way", "target"])[["regret", "spent"]].mean()
        grouped = means.groupby(["budget", "way"])
        for budget in BUDGETS:
            line = f"{budget:8d}"
            for way in WAYS:
                part = grouped.get_group((budget, way))
                error = part["regret"].sem()
                regret, spent = part["regret"].mean(), part["spent"].mean()
                line += f"   {regret:.4f} ({error:.4f}) {spent:6.0f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
