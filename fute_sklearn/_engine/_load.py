"""Find, load and fingerprint surrogates; one copy of each per process."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file

from fute_sklearn.exceptions import SurrogateError, SurrogateNotFoundError

from ._after_fork import threads_start
from ._int8 import integer_weights
from ._saved_weights import saved_weights

DEFAULT_SURROGATE = "fute-mini"
TINY_SURROGATE = "fute-tiny-random"
BUILT_IN = Path(__file__).parent / "data"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Types of the weights; int8 is for the products of the encoder's pass only.
PRECISIONS = {**DTYPES, "int8": torch.float32}
MODEL_TYPES = ("t5", "mt5")
# Code that comes with weights is never run, and nobody is asked whether to.
NO_CODE: dict[str, Any] = {"trust_remote_code": False}
STARTS_FILE = "starts.safetensors"


@dataclass(frozen=True)
class Architecture:
    """Hyperparameters of a T5 that its forward pass needs."""

    n_encoder_layers: int
    n_decoder_layers: int
    n_heads: int
    d_kv: int
    d_model: int
    d_ff: int
    n_buckets: int
    max_distance: int
    activation: str
    gated: bool
    epsilon: float
    scaled_output: bool
    start_token: int


@dataclass(frozen=True, eq=False)
class Surrogate:
    """A frozen T5 on one device, as the engine sees it.

    ``weights`` maps the stock parameter names to tensors.  ``weights_fingerprint``
    names the space: weights, configuration, tokenizer and dtype.  ``fingerprint`` adds
    ``max_length``, so that it changes whenever an encoder output can.  ``starts`` are
    values that tuning starts from, learnt with the weights, by parameter name.
    ``integers`` are the encoder's matrices in 8-bit integers with their units, if its
    pass is to use them; ``packed`` are those that it has put into another layout.
    """

    name: str
    architecture: Architecture
    weights: dict[str, torch.Tensor]
    tokenizer: Any
    device: torch.device
    dtype: torch.dtype
    max_length: int
    weights_fingerprint: str
    fingerprint: str
    starts: dict[str, np.ndarray] = field(default_factory=dict)
    folder: Path | None = None
    integers: dict[str, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    packed: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def n_weights(self) -> int:
        """Number of distinct weights."""
        distinct = {w.data_ptr(): w.numel() for w in self.weights.values()}
        return sum(distinct.values())


_LOADED: dict[tuple[str, str, str, int], Surrogate] = {}
_LOCK = threading.Lock()


def global_random_state() -> bytes:
    """Return torch's global random state, to check that it stays unchanged."""
    return torch.get_rng_state().numpy().tobytes()


def resolve_device(device: str) -> torch.device:
    """Turn ``"auto"`` into CUDA, MPS or CPU, in this order."""
    if device != "auto":
        found = torch.device(device)
        if found.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(
                f"device={device!r}, but there is no CUDA device here. Remedy: "
                'set_params(device="auto"), which also suits fits made on a GPU.'
            )
        return found
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def load_surrogate(
    name: str | os.PathLike[str],
    *,
    device: str = "auto",
    dtype: str = "float32",
    max_length: int = 128,
) -> Surrogate:
    """Load a surrogate, or take it from this process's cache.

    Parameters
    ----------
    name : str or path
        ``"fute-mini"`` (shipped), ``"fute-tiny-random"`` (for tests), a folder with
        a saved T5, or a hub id such as ``"google-t5/t5-base"``.
    device : str, default="auto"
        A torch device; ``"auto"`` takes CUDA, then MPS, then the CPU.
    dtype : {"float32", "bfloat16", "int8"}, default="float32"
        Precision of weights and matrix products; ``"int8"`` is that of the products of
        the encoder's pass on the CPU, where all else is float32.
    max_length : int, default=128
        Longest text in tokens; longer ones are cut.

    Returns
    -------
    surrogate : Surrogate
        The frozen surrogate.
    """
    if dtype not in PRECISIONS:
        raise ValueError(f"dtype={dtype!r}, expected one of {sorted(PRECISIONS)}.")
    threads_start()
    if dtype == "int8" and device == "auto":
        device = "cpu"
    target = resolve_device(device)
    if dtype == "int8" and target.type != "cpu":
        raise ValueError(
            f"dtype='int8' with device={device!r}: integers are for CPUs only. Remedy: "
            "device='cpu' or 'auto', or another dtype, whose space is another one."
        )
    source = os.fspath(name)
    with _LOCK:
        key = (source, str(target), dtype, 0)
        if key not in _LOADED:
            _LOADED[key] = _load(source, target, dtype)
        view = (*key[:3], max_length)
        if view not in _LOADED:
            base = _LOADED[key]
            _LOADED[view] = replace(
                base,
                max_length=max_length,
                fingerprint=f"{base.weights_fingerprint}-{max_length}",
            )
        return _LOADED[view]


def _load(name: str, device: torch.device, precision: str) -> Surrogate:
    found, config, tokenizer, folder = _open_weights(name)
    dtype = PRECISIONS[precision]
    weights = {k: v.to(dtype).to(device) for k, v in found.items()}
    architecture = _architecture(config)
    learnt = folder / STARTS_FILE if folder is not None else None
    starts = load_file(learnt) if learnt is not None and learnt.exists() else {}
    # torch's name of the precision, as ever
    fingerprint = _fingerprint(
        weights, architecture, tokenizer, f"torch.{precision}", starts
    )
    return Surrogate(
        name=name,
        architecture=architecture,
        weights=weights,
        tokenizer=tokenizer,
        device=device,
        dtype=dtype,
        max_length=0,
        weights_fingerprint=fingerprint,
        fingerprint=fingerprint,
        starts=starts,
        folder=folder,
        integers=integer_weights(weights) if precision == "int8" else {},
    )


