"""Convert columns and tables of any library to lists and arrays."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

# Columns hold thousands of these, which need no closer look.
PLAIN = frozenset({str, int, bool})
CONTAINERS = (list, tuple, set, frozenset, dict, bytes, bytearray, np.ndarray)
EXACT_FLOAT = 2**53
# Kinds of arrays whose values are Python's own once they are a list.
KINDS = "Ubiu"
# Arrays of more levels, of which the first rows tell, are read value by value.
MOST_LEVELS, LOOKED_AT = 16, 256
Found = TypeVar("Found")


def has(values: Any, name: str) -> bool:
    """Return whether the type has an attribute.

    Instances are not asked, because pandas tables have their columns as attributes.
    """
    return hasattr(type(values), name)


def plain(values: Any) -> Any:
    """Convert tensors, arrow arrays, masked arrays and iterators to arrays or lists."""
    if has(values, "detach"):  # a torch tensor
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values
        return values.numpy()
    if has(values, "to_pylist"):  # pyarrow
        return values.to_pylist()
    if isinstance(values, np.ma.MaskedArray):
        return values.tolist()  # masked entries become None
    if has(values, "toarray") and has(values, "nnz"):
        raise TypeError("a sparse matrix is given; expected an array: .toarray().")
    return list(values) if has(values, "__next__") else values


def column_names(values: Any) -> list[Any] | None:
    """Return the column names of a pandas or polars table, or None.

    The default RangeIndex of pandas does not count as names.
    """
    columns = values.columns if has(values, "columns") else None
    if columns is None or type(columns).__name__ == "RangeIndex":
        return None
    return list(columns)


def categories_of(values: Any) -> list[Any] | None:
    """Return all categories of a categorical column, None for other columns."""
    dtype = values.dtype if has(values, "dtype") else None
    categories = getattr(dtype, "categories", None)
    return None if categories is None else list(categories)


def is_table(values: Any) -> bool:
    """Return whether values are two-dimensional: rows of several values."""
    if has(values, "ndim") or has(values, "columns"):
        return (values.ndim if has(values, "ndim") else 2) == 2
    return (
        isinstance(values, (list, tuple))
        and len(values) > 0
        and isinstance(values[0], (list, tuple, np.ndarray))
        and np.ndim(values[0]) == 1
    )


def table_of(values: Any, name: str) -> np.ndarray:
    """Return rows of class probabilities or scores as floats (n, n_columns)."""
    remedy = (
        "expected one target per row, or rows of class probabilities. For labels give "
        f"one column: {name}['label'] of a table, {name}.ravel() of an array."
    )
    rows = values.to_numpy() if has(values, "to_numpy") else values
    try:
        array = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError) as error:
        shown = repr(np.asarray(rows[0]).tolist())[:80] if len(rows) else "nothing"
        raise ValueError(f"{name}[0] is {shown}; {remedy}") from error
    if array.ndim != 2 or array.shape[1] < 2:
        raise ValueError(f"{name} has the shape {array.shape}; {remedy}")
    return array


def are_plain(values: Iterable[Any]) -> bool:
    """Return whether all values are of the types str, int and bool themselves."""
    return PLAIN.issuperset(map(type, values))


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN or pandas' NA or NaT."""
    if type(value) in PLAIN:
        return False
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    real = isinstance(value, numbers.Real) and not isinstance(value, numbers.Rational)
    return real and math.isnan(value)


def scalar(value: Any) -> Any:
    """Convert a scalar of numpy, arrow or torch to a Python object."""
    if type(value) in PLAIN:
        return value
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return str(value)
    if isinstance(value, np.floating) and value.itemsize < 8:
        return float(str(value))  # float32(0.1) becomes 0.1, not 0.10000000149
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return value.item()
    return value.as_py() if hasattr(value, "as_py") else value


def scalars(values: Iterable[Any]) -> list[Any]:
    """Return the values of a column as Python objects."""
    dtype = getattr(values, "dtype", None)
    if isinstance(dtype, np.dtype) and (dtype.kind in KINDS or dtype == np.float64):
        return values.tolist()  # type: ignore[attr-defined, no-any-return]
    out = list(values)
    return out if are_plain(out) else [scalar(value) for value in out]


@dataclass(frozen=True)
class Coded:
    """A column as its levels and each row's place (n,) among them.

    The levels are the distinct values, or all values where they are not plain.
    """

    levels: list[Any]
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.places)

    @classmethod
    def of(cls, values: np.ndarray | list[Any]) -> Coded:
        """Find the distinct values of a column of Python objects, or of an array."""
        found = None
        if isinstance(values, np.ndarray) and is_plain_array(values):
            found = _coded(values)
        return _factorized(scalars(values)) if found is None else found

    def values(self) -> list[Any]:
        """Return the value of each row."""
        return [self.levels[place] for place in self.places.tolist()]


