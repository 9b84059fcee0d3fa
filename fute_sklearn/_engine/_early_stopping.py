"""Early stopping of tasks that are tuned together, separately for each task."""

from __future__ import annotations

import torch
from torch import Tensor


class BestSoFar:
    """Each task's best parameters so far, and epochs since the last improvement."""

    def __init__(self, stacked: dict[str, Tensor], patience: int) -> None:
        self.parameters = {k: v.detach().clone() for k, v in stacked.items()}
        count, device = (
            len(next(iter(stacked.values()))),
            next(iter(stacked.values())).device,
        )
        self.loss = torch.full((count,), torch.inf, device=device)
        self.waited = torch.zeros(count, dtype=torch.long, device=device)
        self.epochs = torch.zeros(count, dtype=torch.long, device=device)
        self.patience = patience

    def update(self, loss: Tensor, stacked: dict[str, Tensor]) -> bool:
        """Record an epoch's validation losses; return whether all tasks stopped."""
        running = self.waited < self.patience
        better = running & (loss < self.loss)
        self.loss = torch.where(better, loss, self.loss)
        for key, value in stacked.items():
            shape = (-1, *[1] * (value.ndim - 1))
            self.parameters[key] = torch.where(
                better.view(shape), value.detach(), self.parameters[key]
            )
        self.epochs += running.long()
        self.waited = torch.where(better, 0, self.waited + 1)
        return not bool((self.waited < self.patience).any())
