"""What a comparison of backends says, shows and writes, and what cannot be compared."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends import Backend, get_backend
from backends.cpu.numpy_backend import NumpyBackend
from nn import (
    SGD,
    BatchNorm,
    BatchNorm2d,
    Comparison,
    Conv2d,
    Dropout,
    Flatten,
    Layer,
    LayerNorm,
    Linear,
    MaxPool2d,
    ReLU,
    Reshape,
    Sequential,
    Softmax,
    Tanh,
    Trainer,
    compare_backends,
)
from nn.verify.compare import curve_picture, idle_biases, named_backends, write_comparison
from nn.verify.result import Finding, Largest
from tests.helpers.compared import DATA, adam, making, momentum


@pytest.fixture(scope="module")
def compared() -> Comparison:
    return compare_backends(making(optimizer=momentum), ["cpu", "cpu/reference", "array_api_strict"], DATA, 6, steps=25)


def test_the_curve_has_a_record_for_each_step_and_device(compared: Comparison, tmp_path: Path) -> None:
    assert (compared.steps, len(compared.curve)) == (25, 50)
    assert write_comparison(compared, tmp_path, picture=True) == ["compare.jsonl", "compare.png"]
    records = [json.loads(line) for line in (tmp_path / "compare.jsonl").read_text().splitlines()]
    assert records == compared.curve
    assert [(r["step"], r["epoch"], r["device"]) for r in records[10:12]] == [
        (6, 2, "cpu/reference"), (6, 2, "array_api_strict")
    ]  # fmt: skip
    for record in records:
        assert 0.0 <= record["share"] < 1.0
        for name in ("loss", "gradient", "parameter"):
            assert 0.0 <= record[f"{name}_difference"] < 1e-3
    # Rounding grows: what differs by a few u after a step differs by more after 25.
    mine = [record["parameter_difference"] for record in records if record["device"] == "array_api_strict"]
    assert 0.0 < mine[0] < 1e-6
    assert max(mine[20:]) > mine[0]
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")
    assert [axes.get_title().partition(":")[0] for axes in curve_picture(compared).axes] == [
        "Loss", "Gradients", "Parameters"
    ]  # fmt: skip


def test_a_bias_before_a_batch_normalization_is_left_out_of_the_relative_differences() -> None:
    """Its true gradient is 0: what is computed is rounding, of which two devices have nothing in common."""
    layers = (
        Linear(64, 12), BatchNorm(12), ReLU(), Reshape(2, 2, 3), Conv2d(3, 4, 2), BatchNorm2d(4), Tanh(), Flatten(),
        Linear(4, 10), Softmax(),
    )  # fmt: skip
    result = compare_backends(making(*layers, optimizer=adam), ["cpu", "cpu/reference"], DATA, 2)
    assert result.agrees
    assert result.idle_biases == ["0.bias", "4.bias"]
    assert max(record["gradient_difference"] for record in result.curve) < 1e-3
    assert max(record["parameter_difference"] for record in result.curve) < 1e-3
    text = "without 0.bias, 4.bias: a batch normalization takes these biases away again, so that their true gradients"
    assert result.curve_text().splitlines()[-1].startswith(text)
    trainers = [making(*layers)(get_backend(*of)) for of in (("cpu", "float32"), ("cpu", "float32", False))]
    one, other = (trainer.gradients((DATA.features(), DATA.y)) for trainer in trainers)
    for name, gradient in one.items():  # as large as that is what was left out
        relative = np.abs(gradient - other[name]).max() / np.abs(gradient).max()
        assert (relative > 0.01) == (name in result.idle_biases), name


@pytest.mark.parametrize(
    ("layers", "idle"),
    [
        ([Linear(4, 3), BatchNorm(3)], ["0.bias"]),
        ([Linear(4, 3, bias=False), BatchNorm(3)], []),
        ([Linear(4, 3, activation="tanh"), BatchNorm(3)], []),
        ([Linear(4, 3), ReLU(), BatchNorm(3)], []),
        ([Linear(4, 3), Dropout(0.5), BatchNorm(3)], []),
        ([Linear(4, 3), LayerNorm(3)], []),
        ([Linear(4, 3), LayerNorm(3), BatchNorm(3), BatchNorm(3, affine=False)], ["1.bias", "2.bias"]),
        ([Conv2d(1, 2, 3), Flatten(), BatchNorm(8)], ["0.bias"]),
        ([Conv2d(1, 2, 3), MaxPool2d(2), BatchNorm2d(2)], []),
    ],
)
def test_which_biases_have_no_gradient(layers: list[Layer], idle: list[str]) -> None:
    assert idle_biases(layers) == idle


def test_the_losses_of_the_curve_are_those_of_training(compared: Comparison) -> None:
    trainer = making(optimizer=momentum)(get_backend("cpu"))
    trainer.fit(DATA, 1, 32)
    sizes = [32, 32, 32, 32, 22]
    losses = [record["loss"] for record in compared.curve if record["device"] == "array_api_strict"][:5]
    mean = sum(loss * size for loss, size in zip(losses, sizes, strict=True)) / 150
    assert mean == pytest.approx(trainer.history[0]["loss"], rel=1e-12)


def test_numbers_that_are_not_finite_are_null_in_the_file() -> None:
    comparison = Comparison(["a", "b"], curve=[{"step": 1, "device": "b", "share": math.inf, "loss": math.nan}])
    assert json.loads(comparison.to_json_lines()) == {"step": 1, "device": "b", "share": None, "loss": None}


def test_a_device_that_is_equal_says_so() -> None:
    result = compare_backends(making(Flatten(), Linear(64, 10)), {"a": get_backend("cpu"), "b": NumpyBackend(
        get_backend("cpu").device)}, DATA)  # fmt: skip
    assert "b  equal bit for bit in 5 steps" in str(result)
    assert "by itself, relative difference from a" in result.curve_text()


def a_finding(**changed: Any) -> Finding:
    given: dict[str, Any] = {
        "device": "gpu", "first": "cpu", "step": 3, "epoch": 2, "batch": 1, "phase": "backward", "position": "5",
        "layer": "Linear(3, 4)", "tensor": "gradient of 5.weight", "shape": (30, 40), "index": (1, 2), "expected": 0.5,
        "found": 0.75, "allowed": 0.01, "times": 25.04, "count": 1100, "region": "[:, :]",
    }  # fmt: skip
    return Finding(**{**given, **changed})


def test_what_is_said_of_a_difference() -> None:
    assert str(a_finding()).splitlines() == [
        "differs from cpu beyond rounding, first in step 3 (epoch 2, batch 1), backward",
        "layer    5: Linear(3, 4)",
        "tensor   gradient of 5.weight, of shape (30, 40)",
        "largest  at [1, 2]: 0.5 on cpu, 0.75 on gpu; 25 times what rounding explains, 0.01",
        "differs  in 1,100 of 1,200 elements, within [:, :]",
    ]
    at_start = a_finding(step=0, position="", phase="start", shape=(1,), allowed=0.0)
    assert str(at_start).splitlines() == [
        "differs from cpu beyond rounding, first in the initial values, start",
        "tensor   gradient of 5.weight, of shape (1,)",
        "largest  0.5 on cpu, 0.75 on gpu; must be equal",
    ]
    assert str(a_finding(note="the dtype: float32 and float64")).splitlines()[2:] == [
        "tensor   gradient of 5.weight, of shape (30, 40)",
        "differs  the dtype: float32 and float64",
    ]


def test_what_is_said_of_a_comparison() -> None:
    largest = {"b": Largest(0.123, "loss", 7), "other": Largest()}
    assert str(Comparison(["a", "b", "other"], 1234, largest=largest)).splitlines() == [
        "b      no difference beyond rounding in 1,234 steps; largest: 0.12 of what rounding explains, loss in step 7",
        "other  equal bit for bit in 1,234 steps",
    ]
    one = str(Comparison(["a", "b", "other"], 1, largest=largest)).splitlines()
    assert [line.partition(" in 1 ")[2] for line in one] == [
        "step; largest: 0.12 of what rounding explains, loss in step 7", "step"
    ]  # fmt: skip
    found = {"b": a_finding(), "other": a_finding(device="other")}
    lines = str(Comparison(["a", "b", "other"], 3, found, largest)).splitlines()
    assert lines[0] == "b      differs from cpu beyond rounding, first in step 3 (epoch 2, batch 1), backward"
    assert lines[1] == "       layer    5: Linear(3, 4)"
    assert lines[-1] == "all of them differ from a in the same tensor: look at a first"
    assert len(lines) == 11
    for other in ({"b": a_finding()}, {**found, "other": a_finding(step=4)}):
        assert "look at" not in str(Comparison(["a", "b", "other"], 3, other, largest))
    assert "look at" not in str(Comparison(["a", "b"], 3, {"b": a_finding()}, largest))


def test_the_table_of_the_curve_shows_some_steps_and_the_last() -> None:
    numbers = {"loss_difference": 1e-7, "gradient_difference": 2.54e-6, "parameter_difference": 0.0}
    curve = [{"step": step, "device": device, **numbers} for step in range(1, 1013) for device in ("b", "c")]
    lines = Comparison(["a", "b", "c"], 1012, curve=curve).curve_text().splitlines()
    assert lines[0] == "b by itself, relative difference from a"
    assert lines[1] == "    step        loss   gradients  parameters"
    assert lines[2] == "       1     1.0e-07     2.5e-06     0.0e+00"
    shown = [int(line.split()[0].replace(",", "")) for line in lines[2:13]]
    assert shown == [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 1012]
    assert lines[12].startswith("   1,012  ")
    assert lines[13] == "c by itself, relative difference from a"
    assert len(lines) == 26


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        (["cpu"], "two devices or more"),
        ([], "two devices or more"),
        (["cpu", "cpu"], "'cpu' is the same as 'cpu'"),
        (["cpu", "numpy"], "'numpy' is the same as 'cpu'"),
        (["array_api_strict", "array_api_strict/reference"], "is the same as"),
        (["cpu", "cpu/fast"], "after a slash only `reference`"),
        (["cpu", "nonsense"], "unknown device 'nonsense'; known are auto, cpu, "),
        (["cpu", "cuda:99"], "cuda:99: "),
    ],
)
def test_devices_that_cannot_be_compared_are_refused(devices: list[str | Backend], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare_backends(making(), devices, DATA)


def test_backends_of_two_dtypes_are_refused() -> None:
    with pytest.raises(ValueError, match="cpu computes in float32, but array_api_strict in float64"):
        named_backends([get_backend("cpu"), get_backend("array_api_strict", "float64")])


def test_a_factory_must_give_the_same_training() -> None:
    seeds = iter(range(10))
    with pytest.raises(ValueError, match="the seed on cpu/reference is another"):
        compare_backends(
            lambda backend: Trainer(Sequential(Linear(64, 10), backend=backend, seed=next(seeds))),
            ["cpu", "cpu/reference"], DATA,
        )  # fmt: skip
    with pytest.raises(ValueError, match="the network on cpu/reference is another"):
        compare_backends(
            lambda backend: making(Linear(64, 10, bias=backend.fused))(backend), ["cpu", "cpu/reference"], DATA
        )
    losses = {True: "softmax_cross_entropy", False: "mean_squared_error"}
    with pytest.raises(ValueError, match="the loss on cpu/reference is another"):
        compare_backends(
            lambda backend: making(Linear(64, 10), loss=losses[backend.fused])(backend), ["cpu", "cpu/reference"], DATA
        )
    rates = iter((0.1, 0.2, 0.3))
    with pytest.raises(ValueError, match="the optimizer on cpu/reference is another"):
        compare_backends(making(optimizer=lambda: SGD(next(rates))), ["cpu", "cpu/reference"], DATA)
