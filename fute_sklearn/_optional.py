"""Imports of optional packages, with a hint when they are missing."""

from __future__ import annotations

import importlib
from typing import Any


def import_pyplot() -> Any:
    """Import matplotlib.pyplot."""
    try:
        return importlib.import_module("matplotlib.pyplot")
    except ImportError as error:
        raise ImportError(
            "plots need matplotlib: pip install 'fute_sklearn[plots]'"
        ) from error
