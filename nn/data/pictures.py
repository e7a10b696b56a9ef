"""Pictures of any size and polarity as rows: drawings and scans of digits become what MNIST's rows are.

MNIST's rows were made so (http://yann.lecun.com/exdb/mnist): light strokes on black, scaled to fit into 20x20 pixels
with their aspect ratio kept, grey levels by antialiasing, put into 28x28 so that the centre of mass is in the middle.
``centred`` does that to any picture; ``resized`` only brings a picture to a shape. Files are read by Pillow, which is
optional.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from backends.typing import Shape

from .checks import DataError
from .reading import library, open_file, reading

#: The formats that are read, by Pillow's names. Of several pictures in a file the first is taken.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
#: The modes of Pillow by the number of channels.
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
#: Larger pictures are made smaller by whole factors, until no side is longer: so what follows takes little memory.
LONGEST_SIDE = 1024
#: The shape of MNIST's rows, and how large what is drawn is in them.
MNIST_SHAPE, MNIST_SIZE = (28, 28), 20
#: What belongs to the drawing: at least this share of the way from paper to ink.
INK_FROM = 0.1
#: Noise reaches so many times the median deviation of paper: four standard deviations, where it is normal.
SCATTER = 6.0
#: Where ink and paper differ by less, of 1 from black to white, nothing is drawn.
LEAST_CONTRAST = 0.05


def read_picture(path: str | os.PathLike[str], channels: int = 1) -> np.ndarray:
    """A picture from a file (PNG, JPEG, BMP, GIF or WebP): float32 from 0, black, to 1, white.

    It is turned as the camera says. Transparent pixels show paper: white under dark ink, black under light ink.

    Args:
        channels: 1 for (height, width) greys; 3 or 4 for (height, width, channels) of red, green, blue and opacity.

    Raises:
        DataError: Pillow is not installed; or the file is no such picture, is damaged, or has more pixels than Pillow
            takes for safe.
    """
    library("PIL", path, "Pillow", "pillow")
    from PIL import Image, ImageOps, UnidentifiedImageError

    if channels not in MODES:
        raise DataError(f"{path}: pictures have 1, 3 or 4 channels, but the rows have {channels}")
    with reading(Path(path)), warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with open_file(Path(path)) as content, Image.open(content, formats=FORMATS) as file:
                picture = ImageOps.exif_transpose(file)
        except UnidentifiedImageError:
            raise DataError(f"{path} is no picture that can be read; known are {', '.join(FORMATS)}") from None
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise DataError(f"{path} has more pixels than a picture should have; make it smaller") from None
        if picture.mode.startswith("I"):  # 16 bits
            picture = Image.fromarray(np.asarray(picture, np.float32) / np.float32(257))
        elif picture.has_transparency_data and channels != 4:
            picture = _on_paper(picture.convert("RGBA"), Image)
        if picture.mode != "F":
            picture = picture.convert(MODES[channels])
        picture = picture.reduce(max(-(-max(picture.size) // LONGEST_SIDE), 1))
        greys = np.asarray(picture, np.float32) / np.float32(255)
    if greys.ndim == 2 and channels > 1:
        greys = np.repeat(greys[:, :, None], channels, axis=2)
    return greys


def _on_paper(picture: Any, image: Any) -> Any:
    """An RGBA picture without its opacity."""
    opacity = np.asarray(picture.getchannel("A"), np.float32)
    greys = np.asarray(picture.convert("RGB").convert("L"), np.float32)
    is_dark = float((greys * opacity).sum()) < 127.5 * float(opacity.sum())
    paper = image.new("RGBA", picture.size, (255, 255, 255, 255) if is_dark else (0, 0, 0, 255))
    return image.alpha_composite(paper, picture).convert("RGB")


def inked(greys: np.ndarray) -> np.ndarray:
    """How much ink each pixel has, (height, width) from 0, paper, to 1, for light strokes on dark and dark ones on
    light.

    Paper is the median of the pixels along the four edges, ink is what is farthest from it. As much as those pixels
    scatter, as in photographs, counts as paper and as ink, too.

    Raises:
        DataError: all pixels are nearly alike.
    """
    edges = np.concatenate([greys[0], greys[-1], greys[:, 0], greys[:, -1]])
    paper = float(np.median(edges))
    low, high = float(greys.min()), float(greys.max())
    ink = low if paper - low > high - paper else high
    if abs(ink - paper) < LEAST_CONTRAST:
        raise DataError("nothing is drawn in it: all pixels are nearly alike")
    scatter = float(np.median(abs(edges - paper))) / abs(ink - paper)
    noise = min(SCATTER * scatter, 0.4)
    return np.clip(((greys - paper) / (ink - paper) - noise) / (1.0 - 2.0 * noise), 0.0, 1.0)


def centred(greys: np.ndarray, shape: Shape = MNIST_SHAPE, size: int = MNIST_SIZE) -> np.ndarray:
    """A picture as MNIST's rows are: ``shape`` of float64 from 0, paper, to 1, ink.

    The box around what is drawn is scaled to fit into ``size`` pixels squared, its aspect ratio kept, each pixel being
    the mean of what it covers, and put where its centre of mass is in the middle, as far as the box stays inside.

    Args:
        greys: (height, width), see ``read_picture``; light on dark or dark on light.
        shape: (height, width) of the row.

    Raises:
        DataError: nothing is drawn.
    """
    drawn = inked(greys)
    rows, columns = (np.flatnonzero((drawn >= INK_FROM).any(axis=axis)) for axis in (1, 0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    scale = size / max(bottom - top, right - left)
    height, width = (max(round(scale * extent), 1) for extent in (bottom - top, right - left))
    small = scaled(drawn[top:bottom, left:right], (height, width))
    mass = small.sum()
    placed = np.zeros(shape)
    at = []
    for axis, (extent, whole) in enumerate(zip(small.shape, shape, strict=True)):
        centre = float(small.sum(axis=1 - axis) @ (np.arange(extent) + 0.5)) / mass
        at.append(min(max(round((whole + 1) / 2 - centre), 0), whole - extent))
    placed[at[0] : at[0] + height, at[1] : at[1] + width] = small
    return placed


def scaled(picture: np.ndarray, shape: Shape) -> np.ndarray:
    """``picture`` (height, width[, channels]) as (height, width[, channels]) of another ``shape``, each pixel the mean
    of what it covers; where a side becomes longer, between its neighbours."""
    from PIL import Image

    if picture.ndim == 3:
        return np.stack([scaled(picture[:, :, index], shape) for index in range(picture.shape[2])], axis=2)
    image = Image.fromarray(np.ascontiguousarray(picture, np.float32))
    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.HAMMING), np.float64)
