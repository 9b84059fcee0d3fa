"""The checks that `fute_sklearn.testing` runs on text and task estimators."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from io import BytesIO
from typing import Any

import joblib
import numpy as np
import pandas as pd
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score

from .embedders._student import StudentClassifier
from .ranking._base_ranker import BaseRanker
from .tasks._task import Task

MAX_PICKLE_BYTES = 2**20
TEXTS = [
    "a fine film",
    "a dull film",
    "what joy it was to watch",
    "how sad and how slow",
    "good food",
    "the food was bad, the service worse",
    "fine",
    "not fine at all",
]
LABELS = ["pos", "neg"] * 4


def _raises(kinds: Any, pattern: str, call: Callable[[], Any]) -> None:
    try:
        call()
    except kinds as error:
        if pattern not in str(error):
            raise AssertionError(
                f"the message {str(error)!r} does not hold {pattern!r}"
            ) from error
        return
    raise AssertionError(f"expected {kinds} with {pattern!r}, nothing was raised")


def _same(a: Any, b: Any) -> None:
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


# Checks of embedders ------------------------------------------------------------


def _features(est: Any, texts: Any) -> np.ndarray:
    """Return features of texts; an empty array if the embedder has no student."""
    return est.transform(texts) if hasattr(est, "student_") else np.empty((0, 1))


def check_sequence_types(estimator: Any) -> None:
    """Lists, tuples, arrays and Series give the same results."""
    expected = clone(estimator).fit(TEXTS, LABELS)
    kinds: list[Callable[[list[str]], Any]] = [
        tuple,
        lambda x: np.array(x, dtype=object),
        np.array,
    ]
    for module in ("pandas", "polars"):
        try:
            kinds.append(__import__(module).Series)
        except ImportError:
            continue
    for kind in kinds:
        found = clone(estimator).fit(kind(TEXTS), kind(LABELS))
        _same(expected.embedding_, found.embedding_)
        _same(_features(expected, TEXTS), _features(found, kind(TEXTS)))


def check_bad_texts(estimator: Any) -> None:
    """Input that is not a sequence of texts raises an error that names the item."""
    est = clone(estimator)
    _raises(TypeError, "one string", lambda: est.fit("a text", LABELS))
    _raises(ValueError, "empty", lambda: est.fit([], []))
    _raises(TypeError, "X[2]", lambda: est.fit([*TEXTS[:2], None], LABELS[:3]))
    _raises(TypeError, "X[1]", lambda: est.fit(["a", 1.5], LABELS[:2]))
    wide = np.array([["a", "b"], ["c", "d"]], dtype=object)
    _raises(ValueError, "dimensions", lambda: est.fit(wide, LABELS[:2]))
    if hasattr(est.fit(TEXTS, LABELS), "student_"):
        _raises(TypeError, "one string", lambda: est.transform("a text"))
        _raises(ValueError, "empty", lambda: est.transform([]))


def check_bad_targets(estimator: Any) -> None:
    """Missing, inconsistent or single-class targets raise an error."""
    est = clone(estimator)
    _raises(ValueError, "y is None", lambda: est.fit(TEXTS, None))
    _raises(ValueError, "same length", lambda: est.fit(TEXTS, LABELS[:-1]))
    _raises(ValueError, "1 class", lambda: est.fit(TEXTS, ["pos"] * 8))
    _raises(ValueError, "missing", lambda: est.fit(TEXTS, [*LABELS[:-1], None]))
    _raises(ValueError, "missing", lambda: est.fit(TEXTS, [0.5] * 7 + [np.nan]))
    _raises(ValueError, "has no name", lambda: est.fit(TEXTS, ["", "pos"] * 4))
    bad = np.array([[0.5, 0.5]] * 7 + [[0.5, 0.9]])
    _raises(ValueError, "y[7]", lambda: est.fit(TEXTS, bad, classes=["a", "b"]))
    _raises(ValueError, "without names", lambda: est.fit(TEXTS, bad))


def check_not_fitted(estimator: Any) -> None:
    """Methods of an unfitted embedder raise NotFittedError."""
    est = clone(estimator)
    _raises(NotFittedError, "", lambda: est.transform(TEXTS))
    _raises(NotFittedError, "", lambda: est.score(TEXTS, LABELS))


def check_fit_is_repeatable(estimator: Any) -> None:
    """``fit`` returns self, is reproducible, and leaves parameters and input as is."""
    est = clone(estimator)
    params = joblib.hash(est.get_params())
    texts, labels = list(TEXTS), list(LABELS)
    assert est.fit(texts, labels) is est
    first = est.embedding_.tobytes()
    est.fit(TEXTS[::-1], [*LABELS[1:], "pos"])
    assert est.fit(texts, labels).embedding_.tobytes() == first
    assert joblib.hash(est.get_params()) == params
    assert (texts, labels) == (TEXTS, LABELS)


def check_pickles(estimator: Any) -> None:
    """Pickles hold no surrogate weights, and unpickled objects give equal results."""
    import cloudpickle

    est = clone(estimator).fit(TEXTS, LABELS)
    for module in (pickle, cloudpickle):
        data = module.dumps(est)
        assert len(data) < MAX_PICKLE_BYTES, len(data)
        again = pickle.loads(data)
        _same(est.embedding_, again.embedding_)
        assert again.embedding_.fingerprint == est.fingerprint_
        state = getattr(getattr(again, "student_", None), "state_", None)
        if not getattr(state, "weights_lost", False):
            _same(_features(est, TEXTS), _features(again, TEXTS))
    file = BytesIO()
    joblib.dump(est, file)
    file.seek(0)
    _same(est.embedding_, joblib.load(file).embedding_)


def check_set_output(estimator: Any) -> None:
    """Feature names and pandas output agree."""
    est = clone(estimator).set_output(transform="pandas").fit(TEXTS, LABELS)
    if not hasattr(est, "student_"):
        return
    frame = est.transform(TEXTS)
    assert list(frame.columns) == list(est.get_feature_names_out())
    _same(frame.to_numpy(), est.set_output(transform="default").transform(TEXTS))


def check_row_order(estimator: Any) -> None:
    """The embedding does not depend on the order of the rows."""
    order = np.random.default_rng(0).permutation(len(TEXTS))
    est = clone(estimator).fit(TEXTS, LABELS)
    texts = [TEXTS[i] for i in order]
    found = clone(estimator).fit(texts, [LABELS[i] for i in order])
    _same(est.embedding_, found.embedding_)
    if hasattr(est, "student_"):
        np.testing.assert_allclose(
            est.transform(TEXTS)[order], est.transform(texts), rtol=1e-5, atol=1e-5
        )


def check_batch_size_of_transform(estimator: Any) -> None:
    """A text's features do not depend on the texts beside it."""
    est = clone(estimator).fit(TEXTS, LABELS)
    if not hasattr(est, "student_"):
        return
    whole = est.transform(TEXTS)
    single = np.vstack([est.transform([text]) for text in TEXTS])
    np.testing.assert_allclose(whole, single, rtol=1e-5, atol=1e-5)


