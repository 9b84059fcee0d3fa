"""What a ranking will cost: counts are exact, no model is asked twice, times add up."""

import time
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fute_sklearn import (
    MTEWrapper,
    PromptedLLM,
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
    def __init__(self, word, clock=None):
        self.word, self.clock, self.asked = word, clock, []

    def predict(self, X):
        self.asked += list(X)
        if self.clock:
            self.clock.now += self.clock.start + self.clock.per_text * len(X)
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


@pytest.fixture
def clock(monkeypatch):
    """Time that passes in slow models only, whatever else this machine does."""
    clock = SimpleNamespace(now=100.0, start=0.03, per_text=0.002)
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    return clock


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


@pytest.mark.parametrize("batch_size", [None, 5, 12, 1000])
def test_seconds_of_a_slow_model_are_those_it_takes(folder, clock, batch_size):
    models = wrapped(Rule("fine", clock), Rule("dull"))
    models["fine"].set_params(batch_size=batch_size)
    table = forecast(models, X, Y, texts=TEXTS, embedder=EMBEDDER, n_sample=48)
    began = time.perf_counter()
    models["fine"].label(TEXTS)
    took = time.perf_counter() - began
    n_calls = np.ceil(252 / (batch_size or 32))
    assert took == pytest.approx(0.03 * n_calls + 0.002 * 252)
    assert table.loc["label fine", "seconds"] == pytest.approx(took, rel=0.15)
    assert table.loc["label dull", "seconds"] == 0


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


def test_a_second_forecast_still_knows_how_slow_a_model_is(folder, clock):
    clock.start = 0.0
    models = wrapped(Rule("fine", clock), Rule("dull"))
    for left in (252, 228):
        table = forecast(models, X, Y, texts=TEXTS, embedder=EMBEDDER, n_sample=48)
        assert table.loc["label fine", "calls"] == left
        assert table.loc["label fine", "seconds"] == pytest.approx(0.002 * left)


def test_answers_by_position_are_read(folder):
    models = {"kept": ["good", "bad"] * 150, "rule": Rule("fine")}
    table = forecast(models, X, Y, texts=TEXTS, embedder=EMBEDDER, n_sample=40)
    assert table.attrs["errors"] == {}
    assert table.loc["label kept", "calls"] == 0


def test_a_method_of_a_model_that_is_called_forecast_is_none_of_ours(folder):
    class Weather(Rule):
        def forecast(self, days):
            raise AssertionError

    models = wrapped(Weather("fine"), Rule("dull"))
    table = forecast(models, X, Y, texts=TEXTS, embedder=EMBEDDER, n_sample=40)
    assert np.isnan(table.loc["label fine", "requests"])


@pytest.mark.filterwarnings("ignore::fute_sklearn.exceptions.ModelLabelWarning")
def test_models_that_leave_out_different_texts_are_forecast(folder):
    class Picky(Rule):
        def predict(self, X):
            if any(hash_of(x + self.word) % 5 < 2 for x in X):
                raise ValueError("not this one")
            return ["good" if self.word in x else "bad" for x in X]

    def hash_of(text):
        return sum(map(ord, text))

    models = {
        word: MTEWrapper(Picky(word), fingerprint=word, name=word, on_error="drop")
        for word in WORDS
    }
    table = forecast(models, X, Y, texts=TEXTS, embedder=EMBEDDER, n_sample=40)
    assert table.loc["students", "calls"] == len(WORDS)


@pytest.mark.parametrize("texts", [TEXTS[:5], ["a fine film"] * 30 + ["a dull film"]])
@pytest.mark.parametrize("students", ["closed", "both"])
def test_few_and_equal_texts_are_forecast(folder, texts, students):
    models = wrapped(Rule("fine"), Rule("dull"))
    table = forecast(models, X, Y, texts=texts, embedder=EMBEDDER, students=students)
    assert (table["calls"][["label fine", "encode"]] == 0).all()
    assert table.loc["students", "seconds"] > 0


def test_labels_to_be_matched_do_not_stop_it(folder):
    class Numbers(Rule):
        classes_ = ["LABEL_0", "LABEL_1"]

        def predict(self, X):
            return [self.classes_[self.word in x] for x in X]

    models = wrapped(Numbers("fine"), Numbers("dull"))
    table = forecast(
        models, X, Y, texts=TEXTS, label_names="match", embedder=EMBEDDER, n_sample=40
    )
    assert table.loc["students", "calls"] == 2


def test_a_memory_trace_of_the_user_goes_on(folder):
    tracemalloc.start()
    try:
        forecast(
            wrapped(Rule("fine"), Rule("dull")),
            X,
            Y,
            texts=TEXTS,
            embedder=EMBEDDER,
            n_sample=12,
        )
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()


def test_a_server_s_requests_are_those_for_texts_that_are_left(folder):
    class Client:
        capabilities, fingerprint = frozenset({"score"}), "a server"

        def score(self, contexts, continuations):
            return [np.array([-1.0, -2.0]) for _ in contexts]

        def forecast(self, contexts, continuations):
            return {"requests": len(contexts), "kept": 0, "tokens": 7 * len(contexts)}

    llm = PromptedLLM(Client(), "{text} It was", ["good", "bad"])
    models = {"llm": MTEWrapper(llm), "rule": Rule("fine")}
    table = forecast(models, X, Y, texts=TEXTS, embedder=EMBEDDER, n_sample=40)
    assert table.loc["label llm", ["calls", "requests", "tokens"]].tolist() == [
        *(260, 260, 7 * 260)
    ]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_sample": 3}, "n_sample=3, expected an int of at least 12"),
        ({"students": "quick"}, "students='quick'"),
        ({"max_seconds": -1}, "max_seconds=-1"),
        ({"scoring": "no scorer"}, "no scorer"),
        ({"kind": "text"}, "kind 'text'"),
    ],
)
def test_wrong_settings_are_refused_before_a_call(folder, params, message):
    rule = Rule("fine")
    with pytest.raises(ValueError, match=message):
        forecast(wrapped(rule), X, Y, texts=TEXTS, embedder=EMBEDDER, **params)
    assert rule.asked == []


def test_labels_of_another_task_are_refused(folder):
    rule = Rule("fine")
    rule.classes_ = ["good", "bad"]
    with pytest.raises(LabelMismatchError):
        forecast(wrapped(rule), X, ["up", "down"] * 2, texts=TEXTS, embedder=EMBEDDER)
    assert rule.asked == []
    del rule.classes_
    with pytest.raises(LabelMismatchError):
        forecast(wrapped(rule), X, ["up", "down"] * 2, texts=TEXTS, embedder=EMBEDDER)
    with pytest.raises(ValueError, match="there are no models"):
        forecast({}, X, Y, texts=TEXTS, embedder=EMBEDDER)
