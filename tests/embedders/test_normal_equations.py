"""The closed form is the ridge regression of the answers on the labelled texts."""

import warnings
from functools import reduce

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from fute_sklearn import (
    ModelRanker,
    MomentEmbedder,
    MTEWrapper,
    StudentClassifier,
    StudentRanker,
    StudentRegressor,
    Task,
    TaskVectorizer,
)
from fute_sklearn.embedders._moment_state import MomentState, fitted_to_target
from fute_sklearn.embedders._normal_equations import (
    ALPHAS,
    FeatureSpace,
    FeatureSums,
    RidgeSolution,
    TargetSums,
    functional_errors,
)
from fute_sklearn.exceptions import UnlabelledTextsWarning
from fute_sklearn.testing import TINY_SURROGATE as TINY

ALPHA = 0.3


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def many(rng):
    """Texts, some of them twice, with labels that depend on them."""
    words = "good bad film food slow fine dull joy sad room day night".split()
    texts = [" ".join(rng.choice(words, 4)) for _ in range(80)]
    texts += texts[:9]
    labels = ["pos" if "good" in x or "joy" in x else "neg" for x in texts]
    return texts, labels


def features_of(texts):
    embedder = MomentEmbedder(TINY, reference=["a"])
    return embedder.encode(texts).pooled().astype(float)


def stock_ridge(features, y, alpha=ALPHA):
    scaler = StandardScaler().fit(features)
    ridge = Ridge(alpha * len(features)).fit(scaler.transform(features), y)
    return lambda rows: ridge.predict(scaler.transform(rows))


def predicted(student, rows):
    solution = student.state_.solution
    return solution.predicted(solution.space.coordinates(rows), student.state_.alpha)


def test_the_student_is_ridge_regression(many):
    """Equality with scikit-learn's Ridge of free intercept, repeated texts and all."""
    texts, labels = many
    sign = np.where(np.array(labels) == "pos", 1.0, -1.0)
    stock = stock_ridge(features_of(texts), sign)
    others = features_of(["so fine a room", "dull day", "joy", "a film"])
    given = MomentEmbedder(TINY, alpha=ALPHA, reference=texts).fit(texts, labels)
    ranker = StudentRanker(MomentEmbedder(TINY, alpha=ALPHA))
    learnt = ranker.fit([Task(texts, labels), Task(texts, labels[::-1])]).students_[0]
    for student in (given.student_, learnt):
        found = predicted(student, others)
        np.testing.assert_allclose(found[:, 1], stock(others), atol=1e-8)
        np.testing.assert_allclose(found[:, 0], -stock(others), atol=1e-8)


def test_numbers_are_ridge_regression_too(many, rng):
    texts, _ = many
    y = rng.normal(3, 2, len(texts))
    est = MomentEmbedder(TINY, alpha=ALPHA, reference=texts).fit(texts, y)
    stock = stock_ridge(features_of(texts), y)
    np.testing.assert_allclose(
        est.student_.predict(texts), stock(features_of(texts)), rtol=1e-6
    )


def blended_ridge(features, y, space):
    """Ridge regression with a second moment that counts the space's as d texts."""
    count, width = features.shape
    mean = features.mean(0)
    second = (space.axes * space.values) @ space.axes.T
    second = second * np.outer(space.spread, space.spread)
    own = (features - mean).T @ (features - mean)
    second = (own + width * second) / (count + width)
    spread = np.sqrt(np.diag(second))
    rows = (features - mean) / spread
    second = second / np.outer(spread, spread)
    weights = np.linalg.solve(
        second + ALPHA * np.eye(width), rows.T @ (y - y.mean()) / count
    )
    return lambda others: (others - mean) / spread @ weights + y.mean()


def test_a_lone_student_blends_the_statistics_for_labels_only(many, rng):
    texts, labels = many
    others = features_of(["so fine a room", "dull day", "joy", "a film"])
    reference = [" ".join(rng.permutation("so many other words".split()))] * 3 + texts
    embedder = MomentEmbedder(TINY, alpha=ALPHA, reference=reference)
    sign = np.where(np.array(labels) == "pos", 1.0, -1.0)
    stock = blended_ridge(features_of(texts), sign, embedder.feature_space())
    lone = embedder.fit(texts, labels).student_
    np.testing.assert_allclose(predicted(lone, others)[:, 1], stock(others), atol=1e-8)
    numbers = rng.normal(3, 2, len(texts))
    stock = stock_ridge(features_of(texts), numbers)
    found = embedder.fit(texts, numbers).student_.predict(texts)
    np.testing.assert_allclose(found, stock(features_of(texts)), rtol=1e-6)


