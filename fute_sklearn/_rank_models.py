"""The short way: models and a labelled task in, one honest table out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.utils import check_random_state

from ._base import Answers, BaseTaskEmbedder, seed_of
from ._model_ranker import ModelRanker
from ._moment_embedder import MomentEmbedder
from ._mte_wrapper import MTEWrapper
from ._student_ranker import LEAST_PROBABILITY, StudentRanker, score_answers
from ._task import Task
from ._task_vectorizer import TaskVectorizer
from ._tupate_embedder import TuPaTEEmbedder
from ._validation import check_texts, first_seen
from .exceptions import ReferenceStatisticsError

if TYPE_CHECKING:
    import pandas as pd

EQUAL_CLASSES = ("balanced", "macro")
SORTS = ("moment", "student", "cosine", "prior", "labelled")


def rank_models(
    models: Any,
    X: Any,
    y: Any,
    *,
    texts: Any,
    embedder: BaseTaskEmbedder | None = None,
    scoring: Any = "accuracy",
    sort_by: str = "student",
    n_labelled: int = 0,
    callbacks: Sequence[Any] = (),
    random_state: Any = 0,
) -> pd.DataFrame:
    """Rank fitted models for a labelled task without running them on it.

    Every model labels the same unlabelled ``texts``; a surrogate learns each model
    from that, and the task from its own rows.  Beside the rankings by the models'
    students and by the embeddings' cosine the table holds the rivals that a ranking
    has to beat.

    Parameters
    ----------
    models : dict of str to model, or sequence of models
        Fitted models with ``predict``, or `MTEWrapper` objects; they are called on
        ``texts`` only.
    X : sequence of str of length n_samples
        Texts of the target task.
    y : sequence of length n_samples
        Labels of the target task.
    texts : sequence of str
        Unlabelled texts, the same for all models: hundreds to thousands, varied, and
        near enough to what the models know that their labels are no guesses.
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
        ranked by their true score there: the rival that costs calls.
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
        (minus the distance between the model's and the task's label shares, the rival
        that looks at no text), ``labelled`` if asked for, and ``random_rank``.
        ``table.attrs`` tells the surrogate, the settings and the numbers of texts.

    Raises
    ------
    ModelLabelError
        If a model fails on the texts; what was labelled before is kept.
    ValueError
        If the task has other targets than classes, or there are no models.

    Warns
    -----
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
    target = _checked_target(X, y, sort_by, n_labelled)
    texts = check_texts(texts, "texts")
    wrapped = _wrap(models, target)
    labelled = [wrapper.label(texts) for wrapper in wrapped.values()]
    embedder = TuPaTEEmbedder() if embedder is None else clone(embedder)
    if hasattr(embedder, "random_state"):
        # One space for models and target, also where every fit would draw a new one.
        embedder.random_state = seed_of(embedder.random_state)
    scores, fingerprint = _embedded_scores(
        embedder, labelled, list(wrapped), target, scoring, callbacks
    )
    scores["moment"] = _moment_scores(embedder, labelled, target, texts, scoring)
    scores["prior"] = np.array([-_prior_distance(task, target) for task in labelled])
    if n_labelled:
        scores["labelled"] = _labelled_scores(
            wrapped, target, n_labelled, scoring, random_state
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
    }
    return table


def _checked_target(X: Any, y: Any, sort_by: str, n_labelled: int) -> Task:
    target = Task(X, y, name="target")
    if target.targets.kind != "label":
        raise ValueError(
            f"y holds targets of kind {target.targets.kind!r}; rank_models ranks "
            "classifiers. Use StudentRanker with a regression scorer for numbers."
        )
    if sort_by not in SORTS or (sort_by == "labelled" and not n_labelled):
        raise ValueError(
            f"sort_by={sort_by!r}, expected one of {SORTS}; 'labelled' needs "
            "n_labelled."
        )
    return target


def _embedded_scores(
    embedder: BaseTaskEmbedder,
    labelled: list[Task],
    names: list[str],
    target: Task,
    scoring: Any,
    callbacks: Sequence[Any],
) -> tuple[dict[str, np.ndarray], str]:
    """Scores by students and by cosine, and the space they were made in."""
    ranker = StudentRanker(embedder, scoring=scoring).set_callbacks(*callbacks)
    students = ranker.fit(labelled, names)
    own = clone(embedder).fit(
        target.texts, target.targets.proba, classes=target.classes
    )

    def cosine() -> np.ndarray:
        vectors = [s.embedding_ for s in students.students_]
        return ModelRanker().fit(vectors, names).decision_function([own.embedding_])[0]

    scores = {
        "student": students.decision_function([target])[0],
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
        columns[f"{key}_rank"] = rankdata(-values, method="average")
    columns["random_rank"] = (len(names) + 1) / 2
    table = pd.DataFrame(columns, index=pd.Index(names, name="model"))
    return table.sort_values(f"{sort_by}_rank", kind="stable")


def _or_nan(compute: Callable[[], np.ndarray], name: str, count: int) -> np.ndarray:
    """Keep the rest of the table where one column cannot be computed."""
    try:
        return compute()
    except ValueError as error:
        warnings.warn(f"the column {name!r} cannot be computed: {error}", stacklevel=3)
        return np.full(count, np.nan)


def _wrap(models: Any, target: Task) -> dict[str, MTEWrapper]:
    """Wrap the models; labels of models without ``classes_`` are the target's."""
    pairs = (
        list(models.items())
        if isinstance(models, Mapping)
        else [(None, model) for model in models]
    )
    if not pairs:
        raise ValueError("there are no models to rank.")
    out: dict[str, MTEWrapper] = {}
    for name, model in pairs:
        wrapper = model if isinstance(model, MTEWrapper) else MTEWrapper(model)
        name = str(name or wrapper._model_name())
        classes = wrapper.classes
        bare = not hasattr(wrapper.estimator, "classes_")
        if classes is None and bare and wrapper.response_method == "predict":
            classes = target.classes
        count = sum(n == name or n.startswith(f"{name}-") for n in out)
        name = f"{name}-{count + 1}" if name in out else name
        params = {**wrapper.get_params(deep=False), "name": name, "classes": classes}
        out[name] = MTEWrapper(**params)
    return out


def _moment_scores(
    embedder: BaseTaskEmbedder,
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
        moment._reference(moment._load())
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
) -> np.ndarray:
    rng = check_random_state(random_state)
    count = min(n_labelled, target.n_samples)
    rows = np.sort(rng.choice(target.n_samples, count, replace=False))
    part = target.take(rows)
    scores = []
    for wrapper in wrapped.values():
        found = wrapper.label(part.texts)
        log_proba = np.log(np.clip(found.targets.proba, LEAST_PROBABILITY, 1))
        answers = Answers("label", found.targets.names, log_proba)
        answered = part.take(_rows_of(found.texts, part.texts))
        scores.append(score_answers(answers, answered, scoring))
    return np.array(scores)


def _rows_of(kept: tuple[str, ...], texts: tuple[str, ...]) -> np.ndarray:
    """Rows of the texts that are left when some were dropped in between."""
    rows, start = [], 0
    for text in kept:
        start = texts.index(text, start) + 1
        rows.append(start - 1)
    return np.array(rows)
