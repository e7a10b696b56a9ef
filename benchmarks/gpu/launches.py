"""``python -m benchmarks.gpu.launches``: what a recorded training step launches, and how long each of it takes.

A step is recorded by the backend, as ``fit`` does it. The nodes of its graph are told by the driver; of each a graph of
its own is made, many copies in a row, and timed by CUDA events. So a launch is timed with the caches full of its own
arrays, and the sum of all is not the step but shows where its time goes; even less so where some run beside others, on
a second branch of the graph. Then whole steps are timed, one in a graph, on the GPU and, in the same loop, in Python;
those of a graph without that branch, where there is one; and those of ``fit``, as they are and with ordinary launches
only, where some are not (``backend.dependent_launches``). Where these take longer than the GPU does, it waits for
Python.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from backends import DeviceError, Step, StepNumbers, get_backend
from backends.cuda import branches
from benchmarks.contenders.config import CONFIGS, MEASURED
from benchmarks.contenders.xpnet import Xpnet
from benchmarks.gpu import driver

ROUNDS = 5
#: So small that nothing becomes infinite on rows that cannot be learned.
LEARNING_RATE = 1e-6
#: Of the name of a kernel, for those of cuBLAS are long.
LONGEST_NAME = 60


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if a step is not recorded."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.launches", description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda", help="cuda, or cuda:N")
    parser.add_argument("--config", nargs="+", choices=CONFIGS, default=[*MEASURED], help="which networks")
    parser.add_argument("--rows", type=int, default=60_000, help="training rows")
    parser.add_argument("--copies", type=int, default=50, help="of a launch in the graph that is timed")
    parser.add_argument("--steps", type=int, default=200, help="that are timed together; at most an epoch")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where figures go, after each network")
    settings = parser.parse_args(argv)
    try:
        get_backend(settings.device)
    except DeviceError as error:
        parser.error(str(error))
    found: dict[str, Any] = {}
    for config in settings.config:
        found[config] = measure(config, settings)
        print(table(config, found[config]), flush=True)
        if settings.json is not None:
            settings.json.write_text(json.dumps(found, indent=1) + "\n")
    return int(any(outcome["why_eager"] for outcome in found.values()))


def measure(config: str, settings: argparse.Namespace) -> dict[str, Any]:
    """The launches of a step, and the microseconds of each and of all."""
    chosen, rng = CONFIGS[config], np.random.default_rng(0)
    x = rng.integers(0, 256, (settings.rows, chosen.widths[0]), dtype=np.uint8)
    made = Xpnet(chosen, x, rng.integers(0, chosen.widths[-1], settings.rows), settings.device)
    backend: Any = made.trainer.backend
    cuda, library = backend.cupy.cuda, driver.load()
    with backend.use():
        step = recorded_step(made)
        steps = Steps(step, made.batch_size)
        with driver.noting(cuda, library) as noted:
            steps.run(3)  # the first one runs, the second one is captured
            if not noted.graphs:
                why = backend.why_eager or noted.problem or "no graph was captured"
                return {"why_eager": why, "nodes": 0, "launches": []}
            launches = launches_of(noted.graphs[0], backend, settings.copies)
        count = max(min(settings.steps, settings.rows // made.batch_size), 1)
        step_us, python_us = of_steps(cuda, steps, count)
        in_a_row = {}
        if branches.updates_apart in backend.rules and max(map(prod, pairwise(chosen.widths))) >= branches.SECTION:
            rules = backend.rules
            backend.rules = tuple(rule for rule in rules if rule is not branches.updates_apart)
            steps = Steps(recorded_step(made), made.batch_size)
            steps.run(3)
            in_a_row, backend.rules = {"in_a_row_us": of_steps(cuda, steps, count)[0]}, rules
    return {
        "why_eager": backend.why_eager,
        "nodes": sum(launch["count"] for launch in launches),
        "launches": launches,
        "step_us": step_us,
        "python_us": python_us,
        **in_a_row,
        "fit_us": of_fit(made, chosen.batch_size, settings.rows),
        "why_not_dependent": backend.why_not_dependent,
        "fit_ordinary_us": of_fit_with_ordinary_launches(made, chosen.batch_size, settings.rows),
    }


def of_steps(cuda: Any, steps: Steps, count: int) -> tuple[float, float]:
    """Microseconds of a step, one in a graph, and of its Python."""
    rounds = []
    for _ in range(ROUNDS):
        steps.begin()
        rounds.append(timed(cuda, lambda: steps.run(count)))
    on_gpu, in_python = (median(each) / count for each in zip(*rounds, strict=True))
    return on_gpu, in_python


def recorded_step(made: Xpnet) -> Step:
    """The step as ``fit`` has it recorded."""
    trainer = made.trainer
    feed = trainer.feed(made.rows, shuffled=True)
    feed.begin_epoch(1)
    return trainer.backend.record(trainer.make_step(feed, trainer.plan(made.rows, optimizer=trainer.optimizer)))


def of_fit(made: Xpnet, batch_size: int, rows: int) -> float:
    """Microseconds of a step of ``fit``, with all that an epoch has beside its steps."""
    made.trainer.optimizer.learning_rate = LEARNING_RATE
    made.epochs(ROUNDS)
    begun = perf_counter()
    made.epochs(ROUNDS)
    return 1e6 * (perf_counter() - begun) / (ROUNDS * -(-rows // batch_size))


def of_fit_with_ordinary_launches(made: Xpnet, batch_size: int, rows: int) -> float:
    """The same where no launch may begin before the one before it has ended."""
    backend: Any = made.trainer.backend
    known, backend.dependent_launches = backend.dependent_launches, False
    try:
        return of_fit(made, batch_size, rows)
    finally:
        backend.dependent_launches = known


class Steps:
    """The steps of an epoch, one after the other."""

    def __init__(self, step: Step, size: int) -> None:
        self.step, self.size = step, size
        self.begin()

    def begin(self) -> None:
        self.numbers = StepNumbers(0, 0, 1, LEARNING_RATE)

    def run(self, count: int) -> None:
        for _ in range(count):
            self.step(self.numbers, self.size)
            self.numbers = self.numbers.after(self.size)


def timed(cuda: Any, work: Callable[[], None]) -> tuple[float, float]:
    """Microseconds between two events around ``work`` on the current stream, and those of its Python."""
    first, last = cuda.Event(), cuda.Event()
    first.record()
    begun = perf_counter()
    work()
    host = perf_counter() - begun
    last.record()
    last.synchronize()
    return 1e3 * cuda.get_elapsed_time(first, last), 1e6 * host


def launches_of(graph: driver.Graph, backend: Any, copies: int) -> list[dict[str, Any]]:
    """A record for each kind of launch in a graph, a kernel with its grid, with the microseconds of each of them."""
    kinds: dict[Any, list[driver.Node]] = {}
    for node in graph.nodes():
        kinds.setdefault(node.launch, []).append(node)
    return [
        {
            "kind": kind,
            "name": name,
            "grid": list(grid),
            "block": list(block),
            "count": len(nodes),
            **times_of(graph, nodes, backend, copies),
        }
        for (kind, name, grid, block), nodes in kinds.items()
    ]


def times_of(graph: driver.Graph, nodes: list[driver.Node], backend: Any, copies: int) -> dict[str, Any]:
    """The microseconds of each node in a row of its like, or why there are none."""
    try:
        return {"us": [one(graph, node, backend, copies) for node in nodes]}
    except driver.DriverError as error:
        return {"us": [], "why": str(error)}


def one(graph: driver.Graph, node: driver.Node, backend: Any, copies: int) -> float:
    cuda = backend.cupy.cuda
    stream = cuda.get_current_stream().ptr
    chain = graph.chain_of(node, copies)
    try:
        chain.launch(stream)
        return median(timed(cuda, lambda: chain.launch(stream))[0] for _ in range(ROUNDS)) / copies
    finally:
        backend.synchronize()
        chain.close()


def table(config: str, outcome: dict[str, Any]) -> str:
    """Markdown."""
    if not outcome["launches"]:
        return f"{config}: not recorded: {outcome['why_eager']}.\n"
    in_a_row = f" ({outcome['in_a_row_us']:.1f} us with all in a row)" if "in_a_row_us" in outcome else ""
    lines = [
        f"{config}: {outcome['nodes']} nodes a step; one in a graph takes {outcome['step_us']:.1f} us{in_a_row}, its "
        f"Python {outcome['python_us']:.1f} us; a step of `fit` {outcome['fit_us']:.1f} us, with ordinary launches "
        f"only {outcome['fit_ordinary_us']:.1f} us"
        + (f" (so are all: {why}; the difference is chance)." if (why := outcome["why_not_dependent"]) else "."),
        "",
        "| launch | blocks | threads | times | us of each | us |",
        "|---|---|---|---|---|---|",
    ]
    for launch in outcome["launches"]:
        us, name = launch["us"], launch["name"]
        name = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..."
        sizes = [
            "x".join(map(str, size)).removesuffix("x1").removesuffix("x1") for size in (launch["grid"], launch["block"])
        ]
        each = ", ".join(f"{value:.2f}" for value in us) if us else f"not timed: {launch['why']}"
        lines.append(
            f"| {' | '.join([f'`{name}`', *sizes, str(launch['count']), each, f'{sum(us):.2f}' if us else ''])} |"
        )
    total = sum(value for launch in outcome["launches"] for value in launch["us"])
    return "\n".join([*lines, f"| all | | | {outcome['nodes']} | | {total:.2f} |", ""])


if __name__ == "__main__":
    sys.exit(main())
