"""A plan: where gradients go, who may read them, and what an observer sees."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from backends import Backend
from nn import (
    SGD,
    Adam,
    Callback,
    Context,
    Dataset,
    Dropout,
    Layer,
    Linear,
    Optimizer,
    ReLU,
    Sequential,
    Sigmoid,
    Softmax,
    Trainer,
)
from nn.sinks import takes_input_scale
from tests.helpers.with_emulated import WITH_EMULATED, made

RNG = np.random.default_rng(3)
PIXELS = RNG.integers(0, 256, size=(70, 12), dtype=np.uint8)
LABELS = RNG.integers(0, 5, 70)
DATA = Dataset(PIXELS, LABELS, scale=1 / 255)
OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    "plain": lambda: SGD(0.2),
    "momentum": lambda: SGD(0.2, momentum=0.9, dampening=0.5, weight_decay=0.01),
    "nesterov": lambda: SGD(0.2, momentum=0.9, nesterov=True),
    "adam": lambda: Adam(0.02, weight_decay=0.01),
}


@dataclass(frozen=True, repr=False)
class Own(Layer):
    """y = x W, written by a user who knows nothing of plans."""

    n: int

    def parameters(self) -> Any:
        return {"weight": ((self.n, self.n), _identity)}

    def forward(self, x: Any, ctx: Context) -> Any:
        ctx.saved = x
        return ctx.backend.matmul(x, ctx.parameters["weight"])

    def backward(self, dy: Any, ctx: Context) -> Any:
        ctx.backend.matmul(ctx.saved, dy, transpose_a=True, out=ctx.gradients["weight"])
        return ctx.backend.matmul(dy, ctx.parameters["weight"], transpose_b=True)


def _identity(shape: Any, generator: Any) -> Any:
    return np.eye(*shape)


@pytest.fixture(params=WITH_EMULATED)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Every backend in float64, that on the emulated GPU among them."""
    return made(request.param, "float64")


def network(backend: Backend | str = "cpu", *middle: Layer) -> Sequential:
    layers = [Linear(12, 8), Sigmoid(), *middle, Linear(8, 5), Softmax()]
    return Sequential(layers, backend=backend, dtype="float64", seed=5)


