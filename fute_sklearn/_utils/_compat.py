"""Differences between versions of scikit-learn and transformers.

They are detected on objects, not by version, so that transformers is not imported.
"""

from __future__ import annotations

import inspect
from typing import Any

# Experimental in scikit-learn 1.9: nothing else in the package imports it.
from sklearn.callback import CallbackSupportMixin
from sklearn.callback._callback_support import callback_management_context

__all__ = [
    "CallbackSupportMixin",
    "cache_argument",
    "cache_of",
    "callback_management_context",
]

# transformers renamed the argument in 5.24 and drops the old name in 5.40; models with
# code outside transformers may keep the old one for longer.
NEW_CACHE, OLD_CACHE = "cache", "past_key_values"


def cache_argument(model: Any) -> str:
    """Return the name of a model's argument for cached keys and values."""
    names = inspect.signature(model.forward).parameters
    return NEW_CACHE if NEW_CACHE in names else OLD_CACHE


def cache_of(output: Any) -> Any:
    """Return the cached keys and values in the output of a transformers model."""
    return output[NEW_CACHE] if NEW_CACHE in output else output[OLD_CACHE]
