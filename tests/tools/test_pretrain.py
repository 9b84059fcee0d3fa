"""The scripts that train the built-in surrogate go on where they were stopped."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from transformers import T5ForConditionalGeneration

TOOLS = Path(__file__).parents[2] / "tools" / "pretrain"


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
    found["multi_task"] |= {"tasks": 20, "tasks_per_step": 3, "steps": 6}
    return found


@pytest.fixture
def denoiser(spans, work, settings):
    return lambda: spans.Denoiser(work, work / "no corpus", settings)


@pytest.fixture
def multi_task(spans, work, settings):
    """Tasks over texts short enough for a tokenizer of bytes."""
    automatic = importlib.import_module("automatic_tasks")
    found = importlib.import_module("multi_task")
    tokenizer = found.load_surrogate(work / "encoder").tokenizer
    words = "sea sky red sun wet dry hot ice oak elm".split()
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(words, 6, False)) for _ in range(200)]
    counts = csr_matrix((rng.random((200, 300)) < 0.05).astype(float))
    axes = rng.normal(size=(200, 128))
    relations = np.stack([np.arange(200) % 4, *rng.random((2, 200))], axis=1)
    source = automatic.TaskSource(
        automatic.Pool(texts, axes, counts),
        automatic.Pool(texts, axes, counts, relations),
        words,
        rng.normal(size=(len(words), 128)),
        rng.normal(size=(300, 64)),
    )
    return lambda: found.MultiTask(work, source, tokenizer, settings)


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


@pytest.mark.parametrize("stage", ["denoiser", "multi_task"])
def test_stopped_text_to_text_goes_on_to_the_same_weights(stage, request, work):
    make = request.getfixturevalue(stage)

    def run(steps):
        found = make()
        while found.step < steps:
            found.train_step()
        return found

    whole = run(6)
    part = run(3)
    part.save()
    resumed = run(6)
    assert resumed.step == 6
    start = T5ForConditionalGeneration.from_pretrained(work / "encoder")
    learnt = dict(start.named_parameters())
    for key, value in whole.weights.items():
        assert torch.equal(value, resumed.weights[key])
        assert not torch.equal(value, learnt[key])
    assert torch.equal(whole.model.shared.weight, start.shared.weight)
    assert "commonest" in resumed.held_out()


@pytest.mark.parametrize("pairs", [True, False])
def test_a_task_is_asked_by_its_words_and_answered_by_the_right_one(multi_task, pairs):
    run = multi_task()
    task = next(t for t in run.tasks if t.pairs == pairs)._replace(noise=0.0)
    run.tasks = [task] * len(run.tasks)
    run.how["pair_share"] = float(pairs)
    source, target = run.batch()
    named = ", ".join(task.names)
    end = run.model.config.eos_token_id
    texts = run.texts[task.pairs]
    label_of = {
        run.tokenizer.decode(
            run.tokenizer(f"{named}: {text}")["input_ids"], skip_special_tokens=True
        ): task.names[k]
        for text, k in zip(texts, task.y, strict=True)
    }
    assert len(label_of) == len(texts)
    assert {*label_of.values()} == {*task.names}
    for ids, answer in zip(source, target, strict=True):
        asked = run.tokenizer.decode(ids[ids != 0], skip_special_tokens=True)
        written = answer[answer != -100]
        assert written[-1] == end
        assert run.tokenizer.decode(written[:-1]) == label_of[asked]
