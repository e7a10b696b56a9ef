"""Comparing backends step by step: what is right is no false alarm."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import recipes
import train
from backends import Backend, DeviceError, get_backend
from backends.activations import ACTIVATIONS, Activation
from backends.cpu.numpy_backend import NumpyBackend
from backends.updates import RULES, Rule
from nn import SGD, Context, Data, Dataset, Dropout, Layer, Linear, Optimizer, ReLU, Sigmoid, Tanh, compare_backends
from nn.optimizers import OPTIMIZERS
from nn.verify.lockstep import Side
from nn.verify.rounding import LayerNumbers, Rounding
from tests.helpers.backends import make_backend
from tests.helpers.compared import (
    DATA,
    EVERYTHING,
    TASKS,
    adagrad,
    adam,
    emulated,
    enlarge,
    making,
    momentum,
    of_shape,
    penalties,
    plant,
    rmsprop,
    slow_update,
)
from tests.helpers.emulated_cuda import HAS_COMPILER


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


#: Each step begins where all are, so that 200 of them are no more than other numbers than the first 40.
STEPS = [40, pytest.param(200, marks=pytest.mark.slow)]


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", [*LARGE, "ten-relu", "people", "zero-logistic"])
def test_the_steps_of_a_recipe_are_no_false_alarm(name: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
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
        settings.batch_size, shuffle=settings.shuffle, steps=steps,
    )  # fmt: skip
    assert result.agrees, str(result)
    assert result.steps == steps
    assert recipes.load(name).parts[0].settings.get("dtype", "float32") == "float32"


@pytest.mark.parametrize(
    ("loss", "dtype", "optimizer"),
    [
        *((loss, "float32", momentum) for loss in TASKS),
        *(("softmax_cross_entropy", "float32", optimizer) for optimizer in (adam, penalties, rmsprop, adagrad)),
        ("softmax_cross_entropy", "float64", adam),
    ],
)
def test_every_layer_loss_and_optimizer_is_no_false_alarm(
    loss: str, dtype: str, optimizer: Callable[[], Optimizer]
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


def test_every_backend_here_agrees(which_backend: tuple[str, bool]) -> None:
    if which_backend == ("cpu", False):
        pytest.skip("it is the one that the others are compared with")
    result = compare_backends(making(optimizer=momentum), [make_backend(("cpu", False)), make_backend(which_backend)],
                              DATA, 2)  # fmt: skip
    assert result.agrees, str(result)
