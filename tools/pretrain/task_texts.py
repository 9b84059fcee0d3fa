"""Lay out what automatic tasks are drawn from: texts, the teacher's vectors, words."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from automatic_tasks import Pool, TaskSource, count_words, half_whitened, make_pairs
from distil import make_batches, student_tokenizer
from transformers import PreTrainedTokenizerFast


def batch_sentences(
    tokenizer: PreTrainedTokenizerFast, batch: np.ndarray, states: np.ndarray
) -> tuple[list[str], list[np.ndarray]]:
    """Take a batch's texts and the means of their tokens' states."""
    mask = batch != 0
    ends = np.cumsum(mask.sum(1))[:-1]
    texts = tokenizer.batch_decode(batch, skip_special_tokens=True)
    return texts, [part.mean(0) for part in np.split(states, ends)]


def sentence_vectors(
    work: Path, corpus: Path, how: dict, count: int
) -> tuple[list[str], np.ndarray]:
    """Take texts with the teacher's pooled vectors out of what stage a has kept."""
    store = work / f"sentences-{count}.npz"
    if not store.exists():
        batches = make_batches(corpus, work, how["max_length"], how["batch_tokens"])
        tokenizer = student_tokenizer()
        order = np.random.default_rng(0).permutation(len(batches))
        texts: list[str] = []
        vectors: list[np.ndarray] = []
        for index in order:
            path = work / "teacher" / f"{index}.npy"
            if not path.exists():
                continue
            states = np.load(path).astype(np.float32)
            some, means = batch_sentences(tokenizer, batches[index], states)
            texts += some
            vectors += means
            if len(texts) >= count:
                break
        partial = store.with_suffix(".partial.npz")
        np.savez(
            partial, texts=np.array(texts[:count]), vectors=np.array(vectors[:count])
        )
        os.replace(partial, store)
    with np.load(store) as data:
        return data["texts"].tolist(), data["vectors"]


def task_source(
    tokenizer: PreTrainedTokenizerFast,
    texts: list[str],
    vectors: np.ndarray,
    seed: int,
    n_pairs: int,
) -> TaskSource:
    """Lay out the texts, the pairs made of them, and the label words."""
    counts, counter = count_words(texts)
    axes = half_whitened(vectors)
    joined, firsts, relations = make_pairs(texts, vectors, n_pairs, seed)
    pairs = Pool(joined, half_whitened(firsts), counter.transform(joined), relations)
    # A word's meaning: the mean of the texts it occurs in.
    lexicon = counts.T @ axes / np.asarray(counts.sum(0)).T.clip(1e-9)
    lexicon = (lexicon - lexicon.mean(0)) / lexicon.std(0)
    names = counter.get_feature_names_out()
    rows = tokenizer(list(names), add_special_tokens=False)["input_ids"]
    plain = [
        i
        for i, (name, row) in enumerate(zip(names, rows, strict=True))
        if len(row) == 1 and name.isalpha() and len(name) > 2
    ]
    words = [str(names[i]) for i in plain]
    single = Pool(texts, axes, counts)
    return TaskSource(single, pairs, words, lexicon[plain], lexicon[:, :64])
