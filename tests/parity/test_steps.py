"""What a training step does not do: allocate memory, or wait for the host."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nn import (
    SGD,
    Adagrad,
    Augment,
    Callback,
    Dataset,
    Dropout,
    Linear,
    Optimizer,
    ReLU,
    RMSProp,
    Sequential,
    Sigmoid,
    Softmax,
    Tanh,
    Trainer,
)
from tests.helpers.backends import make_backend

RNG = np.random.default_rng(0)
WIDTH = 16
ENDS = {"softmax_cross_entropy": Softmax(), "binary_cross_entropy": Sigmoid(), "mean_squared_error": Sigmoid()}
EVERYTHING: dict[str, Any] = {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}
AROUND_UPDATE: dict[str, Any] = {"clip_norm": 0.5, "clip_value": 0.1, "accumulate": 2, "average": 0.9}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "around the update": {"momentum": 0.9, "of_trainer": AROUND_UPDATE},
    "augmented": {
        "momentum": 0.9,
        "of_trainer": {"augment": Augment(shift=1, rotation=20, scale=0.1, shear=5, elastic=(4, 1), cutout=1)},
    },
    "plain": {},
    "momentum": {"momentum": 0.9},
    "everything": EVERYTHING,
    "penalties": {"weight_decay": 0.1, "decoupled": False, "l1": 0.1},
    "rmsprop": {"make": RMSProp, "momentum": 0.9, "centered": True, "weight_decay": 0.1},
    "adagrad": {"make": Adagrad, "lr_decay": 0.1},
}
ROOT = Path(__file__).parents[2]


class Watch(Callback):
    """Calls ``begin()`` after the first step of each epoch and ``end()`` after the last: between them are steps alone,
    of full batches and of a shorter one, without what ``fit`` does at the ends of an epoch."""

    reads_gradients = False

    def __init__(self, batches: int, begin: Callable[[int], None], end: Callable[[int], None]) -> None:
        self.batches, self.begin, self.end = batches, begin, end
        self.number = 0

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        self.number = 0

    def on_batch_end(self, trainer: Trainer, rows: int) -> None:
        self.number += 1
        if self.number == 1:
            self.begin(trainer.epoch)
        elif self.number == self.batches:
            self.end(trainer.epoch)


def train(
    which: tuple[str, bool],
    loss: str,
    begin: Callable[[int], None],
    end: Callable[[int], None],
    batch_size: int = 128,
    epochs: int = 3,
    make: Callable[..., Optimizer] = SGD,
    of_trainer: dict[str, Any] | None = None,
    trained_by: type[Trainer] = Trainer,
    **optimizer: Any,
) -> None:
    """Epochs of three steps, with ``begin`` and ``end`` called in each as by ``Watch``, with its number."""
    n = 3 * batch_size - 20
    pixels = RNG.integers(0, 256, size=(n, 4, WIDTH // 4), dtype=np.uint8)
    classes = loss == "softmax_cross_entropy"
    targets = RNG.integers(0, WIDTH, n) if classes else RNG.uniform(size=(n, WIDTH)).astype("f4")
    model = Sequential(
        Linear(WIDTH, WIDTH), Sigmoid(), Linear(WIDTH, WIDTH), ReLU(), Dropout(0.3), Linear(WIDTH, WIDTH), Tanh(),
        Linear(WIDTH, WIDTH), ENDS[loss], backend=make_backend(which),
    )  # fmt: skip
    data = Dataset(pixels, targets, scale=1 / 255)
    trainer = trained_by(model, loss, make(0.01, **optimizer), **(of_trainer or {}))
    trainer.fit(data, epochs, batch_size, callbacks=[Watch(3, begin, end)])


def allocated(which: tuple[str, bool], loss: str, batch_size: int, **optimizer: Any) -> int:
    """The most memory in bytes that the steps of the second epoch hold beyond what was there before them."""
    before, held = 0, list[int]()

    def begin(epoch: int) -> None:
        nonlocal before
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()

    def end(epoch: int) -> None:
        held.append(tracemalloc.get_traced_memory()[1] - before)

    tracemalloc.start()
    try:
        train(which, loss, begin, end, batch_size, epochs=2, **optimizer)
    finally:
        tracemalloc.stop()
    return held[1]


def allocated_alone(which: tuple[str, bool], cases: list[tuple[str, str]]) -> dict[str, list[int]]:
    """What ``allocated`` gives for batches of 1,000 and 21,000 rows, for each (loss, optimizer), in a process of one
    thread: tracemalloc counts what all threads allocate, and a worker of this suite has others, for its messages."""
    device, fused = which
    command = [sys.executable, "-m", __name__, device, "fused" if fused else "reference", json.dumps(cases)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[int]] = json.loads(done.stdout)
    assert len(found) == len(cases)
    return found


#: Each optimizer with one loss, and each loss with what an optimizer can want of the gradients: a product may add them
#: to the velocity (momentum), or they are summed up first.
CASES = [
    *(("softmax_cross_entropy", name) for name in OPTIMIZERS),
    *((loss, name) for loss in ENDS if loss != "softmax_cross_entropy" for name in ("momentum", "around the update")),
]


@pytest.mark.parametrize("device", ["cpu", "numba"])
def test_after_the_first_epoch_a_step_on_numpy_allocates_nothing(device: str) -> None:
    """Beyond Python's small objects: what a step allocates does not grow with the batch, not even by a bit a row, which
    would be 2,500 bytes."""
    make_backend((device, True))
    found = allocated_alone((device, True), CASES)
    assert {case: both for case, both in found.items() if both[1] - both[0] >= 2_000} == {}
    assert {case: both for case, both in found.items() if max(both) >= 10_000} == {}


def test_the_measurement_sees_allocations() -> None:
    found = allocated_alone(("cpu", False), [(loss, "momentum") for loss in ENDS])
    assert {case: both for case, both in found.items() if both[1] - both[0] < 1_000_000} == {}


@contextmanager
def counted_syncs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The ways in which the host can ask an array of array-api-strict for a number, each recorded."""
    import array_api_strict

    asked: list[str] = []
    array_type = type(array_api_strict.zeros(1))
    with monkeypatch.context() as patch:
        for name in ("__float__", "__bool__", "__int__", "__index__", "__complex__", "to_device", "__dlpack__"):
            original = getattr(array_type, name)

            def record(self: Any, *args: Any, _name: str = name, _original: Any = original, **kwargs: Any) -> Any:
                asked.append(_name)
                return _original(self, *args, **kwargs)

            patch.setattr(array_type, name, record)
        yield asked


