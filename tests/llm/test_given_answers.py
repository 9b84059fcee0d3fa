"""Servers that tell how likely an answer is that was given with its message (vLLM)."""

from types import SimpleNamespace

import numpy as np
import pytest

from fute_sklearn import OpenAIClient, PromptedLLM, TransformersClient, config_context
from fute_sklearn.exceptions import LanguageModelServerError, RowsFailedError
from fute_sklearn.llm.clients._server_answers import given_score, given_tokens
from tests.llm.openai_server import given_server

TEXTS = ["a fine film", "very dull", "it is no good film", "the film was fine"]
TEMPLATE, LABELS = "the film : {text} it was", ["bad", "good"]
OPTIONS = [" good", " very bad film"]


@pytest.fixture
def served(model, client_of):
    def start(spoil=lambda told: told, sure=None, **settings):
        return client_of(given_server(model, spoil, sure=sure), **settings)

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
    assert client.n_requests_ == before + 8 + len(
        OPTIONS
    )  # whose tokens are asked once
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


def rewritten(told, change):
    """Change the texts and values of a prompt's tokens."""
    rows = [next(iter(row.items())) for row in told[1:]]
    pairs = change([(one["decoded_token"], one["logprob"]) for _, one in rows])
    return [
        None,
        *(
            {number: {"decoded_token": text, "logprob": value}}
            for (number, _), (text, value) in zip(rows, pairs, strict=True)
        ),
    ]


def late(told):
    """Tell each token's value at the next one, as an echo that is a token late."""
    return rewritten(
        told,
        lambda pairs: [
            (text, value)
            for (text, _), (_, value) in zip(
                pairs, [("", -1.0), *pairs[:-1]], strict=True
            )
        ],
    )


@pytest.mark.parametrize(
    "spoil",
    [
        late,
        lambda told: None,
        lambda told: [*told, {"0": {"decoded_token": "<end>", "logprob": -0.1}}],
        lambda told: [*told, {"0": {"decoded_token": "", "logprob": -0.1}}],
        lambda told: told[-1:],
        lambda told: [None, {"0": {"decoded_token": "!", "logprob": -0.1}}, *told[3:]][
            :2
        ],
        lambda told: [row and {"0": {"decoded_token": "a"}} for row in told],
        lambda told: [row and {**row, "other": row} for row in told],
        lambda told: [row and {"x": row} for row in told],
        lambda told: "none",
        lambda told: {"0": -1.0},
    ],
)
@pytest.mark.parametrize("sure", [None, 0.0])
def test_what_cannot_be_the_answers_scores_is_not_trusted(spoil, sure, served):
    client = served(spoil, sure=sure, interface="chat")
    assert client.fidelity == "top-k with bounds"


def test_the_first_token_of_an_answer_may_start_with_a_blank(served, model):
    """As in templates that put one between the message and the answer."""

    def blank(told):
        count = 4  # of the tokens before the answer
        return rewritten(
            told,
            lambda pairs: [
                (f" {text}" if i == count else text, value)
                for i, (text, value) in enumerate(pairs)
            ],
        )

    client = served(blank, interface="chat")
    assert client.fidelity == "echo"
    found = client.score(TEXTS, [OPTIONS] * 4)
    np.testing.assert_allclose(found, model.score(TEXTS, [OPTIONS] * 4), atol=1e-4)


def test_the_same_text_elsewhere_is_not_taken_for_the_answer(served):
    """As from templates that were cut after an earlier place of the label's text."""

    def cut(told):
        if next(iter(told[-1].values()))["decoded_token"] != "bad":
            return told
        return [
            *told,
            *(
                {str(i): {"decoded_token": t, "logprob": -0.1}}
                for i, t in enumerate(["<", "|", "bad"])
            ),
        ]

    client = served(cut, interface="chat")
    assert client.fidelity == "echo"
    sent = client.n_requests_
    with pytest.raises(LanguageModelServerError, match="another than before.*Remedy"):
        client.score([f"film {i}" for i in range(20)], [[" good", " bad"]] * 20)
    assert client.n_requests_ <= sent + 2  # found out before the job


def test_rows_whose_prompt_ends_otherwise_fail(served):
    client = served(interface="chat")
    assert client.fidelity == "echo"
    respond = client.server.respond

    def longer(path, body):
        answer = respond(path, body)
        if "capital of France" in body["messages"][0]["content"]:
            return answer
        answer["prompt_logprobs"].append(
            {"9": {"decoded_token": "\n", "logprob": -0.1}}
        )
        return answer

    client.server.respond = longer
    with pytest.raises(LanguageModelServerError, match=r"does not end with the tokens"):
        client.score([f"film {i}" for i in range(20)], [[" good", " bad"]] * 20)
    assert len(client.server.asked) < 30


