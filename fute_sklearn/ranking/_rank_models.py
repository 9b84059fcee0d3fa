"""The short way: models and a labelled task in, a table of rankings out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.metrics import get_scorer
from sklearn.utils import check_random_state

from .._utils._columns import has
from .._utils._stack_level import find_stack_level
from ..embedders._base_embedder import seed_of
from ..embedders._moment_embedder import MomentEmbedder
from ..embedders._student import Predictions
from ..embedders._surrogate_embedder import SurrogateEmbedder
from ..embedders._task_vectorizer import TaskVectorizer
from ..embedders._tupate_embedder import TuPaTEEmbedder
from ..exceptions import LabelMismatchWarning, ReferenceStatisticsError
from ..models._mte_wrapper import MTEWrapper
from ..tasks._label_spaces import (
    answered_names,
    answers_as_labels,
    check_label_spaces,
)
from ..tasks._task import Task
from ..tasks._validation import check_texts, first_seen, label_name
from ._model_ranker import ModelRanker
from ._student_ranker import LEAST_PROBABILITY, StudentRanker, score_predictions

if TYPE_CHECKING:
    import pandas as pd

EQUAL_CLASSES = ("balanced", "macro")
SORTS = ("moment", "student", "cosine", "prior", "labelled")


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
    sort_by: str = "student",
    n_labelled: int = 0,
    callbacks: Sequence[Any] = (),
    random_state: Any = 0,
) -> pd.DataFrame:
    """Rank fitted models for a labelled task without running them on it.

    Every model labels the same unlabelled ``texts``; a surrogate learns each model
    from that, and the task from its own rows.  Beside the rankings by the models'
    students and by the embeddings' cosine the table holds the baselines that a ranking
    has to beat.

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
        Unlabelled texts, the same for all models: hundreds to thousands, varied, and
        near enough to what the models know that their labels are no guesses.
    kind : {"label"}, optional
        Says that y holds labels where it would be taken for numbers or free texts; see
        `Task`.
    classes : sequence, optional
        All labels that could occur in the target; by default those seen, or the
        categories of a categorical column.
    label_names : dict of str to dict, optional
        By a model's name, what its labels are called in the target, as
        ``{"svm": {"LABEL_0": "negative", "LABEL_1": "positive"}}``; see `MTEWrapper`.
    embedder : embedder, optional
        Makes the students and the compared embeddings; ``TuPaTEEmbedder()`` by
        default.
    scoring : str or callable, default="accuracy"
        The scikit-learn scorer that counts on the target; ranks the students.
        Scorers that weigh classes equally (named ``"balanced..."`` or ``"...macro"``)
        make the moment embedding of the task do so too.
    sort_by : {"student", "moment", "cosine", "prior", "labelled"}, default="student"
        Ranking that orders the table.  The students follow ``scoring``; on the ranking
        bed (``benchmarks/ranking_bed.py``) theirs was the best of the first four.
    n_labelled : int, default=0
        Where positive, the models are also called on this many rows of the target and
        ranked by their true score there: a baseline that needs calls of every model.
    callbacks : sequence of callbacks, default=()
        Callbacks of scikit-learn that follow the making of the students, such as
        ``sklearn.callback.ProgressBar()``.
    random_state : int, RandomState instance or None, default=0
        Draws the labelled rows.

    Returns
    -------
    table : DataFrame (n_models, ...)
        Indexed by model, best first, with a score (high is better) and a rank for
        ``student`` (the student's score on X, y), ``cosine`` (of the embeddings),
        ``moment`` (dot product of moment embeddings, the expected margin), ``prior``
        (minus the distance between the model's and the task's label shares, the
        baseline that looks at no text), ``labelled`` if asked for, and ``random_rank``.
        ``table.attrs`` tells the surrogate, the settings and the numbers of texts.

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

    Warns
    -----
    LabelMismatchWarning
        If a model has labels that the target does not know, or lacks some of its.
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
    _check_settings(sort_by, n_labelled, scoring)
    texts = check_texts(texts, "texts")
    wrapped = _wrap(models, label_names)
    labelled = _label(wrapped, texts, target)
    embedder = TuPaTEEmbedder() if embedder is None else clone(embedder)
    if hasattr(embedder, "random_state"):
        # One space for models and target, also where every fit would draw a new one.
        embedder.random_state = seed_of(embedder.random_state)
    scores, fingerprint = _embedded_scores(
        embedder, labelled, list(wrapped), target, scoring, callbacks
    )
    count = len(wrapped)
    scores["moment"] = _or_nan(
        lambda: (_moment_scores(embedder, labelled, target, texts, scoring), ""),
        "moment",
        count,
    )
    scores["prior"] = np.array([-_prior_distance(task, target) for task in labelled])
    if n_labelled:
        scores["labelled"] = _or_nan(
            lambda: _labelled_scores(
                wrapped, target, n_labelled, scoring, random_state
            ),
            "labelled",
            count,
        )
    table = _table(scores, list(wrapped), sort_by)
    table.attrs = {
        "surrogate": str(embedder.surrogate),
        "fingerprint": fingerprint,
        "embedder": repr(embedder),
        "scoring": str(scoring),
        "sort_by": sort_by,
        "n_texts": len(texts),
        "n_samples": target.n_samples,
        "n_labelled": n_labelled,
        "unreadable_texts": embedder.unreadable_share(texts),
        "unreadable_samples": embedder.unreadable_share(target.texts),
    }
    return table


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


def _check_settings(sort_by: str, n_labelled: int, scoring: Any) -> None:
    if sort_by not in SORTS or (sort_by == "labelled" and not n_labelled):
        raise ValueError(
            f"sort_by={sort_by!r}, expected one of {SORTS}; 'labelled' needs "
            "n_labelled."
        )
    whole = isinstance(n_labelled, Integral) and not isinstance(n_labelled, bool)
    if not whole or n_labelled < 0:
        raise ValueError(f"n_labelled={n_labelled!r}, expected 0 or a positive int.")
    if isinstance(scoring, str):
        get_scorer(scoring)  # a wrong name is refused before the work


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


def _embedded_scores(
    embedder: SurrogateEmbedder,
    labelled: list[Task],
    names: list[str],
    target: Task,
    scoring: Any,
    callbacks: Sequence[Any],
) -> tuple[dict[str, np.ndarray], str]:
    """Scores by students and by cosine, and the space they were made in."""
    ranker = StudentRanker(embedder, scoring=scoring).set_callbacks(*callbacks)
    students = ranker.fit(labelled, names=names)
    own = clone(embedder).fit(
        target.texts, target.targets.proba, classes=target.classes
    )

    def cosine() -> tuple[np.ndarray, str]:
        ranker = ModelRanker().fit(students.embeddings_, names=names)
        return ranker.decision_function([own.embedding_])[0], ""

    def student() -> tuple[np.ndarray, str]:
        with warnings.catch_warnings():
            # The models' labels were compared with the target's before.
            warnings.simplefilter("ignore", LabelMismatchWarning)
            return students.decision_function([target])[0], ""

    scores = {
        "student": _or_nan(student, "student", len(names)),
        "cosine": _or_nan(cosine, "cosine", len(names)),
    }
    return scores, own.fingerprint_


def _table(
    scores: dict[str, np.ndarray], names: list[str], sort_by: str
) -> pd.DataFrame:
    import pandas as pd

    columns: dict[str, Any] = {}
    for key, values in scores.items():
        columns[f"{key}_score"] = values
        columns[f"{key}_rank"] = rankdata(-values, nan_policy="omit")
    columns["random_rank"] = (len(names) + 1) / 2
    table = pd.DataFrame(columns, index=pd.Index(names, name="model"))
    return table.sort_values(f"{sort_by}_rank", kind="stable")


def _or_nan(
    compute: Callable[[], tuple[np.ndarray, str]], name: str, count: int
) -> np.ndarray:
    """Keep the rest of the table where one column cannot be computed."""
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


def _moment_scores(
    embedder: SurrogateEmbedder,
    labelled: list[Task],
    target: Task,
    texts: list[str],
    scoring: Any,
) -> np.ndarray:
    same = len({t.targets.names for t in [*labelled, target]}) == 1
    moment = MomentEmbedder(
        embedder.surrogate,
        target_encoding="label" if same else "text",
        max_length=embedder.max_length,
        device=embedder.device,
        dtype=embedder.dtype,
    )
    try:
        moment.reference_statistics()
    except ReferenceStatisticsError:
        moment.set_params(reference=texts)
    equal = isinstance(scoring, str) and any(w in scoring for w in EQUAL_CLASSES)
    own = clone(moment).set_params(class_weight="balanced" if equal else None)
    vectors = TaskVectorizer(moment).fit_transform(labelled)
    own.fit(target.texts, target.targets.proba, classes=target.classes)
    ranker = ModelRanker("dot").fit(vectors)
    return ranker.decision_function(own.embedding_[None])[0]


def _prior_distance(task: Task, target: Task) -> float:
    """Half the summed difference of label shares, by name."""
    shares = [
        dict(zip(t.targets.names, t.targets.proba.mean(0), strict=True))
        for t in (task, target)
    ]
    names = first_seen([*shares[0], *shares[1]])
    return sum(abs(shares[0].get(n, 0) - shares[1].get(n, 0)) for n in names) / 2


def _labelled_scores(
    wrapped: dict[str, MTEWrapper],
    target: Task,
    n_labelled: int,
    scoring: Any,
    random_state: Any,
) -> tuple[np.ndarray, str]:
    rng = check_random_state(random_state)
    count = min(n_labelled, target.n_samples)
    rows = np.sort(rng.choice(target.n_samples, count, replace=False))
    part = target.take(rows)
    scores, reason = np.full(len(wrapped), np.nan), ""
    for i, wrapper in enumerate(wrapped.values()):
        try:
            scores[i] = _score_on(wrapper, part, scoring)
        except Exception as error:  # a model or a scorer may be anybody's
            reason = reason or f"{wrapper.name!r}: {error}"
    return scores, reason


def _score_on(wrapper: MTEWrapper, part: Task, scoring: Any) -> float:
    found = answers_as_labels(wrapper.label(part.texts), part.targets)
    log_proba = np.log(np.clip(found.targets.proba, LEAST_PROBABILITY, 1))
    predictions = Predictions("label", found.targets.names, log_proba)
    answered = part.take(_rows_of(found.texts, part.texts))
    return score_predictions(predictions, answered, scoring)


def _rows_of(kept: tuple[str, ...], texts: tuple[str, ...]) -> np.ndarray:
    """Rows of the texts that are left when some were dropped in between."""
    rows, start = [], 0
    for text in kept:
        start = texts.index(text, start) + 1
        rows.append(start - 1)
    return np.array(rows)
