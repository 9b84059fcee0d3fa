"""Time the engine against the plain way on stock transformers.

    python benchmarks/speed.py [--shapes mini small base] [--repeats 5] [--json FILE]
        [--parts start ranking encoding tuning fisher]

Every figure is a ratio of two timings taken in turns in this one run (median of the
pairs).  The plain way runs one model at a time through stock modules, the encoder in
every step; its steps are timed on a few batches and counted for the whole run.  Weights
are random, texts have 32 tokens, labels one.  Run it on an idle machine.  A file given
by ``--json`` keeps its results of parts that do not run now.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from encoding import measure_encoding
from plain_way import (
    BATCH,
    FISHER_ROWS,
    SAMPLE_STEPS,
    SHAPES,
    TOKENS,
    Bed,
    fisher_loss,
    make_bed,
    plain_low_rank,
    plain_prompt,
)
from starting import measure_hash, measure_start, measure_thousand
from torch.profiler import ProfilerActivity, profile

from fute_sklearn import ModelRanker, TuPaTEEmbedder, config_context
from fute_sklearn._engine import (
    LabelObjective,
    encode_texts,
    fisher_diagonals,
    label_tree,
    load_surrogate,
    tune_labels,
)

N_TEXTS, N_MODELS, EPOCHS = 2000, 26, 3
STEPS = EPOCHS * -(-N_TEXTS // BATCH)
SCALE = STEPS / SAMPLE_STEPS
FISHER_MODELS = 7


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turns(
    own: Callable[[], object], plain: Callable[[], object], repeats: int
) -> tuple[float, float]:
    """Median times of two calls that take turns, after one of each."""
    own(), plain()
    pairs = [(seconds(own), seconds(plain)) for _ in range(repeats)]
    return tuple(np.median(pairs, axis=0))


def matmul_peak() -> float:
    """Best rate of a large matrix product, in floating-point operations per second."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    return max(2 * 2048**3 / seconds(lambda: a @ b) for _ in range(8))


def bfloat16_rate(repeats: int) -> dict[str, float]:
    """How a product in bfloat16 compares to one in float32."""
    a, b = torch.randn(512, 512), torch.randn(512, 512)
    short, other = a.bfloat16(), b.bfloat16()
    slow, fast = in_turns(lambda: short @ other, lambda: a @ b, repeats)
    return dict([say("bfloat16 matmul, times the rate of float32", fast / slow)])


# The engine ---------------------------------------------------------------------


def batch_steps(bed: Bed, tuning: str, n_models: int) -> Callable[[], object]:
    """Steps of a batch of tasks over texts that are encoded already."""
    surrogate = bed.surrogate
    encoded = encode_texts(surrogate, bed.texts[: SAMPLE_STEPS * BATCH])
    settings = TuPaTEEmbedder(tuning=tuning, max_epochs=1).settings(0)
    rng = np.random.default_rng(0)
    trees = [label_tree(surrogate, ["positive", "negative"])] * n_models
    hard = np.eye(2, dtype=np.float32)
    proba = [hard[rng.integers(0, 2, len(encoded))] for _ in range(n_models)]
    return lambda: tune_labels(
        surrogate, encoded, trees, proba, settings, lambda epoch: None
    )


def encoding_time(bed: Bed) -> float:
    """Seconds to encode all texts of a run, scaled from the timed ones."""
    with tempfile.TemporaryDirectory() as folder, config_context(cache_dir=folder):
        spent = seconds(lambda: encode_texts(bed.surrogate, bed.texts))
    return spent * N_TEXTS / len(bed.texts)


def decoder_work(bed: Bed, n_models: int) -> float:
    """Floating-point operations of a batch's step that no method could leave out."""
    arch = bed.surrogate.architecture
    inner = arch.n_heads * arch.d_kv
    layer = 6 * arch.d_model * inner + 2 * arch.d_model * arch.d_ff
    shared = 2 * arch.d_model * inner * BATCH * TOKENS * 2
    attended = 4 * BATCH * n_models * TOKENS * inner
    # Twice: forward, and backward to the inputs; frozen weights need no gradient.
    per_query = 2 * (2 * BATCH * n_models * layer + attended)
    return arch.n_decoder_layers * (per_query + shared)


def say(name: str, value: float) -> tuple[str, float]:
    """Print a figure as soon as it is known."""
    print(f"  {name:60s} {value:8.2f}", flush=True)
    return name, value


