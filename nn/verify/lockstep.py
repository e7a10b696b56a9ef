"""The steps of several devices, tensor by tensor, each starting from the first device's numbers.

All of them run the same plan (``nn.plan``), which is observed: the first device's tensors are noted as they are
computed, with the difference that rounding explains; on every other device each tensor is compared as soon as it is
there, and then replaced by the first device's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from backends.typing import Array, HostArray

from ..layers import Layer
from ..plan import Stage
from ..trainer import Trainer
from .result import Comparison, Finding, Largest
from .rounding import Rounding

LONGEST_REPR = 90


@dataclass(frozen=True)
class Batch:
    """Which rows a step is made on: epoch and batch counted from 1, the first position and how many."""

    epoch: int
    batch: int
    start: int
    count: int


@dataclass(frozen=True)
class Tensor:
    """A tensor of a step on the first device.

    Attributes:
        phase, name: as the plan calls it.
        position, layer: the index of the layer and its repr; "" where the tensor belongs to none.
        expected: its values.
        allowed: the difference that rounding explains; None for none.
    """

    phase: str
    name: str
    position: str
    layer: str
    expected: HostArray
    allowed: HostArray | None = None

    @property
    def full_name(self) -> str:
        """With the layer, where the name does not say it."""
        own = self.position and f" {self.position}." not in self.name
        return f"{self.name} of layer {self.position}" if own else self.name


def is_in_curve(phase: str, name: str) -> bool:
    """Whether the curve of differences tells of this tensor: the loss, the gradients and the parameters."""
    if phase == "backward":
        return name.startswith("gradient of ") and name != "gradient of the input"
    return (phase, name) == ("loss", "loss") or (phase == "update" and name.startswith("parameter "))


class Side:
    """A trainer on one backend, whose steps are observed.

    Attributes:
        observer: called with each tensor of a step, as ``nn.plan.Observer`` says.
    """

    def __init__(self, trainer: Trainer, data: Any, batch_size: int | None, shuffle: bool) -> None:
        self.trainer = trainer
        self.backend = trainer.backend
        self.size = len(data) if batch_size is None else batch_size
        self.observer: Callable[[str, Stage | None, str, Array], None] = lambda *_: None
        self.epoch = 0
        with self.backend.use():
            self.rows = trainer.upload(data, keep_scaled=self.size >= len(data))
            self.feed = trainer.feed(self.rows, shuffle and self.size < len(data))
            self.plan = trainer.plan(
                self.rows, optimizer=trainer.optimizer, observer=lambda *tensor: self.observer(*tensor)
            )

    def schedule(self, epochs: int, steps: int) -> list[Batch]:
        """The batch of each step."""
        begun, n = self.trainer.epoch, len(self.rows)
        return [
            Batch(epoch, batch, start, min(self.size, n - start))
            for epoch in range(begun + 1, begun + epochs + 1)
            for batch, start in enumerate(range(0, n, self.size), 1)
        ][:steps]

    def step(self, where: Batch) -> None:
        """Make a training step."""
        trainer, backend = self.trainer, self.backend
        model, optimizer = trainer.model, trainer.optimizer
        with backend.use():
            if where.epoch != self.epoch:
                self.epoch = trainer.epoch = where.epoch
                self.feed.begin_epoch(where.epoch)
            x, y = self.feed.batch(where.start, where.count, model.step)
            totals = backend.zeros((2,), backend.wide)
            optimizer.steps += 1
            step, update = model.step, optimizer.steps
            model.step += 1
            self.plan.train(x, y, totals, step=step, update=update, learning_rate=optimizer.rate(update))

    def host(self, array: Array) -> HostArray:
        """A copy of an array of this device."""
        return np.array(self.backend.to_numpy(array))

    def put(self, array: Array, values: HostArray) -> None:
        """Write another device's values into an array of this one."""
        array[...] = self.backend.asarray(values, array.dtype)


def free_step(side: Side, where: Batch) -> dict[str, HostArray]:
    """Make a step that nobody replaces anything in; its loss, gradients and parameters by name."""
    found: dict[str, HostArray] = {}

    def note(phase: str, stage: Stage | None, name: str, array: Array) -> None:
        if is_in_curve(phase, name):
            found[name] = side.host(array)

    side.observer = note
    side.step(where)
    return found


