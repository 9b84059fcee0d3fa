"""Count what caches, files and jobs do under fault: a table for every kind.

    python benchmarks/faults.py [--damages 5000] [--kills 20] [--answers 300]
        [--texts 1000000] [--only SECTION ...]

- ``damage``: random flips, cuts, and zeroed and inserted blocks in the files of every
  cache; a read is right, missed (a warning, or an error that names the file), wrong, or
  raises something else
- ``kills``: SIGKILL at random moments in every stage that writes; the next run has to
  end with what a run that nobody kills ends with
- ``disks``: a limit of file sizes, a limit of open files, a folder where a file should
  be, and a file where the folder should be
- ``processes``: several processes with one labelling job: requests, beside its texts
- ``servers``: servers whose log-probabilities are no model's, and hostile answers:
  how many were refused, and how many taken for true
- ``growth``: seconds and bytes per text of the encoder's cache as it grows

Draws are seeded (0).
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fute_sklearn import (
    ModelRegistry,
    MomentEmbedder,
    MTEWrapper,
    OpenAIClient,
    Task,
    TaskVectorizer,
    TaskVectors,
    config_context,
    load_embeddings,
    save_embeddings,
)
from fute_sklearn._engine import _encoder_cache, encode_texts, load_surrogate
from fute_sklearn._engine._encoder_cache import EncoderCache
from fute_sklearn._utils._store import ArrayStore
from fute_sklearn.exceptions import FuteError, LanguageModelServerError, RowsFailedError
from fute_sklearn.llm.clients._answer_store import AnswerStore
from fute_sklearn.testing import TINY_SURROGATE

# Processes of their own, which start quickly as all is imported before.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["fute_sklearn", "fute_sklearn._engine", "transformers"])
TEXTS = [f"a {word} film number {i}" for i in range(60) for word in ("fine", "dull")]
OPTIONS = [" good", " bad"]


class Rule:
    """A model that takes its time."""

    fingerprint = "rule"

    def predict(self, X: list[str]) -> list[str]:
        """Label texts, some milliseconds each."""
        time.sleep(0.003 * len(X))
        return ["good" if "fine" in text else "bad" for text in X]


# Damage ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Cache:
    """Functions that write a cache into a folder, and that read all of it.

    What is missing is read as None; ``raises`` says that a named error is right.
    """

    write: Callable[[Path], None]
    read: Callable[[Path], list[Any]]
    raises: bool = False


STATES = {f"k{i}": np.arange(12.0).reshape(3, 4) + i for i in range(8)}


def read_states(folder: Path) -> list[Any]:
    """Read the encoder's cache as a new process does."""
    _encoder_cache._indexes.clear()  # noqa: SLF001
    cache = EncoderCache(folder)
    return [None if (a := cache.get(key)) is None else a.tolist() for key in STATES]


def read_labels(folder: Path) -> list[Any]:
    """Label texts, by what is kept or by the model."""
    with config_context(cache_dir=folder):
        return MTEWrapper(Rule()).label(TEXTS[:8]).y.tolist()


def write_answers(folder: Path) -> None:
    """Keep answers of a language model."""
    store = AnswerStore(folder)
    for i in range(8):
        store.put(f"k{i}", [i])
    store.close()


def read_answers(folder: Path) -> list[Any]:
    """Read them, and keep another one."""
    store = AnswerStore(folder)
    try:
        store.put("new", 1)
        return [*(store.get(f"k{i}") for i in range(8)), store.get("new")]
    finally:
        store.close()


def read_array(folder: Path) -> list[Any]:
    """Read an embedding that ``TaskVectorizer(memory=...)`` kept."""
    found = ArrayStore(folder).get("a")
    return [None if found is None else found.tolist()]


def write_embeddings(folder: Path) -> None:
    """Save embeddings."""
    folder.mkdir(exist_ok=True)
    save_embeddings(folder / "zoo", TaskVectors(np.eye(3), "space"), list("abc"))


def read_embeddings(folder: Path) -> list[Any]:
    """Load them."""
    vectors, names = load_embeddings(folder / "zoo")
    return [vectors.tolist(), names, vectors.fingerprint]


def write_registry(folder: Path) -> None:
    """Add three models to a registry."""
    registry = ModelRegistry(folder, TEXTS[:12])
    for name in "abc":
        registry.add(name, Rule())


def read_registry(folder: Path) -> list[Any]:
    """Read the models of a registry."""
    registry, found = ModelRegistry(folder), []
    for name in "abc":
        try:
            found.append(registry.task(name).y.tolist())
        except KeyError:  # set aside, with a warning
            found.append(None)
    return found


CACHES = {
    "encoder": Cache(lambda folder: EncoderCache(folder).put(STATES), read_states),
    "predictions": Cache(
        lambda folder: None if read_labels(folder) else None, read_labels
    ),
    "answers": Cache(write_answers, read_answers),
    "arrays": Cache(lambda f: ArrayStore(f).put("a", np.arange(8.0)), read_array),
    "embeddings": Cache(write_embeddings, read_embeddings, raises=True),
    "registry": Cache(write_registry, read_registry, raises=True),
}


