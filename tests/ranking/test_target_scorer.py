"""Expected scores: exact where they can be, drawn otherwise."""

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    make_scorer,
    matthews_corrcoef,
    mean_squared_error,
    recall_score,
)

from fute_sklearn import MomentEmbedder, StudentRanker, Task, TuPaTEEmbedder
from fute_sklearn.embedders._student import Predictions
from fute_sklearn.ranking._target_scorer import TargetScorer, weighs_classes_equally
from fute_sklearn.testing import TINY_SURROGATE as TINY

N_SAMPLES = 60


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def problem(rng):
    """A target of three uneven classes, and a student's probabilities."""
    y = rng.choice(["a", "b", "c"], N_SAMPLES, p=[0.6, 0.3, 0.1])
    proba = rng.dirichlet([1, 1, 1], N_SAMPLES)
    task = Task([f"text {i}" for i in range(N_SAMPLES)], y)
    return task, Predictions("label", ("a", "b", "c"), np.log(proba))


def drawn_scores(task, predictions, metric, rng, n_draws=1500):
    """Scores of answers drawn from the probabilities, one by one."""
    proba = np.exp(predictions.values)
    names = np.array(predictions.names)
    scores = []
    for _ in range(n_draws):
        u = rng.random((len(proba), 1))
        answers = names[(proba.cumsum(1) < u).sum(1).clip(max=len(names) - 1)]
        scores.append(metric(task.y, answers))
    return np.mean(scores), np.std(scores) / np.sqrt(n_draws)


@pytest.mark.parametrize(
    ("scoring", "metric", "tolerance"),
    [
        ("accuracy", accuracy_score, 0),
        ("balanced_accuracy", balanced_accuracy_score, 0),
        (make_scorer(accuracy_score), accuracy_score, 0),
        ("recall_macro", lambda y, p: recall_score(y, p, average="macro"), 0),
        ("f1_macro", lambda y, p: f1_score(y, p, average="macro"), 0.02),
        ("f1_weighted", lambda y, p: f1_score(y, p, average="weighted"), 0.02),
    ],
)
def test_the_expectation_is_that_of_drawn_answers(
    problem, rng, scoring, metric, tolerance
):
    task, predictions = problem
    found = TargetScorer(task, scoring).score(predictions)
    mean, error = drawn_scores(task, predictions, metric, rng)
    assert found == pytest.approx(mean, abs=4 * error + tolerance)


def test_accuracies_are_exact_means_of_probabilities(problem):
    task, predictions = problem
    rows = task.targets.proba.argmax(1)
    right = np.exp(predictions.values)[np.arange(N_SAMPLES), rows]
    exact = {
        "accuracy": right.mean(),
        "balanced_accuracy": np.mean([right[rows == c].mean() for c in range(3)]),
    }
    for scoring, value in exact.items():
        found = TargetScorer(task, scoring).score(predictions)
        assert found == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("scoring", ["neg_log_loss", "roc_auc_ovr"])
def test_scorers_of_probabilities_get_the_students(problem, scoring):
    task, predictions = problem
    expected = TargetScorer(task, scoring).score(predictions)
    assert expected == TargetScorer(task, scoring, expected=False).score(predictions)


def test_draws_are_the_same_for_all_students(problem):
    task, predictions = problem
    first = TargetScorer(task, "f1_macro").score(predictions)
    scorer = TargetScorer(task, "f1_macro")
    other = Predictions("label", predictions.names, predictions.values[:, ::-1])
    assert scorer.score(other) != first
    assert scorer.score(predictions) == first


def unweighted_f1(y, answers):
    return f1_score(y, answers, average="macro")


def student(rng, y, names, skill=0.5):
    proba = rng.dirichlet(np.ones(len(names)), len(y)) * (1 - skill)
    proba[np.arange(len(y)), [names.index(one) for one in y]] += skill
    return Predictions("label", tuple(names), np.log(proba))


def bootstrapped(task, predictions, metric, rng, n_draws=300):
    """Spread of the score of expected counts over draws of rows."""
    proba, n_rows = np.exp(predictions.values), task.n_samples
    names, y = np.array(predictions.names), np.array(task.y)
    classes = np.unique(y)
    pairs = np.repeat(classes, len(names)), np.tile(names, len(classes))
    scores = []
    for _ in range(n_draws):
        rows = rng.integers(n_rows, size=n_rows)
        counts = np.concatenate([proba[rows][y[rows] == c].sum(0) for c in classes])
        scores.append(metric(*pairs, sample_weight=counts))
    return np.std(scores)


