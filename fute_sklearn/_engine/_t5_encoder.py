"""T5's encoder, over texts that are padded or laid end to end.

Shapes: B texts, S tokens, H heads, D = d_model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import torch
from torch import Tensor
from torch.nn import functional as F

from ._load import Architecture
from ._t5_parts import Ops, additive_mask, feed_forward, position_buckets, split_heads

# Queries, keys and values (..., S, H * d_kv) to the mixture of the values.
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def encode(ops: Ops, arch: Architecture, ids: Tensor, attend: Attend) -> Tensor:
    """Run the encoder: (..., S) token ids to (..., S, D) states.

    ``attend`` lets queries attend to keys and values, each (..., S, H * d_kv); it says
    which tokens belong together.
    """
    x = ops.embed(ids)
    for i in range(arch.n_encoder_layers):
        block = f"encoder.block.{i}.layer"
        name = f"{block}.0.SelfAttention"
        h = ops.norm(f"{block}.0.layer_norm.weight", x)
        q, k, v = (ops.linear(f"{name}.{part}.weight", h) for part in "qkv")
        x = ops.residual(x, ops.linear(f"{name}.o.weight", attend(q, k, v)))
        h = ops.norm(f"{block}.1.layer_norm.weight", x)
        x = ops.residual(x, feed_forward(ops, arch, f"{block}.1.DenseReluDense", h))
    return ops.norm("encoder.final_layer_norm.weight", x)


def _encoder_bias(
    ops: Ops, arch: Architecture, length: int, batch: int, device: torch.device
) -> Tensor:
    """Relative position bias between ``length`` tokens, (..., H, S, S)."""
    place = torch.arange(length, device=device)
    buckets = position_buckets(place[None] - place[:, None], arch, bidirectional=True)
    name = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    return ops.position_bias(name, buckets, batch).movedim(-1, -3)


def padded_attention(ops: Ops, arch: Architecture, mask: Tensor) -> Attend:
    """Attention within texts that are padded to one length, ``mask`` (B, S)."""
    batch, length = mask.shape
    bias = _encoder_bias(ops, arch, length, batch, mask.device)
    bias = bias + additive_mask(mask, bias.dtype)[:, None, None, :]

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (split_heads(x, arch) for x in (q, k, v))
        weights = torch.softmax((q @ k.mT + bias).float(), -1).to(v.dtype)
        return (weights @ v).transpose(-2, -3).flatten(-2)

    return attend


def packed_attention(ops: Ops, arch: Architecture, lengths: Sequence[int]) -> Attend:
    """Attention within texts that are laid end to end, sorted by their lengths.

    Tokens after the last text are padding, whose states mean nothing.
    """
    device = ops.weights["shared.weight"].device
    bias = _encoder_bias(ops, arch, max(lengths), 1, device)
    spans = [(length, len(list(alike))) for length, alike in groupby(lengths)]

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        mixed = torch.zeros_like(q)
        start = 0
        for length, count in spans:
            stop = start + length * count
            shape = (count, length, arch.n_heads, arch.d_kv)
            a, b, c = (x[start:stop].view(shape).transpose(1, 2) for x in (q, k, v))
            # Positions are relative: a short text's bias is a corner of a long one's.
            own = bias[:, :length, :length].expand(count, -1, -1, -1)
            found = F.scaled_dot_product_attention(a, b, c, attn_mask=own, scale=1.0)
            mixed[start:stop].view(shape).copy_(found.transpose(1, 2))
            start = stop
        return mixed

    return attend
