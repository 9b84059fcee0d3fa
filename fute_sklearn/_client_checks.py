"""The checks that `fute_sklearn.testing` runs on clients of language models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .llm._prompted_llm import PromptedLLM
from .llm.clients._protocol import are_texts, check_client

CONTEXTS = ["a fine film it was", "a dull film it was"]
OPTIONS = [[" good", " bad"], [" good", " bad"]]


def check_protocol(client: Any) -> None:
    """The client has the methods of its capabilities and a constant fingerprint."""
    check_client(client)
    assert client.fingerprint == client.fingerprint


def check_score(client: Any) -> None:
    """``score`` returns log-likelihoods independent of the order of its arguments."""
    if "score" not in client.capabilities:
        return
    found = client.score(CONTEXTS, OPTIONS)
    assert len(found) == 2
    for row in found:
        assert np.shape(row) == (2,)
        assert np.isfinite(row).all()
        assert (np.asarray(row) <= 0).all()
    turned = client.score(CONTEXTS[::-1], [options[::-1] for options in OPTIONS])
    for row, other in zip(found, turned[::-1], strict=True):
        np.testing.assert_allclose(row, np.asarray(other)[::-1], rtol=1e-3, atol=1e-4)


def check_bounds(client: Any) -> None:
    """``bounds`` returns lower and upper bounds of probabilities, in this order."""
    if "bounds" not in client.capabilities:
        return
    found = client.bounds(CONTEXTS, OPTIONS)
    assert len(found) == 2
    for least, most in found:
        assert np.shape(least) == np.shape(most) == (2,)
        assert (0 <= np.asarray(least)).all()
        assert (np.asarray(least) <= np.asarray(most) + 1e-9).all()
        assert (np.asarray(most) <= 1 + 1e-6).all()


def check_texts(client: Any) -> None:
    """``choose``, ``frequencies`` and ``generate`` return texts for each context."""
    if "choose" in client.capabilities:
        assert are_texts(client.choose(CONTEXTS, OPTIONS), 2)
    if "frequencies" in client.capabilities:
        drawn = client.frequencies(CONTEXTS, OPTIONS)
        assert len(drawn) == 2
        assert all(texts and are_texts(texts, len(texts)) for texts in drawn)
    if "generate" in client.capabilities:
        assert are_texts(client.generate(CONTEXTS, 2), 2)


def check_score_text(client: Any) -> None:
    """``score_text`` returns log-likelihoods and positive numbers of scored tokens."""
    if "score_text" not in client.capabilities:
        return
    found = client.score_text(CONTEXTS)
    assert len(found) == 2
    for total, count in found:
        assert np.isfinite(total)
        assert total <= 0
        assert count == int(count) >= 1


def check_prompt(client: Any) -> None:
    """`PromptedLLM` with the client predicts labels, and repeats its predictions."""
    if not client.capabilities - {"generate", "score_text"}:
        return
    model = PromptedLLM(client, "{text} it was", ["good", "bad"], on_error="missing")
    texts = ["a fine film", "a dull film"]
    first = model.predict(texts)
    assert list(first) == list(model.predict(texts))
    if client.capabilities & {"score", "frequencies"}:
        np.testing.assert_allclose(model.predict_proba(texts).sum(1), 1, rtol=1e-5)


CLIENT_CHECKS: list[Callable[[Any], None]] = [
    check_protocol,
    check_score,
    check_bounds,
    check_texts,
    check_score_text,
    check_prompt,
]
