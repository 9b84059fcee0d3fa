"""The candidates' nets: a body that turns a text into features, and a linear head.

A body has ``inputs(texts)``, which is done once per set, and ``forward(batch)``.  BERT,
GPT and T5 come from transformers, the low-rank adapter of GPT from peft, CNN and LSTM
are plain torch over hashed words.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

HASHES = 2**15
WORD = re.compile(r"\w+|[^\w\s]")
Inputs = list[np.ndarray]


def padded(rows: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Rows of unequal length as one array, and where it holds tokens."""
    size = max(len(row) for row in rows)
    shape = (len(rows), size, *rows[0].shape[1:])
    kind = np.int64 if rows[0].ndim == 1 else np.float32
    array, mask = np.zeros(shape, kind), np.zeros((len(rows), size), np.int64)
    for i, row in enumerate(rows):
        array[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return torch.from_numpy(array), torch.from_numpy(mask)


def device() -> torch.device:
    """Where nets are trained: on a GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def features_of(body: nn.Module, rows: Sequence[np.ndarray]) -> Tensor:
    """Features of rows, on the body's device."""
    where = next(body.parameters()).device
    batch, mask = (part.to(where) for part in padded(rows))
    return body(batch, mask)


def mean_of(states: Tensor, mask: Tensor) -> Tensor:
    """Mean state over the tokens of each text."""
    weights = mask[..., None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


def last_of(states: Tensor, mask: Tensor) -> Tensor:
    """State of the last token of each text."""
    rows = torch.arange(len(states), device=states.device)
    return states[rows, mask.sum(1) - 1]


class Body(nn.Module):
    """A tokenizer and a stack of layers."""

    width: int

    def inputs(self, texts: Sequence[str]) -> Inputs:
        """Token numbers, or states of frozen layers, of each text."""
        raise NotImplementedError

    def forward(self, batch: Tensor, mask: Tensor) -> Tensor:
        """Features (n, width)."""
        raise NotImplementedError


class Encoder(Body):
    """BERT, the encoder of a T5, or a GPT.

    Features are the mean of the last layer's states, of a GPT that of the last token.
    """

    def __init__(self, folder: str | Path, kind: str, max_length: int) -> None:
        super().__init__()
        from transformers import AutoModel, AutoTokenizer, T5EncoderModel

        loader: Any = T5EncoderModel if kind == "t5" else AutoModel
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.net = loader.from_pretrained(folder, dtype=torch.float32)
        self.width = self.net.config.hidden_size
        self.max_length = max_length
        self.pool = last_of if kind == "gpt" else mean_of

    def inputs(self, texts: Sequence[str]) -> Inputs:
        """As in `Body`."""
        found = self.tokenizer(
            list(texts), truncation=True, max_length=self.max_length
        )["input_ids"]
        return [np.asarray(row) for row in found]

    def forward(self, batch: Tensor, mask: Tensor) -> Tensor:
        """As in `Body`."""
        states = self.net(input_ids=batch, attention_mask=mask).last_hidden_state
        return self.pool(states, mask)


class Adapted(Body):
    """A GPT whose last layers have a low-rank adapter; the last token's state.

    The layers below are frozen and the same for all candidates, so their states are
    computed once per text and are the inputs.
    """

    def __init__(self, folder: str | Path, layers: int, max_length: int) -> None:
        super().__init__()
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModel, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.lower = AutoModel.from_pretrained(folder, dtype=torch.float32)
        upper = AutoModel.from_pretrained(folder, dtype=torch.float32)
        upper.layers = upper.layers[-layers:]
        for i, layer in enumerate(upper.layers):
            layer.self_attn.layer_idx = i
        self.lower.layers = self.lower.layers[:-layers]
        self.lower.norm = nn.Identity()
        upper.embed_tokens = nn.Embedding(1, upper.config.hidden_size)
        config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear")
        self.net = get_peft_model(upper, config)
        self.lower.requires_grad_(False)
        self.width = upper.config.hidden_size
        self.max_length = max_length

    @torch.inference_mode()
    def inputs(self, texts: Sequence[str]) -> Inputs:
        """As in `Body`."""
        found = self.tokenizer(
            list(texts), truncation=True, max_length=self.max_length
        )["input_ids"]
        rows = [np.asarray(row) for row in found]
        out: Inputs = [np.empty(0)] * len(rows)
        order = np.argsort([len(row) for row in rows], kind="stable")
        for start in range(0, len(order), 32):
            chosen = order[start : start + 32]
            where = next(self.lower.parameters()).device
            batch, mask = (part.to(where) for part in padded([rows[i] for i in chosen]))
            states = self.lower(
                input_ids=batch, attention_mask=mask, use_cache=False
            ).last_hidden_state
            for i, one in zip(chosen, states.cpu().numpy(), strict=True):
                out[i] = one[: len(rows[i])].astype(np.float16)
        return out

    def forward(self, batch: Tensor, mask: Tensor) -> Tensor:
        """As in `Body`; in parts of like length, or a third of it were padding."""
        sizes = mask.sum(1)
        order = sizes.argsort(stable=True)
        found = []
        for rows in order.split(8):
            part, kept = batch[rows], mask[rows]
            length = int(sizes[rows[-1]])
            states = self.net(
                inputs_embeds=part[:, :length],
                attention_mask=kept[:, :length],
                use_cache=False,
            ).last_hidden_state
            found.append(last_of(states, kept))
        return torch.cat(found)[order.argsort()]


class Words(Body):
    """Hashed words, and a convolution or an LSTM over their vectors."""

    def __init__(self, kind: str, max_length: int, words: int = 64) -> None:
        super().__init__()
        self.kind, self.max_length, self.width = kind, max_length, 128
        self.words = nn.Embedding(HASHES, words, padding_idx=0)
        if kind == "cnn":
            self.layer: Any = nn.Conv1d(words, self.width, 3, padding=1)
        else:
            half = self.width // 2
            self.layer = nn.LSTM(words, half, batch_first=True, bidirectional=True)

    def inputs(self, texts: Sequence[str]) -> Inputs:
        """As in `Body`."""

        def number(word: str) -> int:
            return 1 + zlib.crc32(word.encode()) % (HASHES - 1)

        rows = [WORD.findall(text.lower())[: self.max_length] for text in texts]
        return [np.array([number(w) for w in row] or [0]) for row in rows]

    def forward(self, batch: Tensor, mask: Tensor) -> Tensor:
        """As in `Body`."""
        vectors = self.words(batch)
        if self.kind == "cnn":
            states = torch.relu(self.layer(vectors.mT)).mT
        else:
            states = self.layer(vectors)[0]
        return states.masked_fill(mask[..., None] == 0, -1e4).amax(1)


@dataclass(frozen=True)
class Backbone:
    """How to make a body, and how to fine-tune it on a source and on a target."""

    make: Callable[[], Body]
    rate: float
    epochs: tuple[int, int] = (3, 3)
    batches: tuple[int, int] | None = None
    head_factor: float = 10.0  # rate of the head over that of the body


@dataclass(frozen=True)
class Recipe:
    """Settings of one fine-tuning."""

    epochs: int
    batch: int
    rate: float
    head_factor: float = 10.0
    seed: int = 0
    warm_up: float = 0.1


class Candidate(nn.Module):
    """A body with a linear head over the labels of one set."""

    def __init__(self, body: Body, labels: Sequence[str], seed: int) -> None:
        super().__init__()
        self.body, self.labels = body, tuple(labels)
        generator = torch.Generator().manual_seed(seed)
        self.head = nn.Linear(body.width, len(labels))
        with torch.no_grad():
            drawn = torch.randn(self.head.weight.shape, generator=generator)
            self.head.weight.copy_(0.02 * drawn)
            self.head.bias.zero_()
        self.to(device())

    def goal(self, y: Sequence[str]) -> Tensor:
        """Numbers of labels (n,), on the net's device."""
        number = {label: i for i, label in enumerate(self.labels)}
        return torch.tensor([number[str(label)] for label in y], device=device())

    def fine_tune(
        self, inputs: Inputs, y: Sequence[str], recipe: Recipe
    ) -> list[float]:
        """Train all that is not frozen; returns the loss of each step."""
        goal = self.goal(y)
        body = [p for p in self.body.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            [
                {"params": body, "lr": recipe.rate},
                {
                    "params": self.head.parameters(),
                    "lr": recipe.head_factor * recipe.rate,
                },
            ],
            weight_decay=0.01,
            fused=True,
        )
        rng = np.random.default_rng(recipe.seed)
        torch.manual_seed(recipe.seed)
        steps = recipe.epochs * -(-len(inputs) // recipe.batch)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: min(
                (step + 1) / max(1, recipe.warm_up * steps), 1 - step / (steps + 1)
            ),
        )
        losses = []
        self.train()
        for _ in range(recipe.epochs):
            order = rng.permutation(len(inputs))
            for start in range(0, len(order), recipe.batch):
                rows = order[start : start + recipe.batch]
                features = features_of(self.body, [inputs[i] for i in rows])
                loss = nn.functional.cross_entropy(self.head(features), goal[rows])
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(body, 1.0)
                optimizer.step()
                schedule.step()
                losses.append(float(loss.detach()))
        return losses

    @torch.inference_mode()
    def predict(self, inputs: Inputs) -> np.ndarray:
        """Numbers of the most likely labels (n,)."""
        self.eval()
        out = np.empty(len(inputs), int)
        order = np.argsort([len(row) for row in inputs], kind="stable")
        for start in range(0, len(order), 64):
            rows = order[start : start + 64]
            features = features_of(self.body, [inputs[i] for i in rows])
            out[rows] = self.head(features).argmax(1).cpu().numpy()
        return out

    def trained(self) -> dict[str, Tensor]:
        """What the fine-tuning has changed, to be kept."""
        free = {n for n, p in self.named_parameters() if p.requires_grad}
        return {n: t.clone() for n, t in self.state_dict().items() if n in free}
