"""The activation that Keras has no name for. Only ``keras_models`` imports this, and only where Keras is asked for."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable("xpnet")  # type: ignore[misc, untyped-decorator, unused-ignore]
def gelu_tanh(x: Any) -> Any:
    """GELU by tanh."""
    return keras.activations.gelu(x, approximate=True)
