"""Clients of OpenAI-compatible servers: answers, faults, jobs that are killed."""

import math
import os
import pickle
import random
import signal
import time

import numpy as np
import pytest

from fute_sklearn import (
    MTEWrapper,
    OpenAIClient,
    PromptedLLM,
    PromptSelector,
    config_context,
)
from fute_sklearn._utils._config import get_config
from fute_sklearn.exceptions import (
    BudgetExceededError,
    ClientCapabilityError,
    DamagedCacheWarning,
    LanguageModelServerError,
    ModelLabelError,
    ModelLabelWarning,
    RowsFailedError,
)
from fute_sklearn.llm.clients._answer_store import AnswerStore
from fute_sklearn.llm.clients._label_requests import RESTRICTIONS
from fute_sklearn.llm.clients._named_labels import label_bounds
from fute_sklearn.llm.clients._request_queue import PAID
from tests.forked import CONTEXT
from tests.llm.openai_server import chat_choice, chat_server, model_server

KEY = "sk-this-must-not-be-seen-anywhere"
TEXTS = ["a fine film", "very dull", "it is no good film", "the film was fine"]
LABELS = ["bad", "good"]
TEMPLATE = "the film : {text} it was"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def server(model):
    found = model_server(model)
    yield found
    found.shutdown()
    found.server_close()


@pytest.fixture
def chat():
    started = []

    def start(answer):
        started.append(chat_server(answer))
        return started[-1]

    yield start
    for found in started:
        found.shutdown()
        found.server_close()


def client_of(server, **changes):
    settings = {"max_retries": 0, "timeout": 10.0, "api_key_env": "OPENAI_API_KEY"}
    settings |= changes
    return OpenAIClient("tiny", base_url=server.url, **settings)


def proved(server, **changes):
    """Return a client that knows what the server offers, and forget the requests."""
    assert client_of(server, **changes).fidelity
    server.asked.clear()
    return client_of(server, **changes)


def test_echoed_scores_are_those_of_the_model(server, model):
    client = client_of(server)
    assert client.fidelity == "echo"
    contexts = [TEMPLATE.format(text=text) for text in TEXTS]
    options = [[" good", " very bad film"]] * len(TEXTS)
    expected = model.score(contexts, options)
    np.testing.assert_allclose(client.score(contexts, options), expected, atol=1e-4)
    found = client.score_text(TEXTS)
    for (total, count), (value, number) in zip(
        found, model.score_text(TEXTS), strict=True
    ):
        assert count == number
        assert total == pytest.approx(value, abs=1e-4)
    assert client.generate(["the film"], 3) == model.generate(["the film"], 3)
    assert server.keys == {f"Bearer {KEY}"}


def test_prompt_at_a_server_labels_like_the_one_in_process(server, model):
    remote = PromptedLLM(client_of(server), TEMPLATE, LABELS, calibration="contextual")
    local = PromptedLLM(model_client(model), TEMPLATE, LABELS, calibration="contextual")
    np.testing.assert_allclose(
        remote.predict_proba(TEXTS), local.predict_proba(TEXTS), rtol=1e-3
    )
    task = MTEWrapper(remote, response_method="predict_proba").label(TEXTS)
    assert task.targets.proba.shape == (4, 2)
    ranked = PromptSelector([remote], "spell").fit(TEXTS)
    assert np.isfinite(ranked.scores_).all()


def model_client(model):
    class Client:
        capabilities, fingerprint = {"score", "score_text"}, "local"
        score, score_text = model.score, model.score_text

    return Client()


def test_answers_are_kept_and_never_asked_twice(server):
    llm = PromptedLLM(proved(server), TEMPLATE, LABELS)
    assert llm.forecast(TEXTS)["requests"] == len(TEXTS)
    first = llm.predict_proba(TEXTS[:3])
    asked = len(server.asked)
    cost = llm.forecast(TEXTS)
    assert (cost["requests"], cost["kept"]) == (1, 3)
    assert cost["tokens"] > 5
    again = PromptedLLM(client_of(server), TEMPLATE, LABELS).predict_proba(TEXTS)
    np.testing.assert_array_equal(again[:3], first)
    assert len(server.asked) == asked + 1


def test_key_is_nowhere(server, cache_dir, caplog):
    caplog.set_level("DEBUG")
    client = client_of(server)
    llm = PromptedLLM(client, TEMPLATE, LABELS)
    llm.predict(TEXTS)
    copy = pickle.loads(pickle.dumps(llm))
    assert (copy.predict(TEXTS) == llm.predict(TEXTS)).all()
    assert copy.client.n_requests_ == 0
    seen = [repr(llm), str(vars(client)), pickle.dumps(llm).decode("latin1")]
    seen += [file.read_bytes().decode("latin1") for file in cache_dir.rglob("*.*")]
    server.spoil = lambda answer, body: (
        401,
        "application/json",
        {"error": {"message": f"Incorrect API key provided: {KEY}"}},
    )
    with pytest.raises(LanguageModelServerError, match="OPENAI_API_KEY") as caught:
        llm.predict(["one more film"])
    assert caught.value.kind == "key refused"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    seen += [str(caught.value), repr(caught.value)]
    seen += [record.getMessage() for record in caplog.records if "fute" in record.name]
    assert not any(KEY in part for part in seen)
    for address in ("http://me:secret@host/v1", "http://host/v1?key=secret"):
        with pytest.raises(ValueError, match="user, a password or a query"):
            OpenAIClient("m", base_url=address)


