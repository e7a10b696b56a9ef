"""One run of the benchmark: it is made whole, then killed as often as was drawn, and the two are compared."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from safetensors.numpy import load_file

from nn.files import DRAFT
from nn.storage.checkpoint import checkpoints_in

from .draw import Drawn
from .phase import BETWEEN, EPOCH, STARTING, WRITING, Phase
from .work import ARRAYS, CHECKPOINTS, KILLED, NUMBERS, PHASE, PLAIN, WHOLE

ROOT = Path(__file__).parents[2]
#: Longer than that, and a process hangs.
SECONDS = 300.0
#: What a process was doing when it was killed, in words.
DOING = {
    STARTING: "while the process started or read its checkpoint",
    BETWEEN: "between two epochs",
    EPOCH: "in the middle of an epoch",
    WRITING: "while a checkpoint was written",
}
ENDED = "after training, before the outcome was written"
#: A run that ends before its first kill is made again, and killed earlier; so often.
TRIES = 8


@dataclass(frozen=True)
class Kill:
    """A process that was killed.

    Attributes:
        doing: what it was doing, of ``DOING`` or ``ENDED``; of the command line, which signal it was.
        epoch, step: in which it was.
        draft: whether the draft of a checkpoint was left.
        first: whether there was no checkpoint yet.
        resumed: whether the process itself was one that had been resumed.
    """

    doing: str
    epoch: int
    step: int
    draft: bool
    first: bool
    resumed: bool


@dataclass
class Outcome:
    """What became of a run.

    Attributes:
        fault: what was not as it should be; "" where all was bit for bit the same.
        seconds: of the uninterrupted training, with its checkpoints.
    """

    drawn: Drawn
    kills: list[Kill] = field(default_factory=list)
    fault: str = ""
    seconds: float = 0.0


class Fault(Exception):
    """Something was not as it should be."""


@dataclass
class Processes:
    """Starts the processes of a run.

    Args:
        worker: the module that they run, with its first arguments.

    Attributes:
        checkpoints: where they are, in the run's folder.
    """

    worker: Sequence[str] = ("benchmarks.crash.work",)
    checkpoints: ClassVar[str] = CHECKPOINTS

    def make_whole(self, drawn: Drawn, folder: Path) -> float:
        """Make a run without checkpoints and with them, neither interrupted; how long its training takes."""
        with self._start(drawn, folder, "whole") as process:
            return float(json.loads(self.wait(process, "without an interruption"))["seconds"])

    def start(self, drawn: Drawn, folder: Path) -> subprocess.Popen[str]:
        """Begin a run in ``folder``, or go on with it; the process prints a line when it begins training."""
        return self._start(drawn, folder, "killed")

    def end(self, drawn: Drawn, folder: Path) -> None:
        """Go on with a run to its end."""
        with self.start(drawn, folder) as process:
            self.wait(process, "the last one")

    def _start(self, drawn: Drawn, folder: Path, what: str) -> subprocess.Popen[str]:
        return self.open([sys.executable, "-m", *self.worker, json.dumps(asdict(drawn)), what], folder)

    def open(self, command: list[str], folder: Path) -> subprocess.Popen[str]:
        folder.mkdir(parents=True, exist_ok=True)
        threads = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "OMP", "MKL", "NUMBA")}
        return subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **threads, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait(self, process: subprocess.Popen[str], which: str) -> str:
        """Let a process end by itself, and give what it said.

        Raises:
            Fault: it failed, or hangs.
        """
        try:
            said, error = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise Fault(f"a process that was not killed ({which}) was not done after {SECONDS:g} s") from None
        if process.returncode:
            raise Fault(f"a process that was not killed ({which}) ended with {process.returncode}: {error[-1500:]}")
        return said


def make(drawn: Drawn, folder: Path, processes: Processes) -> Outcome:
    """Make a run in ``folder``, which is empty; it stays where there is a fault."""
    outcome = Outcome(drawn)
    try:
        began = time.perf_counter()
        outcome.seconds = processes.make_whole(drawn, folder)
        starting = max(time.perf_counter() - began - 2.0 * outcome.seconds, 0.1)
        compare(folder / PLAIN, folder / WHOLE, "without an interruption, but with checkpoints")
        for trial in range(TRIES):
            outcome.kills = kill_often(drawn, folder / KILLED, processes, outcome.seconds * 0.6**trial, starting)
            if outcome.kills:
                break
            shutil.rmtree(folder / KILLED)
        else:
            raise Fault(f"it was over before it could be killed, in {TRIES} tries")
        processes.end(drawn, folder / KILLED)
        compare(folder / PLAIN, folder / KILLED, f"killed {len(outcome.kills)} times and resumed")
        look_for_leftovers(folder / KILLED / processes.checkpoints)
    except Fault as fault:
        outcome.fault = f"{fault}\n  in {folder}, which stays; {outcome.kills}; {json.dumps(asdict(drawn))}"
    else:
        shutil.rmtree(folder)
    return outcome


def kill_often(drawn: Drawn, folder: Path, processes: Processes, seconds: float, starting: float) -> list[Kill]:
    """Start the run again and again, and kill it at the moments that were drawn.

    Args:
        seconds: how long training takes.
        starting: how long a process takes before it trains.
    """
    kills: list[Kill] = []
    before = 0.0
    checkpoints = folder / processes.checkpoints
    for moment, name in zip(drawn.kills, drawn.signals, strict=True):
        phase, signum = folder / PHASE, signal.Signals[name]
        phase.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        Phase(phase)
        there = checkpoints_in(checkpoints)
        with processes.start(drawn, folder) as process:
            assert process.stdout is not None
            if drawn.early and not kills:
                time.sleep(moment * starting)
            else:
                process.stdout.readline()  # training has begun, or never will
                time.sleep((moment - before) * seconds)
                before = moment
            process.send_signal(signum)
            _, error = process.communicate(timeout=SECONDS)
        if process.returncode == 0:  # it was over before
            return kills
        if process.returncode not in (-signum, 128 + signum):  # the second as train.py says that it goes on
            how = f"ended by itself, with {process.returncode}: {error[-1500:]}"
            raise Fault(f"the process of kill {len(kills) + 1} by {name} {how}")
        doing = f"{name} to train.py" if drawn.command_line else DOING.get(Phase(phase).moment.doing, ENDED)
        draft = checkpoints.is_dir() and any(DRAFT.fullmatch(path.name) for path in checkpoints.iterdir())
        newest = checkpoints_in(checkpoints)
        moment_of = Phase(phase).moment
        kills.append(Kill(doing, moment_of.epoch, moment_of.step, draft, first=not newest, resumed=bool(there)))
        if newest:  # to look at, should there be a fault
            os.link(newest[0], folder / f"resumed-after-kill-{len(kills)}.safetensors")
    return kills


def compare(one: Path, other: Path, how: str) -> None:
    """Compare what two runs amount to.

    Raises:
        Fault: they are not the same, bit for bit.
    """
    arrays, others = load_file(one / ARRAYS), load_file(other / ARRAYS)
    if {*arrays} != {*others}:
        raise Fault(f"{how}, the run has other arrays: {sorted({*arrays} ^ {*others})}")
    for name, array in arrays.items():
        if array.tobytes() != others[name].tobytes() or array.dtype != others[name].dtype:
            most = np.max(np.abs(array - others[name])) if array.shape == others[name].shape else "its shape"
            raise Fault(f"{how}, the run has another {name} (by {most})")
    numbers, other_numbers = (json.loads((folder / NUMBERS).read_text()) for folder in (one, other))
    if numbers != other_numbers:
        raise Fault(f"{how}, the run has {_first_difference(numbers, other_numbers)}")


def _first_difference(one: Any, other: Any, where: str = "") -> str:
    if isinstance(one, dict) and isinstance(other, dict) and {*one} == {*other}:
        key = next(key for key in one if one[key] != other[key])
        return _first_difference(one[key], other[key], f"{where}[{key!r}]")
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        index = next(index for index in range(len(one)) if one[index] != other[index])
        return _first_difference(one[index], other[index], f"{where}[{index}]")
    return f"{where}: {str(other)[:300]} instead of {str(one)[:300]}"


def look_for_leftovers(folder: Path, keep: int = 2) -> None:
    """Look for what nobody needs any more.

    Raises:
        Fault: there are more checkpoints than are kept, or a draft.
    """
    checkpoints = checkpoints_in(folder)
    if len(checkpoints) > keep + 1:  # one more, if it was killed after the last was written and before one was removed
        raise Fault(f"there are {len(checkpoints)} checkpoints left, not {keep}")
    others = [path.name for path in folder.iterdir() if path not in checkpoints]
    if others:
        raise Fault(f"{', '.join(others)} was left beside the checkpoints")
