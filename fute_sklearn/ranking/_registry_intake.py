"""How models and their answers come into a registry."""

from __future__ import annotations

import json
import time
import warnings
from datetime import UTC, datetime
from typing import Any

from .._utils._stack_level import find_stack_level
from ..exceptions import ModelLabelError, ModelLabelWarning
from ..models._mte_wrapper import MTEWrapper
from ._registry_answers import RegistryAnswers
from ._registry_files import Entry
from ._registry_store import RegistryStore

COLUMNS = ("version", "labels", "abstained", "created", "seconds", "fingerprint")


def add_model(
    store: RegistryStore,
    name: str,
    model: Any,
    may_change: bool,
    metadata: dict[str, Any],
) -> None:
    """Have a model label a registry's texts, or those that it left out before."""
    metadata = _checked_metadata(metadata)
    wrapper = wrapped(model, name)
    identity = wrapper.identity()
    if identity and store.holds(name, identity, may_change, metadata):
        _ask_again(store, name, identity, wrapper)
        return
    start = time.monotonic()
    task = wrapper.label(list(store.texts))
    answers = RegistryAnswers.of(task, store.texts)
    entry = Entry(
        name,
        identity or answers.key,
        [*answers.labels],
        float(answers.abstained.mean()),
        datetime.now(UTC).isoformat(timespec="seconds"),
        round(time.monotonic() - start, 3),
        metadata=metadata,
        drops=_drops(model),
    )
    store.write(entry, answers, may_change)


def _ask_again(
    store: RegistryStore, name: str, identity: str, wrapper: MTEWrapper
) -> None:
    """Ask a model for texts that it left out, if it may answer them now."""
    if not _may_answer_more(wrapper):
        return
    rows = store.left_out(name, identity)
    if not len(rows):
        return
    texts = tuple(store.texts[i] for i in rows)
    # Of a few answers it could not be told that they are labels.
    wrapper = MTEWrapper(**{**wrapper.get_params(deep=False), "kind": "label"})
    try:
        found = RegistryAnswers.of(wrapper.label(list(texts)), texts)
    except ModelLabelError as error:
        warnings.warn(
            f"{len(texts)} texts that the model {name!r} left out are still "
            f"without an answer: {error}",
            ModelLabelWarning,
            stacklevel=find_stack_level(),
        )
    else:
        store.fill(name, identity, rows, found)


def wrapped(model: Any, name: str) -> MTEWrapper:
    """Wrap a model; its abstentions are kept, or raise if its wrapper says so."""
    wrapper = model if isinstance(model, MTEWrapper) else MTEWrapper(model)
    params = {**wrapper.get_params(deep=False), "name": name}
    if params["abstentions"] != "raise":  # rankings say what becomes of them
        params["abstentions"] = "keep"
    return MTEWrapper(**params)


def _may_answer_more(wrapper: MTEWrapper) -> bool:
    """Return whether a model may answer texts that it left out before."""
    passing = bool(getattr(wrapper.estimator, "failures_pass", False))
    return passing or wrapper.on_error == "drop"


def _drops(model: Any) -> bool:
    """Return whether a model's wrapper leaves out texts without an answer."""
    drops = (getattr(model, "abstentions", None), getattr(model, "on_error", None))
    return isinstance(model, MTEWrapper) and "drop" in drops


def check_name(name: Any) -> None:
    """Raise unless a name is a string that says something."""
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"the name {name!r} is no name; expected a string.")


def _checked_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return metadata as they will be read again."""
    if taken := sorted(set(COLUMNS) & set(metadata)):
        raise ValueError(
            f"the metadata {taken} would hide columns of list(); give them other names."
        )
    try:
        return json.loads(json.dumps(metadata, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"the metadata {sorted(metadata)} cannot be written as JSON ({error}); "
            "give strings, numbers, booleans, and lists and dicts of these."
        ) from error
