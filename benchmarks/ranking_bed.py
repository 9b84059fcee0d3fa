"""Rank models of all other domains for every domain of a bed, by every method.

    python benchmarks/ranking_bed.py [--bed topics] [--data DIR] [--archives DIR]
        [--texts 8000] [--tuned-texts 2000] [--seeds 3] [--surrogate fute-mini]
        [--dtype float32] [--json FILE]

For each target the candidates are the models of all other domains, the gain is their
true score on the target's held-out rows, and every ranking sees the same 400 labelled
rows of the target and the same unlabelled texts (see ``beds.py``); tuned students see
the first ``--tuned-texts`` of them.  Prints, as mean over the targets (and spread over
the seeds), rank correlation and regret of every method and of the baselines for
accuracy and balanced accuracy, the seconds per model after labelling, and how many
labelled rows a method is worth: the fewest whose mean regret, over 200 draws, is no
higher.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from beds import LOADERS, Bed, draws, make_bed
from scipy.stats import rankdata
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.pipeline import make_pipeline

from fute_sklearn import (
    ModelRanker,
    MomentEmbedder,
    MTEWrapper,
    StudentRanker,
    Task,
    TaskEmbedder,
    TaskVectorizer,
    TuPaTEEmbedder,
)
from fute_sklearn.embedders._student import Predictions
from fute_sklearn.exceptions import UnlabelledTextsWarning
from fute_sklearn.metrics import regret_loss, spearman_score
from fute_sklearn.ranking._baselines import prior_distance
from fute_sklearn.ranking._model_scores import mixed
from fute_sklearn.ranking._target_scorer import TargetScorer

GAINS: dict[str, Any] = {
    "accuracy": accuracy_score,
    "balanced_accuracy": balanced_accuracy_score,
}
COUNTS = (10, 30, 100, 300)
N_DRAWS = 200
Scores = dict[str, dict[str, dict[str, np.ndarray]]]  # method, gain, target


class Methods:
    """Scores of all models for every target, by method and gain."""

    def __init__(self, bed: Bed, labelled: list[Task]) -> None:
        self.bed = bed
        self.labelled = labelled
        self.names = list(bed.zoo)
        self.scores: Scores = {}
        self.seconds: dict[str, float] = {}

    def put(self, method: str, gain: str, target: str, values: np.ndarray) -> None:
        """Keep scores of all models for a target."""
        self.scores.setdefault(method, {}).setdefault(gain, {})[target] = values

    def took(self, method: str, seconds: float) -> None:
        """Keep the time that a method took for all models."""
        self.seconds[method] = seconds / len(self.names)

    def students(
        self, label: str, embedder: Any, labelled: list[Task]
    ) -> tuple[StudentRanker, dict[tuple[str, str], list[Predictions]]]:
        """Scores by students, expected and by the likeliest answer."""
        start = time.perf_counter()
        ranker = StudentRanker(embedder).fit(labelled, names=self.names)
        fitted = time.perf_counter() - start
        kept = {}
        for target, task in self.bed.targets.items():
            for gain in GAINS:
                ranker.set_params(scoring=gain)
                start = time.perf_counter()
                found = list(ranker.predictions(task))
                scorer = TargetScorer(task, gain)
                self.put(label, gain, target, self._scored(scorer, found))
                spent = fitted + time.perf_counter() - start
                likeliest = TargetScorer(task, gain, expected=False)
                plain = self._scored(likeliest, found)
                self.put(f"{label}, likeliest answer", gain, target, plain)
                kept[target, gain] = found
        self.took(label, spent)
        print(f"  {label}: {fitted:.1f} s", flush=True)
        return ranker, kept

    @staticmethod
    def _scored(scorer: TargetScorer, found: list[Predictions]) -> np.ndarray:
        return np.array([scorer.score(one) for one in found])

    def both(self, first: dict[Any, Any], second: dict[Any, Any]) -> None:
        """Scores by the mean of two students' probabilities."""
        for (target, gain), found in first.items():
            scorer = TargetScorer(self.bed.targets[target], gain)
            pairs = zip(found, second[target, gain], strict=True)
            values = self._scored(scorer, [mixed(a, b) for a, b in pairs])
            self.put("both students", gain, target, values)

    def vectors(
        self, label: str, metric: str, embedder: Any, tasks: list[Task]
    ) -> None:
        """Scores by embeddings; classes of data sets weigh as in the gain."""
        start = time.perf_counter()
        vectorizer = TaskVectorizer(embedder).fit(tasks)
        self.compare(label, metric, vectorizer)
        self.took(label, time.perf_counter() - start)

    def compare(self, label: str, metric: str, fitted: Any) -> None:
        """Scores by the embeddings that a vectorizer or a ranker holds."""
        ranker = ModelRanker(metric).fit(fitted.embeddings_, names=self.names)
        for gain in GAINS:
            own = fitted.embedder_
            if "class_weight" in own.get_params():
                weight = "balanced" if gain == "balanced_accuracy" else None
                own.set_params(class_weight=weight)
            for target, task in self.bed.targets.items():
                vector = own.embed([task])[0].embedding_
                scores = ranker.decision_function([vector])[0]
                self.put(label, gain, target, scores)

    def pipeline(self, closed: MomentEmbedder) -> None:
        """The pipeline of the README, as it stands there."""
        pipe = make_pipeline(TaskVectorizer(closed), ModelRanker("dot"))
        pipe.fit(self.labelled, modelranker__names=self.names)
        for target, task in self.bed.targets.items():
            scores = pipe.decision_function([task])[0]
            for gain in GAINS:
                self.put("README's pipeline", gain, target, scores)

    def prior(self) -> None:
        """Scores by the distance of label shares."""
        for target, task in self.bed.targets.items():
            scores = np.array([-prior_distance(m, task) for m in self.labelled])
            for gain in GAINS:
                self.put("label prior", gain, target, scores)


