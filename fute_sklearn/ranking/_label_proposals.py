"""Tell which labels of models go together with a target's, by behaviour."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from ..embedders._moment_embedder import MomentEmbedder
from ..exceptions import LabelMismatchError, ModelLabelError
from ..models._answer_reading import ABSTAINED
from ..models._match_labels import LabelMatch, match_labels
from ..models._model_answers import Renaming
from ..models._mte_wrapper import MTEWrapper
from ..models.adapters._recorded import is_recorded
from ..tasks._label_spaces import SHOWN
from ..tasks._task import Task
from ..tasks._validation import check_texts, label_name

LEAST_CONFIDENCE = 0.9
MOST_TEXTS = 2000  # that a message may take to encode


def matched(
    task: Task, target: Task, closed: MomentEmbedder
) -> tuple[Task, LabelMatch, dict[Any, Any]]:
    """Rename the labels of a model to those of the target that it uses alike.

    Also returns the match, and the new names by the model's.
    """
    asked = _without_abstentions(task)
    if asked.targets.kind != "label" or len(asked.targets.names) < 2:
        raise LabelMismatchError(
            f"the model {task.name!r} answers with {asked.targets.kind}s, "
            f"{list(asked.targets.names)}: one label or none cannot be matched by "
            "behaviour. Give texts of other kinds too, or say what its labels are "
            "called with label_names."
        )
    match = match_labels(asked, target, embedder=closed)
    if match.confidence < LEAST_CONFIDENCE:
        shown = {old: round(c, 2) for old, c in match.confidences.items()}
        raise LabelMismatchError(
            f"the labels of the model {task.name!r} cannot be matched by behaviour: "
            f"{match.names} has the confidence {match.confidence:.2f}, less than "
            f"{LEAST_CONFIDENCE} (each alone {shown}). More unlabelled texts, similar "
            "to the target's, raise it; or say what the labels are called: "
            f"label_names={{{task.name!r}: {match.names}}}, if this is right."
        )
    taken = {label_name(label) for label in match.names.values()}
    left = [c for c in task.targets.classes.tolist() if c not in match.names]
    # A label that is left over must not pass for the target's of the same name.
    others = {c: f"{c} (of the model)" for c in left if label_name(c) in taken}
    names = {**match.names, **others}
    table, classes = Renaming(names).of_columns(
        task.targets.proba, task.targets.classes.tolist()
    )
    renamed = Task(task.texts, table, name=task.name, classes=classes, origin="model")
    return renamed, match, names


def _without_abstentions(task: Task) -> Task:
    names = task.targets.names
    if ABSTAINED not in names:
        return task
    place = names.index(ABSTAINED)
    rows = np.flatnonzero(task.targets.proba[:, place] == 0)
    if not len(rows):
        raise LabelMismatchError(
            f"the model {task.name!r} gives no answer to any text, so that its labels "
            "cannot be matched by behaviour."
        )
    table = np.delete(task.targets.proba[rows], place, 1)
    classes = [c for c in task.targets.classes.tolist() if c != ABSTAINED]
    texts = [task.texts[i] for i in rows]
    return Task(texts, table, name=task.name, classes=classes, origin="model")


def proposal(tasks: Iterable[Task], target: Task, closed: MomentEmbedder) -> str:
    """Say which labels of models go together with the target's, where it can be told.

    Labels that are the target's already are not renamed.  The sentence, for the end of
    a message, starts with a space; it is empty where nothing can be told.
    """
    names, least = {}, 1.0
    target = target.take(_drawn(target.texts))
    for task in tasks:
        found, confidence = _renaming(task.take(_drawn(task.texts)), target, closed)
        if found:
            names[task.name] = found
            least = min(least, confidence)
    if not names:
        return ""
    return (
        f" By behaviour these go together, with confidence {least:.2f}: "
        f"label_names={names}."
    )


def _renaming(
    task: Task, target: Task, closed: MomentEmbedder
) -> tuple[dict[Any, Any], float]:
    """New names of a model's labels that the target lacks, with a confidence."""
    if task.targets.kind != "label":
        return {}, 0.0
    theirs, ours = set(task.targets.names) - {ABSTAINED}, set(target.targets.names)
    if not theirs & ours:
        try:
            _, match, _ = matched(task, target, closed)
        except LabelMismatchError:
            return {}, 0.0
        return match.names, match.confidence
    try:
        match = match_labels(_without_abstentions(task), target, embedder=closed)
    except ValueError:  # one label, or no answers
        return {}, 0.0
    sure = {
        old: new
        for old, new in match.names.items()
        if label_name(old) in theirs - ours
        and label_name(new) in ours - theirs
        and match.confidences[old] >= LEAST_CONFIDENCE
    }
    return sure, min((match.confidences[old] for old in sure), default=0.0)


def answered_already(
    wrapped: Mapping[str, MTEWrapper], names: Sequence[str], texts: Any
) -> list[Task]:
    """Tasks of the models' answers to texts that are had without asking."""
    out = []
    for name in names[:SHOWN]:
        # What is wrong with a model is told when it is asked, not in its place.
        with (
            suppress(ModelLabelError, TypeError, ValueError, AttributeError),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            out += _answered(wrapped[name], texts)
    return out


def _answered(wrapper: MTEWrapper, texts: Any) -> list[Task]:
    if is_recorded(wrapper.estimator):
        return [wrapper.label(texts)]
    rows = np.array(distinct_rows(check_texts(texts, "texts")))
    # Again, since several texts can be one question: only the first is told.
    while len(rows) and len(left := wrapper.rows_to_ask(taken(texts, rows))):
        rows = np.delete(rows, left)
    if not len(rows):
        return []
    rows = np.random.default_rng(0).permutation(rows)[:MOST_TEXTS]
    return [wrapper.label(taken(texts, rows))]


def _drawn(texts: Sequence[str]) -> np.ndarray:
    """Rows of distinct texts, as many as a message may take to encode."""
    return np.random.default_rng(0).permutation(distinct_rows(texts))[:MOST_TEXTS]


def distinct_rows(texts: Sequence[str]) -> list[int]:
    """Rows of the texts that occur for the first time."""
    return list({text: i for i, text in reversed(list(enumerate(texts)))}.values())


def taken(texts: Any, rows: np.ndarray) -> Any:
    """Some of the texts, in a container of the same kind."""
    return texts.iloc[rows] if hasattr(texts, "iloc") else [texts[i] for i in rows]
