"""TextEmb, TaskEmb and TuPaTE on the candidates' own backbones: slow baselines.

    python benchmarks/paper/own.py --work DIR [--config offline] [--data DIR]
        [--packages DIR] [--smollm2 DIR] [--only minilm,fute-mini,...]
    python benchmarks/paper/own.py --work DIR --collect

They compare data sets, not models: a source's training rows with a target's known rows,
both on the published backbone.  TextEmb: mean feature of the texts.  TaskEmb (Vu et
al.): squared gradient of each batch's mean loss after fine-tuning, one part a module,
without tables of vectors; a ranking a part.  TuPaTE (Zhou et al.): low-rank
products on the attention's projections (peft), of CNN and LSTM the biases, tuned with
the rest frozen and averaged over the layers.  Vectors lie in ``--work``, one file each,
so that the script can be stopped and goes on; ``--collect`` keeps their similarities,
beside those of other backbones that were collected before.
"""

from __future__ import annotations

import argparse
import re
import time
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
from gains import add_places, places, results
from sets import LabelledSet
from torch import nn

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
    """Embeddings of all sources and targets on one backbone."""

    def __init__(self, name: str, backbone: Backbone, config: Config) -> None:
        self.name, self.backbone, self.config = name, backbone, config

    def body(self) -> Body:
        """Make the published backbone."""
        torch.manual_seed(0)
        return self.backbone.make()

    def of(self, method: str, own: LabelledSet, source: bool) -> Parts:
        """Embed a set's training rows, or its known rows."""
        body = self.body().to(device())
        rows = own.train if source else own.known
        inputs = body.inputs(list(rows.texts))
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
        """Cosines (n_parts, n_sources), or None if they were not computed."""
        found = self._kept.get(f"{method}--{backbone}")
        if found is None:
            return None
        names = [list(self._kept[key]) for key in ("sources", "targets")]
        rows = [names[0].index(source) for source in sources]
        return np.asarray(found[:, rows, names[1].index(target)], dtype=float)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of two vectors; 0 where one of them is 0."""
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size else 0.0


def collect(
    names: list[str], work: Path, path: Path, sources: list[str], targets: list[str]
) -> None:
    """Keep the similarities of the backbones that are finished."""
    kept: dict[str, Any] = {"sources": np.array(sources), "targets": np.array(targets)}
    before = dict(np.load(path)) if path.exists() else {}
    if before and any(list(before[key]) != list(kept[key]) for key in kept):
        raise SystemExit(f"{path} holds other sets; remove it first.")
    kept |= before
    for name in names:
        for method in METHODS:
            paths = {
                role: [work / f"{method}--{name}--{role}--{one}.npz" for one in sets]
                for role, sets in (("source", sources), ("target", targets))
            }
            if not all(path.exists() for found in paths.values() for path in found):
                known = (
                    "kept as it was" if f"{method}--{name}" in kept else "not finished"
                )
                print(f"{name}, {method}: {known}")
                continue
            first = np.load(paths["source"][0])
            table = np.empty((len(first.files), len(sources), len(targets)))
            for p, part in enumerate(first.files):
                a = [np.load(path)[part].astype(float) for path in paths["source"]]
                b = [np.load(path)[part].astype(float) for path in paths["target"]]
                table[p] = [[cosine(one, other) for other in b] for one in a]
            kept[f"{method}--{name}"] = table.astype(np.float32)
    np.savez_compressed(path, **kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_places(parser)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--collect", action="store_true")
    args = parser.parse_args()
    config, place = CONFIGS[args.config], places(args)
    sets = config.sets(place, config.sizes)
    sources = [n for n, one in sets.items() if one.kind != "cross-domain"]
    if args.collect:
        path = own_path(results(args))
        collect(list(config.backbones(place)), args.work, path, sources, list(sets))
        return
    torch.set_num_threads(1)  # the same bits wherever there is no GPU
    torch.set_flush_denormal(True)
    args.work.mkdir(parents=True, exist_ok=True)
    nets = config.backbones(place)
    for name in (args.only or ",".join(nets)).split(","):
        made = Vectors(name, nets[name], config)
        for method in args.methods.split(","):
            for role, names in (("source", sources), ("target", list(sets))):
                for one in names:
                    path = args.work / f"{method}--{name}--{role}--{one}.npz"
                    if path.exists():
                        continue
                    found = made.of(method, sets[one], role == "source")
                    # float32: squared gradients underflow in half precision.
                    found = {k: v.astype(np.float32) for k, v in found.items()}
                    partial = path.with_suffix(".partial.npz")
                    np.savez(partial, **found)
                    partial.replace(path)
            print(time.strftime("%H:%M:%S"), name, method, flush=True)


if __name__ == "__main__":
    main()
