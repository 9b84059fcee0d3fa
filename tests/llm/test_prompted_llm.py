"""Language models with a prompt, in process and through stand-in clients."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from fute_sklearn import MTEWrapper, PromptedLLM, TransformersClient
from fute_sklearn._engine import load_causal
from fute_sklearn.exceptions import (
    ClientCapabilityError,
    LabelMismatchError,
    LanguageModelNotFoundError,
)
from fute_sklearn.presets import completion_prompts, paper_prompts


def plain_score(model, context, continuation):
    """One forward pass over the whole, without cache, batch or padding."""
    root = model.tokenizer(context)["input_ids"]
    ids = model.tokenizer(context + continuation)["input_ids"]
    with torch.no_grad():
        logits = model.model(input_ids=torch.tensor([ids])).logits[0]
    steps = torch.log_softmax(logits, -1)
    return sum(float(steps[i - 1, ids[i]]) for i in range(len(root), len(ids)))


def test_scores_equal_plain_passes_over_the_whole(causal_folder):
    model = load_causal(causal_folder)
    contexts = ["a film", "the film was very very dull it is", "it"]
    options = [
        [" good", " very bad"],
        [" no", " yes it was fine"],
        [" fine film", " a"],
    ]
    found = model.score(contexts, options)
    for context, row, values in zip(contexts, options, found, strict=True):
        expected = [plain_score(model, context, option) for option in row]
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)
    alone = model.score(contexts[:1], options[:1])[0]
    np.testing.assert_allclose(alone, found[0], rtol=1e-4, atol=1e-5)


def test_shared_beginnings_are_read_once(causal_folder, monkeypatch):
    model = load_causal(causal_folder)
    shots = "the film was dull : bad the film was fine : good "
    text = "it is no very very good film and it was fine no dull "
    contexts = [shots + "a", "no", shots + "no fine", text + "is it", text + ": yes a"]
    contexts += [shots + "a", text + "fine"]
    options = [[" good", " very bad"]] * len(contexts)
    expected = [[plain_score(model, c, o) for o in options[0]] for c in contexts]
    read = []
    whole = model._read
    monkeypatch.setattr(
        model,
        "_read",
        lambda parts, *args, **more: read.extend(parts) or whole(parts, *args, **more),
    )
    np.testing.assert_allclose(
        model.score(contexts, options), expected, rtol=1e-4, atol=1e-5
    )
    for shared in (shots, text):
        start = model._ids(shared)[:9]
        assert sum(part[:9] == start for part in read) == 1


def test_the_output_layer_gets_no_view(causal_folder):
    """For a view, torch copies the layer's weights once a row; see the engine."""
    model = load_causal(causal_folder, device="cpu", dtype="bfloat16")
    seen = []
    output = model.model.get_output_embeddings()
    output.register_forward_hook(lambda *call: seen.append(call[1][0].is_contiguous()))
    contexts = [f"the film was {end}" for end in ("dull", "fine", "very bad", "no")]
    model.score(contexts, [[" good", " very bad"]] * 4)
    model.generate(contexts, 2)
    assert len(seen) > 3
    assert all(seen)


def test_batches_change_neither_text_scores_nor_texts(causal_folder):
    model = load_causal(causal_folder)
    texts = ["the film was dull", "a", "it is very very good film", "no"]
    alone = [model.score_text([text])[0] for text in texts]
    np.testing.assert_allclose(model.score_text(texts), alone, rtol=1e-5)
    alone = [model.generate([text], 5)[0] for text in texts]
    assert model.generate(texts, 5) == alone


def test_text_scores_and_generation(causal_folder):
    client = TransformersClient(causal_folder)
    total, count = client.score_text(["the film was dull"])[0]
    assert count == 3
    expected = plain_score(client._load(), "the", " film was dull")
    assert total == pytest.approx(expected, rel=1e-4)
    assert client.score_text(["the"]) == [(0.0, 0)]
    first, again = (client.generate(["the film"], 4) for _ in range(2))
    assert first == again
    assert not first[0].startswith("the film")


