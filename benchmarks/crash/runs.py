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
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from nn.files import DRAFT
from nn.storage.checkpoint import checkpoints_in

from .draw import Drawn
from .phase import BETWEEN, EPOCH, STARTING, WRITING, Phase
from .work import ARRAYS, CHECKPOINTS, KILLED, NUMBERS, PHASE, PLAIN, WHOLE

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
        doing: what it was doing, of ``DOING`` or ``ENDED``.
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
    """

    worker: Sequence[str] = ("benchmarks.crash.work",)

    def start(self, drawn: Drawn, folder: Path, what: str) -> subprocess.Popen[str]:
        folder.mkdir(parents=True, exist_ok=True)
        threads = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "OMP", "MKL", "NUMBA")}
        return subprocess.Popen(
            [sys.executable, "-m", *self.worker, json.dumps(asdict(drawn)), what],
            cwd=folder,
            env={**os.environ, **threads, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, drawn: Drawn, folder: Path, what: str) -> str:
        """Let a process end by itself, and give what it said.

        Raises:
            Fault: it failed, or hangs.
        """
        with self.start(drawn, folder, what) as process:
            try:
                said, error = process.communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise Fault(f"the process that was not killed ({what}) was not done after {SECONDS:g} s") from None
        if process.returncode:
            raise Fault(f"the process that was not killed ({what}) ended with {process.returncode}: {error[-1500:]}")
        return said


def make(drawn: Drawn, folder: Path, processes: Processes) -> Outcome:
    """Make a run in ``folder``, which is empty; it stays where there is a fault."""
    outcome = Outcome(drawn)
    try:
        began = time.perf_counter()
        outcome.seconds = json.loads(processes.finish(drawn, folder, "whole"))["seconds"]
        starting = max(time.perf_counter() - began - 2.0 * outcome.seconds, 0.1)
        compare(folder / PLAIN, folder / WHOLE, "without an interruption, but with checkpoints")
        for trial in range(TRIES):
            outcome.kills = kill_often(drawn, folder / KILLED, processes, outcome.seconds * 0.6**trial, starting)
            if outcome.kills:
                break
            shutil.rmtree(folder / KILLED)
        else:
            raise Fault(f"it was over before it could be killed, in {TRIES} tries")
        processes.finish(drawn, folder / KILLED, "killed")
        compare(folder / PLAIN, folder / KILLED, f"killed {len(outcome.kills)} times and resumed")
        look_for_leftovers(folder / KILLED / CHECKPOINTS)
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
    for moment in drawn.kills:
        phase = folder / PHASE
        phase.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        Phase(phase)
        there = checkpoints_in(folder / CHECKPOINTS)
        with processes.start(drawn, folder, "killed") as process:
            assert process.stdout is not None
            assert process.stderr is not None
            if drawn.early and not kills:
                time.sleep(moment * starting)
            else:
                process.stdout.readline()  # training has begun, or never will
                time.sleep((moment - before) * seconds)
                before = moment
            process.kill()
            process.wait()
            error = process.stderr.read()
        if process.returncode == 0:  # it was over before
            return kills
        if process.returncode != -signal.SIGKILL:
            how = f"ended by itself, with {process.returncode}: {error[-1500:]}"
            raise Fault(f"the process of kill {len(kills) + 1} {how}")
        kills.append(_seen(folder, resumed=bool(there)))
        newest = checkpoints_in(folder / CHECKPOINTS)
        if newest:  # to look at, should there be a fault
            os.link(newest[0], folder / f"resumed-after-kill-{len(kills)}.safetensors")
    return kills


def _seen(folder: Path, resumed: bool) -> Kill:
    """What a killed process has left."""
    moment, checkpoints = Phase(folder / PHASE).moment, folder / CHECKPOINTS
    draft = checkpoints.is_dir() and any(DRAFT.fullmatch(path.name) for path in checkpoints.iterdir())
    first = not checkpoints_in(checkpoints)
    return Kill(DOING.get(moment.doing, ENDED), moment.epoch, moment.step, draft, first, resumed)


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
    if len(checkpoints) > keep:
        raise Fault(f"there are {len(checkpoints)} checkpoints left, not {keep}")
    others = [path.name for path in folder.iterdir() if path not in checkpoints]
    if others:
        raise Fault(f"{', '.join(others)} was left beside the checkpoints")
