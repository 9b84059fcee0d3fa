"""Servers that lie, and hostile answers."""

from __future__ import annotations

import argparse
import copy
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from stages import OPTIONS

from fute_sklearn import (
    OpenAIClient,
    config_context,
)
from fute_sklearn.exceptions import LanguageModelServerError, RowsFailedError

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


class Bench:
    """A server with a real model behind it, whose answers can be changed."""

    def __init__(self, root: str) -> None:
        from fute_sklearn._engine import load_causal
        from tests.conftest import write_causal
        from tests.llm.openai_server import model_server

        model = load_causal(write_causal(Path(root)))
        self._root = root
        self._server = model_server(model)
        self._truth = model.score(["the film was"], [OPTIONS])[0]

    def score(self, changes: Callable[..., Any] | None, proved: bool) -> str:
        """Score with changed answers, from the start or after the proof."""
        cache = tempfile.mkdtemp(dir=self._root)
        with config_context(cache_dir=cache), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            client = OpenAIClient(
                "tiny",
                base_url=self._server.url,
                interface="completions",
                max_retries=0,
                timeout=5.0,
            )
            self._server.spoil = None if proved else changes
            try:
                assert client.fidelity == "echo"
                self._server.spoil = changes
                found = client.score(["the film was"], [OPTIONS])[0]
            except (LanguageModelServerError, RowsFailedError):
                return "refused"
            except Exception as error:
                return f"raised {type(error).__name__}"
        right = np.allclose(found, self._truth, atol=0.1)
        return "right" if right else "TAKEN FOR TRUE"


def servers(arguments: argparse.Namespace) -> None:
    """Print how lying servers and hostile answers are met."""
    from tests.llm import test_openai_client as known

    with tempfile.TemporaryDirectory() as root:
        bench = Bench(root)
        for proved in (False, True):
            kinds = [*known.FAULTS.values(), *([] if proved else known.LIES)]
            ended = Counter(bench.score(kind, proved) for kind in kinds)
            when = "after the proof" if proved else "from the start"
            print(f"{len(kinds)} kinds of faulty servers, {when}: {dict(ended)}")
        places: list[tuple[Any, ...]] = []
        bench.score(lambda answer, body: places.extend(hostile(answer)) or answer, True)
        draw = np.random.default_rng(0)
        chosen = draw.permutation(len(places) * len(VALUES))[: arguments.answers]
        ended = Counter[str]()
        for at in chosen:
            path, value = places[at % len(places)], VALUES[at // len(places)]
            if "token_logprobs" in path and value in (-1, 0, True):
                ended["a number like any other, not tried"] += 1
                continue
            said = bench.score(lambda a, _, p=path, v=value: replaced(a, p, v), True)
            ended[said] += 1
            if said not in ("right", "refused"):
                print(f"  {said}: {value!r:.20} at {path}")
        print(f"{len(chosen)} hostile answers: {dict(ended)}")
