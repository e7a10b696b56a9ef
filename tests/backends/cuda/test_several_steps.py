"""Several training steps in one CUDA graph, on an emulated device, against single ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends import StepNumbers
from backends.cuda import graphs
from backends.cuda.cupy_backend import CupyBackend
from backends.cuda.device import CupyDevice
from backends.cuda.graphs import STEPS, TRIES, Recording
from backends.random import permutation
from nn import Callback, Trainer, TrainingDiverged
from nn import feed as feed_module
from nn import steps as steps_module
from tests.helpers.backends import make_backend
from tests.helpers.emulated_cuda import CUDARuntimeError, EmulatedCudaDevice, Graph, Stream, launched, needs_compiler
from tests.helpers.recorded_runs import MORE_ROWS, OPTIMIZERS, ROWS, Eager, Outcome, eager, make_trainer, recorded

pytestmark = needs_compiler


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are launched in parts as long as may be, and captured together when they are first asked for."""
    monkeypatch.setattr(graphs, "PATIENCE", 0)
    monkeypatch.setattr(steps_module, "PART_SECONDS", 1e9)


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps_module, "MOST_STEPS", 1)


def in_turns(update: int) -> float:
    """A schedule that changes now in every step and now in none."""
    return 0.3 / update if update % 40 < 20 else 0.01


def scheduled(backend: CupyBackend, optimizer: str, rate: Callable[[int], float] | None) -> Outcome:
    """Three fits on 17 batches and one that is shorter, with dropout; ``rate`` replaces the learning rate."""
    trainer, _ = make_trainer(backend, optimizer)
    if rate is not None:
        trainer.optimizer.learning_rate = rate
        trainer.callbacks = []
    trainer.fit(ROWS, 3, 4, validation=MORE_ROWS)
    trainer.fit(ROWS, 2, 4)
    trainer.fit(MORE_ROWS, 2, 5, shuffle=False)
    return Outcome(trainer)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("dtype", "rate"), [("float32", None), ("float64", in_turns)], ids=["fixed", "scheduled"])
