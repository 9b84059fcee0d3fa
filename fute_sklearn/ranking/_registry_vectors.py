"""Scores and embeddings of a registry's models from the moments of their answers."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..embedders._moment_embedder import balanced_weights
from ..embedders._surrogate_embedder import SurrogateEmbedder
from ..models._answer_reading import ABSTAINED
from ..tasks._task import Task
from ._model_scores import closed_form_of
from ._moment_index import MomentIndex
from ._registry_store import RegistryStore
from ._target_scorer import TargetScorer

INDEX = "index"


class RegistryVectors:
    """What a registry computes for all its models at once."""

    def __init__(
        self, store: RegistryStore, folder: Path, embedder: SurrogateEmbedder
    ) -> None:
        self._store = store
        self._folder = folder / INDEX
        self._embedder = embedder
        self._index: MomentIndex | None = None
        self._lock = threading.Lock()

    def _moments(self, files: Sequence[str]) -> MomentIndex:
        """Return the index, with the moments of some models."""
        with self._lock:
            if self._index is None:
                closed = closed_form_of(self._embedder)
                closed.set_params(reference=list(self._store.texts))
                self._index = MomentIndex(self._folder, closed, self._store.texts)
            self._index.update(files, self._store.find)
            return self._index

    def scores(
        self, files: Sequence[str], target: Task, scoring: Any, balanced: bool
    ) -> np.ndarray:
        """Expected scores of models' closed-form students (n_files,)."""
        weights = np.full(target.n_samples, 1 / target.n_samples)
        if balanced:
            weights = balanced_weights(target.targets)
        scorer = TargetScorer(target, scoring)
        return self._moments(files).scores(files, scorer, weights)

    def embeddings(self, file: str) -> tuple[list[str], np.ndarray]:
        """Embeddings of all models that have a model's labels, in these alone.

        Returns their names too.
        """
        wanted = self._store.label_names(file)
        files = {
            name: other
            for name, other in self._store.latest().items()
            if set(wanted) <= set(self._store.label_names(other))
        }
        found = self._moments(list(files.values())).embeddings(list(files.values()))
        names, rows = [], []
        for name, other in files.items():
            if other in found:
                labels = list(self._store.label_names(other))
                if self._store.entry(other).abstained:
                    labels.append(ABSTAINED)
                places = [sorted(labels).index(label) for label in wanted]
                names.append(name)
                rows.append(found[other][places].ravel())
        return names, np.array(rows)


def similarities(rows: np.ndarray, place: int) -> np.ndarray:
    """Cosines of rows with one of them (n,); 0 where a row is 0."""
    norms = np.linalg.norm(rows, axis=1)
    scale = norms * norms[place]
    products = rows @ rows[place]
    return np.divide(products, scale, out=np.zeros(len(rows)), where=scale > 0)
