"""The exact empirical Fisher diagonal of TaskEmb, without a loop over examples.

F = 1/n sum_i (d log P(y_i | x_i) / d theta)^2 (Wang et al. 2024, Eq. 3): one gradient
per example, squared, then averaged, so that the result does not depend on the batch
size.  Every use of a weight records, during the one backward pass of a batch, the
squares of its per-example gradients: for a linear layer the gradient of an example
is a sum of outer products over its positions; with one position the squares are a
product of squares.  Word vectors are used in several places (source, target, head
when tied), so their parts are summed per example before they are squared.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ._encoder import Encoded, halving
from ._fine_tune import encoder_states
from ._likelihood import LabelObjective, Objective, TextObjective
from ._load import Surrogate
from ._t5 import Ops, decode, remember
from ._tuning import batches, flushed_denormals

BLOCK_NUMBERS = 2**22
FISHER_ROWS = 32


def _add_squares(total: Tensor, inputs: Tensor, grads: Tensor) -> None:
    """Add sum_n (sum_t g_nt a_nt^T)^2 to ``total`` (out, in)."""
    inputs, grads = inputs.float(), grads.float()
    if inputs.shape[1] == 1:
        total.addmm_(grads[:, 0].square().T, inputs[:, 0].square())
        return
    size = max(1, BLOCK_NUMBERS // total.numel())
    for start in range(0, len(inputs), size):
        part = slice(start, start + size)
        total += torch.bmm(grads[part].mT, inputs[part]).square_().sum(0)


class _SquaredLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, total):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x, weight)
        ctx.total = total
        return F.linear(x, weight)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        x, weight = ctx.saved_tensors
        if ctx.total is not None:
            _add_squares(ctx.total, x.flatten(0, -3), grad.flatten(0, -3))
        return grad @ weight, None, None


class _SquaredScale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, total):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x, weight)
        ctx.total = total
        return x * weight

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        x, weight = ctx.saved_tensors
        if ctx.total is not None:
            per_example = (grad.float() * x.float()).flatten(0, -3).sum(-2)
            ctx.total += per_example.square().sum(0)
        return grad * weight, None, None


class FisherOps(Ops):
    """Uses of the weights that record squared per-example gradients.

    ``totals`` maps the names of the wanted weights to sums of squares.
    """

    def __init__(
        self, weights: dict[str, Tensor], epsilon: float, totals: dict[str, Tensor]
    ) -> None:
        super().__init__(weights, epsilon)
        self.totals = totals
        self.embedded: list[tuple[Tensor, Tensor]] = []
        self.biases: list[tuple[str, Tensor, Tensor]] = []

    def linear(self, name: str, x: Tensor) -> Tensor:
        return _SquaredLinear.apply(x, self.weights[name], self.totals.get(name))

    def scale(self, name: str, x: Tensor) -> Tensor:
        return _SquaredScale.apply(x, self.weights[name], self.totals.get(name))

    def embed(self, ids: Tensor) -> Tensor:
        found = super().embed(ids).detach().requires_grad_()
        self.embedded.append((ids, found))
        return found

    def position_bias(self, name: str, buckets: Tensor, batch: int) -> Tensor:
        # One leaf per example: its gradient then is that example's own.
        found = super().position_bias(name, buckets, batch).detach()
        if found.ndim == 3:
            found = found[None]
        found = found.flatten(0, -4)
        leaf = found.expand(batch, *found.shape[1:]).clone().requires_grad_()
        self.biases.append((name, buckets.reshape(-1, *buckets.shape[-2:])[0], leaf))
        return leaf

    def add_bias_squares(self) -> None:
        """Add what the position biases of a finished batch have gathered."""
        for name, buckets, leaf in self.biases:
            if name in self.totals and leaf.grad is not None:
                count, heads = self.totals[name].shape
                flat = leaf.grad.float().flatten(1, 2)
                summed = flat.new_zeros(len(flat), count, heads)
                summed.index_add_(1, buckets.flatten(), flat)
                self.totals[name] += summed.square().sum(0)

    def input_vectors(self) -> list[tuple[Tensor, Tensor]]:
        """Ids (B, n) and gradients (B, n, D) of the word vectors that were read."""
        return [
            (ids.flatten(0, -2), leaf.grad.float().flatten(0, -3))
            for ids, leaf in self.embedded
            if leaf.grad is not None
        ]


def _sparse_squares(total: Tensor, ids: Tensor, grads: Tensor) -> None:
    """Sum gradients (B, n, D) of equal ids per example, square, add to (V, D)."""
    batch, count = ids.shape
    rows = torch.arange(batch, device=ids.device)[:, None] * len(total)
    keys, inverse = torch.unique((rows + ids).flatten(), return_inverse=True)
    summed = grads.new_zeros(len(keys), grads.shape[-1])
    summed.index_add_(0, inverse, grads.flatten(0, 1))
    total.index_add_(0, keys % len(total), summed.square_())


def _dense_squares(
    total: Tensor,
    scores_grad: Tensor,
    hidden: Tensor,
    inputs: list[tuple[Tensor, Tensor]],
) -> None:
    """Squares for a head over the whole vocabulary, plus inputs where tied."""
    for i in range(len(hidden)):
        own = scores_grad[i].float().T @ hidden[i].float()
        for ids, grads in inputs:
            own.index_add_(0, ids[i], grads[i])
        total += own.square_()


def wanted_weights(weights: dict[str, Tensor], params: str) -> list[str]:
    """Names whose Fisher is taken, sorted: all, or the decoder's own."""
    names = sorted(weights)
    if params == "decoder":
        names = [n for n in names if n.startswith("decoder.")]
    return names


