"""Rankers, rank_models, pipelines and searches."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import Normalizer

from fute_sklearn import (
    ModelRanker,
    MomentEmbedder,
    StudentRanker,
    Task,
    TaskVectorizer,
    TaskVectors,
    TuPaTEEmbedder,
)
from fute_sklearn.exceptions import (
    FingerprintMismatchError,
    LabelMismatchWarning,
)
from fute_sklearn.metrics import ndcg_scorer, spearman_score
from fute_sklearn.ranking import _model_ranker
from fute_sklearn.testing import TINY_SURROGATE as TINY

E = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


def tasks_of(texts):
    rng = np.random.default_rng(0)
    return [
        Task(texts, np.roll(["pos", "neg"] * 4, i % 2), name=f"t{i}")
        if i < 2
        else Task(texts, rng.permutation(["pos", "neg"] * 4), name=f"t{i}")
        for i in range(6)
    ]


def test_metrics_of_the_ranker():
    targets = [[2.0, 0.0]]
    cosine = ModelRanker().fit(E, names=["z", "a", "m"])
    assert cosine.model_names_.tolist() == ["z", "a", "m"]
    np.testing.assert_allclose(
        cosine.decision_function(targets), [[1, 0, np.sqrt(0.5)]]
    )
    assert cosine.rank(targets).tolist() == [["z", "m", "a"]]
    dot = ModelRanker("dot").fit(E)
    np.testing.assert_allclose(dot.decision_function(targets), [[2, 0, 2]])
    assert dot.model_names_.tolist() == ["model0", "model1", "model2"]
    far = ModelRanker("euclidean").fit(E).decision_function(targets)
    np.testing.assert_allclose(far, [[-1, -np.sqrt(5), -np.sqrt(2)]])
    centred = ModelRanker(center=True).fit(E + 5).decision_function(E[:1] + 5)
    assert centred[0, 0] == pytest.approx(1)


def test_the_best_few_are_the_head_of_the_ranking():
    rng = np.random.default_rng(0)
    vectors = rng.integers(-2, 3, (200, 3)).astype(float)  # many ties
    ranker = ModelRanker("dot").fit(vectors)
    targets = rng.integers(-2, 3, (5, 3)).astype(float)
    whole = ranker.rank(targets)
    for top in (1, 7, 200, 500):
        np.testing.assert_array_equal(ranker.rank(targets, top=top), whole[:, :top])
    for bad in (0, 1.5):
        with pytest.raises(ValueError, match="positive int"):
            ranker.rank(targets, top=bad)


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("center", [False, True])
def test_half_precision_and_mapped_files_rank_alike(
    metric, center, tmp_path, monkeypatch
):
    monkeypatch.setattr(_model_ranker, "EXACT_NUMBERS", 0)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(5000, 8)).astype(np.float16)
    target = rng.normal(size=(2, 8))
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    found = ModelRanker(metric, center=center).fit(mapped)
    assert np.shares_memory(found.embeddings_, mapped)
    exact = ModelRanker(metric, center=center).fit(vectors.astype(float))
    np.testing.assert_allclose(
        found.decision_function(target),
        exact.decision_function(target),
        rtol=1e-4,
        atol=1e-4,
    )


def test_single_precision_rows_are_never_copied(monkeypatch):
    monkeypatch.setattr(_model_ranker, "EXACT_NUMBERS", 0)
    vectors = np.eye(4, dtype=np.float32)
    ranker = ModelRanker(center=True).fit(vectors)
    assert np.shares_memory(ranker.embeddings_, vectors)
    assert ranker.decision_function(np.eye(4)).dtype == np.float32


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_near_rows_with_much_in_common_are_told_apart(metric):
    rng = np.random.default_rng(0)
    vectors = (100 + 0.05 * rng.normal(size=(200, 64))).astype(np.float32)
    targets = vectors[:50].astype(float) + 1e-3 * rng.normal(size=(50, 64))
    found = ModelRanker(metric).fit(vectors).decision_function(targets)
    np.testing.assert_array_equal(found.argmax(1), np.arange(50))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, float])
def test_rows_that_are_no_numbers_are_refused(dtype):
    bad = np.ones((3, 2), dtype)
    bad[1, 1] = np.inf
    with pytest.raises(ValueError, match="NaN or infinity"):
        ModelRanker().fit(bad)


def test_gains_columns_are_matched_by_name():
    ranker = ModelRanker("dot").fit(E, names=["z", "a", "m"])
    gains = pd.DataFrame({"a": [0.0], "m": [1.0], "z": [1.0]})
    assert ranker.score([[1.0, 0.0]], gains) == pytest.approx(1)
    with pytest.raises(ValueError, match=r"lack \[.z.\]"):
        ranker.score([[1.0, 0.0]], gains[["a", "m"]])
    with pytest.raises(ValueError, match="2 columns for 3 models"):
        ranker.score([[1.0, 0.0]], [[1, 2]])


def past(rng, count=30, similar=0.2, n_models=6):
    """Past tasks of three kinds, whose gains depend on the kind or not."""
    kind = np.arange(count) % 3
    embeddings = np.eye(3)[kind] + 0.1 * rng.standard_normal((count, 3))
    gains = 0.5 + 0.05 * rng.standard_normal(count)[:, None]
    gains = gains + 0.05 * np.arange(n_models)
    gains += similar * rng.standard_normal((3, n_models))[kind]
    return embeddings, gains + 0.02 * rng.standard_normal((count, n_models))


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_similar_past_tasks_count_where_they_tell_something(metric):
    rng = np.random.default_rng(0)
    embeddings, gains = past(rng, 33)
    ranker = ModelRanker(metric).fit(embeddings[:30], gains[:30])
    assert ranker.similarity_weight_ > 0.5
    table = ranker.past_results_
    assert table.loc["with similarity", "error"] < 0.6 * table.loc["static", "error"]
    assert table.loc["with similarity", "spearman"] > table.loc["static", "spearman"]
    found = ranker.decision_function(embeddings[30:])
    static = np.tile(ranker.static_scores_, (3, 1))
    np.testing.assert_allclose(static[0], gains[:30].mean(0))
    assert spearman_score(gains[30:], found) > spearman_score(gains[30:], static) + 0.1


def test_the_static_list_stays_where_similarity_adds_nothing():
    """Never worse than the mean gains: over draws, the weight is nearly always 0."""
    weights = []
    for seed in range(30):
        embeddings, gains = past(np.random.default_rng(seed), similar=0.0)
        ranker = ModelRanker().fit(embeddings, gains)
        weights.append(ranker.similarity_weight_)
        if not ranker.similarity_weight_:
            found = ranker.decision_function(embeddings[:2])
            np.testing.assert_allclose(found, [gains.mean(0)] * 2)
    assert np.mean(np.array(weights) > 0) < 0.2
    few = ModelRanker().fit(E[:2], pd.DataFrame([[0.9, 0.1], [0.2, 0.8]]))
    assert few.similarity_weight_ == 0
    one = ModelRanker().fit(E[:1], [[0.9, 0.1]])
    assert one.predict(E[:1]) == one.model_names_[:1]
    assert one.past_results_["error"].isna().all()


def test_intervals_hold_for_tasks_like_the_past_ones():
    rng = np.random.default_rng(0)
    held = []
    for _ in range(40):
        embeddings, gains = past(rng, 60)
        ranker = ModelRanker().fit(embeddings[:30], gains[:30])
        low, high = ranker.predict_interval(embeddings[30:])
        held.append(np.mean((low < gains[30:]) & (gains[30:] < high)))
    assert 0.87 < np.mean(held) < 0.97
    low, _ = (
        ModelRanker().fit(embeddings[:8], gains[:8]).predict_interval(embeddings[:1])
    )
    assert np.isneginf(low).all()
    with pytest.raises(AttributeError, match="fit the ranker with their gains"):
        ModelRanker().fit(embeddings).predict_interval(embeddings)
    with pytest.raises(ValueError, match="level=2"):
        ranker.predict_interval(embeddings, 2)


def test_targets_unlike_all_past_tasks_get_the_static_list():
    rng = np.random.default_rng(0)
    embeddings, gains = past(rng)
    ranker = ModelRanker().fit(embeddings, gains)
    found = ranker.decision_function([[-1.0, -1.0, -1.0]])
    np.testing.assert_allclose(found, [gains.mean(0)])


@pytest.mark.parametrize(
    ("names", "message"),
    [(["a", "b"], "2 names"), (["a", "a", "b"], "several models")],
)
def test_bad_names(names, message):
    with pytest.raises(ValueError, match=message):
        ModelRanker().fit(E, names=names)


def test_other_spaces_are_refused():
    ranker = ModelRanker().fit(TaskVectors(E, "one"))
    ranker.decision_function(E)
    ranker.decision_function(TaskVectors(E, "one"))
    with pytest.raises(FingerprintMismatchError, match="random_state"):
        ranker.decision_function(TaskVectors(E, "two"))
    with pytest.raises(ValueError, match="3 features"):
        ranker.decision_function(np.eye(3))


def test_vectors_of_other_seeds_are_refused(texts, labels):
    embedder = TuPaTEEmbedder(TINY, space="parameters", max_epochs=1)
    one = clone(embedder).fit(texts, labels)
    two = clone(embedder).set_params(random_state=1).fit(texts, labels)
    ranker = ModelRanker().fit(one.embedding_[None])
    with pytest.raises(FingerprintMismatchError):
        ranker.decision_function(two.embedding_[None])


@pytest.mark.parametrize(
    "scoring",
    [
        "accuracy",
        "balanced_accuracy",
        "neg_log_loss",
        "f1_macro",
        "roc_auc",
        lambda est, X, y: float((est.predict(X) == y).mean()),
    ],
)
def test_students_are_ranked_by_any_scorer(scoring, texts, labels):
    swapped = ["neg" if x == "pos" else "pos" for x in labels]
    tasks = [Task(texts, labels, name="right"), Task(texts, swapped, name="wrong")]
    embedder = MomentEmbedder(TINY, reference=texts, alpha=0.01)
    ranker = StudentRanker(embedder, scoring=scoring).fit(tasks)
    assert ranker.model_names_.tolist() == ["right", "wrong"]
    assert ranker.predict([Task(texts, labels)]).tolist() == ["right"]
    gains = pd.DataFrame({"wrong": [0.1], "right": [0.9]})
    assert ranker.score([Task(texts, labels)], gains) == 1


def test_students_of_other_label_sets(texts, labels):
    three = Task(texts, ["pos", "neg", "other", "pos"] * 2, name="three")
    two = Task(texts, labels, name="two")
    embedder = MomentEmbedder(TINY, reference=texts)
    ranker = StudentRanker(embedder, scoring="neg_log_loss").fit([three, two])
    with pytest.warns(LabelMismatchWarning, match="'three' answers .'other'."):
        scores = ranker.decision_function([Task(texts, labels)])
    assert np.isfinite(scores).all()
    with pytest.warns(LabelMismatchWarning, match="'two' never answers .'other'."):
        scores = ranker.decision_function([three])
    assert np.isfinite(scores).all()


def test_students_of_numbers(texts):
    y = np.linspace(0.25, 2, 8)
    tasks = [Task(texts, y, name="up"), Task(texts, -y, name="down")]
    embedder = MomentEmbedder(TINY, reference=texts, alpha=0.01)
    ranker = StudentRanker(embedder, scoring="r2").fit(tasks)
    assert ranker.predict([Task(texts, y)]).tolist() == ["up"]
    with pytest.raises(ValueError, match="kind 'number'"):
        ranker.predict([Task(texts, ["a", "b"] * 4)])


def test_a_student_without_a_score_is_last(texts, labels):
    """The others' scores are kept; where none has one, an error says why."""
    other = ["neg" if label == "pos" else "pos" for label in labels]
    tasks = [Task(texts, labels, name="one"), Task(texts, other, name="two")]
    embedder = MomentEmbedder(TINY, reference=texts)

    def moody(refused, estimator, X, y):
        if estimator.predict(X)[0] in refused:
            raise RuntimeError("not today")
        return 1.0

    def ranker(*refused):
        scoring = partial(moody, refused)
        return StudentRanker(embedder, scoring=scoring, expected=False).fit(tasks)

    with pytest.warns(UserWarning, match="1 of 2 students.*'one': not today"):
        found = ranker(labels[0]).predict([Task(texts, labels)])
    assert found.tolist() == ["two"]
    with pytest.raises(ValueError, match="2 of 2 students"):
        ranker(*labels).decision_function([Task(texts, labels)])


