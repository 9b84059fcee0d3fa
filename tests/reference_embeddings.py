"""Embeddings of fixed tasks by every embedder, kept so that a change of house shows.

``python -m tests.reference_embeddings --write`` stores them; without the option, it
tells which are the same bit for bit, as they are on one machine with one thread.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from fute_sklearn import (
    MomentEmbedder,
    TaskEmbedder,
    TaskVectorizer,
    TextEmbedder,
    TuPaTEEmbedder,
)

STORED = Path(__file__).parent / "data" / "embeddings.json"
TEXTS = ["a fine film", "a dull film", "what joy", "how sad", "so slow", "fine food"]
LABELS = ["pos", "neg", "pos", "neg", "neg", "pos"]
TINY, MINI = "fute-tiny-random", "fute-mini"
EMBEDDERS = {
    "tupate lora": TuPaTEEmbedder(MINI, space="parameters", max_epochs=2),
    "tupate prompt": TuPaTEEmbedder(
        MINI, tuning="prompt", space="parameters", max_epochs=2
    ),
    "tupate bias": TuPaTEEmbedder(
        TINY, tuning="bias", space="parameters", max_epochs=2
    ),
    "tupate function": TuPaTEEmbedder(MINI, max_epochs=2),
    "tupate function student": TuPaTEEmbedder(
        TINY, reference=TEXTS, data_set="student", max_epochs=2
    ),
    "moment": MomentEmbedder(MINI),
    "moment text": MomentEmbedder(TINY, reference=TEXTS, target_encoding="text"),
    "taskemb": TaskEmbedder(TINY),
    "taskemb tuned": TaskEmbedder(TINY, fine_tuning="full", max_epochs=1),
    "textemb": TextEmbedder(MINI),
}
TARGETS = {
    "labels": LABELS,
    "probabilities": np.array([[0.3, 0.7], [0.9, 0.1]] * 3),
    "numbers": [0.5, 1.5, 2.0, 2.5, 3.25, -1.0],
}


# Closed forms over shipped weights are the same everywhere. Tuning magnifies last bits,
# and the tiny surrogate's weights are drawn anew by the library at hand.
STEADY = ("moment,", "textemb,")


def where_made():
    """Hash of what last bits depend on."""
    import torch

    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf8").splitlines() if info.is_file() else []
    models = sorted({line for line in lines if line.startswith("model name")})
    parts = [torch.__version__, torch.backends.cpu.get_cpu_capability(), *models]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def embeddings():
    """Yield names and embeddings, of single fits and of several tasks at once."""
    import torch

    torch.set_num_threads(1)
    for name, embedder in EMBEDDERS.items():
        for kind, y in TARGETS.items():
            if kind == "numbers" and name == "taskemb tuned":
                continue
            classes = ["neg", "pos"] if kind == "probabilities" else None
            yield f"{name}, {kind}", embedder.fit(TEXTS, y, classes=classes).embedding_
        together = [(TEXTS, LABELS), (TEXTS, LABELS[::-1]), (TEXTS[:4], LABELS[:4])]
        yield f"{name}, together", TaskVectorizer(embedder).fit_transform(together)


def main():
    """Write the stored values, or compare with them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    write = parser.parse_args().write
    found = {name: np.asarray(value) for name, value in embeddings()}
    records = {
        name: {
            "sha256": hashlib.sha256(value.tobytes()).hexdigest(),
            "shape": value.shape,
            "some": [float(v) for v in value.ravel()[:: max(1, value.size // 24)]],
        }
        for name, value in found.items()
    }
    if write:
        content = {"where": where_made(), "embeddings": records}
        STORED.write_text(json.dumps(content, indent=1) + "\n", encoding="utf8")
        return
    stored = json.loads(STORED.read_text(encoding="utf8"))["embeddings"]
    other = [n for n in stored if records[n]["sha256"] != stored[n]["sha256"]]
    same = len(stored) - len(other)
    print(f"{same} of {len(stored)} embeddings are bit for bit equal")
    sys.exit(f"not equal: {other}" if other else 0)


if __name__ == "__main__":
    main()
