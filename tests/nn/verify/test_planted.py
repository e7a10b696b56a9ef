"""Comparing backends step by step: every planted fault is named by its step and tensor."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from backends import Backend, get_backend
from backends.cpu.numpy_backend import NumpyBackend
from backends.cuda.cupy_backend import CupyBackend
from nn import SGD, Linear, Trainer, TrainingDiverged, compare_backends
from tests.helpers.compared import DATA, emulated, enlarge, making, momentum, of_shape, plant, slow_update
from tests.helpers.emulated_cuda import needs_compiler


def negate(result: Any, *_: Any) -> None:
    result *= -1


def forget_last_row(result: Any, a: Any, b: Any) -> None:
    result[...] = a[:-1].T @ b[:-1]


def forget_half_of_the_bias_gradient(result: Any, dy: Any, *_: Any) -> None:
    dz, bias_gradient = result
    if bias_gradient is not None and len(bias_gradient) == 12:
        bias_gradient[...] = dz[::2].sum(axis=0)


def forget_last_row_of_batch(result: Any, rows: Any, *_: Any) -> None:
    if result.ndim == 2:
        result[-1] = 0


def flip_one(result: Any, *_: Any) -> None:
    result[3, 5] = 1.25 - result[3, 5]


def wrong_slope(result: Any, dy: Any, y: Any, activation: str = "identity") -> None:
    if activation == "sigmoid":
        result[0][...] = dy * y * y


def of_first(result: Any, *_: Any) -> None:
    result[0][0] *= 1.001


def of_second(result: Any, *_: Any) -> None:
    if result[1] is not None:
        result[1][...] *= 1.001


def long_velocity(result: Any, rule: str, params: Any, gradient: Any, state: Any) -> None:
    for velocity in state.values():
        velocity[...] *= np.float32(1.001)


FAULTS: dict[str, tuple[str, Callable[..., Any], Callable[..., bool] | None, tuple[str, str, str]]] = {
    "the sign of a weight's gradient": (
        "matmul", negate, of_shape(32, 12, transpose_a=True), ("backward", "3", "gradient of 3.weight")
    ),
    "a gradient 1 % too long": (
        "matmul", enlarge, of_shape(32, 20, transpose_a=True), ("backward", "0", "gradient of 0.weight")
    ),
    "the last row of a batch forgotten in a sum": (
        "matmul", forget_last_row, of_shape(32, 10, transpose_a=True), ("backward", "5", "gradient of 5.weight")
    ),
    "the gradient of an input": (
        "matmul", enlarge, of_shape(12, 10, transpose_b=True), ("backward", "5", "gradient of the input")
    ),
    "an activation": ("bias_activation", enlarge, lambda z, *_, **__: z.shape[1] == 12, ("forward", "3", "activation")),
    "the slope of an activation": (
        "bias_activation_backward", wrong_slope, None, ("backward", "3", "gradient before the activation")
    ),
    "a bias gradient": (
        "bias_activation_backward", forget_half_of_the_bias_gradient, None, ("backward", "3", "gradient of 3.bias")
    ),
    "the last row of a batch": ("take_rows", forget_last_row_of_batch, None, ("batch", "", "batch")),
    "one element of a mask": ("dropout_mask", flip_one, None, ("forward", "2", "dropout mask")),
    "a loss": ("softmax_cross_entropy", of_first, None, ("loss", "", "loss")),
    "the gradient of a loss": ("softmax_cross_entropy", of_second, None, ("loss", "", "gradient of the outputs")),
    "an update": ("update", slow_update, None, ("update", "0", "parameter 0.weight")),
    "a velocity": ("update", long_velocity, None, ("update", "0", "velocity 0.weight")),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named_by_its_step_and_tensor(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    operation, change, when, expected = FAULTS[fault]
    plant(monkeypatch, operation, change, when)
    result = compare_backends(making(optimizer=momentum), ["array_api_strict", "cpu"], DATA, steps=20)
    finding = result.findings["cpu"]
    assert (finding.phase, finding.position, finding.tensor) == expected
    assert (finding.step, finding.epoch, finding.batch, result.steps) == (1, 1, 1, 1)
    assert not result.agrees
    assert finding.times > 2.0


def test_a_fault_that_starts_later_is_named_by_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    updates = 0

    def count(*_: Any) -> None:
        nonlocal updates
        updates += 1

    plant(monkeypatch, "update", count)
    seventh = of_shape(32, 12, transpose_a=True)
    # One step in lockstep and one by itself: twelve updates come before the seventh step.
    plant(monkeypatch, "matmul", negate, lambda a, b, **kwargs: updates >= 12 and seventh(a, b, **kwargs))
    result = compare_backends(making(), ["cpu/reference", "cpu"], DATA, epochs=3)
    finding = result.findings["cpu"]
    assert (finding.step, finding.epoch, finding.batch, finding.tensor) == (7, 2, 2, "gradient of 3.weight")
    assert finding.layer == "Linear(20, 12, activation='sigmoid')"
    assert finding.found == pytest.approx(-finding.expected, rel=1e-4)
    assert finding.times == pytest.approx(abs(finding.found - finding.expected) / finding.allowed, rel=1e-3)
    assert (finding.shape, finding.region) == ((20, 12), "[:, :]")
    assert 200 < finding.count <= 240
    text = str(result)
    assert "differs from cpu/reference beyond rounding, first in step 7 (epoch 2, batch 2), backward" in text
    assert "layer    3: Linear(20, 12, activation='sigmoid')" in text
    assert "gradient of 3.weight, of shape (20, 12)" in text
    assert f"at {list(finding.index)}: {finding.expected!r} on cpu/reference, {finding.found!r} on cpu" in text
    # The curve of the free runs jumps in that step, and not before.
    gradients = [record["gradient_difference"] for record in result.curve]
    assert max(gradients[:6]) < 1e-4 < 0.5 < gradients[6]
    assert [record["share"] < 1.0 for record in result.curve] == [True] * 6 + [False]


def test_one_row_is_named_as_the_region(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "take_rows", forget_last_row_of_batch)
    finding = compare_backends(making(), ["cpu/reference", "cpu"], DATA).findings["cpu"]
    assert finding.region.startswith("[31, ")
    assert finding.index[0] == 31
    assert (finding.allowed, finding.times) == (0.0, math.inf)
    assert "must be equal" in str(finding)


def test_three_devices_and_a_wrong_first_one(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "matmul", negate, of_shape(32, 12, transpose_a=True))
    wrong = compare_backends(making(), ["array_api_strict", "cpu", "cpu/reference"], DATA, 2, steps=8)
    assert list(wrong.findings) == ["cpu"]
    assert wrong.steps == 8  # the other goes on
    assert "cpu/reference     equal bit for bit in 8 steps" in str(wrong)
    first_wrong = compare_backends(making(), ["cpu", "array_api_strict", "cpu/reference"], DATA, steps=8)
    assert list(first_wrong.findings) == ["array_api_strict", "cpu/reference"]
    assert str(first_wrong).endswith("all of them differ from cpu in the same tensor: look at cpu first")


def test_other_initial_values_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(backend: Backend) -> Trainer:
        trainer = making()(backend)
        if not backend.fused:
            trainer.model.parameters["3.bias"][1] = 1e-30
        return trainer

    finding = compare_backends(make, ["cpu", "cpu/reference"], DATA).findings["cpu/reference"]
    assert (finding.step, finding.phase, finding.tensor, finding.index) == (0, "start", "parameter 3.bias", (1,))
    assert "the initial values" in str(finding)


def test_nan_on_one_side_is_a_difference_and_on_both_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(result: Any, *_: Any) -> None:
        result[1, 2] = np.nan

    plant(monkeypatch, "matmul", spoil, of_shape(32, 12, transpose_a=True))
    finding = compare_backends(making(), ["cpu/reference", "cpu"], DATA).findings["cpu"]
    assert (finding.index, finding.times, finding.tensor) == ((1, 2), math.inf, "gradient of 3.weight")
    diverging = making(Linear(64, 10), optimizer=lambda: SGD(1e38))
    with np.errstate(all="ignore"), pytest.raises(TrainingDiverged, match="without a difference beyond rounding"):
        compare_backends(diverging, ["cpu/reference", "array_api_strict"], DATA)


def test_another_shape_or_dtype_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NumpyBackend, "multiply", lambda self, a, b, out=None: a.astype("f8") * b)
    finding = compare_backends(making(), ["cpu/reference", "cpu"], DATA).findings["cpu"]
    assert (finding.position, finding.tensor) == ("2", "activation")
    assert finding.note == "the dtype: float32 and float64"
    assert finding.note in str(finding)


@needs_compiler
def test_a_fault_in_a_cuda_operation_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CupyBackend, "softmax_cross_entropy", wrong_in_one_row(CupyBackend.softmax_cross_entropy))
    result = compare_backends(making(), {"cpu": get_backend("cpu"), "gpu": emulated()}, DATA)
    finding = result.findings["gpu"]
    assert (finding.step, finding.tensor, finding.region) == (1, "gradient of the outputs", "[7, :]")


def wrong_in_one_row(operation: Callable[..., Any]) -> Callable[..., Any]:
    def faulty(*args: Any, **kwargs: Any) -> Any:
        totals, gradient = operation(*args, **kwargs)
        gradient[7] *= -1
        return totals, gradient

    return faulty