def methods_of(
    bed: Bed, labelled: list[Task], args: argparse.Namespace, seed: int
) -> Methods:
    """Run every method."""
    out = Methods(bed, labelled)
    how = {"surrogate": args.surrogate, "dtype": args.dtype}
    closed = MomentEmbedder(**how)
    closed.encode(bed.texts)  # the encoder's pass is not part of the times
    _, by_closed = out.students("closed form", closed, labelled)
    out.vectors("moments, dot", "dot", closed, labelled)
    out.pipeline(closed)
    out.prior()
    if args.tuned_texts:
        rows = np.arange(min(args.tuned_texts, len(bed.texts)))
        some = [task.take(rows) for task in labelled]
        lora = TuPaTEEmbedder(**how, random_state=seed)
        tuned, by_tuned = out.students("low-rank", lora, some)
        if len(rows) < len(bed.texts):
            _, by_closed = out.students("closed form, tuned texts", closed, some)
        out.both(by_closed, by_tuned)
        out.compare("cosine, function space", "cosine", tuned)
        published = TuPaTEEmbedder(**how, space="parameters", random_state=seed)
        out.vectors("cosine, parameters", "cosine", published, some)
        out.vectors("cosine, TaskEmb", "cosine", TaskEmbedder(**how), some)
    return out


def true_scores(bed: Bed, part: str) -> dict[str, dict[str, np.ndarray]]:
    """Answers of all models on a part of every domain, right or wrong."""
    return {
        target: {
            name: np.asarray(model.predict(list(parts[part].texts)))
            for name, model in bed.zoo.items()
        }
        for target, parts in bed.parts.items()
    }


