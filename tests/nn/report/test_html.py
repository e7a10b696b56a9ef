from __future__ import annotations

import base64
import html
import json
import re
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.image import imread
from sklearn.metrics import confusion_matrix

from backends.activations import BUILT_IN
from nn import (
    SGD,
    Augment,
    Dataset,
    History,
    Linear,
    ReLU,
    Sequential,
    Sigmoid,
    Softmax,
    Trainer,
    load_data,
    load_model,
    save_model,
)
from nn.layers import ChannelsLast, Conv2d, Flatten, GlobalAvgPool2d, Layer, Reshape
from nn.report import weights_checksum, write_report
from nn.report.collected import MOST_EPOCHS, columns_of
from nn.report.embedded import ACTIVATIONS, BITS, packed, pen_of
from nn.report.html import MOST_BYTES
from nn.report.png import png, signed
from nn.report.svg import WIDTH, Curve, Scale, curves

DIGITS: Any = load_data("digits")
VOID = {"meta", "link", "img", "br", "input"}


class Tree(HTMLParser):
    """Reads a page: which elements it has, and whether each ends where it should."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def embedded(page: str, name: str) -> Any:
    """The JSON in a ``<script>``."""
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, flags=re.DOTALL)
    assert found
    return json.loads(found[1])


def text_of(page: str) -> str:
    body = page.partition("<body>")[2].partition('<script type="application/json"')[0]
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)))


def written(folder: Path, trainer: Trainer, *args: Any, **kwargs: Any) -> str:
    path = folder / "report.html"
    write_report(path, trainer, *args, **kwargs)
    page = path.read_text(encoding="utf-8")
    assert len(page.encode()) < MOST_BYTES
    assert Tree(page).open == []
    return page


def trained(data: Dataset, *layers: Layer, loss: str = "softmax_cross_entropy", epochs: int = 3) -> Trainer:
    trainer = Trainer(Sequential(*layers, backend="cpu"), loss, SGD(0.1))
    trainer.fit(data, epochs, validation=data[:100])
    return trainer


@pytest.fixture(scope="module")
def ten() -> Trainer:
    return trained(DIGITS.train, Linear(64, 12), Sigmoid(), Linear(12, 10), Softmax())


def test_a_report_says_what_the_trainer_knows(ten: Trainer, tmp_path: Path) -> None:
    page = written(tmp_path, ten, DIGITS.test, title="ten digits", command="python train.py", rows={"training": 1437})
    found, text = embedded(page, "report"), text_of(page)
    result, predicted = ten.evaluate(DIGITS.test), ten.predict(DIGITS.test)
    correct = int((predicted == DIGITS.test.y).sum())
    assert found["result"] == result
    assert found["classes"]["confusion"] == confusion_matrix(DIGITS.test.y, predicted).tolist()
    assert found["history"]["loss"] == pytest.approx(ten.history["loss"], rel=1e-5)
    assert found["weights_sha256"] == weights_checksum(ten.model)
    assert found["rows"] == {"training": 1437, "test": 360}
    for words in (
        "ten digits", "python train.py", f"{result['accuracy']:.2%}", f"{correct} of 360", "1,437 training, 360 test",
        "Linear(64, 12), Sigmoid(), Linear(12, 10), Softmax()", weights_checksum(ten.model), "learning rate was 0.1",
    ):  # fmt: skip
        assert words in text, words


def test_the_surest_mistakes_are_those_of_the_highest_probability(ten: Trainer, tmp_path: Path) -> None:
    found = embedded(written(tmp_path, ten, DIGITS.test), "report")["classes"]["mistakes"]
    probabilities, predicted = ten.predict_proba(DIGITS.test), ten.predict(DIGITS.test)
    wrong = np.flatnonzero(predicted != DIGITS.test.y)
    sure = sorted(probabilities[wrong].max(axis=1), reverse=True)[: len(found)]
    assert [entry["probability"] for entry in found] == pytest.approx(sure, rel=1e-5)
    for entry in found:
        assert (entry["predicted"], entry["label"]) == (
            str(predicted[entry["row"]]),
            str(DIGITS.test.y[entry["row"]]),
        )


def test_every_picture_has_words_for_those_who_do_not_see_it(ten: Trainer, tmp_path: Path) -> None:
    page = Tree(written(tmp_path, ten, DIGITS.test))
    assert all(image["alt"] for image in page.all("img"))
    assert all(chart["aria-label"] for chart in page.all("svg"))
    assert all(canvas["aria-label"] for canvas in page.all("canvas"))
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("img")) >= 12 + 1  # a picture for each unit, and mistakes


def test_nothing_is_loaded_from_elsewhere(ten: Trainer, tmp_path: Path) -> None:
    page = written(tmp_path, ten, DIGITS.test)
    for _, attributes in Tree(page).elements:
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")
    style = page.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_names_of_users_do_no_harm(ten: Trainer, tmp_path: Path) -> None:
    evil = "</script><script>alert('\"&')</script>"
    names = tuple(f"{evil}{label}" for label in range(10))
    data = replace(DIGITS.test, class_names=names)
    page = written(tmp_path, ten, data, title=evil, command=evil, settings={evil: evil})
    assert page.count("<script") == 3
    assert evil not in page
    assert embedded(page, "report")["classes"]["names"] == list(names)
    assert embedded(page, "network")["names"] == list(names)
    assert evil in text_of(page).replace(" ", "").replace("<script>alert", "<script>alert")


def test_without_test_rows_there_are_curves_and_settings(ten: Trainer, tmp_path: Path) -> None:
    page = written(tmp_path, ten, settings={"seed": 0})
    assert len(Tree(page).all("svg")) == 2
    assert embedded(page, "network") is None
    assert "Surest mistakes" not in page
    assert "All settings" in page


def test_nothing_trained(tmp_path: Path) -> None:
    trainer = Trainer(Sequential(Linear(64, 10), backend="cpu"))
    page = written(tmp_path, trainer, DIGITS.test)
    assert "Nothing was trained." in page
    assert embedded(page, "report")["best"]["epoch"] is None


def test_values_have_errors_and_a_picture(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3))
    y = x @ [1.0, -2.0, 0.5] + 3
    trainer = trained(Dataset(x, y), Linear(3, 1), loss="mean_squared_error", epochs=5)
    page = written(tmp_path, trainer, Dataset(x[:50], y[:50]))
    residual = trainer.predict(x[:50]).reshape(-1) - y[:50]
    result = embedded(page, "report")["result"]
    assert result["mae"] == pytest.approx(np.abs(residual).mean(), rel=1e-5)
    assert result["rmse"] == pytest.approx(np.sqrt((residual**2).mean()), rel=1e-5)
    assert result["r2"] == pytest.approx(1 - (residual**2).sum() / ((y[:50] - y[:50].mean()) ** 2).sum(), rel=1e-5)
    assert page.count('<circle class="point"') == 50
    assert "root mean squared error" in text_of(page)
    assert "Surest mistakes" not in page


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("classes", [True, False])
def test_a_network_of_nan_has_a_report(classes: bool, tmp_path: Path) -> None:
    loss = "softmax_cross_entropy" if classes else "mean_squared_error"
    data = DIGITS.test if classes else Dataset(DIGITS.test.x, DIGITS.test.y.astype(np.float64))
    outputs = 10 if classes else 1
    trainer = trained(data, Linear(64, outputs), loss=loss, epochs=0)
    trainer.model.flat_parameters[...] = np.nan
    page = written(tmp_path, trainer, data)
    assert embedded(page, "report")["result"]["loss"] is None
    assert "not finite" in text_of(page)


@dataclass(frozen=True, repr=False)
class Twice(Linear):
    """A layer of one's own that computes something else than the one it extends."""

    def forward(self, x: Any, ctx: Any) -> Any:
        return 2.0 * super().forward(x, ctx)

    def backward(self, dy: Any, ctx: Any) -> Any:
        return super().backward(2.0 * dy, ctx)


