"""Check the names of models or rows."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np


def check_names(names: Any, n_models: int) -> np.ndarray:
    """Return names as an array in the given order; raise if they are not distinct."""
    if names is None:
        return np.array([f"model{i}" for i in range(n_models)], dtype=object)
    if isinstance(names, (str, bytes, set, frozenset)):
        raise TypeError(
            f"the names are a {type(names).__name__}; expected a sequence, whose order "
            "is that of the models."
        )
    found = [str(name) for name in names]
    if len(found) != n_models:
        raise ValueError(
            f"{len(found)} names are given for {n_models} models; expected as many."
        )
    twice = sorted(name for name, count in Counter(found).items() if count > 1)
    if twice:
        raise ValueError(f"the names {twice} are given to several models each.")
    return np.array(found, dtype=object)
