"""Choose prompts by every method, on answers that answer.py has kept.

    python benchmarks/prompts/replay.py --data DIR [--answers FILE] [--seeds 5]
        [--kinds sentiment inference] [--calibration none batch]
        [--surrogate fute-mini] [--texts 150] [--unlabelled FILE] [--further FILE]
        [--closed]

Per seed and target set, 100 rows are labelled and known; a prompt's true accuracy is
that on the others.  Criteria without labels see the others' answers; embeddings and
students see the prompts' answers on 150 unlabelled texts of other sources (``--texts``,
of those in the file of answers or of the more in ``--unlabelled``), and the 100 rows;
``--closed`` leaves out what is tuned, which takes long with thousands of texts.  Prints
performance rate (the chosen prompt's accuracy over the best one's), NDCG and Spearman's
rho, means over sets and seeds, with the rate's spread over the seeds and the 95 %
interval of a paired bootstrap against GlobalE; the seconds a prompt, the language
model's not counted; and what the method is worth: the fewest labelled rows with no
lower mean rate.  The same table holds random choice, the label prior, and the
candidates run on 10, 30 and 100 labelled rows (with ``--further``, a file of
``answer.py --further 200``: and 300), 200 draws of each.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
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

sys.path.append(str(Path(__file__).parents[1]))
from beds import draws  # noqa: E402

KNOWN = 100
COUNTS = (10, 30, 100, 300)
N_DRAWS = 200
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


class Clock:
    """Scores of the prompts by method, and the seconds that each took a prompt."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.scores: dict[str, np.ndarray] = {}
        self.seconds: dict[str, float] = {}
        self.start = time.perf_counter()

    def done(self, method: str, scores: np.ndarray) -> None:
        """Keep scores, (n_prompts,) or (n_draws, n_prompts); start the next method."""
        now = time.perf_counter()
        self.scores[method] = np.atleast_2d(scores)
        self.seconds[method] = (now - self.start) / self.count
        self.start = time.perf_counter()


def embedded(
    clock: Clock,
    surrogate: str,
    models: list[Task],
    answering: list[Task],
    target: Task,
    seed: int,
    closed: bool,
) -> None:
    """Score the prompts by embeddings and by students."""
    names = [task.name for task in models]
    moment = MomentEmbedder(surrogate)
    rows = TaskVectorizer(moment).fit([*answering, target]).embeddings_
    ranker = ModelRanker("dot").fit(rows[:-1], names=names)
    clock.done("moment embedding", ranker.decision_function(rows[-1:])[0])
    ranker = StudentRanker(moment).fit(answering, names=names)
    clock.done("student, closed form", ranker.decision_function([target])[0])
    if closed:
        return
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
        clock.done(label, ranker.decision_function(rows[-1:])[0])
    students = StudentRanker(lora).fit(answering, names=names)
    clock.done("student, low-rank", students.decision_function([target])[0])
    goal = students.embedder_.embed([target])[0].embedding_
    ranker = ModelRanker("cosine").fit(students.embeddings_, names=names)
    clock.done("cosine, function space", ranker.decision_function([goal])[0])


def labelled_draws(
    clock: Clock, answers: np.ndarray, y: np.ndarray, classes: list[str], seed: int
) -> None:
    """Score the prompts by labelled rows on which all were run."""
    right = np.array(classes)[answers.argmax(2)] == y
    truth = np.array([classes.index(v) if v in classes else -1 for v in y])
    own = np.where(truth < 0, np.nan, answers[:, np.arange(len(y)), truth])
    for count in (c for c in COUNTS if c <= len(y)):
        rows = list(draws(len(y), count, N_DRAWS, seed))
        by_accuracy = np.array([right[:, some].mean(1) for some in rows])
        clock.done(f"{count} labelled rows", by_accuracy)
        by_probability = np.array([np.nanmean(own[:, some], axis=1) for some in rows])
        clock.done(f"{count} rows, probability", by_probability)


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
) -> tuple[np.ndarray, Clock]:
    """Score the prompts by every method; also returns their true accuracies."""
    rng = np.random.default_rng(seed)
    classes = classes_of(kind, name)
    answers = probabilities(kept[f"{name}/scores"], name, calibration)
    y = labels_of(kind, kept[f"{name}/labels"])
    right = np.array(classes)[answers.argmax(2)] == y
    order = rng.permutation(len(y))
    mine, others = order[:KNOWN], order[KNOWN:]
    gains = right[:, others].mean(1)
    count = len(gains)
    clock = Clock(count)
    clock.done("random", rng.random((N_DRAWS, count)))
    share = np.array([(y[mine] == label).mean() for label in classes])
    said = np.array(
        [[(a.argmax(1) == c).mean() for c in range(len(classes))] for a in answers]
    )
    clock.done("label prior", -np.abs(said - share).sum(1))
    pool, pool_y = answers[:, mine], y[mine]
    if f"{name}-further/scores" in kept:
        more = probabilities(kept[f"{name}-further/scores"], name, calibration)
        pool = np.concatenate([pool, more], axis=1)
        pool_y = np.append(pool_y, labels_of(kind, kept[f"{name}-further/labels"]))
    labelled_draws(clock, pool, pool_y, classes, seed)
    for criterion, label in PAPER_NAMES.items():
        clock.done(label, getattr(criteria, criterion)(answers[:, others]))
    clock.done("Self-Select", kept[f"{kind}/preferences"].mean(0))
    clock.done("SPELL", -kept[f"{name}/perplexity"].mean(1))
    unlabelled = f"{kind}-unlabelled"
    found = probabilities(kept[f"{unlabelled}/scores"], name, calibration)
    some = rng.permutation(found.shape[1])[:n_texts]
    shared = [texts[unlabelled][i] for i in some]
    # Students and moments learn answers, the paper's methods probabilities.
    answering, models = (
        [
            Task(
                shared,
                values[i, some],
                classes=classes,
                name=f"prompt {i + 1}",
                origin="model",
            )
            for i in range(count)
        ]
        for values in (np.eye(len(classes))[found.argmax(2)], found)
    )
    target = Task([texts[name][i] for i in mine], y[mine], classes=classes, name=name)
    clock.start = time.perf_counter()
    embedded(clock, surrogate, models, answering, target, seed, closed)
    return gains, clock


