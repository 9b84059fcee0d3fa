"""The shipped surrogate, on real texts."""

import numpy as np

import fute_sklearn
from fute_sklearn import MomentEmbedder, TuPaTEEmbedder
from fute_sklearn.datasets import load_task_file


def test_shipped_surrogate_learns_a_real_task(shared_data):
    """Above the label prior by far, from 500 rows, with either kind of student."""
    splits = load_task_file(shared_data / "sst2.jsonl.gz")
    train, test = splits["train"], splits["test"]
    rows = np.random.default_rng(0).permutation(train.n_samples)[:500]
    X, y = [train.texts[i] for i in rows], train.y[rows]
    texts, truth = list(test.texts[:500]), test.y[:500]
    for embedder in (MomentEmbedder(), TuPaTEEmbedder()):
        found = embedder.fit(X, y).student_.predict(texts)
        assert (found == truth).mean() > 0.66


def test_shipped_surrogate_learns_opinions():
    """The same on texts that are always there: half of them positive."""
    from fute_sklearn.datasets import load_opinion_domains

    domains, _ = load_opinion_domains()
    X = np.array([text for task in domains.values() for text in task.texts])
    y = np.concatenate([task.y for task in domains.values()])
    rng = np.random.default_rng(0)
    rows = [rng.permutation(np.flatnonzero(y == c))[:500] for c in np.unique(y)]
    train, test = np.split(rng.permutation(np.concatenate(rows)), 2)
    for embedder in (MomentEmbedder(), TuPaTEEmbedder()):
        found = embedder.fit(X[train], y[train]).student_.predict(X[test])
        assert (found == y[test]).mean() > 0.75


def test_shipped_surrogate_is_a_stock_t5():
    from pathlib import Path

    from transformers import AutoTokenizer, T5ForConditionalGeneration

    folder = Path(fute_sklearn.__file__).parent / "_engine/data/fute-mini"
    model = T5ForConditionalGeneration.from_pretrained(folder)
    ids = AutoTokenizer.from_pretrained(folder)("a fine film", return_tensors="pt")
    assert model.encoder(input_ids=ids.input_ids).last_hidden_state.shape[-1] == 256
    assert sum(p.stat().st_size for p in folder.iterdir()) < 40 * 2**20