def test_a_layer_that_the_page_does_not_know_is_named(tmp_path: Path) -> None:
    trainer = trained(DIGITS.train, Linear(64, 8), ReLU(), Twice(8, 10), epochs=1)
    page = written(tmp_path, trainer, DIGITS.test)
    assert embedded(page, "network") is None
    assert "Not offered here: the page cannot compute layer 2, Twice(8, 10)." in text_of(page)
    values = trained(Dataset(DIGITS.train.x, DIGITS.train.x[:, :1] / 16, 1 / 16, image_shape=(8, 8)), Linear(64, 1),
                     loss="mean_squared_error")  # fmt: skip
    assert "Draw for the network" not in text_of(
        written(tmp_path, values, Dataset(DIGITS.test.x, DIGITS.test.x[:, :1] / 16))
    )


def test_the_report_is_of_the_averaged_weights(tmp_path: Path) -> None:
    trainer = Trainer(Sequential(Linear(64, 10), backend="cpu"), optimizer=SGD(0.5), average=0.9)
    trainer.fit(DIGITS.train, 2)
    found = embedded(written(tmp_path, trainer, DIGITS.test), "report")
    assert found["weights_sha256"] != weights_checksum(trainer.model)
    with trainer.averaged():
        assert found["weights_sha256"] == weights_checksum(trainer.model)


