"""Read the weights of a saved T5 without the model's classes, which load slowly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

WEIGHTS_FILE = "model.safetensors"
HEAD = "lm_head.weight"
BIAS = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"


def saved_weights(folder: Path, config: Any) -> dict[str, torch.Tensor] | None:
    """Return a saved T5's weights in float32, by their stock names.

    None if they are in several files or under other names, have an output head of
    their own, or cannot be read: stock transformers knows what to make of these.
    """
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        return None
    try:
        found = load_file(path)
    except (OSError, SafetensorError):
        return None
    names = list(_weight_names(config))
    if HEAD in found or not config.tie_word_embeddings or not set(names) <= set(found):
        return None
    return {name: found[name].float() for name in names}


def _weight_names(config: Any) -> Iterator[str]:
    """Names of all distinct weights of a T5 whose head is its word vectors."""
    yield "shared.weight"
    dense = ("wi_0", "wi_1", "wo") if config.is_gated_act else ("wi", "wo")
    sides = {
        "encoder": (config.num_layers, ("SelfAttention",)),
        "decoder": (config.num_decoder_layers, ("SelfAttention", "EncDecAttention")),
    }
    for side, (depth, attentions) in sides.items():
        yield f"{side}.{BIAS}"
        yield f"{side}.final_layer_norm.weight"
        for i in range(depth):
            block = f"{side}.block.{i}.layer"
            for j, attention in enumerate(attentions):
                yield f"{block}.{j}.layer_norm.weight"
                yield from (f"{block}.{j}.{attention}.{p}.weight" for p in "qkvo")
            last = len(attentions)
            yield f"{block}.{last}.layer_norm.weight"
            yield from (f"{block}.{last}.DenseReluDense.{p}.weight" for p in dense)
