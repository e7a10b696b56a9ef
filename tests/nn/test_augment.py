"""Training on pictures that are distorted at random: which ones, how, and that nothing else changes."""

from __future__ import annotations

import copy
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends import Backend, get_backend
from backends.cpu.numpy_backend import NumpyBackend
from nn import (
    SGD,
    Augment,
    Callback,
    ChannelsLast,
    Checkpoint,
    CheckpointError,
    Conv2d,
    DataError,
    Dataset,
    Dropout,
    Flatten,
    Layer,
    Linear,
    ReLU,
    Reshape,
    Sequential,
    Softmax,
    Trainer,
)
from nn.feed import AugmentedFeed, Feed
from nn.verify.compare import compare
from tests.helpers.emulated_cuda import needs_compiler
from tests.helpers.recorded_runs import Outcome, eager, recorded
from tests.helpers.with_emulated import EMULATED, WITH_EMULATED, made

RNG = np.random.default_rng(4)
PICTURES = RNG.integers(0, 256, (70, 6, 7), dtype=np.uint8)
LABELS = RNG.integers(0, 5, 70)
FLAT = Dataset(PICTURES.reshape(70, 42), LABELS, scale=1 / 255, image_shape=(6, 7))
DEVICES = {"cpu": ("cpu", True), "cpu/reference": ("cpu", False), "gpu": EMULATED}
#: All of it.
EVERYTHING = Augment(
    shift=1.5, rotation=20, scale=0.2, shear=10, elastic=(8, 2), flip_horizontal=True, flip_vertical=True, cutout=2,
    fill=30,
)  # fmt: skip


def network(backend: Backend | str = "cpu", first: Layer | None = None) -> Sequential:
    layers = [*([first] if first else []), Linear(42, 9), ReLU(), Dropout(0.3), Linear(9, 5), Softmax()]
    return Sequential(layers, backend=backend, seed=3)


def trainer_of(backend: Backend | str = "cpu", augment: Augment | None = EVERYTHING, **options: Any) -> Trainer:
    return Trainer(network(backend), optimizer=SGD(0.2, momentum=0.9), augment=augment, **options)


