"""The one way in for rows: from arrays of any library to a ``Dataset``, in the units of the model.

Everything that trains, evaluates or predicts takes its rows through ``as_dataset`` or ``as_rows``, or gets a
``Dataset`` from ``nn.data.load_data``, and its targets through ``encode_targets``. So the code behind them never meets
a ragged row, a NaN or a label that is no class, and how numbers become what the network sees is decided here alone:

- a ``Dataset`` states its units, by its ``scale`` and ``shift``;
- arrays and lists are raw numbers in the units of the model's training rows, whatever their dtype;
- where nothing was trained yet, pixels from 0 to 255 (see ``units.are_pixels``) get the scale 1/255, and all other rows
  are taken as they are.
"""

from __future__ import annotations

import math
import os
from typing import Any, cast

import numpy as np

from backends.arguments import check_kind, check_shape, check_whole_number
from backends.typing import Shape

from .checks import DataTypeError, check_labels, check_numbers, check_rows, check_same_length, check_values, floats_of
from .columns import Column, check_columns
from .dataset import Dataset
from .frames import array_rows, frame_rows
from .labels import Names, classes_of, numbered, read_labels, warn_of_names
from .streamed.as_streamed import lies_elsewhere, streamed_dataset
from .streamed.dataset import StreamedDataset
from .units import PIXEL_SCALE, Units, are_pixels, square
from .values import is_frame


def as_dataset(
    data: Any, units: Units | None = None, row_shape: Shape | None = None, n_classes: int | None = None
) -> Dataset:
    """Checked rows and targets from arrays of any library (NumPy, CuPy, PyTorch, JAX, pandas, polars) or lists.

    Args:
        data: a Dataset or a StreamedDataset, returned as it is; or ``(x, y)``; or ``(x,)`` or ``(x, None)`` for rows
            without targets.
            x: (n, features), or pictures (n, height, width) or (n, height, width, channels), which are flattened and
            keep their ``image_shape``. Whole numbers from 0 to 255 that are pixels are kept as uint8, floats as float32
            or float64, float16 as float32; other integers and bool as float32 (float64 beyond 2**24).
            Columns of a DataFrame (pandas, polars) are taken by their names, in the order of the training rows.
            What is not in memory is not loaded, and becomes a StreamedDataset: the path of a .npy file or a zarr array,
            an array of h5py or zarr, a memmap of more than 256 MiB.
            y: integers, text and bool (n,) or (n, 1) are class labels (see ``nn.data.labels`` for which are numbers and
            which names). Floats are values, even if they are whole, and so are several columns of anything (n, k): what
            they look like in some rows decides nothing. A loss of classes takes these for labels and one-hot rows all
            the same (``encode_targets``).
        units: of the model, where it was trained or loaded: x is in these, whatever its dtype. Without them the rows
            decide: pixels get the scale 1/255, others 1.
        row_shape: of the rows that the network takes, (784,) or (28, 28) for example: x may then also be one such row.
        n_classes: how many classes a network tells apart: so many integers that do not begin with 0, as 1, 2, 3 or -1
            and 1, are names of classes.

    Raises:
        DataError: (a ValueError) no rows, different numbers of rows, NaN or infinity, a label that is no class.
        DataTypeError: (a TypeError too) text, or something that is no array of numbers.

    Warns:
        UnitsWarning: the numbers of x cannot be in ``units``.
        LabelsWarning: integers are taken for names, so that they are not what ``predict`` gives.
    """
    _check_of_model(units, row_shape)
    if n_classes is not None:
        n_classes = check_whole_number("n_classes", n_classes)
    known = None if units is None else units.class_names
    if isinstance(data, Dataset | StreamedDataset):
        check_columns(data.columns, None if units is None else units.columns)
        return cast(Dataset, data.with_classes(known))
    if not isinstance(data, tuple) or len(data) not in (1, 2):
        parts = hasattr(data, "train") and hasattr(data, "test")  # as `nn.data.Data` has, which imports this module
        hint = "; say which rows of it: data.train or data.test" if parts else ""
        if not parts and len(shape_of(data)) > 1:
            hint = "; this is rows alone: pass their targets too, as in fit(x, y) or validation=(x, y)"
        elif isinstance(data, str | os.PathLike):
            hint = "; this is a path alone: name the targets, too, as in fit('x.npy', 'y.npy'), or say nn.load_data"
        raise DataTypeError(f"data must be a Dataset, a tuple (x, y), or (x,) for rows without targets{hint}")
    if lies_elsewhere(data[0]):
        return cast(Dataset, streamed_dataset(data[0], data[1] if len(data) == 2 else None, units, n_classes))
    given, columns = _from_table(data[0], units)
    x = check_rows(_as_several(check_numbers(given, "x"), units, row_shape))
    if len(data) == 1 or data[1] is None:
        return pack(x, np.zeros((len(x), 0), dtype=np.float32), units=units, columns=columns)
    y = read_labels(data[1], "y")
    check_same_length(x, y)
    if y.dtype.kind == "f" and y.ndim in (1, 2):
        return pack(x, check_values(y), units=units, columns=columns)
    if y.ndim == 2 and y.shape[1] > 1 and y.dtype.kind != "U":
        return pack(x, floats_of(y), units=units, columns=columns)
    labels, names = _classes(y, units is not None, known, n_classes)
    return pack(x, labels, names, units, columns=columns)


