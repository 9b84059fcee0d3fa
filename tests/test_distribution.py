"""The wheel and the sdist are complete, and README's words are true of them."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEFT_OUT = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "build", "dist", "_build", "demo_output"
)
# Stands in for a machine without network.
NO_NETWORK = """
import socket

def refuse(self, address, *more):
    raise OSError(f"no network here: {address}")

socket.socket.connect = socket.socket.connect_ex = refuse
"""


def run(*command, **options):
    found = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, **options
    )
    assert found.returncode == 0, found.stdout[-3000:] + found.stderr[-3000:]
    return found.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build both from a copy of the sources; return the folder they are in."""
    copy = tmp_path_factory.mktemp("source") / "copy"
    shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
    if (ROOT / ".ci").is_dir():
        shutil.copytree(ROOT / ".ci", copy / ".ci")
    out = tmp_path_factory.mktemp("dist")
    said = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, copy)
    assert "Deprecat" not in said
    return out


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """Install the wheel into an environment of its own; return its Python.

    Packages that it needs are those of this environment; of this one's settings and of
    the repository nothing is seen.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    site = run(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"
    ).strip()
    dependencies = sysconfig.get_path("purelib")
    Path(site, "dependencies.pth").write_text(f"{dependencies}\n")
    Path(site, "sitecustomize.py").write_text(NO_NETWORK)
    wheel = next(built.glob("*.whl"))
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "-qq")
    run(*pip, "--no-index", "--no-deps", wheel)
    return python


def clean_environment(tmp_path):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "COV"))}
    return {**env, "FUTE_SKLEARN_CACHE": str(tmp_path / "cache")}


def files_of(folder):
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not {"__pycache__"} & set(path.parts)
    }


def test_every_file_of_the_package_is_in_the_wheel(built):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = {n for n in wheel.namelist() if n.startswith("fute_sklearn/")}
        text = next(n for n in wheel.namelist() if n.endswith("METADATA"))
        metadata = wheel.read(text).decode()
    assert names == {f"fute_sklearn/{n}" for n in files_of(ROOT / "fute_sklearn")}
    assert "License-Expression: BSD-3-Clause" in metadata


def test_the_sdist_holds_what_its_tests_need(built, tmp_path):
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        sdist.extractall(tmp_path, filter="data")
    folder = next(tmp_path.iterdir())
    for part in ("tests", "docs", "examples", "benchmarks", "tools", "requirements"):
        ignored = ("docs/_build", "docs/auto_examples", "docs/generated")
        wanted = {
            f"{part}/{name}"
            for name in files_of(ROOT / part)
            if not f"{part}/{name}".startswith(ignored)
            and not name.endswith("execution_times.rst")
        }
        assert wanted <= files_of(folder), part
    for name in ("CHANGELOG.md", "CITATION.cff", "LICENSE", "Makefile", ".ci/run"):
        assert (folder / name).is_file(), name
    env = {**clean_environment(tmp_path), "PYTHONPATH": str(folder)}
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    collected = run(*tests, "--collect-only", cwd=folder, env=env)
    assert re.search(r"\d{3,} tests collected", collected)
    where = "import fute_sklearn; print(fute_sklearn.__file__)"
    assert run(sys.executable, "-c", where, cwd=folder, env=env).startswith(str(folder))
    run(*tests, "tests/test_metrics.py", "tests/tasks", cwd=folder, env=env)


def test_the_installed_package_is_the_wheels(installed, tmp_path):
    code = "import fute_sklearn, sys; print(fute_sklearn.__file__)"
    found = run(installed, "-c", code, cwd=tmp_path, env=clean_environment(tmp_path))
    assert not found.startswith(str(ROOT))
    assert Path(found.strip()).is_relative_to(installed.parents[1])


def test_the_snippets_of_the_readme_run(installed, tmp_path):
    """From the wheel, in order, in a folder without the repository."""
    readme = (ROOT / "README.md").read_text(encoding="utf8")
    snippets = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len(snippets) >= 2
    for snippet in snippets:
        script = tmp_path / "snippet.py"
        # The snippets' unlabelled texts are few, which they are warned about.
        strict = (
            "import warnings\nwarnings.simplefilter('error')\n"
            "warnings.filterwarnings('ignore', 'the unlabelled texts are')\n"
        )
        script.write_text(strict + snippet)
        run(installed, script, cwd=tmp_path, env=clean_environment(tmp_path))


def test_the_network_is_not_there(installed):
    code = "import socket; socket.create_connection(('127.0.0.1', 9), 1)"
    found = subprocess.run([installed, "-c", code], capture_output=True, text=True)
    assert "no network here" in found.stderr
