"""``python -m benchmarks.fuzz [READER ...]``: damaged files by the thousand, and what the readers make of them.

Each input is a good file that was damaged, in its bytes or in what they mean (compressed again afterwards, its JSON
changed); it is a function of the reader's name and its number, so that any can be made again. *Right*: read as an
independent reading of the same bytes reads it, or, of models, fit to predict. *Clean*: refused by the documented error,
in one printable sentence of at most 300 characters. Everything else is a fault. Written is
``benchmarks/results/fuzz.md``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

RESULT = Path("benchmarks", "results", "fuzz.md")
GOOD = ("right", "clean")
FAULTS = ("wrong", "unclear", "other exception", "slow", "large", "crash")
#: So many inputs to a process: what one leaves behind does not gather.
TO_A_PROCESS = 2000
MOST_CRASHES = 20


def outcomes(name: str, first: int, last: int) -> Iterator[tuple[int, str, str]]:
    """Number, outcome and details of each input; a process that ends is followed by another."""
    crashes = 0
    while first < last:
        end = min(first + TO_A_PROCESS, last)
        command = [sys.executable, "-m", "benchmarks.fuzz.work", name, str(first), str(end)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            begun = first - 1
            for line in process.stdout:
                said = json.loads(line)
                if "begun" in said:
                    begun = said["begun"]
                else:
                    first = said["number"] + 1
                    yield said["number"], said["outcome"], said["how"]
            error = process.stderr.read()
        if process.returncode:
            if begun < first:
                raise RuntimeError(f"the process for {name} ended before its first input:\n{error}")
            yield begun, "crash", f"exit code {process.returncode}: {error[-300:]}"
            first, crashes = begun + 1, crashes + 1
            if crashes > MOST_CRASHES:
                raise RuntimeError(f"the process for {name} ended again and again, last with\n{error}")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("readers", nargs="*", help="which readers; all")
    parser.add_argument("--inputs", type=int, default=10_000, help="for each; 10,000")
    parser.add_argument("--first", type=int, default=0, help="number of the first; 0")
    parser.add_argument("--output", type=Path, default=RESULT, help=f"where the table goes; {RESULT}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; 1 if there is a fault."""
    from nn.files import write_atomically

    from .readers import READERS

    options = make_parser().parse_args(argv)
    names = options.readers or [*READERS]
    if unknown := {*names} - {*READERS}:
        make_parser().error(f"no reader {', '.join(sorted(unknown))}; known are {', '.join(READERS)}")
    lines = [
        "| reader | inputs | " + " | ".join((*GOOD, *FAULTS)) + " |",
        "|---" + "|---:" * (1 + len(GOOD) + len(FAULTS)) + "|",
    ]
    faults = 0
    for name in names:
        counted: Counter[str] = Counter()
        for number, kind, how in outcomes(name, options.first, options.first + options.inputs):
            counted[kind] += 1
            if kind in FAULTS:
                faults += 1
                print(f"{name} {number}: {kind}: {how}", file=sys.stderr)
        cells = [f"{counted[kind]:,}" for kind in (*GOOD, *FAULTS)]
        lines.append(f"| {name} | {counted.total():,} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    head = (
        "# Damaged input\n\n"
        f"`python -m benchmarks.fuzz`, inputs {options.first:,} to {options.first + options.inputs - 1:,} of each "
        "reader; only *right* and *clean* are no faults.\n\n"
    )
    write_atomically(options.output, (head + "\n".join(lines) + "\n").encode())
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
