"""What is named is aligned by name; what cannot be aligned is refused."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from fute_sklearn import (
    ModelRanker,
    MTEWrapper,
    RankingDisplay,
    Task,
    TaskMapDisplay,
    load_embeddings,
    metrics,
    save_embeddings,
)
from fute_sklearn.exceptions import ModelLabelError

GAINS = {"svm": 0.9, "tree": 0.5, "bayes": 0.7}
SORTED = pd.Series({"svm": 3.0, "bayes": 2.0, "tree": 1.0})
FUNCTIONS = [
    metrics.ndcg_score,
    metrics.average_rank_loss,
    metrics.performance_rate_score,
    metrics.regret_loss,
    metrics.spearman_score,
]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    "gains",
    [
        GAINS,
        pd.Series(GAINS),
        pd.DataFrame([GAINS]),
        pl.DataFrame([GAINS]),
        pd.DataFrame([GAINS], index=["a task"]),
    ],
)
def test_metrics_align_by_name(function, gains):
    perfect = function([0.9, 0.5, 0.7], [3, 1, 2])
    assert function(gains, SORTED) == perfect
    assert function(gains, dict(SORTED)) == perfect
    assert function(gains, pd.DataFrame([SORTED])) == perfect
    # Without names on one side there is only the position.
    assert function(gains, [3, 1, 2]) == perfect
    assert function([0.9, 0.5, 0.7], SORTED) == function([0.9, 0.5, 0.7], [3, 2, 1])


def test_tasks_of_tables_are_aligned_too():
    gains = pd.DataFrame([[1, 0], [0, 1]], index=["p", "q"], columns=["a", "b"])
    scores = pd.DataFrame([[1, 0], [0, 1]], index=["q", "p"], columns=["b", "a"])
    assert metrics.spearman_score(gains, scores) == pytest.approx(1)
    with pytest.raises(ValueError, match="the scores' tasks"):
        metrics.spearman_score(gains, scores.rename({"p": "r"}))


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"svm": 1, "tree": 2}, r"lack \['bayes'\]"),
        ({"svm": 1, "tree": 2, "knn": 3}, r"have \['knn'\]"),
        (pd.Series([1, 2, 3]), "lack"),
        (pd.Series([1, 2, 3, 4], index=["svm", "svm", "tree", "bayes"]), "twice"),
    ],
)
def test_what_cannot_be_aligned_is_refused(scores, message):
    with pytest.raises(ValueError, match=message):
        metrics.spearman_score(GAINS, scores)


@pytest.mark.parametrize("name", ["detach", "columns", "index", "to_pylist", "dtype"])
def test_names_that_are_also_methods_are_names(name, texts):
    """pandas shows labels as attributes; they must not be taken for methods."""
    gains = {name: 0.9, "b": 0.5, "c": 0.1}
    scores = pd.Series({"c": 1.0, "b": 2.0, name: 3.0})
    assert metrics.spearman_score(gains, scores) == pytest.approx(1)
    assert metrics.spearman_score(pd.DataFrame([gains]), scores) == pytest.approx(1)
    labels = pd.Series(["a", "b"], index=[name, "other"])
    assert Task(pd.Series(["x", "y"], index=[name, "z"]), labels).targets.names == (
        "a",
        "b",
    )
    frame = pd.DataFrame({name: [0.2, 0.5], "b": [0.8, 0.5]})
    assert Task(["x", "y"], frame).targets.names == tuple(sorted([name, "b"]))


@pytest.mark.parametrize("function", [*FUNCTIONS, metrics.ranking_report])
def test_column_vectors_are_refused(function):
    with pytest.raises(ValueError, match="two candidates or more"):
        function(np.array([[0.9], [0.5]]), np.array([[1], [2]]))
    with pytest.raises(ValueError, match="two candidates or more"):
        function([0.5], [1])


@pytest.mark.parametrize("k", [0, -1, 1.5])
def test_senseless_k_is_refused(k):
    with pytest.raises(ValueError, match="positive int"):
        metrics.ndcg_score([0.9, 0.5], [1, 2], k=k)


def test_rankers_align_gains_in_fit_and_score():
    E = pd.DataFrame(np.eye(3), index=["z", "a", "m"])
    ranker = ModelRanker("dot").fit(E)
    assert ranker.model_names_.tolist() == ["z", "a", "m"]
    gains = pd.Series({"a": 0.0, "m": 0.0, "z": 1.0})
    assert ranker.score([[1.0, 0, 0]], gains) == pytest.approx(1)
    with pytest.raises(ValueError, match=r"have \['extra'\]"):
        ranker.score([[1.0, 0, 0]], pd.Series({**gains, "extra": 1}))
    names = list("zamqrsbcde")
    E = pd.DataFrame(np.eye(2).repeat(5, 0), index=names)
    gains = [1.0] * 5 + [0.0] * 5
    past = pd.DataFrame({"svm": gains, "tree": gains[::-1]}, names)
    learnt = ModelRanker("dot").fit(E, past := past.loc[list("qbzrcamsed")])
    assert learnt.similarity_weight_ > 0
    assert learnt.predict(E.to_numpy()).tolist() == ["svm"] * 5 + ["tree"] * 5
    # Targets are aligned with the rows of gains by the tasks' names.
    assert learnt.score(E, past) == pytest.approx(1)
    with pytest.raises(ValueError, match="the gains' rows"):
        learnt.score(E, past.rename({"m": "n"}))


def test_gains_follow_the_names_of_tasks(texts, labels):
    from fute_sklearn import MomentEmbedder, StudentRanker
    from fute_sklearn.testing import TINY_SURROGATE

    wrong = ["neg" if x == "pos" else "pos" for x in labels]
    tasks = [Task(texts, labels, name="one"), Task(texts, wrong, name="two")]
    embedder = MomentEmbedder(TINY_SURROGATE, reference=texts, alpha=0.01)
    ranker = StudentRanker(embedder).fit(tasks)
    gains = pd.DataFrame(
        [[1.0, 0.0], [0.0, 1.0]], index=["two", "one"], columns=["two", "one"]
    )
    assert ranker.score(tasks, gains) == pytest.approx(1)
    assert ranker.score(tasks, gains.to_numpy()) == pytest.approx(1)


def test_displays_align_by_name():
    plt = pytest.importorskip("matplotlib.pyplot")
    display = RankingDisplay.from_predictions(GAINS, SORTED)
    assert display.names == list(GAINS)
    assert "Spearman 1.00" in display.ax_.get_title()
    ranker = ModelRanker("dot").fit(np.eye(3), names=["bayes", "svm", "tree"])
    other = RankingDisplay.from_estimator(ranker, [[2.0, 3.0, 1.0]], GAINS)
    assert "Spearman 1.00" in other.ax_.get_title()
    E = pd.DataFrame(np.random.default_rng(0).normal(size=(4, 3)), index=list("abcd"))
    tasks = pd.Series(["two", "one", "one", "one"], index=list("dabc"))
    shown = TaskMapDisplay.from_embeddings(
        E, tasks=tasks, families=["f"] * 4, method="pca"
    )
    assert shown.tasks == ["one", "one", "one", "two"]
    with pytest.raises(ValueError, match="tasks are aligned by name"):
        TaskMapDisplay.from_embeddings(
            E, tasks=tasks.rename({"a": "x"}), families=["f"] * 4
        )
    plt.close("all")


def test_saved_tables_keep_their_names(tmp_path):
    path = tmp_path / "zoo.safetensors"
    save_embeddings(path, pd.DataFrame(np.eye(2), index=["svm", "tree"]))
    assert load_embeddings(path)[1] == ["svm", "tree"]


class Frame:
    """A model that returns a table, columns in an order of its own."""

    fingerprint = "frame"

    def __init__(self, library, classes=None):
        self.library = library
        if classes is not None:
            self.classes_ = np.array(classes)

    def predict_proba(self, X):
        return self.library.DataFrame({"pos": [0.9] * len(X), "neg": [0.1] * len(X)})

    def decision_function(self, X):
        return self.predict_proba(X)


@pytest.mark.parametrize("library", [pd, pl])
@pytest.mark.parametrize(
    ("own", "more"), [(["neg", "pos"], None), (None, ["neg", "pos"]), (None, None)]
)
def test_tables_of_probabilities_follow_the_classes(library, own, more, texts):
    model = Frame(library, own)
    for _ in range(2):  # the second time from the cache
        wrapper = MTEWrapper(
            model, response_method="predict_proba", classes=more, batch_size=3
        )
        task = wrapper.label(texts)
        assert task.targets.names == ("neg", "pos")
        np.testing.assert_allclose(task.targets.proba[0], [0.1, 0.9])
    scores = MTEWrapper(model, response_method="decision_function", classes=more)
    assert scores.label(texts).targets.label_names()[0] == "pos"


def test_tables_with_other_columns_are_refused(texts):
    with pytest.raises(ModelLabelError, match=r"columns \['pos', 'neg'\].*'no', 'yes'"):
        MTEWrapper(Frame(pd, ["no", "yes"]), response_method="predict_proba").label(
            texts
        )
    frame = pd.DataFrame({"b": [0.2, 0.5], "a": [0.8, 0.5]})
    task = Task(["one", "two"], frame, classes=["a", "b"])
    np.testing.assert_allclose(task.targets.proba[0], [0.8, 0.2])
    with pytest.raises(ValueError, match=r"classes are \['a', 'c'\]"):
        Task(["one", "two"], frame, classes=["a", "c"])
    # Columns that nobody has named go by position, as an array's do.
    plain = Task(["one", "two"], pd.DataFrame(frame.to_numpy()), classes=["b", "a"])
    assert plain == task


@pytest.mark.parametrize(
    ("scorer", "expected"),
    [
        (metrics.ndcg_scorer, 1.0),
        (metrics.performance_rate_scorer, 1.0),
        (metrics.regret_scorer, 0.0),
    ],
)
def test_scorers_align_gains_with_the_ranker(scorer, expected):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    ranker = make_pipeline(StandardScaler(), ModelRanker("dot"))
    ranker.fit(np.eye(3), modelranker__names=["z", "a", "m"])
    gains = pd.DataFrame({"a": [0.1], "m": [0.1], "z": [0.9]})
    assert scorer(ranker, [[1.0, 0, 0]], gains) == pytest.approx(expected)
    with pytest.raises(ValueError, match="lack"):
        scorer(ranker, [[1.0, 0, 0]], gains[["a", "m"]])


def test_a_report_keeps_what_can_be_computed():
    with (
        pytest.warns(UserWarning, match="ndcg cannot be computed"),
        pytest.warns(UserWarning, match="ndcg_exponential cannot be computed"),
        pytest.warns(UserWarning, match="performance_rate cannot be computed"),
    ):
        report = metrics.ranking_report([-0.5, -0.1], [1, 2])
    assert report["value"].isna().sum() == 3
    assert report.loc["spearman", "value"] == pytest.approx(1)


@pytest.mark.parametrize("columns", [[1.0, 2.0], [" svm", "tree "]])
def test_a_rankers_own_names_are_always_found_again(columns):
    gains = pd.DataFrame([[0.9, 0.1], [0.8, 0.2]], columns=columns)
    ranker = ModelRanker("dot").fit(np.eye(2), gains)
    assert ranker.score(np.eye(2), gains[columns[::-1]]) == pytest.approx(1)


def test_names_in_a_series_follow_the_index():
    E = pd.DataFrame(np.eye(3), index=["p", "q", "r"])
    names = pd.Series(["tree", "svm", "bayes"], index=["q", "p", "r"])
    assert ModelRanker().fit(E, names=names).model_names_.tolist() == [
        "svm",
        "tree",
        "bayes",
    ]
