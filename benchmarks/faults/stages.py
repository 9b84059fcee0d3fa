"""SIGKILL in every stage that writes, and several processes with one job."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from caches import TEXTS, Rule

from fute_sklearn import (
    ModelRegistry,
    MomentEmbedder,
    MTEWrapper,
    OpenAIClient,
    Task,
    TaskVectorizer,
    config_context,
    load_embeddings,
    save_embeddings,
)
from fute_sklearn._engine import encode_texts, load_surrogate
from fute_sklearn.testing import TINY_SURROGATE

# Processes of their own, which start quickly as all is imported before.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["fute_sklearn", "fute_sklearn._engine", "transformers"])
OPTIONS = [" good", " bad"]


def stage_encode(folder: Path, url: str) -> list[Any]:
    """Encode texts."""
    found = encode_texts(load_surrogate("fute-mini"), [f"{t} of many" for t in TEXTS])
    return [rows.tobytes() for rows in found.states]


def stage_label(folder: Path, url: str) -> list[Any]:
    """Label texts by a model."""
    return MTEWrapper(Rule(), batch_size=4).label(TEXTS).y.tolist()


def stage_ask(folder: Path, url: str) -> list[Any]:
    """Label texts by a language model on a server."""
    client = OpenAIClient("tiny", base_url=url, interface="text", n_concurrent=3)
    return client.choose(TEXTS, [OPTIONS] * len(TEXTS))


def stage_registry(folder: Path, url: str) -> list[Any]:
    """Add models to a registry."""
    registry = ModelRegistry(folder / "registry", TEXTS[:12])
    for i in range(20):
        registry.add(f"model {i}", Rule())
    return [registry.task(f"model {i}").y.tolist() for i in range(20)]


def stage_vectors(folder: Path, url: str) -> list[Any]:
    """Embed tasks and keep the embeddings."""
    tasks = [
        Task([f"{i} {t}" for t in TEXTS[:20]], list("ab") * 10, name=str(i))
        for i in range(12)
    ]
    embedder = MomentEmbedder(TINY_SURROGATE, reference=TEXTS)
    found = TaskVectorizer(embedder, memory=folder / "memory").fit_transform(tasks)
    return [np.asarray(found).tobytes()]


def stage_save(folder: Path, url: str) -> list[Any]:
    """Save embeddings over and over."""
    for i in range(400):
        save_embeddings(folder / "zoo", np.full((50, 50), i, np.float64))
    return [np.asarray(load_embeddings(folder / "zoo")[0]).tobytes()]


STAGES = (
    stage_encode,
    stage_label,
    stage_ask,
    stage_registry,
    stage_vectors,
    stage_save,
)


def run_stage(at: int, folder: Path, url: str, begun: Any, out: Any) -> None:
    """Run a stage in a process of its own."""
    warnings.simplefilter("ignore")
    folder.mkdir(exist_ok=True)
    with config_context(cache_dir=folder / "cache"):
        load_surrogate(TINY_SURROGATE), load_surrogate("fute-mini")
        begun.set()
        found = STAGES[at](folder, url)
    if out is not None:
        out.put(found)


def whole_run(at: int, folder: Path, url: str) -> tuple[Any, float]:
    """Run a stage to its end; return what it found and its seconds."""
    begun, out = CONTEXT.Event(), CONTEXT.Queue()
    child = CONTEXT.Process(target=run_stage, args=(at, folder, url, begun, out))
    child.start()
    begun.wait()
    start = time.monotonic()
    found = out.get(timeout=300)
    seconds = time.monotonic() - start
    child.join()
    return found, seconds


def kills(arguments: argparse.Namespace) -> None:
    """Print how many killed runs went on to the right end."""
    server = sound_server()
    draw = np.random.default_rng(0)
    for at, stage in enumerate(STAGES):
        right = struck = 0
        with tempfile.TemporaryDirectory() as root:
            expected, seconds = whole_run(at, Path(root) / "whole", server.url)
            for n in range(arguments.kills):
                folder = Path(root) / f"killed {n}"
                begun = CONTEXT.Event()
                child = CONTEXT.Process(
                    target=run_stage, args=(at, folder, server.url, begun, None)
                )
                child.start()
                begun.wait()
                child.join(draw.uniform(0, seconds))
                if child.is_alive():
                    os.kill(child.pid, signal.SIGKILL)
                    struck += 1
                child.join()
                if stage is stage_save and (folder / "zoo").exists():
                    load_embeddings(folder / "zoo")
                right += whole_run(at, folder, server.url)[0] == expected
        print(
            f"{stage.__doc__:50s} {struck} killed, {right} of {n + 1} right", flush=True
        )


def sound_server() -> Any:
    """Start a server that names a label."""
    from tests.llm.openai_server import chat_choice, chat_server

    server = chat_server(
        lambda text, body: [chat_choice("good" if "fine" in text else "bad", [])]
    )
    server.delay = 0.005
    return server


def processes(arguments: argparse.Namespace) -> None:
    """Print how many requests several processes send for one job."""
    for count in (4, 8):
        server, begun = sound_server(), CONTEXT.Event()
        with tempfile.TemporaryDirectory() as root:
            given = (STAGES.index(stage_ask), Path(root), server.url, begun, None)
            children = [
                CONTEXT.Process(target=run_stage, args=given) for _ in range(count)
            ]
            for child in children:
                child.start()
            for child in children:
                child.join()
        failed = sum(child.exitcode != 0 for child in children)
        print(
            f"{count} processes: {len(server.asked)} requests for {len(TEXTS)} texts, "
            f"{failed} failed",
            flush=True,
        )