def batches(trainer: Trainer, data: Dataset, epoch: int, size: int, shuffled: bool = True) -> dict[int, Any]:
    """Each row of an epoch as a step sees it, by its number."""
    with trainer.backend.use():
        rows = trainer.upload(data)
        feed = trainer.feed(rows, shuffled, augmented=True)
        feed.begin_epoch(epoch)
        order = range(len(data)) if feed.order is None else trainer.backend.to_numpy(feed.order).tolist()
        seen: dict[int, Any] = {}
        for start in range(0, len(data), size):
            x, _, _ = feed.batch(start, min(size, len(data) - start), start // size)
            seen |= dict(zip(order[start:], np.array(trainer.backend.to_numpy(x)), strict=False))
    return seen


# ---- which pictures --------------------------------------------------------------------------------------------------


def test_a_picture_is_distorted_by_seed_epoch_and_row_alone() -> None:
    trainer = trainer_of()
    first = batches(trainer, FLAT, 1, 16)
    assert [x.shape for x in first.values()] == [(42,)] * 70
    for size, shuffled in ((70, True), (7, False), (33, True)):
        again = batches(trainer_of(), FLAT, 1, size, shuffled)
        assert all(np.array_equal(again[row], x) for row, x in first.items())
    model = Sequential(network().layers, seed=4)
    for other in (batches(trainer, FLAT, 2, 16), batches(Trainer(model, augment=EVERYTHING), FLAT, 1, 16)):
        assert not any(np.array_equal(other[row], x) for row, x in first.items())
    alike = Dataset(np.repeat(PICTURES[:1].reshape(1, 42), 70, axis=0), LABELS, scale=1 / 255, image_shape=(6, 7))
    assert len(np.unique(np.stack([*batches(trainer, alike, 1, 16).values()]), axis=0)) == 70


@pytest.mark.parametrize("which", WITH_EMULATED)
def test_every_backend_shows_the_same_pictures(which: tuple[str, bool]) -> None:
    expected = batches(trainer_of(get_backend("cpu", "float64", fused=False)), FLAT, 3, 16)
    found = batches(trainer_of(made(which, "float32")), FLAT, 3, 32)
    for row, x in expected.items():
        np.testing.assert_allclose(found[row], x, atol=2e-2)  # in units of 255


def test_rows_may_be_pictures_flat_or_scaled_already() -> None:
    expected = batches(trainer_of(), FLAT, 1, 16)  # not scaled: the first product does that
    for data in (Dataset(PICTURES, LABELS, scale=1 / 255), Dataset(PICTURES[..., None], LABELS, scale=1 / 255)):
        for trainer, shape in (
            (trainer_of(), (42,)),
            (Trainer(network(first=Flatten()), augment=EVERYTHING), data.x.shape[1:]),
        ):
            found = batches(trainer, data, 1, 16)
            assert {x.shape for x in found.values()} == {shape}
            assert all(np.array_equal(found[row].ravel(), x) for row, x in expected.items())
    floats = Dataset(PICTURES.reshape(70, 42).astype("f4"), LABELS, scale=1 / 255, shift=0.25, image_shape=(6, 7))
    for row, x in batches(trainer_of(), floats, 1, 16).items():
        np.testing.assert_allclose(x, expected[row] / 255 + 0.25, atol=1e-5)
    trainer = trainer_of()
    rows = trainer.upload(floats, keep_scaled=True)
    feed = trainer.feed(rows, augmented=True)
    feed.begin_epoch(1)
    x, _, _ = feed.batch(0, 70)
    np.testing.assert_allclose(x, np.stack([expected[row] for row in range(70)]) / 255 + 0.25, atol=1e-5)


def test_a_network_that_begins_with_reshape_says_that_flat_rows_are_pictures() -> None:
    model = Sequential(Reshape(6, 7, 1), Conv2d(1, 2, 3), Flatten(), Linear(40, 5), Softmax(), backend="cpu", seed=3)
    flat = Dataset(FLAT.x, LABELS, scale=1 / 255)
    expected = batches(trainer_of(), FLAT, 1, 16)
    for row, x in batches(Trainer(model, augment=EVERYTHING), flat, 1, 16).items():
        np.testing.assert_array_equal(x, expected[row])


def test_nothing_to_do_shows_pictures_as_they_are() -> None:
    for row, x in batches(trainer_of(augment=Augment()), FLAT, 1, 16).items():
        np.testing.assert_array_equal(x, FLAT.x[row])


def test_only_training_batches_are_distorted() -> None:
    plain, distorted = trainer_of(augment=None), trainer_of()
    assert type(plain.feed(plain.upload(FLAT), True, augmented=True)) is Feed
    assert type(distorted.feed(distorted.upload(FLAT), True)) is Feed
    assert type(distorted.feed(distorted.upload(FLAT), True, augmented=True)) is AugmentedFeed
    assert distorted.evaluate(FLAT) == plain.evaluate(FLAT)
    np.testing.assert_array_equal(distorted.predict(FLAT), plain.predict(FLAT))
    for name, gradient in plain.gradients(FLAT).items():
        np.testing.assert_array_equal(distorted.gradients(FLAT)[name], gradient)
    histories = [trainer.fit(FLAT, 2, 16, validation=FLAT) for trainer in (plain, distorted)]
    assert histories[0]["loss"] != histories[1]["loss"]
    assert histories[1][-1]["val_loss"] == pytest.approx(distorted.evaluate(FLAT)["loss"])


def test_a_setting_may_be_changed_between_epochs() -> None:
    class Ends(Callback):
        def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
            trainer.augment = EVERYTHING if epoch < 3 else None

    changing, fixed = trainer_of(augment=None), trainer_of()
    changing.fit(FLAT, 4, 16, callbacks=[Ends()])
    fixed.fit(FLAT, 2, 16)
    fixed.augment = None
    fixed.fit(FLAT, 2, 16)
    Outcome(changing).is_that_of(Outcome(fixed))


def test_the_first_layer_is_trained_on_what_lies_outside_as_the_network_sees_it() -> None:
    """A fill of 255 is white, whether or not the first product scales the rows."""
    white = Dataset(np.full((8, 42), 255, np.uint8), LABELS[:8], scale=1 / 255, image_shape=(6, 7))
    shifted = Dataset(white.x, white.y, scale=1 / 255, shift=-0.5, image_shape=(6, 7))
    far = Augment(shift=50, fill=255)
    assert {float(v) for x in batches(trainer_of(augment=far), white, 1, 8).values() for v in x} == {255.0}
    assert {float(v) for x in batches(trainer_of(augment=far), shifted, 1, 8).values() for v in x} == {0.5}


# ---- devices compared ------------------------------------------------------------------------------------------------


def compared(**options: Any) -> Any:
    """20 steps on every kind of device here."""
    backends = {name: made(which, "float32") for name, which in DEVICES.items()}
    return compare(lambda backend: trainer_of(backend, **options), backends, FLAT, 4, 16)


@needs_compiler
def test_devices_agree_within_rounding_of_what_they_distort() -> None:
    assert str(compared()).count("no difference beyond rounding in 20 steps") == len(DEVICES) - 1
    assert compared(accumulate=2).agrees


def test_what_is_beyond_rounding_is_found_in_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    right = NumpyBackend.warp

    def wrong(self: Any, x: Any, maps: Any, *fields: Any, **options: Any) -> Any:
        return right(self, x, maps + np.array([0, 0, 0, 0, 0, 1e-3, 0, 0], maps.dtype), *fields, **options)

    monkeypatch.setattr(NumpyBackend, "warp", wrong)
    backends = {name: made((name.partition("/")[0], "/" not in name), "float32") for name in ("cpu/reference", "cpu")}
    (finding,) = compare(trainer_of, backends, FLAT, 1, 16).findings.values()
    assert (finding.step, finding.phase, finding.tensor) == (1, "batch", "batch")
    assert 0.0 < finding.allowed < 0.01


def test_devices_must_distort_alike() -> None:
    names = iter([EVERYTHING, Augment(shift=1), None, None])
    with pytest.raises(ValueError, match="but the augment on cpu/reference is another"):
        compare(lambda backend: trainer_of(backend, next(names)), ["cpu", "cpu/reference"], FLAT)


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"shift": -1}, "shift must be a number of at least 0, not -1; it is in pixels"),
        ({"rotation": 181}, "rotation must be a number from 0 to 180, not 181; it is in degrees"),
        ({"scale": 1.0}, "scale must be a number of at least 0 and below 1, not 1.0; 0.15 is from 0.85 to 1.15"),
        ({"shear": 90}, "shear must be a number of at least 0 and below 90, not 90; it is in degrees"),
        ({"elastic": 34}, "elastic must be (alpha, sigma) or None, not 34"),
        ({"elastic": (34, 0)}, "sigma of elastic must be a number above 0, not 0; it is in pixels"),
        ({"elastic": (-1, 4)}, "alpha of elastic must be a number of at least 0, not -1"),
        ({"cutout": 1.5}, "cutout must be a whole number of at least 0, not 1.5"),
        ({"flip_vertical": 1}, "flip_vertical must be True or False, not 1"),
        ({"fill": math.nan}, "fill must be a finite number, not nan"),
        ({"rotate": 3}, "Augment has no setting 'rotate'; did you mean rotation?"),
    ],
)
def test_settings_out_of_range_are_refused_in_one_sentence(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        Augment(**settings)
    assert str(caught.value) == complaint


def test_rows_that_are_no_pictures_are_refused_before_anything_is_trained() -> None:
    trainer = trainer_of()
    with pytest.raises(DataError, match="augment distorts pictures, and rows of shape \\(42,\\) are not known to be"):
        trainer.fit(FLAT.x / 255.0, LABELS)
    assert trainer.epoch == 0
    first = Dataset(RNG.uniform(size=(9, 3, 7, 6)).astype("f4"), LABELS[:9])
    deep = Trainer(Sequential(Flatten(), Linear(126, 5), Softmax()), augment=EVERYTHING)
    with pytest.raises(DataError, match="seem to have their channels first; move them to the end"):
        deep.fit(first)
    last = Trainer(Sequential(ChannelsLast(), Flatten(), Linear(126, 5), Softmax()), augment=EVERYTHING)
    with pytest.raises(DataError, match=r"this network begins with ChannelsLast\(\); move the channels of the rows"):
        last.fit(first)
    with pytest.raises(TypeError, match="augment, unless it is None, must be an Augment, not 'shift'"):
        trainer_of(augment="shift")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"write Augment\(...\)"):
        trainer.augment = Augment  # type: ignore[assignment]


