"""Candidates as gains.py has kept them, in the two files that are committed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fute_sklearn import Task

NONE = "none"


@dataclass(frozen=True)
class Kept:
    """A backbone that was fine-tuned on a source, and what came out.

    ``gains`` are accuracies after further fine-tuning on a target, ``zero_shot`` those
    without, where the labels are the same; ``known_right`` says which of the target's
    first known rows it then answered with their label.
    """

    backbone: str
    source: str
    gains: dict[str, float]
    zero_shot: dict[str, float] = field(default_factory=dict)
    known_right: dict[str, list[int]] = field(default_factory=dict)
    losses: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    answers: np.ndarray | None = None

    @property
    def name(self) -> str:
        """Name in the tables."""
        return f"{self.backbone} | {self.source}"

    def task(self, texts: list[str], rows: np.ndarray) -> Task:
        """Some of the unlabelled texts with the candidate's answers."""
        assert self.answers is not None
        said = np.array(self.labels)[self.answers[rows]]
        return Task(
            [texts[i] for i in rows],
            said,
            classes=list(self.labels),
            name=self.name,
            origin="model",
        )


def read(path: Path) -> tuple[dict[str, Any], list[Kept]]:
    """Read the settings and the candidates of ``PATH.json`` and ``PATH.npz``."""
    found = json.loads(path.with_suffix(".json").read_text())
    answers = np.load(path.with_suffix(".npz"))
    fields = Kept.__dataclass_fields__
    out = []
    for one in found["candidates"]:
        key = f"{one['backbone']}--{one['source']}"
        known = {name: value for name, value in one.items() if name in fields}
        known["labels"] = tuple(known.get("labels", ()))
        known["losses"] = tuple(known.get("losses", ()))
        out.append(Kept(**known, answers=answers[key] if key in answers else None))
    return found["settings"], out


def write(path: Path, settings: dict[str, Any], results: list[dict[str, Any]]) -> None:
    """Write candidates' results to ``PATH.json``, their answers to ``PATH.npz``."""
    answers = {
        f"{one['backbone']}--{one['source']}": np.array(one["answers"], np.uint8)
        for one in results
        if "answers" in one
    }
    lines = ",\n".join(
        json.dumps({name: value for name, value in one.items() if name != "answers"})
        for one in results
    )
    text = f'{{"settings": {json.dumps(settings)},\n"candidates": [\n{lines}\n]}}\n'
    path.with_suffix(".json").write_text(text)
    np.savez_compressed(path.with_suffix(".npz"), **answers)
