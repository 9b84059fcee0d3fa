"""Client of a causal language model that is loaded in this process."""

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
    """Client of a causal language model in this process, loaded by transformers.

    Scores are exact log-likelihoods of whole strings.  Results are cached on disk in
    parts of 512, so that a repeated or interrupted run does not compute them again.

    Parameters
    ----------
    model : str or path-like
        Folder or hub id of a causal language model.  It is loaded on first use, once
        per process, and is not pickled.
    device : str, default="auto"
        Name of a torch device; ``"auto"`` takes CUDA, else MPS, else the CPU.
    dtype : {"float32", "bfloat16"}, default="float32"
        Precision of the weights.
    gguf_file : str, optional
        Name of a GGUF file in the folder, whose weights are converted to ``dtype``; by
        default weights are read from safetensors files.

    Attributes
    ----------
    capabilities : frozenset of str
        Methods that `PromptedLLM` may call: ``"score"``, ``"score_text"``,
        ``"generate"``.
    fidelity : str
        Accuracy of the scores, ``"exact"``.
    fingerprint : str
        Hash of weights, configuration, tokenizer and precision.

    Raises
    ------
    LanguageModelNotFoundError
        On first use, if the model cannot be loaded.
    ClientCapabilityError
        On first use, if the model has other layers than attention layers.

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
        """Return cached answers; compute missing ones in parts and cache each part."""
        store = AnswerStore(get_config()["cache_dir"])
        try:
            keys = [text_key(self.fingerprint, kind, json.dumps(i)) for i in items]
            found = {key: store.get(key) for key in keys}
            missing = {
                key: item
                for key, item in zip(keys, items, strict=True)
                if found[key] is None
            }
            # Sorted, so that items with a common beginning are in the same part.
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
        """Compute the log-likelihood of continuations given their contexts.

        Parameters
        ----------
        contexts : sequence of str of length n
            Contexts; each is processed once for all its continuations.
        continuations : sequence of sequences of str of length n
            For each context, the strings to score.

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
        """Compute the log-likelihood of whole texts given their first token.

        Parameters
        ----------
        texts : sequence of str
            The texts.

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
            Texts to continue.
        max_tokens : int
            Maximum number of tokens to generate.

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
