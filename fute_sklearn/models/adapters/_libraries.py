"""Models of libraries with interfaces of their own.

The libraries are taken from the modules that are loaded, as a model of each is at hand.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from scipy.special import softmax

from ..._utils._columns import scalar
from ._adapted import (
    SCORES,
    AdaptedModel,
    Options,
    ScoringModel,
    from_scores,
    labelled_table,
    two_columns,
)

FASTTEXT_PREFIX = "__label__"


class SpacyModel(ScoringModel):
    """A spaCy pipeline with a text categorizer."""

    def __init__(self, model: Any, options: Options) -> None:
        super().__init__(model, options)
        names = [name for name in model.pipe_names if name.startswith("textcat")]
        if not names:
            raise ValueError(
                f"the spaCy pipeline {model.pipe_names} has no textcat, so that it "
                "gives texts no labels."
            )
        self.classes = list(model.get_pipe(names[0]).labels)

    @property
    def fingerprint(self) -> str | None:
        import hashlib

        # The vocabulary also holds the words of all texts read so far.
        parts = self.model.to_bytes(exclude=["vocab"])
        parts += np.asarray(self.model.vocab.vectors.data).tobytes()
        return hashlib.sha256(parts).hexdigest()

    def scores(self, X: list[Any]) -> np.ndarray:
        assert self.classes is not None
        documents = self.model.pipe(X, batch_size=len(X))
        return np.array([[d.cats[label] for label in self.classes] for d in documents])


class FastTextModel(ScoringModel):
    """A classifier of fastText, whose labels lose their prefix."""

    def __init__(self, model: Any, options: Options) -> None:
        super().__init__(model, options)
        self.names = list(model.labels)
        self.classes = [name.removeprefix(FASTTEXT_PREFIX) for name in self.names]
        self.hashed = (
            model.get_input_matrix(),
            model.get_output_matrix(),
            model.words,
            self.names,
        )

    def scores(self, X: list[Any]) -> np.ndarray:
        out = np.zeros((len(X), len(self.names)))
        for i, text in enumerate(X):  # many at once fail with numpy 2
            line = " ".join(text.split()) + "\n"
            pairs = self.model.f.predict(line, len(self.names), 0.0, "strict")
            for score, name in pairs:
                out[i, self.names.index(name)] = score
        return out


class KerasModel(ScoringModel):
    """A Keras model with a softmax or a sigmoid; a tokenizer makes its inputs."""

    def __init__(self, model: Any, options: Options) -> None:
        super().__init__(model, options)
        self.hashed = (model.get_weights(), model.to_json(), options.tokenizer)

    def scores(self, X: list[Any]) -> np.ndarray:
        make = self.options.tokenizer
        inputs = np.array(X, dtype=object) if make is None else make(X)
        found = np.asarray(self.model.predict(inputs, verbose=0)).reshape(len(X), -1)
        return two_columns(found)


class OnnxModel(AdaptedModel):
    """A session of onnxruntime; a tokenizer makes its inputs, by default the texts."""

    responses = SCORES[:2]

    def __init__(self, model: Any, options: Options) -> None:
        super().__init__(model, options)
        self.inputs = [one.name for one in model.get_inputs()]
        # A session made from bytes holds its model no longer.
        path = getattr(model, "_model_path", None)
        self.hashed = (
            getattr(model, "_model_bytes", None) or path or model,
            options.tokenizer,
        )

    def answer(self, X: Any, method: str) -> Any:
        make = self.options.tokenizer
        texts = np.array(list(X), dtype=object)[:, None]
        found: Any = texts if make is None else make(list(X))
        feed = found if hasattr(found, "keys") else {self.inputs[0]: found}
        outputs = self.model.run(None, {k: np.asarray(v) for k, v in feed.items()})
        return self._read(outputs, method)

    def _read(self, outputs: list[Any], method: str) -> Any:
        labels, scores = outputs[0], outputs[-1]
        if isinstance(scores, list):  # skl2onnx gives a dict per text
            names = sorted(scores[0], key=str)
            table = np.array([[row[name] for name in names] for row in scores])
            if method == "predict":
                return [scalar(label) for label in labels]
            return labelled_table(table, names)
        if len(outputs) > 1 and method == "predict" and np.ndim(labels) == 1:
            return [scalar(label) for label in labels]
        table = np.asarray(scores, dtype=float)
        if (table < 0).any() or not np.allclose(table.sum(1), 1, atol=1e-3):
            table = softmax(table, axis=1)  # logits
        names = list(self.options.classes or range(table.shape[1]))
        return from_scores(table, names, method)


class CatBoostModel(AdaptedModel):
    """A classifier of CatBoost with one text feature."""

    responses = SCORES
    batch_size = 512

    def __init__(self, model: Any, options: Options) -> None:
        super().__init__(model, options)
        self.classes = [scalar(label) for label in model.classes_]

    def answer(self, X: Any, method: str) -> Any:
        rows = X if getattr(X, "ndim", 1) == 2 else [[text] for text in X]
        found = getattr(self.model, method)(rows)
        return np.ravel(found).tolist() if method == "predict" else found


class BoosterModel(ScoringModel):
    """A bare booster of XGBoost or LightGBM, behind a vectorizer."""

    batch_size = 512

    def __init__(self, model: Any, options: Options) -> None:
        super().__init__(model, options)
        self.of_xgboost = type(model).__module__.startswith("xgboost")
        self.hashed = (
            bytes(model.save_raw("ubj")) if self.of_xgboost else model.model_to_string()
        )

    def scores(self, X: Any) -> np.ndarray:
        if self.of_xgboost:
            found = self.model.predict(sys.modules["xgboost"].DMatrix(X))
        else:
            found = self.model.predict(X)
        return two_columns(np.asarray(found))

    def inputs(self, X: Any) -> Any:
        return X  # features


class ChainModel(AdaptedModel):
    """Steps that make features of texts, and a model of features."""

    def __init__(self, steps: Any, options: Options, head: AdaptedModel) -> None:
        super().__init__(steps, options)
        self.steps = list(steps[:-1])
        self.head = head
        self.classes, self.responses = head.classes, head.responses
        self.hashed = (self.steps, head.hashed)

    @property
    def name(self) -> str:
        return self.head.name

    def answer(self, X: Any, method: str) -> Any:
        features: Any = list(X)
        for step in self.steps:
            made = getattr(step, "transform", None) or getattr(step, "encode", step)
            features = made(features)
        return self.head.answer(features, method)
