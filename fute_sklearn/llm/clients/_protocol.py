"""Protocol of the clients of language models."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Protocol, runtime_checkable

CAPABILITIES = {
    "score",
    "score_text",
    "bounds",
    "frequencies",
    "choose",
    "generate",
}


@runtime_checkable
class LanguageModelClient(Protocol):
    """Protocol of language model clients, as `PromptedLLM` uses them.

    A client has those of the following methods that ``capabilities`` names:

    ``score(contexts, continuations)``
        Log-likelihood of each context's continuations in nats; one array per context.
    ``bounds(contexts, continuations)``
        Lower and upper bounds of the probability of each continuation; two arrays per
        context.
    ``frequencies(contexts, continuations)``
        Several sampled answers to each context; a list of str per context.
    ``choose(contexts, continuations)``
        Most likely answer to each context; one str per context.
    ``score_text(texts)``
        Log-likelihood of each text given its first token, and the number of tokens
        scored; a pair per text.
    ``generate(prompts, max_tokens)``
        Most likely continuation of each prompt; one str per prompt.

    Contexts are of str, or of a class derived from it that knows its prompt.  If only
    some rows fail, a client raises `RowsFailedError` with the answers to the
    others.  The optional method ``forecast(contexts, continuations)`` returns the
    numbers of ``requests``, ``kept`` answers and ``tokens`` of scoring them.
    """

    @property
    def capabilities(self) -> AbstractSet[str]:
        """Names of the methods that can be called."""

    @property
    def fingerprint(self) -> str:
        """Identifier in caches, which must change if the model's answers change."""


def check_client(client: Any) -> None:
    """Raise TypeError if a client lacks a method of its capabilities or fingerprint."""
    capabilities = getattr(client, "capabilities", None)
    if not isinstance(capabilities, AbstractSet) or not capabilities <= CAPABILITIES:
        raise TypeError(
            f"client={client!r} has capabilities={capabilities!r}; expected a set of "
            f"some of {sorted(CAPABILITIES)}."
        )
    missing = sorted(c for c in capabilities if not callable(getattr(client, c, None)))
    if missing or not isinstance(getattr(client, "fingerprint", None), str):
        raise TypeError(
            f"client={client!r} lacks the methods {missing} that its capabilities "
            "name, or has no fingerprint (str); see "
            "fute_sklearn.base.LanguageModelClient."
        )


def are_texts(found: Any, count: int) -> bool:
    """Return whether an object is a sequence of ``count`` str."""
    return (
        isinstance(found, Sequence)
        and len(found) == count
        and all(isinstance(text, str) for text in found)
    )
