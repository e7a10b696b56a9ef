"""How many threads of the BLAS products take: the rule, whose number it is afterwards, and that no bit depends on what
the clock says. (The suite itself runs with one.)"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends import get_backend
from backends.cpu import threads as module
from backends.cpu.blas import numpy_blas
from backends.cpu.threads import (
    Pace,
    Paces,
    Product,
    Threads,
    beside,
    cut_for_one_thread,
    depends_on_threads,
    numpy_threads,
    rule,
)
from nn import SGD, Adam, Linear, Optimizer, Sequential, Sigmoid, Softmax, Trainer
from tests.helpers.backends import make_backend
from tests.helpers.blas import Library, train, two_threads, with_library

RNG = np.random.default_rng(0)
SMALL = 128 * 784 * 64


# ---- the rule --------------------------------------------------------------------------------------------------------


@given(m=st.integers(0, 10**4), n=st.integers(0, 10**4), k=st.integers(0, 10**4), most=st.integers(1, 64))
def test_the_rule_stays_between_one_and_what_is_allowed(m: int, n: int, k: int, most: int) -> None:
    size = m * n * k
    number = rule(size, most)
    assert 1 <= number <= most
    assert number == most or number <= max(1, size >> 20) < number + 1
    assert rule(size, most) <= rule(2 * size, most)
    if number > 1:
        assert depends_on_threads(m, n, k)


@pytest.mark.parametrize(("size", "most", "number"), [
    (32 * 784 * 64, 16, 1), (64 * 784 * 64, 16, 3), (SMALL, 16, 6), (SMALL, 2, 2), (SMALL, 1, 1), (2**21 - 1, 2, 1),
    (2**21, 2, 2), (256 * 784 * 512, 16, 16),
])  # fmt: skip
def test_a_thread_for_each_million_multiplications(size: int, most: int, number: int) -> None:
    assert rule(size, most) == number


# ---- the number belongs to the user ----------------------------------------------------------------------------------


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    """In place of NumPy's BLAS, whose number stays 1, for backends that are made in this test; its number is 16."""
    return with_library(monkeypatch, 16)


def drawn(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, dtype="f4")


def test_a_product_outside_a_recorded_step(library: Library) -> None:
    backend = get_backend("cpu")
    backend.matmul(drawn(128, 784), drawn(784, 64))
    assert library.set_to == [6, 16]
    library.set_to.clear()
    backend.matmul(drawn(784, 128), drawn(128, 64), beta=1.0, out=drawn(784, 64))
    backend.matmul(drawn(784, 128), drawn(784, 64), transpose_a=True, beta=0.5, out=drawn(128, 64))
    assert library.set_to == [6, 16] * 2
    library.set_to.clear()
    backend.matmul(drawn(100, 10), drawn(10, 100))
    backend.column_sum(drawn(100, 10))
    assert library.set_to == []
    with pytest.raises(ValueError, match=r"aligned|mismatch"):
        backend.matmul(drawn(128, 784), drawn(783, 64))
    assert library.number == 16


@pytest.mark.parametrize("allowed", [1, 2, 4])
def test_no_product_takes_more_than_the_user_allows(library: Library, allowed: int) -> None:
    library.number = allowed
    get_backend("cpu").matmul(drawn(128, 784), drawn(784, 64))
    train(get_backend("cpu"), [784, 64, 10], 128)
    assert library.number == allowed
    assert max(library.set_to) == allowed


def test_the_number_is_the_users_again_after_an_exception(library: Library) -> None:
    threads = Threads(library)  # type: ignore[arg-type]

    def fails() -> None:
        with threads.held() as most, threads.held() as again:
            assert most == again == 16
            threads.set(3)
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert (threads.number(), library.set_to) == (16, [3, 16])


def test_where_it_is_one_nobody_waits_and_nothing_is_set() -> None:
    library = Library(1)
    threads = Threads(library)  # type: ignore[arg-type]
    with threads.held() as first, ThreadPoolExecutor(1) as other:

        def hold() -> int:
            with threads.held() as most:
                return most

        assert (first, other.submit(hold).result(timeout=10)) == (1, 1)
    assert library.set_to == []


