"""Wrapped models: called, never touched, never asked twice."""

import pickle
import threading

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from fute_sklearn import (
    MomentEmbedder,
    MTEWrapper,
    TuPaTEEmbedder,
    config_context,
    rank_models,
)
from fute_sklearn.exceptions import (
    ModelLabelError,
    ModelLabelWarning,
    UnknownModelWarning,
)
from fute_sklearn.testing import TINY_SURROGATE as TINY


class Rule:
    """A bare model that counts its calls."""

    def __init__(self, fail_on=None):
        self.calls = []
        self.fail_on = fail_on

    @property
    def fingerprint(self):  # calls are no part of the model's content
        return f"rule that fails on {self.fail_on}"

    def predict(self, X):
        self.calls.append(len(X))
        if self.fail_on is not None and any(self.fail_on in x for x in X):
            raise RuntimeError("no answer")
        return ["pos" if "fine" in x else "neg" for x in X]


class Locked(Rule):
    """A model that can be neither copied nor pickled."""

    fingerprint = None

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()

    def __getstate__(self):
        raise TypeError("cannot pickle a lock")

    def __deepcopy__(self, memo):
        raise TypeError("cannot copy a lock")


def test_scikit_learn_models_and_response_methods(texts, labels):
    bayes = make_pipeline(CountVectorizer(), MultinomialNB()).fit(texts, labels)
    hard = MTEWrapper(bayes, name="nb").label(texts)
    assert hard.name == "nb"
    assert set(np.unique(hard.targets.proba)) == {0, 1}
    for method in ("predict_proba", "predict_log_proba"):
        soft = MTEWrapper(bayes, response_method=method).label(texts)
        np.testing.assert_allclose(
            soft.targets.proba, bayes.predict_proba(texts), rtol=1e-5
        )
    svm = make_pipeline(CountVectorizer(), LinearSVC()).fit(texts, labels)
    scores = MTEWrapper(svm, response_method="decision_function").label(texts)
    assert scores.targets.label_names().tolist() == svm.predict(texts).tolist()
    with pytest.raises(AttributeError, match="predict_proba"):
        MTEWrapper(svm, response_method="predict_proba").label(texts)


def test_a_constant_model_knows_its_classes(texts, labels):
    bayes = make_pipeline(CountVectorizer(), MultinomialNB()).fit(texts, labels)
    task = MTEWrapper(bayes).label(["fine"] * 3)
    assert task.targets.names == ("neg", "pos")


def test_torch_module_behind_predict(texts):
    import torch

    class Net:
        def __init__(self):
            self.net = torch.nn.Linear(1, 2)

        def predict_proba(self, X):
            lengths = torch.tensor([[len(x) / 10] for x in X])
            return torch.softmax(self.net(lengths), 1)

    with torch.random.fork_rng(devices=[]):
        wrapper = MTEWrapper(Net(), response_method="predict_proba", classes=["a", "b"])
    assert wrapper.label(texts).targets.proba.shape == (8, 2)


def test_second_run_calls_the_model_zero_times(texts):
    model = Rule()
    first = MTEWrapper(model).label(texts)
    assert sum(model.calls) == len(texts)
    again = Rule()
    assert MTEWrapper(again).label(texts) == first
    assert again.calls == []
    other = Rule(fail_on="never")
    MTEWrapper(other).label(texts)
    assert sum(other.calls) == len(texts)


def test_fingerprint_tells_models_apart(texts):
    class Client(Rule):
        fingerprint = None

        def __init__(self, fingerprint):
            super().__init__()
            self.fingerprint = fingerprint

    one, same, other = Client("v1"), Client("v1"), Client("v2")
    for model in (one, same, other):
        MTEWrapper(model).label(texts)
    assert (sum(one.calls), sum(same.calls), sum(other.calls)) == (8, 0, 8)


def test_models_with_locks_are_kept_by_reference(texts):
    model = Locked()
    wrapper = MTEWrapper(model, TuPaTEEmbedder(TINY, max_epochs=1))
    assert clone(wrapper).estimator is model
    with pytest.warns(UnknownModelWarning, match="'Locked' holds what cannot be"):
        wrapper.fit(texts)
    calls = len(model.calls)
    MTEWrapper(model).label(texts)  # told once, and known to this process
    assert len(model.calls) == calls
    model.fail_on = "no such text"
    wrapper.label(texts)
    assert len(model.calls) == calls + 1
    again = pickle.loads(pickle.dumps(wrapper))
    assert again.estimator is None
    np.testing.assert_array_equal(again.embedding_, wrapper.embedding_)
    with pytest.raises(ValueError, match="has no model; give"):
        again.label(texts)


