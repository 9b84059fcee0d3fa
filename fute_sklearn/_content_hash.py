"""Tell models apart by their content: state and code."""

from __future__ import annotations

import hashlib
import pickle
import pickletools
import sys
import sysconfig
from pathlib import Path
from typing import Any

from joblib.hashing import NumpyHasher

INSTALLED = tuple(
    Path(sysconfig.get_path(name)).resolve()
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


class _Hasher(NumpyHasher):
    """joblib's hash of arrays, with torch tensors hashed by their values."""

    def save(self, obj: Any) -> None:
        if hasattr(obj, "untyped_storage") and hasattr(obj, "detach"):
            values = obj.detach().cpu()
            values = values.float() if str(values.dtype) == "torch.bfloat16" else values
            obj = ("tensor", str(obj.dtype), values.numpy())
        super().save(obj)


def content_hash(model: Any) -> str | None:
    """Hash a model's pickled state and the source of its own modules.

    Returns None for a model that cannot be pickled, or whose code lies in no file, so
    that only its identity tells it apart.  Installed packages are taken as they are.
    """
    try:
        state = _Hasher("sha1").hash(model)
        names = _modules(model)
    except Exception:  # whatever a stranger's __reduce__ may raise
        return None
    digest = hashlib.sha256(str(state).encode())
    for name in sorted(names):
        module = sys.modules[name]
        path = getattr(module, "__file__", None)
        if path is None:
            if name in sys.builtin_module_names or hasattr(module, "__path__"):
                continue
            return None
        file = Path(path).resolve()
        if not any(file.is_relative_to(folder) for folder in INSTALLED):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _modules(model: Any) -> set[str]:
    """Names of the loaded modules that a pickle of the model refers to."""
    found = {type(model).__module__}
    for _, argument, _ in pickletools.genops(pickle.dumps(model)):
        if isinstance(argument, str):
            # A global is one string "module name" or two strings in turn.
            found.add(argument.split(" ")[0])
    return {name for name in found if name in sys.modules}
