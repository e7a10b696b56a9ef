"""Networks on pictures: they are trained, kept, summed up and compared, on every device."""

from __future__ import annotations

import copy
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends import Backend, get_backend
from backends.cuda.cupy_backend import CupyBackend
from backends.cuda.rules import EXACT, RULES
from nn import (
    GELU,
    SGD,
    AvgPool2d,
    BatchNorm2d,
    Callback,
    ChannelsLast,
    Checkpoint,
    Conv2d,
    Dataset,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Reshape,
    Sequential,
    Softmax,
    Tanh,
    Trainer,
    compare_backends,
    load_data,
    load_model,
    save_model,
)
from tests.helpers.backends import make_backend
from tests.helpers.emulated_cuda import EmulatedCudaDevice, needs_compiler
from tests.helpers.recorded_runs import Eager
from tests.helpers.resumed import Kill, Killed
from tests.helpers.small_pictures import LABELS, OPTIMIZERS, PIXELS, eager, small
from tests.helpers.with_emulated import EMULATED, WITH_EMULATED, made

RNG = np.random.default_rng(14)
DIGITS = load_data("digits", limit=1200)
NETWORKS: dict[str, list[Layer]] = {
    "flat rows": [
        Reshape(8, 8, 1), Conv2d(1, 8, 3, padding="same"), BatchNorm2d(8), ReLU(), MaxPool2d(2),
        Conv2d(8, 16, 3, padding=1, groups=2), Tanh(), AvgPool2d(2), Flatten(), Linear(64, 10), Softmax(),
    ],
    "pictures": [Conv2d(1, 16, 3), ReLU(), Conv2d(16, 32, 3), ReLU(), GlobalMaxPool2d(), Linear(32, 10), Softmax()],
    "channels first": [
        Reshape(1, 8, 8), ChannelsLast(), Conv2d(1, 16, 3), MaxPool2d(3, stride=1, padding=1), ReLU(),
        Conv2d(16, 24, 3), ReLU(), GlobalAvgPool2d(), Linear(24, 10),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("network", "least"), [("flat rows", 0.9), ("pictures", 0.85), ("channels first", 0.7)])
def test_a_network_learns_digits(network: str, least: float) -> None:
    model = Sequential(*NETWORKS[network], backend="cpu", seed=1)
    trainer = Trainer(model, optimizer=SGD(0.1, momentum=0.9))
    history = trainer.fit(DIGITS.train, epochs=4, batch_size=32, validation=DIGITS.test)
    assert history[-1]["val_accuracy"] >= least


@pytest.mark.parametrize("which", WITH_EMULATED)
def test_a_run_is_alike_on_every_backend(which: tuple[str, bool]) -> None:
    data = Dataset(PIXELS.reshape(30, 36), LABELS, scale=1 / 255)
    runs = []
    for on in (made(which, "float64"), make_backend(("cpu", False), "float64")):
        model = Sequential(small(), backend=on, seed=2)
        trainer = Trainer(model, optimizer=SGD(0.05, momentum=0.9))
        history = trainer.fit(data, 4, 8, validation=data[:9])  # the last batch of each epoch is a short one
        runs.append((history["loss"] + history["val_loss"], model.state_dict()))
        assert on.why_eager == ""
    for losses, state in runs[1:]:
        np.testing.assert_allclose(losses, runs[0][0], rtol=1e-8)
        for name, values in state.items():
            np.testing.assert_allclose(values, runs[0][1][name], rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.parametrize(
    "settings", [{}, {"clip_norm": 0.5}, {"clip_value": 0.01}, {"accumulate": 3}, {"average": 0.9}]
)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_recorded_run_is_the_eager_one_bit_for_bit(settings: dict[str, Any], momentum: float) -> None:
    data = Dataset(PIXELS.reshape(30, 36), LABELS, scale=1 / 255)
    runs = []
    for on in (get_backend("cpu"), eager(get_backend("cpu"))):
        model = Sequential(small(), backend=on, seed=2)
        trainer = Trainer(model, optimizer=SGD(0.05, momentum=momentum), **settings)
        runs.append((trainer.fit(data, 4, 8)["loss"], model.state_dict()))
    assert runs[0][0] == runs[1][0]
    for name, values in runs[0][1].items():
        np.testing.assert_array_equal(runs[1][1][name], values, err_msg=name)


@needs_compiler
@pytest.mark.parametrize("filters", [64, 0], ids=["direct", "patches"])
@pytest.mark.parametrize("optimizer", ["plain", "momentum", "adam"])
def test_a_recorded_run_on_a_gpu_is_the_eager_one_bit_for_bit(optimizer: str, filters: int) -> None:
    """As long as its launches are joined alike. Where an eager step joins none, what differs are the rules that sum
    products in an order of their own, and nothing else: without them the bits are the same."""
    data = Dataset(PIXELS.reshape(30, 36), LABELS, scale=1 / 255)

    def run(on: CupyBackend, rules: Any = RULES) -> dict[str, Any]:
        on.rules, on.direct_filters = rules, filters
        model = Sequential(small(), backend=on, seed=2)
        losses = Trainer(model, optimizer=OPTIMIZERS[optimizer]()).fit(data, 3, 8)["loss"]
        assert on.why_eager == ""
        return {"loss": np.array(losses), **model.state_dict()}

    recorded, joined, single = (kind(EmulatedCudaDevice()) for kind in (CupyBackend, Eager, CupyBackend))
    eager(single)
    for found, expected in ((run(recorded), run(joined)), (run(recorded, EXACT), run(single))):
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_statistics_of_channels_are_those_of_all_their_numbers() -> None:
    x = RNG.normal(2.0, 3.0, size=(10, 4, 5, 3))
    model = Sequential(BatchNorm2d(3, momentum=1.0), Flatten(), Linear(60, 2), backend="cpu", dtype="float64")
    Trainer(model, optimizer=SGD(1e-3)).fit(x, np.arange(10) % 2, batch_size=None)
    state = model.state_dict()
    np.testing.assert_allclose(state["0.running_mean"], x.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(state["0.running_variance"], x.var(axis=(0, 1, 2), ddof=1), rtol=1e-12)


def test_a_batch_of_one_picture_has_a_variance() -> None:
    model = Sequential(Conv2d(1, 2, 3), BatchNorm2d(2), Flatten(), Linear(32, 3), backend="cpu")
    Trainer(model).fit(PIXELS[:3], LABELS[:3], batch_size=2)
    one = Sequential(Conv2d(1, 2, 6), BatchNorm2d(2), Flatten(), Linear(2, 3), backend="cpu")
    with pytest.raises(ValueError, match=r"^layer 1, BatchNorm2d\(2\): a training batch of one row has no variance"):
        Trainer(one).fit(PIXELS[:3], LABELS[:3], batch_size=2)


def test_filters_decay_and_nothing_else() -> None:
    layout = Sequential(small(), backend="cpu").store.layout
    decaying = sorted(name for name, offset in layout.offsets.items() if offset < layout.n_decayed)
    assert decaying == ["10.weight", "12.weight", "2.weight", "5.weight"]


def test_copies_pickles_and_files_are_the_same_network(tmp_path: Path) -> None:
    data = Dataset(PIXELS.reshape(30, 36), LABELS, scale=1 / 255)
    trainer = Trainer(Sequential(small(), backend="cpu", seed=2), optimizer=SGD(0.05, momentum=0.9))
    trainer.fit(data, 2, 8)
    expected = trainer.model(data)
    save_model(trainer.model, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors", "cpu")
    assert [*loaded] == small()
    np.testing.assert_array_equal(loaded(data), expected)
    others = [copy.deepcopy(trainer), pickle.loads(pickle.dumps(trainer))]
    trainer.fit(data, 2, 8)
    for other in others:
        np.testing.assert_array_equal(other.model(data), expected)
        other.fit(data, 2, 8)
        np.testing.assert_array_equal(other.model.flat_parameters, trainer.model.flat_parameters)
        np.testing.assert_array_equal(other.model.store.flat_state, trainer.model.store.flat_state)


def test_a_run_goes_on_from_a_checkpoint_bit_for_bit(tmp_path: Path) -> None:
    data = Dataset(PIXELS.reshape(30, 36), LABELS, scale=1 / 255)

    def trainer(*callbacks: Callback) -> Trainer:
        model = Sequential(small(), backend="cpu", seed=2)
        return Trainer(model, optimizer=SGD(0.05, momentum=0.9), callbacks=callbacks, clip_norm=1.0)

    whole = trainer()
    whole.fit(data, 4, 8)
    with pytest.raises(Killed):
        trainer(Checkpoint(tmp_path / "run", steps=3), Kill(10)).fit(data, 4, 8)
    resumed = trainer(Checkpoint(tmp_path / "run", steps=3))
    resumed.resume(tmp_path / "run")
    assert 0 < resumed.model.step < 10
    resumed.fit(data, 4, 8)
    np.testing.assert_array_equal(resumed.model.flat_parameters, whole.model.flat_parameters)
    np.testing.assert_array_equal(resumed.model.store.flat_state, whole.model.store.flat_state)
    assert resumed.history["loss"] == whole.history["loss"]


def test_a_summary_counts_each_window() -> None:
    model = Sequential(small(), backend="cpu")
    lines = {layer.name: layer for layer in model.summary(batch_size=1).layers}
    products = {"2": 36 * 9 * 4, "5": 4 * 4 * 2 * 6, "10": 4 * 4 * 6 * 5, "12": 20 * 3}
    assert {name: line.forward for name, line in lines.items() if line.forward} == {
        name: 2 * count for name, count in products.items()
    }
    assert (lines["2"].backward, lines["5"].backward) == (2 * products["2"], 4 * products["5"])
    assert (lines["5"].parameters, lines["6"].parameters, lines["6"].state) == (48, 12, 12)
    assert [line.output_shape for line in lines.values()][1:5] == [(6, 6, 1), (6, 6, 4), (6, 6, 4), (3, 3, 4)]
    unknown = Sequential(Conv2d(1, 4, 3), GlobalAvgPool2d(), Linear(4, 2), backend="cpu")
    assert [line.output_shape for line in unknown.summary().layers] == [None, None, (2,)]
    Trainer(unknown).fit(PIXELS, LABELS % 2)
    assert [line.output_shape for line in unknown.summary().layers] == [(4, 4, 4), (4,), (2,)]


def globally_pooled() -> list[Layer]:
    return [
        Conv2d(1, 4, (2, 3), stride=(1, 2), padding=(1, 0), activation="gelu"), GELU(), MaxPool2d(2, 1, padding=1),
        GlobalMaxPool2d(), Reshape(2, 2, 1), AvgPool2d(2, 1, padding=1, count_include_pad=False), BatchNorm2d(1),
        GlobalAvgPool2d(), Linear(1, 3), Softmax(),
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layers", [small, globally_pooled])
def test_backends_agree_step_by_step(layers: Callable[[], list[Layer]], dtype: str) -> None:
    """Within the bounds of each operation, which a fault of a ten-thousandth exceeds."""

    def make(on: Backend) -> Trainer:
        return Trainer(Sequential(layers(), backend=on), optimizer=SGD(0.1, momentum=0.9))

    which = [("cpu", True), ("cpu", False), ("array_api_strict", False), EMULATED]
    result = compare_backends(make, [made(each, dtype) for each in which], (PIXELS, LABELS), steps=6)
    assert result.agrees, str(result)


@pytest.mark.parametrize(
    ("operation", "position"),
    [
        ("conv2d", "2"),
        ("conv2d_backward", "10"),
        ("max_pool2d", "4"),
        ("avg_pool2d", "8"),
        ("avg_pool2d_backward", "8"),
    ],
)
def test_an_operation_that_is_off_is_found(monkeypatch: pytest.MonkeyPatch, operation: str, position: str) -> None:
    wrong = get_backend("cpu")
    right = getattr(wrong, operation)

    def off(*given: Any, **settings: Any) -> Any:
        result = right(*given, **settings)
        changed = result[2] if operation == "conv2d_backward" else result
        changed *= 1.0001
        return result

    monkeypatch.setattr(wrong, operation, off)
    result = compare_backends(
        lambda on: Trainer(Sequential(small(), backend=on), optimizer=SGD(0.1)),
        {"right": get_backend("cpu"), "wrong": wrong},
        (PIXELS, LABELS),
        steps=2,
    )
    assert not result.agrees
    assert result.findings["wrong"].position == position, str(result)


class Peaks(Callback):
    """How much memory was taken at most within each batch of the second epoch, beside what there was before."""

    reads_gradients = False

    def __init__(self) -> None:
        self.found: list[int] = []

    def on_batch_end(self, trainer: Trainer, rows: int) -> None:
        if trainer.epoch == 2:
            if tracemalloc.is_tracing():
                before, peak = tracemalloc.get_traced_memory()
                self.found.append(peak - before)
            else:
                tracemalloc.start()
            tracemalloc.reset_peak()


@pytest.mark.parametrize("recorded", [True, False])
def test_a_step_takes_no_memory_once_every_shape_was_seen(recorded: bool) -> None:
    """Nothing as large as one of its arrays: the smallest on the way has 200,000 bytes. (NumPy takes 65,000 for
    buffers of its own.)"""
    layers = [
        Conv2d(1, 8, 3, padding="same"), BatchNorm2d(8), ReLU(), MaxPool2d(2), Dropout(0.1), Conv2d(8, 8, 3, 2, 1),
        AvgPool2d(2, padding=1), Conv2d(8, 128, 1, activation="gelu"),
        Conv2d(128, 128, 3, groups=128, activation="silu"), GlobalAvgPool2d(), Linear(128, 3), Softmax(),
    ]  # fmt: skip
    x, watching = RNG.normal(size=(256, 28, 28)).astype("float32"), Peaks()
    backend = get_backend("cpu") if recorded else eager(get_backend("cpu"))
    trainer = Trainer(Sequential(*layers, backend=backend), optimizer=SGD(0.1, momentum=0.9), callbacks=[watching])
    try:
        trainer.fit(x, RNG.integers(0, 3, 256), epochs=2, batch_size=64)
    finally:
        tracemalloc.stop()
    assert len(watching.found) >= 2
    assert max(watching.found) < 100_000
