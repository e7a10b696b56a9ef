"""``python -m benchmarks.epoch``: seconds of one training epoch, xpnet and its peers in turn, in one run.

Each contender lives in a process of its own. All take turns, several rounds of an epoch to warm up (a process that has
waited finds its caches and threads cold) and one that is timed. So a machine whose speed drifts slows all of them, and
ratios within a round hold; shown is their median. On a GPU, where an epoch may take milliseconds, a round is several
epochs to warm up and several that are timed together.

Printed and written to ``benchmarks/results/epoch-DEVICE-CONFIG.md`` and ``.json``: the median epoch, its ratios to the
matrix products alone and to xpnet, the peak memory of the process, the seconds from its start to the end of its first
epoch, and the test accuracy after all epochs, which must be the same for all within ``SPREAD``: who does less work does
not count. At the end those that can begin with given weights make the same few steps, from the same weights on the same
batches; their losses must agree.

With ``--limit`` there is a table after so many seconds, whoever hangs: all processes start at once, who is not ready in
half of the time is left out, and the rounds end when it is over.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date
from pathlib import Path
from statistics import median
from time import perf_counter, sleep, time
from typing import Any, Protocol

import numpy as np

from backends import PRECISIONS, get_backend
from benchmarks.contenders import CONTENDERS
from benchmarks.contenders.base import Contender
from benchmarks.contenders.config import CONFIGS, is_gpu
from nn.data import DataError
from nn.data.mnist import load_mnist

RESULTS = Path(__file__).parent / "results"
SPREAD = 0.01
#: How much the losses of the first steps may differ, as a part of them, by the precision of the products.
LOSS_SPREAD = {"float32": 1e-4, "tf32": 1e-2, "bf16": 5e-2}
#: Epochs of a round on a GPU: to warm up, and timed.
WARM_ON_GPU, TIMED_ON_GPU = 5, 5


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 1 if accuracies differ by more than ``SPREAD``, or the losses of the first steps."""
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
    parser.add_argument("--warm", type=int, help=f"epochs before them; 1, on a GPU {WARM_ON_GPU}")
    parser.add_argument("--timed", type=int, help=f"epochs timed together in a round; 1, on a GPU {TIMED_ON_GPU}")
    parser.add_argument("--rows", type=int, default=60_000, help="training rows")
    parser.add_argument("--limit", type=float, metavar="SECONDS", help="end after so long, with the rounds there are")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FOLDER", help="where the table goes")
    parser.add_argument("--dry", action="store_true", help="print the table but write no files")
    parser.add_argument("--worker", choices=CONTENDERS, help=argparse.SUPPRESS)
    settings = parser.parse_args(argv)
    if settings.worker:
        return work(settings)
    if settings.warm is None:
        settings.warm = WARM_ON_GPU if is_gpu(settings.device) else 1
    if settings.timed is None:
        settings.timed = TIMED_ON_GPU if is_gpu(settings.device) else 1
    if min(settings.rounds, settings.timed) < 1 or settings.warm < 0:
        parser.error("there must be at least one round, and an epoch that is timed")
    try:
        get_backend(settings.device, precision=settings.precision)
    except ValueError as error:
        parser.error(str(error))
    names = list(dict.fromkeys(["products", "xpnet", *settings.peers]))
    outcomes, absent, origin = measure(names, settings, START)
    text = table(outcomes, absent, origin, settings)
    print(text)
    if not settings.dry:
        suffix = "" if settings.precision == "float32" else f"-{settings.precision}"
        path = settings.out / f"epoch-{settings.device.replace(':', '-')}-{settings.config}{suffix}"
        path.with_suffix(".md").write_text(text)
        record = {
            "machine": machine(),
            "device": hardware(settings.device),
            "rows": origin,
            "epochs": {"warm": settings.warm, "timed": settings.timed},
            "absent": absent,
            "contenders": outcomes,
        }
        path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    accuracies = [outcome["accuracy"] for outcome in outcomes.values() if outcome["accuracy"] is not None]
    same = loss_spread(outcomes) <= LOSS_SPREAD[settings.precision]
    return int(not accuracies or max(accuracies) - min(accuracies) > SPREAD or not same)


# ---- processes -------------------------------------------------------------------------------------------------------


class Gone(Exception):
    """A contender does not answer, or says that it cannot take part."""


