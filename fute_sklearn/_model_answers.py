"""What models return, checked, and kept while they live."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ._store import ArrayStore
from ._validation import is_missing, label_name


def checked_answers(found: Any, count: int) -> np.ndarray:
    """Turn what a model returned into an array of sound answers."""
    if hasattr(found, "detach"):  # a torch tensor
        found = found.detach().cpu()
        found = (found.float() if found.is_floating_point() else found).numpy()
    if hasattr(found, "to_numpy"):
        found = found.to_numpy()
    if not isinstance(found, Iterable) or isinstance(found, (str, bytes, dict)):
        raise TypeError(f"expected an array, got {found!r}.")
    if not hasattr(found, "dtype"):
        found = list(found)
        # numpy would write a missing answer among strings as the text "nan".
        for i, answer in enumerate(found):
            if is_missing(answer):
                raise ValueError(f"prediction {i} of the rows is {answer!r}.")
    array = np.asarray(found)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if len(array) != count:
        raise ValueError(f"expected {count} predictions, got {len(array)}.")
    for i, answer in enumerate(array.ravel().tolist()):
        if is_missing(answer) or not label_name(answer):
            raise ValueError(f"prediction {i} of the rows is {answer!r}.")
    if array.dtype == object:
        if not all(isinstance(v, str) for v in array.ravel()):
            raise TypeError(
                "predictions must be strings, numbers or booleans, got "
                f"{[type(v).__name__ for v in array.ravel()][:3]}."
            )
        array = array.astype(str)
    return array


def probabilities(found: np.ndarray, method: str) -> np.ndarray:
    """Turn a model's scores into probabilities of its classes."""
    if method == "predict_proba":
        return found
    if method == "predict_log_proba":
        return np.exp(found)
    scores = np.stack([-found, found], 1) / 2 if found.ndim == 1 else found
    scores = np.exp(scores - scores.max(1, keepdims=True))
    return scores / scores.sum(1, keepdims=True)


class MemoryStore(ArrayStore):
    """Predictions of an object that only its identity tells apart."""

    def __init__(self, owner: Any) -> None:
        super().__init__(None)
        self.owner = owner
        self.kept: dict[str, np.ndarray] = {}

    def get(self, key: str) -> np.ndarray | None:
        return self.kept.get(key)

    def put(self, key: str, array: np.ndarray) -> None:
        self.kept[key] = array


def chunk_of(X: Any, texts: list[str], part: list[int]) -> Any:
    """Rows of X in X's own type, where it can be sliced."""
    rows = slice(part[0], part[-1] + 1)
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    if isinstance(X, np.ndarray):
        return X[rows]
    return X[rows] if isinstance(X, (list, tuple)) else texts[rows]
