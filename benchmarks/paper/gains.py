"""Fine-tune the candidates of Tables 1 and 2 and keep what came out, not the weights.

    python benchmarks/paper/gains.py --work DIR [--config offline] [--data DIR]
        [--packages DIR] [--smollm2 DIR] [--archives DIR] [--crossfit DIR]
        [--only minilm,fute-mini,...]
    python benchmarks/paper/gains.py --work DIR ... --collect

A candidate is a backbone fine-tuned on the training rows of a source.  Its gains: the
accuracy on each target's test rows after its body was fine-tuned further, with a new
head, on a few rows of the target, and, where its labels are the target's, without; then
also which of these few rows it answers rightly.  Kept too: the loss of each step, and
its answers to the unlabelled texts.  The source "none" is the backbone as it was
published.  One file a candidate in ``--work``: stop it at any moment, start it again,
and it goes on.  ``--collect`` writes them to two files beside this one, named for the
configuration, which hold all that the tables need.  Two cores take about five hours.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from backbones import Candidate, Inputs, Recipe
from configs import CONFIGS, Config
from hub import CROSSFIT_TARGETS
from kept import NONE
from kept import write as write_kept
from sets import LabelledSet, Places
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

sys.path.append(str(Path(__file__).parents[1]))
from beds import sentences

from fute_sklearn import Task
from fute_sklearn.datasets import load_crossfit, load_opinion_domains


def classical(name: str) -> Any:
    """Return an unfitted classifier that cannot be fine-tuned further."""
    last: Any = (
        LinearSVC(random_state=0)
        if name == "svm"
        else DecisionTreeClassifier(max_depth=20, random_state=0)
    )
    return make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), last)


def write(path: Path, found: dict[str, Any]) -> None:
    """Write a candidate's results at once."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(found))
    partial.replace(path)


def accuracy(answers: list[str], target: LabelledSet) -> float:
    """Share of the test rows answered with their label."""
    return round(float(np.mean(np.asarray(answers) == target.test.y)), 4)


def right(answers: Sequence[str], target: LabelledSet) -> list[int]:
    """Which of the target's first known rows are answered with their label."""
    y = target.known.y[: len(answers)]
    return [int(a == label) for a, label in zip(answers, y, strict=True)]


class Run:
    """One backbone's candidates; the inputs of every set are prepared once."""

    def __init__(
        self, name: str, config: Config, place: Places, sets: dict[str, LabelledSet]
    ) -> None:
        self.name, self.config, self.sets = name, config, sets
        backbone = self.backbone = config.backbones(place)[name]
        torch.manual_seed(0)
        self.body = backbone.make()
        self.start = {n: t.clone() for n, t in self.body.state_dict().items()}
        self._inputs: dict[tuple[str, str], Inputs] = {}

    def inputs(self, name: str, part: str) -> Inputs:
        """Inputs of the training, known or test rows of a set."""
        key = (name, part)
        if key not in self._inputs:
            texts = getattr(self.sets[name], part).texts
            few = self.config.sizes.few if part == "known" else None
            self._inputs[key] = self.body.inputs(texts[:few])
        return self._inputs[key]

    def recipe(self, part: int) -> Recipe:
        """Settings for a source (0) or a target (1), which is the seed too."""
        one = self.backbone
        batch = (one.batches or self.config.batches)[part]
        return Recipe(one.epochs[part], batch, one.rate, one.head_factor, seed=part)

    def candidate(self, source: str, texts: Inputs, work: Path) -> None:
        """Fine-tune on a source, then on each target; write what came out."""
        began = time.perf_counter()
        self.body.load_state_dict(self.start)
        found: dict[str, Any] = {"backbone": self.name, "source": source}
        state = self.start
        zero_shot: dict[str, float] = {}
        known_right: dict[str, list[int]] = {}
        if source != NONE:
            own = self.sets[source]
            one = Candidate(self.body, own.labels, 0)
            recipe = self.recipe(0)
            losses = one.fine_tune(self.inputs(source, "train"), own.train.y, recipe)
            found["losses"] = [round(x, 4) for x in losses]
            found["labels"] = list(own.labels)
            found["answers"] = one.predict(texts).tolist()
            found["seconds_source"] = round(time.perf_counter() - began, 1)
            for name, target in self.sets.items():
                if target.labels == own.labels:
                    said = one.predict(self.inputs(name, "test"))
                    zero_shot[name] = accuracy([own.labels[i] for i in said], target)
                    said = one.predict(self.inputs(name, "known"))
                    known_right[name] = right([own.labels[i] for i in said], target)
            torch.save(one.trained(), work / f"{self.name}--{source}.pt")
            state = {n: t.clone() for n, t in self.body.state_dict().items()}
        gains = {}
        for name, target in self.sets.items():
            self.body.load_state_dict(state)
            one = Candidate(self.body, target.labels, 1)
            recipe = self.recipe(1)
            inputs = self.inputs(name, "known")
            one.fine_tune(inputs, target.known.y[: len(inputs)], recipe)
            said = one.predict(self.inputs(name, "test"))
            gains[name] = accuracy([target.labels[i] for i in said], target)
        found.update(gains=gains, zero_shot=zero_shot, known_right=known_right)
        found["seconds"] = round(time.perf_counter() - began, 1)
        write(work / f"{self.name}--{source}.json", found)


