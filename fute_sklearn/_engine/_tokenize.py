"""Turn texts into the surrogate's tokens; say which it cannot read."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from fute_sklearn._utils._stack_level import find_stack_level
from fute_sklearn.exceptions import TruncationWarning, UnknownTokensWarning

from ._load import Surrogate

MOSTLY = 0.5
KEPT_TEXTS = 2**14


def tokenize(surrogate: Surrogate, texts: Sequence[str]) -> list[np.ndarray]:
    """Tokenise and truncate to ``max_length``, keeping the end-of-sequence token."""
    ids, unknown, cut = _read_once(surrogate, texts)
    if unknown.any():
        row = int(unknown.argmax())
        warnings.warn(
            f"{unknown.sum()} of {len(ids)} texts ({unknown.mean():.0%}) consist "
            f"mostly of what the vocabulary of surrogate={surrogate.name!r} lacks, as "
            f"row {row}: {texts[row][:40]!r}. It cannot tell such texts apart, and "
            "what is learnt from them means nothing. Remedy: a surrogate of the texts' "
            "language, or leave these texts out",
            UnknownTokensWarning,
            stacklevel=find_stack_level(),
        )
    if cut:
        warnings.warn(
            f"{cut} of {len(ids)} texts are longer than max_length="
            f"{surrogate.max_length} tokens and are cut; raise max_length to read them "
            "whole",
            TruncationWarning,
            stacklevel=find_stack_level(),
        )
    return list(ids)


def _read(
    surrogate: Surrogate, texts: tuple[str, ...]
) -> tuple[list[np.ndarray], np.ndarray, int]:
    """Return token ids, which texts are mostly unknown, and how many are cut."""
    limit = surrogate.max_length
    rows = surrogate.tokenizer(list(texts), truncation=False, verbose=False)[
        "input_ids"
    ]
    unknown = unknown_shares(surrogate, rows) >= MOSTLY
    ids = [
        np.asarray(r if len(r) <= limit else [*r[: limit - 1], r[-1]], dtype=np.int64)
        for r in rows
    ]
    return ids, unknown, sum(len(row) > limit for row in rows)


# A ranking reads the same texts several times.
_kept = lru_cache(maxsize=4)(_read)


def _read_once(
    surrogate: Surrogate, texts: Sequence[str]
) -> tuple[list[np.ndarray], np.ndarray, int]:
    return (_kept if len(texts) <= KEPT_TEXTS else _read)(surrogate, tuple(texts))


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
    _, unknown, _ = _read_once(surrogate, texts)
    return float(unknown.mean())
