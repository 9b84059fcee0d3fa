"""Compare the label names of models with those of a task."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .._utils._stack_level import find_stack_level
from ..exceptions import LabelMismatchError, LabelMismatchWarning
from ._targets import TargetSet
from ._task import Task

SHOWN = 5
MAX_STRANGE = 20
OF_MODELS = (
    "MTEWrapper(model, label_names={{{example}}}), or rank_models(..., "
    "label_names={{{name!r}: {{{example}}}}}), where label_names={{{name!r}: 'match'}} "
    "finds out by behaviour"
)
OF_PROMPTS = "PromptedLLM(..., labels={target}, verbalizer={{label: what is said}})"


def _rough(name: str) -> str:
    """Return a name without case, spaces and differences of Unicode form."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(unicodedata.normalize("NFKC", folded).split())


def nearly_equal(names: Sequence[str], target: Sequence[str]) -> dict[str, str]:
    """Map names to those of the target that differ in case, spaces or Unicode form."""
    rough = {_rough(name): name for name in target}
    return {
        name: rough[_rough(name)]
        for name in names
        if name not in target and _rough(name) in rough
    }


def check_label_spaces(
    models: Mapping[str, Sequence[str]],
    target: Sequence[str],
    complete: bool = True,
    remedy: str = OF_MODELS,
    propose: Callable[[list[str]], str] = lambda names: "",
) -> None:
    """Check that models use the label names of a target task.

    Parameters
    ----------
    models : dict of str to sequence of str
        Label names of each model.
    target : sequence of str
        Label names of the target.
    complete : bool, default=True
        Whether the names are all labels that a model can predict; False if they are
        only those seen in its predictions, so that missing ones are not reported.
    remedy : str
        Code that renames the labels, for the error message.
    propose : callable
        Says, of the models of these names, which labels go together with the target's:
        the end of the error's message.

    Raises
    ------
    LabelMismatchError
        If a model shares no name with the target, or has one that differs from a
        target's in case, spaces or Unicode form only.

    Warns
    -----
    LabelMismatchWarning
        If a model has other names beside shared ones, or lacks some of the target's.
    """
    refuse_other_labels(models, target, remedy, propose)
    partly = []
    for name, labels in models.items():
        strange = [label for label in labels if label not in target]
        lacking = [label for label in target if complete and label not in labels]
        if strange or lacking:
            partly.append(_partly(name, strange, lacking))
    if partly:
        more = f"; and {len(partly) - SHOWN} models more" if len(partly) > SHOWN else ""
        warnings.warn(
            f"labels that models and target (which has {list(target)}) do not share "
            f"can never agree: {'; '.join(partly[:SHOWN])}{more}. Where they mean the "
            "same, give label_names",
            LabelMismatchWarning,
            stacklevel=find_stack_level(),
        )


def refuse_other_labels(
    models: Mapping[str, Sequence[str]],
    target: Sequence[str],
    remedy: str = OF_MODELS,
    propose: Callable[[list[str]], str] = lambda names: "",
) -> None:
    """Raise if a model shares no label with the target, or has a nearly equal one."""
    wrong = []
    for name, labels in models.items():
        near = nearly_equal(labels, target)
        if near or not set(labels) & set(target):
            wrong.append((name, labels, near))
    if wrong:
        unlike = [name for name, _, near in wrong if not near]
        proposed = propose(unlike) if unlike else ""
        message = _mismatch(wrong, list(target), remedy)
        raise LabelMismatchError(message + proposed)


def _partly(name: str, strange: Sequence[str], lacking: Sequence[str]) -> str:
    parts = []
    if strange:
        parts.append(f"answers {list(strange)}, unknown to the target")
    if lacking:
        parts.append(f"never answers {list(lacking)}")
    return f"{name!r} {' and '.join(parts)}"


