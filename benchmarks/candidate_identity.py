"""How often candidates are asked again: the first table of ``candidates.py``.

Counted is how many texts a model is asked in this process at the first and the second
``label``; in a new process that gets the model as its library stores it (or by pickle);
there after it was changed in place; and there after constants that its code reads were
changed.  No model may be asked twice, and none may pass for another: a changed one is
asked all texts, one whose code reads none of the constants, none.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import candidate_kinds
import cloudpickle
import numpy as np
from candidate_kinds import LABELS, READERS, Built

from fute_sklearn import MTEWrapper, config_context

N_TEXTS = 60
COLUMNS = ("first", "second", "process", "changed", "constant")


class Counter:
    """Counts the texts that adapters ask their models."""

    def __init__(self) -> None:
        from fute_sklearn.models._labeller import Labeller

        self.asked = 0
        original = Labeller._call  # noqa: SLF001 - a measurement

        def counted(labeller: Any, X: Any, texts: Any, part: list[int]) -> Any:
            self.asked += len(part)
            return original(labeller, X, texts, part)

        Labeller._call = counted  # type: ignore[method-assign] # noqa: SLF001

    def of(self, built: Built, texts: list[str]) -> int:
        """Texts that a model is asked to label some texts."""
        before = self.asked
        MTEWrapper(built[0], **built[1]).label(texts)
        return self.asked - before


def fasttext_of(content: bytes) -> Any:
    """Load a model of fastText."""
    import fasttext

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.bin"
        path.write_bytes(content)
        return fasttext.load_model(str(path))


def session_of(content: bytes) -> Any:
    """Load a session of onnxruntime."""
    import onnxruntime

    return onnxruntime.InferenceSession(content)


class Saver(cloudpickle.Pickler):
    """Pickles; models that refuse it are stored as their library does."""

    def reducer_override(self, obj: Any) -> Any:
        """Store models of fastText and onnxruntime."""
        kind = type(obj)
        if kind.__module__.startswith("fasttext"):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.bin"
                obj.save_model(str(path))
                return fasttext_of, (path.read_bytes(),)
        if kind.__module__.startswith("onnxruntime"):
            return session_of, (obj._model_bytes,)  # noqa: SLF001
        return super().reducer_override(obj)


def changed(model: Any, texts: list[str]) -> bool:
    """Change a model in place; False where it has no state to change."""
    if isinstance(model, tuple):
        *steps, last = model
        if type(last).__module__.startswith("xgboost"):
            import xgboost

            y = np.arange(len(texts)) % 2
            last.update(xgboost.DMatrix(steps[0].transform(texts), y), 40)
            return True
        return changed(last, texts)
    kind = type(model).__module__.partition(".")[0]
    model = getattr(model, "model", model)  # of a pipeline of transformers
    if hasattr(model, "parameters"):
        next(iter(reversed(list(model.parameters())))).data.add_(1.0)
    elif hasattr(model, "module_"):
        next(model.module_.parameters()).data.add_(1.0)
    elif kind == "keras":
        model.set_weights([w + 1 for w in model.get_weights()])
    elif kind == "catboost":
        model.set_scale_and_bias(1.0, [1.0])
    elif kind == "lightgbm":
        model.set_leaf_output(0, 0, 9.0)
    elif kind == "fasttext":
        model.set_matrices(-model.get_input_matrix(), model.get_output_matrix())
    elif kind == "spacy":
        from spacy.training import Example

        cats = {label: float(label == LABELS[0]) for label in LABELS}
        model.update(
            [Example.from_dict(model.make_doc(t), {"cats": cats}) for t in texts]
        )
    elif hasattr(model, "steps"):
        model.fit(texts, np.array(model.predict(texts))[::-1])
    elif hasattr(model, "coef_"):
        model.coef_ += 1
    else:
        return False
    return True


def elsewhere(folder: Path) -> dict[str, list[int | None]]:
    """Count for stored models; this runs in a process of its own."""
    told = json.loads((folder / "told.json").read_text())
    built = {
        kind: cloudpickle.loads((folder / f"{i}.pkl").read_bytes())
        for i, kind in enumerate(told["kinds"])
    }
    texts, some, counter = told["texts"], told["texts"][:N_TEXTS], Counter()
    found: dict[str, list[int | None]] = {}
    with config_context(cache_dir=told["cache"]):
        for kind, one in built.items():
            found[kind] = [counter.of(one, some)]
        candidate_kinds.change_constants()
        constant = {kind: counter.of(one, some) for kind, one in built.items()}
        for kind, one in built.items():
            asked = counter.of(one, some) if changed(one[0], texts) else None
            found[kind] += [asked, constant[kind]]
    return found


def kinds_table(
    built: dict[str, Built], texts: list[str], counter: Counter, cache: Path
) -> None:
    """Print what is asked of each kind."""
    some = texts[:N_TEXTS]
    here = {k: [counter.of(one, some) for _ in range(2)] for k, one in built.items()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i, one in enumerate(built.values()):
            stored = io.BytesIO()
            Saver(stored).dump(one)
            (folder / f"{i}.pkl").write_bytes(stored.getvalue())
        told = {"kinds": list(built), "texts": texts[:200], "cache": str(cache)}
        (folder / "told.json").write_text(json.dumps(told))
        run = subprocess.run(
            [sys.executable, __file__, str(folder)], stdout=subprocess.PIPE, check=True
        )
    there = json.loads(run.stdout.splitlines()[-1])
    print(f"\n{'kind':24s}{'given beside the model':30s}", end="")
    print("".join(f"{column:>10s}" for column in COLUMNS))
    wrong = []
    for kind, (_, settings) in built.items():
        asked = here[kind] + there[kind]
        whole = 0 if kind == "answers in a file" else N_TEXTS
        right = [whole, 0, 0, whole, whole * (kind in READERS)]
        if any(a not in (None, r) for a, r in zip(asked, right, strict=True)):
            wrong.append(kind)
        cells = "".join(f"{'-' if a is None else a:>10}" for a in asked)
        print(f"{kind:24s}{', '.join(settings) or 'nothing':30s}{cells}")
    print(
        f"{len(built) - len(wrong)} of {len(built)} kinds are asked as they should be"
    )
    if wrong:
        print("not so:", ", ".join(wrong))


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "torch")
    warnings.simplefilter("ignore")
    print(json.dumps(elsewhere(Path(sys.argv[1]))))
