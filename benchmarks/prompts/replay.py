"""Choose prompts by every method, on answers that answer.py has kept.

    python benchmarks/prompts/replay.py --data DIR [--answers FILE] [--seeds 5]
        [--kinds sentiment inference] [--calibration none batch]
        [--surrogate fute-mini] [--texts 150] [--unlabelled FILE] [--closed]

Per seed and target set, 100 rows are labelled and known; a prompt's true accuracy is
that on the others.  Criteria without labels see the others' answers; embeddings and
students see the prompts' answers on 150 unlabelled texts of other sources (``--texts``,
of those in the file of answers or of the more in ``--unlabelled``), and the 100 rows;
``--closed`` leaves out what is tuned, which takes long with thousands of texts.  Prints
performance rate (the chosen prompt's accuracy over the best one's), NDCG and Spearman's
rho, means over sets and seeds, with the 95 % interval of a paired bootstrap of the
performance rate against GlobalE.  The same table holds random choice, the label prior,
and the candidates run on 10, 30 and 100 labelled rows.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bed import SETS, Rows, labelled_rows, prompts_key, prompts_of, unlabelled_rows
from bed import UNLABELLED as DRAWN

from fute_sklearn import (
    ModelRanker,
    MomentEmbedder,
    StudentRanker,
    Task,
    TaskEmbedder,
    TaskVectorizer,
    TuPaTEEmbedder,
)
from fute_sklearn.exceptions import TruncationWarning, UnlabelledTextsWarning
from fute_sklearn.llm import criteria
from fute_sklearn.metrics import ndcg_score, performance_rate_score, spearman_score

KNOWN = 100
SAME = 0.01  # nats by which answers of one model may differ between versions
UNLABELLED = 150  # of the 200 that were answered
CLASSES = {
    "sentiment": ["negative", "positive"],
    "inference": ["contradiction", "entailment", "neutral"],
}
# What a set with two labels calls all that is no entailment.
REST = {"rte": "other", "scitail": "neutral"}
PAPER_NAMES = {
    "mutual_information": "MI",
    "local_entropy": "LocalE",
    "global_entropy": "GlobalE",
    "zps_log": "ZPS-Log",
    "zps_prob": "ZPS-Prob",
    "zps_vote": "ZPS-Vote",
    "zps_calibrated": "ZPS-Vote, calibrated",
}
Measure = Callable[..., float]
MEASURES: dict[str, Measure] = {
    "performance rate": performance_rate_score,
    "NDCG": ndcg_score,
    "rho": spearman_score,
}


def probabilities(scores: np.ndarray, name: str, calibration: str) -> np.ndarray:
    """Probabilities (n_prompts, n_rows, n_classes) of the set's own labels."""
    logs = scores - np.logaddexp.reduce(scores, axis=2, keepdims=True)
    if calibration == "batch":
        logs = logs - np.log(np.exp(logs).mean(1, keepdims=True))
        logs = logs - np.logaddexp.reduce(logs, axis=2, keepdims=True)
    found = np.exp(logs)
    if name in REST:
        found = np.stack([found[..., 1], found[..., 0] + found[..., 2]], -1)
    return found / found.sum(-1, keepdims=True)


def classes_of(kind: str, name: str) -> list[str]:
    """Labels of a set in the order of its probabilities."""
    return ["entailment", REST[name]] if name in REST else CLASSES[kind]


def texts_of(rows: Rows) -> list[str]:
    return [" ".join(record.values()) for record in rows.records]