class Worker(Protocol):
    """A contender at work, perhaps in another process."""

    def hear(self, seconds: float | None = None) -> dict[str, Any]:
        """Its next answer; a Gone if there is none within so many seconds."""

    def ask(self, request: str) -> None:
        """Send ``epochs WARM TIMED`` or ``end``, to be answered."""

    def stop(self) -> None: ...


class Process:
    """A process of its own, which gets a line for each request and answers with a line of JSON."""

    def __init__(self, name: str, settings: argparse.Namespace) -> None:
        command = [sys.executable, "-m", "benchmarks.epoch", "--worker", name, "--config", settings.config]
        command += ["--device", settings.device, "--rows", str(settings.rows), "--precision", settings.precision]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "XPNET_STARTED": repr(time())},
        )
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):  # libraries print, too
                self.lines.put(line)
        self.lines.put("")

    def hear(self, seconds: float | None = None) -> dict[str, Any]:
        try:
            line = self.lines.get(timeout=seconds)
        except queue.Empty:
            raise Gone("not ready in time") from None
        answer: dict[str, Any] = json.loads(line or '{"absent": "its process died"}')
        if "absent" in answer:
            raise Gone(answer["absent"])
        return answer

    def ask(self, request: str) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(request + "\n")
            self.process.stdin.flush()
        except OSError:
            raise Gone("its process died") from None

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(OSError):  # a request that was never read
                    pipe.close()


#: Seconds between two turns: threads of a BLAS look for work for tens of milliseconds after the last, and hold cores in
#: the turn of the next one.
REST = 0.2

#: Starts a contender; the emulated GPU of the tests, which is there in one process only, takes its place.
START: Callable[[str, argparse.Namespace], Worker] = Process


def measure(
    names: list[str], settings: argparse.Namespace, start: Callable[[str, argparse.Namespace], Worker]
) -> tuple[dict[str, dict[str, Any]], dict[str, str], str]:
    """Start all contenders, give them turns, and collect what they say; who cannot take part is absent."""
    workers: dict[str, Worker] = {}
    outcomes: dict[str, dict[str, Any]] = {}
    absent: dict[str, str] = {}
    origin, slowest, limit, began = "", 0.0, settings.limit, perf_counter()

    def left() -> float:
        return math.inf if limit is None else began + limit - perf_counter()

    def heard(name: str, request: str = "") -> dict[str, Any] | None:
        """Its answer, at the start to no request; None where it gives none in half of the time that is left."""
        try:
            if request:
                workers[name].ask(request)
            return workers[name].hear(None if limit is None else max(left() / 2, 1.0))
        except Gone as error:
            absent[name] = str(error)
            outcomes.pop(name, None)
            workers.pop(name).stop()
            return None

    try:
        for together in [[name] for name in names] if limit is None else [names]:
            for name in together:
                workers[name] = start(name, settings)
            for name in together:
                if (first := heard(name)) is not None:
                    origin = first.pop("rows")
                    outcomes[name] = {**first, "seconds": []}
        for number in range(settings.rounds):
            if number and left() < 2 * slowest:
                break
            begun = perf_counter()
            for name in [*workers]:
                if settings.device == "cpu":
                    sleep(REST)
                if (round_of := heard(name, f"epochs {settings.warm} {settings.timed}")) is not None:
                    outcomes[name]["seconds"].append(round_of["seconds"])
            slowest = max(slowest, perf_counter() - begun)
        for name in [*workers]:
            if (last := heard(name, "end")) is not None:
                outcomes[name] |= last
    finally:
        for worker in workers.values():
            worker.stop()
    return outcomes, absent, origin


def work(settings: argparse.Namespace) -> int:
    """The process of one contender: an epoch at once, then what the lines that are read ask for."""
    (x, y), test, origin = load_rows(settings.rows)
    try:
        contender, first = begin(settings, x, y)
    except Exception as error:  # of any library, and the others are to be measured
        name = "" if isinstance(error, (ImportError, ValueError)) else f"{type(error).__name__}: "
        print(json.dumps({"absent": name + str(error).partition("\n")[0]}), flush=True)
        return 0
    print(json.dumps({"rows": origin, **first}), flush=True)
    for request in sys.stdin:
        print(json.dumps(reply(contender, request, *test)), flush=True)
    return 0