@pytest.mark.parametrize("status", [400, 403, 429, 500, 502, 503])
def test_faults_of_given_answers_do_not_end_the_search(status, served, tmp_path):
    client = served(interface="chat")
    respond, failed = client.server.respond, []

    def failing(path, body):
        # A limit of requests is over at the second try.
        if "prompt_logprobs" in body and not (status == 429 and failed):
            failed.append(body)
            return status, "application/json", {"error": {"message": "no"}}
        return respond(path, body)

    client.server.respond = failing
    retries = OpenAIClient(
        "tiny", base_url=client.server.url, interface="chat", max_retries=2
    )
    with config_context(cache_dir=tmp_path):
        if status == 403:  # of the account
            with pytest.raises(LanguageModelServerError, match="key refused"):
                assert retries.fidelity
            return
        expected = "echo" if status == 429 else "top-k with bounds"
        assert (retries.fidelity, len(failed)) == (expected, 1)
        client.server.respond = respond
        again = OpenAIClient("tiny", base_url=client.server.url, interface="chat")
        passing = status in (429, 500, 502, 503)  # what may be over the next time
        assert again.fidelity == ("echo" if passing else "top-k with bounds")


def test_blank_labels_are_refused_before_anything_is_sent(served):
    client = served(interface="chat")
    assert client.fidelity == "echo"
    sent = client.n_requests_
    with pytest.raises(ValueError, match="a continuation is blank"):
        client.score(TEXTS, [[" good", " "]] * 4)
    assert client.n_requests_ == sent


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
    with pytest.raises(
        LanguageModelServerError, match="log-probabilities of the prompt"
    ):
        client.score([f"film {i}" for i in range(20)], [OPTIONS] * 20)
    assert client.fidelity == "top-k with bounds"


BEFORE = [("user", -5.0), ("x", -5.0), ("assistant", -5.0), ("\n", -4.0)]


def told(*tokens):
    rows = [
        {str(i): {"decoded_token": text, "logprob": value}}
        for i, (text, value) in enumerate([*BEFORE, *tokens])
    ]
    return SimpleNamespace(prompt_logprobs=[None, *rows])


def test_tokens_are_those_of_the_answer_alone():
    parts = told(("", -1.0), ("\u597d", -2.0))
    assert given_tokens(parts, "\u597d") == {
        "lead": [1, 2, 3],
        "tokens": [[4, "", -1.0], [5, "\u597d", -2.0]],
    }
    assert given_score(parts, "\u597d", [4, 5], [1, 2, 3]) == [-3.0]
    for option in ("d", "a\u597d", "assistant"):
        with pytest.raises(LanguageModelServerError, match="last tokens are"):
            given_tokens(parts, option)
    # A special token before an answer is none of it, one after it is an end.
    spaced = given_tokens(told(("", -3.0), ("bad", -1.0)), "bad")
    assert [row[0] for row in spaced["tokens"]] == [5]
    for wrong in (
        told(("\nbad", -4.0), ("ly", -1.0)),
        told(("bad", -1.0), ("", -3.0)),
        SimpleNamespace(prompt_logprobs=[None, {"5": {"decoded_token": "bad"}}]),
    ):
        with pytest.raises(LanguageModelServerError, match="merged tokens"):
            given_tokens(wrong, "bad")
    with pytest.raises(LanguageModelServerError, match="does not end with the tokens"):
        given_score(parts, "\u597d", [5], [1, 2, 3])
    with pytest.raises(LanguageModelServerError, match="no echo"):
        given_score(SimpleNamespace(), "bad", [5], [1, 2, 3])


@pytest.mark.parametrize("of", ["labels", "places"])
def test_a_label_that_is_never_scored_stops_the_job(of, served):
    """One request a label: the others of each row are answered, so no row is."""
    client = served(n_concurrent=1)
    rows = [
        [" good", " bad"] if of == "labels" else [f" good {i}", f" bad {i}"]
        for i in range(40)
    ]
    texts = [f"film {i}" for i in range(40)]
    client.forecast(texts, rows)  # asks for the tokens of the labels
    client.server.spoil = lambda answer, body: (
        (400, "application/json", {"error": "no such label"})
        if body["messages"][-1]["content"].startswith("bad")
        else answer
    )
    before = client.n_requests_
    with pytest.raises(LanguageModelServerError, match="8 rows in a row failed alike"):
        client.score(texts, rows)
    assert client.n_requests_ - before == 16
    # Where a row of the job is answered, such faults may be those of single rows.
    client.server.spoil = None
    client.score(texts[-1:], [[" good", " bad"]])
    if of == "labels":
        client.server.spoil = lambda answer, body: (
            (400, "application/json", {"error": "no such label"})
            if body["messages"][-1]["content"] == "bad"
            else answer
        )
        with pytest.raises(RowsFailedError) as found:
            client.score(texts[10:], rows[10:])
        assert len(found.value.rows) == 29
