"""Start clean in processes that are forked after torch has started its threads.

The threads stay behind in the parent, and their library waits for them for ever; a
process that computes in one thread does not need them.
"""

from __future__ import annotations

import os
import warnings

import torch

from fute_sklearn._utils._stack_level import find_stack_level

_started_in: int | None = None  # the process whose threads may be running
_told = False


def threads_start() -> None:
    """Note that this process is about to compute; in a forked one, warn once."""
    global _started_in, _told
    if _started_in is None:
        _started_in = os.getpid()
    elif _started_in != os.getpid() and not _told:
        _told = True
        warnings.warn(
            "this process was forked from one that had computed with torch, so it "
            "computes in a single thread. Remedy: processes that are started anew, as "
            "joblib's are, or multiprocessing's with 'spawn' or 'forkserver'.",
            RuntimeWarning,
            stacklevel=find_stack_level(),
        )


def _in_child() -> None:
    if _started_in is not None:
        torch.set_num_threads(1)


os.register_at_fork(after_in_child=_in_child)
