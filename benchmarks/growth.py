"""How time and memory of tuning tasks together grow with models, texts and surrogates.

    python benchmarks/growth.py [--shapes mini small base] [--steps 2]

Every row is a process of its own, so that its peak memory is its own.  Weights and
encoder outputs are random; outputs are memory-mapped, as the cache on disk gives them,
and all are read once.  Texts have 64 tokens, batches 64 texts, labels one token.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from plain_way import SHAPES, save_random_t5

from fute_sklearn import TuPaTEEmbedder
from fute_sklearn._engine import Encoded, label_tree, load_surrogate, tune_labels
from fute_sklearn._engine._tuning import tasks_at_once

TOKENS, BATCH = 64, 64
CASES = ((1, 2000), (8, 2000), (26, 2000), (26, 10_000))  # models, texts


def write_states(path: Path, n_texts: int, width: int) -> None:
    """Write random encoder outputs, in parts."""
    file = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.float32, shape=(n_texts, TOKENS, width)
    )
    rng = np.random.default_rng(0)
    for start in range(0, n_texts, 500):
        part = file[start : start + 500]
        part[:] = rng.standard_normal(part.shape, np.float32)
    file.flush()


def measure(folder: Path, n_models: int, n_texts: int, steps: int) -> None:
    """Tune for some steps; print seconds per step and this process's peak memory."""
    surrogate = load_surrogate(folder, max_length=TOKENS)
    states = np.load(folder / "states.npy", mmap_mode="r")[:n_texts]
    encoded = Encoded(surrogate, [np.ones(TOKENS, np.int64)] * n_texts, list(states))
    encoded.pooled()
    settings = TuPaTEEmbedder(tuning="prompt", max_epochs=1).settings(0)
    trees = [label_tree(surrogate, ["positive", "negative"])] * n_models
    some = encoded.take(np.arange(steps * BATCH))
    drawn = np.random.default_rng(0).integers(0, 2, len(some))
    proba = [np.eye(2, dtype=np.float32)[drawn]] * n_models
    start = time.perf_counter()
    tune_labels(surrogate, some, trees, proba, settings, lambda epoch: None)
    spent = (time.perf_counter() - start) / steps
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    at_once = min(n_models, tasks_at_once(surrogate, 1, BATCH))
    print(
        f"{n_models:7d} {n_texts:7d} {at_once:8d} "
        f"{spent:9.2f} {spent / n_models:13.3f} {peak:9.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", nargs="+", default=["mini", "small", "base"])
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        folder, n_models, n_texts = args.one
        measure(Path(folder), int(n_models), int(n_texts), args.steps)
        return
    print(f"prompt tuning, {TOKENS} tokens, batch {BATCH}, {args.steps} steps, seed 0")
    print("shape   models   texts  at once  s / step  s / model+step  peak GiB")
    for shape in args.shapes:
        with tempfile.TemporaryDirectory() as folder:
            save_random_t5(shape, Path(folder))
            n_texts = max(count for _, count in CASES)
            write_states(Path(folder, "states.npy"), n_texts, SHAPES[shape]["d_model"])
            for case in CASES:
                command = [sys.executable, __file__, "--steps", str(args.steps)]
                found = subprocess.run(
                    [*command, "--one", folder, *map(str, case)],
                    check=True,
                    capture_output=True,
                    text=True,
                )
                print(f"{shape:6s} {found.stdout.rstrip()}", flush=True)


if __name__ == "__main__":
    main()
