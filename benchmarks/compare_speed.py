"""Compare two results of ``speed.py --json``, so that a loss of speed is seen.

    python benchmarks/compare_speed.py BEFORE AFTER [--tolerance 0.15]

Prints every figure that both have, and how it changed.  Ends with status 1 if one got
worse by more than the tolerance, which is wide because shared machines change their
pace.  Figures that are named ``times faster`` or ``share of the matmul peak`` should
rise, all others should fall; those of different machines are not comparable.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

RISING = ("times", "peak", "bandwidth", "authors' layout")
ABOUT = "about"


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, float]]:
    """Names of the figures with the factor by which each got worse."""
    out = []
    for part in before.keys() & after.keys() - {ABOUT}:
        for name in before[part].keys() & after[part].keys():
            old, new = before[part][name], after[part][name]
            if old > 0 and new > 0:
                rising = any(word in name for word in RISING)
                out.append((f"{part}: {name}", old / new if rising else new / old))
    return sorted(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--tolerance", type=float, default=0.15)
    args = parser.parse_args()
    before, after = (
        json.loads(path.read_text(encoding="utf8"))
        for path in (args.before, args.after)
    )
    for name, one in (("before", before), ("after", after)):
        for part, facts in one[ABOUT].items():
            print(f"{name}, {part}: {facts}")
    found = changes(before, after)
    for name, factor in found:
        mark = "worse" if factor > 1 + args.tolerance else ""
        print(f"  {name:72s} {factor:6.2f} {mark}")
    worse = sum(factor > 1 + args.tolerance for _, factor in found)
    print(
        f"{worse} of {len(found)} figures are worse by more than {args.tolerance:.0%}"
    )
    sys.exit(worse > 0)


if __name__ == "__main__":
    main()
