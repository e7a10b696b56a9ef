"""Launches that begin while the one before is still running, on an emulated device that keeps from them what that one
writes, until they have waited."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from backends import StepNumbers
from backends.cuda import graphs, launch, rules
from backends.cuda.cupy_backend import CupyBackend
from backends.cuda.dependent import CAPABILITY, LaunchAttribute, LaunchConfig
from nn import SGD, Linear, Sequential, Sigmoid, Softmax, Trainer, TrainingDiverged, steps
from nn.data import Dataset
from tests.helpers.backends import make_backend
from tests.helpers.emulated_cuda import CUDARuntimeError, EmulatedCudaDevice, Graph, Stream, needs_compiler
from tests.helpers.emulated_launch import CAPTURE_UNSUPPORTED, LAUNCH_FAILED, EmulatedLaunches, driver

RNG = np.random.default_rng(3)
ROWS = Dataset(RNG.integers(0, 256, (75, 13), dtype=np.uint8), RNG.integers(0, 5, 75), scale=1 / 255)
PAIR = ["small_sigmoid", "gradients_and_update_2"]


@pytest.fixture(autouse=True)
def emulated_driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatedLaunches]:
    """Steps are captured 16 at a time as soon as so many are asked for."""
    monkeypatch.setattr(graphs, "PATIENCE", 0)
    monkeypatch.setattr(steps, "PART_SECONDS", 1e9)
    driver.names.clear()
    yield driver
    driver.fails, driver.interrupts, driver.version = 0, False, 12080


def trained(backend: CupyBackend, hidden: int = 9) -> dict[str, np.ndarray]:
    """What training leaves: 18 full batches and a short one in each epoch."""
    layers = [Linear(13, hidden), Sigmoid(), Linear(hidden, 5), Softmax()]
    trainer = Trainer(Sequential(layers, backend=backend, seed=4), optimizer=SGD(0.3, momentum=0.9))
    trainer.fit(ROWS, 3, 4)
    assert backend.why_eager == ""
    arrays = trainer.model.state_dict() | {name: backend.to_numpy(x) for name, x in trainer.optimizer.state.items()}
    return arrays | {"loss": np.array(trainer.history["loss"])}


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert np.isfinite(values).all()
        np.testing.assert_array_equal(found[name], values, err_msg=name, strict=True)


def without(dtype: str = "float32", threads: int = 1) -> CupyBackend:
    backend = CupyBackend(EmulatedCudaDevice(threads), dtype)
    backend.dependent_launches = False
    return backend


# ---- which launches, and that they change nothing --------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize(("dtype", "threads"), [("float32", 1), ("float64", 4)])
def test_a_small_network_is_a_chain_of_dependent_launches(dtype: str, threads: int) -> None:
    expected = trained(without(dtype, threads))
    assert driver.names == []
    backend = CupyBackend(EmulatedCudaDevice(threads), dtype)
    same(trained(backend), expected)
    assert backend.why_not_dependent == ""
    # One step in a graph, of full batches and of short ones, and 16: of each the first launch is an ordinary one.
    one, several = PAIR[1:], (PAIR * 16)[1:]
    assert sorted(driver.names) == sorted(one + one + several)
    begin = next(i for i, name in enumerate(driver.names) if name == PAIR[0])
    assert driver.names[begin - 1 : begin + 30] == several


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_on_a_gpu_that_is_there(dtype: str) -> None:
    backend = make_backend(("cuda", True), dtype)
    assert isinstance(backend, CupyBackend)
    ordinary = CupyBackend(backend.device, dtype)
    ordinary.dependent_launches = False
    same(trained(backend), trained(ordinary))
    assert (backend.why_not_dependent == "") == (backend.device.compute_capability() >= CAPABILITY)


@needs_compiler
def test_a_head_waits_for_the_activation_before_it_and_no_kernel_for_a_product(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tuple(rule for rule in rules.RULES if rule is not rules.whole_network)
    expected = {}
    for joined, backend in ((True, CupyBackend(EmulatedCudaDevice())), (False, without())):
        backend.rules = kept
        expected[joined] = trained(backend)
    same(expected[True], expected[False])
    # Gather, product, activation; then these two.
    assert set(driver.names) == {"head_sigmoid", "gradients_and_update_2"}
    assert driver.names.count("head_sigmoid") == driver.names.count("gradients_and_update_2") == 18


@needs_compiler
def test_a_kernel_right_after_a_product_is_an_ordinary_launch() -> None:
    layers = [Linear(13, 9, bias=False), Linear(9, 5), Softmax()]
    backend = CupyBackend(EmulatedCudaDevice())
    Trainer(Sequential(layers, backend=backend, seed=4), optimizer=SGD(0.3)).fit(ROWS, 3, 4)
    assert (backend.why_eager, backend.why_not_dependent) == ("", "")
    assert set(driver.names) == {"gradients_and_update_2"}  # and not the head


@needs_compiler
@pytest.mark.parametrize("where", [None, 0, 1])
def test_what_is_read_early_must_not_be_written_in_the_same_graph(where: int | None) -> None:
    """By the launch right before, or by one before that."""
    backend = CupyBackend(EmulatedCudaDevice())
    x, dz, w = (backend.asarray(RNG.standard_normal((16, 16)).astype(np.float32)) for _ in range(3))
    flat, g = w.reshape(256), backend.empty((256,))
    rate, fresh, other = (backend.asarray(np.array([value], np.float32)) for value in (0.5, 0.25, 0.0))
    before = backend.to_numpy(w)

    def step(numbers: StepNumbers, count: int) -> None:
        backend.matmul(x, dz, transpose_a=True, out=g.reshape(16, 16))
        for index in range(2):
            backend.axpby(1.0, fresh, 0.0, rate if index == where else other)
        backend.update("sgd", flat, g, {}, learning_rate=rate)

    recorded = backend.record(step)
    for number in range(3):
        recorded(StepNumbers(0, number, number + 1, 0.1), 16)
    assert driver.names == (["gradients_and_update_1"] if where is None else [])
    total = 3 * (0.5 if where is None else 0.25)
    gradient = backend.to_numpy(x).T @ backend.to_numpy(dz)
    np.testing.assert_allclose(backend.to_numpy(w), before - total * gradient, rtol=1e-4, atol=1e-4)


@needs_compiler
def test_what_they_use_stays_as_long_as_the_graph() -> None:
    backend = CupyBackend(EmulatedCudaDevice())
    kept = [backend.asarray(np.ones((16, 16), np.float32)) for _ in range(2)]
    w, other = (backend.zeros((256,)) for _ in range(2))

    def step(numbers: StepNumbers, count: int) -> None:
        gradient = backend.matmul(kept[0], kept[1], transpose_a=True, out=other.reshape(16, 16))
        backend.axpby(1.0, rate, 0.0, rate)
        backend.update("sgd", w, gradient.reshape(256), {}, learning_rate=numbers.learning_rate)
        backend.axpby(1.0, rate, 0.0, rate)

    rate = backend.zeros((1,))
    recorded = backend.record(step)
    numbers = StepNumbers(0, 0, 1, 0.5)
    for _ in range(2):
        recorded(numbers, 16)
    assert driver.names == ["gradients_and_update_1"]
    kept.clear()
    recorded(numbers, 16)
    np.testing.assert_array_equal(backend.to_numpy(w), np.full(256, -3 * 0.5 * 16, np.float32))


# ---- kernels that do not wait as they have to ------------------------------------------------------------------------


def changed(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


WAIT = "        wait_for_launch_before();\n"
GATHERED = "            row_of[i] = (REAL)pixels[from * inputs + column] * input_scale + input_shift;\n"
INPUT = "        FOR_BLOCK(i, rows_here * (int)inputs) input[first * inputs + i] = row_of[i];\n"
MATRIX = "        if (first == own) FOR_BLOCK(i, width * columns) whole[i] = matrix[i];\n"
#: What is changed in the CUDA text, and what is then said.
FAULTS: dict[str, tuple[list[tuple[str, str]], str]] = {
    "no wait": ([("    wait_for_launch_before();\n    const int share", "    const int share")], "never waits"),
    "no wait of blocks without rows": (
        [("    wait_for_launch_before();  // of a block without rows\n", "")],
        "never waits",
    ),
    "a read before the wait": ([(WAIT + MATRIX, MATRIX + WAIT)], "the loss became nan"),
    "a write before the wait": (
        [(INPUT, ""), (GATHERED, f"{GATHERED}            input[first * inputs + i] = row_of[i];\n")],
        "writes what the launch before uses",
    ),
    "the next one may begin too early": (
        [
            ("GRID_CONTROL(wait);", "GRID_CONTROL(both);"),
            ("GRID_CONTROL(launch_dependents);", "GRID_CONTROL(wait);"),
            ("GRID_CONTROL(both);", "GRID_CONTROL(launch_dependents);"),
        ],
        "lets the next launch begin before it has waited",
    ),
    "none": ([], ""),
}


@pytest.fixture
def with_text(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[list[tuple[str, str]]], None]]:
    """Kernels of a changed CUDA text, in blocks of which every second one has no rows."""

    def use(changes: list[tuple[str, str]]) -> None:
        text = changed(launch.texts("float")[0], *changes)
        monkeypatch.setattr(launch, "texts", lambda real: (text,))
        monkeypatch.setattr(rules, "HEAD_ROWS", 1)
        launch.kernels.cache_clear()

    yield use
    launch.kernels.cache_clear()


#: The others are tried with the slow tests, as each compiles all kernels.
QUICK = ("no wait", "a read before the wait", "none")


@needs_compiler
@pytest.mark.parametrize(
    "fault", [pytest.param(fault, marks=() if fault in QUICK else pytest.mark.slow) for fault in FAULTS]
)
def test_kernels_that_do_not_wait_are_found(fault: str, with_text: Callable[[list[tuple[str, str]]], None]) -> None:
    expected = trained(without())
    changes, said = FAULTS[fault]
    with_text(changes)
    if changes:
        with pytest.raises((AssertionError, TrainingDiverged), match=said):
            trained(CupyBackend(EmulatedCudaDevice()))
    else:
        same(trained(CupyBackend(EmulatedCudaDevice())), expected)
    # Ordinary launches are right all the same.
    same(trained(without()), expected)


# ---- where there are none --------------------------------------------------------------------------------------------


class NoDriver(EmulatedCudaDevice):
    def driver(self) -> Any:
        raise OSError("libcuda.so.1: no such file")


def fails(status: int) -> EmulatedCudaDevice:
    driver.fails = status
    return EmulatedCudaDevice()


def is_old(device: EmulatedCudaDevice) -> EmulatedCudaDevice:
    driver.version = 12020
    return device


@needs_compiler
@pytest.mark.parametrize(
    ("device", "why"),
    [
        (lambda: EmulatedCudaDevice(compute_capability="80"), "compute capability of cuda:0 is 8.0: it takes 9.0"),
        (lambda: is_old(EmulatedCudaDevice()), "the driver is of CUDA 12.2: it takes 12.3 or newer"),
        (NoDriver, "the CUDA driver cannot be called directly (libcuda.so.1: no such file)"),
        (lambda: fails(LAUNCH_FAILED), "cuLaunchKernelEx: error 719"),
        (lambda: fails(CAPTURE_UNSUPPORTED), "cuLaunchKernelEx: error 900"),  # and the capture is over
    ],
)
def test_launches_are_ordinary_where_they_must_be_and_say_why(
    device: Callable[[], EmulatedCudaDevice], why: str
) -> None:
    expected = trained(without())
    backend = CupyBackend(device())
    same(trained(backend), expected)
    assert why in backend.why_not_dependent
    assert driver.names == []


@needs_compiler
def test_a_capture_that_somebody_ends_is_no_reason() -> None:
    expected = trained(without())
    driver.interrupts = True
    backend = CupyBackend(EmulatedCudaDevice())
    same(trained(backend), expected)
    assert not driver.interrupts
    assert backend.why_not_dependent == ""
    assert "gradients_and_update_2" in driver.names


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """There are no graphs of dependent launches. Of each that is to be one, whether there is."""
    end_capture, found = Stream.end_capture, list[bool]()

    def ends(stream: Stream) -> Graph:
        graph = end_capture(stream)
        if graph.nodes:
            found.append(not driver.names)
        if driver.names:
            driver.names.clear()
            raise CUDARuntimeError(801)
        return graph

    monkeypatch.setattr(Stream, "end_capture", ends)
    return found


NOT_SUPPORTED = "CUDARuntimeError: cudaErrorNotSupported: operation not supported"


@needs_compiler
def test_where_a_graph_cannot_have_them_the_step_is_captured_without(refused: list[bool]) -> None:
    expected = trained(without())
    refused.clear()
    backend = CupyBackend(EmulatedCudaDevice())
    same(trained(backend), expected)  # which says that steps are recorded
    assert backend.why_not_dependent == f"there is no graph of such launches ({NOT_SUPPORTED})"
    assert refused.count(False) == 1


@needs_compiler
def test_that_is_at_the_next_call_which_other_processes_make_too(refused: list[bool]) -> None:
    backend = CupyBackend(EmulatedCudaDevice())
    x, dz, w, other = (backend.asarray(np.ones((16, 16), np.float32)) for _ in range(4))
    flat, g = w.reshape(256), backend.empty((256,))

    def step(numbers: StepNumbers, count: int) -> None:
        backend.matmul(x, dz, transpose_a=True, out=g.reshape(16, 16))
        backend.axpby(1.0, dz.reshape(256), 0.0, other.reshape(256))
        backend.update("sgd", flat, g, {}, learning_rate=numbers.learning_rate)

    recorded = backend.record(step)
    captured = []
    for number in range(4):
        recorded(StepNumbers(0, number, number + 1, 0.1), 16)
        captured.append([*refused])
    assert captured == [[], [False], [False, True], [False, True]]


def test_who_switches_them_off_reads_that() -> None:
    assert without().why_not_dependent == "dependent_launches is False"


# ---- what the driver is handed ---------------------------------------------------------------------------------------

#: Offset and size of what we name: that of cuda.h, as compilers lay it out where pointers have 64 bits.
LAYOUT = {
    "CUlaunchConfig": (LaunchConfig, 56, {"gridDimX": ("grid", 0), "blockDimX": ("block", 12)}),
    "CUlaunchAttribute": (LaunchAttribute, 72, {"id": ("id", 0), "value": ("value", 8)}),
}
LAYOUT["CUlaunchConfig"][2].update(
    sharedMemBytes=("shared", 24), hStream=("stream", 32), attrs=("attributes", 40), numAttrs=("n_attributes", 48)
)


def test_structures_are_laid_out_as_compilers_do_it() -> None:
    for structure, size, fields in LAYOUT.values():
        assert ctypes.sizeof(structure) == size
        for name, offset in fields.values():
            assert getattr(structure, name).offset == offset