def embedded(
    surrogate: str,
    models: list[Task],
    answering: list[Task],
    target: Task,
    seed: int,
    closed: bool,
) -> dict[str, np.ndarray]:
    """Scores of the prompts by embeddings and by students."""
    names = [task.name for task in models]
    moment = MomentEmbedder(surrogate)
    rows = TaskVectorizer(moment).fit([*answering, target]).embeddings_
    ranker = ModelRanker("dot").fit(rows[:-1], names=names)
    out = {"moment embedding": ranker.decision_function(rows[-1:])[0]}
    ranker = StudentRanker(moment).fit(answering, names=names)
    out["student, closed form"] = ranker.decision_function([target])[0]
    if closed:
        return out
    lora = TuPaTEEmbedder(surrogate, tuning="lora", random_state=seed)
    prefix = TuPaTEEmbedder(
        surrogate, tuning="prompt", space="parameters", random_state=seed
    )
    for label, embedder in (
        ("FUTE+TaskEmb", TaskEmbedder(surrogate)),
        ("FUTE+TuPaTE", prefix),
    ):
        rows = TaskVectorizer(embedder).fit([*models, target]).embeddings_
        ranker = ModelRanker("cosine").fit(rows[:-1], names=names)
        out[label] = ranker.decision_function(rows[-1:])[0]
    students = StudentRanker(lora).fit(answering, names=names)
    out["student, low-rank"] = students.decision_function([target])[0]
    goal = students.embedder_.embed([target])[0].embedding_
    ranker = ModelRanker("cosine").fit(students.embeddings_, names=names)
    out["cosine, function space"] = ranker.decision_function([goal])[0]
    return out


def scores_of_methods(
    kind: str,
    name: str,
    kept: dict[str, np.ndarray],
    texts: dict[str, list[str]],
    calibration: str,
    surrogate: str,
    seed: int,
    n_texts: int,
    closed: bool = False,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Score the prompts by every method; also returns their true accuracies."""
    rng = np.random.default_rng(seed)
    classes = classes_of(kind, name)
    answers = probabilities(kept[f"{name}/scores"], name, calibration)
    known = [*CLASSES[kind], "other"]
    y = np.array([known[i] for i in kept[f"{name}/labels"]])
    right = np.array(classes)[answers.argmax(2)] == y
    order = rng.permutation(len(y))
    mine, others = order[:KNOWN], order[KNOWN:]
    gains = right[:, others].mean(1)
    count = len(gains)
    out = {"random": rng.random(count)}
    share = np.array([(y[mine] == label).mean() for label in classes])
    said = np.array(
        [[(a.argmax(1) == c).mean() for c in range(len(classes))] for a in answers]
    )
    out["label prior"] = -np.abs(said - share).sum(1)
    for rows in (10, 30, KNOWN):
        some = mine[:rows]
        out[f"{rows} labelled rows"] = right[:, some].mean(1)
        truth = np.array(
            [classes.index(label) if label in classes else -1 for label in y[some]]
        )
        kept_rows = some[truth >= 0]
        own = answers[:, kept_rows, truth[truth >= 0]]
        out[f"{rows} rows, probability"] = own.mean(1)
    for criterion, label in PAPER_NAMES.items():
        out[label] = getattr(criteria, criterion)(answers[:, others])
    out["Self-Select"] = kept[f"{kind}/preferences"].mean(0)
    out["SPELL"] = -kept[f"{name}/perplexity"].mean(1)
    unlabelled = f"{kind}-unlabelled"
    pool = probabilities(kept[f"{unlabelled}/scores"], name, calibration)
    some = rng.permutation(pool.shape[1])[:n_texts]
    shared = [texts[unlabelled][i] for i in some]
    names = [f"prompt {i + 1}" for i in range(count)]
    # Students and moments learn answers, the paper's methods probabilities.
    answered = np.eye(len(classes))[pool.argmax(2)]
    answering, models = (
        [
            Task(shared, found[i, some], classes=classes, name=n, origin="model")
            for i, n in enumerate(names)
        ]
        for found in (answered, pool)
    )
    target = Task([texts[name][i] for i in mine], y[mine], classes=classes, name=name)
    return gains, out | embedded(surrogate, models, answering, target, seed, closed)


def extended(
    kept: dict[str, np.ndarray],
    more: dict[str, np.ndarray],
    options: argparse.Namespace,
) -> dict[str, np.ndarray]:
    """Answers with more unlabelled texts; those to texts that both have must agree.

    A model's fingerprint depends on versions of libraries, its answers hardly do.
    """
    for kind in options.kinds:
        key = f"{kind}-unlabelled"
        few, many = (
            [
                json.dumps(record)
                for record in unlabelled_rows(kind, options.data, count).records
            ]
            for count in (DRAWN, int(more[f"{key}/count"]))
        )
        place = {text: i for i, text in enumerate(many)}
        shared = [i for i, text in enumerate(few) if text in place]
        old = kept[f"{key}/scores"][:, shared]
        new = more[f"{key}/scores"][:, [place[few[i]] for i in shared]]
        same = more[f"{kind}/prompts"] == kept[f"{kind}/prompts"]
        if not (shared and same and np.allclose(old, new, atol=SAME)):
            raise SystemExit(
                f"{options.unlabelled}: another model's, or other prompts."
            )
    return kept | more


def interval(differences: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % interval of a mean difference, by bootstrap over sets and seeds."""
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(differences), (10000, len(differences)))
    low, high = np.quantile(differences[draws].mean(1), [0.025, 0.975])
    return float(low), float(high)


