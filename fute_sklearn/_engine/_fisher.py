"""The exact empirical Fisher diagonal of TaskEmb, without a loop over examples.

F = 1/n sum_i (d log P(y_i | x_i) / d theta)^2 (Wang et al. 2024, Eq. 3): one gradient
per example, squared, then averaged, so that the result does not depend on the batch
size.  Every use of a weight records, during the one backward pass of a batch, the
squares of its per-example gradients: for a linear layer the gradient of an example
is a sum of outer products over its positions; with one position the squares are a
product of squares.  Word vectors are used in several places (source, target, head
when tied), so their parts are summed per example before they are squared.  Tasks over
the same texts and label names share one backward pass; see `_directions`.  Without the
squares the same sums give mean gradients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fute_sklearn._utils._config import get_config

from ._encoder import Encoded
from ._fine_tune import encoder_states
from ._gradient_sums import GradientSums
from ._halving import halving
from ._likelihood import LabelObjective, Objective, TextObjective
from ._load import Surrogate
from ._t5_decoder import decode, remember
from ._t5_parts import Ops
from ._tuning import batches, flushed_denormals

FISHER_ROWS = 32
KEEP_BATCHES = 16  # batches that are repeated at most after running out of memory
BYTES_PER_NUMBER = 12  # a float32 sum of some batches and a float64 sum of all


class _SummedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, sums, name):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x, weight)
        ctx.sums, ctx.name = sums, name
        return F.linear(x, weight)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        x, weight = ctx.saved_tensors
        ctx.sums.add_outer(ctx.name, x.flatten(0, -3), grad.flatten(0, -3))
        return grad @ weight, None, None, None


class _SummedScale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, sums, name):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x, weight)
        ctx.sums, ctx.name = sums, name
        return x * weight

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        x, weight = ctx.saved_tensors
        if ctx.name in ctx.sums.totals:
            per_example = (grad.float() * x.float()).flatten(0, -3).sum(-2)
            ctx.sums.add(ctx.name, per_example)
        return grad * weight, None, None, None


class FisherOps(Ops):
    """Operations on the weights that sum per-example gradients."""

    def __init__(
        self, weights: dict[str, Tensor], epsilon: float, sums: GradientSums
    ) -> None:
        super().__init__(weights, epsilon)
        self.sums = sums
        self.embedded: list[tuple[Tensor, Tensor]] = []
        self.biases: list[tuple[str, Tensor, Tensor]] = []

    def linear(self, name: str, x: Tensor) -> Tensor:
        return _SummedLinear.apply(x, self.weights[name], self.sums, name)

    def scale(self, name: str, x: Tensor) -> Tensor:
        return _SummedScale.apply(x, self.weights[name], self.sums, name)

    def embed(self, ids: Tensor) -> Tensor:
        found = super().embed(ids).detach().requires_grad_()
        self.embedded.append((ids, found))
        return found

    def position_bias(self, name: str, buckets: Tensor, batch: int) -> Tensor:
        # One leaf tensor per example, so that gradients are per example.
        found = super().position_bias(name, buckets, batch).detach()
        if found.ndim == 3:
            found = found[None]
        found = found.flatten(0, -4)
        leaf = found.expand(batch, *found.shape[1:]).clone().requires_grad_()
        self.biases.append((name, buckets.reshape(-1, *buckets.shape[-2:])[0], leaf))
        return leaf

    def add_bias_gradients(self) -> None:
        """Add the per-example gradients of the position biases of a batch."""
        for name, buckets, leaf in self.biases:
            if name in self.sums.totals and leaf.grad is not None:
                flat = leaf.grad.float().flatten(1, 2)
                summed = flat.new_zeros(len(flat), *self.weights[name].shape)
                summed.index_add_(1, buckets.flatten(), flat)
                self.sums.add(name, summed)

    def input_vectors(self) -> list[tuple[Tensor, Tensor]]:
        """Ids (B, n) and gradients (B, n, D) of the input word embeddings."""
        return [
            (ids.flatten(0, -2), leaf.grad.float().flatten(0, -3))
            for ids, leaf in self.embedded
            if leaf.grad is not None
        ]


def wanted_weights(weights: dict[str, Tensor], params: str) -> list[str]:
    """Sorted names of the weights whose Fisher information is computed."""
    names = sorted(weights)
    if params == "decoder":
        names = [n for n in names if n.startswith("decoder.")]
    return names


def fisher_diagonals(
    surrogate: Surrogate,
    encoded: Encoded,
    objective: Objective,
    proba: Sequence[np.ndarray] = (),
    *,
    params: str,
    weights: dict[str, Tensor] | None = None,
    batch_size: int = FISHER_ROWS,
    squared: bool = True,
) -> list[dict[str, np.ndarray]]:
    """Return the Fisher diagonals, or mean gradients, by weight name, one per task.

    Parameters
    ----------
    surrogate : Surrogate
        Frozen.
    encoded : Encoded
        The texts that all tasks share.
    objective : LabelObjective or TextObjective
        One tree of label names, or one task's target texts.
    proba : sequence of ndarray (n, C)
        Target distributions of every task over the label names.
    params : {"decoder", "all"}
        Which weights; ``"decoder"`` uses the cached encoder outputs.
    weights : dict of Tensor, optional
        Fine-tuned weights that replace the surrogate's own.
    batch_size : int
        Rows per backward pass; changes speed and memory only.
    squared : bool
        Whether the gradients of the log-likelihood are squared before the mean is
        taken.

    Returns
    -------
    fisher : list of dict of ndarray
        Means, float64, shaped like the weights.
    """
    run = _FisherRun(surrogate, encoded, objective, params, weights, squared)
    found: list[dict[str, np.ndarray]] = []
    with flushed_denormals():
        if isinstance(objective, TextObjective):
            return run(None, batch_size)
        stacked = torch.from_numpy(np.stack(proba)).to(surrogate.device)
        while len(found) < len(stacked):
            part = stacked[len(found) : len(found) + run.tasks_at_once(stacked)]
            found += run(part, batch_size)
    return found


class _FisherRun:
    """Computation of the mean (squared) gradients of one task, or of several."""

    def __init__(
        self,
        surrogate: Surrogate,
        encoded: Encoded,
        objective: Objective,
        params: str,
        weights: dict[str, Tensor] | None,
        squared: bool,
    ) -> None:
        self.squared = squared
        self.surrogate = surrogate
        self.encoded = encoded
        self.objective = objective
        self.weights = {**surrogate.weights, **(weights or {})}
        own_encoder = any(k.startswith("encoder.") for k in weights or {})
        self.anew = params == "all" or own_encoder
        self.shapes = {
            name: tuple(self.weights[name].shape)
            for name in wanted_weights(self.weights, params)
        }
        untied = "lm_head.weight" in self.weights
        self.head_name = "lm_head.weight" if untied else "shared.weight"

    def tasks_at_once(self, proba: Tensor) -> int:
        """Number of tasks (K, n, C) that fit in memory and can share gradients."""
        if proba.shape[2] > 2 and not ((proba == 0) | (proba == 1)).all():
            return 1  # soft targets over more than two labels share no gradients
        bytes_each = BYTES_PER_NUMBER * sum(map(math.prod, self.shapes.values()))
        return max(1, int(get_config()["max_batch_bytes"] // bytes_each))

    def __call__(
        self, proba: Tensor | None, batch_size: int
    ) -> list[dict[str, np.ndarray]]:
        n_tasks = 1 if proba is None else len(proba)
        device = self.surrogate.device
        sums = GradientSums(self.shapes, n_tasks, device, squared=self.squared)
        kept = {
            name: torch.zeros(total.shape, dtype=torch.float64)
            for name, total in sums.totals.items()
        }
        done = np.zeros(len(self.encoded), dtype=bool)

        def run(size: int) -> None:
            todo = np.flatnonzero(~done)
            parts = [todo[p] for p in batches(self.encoded.lengths[todo], size)]
            for start in range(0, len(parts), KEEP_BATCHES):
                some = parts[start : start + KEEP_BATCHES]
                sums.clear()
                for rows in some:
                    chosen = None if proba is None else proba[:, rows]
                    self._add_batch(sums, rows, chosen)
                for name, total in sums.totals.items():
                    kept[name] += total.cpu()
                done[np.concatenate(some)] = True

        halving(run, batch_size)
        for total in kept.values():
            total /= len(self.encoded)
        return [
            {name: total[k].numpy() for name, total in kept.items()}
            for k in range(n_tasks)
        ]

    def _add_batch(
        self, sums: GradientSums, rows: np.ndarray, proba: Tensor | None
    ) -> None:
        arch, objective = self.surrogate.architecture, self.objective
        ops = FisherOps(self.weights, arch.epsilon, sums)
        if proba is not None and len(proba) > 1 and proba.shape[2] > 2:
            rows = np.tile(rows, proba.shape[2])  # every label of every text
        targets = objective.targets(rows)
        # Decoder inputs are repeated per example, so that gradients are per example.
        targets = targets._replace(
            tokens=targets.tokens.expand(-1, len(rows), -1).contiguous()
        )
        states, mask = encoder_states(ops, self.encoded, rows, self.anew)
        if not self.anew:  # the cross-attention's keys and values record a gradient
            states.requires_grad_()
        memory = remember(ops, arch, states, mask)
        hidden = decode(ops, arch, memory, targets)
        leaf = hidden.detach().requires_grad_()
        head = self.weights[self.head_name]
        if isinstance(objective, LabelObjective):
            assert proba is not None
            vectors = F.embedding(objective.children.clamp(min=0), head)
            logits = objective.logits(leaf, vectors)
            scores = logits.detach().requires_grad_()
            log_proba = objective.log_proba_of_logits(scores)[0]
            loss, factors = _directions(log_proba, proba)
            sums.shares = sums.powers_(factors)
        else:
            logits = F.linear(leaf, head)
            scores = logits.detach().requires_grad_()
            loss = objective.of_logits(scores, rows).sum()
            sums.shares = torch.ones(1, len(rows), device=scores.device)
        loss.backward()
        logits.backward(scores.grad)
        hidden.backward(leaf.grad)
        ops.add_bias_gradients()
        self._add_word_gradients(sums, ops.input_vectors(), scores, leaf)

    def _add_word_gradients(
        self,
        sums: GradientSums,
        inputs: list[tuple[Tensor, Tensor]],
        scores: Tensor,
        hidden: Tensor,
    ) -> None:
        """Add gradients of word embeddings, as inputs and as output head."""
        tied = self.head_name == "shared.weight"
        grads, states = scores.grad[0].float(), hidden.detach()[0].float()  # type: ignore[index]
        if isinstance(self.objective, TextObjective):
            for i in range(len(states) if self.head_name in sums.totals else 0):
                own = grads[i].T @ states[i]
                for ids, found in inputs if tied else ():
                    own.index_add_(0, ids[i], found[i])
                sums.totals[self.head_name][0] += sums.powers_(own)
            if tied:
                return
        else:
            ids = self.objective.children[0].clamp(min=0).flatten()
            outer = torch.einsum("btw,btd->btwd", grads, states).flatten(1, 2)
            output = (ids.expand(len(states), -1), outer)
            if tied:
                inputs = [*inputs, output]
            elif self.head_name in sums.totals:
                sums.add_words(self.head_name, *output)
        if "shared.weight" in sums.totals and inputs:
            sums.add_words(
                "shared.weight",
                torch.cat([ids for ids, _ in inputs], 1),
                torch.cat([found for _, found in inputs], 1),
            )


def _directions(log_proba: Tensor, proba: Tensor) -> tuple[Tensor, Tensor]:
    """Loss whose gradients all tasks share, and their factors (K, n).

    ``log_proba`` (n, C) has gradients g_c with sum_c q_c g_c = 0, where q are the
    probabilities.  With two labels the gradient of every expected log-likelihood is
    hence (p_1 q_2 - p_2 q_1)(g_1 - g_2).  With more labels targets are one-hot, and
    every row occurs once per label.
    """
    count, n_rows, n_classes = proba.shape
    if count == 1:
        return (proba[0] * log_proba).sum(), proba.new_ones(1, n_rows)
    if n_classes == 2:
        q = log_proba.detach().exp()
        shares = proba[..., 0] * q[:, 1] - proba[..., 1] * q[:, 0]
        return (log_proba[:, 0] - log_proba[:, 1]).sum(), shares
    by_label = log_proba.unflatten(0, (n_classes, n_rows))
    loss = by_label.diagonal(dim1=0, dim2=2).sum()
    return loss, proba.transpose(1, 2).flatten(1)
