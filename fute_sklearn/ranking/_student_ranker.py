"""Rank models by how well their students do on a task's labelled rows."""

from __future__ import annotations

import warnings
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    RegressorMixin,
    _fit_context,
    clone,
)
from sklearn.metrics import check_scoring, get_scorer
from sklearn.utils._param_validation import HasMethods

from .._utils._callbacks import nested_progress
from .._utils._parameters import validate_params
from .._utils._stack_level import find_stack_level
from ..embedders._base_embedder import BaseTaskEmbedder
from ..embedders._student import BaseStudent, Predictions
from ..embedders._task_vectorizer import embed_tasks, groups_of
from ..tasks._label_spaces import check_label_spaces, with_shared_classes
from ..tasks._names import check_names
from ..tasks._task import Task, check_tasks
from ._base_ranker import BaseRanker

LEAST_PROBABILITY = 1e-7


class StudentRanker(BaseRanker):
    """Rank models by their students' score on the target's labelled rows.

    The surrogate tuned to a model is its student.  The students, not the models,
    label the target's texts; the scorer that counts for the target ranks them.  No
    model is called on the target.

    Parameters
    ----------
    embedder : embedder
        Makes the students: `TuPaTEEmbedder`, `MomentEmbedder` or `TaskEmbedder`.
    scoring : str or callable, default="accuracy"
        Any scikit-learn scorer; classes are compared by name, and scorers see the
        target's own labels.  Probabilities that a scorer asks for are restricted to the
        classes that occur in the target; a class that a student does not know gets next
        to none.  For numeric targets give a regression scorer, such as ``"r2"``.  A
        target that shares no label with a model is refused before anything is computed.
    n_jobs : int or None, default=None
        As in `TaskVectorizer`.

    Attributes
    ----------
    model_names_ : ndarray (n_models,)
        Names of the models, in the order of ``fit``.
    students_ : list of StudentClassifier or StudentRegressor
        The fitted students.
    embeddings_ : TaskVectors (n_models, dim), or list of TaskVectors
        The models' embeddings; a list where they have different lengths or spaces.

    See Also
    --------
    ModelRanker : Ranks by the similarity of embeddings.

    Examples
    --------
    >>> from fute_sklearn import MomentEmbedder, StudentRanker, Task
    >>> texts = ["a fine film", "a dull film", "what joy", "how sad"]
    >>> good = Task(texts, ["pos", "neg", "pos", "neg"])
    >>> wrong = Task(texts, ["neg", "pos", "neg", "pos"])
    >>> embedder = MomentEmbedder("fute-tiny-random", reference=texts)
    >>> ranker = StudentRanker(embedder).fit([good, wrong], names=["good", "wrong"])
    >>> ranker.predict([Task(texts, ["pos", "neg", "pos", "neg"])])
    array(['good'], dtype=object)
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "embedder": [HasMethods(["fit", "embed"])],
        "scoring": [str, callable],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        embedder: BaseTaskEmbedder,
        *,
        scoring: Any = "accuracy",
        n_jobs: int | None = None,
    ) -> None:
        self.embedder = embedder
        self.scoring = scoring
        self.n_jobs = n_jobs

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None, *, names: Any = None) -> StudentRanker:
        """Make one student per model.

        Parameters
        ----------
        X : sequence of Task
            Texts labelled by the models, as `MTEWrapper.label` gives them.
        y : None
            Ignored.
        names : sequence of str, optional
            Names of the models; the tasks' own names by default.

        Returns
        -------
        self : object
            The fitted ranker.
        """
        tasks = with_shared_classes(check_tasks(X))
        if names is None and all(task.name for task in tasks):
            names = [task.name for task in tasks]
        self.model_names_ = check_names(names, len(tasks))
        if isinstance(self.scoring, str):
            get_scorer(self.scoring)  # a wrong name is refused before the work
        embedder = clone(self.embedder)
        validate_params(embedder)
        with nested_progress(self, len(groups_of(tasks)), "models") as group:
            found = embed_tasks(embedder, tasks, self.n_jobs, group, student_and_vector)
        self.students_ = [student for student, _ in found]
        vectors = [vector for _, vector in found]
        alike = len({(vector.shape, vector.fingerprint) for vector in vectors}) == 1
        self.embeddings_ = np.stack(vectors) if alike else vectors
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags

    def _scores(self, X: Any) -> np.ndarray:
        tasks = check_tasks(X)
        out = np.empty((len(tasks), len(self.students_)))
        for task in tasks:
            if task.targets.kind == "label":
                check_label_spaces(self._label_names(), task.targets.names)
        for i, task in enumerate(tasks):
            # All students read the same encoder outputs.
            encoded = self.students_[0].embedder.encode(task.texts)
            failed: dict[str, Exception] = {}
            for j, student in enumerate(self.students_):
                try:
                    found = student.predictions(encoded)
                    out[i, j] = score_predictions(found, task, self.scoring)
                except Exception as error:  # a scorer may be anybody's
                    failed[self.model_names_[j]], out[i, j] = error, np.nan
            if failed:
                self._tell(failed, task.name or f"number {i}")
        return out

    def _tell(self, failed: dict[str, Exception], target: str) -> None:
        """Raise where no student has a score on a target; warn where some have."""
        name, error = next(iter(failed.items()))
        message = (
            f"scoring={self.scoring!r} failed for {len(failed)} of "
            f"{len(self.students_)} students on the target {target!r}, as that of "
            f"{name!r}: {error}"
        )
        if len(failed) == len(self.students_):
            raise ValueError(message) from error
        warnings.warn(
            f"{message}. Their scores are NaN, and they are ranked last",
            stacklevel=find_stack_level(),
        )

    def _label_names(self) -> dict[str, tuple[str, ...]]:
        return {
            name: student.label_names_
            for name, student in zip(self.model_names_, self.students_, strict=True)
            if student.target_kind_ == "label"
        }


def student_and_vector(fitted: BaseTaskEmbedder) -> tuple[BaseStudent, Any]:
    """Take from a fitted embedder what a ranker needs."""
    return fitted.student_, fitted.embedding_


def score_predictions(predictions: Predictions, task: Task, scoring: Any) -> float:
    """Score a student's or a model's predictions for a task's texts by any scorer.

    Scorers see the target's own labels.  Classes that do not occur in the target are
    left out, as log loss and others refuse them.
    """
    targets = task.targets
    if predictions.kind != targets.kind:
        raise ValueError(
            f"the model gives targets of kind {predictions.kind!r}, the task has "
            f"{targets.kind!r}. Where one was told wrongly, say which: Task(X, y, "
            "kind=...), MTEWrapper(model, kind=...)."
        )
    if targets.kind != "label":
        proxy: Any = _Regressor(predictions)
        truth: Any = task.y
    else:
        rows = targets.proba.argmax(1)
        present = np.unique(rows)
        # Scorers take no labels of mixed types or with decimals: names stand for them.
        own = targets.classes
        decimals = own.dtype.kind == "f" and (own != np.round(own)).any()
        named = own.dtype == object or decimals
        labels = np.array(targets.names) if named else own
        known = dict(zip(targets.names, labels.tolist(), strict=True))
        known |= _stand_ins(set(predictions.names) - set(known), labels)
        present = present[np.argsort(labels[present])]
        proxy = _Classifier(
            predictions,
            [targets.names[i] for i in present],
            labels[present],
            known,
        )
        truth = labels[rows]
    scorer = check_scoring(proxy, scoring=scoring)
    return float(scorer(proxy, list(task.texts), truth))


def _stand_ins(strange: set[str], labels: np.ndarray) -> dict[str, Any]:
    """Labels of the target's own type for predictions that the target does not know."""
    if labels.dtype.kind not in "iu":
        return {name: name for name in strange}
    out, free = {}, int(labels.max()) + 1
    for name in sorted(strange):
        whole = name.lstrip("-").isdigit() and int(name) not in labels
        out[name] = int(name) if whole else free
        free += not whole
    return out


