"""Seconds and bytes per text of the encoder cache as it grows."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from fute_sklearn._engine import _encoder_cache
from fute_sklearn._engine._encoder_cache import EncoderCache


def growth(arguments: argparse.Namespace) -> None:
    """Print seconds and bytes per text as the encoder's cache grows."""
    draw, width, part = np.random.default_rng(0), 64, 4096
    rows = draw.standard_normal((part, 8, width)).astype(np.float32)
    with tempfile.TemporaryDirectory() as root:
        folder, written, seconds = Path(root) / "encoder", 0, 0.0
        cache = EncoderCache(folder)
        size = min(100_000, arguments.texts)
        while written < arguments.texts:
            keys = [f"{written + i:064x}" for i in range(part)]
            start = time.perf_counter()
            cache.put(dict(zip(keys, rows, strict=True)))
            seconds += time.perf_counter() - start
            written += part
            if written >= size or written >= arguments.texts:
                files = [p for p in folder.iterdir() if p.is_file()]
                n_bytes = sum(p.stat().st_size for p in files)
                _encoder_cache._indexes.clear()  # noqa: SLF001
                start = time.perf_counter()
                cache = EncoderCache(folder)
                opened = time.perf_counter() - start
                start = time.perf_counter()
                for i in draw.integers(written, size=1000):
                    assert cache.get(f"{i:064x}") is not None
                read = time.perf_counter() - start
                print(
                    f"{written:8d} texts: written {1e6 * seconds / written:.0f} us a "
                    f"text, {n_bytes / written:.0f} bytes ({rows[0].nbytes} of states),"
                    f" {len(files)} files, opened in {1e6 * opened / written:.2f} us a "
                    f"text, 1,000 read in {read:.2f} s",
                    flush=True,
                )
                size *= 10
