"""Tune small sets of decoder parameters, for many tasks over the same texts at once.

TuPaTE (Zhou et al. 2022): prefixes, biases or low-rank products are tuned with the
surrogate frozen.  All tasks start from one initial value, which only the seed and
the surrogate's fingerprint determine, and a task's result does not depend on the
tasks that are tuned with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from fute_sklearn._utils._config import get_config

from ._early_stopping import BestSoFar
from ._encoder import Encoded
from ._halving import halving
from ._likelihood import LabelObjective, LabelTree, Objective, TextObjective
from ._load import Surrogate
from ._t5_decoder import Memory, Tuned, decode, remember
from ._t5_parts import FrozenOps
from ._tuned_parameters import Parameters, TuneSettings, initial_parameters, layer_parts

BATCH_TASKS = 32


@dataclass(frozen=True)
class TuneResult:
    """Tuned parameters of one task, their initial value and the training loss."""

    parameters: Parameters
    initial: Parameters
    loss_curve: np.ndarray
    n_iter: int


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Treat denormal numbers as zero, because they slow a softmax down severalfold."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def batches(
    lengths: np.ndarray, size: int, rng: np.random.Generator | None = None
) -> Iterator[np.ndarray]:
    """Split rows into batches of similar lengths; shuffled if ``rng`` is given."""
    if rng is None:
        order = np.argsort(lengths, kind="stable")
        for start in range(0, len(order), size):
            yield order[start : start + size]
        return
    order = rng.permutation(len(lengths))
    pool = size * 8
    parts = []
    for start in range(0, len(order), pool):
        rows = order[start : start + pool]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        parts += [rows[i : i + size] for i in range(0, len(rows), size)]
    for i in rng.permutation(len(parts)):
        yield parts[i]


class BatchTuner:
    """Tune K tasks over the same encoded texts together.

    Parameters
    ----------
    surrogate : Surrogate
        Frozen.
    encoded : Encoded
        The texts that all tasks share.
    objective : LabelObjective or TextObjective
        The targets; a `TextObjective` holds one task.
    n_tasks : int
        Number of tasks, K.
    settings : TuneSettings
        Hyperparameters.
    on_epoch : callable
        Called with the epoch's number at its end.
    """

    def __init__(
        self,
        surrogate: Surrogate,
        encoded: Encoded,
        objective: Objective,
        n_tasks: int,
        settings: TuneSettings,
        on_epoch: Callable[[int], None],
    ) -> None:
        self.surrogate = surrogate
        self.encoded = encoded
        self.objective = objective
        self.settings = settings
        self.on_epoch = on_epoch
        self.n_tasks = n_tasks
        positions = objective.targets(np.arange(1)).depth.shape[1]
        at_once = tasks_at_once(surrogate, positions, settings.batch_size)
        # Number of (task, text) pairs per forward pass.
        self.cells = min(at_once, n_tasks) * settings.batch_size
        self.ops = FrozenOps(surrogate.weights, surrogate.architecture.epsilon)
        self.initial = initial_parameters(surrogate, settings)
        self.stacked = {
            key: torch.from_numpy(np.stack([value] * n_tasks))
            .to(surrogate.device)
            .requires_grad_()
            for key, value in self.initial.items()
        }
        for value in self.stacked.values():
            value.grad = torch.zeros_like(value)

    def run(self) -> list[TuneResult]:
        """Tune and return one result per task."""
        settings = self.settings
        rng = np.random.default_rng([settings.seed, len(self.encoded)])
        train, held = self._split(rng)
        optimizer = torch.optim.AdamW(
            self.stacked.values(),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        per_epoch = -(-len(train) // settings.batch_size)
        total = per_epoch * settings.max_epochs
        warm = max(1, round(settings.warmup_fraction * total))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: min((step + 1) / warm, max(0.0, 1 - step / max(total, 1))),
        )
        noise = torch.Generator(device=self.surrogate.device)
        noise.manual_seed(settings.seed)
        best = BestSoFar(self.stacked, settings.n_iter_no_change)
        curve = []
        for epoch in range(settings.max_epochs):
            losses = torch.zeros(self.n_tasks, device=self.surrogate.device)
            lengths = self.encoded.lengths[train]
            for part in batches(lengths, settings.batch_size, rng):
                losses += self._step(train[part], optimizer, noise) * len(part)
                schedule.step()
            curve.append((losses / len(train)).cpu().numpy())
            if not np.isfinite(curve[-1]).all():
                raise FloatingPointError(
                    f"the loss is {curve[-1]} in epoch {epoch}: tuning diverged. "
                    f"Remedy: learning_rate below {settings.learning_rate}."
                )
            self.on_epoch(epoch)
            if settings.early_stopping and best.update(self._loss(held), self.stacked):
                break
        if settings.early_stopping:
            self.stacked = best.parameters
        return [
            TuneResult(
                {k: v[i].detach().cpu().numpy() for k, v in self.stacked.items()},
                self.initial,
                np.array([losses[i] for losses in curve]),
                int(best.epochs[i]) if settings.early_stopping else len(curve),
            )
            for i in range(self.n_tasks)
        ]

    def _split(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        rows = np.arange(len(self.encoded))
        if not self.settings.early_stopping:
            return rows, rows[:0]
        held = max(1, round(self.settings.validation_fraction * len(rows)))
        if held >= len(rows):
            raise ValueError(
                f"early_stopping=True needs more than {len(rows)} texts to hold "
                f"{self.settings.validation_fraction:.0%} of them out."
            )
        order = rng.permutation(rows)
        return np.sort(order[held:]), np.sort(order[:held])

    def _step(
        self, rows: np.ndarray, optimizer: torch.optim.Optimizer, noise: torch.Generator
    ) -> Tensor:
        def accumulate(cells: int) -> Tensor:
            self.cells = cells
            noise.set_state(state)
            optimizer.zero_grad(set_to_none=False)
            size = min(cells, self.settings.batch_size)
            losses = torch.zeros(self.n_tasks, device=self.surrogate.device)
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                losses += self._gradient(part, len(rows), noise)
            return losses

        state = noise.get_state()
        losses = halving(accumulate, self.cells)
        if self.settings.clip_norm:
            self._clip()
        optimizer.step()
        return losses

    def _task_parts(self) -> list[slice]:
        return task_batches(
            self.n_tasks, max(1, self.cells // self.settings.batch_size)
        )

    def _memory(self, rows: np.ndarray) -> Memory:
        """Encoder outputs of the rows, with the keys and values all tasks share."""
        states, mask = self.encoded.batch(rows)
        n_queries = self.objective.targets(rows).depth.numel()
        return remember(self.ops, self.surrogate.architecture, states, mask, n_queries)

    def _gradient(
        self, rows: np.ndarray, n_rows: int, noise: torch.Generator
    ) -> Tensor:
        """Add the gradient of some rows of a batch; return their part of the losses."""
        keep = 1 - self.settings.dropout

        def drop(x: Tensor) -> Tensor:
            mask = torch.rand(x.shape[1:], generator=noise, device=x.device) < keep
            return x * mask.to(x.dtype) / keep

        memory, state, losses = self._memory(rows), noise.get_state(), []
        for tasks in self._task_parts():
            # The same dropout mask for all tasks: results do not depend on the batch.
            noise.set_state(state)
            leaves = {}
            for key, value in self.stacked.items():
                leaves[key] = value.detach()[tasks].requires_grad_()
                leaves[key].grad = value.grad[tasks]  # type: ignore[index]
            parts = layer_parts(self.surrogate, leaves, drop if keep < 1 else None)
            found = self._losses(memory, tasks, rows, parts) / n_rows
            found.sum().backward()
            losses.append(found.detach())
        return torch.cat(losses)

    def _losses(
        self, memory: Memory, tasks: slice, rows: np.ndarray, parts: list[Tuned]
    ) -> Tensor:
        objective = self.objective.tasks(tasks)
        arch = self.surrogate.architecture
        hidden = decode(self.ops, arch, memory, objective.targets(rows), parts)
        return -objective.log_likelihood(self.ops, hidden, rows).sum(1)

    def _clip(self) -> None:
        """Clip the norm of each task's gradient separately."""
        grads = [p.grad for p in self.stacked.values() if p.grad is not None]
        each = [torch.linalg.vector_norm(g.flatten(1), dim=1) for g in grads]
        norms = torch.linalg.vector_norm(torch.stack(each), dim=0)
        factor = (self.settings.clip_norm / norms.clamp(min=1e-12)).clamp(max=1)
        for grad in grads:
            grad.mul_(factor.view(-1, *[1] * (grad.ndim - 1)))

    @torch.inference_mode()
    def _loss(self, rows: np.ndarray) -> Tensor:
        total = torch.zeros(self.n_tasks, device=self.surrogate.device)
        for part in batches(self.encoded.lengths[rows], self.settings.batch_size):
            memory = self._memory(rows[part])
            for tasks in self._task_parts():
                some = {k: v[tasks] for k, v in self.stacked.items()}
                parts = layer_parts(self.surrogate, some)
                total[tasks] += self._losses(memory, tasks, rows[part], parts)
        return total / len(rows)


