"""Schedules: PyTorch's rates, written and read again, and what is refused."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn import SGD, Adam, Linear, Sequential, Softmax, Tanh, Trainer
from nn.optimizers import (
    Constant,
    CosineDecay,
    ExponentialDecay,
    LinearWarmup,
    OneCycle,
    RateSchedule,
    StepDecay,
    schedule_from_json,
    schedule_to_json,
)
from nn.optimizers.schedules import SCHEDULES
from tests.helpers.with_emulated import EMULATED, made
from tests.nn.optimizers.pytorch_schedules import PATH, Case, by_torch, cases, updates_of

STORED = json.loads(PATH.read_text())
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4))
LABELS = (X @ RNG.normal(size=(4, 3))).argmax(axis=1)


def rates(case: Case) -> list[float]:
    return [case[0](update) for update in range(1, updates_of(case) + 1)]


@pytest.mark.parametrize("case", cases(), ids=lambda case: repr(case[0]))
def test_the_rates_are_those_that_pytorch_has_given(case: Case) -> None:
    np.testing.assert_allclose(rates(case), STORED[repr(case[0])], 1e-12, 1e-16)


@pytest.mark.parametrize("case", cases(), ids=lambda case: repr(case[0]))
def test_and_those_that_it_gives_here(case: Case) -> None:
    pytest.importorskip("torch")
    np.testing.assert_allclose(rates(case), by_torch(case), 1e-12, 1e-16)


def test_every_schedule_is_among_them() -> None:
    ours = {name for name, kind in SCHEDULES.items() if kind.__module__.startswith("nn.")}
    assert {case[0].name for case in cases()} == ours
    assert ours == {"constant", "step", "exponential", "cosine", "warmup", "one_cycle"}


def test_values_that_can_be_worked_out_by_hand() -> None:
    assert [StepDecay(1.0, 2, 0.5)(n) for n in (1, 2, 3, 4, 5)] == [1.0, 1.0, 0.5, 0.5, 0.25]
    assert [ExponentialDecay(1.0, 0.25, 2)(n) for n in (1, 2, 3, 5)] == [1.0, 0.5, 0.25, 0.0625]
    np.testing.assert_allclose([CosineDecay(1.0, 4)(n) for n in (1, 3, 5, 99)], [1.0, 0.5, 0.0, 0.0], atol=1e-15)
    assert [LinearWarmup(Constant(1.0), 4)(n) for n in (1, 2, 3, 4, 5, 9)] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert [LinearWarmup(2.0, 2, 0.5)(n) for n in (1, 2, 3)] == [1.0, 1.5, 2.0]
    cycle = OneCycle(1.0, 10, 0.5, 4.0, 2.0, "linear")
    np.testing.assert_allclose([cycle(n) for n in (1, 3, 5, 10, 99)], [0.25, 0.625, 1.0, 0.125, 0.125])
    assert OneCycle(1.0, 10, warmup=0.0)(1) < 1.0  # it only falls
    assert OneCycle(1.0, 1)(1) > 0.0


positive = st.floats(1e-6, 10.0)
lengths = st.integers(1, 50)
SIMPLE = st.one_of(
    st.builds(Constant, positive),
    st.builds(StepDecay, positive, lengths, st.floats(0.01, 2.0)),
    st.builds(ExponentialDecay, positive, st.floats(0.5, 1.1), lengths),
    st.builds(CosineDecay, positive, lengths, st.floats(0.0, 1.0)),
    st.builds(
        OneCycle, positive, lengths, st.floats(0.0, 1.0), st.floats(1.0, 100.0), st.floats(1.0, 1e4),
        st.sampled_from(["cosine", "linear"]),
    ),
)  # fmt: skip
ANY = st.one_of(SIMPLE, st.builds(LinearWarmup, SIMPLE, lengths, st.floats(0.0, 1.0)))


@given(ANY, st.integers(1, 200))
def test_a_schedule_can_be_written_and_made_again(schedule: RateSchedule, update: int) -> None:
    written = json.loads(json.dumps(schedule_to_json(schedule)))
    for again in (
        eval(repr(schedule)), schedule_from_json(written), pickle.loads(pickle.dumps(schedule)), copy.deepcopy(schedule)
    ):  # fmt: skip
        assert again == schedule
        assert again(update) == schedule(update)
    rate = schedule(update)
    assert type(rate) is float
    assert 0.0 <= rate < np.inf


def test_one_of_ones_own_is_written_and_read_too() -> None:
    @dataclass(frozen=True)
    class Inverse(RateSchedule):
        name: ClassVar[str] = "inverse"

        rate: float

        def __call__(self, update: int) -> float:
            return self.rate / update

    try:
        warm = LinearWarmup(Inverse(0.5), 3)
        assert schedule_from_json(schedule_to_json(warm)) == warm
        assert (warm(4), warm(5)) == (0.5, 0.25)
    finally:
        del SCHEDULES["inverse"]


REFUSED: list[tuple[Any, tuple[Any, ...], str]] = [
    (Constant, (0.0,), "rate must be a number above 0, not 0.0"),
    (Constant, (True,), "rate must be a number above 0, not True"),
    (StepDecay, (0.1, 0), "every, in updates, must be a whole number of at least 1, not 0"),
    (StepDecay, (0.1, 2.5), "every, in updates, must be a whole number of at least 1, not 2.5"),
    (StepDecay, (0.1, 2, -1.0), "factor must be a number above 0, not -1.0"),
    (ExponentialDecay, (float("nan"), 0.5), "rate must be a number above 0, not nan"),
    (CosineDecay, ("0.1", 5), "rate must be a number above 0, not '0.1'"),
    (CosineDecay, (0.1, 5, -0.1), "least must be a number of at least 0, not -0.1"),
    (LinearWarmup, (0.0, 5), "then must be a schedule or a number above 0, not 0.0"),
    (LinearWarmup, (CosineDecay, 5), "then must be a schedule or a number above 0, not <class "),
    (OneCycle, (0.1, 5, 1.5), "warmup must be a part of the updates, at most 1, not 1.5"),
    (OneCycle, (0.1, 5, 0.3, 25.0, 1e4, "cos"), "anneal must be 'cosine' or 'linear', not 'cos'"),
]


@pytest.mark.parametrize(("make", "arguments", "complaint"), REFUSED)
def test_what_cannot_be_used_is_refused(make: Any, arguments: tuple[Any, ...], complaint: str) -> None:
    with pytest.raises(ValueError, match=make.__name__) as error:
        make(*arguments)
    assert str(error.value).startswith(f"{make.__name__}: {complaint}")


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ({"name": "cosin"}, r"^unknown schedule 'cosin' .did you mean cosine.*; known are constant, step, "),
        ({}, r"^unknown schedule None; known are constant, step, "),
        ({"name": "step", "evry": 2}, r"^schedule 'step' has the fields rate, every, factor, not evry$"),
        ({"name": "step", "rate": 1.0}, r"^schedule 'step' has the fields rate, every, factor, not rate$"),
        ({"name": "step", "rate": 1.0, "every": 0}, r"^StepDecay: every, in updates, must be a whole number "),
    ],
)
def test_what_cannot_be_read_is_refused(data: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        schedule_from_json(data)


def test_a_function_cannot_be_written() -> None:
    with pytest.raises(TypeError, match=r"^only a schedule of nn.optimizers.schedules can be written, not <function "):
        schedule_to_json(lambda update: 0.1)


@pytest.mark.parametrize("which", [("cpu", True), ("cpu", False), ("numba", True), EMULATED], ids=str)
def test_training_takes_the_rate_of_each_update(which: tuple[str, bool]) -> None:
    """Recorded steps, several of them in a launch, as a loop of one's own with a new rate for each step."""
    schedule = LinearWarmup(CosineDecay(0.2, 20), 5, 0.1)

    def trainer(optimizer: Any) -> Trainer:
        layers = [Linear(4, 8), Tanh(), Linear(8, 3), Softmax()]
        return Trainer(Sequential(layers, backend=made(which, "float64"), seed=1), optimizer=optimizer)

    of_schedule, by_hand = trainer(SGD(schedule, momentum=0.9)), trainer(SGD(1.0, momentum=0.9))
    of_schedule.fit((X, LABELS), 5, 8, shuffle=False)
    model = by_hand.model
    for update in range(1, 26):
        rows = slice((update - 1) % 5 * 8, (update - 1) % 5 * 8 + 8)
        for name, gradient in by_hand.gradients((X[rows], LABELS[rows])).items():
            model.store.gradients[name][...] = model.backend.asarray(gradient)
        by_hand.optimizer.learning_rate = schedule(update)
        by_hand.optimizer.step(model)
    for name, values in of_schedule.model.state_dict().items():
        np.testing.assert_allclose(values, model.state_dict()[name], 1e-9, 1e-11)


def test_two_calls_of_fit_go_on_where_one_would_be() -> None:
    models = []
    for epochs in ([4], [3, 1]):
        layers = [Linear(4, 8), Tanh(), Linear(8, 3), Softmax()]
        trainer = Trainer(Sequential(layers, backend="cpu", seed=1), optimizer=Adam(OneCycle(0.1, 20)))
        for count in epochs:
            trainer.fit((X, LABELS), count, 8)
        models.append(trainer.model.state_dict())
    for name, values in models[0].items():
        np.testing.assert_array_equal(values, models[1][name])