def test_a_run_in_graphs_of_several_steps_is_that_of_single_ones(
    optimizer: str, dtype: str, rate: Callable[[int], float] | None, request: pytest.FixtureRequest
) -> None:
    launched.names.clear()
    request.getfixturevalue("several")
    backend = recorded(dtype)
    together = scheduled(backend, optimizer, rate)
    assert backend.why_eager == ""
    assert launched.count("graph") < 7 * 18 / 2  # of the 18 steps of an epoch 16 in one, where it is there
    in_parts = scheduled(eager(dtype), optimizer, rate)
    request.getfixturevalue("one_by_one")
    launched.names.clear()
    one_at_a_time = scheduled(recorded(dtype), optimizer, rate)
    assert launched.count("graph") >= 7 * 18 - 8
    together.is_that_of(one_at_a_time)
    together.is_that_of(in_parts)
    together.is_that_of(scheduled(eager(dtype), optimizer, rate))


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("rate", [None, in_turns], ids=["fixed", "scheduled"])
def test_the_same_on_a_gpu_that_is_there(
    optimizer: str, rate: Callable[[int], float] | None, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And orders that are made while it is busy are those that are made when they are needed."""
    request.getfixturevalue("several")
    backend = make_backend(("cuda", True), "float32")
    assert isinstance(backend, CupyBackend)
    together = scheduled(backend, optimizer, rate)
    assert backend.why_eager == ""
    together.is_that_of(scheduled(Eager(backend.device), optimizer, rate))
    request.getfixturevalue("one_by_one")
    monkeypatch.setattr(CupyDevice, "queues", False)
    together.is_that_of(scheduled(backend, optimizer, rate))


class AllNumbers:
    """A step whose result depends on each of its numbers, recorded."""

    def __init__(self, backend: CupyBackend) -> None:
        self.backend = backend
        self.rows = backend.asarray(np.random.default_rng(2).standard_normal((4096, 3)).astype(np.float32))
        self.batch, self.mask = backend.zeros((4, 3)), backend.zeros((3,))
        self.gradient, self.params, self.mean, self.square = (backend.zeros((3,)) for _ in range(4))
        self.ran: Counter[int] = Counter()
        self.recorded = backend.record(self.step)

    def step(self, numbers: StepNumbers, count: int) -> None:
        self.ran[count] += 1
        backend, gradient = self.backend, self.gradient
        x = backend.take_rows(self.rows, None, numbers.start, count, out=self.batch[:count])
        mask = backend.dropout_mask((3,), rate=0.3, key=(1, 2), step=numbers.step, out=self.mask)
        backend.multiply(backend.column_sum(x, out=gradient), mask, out=gradient)
        state, rate = {"mean": self.mean, "square": self.square}, numbers.learning_rate
        backend.update("adam", self.params, gradient, state, learning_rate=rate, number=numbers.update)

    def arrays(self) -> list[Any]:
        return [self.backend.to_numpy(x) for x in (self.params, self.mean, self.square)]


def calls_of_recordings() -> st.SearchStrategy[list[tuple[int, int, int, int]]]:
    """For each the rows, the steps, the rows that are left out before it, and how many learning rates take turns."""
    call = st.tuples(st.sampled_from([1, 3, 4]), st.integers(1, 40), st.sampled_from([0, 0, 0, 7]), st.integers(1, 3))
    return st.lists(call, min_size=1, max_size=8)


@given(calls_of_recordings())
@settings(max_examples=25, deadline=None)
def test_any_calls_leave_what_single_steps_leave(calls: list[tuple[int, int, int, int]]) -> None:
    together, single = AllNumbers(recorded()), AllNumbers(eager())
    numbers = StepNumbers(0, 0, 1, 0.1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "PATIENCE", 0)
        for count, times, jump, rates in calls:
            rate = 0.1 if rates == 1 else tuple(0.1 / (1 + i % rates) for i in range(times))
            numbers = numbers._replace(start=numbers.start + jump, learning_rate=rate)
            together.recorded(numbers, count, times)
            for each in numbers.steps(count, times):
                single.recorded(each, count)
            numbers = numbers.after(count, times)
    assert together.backend.why_eager == ""
    for found, expected in zip(together.arrays(), single.arrays(), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.usefixtures("several")
def test_numbers_of_several_steps_are_sent_as_seldom_as_of_one() -> None:
    backend = recorded()
    recording = AllNumbers(backend).recorded
    numbers = StepNumbers(0, 0, 1, 0.1)
    for times in (2, STEPS):  # run, noted; noted together
        recording(numbers, 4, times)
        numbers = numbers.after(4, times)
    launched.names.clear()
    recording(numbers, 4, 3 * STEPS + 2)
    assert launched.names == ["graph"] * 5
    numbers = numbers.after(4, 3 * STEPS + 2)
    recording(numbers, 4, STEPS)
    assert launched.names[5:] == ["graph"]
    # Each graph of several with learning rates of their own; they are made 0.1 again before the next.
    rates = tuple(0.1 / update for update in range(1, 2 * STEPS + 1))
    numbers = numbers.after(4, STEPS)._replace(learning_rate=rates)
    recording(numbers, 4, 2 * STEPS)
    assert launched.names[6:] == ["copy", "set_numbers", "graph"] * 2
    numbers = numbers.after(4, 2 * STEPS)._replace(learning_rate=0.1)
    recording(numbers, 4, STEPS)
    assert launched.names[12:] == ["set_numbers", "graph"]


def test_several_steps_are_captured_when_they_have_been_asked_for_often(
    streams: list[Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three times for each of six launches; not for a step of so many that the graph would be too large."""
    for most, graphs_in_the_end in ((STEPS * 6, 2), (STEPS * 6 - 1, 1)):
        monkeypatch.setattr(graphs, "MOST_LAUNCHES", most)
        step = AllNumbers(recorded())
        streams.clear()
        step.recorded(StepNumbers(0, 0, 1, 0.1), 4, 2)
        numbers = StepNumbers(8, 2, 3, 0.1)
        asked = 0
        while asked < 30:
            often = 1 + asked % 3
            step.recorded(numbers, 4, often * STEPS)
            numbers = numbers.after(4, often * STEPS)
            asked += often
            assert len(streams) == (graphs_in_the_end if asked > 3 * 6 else 1), asked
        assert step.ran == {4: 2 + STEPS * (graphs_in_the_end - 1)}


@pytest.mark.usefixtures("several")
def test_callbacks_that_come_later_are_called_after_each_step() -> None:
    """With graphs of several steps and without, and where gradients are read."""

    class Notes(Callback):
        def __init__(self, reads_gradients: bool) -> None:
            self.reads_gradients = reads_gradients
            self.seen: list[Any] = []

        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            gradient = (
                trainer.model.gradients["0.weight"] if self.reads_gradients else trainer.model.parameters["0.weight"]
            )
            self.seen.append((rows, trainer.model.step, trainer.backend.to_numpy(gradient)))

    def run(backend: CupyBackend) -> tuple[Outcome, list[Any]]:
        trainer, _ = make_trainer(backend)
        rows, callbacks = trainer.upload(ROWS), [Notes(False), Notes(True)]
        trainer.fit(rows, 3, 4)
        for callback in callbacks:
            trainer.fit(rows, 2, 4, callbacks=[callback])
        trainer.fit(rows, 2, 4)
        return Outcome(trainer), [seen for callback in callbacks for seen in callback.seen]

    (found, seen), (expected, expected_seen) = run(recorded()), run(eager())
    found.is_that_of(expected)
    assert len(seen) == 2 * 2 * 18
    for one, other in zip(seen, expected_seen, strict=True):
        assert one[:2] == other[:2]
        np.testing.assert_array_equal(one[2], other[2])


@pytest.mark.usefixtures("several")
@pytest.mark.parametrize("where", ["begin_capture", "end_capture", "upload"])
@pytest.mark.parametrize("error", [RuntimeError("cudaErrorMemoryAllocation: out of memory"), CUDARuntimeError(901)])
def test_without_a_graph_of_several_steps_those_of_one_go_on(
    where: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, expected = AllNumbers(recorded()), AllNumbers(eager())
    numbers = StepNumbers(0, 0, 1, 0.1)
    step.recorded(numbers, 4, 2)
    owner: Any = Graph if where == "upload" else Stream

    def fails(self: Any) -> Any:
        if owner is Stream:
            self.nodes = None
        raise error

    monkeypatch.setattr(owner, where, fails)
    launched.names.clear()
    for _ in range(TRIES + 2):
        step.recorded(numbers.after(4, 2), 4, STEPS)
    assert launched.count("graph") == STEPS * (TRIES + 2)
    recording = step.recorded
    assert isinstance(recording, Recording)
    assert len(recording.interruptions) == (TRIES if isinstance(error, CUDARuntimeError) else 1)
    assert recording.reason == step.backend.why_eager == ""
    for each in [*numbers.steps(4, 2), *[*numbers.after(4, 2).steps(4, STEPS)] * (TRIES + 2)]:
        expected.recorded(each, 4)
    for found, other in zip(step.arrays(), expected.arrays(), strict=True):
        np.testing.assert_array_equal(found, other)


@pytest.mark.usefixtures("several")
def test_several_steps_in_a_graph_from_several_threads() -> None:
    """A thread that has run the step captures; the others launch what it has captured."""
    step, expected = AllNumbers(recorded()), AllNumbers(eager())
    numbers = StepNumbers(0, 0, 1, 0.1)
    launched.names.clear()
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        for thread, times, graphs_launched in (
            (one, 1, 0), (one, 1, 1), (other, STEPS, STEPS), (one, STEPS, 1), (other, STEPS, 1)
        ):  # fmt: skip
            before = launched.count("graph")
            thread.submit(step.recorded, numbers, 4, times).result()
            assert launched.count("graph") - before == graphs_launched, (times, graphs_launched)
            expected.recorded(numbers, 4, times)
            numbers = numbers.after(4, times)
    for found, other_found in zip(step.arrays(), expected.arrays(), strict=True):
        np.testing.assert_array_equal(found, other_found)


@pytest.mark.usefixtures("several")
def test_training_is_stopped_between_parts() -> None:
    """The part of the third epoch in which somebody says so is made to its end."""

    def run(backend: CupyBackend) -> Outcome:
        trainer, _ = make_trainer(backend)
        trainer.callbacks = []

        def rate(update: int) -> float:
            if update == 40:
                trainer.stop("enough")
            return 0.1

        trainer.optimizer.learning_rate = rate
        rows = trainer.upload(ROWS)
        trainer.fit(rows, 5, 4)
        assert (trainer.epoch, trainer.history.stopped) == (3, "enough")
        assert trainer.optimizer.steps == trainer.model.step == 2 * 18 + 17
        trainer.fit(rows, 2, 4)
        return Outcome(trainer)

    run(recorded()).is_that_of(run(eager()))


@pytest.mark.usefixtures("several")
def test_a_run_in_graphs_of_several_steps_diverges_in_the_same_epoch() -> None:
    def run(backend: CupyBackend) -> tuple[str, Any]:
        trainer, _ = make_trainer(backend)
        trainer.optimizer.learning_rate = 1e25
        with pytest.raises(TrainingDiverged) as raised:
            trainer.fit(ROWS, 9, 4)
        return str(raised.value), (trainer.epoch, trainer.model.step)

    assert run(recorded()) == run(eager())


# ---- the order of the next epoch -------------------------------------------------------------------------------------


def noted_orders(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The epochs whose order is made, among what is launched and ``"wait"`` where the device is waited for."""
    seen: list[Any] = []
    down = EmulatedCudaDevice.to_numpy

    def noted(n: int, seed: int, epoch: int) -> Any:
        seen.append(epoch)
        return permutation(n, seed, epoch)

    def to_numpy(self: EmulatedCudaDevice, x: Any) -> Any:
        seen.append("wait")
        return down(self, x)

    def launch(self: Graph) -> None:
        seen.append("graph")
        launch_it(self)

    launch_it = Graph.launch
    monkeypatch.setattr(feed_module, "permutation", noted)
    monkeypatch.setattr(EmulatedCudaDevice, "to_numpy", to_numpy)
    monkeypatch.setattr(Graph, "launch", launch)
    return seen


def test_the_next_order_is_made_after_the_launches_and_before_the_device_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer, _ = make_trainer(recorded())
    rows, seen = trainer.upload(ROWS), noted_orders(monkeypatch)
    trainer.fit(rows, 3, 16)
    assert seen[:1] == [1]
    assert seen[-7:] == [*["graph"] * 5, 4, "wait"]
    seen.clear()
    trainer.fit(rows, 1, 16)  # finds the fourth
    assert seen == [*["graph"] * 5, 5, "wait"]


def test_where_launches_are_not_queued_an_order_is_made_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EmulatedCudaDevice, "queues", False)
    trainer, _ = make_trainer(recorded())
    seen = noted_orders(monkeypatch)
    trainer.fit(ROWS, 3, 16)
    assert [epoch for epoch in seen if isinstance(epoch, int)] == [1, 2, 3]
    # The loss of such a device is looked at after each part.
    assert [what for what in seen[seen.index(3) :] if what != "wait"] == [3, *["graph"] * 5]
    assert seen[-2:] == ["wait", "wait"]


def stopped(trainer: Trainer, rows: Any) -> None:
    class Stop(Callback):
        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            trainer.stop("enough")

    trainer.fit(rows, 2, 4, callbacks=[Stop()])


def killed(trainer: Trainer, rows: Any) -> None:
    class Kill(Callback):
        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.fit(rows, 2, 4, callbacks=[Kill()])


def other_seed(trainer: Trainer, rows: Any) -> None:
    trainer.model.seed = 99


def in_order(trainer: Trainer, rows: Any) -> None:
    trainer.fit(rows, 2, 4, shuffle=False)


def other_epoch(trainer: Trainer, rows: Any) -> None:
    trainer.epoch = 7


def other_rows(trainer: Trainer, rows: Any) -> None:
    trainer.fit(MORE_ROWS, 1, 5)


@pytest.mark.usefixtures("several")
@pytest.mark.parametrize("between", [stopped, killed, other_seed, in_order, other_epoch, other_rows, None])
def test_an_order_that_was_prepared_for_another_epoch_is_not_used(
    between: Callable[[Trainer, Any], None] | None,
) -> None:
    def run(backend: CupyBackend) -> Outcome:
        trainer, _ = make_trainer(backend)
        rows = trainer.upload(ROWS)
        trainer.fit(rows, 3, 4)
        if between is not None:
            between(trainer, rows)
        trainer.fit(rows, 2, 4)
        return Outcome(trainer)

    class OnCall(EmulatedCudaDevice):
        queues = False

    run(recorded()).is_that_of(run(type(eager())(OnCall())))


def test_three_epochs_and_two_are_five() -> None:
    def run(*epochs: int) -> Outcome:
        trainer, _ = make_trainer(recorded())
        rows = trainer.upload(ROWS)
        for number in epochs:
            trainer.fit(rows, number, 4)
        return Outcome(trainer)

    run(3, 2).is_that_of(run(5))
