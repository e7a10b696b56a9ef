"""What a comparison of devices has seen."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

from ..data.values import listed

#: Steps that a table of the curve shows.
SHOWN_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


@dataclass(frozen=True)
class Finding:
    """The first tensor in which a device differs from the first device by more than rounding explains.

    Attributes:
        device, first: the two devices.
        step, epoch, batch: when, each counted from 1; step 0 is before training.
        phase: ``"start"``, ``"batch"``, ``"forward"``, ``"loss"``, ``"backward"`` or ``"update"``.
        position, layer: the index of the layer in the network and its repr; "" where the tensor belongs to none.
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
    position: str
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
        when = f"step {self.step} (epoch {self.epoch}, batch {self.batch})" if self.step else "the initial values"
        lines = [f"differs from {self.first} beyond rounding, first in {when}, {self.phase}"]
        if self.position:
            lines.append(f"layer    {self.position}: {self.layer}")
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
        idle_biases: the biases that a batch normalization takes away again: their true gradient is 0, so that the
            relative differences of the curve are without them. In lockstep they are compared like all others.
    """

    devices: list[str]
    steps: int = 0
    findings: dict[str, Finding] = field(default_factory=dict)
    largest: dict[str, Largest] = field(default_factory=dict)
    curve: list[dict[str, Any]] = field(default_factory=list)
    idle_biases: list[str] = field(default_factory=list)

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
        where = {(finding.step, finding.tensor, finding.position) for finding in self.findings.values()}
        if len(self.findings) == len(self.devices) - 1 > 1 and len(where) == 1:
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
        if self.idle_biases:
            lines.append(
                f"without {listed(self.idle_biases)}: a batch normalization takes these biases away again, so that "
                "their true gradients are 0 and what is computed is rounding"
            )
        return "\n".join(lines)

    def to_json_lines(self, run: str = "") -> str:
        """The curve as JSON lines, with the id of the run, if it has one; numbers that are not finite become null."""
        whose = {"run": run} if run else {}
        finite = ({key: _finite(value) for key, value in record.items()} | whose for record in self.curve)
        return "".join(json.dumps(record) + "\n" for record in finite)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