def one_seed(args: argparse.Namespace, seed: int) -> dict[str, dict[str, list[float]]]:
    """Run the bed once; what was measured by gain and method.

    These are rank correlation and regret, as means over the targets, seconds per model,
    and the quartiles of the rank correlation over the targets.
    """
    bed = make_bed(args.bed, args.data, args.archives, args.texts, seed)
    wrapped = {name: MTEWrapper(model, name=name) for name, model in bed.zoo.items()}
    labelled = [wrapper.label(bed.texts) for wrapper in wrapped.values()]
    print(f" seed {seed}: {len(bed.zoo)} models, {len(bed.texts)} texts", flush=True)
    methods = methods_of(bed, labelled, args, seed)
    truth, seen = true_scores(bed, "test"), true_scores(bed, "known")
    table: dict[str, dict[str, list[float]]] = {}
    for gain, metric in GAINS.items():
        rows: dict[str, list[list[float]]] = {}
        for target, parts in bed.parts.items():
            names = bed.others(target)
            chosen = [methods.names.index(name) for name in names]
            gains = [metric(parts["test"].y, truth[target][name]) for name in names]
            for method, by_gain in methods.scores.items():
                found = by_gain[gain][target][chosen]
                row = [spearman_score(gains, found), regret_loss(gains, found)]
                rows.setdefault(method, []).append(row)
            y = parts["known"].y
            right = np.array([seen[target][name] == y for name in names])
            for count in COUNTS:
                row = labelled_row(gains, right, y, gain, count)
                rows.setdefault(f"{count} labelled rows", []).append(row)
            flat = np.zeros(len(gains))
            rows.setdefault("random (expected)", []).append(
                [0.0, regret_loss(gains, flat)]
            )
        table[gain] = {
            method: [
                *np.mean(found, axis=0),
                methods.seconds.get(method, np.nan),
                *np.quantile(np.array(found)[:, 0], [0.25, 0.75]),
            ]
            for method, found in rows.items()
        }
    return table


def labelled_row(
    gains: list[float], right: np.ndarray, y: np.ndarray, gain: str, count: int
) -> list[float]:
    """Rank correlation and regret of the models' scores on a few labelled rows."""
    found = []
    for rows in draws(len(y), count, N_DRAWS, 0):
        groups = [rows]
        if gain == "balanced_accuracy":
            groups = [rows[y[rows] == label] for label in np.unique(y[rows])]
        scores = np.mean([right[:, group].mean(1) for group in groups], axis=0)
        found.append([spearman_score(gains, scores), regret_loss(gains, scores)])
    return list(np.mean(found, axis=0))


def worth(regret: float, means: dict[str, np.ndarray]) -> str:
    """Fewest labelled rows whose mean regret is no higher."""
    for count in COUNTS:
        if means[f"{count} labelled rows"][:, 1].mean() <= regret:
            return str(count)
    return f"> {COUNTS[-1]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bed", default="topics", choices=LOADERS)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--archives", type=Path)
    parser.add_argument("--surrogate", default="fute-mini")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--texts", type=int, default=8000)
    parser.add_argument("--tuned-texts", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    # Few rows may hold one class only, which scikit-learn says of each of them.
    warnings.simplefilter("ignore", UserWarning)
    warnings.simplefilter("ignore", UnlabelledTextsWarning)
    paths = ("data", "archives", "json")
    shown = {name: value for name, value in vars(args).items() if name not in paths}
    print(json.dumps(shown), flush=True)
    runs = [one_seed(args, seed) for seed in range(args.seeds)]
    if args.json:
        kept = {"settings": shown, "runs": runs}
        args.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf8")
    for gain in GAINS:
        means = {m: np.array([run[gain][m] for run in runs]) for m in runs[0][gain]}
        print(
            f"\ngain = {gain}\n{'method':36s}{'Spearman (spread)':>18s}"
            f"{'regret':>9s}{'s/model':>9s}{'worth rows':>12s}"
        )
        order = rankdata([-found[:, 0].mean() for found in means.values()], "ordinal")
        for _, method in sorted(zip(order, means, strict=True)):
            found = means[method]
            seconds = found[:, 2].mean()
            spent = "" if np.isnan(seconds) else f"{seconds:.3f}"
            print(
                f"{method:36s}{found[:, 0].mean():11.2f} ({found[:, 0].std():.2f})"
                f"{found[:, 1].mean():9.3f}{spent:>9s}"
                f"{worth(found[:, 1].mean(), means):>12s}"
            )


if __name__ == "__main__":
    main()
