"""Out of memory: what needed it, what is free, and which batch size would fit; and all is as it was.

Whoever needs memory for rows in batches says how much a row takes (``training``, ``in_batches``), or for what it is
(``allocating``). The methods that users call (``memory_told``) then give everything back that can be made anew, look at
what is free, and raise one error that holds none of the arrays, so that a smaller batch can be tried at once.
"""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from math import prod
from typing import Any, NamedTuple, TypeGuard, TypeVar

from backends import Backend, OutOfMemoryError
from backends.devices import ARRAYS, is_out_of_memory
from backends.typing import Shape

from .feed import Rows
from .snapshot import moved_arrays
from .stages import function_of
from .summary import ITEMSIZE, summarize

#: An ``nn.Trainer`` or an ``nn.Sequential``. (Importing them here would be a circle: they import this module.)
Trainer = Any
Model = Any
Result = TypeVar("Result")

#: What a batch that is said to fit leaves free: pieces of memory are rounded up, and graphs take some, too.
SPARE = 0.1
#: How many times as much the reference takes, whose operations write into no buffers.
WITHOUT_BUFFERS = 4
#: How many times the outputs and their gradients a recorded step takes on the host, where it keeps the arrays between
#: its operations for each size of a batch; measured. Three times as a rule, and where a derivative is computed from z:
TIMES = {"gelu": 11.0, "gelu_tanh": 8.0, "silu": 4.0, "elu": 4.0, "leaky_relu": 4.0, "softplus": 4.0}
#: On a GPU those are buffers for z.
WITH_Z = 1.5
REMEDY = "use fewer rows, a smaller network or another device"


class Need(NamedTuple):
    """What a batch needs.

    Attributes:
        what: needs it, in words.
        rows: of the batch.
        row_bytes: of one of them, in all buffers.
        other_bytes: what is needed beside them, and is not there while ``kept`` is.
        kept: what is needed again with a smaller batch.
        trains: whether that batch is one of ``fit``.
    """

    what: str
    rows: int
    row_bytes: int
    other_bytes: int = 0
    kept: Any = None
    trains: bool = False

    def fitting(self, free: int) -> int:
        """A batch size that fits into so much memory, a power of two below that of the batch; 0 where none does."""
        most = min(int(free * (1.0 - SPARE) - self.other_bytes) // max(self.row_bytes, 1), self.rows - 1)
        return 1 << (most.bit_length() - 1) if most > 0 else 0


class _BatchError(OutOfMemoryError):
    """A batch found no memory; on the way to ``memory_told``."""

    need: Need


# ---- who needs it ----------------------------------------------------------------------------------------------------


@contextmanager
def training(trainer: Trainer, rows: Rows, size: int, watch: Any) -> Iterator[None]:
    """A context for an epoch on ``rows`` in batches of ``size``: where memory runs out in it, the trainer is as it was
    when the epoch began, by ``watch``."""
    try:
        yield
    except Exception as error:
        if not (is_out_of_memory(error) and watch.undo()):
            raise
        moved = sum(array.shape[0] for _, array in moved_arrays(trainer)) + trainer.model.store.layout.size
        of_targets = 8 * (prod(rows.y.shape[1:]) + 1)  # and its weight
        row_bytes = 2 * output_bytes(trainer.model, tuple(rows.x.shape[1:])) + of_targets
        other = moved * ITEMSIZE[trainer.backend.dtype_name]
        need = Need(f"training steps with batch_size={size}", size, row_bytes, other, rows, trains=True)
        told = _of_batch(trainer, error, need)
    else:
        return
    raise told


@contextmanager
def in_batches(
    model: Model, what: str, row_shape: Shape, size: int, other_bytes: int = 0, kept: Any = None
) -> Iterator[None]:
    """A context for the outputs of the network for batches of ``size`` rows of that shape, which are for ``what``; the
    last two are those of ``Need``."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        need = Need(f"{what} with batch_size={size}", size, output_bytes(model, row_shape), other_bytes, kept)
        told = _of_batch(model, error, need)
    else:
        return
    raise told


@contextmanager
def allocating(backend: Backend, what: str, advice: str | Callable[[int | None], str]) -> Iterator[None]:
    """A context for arrays that are as large as they are.

    Args:
        what: they are, in words, in the plural.
        advice: what to do where there is no memory for them; or what gives that for so many free bytes.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        told = backend.device.out_of_memory(error, what)
        told.advice = advice if isinstance(advice, str) else advice(told.free)
    else:
        return
    raise told


def _of_batch(owner: Trainer | Model, error: Exception, need: Need) -> Exception:
    """The error to go on with; one that is told already stays."""
    if _is_told(error):
        return error
    told = owner.backend.device.out_of_memory(error, need.what)
    batch = _BatchError(*told.args)
    vars(batch).update(vars(told))
    batch.need = need
    return batch


def output_bytes(model: Model, row_shape: Shape) -> int:
    """What a row and the outputs of all layers for it take; their gradients take as much again."""
    backend = model.backend
    batch = summarize(model.layers, row_shape, 1, backend.dtype_name).bytes["batch"]
    if not (backend.fused and backend.device.has_overrides):
        return batch // 2 * WITHOUT_BUFFERS
    functions = {function_of(layer).partition("(")[0] for layer in model.layers}
    if backend.device.own_memory:
        times = 1.0 if functions.isdisjoint(TIMES) else WITH_Z
    else:
        times = max(TIMES.get(name, 3.0) for name in functions)
    return int(batch * times) // 2


# ---- what users see --------------------------------------------------------------------------------------------------


def memory_told(method: Callable[..., Result]) -> Callable[..., Result]:
    """A method of a trainer or a network that, where memory runs out, raises an ``OutOfMemoryError`` which says what to
    do, and leaves nothing behind: neither buffers nor recorded steps, nor arrays in the traceback."""

    @wraps(method)
    def call(self: Any, *given: Any, **options: Any) -> Result:
        before = sys.exception()
        try:
            return method(self, *given, **options)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            told = _told(self, error, before, method.__name__)
        raise told  # out here, where the error before it is not its context

    return call


def _told(owner: Trainer | Model, error: Exception, before: BaseException | None, method: str) -> OutOfMemoryError:
    """What to raise for ``error``, with everything given back that can be made anew."""
    device, need = owner.backend.device, error.need if isinstance(error, _BatchError) else None
    told = error if _is_told(error) else device.out_of_memory(error, f"arrays of {method}", REMEDY)
    told = OutOfMemoryError(*told.args, what=told.what, asked=told.asked, free=told.free, advice=told.advice)
    _let_go(error, before)
    owner.release()
    if need is not None:
        found = device.memory()
        size = need.fitting(found[0]) if found else 0
        if size == 0:
            told.advice = f"not one row fits beside the network and the data: {REMEDY}" if found else REMEDY
        elif method == "fit" and not need.trains:
            told.advice = f"leave validation out and call evaluate with batch_size={size}, which would fit"
        else:
            told.advice, told.batch_size = f"batch_size={size} would fit", size
    return told


def _is_told(error: Exception) -> TypeGuard[OutOfMemoryError]:
    """Whether it says already who needed the memory."""
    return isinstance(error, OutOfMemoryError) and error.what != ARRAYS


def _let_go(error: BaseException | None, before: BaseException | None) -> None:
    """Let go of the arrays that frames of the traceback hold, up to the error that was being handled before."""
    while error is not None and error is not before:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        error = error.__context__
    gc.collect()
