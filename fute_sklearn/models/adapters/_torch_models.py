"""Pipelines and models of transformers and peft, and other torch modules.

torch is taken from the modules that are loaded, as a model of it is at hand.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from scipy.special import expit, softmax

from ._adapted import AdaptedModel, Options, ScoringModel, two_columns

MAX_NEW_TOKENS = 32


class ClassifierPipeline(ScoringModel):
    """``pipeline("text-classification")``."""

    def __init__(self, model: Any, options: Options) -> None:
        super().__init__(model, options)
        self.classes = labels_of_config(model.model.config)
        self.hashed = pipeline_identity(model)

    def scores(self, X: list[Any]) -> np.ndarray:
        assert self.classes is not None
        with _evaluation(self.model.model):
            found = self.model(X, top_k=None, batch_size=len(X), truncation=True)
        rows = [{one["label"]: one["score"] for one in row} for row in found]
        return np.array([[row[label] for label in self.classes] for row in rows])


class ZeroShotPipeline(ScoringModel):
    """``pipeline("zero-shot-classification")``, which is asked for given classes."""

    def __init__(self, model: Any, options: Options) -> None:
        super().__init__(model, options)
        if not options.classes:
            raise ValueError(
                "a pipeline for zero-shot classification needs to know between which "
                "labels to choose: MTEWrapper(pipeline, classes=[...])."
            )
        self.classes = [str(label) for label in options.classes]
        self.hashed = (pipeline_identity(model), self.classes)

    def scores(self, X: list[Any]) -> np.ndarray:
        assert self.classes is not None
        with _evaluation(self.model.model):
            found = self.model(X, candidate_labels=self.classes, batch_size=len(X))
        rows = [dict(zip(row["labels"], row["scores"], strict=True)) for row in found]
        return np.array([[row[label] for label in self.classes] for row in rows])


class GeneratingPipeline(AdaptedModel):
    """``pipeline("text-generation")``: its answers are texts."""

    def __init__(self, model: Any, options: Options) -> None:
        super().__init__(model, options)
        self.hashed = pipeline_identity(model)

    def answer(self, X: Any, method: str) -> Any:
        settings: dict[str, Any] = {"do_sample": False}
        if self.model.task == "text-generation":
            settings["return_full_text"] = False
        with _evaluation(self.model.model):
            found = self.model(list(X), max_new_tokens=MAX_NEW_TOKENS, **settings)
        rows = [row[0] if isinstance(row, list) else row for row in found]
        return [row["generated_text"] for row in rows]


class TorchModel(ScoringModel):
    """A torch module that gives a row of logits, with what makes its inputs.

    The tokenizer, or any function of a list of texts, returns the module's inputs: a
    tensor, a tuple of tensors, or a mapping from names to tensors.  One logit is that
    of the second of two classes.
    """

    def __init__(self, model: Any, options: Options) -> None:
        super().__init__(model, options)
        if options.tokenizer is None:
            raise ValueError(
                f"{type(model).__name__} reads tensors, not texts; give the tokenizer, "
                "or a function from a list of texts to its inputs: "
                "MTEWrapper(model, tokenizer=tokenizer)."
            )
        config = getattr(model, "config", None)
        if hasattr(config, "id2label"):
            self.classes = labels_of_config(config)
        self.hashed = (model, identity_of(options.tokenizer))

    def scores(self, X: list[Any]) -> np.ndarray:
        plain, named = model_inputs(self.model, self.options.tokenizer, X)
        with _evaluation(self.model):
            found = self.model(*plain, **named)
        logits = found.logits if hasattr(found, "logits") else found
        logits = logits[0] if isinstance(logits, tuple) else logits
        values = logits.detach().float().cpu().numpy().reshape(len(X), -1)
        if values.shape[1] == 1:
            return two_columns(expit(values))
        return softmax(values, axis=1)


class GeneratingModel(AdaptedModel):
    """A model of transformers that generates, with its tokenizer."""

    def __init__(self, model: Any, options: Options) -> None:
        super().__init__(model, options)
        if options.tokenizer is None:
            raise ValueError(
                f"{type(model).__name__} reads tokens; give its tokenizer: "
                "MTEWrapper(model, tokenizer=tokenizer, parser=...)."
            )
        self.hashed = (model, identity_of(options.tokenizer))

    def answer(self, X: Any, method: str) -> Any:
        tokenizer = self.options.tokenizer
        whole = bool(getattr(self.model.config, "is_encoder_decoder", False))
        # What is generated continues the text, so that padding goes before it.
        side = {} if whole else {"padding_side": "left"}
        inputs = model_inputs(self.model, tokenizer, list(X), **side)[1]
        with _evaluation(self.model):
            found = self.model.generate(
                **inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False
            )
        new = found if whole else found[:, inputs["input_ids"].shape[1] :]
        return tokenizer.batch_decode(new, skip_special_tokens=True)


def identity_of(tokenizer: Any) -> Any:
    """What tells a tokenizer from others: not how it last cut and padded."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return tokenizer
    settings = json.loads(backend.to_str()) | {"truncation": None, "padding": None}
    sides = ("truncation_side", "padding_side")
    names = ("special_tokens_map", "model_max_length", "chat_template", *sides)
    own = (getattr(tokenizer, name, None) for name in names)
    return type(tokenizer), settings, *own


def pipeline_identity(model: Any) -> Any:
    """What tells a pipeline from others: model, tokenizer, and settings of its own."""
    params = ("_preprocess_params", "_forward_params", "_postprocess_params")
    names = (*params, "generation_config", "prefix")
    own = tuple(getattr(model, name, None) for name in names)
    return type(model), model.model, identity_of(model.tokenizer), own


def labels_of_config(config: Any) -> list[str]:
    """Labels of a configuration of transformers, in the order of the logits."""
    return [config.id2label[i] for i in sorted(config.id2label)]


def model_inputs(
    model: Any, tokenizer: Any, X: list[Any], **settings: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and named inputs of a torch module for some texts, on its device."""
    if hasattr(tokenizer, "batch_decode"):  # one of transformers
        limit = getattr(tokenizer, "model_max_length", None)
        settings["truncation"] = limit is not None and limit < 10**6
        found = tokenizer(X, padding=True, return_tensors="pt", **settings)
    else:
        found = tokenizer(X)
    device = next((p.device for p in model.parameters()), None)

    def there(value: Any) -> Any:
        return value.to(device) if hasattr(value, "to") and device else value

    if isinstance(found, Mapping) or hasattr(found, "keys"):
        return (), {name: there(found[name]) for name in found.keys()}
    parts = found if isinstance(found, (tuple, list)) else (found,)
    return tuple(there(part) for part in parts), {}


# Modules that are being asked: by how many threads, and in which mode they were before.
_asked: dict[int, tuple[int, bool]] = {}
_asking = threading.Lock()


@contextmanager
def _evaluation(model: Any) -> Iterator[None]:
    """Switch off dropout and gradients; leave the module as it was.

    Threads may share modules; the last to leave one switches it back.
    """
    modules = list(model.modules())
    with _asking:
        for module in modules:
            count, mode = _asked.get(id(module), (0, module.training))
            _asked[id(module)] = count + 1, mode
        model.eval()
    try:
        with sys.modules["torch"].inference_mode():
            yield
    finally:
        with _asking:
            for module in modules:
                count, mode = _asked.pop(id(module))
                if count > 1:
                    _asked[id(module)] = count - 1, mode
                else:
                    module.training = mode
