"""Long runs and many of them: memory, open files, threads and graphs stay as many as they were."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
import threading
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.cuda.cupy_backend import CupyBackend
from nn import (
    SGD,
    Adam,
    BatchNorm,
    Callback,
    Checkpoint,
    CSVLog,
    Dropout,
    EarlyStopping,
    JSONLog,
    LambdaCallback,
    Linear,
    ReduceOnPlateau,
    ReLU,
    SaveModel,
    Sequential,
    Softmax,
    TensorBoard,
    Trainer,
)
from nn.optimizers.schedules import CosineDecay
from tests.helpers.emulated_cuda import EmulatedCudaDevice, Graph, Stream, memory, needs_compiler

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 4)).astype(np.float32)
Y = np.arange(20) % 3
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells of a process on Linux only")


def make_trainer(backend: Any = "cpu", **options: Any) -> Trainer:
    layers = Linear(4, 8), BatchNorm(8), ReLU(), Dropout(0.1), Linear(8, 3), Softmax()
    return Trainer(Sequential(*layers, backend=backend, seed=1), **options)


def size_of(records: Any) -> int:
    """The bytes of records, with what is in them."""
    inside = [item for pair in records.items() for item in pair] if isinstance(records, dict) else list(records)
    return sys.getsizeof(records) + sum(
        size_of(item) if isinstance(item, dict | list) else sys.getsizeof(item) for item in inside
    )


def resident() -> int:
    """The bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Looks(Callback):
    """Notes the memory of the process after an epoch, and what has been allocated and kept from a later one on."""

    reads_gradients = False

    def __init__(self, epoch: int, traced: int) -> None:
        self.epoch, self.traced = epoch, traced
        self.noted: dict[int, tuple[int, int, int]] = {}

    def on_epoch_end(self, trainer: Trainer, record: Any) -> None:
        if record["epoch"] == self.traced:
            tracemalloc.start()  # it makes everything twice as slow
        if record["epoch"] in (self.epoch, self.traced):
            self.note(trainer)

    def on_fit_end(self, trainer: Trainer) -> None:
        self.note(trainer)
        tracemalloc.stop()

    def note(self, trainer: Trainer) -> None:
        gc.collect()
        in_memory = resident() if Path("/proc/self/statm").exists() else 0
        self.noted[trainer.epoch] = size_of(trainer.history.records), in_memory, tracemalloc.get_traced_memory()[0]

    def grown(self, since: int) -> tuple[int, int, int]:
        """By how many bytes the records, the process, and what is traced have grown since that epoch."""
        last = self.noted[max(self.noted)]
        records, in_memory, traced = (now - then for now, then in zip(last, self.noted[since], strict=True))
        return records, in_memory, traced


def test_three_thousand_epochs_take_no_more_memory_than_their_records(tmp_path: Path) -> None:
    looks = Looks(500, 2600)
    trainer = make_trainer(
        optimizer=SGD(CosineDecay(0.1, 10_000), momentum=0.9), average=0.99, clip_norm=1.0, accumulate=2
    )
    seen = [0]
    callbacks = [
        JSONLog(tmp_path / "log.jsonl"),
        EarlyStopping(patience=10_000),
        LambdaCallback(on_batch_end=lambda trainer, rows: seen.__setitem__(0, rows)),
        looks,
    ]
    trainer.fit(X, Y, 3000, 10, validation=(X[:5], Y[:5]), callbacks=callbacks)
    assert len(trainer.history) == 3000
    records, in_memory, _ = looks.grown(500)
    assert in_memory < 1.5 * records + 2_000_000
    records, _, traced = looks.grown(2600)
    assert records > 100_000
    assert traced < 1.1 * records + 30_000


def test_what_grows_is_found() -> None:
    """The test above can fail: a copy of the parameters for each epoch is more than that."""
    kept: list[Any] = []
    looks = Looks(20, 60)
    keeps = LambdaCallback(on_epoch_end=lambda trainer, record: kept.append(trainer.model.state_dict()))
    make_trainer().fit(X, Y, 160, 10, callbacks=[keeps, looks])
    records, _, traced = looks.grown(60)
    assert traced > 1.1 * records + 30_000


@needs_compiler
def test_on_a_gpu_a_long_run_takes_no_more_memory_streams_or_graphs() -> None:
    backend = CupyBackend(EmulatedCudaDevice())
    counts: list[tuple[int, int, int]] = []

    def count() -> tuple[int, int, int]:
        gc.collect()
        kinds = [type(thing) for thing in gc.get_objects()]
        return memory.in_use(), kinds.count(Graph), kinds.count(Stream)

    def look(trainer: Trainer, record: Any) -> None:
        if record["epoch"] in (5, 40):
            counts.append(count())

    def train(epochs: int) -> Trainer:
        trainer = make_trainer(backend, average=0.9, optimizer=Adam())
        callbacks = [LambdaCallback(on_epoch_end=look), EarlyStopping(patience=1000)]
        trainer.fit(X, Y, epochs, 8, validation=(X[:5], Y[:5]), callbacks=callbacks)
        return trainer

    train(2)  # what is made once
    before = count()
    trainer = train(40)
    assert counts[0] == counts[1]
    assert counts[0][1] > before[1]  # so there were graphs
    del trainer
    assert count() == before


@on_linux
def test_fifty_fits_leave_no_file_open_and_no_thread_running(tmp_path: Path) -> None:
    def fit(number: int) -> None:
        """With everything that opens files."""
        folder = tmp_path / str(number)
        folder.mkdir()
        callbacks: list[Callback] = [
            JSONLog(folder / "log.jsonl"),
            CSVLog(folder / "log.csv"),
            SaveModel(folder / "best.safetensors", monitor="val_loss"),
            Checkpoint(folder / "checkpoints", steps=1),
            ReduceOnPlateau(patience=1),
        ]
        if importlib.util.find_spec("tensorboard") or importlib.util.find_spec("tensorboardX"):
            callbacks.append(TensorBoard(folder / "events"))
        trainer = make_trainer(optimizer=SGD(0.1))
        trainer.fit(X, Y, 2, 8, validation=(X[:5], Y[:5]), callbacks=callbacks)
        assert len(list((folder / "checkpoints").iterdir())) == 2
        again = make_trainer(optimizer=SGD(0.1))
        assert again.resume(folder / "checkpoints")
        with pytest.raises(ZeroDivisionError):  # files are closed where a fit ends by an error, too
            again.fit(X, Y, 3, 8, validation=(X[:5], Y[:5]), callbacks=[*callbacks, LambdaCallback(on_epoch_end=fails)])

    def fails(trainer: Trainer, record: Any) -> None:
        raise ZeroDivisionError

    def count() -> tuple[int, int, int]:
        gc.collect()
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), threading.active_count()

    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)  # a file that only the collector closes
        fit(0)
        before = count()
        for number in range(1, 25):
            fit(number)
        assert count() == before
