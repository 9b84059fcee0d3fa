"""Servers that can be told which answers are allowed, each by its own field."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from fute_sklearn import OpenAIClient, PromptedLLM, TransformersClient, config_context
from fute_sklearn.exceptions import (
    LanguageModelServerError,
    RowsFailedError,
)
from fute_sklearn.llm.clients._label_requests import RESTRICTIONS, restriction
from fute_sklearn.llm.clients._named_labels import label_bounds, named_label
from fute_sklearn.llm.clients._server_answers import (
    parted,
    spelled_score,
    spelled_tokens,
)
from tests.llm.openai_server import choice_server

TEXTS = ["a fine film", "very dull", "it is no good film", "the film was fine"]
TEMPLATE, LABELS = "the film : {text} it was", ["bad", "good"]
OPTIONS = [" good", " very bad film"]


@pytest.fixture(scope="module")
def here(causal_folder):
    """Label by the same model in this process."""
    return PromptedLLM(TransformersClient(causal_folder), TEMPLATE, LABELS)


@pytest.fixture
def served(model, client_of):
    def start(means, logs="raw", end="<end>", **settings):
        return client_of(choice_server(model, means, logs, end), **settings)

    return start


@pytest.mark.parametrize("interface", ["completions", "chat"])
@pytest.mark.parametrize("means", RESTRICTIONS)
def test_strings_are_scored_where_no_other_answer_is_allowed(
    means, interface, served, model
):
    client = served(means, interface=interface)
    assert (client.fidelity, client.capabilities) == ("spelled", {"score", "generate"})
    before = client.n_requests_
    assert client.forecast(TEXTS, [OPTIONS] * 4)["requests"] == 8
    found = client.score(TEXTS, [OPTIONS] * 4)
    np.testing.assert_allclose(found, model.score(TEXTS, [OPTIONS] * 4), atol=1e-4)
    assert client.n_requests_ == before + 8
    assert client.interface_ == interface


@pytest.mark.parametrize("interface", ["completions", "chat"])
def test_shares_among_the_spellings_of_one_answer_are_no_scores(interface, served):
    """As vLLM, which masks what is not allowed before it takes probabilities."""
    client = served("structured_outputs", logs="spellings", interface=interface)
    if interface == "chat":
        assert client.fidelity == "top-k with bounds"
    else:
        with pytest.raises(LanguageModelServerError, match="among the spellings"):
            client.score(TEXTS, [OPTIONS] * 4)


def test_scores_of_restricted_servers_label_texts(served, here):
    exact = here.predict_proba(TEXTS)
    client = served("structured_outputs")
    found = PromptedLLM(client, TEMPLATE, LABELS).predict_proba(TEXTS)
    np.testing.assert_allclose(found, exact, atol=1e-4)


@pytest.mark.parametrize("end", ["<end>", ""])
@pytest.mark.parametrize("means", RESTRICTIONS)
def test_probabilities_among_the_answers_allowed_are_bounds(means, end, served, model):
    """Without the restriction no label is among the likeliest first tokens."""
    client = served(means, logs="allowed", interface="chat", end=end)
    assert client.fidelity == "top-k with bounds"
    for options in (["bad", "good"], ["very bad", "good film"]):
        lower, upper = client.bounds(TEXTS, [[f" {o}" for o in options]] * 4)[2]
        exact = np.exp(model.score([TEXTS[2]], [options])[0])
        np.testing.assert_allclose(lower, exact / exact.sum(), atol=1e-4)
        np.testing.assert_allclose(upper, lower, atol=1e-4)


@pytest.mark.parametrize("interface", ["auto", "chat"])
@pytest.mark.parametrize("means", RESTRICTIONS)
def test_servers_without_log_probabilities_answer_with_labels_only(
    means, interface, served, here
):
    client = served(means, logs=None, interface=interface)
    assert (client.interface_, client.fidelity) == ("chat", "labels only")
    llm = PromptedLLM(client, TEMPLATE, LABELS)
    exact = here.predict(TEXTS)
    assert llm.predict(TEXTS).tolist() == exact.tolist()


def test_free_answers_are_not_restricted(served):
    client = served("guided_choice", logs=None, interface="text")
    llm = PromptedLLM(client, TEMPLATE, LABELS)
    with pytest.raises(RowsFailedError, match="names 0 of"):
        llm.predict(TEXTS)
    assert len(client.server.asked) == len(TEXTS)
    assert not any("guided_choice" in body for body in client.server.asked)


def test_fingerprints_tell_the_field_that_restricts(served, tmp_path):
    client, other = served("grammar", logs=None), served("guided_choice", logs=None)
    assert (client.interface_, client.fidelity) == ("chat", "labels only")
    client.server.respond = other.server.respond
    again = OpenAIClient("tiny", base_url=client.server.url, max_retries=0)
    with config_context(cache_dir=tmp_path):
        assert (again.interface_, again.fidelity) == ("chat", "labels only")
        assert again.fingerprint != client.fingerprint


def test_what_is_found_is_kept(served, model):
    client = served("guided_choice", interface="chat")
    assert client.fidelity == "spelled"
    asked = len(client.server.asked)
    again = OpenAIClient("tiny", base_url=client.server.url, interface="chat")
    assert (again.fidelity, again.fingerprint) == ("spelled", client.fingerprint)
    assert len(client.server.asked) == asked


@pytest.mark.parametrize(
    ("logs", "fidelity"),
    [
        ("raw", "spelled"),
        ("allowed", "top-k with bounds"),
        (None, "labels only"),
    ],
)
def test_servers_that_answer_otherwise_fail_the_row(logs, fidelity, served):
    """Also by sentences that name a label; what they offer is then looked for again."""
    client = served("guided_choice", logs=logs, interface="chat")
    assert client.fidelity == fidelity
    respond = client.server.respond

    def lie(path, body):
        if "guided_choice" in body:
            content = body["messages"][0]["content"]
            body = body | {"guided_choice": [f"{content} not good but bad"]}
        return respond(path, body)

    client.server.respond = lie
    llm = PromptedLLM(client, TEMPLATE, LABELS)
    with pytest.raises(LanguageModelServerError, match=r"told to answer.*not forced"):
        llm.predict([f"film {i}" for i in range(20)])


@pytest.mark.parametrize("status", [404, 500, 503])
def test_faults_of_what_is_tried_do_not_end_the_search(status, served):
    """They are not kept for good either, where they may pass."""
    client = served("grammar", logs="allowed", interface="chat")
    respond = client.server.respond

    def failing(path, body):
        if {"structured_outputs", "guided_choice", "grammar"} & set(body):
            return status, "application/json", {"error": {"message": "loading"}}
        return respond(path, body)

    client.server.respond = failing
    assert client.fidelity == "top-k with bounds"
    lower, _ = client.bounds(TEXTS, [[" bad", " good"]] * 4)[0]
    assert lower.sum() == 0
    client.server.respond = respond
    again = OpenAIClient("tiny", base_url=client.server.url, interface="chat")
    if status == 503:
        lower, _ = again.bounds(TEXTS, [[" bad", " good"]] * 4)[0]
        assert lower.sum() == pytest.approx(1)


def test_no_request_is_tried_twice(served):
    client = served("nothing", logs=None)
    assert client.fidelity == "text only"
    bodies = [json.dumps(body, sort_keys=True) for body in client.server.asked]
    assert len(set(bodies)) >= len(bodies) - 1  # what a chat says is read in two ways


def test_labels_that_look_like_decoration_are_told_apart(served):
    assert named_label("-1", ["1", "-1"]) == 1
    assert named_label("* -1", ["0", "-1"]) == 1
    assert named_label("#1", ["1", "#1"]) == 1
    with pytest.raises(ValueError, match="no continuations"):
        served("grammar", logs=None).choose(["a"], [[]])


def test_an_empty_token_that_ends_an_answer_is_not_counted_again():
    first = [["good", math.log(0.6)], ["bad", math.log(0.4)]]
    answer = {"text": "good", "top": first, "path": [first[0], ["", 0.0]]}
    for bound in label_bounds(answer, ["good", "bad"]):
        np.testing.assert_allclose(bound, [0.6, 0.4])


def test_strings_are_quoted_in_grammars():
    found = restriction("grammar", ['say "no"', "back\\slash", "\u597d", "\u597d"])
    rules = ['"say \\"no\\""', '"back\\\\slash"', '"\u597d"']
    assert found == {"grammar": "root ::= " + " | ".join(rules)}


def choice(content, text):
    message = SimpleNamespace(content=text, refusal=None)
    found = [
        {"token": token, "bytes": list(part), "logprob": value}
        for token, part, value in content
    ]
    logprobs = SimpleNamespace(content=found)
    return [SimpleNamespace(message=message, logprobs=logprobs, finish_reason="stop")]


def test_strings_are_spelled_by_parts_of_characters_and_ended():
    """The token that ends an answer is none of the string."""
    parts = [("", b"\xe5", -1.0), ("", b"\xa5\xbd", -2.0), ("<end>", b"", -9.0)]
    for other in ("\u597d\n", "", " "):
        with pytest.raises(LanguageModelServerError, match="told to answer"):
            spelled_score(choice(parts, "\u597d"), other)
    assert spelled_score(choice(parts, "\u597d"), "\u597d") == [-3.0]
    with pytest.raises(LanguageModelServerError, match="to answer 'bad' only"):
        spelled_tokens(choice(parts, "\u597d"), "bad")
    with pytest.raises(LanguageModelServerError, match="no token of 'abc' ends"):
        parted([["ab", -1.0], ["c", -1.0]], "a")
