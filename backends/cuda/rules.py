"""The rules by which the launches of a recorded step are joined into fewer, in the order in which they are applied.

A rule looks for calls that one kernel can do together and replaces them. It may move a call only past calls that do not
touch the same memory, and the joined call writes all that the single ones wrote: so it does not matter who reads what,
in the step or after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..typing import Array
from .branches import updates_apart
from .launch import Kernels, row_blocks
from .source.sizes import (
    GROUP_HEIGHT,
    GROUP_ROWS,
    GROUP_WIDTH_BYTES,
    HEAD_COLUMNS,
    HEAD_MATRIX_BYTES,
    HEAD_ROWS,
    HEAD_ROWS_BYTES,
    MOST_GRADIENTS,
    MOST_UPDATES,
    SMALL_INPUT_BYTES,
    SMALL_MATRIX_BYTES,
    SMALL_WIDTH,
)
from .tape import Call, can_wait, is_same_memory, last_writer, overlap, replaced, span

#: Makes of the calls of a step fewer ones that do the same.
JoiningRule = Callable[[list[Call], Kernels], list[Call]]

LOSSES = (
    *("softmax_cross_entropy", "smoothed_cross_entropy", "binary_cross_entropy", "sigmoid_focal"),
    *("squared_error", "absolute_error", "huber"),
)


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
        if first.op != "sgd_update" or first.beside:
            continue
        found = [index]
        for at in range(index + 1, len(calls)):
            call = calls[at]
            if call.op != "sgd_update" or call.beside or len(found) == MOST_UPDATES or not _same_rate(call, first):
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


#: Columns of a head's dx, times rows, that its last block adds up; more is work for more blocks.
_DX_OF_LAST_BLOCK = 1 << 14
_HEAD_THREADS, _HEAD_BLOCKS = 512, 4096
_GROUP_THREADS = 256


def head(calls: list[Call], kernels: Kernels) -> list[Call]:
    """The last product of a network of few classes, its bias, softmax cross-entropy, the gradient of the rows before it
    and what the activation before makes of that, with the column sums of both gradients, in one launch.

    The products are summed in another order than cuBLAS's; all else is as before.
    """
    for index, loss in enumerate(calls):
        if loss.op == "softmax_cross_entropy":
            joined = _head(calls, index, kernels)
            if joined is not None:
                return head(joined, kernels)
    return calls


def _head(calls: list[Call], index: int, kernels: Kernels) -> list[Call] | None:
    of_loss = calls[index].arguments
    m, n, z, d = (of_loss[name] for name in ("m", "n", "z", "out"))
    if n > HEAD_COLUMNS or d is None or of_loss["ticket"] is None or row_blocks(m) > 1:
        return None
    if of_loss["bias"] is not None and not is_same_memory(of_loss["biased"], z):
        return None
    at = last_writer(calls, index, z)
    if at is None or calls[at].op != "gemm" or not can_wait(calls, at, index):
        return None
    product = calls[at].arguments
    x, matrix = product["a"], product["b"]
    if not _is_plain(product) or not is_same_memory(product["out"], z):
        return None
    k, itemsize = x.shape[1], x.dtype.itemsize
    if k * n * itemsize > HEAD_MATRIX_BYTES or k * itemsize * HEAD_ROWS > HEAD_ROWS_BYTES:
        return None

    taken = {at}

    def comes_forward(i: int) -> bool:
        return not any(calls[i].must_follow(calls[j]) for j in range(index + 1, i) if j not in taken)

    def next_one(op: str, **same: Array) -> int | None:
        """The next call of that operation with those arrays, which can be made as soon as the loss."""
        for i in range(index + 1, len(calls)):
            has = calls[i].arguments
            if calls[i].op.startswith(op) and all(is_same_memory(has[name], array) for name, array in same.items()):
                return i if comes_forward(i) else None
        return None

    joined: dict[str, Any] = {"d_sums": None, "saved": None, "dx": None, "dx_sums": None}
    sums = next_one("activation_backward_identity", dy=d)
    if sums is not None and calls[sums].arguments["dz"] is None:
        taken.add(sums)
        joined["d_sums"] = calls[sums].arguments["sums"]
    back = next_one("gemm", a=d, b=matrix)
    activation = "identity"
    if back is not None and _is_plain(calls[back].arguments, transpose_b=True):
        taken.add(back)
        dx = joined["dx"] = calls[back].arguments["out"]
        after = next_one("activation_backward_", dy=dx, dz=dx)
        if after is not None:
            name, of_dx = calls[after].op.removeprefix("activation_backward_"), calls[after].arguments
            if kernels.has(f"head_{name}") and (of_dx["sums"] is None or m * k <= _DX_OF_LAST_BLOCK):
                taken.add(after)
                joined |= {"saved": of_dx["saved"], "dx_sums": of_dx["sums"]}
                activation = name
    same = {name: x for name, x in of_loss.items() if name not in ("z", "biased", "out")}
    call = kernels.call(
        f"head_{activation}",
        (min(-(-m // HEAD_ROWS), _HEAD_BLOCKS),),
        _HEAD_THREADS,
        **{**same, "x": x, "matrix": matrix, "alpha": product["alpha"], "z": z, "d": d, "k": k, **joined},
    )
    if any(overlap((x,), [*call.only_read, *call.writes[i + 1 :]]) for i, x in enumerate(call.writes)):
        return None
    return replaced(calls, taken, index, call)


def _is_plain(product: Mapping[str, Any], *, transpose_b: bool = False) -> bool:
    """Whether it is out = alpha a op(b), where only the former may have an alpha, of matrices that lie row by row."""
    return (
        not product["transpose_a"]
        and product["transpose_b"] == transpose_b
        and product["beta"] == 0.0
        and (product["alpha"] == 1.0 or not transpose_b)
        and product["a"].flags.c_contiguous
        and product["b"].flags.c_contiguous
    )


#: Elements of all gradients of weights together up to which one kernel computes them; larger ones are cuBLAS's.
_MOST_WEIGHTS = 1 << 17


def gradients_and_update(calls: list[Call], kernels: Kernels) -> list[Call]:
    """The products that are gradients of weights, for small networks and batches, and the update by SGD of all
    parameters in one launch. The products are summed in another order than cuBLAS's; the update is as before."""
    for index, update in enumerate(calls):
        if update.op in ("sgd_update", "sgd_updates_2") and not update.beside:
            joined = _gradients_and_update(calls, index, kernels)
            if joined is not None:
                return gradients_and_update(joined, kernels)
    return calls


