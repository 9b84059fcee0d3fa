"""The scripts that measure speed: what they count, and how results are compared."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fute_sklearn._engine._packs import packs

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
BEFORE = {
    "about": {"tuning": {"date": "2026-01-01"}},
    "mini": {"lora: one model, times faster": 3.0, "encoding, seconds": 2.0},
}


def compared(tmp_path, **changes):
    """Run the comparison with changed figures; status and output."""
    files = tmp_path / "before.json", tmp_path / "after.json"
    after = {"about": {}, "mini": BEFORE["mini"] | changes, "more": {"new": 1.0}}
    for path, content in zip(files, (BEFORE, after), strict=True):
        path.write_text(json.dumps(content))
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "compare_speed.py", *files],
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, 0),
        ({"encoding, seconds": 2.2}, 0),
        ({"encoding, seconds": 2.4}, 1),
        ({"encoding, seconds": 1.0}, 0),
        ({"lora: one model, times faster": 2.5}, 1),
        ({"lora: one model, times faster": 9.0}, 0),
    ],
)
def test_a_loss_of_speed_is_seen(changes, status, tmp_path):
    found, printed = compared(tmp_path, **changes)
    assert found == status
    assert f"{status} of 2 figures are worse" in printed


def test_kept_results_say_what_they_belong_to():
    kept = list((BENCHMARKS / "results").glob("speed_*.json"))
    assert kept
    for path in kept:
        about = json.loads(path.read_text(encoding="utf8"))["about"]
        assert about
        for facts in about.values():
            assert {"date", "threads", "torch", "float32 GF/s"} <= set(facts)


def test_packs_hold_every_row_once_and_leave_little_room():
    rng = np.random.default_rng(0)
    rows = {f"{i}": np.zeros(n, int) for i, n in enumerate(rng.integers(1, 60, 500))}
    rows["long"] = np.zeros(300, int)
    found = list(packs(rows, 200))
    assert sorted(name for pack in found for name in pack) == sorted(rows)
    sizes = [sum(len(rows[name]) for name in pack) for pack in found]
    assert max(sizes[:-1]) <= 200
    assert found[-1] == ["long"]
    lengths = [len(rows[name]) for pack in found for name in pack]
    assert lengths == sorted(lengths)
    assert np.mean(sizes[:-2]) > 170


def test_results_of_parts_that_did_not_run_are_kept(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from speed import about, updated

    here, path = about(2e11, 5), tmp_path / "speed.json"
    assert updated(path, {"about": {"tuning": here}}) == {"about": {"tuning": here}}
    before = here | {"date": "2026-01-01", "pairs": 1}
    old = {"about": {"tuning": before}, "mini": {"a": 1.0, "b": 2.0}}
    path.write_text(json.dumps(old), encoding="utf8")
    new = {"about": {"encoding": here}, "mini": {"b": 3.0}}
    assert updated(path, new) == {
        "about": {"tuning": before, "encoding": here},
        "mini": {"a": 1.0, "b": 3.0},
    }
    path.write_text(json.dumps(old | {"about": {"tuning": here | {"threads": 99}}}))
    with pytest.raises(SystemExit, match="another machine's"):
        updated(path, new)
