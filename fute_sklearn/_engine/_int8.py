"""Matrix products of the encoder's weights in 8-bit integers."""

from __future__ import annotations

import torch
from torch import Tensor

MOST = 127  # of a signed 8-bit integer, as far as below zero


def rounded_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows as 8-bit integers, and what one unit of each row is worth."""
    unit = (x.abs().amax(-1, keepdim=True) / MOST).clamp_min(1e-30)
    return (x / unit).round_().to(torch.int8), unit


def integer_weights(weights: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the matrices of the encoder's blocks (inputs, outputs), with units."""
    found = {}
    for name, weight in weights.items():
        block = name.startswith("encoder.block.") and "layer_norm" not in name
        if block and "relative_attention_bias" not in name:
            integers, unit = rounded_rows(weight)
            found[name] = integers.t(), unit[:, 0]
    return found
