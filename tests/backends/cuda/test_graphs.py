"""Training steps recorded as CUDA graphs, on an emulated device, against the same steps launched one by one.

A graph of the emulated device knows memory by its address only, as a graph of CUDA does, and refuses an address whose
memory has been given back; while a stream captures, nothing is computed.
"""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from backends import RecordedStep, Step, StepNumbers
from backends.cuda import graphs as graphs_module
from backends.cuda import launch
from backends.cuda.cupy_backend import CupyBackend
from backends.cuda.graphs import TRIES, Recording
from backends.cuda.launch import ROWS_OF_LAST_BLOCK
from backends.cuda.tape import tape
from nn import Callback, Trainer
from nn import steps as steps_module
from nn.own_layers import LOOKED_AT
from tests.helpers import emulated_cuda
from tests.helpers.backends import make_backend
from tests.helpers.emulated_cuda import (
    CUDARuntimeError,
    EmulatedCudaDevice,
    Graph,
    Stream,
    launched,
    memory,
    needs_compiler,
    new_stand_in_cublas,
    wait_for_device,
)
from tests.helpers.recorded_runs import (
    MORE_ROWS,
    OPTIMIZERS,
    ROWS,
    Allocates,
    Eager,
    Outcome,
    eager,
    make_trainer,
    recorded,
    train,
)

pytestmark = needs_compiler

RNG = np.random.default_rng(5)


# ---- the same as without -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    ("dtype", "batch_size", "shuffle"),
    [("float32", 16, True), ("float64", 16, False), ("float64", None, True), ("float32", 1, True)],
    ids=["16", "in order", "full", "1"],
)
def test_a_recorded_run_is_the_eager_one(optimizer: str, dtype: str, batch_size: int | None, shuffle: bool) -> None:
    backend = recorded(dtype)
    with_graphs = train(backend, optimizer, batch_size, shuffle)
    assert backend.why_eager == ""
    with_graphs.is_that_of(train(eager(dtype), optimizer, batch_size, shuffle))


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("batch_size", "shuffle"), [(16, True), (16, False), (None, True)])
def test_the_same_on_a_gpu_that_is_there(optimizer: str, dtype: str, batch_size: int | None, shuffle: bool) -> None:
    backend = make_backend(("cuda", True), dtype)
    assert isinstance(backend, CupyBackend)
    with_graphs = train(backend, optimizer, batch_size, shuffle)
    assert backend.why_eager == ""
    with_graphs.is_that_of(train(Eager(backend.device, dtype), optimizer, batch_size, shuffle))


