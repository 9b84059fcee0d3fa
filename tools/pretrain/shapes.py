"""Compare shapes of the surrogate: depth, width and vocabulary, equally trained.

    python shapes.py --corpus corpus.txt --work DIR [--encoders NAME ...]
        [--decoders NAME ...]

Each encoder of ``config.json`` is distilled as stage a does it, on fewer tokens; each
decoder is trained as stage c does it, in fewer steps, over the shipped encoder.  What
is trained already is not trained again, and a killed run goes on, so that processes
may share the work by naming different shapes.  Then two tables are printed: size in
bfloat16, seconds for 2,000 texts (to be trusted where nothing else runs), and how well
texts and tasks held out are done.  No labelled data set is used.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from automatic_tasks import AutomaticTask
from distil import Distiller, padded, pool, student_tokenizer
from runs import set_up_torch, stage_parser
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from task_texts import batch_sentences, task_source
from tokenizers import Tokenizer
from train_decoder import Trainer
from transformers import PreTrainedTokenizerFast, T5ForConditionalGeneration

from fute_sklearn import TuPaTEEmbedder, config_context
from fute_sklearn._engine import encode_texts, load_surrogate

N_TIMED = 2000  # texts that seconds are given for
N_TASKS = {False: 24, True: 12}  # about texts, about pairs
N_PAIRS = 2000


def cut_tokenizer(counts: np.ndarray, size: int) -> PreTrainedTokenizerFast:
    """Keep the teacher's commonest word pieces, and what spells all other words.

    Parameters
    ----------
    counts : ndarray (n_pieces,)
        How often each of the teacher's pieces occurs.
    size : int
        How many pieces to keep.
    """
    whole = student_tokenizer()
    names = whole.convert_ids_to_tokens(range(len(whole)))
    needed = {*whole.all_special_tokens, "[MASK]"}
    rank = np.array(counts, float)
    for i, name in enumerate(names):
        letter = name.removeprefix("##")
        if name in needed or (len(letter) == 1 and (letter.isascii() or counts[i])):
            rank[i] = np.inf
    kept = np.sort(np.argsort(-rank, kind="stable")[:size])
    place = {names[i]: n for n, i in enumerate(kept)}
    spec = json.loads(whole.backend_tokenizer.to_str())
    spec["model"]["vocab"] = place
    for token in spec["added_tokens"]:
        token["id"] = place[token["content"]]
    for name, token in spec["post_processor"]["special_tokens"].items():
        token["ids"] = [place[name]]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(spec)),
        **{k: str(v) for k, v in whole.special_tokens_map.items()},
        model_max_length=whole.model_max_length,
    )


class WordDistiller(Distiller):
    """A student whose word pieces are fewer: matched word by word, not by piece."""

    def __init__(self, work: Path, corpus: Path, settings: dict, size: int) -> None:
        self.size = size
        super().__init__(work, corpus, settings)
        whole = student_tokenizer()
        self.names = np.array(whole.convert_ids_to_tokens(range(len(whole))))
        self.pieces: dict[str, list[int]] = {}

    def make_tokenizer(self) -> PreTrainedTokenizerFast:
        """Cut the teacher's vocabulary by the corpus's counts."""
        counts = np.zeros(len(student_tokenizer()), np.int64)
        for batch in self.batches:
            counts += np.bincount(batch[batch != 0], minlength=len(counts))
        return cut_tokenizer(counts, self.size)

    def _pieces(self, word: str) -> list[int]:
        if word not in self.pieces:
            found = self.tokenizer.convert_tokens_to_ids([word])
            if word not in self.tokenizer.all_special_tokens:
                model = self.tokenizer.backend_tokenizer.model
                found = [token.id for token in model.tokenize(word)]
            self.pieces[word] = found
        return self.pieces[word]

    def states(self, index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the words' mean states by student and teacher, and their texts."""
        ids = torch.from_numpy(self.batches[index])
        mask = (ids != 0).long()
        names = self.names[self.batches[index]]
        starts = ~np.char.startswith(names, "##") & (mask.numpy() == 1)
        word = torch.from_numpy(np.cumsum(starts[mask.bool().numpy()]) - 1)
        target = pool(self.teacher.states(index, ids, mask), word)
        spelt = [
            [self._pieces(w) for w in words_of(row[:n])]
            for row, n in zip(names, mask.sum(1), strict=True)
        ]
        own = torch.from_numpy(padded([sum(pieces, []) for pieces in spelt]))
        own_mask = (own != 0).long()
        encoder = self.student.encoder
        hidden = encoder(input_ids=own, attention_mask=own_mask).last_hidden_state
        sizes = torch.tensor([len(p) for pieces in spelt for p in pieces])
        word = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
        texts = torch.tensor([i for i, pieces in enumerate(spelt) for _ in pieces])
        return self.head(pool(hidden[own_mask.bool()], word)), target, texts


