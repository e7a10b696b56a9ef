"""What holds for the whole suite (workers, the marker ``gpu``, the summary of skipped tests), and shared fixtures."""

from __future__ import annotations

import gc
import os
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from backends import Backend
from backends.cpu.cores import cores
from tests.helpers.backends import backend_params, is_on_gpu, make_backend

#: Memory bounds this: each worker loads PyTorch and compiles the CUDA text.
MOST_WORKERS = 8
LONGEST_SUMMARY = 10

# The suite starts 200 programs. Where compiled modules are not kept, as in many containers, each of them compiles ours
# anew, which takes 0.5 s, and each worker rewrites the assertions of all tests anew, which takes 7 s.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# First calls import and compile, and the machine may be busy: how long an example takes proves nothing.
settings.register_profile("suite", deadline=None, print_blob=True, max_examples=20)
settings.load_profile("suite")


# ---- how the suite runs ----------------------------------------------------------------------------------------------


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A worker process for each core where folders are run. Single files, and tests chosen by ``-k``, are sooner done
    in this process: two workers take seconds to start and to collect the whole suite each."""
    here = config.invocation_params.dir
    if config.option.keyword or not all((here / argument).is_dir() for argument in config.args):
        return 0
    return min(cores(), MOST_WORKERS) if cores() > 1 else 0


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where CuPy is not installed, the first of all variants of a test that need a GPU stands for the others: 400 skips
    say the same as 3,600. ``-m gpu`` has them all."""
    if find_spec("cupy") is not None or "gpu" in config.option.markexpr:
        return
    seen, kept, left_out = set[str](), list[pytest.Item](), list[pytest.Item]()
    for item in items:
        function = item.nodeid.partition("[")[0]
        is_more = item.get_closest_marker("gpu") is not None and function in seen
        (left_out if is_more else kept).append(item)
        if item.get_closest_marker("gpu") is not None:
            seen.add(function)
    if left_out:
        items[:] = kept
        config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """What is here before the first test stays to the end: 15,000 tests, and the modules. The garbage collector need
    not look through these 400,000 objects again, which takes 0.2 s each time."""
    gc.collect()
    gc.freeze()


def reason_of(report: Any) -> str:
    """Why a test was skipped; all names of a GPU are one."""
    reason = str(report.longrepr[-1]).removeprefix("Skipped: ")
    device, colon, why = reason.partition(": ")
    return f"cuda: {why}" if colon and is_on_gpu(device) else reason


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """A test that is skipped for want of a GPU must be marked ``gpu``: else ``-m gpu`` would leave it out."""
    report = yield
    if (
        report.skipped
        and isinstance(report.longrepr, tuple)
        and reason_of(report).startswith("cuda: ")
        and item.get_closest_marker("gpu") is None
    ):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} needs a GPU, so it must be marked gpu ({reason_of(report)})"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each reason why tests were skipped, with their number, in place of one line for each test."""
    counts = Counter(map(reason_of, terminalreporter.stats.get("skipped", [])))
    if not counts:
        return
    terminalreporter.section("skipped, by reason", cyan=True)
    for reason, count in counts.most_common(LONGEST_SUMMARY - 1):
        terminalreporter.line(f"{count:6,}  {reason}")
    if rest := counts.most_common()[LONGEST_SUMMARY - 1 :]:
        terminalreporter.line(f"{sum(n for _, n in rest):6,}  for {len(rest)} other reasons (pytest -rs lists them)")


# ---- fixtures --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=backend_params())
def which_backend(request: pytest.FixtureRequest) -> tuple[str, bool]:
    """Which backend, for a test that makes it with a dtype of its own: ``make_backend(which_backend, "float64")``."""
    which: tuple[str, bool] = request.param
    return which


@pytest.fixture(params=["float32", "float64"])
def backend(which_backend: tuple[str, bool], request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Every backend in both dtypes, its device being the current one."""
    backend = make_backend(which_backend, request.param)
    with backend.use():
        yield backend


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The folder with the real MNIST files."""
    folder = os.environ.get("XPNET_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set the environment variable XPNET_DATA to the folder with the MNIST files")
    return Path(folder)
