"""Wrap the models to be ranked and have them label the unlabelled texts."""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Collection, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import joblib
import numpy as np
from sklearn.base import BaseEstimator

from .._utils._callbacks import (
    CallbackSupportMixin,
    callback_management_context,
    nested_progress,
)
from .._utils._columns import has
from .._utils._config import config_context, get_config
from .._utils._interrupts import stopped_by
from .._utils._stack_level import find_stack_level
from ..embedders._moment_embedder import MomentEmbedder
from ..exceptions import (
    LabelMismatchError,
    LabelMismatchWarning,
    ModelLabelError,
    ModelLabelWarning,
)
from ..models._answer_reading import ABSTAINED
from ..models._match_labels import LabelMatch
from ..models._mte_wrapper import MTEWrapper
from ..tasks._label_spaces import (
    answered_names,
    answers_as_labels,
    check_label_spaces,
    refuse_many_labels,
)
from ..tasks._task import Task
from ..tasks._validation import label_name
from ._label_proposals import answered_already, matched, proposal

MATCH = "match"
NUMBER = re.compile(r"(label_?)?-?\d+", re.IGNORECASE)
# What becomes of abstentions, as `MTEWrapper` does it.
ABSTENTIONS = {"wrong": "keep", "drop": "drop"}


@dataclass
class Labelled:
    """The models that labelled the texts, their tasks, and what there is to tell."""

    wrapped: dict[str, MTEWrapper]
    tasks: list[Task] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    abstained: dict[str, float] = field(default_factory=dict)
    matches: dict[str, LabelMatch] = field(default_factory=dict)
    partly: list[Task] = field(default_factory=list)  # with labels of their own

    def tell_proposals(self, target: Task, closed: MomentEmbedder) -> None:
        """Warn of labels that differ by name, but go together by behaviour."""
        if proposed := proposal(self.partly, target, closed):
            warnings.warn(
                "labels of models may be other names of labels that they lack of the "
                f"target.{proposed}",
                LabelMismatchWarning,
                stacklevel=find_stack_level(),
            )


def wrap_models(
    models: Any, label_names: Mapping[str, Any] | str | None, abstentions: str
) -> tuple[dict[str, MTEWrapper], dict[str, bool]]:
    """Wrap the models under distinct names, with what their labels are called.

    Also returns those whose labels are to be matched: in any case, or if they differ
    from the target's.
    """
    alone = hasattr(models, "predict") or callable(models)
    if alone or isinstance(models, (str, os.PathLike)) or has(models, "columns"):
        raise TypeError(
            f"models is one {type(models).__name__}; expected several, as a dict by "
            "their names or a list: [model]."
        )
    out: dict[str, MTEWrapper] = {}
    for name, model in _pairs(models):
        wrapper = model if isinstance(model, MTEWrapper) else MTEWrapper(model)
        name = str(wrapper.model_name if name is None else name)
        same, number = name, 1
        while name in out:
            number += 1
            name = f"{same}-{number}"
        params = {**wrapper.get_params(deep=False), "name": name}
        if params["abstentions"] is None:
            params["abstentions"] = ABSTENTIONS[abstentions]
        out[name] = MTEWrapper(**params)
    if isinstance(label_names, str):
        if label_names != MATCH:
            raise ValueError(
                f"label_names={label_names!r}, expected {MATCH!r}, or a dict by the "
                "names of the models."
            )
        return out, dict.fromkeys(out, False)
    return out, dict.fromkeys(_name_labels(out, dict(label_names or {})), True)


def _pairs(models: Any) -> list[tuple[Any, Any]]:
    """Models with their names; those without a name have None."""
    if isinstance(models, Mapping) or has(models, "items"):  # a Series too
        pairs = list(models.items())
    else:
        pairs = [
            tuple(model)
            if isinstance(model, tuple)
            and len(model) == 2
            and isinstance(model[0], str)
            else (None, model)
            for model in models
        ]
    if not pairs:
        raise ValueError("there are no models to rank.")
    return pairs


def _name_labels(wrapped: dict[str, MTEWrapper], given: dict[Any, Any]) -> set[str]:
    """Give the wrappers their ``label_names``; return those to be matched."""
    to_match = set()
    for key, renaming in given.items():
        name = str(key)
        named = isinstance(renaming, (Mapping, list, tuple, np.ndarray))
        if name not in wrapped or not (named or renaming == MATCH):
            raise ValueError(
                f"label_names has the entry {name!r}: {renaming!r}; expected, by the "
                f"name of a model, a dict from its labels to the target's, these in "
                f"the order of its classes, or {MATCH!r}. The models are "
                f"{list(wrapped)}."
            )
        if wrapped[name].label_names is not None:
            raise ValueError(
                f"the wrapper of {name!r} has label_names of its own; give one of both."
            )
        if named:
            wrapped[name].set_params(label_names=renaming)
        else:
            to_match.add(name)
    return to_match


class _Progress(CallbackSupportMixin, BaseEstimator):
    """Tells callbacks of the models that have labelled the texts."""