def test_pipeline_of_the_contract(texts):
    tasks = tasks_of(texts)
    candidates = {f"m{i}": t for i, t in enumerate(tasks[:4])}
    pipe = make_pipeline(
        TaskVectorizer(TuPaTEEmbedder(TINY, max_epochs=1)), ModelRanker()
    )
    pipe.fit(list(candidates.values()), modelranker__names=list(candidates))
    # A data set labelled like a model is that model's nearest.
    assert pipe.predict([tasks[2]]).tolist() == ["m2"]
    gains = np.random.default_rng(0).random((2, 4))
    assert 0 < pipe.score(tasks[4:], gains) <= 1


def test_stock_steps_and_memory(texts, tmp_path):
    tasks = tasks_of(texts)
    pipe = Pipeline(
        [
            ("embed", TaskVectorizer(MomentEmbedder(TINY, reference=texts))),
            ("scale", Normalizer()),
            ("pca", PCA(2)),
            ("rank", ModelRanker("euclidean")),
        ],
        memory=str(tmp_path / "memory"),
    )
    pipe.fit(tasks, rank__names=[t.name for t in tasks])
    found = pipe.decision_function(tasks)
    assert found.shape == (6, 6)
    np.testing.assert_array_equal(pipe.fit(tasks).decision_function(tasks), found)


