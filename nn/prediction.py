"""The outputs of a network for many rows: so many at a time, of rows that are in memory or read window by window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backends.typing import Array

from .data import Dataset, as_given
from .data.streamed import StreamedDataset
from .data.streamed.reader import some_rows
from .device_rows import DeviceRows
from .out_of_memory import in_batches
from .own_layers import LOOKED_AT
from .plan import Observer, Plan, compile_plan
from .stages import Stage
from .streamed_feed import ring_of
from .summary import ITEMSIZE

#: An ``nn.Sequential``. (Importing it here would be a circle: it imports this module.)
Model = Any
#: Gives the plan of predictions; what it is given makes some rows on the device, for a look at them before the first.
PlanFor = Callable[[Callable[[], Array]], Plan]


def outputs_of(model: Model, data: Dataset | DeviceRows, batch_size: int, like: Any, plan_for: PlanFor) -> Any:
    """The outputs for rows in memory, NumPy or of the kind of ``like``."""
    backend, m = model.backend, int(data.x.shape[0])
    size, numbers = min(batch_size, m), m * (data.n_features + model.n_outputs)
    other = numbers * ITEMSIZE[backend.dtype_name]  # rows and outputs
    with backend.use(), in_batches(model, "predictions", data.x.shape[1:], size, other):
        rows, outputs = backend.asarray(data.x), None

        def batch(start: int, count: int) -> Array:
            return backend.take_rows(rows, None, start, count, scale=data.scale, shift=data.shift)

        plan = plan_for(lambda: batch(0, min(m, LOOKED_AT)))
        for start in range(0, m, batch_size):
            count = min(batch_size, m - start)
            part = plan.outputs(batch(start, count))
            if outputs is None:
                outputs = backend.empty((m, *part.shape[1:]))
            outputs[start : start + count, ...] = part
        return backend.to_numpy(outputs) if like is None else as_given(outputs, like)


def streamed_outputs(model: Model, data: StreamedDataset, batch_size: int, plan_for: PlanFor) -> Any:
    """The outputs for rows that are larger than memory, as a NumPy array."""
    backend, m = model.backend, len(data)
    size, numbers = min(batch_size, m), m * model.n_outputs
    with backend.use(), in_batches(model, "predictions", data.row_shape, size, numbers * ITEMSIZE[backend.dtype_name]):

        def first_rows() -> Array:
            some = backend.asarray(data[:LOOKED_AT].x)
            return backend.take_rows(some, None, 0, int(some.shape[0]), scale=data.scale, shift=data.shift)

        plan, outputs, ring = plan_for(first_rows), backend.empty((m, model.n_outputs)), ring_of(backend, data)
        try:
            ring.begin_in_order(size)
            for start in range(0, m, size):
                position, count = ring.position(start), min(size, m - start)
                rows = backend.take_rows(ring.arrays["x"], None, position, count, scale=data.scale, shift=data.shift)
                outputs[start : start + count, ...] = plan.outputs(rows)
        finally:
            ring.close()
        return backend.to_numpy(outputs)


def layer_outputs(model: Model, rows: Dataset | StreamedDataset) -> dict[str, Any]:
    """``Sequential.layer_outputs``."""
    data, backend, found = some_rows(rows, "the outputs of all layers"), model.backend, dict[str, Any]()

    def keep(phase: str, stage: Stage | None, name: str, array: Array) -> None:
        if name == "activation" and stage is not None:
            found[stage.ctx.name] = backend.to_numpy(array).copy()

    observer: Observer = keep
    with backend.use():
        x = backend.take_rows(backend.asarray(data.x), None, 0, len(data), scale=data.scale, shift=data.shift)
        compile_plan(model.layers, model.store, seed=model.seed, observer=observer).outputs(x)
    return found
