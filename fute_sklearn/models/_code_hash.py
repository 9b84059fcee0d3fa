"""Hash loaded code: functions, classes with their bases, and all they refer to."""

from __future__ import annotations

import dis
import functools
import hashlib
import importlib.util
import logging
import os
import re
import sys
import threading
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._installed_code import (
    is_importable,
    is_in_package_folder,
    is_installed,
    version_of,
)

# Types without state that a prediction could depend on.
INERT = (
    type(threading.Lock()),
    type(threading.RLock()),
    logging.Logger,
    types.BuiltinFunctionType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.MethodWrapperType,
)
DESCRIPTORS = (types.GetSetDescriptorType, types.MemberDescriptorType)
ACCESSORS = ("fget", "fset", "fdel", "func")  # functions that properties have
SKIPPED = {"__dict__", "__weakref__", "__doc__", "__module__", "__annotations__"}
# Attributes that dataclasses, abc and typing derive from a class's own code.
SKIPPED |= {"__dataclass_fields__", "__dataclass_params__", "__match_args__"}
SKIPPED |= {"_abc_impl", "__abstractmethods__", "__parameters__", "__orig_bases__"}
SKIPPED |= {"_is_protocol", "_is_runtime_protocol", "__protocol_attrs__"}
# Names that every module has, and names that only describe its location.
MODULE_NAMES = {*vars(types.ModuleType("any")), "__builtins__", "__file__"}
MODULE_NAMES |= {
    "__cached__",
    "__path__",
    "__annotate__",
    "__conditional_annotations__",
}
LONGEST_PATH, SUFFIX = 1024, 9  # characters of a path, and of its end
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class Unknowable(Exception):
    """Raised for objects whose content cannot be hashed."""


@dataclass(frozen=True)
class Unloaded:
    """A module that a function imports when called and that is not yet loaded."""

    name: str