def check_labels_are_compared_by_name(estimator: Any) -> None:
    """The embedding depends on label names, not on label types or class order."""
    est = clone(estimator).fit(TEXTS, [0, 1] * 4)
    for labels in (["0", "1"] * 4, [0.0, 1.0] * 4):
        _same(est.embedding_, clone(estimator).fit(TEXTS, labels).embedding_)
    proba = np.tile([[0.8, 0.2], [0.3, 0.7]], (4, 1))
    one = clone(estimator).fit(TEXTS, proba, classes=["neg", "pos"])
    two = clone(estimator).fit(TEXTS, proba[:, ::-1], classes=["pos", "neg"])
    _same(one.embedding_, two.embedding_)
    hard = np.array([[label == "neg", label == "pos"] for label in LABELS], float)
    _same(
        clone(estimator).fit(TEXTS, hard, classes=["neg", "pos"]).embedding_,
        clone(estimator).fit(TEXTS, LABELS).embedding_,
    )


def check_random_states_untouched(estimator: Any) -> None:
    """Fitting leaves the global random states of numpy and torch alone."""
    from ._engine import global_random_state

    before = np.random.get_state()[1].copy(), global_random_state()  # type: ignore[index]
    _features(clone(estimator).fit(TEXTS, LABELS), TEXTS)
    _same(before[0], np.random.get_state()[1])  # type: ignore[index]
    assert before[1] == global_random_state()


