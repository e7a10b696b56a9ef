"""What is done to gradients before an update and to parameters after it: clipping, several batches, an average."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import Backend
from nn import (
    SGD,
    Adam,
    BatchNorm,
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
from nn.around_update import Share
from nn.divergence import TrainingDiverged
from nn.snapshot import Snapshot
from nn.verify.compare import compare
from tests.helpers.recorded_runs import eager, recorded
from tests.helpers.with_emulated import WITH_EMULATED, made

RNG = np.random.default_rng(8)
DATA = Dataset(RNG.integers(0, 256, (70, 12), dtype=np.uint8), RNG.integers(0, 5, 70), scale=1 / 255)
OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    "plain": lambda: SGD(0.3),
    "momentum": lambda: SGD(0.2, momentum=0.9, dampening=0.5, weight_decay=0.01),
    "nesterov": lambda: SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: Adam(0.02, weight_decay=0.01),
}
#: All of it together.
EVERYTHING: dict[str, Any] = {"clip_norm": 0.3, "clip_value": 0.02, "accumulate": 3, "average": 0.9}


@pytest.fixture(params=WITH_EMULATED)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Every backend in float64, that on the emulated GPU among them."""
    return made(request.param, "float64")


def network(backend: Backend | str = "cpu", *middle: Layer) -> Sequential:
    layers = [Linear(12, 8), Sigmoid(), *middle, Linear(8, 5), Softmax()]
    return Sequential(layers, backend=backend, dtype="float64", seed=5)


def flat(arrays: dict[str, Any]) -> Any:
    """All of a network's parameters or gradients, one after the other."""
    return np.concatenate([arrays[name].ravel() for name in sorted(arrays)])


def agree(found: dict[str, Any], expected: dict[str, Any], rtol: float = 1e-9, atol: float = 1e-12) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=rtol, atol=atol, err_msg=name)


