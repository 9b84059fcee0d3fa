"""Processes that are forked after torch has computed go on, in one thread."""

import os
import subprocess
import sys

import pytest

CODE = """
import os, sys, warnings
import numpy as np
from fute_sklearn import {embedder}, config_context
texts = [f"text number {{i}} of many words and more" for i in range(200)]
embedder = {embedder}(**{settings})
with config_context(cache_dir=None):
    before = embedder.fit(texts, list("ab") * 100).embedding_
    pid = os.fork()
    if pid == 0:
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                after = embedder.fit(texts, list("ab") * 100).embedding_
                embedder.fit(texts, list("ab") * 100)
            np.testing.assert_allclose(before, after, rtol=1e-3, atol=1e-4)
            told = [str(one.message) for one in caught]
            assert sum("single thread" in one for one in told) == 1, told
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize(
    ("embedder", "settings"),
    [("MomentEmbedder", {}), ("TuPaTEEmbedder", {"max_epochs": 1})],
)
def test_fits_after_a_fork_do_not_wait_for_threads(embedder, settings):
    code = CODE.format(embedder=embedder, settings=settings)
    # Several threads, as where the suite does not set their number.
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
