"""Runs on rows that are larger than memory: resumed, interrupted, diverging, failing; their memory; what they learn."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.cpu.threads import beside
from nn import (
    SGD,
    BatchNorm,
    Callback,
    Checkpoint,
    CheckpointError,
    DataError,
    Dropout,
    Linear,
    ReLU,
    Sequential,
    Softmax,
    Trainer,
    TrainingDiverged,
)
from nn.data import load_digits
from nn.data.streamed import NpySource, StreamedDataset
from nn.data.streamed.order import Order
from nn.data.streamed.reading import looked_at
from nn.evaluation import totals_of
from tests.helpers.reads import reading_ahead
from tests.helpers.resumed import Kill, Killed, outcome
from tests.helpers.streamed import CountingSource, reading_threads
from tests.helpers.with_emulated import EMULATED, made

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(1)
N, BATCH, WINDOW = 216, 16, 70  # windows of 64, 64, 64 and 24 rows
X = RNG.standard_normal((N, 6)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


def trainer_of(which: tuple[str, bool] = ("cpu", True), **options: Any) -> Trainer:
    layers = (Linear(6, 9), BatchNorm(9), ReLU(), Dropout(0.3), Linear(9, 2), Softmax())
    model = Sequential(*layers, backend=made(which, "float32"), seed=2)
    return Trainer(model, **{"optimizer": SGD(0.1, momentum=0.9)} | options)


def streamed(x: Any = X, y: Any = Y, **options: Any) -> StreamedDataset:
    return StreamedDataset(x, y, **{"window": WINDOW, "block": 3} | options)


# ---- resumed ---------------------------------------------------------------------------------------------------------


class RowsReadAtFirst(Callback):
    """How many rows of a source have been read when the first steps have been made."""

    reads_gradients = False
    rows: int | None = None

    def __init__(self, source: CountingSource) -> None:
        self.source = source

    def on_batch_end(self, trainer: Trainer, rows: int) -> None:
        if self.rows is None:
            self.rows = self.source.rows


@pytest.mark.parametrize("which", [("cpu", True), EMULATED], ids=["cpu", "emulated"])
@pytest.mark.parametrize("batches", [9, 18, 28, 31])  # in epoch 1, at windows of epoch 2, at its end, in epoch 3
def test_a_run_goes_on_in_the_middle_of_an_epoch(tmp_path: Path, batches: int, which: tuple[str, bool]) -> None:
    whole = trainer_of(which)
    whole.fit(streamed(), 3, BATCH, validation=streamed())
    killed, callbacks = trainer_of(which), [Checkpoint(tmp_path, steps=1), Kill(batches)]
    with pytest.raises(Killed):
        killed.fit(streamed(CountingSource(X)), 3, BATCH, validation=streamed(), callbacks=callbacks)
    assert not reading_threads()
    resumed, source = trainer_of(which), CountingSource(X)
    data = streamed(source)
    assert data.units.high > 1  # a sample of rows is looked at
    resumed.resume(tmp_path)
    seen, epoch = resumed.seen, resumed.epoch
    source.forget()
    first = RowsReadAtFirst(source)
    resumed.fit(data, 3, BATCH, validation=streamed(), callbacks=[Checkpoint(tmp_path / "again", steps=1), first])
    assert outcome(resumed) == outcome(whole)
    # Of this epoch no window is read that has been trained on, and ahead no more than one.
    left = N - seen // 64 * 64 if 0 < seen < N else 0
    assert source.rows == left + (3 - epoch - bool(seen)) * N
    assert first.rows is not None
    assert first.rows <= 128


def test_other_windows_and_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        trainer_of().fit(streamed(), 2, BATCH, callbacks=[Checkpoint(tmp_path, steps=1), Kill(7)])
    others = {
        r"its window is 70, and here 80": streamed(window=80),
        r"its block is 3, and here 4": streamed(block=4),
        r"its window is 70, and here None": streamed(window=N),
        r"its rows to train on are 216, and here 200": streamed(X[:200], Y[:200]),
        r"its rows to train on are others than those here": streamed(X + 1),
    }
    for message, data in others.items():
        trainer = trainer_of()
        trainer.resume(tmp_path)
        with pytest.raises(CheckpointError, match=message):
            trainer.fit(data, 2, BATCH, callbacks=[Checkpoint(tmp_path, steps=1)])
    assert not reading_threads()


# ---- what goes wrong -------------------------------------------------------------------------------------------------


def test_a_number_that_is_none_ends_training_where_it_comes(tmp_path: Path) -> None:
    """In a row that is not among those that are looked at before, or so near to them that it is read with them."""
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (10_000, 1024))
    near = [range(start - 2, stop + 2) for start, stop in looked_at(len(x), 4096, 1)]
    row = next(row for row in range(5000, len(x)) if not any(row in rows for rows in near))
    x[row, 4] = np.nan
    x.flush()
    y = np.arange(len(x)) % 2
    data = streamed(tmp_path / "x.npy", y, window=640)
    trainer, expected = (Trainer(Sequential(Linear(1024, 2), Softmax(), backend="cpu")) for _ in range(2))
    with pytest.raises(DataError, match=rf"x\.npy\[{row}, 4\] is nan; remove the row or put a number there"):
        trainer.fit(data, 2, BATCH, shuffle=False)
    before = row // 640 * 640
    assert (trainer.model.step, trainer.seen) == (before // BATCH, 0)  # those of the windows before
    expected.fit(np.asarray(x[:before]), y[:before], 1, BATCH, shuffle=False)
    for name, values in expected.model.state_dict().items():
        np.testing.assert_array_equal(trainer.model.state_dict()[name], values)
    for call in (trainer.evaluate, trainer.losses, trainer.predict):
        with pytest.raises(DataError, match=rf"\[{row}, 4\] is nan"):
            call(data)
    assert not reading_threads()
    trainer.fit(data[:100], 1, BATCH)


@pytest.mark.parametrize("which", [("cpu", True), EMULATED], ids=["cpu", "emulated"])
def test_an_error_of_a_thread_is_that_of_the_call(which: tuple[str, bool]) -> None:
    source = CountingSource(X)
    data, trainer = streamed(source), trainer_of(which)
    assert data.units.high > 1
    source.fails_at = 100
    with pytest.raises(OSError, match="the disk is gone"):
        trainer.fit(data, 2, BATCH)
    with pytest.raises(OSError, match="the disk is gone"):
        trainer.evaluate(data)
    assert not reading_threads()
    source.fails_at = None
    trainer.fit(data, 1, BATCH)
    assert not reading_threads()


class Interrupts(CountingSource):
    """Interrupts the main thread, which waits for these rows by then, when row 130 is read."""

    def read(self, start: int, stop: int, out: np.ndarray) -> None:
        if start <= 130 < stop and self.fails_at is not None:
            time.sleep(0.05)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            time.sleep(0.05)
        super().read(start, stop, out)


@pytest.fixture
def interrupts() -> Iterator[None]:
    """SIGINT is KeyboardInterrupt: workers of pytest-xdist ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_an_interrupted_wait_leaves_no_thread() -> None:
    source = Interrupts(X)
    data, trainer = streamed(source), trainer_of()
    assert data.units.high > 1
    source.fails_at = -1
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(data, 2, BATCH, shuffle=False)
    assert not reading_threads()
    source.fails_at = None
    trainer.fit(data, 1, BATCH)


