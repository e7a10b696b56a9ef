"""What is kept on disk, and networks to and from others."""

from __future__ import annotations

from .checkpoint import CheckpointError, CheckpointWarning
from .exchange import from_keras, from_sklearn, from_torch, to_keras, to_sklearn, to_torch
from .model_file import load_model, save_model
from .onnx_file import export_onnx

__all__ = [
    "CheckpointError",
    "CheckpointWarning",
    "export_onnx",
    "from_keras",
    "from_sklearn",
    "from_torch",
    "load_model",
    "save_model",
    "to_keras",
    "to_sklearn",
    "to_torch",
]
