"""The same training on several backends, tensor by tensor: when and where do they first differ beyond rounding?

Two views of one run:

* **in lockstep**: every backend makes the same steps, and each tensor of a step is compared, in the order in which it
  is computed. Then the first backend's values are put in its place on the others, parameters and optimizer state
  included. So every operation starts from equal numbers: what differs is that operation's own doing, nothing
  accumulates, and no ReLU stands on different sides of 0;
* **free**: each backend also trains by itself from the same start, and the curve of their differences is recorded.

What rounding explains follows from the numbers that an operation is given: see ``nn.rounding``.
Batches, start values, dropout masks and counts must be equal bit for bit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backends import Backend, get_backend
from backends.typing import Array, HostArray

from ..data import as_dataset
from ..files import write_atomically
from ..layers import Dropout, Layer, Linear
from ..optimizers import Optimizer
from ..trainer import Rows, Trainer, TrainingDiverged
from .rounding import Rounding

if TYPE_CHECKING:
    from matplotlib.figure import Figure


#: Steps that a table of the curve shows.
SHOWN_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
LONGEST_REPR = 90


# ---- the result ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """The first tensor in which a device differs from the first device by more than rounding explains.

    Attributes:
        device, first: the two devices.
        step, epoch, batch: when, each counted from 1; step 0 is before training.
        phase: ``"start"``, ``"batch"``, ``"forward"``, ``"loss"``, ``"backward"`` or ``"update"``.
        place, layer: the place of the layer in the network and its repr; "" where the tensor belongs to none.
        tensor: such as ``"activation"`` or ``"gradient of 0.weight"``.
        shape: of the tensor.
        index: the element that is furthest beyond rounding.
        expected, found: its value on the first device and on this one.
        allowed: the difference that rounding explains there; 0 where values must be equal bit for bit.
        times: the difference in units of ``allowed``.
        count: how many elements differ beyond rounding.
        region: where all of them lie, such as ``"[127, :]"``.
        note: what differs if not the values: the shape or the dtype.
    """

    device: str
    first: str
    step: int
    epoch: int
    batch: int
    phase: str
    place: str
    layer: str
    tensor: str
    shape: tuple[int, ...]
    index: tuple[int, ...] = ()
    expected: float = math.nan
    found: float = math.nan
    allowed: float = 0.0
    times: float = math.inf
    count: int = 0
    region: str = ""
    note: str = ""

    def __str__(self) -> str:
        when = f"step {self.step} (epoch {self.epoch}, batch {self.batch})" if self.step else "the start values"
        lines = [f"differs from {self.first} beyond rounding, first in {when}, {self.phase}"]
        if self.place:
            lines.append(f"layer    {self.place}: {self.layer}")
        lines.append(f"tensor   {self.tensor}, of shape {self.shape}")
        if self.note:
            return "\n".join([*lines, f"differs  {self.note}"])
        size = math.prod(self.shape)
        at = f"at {list(self.index)}: " if size > 1 else ""
        rule = f"{self.times:.3g} times what rounding explains, {self.allowed:.2g}" if self.allowed else "must be equal"
        lines.append(f"largest  {at}{self.expected!r} on {self.first}, {self.found!r} on {self.device}; {rule}")
        if size > 1:
            lines.append(f"differs  in {self.count:,} of {size:,} elements, within {self.region}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Largest:
    """The tensor that came closest to the limit of what rounding explains: 1 would be at it."""

    share: float = 0.0
    tensor: str = ""
    step: int = 0


@dataclass
class Comparison:
    """What ``compare`` saw.

    Attributes:
        devices: their names; all others are compared with the first.
        steps: how many steps were compared.
        findings: by device, the first difference beyond rounding; a device without one agrees.
        largest: by device, the largest difference in lockstep, relative to what rounding explains.
        curve: for each step and device one record: ``step``, ``epoch``, ``device``, ``loss`` on the first device;
            ``loss_difference``, ``gradient_difference`` and ``parameter_difference`` of the free runs, the largest
            |a - b| of each tensor relative to the largest |a|; and ``share`` and ``tensor``, the largest difference in
            lockstep in units of what rounding explains (infinite for what must be equal and is not, None after a
            finding).
    """

    devices: list[str]
    steps: int = 0
    findings: dict[str, Finding] = field(default_factory=dict)
    largest: dict[str, Largest] = field(default_factory=dict)
    curve: list[dict[str, Any]] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Whether no device differs from the first one beyond rounding."""
        return not self.findings

    def __str__(self) -> str:
        width = max(map(len, self.devices)) + 2
        lines = []
        for device in self.devices[1:]:
            largest = self.largest[device]
            text = f"no difference beyond rounding in {self.steps:,} step{'s' * (self.steps != 1)}; largest: "
            text += f"{largest.share:.2g} of what rounding explains, {largest.tensor} in step {largest.step}"
            if largest.share == 0.0:
                text = f"equal bit for bit in {self.steps:,} step{'s' * (self.steps != 1)}"
            text = str(self.findings.get(device, text))
            lines += [f"{device:<{width}}{line}" for line in text.splitlines()[:1]]
            lines += [f"{'':<{width}}{line}" for line in text.splitlines()[1:]]
        places = {(finding.step, finding.tensor, finding.place) for finding in self.findings.values()}
        if len(self.findings) == len(self.devices) - 1 > 1 and len(places) == 1:
            lines.append(
                f"all of them differ from {self.devices[0]} in the same tensor: look at {self.devices[0]} first"
            )
        return "\n".join(lines)

    def curve_text(self) -> str:
        """How the differences grow where each device trains by itself: a table of a few steps."""
        head = ("step", "loss", "gradients", "parameters")
        lines = []
        for device in self.devices[1:]:
            lines.append(f"{device} by itself, relative difference from {self.devices[0]}")
            lines.append("  ".join(f"{title:>{width}}" for title, width in zip(head, (8, 10, 10, 10), strict=True)))
            for record in self.curve:
                if record["device"] == device and record["step"] in {*SHOWN_STEPS, self.steps}:
                    cells = (record[f"{name}_difference"] for name in ("loss", "gradient", "parameter"))
                    lines.append("  ".join([f"{record['step']:>8,}", *(f"{cell:>10.1e}" for cell in cells)]))
        return "\n".join(lines)

    def to_json_lines(self) -> str:
        """The curve as JSON lines; numbers that are not finite become null."""
        finite = ({key: _finite(value) for key, value in record.items()} for record in self.curve)
        return "".join(json.dumps(record) + "\n" for record in finite)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ---- comparing -------------------------------------------------------------------------------------------------------


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
        make: gives a new trainer on a backend, always of the same network, start values, loss and optimizer.
        devices: two or more, compared with the first: names as of ``get_backend``, ``"cpu/reference"`` for the
            reference operations of a device, or backends; or backends by any names.
        data, epochs, batch_size, shuffle: as of ``Trainer.fit``.
        steps: compare at most so many. The comparison also ends when every device has differed.
        dtype: of the devices that are given by name.
        progress: show a bar on a terminal.

    Raises:
        ValueError: a device cannot be used or is named twice, there is only one, or the data do not fit.
        TrainingDiverged: the loss of the first device is not finite.
    """
    backends = devices if isinstance(devices, dict) else named_backends(devices, dtype)
    if len(backends) < 2:
        raise ValueError("two devices or more are needed to compare, as in cpu,cuda or cpu,cpu/reference")
    data = as_dataset(data)
    first_name, *others = backends
    first = _Side(make(backends[first_name]), data, batch_size, leads=True)
    locked = {name: _Side(make(backends[name]), data, batch_size) for name in others}
    free = {name: _Side(make(backends[name]), data, batch_size) for name in others}
    for name, side in locked.items():
        _check_same_training(first.trainer, side.trainer, name)
    result = Comparison([*backends], largest={name: Largest() for name in others})
    lockstep = _Lockstep(first_name, first, locked, result)
    lockstep.start()
    for step, (epoch, batch, start, count) in enumerate(_bar(first.schedule(epochs, steps), progress), 1):
        if len(result.findings) == len(others):
            break
        result.steps = step
        for side in (first, *locked.values(), *free.values()):
            side.begin_batch(epoch, shuffle and first.size < len(data), start, count)
        seen, shares = lockstep.step(step, epoch, batch)
        for name, side in free.items():
            record = {"step": step, "epoch": epoch, "device": name, "loss": float(seen["loss"][0]) / count}
            result.curve.append(record | _differences(seen, side.free_step()) | shares[name])
        if result.agrees and not math.isfinite(seen["loss"][0]):
            raise TrainingDiverged(
                f"the loss became {float(seen['loss'][0])} in step {step} (epoch {epoch}) on {first_name}, without a "
                "difference beyond rounding until then: training diverged; use a smaller learning rate"
            )
    return result


def named_backends(devices: Sequence[str | Backend], dtype: str = "float32") -> dict[str, Backend]:
    """The backends by name: ``"cpu"``, ``"cuda:1"``, ``"cpu/reference"``.

    Raises:
        ValueError: one cannot be used, or two are the same.
    """
    backends: dict[str, Backend] = {}
    for device in devices:
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


def _check_same_training(first: Trainer, other: Trainer, name: str) -> None:
    for what, a, b in (
        ("network", repr(first.model.layers), repr(other.model.layers)),
        ("seed", first.model.seed, other.model.seed),
        ("loss", first.loss, other.loss),
        ("optimizer", first.optimizer, other.optimizer),
    ):
        if (a.settings() if isinstance(a, Optimizer) else a) != (b.settings() if isinstance(b, Optimizer) else b):
            raise ValueError(f"`make` must give the same training everywhere, but the {what} on {name} is another")


def _bar(schedule: list[tuple[int, int, int, int]], progress: bool) -> Any:
    if not progress:
        return schedule
    from tqdm import tqdm

    return tqdm(schedule, unit="step", leave=False, disable=None)  # None: only on a terminal


def _differences(expected: dict[str, HostArray], found: dict[str, HostArray]) -> dict[str, float]:
    """The largest difference relative to the largest value of a tensor: of the loss, the gradients, the parameters."""
    result = {"loss_difference": 0.0, "gradient_difference": 0.0, "parameter_difference": 0.0}
    for name, a in expected.items():
        with np.errstate(all="ignore"):
            difference = float(np.max(np.abs(a - found[name])))
            relative = difference / float(np.max(np.abs(a))) if difference else 0.0
        key = f"{name.partition(' ')[0]}_difference"
        if not relative <= result[key]:
            result[key] = relative
    return result


class _Side:
    """A trainer on one backend, with its rows."""

    def __init__(self, trainer: Trainer, data: Any, batch_size: int | None, leads: bool = False) -> None:
        self.trainer = trainer
        self.backend = trainer.backend
        self.leads = leads
        self.size = len(data) if batch_size is None else batch_size
        with self.backend.use():
            self.rows = trainer.upload(data, keep_scaled=self.size >= len(data))
        self.order: Array | None = None
        self.epoch = 0
        self.position = (0, 0)

    def schedule(self, epochs: int, steps: int) -> list[tuple[int, int, int, int]]:
        """(epoch, number of the batch, first row, rows) of each step."""
        begun, n = self.trainer.epoch, len(self.rows)
        return [
            (epoch, batch, start, min(self.size, n - start))
            for epoch in range(begun + 1, begun + epochs + 1)
            for batch, start in enumerate(range(0, n, self.size), 1)
        ][:steps]

    def begin_batch(self, epoch: int, shuffled: bool, start: int, count: int) -> None:
        if epoch != self.epoch:
            self.epoch = self.trainer.epoch = epoch
            with self.backend.use():
                self.order = self.trainer._order(len(self.rows)) if shuffled else None
        self.position = start, count

    def tensors(self) -> Iterator[Tensor]:
        """The tensors of the step; the device is the current one while they are computed, not while they are used."""
        walk = _walk(self.trainer, self.rows, self.order, *self.position, self.leads)
        while True:
            with self.backend.use():
                tensor = next(walk, None)
            if tensor is None:
                return
            yield tensor

    def host(self, array: Array) -> HostArray:
        with self.backend.use():
            return np.asarray(self.backend.to_numpy(array))

    def put(self, array: Array, values: HostArray) -> None:
        """Write the other device's values in the place of this one's."""
        with self.backend.use():
            array[...] = self.backend.asarray(values, array.dtype)

    def free_step(self) -> dict[str, HostArray]:
        """Make the step, and give its loss, gradients and parameters."""
        return {tensor.tensor: self.host(tensor.array).copy() for tensor in self.tensors() if tensor.in_curve}


class _Lockstep:
    """The steps of all devices, each tensor compared with the first device's and then replaced by it."""

    def __init__(self, first_name: str, first: _Side, others: dict[str, _Side], result: Comparison) -> None:
        self.first_name, self.first, self.others, self.result = first_name, first, others, result

    def start(self) -> None:
        """Compare the start values."""
        for name, array in self.first.trainer.model.parameters.items():
            expected = self.first.host(array)
            for device, side in self.others.items():
                tensor = Tensor("start", f"parameter {name}", *_layer_of(side.trainer, name), array)
                self._judge(device, tensor, expected, side.host(side.trainer.model.parameters[name]), None, (0, 0, 0))

    def step(self, step: int, epoch: int, batch: int) -> tuple[dict[str, HostArray], dict[str, dict[str, Any]]]:
        """The loss, gradients and parameters of the first device, and for each other its largest difference."""
        walks = {device: side.tensors() for device, side in self.others.items() if device not in self.result.findings}
        shares: dict[str, dict[str, Any]] = {device: {"share": None, "tensor": None} for device in self.others}
        seen = {}
        for tensor in self.first.tensors():
            expected = self.first.host(tensor.array)
            if tensor.in_curve:
                seen[tensor.tensor] = expected.copy()
            allowed = tensor.allowed() if walks else None
            for device in list(walks):
                side, theirs = self.others[device], next(walks[device])
                found = side.host(theirs.array)
                share = self._judge(device, tensor, expected, found, allowed, (step, epoch, batch))
                if not share <= (shares[device]["share"] or 0.0):
                    shares[device] = {"share": share, "tensor": tensor.full_name}
                if device in self.result.findings:
                    del walks[device]
                elif share > 0.0:
                    side.put(theirs.array, expected)
        for device in walks:
            next(walks[device], None)  # let the last operation of the step be counted
            share = shares[device]["share"] or 0.0
            if share > self.result.largest[device].share:
                self.result.largest[device] = Largest(share, shares[device]["tensor"], step)
        return seen, shares

    def _judge(
        self,
        device: str,
        tensor: Tensor,
        expected: HostArray,
        found: HostArray,
        allowed: HostArray | None,
        when: tuple[int, int, int],
    ) -> float:
        """The largest difference in units of what rounding explains; a finding if that is above 1."""
        finding = partial(
            Finding, device, self.first_name, *when, tensor.phase, tensor.place, tensor.layer, tensor.tensor,
            expected.shape,
        )  # fmt: skip
        for what in ("shape", "dtype"):
            a, b = getattr(expected, what), getattr(found, what)
            if a != b and (what, tensor.tensor) != ("dtype", "loss"):  # a device may lack float64 to add losses up
                self.result.findings.setdefault(device, finding(note=f"the {what}: {a} and {b}"))
                return math.inf
        if np.array_equal(expected, found):
            return 0.0
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
    with np.errstate(all="ignore"):
        difference = np.abs(expected.astype(np.float64) - found)
        times = np.full(difference.shape, np.inf) if allowed is None else difference / allowed
    equal = (expected == found) | ((expected != expected) & (found != found))
    return np.where(equal, 0.0, np.where(times >= 0.0, times, np.inf))


