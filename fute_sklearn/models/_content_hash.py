"""Hash models by their content: fitted state and loaded code."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from joblib.hashing import NumpyHasher

from ._code_hash import CodeHasher, Unknowable, file_mark, is_importable

# scikit-learn's vectorizers store the id() of their stop words, which differs between
# processes; a search keeps times and scores, which its predictions do not depend on.
# A torch module is switched to evaluation when it is asked.
IDENTITIES = {"_stop_words_id"}
SKORCH = "skorch.net.NeuralNet"
MODULE_KEYS = {"training", "_parameters", "_modules"}
SEARCH_RECORDS = {"cv_results_", "refit_time_"}


class _Hasher(NumpyHasher):
    """joblib's hasher; also collects the classes and functions in the hashed state.

    With ``lenient``, what cannot be pickled counts by its address and attributes.
    """

    def __init__(self, lenient: bool) -> None:
        super().__init__("sha256")
        self.lenient = lenient
        self.code: list[Any] = []
        self.files: set[Any] = set()
        self.failed: set[int] = set()

    def save(self, obj: Any) -> None:
        try:
            super().save(self._hashable(obj))
        except Exception:  # an object's own __reduce__ may raise anything
            if not self.lenient or id(obj) in self.failed:
                raise
            self.failed.add(id(obj))
            super().save(("unknown", type(obj).__qualname__, id(obj)))
            self.save(dict(getattr(obj, "__dict__", {})))

    def _batch_setitems(self, items: Any, *rest: Any) -> None:
        # In their order, which a model may depend on; joblib sorts them.
        pickle._Pickler._batch_setitems(self, iter(items), *rest)  # type: ignore[attr-defined] # noqa: SLF001

    def _hashable(self, obj: Any) -> Any:
        """Collect the code of an object; replace it where pickles are no measure."""
        kind = type(obj)
        if isinstance(obj, type) or hasattr(kind, "__code__"):
            self.code.append(obj)
            if not is_importable(obj):
                # A lambda or a local class, which pickles refuse, is known by its code.
                hasher = CodeHasher(state_hash, self.lenient)
                return ("local", hasher.identity(obj))
        elif hasattr(kind, "cache_info"):  # functools.lru_cache
            self.code.append(obj.__wrapped__)
        else:
            self.code.append(kind)
        if hasattr(kind, "untyped_storage") and hasattr(kind, "detach"):
            values = obj.detach().cpu()
            values = values.to_dense() if values.is_sparse else values
            values = values.float() if str(values.dtype) == "torch.bfloat16" else values
            return ("tensor", str(obj.dtype), _digest(values.numpy()))
        if any(f"{c.__module__}.{c.__name__}" == SKORCH for c in kind.__mro__):
            # It pickles its module as bytes, which differ from one time to the next.
            own = vars(obj)
            return ("skorch", own.get("module_"), own.get("classes_inferred_"))
        if kind is np.ndarray and obj.dtype.names:  # without the bytes between fields
            return "fields", obj.dtype, *(obj[name] for name in obj.dtype.names)
        if kind is np.ndarray and not obj.dtype.hasobject:
            return _digest(obj)
        if kind is np.ma.MaskedArray:
            return ("masked", obj.filled().tolist(), np.ma.getmaskarray(obj))
        if kind is dict and "best_estimator_" in obj:
            return {k: v for k, v in obj.items() if k not in SEARCH_RECORDS}
        if kind is dict and obj.keys() >= MODULE_KEYS:
            return {k: v for k, v in obj.items() if k != "training"}
        if kind is dict and IDENTITIES & obj.keys():
            return {k: v for k, v in obj.items() if k not in IDENTITIES}
        if kind is frozenset:  # joblib sorts sets, but not these
            return ("frozenset", set(obj))
        new = isinstance(obj, (str, Path)) and obj not in self.files
        if new and (mark := file_mark(obj)):
            self.files.add(obj)
            return ("file", str(obj), mark)
        return obj


def _digest(array: np.ndarray) -> tuple[str, ...]:
    """Describe an array without its strides, which copies do not keep."""
    flat = np.ascontiguousarray(array).reshape(-1)
    content = hashlib.sha256(flat.view(np.uint8).data if flat.size else b"")
    return "array", array.dtype.str, str(array.shape), content.hexdigest()


def state_hash(obj: Any, lenient: bool = False) -> tuple[str, list[Any]]:
    """Hash the pickled state of an object; also return the code it refers to.

    Raises
    ------
    Unknowable
        If the object cannot be pickled, unless ``lenient``.
    """
    hasher = _Hasher(lenient)
    try:
        return str(hasher.hash(obj)), hasher.code
    except Exception as error:  # a model's own __reduce__ may raise anything
        raise Unknowable(str(error)) from error


def content_hash(model: Any) -> str | None:
    """Hash a model's pickled state and the code that it runs.

    The code is that in memory, not the source files: the methods of the model's classes
    and their bases, and the functions, classes, constants and modules that these refer
    to.  Installed packages count by name and version, files by their content where
    state or code name their paths.  Returns None if the model, or an object that its
    code refers to, cannot be pickled.
    """
    try:
        return _hash(model, lenient=False)
    except Unknowable:
        return None


def content_mark(model: Any) -> str:
    """Hash what can be hashed of a model; the rest counts by its address.

    Within a process, another mark is another model, or the same one changed.
    """
    try:
        return _hash(model, lenient=True)
    except Unknowable:
        return f"address {id(model)}"


def _hash(model: Any, lenient: bool) -> str:
    state, found = state_hash(model, lenient)
    code = CodeHasher(state_hash, lenient).digest(found)
    return hashlib.sha256(f"{state}|{code}".encode()).hexdigest()
