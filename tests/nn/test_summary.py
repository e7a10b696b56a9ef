"""The summary of a network: its numbers are those of the arrays and of the products that a step really makes."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import pytest

from backends import get_backend
from backends.cpu.numpy_backend import NumpyBackend
from nn import SGD, Adam, Conv2d, Dropout, Flatten, Linear, ReLU, Reshape, Sequential, Softmax, Tanh, Trainer
from nn.layers import Context, Layer

TEXT = """\
   layer              output  parameters  FLOPs per step
--------------------------------------------------------
0  Linear(784, 512)      512     401,920           206 M
1  ReLU()                512           0               0
2  Dropout(rate=0.2)     512           0               0
3  Linear(512, 10)        10       5,130          3.93 M
4  Softmax()              10           0               0
--------------------------------------------------------
   in all                        407,050           209 M

a step on 128 rows in float32: 209 M FLOPs, 104 M of them forward (matrix products, 2 for a multiply-add)
memory: parameters 1.55 MiB, gradients 1.55 MiB, optimizer (Adam) 3.11 MiB, \
rows, outputs and their gradients 1.79 MiB; 8 MiB in all"""


def test_it_prints_as_a_table() -> None:
    model = Sequential(Linear(784, 512), ReLU(), Dropout(0.2), Linear(512, 10), Softmax(), backend="cpu")
    summary = model.summary(128, "adam")
    assert str(summary) == repr(summary) == TEXT
    assert str(Trainer(model, optimizer=Adam()).summary(128)) == TEXT


class Counting(NumpyBackend):
    """Counts the multiply-adds of its products."""

    def __init__(self) -> None:
        super().__init__(get_backend("cpu").device)
        self.made = 0

    def matmul(self, a: Any, b: Any, **options: Any) -> Any:
        rows, columns = (a.shape[::-1] if options.get("transpose_a") else a.shape), b.shape
        self.made += prod(rows) * (columns[0] if options.get("transpose_b") else columns[1])
        return super().matmul(a, b, **options)


@dataclass(frozen=True, repr=False)
class Twice(Layer):
    """y = (x W) W: one matrix, two products."""

    size: int

    def parameters(self) -> dict[str, Any]:
        return {"weight": ((self.size, self.size), lambda shape, generator: np.ones(shape))}

    def multiply_adds(self, shape: Any) -> int:
        return 2 * self.size**2

    def input_shape(self) -> Any:
        return (self.size,)

    def forward(self, x: Any, ctx: Context) -> Any:
        w = ctx.parameters["weight"]
        first = ctx.backend.matmul(x, w)
        ctx.saved = x, first
        return ctx.backend.matmul(first, w)

    def backward(self, dy: Any, ctx: Context) -> Any:
        (x, first), w = ctx.saved, ctx.parameters["weight"]
        backend, gradient = ctx.backend, ctx.gradients["weight"]
        dfirst = backend.matmul(dy, w, transpose_b=True)
        gradient[...] = backend.matmul(first, dy, transpose_a=True) + backend.matmul(x, dfirst, transpose_a=True)
        return backend.matmul(dfirst, w, transpose_b=True) if ctx.needs_dx else None


NETWORKS: dict[str, list[Layer]] = {
    "one layer": [Linear(6, 3), Softmax()],
    "three layers": [Linear(6, 9), Tanh(), Dropout(0.1), Linear(9, 5, bias=False), ReLU(), Linear(5, 3), Softmax()],
    "a layer that does not learn first": [Tanh(), Linear(6, 3)],
    "pictures": [Flatten(), Linear(6, 3)],
    "a layer of one's own": [Linear(6, 4), Twice(4), Linear(4, 3)],
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("rows", [1, 7])
def test_flops_are_those_of_the_products_that_a_step_makes(name: str, rows: int) -> None:
    backend = Counting()
    model = Sequential(NETWORKS[name], backend=backend)
    trainer = Trainer(model)
    x, y = np.ones((rows, 6)), np.zeros(rows, int)
    looked_at = min(rows, 2) if name == "a layer of one's own" else 0  # before its first use
    trainer.gradients(x, y)
    summary = model.summary(rows)
    assert summary.flops * (rows + looked_at) == 2 * backend.made * rows
    backend.made = 0
    model(x)
    assert summary.forward_flops * (rows + looked_at) == 2 * backend.made * rows
    assert sum(layer.flops for layer in summary.layers) == summary.flops


def test_parameters_and_their_bytes_are_those_of_the_arrays() -> None:
    for dtype, itemsize in (("float32", 4), ("float64", 8)):
        model = Sequential(NETWORKS["three layers"], backend="cpu", dtype=dtype)
        summary = model.summary(10, SGD(0.1, momentum=0.9))
        in_arrays = sum(array.size for array in model.parameters.values())
        assert summary.parameters == model.parameter_count == in_arrays
        assert summary.bytes["parameters"] == summary.bytes["gradients"] == summary.bytes["optimizer"]
        assert summary.bytes["parameters"] == sum(array.nbytes for array in model.parameters.values())
        # 6 numbers of a row, the outputs of Linear with Tanh, Dropout, Linear with ReLU, Linear and Softmax; twice
        assert summary.bytes["batch"] == 10 * 2 * (6 + 9 + 9 + 5 + 3 + 3) * itemsize
        assert summary.total_bytes == sum(summary.bytes.values())
    assert model.summary(10).bytes["optimizer"] == 0
    assert model.summary(10, "sgd").bytes["optimizer"] == 0
    assert model.summary(10, "adam").bytes["optimizer"] == 2 * summary.bytes["parameters"]


def test_shapes_are_those_of_the_rows_where_they_are_known() -> None:
    class Any1(Layer):
        def output_shape(self, shape: Any) -> Any:
            return None if shape is None else shape

    model = Sequential(Any1(), Flatten(), Linear(6, 3), backend="cpu")
    assert [layer.output_shape for layer in model.summary().layers] == [None, None, (3,)]
    assert "?" in str(model.summary())
    trained = Sequential(Flatten(), Tanh(), Linear(6, 3), backend="cpu")
    Trainer(trained).fit(np.ones((4, 2, 3)), np.zeros(4, int))
    assert [layer.output_shape for layer in trained.summary().layers] == [(6,), (6,), (3,)]


def test_it_is_said_that_costs_are_too_low_while_shapes_of_pictures_are_not_known() -> None:
    layers = Conv2d(1, 4, 3), ReLU(), Flatten(), Linear(144, 3)
    model = Sequential(*layers, backend="cpu")
    said = "shapes that are not known yet are ?, so FLOPs and memory are too low; Reshape(height, width, channels)"
    assert said in str(model.summary())
    assert said in model.summary()._repr_html_()
    told = Sequential(Reshape(8, 8, 1), *layers, backend="cpu").summary()
    Trainer(model).fit(np.ones((4, 8, 8)), np.zeros(4, int))
    for known in (told, model.summary()):
        assert "?" not in str(known)
        assert known.flops == told.flops > 2 * 32 * 36 * 9 * 4


def test_the_state_of_layers_is_counted() -> None:
    @dataclass(frozen=True, repr=False)
    class Counts(Layer):
        def state(self) -> dict[str, Any]:
            return {"seen": ((5,), lambda shape, generator: np.zeros(shape))}

    summary = Sequential(Linear(6, 5), Counts(), backend="cpu").summary()
    assert summary.bytes["state"] == 20
    assert [layer.state for layer in summary.layers] == [0, 5]
    assert "state 20 B" in str(summary)


def test_a_summary_is_of_a_whole_number_of_rows() -> None:
    model = Sequential(Linear(6, 3), backend="cpu")
    assert "a step on 1 row in float32" in str(model.summary(1))
    with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1, not 0"):
        model.summary(0)
    with pytest.raises(ValueError, match="unknown optimizer 'adm'"):
        model.summary(optimizer="adm")
