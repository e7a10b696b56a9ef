"""Memory runs out for real: that of an emulated GPU, and that of a process which may not have more."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import train
from backends import Backend, OutOfMemoryError
from backends.activations import ACTIVATIONS
from backends.cuda.cupy_backend import CupyBackend
from backends.devices import asked_for, is_out_of_memory
from nn import (
    GELU,
    SGD,
    Adam,
    BatchNorm,
    Callback,
    Checkpoint,
    Dropout,
    LambdaCallback,
    LayerNorm,
    Linear,
    ReLU,
    Sequential,
    Sigmoid,
    SiLU,
    Softmax,
    Standardize,
    Trainer,
)
from nn.layers import Layer
from nn.out_of_memory import output_bytes
from tests.helpers import script
from tests.helpers.backends import backend_params, make_backend
from tests.helpers.emulated_cuda import EmulatedCudaDevice, memory, needs_compiler

RNG = np.random.default_rng(0)
X = RNG.random((2000, 20)).astype(np.float32)
Y = np.arange(2000) % 3


@pytest.fixture
def gpu() -> Backend:
    return CupyBackend(EmulatedCudaDevice())


def make_trainer(backend: Backend, **options: Any) -> Trainer:
    layers = Linear(20, 100), ReLU(), Dropout(0.2), Linear(100, 3), Softmax()
    return Trainer(Sequential(*layers, backend=backend, seed=4), optimizer=SGD(0.1, momentum=0.9), **options)


@contextmanager
def only(backend: Any, size: int) -> Iterator[None]:
    """A context in which the device has so many bytes more than are in use."""
    gc.collect()
    allocate = backend.cupy.allocate
    allocate.total, allocate.held = memory.in_use() + size, 0
    try:
        yield
    finally:
        allocate.total = None


def warm(backend: Backend) -> None:
    """Let the backend have made what it makes once: the handle of cuBLAS and its workspace."""
    make_trainer(backend).fit(X[:8], Y[:8], 1, 4)


def everything(trainer: Trainer) -> dict[str, Any]:
    to_numpy = trainer.backend.to_numpy
    velocity = {"velocity": to_numpy(trainer.optimizer.state["velocity"]).copy()}
    return trainer.model.state_dict() | velocity | {"counted": np.array([trainer.epoch, trainer.model.step])}


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@needs_compiler
@pytest.mark.parametrize("available", [300_000, 600_000, 1_500_000])
def test_a_batch_that_does_not_fit_is_told_and_the_one_that_is_said_to_fit_does(gpu: Backend, available: int) -> None:
    warm(gpu)
    trainer, alone = make_trainer(gpu), make_trainer(gpu)
    before = everything(trainer)
    with only(gpu, available):
        used = memory.in_use()
        with pytest.raises(
            OutOfMemoryError, match=r"^out of memory on cuda:0: training steps with batch_size=1999 "
        ) as e:
            trainer.fit(X, Y, 3, 1999)
        size = e.value.batch_size
        assert size is not None
        assert str(e.value).endswith(f" are free; batch_size={size} would fit")
        assert_same(everything(trainer), before)
        assert (len(trainer.history), trainer.epoch) == (0, 0)
        assert memory.in_use() == used
        history = trainer.fit(X, Y, 2, size)
        with pytest.raises(OutOfMemoryError):
            trainer.fit(X, Y, 1, 8 * size)  # so it was not far from the largest
    alone.fit(X, Y, 2, size)
    assert_same(everything(trainer), everything(alone))
    assert history["loss"] == alone.history["loss"]


@needs_compiler
def test_the_amounts_are_those_that_there_are(gpu: Backend) -> None:
    warm(gpu)
    trainer = make_trainer(gpu)
    with only(gpu, 600_000), pytest.raises(OutOfMemoryError) as caught:
        trainer.fit(X, Y, 1, 1000)
    error = caught.value
    assert error.asked == 1000 * 100 * 4
    assert error.free is not None
    assert 0 < error.free < 400_000
    assert f" ask for 391 KiB, and {error.free / 1024:.3g} KiB of " in str(error)


class TakesAway(Callback):
    """From an epoch on there is no memory for arrays of 50,000 bytes, and what was there is needed anew."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.before: dict[str, Any] = {}
        self.ended: dict[str, Any] = {}

    def on_epoch_begin(self, trainer: Any, epoch: int) -> None:
        if epoch == self.epoch:
            self.before = everything(trainer)
            trainer.release()
            trainer.backend.cupy.allocate.limit = 50_000

    def on_fit_end(self, trainer: Any) -> None:
        trainer.backend.cupy.allocate.limit = 2**40
        self.ended = everything(trainer)


