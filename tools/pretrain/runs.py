"""What the training stages share: options, checkpoints, schedule, text-to-text runs."""

from __future__ import annotations

import argparse
import math
import os
import time
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from transformers import T5ForConditionalGeneration

SAVE_SECONDS = 300


def stage_parser(description: str | None) -> argparse.ArgumentParser:
    """Return the options that every stage has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    here = Path(__file__).parent
    parser.add_argument("--config", type=Path, default=here / "config.json")
    parser.add_argument("--threads", type=int, default=1)
    return parser


def set_up_torch(threads: int) -> None:
    """Use so many threads, and no slow denormal numbers."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)


def write_checkpoint(state: dict, path: Path) -> None:
    """Write so that a kill leaves the old checkpoint or the new one whole."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def weights_state(
    weights: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer, step: int
) -> dict:
    """Lay out a run over the decoder's weights, as ``--start`` and resuming read it."""
    return {
        "weights": {k: v.detach() for k, v in weights.items()},
        "optimizer": optimizer.state_dict(),
        "step": step,
    }


def warm_and_fade(step: int, how: dict) -> float:
    """Warm up over 200 steps, hold, then fall linearly to nothing at the last."""
    done = step / how["steps"]
    return min(1.0, (step + 1) / 200, (1 - done) / how["decay_fraction"])


class TextToText(ABC):
    """A run that trains the decoder to write texts, over the frozen encoder.

    Parameters
    ----------
    work : Path
        Where stage a left ``encoder`` and where the checkpoint ``name`` is kept.
    how : dict
        The run's ``steps``, ``learning_rate`` and ``decay_fraction``.
    name : str
        The checkpoint's file name; it is gone on from where there is one.
    """

    def __init__(self, work: Path, how: dict, name: str) -> None:
        self.how, self.checkpoint = how, work / name
        self.model = T5ForConditionalGeneration.from_pretrained(work / "encoder")
        self.model.requires_grad_(False)
        self.weights = {
            k: v for k, v in self.model.named_parameters() if k.startswith("decoder.")
        }
        for weight in self.weights.values():
            weight.requires_grad_()
        self.optimizer = torch.optim.AdamW(
            self.weights.values(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01
        )
        self.step = 0
        if self.checkpoint.exists():
            state = torch.load(self.checkpoint, weights_only=True)
            for key, value in state["weights"].items():
                self.weights[key].data.copy_(value)
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]

    @abstractmethod
    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """Return this step's ids to read (0 pads) and ids to write (-100 pads)."""

    @abstractmethod
    def held_out(self) -> str:
        """Score what was never trained on."""

    def save(self) -> None:
        """Keep what a killed run goes on from."""
        state = weights_state(self.weights, self.optimizer, self.step)
        write_checkpoint(state, self.checkpoint)

    def scores(
        self, source: np.ndarray, target: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of all tokens to write, one row each, and the tokens."""
        ids, labels = torch.from_numpy(source), torch.from_numpy(target)
        mask = (ids != 0).long()
        with torch.no_grad():
            memory = self.model.encoder(input_ids=ids, attention_mask=mask)
        hidden = self.model.decoder(
            input_ids=self.model.prepare_decoder_input_ids_from_labels(labels),
            encoder_hidden_states=memory.last_hidden_state,
            encoder_attention_mask=mask,
        ).last_hidden_state
        asked = labels != -100
        hidden = hidden[asked] * self.model.config.d_model**-0.5
        return hidden @ self.model.shared.weight.T, labels[asked]

    def train_step(self) -> float:
        """Take one step; returns the loss per token."""
        loss = F.cross_entropy(*self.scores(*self.batch()))
        if not math.isfinite(loss.item()):
            raise RuntimeError(f"the loss is {loss.item()} at step {self.step}")
        fade = warm_and_fade(self.step, self.how)
        for group in self.optimizer.param_groups:
            group["lr"] = self.how["learning_rate"] * fade
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights.values(), 1.0)
        self.optimizer.step()
        self.step += 1
        return loss.item()

    def train(self) -> None:
        """Take all steps left, with a log and checkpoints, and score the end."""
        print(f"from step {self.step} to {self.how['steps']}", flush=True)
        saved = clock = time.monotonic()
        trace: list[float] = []
        while self.step < self.how["steps"]:
            trace.append(self.train_step())
            if self.step % 100 == 0:
                took = (time.monotonic() - clock) / len(trace)
                loss = np.mean(trace)
                print(f"step {self.step} loss {loss:.3f} {took:.2f} s/step", flush=True)
                trace, clock = [], time.monotonic()
            if time.monotonic() - saved > SAVE_SECONDS:
                self.save()
                saved = time.monotonic()
        self.save()
        print(f"step {self.step}: {self.held_out()}", flush=True)
