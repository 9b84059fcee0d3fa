"""TextEmb, TaskEmb and TuPaTE on the candidates' own backbones: slow baselines.

    python benchmarks/paper/own.py --work DIR [--config offline] [--data DIR]
        [--packages DIR] [--smollm2 DIR] [--only minilm,fute-mini,...]
        [--sets sst2,subj,...] [--methods TextEmb,TaskEmb,TuPaTE]
    python benchmarks/paper/own.py --work DIR --collect

They compare data sets, not models: a source's training rows with a target's known rows,
both on the published backbone.  TextEmb: mean feature of the texts.  TaskEmb (Vu et
al.): squared gradient of each batch's mean loss after fine-tuning, one part a module,
without tables of vectors; a ranking a part.  TuPaTE (Zhou et al.): low-rank
products on the attention's projections (peft), of CNN and LSTM the biases, tuned with
the rest frozen and averaged over the layers.  Vectors lie in ``--work``, one file each,
so that the script can be stopped and goes on; ``--collect`` keeps their similarities,
beside those of other backbones and sets that were collected before.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from backbones import (
    Backbone,
    Body,
    Candidate,
    Inputs,
    Recipe,
    Words,
    device,
    features_of,
)
from configs import CONFIGS, Config
from gains import add_places, keys_of, places, results
from sets import LabelledSet, Places
from torch import nn

ROLES = ("source", "target")
METHODS = ("TextEmb", "TaskEmb", "TuPaTE")
PROJECTIONS = r".*\.(q_proj|v_proj|query|value|q|v|c_attn)"
TUNED_EPOCHS = 8
Parts = dict[str, np.ndarray]


def text_parts(body: Body, inputs: Inputs) -> Parts:
    """Mean feature."""
    body.eval()
    total = np.zeros(body.width)
    with torch.inference_mode():
        for start in range(0, len(inputs), 64):
            found = features_of(body, inputs[start : start + 64])
            total += found.double().sum(0).cpu().numpy()
    return {"text": total / len(inputs)}


def fisher_parts(
    body: Body, inputs: Inputs, own: LabelledSet, y: Any, recipe: Recipe
) -> Parts:
    """Squared gradients by module, after fine-tuning."""
    one = Candidate(body, own.labels, 0)
    one.fine_tune(inputs, y, recipe)
    one.eval()
    goal = one.goal(y)
    tables = {
        id(p)
        for m in body.modules()
        if isinstance(m, nn.Embedding)
        for p in m.parameters()
    }
    free = {
        name: p
        for name, p in body.named_parameters()
        if p.requires_grad and id(p) not in tables
    }
    total = {name: torch.zeros_like(p) for name, p in free.items()}
    starts = range(0, len(inputs), recipe.batch)
    for start in starts:
        rows = slice(start, start + recipe.batch)
        one.zero_grad()
        out = one.head(features_of(body, inputs[rows]))
        nn.functional.cross_entropy(out, goal[rows]).backward()
        for name, p in free.items():
            if p.grad is not None:
                total[name] += p.grad**2 / len(starts)
    one.zero_grad(set_to_none=True)
    parts: dict[str, list[np.ndarray]] = {}
    for name, value in total.items():
        parts.setdefault(name.rpartition(".")[0], []).append(
            value.cpu().numpy().ravel()
        )
    return {name: np.concatenate(found) for name, found in parts.items()}


def tunable(body: Body) -> dict[str, nn.Parameter]:
    """Freeze all but low-rank products or biases, which are returned."""
    if isinstance(body, Words):
        chosen = {n: p for n, p in body.named_parameters() if "bias" in n}
    else:
        if not any("lora_" in name for name, _ in body.named_parameters()):
            from peft import LoraConfig, inject_adapter_in_model

            config = LoraConfig(r=8, lora_alpha=16, target_modules=PROJECTIONS)
            torch.manual_seed(0)
            inject_adapter_in_model(config, body)
        chosen = {n: p for n, p in body.named_parameters() if "lora_" in n}
    body.requires_grad_(False)
    for p in chosen.values():
        p.requires_grad_(True)
    return chosen


def tuned_parts(
    body: Body, inputs: Inputs, own: LabelledSet, y: Any, recipe: Recipe
) -> Parts:
    """Tuned values, averaged over the layers."""
    chosen = tunable(body)
    Candidate(body, own.labels, 0).fine_tune(inputs, y, recipe)
    kinds: dict[str, list[np.ndarray]] = {}
    for name, p in chosen.items():
        kind = re.sub(r"\.\d+\.", ".*.", name)
        kinds.setdefault(kind, []).append(p.detach().cpu().numpy().ravel())
    means = [np.mean(found, axis=0) for found in kinds.values()]
    return {"tuned": np.concatenate(means)}


class Vectors:
    """Embeddings of sets as sources and targets on one backbone."""

    def __init__(
        self,
        name: str,
        backbone: Backbone,
        config: Config,
        sets: dict[str, LabelledSet],
    ) -> None:
        self.name, self.backbone, self.config, self.sets = name, backbone, config, sets
        self._last: tuple[tuple[str, ...], Inputs] = ((), [])

    def body(self) -> Body:
        """Make the published backbone."""
        torch.manual_seed(0)
        return self.backbone.make()

    def of(self, method: str, name: str, source: bool) -> Parts:
        """Embed a set's training rows, or its known rows."""
        body, own = self.body().to(device()), self.sets[name]
        rows = own.train if source else own.known
        if self._last[0] != rows.texts:
            self._last = rows.texts, body.inputs(list(rows.texts))
        inputs = self._last[1]
        if method == "TextEmb":
            return text_parts(body, inputs)
        one, sizes = self.backbone, self.config.sizes
        # A target has fewer rows: as many steps as for a source.
        ratio = 1 if source else max(1, round(sizes.train / len(inputs)))
        batch = self.config.batches[0]
        if method == "TaskEmb":
            recipe = Recipe(ratio * one.epochs[0], batch, one.rate)
            return fisher_parts(body, inputs, own, rows.y, recipe)
        recipe = Recipe(ratio * TUNED_EPOCHS, batch, 2 * one.rate, head_factor=5)
        return tuned_parts(body, inputs, own, rows.y, recipe)


