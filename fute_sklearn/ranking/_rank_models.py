"""Rank fitted models for a labelled task in one call."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import rankdata
from sklearn.base import clone

from .._utils._columns import has
from .._utils._stack_level import find_stack_level
from ..embedders._base_embedder import seed_of
from ..embedders._moment_embedder import (
    MomentEmbedder,
    balanced_weights,
    warn_if_unlike,
)
from ..embedders._student import Predictions
from ..embedders._surrogate_embedder import SurrogateEmbedder
from ..embedders._tupate_embedder import TuPaTEEmbedder
from ..models._mte_wrapper import MTEWrapper
from ..tasks._label_spaces import (
    answered_names,
    answers_as_labels,
    check_label_spaces,
)
from ..tasks._task import Task
from ..tasks._validation import check_texts, label_name
from ._baselines import (
    ignorant_scores,
    labelled_scores,
    moment_scores,
    prior_distance,
)
from ._model_ranker import ModelRanker
from ._student_ranker import StudentRanker
from ._target_scorer import TargetScorer, scorer_of, weighs_classes_equally
from ._text_sufficiency import learning_curve, stability_of, warn_if_unstable

if TYPE_CHECKING:
    import pandas as pd

STUDENTS = ("auto", "both", "closed", "tuned")
BASELINES = ("closed", "tuned", "moment", "cosine", "prior", "random")
# Texts times epochs that low-rank tuning of the built-in surrogate does in a second, in
# a batch of models on two cores; a GPU does many times as much.
TUNED_TEXTS_PER_SECOND = 6500.0
GPU_FACTOR = 20.0
BUILT_IN_WEIGHTS = 17e6


def rank_models(
    models: Any,
    X: Any,
    y: Any = None,
    *,
    texts: Any,
    kind: str | None = None,
    classes: Any = None,
    label_names: Mapping[str, Mapping[Any, Any]] | None = None,
    embedder: SurrogateEmbedder | None = None,
    scoring: Any = "accuracy",
    students: str = "auto",
    quick: bool = False,
    max_seconds: float = 60.0,
    class_weight: str | None = "auto",
    baselines: Any = (),
    n_labelled: int = 0,
    callbacks: Sequence[Any] = (),
    random_state: Any = 0,
) -> pd.DataFrame:
    """Rank fitted models for a labelled task without running them on it.

    Every model labels the same unlabelled ``texts``.  Two students are fitted to each
    model's labels, a ridge regression in closed form and a surrogate tuned with
    low-rank products; a model's score is its expected score on the target, where it
    answers with the mean of its students' probabilities.

    Parameters
    ----------
    models : dict of str to model, or sequence of models
        Fitted models with ``predict``, or `MTEWrapper` objects; they are called on
        ``texts`` only.
    X : sequence of str of length n_samples, or Task
        Texts of the target task, or the task itself.
    y : sequence of length n_samples, optional
        Labels of the target task; None where X is a `Task`.
    texts : sequence of str
        Unlabelled texts, the same for all models: thousands, varied, and similar to
        the models' training texts, since random labels tell nothing about a model.
    kind : {"label"}, optional
        Pass ``"label"`` if y would be taken for numbers or free texts; see `Task`.
    classes : sequence, optional
        All labels that could occur in the target; by default those seen, or the
        categories of a categorical column.
    label_names : dict of str to dict, optional
        The target's labels by the model's labels, for each model's name, as
        ``{"svm": {"LABEL_0": "negative", "LABEL_1": "positive"}}``; see `MTEWrapper`.
    embedder : embedder, optional
        Makes the tuned students; ``TuPaTEEmbedder()`` by default.  The closed form
        uses the same surrogate.  With a `MomentEmbedder` there is the closed form only.
    scoring : str or callable, default="accuracy"
        Scorer by which the models are ranked; see `StudentRanker`.
    students : {"auto", "both", "closed", "tuned"}, default="auto"
        Which students to fit.  ``"auto"`` fits both where the tuned ones are forecast
        to be ready in ``max_seconds``, and else the closed form alone, which costs
        milliseconds a model beyond the encoder's pass over the texts.
    quick : bool, default=False
        With ``students="auto"``: never tune.
    max_seconds : float, default=60.0
        Forecast time limit of the tuned students, for ``students="auto"``.  The
        forecast depends on the numbers of models, texts, epochs and weights, not on a
        measured time, so that the same call fits the same students everywhere.
    class_weight : {"auto", "balanced"} or None, default="auto"
        Weights of the target's rows in the moment embedding and in the choice of the
        ridge penalty: ``"balanced"`` gives all classes the same weight; ``"auto"`` does
        so where the scorer does, which is found by asking it.
    baselines : sequence of str, or "all", default=()
        Other rankings to add: ``"closed"`` and ``"tuned"`` (either student alone),
        ``"moment"`` (dot product of moment embeddings), ``"cosine"`` (of the embeddings
        by ``embedder``), ``"prior"`` (minus the distance between the model's and the
        task's label shares, which looks at no text) and ``"random"`` (the expected
        rank).
    n_labelled : int, default=0
        Where positive, the models are also called on this many rows of the target and
        ranked by their true score there: a baseline that needs calls of every model.
    callbacks : sequence of callbacks, default=()
        Callbacks of scikit-learn that report the fits of the students, such as
        ``sklearn.callback.ProgressBar()``.
    random_state : int, RandomState instance or None, default=0
        Seed for drawing the ``n_labelled`` rows.

    Returns
    -------
    table : DataFrame (n_models, ...)
        Indexed by model, best first, with ``score`` (the expected score on X, y, in
        the scorer's unit) and ``rank``; for each baseline ``<name>_score`` and
        ``<name>_rank``.  ``table.attrs`` holds the settings and

        - ``students``: those that were taken, and ``forecast_seconds`` of the tuned;
        - ``majority_score``, ``prior_score``: what always answering the most common
          class, or answering by the classes' shares, would reach;
        - ``worth_taking``: whether the best model is expected to beat both.  Students
          are less sure than their models, so that expected scores lie below true ones:
          True is to be trusted more than False;
        - ``learning_curve``: by number of unlabelled texts, the rank correlation
          between the closed-form rankings by two halves of them;
        - ``stability``: the correlation expected between this ranking and one by as
          many other unlabelled texts;
        - ``text_distance``: mean leverage of the target's texts over that of the
          unlabelled ones; 1 where they are alike, NaN with too few of these.

    Raises
    ------
    ModelLabelError
        If a model fails on the texts; what was labelled before is kept.
    LabelMismatchError
        If a model shares no label with the target, has a label that differs from the
        target's in case, spaces or Unicode form only, or answers with numbers.  Models
        with ``classes_`` are compared before any model is called.
    ValueError
        If the task has other targets than classes, or there are no models.
    TypeError
        If a single model is given instead of several.

    Warns
    -----
    LabelMismatchWarning
        If a model has labels that the target does not know, or lacks some of its.
    UnlabelledTextsWarning
        If the unlabelled texts are too few to settle the order, or unlike the target's.
    UnknownTokensWarning
        If the surrogate cannot read some of the texts; ``table.attrs`` has the shares.
    UserWarning
        If a column cannot be computed for these models; it then holds NaN.

    Examples
    --------
    >>> from fute_sklearn import TuPaTEEmbedder, rank_models
    >>> class Rule:
    ...     def __init__(self, word): self.word = word
    ...     def predict(self, X):
    ...         return ["good" if self.word in x else "bad" for x in X]
    >>> texts = ["a fine film", "a dull film", "fine food", "dull and grey"]
    >>> table = rank_models(
    ...     {"fine": Rule("fine"), "dull": Rule("dull")},
    ...     ["fine wine", "a dull day"], ["good", "bad"], texts=texts,
    ...     embedder=TuPaTEEmbedder("fute-tiny-random", max_epochs=1))
    >>> sorted(table.index)
    ['dull', 'fine']
    """
    target = _checked_target(X, y, kind, classes)
    wanted = _checked_baselines(baselines)
    _check_settings(students, max_seconds, class_weight, n_labelled, scoring)
    texts = check_texts(texts, "texts")
    wrapped = _wrap(models, label_names)
    labelled = _label(wrapped, texts, target)
    embedder = TuPaTEEmbedder() if embedder is None else clone(embedder)
    if hasattr(embedder, "random_state"):
        # One space for models and target, also where every fit would draw a new one.
        embedder.random_state = seed_of(embedder.random_state)
    plan = _plan(embedder, len(labelled), len(texts), students, quick, max_seconds)
    balanced = class_weight == "balanced" or (
        class_weight == "auto"
        and weighs_classes_equally(scoring, target.targets.classes)
    )
    work = _Ranking(list(wrapped), labelled, target, scoring, plan, balanced, callbacks)
    scores = {"": work.scores(plan.taken)}
    scores |= {name: work.baseline(name) for name in wanted if name != "random"}
    if n_labelled:
        scores["labelled"] = _or_nan(
            lambda: labelled_scores(wrapped, target, n_labelled, scoring, random_state),
            "labelled",
            len(wrapped),
        )
    table = _table(scores, list(wrapped), "random" in wanted)
    table.attrs = {
        "surrogate": str(embedder.surrogate),
        "embedder": repr(embedder),
        "scoring": str(scoring),
        "students": plan.taken,
        "forecast_seconds": plan.seconds,
        "class_weight": "balanced" if balanced else None,
        "n_texts": len(texts),
        "n_samples": target.n_samples,
        "n_labelled": n_labelled,
        "unreadable_texts": embedder.unreadable_share(texts),
        "unreadable_samples": embedder.unreadable_share(target.texts),
        **work.facts(),
    }
    best = table["score"].max()
    known = [table.attrs["majority_score"], table.attrs["prior_score"]]
    table.attrs["worth_taking"] = bool(best > np.nanmax([*known, -np.inf]))
    warn_if_unstable(table.attrs["stability"], len(texts))
    return table


@dataclass(frozen=True)
class _Plan:
    """Which students are made, by which embedders, and how long that may take."""

    taken: str
    closed: MomentEmbedder
    tuned: SurrogateEmbedder | None
    seconds: float


def _plan(
    embedder: SurrogateEmbedder,
    n_models: int,
    n_texts: int,
    students: str,
    quick: bool,
    max_seconds: float,
) -> _Plan:
    if isinstance(embedder, MomentEmbedder):
        if students in ("both", "tuned"):
            raise ValueError(
                f"students={students!r}, but embedder is a MomentEmbedder, which tunes "
                "nothing; give a TuPaTEEmbedder, or students='closed'."
            )
        return _Plan("closed", embedder, None, 0.0)
    closed = MomentEmbedder(
        embedder.surrogate,
        max_length=embedder.max_length,
        device=embedder.device,
        dtype=embedder.dtype,
    )
    surrogate = embedder.load_surrogate()
    rate = TUNED_TEXTS_PER_SECOND * BUILT_IN_WEIGHTS / surrogate.n_weights
    rate *= 1.0 if surrogate.device.type == "cpu" else GPU_FACTOR
    epochs = getattr(embedder, "max_epochs", 1)
    seconds = n_models * n_texts * epochs / rate
    if students == "auto":
        fits = seconds <= max_seconds and not quick
        students = "both" if fits else "closed"
    return _Plan(students, closed, embedder, seconds)


class _Ranking:
    """Students of the models, made when they are first needed, and their scores."""

    def __init__(
        self,
        names: list[str],
        labelled: list[Task],
        target: Task,
        scoring: Any,
        plan: _Plan,
        balanced: bool,
        callbacks: Sequence[Any],
    ) -> None:
        self.names = names
        self.labelled = labelled
        self.target = target
        self.scorer = TargetScorer(target, scoring)
        self.plan = plan
        self.balanced = balanced
        self.callbacks = callbacks
        self._rankers: dict[str, StudentRanker] = {}
        self._found: dict[str, list[Predictions]] = {}

    def _ranker(self, which: str) -> StudentRanker:
        if which not in self._rankers:
            embedder = self.plan.closed if which == "closed" else self.plan.tuned
            if embedder is None:
                raise ValueError("a MomentEmbedder tunes no students")
            ranker = StudentRanker(embedder, scoring=self.scorer.scoring)
            ranker.set_callbacks(*self.callbacks)
            self._rankers[which] = ranker.fit(self.labelled, names=self.names)
        return self._rankers[which]

    def _predictions(self, which: str) -> list[Predictions]:
        if which not in self._found:
            weights = self.weights()
            found = self._ranker(which).predictions(self.target, weights)
            self._found[which] = list(found)
        return self._found[which]

    def weights(self) -> np.ndarray:
        """Weights of the target's rows."""
        if self.balanced:
            return balanced_weights(self.target.targets)
        return np.full(self.target.n_samples, 1 / self.target.n_samples)

    def scores(self, which: str) -> np.ndarray:
        """Expected scores by ``"both"`` students, or one of them."""
        column = "score" if which == self.plan.taken else which
        if which == "both":
            pairs = zip(
                self._predictions("closed"), self._predictions("tuned"), strict=True
            )
            found = [mixed(a, b) for a, b in pairs]
        else:
            found = self._predictions(which)
        out, reason = np.full(len(found), np.nan), ""
        for i, one in enumerate(found):
            try:
                out[i] = self.scorer.score(one)
            except Exception as error:  # a scorer may be anybody's
                reason = reason or f"{type(error).__name__}: {error}"
        return _or_nan(lambda: (out, reason), column, len(found))

    def baseline(self, name: str) -> np.ndarray:
        """Scores by another ranking."""
        if name == "prior":
            return np.array([-prior_distance(t, self.target) for t in self.labelled])
        if name in ("closed", "tuned") and (self.plan.tuned or name == "closed"):
            return self.scores(name)
        compute = {"moment": self._moment, "cosine": self._cosine}.get(
            name, lambda: self._ranker(name)
        )
        return _or_nan(lambda: (compute(), ""), name, len(self.names))

    def _moment(self) -> np.ndarray:
        moment = clone(self.plan.closed)
        return moment_scores(moment, self.labelled, self.target, self.balanced)

    def _cosine(self) -> np.ndarray:
        students = self._ranker("tuned" if self.plan.tuned else "closed")
        own = students.embedder_.embed([self.target])[0]
        ranker = ModelRanker().fit(students.embeddings_, names=self.names)
        return ranker.decision_function([own.embedding_])[0]

    def facts(self) -> dict[str, Any]:
        """What the target is worth without a model, and whether the texts suffice."""
        out: dict[str, Any] = ignorant_scores(self.scorer)
        closed = self.plan.closed
        encoded = closed.encode(self.target.texts)
        shared = [t for t in self.labelled if t.text_key == self.labelled[0].text_key]
        unlabelled = closed.encode(shared[0].texts)
        out["learning_curve"] = curve = learning_curve(
            unlabelled, shared, encoded, self.scorer, self.weights(), closed.alpha
        )
        out["stability"] = stability_of(curve)
        learnt = clone(closed)
        learnt.learn_space(shared)
        out["text_distance"] = warn_if_unlike(
            learnt.feature_space(), encoded.pooled(), "the target"
        )
        return out


def mixed(first: Predictions, second: Predictions) -> Predictions:
    """Mean of the probabilities that two students of one model give."""
    columns = [second.names.index(name) for name in first.names]
    values = np.logaddexp(first.values, second.values[:, columns]) - np.log(2)
    return Predictions("label", first.names, values)


def _checked_baselines(baselines: Any) -> tuple[str, ...]:
    wanted = BASELINES if baselines == "all" else baselines
    wanted = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    if strange := [name for name in wanted if name not in BASELINES]:
        raise ValueError(
            f"baselines holds {strange}, expected some of {BASELINES} or 'all'."
        )
    return wanted


def _checked_target(X: Any, y: Any, kind: str | None, classes: Any) -> Task:
    if isinstance(X, Task):
        if y is not None or kind is not None or classes is not None:
            raise ValueError(
                "X is a Task, which has its own targets, kind and classes; give no y, "
                "kind and classes beside it."
            )
        target = X
    else:
        target = Task(X, y, name="target", kind=kind, classes=classes)
    if target.targets.kind != "label":
        raise ValueError(
            f"y holds targets of kind {target.targets.kind!r}, as far as can be told; "
            "rank_models ranks classifiers. If these are labels, say kind='label'; for "
            "numbers use StudentRanker with a regression scorer."
        )
    if len(target.targets.names) < 2:
        raise ValueError(
            f"y holds 1 class, {list(target.targets.names)}: all models that answer it "
            "would be perfect. Give rows of other classes too, or name them: "
            "classes=[...]."
        )
    return target


def _check_settings(
    students: str,
    max_seconds: Any,
    class_weight: str | None,
    n_labelled: Any,
    scoring: Any,
) -> None:
    if students not in STUDENTS:
        raise ValueError(f"students={students!r}, expected one of {STUDENTS}.")
    if class_weight not in ("auto", "balanced", None):
        raise ValueError(
            f"class_weight={class_weight!r}, expected 'auto', 'balanced' or None."
        )
    number = isinstance(max_seconds, Real) and not isinstance(max_seconds, bool)
    if not number or not max_seconds >= 0:
        raise ValueError(f"max_seconds={max_seconds!r}, expected 0 or more.")
    whole = isinstance(n_labelled, Integral) and not isinstance(n_labelled, bool)
    if not whole or n_labelled < 0:
        raise ValueError(f"n_labelled={n_labelled!r}, expected 0 or a positive int.")
    scorer_of(scoring)  # a wrong name is refused before the work


def _label(
    wrapped: dict[str, MTEWrapper], texts: list[str], target: Task
) -> list[Task]:
    """Label the texts by all models, in the target's labels."""
    names = target.targets.names
    beforehand = {name: wrapper.known_labels() for name, wrapper in wrapped.items()}
    known = {n: [label_name(v) for v in c] for n, c in beforehand.items() if c}
    check_label_spaces(known, names)
    labelled = []
    for name, wrapper in wrapped.items():
        task = answers_as_labels(wrapper.label(texts), target.targets)
        if name not in known:
            check_label_spaces({name: answered_names(task)}, names, complete=False)
        if name not in known or len(task.targets.names) == 1:
            task = task.with_classes(target.targets.classes.tolist())
        labelled.append(task)
    return labelled


def _table(
    scores: dict[str, np.ndarray], names: list[str], random: bool
) -> pd.DataFrame:
    import pandas as pd

    columns: dict[str, Any] = {}
    for key, values in scores.items():
        prefix = f"{key}_" if key else ""
        columns[f"{prefix}score"] = values
        columns[f"{prefix}rank"] = rankdata(-values, nan_policy="omit")
    if random:
        columns["random_rank"] = (len(names) + 1) / 2
    table = pd.DataFrame(columns, index=pd.Index(names, name="model"))
    return table.sort_values("rank", kind="stable")


def _or_nan(
    compute: Callable[[], tuple[np.ndarray, str]], name: str, count: int
) -> np.ndarray:
    """Return NaN with a warning where a column cannot be computed."""
    try:
        values, reason = compute()
    except Exception as error:  # a scorer may be anybody's
        values, reason = np.full(count, np.nan), f"{type(error).__name__}: {error}"
    if np.isnan(values).any():
        warnings.warn(
            f"the column {name!r} cannot be computed for {np.isnan(values).sum()} of "
            f"{count} models ({reason or 'not defined'}); it holds NaN there",
            stacklevel=find_stack_level(),
        )
    return values


def _wrap(
    models: Any, label_names: Mapping[str, Mapping[Any, Any]] | None
) -> dict[str, MTEWrapper]:
    """Wrap the models under distinct names, with what their labels are called."""
    if hasattr(models, "predict"):
        raise TypeError(
            f"models is one {type(models).__name__}; expected several, as a dict by "
            "their names or a list: [model]."
        )
    named = isinstance(models, Mapping) or has(models, "items")  # a Series too
    pairs = list(models.items()) if named else [(None, model) for model in models]
    if not pairs:
        raise ValueError("there are no models to rank.")
    out: dict[str, MTEWrapper] = {}
    for name, model in pairs:
        wrapper = model if isinstance(model, MTEWrapper) else MTEWrapper(model)
        name = str(wrapper.model_name if name is None else name)
        count = sum(n == name or n.startswith(f"{name}-") for n in out)
        name = f"{name}-{count + 1}" if name in out else name
        out[name] = MTEWrapper(**{**wrapper.get_params(deep=False), "name": name})
    for key, renaming in dict(label_names or {}).items():
        name = str(key)
        if name not in out or not isinstance(renaming, Mapping):
            raise ValueError(
                f"label_names has the entry {name!r}: {renaming!r}; expected, by the "
                f"name of a model, a dict from its labels to the target's. The models "
                f"are {list(out)}."
            )
        if out[name].label_names is not None:
            raise ValueError(
                f"the wrapper of {name!r} has label_names of its own; give one of both."
            )
        out[name].set_params(label_names=renaming)
    return out
