"""What a ranking will cost: counts are exact, no model is asked twice, times add up."""

import time

import numpy as np
import pandas as pd
import pytest

from fute_sklearn import (
    MTEWrapper,
    Task,
    TuPaTEEmbedder,
    config_context,
    forecast,
    rank_models,
)
from fute_sklearn.exceptions import LabelMismatchError, ModelLabelError
from fute_sklearn.testing import TINY_SURROGATE

WORDS = ["fine", "dull", "film", "food", "day", "night", "good", "bad"]
RNG = np.random.default_rng(0)
TEXTS = [f"{' '.join(RNG.choice(WORDS, 5))} {i}" for i in range(300)]
X = ["a fine film", "a dull day", "fine food", "a dull night"]
Y = ["good", "bad", "good", "bad"]
EMBEDDER = TuPaTEEmbedder(TINY_SURROGATE, max_epochs=1, batch_size=16)


class Rule:
    def __init__(self, word, pause=0.0):
        self.word, self.pause, self.asked = word, pause, []

    def predict(self, X):
        self.asked += list(X)
        time.sleep(self.pause * len(X))
        return ["good" if self.word in x else "bad" for x in X]


def wrapped(*rules):
    return {
        rule.word: MTEWrapper(rule, fingerprint=rule.word, name=rule.word)
        for rule in rules
    }


@pytest.fixture
def folder(tmp_path):
    with config_context(cache_dir=tmp_path):
        yield tmp_path


@pytest.mark.parametrize("students", ["closed", "both"])
def test_every_model_is_asked_once_for_the_sample_and_then_for_the_rest(
    folder, students
):
    rule = Rule("fine")
    models = wrapped(rule, Rule("dull"))
    table = forecast(
        models, X, Y, texts=TEXTS, embedder=EMBEDDER, students=students, n_sample=40
    )
    assert len(rule.asked) == len(set(rule.asked)) == 40
    assert list(table.index) == ["label fine", "label dull", "encode", "students"]
    assert table.loc["label fine", "calls"] == 260
    assert table.loc["students", "calls"] == 2
    assert table.attrs["students"] == students
    assert (table[["seconds", "bytes"]] >= 0).all(axis=None)
    assert table.attrs["seconds"] == pytest.approx(table["seconds"].sum())
    rank_models(models, X, Y, texts=TEXTS, embedder=EMBEDDER, students="closed")
    assert len(rule.asked) == 300


def test_without_a_cache_a_model_is_asked_once_for_the_sample_too():
    rule = Rule("fine")
    with config_context(cache_dir=None):
        forecast(
            wrapped(rule, Rule("dull")),
            X,
            Y,
            texts=TEXTS,
            embedder=EMBEDDER,
            n_sample=40,
        )
    assert len(rule.asked) == 40


def test_seconds_of_a_slow_model_are_those_it_takes(folder):
    models = wrapped(Rule("fine", pause=0.002), Rule("dull"))
    table = forecast(models, X, Y, texts=TEXTS, embedder=EMBEDDER, n_sample=48)
    began = time.perf_counter()
    models["fine"].label(TEXTS)
    took = time.perf_counter() - began
    assert table.loc["label fine", "seconds"] == pytest.approx(took, rel=0.25)
    assert table.loc["label dull", "seconds"] < took / 4


def test_texts_and_tokens_to_encode_are_counted_and_nothing_is_left_after(folder):
    models = wrapped(Rule("fine"), Rule("dull"))
    surrogate = EMBEDDER.load_surrogate()
    table = forecast(models, X, Y, texts=TEXTS, embedder=EMBEDDER, n_sample=12)
    tokens = [len(row) for row in surrogate.tokenizer([*TEXTS, *X])["input_ids"]]
    width = surrogate.architecture.d_model * 4 + 8
    assert table.loc["encode", "bytes"] == sum(tokens) * width
    assert 0 <= table.loc["encode", "calls"] < 304
    EMBEDDER.encode([*TEXTS, *X])
    again = forecast(models, X, Y, texts=TEXTS, embedder=EMBEDDER, n_sample=12)
    assert again.loc["encode", ["calls", "tokens", "seconds"]].tolist() == [0, 0, 0]


def test_answers_that_exist_take_no_calls(folder):
    told = pd.Series(["good", "bad"] * 150, index=TEXTS)
    models = {"kept": told.to_dict(), "rule": Rule("fine")}
    table = forecast(models, X, Y, texts=TEXTS, embedder=EMBEDDER, n_sample=40)
    assert table.loc["label kept", "calls"] == 0


def test_a_model_that_fails_is_named_and_the_others_go_on(folder):
    class Broken(Rule):
        def predict(self, X):
            raise RuntimeError("no licence")

    models = wrapped(Rule("fine"), Rule("dull"), Broken("film"))
    table = forecast(models, X, Y, texts=TEXTS, embedder=EMBEDDER, n_sample=40)
    assert "no licence" in table.attrs["errors"]["film"]
    assert np.isnan(table.loc["label film", "seconds"])
    assert table.loc["students", "calls"] == 2
    with pytest.raises(ModelLabelError, match="no licence"):
        forecast(
            wrapped(Broken("film")), X, Y, texts=TEXTS, embedder=EMBEDDER, n_sample=40
        )


def test_targets_of_many_rows_are_sampled(folder):
    rows = [f"{text} {i}" for i in range(150) for text in X]
    models = wrapped(Rule("fine"), Rule("dull"))
    target = Task(rows, Y * 150)
    table = forecast(models, target, texts=TEXTS, embedder=EMBEDDER, n_sample=40)
    assert table.loc["students", "seconds"] > 0


def test_what_rank_models_refuses_is_refused_before_a_call(folder):
    rule = Rule("fine")
    with pytest.raises(ValueError, match="n_sample=3, expected an int of at least 12"):
        forecast(wrapped(rule), X, Y, texts=TEXTS, embedder=EMBEDDER, n_sample=3)
    with pytest.raises(ValueError, match="there are no models"):
        forecast({}, X, Y, texts=TEXTS, embedder=EMBEDDER)
    assert rule.asked == []
    with pytest.raises(LabelMismatchError):
        forecast(wrapped(rule), X, ["up", "down"] * 2, texts=TEXTS, embedder=EMBEDDER)