def classical_candidate(
    kind: str,
    source: str,
    sets: dict[str, LabelledSet],
    texts: list[str],
    config: Config,
) -> dict[str, Any]:
    """Fit a classical model on a source; it has no gain after further fine-tuning."""
    own = sets[source]
    began = time.perf_counter()
    model = classical(kind).fit(list(own.train.texts), own.train.y)
    number = {label: i for i, label in enumerate(own.labels)}
    alike = {n: one for n, one in sets.items() if one.labels == own.labels}
    few = config.sizes.few
    return {
        "backbone": kind,
        "source": source,
        "labels": list(own.labels),
        "answers": [number[label] for label in model.predict(texts)],
        "gains": {},
        "zero_shot": {
            name: accuracy(model.predict(list(target.test.texts)), target)
            for name, target in alike.items()
        },
        "known_right": {
            name: right(model.predict(list(target.known.texts[:few])), target)
            for name, target in alike.items()
        },
        "seconds": round(time.perf_counter() - began, 1),
    }


def add_places(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which configuration, and where its data lie."""
    parser.add_argument("--config", choices=CONFIGS, default="offline")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--packages", type=Path)
    parser.add_argument("--smollm2", type=Path)
    parser.add_argument("--archives", type=Path)
    parser.add_argument("--crossfit", type=Path)
    parser.add_argument(
        "--results",
        type=Path,
        help="of the kept results, without their ending; by default beside this file",
    )


def results(args: argparse.Namespace) -> Path:
    """Path of the kept results, without their ending."""
    return args.results or Path(__file__).with_name(args.config)


def places(args: argparse.Namespace) -> Places:
    """Where the data and the weights lie."""
    return Places(args.data, args.packages, args.smollm2)


def unlabelled(
    config: Config, args: argparse.Namespace, sets: dict[str, LabelledSet]
) -> list[str]:
    """Draw the texts that every candidate labels."""
    if config.name == "paper":
        if args.crossfit is None:
            raise SystemExit("--config paper needs --crossfit, CrossFit's folder.")
        targets: list[Task] = [
            part for one in sets.values() for part in (one.train, one.known, one.test)
        ]
        found, report = load_crossfit(
            args.crossfit, exclude=CROSSFIT_TARGETS, targets=targets
        )
        print(report.to_string())
    elif config.name == "tiny":
        found = load_opinion_domains()[1]
    else:
        found = sentences(args.archives)
    order = np.random.default_rng(0).permutation(len(found))[: config.unlabelled]
    return [found[i] for i in order]


def keys_of(texts: list[str], sets: dict[str, LabelledSet]) -> dict[str, str]:
    """Hashes of the texts and rows that results are about."""

    def key(parts: list[Any]) -> str:
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    rows = {
        name: [[list(t.texts), list(map(str, t.y))] for t in (one.known, one.test)]
        for name, one in sets.items()
    }
    return {"unlabelled": key(texts)} | {n: key(found) for n, found in rows.items()}


def collect(config: Config, args: argparse.Namespace) -> None:
    """Join the candidates' files to the two that are committed."""
    place = places(args)
    nets = config.backbones(place)
    sets = config.sets(place, config.sizes)
    settings = {
        "config": config.name,
        "rows": vars(config.sizes) | {"unlabelled": config.unlabelled},
        "max_length": config.max_length,
        "batches": {n: net.batches or config.batches for n, net in nets.items()},
        "epochs": {name: net.epochs for name, net in nets.items()},
        "rates": {name: net.rate for name, net in nets.items()},
        "torch": torch.__version__,
        "keys": keys_of(unlabelled(config, args, sets), sets),
    }
    paths = sorted(args.work.glob("*--*.json"))
    found = [json.loads(path.read_text()) for path in paths]
    write_kept(results(args), settings, found)
    print(f"{len(found)} candidates")


def fine_tune_all(config: Config, args: argparse.Namespace) -> None:
    """Make the candidates that are not there yet."""
    place = places(args)
    sets = config.sets(place, config.sizes)
    sources = [n for n, one in sets.items() if one.kind != "cross-domain"]
    texts = unlabelled(config, args, sets)
    nets = list(config.backbones(place))
    for name in (args.only or ",".join([*nets, *config.classical])).split(","):
        run, prepared = None, []
        for source in ([NONE] if name in nets else []) + sources:
            path = args.work / f"{name}--{source}.json"
            if path.exists():
                continue
            if name not in nets:
                write(path, classical_candidate(name, source, sets, texts, config))
                continue
            if run is None:
                run = Run(name, config, place, sets)
                prepared = run.body.inputs(texts)
            run.candidate(source, prepared, args.work)
            print(time.strftime("%H:%M:%S"), name, source, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_places(parser)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only")
    parser.add_argument("--collect", action="store_true")
    args = parser.parse_args()
    config = CONFIGS[args.config]
    if args.collect:
        collect(config, args)
        return
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    args.work.mkdir(parents=True, exist_ok=True)
    fine_tune_all(config, args)


if __name__ == "__main__":
    main()