def test_numbers_are_no_labels(many):
    texts, labels = many
    student = StudentClassifier(MomentEmbedder(TINY, reference=texts))
    numbers = np.arange(len(texts)) / 7
    with pytest.raises(ValueError, match=r"Unknown label type.*StudentRegressor"):
        student.fit(texts, numbers)
    with pytest.raises(ValueError, match="Unknown label type"):
        student.fit(texts, iter(numbers.tolist()))
    whole = student.fit(texts, [float(label == "pos") for label in labels])
    assert whole.classes_.tolist() == [0.0, 1.0]
    table = pd.DataFrame({"a": 0.25, "b": 0.75}, index=range(len(texts)))
    assert len(student.fit(texts, table).classes_) == 2


def test_data_sets_alone_are_told_that_they_are_few(many):
    """Nobody let a model label texts, so that no warning speaks of unlabelled ones."""
    texts, labels = many
    tasks = [
        Task(texts[i : i + 4], labels[i : i + 4], classes=["neg", "pos"])
        for i in (0, 4, 8)
    ]
    with pytest.warns(UnlabelledTextsWarning, match="tasks' own 12 texts") as found:
        vectorizer = TaskVectorizer(MomentEmbedder(TINY)).fit(tasks)
    assert len(found) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vectorizer.transform([Task(["so unlike"] * 4, ["pos", "neg"] * 2)])


def test_lone_students_of_numbers_do_not_overshoot():
    """With the shipped statistics alone, explained variance was -62 here."""
    rng = np.random.default_rng(0)
    words = "good bad film food slow fine dull joy sad room day night".split()
    texts = [" ".join(rng.choice(words, rng.integers(1, 30))) for _ in range(600)]
    lengths = np.array([len(text) for text in texts], dtype=float)
    student = StudentRegressor(MomentEmbedder()).fit(texts[:400], lengths[:400])
    assert student.score(texts[400:], lengths[400:]) > 0.8


@pytest.mark.parametrize("encoding", ["label", "text"])
def test_the_dot_product_is_the_expected_margin(many, encoding):
    """Also where the model has labelled other texts than the reference."""
    texts, labels = many
    target = Task(["a fine room", "sad day", "joy at night"], ["pos", "neg", "pos"])
    model = Task(texts, labels, origin="model")
    for reference in (texts, ["some other texts", "of films", "and food", *texts[:9]]):
        embedder = MomentEmbedder(
            TINY, alpha=ALPHA, reference=reference, target_encoding=encoding
        )
        vectors = [
            np.asarray(embedder.embed([task])[0].embedding_, dtype=float)
            for task in (model, target)
        ]
        if encoding == "label":
            stock = stock_ridge(
                features_of(texts), np.where(np.array(labels) == "pos", 1.0, -1.0)
            )
            margin = np.mean(stock(features_of(target.texts)) * [1, -1, 1])
            assert vectors[0] @ vectors[1] == pytest.approx(2 * margin, rel=1e-4)
        else:
            assert vectors[0].shape == vectors[1].shape
            flipped = Task(texts, labels[::-1], origin="model")
            other = np.asarray(embedder.embed([flipped])[0].embedding_, dtype=float)
            assert vectors[0] @ vectors[1] > other @ vectors[1]


