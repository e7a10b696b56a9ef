"""The CUDA kernels and their launches, on machines without a GPU.

The CUDA text is compiled for several generations of GPUs, by nvcc or NVRTC; and it is run on the CPU, by the emulator
of ``emulated_cuda``, through ``CupyBackend`` itself, and compared with the reference operations on NumPy.
"""

from __future__ import annotations

import ctypes
import dataclasses
import importlib.util
import inspect
import itertools
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends import get_backend, random
from backends.activations import ACTIVATIONS
from backends.base import Backend
from backends.cuda import launch, source
from backends.cuda.cupy_backend import CupyBackend
from backends.cuda.source import sizes
from tests.helpers import emulated_cuda
from tests.helpers.emulated_cuda import EmulatedCudaDevice, declarations, needs_compiler
from tests.helpers.process import ended

ARCHITECTURES = ("75", "80", "90")
OPTIONS = [*sizes.OPTIONS, "-ftz=true"]  # the last is CuPy's own

emulated = needs_compiler

INF, NAN = float("inf"), float("nan")
#: Shapes that fill no tile, block or warp, or several.
SHAPES = [(1, 1), (1, 33), (33, 1), (7, 10), (5, 257), (2, 1030)]


# ---- the text compiles for GPUs --------------------------------------------------------------------------------------


def find_nvrtc() -> Path | None:
    """NVRTC of the wheel nvidia-cuda-nvrtc."""
    spec = importlib.util.find_spec("nvidia")
    places = list(spec.submodule_search_locations or []) if spec is not None else []
    return next((path for index in places for path in sorted(Path(index).glob("**/libnvrtc.so.*"))), None)


