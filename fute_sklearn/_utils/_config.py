"""Configuration of cache folder, cache size and memory per batch of tasks."""

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
# Settings of `config_context`, which are local to a thread or asynchronous task.
_context: ContextVar[dict[str, Any] | None] = ContextVar("fute_sklearn", default=None)


def _in_force() -> dict[str, Any]:
    local = _context.get()
    return _config if local is None else local


def get_config() -> dict[str, Any]:
    """Return the current configuration.

    Returns
    -------
    config : dict
        ``cache_dir`` (`pathlib.Path`, or None if caches on disk are off),
        ``max_cache_bytes`` and ``max_batch_bytes`` (int); see `set_config`.

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
    """Return FUTE_SKLEARN_CACHE, else a subfolder of the user's cache folder.

    Empty environment variables count as not set.  Whether the folder can be used is
    checked on use.
    """
    given = os.environ.get("FUTE_SKLEARN_CACHE", "").strip()
    if given:
        return expanded(given)
    base = os.environ.get("XDG_CACHE_HOME", "").strip()
    return expanded(base if os.path.isabs(base) else "~/.cache") / "fute_sklearn"


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with ``~`` replaced by the home folder, if there is one."""
    if not os.fspath(path):
        raise ValueError("an empty path names no folder and no file.")
    return Path(os.path.expanduser(path))


def set_config(
    *,
    cache_dir: Any = _UNSET,
    max_cache_bytes: int | None = None,
    max_batch_bytes: int | None = None,
) -> None:
    """Set the cache folder, the cache size and the memory per batch of tasks.

    The settings hold for all threads of the process, or, inside of `config_context`,
    until its end.  Arguments that are not given leave their setting unchanged.

    Parameters
    ----------
    cache_dir : path-like or None, optional
        Folder that caches encoder outputs, predictions of models and answers of
        language models; ``~`` is the home folder.  None turns caches on disk off, so
        that texts are encoded and models called again for every fit.  If it was never
        set, it is the environment variable ``FUTE_SKLEARN_CACHE``, else a subfolder of
        the user's cache folder.  If the folder cannot be used, a warning is given once
        and there is no cache.  Texts are stored as hashes, except for generated answers
        of language models.
    max_cache_bytes : int, optional
        Size in bytes of the encoder outputs and the predictions of models together,
        above which the files that were used longest ago are removed; initially 8 GiB.
        Answers of language models stay, as they may have cost money; see `clear_cache`.
    max_batch_bytes : int, optional
        Estimated memory in bytes, beside the surrogate, of the tasks that are embedded
        in one pass; initially 2 GiB.  It limits their number, which affects speed but
        not results.

    Raises
    ------
    ValueError
        If a size is not a positive int, or the path is empty.

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
    """Set the configuration within a ``with`` block, for the current thread only.

    Parameters
    ----------
    **settings : dict
        Keyword arguments of `set_config`.  Calls of `set_config` within the block hold
        until its end.


    Raises
    ------
    ValueError
        If a setting is invalid.

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