def test_keys_in_answers_are_masked(server):
    client = proved(server, interface="completions")
    server.spoil = lambda answer, body: {"error": {"message": f"bad token {KEY}"}}
    with pytest.raises(RowsFailedError) as caught:
        client.score(["a film"], [[" good", " bad"]])
    assert "***" in str(caught.value)
    assert KEY not in str(caught.value)


def test_the_key_of_openai_goes_nowhere_else_unasked(server):
    client = OpenAIClient("tiny", base_url=server.url, interface="completions")
    client.score(["a film"], [[" good", " bad"]])
    assert server.keys == {"Bearer none"}


def test_address_of_the_environment_counts(server, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    client, other = OpenAIClient("tiny"), OpenAIClient("tiny", base_url=server.url)
    assert client.fingerprint == other.fingerprint
    assert client.fidelity == "echo"


def test_missing_key_is_named(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(LanguageModelServerError, match="OPENAI_API_KEY"):
        OpenAIClient("m", interface="text").choose(["a"], [["b"]])


# Faults ---------------------------------------------------------------------------


def logprobs(answer):
    return [choice["logprobs"] for choice in answer["choices"]]


def dropped(answer, body):
    for choice in answer["choices"]:
        choice["logprobs"] = None
    return answer


def filled(value):
    def spoil(answer, body):
        for found in logprobs(answer):
            found["token_logprobs"] = [value] * len(found["tokens"])
        return answer

    return spoil


def ragged(answer, body):
    for found in logprobs(answer):
        del found["token_logprobs"][2:]
    return answer


def fewer(answer, body):
    answer["choices"] = answer["choices"][:1]
    return answer


def doubled(answer, body):
    for choice in answer["choices"]:
        choice["index"] = 0
    return answer


def truncated(answer, body):
    for choice in answer["choices"]:
        choice["text"] = choice["text"][:10]
    return answer


def no_echo(answer, body):
    for choice in answer["choices"]:
        choice["text"] = " and so on, for as long as the prompt was and longer"
    return answer


def other_tokens(answer, body):
    for found in logprobs(answer):
        found["tokens"] = ["other"] * len(found["tokens"])
        del found["text_offset"]
    return answer


def merged(answer, body):
    for found in logprobs(answer):
        for part in found.values():
            del part[-2]
        found["tokens"][-2] += " bad"
        found["text_offset"] = None
    for choice in answer["choices"]:
        choice["logprobs"]["tokens"][-2] = choice["logprobs"]["tokens"][-2].replace(
            " bad", choice["text"].removesuffix(" so")[-4:].rjust(4)
        )
    return answer


def withheld(answer, body):
    for choice in answer["choices"]:
        choice["finish_reason"] = "content_filter"
    return answer


FAULTS = {
    "no logprobs": dropped,
    "null logprobs": filled(None),
    "impossible logprobs": filled(0.0),
    "placeholder logprobs": filled(-9999.0),
    "ragged logprobs": ragged,
    "fewer rows": fewer,
    "rows in doubt": doubled,
    "truncated": truncated,
    "no echo": no_echo,
    "other model": lambda answer, body: {**answer, "model": "gpt-tiny"},
    "content filter": withheld,
    "no choices": lambda answer, body: {"error": {"message": "overloaded"}},
    "not json": lambda answer, body: (200, "text/html", b"<html>sign in</html>"),
    "RateLimitError": lambda *_: (429, "application/json", {"error": "slow down"}),
    "InternalServerError": lambda *_: (500, "application/json", {"error": "oops"}),
    "BadRequestError": lambda *_: (400, "application/json", {"error": "too long"}),
    "key refused": lambda *_: (403, "application/json", {"error": "no"}),
    "not found": lambda *_: (404, "application/json", {"error": "no model"}),
    "APIConnectionError": lambda *_: None,
}


@pytest.mark.parametrize("kind", FAULTS)
def test_faults_are_recognised_and_nothing_false_is_kept(kind, server):
    client = proved(server, interface="completions")
    server.spoil = FAULTS[kind]
    llm = PromptedLLM(client, TEMPLATE, LABELS)
    with pytest.raises((LanguageModelServerError, RowsFailedError)) as caught:
        llm.predict(TEXTS)
    rows = getattr(caught.value, "rows", {0: caught.value})
    assert {error.kind for error in rows.values()} == {kind}
    server.spoil = None
    if kind in PAID:
        sent = len(server.asked)
        with pytest.raises(RowsFailedError):
            llm.predict(TEXTS)
        assert len(server.asked) == sent
        llm.client.retry_failed = True
    assert llm.forecast(TEXTS)["kept"] == 0
    assert llm.predict(TEXTS).shape == (4,)


@pytest.mark.parametrize("kind", sorted(set(FAULTS) - {"fewer rows", "rows in doubt"}))
def test_servers_are_not_trusted_before_they_are_proved(kind, server, cache_dir):
    server.spoil = FAULTS[kind]
    llm = PromptedLLM(client_of(server, interface="completions"), TEMPLATE, LABELS)
    with pytest.raises(LanguageModelServerError) as caught:
        llm.predict(TEXTS)
    assert caught.value.kind == kind
    server.spoil = None
    assert llm.predict(TEXTS).shape == (4,)


@pytest.mark.parametrize("spoil", [fewer, doubled])
def test_lists_that_come_back_short_are_sent_one_by_one(spoil, server):
    server.spoil = spoil
    client = client_of(server, interface="completions")
    found = client.score(["a film"], [[" good", " bad"]])[0]
    assert isinstance(server.asked[-1]["prompt"], str)
    server.spoil = None
    with config_context(cache_dir=None):
        sound = client_of(server).score(["a film"], [[" good", " bad"]])[0]
    np.testing.assert_array_equal(found, sound)


def late(answer, body):
    """Give each token the log-probability of the one before, as llama-cpp-python."""
    if body.get("echo"):
        for found in logprobs(answer):
            values = found["token_logprobs"]
            found["token_logprobs"] = [None, -3.0, *values[1:-1]]
    return answer


def by_length(answer, body):
    """Score by the lengths of the strings, which has nothing to do with a model."""
    for found in logprobs(answer):
        found["token_logprobs"] = [-float(len(token)) for token in found["tokens"]]
    return answer


def rescaled(answer, body):
    """Halve the log-probabilities of echoes."""
    if body.get("echo"):
        for found in logprobs(answer):
            found["token_logprobs"] = [v and v / 9 for v in found["token_logprobs"]]
    return answer


def turned(answer, body):
    """Count what is likely as unlikely, in echoes and generated texts alike."""
    for found in logprobs(answer):
        found["token_logprobs"] = [v and -10 - v for v in found["token_logprobs"]]
    return answer


def constant(answer, body):
    """Give every token the same log-probability."""
    return filled(-2.5)(answer, body)


LIES = [late, by_length, rescaled, turned, constant]


@pytest.mark.parametrize("lie", LIES)
def test_log_probabilities_that_cannot_be_true_are_refused(lie, server):
    server.spoil = lie
    client = client_of(server, interface="completions")
    with pytest.raises(LanguageModelServerError, match="(wrong|impossible) logprobs"):
        client.score(["a film"], [[" good", " bad"]])
    proofs = [body for body in server.asked if "max_tokens" in body]
    assert sum(not set(RESTRICTIONS) & set(body) for body in proofs) <= 3


def test_servers_of_one_prompt_a_request(model):
    server = model_server(model, lists=False)
    assert client_of(server).fidelity == "echo"
    prompts = [body["prompt"] for body in server.asked if "max_tokens" in body]
    assert [isinstance(prompt, str) for prompt in prompts].count(True) == 3
    assert len(prompts) == 4  # the list of two was refused
    client = proved(server)
    contexts, options = ["a film", "the film was"], [[" good", " very bad film"]] * 2
    found = client.score(contexts, options)
    np.testing.assert_allclose(found, model.score(contexts, options), atol=1e-4)
    assert client.n_requests_ == 4
    assert client.forecast(contexts, options)["kept"] == 4
    assert client.score_text(TEXTS)[0][1] == model.score_text(TEXTS)[0][1]
    server.shutdown()
    server.server_close()


def test_other_faults_of_logprobs(server):
    llm = PromptedLLM(proved(server, interface="completions"), TEMPLATE, LABELS)
    for spoil, kind in (
        (filled(0.7), "impossible logprobs"),
        (filled(float("nan")), "impossible logprobs"),
        (other_tokens, "no echo"),
        (merged, "merged tokens"),
    ):
        server.spoil = spoil
        with pytest.raises(RowsFailedError) as caught:
            llm.predict(TEXTS[:1])
        assert caught.value.rows[0].kind == kind


def test_broken_json_is_a_fault(server):
    llm = PromptedLLM(proved(server, interface="completions"), TEMPLATE, LABELS)
    server.spoil = lambda answer, body: (200, "application/json", b'{"choices": [')
    with pytest.raises(RowsFailedError):
        llm.predict(TEXTS[:1])


def test_names_with_dates_and_paths_are_the_model_asked_for(server):
    llm = PromptedLLM(client_of(server, interface="completions"), TEMPLATE, LABELS)
    for i, name in enumerate(("tiny-2026-01-01", "models/Tiny", "org/tiny:latest")):
        server.spoil = lambda answer, body, name=name: {**answer, "model": name}
        assert llm.predict([f"film {i}"]).shape == (1,)


def test_a_start_token_before_the_echo_is_no_fault(server):
    llm = PromptedLLM(client_of(server, interface="completions"), TEMPLATE, LABELS)
    plain = llm.predict_proba(TEXTS)

    def started(answer, body):
        for found in logprobs(answer):
            found["tokens"].insert(0, "<s>")
            found["token_logprobs"].insert(0, None)
            found["token_logprobs"][1] = -2.0
            found["text_offset"].insert(0, 0)
        return answer

    server.spoil = started
    with config_context(cache_dir=None):
        np.testing.assert_array_equal(llm.predict_proba(TEXTS), plain)


def test_some_rows_fail(server):
    def spoil(answer, body):
        bad = any("dull" in prompt for prompt in body["prompt"])
        return withheld(answer, body) if bad else answer

    llm = PromptedLLM(proved(server), TEMPLATE, LABELS)
    server.spoil = spoil
    with pytest.raises(RowsFailedError, match=r"1 of 4 rows.*rows \[1\].*filter") as e:
        llm.predict_proba(TEXTS)
    assert [row is None for row in e.value.answers] == [False, True, False, False]
    assert list(pickle.loads(pickle.dumps(e.value)).rows) == [1]
    llm.set_params(on_error="missing")
    with pytest.warns(ModelLabelWarning, match="filter"):
        proba = llm.predict_proba(TEXTS)
    assert np.isnan(proba).all(1).tolist() == [False, True, False, False]
    with pytest.warns(ModelLabelWarning):
        assert llm.predict(TEXTS)[1] is None
    llm.set_params(calibration="batch")
    with pytest.warns(ModelLabelWarning):
        llm.fit(TEXTS)
    np.testing.assert_allclose(np.exp(llm.label_log_prior_), np.nanmean(proba, 0))
    llm.set_params(on_error="raise", calibration=None)
    with pytest.warns(ModelLabelWarning, match="dropped"):
        task = MTEWrapper(llm, on_error="drop").label(TEXTS)
    assert task.texts == (TEXTS[0], *TEXTS[2:])
    with pytest.warns(ModelLabelWarning):
        selector = PromptSelector(
            [llm.set_params(on_error="missing")], "global_entropy"
        ).fit(TEXTS)
    assert np.isfinite(selector.scores_).all()


def test_retries_follow_rate_limits(server):
    left = [2]

    def spoil(answer, body):
        left[0] -= 1
        if left[0] >= 0:
            return 429, "application/json", {"error": "slow down"}
        return answer

    client = proved(server, max_retries=3, interface="completions")
    server.spoil = spoil
    assert len(client.score(["a film"], [[" good", " bad"]])) == 1
    assert len(server.asked) == 3


def test_rows_that_are_refused_stop_a_job_only_if_no_other_was_answered(server):
    client = proved(server, interface="completions", n_concurrent=1)
    server.spoil = lambda answer, body: (
        answer if "fine" in body["prompt"][0] else withheld(answer, body)
    )
    llm = PromptedLLM(client, TEMPLATE, LABELS, on_error="missing")
    rows = [f"bad film {i}" for i in range(30)]
    with pytest.raises(
        LanguageModelServerError, match="8 rows in a row failed alike"
    ) as e:
        llm.predict(rows)
    assert (e.value.kind, e.value.fatal) == ("content filter", True)
    assert len(server.asked) == 8
    # What was paid for is not asked again: the next call goes on with other rows.
    with pytest.raises(LanguageModelServerError, match="8 rows in a row"):
        llm.predict(rows)
    assert len(server.asked) == 16
    with pytest.warns(ModelLabelWarning, match="30 of 31"):
        found = llm.predict(["a fine film", *rows])
    assert found[0] in LABELS
    assert len(server.asked) == 31


OTHER = "Film: {text} Is it good or bad? It is"


@pytest.mark.parametrize("interface", ["completions", "chat", "text", "samples"])
def test_what_a_client_has_answered_to_one_prompt_tells_nothing_of_another(
    interface, server, chat
):
    used = server if interface == "completions" else chat(said)
    client = proved(used, interface=interface, n_concurrent=1)
    PromptedLLM(client, TEMPLATE, LABELS).predict(TEXTS)
    sent = len(used.asked)
    used.spoil = lambda *_: (400, "application/json", {"error": "too odd"})
    other = PromptedLLM(client, OTHER, LABELS, on_error="missing")
    with pytest.raises(LanguageModelServerError, match="8 rows in a row failed alike"):
        other.predict([f"film {i}" for i in range(100)])
    assert len(used.asked) - sent <= 8 * 10  # of ten samples each


def test_prompts_of_one_call_are_told_apart(server):
    client = proved(server, interface="completions", n_concurrent=1)
    server.spoil = lambda answer, body: (
        withheld(answer, body) if "Film:" in body["prompt"][0] else answer
    )
    prompts = [
        PromptedLLM(client, one, LABELS, on_error="missing")
        for one in (TEMPLATE, OTHER)
    ]
    texts = [f"film {i}" for i in range(40)]
    with pytest.raises(LanguageModelServerError, match="8 rows in a row failed alike"):
        PromptSelector(prompts, "global_entropy").fit(texts)
    assert len(server.asked) == 40 + 8


def test_a_prompt_that_worked_may_fail_for_more_rows_of_a_later_job(server):
    client = proved(server, interface="completions", n_concurrent=1)
    llm = PromptedLLM(client, TEMPLATE, LABELS, on_error="missing")
    llm.predict(TEXTS)
    server.spoil = withheld
    with pytest.warns(ModelLabelWarning, match="20 of 20"):
        llm.predict([f"bad film {i}" for i in range(20)])
    with pytest.raises(LanguageModelServerError, match="32 rows in a row failed alike"):
        llm.predict([f"worse film {i}" for i in range(100)])
    assert len(server.asked) == len(TEXTS) + 32


@pytest.mark.filterwarnings("ignore:.*are dropped")
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("fault", ["rows", "network"])
@pytest.mark.parametrize("size", [1, 5])
def test_faults_count_over_the_calls_of_small_batches(size, fault, known, server):
    client = proved(server, interface="completions", n_concurrent=1)
    llm = PromptedLLM(client, TEMPLATE, LABELS)
    if known:
        llm.predict(TEXTS)
    server.asked.clear()
    away = 503, "application/json", {"error": "away"}
    server.spoil = withheld if fault == "rows" else lambda *_: away
    texts = [f"bad film {i}" for i in range(100)]
    wrapper = MTEWrapper(llm, on_error="drop", batch_size=size)
    with pytest.raises(ModelLabelError):
        wrapper.label(texts)
    assert len(server.asked) == (32 if known and fault == "rows" else 8)
    # The same call goes on with as many other rows, if the first ones were paid for.
    with pytest.raises(ModelLabelError):
        wrapper.label(texts)
    assert len(server.asked) == (64 if known and fault == "rows" else 16)


def test_a_kept_answer_does_not_have_all_other_rows_sent(server):
    client = proved(server, interface="completions", n_concurrent=1)
    texts = [f"film {i}" for i in range(100)]
    PromptedLLM(client, TEMPLATE, LABELS).predict(texts[:1])
    later = PromptedLLM(
        client_of(server, interface="completions", n_concurrent=1), TEMPLATE, LABELS
    )
    server.spoil = withheld
    with pytest.raises(LanguageModelServerError, match="32 rows in a row failed alike"):
        later.predict(texts)
    assert len(server.asked) == 1 + 32


@pytest.mark.parametrize("written", [True, False])
def test_reasons_and_whole_texts_of_another_prompt_stop_too(written, server):
    client = proved(server, interface="completions", n_concurrent=1)
    texts = [f"film {i}" for i in range(100)]

    def ask(template):
        if written:
            llm = PromptedLLM(client, template, LABELS, cot="Why?", on_error="missing")
            llm.predict(texts)
        else:
            llm = PromptedLLM(client, template, LABELS)
            PromptSelector([llm], "spell").fit(texts)

    ask(TEMPLATE)
    sent = len(server.asked)
    server.spoil = lambda *_: (422, "application/json", {"error": "too odd"})
    with pytest.raises(LanguageModelServerError, match="8 rows in a row failed alike"):
        ask(OTHER)
    assert len(server.asked) == sent + 8


def test_calls_without_a_prompt_are_jobs_of_their_own(server):
    client = proved(server, interface="completions", n_concurrent=1)
    options = [[" good", " bad"]] * 100
    client.score([f"A film {i}" for i in range(100)], options)
    server.spoil = withheld
    with pytest.raises(LanguageModelServerError, match="8 rows in a row failed alike"):
        client.score([f"Some film {i}" for i in range(100)], options)
    assert len(server.asked) == 108


@pytest.mark.parametrize("status", [400, 422])
def test_requests_that_are_refused_alike_are_not_all_sent(status, server):
    client = proved(server, interface="completions", n_concurrent=4)
    server.spoil = lambda *_: (status, "application/json", {"error": "no such field"})
    llm = PromptedLLM(client, TEMPLATE, LABELS, on_error="missing")
    with pytest.raises(LanguageModelServerError, match="no such field"):
        llm.predict([f"film {i}" for i in range(40)])
    assert len(server.asked) < 16


def test_fatal_faults_and_spent_budgets_are_no_faults_of_rows(server):
    client = proved(server, interface="completions")
    server.spoil = lambda *_: (401, "application/json", {"error": "expired"})
    llm = PromptedLLM(client, TEMPLATE, LABELS)
    texts = [f"film {i}" for i in range(100)]
    with pytest.raises(ModelLabelError, match="key refused"):
        MTEWrapper(llm, on_error="drop").label(texts)
    assert len(server.asked) <= 4
    server.spoil = None
    llm = PromptedLLM(
        client_of(server, interface="completions", max_requests=5), TEMPLATE, LABELS
    )
    with pytest.raises(ModelLabelError, match="max_requests=5 is spent"):
        MTEWrapper(llm, on_error="drop").label(texts)
    assert llm.client.n_requests_ == 5


def test_rows_that_failed_are_not_asked_twice(server):
    client = proved(server, interface="completions")
    server.spoil = lambda answer, body: (
        (400, "application/json", {"error": "too odd"})
        if "dull" in body["prompt"][0]
        else answer
    )
    llm = PromptedLLM(client, TEMPLATE, LABELS)
    with pytest.warns(ModelLabelWarning, match="1 texts"):
        task = MTEWrapper(llm, on_error="drop").label(TEXTS)
    assert len(task.texts) == 3
    assert len(server.asked) == 4


def test_many_faults_in_a_row_stop_the_job(server):
    client = proved(server, interface="completions", n_concurrent=1)
    server.spoil = dropped
    llm = PromptedLLM(client, TEMPLATE, LABELS)
    with pytest.raises(LanguageModelServerError) as caught:
        llm.predict([f"film {i}" for i in range(40)])
    assert "0 of 40 answers are kept" in caught.value.__notes__[0]
    assert len(server.asked) == 8


def test_budgets_stop_before_they_are_exceeded(server):
    def settings(**more):
        return client_of(server, interface="completions", n_concurrent=1, **more)

    contexts, options = [f"film {i}" for i in range(9)], [[" good", " bad"]] * 9
    proved(server, interface="completions", n_concurrent=1)
    client = settings(max_requests=3)
    with pytest.raises(BudgetExceededError, match="max_requests=3 is spent") as caught:
        client.score(contexts, options)
    assert "3 of 9" in caught.value.__notes__[0]
    assert (len(server.asked), client.n_requests_, client.n_tokens_) == (3, 3, 30)
    with pytest.raises(BudgetExceededError, match="max_tokens=20"):
        settings(max_tokens=20).score(contexts, options)
    assert len(server.asked) == 5
    assert len(settings(max_requests=4).score(contexts, options)) == 9


def test_damaged_answers_are_asked_for_again(server, cache_dir):
    llm = PromptedLLM(client_of(server), TEMPLATE, LABELS)
    proba = llm.predict_proba(TEXTS)
    store = AnswerStore(get_config()["cache_dir"])
    store._file.execute("UPDATE answers SET answer = '[-1.0, -2.0]'")
    store._file.commit()
    store.close()
    np.testing.assert_array_equal(llm.predict_proba(TEXTS), proba)
    for file in cache_dir.glob("answers.sqlite*"):
        file.write_bytes(b"no database" * 100)
    with pytest.warns(DamagedCacheWarning, match="answers.sqlite"):
        np.testing.assert_array_equal(llm.predict_proba(TEXTS), proba)


def test_answers_are_kept_though_the_file_is_damaged(tmp_path):
    store = AnswerStore(tmp_path)
    store.put("a", 1)
    store.close()
    path = tmp_path / "answers.sqlite"
    # The head stays sound, so that the damage shows when the first answer is written.
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 8192)
    with pytest.warns(DamagedCacheWarning, match="malformed"):
        store = AnswerStore(tmp_path)
    store.put("b", 2)
    assert (store.get("a"), store.get("b")) == (None, 2)
    store.close()
    assert len(list(tmp_path.glob("*.damaged"))) == 1


# Chat -----------------------------------------------------------------------------


def said(text, body):
    fine = "fine" in text
    top = [("Good" if fine else "Bad", -0.1), ("bad" if fine else " good", -3.0)]
    return [chat_choice(top[0][0], [*top, ("The", -5.0)] if "logprobs" in body else [])]


def test_chat_gives_bounds_of_first_tokens(chat):
    server = chat(said)
    client = client_of(server)
    assert client.fidelity == "top-k with bounds"
    llm = PromptedLLM(client, TEMPLATE, LABELS)
    proba = llm.predict_proba(TEXTS)
    good = math.exp(-0.1) / (math.exp(-0.1) + math.exp(-3))
    assert proba[0, 1] == pytest.approx(good, abs=0.03)
    assert llm.predict(TEXTS).tolist() == ["good", "bad", "bad", "good"]
    with pytest.raises(ClientCapabilityError, match="top-k"):
        client.score(["a"], [["b"]])
    with pytest.raises(ClientCapabilityError, match="score_text"):
        PromptSelector([llm], "spell").fit(TEXTS)


def test_bounds_that_tell_too_little_are_no_probabilities(chat):
    def vague(text, body):
        return [chat_choice("good", [("good", -1.5), ("bad", -2.0)])]

    llm = PromptedLLM(client_of(chat(vague), interface="chat"), TEMPLATE, LABELS)
    with pytest.raises(RowsFailedError, match="wide bounds"):
        llm.predict_proba(TEXTS)
    with pytest.raises(RowsFailedError, match="cannot be told"):
        llm.predict(TEXTS)
    sure = chat(lambda *_: [chat_choice("good", [("good", -0.6), ("bad", -2.0)])])
    llm = PromptedLLM(client_of(sure, interface="chat"), TEMPLATE, LABELS)
    assert set(llm.predict(TEXTS)) == {"good"}
    with pytest.raises(RowsFailedError, match="wide bounds"):
        llm.predict_proba(TEXTS)


def test_label_of_several_tokens_counts_as_it_was_written(chat):
    def answer(text, body):
        path = [("very", -0.01), (" good", -0.02)]
        return [chat_choice("very good", [("very", -0.01), ("bad", -6.0)], path=path)]

    client = client_of(chat(answer), interface="chat")
    lower, upper = client.bounds(["a"], [[" very good", " bad"]])[0]
    assert lower[0] == pytest.approx(math.exp(-0.03))
    assert lower[0] < upper[0] <= 1
    assert lower[1] == pytest.approx(math.exp(-6))


def test_bounds_of_labels_that_begin_alike(chat):
    path = [("1", math.log(0.97)), ("0", math.log(0.95))]
    answer = {"text": "10", "top": [["1", math.log(0.97)]], "path": path}
    lower, upper = label_bounds(answer, ["1", "10"])
    np.testing.assert_allclose(lower, [0, 0.97 * 0.95])
    np.testing.assert_allclose(upper, [1, 1])


def test_bounds_count_spellings_once_and_spaces_as_open():
    top = [["bad", math.log(0.55)], ["good", math.log(0.45)]]
    lower, _ = label_bounds({"top": top, "path": []}, ["good", "Good", "bad"])
    np.testing.assert_allclose(lower, [0.45, 0, 0.55])
    path = [["\n", math.log(0.8)], ["good", math.log(0.9)]]
    top = [["\n", math.log(0.8)], ["bad", math.log(0.2)]]
    lower, upper = label_bounds({"top": top, "path": path}, ["good", "bad"])
    np.testing.assert_allclose(lower, [0.72, 0.2])
    np.testing.assert_allclose(upper, [0.8, 1.0])
    with pytest.raises(ValueError, match="one string for two"):
        PromptedLLM(None, "{text}", ["Yes", "yes"]).label_strings()


def test_certain_answers_stay_numbers_under_calibration(chat):
    def answer(text, body):
        fine = "fine" in text
        top = [("good", 0.0)] if fine else [("good", -0.7), ("bad", -0.7)]
        return [chat_choice("good", top)]

    llm = PromptedLLM(
        client_of(chat(answer), interface="chat"), TEMPLATE, LABELS, calibration="batch"
    )
    assert llm.fit(TEXTS).predict(TEXTS)[0] == "good"
    assert np.isfinite(llm.predict_proba(TEXTS)).all()


@pytest.mark.parametrize(
    ("choice", "kind"),
    [
        ({"index": 0, "finish_reason": "stop", "message": None}, "malformed answer"),
        (chat_choice("good", [("good", "x")]), "malformed answer"),
        (chat_choice("good", []), "no logprobs"),
        (chat_choice("good", [("good", 0.0), ("bad", 0.0)]), "impossible logprobs"),
        (chat_choice("good", [("good", -9999.0)]), "placeholder logprobs"),
        (chat_choice("good", [("good", -0.1)], path=[("x", -0.1)]), "ragged logprobs"),
        (chat_choice("", [("good", -0.1)]), "empty answer"),
        ({**chat_choice(" ", []), "finish_reason": "length"}, "cut off"),
        (
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": None, "refusal": "No."},
            },
            "refusal",
        ),
    ],
)
def test_faults_of_chats_are_recognised(choice, kind, chat):
    client = client_of(
        chat(lambda text, body: said(text, body) if "France" in text else [choice]),
        interface="chat",
    )
    with pytest.raises(RowsFailedError) as caught:
        PromptedLLM(client, TEMPLATE, LABELS).predict(TEXTS[:1])
    assert caught.value.rows[0].kind == kind


