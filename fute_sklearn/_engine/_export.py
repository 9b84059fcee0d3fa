"""Save tuned surrogates in the formats of transformers and peft."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save

from fute_sklearn._utils._store import write_atomically

from ._load import Surrogate, open_model

ADAPTER = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
BASE = "base"
PLACE = "base_model.model.decoder.block.{layer}.layer.1.EncDecAttention.{letter}"
SIDES = {"down": "lora_A.weight", "up": "lora_B.weight"}


def save_adapter(
    surrogate: Surrogate, parameters: dict[str, np.ndarray], folder: Path
) -> None:
    """Write a low-rank adapter as peft does, and the surrogate in ``base``."""
    rank = parameters["cross_q.down"].shape[1]
    tensors = {}
    for name, values in parameters.items():
        module, side = name.split(".")
        for layer, value in enumerate(values):
            place = PLACE.format(layer=layer, letter=module[-1])
            tensors[f"{place}.{SIDES[side]}"] = np.ascontiguousarray(value)
    config = {
        "peft_type": "LORA",
        "task_type": "SEQ_2_SEQ_LM",
        "base_model_name_or_path": BASE,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
        "target_modules": r"decoder.*EncDecAttention\.[qkvo]",
    }
    save_model(surrogate, folder / BASE)
    write_atomically(folder / ADAPTER, save(tensors))
    text = json.dumps(config, indent=2, sort_keys=True)
    write_atomically(folder / ADAPTER_CONFIG, f"{text}\n".encode())


def load_adapter(folder: Path) -> dict[str, np.ndarray]:
    """Read what `save_adapter` has written, stacked over the layers."""
    tensors = load_file(folder / ADAPTER)
    layers = 1 + max(int(name.split(".")[4]) for name in tensors)
    return {
        f"cross_{letter}.{side}": np.stack(
            [
                tensors[f"{PLACE.format(layer=layer, letter=letter)}.{end}"]
                for layer in range(layers)
            ]
        )
        for letter in "qkvo"
        for side, end in SIDES.items()
    }


def save_model(
    surrogate: Surrogate, folder: Path, weights: dict[str, Any] | None = None
) -> None:
    """Write a surrogate as a stock T5 with its tokenizer, with tuned weights if any."""
    model, tokenizer, _ = open_model(surrogate.name)
    if weights:
        state = {name: value.detach().cpu().float() for name, value in weights.items()}
        if "lm_head.weight" in state and model.config.tie_word_embeddings:
            # The tuned head differs from the word embeddings to which it was tied.
            model.config.tie_word_embeddings = False
            model.lm_head.weight = torch.nn.Parameter(state["lm_head.weight"].clone())
        with torch.no_grad():
            missing = model.load_state_dict(state, strict=False).unexpected_keys
        if missing:
            raise ValueError(f"weights {missing} have no place in a stock T5.")
    folder.mkdir(parents=True, exist_ok=True)
    # Written elsewhere and moved, so that a killed process leaves no half of a file.
    with tempfile.TemporaryDirectory(dir=folder) as written:
        model.save_pretrained(written)
        tokenizer.save_pretrained(written)
        for path in Path(written).iterdir():
            os.replace(path, folder / path.name)
