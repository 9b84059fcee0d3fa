"""What differs between versions of the packages that this one stands on.

Everything here reads the object at hand, so that importing it costs nothing.
"""

from __future__ import annotations

import inspect
from typing import Any

# Experimental in scikit-learn 1.9: nothing else in the package imports it.
from sklearn.callback import CallbackSupportMixin

__all__ = ["CallbackSupportMixin", "cache_argument", "cache_of"]

# transformers renamed the argument in 5.24 and drops the old name in 5.40; models
# whose code lies outside transformers may keep the old one for longer.
NEW_CACHE, OLD_CACHE = "cache", "past_key_values"


def cache_argument(model: Any) -> str:
    """Name under which a transformers model takes keys and values read before."""
    names = inspect.signature(model.forward).parameters
    return NEW_CACHE if NEW_CACHE in names else OLD_CACHE


def cache_of(output: Any) -> Any:
    """Return the keys and values in the output of a transformers model."""
    return output[NEW_CACHE] if NEW_CACHE in output else output[OLD_CACHE]