def report(title: str, cells: dict[str, np.ndarray], best: float) -> None:
    """Print one table; cells are (n_cells, n_measures) by method."""
    print(f"\n{title} (best prompt's accuracy {best:.3f})")
    print(f"{'':26}{'perf. rate':>11}{'NDCG':>7}{'rho':>7}   against GlobalE")
    for method, values in cells.items():
        low, high = interval(values[:, 0] - cells["GlobalE"][:, 0])
        rate, ndcg, rho = np.nanmean(values, axis=0)
        print(f"{method:26}{rate:11.3f}{ndcg:7.3f}{rho:7.2f}   {low:+.3f} {high:+.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--answers", type=Path, default=Path(__file__).with_name("smollm2.npz")
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--calibration", nargs="+", default=["none", "batch"])
    parser.add_argument("--surrogate", default="fute-mini")
    parser.add_argument("--texts", type=int, default=UNLABELLED)
    parser.add_argument("--unlabelled", type=Path)
    parser.add_argument("--closed", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore", TruncationWarning)
    warnings.simplefilter("ignore", UnlabelledTextsWarning)
    kept = dict(np.load(options.answers))
    if options.unlabelled:
        kept = extended(kept, dict(np.load(options.unlabelled)), options)
    shown = {name: str(v) for name, v in vars(options).items()}
    print(json.dumps({**shown, "model": str(kept["model"])}))
    for kind in options.kinds:
        names = SETS[kind]
        sets = {name: labelled_rows(name, options.data) for name in names}
        count = int(kept.get(f"{kind}-unlabelled/count", DRAWN))
        sets[f"{kind}-unlabelled"] = unlabelled_rows(kind, options.data, count)
        for name, rows in sets.items():
            if str(kept[f"{name}/key"]) != rows.key:
                raise SystemExit(f"{name}: the answers are about other texts.")
        if str(kept[f"{kind}/prompts"]) != prompts_key(kind):
            raise SystemExit(f"{kind}: the answers are to other prompts.")
        texts = {name: texts_of(rows) for name, rows in sets.items()}
        print(f"\n{kind}: {len(prompts_of(kind))} prompts, sets {', '.join(names)}")
        for calibration in options.calibration:
            cells: dict[str, list[list[float]]] = {}
            best = []
            for name in names:
                for seed in range(options.seeds):
                    gains, found = scores_of_methods(
                        kind,
                        name,
                        kept,
                        texts,
                        calibration,
                        options.surrogate,
                        seed,
                        options.texts,
                        options.closed,
                    )
                    best.append(gains.max())
                    for method, scores in found.items():
                        row = [m([gains], scores[None]) for m in MEASURES.values()]
                        cells.setdefault(method, []).append(row)
                print(f"  {name} done", flush=True)
            report(
                f"{kind}, calibration {calibration}",
                {method: np.array(rows) for method, rows in cells.items()},
                float(np.mean(best)),
            )


if __name__ == "__main__":
    main()
