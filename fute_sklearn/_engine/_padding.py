"""Pad token sequences of different lengths to one tensor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def padded(
    rows: Sequence[Sequence[int] | np.ndarray], *, left: bool = False
) -> tuple[Tensor, Tensor]:
    """Pad rows of token ids with 0, on the right or the left.

    Parameters
    ----------
    rows : sequence of sequences of int
        At least one row.
    left : bool, default=False
        Pad on the left, as generation needs it.

    Returns
    -------
    ids : Tensor (n, length) of int64
        The tokens.
    mask : Tensor (n, length) of int64
        1 where there is a token of the row.
    """
    length = max(map(len, rows))
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    for i, row in enumerate(rows):
        place = slice(length - len(row), length) if left else slice(len(row))
        ids[i, place] = torch.as_tensor(np.asarray(row, dtype=np.int64))
        mask[i, place] = 1
    return ids, mask
