"""Layers: forward and backward by hand, a class each."""

from __future__ import annotations

from .activations import ACTIVATION_LAYERS, ElementwiseActivation, ReLU, Sigmoid, Softmax, Tanh
from .base import LAYERS, Context, Layer
from .dropout import Dropout
from .linear import Linear
from .shape import Flatten

__all__ = [
    "ACTIVATION_LAYERS",
    "LAYERS",
    "Context",
    "Dropout",
    "ElementwiseActivation",
    "Flatten",
    "Layer",
    "Linear",
    "ReLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
]