def begin(settings: argparse.Namespace, x: np.ndarray, y: np.ndarray) -> tuple[Contender, dict[str, Any]]:
    """The contender after its first epoch, and what it says then."""
    config = replace(CONFIGS[settings.config], precision=settings.precision)
    contender = CONTENDERS[settings.worker](config, x, y, settings.device)
    contender.epoch()
    started = float(os.environ.get("XPNET_STARTED", time()))
    return contender, {"version": contender.version(), "first": time() - started}


def reply(contender: Contender, request: str, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Seconds of an epoch for ``epochs WARM TIMED``; for ``end`` the accuracy on ``x`` and what else is known then."""
    what, *numbers = request.split()
    if what == "epochs":
        warm, timed = map(int, numbers)
        contender.epochs(warm)
        begun = perf_counter()
        contender.epochs(timed)
        return {"seconds": (perf_counter() - begun) / timed}
    accuracy = contender.accuracy(x, y) if contender.learns else None
    said = {"peak_mb": peak_mb(), "accuracy": accuracy, "remark": contender.remark()}
    return {**said, "losses": contender.losses()}


def peak_mb() -> float | None:
    """The most memory that this process had at a time; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


# ---- rows and tables -------------------------------------------------------------------------------------------------


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
        f"{settings.config}: {config.text} {config.activation}, batch {config.batch_size}, "
        f"{settings.rows:,} rows ({origin}), {hardware(settings.device)}, {settings.precision}",
        "",
        "| | seconds per epoch | us per step | x products | x xpnet | peak MB | start to first epoch, s | accuracy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in sorted(seconds, key=lambda name: seconds[name]):
        outcome, epoch = outcomes[name], seconds[name]
        spread = f"{precise(min(outcome['seconds']))} to {precise(max(outcome['seconds']))}"
        accuracy = "" if outcome["accuracy"] is None else f"{outcome['accuracy']:.2%}"
        title = f"**{name}**" if name == "xpnet" else name
        peak = "" if outcome["peak_mb"] is None else f"{outcome['peak_mb']:.0f}"
        times = [
            f"{ratio(outcome['seconds'], outcomes[other]['seconds']):.2f}" if other in outcomes else ""
            for other in ("products", "xpnet")
        ]
        step = 1e6 * epoch / steps
        lines.append(
            f"| {title} | {precise(epoch)} ({spread}) | {step:.{0 if step >= 100 else 1}f} | {' | '.join(times)} | "
            f"{peak} | {outcome['first']:.1f} | {accuracy} |"
        )
    rounds = max((len(outcome["seconds"]) for outcome in outcomes.values()), default=0)
    each = "" if settings.timed == 1 else f" of {settings.timed} epochs"
    together = "" if settings.limit is None else " All processes started at once."
    lines += ["", f"Medians (range) of {rounds} rounds{each} in turn.{together} {machine()}."]
    lines += [f"{name}: {outcome['remark']}." for name, outcome in outcomes.items() if outcome["remark"]]
    checked = {name: outcome["losses"] for name, outcome in outcomes.items() if outcome.get("losses")}
    if len(checked) > 1:
        first = ", ".join(f"{loss:.4f}" for loss in next(iter(checked.values())))
        lines.append(
            f"From the same weights, on the same batches, the first losses of {', '.join(checked)} are {first}; they "
            f"differ by {loss_spread(outcomes):.1e} of themselves at most."
        )
    versions = ", ".join(dict.fromkeys(outcome["version"] for outcome in outcomes.values()))
    missing = "; ".join(f"{name} ({why})" for name, why in absent.items())
    lines += [f"Versions: {versions}." + (f" Absent: {missing}." if missing else ""), ""]
    return "\n".join(lines)


def loss_spread(outcomes: dict[str, dict[str, Any]]) -> float:
    """How far the losses of the first steps lie apart, as a part of the largest; 0 where nobody tells any."""
    told = [outcome["losses"] for outcome in outcomes.values() if outcome.get("losses")]
    return max(((max(losses) - min(losses)) / max(losses) for losses in zip(*told, strict=True)), default=0.0)


def precise(seconds: float) -> str:
    """Milliseconds where there is a second, and microseconds where an epoch takes less than a tenth of one."""
    return f"{seconds:.3f}" if seconds >= 0.1 else f"{seconds:.6f}"


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
