"""The settings of optimizers: what is refused, from the beginning and later; and a change takes effect."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from nn import SGD, Adagrad, Adam, AdamW, Callback, Linear, Optimizer, RMSProp, Sequential, Softmax, Tanh, Trainer
from nn.optimizers import OPTIMIZERS, get_optimizer
from tests.helpers.with_emulated import EMULATED, made

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4))
LABELS = (X @ RNG.normal(size=(4, 3))).argmax(axis=1)
OURS = [kind for kind in OPTIMIZERS.values() if kind.__module__.startswith("nn.")]

REFUSED: list[tuple[type[Optimizer], str, Any, str]] = [
    (SGD, "learning_rate", "0.1", "must be above 0, or a function of the update's number, not '0.1'"),
    (SGD, "learning_rate", 0.0, "must be above 0, or a function of the update's number, not 0.0"),
    (SGD, "learning_rate", float("nan"), "must be above 0, or a function of the update's number, not nan"),
    (SGD, "learning_rate", True, "must be above 0, or a function of the update's number, not True"),
    (SGD, "learning_rate", None, "must be above 0, or a function of the update's number, not None"),
    (SGD, "learning_rate", [0.1], "must be above 0, or a function of the update's number, not [0.1]"),
    (SGD, "momentum", 2, "must be at least 0 and below 1, not 2"),
    (SGD, "momentum", "0.9", "must be at least 0 and below 1, not '0.9'"),
    (SGD, "momentum", np.array([0.5, 0.6]), "must be at least 0 and below 1, not array([0.5, 0.6])"),
    (SGD, "dampening", -0.1, "must be at least 0 and below 1, not -0.1"),
    (SGD, "nesterov", "no", "must be True or False, not 'no'"),
    (SGD, "weight_decay", -1.0, "must be at least 0, not -1.0"),
    (SGD, "weight_decay", float("inf"), "must be at least 0, not inf"),
    (SGD, "decoupled", 1, "must be True or False, not 1"),
    (Adam, "l1", -1e-3, "must be at least 0, not -0.001"),
    (Adam, "beta1", 1.0, "must be at least 0 and below 1, not 1.0"),
    (Adam, "beta2", -1.0, "must be at least 0 and below 1, not -1.0"),
    (AdamW, "epsilon", -1.0, "must be at least 0, not -1.0"),
    (RMSProp, "alpha", 1.0, "must be at least 0 and below 1, not 1.0"),
    (RMSProp, "momentum", 1.0, "must be at least 0 and below 1, not 1.0"),
    (RMSProp, "centered", "yes", "must be True or False, not 'yes'"),
    (RMSProp, "epsilon_inside", 0.0, "must be True or False, not 0.0"),
    (Adagrad, "lr_decay", -1.0, "must be at least 0, not -1.0"),
    (Adagrad, "initial_accumulator_value", -0.1, "must be at least 0, not -0.1"),
    (Adagrad, "epsilon", None, "must be at least 0, not None"),
]


@pytest.mark.parametrize(("make", "name", "value", "complaint"), REFUSED)
def test_a_wrong_value_is_refused_with_one_sentence_from_the_beginning_and_later(
    make: type[Optimizer], name: str, value: Any, complaint: str
) -> None:
    with pytest.raises(ValueError, match=name) as first:
        make(**{name: value})
    optimizer = make()
    with pytest.raises(ValueError, match=name) as later:
        setattr(optimizer, name, value)
    assert str(first.value) == str(later.value) == f"{make.__name__}: {name} {complaint}"
    assert optimizer == make()  # it is as it was


def test_nesterov_and_its_momentum_are_looked_at_together() -> None:
    optimizer = SGD()
    with pytest.raises(ValueError, match=r"^SGD: nesterov needs a momentum above 0$"):
        optimizer.nesterov = True
    optimizer.momentum = 0.5
    optimizer.nesterov = True
    with pytest.raises(ValueError, match=r"^SGD: nesterov needs a momentum above 0$"):
        optimizer.momentum = 0.0
    assert (optimizer.momentum, optimizer.nesterov) == (0.5, True)


@pytest.mark.parametrize("make", OURS)
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("lr", "did you mean learning_rate?"),
        ("learnig_rate", "did you mean learning_rate?"),
        ("wieght_decay", "did you mean weight_decay?"),
        ("l2", "did you mean weight_decay?"),
        ("zzz", "it has learning_rate, "),
    ],
)
def test_what_is_no_setting_cannot_be_set(make: type[Optimizer], name: str, hint: str) -> None:
    optimizer = make()
    with pytest.raises(AttributeError) as error:
        setattr(optimizer, name, 0.1)
    assert str(error.value).startswith(f"{make.__name__} has no setting {name!r}; {hint}")
    assert not hasattr(optimizer, name)
    with pytest.raises(TypeError) as error_of_name:
        get_optimizer(make.name, **{name: 0.1})
    assert str(error_of_name.value) == str(error.value)


@pytest.mark.parametrize("name", ["rule", "name", "rate", "fixed"])
def test_what_an_optimizer_is_cannot_be_set(name: str) -> None:
    with pytest.raises(AttributeError, match=rf"^SGD has no setting '{name}'; "):
        setattr(SGD(), name, "adam")


def test_a_penalty_that_an_optimizer_of_ones_own_does_not_have_is_refused() -> None:
    @dataclass
    class Plain(Optimizer):
        rule: ClassVar[str] = "adagrad"
        name: ClassVar[str] = "plain"

        learning_rate: Any = 0.1
        epsilon: float = 1e-10
        epsilon_inside: bool = False

        counted: ClassVar[int] = 0

        def __post_init__(self) -> None:
            """Nothing is checked here."""

    try:
        optimizer = trainer_of(Plain()).optimizer
        with pytest.raises(
            AttributeError, match=r"^Plain has no setting 'l1'; it has learning_rate, epsilon, epsilon_inside$"
        ):
            optimizer.l1 = 0.1
        optimizer.counted = 3  # type: ignore[attr-defined]
        assert Plain.counted == 0
    finally:
        del OPTIMIZERS["plain"]


def test_a_class_is_no_schedule() -> None:
    with pytest.raises(ValueError, match=r"not <class .*Halving'>; write Halving\(\.\.\.\)$"):
        SGD(Halving)


class Halving:
    def __call__(self, update: int) -> float:
        return 0.5**update


@pytest.mark.parametrize("make", OURS)
def test_copies_and_pickles_are_equal_and_as_careful(make: Any) -> None:
    optimizer = make(0.25, weight_decay=0.125, l1=0.5)
    other: Any
    for other in (copy.copy(optimizer), copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert other == optimizer
        with pytest.raises(AttributeError, match="learning_rate"):
            other.lr = 1.0
        with pytest.raises(ValueError, match="learning_rate must be above 0"):
            other.learning_rate = -1.0


# ---- a change takes effect -------------------------------------------------------------------------------------------


def trainer_of(optimizer: Optimizer, which: Any = ("cpu", True)) -> Trainer:
    layers = [Linear(4, 8), Tanh(), Linear(8, 3), Softmax()]
    return Trainer(Sequential(layers, backend=made(which, "float64"), seed=1), optimizer=optimizer)


CHANGES: list[tuple[Optimizer, dict[str, Any]]] = [
    (SGD(0.1), {"momentum": 0.9}),
    (SGD(0.1, momentum=0.9), {"momentum": 0.0}),
    (SGD(0.1, momentum=0.9), {"momentum": 0.5, "nesterov": True}),
    (SGD(0.1, momentum=0.9), {"dampening": 0.5}),
    (SGD(0.1), {"weight_decay": 0.1}),
    (SGD(0.1, momentum=0.9, weight_decay=0.1), {"decoupled": False}),
    (SGD(0.1, momentum=0.9), {"l1": 0.01}),
    (RMSProp(0.01), {"momentum": 0.9}),
    (RMSProp(0.01), {"centered": True}),
    (RMSProp(0.01), {"alpha": 0.5, "epsilon": 1e-3, "epsilon_inside": True}),
    (Adam(0.01), {"beta1": 0.5}),
    (AdamW(0.01), {"weight_decay": 0.5}),
    (Adagrad(0.1), {"lr_decay": 0.5}),
    (Adagrad(0.1), {"learning_rate": 0.5}),
]


def by_hand(optimizer: Optimizer, changes: dict[str, Any], epochs: tuple[int, int]) -> dict[str, Any]:
    """All rows at once, a loop of one's own."""
    trainer = trainer_of(optimizer)
    model = trainer.model
    for epoch in range(sum(epochs)):
        if epoch == epochs[0]:
            for name, value in changes.items():
                setattr(optimizer, name, value)
        for name, gradient in trainer.gradients((X, LABELS)).items():
            model.store.gradients[name][...] = gradient
        optimizer.step(model)
    return model.state_dict()


