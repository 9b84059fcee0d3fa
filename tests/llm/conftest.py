"""What tests of language models share: a tiny model, and servers on loopback."""

import pytest

from fute_sklearn._engine import load_causal


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="module")
def model(causal_folder):
    return load_causal(causal_folder)