def test_parameters_of_the_model_stay_out_of_reach(texts, labels):
    svm = make_pipeline(CountVectorizer(), LinearSVC()).fit(texts, labels)
    wrapper = MTEWrapper(svm, MomentEmbedder(TINY, reference=texts))
    params = wrapper.get_params()
    assert params["embedder__alpha"] == "auto"
    assert not [key for key in params if key.startswith("estimator__")]
    wrapper.set_params(embedder__alpha=0.3).fit(texts)
    assert wrapper.embedder_.alpha == 0.3
    assert wrapper.score(texts, labels) < 0


def test_failing_model_is_named_with_its_rows(texts):
    model = Rule(fail_on="slow")
    with pytest.raises(ModelLabelError, match=r"'Rule', rows 2 to 3.*no answer"):
        MTEWrapper(model, batch_size=2).label(texts)
    assert model.calls == [2, 2]
    # What was labelled before the fault is kept.
    with pytest.raises(ModelLabelError):
        MTEWrapper(model, batch_size=2).label(texts)
    assert model.calls == [2, 2, 2]


def test_failing_rows_are_dropped_on_request(texts):
    with pytest.warns(ModelLabelWarning, match=r"1 texts \(rows 3\)"):
        task = MTEWrapper(Rule(fail_on="slow"), on_error="drop").label(texts)
    assert task.n_samples == 7
    with pytest.warns(ModelLabelWarning), pytest.raises(ModelLabelError, match="every"):
        MTEWrapper(Rule(fail_on=""), on_error="drop").label(texts)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (["pos"], "expected 8 predictions, got 1"),
        ("pos", "expected an array"),
        ([None] * 8, "no answer to 8 of 8 texts"),
        ([{"a"}] * 8, r"prediction\[0\] is {'a'} of type set"),
        (np.array(["pos"] * 8)[:, None, None], r"rows 0 to 7: .*list"),
        (np.ones((8, 1, 1), dtype=bool), r"rows 0 to 7: .*list"),
    ],
)
def test_wrong_answers(answer, message, texts):
    class Wrong:
        def predict(self, X):
            return answer

    with pytest.raises(ModelLabelError, match=message):
        MTEWrapper(Wrong()).label(texts)


@pytest.mark.parametrize("count", [2, 30])
@pytest.mark.parametrize("form", [list, np.array, np.char.array, np.ma.array])
def test_labels_in_arrays_of_any_kind(form, count):
    texts = [f"text {i}" for i in range(90)]
    answers = [f"label {i % count}" for i in range(90)]
    task = MTEWrapper(form(answers)).label(texts)
    assert list(task.y) == answers


def test_a_wrong_new_name_is_said_of_its_row(texts):
    answers = ["b"] * 3 + ["a"] * 5
    wrapper = MTEWrapper(answers, label_names={"a": None}, kind="text")
    with pytest.raises(ModelLabelError, match=r"y\[3\] is None"):
        wrapper.label(texts)


def test_a_portion_with_gaps_is_a_plain_list(texts, labels):
    """Also of texts that were checked once for a whole zoo."""

    class Strict:
        fingerprint = "strict"
        seen = []

        def predict(self, X):
            self.seen.append(type(X))
            return ["pos" if "fine" in x else "neg" for x in X]

    twice = [*texts, *texts[2:4], "another fine text"]
    rank_models([Strict()], texts, labels, texts=twice, embedder=MomentEmbedder())
    assert set(Strict.seen) == {list}


def test_the_model_gets_its_own_type_of_input(texts):
    import pandas as pd

    class Typed:
        seen = None

        def predict(self, X):
            Typed.seen = type(X)
            return [len(x) % 2 for x in X]

    with config_context(cache_dir=None):
        for kind in (list, np.array, pd.Series):
            MTEWrapper(Typed()).label(kind(texts))
            assert Typed.seen is type(kind(texts))


