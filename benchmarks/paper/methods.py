"""Scores of the candidates for every target by every method of Tables 1 and 2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from configs import Config
from kept import NONE, Kept
from own import OwnVectors
from sets import LabelledSet

from fute_sklearn import (
    ModelRanker,
    MomentEmbedder,
    StudentRanker,
    Task,
    TaskEmbedder,
    TaskVectorizer,
    TextEmbedder,
    TuPaTEEmbedder,
)
from fute_sklearn.baselines import (
    curve_gradients,
    data_size,
    reciprocal_rank_fusion,
)
from fute_sklearn.ranking._baselines import prior_distance

Scores = dict[str, np.ndarray]  # (n_candidates, n_targets) by method
COUNTS = (10, 30, 60)
PAPER_NAMES = {"taskemb": "FUTE+TaskEmb", "tupate": "FUTE+TuPaTE"}


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosines of the rows of two matrices."""
    a = a / np.linalg.norm(a, axis=1, keepdims=True)
    return np.asarray(a @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T)


def fused(scores: np.ndarray) -> np.ndarray:
    """Mean reciprocal rank (n_candidates,) of several rankings of one backbone.

    Not the sum, in which a backbone of many parts is ahead of all with fewer.
    """
    return reciprocal_rank_fusion(scores) / len(scores)


def leep(proba: np.ndarray, y: np.ndarray) -> float:
    """Mean log-likelihood of labels given expected source labels (Nguyen et al. 2020).

    ``proba`` (n, n_source_labels) are the source labels' probabilities, ``y`` (n,) the
    target's labels.
    """
    goal = (np.asarray(y)[:, None] == np.unique(y)).astype(float)
    joint = goal.T @ proba
    given = joint / joint.sum(0)
    return float(np.log((proba @ given.T)[goal.astype(bool)]).mean())


def vectors(embedder: Any, tasks: Sequence[Task]) -> np.ndarray:
    """Embeddings of tasks, those over the same texts together."""
    out = TaskVectorizer(embedder).fit(list(tasks)).embeddings_
    return np.asarray(out, dtype=float)


def gain_matrix(
    candidates: Sequence[Kept], targets: Sequence[str], truth: str = "gains"
) -> np.ndarray:
    """Gains, or zero-shot accuracies (n_candidates, n_targets).

    NaN for the candidate's own source, and where there is none.
    """
    return np.array(
        [
            [
                np.nan if c.source == t else getattr(c, truth).get(t, np.nan)
                for t in targets
            ]
            for c in candidates
        ]
    )


def past_scores(
    candidates: Sequence[Kept], places: dict[str, np.ndarray], past: Sequence[str]
) -> Scores:
    """Static list and `ModelRanker`, from the gains on all past tasks but the target.

    A candidate was at home on its own source; its gain there counts as the mean of the
    others'.
    """
    names = [c.name for c in candidates]
    gains = pd.DataFrame(gain_matrix(candidates, past).T, index=past, columns=names)
    gains = gains.apply(lambda row: row.fillna(row.mean()), axis=1)
    static, similar = [], []
    for target, place in places.items():
        rest = [name for name in past if name != target]
        embedded = np.array([places[name] for name in rest])
        ranker = ModelRanker().fit(embedded, gains.loc[rest])
        static.append(ranker.static_scores_)
        similar.append(ranker.decision_function(place[None])[0])
    return {
        "static list": np.array(static).T,
        "past tasks (ModelRanker)": np.array(similar).T,
    }