def words_of(names: np.ndarray) -> list[str]:
    """Put word pieces together."""
    words: list[str] = []
    for name in names:
        if name.startswith("##"):
            words[-1] += name.removeprefix("##")
        else:
            words.append(str(name))
    return words


def shape_settings(settings: dict, kind: str, name: str) -> dict:
    """Settings of one shape's run: the model's with what the shape changes."""
    how = settings["shapes"]
    found = deepcopy(settings)
    found["model"] |= {k: v for k, v in how[kind][name].items() if k != "vocabulary"}
    found["distil"] |= how["distil"]
    found["decoder"] |= how["decoder"]
    return found


def shape_folder(work: Path, kind: str, name: str) -> Path:
    """Make a shape's folder, which shares the tokens and the teacher's states."""
    folder = work / "shapes" / kind / name.replace(" ", "-").replace(",", "")
    folder.mkdir(parents=True, exist_ok=True)
    for shared in ("teacher", "tokens.npz"):
        link = folder / shared
        if not link.is_symlink():
            link.symlink_to((work / shared).resolve())
    return folder


def distiller(work: Path, corpus: Path, settings: dict, name: str) -> Distiller:
    """Lay out the run that trains an encoder of this shape."""
    own = shape_settings(settings, "encoders", name)
    folder = shape_folder(work, "encoders", name)
    torch.manual_seed(settings["seed"])
    size = settings["shapes"]["encoders"][name].get("vocabulary")
    if size is None:
        return Distiller(folder, corpus, own)
    return WordDistiller(folder, corpus, own, size)


def start_decoder(settings: dict, folder: Path) -> None:
    """Put a random decoder of the settings' depth over the shipped encoder."""
    shipped = load_surrogate("fute-mini").folder
    model = T5ForConditionalGeneration.from_pretrained(shipped, dtype=torch.float32)
    config = deepcopy(model.config)
    config.num_decoder_layers = settings["model"]["num_decoder_layers"]
    torch.manual_seed(settings["seed"])
    fresh = T5ForConditionalGeneration(config)
    fresh.shared.load_state_dict(model.shared.state_dict())
    fresh.encoder.load_state_dict(model.encoder.state_dict())
    fresh.save_pretrained(folder / "encoder")
    load_surrogate("fute-mini").tokenizer.save_pretrained(folder / "encoder")


def decoder_trainer(work: Path, corpus: Path, settings: dict, name: str) -> Trainer:
    """Lay out the run that trains a decoder of this shape."""
    own = shape_settings(settings, "decoders", name)
    folder = shape_folder(work, "decoders", name)
    if not (folder / "encoder" / "tokenizer_config.json").exists():
        start_decoder(own, folder)
    torch.manual_seed(settings["seed"])
    return Trainer(folder, corpus, own, None)


