"""Servers that force tokens, stall, lie or send too much; jobs of several processes."""

import _thread
import gzip
import json
import os
import signal
import socket
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from fute_sklearn import OpenAIClient, PromptedLLM, config_context, rank_models
from fute_sklearn.exceptions import (
    BudgetExceededError,
    LanguageModelServerError,
    RowsFailedError,
)
from fute_sklearn.llm.clients import _bounded_http
from fute_sklearn.llm.clients._answer_store import AnswerStore
from fute_sklearn.llm.clients._server_answers import copied_tokens
from tests.forked import CONTEXT
from tests.llm.openai_server import (
    chat_choice,
    chat_server,
    force_server,
    model_server,
)

TEMPLATE, LABELS = "the film : {text} it was", ["bad", "good"]
OPTIONS = [" good", " very bad film"]


@pytest.fixture
def serve():
    started = []

    def start(server):
        started.append(server)
        return server

    yield start
    for found in started:
        found.shutdown()
        found.server_close()


def client_of(server, **changes):
    settings = {"max_retries": 0, "timeout": 10.0} | changes
    return OpenAIClient("tiny", base_url=server.url, **settings)


# What a server offers -------------------------------------------------------------


def test_servers_without_echo_are_made_to_generate_the_labels(serve, model):
    client = client_of(serve(force_server(model)))
    assert (client.fidelity, client.capabilities) == ("forced", {"score", "generate"})
    contexts = ["a fine film", "the film was"]
    np.testing.assert_allclose(
        client.score(contexts, [OPTIONS] * 2),
        model.score(contexts, [OPTIONS] * 2),
        atol=1e-4,
    )
    before = client.n_requests_
    assert client.forecast(["another film"], [OPTIONS])["requests"] == 2
    client.score(["another film"], [OPTIONS])
    assert client.n_requests_ == before + 2


def test_chats_are_made_to_answer_with_the_labels(serve, model):
    server = serve(force_server(model))
    client = client_of(server, interface="chat")
    assert client.fidelity == "forced"
    found = client.score(["a fine film"], [OPTIONS])[0]
    np.testing.assert_allclose(
        found, model.score(["a fine film"], [OPTIONS])[0], atol=1e-4
    )
    assert client.fingerprint != client_of(server).fingerprint


