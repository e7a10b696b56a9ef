"""A report in a real browser: opened, drawn on, and held against the model in Python. Skipped where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nn import SGD, Dataset, Dropout, Flatten, Linear, ReLU, Sequential, Sigmoid, Softmax, Tanh, Trainer, load_data
from nn.__main__ import main
from nn.layers import (
    ELU,
    GELU,
    AvgPool2d,
    BatchNorm,
    BatchNorm2d,
    ChannelsLast,
    Conv2d,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    Layer,
    LayerNorm,
    LeakyReLU,
    MaxPool2d,
    Reshape,
    SiLU,
    Softplus,
    Standardize,
)
from nn.report import write_report
from nn.report.embedded import pen_of

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium on the path")

#: Strokes on the pad, as fractions of its width, that a network for digits should know.
DRAWN = {
    "0": [[(0.5, 0.2), (0.35, 0.3), (0.3, 0.5), (0.35, 0.7), (0.5, 0.8), (0.65, 0.7), (0.7, 0.5), (0.5, 0.2)]],
    "1": [[(0.5, 0.15), (0.5, 0.85)]],
    "7": [[(0.3, 0.2), (0.5, 0.2), (0.72, 0.2), (0.6, 0.5), (0.5, 0.8)]],
}  # fmt: skip
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@dataclass
class Opened:
    """A page, and what it said and asked for while it was open."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def opened(browser: Any) -> Iterator[Opened]:
    found = Opened(browser.new_page(viewport={"width": 1000, "height": 900}))
    found.page.on("console", lambda message: found.said.append(message.text))
    found.page.on("pageerror", lambda error: found.said.append(str(error)))
    found.page.on("request", lambda request: found.asked.append(request.url))
    yield found
    found.page.close()


@pytest.fixture(scope="module")
def digits() -> Any:
    return load_data("digits")


@pytest.fixture(scope="module")
def ten(digits: Any) -> Trainer:
    model = Sequential(Linear(64, 32), ReLU(), Linear(32, 10), Softmax(), backend="cpu")
    trainer = Trainer(model, optimizer=SGD(0.1, momentum=0.9))
    trainer.fit(digits.train, 12, validation=digits.test)
    return trainer


def draw(page: Any, strokes: list[list[tuple[float, float]]]) -> None:
    page.click("#clear")
    box = page.locator("#pad").bounding_box()
    for stroke in strokes:
        points = [(box["x"] + x * box["width"], box["y"] + y * box["width"]) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point, steps=5)
        page.mouse.up()


def test_a_report_opens_is_drawn_on_and_sees_what_the_model_sees(
    opened: Opened, ten: Trainer, digits: Any, tmp_path: Path
) -> None:
    path, page = tmp_path / "report.html", opened.page
    write_report(path, ten, digits.test, title="ten digits")
    assert path.stat().st_size < 1_000_000
    page.goto(path.as_uri())
    assert page.title() == "ten digits"
    assert page.locator("svg.chart .line").count() == 4  # loss and accuracy, of training and validation rows
    assert all(box["width"] > 100 for box in (line.bounding_box() for line in page.locator("svg .line").all()))
    page.locator("#pad").scroll_into_view_if_needed()
    for digit, strokes in DRAWN.items():
        draw(page, strokes)
        pixels, found = page.evaluate("[xpnet.pixels, xpnet.probabilities]")
        wanted = ten.predict_proba(np.array([pixels]))[0]
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        assert 0 <= min(pixels) < max(pixels) <= 16
        assert page.inner_text("#answer").startswith(f"It sees {digit}, with probability {100 * wanted.max():.1f}")
        shares = page.locator("#bars dd:not(.bar)").all_inner_texts()
        assert [float(share.split()[0]) for share in shares] == pytest.approx(100 * wanted, abs=0.051)
    page.click("#clear")
    assert page.evaluate("xpnet.pixels") is None
    assert opened.said == []
    assert opened.asked == [path.as_uri()]


