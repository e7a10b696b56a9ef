"""The inputs that ``backends.check`` tries of the operations on pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..activations import ACTIVATIONS
from ..pictures import Windows
from ..typing import Array
from .inputs import NAN, Inputs, Made

Shape = tuple[int, ...]

#: Name, shapes of pictures and filters, and how the windows lie.
CONVOLUTIONS: tuple[tuple[str, Shape, Shape, dict[str, Any]], ...] = (
    ("plain", (2, 5, 4, 3), (3, 3, 3, 4), {}),
    ("one pixel", (1, 1, 1, 1), (1, 1, 1, 1), {}),
    ("one channel", (3, 6, 7, 1), (3, 2, 1, 2), {}),
    ("no pictures", (0, 5, 4, 2), (3, 3, 2, 3), {"padding": (1, 1)}),
    ("1 x 1", (2, 4, 5, 3), (1, 1, 3, 2), {}),
    ("1 x 1, some of the pixels", (2, 4, 5, 3), (1, 1, 3, 2), {"stride": (2, 3)}),
    ("1 x 1, windows of padding alone", (2, 3, 3, 2), (1, 1, 2, 3), {"padding": (1, 2)}),
    ("as large as a picture", (3, 4, 5, 2), (4, 5, 2, 3), {}),
    ("as large as a padded picture", (2, 2, 3, 2), (4, 5, 2, 3), {"padding": (1, 1)}),
    ("rows left over", (2, 8, 9, 2), (3, 2, 2, 3), {"stride": (2, 3)}),
    ("stride above size", (2, 7, 8, 2), (2, 1, 2, 3), {"stride": (3, 2)}),
    ("padding", (2, 5, 6, 2), (3, 3, 2, 4), {"padding": (1, 1)}),
    ("padding on two sides", (2, 5, 3, 2), (3, 2, 2, 3), {"padding": (2, 0), "stride": (2, 1)}),
    ("groups", (2, 5, 4, 4), (3, 2, 2, 6), {"groups": 2, "padding": (1, 0)}),
    ("groups of one", (2, 6, 5, 3), (3, 3, 1, 6), {"groups": 3, "stride": (2, 1)}),
    ("depthwise", (2, 5, 5, 5), (3, 3, 1, 5), {"groups": 5, "padding": (1, 1)}),
    ("1 x 1, groups", (2, 3, 4, 6), (1, 1, 2, 9), {"groups": 3}),
    ("many channels", (2, 6, 6, 33), (3, 3, 33, 17), {"padding": (1, 1)}),
    ("many pictures", (67, 7, 6, 2), (3, 3, 2, 3), {}),
    ("tiles of 16", (3, 18, 18, 16), (3, 3, 16, 32), {}),
    ("many filters", (2, 4, 5, 3), (2, 3, 3, 67), {}),
    ("many filters, channels by four", (2, 4, 4, 8), (3, 2, 8, 68), {"padding": (1, 0)}),
    ("stride, channels by four", (2, 6, 5, 8), (3, 2, 4, 6), {"groups": 2, "stride": (2, 1)}),
)
#: Name, shape of pictures, size of windows, and how they lie.
POOLINGS: tuple[tuple[str, Shape, tuple[int, int], dict[str, Any]], ...] = (
    ("2 x 2", (2, 6, 4, 3), (2, 2), {"stride": (2, 2)}),
    ("2 x 2, rows left over", (3, 5, 7, 2), (2, 2), {"stride": (2, 2)}),
    ("2 x 2, one channel", (2, 4, 6, 1), (2, 2), {"stride": (2, 2)}),
    ("one pixel", (1, 1, 1, 1), (1, 1), {"stride": (1, 1)}),
    ("no pictures", (0, 4, 4, 2), (2, 2), {"stride": (2, 2)}),
    ("whole pictures", (2, 4, 5, 3), (4, 5), {"stride": (1, 1)}),
    ("overlapping", (2, 5, 6, 2), (3, 3), {"stride": (2, 1)}),
    ("stride above size", (2, 7, 8, 3), (2, 1), {"stride": (3, 2)}),
    ("padding", (2, 5, 4, 3), (3, 3), {"stride": (2, 2), "padding": (1, 1)}),
    ("padding on two sides", (2, 5, 4, 3), (2, 3), {"stride": (2, 1), "padding": (1, 0)}),
    ("many pictures", (67, 4, 4, 17), (2, 2), {"stride": (2, 2)}),
)


def _placed(options: dict[str, Any]) -> dict[str, Any]:
    """Where windows lie, with what is left out."""
    return {"stride": (1, 1), "padding": (0, 0), **options}


def _grid(x: Array, weight: Array, stride: tuple[int, int], padding: tuple[int, int], **_: Any) -> Shape:
    """The shape of the result of a convolution."""
    windows = Windows.over(x.shape[1:3], weight.shape[:2], stride, padding)
    return (len(x), *windows.grid, weight.shape[3])


def _special_pictures(make: Inputs) -> Iterator[tuple[str, Array]]:
    """One picture of two channels each, with what is special."""
    for name, x in make.specials():
        yield name, x.reshape(1, len(x), 2, 2)


def _conv2d(make: Inputs) -> Made:
    for name, shape, filters, options in CONVOLUTIONS:
        x, weight, bias, placed = make.normal(*shape), make.normal(*filters), make.normal(filters[3]), _placed(options)
        blank = make.array(np.full(_grid(x, weight, **placed), NAN))
        yield name, (x, weight), placed
        yield name, (x, weight, bias), {"activation": "relu", "alpha": 1 / 255, **placed}
        yield name, (x, weight, bias), {"activation": "gelu", "z_out": blank, **placed}
    x, weight, bias = make.normal(2, 6, 5, 3), make.normal(3, 2, 3, 4), make.normal(4)
    for activation in ACTIVATIONS:
        yield "activation", (x, weight, bias), {"activation": activation, **_placed({"padding": (1, 1)})}
        yield "activation", (x, weight), {"activation": activation, **_placed({})}
        by_four = make.normal(1, 3, 4, 8), make.normal(2, 3, 8, 3), bias[:3]
        yield "activation", by_four, {"activation": activation, **_placed({"stride": (1, 2)})}
    yield "wide range", (make.wide_range(2, 6, 5, 3), make.wide_range(3, 2, 3, 4), bias), _placed({})
    yield "deep", (make.normal(2, 9, 9, 41), make.normal(8, 9, 41, 3)), _placed({})
    for name, terms in make.summands(360):
        pictures, ones = np.tile(terms, (2, 1)).reshape(2, 6, 10, 6), make.array(np.ones((6, 10, 6, 3)))
        yield name, (pictures, ones), _placed({})
        yield name, (ones[None, :, :, :, 0], np.tile(terms[:, None], 2).reshape(6, 10, 6, 2)), _placed({"alpha": 3.0})
    for scale in (*make.tiny, make.huge, make.huge / 4):
        pictures = make.array(np.array([[1.0, -2.0], [0.5, 3.0]])[None, :, :, None] * scale)
        yield f"times {scale:.1e}", (pictures, make.array([[[[1.0, 2.0]]]])), _placed({})
    for name, x in _special_pictures(make):
        yield name, (x, make.normal(2, 1, 2, 3), make.normal(3)), _placed({})
        yield name, (x, make.normal(1, 1, 2, 3)), _placed({"activation": "relu"})
        yield f"{name} in filters", (make.normal(2, 3, 3, 2), x[:, :2]), _placed({})


def _conv2d_backward(make: Inputs) -> Made:
    for name, shape, filters, options in CONVOLUTIONS:
        x, weight, placed = make.normal(*shape), make.normal(*filters), _placed(options)
        dy = make.normal(*_grid(x, weight, **placed))
        sums, blank = make.array(np.full(filters[3], NAN)), make.array(np.full(filters, NAN))
        yield name, (dy, dy, x, weight), placed
        into = {"bias_gradient": sums, "weight_gradient": blank, "dz": make.array(np.full(dy.shape, NAN))}
        yield name, (dy, make.normal(*dy.shape), x, weight, "relu"), {"alpha": 1 / 255, **into, **placed}
        added = {"alpha": -0.7, "beta": 0.9, "times": 0.3, "weight_gradient": make.normal(*filters), "needs_dx": False}
        yield name, (dy, make.uniform(*dy.shape), x, weight, "tanh"), {**added, "bias_gradient": sums, **placed}
        times = {"beta": 1.0, "times": make.array([0.3]), "weight_gradient": make.normal(*filters)}
        yield name, (dy, make.normal(*dy.shape), x, weight, "gelu"), {**times, **placed}
    x, weight, dy = make.normal(2, 6, 5, 3), make.normal(3, 2, 3, 4), make.normal(2, 4, 4, 4)
    options = {"bias_gradient": make.array(np.full(4, NAN)), **_placed({})}
    for activation in ACTIVATIONS:
        yield "activation", (dy, make.uniform(*dy.shape), x, weight, activation), options
    yield (
        "wide range",
        (make.wide_range(*dy.shape), dy, make.wide_range(*x.shape), make.wide_range(3, 2, 3, 4)),
        options,
    )
    for name, terms in make.summands(600):  # of which dW and the bias gradient are the sums
        column = np.tile(terms[:, None], 2).reshape(2, 15, 20, 2)
        ones, one = make.array(np.ones((2, 15, 20, 1))), make.array(np.ones((1, 1, 1, 2)))
        yield name, (column, column, ones, one), {"bias_gradient": make.array([NAN, NAN]), **_placed({})}
        yield name, (ones, ones, column, make.array(np.ones((1, 1, 2, 1)))), _placed({})
    for name, terms in make.summands(120):  # of which dx is the sum
        row = np.tile(terms, 2).reshape(2, 1, 1, 120)
        yield name, (row, row, make.normal(2, 1, 1, 2), make.array(np.ones((1, 1, 2, 120)))), _placed({})
        every = np.resize(terms, (1, 4, 5, 6))
        yield name, (every, every, make.normal(1, 7, 6, 1), make.array(np.ones((4, 2, 1, 6)))), _placed({})
    for name, dy in _special_pictures(make):
        sums = {"bias_gradient": make.array([NAN, NAN]), **_placed({})}
        rows = dy.shape[1]
        yield name, (dy, dy, make.normal(1, rows + 1, 2, 3), make.normal(2, 1, 3, 2)), sums
        yield f"{name} in x", (make.normal(1, rows, 2, 3), dy, dy, make.normal(1, 1, 2, 3)), _placed({})
        yield f"{name} in filters", (make.normal(3, 2, 2, 2), dy, make.normal(3, 2, 2, 2), dy[:, -1:]), _placed({})
        yield (
            f"{name} in what is saved",
            (make.normal(*dy.shape), dy, np.ones_like(dy), make.normal(1, 1, 2, 2), "tanh"),
            sums,
        )
        beta = {"beta": 0.5, "weight_gradient": dy[:, -1:].copy(), "needs_dx": False, **_placed({})}
        yield f"{name} in dW", (make.normal(2, 3, 2, 2), dy, make.normal(2, 3, 2, 2), dy[:, -1:].copy()), beta


def _pictures_to_pool(make: Inputs) -> Made:
    """With ties and special values: (x,), and size, stride and padding."""
    for name, shape, size, options in POOLINGS:
        yield name, (make.normal(*shape), size), options
        yield f"{name}, ties", (make.array(make.rng.integers(-1, 2, shape)), size), options
    for name, x in _special_pictures(make):
        pictures = np.concatenate([x, x[:, ::-1], np.roll(x, 1, axis=2)])
        yield name, (pictures, (2, 1)), {"stride": (1, 1)}
        yield name, (pictures, (2, 2)), {"stride": (2, 2), "padding": (1, 1)}
    yield "wide range", (make.wide_range(2, 6, 6, 3), (2, 3)), {"stride": (2, 3)}
    yield "huge", (make.array([[[[make.huge], [-make.huge]], [[1.0], [make.huge / 4]]]]), (1, 2)), {"stride": (1, 1)}


def _max_pool2d(make: Inputs) -> Made:
    yield from _pictures_to_pool(make)
    lowest = make.array(np.full((1, 3, 3, 2), -np.inf))
    yield "nothing above the padding", (lowest, (2, 2)), {"stride": (2, 2), "padding": (1, 1)}


def _max_pool2d_backward(make: Inputs) -> Made:
    for name, (x, size), options in _max_pool2d(make):
        windows = Windows.over(x.shape[1:3], size, options["stride"], options.get("padding", (0, 0)))
        padded = np.pad(x, ((0, 0), *((p, p) for p in windows.padding), (0, 0)), constant_values=-np.inf)
        y = np.max(windows.views(padded), axis=0)
        yield name, (make.normal(*y.shape), x, y, size), options
    for name, dy in _special_pictures(make):
        x = make.normal(1, dy.shape[1] + 1, 2, 2)
        yield f"{name} in dy", (dy, x, np.maximum(x[:, 1:], x[:, :-1]), (2, 1)), {"stride": (1, 1)}


def _avg_pool2d(make: Inputs) -> Made:
    for name, inputs, options in _pictures_to_pool(make):
        yield name, inputs, options
        if "padding" in options:
            yield name, inputs, {"count_padding": False, **options}
    for name, terms in make.summands(600):
        yield name, (np.tile(terms[:, None], 3).reshape(1, 20, 30, 3), (20, 30)), {"stride": (1, 1)}


def _avg_pool2d_backward(make: Inputs) -> Made:
    for name, (x, size), options in _avg_pool2d(make):
        windows = Windows.over(x.shape[1:3], size, options["stride"], options.get("padding", (0, 0)))
        dy = make.normal(len(x), *windows.grid, x.shape[3])
        yield name, (dy, x.shape[1:3], size), options
    for name, dy in _special_pictures(make):
        yield f"{name} in dy", (dy, (dy.shape[1] + 1, 2), (2, 1)), {"stride": (1, 1)}
    for name, terms in make.summands(120):  # of which dx is the sum
        dy = np.resize(terms, (1, 5, 6, 2))
        yield name, (dy, (7, 9), (3, 4)), {"stride": (1, 1)}


PICTURE_MAKERS: dict[str, Callable[[Inputs], Made]] = {
    "conv2d": _conv2d,
    "conv2d_backward": _conv2d_backward,
    "max_pool2d": _max_pool2d,
    "max_pool2d_backward": _max_pool2d_backward,
    "avg_pool2d": _avg_pool2d,
    "avg_pool2d_backward": _avg_pool2d_backward,
}
