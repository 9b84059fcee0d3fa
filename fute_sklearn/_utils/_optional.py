"""Imports of optional packages, with a hint when they are missing."""

from __future__ import annotations

import importlib
from typing import Any


def import_optional_dependency(module: str, extra: str, use: str) -> Any:
    """Import a module, or say which extra of this package brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{use} {module.partition('.')[0]}: pip install 'fute_sklearn[{extra}]'"
        ) from error