@needs_compiler
@pytest.mark.parametrize("average", [None, 0.9])
def test_memory_that_runs_out_later_costs_the_epoch_that_was_under_way_and_no_more(
    gpu: Backend, average: float | None, tmp_path: Path
) -> None:
    warm(gpu)
    trainer, alone = make_trainer(gpu, average=average), make_trainer(gpu, average=average)
    takes = TakesAway(3)
    with pytest.raises(OutOfMemoryError, match=r"batch_size=200 ask for 78.1 KiB, .*; batch_size=128 would fit$"):
        trainer.fit(X, Y, 5, 200, callbacks=[takes, Checkpoint(tmp_path, epochs=1)])
    takes.before["counted"][0] -= 1  # of an epoch that did not come to be
    assert_same(everything(trainer), takes.before)
    assert_same(takes.ended, takes.before)  # what callbacks may save is whole
    assert [record["epoch"] for record in trainer.history] == [1, 2]
    trainer.fit(X, Y, 3, 200)
    alone.fit(X, Y, 5, 200)
    again = make_trainer(gpu, average=average)
    assert again.resume(tmp_path)
    again.fit(X, Y, 5, 200, callbacks=[Checkpoint(tmp_path)])
    for found in (trainer, again):
        assert_same(everything(found), everything(alone))
        assert found.history["loss"] == alone.history["loss"]


@needs_compiler
@pytest.mark.parametrize("device", ["cpu", "numba", "cuda"])
def test_what_is_given_back_is_made_anew_and_no_bit_changes(gpu: Backend, device: str) -> None:
    backend = gpu if device == "cuda" else make_backend((device, True))
    released, alone = make_trainer(backend, average=0.9), make_trainer(backend, average=0.9)
    release = LambdaCallback(on_epoch_end=lambda trainer, record: trainer.release())
    released.fit(X, Y, 4, 150, validation=(X[:70], Y[:70]), callbacks=[release])
    alone.fit(X, Y, 4, 150, validation=(X[:70], Y[:70]))
    assert_same(everything(released), everything(alone))
    for name in ("loss", "val_loss"):
        assert released.history[name] == alone.history[name]
    if device == "cuda":
        rows = released.upload(released.model.dataset((X, Y)))
        released.evaluate(rows.data, batch_size=2000)
        gc.collect()
        used = memory.in_use()
        released.release()
        assert memory.in_use() <= used - 2000 * 100 * 4  # the outputs of the first layer alone


@needs_compiler
def test_where_not_one_row_fits_no_batch_size_is_named(gpu: Backend) -> None:
    warm(gpu)
    trainer = make_trainer(gpu)
    with only(gpu, 20 * 2000 * 4 + 2000 * 8 + 1000), pytest.raises(OutOfMemoryError) as caught:
        trainer.fit(X, Y, 1, 100, shuffle=False)
    assert str(caught.value).endswith(
        "; not one row fits beside the network and the data: use fewer rows, a smaller network or another device"
    )
    assert caught.value.batch_size is None


