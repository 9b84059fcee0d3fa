"""Stage c: teach the decoder to be tuned, over the frozen encoder.

    python train_decoder.py --corpus corpus.txt --work DIR --threads 2

Automatic tasks (see `automatic_tasks`) live in slots.  Each is tuned as the package
tunes it, by prompt, low-rank products or bias, from a starting point of its own; when
it has lived as long as a tuning run, a new task takes its slot.  The decoder's weights
are trained along with them, so that they become weights that few steps can tune, and so
is the value that every prefix starts from.  No labelled data set is used.  The run may
be killed at any moment and started again with the same command; ``--start`` goes on
from the decoder of another run.  Held-out automatic tasks, tuned from scratch, measure
progress.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from automatic_tasks import AutomaticTask, TaskSource
from runs import (
    SAVE_SECONDS,
    set_up_torch,
    stage_parser,
    warm_and_fade,
    weights_state,
    write_checkpoint,
)
from safetensors.numpy import save_file
from task_texts import sentence_vectors, task_source
from transformers import T5ForConditionalGeneration

from fute_sklearn import TuPaTEEmbedder
from fute_sklearn._engine import (
    LabelObjective,
    Student,
    Surrogate,
    label_tree,
    load_surrogate,
    tune_labels,
)
from fute_sklearn._engine._encoder import Encoded, encode_texts
from fute_sklearn._engine._load import STARTS_FILE
from fute_sklearn._engine._t5_decoder import decode, remember
from fute_sklearn._engine._t5_parts import Ops
from fute_sklearn._engine._tuned_parameters import initial_parameters, layer_parts

HELD_OUT_ROWS = 3000
START_RATE = 5.0


@dataclass
class Fleet:
    """Slots of tasks that are tuned in one way."""

    tuning: str
    surrogate: Surrogate
    source: TaskSource
    rng: np.random.Generator
    pairs: np.ndarray  # whether a slot's tasks are about pairs
    lives: tuple[int, int]
    learnt: dict[str, torch.Tensor]  # the start of all tasks, where it is trained

    def __post_init__(self) -> None:
        self.settings = TuPaTEEmbedder(tuning=self.tuning).settings(0)
        count = len(self.pairs)
        start = self._start()
        self.rows = {k: torch.stack([v] * count) for k, v in start.items()}
        self.first = {k: torch.zeros_like(v) for k, v in self.rows.items()}
        self.second = {k: torch.zeros_like(v) for k, v in self.rows.items()}
        self.age = np.zeros(count, int)
        self.life = np.zeros(count, int)
        self.tasks: list[AutomaticTask] = []
        for slot in range(count):
            self.tasks.append(self.source.draw(self.rng, bool(self.pairs[slot])))
            self._renew(slot)
            self.age[slot] = self.rng.integers(self.life[slot])

    def _start(self) -> dict[str, torch.Tensor]:
        if self.learnt:
            return {k: v.detach() for k, v in self.learnt.items()}
        settings = replace(self.settings, seed=int(self.rng.integers(2**31)))
        found = initial_parameters(self.surrogate, settings)
        return {k: torch.from_numpy(v) for k, v in found.items()}

    def _renew(self, slot: int) -> None:
        self.tasks[slot] = self.source.draw(self.rng, bool(self.pairs[slot]))
        self.age[slot] = 0
        self.life[slot] = self.rng.integers(*self.lives)
        for key, value in self._start().items():
            self.rows[key][slot] = value
            self.first[key][slot] = 0
            self.second[key][slot] = 0

    def choose(self, pairs: bool, count: int) -> np.ndarray:
        """Draw slots whose tasks are about pairs, or are not."""
        return self.rng.choice(np.flatnonzero(self.pairs == pairs), count, False)

    def parameters(self, slots: np.ndarray) -> dict[str, torch.Tensor]:
        """Copy the slots' parameters, ready for gradients."""
        index = torch.from_numpy(slots)
        return {k: v[index].requires_grad_() for k, v in self.rows.items()}

    def update(self, slots: np.ndarray, stacked: dict[str, torch.Tensor]) -> None:
        """Take the step of Adam that the package would take; renew what has lived."""
        index = torch.from_numpy(slots)
        age, life = self.age[slots], self.life[slots]
        warm = np.maximum(1, 0.05 * life)
        rate = self.settings.learning_rate
        rate = rate * np.minimum((age + 1) / warm, 1 - age / life)
        norms = [v.grad.flatten(1).norm(dim=1) for v in stacked.values()]
        norm = torch.stack(norms).norm(dim=0)
        clip = (self.settings.clip_norm / norm.clamp(min=1e-12)).clamp(max=1)
        for key, value in stacked.items():
            shape = (-1, *[1] * (value.ndim - 1))
            count = torch.from_numpy(age + 1).float().view(shape)
            grad = value.grad * clip.view(shape)
            first = self.first[key][index].mul_(0.9).add_(grad, alpha=0.1)
            second = self.second[key][index].mul_(0.999)
            second.addcmul_(grad, grad, value=0.001)
            self.first[key][index], self.second[key][index] = first, second
            size = (second / (1 - 0.999**count)).sqrt() + 1e-8
            step = torch.from_numpy(rate).float().view(shape)
            self.rows[key][index] -= step * (first / (1 - 0.9**count)) / size
        self.age[slots] += 1
        for slot in slots[self.age[slots] >= life]:
            self._renew(int(slot))


