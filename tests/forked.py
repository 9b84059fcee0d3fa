"""Run code in a new process that starts quickly: forked where all is imported.

A new interpreter imports torch, transformers and scikit-learn first, which takes longer
than what the tests ask of it.  Tests of what an interpreter does at its start, and of
the seed of its hashes, start a real one.
"""

import multiprocessing
import os
import sys
import tempfile
import types
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.preloaded"])


def _run(code, env, folder, path, arguments, out, err):
    for name, stream in ((out, 1), (err, 2)):
        os.dup2(os.open(name, os.O_WRONLY), stream)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    sys.path[:0] = path
    sys.argv = ["-c", *arguments]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    exec(compile(code, "<string>", "exec"), vars(main))


def run_forked(code, *arguments, env=None, cwd=None, path=()):
    """Return what code printed to both streams, as a process of its own.

    Raises AssertionError with its standard error where it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        out.touch(), err.touch()
        given = (
            code,
            dict(os.environ if env is None else env),
            str(cwd or folder),
            list(map(str, path)),
            arguments,
            str(out),
            str(err),
        )
        process = CONTEXT.Process(target=_run, args=given)
        process.start()
        process.join()
        assert process.exitcode == 0, err.read_text()
        return out.read_text(), err.read_text()