@needs_compiler
@pytest.mark.parametrize("use", ["fit", "evaluate", "predict", "upload"])
def test_rows_that_do_not_fit_are_told_with_those_that_would(gpu: Backend, use: str) -> None:
    warm(gpu)
    trainer = make_trainer(gpu)
    uses: dict[str, Callable[[], Any]] = {
        "fit": lambda: trainer.fit(X, Y, 1, 10),
        "evaluate": lambda: trainer.evaluate(X, Y),
        "predict": lambda: trainer.predict(X, 10),
        "upload": lambda: trainer.upload(trainer.model.dataset((X, Y))),
    }
    with only(gpu, 100_000), pytest.raises(OutOfMemoryError) as caught:
        uses[use]()
    if use == "predict":
        assert str(caught.value).startswith("out of memory on cuda:0: predictions with batch_size=10 ask for 156 KiB")
        return
    assert str(caught.value) == (
        f"out of memory on cuda:0: data of 2,000 rows ask for 156 KiB, and 97.7 KiB of "
        f"{(memory.in_use() + 100_000) / 2**20:.3g} MiB are free; about 1100 rows would fit (data[:1100], --limit 1100)"
    )


@needs_compiler
@pytest.mark.parametrize("use", ["evaluate", "losses", "predict", "predict_proba"])
def test_evaluation_and_prediction_say_which_batch_would_fit(gpu: Backend, use: str) -> None:
    warm(gpu)
    trainer = make_trainer(gpu)
    expected = trainer.evaluate(X, Y, batch_size=100)

    def call(size: int) -> Any:
        return getattr(trainer, use)(*([X] if "predict" in use else [X, Y]), batch_size=size)

    with only(gpu, 400_000):
        with pytest.raises(OutOfMemoryError, match=r"with batch_size=2000 .* would fit$") as caught:
            call(10**9)
        assert caught.value.batch_size is not None
        call(caught.value.batch_size)
    assert trainer.evaluate(X, Y, batch_size=100) == expected


@needs_compiler
def test_validation_inside_of_fit_is_told_apart(gpu: Backend) -> None:
    warm(gpu)
    trainer = make_trainer(gpu)
    rows = trainer.upload(trainer.model.dataset((X[:100], Y[:100])))
    held_out = trainer.upload(trainer.model.dataset((X, Y)))
    before = everything(trainer)
    with only(gpu, 300_000), pytest.raises(OutOfMemoryError) as caught:
        trainer.fit(rows, 1, 10, validation=held_out)
    message = str(caught.value)
    assert message.startswith("out of memory on cuda:0: evaluation with batch_size=1024 ask")
    assert message.endswith("leave validation out and call evaluate with batch_size=256, which would fit")
    assert caught.value.batch_size is None
    assert_same(everything(trainer), before)


@needs_compiler
def test_a_network_or_an_optimizer_that_does_not_fit_is_told(gpu: Backend) -> None:
    layers = Linear(100, 1000), ReLU(), Linear(1000, 10)
    with only(gpu, 100_000), pytest.raises(OutOfMemoryError) as caught:
        Sequential(*layers, backend=gpu)
    assert str(caught.value).startswith(
        "out of memory on cuda:0: parameters and gradients of 111,010 numbers each ask for 434 KiB, and 97.7 KiB of "
    )
    assert str(caught.value).endswith("; use a smaller network or another device")
    model = Sequential(*layers, backend=gpu)
    with only(gpu, 100_000), pytest.raises(OutOfMemoryError, match="Adam's numbers for 111,010 parameters ask for "):
        Trainer(model, optimizer=Adam())
    Trainer(model, optimizer=Adam())


@needs_compiler
def test_an_error_of_somebody_else_is_not_explained_as_one_of_a_batch(gpu: Backend) -> None:
    class Greedy(Callback):
        def on_epoch_end(self, trainer: Any, record: Any) -> None:
            raise MemoryError

    trainer = make_trainer(gpu)
    with pytest.raises(OutOfMemoryError, match=r"^out of memory on the host: arrays of fit find no memory, and "):
        trainer.fit(X, Y, 2, 500, callbacks=[Greedy()])
    assert (trainer.epoch, len(trainer.history)) == (1, 1)  # the epoch was over


NETWORKS: dict[str, Callable[[], list[Layer]]] = {
    "plain": lambda: [Linear(20, 64), ReLU(), Linear(64, 10), Softmax()],
    "deep": lambda: [Linear(20, 64), Sigmoid(), Dropout(0.3), Linear(64, 64), ReLU(), Dropout(0.3), Linear(64, 3)],
    "norms": lambda: [Linear(20, 64), BatchNorm(64), ReLU(), Linear(64, 64), LayerNorm(64), ReLU(), Linear(64, 3)],
    "with z": lambda: [Linear(20, 64), GELU(), Linear(64, 64), SiLU(), Linear(64, 3)],
    "standardized": lambda: [Standardize(20), Linear(20, 64), ReLU(), Linear(64, 3)],
}


