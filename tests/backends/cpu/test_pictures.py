"""Convolution and pooling through NumPy: blocks, threads, memory, and what is left to the specification."""

from __future__ import annotations

import gc
import os
import signal
import tracemalloc
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends import Backend, StepNumbers, get_backend
from backends.activations import ACTIVATIONS, Activation
from backends.check import cases, compare, expected_of, formulas, perform
from backends.check.calls import ON_PICTURES
from backends.cpu import convolution
from backends.cpu import core as module
from backends.cpu.numpy_backend import NumpyBackend
from backends.cpu.workers import BYTES_OF_BLOCK, MOST_PARTS, PER_WORKER, Parts, Work, cut_into_parts, number_of_workers
from tests.helpers.blas import with_threads

RNG = np.random.default_rng(0)
Array = Any
NUMBERS = StepNumbers(0, 0, 1, 0.5)


def drawn(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype("f4")


class Convolved:
    """A convolution and a pooling of many pictures, forward and backward, with an array for each result."""

    def __init__(self, m: int, channels: int, stride: int = 1, groups: int = 1) -> None:
        self.placed: dict[str, Any] = {"stride": (stride, stride), "padding": (1, 1), "groups": groups}
        self.x, self.weight, self.bias = drawn(m, 13, 14, channels), drawn(3, 3, channels // groups, 8), drawn(8)
        made = get_backend("cpu", fused=False).conv2d(self.x, self.weight, **self.placed)
        self.dy = drawn(*made.shape)
        self.results = {
            "y": np.empty_like(made), "dz": np.empty_like(made), "dx": np.empty_like(self.x),
            "dw": np.empty_like(self.weight), "db": np.empty_like(self.bias),
        }  # fmt: skip
        self.window: dict[str, Any] = {"size": (3, 2), "stride": (2, 2), "padding": (1, 0)}
        pooled = get_backend("cpu", fused=False).max_pool2d(made, **self.window)
        self.d_pooled = drawn(*pooled.shape)
        self.results |= {"max": np.empty_like(pooled), "mean": np.empty_like(pooled)}
        self.results |= {"d_max": np.empty_like(made), "d_mean": np.empty_like(made)}

    def __call__(self, backend: Backend) -> None:
        it = self.results
        y = backend.conv2d(self.x, self.weight, self.bias, "relu", alpha=0.5, out=it["y"], **self.placed)
        backend.conv2d_backward(
            self.dy, y, self.x, self.weight, "relu", times=0.5, bias_gradient=it["db"], weight_gradient=it["dw"],
            dz=it["dz"], out=it["dx"], **self.placed,
        )  # fmt: skip
        pooled = backend.max_pool2d(y, out=it["max"], **self.window)
        backend.max_pool2d_backward(self.d_pooled, y, pooled, out=it["d_max"], **self.window)
        backend.avg_pool2d(y, out=it["mean"], **self.window)
        backend.avg_pool2d_backward(self.d_pooled, y.shape[1:3], out=it["d_mean"], **self.window)

    def bits(self) -> dict[str, bytes]:
        return {name: x.tobytes() for name, x in self.results.items()}

    def clear(self) -> None:
        for x in self.results.values():
            x.fill(np.nan)


#: With and without patches; a row of windows that is one channel; groups of several channels, of two and of one.
KINDS = [
    {"channels": 8}, {"channels": 1}, {"channels": 8, "stride": 2}, {"channels": 8, "groups": 2},
    {"channels": 8, "groups": 4}, {"channels": 8, "groups": 8, "stride": 2},
]  # fmt: skip


# ---- threads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_no_bit_depends_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch, kind: dict[str, int]) -> None:
    it = Convolved(233, **kind)
    it(get_backend("cpu"))
    expected = it.bits()
    used: set[int] = set()
    run = Parts.run

    def noted(self: Parts, work: Work, workers: int) -> None:
        used.add(workers)
        run(self, work, workers)

    monkeypatch.setattr(Parts, "run", noted)
    for number in (2, 3, 16):
        backend, library = with_threads(monkeypatch, number)
        for _ in range(3):
            it.clear()
            it(backend)
            assert it.bits() == expected
        assert library.number == number
    assert max(used) > 1


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("number", [1, 4])
def test_a_recorded_step_is_the_eager_one(monkeypatch: pytest.MonkeyPatch, kind: dict[str, int], number: int) -> None:
    backend, _ = with_threads(monkeypatch, number)
    it = Convolved(67, **kind)
    it(backend)
    expected = it.bits()
    recorded = backend.record(lambda numbers, count: it(backend))
    recorded(NUMBERS, 67)
    assert it.bits() == expected
    kept = it.x.copy(), it.dy.copy()
    it.x[...], it.dy[...] = drawn(*it.x.shape), drawn(*it.dy.shape)
    recorded(NUMBERS, 67)
    assert it.bits() != expected
    it.x[...], it.dy[...] = kept
    it.clear()
    recorded(NUMBERS, 67)
    assert it.bits() == expected


def test_a_batch_is_cut_by_its_shapes_alone() -> None:
    assert cut_into_parts(0, 4) == []
    assert cut_into_parts(5, 2) == [[slice(0, 2)], [slice(2, 4)], [slice(4, 5)]]
    assert [len(part) for part in cut_into_parts(128, 2)] == [4] * MOST_PARTS


@given(m=st.integers(0, 1000), size=st.integers(1, 50), most=st.integers(1, 20))
def test_each_picture_is_in_one_block(m: int, size: int, most: int) -> None:
    parts = cut_into_parts(m, size, most)
    blocks = [block for part in parts for block in part]
    assert [i for block in blocks for i in range(block.start, block.stop)] == [*range(m)]
    assert all(block.stop - block.start == size for block in blocks[:-1])
    assert len(parts) == min(most, len(blocks))
    assert max(map(len, parts), default=0) - min(map(len, parts), default=0) <= 1


def test_little_work_is_not_shared() -> None:
    assert number_of_workers(PER_WORKER * 1.9, 8) == 1
    assert number_of_workers(PER_WORKER * 2, 8) == 2
    assert number_of_workers(PER_WORKER * 100, 8) == 8


def test_each_part_is_computed_once_by_whoever_comes() -> None:
    done: list[tuple[int, int]] = []
    parts = Parts(50)
    for workers in (1, 2, 5, 100):
        done.clear()
        parts.run(lambda worker, part: done.append((part, worker)), workers)
        assert sorted(part for part, _ in done) == [*range(50)]
        assert {worker for _, worker in done} <= {*range(workers)}
    Parts(0).run(lambda worker, part: pytest.fail("there is no part"), 3)


@pytest.mark.parametrize("worker", [0, 1])
def test_an_error_of_a_part_is_raised_where_all_wait(worker: int) -> None:
    parts = Parts(8)
    begun = {0: False, 1: False}

    def work(me: int, part: int) -> None:
        begun[me] = True
        while not all(begun.values()):  # until both have a part
            pass
        if me == worker:
            raise MemoryError(f"part {part}")

    for _ in range(3):
        begun.update({0: False, 1: False})
        with pytest.raises(MemoryError, match="part"):
            parts.run(work, 2)
    done: list[int] = []
    parts.run(lambda _, part: done.append(part), 2)  # nothing is left of it
    assert sorted(done) == [*range(8)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_has_threads_of_its_own() -> None:
    done: list[int] = []
    Parts(8).run(lambda _, part: done.append(part), 3)  # the threads that the other process will not have
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        signal.alarm(60)  # or it would wait for ever
        Parts(8).run(lambda _, part: done.append(part), 3)
        os._exit(0 if sorted(done) == sorted([*range(8)] * 2) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_parts_hold_no_array_after_a_run() -> None:
    class Held:
        def work(self, worker: int, part: int) -> None:
            pass

    held, parts = Held(), Parts(3)
    parts.run(held.work, 2)
    seen = weakref.ref(held)
    del held
    for _ in range(100):  # the other thread may be about to let it go
        gc.collect()
        if seen() is None:
            return
    pytest.fail("it is still held")


# ---- memory ----------------------------------------------------------------------------------------------------------


def peak_of(call: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("number", [1, 3])
def test_a_step_allocates_nothing_once_the_shapes_are_known(
    monkeypatch: pytest.MonkeyPatch, kind: dict[str, int], number: int
) -> None:
    backend, _ = with_threads(monkeypatch, number)
    it = Convolved(800, **kind)
    recorded = backend.record(lambda numbers, count: it(backend))
    recorded(NUMBERS, 800)
    it(backend)
    for step in (lambda: recorded(NUMBERS, 800), lambda: it(backend)):
        assert peak_of(step) < 120_000 * number  # what NumPy's iterators take; the least array has 300,000 bytes


def test_memory_for_blocks_is_bounded() -> None:
    """With many pictures it is no more than with few."""
    peaks = []
    for m in (1200, 3000):
        backend, it = get_backend("cpu"), Convolved(m, 8)
        peaks.append(peak_of(lambda backend=backend, it=it: it(backend)))  # type: ignore[misc]
    operations, sizes = 4, 2  # the last block has fewer pictures
    assert max(peaks) < 4 * operations * sizes * BYTES_OF_BLOCK
    assert abs(peaks[1] - peaks[0]) < 2 * operations * BYTES_OF_BLOCK  # one of them may have one size only


def test_sums_of_large_filters_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """They get fewer parts, and the same results within rounding."""
    it = Convolved(67, 8)
    it(get_backend("cpu"))
    expected = {name: x.copy() for name, x in it.results.items()}
    monkeypatch.setattr(convolution, "MOST_BYTES_OF_SUMS", it.weight.nbytes * 5 // 2)
    it(get_backend("cpu"))
    for name, x in it.results.items():
        np.testing.assert_allclose(x, expected[name], rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(convolution, "MOST_BYTES_OF_SUMS", 1)
    it(get_backend("cpu"))
    np.testing.assert_allclose(it.results["dw"], expected["dw"], rtol=1e-4, atol=1e-4)


# ---- groups and strides ----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_any_groups_and_strides(data: st.DataObject) -> None:
    """Of one channel and of several, whatever windows see and leave out, also infinite numbers."""
    draw = data.draw
    size, stride, padding = (draw(st.tuples(st.integers(a, b), st.integers(a, b))) for a, b in ((1, 4), (1, 3), (0, 2)))
    height, width = (
        draw(st.integers(max(side - 2 * around, 1), 9)) for side, around in zip(size, padding, strict=True)
    )
    groups, channels, filters = draw(st.integers(1, 4)), draw(st.integers(1, 9)), draw(st.integers(1, 3))
    placed: dict[str, Any] = {"stride": stride, "padding": padding, "groups": groups}
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = rng.standard_normal((draw(st.integers(0, 9)), height, width, groups * channels))
    weight, bias = rng.standard_normal((*size, channels, groups * filters)), rng.standard_normal(groups * filters)
    bad = draw(st.sampled_from([None, None, np.inf, -np.inf, np.nan]))
    if bad is not None and x.size:
        array = draw(st.sampled_from([x, weight]))
        array.reshape(-1)[draw(st.integers(0, array.size - 1))] = bad
    backend, reference = (get_backend("cpu", "float64", fused=fused) for fused in (True, False))
    with backend.use():
        y = reference.conv2d(x, weight, bias, **placed)
        np.testing.assert_allclose(backend.conv2d(x, weight, bias, **placed), y, rtol=1e-9, atol=1e-9)
        dy = rng.standard_normal(y.shape)
        results = []
        for on in (backend, reference):
            sums, before = np.empty_like(bias), np.ones_like(weight)
            gradients: dict[str, Any] = {"bias_gradient": sums, "weight_gradient": before, "beta": 0.5, "alpha": 2.0}
            results.append(on.conv2d_backward(dy, dy, x, weight, **gradients, **placed))
        for found, expected in zip(*results, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


# ---- pooling ---------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    size=st.tuples(*[st.integers(1, 3)] * 2), more=st.tuples(*[st.integers(0, 1)] * 2), seed=st.integers(0, 2**32 - 1)
)
def test_pictures_with_gaps_between_their_channels(size: Any, more: Any, seed: int) -> None:
    """Their numbers come out as those of arrays without gaps, for windows that do not overlap."""
    rng = np.random.default_rng(seed)
    window: dict[str, Any] = {"size": size, "stride": (size[0] + more[0], size[1] + more[1])}

    def with_gaps(x: Array) -> Array:
        return np.repeat(x, 2, axis=-1)[..., ::2]

    backend = get_backend("cpu")
    x = rng.integers(-2, 3, (3, 7, 8, 4)).astype("f4")  # with many that are equal
    y = backend.max_pool2d(x, **window)
    np.testing.assert_array_equal(backend.max_pool2d(with_gaps(x), **window), y)
    dy = rng.standard_normal(y.shape).astype("f4")
    expected = backend.max_pool2d_backward(dy, x, y, **window)
    for of_dy, of_x, out in ((dy, with_gaps(x), None), (with_gaps(dy), x, None), (dy, x, with_gaps(x))):
        np.testing.assert_array_equal(backend.max_pool2d_backward(of_dy, of_x, y, out=out, **window), expected)


# ---- what is left to the specification -------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", sorted(ON_PICTURES))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_without_a_blas_that_can_be_called(monkeypatch: pytest.MonkeyPatch, operation: str, dtype: str) -> None:
    monkeypatch.setattr(module, "numpy_blas", lambda dtype: None)
    monkeypatch.setattr(module, "numpy_threads", lambda: None)
    backend = get_backend("cpu", dtype)
    assert isinstance(backend, NumpyBackend)
    with np.errstate(all="ignore"):
        for case in [*cases(operation, dtype, seed=3)][::3]:
            found = perform(backend, case, "plain")
            assert not compare(found, expected_of(formulas(backend), case)).complaint, case.name


@settings(deadline=None, max_examples=30)
@given(bad=st.sampled_from([np.inf, -np.inf, np.nan]), where=st.integers(0, 5 * 12 * 12 - 1), fused=st.booleans())
def test_an_infinite_number_stays_where_it_belongs(bad: float, where: int, fused: bool) -> None:
    """A pixel at the end of a row is in no window of the next one, a filter's weight in no window that is not there."""
    backend, reference = get_backend("cpu"), get_backend("cpu", fused=False)
    x, weight, dy = drawn(5, 12, 12, 8), drawn(3, 3, 8, 8), drawn(5, 10, 10, 8)
    if fused:
        x.reshape(-1, 8)[where, 3] = bad
    else:
        weight.reshape(-1)[where % weight.size] = bad
    with backend.use():
        found, expected = (b.conv2d_backward(dy, dy, x, weight) for b in (backend, reference))
        for one, other in zip(found, expected, strict=True):
            if one is not None:
                assert np.array_equal(np.isfinite(one), np.isfinite(other))
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
        y = backend.conv2d(x, weight)
        assert np.array_equal(np.isfinite(y), np.isfinite(reference.conv2d(x, weight)))


def test_an_activation_without_functions_for_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Activation("plain", lambda xp, z: z * z, lambda xp, y: 2.0 * y)
    monkeypatch.setitem(ACTIVATIONS, "plain", plain)
    x, weight, bias, dy = (RNG.standard_normal(shape) for shape in ((67, 9, 9, 8), (3, 3, 8, 8), (8,), (67, 7, 7, 8)))
    backend, reference = (get_backend("cpu", "float64", fused=fused) for fused in (True, False))
    y, expected = (b.conv2d(x, weight, bias, "plain") for b in (backend, reference))
    np.testing.assert_allclose(y, expected, rtol=1e-9, atol=1e-9)
    found, others = (b.conv2d_backward(dy, y, x, weight, "plain")[:3] for b in (backend, reference))
    for one, other in zip(found, others, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-9, atol=1e-9)
