"""Encode a million texts by several processes: seconds, bytes and memory as they grow.

    python benchmarks/many_texts.py --archives DIR [--texts 1000000] [--processes 2]
        [--dtype float32] [--work DIR]

The texts are distinct: the first half of one varied English sentence (see ``beds.py``)
and the second half of another one. Every process, on one thread, encodes its share in
parts of 20,000 by the built-in surrogate into one cache folder; half-way, one of them
is killed (SIGKILL) and started again. Prints, as a tenth of the texts more is done, the
seconds that a text takes a process, the bytes (of parts in work, too) and files of the
cache, and the largest memory of a process. At last one process reads all of them from
the cache.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from beds import sentences

from fute_sklearn import MomentEmbedder, cache_info, config_context

PART = 20_000
SHOWN = 10


def made_texts(archives: Path, count: int) -> list[str]:
    """Return distinct texts, each of the halves of two sentences (seed 0)."""
    found = [text.split() for text in sentences(archives)]
    rng, texts = np.random.default_rng(0), {}
    while len(texts) < count:
        for i, j in rng.integers(len(found), size=(PART, 2)):
            one, other = found[i], found[j]
            text = " ".join(one[: len(one) // 2] + other[len(other) // 2 :])
            texts[text] = None
    return list(texts)[:count]


def work(args: argparse.Namespace) -> None:
    """Encode a share; print a line a part."""
    texts = made_texts(args.archives, args.texts)[args.share :: args.processes]
    embedder = MomentEmbedder(dtype=args.dtype)
    with config_context(cache_dir=args.work):
        for start in range(0, len(texts), PART):
            began = time.perf_counter()
            embedder.encode(texts[start : start + PART])
            spent = time.perf_counter() - began
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            done = min(start + PART, len(texts))
            print(json.dumps([args.share, done, spent, memory]), flush=True)


class Worker:
    """A process with a share, whose lines go to a queue."""

    def __init__(self, args: argparse.Namespace, share: int, processes: int) -> None:
        command = [sys.executable, __file__, "--archives", str(args.archives)]
        command += ["--texts", str(args.texts), "--work", str(args.work)]
        command += ["--processes", str(processes), "--share", str(share)]
        command += ["--dtype", args.dtype]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        self.lines: queue.Queue[tuple[Worker, list[float] | None]] = args.lines
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put((self, json.loads(line)))
        self.process.wait()
        self.lines.put((self, None))

    def check(self) -> None:
        """Raise if the process, which has ended, did not do its work."""
        if self.process.returncode:
            raise SystemExit(f"a process ended with {self.process.returncode}")


def show(
    args: argparse.Namespace, done: int, spent: list[float], memory: float
) -> None:
    """Print a row of the table."""
    with config_context(cache_dir=args.work):
        kept = cache_info()["encoder"]
    print(
        f"{done:9d}{1e3 * np.mean(spent):10.2f}{kept['n_bytes'] / max(done, 1):8.0f}"
        f"{kept['n_files']:8d}{memory:8.2f}",
        flush=True,
    )


def run(args: argparse.Namespace) -> None:
    """Encode all by several processes, one of which is killed half-way."""
    workers = [Worker(args, share, args.processes) for share in range(args.processes)]
    done, seen = dict.fromkeys(range(args.processes), 0), set()
    spent: list[float] = []
    memory, shown, killed, running = 0.0, 0, 0.0, args.processes
    to_kill = True
    print("    texts ms a text   bytes   files     GiB")
    while running:
        worker, line = args.lines.get()
        if worker not in workers:  # that one was killed
            continue
        if line is None:
            worker.check()
            running -= 1
            continue
        share, count = int(line[0]), int(line[1])
        seconds, peak = line[2:]
        if (share, count) in seen:  # kept before the process was killed
            continue
        if killed and not share:
            print(
                f"killed and started again: went on after {time.time() - killed:.0f} s"
            )
            killed = 0.0
        seen.add((share, count))
        spent.append(seconds / min(PART, count - done[share]))
        done[share], memory = count, max(memory, peak)
        total = sum(done.values())
        if total * SHOWN // args.texts > shown:
            show(args, total, spent, memory)
            shown, spent = total * SHOWN // args.texts, []
            if to_kill and shown >= SHOWN // 2:
                to_kill = False
                workers[0].process.kill()
                killed = time.time()
                workers[0] = Worker(args, 0, args.processes)
    began = time.perf_counter()
    reader, peaks = Worker(args, 0, 1), []
    while (line := args.lines.get()[1]) is not None:
        peaks.append(line[3])
    reader.check()
    print(
        f"all read by one process in {time.perf_counter() - began:.0f} s, with its "
        f"start and tokens, and at most {max(peaks):.2f} GiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archives", type=Path, required=True)
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--work", type=Path, default=None)
    parser.add_argument("--share", type=int, default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.share is not None:
        work(args)
        return
    args.lines = queue.Queue()
    shown = ("texts", "processes", "dtype")
    print(json.dumps({name: getattr(args, name) for name in shown} | {"seed": 0}))
    with tempfile.TemporaryDirectory() as folder:
        args.work = args.work or Path(folder)
        run(args)


if __name__ == "__main__":
    main()