class Trainer:
    """The decoder's weights, the fleets and the texts."""

    def __init__(
        self, work: Path, corpus: Path, settings: dict, start: Path | None
    ) -> None:
        self.work = work
        self.how, self.seed = settings["decoder"], settings["seed"]
        self.surrogate = load_surrogate(work / "encoder", max_length=128)
        texts, vectors = sentence_vectors(
            work, corpus, settings["distil"], self.how["texts"]
        )
        self.source = task_source(
            self.surrogate.tokenizer,
            texts,
            vectors,
            self.seed,
            self.how["pairs"],
        )
        self.encoded = {
            False: encode_texts(self.surrogate, texts),
            True: encode_texts(self.surrogate, self.source.pairs.texts),
        }
        self.weights = {
            k: v.clone().requires_grad_()
            for k, v in self.surrogate.weights.items()
            if k.startswith("decoder.")
        }
        self.ops = Ops(
            {**self.surrogate.weights, **self.weights},
            self.surrogate.architecture.epsilon,
        )
        prompt = TuPaTEEmbedder(tuning="prompt").settings(0)
        self.start = {
            k: torch.from_numpy(v).requires_grad_()
            for k, v in initial_parameters(self.surrogate, prompt).items()
        }
        self.optimizer = torch.optim.AdamW(
            [
                {"params": list(self.weights.values()), "scale": 1.0},
                {"params": list(self.start.values()), "scale": START_RATE},
            ],
            lr=1e-3,
            weight_decay=0.01,
        )
        self.step, self.checkpoint = 0, work / "decoder.pt"
        self._go_on(start)
        self.fleets = self._fleets()

    def _go_on(self, start: Path | None) -> None:
        """Take up this run's checkpoint or, without one, another run's decoder."""
        resumed = self.checkpoint.exists()
        if resumed or start is not None:
            state = torch.load(self.checkpoint if resumed else start, weights_only=True)
            for key, value in state["weights"].items():
                self.weights[key].data.copy_(value)
            # Runs before prefixes had a learnt start kept none.
            for key, value in state.get("start", {}).items():
                self.start[key].data.copy_(value)
            if resumed:
                self.optimizer.load_state_dict(state["optimizer"])
                self.step = state["step"]

    def _fleets(self) -> dict[str, Fleet]:
        # Slots start at mixed ages, so a resumed run needs no more than new ones.
        pairs = np.arange(self.how["slots"]) < self.how["slots"] * 0.25
        return {
            tuning: Fleet(
                tuning,
                self.surrogate,
                self.source,
                np.random.default_rng([self.seed, self.step, i]),
                pairs,
                tuple(self.how["lives"]),
                self.start if tuning == "prompt" else {},
            )
            for i, tuning in enumerate(self.how["tunings"])
        }

    def save(self) -> None:
        """Keep what a killed run goes on from."""
        state = weights_state(self.weights, self.optimizer, self.step)
        state["start"] = {k: v.detach() for k, v in self.start.items()}
        write_checkpoint(state, self.checkpoint)

    def _batch(self, rng: np.random.Generator, pairs: bool) -> np.ndarray:
        """Texts of like lengths: little padding is computed."""
        encoded, size = self.encoded[pairs], self.how["batch_size"]
        some = rng.choice(len(encoded), size * 8, replace=False)
        some = some[np.argsort(encoded.lengths[some], kind="stable")]
        at = rng.integers(0, 8) * size
        return np.sort(some[at : at + size])

    def train_step(self) -> tuple[float, float]:
        """Take one step of a fleet and of the decoder; returns loss and accuracy."""
        rng = np.random.default_rng([self.seed, self.step])
        tunings = self.how["tunings"]
        fleet = self.fleets[str(rng.choice(list(tunings), p=list(tunings.values())))]
        pairs = bool(rng.random() < self.how["pair_share"])
        slots = fleet.choose(pairs, self.how["tasks_per_step"])
        rows = self._batch(rng, pairs)
        tasks = [fleet.tasks[s] for s in slots]
        proba = []
        for task in tasks:
            share = np.eye(len(task.names), dtype=np.float32)[task.y[rows]]
            wrong = rng.random(len(rows)) < task.noise
            drawn = rng.integers(len(task.names), size=int(wrong.sum()))
            share[wrong] = np.eye(len(task.names), dtype=np.float32)[drawn]
            proba.append(share)
        trees = [label_tree(self.surrogate, t.names) for t in tasks]
        objective = LabelObjective(self.surrogate, trees, proba)
        stacked = fleet.parameters(slots)
        parts = layer_parts(self.surrogate, stacked)
        arch = self.surrogate.architecture
        memory = remember(self.ops, arch, *self.encoded[pairs].batch(rows))
        hidden = decode(self.ops, arch, memory, objective.targets(rows), parts)
        log_proba = objective.log_proba(self.ops, hidden)
        losses = -(objective.proba * log_proba).sum(-1).mean(1)
        self.optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()
        scale = self.how["tasks_per_step"]
        for weight in self.weights.values():
            if weight.grad is not None:  # a lone position uses no query and no key
                weight.grad /= scale
        # First order: a task's gradient where it is now is the start's too.
        for key, start in fleet.learnt.items():
            start.grad = stacked[key].grad.mean(0)
        torch.nn.utils.clip_grad_norm_(self.weights.values(), 1.0)
        fade = warm_and_fade(self.step, self.how)
        for group in self.optimizer.param_groups:
            group["lr"] = self.how["learning_rate"] * group["scale"] * fade
        self.optimizer.step()
        fleet.update(slots, stacked)
        # Tasks with fewer labels are padded by labels without a path.
        padded = objective.paths.sum(-1)[:, None] == 0
        guess = log_proba.masked_fill(padded, -torch.inf).argmax(-1)
        right = (guess == objective.proba.argmax(-1)).float().mean()
        self.step += 1
        return float(losses.detach().mean()), float(right)

    def current(self) -> Surrogate:
        """Return the surrogate with the decoder as it is now."""
        trained = {k: v.detach() for k, v in self.weights.items()}
        starts = {k: v.detach().numpy() for k, v in self.start.items()}
        weights = {**self.surrogate.weights, **trained}
        return replace(self.surrogate, weights=weights, starts=starts)

    def held_out(self) -> str:
        """Tune held-out tasks from scratch; accuracy on texts they have not seen."""
        found = []
        for pairs in (False, True):
            rng = np.random.default_rng([self.seed, 99, pairs])
            tasks = [self.source.draw(rng, pairs) for _ in range(8)]
            rows = rng.choice(len(self.encoded[pairs]), HELD_OUT_ROWS, replace=False)
            full, current = self.encoded[pairs], self.current()
            encoded = Encoded(current, full.ids, full.states).take(rows)
            wanted = [t.y[rows] for t in tasks]
            majority = np.mean([np.bincount(y).max() / len(y) for y in wanted])
            found.append(f"{'pairs' if pairs else 'texts'}: majority {majority:.3f}")
            for tuning, fleet in self.fleets.items():
                value = tuned_accuracy(current, encoded, tasks, wanted, fleet.settings)
                found.append(f"{tuning} {value:.3f}")
        return " ".join(found)

    def train(self) -> None:
        """Take all steps left, with a log and checkpoints."""
        how = self.how
        print(f"from step {self.step} to {how['steps']}", flush=True)
        saved = clock = time.monotonic()
        trace: list[tuple[float, float]] = []
        while self.step < how["steps"]:
            if self.step % how["measure_every"] == 0:
                print(f"step {self.step}: {self.held_out()}", flush=True)
                clock = time.monotonic()
            trace.append(self.train_step())
            if self.step % 100 == 0:
                loss, right = np.mean(trace, axis=0)
                rate = len(trace) * how["tasks_per_step"] * how["batch_size"]
                rate /= time.monotonic() - clock
                print(
                    f"step {self.step} loss {loss:.4f} accuracy {right:.4f} "
                    f"{rate:.0f} examples/s",
                    flush=True,
                )
                trace, clock = [], time.monotonic()
            if time.monotonic() - saved > SAVE_SECONDS:
                self.save()
                saved = time.monotonic()
        self.save()

    def write(self) -> None:
        """Write the whole model for stock transformers."""
        model = T5ForConditionalGeneration.from_pretrained(self.work / "encoder")
        state = self.current().weights
        unexpected = model.load_state_dict(state, strict=False).unexpected_keys
        assert not unexpected, unexpected
        model.save_pretrained(self.work / "tuned")
        self.surrogate.tokenizer.save_pretrained(self.work / "tuned")
        save_file(self.current().starts, self.work / "tuned" / STARTS_FILE)
        print(f"written: {self.work / 'tuned'}", flush=True)


def tuned_accuracy(current, encoded, tasks, wanted, settings) -> float:
    """Mean accuracy of tasks tuned on two thirds of the texts, on the last third."""
    cut = len(encoded) * 2 // 3
    rows = np.arange(len(encoded))
    train, test = encoded.take(rows[:cut]), encoded.take(rows[cut:])
    trees = [label_tree(current, t.names) for t in tasks]
    proba = [
        np.eye(len(t.names), dtype=np.float32)[y[:cut]]
        for t, y in zip(tasks, wanted, strict=True)
    ]
    results = tune_labels(current, train, trees, proba, settings, lambda epoch: None)
    found = [
        (Student(current, r.parameters).log_proba(test, tree).argmax(1) == y[cut:])
        for r, tree, y in zip(results, trees, wanted, strict=True)
    ]
    return float(np.mean([f.mean() for f in found]))


def main() -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--start", type=Path, help="decoder.pt of an earlier run")
    args = parser.parse_args()
    set_up_torch(args.threads)
    settings = json.loads(args.config.read_text())
    trainer = Trainer(args.work, args.corpus, settings, args.start)
    trainer.train()
    print(f"step {trainer.step}: {trainer.held_out()}", flush=True)
    trainer.write()


if __name__ == "__main__":
    main()
