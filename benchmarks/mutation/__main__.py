"""``python -m benchmarks.mutation [FILE or FOLDER ...]``: which planted faults do the tests notice?

The tests are run once to learn which of them executes which line (kept in ``.mutation``; when a file of tests changes,
that one is run again, and when any other file changes, all are). Then each mutant, or a sample of them, is tested by
the tests of its line, those of its module and the quickest first, until one fails. Written is a table by module and
every survivor, ``benchmarks/results/mutation.md``. A survivor that stands in ``equivalent.toml`` is reported with the
reason why it is no fault; ``--again`` writes the report of the last search with the list as it is now. BLAS uses one
thread.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import sys
import time
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
    from . import cover, equivalent, mutants, report, work
except ImportError as error:
    sys.exit(f"error: {error.name} is not installed: pip install -e '.[mutation]'")

ROOT = Path(__file__).parent.parent.parent
RESULT = Path("benchmarks", "results", "mutation.md")
#: What the last search found.
KEPT = Path(".mutation", "found.json")
CHOSEN = ["nn", "backends"]
#: No GPU is here; loops that Numba compiles are seen neither by coverage nor by its cache; another number among the
#: inputs of the check is another input; aliases of types do nothing.
LEFT_OUT = ["backends/cuda", "backends/cpu/numba_kernels.py", "backends/typing.py"]
LEFT_OUT += [f"backends/check/{inputs}_cases.py" for inputs in ("array", "loss", "matrix", "update")]
#: Tasks without a fault, which must survive: tests that fail in a forked process by themselves notice nothing.
CONTROLS = 5


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
    parser.add_argument("--again", action="store_true", help="only write the report of the last search anew")
    parser.add_argument("--root", type=Path, default=ROOT, help="the project; this one")
    return parser


def measured(root: Path, settings: argparse.Namespace) -> cover.Lines | None:
    """Which tests execute which lines: from ``.mutation``, or by running those of which it is not known; None where
    that fails."""
    kept = root / ".mutation" / cover.digest(root)
    files, known = cover.files_of(root, settings.tests), cover.measured(kept)
    unknown = [file for file, text in files.items() if known.get(file, ("", kept))[0] != text]
    if unknown:
        print(f"running {len(unknown)} files of tests, to learn which test executes which line ...", flush=True)
        first = max((int(path.name) for path in kept.glob("*")), default=-1) + 1
        children = []
        for number, part in enumerate(cover.parts(root, unknown, settings.jobs), first):
            folder = kept / str(number)
            folder.mkdir(parents=True)
            tests = {file: files[file] for file in part}
            children.append(work.forked(partial(cover.measure, root, tests, folder), folder / "log"))
        statuses = [os.waitpid(child, 0)[1] for child in children]
        if any(statuses):
            print(f"error: the tests could not be measured, see the logs in {kept}", file=sys.stderr)
            return None
    return cover.Lines(root, kept, files)


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
    """Measure, plant, test, report; exit code 1 if nothing could be measured, or the list of equivalents is wrong."""
    parser = make_parser()
    settings = parser.parse_args(argv)
    root = settings.root.resolve()
    os.chdir(root)
    begin = time.monotonic()
    try:
        entries = equivalent.read(root)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if settings.again:
        search = report.Search.load(root / KEPT)
        settings.output.write_text(report.text(search, entries), encoding="utf-8")
        return told(search, entries)
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
    if any(outcome != "survived" for _, outcome in work.run(root, controls, settings.jobs, settings.patience, log)):
        print(f"error: a test fails without any fault, see {log}", file=sys.stderr)
        return 1

    texts = {path: module.text for path, module in modules.items()}
    search = report.Search("", settings.seconds)

    def write() -> None:
        tested = len(search.tested)
        search.about = (
            f"{tested} of {len(every)} mutants"
            + (f", drawn with seed {settings.seed}" if tested < len(every) else "")
            + f"; {len(lines.seconds) - len(lines.failed)} tests of `{' '.join(settings.tests)}`; "
            f"{time.monotonic() - begin:.0f} s with {settings.jobs} at a time. "
            f"Python {platform.python_version()}, {date.today()}."
        )
        search.save(root / KEPT)
        settings.output.write_text(report.text(search, entries), encoding="utf-8")

    try:
        for number, (task, outcome) in enumerate(work.run(root, tasks, settings.jobs, settings.patience), 1):
            mutant = task.mutant
            assert mutant is not None
            text = texts[mutant.path]
            search.tested.append(
                report.Tested(
                    mutant.path, mutant.line, equivalent.name_at(text, mutant.line), mutant.diff(text), outcome,
                    is_cut=(mutant.path, mutant.index) in cut,
                )
            )  # fmt: skip
            if number % 25 == 0:
                unnoticed = sum(mutant.outcome not in report.NOTICED for mutant in search.tested)
                so_far = time.monotonic() - begin
                print(f"{number} of {len(tasks)}, {unnoticed} not noticed, {so_far:.0f} s", flush=True)
                write()  # whoever has no time to wait reads it
    except KeyboardInterrupt:
        print("stopped: the report is of the mutants that were tested")

    write()
    return told(search, entries)


def told(search: report.Search, entries: Sequence[equivalent.Entry]) -> int:
    """Print the table; exit code 1 if a test notices what is listed as no fault."""
    print("\n".join(report.table(search, entries)))
    for mutant in report.contradicted(search, entries):
        print(f"error: listed in {equivalent.FILE}, but noticed by a test:", file=sys.stderr)
        print("\n".join([f"{mutant.path}:{mutant.line}", *mutant.diff]), file=sys.stderr)
    return 1 if report.contradicted(search, entries) else 0


if __name__ == "__main__":
    sys.exit(main())