def test_the_report_names_the_distortions(tmp_path: Path) -> None:
    trainer = trained(DIGITS.train, Linear(64, 10))
    assert "distorted" not in text_of(written(tmp_path, trainer, DIGITS.test))
    trainer.augment = Augment(shift=1, elastic=(8, 3))
    page = written(tmp_path, trainer, DIGITS.test)
    assert embedded(page, "report")["network"]["augment"] == "shift 1, elastic 8 3"
    assert "training pictures distorted: shift 1, elastic 8 3" in text_of(page)


def test_rows_that_are_no_pictures_are_listed_by_number(tmp_path: Path) -> None:
    data = replace(DIGITS.test, image_shape=None)
    trainer = trained(replace(DIGITS.train, image_shape=None), Linear(64, 10))
    page = written(tmp_path, trainer, data)
    assert Tree(page).all("img") == []
    first = embedded(page, "report")["classes"]["mistakes"][0]
    assert f'<th scope="row">{first["row"]}</th><td>{first["predicted"]}</td>' in page


# ---- convolutions ----------------------------------------------------------------------------------------------------

CONVOLUTIONAL: tuple[Layer, ...] = (Reshape(8, 8, 1), Conv2d(1, 6, 3), ReLU(), Flatten(), Linear(216, 10), Softmax())


def test_a_convolutional_network_shows_its_filters_and_what_they_answer(tmp_path: Path) -> None:
    trainer = trained(DIGITS.train, *CONVOLUTIONAL, epochs=2)
    page = written(tmp_path, trainer, DIGITS.test)
    report = embedded(page, "report")["classes"]
    alts = [image["alt"] or "" for image in Tree(page).all("img")]
    assert [alt for alt in alts if alt.startswith("filter")] == [f"filter {number}" for number in range(6)]
    assert "What all 6 filters of layer 1, Conv2d(1, 6, 3), look for" in text_of(page)
    assert "Weights of the first layer" not in page
    right, wrong = report["examples"]
    predicted = trainer.predict(DIGITS.test)
    assert (right["predicted"], wrong["predicted"]) == tuple(str(predicted[e["row"]]) for e in (right, wrong))
    assert right["label"] == right["predicted"] == wrong["label"] != wrong["predicted"]
    assert wrong["row"] == report["mistakes"][0]["row"]  # the surest
    for row in (right["row"], wrong["row"]):
        assert [alt for alt in alts if alt.endswith(f"of test row {row}")] == [
            f"map {number} of test row {row}" for number in range(6)
        ]
    assert "layer 1, Conv2d(1, 6, 3) and layer 2, ReLU(), answer to a test row" in text_of(page)
    assert f"test row {wrong['row']}: {wrong['label']}, taken for {wrong['predicted']}" in text_of(page)


def test_a_network_without_convolutions_shows_none(ten: Trainer, tmp_path: Path) -> None:
    page = written(tmp_path, ten, DIGITS.test)
    assert "examples" not in embedded(page, "report")["classes"]
    assert "ilters" not in text_of(page)
    assert "Feature maps" not in page


def test_the_pictures_of_filters_and_maps_are_their_numbers(tmp_path: Path) -> None:
    trainer = trained(DIGITS.train, *CONVOLUTIONAL)
    page = written(tmp_path, trainer, DIGITS.test)
    pixels = {image["alt"]: shades(image["src"] or "") for image in Tree(page).all("img")}
    weights = trainer.model.state_dict()["1.weight"]
    row = embedded(page, "report")["classes"]["examples"][1]["row"]
    maps = trainer.model.layer_outputs(DIGITS.test[row : row + 1])["1"][0]
    rows = [example["row"] for example in embedded(page, "report")["classes"]["examples"]]
    limit = max(trainer.model.layer_outputs(DIGITS.test[row : row + 1])["1"].max() for row in rows)
    for number in range(6):
        found = pixels[f"filter {number}"]
        np.testing.assert_allclose(found, weights[:, :, 0, number] / np.abs(weights).max(), atol=0.04)
        np.testing.assert_allclose(pixels[f"map {number} of test row {row}"], maps[:, :, number] / limit, atol=0.04)