def test_pandas_output_of_the_vectorizer(texts):
    tasks = tasks_of(texts)
    est = TaskVectorizer(MomentEmbedder(TINY, reference=texts))
    frame = est.set_output(transform="pandas").fit_transform(tasks)
    assert frame.shape == (6, 34)
    assert ModelRanker().fit(frame).decision_function(frame).shape == (6, 6)


def test_tables_of_other_spaces_are_refused_behind_other_steps(texts):
    tasks = tasks_of(texts)
    frames = []
    for alpha in (0.1, 1.0):
        embedder = MomentEmbedder(TINY, reference=texts, alpha=alpha)
        est = TaskVectorizer(embedder).set_output(transform="pandas")
        frames.append(est.fit_transform(tasks))
    pca = PCA(2).fit(frames[0])
    for fitted in (pca, ModelRanker().fit(frames[0])):
        method = "transform" if fitted is pca else "decision_function"
        with pytest.raises(ValueError, match="feature names should match"):
            getattr(fitted, method)(frames[1])


def grid(texts, n_jobs=None):
    pipe = make_pipeline(
        TaskVectorizer(MomentEmbedder(TINY, reference=texts)), ModelRanker()
    )
    return GridSearchCV(
        pipe,
        {
            "taskvectorizer__embedder__alpha": [0.03, 0.3],
            "modelranker__metric": ["cosine", "dot"],
        },
        cv=KFold(2),
        scoring=ndcg_scorer,
        error_score="raise",
        n_jobs=n_jobs,
    )