def own_path(results: Path) -> Path:
    """Path of the similarities beside the candidates' results."""
    return results.with_name(f"{results.name}-own.npz")


class OwnVectors:
    """Similarities of sources and targets that ``--collect`` has kept."""

    def __init__(self, path: Path) -> None:
        self._kept = dict(np.load(path)) if path.exists() else {}
        self.methods = [m for m in METHODS if any(k.startswith(m) for k in self._kept)]

    def similarities(
        self, method: str, backbone: str, sources: list[str], target: str
    ) -> np.ndarray | None:
        """Cosines (n_parts, n_sources), or None if one of them was not computed."""
        found = self._kept.get(f"{method}--{backbone}")
        if found is None:
            return None
        names = [list(self._kept[key]) for key in ("sources", "targets")]
        rows = [names[0].index(source) for source in sources]
        parts = np.asarray(found[:, rows, names[1].index(target)], dtype=float)
        return None if np.isnan(parts).any() else parts


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of two vectors; 0 where one of them is 0."""
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size else 0.0


def settings_of(config: Config, place: Places, sets: dict[str, LabelledSet]) -> str:
    """What vectors depend on, as JSON."""
    nets = config.backbones(place)
    return json.dumps(
        {
            "config": config.name,
            "rows": vars(config.sizes),
            "max_length": config.max_length,
            "batch": config.batches[0],
            "rates": {name: net.rate for name, net in nets.items()},
            "epochs": {name: net.epochs[0] for name, net in nets.items()},
            "epochs_tuned": TUNED_EPOCHS,
            "keys": keys_of([], sets),
        }
    )


def similarities_of(paths: list[list[Path]], table: np.ndarray | None) -> np.ndarray:
    """Cosines (n_parts, n_sources, n_targets) of the vectors that there are.

    Others are as in ``table``, or NaN.
    """
    first = np.load(next(path for path in paths[0] if path.exists())).files
    shape = (len(first), len(paths[0]), len(paths[1]))
    out = np.full(shape, np.nan, np.float32) if table is None else table.copy()
    for p, part in enumerate(first):
        rows, columns = (
            {i: np.load(path)[part] for i, path in enumerate(found) if path.exists()}
            for found in paths
        )
        for i, j in itertools.product(rows, columns):
            out[p, i, j] = cosine(rows[i].astype(float), columns[j].astype(float))
    return out


def collect(
    names: list[str], work: Path, path: Path, fixed: dict[str, np.ndarray]
) -> None:
    """Keep the similarities of what is finished; ``fixed`` are the sets and settings.

    Pairs of sets that were collected before are kept where a vector is missing now.
    """
    before = dict(np.load(path)) if path.exists() else {}
    if before and any(not np.array_equal(before[key], fixed[key]) for key in fixed):
        raise SystemExit(f"{path} holds other sets or settings; remove it first.")
    kept = fixed | before
    for name, method in itertools.product(names, METHODS):
        key = f"{method}--{name}"
        paths = [
            [work / f"{key}--{role}--{one}.npz" for one in fixed[f"{role}s"]]
            for role in ROLES
        ]
        new = [sum(one.exists() for one in found) for found in paths]
        if all(new):
            kept[key] = similarities_of(paths, kept.get(key))
        known = int(np.isfinite(kept[key][0]).sum()) if key in kept else 0
        print(f"{key}: {known} pairs of sets, {new[0] * new[1]} of them new")
    np.savez_compressed(path, **kept)


def embed(made: Vectors, work: Path, wanted: Iterable[tuple[str, str, str]]) -> None:
    """Write the vectors (set, role, method) that are not there yet."""
    for one, role, method in wanted:
        path = work / f"{method}--{made.name}--{role}--{one}.npz"
        if path.exists():
            continue
        found = made.of(method, one, role == "source")
        # float32: squared gradients underflow in half precision.
        found = {k: v.astype(np.float32) for k, v in found.items()}
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, **found)
        partial.replace(path)
        print(time.strftime("%H:%M:%S"), path.stem, flush=True)


def chosen(given: str | None, known: Sequence[str]) -> Sequence[str]:
    """Names that the command line gives, by default all."""
    names = given.split(",") if given else known
    if strange := set(names) - set(known):
        raise SystemExit(f"{sorted(strange)}: there are {list(known)}.")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_places(parser)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", help="names of backbones; all by default")
    parser.add_argument("--sets", help="names of sets; all by default")
    parser.add_argument("--methods", help="all by default")
    parser.add_argument("--collect", action="store_true")
    args = parser.parse_args()
    config, place = CONFIGS[args.config], places(args)
    sets = config.sets(place, config.sizes)
    sources = [n for n, one in sets.items() if one.kind != "cross-domain"]
    nets, settings = config.backbones(place), settings_of(config, place, sets)
    args.work.mkdir(parents=True, exist_ok=True)
    noted = args.work / "settings.json"
    if noted.exists() and noted.read_text() != settings:
        raise SystemExit(f"{args.work} holds vectors of other sets or settings.")
    noted.write_text(settings)
    if args.collect:
        fixed = {
            "sources": np.array(sources),
            "targets": np.array(list(sets)),
            "settings": np.array(settings),
        }
        collect(list(nets), args.work, own_path(results(args)), fixed)
        return
    torch.set_num_threads(1)  # the same bits wherever there is no GPU
    torch.set_flush_denormal(True)
    methods, names = chosen(args.methods, METHODS), chosen(args.sets, list(sets))
    wanted = [
        (one, role, method)
        for one, role, method in itertools.product(names, ROLES, methods)
        if role == "target" or one in sources
    ]
    for name in chosen(args.only, list(nets)):
        embed(Vectors(name, nets[name], config, sets), args.work, wanted)


if __name__ == "__main__":
    main()
