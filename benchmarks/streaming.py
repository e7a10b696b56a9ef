"""``python -m benchmarks.streaming``: training on rows larger than memory, beside rows in memory and the disk.

A file of made-up pixels is written (and removed afterwards). Two take turns, each in a process of its own, and each
finds nothing of the file in the page cache of the system:

* the disk: the file is read in the blocks and windows of an epoch, by as many threads, and nothing is done with it;
* training: an epoch on the file, the memory of its process limited. After every other window it waits until nothing is
  read, and the same network is trained for an epoch on rows in memory, as many as a window has. So both meet the same
  machine, whose speed may be another one a minute later: rows in memory alone made 199,000 to 320,000 a second in turns
  of a quarter of a minute.

Told are rows in a second, the ratios, and how much memory the process that trains had at its peak.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any

import numpy as np

from backends import get_backend
from backends.cpu.threads import beside
from benchmarks.contenders.config import CONFIGS, MOMENTUM, Config
from benchmarks.contenders.xpnet import network
from benchmarks.epoch import RESULTS, machine, ratio
from nn import SGD, Callback, Dataset, Sequential, Trainer
from nn.data.streamed import StreamedDataset
from nn.data.streamed.order import Order
from nn.data.streamed.reader import PIECE, THREADS
from nn.history import Record

#: The rows of the issue: 20 GB of pixels of MNIST's size.
ROWS = 25_600_000
MIB = 1 << 20
WORKERS = ("disk", "training")
TITLES = {"disk": "the disk, same blocks", "streamed": "streamed", "memory": "in memory"}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streaming", description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=ROWS, help=f"of 784 bytes each ({ROWS:,}: 20 GB)")
    parser.add_argument("--memory", type=int, default=2048, metavar="MIB", help="what a process may take (2048)")
    parser.add_argument("--window", type=int, help="rows that are shuffled together; those of 256 MiB")
    parser.add_argument("--config", choices=CONFIGS, default="small", help="which network, as of benchmarks.epoch")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each")
    parser.add_argument("--device", default="cpu", help="cpu, numba, or cuda, cuda:N")
    parser.add_argument("--folder", type=Path, help="where the file is made; the system's folder of such files")
    parser.add_argument("--dry", action="store_true", help="print the table but write no files")
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    settings = parser.parse_args(argv)
    if settings.worker:
        print(json.dumps(work(settings)))
        return 0
    size = settings.rows * (CONFIGS[settings.config].widths[0] + 1)
    with tempfile.TemporaryDirectory(dir=settings.folder, prefix="streaming-") as folder:
        if (free := shutil.disk_usage(folder).free) < 1.05 * size:
            parser.error(
                f"{folder} has {free / 1e9:.1f} GB free, and the file takes {size / 1e9:.1f} GB; name --folder"
            )
        began = perf_counter()
        write_rows(Path(folder), settings.rows, CONFIGS[settings.config])
        print(f"wrote {size / 1e9:.2f} GB in {perf_counter() - began:.1f} s", file=sys.stderr, flush=True)
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in TITLES}
        for _ in range(settings.rounds):
            for worker in WORKERS:
                drop_cache(Path(folder))
                for name, entry in in_process(worker, settings, folder).items():
                    found[name].append(entry)
                    print(f"{TITLES[name]}: {entry['rate']:,.0f} rows/s", file=sys.stderr, flush=True)
    text = table(found, settings)
    print(text)
    if not settings.dry:
        (RESULTS / f"streaming-{settings.device.replace(':', '-')}-{settings.config}.md").write_text(text + "\n")
    return 0


def table(found: dict[str, list[dict[str, Any]]], settings: argparse.Namespace) -> str:
    """What was measured, as Markdown."""
    width = CONFIGS[settings.config].widths[0]
    rates = {name: [entry["rate"] for entry in entries] for name, entries in found.items()}
    slower = [min(pair) for pair in zip(rates["disk"], rates["memory"], strict=True)]
    window = found["streamed"][0]["window"]
    lines = [
        f"{settings.rows:,} rows of {width} bytes ({settings.rows * width / 1e9:.2f} GB), windows of {window:,} rows, "
        f"network {settings.config}, {settings.device}; median of {settings.rounds} turns of each; {machine()}.",
        "",
        "| | rows | rows/s | MB/s | peak memory, MiB |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, entries in found.items():
        rate, peak = median(rates[name]), max(entry["peak"] for entry in entries)
        lines.append(
            f"| {TITLES[name]} | {entries[0]['rows']:,} | {rate:,.0f} | {rate * width / 1e6:,.0f} | {peak:,.0f} |"
        )
    turns = ", ".join(f"{one / other:.2f}" for one, other in zip(rates["streamed"], rates["memory"], strict=True))
    lines += [
        "",
        f"Streamed against in memory: {ratio(rates['streamed'], rates['memory']):.2f} ({turns} in each turn); against "
        f"the disk: {ratio(rates['streamed'], rates['disk']):.2f}; against the slower of both: "
        f"{ratio(rates['streamed'], slower):.2f}. Both take turns in a process that may take {settings.memory:,} MiB"
        + ("." if found["streamed"][0]["limited"] else ", which this system does not enforce."),
    ]
    return "\n".join(lines)


def in_process(name: str, settings: argparse.Namespace, folder: str) -> dict[str, Any]:
    """What a worker tells, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.streaming", "--worker", name, "--folder", folder]
    for option in ("rows", "memory", "config", "device", "window"):
        if (value := getattr(settings, option)) is not None:
            command += [f"--{option}", str(value)]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, Any] = json.loads(told.stdout)
    return answer


