"""A causal language model in this process: exact log-likelihoods and greedy text."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fute_sklearn.exceptions import LanguageModelNotFoundError

from ._encoder import halving
from ._load import DTYPES, resolve_device

BATCH_TOKENS = 2048
SCORES_PER_TOKEN = 512


@dataclass(eq=False)
class CausalModel:
    """A frozen decoder-only model with its tokenizer."""

    model: Any
    tokenizer: Any
    device: torch.device
    fingerprint: str
    _roots: dict[str, list[int]] = field(default_factory=dict)

    def _ids(self, text: str) -> list[int]:
        """Tokens of a text to go on from: a start token if there is one, no end."""
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
        limit = getattr(self.model.config, "max_position_embeddings", None)
        if limit is not None and length > limit:
            raise ValueError(
                f"a prompt of {length} tokens does not fit the language model's "
                f"{limit}: {text[:60]!r}... Remedy: cut the texts, or a model with a "
                "longer context."
            )

    def _split(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Tokens of both parts, as the tokenizer cuts the whole where that fits."""
        if context not in self._roots:
            self._roots[context] = self._ids(context)
        root = self._roots[context]
        whole = self._ids(context + continuation)
        self._check_length(len(whole), context)
        if whole[: len(root)] == root and len(whole) > len(root):
            return root, whole[len(root) :]
        alone = self.tokenizer(continuation, add_special_tokens=False)["input_ids"]
        if not alone:
            raise ValueError(f"the string {continuation!r} has no tokens to score.")
        return root, list(alone)

    def score(
        self, contexts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[np.ndarray]:
        """Log-likelihood of each context's continuations, in nats.

        A context is read once for all its continuations.
        """
        self._roots.clear()
        rows: list[tuple[list[int], list[list[int]]]] = []
        for context, options in zip(contexts, continuations, strict=True):
            pairs = [self._split(context, option) for option in options]
            rows.append((pairs[0][0], [tail for _, tail in pairs]))
        self._roots.clear()
        out: list[np.ndarray] = [np.empty(0)] * len(rows)
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i][0]))

        def run(budget: int) -> None:
            start = next((i for i, at in enumerate(order) if not out[at].size), None)
            while start is not None and start < len(order):
                size = max(1, budget // max(1, len(rows[order[start]][0])))
                part = order[start : start + size]
                found = self._score_batch([rows[i] for i in part])
                for i, values in zip(part, found, strict=True):
                    out[i] = values
                start += size

        with torch.inference_mode():
            halving(run, BATCH_TOKENS)
        return out

    def _read(self, roots: list[list[int]]) -> tuple[Any, Tensor]:
        """Read contexts padded on the left; returns the model's output and the mask."""
        length = max(map(len, roots))
        ids = torch.zeros(len(roots), length, dtype=torch.long)
        mask = torch.zeros(len(roots), length, dtype=torch.long)
        for i, root in enumerate(roots):
            ids[i, length - len(root) :] = torch.tensor(root)
            mask[i, length - len(root) :] = 1
        places = (mask.cumsum(1) - 1).clamp(min=0)
        found = self.model(
            input_ids=ids.to(self.device),
            attention_mask=mask.to(self.device),
            position_ids=places.to(self.device),
            use_cache=True,
            logits_to_keep=1,
        )
        return found, mask

    def _score_batch(
        self, rows: list[tuple[list[int], list[list[int]]]]
    ) -> list[np.ndarray]:
        found, mask = self._read([root for root, _ in rows])
        first = torch.log_softmax(found.logits[:, -1].float(), -1).cpu()
        out = [
            np.array([float(first[i, tail[0]]) for tail in tails])
            for i, (_, tails) in enumerate(rows)
        ]
        longer = [
            (i, j)
            for i, (_, tails) in enumerate(rows)
            for j, tail in enumerate(tails)
            if len(tail) > 1
        ]
        # Every string needs the context's keys and a row of scores per token.
        most = max((len(tail) for _, tails in rows for tail in tails), default=1)
        each = max(mask.shape[1] + most, most * first.shape[1] // SCORES_PER_TOKEN)
        size = max(1, 4 * BATCH_TOKENS // each)
        for start in range(0, len(longer), size):
            part = longer[start : start + size]
            which = torch.tensor([i for i, _ in part], device=self.device)
            cache = copy.deepcopy(found.past_key_values)
            rest = self._rest(cache, mask, which, [rows[i][1][j] for i, j in part])
            for (i, j), value in zip(part, rest, strict=True):
                out[i][j] += value
        return out

    def _rest(
        self, cache: Any, mask: Tensor, which: Tensor, tails: list[list[int]]
    ) -> list[float]:
        """Log-likelihood of the tails' tokens after their first."""
        cache.batch_select_indices(which)
        known = mask[which.cpu()]
        length = max(map(len, tails)) - 1
        ids = torch.zeros(len(tails), length, dtype=torch.long)
        wanted = torch.zeros(len(tails), length, dtype=torch.long)
        seen = torch.zeros(len(tails), length, dtype=torch.long)
        for row, tail in enumerate(tails):
            ids[row, : len(tail) - 1] = torch.tensor(tail[:-1])
            wanted[row, : len(tail) - 1] = torch.tensor(tail[1:])
            seen[row, : len(tail) - 1] = 1
        places = known.sum(1, keepdim=True) + torch.arange(length)
        logits = self.model(
            input_ids=ids.to(self.device),
            attention_mask=torch.cat([known, seen], 1).to(self.device),
            position_ids=places.to(self.device),
            past_key_values=cache,
            use_cache=True,
        ).logits
        steps = torch.log_softmax(logits.float(), -1)
        chosen = steps.gather(-1, wanted[..., None].to(self.device))[..., 0].cpu()
        return (chosen * seen).sum(1).tolist()

    def score_text(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        """Log-likelihood of whole texts after their first token, and tokens scored."""
        out: list[tuple[float, int]] = [(0.0, 0)] * len(texts)
        rows = [self._ids(text) for text in texts]
        with torch.inference_mode():
            for i in sorted(range(len(rows)), key=lambda i: -len(rows[i])):
                if len(rows[i]) < 2:
                    continue
                self._check_length(len(rows[i]), texts[i])
                ids = torch.tensor(rows[i], device=self.device)[None]
                steps = torch.log_softmax(
                    self.model(input_ids=ids).logits[0, :-1].float(), -1
                )
                chosen = steps.gather(-1, ids[0, 1:, None])
                out[i] = float(chosen.sum()), len(rows[i]) - 1
        return out

    def generate(self, prompts: Sequence[str], max_tokens: int) -> list[str]:
        """Greedy continuations of at most ``max_tokens`` tokens."""
        from transformers import GenerationConfig

        out = []
        end = self.tokenizer.eos_token_id
        greedy = GenerationConfig(
            max_new_tokens=max_tokens, eos_token_id=end, pad_token_id=end or 0
        )
        with torch.inference_mode():
            for prompt in prompts:
                ids = torch.tensor(self._ids(prompt), device=self.device)[None]
                self._check_length(ids.shape[1] + max_tokens, prompt)
                found = self.model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    generation_config=greedy,
                )
                tail = found[0, ids.shape[1] :]
                out.append(self.tokenizer.decode(tail, skip_special_tokens=True))
        return out


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
    target, source = resolve_device(device), os.fspath(name)
    packed: dict[str, Any] = {} if gguf_file is None else {"gguf_file": gguf_file}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **packed)
        safe = {} if packed else {"use_safetensors": True}
        model: Any = AutoModelForCausalLM.from_pretrained(
            source, dtype=DTYPES[dtype], **packed, **safe
        )
    except (OSError, ValueError) as error:
        raise LanguageModelNotFoundError(
            f"model={source!r} is neither a folder with a saved causal language model "
            "(safetensors, or GGUF with gguf_file=...) nor a hub id that can be "
            "reached from here. Remedy: check the spelling, or download it on a "
            f"connected machine and give the folder. Cause: {error}"
        ) from error
    model = model.to(target).eval().requires_grad_(False)
    # The folder's own settings may ask for beams, samples and penalties.
    model.generation_config = GenerationConfig()
    digest = hashlib.sha256(f"{dtype}|{model.config.to_json_string()}".encode())
    rules = getattr(tokenizer, "backend_tokenizer", None)
    digest.update(repr(rules.to_str() if rules else tokenizer.get_vocab()).encode())
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode())
        flat = value.detach().cpu().contiguous().view(torch.uint8)
        digest.update(flat.numpy().tobytes())
    return CausalModel(model, tokenizer, target, digest.hexdigest()[:16])
