"""Hash loaded code: functions, classes with their bases, and what they refer to."""

from __future__ import annotations

import builtins
import dis
import functools
import hashlib
import importlib
import importlib.util
import inspect
import logging
import re
import sys
import sysconfig
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

INSTALLED = tuple(
    Path(sysconfig.get_path(name)).resolve()
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
OWN_PACKAGE = __name__.partition(".")[0]
# What holds no state that an answer could depend on.
INERT = (type(threading.Lock()), type(threading.RLock()), logging.Logger)
SKIPPED = {"__dict__", "__weakref__", "__doc__", "__module__", "__annotations__"}
# Names that every module has, and what only tells where its code lies.
MODULE_NAMES = {*vars(types.ModuleType("any")), "__builtins__", "__file__"}
MODULE_NAMES |= {
    "__cached__",
    "__path__",
    "__annotate__",
    "__conditional_annotations__",
}
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class Unknowable(Exception):
    """Something that only its identity tells apart."""


def is_installed(name: str) -> bool:
    """Tell modules of installed packages, which change with their version only."""
    top = name.partition(".")[0]
    if top == OWN_PACKAGE or top in sys.builtin_module_names or name == "builtins":
        return True
    module = sys.modules.get(name)
    if module is None or name == "__main__":
        return False
    spec = getattr(module, "__spec__", None)
    if spec is not None and spec.origin in ("built-in", "frozen"):
        return True
    path = getattr(module, "__file__", None) or next(
        iter(getattr(module, "__path__", ())), None
    )
    if path is None:
        return False
    file = Path(path).resolve()
    return any(file.is_relative_to(folder) for folder in INSTALLED)


def version_of(name: str) -> str:
    """Return an installed package's name and version, as far as it tells it."""
    top = name.partition(".")[0]
    return f"{top} {getattr(sys.modules.get(top), '__version__', '')}"


class CodeHasher:
    """Walk through code from some classes and functions to all that it may run.

    Parameters
    ----------
    state_of : callable
        Gives the hash of a value's state and the classes and functions it refers to.
    """

    def __init__(self, state_of: Callable[[Any], tuple[str, list[Any]]]) -> None:
        self.state_of = state_of
        self.seen: dict[int, Any] = {}
        self.parts: list[str] = []
        self.todo: list[Any] = []

    def digest(self, found: list[Any]) -> str:
        """Return one hash of all code that classes and functions lead to."""
        self.todo += found
        while self.todo:
            item = self.todo.pop()
            if id(item) not in self.seen:
                self.seen[id(item)] = item  # kept, so that its id is not given anew
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
        elif isinstance(item, types.CodeType):
            self._code(item, {})

    def _outside(self, item: Any) -> bool:
        """Note the version of what comes from an installed package."""
        module = getattr(item, "__module__", None) or "builtins"
        if not is_installed(module):
            return False
        self._note(version_of(module))
        return True

    def _module(self, module: types.ModuleType) -> None:
        if is_installed(module.__name__):
            self._note(version_of(module.__name__))
            return
        path = getattr(module, "__file__", None)
        if path is not None and not path.endswith((".py", ".pyc")):
            if not Path(path).is_file():
                raise Unknowable(module.__name__)
            self._note(
                module.__name__, hashlib.sha256(Path(path).read_bytes()).hexdigest()
            )
        for name, value in vars(module).items():
            if name not in MODULE_NAMES:
                self._value(f"{module.__name__}.{name}", value)

    def _class(self, cls: type) -> None:
        for base in cls.__mro__[1:]:
            self.todo.append(base)
        if self._outside(cls):
            return
        bases = [f"{b.__module__}.{b.__qualname__}" for b in cls.__bases__]
        self._note("class", cls.__module__, cls.__qualname__, bases)
        for name, value in vars(cls).items():
            if name not in SKIPPED and not isinstance(
                value, (types.GetSetDescriptorType, types.MemberDescriptorType)
            ):
                self._value(f"{cls.__module__}.{cls.__qualname__}.{name}", value)

    def _function(self, function: types.FunctionType) -> None:
        if self._outside(function):
            return
        name = f"{function.__module__}.{function.__qualname__}"
        known = function.__globals__
        self._note("function", name, self._code(function.__code__, known))
        self._value(f"{name} defaults", function.__defaults__)
        self._value(f"{name} keywords", function.__kwdefaults__)
        self._value(f"{name} attributes", function.__dict__)
        for free, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            try:
                self._value(f"{name} closure {free}", cell.cell_contents)
            except ValueError:  # not yet set
                continue

    def _code(self, code: types.CodeType, known: dict[str, Any]) -> str:
        """Hash a code object; queue what its names stand for."""
        for name in code.co_names:
            if name in known:
                self._value(f"{known.get('__name__')}.{name}", known[name])
            elif hasattr(builtins, name):
                continue
        for name in _imported(code, known):
            self._import(name)
        consts = [
            self._code(c, known) if isinstance(c, types.CodeType) else _constant(c)
            for c in code.co_consts
        ]
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
        table = getattr(code, "co_exceptiontable", b"")
        parts = (code.co_code.hex(), table.hex(), code.co_flags, consts, names, counts)
        return hashlib.sha256(repr(parts).encode("utf8", "surrogatepass")).hexdigest()

    def _import(self, name: str) -> None:
        """Queue a module that a function imports as it runs."""
        if name not in sys.modules:
            try:
                importlib.import_module(name)
            except Exception:  # it would fail in the model too, or is no module
                return
        self.todo.append(sys.modules[name])

    def _value(self, name: str, value: Any) -> None:
        """Note a value that code refers to, and queue the code behind it."""
        if isinstance(value, (staticmethod, classmethod)):
            value = value.__func__
        if isinstance(value, property):
            parts = (value.fget, value.fset, value.fdel)
            self.todo += [part for part in parts if part is not None]
            return
        wrapped = getattr(value, "__wrapped__", None)
        if wrapped is not None and not isinstance(value, types.FunctionType):
            value = inspect.unwrap(value)
        if isinstance(value, (types.ModuleType, type, types.FunctionType)):
            self._note(name, "is", getattr(value, "__qualname__", value.__name__))
            self.todo.append(value)
        elif isinstance(value, (types.BuiltinFunctionType, *INERT)):
            self._note(name, ADDRESS.sub("", repr(value)))
        elif value is not None and value != ():
            state, code = self.state_of(value)
            self._note(name, state)
            self.todo += code


def _constant(value: Any) -> str:
    """Write a constant of code; sets in an order that is the same in every process."""
    if isinstance(value, frozenset):
        return f"frozenset({sorted(map(_constant, value))})"
    if isinstance(value, tuple):
        return f"tuple({list(map(_constant, value))})"
    return f"{type(value).__name__}:{value!r}"


def _imported(code: types.CodeType, known: dict[str, Any]) -> Iterator[str]:
    """Names of the modules that a code object imports as it runs."""
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
