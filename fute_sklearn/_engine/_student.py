"""Predictions of a tuned surrogate: label probabilities, features, generated text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ._encoder import Encoded
from ._fine_tune import encoder_states
from ._halving import halving
from ._likelihood import LabelObjective, LabelTree, Objective, TextObjective
from ._load import Surrogate, head_of
from ._t5_decoder import Targets, Tuned, decode, remember
from ._t5_parts import FrozenOps
from ._tuned_parameters import Parameters, layer_parts
from ._tuning import batches, flushed_denormals

PREDICT_ROWS = 256


class Student:
    """A surrogate with one task's tuned parameters.

    Parameters
    ----------
    surrogate : Surrogate
        Frozen.
    parameters : dict of ndarray or None
        Tuned parameters of a `TuneResult`; None for no tuned parameters.
    weights : dict of Tensor or None
        Fine-tuned weights that replace the surrogate's; None replaces none.
    """

    def __init__(
        self,
        surrogate: Surrogate,
        parameters: Parameters | None = None,
        weights: dict[str, Tensor] | None = None,
    ) -> None:
        self.surrogate = surrogate
        self.own_encoder = any(k.startswith("encoder.") for k in weights or {})
        self.ops = FrozenOps(
            {**surrogate.weights, **(weights or {})}, surrogate.architecture.epsilon
        )
        self.parts: list[Tuned] | None = None
        if parameters is not None:
            stacked = {
                k: torch.from_numpy(v)[None].to(surrogate.device)
                for k, v in parameters.items()
            }
            self.parts = layer_parts(surrogate, stacked)

    def _hidden(self, encoded: Encoded, rows: np.ndarray, targets: Targets) -> Tensor:
        states, mask = encoder_states(self.ops, encoded, rows, self.own_encoder)
        arch = self.surrogate.architecture
        memory = remember(self.ops, arch, states, mask, targets.depth.numel())
        return decode(self.ops, arch, memory, targets, self.parts)

    def _collect(
        self, encoded: Encoded, step: Callable[[np.ndarray], Tensor], width: int
    ) -> np.ndarray:
        out = np.empty((len(encoded), width), np.float32)

        def run(size: int) -> None:
            for rows in batches(encoded.lengths, size):
                out[rows] = step(rows).float().cpu().numpy()

        with torch.inference_mode(), flushed_denormals():
            halving(run, PREDICT_ROWS)
        return out

    def log_proba(self, encoded: Encoded, tree: LabelTree) -> np.ndarray:
        """Log-probabilities of the labels, (n, C)."""
        objective = LabelObjective(self.surrogate, [tree])

        def step(rows: np.ndarray) -> Tensor:
            hidden = self._hidden(encoded, rows, objective.targets(rows))
            return objective.log_proba(self.ops, hidden)[0]

        return self._collect(encoded, step, len(tree.paths))

    def features(self, encoded: Encoded) -> np.ndarray:
        """Decoder states at the first target position, (n, d_model)."""
        device = self.surrogate.device
        start = self.surrogate.architecture.start_token
        targets = Targets(
            torch.full((1, 1, 1), start, device=device),
            torch.zeros(1, 1, dtype=torch.long, device=device),
            torch.ones(1, 1, 1, dtype=torch.bool, device=device),
        )

        def step(rows: np.ndarray) -> Tensor:
            return self._hidden(encoded, rows, targets)[0, :, 0]

        return self._collect(encoded, step, self.surrogate.architecture.d_model)

    def text_log_likelihood(self, encoded: Encoded, texts: Sequence[str]) -> np.ndarray:
        """Log-likelihood of a target text per row, (n,)."""
        objective: Objective = TextObjective(self.surrogate, texts)

        def step(rows: np.ndarray) -> Tensor:
            hidden = self._hidden(encoded, rows, objective.targets(rows))
            return objective.log_likelihood(self.ops, hidden, rows)[0][:, None]

        return self._collect(encoded, step, 1)[:, 0]

    def generate(self, encoded: Encoded, max_tokens: int) -> list[str]:
        """Decode greedily, at most ``max_tokens`` tokens per text."""
        tokenizer = self.surrogate.tokenizer
        found = self._collect(
            encoded, lambda rows: self._greedy(encoded, rows, max_tokens), max_tokens
        )
        return [
            tokenizer.decode(row, skip_special_tokens=True).strip()
            for row in self._cut(found.astype(np.int64))
        ]

    def _cut(self, tokens: np.ndarray) -> list[list[int]]:
        """Cut every row before its end-of-sequence token."""
        end = self.surrogate.tokenizer.eos_token_id
        rows = tokens.tolist()
        return [row[: row.index(end)] if end in row else row for row in rows]

    def _greedy(self, encoded: Encoded, rows: np.ndarray, max_tokens: int) -> Tensor:
        arch, end = self.surrogate.architecture, self.surrogate.tokenizer.eos_token_id
        states, mask = encoder_states(self.ops, encoded, rows, self.own_encoder)
        memory = remember(self.ops, arch, states, mask)
        head = head_of(self.ops.weights)
        device = self.surrogate.device
        tokens = torch.full((1, len(rows), 1), arch.start_token, device=device)
        for length in range(1, max_tokens + 1):
            visible = torch.ones(length, length, dtype=torch.bool, device=device)
            targets = Targets(
                tokens,
                torch.arange(length, device=device)[None],
                visible.tril()[None],
            )
            hidden = decode(self.ops, arch, memory, targets, self.parts)
            chosen = F.linear(hidden[:, :, -1], head).argmax(-1)
            tokens = torch.cat([tokens, chosen[..., None]], 2)
            if bool((tokens[0, :, 1:] == end).any(1).all()):
                break
        return F.pad(tokens[0, :, 1:], (0, max_tokens + 1 - tokens.shape[2]), value=end)
