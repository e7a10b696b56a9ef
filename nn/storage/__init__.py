"""What is kept on disk."""

from __future__ import annotations

from .model_file import load_model, save_model

__all__ = ["load_model", "save_model"]
