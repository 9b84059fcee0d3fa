"""Where caches lie, how large they may grow, and what memory a batch of tasks takes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Integral
from pathlib import Path
from typing import Any

_UNSET = object()
_config: dict[str, Any] = {
    "cache_dir": _UNSET,
    "max_cache_bytes": 8 * 2**30,
    "max_batch_bytes": 2 * 2**30,
}
# Settings of `config_context`, which other threads do not see.
_context: ContextVar[dict[str, Any] | None] = ContextVar("fute_sklearn", default=None)


def _in_force() -> dict[str, Any]:
    local = _context.get()
    return _config if local is None else local


def get_config() -> dict[str, Any]:
    """Return the settings in force.

    Returns
    -------
    config : dict
        ``cache_dir``: the folder of the caches as `pathlib.Path`, or None when they
        are off; ``max_cache_bytes``: the size at which the oldest encoder outputs
        are removed; ``max_batch_bytes``: about what the tasks that are embedded
        together may take.

    Examples
    --------
    >>> from fute_sklearn import config_context, get_config
    >>> with config_context(cache_dir=None):
    ...     print(get_config()["cache_dir"])
    None
    """
    config = dict(_in_force())
    if config["cache_dir"] is _UNSET:
        config["cache_dir"] = _default_folder()
    return config


def _default_folder() -> Path:
    """Folder of the environment: FUTE_SKLEARN_CACHE, else the user's cache folder.

    Variables that are set to nothing count as not set.  A ``~`` that stands for no
    folder stays as it is: whether a folder can be used shows when it is.
    """
    given = os.environ.get("FUTE_SKLEARN_CACHE", "").strip()
    if given:
        return expanded(given)
    base = os.environ.get("XDG_CACHE_HOME", "").strip()
    return expanded(base if os.path.isabs(base) else "~/.cache") / "fute_sklearn"


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with ``~`` replaced by the home folder, where there is one."""
    if not os.fspath(path):
        raise ValueError("an empty path names no folder and no file.")
    return Path(os.path.expanduser(path))


def set_config(
    *,
    cache_dir: Any = _UNSET,
    max_cache_bytes: int | None = None,
    max_batch_bytes: int | None = None,
) -> None:
    """Set where caches lie and what memory to use, for all threads of this process.

    Parameters
    ----------
    cache_dir : path-like or None, optional
        Folder for encoder outputs, predictions and answers.  None turns the caches on
        disk off: texts are then encoded, and models called, again for every fit.
        Unset, the environment variable ``FUTE_SKLEARN_CACHE`` counts, then the
        user's cache folder; ``~`` is the home folder.  A folder that cannot be used
        is done without, with one warning.  Caches hold numbers and hashes of texts, no
        texts but what language models wrote.
    max_cache_bytes : int, optional
        Size in bytes that the encoder outputs of one surrogate may reach before the
        oldest files are removed; 8 GiB by default.
    max_batch_bytes : int, optional
        Memory in bytes that the tasks of one pass may take beside the surrogate, by an
        estimate; a pass holds fewer where they would take more, with the same results.
        2 GiB by default.

    Examples
    --------
    >>> import tempfile
    >>> from fute_sklearn import config_context, set_config
    >>> with config_context():
    ...     set_config(cache_dir=tempfile.mkdtemp())
    """
    if cache_dir is not _UNSET:
        cache_dir = None if cache_dir is None else expanded(cache_dir)
        _in_force()["cache_dir"] = cache_dir
    for name, value in (
        ("max_cache_bytes", max_cache_bytes),
        ("max_batch_bytes", max_batch_bytes),
    ):
        if value is not None:
            if not isinstance(value, Integral) or value < 1:
                raise ValueError(f"{name}={value!r}, expected a positive int.")
            _in_force()[name] = int(value)


@contextmanager
def config_context(**settings: Any) -> Iterator[None]:
    """Set the configuration inside a ``with`` block, for the present thread only.

    Parameters
    ----------
    **settings : dict
        As in `set_config`; `set_config` inside the block counts to its end.

    Examples
    --------
    >>> from fute_sklearn import config_context
    >>> with config_context(cache_dir=None):
    ...     pass
    """
    token = _context.set(dict(_in_force()))
    try:
        set_config(**settings)
        yield
    finally:
        _context.reset(token)