def compile_by_nvrtc(library: ctypes.CDLL, text: str, architecture: str) -> str:
    """The log of a compilation, empty if it went well."""
    program = ctypes.c_void_p()
    library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None)
    options = [*OPTIONS, f"-arch=sm_{architecture}"]
    status = library.nvrtcCompileProgram(
        program, len(options), (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
    )
    size = ctypes.c_size_t()
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return log.value.decode() + (f"status {status}" if status else "")


@pytest.mark.parametrize(
    ("real", "is_quick"),
    [("float", True), *(pytest.param(real, False, marks=pytest.mark.slow) for real in ("float", "double"))],
)
def test_compiles_for_gpus(real: str, is_quick: bool, tmp_path: Path) -> None:
    """Quickly: for one kind of GPU, by an assembler that does not optimize, in half the time."""
    text = source.source(real)
    if (nvcc := shutil.which("nvcc")) is not None:
        (tmp_path / "kernels.cu").write_text(text)
        # The text asks in one place whether it is for the newest. It is compiled, which takes 7 s each, for that one in
        # float32, and for the oldest in float64.
        assert text.count("__CUDA_ARCH__") == text.count("__CUDA_ARCH__ >= 900") == 1
        target = f"-arch=sm_{ARCHITECTURES[-1] if real == 'float' else ARCHITECTURES[0]}"
        command = [nvcc, *OPTIONS, target, "-Werror=all-warnings", "-fatbin", "kernels.cu", "-o", "kernels.fatbin"]
        command += ["-Xptxas", "-O0"] if is_quick else []
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
    elif (path := find_nvrtc()) is not None:
        library = ctypes.CDLL(str(path))
        # float64 for one of them: a compilation takes 5 s, and the text is another one only for the newest.
        for architecture in ARCHITECTURES if real == "float" and not is_quick else ARCHITECTURES[-1:]:
            assert compile_by_nvrtc(library, text, architecture) == ""
    else:
        pytest.skip("neither nvcc nor the wheel nvidia-cuda-nvrtc is here")


def test_parameters_are_read_from_the_text() -> None:
    text = source.source("float")
    found = launch.parameters(text, "float")
    assert {name: len(parameters) for name, parameters in found.items()} == {
        name: len(parameters) for name, parameters in declarations(text).items()
    }
    assert len(found) == text.count("\nKERNEL ")
    declared = {p.name: (p.dtype.name, p.is_array) for p in found["sgd_update"]}
    assert declared["params"] == declared["learning_rate_at"] == ("float32", True)
    assert declared["learning_rate"] == ("float32", False)
    assert declared["n_decayed"] == ("int64", False)


def test_a_new_activation_needs_nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = dataclasses.replace(ACTIVATIONS["tanh"], name="cubic", cuda_forward="z * z * z", cuda_derivative="REAL(3)")
    monkeypatch.setitem(ACTIVATIONS, "cubic", entry)
    found = launch.parameters(source.source("double"), "double")
    assert {"bias_activation_cubic", "activation_backward_cubic"} <= set(found)


# ---- overrides say what the base class says --------------------------------------------------------------------------

OWN = {
    name: value
    for cls in CupyBackend.__mro__
    if cls.__module__.startswith("backends.cuda.")
    for name, value in vars(cls).items()
    if not name.startswith("_")
}
OVERRIDES = [name for name in OWN if callable(getattr(Backend, name, None))]


def test_there_are_overrides() -> None:
    public = [name for name, value in OWN.items() if inspect.isfunction(value)]
    assert public == OVERRIDES
    assert {"matmul", "softmax_cross_entropy", "update", "take_rows"} <= set(OVERRIDES)


@pytest.mark.parametrize("name", OVERRIDES)
def test_signature(name: str) -> None:
    assert inspect.signature(getattr(CupyBackend, name)) == inspect.signature(getattr(Backend, name))


# ---- the emulated device against the reference -----------------------------------------------------------------------


@emulated
def test_a_text_is_compiled_once_for_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "#define REAL float\n#define KERNEL static void\nKERNEL fill(REAL* x)\n{ x[0] = %d; }"
    times, built = [], emulated_cuda.built

    def counted(text: str, library: Path) -> Path:
        times.append(library)
        return built(text, library)

    monkeypatch.setattr(emulated_cuda, "built", counted)
    monkeypatch.setattr(emulated_cuda, "LIBRARIES", tmp_path)

    def filled(number: int) -> tuple[float, int]:
        """What the kernel writes, and how often g++ has run by then."""
        emulated_cuda.compiled.cache_clear()  # as in another process
        x, one = np.zeros(1, "f4"), ctypes.c_uint(1)
        emulated_cuda.compiled(text % number)["emulate_fill"](one, one, one, ctypes.c_void_p(x.ctypes.data))
        return x[0], len(times)

    assert [filled(3), filled(3), filled(4), filled(3)] == [(3, 1), (3, 1), (4, 2), (3, 2)]
    for library in tmp_path.glob("*.so"):
        library.unlink()
    assert filled(3) == (3, 3)
    monkeypatch.setattr(emulated_cuda, "FLAGS", [*emulated_cuda.FLAGS, "-DUNUSED"])
    assert filled(3) == (3, 4)


#: One thread tells all others its number by shared memory.
TELL = """
#define REAL float
#define KERNEL static void
KERNEL tell(REAL* x, int from)
{
    __shared__ float told[8];
    told[threadIdx.x] = x[threadIdx.x];
    WAIT
    const float number = told[from];
    AGAIN
    x[threadIdx.x] = number;
}
"""


@emulated
@pytest.mark.parametrize("teller", [0, 7])
def test_the_emulator_sees_a_barrier_that_is_missing(teller: int) -> None:
    def is_right(text: str) -> list[bool]:
        kernel, found = emulated_cuda.compiled(text)["emulate_tell"], []
        one, threads, number = ctypes.c_uint(1), ctypes.c_uint(8), ctypes.c_int(teller)
        for begin in (10.0, 20.0):
            x = np.arange(begin, begin + 8, dtype="f4")
            kernel(one, one, threads, ctypes.c_void_p(x.ctypes.data), number)
            found.append(bool((x == begin + teller).all()))
        return found

    wait = "__syncthreads();"
    assert is_right(TELL.replace("WAIT", wait).replace("AGAIN", "")) == [True, True]
    for others in ("", wait):  # whatever else there is to wait for
        assert sorted(is_right(TELL.replace("WAIT", "").replace("AGAIN", others))) == [False, True]


@emulated
def test_a_barrier_that_some_threads_never_reach_ends_the_program() -> None:
    text = TELL.replace("WAIT", "if (threadIdx.x == 3) return;").replace("AGAIN", "__syncthreads();")
    program = f"""
import ctypes
from tests.helpers.emulated_cuda import compiled
x = (ctypes.c_float * 8)()
compiled({text!r})["emulate_tell"](1, 1, 8, x, 0)
"""
    done = ended(program)
    assert done.returncode == -signal.SIGABRT
    assert "ends while others wait in __syncthreads" in done.stderr


class Pair:
    """A CupyBackend on the emulated device, the reference on NumPy, and both applied to the same arrays."""

    def __init__(self, dtype: str, max_threads: int) -> None:
        self.dtype = dtype
        self.cuda = CupyBackend(EmulatedCudaDevice(max_threads), dtype)
        self.reference = get_backend("cpu", dtype, fused=False)
        self.rng = np.random.default_rng(7)

    def normal(self, *shape: int, specials: tuple[float, ...] = ()) -> np.ndarray:
        x = self.rng.standard_normal(shape).astype(self.dtype)
        for value in specials:
            x[tuple(self.rng.integers(extent) for extent in shape)] = value
        return x

    def up(self, x: Any, layout: str = "C") -> Any:
        """``x`` on the emulated device: contiguous, of transposed memory, or every second column of one."""
        if layout == "T":
            return self.cuda.cupy.asarray(x.T.copy()).T
        if layout == "::2":
            wide = self.cuda.empty((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
            wide[..., ::2] = x
            return wide[..., ::2]
        return self.cuda.cupy.asarray(x)

    def down(self, x: Any) -> Any:
        return None if x is None else self.cuda.to_numpy(x)

    def same(self, actual: Any, expected: Any, factor: float = 1.0) -> None:
        """Whether a result of the emulated device is the reference's: NaN where that is NaN, inf where inf."""
        tolerance = factor * (1e-12 if self.dtype == "float64" else 1e-5)
        actual, expected = self.down(actual), np.asarray(expected)
        assert actual.dtype == expected.dtype
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance, strict=True)

    def check(self, operation: str, *arrays: np.ndarray, aliases: tuple[int, ...] = (0,), **options: Any) -> None:
        """``operation`` with every kind of ``out``: none, a new one, one that is an input, one with gaps."""
        with np.errstate(all="ignore"):
            expected = getattr(self.reference, operation)(*arrays, **options)
        cuda = getattr(self.cuda, operation)
        for layout in ("C", "T", "::2"):
            inputs = [self.up(x, layout if x.ndim == 2 else "C") for x in arrays]
            self.same(cuda(*inputs, **options), expected)
            for x, before in zip(inputs, arrays, strict=True):
                np.testing.assert_array_equal(self.down(x), before)
            outs = [self.up(np.full_like(expected, NAN), layout if expected.ndim == 2 else "::2")]
            outs += [inputs[k] for k in aliases]
            for out in outs:
                assert cuda(*inputs, out=out, **options) is out
                self.same(out, expected)
                for x, before in zip(inputs, arrays, strict=True):
                    x[...] = before


#: Dtypes and threads of a block.
PAIRS = [("float32", 1), ("float32", 8), ("float64", 4)]


def in_turns(some: Iterable[Any], others: Sequence[Any]) -> list[Any]:
    """Any two values of a ``Pair``, of ``some`` and of ``others`` together once; all three together where that is
    asked for, which takes three times as long."""
    return [
        pytest.param(pair, one, other, marks=[] if (i + j + k) % len(PAIRS) == 0 else pytest.mark.slow)
        for i, one in enumerate(some)
        for j, other in enumerate(others)
        for k, pair in enumerate(PAIRS)
    ]


@pytest.fixture(params=PAIRS, ids=str)
def pair(request: pytest.FixtureRequest) -> Pair:
    return Pair(*request.param)


@pytest.fixture
def one_thread() -> Pair:
    return Pair("float32", 1)


@emulated
@pytest.mark.parametrize(("pair", "activation", "shape"), in_turns(ACTIVATIONS, SHAPES), indirect=["pair"], ids=str)
def test_bias_activation(pair: Pair, shape: tuple[int, int], activation: str) -> None:
    z = pair.normal(*shape, specials=(NAN, INF, -INF, 1e4, -1e4))
    pair.check("bias_activation", z, pair.normal(shape[1]), activation=activation)
    out = pair.up(np.full_like(z, NAN))
    with np.errstate(all="ignore"):
        expected = pair.reference.bias_activation(z, None, activation)
    pair.same(pair.cuda.bias_activation(pair.up(z), None, activation, out=out), expected)
    pair.same(out, expected)


@emulated
@pytest.mark.parametrize(
    ("pair", "activation", "given"),
    in_turns(
        ACTIVATIONS,
        [*((shape, "C") for shape in (*SHAPES, (1100, 35))), *itertools.product([SHAPES[1], (1100, 35)], ["T", "::2"])],
    ),
    indirect=["pair"],
    ids=str,
)
def test_bias_activation_backward(pair: Pair, activation: str, given: tuple[tuple[int, int], str]) -> None:
    shape, layout = given
    dy, y = pair.normal(*shape, specials=(NAN, INF)), pair.normal(*shape, specials=(1.0, INF))
    with np.errstate(all="ignore"):
        dz, gradient = pair.reference.bias_activation_backward(
            dy, y, activation, bias_gradient=np.empty(shape[1], dy.dtype)
        )
    for out in (None, "dy", "new"):
        for with_bias in (True, False):
            cuda_dy = pair.up(dy, layout)
            to = {None: None, "dy": cuda_dy, "new": pair.up(np.zeros_like(dy), layout)}[out]
            into = pair.up(np.full(shape[1], NAN, dy.dtype), layout if layout != "T" else "C") if with_bias else None
            actual, sums = pair.cuda.bias_activation_backward(
                cuda_dy, pair.up(y, layout), activation, out=to, bias_gradient=into
            )
            pair.same(actual, dz)
            assert to is None or actual is to
            assert sums is into
            if with_bias:
                pair.same(sums, gradient, factor=20)
            if out != "dy":
                np.testing.assert_array_equal(pair.down(cuda_dy), dy)


@emulated
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (33, 257), (1500, 70), (1100, 1)], ids=str)
def test_column_sum(pair: Pair, shape: tuple[int, int]) -> None:
    x = pair.normal(*shape)
    expected = pair.reference.column_sum(x)
    for layout in ("C", "T"):
        pair.same(pair.cuda.column_sum(pair.up(x, layout)), expected, factor=20)
    out = pair.up(np.full(shape[1], NAN, x.dtype), "::2")
    pair.same(pair.cuda.column_sum(pair.up(x), out=out), expected, factor=20)