class CodeHasher:
    """Hash classes and functions together with all code that they can reach.

    Parameters
    ----------
    state_of : callable
        Takes a value, ``unknown`` and ``open_``.  Returns the hash of the value's state
        and the list of classes and functions that the state refers to.
    unknown : list or None
        Where what cannot be hashed is added, which then counts by its address; None
        raises `Unknowable` for it.
    open_ : set of int, optional
        Addresses of what is being hashed right now, which a class whose attributes are
        its own instances, as an Enum's members, comes back to: it counts by its name.
    """

    def __init__(
        self,
        state_of: Callable[[Any, list[Any] | None, set[int]], tuple[str, list[Any]]],
        unknown: list[Any] | None,
        open_: set[int] | None = None,
    ) -> None:
        self.state_of = state_of
        self.unknown = unknown
        self.seen: dict[Any, Any] = {}
        self.parts: list[str] = []
        self.todo: list[Any] = []
        self.open = set() if open_ is None else open_

    def digest(self, found: list[Any]) -> str:
        """Return one hash of all code reachable from classes and functions."""
        self.todo += found
        while self.todo:
            item = self.todo.pop()
            key = item if isinstance(item, Unloaded) else id(item)
            if key not in self.seen:
                self.seen[key] = item  # keeps it alive, so that its id is not reused
                self._visit(item)
        parts = "\n".join(sorted(set(self.parts)))
        return hashlib.sha256(parts.encode("utf8", "surrogatepass")).hexdigest()

    def _note(self, *parts: object) -> None:
        self.parts.append("|".join(map(str, parts)))

    def _visit(self, item: Any) -> None:
        if isinstance(item, types.ModuleType):
            self._module(item)
        elif isinstance(item, type):
            self._class(item)
        elif isinstance(item, types.FunctionType):
            self._function(item)
        elif isinstance(item, types.MethodType):
            self.todo.append(item.__func__)
        elif isinstance(item, functools.partial):
            self.todo.append(item.func)
        elif isinstance(item, Unloaded):
            self._unloaded(item.name)

    def _outside(self, item: Any) -> bool:
        """Record the version if an item comes from an installed package.

        A function or class that such a package has made, as by a factory, is looked
        into as well.
        """
        module = getattr(item, "__module__", None) or "builtins"
        if not is_installed(module):
            return False
        self._note(version_of(module))
        return "<locals>" not in getattr(item, "__qualname__", "")

    def _module(self, module: types.ModuleType) -> None:
        if is_installed(module.__name__):
            self._note(version_of(module.__name__))
            return
        path = getattr(module, "__file__", None)
        if path is not None and not path.endswith((".py", ".pyc")):
            if not Path(path).is_file():
                if self.unknown is not None:
                    self.unknown.append(module)
                    self._note(module.__name__, id(module))
                    return
                raise Unknowable(module.__name__)
            self._note(
                module.__name__, hashlib.sha256(Path(path).read_bytes()).hexdigest()
            )
        for name, value in vars(module).items():
            if name not in MODULE_NAMES:
                self._value(f"{module.__name__}.{name}", value)

    def _unloaded(self, name: str) -> None:
        """Hash the compiled source of a module without executing it."""
        try:
            spec = importlib.util.find_spec(name)
            if spec is None or spec.origin is None or not spec.has_location:
                return
            if is_in_package_folder(Path(spec.origin), name.partition(".")[0]):
                return
            source = Path(spec.origin).read_bytes()
        except (ImportError, ValueError, OSError):  # the model's import fails as well
            return
        try:
            code = compile(source, spec.origin, "exec")
        except (SyntaxError, ValueError):
            self._note("unloaded", name, hashlib.sha256(source).hexdigest())
            return
        known = {"__package__": spec.parent, "__name__": name}
        self._note("unloaded", name, self._code(code, known))

    def _class(self, cls: type) -> None:
        for base in cls.__mro__[1:]:
            self.todo.append(base)
        if self._outside(cls):
            return
        where = f"{cls.__module__}.{cls.__qualname__}"
        bases = [f"{b.__module__}.{b.__qualname__}" for b in cls.__bases__]
        self._note("class", where, bases)
        self.open.add(id(cls))  # its attributes may be its instances
        try:
            for name, value in vars(cls).items():
                if name not in SKIPPED and not isinstance(value, DESCRIPTORS):
                    self._value(f"{where}.{name}", value)
        finally:
            self.open.discard(id(cls))

    def _function(self, function: types.FunctionType) -> None:
        if self._outside(function):
            return
        where = f"{function.__module__}.{function.__qualname__}"
        self._note("function", where, self.identity(function))
        for free, content in closure_of(function).items():
            self._value(f"{where} closure {free}", content)
        for name, value in vars(function).items():
            self._value(f"{where}.{name}", value)

    def identity(self, value: Any) -> str:
        """Describe an object by its name and its code, defaults and closure."""
        if isinstance(value, types.ModuleType):
            return f"module {value.__name__}"
        where = (
            f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
        )
        known = is_installed(getattr(value, "__module__", "") or "")
        if id(value) in self.open or (known and is_importable(value)):
            return where
        self.open.add(id(value))
        try:
            if isinstance(value, type):
                inner = {
                    name: self._member(f"{where}.{name}", own)
                    for name, own in vars(value).items()
                    if name not in SKIPPED and not isinstance(own, DESCRIPTORS)
                }
                return f"class {where} {inner}"
            code = self._code(value.__code__, value.__globals__)
            inner = {
                name: self.identity(own)
                if isinstance(own, (types.FunctionType, type, types.ModuleType))
                else self._state(f"{where} closure {name}", own)
                for name, own in closure_of(value).items()
            }
            defaults = self._state(f"{where} defaults", value.__defaults__)
            keywords = self._state(f"{where} keywords", value.__kwdefaults__)
            return f"function {where} {code} {defaults} {keywords} {inner}"
        finally:
            self.open.discard(id(value))

    def _member(self, name: str, own: Any) -> str:
        if isinstance(own, (types.FunctionType, type)):
            return self.identity(own)
        if isinstance(own, (staticmethod, classmethod)):
            return f"{type(own).__name__} {self._member(name, own.__func__)}"
        if isinstance(own, (property, functools.cached_property)):
            parts = [getattr(own, part, None) for part in ACCESSORS]
            return f"property {[part and self._member(name, part) for part in parts]}"
        if hasattr(type(own), "cache_info"):  # functools.lru_cache
            return f"cached {self._member(name, own.__wrapped__)}"
        try:
            return self._state(name, own)
        except Unknowable:
            return ""  # raised again where its class is hashed

    def _code(self, code: types.CodeType, known: dict[str, Any]) -> str:
        """Hash a code object; queue the objects that its names refer to."""
        if (id(code), id(known)) not in self.seen:
            self.seen[id(code), id(known)] = code, known
            for name in code.co_names:
                if name in known and name not in ("__name__", "__package__"):
                    self._value(f"{known.get('__name__')}.{name}", known[name])
            for name in _imported(code, known):
                module = sys.modules.get(name)
                self.todo.append(Unloaded(name) if module is None else module)
        consts = [
            self._code(c, known) if isinstance(c, types.CodeType) else _constant(c)
            for c in code.co_consts
        ]
        for value in code.co_consts:
            if mark := file_mark(value):
                self._note("file", value, mark)
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
        table = getattr(code, "co_exceptiontable", b"")
        parts = (code.co_code.hex(), table.hex(), code.co_flags, consts, names, counts)
        return hashlib.sha256(repr(parts).encode("utf8", "surrogatepass")).hexdigest()

    def _value(self, name: str, value: Any) -> None:
        """Record the value that a name refers to, and queue the code of the value."""
        if isinstance(value, (staticmethod, classmethod)):
            self._note(name, "is a", type(value).__name__)
            value = value.__func__
        if isinstance(value, (property, functools.cached_property)):
            for part in ACCESSORS:
                if (inner := getattr(value, part, None)) is not None:
                    self._value(f"{name} {part}", inner)
            return
        if hasattr(type(value), "cache_info"):  # functools.lru_cache
            value = value.__wrapped__
        if isinstance(value, (types.ModuleType, type, types.FunctionType)):
            self._note(name, "is", self.identity(value))
            self.todo.append(value)
        else:
            self._note(name, self._state(name, value))

    def _state(self, name: str, value: Any) -> str:
        """Hash a value; if it cannot be pickled, hash its items or attributes."""
        if value is None or (isinstance(value, tuple) and not value):
            return repr(value)
        if isinstance(value, INERT) or type(value).__module__ == "typing":
            return ADDRESS.sub("", repr(value))
        try:
            state, code = self.state_of(value, self.unknown, self.open)
        except Unknowable:
            return self._pieces(name, value)
        self.todo += code
        return state

    def _pieces(self, name: str, value: Any) -> str:
        """Record the items or attributes of an object; raise if it has neither."""
        if id(value) in self.open:
            return "again"
        if isinstance(value, (dict, types.MappingProxyType)):
            parts = {repr(key): own for key, own in value.items()}
        elif isinstance(value, (list, tuple)):
            parts = {str(i): own for i, own in enumerate(value)}
        elif hasattr(value, "__dict__") and not is_installed(type(value).__module__):
            parts = vars(value)
        elif self.unknown is not None:
            self.unknown.append(value)
            return f"{type(value).__qualname__} at {id(value)}"
        else:
            raise Unknowable(name)
        self.open.add(id(value))
        try:
            self.todo.append(type(value))
            for key, own in parts.items():
                self._value(f"{name}[{key}]", own)
        finally:
            self.open.discard(id(value))
        return f"{type(value).__qualname__} of {len(parts)}"