def test_many_long_labels_are_scored_in_parts(causal_folder, monkeypatch):
    from fute_sklearn._engine import _causal

    model = load_causal(causal_folder)
    contexts = ["a film", "the film was very very dull it is"]
    options = [[" good film", " very bad film it was", " no", " a the film is"]] * 2
    whole = model.score(contexts, options)
    monkeypatch.setattr(_causal, "BATCH_TOKENS", 4)
    for one, other in zip(whole, model.score(contexts, options), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_the_model_is_refused(causal_folder):
    model = load_causal(causal_folder)
    with pytest.raises(ValueError, match="has no tokens to score"):
        model.score(["a film"], [[""]])
    model.model.config.max_position_embeddings = 8
    long = "the film was very " * 3
    for call in (
        lambda: model.score([long], [[" good"]]),
        lambda: model.score_text([long]),
        lambda: model.generate(["a film"], 8),
    ):
        with pytest.raises(ValueError, match="does not fit"):
            call()


def test_end_tokens_are_not_part_of_a_context(causal_folder):
    from tokenizers import processors

    model = load_causal(causal_folder)
    plain = model.score(["a film"], [[" good", " very bad"]])[0]
    model.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    found = model.score(["a film"], [[" good", " very bad"]])[0]
    np.testing.assert_allclose(found, plain, rtol=1e-5)


def test_generation_ignores_the_settings_of_the_folder(causal_folder, tmp_path):
    import shutil

    from transformers import GenerationConfig

    shutil.copytree(causal_folder, tmp_path / "other")
    GenerationConfig(repetition_penalty=5.0, num_beams=3).save_pretrained(
        tmp_path / "other"
    )
    one, other = load_causal(causal_folder), load_causal(tmp_path / "other")
    assert one.fingerprint == other.fingerprint
    prompts = ["the film was", "a film", ""]
    assert one.generate(prompts, 6) == other.generate(prompts, 6)


def test_client_holds_no_weights(causal_folder):
    client = TransformersClient(causal_folder)
    assert client.fingerprint == load_causal(causal_folder).fingerprint
    data = pickle.dumps(client)
    assert len(data) < 2000
    assert pickle.loads(data).fingerprint == client.fingerprint


def test_answers_are_kept_in_parts(causal_folder, monkeypatch):
    from fute_sklearn.llm.clients import _transformers_client as module

    client = TransformersClient(causal_folder)
    contexts, options = ["a film", "it", "the film"], [[" good", " bad"]] * 3
    first = client.score(contexts[:1], options[:1])
    asked = []
    whole = client._load().score
    monkeypatch.setattr(module, "PART", 1)

    def broken(some, more):
        asked.extend(some)
        if some == ["the film"]:
            raise KeyboardInterrupt
        return whole(some, more)

    monkeypatch.setattr(client._load(), "score", broken)
    with pytest.raises(KeyboardInterrupt):
        client.score(contexts, options)
    monkeypatch.setattr(client._load(), "score", whole)
    np.testing.assert_array_equal(client.score(contexts, options)[0], first[0])
    assert asked == ["it", "the film"]
    said = client.generate(["the film"], 3)
    monkeypatch.setattr(client._load(), "generate", None)
    assert client.generate(["the film"], 3) == said


def test_unknown_model_is_refused(tmp_path):
    with pytest.raises(LanguageModelNotFoundError, match="connected machine"):
        TransformersClient(tmp_path / "none").score(["a"], [["b"]])


def test_prompt_in_process_labels_texts(causal_folder):
    llm = PromptedLLM(
        TransformersClient(causal_folder), "the film : {text} it was", ["good", "bad"]
    )
    texts = ["a fine film", "very dull", "it is no good"]
    proba = llm.predict_proba(texts)
    assert llm.classes_.tolist() == ["bad", "good"]
    raw = [
        [
            plain_score(llm.client._load(), f"the film : {t} it was", f" {w}")
            for w in llm.classes_
        ]
        for t in texts
    ]
    expected = np.exp(raw) / np.exp(raw).sum(1, keepdims=True)
    np.testing.assert_allclose(proba, expected, rtol=1e-4)
    task = MTEWrapper(llm, response_method="predict_proba", name="llm").label(texts)
    np.testing.assert_allclose(task.targets.proba.sum(1), 1)
    assert list(llm.predict(texts)) == list(llm.classes_[proba.argmax(1)])


class Fake:
    """Scores strings by a table; remembers what it was asked."""

    capabilities = frozenset({"score", "generate"})
    fingerprint = "fake"

    def __init__(self, table=None):
        self.table = table or {}
        self.asked = []

    def score(self, contexts, continuations):
        self.asked += contexts
        return [
            np.array([self.table.get(c.strip(), -float(len(c))) for c in row])
            for row in continuations
        ]

    def generate(self, prompts, max_tokens):
        self.asked += prompts
        return [f"because {max_tokens}" for _ in prompts]


def test_likelihoods_of_several_strings_are_summed():
    client = Fake({"good": -1.0, "great": -2.0, "bad": -1.5})
    llm = PromptedLLM(
        client,
        "{text}",
        ["pos", "neg"],
        verbalizer={"neg": "bad", "pos": ["good", "great"]},
    )
    good, bad = np.exp(-1) + np.exp(-2), np.exp(-1.5)
    found = llm.predict_proba(["x"])
    assert llm.classes_.tolist() == ["neg", "pos"]
    np.testing.assert_allclose(found, [[bad / (good + bad), good / (good + bad)]])


class Tilted(Fake):
    """Says "yes" much too often, and a little more so for texts with "fine"."""

    def score(self, contexts, continuations):
        return [np.array([-2.0, -0.1 + 0.5 * ("fine" in c)]) for c in contexts]


@pytest.mark.parametrize("calibration", ["contextual", "batch"])
def test_calibration_takes_the_tilt_out(calibration):
    texts = ["a fine film", "a dull film"]
    plain = PromptedLLM(Tilted(), "{text}?", ["yes", "no"])
    assert plain.predict(texts).tolist() == ["yes", "yes"]
    llm = clone(plain).set_params(calibration=calibration).fit(texts)
    proba = plain.predict_proba(texts)
    expected = proba / np.exp(llm.label_log_prior_)
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(llm.predict_proba(texts), expected)
    if calibration == "batch":
        np.testing.assert_allclose(np.exp(llm.label_log_prior_), proba.mean(0))
        assert llm.predict(texts).tolist() == ["yes", "no"]
        with pytest.raises(NotFittedError):
            clone(llm).predict(texts)
    else:
        # Needs no texts of the task, so no fit either.
        np.testing.assert_allclose(clone(llm).predict_proba(texts), expected)


def test_reasoning_comes_before_the_labels():
    client = Fake()
    llm = PromptedLLM(
        client, "{text} Good?", ["yes", "no"], cot="Think.", max_reasoning_tokens=7
    )
    llm.predict(["It was."])
    asked, scored = client.asked
    assert asked == "It was. Good? Think.\n"
    assert scored == "It was. Good? Think.\nbecause 7\nAnswer:"


def test_records_fill_several_fields():
    client = Fake()
    llm = PromptedLLM(client, "{premise} So {hypothesis}?", ["yes", "no"])
    llm.predict([{"premise": "It rains.", "hypothesis": "it is wet", "label": "x"}])
    assert client.asked == ["It rains. So it is wet?"]
    with pytest.raises(ValueError, match=r"X\[0\].*'premise', 'hypothesis'"):
        llm.predict(["a text"])
    with pytest.raises(TypeError, match="str in every field"):
        llm.predict([{"premise": "a", "hypothesis": 3}])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"template": "no field"}, "where the text goes"),
        ({"template": "{text.upper}"}, "expected a name such as {text}"),
        ({"template": "{}"}, "expected a name such as {text}"),
        ({"template": "{0}"}, "expected a name such as {text}"),
        ({"template": "{text"}, "written {{ and }}"),
        ({"template": '{text} {"label": '}, "written {{ and }}"),
        ({"template": "{text} {'a': 1}"}, "written {{ and }}"),
        ({"template": "{text:>10}"}, "write {text}"),
        ({"template": "{text:d}"}, "write {text}"),
        ({"template": "{text!r}"}, "write {text}"),
        ({"template": "{text} It was "}, "ends with a blank"),
        ({"template": "{text} It was\t"}, "ends with a blank"),
        ({"template": "{text} \ud83d."}, "template=.* lone surrogate"),
        ({"verbalizer": {"yes": "\ud83d", "no": "n"}}, "verbalizer=.* lone surrogate"),
        ({"labels": ["one"]}, "two or more"),
        ({"labels": ["a", "a"]}, "two or more"),
        ({"verbalizer": {"yes": "y"}}, "verbalizer has the labels"),
        ({"verbalizer": {"yes": "y", "no": "y"}}, "one string for two"),
        ({"verbalizer": {"yes": "y", "no": [" "]}}, "empty string"),
        ({"calibration": "other"}, "calibration"),
    ],
)
def test_bad_prompts_are_refused(changes, message):
    base = {"client": Fake(), "template": "{text}", "labels": ["yes", "no"]}
    with pytest.raises(ValueError, match=message):
        PromptedLLM(**{**base, **changes}).predict(["a"])


