"""A filled prompt that knows which prompt it was filled from."""

from __future__ import annotations


class FilledPrompt(str):
    """A context for a client, with the name of the prompt that it was filled from.

    A client that has answered a row of a prompt knows by the name which others are of
    the same prompt; clients that look at the text only are given a str like any other.

    Parameters
    ----------
    text : str
        The filled prompt.
    prompt : str
        Name of the prompt, the same for all rows.
    """

    prompt: str

    def __new__(cls, text: str, prompt: str) -> FilledPrompt:
        made = super().__new__(cls, text)
        made.prompt = prompt
        return made

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        return str(self), self.prompt


def prompt_of(context: str) -> str:
    """Return the name of the prompt that a context was filled from, else ""."""
    return getattr(context, "prompt", "")
