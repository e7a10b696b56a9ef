"""Pictures as training with random distortions sees them, and the figure of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nn import Augment, DataError, Dataset, Linear, Sequential, Softmax, Trainer, plots
from nn.report.distorted import distorted

RNG = np.random.default_rng(3)
PIXELS = RNG.integers(0, 256, (12, 6, 5), dtype=np.uint8)
DATA = Dataset(PIXELS.reshape(12, 30), RNG.integers(0, 4, 12), scale=1 / 255, image_shape=(6, 5))
AUGMENT = Augment(shift=1, rotation=20, elastic=(6, 2), fill=9)


def test_they_are_those_that_a_trainer_of_that_seed_sees() -> None:
    seen = distorted(DATA, AUGMENT, 3, seed=7)
    assert seen.shape == (3, 12, 6, 5, 1)
    model = Sequential(Linear(30, 4), Softmax(), backend="cpu", dtype="float64", seed=7)
    trainer = Trainer(model, augment=AUGMENT)
    feed = trainer.feed(trainer.upload(DATA), augmented=True)
    for epoch in (1, 2, 3):
        feed.begin_epoch(epoch)
        np.testing.assert_array_equal(seen[epoch - 1].reshape(12, 30), feed.batch(0, 12)[0])
    assert not np.array_equal(seen[0], seen[1])


def test_without_distortion_they_are_the_pictures() -> None:
    np.testing.assert_array_equal(distorted(DATA, Augment(), 2)[1, ..., 0], PIXELS)
    colours = Dataset(RNG.uniform(size=(3, 4, 5, 3)), np.zeros(3, int), scale=2.0, shift=-1.0)
    np.testing.assert_array_equal(distorted(colours, Augment(), 1)[0], colours.x)


def test_rows_that_are_no_pictures_are_refused() -> None:
    with pytest.raises(DataError, match="augment distorts pictures"):
        distorted(Dataset(RNG.uniform(size=(3, 4)), np.zeros(3, int)), AUGMENT, 1)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_figure_has_each_picture_and_what_became_of_it(channels: int) -> None:
    pytest.importorskip("matplotlib")
    x = RNG.integers(0, 256, (12, 6, 5, channels), dtype=np.uint8)
    x[0, 0, 0], x[0, 0, 1] = 0, 255
    data = Dataset(x, DATA.y, scale=1 / 255)
    figure = plots.augmentation(AUGMENT, data, count=4, epochs=2, seed=7)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["as they are", "epoch 1", "epoch 2"]
    assert figure.get_suptitle().replace("\n", " ") == "Training pictures: shift 1, rotation 20, elastic 6 2, fill 9"
    (drawn,) = axes.images
    image = np.asarray(drawn.get_array())
    expected = np.concatenate([x[None, :4], distorted(data[:4], AUGMENT, 2, seed=7)]) / 255
    expected = expected if channels == 3 else expected.mean(axis=4)
    for epoch in range(3):
        for i in range(4):
            found = image[epoch * 7 : epoch * 7 + 6, i * 6 : i * 6 + 5]
            np.testing.assert_allclose(found, expected[epoch, i], atol=1e-12)


def test_the_figure_takes_arrays(tmp_path: Path) -> None:
    """And a file of them."""
    pytest.importorskip("matplotlib")
    np.save(tmp_path / "x.npy", PIXELS)
    augment, given = Augment(rotation=20), (DATA, PIXELS, PIXELS / 255, tmp_path / "x.npy")
    wanted, *found = (plots.augmentation(augment, data, epochs=1).axes[0].images[0].get_array() for data in given)
    for image in found:
        np.testing.assert_allclose(np.asarray(image), np.asarray(wanted), atol=1e-6)


def test_what_the_figure_is_given_is_checked() -> None:
    pytest.importorskip("matplotlib")
    for arguments, complaint in (
        ((None, DATA), "augment must be an Augment, not None"),
        ((AUGMENT, [["a", "b"]]), "x has text in it"),
        ((AUGMENT, PIXELS.reshape(12, 30)[:, :29]), r"rows of shape \(29,\) are not known to be any"),
        ((AUGMENT, DATA, 0), "count must be a whole number of at least 1, not 0"),
        ((AUGMENT, DATA, 3, 1.5), "epochs must be a whole number of at least 1, not 1.5"),
        ((AUGMENT, DATA, 3, 1, -1), "seed must be a whole number of at least 0, not -1"),
    ):
        with pytest.raises((TypeError, ValueError), match=complaint):
            plots.augmentation(*arguments)