def _architecture(config: Any) -> Architecture:
    return Architecture(
        n_encoder_layers=config.num_layers,
        n_decoder_layers=config.num_decoder_layers,
        n_heads=config.num_heads,
        d_kv=config.d_kv,
        d_model=config.d_model,
        d_ff=config.d_ff,
        n_buckets=config.relative_attention_num_buckets,
        max_distance=config.relative_attention_max_distance,
        activation=config.dense_act_fn,
        gated=config.is_gated_act,
        epsilon=config.layer_norm_epsilon,
        scaled_output=bool(getattr(config, "scale_decoder_outputs", False)),
        start_token=config.decoder_start_token_id or 0,
    )


def _open_weights(
    name: str,
) -> tuple[dict[str, torch.Tensor], Any, Any, Path | None]:
    """Return weights by their stock names, configuration, tokenizer and folder."""
    folder = None if name == TINY_SURROGATE else _folder_of(name)
    if folder is not None:
        config = _config_of(str(folder), name)
        weights = saved_weights(folder, config)
        if weights is not None:
            return weights, config, _tokenizer_of(str(folder), name), folder
    model, tokenizer, folder = open_model(name)
    state = {k: v.detach() for k, v in model.state_dict().items()}
    if model.lm_head.weight.data_ptr() == model.shared.weight.data_ptr():
        state.pop("lm_head.weight", None)
    weights = {k: v for k, v in state.items() if "embed_tokens" not in k}
    return weights, model.config, tokenizer, folder


def open_model(name: str) -> tuple[Any, Any, Path | None]:
    """Return model, tokenizer and, where there is one, their folder."""
    if name == TINY_SURROGATE:
        return *_tiny_random(), None
    folder = _folder_of(name)
    source = name if folder is None else str(folder)
    _config_of(source, name)
    from transformers import AutoModelForSeq2SeqLM

    try:
        # Weights in other formats would have to be unpickled.
        model = AutoModelForSeq2SeqLM.from_pretrained(
            source, use_safetensors=True, dtype=torch.float32, **NO_CODE
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise _unreadable(name, error) from error
    return model, _tokenizer_of(source, name), folder


def _folder_of(name: str) -> Path | None:
    """Return the folder of a saved model, or None for a hub id."""
    folder = BUILT_IN / name if (BUILT_IN / name).is_dir() else Path(name)
    folder = folder.expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or name.startswith((".", "~")):
        raise SurrogateNotFoundError(
            f"surrogate={name!r}: this folder does not exist. Give a folder "
            "written by `save_pretrained`, a hub id, or "
            f"{DEFAULT_SURROGATE!r}."
        )
    return None


def _config_of(source: str, name: str) -> Any:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source, **NO_CODE)
    except (OSError, ValueError) as error:
        raise SurrogateNotFoundError(
            f"surrogate={name!r} is neither a folder with a saved model nor a hub id "
            "that can be reached from here. Remedy: check the spelling; download it "
            "on a connected machine (`save_pretrained`) and give the folder; or use "
            f"{DEFAULT_SURROGATE!r}, which needs no network. Cause: {error}"
        ) from error
    if config.model_type not in MODEL_TYPES:
        kind = (
            "an encoder-decoder"
            if getattr(config, "is_encoder_decoder", False)
            else "no encoder-decoder"
        )
        raise SurrogateError(
            f"surrogate={name!r} is a {config.model_type!r} model, {kind} of another "
            f"family; expected a T5 (model types {', '.join(MODEL_TYPES)}), for "
            "instance 'google-t5/t5-base' or 'google/flan-t5-small'."
        )
    return config


def _tokenizer_of(source: str, name: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source, **NO_CODE)
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: Exception) -> SurrogateNotFoundError:
    return SurrogateNotFoundError(
        f"surrogate={name!r}: the weights (safetensors) or the tokenizer cannot "
        "be loaded. Remedy: save the model again with `save_pretrained`, which "
        f"writes safetensors, beside its tokenizer. Cause: {error}"
    )


def _tiny_random() -> tuple[Any, Any]:
    from transformers import ByT5Tokenizer, T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=384,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,  # type: ignore[call-arg]
        dropout_rate=0.0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return T5ForConditionalGeneration(config), ByT5Tokenizer()


def update_with_weights(digest: Any, weights: Mapping[str, torch.Tensor]) -> None:
    """Feed names and bytes of weights to a digest, in the order of their names."""
    for key in sorted(weights):
        digest.update(key.encode())
        flat = weights[key].detach().cpu().contiguous().view(torch.uint8)
        digest.update(flat.numpy().tobytes())


def head_of(weights: Mapping[str, Any]) -> Any:
    """Return the weights of the output head, which may be the word embeddings."""
    return weights.get("lm_head.weight", weights["shared.weight"])


def _fingerprint(
    weights: dict[str, torch.Tensor],
    architecture: Architecture,
    tokenizer: Any,
    precision: str,
    starts: dict[str, np.ndarray],
) -> str:
    digest = hashlib.sha256(repr(architecture).encode())
    digest.update(precision.encode())
    digest.update(type(tokenizer).__name__.encode())
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = json.dumps(tokenizer.get_vocab(), sort_keys=True)
    digest.update((backend.to_str() if backend is not None else rules).encode())
    update_with_weights(digest, weights)
    for key in sorted(starts):
        digest.update(key.encode())
        digest.update(starts[key].tobytes())
    return digest.hexdigest()[:16]
