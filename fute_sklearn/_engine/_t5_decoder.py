"""T5's decoder, for several tasks over one batch of cached encoder outputs.

Shapes: K tasks, B texts, S source tokens, T target positions, H heads, P prefix
positions, D = d_model.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ._load import Architecture
from ._t5_parts import Ops, additive_mask, feed_forward, position_buckets, split_heads


class Tuned(NamedTuple):
    """Tuned parameters of K tasks for one decoder layer; absent kinds are None.

    ``prefix`` holds self keys, self values, cross keys and cross values, each
    (K, H, P, d_kv); ``bias`` maps module names to (K, width); ``low_rank`` maps module
    names to the pair A (K, r, in), B (K, out, r).
    """

    prefix: tuple[Tensor, ...] | None = None
    bias: dict[str, Tensor] | None = None
    low_rank: dict[str, tuple[Tensor, Tensor]] | None = None


class Memory(NamedTuple):
    """Encoder outputs of a batch, and cross-attention keys and values of all tasks."""

    states: Tensor  # (B, S, D)
    mask: Tensor  # (B, S), additive
    keys: list[Tensor]  # per layer (B, H, S, d_kv); empty if not precomputed
    values: list[Tensor]


class Targets(NamedTuple):
    """Decoder positions of K tasks as trees (chains for plain text targets)."""

    tokens: Tensor  # (K, 1 or B, T)
    depth: Tensor  # (K, T)
    visible: Tensor  # (K, T, T), True where a position is an ancestor or itself


def remember(
    ops: Ops, arch: Architecture, states: Tensor, mask: Tensor, n_queries: int = 0
) -> Memory:
    """Compute the cross-attention keys and values that all tasks share.

    With few queries per text (``n_queries`` = K * T, 0 for unknown) it is cheaper to
    multiply the queries by the key weights, (qW)s in place of q(Ws), and likewise for
    values; then none are computed here.
    """
    batch, length, _ = states.shape
    sides: dict[str, list[Tensor]] = {"k": [], "v": []}
    inner = arch.n_heads * arch.d_kv
    absorbed = 3 * n_queries * (inner + arch.n_heads * length) < length * inner
    # In half precision both ways round differently, so that a task's result would
    # depend on the number of tasks.
    if not n_queries or not absorbed or states.dtype != torch.float32:
        shape = (batch, length, arch.n_heads, arch.d_kv)
        for i in range(arch.n_decoder_layers):
            for part, found in sides.items():
                name = f"decoder.block.{i}.layer.1.EncDecAttention.{part}.weight"
                found.append(ops.linear(name, states).view(shape).transpose(1, 2))
    return Memory(states, additive_mask(mask, states.dtype), sides["k"], sides["v"])


def decode(
    ops: Ops,
    arch: Architecture,
    memory: Memory,
    targets: Targets,
    tuned: list[Tuned] | None = None,
) -> Tensor:
    """Run the decoder for K tasks over one batch; returns (K, B, T, D)."""
    tuned = tuned or [Tuned()] * arch.n_decoder_layers
    x = ops.embed(targets.tokens)
    prefix_length = 0 if tuned[0].prefix is None else tuned[0].prefix[0].shape[2]
    bias = _self_bias(ops, arch, targets, prefix_length, x)
    for i, part in enumerate(tuned):
        block = f"decoder.block.{i}.layer"

        def add(module: str, inputs: Tensor, out: Tensor, part: Tuned = part) -> Tensor:
            return _add_tuned(part, module, inputs, out)

        h = ops.norm(f"{block}.0.layer_norm.weight", x)
        x = x + _self_attention(
            ops, arch, f"{block}.0.SelfAttention", h, bias, part, add
        )
        h = ops.norm(f"{block}.1.layer_norm.weight", x)
        name = f"{block}.1.EncDecAttention"
        x = x + _cross_attention(ops, arch, name, h, memory, i, part, add)
        h = ops.norm(f"{block}.2.layer_norm.weight", x)
        x = x + feed_forward(ops, arch, f"{block}.2.DenseReluDense", h, add)
    x = ops.norm("decoder.final_layer_norm.weight", x)
    return x * arch.d_model**-0.5 if arch.scaled_output else x


def _add_tuned(part: Tuned, module: str, inputs: Tensor, out: Tensor) -> Tensor:
    """Add biases and low-rank products of K tasks to a frozen module's output."""
    if part.bias is not None and module in part.bias:
        out = out + part.bias[module][:, None, None, :]
    if part.low_rank is not None and module in part.low_rank:
        down, up = part.low_rank[module]
        size = inputs.shape[1:3]
        out = out + (inputs.flatten(1, 2) @ down.mT @ up.mT).unflatten(1, size)
    return out


