"""``python -m benchmarks.mutation [FILE or FOLDER ...]``: which planted faults do the tests notice?

The tests are run once to learn which of them executes which line (kept in ``.mutation`` until a file changes). Then
each mutant, or a sample of them, is tested by the tests of its line, those of its module and the quickest first, until
one fails. Written is a table by module and every survivor, ``benchmarks/results/mutation.md``. BLAS uses one thread.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import date
from functools import partial
from itertools import accumulate
from pathlib import Path

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"

if not hasattr(os, "fork"):
    sys.exit("error: this needs a system that can fork processes: Linux, macOS, or WSL on Windows")
try:
    from . import cover, mutants, work
except ImportError as error:
    sys.exit(f"error: {error.name} is not installed: pip install -e '.[mutation]'")

ROOT = Path(__file__).parent.parent.parent
RESULT = Path("benchmarks", "results", "mutation.md")
CHOSEN = ["nn", "backends"]
#: No GPU is here; loops that Numba compiles are seen neither by coverage nor by its cache; another number among the
#: inputs of the check is another input; aliases of types do nothing.
LEFT_OUT = ["backends/cuda", "backends/cpu/numba_kernels.py", "backends/check/cases.py", "backends/typing.py"]
#: Tasks without a fault, which must survive: tests that fail in a forked process by themselves notice nothing.
CONTROLS = 5
NOTICED = ("killed", "timeout")
OUTCOMES = ("killed", "timeout", "survived", "no tests")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutation", description=__doc__.partition("\n")[0])
    parser.add_argument("paths", nargs="*", default=CHOSEN, help="files and folders to plant faults in; nn backends")
    parser.add_argument("--sample", type=int, metavar="N", help="test N mutants, drawn with the seed; else all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample; 0")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time; one for each core")
    parser.add_argument("--tests", nargs="+", default=["tests"], help="the tests that are to notice; tests")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="of tests for one mutant; those after are left out; 60"
    )
    parser.add_argument("--patience", type=float, default=20.0, help="seconds beyond 8 times what its tests take; 20")
    parser.add_argument("--output", type=Path, default=RESULT, help=f"where the report goes; {RESULT}")
    parser.add_argument("--root", type=Path, default=ROOT, help="the project; this one")
    return parser


def measured(root: Path, settings: argparse.Namespace) -> cover.Lines | None:
    """Which tests execute which lines: from ``.mutation``, or by running them; None where that fails."""
    kept = root / ".mutation" / cover.digest(root, settings.tests)
    if not (kept / "parts").is_file():
        print(f"running {' '.join(settings.tests)} once, to learn which test executes which line ...", flush=True)
        children = []
        parts = cover.parts(root, settings.tests, settings.jobs)
        for number, tests in enumerate(parts):
            folder = kept / str(number)
            folder.mkdir(parents=True, exist_ok=True)
            children.append(work.forked(partial(cover.measure, root, tests, folder), folder / "log"))
        statuses = [os.waitpid(child, 0)[1] for child in children]
        if any(statuses):
            print(f"error: the tests could not be measured, see the logs in {kept}", file=sys.stderr)
            return None
        (kept / "parts").write_text(str(len(parts)), encoding="utf-8")
    return cover.Lines(root, [kept / str(number) for number in range(int((kept / "parts").read_text()))])


def tasks_of(
    order: Sequence[tuple[str, int]], count: int, modules: dict[str, mutants.Module], lines: cover.Lines, limit: float
) -> tuple[list[work.Task], set[tuple[str, int]]]:
    """The first ``count`` mutants with their tests, and those of which some tests are left out, being too long."""
    tasks: list[work.Task] = []
    cut: set[tuple[str, int]] = set()
    for path, index in order:
        if len(tasks) == count:
            break
        mutant = modules[path].mutant(index)
        if mutant is None:  # no Python, or the same program
            continue
        tests = lines.of(path, mutant.line)
        seconds = list(accumulate(lines.seconds[test] for test in tests))
        enough = max(1, sum(until <= limit for until in seconds))
        if enough < len(tests):
            cut.add((path, index))
        tasks.append(work.Task(mutant, tests[:enough], seconds[min(enough, len(tests)) - 1] if tests else 0.0))
    return tasks, cut


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, plant, test, report; exit code 1 if nothing could be measured."""
    parser = make_parser()
    settings = parser.parse_args(argv)
    root = settings.root.resolve()
    os.chdir(root)
    begin = time.monotonic()
    try:
        modules = {path: mutants.Module(root, path) for path in mutants.files(root, settings.paths, LEFT_OUT)}
    except FileNotFoundError as error:
        parser.error(str(error))
    lines = measured(root, settings)
    if lines is None:
        return 1
    every = [(path, index) for path, module in modules.items() for index in range(len(module.changes))]
    order = random.Random(settings.seed).sample(every, len(every))
    tasks, cut = tasks_of(order, settings.sample or len(every), modules, lines, settings.seconds)
    print(f"{len(lines.seconds)} tests, {sum(lines.seconds.values()):.0f} s, {len(lines.failed)} fail and are left out")
    print(f"{len(every)} mutants in {len(modules)} files, {len(tasks)} of them are tested", flush=True)

    work.import_libraries()
    log = root / ".mutation" / "log"
    controls = [work.Task(None, task.tests, task.seconds) for task in tasks if task.tests][:CONTROLS]
    if any(outcome != "survived" for _, outcome in work.run(root, controls, 1, settings.patience, log)):
        print(f"error: a test fails without any fault, see {log}", file=sys.stderr)
        return 1

    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    unnoticed: list[tuple[mutants.Mutant, str]] = []

    def write_report() -> list[str]:
        total = sum(outcomes.values(), Counter[str]())
        report = [
            *table(outcomes, total),
            "",
            f"{total.total()} of {len(every)} mutants"
            + (f", drawn with seed {settings.seed}" if total.total() < len(every) else "")
            + f"; {len(lines.seconds) - len(lines.failed)} tests of `{' '.join(settings.tests)}`; "
            f"{time.monotonic() - begin:.0f} s with {settings.jobs} at a time. "
            f"Python {platform.python_version()}, {date.today()}.",
            "",
            *survivors(unnoticed, {path: module.text for path, module in modules.items()}, cut, settings.seconds),
        ]
        settings.output.write_text("\n".join(report).rstrip() + "\n", encoding="utf-8")
        return report[: len(outcomes) + 5]

    try:
        for number, (task, outcome) in enumerate(work.run(root, tasks, settings.jobs, settings.patience), 1):
            mutant = task.mutant
            assert mutant is not None
            outcomes[mutant.path][outcome] += 1
            if outcome not in NOTICED:
                unnoticed.append((mutant, outcome))
            if number % 25 == 0:
                so_far = time.monotonic() - begin
                print(f"{number} of {len(tasks)}, {len(unnoticed)} not noticed, {so_far:.0f} s", flush=True)
                write_report()  # whoever has no time to wait reads it
    except KeyboardInterrupt:
        print("stopped: the report is of the mutants that were tested")

    print("\n".join(write_report()))
    return 0