class Reads(Callback):
    """The gradients that are there after each batch."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def on_batch_end(self, trainer: Trainer, rows: int) -> None:
        backend = trainer.backend
        self.seen.append({name: backend.to_numpy(g).copy() for name, g in trainer.model.gradients.items()})


# ---- gradients that somebody reads ----------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_callback_reads_the_gradients_of_its_batch(backend: Backend, optimizer: str) -> None:
    """Those of the mean loss over the batch at the parameters before its update, whatever the update did with them."""
    reads = Reads()
    expected: list[dict[str, Any]] = []

    class Asks(Callback):
        reads_gradients = False

        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            start = 20 * len(expected)
            if start < 70:
                other.load_state_dict(before[-1])
                expected.append(Trainer(other).gradients(DATA[start : start + 20]))
            before.append(trainer.model.state_dict())

    model, other = network(backend), network("cpu")
    before = [model.state_dict()]
    Trainer(model, optimizer=OPTIMIZERS[optimizer](), callbacks=[reads, Asks()]).fit(DATA, 1, 20, shuffle=False)
    assert len(reads.seen) == len(expected) == 4
    for found, right in zip(reads.seen, expected, strict=True):
        for name, gradient in right.items():
            np.testing.assert_allclose(found[name], gradient, rtol=1e-9, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_reading_gradients_changes_no_training(backend: Backend, optimizer: str) -> None:
    runs = []
    for callbacks in ([], [Reads()]):
        model = network(backend, ReLU())
        Trainer(model, optimizer=OPTIMIZERS[optimizer](), callbacks=callbacks).fit(DATA, 3, 20)
        runs.append(model.state_dict())
    for name, values in runs[0].items():
        np.testing.assert_allclose(runs[1][name], values, rtol=1e-9, atol=1e-13)


def test_gradients_that_a_step_used_up_are_refused_and_not_wrong() -> None:
    model = network()
    trainer = Trainer(model, optimizer=SGD(0.2, momentum=0.9))
    trainer.fit(DATA, 1, 20)
    with pytest.raises(RuntimeError, match=r"did not keep its gradients.*on_batch_end, or ask for trainer\.gradients"):
        model.gradients  # noqa: B018
    expected = trainer.gradients(DATA)
    for name, gradient in model.gradients.items():  # they are there now
        np.testing.assert_array_equal(gradient, expected[name])


def test_what_is_said_of_the_gradients_is_right_where_steps_are_replayed(backend: Backend) -> None:
    """A recorded step is replayed without its Python code, which therefore cannot say whether gradients are kept."""
    model, reads = network(backend), Reads()
    trainer = Trainer(model, optimizer=SGD(0.2, momentum=0.9))
    rows = trainer.upload(DATA)
    for _ in range(2):
        trainer.fit(rows, 2, 10)
        trainer.gradients(DATA)
        trainer.fit(rows, 1, 10)
        with pytest.raises(RuntimeError, match="did not keep its gradients"):
            model.gradients  # noqa: B018
        trainer.fit(rows, 1, 10, callbacks=[reads])
    assert len(reads.seen) == 14


#: What computes in the same buffers as a forward of the same model.
OTHERS: dict[str, Callable[[Trainer], Any]] = {
    "predict": lambda trainer: trainer.predict(DATA[:9]),
    "layer outputs": lambda trainer: trainer.model.layer_outputs(DATA[:9]),
    "evaluate": lambda trainer: trainer.evaluate(DATA[:9]),
    "losses": lambda trainer: trainer.losses(DATA[:9]),
    "gradients": lambda trainer: trainer.gradients(DATA[:9]),
    "fit": lambda trainer: trainer.fit(DATA, 1, 10),
}


def gradients_by_hand(model: Sequential, training: bool, between: Callable[[], Any] = lambda: None) -> dict[str, Any]:
    """The gradients of the sum of the outputs for some rows, with something else between forward and backward."""
    backend = model.backend
    with backend.use():
        y = model.forward(backend.asarray(DATA.features("float64")[:7]), training=training)
        one = backend.asarray(np.ones(y.shape))
        between()
        model.backward(one)
        return {name: backend.to_numpy(x).copy() for name, x in model.gradients.items()}


def a_model(backend: Backend) -> Sequential:
    return Sequential(Linear(12, 8), Sigmoid(), Dropout(0.3), Linear(8, 5), backend=backend, seed=2)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("which", WITH_EMULATED)
def test_backward_refuses_what_is_no_longer_the_forward(which: tuple[str, bool], other: str, training: bool) -> None:
    model = a_model(made(which, "float64"))
    trainer = Trainer(model, optimizer=SGD(0.1, momentum=0.9))
    trainer.fit(DATA, 2, 10)  # its steps are recorded where they can be
    with pytest.raises(RuntimeError, match=r"^backward needs what forward left, but .*; call forward again$"):
        gradients_by_hand(model, training, lambda: OTHERS[other](trainer))
    fresh = a_model(made(which, "float64"))
    fresh.load_state_dict(model.state_dict())
    fresh.step = model.step
    found, expected = gradients_by_hand(model, training), gradients_by_hand(fresh, training)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("which", WITH_EMULATED)
def test_a_prediction_in_another_thread_leaves_backward_alone(which: tuple[str, bool], training: bool) -> None:
    model = a_model(made(which, "float64"))

    def predict_elsewhere() -> None:
        thread = threading.Thread(target=model.predict, args=(DATA[:9],))
        thread.start()
        thread.join()

    expected = gradients_by_hand(model, training)
    for name, values in gradients_by_hand(model, training, predict_elsewhere).items():
        np.testing.assert_array_equal(values, expected[name])


def test_a_forward_in_another_thread_is_not_this_ones() -> None:
    model, rows = a_model(made(("cpu", True), "float64")), DATA.features("float64")

    def forward_elsewhere() -> None:
        thread = threading.Thread(target=model.forward, args=(rows[:9],))
        thread.start()
        thread.join()

    alone = gradients_by_hand(model, False, lambda: None)
    for name, values in gradients_by_hand(model, False, forward_elsewhere).items():
        np.testing.assert_array_equal(values, alone[name])
    new = a_model(made(("cpu", True), "float64"))
    thread = threading.Thread(target=new.forward, args=(rows[:9],))
    thread.start()
    thread.join()
    with pytest.raises(RuntimeError, match="call forward first"):
        new.backward(np.ones((9, 5)))


def test_a_loop_of_ones_own_goes_forward_backward_and_steps() -> None:
    """By hand, for one batch, against a step of the trainer."""
    data = DATA[:20]
    by_trainer, by_hand = network(), network()
    Trainer(by_trainer, optimizer=SGD(0.2, momentum=0.9)).fit(data, 2, 20, shuffle=False)
    optimizer: Optimizer = SGD(0.2, momentum=0.9)
    x, hit = data.features("float64"), np.eye(5)[data.y]
    with pytest.raises(RuntimeError, match="call forward first"):
        by_hand.backward(x)
    for _ in range(2):
        p = by_hand.forward(x, training=True)
        by_hand.backward(-hit / p / 20)
        assert by_hand.gradients["0.weight"].any()
        optimizer.step(by_hand)
        with pytest.raises(RuntimeError, match="the update used them up"):
            by_hand.gradients  # noqa: B018
    for name, values in by_trainer.state_dict().items():
        np.testing.assert_allclose(by_hand.state_dict()[name], values, rtol=1e-9)


@dataclass(frozen=True, repr=False)
class Clock(Layer):
    """y = x + the number of the step."""

    def forward(self, x: Any, ctx: Context) -> Any:
        return x + ctx.step

    def backward(self, dy: Any, ctx: Context) -> Any:
        return dy


def test_layers_are_told_the_step_in_training_and_0_outside_of_it() -> None:
    model = Sequential(Linear(12, 2), Clock(), backend="cpu", dtype="float64", seed=1)
    trainer = Trainer(model, "mean_squared_error", SGD(1e-3))
    x, y = RNG.normal(size=(30, 12)), RNG.normal(size=(30, 2))
    trainer.fit((x, y), 1, 10)
    outputs = x @ model.state_dict()["0.weight"] + model.state_dict()["0.bias"]
    np.testing.assert_allclose(model(x), outputs)
    np.testing.assert_allclose(model.layer_outputs(x)["1"], outputs)
    assert trainer.evaluate((x, y))["loss"] == pytest.approx(((outputs - y) ** 2).mean())
    np.testing.assert_allclose(model.forward(x, training=True), outputs + 3)
    slopes = 2 * (outputs + 3 - y).mean(axis=0) / 2
    np.testing.assert_allclose(trainer.gradients((x, y))["0.bias"], slopes)


# ---- what an observer sees -------------------------------------------------------------------------------------------


def test_an_observer_sees_every_tensor_of_a_step_in_its_order() -> None:
    layers = [Linear(12, 8), Sigmoid(), Dropout(0.5), Linear(8, 8, bias=False), Dropout(0.0), Linear(8, 5), Softmax()]
    trainer = Trainer(Sequential(layers, backend="cpu", dtype="float64", seed=5), optimizer=SGD(0.2, momentum=0.9))
    seen: list[tuple[str, str, str]] = []

    def look(phase: str, stage: Any, name: str, array: Any) -> None:
        seen.append((phase, stage.ctx.name if stage else "", name))

    rows = trainer.upload(DATA)
    plan = trainer.plan(rows, optimizer=trainer.optimizer, observer=look)
    x, y, _ = trainer.feed(rows).batch(0, 20)
    plan.train(x, y, np.zeros(2), step=0, update=1, learning_rate=0.1)
    assert seen == [
        ("batch", "", "batch"),
        ("batch", "", "targets"),
        ("forward", "0", "activation"),
        ("forward", "2", "dropout mask"),
        ("forward", "2", "activation"),
        ("forward", "3", "activation"),
        ("forward", "4", "activation"),
        ("forward", "5", "activation"),
        ("loss", "", "loss"),
        ("loss", "", "correct rows"),
        ("loss", "", "gradient of the outputs"),
        ("backward", "5", "gradient of 5.bias"),
        ("backward", "5", "gradient of 5.weight"),
        ("backward", "5", "gradient of the input"),
        ("backward", "4", "gradient of the input"),
        ("backward", "3", "gradient of 3.weight"),
        ("backward", "3", "gradient of the input"),
        ("backward", "2", "gradient of the input"),
        ("backward", "0", "gradient before the activation"),
        ("backward", "0", "gradient of 0.bias"),
        ("backward", "0", "gradient of 0.weight"),
        ("before update", "", "velocity"),
        ("before update", "", "parameter"),
        ("before update", "", "gradient"),
        *(
            ("update", "", f"{array} {name}")
            for array in ("velocity", "parameter")
            for name in trainer.model.parameters
        ),
    ]


# ---- where gradients go ---------------------------------------------------------------------------------------------


def folded(trainer: Trainer, **options: Any) -> set[str]:
    """The parameters whose gradients the products add to the velocity."""
    plan = trainer.plan(trainer.upload(DATA), optimizer=trainer.optimizer, **options)
    velocity, names = trainer.optimizer.state.get("velocity"), set()
    for _, ctx in plan.stages:
        for name, sink in ctx.sinks.items():
            if velocity is not None and "beta" in sink and np.shares_memory(sink["out"], velocity):
                names.add(f"{ctx.name}.{name}")
    return names


def test_folding_is_decided_for_each_parameter_by_itself() -> None:
    trainer = Trainer(network("cpu", Own(8)), optimizer=SGD(0.2, momentum=0.9))
    expected = {"0.weight", "3.weight"} if trainer.backend.accumulates else set()
    assert folded(trainer) == expected
    assert folded(trainer, keep=True) == set()
    assert folded(trainer, observer=lambda *_: None) == set()
    assert folded(Trainer(network(), optimizer=SGD(0.2, momentum=0.9, nesterov=True))) == set()
    assert folded(Trainer(network(), optimizer=Adam())) == set()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_layer_of_another_kind_trains_beside_folded_ones(optimizer: str) -> None:
    """``Own`` with the identity as its weight is a Linear layer without bias and activation."""
    runs = []
    for middle in (Own(8), Linear(8, 8, bias=False, weight_init=np.eye(8).tolist())):
        model = network("cpu", middle)
        history = Trainer(model, optimizer=OPTIMIZERS[optimizer]()).fit(DATA, 4, 20)
        runs.append((model.state_dict(), history["loss"]))
    np.testing.assert_allclose(runs[0][1], runs[1][1], rtol=1e-9)
    for name, values in runs[0][0].items():
        np.testing.assert_allclose(runs[1][0][name], values, rtol=1e-8, atol=1e-12)


class Reversed(Linear):
    """A layer of a user's own that changes what it inherits: its products are not taken for those of Linear."""

    def forward(self, x: Any, ctx: Context) -> Any:
        return -super().forward(x, ctx)

    def backward(self, dy: Any, ctx: Context) -> Any:
        return super().backward(-dy, ctx)