def test_grid_search_over_embedder_and_ranker(texts):
    gains = np.random.default_rng(0).random((6, 5))
    search = grid(texts).fit(tasks_of(texts), gains)
    assert len(search.cv_results_["params"]) == 4
    assert 0 < search.best_score_ <= 1


def test_progress_inside_a_grid_search(texts, capsys):
    from sklearn.callback import ProgressBar

    gains = np.random.default_rng(0).random((6, 5))
    grid(texts).fit(tasks_of(texts), gains)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    search = grid(texts)
    search.set_callbacks(ProgressBar(max_propagation_depth=None))
    search.fit(tasks_of(texts), gains)
    assert "GridSearchCV" in capsys.readouterr().out


def test_progress_of_the_encoder_and_every_epoch(texts, labels):
    class Recorder:
        def __init__(self):
            self.names = []

        def setup(self, estimator, context):
            self.names.append("setup")

        def on_fit_task_begin(self, estimator, context):
            self.names.append(context.task_name)

        def on_fit_task_end(self, estimator, context):
            pass

        def teardown(self, estimator, context):
            self.names.append("teardown")

    recorder = Recorder()
    est = TuPaTEEmbedder(TINY, max_epochs=3).set_callbacks(recorder)
    est.fit(texts, labels)
    assert recorder.names == ["setup", "fit", *["step"] * 4, "teardown"]
    recorder.names.clear()
    vectorizer = TaskVectorizer(TuPaTEEmbedder(TINY, max_epochs=2))
    vectorizer.set_callbacks(recorder).fit(tasks_of(texts))
    assert recorder.names.count("step") == 3


