"""Compute and cache the encoder states and features of distinct texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fute_sklearn._utils._store import cache_folder, text_key

from ._encoder_cache import EncoderCache
from ._load import Surrogate
from ._packs import encode_rows, pack_tokens, packs
from ._padding import padded
from ._tokenize import tokenize

TEXTS_PER_SEGMENT = 4096
TEXTS_PER_STEP = 1000  # of progress


class Encoded:
    """n texts as the encoder reads them, in their order (EncodedTexts in docstrings).

    Parameters
    ----------
    surrogate : Surrogate
        The surrogate that encodes them.
    ids : list of ndarray of int64, each (n_tokens,)
        Token ids.
    states : list of ndarray, each (n_tokens, d_model), optional
        Encoder states, possibly memory-mapped; bfloat16 is held as int16.  Without
        them, they are computed when they are asked for.
    pooled : ndarray (n, d_model) of float32, optional
        Mean of each text's states, if it is known.
    keys : list of str, optional
        The texts' keys in the cache, needed where there are no states.
    """

    def __init__(
        self,
        surrogate: Surrogate,
        ids: list[np.ndarray],
        states: list[np.ndarray] | None = None,
        *,
        pooled: np.ndarray | None = None,
        keys: list[str] | None = None,
    ) -> None:
        self.surrogate = surrogate
        self.ids = ids
        self.lengths = np.array([len(i) for i in ids], dtype=np.int64)
        self._states = states
        self._pooled = pooled
        self._keys = keys

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def states(self) -> list[np.ndarray]:
        """The texts' encoder states."""
        if self._states is None:
            assert self._keys is not None
            rows = dict(zip(self._keys, self.ids, strict=True))
            found = _states_of(self.surrogate, rows, _ignore)
            self._states = [found[key] for key in self._keys]
        return self._states

    def take(self, rows: np.ndarray) -> Encoded:
        """Return the rows as a new object; no states are copied."""
        states, keys = self._states, self._keys
        return Encoded(
            self.surrogate,
            [self.ids[i] for i in rows],
            None if states is None else [states[i] for i in rows],
            pooled=None if self._pooled is None else self._pooled[rows],
            keys=None if keys is None else [keys[i] for i in rows],
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
            width = self.surrogate.architecture.d_model
            self._pooled = np.empty((len(self), width), np.float32)
            for i, rows in enumerate(self.states):
                self._pooled[i] = _mean(self.surrogate, rows)
        self._pooled.flags.writeable = False
        return self._pooled


def _mean(surrogate: Surrogate, rows: np.ndarray) -> np.ndarray:
    """Mean of a text's token states, in float32."""
    if surrogate.dtype == torch.bfloat16:
        full = torch.from_numpy(np.array(rows)).view(torch.bfloat16).float()
        return full.mean(0).numpy()
    found: np.ndarray = rows.mean(0)
    return found


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


def _ignore(*_: int) -> None:
    """Report no progress."""


def encode_texts(
    surrogate: Surrogate,
    texts: Sequence[str],
    on_step: Callable[[], None] = _ignore,
    *,
    states: bool = True,
) -> Encoded:
    """Return texts with their encoder states, or with their means only.

    What is not cached is computed.  Means take a twentieth of the states' space and are
    kept apart from them; where states are kept, means are taken from those.
    ``on_step`` is called after each step that `encoder_steps` counts.
    """
    ids = tokenize(surrogate, texts)
    keys = [text_key(text) for text in texts]
    rows = dict(zip(keys, ids, strict=True))
    progress = _Progress(on_step, len(rows))
    if states:
        found = _states_of(surrogate, rows, progress.add)
        return Encoded(surrogate, ids, [found[key] for key in keys])
    means = _means_of(surrogate, rows, progress.add)
    width = surrogate.architecture.d_model
    pooled = np.array([means[key] for key in keys], np.float32).reshape(-1, width)
    return Encoded(surrogate, ids, pooled=pooled, keys=keys)


def _states_cache(surrogate: Surrogate) -> EncoderCache:
    return EncoderCache(cache_folder(f"encoder/{surrogate.fingerprint}-states"))


def _means_cache(surrogate: Surrogate) -> EncoderCache:
    return EncoderCache(cache_folder(f"encoder/{surrogate.fingerprint}-means"))


def _missing(
    cache: EncoderCache, rows: dict[str, np.ndarray], on_done: Callable[[int], None]
) -> dict[str, np.ndarray]:
    """Rows that are not cached; ``on_done`` is told how many are."""
    missing = {key: row for key, row in rows.items() if cache.get(key) is None}
    on_done(len(rows) - len(missing))
    return missing


def _states_of(
    surrogate: Surrogate, rows: dict[str, np.ndarray], on_done: Callable[[int], None]
) -> dict[str, np.ndarray]:
    cache = _states_cache(surrogate)
    missing = _missing(cache, rows, on_done)
    for part in _segments(missing):
        cache.put(encode_rows(surrogate, part, np.copy, on_done))
    return {key: cache.kept(key) for key in rows}


def _means_of(
    surrogate: Surrogate, rows: dict[str, np.ndarray], on_done: Callable[[int], None]
) -> dict[str, np.ndarray]:
    cache = _means_cache(surrogate)
    missing = _missing(cache, rows, on_done)
    states = _states_cache(surrogate)

    def kept(one: np.ndarray) -> np.ndarray:
        return _mean(surrogate, one)[None]

    for part in _segments(missing):
        means = {key: kept(one) for key in part if (one := states.get(key)) is not None}
        on_done(len(means))
        left = {key: row for key, row in part.items() if key not in means}
        cache.put(means | encode_rows(surrogate, left, kept, on_done))
    return {key: cache.kept(key)[0] for key in rows}


def _segments(rows: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """Parts of the rows that are written together, short rows first."""
    order = sorted(rows, key=lambda key: (len(rows[key]), key))
    for start in range(0, len(order), TEXTS_PER_SEGMENT):
        yield {key: rows[key] for key in order[start : start + TEXTS_PER_SEGMENT]}


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
        Size of the states and token ids of all texts, or of their means.
    """

    batches: list[list[str]]
    n_tokens: int
    n_bytes: int


def encoder_work(
    surrogate: Surrogate, texts: Sequence[str], *, states: bool = True
) -> EncoderWork:
    """Return what encoding texts takes; nothing is encoded."""
    caches = [_states_cache(surrogate)]
    caches += [] if states else [_means_cache(surrogate)]
    distinct = list(dict.fromkeys(texts))
    ids = tokenize(surrogate, distinct)
    width = surrogate.architecture.d_model
    n_bytes = sum(row.nbytes for row in ids)
    if states:
        n_bytes += sum(map(len, ids)) * width * surrogate.dtype.itemsize
    else:
        n_bytes += len(distinct) * width * np.dtype(np.float32).itemsize
    names = {text_key(text): text for text in distinct}
    missing = {
        key: row
        for key, row in zip(names, ids, strict=True)
        if all(cache.get(key) is None for cache in caches)
    }
    room = pack_tokens(surrogate)
    batches = [
        [names[key] for key in pack]
        for part in _segments(missing)
        for pack in packs(part, room)
    ]
    return EncoderWork(batches, sum(map(len, missing.values())), n_bytes)