@pytest.mark.parametrize("interface", ["completions", "chat"])
def test_proxies_tell_tokens_by_copying(interface, serve, model):
    server = serve(force_server(model, copied=-0.4))
    client = client_of(server, interface=interface)
    assert client.fidelity == "forced"
    found = client.score(["a fine film"], [[*OPTIONS, " fine film"]])[0]
    expected = model.score(["a fine film"], [[*OPTIONS, " fine film"]])[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_tokens_of_uncertain_copies_are_not_taken(serve, model):
    server = serve(force_server(model, copied=-4.0))
    client = client_of(server, interface="completions")
    with pytest.raises(LanguageModelServerError, match="told to copy ' Paris'"):
        client.score(["a fine film"], [OPTIONS])


def test_tokens_that_are_parts_of_characters_are_copied():
    """As llama-server tells them: by their bytes, with a token that ends the text."""
    parts = [([0xE5], 5), ([0xA5, 0xBD], 6), ([], 0)]
    content = [
        {"token": "", "bytes": told, "logprob": -0.5, "id": n} for told, n in parts
    ]
    choice = SimpleNamespace(logprobs=SimpleNamespace(content=content))
    assert copied_tokens([choice], "\u597d") == [5, 6]
    content[1]["logprob"] = -9.0
    with pytest.raises(LanguageModelServerError, match="interface='text'"):
        copied_tokens([choice], "\u597d")


def test_log_probabilities_after_the_bias_are_not_taken_for_scores(serve, model):
    server = serve(force_server(model, raw=False))
    assert client_of(server, interface="chat").fidelity == "top-k with bounds"
    with pytest.raises(LanguageModelServerError, match="wrong logprobs"):
        client_of(server, interface="completions").score(["a"], [OPTIONS])


def test_servers_that_do_not_force_what_they_are_told(serve, model):
    server = serve(force_server(model))
    respond = server.respond
    server.respond = lambda path, body: respond(
        path, {k: v for k, v in body.items() if k not in ("grammar", "logit_bias")}
    )
    with pytest.raises(LanguageModelServerError, match="was told to generate"):
        client_of(server, interface="completions").score(["a"], [OPTIONS])


def named(text, body):
    return [chat_choice("good" if "fine" in text else "bad", [])]


def test_what_is_found_during_an_outage_is_not_kept(serve, model):
    server = serve(model_server(model))
    sound = server.respond
    server.respond = lambda *_: (503, "application/json", {"error": "loading model"})
    client = client_of(server)
    with pytest.raises(LanguageModelServerError, match="loading model") as caught:
        client.score(["a film"], [OPTIONS])
    assert caught.value.kind == "unavailable"
    server.respond = sound
    assert client.fidelity == "echo"


def test_less_than_a_server_offers_is_not_kept_for_other_processes(serve, model):
    server = serve(chat_server(named))
    client = client_of(server)
    assert client.choose(["fine"], [OPTIONS]) == ["good"]
    mark = client.fingerprint
    sound, server.respond = server.respond, lambda *_: (503, "text/plain", {})
    offline = client_of(server)
    assert offline.choose(["fine"], [OPTIONS]) == ["good"]  # kept, as is the interface
    server.respond = sound
    assert client_of(server).fidelity == "text only"
    server.respond = model_server(model).respond
    again = client_of(server)
    assert again.fidelity == "echo"
    assert again.fingerprint != mark


def test_what_a_server_no_longer_offers_is_found_out(serve, model):
    server = serve(model_server(model))
    assert client_of(server).fidelity == "echo"
    server.respond = chat_server(named).respond
    client = client_of(server)
    with pytest.raises(LanguageModelServerError):
        client.score(["a film"], [OPTIONS])
    assert client.choose(["a fine film"], [OPTIONS]) == ["good"]


@pytest.mark.parametrize(
    ("model", "answers_as", "said", "same"),
    [
        ("org/tiny", None, "tiny", True),
        ("tiny", None, "tiny@main", True),
        ("/models/tiny/", None, "/models/tiny", True),
        ("openai/tiny", None, "tiny-2026-01-01", True),
        ("alias", "tiny", "tiny:latest", True),
        ("alias", ["other", "tiny"], "tiny", True),
        ("alias", None, "tiny", False),
        ("alias", "other", "tiny", False),
        ("tiny", None, "tinyllama", False),
        ("tiny-4o", None, "tiny-4o-mini", False),
        ("tiny-4o-mini", None, "tiny-4o", False),
        ("tiny-4", None, "tiny-4.1", False),
        ("tiny", None, "tiny-instruct", False),
        ("tiny2.5-7b", None, "tiny2", False),
        ("tiny3", None, "tiny3:70b", False),
        ("tiny", None, "tiny-0613", True),
        ("tiny-2024-05-13", None, "tiny", True),
        ("tiny-2024-05-13", None, "tiny-2024-08-06", False),
        ("tiny-latest", None, "tiny-20241022", True),
    ],
)
def test_names_by_which_a_model_answers(serve, model, answers_as, said, same):
    server = serve(chat_server(named))
    server.spoil = lambda answer, body: {**answer, "model": said}
    client = OpenAIClient(
        model,
        base_url=server.url,
        answers_as=answers_as,
        interface="text",
        max_retries=0,
    )
    if same:
        assert client.choose(["fine"], [OPTIONS]) == ["good"]
    else:
        with pytest.raises(LanguageModelServerError, match=f"answers_as='{said}'"):
            client.choose(["fine"], [OPTIONS])


def test_servers_of_one_answer_a_request_are_asked_several_times(serve):
    def one(text, body):
        return [chat_choice(["good", "bad", "", "good"][body.get("seed", 0) % 4], [])]

    client = client_of(serve(chat_server(one)), interface="samples", n_samples=4)
    assert client.frequencies(["a"], [OPTIONS]) == [["good", "bad", "", "good"]]


def test_labels_that_are_not_among_the_first_tokens_stop_the_job(serve):
    def other(text, body):
        return [chat_choice("The", [("The", -0.1), ("A", -3.0)])]

    server = serve(chat_server(other))
    llm = PromptedLLM(client_of(server, interface="chat"), TEMPLATE, LABELS)
    with pytest.raises(LanguageModelServerError, match=r"8 rows in a row.*'The', 'A'"):
        llm.predict([f"film {i}" for i in range(100)])
    asked = [body for body in server.asked if "messages" in body]
    assert sum("film" in body["messages"][0]["content"] for body in asked) < 8 + 4
    # The answers are kept, so that no further call pays for them again.
    with pytest.raises(LanguageModelServerError):
        llm.predict([f"film {i}" for i in range(100)])


# Answers without end --------------------------------------------------------------


class RawServer:
    """Sends given bytes, with pauses, to every connection."""

    def __init__(self, parts, pause=0.0):
        self.parts, self.pause, self.connected = parts, pause, 0
        self.listening = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.run, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.listening.getsockname()[1]}/v1"

    def run(self):
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            self.connected += 1
            threading.Thread(
                target=self.answer, args=(connection,), daemon=True
            ).start()

    def answer(self, connection):
        try:
            connection.recv(65536)
            for part in self.parts:
                connection.sendall(part)
                time.sleep(self.pause)
            connection.close()
        except OSError:
            pass

    def shutdown(self):
        self.listening.close()

    server_close = shutdown


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


