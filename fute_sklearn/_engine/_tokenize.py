"""Turn texts into the surrogate's tokens; say which it cannot read."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from fute_sklearn._utils._stack_level import find_stack_level
from fute_sklearn.exceptions import TruncationWarning, UnknownTokensWarning

from ._load import Surrogate

MOSTLY = 0.5


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