def _check_of_model(units: Any, row_shape: Any) -> None:
    if units is not None:
        check_kind("units", units, Units, "the Units of a model")
    check_shape("row_shape, unless it is None,", row_shape)


def _from_table(x: Any, units: Units | None) -> tuple[Any, tuple[Column, ...] | None]:
    """Rows of a table as an array, with what the model has learnt of its columns applied to them."""
    learnt = None if units is None else units.columns
    if is_frame(x):
        return frame_rows(x, learnt)
    if learnt is None or not any(column.learnt for column in learnt):
        return x, learnt
    return array_rows(x, learnt), learnt


def _classes(y: np.ndarray, trained: bool, known: Names | None, n_classes: int | None) -> tuple[np.ndarray, Names]:
    """Class numbers and names, from text, integers or bool (n,) or (n, 1)."""
    if y.size and y.ndim in (1, 2):
        y = y.reshape(-1)
        if y.dtype.kind == "U" and trained and not known:
            raise DataTypeError("y has text in it, but the network was trained on class numbers; pass these")
        if y.dtype.kind in "Ub" or known:
            return classes_of(y, known, lambda row: f"y[{row}]")
        distinct = np.unique(y)
        if n_classes == len(distinct) and distinct[0] != 0 and not (distinct[0] >= 0 and distinct[-1] < n_classes):
            labels, names = classes_of(y.astype(np.int64), None, lambda row: f"y[{row}]")
            warn_of_names(names)
            return labels, names
    labels, count = check_labels(y)
    return labels, numbered(count)


def as_rows(x: Any, units: Units | None = None, row_shape: Shape | None = None) -> Dataset:
    """Checked rows without targets, for prediction: a Dataset as it is, or an array of any library or a list of rows,
    with ``units`` and ``row_shape`` as in ``as_dataset``.

    Raises:
        DataError: as of ``as_dataset``; a DataTypeError for rows with their targets, ``(x, y)``.
    """
    _check_of_model(units, row_shape)
    if isinstance(x, Dataset | StreamedDataset):
        return cast(Dataset, x)
    if isinstance(x, tuple) and len(x) == 2 and len(shape_of(x[0])) >= 2 and len(shape_of(x[1])) != len(shape_of(x[0])):
        raise DataTypeError("rows are wanted here without their targets; pass x, not (x, y)")
    return as_dataset((x,), units, row_shape)


def shape_of(x: Any) -> Shape:
    """The shape of an array of any library, or of lists in lists as the first of each has it; () for all else."""
    known = getattr(x, "shape", None)
    if isinstance(known, tuple):
        return tuple(known)
    return (len(x), *shape_of(x[0])) if isinstance(x, list | tuple) and len(x) > 0 else ()


def pack(
    x: np.ndarray,
    y: np.ndarray,
    class_names: Names = (),
    units: Units | None = None,
    name: str = "x",
    columns: tuple[Column, ...] | None = None,
) -> Dataset:
    """A Dataset of checked rows and targets: pictures flattened, numbers with their units, classes with names.

    Warns:
        UnitsWarning: the numbers of x, called ``name``, cannot be in ``units``.
    """
    image_shape: tuple[int, ...] | None = x.shape[1:] if x.ndim > 2 else None
    scale, shift = 1.0, 0.0
    if units is not None:
        units.check(x, name)
        scale, shift = units.scale, units.shift
        if image_shape is None and len(units.row_shape or ()) > 1 and math.prod(units.row_shape or ()) == x.shape[1]:
            image_shape = units.row_shape
    elif are_pixels(x):
        scale, image_shape = PIXEL_SCALE, image_shape or square(x.shape[1])
        x = x.astype(np.uint8, copy=False)
    return Dataset(
        x=x.reshape(len(x), -1),
        y=y,
        scale=scale,
        shift=shift,
        class_names=class_names or None,
        image_shape=image_shape,
        columns=columns,
    )


def _as_several(x: np.ndarray, units: Units | None, row_shape: Shape | None) -> np.ndarray:
    """``x`` as rows (1, ...) if it is one row of a network that takes ``row_shape``, else ``x`` as it is.

    One row is flat, or has the shape of the network's rows, of the training rows, or of a square picture. What can be
    several rows is several: 28 rows of 28 features, not one picture, for a network that takes 28.
    """
    wanted = row_shape or (None if units is None else units.row_shape)
    if wanted is None or not 1 <= x.ndim <= 3 or x.size != math.prod(wanted):
        return x
    if x.ndim > 1 and math.prod(x.shape[1:]) == math.prod(wanted):
        return x
    known = [_without_one_channel(shape) for shape in (row_shape, units and units.row_shape) if shape]
    is_square = x.ndim > 1 and x.shape[0] == x.shape[1] and x.shape[2:] in ((), (1,), (3,), (4,))
    return x[None] if x.ndim == 1 or is_square or _without_one_channel(x.shape) in known else x


def _without_one_channel(shape: Shape) -> Shape:
    return tuple(shape[:2]) if len(shape) == 3 and shape[2] == 1 else tuple(shape)
