"""Layers: forward and backward by hand, a class each."""

from __future__ import annotations

from .activations import (
    ACTIVATION_LAYERS,
    ELU,
    GELU,
    ElementwiseActivation,
    LeakyReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from .base import LAYERS, Context, Layer, check_batches
from .conv import Conv2d
from .dropout import Dropout
from .linear import Linear
from .norm import NORMS, BatchNorm, BatchNorm2d, LayerNorm
from .pool import AvgPool2d, GlobalAvgPool2d, GlobalMaxPool2d, MaxPool2d
from .shape import ChannelsLast, Flatten, Reshape
from .standardize import Standardize

__all__ = [
    "ACTIVATION_LAYERS",
    "ELU",
    "GELU",
    "LAYERS",
    "NORMS",
    "AvgPool2d",
    "BatchNorm",
    "BatchNorm2d",
    "ChannelsLast",
    "Context",
    "Conv2d",
    "Dropout",
    "ElementwiseActivation",
    "Flatten",
    "GlobalAvgPool2d",
    "GlobalMaxPool2d",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "ReLU",
    "Reshape",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Standardize",
    "Tanh",
    "check_batches",
]
