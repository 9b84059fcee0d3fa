"""Targets without labels: what is said, and what is not."""

import numpy as np
import pytest

from fute_sklearn import MomentEmbedder, rank_models
from fute_sklearn.embedders._student import Predictions
from fute_sklearn.exceptions import ModelLabelWarning
from fute_sklearn.ranking._without_labels import agreements

from .test_confidence import Noisy, film_texts


@pytest.fixture(scope="module")
def films():
    return film_texts(300, 0)[0], film_texts(100, 1)[0]


def ranked(models, films, **options):
    texts, X = films
    return rank_models(models, X, texts=texts, embedder=MomentEmbedder(), **options)


def test_no_ranking_without_labels(films):
    models = {f"m{i}": Noisy(0.1 * i, i) for i in range(5)}
    models["noise"] = Noisy(0.5, 9)
    table = ranked(models, films)
    assert list(table.columns) == ["agreement"]
    assert table.index[-1] == "noise"
    assert table["agreement"].is_monotonic_decreasing
    assert table.attrs["verdict"].startswith("no ranking")
    assert "nearness" not in table.attrs["verdict"]
    assert table.attrs["n_samples"] == 100
    assert 0.5 < table.attrs["text_distance"] < 2


def test_models_trained_on_texts_like_these_are_near(films):
    models = {"film": Noisy(0.1, 0), "food": Noisy(0.2, 1), "unknown": Noisy(0.3, 2)}
    near = film_texts(200, 5)[0]
    far = [f"the soup at table {i} was cold, and the waiter rude" for i in range(200)]
    table = ranked(models, films, training_texts={"food": far, "film": near})
    found = table["training_distance"]
    assert 0 < found["film"] < 0.3 * found["food"]
    assert np.isnan(found["unknown"])
    assert "nearness to the training texts" in table.attrs["verdict"]
    # Ten texts of a kind are hardly farther than two hundred.
    rng = np.random.default_rng(0)
    drawn = [rng.choice(near, 10, replace=False).tolist() for _ in range(20)]
    few = [ranked(models, films, training_texts={"film": some}) for some in drawn]
    median = np.median([table["training_distance"]["film"] for table in few])
    assert median < found["film"] + 0.5
    single = ranked(models, films, training_texts={"film": near[:1]})
    assert np.isnan(single["training_distance"]["film"])


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"other": ["a text"]}, ValueError, r"training_texts holds \['other'\]"),
        ({"a": []}, ValueError, r"training_texts\['a'\] is empty"),
        ({"a": "a text"}, TypeError, r"training_texts\['a'\] is one string"),
        ([["a text"]], TypeError, "expected a dict of texts"),
    ],
)
def test_training_texts_that_cannot_be_used(given, error, message, films):
    models = {"a": Noisy(0.1, 0), "b": Noisy(0.2, 1)}
    with pytest.raises(error, match=message):
        ranked(models, films, training_texts=given)


def test_with_labels_training_texts_are_of_no_use(films):
    texts, X = films
    models = {"a": Noisy(0.1, 0), "b": Noisy(0.2, 1)}
    known = {"a": X}
    with pytest.raises(ValueError, match="of use without labels only"):
        rank_models(models, X, ["good", "bad"] * 50, texts=texts, training_texts=known)


def test_agreement_is_a_correlation_beyond_label_frequencies():
    rng = np.random.default_rng(0)
    p = rng.random(50)
    columns = [
        np.column_stack(pair)
        for pair in ((p, 1 - p), (0.3 * p, 1 - 0.3 * p), (1 - p, p))
    ]
    found = [Predictions("label", ("a", "b"), np.log(one)) for one in columns]
    np.testing.assert_allclose(agreements(found[:2]), 1)
    # With the contrary model: the others' mean is that of the first or the last.
    np.testing.assert_allclose(agreements([found[0], found[2]]), -1)
    flat = Predictions("label", ("a", "c"), np.log(np.full((50, 2), 0.5)))
    np.testing.assert_allclose(agreements([*found[:2], flat]), [1, 1, 0], atol=1e-12)


def test_models_that_cannot_be_compared(films):
    def broken(texts: list[str]) -> list[str]:
        raise RuntimeError("no more")

    models = {"a": Noisy(0.1, 0), "b": Noisy(0.2, 1), "broken": broken}
    numbers = {"numbers": [0.5 + i for i in range(300)]}
    with pytest.warns(ModelLabelWarning, match="2 of 4 models failed, as 'broken'"):
        table = ranked({**models, **numbers}, films)
    assert table["error"].notna().tolist() == [False, False, True, True]
    with pytest.raises(ValueError, match="1 models label texts"):
        ranked({"a": models["a"]}, films)


@pytest.mark.parametrize(
    "options",
    [{"baselines": ["prior"]}, {"n_labelled": 3}, {"label_names": "match"}],
)
def test_what_needs_labels(options, films):
    with pytest.raises(ValueError, match="y is None: labels are needed"):
        ranked({"a": Noisy(0.1, 0), "b": Noisy(0.2, 1)}, films, **options)
