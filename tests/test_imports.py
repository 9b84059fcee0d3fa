"""What importing the package costs and offers."""

import importlib
import os
import subprocess
import sys

import fute_sklearn


def run(code):
    # Compiled, as installed packages are, also where this would not be kept.
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=env,
    )
    return found.stdout.strip()


def test_import_is_light():
    heavy = "{'torch', 'transformers', 'peft', 'matplotlib', 'sklearn.manifold'}"
    assert (
        run(f"import sys, fute_sklearn; print(set(sys.modules) & {heavy})") == "set()"
    )


def test_import_takes_little_more_than_scikit_learn():
    """A ratio below 1.2 to the parts of scikit-learn that it stands on."""
    parts = "sklearn.base, sklearn.metrics, sklearn.model_selection"
    code = (
        "import time; t = time.perf_counter(); import {}; print(time.perf_counter()-t)"
    )
    ratios = []
    while len(ratios) < 5 and min(ratios, default=2) >= 1.2:
        own, base = (float(run(code.format(m))) for m in ("fute_sklearn", parts))
        ratios.append(own / base)
    assert min(ratios) < 1.2, ratios


def test_all_is_complete():
    for module in (fute_sklearn, importlib.import_module("fute_sklearn.metrics")):
        assert all(hasattr(module, name) for name in module.__all__)
        assert len(set(module.__all__)) == len(module.__all__)