def test_a_texts_own_blank_at_the_end_changes_nothing():
    client = Fake()
    llm = PromptedLLM(client, "Good? {text}", ["yes", "no"])
    llm.predict(["a film", "a film  ", "a film\t"])
    assert client.asked == ["Good? a film"] * 3


def test_braces_of_its_own_and_iterators_of_texts():
    client = Fake()
    llm = PromptedLLM(client, 'Fill {{"text": "{text}", "good":', ["yes", "no"])
    assert len(llm.predict(x for x in ["a", "b"])) == 2
    assert client.asked[0] == 'Fill {"text": "a", "good":'
    assert llm.score((x for x in ["a"]), (y for y in llm.predict(["a"]))) == 1
    with pytest.raises(ValueError, match=r"X\[1\].*lone surrogate in the field 'text'"):
        llm.predict(["fine", "half \ud83d"])


def test_accuracy_needs_the_prompts_own_labels():
    llm = PromptedLLM(Fake(), "{text} Good?", ["yes", "no"])
    with pytest.raises(LabelMismatchError, match="share no label.*verbalizer"):
        llm.score(["a", "b"], ["good", "bad"])
    with pytest.raises(LabelMismatchError, match="case, spaces"):
        llm.score(["a", "b"], ["Yes", "no"])
    assert 0 <= llm.score(["a", "b"], ["yes", "yes"]) <= 1


