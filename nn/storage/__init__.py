"""What is kept on disk."""

from __future__ import annotations

from .checkpoint import CheckpointError, CheckpointWarning
from .model_file import load_model, save_model

__all__ = ["CheckpointError", "CheckpointWarning", "load_model", "save_model"]
