"""The rules by which the launches of a recorded step are joined into fewer, in the order in which they are applied.

A rule looks for calls that one kernel can do together and replaces them. It may move a call only past calls that do not
touch the same memory, and the joined call writes all that the single ones wrote: so it does not matter who reads what,
in the step or after it.
"""

from __future__ import annotations

from collections.abc import Callable

from .launch import Kernels
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
        if overlap(calls[at].reads, loss.writes) or not can_wait(calls, at, index):
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
        others = [x for x in loss.writes if not is_same_memory(x, sums["z"]) and not is_same_memory(x, outputs)]
        if overlap(others, calls[at].reads) or not can_wait(calls, at, index):
            continue
        joined = kernels.again(loss, z=sums["z"], bias=sums["bias"], biased=outputs)
        return bias_into_loss(replaced(calls, {at}, index, joined), kernels)
    return calls


RULES: tuple[JoiningRule, ...] = (targets_into_loss, bias_into_loss)