def shades(uri: str) -> np.ndarray:
    """The numbers of a picture that ``signed`` has made, from -1 to 1."""
    pixels = imread(BytesIO(base64.b64decode(uri.partition("base64,")[2])), format="png")
    found: np.ndarray = np.where(pixels[..., 0] > pixels[..., 2], 1, -1) * pixels[..., 3] ** 2
    return found


def test_filters_of_several_channels_lie_side_by_side(tmp_path: Path) -> None:
    data = Dataset(DIGITS.test.x, DIGITS.test.y, 1 / 16, image_shape=(4, 4, 4))
    trainer = trained(data, Reshape(4, 4, 4), Conv2d(4, 70, 3), GlobalAvgPool2d(), Linear(70, 10), epochs=0)
    page = written(tmp_path, trainer, data)
    found = [shades(image["src"] or "") for image in Tree(page).all("img") if (image["alt"] or "").startswith("filter")]
    weights = trainer.model.state_dict()["1.weight"]
    assert len(found) == 64
    shown = weights[..., :64] / np.abs(weights[..., :64]).max()
    for number, image in enumerate(found):
        assert image.shape == (3, 4 * 3 + 3)
        for channel in range(4):
            part = image[:, 4 * channel : 4 * channel + 3]
            np.testing.assert_allclose(part, shown[:, :, channel, number], atol=0.04)
    assert "What 64 of 70 filters of layer 1, Conv2d(4, 70, 3), look for" in text_of(page)
    assert "Of each filter all 4 channels stand side by side." in text_of(page)
    assert embedded(page, "network") is None  # nobody draws four channels


def test_wrong_rows_or_right_ones_may_be_missing(tmp_path: Path) -> None:
    trainer = trained(DIGITS.train, *CONVOLUTIONAL, epochs=0)
    predicted = trainer.predict(DIGITS.test)
    for y, wrong in ((predicted, 0), ((predicted + 1) % 10, 1)):
        trainer = Trainer(trainer.model)
        page = written(tmp_path, trainer, replace(DIGITS.test, y=y))
        examples = embedded(page, "report")["classes"]["examples"]
        assert [example["predicted"] != example["label"] for example in examples] == [bool(wrong)]
        assert page.count('<div class="maps">') == 1


def test_colours_are_shown_in_colour(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 6, 5, 3), dtype=np.uint8)
    pixels[0, 0, 0], pixels[0, 0, 1] = 0, 255
    data = Dataset(np.moveaxis(pixels, 3, 1), np.arange(40) % 2, 1 / 255)
    trainer = trained(data, ChannelsLast(), Conv2d(3, 2, 3), GlobalAvgPool2d(), Linear(2, 2))
    page = written(tmp_path, trainer, data)
    entry = embedded(page, "report")["classes"]["examples"][-1]
    source = next(i["src"] for i in Tree(page).all("img") if (i["alt"] or "").startswith(f"test row {entry['row']}, a"))
    found = imread(BytesIO(base64.b64decode((source or "").partition("base64,")[2])), format="png")
    np.testing.assert_array_equal(np.rint(found * 255), pixels[entry["row"]])


# ---- what is kept small ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hidden", "bits"), [(100, 32), (330, 16), (700, 8), (900, 6), (1200, None)])
def test_a_large_network_is_rounded_so_that_the_page_stays_small(hidden: int, bits: int | None, tmp_path: Path) -> None:
    rows = Dataset(np.random.default_rng(0).integers(0, 256, (40, 784), dtype=np.uint8), np.arange(40) % 10, 1 / 255,
                   image_shape=(28, 28))  # fmt: skip
    trainer = trained(rows, Linear(784, hidden), ReLU(), Linear(hidden, 10), epochs=1)
    page = written(tmp_path, trainer, rows)
    network = embedded(page, "network")
    if bits is None:
        assert network is None
        assert "larger than 1 MB" in page
    else:
        assert network["bits"] == bits
        assert (f"rounded to {bits} bits" in page) == (bits < 32)


