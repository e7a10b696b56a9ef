"""Clipping, adding up and averaging together: beside PyTorch, recorded, on every device, in copies."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest

from backends import Backend
from nn import SGD, BatchNorm, Dropout, Layer, Linear, ReLU, Sequential, Softmax, Trainer
from nn.snapshot import Snapshot
from nn.verify.compare import compare
from tests.helpers.around_update import DATA, EVERYTHING, OPTIMIZERS, Recorded, Unrecorded, agree, are_equal, network
from tests.helpers.recorded_runs import eager, recorded
from tests.helpers.with_emulated import WITH_EMULATED, made


@pytest.fixture(params=WITH_EMULATED)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Every backend in float64, that on the emulated GPU among them."""
    return made(request.param, "float64")


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
