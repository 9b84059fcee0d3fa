"""A language model in this process as a client of `PromptedLLM`."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._utils._config import get_config
from ..._utils._store import text_key
from ._answer_store import AnswerStore

if TYPE_CHECKING:
    from ..._engine import CausalModel

_LOADED: dict[tuple[str, str, str, str | None], CausalModel] = {}
_LOCK = threading.Lock()
PART = 512


class TransformersClient:
    """Score and generate with a causal language model in this process.

    All scores are exact log-likelihoods of whole strings: fidelity ``"exact"``.
    Answers are kept on disk as they come: a second run, or one that goes on after a
    kill, does not compute them again.

    Parameters
    ----------
    model : str or path
        A folder or hub id of a causal language model.  Loaded on first use, once per
        process, and never pickled.
    device : str, default="auto"
        A torch device; ``"auto"`` takes CUDA, then MPS, then the CPU.
    dtype : {"float32", "bfloat16"}, default="float32"
        Precision of the weights.
    gguf_file : str, optional
        Name of a GGUF file in the folder; its weights are unpacked to ``dtype``.

    Attributes
    ----------
    capabilities : frozenset of str
        What the client can do: ``"score"``, ``"score_text"``, ``"generate"``.
    fidelity : str
        How good the scores are.

    Examples
    --------
    >>> from fute_sklearn import TransformersClient
    >>> client = TransformersClient("HuggingFaceTB/SmolLM2-135M-Instruct")
    >>> client.fidelity
    'exact'
    """

    capabilities = frozenset({"score", "score_text", "generate"})
    fidelity = "exact"

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        device: str = "auto",
        dtype: str = "float32",
        gguf_file: str | None = None,
    ) -> None:
        self.model = model
        self.device = device
        self.dtype = dtype
        self.gguf_file = gguf_file

    def __repr__(self) -> str:
        return f"TransformersClient({os.fspath(self.model)!r})"

    def _load(self) -> CausalModel:
        from ..._engine import load_causal

        key = (os.fspath(self.model), self.device, self.dtype, self.gguf_file)
        with _LOCK:
            if key not in _LOADED:
                _LOADED[key] = load_causal(
                    self.model,
                    device=self.device,
                    dtype=self.dtype,
                    gguf_file=self.gguf_file,
                )
            return _LOADED[key]

    @property
    def fingerprint(self) -> str:
        """Hash of weights, configuration, tokenizer and precision."""
        return self._load().fingerprint

    def _kept(
        self, kind: str, items: list[Any], compute: Callable[[list[Any]], list[Any]]
    ) -> list[Any]:
        """Return kept answers, and the others in parts, each kept at once."""
        store = AnswerStore(get_config()["cache_dir"])
        try:
            keys = [text_key(self.fingerprint, kind, json.dumps(i)) for i in items]
            found = {key: store.get(key) for key in keys}
            missing = {
                key: item
                for key, item in zip(keys, items, strict=True)
                if found[key] is None
            }
            # In order of the texts, so that shared beginnings stay together.
            order = sorted(missing, key=lambda key: missing[key])
            for start in range(0, len(order), PART):
                part = order[start : start + PART]
                answers = compute([missing[key] for key in part])
                for key, answer in zip(part, answers, strict=True):
                    store.put(key, answer)
                    found[key] = answer
        finally:
            store.close()
        return [found[key] for key in keys]

    def score(
        self, contexts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[np.ndarray]:
        """Log-likelihood of strings that may follow a context.

        Parameters
        ----------
        contexts : sequence of str of length n
            Contexts, each read once.
        continuations : sequence of sequences of str of length n
            For each context, strings that are scored as what follows it.

        Returns
        -------
        scores : list of ndarray
            One array per context, in nats, summed over all tokens of a string.
        """
        pairs = zip(contexts, continuations, strict=True)
        found = self._kept(
            "score",
            [[context, list(options)] for context, options in pairs],
            lambda part: [
                row.tolist()
                for row in self._load().score(
                    [c for c, _ in part], [o for _, o in part]
                )
            ],
        )
        return [np.array(row) for row in found]

    def score_text(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        """Log-likelihood of whole texts.

        Parameters
        ----------
        texts : sequence of str
            Texts; a text's first token is not scored.

        Returns
        -------
        scores : list of (float, int)
            Log-likelihood in nats and the number of tokens it is summed over.
        """
        found = self._kept("score_text", list(texts), self._load().score_text)
        return [(total, count) for total, count in found]

    def generate(self, prompts: Sequence[str], max_tokens: int) -> list[str]:
        """Continue prompts greedily.

        Parameters
        ----------
        prompts : sequence of str
            What to continue.
        max_tokens : int
            Most tokens to add.

        Returns
        -------
        texts : list of str
            The continuations, without the prompts.
        """
        return self._kept(
            f"generate {max_tokens}",
            list(prompts),
            lambda part: self._load().generate(part, max_tokens),
        )
