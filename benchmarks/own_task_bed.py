"""The bed of ``own_task.py``: tasks of different labels, models of each, baselines."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from beds import FAMILIES, draws, family, sentences
from scipy.optimize import linear_sum_assignment
from scipy.stats import binom

from fute_sklearn import MTEWrapper, Task
from fute_sklearn.datasets import load_task_file

TASKS = (
    "agnews banking77 cb clinc10 emotion irony mqp offensive pubmedqa rte scitail "
    "snli2 sst2 subj trec"
).split()
N_TRAIN, N_KNOWN, N_DRAWS = 2000, 400, 200
COUNTS = (10, 30, 100, 300)
LEVEL = 0.05  # of the test whether a model beats the majority class


@dataclass(frozen=True)
class OwnTasks:
    """Data sets, models of each and what these answer.

    ``own`` are the places of the models' data sets, ``chances`` those that guessing the
    majority gets as many rows right as a model does, ``answers[i][j]`` the labels of
    model i on the rows of data set j, as places among its labels, ``seconds`` what one
    such row takes.
    """

    texts: list[str]
    data_sets: list[Task]
    labelled: list[Task]
    opaque: list[Task]
    own: np.ndarray
    families: np.ndarray
    chances: np.ndarray
    answers: list[list[np.ndarray]]
    seconds: float

    @property
    def sizes(self) -> np.ndarray:
        """Numbers of labels of the data sets."""
        return np.array([len(task.targets.names) for task in self.data_sets])


def parts_of(data: Path, rng: np.random.Generator) -> dict[str, dict[str, Task]]:
    """Cut each task into rows to train on and rows that describe it."""
    out = {}
    for name in TASKS:
        path = data / f"{name}.jsonl.gz"
        if not path.exists():
            raise SystemExit(f"{path} is missing: give --data.")
        task = load_task_file(path)["train"]
        order = rng.permutation(task.n_samples)
        known = min(N_KNOWN, task.n_samples // 3)
        rows = order[known:][:N_TRAIN]
        out[name] = {"known": task.take(order[:known]), "train": task.take(rows)}
    return out


def make_bed(data: Path, archives: Path | None, n_texts: int, seed: int) -> OwnTasks:
    """Fit six families of models on each task; they label varied sentences."""
    rng = np.random.default_rng(seed)
    parts = parts_of(data, rng)
    pool = sentences(archives)
    texts = [pool[i] for i in rng.permutation(len(pool))[:n_texts]]
    data_sets = [part["known"] for part in parts.values()]
    labelled, answers, own, chances, spent = [], [], [], [], 0.0
    for place, part in enumerate(parts.values()):
        known = part["known"]
        for kind in FAMILIES:
            model = family(kind, seed).fit(list(part["train"].texts), part["train"].y)
            labels = sorted(set(part["train"].y))
            labelled.append(MTEWrapper(model, classes=labels).label(texts))
            start = time.perf_counter()
            found = [model.predict(list(task.texts)) for task in data_sets]
            spent += time.perf_counter() - start
            answers.append([np.searchsorted(labels, one) for one in found])
            right = int(np.sum(found[place] == known.y))
            majority = known.targets.proba.mean(0).max()
            chances.append(chance_of(right, known.n_samples, majority))
            own.append(place)
    n_rows = sum(task.n_samples for task in data_sets) * len(labelled)
    return OwnTasks(
        texts,
        data_sets,
        labelled,
        [renamed(task, rng) for task in labelled],
        np.array(own),
        np.array(FAMILIES * len(parts)),
        np.array(chances),
        answers,
        spent / n_rows,
    )


def chance_of(right: int, n_rows: int, share: float) -> float:
    """Chance that guessing the majority gets as many right (mid-p, one-sided)."""
    return float(binom.sf(right, n_rows, share) + 0.5 * binom.pmf(right, n_rows, share))


def renamed(task: Task, rng: np.random.Generator) -> Task:
    """The same answers, with numbers in another order for labels."""
    names = rng.permutation(len(task.targets.names)).astype(str).tolist()
    return Task(task.texts, task.targets.proba, classes=names, origin="model")


def names_in_common(bed: OwnTasks) -> np.ndarray:
    """Share of the labels' names that a model and a data set have in common."""
    models, data = (
        [set(task.targets.names) for task in tasks]
        for tasks in (bed.labelled, bed.data_sets)
    )
    return np.array([[len(m & d) / len(m | d) for d in data] for m in models])


def share_distances(bed: OwnTasks) -> np.ndarray:
    """Likeness of the sorted shares of the labels, whatever they are called."""
    size = max(len(task.targets.names) for task in [*bed.labelled, *bed.data_sets])

    def shares(task: Task) -> np.ndarray:
        found = np.sort(task.targets.proba.mean(0))[::-1]
        return np.pad(found, (0, size - len(found)))

    data = np.array([shares(task) for task in bed.data_sets])
    return np.array([-np.abs(shares(m) - data).sum(1) for m in bed.labelled])


def rows_match(bed: OwnTasks, model: int, count: int, seed: int) -> float:
    """How often labelled rows, on which a model is run, tell what all its labels mean.

    Labels that suit alike are drawn.
    """
    task = bed.data_sets[bed.own[model]]
    ours, theirs = task.targets.names, bed.labelled[model].targets.names
    true = np.array([ours.index(name) if name in ours else -1 for name in theirs])
    y, found = task.targets.proba.argmax(1), bed.answers[model][bed.own[model]]
    rng = np.random.default_rng(seed)
    right = []
    for rows in draws(len(y), count, N_DRAWS, seed):
        table = np.zeros((len(theirs), len(ours)))
        np.add.at(table, (found[rows], y[rows]), 1)
        order = rng.permutation(len(ours))
        places, columns = linear_sum_assignment(-table[:, order])
        right.append(np.array_equal(true[places], order[columns]))
    return float(np.mean(right))


def labelled_rows(bed: OwnTasks, count: int, seed: int) -> np.ndarray:
    """Likeness (n_draws, n_models, n_data) by rows on which every model is run.

    How many the model gets right under the assignment of labels that suits it best,
    above what the most frequent label does, in standard deviations of the latter.
    """
    out = np.empty((N_DRAWS, len(bed.labelled), len(bed.data_sets)))
    for j, task in enumerate(bed.data_sets):
        y = task.targets.proba.argmax(1)
        n_labels = task.targets.proba.shape[1]
        rows = np.array(list(draws(len(y), count, N_DRAWS, seed)))
        most = np.array([np.bincount(y[some]).max() for some in rows])
        size = rows.shape[1]
        deviation = np.sqrt(most * (1 - most / size) + 1)
        for i, found in enumerate(bed.answers):
            n_answers = len(bed.labelled[i].targets.names)
            cells = found[j][rows] * n_labels + y[rows]
            for k, draw in enumerate(cells):
                table = np.bincount(draw, minlength=n_answers * n_labels)
                table = table.reshape(n_answers, n_labels)
                right = table[linear_sum_assignment(-table)].sum()
                out[k, i, j] = (right - most[k]) / deviation[k]
    return out
