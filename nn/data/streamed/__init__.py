"""Data sets that are larger than memory."""

from __future__ import annotations

from .dataset import StreamedDataset, StreamWarning
from .npy import NpySource
from .source import ArraySource, Source

__all__ = ["ArraySource", "NpySource", "Source", "StreamWarning", "StreamedDataset"]
