"""Shapes are compared on what they were not trained on, and runs can be stopped."""

import importlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

TOOLS = Path(__file__).parents[2] / "tools" / "pretrain"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abdeiklmnorstu"
WORDS = ["".join(p) for p in itertools.product("bdklmnrst", "aeiou", "bdklmnrst")]
ENDS = ["##ai", "##on", "##ut", "##en"]


@pytest.fixture
def teacher(tmp_path):
    """A random teacher of one layer, with a WordPiece tokenizer as the real one's."""
    pieces = [*SPECIAL, *LETTERS, *(f"##{x}" for x in LETTERS), *WORDS, *ENDS]
    tokenizer = Tokenizer(
        WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]")
    )
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folder = tmp_path / "teacher model"
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=384,
        num_attention_heads=12,
        num_hidden_layers=1,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def shapes(monkeypatch, teacher):
    monkeypatch.syspath_prepend(TOOLS)
    found = importlib.import_module("shapes")
    distil = importlib.import_module("distil")
    monkeypatch.setattr(distil, "teacher_folder", lambda: teacher)
    return found


@pytest.fixture
def corpus(tmp_path):
    """Texts of 4 to 12 words, every third with an end that the words do not have."""
    rng = np.random.default_rng(0)
    chance = 1 / np.arange(1, len(WORDS) + 1)
    texts = []
    for _ in range(900):
        words = rng.choice(WORDS, rng.integers(4, 13), p=chance / chance.sum())
        ends = rng.choice(["", "", *(e[2:] for e in ENDS)], len(words))
        texts.append(" ".join(w + e for w, e in zip(words, ends, strict=True)))
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(texts))
    return path


@pytest.fixture
def settings():
    found = json.loads((TOOLS / "config.json").read_text())
    small = {"d_model": 32, "num_heads": 1, "d_ff": 32, "num_layers": 1}
    found["model"] |= small | {"num_decoder_layers": 1}
    found["distil"] |= {"batch_tokens": 256}
    found["decoder"] |= {"texts": 500, "pairs": 100, "slots": 4}
    found["decoder"] |= {"tasks_per_step": 1, "batch_size": 8}
    found["shapes"] = {
        "held_out_batches": 12,
        "distil": {"total_tokens": 1500, "warmup_steps": 2},
        "decoder": {"steps": 2, "measure_every": 2},
        "encoders": {"one": {}, "two": {"num_layers": 2}, "cut": {"vocabulary": 200}},
        "decoders": {"one": {}, "two": {"num_decoder_layers": 2}},
    }
    return found


def test_cut_tokenizer_keeps_the_commonest_and_spells_the_rest(shapes):
    whole = shapes.student_tokenizer()
    counts = np.zeros(len(whole), int)
    common = whole.convert_tokens_to_ids(["sad", "##on", "a", "##d", "t", "##ai"])
    counts[common] = [9, 8, 7, 7, 7, 1]
    letters = 2 * len(LETTERS)
    cut = shapes.cut_tokenizer(counts, len(SPECIAL) + letters + 2)
    assert len(cut) == len(SPECIAL) + letters + 2
    assert cut.tokenize("sadon tadai") == [
        "sad",
        "##on",
        "t",
        *"##a ##d ##a ##i".split(),
    ]
    assert cut.convert_ids_to_tokens(cut("sad")["input_ids"]) == [
        "[CLS]",
        "sad",
        "[SEP]",
    ]
    assert (cut.pad_token_id, cut.eos_token) == (0, "[SEP]")
    same = shapes.cut_tokenizer(counts, len(whole))
    assert same("sadon tadai")["input_ids"] == whole("sadon tadai")["input_ids"]


