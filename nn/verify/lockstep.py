"""The steps of several devices, tensor by tensor, each starting from the first device's numbers.

All of them run the same plan (``nn.plan``), which is observed: the first device's tensors are noted as they are
computed, with the difference that rounding explains; on every other device each tensor is compared as soon as it is
there, and then replaced by the first device's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any

import numpy as np

from backends.typing import Array, HostArray

from ..around_update import Share
from ..feed import AugmentedFeed
from ..layers import Layer
from ..stages import Stage
from ..trainer import Trainer
from .result import Comparison, Finding, Largest
from .rounding import LayerNumbers, Rounding

LONGEST_REPR = 90
#: The phases of a step beside those that every step has; each tensor is of one parameter, and named by it.
AROUND_UPDATE = ("accumulate", "clip", "average")


@dataclass(frozen=True)
class Batch:
    """Which rows a step is made on: epoch and batch counted from 1, the first position and how many."""

    epoch: int
    batch: int
    start: int
    count: int


def is_in_curve(phase: str, name: str) -> bool:
    """Whether the curve of differences tells of this tensor: the loss, the gradients and the parameters."""
    if phase == "backward":
        return name.startswith("gradient of ") and name != "gradient of the input"
    return (phase, name) == ("loss", "loss") or (phase == "update" and name.startswith("parameter "))


class Side:
    """A trainer on one backend, whose steps are observed.

    Attributes:
        observer: called with each tensor of a step, as ``nn.plan.Observer`` says.
        share: which batch of an update the last step was on, where several make one.
        where: the rows of the last step.
    """

    def __init__(self, trainer: Trainer, data: Any, batch_size: int | None, shuffle: bool) -> None:
        self.trainer = trainer
        self.backend = trainer.backend
        self.size = len(data) if batch_size is None else batch_size
        self.observer: Callable[[str, Stage | None, str, Array], None] = lambda *_: None
        self.epoch = 0
        self.share: Share | None = None
        self.where: Batch | None = None
        with self.backend.use():
            self.rows = trainer.upload(data, keep_scaled=self.size >= len(data))
            self.feed = trainer.feed(self.rows, shuffle and self.size < len(data), augmented=True)
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
        self.where = where
        with backend.use():
            if where.epoch != self.epoch:
                self.epoch = trainer.epoch = where.epoch
                self.feed.begin_epoch(where.epoch)
            x, y, weights = self.feed.batch(where.start, where.count, model.step)
            totals = backend.zeros((2,), backend.wide)
            share = self.share = self._share(where)
            step, update = model.step, optimizer.steps + 1
            model.step += 1
            optimizer.steps += 1 if share is None else int(share.is_last)
            rate = optimizer.rate(update)
            self.plan.train(x, y, totals, step=step, update=update, learning_rate=rate, weights=weights, share=share)

    def _share(self, where: Batch) -> Share | None:
        """Which batch of an update that is, where several make one."""
        batches = self.trainer.accumulate
        return None if batches == 1 else Share.of(where.start, where.count, self.size, batches, len(self.rows))

    def host(self, array: Array) -> HostArray:
        """A copy of an array of this device."""
        return np.array(self.backend.to_numpy(array))

    def flat_buffers(self) -> list[HostArray]:
        """Copies of the parameters and the optimizer's state."""
        return [self.host(x) for x in (self.trainer.model.flat_parameters, *self.trainer.optimizer.state.values())]

    def put(self, array: Array, values: HostArray) -> None:
        """Write another device's values into an array of this one."""
        array[...] = self.backend.asarray(values, array.dtype)


