"""Training on rows that are larger than memory: the bits of training in memory in the same order, on every device."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends import Backend
from backends.cuda.cupy_backend import CupyBackend
from nn import (
    SGD,
    Adam,
    Augment,
    BatchNorm,
    DataError,
    Dataset,
    Dropout,
    Linear,
    OutOfMemoryError,
    ReLU,
    Sequential,
    Sigmoid,
    Softmax,
    Standardize,
    Trainer,
    streamed_feed,
)
from nn.data.streamed import StreamedDataset, windows
from nn.data.streamed.order import ALL_LANES, Order
from nn.feed import AugmentedFeed
from nn.streamed_feed import StreamedFeed
from nn.verify.gradients import check_gradients
from tests.helpers.emulated_cuda import EmulatedCudaDevice, launched, needs_compiler
from tests.helpers.streamed import CountingSource, reading_threads
from tests.helpers.with_emulated import EMULATED, made

RNG = np.random.default_rng(7)
N, BATCH, WINDOW = 216, 16, 70  # windows of 64, 64, 64 and 24 rows
PIXELS = RNG.integers(0, 256, (N, 36), dtype=np.uint8)
FLOATS = RNG.standard_normal((N, 36)).astype(np.float32)
LABELS = RNG.integers(0, 4, N)
WEIGHTS = RNG.uniform(0, 2, N)
DEVICES = [("cpu", True), ("cpu", False), ("numba", True), ("array_api_strict", False), EMULATED]


def network(backend: Backend | str = "cpu", *before: Any) -> Sequential:
    layers = (*before, Linear(36, 12), BatchNorm(12), ReLU(), Dropout(0.3), Linear(12, 4), Softmax())
    return Sequential(*layers, backend=backend, seed=5)


def trainer_of(backend: Backend | str = "cpu", **options: Any) -> Trainer:
    return Trainer(network(backend), **{"optimizer": SGD(0.1, momentum=0.9)} | options)


def streamed(x: np.ndarray = PIXELS, y: Any = LABELS, **options: Any) -> StreamedDataset:
    scale = {"scale": 1 / 255} if x.dtype == np.uint8 else {}
    return StreamedDataset(x, y, **{"window": WINDOW, "block": 3} | scale | options)


def order_of(data: StreamedDataset, seed: int = 5, batch: int = BATCH) -> Order:
    return Order.of(len(data), data.window, data.block, batch, seed=seed)


def in_memory(trainer: Trainer, data: StreamedDataset, epochs: int = 3, **options: Any) -> Trainer:
    """The same training in memory, on rows that are in the order of each epoch already."""
    whole = data[:]
    for epoch in range(1, epochs + 1):
        trainer.fit(whole[order_of(data).epoch(epoch)], 1, BATCH, shuffle=False, **options)
    return trainer


def state(trainer: Trainer) -> dict[str, bytes]:
    arrays = trainer.model.state_dict() | {
        f"optimizer.{name}": trainer.backend.to_numpy(array) for name, array in trainer.optimizer.state.items()
    }
    return {name: array.tobytes() for name, array in arrays.items()}


def told(trainer: Trainer) -> list[tuple[float, float]]:
    return [(record["loss"], record["accuracy"]) for record in trainer.history]


# ---- the same bits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", DEVICES, ids=lambda which: "/".join(map(str, which)))
def test_a_streamed_run_is_the_run_in_memory_in_its_order(which: tuple[str, bool]) -> None:
    data = streamed(weights=WEIGHTS)
    found, expected = (trainer_of(made(which, "float32")) for _ in range(2))
    launched.names.clear()
    found.fit(data, 3, BATCH)
    if which == EMULATED:  # reading ahead disturbs no capture
        assert found.backend.why_eager == ""
        assert launched.count("graph") > 3 * 10
    in_memory(expected, data)
    assert state(found) == state(expected)
    assert told(found) == told(expected)
    assert found.evaluate(data) == expected.evaluate(data[:])
    np.testing.assert_array_equal(found.predict_proba(data), expected.predict_proba(data[:]))
    np.testing.assert_array_equal(found.losses(data, 32), expected.losses(data[:], 32))
    assert not reading_threads()


RUNS: dict[str, Callable[[], dict[str, Any]]] = {
    "adam": lambda: {"optimizer": Adam(0.01)},
    "accumulate": lambda: {"optimizer": SGD(0.1, momentum=0.9), "accumulate": 3},
    "clipped and averaged": lambda: {"optimizer": Adam(0.01), "clip_norm": 0.5, "average": 0.9},
    "blocks": lambda: {"blocks": 4},
}


@pytest.mark.parametrize("name", RUNS)
def test_whatever_is_around_a_step_has_the_same_bits(name: str) -> None:
    data = streamed(FLOATS)
    found, expected = trainer_of(**RUNS[name]()), trainer_of(**RUNS[name]())
    found.fit(data, 3, BATCH)
    in_memory(expected, data)
    assert state(found) == state(expected)


@pytest.mark.parametrize("batch", [BATCH, 64, 100, None], ids=str)
def test_what_one_window_holds_is_trained_as_in_memory(batch: int | None) -> None:
    source = CountingSource(PIXELS)
    data = StreamedDataset(source, LABELS, window=N, scale=1 / 255, weights=WEIGHTS)
    source.forget()
    found, expected = trainer_of(), trainer_of()
    found.fit(data, 4, batch, validation=0.2, class_weight="balanced")
    assert source.rows == N  # once, whatever the number of epochs
    expected.fit(Dataset(PIXELS, LABELS, scale=1 / 255, weights=WEIGHTS), 4, batch, validation=0.2,
                 class_weight="balanced")  # fmt: skip
    assert state(found) == state(expected)
    assert [record["val_loss"] for record in found.history] == [record["val_loss"] for record in expected.history]


@pytest.mark.parametrize("x", [PIXELS, FLOATS], ids=["pixels", "floats"])
def test_without_a_shuffle_rows_come_as_they_are_stored(x: np.ndarray) -> None:
    data = streamed(x)
    found, expected = trainer_of(), trainer_of()
    found.fit(data, 2, BATCH, shuffle=False)
    expected.fit(data[:], 2, BATCH, shuffle=False)
    assert state(found) == state(expected)


def test_rows_beyond_the_dtype_of_the_network_are_converted_or_refused() -> None:
    wide = FLOATS.astype(np.float64)
    found, expected = trainer_of(), trainer_of()
    found.fit(streamed(wide), 2, BATCH)
    in_memory(expected, streamed(wide), 2)
    assert state(found) == state(expected)
    wide[150, 3] = 1e300
    with pytest.raises(DataError, match=r"x\[150, 3\] is 1e\+300, but the network computes in float32"):
        trainer_of().fit(streamed(wide), 2, BATCH)


@pytest.mark.parametrize("most", [0, 1 << 26], ids=["read with the rows", "in memory"])
def test_targets_are_read_once_or_with_their_rows(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nn.data.streamed.reader.MOST_TARGETS", most)
    source = CountingSource(LABELS, "y")
    whole = streamed(y=source, weights=WEIGHTS)
    for data in (whole, whole.split(0.1)[0]):
        source.forget()
        found, expected = trainer_of(), trainer_of()
        found.fit(data, 3, BATCH)
        if data is whole:
            assert source.rows == (3 if most == 0 else 1) * N + N + 1  # the others are looked at before training begins
        in_memory(expected, data)
        assert state(found) == state(expected)

    def fits(y: np.ndarray) -> None:
        model = Sequential(Linear(36, 2), Sigmoid(), backend="cpu")
        Trainer(model, "binary_cross_entropy").fit(streamed(y=y), 1, BATCH)

    values = RNG.uniform(0, 1, (N, 2)).astype(np.float32)
    fits(values)
    values[N - 7, 1] = 1.5
    with pytest.raises(DataError, match=rf"\b{N - 7}\b"):
        fits(values)


class LabelsAs:
    """Labels in another form."""

    floats = LABELS.astype(np.float32)
    column = LABELS[:, None]
    one_hot = np.eye(4, dtype=np.float32)[LABELS]


@pytest.mark.parametrize("form", ["floats", "column", "one_hot"])
def test_labels_may_be_stored_as_numbers_or_one_hot(form: str) -> None:
    found, expected = trainer_of(metrics=["macro_f1"]), trainer_of(metrics=["macro_f1"])
    data = streamed(y=getattr(LabelsAs, form))
    found.fit(data, 2, BATCH, validation=data)
    in_memory(expected, streamed(), 2)
    assert state(found) == state(expected)
    assert found.history[-1]["val_macro_f1"] == expected.evaluate(streamed()[:])["macro_f1"]


def test_values_are_fitted_and_standardized() -> None:
    x, y = 50 * FLOATS + 3, FLOATS[:, :2] * 2

    def trainer() -> Trainer:
        model = Sequential(Standardize(36), Linear(36, 5), ReLU(), Linear(5, 2), backend="cpu", seed=5)
        return Trainer(model, "mean_squared_error", Adam(0.01), metrics=["mae"])

    data = streamed(x, y)
    found, expected = trainer(), trainer()
    found.fit(data, 2, BATCH)
    for epoch in (1, 2):  # statistics are learnt once, of the rows as they are stored
        if epoch == 1:
            expected.fit(data[:], 0)
        whole = data[:]
        order = order_of(data).epoch(epoch)
        expected.fit(whole[order], 1, BATCH, shuffle=False)
    for name, values in expected.model.state_dict().items():
        np.testing.assert_allclose(found.model.state_dict()[name], values, rtol=1e-4, atol=1e-6)
    assert found.evaluate(data)["mae"] == pytest.approx(expected.evaluate(data[:])["mae"], rel=1e-4)


# ---- augmentation ----------------------------------------------------------------------------------------------------

AUGMENT = Augment(shift=1, rotation=10, cutout=2)


@pytest.mark.parametrize(
    "which", [("cpu", True), ("cpu", False), EMULATED], ids=lambda which: "/".join(map(str, which))
)
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_picture_is_distorted_by_its_number_in_the_data(which: tuple[str, bool], shuffle: bool) -> None:
    data = streamed(image_shape=(6, 6))

    def seen(rows_of: Any) -> dict[int, bytes]:
        trainer = trainer_of(made(which, "float32"), augment=AUGMENT)
        with trainer.backend.use():
            rows = trainer.upload(rows_of)
            rows.reserve(BATCH, ALL_LANES)
            feed: Any = trainer.feed(rows, shuffle, augmented=True)
            assert isinstance(feed, AugmentedFeed)
            feed.begin_epoch(2, BATCH)
            found = dict[int, bytes]()
            for start in range(0, N, BATCH):
                count = min(BATCH, N - start)
                position = feed.position(start)
                x = np.array(trainer.backend.to_numpy(feed.batch(position, count)[0]))
                numbers = trainer.backend.to_numpy(feed.numbers)[position : position + count].tolist()
                found |= dict(zip(numbers, (row.tobytes() for row in x), strict=True))
            rows.close()
        return found

    expected = seen(data[:])
    assert len(expected) == N
    assert seen(data) == expected


def test_training_on_distorted_pictures_is_recorded_and_repeats() -> None:
    data = streamed(image_shape=(6, 6))
    found, again = trainer_of(augment=AUGMENT), trainer_of(augment=AUGMENT)
    for trainer in (found, again):
        trainer.fit(data, 2, BATCH)
    plain = trainer_of()
    plain.fit(data, 2, BATCH)
    assert state(found) == state(again) != state(plain)


# ---- what is asked of the rows ---------------------------------------------------------------------------------------


def test_a_fraction_is_held_out_and_class_weights_count() -> None:
    data = streamed()
    rest, held_out = data.split(0.25, seed=5)
    found, expected = trainer_of(), trainer_of()
    found.fit(data, 2, BATCH, validation=0.25, class_weight="balanced")
    expected.fit(rest, 2, BATCH, validation=held_out[:], class_weight="balanced")
    assert state(found) == state(expected)
    assert found.history["val_loss"] == expected.history["val_loss"]
    weighted, given = trainer_of(), trainer_of()
    weighted.fit(data, 2, BATCH, sample_weight=WEIGHTS)
    given.fit(streamed(weights=WEIGHTS), 2, BATCH)
    assert state(weighted) == state(given) != state(found)


@pytest.mark.parametrize("validation", [0.7, 160])
def test_what_is_left_of_a_split_may_fit_into_a_window(validation: float) -> None:
    found, expected = trainer_of(), trainer_of()
    found.fit(streamed(), 2, None, validation=validation)
    rest, held_out = streamed().split(validation, seed=5)
    expected.fit(rest[:], 2, None, validation=held_out[:])
    assert state(found) == state(expected)
    assert found.history["val_loss"] == expected.history["val_loss"]


def test_chunks_are_read_whole_but_for_the_ends_of_windows() -> None:
    """A chunk is unpacked whatever is wanted of it."""
    source = CountingSource(PIXELS, chunk=4)
    data = StreamedDataset(source, LABELS, window=WINDOW, block=8, scale=1 / 255)
    assert data.units.high == 255
    for run in (partial(trainer_of().fit, data, 1, BATCH), partial(trainer_of().predict, data, 32)):
        source.forget()
        run()
        parts = [rows for rows in source.ranges if rows.start % 4 or (rows.stop % 4 and rows.stop < N)]
        assert len(parts) <= 2 * 3  # of three ends of windows
        unpacked = sum((rows.stop - 1) // 4 - rows.start // 4 + 1 for rows in source.ranges)
        assert unpacked <= N // 4 + 3


def test_uploaded_rows_serve_several_fits() -> None:
    found, expected = trainer_of(), trainer_of()
    rows = found.upload(streamed())
    found.fit(rows, 2, BATCH)
    found.fit(rows, 1, 100)  # a batch is larger than the window
    found.fit(rows, 1, BATCH)
    for epochs, batch in ((2, BATCH), (1, 100), (1, BATCH)):
        expected.fit(streamed(), epochs, batch)
    assert state(found) == state(expected)
    assert not reading_threads()


def test_what_needs_all_rows_at_once_is_refused() -> None:
    data, trainer = streamed(), trainer_of()
    for batch in (None, N, N + 1):
        with pytest.raises(DataError, match=r"batch would have all 216 rows .* only 70 .* a batch size of at most 70"):
            trainer.fit(data, 1, batch)
    with pytest.raises(DataError, match=r"gradients are computed from all rows at once.*data\[:1000\]"):
        trainer.gradients(data)
    assert trainer.gradients(data[:50]).keys() == trainer.model.gradients.keys()
    with pytest.raises(DataError, match=r"the outputs of all layers are computed from all rows at once"):
        trainer.model.layer_outputs(data)
    with pytest.raises(ValueError, match="keep_scaled"):
        trainer.upload(data, keep_scaled=True)
    with pytest.raises(DataError, match=r"these rows have no targets; pass \(x, y\)"):
        trainer.fit(StreamedDataset(PIXELS, window=WINDOW), 1, BATCH)
    with pytest.raises(DataError, match=r"y\[\d+\] is 3"):
        Trainer(Sequential(Linear(36, 3), backend="cpu")).fit(data, 1, BATCH)
    assert (trainer.epoch, len(trainer.history)) == (0, 0)


def test_gradients_are_not_checked_on_more_than_a_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "WINDOW_BYTES", 36 * WINDOW)
    np.save(tmp_path / "x.npy", PIXELS)
    model = Sequential(Linear(36, 4), backend="cpu", dtype="float64")
    with pytest.raises(DataError, match="gradients are computed from all rows at once"):
        check_gradients(model, "softmax_cross_entropy", tmp_path / "x.npy", LABELS)


@needs_compiler
def test_a_window_for_which_there_is_no_memory_is_told() -> None:
    backend = CupyBackend(EmulatedCudaDevice())
    trainer = trainer_of(backend)
    allocate = backend.device.cupy.allocate
    limit, allocate.limit = allocate.limit, 100_000
    try:
        with pytest.raises(OutOfMemoryError, match=r"two windows of 2,000 rows.*window=") as raised:
            trainer.fit(streamed(np.tile(PIXELS, (20, 1)), np.tile(LABELS, 20), window=2000), 1, BATCH)
    finally:
        allocate.limit = limit
    assert "use a smaller one" in str(raised.value)
    trainer.fit(streamed(), 1, BATCH)


def test_rows_without_targets_are_predicted_by_windows() -> None:
    trainer = trainer_of()
    trainer.fit(streamed(), 1, BATCH)
    source = CountingSource(PIXELS)
    rows = StreamedDataset(source, window=WINDOW, scale=1 / 255)
    expected = trainer.model(rows[:], 32)
    source.forget()
    np.testing.assert_array_equal(trainer.model(rows, 32), expected)
    assert source.rows == N
    assert not reading_threads()


# ---- what is recorded ------------------------------------------------------------------------------------------------


def test_steps_are_recorded_once_and_launched_within_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ring and its positions leave the recorded step as it is: its Python code runs once for each size of a batch,
    and so many steps are launched in one call as a window has."""
    counts = list[int]()
    launched = list[tuple[int, int, int]]()

    class Counting(StreamedFeed):
        def batch(self, start: Any, count: int, number: Any = 0, *, offset: int = 0) -> Any:
            counts.append(count)
            return super().batch(start, count, number, offset=offset)

    class Launches(Trainer):
        def steps(self, epoch: Any, start: int, count: int, most: int = 1) -> int:
            launched.append((start, count, most))
            return super().steps(epoch, start, count, most)

    monkeypatch.setattr(streamed_feed, "StreamedFeed", Counting)
    trainer = Launches(network(), optimizer=SGD(0.1, momentum=0.9))
    trainer.fit(streamed(), 4, BATCH)
    expected = trainer_of()
    in_memory(expected, streamed(), 4)
    assert state(trainer) == state(expected)
    assert sorted(counts) == [8, BATCH]
    assert trainer.model.step == 4 * 14
    assert all(start // 64 == (start + count * most - 1) // 64 for start, count, most in launched)
    assert max(most for _, _, most in launched) == 4


def test_files_are_read_ahead_by_threads(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", PIXELS)
    np.save(tmp_path / "y.npy", LABELS)
    found, expected = trainer_of(), trainer_of()
    found.fit(StreamedDataset(tmp_path / "x.npy", tmp_path / "y.npy", window=WINDOW, block=3, scale=1 / 255), 3, BATCH)
    in_memory(expected, streamed())
    assert state(found) == state(expected)
    source = CountingSource(PIXELS)
    data = StreamedDataset(source, LABELS, window=WINDOW, block=3, scale=1 / 255)
    assert data.units.high == 255  # a sample of rows is looked at
    source.forget()
    trainer_of().fit(data, 3, BATCH)
    assert source.threads
    assert all(name.startswith("rows that are read ahead") for name in source.threads)
    assert source.rows == 3 * N  # nothing is read for an epoch that is none