def test_an_augment_says_what_it_does() -> None:
    assert repr(Augment(shift=2, elastic=(34, 4))) == "Augment(shift=2, elastic=(34, 4))"
    assert str(EVERYTHING) == (
        "shift 1.5, rotation 20, scale 0.2, shear 10, elastic 8 2, flip horizontal, flip vertical, cutout 2, fill 30"
    )
    assert str(Augment()) == "nothing"
    assert Augment(**EVERYTHING.settings()) == EVERYTHING
    assert pickle.loads(pickle.dumps(EVERYTHING)) == copy.deepcopy(EVERYTHING) == EVERYTHING


# ---- recorded steps, copies, runs that go on -------------------------------------------------------------------------

#: Ways in which the steps of an epoch are made.
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulate": {"accumulate": 3},
    "around the update": {"clip_norm": 0.5, "average": 0.9},
}


def trained(trainer: Trainer, data: Any = FLAT, shuffle: bool = True, weights: bool = False) -> Outcome:
    trainer.fit(data, 3, 16, shuffle=shuffle, sample_weight=np.linspace(0.5, 2, 70) if weights else None)
    return Outcome(trainer)


class OnTheFly(Trainer):
    """Makes each step by its Python code."""

    def steps(self, epoch: Any, start: int, count: int, most: int = 1) -> int:
        step = self.backend.record(
            self.make_step(epoch.feed, self.plan(epoch.rows, optimizer=self.optimizer)), only_operations=False
        )
        return super().steps(epoch._replace(step=step), start, count, 1)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shuffle", [True, False])
