"""Operations on pictures (m, height, width, channels): their specification, in array-API calls."""

from __future__ import annotations

from .convolution import ConvolutionOperations
from .distortion import DistortionOperations
from .pooling import PoolingOperations
from .windows import Windows

__all__ = ["ConvolutionOperations", "DistortionOperations", "PoolingOperations", "Windows"]