# ---- the file --------------------------------------------------------------------------------------------------------


def write_rows(folder: Path, rows: int, config: Config) -> None:
    """x.npy and y.npy, on the disk when this returns."""
    rng, width, part = np.random.default_rng(0), config.widths[0], max((64 * MIB) // config.widths[0], 1)
    for name, shape in (("x", (rows, width)), ("y", (rows,))):
        with (folder / f"{name}.npy").open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, rows, part):
                count = min(part, rows - start)
                if name == "x":
                    file.write(rng.bytes(count * width))
                else:
                    file.write(rng.integers(0, config.widths[-1], count, np.uint8).tobytes())
            file.flush()
            os.fsync(file.fileno())


def drop_cache(folder: Path) -> None:
    """Let the system forget what it has of the files."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in folder.glob("*.npy"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


# ---- workers ---------------------------------------------------------------------------------------------------------


def work(settings: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """One turn of a worker: rows, rows in a second, peak memory in MiB, by what was measured."""
    config, folder = CONFIGS[settings.config], settings.folder
    limited = limit_memory(settings.memory)
    window = {} if settings.window is None else {"window": settings.window}
    data = StreamedDataset(folder / "x.npy", folder / "y.npy", scale=1 / 255, **window)
    order = Order.of(len(data), data.window, data.block, config.batch_size)
    if settings.worker == "disk":
        found = {"disk": (len(data), read_blocks(folder / "x.npy", order, data.n_features))}
    else:
        found = train(config, data, order.window, settings.device)
    of_process = {"peak": peak_memory(), "limited": limited, "window": data.window}
    return {name: {"rows": rows, "rate": rows / seconds} | of_process for name, (rows, seconds) in found.items()}


def peak_memory() -> float:
    """The most memory that this process has had, in MiB. (What ``getrusage`` tells on Linux may be that of the process
    which has started this one.)"""
    try:
        status = Path("/proc/self/status").read_text()
        return float(status.partition("VmHWM:")[2].split()[0]) / 1024
    except (OSError, IndexError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / (1024 if sys.platform == "linux" else MIB)


def limit_memory(mebibytes: int) -> bool:
    """Have the system refuse more memory than that to this process, where it can."""
    if sys.platform != "linux":
        return False
    resource.setrlimit(resource.RLIMIT_DATA, (mebibytes * MIB, mebibytes * MIB))
    return True


class InTurn(Callback):
    """Between some windows of an epoch another trainer has an epoch of its own, while nothing is read.

    Args:
        trainer, rows, batch_size: of the other.
        window: how many rows are trained on between two turns.

    Attributes:
        own, others: seconds of the epoch, without those of the other trainer; and those.
        turns: how often it was the other's.
    """

    reads_gradients = False
    takes_parts = True  # steps are launched as without a callback, and as those in memory

    def __init__(self, trainer: Trainer, rows: Dataset, batch_size: int, window: int) -> None:
        self._trainer, self._rows, self._batch_size, self._window = trainer, rows, batch_size, window
        self.own = self.others = 0.0
        self.turns = self._seen = 0

    def on_fit_begin(self, trainer: Trainer, rows: int, epochs: int) -> None:
        self._epoch()  # steps are recorded in the first one

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        self._began = perf_counter()

    def on_batch_end(self, trainer: Trainer, rows: int) -> None:
        self._seen += rows
        if self._seen % self._window == 0:
            trainer.backend.synchronize()
            while beside.number:  # of threads that read, where they take time from steps: on the CPU
                sleep(1e-3)
            self.own += perf_counter() - self._began
            self.others += self._epoch()
            self.turns += 1
            self._began = perf_counter()

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        self.own += perf_counter() - self._began

    def _epoch(self) -> float:
        self._trainer.fit(self._rows, 1, self._batch_size)
        return float(self._trainer.history[-1]["seconds"])


def train(config: Config, data: StreamedDataset, window: int, device: str) -> dict[str, tuple[int, float]]:
    """The rows and the seconds of an epoch, and of those in memory in its pauses."""

    def trainer() -> Trainer:
        model = Sequential(*network(config), backend=get_backend(device))
        return Trainer(model, optimizer=SGD(config.learning_rate, momentum=MOMENTUM, dampening=MOMENTUM))

    rows = data[: min(window, len(data))]
    in_turn = InTurn(trainer(), rows, config.batch_size, 2 * window if len(data) > 2 * window else len(data))
    trainer().fit(data, 1, config.batch_size, callbacks=[in_turn])
    return {"streamed": (len(data), in_turn.own), "memory": (len(rows) * in_turn.turns, in_turn.others)}


def read_blocks(path: Path, order: Order, row_bytes: int) -> float:
    """How many seconds it takes to read the file in the blocks of an epoch: nothing but calls of the system."""
    offset = path.stat().st_size - order.n * row_bytes
    most = max(PIECE // row_bytes, 1)

    def read(part: range) -> None:
        into = memoryview(bytearray(len(part) * row_bytes))
        done = 0
        while done < len(into):
            got = os.preadv(descriptor, [into[done:]], offset + part.start * row_bytes + done)
            if got == 0:
                raise EOFError(f"{path} has become shorter")
            done += got

    descriptor = os.open(path, os.O_RDONLY)
    try:
        began = perf_counter()
        with ThreadPoolExecutor(THREADS) as pool:
            for index in range(order.windows):
                parts = [
                    rows[start : start + most] for rows in order.ranges(1, index) for start in range(0, len(rows), most)
                ]
                for future in [pool.submit(read, part) for part in parts]:
                    future.result()
        return perf_counter() - began
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
