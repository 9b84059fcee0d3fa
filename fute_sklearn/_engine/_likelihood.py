"""Decoder inputs and log-likelihoods of targets: label names or free texts.

Label names form a tree of tokens.  A label's probability is the product, over the
branching points on its path, of a softmax over the branches there, so that the
probabilities of the labels sum to 1.  Names that differ in their first token need one
decoder position and no end-of-sequence token.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ._load import Surrogate, head_of
from ._t5_decoder import Targets
from ._t5_parts import Ops

IMPOSSIBLE = -1e9
HEAD_POSITIONS = 512


@dataclass(frozen=True)
class LabelTree:
    """Decoder positions and branches of a set of label names.

    Attributes
    ----------
    tokens, depth : ndarray (T,)
        Input token and distance from the start of every position.
    visible : ndarray (T, T) of bool
        Which positions are ancestors.
    children : ndarray (T, W)
        Tokens that may follow; -1 where there are fewer than W.
    paths : ndarray (C, T * W)
        1 where a branch lies on the path of a label.
    """

    tokens: np.ndarray
    depth: np.ndarray
    visible: np.ndarray
    children: np.ndarray
    paths: np.ndarray


def label_tokens(surrogate: Surrogate, names: Sequence[str]) -> list[list[int]]:
    """Tokenise label names; raise if names have no tokens or the same tokens."""
    rows = [
        list(surrogate.tokenizer(name, add_special_tokens=False)["input_ids"])
        for name in names
    ]
    seen: dict[tuple[int, ...], str] = {}
    for name, row in zip(names, rows, strict=True):
        if not row:
            raise ValueError(
                f"the label name {name!r} has no tokens for this surrogate; labels "
                "are told apart by their names' text: give it a name with letters."
            )
        other = seen.setdefault(tuple(row), name)
        if other != name:
            raise ValueError(
                f"the label names {other!r} and {name!r} have the same tokens for this "
                "surrogate, so that it cannot tell them apart; rename one of them."
            )
    return rows


def label_tree(surrogate: Surrogate, names: Sequence[str]) -> LabelTree:
    """Build the tree of at least two label names."""
    rows = label_tokens(surrogate, names)
    end = surrogate.tokenizer.eos_token_id
    prefixes = {tuple(r[:i]) for r in rows for i in range(len(r))}
    rows = [[*r, end] if tuple(r) in prefixes else r for r in rows]
    branches: dict[tuple[int, ...], list[int]] = {}
    for row in rows:
        for i, token in enumerate(row):
            below = branches.setdefault(tuple(row[:i]), [])
            if token not in below:
                below.append(token)
    forks = [node for node, below in branches.items() if len(below) > 1]
    nodes = sorted({f[:i] for f in forks for i in range(len(f) + 1)})
    place = {node: i for i, node in enumerate(nodes)}
    width = max(len(branches[f]) for f in forks)
    children = np.full((len(nodes), width), -1, np.int64)
    paths = np.zeros((len(names), len(nodes), width), np.float32)
    for fork in forks:
        # Sorted, so that results do not depend on the order of the labels.
        below = sorted(branches[fork])
        children[place[fork], : len(below)] = below
        for c, row in enumerate(rows):
            if tuple(row[: len(fork)]) == fork and len(row) > len(fork):
                paths[c, place[fork], below.index(row[len(fork)])] = 1
    start = surrogate.architecture.start_token
    return LabelTree(
        tokens=np.array([n[-1] if n else start for n in nodes], np.int64),
        depth=np.array([len(n) for n in nodes], np.int64),
        visible=np.array([[n[: len(m)] == m for m in nodes] for n in nodes]),
        children=children,
        paths=paths.reshape(len(names), -1),
    )


def head_rows(ops: Ops, ids: Tensor) -> Tensor:
    """Rows of the output head for token ids."""
    weight = head_of(ops.weights)
    return F.embedding(ids, weight)


class LabelObjective:
    """Expected log-likelihood of label names under soft or hard targets.

    Parameters
    ----------
    surrogate : Surrogate
        Gives the device and dtype.
    trees : list of LabelTree
        One per task.
    proba : list of ndarray (n, C)
        Target distributions over each task's labels; may be empty for prediction.
    """

    def __init__(
        self,
        surrogate: Surrogate,
        trees: Sequence[LabelTree],
        proba: Sequence[np.ndarray] = (),
    ) -> None:
        device = surrogate.device
        self.n_classes = [len(tree.paths) for tree in trees]
        positions = max(len(t.tokens) for t in trees)
        width = max(t.children.shape[1] for t in trees)
        count, most = len(trees), max(self.n_classes)
        tokens = np.zeros((count, 1, positions), np.int64)
        depth = np.zeros((count, positions), np.int64)
        visible = np.tile(np.eye(positions, dtype=bool), (count, 1, 1))
        children = np.full((count, positions, width), -1, np.int64)
        paths = np.zeros((count, most, positions, width), np.float32)
        for k, tree in enumerate(trees):
            t, w = tree.children.shape
            tokens[k, 0, :t], depth[k, :t] = tree.tokens, tree.depth
            visible[k, :t, :t], children[k, :t, :w] = tree.visible, tree.children
            paths[k, : len(tree.paths), :t, :w] = tree.paths.reshape(-1, t, w)
        self._targets = Targets(
            torch.from_numpy(tokens).to(device),
            torch.from_numpy(depth).to(device),
            torch.from_numpy(visible).to(device),
        )
        self.children = torch.from_numpy(children).to(device)
        self.paths = torch.from_numpy(paths).flatten(2).to(device)
        self.proba = None
        if len(proba):
            padded = np.zeros((count, len(proba[0]), most), np.float32)
            for k, rows in enumerate(proba):
                padded[k, :, : rows.shape[1]] = rows
            self.proba = torch.from_numpy(padded).to(device)

    def tasks(self, part: slice) -> LabelObjective:
        """Restrict to some of the tasks."""
        found = copy(self)
        found.n_classes = self.n_classes[part]
        found._targets = Targets(  # noqa: SLF001 - a copy of this object
            *(t[part] for t in self._targets)
        )
        found.children, found.paths = self.children[part], self.paths[part]
        found.proba = None if self.proba is None else self.proba[part]
        return found

    def targets(self, rows: np.ndarray) -> Targets:
        """Decoder inputs: the same for every row."""
        return self._targets

    def log_proba(self, ops: Ops, hidden: Tensor) -> Tensor:
        """Log-probabilities of the labels, (K, B, C)."""
        vectors = head_rows(ops, self.children.clamp(min=0))
        return self.log_proba_of_logits(self.logits(hidden, vectors))

    def logits(self, hidden: Tensor, vectors: Tensor) -> Tensor:
        """Scores of the branches, (K, B, T, W), from output vectors (K, T, W, D)."""
        return torch.einsum("kbtd,ktwd->kbtw", hidden, vectors.to(hidden.dtype))

    def log_proba_of_logits(self, logits: Tensor) -> Tensor:
        """Sum the log-softmax of the branches along every label's path."""
        blocked = (self.children < 0)[:, None]
        scores = logits.float().masked_fill(blocked, IMPOSSIBLE)
        steps = torch.log_softmax(scores, -1).flatten(2)
        return steps @ self.paths.mT

    def log_likelihood(self, ops: Ops, hidden: Tensor, rows: np.ndarray) -> Tensor:
        """Expected log-likelihood of each row, (K, B)."""
        assert self.proba is not None
        chosen = self.proba[:, torch.from_numpy(rows).to(self.proba.device)]
        return (chosen * self.log_proba(ops, hidden)).sum(-1)


