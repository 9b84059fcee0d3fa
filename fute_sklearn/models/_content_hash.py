"""Hash models by their content: fitted state and loaded code."""

from __future__ import annotations

import hashlib
from typing import Any

from joblib.hashing import NumpyHasher

from ._code_hash import CodeHasher, Unknowable

# scikit-learn's vectorizers store the id() of their stop words, which differs between
# processes.
IDENTITIES = {"_stop_words_id"}


class _Hasher(NumpyHasher):
    """joblib's hasher; also collects the classes and functions in the hashed state."""

    def __init__(self) -> None:
        super().__init__("sha256")
        self.code: list[Any] = []

    def save(self, obj: Any) -> None:
        if isinstance(obj, type) or hasattr(type(obj), "__code__"):
            self.code.append(obj)
        elif hasattr(type(obj), "cache_info"):  # functools.lru_cache
            self.code.append(obj.__wrapped__)
        else:
            self.code.append(type(obj))
        kind = type(obj)
        if hasattr(kind, "untyped_storage") and hasattr(kind, "detach"):
            values = obj.detach().cpu()
            values = values.to_dense() if values.is_sparse else values
            values = values.float() if str(values.dtype) == "torch.bfloat16" else values
            obj = ("tensor", str(obj.dtype), values.numpy())
        elif kind is dict and IDENTITIES & obj.keys():
            obj = {k: v for k, v in obj.items() if k not in IDENTITIES}
        elif kind is frozenset:  # joblib sorts sets, but not these
            obj = ("frozenset", set(obj))
        super().save(obj)


def state_hash(obj: Any) -> tuple[str, list[Any]]:
    """Hash the pickled state of an object; also return the code it refers to.

    Raises
    ------
    Unknowable
        If the object cannot be pickled.
    """
    hasher = _Hasher()
    try:
        return str(hasher.hash(obj)), hasher.code
    except Exception as error:  # a model's own __reduce__ may raise anything
        raise Unknowable(str(error)) from error


def content_hash(model: Any) -> str | None:
    """Hash a model's pickled state and the code that it runs.

    The code is that in memory, not the source files: the methods of the model's classes
    and their bases, and the functions, classes, constants and modules that these refer
    to.  Installed packages count by name and version.  Returns None if the model, or an
    object that its code refers to, cannot be pickled.
    """
    try:
        state, found = state_hash(model)
        code = CodeHasher(state_hash).digest(found)
    except Unknowable:
        return None
    return hashlib.sha256(f"{state}|{code}".encode()).hexdigest()
