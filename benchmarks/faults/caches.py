"""Every cache: how it is written, and how all of it is read."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fute_sklearn import (
    ModelRegistry,
    MTEWrapper,
    TaskVectors,
    config_context,
    load_embeddings,
    save_embeddings,
)
from fute_sklearn._engine import _encoder_cache
from fute_sklearn._engine._encoder_cache import EncoderCache
from fute_sklearn._utils._store import ArrayStore
from fute_sklearn.llm.clients._answer_store import AnswerStore

TEXTS = [f"a {word} film number {i}" for i in range(60) for word in ("fine", "dull")]


class Rule:
    """A model that takes its time."""

    fingerprint = "rule"

    def predict(self, X: list[str]) -> list[str]:
        """Label texts, some milliseconds each."""
        time.sleep(0.003 * len(X))
        return ["good" if "fine" in text else "bad" for text in X]


@dataclass(frozen=True)
class Cache:
    """Functions that write a cache into a folder, and that read all of it.

    What is missing is read as None; ``raises`` says that a named error is right.
    """

    write: Callable[[Path], None]
    read: Callable[[Path], list[Any]]
    raises: bool = False


STATES = {f"k{i}": np.arange(12.0).reshape(3, 4) + i for i in range(8)}


def read_states(folder: Path) -> list[Any]:
    """Read the encoder's cache as a new process does."""
    _encoder_cache._indexes.clear()  # noqa: SLF001
    cache = EncoderCache(folder)
    return [None if (a := cache.get(key)) is None else a.tolist() for key in STATES]


def read_labels(folder: Path) -> list[Any]:
    """Label texts, by what is kept or by the model."""
    with config_context(cache_dir=folder):
        return MTEWrapper(Rule()).label(TEXTS[:8]).y.tolist()


def write_answers(folder: Path) -> None:
    """Keep answers of a language model."""
    store = AnswerStore(folder)
    for i in range(8):
        store.put(f"k{i}", [i])
    store.close()


def read_answers(folder: Path) -> list[Any]:
    """Read them, and keep another one."""
    store = AnswerStore(folder)
    try:
        store.put("new", 1)
        return [*(store.get(f"k{i}") for i in range(8)), store.get("new")]
    finally:
        store.close()


def read_array(folder: Path) -> list[Any]:
    """Read an embedding that ``TaskVectorizer(memory=...)`` kept."""
    found = ArrayStore(folder).get("a")
    return [None if found is None else found.tolist()]


def write_embeddings(folder: Path) -> None:
    """Save embeddings."""
    folder.mkdir(exist_ok=True)
    save_embeddings(folder / "zoo", TaskVectors(np.eye(3), "space"), list("abc"))


def read_embeddings(folder: Path) -> list[Any]:
    """Load them."""
    vectors, names = load_embeddings(folder / "zoo")
    return [vectors.tolist(), names, vectors.fingerprint]


def write_registry(folder: Path) -> None:
    """Add three models to a registry."""
    registry = ModelRegistry(folder, TEXTS[:12])
    for name in "abc":
        registry.add(name, Rule())


def read_registry(folder: Path) -> list[Any]:
    """Read the models of a registry."""
    registry, found = ModelRegistry(folder), []
    for name in "abc":
        try:
            found.append(registry.task(name).y.tolist())
        except KeyError:  # set aside, with a warning
            found.append(None)
    return found


CACHES = {
    "encoder": Cache(lambda folder: EncoderCache(folder).put(STATES), read_states),
    "predictions": Cache(
        lambda folder: None if read_labels(folder) else None, read_labels
    ),
    "answers": Cache(write_answers, read_answers),
    "arrays": Cache(lambda f: ArrayStore(f).put("a", np.arange(8.0)), read_array),
    "embeddings": Cache(write_embeddings, read_embeddings, raises=True),
    "registry": Cache(write_registry, read_registry, raises=True),
}
