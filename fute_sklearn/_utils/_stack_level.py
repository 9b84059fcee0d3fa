"""Stack level of warnings: the first caller outside this package."""

from __future__ import annotations

import sys


def find_stack_level() -> int:
    """Return the stack level of the first caller outside this package."""
    frame, level = sys._getframe(1), 1  # noqa: SLF001 - Python's only way
    # Fit methods are called through a wrapper of sklearn.base, contexts by contextlib.
    while frame is not None and frame.f_globals.get("__name__", "").startswith(
        ("fute_sklearn", "sklearn.base", "contextlib")
    ):
        frame, level = frame.f_back, level + 1  # type: ignore[assignment]
    return level
