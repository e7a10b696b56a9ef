"""``python -m benchmarks.epoch``: seconds of one training epoch, xpnet and its peers in turn, in one run.

Each contender lives in a process of its own. All take turns, several rounds of an epoch to warm up (a process that has
waited finds its caches and threads cold) and one that is timed. So a machine whose speed drifts slows all of them, and
ratios within a round hold; shown is their median. Printed and written to
``benchmarks/results/epoch-DEVICE-CONFIG.md`` and ``.json``: the median epoch, its ratios to the matrix products alone
and to xpnet, the peak memory of the process, the seconds from its start to the end of its first epoch, and the test
accuracy after all epochs, which must be the same for all within ``SPREAD``: who does less work does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from statistics import median
from time import perf_counter, time
from typing import Any

import numpy as np

from backends import PRECISIONS, get_backend
from benchmarks.contenders import CONFIGS, CONTENDERS
from nn.data import DataError
from nn.data.mnist import load_mnist

RESULTS = Path(__file__).parent / "results"
SPREAD = 0.01


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 1 if accuracies differ by more than ``SPREAD``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.epoch", description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu", help="cpu, or cuda, cuda:N")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="of the products; see train.py")
    parser.add_argument("--config", choices=CONFIGS, default="small", help="which network")
    parser.add_argument(
        "--peers",
        nargs="*",
        choices=CONTENDERS,
        default=list(CONTENDERS),
        help="who takes part; all that are installed",
    )
    parser.add_argument("--rounds", type=int, default=7, help="epochs of each that are timed")
    parser.add_argument("--rows", type=int, default=60_000, help="training rows")
    parser.add_argument("--dry", action="store_true", help="print the table but write no files")
    parser.add_argument("--worker", choices=CONTENDERS, help=argparse.SUPPRESS)
    settings = parser.parse_args(argv)
    if settings.worker:
        return work(settings)
    try:
        get_backend(settings.device, precision=settings.precision)
    except ValueError as error:
        parser.error(str(error))
    names = list(dict.fromkeys(["products", "xpnet", *settings.peers]))
    outcomes, absent, origin = measure(names, settings)
    text = table(outcomes, absent, origin, settings)
    print(text)
    if not settings.dry:
        suffix = "" if settings.precision == "float32" else f"-{settings.precision}"
        path = RESULTS / f"epoch-{settings.device.replace(':', '-')}-{settings.config}{suffix}"
        path.with_suffix(".md").write_text(text)
        record = {"machine": machine(), "rows": origin, "absent": absent, "contenders": outcomes}
        path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    accuracies = [outcome["accuracy"] for outcome in outcomes.values() if outcome["accuracy"] is not None]
    return int(max(accuracies) - min(accuracies) > SPREAD)


def measure(names: list[str], settings: argparse.Namespace) -> tuple[dict[str, dict[str, Any]], dict[str, str], str]:
    """Start a process for each contender, give them turns, and collect what they say; who cannot start is absent."""
    workers: dict[str, subprocess.Popen[str]] = {}
    outcomes: dict[str, dict[str, Any]] = {}
    absent: dict[str, str] = {}
    origin = ""
    try:
        for name in names:
            command = [sys.executable, "-m", "benchmarks.epoch", "--worker", name, "--config", settings.config]
            command += ["--device", settings.device, "--rows", str(settings.rows), "--precision", settings.precision]
            worker = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "XPNET_STARTED": repr(time())},
            )
            first = json.loads((worker.stdout.readline() if worker.stdout else "") or '{"absent": "its process died"}')
            if "absent" in first:
                absent[name] = first["absent"]
                worker.kill()
                worker.wait()
                continue
            origin = first.pop("rows")
            workers[name], outcomes[name] = worker, {**first, "seconds": []}
        for _ in range(settings.rounds):
            for name, worker in workers.items():
                outcomes[name]["seconds"].append(ask(worker, "epoch")["seconds"])
        for name, worker in workers.items():
            outcomes[name] |= ask(worker, "end")
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    return outcomes, absent, origin


def ask(worker: subprocess.Popen[str], request: str) -> dict[str, Any]:
    """A line to the worker, a line of JSON back."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(request + "\n")
    worker.stdin.flush()
    answer: dict[str, Any] = json.loads(worker.stdout.readline())
    return answer


