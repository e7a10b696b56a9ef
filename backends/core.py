"""``Core``: what every operation is written upon: an array library on a device, a float dtype, arrays in and out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from socket import gethostname
from typing import Any

import numpy as np

from .arguments import check_dtype, check_kind
from .collectives import Collectives, Node, ProcessError, tree_sum
from .devices import Device, DeviceError, ErrorKind
from .step import RecordedStep, Step, StepNumbers
from .typing import Array

DTYPES = ("float32", "float64")


class Core:
    """An array library on a device, and a float dtype: ``Backend`` without the operations of network training.

    Args:
        device: where arrays live and how they get there; see ``backends.devices``.
        dtype: ``"float32"`` to train, ``"float64"`` to check.

    Attributes:
        xp: the array-API namespace.
        dtype: the float dtype, as an object of that namespace; ``dtype_name`` is its name.
        wide: the dtype of loss sums and counts: float64 where the device has it.
        accumulates: whether ``matmul`` adds to what stands in ``out`` at little cost, so that a gradient need not be
            written before it is added to a velocity.
        accumulates_from: how many numbers must be added so for that to gain more than an update in two parts loses.
        multiplies: whether ``times`` of ``matmul`` costs little as well, so that a gradient need not be written before
            a parameter moves against it.
        why_device: why it is this device, where ``auto`` chose it; "" where it was named.
        collectives: the processes that train together; by default this one alone. See ``train_with``.
        sums_by: what carries sums over them, where that is not what carries everything else.
        sums_from: how many numbers a part of the gradients must have for its sum over them to be asked for by itself,
            since it is then made while others are computed; 0 where nothing is gained by that.
        why_eager: why steps that ``record`` was to record run as they are; "" where there is nothing to say.
    """

    fused = False
    accumulates = False
    accumulates_from = 0
    multiplies = False
    why_device = ""
    why_eager = ""
    collectives = Collectives()
    sums_by = ""
    sums_from = 0

    def __init__(self, device: Device, dtype: str = "float32") -> None:
        check_kind("device", device, Device, "a Device, as find_device gives it")
        dtype = check_dtype("dtype", dtype, DTYPES)
        self.device = device
        self.xp = device.xp
        self.dtype_name = dtype
        self.dtype = getattr(self.xp, dtype)
        self.wide = self.xp.float64 if device.has_float64 else self.xp.float32
        if dtype == "float64" and not device.has_float64:
            raise DeviceError(f"{device.spec} has no float64; ask for dtype='float32'", ErrorKind.LACKS_PRECISION)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.device.spec} {self.dtype_name}{'' if self.fused else ' reference'}>"

    # ---- the device -------------------------------------------------------------------------------------------------

    def use(self) -> AbstractContextManager[Any]:
        """A context in which this backend's device (and its stream) is the current one of the calling thread."""
        return self.device.use()

    def synchronize(self) -> None:
        """Wait until everything that was launched on the device has finished."""
        self.device.synchronize()

    def record(self, step: Step, *, only_operations: bool = True) -> RecordedStep:
        """Something that makes the same step, once or several times in one call, with less overhead where possible.

        ``step`` must only launch operations of this backend, on arrays that stay where they are from call to call, and
        must hand the numbers on as they come: its Python code may run once for each ``count``, not at every step.
        This class runs ``step`` itself.

        Args:
            only_operations: whether that is known. With False a backend that would not notice what else the step
                computes runs it as it is.
        """

        def recorded(numbers: StepNumbers, count: int, times: int = 1) -> None:
            for each in numbers.steps(count, times):
                step(each, count)

        return recorded

    # ---- arrays in and out ------------------------------------------------------------------------------------------

    def asarray(self, x: Any, dtype: Any = None) -> Array:
        """``x`` as an array on this device.

        Takes numbers, lists and arrays of NumPy, CuPy, PyTorch or any library with DLPack; shares memory where the
        array is already here, copies through the host otherwise. ``dtype`` is an object of ``self.xp``; by default
        floats become the backend's dtype and integers and booleans keep theirs.

        Raises:
            TypeError: ``x`` is ragged, sparse, or holds text or objects.
        """
        xp = self.xp
        array = self.device.asarray(x, self.dtype_name)
        if not xp.isdtype(array.dtype, ("bool", "integral", "real floating")):
            raise TypeError(f"an array of numbers is needed, not of dtype {array.dtype}")
        if dtype is None:
            dtype = self.dtype if xp.isdtype(array.dtype, "real floating") else array.dtype
        return array if array.dtype == dtype else xp.astype(array, dtype)

    def to_numpy(self, x: Array) -> Any:
        """``x`` as a NumPy array on the host. Waits for the device. May share memory with ``x`` on the CPU."""
        return self.device.to_numpy(x)

    def item(self, x: Array) -> float:
        """The one number in ``x``, as a Python float. Waits for the device."""
        return float(self.to_numpy(x).reshape(()))

    def empty(self, shape: tuple[int, ...], dtype: Any = None) -> Array:
        """An array of that shape, its contents arbitrary."""
        return self.xp.empty(shape, dtype=self.dtype if dtype is None else dtype, device=self.device.handle)

    def zeros(self, shape: tuple[int, ...], dtype: Any = None) -> Array:
        """An array of that shape, filled with 0."""
        return self.xp.zeros(shape, dtype=self.dtype if dtype is None else dtype, device=self.device.handle)

    def copy(self, x: Array, out: Array | None = None) -> Array:
        """A copy of ``x``."""
        return self._result(x, out) if out is not None else self.xp.asarray(x, copy=True)

    # ---- processes --------------------------------------------------------------------------------------------------

    def train_with(self, collectives: Collectives) -> None:
        """Be one of these processes from now on; all of them call this, on devices of one kind.

        Raises:
            ProcessError: on all of them; their devices differ, two have the same GPU, or they cannot be connected.
        """
        if collectives.size > 1 and collectives is not self.collectives:
            kind = f"{self.device.spec.partition(':')[0]}, {self.device.version()}, in {self.dtype_name}"
            kind += "" if self.fused else ", by the reference operations"
            if text := unlike(collectives.gather((gethostname(), kind, self.device.gpu()))):
                raise ProcessError(text)
            self._connect(collectives)
        self.collectives = collectives

    def _connect(self, collectives: Collectives) -> None:
        """Make ready what carries sums over these processes, where that is not the group itself."""

    def sum_over_processes(self, own: Sequence[Array], nodes: Sequence[Node], blocks: int, out: Array) -> Array:
        """The sum over all blocks of rows of all processes, in ``out``: the same bits for any number of processes.

        Args:
            own: the sums (n,) over the blocks of each of ``nodes``, in the backend's dtype; their contents are
                arbitrary afterwards.
            nodes: those of this process (``collectives.nodes_of``).
            blocks: how many there are over all processes.
            out: (n,); may be one of ``own``.
        """
        if self.collectives.size == 1:
            return self._result(tree_sum(nodes, own, self._add_in_place), out)
        host = np.empty(out.shape, self.dtype_name)
        return self._result(
            self.asarray(self.collectives.sum_nodes([*map(self.to_numpy, own)], nodes, blocks, host)), out
        )

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _add_in_place(self, left: Array, right: Array) -> Array:
        left[...] = left + right
        return left

    def _result(self, result: Array, out: Array | None) -> Array:
        """``result``, in ``out`` where that is given."""
        if out is None:
            return result
        out[...] = result
        return out


