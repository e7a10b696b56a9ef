"""What a training step does not do: allocate memory, or wait for the host."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest

from nn import SGD, Dropout, Linear, ReLU, Sequential, Sigmoid, Softmax, Tanh, Trainer
from nn.data import as_dataset
from tests.conftest import make_backend

RNG = np.random.default_rng(0)
WIDTH = 16
ENDS = {"softmax_cross_entropy": Softmax(), "binary_cross_entropy": Sigmoid(), "mean_squared_error": Sigmoid()}
EVERYTHING: dict[str, Any] = {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}


def make_epoch(which: tuple[str, bool], loss: str, batch_size: int = 128, **optimizer: Any) -> Any:
    """A function that makes three steps, the last of them shorter, without what is around them in ``Trainer.fit``."""
    n = 3 * batch_size - 20
    pixels = RNG.integers(0, 256, size=(n, 4, WIDTH // 4), dtype=np.uint8)
    classes = loss == "softmax_cross_entropy"
    targets = RNG.integers(0, WIDTH, n) if classes else RNG.uniform(size=(n, WIDTH)).astype("f4")
    model = Sequential(
        Linear(WIDTH, WIDTH), Sigmoid(), Linear(WIDTH, WIDTH), ReLU(), Dropout(0.3), Linear(WIDTH, WIDTH), Tanh(),
        Linear(WIDTH, WIDTH), ENDS[loss], backend=make_backend(which),
    )  # fmt: skip
    trainer = Trainer(model, loss, SGD(0.01, **optimizer))
    rows = trainer.upload(as_dataset((pixels, targets)))
    order = model.backend.asarray(RNG.permutation(n))

    def epoch() -> None:
        with model.backend.use():
            for start in range(0, n, batch_size):
                trainer.step(partial(trainer.update, rows, order), start, min(batch_size, n - start))

    return epoch


def allocated(epoch: Any) -> int:
    """The most memory in bytes that an epoch holds beyond what was there before it."""
    epoch()
    gc.collect()
    tracemalloc.start()
    try:
        epoch()
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        epoch()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("device", ["cpu", "numba"])
@pytest.mark.parametrize("loss", ENDS)
@pytest.mark.parametrize("optimizer", [{}, EVERYTHING], ids=["plain", "everything"])
def test_after_the_first_epoch_a_step_on_numpy_allocates_nothing(
    loss: str, optimizer: dict[str, Any], device: str
) -> None:
    """Beyond Python's small objects, and the buffers of 8,192 elements in which NumPy converts dtypes: what a step
    allocates does not grow with the batch, not even by a byte a row."""
    short, long = (allocated(make_epoch((device, True), loss, size, **optimizer)) for size in (10_000, 40_000))
    assert long - short < 2048
    assert long < 200_000


def test_the_measurement_sees_allocations() -> None:
    short, long = (allocated(make_epoch(("cpu", False), "softmax_cross_entropy", size)) for size in (10_000, 40_000))
    assert long - short > 1_000_000


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
def test_a_step_never_waits_for_the_host(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the second device of array-api-strict, which also refuses every hidden transfer to the host."""
    epoch = make_epoch(("array_api_strict:device1", False), loss, **EVERYTHING)
    with counted_syncs(monkeypatch) as asked:
        epoch()
        assert asked == []


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
            make_epoch(("array_api_strict:device1", False), loss, **EVERYTHING)()
