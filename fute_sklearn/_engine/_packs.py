"""Run the encoder over texts laid end to end, without padding between them.

All matrix products have one fixed number of rows, so that a text's states do not depend
on the texts beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from ._halving import halving
from ._load import Surrogate
from ._packed_weights import PackedOps, can_pack
from ._t5_encoder import encode, packed_attention
from ._t5_parts import FrozenOps, IntegerOps

# Rows of a matrix product: enough that it runs at its full rate, few enough that a
# single short text does not wait for many empty rows.
PACK_TOKENS, PACK_TOKENS_CUDA = 1024, 16384


def pack_tokens(surrogate: Surrogate) -> int:
    """Tokens that the encoder reads at once."""
    return PACK_TOKENS_CUDA if surrogate.device.type == "cuda" else PACK_TOKENS


def packs(rows: dict[str, np.ndarray], room: int) -> Iterator[list[str]]:
    """Yield names of rows that fit into one pack together, short ones first.

    A row that is longer than ``room`` is a pack of its own.
    """
    pack: list[str] = []
    left = room
    for name in sorted(rows, key=lambda name: (len(rows[name]), name)):
        if pack and len(rows[name]) > left:
            yield pack
            pack, left = [], room
        pack.append(name)
        left -= len(rows[name])
    if pack:
        yield pack


def encode_rows(
    surrogate: Surrogate,
    rows: dict[str, np.ndarray],
    kept: Callable[[np.ndarray], np.ndarray],
    on_done: Callable[[int], None],
) -> dict[str, np.ndarray]:
    """Return what ``kept`` makes of each row's states, (n_tokens, d_model)."""
    out: dict[str, np.ndarray] = {}

    def run(room: int) -> None:
        left = {name: row for name, row in rows.items() if name not in out}
        for names in packs(left, room):
            states = _encode_pack(surrogate, [rows[name] for name in names], room)
            out.update(zip(names, map(kept, states), strict=True))
            on_done(len(names))

    halving(run, pack_tokens(surrogate))
    return out


def _encode_pack(
    surrogate: Surrogate, rows: Sequence[np.ndarray], room: int
) -> list[np.ndarray]:
    """Return views of the states of rows, which are sorted by length."""
    lengths = [len(row) for row in rows]
    ends = np.cumsum(lengths)
    ids = np.zeros(max(room, ends[-1]), np.int64)
    ids[: ends[-1]] = np.concatenate(rows)
    ops = FrozenOps(surrogate.weights, surrogate.architecture.epsilon)
    if surrogate.integers:
        ops = IntegerOps(ops.weights, ops.epsilon, surrogate.integers)
    elif can_pack(surrogate.weights):
        ops = PackedOps(ops.weights, ops.epsilon, surrogate.packed)
    with torch.inference_mode():
        attend = packed_attention(ops, surrogate.architecture, lengths)
        tokens = torch.from_numpy(ids).to(surrogate.device)
        states = encode(ops, surrogate.architecture, tokens, attend).cpu()
    if states.dtype == torch.bfloat16:
        states = states.view(torch.int16)
    return np.split(states.numpy()[: ends[-1]], ends[:-1])
