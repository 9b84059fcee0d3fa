"""Change random lines of the package one by one; print those that no test notices.

``python tools/mutate.py --count 40 --seed 0`` works on copies and runs for each change
the tests of its folder, then the rest of the quick ones.
"""

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "fute_sklearn"
SWAPS = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
BESIDE = {"_engine": ["tests/embedders", "tests/llm"]}
ALSO = ["tests/test_common.py", "-k", "own_checks or other_estimators"]


def mutants(path):
    """Yield, for each place that can be changed, its line and a changed tree."""
    source = path.read_text(encoding="utf8")
    count = sum(1 for _ in places(ast.parse(source)))
    for index in range(count):
        tree = ast.parse(source)
        node, change = list(places(tree))[index]
        change()
        yield node.lineno, tree


def places(tree):
    """Yield nodes with a function that changes each in place."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
            yield node, lambda n=node: n.ops.__setitem__(0, SWAPS[type(n.ops[0])]())
        elif isinstance(node, (ast.BinOp, ast.BoolOp)) and type(node.op) in SWAPS:
            yield node, lambda n=node: setattr(n, "op", SWAPS[type(n.op)]())
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield node, lambda n=node: setattr(n, "op", ast.UAdd())
        elif isinstance(node, ast.Constant) and type(node.value) in (bool, int):
            value = not node.value if isinstance(node.value, bool) else node.value + 1
            yield node, lambda n=node, v=value: setattr(n, "value", v)


def tests_of(path):
    """Name the tests that stand beside a module."""
    parts = path.relative_to(PACKAGE).parts
    folder = ROOT / "tests" / parts[0]
    if len(parts) > 1 and folder.is_dir():
        return [f"tests/{parts[0]}", *BESIDE.get(parts[0], [])]
    near = sorted((ROOT / "tests").glob(f"test_{path.stem.strip('_')}*.py"))
    return [str(p.relative_to(ROOT)) for p in near] or ["tests/test_common.py"]


def noticed(path, tree):
    """Run the tests on a copy with the changed file; tell whether one failed."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        ignored = shutil.ignore_patterns(".*", "__pycache__", "_build", "docs")
        shutil.copytree(ROOT, copy, ignore=ignored)
        target = copy / path.relative_to(ROOT)
        target.write_text(ast.unparse(tree), encoding="utf8")
        env = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
        for tests in (tests_of(path), ["tests/tasks", "tests/ranking"], ALSO):
            command = [sys.executable, "-m", "pytest", "-x", "-q", *tests]
            command += [
                "-p",
                "no:cacheprovider",
                "--ignore=tests/_utils/test_environment",
            ]
            try:
                found = subprocess.run(
                    command, cwd=copy, env=env, capture_output=True, timeout=300
                )
            except subprocess.TimeoutExpired:
                return True
            if found.returncode not in (0, 5):
                return True
    return False


def main():
    """Draw places, change them, run tests, print the survivors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    everything = [
        (path, index)
        for path in sorted(PACKAGE.rglob("*.py"))
        for index, _ in enumerate(places(ast.parse(path.read_text(encoding="utf8"))))
    ]
    drawn = random.Random(options.seed).sample(everything, options.count)
    print(f"{len(everything)} places; {options.count} drawn, seed {options.seed}")

    def one(place):
        path, index = place
        line, tree = list(mutants(path))[index]
        told = noticed(path, tree)
        text = path.read_text(encoding="utf8").splitlines()[line - 1].strip()
        where = f"{path.relative_to(ROOT)}:{line}"
        print(f"{'noticed ' if told else 'SURVIVED'} {where}  {text}", flush=True)
        return told

    with ThreadPoolExecutor(options.jobs) as pool:
        found = list(pool.map(one, drawn))
    print(f"{sum(found)} of {len(found)} changes were noticed")


if __name__ == "__main__":
    main()
