"""Servers that tell how likely an answer is that was given with its message (vLLM)."""

from types import SimpleNamespace

import numpy as np
import pytest

from fute_sklearn import OpenAIClient, PromptedLLM, TransformersClient, config_context
from fute_sklearn.exceptions import LanguageModelServerError
from fute_sklearn.llm.clients._server_answers import given_score, given_tokens
from tests.llm.openai_server import given_server

TEXTS = ["a fine film", "very dull", "it is no good film", "the film was fine"]
TEMPLATE, LABELS = "the film : {text} it was", ["bad", "good"]
OPTIONS = [" good", " very bad film"]


@pytest.fixture
def served(model, client_of):
    def start(spoil=lambda told: told, **settings):
        return client_of(given_server(model, spoil), **settings)

    return start


@pytest.mark.parametrize("interface", ["auto", "chat"])
def test_answers_that_were_given_are_scored(interface, served, model):
    client = served(interface=interface)
    assert (client.interface_, client.fidelity) == ("chat", "echo")
    assert client.capabilities == {"score", "generate"}
    before = client.n_requests_
    assert client.forecast(TEXTS, [OPTIONS] * 4)["requests"] == 8
    found = client.score(TEXTS, [OPTIONS] * 4)
    np.testing.assert_allclose(found, model.score(TEXTS, [OPTIONS] * 4), atol=1e-4)
    assert client.n_requests_ == before + 8
    assert client.generate(TEXTS[:1], max_tokens=3)[0].strip()


def test_scores_of_given_answers_label_texts(served, causal_folder, tmp_path):
    here = PromptedLLM(TransformersClient(causal_folder), TEMPLATE, LABELS)
    client = served(interface="chat")
    with config_context(cache_dir=tmp_path):
        found = PromptedLLM(client, TEMPLATE, LABELS).predict_proba(TEXTS)
        np.testing.assert_allclose(found, here.predict_proba(TEXTS), atol=1e-4)
        sent = len(client.server.asked)
        again = OpenAIClient("tiny", base_url=client.server.url, interface="chat")
        kept = PromptedLLM(again, TEMPLATE, LABELS).predict_proba(TEXTS)
        np.testing.assert_array_equal(kept, found)
        assert len(client.server.asked) == sent


def late(told):
    """Tell each token's value at the next one, as an echo that is a token late."""
    values = [next(iter(row.values()))["logprob"] for row in told[1:]]
    names = [next(iter(row.values()))["decoded_token"] for row in told[1:]]
    pairs = zip(names, [-1.0, *values[:-1]], strict=True)
    return [None, *({"1": {"decoded_token": n, "logprob": v}} for n, v in pairs)]


@pytest.mark.parametrize(
    "spoil",
    [
        late,
        lambda told: None,
        lambda told: [*told, {"0": {"decoded_token": "<end>", "logprob": -0.1}}],
        lambda told: [None, {"0": {"decoded_token": "!", "logprob": -0.1}}, *told[3:]],
        lambda told: [row and {"0": {"decoded_token": "a"}} for row in told],
        lambda told: [row and {**row, "other": row} for row in told],
        lambda told: "none",
        lambda told: {"0": -1.0},
    ],
)
def test_what_cannot_be_the_answers_scores_is_not_trusted(spoil, served):
    assert served(spoil, interface="chat").fidelity == "top-k with bounds"


def test_servers_that_tell_no_more_are_looked_at_again(served):
    client = served(interface="chat")
    assert client.fidelity == "echo"
    respond = client.server.respond

    def silent(path, body):
        answer = respond(path, body)
        if isinstance(answer, dict):
            answer.pop("prompt_logprobs", None)
        return answer

    client.server.respond = silent
    with pytest.raises(LanguageModelServerError, match="the answer it was given"):
        client.score([f"film {i}" for i in range(20)], [OPTIONS] * 20)
    assert client.fidelity == "top-k with bounds"


def told(*tokens):
    rows = [{"7": {"decoded_token": t, "logprob": v}} for t, v in tokens]
    return SimpleNamespace(prompt_logprobs=[None, *rows])


def test_tokens_are_those_of_the_answer_alone():
    parts = told(("assistant", -5.0), ("\n", -4.0), ("", -1.0), ("\u597d", -2.0))
    assert given_tokens(parts, "\u597d") == [["", -1.0], ["\u597d", -2.0]]
    assert given_score(parts, "\u597d") == [-3.0]
    for option in ("d", "a\u597d", "assistant"):
        told_last = r"last tokens are '(\\n)?\u597d', not"  # and no more of the prompt
        with pytest.raises(LanguageModelServerError, match=told_last):
            given_tokens(parts, option)
    merged = told(("assistant", -5.0), ("\nbad", -4.0))
    with pytest.raises(LanguageModelServerError, match="merged tokens"):
        given_tokens(merged, "bad")
    with pytest.raises(LanguageModelServerError, match="no echo"):
        given_tokens(parts, "")
    assert given_score(told(("bad", -1.0)), "bad") == [-1.0]