def test_a_layer_that_overrides_forward_or_backward_has_no_products_unless_it_says_so() -> None:
    assert Linear.products == ("output", "weight")
    assert Reversed.products == ()
    assert not takes_input_scale([Reversed(12, 8), Linear(8, 5)])
    trainer = Trainer(
        Sequential(Reversed(12, 8), Linear(8, 5), Softmax(), backend="cpu"), optimizer=SGD(0.1, momentum=0.9)
    )
    assert "0.weight" not in folded(trainer)
    assert trainer.fit(DATA, 30, 10)[-1]["loss"] < trainer.history[0]["loss"]


# ---- an output activation inside the last layer ---------------------------------------------------------------------


@pytest.mark.parametrize("end", [[Linear(8, 1), Sigmoid()], [Linear(8, 1, activation="sigmoid")], [Linear(8, 1)]])
def test_an_output_activation_means_the_same_wherever_it_is_written(end: list[Layer]) -> None:
    model = Sequential(Linear(12, 8), ReLU(), *end, backend="cpu", dtype="float64", seed=1)
    trainer = Trainer(model, "binary_cross_entropy", SGD(0.5))
    data = Dataset(PIXELS, LABELS % 2, scale=1 / 255)
    history = trainer.fit(data, 5, 10)
    layers = [Linear(12, 8), ReLU(), Linear(8, 1), Sigmoid()]
    reference = Sequential(layers, backend="cpu", dtype="float64", seed=1)
    expected = Trainer(reference, "binary_cross_entropy", SGD(0.5))
    assert history["loss"] == expected.fit(data, 5, 10)["loss"]
    np.testing.assert_allclose(model.predict_proba(data), reference.predict_proba(data), rtol=1e-12)
    np.testing.assert_array_equal(trainer.predict(data), expected.predict(data))


