"""What a network makes of the columns of its training rows: it standardizes them, or there may be advice to."""

from __future__ import annotations

from collections.abc import Sequence

from .data import Dataset
from .data.checks import warn_user
from .data.statistics import ScaleWarning, advice, column_statistics, picture_advice
from .data.streamed import StreamedDataset
from .layers import Layer, Standardize
from .memory import Store


def adapt(layers: Sequence[Layer], store: Store, data: Dataset | StreamedDataset, is_new: bool) -> None:
    """Let a layer that standardizes learn the statistics of the training rows, once; give advice where there is none
    that does, to a network that is new."""
    index = next((i for i, layer in enumerate(layers) if not layer.only_moves), 0)
    if isinstance(layers[index], Standardize):
        backend = store.backend
        state = {name: store.state[f"{index}.{name}"] for name in ("mean", "variance", "learnt")}
        if backend.item(state["learnt"]) == 0:
            mean, variance = column_statistics(data, backend.dtype_name)
            for name, values in (("mean", mean), ("variance", variance), ("learnt", [1.0])):
                state[name][...] = backend.asarray(values, backend.dtype)
    elif is_new and not layers[index].state():
        if text := advice(data):
            warn_user(f"{text}: begin the network with Standardize({data.n_features}), or scale them", ScaleWarning)
        elif text := picture_advice(data):
            warn_user(f"{text}, or pass a Dataset with scale=1/255", ScaleWarning)
