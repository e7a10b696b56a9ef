"""The rules are PyTorch's: twenty updates in float64, on every backend, against constants that PyTorch has computed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from backends import Backend
from nn.optimizers import OPTIMIZERS, SGD, Adagrad, Adam, AdamW, RMSProp
from tests.helpers.with_emulated import WITH_EMULATED, made
from tests.nn.optimizers.pytorch_rules import N_WEIGHTS, PATH, Rule, by_torch, rules

STORED = json.loads(PATH.read_text())
START, GRADIENTS = np.array(STORED["start"]), np.array(STORED["gradients"])


def updates(rule: Rule, backend: Backend) -> Any:
    """The parameters after each update, by xpnet."""
    after = []
    optimizer = rule.make(**rule.settings)
    with backend.use():
        params, gradient = backend.asarray(START.copy()), backend.empty(START.shape)
        state = optimizer.new_state(backend, START.shape)
        update = optimizer.update_of(backend, params, gradient, state, n_decayed=N_WEIGHTS)
        for number, values in enumerate(GRADIENTS, 1):
            gradient[...] = backend.asarray(values)
            update(number=number, learning_rate=optimizer.rate(number))
            after.append(backend.to_numpy(params).copy())
    return np.array(after)


@pytest.mark.parametrize("which", WITH_EMULATED)
def test_twenty_updates_are_those_that_pytorch_has_made(which: tuple[str, bool]) -> None:
    backend = made(which, "float64")
    assert len(STORED["after"]) == len(rules())
    for rule in rules():
        expected = np.array(STORED["after"][rule.name])
        np.testing.assert_allclose(updates(rule, backend)[[0, 1, -1]], expected, 1e-12, 1e-12, err_msg=rule.name)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.name)
def test_and_those_that_it_makes_here(rule: Rule) -> None:
    pytest.importorskip("torch")
    expected = by_torch(rule, START, GRADIENTS)
    np.testing.assert_allclose(updates(rule, made(("cpu", True), "float64")), expected, 1e-12, 1e-12)
    np.testing.assert_allclose(STORED["after"][rule.name], expected[[0, 1, -1]], 1e-13, 1e-13)


def test_every_optimizer_is_among_them() -> None:
    ours = {name for name, kind in OPTIMIZERS.items() if kind.__module__.startswith("nn.")}
    assert {rule.make.name for rule in rules()} == ours == {"sgd", "rmsprop", "adam", "adamw", "adagrad"}


def test_the_defaults_are_those_of_pytorch() -> None:
    """But for the rate of SGD, which PyTorch does not always have."""
    torch = pytest.importorskip("torch")
    names = {"learning_rate": "lr", "epsilon": "eps"}
    for ours, theirs in (SGD, "SGD"), (RMSProp, "RMSprop"), (Adam, "Adam"), (AdamW, "AdamW"), (Adagrad, "Adagrad"):
        defaults = getattr(torch.optim, theirs)([torch.zeros(1, requires_grad=True)]).defaults
        shared = {name: value for name, value in ours().settings().items() if names.get(name, name) in defaults}
        assert len(shared) >= 3
        for name, value in shared.items():
            if (theirs, name) != ("SGD", "learning_rate"):
                assert value == defaults[names.get(name, name)], (theirs, name)
        if "betas" in defaults:
            assert defaults["betas"] == (Adam().beta1, Adam().beta2)
