"""What tests of language models share: a tiny model, and servers on loopback."""

import pytest

from fute_sklearn import OpenAIClient
from fute_sklearn._engine import load_causal


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="module")
def model(causal_folder):
    return load_causal(causal_folder)


@pytest.fixture
def client_of():
    """Make clients of servers, which are closed at the end."""
    servers = []

    def make(server, **settings):
        servers.append(server)
        settings = {"max_retries": 0, "timeout": 10.0} | settings
        client = OpenAIClient("tiny", base_url=server.url, **settings)
        client.server = server
        return client

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()
