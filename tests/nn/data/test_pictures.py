"""Pictures from files, and how they become rows like MNIST's."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nn import DataError, load_data
from nn.data.pictures import LONGEST_SIDE, MNIST_SIZE, centred, inked, read_picture, scaled
from nn.report.embedded import pen_of
from tests.helpers.drawings import as_picture

Image: Any = pytest.importorskip("PIL.Image", reason="pictures need Pillow")


def drawn(height: int = 40, width: int = 30) -> np.ndarray:
    """A drawing of two strokes, uint8, light on dark."""
    paper = np.zeros((height, width), np.uint8)
    paper[5 : height - 8, 8:12] = 255
    paper[height - 12 : height - 8, 8 : width - 5] = 200
    return paper


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "mode", "near"),
    [
        ("png", "L", 0.001), ("png", "RGB", 0.001), ("png", "RGBA", 0.01), ("png", "LA", 0.01), ("png", "P", 0.02),
        ("png", "1", 0.25), ("bmp", "L", 0.001), ("bmp", "RGB", 0.001), ("gif", "L", 0.001), ("jpg", "L", 0.1),
        ("jpg", "RGB", 0.1), ("jpg", "CMYK", 0.1), ("webp", "RGB", 0.1),
    ],
)  # fmt: skip
def test_every_format_gives_the_same_greys(tmp_path: Path, ending: str, mode: str, near: float) -> None:
    path = tmp_path / f"a.{ending}"
    picture = Image.fromarray(drawn())
    picture = picture.convert("1", dither=0) if mode == "1" else picture.convert("RGB").convert(mode)
    picture.save(path, **({"lossless": True} if ending == "webp" else {"quality": 95} if ending == "jpg" else {}))
    greys = read_picture(path)
    assert greys.shape == (40, 30)
    assert greys.dtype == np.float32
    assert np.abs(greys - drawn() / 255).max() <= near


def test_a_picture_of_16_bits(tmp_path: Path) -> None:
    numbers = (np.arange(20 * 30, dtype=np.uint16) * 109).reshape(20, 30)
    Image.fromarray(numbers).save(tmp_path / "a.png")
    assert np.allclose(read_picture(tmp_path / "a.png"), numbers / 65535, atol=1e-6)
    assert np.allclose(read_picture(tmp_path / "a.png", 3), np.stack([numbers] * 3, axis=2) / 65535, atol=1e-2)


@pytest.mark.parametrize(("ink", "paper"), [(0, 1.0), (255, 0.0)])
def test_what_is_transparent_is_paper_that_the_ink_is_seen_on(tmp_path: Path, ink: int, paper: float) -> None:
    pixels = np.zeros((40, 30, 4), np.uint8)
    pixels[..., :3] = ink
    pixels[..., 3] = drawn()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    greys = read_picture(tmp_path / "a.png")
    assert greys[0, 0] == paper
    assert np.allclose(inked(greys), drawn() / 255, atol=0.01)


def test_colours_where_rows_have_some(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(np.rint(read_picture(tmp_path / "a.png", 3) * 255), pixels)
    assert read_picture(tmp_path / "a.png", 4).shape == (12, 10, 4)
    with pytest.raises(DataError, match="pictures have 1, 3 or 4 channels, but the rows have 2"):
        read_picture(tmp_path / "a.png", 2)


def test_a_photograph_is_turned_as_the_camera_says(tmp_path: Path) -> None:
    picture = Image.fromarray(drawn())
    exif = picture.getexif()
    exif[0x0112] = 6  # the camera was held on its side: turn it clockwise
    picture.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(np.rint(read_picture(tmp_path / "a.png") * 255), np.rot90(drawn(), -1))


def test_a_large_picture_becomes_smaller_at_once(tmp_path: Path) -> None:
    Image.fromarray(np.kron(drawn(), np.ones((100, 100), np.uint8))).save(tmp_path / "a.png")
    greys = read_picture(tmp_path / "a.png")
    assert LONGEST_SIDE / 2 < max(greys.shape) <= LONGEST_SIDE
    assert np.allclose(centred(greys), centred(drawn() / 255), atol=0.1)


def huge_png() -> bytes:
    """A few bytes that claim 10^10 pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0" * 100)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_a_picture_that_claims_all_memory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(huge_png())
    with pytest.raises(DataError, match=r"a\.png has more pixels than a picture should have"):
        read_picture(tmp_path / "a.png")


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"hello")
    with pytest.raises(DataError, match=r"a\.png is no picture that can be read; known are PNG, JPEG, "):
        read_picture(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"b\.png cannot be read"):
        read_picture(tmp_path / "b.png")