def damaged(body: bytes, draw: np.random.Generator) -> bytes:
    """Return bytes with a random fault."""
    kind, out = draw.integers(5), bytearray(body)
    place = int(draw.integers(len(body)))
    if kind == 0:
        return bytes(out[:place])
    if kind == 1:
        out[place : place + 64] = bytes(len(out[place : place + 64]))
    elif kind == 2:
        out[place:place] = out[place : place + 16]
    else:
        for at in [place, *draw.integers(len(body), size=3 * int(kind == 3))]:
            out[int(at)] ^= 1 << int(draw.integers(8))
    return bytes(out)


def outcome(cache: Cache, folder: Path, expected: list[Any]) -> str:
    """Read a damaged folder; return how it ended."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = cache.read(folder)
        except (ValueError, FuteError) as error:
            if cache.raises:
                return "missed"
            print(f"  {type(error).__name__}: {error}")
            return "raised"
        except Exception as error:
            print(f"  {type(error).__name__}: {error}")
            return "raised"
    if found == expected:
        return "right"
    pairs = zip(found, expected, strict=True)
    return "missed" if all(a is None or a == b for a, b in pairs) else "wrong"


def damage(arguments: argparse.Namespace) -> None:
    """Print how damaged files are read."""
    print(f"{'':12s} {'tried':>6s} {'right':>6s} {'missed':>6s} {'wrong':>6s} raised")
    total: Counter[str] = Counter()
    for name, cache in CACHES.items():
        draw, ended = np.random.default_rng(0), Counter[str]()
        with tempfile.TemporaryDirectory() as root:
            sound, tried = Path(root) / "sound", Path(root) / "tried"
            cache.write(sound)
            expected = cache.read(sound)
            files = [
                path.relative_to(sound)
                for path in sorted(sound.rglob("*"))
                if path.is_file() and path.stat().st_size and path.suffix != ".lock"
            ]
            for n in range(-(-arguments.damages // len(CACHES))):
                shutil.copytree(sound, tried)
                path = tried / files[n % len(files)]
                path.write_bytes(damaged(path.read_bytes(), draw))
                ended[outcome(cache, tried, expected)] += 1
                shutil.rmtree(tried)
        total += ended
        show(name, ended)
    show("together", total)


def show(name: str, ended: Counter[str]) -> None:
    """Print the counts of one kind."""
    counts = (sum(ended.values()), *(ended[k] for k in ("right", "missed", "wrong")))
    print(
        f"{name:12s} {' '.join(f'{n:6d}' for n in counts)} {ended['raised']:6d}",
        flush=True,
    )


# Kills ----------------------------------------------------------------------------


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


# Disks ----------------------------------------------------------------------------


def limited(name: str, limit: str, folder: Path, out: Any) -> None:
    """Write and read a cache under a limit; return how it ended and the warnings."""
    import resource

    cache = CACHES[name]
    expected_in = folder / "sound"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cache.write(expected_in)
        expected = cache.read(expected_in)
    target = folder / "limited"
    if limit == "file sizes":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
    elif limit == "open files":
        used = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used - 1, used - 1))
    elif limit == "a file for the folder":
        target.write_text("no folder")
    else:
        shutil.copytree(expected_in, target)
        for path in [p for p in target.rglob("*") if p.is_file()]:
            path.unlink()
            path.mkdir()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            if limit != "folders for files":
                cache.write(target)
            found = cache.read(target)
            pairs = zip(found, expected, strict=True)
            right = all(a is None or a == b for a, b in pairs)
            ended = "right or missed" if right else "WRONG"
        except (OSError, ValueError, FuteError) as error:
            said = f"{type(error).__name__}: {error}"
            ended = f"refused, {said:.60}" if cache.raises else f"RAISED {said}"
    out.put((ended, len(told)))


def disks(arguments: argparse.Namespace) -> None:
    """Print what happens where a disk takes nothing."""
    limits = ("file sizes", "open files", "folders for files", "a file for the folder")
    for limit in limits:
        for name in CACHES:
            with tempfile.TemporaryDirectory() as root:
                out = CONTEXT.SimpleQueue()
                child = CONTEXT.Process(
                    target=limited, args=(name, limit, Path(root), out)
                )
                child.start()
                child.join(60)
                ended, told = out.get() if not out.empty() else ("DIED", 0)
            print(f"{limit:22s} {name:12s} {ended}, {told} warnings", flush=True)


# Processes ------------------------------------------------------------------------


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


# Servers --------------------------------------------------------------------------


VALUES = (None, [], {}, "x", -1, 0, 10**400, 1e308, float("nan"), True, [[]], "9" * 999)


def hostile(answer: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the places of an answer, whose values are then replaced."""
    parts = answer.items() if isinstance(answer, dict) else enumerate(answer)
    for key, value in parts:
        yield (*path, key)
        if isinstance(value, (dict, list)) and value:
            yield from hostile(value, (*path, key))


