"""Answers of the models to labelled rows of the target, asked for or given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from .._utils._columns import has, is_missing
from ..embedders._student import Predictions
from ..models._mte_wrapper import MTEWrapper
from ..tasks._label_spaces import answers_as_labels
from ..tasks._task import Task
from ._scorer_proxies import LEAST_PROBABILITY
from ._target_scorer import TargetScorer


@dataclass(frozen=True)
class LabelledRows:
    """Scores of models on some labelled rows.

    Parameters
    ----------
    scores : ndarray (n_models,)
        The scores; NaN for models without answers, or that fail.
    deviations : ndarray (n_models, n_columns)
        Deviations of the scores by rows; see `TargetScorer.deviations`.
    count : int
        Number of the rows.
    reason : str
        The first error message; empty without one.
    """

    scores: np.ndarray
    deviations: np.ndarray
    count: int
    reason: str = ""


def ask_rows(
    wrapped: Mapping[str, MTEWrapper],
    target: Task,
    n_labelled: int,
    scoring: Any,
    random_state: Any,
) -> LabelledRows:
    """Have the models label some rows that are drawn from the target."""
    rng = check_random_state(random_state)
    count = min(n_labelled, target.n_samples)
    rows = np.sort(rng.choice(target.n_samples, count, replace=False))
    part = target.take(rows)
    return _scored([_asked(w, part) for w in wrapped.values()], part, scoring)


def given_rows(
    names: Sequence[str], answers: Any, target: Task, scoring: Any
) -> LabelledRows:
    """Take answers that exist already, as a table of rows by models.

    Raises
    ------
    TypeError
        If ``answers`` is no table.
    ValueError
        If its index holds no positions of the target's rows, a column is no model, or
        no row has an answer of every model in the table.
    """
    if not (has(answers, "columns") and has(answers, "index")):
        raise TypeError(
            f"labelled is a {type(answers).__name__}; expected a DataFrame of the "
            "models' answers, with a column for each model, indexed by the positions "
            "of the rows in X."
        )
    columns = {str(name): name for name in answers.columns}
    if strange := [name for name in columns if name not in names]:
        raise ValueError(
            f"labelled has the columns {strange}, but the models are {list(names)}."
        )
    index = list(answers.index)
    whole = all(isinstance(i, (int, np.integer)) for i in index)
    if not whole or not all(0 <= i < target.n_samples for i in index):
        raise ValueError(
            "the index of labelled holds no positions of rows in X; expected whole "
            f"numbers from 0 to {target.n_samples - 1}, found {index[:3]}."
        )
    if len(set(index)) < len(index):
        raise ValueError("the index of labelled names a row of X twice.")
    table = {name: answers[column].tolist() for name, column in columns.items()}
    full = [
        i
        for i in range(len(index))
        if not any(is_missing(values[i]) for values in table.values())
    ]
    if not full or not table:
        raise ValueError("labelled has no row with an answer of every model in it.")
    part = target.take(np.array([index[i] for i in full]))

    def answered(name: str) -> Any:
        if name not in table:
            return None
        y = [table[name][i] for i in full]
        return part, answers_as_labels(
            Task(part.texts, y, name=name, kind="label"), part.targets
        )

    return _scored([answered(name) for name in names], part, scoring)


def _asked(wrapper: MTEWrapper, part: Task) -> tuple[Task, Task] | Exception:
    """Rows of a part that a model answers, and its answers."""
    try:
        found = answers_as_labels(wrapper.label(part.texts), part.targets)
    except Exception as error:  # a model may be anybody's
        return ValueError(f"{wrapper.name!r}: {error}")
    return part.take(_rows_of(found.texts, part.texts)), found


def _scored(
    answers: Sequence[tuple[Task, Task] | Exception | None], part: Task, scoring: Any
) -> LabelledRows:
    scores, reason = np.full(len(answers), np.nan), ""
    whole: dict[int, Predictions] = {}
    for i, pair in enumerate(answers):
        if not isinstance(pair, tuple):
            reason = reason or ("" if pair is None else str(pair))
            continue
        answered, found = pair
        log_proba = np.log(np.clip(found.targets.proba, LEAST_PROBABILITY, 1))
        one = Predictions("label", found.targets.names, log_proba)
        try:
            scores[i] = TargetScorer(answered, scoring, expected=False).score(one)
        except Exception as error:  # a scorer may be anybody's
            reason = reason or f"{found.name!r}: {error}"
            continue
        if answered.n_samples == part.n_samples:
            whole[i] = one
    deviations = TargetScorer(part, scoring).deviations(list(whole.values()))
    out = np.zeros((len(answers), deviations.shape[1]))
    out[list(whole)] = deviations
    return LabelledRows(scores, out, part.n_samples, reason)


def _rows_of(kept: tuple[str, ...], texts: tuple[str, ...]) -> np.ndarray:
    """Return the positions in ``texts`` of the subsequence ``kept``."""
    rows, start = [], 0
    for text in kept:
        start = texts.index(text, start) + 1
        rows.append(start - 1)
    return np.array(rows)