def test_text_only_servers_choose_but_tell_no_probabilities(chat):
    def answer(text, body):
        if "logprobs" in body:
            return []
        return [chat_choice("It was good, I think." if "fine" in text else "Bad!", [])]

    client = client_of(chat(answer))
    assert client.fidelity == "text only"
    llm = PromptedLLM(client, TEMPLATE, LABELS)
    assert llm.predict(TEXTS).tolist() == ["good", "bad", "bad", "good"]
    with pytest.raises(ClientCapabilityError, match="choose"):
        llm.predict_proba(TEXTS)
    assert np.isfinite(PromptSelector([llm], "global_entropy").fit(TEXTS).scores_).all()
    with pytest.raises(ClientCapabilityError):
        PromptSelector([llm], "mutual_information").fit(TEXTS)
    assert MTEWrapper(llm).label(TEXTS).y.tolist() == ["good", "bad", "bad", "good"]


@pytest.mark.parametrize("text", ["both good and bad", "neither", "goodness"])
def test_answers_that_name_no_one_label(text, chat):
    client = client_of(chat(lambda *_: [chat_choice(text, [])]), interface="text")
    with pytest.raises(RowsFailedError) as caught:
        PromptedLLM(client, TEMPLATE, LABELS).predict(TEXTS[:1])
    assert caught.value.rows[0].kind == "no label"