def check_known_labels(
    wrapped: dict[str, MTEWrapper],
    to_match: Collection[str],
    texts: Any,
    target: Task,
    closed: MomentEmbedder,
) -> dict[str, list[str]]:
    """Refuse models whose labels are not the target's, before any is asked.

    The message proposes what the labels of those are called that answered texts before.
    Returns the labels, by model, of those that tell them.
    """
    known = {
        name: [label_name(label) for label in labels]
        for name, wrapper in wrapped.items()
        if name not in to_match and (labels := wrapper.known_labels())
    }
    check_label_spaces(
        known,
        target.targets.names,
        propose=lambda names: proposal(
            answered_already(wrapped, _unnamed(wrapped, names), texts), target, closed
        ),
    )
    return known


def label_texts(
    wrapped: dict[str, MTEWrapper],
    to_match: Mapping[str, bool],
    texts: Any,
    target: Task,
    closed: MomentEmbedder,
    *,
    on_error: str,
    n_jobs: int | None,
    callbacks: Sequence[Any],
) -> Labelled:
    """Label the texts by all models, in the target's labels.

    Models that fail are left out, with a warning, unless they are to raise or all fail.
    """
    names = target.targets.names
    known = check_known_labels(wrapped, to_match, texts, target, closed)
    out = Labelled({})
    failed: list[Exception] = []
    found: Task | Exception
    with closing(
        answers_of_models(wrapped, texts, n_jobs, on_error, callbacks)
    ) as answers:
        for name, found in answers:
            matching = False
            if isinstance(found, Task) and name in to_match:
                matching = to_match[name] or _differ(found, names)
            if isinstance(found, Task) and matching:
                try:
                    found, out.matches[name], names_of = matched(found, target, closed)
                    # For whatever it is asked from here on.
                    wrapped[name].set_params(label_names=names_of)
                except LabelMismatchError as error:
                    if on_error == "raise":
                        raise
                    found = error
            if not isinstance(found, Task):
                failed.append(found)
                out.errors[name] = str(found)
                continue
            if share := _abstained(found, len(texts)):
                out.abstained[name] = share
            if name not in known and not matching:
                refuse_many_labels(found, target.targets)
                found = answers_as_labels(found, target.targets)
                check_label_spaces(
                    {name: _names(found)},
                    names,
                    complete=False,
                    propose=partial(_proposal_of, found, target, closed, wrapped),
                )
            if set(_names(found)) - set(names) and _unnamed(wrapped, [name]):
                out.partly.append(found)
            if name not in known or len(found.targets.names) == 1:
                found = found.with_classes(target.targets.classes.tolist())
            out.wrapped[name] = wrapped[name]
            out.tasks.append(found)
    if not out.tasks:
        raise failed[0]
    if failed:
        warnings.warn(
            f"{len(failed)} of {len(wrapped)} models failed and have the score NaN, as "
            f"{failed[0]}",
            ModelLabelWarning,
            stacklevel=find_stack_level(),
        )
    return out


def _unnamed(wrapped: dict[str, MTEWrapper], names: list[str]) -> list[str]:
    """Names of models whose labels nobody has named yet, so that they can be."""
    return [name for name in names if wrapped[name].label_names is None]


def _proposal_of(
    task: Task,
    target: Task,
    closed: MomentEmbedder,
    wrapped: dict[str, MTEWrapper],
    names: list[str],
) -> str:
    """Propose names for the labels of a model, if it is to be named."""
    return proposal([task] if _unnamed(wrapped, names) else [], target, closed)


def answers_of_models(
    wrapped: dict[str, MTEWrapper],
    texts: Any,
    n_jobs: int | None,
    on_error: str,
    callbacks: Sequence[Any],
) -> Generator[tuple[str, Task | Exception]]:
    """Labelled texts of each model, or the error, in their order."""
    config, stop = get_config(), threading.Event()

    def label(wrapper: MTEWrapper) -> Task | ModelLabelError:
        # Settings belong to a thread.
        with config_context(**config), stopped_by(stop):
            try:
                return wrapper.label(texts)
            except ModelLabelError as error:
                if on_error == "raise":
                    raise
                return error

    workers = joblib.effective_n_jobs(n_jobs)
    reporter = _Progress().set_callbacks(*callbacks)
    with (
        # Ends the callbacks' threads, as fit methods do.
        callback_management_context(reporter),
        ThreadPoolExecutor(workers) as pool,
        nested_progress(reporter, len(wrapped), "models") as group,
    ):
        run = map if workers == 1 else pool.map
        try:
            found = run(label, wrapped.values())
            for name, one in zip(wrapped, found, strict=True):
                with group(0):
                    yield name, one
        except BaseException:  # an interrupt, an error, or nobody wants the others
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _differ(task: Task, names: tuple[str, ...]) -> bool:
    """Whether a model's labels are others than the target's names.

    Numbers say nothing, and may mean something else even where they are the same.
    """
    if task.targets.kind != "label":
        return True
    found = _names(task)
    return not set(found) <= set(names) or all(map(NUMBER.fullmatch, found))


def _names(task: Task) -> list[str]:
    return [name for name in answered_names(task) if name != ABSTAINED]


def _abstained(task: Task, count: int) -> float:
    """Share of the texts without an answer, be they kept or left out."""
    targets = task.targets
    share = 0.0
    if targets.kind == "text":
        share = float(np.mean([text == ABSTAINED for text in targets.texts]))
    elif ABSTAINED in targets.names:
        share = float(targets.proba[:, targets.names.index(ABSTAINED)].mean())
    return 1 - (1 - share) * task.n_samples / count
