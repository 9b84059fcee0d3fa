"""Whether models and a task mean the same labels, told by the labels' names."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from .._utils._stack_level import find_stack_level
from ..exceptions import LabelMismatchError, LabelMismatchWarning
from ._targets import TargetSet
from ._task import Task

SHOWN = 5
OF_MODELS = (
    "MTEWrapper(model, label_names={{{example}}}), or rank_models(..., "
    "label_names={{{name!r}: {{{example}}}}})"
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
) -> None:
    """Compare the label names of models with a target's.

    Parameters
    ----------
    models : dict of str to sequence of str
        Label names that each model uses.
    target : sequence of str
        Label names of the target.
    complete : bool, default=True
        Whether a model's names are all that it can answer, rather than those seen.
    remedy : str
        What to write so that the labels agree.

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
    refuse_other_labels(models, target, remedy)
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
    models: Mapping[str, Sequence[str]], target: Sequence[str], remedy: str = OF_MODELS
) -> None:
    """Raise where a model shares no label with a target, or has a nearly equal one."""
    wrong = []
    for name, labels in models.items():
        near = nearly_equal(labels, target)
        if near or not set(labels) & set(target):
            wrong.append((name, labels, near))
    if wrong:
        raise LabelMismatchError(_mismatch(wrong, list(target), remedy))


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
        f"the model {name!r} answers {list(labels)}, the target has {target}, {what}. "
        "Labels are compared by name; say which of the model's stands for which of the "
        f"target's: {remedy.format(example=example, name=name, target=target)}."
    )
    if others := [other for other, _, _ in wrong[1:]]:
        message += f" The same holds for {len(others)} more, as {others[:SHOWN]}."
    return message


def answered_names(task: Task) -> list[str]:
    """Return the names of the labels that occur in a task, not those that could."""
    present = task.targets.proba.max(0).tolist()
    return [n for n, occurs in zip(task.targets.names, present, strict=True) if occurs]


def labels_of(tasks: Sequence[Task]) -> dict[str, Any]:
    """All labels of tasks by their names."""
    return {
        name: label
        for task in tasks
        if task.classes is not None
        for name, label in zip(task.targets.names, task.classes.tolist(), strict=True)
    }


def with_shared_classes(
    tasks: Sequence[Task], more: Mapping[str, Any] | None = None
) -> list[Task]:
    """Give models that answer one label the other models' labels as classes too.

    Such a model is a constant among the others; alone it names one label only.
    """
    labels = labels_of(tasks) | dict(more or {})
    return [
        task.with_classes(labels.values())
        if task.classes is not None and len(task.classes) == 1
        else task
        for task in tasks
    ]


def answers_as_labels(task: Task, target: TargetSet) -> Task:
    """Read a model's answers as labels, since the target has labels.

    Numbers are labels only where the target knows all of them: other floats are a
    score or a probability of one class.
    """
    targets = task.targets
    if targets.kind == "number":
        found = Task(task.texts, targets.values, name=task.name, kind="label")
        shared = set(found.targets.names) & set(target.names)
        # A probability may happen to be 0 or 1; ratings are mostly known.
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
        return Task(task.texts, targets.texts, name=task.name, kind="label")
    return task
