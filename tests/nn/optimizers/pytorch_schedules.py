"""``python -m tests.nn.optimizers.pytorch_schedules``: learning rates of PyTorch's schedulers, written to
``pytorch_schedules.json``, so that they can be compared with on a machine without PyTorch."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nn.optimizers import schedules as ours

PATH = Path(__file__).with_suffix(".json")
UPDATES = 40
#: A schedule; the rate that PyTorch's optimizer has; its scheduler, from torch.optim.lr_scheduler and the optimizer.
Case = tuple[ours.RateSchedule, float, Callable[[Any, Any], Any]]


def warmed_up(scheduler: Callable[[Any, Any], Any], start: float, length: int) -> Callable[[Any, Any], Any]:
    def both(there: Any, optimizer: Any) -> Any:
        line = there.LinearLR(optimizer, start_factor=start, total_iters=length)
        return there.SequentialLR(optimizer, [line, scheduler(there, optimizer)], milestones=[length])

    return both


def cases() -> list[Case]:
    return [
        (ours.Constant(0.3), 0.3, lambda there, o: there.ConstantLR(o, factor=1.0)),
        (ours.StepDecay(0.1, 7), 0.1, lambda there, o: there.StepLR(o, 7)),
        (ours.StepDecay(0.5, 10, 0.5), 0.5, lambda there, o: there.StepLR(o, 10, gamma=0.5)),
        (ours.ExponentialDecay(0.2, 0.9), 0.2, lambda there, o: there.ExponentialLR(o, 0.9)),
        (ours.CosineDecay(0.1, UPDATES), 0.1, lambda there, o: there.CosineAnnealingLR(o, UPDATES)),
        (
            ours.LinearWarmup(ours.CosineDecay(0.1, 30, 0.001), 10, 0.25),
            0.1,
            warmed_up(lambda there, o: there.CosineAnnealingLR(o, 30, eta_min=0.001), 0.25, 10),
        ),
        (
            ours.LinearWarmup(ours.StepDecay(0.1, 5, 0.5), 8, 1 / 3),
            0.1,
            warmed_up(lambda there, o: there.StepLR(o, 5, gamma=0.5), 1 / 3, 8),
        ),
        (ours.OneCycle(0.1, UPDATES), 0.1, lambda there, o: there.OneCycleLR(o, 0.1, UPDATES, cycle_momentum=False)),
        (
            ours.OneCycle(0.3, UPDATES, 0.1, 10.0, 100.0, "linear"),
            0.3,
            lambda there, o: there.OneCycleLR(
                o, 0.3, UPDATES, pct_start=0.1, anneal_strategy="linear", cycle_momentum=False, div_factor=10,
                final_div_factor=100,
            ),
        ),
        (ours.CosineDecay(0.1, 30, 0.001), 0.1, lambda there, o: there.CosineAnnealingLR(o, 30, eta_min=0.001)),
    ]  # fmt: skip


def updates_of(case: Case) -> int:
    """How many updates can be compared: PyTorch's cosine rises again after its length."""
    schedule = case[0]
    return schedule.length + 1 if isinstance(schedule, ours.CosineDecay) and schedule.length < UPDATES else UPDATES


def by_torch(case: Case) -> list[float]:
    """The learning rate of each update."""
    import torch

    _, rate, scheduler_of = case
    parameter = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=rate)
    scheduler = scheduler_of(torch.optim.lr_scheduler, optimizer)
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of SequentialLR's own way to call the others
        for _ in range(updates_of(case)):
            rates.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            scheduler.step()
    return rates


def main() -> None:
    lines = ",\n".join(f"{json.dumps(repr(case[0]))}: {json.dumps(by_torch(case))}" for case in cases())
    PATH.write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
