"""Public docstrings follow numpydoc."""

import importlib

import pytest

import fute_sklearn

PUBLIC = [
    *[f"fute_sklearn.{name}" for name in fute_sklearn.__all__],
    *[
        f"fute_sklearn.{module}.{name}"
        for module in ("baselines", "metrics", "datasets", "presets", "testing")
        for name in importlib.import_module(f"fute_sklearn.{module}").__all__
        if callable(getattr(importlib.import_module(f"fute_sklearn.{module}"), name))
        and not name.endswith("_scorer")
    ],
]
# Missing sections that add nothing, and conventions that ruff checks better.
IGNORED = {
    "EX01",
    "SA01",
    "ES01",
    "GL01",
    "GL08",
    "YD01",
    "SS06",
    "GL03",
    "RT03",
    "RT02",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PUBLIC)
def test_docstrings(name):
    from numpydoc.validate import validate

    found = [e for e in validate(name)["errors"] if e[0] not in IGNORED]
    assert found == []
    target = getattr(fute_sklearn, name.split(".")[-1], None)
    if isinstance(target, type):
        for method in vars(target):
            if not method.startswith("_") and callable(getattr(target, method)):
                errors = validate(f"{name}.{method}")["errors"]
                assert [e for e in errors if e[0] not in IGNORED] == [], method