@pytest.mark.parametrize("loss", ENDS)
@pytest.mark.parametrize("optimizer", ["everything", "penalties", "rmsprop", "adagrad", "augmented"])
def test_a_step_never_waits_for_the_host(loss: str, optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the second device of array-api-strict, which also refuses every hidden transfer to the host."""
    before: list[int] = []
    during: list[list[str]] = []
    in_steps: list[list[str]] = []

    class Counts(Trainer):
        def steps(self, *args: Any, **options: Any) -> int:
            before = len(asked)
            made = super().steps(*args, **options)
            in_steps.append(asked[before:])
            return made

    with counted_syncs(monkeypatch) as asked:
        train(
            ("array_api_strict:device1", False),
            loss,
            lambda _: before.append(len(asked)),
            lambda _: during.append(asked[before[-1] :]),
            trained_by=Counts,
            **{"of_trainer": AROUND_UPDATE, **OPTIMIZERS[optimizer]},
        )
    assert in_steps == [[]] * 9
    # Between steps the loss is looked at, on a device such as this, on which the steps have been computed when they are
    # made. (How rarely others are asked for it: tests/nn/test_divergence.py.)
    assert during == [["__dlpack__"] * 2] * 3


def test_the_counter_of_syncs_sees_them(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = make_backend(("array_api_strict:device1", False))
    with counted_syncs(monkeypatch) as asked:
        assert bool(backend.all_finite(backend.zeros((3,))))
        backend.to_numpy(backend.zeros((3,)))
    assert asked[0] == "__bool__"
    assert len(asked) > 1


def test_the_strictest_flags_of_the_standard_are_kept() -> None:
    """No boolean masks, no shapes that depend on data: what a recorded step could not replay."""
    import array_api_strict

    with array_api_strict.ArrayAPIStrictFlags(boolean_indexing=False, data_dependent_shapes=False):
        for loss in ENDS:
            train(
                ("array_api_strict:device1", False),
                loss,
                lambda _: None,
                lambda _: None,
                of_trainer=AROUND_UPDATE | OPTIMIZERS["augmented"]["of_trainer"],
                **EVERYTHING,
            )


if __name__ == "__main__":
    device, kind, cases = sys.argv[1:]
    np.setbufsize(16)  # or the buffers in which NumPy converts dtypes, of 8,192 elements, would hide what is smaller
    results = {
        f"{loss}, {name}": [
            allocated((device, kind == "fused"), loss, size, **OPTIMIZERS[name]) for size in (1_000, 21_000)
        ]
        for loss, name in json.loads(cases)
    }
    print(json.dumps(results))