def _token_log_proba(hidden: Tensor, head: Tensor, tokens: Tensor) -> Tensor:
    """Log-probability of one token per position, over the whole vocabulary."""
    scores = F.linear(hidden, head).float()
    return -F.cross_entropy(scores, tokens, reduction="none")


class TextObjective:
    """Log-likelihood of a target text of its own per row, over the whole vocabulary.

    Parameters
    ----------
    surrogate : Surrogate
        Gives the tokenizer.
    texts : sequence of str
        Target texts, one per row.
    """

    def __init__(self, surrogate: Surrogate, texts: Sequence[str]) -> None:
        self.surrogate = surrogate
        end = surrogate.tokenizer.eos_token_id
        distinct = {
            text: [
                *surrogate.tokenizer(text, add_special_tokens=False)["input_ids"],
                end,
            ]
            for text in set(texts)
        }
        self.rows = [distinct[text][: surrogate.max_length] for text in texts]

    def tasks(self, part: slice) -> TextObjective:
        """Return the one task."""
        return self

    def _padded(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        part = [self.rows[i] for i in rows]
        length = max(map(len, part))
        wanted = np.zeros((len(part), length), np.int64)
        weight = np.zeros((len(part), length), np.float32)
        for i, row in enumerate(part):
            wanted[i, : len(row)] = row
            weight[i, : len(row)] = 1
        device = self.surrogate.device
        return torch.from_numpy(wanted).to(device), torch.from_numpy(weight).to(device)

    def targets(self, rows: np.ndarray) -> Targets:
        """Decoder inputs: the target shifted right, as a chain."""
        wanted, _ = self._padded(rows)
        tokens = F.pad(
            wanted[:, :-1], (1, 0), value=self.surrogate.architecture.start_token
        )
        length = tokens.shape[1]
        visible = torch.ones(length, length, dtype=torch.bool, device=tokens.device)
        return Targets(
            tokens[None],
            torch.arange(length, device=tokens.device)[None],
            visible.tril()[None],
        )

    def log_likelihood(self, ops: Ops, hidden: Tensor, rows: np.ndarray) -> Tensor:
        """Log-likelihood of each row's text with its end-of-sequence token, (1, B).

        To save memory, logits over the vocabulary are computed for some positions at a
        time, and recomputed for the gradient.
        """
        head = head_of(ops.weights)
        wanted, weight = self._padded(rows)
        used = weight.flatten().nonzero()[:, 0]
        states, tokens = hidden.flatten(0, 2)[used], wanted.flatten()[used]
        parts = [
            checkpoint(_token_log_proba, part, head, chosen, use_reentrant=False)
            for part, chosen in zip(
                states.split(HEAD_POSITIONS), tokens.split(HEAD_POSITIONS), strict=True
            )
        ]
        steps = torch.zeros_like(weight).flatten()
        return steps.index_copy(0, used, torch.cat(parts)).view_as(weight).sum(1)[None]

    def of_logits(self, logits: Tensor, rows: np.ndarray) -> Tensor:
        """Log-likelihood from scores over the vocabulary, (1, B, T, V)."""
        wanted, weight = self._padded(rows)
        steps = torch.log_softmax(logits.float(), -1)
        chosen = steps.gather(-1, wanted[None, :, :, None])[..., 0]
        return (chosen * weight).sum(-1)


Objective = LabelObjective | TextObjective