@dataclass(frozen=True)
class Tensor:
    """A tensor of a step on the first device.

    Attributes:
        phase, name: as the plan calls it.
        position, layer: the index of the layer and its repr; "" where the tensor belongs to none.
        expected: its values.
        allowed: gives the difference to another side's that rounding explains; None for none.
    """

    phase: str
    name: str
    position: str
    layer: str
    expected: HostArray
    allowed: Callable[[Side], HostArray] | None = None

    @property
    def full_name(self) -> str:
        """With the layer, where the name does not say it."""
        own = self.position and f" {self.position}." not in self.name
        return f"{self.name} of layer {self.position}" if own else self.name


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
    """What the first device computes in a step, and how much of a difference to it rounding explains: worked out when
    a device differs at all, and then from the numbers of the step."""

    def __init__(self, side: Side, rounding: Rounding) -> None:
        self.side = side
        self.rounding = rounding
        self.tensors: list[Tensor] = []
        self.targets: HostArray = None
        self.count = 0  # rows of the batch
        self.weights: HostArray = None  # of the rows; None where there are none
        self.given: HostArray = None  # what the next layer is given, forward or backward
        self.outputs: HostArray = None  # what the loss is given
        self.layers: dict[str, LayerNumbers] = {}
        self.before: dict[str, HostArray] = {}
        self.of_update: tuple[Side, dict[str, HostArray]] | None = None

    def __call__(self, phase: str, stage: Stage | None, name: str, array: Array) -> None:
        values = self.side.host(array)
        if phase.startswith("before "):
            self.before[name] = values
            return
        if stage is not None:
            self._numbers(phase, stage).tensors[name] = values
        allowed = self._allowed(phase, stage, name)
        self.tensors.append(Tensor(phase, name, *self._layer(phase, stage, name), values, allowed))
        if name == "targets":
            self.targets, self.count = values, len(values)
        elif (phase, name) == ("batch", "weights"):
            self.weights = values
        elif name in ("batch", "activation", "gradient of the outputs", "gradient of the input"):
            self.given = values
        if phase in ("batch", "forward"):
            self.outputs = self.given

    def _numbers(self, phase: str, stage: Stage) -> LayerNumbers:
        """Those of a layer, which is about to have computed something."""
        layer, ctx = stage
        numbers = self.layers.get(ctx.name)
        if numbers is None:
            scale = float(ctx.sinks["output"].get("alpha", 1.0))
            parameter = partial(self._parameter, ctx.name)
            numbers = self.layers[ctx.name] = LayerNumbers(layer, self.given, scale, parameter)
        if phase == "backward" and numbers.dy is None:
            numbers.dy = self.given
        return numbers

    def _parameter(self, layer: str, name: str) -> HostArray:
        """A parameter as it was before the update, if the step made one."""
        if "parameter" not in self.before:
            self.before["parameter"] = self.side.host(self.side.trainer.model.flat_parameters)
        return self._section("parameter", f"{layer}.{name}", self.before)

    def _section(self, buffer: str, name: str, buffers: dict[str, HostArray]) -> HostArray:
        layout = self.side.trainer.model.store.layout
        section: HostArray = buffers[buffer][layout.span(name)]
        return section.reshape(layout.shapes[name])

    def _layer(self, phase: str, stage: Stage | None, name: str) -> tuple[str, str]:
        if stage is not None:
            return stage.ctx.name, short_repr(stage.layer)
        return layer_of(self.side.trainer, name) if phase == "update" or phase in AROUND_UPDATE else ("", "")

    def _allowed(self, phase: str, stage: Stage | None, name: str) -> Callable[[Side], HostArray] | None:
        """What gives the difference that rounding explains; None for tensors that must be equal bit for bit."""
        if stage is not None and name != "dropout mask":
            numbers = self.layers[stage.ctx.name]
            if self.rounding.moves(numbers.layer):
                return None
            of_layer = cache(partial(self.rounding.of_layer, numbers, phase, name))
            return lambda _: of_layer()
        if (phase, name) == ("batch", "batch") and isinstance(self.side.feed, AugmentedFeed):
            return lambda _: self._of_pictures
        if phase == "loss" and (name != "correct rows" or self.weights is not None):
            return lambda _: self._of_loss[name]
        if phase == "update":
            buffer, _, parameter = name.partition(" ")
            return lambda other: self._section(buffer, parameter, self._of_update(other))
        if phase in AROUND_UPDATE:
            buffer, _, parameter = name.rpartition(" ")
            return lambda _: self._section(buffer, parameter, self._around_update)
        return None

    @cached_property
    def _around_update(self) -> dict[str, HostArray]:
        """For the flat buffers beside those of the update, as far as the step has used them."""
        before, plan, share, error = self.before, self.side.plan, self.side.share, self.rounding.flat
        errors: dict[str, HostArray] = {}
        if share is not None and "total" in before:
            gradient, total = before["gradient of the batch"], before["total"]
            part = self.count / share.rows
            errors["sum of gradients"] = (
                error("axpby", 1.0, total, part, gradient)
                if share.is_last
                else error("axpby", part, gradient, 0.0 if share.is_first else 1.0, total)
            )
        if plan.clipping is not None:
            for operation, limit in (("clip_value", plan.clipping.value), ("clip_norm", plan.clipping.limit)):
                given = before.get(f"gradient before {operation}")
                if given is not None:
                    name = "clip_values" if operation == "clip_value" else operation
                    errors[f"gradient after {operation}"] = error(name, given, limit)
        if plan.average is not None and "average" in before:
            _, decay, first = plan.average
            number, now = self.side.trainer.optimizer.steps, before["new parameter"]
            errors["average"] = error("update_average", before["average"], now, decay, number=number, first=first)
        return errors

    @cached_property
    def _of_pictures(self) -> HostArray:
        """For a batch of pictures that are distorted: from the pictures and the draws, which are equal."""
        side, feed, where = self.side, self.side.feed, self.side.where
        assert isinstance(feed, AugmentedFeed)
        assert where is not None
        with side.backend.use():
            x, drawn, *_ = feed.parts(where.start, where.count)
            pictures, draws = side.host(x), side.host(drawn)
        error = self.rounding.pictures(feed, pictures, draws)
        return error.reshape(where.count, *feed.row_shape)

    @cached_property
    def _of_loss(self) -> dict[str, HostArray]:
        loss = self.side.plan.loss
        assert loss is not None
        options = {"weights": self.weights, **(dict(loss.settings) if loss.operation else {})}
        totals, gradient = self.rounding.loss(loss.operation, self.outputs, self.targets, **options)
        return {"loss": totals[:1], "correct rows": totals[1:], "gradient of the outputs": gradient}

    def _of_update(self, other: Side) -> dict[str, HostArray]:
        """For the flat buffers. Rules of xpnet are elementwise, so only what differs is looked at: that is little."""
        if self.of_update is None or self.of_update[0] is not other:
            trainer, n_decayed = self.side.trainer, self.side.trainer.model.store.layout.n_decayed
            differ = np.zeros(self.before["parameter"].shape, bool)
            for mine, theirs in zip(self.side.flat_buffers(), other.flat_buffers(), strict=True):
                differ |= mine != theirs
            errors = self.rounding.update(trainer.optimizer, self.before, n_decayed, differ)
            self.of_update = other, errors
        return self.of_update[1]


