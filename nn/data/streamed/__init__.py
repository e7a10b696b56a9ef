"""Data sets that are larger than memory."""

from __future__ import annotations

from .dataset import StreamedDataset
from .npy import NpySource
from .source import ArraySource, Source
from .windows import StreamWarning

__all__ = ["ArraySource", "NpySource", "Source", "StreamWarning", "StreamedDataset"]
