"""Hash models by their content: fitted state and loaded code."""

from __future__ import annotations

import hashlib
import pickle
import types
from pathlib import Path
from typing import Any

import numpy as np
from joblib.hashing import NumpyHasher
from sklearn.utils import Bunch

from ._code_hash import (
    INERT,
    CodeHasher,
    Unknowable,
    attributes_of,
    file_mark,
)
from ._installed_code import is_importable, is_installed

# scikit-learn's vectorizers store the id() of their stop words, which differs between
# processes; a search keeps times and scores, which its predictions do not depend on.
# A torch module is switched to evaluation when it is asked.
IDENTITIES = {"_stop_words_id"}
SKORCH = "skorch.net.NeuralNet"
SKORCH_STATE = (
    "module_",
    "classes_inferred_",
    "classes",
    "predict_nonlinearity",
    "threshold",
)
CATBOOST = "catboost.core._CatBoostBase"
# Its pickles leave out the model.
WRAPPER = "fute_sklearn.models._mte_wrapper.MTEWrapper"
REDUCERS = {"__getstate__", "__reduce__", "__reduce_ex__"}
HEAP_TYPE = 1 << 9  # the flag of classes that Python code defines
MODULE_KEYS = {"training", "_parameters", "_modules"}
SEARCH_RECORDS = {"cv_results_", "refit_time_"}


class _Hasher(NumpyHasher):
    """joblib's hasher; also collects the classes and functions in the hashed state.

    What cannot be pickled counts by its address and attributes where it is to be added
    to ``unknown``, which keeps addresses from being given again; else it raises.
    """

    def __init__(self, unknown: list[Any] | None, open_: set[int] | None) -> None:
        super().__init__("sha256")
        self.unknown = unknown
        self.open = open_
        self.code: list[Any] = []
        self.files: set[Any] = set()
        self.failed: set[int] = set()
        self.local: dict[int, str] = {}

    def save(self, obj: Any) -> None:
        try:
            super().save(self._hashable(obj))
            if drops_state(type(obj)):  # type: ignore[arg-type]
                self._save_dropped(obj)
        except Exception:  # an object's own __reduce__ may raise anything
            if self.unknown is None or id(obj) in self.failed:
                raise
            self.failed.add(id(obj))
            self.unknown.append(obj)
            super().save(("unknown", type(obj).__qualname__, id(obj)))
            self.save(attributes_of(obj))

    def _save_dropped(self, obj: Any) -> None:
        """Save attributes that an object leaves out of its pickles, but may use."""
        for part in attributes_of(obj).items():
            super().save(part)

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
                if id(obj) not in self.local:
                    hasher = CodeHasher(state_hash, self.unknown, self.open)
                    self.local[id(obj)] = hasher.identity(obj)
                return ("local", self.local[id(obj)])
        elif hasattr(kind, "cache_info"):  # functools.lru_cache
            self.code.append(obj.__wrapped__)
        else:
            self.code.append(kind)
        if hasattr(kind, "untyped_storage") and hasattr(kind, "detach"):
            values = obj.detach().cpu()
            values = values.to_dense() if values.is_sparse else values
            values = values.float() if str(values.dtype) == "torch.bfloat16" else values
            return ("tensor", str(obj.dtype), _digest(values.numpy()))
        bases = {f"{c.__module__}.{c.__name__}" for c in kind.__mro__}
        if SKORCH in bases:
            # It pickles its module as bytes, which differ from one time to the next.
            own = vars(obj)
            return ("skorch", *((name, own.get(name)) for name in SKORCH_STATE))
        if CATBOOST in bases and obj.is_fitted():
            return ("catboost", *_catboost_state(obj))
        if f"{kind.__module__}.{kind.__name__}" == WRAPPER:
            return ("wrapper", obj.get_params(deep=False))
        if kind is Bunch:  # its copies lack an attribute that it is made with
            return ("bunch", dict(obj))
        if isinstance(obj, INERT):
            return ("inert", kind.__qualname__)
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


def _catboost_state(model: Any) -> tuple[Any, ...]:
    """Describe a fitted model of CatBoost, whose bytes differ between copies.

    Every training gives a model another number, which copies and files keep; values are
    added that can be changed in place.
    """
    metadata = model.get_metadata()
    if "model_guid" not in metadata:
        return (model._serialize_model(),)  # noqa: SLF001 - its bytes
    return (
        metadata["model_guid"],
        {
            key: metadata[key]
            for key in metadata
            if key.startswith(("class", "binclass"))
        },
        model.get_leaf_values(),
        model.get_tree_leaf_counts(),
        model.get_scale_and_bias(),
    )


def drops_state(kind: type) -> bool:
    """Whether a class says itself what its pickles hold, and no library does."""
    if not kind.__flags__ & HEAP_TYPE:
        return False
    for cls in kind.__mro__:
        own = [vars(cls)[name] for name in REDUCERS & vars(cls).keys()]
        if any(isinstance(reducer, types.FunctionType) for reducer in own):
            return not is_installed(cls.__module__)
    return False


def _digest(array: np.ndarray) -> tuple[str, ...]:
    """Describe an array without its strides, which copies do not keep."""
    flat = np.ascontiguousarray(array).reshape(-1)
    content = hashlib.sha256(flat.view(np.uint8).data if flat.size else b"")
    return "array", array.dtype.str, str(array.shape), content.hexdigest()


def state_hash(
    obj: Any, unknown: list[Any] | None = None, open_: set[int] | None = None
) -> tuple[str, list[Any]]:
    """Hash the pickled state of an object; also return the code it refers to.

    ``open_`` are the addresses of classes and functions that are being hashed.

    Raises
    ------
    Unknowable
        If the object cannot be pickled, and is not to be added to ``unknown``.
    """
    hasher = _Hasher(unknown, open_)
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
        return _hash(model, None)
    except Unknowable:
        return None


def content_mark(model: Any) -> tuple[str, list[Any]]:
    """Hash what can be hashed of a model; the rest counts by its address.

    Within a process, another mark is another model, or the same one changed, as long as
    the parts that are returned with it are kept.
    """
    unknown: list[Any] = []
    try:
        return _hash(model, unknown), unknown
    except Unknowable:
        return f"address {id(model)}", unknown


def _hash(model: Any, unknown: list[Any] | None) -> str:
    state, found = state_hash(model, unknown)
    code = CodeHasher(state_hash, unknown).digest(found)
    return hashlib.sha256(f"{state}|{code}".encode()).hexdigest()
