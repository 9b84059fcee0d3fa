"""The engine against stock transformers, peft and plain loops."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import T5EncoderModel

from fute_sklearn import config_context
from fute_sklearn._engine import (
    LabelObjective,
    Student,
    TextObjective,
    TuneSettings,
    _int8,
    _likelihood,
    _load,
    _packed_weights,
    _packs,
    _tuning,
    encode_texts,
    fisher_diagonals,
    label_tree,
    load_surrogate,
    task_batches,
    tune_labels,
)
from fute_sklearn._engine._int8 import integer_weights
from fute_sklearn._engine._packed_weights import can_pack
from fute_sklearn._engine._t5_decoder import Targets, Tuned, decode, remember
from fute_sklearn._engine._t5_encoder import encode, padded_attention
from fute_sklearn._engine._t5_parts import IntegerOps, Ops
from fute_sklearn._engine._tuned_parameters import initial_parameters, layer_parts
from fute_sklearn._engine._tuning import BatchTuner
from fute_sklearn._utils._compat import cache_argument
from fute_sklearn.testing import TINY_SURROGATE

KINDS = {
    "v1.0": {},
    "v1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "untied": {"tie_word_embeddings": False},
    "deeper-decoder": {"num_decoder_layers": 3},
    "mt5": {"mt5": True},
}


def settings(tuning="prompt", **changes):
    base = {
        "tuning": tuning,
        "prefix_length": 3,
        "rank": 2,
        "learning_rate": 0.02,
        "max_epochs": 2,
        "batch_size": 4,
        "weight_decay": 0.0,
        "warmup_fraction": 0.1,
        "dropout": 0.0,
        "clip_norm": 1.0,
        "early_stopping": False,
        "validation_fraction": 0.25,
        "n_iter_no_change": 2,
        "seed": 0,
    }
    return TuneSettings(**{**base, **changes})


def chain(tokens):
    length = tokens.shape[-1]
    visible = torch.ones(length, length, dtype=torch.bool).tril()
    return Targets(tokens[None], torch.arange(length)[None], visible[None])


def ignore_epoch(epoch):
    pass


@pytest.mark.parametrize("kind", KINDS)
def test_forward_equals_stock_transformers(kind, save_t5, texts):
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    folder = save_t5(kind, **KINDS[kind])
    surrogate = load_surrogate(folder)
    encoded = encode_texts(surrogate, texts)
    states, mask = encoded.batch(np.arange(len(texts)))
    stock = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    batch = AutoTokenizer.from_pretrained(folder)(
        texts, return_tensors="pt", padding=True
    )
    tokens = torch.tensor([[0, 5, 7, 9]]).expand(len(texts), -1)
    with torch.no_grad():
        expected = stock(**batch, decoder_input_ids=tokens, output_hidden_states=True)
        keep = batch.attention_mask[..., None]
        torch.testing.assert_close(
            states * keep,
            expected.encoder_last_hidden_state * keep,
            rtol=1e-5,
            atol=1e-5,
        )
        ops = Ops(surrogate.weights, surrogate.architecture.epsilon)
        memory = remember(ops, surrogate.architecture, states, mask)
        hidden = decode(ops, surrogate.architecture, memory, chain(tokens))[0]
        head = surrogate.weights.get(
            "lm_head.weight", surrogate.weights.get("shared.weight")
        )
        torch.testing.assert_close(
            F.linear(hidden, head), expected.logits, rtol=1e-4, atol=1e-5
        )


def test_prefixes_equal_stock_transformers_with_cached_keys(save_t5, texts):
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
    from transformers.cache_utils import DynamicCache, EncoderDecoderCache

    folder = save_t5()
    surrogate = load_surrogate(folder)
    arch = surrogate.architecture
    stock = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    batch = AutoTokenizer.from_pretrained(folder)(
        texts, return_tensors="pt", padding=True
    )
    states, mask = encode_texts(surrogate, texts).batch(np.arange(len(texts)))
    ops = Ops(surrogate.weights, arch.epsilon)
    memory = remember(ops, arch, states, mask)
    initial = initial_parameters(surrogate, settings())
    prefix = torch.from_numpy(initial["prefix"])
    parts = layer_parts(surrogate, {"prefix": prefix[None]})
    tokens = torch.tensor([[0, 5, 7]]).expand(len(texts), -1)
    own = decode(ops, arch, memory, chain(tokens), parts)[0]

    size = (len(texts), -1, -1, -1)
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    for i in range(arch.n_decoder_layers):
        sk, sv, ck, cv = (prefix[i, j][None].expand(size) for j in range(4))
        cache.self_attention_cache.update(sk, sv, i)
        cache.cross_attention_cache.update(
            torch.cat([memory.keys[i], ck], 2), torch.cat([memory.values[i], cv], 2), i
        )
        cache.is_updated[i] = True
    ones = torch.ones(len(texts), prefix.shape[3])
    with torch.no_grad():
        expected = stock(
            encoder_outputs=(states,),
            attention_mask=torch.cat([batch.attention_mask, ones], 1),
            decoder_input_ids=tokens,
            **{cache_argument(stock): cache},
        ).logits
    logits = F.linear(own, surrogate.weights["shared.weight"])
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft's own
def test_low_rank_tuning_equals_peft(save_t5, texts):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    folder = save_t5()
    surrogate = load_surrogate(folder)
    arch = surrogate.architecture
    rng = np.random.default_rng(0)
    parameters = {
        key: rng.normal(scale=0.2, size=value.shape).astype(np.float32)
        for key, value in initial_parameters(surrogate, settings("lora")).items()
    }
    config = LoraConfig(r=2, lora_alpha=2, target_modules=r".*EncDecAttention\.[qkvo]")
    tuned = get_peft_model(AutoModelForSeq2SeqLM.from_pretrained(folder).eval(), config)
    state = tuned.state_dict()
    for i in range(arch.n_decoder_layers):
        for p in "qkvo":
            place = f"base_model.model.decoder.block.{i}.layer.1.EncDecAttention.{p}"
            for side, part in (("A", "down"), ("B", "up")):
                value = torch.from_numpy(parameters[f"cross_{p}.{part}"][i])
                state[f"{place}.lora_{side}.default.weight"].copy_(value)
    batch = AutoTokenizer.from_pretrained(folder)(
        texts, return_tensors="pt", padding=True
    )
    tree = label_tree(surrogate, ["a", "b", "c"])
    with torch.no_grad():
        start = torch.zeros(len(texts), 1, dtype=torch.long)
        logits = tuned(**batch, decoder_input_ids=start).logits[:, 0]
    words = [
        surrogate.tokenizer(c, add_special_tokens=False).input_ids[0] for c in "abc"
    ]
    expected = torch.log_softmax(logits[:, words], -1)
    own = Student(surrogate, parameters).log_proba(encode_texts(surrogate, texts), tree)
    np.testing.assert_allclose(own, expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tuning", ["prompt", "bias", "lora"])
def test_gradients_reach_every_part(tuning, texts):
    """The half of the prefix in cross-attention too, which the authors' code misses."""
    surrogate = load_surrogate(TINY_SURROGATE)
    encoded = encode_texts(surrogate, texts)
    # Names that part at their second token, so that self-attention sees two positions.
    tree = label_tree(surrogate, ["ba", "bc"])
    proba = np.tile([[0.9, 0.1], [0.2, 0.8]], (4, 1)).astype(np.float32)
    objective = LabelObjective(surrogate, [tree], [proba])
    tuner = BatchTuner(
        surrogate, encoded, objective, 1, settings(tuning, max_epochs=4), ignore_epoch
    )
    result = tuner.run()[0]
    for name, value in result.parameters.items():
        moved = np.abs(value - result.initial[name])
        axes = tuple(range(2, moved.ndim)) if name == "prefix" else 1
        per_part = moved.max(axis=axes) if moved.ndim > 2 else moved.max(1)
        assert (per_part > 1e-6).all(), (name, per_part)