def _region(beyond: HostArray) -> str:
    """The smallest box that holds all elements: ``[3, :]``, ``[5:9, 2]``."""
    sides = []
    for extent, places in zip(beyond.shape, np.nonzero(beyond), strict=True):
        low, high = int(places.min()), int(places.max())
        whole = (low, high) == (0, extent - 1) and extent > 1
        sides.append(":" if whole else str(low) if low == high else f"{low}:{high + 1}")
    return f"[{', '.join(sides)}]"


# ---- a step, tensor by tensor ----------------------------------------------------------------------------------------


def _exact() -> None:
    """For tensors that must be equal bit for bit."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of a step, just computed. ``allowed()`` is the difference that rounding explains, None for none."""

    phase: str
    tensor: str
    place: str
    layer: str
    array: Array
    allowed: Callable[[], HostArray | None] = _exact
    in_curve: bool = False

    @property
    def full_name(self) -> str:
        """With the layer, where the name of the tensor does not say it."""
        own = self.place and f" {self.place}." not in self.tensor
        return f"{self.tensor} of layer {self.place}" if own else self.tensor


def _layer_of(trainer: Trainer, name: str) -> tuple[str, str]:
    """The place and the repr of the layer that the parameter called ``name`` belongs to."""
    place = name.partition(".")[0]
    return place, _repr(trainer.model.layers[int(place)])


