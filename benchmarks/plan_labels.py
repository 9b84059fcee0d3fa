"""Compare ways to spend a budget of models' answers to labelled rows.

    python benchmarks/plan_labels.py [--beds topics domains] [--data DIR]
        [--archives DIR] [--texts 2000] [--seeds 3]

For every target of the beds (see ``beds.py``) the models of all other domains are
ranked with 400 labelled rows, to which they then give answers until a budget is spent:

- ``uniform``: all models answer the same random rows;
- ``shortlist``: so do those on the shortlist of the ranking;
- ``planned``: `settle_ranking`, which stops by itself where one model is left.

All answers are combined with the ranking by `add_labels`.  Prints, by budget, the mean
regret (the best accuracy on other rows, less that of the model that is taken) over
targets and orders of rows, with its standard error over targets, and what was spent;
also without any answer, and for the answers alone.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from beds import LOADERS, make_bed

from fute_sklearn import MTEWrapper, add_labels, rank_models, settle_ranking

BUDGETS = (100, 200, 400, 800, 1600, 3200)
WAYS = ("answers alone", "uniform", "shortlist", "planned")


def one_target(
    table: pd.DataFrame, answers: pd.DataFrame, truth: pd.Series, args: object
) -> pd.DataFrame:
    """Regrets and what was spent, by budget and way, means over orders of rows."""
    texts = table.attrs["evidence"].scorer.task.texts
    given = {
        name: MTEWrapper(dict(zip(texts, answers[name], strict=True)), name=name)
        for name in answers
    }
    chosen = table.attrs["shortlist"]
    found = []
    for seed in range(args.seeds):  # type: ignore[attr-defined]
        order = np.random.RandomState(seed).permutation(len(texts))
        for budget in BUDGETS:
            rows = np.sort(order[: max(budget // answers.shape[1], 1)])
            uniform = add_labels(table, answers.iloc[rows])
            alone = uniform["labelled_score"].idxmax()
            some = np.sort(order[: max(budget // len(chosen), 1)])
            few = add_labels(table, answers.iloc[some][chosen])
            planned = settle_ranking(table, given, budget, random_state=seed)
            best = truth.max()
            regrets = [alone, uniform.index[0], few.index[0], planned.index[0]]
            spent = [
                len(rows) * answers.shape[1],
                len(rows) * answers.shape[1],
                len(some) * len(chosen),
                planned.attrs["spent"],
            ]
            found += [
                (budget, way, best - truth[name], price)
                for way, name, price in zip(WAYS, regrets, spent, strict=True)
            ]
    return pd.DataFrame(found, columns=["budget", "way", "regret", "spent"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--beds", nargs="+", default=["topics", "domains"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--archives", type=Path)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    if strange := set(args.beds) - set(LOADERS):
        raise SystemExit(f"--beds {sorted(strange)}: expected some of {list(LOADERS)}.")
    warnings.simplefilter("ignore", UserWarning)
    print(json.dumps({name: str(value) for name, value in vars(args).items()}))
    for name in args.beds:
        bed = make_bed(name, args.data, args.archives, args.texts, 0)
        labelled = {
            key: MTEWrapper(model, name=key).label(bed.texts)
            for key, model in bed.zoo.items()
        }
        found, without = [], []
        for target, parts in bed.parts.items():
            models = {key: labelled[key] for key in bed.others(target)}
            known, test = parts["known"], parts["test"]
            table = rank_models(models, known, texts=bed.texts, students="closed")
            said = {
                part: pd.DataFrame(
                    {k: bed.zoo[k].predict(list(parts[part].texts)) for k in models}
                )
                for part in ("known", "test")
            }
            truth = said["test"].eq(pd.Series(test.y), axis=0).mean()
            without.append(truth.max() - truth[table.index[0]])
            one = one_target(table, said["known"], truth, args)
            found.append(one.assign(target=target))
        means = pd.concat(found).groupby(["budget", "way", "target"]).mean()
        grouped = means.groupby(["budget", "way"])
        print(f"\n{name}: {len(found)} targets, no answers: {np.mean(without):.4f}")
        print(f"{'budget':>8s}" + "".join(f"{way:>26s}" for way in WAYS))
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