NETWORKS: dict[str, tuple[str, list[Layer]]] = {
    "softmax from logits": ("softmax_cross_entropy", [Linear(64, 16), Tanh(), Dropout(0.2), Linear(16, 10)]),
    "joined": ("softmax_cross_entropy", [Linear(64, 8, activation="sigmoid"), Linear(8, 10, bias=False), Softmax()]),
    "identity": ("softmax_cross_entropy", [Flatten(), Linear(64, 9), Sigmoid(), Linear(9, 10)]),
    "leaky relu and elu": (
        "softmax_cross_entropy",
        [Linear(64, 9), LeakyReLU(0.2), Linear(9, 8), ELU(0.5), Linear(8, 8, activation="leaky_relu"), Linear(8, 10)],
    ),
    "gelu": ("softmax_cross_entropy", [Linear(64, 9), GELU(), Linear(9, 8), GELU("tanh"), Linear(8, 10)]),
    "silu and softplus": ("softmax_cross_entropy", [Linear(64, 9), SiLU(), Linear(9, 8), Softplus(), Linear(8, 10)]),
    "ten sigmoids": ("binary_cross_entropy", [Linear(64, 9), ELU(), Linear(9, 10)]),
    "batch norm": ("softmax_cross_entropy", [Linear(64, 9), BatchNorm(9), ReLU(), Linear(9, 10)]),
    "standardized": ("softmax_cross_entropy", [Standardize(64), Linear(64, 9), Tanh(), Linear(9, 10)]),
    "layer norm": ("softmax_cross_entropy", [LayerNorm(64, affine=False), Linear(64, 9), LayerNorm(9), Linear(9, 10)]),
    "one sigmoid": ("binary_cross_entropy", [Linear(64, 7), ReLU(), Linear(7, 1), Sigmoid()]),
}


