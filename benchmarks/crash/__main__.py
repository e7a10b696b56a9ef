"""``python -m benchmarks.crash``: runs that are killed at random moments and resumed, compared bit for bit.

Each run is drawn by its number: network, data, loss, optimizer, schedule, callbacks, device, how often it is written,
and one to five moments at which its process is ended by SIGKILL. It is made without an interruption and without
checkpoints, then with checkpoints, then killed and resumed until it ends by itself. Every fourth run is one of
``train.py``, which other signals end as well. All three must amount to the same:
parameters, averages, what optimizer and layers keep, counters, records but for their seconds, what callbacks remember,
and the files they have written. Written is ``benchmarks/results/reliability.md``.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from nn.files import write_atomically

from .command import Commands
from .draw import DEVICES, SIGNALS, draw
from .report import page
from .runs import Outcome, Processes, make

RESULT = Path("benchmarks", "results", "reliability.md")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crash", description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=200, help="how many; 200")
    parser.add_argument("--first", type=int, default=0, help="number of the first; 0")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn; 0")
    parser.add_argument("--devices", default=",".join(here()), help="on which; by default %(default)s")
    jobs = 2 * (os.cpu_count() or 1)  # they wait for the disk half of their time
    parser.add_argument("--jobs", type=int, default=jobs, help="runs at a time; twice as many as there are cores")
    parser.add_argument("--output", type=Path, default=RESULT, help=f"where the table goes; {RESULT}")
    return parser


def here() -> list[str]:
    """The devices whose libraries are installed."""
    return [name for name in DEVICES if find_spec({"cpu": "numpy"}.get(module := name.partition("/")[0], module))]


def main(argv: Sequence[str] | None = None) -> int:
    """Make the runs; 1 if there is a fault."""
    options = make_parser().parse_args(argv)
    processes, commands, devices = Processes(), Commands(), options.devices.split(",")
    for name in SIGNALS:  # what is ignored here, as under nohup, would be in the processes; what is handled is not
        if signal.getsignal(signal.Signals[name]) is signal.SIG_IGN:
            signal.signal(signal.Signals[name], lambda signum, frame: None)
    began, folder = time.perf_counter(), Path(tempfile.mkdtemp(prefix="xpnet-crash-"))

    def made(number: int) -> Outcome:
        drawn = draw(number, options.seed, devices)
        outcome = make(drawn, folder / str(number), commands if drawn.command_line else processes)
        if outcome.fault:
            print(f"run {number}: {outcome.fault}", file=sys.stderr, flush=True)
        return outcome

    command = f"python -m benchmarks.crash --runs {options.runs} --first {options.first} --seed {options.seed}"
    outcomes: list[Outcome] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for outcome in pool.map(made, range(options.first, options.first + options.runs)):
            outcomes.append(outcome)
            if len(outcomes) % 10 == 0 or len(outcomes) == options.runs:
                text = page(outcomes, options.runs, command, options.jobs, time.perf_counter() - began)
                write_atomically(options.output, text.encode())
                print(f"{len(outcomes)} runs, {sum(bool(one.fault) for one in outcomes)} faults", flush=True)
    print(text)
    if any(outcome.fault for outcome in outcomes):
        return 1
    folder.rmdir()
    return 0


if __name__ == "__main__":
    sys.exit(main())