def test_answers_that_drip_end_with_the_time_limit(serve):
    for parts in (
        [HEAD + b"content-length: 9999\r\n\r\n", *[b" "] * 600],
        [HEAD, *[b"x-a: 1\r\n"] * 600],
    ):
        server = serve(RawServer(parts, 0.05))
        client = client_of(server, interface="text", timeout=0.5)
        start = time.monotonic()
        with pytest.raises(RowsFailedError, match="not complete after"):
            client.choose(["a"], [OPTIONS])
        assert time.monotonic() - start < 5


@pytest.mark.parametrize("packed", [False, True])
def test_answers_without_end_are_not_read(packed, serve, monkeypatch):
    monkeypatch.setattr(_bounded_http, "MOST_BYTES", 2**20)
    body, more = b" " * 2**24, b""
    if packed:
        body, more = gzip.compress(body), b"content-encoding: gzip\r\n"
    head = HEAD + more + b"content-length: %d\r\n\r\n" % len(body)
    client = client_of(serve(RawServer([head + body])), interface="text")
    with pytest.raises(RowsFailedError, match="longer than"):
        client.choose(["a"], [OPTIONS])


def test_other_compression_is_refused(serve):
    head = HEAD + b"content-encoding: br\r\ncontent-length: 4\r\n\r\nabcd"
    with pytest.raises(RowsFailedError, match="'br', which was not asked for"):
        client_of(serve(RawServer([head])), interface="text").choose(["a"], [OPTIONS])


def test_redirects_are_not_followed(serve):
    other = serve(chat_server(named))
    head = b"HTTP/1.1 307 Moved\r\nlocation: %s/chat/completions\r\n\r\n"
    server = serve(RawServer([head % other.url.encode()]))
    with pytest.raises(RowsFailedError):
        client_of(server, interface="text").choose(["a"], [OPTIONS])
    assert not other.asked


def test_deep_json_is_a_fault(serve):
    body = b"[" * 10**5
    head = HEAD + b"content-length: %d\r\n\r\n" % len(body)
    with pytest.raises(RowsFailedError):
        client_of(serve(RawServer([head + body])), interface="text").choose(
            ["a"], [OPTIONS]
        )


