"""Compare forecast costs of a ranking with what then happens, and embeddings with runs.

    python benchmarks/costs.py [--bed topics] [--data DIR] [--archives DIR]
        [--texts 2000] [--models 12] [--students both]

For one target of a bed (see ``beds.py``): `forecast`, then the stages one by one, with
an empty cache folder.  Prints seconds, calls and bytes that were forecast and measured,
and their ratio (aim: within 25 %).  Then the account of the paper's appendix: with p
models and D data sets, the cost of embedding all, p c_model + D c_data, beside that of
running every model on every data set, p D c_run, with the costs measured here, for the
models of the bed and for such as take ten and a hundred times as long; and from which
number of data sets on embedding many models pays.
"""

from __future__ import annotations

import json
import time
import tracemalloc
import warnings
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from beds import LOADERS, bed_arguments, make_bed

from fute_sklearn import (
    MomentEmbedder,
    MTEWrapper,
    Task,
    TuPaTEEmbedder,
    config_context,
    forecast,
    rank_models,
)

COUNTS = ((10, 1), (100, 1), (100, 10), (1000, 100))  # models, data sets
SLOWER = (1, 10, 100)


def seconds(run: Callable[[], Any]) -> float:
    """Time a call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def stages(
    models: dict[str, MTEWrapper], target: Task, texts: list[str], settings: Any
) -> dict[str, tuple[float, float]]:
    """Seconds and bytes of each stage, as it happens."""
    labelling = sum(seconds(lambda m=m: m.label(texts)) for m in models.values())
    closed = settings["students"] == "closed"
    embedder = MomentEmbedder() if closed else TuPaTEEmbedder()
    found: list[Any] = []
    encoding = seconds(
        lambda: found.extend(embedder.encode(t) for t in (texts, list(target.texts)))
    )
    n_bytes = sum(
        a.nbytes
        for one in found
        for a in [*([one.pooled()] if closed else one.states), *one.ids]
    )
    whole = seconds(lambda: rank_models(models, target, texts=texts, **settings))
    # It looks up labels and states once more, which one call alone would not.
    again = sum(seconds(lambda m=m: m.label(texts)) for m in models.values())
    again += seconds(lambda: embedder.encode(texts))
    students = whole - again
    tracemalloc.start()
    rank_models(models, target, texts=texts, **settings)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {
        "label": (labelling, np.nan),
        "encode": (encoding, n_bytes),
        "students": (students, peak),
    }


def compare(table: Any, actual: dict[str, tuple[float, float]]) -> None:
    """Print forecast and measured costs side by side."""
    labels = table.index.str.startswith("label ")
    told = {
        "label": table[labels].sum(),
        "encode": table.loc["encode"],
        "students": table.loc["students"],
    }
    print(f"{'':10}{'calls':>9}{'s told':>9}{'s took':>9}{'ratio':>7}", end="")
    print(f"{'MB told':>9}{'MB took':>9}{'ratio':>7}")
    for stage, (took, size) in actual.items():
        one = told[stage]
        print(
            f"{stage:10}{one['calls']:9.0f}{one['seconds']:9.2f}{took:9.2f}"
            f"{one['seconds'] / took:7.2f}{one['bytes'] / 1e6:9.1f}{size / 1e6:9.1f}"
            f"{one['bytes'] / size:7.2f}"
        )
    total = sum(took for took, _ in actual.values())
    print(f"{'all':10}{'':9}{table.attrs['seconds']:9.2f}{total:9.2f}", end="")
    print(f"{table.attrs['seconds'] / total:7.2f}", end="")
    print(f"   (the forecast took {table.attrs['spent_seconds']:.1f} s)")


def account(
    models: dict[str, MTEWrapper], target: Task, texts: list[str], label: float
) -> None:
    """Print the costs of embeddings and of runs."""
    count, rows = len(models), target.n_samples
    tasks = [model.label(texts) for model in models.values()]
    run = label / len(texts) / count * rows  # of one model on one data set
    for name, embedder in (
        ("closed form", MomentEmbedder(reference=texts)),
        ("low-rank tuning", TuPaTEEmbedder(reference=texts)),
    ):
        embedder.embed(tasks[:1])  # loads and encodes
        fits = seconds(lambda e=embedder: e.embed(tasks)) / count
        with TemporaryDirectory() as empty, config_context(cache_dir=empty):
            data = seconds(lambda e=embedder: e.embed([target]))
        print(
            f"\n{name}: a model {fits:.4f} s, and {label / count:.3f} s to label; a "
            f"data set {data:.3f} s; a run {run:.4f} s"
        )
        print(
            f"{'slower':>7}{'models':>8}{'data sets':>10}{'embed s':>10}{'run s':>10}"
        )
        for slower in SLOWER:
            model, one = label / count * slower + fits, run * slower
            for p, d in COUNTS:
                embed = p * model + d * data
                print(f"{slower:7}{p:8}{d:10}{embed:10.1f}{p * d * one:10.1f}")
            print(f"{slower:7} many models: pays from {model / one:.1f} data sets on")


def main() -> None:
    parser = bed_arguments(__doc__)
    parser.add_argument("--bed", default="topics", choices=LOADERS)
    parser.add_argument("--models", type=int, default=12)
    parser.add_argument("--students", default="both", choices=("both", "closed"))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    print(json.dumps({name: str(value) for name, value in vars(args).items()}))
    bed = make_bed(args.bed, args.data, args.archives, args.texts, 0)
    name, target = next(iter(bed.targets.items()))
    models = {
        n: MTEWrapper(bed.zoo[n], name=n) for n in bed.others(name)[: args.models]
    }
    settings = {"students": args.students}
    with TemporaryDirectory() as folder, config_context(cache_dir=folder):
        table = forecast(models, target, texts=bed.texts, **settings)
        print(table.to_string(float_format="{:.3f}".format))
        actual = stages(models, target, bed.texts, settings)
        compare(table, actual)
        label = sum(
            seconds(lambda m=m: m.label(bed.texts, anew=True)) for m in models.values()
        )
        account(models, target, bed.texts, label)


if __name__ == "__main__":
    main()
