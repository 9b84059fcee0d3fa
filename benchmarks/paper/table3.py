"""Table 3: choose a prompt for a language model, by every method and criterion.

    python benchmarks/paper/table3.py [--config offline] [--seeds 3] [--data DIR]
        [--answers FILE ...] [--calibration none] [--dry-run]

One cell is a language model and a data set.  The answers of the models to all prompts
are those that ``prompts/answer.py`` has kept, one file a model: offline those that are
committed, for the paper's setting those of a server with Llama 2 or Mixtral, which
``prompts/answer.py --server URL --server-model NAME`` asks.  Prints performance rate
(accuracy of the chosen prompt over that of the best one) and NDCG of every method in
every cell, the means over the cells, and rank of the best prompt, exponential NDCG
(accuracies in percent), Spearman's rho and regret as means; all are means over the
seeds, beside what is expected of a random choice.

``--dry-run`` loads nothing and prints all that would be loaded and asked.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from report import MEASURES, random_row

BENCHMARKS = Path(__file__).parents[1]
sys.path.append(str(BENCHMARKS / "prompts"))
from bed import SETS, labelled_rows, prompts_of, unlabelled_rows  # noqa: E402
from replay import UNLABELLED, scores_of_methods, texts_of  # noqa: E402

from fute_sklearn.exceptions import (  # noqa: E402
    TruncationWarning,
    UnlabelledTextsWarning,
)
from fute_sklearn.metrics import performance_rate_score  # noqa: E402

SURROGATES = {
    "offline": "fute-mini",
    "paper": "google-t5/t5-base",
    "tiny": "fute-tiny-random",
}
# The paper's table has no other sets.
CELLS = {"sentiment": ("sst2", "mr"), "inference": ("rte", "cb")}
MODELS = {
    "offline": [
        "SmolLM2-135M-Instruct, prompts/smollm2.npz",
        "Qwen2.5-Coder-0.5B-Instruct, prompts/qwen.npz",
    ],
    "paper": [
        "meta-llama/Llama-2-13b-chat-hf, by a server",
        "mistralai/Mixtral-8x7B-Instruct-v0.1, by a server",
    ],
    "tiny": ["random answers"],
}
COLUMNS = ["performance rate", *MEASURES]


def dry_run(args: argparse.Namespace) -> None:
    """Print what would be loaded and asked."""
    print(f"configuration {args.config}: surrogate {SURROGATES[args.config]}")
    for model in MODELS[args.config]:
        print(f"  language model: {model}")
    for kind, names in CELLS.items():
        print(
            f"  {kind}: {len(prompts_of(kind))} prompts; targets {', '.join(names)} of "
            f"--data; {UNLABELLED} unlabelled texts"
        )


def cell(
    kept: dict[str, np.ndarray], kind: str, name: str, seed: int, args: Any
) -> tuple[list[float], dict[str, list[float]]]:
    """Measures of a random choice, and of each method, in one cell."""
    rows = {name: labelled_rows(name, args.data)}
    rows[f"{kind}-unlabelled"] = unlabelled_rows(kind, args.data)
    for part, found in rows.items():
        if str(kept[f"{part}/key"]) != found.key:
            raise SystemExit(f"{part}: the answers are about other texts.")
    gains, clock = scores_of_methods(
        kind,
        name,
        kept,
        {part: texts_of(found) for part, found in rows.items()},
        args.calibration,
        SURROGATES[args.config],
        seed,
        UNLABELLED,
    )
    measured = {
        method: np.mean(
            [
                [
                    performance_rate_score(gains, scores),
                    *(measure(gains, scores) for measure in MEASURES.values()),
                ]
                for scores in draws
            ],
            axis=0,
        ).tolist()
        for method, draws in clock.scores.items()
        if method != "random"
    }
    mean = float(gains.mean() / gains.max())
    return [mean, *random_row(gains)], measured


def show(found: dict[str, dict[str, np.ndarray]]) -> None:
    """Print the cells side by side, and the means of all measures."""
    cells = list(found)
    methods = list(found[cells[0]])
    table = pd.DataFrame(
        {
            (name, column): [found[name][m][COLUMNS.index(column)] for m in methods]
            for name in cells
            for column in ("performance rate", "NDCG")
        },
        index=methods,
    )
    print(f"\n{'':26}" + "".join(f"{name:>18}" for name in cells))
    for method, row in table.iterrows():
        pairs = zip(row[0::2], row[1::2], strict=True)
        print(f"{method!s:26}" + "".join(f"{a:11.3f}{b:7.3f}" for a, b in pairs))
    print(f"\n{'mean of the cells':26}" + "".join(f"{c:>18}" for c in COLUMNS))
    for method in methods:
        mean = np.mean([found[name][method] for name in cells], axis=0)
        print(f"{method:26}" + "".join(f"{value:18.3f}" for value in mean))
    best = max(
        (m for m in methods if m.startswith(("FUTE", "cosine", "student", "moment"))),
        key=lambda m: np.mean([found[name][m][0] for name in cells]),
    )
    behind = [n for n in cells if found[n][best][0] < found[n]["GlobalE"][0]]
    rate = np.mean([found[name][best][0] for name in cells])
    print(f"\nbest embedding by mean performance rate: {best}, {rate:.3f} (aim .97)")
    print(f"cells in which it is behind GlobalE: {', '.join(behind) or 'none'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", choices=SURROGATES, default="offline")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument(
        "--answers",
        type=Path,
        nargs="+",
        default=[
            BENCHMARKS / "prompts" / f"{name}.npz" for name in ("smollm2", "qwen")
        ],
    )
    parser.add_argument("--calibration", choices=["none", "batch"], default="none")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--dry-run", action="store_true")
    args = parser.parse_args()
    if args.dry_run:
        dry_run(args)
        return
    warnings.simplefilter("ignore", TruncationWarning)
    warnings.simplefilter("ignore", UnlabelledTextsWarning)
    print(json.dumps({name: str(value) for name, value in vars(args).items()}))
    found: dict[str, dict[str, np.ndarray]] = {}
    for path in args.answers:
        kept = dict(np.load(path))
        for kind in SETS:
            for name in CELLS[kind]:
                runs: dict[str, list[list[float]]] = {}
                for seed in range(args.seeds):
                    chance, measured = cell(kept, kind, name, seed, args)
                    for method, values in {"random": chance, **measured}.items():
                        runs.setdefault(method, []).append(values)
                found[f"{path.stem} {name}"] = {
                    method: np.mean(values, axis=0) for method, values in runs.items()
                }
                print(f"  {path.stem} {name} done", flush=True)
    show(found)


if __name__ == "__main__":
    main()
