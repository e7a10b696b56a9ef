"""Comparing backends step by step: no false alarm, and every planted fault named by its step and tensor."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recipes
import train
from backends import Backend, DeviceError, get_backend
from backends.activations import ACTIVATIONS, Activation
from backends.cpu.numpy_backend import NumpyBackend
from backends.cuda.cupy_backend import CupyBackend
from backends.updates import RULES, Rule
from nn import (
    SGD,
    Adagrad,
    Adam,
    BatchNorm,
    BatchNorm2d,
    Comparison,
    Context,
    Conv2d,
    Data,
    Dataset,
    Dropout,
    Flatten,
    Layer,
    LayerNorm,
    Linear,
    Loss,
    MaxPool2d,
    Optimizer,
    ReLU,
    Reshape,
    RMSProp,
    Sequential,
    Sigmoid,
    Softmax,
    Tanh,
    Trainer,
    TrainingDiverged,
    compare_backends,
    load_data,
)
from nn.optimizers import OPTIMIZERS
from nn.verify.compare import curve_picture, idle_biases, named_backends, write_comparison
from nn.verify.lockstep import Side
from nn.verify.result import Finding, Largest
from nn.verify.rounding import LayerNumbers, Rounding
from tests.helpers.backends import make_backend
from tests.helpers.emulated_cuda import HAS_COMPILER, EmulatedCudaDevice, needs_compiler

DATA = load_data("digits", limit=150).train
EVERYTHING: list[Layer] = [
    Linear(64, 20), ReLU(), Dropout(0.2), Linear(20, 18), Tanh(), Flatten(), Linear(18, 17, bias=False), Sigmoid(),
    Sigmoid(), Linear(17, 10),
]  # fmt: skip
#: Losses with an end of the network and targets: in float64, so that pixels may be compared with outputs.
TASKS: dict[str, tuple[Layer, Any]] = {
    "softmax_cross_entropy": (Softmax(), DATA.y),
    "binary_cross_entropy": (Sigmoid(), DATA.features()[:, :10]),
    "mean_squared_error": (Softmax(), DATA.y),
}
Make = Callable[[Backend], Trainer]


def making(
    *layers: Layer, loss: str | Loss = "softmax_cross_entropy", optimizer: Callable[[], Optimizer] = SGD
) -> Make:
    chosen = layers or (Linear(64, 20), ReLU(), Dropout(0.2), Linear(20, 12), Sigmoid(), Linear(12, 10), Softmax())
    return lambda backend: Trainer(Sequential(*chosen, backend=backend, seed=5), loss, optimizer())


def momentum() -> Optimizer:
    return SGD(0.3, momentum=0.9, dampening=0.5, nesterov=True, weight_decay=1e-3)


def adam() -> Optimizer:
    return Adam(0.01, weight_decay=1e-2)


def penalties() -> Optimizer:
    return SGD(0.3, momentum=0.9, weight_decay=1e-2, decoupled=False, l1=1e-3)


def rmsprop() -> Optimizer:
    return RMSProp(0.001, momentum=0.5, centered=True, epsilon=1e-2, weight_decay=1e-2)


def adagrad() -> Optimizer:
    return Adagrad(0.01, lr_decay=0.1, initial_accumulator_value=0.1, weight_decay=1e-2, decoupled=False)


def emulated() -> Backend:
    if not HAS_COMPILER:
        pytest.skip("no g++ to compile the CUDA text for the CPU")
    return CupyBackend(EmulatedCudaDevice(max_threads=1))


# ---- no false alarm --------------------------------------------------------------------------------------------------


def made_up_mnist(*_: Any, limit: int | None = None, **__: Any) -> Data:
    """Rows of MNIST's shape: mostly black, each class a patch of bright pixels."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 500)
    x = rng.integers(0, 256, size=(500, 784)) * (rng.uniform(size=(500, 784)) < 0.15)
    for label in range(10):
        x[y == label, 70 * label : 70 * label + 60] |= 128
    rows = Dataset(x.astype(np.uint8), y, scale=1 / 255, image_shape=(28, 28))
    return Data("mnist", rows[:400][:limit], rows[400:])


LARGE = [pytest.param(name, marks=pytest.mark.slow) for name in ("momentum", "first-network")]


