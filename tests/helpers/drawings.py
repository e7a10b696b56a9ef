"""Digits as somebody may send them: of any size, on light or dark paper, anywhere on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def on_paper(digit: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The box around a digit (height, width) of uint8, on paper of other margins: 1 to 24 pixels on each side."""
    rows, columns = (np.flatnonzero(digit.any(axis=axis)) for axis in (1, 0))
    top, bottom, left, right = rng.integers(1, 25, 4)
    box = digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.pad(box, ((top, bottom), (left, right)))


def as_picture(digit: np.ndarray, scale: float, light_paper: bool) -> Any:
    """A digit of light strokes on dark paper, (height, width) of uint8, as a picture of Pillow so many times as
    large."""
    from PIL import Image

    height, width = (max(round(extent * scale), 1) for extent in digit.shape)
    return Image.fromarray(255 - digit if light_paper else digit).resize((width, height), Image.Resampling.BICUBIC)


def write_pictures(folder: Path, digits: np.ndarray, scale: float, light_paper: bool) -> list[Path]:
    """A .png file for each digit (n, height, width)."""
    paths = [folder / f"{index:03}.png" for index in range(len(digits))]
    for path, digit in zip(paths, digits, strict=True):
        as_picture(digit, scale, light_paper).save(path)
    return paths