def _self_bias(
    ops: Ops, arch: Architecture, targets: Targets, prefix_length: int, x: Tensor
) -> Tensor:
    """Position bias and tree mask over prefix and target positions, (K, B, H, T, P+T).

    Prefix keys stand at the positions just before the first target, as cached keys
    do in stock transformers.
    """
    depth = targets.depth
    ahead = torch.arange(-prefix_length, 0, device=depth.device).expand(len(depth), -1)
    keys = torch.cat([ahead, depth], 1)
    relative = keys[:, None, :] - depth[:, :, None]
    buckets = position_buckets(relative, arch, bidirectional=False)
    name = "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    bias = ops.position_bias(name, buckets[:, None], x.shape[1]).movedim(-1, -3)
    seen = torch.ones(
        (*depth.shape, prefix_length), dtype=torch.bool, device=depth.device
    )
    visible = torch.cat([seen, targets.visible], 2)
    return bias + additive_mask(visible, x.dtype)[:, None, None]


def _self_attention(ops, arch, name, h, bias, part: Tuned, add) -> Tensor:
    v = split_heads(ops.linear(f"{name}.v.weight", h), arch)
    if part.prefix is None and v.shape[3] == 1:
        mixed = v  # with one position, the attention weight is 1
    else:
        q = split_heads(ops.linear(f"{name}.q.weight", h), arch)
        k = split_heads(ops.linear(f"{name}.k.weight", h), arch)
        mixed = _attend(q, k, v, bias, part.prefix)
    mixed = mixed.transpose(2, 3).flatten(3)
    return add("self_o", mixed, ops.linear(f"{name}.o.weight", mixed))


def _attend(q, k, v, bias, prefix: tuple[Tensor, ...] | None) -> Tensor:
    """Attend to target and prefix positions; all (K, B, H, T, d_kv)."""
    if prefix is None:
        return torch.softmax((q @ k.mT + bias).float(), -1).to(v.dtype) @ v
    # With one position, elementwise products are faster than batched matmuls.
    alone = v.shape[3] == 1
    scores = (q * k).sum(-1, keepdim=True) if alone else q @ k.mT
    scores = torch.cat([_by_task(q, prefix[0].mT), scores], -1)
    weights = torch.softmax((scores + bias).float(), -1).to(v.dtype)
    ahead, own = weights.split([prefix[0].shape[2], v.shape[3]], -1)
    return (own * v if alone else own @ v) + _by_task(ahead, prefix[1])


