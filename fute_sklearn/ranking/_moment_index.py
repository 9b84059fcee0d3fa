"""Closed-form students of a registry's models, as moments on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from .._utils._store import text_key
from ..embedders._moment_embedder import MomentEmbedder
from ..embedders._moment_state import (
    DEFAULT_ALPHA,
    LEAST_PROBABILITY,
    MomentState,
    fitted_to_target,
)
from ..embedders._normal_equations import RidgeSolution, TargetSums
from ..embedders._student import Predictions
from ._registry_answers import RegistryAnswers
from ._segments import Segment, Segments
from ._target_scorer import LinearLoss, TargetScorer

MODELS_AT_ONCE = 256
MOST_STATES = 64  # models whose errors choose the penalty


class MomentIndex:
    """Moments of the models' answers with the texts' features, one block a label set.

    A model has a row for each label: the moments (d,) of its margin with the
    standardised features, its mean, and the residuals' covariance with the others'.

    Parameters
    ----------
    folder : path
        Folder for the moments of all spaces.
    embedder : MomentEmbedder
        Its ``reference`` is the registry's texts.
    texts : sequence of str
        The registry's texts.
    """

    def __init__(
        self, folder: Path, embedder: MomentEmbedder, texts: Sequence[str]
    ) -> None:
        self.space = embedder.feature_space()
        surrogate = embedder.load_surrogate()
        self._texts = texts
        self._embedder = embedder
        name = text_key(
            surrogate.fingerprint,
            self.space.name,
            str(embedder.max_length),
            embedder.dtype,
        )
        self._segments = Segments(folder / name[:16])
        self._blocks: list[Segment] = []
        self._place: dict[str, tuple[int, int]] = {}

    @property
    def width(self) -> int:
        """Number of features."""
        return len(self.space.mean)

    def update(
        self,
        files: Sequence[str],
        read: Callable[[str], RegistryAnswers | None],
    ) -> None:
        """Compute the moments of those models that have none yet."""
        if all(name in self._place for name in files):
            return
        for segment in self._segments.new():
            self._take(segment)
        todo = [name for name in files if name not in self._place]
        for start in range(0, len(todo), MODELS_AT_ONCE):
            found: dict[tuple[str, ...], dict[str, np.ndarray]] = {}
            for name in todo[start : start + MODELS_AT_ONCE]:
                answers = read(name)
                if answers is not None:
                    found.setdefault(answers.names, {})[name] = answers.proba()
            for names, answered in found.items():
                array = self._moments(list(answered.values()))
                segment = Segment(list(names), list(answered), array)
                self._segments.add(segment)
                self._take(segment)

    def _take(self, segment: Segment) -> None:
        place = len(self._blocks)
        self._blocks.append(segment)
        self._place |= {name: (place, i) for i, name in enumerate(segment.rows)}

    def _moments(self, answered: Sequence[np.ndarray]) -> np.ndarray:
        features = self._embedder.encode(self._texts).pooled()
        out = []
        for sums in TargetSums.of(features, [2.0 * p - 1.0 for p in answered]):
            solution = RidgeSolution.of(self.space, sums)
            cross = (self.space.axes @ solution.cross).T
            rows = np.hstack([cross, solution.intercept[:, None], solution.noise])
            out.append(rows.astype(np.float32))
        return np.stack(out)

    def blocks(
        self, files: Sequence[str]
    ) -> Iterator[tuple[tuple[str, ...], list[int], np.ndarray]]:
        """Moments of models, block by block, with their positions in ``files``."""
        wanted: dict[int, tuple[list[int], list[int]]] = {}
        for i, name in enumerate(files):
            if name in self._place:
                place, row = self._place[name]
                positions, rows = wanted.setdefault(place, ([], []))
                positions.append(i)
                rows.append(row)
        for place, (positions, rows) in wanted.items():
            segment = self._blocks[place]
            assert segment.array is not None
            for start in range(0, len(rows), MODELS_AT_ONCE):
                some = rows[start : start + MODELS_AT_ONCE]
                # A slice, where there is one, copies nothing.
                whole = some == list(range(some[0], some[-1] + 1))
                part = segment.array[slice(some[0], some[-1] + 1) if whole else some]
                names = tuple(segment.kind)
                yield names, positions[start : start + MODELS_AT_ONCE], part

    def embeddings(self, files: Sequence[str]) -> Mapping[str, np.ndarray]:
        """Moment embeddings (n_labels, d + 1) of models, as `MomentEmbedder` has them.

        The reference is the registry's texts.
        """
        scale = np.sqrt(self.space.values + DEFAULT_ALPHA)
        whiten = (self.space.axes / scale) @ self.space.axes.T
        out = {}
        for _, positions, part in self.blocks(files):
            rows = np.asarray(part, dtype=np.float64)
            rows = np.concatenate(
                [rows[..., : self.width] @ whiten, rows[..., self.width, None]], axis=2
            )
            out.update({files[i]: row for i, row in zip(positions, rows, strict=True)})
        return out

    def scores(
        self, files: Sequence[str], scorer: TargetScorer, weights: np.ndarray
    ) -> np.ndarray:
        """Expected scores of the models' students on a target (n_models,).

        ``weights`` (n_samples,) of the target's rows choose the penalty.
        """
        encoded = self._embedder.encode(scorer.task.texts)
        alpha = self._alpha(files, scorer, weights)
        coordinates = self.space.coordinates(encoded.pooled())
        solved = (coordinates / (self.space.values + alpha)) @ self.space.axes.T
        # Half the margin, from the moments and the intercept at once.
        half = np.hstack([solved, np.ones((len(solved), 1))]).astype(np.float32)
        half *= 0.5
        linear = scorer.linear_loss()
        rows = None if linear is None else LinearRows.of(scorer, linear, half)
        out = np.full(len(files), np.nan)
        for names, positions, part in self.blocks(files):
            part = part[..., : self.width + 1]
            if rows is not None:
                out[positions] = rows.scores(names, part)
                continue
            share = _shares(part, half)
            total = share.sum(1, keepdims=True)
            for position, one in zip(positions, share / total, strict=True):
                try:
                    student = Predictions("label", names, np.log(one.T))
                    out[position] = scorer.score(student)
                except Exception:  # as in rank_models, which tells of it
                    out[position] = np.nan
        return out

    def _alpha(
        self, files: Sequence[str], scorer: TargetScorer, weights: np.ndarray
    ) -> float:
        step = max(len(files) // MOST_STATES, 1)
        states: list[MomentState] = []
        label_names = []
        for names, _, part in self.blocks(files[::step]):
            for row in np.asarray(part, dtype=np.float64):
                solution = RidgeSolution(
                    self.space,
                    self.space.count,
                    self.space.axes.T @ row[:, : self.width].T,
                    row[:, self.width],
                    np.zeros(self.width),
                    row[:, self.width + 1 :],
                )
                states.append(MomentState.of_alpha(solution, self._embedder.alpha))
                label_names.append(names)
        encoded = self._embedder.encode(scorer.task.texts)
        fitted = fitted_to_target(
            states, label_names, encoded, scorer.task.targets, weights
        )
        return fitted[0].alpha if fitted else DEFAULT_ALPHA


@dataclass(frozen=True, eq=False)
class LinearRows:
    """A target's rows, ordered by label, for scores that are linear in correct rows.

    ``perfect`` is the score if all rows are correct, ``losses`` (n,) what an error in
    each costs, ``half`` (n, d + 1) half the margins' coefficients, and ``groups`` where
    the rows of each label lie.
    """

    perfect: float
    losses: np.ndarray
    half: np.ndarray
    groups: dict[str, slice]

    @classmethod
    def of(cls, scorer: TargetScorer, linear: LinearLoss, half: np.ndarray) -> Self:
        """Order the rows, so that those of a label are taken without a copy."""
        truth = scorer.task.targets.label_names()
        order = np.argsort(truth, kind="stable")
        labels, starts = np.unique(truth[order], return_index=True)
        ends = [*starts[1:], len(order)]
        groups = {
            str(label): slice(start, end)
            for label, start, end in zip(labels, starts, ends, strict=True)
        }
        losses = linear.losses[order].astype(np.float32)
        return cls(linear.perfect, losses, half[order], groups)

    def scores(self, names: tuple[str, ...], part: np.ndarray) -> np.ndarray:
        """Score models by their moments (n_models, n_labels, d + 1)."""
        out = np.full(len(part), self.perfect - float(self.losses.sum()))
        if len(names) == 2:
            # Margins of two labels are each other's negatives, so that shares that are
            # cut off on both sides sum to one, but for a millionth.
            signed = [
                (sign, self.groups[name])
                for sign, name in zip((1.0, -1.0), names, strict=True)
                if name in self.groups
            ]
            if not signed:
                return out
            half = np.concatenate([sign * self.half[own] for sign, own in signed])
            losses = np.concatenate([self.losses[own] for _, own in signed])
            return (
                out + _shares(part[:, :1], half, 1.0 - LEAST_PROBABILITY)[:, 0] @ losses
            )
        share = _shares(part, self.half)
        total = share.sum(1)
        for place, name in enumerate(names):
            if name in self.groups:
                own = self.groups[name]
                out += (share[:, place, own] / total[:, own]) @ self.losses[own]
        return out


def _shares(part: np.ndarray, half: np.ndarray, most: float = 1.0) -> np.ndarray:
    """Probabilities before they are scaled to sum to one (n_models, n_labels, n)."""
    share = part.reshape(-1, part.shape[2]) @ half.T
    share += np.float32(0.5)
    np.clip(share, LEAST_PROBABILITY, most, out=share)
    return share.reshape(*part.shape[:2], -1)