@pytest.fixture
def interruptible():
    """Jobs that a shell starts in the background ignore interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_interrupts_cancel_what_is_in_flight_at_once(serve, interruptible):
    server = serve(RawServer([HEAD + b"content-length: 99\r\n\r\n"], 30.0))
    client = client_of(server, interface="text", timeout=30.0, max_retries=5)
    threading.Timer(0.7, _thread.interrupt_main).start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        client.choose([f"film {i}" for i in range(50)], [OPTIONS] * 50)
    assert time.monotonic() - start < 0.7 + 1.5
    sent = server.connected
    time.sleep(1.2)
    assert server.connected == sent <= 4


def test_interrupts_reach_models_in_other_threads(serve, interruptible):
    server = serve(chat_server(named))
    server.delay = 0.2
    client = client_of(server, interface="text", n_concurrent=2)
    models = {
        name: PromptedLLM(client, f"{{text}} {name}", LABELS) for name in ("one", "two")
    }
    texts = [f"film {i}" for i in range(100)]
    start = []

    def interrupt():
        while not server.asked:
            time.sleep(0.02)
        time.sleep(0.5)
        start.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)  # interrupts a wait, too

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        rank_models(models, texts[:8], LABELS * 4, texts=texts, n_jobs=2)
    assert time.monotonic() - start[0] < 2.0
    sent = len(server.asked)
    time.sleep(1.0)
    assert len(server.asked) == sent


# Keys and budgets -----------------------------------------------------------------


def test_a_budget_can_be_raised(serve):
    client = client_of(serve(chat_server(named)), interface="text", max_requests=2)
    with pytest.raises(BudgetExceededError):
        client.choose(["a", "b", "c"], [OPTIONS] * 3)
    client.max_requests = 3
    assert len(client.choose(["a", "b", "c"], [OPTIONS] * 3)) == 3


def test_answers_without_a_cache_are_not_said_to_be_kept(serve):
    client = client_of(serve(chat_server(named)), interface="text", max_requests=2)
    with config_context(cache_dir=None), pytest.raises(BudgetExceededError) as caught:
        client.choose(["a", "b", "c"], [OPTIONS] * 3)
    assert "are not kept" in caught.value.__notes__[0]


@pytest.mark.parametrize("usage", [None, {}, {"total_tokens": -9}, {"total_tokens": 0}])
def test_budgets_hold_where_the_server_counts_wrong(usage, serve):
    server = serve(chat_server(named))
    server.spoil = lambda answer, body: {**answer, "usage": usage}
    client = client_of(server, interface="text", max_tokens=100, n_concurrent=1)
    with pytest.raises(BudgetExceededError, match="max_tokens=100"):
        client.choose(["a word " * 20 + str(i) for i in range(50)], [OPTIONS] * 50)
    assert client.n_requests_ < 5


# Several processes ----------------------------------------------------------------

ROWS = [f"film {i} was {'fine' if i % 3 else 'dull'}" for i in range(60)]


def job(url, cache_dir, out):
    client = OpenAIClient("tiny", base_url=url, interface="text", n_concurrent=3)
    with config_context(cache_dir=cache_dir):
        found = client.choose(ROWS, [OPTIONS] * len(ROWS))
    out.write_text(json.dumps(found))


def test_processes_share_a_job(serve, tmp_path):
    server = serve(chat_server(named))
    server.delay = 0.03
    outs = [tmp_path / f"out{i}" for i in range(4)]
    children = [
        CONTEXT.Process(target=job, args=(server.url, tmp_path / "cache", out))
        for out in outs
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert len({out.read_text() for out in outs}) == 1
    assert len(server.asked) == len(ROWS)


def test_claims_of_the_dead_are_free(tmp_path, monkeypatch):
    one, other = AnswerStore(tmp_path), AnswerStore(tmp_path)
    assert one.claim("a")
    assert one.claim("a")
    assert not other.claim("a")
    one.release("a")
    assert other.claim("a")
    dead = CONTEXT.Process(target=_claim, args=(tmp_path, "b"))
    dead.start()
    dead.join()
    assert one.claim("b")
    assert one.claim("c")
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 60)
    assert other.claim("c")  # its process stopped renewing it
    one.close()
    other.close()


def _claim(folder, key):
    assert AnswerStore(folder).claim(key)


def _ask(url, out):
    client = OpenAIClient("tiny", base_url=url, interface="text")
    with config_context(cache_dir=None):
        out.write_text(client.choose(["fine"], [OPTIONS])[0])


def test_clients_work_after_a_fork(serve, tmp_path):
    server = serve(chat_server(named))
    client = client_of(server, interface="text")
    assert client.choose(["fine"], [OPTIONS]) == ["good"]
    pid = os.fork()
    if pid == 0:
        try:
            _ask(server.url, tmp_path / "out")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert (tmp_path / "out").read_text() == "good"


def test_clients_work_in_threads_with_loops_of_their_own(serve):
    import asyncio

    client = client_of(serve(chat_server(named)), interface="text")

    async def notebook():
        return client.choose(["fine"], [OPTIONS])

    assert asyncio.run(notebook()) == ["good"]
