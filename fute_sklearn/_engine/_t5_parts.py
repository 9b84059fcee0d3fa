"""What T5's encoder and decoder are made of, as functions of their weights.

The modules of transformers support neither several tuned tasks over one batch nor
per-example gradients.  Here all weights are applied through an ``ops`` object, so that
the Fisher diagonal is computed by the same code as a forward pass.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ._int8 import integer_product, rounded_rows
from ._load import Architecture

ACTIVATIONS = {
    "relu": torch.relu_,  # in place, as its input is not needed later
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu": F.gelu,
    "silu": F.silu,
}


class _Norm(torch.autograd.Function):
    """Root mean square norm with a frozen weight, with few memory passes."""

    @staticmethod
    def forward(ctx, x, weight, epsilon):  # type: ignore[no-untyped-def]
        wide = x.float()
        length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        factor = length.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, factor)
        return (wide * factor).to(x.dtype).mul_(weight)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        x, weight, factor = ctx.saved_tensors
        wide, scaled = x.float(), (grad * weight).float()
        along = torch.einsum("...d,...d->...", scaled, wide)[..., None]
        along *= factor.pow(3).div_(-x.shape[-1])
        return scaled.mul_(factor).addcmul_(wide, along).to(x.dtype), None, None


class Ops:
    """Operations with weights, which are given by name."""

    def __init__(self, weights: dict[str, Tensor], epsilon: float) -> None:
        self.weights = weights
        self.epsilon = epsilon

    def linear(self, name: str, x: Tensor) -> Tensor:
        """Apply the weight ``name`` to the last axis."""
        return F.linear(x, self.weights[name])

    def scale(self, name: str, x: Tensor) -> Tensor:
        """Multiply by the norm weight ``name``."""
        return x * self.weights[name]

    def embed(self, ids: Tensor) -> Tensor:
        """Look up input word vectors."""
        return F.embedding(ids, self.weights["shared.weight"])

    def residual(self, x: Tensor, added: Tensor) -> Tensor:
        """Add a block's output to its input."""
        return x + added

    def position_bias(self, name: str, buckets: Tensor, batch: int) -> Tensor:
        """Look up relative position biases, (..., H); ``batch`` is for Fisher."""
        return F.embedding(buckets, self.weights[name])

    def norm(self, name: str, x: Tensor) -> Tensor:
        """Root mean square norm, in float32 as T5 has it."""
        square = x.float().pow(2).mean(-1, keepdim=True)
        return self.scale(name, (x * torch.rsqrt(square + self.epsilon)).to(x.dtype))


class FrozenOps(Ops):
    """Operations with weights that need no gradient."""

    def norm(self, name: str, x: Tensor) -> Tensor:
        """Root mean square norm, in float32 as T5 has it."""
        return _Norm.apply(x, self.weights[name], self.epsilon)

    def residual(self, x: Tensor, added: Tensor) -> Tensor:
        """Add a block's output to its input, in place where nothing is recorded."""
        return x.add_(added) if torch.is_inference_mode_enabled() else x + added


class IntegerOps(FrozenOps):
    """Operations whose products are of integers, rounded by output and by input row.

    Sums of integers are exact, so that a row's product depends on no other row.
    """

    def __init__(
        self,
        weights: dict[str, Tensor],
        epsilon: float,
        integers: dict[str, tuple[Tensor, Tensor]],
    ) -> None:
        super().__init__(weights, epsilon)
        self.integers = integers

    def linear(self, name: str, x: Tensor) -> Tensor:
        """Apply the weight ``name`` to the last axis of rows (n, inputs)."""
        weight, unit = self.integers[name]
        rows, units = rounded_rows(x)
        return integer_product(rows, weight).mul_(units).mul_(unit)


def position_buckets(
    relative: Tensor, arch: Architecture, bidirectional: bool
) -> Tensor:
    """Map relative positions (key minus query) to T5's buckets."""
    count = arch.n_buckets
    start = torch.zeros_like(relative)
    if bidirectional:
        count //= 2
        start = (relative > 0).long() * count
        relative = relative.abs()
    else:
        relative = (-relative).clamp(min=0)
    exact = count // 2
    far = exact + (
        torch.log(relative.clamp(min=1).float() / exact)
        / math.log(arch.max_distance / exact)
        * (count - exact)
    ).long().clamp(max=count - exact - 1)
    return start + torch.where(relative < exact, relative, far)


def additive_mask(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn a mask of ones and zeros into 0 and a large negative number."""
    return (1.0 - mask.to(dtype)) * torch.finfo(dtype).min


def feed_forward(
    ops: Ops, arch: Architecture, name: str, x: Tensor, add=None
) -> Tensor:
    """Apply the dense block; ``add`` adds a module's tuned part to its output."""
    act = ACTIVATIONS[arch.activation]
    add = add or (lambda module, inputs, out: out)
    if arch.gated:
        gate = act(add("wi", x, ops.linear(f"{name}.wi_0.weight", x)))
        inner = gate * ops.linear(f"{name}.wi_1.weight", x)
    else:
        inner = act(add("wi", x, ops.linear(f"{name}.wi.weight", x)))
    return add("wo", inner, ops.linear(f"{name}.wo.weight", inner))


def split_heads(x: Tensor, arch: Architecture) -> Tensor:
    """Split (..., T, H * d_kv) into (..., H, T, d_kv)."""
    return x.unflatten(-1, (arch.n_heads, arch.d_kv)).transpose(-2, -3)
