"""The documentation names all that is public, and says what to do about each error."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fute_sklearn
from fute_sklearn import exceptions

DOCS = Path(__file__).parent.parent / "docs"
MODULES = (
    "",
    "base",
    "baselines",
    "datasets",
    "exceptions",
    "llm.criteria",
    "metrics",
    "presets",
    "testing",
)
pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="docs/ is not installed")


def public_names():
    """Public classes and functions, as the API page writes their names."""
    for module in MODULES:
        owner = importlib.import_module(".".join(["fute_sklearn", module]).rstrip("."))
        names = getattr(owner, "__all__", None) or [
            name
            for name, one in vars(owner).items()
            if inspect.isclass(one) and one.__module__ == owner.__name__
        ]
        for name in names:
            one = getattr(owner, name)
            if inspect.isclass(one) or inspect.isfunction(one):
                yield f"{module}.{name}".lstrip(".")


def test_every_public_object_has_an_api_page():
    page = (DOCS / "api.rst").read_text(encoding="utf8")
    listed = set(re.findall(r"^   ([\w.]+)$", page, re.MULTILINE))
    assert set(public_names()) - listed == set()
    for name in listed:
        owner = fute_sklearn
        for part in name.split("."):
            owner = getattr(owner, part, None) or importlib.import_module(
                f"{owner.__name__}.{part}"
            )


def test_every_error_has_its_remedy():
    page = (DOCS / "troubleshooting.rst").read_text(encoding="utf8")
    for name, one in vars(exceptions).items():
        if inspect.isclass(one) and one.__module__ == exceptions.__name__:
            assert f"~fute_sklearn.exceptions.{name}`" in page, name


def test_every_public_class_and_function_has_an_example():
    lacking = []
    for name in public_names():
        module, _, last = name.rpartition(".")
        if module in ("exceptions", "base"):
            continue
        owner = importlib.import_module(".".join(["fute_sklearn", module]).rstrip("."))
        if ">>>" not in (inspect.getdoc(getattr(owner, last)) or ""):
            lacking.append(name)
    assert lacking == []


# For those who write embedders, models and clients of their own, and what is raised.
NOT_IN_GALLERY = ("base", "testing", "exceptions")


def test_every_public_object_is_shown_in_the_gallery():
    """From which its API page links to the examples."""
    shown = set()
    for path in (DOCS.parent / "examples").glob("plot_*.py"):
        code = path.read_text(encoding="utf8")
        tree = ast.parse(code)
        # References count in texts only: in the docstring and below a rule.
        texts = re.findall(r"^# %%\n((?:#.*\n)+)", code, re.MULTILINE)
        texts.append(ast.get_docstring(tree))
        for text in texts:
            shown |= set(re.findall(r":\w+:`~fute_sklearn\.([\w.]+)`", text))
        called = {
            node.func.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and "fute_sklearn" in str(node.module):
                module = f"{node.module}.".removeprefix("fute_sklearn.")
                shown |= {f"{module}{n.name}" for n in node.names if n.name in called}
    pages = (DOCS / "api.rst").read_text(encoding="utf8")
    listed = re.findall(r"^   ([\w.]+)$", pages, re.MULTILINE)
    public = {name for name in listed if name.split(".")[0] not in NOT_IN_GALLERY}
    assert set(fute_sklearn.__all__) <= public
    assert public - shown == set()


def test_every_page_is_found_from_another():
    pages = {path.relative_to(DOCS).with_suffix("") for path in DOCS.glob("*.rst")}
    pages |= {p.relative_to(DOCS).with_suffix("") for p in DOCS.glob("guide/*.rst")}
    trees = "".join(
        (DOCS / name).read_text(encoding="utf8")
        for name in ("index.rst", "user_guide.rst")
    )
    linked = set(re.findall(r"^   ([\w/]+)$", trees, re.MULTILINE))
    lost = {page.as_posix() for page in pages} - linked - {"index"}
    assert lost - {"sg_execution_times"} == set()


def test_front_page_shows_what_its_snippet_prints(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", DOCS / "snippet.py"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert done.stdout == (DOCS / "snippet.txt").read_text(encoding="utf8")


def test_readme_shows_the_same():
    readme = (DOCS.parent / "README.md").read_text(encoding="utf8")
    assert (DOCS / "snippet.txt").read_text(encoding="utf8") in readme
    for line in (DOCS / "snippet.py").read_text(encoding="utf8").splitlines()[:15]:
        assert line in readme