def test_an_error_in_the_middle_of_an_evaluation_leaves_no_thread() -> None:
    trainer, seen = trainer_of(), list[str]()

    def fails(phase: str, stage: Any, name: str, array: Any) -> None:
        seen.append(name)
        if len(seen) == 12:
            raise ArithmeticError

    rows = trainer.upload(streamed())
    with pytest.raises(ArithmeticError), trainer.backend.use():
        totals_of(trainer, rows, 32, observer=fails)
    assert not reading_threads()  # while the error, and with it every frame, is still there


class Stops(Callback):
    reads_gradients = False

    def on_batch_end(self, trainer: Trainer, rows: int) -> None:
        if trainer.seen >= 80:
            trainer.stop("enough")


def test_a_run_that_is_stopped_leaves_no_thread() -> None:
    trainer = trainer_of()
    trainer.fit(streamed(), 3, BATCH, callbacks=[Stops()])
    assert len(trainer.history) == 1
    assert not reading_threads()


@pytest.mark.parametrize("which", [("cpu", True), EMULATED], ids=["cpu", "emulated"])
def test_a_divergence_is_told_as_in_memory(which: tuple[str, bool]) -> None:
    def error_of(data: Any) -> TrainingDiverged:
        model = Sequential(Linear(6, 8), ReLU(), Linear(8, 2), backend=made(which, "float32"), seed=2)
        trainer = Trainer(model, optimizer=SGD(lambda update: 1e25 if update == 24 else 0.05))
        with pytest.raises(TrainingDiverged) as raised:
            trainer.fit(data, 3, BATCH, shuffle=False)
        return raised.value

    found, expected = error_of(streamed()), error_of((X, Y))
    assert found.step is not None
    assert 24 <= found.step <= 27  # in the third window of epoch 2
    assert str(found) == str(expected)
    assert not reading_threads()