@pytest.mark.parametrize(
    "scoring",
    [
        "f1_macro",
        "matthews_corrcoef",
        make_scorer(f1_score, average="macro", pos_label=None),
        make_scorer(unweighted_f1),  # takes no weights, so that answers are drawn
    ],
)
@pytest.mark.parametrize("n_classes", [2, 8])
def test_scores_deviate_by_the_rows_and_not_by_the_draws(rng, scoring, n_classes):
    names = [f"class {i}" for i in range(n_classes)]
    y = rng.choice(names, 400)
    task = Task([f"text {i}" for i in range(400)], y)
    found = student(rng, y, names)

    def metric(y, answers, sample_weight):
        if scoring == "matthews_corrcoef":
            return matthews_corrcoef(y, answers, sample_weight=sample_weight)
        return f1_score(y, answers, average="macro", sample_weight=sample_weight)

    scorer = TargetScorer(task, scoring)
    rows = scorer.deviations([found])[0]
    if "unweighted" not in str(scoring):
        assert scorer._counted(found) is not None
    expected = bootstrapped(task, found, metric, rng)
    assert np.sqrt(rows @ rows) == pytest.approx(expected, rel=0.45)


def test_deviations_of_counted_scores_take_a_call_for_each_group(problem):
    task, found = problem
    calls = []

    def counted(y, answers, sample_weight=None):
        calls.append(len(y))
        return f1_score(y, answers, average="macro", sample_weight=sample_weight)

    TargetScorer(task, make_scorer(counted)).deviations([found] * 5)
    assert len(calls) < 5 * 40
    assert sorted(calls)[len(calls) // 4] <= 9  # a row for each pair of labels


def ignores_weights(y, answers, **options):
    return f1_score(y, answers, average="macro")


def weighed(y, answers, sample_weight=None):
    own = np.linspace(0.1, 2, len(y))
    return f1_score(y, answers, average="macro", sample_weight=own)


def worst_recall(y, answers, sample_weight=None):
    return recall_score(
        y, answers, average=None, sample_weight=sample_weight, labels=np.unique(y)
    ).min()


def passes(y, answers, sample_weight=None):
    return float(accuracy_score(y, answers, sample_weight=sample_weight) > 0.6)


@pytest.mark.parametrize("metric", [ignores_weights, weighed, worst_recall, passes])
def test_scorers_of_more_than_smooth_counts_are_drawn(metric, rng):
    """Also where a perfect model would hide it."""
    names = [f"class {i}" for i in range(6)]
    y = rng.choice(names, 60)
    task = Task([f"text {i}" for i in range(60)], y)
    sure, weak = (student(rng, y, names, skill) for skill in (0.9999, 0.3))
    scorer = TargetScorer(task, make_scorer(metric))
    drawn = TargetScorer(task, make_scorer(metric))
    drawn._counted = lambda predictions: None
    found, expected = (it.deviations([sure, weak]) for it in (scorer, drawn))
    np.testing.assert_allclose(found[1], expected[1], atol=1e-9)
    assert scorer.score(weak) == drawn.score(weak)


def test_a_part_without_rows_of_a_class_is_left_out(rng):
    def geometric(y, answers, sample_weight=None):
        if len(np.unique(y)) < 2:
            raise ZeroDivisionError("class without rows")
        found = recall_score(y, answers, average=None, sample_weight=sample_weight)
        return np.prod(found)

    y = np.array(["a"] * 40 + ["b"])
    task = Task([f"text {i}" for i in range(41)], y)
    found = student(rng, y, ["a", "b"])
    rows = TargetScorer(task, make_scorer(geometric)).deviations([found])
    assert np.isfinite(rows).all()
    assert (rows != 0).sum() > 10


def test_counted_scores_are_those_of_an_exact_one(rng):
    """Accuracy depends on counts alone, and its deviations are known otherwise."""
    names = ["a", "b", "c", "d"]
    y = rng.choice(names[:3], 200)
    task = Task([f"text {i}" for i in range(200)], y)
    for skill in (0.2, 0.95):
        found = student(rng, y, names, skill)  # "d" is no class of the target
        scorer = TargetScorer(task, "accuracy")
        right, counted = scorer.right(found), scorer._counted(found)
        part = rng.permutation(200)[:150]
        assert counted.expected(np.exp(found.values)) == pytest.approx(
            right.mean(), abs=2e-3
        )
        assert counted.expected(np.exp(found.values), part) == pytest.approx(
            right[part].mean(), abs=2e-3
        )


def test_labels_that_the_target_lacks_are_wrong(problem):
    task, predictions = problem
    strange = Predictions("label", ("a", "b", "zzz"), predictions.values)
    rows = task.targets.proba.argmax(1)
    right = np.exp(predictions.values)[np.arange(N_SAMPLES), rows]
    found = TargetScorer(task, "accuracy").score(strange)
    assert found == pytest.approx(np.where(rows == 2, 0, right).mean())


def test_the_most_likely_answer_on_request(problem):
    task, predictions = problem
    names = np.array(predictions.names)[predictions.values.argmax(1)]
    found = TargetScorer(task, "accuracy", expected=False).score(predictions)
    assert found == accuracy_score(task.y, names)


def test_numbers_are_expected_over_their_spread(rng):
    y = rng.normal(size=200)
    task = Task([f"text {i}" for i in range(200)], y)
    values = y + 0.5
    sure = Predictions("number", (), values, np.zeros(200))
    unsure = Predictions("number", (), values, np.full(200, 2.0))
    scoring = make_scorer(mean_squared_error, greater_is_better=False)
    assert TargetScorer(task, scoring).score(sure) == pytest.approx(-0.25)
    found = TargetScorer(task, scoring).score(unsure)
    assert found == pytest.approx(-0.25 - 4, rel=0.05)
    plain = TargetScorer(task, scoring, expected=False).score(unsure)
    assert plain == pytest.approx(-0.25)


def test_spread_of_numbers_comes_from_the_students(texts):
    y = np.linspace(0.25, 2, 8)
    for embedder in (
        MomentEmbedder(TINY, reference=texts),
        TuPaTEEmbedder(TINY, max_epochs=1),
    ):
        found = embedder.fit(texts, y).student_.predictions(texts)
        assert found.spread.shape == (8,)
        assert (found.spread > 0).all()


def test_free_texts_are_scored_by_exact_match_and_token_f1(texts):
    answers = ["red door", "blue"] * 4
    tasks = [
        Task(texts, answers, kind="text", name="same"),
        Task(texts, ["green", "the sky"] * 4, kind="text", name="other"),
    ]
    embedder = TuPaTEEmbedder(TINY, max_epochs=8)
    target = Task(texts, answers, kind="text")
    ranker = StudentRanker(embedder, scoring="exact_match").fit(tasks)
    scores = ranker.decision_function([target])[0]
    nats = ranker.students_[0].log_likelihood(texts, answers)
    assert scores[0] == pytest.approx(np.exp(nats).mean(), rel=1e-5)
    assert scores[0] > scores[1]
    ranker.set_params(scoring="token_f1")
    assert np.isfinite(ranker.decision_function([target])).all()


@pytest.mark.parametrize(
    ("scoring", "equally"),
    [
        ("accuracy", False),
        ("neg_log_loss", False),
        ("f1_weighted", False),
        ("balanced_accuracy", True),
        ("recall_macro", True),
        ("f1_macro", True),
        ("matthews_corrcoef", True),
        (make_scorer(balanced_accuracy_score), True),
        (lambda est, X, y: balanced_accuracy_score(y, est.predict(X)), True),
        (lambda est, X, y: accuracy_score(y, est.predict(X)), False),
        (lambda est, X, y: 1 / 0, False),
    ],
)
@pytest.mark.parametrize("classes", [["a", "b"], [1, 0]])
def test_scorers_that_weigh_classes_equally_are_told_by_what_they_do(
    scoring, equally, classes
):
    assert weighs_classes_equally(scoring, np.array(classes)) == equally


def test_one_class_has_no_weights():
    assert not weighs_classes_equally("balanced_accuracy", np.array(["a"]))


def test_ties_disappear(texts, labels):
    """Students that answer alike differ in how sure they are."""
    other = [*labels[:-1], "neg" if labels[-1] == "pos" else "pos"]
    tasks = [Task(texts, labels), Task(texts, other)]
    ranker = StudentRanker(MomentEmbedder(TINY, alpha=10.0)).fit(tasks)
    target = Task(["what joy it was"], ["pos"], classes=["neg", "pos"])
    scores = ranker.decision_function([target])[0]
    assert scores[0] != scores[1]