@pytest.mark.parametrize("classes", [["a", "b"], ["a", "b", "c", "good day"]])
def test_label_texts_of_any_number_are_seen_from_their_mean(many, classes, rng):
    """A data set unlike the reference is not one product of two means."""
    texts, _ = many
    embedder = MomentEmbedder(
        TINY, alpha=ALPHA, reference=texts, target_encoding="text"
    )
    rows = ["a fine room", "sad day", "joy at night", "slow food", "film"]
    task = Task(rows, rng.choice(classes, len(rows)), classes=classes)
    vector = np.asarray(embedder.embed([task])[0].embedding_, dtype=float)
    mean, spread = features_of(texts).mean(0), features_of(texts).std(0)
    features, words = ((features_of(x) - mean) / spread for x in (rows, classes))
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    values, axes = np.linalg.eigh(
        np.cov(features_of(texts).T / spread[:, None], ddof=0)
    )
    whitening = axes / np.sqrt(np.clip(values, 0, None) + ALPHA) @ axes.T
    answers = task.targets.proba @ words
    moments = features.T @ (answers - words.mean(0)) / len(rows)
    expected = np.vstack([whitening @ moments, answers.mean(0)])
    np.testing.assert_allclose(
        vector, expected.ravel(order="F"), rtol=1e-4, atol=1e-5 * abs(expected).max()
    )


def test_a_pipeline_learns_the_reference_from_the_models(many):
    """No statistics of other texts: the surrogate ships none."""
    texts, labels = many
    flipped = ["neg" if label == "pos" else "pos" for label in labels]
    models = [
        Task(texts, labels, name="right", origin="model"),
        Task(texts, flipped, name="wrong", origin="model"),
    ]
    vectorizer = TaskVectorizer(MomentEmbedder(TINY, alpha=ALPHA)).fit(models)
    target = Task(["so good a film", "slow food", "a joy"], ["pos", "neg", "pos"])
    ranker = ModelRanker("dot").fit(vectorizer.embeddings_, names=["right", "wrong"])
    with pytest.warns(UnlabelledTextsWarning, match="unlabelled texts are unlike"):
        vectorizer.transform([Task(["zzz qqq xx"] * 2, ["pos", "neg"])])
    scores = ranker.decision_function(vectorizer.transform([target]))[0]
    stock = stock_ridge(
        features_of(texts), np.where(np.array(labels) == "pos", 1.0, -1.0)
    )
    margin = np.mean(stock(features_of(target.texts)) * [1, -1, 1])
    np.testing.assert_allclose(scores, [2 * margin, -2 * margin], rtol=1e-4)
    assert vectorizer.embedder.reference is None


def test_what_the_space_depends_on_is_in_its_name(many):
    texts, labels = many
    names = set()
    for change in (
        {},
        {"alpha": 0.2},
        {"target_encoding": "text"},
        {"dtype": "bfloat16"},
        {"dtype": "int8"},
    ):
        names.add(MomentEmbedder(TINY, reference=texts, **change).fit(texts, labels))
    assert len({est.fingerprint_ for est in names}) == 5
    other = MomentEmbedder(TINY, reference=texts[:-1]).fit(texts, labels)
    assert other.fingerprint_ not in {est.fingerprint_ for est in names}
    shuffled = MomentEmbedder(TINY, reference=texts[::-1]).fit(texts, labels)
    assert shuffled.fingerprint_ in {est.fingerprint_ for est in names}


# Sums ---------------------------------------------------------------------------


def solved(features, targets, name="x"):
    space = FeatureSpace.of(FeatureSums.of(features), name)
    return RidgeSolution.of(space, TargetSums.of(features, [targets])[0])


@pytest.fixture
def problem(rng):
    features = rng.normal(size=(60, 7)) @ rng.normal(size=(7, 7)) + 3
    targets = np.tanh(features @ rng.normal(size=(7, 2))) + 0.3
    return features, targets, rng.normal(size=(5, 7)) + 3


@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_shifts_and_scales_of_the_features_change_nothing(problem, shift):
    features, targets, rows = problem
    scale = np.geomspace(0.01, 100, 7)
    plain = solved(features, targets)
    moved = solved(features * scale + shift, targets)
    np.testing.assert_allclose(
        plain.predicted(plain.space.coordinates(rows), 0.1),
        moved.predicted(moved.space.coordinates(rows * scale + shift), 0.1),
        rtol=1e-8,
        atol=1e-8,
    )