def test_memory_that_is_given_back_while_a_step_is_noted_changes_nothing() -> None:
    """The collector of garbage may free arrays at any moment; here one is freed at every line that asks the emulated
    device where an address lies, within the search too."""
    expected, backend = train(eager()), recorded()
    others = [backend.empty((3,)) for _ in range(2000)]

    def free_one(frame: Any, event: str, _: Any) -> Any:
        if frame.f_code.co_filename != emulated_cuda.__file__:
            return None
        if frame.f_code.co_name in ("piece", "<genexpr>") and others:
            del others[len(others) // 2]
        return free_one

    before = sys.gettrace()
    sys.settrace(free_one)
    try:
        found = train(backend)
    finally:
        sys.settrace(before)
    assert backend.why_eager == ""
    assert len(others) < 1500
    found.is_that_of(expected)


def test_the_python_code_of_a_step_runs_twice_for_each_count() -> None:
    trainer, ran = make_trainer(recorded())
    trainer.fit(ROWS, 5, 16)
    assert ran == {16: 2, 6: 2, LOOKED_AT: 1}  # the layer is looked at before its first use
    trainer, ran = make_trainer(eager())
    trainer.fit(ROWS, 5, 16)
    assert ran == {16: 20, 6: 5, LOOKED_AT: 1}


def test_nothing_but_graphs_is_launched_in_the_steady_state() -> None:
    trainer, _ = make_trainer(recorded())
    trainer.callbacks = []
    begins: list[int] = []

    class Marks(Callback):
        def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
            begins.append(len(launched.names))

    launched.names.clear()
    trainer.fit(ROWS, 4, 16, callbacks=[Marks()])
    assert launched.count("set_numbers") == 4  # once an epoch, for the batch is the first one again
    # In an epoch: parameters and velocity to where they are kept in case of a divergence, the totals to 0, its numbers,
    # a launch for each batch, and the order of the next epoch, on its way to its buffer, after the steps that still
    # read the present one. Then whether all parameters are finite, put beside the totals, for all to be read at once.
    before, after = ["copy", "copy", "copy", "set_numbers"], ["copy", "copy"]
    read = ["partial_nonfinite", "none_of_partial", "copy"]
    assert launched.names[begins[2] : begins[3]] == [*before, *["graph"] * 5, *after, *read]


def test_numbers_are_sent_only_where_they_are_not_those_of_the_next_step() -> None:
    backend = recorded()
    seen = backend.zeros((64,), np.int64)
    rows = backend.asarray(np.arange(64))

    def step(numbers: StepNumbers, count: int) -> None:
        backend.take_rows(rows, None, numbers.start, count, out=seen[:count])

    recording = backend.record(step)
    launched.names.clear()
    for start, count in ((0, 4), (4, 4), (8, 4), (12, 2), (14, 2), (16, 2), (18, 4)):
        recording(StepNumbers(start, start, start + 1, 0.1), count)
        np.testing.assert_array_equal(backend.to_numpy(seen)[:count], range(start, start + count))
        launched.names.append("|")
    text = " ".join(launched.names)
    assert launched.count("set_numbers") == 7  # steps count by one, not by rows
    launched.names.clear()
    for number, start in enumerate(range(20, 60, 4)):
        recording(StepNumbers(start, 50 + number, 80 + number, 0.1), 4)
        np.testing.assert_array_equal(backend.to_numpy(seen)[:4], range(start, start + 4))
    assert launched.names == ["set_numbers", *["graph"] * 10], text
    recording(StepNumbers(60, 60, 90, 0.05), 4)
    assert launched.names[11:] == ["set_numbers", "graph"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_numbers_on_the_device(dtype: str) -> None:
    backend = recorded(dtype)
    sent = StepNumbers(5, 2**40, 7, 0.1)
    held = [*(backend.empty((5,), np.int64) for _ in range(3)), backend.empty((5,))]
    kernels = launch.kernels(backend.cupy, 0, "float" if dtype == "float32" else "double")
    for rates in (None, (0.5, 0.4, 0.3, 0.2, 0.1)):
        given = sent if rates is None else sent._replace(learning_rate=rates)
        on_device = None if rates is None else backend.asarray(np.array(rates, dtype))
        kernels.elements("set_numbers", 5, *held, on_device, *sent, 32)
        for steps in (0, 3):
            numbers = zip(*(backend.to_numpy(array) for array in held), strict=True)
            for found, expected in zip(numbers, given.steps(32, 5), strict=True):
                assert found[:3] == expected.after(32, steps)[:3]
                assert found[3] == np.asarray(expected.learning_rate, dtype)
            kernels.elements("advance_numbers", 5, *held[:3], 3 * 32, 3)


def test_recordings_interleaved_on_one_device() -> None:
    """Two models that share a backend, its scratch memory and its handle of cuBLAS."""

    def outcomes(backend: CupyBackend) -> list[Outcome]:
        outer, ran = make_trainer(backend, "sgd", 9)
        inner, ran_inside = make_trainer(backend, "adam", 30)

        class InBetween(Callback):
            def on_batch_end(self, trainer: Trainer, count: int) -> None:
                inner.fit(MORE_ROWS, 1, 20)

        outer.fit(ROWS, 3, 16, callbacks=[InBetween()])
        all_run = ran == {16: 12, 6: 3, LOOKED_AT: 1} and ran_inside == {20: 60, 10: 15, LOOKED_AT: 1}
        assert all_run == isinstance(backend, Eager)
        return [Outcome(outer), Outcome(inner)]

    with_graphs, without = outcomes(recorded()), outcomes(eager())
    for one, other in zip(with_graphs, without, strict=True):
        one.is_that_of(other)


def test_an_exception_between_steps_leaves_a_run_that_goes_on() -> None:
    class Interrupts(Callback):
        def on_batch_end(self, trainer: Trainer, count: int) -> None:
            if trainer.optimizer.steps == 8:
                raise KeyboardInterrupt

    def interrupted(backend: CupyBackend) -> Outcome:
        trainer, _ = make_trainer(backend)
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(ROWS, 4, 16, callbacks=[Interrupts()])
        trainer.fit(ROWS, 3, 16)
        return Outcome(trainer)

    interrupted(recorded()).is_that_of(interrupted(eager()))


def test_a_recording_keeps_what_its_graphs_use() -> None:
    backend = recorded()
    result = backend.zeros((4, 3))
    batch = [backend.asarray(RNG.standard_normal((4, 5)).astype(np.float32))]
    weights = [backend.asarray(RNG.standard_normal((5, 3)).astype(np.float32))]
    expected = backend.to_numpy(backend.matmul(batch[0], weights[0]))

    def step(numbers: StepNumbers, count: int) -> None:
        backend.matmul(batch[0], weights[0], out=result)
        backend.copy(result, out=copied[0])
        backend.multiply(result, copied[0], out=squares[0])

    copied, squares = [backend.zeros((4, 3))], [backend.zeros((4, 3))]
    recording = backend.record(step)
    with ThreadPoolExecutor(1) as thread:  # it ends, and its scratch memory with it
        for number in range(2):
            thread.submit(recording, StepNumbers(0, number, number + 1, 0.1), 4).result()
    for array in (batch, weights, copied, squares):
        array[0] = backend.empty(array[0].shape)
    gc.collect()
    result[...] = 0.0
    recording(StepNumbers(0, 2, 3, 0.1), 4)
    np.testing.assert_array_equal(backend.to_numpy(result), expected)


# ---- steps that cannot be recorded ---------------------------------------------------------------------------------


def test_a_step_that_allocates_runs_eagerly_and_says_so(streams: list[Stream]) -> None:
    def run(backend: CupyBackend) -> Outcome:
        trainer, _ = make_trainer(backend, width=300, counts=Allocates)
        trainer.fit(ROWS, 3, 16)
        return Outcome(trainer)

    backend = recorded()
    run(backend).is_that_of(run(eager()))
    assert backend.why_eager == "the step allocates memory (1,200 bytes)"
    assert len(streams) == 1  # it is tried once


@pytest.mark.parametrize(
    ("owner", "method"), [(Stream, "begin_capture"), (Stream, "end_capture"), (Graph, "upload")], ids=lambda x: str(x)
)
def test_a_capture_that_fails_costs_nothing_but_speed(owner: Any, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Any) -> None:
        if owner is Stream:
            self.nodes = None
        raise RuntimeError("cudaErrorUnknown: unknown error\nand more")

    monkeypatch.setattr(owner, method, fails)
    expected = train(eager())
    backend = recorded()
    train(backend).is_that_of(expected)
    assert backend.why_eager == "RuntimeError: cudaErrorUnknown: unknown error"


def test_after_a_failure_recorded_counts_go_on_as_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(1).standard_normal((64, 12)).astype(np.float32)

    def run(backend: CupyBackend) -> np.ndarray:
        source = backend.asarray(rows)
        batch, gradient, params, velocity = (backend.zeros(shape) for shape in ((16, 12), (12,), (12,), (12,)))
        ran: Counter[int] = Counter()

        def work(numbers: StepNumbers, count: int) -> None:
            ran[count] += 1
            x = backend.take_rows(source, None, numbers.start, count, out=batch[:count])
            backend.column_sum(x, out=gradient)
            rate, state = numbers.learning_rate, {"velocity": velocity}
            backend.update("sgd", params, gradient, state, learning_rate=rate, momentum=0.9)

        step = backend.record(work)
        batches = ((0, 16), (16, 16), (32, 16), (48, 8), (56, 8), (0, 16), (16, 16), (32, 8), (40, 16))
        for number, (start, count) in enumerate(batches):
            if (start, count) == (56, 8):
                monkeypatch.setattr(Stream, "begin_capture", None)
            step(StepNumbers(start, number, number + 1, 0.1), count)
        monkeypatch.undo()
        if isinstance(step, Recording):
            assert step.reason.startswith("TypeError: ")
            assert ran == {16: 2, 8: 3}
        result: np.ndarray = backend.to_numpy(params)
        return result

    found = run(recorded())
    np.testing.assert_array_equal(found, run(eager()))
    assert np.abs(found).min() > 0


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError, "libcublas.so.13: cannot open shared object file"),
        (ImportError, "DLL load failed while importing cublas"),
        (AttributeError, "undefined symbol: cublasGemmEx"),
        (None, "cublasCreate_v2: CUBLAS_STATUS_NOT_INITIALIZED"),
    ],
)
def test_without_cublas_products_go_through_cupy_and_steps_are_eager(
    error: type[Exception] | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = new_stand_in_cublas()  # of which there is no handle yet
    library.stand_in_fail(1)

    def load(self: Any) -> Any:
        if error is not None:
            raise error(reason)
        return library

    monkeypatch.setattr(EmulatedCudaDevice, "cublas", load)
    backend = recorded()
    outcome = train(backend)
    outcome.is_that_of(train(eager()))
    assert backend.why_eager == f"cuBLAS cannot be called directly ({reason})"


def test_an_error_of_the_step_itself_is_raised(streams: list[Stream]) -> None:
    backend = recorded()
    x, out = backend.zeros((4, 3)), [backend.zeros((4, 3))]

    def step(numbers: StepNumbers, count: int) -> None:
        backend.softmax(x, out=out[0])

    recording = backend.record(step)
    recording(StepNumbers(0, 0, 1, 0.1), 4)
    out[0] = out[0][:3]
    for _ in range(2):
        with pytest.raises(ValueError, match="softmax: out must have shape"):
            recording(StepNumbers(4, 1, 2, 0.1), 4)
    assert len(streams) == 1
    out[0] = backend.zeros((4, 3))
    recording(StepNumbers(4, 1, 2, 0.1), 4)
    np.testing.assert_allclose(backend.to_numpy(out[0]), 1 / 3, rtol=1e-6)


def test_ctrl_c_while_recording_ends_the_capture(streams: list[Stream]) -> None:
    backend = recorded()
    x, impatient = backend.zeros((4, 3)), [False, True, False, False]

    def step(numbers: StepNumbers, count: int) -> None:
        if impatient.pop(0):
            raise KeyboardInterrupt
        backend.softmax(x, out=x)

    recording = backend.record(step)
    recording(StepNumbers(0, 0, 1, 0.1), 4)
    with pytest.raises(KeyboardInterrupt):
        recording(StepNumbers(4, 1, 2, 0.1), 4)
    recording(StepNumbers(4, 1, 2, 0.1), 4)
    assert len(streams) == 2
    assert impatient == [False]
    assert backend.why_eager == ""


# ---- what others do while a step is captured -----------------------------------------------------------------------


class InACycle:
    """Garbage that only the collector finds, and that waits for the device when it is found."""

    def __init__(self) -> None:
        self.myself = self
        weakref.finalize(self, self.wait)

    @staticmethod
    def wait() -> None:
        with suppress(CUDARuntimeError):
            wait_for_device()


@dataclass
class Products:
    """A recording of ``out = a b``, then ``out += a b``; ``before`` is called between the two."""

    backend: CupyBackend
    before: Callable[[], None] = lambda: None
    ran: int = 0

    def __post_init__(self) -> None:
        backend = self.backend
        self.a, self.b = (backend.asarray(RNG.standard_normal((4, 4)).astype(np.float32)) for _ in range(2))
        self.out = backend.zeros((4, 4))
        self.expected = backend.to_numpy(backend.matmul(self.a, self.b)) * 2
        self.number = 0
        recording = backend.record(self.step)
        assert isinstance(recording, Recording)
        self.recording = recording

    def step(self, numbers: StepNumbers, count: int) -> None:
        self.ran += 1
        self.backend.matmul(self.a, self.b, out=self.out)
        self.before()
        self.backend.matmul(self.a, self.b, beta=1.0, out=self.out)

    def __call__(self) -> None:
        self.out[...] = 0.0
        self.recording(StepNumbers(self.number * 4, self.number, self.number + 1, 0.1), 4)
        self.number += 1
        np.testing.assert_allclose(self.backend.to_numpy(self.out), self.expected, rtol=1e-6)


def test_the_collector_does_not_run_while_a_step_is_captured(streams: list[Stream]) -> None:
    found: list[int] = []

    def leaves_garbage() -> None:
        made = [weakref.ref(InACycle()) for _ in range(10)]
        _ = [[number] for number in range(2000)]  # enough for the collector to begin
        found.append(sum(reference() is None for reference in made))

    gc.collect()
    leaves_garbage()
    products = Products(recorded(), leaves_garbage)
    for _ in range(4):
        products()
    assert gc.isenabled()
    assert found[0] > 0
    assert found[1:] == [0, 0]
    assert (products.ran, len(streams), products.recording.interruptions) == (2, 1, [])


def test_models_that_die_while_a_step_is_captured_do_not_end_it(streams: list[Stream]) -> None:
    """Their handles of cuBLAS stay, also where the references to them end and not the collector finds them."""
    others = [CupyBackend(EmulatedCudaDevice()) for _ in range(2)]
    for other in others:
        other.matmul(other.zeros((2, 2)), other.zeros((2, 2)))
    products = Products(recorded(), lambda: others.clear() if products.ran == 2 else None)
    for _ in range(3):
        products()
    assert not others
    assert (products.ran, len(streams), products.recording.interruptions) == (2, 1, [])


@pytest.mark.parametrize("on", [True, False])
def test_the_collector_is_left_as_it_was(on: bool) -> None:
    """Also where a capture fails, and where the captures of two threads overlap."""
    backend = recorded()
    seen: list[bool] = []
    both, other_has_ended = threading.Barrier(2), threading.Event()

    def look() -> None:
        if products.ran == 2:
            both.wait(60)  # inside both captures
            other_has_ended.wait(60)
            seen.append(gc.isenabled())

    def look_and_fail() -> None:
        if failing.ran == 2:
            both.wait(60)
            seen.append(gc.isenabled())
            raise ValueError("once")

    def twice() -> None:
        products()
        products()

    products, failing = Products(backend, look), Products(backend, look_and_fail)
    failing()
    if not on:
        gc.disable()
    try:
        thread = threading.Thread(target=twice)
        thread.start()
        failing()
        other_has_ended.set()
        thread.join()
        assert gc.isenabled() == on
    finally:
        gc.enable()
    assert seen == [False, False]
    assert (failing.recording.reason, products.recording.reason) == ("ValueError: once", "")


@pytest.mark.parametrize("times", [1, TRIES - 1, TRIES])
def test_an_interrupted_capture_is_tried_again_a_few_times(times: int, streams: list[Stream]) -> None:
    """Somebody waits for the device between the two products; the second one or the end of the capture fails."""

    def somebody_waits() -> None:
        if streams and streams[-1].is_capturing() and len(streams) <= times:
            InACycle.wait()

    products = Products(recorded(), somebody_waits)
    recording = products.recording
    said = "CublasError: cublasGemmEx: CUBLAS_STATUS_EXECUTION_FAILED"
    for _ in range(2 * TRIES + 2):
        products()
    assert recording.interruptions == [said] * times
    if times < TRIES:
        assert (len(streams), products.ran) == (times + 1, 2 + 2 * times)
        assert recording.reason == products.backend.why_eager == ""
    else:
        assert len(streams) == TRIES
        assert recording.reason == products.backend.why_eager == said
    launched.names.clear()
    products()
    assert launched.count("graph") == (times < TRIES)


@pytest.mark.parametrize("where", ["begin_capture", "end_capture"])
def test_errors_of_cuda_that_say_interrupted(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = [900, 901, 904]

    def fails(self: Stream) -> Any:
        if errors and tape() is None:
            self.nodes = None
            raise CUDARuntimeError(errors.pop())
        return original(self)

    original = getattr(Stream, where)
    monkeypatch.setattr(Stream, where, fails)
    products = Products(recorded())
    for _ in range(6):
        products()
    assert [line.partition(":")[2].split(":")[0] for line in products.recording.interruptions] == [
        " cudaErrorStreamCaptureUnjoined",
        " cudaErrorStreamCaptureInvalidated",
        " cudaErrorStreamCaptureUnsupported",
    ]
    assert products.recording.reason == ""
    launched.names.clear()
    products()
    assert launched.count("graph") == 1


# ---- threads -------------------------------------------------------------------------------------------------------


def test_a_recording_is_called_from_several_threads() -> None:
    """Each runs the step once before it notes it, with its own handle of cuBLAS, and all replay what one has noted."""
    backend = recorded()
    logits, labels = backend.asarray(RNG.standard_normal((4, 3))), backend.asarray([0, 2, 1, 1])
    totals, x = backend.zeros((2,), backend.wide), backend.asarray(np.eye(3))
    out, buffers = backend.zeros((4, 3)), threading.local()

    def step(numbers: StepNumbers, count: int) -> None:
        if not hasattr(buffers, "product"):  # as those of a model, which each thread has for itself
            buffers.product = backend.empty((4, 3))
        backend.matmul(logits, x, out=buffers.product)
        backend.softmax_cross_entropy(buffers.product, labels, totals=totals, out=out)

    recording = backend.record(step)
    launched.names.clear()

    def call(number: int) -> None:
        with backend.use():
            recording(StepNumbers(0, number, number + 1, 0.1), 4)

    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other, ThreadPoolExecutor(1) as third:
        for number, thread in enumerate([one, other, third, other, one, third, other, third]):
            thread.submit(call, number).result()
    assert backend.why_eager == ""
    assert launched.count("graph") == 5
    expected = 8 * backend.to_numpy(backend.softmax_cross_entropy(logits, labels)[0])
    np.testing.assert_allclose(backend.to_numpy(totals), expected, rtol=1e-6)


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_trainer_goes_on_in_another_thread(epochs: int) -> None:
    """After one epoch its step has been run, after three it is a graph; with all rows at once there is one an epoch."""

    def run(backend: CupyBackend) -> Outcome:
        trainer, _ = make_trainer(backend)
        rows = trainer.upload(ROWS)
        trainer.fit(rows, epochs, None)
        with ThreadPoolExecutor(1) as thread:
            thread.submit(trainer.fit, rows, 4, None).result()
        return Outcome(trainer)

    backend = recorded()
    launched.names.clear()
    found = run(backend)
    assert launched.count("graph") == (3 if epochs == 1 else 6)
    assert backend.why_eager == ""
    found.is_that_of(run(eager()))


def test_a_graph_writes_into_no_scratch_memory_of_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replayed by another thread between the two launches of a loss of many rows, it leaves that one's sums alone."""
    backend = recorded()
    m = ROWS_OF_LAST_BLOCK + 1
    logits, others = (backend.asarray(RNG.standard_normal((m, 3))) for _ in range(2))
    labels = backend.asarray(RNG.integers(0, 3, m))
    totals = backend.zeros((2,), backend.wide)

    def step(numbers: StepNumbers, count: int) -> None:
        backend.softmax_cross_entropy(others, labels, totals=totals, gradient=False)

    recording = backend.record(step)
    for number in range(2):
        recording(StepNumbers(0, number, number + 1, 0.1), m)
    expected = backend.to_numpy(backend.softmax_cross_entropy(logits, labels)[0])
    original = emulated_cuda.enqueue
    replayed: list[str] = []

    def enqueue(name: str, *arguments: Any) -> None:
        original(name, *arguments)
        if name == "softmax_cross_entropy" and not replayed:
            replayed.append(name)
            thread = threading.Thread(target=recording, args=(StepNumbers(0, 2, 3, 0.1), m))
            thread.start()
            thread.join()

    monkeypatch.setattr(emulated_cuda, "enqueue", enqueue)
    launched.names.clear()
    found = backend.to_numpy(backend.softmax_cross_entropy(logits, labels)[0])
    assert launched.count("graph") == len(replayed) == 1
    np.testing.assert_array_equal(found, expected)


def test_no_graph_comes_between_the_launches_of_a_product_with_its_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    products = Products(recorded())
    for _ in range(2):
        products()
    original = emulated_cuda.enqueue
    threads: list[threading.Thread] = []
    seen: list[int] = []

    def enqueue(name: str, *arguments: Any) -> None:
        if name == "gemm" and not threads:
            threads.append(threading.Thread(target=products))
            threads[0].start()
            threads[0].join(0.3)
            seen.append(launched.count("graph"))
        original(name, *arguments)

    monkeypatch.setattr(emulated_cuda, "enqueue", enqueue)
    launched.names.clear()
    products.backend.matmul(products.a, products.b)
    threads[0].join()
    assert seen == [0]
    assert launched.count("graph") == 1


# ---- what a finished run leaves ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch_size", "expected"), [(16, 2 * 3), (4, 3 * 3)], ids=["single steps", "several"])
def test_rows_and_graphs_of_a_finished_fit_are_freed_without_the_collector(
    batch_size: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 17 steps of 4 rows 16 are in one graph."""
    monkeypatch.setattr(graphs_module, "PATIENCE", 0)
    monkeypatch.setattr(steps_module, "PART_SECONDS", 1e9)
    graphs: list[weakref.ref[Graph]] = []
    recordings: list[weakref.ref[Any]] = []
    end, record = Stream.end_capture, CupyBackend.record

    def end_capture(self: Stream) -> Graph:
        graph = end(self)
        if tape() is None:
            graphs.append(weakref.ref(graph))
        return graph

    def noted(self: CupyBackend, step: Step, **options: Any) -> RecordedStep:
        recording = record(self, step, **options)
        recordings.append(weakref.ref(recording))
        return recording

    monkeypatch.setattr(Stream, "end_capture", end_capture)
    monkeypatch.setattr(CupyBackend, "record", noted)
    trainer, _ = make_trainer(recorded())
    gc.collect()
    gc.disable()
    try:
        pieces = []
        for _ in range(3):
            trainer.fit(ROWS, 3, batch_size, validation=MORE_ROWS)
            assert memory.are_in_use([])  # what was given back is struck off
            pieces.append(len(memory.live))
        assert pieces == pieces[:1] * 3
        assert [graph() for graph in graphs] == [None] * expected
        assert [recording() for recording in recordings] == [None] * 3
    finally:
        gc.enable()


def test_model_backend_and_recordings_are_freed_with_the_last_reference() -> None:
    """No cycle holds them, so that a model on a GPU gives its memory back at ``del``."""
    gc.collect()
    gc.disable()
    try:
        assert memory.are_in_use([])
        before = len(memory.live)
        trainer, _ = make_trainer(recorded())
        rows = trainer.upload(ROWS)
        trainer.fit(rows, 3, 16)
        left = [weakref.ref(x) for x in (trainer, trainer.model, trainer.backend, rows)]
        assert memory.are_in_use([])
        assert len(memory.live) > before
        del trainer, rows
        assert [reference() for reference in left] == [None] * 4
        assert memory.are_in_use([])
        assert len(memory.live) <= before + 1  # the workspace of cuBLAS, if this was the first test that needed one
    finally:
        gc.enable()
