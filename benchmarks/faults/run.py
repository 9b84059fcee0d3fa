"""Count what caches, files and jobs do under fault: a table for every kind.

    python benchmarks/faults/run.py [--damages 5000] [--kills 20] [--answers 300]
        [--texts 1000000] [--only SECTION ...]

- ``damage``: random flips, cuts, and zeroed and inserted blocks in the files of every
  cache; a read is right, missed (a warning, or an error that names the file), wrong, or
  raises something else
- ``kills``: SIGKILL at random moments in every stage that writes; the next run has to
  end with what a run that nobody kills ends with
- ``disks``: a limit of file sizes, a limit of open files, a folder where a file should
  be, and a file where the folder should be
- ``processes``: several processes with one labelling job: requests, beside its texts
- ``servers``: servers whose log-probabilities are no model's, and hostile answers:
  how many were refused, and how many taken for true
- ``growth``: seconds and bytes per text of the encoder's cache as it grows

Draws are seeded (0).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))  # the tests' servers

from damage import damage
from disks import disks
from growth import growth
from servers import servers
from stages import kills, processes

SECTIONS = {
    "damage": damage,
    "kills": kills,
    "disks": disks,
    "processes": processes,
    "servers": servers,
    "growth": growth,
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--damages", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--answers", type=int, default=300)
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=None)
    arguments = parser.parse_args()
    for name in arguments.only or SECTIONS:
        start = time.perf_counter()
        print(f"\n{name}, seed 0, {vars(arguments)}")
        SECTIONS[name](arguments)
        print(f"({time.perf_counter() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
