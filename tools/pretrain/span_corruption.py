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
from pathlib import Path

import numpy as np
import torch
from distil import make_batches, padded
from runs import TextToText, set_up_torch, stage_parser
from torch.nn import functional as F

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


class Denoiser(TextToText):
    """The decoder learning to write what was cut out of the corpus's texts."""

    def __init__(self, work: Path, corpus: Path, settings: dict) -> None:
        super().__init__(work, settings["spans"], "spans.pt")
        self.seed = settings["seed"]
        length = settings["distil"]["max_length"]
        blocks = make_batches(corpus, work, length, self.how["batch_tokens"])
        blocks = [b for b in blocks if b.shape[1] >= self.how["min_length"]]
        order = np.random.default_rng(self.seed).permutation(len(blocks))
        held = max(1, int(HELD_OUT * len(blocks)))
        self.held = [blocks[i] for i in order[:held]]
        self.batches = [blocks[i] for i in order[held:]]

    def _cut(
        self, block: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        how = self.how
        rows = [row[row != 0] for row in block]
        cut = [cut_spans(r, rng, how["lost_share"], how["mean_span"]) for r in rows]
        sources, targets = zip(*cut, strict=True)
        return padded(sources), padded(targets, fill=-100)

    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """Cut this step's texts."""
        epoch, place = divmod(self.step, len(self.batches))
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.batches))
        rng = np.random.default_rng([self.seed, 1, self.step])
        return self._cut(self.batches[order[place]], rng)

    @torch.no_grad()
    def held_out(self) -> str:
        """Score texts never trained on, next to the words' frequencies alone."""
        rng = np.random.default_rng([self.seed, 2])
        loss, right, found = 0.0, 0, []
        for block in self.held:
            scores, ids = self.scores(*self._cut(block, rng))
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
    settings = json.loads(args.config.read_text())
    Denoiser(args.work, args.corpus, settings).train()


if __name__ == "__main__":
    main()
