"""Keys, and what else no other server, message or cache may get."""

import traceback

import pytest

from fute_sklearn import OpenAIClient
from fute_sklearn.exceptions import FuteError, LanguageModelServerError
from tests.llm.openai_server import chat_choice, chat_server, whole

OPTIONS = [" good", " very bad film"]
SECRET = "sk-proj-ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def named(text, body):
    return [chat_choice("good" if "fine" in text else "bad", [])]


@pytest.mark.parametrize(
    "said",
    [
        lambda key: (200, "text/plain", ("x" * 40 + f" Bearer {key}").encode()),
        lambda key: {"error": {"message": "x" * 160 + key}},
        lambda key: whole(
            [chat_choice("x", []) | {"message": {"refusal": "y" * 60 + key}}]
        ),
        lambda key: {"model": "m " + key, "choices": [chat_choice("x", [])]},
        lambda key: (401, "application/json", {"error": {"message": "k" * 270 + key}}),
    ],
)
def test_no_part_of_the_key_is_told_or_kept(said, client_of, monkeypatch, cache_dir):
    monkeypatch.setenv("A_KEY", SECRET)
    server = chat_server(named)
    server.spoil = lambda answer, body: said(SECRET)
    client = client_of(server, api_key_env="A_KEY", interface="text")
    with pytest.raises(FuteError) as caught:
        client.choose(["a"], [OPTIONS])
    told = "".join(traceback.format_exception(caught.value))
    kept = b"".join(file.read_bytes() for file in cache_dir.rglob("answers*"))
    for at in range(len(SECRET) - 9):
        assert SECRET[at : at + 10] not in told
        assert SECRET[at : at + 10].encode() not in kept


def test_escaped_keys_are_found(client_of, monkeypatch):
    key = 'a"key\\with-signs'
    monkeypatch.setenv("A_KEY", key)
    server = chat_server(lambda *_: [chat_choice(f"good {key}", [])])
    client = client_of(server, api_key_env="A_KEY", interface="text")
    with pytest.raises(LanguageModelServerError, match="contains the key"):
        client.choose(["a"], [OPTIONS])


@pytest.mark.parametrize("key", ["1", "x", "EMPTY", "none", "text"])
def test_keys_that_are_no_secret_are_not_looked_for(key, client_of, monkeypatch):
    monkeypatch.setenv("A_KEY", key)
    client = client_of(chat_server(named), api_key_env="A_KEY", interface="text")
    assert client.choose(["fine"], [OPTIONS]) == ["good"]


def test_other_servers_get_no_header_for_openai(client_of, monkeypatch):
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer sk-of-openai")
    monkeypatch.setenv("OPENAI_ORG_ID", "an-organisation")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "a-project")
    server = chat_server(named)
    client_of(server, interface="text").choose(["fine"], [OPTIONS])
    told = str(server.heads[-1])
    assert "Bearer none" in told
    assert "openai" not in told.lower().replace("openai/", "")
    assert "organisation" not in told


@pytest.mark.parametrize(
    "proxy", ["http://user:pw@host:port", "ftp://host", "socks9://h"]
)
def test_proxies_that_cannot_be_used_are_told(proxy, client_of, monkeypatch):
    client = client_of(chat_server(named), interface="text")
    monkeypatch.delenv("NO_PROXY", raising=False)
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, proxy)
    with pytest.raises(LanguageModelServerError, match="check the proxies") as caught:
        client.choose(["fine"], [OPTIONS])
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "elsewhere"),
    [
        (None, False),
        ("https://api.openai.com/v1", False),
        ("http://localhost:8000/v1", True),
    ],
)
def test_openai_is_known_by_its_address(address, elsewhere, monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    client = OpenAIClient("tiny", base_url=address)
    assert client._connection._is_elsewhere() == elsewhere


@pytest.mark.parametrize(
    "address",
    [
        "http://[::1/v1",
        "http://user:p/w@h/v1",
        "host:80/v1",
        "ftp://h/v1",
        "http://\0/",
    ],
)
def test_addresses_that_cannot_be_asked_are_refused(address):
    with pytest.raises(ValueError, match="no plain address") as caught:
        OpenAIClient("tiny", base_url=address)
    assert "p/w" not in str(caught.value)


@pytest.mark.parametrize(
    "key", ["sk-secret\n", "sk secret", "sk-sécret", "\tsk-secret"]
)
def test_malformed_keys_are_told_and_not_shown(key, client_of, monkeypatch):
    monkeypatch.setenv("A_KEY", key)
    client = client_of(chat_server(named), api_key_env="A_KEY")
    with pytest.raises(
        LanguageModelServerError, match="variable A_KEY has a"
    ) as caught:
        client.choose(["a"], [OPTIONS])
    assert caught.value.kind == "malformed key"
    assert "cret" not in str(caught.value)


def test_answers_with_the_key_are_not_kept(client_of, monkeypatch, cache_dir):
    monkeypatch.setenv("A_KEY", "sk-secret")
    server = chat_server(lambda *_: [chat_choice("your key is sk-secret", [])])
    client = client_of(server, api_key_env="A_KEY", interface="text")
    with pytest.raises(LanguageModelServerError, match="contains the key") as caught:
        client.choose(["a"], [OPTIONS])
    assert "sk-secret" not in str(caught.value)
    for file in cache_dir.rglob("answers*"):
        assert b"sk-secret" not in file.read_bytes()
