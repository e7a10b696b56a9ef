"""Where rows come from: scikit-learn's digits, MNIST, archives (.npz, .h5, .hdf5), .npy files, zarr, and tables (.csv,
.tsv, either with .gz, .parquet). What is too large to be loaded stays where it is, and is read as training goes on.

The targets are class labels, or values to fit where a table holds those. What cannot be used is refused with a sentence
that names the file, the position and the remedy. Nothing read is ever unpickled.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from backends.arguments import (
    ArgumentTypeError,
    check_flag,
    check_number,
    check_path,
    check_seed,
    check_whole_number,
    shown,
)
from backends.devices import told_on_host

from .archives import read_hdf5, read_npz
from .checks import DataError
from .dataset import Dataset
from .mnist import load_mnist
from .reading import check_is_file
from .streamed.dataset import StreamedDataset
from .streamed.from_path import LOADED, Stored, can_be_stored, is_large_table, is_stored, open_stored, streamed_halves
from .tables import TableOptions, is_table, read_table

KNOWN_SOURCES = (
    "'digits', 'mnist', a file .npz, .h5, .hdf5, .npy, .csv, .tsv, .csv.gz, .tsv.gz or .parquet, a folder of .npy "
    "files, or .zarr"
)
#: Those that are no path.
OWN_SOURCES = ("digits", "mnist")
TABLES_ALONE = "label, task, impute and categorical are for columns of tables"
#: HDF5 files that have no more rows than fit are not opened twice: gzip shrinks by this factor at most.
MOST_PACKED = 1032
#: A window of all rows.
LARGEST_WINDOW = 2**62


@dataclass(frozen=True)
class Data:
    """Training rows, and the rows kept for testing (None where none were asked for).

    Both are a ``StreamedDataset`` where they are too large to be loaded, or were to be streamed.

    Attributes:
        divided: whether the test rows were set aside from the training rows; else they are stored apart.
    """

    name: str
    train: Dataset
    test: Dataset | None
    divided: bool = False


def load_data(
    source: str | os.PathLike[str] = "digits",
    data_dir: str | os.PathLike[str] | None = None,
    *,
    limit: int | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    progress: bool = True,
    label: str | int | Sequence[str | int] | None = None,
    task: Literal["auto", "classes", "values"] = "auto",
    impute: str | None = None,
    categorical: Sequence[str | int] | None = None,
    window: int | str | None = None,
) -> Data:
    """Training and test rows with class labels, or with values to fit.

    Args:
        source: ``"digits"`` (1,797 pictures of 8x8, bundled with scikit-learn), ``"mnist"`` (60,000 and 10,000 of
            28x28), or the path of a file or folder: see ``read_npz``, ``read_hdf5``, ``nn.data.tables.read_csv`` and
            ``nn.data.streamed.from_path``; or of two .npy files, ``"x.npy,y.npy"``.
        data_dir: the folder with the four MNIST files. Without it, the folder named by the environment variable
            XPNET_DATA; without that, the user's cache, into which missing files are downloaded.
        limit: keep the first so many training rows, and at most as many test rows. (Those that are held out of more
            rows than a window are in the order in which they are stored: of these, and of the rest, rows that are
            evenly spread.)
        test_fraction: how much to hold out, by class, of a source without test rows; 0 for none (``test`` is None).
        seed: of that division, which also shuffles the rows.
        progress: show a bar while downloading.
        label: of a table, the column of the label or the target: its name, or its number from 1, or from the end by -1;
            several columns of values. Without it, it is found by its name or its contents, or asked for.
        task: of a table, ``"classes"``, ``"values"`` (numbers to fit), or ``"auto"``: values where more than half of
            the labels are numbers with a fraction.
        impute: of a table, what stands for missing values: the ``"mean"``, ``"median"`` or ``"most_frequent"`` of the
            training rows. Without it they are refused.
        categorical: of a table, the columns of categories, each of which becomes a column of zeros and ones; ``()`` is
            every column with text in it. Without it text is refused.
        window: of .npy files, zarr, HDF5 and Parquet: how many rows are in memory at a time, while the others stay in
            the file (``StreamedDataset``), or ``"full"`` to load them all. By default files of more than 2 GiB are
            streamed, in windows of 256 MiB.

    Raises:
        DataError: (a ValueError) the source is unknown or cannot be read, or its content cannot be used.
        OutOfMemoryError: (a MemoryError) there is not so much memory.
    """
    if not isinstance(source, str | os.PathLike):
        raise ArgumentTypeError(f"source must be {KNOWN_SOURCES}, not {shown(source)}")
    source = check_path("source", source) if not isinstance(source, str) else source
    if data_dir is not None:
        data_dir = check_path("data_dir", data_dir)
    if limit is not None:
        limit = check_whole_number("limit", limit)
    check_number("test_fraction", test_fraction, least=0.0)
    seed, progress = check_seed("seed", seed), check_flag("progress", progress)
    options = TableOptions(label, task, impute, categorical)
    if window is not None and not (isinstance(window, str) and window == "full"):
        window = check_whole_number("window, unless it is 'full',", window)
    if is_absent(source):
        raise DataError(_why_absent(str(source)))
    divided = False
    with told_on_host(
        f"rows of {shown(Path(source).name, quotes=False)}",
        "store them in fewer bytes (uint8, float32), or use fewer of them",
    ):
        stored = _stored(str(source), options, window)
        if stored is not None:
            name, train, test, divided = stored.path.name, *_halves(stored, options, window, test_fraction, seed)
        elif is_table(source) and os.path.isfile(source):
            name, train, test = Path(source).name, *_load_table(source, options, test_fraction, seed)
            divided = test is not None
        else:
            name, train, test = _load(source, data_dir, progress, options)
            if test is None and test_fraction != 0:
                train, test = set_aside(name, train, test_fraction, seed)
                divided = True
    if limit is not None:
        train, test = limited(train, limit, divided), None if test is None else limited(test, limit, divided)
    return Data(name, train, test, divided)


def is_absent(source: str | os.PathLike[str]) -> bool:
    """Whether nothing is there to be read: no file or folder of that name, which is none of ours either."""
    name = str(source)
    return name.lower() not in OWN_SOURCES and "," not in name and not os.path.exists(name)


def _why_absent(source: str) -> str:
    told = f"{shown(source, 120)} is neither a file nor a known source"
    has_ending = is_table(source) or can_be_stored(source) or source.lower().endswith(".npz")
    if not (has_ending or os.path.dirname(source)):
        return f"{told}; known are {KNOWN_SOURCES}"
    try:
        where = "check the path" if os.path.isabs(source) else f"it was looked for in {os.getcwd()}"
    except OSError:  # this folder itself has been removed
        where = "neither is the folder in which it was looked for there"
    return f"{told}; {where}"


def limited(data: Dataset, limit: int, divided: bool) -> Dataset:
    """The first rows, at most so many, which are streamed if ``data`` are.

    Args:
        divided: whether the rows were set aside from others. In memory they are shuffled then, and the first ones are a
            sample of all. Of more than a window, which are in the order in which they are stored, rows that are spread
            over all stand for that.
    """
    if isinstance(data, Dataset):
        return data[:limit]
    streamed = cast(StreamedDataset, data)
    return streamed.spread(limit) if divided and len(streamed) > streamed.window else streamed.first(limit)


def _stored(source: str, options: TableOptions, window: int | str | None) -> Stored | None:
    """What a path holds, where it is not to be loaded by a reader that loads all; else None.

    Raises:
        DataError: it is to be streamed, and cannot be.
    """
    is_one = source.lower() not in OWN_SOURCES
    if not (is_one and can_be_stored(source)):
        if isinstance(window, int):
            raise DataError(
                f"{source} is always loaded whole, so there are no windows of it; store the rows as .npy, HDF5, zarr "
                "or Parquet"
            )
        return None
    if is_stored(source):
        if options != TableOptions():
            raise DataError(f"{source} is no table: {TABLES_ALONE}")
        return open_stored(source)
    if window == "full" or not os.path.isfile(source):
        return None
    if Path(source).suffix.lower() == ".parquet":
        if window is None and (options.learns or not is_large_table(source)):
            return None
    elif options != TableOptions():
        raise DataError(f"{source} is no table: {TABLES_ALONE}")
    elif window is None and Path(source).stat().st_size * MOST_PACKED <= LOADED:
        return None
    stored = open_stored(source)
    return stored if isinstance(window, int) or stored.size > LOADED else None


def _halves(
    stored: Stored, options: TableOptions, window: int | str | None, test_fraction: float, seed: int
) -> tuple[Dataset, Dataset | None, bool]:
    """Training and test rows, in memory or streamed, and whether these were set aside from those."""
    is_loaded = window == "full" or (window is None and stored.size <= LOADED)
    rows = LARGEST_WINDOW if is_loaded else cast("int | None", window)
    parts: Any = streamed_halves(stored, rows, options)
    if is_loaded:
        parts = [part if part is None else part[:] for part in parts]
    train, test = parts
    if test is not None or test_fraction == 0:
        return train, test, False
    return *set_aside(stored.path.name, train, test_fraction, seed), True


def _load_table(
    source: str | os.PathLike[str], options: TableOptions, test_fraction: float, seed: int
) -> tuple[Dataset, Dataset | None]:
    """Training and test rows; what is learnt of a table is learnt from the training rows."""
    table, name = read_table(source, options), Path(source).name
    if isinstance(table, Dataset):
        return set_aside(name, table, test_fraction, seed) if test_fraction != 0 else (table, None)
    numbers = np.arange(len(table))
    if test_fraction == 0:
        return table.dataset(numbers), None
    rows = replace(table.targets(), x=numbers[:, None].astype(np.float64))
    training, testing = (part.x[:, 0].astype(np.int64) for part in set_aside(name, rows, test_fraction, seed))
    data = table.dataset(training)
    return data[training], data[testing]


def set_aside(name: str, data: Dataset, test_fraction: float, seed: int = 0) -> tuple[Dataset, Dataset]:
    """The rows of a source without test rows in two parts, as ``load_data`` divides them: to train on and to test.

    Raises:
        DataError: there are too few rows.
    """
    try:
        return data.split(test_fraction, seed)
    except DataError as error:
        raise DataError(f"{name} has no test rows, and dividing it failed: {error}") from None


def _load(
    source: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None, progress: bool, options: TableOptions
) -> tuple[str, Dataset, Dataset | None]:
    known, path = str(source).lower(), Path(source)
    if known not in OWN_SOURCES:
        check_is_file(path)
    if options != TableOptions():
        raise DataError(f"{source} is no table: {TABLES_ALONE}")
    if known == "digits":
        return "digits", load_digits(), None
    if known == "mnist":
        return "mnist", *load_mnist(data_dir, progress)
    if known.endswith(".npz"):
        return path.name, *read_npz(path)
    if known.endswith((".h5", ".hdf5")):
        return path.name, *read_hdf5(path)
    raise DataError(f"{path} has an ending that says nothing of its format; known are {KNOWN_SOURCES}")


def load_digits() -> Dataset:
    """scikit-learn's bundled digits: x uint8 (1797, 64) of 0..16, scaled to [0, 1]; ten classes."""
    x, y = _bundled_digits()
    return Dataset(x.copy(), y.copy(), scale=1 / 16, image_shape=(8, 8))


@cache
def _bundled_digits() -> tuple[np.ndarray, np.ndarray]:
    """Unpacking the text in which they are bundled takes 25 ms: it is done once."""
    from sklearn.datasets import load_digits as bundled_digits

    digits = bundled_digits()
    return digits.data.astype(np.uint8), digits.target.astype(np.int64)