@pytest.mark.parametrize("which", [("cpu", True), ("cpu", False), EMULATED], ids=str)
@pytest.mark.parametrize("case", CHANGES, ids=str)
@pytest.mark.parametrize("where", ["between two fits", "at the end of an epoch", "at the beginning of an epoch"])
def test_a_setting_that_is_changed_between_epochs_takes_effect(
    which: tuple[str, bool], case: tuple[Optimizer, dict[str, Any]], where: str
) -> None:
    optimizer, changes = case
    expected = by_hand(copy.deepcopy(optimizer), changes, (3, 3))
    assert any(not np.allclose(expected[k], v) for k, v in by_hand(copy.deepcopy(optimizer), {}, (3, 3)).items())
    optimizer = copy.deepcopy(optimizer)
    trainer = trainer_of(optimizer, which)

    def change() -> None:
        for name, value in changes.items():
            setattr(optimizer, name, value)

    class Changing(Callback):
        def on_epoch_begin(self, trainer: Any, epoch: int) -> None:
            if epoch == 4 and "beginning" in where:
                change()

        def on_epoch_end(self, trainer: Any, record: Any) -> None:
            if record["epoch"] == 3 and "end" in where:
                change()

    if where == "between two fits":
        trainer.fit((X, LABELS), 3, None)
        change()
        trainer.fit((X, LABELS), 3, None)
    else:
        trainer.fit((X, LABELS), 6, None, callbacks=[Changing()])
    for name, values in trainer.model.state_dict().items():
        np.testing.assert_allclose(values, expected[name], 1e-9, 1e-11, err_msg=f"{optimizer} {name}")


