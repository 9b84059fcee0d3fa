"""What the caches on disk hold, their common limit, and how they are emptied."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._config import get_config
from ._store import discard

# Files by what they hold.  What one suffix is named after goes together.
KINDS = {
    "encoder": (".index", ".states"),
    "predictions": (".answers",),
}
ANSWERS = "answers"
ANSWER_FILES = "answers*"
BEING_WRITTEN = 3600.0  # seconds in which a partial file may belong to somebody
SHARE = 20  # of the limit, which is written between two looks at the files
_written: dict[Path, int] = {}


@dataclass(frozen=True)
class CacheFile:
    """A file of a cache with its companions, in the order of their removal."""

    kind: str
    paths: tuple[Path, ...]
    n_bytes: int
    used: float

    def remove(self) -> None:
        """Remove it and what belongs to it."""
        for path in self.paths:
            discard(path)


def _cache_file(kind: str, paths: list[Path]) -> CacheFile | None:
    try:
        stats = [path.stat() for path in paths]
    except OSError:  # removed meanwhile
        return None
    size = sum(stat.st_size for stat in stats)
    return CacheFile(kind, tuple(paths), size, stats[0].st_mtime)


def _files(root: Path) -> Iterator[CacheFile]:
    for kind, suffixes in KINDS.items():
        groups: dict[Path, list[Path]] = {}
        for path in sorted((root / kind).rglob("*")):
            if path.suffix in suffixes:  # an index sorts before its states
                groups.setdefault(path.with_suffix(suffixes[0]), []).append(path)
            elif path.suffix == ".partial":  # left by a process that was killed
                groups[path] = [path]
        for name, paths in groups.items():
            found = _cache_file(kind, paths)
            if found is None:
                continue
            if name.suffix != ".partial" or found.used < time.time() - BEING_WRITTEN:
                yield found


def _answer_files(root: Path) -> Iterator[CacheFile]:
    for path in root.glob(ANSWER_FILES):
        found = _cache_file(ANSWERS, [path])
        if found is not None:
            yield found


def note_written(n_bytes: int) -> None:
    """Remove what was used longest ago, once the caches are above their limit.

    Answers of language models stay, as they may have cost money.
    """
    config = get_config()
    root, limit = config["cache_dir"], config["max_cache_bytes"]
    if root is None:
        return
    written = _written.get(root, limit) + n_bytes
    _written[root] = written
    if written * SHARE < limit:
        return
    _written[root] = 0
    files = sorted(_files(root), key=lambda file: file.used)
    total = sum(file.n_bytes for file in files)
    for file in files[:-1]:
        if total <= limit:
            break
        file.remove()
        total -= file.n_bytes


def cache_info() -> dict[str, dict[str, Any]]:
    """Return what the caches on disk hold.

    Returns
    -------
    info : dict of str to dict
        For ``"encoder"`` (encoder outputs), ``"predictions"`` (answers of models) and
        ``"answers"`` (answers of language models): ``n_files``, ``n_bytes``, and
        ``last_used`` in seconds since 1970, None if there are none.

    See Also
    --------
    clear_cache : Removes files.
    set_config : Sets folder and limit.

    Examples
    --------
    >>> import tempfile
    >>> from fute_sklearn import cache_info, config_context
    >>> with config_context(cache_dir=tempfile.mkdtemp()):
    ...     cache_info()["predictions"]
    {'n_files': 0, 'n_bytes': 0, 'last_used': None}
    """
    found = _all_files()
    return {
        kind: {
            "n_files": len(files := [one for one in found if one.kind == kind]),
            "n_bytes": sum(one.n_bytes for one in files),
            "last_used": max((one.used for one in files), default=None),
        }
        for kind in (*KINDS, ANSWERS)
    }


def _all_files() -> list[CacheFile]:
    root = get_config()["cache_dir"]
    if root is None or not os.path.isdir(root):
        return []
    return [*_files(root), *_answer_files(root)]


def clear_cache(what: str = "all", *, older_than: float | None = None) -> int:
    """Remove files of the caches on disk.

    Processes that use them compute or ask again.  Registries and the folders of
    ``TaskVectorizer(memory=...)`` are no part of the caches.

    Parameters
    ----------
    what : {"all", "encoder", "predictions", "answers"}, default="all"
        Which cache.  ``"all"`` leaves the answers of language models, which may have
        cost money: they are removed by ``"answers"`` only.
    older_than : float, optional
        Days; files that were used later stay.  By default all are removed.

    Returns
    -------
    n_bytes : int
        Size of what was removed.

    Raises
    ------
    ValueError
        If ``what`` is none of these, or ``older_than`` is negative.

    See Also
    --------
    cache_info : Says what there is.

    Examples
    --------
    >>> import tempfile
    >>> from fute_sklearn import clear_cache, config_context
    >>> with config_context(cache_dir=tempfile.mkdtemp()):
    ...     clear_cache("encoder", older_than=30)
    0
    """
    if what not in ("all", ANSWERS, *KINDS):
        raise ValueError(f"what={what!r}, expected one of {('all', *KINDS, ANSWERS)}.")
    if older_than is not None and older_than < 0:
        raise ValueError(f"older_than={older_than!r}, expected days, 0 or more.")
    kinds = set(KINDS) if what == "all" else {what}
    before = time.time() - 86400 * (older_than or 0)
    removed = 0
    for file in _all_files():
        if file.kind in kinds and (older_than is None or file.used < before):
            file.remove()
            removed += file.n_bytes
    return removed
