"""Random networks on pictures, and the same ones written in PyTorch by hand."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nn import (
    ELU,
    GELU,
    AvgPool2d,
    BatchNorm2d,
    ChannelsLast,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    Layer,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Reshape,
    Sequential,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
)

SMOOTH: list[Layer] = [Sigmoid(), Tanh(), GELU(), GELU("tanh"), SiLU(), Softplus()]
BENT: list[Layer] = [ReLU(), LeakyReLU(0.1), ELU(0.7)]


class Drawn(NamedTuple):
    """A network, and rows for it.

    Attributes:
        layers: on pictures of ``shape``, the last one a ``Linear`` of ``outputs``.
        shape: of a row: (height, width, channels), (channels, height, width), (height, width), or one number.
        x: rows.
        labels: of them.
        outputs: classes.
    """

    layers: list[Layer]
    shape: tuple[int, ...]
    x: Any
    labels: Any
    outputs: int


def drawn(seed: int, rows: int = 5, dropout: bool = False) -> Drawn:
    """The network of this seed."""
    rng = np.random.default_rng([seed, 14])

    def pick(*values: Any) -> Any:
        return values[rng.integers(len(values))]

    def sides(low: int, high: int) -> Any:
        """One number, or two for height and width."""
        return pick(int(rng.integers(low, high + 1)), tuple(int(x) for x in rng.integers(low, high + 1, 2)))

    height, width, channels = int(rng.integers(4, 9)), int(rng.integers(4, 9)), int(rng.integers(1, 4))
    form = pick("last", "last", "first", "flat", "plain")
    layers: list[Layer] = []
    shape: tuple[int, ...] = (height, width, channels)
    row: tuple[int, ...] = shape
    if form == "first":
        row = (channels, height, width)
        layers.append(ChannelsLast())
    elif form == "flat":
        row = (height * width * channels,)
        layers.append(Reshape(height, width, channels))
    elif form == "plain":
        row, shape = (height, width), (height, width, 1)

    def add(*candidates: Layer) -> None:
        """The first of these that fits the pictures, if one does."""
        nonlocal shape
        for layer in candidates:
            try:
                shape = layer.output_shape(shape) or ()
            except ValueError:
                continue
            layers.append(layer)
            return

    for _ in range(rng.integers(1, 4)):
        groups = int(pick(*(g for g in (1, 1, 2, 3) if shape[2] % g == 0)))
        activation: Layer = pick(*SMOOTH, *BENT)
        normalized = form != "plain" and rng.random() < 0.4
        inside = not normalized and rng.random() < 0.3
        settings: dict[str, Any] = {"groups": groups, "bias": bool(rng.random() < 0.8), "bias_init": "normal:0.2"}
        settings["activation"] = activation.activation if inside else "identity"  # type: ignore[attr-defined]
        n_in, n_out = shape[2], groups * int(rng.integers(1, 4))
        if rng.random() < 0.3:
            add(Conv2d(n_in, n_out, pick(1, 3, (1, 3), (3, 5)), padding="same", **settings))
        else:
            stride, padding = sides(1, 2), sides(0, 2)
            kernels = sides(1, 4), 1
            add(*(Conv2d(n_in, n_out, kernel, stride, padding, **settings) for kernel in kernels))
        if normalized:
            add(BatchNorm2d(shape[2], momentum=float(rng.uniform(0.05, 0.5)), affine=bool(rng.random() < 0.8)))
        if not inside:
            add(activation)
        if rng.random() < 0.5:
            size = sides(2, 3)
            kind = pick(MaxPool2d, AvgPool2d)
            extra = {"count_include_pad": bool(rng.random() < 0.5)} if kind is AvgPool2d else {}
            add(kind(size, pick(None, sides(1, 3)), pick(0, sides(0, 1)), **extra), kind(1))
        if dropout and rng.random() < 0.3:
            add(Dropout(0.3))
    add(pick(Flatten(), Flatten(), GlobalAvgPool2d(), GlobalMaxPool2d()))
    if rng.random() < 0.5:
        hidden = int(rng.integers(2, 6))
        add(Linear(shape[0], hidden, bias_init="normal:0.2"))
        add(pick(*SMOOTH, *BENT))
    outputs = int(rng.integers(2, 5))
    add(Linear(shape[0], outputs))
    return Drawn(layers, row, rng.normal(size=(rows, *row)), rng.integers(0, outputs, rows), outputs)


class ByHand:
    """A network of PyTorch with the numbers of one of ours, pictures (m, channels, height, width) inside.

    Args:
        model: whose layers and numbers it has.
    """

    def __init__(self, model: Sequential) -> None:
        import torch

        self.torch, self.layers, state = torch, [*model], model.state_dict()
        self.running: dict[str, Any] = {
            name: torch.tensor(values) for name, values in state.items() if ".running_" in name
        }
        self.parameters: dict[str, Any] = {
            name: torch.tensor(values, requires_grad=True) for name, values in state.items() if name not in self.running
        }

    def __call__(self, x: Any, training: bool) -> Any:
        x = self.torch.tensor(np.array(x))
        first = self.layers[0]
        if not isinstance(first, ChannelsLast | Reshape):
            x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2).contiguous()
        for index, layer in enumerate(self.layers):
            x = self._layer(layer, str(index), x, training)
        return x

    def gradients(self) -> dict[str, Any]:
        return {name: values.grad.numpy() for name, values in self.parameters.items()}

    def _layer(self, layer: Any, index: str, x: Any, training: bool) -> Any:
        torch = self.torch
        of = torch.nn.functional
        weight: Any = self.parameters.get(f"{index}.weight")
        bias = self.parameters.get(f"{index}.bias")
        if isinstance(layer, ChannelsLast):  # PyTorch has them first
            return x
        if isinstance(layer, Reshape):
            return x.reshape(len(x), *layer.shape).permute(0, 3, 1, 2).contiguous()
        if isinstance(layer, Flatten):
            return x.permute(0, 2, 3, 1).reshape(len(x), -1)
        if isinstance(layer, Linear):
            return x @ weight + (0.0 if bias is None else bias)
        if isinstance(layer, Conv2d):
            z = of.conv2d(
                x, weight.permute(3, 2, 0, 1).contiguous(), bias, layer.stride, layer.padding, 1, layer.groups
            )
            return self._activation(layer.activation, z)
        if isinstance(layer, MaxPool2d):
            return of.max_pool2d(x, layer.kernel_size, layer.stride, layer.padding)
        if isinstance(layer, AvgPool2d):
            counted = layer.count_include_pad
            return of.avg_pool2d(x, layer.kernel_size, layer.stride, layer.padding, False, counted)
        if isinstance(layer, GlobalAvgPool2d):
            return x.mean(dim=(2, 3))
        if isinstance(layer, GlobalMaxPool2d):
            return x.flatten(2).max(dim=2).values
        if isinstance(layer, BatchNorm2d):
            mean, variance = (self.running[f"{index}.running_{name}"] for name in ("mean", "variance"))
            return of.batch_norm(x, mean, variance, weight, bias, training, layer.momentum, layer.epsilon)
        return self._activation(layer.activation, x)

    def _activation(self, name: str, x: Any) -> Any:
        of = self.torch.nn.functional
        name, _, number = name.rstrip(")").partition("(")
        known: dict[str, Any] = {
            "identity": lambda: x,
            "sigmoid": lambda: self.torch.sigmoid(x),
            "tanh": lambda: self.torch.tanh(x),
            "relu": lambda: of.relu(x),
            "gelu": lambda: of.gelu(x),
            "gelu_tanh": lambda: of.gelu(x, approximate="tanh"),
            "silu": lambda: of.silu(x),
            "softplus": lambda: of.softplus(x, threshold=1000.0),
            "leaky_relu": lambda: of.leaky_relu(x, float(number or 0.01)),
            "elu": lambda: of.elu(x, float(number or 1.0)),
        }
        return known[name]()
