"""How the house is built: layers, no circles, torch in the engine only."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import house  # noqa: E402


def test_all_arrows_point_down():
    assert house.wrong_arrows() == []


def test_every_folder_is_known():
    folders = {p.name for p in house.ROOT.iterdir() if (p / "__init__.py").is_file()}
    assert folders <= set().union(*house.LAYERS)


@pytest.mark.parametrize(
    ("file", "line", "found"),
    [
        ("tasks/_bad.py", "from ..ranking import _model_ranker", "up: tasks._bad"),
        ("models/_bad.py", "def f():\n    import torch", "heavy: models._bad"),
        ("llm/_bad.py", "from .. import testing", "up: llm._bad"),
        ("other/__init__.py", "from .. import metrics", "no layer: other"),
        (
            "tasks/_bad.py",
            "from . import _worse",
            "circle: tasks._bad <-> tasks._worse",
        ),
    ],
)
def test_a_wrong_arrow_is_found(file, line, found, tmp_path):
    """In a copy with one file more."""
    import shutil

    root = tmp_path / "fute_sklearn"
    shutil.copytree(house.ROOT, root, ignore=shutil.ignore_patterns("data", "*.pyc"))
    (root / file).parent.mkdir(exist_ok=True)
    (root / file).write_text(line + "\n")
    if "_worse" in line:
        (root / "tasks/_worse.py").write_text("from . import _bad\n")
    assert any(text.startswith(found) for text in house.wrong_arrows(root))


def snippets(page):
    """Python blocks of a page of the documentation, in order."""
    text = (ROOT / "docs" / page).read_text(encoding="utf8")
    blocks = re.findall(r"\.\. code-block:: python\n\n((?:(?:   .*)?\n)+)", text + "\n")
    return [textwrap.dedent(block) for block in blocks]


@pytest.mark.parametrize(
    ("page", "count"),
    [("getting_started.rst", 3), ("extending.rst", 3), ("guide/numbers.rst", 1)],
)
def test_pages_run_as_they_stand(page, count, tmp_path):
    blocks = snippets(page)
    assert len(blocks) >= count
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks), encoding="utf8")
    found = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore:the unlabelled texts", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert found.returncode == 0, found.stderr