@pytest.mark.parametrize("scoring", ["f1", "precision", "average_precision", "roc_auc"])
def test_scorers_see_the_labels_of_the_target(scoring, texts):
    y = [0, 1] * 4
    embedder = MomentEmbedder(TINY, reference=texts, alpha=0.01)
    ranker = StudentRanker(embedder, scoring=scoring)
    ranker.fit([Task(texts, y, name="right"), Task(texts, y[::-1], name="wrong")])
    assert ranker.predict([Task(texts, y)]).tolist() == ["right"]


def test_log_loss_where_a_declared_class_is_absent(texts):
    tasks = [Task(texts, ["a", "b"] * 4, classes=["a", "b", "c"], name="m")]
    embedder = MomentEmbedder(TINY, reference=texts)
    ranker = StudentRanker(embedder, scoring="neg_log_loss").fit(tasks)
    target = Task(texts, ["a", "b"] * 4, classes=["a", "b", "c"])
    assert np.isfinite(ranker.decision_function([target])).all()


def test_students_read_one_encoding_of_the_target(texts, labels, monkeypatch):
    from fute_sklearn import config_context
    from fute_sklearn._engine import _encoder

    tasks = [Task(texts, np.roll(labels, i), name=f"m{i}") for i in range(5)]
    ranker = StudentRanker(TuPaTEEmbedder(TINY, max_epochs=1)).fit(tasks)
    calls = []
    original = _encoder.encode_rows
    monkeypatch.setattr(
        _encoder, "encode_rows", lambda *a: calls.append(1) or original(*a)
    )
    with config_context(cache_dir=None):
        ranker.decision_function([Task(texts, labels)])
    assert len(calls) == 1


def test_lists_of_vectors_of_different_spaces_are_refused():
    vectors = [TaskVectors([1.0, 0.0], "one"), TaskVectors([0.0, 1.0], "two")]
    with pytest.raises(FingerprintMismatchError):
        ModelRanker().fit(vectors)


def test_gains_as_a_list_of_rows():
    ranker = ModelRanker().fit(E[:2], [np.array([0.9, 0.1]), np.array([0.2, 0.8])])
    assert ranker.model_names_.tolist() == ["model0", "model1"]