def replaced(answer: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return an answer with another value at a place."""
    answer = copy.deepcopy(answer)
    place = answer
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return answer


def servers(arguments: argparse.Namespace) -> None:
    """Print how lying servers and hostile answers are met."""
    from fute_sklearn._engine import load_causal
    from tests.conftest import write_causal
    from tests.llm import test_openai_client as known
    from tests.llm.openai_server import model_server

    with tempfile.TemporaryDirectory() as root:
        model = load_causal(write_causal(Path(root)))
        server = model_server(model)
        truth = model.score(["the film was"], [OPTIONS])[0]

        def score(changes: Callable[..., Any] | None, proved: bool) -> str:
            """Score with changed answers, from the start or after the proof."""
            cache = tempfile.mkdtemp(dir=root)
            with config_context(cache_dir=cache), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                client = OpenAIClient(
                    "tiny",
                    base_url=server.url,
                    interface="completions",
                    max_retries=0,
                    timeout=5.0,
                )
                server.spoil = None if proved else changes
                try:
                    assert client.fidelity == "echo"
                    server.spoil = changes
                    found = client.score(["the film was"], [OPTIONS])[0]
                except (LanguageModelServerError, RowsFailedError):
                    return "refused"
                except Exception as error:
                    return f"raised {type(error).__name__}"
            return "right" if np.allclose(found, truth, atol=0.1) else "TAKEN FOR TRUE"

        for proved in (False, True):
            kinds = [*known.FAULTS.values(), *([] if proved else known.LIES)]
            ended = Counter(score(kind, proved) for kind in kinds)
            when = "after the proof" if proved else "from the start"
            print(f"{len(kinds)} kinds of faulty servers, {when}: {dict(ended)}")
        places: list[tuple[Any, ...]] = []
        score(lambda answer, body: places.extend(hostile(answer)) or answer, True)
        draw = np.random.default_rng(0)
        chosen = draw.permutation(len(places) * len(VALUES))[: arguments.answers]
        ended = Counter[str]()
        for at in chosen:
            path, value = places[at % len(places)], VALUES[at // len(places)]
            if "token_logprobs" in path and value in (-1, 0, True):
                ended["a number like any other, not tried"] += 1
                continue
            said = score(lambda a, _, p=path, v=value: replaced(a, p, v), True)
            ended[said] += 1
            if said not in ("right", "refused"):
                print(f"  {said}: {value!r:.20} at {path}")
        print(f"{len(chosen)} hostile answers: {dict(ended)}")


# Growth ---------------------------------------------------------------------------


def growth(arguments: argparse.Namespace) -> None:
    """Print seconds and bytes per text as the encoder's cache grows."""
    draw, width, part = np.random.default_rng(0), 64, 4096
    rows = draw.standard_normal((part, 8, width)).astype(np.float32)
    with tempfile.TemporaryDirectory() as root:
        folder, written, seconds = Path(root) / "encoder", 0, 0.0
        cache = EncoderCache(folder)
        size = min(100_000, arguments.texts)
        while written < arguments.texts:
            keys = [f"{written + i:064x}" for i in range(part)]
            start = time.perf_counter()
            cache.put(dict(zip(keys, rows, strict=True)))
            seconds += time.perf_counter() - start
            written += part
            if written >= size or written >= arguments.texts:
                files = [p for p in folder.iterdir() if p.is_file()]
                n_bytes = sum(p.stat().st_size for p in files)
                _encoder_cache._indexes.clear()  # noqa: SLF001
                start = time.perf_counter()
                cache = EncoderCache(folder)
                opened = time.perf_counter() - start
                start = time.perf_counter()
                for i in draw.integers(written, size=1000):
                    assert cache.get(f"{i:064x}") is not None
                read = time.perf_counter() - start
                print(
                    f"{written:8d} texts: written {1e6 * seconds / written:.0f} us a "
                    f"text, {n_bytes / written:.0f} bytes ({rows[0].nbytes} of states),"
                    f" {len(files)} files, opened in {1e6 * opened / written:.2f} us a "
                    f"text, 1,000 read in {read:.2f} s",
                    flush=True,
                )
                size *= 10


SECTIONS = {
    "damage": damage,
    "kills": kills,
    "disks": disks,
    "processes": processes,
    "servers": servers,
    "growth": growth,
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--damages", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--answers", type=int, default=300)
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=None)
    arguments = parser.parse_args()
    for name in arguments.only or SECTIONS:
        start = time.perf_counter()
        print(f"\n{name}, seed 0, {vars(arguments)}")
        SECTIONS[name](arguments)
        print(f"({time.perf_counter() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
