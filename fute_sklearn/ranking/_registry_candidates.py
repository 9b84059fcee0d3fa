"""The models of a registry that are ranked for a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from ..embedders._surrogate_embedder import SurrogateEmbedder
from ..exceptions import LabelMismatchError
from ..models._mte_wrapper import MTEWrapper
from ..tasks._label_spaces import nearly_equal
from ..tasks._task import Task
from ._label_proposals import proposal
from ._model_scores import closed_form_of
from ._registry_store import RegistryStore
from ._registry_vectors import RegistryVectors
from ._target_scorer import is_balanced

SHOWN = 5


class RegistryCandidates:
    """Choice of the models that can be compared for one target.

    Parameters are the registry's, and those of its ``rank``.
    """

    def __init__(
        self,
        store: RegistryStore,
        vectors: RegistryVectors,
        embedder: SurrogateEmbedder,
        target: Task,
        label_names: Mapping[str, Any] | str | None,
    ) -> None:
        self._store, self._vectors, self._embedder = store, vectors, embedder
        self._target, self._label_names = target, label_names
        self._named = set(label_names) if isinstance(label_names, Mapping) else set()
        self.left_out: list[str] = []
        self.files = self._fitting()

    def best(
        self,
        top: int,
        scoring: Any,
        class_weight: str | None,
        asked: Sequence[Any],
        all_drop: bool,
    ) -> list[str]:
        """Names of the best models, and of those that are compared in any case.

        ``asked`` have answers to labelled rows; with ``all_drop``, all models'
        abstentions are left out.
        """
        names = list(self.files)
        if len(names) <= top:
            return names
        if self._label_names == "match":
            raise ValueError(
                f"label_names='match' compares every model's labels, {len(names)} "
                f"here; raise top={top} to that, or name the models in a dict."
            )
        balanced = is_balanced(class_weight, scoring, self._target)
        scores = self._vectors.scores(
            list(self.files.values()), self._target, scoring, balanced
        )
        scores[np.isnan(scores)] = -np.inf
        wanted = self._named | set(map(str, asked))
        forced = np.array([name in wanted for name in names])
        scores[forced] = np.inf
        order = np.argsort(-scores, kind="stable")[: max(top, int(forced.sum()))]
        chosen = {names[i] for i in order} | self._dropping(all_drop)
        return [name for name in names if name in chosen]

    def wrappers(self, names: Sequence[str]) -> dict[str, MTEWrapper]:
        """Kept answers of models; what cannot be read is left out."""
        found = {}
        for name in names:
            try:
                wrapper = self._store.answers(name, self.files[name]).wrapper(name)
                if self._store.entry(self.files[name]).drops:
                    wrapper.set_params(abstentions="drop")
                found[name] = wrapper
            except KeyError:  # damaged, as a warning said, or removed just now
                self.left_out.append(name)
        if not found:
            raise ValueError("no model of the registry is left; add models first.")
        return found

    def _dropping(self, all_drop: bool) -> set[str]:
        """Names of models whose abstentions are left out of rankings.

        Closed-form scores count these as wrong, and say nothing of such models.
        """
        entries = {name: self._store.entry(file) for name, file in self.files.items()}
        return {
            name
            for name, one in entries.items()
            if one.abstained and (all_drop or one.drops)
        }

    def _fitting(self) -> dict[str, str]:
        """Files of the models that share labels with the target."""
        names = set(self._target.targets.names)
        current = self._store.latest()
        if not current:
            raise ValueError("the registry is empty; add models first.")
        fits: dict[tuple[str, ...], bool] = {}
        out = {}
        for name, file in current.items():
            labels = self._store.label_names(file)
            if labels not in fits:
                near = nearly_equal(labels, self._target.targets.names)
                fits[labels] = bool(names & set(labels)) or bool(near)
            if self._label_names == "match" or name in self._named or fits[labels]:
                out[name] = file
            else:
                self.left_out.append(name)
        if not out:
            shown = [list(labels) for labels in list(fits)[:SHOWN]]
            raise LabelMismatchError(
                f"no model shares a label with the target, {sorted(names)}; theirs are "
                f"{shown}. Say what they are called there: "
                "label_names={'<model>': {...}}, or label_names='match'."
                f"{self._proposal(self.left_out[:SHOWN])}"
            )
        return out

    def _proposal(self, names: Sequence[str]) -> str:
        """Say what labels of models are called in the target, if behaviour tells."""
        tasks = []
        for name in names:
            # Removed by another process just now, or without an answer.
            with suppress(KeyError, ValueError):
                answers = self._store.answers(name)
                tasks.append(answers.task(name, self._store.texts))
        return proposal(tasks, self._target, closed_form_of(self._embedder))
