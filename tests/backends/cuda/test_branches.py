"""Graphs with two branches, on an emulated device: it refuses one in which two nodes that no edge orders use the same
memory, and launches the others with the branch as early as may be and as late."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, repeat
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.cuda import branches, graphs
from backends.cuda.branches import Branch, brought_forward
from backends.cuda.cupy_backend import CupyBackend
from backends.cuda.launch import Kernels
from backends.cuda.rules import EXACT, RULES
from backends.cuda.tape import Call
from nn import SGD, Adam, Linear, Optimizer, RMSProp, Sequential, Softmax, Tanh, Trainer
from nn import steps as steps_module
from nn.data import Dataset
from tests.helpers import emulated_cuda
from tests.helpers.backends import make_backend
from tests.helpers.emulated_cuda import (
    CUDARuntimeError,
    EmulatedCudaDevice,
    Graph,
    Race,
    Stream,
    Used,
    enqueue,
    launched,
    memory,
    needs_compiler,
    stream_at,
    wait_for_device,
)
from tests.helpers.recorded_runs import Eager, Outcome

pytestmark = needs_compiler

RNG = np.random.default_rng(9)
ROWS = Dataset(RNG.integers(0, 256, (75, 13), dtype=np.uint8), RNG.integers(0, 5, 75), scale=1 / 255)
#: Of the four layers of ``make_trainer`` two are large then, the second and the third one.
LARGE = 100
OPTIMIZERS: dict[str, Any] = {
    "momentum": lambda: SGD(0.3, momentum=0.9, weight_decay=1e-3),
    "nesterov": lambda: SGD(0.3, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "plain": lambda: SGD(0.3),
    "penalties": lambda: SGD(0.3, momentum=0.9, weight_decay=1e-3, decoupled=False),
    "adam": lambda: Adam(0.02, weight_decay=1e-3),
    "rmsprop": lambda: RMSProp(0.01, momentum=0.5, centered=True, epsilon=1e-3),
}


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers of this size are updated beside the others."""
    monkeypatch.setattr(branches, "SECTION", LARGE)


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """The graphs with nodes that are captured."""
    found: list[Graph] = []
    end = Stream.end_capture

    def end_capture(self: Stream) -> Graph:
        graph = end(self)
        if graph.nodes:
            found.append(graph)
        return graph

    monkeypatch.setattr(Stream, "end_capture", end_capture)
    return found


def recorded(rules: Any = EXACT, dtype: str = "float32") -> CupyBackend:
    backend = CupyBackend(EmulatedCudaDevice(), dtype)
    backend.rules, backend.accumulates_from = rules, 0
    return backend


def eager(rules: Any = EXACT, dtype: str = "float32") -> CupyBackend:
    backend = Eager(EmulatedCudaDevice(), dtype)
    backend.rules, backend.accumulates_from = rules, 0
    return backend


def make_trainer(backend: CupyBackend, optimizer: Optimizer | None = None, **options: Any) -> Trainer:
    layers = [Linear(13, 7), Tanh(), Linear(7, 20), Tanh(), Linear(20, 11), Tanh(), Linear(11, 5), Softmax()]
    model = Sequential(layers, backend=backend, seed=4)
    return Trainer(model, "cross_entropy", optimizer or SGD(0.3, momentum=0.9), **options)


def trained(backend: CupyBackend, optimizer: str = "momentum", size: int = 16, **options: Any) -> Outcome:
    trainer = make_trainer(backend, OPTIMIZERS[optimizer](), **options)
    trainer.fit(ROWS, 4, size)
    assert backend.why_eager == ""
    return Outcome(trainer)


def beside(graph: Graph) -> list[str]:
    """The names of the nodes that are not of the stream that began the capture."""
    return [node.name for node in graph.nodes if node.stream != graph.nodes[0].stream]