def measure_batch(bed: Bed, repeats: int, peak: float) -> dict[str, float]:
    """Print and return the ratios of tuning."""
    spent = encoding_time(bed)
    found = [say("encoding, seconds", spent)]
    plans = {"prompt": plain_prompt(bed, feed_input=False), "lora": plain_low_rank(bed)}
    layout = plain_prompt(bed, feed_input=True)
    for tuning, plain in plans.items():
        one, slow = in_turns(batch_steps(bed, tuning, 1), plain, repeats)
        first = spent + one * SCALE
        found.append(say(f"{tuning}: one model, times faster", slow * SCALE / first))
        baselines = layout if tuning == "prompt" else plain
        many, other = in_turns(batch_steps(bed, tuning, N_MODELS), baselines, repeats)
        batch = (spent + many * SCALE) / N_MODELS
        found.append(
            say(f"{tuning}: batch of {N_MODELS}, times faster", slow * SCALE / batch)
        )
        if tuning == "prompt":
            # A shared machine changes its pace: the peak is taken beside the steps too.
            peak = max(peak, matmul_peak())
            work = decoder_work(bed, N_MODELS) * SAMPLE_STEPS
            found += [
                say("prompt: batch against authors' layout", other * SCALE / batch),
                say("prompt: share of the matmul peak", work / many / peak),
            ]
        found.append(further(tuning, spent, one, many))
    return dict(found)


def measure_bfloat16(bed: Bed, folder: Path, repeats: int) -> dict[str, float]:
    """Print and return the ratios of tuning in bfloat16 to the plain way's, float32."""
    surrogate = load_surrogate(folder, max_length=TOKENS, dtype="bfloat16")
    short = Bed(surrogate, bed.stock, bed.texts)
    spent = encoding_time(short)
    plans = {"prompt": plain_prompt(bed, feed_input=False), "lora": plain_low_rank(bed)}
    found = []
    for tuning, plain in plans.items():
        many, slow = in_turns(batch_steps(short, tuning, N_MODELS), plain, repeats)
        one, _ = in_turns(batch_steps(short, tuning, 1), lambda: None, repeats)
        batch = (spent + many * SCALE) / N_MODELS
        found += [
            say(
                f"{tuning}: batch of {N_MODELS} in bfloat16, times faster",
                slow * SCALE / batch,
            ),
            further(f"{tuning} in bfloat16", spent, one, many),
        ]
    return dict(found)


def further(tuning: str, spent: float, one: float, many: float) -> tuple[str, float]:
    """How long a further model takes, by the times of one and of N_MODELS."""
    more = (many - one) * SCALE / (N_MODELS - 1)
    return say(f"{tuning}: a further model / the first", more / (spent + one * SCALE))


# Fisher -------------------------------------------------------------------------


def measure_fisher(bed: Bed, repeats: int) -> dict[str, float]:
    """Print and return the ratios of the exact Fisher diagonal."""
    surrogate, rows = bed.surrogate, 16
    encoded = encode_texts(surrogate, bed.texts[:FISHER_ROWS])
    tree = label_tree(surrogate, ["positive", "negative"])
    proba = np.tile(np.eye(2, dtype=np.float32)[:1], (FISHER_ROWS, 1))
    objective = LabelObjective(surrogate, [tree], [proba])
    loss = fisher_loss(bed, 0)
    ids, mask = encoded.batch_ids(np.arange(rows))
    weights = {k: v.clone().requires_grad_() for k, v in surrogate.weights.items()}

    def loop() -> None:
        total = {k: torch.zeros_like(v) for k, v in weights.items()}
        for i in range(rows):
            grads = torch.autograd.grad(
                loss(weights, ids[i], mask[i]),
                list(weights.values()),
                materialize_grads=True,
            )
            for key, grad in zip(weights, grads, strict=True):
                total[key] += grad.square()

    def mapped() -> None:
        frozen = {k: v.detach() for k, v in weights.items()}
        grads = torch.func.vmap(
            torch.func.grad(loss), in_dims=(None, 0, 0), chunk_size=8
        )(frozen, ids, mask)
        for grad in grads.values():
            grad.square().sum(0)

    scale = FISHER_ROWS / rows
    found = []
    for params in ("all", "decoder"):

        def own(params: str = params) -> None:
            fisher_diagonals(surrogate, encoded, objective, [proba], params=params)

        fast, slow = in_turns(own, loop, repeats)
        found.append(
            say(f"Fisher, {params}: times faster than the loop", slow * scale / fast)
        )
        if params == "all":
            fast, slow = in_turns(own, mapped, repeats)
            found.append(
                say("Fisher, all: times faster than vmap", slow * scale / fast)
            )

    def batch() -> None:
        tasks = [np.roll(proba, i, axis=1) for i in range(FISHER_MODELS)]
        fisher_diagonals(surrogate, encoded, objective, tasks, params="decoder")

    many, one = in_turns(batch, own, repeats)
    further = (many - one) / (FISHER_MODELS - 1)
    found.append(say("Fisher, decoder: a further model / the first", further / one))
    return dict(found)


