"""Scores that TransformerRanker gives the candidates of Tables 1 and 2.

    pip install transformer-ranker==0.2.0
    python benchmarks/paper/peers.py --work DIR [--config offline] [--data DIR]
        [--packages DIR] [--smollm2 DIR] [--only minilm,fute-mini,...]
    python benchmarks/paper/peers.py --work DIR --collect

LogME (You et al. 2021), the shrunken H-score (Ibrahim et al. 2022) and the accuracy of
three nearest neighbours (kNN), by that library's own code and with its defaults.  They
see what the other methods see of a target, its known rows, and in addition the features
that every candidate gives these rows: each has to be run for each target.  ``--work``
is that of gains.py, whose weights are loaded; a file a candidate is kept there, so that
the script can be stopped and goes on.  ``--collect`` writes them to a file beside this
one, which the tables read.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from backbones import Candidate, Inputs, features_of
from configs import CONFIGS
from gains import Run, add_places, places, results, write
from kept import Kept
from sets import LabelledSet

METHODS = ("LogME", "H-score", "kNN")
FOLDER = "peers"


def peer_scores(features: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Score the features (n, width) of rows with the labels y (n,) by each method."""
    from transformer_ranker.estimators import HScore, LogME, NearestNeighbors

    numbers = torch.from_numpy(np.unique(y, return_inverse=True)[1])
    found = torch.from_numpy(features)
    made = (LogME(), HScore(), NearestNeighbors())
    return {
        name: float(one.fit(embeddings=found, labels=numbers))
        for name, one in zip(METHODS, made, strict=True)
    }


@torch.inference_mode()
def features(candidate: Candidate, inputs: Inputs) -> np.ndarray:
    """Features (n, width) of rows."""
    candidate.eval()
    parts = [
        features_of(candidate.body, inputs[start : start + 64]).float().cpu().numpy()
        for start in range(0, len(inputs), 64)
    ]
    return np.concatenate(parts)


class PeerRun(Run):
    """The candidates of one backbone, and the features of every target's rows."""

    def known(self, name: str) -> Inputs:
        """Inputs of all known rows, of which a candidate is fine-tuned on a few."""
        key = (name, "all known")
        if key not in self._inputs:
            self._inputs[key] = self.body.inputs(list(self.sets[name].known.texts))
        return self._inputs[key]

    def score(self, source: str, weights: Path, path: Path) -> None:
        """Score a candidate for every target; write what came out."""
        self.body.load_state_dict(self.start)
        one = Candidate(self.body, self.sets[source].labels, 0)
        # The weights of frozen layers are not kept.
        found = torch.load(weights, weights_only=True)
        if strange := one.load_state_dict(found, strict=False).unexpected_keys:
            raise SystemExit(f"{weights} has {strange}, which {self.name} has not.")
        inputs = {name: self.known(name) for name in self.sets}
        began = time.perf_counter()
        scores = {
            name: peer_scores(features(one, inputs[name]), target.known.y)
            for name, target in self.sets.items()
        }
        spent = round(time.perf_counter() - began, 2)
        write(path, {"scores": scores, "seconds": spent})


def score_all(names: list[str], args: argparse.Namespace) -> None:
    """Score the candidates that have weights and no scores yet."""
    config, place = CONFIGS[args.config], places(args)
    sets = config.sets(place, config.sizes)
    for name in names:
        run = None
        for source in sets:
            weights = args.work / f"{name}--{source}.pt"
            path = args.work / FOLDER / f"{name}--{source}.json"
            if path.exists() or not weights.exists():
                continue
            run = run or PeerRun(name, config, place, sets)
            run.score(source, weights, path)
            print(time.strftime("%H:%M:%S"), name, source, flush=True)


def peers_path(kept: Path) -> Path:
    """Path of the scores beside the candidates' results."""
    return kept.with_name(f"{kept.name}-peers.npz")


def collect(work: Path, path: Path) -> None:
    """Join the candidates' files to the one that is committed."""
    files = sorted((work / FOLDER).glob("*--*.json"))
    if not files:
        raise SystemExit(f"{work / FOLDER} holds no scores; run without --collect.")
    found = [json.loads(one.read_text()) for one in files]
    targets = list(found[0]["scores"])
    kept: dict[str, Any] = {
        "candidates": np.array([one.stem.replace("--", " | ") for one in files]),
        "targets": np.array(targets),
        "seconds": np.array([one["seconds"] for one in found]),
    }
    for method in METHODS:
        rows = [[one["scores"][t][method] for t in targets] for one in found]
        kept[method] = np.array(rows, dtype=np.float64)
    np.savez_compressed(path, **kept)
    seconds = np.mean(kept["seconds"]) / len(targets)
    print(f"{len(files)} candidates, {seconds:.2f} s a candidate and target")


def peer_rows(
    path: Path, candidates: list[Kept], sets: dict[str, LabelledSet]
) -> dict[str, np.ndarray]:
    """Scores (n_candidates, n_targets) by method; NaN for those not scored."""
    if not path.exists():
        return {}
    kept = np.load(path)
    names, targets = list(kept["candidates"]), list(kept["targets"])
    columns = [targets.index(name) for name in sets]
    out = {}
    for method in METHODS:
        empty = np.full(len(sets), np.nan)
        out[f"{method} (TransformerRanker)"] = np.array(
            [
                kept[method][names.index(c.name), columns] if c.name in names else empty
                for c in candidates
            ]
        )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_places(parser)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only")
    parser.add_argument("--collect", action="store_true")
    args = parser.parse_args()
    if args.collect:
        collect(args.work, peers_path(results(args)))
        return
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    (args.work / FOLDER).mkdir(parents=True, exist_ok=True)
    names = list(CONFIGS[args.config].backbones(places(args)))
    score_all(args.only.split(",") if args.only else names, args)


if __name__ == "__main__":
    main()
