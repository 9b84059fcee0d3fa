"""What the training stages share: their options, checkpoints and schedule."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

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