# Ranking ------------------------------------------------------------------------


def measure_ranking(repeats: int, n_models: int = 100_000) -> dict[str, float]:
    """Share of a plain copy's bandwidth at which one target is answered."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((n_models, 1024), dtype=np.float32)
    ranker = ModelRanker().fit(vectors)
    target = vectors[:1] + 1
    room = np.empty_like(vectors)
    fast, copy = in_turns(
        lambda: ranker.rank(target, top=10), lambda: np.copyto(room, vectors), repeats
    )
    # A copy reads and writes every byte, an answer only reads.
    return dict(
        [
            say("ranking 100,000 models, milliseconds", 1000 * fast),
            say("ranking: share of a copy's bandwidth", copy / 2 / fast),
        ]
    )


# Where a step's time goes --------------------------------------------------------

KINDS = {
    "matrix products": ("mm", "bmm", "addmm", "baddbmm", "matmul", "linear", "einsum"),
    "softmax": ("softmax", "log_softmax"),
    "optimizer": ("_foreach", "_fused", "lerp", "addcdiv", "sqrt"),
    "copies": ("copy", "cat", "contiguous", "index", "clone", "zero", "fill", "stack"),
}


def step_shares(bed: Bed) -> dict[str, float]:
    """Print and return the shares of a batch's step, by what is computed."""
    run = batch_steps(bed, "prompt", N_MODELS)
    run()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        run()
    spent = {event.key: event.self_cpu_time_total for event in seen.key_averages()}
    whole, shares = sum(spent.values()), dict.fromkeys(KINDS, 0.0)
    for name, time_of in spent.items():
        last = name.split("::")[-1]
        for kind, words in KINDS.items():
            if any(word in last for word in words):
                shares[kind] += time_of / whole
                break
    shares["elementwise and the rest"] = 1 - sum(shares.values())
    return dict(say(f"prompt: share of {kind}", one) for kind, one in shares.items())


def about(peak: float, repeats: int) -> dict[str, object]:
    """What the figures belong to."""
    return {
        "date": datetime.date.today().isoformat(),
        "machine": platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "float32 GF/s": round(peak / 1e9),
        "pairs": repeats,
    }


PARTS = ("start", "ranking", "encoding", "tuning", "fisher")
MACHINE = ("machine", "capability", "threads", "torch")  # of results in one file


def updated(path: Path, table: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Results in a file with the new ones, unless they are another machine's."""
    kept = json.loads(path.read_text(encoding="utf8")) if path.exists() else {}
    parts = [*kept.get("about", {}).values(), *table["about"].values()]
    if len({tuple(part[k] for k in MACHINE) for part in parts}) > 1:
        raise SystemExit(f"{path} has another machine's results: give another file.")
    return kept | {name: kept.get(name, {}) | found for name, found in table.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.json:  # other machines' results are refused before anything is measured
        updated(args.json, {"about": {"": about(0.0, args.repeats)}})
    table: dict[str, dict[str, Any]] = {}
    if "start" in args.parts:
        print("a new process", flush=True)
        table["start"] = {**measure_start(say, args.repeats), **measure_hash(say)}
    peak = matmul_peak()
    table["about"] = dict.fromkeys(args.parts, about(peak, args.repeats))
    print(
        f"{torch.get_num_threads()} threads, float32 matmul peak "
        f"{peak / 1e9:.0f} GF/s; {N_MODELS} models, {N_TEXTS} texts of {TOKENS} "
        f"tokens, batch {BATCH}, {EPOCHS} epochs, {args.repeats} pairs, seed 0"
    )
    if "ranking" in args.parts:
        table["thousand models"] = dict(measure_thousand(say))
        table["ranking"] = dict(measure_ranking(args.repeats))
        table["bfloat16"] = dict(bfloat16_rate(args.repeats))
    for shape in args.shapes:
        print(f"\n{shape}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            bed = make_bed(shape, Path(folder))
            table[shape] = found = {}
            if "encoding" in args.parts:
                tools = (in_turns, matmul_peak, say)
                found |= measure_encoding(shape, Path(folder), args.repeats, tools)
            if "tuning" in args.parts:
                found |= measure_batch(bed, args.repeats, peak)
                found |= measure_bfloat16(bed, Path(folder), args.repeats)
                found |= step_shares(bed)
            if "fisher" in args.parts and shape != "base":
                found |= measure_fisher(bed, args.repeats)
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\npeak memory of this run: {usage:.1f} GiB")
    if args.json:
        written = updated(args.json, table)
        args.json.write_text(json.dumps(written, indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