def work(settings: argparse.Namespace) -> int:
    """The process of one contender: an epoch at once, then one for each line that is read."""
    (x, y), (x_test, y_test), origin = load_rows(settings.rows)
    try:
        config = replace(CONFIGS[settings.config], precision=settings.precision)
        contender = CONTENDERS[settings.worker](config, x, y, settings.device)
        contender.epoch()
    except (ImportError, ValueError) as error:
        print(json.dumps({"absent": str(error).partition("\n")[0]}), flush=True)
        return 0
    started = float(os.environ.get("XPNET_STARTED", time()))
    print(json.dumps({"rows": origin, "version": contender.version(), "first": time() - started}), flush=True)
    for request in sys.stdin:
        if request.strip() == "epoch":
            contender.epoch()
            begun = perf_counter()
            contender.epoch()
            print(json.dumps({"seconds": perf_counter() - begun}), flush=True)
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            accuracy = contender.accuracy(x_test, y_test) if contender.learns else None
            print(json.dumps({"peak_mb": peak, "accuracy": accuracy}), flush=True)
    return 0


def load_rows(rows: int) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray], str]:
    """MNIST from the folder named by XPNET_DATA; without one, made-up rows of that shape: noise around ten patterns."""
    if os.environ.get("XPNET_DATA"):
        try:
            train, test = load_mnist()
            origin = "MNIST" if rows <= len(train) else "MNIST, repeated"
            chosen = np.arange(rows) % len(train)
            whole = rows == len(train)
            return (
                (train.x if whole else train.x[chosen], train.y if whole else train.y[chosen]),
                (test.x, test.y),
                origin,
            )
        except DataError as error:
            print(error, file=sys.stderr)
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 256, size=(10, 784))

    def made_up(n: int) -> tuple[np.ndarray, np.ndarray]:
        y = rng.integers(0, 10, n)
        noise = rng.integers(0, 256, size=(n, 784), dtype=np.uint8)
        return np.where(rng.random((n, 784)) < 0.15, patterns[y].astype(np.uint8), noise), y

    return made_up(rows), made_up(10_000), "made up in the shape of MNIST"


def table(
    outcomes: dict[str, dict[str, Any]], absent: dict[str, str], origin: str, settings: argparse.Namespace
) -> str:
    """The Markdown table, the fastest first."""
    config = CONFIGS[settings.config]
    seconds = {name: median(outcome["seconds"]) for name, outcome in outcomes.items()}
    steps = -(-settings.rows // config.batch_size)
    lines = [
        f"{settings.config}: {'-'.join(map(str, config.widths))} {config.activation}, batch {config.batch_size}, "
        f"{settings.rows:,} rows ({origin}), {hardware(settings.device)}, {settings.precision}",
        "",
        "| | seconds per epoch | us per step | x products | x xpnet | peak MB | start to first epoch, s | accuracy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in sorted(seconds, key=lambda name: seconds[name]):
        outcome, epoch = outcomes[name], seconds[name]
        spread = f"{min(outcome['seconds']):.3f} to {max(outcome['seconds']):.3f}"
        accuracy = "" if outcome["accuracy"] is None else f"{outcome['accuracy']:.2%}"
        title = f"**{name}**" if name == "xpnet" else name
        lines.append(
            f"| {title} | {epoch:.3f} ({spread}) | {1e6 * epoch / steps:.0f} | "
            f"{ratio(outcome['seconds'], outcomes['products']['seconds']):.2f} | "
            f"{ratio(outcome['seconds'], outcomes['xpnet']['seconds']):.2f} | "
            f"{outcome['peak_mb']:.0f} | {outcome['first']:.1f} | {accuracy} |"
        )
    lines += ["", f"Medians (range) of {settings.rounds} rounds in turn. {machine()}."]
    versions = ", ".join(dict.fromkeys(outcome["version"] for outcome in outcomes.values()))
    missing = "; ".join(f"{name} ({why})" for name, why in absent.items())
    lines += [f"Versions: {versions}." + (f" Absent: {missing}." if missing else ""), ""]
    return "\n".join(lines)


def ratio(mine: Sequence[float], theirs: Sequence[float]) -> float:
    """The median over the rounds of two that took turns: they were measured close to each other in each."""
    return float(median(a / b for a, b in zip(mine, theirs, strict=True)))


def hardware(spec: str) -> str:
    """The device and its name: ``cuda (NVIDIA H200, driver ...)``."""
    device = get_backend(spec).device
    return f"{spec} ({device.hardware()}; {device.version()})"


def machine() -> str:
    """Where this was measured."""
    from threadpoolctl import threadpool_info

    threads = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
    return (
        f"{os.cpu_count()} cores, BLAS threads: {'/'.join(map(str, sorted(threads)))}, {platform.machine()}, "
        f"Python {platform.python_version()}, {date.today().isoformat()}"
    )


if __name__ == "__main__":
    sys.exit(main())
