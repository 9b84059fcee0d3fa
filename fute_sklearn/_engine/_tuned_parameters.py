"""The decoder parameters that TuPaTE tunes, and their initial values."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ._load import Surrogate
from ._t5_decoder import Tuned

LOW_RANK_MODULES = ("cross_q", "cross_k", "cross_v", "cross_o")
Parameters = dict[str, np.ndarray]


@dataclass(frozen=True)
class TuneSettings:
    """Hyperparameters of the tuning; see `TuPaTEEmbedder`."""

    tuning: str
    prefix_length: int
    rank: int
    learning_rate: float
    max_epochs: int
    batch_size: int
    weight_decay: float
    warmup_fraction: float
    dropout: float
    clip_norm: float
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int
    seed: int


def initial_parameters(surrogate: Surrogate, settings: TuneSettings) -> Parameters:
    """Return the initial parameters of all tasks, (n_layers, ...) for each name.

    The first prefix positions take the pretrained values of the surrogate, if any.
    """
    arch = surrogate.architecture
    layers, inner = arch.n_decoder_layers, arch.n_heads * arch.d_kv
    name = f"{surrogate.weights_fingerprint}|{settings.tuning}|{settings.seed}"
    digest = hashlib.sha256(name.encode()).digest()
    rng = np.random.default_rng(np.frombuffer(digest, np.uint32))
    if settings.tuning == "prompt":
        length = settings.prefix_length
        # Xavier's bound as torch takes it from a (4, heads, length, d_kv) tensor.
        bound = np.sqrt(6 / ((4 + arch.n_heads) * length * arch.d_kv))
        whole = (layers, 4, arch.n_heads, length, arch.d_kv)
        prefix = rng.uniform(-bound, bound, whole).astype(np.float32)
        if "prefix" in surrogate.starts:
            learnt = surrogate.starts["prefix"][:, :, :, :length]
            prefix[:, :, :, : learnt.shape[3]] = learnt
        return {"prefix": prefix}
    if settings.tuning == "bias":
        widths = {
            "self_o": arch.d_model,
            "cross_q": inner,
            "cross_o": arch.d_model,
            "wi": arch.d_ff,
            "wo": arch.d_model,
        }
        return {k: np.zeros((layers, w), np.float32) for k, w in widths.items()}
    out: Parameters = {}
    for module in LOW_RANK_MODULES:
        wide_in, wide_out = arch.d_model, inner
        if module == "cross_o":
            wide_in, wide_out = inner, arch.d_model
        bound = 1 / np.sqrt(wide_in)
        shape = (layers, settings.rank, wide_in)
        out[f"{module}.down"] = rng.uniform(-bound, bound, shape).astype(np.float32)
        out[f"{module}.up"] = np.zeros((layers, wide_out, settings.rank), np.float32)
    return out


def layer_parts(
    surrogate: Surrogate,
    stacked: dict[str, Tensor],
    drop: Callable[[Tensor], Tensor] | None = None,
) -> list[Tuned]:
    """Split stacked parameters (K, n_layers, ...) by layer."""
    # unbind has a cheaper gradient than slices, which fill a full tensor per layer.
    split = {k: v.to(surrogate.dtype).unbind(1) for k, v in stacked.items()}
    parts = []
    for i in range(surrogate.architecture.n_decoder_layers):
        if "prefix" in split:
            prefix = split["prefix"][i]
            prefix = drop(prefix) if drop else prefix
            parts.append(Tuned(prefix=prefix.unbind(1)))
        elif "wo" in split:
            parts.append(Tuned(bias={k: v[i] for k, v in split.items()}))
        else:
            pairs = {
                m: (split[f"{m}.down"][i], split[f"{m}.up"][i])
                for m in LOW_RANK_MODULES
            }
            parts.append(Tuned(low_rank=pairs))
    return parts
