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


def import_openai() -> Any:
    """Import the official client of OpenAI-compatible servers."""
    try:
        return importlib.import_module("openai")
    except ImportError as error:
        raise ImportError(
            "servers are reached through openai: pip install 'fute_sklearn[llm]'"
        ) from error