class HeldOut:
    """Texts that no encoder is trained on, pairs made of them, and tasks about both.

    Parameters
    ----------
    run : Distiller
        Any shape's: all share the batches and the teacher.
    count : int
        How many batches to hold out: the last of the first epoch, which no run must
        come to.
    """

    def __init__(self, run: Distiller, count: int) -> None:
        self.first = len(run.batches) - count
        self.batches = run.order()[self.first :]
        tokenizer = student_tokenizer()
        texts: list[str] = []
        vectors: list[np.ndarray] = []
        for index in self.batches:
            ids = torch.from_numpy(run.batches[index])
            states = run.teacher.states(index, ids, (ids != 0).long())
            some, means = batch_sentences(tokenizer, ids.numpy(), states.numpy())
            texts += some
            vectors += means
        order = np.random.default_rng(run.seed).permutation(len(texts))
        self.source = task_source(
            tokenizer,
            [texts[i] for i in order],
            np.array(vectors)[order],
            run.seed,
            N_PAIRS,
        )
        self.texts = {False: self.source.single.texts, True: self.source.pairs.texts}
        self.tasks: dict[bool, list[AutomaticTask]] = {}
        for pairs, number in N_TASKS.items():
            rng = np.random.default_rng([run.seed, 99, pairs])
            self.tasks[pairs] = [self.source.draw(rng, pairs) for _ in range(number)]

    def majorities(self) -> list[float]:
        """Mean share of the commonest class, of texts and of pairs."""
        return [
            float(np.mean([np.bincount(t.y).max() / len(t.y) for t in tasks]))
            for tasks in self.tasks.values()
        ]

    def encoder_row(self, run: Distiller) -> list[float]:
        """Measure an encoder; returns the table's cells."""
        if run.step > self.first:
            raise ValueError(
                f"{run.step} steps reach into the held-out batches, from {self.first} "
                "on. Remedy: a smaller shapes.distil.total_tokens in config.json"
            )
        with torch.no_grad():
            losses = [[float(x) for x in run.losses(i)] for i in self.batches]
        tokens, _, whole = 1 - np.mean(losses, axis=0)
        held = [run.student.shared, run.student.encoder.block]
        size = sum(p.numel() for part in held for p in part.parameters())
        surrogate = load_surrogate(run.work / "encoder")
        accuracies = []
        with config_context(cache_dir=None):
            some = self.texts[False][:N_TIMED]
            seconds = best_seconds(lambda: encode_texts(surrogate, some))
            for pairs, tasks in self.tasks.items():
                features = encode_texts(surrogate, self.texts[pairs]).pooled()
                accuracies.append(np.mean([probe(features, t.y) for t in tasks]))
        return [size * 2e-6, seconds, tokens, whole, *accuracies]

    def decoder_row(self, trainer: Trainer) -> tuple[float, float, str]:
        """Measure a decoder: size of the whole, seconds of an embedding, accuracies."""
        trainer.write()
        size = (trainer.work / "tuned" / "model.safetensors").stat().st_size / 2
        X, y = self.texts[False][:N_TIMED], self.tasks[False][0].y[:N_TIMED]
        folder = str(trainer.work / "tuned")
        TuPaTEEmbedder(folder).fit(X, y)  # encodes
        seconds = best_seconds(lambda: TuPaTEEmbedder(folder).fit(X, y))
        return size * 1e-6, seconds, trainer.held_out()


def best_seconds(work: Callable[[], object]) -> float:
    """Time the quickest of three goes, the least disturbed."""
    found = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def probe(features: np.ndarray, y: np.ndarray) -> float:
    """Accuracy of a logistic regression fitted on two thirds, on the last third."""
    cut = len(y) * 2 // 3
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=500))
    return float(model.fit(features[:cut], y[:cut]).score(features[cut:], y[cut:]))


def compare_encoders(
    held: HeldOut, work: Path, corpus: Path, settings: dict, names: list[str]
) -> None:
    """Train encoders and print their table."""
    runs = {name: distiller(work, corpus, settings, name) for name in names}
    for name, run in runs.items():
        print(f"encoder {name}", flush=True)
        run.train()
    texts, pairs = held.majorities()
    print(f"logistic regression on features; majority {texts:.3f}, pairs {pairs:.3f}")
    print("| encoder | MB | s | token cos | text cos | texts | pairs |")
    print("|---|---|---|---|---|---|---|")
    for name, run in runs.items():
        size, seconds, *rest = held.encoder_row(run)
        cells = " | ".join(f"{value:.3f}" for value in rest)
        print(f"| {name} | {size:.2f} | {seconds:.1f} | {cells} |", flush=True)


def compare_decoders(
    held: HeldOut, work: Path, corpus: Path, settings: dict, names: list[str]
) -> None:
    """Train decoders and print their table."""
    rows = []
    for name in names:
        print(f"decoder {name}", flush=True)
        trainer = decoder_trainer(work, corpus, settings, name)
        trainer.train()
        size, seconds, found = held.decoder_row(trainer)
        rows.append(f"| {name} | {size:.1f} | {seconds:.1f} | {found} |")
    print(
        "| decoder | MB in all | s | tuned from scratch |",
        "|---|---|---|---|",
        sep="\n",
    )
    print(*rows, sep="\n", flush=True)


def main() -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--encoders", nargs="*", help="names in config.json; else all")
    parser.add_argument("--decoders", nargs="*", help="names in config.json; else all")
    args = parser.parse_args()
    set_up_torch(args.threads)
    settings = json.loads(args.config.read_text())
    how = settings["shapes"]
    print(f"seed {settings['seed']}, {how}", flush=True)
    held = HeldOut(Distiller(args.work, args.corpus, settings), how["held_out_batches"])
    for names, kind, compare in (
        (args.encoders, "encoders", compare_encoders),
        (args.decoders, "decoders", compare_decoders),
    ):
        names = list(how[kind]) if names is None else names
        if names:
            compare(held, args.work, args.corpus, settings, names)


if __name__ == "__main__":
    main()