@pytest.mark.parametrize(
    ("name", "bits"), [*((name, 32) for name in NETWORKS), *(("softmax from logits", bits) for bits in (16, 13, 8, 7))]
)
def test_the_page_computes_what_python_computes(
    opened: Opened, digits: Any, name: str, bits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, layers = NETWORKS[name]
    train, test = digits.train, digits.test
    if name == "one sigmoid":
        train, test = train.one_against_rest(3), test.one_against_rest(3)
    trainer = Trainer(Sequential(*layers, backend="cpu"), loss, SGD(0.1, momentum=0.9))
    trainer.fit(train, 2)
    monkeypatch.setattr("nn.report.html.BITS", (bits,))
    write_report(tmp_path / "report.html", trainer, test)
    opened.page.goto((tmp_path / "report.html").as_uri())
    rows, found = opened.page.evaluate("[xpnet.rows, xpnet.rows.map((row) => xpnet.forward(row))]")
    assert np.shape(rows) == (20, 64)
    wanted = trainer.predict_proba(np.array(rows))
    wanted = wanted if wanted.shape[1] > 1 else np.hstack((1 - wanted, wanted))
    np.testing.assert_allclose(found, wanted, atol=1e-5 if bits == 32 else 20 / 2**bits)
    assert (bits == 32) == (np.abs(np.array(found) - wanted).max() < 1e-6)
    rows_of_data = test.x[np.linspace(0, len(test) - 1, 20).round().astype(int)]
    np.testing.assert_array_equal(rows, rows_of_data)
    assert opened.said == []


BETWEEN: list[Layer] = [ReLU(), Tanh(), LeakyReLU(0.2), SiLU(), Sigmoid()]


def random_layers(rng: np.random.Generator) -> list[Layer]:
    """A network for pictures of 8x8 with convolutions, pooling and normalization of random settings."""
    shape: tuple[int, ...] = (8, 8, 1)
    layers: list[Layer] = [Reshape(8, 8, 1)]
    if rng.random() < 0.3:
        layers = [Reshape(1, 8, 8), ChannelsLast()]

    def pair(low: int, high: int) -> tuple[int, int]:
        return int(rng.integers(low, high)), int(rng.integers(low, high))

    for _ in range(3):
        channels, groups = shape[2], int(rng.choice([g for g in (1, 2, 3) if shape[2] % g == 0]))
        padding: Any = pair(0, 2)
        size, stride = pair(1, 4), pair(1, 3)
        if rng.random() < 0.3:
            padding, size, stride = "same", (3, 1), (1, 1)
        added: list[Layer] = [
            Conv2d(
                channels, groups * int(rng.integers(1, 4)), size, stride, padding, groups, bias=bool(rng.random() < 0.7)
            )
        ]
        made = added[0].output_shape(shape) if min(shape[:2]) >= 3 else None
        if made is None:
            break
        shape = made
        if rng.random() < 0.5:
            added.append(BatchNorm2d(shape[2], affine=bool(rng.random() < 0.7)))
        added.append(BETWEEN[rng.integers(len(BETWEEN))])
        if min(shape[:2]) >= 2 and rng.random() < 0.6:
            pool: Layer = MaxPool2d(2, int(rng.integers(1, 3)), pair(0, 2))
            if rng.random() < 0.5:
                pool = AvgPool2d(2, None, pair(0, 2), count_include_pad=bool(rng.random() < 0.5))
            added.append(pool)
            shape = pool.output_shape(shape) or ()
        layers += added
    end = int(rng.integers(3))
    layers.append((GlobalAvgPool2d(), GlobalMaxPool2d(), Flatten())[end])
    return [*layers, Linear(shape[2] if end < 2 else int(np.prod(shape)), 10)]


@pytest.mark.parametrize(("seed", "bits"), [*((seed, 32) for seed in range(16)), (0, 13), (1, 8)])
def test_the_page_computes_convolutional_networks(
    opened: Opened, digits: Any, seed: int, bits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = random_layers(np.random.default_rng(seed))
    trainer = Trainer(Sequential(*layers, backend="cpu"), optimizer=SGD(0.1, momentum=0.9))
    trainer.fit(digits.train[:200], 1)
    monkeypatch.setattr("nn.report.html.BITS", (bits,))
    write_report(tmp_path / "report.html", trainer, digits.test)
    opened.page.goto((tmp_path / "report.html").as_uri())
    rows, found = opened.page.evaluate("[xpnet.rows, xpnet.rows.map((row) => xpnet.forward(row))]")
    allowed = 1e-5 if bits == 32 else 20 / 2**bits
    np.testing.assert_allclose(found, trainer.predict_proba(np.array(rows)), atol=allowed, err_msg=repr(layers))
    assert opened.said == []


def test_a_convolutional_network_answers_while_one_draws(opened: Opened, tmp_path: Path) -> None:
    """18 million multiply-adds: about 20 ms on a core of a server; the limit is for slower and busier ones."""
    layers: list[Layer] = [Reshape(28, 28, 1)]
    for before, after in ((1, 32), (32, 32), (32, 64), (64, 64)):
        layers += [Conv2d(before, after, 3, padding="same"), ReLU(), *([MaxPool2d(2)] if before == after else [])]
    model = Sequential(*layers, GlobalAvgPool2d(), Linear(64, 10), backend="cpu")
    x = np.random.default_rng(0).integers(0, 256, (20, 784), dtype=np.uint8)
    data = Dataset(x, np.arange(20) % 10, 1 / 255, image_shape=(28, 28))
    trainer = Trainer(model)
    trainer.fit(data, 0)
    write_report(tmp_path / "report.html", trainer, data)
    opened.page.goto((tmp_path / "report.html").as_uri())
    measure = """xpnet.rows.map((row) => {
      const start = performance.now();
      xpnet.forward(row);
      return performance.now() - start;
    })"""
    assert min(opened.page.evaluate(measure)) < 150


@pytest.mark.parametrize("convolutional", [False, True])
def test_drawn_digits_are_seen_by_a_network_of_mnist(
    opened: Opened, mnist_dir: Path, convolutional: bool, tmp_path: Path
) -> None:
    data: Any = load_data("mnist", str(mnist_dir))
    layers: list[Layer] = [Linear(784, 64), ReLU(), Linear(64, 10)]
    rows, epochs = 20000, 3
    if convolutional:
        layers = [Reshape(28, 28, 1), Conv2d(1, 8, 5, 2), ReLU(), Conv2d(8, 16, 3), ReLU(), MaxPool2d(2)]
        layers += [Flatten(), Linear(400, 10)]
        rows, epochs = 10000, 2
    trainer = Trainer(Sequential(*layers, backend="cpu"), optimizer=SGD(0.1, momentum=0.9))
    trainer.fit(data.train[:rows], epochs, 128)
    write_report(tmp_path / "report.html", trainer, data.test[:1000])
    opened.page.goto((tmp_path / "report.html").as_uri())
    opened.page.locator("#pad").scroll_into_view_if_needed()
    for digit, strokes in DRAWN.items():
        for size in (1.0, 0.4):  # a small drawing in the upper left corner is the same digit
            draw(opened.page, [[(size * x, size * y) for x, y in stroke] for stroke in strokes])
            assert opened.page.inner_text("#answer").startswith(f"It sees {digit}")
            pixels = np.reshape(opened.page.evaluate("xpnet.pixels"), (28, 28))
            height, width = (np.ptp(np.flatnonzero((pixels > 64).any(axis=axis))) + 1 for axis in (1, 0))
            assert 19 <= max(height, width) <= 21  # as MNIST's own, which are 20
            mass = [(pixels.sum(axis=axis) @ (np.arange(28) + 0.5)) / pixels.sum() for axis in (1, 0)]
            np.testing.assert_allclose(mass, 14.5, atol=0.1)  # as MNIST's own: the corner between four pixels is 14


@pytest.mark.parametrize("kind", ["light on dark", "dark on light", "floats", "wide", "tall"])
def test_a_drawing_becomes_a_picture_like_the_rows(opened: Opened, digits: Any, kind: str, tmp_path: Path) -> None:
    small = digits.test.x.reshape(-1, 8, 8).repeat(3, axis=1).repeat(3, axis=2)
    around = {"wide": (6, 4, 12, 20), "tall": (14, 6, 2, 2)}.get(kind, (6, 5, 4, 6))
    pictures = np.pad(small, ((0, 0), around[:2], around[2:])).astype(np.float32) * np.float32(15)
    if kind != "floats":
        pictures = (255 - pictures if kind == "dark on light" else pictures).astype(np.uint8)
    height, width = pictures.shape[1:]
    data = Dataset(pictures.reshape(len(small), -1), digits.test.y, 1 / 255, image_shape=(height, width))
    trainer = Trainer(
        Sequential(
            Reshape(height, width, 1),
            Conv2d(1, 2, 3),
            Flatten(),
            Linear(2 * (height - 2) * (width - 2), 10),
            backend="cpu",
        )
    )
    trainer.fit(data, 1)
    write_report(tmp_path / "report.html", trainer, data)
    opened.page.goto((tmp_path / "report.html").as_uri())
    opened.page.locator("#pad").scroll_into_view_if_needed()
    pen = pen_of(pictures)
    for strokes in DRAWN.values():
        draw(opened.page, strokes)
        found = np.reshape(opened.page.evaluate("xpnet.pixels"), (1, height, width)).astype(pictures.dtype)
        np.testing.assert_array_equal(found[0, 0], np.full(width, pen["paper"]))
        drawn = pen_of(found)
        assert (drawn["paper"], drawn["ink"]) == (pen["paper"], pytest.approx(pen["ink"], abs=1))
        assert drawn["size"] == pytest.approx(pen["size"], abs=1)
        ink = (found[0] - pen["paper"]) / (pen["ink"] - pen["paper"])
        mass = [(ink.sum(axis=1 - axis) @ (np.arange(n) + 0.5)) / ink.sum() for axis, n in enumerate((height, width))]
        np.testing.assert_allclose(mass, pen["centre"], atol=0.2)
        assert drawn["thickness"] == pytest.approx(pen["thickness"], rel=0.2)
    assert opened.said == []


@pytest.mark.parametrize("milliseconds", [1, 1000])
def test_a_slow_network_answers_at_the_end_of_a_line(
    opened: Opened, ten: Trainer, digits: Any, milliseconds: int, tmp_path: Path
) -> None:
    write_report(tmp_path / "report.html", ten, digits.test)
    page = opened.page
    page.goto((tmp_path / "report.html").as_uri())
    page.evaluate(f"{{ let now = 0; performance.now = () => (now += {milliseconds}); }}")
    page.locator("#pad").scroll_into_view_if_needed()
    box = page.locator("#pad").bounding_box()

    def seen_after(act: Any, x: float, y: float) -> Any:
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["width"])
        act()
        return page.evaluate("xpnet.pixels")

    first = seen_after(page.mouse.down, 0.5, 0.2)
    on_the_way = seen_after(lambda: None, 0.3, 0.8)
    at_the_end = seen_after(page.mouse.up, 0.3, 0.8)
    assert None not in (first, on_the_way, at_the_end)
    assert (on_the_way == first) == (milliseconds == 1000)
    assert (on_the_way == at_the_end) == (milliseconds == 1)
    assert first != at_the_end


def test_a_test_row_is_shown_with_its_label(opened: Opened, ten: Trainer, digits: Any, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", ten, digits.test)
    opened.page.goto((tmp_path / "report.html").as_uri())
    opened.page.click("#row")
    assert f"test row 0 is labelled {digits.test.y[0]}" in opened.page.inner_text("#answer")
    assert opened.page.evaluate("xpnet.pixels") == digits.test.x[0].tolist()


def test_values_of_a_curve_appear_under_the_pointer(opened: Opened, ten: Trainer, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", ten)
    opened.page.goto((tmp_path / "report.html").as_uri())
    box = opened.page.locator("svg.chart").first.bounding_box()
    assert not opened.page.locator("#hover").is_visible()
    opened.page.mouse.move(box["x"] + 0.86 * box["width"], box["y"] + box["height"] / 2)
    last = ten.history[-1]
    assert opened.page.inner_text("#hover").splitlines() == [
        "epoch 12",
        f"training {last['loss']:.4g}",
        f"validation {last['val_loss']:.4g}",
    ]
    opened.page.mouse.move(0, 0)
    assert not opened.page.locator("#hover").is_visible()


def test_a_comparison_opens_too(opened: Opened, ten: Trainer, digits: Any, tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in ("a.html", "b.html", "c.html")]
    write_report(files[0], ten, digits.test)
    write_report(files[1], ten, digits.test, title="the same")
    assert main(["compare", *files[:2], "--output", files[2]]) == 0
    opened.page.goto(Path(files[2]).as_uri())
    assert opened.page.title() == "a.html and b.html"
    assert opened.page.locator("svg.chart .line").count() == 8
    opened.page.locator("svg.chart").first.hover()
    assert {line.split()[0] for line in opened.page.inner_text("#hover").splitlines()} == {"epoch", "a.html", "b.html"}
    assert opened.said == []


def test_the_page_is_readable_on_a_small_dark_screen(browser: Any, ten: Trainer, digits: Any, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", ten, digits.test)
    page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
    page.goto((tmp_path / "report.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    colors = "(({ color, backgroundColor }) => [color, backgroundColor])(getComputedStyle(document.body))"
    ink, paper = (sum(map(int, text[4:-1].split(", "))) for text in page.evaluate(colors))
    assert ink > 600
    assert paper < 150
    page.close()
