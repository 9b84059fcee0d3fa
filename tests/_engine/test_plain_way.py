"""Whole tuning runs of the engine against the reference way on stock modules.

The reference runs one task at a time, the encoder in every step, through transformers'
own classes, torch's optimizer and peft.
"""

import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from fute_sklearn import TuPaTEEmbedder
from fute_sklearn._engine import encode_texts, label_tree, load_surrogate, tune_labels
from fute_sklearn._engine._tuned_parameters import initial_parameters
from fute_sklearn._engine._tuning import batches
from fute_sklearn._utils._compat import cache_argument

EPOCHS, BATCH, RATE, SEED = 3, 4, 0.02, 5
NAMES = ["a", "b", "c"]
MODULES = ("q", "k", "v", "o")


def prompted(stock, batch, prefix):
    """Logits at the first position under a prefix (layers, 4, H, P, d_kv)."""
    config, size = stock.config, len(batch["input_ids"])
    states = stock.encoder(**batch).last_hidden_state
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    for i, block in enumerate(stock.decoder.block):
        sk, sv, ck, cv = (part[None].expand(size, -1, -1, -1) for part in prefix[i])
        attention = block.layer[1].EncDecAttention
        shape = (size, -1, config.num_heads, config.d_kv)
        keys = attention.k(states).view(shape).transpose(1, 2)
        values = attention.v(states).view(shape).transpose(1, 2)
        cache.self_attention_cache.update(sk, sv, i)
        cache.cross_attention_cache.update(
            torch.cat([keys, ck], 2), torch.cat([values, cv], 2), i
        )
        cache.is_updated[i] = True
    ahead = torch.ones(size, prefix.shape[3])
    return stock(
        encoder_outputs=(states,),
        attention_mask=torch.cat([batch["attention_mask"], ahead], 1),
        decoder_input_ids=torch.zeros(size, 1, dtype=torch.long),
        **{cache_argument(stock): cache},
    ).logits[:, 0]


def low_rank(stock, initial):
    """Wrap the cross-attention by peft; the tuned parameters by the engine's names."""
    from peft import LoraConfig, get_peft_model

    rank = initial["cross_q.down"].shape[1]
    how = LoraConfig(
        r=rank, lora_alpha=rank, target_modules=r"decoder.*EncDecAttention\.[qkvo]"
    )
    model = get_peft_model(stock, how)
    found = {}
    for i, block in enumerate(model.base_model.model.decoder.block):
        for p in MODULES:
            module = getattr(block.layer[1].EncDecAttention, p)
            for part, side in (("down", module.lora_A), ("up", module.lora_B)):
                weight = side["default"].weight
                weight.data.copy_(torch.from_numpy(initial[f"cross_{p}.{part}"][i]))
                found.setdefault(f"cross_{p}.{part}", []).append(weight)
    return model, found


def plain_run(folder, tuning, texts, proba, initial):
    """Tune one task; its parameters by name, stacked over the layers."""
    stock = AutoModelForSeq2SeqLM.from_pretrained(folder).eval().requires_grad_(False)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    words = [tokenizer(n, add_special_tokens=False).input_ids[0] for n in NAMES]
    if tuning == "prompt":
        prefix = torch.from_numpy(initial["prefix"].copy()).requires_grad_()
        tuned = {"prefix": [prefix]}

        def scores(batch):
            return prompted(stock, batch, prefix)
    else:
        model, tuned = low_rank(stock, initial)

        def scores(batch):
            start = torch.zeros(len(batch["input_ids"]), 1, dtype=torch.long)
            return model(**batch, decoder_input_ids=start).logits[:, 0]

    parameters = [p for parts in tuned.values() for p in parts]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0)
    lengths = np.array([len(tokenizer(text).input_ids) for text in texts])
    total = EPOCHS * -(-len(texts) // BATCH)
    warm = max(1, round(0.05 * total))
    rng, step = np.random.default_rng([SEED, len(texts)]), 0
    for _ in range(EPOCHS):
        for rows in batches(lengths, BATCH, rng):
            batch = tokenizer(
                [texts[i] for i in rows], return_tensors="pt", padding=True
            )
            log_proba = torch.log_softmax(scores(batch)[:, words], 1)
            loss = -(torch.from_numpy(proba[rows]) * log_proba).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            rate = RATE * min((step + 1) / warm, 1 - step / total)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            step += 1
    return {
        name: np.reshape([p.detach().numpy() for p in parts], initial[name].shape)
        for name, parts in tuned.items()
    }


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft's own
@pytest.mark.parametrize("tuning", ["prompt", "lora"])
def test_a_batch_of_tasks_equals_plain_runs_on_stock_modules(tuning, save_t5, texts):
    folder = save_t5()
    surrogate = load_surrogate(folder)
    how = TuPaTEEmbedder(
        tuning=tuning,
        prefix_length=3,
        dropout=0.0,
        weight_decay=0.0,
        clip_norm=1.0,
        learning_rate=RATE,
        max_epochs=EPOCHS,
        batch_size=BATCH,
    ).settings(SEED)
    initial = initial_parameters(surrogate, how)
    rng = np.random.default_rng(0)
    proba = rng.dirichlet(np.ones(3), (2, len(texts))).astype(np.float32)
    trees = [label_tree(surrogate, NAMES)] * 2
    batch = tune_labels(
        surrogate, encode_texts(surrogate, texts), trees, proba, how, lambda epoch: None
    )
    for found, own in zip(batch, proba, strict=True):
        expected = plain_run(folder, tuning, texts, own, initial)
        for name, value in found.parameters.items():
            moved = np.abs(expected[name] - initial[name]).max()
            assert moved > RATE  # else the comparison says nothing
            np.testing.assert_allclose(
                value, expected[name], rtol=1e-4, atol=1e-3 * moved
            )
