"""Stage c: teach the decoder to read a prefix as a task, over the frozen encoder.

    python train_decoder.py --corpus corpus.txt --work DIR --minutes 60

Hundreds of automatic tasks, each with random label words and a prefix of its own, are
trained together with the decoder's weights: sides and slices of random directions in
the teacher's sentence space, its clusters, and simple lexical questions.  No labelled
data set is used.  The run may be killed at any moment and started again with the same
command.  Held-out automatic tasks measure progress: prompts tuned on them from scratch
with the package's own settings.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from distil import build_student, student_tokenizer
from sklearn.cluster import KMeans

from fute_sklearn.surrogate import (
    LabelObjective,
    Student,
    TuneSettings,
    label_tree,
    load_surrogate,
    tune_labels,
)
from fute_sklearn.surrogate._encoder import Encoded, encode_texts
from fute_sklearn.surrogate._t5 import Ops, decode, remember
from fute_sklearn.surrogate._tuning import initial_parameters, layer_parts

LEXICAL = ["not", "the", "you", "he", "she", "was", "will", "is", "in", "and", "?", "i"]


def sentence_vectors(
    work: Path, corpus: Path, count: int
) -> tuple[list[str], np.ndarray]:
    """Take texts with the teacher's pooled vectors out of what stage a has kept."""
    store = work / "sentences.npz"
    if not store.exists():
        from distil import make_batches

        settings = json.loads((Path(__file__).parent / "config.json").read_text())
        how = settings["distil"]
        batches = make_batches(corpus, work, how["max_length"], how["batch_tokens"])
        tokenizer = student_tokenizer()
        order = np.random.default_rng(0).permutation(len(batches))
        texts: list[str] = []
        vectors: list[np.ndarray] = []
        for index in order:
            path = work / "teacher" / f"{index}.npy"
            if not path.exists():
                continue
            mask = batches[index] != 0
            states = np.load(path).astype(np.float32)
            ends = np.cumsum(mask.sum(1))[:-1]
            vectors += [part.mean(0) for part in np.split(states, ends)]
            texts += tokenizer.batch_decode(batches[index], skip_special_tokens=True)
            if len(texts) >= count:
                break
        np.savez(
            store, texts=np.array(texts[:count]), vectors=np.array(vectors[:count])
        )
    with np.load(store) as data:
        return data["texts"].tolist(), data["vectors"]


def automatic_tasks(
    texts: list[str], vectors: np.ndarray, words: list[str], count: int, seed: int
) -> list[tuple[list[str], np.ndarray]]:
    """Make tasks: label words and the class of every text."""
    rng = np.random.default_rng(seed)
    white = vectors - vectors.mean(0)
    _, scale, axes = np.linalg.svd(white[:5000], full_matrices=False)
    # Half-whitened: neither the first axes alone nor noise decide.
    white = white @ axes.T / np.sqrt(scale / scale[0])
    tasks = []
    while len(tasks) < count:
        kind = rng.choice(
            ["side", "slices", "clusters", "lexical"], p=[0.6, 0.1, 0.2, 0.1]
        )
        if kind in ("side", "slices"):
            n_classes = 2 if kind == "side" else int(rng.integers(3, 6))
            line = white[:, : int(rng.choice([32, 128, 384]))]
            line = line @ rng.normal(size=line.shape[1])
            cuts = np.sort(rng.uniform(0.15, 0.85, n_classes - 1))
            y = np.searchsorted(np.quantile(line, cuts), line)
        elif kind == "clusters":
            n_classes = int(rng.integers(2, 7))
            some = rng.choice(len(white), 2000, replace=False)
            columns = rng.choice(64, 16, replace=False)
            means = KMeans(n_classes, n_init=1, random_state=int(rng.integers(2**31)))
            y = means.fit(white[some][:, columns]).predict(white[:, columns])
        else:
            word = str(rng.choice(LEXICAL))
            n_classes = 2
            y = np.array([word in text.lower().split() for text in texts]).astype(int)
        if np.bincount(y, minlength=n_classes).min() < 0.08 * len(texts):
            continue
        names = [str(w) for w in rng.choice(words, n_classes, replace=False)]
        tasks.append((names, y))
    return tasks


