"""Pictures of rankings and of maps of tasks."""

import sys

import numpy as np
import pytest

from fute_sklearn import ModelRanker, RankingDisplay, TaskMapDisplay, TaskVectors


@pytest.fixture
def pyplot():
    plt = pytest.importorskip("matplotlib.pyplot")
    yield plt
    plt.close("all")


def test_ranking_display(pyplot):
    gains = [0.9, 0.5, 0.7]
    display = RankingDisplay.from_predictions(gains, [3, 1, 2], names=["a", "b", "c"])
    points = display.points_.get_offsets()
    np.testing.assert_allclose(points, [[1, 0.9], [3, 0.5], [2, 0.7]])
    assert "Spearman 1.00" in display.ax_.get_title()
    ranker = ModelRanker("dot").fit(np.eye(3), names=["a", "b", "c"])
    _, ax = pyplot.subplots()
    other = RankingDisplay.from_estimator(ranker, [[3.0, 1.0, 2.0]], gains, ax=ax)
    assert other.ax_ is ax
    assert other.names == ["a", "b", "c"]
    with pytest.raises(ValueError, match="one target"):
        RankingDisplay.from_estimator(ranker, np.eye(3), gains)
    below = RankingDisplay.from_predictions([-0.9, -0.3, 0.1], [2, 1, 0])
    assert "Spearman -1.00, regret 1.000" in below.ax_.get_title()
    with pytest.raises(ValueError, match="same"):
        RankingDisplay.from_predictions([1, 2], [1, 2, 3])


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_task_map_display(method, pyplot):
    vectors = TaskVectors(np.random.default_rng(0).normal(size=(12, 6)), "one")
    families = ["svm"] * 6 + ["data set"] * 6
    display = TaskMapDisplay.from_embeddings(
        vectors, tasks=["film", "food"] * 6, families=families, method=method
    )
    assert display.positions.shape == (12, 2)
    labels = [t.get_text() for t in display.ax_.get_legend().get_texts()]
    assert labels == ["film", "food", "svm", "data set"]
    again = TaskMapDisplay.from_embeddings(
        vectors, tasks=["film", "food"] * 6, families=families, method=method
    )
    np.testing.assert_array_equal(display.positions, again.positions)


def test_task_map_refuses(pyplot):
    with pytest.raises(ValueError, match="as many"):
        TaskMapDisplay.from_embeddings(np.eye(3), tasks=["a"], families=["b"] * 3)
    with pytest.raises(ValueError, match="method='umap'"):
        TaskMapDisplay.from_embeddings(
            np.eye(3), tasks="abc", families="abc", method="umap"
        )


def test_missing_matplotlib_gives_a_hint(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"fute_sklearn\[plots\]"):
        RankingDisplay.from_predictions([1, 0], [1, 0])
