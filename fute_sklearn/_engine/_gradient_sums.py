"""Sums of per-example gradients or of their squares, for one task or several."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK_NUMBERS = 2**20  # size of a block that fits in a processor's cache


class GradientSums:
    """Weighted sums over examples of gradients or their squares, by weight name.

    The gradients of tasks that share their texts and label names differ by a factor per
    example only, so that they are computed once.

    Parameters
    ----------
    shapes : dict of tuple of int
        Shapes of the wanted weights.
    n_tasks : int
        K.
    device : torch.device
        Where to sum.
    squared : bool
        Whether gradients are squared before they are summed.

    Attributes
    ----------
    totals : dict of Tensor (K, ...)
        The sums, float32.
    shares : Tensor (K, n)
        Factors of what is summed of the current batch, by task and example.
    """

    def __init__(
        self,
        shapes: dict[str, tuple[int, ...]],
        n_tasks: int,
        device: torch.device,
        *,
        squared: bool,
    ) -> None:
        self.squared = squared
        self.totals = {
            name: torch.zeros((n_tasks, *shape), device=device)
            for name, shape in shapes.items()
        }
        self.shares = torch.ones(n_tasks, 0, device=device)

    def clear(self) -> None:
        """Set the sums to 0."""
        for total in self.totals.values():
            total.zero_()

    def powers(self, values: Tensor) -> Tensor:
        """Return the squares of values where these are summed, else the values."""
        return values.square() if self.squared else values

    def powers_(self, values: Tensor) -> Tensor:
        """Do the same in place."""
        return values.square_() if self.squared else values

    def add(self, name: str, grads: Tensor) -> None:
        """Add gradients (n, ...)."""
        flat = self.totals[name].flatten(1)
        flat.addmm_(self.shares, self.powers(grads).flatten(1))

    def add_outer(self, name: str, inputs: Tensor, grads: Tensor) -> None:
        """Add sum_t g_nt a_nt^T of inputs (n, t, in) and gradients (n, t, out)."""
        if name not in self.totals:
            return
        inputs, grads = inputs.float(), grads.float()
        total = self.totals[name]
        if inputs.shape[1] == 1:  # the square of a product is a product of squares
            inputs, grads = self.powers(inputs[:, 0]), self.powers(grads[:, 0])
            for share, own in zip(self.shares, total, strict=True):
                used = share.nonzero()[:, 0]
                own.addmm_((grads[used] * share[used, None]).T, inputs[used])
            return
        size = max(1, BLOCK_NUMBERS // total[0].numel())
        flat = total.flatten(1)
        room = total.new_empty(min(size, len(inputs)), *total.shape[1:])
        for start in range(0, len(inputs), size):
            part = slice(start, start + size)
            found = room[: len(inputs[part])]
            torch.bmm(grads[part].mT, inputs[part], out=found)
            flat.addmm_(self.shares[:, part], self.powers_(found).flatten(1))

    def add_words(self, name: str, ids: Tensor, grads: Tensor) -> None:
        """Sum gradients (n, t, D) of equal ids (n, t) per example, and add."""
        total = self.totals[name]
        size = total.shape[1]
        rows = torch.arange(len(ids), device=ids.device)[:, None] * size
        keys, inverse = torch.unique((rows + ids).flatten(), return_inverse=True)
        found = grads.new_zeros(len(keys), grads.shape[-1])
        self.powers_(found.index_add_(0, inverse, grads.flatten(0, 1)))
        for share, own in zip(self.shares, total, strict=True):
            weight = share[keys // size]
            own.index_add_(0, keys % size, found * weight[:, None])
