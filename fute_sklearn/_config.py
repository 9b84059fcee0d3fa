"""Where caches lie, how large they may grow, and what memory a fleet may take."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_UNSET = object()
_config: dict[str, Any] = {
    "cache_dir": _UNSET,
    "max_cache_bytes": 8 * 2**30,
    "max_fleet_bytes": 2 * 2**30,
}


def get_config() -> dict[str, Any]:
    """Return the settings in force.

    Returns
    -------
    config : dict
        ``cache_dir``: the folder of the caches as `pathlib.Path`, or None when they
        are off; ``max_cache_bytes``: the size at which the oldest encoder outputs
        are removed; ``max_fleet_bytes``: about what the tasks that are embedded
        together may take.

    Examples
    --------
    >>> from fute_sklearn import config_context, get_config
    >>> with config_context(cache_dir=None):
    ...     print(get_config()["cache_dir"])
    None
    """
    folder = _config["cache_dir"]
    if folder is _UNSET:
        default = os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")
        folder = os.environ.get("FUTE_SKLEARN_CACHE", Path(default) / "fute_sklearn")
    return {**_config, "cache_dir": None if folder is None else Path(folder)}


def set_config(
    *,
    cache_dir: Any = _UNSET,
    max_cache_bytes: int | None = None,
    max_fleet_bytes: int | None = None,
) -> None:
    """Set where caches lie and what memory to use, for this process.

    Parameters
    ----------
    cache_dir : path-like or None, optional
        Folder for encoder outputs, predictions and answers.  None turns the caches on
        disk off: texts are then encoded, and models called, again for every fit.
        Unset, the environment variable ``FUTE_SKLEARN_CACHE`` counts, then the
        user's cache folder.  Caches hold numbers and hashes of texts, no texts but
        what language models wrote.
    max_cache_bytes : int, optional
        Size in bytes that the encoder outputs of one surrogate may reach before the
        oldest files are removed; 8 GiB by default.
    max_fleet_bytes : int, optional
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
        _config["cache_dir"] = cache_dir
    if max_cache_bytes is not None:
        _config["max_cache_bytes"] = max_cache_bytes
    if max_fleet_bytes is not None:
        _config["max_fleet_bytes"] = max_fleet_bytes


@contextmanager
def config_context(**settings: Any) -> Iterator[None]:
    """Set the configuration inside a ``with`` block only.

    Parameters
    ----------
    **settings : dict
        As in `set_config`.

    Examples
    --------
    >>> from fute_sklearn import config_context
    >>> with config_context(cache_dir=None):
    ...     pass
    """
    before = dict(_config)
    set_config(**settings)
    try:
        yield
    finally:
        _config.update(before)
