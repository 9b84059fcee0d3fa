"""Imports of optional dependencies, with installation advice if they are missing."""

from __future__ import annotations

import importlib
from typing import Any


def import_optional_dependency(module: str, extra: str, use: str) -> Any:
    """Import a module; raise ImportError naming the extra that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{use} {module.partition('.')[0]}: pip install 'fute_sklearn[{extra}]'"
        ) from error
