"""``python -m benchmarks.gpu.convolutions``: convolutions with and without patches, which the backend chooses by shape.

Each of the three products of a convolution is made several times in one graph, as it is in a recorded step, and timed
by CUDA events: forward with bias and ReLU, the gradient of the filters, and that of the pixels; once as patches and a
product by cuBLAS, and once by the kernels that read the pictures. Both must agree. What the backend would choose is an
estimate (``backends/cuda/pictures.py``) until this table says otherwise.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from backends import DeviceError, StepNumbers, get_backend
from backends.pictures import Windows
from benchmarks.gpu.launches import timed

ROUNDS = 5
#: By how much of the largest value the two ways may differ, which add up in another order.
SPREAD = 1e-4
WAYS = ("patches", "direct")


class Shape(NamedTuple):
    """A convolution of stride 1: height and width of the pictures, channels, filters, side of a filter, padding."""

    side: int
    channels: int
    filters: int
    size: int = 3
    padding: int = 0
    groups: int = 1


#: Those of ``cnn``; what a wider or deeper network has; windows of 5 x 5 of few channels; and a depthwise convolution.
SHAPES = (
    Shape(28, 1, 16),
    Shape(13, 16, 32),
    Shape(26, 16, 32),
    Shape(28, 1, 32),
    Shape(14, 32, 32, padding=1),
    Shape(14, 32, 64, padding=1),
    Shape(14, 64, 64, padding=1),
    Shape(28, 1, 20, 5),
    Shape(12, 20, 50, 5),
    Shape(14, 64, 64, padding=1, groups=64),
)
LITTLE = (Shape(6, 2, 3), Shape(5, 4, 8, padding=1, groups=2))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if the two ways differ, or one is not recorded."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu.convolutions", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--device", default="cuda", help="cuda, or cuda:N")
    parser.add_argument("--batch", type=int, default=128, help="pictures")
    parser.add_argument("--copies", type=int, default=10, help="of a product in a graph")
    parser.add_argument("--little", action="store_true", help="few small shapes, to try it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where figures go, after each shape")
    settings = parser.parse_args(argv)
    try:
        backend: Any = get_backend(settings.device)
    except DeviceError as error:
        parser.error(str(error))
    found: list[dict[str, Any]] = []
    print(heading(settings.batch), flush=True)
    with backend.use():
        for shape in LITTLE if settings.little else SHAPES:
            found.append(measure(backend, shape, settings.batch, settings.copies))
            print(row(found[-1]), flush=True)
            if settings.json is not None:
                settings.json.write_text(json.dumps(found, indent=1) + "\n")
    return int(any(outcome["differ"] > SPREAD or outcome["why_eager"] for outcome in found))


def measure(backend: Any, shape: Shape, batch: int, copies: int) -> dict[str, Any]:
    """The microseconds of each product, both ways, and how far the results lie apart."""
    us: dict[str, dict[str, float]] = {}
    results: dict[str, list[np.ndarray]] = {}
    chosen = backend.direct_filters, backend.direct_weights
    try:
        for way in WAYS:
            backend.direct_filters, backend.direct_weights = (0, 0) if way == "patches" else (1 << 30, 1 << 30)
            made, arrays = products(backend, shape, batch)
            us[way] = {name: of_one(backend, product, copies) for name, product in made.items()}
            results[way] = [backend.to_numpy(array) for array in arrays]
    finally:
        backend.direct_filters, backend.direct_weights = chosen
    differ = max(
        float(np.max(np.abs(one - other)) / np.max(np.abs(other))) for one, other in zip(*results.values(), strict=True)
    )
    return {"shape": shape._asdict(), "us": us, "differ": differ, "why_eager": backend.why_eager}


def products(backend: Any, shape: Shape, batch: int) -> tuple[dict[str, Callable[[], Any]], list[Any]]:
    """The products of a convolution, and the arrays that they write. What is alike in both ways is left out: with the
    identity there is no f', and a gradient of the filters alone needs no dx."""
    rng = np.random.default_rng(0)
    side, channels, filters, size, padding, groups = shape
    windows = Windows.over((side, side), (size, size), (1, 1), (padding, padding))
    of_x, of_y = (batch, side, side, channels), (batch, *windows.grid, filters)

    def made(*extents: int) -> Any:
        return backend.asarray(rng.uniform(-1, 1, extents).astype(np.float32))

    x, weight, bias, dy = made(*of_x), made(size, size, channels // groups, filters), made(filters), made(*of_y)
    y, dw, dx = backend.empty(of_y), backend.empty(weight.shape), backend.empty(of_x)
    options: dict[str, Any] = {"padding": (padding, padding), "groups": groups}
    back = {**options, "weight_gradient": dw}

    def forward() -> None:
        backend.conv2d(x, weight, bias, "relu", out=y, **options)

    def of_filters() -> None:
        backend.conv2d_backward(dy, dy, x, weight, needs_dx=False, **back)

    def of_both() -> None:
        backend.conv2d_backward(dy, dy, x, weight, out=dx, **back)

    return {"forward": forward, "filters": of_filters, "filters and pixels": of_both}, [y, dw, dx]


def of_one(backend: Any, product: Callable[[], Any], copies: int) -> float:
    """Microseconds of one of many in a graph."""
    numbers = StepNumbers(0, 0, 1, 0.0)

    def step(numbers: StepNumbers, count: int) -> None:
        for _ in range(copies):
            product()

    recorded = backend.record(step)
    for _ in range(3):  # the first one runs, the second one is captured
        recorded(numbers, 1)
    cuda = backend.cupy.cuda
    return median(timed(cuda, lambda: recorded(numbers, 1))[0] for _ in range(ROUNDS)) / copies


def heading(batch: int) -> str:
    """The head of the table, in Markdown."""
    return "\n".join(
        [
            f"Microseconds of the products of a convolution of {batch} pictures, by patches and cuBLAS / directly:",
            "",
            "| pictures | filters | groups | forward | gradient of filters | of filters and pixels | apart |",
            "|---|---|---|---|---|---|---|",
        ]
    )


def row(outcome: dict[str, Any]) -> str:
    """A row of it."""
    side, channels, filters, size, padding, groups = outcome["shape"].values()
    patches, direct = (outcome["us"][way] for way in WAYS)
    times = [f"{patches[name]:.1f} / {direct[name]:.1f}" for name in patches]
    pictures = f"{side} x {side} x {channels}, padding {padding}"
    return (
        f"| {' | '.join([pictures, f'{filters} of {size} x {size}', str(groups), *times])} | {outcome['differ']:.0e} |"
    )


if __name__ == "__main__":
    sys.exit(main())