def test_steps_in_parts_and_one_by_one_are_the_same(way: str, shuffle: bool) -> None:
    class EachBatch(Callback):
        reads_gradients = False

        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            pass

    together, alone = trainer_of(**WAYS[way]), trainer_of(callbacks=[EachBatch()], **WAYS[way])
    trained(together, shuffle=shuffle, weights=True).is_that_of(trained(alone, shuffle=shuffle, weights=True))


def test_a_recorded_step_on_the_cpu_is_the_step_itself() -> None:
    by_hand = OnTheFly(network(), optimizer=SGD(0.2, momentum=0.9), augment=EVERYTHING)
    trained(trainer_of()).is_that_of(trained(by_hand))


@needs_compiler
@pytest.mark.parametrize("way", WAYS)
def test_a_recorded_step_on_a_gpu_is_the_step_itself(way: str) -> None:
    outcomes = [trained(trainer_of(backend, **WAYS[way])) for backend in (recorded(), eager())]
    outcomes[0].is_that_of(outcomes[1])
    assert not outcomes[0].trainer.backend.why_eager


def test_a_copy_goes_on_as_the_trainer_would() -> None:
    trainer = trainer_of()
    trainer.fit(FLAT, 2, 16)
    twin = pickle.loads(pickle.dumps(trainer))
    assert twin.augment == EVERYTHING
    trained(trainer).is_that_of(trained(twin))


class Killed(Exception):
    pass


class Kill(Callback):
    reads_gradients = False

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_batch_end(self, trainer: Trainer, rows: int) -> None:
        self.batch -= 1
        if self.batch == 0:
            raise Killed


@pytest.mark.parametrize("backend", ["cpu", pytest.param("emulated", marks=needs_compiler)])
def test_a_run_that_is_killed_goes_on_bit_for_bit(tmp_path: Path, backend: str) -> None:
    for batch in (2, 5, 9):  # in the first epoch, at its end, in the second one
        whole, killed, resumed = (
            trainer_of(recorded() if backend == "emulated" else backend, accumulate=2) for _ in range(3)
        )
        whole.fit(FLAT, 3, 16)
        folder = tmp_path / str(batch)
        with pytest.raises(Killed):
            killed.fit(FLAT, 3, 16, callbacks=[Checkpoint(folder, steps=1), Kill(batch)])
        assert resumed.resume(folder)
        resumed.fit(FLAT, 3, 16, callbacks=[Checkpoint(folder, steps=1)])
        Outcome(resumed).is_that_of(Outcome(whole))


def test_a_run_with_another_setting_is_refused(tmp_path: Path) -> None:
    trainer_of().fit(FLAT, 1, 16, callbacks=[Checkpoint(tmp_path)])
    for other, text in (
        (Augment(shift=1), "its augment.shift is 1.5, and here 1"),
        (None, "its augment is .*, and here"),
    ):
        with pytest.raises(CheckpointError, match=text):
            trainer_of(augment=other).resume(tmp_path)
    plain = tmp_path / "plain"
    trainer_of(augment=None).fit(FLAT, 1, 16, callbacks=[Checkpoint(plain)])
    with pytest.raises(CheckpointError, match="its augment is None, and here"):
        trainer_of().resume(plain)
