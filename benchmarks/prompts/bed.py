"""The texts and the prompts of the bed: what a language model is asked."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fute_sklearn.datasets import load_opinion_domains
from fute_sklearn.presets import completion_prompts, paper_prompts

ROWS = 300
UNLABELLED = 200
UNLABELLED_ROWS = 2000  # of RTE's training split; later ones may be labelled
SETS = {
    "sentiment": ("sst2", "mr", "posts"),
    "inference": ("rte", "scitail", "cb"),
}
PAIR = re.compile(r"Sentence 1: (.*) Sentence 2: (.*)", re.DOTALL)
# How a set names what the prompts call positive, negative, entailment, ...
NAMES = {"entails": "entailment", "not entailment": "other"}


@dataclass(frozen=True)
class Rows:
    """Records to fill prompts with, and labels where they are labelled."""

    records: list[dict[str, str]]
    labels: list[str] | None

    @property
    def key(self) -> str:
        """Hash of the records, kept with the answers."""
        return hashlib.sha256(json.dumps(self.records).encode()).hexdigest()[:16]


def prompts_of(kind: str) -> list[dict[str, Any]]:
    """List the paper's prompts of a kind, then ten of our own."""
    return paper_prompts(kind) + completion_prompts(kind)


def prompts_key(kind: str) -> str:
    """Hash of the prompts, kept with the answers."""
    return hashlib.sha256(json.dumps(prompts_of(kind)).encode()).hexdigest()[:16]


def _file_rows(path: Path, splits: tuple[str, ...]) -> list[tuple[Any, str]]:
    out = []
    with gzip.open(path, "rt", encoding="utf8") as file:
        for line in file:
            row = json.loads(line)
            if row["split"] not in splits:
                continue
            found = PAIR.match(row.get("text", ""))
            if found:
                row.update(premise=found[1], hypothesis=found[2])
            fields = ("premise", "hypothesis") if "premise" in row else ("text",)
            record = {name: row[name].strip() for name in fields}
            out.append((record, NAMES.get(row["label"], row["label"])))
    return out


def _post_rows() -> list[tuple[Any, str]]:
    domains, _ = load_opinion_domains()
    return [
        ({"text": text}, str(label))
        for task in domains.values()
        for text, label in zip(task.texts, task.y, strict=True)
    ]


def _drawn(
    rows: list[tuple[Any, str]], count: int, seed: int, skip: int = 0
) -> list[Any]:
    order = np.random.default_rng(seed).permutation(len(rows))[skip : skip + count]
    return [rows[i] for i in sorted(order)]


def labelled_rows(name: str, data: Path, further: int | None = None) -> Rows:
    """Draw the labelled rows of a set: 300, all of the 306 that CB has; or others."""
    if name == "posts":
        rows = _post_rows()
    elif name == "cb":
        rows = _file_rows(data / "cb.jsonl.gz", ("train", "validation"))
    else:
        test = "validation" if name == "rte" else "test"
        rows = _file_rows(data / f"{name}.jsonl.gz", (test,))
        if len(rows) < ROWS:  # RTE has 277 of validation
            train = _file_rows(data / f"{name}.jsonl.gz", ("train",))[UNLABELLED_ROWS:]
            rows += _drawn(train, ROWS - len(rows), 1)
    if further is not None:
        rows = _drawn(rows, further, 0, skip=ROWS)
        if len(rows) < further:
            raise SystemExit(f"{name} has {len(rows)} further rows, not {further}.")
    else:
        rows = rows if name == "cb" else _drawn(rows, ROWS, 0)
    return Rows([record for record, _ in rows], [label for _, label in rows])


def unlabelled_rows(kind: str, data: Path, count: int = UNLABELLED) -> Rows:
    """Draw texts of several sorts, from splits that no labelled row comes from."""
    if kind == "sentiment":
        _, posts = load_opinion_domains()
        sources: list[list[Any]] = [
            _file_rows(data / f"{name}.jsonl.gz", ("train",))
            for name in ("sst2", "subj", "trec")
        ]
        sources.append([({"text": text}, "") for text in posts])
    else:
        sources = [
            _file_rows(data / "rte.jsonl.gz", ("train",))[:UNLABELLED_ROWS],
            _file_rows(data / "scitail.jsonl.gz", ("train",)),
        ]
    size = count // len(sources)
    rows = [row for i, rows in enumerate(sources) for row in _drawn(rows, size, 2 + i)]
    return Rows([record for record, _ in rows], None)