class _Differs(Exception):
    """A device differs beyond rounding: the rest of its step is of no interest."""


class Lockstep:
    """The steps of all devices, each tensor compared with the first device's and then replaced by it."""

    def __init__(self, first_name: str, first: Side, others: dict[str, Side], result: Comparison) -> None:
        self.first_name, self.first, self.others, self.result = first_name, first, others, result
        self.rounding = Rounding(first.backend, *(side.backend for side in others.values()))

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
                    self._judge(device, side, tensor, found, (0, 0, 0))

    def step(self, number: int, where: Batch) -> tuple[dict[str, HostArray], dict[str, dict[str, Any]]]:
        """The loss, gradients and parameters of the first device, and for each other its largest difference."""
        going = {device: side for device, side in self.others.items() if device not in self.result.findings}
        self.first.observer = notes = _Notes(self.first, self.rounding)
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
                if phase.startswith("before "):
                    return
                tensor = next(rest)
                share = self._judge(device, side, tensor, side.host(array), (number, where.epoch, where.batch))
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

    def _judge(self, device: str, side: Side, tensor: Tensor, found: HostArray, when: tuple[int, int, int]) -> float:
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
        allowed = None if tensor.allowed is None else tensor.allowed(side)
        times = _times(expected, found, allowed)
        largest = float(np.max(times))
        if largest > 1.0:
            index = tuple(int(i) for i in np.unravel_index(np.argmax(times), times.shape))
            self.result.findings.setdefault(
                device,
                finding(
                    index=index,
                    expected=expected[index].item(),
                    found=found[index].item(),
                    allowed=0.0 if allowed is None else float(allowed[index]),
                    times=largest,
                    count=int(np.count_nonzero(times > 1.0)),
                    region=_region(times > 1.0),
                ),
            )
        return largest


def _times(expected: HostArray, found: HostArray, allowed: HostArray | None) -> HostArray:
    """The differences in units of those allowed; infinite where one value is not finite and the other is another."""
    differ = (expected != found) & ((expected == expected) | (found == found))
    times = np.zeros(expected.shape)
    if allowed is None:
        times[differ] = np.inf
        return times
    with np.errstate(all="ignore"):
        of_these = np.abs(expected[differ].astype(np.float64) - found[differ]) / allowed[differ]
    times[differ] = np.where(of_these >= 0.0, of_these, np.inf)
    return times


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
