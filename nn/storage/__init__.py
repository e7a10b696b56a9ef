"""What is kept on disk."""

from __future__ import annotations

from .checkpoint import CheckpointError, CheckpointWarning
from .model_file import load_model, save_model
from .onnx_file import export_onnx

__all__ = [
    "CheckpointError",
    "CheckpointWarning",
    "export_onnx",
    "load_model",
    "save_model",
]
