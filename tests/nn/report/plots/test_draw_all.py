"""All pictures of a run: which there are, and their files."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nn import Dataset, History, Linear, Softmax, Trainer
from nn.layers import Conv2d, Flatten, ReLU, Reshape
from nn.report import plots
from tests.nn.report.plots.drawn import DIGITS, always, pictures_of, trained

EVERYTHING = ["cost.png", "confusion.png", "digits.png", "mistakes.png", "weights.png"]


def test_draw_all_of_a_convolutional_network(tmp_path: Path) -> None:
    trainer = trained(DIGITS, Reshape(8, 8, 1), Conv2d(1, 4, 3), ReLU(), Flatten(), Linear(144, 10), Softmax())
    names = ["cost.png", "confusion.png", "digits.png", "mistakes.png", "filters.png", "maps.png"]
    assert plots.draw_all(trainer, DIGITS, tmp_path, "true") == names


def test_draw_all_writes_everything(ten: Trainer, tmp_path: Path) -> None:
    assert plots.draw_all(ten, DIGITS, tmp_path, "true") == EVERYTHING
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(EVERYTHING)
    for name in EVERYTHING:
        content = (tmp_path / name).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert content.endswith(b"IEND\xaeB`\x82")
        assert b"Software" not in content
        assert len(content) < 200_000


def test_the_sizes_of_pictures_follow_from_what_they_show(ten: Trainer, tmp_path: Path) -> None:
    """In hundredths of an inch: room for every panel, class and picture."""
    found = {"losses": plots.cost_curve(History([{"epoch": 1, "loss": 0.9}])), "none": plots.cost_curve(History())}
    found["five"] = plots.cost_curve(History([{"epoch": 1, **dict.fromkeys("abcde", 1.0)}]))
    found |= {"history": plots.cost_curve(ten.history), "weights": plots.first_layer_weights(ten.model, (8, 8))}
    for count in (1, 25, 26):
        found[f"{count} digits"] = plots.digit_grid(ten, DIGITS, count)
    for classes in (2, 8, 40):
        data = Dataset(np.eye(4, dtype=np.float32), np.array([0, 0, 1, classes - 1]))
        found[f"{classes} classes"] = plots.confusion_heat_map(trained(data, Linear(4, classes), Softmax()), data)
    assert {name: tuple((figure.get_size_inches() * 100).round().tolist()) for name, figure in found.items()} == {
        "five": (1500, 760), "losses": (500, 380), "none": (500, 380), "history": (1000, 380), "weights": (600, 290),
        "1 digits": (600, 250), "25 digits": (650, 850), "26 digits": (910, 690),
        "2 classes": (520, 420), "8 classes": (620, 520), "40 classes": (1720, 1620),
    }  # fmt: skip
    plots.write_picture(found["losses"], tmp_path / "cost.png")
    width_and_height = (tmp_path / "cost.png").read_bytes()[16:24]
    assert struct.unpack(">II", width_and_height) == (500, 380)


def test_draw_all_writes_the_same_bytes_again_but_transposed(ten: Trainer, tmp_path: Path) -> None:
    contents = []
    for rows_are in ("true", "true", "predicted"):
        assert plots.draw_all(ten, replace(DIGITS, image_shape=None), tmp_path, rows_are) == EVERYTHING[:2]
        contents.append([(tmp_path / name).read_bytes() for name in EVERYTHING[:2]])
    assert contents[0] == contents[1]
    assert contents[1][0] == contents[2][0]
    assert contents[1][1] != contents[2][1]


def test_draw_all_without_epochs_or_test_rows(tmp_path: Path) -> None:
    trainer = always([0.0, 1.0], Softmax(), "softmax_cross_entropy")
    assert plots.draw_all(trainer, None, tmp_path, "true") == []
    data = pictures_of([1.0, 2.0], [1, 0])
    assert plots.draw_all(trainer, data, tmp_path, "true") == EVERYTHING[1:]
    assert (sorted(path.name for path in tmp_path.iterdir())) == sorted(EVERYTHING[1:])


def test_draw_all_of_a_regression(tmp_path: Path) -> None:
    data = Dataset(DIGITS.x, DIGITS.x[:, :1].astype(np.float32), 1 / 16)
    trainer = trained(data, Linear(64, 1), loss="mean_squared_error")
    assert plots.draw_all(trainer, data, tmp_path, "true") == ["cost.png", "values.png"]
    pictures = replace(data, image_shape=(8, 8))
    assert plots.draw_all(trainer, pictures, tmp_path, "true") == ["cost.png", "values.png", "weights.png"]


def test_draw_all_of_a_network_without_probabilities(tmp_path: Path) -> None:
    trainer = trained(DIGITS, Linear(64, 10), loss="mean_squared_error")
    assert plots.draw_all(trainer, DIGITS, tmp_path, "true") == [n for n in EVERYTHING if n != "mistakes.png"]


def test_a_picture_that_fails_leaves_the_old_file(
    ten: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cost.png").write_bytes(b"old")

    def break_off(self: Figure, file: Any, **kwargs: Any) -> None:
        file.write(b"\x89PNG and no more")
        raise OSError("disk")

    monkeypatch.setattr(Figure, "savefig", break_off)
    with pytest.raises(OSError, match="disk"):
        plots.draw_all(ten, None, tmp_path, "true")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("cost.png", b"old")]


def test_the_old_file_is_replaced_not_overwritten(ten: Trainer, tmp_path: Path) -> None:
    (tmp_path / "cost.png").write_bytes(b"old")
    (tmp_path / "link").hardlink_to(tmp_path / "cost.png")
    assert plots.draw_all(ten, None, tmp_path, "true") == ["cost.png"]
    assert (tmp_path / "link").read_bytes() == b"old"


def test_drawing_leaves_pyplot_alone(ten: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # an import of it would fail
    for figure in (plots.cost_curve(ten.history), plots.digit_grid(ten, DIGITS, 1)):
        assert isinstance(figure.canvas, FigureCanvasAgg)


def test_missing_matplotlib_is_a_sentence(ten: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plots.check_installed()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    asks: list[Callable[[], Any]] = [
        plots.check_installed,
        lambda: plots.cost_curve(ten.history),
        lambda: plots.confusion_heat_map(ten, DIGITS),
        lambda: plots.digit_grid(ten, DIGITS),
        lambda: plots.worst_mistakes(ten, DIGITS),
        lambda: plots.first_layer_weights(ten.model, (8, 8)),
        lambda: plots.predicted_against_true(ten, DIGITS),
        lambda: plots.filters(ten.model),
        lambda: plots.feature_maps(ten.model, DIGITS[:1]),
        lambda: plots.draw_all(ten, DIGITS, tmp_path / "pictures"),
    ]
    for ask in asks:
        with pytest.raises(ValueError, match=r"^pictures need matplotlib, .*pip install matplotlib$"):
            ask()
    assert [*tmp_path.iterdir()] == []
