"""What must be the same where a run goes on, and what should be; differences in words."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any

from backends import Backend

from ..version import __version__
from .checkpoint import CheckpointWarning


def difference(run: Any, here: Any, name: str = "") -> str:
    """The first entry in which two nested settings differ, in words; "" where none does.

    >>> difference({"optimizer": {"momentum": 0.9}}, {"optimizer": {"momentum": 0.5}})
    'its optimizer.momentum is 0.9, and here 0.5'
    """
    if isinstance(run, Mapping) and isinstance(here, Mapping):
        if name and run.get("type", run.get("name")) != here.get("type", here.get("name")):
            key = "type" if "type" in run else "name"
            return _differ(name, run.get(key, dict(run)), here.get(key, dict(here)))
        for key in dict.fromkeys([*run, *here]):
            if text := difference(run.get(key), here.get(key), f"{name}.{key}" if name else str(key)):
                return text
        return ""
    if isinstance(run, list | tuple) and isinstance(here, list | tuple):
        if len(run) != len(here):
            return _differ(f"number of {name}", len(run), len(here))
        pairs = enumerate(zip(run, here, strict=True))
        return next((text for index, pair in pairs if (text := difference(*pair, f"{name}[{index}]"))), "")
    return "" if run == here else _differ(name, run, here)


def _differ(name: str, run: Any, here: Any) -> str:
    return f"its {name} is {_shown(run)}, and here {_shown(here)}"


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def other_data(run: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Which rows differ, and how, in words; "" where none do."""
    for name, own in here.items():
        known = run.get(name)
        if known == own:
            continue
        if known is None or own is None:
            return (
                f"it has {'no ' if known is None else ''}{name}, and here there are {'none' if own is None else 'some'}"
            )
        if known.get("rows") != own["rows"]:
            return f"its {name} are {known.get('rows')}, and here {own['rows']}"
        return f"its {name} are others than those here: as many, but with other numbers, targets, weights or units"
    return ""


def tell_differences(run: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Warn where bits may differ."""
    changed = [f"{name} {run.get(name)}, now {value}" for name, value in here.items() if run.get(name) != value]
    if changed:
        warnings.warn(
            f"the run goes on elsewhere than it was ({'; '.join(changed)}): it is the same within rounding, not bit "
            "for bit",
            CheckpointWarning,
            stacklevel=4,
        )


def where(backend: Backend) -> dict[str, Any]:
    """What bits depend on, beside what is computed."""
    blas = [] if backend.device.queues else _blas()
    return {
        "device": backend.device.spec + ("" if backend.fused else "/reference"),
        "library": backend.device.version(),
        "precision": getattr(backend, "precision", "float32"),
        "products": ", ".join(sorted({_told(library.info()) for library in blas})),
        "threads of products": max((library.num_threads for library in blas), default=0),
        "machine": platform.machine(),
        "xpnet": __version__,
    }


@cache
def _blas() -> list[Any]:
    """The library of matrix products on this CPU."""
    from threadpoolctl import ThreadpoolController

    blas = [library for library in ThreadpoolController().lib_controllers if library.user_api == "blas"]
    # Others bring one of their own, as SciPy does, which is there only if somebody has imported them.
    return [library for library in blas if "numpy" in library.filepath] or blas


def _told(library: Mapping[str, Any]) -> str:
    """A library with the kind of CPU that it has chosen its kernels for."""
    return f"{library['internal_api']} {library['version']} {library.get('architecture', '')}".strip()
