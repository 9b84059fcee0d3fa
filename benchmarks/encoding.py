"""Time the encoder's pass against a sorted loop over stock transformers.

Part of ``speed.py``.  Texts have 4 to 60 tokens, as short posts have; the loop sorts
them by length and pads batches of 64.  The limit is the time of the matrix products
alone, without padding, at the rate of a large product that was measured beside.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForSeq2SeqLM

from fute_sklearn import config_context
from fute_sklearn._engine import Surrogate, encode_texts, load_surrogate
from fute_sklearn._engine._packs import PACK_TOKENS, packs
from fute_sklearn._engine._padding import padded
from fute_sklearn._engine._tokenize import tokenize

STOCK_BATCH, LEAST, MOST = 64, 4, 60
TEXTS = {"mini": 2000, "small": 500, "base": 120}


def some_texts(surrogate: Surrogate, count: int) -> list[str]:
    """Texts of the surrogate's words, of many lengths."""
    vocabulary = surrogate.tokenizer.get_vocab()
    words = sorted(w for w in vocabulary if w.isalpha() and len(w) > 3)
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(3.0, 0.5, count).astype(int), LEAST, MOST)
    return [" ".join(rng.choice(words, length)) for length in lengths]


def encoder_flops(surrogate: Surrogate) -> float:
    """Floating-point operations of the matrix products for one token."""
    arch = surrogate.architecture
    inner = arch.n_heads * arch.d_kv
    dense = (6 if arch.gated else 4) * arch.d_model * arch.d_ff
    return arch.n_encoder_layers * (8.0 * arch.d_model * inner + dense)


def own_pass(surrogate: Surrogate, texts: list[str]) -> Callable[[], np.ndarray]:
    """The engine's pass, nothing cached."""

    def run() -> np.ndarray:
        with config_context(cache_dir=None):
            return encode_texts(surrogate, texts, states=False).pooled()

    return run


def off_by(found: np.ndarray, true: np.ndarray) -> float:
    """Root mean square of the errors of texts' means, over that of their spread."""
    return float(np.linalg.norm(found - true) / np.linalg.norm(true - true.mean(0)))


def stock_loop(folder: Path, surrogate: Surrogate, texts: list[str]) -> Callable:
    """The same by stock transformers: tokens, sorted batches, means."""
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32)
    encoder = model.eval().encoder

    def run() -> None:
        rows = surrogate.tokenizer(texts)["input_ids"]
        order = np.argsort([len(row) for row in rows], kind="stable")
        with torch.inference_mode():
            for start in range(0, len(order), STOCK_BATCH):
                part = [rows[i] for i in order[start : start + STOCK_BATCH]]
                ids, mask = padded(part)
                states = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
                (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)

    return run


def padding_share(surrogate: Surrogate, texts: list[str]) -> float:
    """Share of the engine's rows that hold no token."""
    rows = dict(enumerate(tokenize(surrogate, texts)))
    named = {str(name): row for name, row in rows.items()}
    count = len(list(packs(named, PACK_TOKENS)))
    return 1 - sum(map(len, named.values())) / (count * PACK_TOKENS)


def measure_encoding(
    shape: str,
    folder: Path,
    repeats: int,
    tools: tuple[Callable, Callable, Callable],
) -> dict[str, float]:
    """Print and return the encoder's ratios; ``tools`` are those of ``speed.py``."""
    in_turns, matmul_peak, say = tools
    surrogate = load_surrogate(folder)
    texts = some_texts(surrogate, TEXTS[shape])
    own = own_pass(surrogate, texts)
    stock = stock_loop(folder, surrogate, texts)
    fast, slow = in_turns(own, stock, repeats)
    peak = matmul_peak()
    tokens = sum(map(len, tokenize(surrogate, texts)))
    limit = tokens * encoder_flops(surrogate) / peak
    half = own_pass(load_surrogate(folder, dtype="bfloat16"), texts)
    short, _ = in_turns(half, own, repeats)
    integers = own_pass(load_surrogate(folder, dtype="int8"), texts)
    small, _ = in_turns(integers, own, repeats)
    return dict(
        [
            say("encoder: seconds for a thousand texts", fast / len(texts) * 1000),
            say("encoder: time / that of the stock loop", fast / slow),
            say("encoder: time / the arithmetic's alone", fast / limit),
            say("encoder: share of padding", padding_share(surrogate, texts)),
            say("encoder: time in bfloat16 / the stock loop", short / slow),
            say("encoder: time in int8 / the stock loop", small / slow),
            say("encoder: means in bfloat16 are off by", off_by(half(), own())),
            say("encoder: means in int8 are off by", off_by(integers(), own())),
        ]
    )