def test_threads_of_python_take_turns() -> None:
    """None sees what another one has set."""
    threads = Threads(Library(4))  # type: ignore[arg-type]
    seen: list[tuple[int, int]] = []
    begin = threading.Barrier(3)

    def work(number: int) -> None:
        begin.wait()
        for _ in range(20):
            with threads.held() as most:
                seen.append((most, threads.number()))
                threads.set(number)
                time.sleep(0.001)
                seen.append((4, 4) if threads.number() == number else (most, threads.number()))
            time.sleep(0.0005 * number)  # and asks for it while another one has it

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, [1, 2, 3]))
    assert seen == [(4, 4)] * 120
    assert threads.number() == 4


# ---- recorded steps --------------------------------------------------------------------------------------------------


def test_a_step_of_small_products_costs_nothing(library: Library) -> None:
    train(get_backend("cpu"), [64, 32, 10], 16, steps=40, epochs=3)
    assert library.set_to == [16] * 2  # after the first step of each of two sizes, which were noted


def made(monkeypatch: pytest.MonkeyPatch, alone: Callable[[int], bool]) -> list[bool]:
    """Let step number i of each count be made on one thread where ``alone(i)``; gives what was made so far."""
    steps: list[bool] = []

    class Told:
        waits = False

        def __init__(self) -> None:
            self.number = 0
            self.alone = alone(0)

        def took(self, seconds: float) -> None:
            assert seconds > 0.0
            steps.append(self.alone)
            self.number += 1
            self.alone = alone(self.number)

    monkeypatch.setattr("backends.cpu.recording.Paces", Told)
    return steps


def test_recorded_steps_set_the_number_where_it_changes(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """The products of the first layer take 6, those of the second 2 and those of the third 1, forward and back."""
    backend = get_backend("cpu")
    made(monkeypatch, lambda i: False)
    model = Sequential(Linear(784, 64), Sigmoid(), Linear(64, 300), Sigmoid(), Linear(300, 10), backend=backend)
    trainer = Trainer(model)
    rows = trainer.upload(model.dataset((drawn(9 * 128, 784), np.arange(9 * 128) % 10)))
    trainer.fit(rows, 1, 128)
    library.set_to.clear()
    trainer.fit(rows, 1, 128)
    assert re.fullmatch(r"(6 (2 1 2 6 )+16 )+", "".join(f"{number} " for number in library.set_to))
    assert library.set_to.count(1) == 9


def test_a_number_that_the_user_changes_counts_at_once(library: Library) -> None:
    backend = get_backend("cpu")
    model = Sequential(Linear(784, 64), Sigmoid(), Linear(64, 10), Softmax(), backend=backend)
    trainer = Trainer(model)
    rows = trainer.upload(model.dataset((drawn(256, 784), np.arange(256) % 10)))
    for allowed in (16, 3, 1, 16):
        library.number = allowed
        library.set_to.clear()
        trainer.fit(rows, 2, 128)
        assert library.number == allowed
        assert max(library.set_to) == min(allowed, 6) if allowed < 6 else 6 in library.set_to


@pytest.fixture
def two() -> Iterator[Threads]:
    """NumPy's own BLAS, and two threads of it."""
    with two_threads() as threads:
        yield threads


OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    "momentum": lambda: SGD(0.1, momentum=0.9, dampening=0.9),
    "plain": lambda: SGD(0.1),
    "Adam": lambda: Adam(0.01),
}