@settings(max_examples=60)
@given(data=st.data())
def test_damaged_files_are_read_or_refused_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damaged") / f"a.{data.draw(st.sampled_from(['png', 'jpg', 'gif', 'bmp', 'webp']))}"
    Image.fromarray(drawn()).save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    refused = ""
    try:
        greys = read_picture(path)
        assert greys.ndim == 2
        assert 0 <= greys.min() <= greys.max() <= 1
    except DataError as error:
        refused = str(error)
    assert str(path) in refused or not refused


def test_without_pillow_a_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match=r"a\.png needs Pillow to be read: pip install pillow"):
        read_picture(tmp_path / "a.png")


# ---- ink and paper, and where it stands ------------------------------------------------------------------------------


def test_a_drawing_fits_into_20_pixels_and_has_its_mass_in_the_middle() -> None:
    row = centred(drawn() / 255)
    assert row.shape == (28, 28)
    down, across = (np.flatnonzero(row.any(axis=axis)) for axis in (1, 0))
    assert down[-1] - down[0] + 1 == 20
    assert across[-1] - across[0] + 1 == round(20 * 17 / 27)
    centre = [(row.sum(axis=axis) @ np.arange(28)) / row.sum() for axis in (1, 0)]
    assert np.allclose(centre, 14, atol=0.5)
    assert (row.min(), row.max()) == (0, 1)


@given(top=st.integers(1, 60), bottom=st.integers(1, 60), left=st.integers(1, 60), right=st.integers(1, 60))
def test_it_does_not_matter_where_it_stands_on_the_paper(top: int, bottom: int, left: int, right: int) -> None:
    moved = np.pad(drawn()[5:-8, 8:-5], ((top, bottom), (left, right))) / 255
    assert np.array_equal(centred(moved), centred(drawn() / 255))


@given(paper=st.floats(0, 1), ink=st.floats(0, 1))
def test_it_does_not_matter_how_dark_paper_and_ink_are(paper: float, ink: float) -> None:
    greys = paper + drawn() / 255 * (ink - paper)
    if abs(paper - ink) > 0.051:
        assert np.allclose(centred(greys), centred(drawn() / 255), atol=1e-5)


@pytest.mark.parametrize("scale", [0.5, 2, 3, 10])
def test_its_size_matters_little(scale: float) -> None:
    other = np.asarray(as_picture(drawn(60, 50), scale, light_paper=False)) / 255
    assert np.abs(centred(other) - centred(drawn(60, 50) / 255)).mean() < 0.03


def test_noise_of_a_photograph_is_paper() -> None:
    rng = np.random.default_rng(0)
    photograph = 0.7 - 0.5 * np.kron(drawn(), np.ones((6, 6))) / 255 + rng.normal(0, 0.03, (240, 180))
    photograph += np.linspace(-0.03, 0.03, 180)  # the lamp stood on one side
    assert np.abs(centred(photograph) - centred(drawn() / 255)).mean() < 0.04


@pytest.mark.parametrize("greys", [np.ones((9, 9)), np.zeros((1, 1)), np.linspace(0.5, 0.54, 81).reshape(9, 9)])
def test_an_empty_picture_is_refused(greys: np.ndarray) -> None:
    with pytest.raises(DataError, match="nothing is drawn in it: all pixels are nearly alike"):
        centred(greys)


def test_a_dot_and_a_line_have_a_row() -> None:
    dot = np.zeros((50, 50))
    dot[20, 30] = 1
    assert centred(dot).sum() == pytest.approx(400, rel=0.01)
    line = np.zeros((50, 300))
    line[25, 10:290] = 1
    assert centred(line).sum() == pytest.approx(20, rel=0.01)


def test_rows_of_mnist_stay_what_they_are(mnist_dir: Path) -> None:
    test: Any = load_data("mnist", mnist_dir).test
    rows = test.x[:200].reshape(-1, 28, 28)
    again = np.array([np.rint(centred(row / 255) * 255) for row in rows])
    assert (again == rows).all(axis=(1, 2)).mean() > 0.6
    assert np.abs(again - rows).mean() < 0.2
    # The pad of a report measures size and centre on the rows; a pixel's middle is half a pixel from its edge.
    pen = pen_of(test.x[:2000].reshape(-1, 28, 28))
    assert pen["size"] == MNIST_SIZE
    assert np.allclose(pen["centre"], 14.5, atol=0.1)


def test_other_shapes() -> None:
    assert np.array_equal(scaled(drawn().astype(float), (40, 30)), drawn())
    half = scaled(drawn() / 255, (20, 15))
    assert half.shape == (20, 15)
    assert half.mean() == pytest.approx(drawn().mean() / 255, rel=0.02)
    assert scaled(np.zeros((40, 30, 3)), (8, 8)).shape == (8, 8, 3)
