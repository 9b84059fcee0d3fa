"""Go on with smaller batches when memory is short."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar

import torch

Found = TypeVar("Found")


def halving(run: Callable[[int], Found], size: int) -> Found:
    """Call ``run(size)``; after an out-of-memory error, repeat with half the size."""
    warned = False
    while True:
        try:
            return run(size)
        except torch.OutOfMemoryError as error:
            if size == 1:
                raise torch.OutOfMemoryError(
                    "not enough memory for a batch of one. Remedy: a smaller "
                    'max_length, dtype="bfloat16", a smaller surrogate, or '
                    f'device="cpu". Cause: {error}'
                ) from error
            size = size // 2
            if not warned:
                warnings.warn(
                    f"out of memory; going on in batches of {size}", stacklevel=2
                )
                warned = True
