"""The word FILE of a command: rows without targets, in any format that a model may be shown rows in.

What a file is, its first bytes say, not its name, so that standard input, ``-``, can be any of them.
"""

from __future__ import annotations

import gzip
import math
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..data import DataError, Dataset, StreamedDataset
from ..data.archives import read_npz_rows
from ..data.checks import check_range
from ..data.idx import read_idx
from ..data.pictures import MNIST_SHAPE, MNIST_SIZE, centred, read_picture, scaled
from ..data.reading import open_file, reading
from ..data.streamed.parquet import ParquetSource
from ..data.streamed.unlabelled import is_large, loaded, stored_rows
from ..data.units import FEWEST_PIXELS, square
from ..messages import printable
from ..model import Sequential
from ..picture_shape import Picture, picture
from ..streamed_feed import WINDOW_IN_ORDER, window_in_order
from .table_rows import parquet_rows, read_rows

#: How a file of each kind begins. What is none of these is a table.
MAGIC = (
    ("picture", b"\x89PNG\r\n\x1a\n"),
    ("picture", b"\xff\xd8\xff"),
    ("picture", b"GIF8"),
    ("npy", b"\x93NUMPY"),
    ("npz", b"PK\x03\x04"),
    ("idx", b"\0\0\x08"),
    ("hdf5", b"\x89HDF\r\n\x1a\n"),
    ("parquet", b"PAR1"),
    ("a TIFF picture", b"II*\0"),
    ("a TIFF picture", b"MM\0*"),
    ("a PDF", b"%PDF-"),
)
#: What a file is called by its ending, where that is no table.
CALLED = {".h5": "HDF5 file", ".hdf5": "HDF5 file", ".parquet": "Parquet file", ".zarr": "zarr folder"} | {
    ending: f"{ending} file" for ending in (".npy", ".npz", ".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp")
}
#: What is known, but not read here, and what to save it as.
UNREAD = dict.fromkeys(("a TIFF picture", "a HEIC picture", "a PDF"), ".png")
#: How pictures become rows: ``centre`` as MNIST's rows were made, ``stretch`` as they are; ``auto`` is ``centre`` for
#: rows of MNIST's shape.
FITS = ("auto", "centre", "stretch")


@dataclass(frozen=True)
class Options:
    """What a user says of files.

    Attributes:
        fit: one of ``FITS``, for pictures.
        invert: whether light and dark are exchanged in pictures that are not centred.
        drop: columns of tables that are no features, by name or number.
    """

    fit: str = "auto"
    invert: bool = False
    drop: Sequence[str] = ()


class Part(NamedTuple):
    """Some rows of a file, as a model takes them: the number of the first of them, and how many the file has."""

    rows: Dataset
    first: int
    total: int


