"""Rank models by how well their students do on a task's labelled rows."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import _fit_context, clone
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.validation import check_is_fitted

from .._utils._callbacks import nested_progress
from .._utils._parameters import validate_params
from .._utils._stack_level import find_stack_level
from ..embedders._base_embedder import BaseTaskEmbedder
from ..embedders._moment_embedder import balanced_weights
from ..embedders._moment_state import MomentState, fitted_to_target
from ..embedders._student import BaseStudent, Predictions
from ..embedders._task_vectorizer import embed_tasks, groups_of
from ..tasks._label_spaces import check_label_spaces, with_shared_classes
from ..tasks._names import check_names
from ..tasks._task import Task, check_tasks
from ._base_ranker import BaseRanker
from ._target_scorer import TargetScorer, scorer_of, weighs_classes_equally


class StudentRanker(BaseRanker):
    """Rank models by their students' expected score on a labelled target task.

    A model's student is a surrogate fitted to the model's answers.  The students, not
    the models, label the target's texts, and the scorer that counts for the target
    ranks them.  No model is called on the target.

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
        For free texts ``"exact_match"`` and ``"token_f1"`` are known too.
    expected : bool, default=True
        Score by the scorer's expectation under what the student thinks its model
        answers: exact for accuracy, balanced accuracy, recall and scorers of
        probabilities, by 50 seeded draws, the same for all students, for others and
        for numbers.  False scores the student's likeliest answers, which ranks worse
        (nine topics: .84 instead of .91 for closed-form students) and makes ties.
    n_jobs : int or None, default=None
        As in `TaskVectorizer`.

    Attributes
    ----------
    model_names_ : ndarray (n_models,)
        Names of the models, in the order of ``fit``.
    embedder_ : embedder
        The embedder in use, unfitted.
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
        "expected": ["boolean"],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        embedder: BaseTaskEmbedder,
        *,
        scoring: Any = "accuracy",
        expected: bool = True,
        n_jobs: int | None = None,
    ) -> None:
        self.embedder = embedder
        self.scoring = scoring
        self.expected = expected
        self.n_jobs = n_jobs

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None, *, names: Any = None) -> StudentRanker:
        """Fit one student per model.

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
        scorer_of(self.scoring)  # a wrong name is refused before the work
        self.embedder_ = embedder = clone(self.embedder)
        validate_params(embedder)
        tasks = [task.with_origin("model") for task in tasks]
        embedder.learn_space(tasks)
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
            scorer = TargetScorer(task, self.scoring, self.expected)
            failed: dict[str, Exception] = {}
            for j, found in enumerate(self.predictions(task)):
                try:
                    out[i, j] = scorer.score(found)
                except Exception as error:  # a scorer may be anybody's
                    failed[self.model_names_[j]], out[i, j] = error, np.nan
            if failed:
                self._tell(failed, task.name or f"number {i}")
        return out

    def predictions(
        self, task: Task, weights: np.ndarray | None = None
    ) -> Iterator[Predictions]:
        """Predict by all students for a target's texts.

        Parameters
        ----------
        task : Task
            The target.
        weights : ndarray (n_samples,), optional
            Weights of its rows in the choice of the ridge penalty; by default the same
            for all rows, or for all classes where ``scoring`` weighs them equally.

        Yields
        ------
        predictions : Predictions
            Those of each student, in the order of ``model_names_``.
        """
        check_is_fitted(self)
        # All students read the same encoder outputs.
        encoded = self.students_[0].embedder.encode(task.texts)
        likelihood = TargetScorer(task, self.scoring, self.expected).wants_likelihood
        for student in self._for_target(encoded, task, weights):
            found = student.predictions(encoded)
            if likelihood:
                nats = student.log_likelihood(encoded, list(task.targets.texts))
                found = replace(found, likelihood=np.exp(nats))
            yield found

    def _for_target(
        self, encoded: Any, task: Task, weights: np.ndarray | None
    ) -> list[BaseStudent]:
        """Students with the penalty that the target calls for."""
        rows = [
            i
            for i, student in enumerate(self.students_)
            if isinstance(student.state_, MomentState)
            and student.target_kind_ == "label"
        ]
        if task.targets.kind != "label" or not rows:
            return self.students_
        if weights is None:
            weights = np.full(task.n_samples, 1 / task.n_samples)
            if weighs_classes_equally(self.scoring, task.targets.classes):
                weights = balanced_weights(task.targets)
        states = fitted_to_target(
            [self.students_[i].state_ for i in rows],
            [self.students_[i].label_names_ for i in rows],
            encoded,
            task.targets,
            weights,
        )
        out = list(self.students_)
        for i, state in zip(rows, states, strict=True):
            out[i] = copy(out[i])
            out[i].state_ = state
        return out

    def _tell(self, failed: dict[str, Exception], target: str) -> None:
        """Raise if scoring failed for all students; warn if for some."""
        name, error = next(iter(failed.items()))
        message = (
            f"scoring={self.scoring!r} failed for {len(failed)} of "
            f"{len(self.students_)} students on the target {target!r}, as that of "
            f"{name!r}: {error}"
        )
        if len(failed) == len(self.students_):
            kinds = {student.target_kind_ for student in self.students_}
            remedy = {
                "number": " Numbers need a scorer of numbers, as scoring='r2'.",
                "text": " Free texts need scoring='exact_match' or 'token_f1'.",
            }
            more = remedy.get(kinds.pop(), "") if len(kinds) == 1 else ""
            raise ValueError(f"{message}.{more}") from error
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
