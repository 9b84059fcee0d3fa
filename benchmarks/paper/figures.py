"""Figures 3, 4, A1 and A2: maps of embeddings, and what they show in numbers.

    python benchmarks/paper/figures.py [--config offline] [--out DIR] [--seed 0]
        [--answers FILE ...] [--data DIR] [--packages DIR] [--archives DIR]

Two maps by t-SNE for each of two embeddings (tuned prefix, as published, and moments
with label texts): fine-tuned models, coloured by the category of their source, and
prompted language models, coloured by task; the marker is the backbone or the language
model, large points are data sets.  Numbers are those of the embeddings themselves:
silhouette by category and by model, the share of points whose nearest neighbour has
their category or is of their model, that share by chance, and how often a data set's
nearest model has its category.  Before both, models and data sets are centred apart.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from configs import CONFIGS
from gains import add_places, places, results, unlabelled
from kept import read
from methods import Methods, fine_tuned, vectors
from sklearn.metrics import silhouette_score
from sklearn.preprocessing import normalize

from fute_sklearn import MomentEmbedder, Task, TaskMapDisplay, TuPaTEEmbedder
from fute_sklearn.exceptions import TruncationWarning, UnlabelledTextsWarning

BENCHMARKS = Path(__file__).parents[1]
sys.path.append(str(BENCHMARKS / "prompts"))
from bed import SETS, labelled_rows, prompts_of, unlabelled_rows  # noqa: E402
from replay import classes_of, probabilities, texts_of  # noqa: E402

DATA_SET = "data set"
CATEGORIES = {
    "sentiment": ("sst2", "opinions", "fiqa"),
    "tone": ("emotion", "irony", "offensive", "subj"),
    "topic and intent": ("agnews", "trec", "clinc10"),
    "inference": ("scitail", "rte", "snli2", "mqp"),
    "question answering": ("boolq", "commonsenseqa", "piqa", "siqa", "quartz"),
    "medicine and finance": ("pubmedqa", "medqa"),
}
DRAWS = 1000


def category(name: str) -> str:
    """Return the category of a data set; itself if it has none."""
    return next((c for c, names in CATEGORIES.items() if name in names), name)


def neighbours(rows: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Index of each row's nearest row by cosine, itself apart, among some rows."""
    alike = normalize(rows) @ normalize(rows).T
    alike[:, ~among] = -np.inf
    np.fill_diagonal(alike, -np.inf)
    return np.asarray(alike.argmax(1))


def numbers(
    rows: np.ndarray, tasks: Sequence[str], families: Sequence[str], seed: int = 0
) -> dict[str, float]:
    """Measure what a map shows, on the embeddings themselves.

    ``rows`` (n, dim), ``tasks`` and ``families`` of length n, where the family of data
    sets is ``"data set"``.  Chance is the mean over permutations of the tasks within
    the models, p the share of them that reach the true share.
    """
    rng = np.random.default_rng(seed)
    task, family = np.array(tasks), np.array(families)
    model = family != DATA_SET
    nearest = neighbours(rows, model)
    out: dict[str, float] = {}
    for name, label in (("task", task[model]), ("model", family[model])):
        kinds = len(set(label))
        out[f"silhouette by {name}"] = (
            float(silhouette_score(rows[model], label, metric="cosine"))
            if 1 < kinds < model.sum()
            else float("nan")
        )
    out["neighbour of the same model"] = float(
        (family[nearest] == family)[model].mean()
    )
    for name, part in (("", model), ("data sets: ", ~model)):
        if not part.any():
            continue
        found = (task[nearest] == task)[part].mean()
        draws = []
        for _ in range(DRAWS):
            drawn = task.copy()
            drawn[model] = rng.permutation(drawn[model])
            draws.append((drawn[nearest] == drawn)[part].mean())
        out[f"{name}neighbour of the same task"] = float(found)
        out[f"{name}by chance"] = float(np.mean(draws))
        out[f"{name}p"] = float(np.mean(np.array(draws) >= found))
    return out


def prompted(args: argparse.Namespace) -> tuple[list[Task], list[Task]]:
    """Prompted language models' labels of unlabelled texts, and the data sets."""
    models, sets = [], []
    for path in args.answers:
        kept = dict(np.load(path))
        for kind, names in SETS.items():
            texts = texts_of(unlabelled_rows(kind, args.data))
            pool = probabilities(kept[f"{kind}-unlabelled/scores"], "", "none")
            classes = classes_of(kind, "")
            for i in range(len(prompts_of(kind))):
                models.append(
                    Task(
                        texts,
                        pool[i],
                        classes=classes,
                        name=f"{path.stem} | {kind}",
                        origin="model",
                    )
                )
            if path == args.answers[0]:
                for name in names:
                    rows = labelled_rows(name, args.data)
                    y = list(rows.labels or ())
                    sets.append(Task(texts_of(rows), y, name=f"{DATA_SET} | {kind}"))
    return models, sets


def embedders(surrogate: str, seed: int) -> dict[str, Any]:
    """The two embeddings that are mapped."""
    return {
        "TuPaTE": TuPaTEEmbedder(
            surrogate, tuning="prompt", space="parameters", random_state=seed
        ),
        "moments": MomentEmbedder(surrogate, target_encoding="text"),
    }


def show(
    title: str, file: Path, rows: np.ndarray, tasks: list[str], families: list[str]
) -> None:
    """Print the numbers of a map and draw it."""
    print(f"\n{title}: {len(rows)} points")
    for name, value in numbers(rows, tasks, families).items():
        print(f"  {name:42s}{value:7.3f}")
    display = TaskMapDisplay.from_embeddings(rows, tasks=tasks, families=families)
    display.ax_.set_title(title)
    display.figure_.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_places(parser)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("demo_output/paper"))
    parser.add_argument("--answers", type=Path, nargs="*", default=[])
    args = parser.parse_args()
    for noise in (TruncationWarning, UnlabelledTextsWarning, UserWarning):
        warnings.simplefilter("ignore", noise)
    print(json.dumps({name: str(value) for name, value in vars(args).items()}))
    config = CONFIGS[args.config]
    args.out.mkdir(parents=True, exist_ok=True)
    sets = config.sets(places(args), config.sizes)
    candidates = fine_tuned(read(results(args))[1])
    made = Methods(config, candidates, sets, unlabelled(config, args, sets), args.seed)
    tasks = [category(c.source) for c in candidates] + [category(n) for n in sets]
    families = [c.backbone for c in candidates] + [DATA_SET] * len(sets)
    both = [(made.labelled, list(made.targets.values()), tasks, families, "models")]
    if args.answers:
        models, data = prompted(args)
        names = [str(task.name).split(" | ") for task in [*models, *data]]
        both.append(
            (models, data, [b for _, b in names], [a for a, _ in names], "prompts")
        )
    for labelled, data, kinds, members, what in both:
        for label, embedder in embedders(config.surrogate, args.seed).items():
            found = np.vstack(
                [vectors(embedder, labelled)] + [vectors(embedder, [t]) for t in data]
            )
            # Each side about its own mean, without which they lie far apart.
            side = np.array([m == DATA_SET for m in members])
            for part in (side, ~side):
                found[part] -= found[part].mean(0)
            file = args.out / f"{what}_{label}.png"
            show(f"{label}, {what}, centred", file, found, kinds, members)


if __name__ == "__main__":
    main()
