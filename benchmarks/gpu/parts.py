"""What ``python -m benchmarks.gpu`` does, part by part: which program, and for how long at most."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.contenders.config import MEASURED

#: Stands for the folder of a part's files in its arguments.
FOLDER = "{folder}"
#: So many seconds before its part's end a benchmark ends that has a limit of its own.
RESERVE = 8
#: A part that has less than this is not begun.
LEAST = 5.0
#: Runs a module on the emulated GPU.
EMULATED = "tests.helpers.emulated_gpu"


@dataclass(frozen=True)
class Part:
    """A program and how long it may take.

    Attributes:
        title: a heading.
        module: what runs, as ``python -m MODULE``.
        arguments: of its command line.
        seconds: after which it is stopped.
        is_markdown: whether what it prints is.
    """

    title: str
    module: str
    arguments: tuple[str, ...]
    seconds: float
    is_markdown: bool = False


@dataclass
class Outcome:
    """What became of a part.

    Attributes:
        verdict: in words.
        good: whether it ran to its end, and found nothing wrong.
        output, errors: what it printed.
        result: what it wrote as JSON, by the names of the files.
        tables: the files of ``--out``, by name.
    """

    verdict: str
    good: bool = False
    seconds: float = 0.0
    output: str = ""
    errors: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)


def real(device: str) -> dict[str, Part]:
    """The parts on a GPU; the last one has what the others leave."""
    on = ("--device", device)
    parts = {
        "doctor": Part("The doctor", "backends", on, 20),
        "recorded": Part("Recorded against call by call", "benchmarks.gpu.recorded", (*on, *result("recorded")), 40),
        "check": Part("Operations against their bounds", "backends", ("check", *on, "--every", "25"), 55),
        "launches": Part("Launches of a step", "benchmarks.gpu.launches", (*on, *result("launches")), 50, True),
    }
    for config, seconds in zip(MEASURED, (45, 40, 45, 45), strict=True):
        parts[config] = epoch(device, config, seconds, "--rounds", "15")
    both_ways = (*on, *result("convolutions"))
    parts["convolutions"] = Part("Convolutions both ways", "benchmarks.gpu.convolutions", both_ways, 20, True)
    parts["trained"] = Part("A network on both", "benchmarks.gpu.trained", (*on, *result("trained")), 50, True)
    some = ("--rows", "20000", "--rounds", "3", "--seconds", "0.1")
    parts["growth"] = Part("Growth", "benchmarks.growth", (*on, *some, "--no-picture", "--out", FOLDER), 40, True)
    parts["tests"] = Part("pytest -m gpu", "pytest", ("-m", "gpu", "-q", "-p", "no:cacheprovider"), 240)
    return parts


def dry(device: str) -> dict[str, Part]:
    """The same programs with little to do, for the emulated GPU, on which everything takes long.

    Peers are not there: they compute on a GPU or not at all.
    """
    little = {
        "recorded": ("--case", "dropout, Adam", "tiny", "--steps", "3"),
        "check": ("--every", "400", "--dtype", "float32"),
        "launches": ("--config", "tiny", "--rows", "200", "--copies", "2", "--steps", "2"),
        "convolutions": ("--little", "--batch", "2", "--copies", "2"),
        "trained": ("--digits", "--limit", "200", "--epochs", "2", "--steps", "3"),
        "growth": ("--axis", "batch", "--rows", "64", "--rounds", "1", "--seconds", "0.001"),
        "tests": ("tests/backends/cuda/test_graphs.py", "-n", "0", "-k", "float32"),
    }
    tiny = epoch(device, "tiny", 60, "--rounds", "2", "--rows", "200", "--peers", "products", "xpnet")
    parts: dict[str, Part] = {}
    for name, part in real(device).items():
        if name in MEASURED:
            parts["tiny"] = tiny
        else:
            parts[name] = replace(part, arguments=(*part.arguments, *little.get(name, ())), seconds=60)
    return parts


def epoch(device: str, config: str, seconds: float, *more: str) -> Part:
    """The table of ``benchmarks.epoch``, which ends by itself before its time is over."""
    limit = ("--limit", str(seconds - RESERVE), "--out", FOLDER)
    arguments = ("--device", device, "--config", config, *limit, *more)
    return Part(f"An epoch of {config}", "benchmarks.epoch", arguments, seconds, True)


def result(name: str) -> tuple[str, str]:
    return ("--json", f"{FOLDER}/{name}.json")


# ---- running ---------------------------------------------------------------------------------------------------------

#: Runs a module with arguments for so many seconds: its exit code, None if it was stopped, and what it printed as
#: output and as errors.
Call = Callable[[str, list[str], float], tuple[int | None, str, str]]


def in_process(*before: str) -> Call:
    """Runs a module in a process of its own, which ends with all of those that it started; ``before`` is the module
    that runs it, where there is one."""

    def call(module: str, arguments: list[str], seconds: float) -> tuple[int | None, str, str]:
        command = [sys.executable, "-m", *before, module, *arguments]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        # No pipes: what was printed before it was stopped counts.
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=environment,
                start_new_session=True,
            )  # fmt: skip
            try:
                code: int | None = process.wait(seconds)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                end(process)
            output.seek(0)
            errors.seek(0)
            return code, output.read().decode(errors="replace"), errors.read().decode(errors="replace")

    return call


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its group."""
    try:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    except ProcessLookupError:
        pass
    process.wait()


def run(part: Part, left: float, call: Call) -> Outcome:
    """Run a part for its time or, where that is less, for what is left of all."""
    seconds = min(part.seconds, left)
    if seconds < LEAST:
        return Outcome(f"left out: {max(left, 0):.0f} s were left")
    with tempfile.TemporaryDirectory() as folder:
        begun = perf_counter()
        arguments = [argument.replace(FOLDER, folder) for argument in part.arguments]
        code, output, errors = call(part.module, arguments, seconds)
        spent = perf_counter() - begun
        files = {path.name: path.read_text() for path in sorted(Path(folder).iterdir())}
    verdict = "passed" if code == 0 else f"stopped after {seconds:.0f} s" if code is None else f"failed ({code})"
    result = {name.removesuffix(".json"): read(text) for name, text in files.items() if name.endswith(".json")}
    tables = files if "--out" in part.arguments else {}
    return Outcome(verdict, code == 0, spent, output, errors, result, tables)


def read(text: str) -> Any:
    """JSON, which a part that was stopped may not have written to its end."""
    try:
        return json.loads(text)
    except ValueError:
        return None
