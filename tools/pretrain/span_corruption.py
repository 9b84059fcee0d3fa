"""Stage b: teach the decoder to write the words that a text has lost.

    python span_corruption.py --corpus corpus.txt --work DIR --threads 2

T5's own denoising (Raffel et al. 2020, section 3.1.4): spans of three tokens, 15 % of
the text, give way to sentinels; the decoder writes sentinels and spans.  The encoder
stays as stage a left it, WordPiece's unused tokens are the sentinels.  The run may be
killed at any moment and started again with the same command.  Stage c takes what it
leaves: ``train_decoder.py --start DIR/spans.pt``.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from distil import make_batches, padded
from runs import (
    SAVE_SECONDS,
    set_up_torch,
    stage_parser,
    warm_and_fade,
    weights_state,
    write_checkpoint,
)
from torch.nn import functional as F
from transformers import T5ForConditionalGeneration

FIRST_SENTINEL, N_SENTINELS = 1, 99  # WordPiece's [unused0] to [unused98]
HELD_OUT = 0.01


def cut_spans(
    row: np.ndarray, rng: np.random.Generator, share: float, span: float
) -> tuple[list[int], list[int]]:
    """Cut random spans out of ``[CLS] text [SEP]``; returns the rest and the spans."""
    inner = row[1:-1]
    n_lost = min(max(1, round(share * len(inner))), len(inner) - 1)
    n_kept = len(inner) - n_lost
    n_spans = min(max(1, round(n_lost / span)), n_lost, n_kept)
    # T5's code ends every text with a span; a short text's only one would be its end.
    places = np.sort(rng.choice(n_kept + 1, n_spans, replace=False))
    cuts = np.sort(rng.choice(n_lost - 1, n_spans - 1, replace=False)) + 1
    lengths = np.diff(cuts, prepend=0, append=n_lost)
    source, target, at = [int(row[0])], [], 0
    for k, (kept, lost) in enumerate(
        zip(np.diff(places, prepend=0), lengths, strict=True)
    ):
        source += [*inner[at : at + kept].tolist(), FIRST_SENTINEL + k]
        target += [FIRST_SENTINEL + k, *inner[at + kept : at + kept + lost].tolist()]
        at += kept + lost
    return [*source, *inner[at:].tolist(), int(row[-1])], [*target, int(row[-1])]


class Denoiser:
    """The decoder's weights, the frozen encoder and the texts."""

    def __init__(self, work: Path, corpus: Path, settings: dict) -> None:
        self.how, self.seed = settings["spans"], settings["seed"]
        length = settings["distil"]["max_length"]
        blocks = make_batches(corpus, work, length, self.how["batch_tokens"])
        blocks = [b for b in blocks if b.shape[1] >= self.how["min_length"]]
        order = np.random.default_rng(self.seed).permutation(len(blocks))
        held = max(1, int(HELD_OUT * len(blocks)))
        self.held = [blocks[i] for i in order[:held]]
        self.batches = [blocks[i] for i in order[held:]]
        self.model = T5ForConditionalGeneration.from_pretrained(work / "encoder")
        self.model.requires_grad_(False)
        self.weights = {
            k: v for k, v in self.model.named_parameters() if k.startswith("decoder.")
        }
        for weight in self.weights.values():
            weight.requires_grad_()
        self.optimizer = torch.optim.AdamW(
            self.weights.values(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01
        )
        self.step = 0
        self.checkpoint = work / "spans.pt"
        if self.checkpoint.exists():
            state = torch.load(self.checkpoint, weights_only=True)
            for key, value in state["weights"].items():
                self.weights[key].data.copy_(value)
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]

    def save(self) -> None:
        """Keep what a killed run goes on from."""
        state = weights_state(self.weights, self.optimizer, self.step)
        write_checkpoint(state, self.checkpoint)

    def _scores(
        self, block: np.ndarray, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of what was cut out of a batch, and its ids."""
        rows = [row[row != 0] for row in block]
        how = self.how
        cut = [cut_spans(r, rng, how["lost_share"], how["mean_span"]) for r in rows]
        ids = torch.from_numpy(padded([source for source, _ in cut]))
        labels = torch.from_numpy(padded([target for _, target in cut], fill=-100))
        mask = (ids != 0).long()
        with torch.no_grad():
            memory = self.model.encoder(input_ids=ids, attention_mask=mask)
        given = self.model.prepare_decoder_input_ids_from_labels(labels)
        hidden = self.model.decoder(
            input_ids=given,
            encoder_hidden_states=memory.last_hidden_state,
            encoder_attention_mask=mask,
        ).last_hidden_state
        asked = labels != -100
        hidden = hidden[asked] * self.model.config.d_model**-0.5
        return hidden @ self.model.shared.weight.T, labels[asked]

    def train_step(self) -> float:
        """Take one step; returns the loss per token."""
        epoch, place = divmod(self.step, len(self.batches))
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.batches))
        rng = np.random.default_rng([self.seed, 1, self.step])
        loss = F.cross_entropy(*self._scores(self.batches[order[place]], rng))
        if not math.isfinite(loss.item()):
            raise RuntimeError(f"the loss is {loss.item()} at step {self.step}")
        fade = warm_and_fade(self.step, self.how)
        for group in self.optimizer.param_groups:
            group["lr"] = self.how["learning_rate"] * fade
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights.values(), 1.0)
        self.optimizer.step()
        self.step += 1
        return loss.item()

    @torch.no_grad()
    def held_out(self) -> str:
        """Score texts never trained on, next to the words' frequencies alone."""
        rng = np.random.default_rng([self.seed, 2])
        loss, right, found = 0.0, 0, []
        for block in self.held:
            scores, ids = self._scores(block, rng)
            words = (ids >= FIRST_SENTINEL + N_SENTINELS) & (
                ids != self.model.config.eos_token_id
            )
            scores, ids = scores[words], ids[words]
            loss += F.cross_entropy(scores, ids, reduction="sum").item()
            right += int((scores.argmax(1) == ids).sum())
            found.append(ids.numpy())
        _, counts = np.unique(np.concatenate(found), return_counts=True)
        share = counts / counts.sum()
        return (
            f"words cut out: loss {loss / counts.sum():.3f} "
            f"(by frequency {-(share * np.log(share)).sum():.3f}), "
            f"right {right / counts.sum():.3f} (commonest {share.max():.3f})"
        )


def main() -> None:
    args = stage_parser(__doc__).parse_args()
    set_up_torch(args.threads)
    run = Denoiser(args.work, args.corpus, json.loads(args.config.read_text()))
    print(f"{len(run.batches)} batches, from step {run.step}", flush=True)
    saved = clock = time.monotonic()
    trace: list[float] = []
    while run.step < run.how["steps"]:
        trace.append(run.train_step())
        if run.step % 100 == 0:
            took = (time.monotonic() - clock) / len(trace)
            loss = np.mean(trace)
            print(f"step {run.step} loss {loss:.3f} {took:.2f} s/step", flush=True)
            trace, clock = [], time.monotonic()
        if time.monotonic() - saved > SAVE_SECONDS:
            run.save()
            saved = time.monotonic()
    run.save()
    print(f"step {run.step}: {run.held_out()}", flush=True)


if __name__ == "__main__":
    main()