# ---- updates of large layers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "rules", [pytest.param(EXACT, marks=pytest.mark.slow, id="exact"), pytest.param(RULES, id="all")]
)
@pytest.mark.parametrize("order", [repeat(True), repeat(False), cycle((True, False))], ids=["early", "late", "turns"])
@pytest.mark.usefixtures("large")
def test_a_recorded_run_is_the_eager_one(
    optimizer: str, rules: Any, order: Any, captured: list[Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Graph, "branches_first", order)
    found = trained(recorded(rules), optimizer)
    if optimizer != "penalties":  # which are added to all gradients at once, first
        assert any(beside(graph) for graph in captured)
    found.is_that_of(trained(eager(rules), optimizer))


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.usefixtures("large")
def test_the_same_on_a_gpu_that_is_there(optimizer: str) -> None:
    backend = make_backend(("cuda", True), "float32")
    assert isinstance(backend, CupyBackend)
    one_by_one = Eager(backend.device, "float32")
    for each in (backend, one_by_one):
        each.rules, each.accumulates_from = EXACT, 0
    trained(backend, optimizer).is_that_of(trained(one_by_one, optimizer))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sections_give_the_bits_of_one_update(optimizer: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = trained(recorded(EXACT, dtype), optimizer)
    monkeypatch.setattr(branches, "SECTION", LARGE)
    trained(recorded(EXACT, dtype), optimizer).is_that_of(expected)


@pytest.mark.usefixtures("large")
def test_each_large_layer_is_updated_after_its_dx_and_beside_the_layers_before(captured: list[Graph]) -> None:
    trained(recorded())
    nodes = captured[0].nodes
    branch = [i for i, node in enumerate(nodes) if node.stream != nodes[0].stream]
    layer = ["activation_backward_tanh", "gemm", "gemm"]
    first = [*layer[:2], "sgd_updates_2"]  # it has no dx; and all biases with it
    update = ["sgd_update"]
    assert [node.name for node in nodes[-12:]] == [*layer, *update, *layer, *update, *first, "advance_numbers"]
    assert [i - len(nodes) for i in branch] == [-9, -5]
    assert [nodes.index(node) - len(nodes) for node in nodes[-1].after] == [-2, -5]


def test_small_networks_have_the_launches_that_they_had(captured: list[Graph]) -> None:
    trained(recorded())
    assert not any(beside(graph) for graph in captured)
    assert [node.name for node in captured[0].nodes].count("sgd_updates_2") == 1


@pytest.mark.parametrize(
    ("options", "has_branch"),
    [
        pytest.param({"clip_norm": 0.5}, False, id="clipping"),
        pytest.param({"blocks": 2}, False, id="blocks"),
        pytest.param({"accumulate": 5}, False, id="accumulate"),
        pytest.param({"average": 0.9}, True, id="average"),
    ],
)
@pytest.mark.usefixtures("large")
def test_what_needs_all_gradients_has_them(options: dict[str, Any], has_branch: bool, captured: list[Graph]) -> None:
    found = trained(recorded(), **options)
    assert any(beside(graph) for graph in captured) == has_branch
    found.is_that_of(trained(eager(), **options))


@pytest.mark.usefixtures("large")
def test_several_steps_in_a_graph(captured: list[Graph], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "PATIENCE", 0)
    monkeypatch.setattr(steps_module, "PART_SECONDS", 1e9)
    found = trained(recorded(), size=4)
    assert max(len(beside(graph)) for graph in captured) == 2 * graphs.STEPS
    found.is_that_of(trained(eager(), size=4))


# ---- what a race is --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_a_join_that_lacks_is_found(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the branch goes as soon as the first of it may, and the rest waits for it at the end only."""
    capture = Branch.capture

    def blindly(self: Branch, calls: Sequence[Call]) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(Call, "must_follow", lambda *_: False)
            capture(self, calls)

    monkeypatch.setattr(Branch, "capture", blindly)
    with pytest.raises(Race, match=r"^(gemm|activation_backward_tanh) and \w+_update use the same memory"):
        trained(recorded(), optimizer)


@pytest.mark.usefixtures("large")
def test_a_call_that_does_not_say_what_it_uses_is_found() -> None:
    """It is known from the declarations of the kernels."""

    def conceal(calls: list[Call], kernels: Kernels) -> list[Call]:
        return [replace(call, reads=(), writes=()) if call.beside else call for call in calls]

    with pytest.raises(Race, match="use the same memory, and no edge orders them"):
        trained(recorded((*EXACT, conceal)))


BYTES = 12
SPANS = st.lists(st.tuples(st.integers(0, BYTES - 1), st.integers(1, 4)), max_size=3)


class Memory(SimpleNamespace):
    """As much of an array as a call is asked for."""

    def __init__(self, first: int, size: int) -> None:
        size = min(size, BYTES - first)
        pointer = SimpleNamespace(ptr=BUFFER.ctypes.data + first)
        super().__init__(data=pointer, shape=(size,), strides=(1,), size=size, dtype=np.dtype(np.uint8))

    def used(self, writes: bool) -> Used:
        return Used(self.data.ptr, self.data.ptr + self.size, writes)


BUFFER = memory.allocate((BYTES,), np.uint8)


def make_call(number: int, reads: list[tuple[int, int]], writes: list[tuple[int, int]], is_beside: bool) -> Call:
    read, written = ([Memory(*one) for one in of] for of in (reads, writes))
    uses = [*(one.used(False) for one in read), *(one.used(True) for one in written)]
    launch = lambda: enqueue(str(number), uses, lambda: ran.append(number))  # noqa: E731
    return Call(str(number), {}, tuple(read), tuple(written), launch, beside=is_beside)


ran: list[int] = []


@given(st.lists(st.tuples(SPANS, SPANS, st.booleans()), max_size=9), st.booleans())
def test_calls_come_forward_past_those_alone_that_use_other_memory(given: Any, early: bool) -> None:
    """And a captured graph keeps all that must not change places in order, however it is launched."""
    calls = [make_call(number, *one) for number, one in enumerate(given)]
    found = brought_forward(calls)
    places = {call.op: place for place, call in enumerate(found)}
    assert sorted(places) == sorted(call.op for call in calls)
    pairs = [(a, b) for i, b in enumerate(calls) for a in calls[:i] if b.must_follow(a)]
    assert all(places[a.op] < places[b.op] for a, b in pairs)
    stream = Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        Branch(SimpleNamespace(Stream=Stream, Event=emulated_cuda.Event, get_current_stream=lambda: stream)).capture(
            found
        )
        graph = stream.end_capture()
    ran.clear()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Graph, "branches_first", repeat(early))
        graph.launch()
    assert sorted(ran) == [*range(len(calls))]
    assert all(ran.index(int(a.op)) < ran.index(int(b.op)) for a, b in pairs)


@pytest.mark.parametrize(("uses", "is_beside"), [((1, 1), False), ((4, 1), True)])
def test_what_the_next_call_needs_stays_where_it_is(uses: tuple[int, int], is_beside: bool) -> None:
    """A branch would cost two edges there, and nothing would run beside it."""
    calls = [
        make_call(0, [], [(0, 1)], False),
        make_call(1, [(0, 1)], [(1, 1)], True),
        make_call(2, [uses], [(2, 1)], False),
        make_call(3, [(1, 1)], [(3, 1)], False),
    ]
    found = brought_forward(calls)
    assert [call.op for call in found] == ["0", "1", "2", "3"]
    assert [call.beside for call in found] == [False, is_beside, False, False]


# ---- captures that fail ----------------------------------------------------------------------------------------------


class Something(Exception):
    pass


def happens_beside(monkeypatch: pytest.MonkeyPatch, what: Any, times: int) -> None:
    """So often something happens right after a launch on the branch was captured."""
    original, left = emulated_cuda.enqueue, [what] * times

    def happens(name: str, uses: list[Used], work: Any, stream: Stream | None = None) -> None:
        original(name, uses, work, stream)
        current = emulated_cuda.get_current_stream()
        if left and current.nodes is not None and current.ptr != current.nodes.origin:
            left.pop()()

    monkeypatch.setattr(emulated_cuda, "enqueue", happens)


@pytest.mark.parametrize("times", [1, graphs.TRIES - 1])
@pytest.mark.usefixtures("large")
def test_a_capture_that_is_interrupted_beside_is_tried_again(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def somebody_waits() -> None:
        with pytest.raises(CUDARuntimeError):
            wait_for_device()

    expected = trained(eager())
    happens_beside(monkeypatch, somebody_waits, times)
    launched.names.clear()
    found = trained(recorded())
    assert launched.count("graph") == 20 - 2 - times  # of both numbers of rows the first step is none
    found.is_that_of(expected)


@pytest.mark.usefixtures("large")
def test_an_error_beside_is_what_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise Something("wrong")

    happens_beside(monkeypatch, fails, 1)
    backend = recorded()
    make_trainer(backend).fit(ROWS, 3, 16)
    assert backend.why_eager == "Something: wrong"


@pytest.mark.usefixtures("large")
def test_a_finished_run_leaves_no_stream(captured: list[Graph]) -> None:
    def run() -> int:
        trained(recorded())
        assert beside(captured[0])
        captured.clear()
        return len(stream_at)

    gc.collect()
    gc.disable()
    try:
        assert run() == run()
    finally:
        gc.enable()