def check_student(estimator: Any) -> None:
    """The student behaves as a scikit-learn classifier."""
    est = clone(estimator).fit(TEXTS, LABELS)
    if not hasattr(est, "student_"):
        return
    student = est.student_
    assert is_classifier(student)
    assert list(student.classes_) == ["neg", "pos"]
    assert set(student.predict(TEXTS)) <= {"neg", "pos"}
    log_proba = student.predict_log_proba(TEXTS)
    np.testing.assert_allclose(np.exp(log_proba).sum(1), 1, rtol=1e-5)
    expected = log_proba[np.arange(8), [1, 0] * 4].mean()
    np.testing.assert_allclose(est.score(TEXTS, LABELS), expected, rtol=1e-5)
    right = student.predict(TEXTS) == np.array(LABELS)
    weights = np.arange(1.0, 9.0)
    found = student.score(TEXTS, LABELS, sample_weight=weights)
    np.testing.assert_allclose(found, (right * weights).sum() / weights.sum())
    whole = StudentClassifier(clone(estimator)).fit(TEXTS, LABELS)
    np.testing.assert_allclose(whole.predict_log_proba(TEXTS), log_proba, rtol=1e-5)
    scores = cross_val_score(whole, TEXTS, LABELS, scoring="roc_auc", cv=2)
    assert np.isfinite(scores).all()


def check_embed(estimator: Any) -> None:
    """``embed`` agrees with separate fits and leaves the embedder unfitted."""
    tasks = [Task(TEXTS, LABELS), Task(TEXTS, LABELS[::-1])]
    est = clone(estimator)
    fitted = est.embed(tasks)
    assert not hasattr(est, "embedding_")
    scale = np.abs(fitted[0].embedding_).max()
    for task, one in zip(tasks, fitted, strict=True):
        alone = clone(estimator).fit(task.X, task.y)
        assert one.embedding_.fingerprint == alone.embedding_.fingerprint
        assert est.space_of(task)[0] in (None, alone.embedding_.fingerprint)
        np.testing.assert_allclose(
            one.embedding_, alone.embedding_, rtol=1e-4, atol=1e-3 * scale
        )
    other = Task(TEXTS[:4], LABELS[:4])
    _raises(ValueError, "share their texts", lambda: est.embed([tasks[0], other]))


def check_set_parameters_are_validated(estimator: Any) -> None:
    """Parameters of a wrong type raise in ``fit``, not in the constructor."""
    if "max_length" in estimator.get_params():
        est = clone(estimator).set_params(max_length="long")
        _raises(ValueError, "max_length", lambda: est.fit(TEXTS, LABELS))


EMBEDDER_CHECKS: list[Callable[[Any], None]] = [
    check_sequence_types,
    check_bad_texts,
    check_bad_targets,
    check_not_fitted,
    check_fit_is_repeatable,
    check_pickles,
    check_set_output,
    check_row_order,
    check_batch_size_of_transform,
    check_labels_are_compared_by_name,
    check_random_states_untouched,
    check_student,
    check_embed,
    check_set_parameters_are_validated,
]


# Checks of estimators on tasks --------------------------------------------------


def _tasks() -> list[Task]:
    return [
        Task(TEXTS, LABELS, name="a"),
        Task(TEXTS, LABELS[::-1], name="b"),
        Task(TEXTS[:6], LABELS[:6], name="c"),
    ]