def _cross_attention(
    ops, arch, name, h, memory: Memory, layer: int, part: Tuned, add
) -> Tensor:
    """Attend to the encoder outputs; tasks' keys and values are not materialised.

    With k' = (W + BA) s the score is q.Ws + (B'q).(As), so each task adds only r
    numbers per source token.
    """
    q = split_heads(add("cross_q", h, ops.linear(f"{name}.q.weight", h)), arch)
    # In the first layer, queries are the same for all texts up to here.
    q = q.expand(-1, memory.states.shape[0], -1, -1, -1)
    scores = _frozen_scores(ops, arch, f"{name}.k.weight", q, memory, layer)
    low_rank = part.low_rank or {}
    if "cross_k" in low_rank:
        down, up = low_rank["cross_k"]
        laid = _by_task(q, up.unflatten(1, (arch.n_heads, arch.d_kv)))
        added = laid.flatten(2, 3) @ _inner(memory.states, down).mT
        scores = scores + added.unflatten(2, q.shape[2:4])
    scores = scores + memory.mask[None, :, None, None, :]
    source = scores.shape[-1]
    if part.prefix is not None:
        scores = torch.cat([scores, _by_task(q, part.prefix[2].mT)], -1)
    weights = torch.softmax(scores.float(), -1).to(h.dtype)
    over_text = weights[..., :source]
    mixed = _frozen_mixture(ops, arch, f"{name}.v.weight", over_text, memory, layer)
    if "cross_v" in low_rank:
        down, up = low_rank["cross_v"]
        over = over_text.flatten(2, 3) @ _inner(memory.states, down)
        up = up.unflatten(1, (arch.n_heads, arch.d_kv))
        mixed = mixed + _by_task(over.unflatten(2, q.shape[2:4]), up.mT)
    if part.prefix is not None:
        mixed = mixed + _by_task(weights[..., source:], part.prefix[3])
    mixed = mixed.transpose(2, 3).flatten(3)
    return add("cross_o", mixed, ops.linear(f"{name}.o.weight", mixed))


def _frozen_scores(ops, arch, name, q: Tensor, memory: Memory, layer: int) -> Tensor:
    """Multiply queries (K, B, H, T, d_kv) by the frozen keys, (K, B, H, T, S)."""
    n_tasks, _, heads, length, _ = q.shape
    if memory.keys:
        # (B, H, K * T, d_kv) meets the shared keys in one product per text and head.
        folded = q.permute(1, 2, 0, 3, 4).flatten(2, 3)
        scores = folded @ memory.keys[layer].mT
        return scores.unflatten(2, (n_tasks, length)).permute(2, 0, 1, 3, 4)
    weight = ops.weights[name].view(heads, arch.d_kv, -1)
    laid = torch.einsum("kbhtd,hdm->bhktm", q, weight).flatten(1, 3)
    scores = laid @ memory.states.mT
    return scores.unflatten(1, (heads, n_tasks, length)).permute(2, 0, 1, 3, 4)


def _frozen_mixture(
    ops, arch, name, over: Tensor, memory: Memory, layer: int
) -> Tensor:
    """Mix the frozen values by weights (K, B, H, T, S), (K, B, H, T, d_kv)."""
    n_tasks, _, heads, length, _ = over.shape
    if memory.values:
        folded = over.permute(1, 2, 0, 3, 4).flatten(2, 3)
        mixed = (folded @ memory.values[layer]).unflatten(2, (n_tasks, length))
        return mixed.permute(2, 0, 1, 3, 4)
    mixed = over.permute(1, 2, 0, 3, 4).flatten(1, 3) @ memory.states
    mixed = mixed.unflatten(1, (heads, n_tasks, length))
    weight = ops.weights[name].view(heads, arch.d_kv, -1)
    return torch.einsum("bhktm,hdm->kbhtd", mixed, weight)


def _by_task(x: Tensor, own: Tensor) -> Tensor:
    """Multiply (K, B, H, T, n) by a task's own (K, H, n, m), without copies of it."""
    batch, length = x.shape[1], x.shape[3]
    found = x.transpose(1, 2).flatten(2, 3) @ own
    return found.unflatten(2, (batch, length)).transpose(1, 2)


def _inner(states: Tensor, down: Tensor) -> Tensor:
    """Apply K tasks' A (K, r, D) to the shared states (B, S, D), (K, B, S, r)."""
    found = states @ down.flatten(0, 1).mT
    return found.unflatten(2, down.shape[:2]).permute(2, 0, 1, 3)