# ---- memory ----------------------------------------------------------------------------------------------------------

FLAT = """
import sys
import numpy as np
from benchmarks.streaming import peak_memory as peak
from nn import Linear, Sequential, Softmax, StreamedDataset, Trainer

folder, megabytes, window = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
small = np.zeros((2000, 256), np.float32), np.arange(2000) % 4
trainer = Trainer(Sequential(Linear(256, 4), Softmax(), backend="cpu"))
trainer.fit(*small, 1, 64)
trainer.predict(small[0])
rows = megabytes * 1024
x = np.lib.format.open_memmap(f"{folder}/x.npy", "w+", np.float32, (rows, 256))
for start in range(0, rows, 4096):
    x[start : start + 4096] = np.repeat(np.eye(4), 64, axis=1)[np.arange(start, start + 4096) % 4]
    x._mmap.madvise(4)  # MADV_DONTNEED: of the map, not of the file
x.flush()
del x
before = peak()
data = StreamedDataset(f"{folder}/x.npy", np.arange(rows) % 4, window=window * 1024)
trainer.fit(data, 1, 64, validation=data)
print(before, peak(), trainer.evaluate(data)["accuracy"], len(trainer.predict(data)), peak())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux tells it")
def test_memory_is_two_windows_and_a_little(tmp_path: Path) -> None:
    script = tmp_path / "flat.py"
    script.write_text(FLAT)
    command = [sys.executable, str(script), str(tmp_path), "192", "8"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}  # for the benchmarks, which are not installed
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=300)
    before, trained, accuracy, predicted, after = map(float, found.stdout.split())
    assert (accuracy, predicted) == (1.0, 192 * 1024)
    # Megabytes: a ring of 16 to train on and one of 16 to validate, pieces of 4 on the way, labels of all rows.
    assert trained - before < 16 + 16 + 20
    assert after - before < 16 + 16 + 20


# ---- what is learnt --------------------------------------------------------------------------------------------------


def test_rows_sorted_by_class_train_as_with_a_full_shuffle() -> None:
    """The mean accuracy over five seeds is within one standard deviation, with windows of a sixth of the rows."""
    train, test = load_digits().split(0.25)
    train = train[np.argsort(train.y, kind="stable")]
    window = len(train) // 6

    def accuracies(data: Any, shuffle: bool = True) -> np.ndarray:
        found = []
        for seed in range(5):
            model = Sequential(Linear(64, 32), ReLU(), Linear(32, 10), Softmax(), backend="cpu", seed=seed)
            trainer = Trainer(model, optimizer=SGD(0.1, momentum=0.9))
            trainer.fit(data, 8, 32, shuffle=shuffle)
            found.append(trainer.evaluate(test)["accuracy"])
        return np.array(found)

    full = accuracies(train)
    windows = accuracies(StreamedDataset(train.x, train.y, window=window, scale=train.scale))
    sorted_ = accuracies(train, shuffle=False)
    assert abs(windows.mean() - full.mean()) <= full.std(ddof=1)
    assert sorted_.mean() < full.mean() - 5 * full.std(ddof=1)  # which is what the order is for


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are listed as Linux does it")
def test_no_file_stays_open(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    data, trainer, seen = streamed(tmp_path / "x.npy", tmp_path / "y.npy"), trainer_of(), set[str]()

    def open_files() -> set[str]:
        links = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
        return {os.readlink(link) for link in links if link.is_symlink()} & {str(tmp_path / "x.npy")}

    class Looks(Callback):
        reads_gradients = False

        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            seen.update(open_files())

    trainer.fit(data, 2, BATCH, callbacks=[Looks()])
    assert seen  # while it trains the threads that read keep it open
    assert not open_files()


def refuses_at_once(path: Any, flags: int, *more: Any) -> int:
    if flags & os.O_DIRECT:
        raise OSError(errno.EINVAL, "Invalid argument")
    descriptor: int = open_of_system(path, flags, *more)
    return descriptor


def refuses_to_read(descriptor: int, buffers: Any, at: int) -> int:
    import fcntl

    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT:
        raise OSError(errno.EINVAL, "Invalid argument")
    count: int = preadv_of_system(descriptor, buffers, at)
    return count


open_of_system: Any = os.open
preadv_of_system: Any = getattr(os, "preadv", None)  # not on every system


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="files are read past the system's cache on Linux alone")
@pytest.mark.parametrize("refuses", [None, ("open", refuses_at_once), ("preadv", refuses_to_read)])
@pytest.mark.parametrize("row", [6, 1000])
def test_files_that_are_larger_than_memory_are_read_past_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: tuple[str, Any] | None, row: int
) -> None:
    x = RNG.integers(0, 200, (3001, row), dtype=np.uint8)
    np.save(tmp_path / "x.npy", x)
    asked = list[int]()

    def memory() -> tuple[int, int]:
        asked.append(1)
        return 10, 20

    monkeypatch.setattr("nn.data.streamed.open_files.host_memory", memory)
    monkeypatch.setattr("nn.data.streamed.open_files.DIRECT", 4096 * 3)
    if refuses is not None:
        monkeypatch.setattr(os, *refuses)
    source = NpySource(tmp_path / "x.npy")

    def read() -> None:
        for start, stop in ((0, 3001), (2990, 3001), (7, 8), (100, 1234), (3000, 3001)):
            out = np.empty((stop - start, row), np.uint8)
            source.read(start, stop, out)
            np.testing.assert_array_equal(out, x[start:stop])

    reading_ahead(read)
    assert asked


class Busy(CountingSource):
    """Counts the threads that read a window at a time, the most of them, and may take some time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(X)
        self.seconds, self.now, self.most = seconds, 0, list[int]()

    def read(self, start: int, stop: int, out: np.ndarray) -> None:
        with self.lock:
            self.now += 1
            self.most.append(self.now)
        time.sleep(self.seconds)
        super().read(start, stop, out)
        with self.lock:
            self.now -= 1


