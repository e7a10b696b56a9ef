"""``python -m benchmarks.gpu``: everything that is to be learned on a machine with a GPU, in nine minutes at most.

Its parts are programs of their own (``--list`` tells them), each stopped when its time is over; what is known is
written after each of them to ``gpu.md`` and ``gpu.json`` in ``benchmarks/results``, so that a run that is killed keeps
what it had. The tables of ``benchmarks.epoch`` and ``benchmarks.growth`` are written beside them.

``--dry`` runs the same parts, with little to do, on the emulated GPU of the tests, which needs g++, and writes nothing
unless ``--out`` says where.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

from . import parts, report
from .parts import Call, Outcome

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BUDGET = 540.0
MACHINE_SECONDS = 30.0


def main(argv: Sequence[str] | None = None, call: Call | None = None) -> int:
    """Run the parts.

    Args:
        call: what runs a part; by default a process of its own.

    Returns:
        0; 1 if a part found something wrong or was stopped; 2 if there is no GPU.
    """
    settings = read(argv)
    chosen = (parts.dry if settings.dry else parts.real)(settings.device)
    if settings.list:
        for name, part in chosen.items():
            print(f"{name:<10} {part.seconds:3.0f} s  python -m {part.module} {' '.join(part.arguments)}")
        return 0
    if unknown := set(settings.parts or ()) - {*chosen}:
        print(f"error: there is no part {', '.join(sorted(unknown))}; there are {', '.join(chosen)}", file=sys.stderr)
        return 2
    if settings.parts:
        chosen = {name: part for name, part in chosen.items() if name in settings.parts}
    folder = settings.out or (None if settings.dry else RESULTS)
    call = call or parts.in_process(*([parts.EMULATED] if settings.dry else []))
    began = perf_counter()
    code, said, errors = call("benchmarks.gpu.machine", ["--device", settings.device], MACHINE_SECONDS)
    if code != 0:
        why = errors.strip().splitlines()[-1:] or [f"it was not found within {MACHINE_SECONDS:.0f} s"]
        print(f"error: there is no GPU to measure on: {why[0]}", file=sys.stderr)
        return 2
    about: dict[str, Any] = {"date": datetime.now(UTC).isoformat(timespec="minutes"), "commit": commit(settings.commit)}
    about |= json.loads(said)
    outcomes: dict[str, Outcome] = {}
    for name, part in chosen.items():
        left = settings.budget - (perf_counter() - began)
        print(f"{perf_counter() - began:4.0f} s  {name}: at most {min(part.seconds, max(left, 0)):.0f} s", flush=True)
        outcomes[name] = parts.run(part, left, call)
        print(f"{perf_counter() - began:4.0f} s  {name}: {outcomes[name].verdict}", flush=True)
        if folder is not None:
            report.write(folder, about, chosen, outcomes)
    text = report.markdown(about, chosen, outcomes)
    print(f"\n{text}" if folder is None else f"wrote {folder / 'gpu.md'} and gpu.json")
    return int(not all(outcome.good for outcome in outcomes.values()))


def read(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cuda", help="cuda, or cuda:N")
    parser.add_argument("--parts", nargs="+", metavar="PART", help="only these")
    parser.add_argument("--budget", type=float, default=BUDGET, metavar="SECONDS", help="for everything")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where the results go")
    parser.add_argument("--commit", help="of what is measured, where git does not know it")
    parser.add_argument("--dry", action="store_true", help="a try on the emulated GPU")
    parser.add_argument("--list", action="store_true", help="say what the parts are, and end")
    return parser.parse_args(argv)


def commit(given: str | None) -> str:
    """The commit of this checkout, and whether files differ from it."""
    if given:
        return given

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=20)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (" and changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


if __name__ == "__main__":
    sys.exit(main())