def is_plain_array(values: Any) -> bool:
    """Return whether values are one column of numpy's own words, truths or integers."""
    return (
        type(values) is np.ndarray and values.ndim == 1 and values.dtype.kind in KINDS
    )


def _coded(values: np.ndarray) -> Coded | None:
    """Find an array's few levels by comparing it as a whole with each of them."""
    if len(set(values[:LOOKED_AT].tolist())) > MOST_LEVELS:
        return None
    levels: list[Any] = []
    places, left = np.zeros(len(values), np.intp), np.arange(len(values))
    while len(left):
        if len(levels) == MOST_LEVELS:
            return None
        some = values if len(left) == len(values) else values[left]
        same = some == some[0]
        places[left[same]] = len(levels)
        levels.append(some[0].item())
        left = left[~same]
    return Coded(levels, places)


def by_distinct(function: Callable[[Any], Found], values: list[Any]) -> list[Found]:
    """Apply a function to many values, once for each that occurs."""
    column = _factorized(values)
    found = [function(value) for value in column.levels]
    if all(value is new for value, new in zip(column.levels, found, strict=True)):
        return list(values)  # type: ignore[arg-type]
    return [found[place] for place in column.places.tolist()]


def distinct(values: list[Any]) -> list[Any]:
    """Return the distinct values, first seen first.

    Values of other types than str, int and bool all count as distinct.
    """
    kinds = set(map(type, values))
    if not PLAIN.issuperset(kinds):
        return values
    if len(kinds) == 1:
        return list(dict.fromkeys(values))
    # True is not 1 here.
    pairs = dict.fromkeys(zip(map(type, values), values, strict=True))
    return [value for _, value in pairs]


def _factorized(values: list[Any]) -> Coded:
    levels = distinct(values)
    if levels is values:
        return Coded(levels, np.arange(len(values)))
    kinds = set(map(type, levels))
    keys, rows = levels, values
    if len(kinds) > 1:
        keys = list(zip(map(type, levels), levels, strict=True))
        rows = list(zip(map(type, values), values, strict=True))
    place = {key: i for i, key in enumerate(keys)}
    places = np.fromiter(map(place.__getitem__, rows), np.intp, len(rows))
    return Coded(levels, places)


def column_of(values: Any, name: str) -> list[Any]:
    """Return one Python scalar per row; raise naming the first invalid row."""
    if isinstance(values, (str, bytes)):
        raise TypeError(f"{name} is one string; expected one target per text.")
    if not isinstance(values, Iterable) or isinstance(values, (dict, set, frozenset)):
        raise TypeError(
            f"{name} is a {type(values).__name__}; expected a sequence with one target "
            "per text, in the texts' order."
        )
    if has(values, "ndim") and values.ndim != 1:  # type: ignore[attr-defined]
        raise ValueError(
            f"{name} has {values.ndim} dimensions; expected one target per text."  # type: ignore[attr-defined]
        )
    out = scalars(values)
    if are_plain(out):
        return out
    for i, value in enumerate(out):
        if is_missing(value):
            raise ValueError(
                f"{name}[{i}] is {value!r}, a missing value. Drop these rows."
            )
        nameless = (
            type(value).__str__ is object.__str__
            and type(value).__repr__ is object.__repr__
        )
        if isinstance(value, CONTAINERS) or nameless:
            raise TypeError(
                f"{name}[{i}] is {value!r} of type {type(value).__name__}; expected "
                "one label, number or text per row. Several labels for one text are "
                "not supported; bytes need decoding."
            )
    return out


def typed_array(values: list[Any]) -> np.ndarray:
    """Create an array that keeps values distinct.

    Values of one type (str, bool, int or float) keep it; if numpy would change values
    (ints beyond 64 bits, mixed types), the array has dtype object.
    """
    kinds = {type(value) for value in values}
    if len(kinds) == 1 and issubclass(next(iter(kinds)), (str, bool, int, float)):
        try:
            array = np.array(values)
        except OverflowError:
            array = np.empty(0)
        if array.dtype.kind in "Ubif" and array.tolist() == values:
            return array
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def label_name(label: Any) -> str:
    """Return the text by which labels are compared; 1, 1.0 and "1" have the same."""
    if type(label) is str:
        return label.strip()
    if isinstance(label, (bool, np.bool_)):
        return str(bool(label))
    if isinstance(label, numbers.Rational) and label.denominator == 1:
        return _digits(int(label.numerator))
    if isinstance(label, numbers.Real) and math.isfinite(label):
        whole = int(label)  # type: ignore[call-overload]
        if label == whole:
            return _digits(int(whole))
    return str(label).strip()


def _digits(number: int) -> str:
    try:
        return str(number)
    except ValueError:  # beyond Python's limit of decimal digits
        return hex(number)