@emulated
def test_column_sum_has_one_order() -> None:
    x = np.random.default_rng(1).standard_normal((1500, 70)).astype(np.float32)
    sums = []
    for threads in (1, 2, 8):
        cuda = Pair("float32", threads).cuda
        sums.append(cuda.to_numpy(cuda.column_sum(cuda.asarray(x))))
    np.testing.assert_array_equal(sums[0], sums[1])
    np.testing.assert_array_equal(sums[0], sums[2])


@emulated
@pytest.mark.parametrize("shape", [*SHAPES, (0, 3), (3, 0)], ids=str)
def test_multiply(pair: Pair, shape: tuple[int, int]) -> None:
    pair.check("multiply", pair.normal(*shape), pair.normal(*shape), aliases=(0, 1))


@emulated
@pytest.mark.parametrize("shape", [*SHAPES, (0, 3)], ids=str)
def test_softmax(pair: Pair, shape: tuple[int, int]) -> None:
    pair.check("softmax", pair.normal(*shape) * 3)
    if shape[0]:
        pair.check("softmax", pair.normal(*shape, specials=(NAN, 1e4, -1e4, -INF, INF, INF)))


@emulated
@pytest.mark.parametrize("shape", [*SHAPES, (0, 3), (3, 0)], ids=str)
def test_softmax_backward(pair: Pair, shape: tuple[int, int]) -> None:
    specials = (NAN, INF, 1e4) if 0 not in shape else ()
    pair.check("softmax_backward", pair.normal(*shape, specials=specials), pair.normal(*shape))


