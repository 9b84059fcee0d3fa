"""Tell what was installed, and is known by its version, from code of the user's own."""

from __future__ import annotations

import functools
import site
import sys
import sysconfig
from pathlib import Path
from typing import Any

INSTALLED = tuple(
    Path(path).resolve()
    for path in (
        *map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib")),
        site.getusersitepackages(),
    )
)
# What installers call their folders, those of other environments on the path included.
PACKAGE_FOLDERS = {"site-packages", "dist-packages"}
OWN_PACKAGE = __name__.partition(".")[0]


def is_installed(name: str) -> bool:
    """Return whether a module belongs to an installed package or this package.

    Such modules are hashed by their version only.
    """
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
    return is_in_package_folder(Path(path), top)


def is_in_package_folder(path: Path, top: str) -> bool:
    """Return whether an installer has put a module's file where it is.

    ``top`` is the name of the module's top-level package.  Folders that ``pip install
    --target`` has filled are known by the records of distributions beside the package.
    """
    file = path.resolve()
    if any(file.is_relative_to(folder) for folder in INSTALLED):
        return True
    if PACKAGE_FOLDERS & {folder.name for folder in file.parents}:
        return True
    beside = next((p.parent for p in file.parents if p.name == top), file.parent)
    return is_recorded(beside, top)


@functools.cache
def is_recorded(folder: Path, top: str) -> bool:
    """Return whether an installer has recorded a package of a folder as its own."""
    starts = (f"{top}/", f"{top}.")
    return any(
        line.startswith(starts)
        for record in folder.glob("*.dist-info/RECORD")
        for line in record.read_text(encoding="utf8", errors="replace").splitlines()
    )


def is_importable(value: Any) -> bool:
    """Return whether a class or function is what its module has under its name."""
    found: Any = sys.modules.get(getattr(value, "__module__", None) or "")
    for name in (getattr(value, "__qualname__", None) or "").split("."):
        found = getattr(found, name, None)
    return found is value


def version_of(name: str) -> str:
    """Return the name and ``__version__``, if there is one, of a module's package."""
    top = name.partition(".")[0]
    return f"{top} {getattr(sys.modules.get(top), '__version__', '')}"