def tasks_at_once(surrogate: Surrogate, positions: int, batch_size: int) -> int:
    """Return the number of tasks per forward pass that fit in ``max_batch_bytes``.

    The estimate counts the activations that autograd keeps per task, for texts of
    ``max_length`` tokens.
    """
    arch = surrogate.architecture
    attended = 4 * arch.n_heads * (surrogate.max_length + positions)
    per_position = 20 * arch.d_model + 4 * arch.d_ff + attended
    bytes_each = 4 * arch.n_decoder_layers * positions * batch_size * per_position
    return max(1, int(get_config()["max_batch_bytes"] // bytes_each))


def task_batches(n_tasks: int, most: int = BATCH_TASKS) -> list[slice]:
    """Split tasks into parts of similar size; above 32 tasks no time is saved."""
    count = -(-n_tasks // most)
    ends = [n_tasks * i // max(count, 1) for i in range(count + 1)]
    return [slice(*pair) for pair in pairwise(ends)]


def tune_labels(
    surrogate: Surrogate,
    encoded: Encoded,
    trees: list[LabelTree],
    proba: list[np.ndarray],
    settings: TuneSettings,
    on_epoch: Callable[[int], None],
) -> list[TuneResult]:
    """Tune one task per label tree over the same texts."""
    results: list[TuneResult] = []
    with flushed_denormals():
        for part in task_batches(len(trees)):
            objective = LabelObjective(surrogate, trees[part], proba[part])
            tuner = BatchTuner(
                surrogate, encoded, objective, len(trees[part]), settings, on_epoch
            )
            results += tuner.run()
    return results


def tune_texts(
    surrogate: Surrogate,
    encoded: Encoded,
    texts: list[str],
    settings: TuneSettings,
    on_epoch: Callable[[int], None],
) -> TuneResult:
    """Tune one task whose targets are free texts."""
    objective = TextObjective(surrogate, texts)
    with flushed_denormals():
        tuner = BatchTuner(surrogate, encoded, objective, 1, settings, on_epoch)
        return tuner.run()[0]
