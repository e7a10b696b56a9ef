"""Whether the state of a run can be one at all: counters, records and sizes that training can give."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .checkpoint import CheckpointError

#: What of the history is kept beside its records.
OF_HISTORY = ("stopped", "best_epoch", "monitor", "best_is_kept")


def check_state(state: Mapping[str, Any]) -> None:
    """Whether counters, records and sizes can be used at all."""
    numbers, history = state["numbers"], state["history"]
    counted = [
        "trainer.epoch",
        "model.step",
        "optimizer.steps",
        *(["average.from"] if "average.from" in numbers else []),
    ]
    _need("its counters are", all(_is_count(numbers[name]) for name in counted))
    rate = numbers.get("optimizer.learning_rate", 0.0)
    _need("its learning rate is", isinstance(rate, float | int) and 0.0 <= rate < math.inf)
    records = history["records"]
    _need("its history is", isinstance(records, list) and all(_is_count(record["epoch"]) for record in records))
    _need("its history is", all(name in history for name in OF_HISTORY) and isinstance(history["stopped"], str))
    _need("its run is", isinstance(state["run"], str) and isinstance(state["where"], dict))
    _need("its settings are", isinstance(state["settings"], dict))
    _need("its norm of gradients is", _are_numbers(state["gradient_norm"], 1))
    _need("its arrays are", {"parameters", "state"} <= {*state["arrays"]})
    if "fit" in state:
        fit = state["fit"]
        _need("its call of fit is", _is_count(fit["seen"]) and _is_count(fit["first"]))
        _need("its call of fit is", isinstance(fit["stopping"], str) and isinstance(fit["data"], dict))
        _need("its callbacks are", all(isinstance(entry["state"], dict) for entry in fit["callbacks"]))
        _need("its callbacks are", all(isinstance(entry["settings"], dict) for entry in fit["callbacks"]))
        _need("its callbacks are", all(isinstance(entry["kind"], str) for entry in fit["callbacks"]))
    if state.get("fit", {}).get("seen"):
        epoch = state["epoch"]
        _need("its epoch is", {*epoch["before"]} == {*state["arrays"]} and math.isfinite(epoch["seconds"]))
        shapes = [(array.shape, state["arrays"][name].shape) for name, array in epoch["before"].items()]
        _need("its epoch is", all(one == other for one, other in shapes))
        _need("its epoch is", _is_count(epoch["now"]["accumulate"]) and isinstance(epoch["now"]["optimizer"], dict))
        _need(
            "its epoch is",
            _are_numbers(epoch["totals"], 2 * state["settings"].get("blocks", 1))
            and isinstance(epoch["before_numbers"], dict),
        )
        _need("its epoch is", all(_is_count(epoch["before_numbers"][name]) for name in counted))


def _need(what: str, makes_sense: bool) -> None:
    if not makes_sense:
        raise CheckpointError(f"the checkpoint makes no sense: {what} none that training can give")


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _are_numbers(values: Any, count: int) -> bool:
    return isinstance(values, list) and len(values) == count and all(isinstance(value, float) for value in values)
