"""The data sets of the paper's Tables 1 and 2 as the Hugging Face hub has them.

They are those of Vu et al. (2020) whose rows can be one text with one label.  Left out
are STS-B (a regression), SQuAD 1 (its questions are in SQuAD 2), and NewsQA, HotpotQA,
WikiHop, ComQA and CQ, whose files the hub does not hold in a form that loads without
code.  Questions whose answer is a span become two rows, as in ``sets.py``: the wrong
answer is another question's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sets import LabelledSet, Places, Row, Rows, Sizes, cut, joined, verified

Record = Mapping[str, Any]


@dataclass(frozen=True)
class HubSet:
    """A data set of the hub and how its records become rows."""

    name: str
    kind: str
    path: str
    subset: str | None
    split: str
    rows: Callable[[Iterable[Record], str], Rows]

    def __str__(self) -> str:
        """Describe what is loaded."""
        subset = f", {self.subset}" if self.subset else ""
        return f"hub data set {self.path}{subset}, split {self.split} ({self.kind})"

    def load(self) -> Rows:
        """Load the rows."""
        try:
            from datasets import load_dataset
        except ImportError:
            raise SystemExit(
                "--config paper reads data sets of the hub: pip install datasets"
            ) from None
        found = load_dataset(self.path, self.subset, split=self.split)
        return self.rows(found, self.name)


def labelled(texts: tuple[str, ...], names: tuple[str, ...]) -> Any:
    """Rows of records with one or two texts and the number of a label."""

    def rows(records: Iterable[Record], name: str) -> Rows:
        out: Rows = []
        for record in records:
            label = record["label"]
            number = names.index(label) if isinstance(label, str) else int(label)
            if number >= 0:  # SNLI has rows without agreement, -1
                text = joined(*(str(record[key]) for key in texts))
                out.append(Row(text, names[number], text))
        return out

    return rows


def spans(records: Iterable[Record], name: str) -> Rows:
    """Rows of questions about a passage, with the right and another answer.

    The passage comes last, as its end is cut, and holds its rows together.
    """
    passages: dict[str, list[tuple[str, str]]] = {}
    for record in records:
        if answer := _first_answer(record):
            passage = str(record.get("context") or record.get("passage"))
            passages.setdefault(passage, []).append((str(record["question"]), answer))
    out: Rows = []
    for passage, asked in passages.items():
        # Another answer about the same passage is a likely one.
        others = asked[1:] + asked[:1]
        for (question, right), (_, wrong) in zip(asked, others, strict=True):
            if wrong != right:
                for label, answer in (("right", right), ("wrong", wrong)):
                    out.append(Row(joined(question, answer, passage), label, passage))
    return out


def _first_answer(record: Record) -> str:
    found: Any = record.get("answers") or record.get("answers_spans") or {}
    texts = found.get("text") or found.get("spans") or []
    return str(texts[0]) if len(texts) else ""


def choices(records: Iterable[Record], name: str) -> Rows:
    """Rows of CommonsenseQA."""
    questions = []
    for record in records:
        found = dict(
            zip(record["choices"]["label"], record["choices"]["text"], strict=True)
        )
        right = found.pop(record["answerKey"], None)
        if right:
            questions.append((record["question"], right, list(found.values())))
    return verified(questions, name)


def boolq(records: Iterable[Record], name: str) -> Rows:
    """Rows of BoolQ."""
    return [
        Row(
            joined(r["question"], r["passage"]),
            "yes" if r["answer"] else "no",
            r["passage"],
        )
        for r in records
    ]


ENTAILS = ("entailment", "not_entailment")
WNLI = ("not_entailment", "entailment")
NLI = ("entailment", "neutral", "contradiction")
GLUE = {
    "mnli": (("premise", "hypothesis"), NLI),
    "qqp": (("question1", "question2"), ("not_duplicate", "duplicate")),
    "qnli": (("question", "sentence"), ENTAILS),
    "sst2": (("sentence",), ("negative", "positive")),
    "cola": (("sentence",), ("unacceptable", "acceptable")),
    "mrpc": (("sentence1", "sentence2"), ("not_equivalent", "equivalent")),
    "rte": (("sentence1", "sentence2"), ENTAILS),
    "wnli": (("sentence1", "sentence2"), WNLI),
}
PAIR = ("premise", "hypothesis")
CLASS, ASK, CROSS = "classification", "question", "cross-domain"
HUB_SETS = [
    *(
        HubSet(name, CLASS, "nyu-mll/glue", name, "train", labelled(*how))
        for name, how in GLUE.items()
    ),
    HubSet("snli", CLASS, "stanfordnlp/snli", None, "train", labelled(PAIR, NLI)),
    HubSet(
        *("scitail", CLASS, "allenai/scitail", "tsv_format", "train"),
        labelled(PAIR, ("entails", "neutral")),
    ),
    # It holds SQuAD 1's questions too, so that only one of both can take part.
    HubSet("squad2", ASK, "rajpurkar/squad_v2", None, "train", spans),
    HubSet("boolq", ASK, "google/boolq", None, "train", boolq),
    HubSet("drop", ASK, "ucinlp/drop", None, "train", spans),
    HubSet("commonsenseqa", ASK, "tau/commonsense_qa", None, "train", choices),
    HubSet(
        *("financial phrasebank", CROSS, "takala/financial_phrasebank"),
        *("sentences_allagree", "train"),
        labelled(("sentence",), ("negative", "neutral", "positive")),
    ),
    HubSet(
        *("medical questions pairs", CROSS, "curaihealth/medical_questions_pairs"),
        *(None, "train"),
        labelled(("question_1", "question_2"), ("not_duplicate", "duplicate")),
    ),
]


# CrossFit's tasks on the sets' texts that do not bear the sets' names.
CROSSFIT_TARGETS = ("squad-*", "commonsense_qa")


def hub_sets(place: Places, sizes: Sizes) -> dict[str, LabelledSet]:
    """Load sources and targets of Table 1, then the targets of Table 2."""
    return {one.name: cut(one.name, one.kind, one.load(), sizes) for one in HUB_SETS}