def test_no_model(texts):
    with pytest.raises(
        TypeError, match="which is no csv, jsonl or parquet file, is no model"
    ):
        MTEWrapper("no model").label(texts)


def test_columns_of_probabilities_follow_the_model(texts, labels):
    bayes = make_pipeline(CountVectorizer(), MultinomialNB()).fit(texts, labels)
    task = MTEWrapper(
        bayes, response_method="predict_proba", classes=["pos", "other", "neg"]
    ).label(texts)
    assert task.targets.names == ("neg", "other", "pos")
    np.testing.assert_allclose(
        task.targets.proba[:, [0, 2]], bayes.predict_proba(texts), rtol=1e-5
    )


def test_edited_code_is_another_model(tmp_path, monkeypatch, texts):
    import importlib
    import sys

    monkeypatch.syspath_prepend(str(tmp_path))
    source = tmp_path / "own_rule.py"
    body = "class Own:\n    def predict(self, X):\n        return ['{}'] * len(X)\n"
    source.write_text(body.format("first"))
    module = importlib.import_module("own_rule")
    first = MTEWrapper(module.Own(), classes=["first", "second"]).label(texts)
    assert set(first.y) == {"first"}
    source.write_text(body.format("second"))
    importlib.invalidate_caches()
    module.Own.predict = lambda self, X: ["second"] * len(X)
    second = MTEWrapper(module.Own(), classes=["first", "second"]).label(texts)
    assert set(second.y) == {"second"}
    del sys.modules["own_rule"]


def test_torch_models_keep_their_content_hash_across_processes():
    import subprocess
    import sys

    code = (
        "import torch\n"
        "from fute_sklearn.models._content_hash import content_hash\n"
        "torch.manual_seed(0)\n"
        "print(content_hash(torch.nn.Linear(3, 2)))\n"
        "print(content_hash(torch.nn.Linear(3, 2)))\n"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert found[0] == found[1]
    assert found[0][0] != found[0][1]


@pytest.mark.parametrize("answer", ["", float("nan"), None])
def test_one_useless_answer_is_named_and_can_be_dropped(answer, texts):
    class Sloppy:
        fingerprint = repr(answer)

        def predict(self, X):
            return [answer if x == "fine" else str(len(x) % 2) for x in X]

    with pytest.raises(ModelLabelError, match=r"'Sloppy' gave no answer .* 6"):
        MTEWrapper(Sloppy()).label(texts)
    with pytest.warns(ModelLabelWarning, match="rows 6"):
        assert MTEWrapper(Sloppy(), on_error="drop").label(texts).n_samples == 7


def test_frames_and_short_floats_are_answers(texts):
    import pandas as pd
    import torch

    class Frame:
        fingerprint = "frame"

        def predict_proba(self, X):
            return pd.DataFrame({"a": [0.25] * len(X), "b": [0.75] * len(X)})

    class Short:
        fingerprint = "short"

        def predict_proba(self, X):
            return torch.tensor([[0.25, 0.75]] * len(X), dtype=torch.bfloat16)

    for model in (Frame(), Short()):
        wrapper = MTEWrapper(model, response_method="predict_proba", classes=["a", "b"])
        np.testing.assert_allclose(wrapper.label(texts).targets.proba[0], [0.25, 0.75])


def test_the_wrapped_model_cannot_be_changed_through_the_wrapper():
    wrapper = MTEWrapper(LinearSVC())
    with pytest.raises(ValueError, match="never touched"):
        wrapper.set_params(estimator__C=9)


def test_rows_to_ask_are_the_first_of_each_distinct_text_without_an_answer(tmp_path):
    class Counting:
        def predict(self, X):
            return ["good" if "fine" in x else "bad" for x in X]

    wrapper = MTEWrapper(Counting(), fingerprint="counting")
    texts = ["a fine film", "a dull film", "a fine film", "a dull day"]
    with config_context(cache_dir=tmp_path):
        assert wrapper.rows_to_ask(texts).tolist() == [0, 1, 3]
        wrapper.label(texts[:2])
        assert wrapper.rows_to_ask(texts).tolist() == [3]
        wrapper.label(texts)
        assert wrapper.rows_to_ask(texts).tolist() == []
    recorded = MTEWrapper(["good", "bad", "good", "bad"])
    assert recorded.rows_to_ask(texts).tolist() == []
