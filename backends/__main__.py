"""``python -m backends``: the devices of this machine, and why the others cannot be used.

``python -m backends check``: every operation of every backend that is here, tried on thousands of inputs.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import NoReturn

from .base import DTYPES
from .check import OPERATIONS, Result, check
from .devices import Device, DeviceError
from .doctor import examine
from .loading import ENDED_BY_CTRL_C, loaded
from .registry import available, device_help, find_device, get_backend

#: The words that the command line has beside names of devices, for "did you mean".
FLAGS = ("--device", "--against", "--dtype", "--operation", "--seed", "--every", "--reference", "--help")
WORDS = ("check", *FLAGS, *DTYPES, *OPERATIONS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv``.

    Returns:
        The exit code: 0; 1 if an operation is out of bounds, a device that was named cannot be used, or the output
        cannot be written; 2 for wrong usage; 130 for Ctrl-C, and 141 where the output is read no further.
    """
    loaded()
    try:
        settings = build_parser().parse_args(argv)
        if settings.command == "check":
            return run_check(settings)
        findings = examine(settings.device)
        for finding in findings:
            print("\n".join(finding.lines()), flush=True)
        return int(bool(settings.device) and any(finding.reason for finding in findings))
    except (DeviceError, UsageError) as error:
        print(f"{program()}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return ENDED_BY_CTRL_C
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or it would be an error again at the end
        if isinstance(error, BrokenPipeError):  # whoever read the output, `head` for instance, has left
            return 141
        print(f"{program()}: error: the output cannot be written: {error.strerror or error}", file=sys.stderr)
        return 1


class UsageError(Exception):
    """A word of the command line that cannot be used."""


def program() -> str:
    """What the user called: ``xpnet doctor``, ``xpnet-doctor``, or ``python -m backends``."""
    installed = {"xpnet": "xpnet doctor", "xpnet-doctor": "xpnet-doctor"}
    return installed.get(Path(sys.argv[0]).stem, "python -m backends")


class Parser(argparse.ArgumentParser):
    """A parser that says in a line what is wrong, and which word may have been meant."""

    def error(self, message: str) -> NoReturn:
        if command := re.match(r"argument check: invalid choice: '([^']*)'", message):
            near = difflib.get_close_matches(command[1], ["check"])
            hint = "did you mean check?" if near else f"devices are named as in --device {command[1]}"
            raise UsageError(f"unexpected {command[1]!r}; {hint}")
        wrong = re.search(r"(?:invalid choice|unrecognized arguments): '?([^\s']+)", message)
        near = difflib.get_close_matches(wrong[1], WORDS, n=1) if wrong else []
        reason = message.partition(" (choose from ")[0] if near else message
        raise UsageError(f"{reason}; did you mean {near[0]}?" if near else f"{reason} (--help lists all)")


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = Parser(
        prog=program(),
        allow_abbrev=False,
        description="List the devices of this machine, with the reason and the remedy where one cannot be used.",
    )
    parser.add_argument(
        "--device", nargs="+", default=[], metavar="SPEC", help=f"only these, as in --device cuda:1: {device_help()}"
    )
    commands = parser.add_subparsers(dest="command", metavar="check")
    checker = commands.add_parser(
        "check",
        allow_abbrev=False,
        help="try every operation on thousands of inputs",
        description="Try every operation on random, extreme and hostile inputs against NumPy in float64 or better. "
        "Exit code 1 if a result is out of bounds. docs/agreement.md says what the bounds are.",
    )
    checker.add_argument(
        "--device", nargs="+", default=[], metavar="SPEC",
        help="devices, as in --device cpu cuda:0; by default all that work, with and without fused operations",
    )  # fmt: skip
    checker.add_argument("--against", metavar="SPEC", help="compare with this device instead of with the formulas")
    checker.add_argument("--dtype", nargs="+", choices=DTYPES, default=list(DTYPES), help="default: both")
    checker.add_argument(
        "--operation", nargs="+", choices=OPERATIONS, default=list(OPERATIONS), metavar="NAME", help="only these"
    )
    checker.add_argument("--seed", type=int, default=0, metavar="N", help="of the random inputs (default: 0)")
    checker.add_argument("--every", type=int, default=1, metavar="N", help="try every N-th input only")
    checker.add_argument("--reference", action="store_true", help="check the reference operations only")
    return parser


def run_check(settings: argparse.Namespace) -> int:
    """Check, print a table for each backend and a line of totals; 1 if something is out of bounds."""
    for flag, least in (("seed", 0), ("every", 1)):
        if getattr(settings, flag) < least:
            raise UsageError(f"--{flag} must be at least {least}, not {getattr(settings, flag)}")
    started, results, count = perf_counter(), [], 0
    against = None if settings.against is None else find_device(settings.against)
    for device, fused in chosen_backends(settings.device, settings.reference):
        found = []
        for dtype in settings.dtype:
            if dtype == "float64" and not (device.has_float64 and (against is None or against.has_float64)):
                continue
            backend = get_backend(device.spec, dtype, fused)
            other = None if against is None else get_backend(against.spec, dtype)
            found += check(backend, settings.seed, against=other, operations=settings.operation, every=settings.every)
        kind = "" if fused else ", reference operations"
        with_what = "" if against is None else f", against {against.spec}"
        print(
            f"{device.spec}{kind}{with_what}: {device.version()} on {device.hardware()}\n{table(found)}\n", flush=True
        )
        results += found
        count += 1
    print(totals(results, count, settings.seed, perf_counter() - started))
    return 1 if any(result.wrong for result in results) else 0


def chosen_backends(specs: Sequence[str], reference: bool) -> Iterator[tuple[Device, bool]]:
    """The backends to check: (device, fused).

    Raises:
        DeviceError: one that was named cannot be used.
    """
    devices = [find_device(spec) for spec in specs]  # all of them, before the first is checked
    if not specs:
        devices = [found for _, found in available() if isinstance(found, Device)]
    for device in devices:
        if device.has_overrides and not reference:
            yield device, True
        if not device.has_overrides or reference or not specs:
            yield device, False


def table(results: Sequence[Result]) -> str:
    """A line for each operation and dtype; beneath one that is wrong, the first case in which it is."""
    lines = [f"  {'operation':<25} {'dtype':<8} {'cases':>6} {'rel. error':>10} {'error/bound':>11}  verdict"]
    for r in results:
        ratio = f"{r.ratio:>11.3f}" if r.ratio < 1000 else f"{r.ratio:>11.2g}"
        lines.append(f"  {r.operation:<25} {r.dtype:<8} {r.cases:>6} {r.error:>10.1e} {ratio}  {r.verdict}")
        if r.wrong:
            lines.append(f"      {r.first_wrong}")
    return "\n".join(lines)


def totals(results: Sequence[Result], backends: int, seed: int, seconds: float) -> str:
    """The last line."""
    cases, wrong = sum(r.cases for r in results), sum(r.wrong for r in results)
    names = ", ".join(dict.fromkeys(r.operation for r in results if r.wrong))
    verdict = f"{wrong:,} out of bounds, in {names}" if wrong else "all within their bounds"
    plural = "" if backends == 1 else "s"
    return f"{cases:,} cases on {backends} backend{plural}, seed {seed}, in {seconds:.0f} s: {verdict}"


if __name__ == "__main__":
    sys.exit(main())