def common_words(texts: list[str], surrogate) -> list[str]:
    """Words of one token that occur often enough to have a good vector."""
    counts: dict[str, int] = {}
    for text in texts:
        for word in set(text.lower().split()):
            if word.isalpha() and len(word) > 2:
                counts[word] = counts.get(word, 0) + 1
    common = sorted(counts, key=lambda w: (-counts[w], w))[:4000]
    rows = surrogate.tokenizer(common, add_special_tokens=False)["input_ids"]
    return [w for w, row in zip(common, rows, strict=True) if len(row) == 1]


class SparseAdam:
    """Adam over the rows of a large tensor of which few are used in a step."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows
        self.first = torch.zeros_like(rows)
        self.second = torch.zeros_like(rows)
        self.steps = torch.zeros(len(rows))

    def update(self, index: torch.Tensor, grad: torch.Tensor, rate: float) -> None:
        """Take one step for the chosen rows."""
        self.steps[index] += 1
        shape = (-1, *[1] * (grad.ndim - 1))
        count = self.steps[index].view(shape)
        first = self.first[index].mul_(0.9).add_(grad, alpha=0.1)
        second = self.second[index].mul_(0.99).addcmul_(grad, grad, value=0.01)
        self.first[index], self.second[index] = first, second
        step = (first / (1 - 0.9**count)) / ((second / (1 - 0.99**count)).sqrt() + 1e-8)
        self.rows[index] -= rate * step

    def state(self) -> dict[str, torch.Tensor]:
        """Return all tensors by name."""
        return {
            "rows": self.rows,
            "first": self.first,
            "second": self.second,
            "steps": self.steps,
        }


def tuned_accuracy(surrogate, encoded: Encoded, tasks, settings: TuneSettings) -> float:
    """Tune held-out tasks from scratch; accuracy on texts they have not seen."""
    half = len(encoded) * 2 // 3
    rows = np.arange(len(encoded))
    train, test = encoded.take(rows[:half]), encoded.take(rows[half:])
    trees = [label_tree(surrogate, sorted(names)) for names, _ in tasks]
    wanted = []
    for names, y in tasks:
        place = np.argsort(np.argsort(names))
        wanted.append(place[y])
    proba = [
        np.eye(len(names), dtype=np.float32)[w[:half]]
        for (names, _), w in zip(tasks, wanted, strict=True)
    ]
    results = tune_labels(surrogate, train, trees, proba, settings, lambda epoch: None)
    found = [
        (Student(surrogate, r.parameters).log_proba(test, tree).argmax(1) == w[half:])
        for r, tree, w in zip(results, trees, wanted, strict=True)
    ]
    return float(np.mean([f.mean() for f in found]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    settings = json.loads((Path(__file__).parent / "config.json").read_text())
    how, seed = settings["decoder"], settings["seed"]
    torch.manual_seed(seed)
    encoder = args.work / "encoder"
    surrogate = load_surrogate(encoder, max_length=64)
    arch = surrogate.architecture
    texts, vectors = sentence_vectors(args.work, args.corpus, how["texts"])
    encoded = encode_texts(surrogate, texts)
    words = common_words(texts, surrogate)
    tasks = automatic_tasks(texts, vectors, words, how["tasks"], seed)
    held_out = automatic_tasks(texts, vectors, words, 8, seed + 1)
    probe = np.random.default_rng(1).choice(len(texts), 3000, replace=False)
    held_out = [(names, y[probe]) for names, y in held_out]
    trees = [label_tree(surrogate, names) for names, _ in tasks]
    majority = np.mean([np.bincount(y).max() / len(y) for _, y in held_out])

    tune = TuneSettings(
        tuning="prompt",
        prefix_length=16,
        rank=4,
        learning_rate=5e-2,
        max_epochs=3,
        batch_size=64,
        weight_decay=0.0,
        warmup_fraction=0.05,
        dropout=0.0,
        clip_norm=1.0,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=5,
        seed=0,
    )
    weights = {
        k: v.clone().requires_grad_()
        for k, v in surrogate.weights.items()
        if k.startswith("decoder.")
    }
    shape = initial_parameters(surrogate, tune)["prefix"].shape
    bound = np.sqrt(6 / ((4 + arch.n_heads) * 16 * arch.d_kv))
    rows = torch.empty(len(tasks), *shape).uniform_(-bound, bound)
    prefixes = SparseAdam(rows)
    optimizer = torch.optim.AdamW(weights.values(), lr=1e-3, weight_decay=0.01)
    step, spent = 0, 0.0
    checkpoint = args.work / "decoder.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        for key, value in state["weights"].items():
            weights[key].data.copy_(value)
        for key, value in prefixes.state().items():
            value.copy_(state["prefixes"][key])
        optimizer.load_state_dict(state["optimizer"])
        step, spent = state["step"], state["spent"]
    print(
        f"{len(tasks)} tasks, {len(texts)} texts, {len(words)} words; held-out "
        f"majority {majority:.3f}; resume at step {step}, {spent / 60:.1f} minutes",
        flush=True,
    )
    ops = Ops({**surrogate.weights, **weights}, arch.epsilon)
    start = saved = clock = time.monotonic()
    trace: list[tuple[float, float]] = []
    budget = 60 * args.minutes
    while True:
        now = spent + time.monotonic() - start
        last = now >= budget
        if last or time.monotonic() - saved > 300:
            parts = {
                "weights": {k: v.detach() for k, v in weights.items()},
                "prefixes": prefixes.state(),
                "optimizer": optimizer.state_dict(),
                "step": step,
                "spent": now,
            }
            partial = checkpoint.with_suffix(".partial")
            torch.save(parts, partial)
            os.replace(partial, checkpoint)
            saved = time.monotonic()
        if last or step % 1000 == 0:
            trained = {k: v.detach() for k, v in weights.items()}
            current = replace(surrogate, weights={**surrogate.weights, **trained})
            own = Encoded(current, encoded.ids, encoded.states).take(probe)
            found = tuned_accuracy(current, own, held_out, tune)
            print(f"step {step}: held-out prompts reach {found:.3f}", flush=True)
        if last:
            break
        rng = np.random.default_rng([seed, step])
        chosen = rng.choice(len(tasks), how["tasks_per_step"], replace=False)
        # Texts of like lengths: no padding is computed.
        middle = rng.choice(len(texts), how["batch_size"] * 4, replace=False)
        middle = middle[np.argsort(encoded.lengths[middle])]
        at = rng.integers(0, 4) * how["batch_size"]
        batch = np.sort(middle[at : at + how["batch_size"]])
        proba = [
            np.eye(len(tasks[t][0]), dtype=np.float32)[tasks[t][1][batch]]
            for t in chosen
        ]
        objective = LabelObjective(surrogate, [trees[t] for t in chosen], proba)
        index = torch.from_numpy(chosen)
        own_prefixes = prefixes.rows[index].requires_grad_()
        parts = layer_parts(surrogate, {"prefix": own_prefixes})
        memory = remember(ops, arch, *encoded.batch(batch))
        hidden = decode(ops, arch, memory, objective.targets(batch), parts)
        log_proba = objective.log_proba(ops, hidden)
        loss = -(objective.proba * log_proba).sum(-1).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        fade = min(1.0, (step + 1) / 200, max(0.02, (1 - now / budget) / 0.3))
        for group in optimizer.param_groups:
            group["lr"] = how["learning_rate"] * fade
        optimizer.step()
        grad = own_prefixes.grad * how["tasks_per_step"]
        prefixes.update(index, grad, how["prefix_learning_rate"] * fade)
        # Tasks with fewer labels are padded by labels without a path.
        padded = objective.paths.sum(-1)[:, None] == 0
        guess = log_proba.masked_fill(padded, -torch.inf).argmax(-1)
        right = (guess == objective.proba.argmax(-1)).float().mean()
        trace.append((loss.item(), right.item()))
        step += 1
        if step % 100 == 0:
            mean = np.mean(trace, axis=0)
            rate = 100 * how["tasks_per_step"] * how["batch_size"]
            rate /= time.monotonic() - clock
            print(
                f"step {step} loss {mean[0]:.4f} accuracy {mean[1]:.4f} "
                f"{rate:.0f} examples/s, {now / 60:.1f} minutes",
                flush=True,
            )
            trace, clock = [], time.monotonic()
    model = build_student(settings["model"], len(surrogate.tokenizer))
    state = {**surrogate.weights, **{k: v.detach() for k, v in weights.items()}}
    missing = model.load_state_dict(state, strict=False).unexpected_keys
    assert not missing, missing
    model.save_pretrained(args.work / "tuned")
    surrogate.tokenizer.save_pretrained(args.work / "tuned")
    print(f"written: {args.work / 'tuned'}", flush=True)


if __name__ == "__main__":
    main()
