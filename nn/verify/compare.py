"""The same training on several backends, tensor by tensor: when and where do they first differ beyond rounding?

Two views of one run:

* **in lockstep**: every backend makes the same steps, and each tensor of a step is compared, in the order in which it
  is computed. Then it is overwritten with the first backend's values on the others, parameters and optimizer state
  included. So every operation starts from equal numbers: what differs is that operation's own doing, nothing
  accumulates, and no ReLU stands on different sides of 0;
* **free**: each backend also trains by itself from the same start, and the curve of their differences is recorded.

What rounding explains follows from the numbers that an operation is given: see ``nn.verify.rounding``.
Batches, initial values, dropout masks and counts must be equal bit for bit, but for pictures that are distorted at
random: of these what is drawn must be.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from backends import Backend, get_backend
from backends.arguments import (
    ArgumentTypeError,
    check_dtype,
    check_flag,
    check_function,
    check_kind,
    check_whole_number,
    shown,
)
from backends.typing import HostArray

from ..data import StreamedDataset, as_dataset
from ..divergence import TrainingDiverged
from ..layers import BatchNorm, BatchNorm2d, Conv2d, Layer, LayerNorm, Linear
from ..optimizers import Optimizer
from ..trainer import Trainer
from .lockstep import Batch, Lockstep, Side, free_step
from .picture import curve_picture, write_comparison
from .result import Comparison, Finding, Largest

#: Settings of a trainer that its steps depend on, beside those objects.
AROUND_UPDATE = ("clip_norm", "clip_value", "accumulate", "average", "augment")
#: Layers that add a bias to each column, and do nothing after it unless they have an activation.
ADD_BIAS = (Linear, Conv2d, BatchNorm, BatchNorm2d, LayerNorm)

__all__ = ["Comparison", "Finding", "compare", "curve_picture", "named_backends", "write_comparison"]


def compare(
    make: Callable[[Backend], Trainer],
    devices: Sequence[str | Backend] | dict[str, Backend],
    data: Any,
    epochs: int = 1,
    batch_size: int | None = 32,
    *,
    shuffle: bool = True,
    steps: int = 200,
    dtype: str = "float32",
    progress: bool = False,
) -> Comparison:
    """Train on each of ``devices`` and say when and where they first differ beyond rounding.

    >>> from nn import SGD, Linear, Sequential, Softmax, Trainer, load_data
    >>> make = lambda backend: Trainer(Sequential(Linear(64, 10), Softmax(), backend=backend), optimizer=SGD(0.1))
    >>> compare(make, ["cpu", "cpu/reference"], load_data("digits").train, steps=20).agrees
    True

    Args:
        make: gives a new trainer on a backend, always of the same network, initial values, loss and optimizer.
        devices: two or more, compared with the first: names as of ``get_backend``, ``"cpu/reference"`` for the
            reference operations of a device, or backends; or backends by any names.
        data, epochs, batch_size, shuffle: as of ``Trainer.fit``; of a ``StreamedDataset`` the rows of the first window.
        steps: compare at most so many. The comparison also ends when every device has differed.
        dtype: of the devices that are given by name.
        progress: show a bar on a terminal.

    Raises:
        ValueError: a device cannot be used or is named twice, there is only one, or the data do not fit.
        TrainingDiverged: the loss of the first device is not finite.
    """
    check_function("make", make, "a function that makes a Trainer on a backend")
    epochs, steps = check_whole_number("epochs", epochs), check_whole_number("steps", steps)
    if batch_size is not None:
        batch_size = check_whole_number("batch_size, unless it is None,", batch_size)
    shuffle, progress = check_flag("shuffle", shuffle), check_flag("progress", progress)
    dtype = check_dtype("dtype", dtype)
    if isinstance(devices, str) or not isinstance(devices, Sequence | dict):
        raise ArgumentTypeError(f"devices must be a list of names or backends, not {shown(devices)}")
    backends = devices if isinstance(devices, dict) else named_backends(devices, dtype)
    if len(backends) < 2:
        raise ValueError("two devices or more are needed to compare, as in cpu,cuda or cpu,cpu/reference")
    data = as_dataset(data)
    if isinstance(data, StreamedDataset):
        data = data[: data.window]
    first_name, *others = backends
    first = Side(_made(make, backends[first_name]), data, batch_size, shuffle)
    locked = {name: Side(_made(make, backends[name]), data, batch_size, shuffle) for name in others}
    free = {name: Side(_made(make, backends[name]), data, batch_size, shuffle) for name in others}
    for name, side in locked.items():
        _check_same_training(first.trainer, side.trainer, name)
    idle = idle_biases(first.trainer.model.layers)
    result = Comparison([*backends], largest={name: Largest() for name in others}, idle_biases=idle)
    lockstep = Lockstep(first_name, first, locked, result)
    lockstep.start()
    for number, where in enumerate(_bar(first.schedule(epochs, steps), progress), 1):
        if len(result.findings) == len(others):
            break
        result.steps = number
        seen, shares = lockstep.step(number, where)
        for name, side in free.items():
            record = {
                "step": number,
                "epoch": where.epoch,
                "device": name,
                "loss": float(seen["loss"][0]) / where.count,
            }
            result.curve.append(record | _differences(seen, free_step(side, where), idle) | shares[name])
        if result.agrees and not math.isfinite(seen["loss"][0]):
            raise TrainingDiverged(
                f"the loss became {float(seen['loss'][0])} in step {number} (epoch {where.epoch}) on {first_name}, "
                "without a difference beyond rounding until then: training diverged; use a smaller learning rate"
            )
    return result


def named_backends(devices: Sequence[str | Backend], dtype: str = "float32") -> dict[str, Backend]:
    """The backends by name: ``"cpu"``, ``"cuda:1"``, ``"cpu/reference"``.

    Raises:
        ValueError: one cannot be used, or two are the same.
    """
    backends: dict[str, Backend] = {}
    for device in devices:
        check_kind("a device", device, (str, Backend), "a name or a Backend")
        if isinstance(device, Backend):
            is_reference = device.device.has_overrides and not device.fused
            backend, name = device, f"{device.device.spec}{'/reference' if is_reference else ''}"
        else:
            name, slash, operations = device.strip().partition("/")
            if slash and operations != "reference":
                raise ValueError(f"{device!r}: after a slash only `reference` can stand, as in cpu/reference")
            backend, name = get_backend(name, dtype, fused=not slash), device.strip()
        for known, other in backends.items():
            if name == known or (type(backend), backend.device.spec) == (type(other), other.device.spec):
                raise ValueError(f"{name!r} is the same as {known!r}; name devices, or operations, that differ")
            if backend.dtype_name != other.dtype_name:
                raise ValueError(f"{known} computes in {other.dtype_name}, but {name} in {backend.dtype_name}")
        backends[name] = backend
    return backends


def _made(make: Callable[[Backend], Trainer], backend: Backend) -> Trainer:
    try:
        inspect.signature(make).bind(backend)
    except TypeError as error:
        raise ArgumentTypeError(f"make is called with a backend, as in make(backend): {error}") from None
    except ValueError:  # some that are written in C have no signature
        pass
    trainer = make(backend)
    check_kind("what make gives", trainer, Trainer, "a Trainer")
    return trainer


def _check_same_training(first: Trainer, other: Trainer, name: str) -> None:
    for what, a, b in (
        ("network", repr(first.model.layers), repr(other.model.layers)),
        ("seed", first.model.seed, other.model.seed),
        ("loss", first.loss, other.loss),
        ("optimizer", first.optimizer, other.optimizer),
        *((name, getattr(first, name), getattr(other, name)) for name in AROUND_UPDATE),
    ):
        if (a.settings() if isinstance(a, Optimizer) else a) != (b.settings() if isinstance(b, Optimizer) else b):
            raise ValueError(f"`make` must give the same training everywhere, but the {what} on {name} is another")


def _bar(schedule: list[Batch], progress: bool) -> Any:
    if not progress:
        return schedule
    from tqdm import tqdm

    return tqdm(schedule, unit="step", leave=False, disable=None)  # None: only on a terminal


def idle_biases(layers: Sequence[Layer]) -> list[str]:
    """The names of the biases that a batch normalization right after them takes away again, with the mean of its batch.

    The loss does not depend on them: their true gradient is 0, and what is computed is the rounding of its terms. So
    are all changes of such a bias that start from 0, and a difference relative to them says nothing.
    """
    names = []
    for index, layer in enumerate(layers):
        after = next((other for other in layers[index + 1 :] if not other.only_moves), None)
        adds_it_last = type(layer) in ADD_BIAS and getattr(layer, "activation", "identity") == "identity"
        if adds_it_last and "bias" in layer.parameters() and type(after) in (BatchNorm, BatchNorm2d):
            names.append(f"{index}.bias")
    return names


def _differences(
    expected: dict[str, HostArray], found: dict[str, HostArray], idle: Collection[str]
) -> dict[str, float]:
    """The largest difference relative to the largest value of a tensor: of the loss, the gradients, the parameters,
    but for those of the ``idle`` biases."""
    result = {"loss_difference": 0.0, "gradient_difference": 0.0, "parameter_difference": 0.0}
    for name, a in expected.items():
        if name.rpartition(" ")[2] in idle:
            continue
        with np.errstate(all="ignore"):
            difference = float(np.max(np.abs(a - found[name])))
            relative = difference / float(np.max(np.abs(a))) if difference else 0.0
        key = f"{name.partition(' ')[0]}_difference"
        if not relative <= result[key]:
            result[key] = relative
    return result
