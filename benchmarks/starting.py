"""Time a cold start, a net's hash and a thousand models; part of ``speed.py``.

A cold start is a new process that ranks three models by 500 texts, with nothing cached.
The thousand models are labels that exist already, of 8,000 synthetic texts; the texts
are encoded before.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable

import numpy as np

from fute_sklearn import MomentEmbedder, config_context, rank_models

N_MODELS, N_TEXTS, N_ROWS = 1000, 8000, 400
START = """
import time
marks = [time.perf_counter()]
import sklearn.linear_model, sklearn.pipeline
marks.append(time.perf_counter())
from fute_sklearn import config_context, rank_models
marks.append(time.perf_counter())
import torch
marks.append(time.perf_counter())
from fute_sklearn._engine import load_surrogate
load_surrogate("fute-mini")
marks.append(time.perf_counter())
import json, tempfile, warnings
warnings.simplefilter("ignore")
words = ["good", "bad", "dull", "fine", "sad"]
X = [f"a {words[i % 5]} film, number {i}" for i in range(600)]
y = ["yes" if i % 5 in (0, 3) else "no" for i in range(600)]
tell = lambda test: lambda texts: ["yes" if test(x) else "no" for x in texts]
models = {
    "right": tell(lambda x: "good" in x or "fine" in x),
    "half": tell(lambda x: "good" in x),
    "length": tell(lambda x: len(x) % 2),
}
with tempfile.TemporaryDirectory() as folder, config_context(cache_dir=folder):
    rank_models(models, X[500:], y[500:], texts=X[:500], students="closed")
marks.append(time.perf_counter())
print(json.dumps([b - a for a, b in zip(marks, marks[1:])]))
"""
HASH = """
import json, resource, time, torch
from fute_sklearn import MTEWrapper
layers = [torch.nn.Linear(4096, 4096, bias=False) for _ in range(16)]
net = MTEWrapper(torch.nn.Sequential(*layers), tokenizer=len, classes=["a", "b"])
most = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before, start = most(), time.perf_counter()
assert net.identity()
print(json.dumps([time.perf_counter() - start, most() - before]))
"""
PARTS = ("scikit-learn", "fute_sklearn", "torch", "the surrogate", "the ranking")


def measure_start(say: Callable, repeats: int) -> dict[str, float]:
    """Print and return the seconds of a cold start, and where they go."""
    runs = []
    for _ in range(repeats):
        done = subprocess.run(
            [sys.executable, "-c", START], capture_output=True, text=True, check=True
        )
        runs.append(json.loads(done.stdout))
    parts = np.median(runs, axis=0)
    found = [say("cold start: seconds", float(np.median(np.sum(runs, axis=1))))]
    for name, spent in zip(PARTS, parts, strict=True):
        found.append(say(f"cold start: of these, {name}", float(spent)))
    return dict(found)


def measure_hash(say: Callable) -> dict[str, float]:
    """Print and return what it takes to know a torch net of a gibibyte by content."""
    done = subprocess.run(
        [sys.executable, "-c", HASH], capture_output=True, text=True, check=True
    )
    spent, grown = json.loads(done.stdout)
    what = "hash of a net of 1 GiB"
    return dict([say(f"{what}: seconds", spent), say(f"{what}: MiB", grown / 2**10)])


def measure_thousand(say: Callable) -> dict[str, float]:
    """Print and return seconds and memory beyond the encoder's pass."""
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(400)]
    texts = [" ".join(rng.choice(words, 8)) for _ in range(N_TEXTS + N_ROWS)]
    X, texts = texts[:N_ROWS], texts[N_ROWS:]
    labels = np.array(["negative", "positive"])
    with tempfile.TemporaryDirectory() as folder, config_context(cache_dir=folder):
        closed = MomentEmbedder()
        features = closed.encode(texts).pooled()
        closed.encode(X)
        features = (features - features.mean(0)) / features.std(0)
        scores = features @ rng.standard_normal((features.shape[1], N_MODELS))
        scores += 10 * rng.standard_normal(scores.shape)
        models = {f"m{j}": labels[(scores[:, j] > 0) * 1] for j in range(N_MODELS)}
        y = labels[rng.integers(0, 2, N_ROWS)]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rank_models(models, X, y, texts=texts, embedder=closed)
        spent = time.perf_counter() - start
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    what = f"{N_MODELS:,} models by {N_TEXTS:,} texts"
    return dict([say(f"{what}: seconds", spent), say(f"{what}: GiB", grown / 2**20)])
