"""Measure a registry of many models: time and memory to add, open and rank.

    python benchmarks/registry.py [--models 100000] [--texts 2000] [--rows 400]
        [--folder DIR]

The models are synthetic: each answers with the sign of a random direction of the
surrogate's features, with some noise, and their files are written as ``add`` writes
them, without calling anything.  Prints the seconds to write them, to open the registry
in a new process, to rank for the first time (when moments are computed), and again, by
how many of them go on to ``rank_models`` (``top``); the seconds to add one more and to
rank then; and the most memory of the process.  A folder that exists is used again.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from fute_sklearn import ModelRegistry, MomentEmbedder
from fute_sklearn.datasets import load_opinion_domains
from fute_sklearn.ranking._registry_answers import RegistryAnswers
from fute_sklearn.ranking._registry_files import Entry, RegistryFiles

LABELS = ("negative", "positive")
NOISE = 1.0


def fill(folder: Path, texts: list[str], count: int) -> None:
    """Write the files of models that do not exist."""
    files = RegistryFiles(folder, texts)
    features = MomentEmbedder().encode(texts).pooled()
    features = (features - features.mean(0)) / features.std(0)
    rng = np.random.default_rng(0)
    for start in range(0, count, 1000):
        directions = rng.standard_normal((features.shape[1], 1000))
        scores = features @ directions / np.sqrt(features.shape[1])
        scores += NOISE * rng.standard_normal(scores.shape)
        for i, column in enumerate((scores > 0).T.astype(np.int8)):
            answers = RegistryAnswers(LABELS, column)
            entry = Entry(
                f"model {start + i}",
                answers.key,
                list(LABELS),
                0.0,
                "2026-01-01T00:00:00+00:00",
                0.0,
            )
            files.write(entry, answers)


def timed(what: str, function: object, *args: object, **options: object) -> object:
    """Call a function and print how long that takes."""
    start = time.perf_counter()
    found = function(*args, **options)  # type: ignore[operator]
    print(f"  {what:46s}{time.perf_counter() - start:9.3f} s", flush=True)
    return found


def measure(folder: Path, rows: int) -> None:
    """Open a registry and rank its models."""
    warnings.simplefilter("ignore", UserWarning)
    target = load_opinion_domains()[0]["deflategate"]
    target = target.take(np.random.default_rng(0).permutation(target.n_samples)[:rows])
    registry = timed("open", ModelRegistry, folder)
    assert isinstance(registry, ModelRegistry)
    count = timed("list the models' names", len, registry)
    options = {"students": "closed"}
    timed("rank, top=20, the first time", registry.rank, target, top=20, **options)
    for top in (20, 200):
        timed(f"rank, top={top}", registry.rank, target, top=top, **options)
    answers = ["positive", "negative"] * (len(registry.texts) // 2)
    name = f"one more {time.time_ns()}"
    timed("add one more", registry.add_answers, name, answers)
    timed("rank, top=20, with it", registry.rank, target, top=20, **options)
    registry.remove(name)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"  {count} models, most memory {peak:.2f} GiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=100_000)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.folder, args.rows)
        return
    print(json.dumps({name: str(value) for name, value in vars(args).items()}))
    folder = args.folder or Path(tempfile.mkdtemp())
    if not (folder / "texts.jsonl").exists():
        texts = load_opinion_domains()[1][: args.texts]
        timed(f"write {args.models} models", fill, folder, texts, args.models)
    for which in ("first", "second"):
        print(f"{which} process")
        command = [sys.executable, __file__, "--measure", "--folder", str(folder)]
        subprocess.run([*command, "--rows", str(args.rows)], check=True)


if __name__ == "__main__":
    main()
