"""What rounding explains is no more than rounding does: an error three times as large as it can be is found.

How large it can be is worked out here by hand, apart from ``backends.check``, with the classical bounds (Higham,
"Accuracy and stability of numerical algorithms", 2002, sections 2.2 and 3.1): in each of two backends a sum of K
products errs by at most K u sum |a b|, one operation by u of its result, exp and log by 4 units in the last place, 8 u;
u = 2**-24 in float32. So bounds that became three times as wide, for whatever tensor, are noticed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from backends.cpu.numpy_backend import NumpyBackend
from nn import SGD, Dataset, Linear, Sequential, Softmax, Trainer, compare_backends

U = 2.0**-24
FUNCTION = 8 * U
ROWS, COLUMNS, HIDDEN, CLASSES = 24, 20, 12, 5
RNG = np.random.default_rng(0)
DATA = Dataset(RNG.normal(size=(ROWS, COLUMNS)).astype("f4"), RNG.integers(0, CLASSES, ROWS))
SETTINGS: dict[str, Any] = {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1}


def make(backend: Any) -> Trainer:
    model = Sequential(Linear(COLUMNS, HIDDEN), Linear(HIDDEN, CLASSES), Softmax(), backend=backend, seed=1)
    return Trainer(model, optimizer=SGD(0.5, **SETTINGS))


def product_error(a: np.ndarray, b: np.ndarray, transpose_a: bool = False, transpose_b: bool = False) -> np.ndarray:
    """By how much two backends may differ in x W + b or in op(a) op(b)."""
    a, b = np.abs(a.T if transpose_a else a), np.abs(b.T if transpose_b else b)
    bias = 0 if transpose_a or transpose_b else 1
    error: np.ndarray = 2 * (a.shape[1] + bias) * U * (a @ b)
    return error


def loss_error(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For the sum of the losses and for the gradient of their mean."""
    m, n = logits.shape
    s = logits - logits.max(axis=1, keepdims=True)
    p = np.exp(s) / np.exp(s).sum(axis=1, keepdims=True)
    hit = labels[:, None] == np.arange(n)
    # An error in an exponent is a relative one of exp; a sum of n of these, a logarithm, a difference.
    sizes = (p * np.abs(s)).sum(axis=1)
    normalizer = n * U + FUNCTION + U * sizes
    losses = np.log(np.exp(s).sum(axis=1)) - s[hit]
    of_loss = normalizer + FUNCTION * np.log(np.exp(s).sum(axis=1)) + U * np.abs(s[hit]) + U * losses
    of_p = p * (FUNCTION + U * np.abs(s) + normalizer[:, None] + U)
    return 2 * of_loss.sum(), 2 * (of_p + 3 * U * np.abs(p - hit)) / m


#: By the tensor: the operation, the shape of the operand b and the flags by which its call is known, for products.
PRODUCTS = {
    "activation": ((COLUMNS, HIDDEN), {}),
    "gradient of 1.weight": ((ROWS, CLASSES), {"transpose_a": True}),
    "gradient of 0.weight": ((ROWS, HIDDEN), {"transpose_a": True}),
    "gradient of the input": ((HIDDEN, CLASSES), {"transpose_b": True}),
}


def plant_in_product(monkeypatch: pytest.MonkeyPatch, tensor: str, times: float) -> None:
    shape, flags = PRODUCTS[tensor]
    matmul = NumpyBackend.matmul

    def faulty(self: Any, a: Any, b: Any, **options: Any) -> Any:
        given = {flag: options[flag] for flag in ("transpose_a", "transpose_b") if options.get(flag)}
        error = product_error(a, b, **given)
        result = matmul(self, a, b, **options)
        if (b.shape, given) == (shape, flags):
            result[3, 2] += times * error[3, 2]
        return result

    monkeypatch.setattr(NumpyBackend, "matmul", faulty)


def plant_in_bias_gradient(monkeypatch: pytest.MonkeyPatch, tensor: str, times: float) -> None:
    backward = NumpyBackend.bias_activation_backward

    def faulty(self: Any, dy: Any, *arguments: Any, **options: Any) -> Any:
        error = 2 * ROWS * U * np.abs(dy).sum(axis=0)
        dz, gradient = backward(self, dy, *arguments, **options)
        if gradient is not None and gradient.shape == (CLASSES,):
            gradient[2] += times * error[2]
        return dz, gradient

    monkeypatch.setattr(NumpyBackend, "bias_activation_backward", faulty)


def plant_in_loss(monkeypatch: pytest.MonkeyPatch, tensor: str, times: float) -> None:
    entropy = NumpyBackend.softmax_cross_entropy

    def faulty(self: Any, logits: Any, labels: Any, **options: Any) -> Any:
        of_loss, of_gradient = loss_error(np.array(logits), labels)
        totals, gradient = entropy(self, logits, labels, **options)
        if tensor == "loss":
            totals[0] += times * of_loss
        else:
            assert gradient is not None
            gradient[3, 2] += times * of_gradient[3, 2]
        return totals, gradient

    monkeypatch.setattr(NumpyBackend, "softmax_cross_entropy", faulty)


def plant_in_update(monkeypatch: pytest.MonkeyPatch, tensor: str, times: float) -> None:
    update = NumpyBackend.update

    def faulty(self: Any, rule: str, params: Any, gradient: Any, state: Any, **options: Any) -> Any:
        momentum, dampening, decay = (SETTINGS[name] for name in ("momentum", "dampening", "weight_decay"))
        p, g, v = (np.abs(np.array(x)) for x in (params, gradient, state["velocity"]))
        of_velocity = 3 * U * (momentum * v + (1 - dampening) * g)  # two rounded factors and products, a sum
        update(self, rule, params, gradient, state, **options)
        velocity, decayed = np.abs(state["velocity"]), 0.5 * decay * p
        if tensor.startswith("velocity"):
            state["velocity"][7] += times * 2 * of_velocity[7]
        else:
            of_step = 0.5 * of_velocity + U * 0.5 * velocity + 3 * U * decayed + U * (0.5 * velocity + decayed)
            params[7] += times * 2 * (of_step[7] + U * np.abs(params[7]))
        return params

    monkeypatch.setattr(NumpyBackend, "update", faulty)


PLANTS: dict[str, Callable[[pytest.MonkeyPatch, str, float], None]] = {
    **dict.fromkeys(PRODUCTS, plant_in_product),
    "gradient of 1.bias": plant_in_bias_gradient,
    **dict.fromkeys(("loss", "gradient of the outputs"), plant_in_loss),
    **dict.fromkeys(("velocity 0.weight", "parameter 0.weight"), plant_in_update),
}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("tensor", PLANTS)
def test_three_times_what_rounding_can_do_is_found(tensor: str, sign: int, monkeypatch: pytest.MonkeyPatch) -> None:
    PLANTS[tensor](monkeypatch, tensor, 3.0 * sign)
    result = compare_backends(make, ["cpu/reference", "cpu"], DATA, batch_size=ROWS)
    assert not result.agrees
    finding = result.findings["cpu"]
    assert (finding.step, finding.tensor) == (1, tensor)
    assert finding.count == 1


@pytest.mark.parametrize("tensor", PLANTS)
def test_a_tenth_of_what_rounding_can_do_is_none(tensor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PLANTS[tensor](monkeypatch, tensor, 0.1)
    result = compare_backends(make, ["cpu/reference", "cpu"], DATA, batch_size=ROWS)
    assert result.agrees, str(result)
    assert result.largest["cpu"].share > 0.03
