"""What is asked of a client of a language model."""

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
    """A client of a language model, as `PromptedLLM` takes it.

    A client has the methods that its ``capabilities`` name, of these:

    ``score(contexts, continuations)``
        Log-likelihood of each context's continuations, one array per context, in nats.
    ``bounds(contexts, continuations)``
        Least and greatest probability of each continuation, two arrays per context.
    ``frequencies(contexts, continuations)``
        Several answers drawn to each context, a list of str per context.
    ``choose(contexts, continuations)``
        The likeliest answer to each context, one str per context.
    ``score_text(texts)``
        Log-likelihood of each text after its first token and the number of tokens that
        it is summed over, a pair per text.
    ``generate(prompts, max_tokens)``
        The likeliest continuation of each prompt, one str per prompt.

    Where some rows fail and others do not, a client raises `RowsFailedError`, which
    holds the answers to the others.  ``forecast(contexts, continuations)``, where there
    is one, counts what scoring would cost.
    """

    @property
    def capabilities(self) -> AbstractSet[str]:
        """Names of the methods that work."""

    @property
    def fingerprint(self) -> str:
        """What changes with the language model's answers; keys of what is kept."""


def check_client(client: Any) -> None:
    """Refuse a client that lacks what it says it can do."""
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
    """Tell a list of so many strings."""
    return (
        isinstance(found, Sequence)
        and len(found) == count
        and all(isinstance(text, str) for text in found)
    )