@needs_compiler
@pytest.mark.parametrize("name", NETWORKS)
def test_the_batch_that_is_said_to_fit_fits_for_all_kinds_of_layers(gpu: Backend, name: str) -> None:
    warm(gpu)
    trainer = Trainer(Sequential(*NETWORKS[name](), backend=gpu), optimizer=Adam())
    with only(gpu, 700_000):
        with pytest.raises(OutOfMemoryError) as caught:
            trainer.fit(X, Y, 1, 1500)
        assert caught.value.batch_size is not None
        trainer.fit(X, Y, 3, caught.value.batch_size)
        with pytest.raises(OutOfMemoryError):
            trainer.fit(X, Y, 3, 6 * caught.value.batch_size)


# ---- the memory of a process -----------------------------------------------------------------------------------------

#: A process that may not have more than some megabytes beyond what it has.
PROGRAM = """
import resource, sys
from pathlib import Path
import numpy as np
from nn import SGD, Linear, OutOfMemoryError, Sequential, Trainer

device, available = sys.argv[1], int(sys.argv[2])
x, y = np.zeros((20_000, 50), np.float32), np.arange(20_000) % 3
layers = [Linear(50, 1000, activation="relu"), Linear(1000, 3)]
trainer = Trainer(Sequential(*layers, backend=device, seed=1), optimizer=SGD(0.1, momentum=0.9))
trainer.fit(x[:64], y[:64], 1, 32)
before = trainer.model.state_dict()
used = resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (used + available, resource.RLIM_INFINITY))
for call in (lambda size: trainer.fit(x, y, 1, size), lambda size: trainer.predict(x, size)):
    try:
        call(20_000)
    except OutOfMemoryError as error:
        print(error)
        size = error.batch_size
    assert all(np.array_equal(before[name], values) for name, values in trainer.model.state_dict().items())
    call(size)
    before = trainer.model.state_dict()
try:
    Sequential(Linear(10_000, 10_000), backend=device)
except OutOfMemoryError as error:
    print(error)
"""


def limited(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory are set as on Linux")
@pytest.mark.parametrize("device", ["cpu", "numba", "torch", "array_api_strict"])
def test_a_process_that_may_have_no_more_memory_goes_on_with_smaller_batches(device: str) -> None:
    pytest.importorskip("numpy" if device == "cpu" else device)
    done = limited("-c", PROGRAM, device, "60_000_000")
    assert (done.returncode, done.stderr) == (0, "")
    name = "torch:cpu" if device == "torch" else device
    size, free = r"[\d.]+ MiB", r"[\d.]+ MiB of [\d.]+ [MG]iB are free"
    patterns = [
        rf"out of memory on {name}: training steps with batch_size=20000 ask for {size}, and {free}; "
        r"batch_size=\d+ would fit",
        rf"out of memory on {name}: predictions with batch_size=20000 ask for {size}, and {free}; "
        r"batch_size=\d+ would fit",
        rf"out of memory on {name}: parameters and gradients of 100,010,000 numbers each ask for 382 MiB, and {free}; "
        "use a smaller network or another device",
    ]
    lines = done.stdout.splitlines()
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.fullmatch(pattern, line), line


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory are set as on Linux")
def test_the_script_says_so_in_one_line_and_ends_with_1() -> None:
    """The limit leaves OpenBLAS what it takes for itself: where it finds none, it ends the process."""
    program = """
import resource, sys
from pathlib import Path
import train
from nn.callbacks import Callback

class Limit(Callback):
    def on_fit_begin(self, trainer, rows, epochs):
        used = resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000, resource.RLIM_INFINITY))

made = train.build_callbacks
train.build_callbacks = lambda settings: [*made(settings), Limit()]
sys.exit(train.main(sys.argv[1:]))
"""
    flags = ["--data", "digits", "--hidden", "100000", "--batch-size", "1000", "--device", "cpu", "--epochs", "1"]
    done = limited("-c", program, *flags, "--quiet")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        r"\S+: error: out of memory on cpu: training steps with batch_size=1000 ask for .* are free; "
        r"batch_size=\d+ would fit\n",
        done.stderr,
    ), done.stderr