class _Notes:
    """What the first device computes in a step, and how much of a difference to it rounding explains."""

    def __init__(self, side: Side, bounded: bool) -> None:
        self.side = side
        self.rounding = Rounding(side.backend)
        self.bounded = bounded
        self.tensors: list[Tensor] = []
        self.targets: Array = None
        self.x: Array = None  # what the next layer is given
        self.dy: Array = None  # what the next layer is given on the way back; it may overwrite it
        self.given: HostArray = None  # its values before that
        self.of_loss: tuple[HostArray, HostArray] | None = None
        self.before: dict[str, HostArray] = {}
        self.of_update: dict[str, HostArray] = {}

    def __call__(self, phase: str, stage: Stage | None, name: str, array: Array) -> None:
        if phase == "before update":
            self.before[name] = self.side.host(array)
            return
        allowed = self._allowed(phase, stage, name, array) if self.bounded else None
        self.tensors.append(Tensor(phase, name, *self._layer(phase, stage, name), self.side.host(array), allowed))
        if phase == "batch" and name == "targets":
            self.targets = array
        elif name in ("batch", "activation"):
            self.x = array
        elif name in ("gradient of the outputs", "gradient of the input"):
            self.dy, self.given = array, self.side.host(array)

    def _layer(self, phase: str, stage: Stage | None, name: str) -> tuple[str, str]:
        if stage is not None:
            return stage.ctx.name, short_repr(stage.layer)
        return layer_of(self.side.trainer, name) if phase == "update" else ("", "")

    def _allowed(self, phase: str, stage: Stage | None, name: str, array: Array) -> HostArray | None:
        """The difference that rounding explains; None for tensors that must be equal bit for bit."""
        rounding = self.rounding
        if phase == "forward" and stage is not None:
            if name == "activation":
                return rounding.forward(stage.layer, stage.ctx, self.x, array)
            return rounding.unknown(self.side.host(array), self.side.host(self.x)) if name[:6] == "state " else None
        if phase == "loss":
            if name == "loss":
                loss = self.side.trainer.loss
                self.of_loss = rounding.loss(loss.operation, self.x, self.targets, array)
            of_loss = {"loss": 0, "gradient of the outputs": 1}.get(name)
            return None if of_loss is None or self.of_loss is None else self.of_loss[of_loss]
        if phase == "backward" and stage is not None:
            of = {"gradient before the activation": "before the activation", "gradient of the input": "input"}
            which = of.get(name, name.rpartition(".")[2])
            return rounding.backward(stage.layer, stage.ctx, self.given, self.dy, which, array)
        if phase == "update":
            layout = self.side.trainer.model.store.layout
            if not self.of_update:
                self.of_update = rounding.update(self.side.trainer.optimizer, self.before, layout.n_decayed)
            buffer, _, parameter = name.partition(" ")
            section: HostArray = self.of_update[buffer][layout.span(parameter)]
            return section.reshape(layout.shapes[parameter])
        return None


class _Differs(Exception):
    """A device differs beyond rounding: the rest of its step is of no interest."""


