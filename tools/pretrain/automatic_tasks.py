"""Automatic tasks: questions about texts whose answers need no human label.

Sides and slices of random directions in the teacher's sentence space, its regions,
the label word that lies nearest, lexical questions, random linear models over words
and, on pairs of texts, how the second came from the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

FIRST_WORDS = "what who when where how which why is the i in do can".split()
MARKS = ["?", "!", ",", "(", '"', "#", "@", "http", ":", "-"]
SHARE = 0.06  # a class that holds less of the texts makes no task


class AutomaticTask(NamedTuple):
    """Label words, the texts they are asked of, and each text's label there."""

    names: list[str]
    pairs: bool
    y: np.ndarray
    noise: float


@dataclass(frozen=True)
class Pool:
    """Texts with what the tasks are made of; ``relations`` only for pairs."""

    texts: list[str]
    axes: np.ndarray  # (n, d) teacher vectors, half-whitened
    counts: csr_matrix  # (n, n_words), tf-idf
    relations: np.ndarray | None = None  # (n, 3): kind, shared words, likeness


def half_whitened(vectors: np.ndarray) -> np.ndarray:
    """Scale the main axes so that neither the first alone nor noise decide."""
    centred = vectors - vectors.mean(0)
    _, scale, axes = np.linalg.svd(centred[:5000], full_matrices=False)
    return centred @ axes.T / np.sqrt(scale / scale[0])


