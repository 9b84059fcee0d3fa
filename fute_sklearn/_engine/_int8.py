"""Matrix products of the encoder's weights in 8-bit integers."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

MOST = 127  # of a signed 8-bit integer, as far as below zero
EXACT = 1024  # products of such integers whose sum float32 holds exactly
PROBED = (512, 256, 256)  # rows, inputs and outputs of the product that is timed
PROBES = 5


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


def integer_product(rows: Tensor, weight: Tensor) -> Tensor:
    """Return the product of two matrices of 8-bit integers, as float32.

    It is the same to the bit on every machine: its sums are exact, by the processor's
    products of integers where these are, and are quicker, else by those of floats.
    """
    return (_quicker() or _by_floats)(rows, weight)


def _by_floats(rows: Tensor, weight: Tensor) -> Tensor:
    parts = zip(rows.split(EXACT, 1), weight.split(EXACT, 0), strict=True)
    found = [one.float() @ other.float() for one, other in parts]
    if len(found) == 1:
        return found[0]
    return sum(part.to(torch.int32) for part in found).float()  # type: ignore[union-attr]


def _by_integers(rows: Tensor, weight: Tensor) -> Tensor:
    # The only product of integers that torch has; torchao rests on it, too.
    return torch._int_mm(rows, weight).float()  # noqa: SLF001


@cache
def _quicker() -> Callable[[Tensor, Tensor], Tensor] | None:
    """Return `_by_integers` if it is right and quick on this machine.

    Processors without products of four pairs add pairs of products in 16 bits, where
    large ones overflow; without oneDNN, torch's product is a plain loop.
    """
    n_rows, n_inputs, n_outputs = PROBED
    rows = torch.full((n_rows, n_inputs), MOST, dtype=torch.int8)
    weight = torch.full((n_outputs, n_inputs), MOST, dtype=torch.int8).t()
    try:
        if not torch.equal(_by_integers(rows, weight), _by_floats(rows, weight)):
            return None
        ways = (_by_integers, _by_floats)
        spent = [
            min(_seconds(way, rows, weight) for _ in range(PROBES)) for way in ways
        ]
    except (AttributeError, RuntimeError):  # of other releases of torch
        return None
    return _by_integers if spent[0] < spent[1] else None


def _seconds(way: Callable[..., Tensor], rows: Tensor, weight: Tensor) -> float:
    start = time.perf_counter()
    way(rows, weight)
    return time.perf_counter() - start