def _mismatch(
    wrong: Sequence[tuple[str, Sequence[str], dict[str, str]]],
    target: list[str],
    remedy: str,
) -> str:
    name, labels, near = wrong[0]
    if near:
        what = "some of which differ in case, spaces or Unicode form only"
        example = ", ".join(f"{a!r}: {b!r}" for a, b in near.items())
    else:
        what = "and they share no label"
        example = ", ".join(f"{label!r}: ..." for label in list(labels)[:SHOWN])
    message = (
        f"the model {name!r} answers {_some(labels)}, the target has {_some(target)}, "
        f"{what}. "
        "Labels are compared by name; say which of the model's stands for which of the "
        f"target's: {remedy.format(example=example, name=name, target=target)}."
    )
    if others := [other for other, _, _ in wrong[1:]]:
        message += f" The same holds for {len(others)} more, as {others[:SHOWN]}."
    return message


def _some(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - MAX_STRANGE} more" if len(labels) > MAX_STRANGE else ""
    return f"{list(labels)[:MAX_STRANGE]}{more}"


def answered_names(task: Task) -> list[str]:
    """Return the names of the labels that occur in a task's targets."""
    proba = task.targets.proba
    # A product, since a maximum over the rows of few columns is slow.
    present = (np.ones(len(proba), proba.dtype) @ proba).tolist()
    return [n for n, occurs in zip(task.targets.names, present, strict=True) if occurs]


def labels_of(tasks: Sequence[Task]) -> dict[str, Any]:
    """Return the labels of all tasks by label name."""
    return {
        name: label
        for task in tasks
        if task.classes is not None
        for name, label in zip(task.targets.names, task.classes.tolist(), strict=True)
    }


def with_shared_classes(
    tasks: Sequence[Task], more: Mapping[str, Any] | None = None
) -> list[Task]:
    """Extend the classes of tasks with a single class by those of the other tasks.

    A model that gave one label to all texts is thereby embedded as a constant
    classifier; a task with a single class could not be embedded.
    """
    labels = labels_of(tasks) | dict(more or {})
    return [
        task.with_classes(labels.values())
        if task.classes is not None and len(task.classes) == 1
        else task
        for task in tasks
    ]


def answers_as_labels(task: Task, target: TargetSet) -> Task:
    """Convert a model's numeric or text predictions to labels of the target.

    Numbers are accepted if at least half of the distinct ones are label names of the
    target; other numbers are taken for scores or probabilities and raise.
    """
    targets = task.targets
    if targets.kind == "number":
        found = _labelled(task, targets.values)
        shared = set(found.targets.names) & set(target.names)
        # Probabilities may include 0 and 1; of ratings, most are the target's labels.
        if 2 * len(shared) >= len(found.targets.names):
            return found
        low, high = targets.values.min(), targets.values.max()
        guess = "probabilities of one class" if 0 <= low and high <= 1 else "scores"
        raise LabelMismatchError(
            f"the model {task.name!r} answers with numbers from {low:.4g} to "
            f"{high:.4g}, which look like {guess}; the target has the labels "
            f"{list(target.names)}. Remedy: let the model's predict give labels, as by "
            "thresholding, or give it a predict_proba of shape (n, n_classes) and wrap "
            "it: MTEWrapper(model, response_method='predict_proba', classes=[...])."
        )
    if targets.kind == "text":
        return _labelled(task, targets.texts)
    return task


def refuse_many_labels(task: Task, target: TargetSet) -> None:
    """Raise if a model's answers are sentences, or dozens of labels of its own."""
    targets = task.targets
    if targets.kind == "number":
        return
    if targets.kind == "text":
        found = list(dict.fromkeys(targets.texts))
    else:
        found = answered_names(task)
    strange = [name for name in found if name not in target.names]
    if len(strange) > MAX_STRANGE:
        raise LabelMismatchError(
            f"the model {task.name!r} gives {len(found)} different answers, as "
            f"{[name[:40] for name in strange[:SHOWN]]}, of which "
            f"{len(found) - len(strange)} are labels of the target, "
            f"{list(target.names)}. Remedy: for sentences, read the label from them: "
            f"MTEWrapper(model, parser=LabelParser({list(target.names)})); for other "
            "labels, label_names."
        )


def _labelled(task: Task, labels: Any) -> Task:
    return Task(task.texts, labels, name=task.name, kind="label", origin=task.origin)
