"""The scripts that train the built-in surrogate go on where they were stopped."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

TOOLS = Path(__file__).parents[1] / "tools" / "pretrain"


@pytest.fixture
def spans(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module("span_corruption")


@pytest.fixture
def work(tmp_path, save_t5):
    """A tiny encoder and a tokenised corpus, as stage a leaves them."""
    save_t5("encoder", eos_token_id=102)
    rng = np.random.default_rng(0)
    lengths = np.sort(rng.integers(6, 20, 60))
    rows = [[101, *rng.integers(110, 380, n - 2), 102] for n in lengths]
    np.savez(
        tmp_path / "tokens.npz",
        flat=np.concatenate(rows).astype(np.int32),
        lengths=lengths.astype(np.int32),
    )
    return tmp_path


@pytest.fixture
def settings():
    found = json.loads((TOOLS / "config.json").read_text())
    found["spans"] |= {"batch_tokens": 128, "steps": 6}
    return found


@pytest.mark.parametrize("length", [4, 5, 8, 30, 64])
def test_rest_and_spans_hold_the_whole_text(spans, length):
    row = np.array([101, *range(1000, 1000 + length - 2), 102])
    starts = set()
    for seed in range(20):
        rest, lost = spans.cut_spans(row, np.random.default_rng(seed), 0.15, 3)
        assert rest[0] == 101
        assert rest[-1] == lost[-1] == 102
        pieces = {}
        for token in lost[:-1]:
            if token <= spans.N_SENTINELS:
                pieces[token] = []
            else:
                pieces[max(pieces)].append(token)
        assert all(pieces.values())
        assert list(pieces) == [t for t in rest if t in pieces] != []
        whole = [t for token in rest for t in pieces.get(token, [token])]
        assert whole == row.tolist()
        n_lost = sum(map(len, pieces.values()))
        assert n_lost == max(1, round(0.15 * (length - 2)))
        starts.add(lost[1])
    assert len(starts) > 1, "the same place is lost every time"


def test_stopped_denoising_goes_on_to_the_same_weights(spans, work, settings):
    def run(steps):
        found = spans.Denoiser(work, work / "no corpus", settings)
        while found.step < steps:
            found.train_step()
        return found

    whole = run(6)
    part = run(3)
    part.save()
    resumed = run(6)
    assert resumed.step == 6
    start = spans.T5ForConditionalGeneration.from_pretrained(work / "encoder")
    learnt = dict(start.named_parameters())
    for key, value in whole.weights.items():
        assert torch.equal(value, resumed.weights[key])
        assert not torch.equal(value, learnt[key])
    assert torch.equal(whole.model.shared.weight, start.shared.weight)
    assert "words cut out" in resumed.held_out()
