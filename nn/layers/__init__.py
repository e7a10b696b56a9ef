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
from .dropout import Dropout
from .linear import Linear
from .norm import NORMS, BatchNorm, LayerNorm
from .shape import Flatten
from .standardize import Standardize

__all__ = [
    "ACTIVATION_LAYERS",
    "ELU",
    "GELU",
    "LAYERS",
    "NORMS",
    "BatchNorm",
    "Context",
    "Dropout",
    "ElementwiseActivation",
    "Flatten",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Standardize",
    "Tanh",
    "check_batches",
]