def test_as_few_threads_read_as_keep_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nn.data.streamed.reader.PIECE", 8 * X[0].nbytes)

    class Takes(Callback):
        reads_gradients = False

        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            time.sleep(0.02)

    slow, quick = Busy(0.005), Busy(0.0)
    trainer_of().fit(streamed(slow), 4, BATCH)
    assert max(slow.most[-40:]) == 4
    quick.most.clear()
    trainer = trainer_of()
    data = streamed(quick)
    assert data.units.high > 1
    quick.most.clear()
    trainer.fit(data, 3, BATCH, callbacks=[Takes()])
    assert max(quick.most[-60:]) == 1  # but for the first window, which nothing is computed beside


def test_whatever_is_made_beside_steps_is_known_to_take_time_from_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """By which steps are made on one thread or on several: the order of a window, too, keeps a core busy."""
    at_work, inside = list[int](), Order.inside

    def seen(self: Order, epoch: int, index: int) -> np.ndarray | None:
        at_work.append(beside.number)
        return inside(self, epoch, index)

    monkeypatch.setattr(Order, "inside", seen)
    trainer_of().fit(streamed(), 2, BATCH)
    assert len(at_work) > 2
    assert min(at_work) > 0
    assert beside.number == 0


def test_the_ring_goes_with_its_rows() -> None:
    """At once: no collector of cycles is needed to give back two windows."""
    trainer = trainer_of()
    gc.collect()
    gc.disable()
    try:
        rows = trainer.upload(streamed())
        trainer.fit(rows, 2, BATCH, validation=streamed())
        ring = weakref.ref(rows.x)
        assert ring() is not None
        del rows
        assert ring() is None
    finally:
        gc.enable()