def noticed(counts: Counter[str]) -> str:
    return f"{sum(counts[outcome] for outcome in NOTICED) / max(counts.total(), 1):.1%}"


def table(outcomes: dict[str, Counter[str]], total: Counter[str]) -> list[str]:
    """Counts and the share that was noticed, by file and of all."""
    rows = [*sorted(outcomes.items()), ("**all**", total)]
    return [
        f"| file | mutants | {' | '.join(OUTCOMES)} | noticed |",
        f"|---|{'---|' * (len(OUTCOMES) + 2)}",
        *(
            f"| {path} | {counts.total()} | {' | '.join(str(counts[outcome]) for outcome in OUTCOMES)} "
            f"| {noticed(counts)} |"
            for path, counts in rows
        ),
    ]


def survivors(
    unnoticed: Sequence[tuple[mutants.Mutant, str]],
    texts: dict[str, str],
    cut: set[tuple[str, int]],
    seconds: float,
) -> list[str]:
    """Every mutant that was not noticed, with the lines that it changes."""
    lines = ["## Not noticed", ""] if unnoticed else []
    for mutant, outcome in sorted(unnoticed, key=lambda pair: (pair[0].path, pair[0].line, pair[0].index)):
        more = f", after {seconds:g} s of its tests" if (mutant.path, mutant.index) in cut else ""
        lines += [f"`{mutant.path}:{mutant.line}` {outcome}{more}", "", "```diff", *mutant.diff(texts[mutant.path])]
        lines += ["```", ""]
    return lines


if __name__ == "__main__":
    sys.exit(main())