class _Classifier(ClassifierMixin, BaseEstimator):
    """Answers under the target's labels, as scorers expect a classifier."""

    def __init__(
        self,
        predictions: Predictions,
        names: list[str],
        classes: np.ndarray,
        labels: dict[str, Any],
    ) -> None:
        self.predictions = predictions
        self.names = names
        self.classes_ = classes
        self.labels = labels

    def fit(self, X: Any, y: Any) -> _Classifier:
        """Do nothing: scorers only want to see the method."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, X: Any) -> np.ndarray:
        found = [self.predictions.names[i] for i in self.predictions.values.argmax(1)]
        return np.array([self.labels.get(name, name) for name in found])

    def predict_proba(self, X: Any) -> np.ndarray:
        known = np.exp(self.predictions.values)
        out = np.full((len(known), len(self.names)), LEAST_PROBABILITY)
        for column, name in enumerate(self.names):
            if name in self.predictions.names:
                out[:, column] += known[:, self.predictions.names.index(name)]
        return out / out.sum(1, keepdims=True)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        return np.log(self.predict_proba(X))


class _Regressor(RegressorMixin, BaseEstimator):
    """Answers in numbers, as scorers expect a regressor."""

    def __init__(self, predictions: Predictions) -> None:
        self.predictions = predictions

    def fit(self, X: Any, y: Any) -> _Regressor:
        """Do nothing: scorers only want to see the method."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, X: Any) -> np.ndarray:
        return self.predictions.values
