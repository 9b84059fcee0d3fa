"""Draw the pictures of docs/benchmarks.rst from what benchmarks/results holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt
import numpy as np

ROOT = Path(__file__).parent.parent
RESULTS, IMAGES = ROOT / "benchmarks" / "results", ROOT / "docs" / "images"
BEDS = ("topics", "domains", "unlike")
GAINS = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy"}
OURS, PAPER, BASELINE = "#0072B2", "#D55E00", "#999999"
COLOURS = {
    "closed form": OURS,
    "both students": OURS,
    "low-rank": OURS,
    "moments, dot": OURS,
    "cosine, function space": OURS,
    "cosine, parameters": PAPER,
    "cosine, TaskEmb": PAPER,
}
BEHIND = {"facecolor": "white", "edgecolor": "none", "pad": 0.4}  # labels of bars
WIDTH = 7.5  # inches; panels one below another, legible on a narrow screen
WAYS = {
    "closed form": ("closed form, no model is run", OURS, "o-"),
    "run": ("every model is run on the rows", "black", "s--"),
    "prior": ("label prior", BASELINE, "^:"),
}
SHAPES = {"mini": "fute-mini", "small": "T5-small", "base": "T5-base"}


def bed_results(name: str) -> list[dict[str, dict[str, list[float]]]]:
    """Results of a bed, one for each seed."""
    path = RESULTS / f"bed_{name}.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf8"))
    return found["runs"]


def draw_quality() -> None:
    """Draw the rank correlation of every method on every bed."""
    runs = {name: bed_results(name) for name in BEDS}
    first = runs[BEDS[0]][0]["accuracy"]
    methods = [m for m in first if m in COLOURS]
    methods += ["label prior", *(m for m in first if m.endswith("labelled rows"))]
    figure, axes = plt.subplots(
        len(BEDS), 1, figsize=(WIDTH, 13), sharex=True, layout="constrained"
    )
    places = np.arange(len(methods))[::-1]
    for ax, (name, found) in zip(axes, runs.items(), strict=True):
        for gain, shift in (("accuracy", 0.2), ("balanced_accuracy", -0.2)):
            table = np.mean([[run[gain][m] for m in methods] for run in found], axis=0)
            mean, low, high = table[:, 0], table[:, 3], table[:, 4]
            colours = [COLOURS.get(m, BASELINE) for m in methods]
            ax.barh(
                places + shift,
                mean,
                0.38,
                xerr=np.maximum([mean - low, high - mean], 0),
                color=colours,
                alpha=1.0 if gain == "accuracy" else 0.5,
                error_kw={"linewidth": 1},
            )
        ax.set(title=name, xlim=(-0.9, 1))
        ax.axvline(0, color="black", linewidth=0.8)
        ax.set_yticks(places, methods)
    axes[-1].set_xlabel("rank correlation with the truth")
    patch = mpl.patches.Patch
    figure.legend(
        handles=[
            patch(color=OURS, label="this package's"),
            patch(color=PAPER, label="published vectors"),
            patch(color=BASELINE, label="baselines"),
            patch(facecolor="none", label="full: accuracy"),
            patch(facecolor="none", label="pale: balanced accuracy"),
        ],
        loc="outside upper center",
        ncols=2,
    )
    figure.savefig(IMAGES / "quality.png", dpi=110)


def draw_cost() -> None:
    """Draw quality against seconds for a model, and by labelled rows."""
    runs = bed_results("domains")
    table = {
        method: np.mean([run["accuracy"][method] for run in runs], axis=0)
        for method in runs[0]["accuracy"]
    }
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(WIDTH, 9), layout="constrained"
    )
    for method, colour in COLOURS.items():
        if method in table and table[method][2] > 0:
            correlation, _, seconds, *_ = table[method]
            above.plot(seconds, correlation, "o", color=colour, markersize=9)
            over = method == "closed form"
            above.annotate(
                method,
                (seconds, correlation),
                textcoords="offset points",
                xytext=(-4, 10) if over else (9, -12),
            )
    above.set(
        xscale="log",
        xlabel="seconds for a model, after labelling",
        ylabel="rank correlation, accuracy",
        ylim=(0, 1),
        xlim=(None, 100),
        title="400 labelled rows, seed 0",
    )
    written = (RESULTS / "few_rows.json").read_text(encoding="utf8")
    by_count = json.loads(written)["means"]["domains"]["accuracy"]
    for way, (label, colour, mark) in WAYS.items():
        heights = [found[way][0] for found in by_count.values()]
        below.plot([int(n) for n in by_count], heights, mark, color=colour, label=label)
    below.set(
        xscale="log",
        xticks=[5, 10, 30, 100, 400],
        xticklabels=[5, 10, 30, 100, 400],
        xlabel="labelled rows of the target",
        ylabel="rank correlation, accuracy",
        ylim=(0, 1),
        title="mean of three seeds",
    )
    below.minorticks_off()
    below.legend(loc="lower right")
    figure.savefig(IMAGES / "cost.png", dpi=110)


def draw_speed() -> None:
    """Draw the encoder's pass against stock transformers, and a cold start."""
    path = RESULTS / "speed_avx512_amx_2_threads.json"
    found = json.loads(path.read_text(encoding="utf8"))
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(WIDTH, 7.5), layout="constrained", height_ratios=(3, 2)
    )
    places = np.arange(len(SHAPES))
    bars = {
        "float32": ("encoder: time / that of the stock loop", OURS),
        "bfloat16": ("encoder: time in bfloat16 / the stock loop", "#56B4E9"),
        "int8": ("encoder: time in int8 / the stock loop", "#009E73"),
    }
    shifts = (-0.27, 0.0, 0.27)
    for shift, (label, (name, colour)) in zip(shifts, bars.items(), strict=True):
        heights = [found[shape][name] for shape in SHAPES]
        drawn = above.bar(places + shift, heights, 0.25, color=colour, label=label)
        above.bar_label(drawn, fmt="%.2f", padding=2, bbox=BEHIND)
    above.axhline(1, color="black", linewidth=0.8, zorder=0)
    above.set_xticks(places, SHAPES.values())
    above.set(
        ylabel="time / stock loop in float32", title="encoder's pass", ylim=(0, 1.45)
    )
    above.legend(loc="upper right")
    start = 0.0
    colours = ("#CCCCCC", "#56B4E9", "#999999", "#009E73", OURS)
    prefix = "cold start: of these, "
    parts = {
        k.removeprefix(prefix): v for k, v in found["start"].items() if prefix in k
    }
    for (name, spent), colour in zip(parts.items(), colours, strict=True):
        below.barh(0, spent, left=start, color=colour, label=f"{name} {spent:.1f}")
        start += spent
    below.set(yticks=[], ylim=(-0.5, 1.6), xlabel="seconds", title="cold start")
    below.legend(loc="upper left", ncols=2)
    figure.savefig(IMAGES / "speed.png", dpi=110)


def main() -> None:
    plt.rcParams["font.size"] = 12
    draw_quality()
    draw_cost()
    draw_speed()


if __name__ == "__main__":
    main()
