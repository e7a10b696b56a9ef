"""Normalization of many rows through NumPy: long rows, what is left over, threads, recorded steps and memory."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends import Backend, StepNumbers, get_backend
from backends.cpu.workers import Parts, Work
from tests.helpers.blas import with_threads

NUMBERS = StepNumbers(0, 0, 1, 0.5)


class Normalized:
    """Columns normalized in training and in evaluation, and the chain rule, with an array for each result."""

    def __init__(self, m: int, n: int, seed: int = 0, dtype: str = "float32", affine: bool = True) -> None:
        rng = np.random.default_rng(seed)

        def drawn(*shape: int) -> Any:
            return rng.standard_normal(shape).astype(dtype)

        self.x, self.dy = 3.0 + drawn(m, n), drawn(m, n)
        self.weight, self.bias = (drawn(n) if affine else None for _ in range(2))
        self.before = drawn(n), np.abs(drawn(n))
        self.running = {"mean": drawn(n), "variance": drawn(n)}
        self.results = {name: np.zeros((m, n), dtype) for name in ("y", "standard", "dx", "by")}
        self.results |= {name: np.zeros(n, dtype) for name in ("inverse", "bias", "gain")} | self.running

    def __call__(self, backend: Backend) -> None:
        it = self.results
        np.copyto(self.running["mean"], self.before[0])
        np.copyto(self.running["variance"], self.before[1])
        self.step(backend)
        it["by"] = backend.normalize_by(self.x, *self.before, self.weight, self.bias, epsilon=1e-5, out=it["by"])

    def step(self, backend: Backend) -> None:
        it = self.results
        backend.normalize(
            self.x, self.weight, self.bias, self.running, axis=0, epsilon=1e-5, momentum=0.1,
            normalized=it["standard"], inverse=it["inverse"], out=it["y"],
        )  # fmt: skip
        backend.normalize_backward(
            self.dy, it["standard"], it["inverse"], self.weight, axis=0, bias_gradient=it["bias"],
            gain_gradient=it["gain"], out=it["dx"],
        )  # fmt: skip

    def bits(self) -> dict[str, bytes]:
        return {name: x.tobytes() for name, x in self.results.items()}


@settings(deadline=None, max_examples=40)
@given(m=st.integers(2, 3000), n=st.integers(1, 700), seed=st.integers(0, 2**32 - 1), affine=st.booleans())
def test_any_number_of_rows_and_columns(m: int, n: int, seed: int, affine: bool) -> None:
    if m * n > 200_000:
        m = max(2, 200_000 // n)
    it, other = (Normalized(m, n, seed, "float64", affine) for _ in range(2))
    it(get_backend("cpu", "float64"))
    other(get_backend("cpu", "float64", fused=False))
    for name, found in it.results.items():
        np.testing.assert_allclose(found, other.results[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_results_may_take_the_place_of_what_is_read() -> None:
    it, other = Normalized(5003, 16), Normalized(5003, 16)
    backend = get_backend("cpu")
    it(backend)
    other.results["y"], other.results["dx"] = other.x.copy(), other.dy.copy()
    other.x, other.dy = other.results["y"], other.results["dx"]
    other.step(backend)
    for name in ("y", "standard", "dx", "inverse", "bias", "gain"):
        np.testing.assert_array_equal(it.results[name], other.results[name], err_msg=name)
    by = it.x.copy()
    backend.normalize_by(by, *it.before, it.weight, it.bias, epsilon=1e-5, out=by)
    np.testing.assert_array_equal(by, it.results["by"])


def test_no_bit_depends_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    it = Normalized(90_001, 16)
    it(get_backend("cpu"))
    expected = it.bits()
    used: set[int] = set()
    run = Parts.run

    def noted(self: Parts, work: Work, workers: int) -> None:
        used.add(workers)
        run(self, work, workers)

    monkeypatch.setattr(Parts, "run", noted)
    for number in (2, 5):
        backend, _ = with_threads(monkeypatch, number)
        for _ in range(2):
            for x in it.results.values():
                x.fill(np.nan)
            it(backend)
            assert it.bits() == expected
    assert max(used) == 5


def test_a_recorded_step_is_the_eager_one_and_takes_no_memory() -> None:
    backend, it, other = get_backend("cpu"), Normalized(40_003, 16), Normalized(40_003, 16)
    recorded = backend.record(lambda numbers, count: it.step(backend))
    for turn in range(3):
        tracemalloc.start()
        recorded(NUMBERS, 1)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        other.step(backend)
        assert it.bits() == other.bits()
        assert turn == 0 or peak < 60_000  # an array has 2,560,192 bytes, a block over 300,000
        for one in (it, other):
            one.x[...] = np.random.default_rng(turn).standard_normal(one.x.shape)