def make_pairs(
    texts: list[str], vectors: np.ndarray, count: int, seed: int
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Join texts to pairs; returns them, vectors of the firsts, and relations.

    Kinds: 0 some words of the first kept in order, 1 the same with foreign words in,
    2 a text near in the teacher's space, 3 any text.
    """
    rng = np.random.default_rng([seed, 7])
    fit = [i for i, t in enumerate(texts) if 6 <= len(t.split()) <= 22]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    joined, firsts, relations = [], [], []
    for i in rng.choice(fit, count):
        words = texts[i].split()
        others = rng.choice(fit, 400)
        kind = int(rng.integers(4))
        near = unit[others] @ unit[i]
        if kind <= 1:
            kept = [w for w in words if rng.random() < 0.6] or list(words)
            if kind == 1:
                foreign = texts[others[0]].split()
                for place in rng.choice(len(kept), max(1, len(kept) // 3)):
                    kept[place] = str(rng.choice(foreign))
            second, likeness = kept, 0.9 - 0.2 * kind
        else:
            near[others == i] = -1
            at = int(near.argmax()) if kind == 2 else 0
            second, likeness = texts[others[at]].split(), float(near[at])
        shared = len(set(words) & set(second)) / len(set(second))
        joined.append(" ".join([*words, *second]))
        firsts.append(i)
        relations.append((kind, shared, likeness))
    return joined, vectors[firsts], np.array(relations, np.float32)


class TaskSource:
    """Draw automatic tasks over single texts or pairs.

    Parameters
    ----------
    single, pairs : Pool
        The texts.
    words : list of str
        Label words.
    word_axes : ndarray (n_words, d)
        The teacher's vectors of the label words, as in ``Pool.axes``.
    lexicon : ndarray (n_columns, e)
        Vectors of the words that ``Pool.counts`` counts.
    """

    def __init__(
        self,
        single: Pool,
        pairs: Pool,
        words: list[str],
        word_axes: np.ndarray,
        lexicon: np.ndarray,
    ) -> None:
        self.single, self.pairs = single, pairs
        self.words, self.word_axes, self.lexicon = words, word_axes, lexicon
        self.lower = {id(p): [t.lower() for t in p.texts] for p in (single, pairs)}

    def draw(self, rng: np.random.Generator, pairs: bool) -> AutomaticTask:
        """Draw one task whose classes all hold enough of the texts."""
        pool = self.pairs if pairs else self.single
        kinds = [self._side, self._slices, self._regions, self._nearest]
        kinds += [self._lexical, self._linear]
        share = [0.2, 0.08, 0.27, 0.17, 0.1, 0.18]
        if pairs:
            kinds, share = [self._relation, self._linear, self._side], [0.7, 0.1, 0.2]
        while True:
            make = kinds[rng.choice(len(kinds), p=share)]
            y, names = make(rng, pool)
            counts = np.bincount(y)
            if len(counts) == 1 or counts.min() < SHARE * len(y):
                continue
            if names is None:
                chosen = rng.choice(len(self.words), len(counts), replace=False)
                names = [self.words[i] for i in chosen]
            noise = float(rng.choice([0.0, 0.05, 0.15], p=[0.7, 0.2, 0.1]))
            return AutomaticTask(names, pairs, y, noise)

    def _line(self, rng, pool):
        line = pool.axes[:, : int(rng.choice([32, 128, pool.axes.shape[1]]))]
        return line @ rng.normal(size=line.shape[1])

    def _side(self, rng, pool):
        line = self._line(rng, pool)
        return (line > np.quantile(line, rng.uniform(0.2, 0.8))).astype(int), None

    def _slices(self, rng, pool):
        line = self._line(rng, pool)
        cuts = np.sort(rng.uniform(0.1, 0.9, int(rng.integers(2, 5))))
        return np.searchsorted(np.quantile(line, cuts), line), None

    def _regions(self, rng, pool):
        """Assign texts to the nearest of some texts, several per class."""
        n_classes = int(rng.integers(2, 8))
        seeds = rng.choice(len(pool.texts), n_classes * int(rng.integers(1, 4)))
        columns = rng.choice(96, 24, replace=False)
        space = pool.axes[:, columns]
        space = space / np.linalg.norm(space, axis=1, keepdims=True)
        return (space @ space[seeds].T).argmax(1) % n_classes, None

    def _nearest(self, rng, pool):
        """Give each text the label word whose meaning is nearest."""
        chosen = rng.choice(len(self.words), int(rng.integers(2, 7)), replace=False)
        near = pool.axes @ self.word_axes[chosen].T
        y = ((near - near.mean(0)) / near.std(0)).argmax(1)
        return y, [self.words[i] for i in chosen]

    def _lexical(self, rng, pool):
        texts = self.lower[id(pool)]
        kind = rng.choice(["first", "mark", "length", "digit", "words"])
        if kind == "length":
            size = np.array([len(t.split()) for t in texts])
            return (size > np.quantile(size, rng.uniform(0.2, 0.8))).astype(int), None
        if kind == "digit":
            has = [any(c.isdigit() for c in t) for t in texts]
            return np.array(has, int), None
        if kind == "mark":
            mark = str(rng.choice(MARKS))
            return np.array([mark in t for t in texts], int), None
        if kind == "first":
            some = rng.permutation(FIRST_WORDS)[: int(rng.integers(3, 12))]
            n_groups = int(rng.integers(2, 5))
            group = {w: int(rng.integers(n_groups)) + 1 for w in some}
            found = np.array([group.get(t.split()[0], 0) for t in texts])
            return np.unique(found, return_inverse=True)[1], None
        columns = rng.choice(300, int(rng.integers(1, 8)), replace=False)
        has = np.asarray(pool.counts[:, columns].sum(1)).ravel() > 0
        return has.astype(int), None

    def _linear(self, rng, pool):
        """Copy a random sparse linear model over words of like meaning."""
        weights = self.lexicon @ rng.normal(size=self.lexicon.shape[1])
        weights += rng.uniform(0, 0.5) * weights.std() * rng.normal(size=len(weights))
        limit = np.quantile(np.abs(weights), rng.choice([0.0, 0.5, 0.8]))
        weights[np.abs(weights) < limit] = 0
        line = pool.counts @ weights
        line = line + 1e-6 * rng.normal(size=len(line))
        return (line > np.quantile(line, rng.uniform(0.2, 0.8))).astype(int), None

    def _relation(self, rng, pool):
        kind, shared, likeness = pool.relations.T
        if rng.random() < 0.6:
            group = rng.permutation(
                [0, 1, 1, 0] if rng.random() < 0.5 else [0, 0, 1, 2]
            )
            return group[kind.astype(int)], None
        line = shared + rng.uniform(0, 1.5) * likeness
        line = line + 1e-6 * rng.normal(size=len(line))
        cuts = np.sort(rng.uniform(0.2, 0.8, int(rng.integers(1, 3))))
        return np.searchsorted(np.quantile(line, cuts), line), None


def count_words(texts: list[str]) -> tuple[csr_matrix, TfidfVectorizer]:
    """Count the 8,000 most common words, most common first."""
    found = TfidfVectorizer(max_features=8000, token_pattern=r"[a-z']+|[?!]")
    counts = found.fit_transform(texts)
    order = np.argsort(-counts.getnnz(axis=0), kind="stable")
    names = found.get_feature_names_out()[order]
    vocabulary = {str(w): i for i, w in enumerate(names)}
    found = TfidfVectorizer(vocabulary=vocabulary, token_pattern=r"[a-z']+|[?!]")
    return found.fit_transform(texts), found
