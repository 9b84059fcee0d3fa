"""The plain way that `speed.py` times against: one model at a time on stock modules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForSeq2SeqLM, T5Config, T5ForConditionalGeneration
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from fute_sklearn import TuPaTEEmbedder
from fute_sklearn._engine import (
    LabelObjective,
    Surrogate,
    encode_texts,
    label_tree,
    load_surrogate,
)
from fute_sklearn._engine._t5_decoder import decode, remember
from fute_sklearn._engine._t5_encoder import encode, padded_attention
from fute_sklearn._engine._t5_parts import Ops
from fute_sklearn._engine._tuned_parameters import initial_parameters
from fute_sklearn._utils._compat import cache_argument

SHAPES = {
    "mini": {"d_model": 256, "d_kv": 32, "num_heads": 8, "d_ff": 1024, "num_layers": 4},
    "small": {
        "d_model": 512,
        "d_kv": 64,
        "num_heads": 8,
        "d_ff": 2048,
        "num_layers": 6,
    },
    "base": {
        "d_model": 768,
        "d_kv": 64,
        "num_heads": 12,
        "d_ff": 3072,
        "num_layers": 12,
    },
}
BATCH, TOKENS, SAMPLE_STEPS, FISHER_ROWS = 64, 32, 2, 512


@dataclass
class Bed:
    """One surrogate in both ways, with the texts that are timed."""

    surrogate: Surrogate
    stock: T5ForConditionalGeneration
    texts: list[str]


def save_random_t5(shape: str, folder: Path) -> None:
    """Save a T5 of random weights with the built-in surrogate's tokenizer."""
    tokenizer = load_surrogate("fute-mini").tokenizer
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=32128,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=tokenizer.eos_token_id,
        dropout_rate=0.0,
        **SHAPES[shape],
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_bed(shape: str, folder: Path) -> Bed:
    """Load one shape in both ways."""
    save_random_t5(shape, folder)
    surrogate = load_surrogate(folder, max_length=TOKENS)
    stock = AutoModelForSeq2SeqLM.from_pretrained(folder).eval().requires_grad_(False)
    words = [w for w in surrogate.tokenizer.get_vocab() if w.isalpha() and len(w) > 3]
    rng = np.random.default_rng(0)
    count = max(FISHER_ROWS, SAMPLE_STEPS * BATCH)
    texts = [" ".join(rng.choice(sorted(words), TOKENS + 4)) for _ in range(count)]
    return Bed(surrogate, stock, texts)


def plain_inputs(bed: Bed) -> tuple[Tensor, Tensor]:
    """Token ids and mask of the timed texts."""
    encoded = encode_texts(bed.surrogate, bed.texts[:BATCH])
    ids, mask = encoded.batch_ids(np.arange(BATCH))
    return ids, mask


def prompted_cache(
    stock: T5ForConditionalGeneration, states: Tensor, prefix: Tensor
) -> EncoderDecoderCache:
    """Stock cache with a prefix (layers, 4, H, P, d_kv) laid before its keys."""
    config, size = stock.config, len(states)
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    shape = (size, -1, config.num_heads, config.d_kv)
    for i, block in enumerate(stock.decoder.block):
        parts = [prefix[i, j][None].expand(size, -1, -1, -1) for j in range(4)]
        attention = block.layer[1].EncDecAttention
        keys = attention.k(states).view(shape).transpose(1, 2)
        values = attention.v(states).view(shape).transpose(1, 2)
        cache.self_attention_cache.update(parts[0], parts[1], i)
        cache.cross_attention_cache.update(
            torch.cat([keys, parts[2]], 2), torch.cat([values, parts[3]], 2), i
        )
        cache.is_updated[i] = True
    return cache


def plain_prompt(bed: Bed, feed_input: bool) -> Callable[[], None]:
    """Steps of prompt tuning; ``feed_input`` also feeds the text to the decoder."""
    stock = bed.stock
    ids, mask = plain_inputs(bed)
    settings = TuPaTEEmbedder(tuning="prompt").settings(0)
    start = initial_parameters(bed.surrogate, settings)["prefix"]
    prefix = torch.from_numpy(start).requires_grad_()
    optimizer = torch.optim.AdamW([prefix], lr=1e-3)
    first = torch.zeros(BATCH, 1, dtype=torch.long)
    tokens = torch.cat([first, ids], 1) if feed_input else first
    long = torch.ones(BATCH, prefix.shape[3] + mask.shape[1])
    wanted = torch.full((BATCH,), 2000)

    def steps() -> None:
        for _ in range(SAMPLE_STEPS):
            with torch.no_grad():
                states = stock.encoder(ids, attention_mask=mask).last_hidden_state
            logits = stock(
                encoder_outputs=(states,),
                attention_mask=long,
                decoder_input_ids=tokens,
                **{cache_argument(stock): prompted_cache(stock, states, prefix)},
            ).logits[:, -1]
            optimizer.zero_grad()
            F.cross_entropy(logits, wanted).backward()
            optimizer.step()

    return steps


def plain_low_rank(bed: Bed) -> Callable[[], None]:
    """Steps of low-rank tuning of the cross-attention through peft."""
    from peft import LoraConfig, get_peft_model

    settings = TuPaTEEmbedder(tuning="lora").settings(0)
    model = get_peft_model(
        AutoModelForSeq2SeqLM.from_pretrained(bed.surrogate.folder),
        LoraConfig(
            r=settings.rank,
            lora_alpha=settings.rank,
            target_modules=r"decoder.*EncDecAttention\.[qkvo]",
        ),
    )
    ids, mask = plain_inputs(bed)
    wanted = torch.full((BATCH,), 2000)
    tokens = torch.zeros(BATCH, 1, dtype=torch.long)
    tuned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(tuned, lr=1e-3)

    def steps() -> None:
        for _ in range(SAMPLE_STEPS):
            logits = model(
                input_ids=ids, attention_mask=mask, decoder_input_ids=tokens
            ).logits[:, -1]
            optimizer.zero_grad()
            F.cross_entropy(logits, wanted).backward()
            optimizer.step()

    return steps


def fisher_loss(bed: Bed, label: int) -> Callable[..., Tensor]:
    """Log-likelihood of one example as a function of the weights."""
    surrogate = bed.surrogate
    arch = surrogate.architecture
    objective = LabelObjective(
        surrogate, [label_tree(surrogate, ["positive", "negative"])]
    )

    def loss(weights: dict[str, Tensor], ids: Tensor, mask: Tensor) -> Tensor:
        ops = Ops(weights, arch.epsilon)
        states = encode(ops, arch, ids[None], padded_attention(ops, arch, mask[None]))
        memory = remember(ops, arch, states, mask[None])
        hidden = decode(ops, arch, memory, objective.targets(np.arange(1)))
        return objective.log_proba(ops, hidden)[0, 0, label]

    return loss