def test_what_counts_at_the_beginning_only_cannot_be_changed_later() -> None:
    optimizer = Adagrad()
    optimizer.initial_accumulator_value = 0.5
    trainer = trainer_of(optimizer)
    optimizer.initial_accumulator_value = 0.5
    with pytest.raises(ValueError, match=r"^Adagrad: initial_accumulator_value counts at the beginning only, "):
        optimizer.initial_accumulator_value = 0.25
    np.testing.assert_array_equal(trainer.optimizer.state["squares"], 0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"learning_rate": float("inf")}, "learning_rate must be above 0, .*, not inf"),
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1, not 1.0"),
        ({"dampening": -0.1}, "dampening must be at least 0 and below 1"),
        ({"dampening": 1.0}, "dampening"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0, not -1.0"),
        ({"weight_decay": float("inf")}, "weight_decay"),
        ({"nesterov": True}, "nesterov needs a momentum"),
        ({"learning_rate": "0.1"}, "learning_rate must be above 0, or a function of the update's number, not '0.1'"),
        ({"learning_rate": None}, "learning_rate must be above 0, .*, not None"),
        ({"momentum": "high"}, "momentum must be at least 0 and below 1, not 'high'"),
    ],
)
def test_settings_of_sgd_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"SGD: {message}"):
        SGD(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": -0.1}, "learning_rate must be above 0"),
        ({"beta1": 1.0}, "beta1 must be at least 0 and below 1"),
        ({"beta2": 1.0}, "beta2 must be at least 0 and below 1"),
        ({"beta1": -0.1}, "beta1"),
        ({"beta2": -0.1}, "beta2"),
        ({"epsilon": -1e-9}, "epsilon must be at least 0, not -1e-09"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
    ],
)
def test_settings_of_adam_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"Adam: {message}"):
        Adam(**settings)


def test_settings_at_the_ends_of_their_ranges_are_taken() -> None:
    SGD(1e-300, momentum=0.0, dampening=0.0, weight_decay=0.0)
    SGD(1e300, momentum=0.5, dampening=0.0, nesterov=True)
    SGD(0.1, weight_decay=2.0)  # no fraction
    Adam(beta1=0.0, beta2=0.0, epsilon=0.0)
    Adam(epsilon=3.0, weight_decay=3.0)


def test_optimizers_begin_with_the_usual_settings() -> None:
    decay = {"decoupled": True, "l1": 0.0}
    plain = {"momentum": 0.0, "dampening": 0.0, "nesterov": False, "weight_decay": 0.0}
    assert SGD().settings() == {"learning_rate": 0.1, **plain, **decay}
    # Kingma and Ba, ICLR 2015, algorithm 1
    assert Adam().settings() == {
        "learning_rate": 0.001, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "epsilon_hat": False,
        "weight_decay": 0.0, **decay
    }  # fmt: skip
    assert SGD(0.2, 0.9, 0.8, True, 0.1).settings() == {
        "learning_rate": 0.2, "momentum": 0.9, "dampening": 0.8, "nesterov": True, "weight_decay": 0.1, **decay
    }  # fmt: skip