LOSSES = ("softmax_cross_entropy", "binary_cross_entropy", "sigmoid_focal", "squared_error", "absolute_error", "huber")


def loss_inputs(pair: Pair, operation: str, shape: tuple[int, int], kind: str) -> tuple[np.ndarray, np.ndarray]:
    specials = (NAN, INF, -INF, -INF, 1e4, -1e4) if kind == "special" else ()
    outputs = pair.normal(*shape, specials=specials if shape[0] else ())
    if kind == "ties":
        outputs = np.round(outputs)
    if operation == "softmax_cross_entropy":
        return outputs, pair.rng.integers(0, shape[1], shape[0])
    targets = np.zeros_like(outputs)
    targets[np.arange(shape[0]), pair.rng.integers(0, shape[1], shape[0])] = 1
    if shape[1] == 1:
        targets[::2] = 0
    if kind == "ties":  # targets that are correct, as far as outputs have one largest element
        yes_or_no = operation in ("binary_cross_entropy", "sigmoid_focal")
        targets[...] = (outputs > 0.5) if yes_or_no else np.round(outputs / 2)
    return outputs, targets


@emulated
@pytest.mark.parametrize(
    ("pair", "operation", "given"),
    in_turns(
        LOSSES,
        [
            *(("plain", shape) for shape in (*SHAPES, (0, 3))),
            *itertools.product(["ties", "special"], [(33, 1), (7, 10), (5, 257)]),
        ],
    ),
    indirect=["pair"],
    ids=str,
)
def test_losses(pair: Pair, operation: str, given: tuple[str, tuple[int, int]]) -> None:
    kind, shape = given
    outputs, targets = loss_inputs(pair, operation, shape, kind)
    start = np.array([2.5, 3.0])
    cuda = getattr(pair.cuda, operation)
    for layout, scale in (("C", None), ("T", 0.25), ("::2", None)):
        with np.errstate(all="ignore"):
            totals, gradient = getattr(pair.reference, operation)(outputs, targets, totals=start.copy(), scale=scale)
        cuda_outputs = pair.up(outputs, layout)
        cuda_targets = pair.up(targets, layout if targets.ndim == 2 else "C")
        for to in (None, cuda_outputs, pair.up(np.full_like(outputs, NAN), layout)):
            into = pair.up(start, "::2" if layout == "::2" else "C")
            summed, result = cuda(cuda_outputs, cuda_targets, totals=into, scale=scale, out=to)
            assert summed is into
            assert to is None or result is to
            pair.same(summed, totals, factor=20)
            pair.same(result, gradient)
            cuda_outputs[...] = outputs
    with np.errstate(all="ignore"):
        totals, _ = getattr(pair.reference, operation)(outputs, targets, gradient=False)
    summed, result = cuda(pair.up(outputs), pair.up(targets), gradient=False)
    assert result is None
    pair.same(summed, totals, factor=20)


@emulated
@pytest.mark.parametrize("operation", LOSSES)
@pytest.mark.parametrize("outputs", [[NAN], [NAN, -1.0], [-1.0, NAN, -2.0]], ids=str)
def test_a_row_with_nan_is_never_correct(pair: Pair, operation: str, outputs: list[float]) -> None:
    row = np.array([outputs], pair.dtype)
    targets = np.zeros_like(row)  # what NaN would pass for: no answer above 1/2, the largest in column 0
    labels = np.zeros(1, np.int64) if operation == "softmax_cross_entropy" else targets
    totals, _ = getattr(pair.cuda, operation)(pair.up(row), pair.up(labels))
    np.testing.assert_array_equal(pair.down(totals), [NAN, 0.0])


