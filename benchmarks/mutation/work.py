"""Mutants are tested in forked processes: what is slow to import is there already, the project is imported afresh."""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.machinery
import importlib.util
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from .cover import PYTEST, QUICKEST
from .mutants import Mutant

#: What tests import and no mutant changes; those that are installed are imported once, before the forks.
LIBRARIES = [
    "numpy", "hypothesis", "hypothesis.extra.numpy", "array_api_compat.numpy", "array_api_strict", "threadpoolctl",
    "safetensors.numpy", "sklearn.datasets", "tqdm", "h5py", "matplotlib.figure", "numba", "torch",
]  # fmt: skip
#: A process is ended when it takes this many times as long as its tests do without a fault, and some seconds more.
SLOWER = 8
MEMORY = 16 * 2**30


@dataclass(frozen=True)
class Task:
    """A mutant, or None for the program as it is, and the tests that should notice it."""

    mutant: Mutant | None
    tests: Sequence[str]
    seconds: float


class Planted(importlib.machinery.SourceFileLoader):
    """Loads a module from a text that is not the one in its file."""

    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self.text = text

    def get_code(self, fullname: str) -> types.CodeType:
        return compile(self.text, self.path, "exec", dont_inherit=True)


class Finder:
    """Finds the module with the fault before anything else does."""

    def __init__(self, root: Path, mutant: Mutant) -> None:
        self.name, self.path, self.text = mutant.module, str(root / mutant.path), mutant.source

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name != self.name:
            return None
        folder = [str(Path(self.path).parent)] if Path(self.path).name == "__init__.py" else None
        return importlib.util.spec_from_file_location(
            name, self.path, loader=Planted(name, self.path, self.text), submodule_search_locations=folder
        )


def import_libraries() -> None:
    """Import what is slow to import, and have the collector of garbage leave it alone in every fork."""
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


class Notice:
    """A plugin of pytest that ends the process at the first failure."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            os._exit(1)


def forked(work: Callable[[], int], output: Path | None = None) -> int:
    """The number of a new process that does the work, prints into a file or nowhere, and ends with its result."""
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        os.setsid()
        sink = os.open(output or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        status = work()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def test(root: Path, task: Task, folder: Path) -> int:
    """Run the tests of a task in this process, in their order, until one fails; pytest's exit status.

    Their temporary files go to ``folder``.
    """
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(folder / "examples")
    if task.mutant is not None:
        sys.meta_path.insert(0, Finder(root, task.mutant))
    sys.path.insert(0, str(root))
    sys.dont_write_bytecode = True
    options = [*PYTEST, "-x", "--tb=no", f"--basetemp={folder / 'tmp'}"]
    for tests in (task.tests[:QUICKEST], task.tests[QUICKEST:]):
        status = int(pytest.main([*options, *tests], plugins=[Notice()])) if tests else 0
        if status:
            return status
    return 0


@dataclass(frozen=True)
class Running:
    task: Task
    limit: float
    folder: Path


def run(
    root: Path, tasks: Iterable[Task], jobs: int, patience: float, log: Path | None = None
) -> Iterator[tuple[Task, str]]:
    """Each task with ``killed``, ``survived``, ``timeout`` or ``no tests``, in the order in which they end.

    A task may take ``patience`` seconds more than ``SLOWER`` times what its tests take. What the tests print
    goes to ``log``, if there is one, where each task writes over the one before it.
    """
    running: dict[int, Running] = {}
    waiting = iter(tasks)
    more = True
    try:
        while more or running:
            while more and len(running) < jobs:
                task = next(waiting, None)
                if task is None:
                    more = False
                elif not task.tests:
                    yield task, "no tests"
                else:
                    limit = time.monotonic() + patience + SLOWER * task.seconds
                    folder = Path(tempfile.mkdtemp(prefix="mutant-"))
                    running[forked(partial(test, root, task, folder), log)] = Running(task, limit, folder)
            for child, it in list(running.items()):
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended or time.monotonic() > it.limit:
                    end(child, it.folder)
                    del running[child]
                    if not ended:
                        os.waitpid(child, 0)
                        yield it.task, "timeout"
                    else:
                        yield it.task, "survived" if os.waitstatus_to_exitcode(status) == 0 else "killed"
            time.sleep(0.005)
    finally:
        for child, it in running.items():
            end(child, it.folder)


def end(child: int, folder: Path) -> None:
    """End a process and what it started, and remove its temporary files."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)
