"""How right the closed-form students of lone data sets are, by labelled rows.

    python benchmarks/lone_fits.py [--data DIR] [--rows 50 100 400 2000] [--seeds 3]
        [--surrogate fute-mini]

Labels: accuracy on the test split of five tasks.  Numbers: explained variance of the
texts' lengths in characters, on the same splits.  The student of a lone
`MomentEmbedder` blends the statistics shipped with the surrogate with those of the rows
for labels, and takes the rows' own for numbers; beside it one with the rows' own
(``reference=X``), a logistic or ridge regression of the surrogate's features, its
penalty chosen by cross-validation, and the most frequent label or the mean.  Mean (and
spread over the seeds, which draw the rows).
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fute_sklearn import (
    MomentEmbedder,
    StudentClassifier,
    StudentRegressor,
    TextEmbedder,
)
from fute_sklearn.datasets import load_task_file
from fute_sklearn.exceptions import TruncationWarning

TASKS = ("sst2", "mr", "subj", "trec", "scitail")
N_TEST = 1000
Make = Callable[[str, list[str]], Any]


def on_features(surrogate: str, model: Any) -> Any:
    """A model of the surrogate's mean-pooled features."""
    return make_pipeline(TextEmbedder(surrogate), StandardScaler(), model)


LABELS: dict[str, Make] = {
    "most frequent": lambda surrogate, X: DummyClassifier(),
    "lone student": lambda surrogate, X: StudentClassifier(MomentEmbedder(surrogate)),
    "rows' own statistics": lambda surrogate, X: StudentClassifier(
        MomentEmbedder(surrogate, reference=X)
    ),
    "logistic, features": lambda surrogate, X: on_features(
        surrogate,
        LogisticRegressionCV(
            Cs=np.geomspace(1e-3, 1, 7),
            cv=3,
            l1_ratios=(0,),
            use_legacy_attributes=False,
        ),
    ),
}
NUMBERS: dict[str, Make] = {
    "mean": lambda surrogate, X: DummyRegressor(),
    "lone student": lambda surrogate, X: StudentRegressor(MomentEmbedder(surrogate)),
    "ridge, features": lambda surrogate, X: on_features(
        surrogate, RidgeCV(np.geomspace(1, 1e4, 13))
    ),
}


def one_task(
    path: Path, kinds: dict[str, Make], rows: int, args: argparse.Namespace
) -> dict[str, np.ndarray]:
    """Scores of the methods, one per seed."""
    splits = load_task_file(path)
    train, test = splits["train"], splits["test"]
    test = test.take(np.arange(min(N_TEST, test.n_samples)))
    found: dict[str, list[float]] = {method: [] for method in kinds}
    for seed in range(args.seeds):
        drawn = np.random.default_rng(seed).permutation(train.n_samples)[:rows]
        part = train.take(drawn)
        X, Z = list(part.texts), list(test.texts)
        y, truth = part.y, test.y
        if kinds is NUMBERS:
            y, truth = (np.array([float(len(t)) for t in some]) for some in (X, Z))
        for method, make in kinds.items():
            found[method].append(make(args.surrogate, X).fit(X, y).score(Z, truth))
    return {method: np.array(scores) for method, scores in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--surrogate", default="fute-mini")
    parser.add_argument("--rows", type=int, nargs="+", default=[50, 100, 400, 2000])
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    warnings.simplefilter("ignore", TruncationWarning)
    print(json.dumps({k: str(v) for k, v in vars(args).items()}), flush=True)
    for title, kinds in (("labels", LABELS), ("numbers", NUMBERS)):
        print(f"{title:28s}" + "".join(f"{task:>16s}" for task in TASKS))
        for rows in args.rows:
            columns = []
            for task in TASKS:
                path = args.data / f"{task}.jsonl.gz"
                if not path.exists():
                    raise SystemExit(f"{path} is missing: give --data.")
                columns.append(one_task(path, kinds, rows, args))
            for method in kinds:
                cells = (column[method] for column in columns)
                print(
                    f"{rows:5d} {method:22s}"
                    + "".join(f"{c.mean():9.3f} ({c.std():.3f})" for c in cells),
                    flush=True,
                )


if __name__ == "__main__":
    main()
