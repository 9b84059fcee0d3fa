"""Answers with a fault in one row, and tokens that are parts of characters."""

import numpy as np
import pytest

from fute_sklearn import PromptedLLM, config_context
from fute_sklearn.exceptions import LanguageModelServerError, ModelLabelWarning
from fute_sklearn.llm.clients._named_labels import named_label
from tests.llm.openai_server import (
    chat_choice,
    chat_server,
    given_server,
    model_server,
)

TEMPLATE, LABELS = "the film : {text} it was", ["bad", "good"]


def test_rows_are_counted_not_their_requests(client_of, model):
    """One row that fails at all of its labels is one row."""
    labels = ["bad", "good", "fine", "dull", "film", "very", "it", "no", "was", "a"]
    client = client_of(given_server(model), interface="chat")
    llm = PromptedLLM(client, TEMPLATE, labels, on_error="missing")
    rows = ["film bad", "film it", "film was", "film no"]
    llm.predict(rows[1:2])  # asks for the labels' tokens
    for status in (400, 500):
        with config_context(cache_dir=None):
            client.server.spoil = lambda answer, body, status=status: (
                (status, "application/json", {"error": "no"})
                if "film bad" in body["messages"][0]["content"]
                else answer
            )
            with pytest.warns(ModelLabelWarning, match="1 of 4 rows"):
                found = llm.predict(rows)
        assert [one is None for one in found] == [True, False, False, False]


def test_half_a_character_is_no_crash(client_of):
    def one(text, body):
        return [chat_choice("good", [("good", -0.1), ("\ud83d", -3.0)])]

    client = client_of(chat_server(one), interface="chat")
    assert list(PromptedLLM(client, TEMPLATE, LABELS).predict(["film"])) == ["good"]


def test_an_empty_list_of_bytes_tells_nothing(client_of):
    def one(text, body):
        choice = chat_choice("good", [("good", -0.1), ("bad", -3.0)])
        for part in choice["logprobs"]["content"]:
            part["bytes"] = []
        return [choice]

    client = client_of(chat_server(one), interface="chat")
    assert list(PromptedLLM(client, TEMPLATE, LABELS).predict(["film"])) == ["good"]


@pytest.mark.parametrize(
    ("said", "label"),
    [
        ("positive, 0.95", 1),
        ("positive,0.95", 1),
        ("positive.1", 1),
        ("1.positive", 1),
        ("it is negative.", 0),
        ("ne\u0301gative", None),
    ],
)
def test_labels_that_are_words_are_named_beside_numbers(said, label):
    if label is None:
        with pytest.raises(LanguageModelServerError, match="names 0"):
            named_label(said, ["negative", "positive"])
    else:
        assert named_label(said, ["negative", "positive"]) == label


@pytest.mark.parametrize(
    ("said", "labels", "found"),
    [
        ("1.5 stars", ["1", "2"], None),
        ("it has 2.5", ["5", "2"], None),
        ("1. It is bad", ["1", "2"], 0),
        ("rated 2, out of 5", ["1", "2"], 1),
        ("e\u0301", ["e", "\u00e9"], 1),
    ],
)
def test_labels_that_are_numbers_are_no_parts_of_others(said, labels, found):
    if found is None:
        with pytest.raises(LanguageModelServerError, match="names 0"):
            named_label(said, labels)
    else:
        assert named_label(said, labels) == found


@pytest.mark.parametrize("wrong", [None, 5, ["a"]])
def test_a_token_that_is_no_text_costs_its_row_only(wrong, client_of):
    def one(text, body):
        choice = chat_choice("good", [("good", -0.1), ("bad", -3.0)])
        if "odd" in text:
            choice["logprobs"]["content"][0]["top_logprobs"][1]["token"] = wrong
        return [choice]

    client = client_of(chat_server(one), interface="chat")
    llm = PromptedLLM(client, TEMPLATE, LABELS, on_error="missing")
    with pytest.warns(ModelLabelWarning, match="a token's text is"):
        found = llm.predict(["film", "odd", "dull"])
    assert list(found) == ["good", None, "good"]


@pytest.mark.parametrize("told", ["\ufffd", "bytes:\\xe5\\x9d"])
def test_parts_of_characters_may_begin_a_label(told, client_of):
    """The first token of one label is a character, of the other a part of one."""
    top = [("\u597d", np.log(0.5)), (told, np.log(0.49)), ("x", np.log(0.009))]

    def one(text, body):
        choice = chat_choice("\u597d", top, path=top[:1])
        listed = choice["logprobs"]["content"][0]["top_logprobs"]
        listed[1]["bytes"] = [0xE5, 0x9D]
        return [choice]

    client = client_of(chat_server(one), interface="chat")
    lower, upper = client.bounds(["film"], [["\u597d", "\u574f"]])[0]
    assert lower[0] == pytest.approx(0.5)
    assert upper[1] == pytest.approx(0.491)


def parts_of_characters(answer, body):
    """Tell tokens and offsets as servers do that decode token by token."""
    for choice in answer["choices"]:
        found, tokens, values = choice["logprobs"], [], []
        pairs = zip(found["tokens"], found["token_logprobs"], strict=True)
        for token, value in pairs:
            if "\U0001f3ac" in token:
                tokens += [token.replace("\U0001f3ac", "\ufffd"), "\ufffd", "\ufffd"]
                values += [value, -2.0, -2.0]
            else:
                tokens.append(token)
                values.append(value)
        starts = np.cumsum([0, *map(len, tokens[:-1])]).tolist()
        choice["logprobs"] = {
            "tokens": tokens,
            "token_logprobs": values,
            "text_offset": starts,
        }
    return answer


@pytest.mark.parametrize(
    "context",
    [
        "the \U0001f3ac film it was",
        "\U0001f3ac it was",
        "film \U0001f3ac",
        "the \U0001f3ac film : \U0001f3ac it was",
    ],
)
def test_echoes_of_parts_of_characters_are_scored_right(context, client_of, model):
    server = model_server(model)
    server.spoil = parts_of_characters
    client = client_of(server, interface="completions")
    options = [" good", " very bad film"]
    found = client.score([context], [options])[0]
    np.testing.assert_allclose(found, model.score([context], [options])[0], atol=1e-4)
    values, count = client.score_text([context + " good"])[0]
    true, tokens = model.score_text([context + " good"])[0]
    if not context.startswith("\U0001f3ac"):  # whose first token has no value
        parts = 2 * context.count("\U0001f3ac")
        assert values == pytest.approx(true - 2.0 * parts, abs=1e-4)
        assert count == tokens + parts