# ---- learning rates that change -------------------------------------------------------------------------------------


def test_a_learning_rate_is_a_function_of_the_update(backend: Backend) -> None:
    by_schedule = network(backend)
    asked: list[int] = []

    def rate(update: int) -> float:
        asked.append(update)
        return 0.3 / update

    history = Trainer(by_schedule, optimizer=SGD(rate, momentum=0.9)).fit(DATA, 2, 20)
    by_hand, optimizer = network(backend), SGD(1.0, momentum=0.9)

    class Sets(Callback):
        reads_gradients = False

        def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
            optimizer.learning_rate = 0.3 / (optimizer.steps + 1)

        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            optimizer.learning_rate = 0.3 / (optimizer.steps + 1)

    Trainer(by_hand, optimizer=optimizer, callbacks=[Sets()]).fit(DATA, 2, 20)
    assert {*range(1, 9)} <= {*asked}
    assert history["learning_rate"] == [0.3 / 4, 0.3 / 8]
    for name, values in by_schedule.state_dict().items():
        np.testing.assert_array_equal(by_hand.state_dict()[name], values)


# ---- lifetimes ------------------------------------------------------------------------------------------------------


def test_models_and_rows_are_freed_when_they_are_dropped() -> None:
    """By their last reference, not by the collector of cycles."""
    gc.collect()
    gc.disable()
    try:
        trainer = Trainer(network(), optimizer=SGD(0.1, momentum=0.9))
        rows = trainer.upload(DATA)
        trainer.fit(rows, 2, 20)
        dropped: Any = weakref.ref(rows)
        del rows
        assert dropped() is None
        dropped = weakref.ref(trainer.model.store)
        trainer.predict(DATA)
        del trainer
        assert dropped() is None
    finally:
        gc.enable()