def test_an_error_without_a_word_is_said_to_be_one_of_memory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def prepare(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(train, "prepare", prepare)
    code, out, errors = script.run(capsys, "--data", "digits", "--epochs", "1")
    assert (code, out) == (1, "")
    assert errors.endswith(": error: out of memory\n")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory are set as on Linux")
@pytest.mark.parametrize("kind", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_rows_that_fit_into_memory_once_but_not_twice_are_told(tmp_path: Path, kind: str) -> None:
    """An archive of 80 MB is read, and there is no room for the rows in another order."""
    small, large = tmp_path / "small.npz", tmp_path / "large.npz"
    for path, rows in ((small, 10), (large, 100_000)):
        np.savez(path, x_train=np.zeros((rows, 800), np.uint8), y_train=np.arange(rows) % 2)
    program = f"""
import resource, sys
from pathlib import Path
from nn import OutOfMemoryError, load_data

load_data(sys.argv[1])
pages = Path("/proc/self/statm").read_text().split()
used = resource.getpagesize() * int(pages[0 if "{kind}" == "RLIMIT_AS" else 5])
resource.setrlimit(resource.{kind}, (used + 100_000_000, resource.RLIM_INFINITY))
try:
    load_data(sys.argv[2])
except OutOfMemoryError as error:
    print(error)
"""
    done = limited("-c", program, str(small), str(large))
    assert (done.returncode, done.stderr) == (0, "")
    size = r"[\d.]+ [KM]iB"
    assert re.fullmatch(
        rf"out of memory on the host: rows of large\.npz ask for {size}, and {size} of {size} are free; "
        r"store them in fewer bytes \(uint8, float32\), or use fewer of them\n",
        done.stdout,
    ), done.stdout


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (MemoryError(), None),
        (MemoryError("Unable to allocate 4.66 GiB for an array with shape (1250000000,) and data type float32"), 4.66),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."), 0),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0"), 20),
    ],
)
def test_what_libraries_say_is_understood(error: Exception, asked: float | None) -> None:
    assert is_out_of_memory(error)
    found = asked_for(error)
    assert (found is None) == (asked is None)
    if found is not None and asked is not None:
        assert round(found / 2**30, 2) == asked


def test_other_errors_are_left_alone() -> None:
    assert not any(map(is_out_of_memory, [RuntimeError("no"), ValueError("Unable to allocate 1 GiB"), KeyError()]))
    trainer = make_trainer(make_backend(("cpu", True), "float32"))
    with pytest.raises(ValueError, match="do not fit"):
        trainer.fit(X[:, :4], Y)


@pytest.mark.parametrize("which", backend_params([("cpu", True), ("numba", True)]))
@pytest.mark.parametrize("activation", [*ACTIVATIONS])
def test_the_estimate_is_what_a_batch_takes_on_the_host_or_more(which: tuple[str, bool], activation: str) -> None:
    backend = make_backend(which, "float32")
    peaks = []
    for size in (10, 400, 800):  # the first one makes what is made once
        layers = [Linear(30, 100, activation=activation), Dropout(0.2), Linear(100, 60, activation=activation)]
        trainer = Trainer(Sequential(*layers, Linear(60, 40), backend=backend), optimizer=SGD(0.01, momentum=0.9))
        x, y = RNG.random((2 * size - 1, 30)).astype(np.float32), np.arange(2 * size - 1) % 40
        rows = trainer.upload(trainer.model.dataset((x, y)))
        tracemalloc.start()
        trainer.fit(rows, 2, size)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    of_order = 64  # of two rows of data, for each of a batch
    assert (peaks[2] - peaks[1]) / 400 < 2 * output_bytes(trainer.model, (30,)) + of_order
