"""A backend in a pickle: the name of its device and its settings; elsewhere the CPU may have to take its place."""

from __future__ import annotations

import warnings
from typing import Any

from backends import Backend, DeviceError, get_backend
from backends.messages import OneSentence


class AbsentDeviceWarning(OneSentence, UserWarning):
    """What was pickled on a device that cannot be used here is on the CPU now."""


def backend_settings(backend: Backend) -> dict[str, Any]:
    """What ``restored_backend`` makes a backend of, in plain types."""
    return {
        "spec": backend.device.spec,
        "dtype": backend.dtype_name,
        "fused": backend.fused,
        "precision": getattr(backend, "precision", "float32"),
    }


def restored_backend(settings: dict[str, Any]) -> Backend:
    """The backend with these settings; on the CPU with NumPy, and in full precision, where that device cannot be used.

    Warns:
        AbsentDeviceWarning: it is on the CPU.
    """
    try:
        return get_backend(**settings)
    except DeviceError as error:
        if settings["spec"] == "cpu":
            raise
        warnings.warn(
            f"this was pickled on {settings['spec']}, which cannot be used here, and is on the CPU now ({error})",
            AbsentDeviceWarning,
            stacklevel=2,
        )
        return get_backend(**settings | {"spec": "cpu", "precision": "float32"})