class Lockstep:
    """The steps of all devices, each tensor compared with the first device's and then replaced by it."""

    def __init__(self, first_name: str, first: Side, others: dict[str, Side], result: Comparison) -> None:
        self.first_name, self.first, self.others, self.result = first_name, first, others, result

    def start(self) -> None:
        """Compare the initial values, of parameters and of the layers' state."""
        store = self.first.trainer.model.store
        for kind, arrays in (("parameter", store.parameters), ("state", store.state)):
            for name, array in arrays.items():
                expected = self.first.host(array)
                tensor = Tensor("start", f"{kind} {name}", *layer_of(self.first.trainer, f"{kind} {name}"), expected)
                for device, side in self.others.items():
                    theirs = side.trainer.model.store
                    found = side.host((theirs.parameters if kind == "parameter" else theirs.state)[name])
                    self._judge(device, tensor, found, (0, 0, 0))

    def step(self, number: int, where: Batch) -> tuple[dict[str, HostArray], dict[str, dict[str, Any]]]:
        """The loss, gradients and parameters of the first device, and for each other its largest difference."""
        going = {device: side for device, side in self.others.items() if device not in self.result.findings}
        self.first.observer = notes = _Notes(self.first, bounded=bool(going))
        self.first.step(where)
        seen = {tensor.name: tensor.expected for tensor in notes.tensors if is_in_curve(tensor.phase, tensor.name)}
        shares: dict[str, dict[str, Any]] = {device: {"share": None, "tensor": None} for device in self.others}
        for device, side in going.items():
            largest = Largest()
            rest = iter(notes.tensors)

            def compare(
                phase: str, stage: Stage | None, name: str, array: Array, device: str = device, side: Side = side,
                rest: Any = rest,
            ) -> None:  # fmt: skip
                nonlocal largest
                if phase == "before update":
                    return
                tensor = next(rest)
                share = self._judge(device, tensor, side.host(array), (number, where.epoch, where.batch))
                if not share <= largest.share:
                    largest = Largest(share, tensor.full_name, number)
                if device in self.result.findings:
                    raise _Differs
                if share > 0.0:
                    side.put(array, tensor.expected)

            side.observer = compare
            try:
                side.step(where)
            except _Differs:
                pass
            else:
                if largest.share > self.result.largest[device].share:
                    self.result.largest[device] = largest
            shares[device] = {"share": largest.share, "tensor": largest.tensor or None}
        return seen, shares

    def _judge(self, device: str, tensor: Tensor, found: HostArray, when: tuple[int, int, int]) -> float:
        """The largest difference in units of what rounding explains; a finding if that is above 1."""
        expected = tensor.expected
        finding = partial(
            Finding, device, self.first_name, *when, tensor.phase, tensor.position, tensor.layer, tensor.name,
            expected.shape,
        )  # fmt: skip
        for what in ("shape", "dtype"):
            a, b = getattr(expected, what), getattr(found, what)
            if a != b and (what, tensor.name) != ("dtype", "loss"):  # a device may lack float64 to add losses up
                self.result.findings.setdefault(device, finding(note=f"the {what}: {a} and {b}"))
                return math.inf
        if np.array_equal(expected, found):
            return 0.0
        times = _times(expected, found, tensor.allowed)
        largest = float(np.max(times))
        if largest > 1.0:
            index = tuple(int(i) for i in np.unravel_index(np.argmax(times), times.shape))
            self.result.findings.setdefault(
                device,
                finding(
                    index=index,
                    expected=expected[index].item(),
                    found=found[index].item(),
                    allowed=0.0 if tensor.allowed is None else float(tensor.allowed[index]),
                    times=largest,
                    count=int(np.count_nonzero(times > 1.0)),
                    region=_region(times > 1.0),
                ),
            )
        return largest


def _times(expected: HostArray, found: HostArray, allowed: HostArray | None) -> HostArray:
    """The differences in units of those allowed; infinite where one value is not finite and the other is another."""
    with np.errstate(all="ignore"):
        difference = np.abs(expected.astype(np.float64) - found)
        times = np.full(difference.shape, np.inf) if allowed is None else difference / allowed
    equal = (expected == found) | ((expected != expected) & (found != found))
    return np.where(equal, 0.0, np.where(times >= 0.0, times, np.inf))


def _region(beyond: HostArray) -> str:
    """The smallest box that holds all elements: ``[3, :]``, ``[5:9, 2]``."""
    sides = []
    for extent, indices in zip(beyond.shape, np.nonzero(beyond), strict=True):
        low, high = int(indices.min()), int(indices.max())
        whole = (low, high) == (0, extent - 1) and extent > 1
        sides.append(":" if whole else str(low) if low == high else f"{low}:{high + 1}")
    return f"[{', '.join(sides)}]"


def layer_of(trainer: Trainer, name: str) -> tuple[str, str]:
    """The index and the repr of the layer that ``"parameter 0.weight"`` belongs to."""
    position = name.rpartition(" ")[2].partition(".")[0]
    return position, short_repr(trainer.model.layers[int(position)])


def short_repr(layer: Layer) -> str:
    """A layer as one would write it; initial values that are written out may be long."""
    text = repr(layer)
    return text if len(text) <= LONGEST_REPR else f"{text[: LONGEST_REPR - 3]}..."