def parts_of(model: Sequential, given: str, options: Options, batch_size: int) -> Iterator[Part]:
    """The rows of a file or folder, ``-`` for standard input, one part after the other, each of some 16 MiB and of
    whole batches: so what is larger than memory is read as its answers are computed.

    Raises:
        DataError: it cannot be read, or does not fit the model; the message names it.
    """
    with _as_file(given) as path, _naming(path, "standard input" if given == "-" else given):
        rows: Dataset | StreamedDataset = rows_at(model, path, options)
        if isinstance(rows, StreamedDataset):
            name, most = rows.rows.name, window_in_order(rows)
        else:
            name, most = "x", WINDOW_IN_ORDER // max(rows.n_features * rows.x.dtype.itemsize, 1)
        size = max(most // batch_size, 1) * batch_size
        for first in range(0, len(rows), size):
            part = rows[first : first + size]
            check_range(part.x, name, model.backend.dtype_name, first)
            yield Part(part, first, len(rows))


def rows_at(model: Sequential, path: Path, options: Options) -> Dataset:
    """All of them; where they stay in their file, as a ``StreamedDataset``."""
    kind = kind_of(path)
    if kind == "picture":
        return model.rows(picture_row(model, path, options)[None])
    if kind in UNREAD:
        raise DataError(f"{path} is {kind}, which is not read here; save it as {UNREAD[kind]}")
    if kind in ("npy", "hdf5", "folder"):
        return model.rows(stored_rows(path, kind))
    if kind in ("npz", "idx"):
        return model.rows(read_npz_rows(path) if kind == "npz" else read_idx(path))
    columns, n_features = None if model.units is None else model.units.columns, math.prod(model.row_shape or (0,))
    if kind == "table":
        try:
            return model.rows(read_rows(path, columns, n_features, options.drop))
        except ValueError:
            called = CALLED.get(path.suffix.lower())
            if called is None:
                raise
            why = f"{path} is no {called}, and no table that the model takes; copy or download it again"
            raise DataError(why) from None
    found = parquet_rows(path, columns, n_features, options.drop)
    return model.rows(loaded(found) if isinstance(found, ParquetSource) and not is_large(found) else found)


def kind_of(path: Path) -> str:
    """``"picture"``, ``"npy"``, ``"npz"``, ``"idx"``, ``"hdf5"``, ``"parquet"``, one of ``UNREAD``, or else
    ``"table"``, by the first bytes; or ``"folder"``.

    Raises:
        DataError: there are none, or they cannot be read.
    """
    if path.is_dir():
        return "folder"
    if not path.exists():
        raise DataError(f"{path}: there is no such file")
    with reading(path), open_file(path) as file:
        begins = file.read(16)
        if not begins:
            raise DataError(f"{path} is empty")
        if begins.startswith(b"\x1f\x8b"):
            with gzip.open(path) as inside:
                return "idx" if inside.read(3) == b"\0\0\x08" else "table"
    if begins.startswith(b"RIFF") and begins[8:12] == b"WEBP":
        return "picture"
    if begins.startswith(b"BM") and begins[6:10] == b"\0\0\0\0":  # a table may have a first column BMI
        return "picture"
    if begins[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1"):
        return "a HEIC picture"
    return next((kind for kind, magic in MAGIC if begins.startswith(magic)), "table")


def picture_row(model: Sequential, path: Path, options: Options) -> np.ndarray:
    """A picture as a row of ``model``, in the raw numbers of its training rows.

    Raises:
        DataError: the model does not take pictures, or the file cannot be used.
    """
    found = picture_of_model(model)
    if found is None:
        raise DataError(
            f"{path} is a picture, but the model takes rows of {math.prod(model.row_shape or ())} numbers that are no "
            "pictures"
        )
    shape = found.shape
    channels = 1 if len(shape) == 2 else shape[2]
    drawing = read_picture(path, channels)
    if centres(model, options.fit):
        if channels != 1:
            raise DataError(f"{path}: drawings are centred for rows of one channel, not {channels}; say --fit stretch")
        size = MNIST_SIZE * min(shape[:2]) // min(MNIST_SHAPE)
        if drawing.ndim == 3:
            drawing = drawing[:, :, 0]
        greys = centred(drawing, shape[:2], max(size, 1))
    else:
        greys = scaled(1 - drawing if options.invert else drawing, shape[:2])
    units = model.units
    low, high = (0.0, 255.0) if units is None else (units.low, units.high)
    if low == high:  # a network that was trained elsewhere: it is taken to have seen 0 to 1
        low, high = 0.0, 1.0 / (units.scale if units is not None and units.scale else 1.0)
    raw = low + greys * (high - low)
    if float(low).is_integer() and float(high).is_integer() and high - low > 1:
        raw = np.rint(raw)
    if found.channels_first:
        return np.moveaxis(raw.reshape(*shape[:2], channels), -1, 0)
    return raw.reshape(model.row_shape or shape)


def centres(model: Sequential, fit: str) -> bool:
    """Whether pictures are centred for a model, not stretched, where a user says ``fit``, one of ``FITS``."""
    if fit != "auto":
        return fit == "centre"
    found = picture_of_model(model)
    return found is not None and found.shape == MNIST_SHAPE


def picture_of_model(model: Sequential) -> Picture | None:
    """What the model's rows are as pictures, (height, width) or (height, width, channels), where they may be any: as
    its first layers and its training rows say, or by their number."""
    known = None if model.units is None else model.units.row_shape
    row = model.row_shape or known
    if row is None:
        return None
    found = picture(row, known, model.layers)
    if found is None and len(row) == 1 and row[0] >= FEWEST_PIXELS and (side := square(row[0])) is not None:
        return Picture(side)
    if found is not None and found.shape[2:] == (1,):
        return found._replace(shape=found.shape[:2])
    return found


@contextmanager
def _as_file(given: str) -> Iterator[Path]:
    """The path of a file; of standard input, what it holds, for as long as the context lasts."""
    if given != "-":
        yield Path(given)
        return
    if sys.stdin is None:
        raise DataError("standard input is closed; name a file")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "input"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield path


@contextmanager
def _naming(path: Path, name: str) -> Iterator[None]:
    """Errors name the file as the user does."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror or error}") from None
    except (ValueError, TypeError) as error:
        text = str(error).replace(printable(str(path)), printable(name))
        raise DataError(text if printable(name) in text else f"{name}: {text}") from None