def test_samples_give_frequencies(chat):
    def answer(text, body):
        assert body["temperature"] == 1
        return [
            chat_choice("good" if i < 3 else "bad" if i < 7 else "hm", [], i)
            for i in range(body["n"])
        ]

    client = client_of(chat(answer), interface="samples", n_samples=8)
    llm = PromptedLLM(client, TEMPLATE, LABELS)
    np.testing.assert_allclose(llm.predict_proba(TEXTS[:1]), [[4.5 / 8, 3.5 / 8]])
    assert llm.predict(TEXTS[:1]).tolist() == ["bad"]
    assert client.fidelity == "sampled"


def test_reasoning_that_failed_fails_its_row_only(chat):
    def answer(text, body):
        if body["max_tokens"] == 9:
            return [chat_choice("" if "dull" in text else "It shines.", [])]
        assert "It shines.\nAnswer:" in text
        return [chat_choice("good", [])]

    client = client_of(chat(answer), interface="text")
    llm = PromptedLLM(
        client,
        TEMPLATE,
        LABELS,
        cot="Think.",
        max_reasoning_tokens=9,
        on_error="missing",
    )
    with pytest.warns(ModelLabelWarning, match="empty answer"):
        assert llm.predict(TEXTS).tolist() == ["good", None, "good", "good"]


