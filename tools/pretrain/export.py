"""Pack a checkpoint as the package's built-in surrogate.

    python export.py --model DIR/encoder --corpus corpus.txt

``DIR/encoder`` is what stage a writes, ``DIR/tuned`` what stage c writes.

Writes bfloat16 weights, the tokenizer and the reference statistics of varied texts
(`MomentEmbedder`) to the package's data folder.
"""

from __future__ import annotations

import argparse
import random
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import AutoTokenizer, T5ForConditionalGeneration

from fute_sklearn._engine import encode_texts, load_surrogate
from fute_sklearn._engine._load import STARTS_FILE
from fute_sklearn.embedders._moment_embedder import REFERENCE_FILE
from fute_sklearn.embedders._normal_equations import FeatureSums

TARGET = Path(__file__).parents[2] / "fute_sklearn/_engine/data/fute-mini"


def write_reference(folder: Path, corpus: Path, n_texts: int) -> None:
    """Compute the statistics of varied texts under the packed surrogate."""
    texts = corpus.read_text(encoding="utf8").splitlines()
    texts = random.Random(0).sample(texts, n_texts)
    sums = FeatureSums.of(encode_texts(load_surrogate(folder), texts).pooled())
    second = sums.scatter / sums.count
    spread = np.sqrt(np.diag(second))
    save_file(
        {
            "mean": sums.mean.astype(np.float32),
            "spread": spread.astype(np.float32),
            "second": (second / np.outer(spread, spread)).astype(np.float32),
        },
        folder / REFERENCE_FILE,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=TARGET)
    parser.add_argument("--reference-texts", type=int, default=10_000)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    model = T5ForConditionalGeneration.from_pretrained(args.model)
    model.to(torch.bfloat16).save_pretrained(args.out)
    (args.out / "generation_config.json").unlink(missing_ok=True)
    AutoTokenizer.from_pretrained(args.model).save_pretrained(args.out)
    shutil.copy(args.model / STARTS_FILE, args.out)
    write_reference(args.out, args.corpus, args.reference_texts)
    size = sum(p.stat().st_size for p in args.out.iterdir()) / 2**20
    print(f"{args.out.name}: {size:.1f} MiB")


if __name__ == "__main__":
    main()