def _repr(layer: Layer) -> str:
    text = repr(layer)  # start values that are written out may be long
    return text if len(text) <= LONGEST_REPR else f"{text[: LONGEST_REPR - 3]}..."


def _walk(
    trainer: Trainer, rows: Rows, order: Array | None, start: int, count: int, leads: bool = True
) -> Iterator[Tensor]:
    """``Trainer.step``, stopping after each operation for its results to be looked at or replaced.

    The same operations on the same buffers; a test holds the two against each other. Only the side that ``leads`` is
    asked what rounding explains, so that only there the values are kept that an operation overwrites.
    """
    model, backend, link = trainer.model, trainer.backend, trainer.from_logits
    rounding = Rounding(backend)
    x, targets = trainer.batch(rows, order, start, count)
    yield Tensor("batch", "batch", "", "", x)
    yield Tensor("batch", "targets", "", "", targets)

    body = model.begin(training=True, before_link=link, factor=rows.factor)
    for layer, ctx in body:
        y = layer.forward(x, ctx)
        where = ctx.name, _repr(layer)
        if isinstance(layer, Dropout) and ctx.saved is not None:
            yield Tensor("forward", "dropout mask", *where, ctx.saved)
        yield Tensor("forward", "activation", *where, y, partial(rounding.forward, layer, ctx, x, y))
        x = y

    totals, room = backend.zeros((2,), backend.wide), model.workspace.buffer("doutputs", x.shape)
    totals, dy = trainer.loss(backend, x, targets, totals=totals, out=room)
    about = partial(rounding.loss, trainer.loss.operation, x, targets)
    yield Tensor("loss", "loss", "", "", totals[:1], lambda: about(totals)[0], in_curve=True)
    yield Tensor("loss", "right rows", "", "", totals[1:])
    yield Tensor("loss", "gradient of the outputs", "", "", dy, lambda: about(dy)[1])

    for layer, ctx in reversed(body):
        given = backend.to_numpy(dy).copy() if leads else None
        dx = layer.backward(dy, ctx)
        where = ctx.name, _repr(layer)
        about_gradients = partial(rounding.backward, layer, ctx, given, dy)
        if type(layer) is Linear and layer.activation != "identity":
            about_this = partial(about_gradients, "before the activation", dy)
            yield Tensor("backward", "gradient before the activation", *where, dy, about_this)
        for name, gradient in reversed(ctx.gradients.items()):  # of Linear the bias first, as it is computed
            about_this = partial(about_gradients, name, gradient)
            yield Tensor("backward", f"gradient of {ctx.name}.{name}", *where, gradient, about_this, in_curve=True)
        if dx is None or not ctx.needs_dx:
            break
        yield Tensor("backward", "gradient of the input", *where, dx, partial(about_gradients, "input", dx))
        dy = dx

    buffers = {"parameter": model.flat_parameters, "gradient": model.flat_gradients, **trainer.optimizer.state}
    before = {name: backend.to_numpy(buffer).copy() for name, buffer in buffers.items()} if leads else {}
    trainer.optimizer.step(model)
    model.step += 1
    allowed = rounding.update(trainer.optimizer, before, model.decayed) if leads else {}
    for buffer, array in (*trainer.optimizer.state.items(), ("parameter", model.flat_parameters)):
        for name, view in model.parameters.items():
            section = slice(model.offsets[name], model.offsets[name] + math.prod(view.shape))
            part = backend.xp.reshape(array[section], view.shape)
            yield Tensor(
                "update", f"{buffer} {name}", *_layer_of(trainer, name), part,
                partial(_section, allowed.get(buffer), section, view.shape), in_curve=buffer == "parameter",
            )  # fmt: skip