def unlike(found: Sequence[tuple[str, str, str]]) -> str:
    """Why processes cannot compute together, in a sentence; "" if they can.

    Args:
        found: of each, by rank: its host, how it computes, and its GPU ("" for none).
    """
    ranks: dict[tuple[str, str], int] = {}
    for rank, (host, kind, gpu) in enumerate(found):
        if kind != found[0][1]:
            return f"process {rank}, on {host}, computes on {kind}; process 0 on {found[0][1]}; let all have the same"
        if gpu and (other := ranks.setdefault((host, gpu), rank)) != rank:
            return (
                f"processes {other} and {rank} would share the GPU {gpu} of {host}; start one process for each GPU, "
                "and name no number: cuda"
            )
    return ""


def check_z_out(operation: str, z_out: Array | None, out: Array | None) -> None:
    """Raise a ValueError where the value before an activation and its result would go to the same array."""
    if z_out is not None and z_out is out:
        raise ValueError(f"{operation}: z_out must not be out, which gets the activation's result")


def check_beta(operation: str, beta: float, out: Array | None, name: str = "out") -> None:
    """Raise a ValueError where ``beta`` is not 0, and there is no array called ``name`` that it scales."""
    if beta != 0.0 and out is None:
        raise ValueError(f"{operation} with beta needs the array `{name}` that beta scales")


def scaled(product: Array, alpha: float, beta: float, times: float | Array, out: Array | None) -> Array:
    """times alpha product + beta out, as the GEMM of the BLAS has it; ``out`` is there unless ``beta`` is 0."""
    if alpha != 1.0:
        product = alpha * product
    if not isinstance(times, float) or times != 1.0:
        product = times * product
    return product if out is None or beta == 0.0 else product + beta * out
