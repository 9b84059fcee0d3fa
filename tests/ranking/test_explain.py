"""Explanations of rankings: contributions of texts and labels add up."""

import itertools

import numpy as np
import pandas as pd
import pytest

from fute_sklearn import (
    ExplanationDisplay,
    MomentEmbedder,
    Task,
    explain,
    rank_models,
)

from .test_confidence import BAD, GOOD, Noisy, film_texts


class Half:
    """Right on texts with some words, else always "good"."""

    def __init__(self, words):
        self.words = words

    def predict(self, X):
        return ["bad" if any(w in x for w in self.words) else "good" for x in X]


@pytest.fixture(scope="module")
def ranking():
    texts, _ = film_texts(400, 0)
    X, y = film_texts(200, 1)
    models = {"all": Half(BAD), "few": Half(BAD[:1]), "noise": Noisy(0.5, 0)}
    embedder = MomentEmbedder(alpha=0.1)
    return rank_models(models, X, y, texts=texts, embedder=embedder)


def test_contributions_add_up(ranking):
    found = explain(ranking, "all", "few")
    gap = ranking.loc["all", "score"] - ranking.loc["few", "score"]
    assert found["contribution"].sum() == pytest.approx(gap)
    assert found.attrs["difference"] == pytest.approx(gap)
    labels = found.attrs["labels"].frame
    assert labels["contribution"].sum() == pytest.approx(gap)
    assert labels["n_rows"].sum() == len(found) == 200
    assert (found["contribution"].abs().diff().dropna() <= 1e-12).all()
    expected = (found["p_model"] - found["p_other"]) / 200
    np.testing.assert_allclose(found["contribution"], expected)
    # "few" calls four kinds of bad films good.
    assert labels.loc["bad", "contribution"] > abs(labels.loc["good", "contribution"])
    worst = found.head(20)
    assert (worst["label"] == "bad").all()
    back = explain(ranking, "few", "all")
    assert back.attrs["difference"] == pytest.approx(-gap)


def test_unlabelled_texts_that_showed_it(ranking):
    found = explain(ranking, "all", "few")
    seen = found.attrs["unlabelled"].frame
    differ = seen["answer_model"] != seen["answer_other"]
    assert (seen.loc[~differ, "contribution"] == 0).all()
    assert differ.head(50).all()
    # Probabilities that are cut off at 0 and 1 make a small difference.
    assert seen["contribution"].sum() == pytest.approx(
        found.attrs["difference"], abs=0.05
    )


def test_one_model_against_all_others(ranking):
    found = explain(ranking, "all")
    rest = ranking["score"][["few", "noise"]].mean()
    assert found.attrs["difference"] == pytest.approx(
        ranking.loc["all", "score"] - rest
    )
    assert found.attrs["other"] == "the others"
    assert list(found.attrs["unlabelled"].frame.columns) == [
        "text",
        "answer_model",
        "contribution",
    ]


def test_what_cannot_be_explained(ranking):
    with pytest.raises(KeyError, match="'some' is not ranked"):
        explain(ranking, "some")
    with pytest.raises(TypeError, match="without the attrs of a ranking"):
        explain(pd.DataFrame(), "all")
    texts, _ = film_texts(100, 0)
    X, y = film_texts(60, 1)
    models = {"a": Noisy(0.1, 0), "b": Noisy(0.3, 0)}
    embedder = MomentEmbedder(alpha=0.1)
    other = rank_models(models, X, y, texts=texts, embedder=embedder, scoring="roc_auc")
    with pytest.raises(ValueError, match="is no sum over the target's rows"):
        explain(other, "a")
    one = rank_models({"a": models["a"]}, X, y, texts=texts, embedder=embedder)
    with pytest.raises(ValueError, match="no other model"):
        explain(one, "a")


def test_soft_labels_of_the_target():
    texts, _ = film_texts(200, 0)
    X, y = film_texts(60, 1)
    proba = [[0.1, 0.9] if one == "good" else [0.7, 0.3] for one in y]
    table = rank_models(
        {"all": Half(BAD), "few": Half(BAD[:1])},
        Task(X, proba, classes=["bad", "good"]),
        texts=texts,
        embedder=MomentEmbedder(alpha=0.1),
    )
    assert set(explain(table, "all", "few")["label"]) == {"good", "bad"}


def test_balanced_accuracy_weighs_rows_by_class():
    texts, _ = film_texts(200, 0)
    X, y = film_texts(100, 1)
    rows = [i for i, label in enumerate(y) if label == "good" or i % 4 == 0]
    table = rank_models(
        {"all": Half(BAD), "few": Half(GOOD)},
        [X[i] for i in rows],
        [y[i] for i in rows],
        texts=texts,
        embedder=MomentEmbedder(alpha=0.1),
        scoring="balanced_accuracy",
    )
    gap = table.loc["all", "score"] - table.loc["few", "score"]
    assert explain(table, "all", "few").attrs["difference"] == pytest.approx(gap)


def test_the_picture(ranking):
    pytest.importorskip("matplotlib").use("Agg")
    display = ExplanationDisplay.from_explanation(
        explain(ranking, "all", "few"), n_texts=5
    )
    by_label, by_text = display.axes_
    assert len(by_label.patches) == 2
    assert len(by_text.patches) == 5
    assert "all against few: +" in display.figure_.get_suptitle()
    display.figure_.canvas.draw()
    for ax in display.axes_:
        told = [one for one in ax.get_xticklabels() if one.get_text()]
        boxes = [one.get_window_extent() for one in told]
        assert len(boxes) > 2
        assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))
    with pytest.raises(TypeError, match="of an explanation"):
        ExplanationDisplay.from_explanation(pd.DataFrame())
