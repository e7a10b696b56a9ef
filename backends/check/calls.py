"""The ways to call an operation: inputs of several layouts or read-only, ``out``, ``out`` written over an input; and
recorded in a step, which has run on other inputs before."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..base import Backend
from ..collectives import nodes_of
from ..pictures import Windows
from ..pictures.distortion import N_MAP
from ..step import StepNumbers
from ..typing import Array
from .cases import Case

#: Which inputs ``out`` may be.
MAY_BE_OUT = {
    "bias_activation": (0,),
    "bias_activation_backward": (0,),
    "multiply": (0, 1),
    "add_penalty": (0,),
    "softmax": (0,),
    "softmax_backward": (0,),
    "normalize": (0,),
    "normalize_backward": (0,),
    "normalize_by": (0,),
    "softmax_cross_entropy": (0,),
    "binary_cross_entropy": (0,),
    "sigmoid_focal": (0,),
    "squared_error": (0,),
    "absolute_error": (0,),
    "huber": (0,),
}
#: Operations whose ``out`` is for the second result.
LOSSES = {"softmax_cross_entropy", "binary_cross_entropy", "sigmoid_focal", "squared_error", "absolute_error", "huber"}
#: The inputs that an operation writes its results into, and those whose contents are arbitrary afterwards.
WRITTEN = {"update": (1,), "axpby": (3,), "clip_norm": (0,), "clip_values": (0,), "update_average": (0,)}
ARBITRARY = {"update": (2,)}
#: Arrays that an operation writes beside its results.
KEPT = ("z_out", "losses")
#: Which inputs another array that is written may be.
MAY_BE = {("bias_activation", "z_out"): (0,), ("conv2d_backward", "dz"): (0,)}
#: Arguments that a step hands on as it is given them: how they come in a step's numbers, and what they were before.
#: (Not the learning rate, which is rounded to the backend's dtype on a GPU.)
OF_STEP: dict[str, Callable[[StepNumbers], Any]] = {
    "start": lambda numbers: numbers.start,
    "step": lambda numbers: numbers.step,
    "number": lambda numbers: numbers.update,
}
ON_PICTURES = {"conv2d", "conv2d_backward", "max_pool2d", "max_pool2d_backward", "avg_pool2d", "avg_pool2d_backward"}
DISTORTIONS = {"random_rows", "affine_maps", "elastic_fields", "warp"}
TAKES_OUT = {*MAY_BE_OUT, *ON_PICTURES, *DISTORTIONS, "matmul", "column_sum", "take_rows", "dropout_mask", "copy"}


def ways(case: Case) -> Iterator[str]:
    """How a case is called: with inputs of several layouts, with `out`, with `out` written over an input."""
    yield "plain"
    if case.operation in ("asarray", "zeros", "empty", "record", "sum_over_processes"):
        return
    arrays = [x for x in (*case.inputs, *case.state.values(), *case.options.values()) if isinstance(x, np.ndarray)]
    if any(x.ndim in (2, 4) and x.size > 1 for x in arrays):
        yield "transposed"
    if any(x.ndim and x.size > 1 for x in arrays):
        yield "strided"
    if case.operation not in WRITTEN and any(isinstance(x, np.ndarray) for x in case.inputs):
        yield "read-only"
    has_out = case.options.get("gradient", True) and case.options.get("needs_dx", True)
    if case.operation in TAKES_OUT and has_out:
        yield "into out"
        yield "into strided out"
        for index in MAY_BE_OUT.get(case.operation, ()):
            yield f"into input {index}"
    for (operation, name), indices in MAY_BE.items():
        if operation == case.operation and name in case.options:
            for index in indices:
                yield f"{name} into input {index}"
    if case.operation not in SPECIAL:
        yield "recorded"


def _plain(backend: Backend, x: Array) -> Array:
    return backend.asarray(x.copy())


def _transposed(backend: Backend, x: Array) -> Array:
    """In the order of Fortran, of matrices; of pictures with the channels first, as other libraries have them."""
    if x.ndim == 4:
        return _rearranged(backend.asarray(x.transpose(0, 3, 1, 2).copy()), (0, 2, 3, 1), backend)
    return backend.asarray(x.T.copy()).T if x.ndim == 2 else _plain(backend, x)


def _rearranged(x: Array, axes: tuple[int, ...], backend: Backend) -> Array:
    return backend.xp.permute_dims(x, axes)


def _strided(backend: Backend, x: Array) -> Array:
    return backend.asarray(np.repeat(x, 2, axis=-1))[..., ::2] if x.ndim else _plain(backend, x)


def _read_only(backend: Backend, x: Array) -> Array:
    """Memory that a backend on the CPU may share, and must not write."""
    locked = x.copy()
    locked.flags.writeable = False
    return backend.asarray(locked)


LAYOUTS: dict[str, Callable[[Backend, Array], Array]] = {
    "transposed": _transposed,
    "strided": _strided,
    "read-only": _read_only,
}


def perform(backend: Backend, case: Case, way: str) -> tuple[Any, ...]:
    """The results of a case, as NumPy arrays.

    Raises:
        AssertionError: an array that was to be written does not hold the result, or an input was changed.
    """
    operation = case.operation
    special = SPECIAL.get(operation)
    layout = LAYOUTS.get(way, _plain)

    def given(name: str, x: Any) -> Any:
        if isinstance(x, dict):
            return {
                key: _plain(backend, value) if way == "read-only" else given(key, value) for key, value in x.items()
            }
        if not isinstance(x, np.ndarray) or operation == "asarray":
            return x
        return backend.asarray(x.copy(), backend.wide) if name in ("totals", "norm") else layout(backend, x)

    with backend.use():
        inputs = [given("", x) for x in case.inputs]
        if way == "read-only":
            layout = _plain  # options may be arrays to be written
        options = {name: given(name, x) for name, x in case.options.items()}
        if special is not None:
            return special(backend, *inputs, **options)
        kept, _, index = way.partition(" into input ")
        if way.startswith("into input"):
            options["out"] = inputs[int(way[-1])]
        elif index:
            options[kept] = inputs[int(index)]
        elif way.startswith("into") and "out" not in options:
            expected = _blank_result(case, backend.dtype_name)
            options["out"] = (_strided if "strided" in way else _plain)(backend, expected)
        if way == "recorded":
            results = _recorded(backend, operation, inputs, options)
        else:
            results = getattr(backend, operation)(*inputs, **options)
        results = results if isinstance(results, tuple) else (results,)
        results += tuple(options[name] for name in KEPT if options.get(name) is not None)
        results += tuple(x for values in inputs if isinstance(values, dict) for x in values.values())
        host = tuple(None if x is None else np.array(backend.to_numpy(x)) for x in results)
        _look_at_arrays(backend, case, way, inputs, options, host)
    return host


def _recorded(backend: Backend, operation: str, inputs: list[Any], options: dict[str, Any]) -> Any:
    """The results of an operation that is a step: it has been run, and noted, with all numbers in the arrays 0 and with
    other numbers of the step, and is then repeated with those that are given."""
    bound = inspect.signature(getattr(Backend, operation)).bind(backend, *inputs, **options)
    of_step = {name: bound.arguments[name] for name in OF_STEP if name in bound.arguments}
    given = {name: number for name, number in of_step.items() if isinstance(number, int)}
    results: Any = None

    def step(numbers: StepNumbers, count: int) -> None:
        nonlocal results
        bound.arguments.update({name: OF_STEP[name](numbers) for name in given})
        results = getattr(backend, operation)(*bound.args[1:], **bound.kwargs)

    recorded = backend.record(step)
    numbers = StepNumbers(given.get("start", 0), given.get("step", 0), given.get("number", 1), 0.0)
    arrays = [x for name, value in bound.arguments.items() if name not in of_step for x in _arrays(value)]
    values = [backend.copy(x) for x in arrays]
    for x in arrays:
        x[...] = backend.asarray(np.zeros_like(backend.to_numpy(x)), x.dtype)
    for _ in range(2):  # a GPU runs it once before it captures it
        recorded(StepNumbers(0, numbers.step + 1, numbers.update + 1, 0.0), 1)
    for x, value in zip(arrays, values, strict=True):
        x[...] = value
    recorded(numbers, 1)
    return results


def _arrays(value: Any) -> Iterator[Array]:
    """The arrays in an argument."""
    if isinstance(value, dict):
        for x in value.values():
            yield from _arrays(x)
    elif hasattr(value, "shape") and hasattr(value, "dtype"):
        yield value


def _blank_result(case: Case, dtype: str) -> Array:
    """An array for the result of a case, full of what must not be read."""
    x: Any = next((x for x in case.inputs if isinstance(x, np.ndarray)), None)
    options, shape, real = case.options, x.shape if x is not None else (), np.dtype(dtype)
    if case.operation == "matmul":
        a, b = case.inputs
        shape = (a.shape[1 if options.get("transpose_a") else 0], b.shape[0 if options.get("transpose_b") else 1])
    elif case.operation == "column_sum":
        shape = shape[1:]
    elif case.operation == "dropout_mask":
        shape = options["shape"]
    elif case.operation == "random_rows":
        shape, real = (len(x), case.inputs[1]), np.dtype(dtype)
    elif case.operation == "affine_maps":
        shape = (len(x), N_MAP)
    elif case.operation == "elastic_fields":
        shape = (len(x), 2, len(case.inputs[1]), len(case.inputs[2]))
    elif case.operation in ON_PICTURES:
        shape = _of_pictures(case)
    elif case.operation == "take_rows":
        shape = (options["count"], *shape[1:])
        real = real if "scale" in options else x.dtype
    return np.full(shape, np.nan if real.kind == "f" else 77, real)


def _of_pictures(case: Case) -> tuple[int, ...]:
    """The shape of the result of an operation on pictures."""
    first, second, *others = case.inputs
    if case.operation == "avg_pool2d_backward":
        return (first.shape[0], *second, first.shape[3])
    if case.operation.endswith("_backward"):
        shape: tuple[int, ...] = (others[0] if case.operation == "conv2d_backward" else second).shape
        return shape
    is_convolution = case.operation == "conv2d"
    size = second.shape[:2] if is_convolution else second
    windows = Windows.over(first.shape[1:3], size, case.options["stride"], case.options.get("padding", (0, 0)))
    return (first.shape[0], *windows.grid, second.shape[3] if is_convolution else first.shape[3])


def _look_at_arrays(
    backend: Backend, case: Case, way: str, inputs: list[Any], options: dict[str, Any], host: tuple[Any, ...]
) -> None:
    """What was to be written holds the result, and what was not is as it was."""

    def is_same(x: Array, value: Array) -> bool:
        return np.array_equal(backend.to_numpy(x), value, equal_nan=value.dtype.kind == "f")

    written = {"totals": 0, "bias_gradient": 1, "gain_gradient": 2, "norm": 1, "normalized": 1, "inverse": 2}
    if case.operation == "conv2d_backward":
        written |= {"dz": 1, "weight_gradient": 2, "bias_gradient": 3}
    written["out"] = 1 if case.operation in LOSSES else 0
    for name, index in written.items():
        if options.get(name) is not None and host[index] is not None and not is_same(options[name], host[index]):
            raise AssertionError(f"{name} does not hold the result")
    changed = WRITTEN.get(case.operation, ())
    for index, value in zip(changed, host, strict=False):
        if inputs[index] is not None and not is_same(inputs[index], value):
            raise AssertionError(f"argument {index} does not hold the result")
    arbitrary = ARBITRARY.get(case.operation, ())
    may_change = {*changed, *arbitrary} if changed else {int(way[-1])} if "into input" in way else set()
    for index, (x, value) in enumerate(zip(inputs, case.inputs, strict=True)):
        if index not in may_change and isinstance(value, np.ndarray) and not is_same(x, value):
            raise AssertionError(f"argument {index} was changed")


def _item(backend: Backend, x: Array) -> tuple[Any, ...]:
    number = backend.item(x)
    return (np.array(number) if type(number) is float else number,)


def _asarray(backend: Backend, x: Any) -> tuple[Any, ...]:
    return (np.array(backend.to_numpy(backend.asarray(x))),)


def _to_numpy(backend: Backend, x: Array) -> tuple[Any, ...]:
    return (backend.to_numpy(x),)


def _record(backend: Backend, x: Array, starts: tuple[int, ...], count: int) -> tuple[Any, ...]:
    out = backend.zeros((count, *x.shape[1:]))

    def take(numbers: StepNumbers, count: int) -> None:
        backend.take_rows(x, None, numbers.start, count, out=out)

    step = backend.record(take)
    taken = []
    for start in starts:
        step(StepNumbers(start, 0, 1, 0.5), count)
        backend.synchronize()
        taken.append(np.array(backend.to_numpy(out)))
    return (np.stack(taken),)


def _sum_over_processes(backend: Backend, values: Array, blocks: int) -> tuple[Any, ...]:
    own, out = [backend.copy(values[index, ...]) for index in range(values.shape[0])], backend.zeros(values.shape[1:])
    backend.sum_over_processes(own, nodes_of(range(blocks)), blocks, out)
    return (np.array(backend.to_numpy(out)),)


#: Operations whose result is not an array of the backend, and how they are called.
SPECIAL: dict[str, Callable[..., tuple[Any, ...]]] = {
    "asarray": _asarray,
    "item": _item,
    "to_numpy": _to_numpy,
    "record": _record,
    "sum_over_processes": _sum_over_processes,
}