def test_options_are_sent_or_left_out(chat):
    server = chat(said)
    options = {"temperature": None, "seed": 3, "a_field_of_this_server": 1}
    client = client_of(server, interface="text", request_options=options)
    client.generate(["Say something."], 5)
    body = server.asked[0]
    assert "temperature" not in body
    assert body["a_field_of_this_server"] == 1
    assert (body["seed"], body["max_tokens"]) == (3, 5)
    assert client.fingerprint != client_of(server, interface="text").fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"interface": "other"}, "interface"), ({"n_concurrent": 0}, "n_concurrent")],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        OpenAIClient("m", **changes)


# Jobs that are killed -------------------------------------------------------------

ROWS = [f"film {i} was {'fine' if i % 3 else 'dull'}" for i in range(60)]


def job(url, cache_dir, out):
    client = OpenAIClient("tiny", base_url=url, n_concurrent=3, max_retries=0)
    with config_context(cache_dir=cache_dir):
        proba = PromptedLLM(client, TEMPLATE, LABELS).predict_proba(ROWS)
    out.write_bytes(proba.tobytes())


def kept_prompts(cache_dir, client):
    """Prompts of the requests whose answers are on disk."""
    contexts = [TEMPLATE.format(text=row) for row in ROWS]
    options = [[" bad", " good"]] * len(contexts)
    requests = client._make.labels(client._offer(), contexts, options, {})
    store = AnswerStore(cache_dir)
    known = {
        tuple(r.body["prompt"]) for (r,) in requests if store.get(r.key) is not None
    }
    store.close()
    return known


