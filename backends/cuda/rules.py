"""The rules by which the launches of a recorded step are joined into fewer, in the order in which they are applied.

A rule looks for calls that one kernel can do together and replaces them. It may move a call only past calls that do not
touch the same memory, and the joined call writes all that the single ones wrote: so it does not matter who reads what,
in the step or after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .launch import Kernels
from .source import MOST_UPDATES
from .tape import Call, can_wait, is_same_memory, last_writer, overlap, replaced

#: Makes of the calls of a step fewer ones that do the same.
JoiningRule = Callable[[list[Call], Kernels], list[Call]]

LOSSES = ("softmax_cross_entropy", "binary_cross_entropy", "squared_error")


def targets_into_loss(calls: list[Call], kernels: Kernels) -> list[Call]:
    """A loss gathers the labels or targets of its batch itself. The same bits."""
    for index, loss in enumerate(calls):
        if loss.op not in LOSSES or loss.arguments["gathered"] is not None:
            continue
        targets = loss.arguments["targets"]
        at = last_writer(calls, index, targets)
        if at is None or not calls[at].op.startswith("take_rows_uint"):
            continue
        gather = calls[at].arguments
        rows = gather["rows"].view(targets.dtype)
        if not is_same_memory(gather["out"], targets) or gather["width"] != targets.size // targets.shape[0]:
            continue
        if overlap(calls[at].reads, loss.writes) or overlap(loss.arrays(but=["targets"]), (targets,)):
            continue
        if not can_wait(calls, at, index):
            continue
        places = {name: gather[name] for name in ("order", "start_at", "start", "positions")}
        joined = kernels.again(loss, targets=rows, gathered=targets, sources=gather["n"], **places)
        return targets_into_loss(replaced(calls, {at}, index, joined), kernels)
    return calls


def bias_into_loss(calls: list[Call], kernels: Kernels) -> list[Call]:
    """A loss adds the bias of the layer before it, which has no activation, itself. The same bits."""
    for index, loss in enumerate(calls):
        if loss.op not in LOSSES or loss.arguments["bias"] is not None:
            continue
        outputs = loss.arguments["z"]
        at = last_writer(calls, index, outputs)
        if at is None or calls[at].op != "bias_activation_identity":
            continue
        sums = calls[at].arguments
        if sums["bias"] is None or sums["z_out"] is not None or not is_same_memory(sums["out"], outputs):
            continue
        if overlap(loss.arrays(but=["z", "out"]), calls[at].writes) or not can_wait(calls, at, index):
            continue
        # The gradient may go where the outputs come from, element by element.
        others = [x for x in loss.writes if not is_same_memory(x, sums["z"]) and not is_same_memory(x, outputs)]
        if overlap(others, calls[at].reads):
            continue
        joined = kernels.again(loss, z=sums["z"], bias=sums["bias"], biased=outputs)
        return bias_into_loss(replaced(calls, {at}, index, joined), kernels)
    return calls


def updates_together(calls: list[Call], kernels: Kernels) -> list[Call]:
    """Updates by SGD with one learning rate, of sections of the parameters, in one launch. The same bits."""
    for index, first in enumerate(calls):
        if first.op != "sgd_update":
            continue
        found = [index]
        for at in range(index + 1, len(calls)):
            call = calls[at]
            if call.op != "sgd_update" or len(found) == MOST_UPDATES or not _same_rate(call, first):
                continue
            if not any(call.must_follow(calls[i]) for i in range(index, at)):
                found.append(at)
        if len(found) > 1:
            joined = _updates([calls[i] for i in found], kernels)
            return updates_together(replaced(calls, {*found}, index, joined), kernels)
    return calls


def _same_rate(one: Call, other: Call) -> bool:
    at, at_other = one.arguments["learning_rate_at"], other.arguments["learning_rate_at"]
    if at is None or at_other is None:
        return at is at_other and one.arguments["learning_rate"] == other.arguments["learning_rate"]
    return is_same_memory(at, at_other)


def _updates(updates: list[Call], kernels: Kernels) -> Call:
    rate = {name: updates[0].arguments[name] for name in ("learning_rate_at", "learning_rate")}
    arguments: dict[str, Any] = {}
    end = 0
    for k, update in enumerate(updates, 1):
        end += update.arguments["size"]
        own = {name: x for name, x in update.arguments.items() if name != "size" and name not in rate}
        arguments |= {f"{name}_{k}": x for name, x in own.items()} | {f"end_{k}": end}
    return kernels.call_on_elements(f"sgd_updates_{len(updates)}", end, **rate, **arguments)


RULES: tuple[JoiningRule, ...] = (targets_into_loss, bias_into_loss, updates_together)