def fisher_diagonal(
    surrogate: Surrogate,
    encoded: Encoded,
    objective: Objective,
    *,
    params: str,
    weights: dict[str, Tensor] | None = None,
    batch_size: int = FISHER_ROWS,
) -> dict[str, np.ndarray]:
    """Return the Fisher diagonal by weight name.

    Parameters
    ----------
    surrogate : Surrogate
        Frozen.
    encoded : Encoded
        The task's texts.
    objective : LabelObjective or TextObjective
        The task's targets, of one task.
    params : {"decoder", "all"}
        Which weights; ``"decoder"`` uses the cached encoder outputs.
    weights : dict of Tensor, optional
        Fine-tuned weights that replace the surrogate's own.
    batch_size : int
        Rows per backward pass; changes speed and memory only.

    Returns
    -------
    fisher : dict of ndarray
        Mean squares, float64, shaped like the weights.
    """
    own = {**surrogate.weights, **(weights or {})}
    anew = params == "all" or any(k.startswith("encoder.") for k in weights or {})
    totals = {
        name: torch.zeros(own[name].shape, dtype=torch.float32, device=surrogate.device)
        for name in wanted_weights(own, params)
    }
    sums = {name: np.zeros(tuple(t.shape)) for name, t in totals.items()}
    done = np.zeros(len(encoded), dtype=bool)

    def run(size: int) -> None:
        for rows in batches(encoded.lengths, size):
            if done[rows].all():
                continue
            rows = rows[~done[rows]]
            for total in totals.values():
                total.zero_()
            _one_batch(surrogate, encoded, objective, own, totals, rows, anew)
            for name, total in totals.items():
                sums[name] += total.double().cpu().numpy()
            done[rows] = True

    with flushed_denormals():
        halving(run, batch_size)
    return {name: total / len(encoded) for name, total in sums.items()}


def _one_batch(
    surrogate: Surrogate,
    encoded: Encoded,
    objective: Objective,
    own: dict[str, Tensor],
    totals: dict[str, Tensor],
    rows: np.ndarray,
    anew: bool,
) -> None:
    arch = surrogate.architecture
    ops = FisherOps(own, arch.epsilon, totals)
    targets = objective.targets(rows)
    # Every example needs decoder inputs of its own for a gradient of its own.
    targets = targets._replace(
        tokens=targets.tokens.expand(-1, len(rows), -1).contiguous()
    )
    states, mask = encoder_states(ops, encoded, rows, anew)
    if not anew:  # the cross-attention's keys and values need a gradient to record
        states.requires_grad_()
    memory = remember(ops, arch, states, mask)
    hidden = decode(ops, arch, memory, targets)
    hidden_leaf = hidden.detach().requires_grad_()
    if isinstance(objective, LabelObjective):
        vectors = F.embedding(
            objective.children.clamp(min=0),
            own.get("lm_head.weight", own["shared.weight"]),
        )
        logits = objective.logits(hidden_leaf, vectors)
        leaf = logits.detach().requires_grad_()
        chosen = objective.proba[:, torch.from_numpy(rows).to(leaf.device)]  # type: ignore[index]
        (chosen * objective.log_proba_of_logits(leaf)).sum().backward()
    else:
        head = own.get("lm_head.weight", own["shared.weight"])
        logits = F.linear(hidden_leaf, head)
        leaf = logits.detach().requires_grad_()
        objective.of_logits(leaf, rows).sum().backward()
    logits.backward(leaf.grad)
    hidden.backward(hidden_leaf.grad)
    head_name = "lm_head.weight" if "lm_head.weight" in own else "shared.weight"
    ops.add_bias_squares()
    inputs = ops.input_vectors()
    _word_squares(objective, totals, head_name, inputs, leaf, hidden_leaf)


def _word_squares(
    objective: Objective,
    totals: dict[str, Tensor],
    head_name: str,
    inputs: list[tuple[Tensor, Tensor]],
    scores: Tensor,
    hidden: Tensor,
) -> None:
    tied = head_name == "shared.weight"
    grads, states = scores.grad[0], hidden.detach()[0]  # type: ignore[index]
    if isinstance(objective, TextObjective):
        if head_name in totals:
            _dense_squares(totals[head_name], grads, states, inputs if tied else [])
    else:
        ids = objective.children[0].clamp(min=0).flatten()
        ids = ids.expand(len(states), -1)
        outer = torch.einsum("btw,btd->btwd", grads.float(), states.float())
        output = (ids, outer.flatten(1, 2))
        if tied:
            inputs = [*inputs, output]
        elif head_name in totals:
            _sparse_squares(totals[head_name], *output)
    alone = not (tied and isinstance(objective, TextObjective))
    if "shared.weight" in totals and alone and inputs:
        _sparse_squares(
            totals["shared.weight"],
            torch.cat([ids for ids, _ in inputs], 1),
            torch.cat([g for _, g in inputs], 1),
        )
