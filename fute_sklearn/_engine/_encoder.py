"""Compute and cache the encoder states of distinct texts."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from fute_sklearn._utils._stack_level import find_stack_level
from fute_sklearn._utils._store import cache_folder, text_key
from fute_sklearn.exceptions import TruncationWarning, UnknownTokensWarning

from ._encoder_cache import EncoderCache
from ._load import Surrogate
from ._padding import padded
from ._t5 import FrozenOps, encode

Found = TypeVar("Found")
BATCH_TOKENS = 512
LENGTH_STEP = 8
TEXTS_PER_SEGMENT = 4096
TEXTS_PER_STEP = 1000  # of progress
MOSTLY = 0.5


class Encoded:
    """Encoder states of n texts, in their order (EncodedTexts in docstrings).

    Attributes
    ----------
    ids : list of ndarray of int64, each (n_tokens,)
        Token ids.
    states : list of ndarray, each (n_tokens, d_model)
        Encoder states, possibly memory-mapped; bfloat16 is held as int16.
    """

    def __init__(
        self, surrogate: Surrogate, ids: list[np.ndarray], states: list[np.ndarray]
    ) -> None:
        self.surrogate = surrogate
        self.ids = ids
        self.states = states
        self.lengths = np.array([len(i) for i in ids], dtype=np.int64)
        self._pooled: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: np.ndarray) -> Encoded:
        """Return the rows as a new object; no states are copied."""
        return Encoded(
            self.surrogate, [self.ids[i] for i in rows], [self.states[i] for i in rows]
        )

    def batch(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Pad the rows' states to (B, S, D) with a mask (B, S) of ones and zeros."""
        length = int(self.lengths[rows].max())
        width = self.surrogate.architecture.d_model
        block = np.zeros((len(rows), length, width), self.states[rows[0]].dtype)
        mask = np.zeros((len(rows), length), np.float32)
        for i, row in enumerate(rows):
            block[i, : self.lengths[row]] = self.states[row]
            mask[i, : self.lengths[row]] = 1
        states = torch.from_numpy(block)
        if self.surrogate.dtype == torch.bfloat16:
            states = states.view(torch.bfloat16)
        device = self.surrogate.device
        return states.to(device), torch.from_numpy(mask).to(device)

    def batch_ids(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Pad the rows' token ids to (B, S) with a mask of ones and zeros."""
        ids, mask = padded([self.ids[row] for row in rows])
        device = self.surrogate.device
        return ids.to(device), mask.float().to(device)

    def pooled(self) -> np.ndarray:
        """Mean of each text's token states, (n, d_model), float32; read-only."""
        if self._pooled is None:
            self._pooled = self._mean_states()
            self._pooled.flags.writeable = False
        return self._pooled

    def _mean_states(self) -> np.ndarray:
        out = np.empty((len(self), self.surrogate.architecture.d_model), np.float32)
        for i, rows in enumerate(self.states):
            if self.surrogate.dtype == torch.bfloat16:
                full = torch.from_numpy(np.array(rows)).view(torch.bfloat16).float()
                out[i] = full.mean(0).numpy()
            else:
                out[i] = rows.mean(0)
        return out


def tokenize(surrogate: Surrogate, texts: Sequence[str]) -> list[np.ndarray]:
    """Tokenise and truncate to ``max_length``, keeping the end-of-sequence token."""
    limit = surrogate.max_length
    rows = surrogate.tokenizer(list(texts), truncation=False, verbose=False)[
        "input_ids"
    ]
    unknown = unknown_shares(surrogate, rows) >= MOSTLY
    if unknown.any():
        row = int(unknown.argmax())
        warnings.warn(
            f"{unknown.sum()} of {len(rows)} texts ({unknown.mean():.0%}) consist "
            f"mostly of what the vocabulary of surrogate={surrogate.name!r} lacks, as "
            f"row {row}: {texts[row][:40]!r}. It cannot tell such texts apart, and "
            "what is learnt from them means nothing. Remedy: a surrogate of the texts' "
            "language, or leave these texts out",
            UnknownTokensWarning,
            stacklevel=find_stack_level(),
        )
    cut = sum(len(row) > limit for row in rows)
    if cut:
        warnings.warn(
            f"{cut} of {len(rows)} texts are longer than max_length={limit} tokens "
            "and are cut; raise max_length to read them whole",
            TruncationWarning,
            stacklevel=find_stack_level(),
        )
    return [
        np.asarray(r if len(r) <= limit else [*r[: limit - 1], r[-1]], dtype=np.int64)
        for r in rows
    ]


def unknown_shares(surrogate: Surrogate, rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Share of each text's tokens that are the unknown token."""
    unknown = surrogate.tokenizer.unk_token_id
    others = set(surrogate.tokenizer.all_special_ids) - {unknown}
    shares = np.zeros(len(rows))
    for i, row in enumerate(rows):
        if unknown in row:
            own = [token for token in row if token not in others]
            shares[i] = own.count(unknown) / len(own)
    return shares


def unreadable_share(surrogate: Surrogate, texts: Sequence[str]) -> float:
    """Share of the texts with half or more unknown tokens."""
    rows = surrogate.tokenizer(list(texts), truncation=False, verbose=False)[
        "input_ids"
    ]
    return float((unknown_shares(surrogate, rows) >= MOSTLY).mean())


def encoder_steps(texts: Sequence[str]) -> int:
    """Number of progress steps that `encode_texts` reports for these texts."""
    return -(-len(set(texts)) // TEXTS_PER_STEP)


class _Progress:
    """Report every thousand texts that are done."""

    def __init__(self, on_step: Callable[[], None], count: int) -> None:
        self.on_step = on_step
        self.count = count
        self.done = 0

    def add(self, number: int) -> None:
        before, self.done = self._steps(), self.done + number
        for _ in range(self._steps() - before):
            self.on_step()

    def _steps(self) -> int:
        if self.done >= self.count:
            return -(-self.count // TEXTS_PER_STEP)
        return self.done // TEXTS_PER_STEP


def _ignore_step() -> None:
    """Report no progress."""


def encode_texts(
    surrogate: Surrogate,
    texts: Sequence[str],
    on_step: Callable[[], None] = _ignore_step,
) -> Encoded:
    """Return the encoder states of texts; compute those that are not cached.

    Batches have fixed shapes (length rounded up, missing rows padded), so that a text's
    states do not depend on the other texts of the batch.  ``on_step`` is called after
    each step that `encoder_steps` counts.
    """
    folder = cache_folder(f"encoder/{surrogate.fingerprint}")
    cache = EncoderCache(folder)
    ids = tokenize(surrogate, texts)
    keys = [text_key(text) for text in texts]
    missing = {
        key: row for key, row in zip(keys, ids, strict=True) if cache.get(key) is None
    }
    n_distinct = len(set(keys))
    progress = _Progress(on_step, n_distinct)
    progress.add(n_distinct - len(missing))
    todo = sorted(missing, key=lambda key: (len(missing[key]), key))
    for start in range(0, len(todo), TEXTS_PER_SEGMENT):
        part = {key: missing[key] for key in todo[start : start + TEXTS_PER_SEGMENT]}
        cache.put(_encode_part(surrogate, part, progress.add))
    return Encoded(surrogate, ids, [cache.kept(key) for key in keys])


@dataclass(frozen=True)
class EncoderWork:
    """What `encode_texts` has to compute, before it does.

    Attributes
    ----------
    batches : list of list of str
        The texts that are not cached, by the batches in which they are encoded.
    n_tokens : int
        Tokens of these texts.
    n_bytes : int
        Size of the states and token ids of all texts.
    """

    batches: list[list[str]]
    n_tokens: int
    n_bytes: int


def encoder_work(surrogate: Surrogate, texts: Sequence[str]) -> EncoderWork:
    """Return what encoding texts takes; nothing is encoded."""
    cache = EncoderCache(cache_folder(f"encoder/{surrogate.fingerprint}"))
    distinct = list(dict.fromkeys(texts))
    ids = tokenize(surrogate, distinct)
    size = surrogate.architecture.d_model * surrogate.dtype.itemsize
    n_bytes = sum(len(row) * (size + row.itemsize) for row in ids)
    rows = {
        text: row
        for text, row in zip(distinct, ids, strict=True)
        if cache.get(text_key(text)) is None
    }
    todo = sorted(rows, key=lambda text: (len(rows[text]), text_key(text)))
    batches = []
    for start in range(0, len(todo), TEXTS_PER_SEGMENT):
        part = {text: rows[text] for text in todo[start : start + TEXTS_PER_SEGMENT]}
        for length, names in _by_length(part).items():
            count = _batch_size(length)
            batches += [names[i : i + count] for i in range(0, len(names), count)]
    return EncoderWork(batches, sum(map(len, rows.values())), n_bytes)


def _by_length(rows: dict[str, np.ndarray]) -> dict[int, list[str]]:
    """Names of rows by their length, rounded up."""
    groups: dict[int, list[str]] = {}
    for name, row in rows.items():
        groups.setdefault(-(-len(row) // LENGTH_STEP) * LENGTH_STEP, []).append(name)
    return groups


def _batch_size(length: int) -> int:
    return max(1, BATCH_TOKENS // length)


def _encode_part(
    surrogate: Surrogate, rows: dict[str, np.ndarray], on_done: Callable[[int], None]
) -> dict[str, np.ndarray]:
    out: dict[str, np.ndarray] = {}
    for length, keys in _by_length(rows).items():
        size = _batch_size(length)

        def run(size: int, length: int = length, keys: list[str] = keys) -> None:
            for start in range(0, len(keys), size):
                part = [key for key in keys[start : start + size] if key not in out]
                if part:
                    block = [rows[key] for key in part]
                    found = _encode_batch(surrogate, block, size, length)
                    out.update(zip(part, found, strict=True))
                    on_done(len(part))

        halving(run, size)
    return out


def _encode_batch(
    surrogate: Surrogate, rows: list[np.ndarray], size: int, length: int
) -> list[np.ndarray]:
    ids = np.zeros((size, length), np.int64)
    mask = np.zeros((size, length), np.float32)
    mask[len(rows) :, 0] = 1
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    ops = FrozenOps(surrogate.weights, surrogate.architecture.epsilon)
    device = surrogate.device
    with torch.inference_mode():
        states = encode(
            ops,
            surrogate.architecture,
            torch.from_numpy(ids).to(device),
            torch.from_numpy(mask).to(device),
        ).cpu()
    if states.dtype == torch.bfloat16:
        states = states.view(torch.int16)
    found = states.numpy()
    return [found[i, : len(row)].copy() for i, row in enumerate(rows)]


def halving(run: Callable[[int], Found], size: int) -> Found:
    """Call ``run(size)``; after an out-of-memory error, repeat with half the size."""
    warned = False
    while True:
        try:
            return run(size)
        except torch.OutOfMemoryError as error:
            if size == 1:
                raise torch.OutOfMemoryError(
                    "not enough memory for a batch of one. Remedy: a smaller "
                    'max_length, dtype="bfloat16", a smaller surrogate, or '
                    f'device="cpu". Cause: {error}'
                ) from error
            size = size // 2
            if not warned:
                warnings.warn(
                    f"out of memory; going on in batches of {size}", stacklevel=2
                )
                warned = True