def test_a_large_convolutional_network_is_rounded_too(tmp_path: Path) -> None:
    rows = Dataset(np.random.default_rng(0).integers(0, 256, (40, 784), dtype=np.uint8), np.arange(40) % 10, 1 / 255,
                   image_shape=(28, 28))  # fmt: skip
    layers = Reshape(28, 28, 1), Conv2d(1, 64, 5, stride=2), ReLU(), Conv2d(64, 200, 5, stride=2), ReLU(), Flatten()
    trainer = trained(rows, *layers, Linear(3200, 10), epochs=0)
    page = written(tmp_path, trainer, rows)
    bits = embedded(page, "network")["bits"]
    assert 8 < bits < 32
    assert f"rounded to {bits} bits" in page


@given(
    arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=st.floats(-100, 100, width=32)),
    st.sampled_from(BITS),
)
def test_weights_as_text_are_within_their_rounding(values: np.ndarray, bits: int) -> None:
    text = packed(values, bits)
    content = np.frombuffer(base64.b64decode(text["data"]), np.uint8)
    if bits == 32:
        found = content.view("<f4").reshape(values.shape)
    else:
        by_bit = np.unpackbits(content, bitorder="little")[: values.size * bits].reshape(-1, bits)
        whole = by_bit @ (1 << np.arange(bits)) - (2 ** (bits - 1) - 1)
        found = whole.reshape(values.shape) * np.frombuffer(base64.b64decode(text["factors"]["data"]), "<f4")
    allowed = 0 if bits == 32 else np.abs(values).max(axis=0) / (2**bits - 2) * (1 + 1e-3) + 1e-30
    assert (np.abs(found - values) <= allowed).all()


def test_a_long_history_keeps_its_best_and_its_last_epoch() -> None:
    history = History([{"epoch": epoch, "loss": 1 / epoch, "val_loss": abs(epoch - 1234)} for epoch in range(1, 5001)])
    found = columns_of(history, best=1234)
    assert len(found["epoch"]) <= MOST_EPOCHS
    assert {1, 1234, 5000} <= set(found["epoch"])
    assert found["val_loss"][found["epoch"].index(1234)] == 0


def test_the_best_epoch_is_the_one_that_training_chose_else_that_of_the_lowest_validation_loss(
    ten: Trainer, tmp_path: Path
) -> None:
    losses = ten.history["val_loss"]
    lowest = losses.index(min(losses)) + 1
    page = written(tmp_path, ten)
    assert embedded(page, "report")["best"] == {"epoch": lowest, "why": "val_loss", "kept": False}
    assert page.count(f">best: {lowest}</text>") == 2
    chosen = Trainer(ten.model)
    chosen.history = History(list(ten.history))
    chosen.history.best_epoch, chosen.history.monitor, chosen.history.best_is_kept = 1, "val_accuracy", True
    page = written(tmp_path, chosen)
    assert page.count(">best: 1</text>") == 2
    assert "by validation accuracy; its weights are in the model" in text_of(page)


def test_a_metric_of_the_validation_rows_alone_has_their_color(ten: Trainer, tmp_path: Path) -> None:
    other = Trainer(ten.model)
    other.history = History(
        [{"epoch": epoch, "loss": 1.0, "val_auc": epoch / 4, "seconds": 1.0} for epoch in (1, 2, 3)]
    )
    page = written(tmp_path, other)
    assert re.findall(r'<polyline class="line (\w+)"', page) == ["c0", "c1"]
    assert re.findall(r'class="key (\w+)">(\w+)<', page) == [("c0", "training"), ("c1", "validation")]


def test_errors_that_span_decades_have_a_logarithmic_scale_and_scores_have_none(ten: Trainer, tmp_path: Path) -> None:
    other = Trainer(ten.model)
    names = ("loss", "val_rmse", "val_auc", "val_accuracy")
    other.history = History(
        [{"epoch": epoch, "seconds": 1, **dict.fromkeys(names, 10.0**-epoch)} for epoch in (0, 1, 2)]
    )
    captions = re.findall("<figcaption>(.*?)<", written(tmp_path, other))
    assert captions == ["loss, logarithmic", "root mean squared error, logarithmic", "auc", "accuracy"]


