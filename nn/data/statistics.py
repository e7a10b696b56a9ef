"""Mean and variance of the columns of a table, and whether they differ too much for a network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from ..messages import OneSentence
from .checks import DataError
from .dataset import Dataset
from .streamed.dataset import StreamedDataset
from .units import DARKEST_WHITE

#: How many numbers are looked at at a time, so that no array as large as the data is needed.
CHUNK = 1 << 20
#: Columns whose deviations differ by more than this factor learn badly together.
FAR_APART = 1000.0
#: Targets whose mean or deviation is beyond this take a network long to come to.
FAR_TARGETS = 20.0
#: So many rows say how large the numbers of a column are.
ROWS_LOOKED_AT = 10_000


class ScaleWarning(OneSentence, UserWarning):
    """The columns of the training rows differ by orders of magnitude, and nothing brings them to one size; or they are
    pictures from 0 to 255, and nothing scales them."""


def column_statistics(data: Dataset | StreamedDataset, dtype: str = "float64") -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (features,) of the columns as the network sees them, float64; of a constant column 1 takes the
    place of the variance, as in scikit-learn's ``StandardScaler``.

    Raises:
        DataError: a variance is beyond the numbers of ``dtype``, in which a network computes.
    """
    n = len(data)
    mean = sum(_seen(data, part).sum(axis=0) for part in _parts(data)) / n
    squares = np.zeros(data.n_features)
    for part in _parts(data):
        squares += ((_seen(data, part) - mean) ** 2).sum(axis=0)
    variance = squares / n
    epsilon = np.finfo(np.float64).eps
    # Chan, Golub and LeVeque, 1983: what the rounding of the mean makes of a constant column.
    variance[variance <= n * epsilon * variance + (n * mean * epsilon) ** 2] = 1.0
    limits = np.finfo(dtype)
    bad = ~((variance >= float(limits.tiny)) & (variance <= float(limits.max)))
    if bad.any():
        column = int(bad.argmax())
        raise DataError(
            f"column {column_name(data, column)} cannot be standardized: its variance, {variance[column]:g}, is beyond "
            f"the numbers of {dtype}; rescale the column"
        )
    return mean, variance


def _parts(data: Dataset | StreamedDataset) -> Iterator[np.ndarray]:
    """The rows, flat, in parts of at most about ``CHUNK`` numbers."""
    rows = max(CHUNK // data.n_features, 1)
    if isinstance(data, Dataset):
        parts: Iterable[np.ndarray] = (data.x[start : start + rows] for start in range(0, len(data), rows))
    else:
        parts = (x for x, _ in data.parts(rows))
    return (part.reshape(len(part), -1) for part in parts)


def _seen(data: Dataset | StreamedDataset, x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64) * data.scale + data.shift


def column_name(data: Dataset | StreamedDataset, index: int) -> str:
    """The name of a column of the network's rows, else its index; of a category with the column that it is of."""
    if data.columns is None:
        return str(index)
    names = [
        column.name if column.categories is None else f"{column.name}={category}"
        for column in data.columns
        for category in (column.categories or ("",))
    ]
    return (names[index] if index < len(names) else "") or str(index)


def advice(data: Dataset | StreamedDataset) -> str:
    """What to say of columns that differ by orders of magnitude; "" where they do not, or are pixels.

    It goes by the deviation of each column that is not constant, in the first ``ROWS_LOOKED_AT`` rows; in the sample of
    rows that are larger than memory.
    """
    data = data if isinstance(data, Dataset) else data.sample
    if data.x.dtype == np.uint8 or data.image_shape is not None or data.x.ndim != 2 or data.n_features < 2:
        return ""
    with np.errstate(over="ignore", invalid="ignore"):
        deviations = data.x[:ROWS_LOOKED_AT].astype(np.float64).std(axis=0)
    of = [index for index, deviation in enumerate(deviations.tolist()) if deviation > 0 and math.isfinite(deviation)]
    if len(of) < 2:
        return ""
    least, most = min(of, key=lambda i: deviations[i]), max(of, key=lambda i: deviations[i])
    if deviations[most] <= FAR_APART * deviations[least]:
        return ""
    factor = 10 ** math.floor(math.log10(deviations[most] / deviations[least]))
    return (
        f"column {column_name(data, most)} varies more than {factor:,} times as much as column "
        f"{column_name(data, least)}"
    )


def picture_advice(data: Dataset | StreamedDataset) -> str:
    """What to say of pictures of floats from 0 to 255; "" of others, and of those that are scaled, as pictures of whole
    numbers are when arrays become a data set."""
    data = data if isinstance(data, Dataset) else data.sample
    is_picture = data.image_shape is not None or data.x.ndim > 2
    if not is_picture or data.x.dtype == np.uint8 or not data.x.size or (data.scale, data.shift) != (1.0, 0.0):
        return ""
    low, high = float(data.x.min()), float(data.x.max())
    if low < 0 or not DARKEST_WHITE < high <= 255:
        return ""
    return f"the pixels of the training pictures go from {low:g} to {high:g}, and nothing scales them; divide by 255"


def target_advice(data: Dataset | StreamedDataset) -> str:
    """What to say of values to fit that are far from what a network begins with; "" where they are near."""
    data = data if isinstance(data, Dataset) else data.sample
    if data.has_classes or data.y.dtype.kind != "f" or data.y.size == 0:
        return ""
    mean, deviation = float(data.y.mean(dtype=np.float64)), float(data.y.std(dtype=np.float64))
    if max(abs(mean), deviation) <= FAR_TARGETS or not math.isfinite(deviation):
        return ""
    return (
        f"the targets have mean {mean:.3g} and deviation {deviation:.3g}, and a network begins near 0: it takes many "
        "epochs with adam and a rate such as 0.01, or targets that are scaled to deviation 1"
    )