@pytest.mark.parametrize("cuts", [[20, 40], [1, 2, 59], [30]])
def test_sums_of_parts_merge_into_those_of_the_whole(problem, cuts):
    features, targets, rows = problem
    blocks = np.split(np.arange(60), cuts)
    space = FeatureSpace.of(
        reduce(FeatureSums.merged, [FeatureSums.of(features[b]) for b in blocks]), "x"
    )
    sums = reduce(
        TargetSums.merged,
        [TargetSums.of(features[b], [targets[b]])[0] for b in blocks],
    )
    merged, whole = RidgeSolution.of(space, sums), solved(features, targets)
    np.testing.assert_allclose(
        merged.predicted(merged.space.coordinates(rows), 0.1),
        whole.predicted(whole.space.coordinates(rows), 0.1),
        rtol=1e-10,
    )
    np.testing.assert_allclose(merged.noise, whole.noise, rtol=1e-8)


def test_weighted_sums_count_rows_so_often(problem):
    features, targets, _ = problem
    counts = np.arange(60) % 3 + 1
    weighted = TargetSums.of(features, [targets], counts.astype(float))[0]
    repeated = TargetSums.of(
        np.repeat(features, counts, 0), [np.repeat(targets, counts, 0)]
    )[0]
    for name in ("count", "feature_mean", "mean", "cross", "scatter"):
        np.testing.assert_allclose(
            getattr(weighted, name), getattr(repeated, name), rtol=1e-10, atol=1e-10
        )


def test_the_estimated_error_is_the_true_one(rng):
    """Over many draws of the texts, its mean is the functional's mean squared error."""
    d, n = 6, 80
    mixing = rng.normal(size=(d, d))
    true = np.array([1.0, -1, 0.5, 0, 0, 2])[:, None]
    direction = rng.normal(size=d)
    scales = None
    estimates, errors = [], []
    for _ in range(400):
        features = rng.normal(size=(n, d)) @ mixing
        targets = features @ true + rng.normal(0, 3, size=(n, 1))
        solution = solved(features, targets)
        scales = solution.space.spread
        moments = solution.space.axes.T @ (direction / scales)[:, None]
        estimates.append(functional_errors([solution], moments)[0])
        wanted = direction @ true[:, 0]
        found = [np.sum(solution.weights(a) * moments) for a in ALPHAS]
        errors.append((np.array(found) - wanted) ** 2)
    estimate, error = np.mean(estimates, 0), np.mean(errors, 0)
    np.testing.assert_allclose(estimate, error, rtol=0.35, atol=0.1 * error.max())
    assert np.argmin(estimate) == pytest.approx(np.argmin(error), abs=2)


def test_students_over_the_same_texts_share_their_penalty(many):
    texts, labels = many
    flipped = ["neg" if label == "pos" else "pos" for label in labels]
    tasks = [
        Task(texts, labels),
        Task(texts, flipped),
        Task(texts[:40], labels[:40]),
        Task(texts[:40], flipped[:40]),
    ]
    ranker = StudentRanker(MomentEmbedder(TINY)).fit(tasks)
    states = [student.state_ for student in ranker.students_]
    names = [student.label_names_ for student in ranker.students_]
    target = Task(["so good a film", "slow food"], ["pos", "neg"])
    encoded = ranker.students_[0].embedder.encode(target.texts)
    weights = np.full(2, 0.5)
    found = fitted_to_target(states, names, encoded, target.targets, weights)
    alphas = [state.alpha for state in found]
    assert alphas[0] == alphas[1]
    assert alphas[2] == alphas[3]
    assert set(alphas) <= set(ALPHAS)
    fixed = [MomentState.of_alpha(state.solution, 0.7) for state in states]
    kept = fitted_to_target(fixed, names, encoded, target.targets, weights)
    assert {state.alpha for state in kept} == {0.7}


def test_a_model_that_is_wrapped_says_so(texts):
    class Rule:
        def predict(self, X):
            return ["pos" if "fine" in x else "neg" for x in X]

    task = MTEWrapper(Rule()).label(texts)
    assert task.origin == "model"
    assert task.take([0, 1]).origin == "model"
    assert task.with_classes(["other"]).origin == "model"
    plain = Task(texts, task.y)
    assert plain.origin == "data"
    assert plain.key != task.key
    with pytest.raises(ValueError, match="origin='zoo'"):
        Task(texts, task.y, origin="zoo")
