"""Table 1: rank fine-tuned language models for classification and question answering.

    python benchmarks/paper/table1.py [--config offline] [--seeds 3] [--dry-run]
        [--kinds classification question] [--backbones cnn lstm] [--data DIR]
        [--packages DIR] [--smollm2 DIR] [--archives DIR] [--crossfit DIR]

The candidates, their gains and their answers are those that gains.py has kept.  The
truth is the accuracy on a target's test rows after a candidate was fine-tuned further
on a few of its rows; the second truth that without, where the labels are the same.  A
target's own candidates are left out.  *In-class*: sources of the target's kind only;
*all-class*: all sources.  *One backbone*: the candidates of one backbone are ranked,
mean over the backbones; *all backbones*: all together.  Seeds draw other unlabelled
texts and other initial values.  Measures are means over the targets, beside those
expected of a random ranking: rank of the best candidate, NDCG (linear, of accuracies;
exponential, of accuracies in percent), Spearman's rho, regret.  Methods that lack a
score of some candidate are not shown, as they would rank fewer.  ``--kinds`` with
``cross-domain`` too prints Table 2 from the same embeddings, ``--backbones`` ranks the
candidates of these alone.

``--dry-run`` loads nothing and prints all that would be loaded, tuned and embedded.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from configs import CONFIGS, KINDS, Config
from gains import add_places, keys_of, places, results, unlabelled
from kept import Kept, read
from methods import Methods, Scores, fine_tuned, gain_matrix, past_scores
from own import OwnVectors, own_path
from peers import peer_rows, peers_path
from report import measured, reliability, show
from sets import LabelledSet, Places

from fute_sklearn.exceptions import TruncationWarning, UnlabelledTextsWarning


def dry_run(config: Config, kinds: Sequence[str]) -> None:
    """Print what would be loaded, fine-tuned and embedded."""
    nets = config.backbones(Places())
    print(f"configuration {config.name}, targets: {', '.join(kinds)}")
    for what, source in config.loads.items():
        print(f"  {what:32s}{source}")
    print(f"  {'surrogate':32s}{config.surrogate}")
    print(f"fine-tuning ({config.sizes}, at most {config.max_length} tokens)")
    for name, net in nets.items():
        batches = net.batches or config.batches
        print(
            f"  {name:32s}rate {net.rate:g}, source: {net.epochs[0]} epochs of batches "
            f"of {batches[0]}, target: {net.epochs[1]} of {batches[1]}"
        )
    print(f"embedding, {config.texts} texts a model and seed")
    for (method, what), settings in config.fute.items():
        print(f"  {method + ', ' + what:32s}{json.dumps(settings)}")


def pools_of(candidates: Sequence[Kept]) -> dict[str, list[np.ndarray]]:
    """Which candidates are ranked together."""
    backbones = np.array([c.backbone for c in candidates])
    return {
        "one backbone": [backbones == name for name in dict.fromkeys(backbones)],
        "all backbones": [np.full(len(candidates), True)],
    }


def in_class(
    candidates: Sequence[Kept], sets: dict[str, LabelledSet], kind: str
) -> np.ndarray:
    """Whether a candidate's source is of the target's kind.

    Targets of other domains all count as classification, also MedQA and FiQA, whose
    rows ask whether an answer is right.
    """
    wanted = "classification" if kind == "cross-domain" else kind
    return np.array([sets[c.source].kind == wanted for c in candidates])


class Table:
    """Scores of all methods for all seeds, and the tables made of them."""

    def __init__(
        self, config: Config, args: argparse.Namespace, kinds: Sequence[str]
    ) -> None:
        self.sets = config.sets(places(args), config.sizes)
        texts = unlabelled(config, args, self.sets)
        settings, found = read(results(args))
        keys = keys_of(texts, self.sets)
        if wrong := [n for n, key in settings.pop("keys").items() if keys[n] != key]:
            raise SystemExit(f"the kept results are about other rows of {wrong}.")
        print(json.dumps(settings))
        candidates = fine_tuned(found)
        if args.backbones:
            known = {c.backbone for c in candidates}
            if strange := set(args.backbones) - known:
                raise SystemExit(f"--backbones {strange}: there are {sorted(known)}.")
            candidates = [c for c in candidates if c.backbone in args.backbones]
        self.config, self.kinds = config, kinds
        past = [n for n, one in self.sets.items() if one.kind != "cross-domain"]
        own = OwnVectors(own_path(results(args)))
        # SVM and tree cannot be fine-tuned further; they count in the second truth.
        self.nets = [c for c in candidates if c.gains]
        self.all = candidates
        self.scores: list[Scores] = []
        self.same: list[Scores] = []
        fixed: Scores = {}  # of methods that see no unlabelled text
        taskemb: np.ndarray | None = None
        for seed in range(args.seeds):
            began = time.perf_counter()
            made = Methods(config, self.nets, self.sets, texts, seed)
            fixed = fixed or (
                past_scores(self.nets, made.places(), past)
                | made.data()
                | made.curves()
                | made.own(own)
                | peer_rows(peers_path(results(args)), self.nets, self.sets)
            )
            taskemb = made.fute_targets("taskemb") if taskemb is None else taskemb
            self.scores.append(fixed | made.embedded(taskemb) | made.closed())
            every = Methods(config, self.all, self.sets, texts, seed)
            self.same.append(every.same_labels())
            print(f"seed {seed}: {time.perf_counter() - began:.0f} s", flush=True)

    def show(self) -> None:
        """Print the tables of every kind of targets, for both truths."""
        for kind in self.kinds:
            names = list(self.sets)
            columns = [i for i, n in enumerate(names) if self.sets[n].kind == kind]
            targets = [names[i] for i in columns]
            print(f"\n{kind}: {', '.join(targets)}")
            gains = gain_matrix(self.nets, targets)
            inner = in_class(self.nets, self.sets, kind)
            for title, part in (("in-class", inner), ("all-class", inner | ~inner)):
                cut = np.where(part[:, None], gains, np.nan)
                for pool, members in pools_of(self.nets).items():
                    self._one(
                        f"{kind}, {title}, {pool}", cut, self.scores, columns, members
                    )
            truth = gain_matrix(self.all, targets, "zero_shot")
            members = pools_of(self.all)["all backbones"]
            self._one(
                f"{kind}, without further fine-tuning",
                truth,
                self.same,
                columns,
                members,
            )

    def _one(
        self,
        title: str,
        gains: np.ndarray,
        scores: Sequence[Scores],
        columns: list[int],
        pools: list[np.ndarray],
    ) -> None:
        tables: list[pd.DataFrame] = []
        for one in scores:
            cut = {name: values[:, columns] for name, values in one.items()}
            tables.append(measured(gains, cut, pools))
        if not len(tables[0]):
            print(f"\n{title}: no target has three candidates with its labels")
            return
        share = reliability(gains, pools, self.config.sizes.test)
        show(f"{title} (of the gains' variance, {share:.2f} is no noise)", tables)


def run(description: str | None, kinds: Sequence[str]) -> None:
    """Make the table of some kinds of targets; the command line says how."""
    parser = argparse.ArgumentParser(description=description)
    add_places(parser)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=kinds)
    parser.add_argument("--backbones", nargs="+", help="by default all")
    parser.add_argument("--dry-run", action="store_true")
    args = parser.parse_args()
    config = CONFIGS[args.config]
    if args.dry_run:
        dry_run(config, args.kinds)
        return
    for noise in (TruncationWarning, UnlabelledTextsWarning, UserWarning):
        warnings.simplefilter("ignore", noise)
    print(json.dumps({name: str(value) for name, value in vars(args).items()}))
    Table(config, args, args.kinds).show()


if __name__ == "__main__":
    run(__doc__, KINDS[:2])