def test_bad_rows_and_clients_are_refused():
    llm = PromptedLLM(Fake(), "{text}", ["yes", "no"])
    with pytest.raises(TypeError, match="one text"):
        llm.predict("a text")
    with pytest.raises(ValueError, match="empty"):
        llm.predict([])
    lame = Fake()
    lame.capabilities = {"generate"}
    with pytest.raises(ClientCapabilityError, match="is needed"):
        PromptedLLM(lame, "{text}", ["yes", "no"]).predict(["a"])
    broken = Fake({"yes": np.nan})
    with pytest.raises(ValueError, match="no numbers"):
        PromptedLLM(broken, "{text}", ["yes", "no"]).predict(["a"])


def test_fingerprint_tells_prompts_apart_and_clone_keeps_the_client():
    base = PromptedLLM(Fake(), "{text}", ["yes", "no"])
    assert clone(base).client is base.client
    assert clone(base).fingerprint == base.fingerprint
    seen = {base.fingerprint}
    for changes in (
        {"template": "{text}!"},
        {"labels": ["yes", "never"]},
        {"calibration": "contextual"},
        {"cot": "Think."},
        {"verbalizer": {"yes": "sure", "no": "no"}},
    ):
        seen.add(clone(base).set_params(**changes).fingerprint)
    assert len(seen) == 6


def test_fingerprint_knows_which_words_stand_for_which_label():
    said = [
        {"bad": "no", "good": "yes"},
        {"bad": "yes", "good": "no"},
        {"politics": "no", "sports": "yes"},
    ]
    prompts = [
        PromptedLLM(Fake(), "{text}", list(words), verbalizer=words) for words in said
    ]
    assert len({prompt.fingerprint for prompt in prompts}) == 3


def test_prior_of_other_settings_is_not_used():
    texts = ["a fine film", "a dull film"]
    fitted = PromptedLLM(Tilted(), "{text}?", ["yes", "no"], calibration="batch")
    fitted.fit(texts)
    fresh = clone(fitted).set_params(calibration="contextual", template="{text} fine")
    fitted.set_params(calibration="contextual", template="{text} fine")
    assert fitted.fingerprint == fresh.fingerprint
    np.testing.assert_array_equal(
        fitted.predict_proba(texts), fresh.predict_proba(texts)
    )


