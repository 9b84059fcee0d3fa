"""Causal language models: exact log-likelihoods and greedy generation."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fute_sklearn._utils._compat import cache_argument, cache_of
from fute_sklearn.exceptions import ClientCapabilityError, LanguageModelNotFoundError

from ._after_fork import threads_start
from ._halving import halving
from ._load import DTYPES, NO_CODE, resolve_device, update_with_weights
from ._padding import padded

LAYER_TYPES = {"full_attention", "sliding_attention"}
BATCH_TOKENS = 2048
SCORES_PER_TOKEN = 512
SHARED_TOKENS = 8
HELD = 4


@dataclass(eq=False)
class CausalModel:
    """A frozen decoder-only model with its tokenizer."""

    model: Any
    tokenizer: Any
    device: torch.device
    fingerprint: str

    def _ids(self, text: str) -> list[int]:
        """Tokenise a context: without end tokens, and never empty."""
        ids = list(self.tokenizer(text)["input_ids"])
        ends = {self.tokenizer.eos_token_id, self.tokenizer.sep_token_id}
        while ids and ids[-1] in ends:
            ids.pop()
        start = self.tokenizer.bos_token_id
        start = self.tokenizer.eos_token_id if start is None else start
        if not ids and start is None:
            raise ValueError(
                f"{text!r} has no tokens and this tokenizer no start token: give the "
                "prompt some text."
            )
        return ids or [start]

    def _check_length(self, length: int, text: str) -> None:
        config = self.model.config
        limit = getattr(config, "max_position_embeddings", None)
        if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
            # Beyond the window, attention would depend on the padding of the batch.
            limit = min(limit or length, config.sliding_window)
        if limit is not None and length > limit:
            raise ValueError(
                f"a prompt of {length} tokens does not fit the language model's "
                f"{limit}: {text[:60]!r}... Remedy: cut the texts, or a model with a "
                "longer context."
            )

    def _tail(self, root: list[int], context: str, continuation: str) -> list[int]:
        """Tokens of a continuation, as tokenised with its context if that agrees."""
        whole = self._ids(context + continuation)
        self._check_length(len(whole), context)
        if whole[: len(root)] == root and len(whole) > len(root):
            return whole[len(root) :]
        alone = self.tokenizer(continuation, add_special_tokens=False)["input_ids"]
        if not alone:
            raise ValueError(f"the string {continuation!r} has no tokens to score.")
        return list(alone)

    def score(
        self, contexts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[np.ndarray]:
        """Log-likelihood of each context's continuations, in nats.

        A context is processed once for all its continuations, and a common beginning of
        several contexts once for all of these.
        """
        rows = []
        for context, options in zip(contexts, continuations, strict=True):
            root = self._ids(context)
            tails = [self._tail(root, context, option) for option in options]
            rows.append(_Row([], root, tails))
        order = _share_heads(rows)
        out: list[np.ndarray] = [np.empty(0)] * len(rows)

        def run(budget: int) -> None:
            left = [i for i in order if not out[i].size]
            for part in _batches([rows[i] for i in left], budget):
                found = self._score_batch([rows[left[at]] for at in part])
                for at, values in zip(part, found, strict=True):
                    out[left[at]] = values

        with torch.inference_mode():
            halving(run, BATCH_TOKENS)
        return out

    def _read(
        self, parts: list[list[int]], after: _Read | None = None, keep: int = 1
    ) -> _Read:
        """Run the model on left-padded parts, after cached states if given.

        Logits are returned for the last ``keep`` positions; 0 returns all.
        """
        ids, seen = padded(parts, left=True)
        length = ids.shape[1]
        mask = seen if after is None else torch.cat([after.mask, seen], 1)
        places = (mask.cumsum(1) - 1).clamp(min=0)[:, -length:]
        found = self.model(
            input_ids=ids.to(self.device),
            attention_mask=mask.to(self.device),
            position_ids=places.to(self.device),
            use_cache=True,
            logits_to_keep=keep,
            **{cache_argument(self.model): None if after is None else after.cache},
        )
        return _Read(found.logits, cache_of(found), mask)

    def _score_batch(self, rows: list[_Row]) -> list[np.ndarray]:
        heads: dict[tuple[int, ...], int] = {}
        which = [heads.setdefault(tuple(row.head), len(heads)) for row in rows]
        before = None
        if rows[0].head:
            before = self._read([list(head) for head in heads]).select(which)
        read = self._read([row.body for row in rows], before)
        first = torch.log_softmax(read.logits[:, -1].float(), -1).cpu()
        out = [
            np.array([float(first[i, tail[0]]) for tail in row.tails])
            for i, row in enumerate(rows)
        ]
        longer = [
            (i, j)
            for i, row in enumerate(rows)
            for j, tail in enumerate(row.tails)
            if len(tail) > 1
        ]
        # Each string takes the memory of the context's keys and of logits per token.
        most = max((len(tail) for row in rows for tail in row.tails), default=1)
        width = read.mask.shape[1] + most
        each = max(width, most * first.shape[1] // SCORES_PER_TOKEN)
        size = max(1, 4 * BATCH_TOKENS // each)
        for start in range(0, len(longer), size):
            part = longer[start : start + size]
            after = read.copied().select([i for i, _ in part])
            rest = self._rest(after, [rows[i].tails[j] for i, j in part])
            for (i, j), value in zip(part, rest, strict=True):
                out[i][j] += value
        return out

    def _rest(self, after: _Read, tails: list[list[int]]) -> list[float]:
        """Log-likelihood of all tokens of the tails except the first of each."""
        logits = self._read([tail[:-1] for tail in tails], after, keep=0).logits
        length = logits.shape[1]
        wanted = torch.full((len(tails), length), -1)
        for row, tail in enumerate(tails):
            wanted[row, length - len(tail) + 1 :] = torch.tensor(tail[1:])
        return _likelihoods(logits, wanted.to(self.device)).tolist()

    def score_text(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        """Log-likelihood of whole texts after their first token, and tokens scored."""
        rows = [self._ids(text) for text in texts]
        for row, text in zip(rows, texts, strict=True):
            self._check_length(len(row), text)
        out: dict[int, tuple[float, int]] = {
            i: (0.0, 0) for i, row in enumerate(rows) if len(row) < 2
        }
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))

        def run(budget: int) -> None:
            left = [i for i in order if i not in out]
            for part in _batches([_Row([], rows[i], []) for i in left], budget):
                chosen = [rows[left[at]] for at in part]
                logits = self._read(chosen, keep=0).logits
                wanted = torch.full(logits.shape[:2], -1)
                for at, ids in enumerate(chosen):
                    wanted[at, -len(ids) : -1] = torch.tensor(ids[1:])
                found = _likelihoods(logits, wanted.to(self.device)).tolist()
                for at, value in zip(part, found, strict=True):
                    out[left[at]] = value, len(rows[left[at]]) - 1

        with torch.inference_mode():
            halving(run, BATCH_TOKENS // 4)
        return [out[i] for i in range(len(rows))]

    def generate(self, prompts: Sequence[str], max_tokens: int) -> list[str]:
        """Greedy continuations of at most ``max_tokens`` tokens."""
        from transformers import GenerationConfig

        end = self.tokenizer.eos_token_id
        greedy = GenerationConfig(
            max_new_tokens=max_tokens, eos_token_id=end, pad_token_id=end or 0
        )
        rows = [self._ids(prompt) for prompt in prompts]
        for row, prompt in zip(rows, prompts, strict=True):
            self._check_length(len(row) + max_tokens, prompt)
        out: dict[int, str] = {}
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))

        def run(budget: int) -> None:
            left = [i for i in order if i not in out]
            room = [0] * max_tokens
            with_room = [_Row([], rows[i] + room, []) for i in left]
            for part in _batches(with_room, budget):
                ids, seen = padded([rows[left[at]] for at in part], left=True)
                found = self.model.generate(
                    input_ids=ids.to(self.device),
                    attention_mask=seen.to(self.device),
                    generation_config=greedy,
                )
                tails = found[:, ids.shape[1] :]
                said = self.tokenizer.batch_decode(tails, skip_special_tokens=True)
                out.update(zip([left[at] for at in part], said, strict=True))

        with torch.inference_mode():
            halving(run, BATCH_TOKENS)
        return [out[i] for i in range(len(rows))]


@dataclass(eq=False)
class _Row:
    """A context, split into a beginning shared with others and the rest, and tails."""

    head: list[int]
    body: list[int]
    tails: list[list[int]]


@dataclass(eq=False)
class _Read:
    """Logits, cached keys and values, and attention mask of processed tokens."""

    logits: Tensor
    cache: Any
    mask: Tensor

    def copied(self) -> _Read:
        return _Read(self.logits, copy.deepcopy(self.cache), self.mask)

    def select(self, which: list[int]) -> _Read:
        index = torch.tensor(which)
        self.cache.batch_select_indices(index.to(self.logits.device))
        return _Read(self.logits[:0], self.cache, self.mask[index])


def _likelihoods(logits: Tensor, wanted: Tensor) -> Tensor:
    """Sum the log-likelihood of the wanted tokens per row; -1 marks no token."""
    logits = logits.float()
    chosen = logits.gather(-1, wanted.clamp(min=0)[..., None])[..., 0]
    steps = chosen - torch.logsumexp(logits, -1)
    return (steps * (wanted >= 0)).sum(1)


def _share_heads(rows: list[_Row]) -> list[int]:
    """Move common beginnings from bodies to heads; return an order that groups them.

    Few-shot examples before every text, or one text before several questions, are then
    processed once.
    """
    order = sorted(range(len(rows)), key=lambda i: rows[i].body)
    groups: list[tuple[int, list[int]]] = []
    for i in order:
        if groups:
            shared, members = groups[-1]
            body, last = rows[i].body, rows[members[-1]].body
            most = min(len(body), len(last), shared if len(members) > 1 else len(last))
            # A body keeps at least one token, whose logits are needed.
            most = min(most, len(body) - 1, len(last) - 1)
            same = next((k for k in range(most) if body[k] != last[k]), most)
            if same >= max(SHARED_TOKENS, shared // 2):
                groups[-1] = same, [*members, i]
                continue
        groups.append((0, [i]))
    for shared, members in groups:
        for i in members:
            row = rows[i]
            row.head, row.body = row.body[:shared], row.body[shared:]
        members.sort(key=lambda i: -len(rows[i].body))
    groups.sort(key=lambda group: (-group[0], -len(rows[group[1][0]].body)))
    return [i for _, members in groups for i in members]


def _batches(rows: list[_Row], budget: int) -> Iterator[list[int]]:
    """Split rows into batches of at most ``budget`` padded tokens.

    Rows with and without heads are not mixed.  A head is processed once, but every row
    takes the memory of its keys and values.
    """
    part: list[int] = []
    longest = held = 0
    for i, row in enumerate(rows):
        longest, held = max(longest, len(row.body)), max(held, len(row.head))
        other = part and bool(row.head) != bool(rows[part[0]].head)
        size = len(part) + 1
        full = longest * size > budget or (held + longest) * size > HELD * budget
        if part and (other or full):
            yield part
            part, longest, held = [], len(row.body), len(row.head)
        part.append(i)
    if part:
        yield part


def load_causal(
    name: str | os.PathLike[str],
    *,
    device: str = "auto",
    dtype: str = "float32",
    gguf_file: str | None = None,
) -> CausalModel:
    """Load a decoder-only model by folder or hub id; see `TransformersClient`."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r}, expected one of {sorted(DTYPES)}.")
    threads_start()
    target, source = resolve_device(device), os.path.expanduser(name)
    packed: dict[str, Any] = {} if gguf_file is None else {"gguf_file": gguf_file}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **packed, **NO_CODE)
        safe = {} if packed else {"use_safetensors": True}
        model: Any = AutoModelForCausalLM.from_pretrained(
            source, dtype=DTYPES[dtype], **packed, **safe, **NO_CODE
        )
    except (OSError, ValueError) as error:
        raise LanguageModelNotFoundError(
            f"model={source!r} is neither a folder with a saved causal language model "
            "(safetensors, or GGUF with gguf_file=...) nor a hub id that can be "
            "reached from here. Remedy: check the spelling, or download it on a "
            f"connected machine and give the folder. Cause: {error}"
        ) from error
    mixed = set(getattr(model.config, "layer_types", None) or ()) - LAYER_TYPES
    if mixed:
        raise ClientCapabilityError(
            f"model={source!r} has layers of the types {sorted(mixed)}, whose memory "
            f"of a text cannot be shared; expected {sorted(LAYER_TYPES)}."
        )
    model = model.to(target).eval().requires_grad_(False)
    # The last positions are a view, for which torch copies all of the output's weights
    # once a row on CPUs, in bfloat16 ten times the seconds of everything else.
    model.get_output_embeddings().register_forward_pre_hook(
        lambda module, inputs: (inputs[0].contiguous(), *inputs[1:])
    )
    # Generation settings in the folder may enable beam search, sampling or penalties.
    model.generation_config = GenerationConfig()
    digest = hashlib.sha256(f"{dtype}|{model.config.to_json_string()}".encode())
    rules = getattr(tokenizer, "backend_tokenizer", None)
    digest.update(repr(rules.to_str() if rules else tokenizer.get_vocab()).encode())
    update_with_weights(digest, model.state_dict())
    return CausalModel(model, tokenizer, target, digest.hexdigest()[:16])
