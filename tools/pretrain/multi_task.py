"""Multi-task text-to-text: teach the decoder many tasks that the text itself names.

    python multi_task.py --corpus corpus.txt --work DIR --threads 2

T5's other training (Raffel et al. 2020, section 2.4): what is asked stands before the
text, here a task's label words, and the decoder writes the answer, here the right one.
The tasks are stage c's automatic ones, a fixed set of them; nothing is tuned.  No
labelled data set is used.  The run may be killed at any moment and started again with
the same command.  Stage c takes what it leaves: ``train_decoder.py --start
DIR/multi_task.pt``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from automatic_tasks import AutomaticTask, TaskSource
from distil import padded
from runs import TextToText, set_up_torch, stage_parser
from task_texts import sentence_vectors, task_source

from fute_sklearn._engine import load_surrogate

HELD_OUT = 0.05
HELD_OUT_ROWS = 8
ALIKE = 500  # texts of like lengths that a step draws from: little padding is computed


class MultiTask(TextToText):
    """The decoder learning a fixed set of tasks by their names.

    Parameters
    ----------
    work : Path
        Where stage a left ``encoder`` and where ``multi_task.pt`` is kept.
    source : TaskSource
        Draws the tasks.
    tokenizer : PreTrainedTokenizerFast
        The encoder's.
    settings : dict
        All of ``config.json``.
    """

    def __init__(
        self, work: Path, source: TaskSource, tokenizer, settings: dict
    ) -> None:
        super().__init__(work, settings["multi_task"], "multi_task.pt")
        self.seed, self.tokenizer = settings["seed"], tokenizer
        self.length = settings["distil"]["max_length"]
        rng = np.random.default_rng(self.seed)
        n_pairs = round(self.how["tasks"] * self.how["pair_share"])
        self.tasks = [source.draw(rng, k < n_pairs) for k in range(self.how["tasks"])]
        self.texts = {False: source.single.texts, True: source.pairs.texts}
        # The last texts are held out.
        self.by_length = {
            pairs: np.argsort([len(t) for t in texts[: -self._n_held(texts)]])
            for pairs, texts in self.texts.items()
        }

    @staticmethod
    def _n_held(texts: list[str]) -> int:
        return int(len(texts) * HELD_OUT)

    def _asked(
        self, asked: list[tuple[AutomaticTask, np.ndarray, np.ndarray]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lay out tasks, rows of their texts and the labels to write."""
        sources, answers = [], []
        for task, rows, labels in asked:
            named = ", ".join(task.names)
            sources += [f"{named}: {self.texts[task.pairs][i]}" for i in rows]
            answers += [task.names[k] for k in labels]
        ids = self.tokenizer(sources, truncation=True, max_length=self.length)
        words = self.tokenizer(answers, add_special_tokens=False)["input_ids"]
        end = self.model.config.eos_token_id
        return padded(ids["input_ids"]), padded([[*w, end] for w in words], fill=-100)

    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """Draw tasks, texts of like lengths, and each task's labels with its noise."""
        rng = np.random.default_rng([self.seed, 1, self.step])
        pairs = bool(rng.random() < self.how["pair_share"])
        fit = [task for task in self.tasks if task.pairs == pairs]
        order = self.by_length[pairs]
        at = rng.integers(max(1, len(order) - ALIKE))
        asked = []
        for i in rng.choice(len(fit), self.how["tasks_per_step"], replace=False):
            task = fit[i]
            rows = rng.choice(order[at : at + ALIKE], self.how["texts_per_task"])
            labels = task.y[rows].copy()
            wrong = rng.random(len(rows)) < task.noise
            labels[wrong] = rng.integers(len(task.names), size=int(wrong.sum()))
            asked.append((task, rows, labels))
        return self._asked(asked)

    @torch.no_grad()
    def held_out(self) -> str:
        """Score texts never trained on, next to each task's commonest label."""
        rng = np.random.default_rng([self.seed, 2])
        right, majority = [], []
        for task in self.tasks:
            n_texts = len(self.texts[task.pairs])
            first = n_texts - self._n_held(self.texts[task.pairs])
            rows = rng.integers(first, n_texts, size=HELD_OUT_ROWS)
            scores, ids = self.scores(*self._asked([(task, rows, task.y[rows])]))
            words = ids != self.model.config.eos_token_id
            right.append((scores[words].argmax(1) == ids[words]).float().mean().item())
            majority.append(np.bincount(task.y[first:]).max() / (n_texts - first))
        return (
            f"the right word for {len(self.tasks)} tasks: {np.mean(right):.3f} "
            f"(commonest label {np.mean(majority):.3f})"
        )


def main() -> None:
    args = stage_parser(__doc__).parse_args()
    set_up_torch(args.threads)
    settings = json.loads(args.config.read_text())
    how = settings["decoder"]
    surrogate = load_surrogate(args.work / "encoder", max_length=128)
    texts, vectors = sentence_vectors(
        args.work, args.corpus, settings["distil"], how["texts"]
    )
    source = task_source(
        surrogate.tokenizer, texts, vectors, settings["seed"], how["pairs"]
    )
    MultiTask(args.work, source, surrogate.tokenizer, settings).train()


if __name__ == "__main__":
    main()