class Methods:
    """Scores by every method, for one draw of the unlabelled texts and one seed."""

    def __init__(
        self,
        config: Config,
        candidates: Sequence[Kept],
        sets: dict[str, LabelledSet],
        texts: list[str],
        seed: int,
    ) -> None:
        self.config, self.candidates, self.sets = config, candidates, sets
        self.seed = seed
        order = np.random.default_rng(seed).permutation(len(texts))
        rows = order[: config.texts]
        self.labelled = [c.task(texts, rows) for c in candidates]
        self.targets = {name: one.known for name, one in sets.items()}

    def data(self) -> Scores:
        """Methods that see the sources' and targets' rows, or the training's losses."""
        sources = [self.sets[c.source].train for c in self.candidates]
        width = len(self.targets)
        out = {"DataSize": np.tile(data_size(sources)[:, None], width)}
        distinct = {task.name: task for task in sources}
        mean = TextEmbedder(self.config.surrogate)
        found = dict(zip(distinct, vectors(mean, list(distinct.values())), strict=True))
        out["TextEmb (surrogate)"] = cosines(
            np.array([found[task.name] for task in sources]),
            vectors(mean, list(self.targets.values())),
        )
        return out

    def curves(self) -> Scores:
        """CurveGrad, fused over the candidates of each backbone."""
        out = np.empty((len(self.candidates), len(self.targets)))
        for backbone in {c.backbone for c in self.candidates}:
            rows = [i for i, c in enumerate(self.candidates) if c.backbone == backbone]
            slopes = curve_gradients([self.candidates[i].losses for i in rows])
            out[rows] = fused(-slopes.T)[:, None]
        return {"CurveGrad": out}

    def own(self, kept: OwnVectors) -> Scores:
        """Methods on the candidates' own backbones; ranks are fused within each."""
        out = {}
        shape = (len(self.candidates), len(self.targets))
        for method in kept.methods:
            scores = np.full(shape, np.nan)
            for backbone in {c.backbone for c in self.candidates}:
                rows = [
                    i for i, c in enumerate(self.candidates) if c.backbone == backbone
                ]
                sources = [self.candidates[i].source for i in rows]
                for column, target in enumerate(self.targets):
                    parts = kept.similarities(method, backbone, sources, target)
                    if parts is not None:
                        scores[rows, column] = fused(parts)
            out[f"{method} (own backbone)"] = scores
        return out

    def _fute(self, method: str, what: str) -> Any:
        """Make the embedder of models, or of a kind of targets."""
        settings = self.config.fute[method, what]
        if method == "taskemb":
            return TaskEmbedder(**settings)
        return TuPaTEEmbedder(**settings, random_state=self.seed)

    def fute_targets(self, method: str) -> np.ndarray:
        """FUTE: embeddings of the targets; TaskEmb's are the same for all seeds."""
        found = [
            vectors(self._fute(method, one.kind), [one.known])
            for one in self.sets.values()
        ]
        return np.vstack(found)

    def embedded(self, taskemb: np.ndarray) -> Scores:
        """FUTE: cosines of models and data sets in the surrogate's space.

        ``taskemb`` are TaskEmb's embeddings of the targets.
        """
        out = {}
        for method, label in PAPER_NAMES.items():
            data = taskemb if method == "taskemb" else self.fute_targets(method)
            models = vectors(self._fute(method, "model"), self.labelled)
            out[label] = cosines(models, data)
            centred = models - models.mean(0), data - data.mean(0)
            out[f"{label}, centred"] = cosines(*centred)
        return out

    def closed(self) -> Scores:
        """The moment embedding with label texts, and what students tell of the labels.

        LEEP asks how likely a target's labels are, given which of its own labels a
        candidate's student expects; labels need not be the same.
        """
        embedder = MomentEmbedder(self.config.surrogate, target_encoding="text")
        both = vectors(embedder, [*self.labelled, *self.targets.values()])
        models, data = both[: len(self.labelled)], both[len(self.labelled) :]
        students = StudentRanker(MomentEmbedder(self.config.surrogate))
        found = students.fit(self.labelled).students_
        return {
            "moment embedding, label texts": cosines(models, data),
            "student's LEEP": np.array(
                [
                    [
                        leep(one.predict_proba(list(t.texts)), t.y)
                        for t in self.targets.values()
                    ]
                    for one in found
                ]
            ),
        }

    def places(self) -> dict[str, np.ndarray]:
        """Embeddings of the targets, for `ModelRanker` over past tasks."""
        embedder = MomentEmbedder(self.config.surrogate, target_encoding="text")
        found = vectors(embedder, list(self.targets.values()))
        return dict(zip(self.targets, found, strict=True))

    def same_labels(self) -> Scores:
        """Methods for candidates that have the target's labels; NaN for the others."""
        shape = (len(self.candidates), len(self.targets))
        out: Scores = {}
        kinds: dict[tuple[str, ...], list[int]] = {}
        for i, one in enumerate(self.candidates):
            kinds.setdefault(one.labels, []).append(i)
        for labels, rows in kinds.items():
            columns = [
                column
                for column, (name, one) in enumerate(self.sets.items())
                if one.labels == labels
                and any(self.candidates[i].source != name for i in rows)
            ]
            if columns:
                known = list(self.targets.values())
                targets = [
                    Task(list(t.texts), t.y, classes=list(labels), name=t.name)
                    for t in (known[column] for column in columns)
                ]
                found = self._alike([self.labelled[i] for i in rows], targets)
                for method, scores in found.items():
                    whole = out.setdefault(method, np.full(shape, np.nan))
                    whole[np.ix_(rows, columns)] = scores
        return out | self._labelled_rows()

    def _alike(self, models: list[Task], targets: list[Task]) -> Scores:
        """Scores (n_models, n_targets) of models and targets with the same labels."""
        surrogate, size = self.config.surrogate, len(models)
        both = vectors(MomentEmbedder(surrogate), [*models, *targets])
        tuned = StudentRanker(TuPaTEEmbedder(surrogate, random_state=self.seed))
        closed = StudentRanker(MomentEmbedder(surrogate))
        tuned.fit(models)
        goals = [tuned.embedder_.embed([t])[0].embedding_ for t in targets]
        known = np.asarray(tuned.embeddings_, dtype=float)
        return {
            "label prior": np.array(
                [[-prior_distance(m, target) for target in targets] for m in models]
            ),
            "moment embedding, dot": both[:size] @ both[size:].T,
            "function space, cosine": cosines(known, np.array(goals, dtype=float)),
            "expected score, closed form": closed.fit(models)
            .decision_function(targets)
            .T,
            "expected score, low-rank": tuned.decision_function(targets).T,
        }

    def _labelled_rows(self) -> Scores:
        """Share of a target's first labelled rows that a candidate answers rightly."""
        shape = (len(self.candidates), len(self.targets))
        out = {f"{n} labelled rows": np.full(shape, np.nan) for n in COUNTS}
        for i, one in enumerate(self.candidates):
            for column, name in enumerate(self.targets):
                right = one.known_right.get(name, [])
                for count in COUNTS:
                    if len(right) >= count:
                        share = np.mean(right[:count])
                        out[f"{count} labelled rows"][i, column] = share
        return out


def fine_tuned(candidates: Sequence[Kept]) -> list[Kept]:
    """Candidates that have a source; published backbones give no answers."""
    return [one for one in candidates if one.source != NONE]
