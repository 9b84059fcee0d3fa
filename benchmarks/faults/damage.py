"""Random damage in the files of every cache."""

from __future__ import annotations

import argparse
import shutil
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from caches import CACHES, Cache

from fute_sklearn.exceptions import FuteError


def damaged(body: bytes, draw: np.random.Generator) -> bytes:
    """Return bytes with a random fault."""
    kind, out = draw.integers(5), bytearray(body)
    place = int(draw.integers(len(body)))
    if kind == 0:
        return bytes(out[:place])
    if kind == 1:
        out[place : place + 64] = bytes(len(out[place : place + 64]))
    elif kind == 2:
        out[place:place] = out[place : place + 16]
    else:
        for at in [place, *draw.integers(len(body), size=3 * int(kind == 3))]:
            out[int(at)] ^= 1 << int(draw.integers(8))
    return bytes(out)


def outcome(cache: Cache, folder: Path, expected: list[Any]) -> str:
    """Read a damaged folder; return how it ended."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = cache.read(folder)
        except (ValueError, FuteError) as error:
            if cache.raises:
                return "missed"
            print(f"  {type(error).__name__}: {error}")
            return "raised"
        except Exception as error:
            print(f"  {type(error).__name__}: {error}")
            return "raised"
    if found == expected:
        return "right"
    pairs = zip(found, expected, strict=True)
    return "missed" if all(a is None or a == b for a, b in pairs) else "wrong"


def damage(arguments: argparse.Namespace) -> None:
    """Print how damaged files are read."""
    print(f"{'':12s} {'tried':>6s} {'right':>6s} {'missed':>6s} {'wrong':>6s} raised")
    total: Counter[str] = Counter()
    for name, cache in CACHES.items():
        draw, ended = np.random.default_rng(0), Counter[str]()
        with tempfile.TemporaryDirectory() as root:
            sound, tried = Path(root) / "sound", Path(root) / "tried"
            cache.write(sound)
            expected = cache.read(sound)
            files = [
                path.relative_to(sound)
                for path in sorted(sound.rglob("*"))
                if path.is_file() and path.stat().st_size and path.suffix != ".lock"
            ]
            for n in range(-(-arguments.damages // len(CACHES))):
                shutil.copytree(sound, tried)
                path = tried / files[n % len(files)]
                path.write_bytes(damaged(path.read_bytes(), draw))
                ended[outcome(cache, tried, expected)] += 1
                shutil.rmtree(tried)
        total += ended
        show(name, ended)
    show("together", total)


def show(name: str, ended: Counter[str]) -> None:
    """Print the counts of one kind."""
    counts = (sum(ended.values()), *(ended[k] for k in ("right", "missed", "wrong")))
    print(
        f"{name:12s} {' '.join(f'{n:6d}' for n in counts)} {ended['raised']:6d}",
        flush=True,
    )
