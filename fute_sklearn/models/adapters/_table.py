"""The table of adapters: how a kind of model is recognised, and who asks it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import _libraries, _torch_models
from ._adapted import (
    RESPONSES,
    AdaptedModel,
    EstimatorModel,
    FunctionModel,
    Options,
    RunnableModel,
)
from ._recorded import RecordedAnswers, is_recorded

SHOWN = 60

Adapter = Callable[[Any, Options], AdaptedModel]


def is_a(model: Any, *names: str) -> bool:
    """Whether one of a model's classes has one of these names, ``"package.Class"``."""
    own = {
        f"{cls.__module__.partition('.')[0]}.{cls.__name__}"
        for cls in type(model).__mro__
    }
    return not own.isdisjoint(names)


def _pipeline(model: Any, options: Options) -> AdaptedModel:
    adapters: dict[str, Adapter] = {
        "text-classification": _torch_models.ClassifierPipeline,
        "sentiment-analysis": _torch_models.ClassifierPipeline,
        "zero-shot-classification": _torch_models.ZeroShotPipeline,
        "text-generation": _torch_models.GeneratingPipeline,
        "text2text-generation": _torch_models.GeneratingPipeline,
    }
    if model.task not in adapters:
        raise TypeError(
            f"a pipeline for {model.task!r} gives texts no labels; those for "
            f"{sorted(adapters)} do."
        )
    return adapters[model.task](model, options)


def _transformer(model: Any, options: Options) -> AdaptedModel:
    base = model.get_base_model() if is_a(model, "peft.PeftModel") else model
    if type(base).__name__.endswith("ForSequenceClassification"):
        return _torch_models.TorchModel(model, options)
    if callable(getattr(base, "can_generate", None)) and base.can_generate():
        return _torch_models.GeneratingModel(model, options)
    raise TypeError(
        f"{type(base).__name__} neither classifies texts nor generates answers; "
        "expected one of AutoModelForSequenceClassification, AutoModelForCausalLM or "
        "AutoModelForSeq2SeqLM."
    )


def _chain(model: Any, options: Options) -> AdaptedModel:
    return _libraries.ChainModel(model, options, adapt(model[-1], options))


def _is_chain(model: Any) -> bool:
    return (
        isinstance(model, (tuple, list))
        and len(model) > 1
        and not isinstance(model[0], (str, int, float))  # a long list of answers
        and all(
            callable(step) or hasattr(step, "transform") or hasattr(step, "encode")
            for step in model[:-1]
        )
    )


def _answers(model: Any) -> bool:
    return any(hasattr(model, name) for name in RESPONSES)


# In this order; the first that recognises a model asks it.
KINDS: tuple[tuple[Callable[[Any], bool], Adapter], ...] = (
    (_is_chain, _chain),
    (is_recorded, RecordedAnswers),
    (lambda m: is_a(m, "transformers.Pipeline"), _pipeline),
    (
        lambda m: is_a(m, "transformers.PreTrainedModel", "peft.PeftModel"),
        _transformer,
    ),
    (lambda m: is_a(m, "spacy.Language"), _libraries.SpacyModel),
    (lambda m: is_a(m, "fasttext._FastText"), _libraries.FastTextModel),
    (lambda m: is_a(m, "keras.Model"), _libraries.KerasModel),
    (lambda m: is_a(m, "onnxruntime.InferenceSession"), _libraries.OnnxModel),
    (lambda m: is_a(m, "catboost.CatBoostClassifier"), _libraries.CatBoostModel),
    (lambda m: is_a(m, "xgboost.Booster", "lightgbm.Booster"), _libraries.BoosterModel),
    (_answers, EstimatorModel),
    (lambda m: is_a(m, "langchain_core.Runnable"), RunnableModel),
    (lambda m: is_a(m, "torch.Module"), _torch_models.TorchModel),
    (callable, FunctionModel),
)


def adapt(model: Any, options: Options) -> AdaptedModel:
    """Return the adapter of a model.

    Raises
    ------
    TypeError
        If the model is of no known kind.
    ValueError
        If something is lacking that its kind needs, such as a tokenizer.
    """
    for recognises, adapter in KINDS:
        if recognises(model):
            return adapter(model, options)
    shown = type(model).__name__
    if isinstance(model, str):
        shown = f"{model[:SHOWN]!r}, which is no csv, jsonl or parquet file,"
    raise TypeError(
        f"{shown} is no model that is known: expected an object with "
        f"one of {RESPONSES}, a function of texts, a model or pipeline of "
        "transformers, peft, spaCy, fastText, Keras, onnxruntime, CatBoost or "
        "LangChain, steps (vectorizer, model), or answers that exist already. Write a "
        "function that takes a list of texts and returns their labels."
    )
