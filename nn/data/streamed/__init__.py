"""Data sets that are larger than memory."""

from __future__ import annotations

from .source import ArraySource, Source

__all__ = ["ArraySource", "Source"]