@pytest.mark.parametrize("name", [*LARGE, "ten-relu", "people", "zero-logistic"])
def test_200_steps_of_a_recipe_are_no_false_alarm(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nn.cli.rows.load_data", made_up_mnist)
    flags = ["--recipe", name, "--epochs", "200", "--limit", "150", "--quiet", "--device", "cpu"]
    held_out = ["--validation", "0.1"] if name == "ten-relu" else []  # it holds out more rows than there are here
    run = train.prepare(train.parse([*flags, *held_out])[0])
    settings = run.settings
    backends = {"cpu": get_backend("cpu"), "reference": get_backend("cpu", fused=False)}
    if name in ("people", "zero-logistic"):  # NumPy underneath, and slow: the fewest operations are enough
        backends["array_api_strict"] = get_backend("array_api_strict")
    if HAS_COMPILER and name in ("people", "ten-relu"):  # its loops are slow
        backends["emulated"] = emulated()
    with suppress(DeviceError):
        backends["torch"] = get_backend("torch")
    result = compare_backends(
        lambda backend: train.build_trainer(settings, run.training, backend, len(run.training)),
        backends, run.training, settings.epochs,
        settings.batch_size, shuffle=settings.shuffle,
    )  # fmt: skip
    assert result.agrees, str(result)
    assert result.steps == 200
    assert recipes.load(name).parts[0].settings.get("dtype", "float32") == "float32"


@pytest.mark.parametrize(
    ("loss", "dtype"), [*((loss, "float32") for loss in TASKS), ("softmax_cross_entropy", "float64")]
)
@pytest.mark.parametrize("optimizer", [momentum, adam, penalties, rmsprop, adagrad])
def test_every_layer_loss_and_optimizer_is_no_false_alarm(
    loss: str, optimizer: Callable[[], Optimizer], dtype: str
) -> None:
    end, targets = TASKS[loss]
    backends = {name: get_backend(name, dtype) for name in ("cpu", "array_api_strict:device1")}
    if HAS_COMPILER and dtype == "float32":
        backends["emulated"] = emulated()
    make = making(*EVERYTHING, end, loss=loss, optimizer=optimizer)
    result = compare_backends(make, backends, (DATA.x, targets), epochs=4)
    assert result.agrees, str(result)
    assert result.steps == 20
    # A result that is rounded once may be off by its whole bound, up here and down there. Nothing else comes near it.
    for record in result.curve:
        assert record["share"] < 0.7 or record["tensor"].startswith(("activation", "parameter")), record


def test_layers_and_rules_of_users_are_no_false_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    class Standardize(Layer):
        """y = x less the mean of its row: cancels most of what it is given."""

        def forward(self, x: Any, ctx: Context) -> Any:
            return x - ctx.backend.xp.mean(x, axis=1, keepdims=True)

        def backward(self, dy: Any, ctx: Context) -> Any:
            return dy - ctx.backend.xp.mean(dy, axis=1, keepdims=True)

    monkeypatch.setitem(RULES, "halved", Rule("halved", lambda xp, gradient, state, number: (0.5 * gradient, {})))
    monkeypatch.setitem(OPTIMIZERS, "halved", Optimizer)  # by being defined, the class enters; both leave afterwards

    @dataclass
    class Halved(Optimizer):
        rule = "halved"
        learning_rate: Any = 1.0

    make = making(Linear(64, 9, bias_init="normal:100"), Standardize(), Linear(9, 10), optimizer=Halved)
    assert compare_backends(make, ["cpu", "cpu/reference", "array_api_strict"], DATA, 3).agrees


def test_the_bound_of_a_rule_of_users_allows_for_one_that_is_not_elementwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though only the elements that differ are asked for: what they are computed from may not differ at all."""
    monkeypatch.setitem(RULES, "turned", Rule("turned", lambda xp, gradient, state, number: (gradient[::-1], {})))
    monkeypatch.setitem(OPTIMIZERS, "turned", Optimizer)

    @dataclass
    class Turned(Optimizer):
        rule = "turned"
        learning_rate: Any = 0.1

    before = {"parameter": np.zeros(3, "f4"), "gradient": np.array([3e6, 1.0, 2.0], "f4")}
    optimizer = making(Linear(2, 2), optimizer=Turned)(get_backend("cpu")).optimizer
    errors = Rounding(get_backend("cpu")).update(optimizer, before, 0, np.array([False, False, True]))
    # The last element moves by 0.1 * 3e6: a rounding of the rate, one of the product and one of the difference.
    assert 2.0**-24 * 3e5 < errors["parameter"][2] <= 2 * 3 * 2.0**-24 * 3e5 * 1.001


def register(monkeypatch: pytest.MonkeyPatch, activation: Activation) -> None:
    monkeypatch.setitem(ACTIVATIONS, activation.name, activation)


#: Written in z, with a branch in each and a slope of up to 3.
BENT = Activation(
    "bent",
    forward=lambda xp, z: xp.where(z > 0.0, 3.0 * z, xp.expm1(z)),
    derivative=lambda xp, z: xp.where(z > 0.0, 3.0 * xp.ones_like(z), xp.exp(z)),
    needs_z=True,
)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_activation_of_users_has_the_bound_of_its_formula(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, BENT)
    backends = {name: get_backend(name, dtype) for name in ("cpu", "array_api_strict")}
    if HAS_COMPILER and dtype == "float32":
        backends["emulated"] = emulated()
    make = making(Linear(64, 20, activation="bent"), Linear(20, 12, activation="bent"), Linear(12, 10), optimizer=adam)
    result = compare_backends(make, backends, DATA, epochs=4)
    assert result.agrees, str(result)
    scale = NumpyBackend.bias_activation

    def faulty(self: Any, z: Any, bias: Any, activation: str = "identity", **options: Any) -> Any:
        y = scale(self, z, bias, activation, **options)
        if activation == "bent":
            y *= y.dtype.type(1.0 + 1000.0 * np.finfo(dtype).eps)
        return y

    monkeypatch.setattr(NumpyBackend, "bias_activation", faulty)
    finding = compare_backends(make, [get_backend("array_api_strict", dtype), get_backend("cpu", dtype)], DATA).findings
    assert (finding["cpu"].step, finding["cpu"].tensor, finding["cpu"].position) == (1, "activation", "0")


def test_what_backward_keeps_of_forward_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, BENT)
    plant(monkeypatch, "matmul", enlarge, lambda a, b, **flags: b.shape == (20, 12) and not flags.get("transpose_a"))
    make = making(Linear(64, 20, activation="bent"), Linear(20, 12, activation="bent"), Linear(12, 10))
    finding = compare_backends(make, ["array_api_strict", "cpu"], DATA).findings["cpu"]
    assert (finding.position, finding.tensor) == ("1", "value before the activation")


def test_a_formula_of_users_without_a_bound_is_no_false_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing bounds a sine, so layers and rules with it get the rough bound, which finds what is far off."""
    register(monkeypatch, Activation("sine", lambda xp, z: xp.sin(z), lambda xp, z: xp.cos(z), needs_z=True))
    monkeypatch.setitem(RULES, "waves", Rule("waves", lambda xp, gradient, state, number: (xp.sin(gradient), {})))
    monkeypatch.setitem(OPTIMIZERS, "waves", Optimizer)

    @dataclass
    class Waves(Optimizer):
        rule = "waves"
        learning_rate: Any = 0.1

    make = making(Linear(64, 20, activation="sine"), Linear(20, 10), optimizer=Waves)
    result = compare_backends(make, ["array_api_strict", "cpu", "cpu/reference"], DATA, epochs=2)
    assert result.agrees, str(result)
    plant(monkeypatch, "update", slow_update)
    finding = compare_backends(make, ["array_api_strict", "cpu"], DATA).findings["cpu"]
    assert (finding.step, finding.phase) == (1, "update")


def test_an_update_of_users_is_no_false_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """An optimizer that updates otherwise than its rule says is not held to the bound of the rule."""
    monkeypatch.setitem(RULES, "clipped", RULES["sgd"])
    monkeypatch.setitem(OPTIMIZERS, "clipped", Optimizer)

    @dataclass
    class Clipped(SGD):
        rule = "clipped"

        def update_of(self, backend: Backend, parameters: Any, gradient: Any, *rest: Any, **options: Any) -> Any:
            update = super().update_of(backend, parameters, gradient, *rest, **options)

            def clipped(**numbers: Any) -> Any:
                terms = gradient * gradient
                total = backend.xp.sum(terms if backend.fused else backend.xp.flip(terms))
                gradient[...] = gradient * (100.0 / (1e-8 + total**0.5))
                return update(**numbers)

            return clipped

    result = compare_backends(making(optimizer=lambda: Clipped(0.001)), ["cpu", "cpu/reference"], DATA, epochs=4)
    assert result.agrees, str(result)


ELEMENTWISE: list[Layer] = [ReLU(), Sigmoid(), Tanh(), Dropout(0.2)]


@pytest.mark.parametrize("phase", ["forward", "backward"])
@pytest.mark.parametrize("layer", ELEMENTWISE, ids=repr)
def test_the_bound_of_an_element_is_that_of_its_own_numbers(layer: Layer, phase: str) -> None:
    """A large number beside a small one gives that no room."""
    given = np.array([[1e-3, 1e8]], "f4")
    tensor = "activation" if phase == "forward" else "gradient of the input"
    tensors = {"activation": np.array([[0.5, 0.5]], "f4"), "dropout mask": np.array([[1.25, 1.25]], "f4")}
    tensors.setdefault(tensor, given)
    numbers = LayerNumbers(layer, given, 1.0, lambda name: None, given, tensors)
    (small, large), *_ = Rounding(get_backend("cpu")).of_layer(numbers, phase, tensor)
    assert small < 1e-5
    assert large < 1e8 * 1e-5


def test_the_rough_bound_of_large_numbers_is_finite() -> None:
    """Their squares are beyond float32."""
    values = np.array([[3e25, 0.0]], "f4")
    bound = Rounding(get_backend("cpu")).unknown(values, values)
    assert 1e25 * 2.0**-24 < bound[0, 1] < bound[0, 0] < 1e25


def test_a_difference_where_nothing_can_be_rounded_is_infinitely_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first pixel is 0 in every row, so the gradient of its weights is 0 on every device. (Of two devices that do
    not silence NumPy.)"""
    assert not DATA.x[:, 0].any()
    is_weights, right = of_shape(32, 20, transpose_a=True), Backend.matmul

    def faulty(self: Backend, a: Any, b: Any, **options: Any) -> Any:
        result = right(self, a, b, **options)
        if self.device.spec.endswith("device1") and is_weights(a, b, **options):
            result[0, 0] += 1.0
        return result

    monkeypatch.setattr(Backend, "matmul", faulty)
    backends = [get_backend(name, "float64") for name in ("array_api_strict", "array_api_strict:device1")]
    finding = compare_backends(making(), backends, DATA).findings["array_api_strict:device1"]
    assert (finding.tensor, finding.index, finding.times) == ("gradient of 0.weight", (0, 0), math.inf)
    assert (finding.expected, finding.found, finding.count) == (0.0, 1.0, 1)


@pytest.mark.parametrize("optimizer", [momentum, adam, penalties, rmsprop, adagrad])
def test_a_compared_step_is_a_step_of_training(optimizer: Callable[[], Optimizer]) -> None:
    make = making(optimizer=optimizer)
    compared, trained = make(get_backend("cpu")), make(get_backend("cpu"))
    trained.fit(DATA, 1, 32)
    side = Side(compared, DATA, 32, shuffle=True)
    for where in side.schedule(1, 100):
        side.step(where)
    np.testing.assert_array_equal(compared.model.flat_parameters, trained.model.flat_parameters)
    for name, state in trained.optimizer.state.items():
        np.testing.assert_array_equal(compared.optimizer.state[name], state)
    assert (compared.model.step, compared.optimizer.steps) == (5, 5)


@pytest.mark.parametrize("n", [1, 10, 64, 100, 1000, 100_000])
@pytest.mark.parametrize("all_positive", [False, True])
def test_real_sums_err_less_than_the_bound_and_not_by_far(n: int, all_positive: bool) -> None:
    """One after the other, the worst order there is."""
    rng = np.random.default_rng(n)
    a, b = (rng.uniform(0 if all_positive else -1, 1, size=(n, 100)).astype("f4") for _ in range(2))
    products = a * b
    found = np.add.accumulate(products, axis=0)[-1]
    exact = (a.astype("f8") * b).sum(axis=0)
    (bound,) = Rounding(get_backend("cpu")).formulas.matmul(np.ones((1, n), "f4"), products)
    largest = (np.abs(found - exact) / bound.error[0]).max()
    assert 1e-4 < largest < 1.0


# ---- planted faults --------------------------------------------------------------------------------------------------


def plant(
    monkeypatch: pytest.MonkeyPatch, operation: str, fault: Callable[..., Any], when: Callable[..., bool] | None = None
) -> None:
    """After the true operation, let ``fault(result, *arguments)`` change what it wrote."""
    original = getattr(NumpyBackend, operation)

    def faulty(self: Any, *args: Any, **kwargs: Any) -> Any:
        arguments = [np.array(a) if isinstance(a, np.ndarray) else a for a in args]
        result = original(self, *args, **kwargs)
        if when is None or when(*args, **kwargs):
            fault(result, *arguments)
        return result

    monkeypatch.setattr(NumpyBackend, operation, faulty)


def negate(result: Any, *_: Any) -> None:
    result *= -1


def enlarge(result: Any, *_: Any) -> None:
    result *= result.dtype.type(1.01)


def of_shape(*shape: int, **flags: bool) -> Callable[..., bool]:
    """Whether a product is the one with an operand b and these flags."""
    return lambda a, b, **kwargs: b.shape == shape and all(kwargs.get(flag) for flag in flags)


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


def slow_update(result: Any, rule: str, params: Any, gradient: Any, state: Any) -> None:
    result[...] *= np.float32(1.001)


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


# ---- the result ------------------------------------------------------------------------------------------------------


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


def test_every_backend_here_agrees(which_backend: tuple[str, bool]) -> None:
    if which_backend == ("cpu", False):
        pytest.skip("it is the one that the others are compared with")
    result = compare_backends(making(optimizer=momentum), [make_backend(("cpu", False)), make_backend(which_backend)],
                              DATA, 2)  # fmt: skip
    assert result.agrees, str(result)