def test_killed_jobs_go_on_and_repeat_nothing(server, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    job(server.url, tmp_path / "one", whole)
    folder, client = tmp_path / "two", proved(server)
    server.delay = 0.02
    draw = random.Random(0)
    kills = 0
    for _ in range(20):
        known = kept_prompts(folder, client)
        server.asked.clear()
        child = CONTEXT.Process(target=job, args=(server.url, folder, broken))
        child.start()
        limit = time.monotonic() + 60
        while not server.asked and child.is_alive() and time.monotonic() < limit:
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.06))
        if child.is_alive():
            os.kill(child.pid, signal.SIGKILL)
            kills += 1
        child.join()
        time.sleep(0.05)
        asked = {tuple(body["prompt"]) for body in server.asked if "prompt" in body}
        assert not asked & known
    assert kills >= 10
    known = kept_prompts(folder, client)
    server.asked.clear()
    job(server.url, folder, broken)
    asked = [body for body in server.asked if "film" in str(body["prompt"])]
    assert len(asked) == len(ROWS) - len(known)
    assert broken.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("name", ["n_concurrent", "n_samples", "top_logprobs"])
def test_least_numbers_are_taken_and_less_refused(name):
    least = {"n_concurrent": 1, "n_samples": 1, "top_logprobs": 1, "max_retries": 0}
    assert (
        getattr(OpenAIClient("m", base_url="http://localhost:1/v1", **least), name) == 1
    )
    for change in ({name: 0}, {"max_retries": -1}):
        with pytest.raises(ValueError, match="expected 1 or more"):
            OpenAIClient("m", base_url="http://localhost:1/v1", **{**least, **change})