@emulated
@pytest.mark.parametrize("operation", LOSSES)
def test_loss_of_many_rows(one_thread: Pair, operation: str) -> None:
    outputs, targets = loss_inputs(one_thread, operation, (1000, 3), "plain")
    totals, gradient = getattr(one_thread.reference, operation)(outputs, targets)
    summed, result = getattr(one_thread.cuda, operation)(one_thread.up(outputs), one_thread.up(targets))
    one_thread.same(summed, totals, factor=20)
    one_thread.same(result, gradient)


@emulated
@pytest.mark.parametrize("dtype", ["int32", "uint8", "int64"])
def test_label_dtypes(one_thread: Pair, dtype: str) -> None:
    logits, labels = loss_inputs(one_thread, "softmax_cross_entropy", (33, 10), "plain")
    labels = labels.astype(dtype)
    expected, _ = one_thread.reference.softmax_cross_entropy(logits, labels)
    totals, _ = one_thread.cuda.softmax_cross_entropy(one_thread.up(logits), one_thread.up(labels))
    one_thread.same(totals, expected)


@emulated
def test_a_label_out_of_range_reads_nothing(one_thread: Pair) -> None:
    logits = one_thread.normal(3, 4)
    labels = np.array([-1, 4, 2**40])
    expected, gradient = one_thread.reference.softmax_cross_entropy(logits, labels)
    totals, result = one_thread.cuda.softmax_cross_entropy(one_thread.up(logits), one_thread.up(labels))
    one_thread.same(totals, expected)
    one_thread.same(result, gradient)


@emulated
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_argmax(pair: Pair, shape: tuple[int, int]) -> None:
    for x in (pair.normal(*shape), np.round(pair.normal(*shape)), pair.normal(*shape, specials=(NAN, INF, INF, -INF))):
        with np.errstate(all="ignore"):
            expected = pair.reference.argmax(x)
        for layout in ("C", "T"):
            np.testing.assert_array_equal(pair.down(pair.cuda.argmax(pair.up(x, layout))), expected, strict=True)
    lowest = np.full((2, 3), -INF, x.dtype)
    np.testing.assert_array_equal(pair.down(pair.cuda.argmax(pair.up(lowest))), [0, 0])


@emulated
@pytest.mark.parametrize("size", [0, 1, 1003])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "dampening": 0.9, "weight_decay": 0.01, "n_decayed": 700},
        {"momentum": 0.9, "dampening": 0.25, "nesterov": True, "weight_decay": 0.01, "n_decayed": 1},
        {"nesterov": True, "weight_decay": 0.5, "n_decayed": 0},
    ],
    ids=str,
)
def test_update_by_sgd(pair: Pair, size: int, options: dict[str, Any]) -> None:
    for with_velocity in (True, False):
        settings = options if with_velocity else {**options, "momentum": 0.0}
        for layout in ("C", "::2"):
            for rate_on_device in (True, False):
                host = [pair.normal(size) for _ in range(3)]
                params, gradient, velocity = (pair.up(x, layout) for x in host)
                rate = pair.up(np.array([0.1], pair.dtype)) if rate_on_device else 0.1
                state = {"velocity": velocity} if with_velocity else {}
                host_state = {"velocity": host[2]} if with_velocity else {}
                for _ in range(2):
                    pair.reference.update("sgd", host[0], host[1], host_state, learning_rate=0.1, **settings)
                    result = pair.cuda.update("sgd", params, gradient, state, learning_rate=rate, **settings)
                    assert result is params
                    assert state.get("velocity") is (velocity if with_velocity else None)
                pair.same(params, host[0])
                pair.same(velocity, host[2])


@emulated
@pytest.mark.parametrize("size", [0, 1, 1003])
@pytest.mark.parametrize(
    "options",
    [{}, {"beta1": 0.5, "beta2": 0.0, "epsilon": 0.1}, {"beta1": 0.0, "weight_decay": 0.1, "n_decayed": 700}],
    ids=str,
)
def test_update_by_adam(pair: Pair, size: int, options: dict[str, Any]) -> None:
    for layout, on_device in (("C", True), ("::2", False)):
        host = [pair.normal(size) for _ in range(3)] + [pair.normal(size) ** 2]
        params, gradient, mean, square = (pair.up(x, layout) for x in host)
        state, host_state = {"mean": mean, "square": square}, {"mean": host[2], "square": host[3]}
        for number in (1, 2, 1000):
            rate: Any = 0.1
            now: Any = number
            if on_device:
                rate, now = pair.up(np.array([0.1], pair.dtype)), pair.up(np.array([number]))
            pair.reference.update("adam", host[0], host[1], host_state, number=number, learning_rate=0.1, **options)
            result = pair.cuda.update("adam", params, gradient, state, number=now, learning_rate=rate, **options)
            assert result is params
            assert state == {"mean": mean, "square": square}
        for actual, expected in zip((params, mean, square), (host[0], *host[2:]), strict=True):
            pair.same(actual, expected)


