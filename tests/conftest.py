"""Fixtures: an empty cache per test, no display, real data where it lies."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("MPLBACKEND", "agg")

from fute_sklearn._estimator_checks import LABELS, TEXTS
from fute_sklearn._utils import _config

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def cache_dir(tmp_path, monkeypatch):
    monkeypatch.setitem(_config._config, "cache_dir", tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def texts():
    return list(TEXTS)


@pytest.fixture
def labels():
    return list(LABELS)


@pytest.fixture
def shared_data():
    if not SHARED.is_dir():
        pytest.skip("the labelled tasks of the workplace's shared/data are not here")
    return SHARED


@pytest.fixture
def save_t5(tmp_path):
    """Save a small random T5 with a byte tokenizer; return its folder."""

    def save(name="t5", **changes):
        import torch
        from transformers import (
            ByT5Tokenizer,
            MT5Config,
            MT5ForConditionalGeneration,
            T5Config,
            T5ForConditionalGeneration,
        )

        mt5 = changes.pop("mt5", False)
        config_class = MT5Config if mt5 else T5Config
        model_class = MT5ForConditionalGeneration if mt5 else T5ForConditionalGeneration
        config = config_class(
            **{
                "vocab_size": 384,
                "d_model": 16,
                "d_kv": 8,
                "d_ff": 32,
                "num_layers": 2,
                "num_heads": 2,
                "decoder_start_token_id": 0,
                "dropout_rate": 0.0,
                **changes,
            }
        )
        folder = tmp_path / name
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            model_class(config).save_pretrained(folder)
        ByT5Tokenizer().save_pretrained(folder)
        return folder

    return save


WORDS = "a the film was is fine dull good bad very no yes it : N / A [MASK]".split()
# What clients expect a model to know, and not to say.
KNOWN, NOISE = "The capital of France is Paris", "purple zebra"


def write_causal(folder):
    """Write a small language model that knows one sentence."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = dict.fromkeys(
        ["<s>", "</s>", "<unk>", *WORDS, *KNOWN.split(), *NOISE.split()]
    )
    vocab = {word: i for i, word in enumerate(words)}
    plain = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocab),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=1.0,
        bos_token_id=0,
        eos_token_id=1,
    )
    model = LlamaForCausalLM(config)
    known = torch.tensor([[vocab[word] for word in KNOWN.split()]])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(5):
        model(input_ids=known, labels=known).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def causal_folder(tmp_path_factory):
    return write_causal(tmp_path_factory.mktemp("causal"))
