"""The table of optimizer rules: what its entries compute, and that one more is one entry, wherever it is made."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from backends import Backend
from backends.check import check, parts
from backends.step import StepNumbers
from backends.updates import BUILT_IN, RULES, Rule, get_rule, register_rule
from tests.helpers.emulated_cuda import launched
from tests.helpers.with_emulated import EMULATED, WITH_EMULATED, made

N = 7


@pytest.fixture(params=WITH_EMULATED)
def which(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_settings_that_are_not_given_are_the_defaults_of_the_rule(which: Any) -> None:
    """Also those of a rule whose state is there: a velocity without a momentum is the gradient."""
    backend = made(which, "float64")
    with backend.use():
        params, gradient, velocity = (backend.asarray(np.array([value] * 3)) for value in (1.0, 2.0, 8.0))
        backend.update("sgd", params, gradient, {"velocity": velocity}, learning_rate=0.25)
        np.testing.assert_array_equal(backend.to_numpy(params), [0.5] * 3)
        np.testing.assert_array_equal(backend.to_numpy(velocity), [2.0] * 3)


@pytest.fixture
def table() -> Iterator[None]:
    """What a test registers is forgotten afterwards."""
    before = dict(RULES)
    yield
    RULES.clear()
    RULES.update(before)


class Run:
    """Parameters, and a state of zeros, of one rule with some settings on one backend."""

    def __init__(self, backend: Backend, rule: str, start: Any, **settings: Any) -> None:
        self.backend, self.rule, self.settings = backend, rule, settings
        of_rule = {name: value for name, value in settings.items() if name in get_rule(rule).settings}
        self.params = backend.asarray(np.array(start))
        self.state = {name: backend.zeros(start.shape) for name in get_rule(rule).state_names(of_rule)}
        self.number = 0

    def step(self, gradient: Any, rate: float, on_device: bool = False) -> None:
        self.number += 1
        backend, learning_rate, number = self.backend, rate, self.number
        given = backend.asarray(np.array(gradient))
        if on_device:
            learning_rate, number = backend.asarray([rate]), backend.asarray(np.array([number]))
        kept = dict(self.state)
        result = backend.update(
            self.rule, self.params, given, self.state, learning_rate=learning_rate, number=number, **self.settings
        )
        assert np.array_equal(backend.to_numpy(result), backend.to_numpy(self.params))
        assert all(self.state[name] is x for name, x in kept.items())
        assert self.state.keys() == kept.keys()

    def assert_close(self, params: Any, **state: Any) -> None:
        tolerance = 1e-12 if self.backend.dtype_name == "float64" else 1e-5
        assert state.keys() == self.state.keys()
        for found, value in ((self.params, params), *((self.state[name], state[name]) for name in state)):
            host = self.backend.to_numpy(found)
            assert host.dtype == self.backend.dtype_name
            np.testing.assert_allclose(host, value, rtol=tolerance, atol=tolerance)


def numbers(seed: int, dtype: str, count: int = 5) -> list[Any]:
    """A start and gradients, in float64, that the dtype has."""
    return list(np.random.default_rng(seed).normal(size=(count, N)).astype(dtype).astype(np.float64))


# ---- the rules that are built in, as loops over Python numbers -------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("on_device", [False, True])
def test_sgd_is_the_plain_loop(which: tuple[str, bool], dtype: str, on_device: bool) -> None:
    backend, rate = made(which, dtype), 0.125
    start, *gradients = numbers(11, dtype)
    with backend.use():
        for momentum, dampening, nesterov, decay, n_decayed in itertools.product(
            (0.0, 0.9), (0.0, 0.9), (False, True), (0.0, 0.01), (0, 1, 3, N)
        ):
            settings = {"momentum": momentum, "dampening": dampening, "nesterov": nesterov}
            run = Run(backend, "sgd", start, **settings, weight_decay=decay, n_decayed=n_decayed)
            p, v = start.tolist(), [0.0] * N
            for g in gradients:
                run.step(g, rate, on_device)
                for i in range(N):
                    direction = g[i]
                    if momentum:
                        v[i] = momentum * v[i] + (1 - dampening) * g[i]
                        direction = (1 - dampening) * g[i] + momentum * v[i] if nesterov else v[i]
                    p[i] -= rate * (direction + (decay * p[i] if i < n_decayed else 0))
                run.assert_close(p, **({"velocity": v} if momentum else {}))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("on_device", [False, True])
def test_adam_is_the_plain_loop(which: tuple[str, bool], dtype: str, on_device: bool) -> None:
    backend, rate, epsilon = made(which, dtype), 0.125, 1e-8
    start, *gradients = numbers(12, dtype)
    with backend.use():
        for beta1, beta2, decay, n_decayed in itertools.product((0.0, 0.9), (0.0, 0.999), (0.0, 0.01), (0, 1, 3, N)):
            settings = {"beta1": beta1, "beta2": beta2, "epsilon": epsilon}
            run = Run(backend, "adam", start, **settings, weight_decay=decay, n_decayed=n_decayed)
            p, mean, square = start.copy(), np.zeros(N), np.zeros(N)
            for t, g in enumerate(gradients, 1):
                run.step(g, rate, on_device)
                for i in range(N):
                    mean[i] = beta1 * mean[i] + (1 - beta1) * g[i]
                    square[i] = beta2 * square[i] + (1 - beta2) * g[i] ** 2
                    direction = mean[i] / (1 - beta1**t) / (math.sqrt(square[i] / (1 - beta2**t)) + epsilon)
                    p[i] -= rate * (direction + (decay * p[i] if i < n_decayed else 0))
                run.assert_close(p, mean=mean, square=square)


def test_the_defaults_of_the_table_are_those_of_every_backend(which: tuple[str, bool]) -> None:
    backend = made(which, "float64")
    start, *gradients = numbers(13, "float64")
    with backend.use():
        for rule in RULES:
            by_default = Run(backend, rule, start)
            by_name = Run(backend, rule, start, **RULES[rule].settings)
            for g in gradients:
                by_default.step(g, 0.1)
                by_name.step(g, 0.1)
            assert np.array_equal(backend.to_numpy(by_default.params), backend.to_numpy(by_name.params))


def test_updates_of_nothing(which: tuple[str, bool]) -> None:
    backend = made(which, "float32")
    with backend.use():
        for rule, settings in (("sgd", {}), ("sgd", {"momentum": 0.9}), ("adam", {})):
            run = Run(backend, rule, np.zeros(0), **settings)
            run.step(np.zeros(0), 0.1)
            assert backend.to_numpy(run.params).shape == (0,)


# ---- a rule in one place: RMSProp once more --------------------------------------------------------------------------


def rmsprop_direction(
    xp: Any, gradient: Any, state: Any, number: Any, *, alpha: float, epsilon: float, momentum: float
) -> tuple[Any, dict[str, Any]]:
    """Tieleman and Hinton, "Lecture 6.5: RMSProp", 2012."""
    square = alpha * state["square"] + (1.0 - alpha) * (gradient * gradient)
    direction = gradient / (xp.sqrt(square) + epsilon)
    if "velocity" not in state:
        return direction, {"square": square}
    velocity = momentum * state["velocity"] + direction
    return velocity, {"square": square, "velocity": velocity}


RMSPROP = Rule(
    name="rms",
    direction=rmsprop_direction,
    state=("square", "velocity"),
    settings={"alpha": 0.99, "epsilon": 1e-8, "momentum": 0.0},
    optional={"velocity": "momentum"},
    cuda="""
        square = REAL(alpha) * square + REAL(1 - alpha) * (gradient * gradient);
        velocity = REAL(momentum) * velocity + gradient / (sqrt(square) + REAL(epsilon));
        direction = velocity;
    """,
)
PLAIN_RMSPROP = dataclasses.replace(RMSPROP, cuda="")


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("entry", [RMSPROP, PLAIN_RMSPROP], ids=["with CUDA text", "formula only"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_rmsprop_is_one_entry(which: tuple[str, bool], entry: Rule, momentum: float) -> None:
    """Twenty updates in float64, equal to PyTorch's."""
    torch = pytest.importorskip("torch")
    register_rule(entry)
    start, *gradients = numbers(14, "float64", 21)
    there = torch.tensor(start, requires_grad=True)
    optimizer = torch.optim.RMSprop([there], lr=0.01, alpha=0.99, eps=1e-8, momentum=momentum)
    backend = made(which, "float64")
    with backend.use():
        run = Run(backend, "rms", start, **({"momentum": momentum} if momentum else {}))
        assert list(run.state) == (["square", "velocity"] if momentum else ["square"])
        for count, g in enumerate(gradients):
            there.grad = torch.tensor(g)
            optimizer.step()
            run.step(g, 0.01, on_device=count % 2 == 0)
            np.testing.assert_allclose(backend.to_numpy(run.params), there.detach().numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("entry", [RMSPROP, PLAIN_RMSPROP], ids=["with CUDA text", "formula only"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_check_tries_a_rule_that_was_registered(which: tuple[str, bool], entry: Rule, dtype: str) -> None:
    backend = made(which, dtype)
    every = 3 if which in (("cpu", True), EMULATED) else 12  # the others have the formula alone, and no text of it
    register_rule(entry)
    (result,) = check(backend, operations=[f"update {entry.name}"], every=every)
    assert result.first_wrong == ""
    assert result.cases >= 90 // every
    assert f"update {entry.name}" in parts()


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("fault", ["direction", "state"])
def test_the_check_finds_a_wrong_cuda_text(fault: str) -> None:
    wrong = {"direction": ("+ REAL(epsilon)", "+ REAL(2 * epsilon)"), "state": ("REAL(alpha) * square", "square")}
    register_rule(dataclasses.replace(RMSPROP, cuda=RMSPROP.cuda.replace(*wrong[fault])))
    (result,) = check(made(EMULATED, "float64"), operations=["update rms"])
    assert "rms" in result.first_wrong


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("entry", [RMSPROP, PLAIN_RMSPROP], ids=["with CUDA text", "formula only"])
def test_on_a_gpu_it_is_one_launch_and_without_cuda_text_it_is_not_captured(entry: Rule) -> None:
    backend = made(EMULATED, "float64")
    register_rule(entry)
    start, *gradients = numbers(15, "float64")
    run, eager = (Run(backend, "rms", start) for _ in range(2))
    gradient = backend.empty((N,))

    def step(numbers: StepNumbers, count: int) -> None:
        options: dict[str, Any] = {"learning_rate": numbers.learning_rate, "number": numbers.update}
        backend.update("rms", run.params, gradient, run.state, **options)

    recorded = backend.record(step)
    with backend.use():
        for number, g in enumerate(gradients):
            gradient[...] = g
            launched.names.clear()
            recorded(StepNumbers(0, number, number + 1, 0.01), 1)
            if number == 0 and entry.cuda:
                first, name, last = launched.names
                assert (first, last) == ("set_numbers", "advance_numbers")
                assert name.startswith("update_rms")  # other texts of that name may have been compiled before
            assert ("graph" in launched.names) == (number > 0 and entry.cuda != "")
            eager.step(g, 0.01)
            assert np.array_equal(backend.to_numpy(run.params), backend.to_numpy(eager.params))
    assert backend.why_eager.startswith("" if entry.cuda else "the step allocates memory")
    assert (backend.why_eager == "") == (entry.cuda != "")


@pytest.mark.usefixtures("table")
def test_a_rule_that_is_registered_again_is_seen(which: tuple[str, bool]) -> None:
    backend = made(which, "float64")
    kernels: list[Any] = []
    for factor in (2.0, 3.0, 2.0):

        def direction(xp: Any, gradient: Any, state: Any, number: Any, factor: float = factor) -> Any:
            return factor * gradient, {}

        register_rule(Rule("times", direction, cuda=f"direction = REAL({factor}) * gradient;"))
        with backend.use():
            run = Run(backend, "times", np.ones(N))
            launched.names.clear()
            run.step(np.ones(N), 0.5)
            run.assert_close(np.full(N, 1 - factor / 2))
            kernels.append(next((name for name in launched.names if name.startswith("update_times")), factor))
    assert kernels[0] == kernels[2] != kernels[1]  # what was compiled before is not compiled again


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_what_may_be_registered() -> None:
    for name in BUILT_IN:
        with pytest.raises(ValueError, match=rf"^rule '{name}' is built in; register yours under another name$"):
            register_rule(dataclasses.replace(RMSPROP, name=name))
    for fields in ({"name": "r m s"}, {"state": ("a-b",)}, {"settings": {"1": 0.0}}):
        with pytest.raises(ValueError, match=r"^the names of a rule must be letters, digits and underscores, not "):
            register_rule(dataclasses.replace(RMSPROP, **fields))
    assert "rms" not in RULES


def test_wrong_arguments(which: tuple[str, bool]) -> None:
    backend = made(which, "float32")
    with backend.use():
        p, g, v = (backend.zeros((N,)) for _ in range(3))
        with pytest.raises(ValueError, match=r"^unknown rule 'lion'; known are sgd, adam, rmsprop, adagrad$"):
            backend.update("lion", p, g, {}, learning_rate=0.1)
        with pytest.raises(ValueError, match=r"^update: rule 'sgd' with these settings keeps velocity: pass "):
            backend.update("sgd", p, g, {}, learning_rate=0.1, momentum=0.9)
        with pytest.raises(ValueError, match=r"^update: rule 'adam' with these settings keeps square: pass "):
            backend.update("adam", p, g, {"mean": v}, learning_rate=0.1)
        for rule, state in (("sgd", {"velocity": v}), ("adam", {"mean": v, "square": v})):
            with pytest.raises(TypeError, match="momentun"):
                backend.update(rule, p, g, state, learning_rate=0.1, momentun=0.9)


def test_every_rule_takes_its_settings_by_name() -> None:
    for rule in RULES.values():
        parameters = inspect.signature(rule.direction).parameters.values()
        assert {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} == rule.settings.keys()
        assert rule.optional.keys() <= set(rule.state)
        assert set(rule.optional.values()) <= rule.settings.keys()


@pytest.mark.parametrize("rate", [0.1, 0.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_step_without_state_leaves_its_direction(which: tuple[str, bool], dtype: str, rate: float) -> None:
    """The plan hands a velocity in for it, to which a product has added the gradient."""
    backend = made(which, dtype)
    start, gradient = numbers(1, dtype, 2)
    with backend.use():
        params, direction = backend.asarray(start.copy()), backend.asarray(gradient.copy())
        for decay in (0.0, 0.1):
            backend.update("sgd", params, direction, {}, learning_rate=rate, weight_decay=decay, n_decayed=3)
        np.testing.assert_array_equal(backend.to_numpy(direction), gradient)


def test_a_setting_that_a_rule_lacks_is_told_with_those_that_it_has() -> None:
    with pytest.raises(TypeError, match=r"rule 'sgd' has no setting beta; it has momentum, dampening, nesterov$"):
        get_rule("sgd").with_defaults({"beta": 0.9})
    with pytest.raises(TypeError, match=r"rule 'plain' has no setting a, b; it has none$"):
        Rule("plain", lambda xp, gradient, state, number: (gradient, {})).with_defaults({"b": 1, "a": 2})
