"""A worker of ``benchmarks.crash`` that has a fault: ``python -m tests.benchmarks.crash_planted FAULT RUN WHAT``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from benchmarks.crash import work
from nn import Trainer
from nn.storage.training_state import Interrupted

Restore = Callable[[Interrupted, Trainer], None]


def forget(self: work.Own, state: dict[str, Any]) -> None:
    """A callback goes on as if nothing had been."""


def with_a_loss_that_is_off(restore: Restore) -> Restore:
    def restored(self: Interrupted, trainer: Trainer) -> None:
        restore(self, trainer)
        if trainer.history.records:
            trainer.history.records[0]["loss"] += 1e-12

    return restored


def main(arguments: list[str]) -> int:
    fault, *others = arguments
    if fault == "memory":
        setattr(work.Own, "load_state_dict", forget)  # noqa: B010 (a method may not be assigned to)
    elif fault == "history":
        setattr(Interrupted, "restore", with_a_loss_that_is_off(Interrupted.restore))  # noqa: B010
    return work.main(others)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
