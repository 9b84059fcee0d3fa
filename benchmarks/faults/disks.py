"""Disks that take nothing, and file handles that are spent."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import tempfile
import warnings
from pathlib import Path
from typing import Any

from caches import CACHES
from stages import CONTEXT

from fute_sklearn.exceptions import FuteError


def limited(name: str, limit: str, folder: Path, out: Any) -> None:
    """Write and read a cache under a limit; return how it ended and the warnings."""
    import resource

    cache = CACHES[name]
    expected_in = folder / "sound"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cache.write(expected_in)
        expected = cache.read(expected_in)
    target = folder / "limited"
    if limit == "file sizes":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
    elif limit == "open files":
        free = os.dup(0)  # the lowest free one: a limit at it forbids all further ones
        os.close(free)
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, most))
    elif limit == "a file for the folder":
        target.write_text("no folder")
    else:
        shutil.copytree(expected_in, target)
        for path in [p for p in target.rglob("*") if p.is_file()]:
            path.unlink()
            path.mkdir()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            if limit != "folders for files":
                cache.write(target)
            found = cache.read(target)
            pairs = zip(found, expected, strict=True)
            right = all(a is None or a == b for a, b in pairs)
            ended = "right or missed" if right else "WRONG"
        except (OSError, ValueError, FuteError) as error:
            said = f"{type(error).__name__}: {error}"
            ended = f"refused, {said:.60}" if cache.raises else f"RAISED {said}"
    out.put((ended, len(told)))


def disks(arguments: argparse.Namespace) -> None:
    """Print what happens where a disk takes nothing."""
    limits = ("file sizes", "open files", "folders for files", "a file for the folder")
    for limit in limits:
        for name in CACHES:
            with tempfile.TemporaryDirectory() as root:
                out = CONTEXT.SimpleQueue()
                child = CONTEXT.Process(
                    target=limited, args=(name, limit, Path(root), out)
                )
                child.start()
                child.join(60)
                ended, told = out.get() if not out.empty() else ("DIED", 0)
            print(f"{limit:22s} {name:12s} {ended}, {told} warnings", flush=True)
