"""Networks whose pictures are looked at, and what is seen in a figure."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nn import SGD, Dataset, Linear, Sequential, Trainer, load_data
from nn.layers import Layer, Reshape

DIGITS = load_data("digits").train[:200]


def trained(data: Dataset, *layers: Layer, loss: str = "softmax_cross_entropy", epochs: int = 1) -> Trainer:
    trainer = Trainer(Sequential(*layers, backend="cpu"), loss, SGD(0.1))
    trainer.fit(data, epochs)
    return trainer


def always(scores: list[float], link: Layer, loss: str) -> Trainer:
    """A network whose outputs are its inputs times ``scores``, so that a test can say what it predicts."""
    trainer = Trainer(Sequential(Linear(4, len(scores)), link, backend="cpu"), loss)
    weights = np.zeros((4, len(scores)))
    weights[0] = scores
    trainer.model.load_state_dict({"0.weight": weights, "0.bias": np.zeros(len(scores))})
    return trainer


def pictures_of(firsts: list[float], labels: list[int], names: tuple[str, ...] | None = None) -> Dataset:
    """Pictures of 2x2, whose first pixel is given and whose others count the rows."""
    x = np.array([[first, row, 0, 0] for row, first in enumerate(firsts)], dtype=np.float32)
    return Dataset(x, np.array(labels), class_names=names, image_shape=(2, 2))


def images(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


def curves(axes: Axes) -> list[Any]:
    return [np.asarray(line.get_xydata()).tolist() for line in axes.lines]


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes]


def head(figure: Figure) -> str:
    return figure.get_suptitle()


def convolutional(*layers: Layer, shape: tuple[int, ...] = (8, 8, 1)) -> Sequential:
    return Sequential(Reshape(*shape), *layers, backend="cpu", seed=1)
