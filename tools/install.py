"""Make an environment and install this package into it, from a list of versions.

``python tools/install.py .venv --extras tests --versions requirements/tests.txt``

torch is installed first: on Linux the build on PyPI brings CUDA, gigabytes of it, so
where pip would take that one, PyTorch's own index of CPU builds is used instead.
``--torch-index ''`` takes what pip finds.
"""

import argparse
import json
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "requirements" / "build.txt"
TORCH = ROOT / "requirements" / "torch.txt"
CPU_BUILDS = "https://download.pytorch.org/whl/cpu"


def python_of(folder):
    """Return the interpreter of an environment."""
    bin_folder = "Scripts" if sys.platform == "win32" else "bin"
    return str(Path(folder) / bin_folder / "python")


def pip(python, *arguments, capture=False):
    """Run pip quietly: errors only, no warnings about settings of this machine."""
    command = [python, "-m", "pip", "-qq", "--disable-pip-version-check", *arguments]
    found = subprocess.run(
        [*map(str, command)], check=True, text=True, capture_output=capture, cwd=ROOT
    )
    return found.stdout


def brings_cuda(report):
    """Tell from pip's report on torch whether its build needs CUDA's libraries."""
    metadata = json.loads(report)["install"][0]["metadata"]
    needs = " ".join(metadata.get("requires_dist", []))
    return "nvidia-" in needs or "cuda-" in needs


def install_torch(python, versions, index):
    """Install torch, a build for CPUs unless ``index`` is empty."""
    wanted = ["install", "--no-deps", *versions, "torch"]
    if index and sys.platform == "linux":
        plan = ["--dry-run", "--ignore-installed", "--report", "-"]
        if brings_cuda(pip(python, *wanted, *plan, capture=True)):
            wanted += ["--index-url", index]
    try:
        pip(python, *wanted)
    except subprocess.CalledProcessError:
        sys.exit(
            "torch could not be installed. To take the build that pip finds, which "
            "brings CUDA on Linux: make ... TORCH_INDEX="
        )


def main():
    """Read the options and install."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--extras", default="")
    parser.add_argument("--versions", help="file of pinned versions; default newest")
    parser.add_argument("--torch-index", default=CPU_BUILDS)
    options = parser.parse_args()
    python = python_of(options.folder)
    if not Path(python).exists():
        venv.create(options.folder, with_pip=True)
    print(f"Installing into {options.folder}; this takes some minutes.", flush=True)
    pip(python, "install", "-r", BUILD)
    pinned = ["-c", options.versions or TORCH]
    install_torch(python, pinned, options.torch_index)
    package = f".[{options.extras}]" if options.extras else "."
    eager = [] if options.versions else ["--upgrade", "--upgrade-strategy", "eager"]
    # The build tools of the list, not the newest ones of the day.
    pip(python, "install", *pinned, *eager, "--no-build-isolation", "-e", package)


if __name__ == "__main__":
    main()