def _section(flat: HostArray, section: slice, shape: tuple[int, ...]) -> HostArray:
    return flat[section].reshape(shape)


# ---- files -----------------------------------------------------------------------------------------------------------


def write_comparison(comparison: Comparison, folder: Path, *, lines: bool = True, picture: bool = False) -> list[str]:
    """Write the curve as ``compare.jsonl`` and as ``compare.png``, each file whole or not at all; their names."""
    written = []
    if lines:
        write_atomically(folder / "compare.jsonl", comparison.to_json_lines().encode())
        written.append("compare.jsonl")
    if picture:
        from ..report.plots import write_picture

        write_picture(curve_picture(comparison), folder / "compare.png")
        written.append("compare.png")
    return written


def curve_picture(comparison: Comparison) -> Figure:
    """How the differences of the free runs grow, step by step, on a logarithmic scale."""
    from ..report.plots import new_figure

    figure = new_figure(13.0, 3.8)
    panels = {"loss": "loss", "gradient": "gradients", "parameter": "parameters"}
    for (name, title), axes in zip(panels.items(), figure.subplots(1, 3, squeeze=False)[0], strict=True):
        for device in comparison.devices[1:]:
            records = [record for record in comparison.curve if record["device"] == device]
            differences = [record[f"{name}_difference"] or math.nan for record in records]  # no 0 on this scale
            axes.plot([record["step"] for record in records], differences, label=device, marker=".", markersize=3)
        axes.set_yscale("log")
        axes.set_title(f"{title.capitalize()}: difference from {comparison.devices[0]}", parse_math=False, fontsize=11)
        axes.set_xlabel("step")
        axes.set_ylabel("largest difference / largest value")
        axes.grid(visible=True, which="both", alpha=0.25)
        axes.legend()
    return figure