def test_scorers_see_sorted_classes():
    from sklearn.metrics import get_scorer

    client = Fake()
    client.score = lambda contexts, options: [
        np.array([3.0 if (o == " yes") == ("fine" in c) else -3.0 for o in row])
        for c, row in zip(contexts, options, strict=True)
    ]
    llm = PromptedLLM(client, "{text}", ["yes", "no"])
    X, y = ["fine", "dull", "fine day", "bad day"], ["yes", "no", "yes", "no"]
    assert get_scorer("roc_auc")(llm, X, y) == 1
    assert get_scorer("neg_log_loss")(llm, X, y) > -0.1
    numbers = PromptedLLM(
        client, "{text}", [1.0, 0.0], verbalizer={1.0: "yes", 0.0: "no"}
    )
    assert numbers.score(X, [1, "0", 1, 1]) == 0.75
    with pytest.raises(ValueError, match="expected as many"):
        numbers.score(X, [1])


def test_unlikely_labels_stay_numbers_under_calibration():
    client = Fake({"yes": -1.0, "no": -900.0})
    llm = PromptedLLM(client, "{text}", ["yes", "no"], calibration="contextual")
    np.testing.assert_allclose(llm.predict_proba(["a"]), [[0.5, 0.5]])


def test_records_are_labelled_through_the_wrapper():
    import pandas as pd

    records = [
        {"premise": "It rains.", "hypothesis": "It is wet.", "label": "yes"},
        {"premise": "It is hot.", "hypothesis": "It snows.", "label": "no"},
    ]
    llm = PromptedLLM(Fake({"yes": -1.0}), "{hypothesis} if {premise}", ["yes", "no"])
    for rows in (records, pd.DataFrame(records)):
        task = MTEWrapper(llm).label(rows)
        assert task.texts == ("It rains. It is wet.", "It is hot. It snows.")
        assert task.y.tolist() == ["yes", "yes"]


def test_kept_labels_tell_records_of_one_text_apart():
    client = Fake()
    client.score = lambda contexts, options: [
        np.array([0.0, -1.0] if c.startswith("A") else [-1.0, 0.0]) for c in contexts
    ]
    llm = PromptedLLM(client, "{premise}: {hypothesis}", ["no", "yes"])
    one = [{"premise": "A", "hypothesis": "B"}]
    other = [{"hypothesis": "A", "premise": "B"}]
    found = [MTEWrapper(llm).label(rows) for rows in (one, other)]
    assert [task.texts for task in found] == [("A B",), ("A B",)]
    assert [task.y.tolist() for task in found] == [["no"], ["yes"]]


@pytest.mark.parametrize("task", ["sentiment", "inference"])
def test_prompts_of_the_paper_can_be_asked(task):
    record = {"text": "A.", "premise": "It rains.", "hypothesis": "It is wet."}
    prompts = paper_prompts(task)
    assert len(prompts) == 13
    assert sum("cot" in prompt for prompt in prompts) == 3
    for prompt in prompts:
        client = Fake()
        proba = PromptedLLM(client, **prompt).predict_proba([record])
        assert proba.shape == (1, 2 if task == "sentiment" else 3)
        assert "{" not in client.asked[-1]
    with pytest.raises(ValueError, match="expected 'sentiment'"):
        paper_prompts("other")


@pytest.mark.parametrize("task", ["sentiment", "inference"])
def test_prompts_of_our_own_can_be_asked_and_are_no_doubles(task):
    record = {"text": "A.", "premise": "It rains.", "hypothesis": "It is wet."}
    prompts = completion_prompts(task)
    assert len({prompt["template"] for prompt in prompts}) == 10
    assert set(prompts[0]["labels"]) == set(paper_prompts(task)[0]["labels"])
    for prompt in prompts:
        proba = PromptedLLM(Fake(), **prompt).predict_proba([record])
        assert proba.shape == (1, len(prompt["labels"]))
    with pytest.raises(ValueError, match="expected 'sentiment'"):
        completion_prompts("other")
