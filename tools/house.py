"""Count the rooms and the arrows of the package: which module imports which.

``python tools/house.py`` prints them for this tree; ``--root`` takes another one.
"""

import argparse
import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1] / "fute_sklearn"
# From the ground up: a room may import from its own layer and from those below it.
LAYERS = [
    {"exceptions", "_utils"},
    {"tasks", "_engine", "metrics"},
    {"embedders", "plotting"},
    {"models"},
    {"ranking"},
    {"llm"},
    {"base", "baselines", "datasets", "presets"},
    {"testing", "_estimator_checks", "_client_checks", "__init__"},
]
HEAVY = {"torch", "transformers", "peft"}


def room_of(parts):
    """Name the folder, or the module beside the folders, that a module lies in."""
    return parts[0] if parts else "__init__"


def modules(root=ROOT):
    """Return the modules of the package as tuples of names, with their files."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[parts[:-1] if parts[-1] == "__init__" else parts] = path
    return found


def imports_of(path, parts, package):
    """Yield the modules that a file imports, as (inside the package, names)."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield False, tuple(alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            names = tuple((node.module or "").split(".")) if node.module else ()
            if node.level:
                is_package = path.name == "__init__.py"
                base = parts if is_package else parts[:-1]
                base = base[: len(base) - (node.level - 1)]
                for alias in node.names:
                    yield True, (*base, *names, alias.name)
            elif names[0] == package:
                for alias in node.names:
                    yield True, (*names[1:], alias.name)
            else:
                yield False, names


def arrows(root=ROOT):
    """Return pairs of modules that import each other, and heavy imports."""
    known = modules(root)
    inside, heavy = set(), set()
    for parts, path in known.items():
        for own, names in imports_of(path, parts, root.name):
            if not own:
                heavy |= {(parts, names[0])} if names[0] in HEAVY else set()
                continue
            while names and names not in known:
                names = names[:-1]
            if names != parts:
                inside.add((parts, names))
    return inside, heavy


def wrong_arrows(root=ROOT):
    """Name arrows that point up, circles of modules, and heavy imports elsewhere."""
    height = {room: i for i, layer in enumerate(LAYERS) for room in layer}
    inside, heavy = arrows(root)
    found = []
    for a, b in sorted(inside):
        if room_of(a) not in height or room_of(b) not in height:
            found.append(f"no layer: {'.'.join(a)} or {'.'.join(b)}")
        elif height[room_of(a)] < height[room_of(b)]:
            found.append(f"up: {'.'.join(a)} -> {'.'.join(b)}")
        elif (b, a) in inside and a < b:
            found.append(f"circle: {'.'.join(a)} <-> {'.'.join(b)}")
    rooms = {(room_of(a), room_of(b)) for a, b in inside}
    found += [
        f"circle of rooms: {a} <-> {b}" for a, b in rooms if (b, a) in rooms and a < b
    ]
    found += [
        f"heavy: {'.'.join(a)} imports {name}"
        for a, name in sorted(heavy)
        if room_of(a) != "_engine"
    ]
    return found


def main():
    """Print rooms, arrows and what is wrong with them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=ROOT)
    root = parser.parse_args().root
    inside, _ = arrows(root)
    rooms = {room_of(a) for pair in inside for a in pair}
    between = {(room_of(a), room_of(b)) for a, b in inside} - {(r, r) for r in rooms}
    print(f"{len(modules(root))} modules, {len(inside)} arrows between them")
    print(f"{len(rooms)} rooms on the top floor, {len(between)} arrows between them")
    for line in wrong_arrows(root):
        print(line)


if __name__ == "__main__":
    main()
