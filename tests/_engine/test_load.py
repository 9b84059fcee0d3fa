"""Finding, loading and fingerprinting surrogates."""

import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from fute_sklearn import TextEmbedder, TuPaTEEmbedder
from fute_sklearn._engine import _load, _saved_weights, load_surrogate
from fute_sklearn._engine._tuned_parameters import initial_parameters
from fute_sklearn.exceptions import SurrogateError, SurrogateNotFoundError
from fute_sklearn.testing import TINY_SURROGATE


def test_a_surrogate_is_loaded_once():
    assert load_surrogate(TINY_SURROGATE) is load_surrogate(TINY_SURROGATE)


def test_missing_folder(tmp_path):
    with pytest.raises(SurrogateNotFoundError, match="does not exist"):
        load_surrogate(tmp_path / "nowhere")


@pytest.mark.filterwarnings("ignore")
def test_unreachable_hub_says_the_remedy(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SurrogateNotFoundError, match="needs no network"):
        load_surrogate("somebody/no-such-t5")


def test_no_encoder_decoder(tmp_path):
    from transformers import BertConfig

    BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(SurrogateError, match="no encoder-decoder"):
        load_surrogate(tmp_path / "bert")


def test_another_encoder_decoder(tmp_path):
    from transformers import BartConfig

    BartConfig().save_pretrained(tmp_path / "bart")
    with pytest.raises(SurrogateError, match="of another family"):
        load_surrogate(tmp_path / "bart")


def test_pickled_weights_are_refused(save_t5):
    import torch

    folder = save_t5()
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(SurrogateNotFoundError, match="safetensors"):
        load_surrogate(folder)


def test_fingerprint_follows_weights_length_and_dtype(save_t5):
    one = load_surrogate(save_t5("one")).fingerprint
    assert one == load_surrogate(save_t5("same")).fingerprint
    others = {
        load_surrogate(save_t5("two", d_ff=48)).fingerprint,
        load_surrogate(save_t5("one"), max_length=64).fingerprint,
        load_surrogate(save_t5("one"), dtype="bfloat16").fingerprint,
        load_surrogate(save_t5("one"), dtype="int8").fingerprint,
    }
    assert len(others | {one}) == 5


def test_wrong_dtype():
    with pytest.raises(ValueError, match="float32"):
        load_surrogate(TINY_SURROGATE, dtype="float8")


def test_changed_surrogate_is_refused_after_the_fit(save_t5, texts, labels):
    from fute_sklearn.exceptions import FingerprintMismatchError

    est = TextEmbedder(save_t5("one")).fit(texts, labels)
    est.set_params(surrogate=save_t5("two", d_ff=48))
    with pytest.raises(FingerprintMismatchError, match="not the one of the fit"):
        est.transform(texts)


def test_cuda_where_there_is_none():
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(ValueError, match='device="auto"'):
        load_surrogate(TINY_SURROGATE, device="cuda")


def test_a_learnt_start_of_prefixes_is_used_and_names_the_space(save_t5):
    plain, taught = save_t5("plain"), save_t5("taught")
    learnt = np.random.default_rng(0).normal(size=(2, 4, 2, 3, 8)).astype(np.float32)
    save_file({"prefix": learnt}, taught / "starts.safetensors")
    one, other = load_surrogate(plain), load_surrogate(taught)
    assert one.weights_fingerprint != other.weights_fingerprint
    for length in (2, 5):
        how = TuPaTEEmbedder(tuning="prompt", prefix_length=length).settings(0)
        found = initial_parameters(other, how)["prefix"]
        np.testing.assert_array_equal(found[:, :, :, :3], learnt[:, :, :, :length])
        assert np.abs(found[:, :, :, 3:]).max(initial=0) < 1
        assert found.shape[3] == length


FORMS = {
    "v1.0": {},
    "v1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "deeper decoder": {"num_layers": 1, "num_decoder_layers": 3},
    "mt5": {"mt5": True},
}


@pytest.mark.parametrize("form", FORMS)
def test_weights_are_read_as_stock_transformers_reads_them(form, save_t5, monkeypatch):
    """Without the model's classes, and from several files, by these: all the same."""
    from transformers import AutoModelForSeq2SeqLM

    folder = save_t5("one", **FORMS[form])
    own = load_surrogate(folder)
    with monkeypatch.context() as patch:
        patch.setattr(_load, "saved_weights", lambda folder, config: None)
        _load._LOADED.clear()
        stock = load_surrogate(folder)
    assert set(own.weights) == set(stock.weights)
    for name, weight in stock.weights.items():
        assert (own.weights[name] == weight).all(), name
    assert own.fingerprint == stock.fingerprint
    parts = folder.parent / "parts"
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    model.save_pretrained(parts, max_shard_size="20KB")
    own.tokenizer.save_pretrained(parts)
    assert not (parts / "model.safetensors").exists()
    assert load_surrogate(parts).fingerprint == own.fingerprint


def test_a_head_of_its_own_is_left_to_stock(save_t5):
    from safetensors.numpy import load_file
    from transformers import AutoConfig

    folder = save_t5()
    config = AutoConfig.from_pretrained(folder)
    assert set(_saved_weights.saved_weights(folder, config)) > {"shared.weight"}
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights["lm_head.weight"] = weights["shared.weight"] + 1
    save_file(weights, path, metadata={"format": "pt"})
    assert _saved_weights.saved_weights(folder, config) is None
    del weights["lm_head.weight"], weights["encoder.final_layer_norm.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    assert _saved_weights.saved_weights(folder, config) is None


def test_weights_that_are_cut_short_are_named(save_t5):
    folder = save_t5()
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SurrogateNotFoundError, match="save the model again"):
        load_surrogate(folder)


def test_no_model_class_is_imported_for_the_shipped_surrogate():
    code = """
import sys
from fute_sklearn._engine import _load, _saved_weights, load_surrogate
load_surrogate("fute-mini")
print([m for m in sys.modules if m.startswith("transformers.models.t5.modeling")])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