@given(st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=40), st.integers(1, 10**6))
def test_every_curve_is_drawn_inside_its_chart(values: list[float], first: int) -> None:
    points = [(float(first + index), value) for index, value in enumerate(values)]
    chart = curves("x", [Curve("a & b", points)], best=first, may_be_logarithmic=True)
    assert Tree(chart).open == []
    numbers = re.findall(r'(?:c?[xy][12]?)="(-?[\d.]+)"', chart)
    numbers += [number for path in re.findall(r'points="([^"]*)"', chart) for number in re.split("[ ,]", path) if path]
    assert all(0 <= float(number) <= WIDTH for number in numbers)
    assert "nan" not in chart
    assert f">{first + len(values) - 1}</text>" in chart
    assert "a &amp; b" in chart


@given(st.floats(1e-12, 1e12), st.floats(1.001, 1e15), st.booleans())
def test_ticks_are_round_few_and_between_both_ends(low: float, factor: float, logarithmic: bool) -> None:
    ticks = Scale(low, low * factor, logarithmic).ticks()
    assert 2 <= len(ticks) <= 8
    high = low * factor
    slack = 1e-6 * (low if logarithmic else high - low)
    assert all(low - slack <= tick <= high + 1e-6 * high for tick in ticks)
    assert ticks == sorted({*ticks})


@pytest.mark.parametrize("classes", [31, 200, 201, 3000])
def test_a_long_run_of_many_classes_with_long_names_fits(classes: int, tmp_path: Path) -> None:
    names = tuple(f"class {number} {'of a long name ' * 5}" for number in range(classes))
    data = Dataset(np.random.default_rng(0).normal(size=(6000, 5)), np.arange(6000) % classes, class_names=names)
    trainer = Trainer(Sequential(Linear(5, classes), backend="cpu"))
    trainer.fit(data, 1)
    record = trainer.history[0]
    trainer.history.records += [record | {"epoch": epoch, "val_loss": 1.0 / epoch} for epoch in range(2, 5000)]
    page = written(tmp_path, trainer, data)
    assert ('alt="confusion matrix"' in page) == (classes <= 200)
    assert (f"There are {classes:,} classes, too many for a table." in page) == (classes > 200)
    assert f"{round(6000 * trainer.evaluate(data)['accuracy']):,} of 6,000 test rows are correct" in text_of(page)


# ---- parts -----------------------------------------------------------------------------------------------------------


def test_the_checksum_is_of_the_weights_alone(ten: Trainer, tmp_path: Path) -> None:
    save_model(ten.model, tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors", "cpu")
    assert weights_checksum(loaded) == weights_checksum(ten.model)
    state = loaded.state_dict()
    state["0.bias"][3] += 1e-3
    loaded.load_state_dict(state)
    assert weights_checksum(loaded) != weights_checksum(ten.model)


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (4, 7, 3), (2, 2, 4)])
def test_png_files_hold_their_pixels(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    found = imread(BytesIO(png(pixels)), format="png")
    np.testing.assert_array_equal(np.rint(found * 255).astype(np.uint8), pixels)


def test_signed_numbers_are_red_blue_or_nothing() -> None:
    red, blue, nothing = signed(np.array([[2.0, -2.0, 0.0]]))[0].tolist()
    assert red[0] > red[2]
    assert blue[2] > blue[0]
    assert (red[3], blue[3], nothing[3]) == (255, 255, 0)
    assert signed(np.zeros((2, 2)))[..., 3].max() == 0


def test_the_pen_is_measured_from_the_rows() -> None:
    """Lines of 2 pixels in the upper left of 28 x 28, from row 4 up to row 24."""
    x = np.zeros((5, 28, 28), np.uint8)
    x[:, 4:24, 6:8] = 200
    pen = pen_of(x)
    assert (pen["paper"], pen["ink"], pen["whole"], pen["size"]) == (0, 200, True, 20)
    assert pen["centre"] == [14, 7]
    assert pen["thickness"] == pytest.approx(2, rel=0.2)
    dark = pen_of(255 - x)
    assert (dark["paper"], dark["ink"], dark["size"]) == (255, 55, 20)


def test_the_page_has_every_activation_that_it_is_said_to_have() -> None:
    assert BUILT_IN <= ACTIVATIONS