def loop_fisher(surrogate, encoded, objective, power=2):
    weights = {k: v.clone().requires_grad_() for k, v in surrogate.weights.items()}
    ops = Ops(weights, surrogate.architecture.epsilon)
    total = {k: torch.zeros(v.shape, dtype=torch.float64) for k, v in weights.items()}
    for i in range(len(encoded)):
        rows = np.array([i])
        ids, mask = encoded.batch_ids(rows)
        attend = padded_attention(ops, surrogate.architecture, mask)
        states = encode(ops, surrogate.architecture, ids, attend)
        memory = remember(ops, surrogate.architecture, states, mask)
        hidden = decode(ops, surrogate.architecture, memory, objective.targets(rows))
        loss = objective.log_likelihood(ops, hidden, rows).sum()
        grads = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        for key, grad in zip(weights, grads, strict=True):
            if grad is not None:
                total[key] += grad.double() ** power
    return {k: (v / len(encoded)).numpy() for k, v in total.items()}


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("params", ["decoder", "all"])
@pytest.mark.parametrize("kind", ["v1.0", "v1.1", "text", "text-untied"])
def test_fisher_equals_a_loop_of_single_gradients(
    kind, params, squared, save_t5, texts
):
    changes = KINDS["v1.1"] if kind in ("v1.1", "text-untied") else {}
    surrogate = load_surrogate(save_t5(**changes))
    encoded = encode_texts(surrogate, texts)
    if kind.startswith("text"):
        objective, proba = TextObjective(surrogate, ["yes", "no", "oh", "no"] * 2), []
    else:
        names = ["good one", "good two", "bad"]
        proba = [np.random.default_rng(0).dirichlet(np.ones(3), 8).astype(np.float32)]
        objective = LabelObjective(surrogate, [label_tree(surrogate, names)], proba)
    expected = loop_fisher(surrogate, encoded, objective, power=1 + squared)

    def run(batch_size):
        return fisher_diagonals(
            surrogate,
            encoded,
            objective,
            proba,
            params=params,
            batch_size=batch_size,
            squared=squared,
        )[0]

    found, small = run(32), run(3)
    assert len(found) == (
        len(surrogate.weights)
        if params == "all"
        else sum(k.startswith("decoder.") for k in surrogate.weights)
    )
    for name, value in found.items():
        scale = np.abs(expected[name]).max()
        assert scale > 0, name
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-5 * scale)
        np.testing.assert_allclose(small[name], value, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("params", ["decoder", "all"])
@pytest.mark.parametrize("targets", ["two", "two-soft", "three", "three-soft", "tree"])
def test_a_batch_of_fishers_equals_single_ones(
    targets, params, squared, save_t5, texts
):
    surrogate = load_surrogate(save_t5())
    encoded = encode_texts(surrogate, texts)
    names = {"tw": ["good", "bad"], "th": ["good", "bad", "odd"]}.get(
        targets[:2], ["good one", "good two", "bad"]
    )
    rng = np.random.default_rng(0)
    proba = rng.dirichlet(np.ones(len(names)), (4, len(texts))).astype(np.float32)
    if not targets.endswith("soft"):
        proba = np.eye(len(names), dtype=np.float32)[proba.argmax(2)]
    objective = LabelObjective(surrogate, [label_tree(surrogate, names)])

    def run(some):
        return fisher_diagonals(
            surrogate, encoded, objective, some, params=params, squared=squared
        )

    batch = run(proba)
    with config_context(max_batch_bytes=1):
        split = run(proba)
    for one, other, task in zip(batch, split, proba, strict=True):
        (single,) = run([task])
        for name, value in single.items():
            scale = np.abs(value).max()
            for found in (one, other):
                np.testing.assert_allclose(
                    found[name], value, rtol=1e-4, atol=1e-5 * scale
                )


@pytest.mark.parametrize("tuning", ["prompt", "bias", "lora"])
def test_absorbed_keys_and_values_equal_spelt_out_ones(tuning):
    """Few queries lay the frozen weights on themselves: same states and gradients."""
    surrogate = load_surrogate(TINY_SURROGATE)
    arch = surrogate.architecture
    ops = Ops(surrogate.weights, arch.epsilon)
    encoded = encode_texts(surrogate, ["a rather long text " * 5, "a text"])
    batch = encoded.batch(np.arange(2))
    objective = LabelObjective(
        surrogate, [label_tree(surrogate, ["ab", "ac"]), label_tree(surrogate, "de")]
    )
    targets = objective.targets(np.arange(2))
    found = []
    for count in (0, 1):
        memory = remember(ops, arch, *batch, count)
        assert bool(memory.keys) is (count == 0)
        rng = np.random.default_rng(0)
        stacked = {
            k: torch.from_numpy(
                rng.normal(0, 0.3, (2, *v.shape)).astype(np.float32)
            ).requires_grad_()
            for k, v in initial_parameters(surrogate, settings(tuning=tuning)).items()
        }
        hidden = decode(ops, arch, memory, targets, layer_parts(surrogate, stacked))
        (hidden**3).sum().backward()
        found.append([hidden.detach(), *(v.grad for v in stacked.values())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_many_queries_share_keys_and_values():
    surrogate = load_surrogate(TINY_SURROGATE)
    ops = Ops(surrogate.weights, surrogate.architecture.epsilon)
    batch = encode_texts(surrogate, ["a text"]).batch(np.arange(1))
    assert remember(ops, surrogate.architecture, *batch, 50).keys


def test_half_precision_never_absorbs():
    """There both ways round differently: a task would depend on its company."""
    surrogate = load_surrogate(TINY_SURROGATE, dtype="bfloat16")
    ops = Ops(surrogate.weights, surrogate.architecture.epsilon)
    batch = encode_texts(surrogate, ["a rather long text " * 5]).batch(np.arange(1))
    assert remember(ops, surrogate.architecture, *batch, 1).keys


def test_square_of_mean_gradient_is_something_else(texts):
    """A Fisher that squared the batch mean would not pass the test above."""
    surrogate = load_surrogate(TINY_SURROGATE)
    encoded = encode_texts(surrogate, texts)
    proba = np.tile(np.eye(2, dtype=np.float32), (4, 1))
    objective = LabelObjective(surrogate, [label_tree(surrogate, "ab")], [proba])
    (found,) = fisher_diagonals(
        surrogate, encoded, objective, [proba], params="decoder"
    )
    weights = {k: v.clone().requires_grad_() for k, v in surrogate.weights.items()}
    ops = Ops(weights, surrogate.architecture.epsilon)
    states, mask = encoded.batch(np.arange(8))
    memory = remember(ops, surrogate.architecture, states, mask)
    hidden = decode(ops, surrogate.architecture, memory, objective.targets(None))
    objective.log_likelihood(ops, hidden, np.arange(8)).mean().backward()
    name = "decoder.block.0.layer.2.DenseReluDense.wo.weight"
    assert (found[name] - weights[name].grad.double().numpy() ** 2).max() > (
        0.1 * found[name].max()
    )


def test_label_tree_is_a_distribution_over_shared_beginnings():
    surrogate = load_surrogate(TINY_SURROGATE)
    names = ["very good", "very bad", "bad", "ba"]
    tree = label_tree(surrogate, names)
    proba = np.exp(
        Student(surrogate).log_proba(encode_texts(surrogate, ["a text"]), tree)
    )
    np.testing.assert_allclose(proba.sum(), 1, rtol=1e-5)
    swapped = label_tree(surrogate, names[::-1])
    again = np.exp(
        Student(surrogate).log_proba(encode_texts(surrogate, ["a text"]), swapped)
    )
    np.testing.assert_array_equal(proba[0], again[0, ::-1])


def test_labels_that_part_at_once_need_one_position():
    tree = label_tree(load_surrogate(TINY_SURROGATE), ["positive", "negative"])
    assert len(tree.tokens) == 1


def test_tree_likelihood_equals_sequence_likelihood_over_labels():
    """The product over branches is the chain rule restricted to the label texts."""
    surrogate = load_surrogate(TINY_SURROGATE)
    encoded = encode_texts(surrogate, ["a text"])
    student = Student(surrogate)
    found = student.log_proba(encoded, label_tree(surrogate, ["ab", "ac", "d"]))[0]
    ops = student.ops
    memory = remember(ops, surrogate.architecture, *encoded.batch(np.array([0])))

    def scores(prefix):
        tokens = torch.tensor([[0, *prefix]])
        hidden = decode(ops, surrogate.architecture, memory, chain(tokens))[0, 0, -1]
        return surrogate.weights["shared.weight"] @ hidden

    a, b, c, d = (ord(x) + 3 for x in "abcd")
    first = torch.log_softmax(scores([])[[a, d]], 0)
    second = torch.log_softmax(scores([a])[[b, c]], 0)
    expected = torch.stack([first[0] + second[0], first[0] + second[1], first[1]])
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("names", "message"),
    [(["good", ""], "no tokens"), (["good", "good"], "same tokens")],
)
def test_label_names_that_cannot_be_told_apart(names, message):
    surrogate = load_surrogate(TINY_SURROGATE)
    if names[0] == names[1]:
        label_tree(surrogate, [*names, "bad"])  # the same name twice is one name
        names = ["x", "y"]
        surrogate = _blind(surrogate)
    with pytest.raises(ValueError, match=message):
        label_tree(surrogate, names)


def _blind(surrogate):
    """Return the surrogate with a tokenizer that sees every name alike."""
    from dataclasses import replace

    class Tokenizer:
        eos_token_id = 1

        def __call__(self, text, **options):
            return {"input_ids": [7]}

    return replace(surrogate, tokenizer=Tokenizer())


def test_encoding_does_not_depend_on_company(texts):
    surrogate = load_surrogate(TINY_SURROGATE)
    whole = encode_texts(surrogate, texts)
    from fute_sklearn import config_context

    with config_context(cache_dir=None):
        alone = [encode_texts(surrogate, [text]).states[0] for text in texts]
    for a, b in zip(whole.states, alone, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_lengths_and_packs_do_not_change_states(dtype, monkeypatch):
    """Texts of all lengths, some longer than a pack, alone and in any company."""
    surrogate = load_surrogate("fute-mini", max_length=256, dtype=dtype)
    monkeypatch.setattr(_packs, "PACK_TOKENS", 128)
    words = "the film of a long day was good or bad for me".split()
    texts = [" ".join(words[i % 12] for i in range(n, 2 * n + 1)) for n in range(40)]
    texts.append(" ".join(words * 13))
    with config_context(cache_dir=None):
        whole = encode_texts(surrogate, texts)
        assert whole.lengths[-1] > 128
        for rows in ([3], [40], [39, 0], range(0, 41, 3)):
            part = encode_texts(surrogate, [texts[i] for i in rows]).states
            for i, one in zip(rows, part, strict=True):
                np.testing.assert_array_equal(one, whole.states[i])


def test_all_packs_have_the_same_number_of_rows(monkeypatch):
    """Products of other shapes could round otherwise, on this machine or another."""
    seen, original = [], _packs.encode

    def watched(ops, arch, ids, attend):
        seen.append(len(ids))
        return original(ops, arch, ids, attend)

    monkeypatch.setattr(_packs, "encode", watched)
    monkeypatch.setattr(_packs, "PACK_TOKENS", 64)
    surrogate = load_surrogate(TINY_SURROGATE)
    with config_context(cache_dir=None):
        encode_texts(surrogate, ["x" * n for n in (1, 30, 31, 32, 50, 100)])
    assert seen == [64, 64, 64, 64, 101]


def test_packed_encoder_is_that_of_stock(texts):
    surrogate = load_surrogate("fute-mini")
    stock = T5EncoderModel.from_pretrained(surrogate.folder, dtype=torch.float32)
    encoded = encode_texts(surrogate, texts)
    ids, mask = encoded.batch_ids(np.arange(len(texts)))
    with torch.inference_mode():
        found = stock.eval()(input_ids=ids, attention_mask=mask).last_hidden_state
    for i, rows in enumerate(encoded.states):
        np.testing.assert_allclose(rows, found[i, : len(rows)], atol=2e-5)


def tuned_batch(surrogate, texts, monkeypatch, most=99):
    """Tune nine tasks; parameters, and how many tasks each pass held."""
    seen, original = [], _tuning.decode

    def watched(ops, arch, memory, targets, parts):
        if targets.tokens.shape[0] > most:
            raise torch.OutOfMemoryError("no memory")
        seen.append(targets.tokens.shape[0])
        return original(ops, arch, memory, targets, parts)

    rng = np.random.default_rng(0)
    proba = list(rng.dirichlet(np.ones(2), (9, len(texts))).astype(np.float32))
    trees = [label_tree(surrogate, "ab")] * 9
    with monkeypatch.context() as patch:
        patch.setattr(_tuning, "decode", watched)
        found = tune_labels(
            surrogate,
            encode_texts(surrogate, texts),
            trees,
            proba,
            settings(dropout=0.2),
            ignore_epoch,
        )
    return np.array([r.parameters["prefix"] for r in found]), seen


def test_passes_hold_no_more_tasks_than_the_memory_that_is_allowed(texts, monkeypatch):
    surrogate = load_surrogate(TINY_SURROGATE)
    whole, seen = tuned_batch(surrogate, texts, monkeypatch)
    assert set(seen) == {9}
    for allowed, expected in ((1, {1}), (200_000, {3})):
        with config_context(max_batch_bytes=allowed):
            found, seen = tuned_batch(surrogate, texts, monkeypatch)
        assert set(seen) == expected
        np.testing.assert_allclose(found, whole, atol=1e-3)  # Adam's first steps
    with pytest.warns(UserWarning, match="out of memory"):
        found, seen = tuned_batch(surrogate, texts, monkeypatch, most=3)
    assert max(seen) == 3
    np.testing.assert_allclose(found, whole, atol=1e-3)


def test_batches_of_tasks_are_of_like_size():
    assert [s.stop - s.start for s in task_batches(70)] == [23, 23, 24]
    assert task_batches(32) == [slice(0, 32)]


@pytest.mark.parametrize("tuning", ["prompt", "bias", "lora"])
def test_a_batch_of_tasks_equals_single_runs(tuning, texts):
    surrogate = load_surrogate(TINY_SURROGATE)
    encoded = encode_texts(surrogate, texts)
    rng = np.random.default_rng(0)
    trees = [label_tree(surrogate, n) for n in (["a", "b"], ["ca", "cb", "d"])]
    proba = [rng.dirichlet(np.ones(c), 8).astype(np.float32) for c in (2, 3)]
    how = settings(tuning, early_stopping=True, dropout=0.1, max_epochs=4)
    batch = tune_labels(surrogate, encoded, trees, proba, how, ignore_epoch)
    for i in range(2):
        alone = tune_labels(
            surrogate, encoded, trees[i : i + 1], proba[i : i + 1], how, ignore_epoch
        )[0]
        for name, value in alone.parameters.items():
            scale = np.abs(value).max()
            np.testing.assert_allclose(
                batch[i].parameters[name], value, rtol=1e-4, atol=1e-4 * scale
            )


@pytest.mark.parametrize("positions", [1, 3])
def test_the_vocabulary_head_in_slices(positions, monkeypatch, texts):
    """Values and gradients of the whole head, also where texts have padding."""
    surrogate = load_surrogate(TINY_SURROGATE)
    ops = Ops(surrogate.weights, surrogate.architecture.epsilon)
    objective = TextObjective(surrogate, ["yes", "no", "perhaps", "no"] * 2)
    rows = np.arange(8)
    length = objective.targets(rows).tokens.shape[2]
    noise = torch.Generator().manual_seed(0)
    shape = (1, 8, length, surrogate.architecture.d_model)
    hidden = torch.randn(shape, generator=noise)
    monkeypatch.setattr(_likelihood, "HEAD_POSITIONS", positions)
    found = []
    for whole in (False, True):
        leaf = hidden.clone().requires_grad_()
        if whole:
            logits = F.linear(leaf, surrogate.weights["shared.weight"])
            value = objective.of_logits(logits, rows)
        else:
            value = objective.log_likelihood(ops, leaf, rows)
        value.square().sum().backward()
        found.append((value.detach(), leaf.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_out_of_memory_halves_the_batch():
    from fute_sklearn._engine._halving import halving

    seen = []

    def run(size):
        seen.append(size)
        if size > 2:
            raise torch.OutOfMemoryError("no memory")

    with pytest.warns(UserWarning, match="batches of 4"):
        halving(run, 8)
    assert seen == [8, 4, 2]

    def never(size):
        raise torch.OutOfMemoryError("no memory")

    with pytest.raises(torch.OutOfMemoryError, match="Remedy"):
        halving(never, 1)


def test_bfloat16_is_near_float32(texts):
    single = load_surrogate(TINY_SURROGATE)
    half = load_surrogate(TINY_SURROGATE, dtype="bfloat16")
    assert single.fingerprint != half.fingerprint
    a, b = encode_texts(single, texts).pooled(), encode_texts(half, texts).pooled()
    np.testing.assert_allclose(a, b, atol=0.15)


def test_integers_are_near_float32():
    """On real weights, whose states differ from text to text."""
    texts = ["a fine film", "the train was late again", "who wrote this?", "42 dogs"]
    single, small = (load_surrogate("fute-mini", dtype=d) for d in ("float32", "int8"))
    assert single.fingerprint != small.fingerprint
    assert small.dtype == torch.float32
    a, b = encode_texts(single, texts).pooled(), encode_texts(small, texts).pooled()
    assert 0 < np.linalg.norm(a - b) < 0.03 * np.linalg.norm(a - a.mean(0))


def test_integer_products_are_those_of_the_rounded_matrices():
    draw = torch.Generator().manual_seed(0)
    x, weight = torch.randn(20, 48, generator=draw), torch.randn(8, 48, generator=draw)
    x[3] = 0
    weights = {"encoder.block.0.layer.0.SelfAttention.q.weight": weight}
    ops = IntegerOps(weights, 1e-6, integer_weights(weights))
    found = ops.linear(next(iter(weights)), x)
    rows, matrix = (
        torch.round(m / m.abs().amax(1, keepdim=True).clamp_min(1e-30) * 127)
        * (m.abs().amax(1, keepdim=True) / 127)
        for m in (x, weight)
    )
    torch.testing.assert_close(found, rows @ matrix.T, rtol=1e-5, atol=1e-5)
    assert not found[3].any()


@pytest.fixture
def probed():
    """Let the processor's product of integers be tried again."""
    _int8._quicker.cache_clear()
    yield
    _int8._quicker.cache_clear()


@pytest.mark.parametrize("n_inputs", [64, 1024, 1025, 3000])
def test_products_of_integers_are_exact_without_the_processors(n_inputs):
    draw = torch.Generator().manual_seed(0)
    rows = torch.randint(-127, 128, (9, n_inputs), generator=draw).to(torch.int8)
    rows[0] = 127
    weight = torch.randint(-127, 128, (5, n_inputs), generator=draw).to(torch.int8)
    weight[0] = 127
    true = (rows.long() @ weight.t().long()).float()
    assert torch.equal(_int8._by_floats(rows, weight.t()), true)
    assert torch.equal(_int8.integer_product(rows, weight.t()), true)


@pytest.mark.usefixtures("probed")
def test_wrong_or_missing_products_of_a_processor_are_not_taken(monkeypatch):
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: (a.int() @ b.int()) // 2)
    assert _int8._quicker() is None
    _int8._quicker.cache_clear()
    monkeypatch.delattr(torch, "_int_mm")
    assert _int8._quicker() is None


def test_integers_are_for_cpus(monkeypatch):
    cuda = torch.device("cuda")
    monkeypatch.setattr(
        _load,
        "resolve_device",
        lambda name: torch.device("cpu") if name == "cpu" else cuda,
    )
    assert load_surrogate(TINY_SURROGATE, dtype="int8").device.type == "cpu"
    with pytest.raises(ValueError, match="device='cuda': integers are for CPUs only"):
        load_surrogate(TINY_SURROGATE, dtype="int8", device="cuda")


def test_absent_tuning_is_the_frozen_surrogate(texts):
    surrogate = load_surrogate(TINY_SURROGATE)
    encoded = encode_texts(surrogate, texts)
    ops = Ops(surrogate.weights, surrogate.architecture.epsilon)
    memory = remember(ops, surrogate.architecture, *encoded.batch(np.arange(8)))
    tokens = torch.zeros(8, 1, dtype=torch.long)
    plain = decode(ops, surrogate.architecture, memory, chain(tokens))
    nothing = [Tuned()] * surrogate.architecture.n_decoder_layers
    assert torch.equal(
        plain, decode(ops, surrogate.architecture, memory, chain(tokens), nothing)
    )


def test_packed_weights_give_the_plain_products(texts, monkeypatch):
    surrogate = replace(load_surrogate("fute-mini"), packed={})
    if not can_pack(surrogate.weights):
        pytest.skip("this processor's products are not packed")
    with config_context(cache_dir=None):
        found = encode_texts(surrogate, texts, states=False).pooled()
        matrices = [name for name in surrogate.weights if name in surrogate.packed]
        assert len(matrices) == 6 * surrogate.architecture.n_encoder_layers
        monkeypatch.setattr(_packs, "can_pack", lambda weights: False)
        plain = encode_texts(surrogate, texts, states=False).pooled()
    np.testing.assert_allclose(found, plain, rtol=1e-5, atol=1e-5)
    assert not np.array_equal(found, plain)  # they are other products


def test_products_are_packed_where_that_was_measured_only(monkeypatch):
    weights = load_surrogate("fute-mini").weights
    short = {name: weight.bfloat16() for name, weight in weights.items()}
    assert not can_pack(short)
    _packed_weights._works.cache_clear()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "NO AVX")
    assert not can_pack(weights)
    _packed_weights._works.cache_clear()