def are_equal(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    return all(np.array_equal(found[name], values, equal_nan=True) for name, values in expected.items())


class Recorded(Layer):
    """Computes nothing."""

    recordable = True

    def forward(self, x: Any, ctx: Context) -> Any:
        return x

    def backward(self, dy: Any, ctx: Context) -> Any:
        return dy


class Unrecorded(Recorded):
    """Lets the steps run as they are written."""

    recordable = False


class ByHand:
    """SGD with momentum on ``network``, its gradients clipped, written out; gradients are asked for batch by batch."""

    def __init__(self, size: int, epochs: int, clip: Callable[[Any], Any]) -> None:
        model = network()
        self.trainer, self.norms = Trainer(model), list[float]()
        velocity = 0.0
        for _ in range(epochs):
            for start in range(0, len(DATA), size):
                gradients = self.trainer.gradients(DATA[start : start + size])
                self.norms.append(float(np.sqrt(sum(np.sum(g * g) for g in gradients.values()))))
                velocity = 0.9 * velocity + clip(flat(gradients))
                moved, at = {}, 0
                for name in sorted(gradients):
                    values = model.state_dict()[name]
                    moved[name] = values - 0.2 * velocity[at : at + values.size].reshape(values.shape)
                    at += values.size
                model.load_state_dict(moved)
        self.parameters = model.state_dict()


# ---- clipping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0.05, 0.4, 100.0])
def test_gradients_are_clipped_by_the_norm_of_all_of_them(backend: Backend, limit: float) -> None:
    by_hand = ByHand(20, 3, lambda g: g * min(1.0, limit / (np.sqrt(np.sum(g * g)) + 1e-6)))
    clipped = sum(norm > limit for norm in by_hand.norms)
    assert clipped == {0.05: 12, 100.0: 0}.get(limit, clipped)
    model = network(backend)
    trainer = Trainer(model, optimizer=SGD(0.2, momentum=0.9), clip_norm=limit)
    assert trainer.gradient_norm == 0.0
    trainer.fit(DATA, 3, 20, shuffle=False)
    agree(model.state_dict(), by_hand.parameters)
    assert trainer.gradient_norm == pytest.approx(by_hand.norms[-1], rel=1e-9)


def test_gradients_are_clipped_by_value(backend: Backend) -> None:
    by_hand = ByHand(20, 3, lambda g: np.clip(g, -0.01, 0.01))
    model = network(backend)
    trainer = Trainer(model, optimizer=SGD(0.2, momentum=0.9), clip_value=0.01)
    trainer.fit(DATA, 3, 20, shuffle=False)
    agree(model.state_dict(), by_hand.parameters)
    assert trainer.gradient_norm is None


def test_the_norm_is_that_of_gradients_clipped_by_value(backend: Backend) -> None:
    def clip(gradient: Any) -> Any:
        gradient = np.clip(gradient, -0.01, 0.01)
        return gradient * min(1.0, 0.05 / (np.sqrt(np.sum(gradient * gradient)) + 1e-6))

    model = network(backend)
    Trainer(model, optimizer=SGD(0.2, momentum=0.9), clip_value=0.01, clip_norm=0.05).fit(DATA, 2, 20, shuffle=False)
    agree(model.state_dict(), ByHand(20, 2, clip).parameters)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_limits_that_no_gradient_reaches_change_nothing(backend: Backend, optimizer: str) -> None:
    runs = []
    every: tuple[dict[str, Any], ...] = ({}, {"clip_norm": 1e6, "clip_value": 1e6})
    for limits in every:
        model = network(backend, Dropout(0.3))
        Trainer(model, optimizer=OPTIMIZERS[optimizer](), **limits).fit(DATA, 2, 20)
        runs.append(model.state_dict())
    agree(runs[1], runs[0])


@pytest.mark.parametrize(
    "settings", [{"clip_norm": 1.0}, {"clip_value": 1.0}, {"clip_norm": 1.0, "accumulate": 3, "average": 0.9}]
)
@pytest.mark.parametrize("device", ["cpu", "numba", "emulated"])
def test_clipping_hides_no_divergence(device: str, settings: dict[str, Any]) -> None:
    """It is told with the step, and the model and its average are as they were before the epoch."""
    model = network(made((device, True), "float64"))
    trainer = Trainer(model, optimizer=SGD(lambda update: 1e308 if update >= 5 else 0.1), **settings)
    batches = settings.get("accumulate", 1)
    trainer.fit(DATA, 1, 20 // batches)
    before = model.state_dict()
    with trainer.averaged():
        average = model.state_dict()
    with pytest.raises(TrainingDiverged, match=r"training diverged in step \d+ \(epoch 2\)"):
        trainer.fit(DATA, 1, 20 // batches)
    assert are_equal(model.state_dict(), before)
    with trainer.averaged():
        assert are_equal(model.state_dict(), average)


def test_callbacks_read_gradients_as_they_were_used(backend: Backend) -> None:
    norms = []

    class Reads(Callback):
        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            gradients = {name: backend.to_numpy(g) for name, g in trainer.model.gradients.items()}
            norms.append((float(np.linalg.norm(flat(gradients))), trainer.gradient_norm))

    Trainer(network(backend), optimizer=Adam(0.01), clip_norm=0.05, callbacks=[Reads()]).fit(DATA, 2, 20)
    assert len(norms) == 8
    for found, before in norms:
        assert before is not None
        assert before > 0.05
        assert found == pytest.approx(0.05 * before / (before + 1e-6), rel=1e-9)


# ---- several batches make an update ----------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("size", "batches"), [(10, 2), (10, 3), (20, 2), (9, 4), (16, 10)])
def test_batches_that_share_an_update_are_one_large_batch(
    backend: Backend, optimizer: str, size: int, batches: int
) -> None:
    """To rounding, the last ones of an epoch too, of which there are fewer, and the last one shorter."""
    runs = []
    both: tuple[tuple[dict[str, Any], int], ...] = (({}, size * batches), ({"accumulate": batches}, size))
    for settings, batch_size in both:
        model = network(backend)
        trainer = Trainer(model, optimizer=OPTIMIZERS[optimizer](), **settings)
        # As many rows as a large batch has are not shuffled: their order changes nothing.
        trainer.fit(DATA, 3, batch_size, shuffle=size * batches < len(DATA))
        runs.append((model.state_dict(), trainer))
    agree(runs[1][0], runs[0][0])
    large, small = (trainer for _, trainer in runs)
    assert small.history["loss"] == pytest.approx(large.history["loss"], rel=1e-9)
    assert small.optimizer.steps == large.optimizer.steps == 3 * -(-70 // (size * batches))
    assert small.model.step == 3 * -(-70 // size)


def test_rows_count_by_their_weights(backend: Backend) -> None:
    weights = np.random.default_rng(1).uniform(0.2, 3.0, 70)
    runs = []
    both: tuple[tuple[dict[str, Any], int], ...] = (({}, 30), ({"accumulate": 3}, 10))
    for settings, size in both:
        model = network(backend)
        Trainer(model, optimizer=SGD(0.2, momentum=0.9), **settings).fit(DATA, 2, size, sample_weight=weights)
        runs.append(model.state_dict())
    agree(runs[1], runs[0])


def test_a_callback_reads_the_gradients_of_each_batch_and_then_those_of_the_update(backend: Backend) -> None:
    seen: list[Any] = []

    class Reads(Callback):
        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            seen.append(flat({name: backend.to_numpy(g) for name, g in trainer.model.gradients.items()}))

    trainer = Trainer(network(backend), optimizer=SGD(0.2), accumulate=3, clip_norm=0.05, callbacks=[Reads()])
    batches = [flat(trainer.gradients(DATA[i : i + 10])) for i in (0, 10, 20)]
    trainer.fit(DATA[:30], 1, 10, shuffle=False)
    mean = sum(batches) / 3
    for found, expected in zip(seen, [*batches[:2], mean * 0.05 / (np.linalg.norm(mean) + 1e-6)], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-13)


def test_a_schedule_counts_updates_and_layers_count_batches() -> None:
    asked, seen = [], []

    class Sees(Layer):
        def forward(self, x: Any, ctx: Context) -> Any:
            if ctx.training:
                seen.append(int(ctx.step))
            return x

        def backward(self, dy: Any, ctx: Context) -> Any:
            return dy

    def rate(update: int) -> float:
        asked.append(update)
        return 0.1 / update

    trainer = Trainer(network("cpu", Sees()), optimizer=SGD(rate), accumulate=3)
    history = trainer.fit(DATA, 2, 10)
    assert sorted({*asked}) == [1, 2, 3, 4, 5, 6]
    assert seen[-14:] == [*range(14)]  # before them the layer has been tried
    assert history["learning_rate"] == [0.1 / 3, 0.1 / 6]


def test_batches_that_are_left_when_training_is_stopped_make_no_update() -> None:
    """And the next update has nothing of them."""

    class Stops(Callback):
        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            if trainer.model.step == 5:
                trainer.stop("enough")

    runs = []
    both: tuple[list[Callback], ...] = ([Stops()], [])
    for callbacks in both:
        model = network()
        trainer = Trainer(model, optimizer=SGD(0.2), accumulate=4)
        trainer.fit(DATA[:40], 1, 10, shuffle=False)
        assert trainer.optimizer.steps == 1
        if callbacks:
            trainer.fit(DATA, 1, 10, shuffle=False, callbacks=callbacks)
            assert (trainer.optimizer.steps, model.step) == (1, 5)
        trainer.fit(DATA, 1, 10, shuffle=False)
        runs.append(model.state_dict())
    assert are_equal(runs[0], runs[1])


@given(st.integers(1, 200), st.integers(1, 60), st.integers(1, 7))
def test_shares_are_those_of_an_epoch(rows: int, size: int, batches: int) -> None:
    """Written out: each batch, the group it is in, and how many follow that are in the middle, too."""
    starts = [*range(0, rows, size)]
    groups = [starts[i : i + batches] for i in range(0, len(starts), batches)]
    for group in groups:
        end = min(group[0] + size * batches, rows)
        for i, start in enumerate(group):
            share = Share.of(start, min(size, rows - start), size, batches, rows)
            in_the_middle = 0 < i < len(group) - 1
            expected = Share(end - group[0], i == 0, i == len(group) - 1, len(group) - 1 - i if in_the_middle else 1)
            assert share == expected


# ---- an average of the parameters ------------------------------------------------------------------------------------


def averages(decay: float, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    average = parameters[0]
    for now in parameters[1:]:
        average = {name: values + (1.0 - decay) * (now[name] - values) for name, values in average.items()}
    return average


class Notes(Callback):
    """The parameters after each batch."""

    reads_gradients = False

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def on_batch_end(self, trainer: Trainer, rows: int) -> None:
        self.seen.append(trainer.model.state_dict())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_average_is_the_formula(backend: Backend, optimizer: str) -> None:
    """From a copy after the first update on, over two fits; training itself is as without."""
    notes = Notes()
    model, other = network(backend), network(backend)
    trainer = Trainer(model, optimizer=OPTIMIZERS[optimizer](), average=0.8, callbacks=[notes])
    trainer.fit(DATA, 2, 20)
    trainer.fit(DATA, 1, 20)
    alone = Trainer(other, optimizer=OPTIMIZERS[optimizer](), callbacks=[Notes()])
    alone.fit(DATA, 3, 20)
    assert are_equal(model.state_dict(), other.state_dict())
    with trainer.averaged():
        agree(model.state_dict(), averages(0.8, notes.seen), rtol=1e-12)
    assert are_equal(model.state_dict(), other.state_dict())


def test_the_average_is_that_of_pytorch(backend: Backend) -> None:
    """``AveragedModel`` with ``get_ema_multi_avg_fn``, in float64, of the same parameters after each update."""
    torch = pytest.importorskip("torch")
    swa: Any = pytest.importorskip("torch.optim.swa_utils")
    notes = Notes()
    trainer = Trainer(network(backend), optimizer=SGD(0.3), average=0.9, callbacks=[notes])
    trainer.fit(DATA, 2, 10)
    followed = torch.nn.ParameterDict({name.replace(".", "_"): torch.tensor(x) for name, x in notes.seen[0].items()})
    average = swa.AveragedModel(followed, multi_avg_fn=swa.get_ema_multi_avg_fn(0.9))
    for seen in notes.seen:
        with torch.no_grad():
            for name, values in seen.items():
                followed[name.replace(".", "_")].copy_(torch.tensor(values))
        average.update_parameters(followed)
    with trainer.averaged():
        found = trainer.model.state_dict()
    expected = {name: average.module[name.replace(".", "_")].detach().numpy() for name in found}
    agree(found, expected, rtol=1e-12, atol=1e-14)


def test_the_trainer_evaluates_and_predicts_by_the_average(backend: Backend) -> None:
    model = network(backend)
    trainer = Trainer(model, optimizer=SGD(2.0), average=0.95)
    history = trainer.fit(DATA, 3, 10, validation=DATA[:30])
    trained, by_own = model.state_dict(), model.predict_proba(DATA)
    with trainer.averaged():
        average, by_average = model.state_dict(), model.predict_proba(DATA)
        with trainer.averaged():  # once is enough
            assert are_equal(model.state_dict(), average)
        assert are_equal(model.state_dict(), average)
        evaluated = Trainer(model).evaluate(DATA[:30])
    assert are_equal(model.state_dict(), trained)
    assert not np.allclose(by_own, by_average)
    np.testing.assert_array_equal(trainer.predict_proba(DATA), by_average)
    np.testing.assert_array_equal(trainer.predict(DATA), np.argmax(by_average, axis=1))
    assert trainer.evaluate(DATA[:30]) == evaluated
    assert trainer.losses(DATA[:30]).mean() == pytest.approx(evaluated["loss"])
    assert history["val_loss"][-1] == evaluated["loss"]
    np.testing.assert_array_equal(model.predict_proba(DATA), by_own)
    trainer.average = None
    np.testing.assert_array_equal(trainer.predict_proba(DATA), by_own)


def test_the_parameters_are_back_after_an_error_and_fit_is_refused_meanwhile() -> None:
    model = network()
    trainer = Trainer(model, average=0.9)
    trainer.fit(DATA, 1, 10)
    trained = model.state_dict()
    with pytest.raises(RuntimeError, match=r"outside of trainer\.averaged"), trainer.averaged():
        trainer.fit(DATA, 1, 10)
    assert are_equal(model.state_dict(), trained)
    trainer.fit(DATA, 1, 10)


def test_before_the_first_update_and_without_an_average_the_parameters_are_the_models_own() -> None:
    both: tuple[dict[str, Any], ...] = ({}, {"average": 0.9})
    for settings in both:
        model = network()
        before = model.state_dict()
        with Trainer(model, **settings).averaged():
            assert are_equal(model.state_dict(), before)


def test_an_average_begins_anew_where_it_was_off_and_where_the_model_was_reset() -> None:
    model, notes = network(), Notes()
    trainer = Trainer(model, average=0.8, callbacks=[notes])
    trainer.fit(DATA, 1, 20)
    trainer.average = None
    trainer.fit(DATA, 1, 20)
    trainer.average = 0.5
    trainer.fit(DATA, 1, 20)
    with trainer.averaged():
        agree(model.state_dict(), averages(0.5, notes.seen[8:]), rtol=1e-12)
    model.reset()
    trainer.fit(DATA, 1, 20)
    with trainer.averaged():
        agree(model.state_dict(), averages(0.5, notes.seen[12:]), rtol=1e-12)


# ---- PyTorch -----------------------------------------------------------------------------------------------------

ROWS, LABELS = np.sin(np.arange(120.0).reshape(40, 3)), np.arange(40) % 2
START = {"0.weight": np.cos(np.arange(6.0).reshape(3, 2)), "0.bias": np.zeros(2)}
#: What ``by_pytorch`` gave with PyTorch 2.13: trained and averaged parameters, and the last norm.
TRAINED = {
    "0.weight": [
        [-0.06743489737996233, 1.6077372032481019],
        [-0.9750500788825296, -0.4310892542650583],
        [-1.17319635827164, 0.8032149228712543],
    ],
    "0.bias": [-0.009640188185917612, 0.009640188185917805],
}
AVERAGED = {
    "0.weight": [
        [0.2867408496568548, 1.253561456211285],
        [-0.7188032605231011, -0.6873360726244868],
        [-0.8011723627399998, 0.43119092733961395],
    ],
    "0.bias": [-0.0022265859204672013, 0.002226585920467267],
}
NORM = 0.6088180104025607


def by_pytorch(torch: Any, swa: Any) -> tuple[dict[str, Any], dict[str, Any], float]:
    """20 updates of two batches each: their losses halved, gradients clipped by value and by norm, SGD with momentum,
    and an average of the parameters."""
    model = torch.nn.Linear(3, 2, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.tensor(START["0.weight"].T))
        model.bias.zero_()
    average = swa.AveragedModel(model, multi_avg_fn=swa.get_ema_multi_avg_fn(0.9))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    norm = 0.0
    for update in range(20):
        optimizer.zero_grad()
        begin = 8 * (update % 5)
        for start in (begin, begin + 4):
            x, y = (torch.tensor(a[start : start + 4]) for a in (ROWS, LABELS))
            (torch.nn.functional.cross_entropy(model(x), y) / 2).backward()
        torch.nn.utils.clip_grad_value_(model.parameters(), 0.3)
        norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25))
        optimizer.step()
        average.update_parameters(model)
    trained, averaged = (
        {"0.weight": layer.weight.detach().numpy().T, "0.bias": layer.bias.detach().numpy()}
        for layer in (model, average.module)
    )
    return trained, averaged, norm


def test_the_constants_are_those_of_pytorch() -> None:
    torch, swa = pytest.importorskip("torch"), pytest.importorskip("torch.optim.swa_utils")
    trained, averaged, norm = by_pytorch(torch, swa)
    agree(trained, TRAINED, rtol=1e-11)
    agree(averaged, AVERAGED, rtol=1e-11)
    assert norm == pytest.approx(NORM, rel=1e-11)


def test_a_run_is_that_of_pytorch(backend: Backend) -> None:
    model = Sequential(Linear(3, 2), Softmax(), backend=backend, dtype="float64")
    model.load_state_dict(START)
    settings: dict[str, Any] = {"clip_norm": 0.25, "clip_value": 0.3, "accumulate": 2, "average": 0.9}
    trainer = Trainer(model, optimizer=SGD(0.5, momentum=0.9), **settings)
    trainer.fit((ROWS, LABELS), 4, 4, shuffle=False)
    agree(model.state_dict(), TRAINED, rtol=1e-12, atol=1e-12)
    with trainer.averaged():
        agree(model.state_dict(), AVERAGED, rtol=1e-12, atol=1e-12)
    assert trainer.gradient_norm == pytest.approx(NORM, rel=1e-12)


# ---- all of it together ----------------------------------------------------------------------------------------------


def run(backend: Backend | str, optimizer: str, *middle: Layer, **settings: Any) -> dict[str, Any]:
    """Two fits and what they leave: parameters and their average, the optimizer's state, losses."""
    model = network(backend, Dropout(0.3), *middle)
    trainer = Trainer(model, optimizer=OPTIMIZERS[optimizer](), **settings)
    trainer.fit(DATA, 3, 8, validation=DATA[:20])
    trainer.fit(DATA, 2, 8)
    down, left = trainer.backend.to_numpy, model.state_dict()
    left |= {name: down(x).copy() for name, x in trainer.optimizer.state.items()}
    with trainer.averaged():
        left |= {f"average {name}": x for name, x in model.state_dict().items() if "average" in settings}
    return left | {"loss": np.array(trainer.history["loss"]), "norm": np.array(trainer.gradient_norm, float)}


KINDS: dict[str, dict[str, Any]] = {
    "clip": {"clip_norm": 0.2},
    "accumulate": {"accumulate": 3},
    "average": {"average": 0.9},
    "all": EVERYTHING,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("device", ["cpu", "numba"])
def test_recorded_steps_are_the_steps_bit_for_bit_and_repeat(device: str, optimizer: str, kind: str) -> None:
    backend = made((device, True), "float64")
    once, again, as_written = (
        run(backend, optimizer, layer(), **KINDS[kind]) for layer in (Recorded, Recorded, Unrecorded)
    )
    assert are_equal(again, once)
    assert are_equal(as_written, once)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_graphs_are_the_steps_bit_for_bit(optimizer: str, kind: str) -> None:
    """On the emulated GPU, whose recorded steps must not have fallen back to launching one by one."""
    made(("emulated", True), "float32")
    graphs = recorded()
    found = run(graphs, optimizer, **KINDS[kind])
    assert graphs.why_eager == ""
    assert are_equal(found, run(eager(), optimizer, **KINDS[kind]))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_backend_trains_the_same(backend: Backend, optimizer: str) -> None:
    agree(run(backend, optimizer, **EVERYTHING), run("cpu", optimizer, **EVERYTHING), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_changed_between_fits_takes_effect(backend: Backend, kind: str) -> None:
    """As in a run that has it from the start and whose first fit is without."""
    model = network(backend)
    trainer = Trainer(model, optimizer=SGD(0.3, momentum=0.9))
    rows = trainer.upload(DATA)
    trainer.fit(rows, 1, 10)
    before = model.state_dict(), trainer.backend.to_numpy(trainer.optimizer.state["velocity"]).copy()
    for name, value in KINDS[kind].items():
        setattr(trainer, name, value)
    trainer.fit(rows, 2, 10)

    other = network(backend)
    other.load_state_dict(before[0])
    other.step = 7
    then = Trainer(other, optimizer=SGD(0.3, momentum=0.9), **KINDS[kind])
    then.epoch, then.optimizer.steps = 1, 7
    other.store.average_from = 8
    then.optimizer.state["velocity"][...] = backend.asarray(before[1])
    then.fit(DATA, 2, 10)
    with trainer.averaged(), then.averaged():
        agree(model.state_dict(), other.state_dict(), rtol=1e-9)

    off: dict[str, Any] = {"clip_norm": None, "clip_value": None, "accumulate": 1, "average": None}
    for name, value in off.items():
        setattr(trainer, name, value)
        setattr(then, name, value)
    trainer.fit(rows, 1, 10)
    then.fit(DATA, 1, 10)
    agree(model.state_dict(), other.state_dict(), rtol=1e-9)
    assert trainer.optimizer.steps == then.optimizer.steps


@pytest.mark.parametrize("kind", KINDS)
def test_devices_are_compared_tensor_by_tensor(kind: str) -> None:
    """What is done around an update is compared, too, within its own bounds."""

    def make(backend: Backend) -> Trainer:
        model = Sequential(Linear(12, 8), ReLU(), Dropout(0.2), Linear(8, 5), Softmax(), backend=backend, seed=2)
        return Trainer(model, optimizer=SGD(0.5, momentum=0.9), **KINDS[kind])

    devices = {"cpu": made(("cpu", True), "float32"), "reference": made(("cpu", False), "float32")}
    devices["emulated"] = made(("emulated", True), "float32")
    result = compare(make, devices, DATA, 2, 9)
    assert result.agrees, result.findings
    assert result.steps == 16


@pytest.mark.parametrize(
    ("operation", "settings", "tensor"),
    [
        ("clip_norm", {"clip_norm": 0.01}, "gradient after clip_norm"),
        ("clip_values", {"clip_value": 0.001}, "gradient after clip_value"),
        ("axpby", {"accumulate": 2}, "sum of gradients"),
        ("update_average", {"average": 0.5}, "average"),
    ],
)
def test_a_fault_around_an_update_is_found(
    operation: str, settings: dict[str, Any], tensor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = made(("cpu", True), "float32"), made(("cpu", False), "float32")
    original = getattr(bad, operation)

    def wrong(*args: Any, **keywords: Any) -> Any:
        result = original(*args, **keywords)
        target = result[0] if isinstance(result, tuple) else result
        target[...] = target * 1.001
        return result

    monkeypatch.setattr(bad, operation, wrong)

    def make(backend: Backend) -> Trainer:
        return Trainer(Sequential(Linear(12, 5), Softmax(), backend=backend, seed=2), optimizer=SGD(0.5), **settings)

    finding = compare(make, {"good": good, "bad": bad}, DATA, 1, 20).findings["bad"]
    assert finding.tensor.startswith(tensor)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip_norm": 0.0}, "clip_norm must be a number above 0"),
        ({"clip_norm": float("nan")}, "clip_norm must be a number above 0"),
        ({"clip_value": -1.0}, "clip_value must be a number above 0"),
        ({"clip_value": "1"}, "clip_value must be a number above 0"),
        ({"accumulate": 0}, "accumulate must be"),
        ({"accumulate": 1.5}, "accumulate must be"),
        ({"average": 1.0}, "average must be a number of at least 0 and below 1"),
        ({"average": True}, "average must be a number of at least 0 and below 1"),
        ({"average": -0.1}, "average must be a number of at least 0 and below 1"),
    ],
)
def test_settings_out_of_range_are_refused_and_so_are_those_set_later(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        Trainer(network(), **settings)
    trainer = Trainer(network())
    for name, value in settings.items():
        setattr(trainer, name, value)
    with pytest.raises((ValueError, TypeError), match=message):
        trainer.fit(DATA)


@pytest.mark.parametrize("copied", [deepcopy, lambda trainer: pickle.loads(pickle.dumps(trainer))])
@pytest.mark.parametrize("device", ["cpu", "numba", "array_api_strict"])
def test_a_copy_goes_on_as_the_trainer_does(device: str, copied: Callable[[Trainer], Trainer]) -> None:
    """With its average, which neither begins anew nor is shared."""
    trainer = Trainer(network(made((device, device != "array_api_strict"), "float64")), **EVERYTHING)
    trainer.fit(DATA, 2, 10)
    other = copied(trainer)
    for each in (trainer, other):
        each.fit(DATA, 2, 10)
    assert are_equal(other.model.state_dict(), trainer.model.state_dict())
    with trainer.averaged(), other.averaged():
        assert are_equal(other.model.state_dict(), trainer.model.state_dict())
    assert other.gradient_norm == trainer.gradient_norm


def test_a_snapshot_brings_the_average_back(backend: Backend) -> None:
    trainer = Trainer(network(backend), **EVERYTHING)
    trainer.fit(DATA, 1, 10)
    snapshot = Snapshot.of(trainer)
    runs = []
    for _ in range(2):
        trainer.fit(DATA, 2, 10)
        with trainer.averaged():
            runs.append(trainer.model.state_dict())
        snapshot.restore(trainer)
    assert are_equal(runs[0], runs[1])


def test_each_batch_is_normalized_by_itself_and_running_statistics_are_those_of_training(backend: Backend) -> None:
    model = network(backend, BatchNorm(8))
    trainer = Trainer(model, optimizer=SGD(0.3), accumulate=3, average=0.9)
    start = model.state_dict()
    gradients = [trainer.gradients(DATA[i : i + 10]) for i in (0, 10, 20)]
    trainer.fit(DATA[:30], 1, 10, shuffle=False)
    expected = {name: start[name] - 0.3 * sum(g[name] for g in gradients) / 3 for name in gradients[0]}
    agree({name: model.state_dict()[name] for name in expected}, expected)
    trainer.fit(DATA, 1, 10)
    trained = model.state_dict()
    with trainer.averaged():
        now = model.state_dict()
    assert model.store.state.keys() == {"2.running_mean", "2.running_variance"}
    assert {name for name, x in trained.items() if np.array_equal(x, now[name])} == {
        "2.running_mean",
        "2.running_variance",
    }