def attributes_of(obj: Any) -> dict[str, Any]:
    """Return the attributes that an object holds itself, in slots too."""
    found = dict(getattr(obj, "__dict__", {}))
    for cls in type(obj).__mro__:
        for name, slot in vars(cls).items():
            if isinstance(slot, types.MemberDescriptorType) and hasattr(obj, name):
                found[name] = getattr(obj, name)
    return found


def file_mark(value: Any) -> str | None:
    """Hash the content of the file that a value is the path of; None if it is none.

    A model that reads a file is another one when the file is replaced.  Strings count
    as paths if they have a separator or a suffix.
    """
    if isinstance(value, str):
        short = 0 < len(value) <= LONGEST_PATH and "\0" not in value
        if not short or not (os.sep in value or "." in value[-SUFFIX:-1]):
            return None
    elif not isinstance(value, Path):
        return None
    try:
        if not os.path.isfile(value):
            return None
        with open(value, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def closure_of(function: types.FunctionType) -> dict[str, Any]:
    """Return the values of a function's free variables that are already set."""
    found = {}
    cells = function.__closure__ or ()
    for name, cell in zip(function.__code__.co_freevars, cells, strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not yet set
            continue
    return found


def _constant(value: Any) -> str:
    """Represent a constant as text; sets sorted, as their order varies by process."""
    if isinstance(value, frozenset):
        return f"frozenset({sorted(map(_constant, value))})"
    if isinstance(value, tuple):
        return f"tuple({list(map(_constant, value))})"
    return f"{type(value).__name__}:{value!r}"


def _imported(code: types.CodeType, known: dict[str, Any]) -> Iterator[str]:
    """Yield the names of the modules that a code object imports when it runs."""
    before: list[Any] = [None, None]
    for step in dis.get_instructions(code):
        if step.opname == "IMPORT_NAME":
            level, names = before
            name = str(step.argval)
            if isinstance(level, int) and level > 0:
                package = known.get("__package__") or ""
                name = importlib.util.resolve_name("." * level + name, package)
            yield name
            if isinstance(names, tuple):
                yield from (f"{name}.{part}" for part in names if part != "*")
        if step.opname.startswith("LOAD_"):
            before = [before[1], step.argval]