def check_task_inputs(estimator: Any) -> None:
    """Tasks and (X, y) tuples give equal results; other input raises an error."""
    tasks, pairs = _tasks(), [(t.X, t.y) for t in _tasks()]
    est = clone(estimator).fit(tasks)
    other = clone(estimator).fit(pairs)
    method = "transform" if hasattr(est, "transform") else "decision_function"
    _same(getattr(est, method)(tasks), getattr(other, method)(pairs))
    _raises(TypeError, "tasks[1]", lambda: clone(estimator).fit([tasks[0], 3]))
    _raises(TypeError, "sequence of tasks", lambda: clone(estimator).fit(tasks[0]))
    _raises(ValueError, "empty", lambda: clone(estimator).fit([]))


def check_task_estimator_state(estimator: Any) -> None:
    """Unfitted estimators raise, clones are unfitted, pickles hold no weights."""
    est = clone(estimator)
    method = "transform" if hasattr(est, "transform") else "decision_function"
    _raises(NotFittedError, "", lambda: getattr(est, method)(_tasks()))
    assert est.fit(_tasks()) is est
    data = pickle.dumps(est)
    assert len(data) < MAX_PICKLE_BYTES, len(data)
    again = pickle.loads(data)
    _same(getattr(est, method)(_tasks()), getattr(again, method)(_tasks()))
    assert not hasattr(clone(est), "embeddings_")


def check_independence_of_other_tasks(estimator: Any) -> None:
    """A task's result does not depend on the other tasks of the call."""
    tasks = _tasks()
    if isinstance(estimator, BaseRanker):
        est = clone(estimator).fit(tasks)
        whole = est.decision_function(tasks)
        single = np.vstack([est.decision_function([t]) for t in tasks])
    else:
        fitted = clone(estimator).fit(tasks[:1])
        whole = fitted.transform(tasks)
        single = np.vstack([fitted.transform([t]) for t in tasks])
    # AdamW's first steps amplify rounding differences of small gradients.
    scale = np.abs(whole).max()
    np.testing.assert_allclose(whole, single, rtol=1e-4, atol=1e-3 * scale)


TASK_CHECKS: list[Callable[[Any], None]] = [
    check_task_inputs,
    check_task_estimator_state,
    check_independence_of_other_tasks,
]


# Checks of rankers over embeddings ------------------------------------------------

ROWS = np.random.default_rng(0).normal(size=(5, 6))
NAMES = ["svm", "tree", "bayes", "knn", "net"]


def check_ranking(estimator: Any) -> None:
    """Scores, ranking and prediction agree, and model names are those given."""
    est = clone(estimator)
    assert est.fit(ROWS, names=NAMES) is est
    assert est.model_names_.tolist() == NAMES
    targets = ROWS[:3] + 0.1
    scores, order = est.decision_function(targets), est.rank(targets)
    assert scores.shape == order.shape == (3, 5)
    for row, names in zip(scores, order, strict=True):
        ranked = row[[NAMES.index(name) for name in names]]
        assert (np.diff(ranked) <= 0).all()
    assert est.predict(targets).tolist() == order[:, 0].tolist()
    _same(est.rank(targets, top=2), order[:, :2])


def check_gains_by_name(estimator: Any) -> None:
    """The columns of gains are matched with the models by name."""
    est = clone(estimator).fit(ROWS, names=NAMES)
    gains = np.random.default_rng(1).random((3, 5))
    plain = est.score(ROWS[:3], gains)
    shuffled = {name: gains[:, NAMES.index(name)] for name in reversed(NAMES)}
    np.testing.assert_allclose(est.score(ROWS[:3], pd.DataFrame(shuffled)), plain)
    some = pd.DataFrame(gains[:, :4], columns=NAMES[:4])
    _raises(ValueError, "net", lambda: est.score(ROWS[:3], some))
    _raises(ValueError, "names", lambda: clone(estimator).fit(ROWS, names=NAMES[:4]))
    _raises(ValueError, "several", lambda: clone(estimator).fit(ROWS, names=["a"] * 5))


RANKER_CHECKS: list[Callable[[Any], None]] = [check_ranking, check_gains_by_name]