def _gradients_and_update(calls: list[Call], index: int, kernels: Kernels) -> list[Call] | None:
    of_update = _sections(calls[index])
    found: dict[int, int] = {}  # where a product's gradients begin among those of the update: the index of the call
    for i in range(index):
        has = calls[i].arguments
        if calls[i].op != "gemm" or not has["transpose_a"] or has["transpose_b"]:
            continue
        at = _place(has["out"], of_update)
        fits = has["a"].shape[0] <= GROUP_ROWS and all(has[name].flags.c_contiguous for name in ("a", "b", "out"))
        if at is not None and fits and can_wait(calls, i, index):
            found[at] = i
    places = sorted(found)[:MOST_GRADIENTS]
    products = [calls[found[at]].arguments for at in places]
    rows = {product["a"].shape[0] for product in products}
    covered = sum(product["out"].size for product in products)
    ends = [at + product["out"].size for at, product in zip(places, products, strict=True)]
    if len(rows) != 1 or covered > _MOST_WEIGHTS or any(end > at for end, at in zip(ends, places[1:], strict=False)):
        return None
    arguments: dict[str, Any] = {}
    tiles = 0
    for k, (at, product) in enumerate(zip(places, products, strict=True), 1):
        height, width = product["out"].shape
        tiles += -(-height // GROUP_HEIGHT) * -(-width * product["out"].dtype.itemsize // GROUP_WIDTH_BYTES)
        own = {"rows": product["a"], "slopes": product["b"], "to": product["out"], "alpha": product["alpha"]}
        own |= {"beta": product["beta"], "height": height, "width": width, "at": at, "tiles": tiles}
        arguments |= {f"{name}_{k}": x for name, x in own.items()}
    rest = of_update["end_2"] - covered
    blocks = min(tiles + -(-rest // _GROUP_THREADS), _HEAD_BLOCKS)
    name = f"gradients_and_update_{len(products)}"
    call = kernels.call(name, (blocks,), _GROUP_THREADS, m=rows.pop(), size=rest, **of_update, **arguments)
    inputs = [x for product in products for x in (product["a"], product["b"])]
    if overlap(inputs, call.writes):
        return None
    return replaced(calls, {found[at] for at in places}, index, call)


def _sections(update: Call) -> dict[str, Any]:
    """The arguments of one update, or of two, as of two, of which the second may be empty."""
    if update.op == "sgd_updates_2":
        return {name: x for name, x in update.arguments.items() if name != "size"}
    rate = {name: update.arguments[name] for name in ("learning_rate_at", "learning_rate")}
    own = {name: x for name, x in update.arguments.items() if name != "size" and name not in rate}
    size = {"end_1": update.arguments["size"], "end_2": update.arguments["size"]}
    return rate | {f"{name}_{k}": x for k in (1, 2) for name, x in own.items()} | size


def _place(gradient: Array, sections: Mapping[str, Any]) -> int | None:
    """The first element of which this is the gradient; None where it is not of one section's."""
    low, high = span(gradient)
    before = 0
    for k in (1, 2):
        begin, end = span(sections[f"gradient_{k}"])
        if begin <= low and high <= end and low < high and sections[f"end_{k}"] > before:
            return before + (low - begin) // int(gradient.dtype.itemsize)
        before = sections[f"end_{k}"]
    return None


#: Weights of a first layer up to which every two rows of a batch read all of them.
_MOST_FIRST_WEIGHTS = 1 << 17


def whole_network(calls: list[Call], kernels: Kernels) -> list[Call]:
    """All of a small network with one hidden layer, its rows gathered from bytes, up to the gradients before its
    weights', in one launch: what comes before a head, joined to it. Its product is summed in another order, too."""
    for index, end in enumerate(calls):
        if end.op.startswith("head_"):
            joined = _whole_network(calls, index, kernels)
            if joined is not None:
                return whole_network(joined, kernels)
    return calls


def _whole_network(calls: list[Call], index: int, kernels: Kernels) -> list[Call] | None:
    of_end, name = calls[index].arguments, calls[index].op.removeprefix("head_")
    x, k, n = (of_end[key] for key in ("x", "k", "n"))
    if not kernels.has(f"small_{name}") or not is_same_memory(of_end["saved"], x) or of_end["dx"] is None:
        return None
    found: list[int] = []
    array: Array | None = x
    for op in (f"bias_activation_{name}", "gemm", "take_rows_scaled_uint8"):
        at = None if array is None else last_writer(calls, found[-1] if found else index, array)
        if at is None or calls[at].op != op or not is_same_memory(calls[at].arguments["out"], array):
            return None
        found.append(at)
        has = calls[at].arguments
        array = has["z"] if op.startswith("bias") else has.get("a")
    hidden, product, rows = (calls[at].arguments for at in found)
    if hidden["z_out"] is not None or not is_same_memory(hidden["z"], x) or not _is_plain(product):
        return None
    inputs, itemsize = product["a"].shape[1], x.dtype.itemsize
    fits = (
        k <= SMALL_WIDTH
        and k * n * itemsize <= SMALL_MATRIX_BYTES
        and inputs * HEAD_ROWS * itemsize <= SMALL_INPUT_BYTES
        and inputs * k <= _MOST_FIRST_WEIGHTS
        and rows["width"] == inputs
    )
    if not fits:
        return None
    between = [i for i in range(found[-1] + 1, index) if i not in found]
    if any(calls[i].must_follow(calls[at]) for at in found for i in between if i > at):
        return None
    of_rows = ("order", "start_at", "start", "positions", "scale", "shift")
    arguments = {key: argument for key, argument in of_end.items() if key != "saved"}
    arguments |= {f"input_{key}": rows[key] for key in of_rows}
    arguments |= {"pixels": rows["rows"], "input_sources": rows["n"], "input": product["a"], "inputs": inputs}
    arguments |= {f"first_{key}": product[of] for key, of in (("matrix", "b"), ("alpha", "alpha"))}
    arguments["first_bias"] = hidden["bias"]
    (blocks, threads) = calls[index].grid
    call = kernels.call(f"small_{name}", blocks, threads, **arguments)
    if any(overlap((x,), [*call.only_read, *call.writes[i + 1 :]]) for i, x in enumerate(call.writes)):
        return None
    return replaced(calls, {*found}, index, call)


#: Rules that change no bit.
EXACT: tuple[JoiningRule, ...] = (targets_into_loss, bias_into_loss, updates_apart, updates_together)
#: All of them: those after the exact ones sum products in another order.
RULES: tuple[JoiningRule, ...] = (*EXACT, head, whole_network, gradients_and_update)
