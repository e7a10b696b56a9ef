"""A program in a process of its own, forked from one that has made the imports of the train script: 1 s less each."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import train

ROOT = Path(train.__file__).parent
PRELOADED = ["train", "sklearn.datasets", "sklearn.metrics", "sklearn.model_selection"]
#: The train script, as code for ``ended``.
SCRIPT = "import sys, train; sys.exit(train.main())"


def ended(code: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """What ``python -c CODE ARGUMENTS`` gives. Not for tests of what Python does as it starts or ends, or inherits."""
    if sys.platform == "win32":  # no fork
        command = [sys.executable, "-c", code, *arguments]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.run(
            command, cwd=cwd, env=environment, check=False, capture_output=True, text=True, timeout=120
        )
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = context.Process(target=execute, args=(code, arguments, cwd, out, err))
        process.start()
        process.join(120)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(code, 120)
        return subprocess.CompletedProcess([code, *arguments], process.exitcode, out.read_text(), err.read_text())


def execute(code: str, arguments: tuple[str, ...], cwd: Path, out: Path, err: Path) -> None:
    os.chdir(cwd)
    for stream, path in ((sys.stdout, out), (sys.stderr, err)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    sys.argv = ["-c", *arguments]
    exec(code, {"__name__": "__main__"})