@emulated
@pytest.mark.parametrize("size", [0, 1, 1003, 9000])
def test_sum_of_squares_and_all_finite(pair: Pair, size: int) -> None:
    x = pair.normal(size)
    pair.same(pair.cuda.sum_of_squares(pair.up(x)), pair.reference.sum_of_squares(x), factor=20)
    pair.same(pair.cuda.sum_of_squares(pair.up(x, "::2")), pair.reference.sum_of_squares(x), factor=20)
    assert pair.down(pair.cuda.all_finite(pair.up(x))).tolist() is True
    for value in (NAN, INF, -INF):
        for index in {0, size // 2, size - 1} if size else ():
            bad = x.copy()
            bad[index] = value
            finite = pair.down(pair.cuda.all_finite(pair.up(bad)))
            assert finite.tolist() is False
            assert finite.dtype == np.bool_
            assert finite.shape == ()


@emulated
@pytest.mark.parametrize(
    ("dtype", "width"),
    [
        *itertools.product(["uint8", "float32", "int64"], [(), (1,), (33,), (3, 5)]),
        *((dtype, (33,)) for dtype in ("float64", "int32", "bool", "float16")),
    ],
    ids=str,
)
def test_take_rows(pair: Pair, dtype: str, width: tuple[int, ...]) -> None:
    n = 70
    rows = pair.rng.integers(0, 2 if dtype == "bool" else 100, (n, *width)).astype(dtype)
    order = pair.rng.permutation(n)
    for positions in (None, order):
        for start, count in ((0, n), (13, 57), (69, 1), (5, 0)):
            for scale, shift in ((None, 0.0), (1 / 255, -0.5)):
                expected = pair.reference.take_rows(rows, positions, start, count, scale=scale, shift=shift)
                given = None if positions is None else pair.up(positions)
                for first in (start, pair.up(np.array([start]))):
                    taken = pair.cuda.take_rows(pair.up(rows), given, first, count, scale=scale, shift=shift)
                    pair.same(taken, expected)
                    out = pair.up(np.ones_like(expected), "::2" if width else "C")
                    assert (
                        pair.cuda.take_rows(pair.up(rows), given, first, count, scale=scale, shift=shift, out=out)
                        is out
                    )
                    pair.same(out, expected)


@emulated
def test_take_rows_keeps_bits(one_thread: Pair) -> None:
    rows = np.array([[NAN, -0.0, INF, 2**-149]], np.float32)
    rows.view(np.uint32)[0, 0] = 0x7FA12345
    taken = one_thread.down(one_thread.cuda.take_rows(one_thread.up(rows), None, 0, 1))
    np.testing.assert_array_equal(taken.view(np.uint32), rows.view(np.uint32))


@emulated
def test_take_rows_out_of_range(one_thread: Pair) -> None:
    cuda, rows = one_thread.cuda, one_thread.up(np.arange(5.0, dtype=np.float32))
    for start, count in ((-1, 2), (3, 3)):
        with pytest.raises(ValueError, match=r"take_rows: there are no rows .* among 5"):
            cuda.take_rows(rows, None, start, count)
    at_the_end = cuda.take_rows(rows, None, one_thread.up(np.array([4])), 3)
    np.testing.assert_array_equal(one_thread.down(at_the_end), [4, 4, 4])


@emulated
@pytest.mark.parametrize("shape", [(0, 4), (1, 1), (33, 31), (7,), (2, 3, 5)], ids=str)
@pytest.mark.parametrize("rate", [0.0, 0.3, 0.999])
def test_dropout_mask(pair: Pair, shape: tuple[int, ...], rate: float) -> None:
    for key in (random.mask_key(3, "layer 1"), (0xFFFFFFFF, 0xFFFFFFFF)):
        for step in (0, 12345, 2**32 - 1, 2**40 + 5):
            expected = pair.reference.dropout_mask(shape, rate=rate, key=key, step=step)
            for now in (step, pair.up(np.array([step]))):
                mask = pair.cuda.dropout_mask(shape, rate=rate, key=key, step=now)
                np.testing.assert_array_equal(pair.down(mask), expected, strict=True)
                out = pair.up(np.full_like(expected, NAN), "::2")
                assert pair.cuda.dropout_mask(shape, rate=rate, key=key, step=now, out=out) is out
                np.testing.assert_array_equal(pair.down(out), expected, strict=True)


@emulated
@pytest.mark.parametrize("sizes", [(1, 1, 1), (5, 33, 7), (4, 0, 3), (0, 3, 2), (3, 2, 0)], ids=str)
@pytest.mark.parametrize("layout", ["C", "T", "::2"])
def test_matmul(pair: Pair, sizes: tuple[int, int, int], layout: str) -> None:
    m, k, n = sizes
    for ta in (False, True):
        for tb in (False, True):
            a, b = pair.normal(*((k, m) if ta else (m, k))), pair.normal(*((n, k) if tb else (k, n)))
            c = pair.normal(m, n)
            for alpha, beta in ((1.0, 0.0), (2.5, 0.0), (-1.0, 0.5)):
                options: dict[str, Any] = {"transpose_a": ta, "transpose_b": tb, "alpha": alpha, "beta": beta}
                expected = pair.reference.matmul(a, b, out=c.copy(), **options)
                out = pair.up(c if beta else np.full_like(c, NAN), layout)
                assert pair.cuda.matmul(pair.up(a, layout), pair.up(b, layout), out=out, **options) is out
                pair.same(out, expected)
                if beta == 0.0:
                    fresh = pair.cuda.matmul(pair.up(a, layout), pair.up(b, layout), **options)
                    assert fresh.flags.c_contiguous
                    pair.same(fresh, expected)


# ---- what must not happen --------------------------------------------------------------------------------------------


@emulated
def test_matmul_refuses_overlap(one_thread: Pair) -> None:
    cuda = one_thread.cuda
    both = cuda.zeros((4, 3))
    for a, b in ((both[:3], cuda.zeros((3, 3))), (cuda.zeros((3, 3)), both[:3])):
        with pytest.raises(ValueError, match="out must not overlap a or b"):
            cuda.matmul(a, b, out=both[1:])
    with pytest.raises(ValueError, match="matmul with beta needs"):
        cuda.matmul(both, both, transpose_b=True, beta=1.0)
    with pytest.raises(ValueError, match=r"op\(a\) has 3 columns but op\(b\) has 4 rows"):
        cuda.matmul(both, both)


@emulated
def test_wrong_arguments(one_thread: Pair) -> None:
    cuda = one_thread.cuda
    x, wrong = cuda.zeros((4, 3)), one_thread.up(np.zeros((4, 3)))[...]
    wrong = wrong.astype(np.float64)
    flat, labels = cuda.zeros((5,)), one_thread.up(np.zeros(4, np.int64))
    for call in (
        lambda: cuda.softmax(wrong),
        lambda: cuda.softmax(x, out=wrong),
        lambda: cuda.matmul(x, wrong, transpose_b=True),
        lambda: cuda.bias_activation(x, wrong[0], "relu"),
        lambda: cuda.bias_activation_backward(x, x, "relu", bias_gradient=wrong[0]),
        lambda: cuda.column_sum(wrong),
        lambda: cuda.multiply(x, wrong),
        lambda: cuda.softmax_cross_entropy(x, labels, totals=flat[:2]),
        lambda: cuda.softmax_cross_entropy(x, x[:, 0]),
        lambda: cuda.squared_error(x, wrong),
        lambda: cuda.update("sgd", flat, flat, {"velocity": wrong[:, 0]}, learning_rate=0.1, momentum=0.9),
        lambda: cuda.update("sgd", flat, flat, {}, learning_rate=wrong[0, :1]),
        lambda: cuda.all_finite(wrong),
        lambda: cuda.take_rows(x, labels.astype(np.int32), 0, 1),
        lambda: cuda.take_rows(x, labels, labels[:1].astype(np.int32), 1),
        lambda: cuda.take_rows(wrong, None, 0, 4, out=x),
    ):
        with pytest.raises(TypeError, match=r"^\w+: (\w+ must be of dtype|labels must be integers).* not "):
            call()
    for call in (
        lambda: cuda.softmax(flat),
        lambda: cuda.softmax(x[:, :0]),
        lambda: cuda.softmax(x, out=x[:3]),
        lambda: cuda.matmul(x, flat),
        lambda: cuda.bias_activation(x, flat),
        lambda: cuda.bias_activation_backward(x, x[:3], "relu"),
        lambda: cuda.multiply(x, x[:1]),
        lambda: cuda.softmax_cross_entropy(x, labels[:3]),
        lambda: cuda.binary_cross_entropy(x, x[:, :1]),
        lambda: cuda.update("sgd", flat, flat[:4], {}, learning_rate=0.1),
        lambda: cuda.update("sgd", flat, flat, {}, learning_rate=flat),
        lambda: cuda.dropout_mask((4, 3), rate=0.5, key=(1, 2), step=labels),
    ):
        with pytest.raises(ValueError, match=r"^\w+: \w+ must have .*"):
            call()
    with pytest.raises(TypeError, match=r"^softmax: logits must be an array on cuda:0, not ndarray$"):
        cuda.softmax(np.zeros((4, 3), np.float32))
    with pytest.raises(ValueError, match="unknown activation"):
        cuda.bias_activation(x, None, "no such")


@emulated
def test_array_of_another_gpu(one_thread: Pair) -> None:
    x = one_thread.cuda.zeros((4, 3))
    x.device_id = 1
    with pytest.raises(ValueError, match=r"^argmax: x is on cuda:1, but this backend computes on cuda:0$"):
        one_thread.cuda.argmax(x)


@emulated
def test_launch_checks_what_it_hands_over(one_thread: Pair) -> None:
    x = one_thread.cuda.zeros((4, 3))
    kernels = launch.kernels(one_thread.cuda.cupy, 0, "float")
    with pytest.raises(TypeError, match=r"^multiply: b must be a C-contiguous array of dtype float32$"):
        kernels.elements("multiply", 12, x, x.T, x)
    with pytest.raises(TypeError, match=r"^multiply: out must be a C-contiguous array of dtype float32$"):
        kernels.elements("multiply", 12, x, x, x.astype(np.float64))
    with pytest.raises(TypeError, match=r"^multiply: out must be a C-contiguous array of dtype float32$"):
        kernels.elements("multiply", 12, x, x, 5)
    with pytest.raises(ValueError, match="argument"):
        kernels.launch("multiply", (1,), 32, x, x, x)


@emulated
@pytest.mark.parametrize("how", ["empty", "zeros", "asarray"])
def test_out_of_memory_is_explained(one_thread: Pair, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = one_thread.cuda
    monkeypatch.setattr(cuda.cupy.allocate, "limit", 2**20)
    with pytest.raises(MemoryError) as caught:
        getattr(cuda, how)(np.zeros((1024, 1024), np.float32) if how == "asarray" else (1024, 1024))
    assert str(caught.value) == (
        "out of memory on cuda:0: arrays ask for 4 MiB, and 3 MiB of 1 GiB are free; "
        "use a smaller batch_size or another device"
    )


@emulated
def test_a_step_allocates_nothing_after_the_first(one_thread: Pair) -> None:
    cuda, m, n = one_thread.cuda, 1100, 10
    rows, order = one_thread.up(np.ones((2000, 7), np.uint8)), one_thread.up(np.arange(2000))
    labels, position = one_thread.up(np.ones(2000, np.int64)), one_thread.up(np.array([3]))
    x, y, mask, batch = cuda.empty((m, 7)), cuda.empty((m, n)), cuda.empty((m, n)), cuda.empty((m,), np.int64)
    params, gradient, velocity = cuda.zeros((7 * n + n,)), cuda.zeros((7 * n + n,)), cuda.zeros((7 * n + n,))
    weights, bias = params[: 7 * n].reshape(7, n), params[7 * n :]
    d_weights, d_bias = gradient[: 7 * n].reshape(7, n), gradient[7 * n :]
    totals, rate = cuda.zeros((2,), np.float64), one_thread.up(np.array([0.1], np.float32))

    def step() -> None:
        cuda.take_rows(rows, order, position, m, scale=1 / 255, out=x)
        cuda.take_rows(labels, order, position, m, out=batch)
        cuda.matmul(x, weights, out=y)
        cuda.bias_activation(y, bias, "relu", out=y)
        cuda.dropout_mask((m, n), rate=0.5, key=(1, 2), step=position, out=mask)
        cuda.multiply(y, mask, out=y)
        cuda.softmax_cross_entropy(y, batch, totals=totals, out=y)
        cuda.bias_activation_backward(y, y, "identity", out=y, bias_gradient=d_bias)
        cuda.matmul(x, y, transpose_a=True, out=d_weights)
        cuda.update("sgd", params, gradient, {"velocity": velocity}, learning_rate=rate, momentum=0.9)

    step()
    before = cuda.cupy.allocate.count
    step()
    assert cuda.cupy.allocate.count == before


@emulated
def test_threads_have_their_own_scratch(one_thread: Pair) -> None:
    """Sums of groups of rows, which the second launch adds up, are not those of a thread in between."""
    cuda, reference = one_thread.cuda, one_thread.reference
    x, y = (one_thread.normal(1500, 70) for _ in range(2))
    x_up, y_up, sums, others = one_thread.up(x), one_thread.up(y), cuda.empty((70,)), cuda.empty((70,))
    cuda.column_sum(x_up, out=sums)

    def allocated(work: Callable[[], Any]) -> int:
        before = cuda.cupy.allocate.count
        work()
        return int(cuda.cupy.allocate.count - before)

    def in_another_thread() -> None:
        thread = threading.Thread(target=cuda.column_sum, args=(y_up,), kwargs={"out": others})
        thread.start()
        thread.join()

    assert allocated(lambda: cuda.column_sum(x_up, out=sums)) == 0
    assert allocated(in_another_thread) == 1
    one_thread.same(others, reference.column_sum(y), factor=20)
    one_thread.same(sums, reference.column_sum(x), factor=20)


@emulated
def test_the_emulator_refuses_wrong_launches(one_thread: Pair) -> None:
    cuda = one_thread.cuda
    x = cuda.zeros((4, 3))
    module = cuda.cupy.RawModule(code=source.source("float"), options=sizes.OPTIONS)
    multiply = module.get_function("multiply")
    for grid, block, arguments in (
        ((0,), (32,), (x, x, x, np.int64(12))),
        ((1,), (33,), (x, x, x, np.int64(12))),
        ((1,), (32,), (x, x, x, 12)),
        ((1,), (32,), (x, x, None, np.int64(12))),
        ((1,), (32,), (x, x, x.astype(np.float64), np.int64(12))),
        ((1,), (32,), (x, x, x.T, np.int64(12))),
    ):
        with pytest.raises(AssertionError):
            multiply(grid, block, arguments)
    for wait in (bool, float, list, lambda array: array.item()):
        with pytest.raises(AssertionError, match="make the host wait"):
            wait(x[0, :1])
