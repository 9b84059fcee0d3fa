"""Where a warning was caused: the caller outside this package."""

from __future__ import annotations

import sys


def find_stack_level() -> int:
    """Level of the first caller outside this package, for warnings that name it."""
    frame, level = sys._getframe(1), 1  # noqa: SLF001 - Python's only way
    # Estimators' methods are called through a wrapper of scikit-learn's.
    while frame is not None and frame.f_globals.get("__name__", "").startswith(
        ("fute_sklearn", "sklearn.base")
    ):
        frame, level = frame.f_back, level + 1  # type: ignore[assignment]
    return level