def labels_of(kind: str, places: np.ndarray) -> np.ndarray:
    """Labels of rows, as answer.py numbers them."""
    return np.array([*CLASSES[kind], "other"])[places]


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


def with_further(kept: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """Answers with those to further labelled rows, by the same model."""
    more = dict(np.load(path))
    if str(more.pop("model")) != str(kept["model"]):
        raise SystemExit(f"{path}: another model's; see also --unlabelled.")
    for key in [key for key in more if key.endswith("/prompts")]:
        if more[key] != kept[key]:
            raise SystemExit(f"{path}: the answers are to other prompts.")
    return kept | more


def checked_texts(
    kept: dict[str, np.ndarray], kind: str, data: Path
) -> dict[str, list[str]]:
    """Texts of a kind's sets, if the answers are about them."""
    sets = {name: labelled_rows(name, data) for name in SETS[kind]}
    count = int(kept.get(f"{kind}-unlabelled/count", DRAWN))
    sets[f"{kind}-unlabelled"] = unlabelled_rows(kind, data, count)
    for name in SETS[kind]:
        key = f"{name}-further"
        if f"{key}/labels" in kept:
            sets[key] = labelled_rows(name, data, len(kept[f"{key}/labels"]))
    for name, rows in sets.items():
        if str(kept[f"{name}/key"]) != rows.key:
            raise SystemExit(f"{name}: the answers are about other texts.")
    if str(kept[f"{kind}/prompts"]) != prompts_key(kind):
        raise SystemExit(f"{kind}: the answers are to other prompts.")
    return {name: texts_of(rows) for name, rows in sets.items()}


def interval(differences: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % interval of a mean difference, by bootstrap over sets and seeds."""
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(differences), (10000, len(differences)))
    low, high = np.quantile(differences[draws].mean(1), [0.025, 0.975])
    return float(low), float(high)


def report(title: str, runs: list[list[Clock]], gains: list[list[np.ndarray]]) -> None:
    """Print one table of clocks and true accuracies by set and seed."""
    best = np.mean([one.max() for row in gains for one in row])
    print(f"\n{title} (best prompt's accuracy {best:.3f})")
    print(
        f"{'':26}{'perf. rate':>11}{'spread':>8}{'NDCG':>7}{'rho':>7}"
        f"{'against GlobalE':>18}{'seconds':>9}{'worth':>7}"
    )
    cells = {
        method: np.array(
            [
                [
                    measured(true, clock.scores[method])
                    for clock, true in zip(*row, strict=True)
                ]
                for row in zip(runs, gains, strict=True)
            ]
        )
        for method in runs[0][0].scores
    }
    rows = {0: cells["random"][..., 0].mean()}
    for count in COUNTS:
        if (label := f"{count} labelled rows") in cells:
            rows[count] = cells[label][..., 0].mean()
    for method, values in cells.items():
        low, high = interval((values - cells["GlobalE"])[..., 0].ravel())
        rate, ndcg, rho = np.nanmean(values, axis=(0, 1))
        enough = [count for count, mean in rows.items() if mean > rate - 1e-9]
        worth = "" if "rows" in method else str(min(enough, default=f">{max(rows)}"))
        seconds = np.mean([clock.seconds[method] for row in runs for clock in row])
        print(
            f"{method:26}{rate:11.3f}{values[..., 0].mean(0).std():8.3f}{ndcg:7.3f}"
            f"{rho:7.2f}{low:+10.3f} {high:+.3f}{seconds:10.3f}{worth:>7}"
        )


def measured(gains: np.ndarray, scores: np.ndarray) -> list[float]:
    """All measures of some draws of scores."""
    true = np.tile(gains, (len(scores), 1))
    return [measure(true, scores) for measure in MEASURES.values()]


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
    parser.add_argument("--further", type=Path)
    parser.add_argument("--closed", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore", TruncationWarning)
    warnings.simplefilter("ignore", UnlabelledTextsWarning)
    kept = dict(np.load(options.answers))
    if options.unlabelled:
        kept = extended(kept, dict(np.load(options.unlabelled)), options)
    if options.further:
        kept = with_further(kept, options.further)
    shown = {name: str(v) for name, v in vars(options).items()}
    print(json.dumps({**shown, "model": str(kept["model"])}))
    for kind in options.kinds:
        names, texts = SETS[kind], checked_texts(kept, kind, options.data)
        print(f"\n{kind}: {len(prompts_of(kind))} prompts, sets {', '.join(names)}")
        for calibration in options.calibration:
            runs, gains = [], []
            for name in names:
                found = [
                    scores_of_methods(
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
                    for seed in range(options.seeds)
                ]
                gains.append([true for true, _ in found])
                runs.append([clock for _, clock in found])
                print(f"  {name} done", flush=True)
            report(f"{kind}, calibration {calibration}", runs, gains)


if __name__ == "__main__":
    main()
