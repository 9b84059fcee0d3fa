"""Rank models by how well their students do on a task's labelled rows."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.metrics import check_scoring
from sklearn.utils._param_validation import HasMethods

from ._base import BaseTaskEmbedder
from ._base_ranker import BaseRanker, check_names
from ._callbacks import nested_progress, with_callbacks
from ._task import Task, check_tasks
from ._task_vectorizer import embed_tasks, groups_of

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
        Any scikit-learn scorer; classes are compared by name.  Probabilities that a
        scorer asks for are restricted to the target's classes; a class that a student
        does not know gets next to none.  For numeric targets give a regression scorer,
        such as ``"r2"``.
    n_jobs : int or None, default=None
        As in `TaskVectorizer`.

    Attributes
    ----------
    model_names_ : ndarray (n_models,)
        Names of the models, in the order of ``fit``.
    students_ : list of embedders
        The fitted students.

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
    >>> ranker = StudentRanker(embedder).fit([good, wrong], ["good", "wrong"])
    >>> ranker.predict([Task(texts, ["pos", "neg", "pos", "neg"])])
    array(['good'], dtype=object)
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "embedder": [HasMethods(["fit", "_embed"])],
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

    @with_callbacks
    def fit(self, X: Any, y: Any = None) -> StudentRanker:
        """Make one student per model.

        Parameters
        ----------
        X : sequence of Task
            Texts labelled by the models, as `MTEWrapper.label` gives them.
        y : sequence of str, optional
            Names of the models; the tasks' own names by default.

        Returns
        -------
        self : object
            The fitted ranker.
        """
        self._validate_params()
        tasks = check_tasks(X)
        if y is None and all(task.name for task in tasks):
            y = [task.name for task in tasks]
        self.model_names_ = check_names(y, len(tasks))
        embedder = clone(self.embedder)
        embedder._validate_params()
        with nested_progress(self, len(groups_of(tasks)), "models") as group:
            fitted = embed_tasks(embedder, tasks, self.n_jobs, group)
        self.students_ = [embedder._fitted_clone(one) for one in fitted]
        return self

    def _scores(self, X: Any) -> np.ndarray:
        tasks = check_tasks(X)
        out = np.empty((len(tasks), len(self.students_)))
        for i, task in enumerate(tasks):
            for j, student in enumerate(self.students_):
                try:
                    out[i, j] = score_student(student, task, self.scoring)
                except Exception as error:
                    raise ValueError(
                        f"scoring={self.scoring!r} failed for the student of "
                        f"{self.model_names_[j]!r} on the target {task.name or i!r}: "
                        f"{error}"
                    ) from error
        return out


def score_student(student: Any, task: Task, scoring: Any) -> float:
    """Score a student, or answers in its shape, on a task's rows by a scorer."""
    texts = list(task.texts)
    if student.target_kind_ != task.targets.kind:
        raise ValueError(
            f"the model gives targets of kind {student.target_kind_!r}, the task "
            f"has {task.targets.kind!r}."
        )
    if task.targets.kind == "label":
        proxy: Any = _Classifier(student, task.targets.names)
        truth: Any = task.targets.label_names().astype(str)
    else:
        proxy = _Regressor(student)
        truth = task.y
    scorer = check_scoring(proxy, scoring=scoring)
    return float(scorer(proxy, texts, truth))


class _Classifier(ClassifierMixin, BaseEstimator):
    """A student under the target's label names, as scorers expect a classifier."""

    def __init__(self, student: Any, names: tuple[str, ...]) -> None:
        self.student = student
        self.names = names
        self.classes_ = np.array(names)

    def fit(self, X: Any, y: Any) -> _Classifier:
        """Do nothing: scorers only want to see the method."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, X: Any) -> np.ndarray:
        found = self.student.predict_log_proba(X).argmax(1)
        return np.array(self.student.label_names_)[found]

    def predict_proba(self, X: Any) -> np.ndarray:
        known = np.exp(self.student.predict_log_proba(X))
        out = np.full((len(known), len(self.names)), LEAST_PROBABILITY)
        for column, name in enumerate(self.names):
            if name in self.student.label_names_:
                out[:, column] += known[:, self.student.label_names_.index(name)]
        return out / out.sum(1, keepdims=True)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        return np.log(self.predict_proba(X))


class _Regressor(RegressorMixin, BaseEstimator):
    """A student of numbers, as scorers expect a regressor."""

    def __init__(self, student: Any) -> None:
        self.student = student

    def fit(self, X: Any, y: Any) -> _Regressor:
        """Do nothing: scorers only want to see the method."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, X: Any) -> np.ndarray:
        return self.student.predict(X)