@pytest.mark.parametrize("device", ["cpu", "numba"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("in_halves", [True, False])
def test_what_the_clock_says_changes_no_bit(
    two: Threads, monkeypatch: pytest.MonkeyPatch, device: str, optimizer: str, dtype: str, in_halves: bool
) -> None:
    """784 rows of the inner dimension are cut otherwise by several threads, if they do not compute a half each."""
    if not in_halves:
        monkeypatch.setattr(numpy_blas(dtype), "halves", None)

    def trained(alone: Callable[[int], bool] | None = None, **how: Any) -> tuple[dict[str, np.ndarray], list[bool]]:
        steps = made(monkeypatch, alone) if alone is not None else []
        backend = make_backend((device, True), dtype)
        parameters = train(backend, [784, 64, 10], 128, OPTIMIZERS[optimizer](), **how)
        assert two.number() == 2
        return parameters, steps

    expected, by_two = trained(lambda i: False)
    if not by_two:
        pytest.skip("this BLAS cuts products otherwise on one thread, so the rule alone decides")
    by_one, turns = trained(lambda i: True), trained(lambda i: i % 2 == 0)
    assert not any(by_two)
    assert all(by_one[1])
    assert {*turns[1]} == {True, False}
    two.busy_until = perf_counter() + 1000.0
    eager_alone, _ = trained(eagerly=True)
    two.busy_until = 0.0
    for other in (by_one[0], turns[0], eager_alone, trained(eagerly=True)[0]):
        for name, values in expected.items():
            np.testing.assert_array_equal(other[name], values, err_msg=name)


def test_two_models_train_at_once_with_the_bits_they_have_alone(two: Threads) -> None:
    """Some of their products take one thread, and others two; the number is one for both."""

    def work(widths: list[int]) -> dict[str, np.ndarray]:
        return train(get_backend("cpu"), widths, 64, steps=4)

    networks = [[784, 64, 10], [784, 40, 30]]
    alone = [work(widths) for widths in networks]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(work, networks))
    for one, other in zip(alone, found, strict=True):
        for name, values in one.items():
            np.testing.assert_array_equal(other[name], values, err_msg=name)
    assert two.number() == 2


@settings(max_examples=15)
@given(
    shape=st.tuples(st.integers(40, 150), st.integers(40, 150), st.integers(100, 1100)),
    transposes=st.tuples(st.booleans(), st.booleans()),
    beta=st.sampled_from([0.0, 1.0, 0.9]),
)
def test_a_cut_gives_the_bits_of_two_threads(
    shape: tuple[int, int, int], transposes: tuple[bool, bool], beta: float
) -> None:
    """On other data than those on which it was found."""
    threads, blas = numpy_threads(), numpy_blas("float32")
    if threads is None or blas is None:
        pytest.skip("the number of threads of NumPy's BLAS cannot be changed")
    (m, n, k), (of_a, of_b) = shape, transposes
    before = threads.number()
    try:
        cut = cut_for_one_thread(threads, blas, Product(m, n, k, of_a, of_b, 1.0, beta), 2)
        if cut is None:
            return
        assert [sum(sizes) for sizes in cut] == [m, n, k]
        a, b = drawn(*((k, m) if of_a else (m, k))), drawn(*((n, k) if of_b else (k, n)))
        by_two = drawn(m, n)
        by_one = by_two.copy()
        threads.set(2)
        blas.gemm(1.0, a, of_a, b, of_b, beta, by_two)()
        threads.set(1)
        blas.gemm(1.0, a, of_a, b, of_b, beta, by_one, cut)()
        np.testing.assert_array_equal(by_one, by_two)
    finally:
        threads.set(before)


def test_where_the_functions_are_not_found_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = train(get_backend("cpu"), [784, 64, 10], 128)
    monkeypatch.setattr(module, "NAMES", ("no_such_{}",))
    numpy_threads.cache_clear()
    try:
        assert numpy_threads() is None
        found = train(get_backend("cpu"), [784, 64, 10], 128)
    finally:
        numpy_threads.cache_clear()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


# ---- several threads or one, by the clock ----------------------------------------------------------------------------


class Machine:
    """Makes steps as a pace says, and adds up how long they take."""

    def __init__(self, pace: Pace | Paces | None = None) -> None:
        self.pace = pace or Pace()
        self.seconds = 0.0
        self.alone = 0

    def run(
        self, steps: int, one: float, several: Callable[[int], float], more: Callable[[int], float] = lambda i: 0.0
    ) -> float:
        """How many times as long as on one thread they take, where some on one thread take ``more``."""
        began, self.alone = self.seconds, 0
        for i in range(steps):
            seconds = one + more(i) if self.pace.alone else several(i)
            self.alone += self.pace.alone
            self.pace.took(seconds)
            self.seconds += seconds
        return (self.seconds - began) / (steps * one)


@pytest.mark.parametrize("one", [50e-6, 400e-6, 6e-3])
def test_in_peace_steps_are_made_by_several(one: float) -> None:
    machine = Machine()
    assert machine.run(20_000, one, lambda i: 0.75 * one) < 0.77
    # What disturbs one step in a thousand would do so on one thread, too.
    machine.run(10, one, lambda i: 0.75 * one)
    machine.run(20_000, one, lambda i: 0.75 * one + (4e-3 if i % 1000 == 999 else 0.0))
    assert machine.alone < 2_000


@pytest.mark.parametrize("one", [50e-6, 400e-6, 6e-3])
@pytest.mark.parametrize("slower", [1.5, 5, 20, 100])
def test_where_several_wait_for_each_other_they_take_a_small_part_of_the_time(one: float, slower: float) -> None:
    machine = Machine()
    assert machine.run(int(1.0 / one), one, lambda i: slower * one) < (1.5 if slower * one < 0.3 else 2.0)
    assert machine.run(int(4.0 / one), one, lambda i: slower * one) < 1.25
    assert machine.pace.waits or slower < 5
    assert machine.run(int(20.0 / one), one, lambda i: 0.75 * one) < 1.0
    assert not machine.pace.waits


def test_what_several_have_gained_is_set_against_an_instant_without_a_core() -> None:
    """The host takes a core for 20 ms now and then, of which several threads lose all."""
    machine = Machine()
    machine.run(1_000, 7e-4, lambda i: 5e-4)
    assert machine.run(20_000, 7e-4, lambda i: 5e-4 + (20e-3 if i % 500 == 0 else 0.0)) < 0.8
    assert machine.alone < 500
    # Long ago they have gained much more, of which this much counts.
    machine.run(100_000, 7e-4, lambda i: 5e-4)
    before = machine.seconds
    machine.run(30, 7e-4, lambda i: 8e-3)
    assert machine.pace.waits
    assert machine.seconds - before < 0.1


def test_several_are_not_held_against_the_best_that_one_can_do() -> None:
    """Where steps on one thread are disturbed as well."""
    machine = Machine()
    machine.run(60_000, 6e-4, lambda i: 7e-4, more=lambda i: 6e-4 * (i % 3 == 0))  # 8e-4 each
    machine.run(60_000, 6e-4, lambda i: 7e-4, more=lambda i: 6e-4 * (i % 3 == 0))
    assert machine.alone < 6_000
    machine.run(60_000, 6e-4, lambda i: 9e-4, more=lambda i: 6e-4 * (i % 3 == 0))
    assert machine.alone > 30_000


def test_cores_that_stay_busy_for_hours() -> None:
    machine = Machine()
    assert machine.run(300_000, 0.05, lambda i: 0.46) < 1.25
    assert machine.pace.waits
    assert machine.run(2_000, 0.05, lambda i: 0.04) < 0.9


def test_cores_that_become_busy_while_it_runs() -> None:
    machine = Machine()
    machine.run(5_000, 4e-4, lambda i: 3e-4)
    assert machine.run(2_000, 8e-4, lambda i: 16e-3) < 1.25
    assert machine.run(50_000, 4e-4, lambda i: 3e-4) < 0.85
    machine.run(5_000, 16e-4, lambda i: 15e-4)
    # How long a step took on one thread then is no longer what counts.
    assert machine.run(50_000, 4e-4, lambda i: 12e-4) < 1.25


def in_bursts(pace: Pace | Paces) -> float:
    """How many times as long as on one thread steps take, the last third of each second of them beside others that keep
    several threads waiting."""
    machine = Machine(pace)
    for _ in range(30):
        machine.run(2_000, 330e-6, lambda i: 250e-6)
        with beside:
            machine.run(1_000, 330e-6, lambda i: 1e-3)
    return machine.seconds / (30 * 3_000 * 330e-6)


def test_bursts_of_reading_do_not_keep_steps_on_one_thread_between_them() -> None:
    alone_in_bursts = (2 * 250 + 330) / (3 * 330)
    assert in_bursts(Paces()) < 1.04 * alone_in_bursts
    assert in_bursts(Pace()) > 1.07 * alone_in_bursts