@pytest.mark.parametrize("size", [None, 200])
def test_students_are_matched_with_their_own_words(
    shapes, corpus, settings, size, tmp_path
):
    size = size or len(shapes.student_tokenizer())
    run = shapes.WordDistiller(tmp_path / "run", corpus, settings, size)
    assert len(run.tokenizer) == size
    whole = shapes.student_tokenizer()
    batch = run.batches[-1]
    texts = whole.batch_decode(batch, skip_special_tokens=True)
    read = {}

    def encoder(input_ids, attention_mask):
        read["ids"] = input_ids
        found = torch.stack([input_ids, attention_mask], dim=-1)
        return type("Output", (), {"last_hidden_state": found.float()})

    run.student.encoder.forward = encoder
    run.head = torch.nn.Identity()
    run.teacher.states = lambda index, ids, mask: ids[mask.bool()][:, None].float()
    guess, target, rows = run.states(len(run.batches) - 1)
    assert read["ids"].tolist() == run.tokenizer(texts, padding=True)["input_ids"]
    wanted, own, at = [], [], []
    for i, text in enumerate(texts):
        for word in ["[CLS]", *text.split(), "[SEP]"]:
            for tokenizer, found in ((whole, wanted), (run.tokenizer, own)):
                ids = tokenizer(word, add_special_tokens=False)["input_ids"]
                found.append(np.mean(ids))
            at.append(i)
    np.testing.assert_allclose(target[:, 0], wanted, rtol=1e-6)
    np.testing.assert_allclose(guess[:, 0], own, rtol=1e-6)
    assert rows.tolist() == at


@pytest.mark.parametrize("name", ["one", "cut"])
def test_stopped_distillation_goes_on_to_the_same_weights(
    shapes, corpus, settings, name, tmp_path
):
    def run(work, steps):
        shapes.Distiller(work, corpus, settings)  # cuts the batches that all share
        found = shapes.distiller(work, corpus, settings, name)
        while found.step < steps:
            found.train_step()
        return found

    whole = run(tmp_path / "whole", 4)
    run(tmp_path / "part", 2).save()
    resumed = run(tmp_path / "part", 4)
    first = run(tmp_path / "none", 0).student.state_dict()
    for key, value in resumed.student.state_dict().items():
        assert torch.equal(value, whole.student.state_dict()[key])
    key = "encoder.block.0.layer.0.SelfAttention.q.weight"
    assert not torch.equal(whole.student.state_dict()[key], first[key])


def test_tables_show_every_shape(
    shapes, corpus, settings, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(shapes, "N_TASKS", {False: 2, True: 1})
    monkeypatch.setattr(shapes, "N_PAIRS", 100)
    monkeypatch.setattr(importlib.import_module("train_decoder"), "HELD_OUT_ROWS", 60)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(settings))
    options = {"--corpus": corpus, "--work": tmp_path / "run", "--config": config}
    given = [str(part) for option in options.items() for part in option]
    monkeypatch.setattr("sys.argv", ["shapes.py", *given])
    shapes.main()
    lines = capsys.readouterr().out.splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    assert [row[0] for row in rows] == [
        "encoder",
        *"one two cut".split(),
        "decoder",
        *"one two".split(),
    ]
    for row in rows[1:4]:
        assert all(0 <= float(cell) <= 1 for cell in row[3:])
    assert float(rows[2][1]) > float(rows[1][1]) > float(rows[3][1]) > 0
    layer = 8 * 256**2 + 2 * 256 * 1024 + 3 * 256  # two attentions, feed-forward, norms
    grown = float(rows[-1][1]) - float(rows[-2][1])
    assert grown == pytest.approx(2e-6 * layer, abs=0.11)
    assert all("prompt 0." in row[-1] and "pairs:" in row[-1] for row in rows[-2:])
    # Trained already: the second call takes no step and comes to the same figures.
    shapes.main()
    out = capsys.readouterr().out
    assert "from step 0" not in out
    assert [line.split(" | ")[3:] for line in out.splitlines() if line[:2] == "| "] == [
        line.split(" | ")[3:] for line in lines if line[:2] == "| "
    ]


def test_shapes_trained_on_held_out_texts_are_refused(
    shapes, corpus, settings, tmp_path
):
    run = shapes.Distiller(tmp_path / "run", corpus, settings)
    held = shapes.HeldOut.__new__(shapes.HeldOut)
    held.first, run.step = 3, 4
    with pytest.raises(ValueError, match=r"4 steps reach .* from 3 on\. Remedy"):
        held.encoder_row(run)
