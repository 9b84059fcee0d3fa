"""Fine-tune copies of the surrogate's weights on one task."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ._encoder import Encoded
from ._halving import halving
from ._likelihood import Objective
from ._load import Surrogate, head_of
from ._t5_decoder import decode, remember
from ._t5_encoder import encode, padded_attention
from ._t5_parts import Ops
from ._tuning import batches, flushed_denormals


def encoder_states(
    ops: Ops, encoded: Encoded, rows: np.ndarray, anew: bool
) -> tuple[Tensor, Tensor]:
    """Encoder states of a batch: cached ones, or computed by ``ops`` if ``anew``."""
    if not anew:
        return encoded.batch(rows)
    ids, mask = encoded.batch_ids(rows)
    arch = encoded.surrogate.architecture
    return encode(ops, arch, ids, padded_attention(ops, arch, mask)), mask


def fine_tune(
    surrogate: Surrogate,
    encoded: Encoded,
    objective: Objective,
    *,
    which: str,
    learning_rate: float,
    max_epochs: int,
    batch_size: int,
    seed: int,
    on_epoch: Callable[[int], None],
) -> dict[str, Tensor]:
    """Return fine-tuned copies of all weights (``"full"``) or the output head.

    The head is tuned as a separate copy even if it is tied to the input embeddings,
    which stay as they are.
    """
    frozen = surrogate.weights
    if which == "full":
        tuned = {k: _master(v) for k, v in frozen.items()}
    else:
        head = head_of(frozen)
        tuned = {"lm_head.weight": _master(head)}
    optimizer = torch.optim.AdamW(tuned.values(), lr=learning_rate, weight_decay=0.01)
    rng = np.random.default_rng([seed, len(encoded)])
    at_once = batch_size

    def accumulate(rows: np.ndarray, size: int) -> float:
        """Accumulate the gradient of a batch in parts; return the loss."""
        nonlocal at_once
        at_once, total = size, 0.0
        optimizer.zero_grad(set_to_none=True)
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            cast = {k: v.to(surrogate.dtype) for k, v in tuned.items()}
            ops = Ops({**frozen, **cast}, surrogate.architecture.epsilon)
            states, mask = encoder_states(ops, encoded, part, which == "full")
            memory = remember(ops, surrogate.architecture, states, mask)
            targets = objective.targets(part)
            hidden = decode(ops, surrogate.architecture, memory, targets)
            loss = -objective.log_likelihood(ops, hidden, part).sum() / len(rows)
            loss.backward()
            total += loss.item()
        return total

    with flushed_denormals():
        for epoch in range(max_epochs):
            for rows in batches(encoded.lengths, batch_size, rng):
                loss = halving(partial(accumulate, rows), at_once)
                if not math.isfinite(loss):
                    raise FloatingPointError(
                        f"the loss is {loss} in epoch {epoch}: fine-tuning "
                        f"diverged. Remedy: learning_rate below {learning_rate}."
                    )
                torch.nn.utils.clip_grad_norm_(tuned.values(), 1.0)
                optimizer.step()
            on_epoch(epoch)
    return {k: v.detach().to(surrogate.dtype) for k, v in tuned.items()}


def _master(weight: Tensor) -> Tensor:
    """Copy to float32, because small updates are rounded away in bfloat16."""
    return weight.float().clone().requires_grad_()
