"""Where rows come from: scikit-learn's digits, MNIST, and files (.npz, .csv, .csv.gz, .h5, .hdf5).

``load_data`` is for classification: the targets of every source are class labels 0, 1, ..., and a file that holds
something else is refused with a sentence that names the file, the place and the remedy. Nothing read is ever unpickled.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import math
import os
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

from .data import DataError, Dataset, check_labels, check_numbers, check_rows, check_same_length, label_problem, pack

#: Public copies of the four MNIST files, in the order in which they are tried.
MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
#: SHA-256 of each MNIST file, uncompressed: copies in circulation were compressed anew, their content is the same.
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
KNOWN_SOURCES = "'digits', 'mnist', or a file .npz, .csv, .csv.gz, .h5 or .hdf5"
ARRAY_NAMES = ("x_train", "y_train", "x_test", "y_test")
CHUNK = 1 << 20


@dataclass(frozen=True)
class Data:
    """Training rows, and the rows kept for testing (None where none were asked for)."""

    name: str
    train: Dataset
    test: Dataset | None


def load_data(
    source: str | os.PathLike[str] = "digits",
    data_dir: str | os.PathLike[str] | None = None,
    *,
    limit: int | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    progress: bool = True,
) -> Data:
    """Training and test rows with class labels.

    Args:
        source: ``"digits"`` (1,797 pictures of 8x8, bundled with scikit-learn), ``"mnist"`` (60,000 and 10,000 of
            28x28), or the path of a file: see ``read_npz``, ``read_hdf5`` and ``read_csv``.
        data_dir: the folder with the four MNIST files. Without it, the folder named by the environment variable
            XPNET_DATA; without that, the user's cache, into which missing files are downloaded.
        limit: keep the first so many training rows, and at most as many test rows.
        test_fraction: how much to hold out, by class, of a source without test rows; 0 for none (``test`` is None).
        seed: of that division, which also shuffles the rows.
        progress: show a bar while downloading.

    Raises:
        DataError: (a ValueError) the source is unknown or cannot be read, or its content cannot be used.
    """
    if limit is not None and limit < 1:
        raise DataError(f"limit must be at least 1 row, not {limit}")
    name, train, test = _load(source, data_dir, progress)
    if test is None and test_fraction != 0:
        try:
            train, test = train.split(test_fraction, seed)
        except DataError as error:
            raise DataError(f"{name} has no test rows, and dividing it failed: {error}") from None
    return Data(name, train[:limit], None if test is None else test[:limit])


def _load(
    source: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None, progress: bool
) -> tuple[str, Dataset, Dataset | None]:
    known = str(source).lower()
    if known == "digits":
        return "digits", load_digits(), None
    if known == "mnist":
        return "mnist", *load_mnist(data_dir, progress)
    path = Path(source)
    if path.is_dir():
        raise DataError(f"{path} is a folder; for MNIST files in it, say source 'mnist' and give it as data_dir")
    if not path.is_file():
        raise DataError(f"{str(source)!r} is neither a file nor a known source; known are {KNOWN_SOURCES}")
    if known.endswith(".npz"):
        return path.name, *read_npz(path)
    if known.endswith((".h5", ".hdf5")):
        return path.name, *read_hdf5(path)
    if known.endswith((".csv", ".csv.gz")):
        return path.name, read_csv(path), None
    raise DataError(f"{path} has an ending that says nothing of its format; known are {KNOWN_SOURCES}")


@contextmanager
def _reading(path: Path, name: str | None = None) -> Iterator[None]:
    """Turns what the libraries raise about a file into a DataError that names it."""
    what = name or str(path)
    try:
        yield
    except (EOFError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile) as error:
        raise DataError(f"{what} is damaged ({error}); copy or download it again") from None
    except OSError as error:
        raise DataError(f"{what} cannot be read ({error.strerror or error}); check the file") from None


def _square(n_features: int) -> tuple[int, int] | None:
    """(side, side) of pictures that were stored as rows of pixels, if they can be square."""
    side = math.isqrt(n_features)
    return (side, side) if side * side == n_features else None


def load_digits() -> Dataset:
    """scikit-learn's bundled digits: x uint8 (1797, 64) of 0..16, scaled to [0, 1]; ten classes."""
    from sklearn.datasets import load_digits as bundled_digits

    digits = bundled_digits()
    x, y = digits.data.astype(np.uint8), digits.target.astype(np.int64)
    return Dataset(x, y, scale=1 / 16, image_shape=(8, 8))


# ---- MNIST -----------------------------------------------------------------------------------------------------------


def load_mnist(data_dir: str | os.PathLike[str] | None = None, progress: bool = True) -> tuple[Dataset, Dataset]:
    """MNIST's 60,000 training and 10,000 test rows: x uint8 (n, 784) scaled to [0, 1]; ten classes.

    Args:
        data_dir: see ``load_data``. The files have their usual names, with or without ``.gz``, or are spelled
            ``train-images.idx3-ubyte``. Their uncompressed content is checked against MNIST's SHA-256.
        progress: show a bar while downloading.

    Raises:
        DataError: a file is missing, damaged, or not MNIST's, or it could not be downloaded.
    """
    folder = data_dir or os.environ.get("XPNET_DATA")
    if folder:
        return _mnist_in(Path(folder))
    import pooch

    cache = Path(pooch.os_cache("xpnet")) / "mnist"
    try:
        return _mnist_in(cache)
    except DataError:  # files are missing, or damaged and of no use to anybody
        for name in MNIST_SHA256:
            if not _is_good(cache, name):
                _download(name, cache, progress)
    return _mnist_in(cache)


def _mnist_in(folder: Path) -> tuple[Dataset, Dataset]:
    train, test = (_mnist_half(folder, half) for half in ("train", "t10k"))
    return train, test


def _mnist_half(folder: Path, half: str) -> Dataset:
    names = f"{half}-images-idx3-ubyte", f"{half}-labels-idx1-ubyte"
    image_path, label_path = (_find_idx(folder, name) for name in names)
    (x, image_hash), (y, label_hash) = _read_idx(image_path), _read_idx(label_path)
    check_same_length(x, y, str(image_path), str(label_path))
    _check_hash(image_hash, image_path, names[0])
    _check_hash(label_hash, label_path, names[1])
    return pack(x, y.astype(np.int64), n_classes=10)


def _find_idx(folder: Path, name: str) -> Path:
    """The file ``name`` of ``folder``, under any of its usual spellings; an uncompressed one is quicker to read."""
    spellings = [name, name.replace("-idx", ".idx")]
    for spelling in (*spellings, *(f"{spelling}.gz" for spelling in spellings)):
        if (folder / spelling).is_file():
            return folder / spelling
    raise DataError(
        f"{folder} has no {name}, with or without .gz; give the folder with the four MNIST files (--data-dir or "
        "XPNET_DATA), or neither to download them"
    )


def _check_hash(sha256: str, path: Path | str, name: str) -> None:
    if sha256 != MNIST_SHA256[name]:
        raise DataError(
            f"{path} is not the MNIST file (its content has another SHA-256); download it again, or save data of your "
            "own as an .npz file and give that as the source"
        )


def _is_good(folder: Path, name: str) -> bool:
    try:
        path = _find_idx(folder, name)
        _check_hash(_read_idx(path)[1], path, name)
    except DataError:
        return False
    return True


def _download(name: str, cache: Path, progress: bool) -> None:
    """Put the MNIST file ``name`` into ``cache`` from the first mirror that has it, checked before it gets its name."""
    import pooch
    from tqdm import tqdm

    def download_and_check(url: str, output_file: str, _: Any) -> None:
        # A total that is not 0, until the size is known: pooch takes a bar with nothing to do for "no bar".
        with tqdm(total=1, desc=name, unit="B", unit_scale=True, disable=not progress) as bar:
            pooch.HTTPDownloader(progressbar=bar)(url, output_file, None)
        _check_hash(_read_idx(Path(output_file))[1], url, name)

    failures = []
    for mirror in MNIST_MIRRORS:
        try:
            (cache / f"{name}.gz").unlink(missing_ok=True)  # else pooch takes a damaged one for the file
            with _quiet(pooch.get_logger()):
                pooch.retrieve(
                    f"{mirror}{name}.gz",
                    known_hash=None,
                    fname=f"{name}.gz",
                    path=cache,
                    downloader=download_and_check,
                )
            return
        except (OSError, ValueError) as error:  # every requests exception is an OSError
            failures.append(f"{mirror}: {str(error).strip().partition(chr(10))[0]}")
    raise DataError(
        f"MNIST could not be downloaded to {cache} ({'; '.join(failures)}); give a folder that has the four files by "
        "--data-dir or XPNET_DATA, or use --data digits, which needs no download"
    )


@contextmanager
def _quiet(logger: Any) -> Iterator[None]:
    """Without pooch's advice to write the hash of the file into the program, where another one already is."""
    level = logger.level
    logger.setLevel("WARNING")
    try:
        yield
    finally:
        logger.setLevel(level)


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """An IDX file of unsigned bytes, gzip-compressed or plain, as a uint8 array.

    The format (http://yann.lecun.com/exdb/mnist): two zero bytes, a type code (8: unsigned byte), the number of
    dimensions, each dimension as a big-endian 32-bit integer, then the values in C order.

    Raises:
        DataError: the file is missing, damaged, shorter or longer than its header says, or of another type.
    """
    return _read_idx(Path(path))[0]


def _read_idx(path: Path) -> tuple[np.ndarray, str]:
    """The array, and the SHA-256 of the uncompressed file: one pass, nothing of the data held twice."""
    with _reading(path), path.open("rb") as raw:
        compressed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        # DEFLATE shrinks by 1032 at most, so that a damaged header cannot ask for more memory than a file can fill.
        at_most = path.stat().st_size * (1032 if compressed else 1)
        file: Any = gzip.GzipFile(fileobj=raw) if compressed else raw
        header, shape = _read_idx_header(file, path)
        size = math.prod(shape)
        if size == 0:
            raise DataError(f"{path} has no values (its shape is {shape}); copy or download it again")
        if size > at_most:
            raise DataError(f"{path} is cut short: its header says {size} values; copy or download it again")
        values = np.empty(size, dtype=np.uint8)
        digest = hashlib.sha256(header)
        filled = 0
        while filled < size and (n := file.readinto(values[filled : filled + CHUNK].data)):
            digest.update(values[filled : filled + n].data)
            filled += n
        if filled < size:
            raise DataError(f"{path} is cut short: {filled} of {size} values; copy or download it again")
        if file.read(1):
            raise DataError(f"{path} goes on after the {size} values of its header; copy or download it again")
    return values.reshape(shape), digest.hexdigest()


def _read_idx_header(file: IO[bytes], path: Path) -> tuple[bytes, tuple[int, ...]]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or not 1 <= magic[3] <= 8:
        raise DataError(f"{path} is not an IDX file (it begins with {magic!r}); check the name or download it again")
    if magic[2] != 0x08:
        raise DataError(
            f"{path} holds values of type code 0x{magic[2]:02x}, but only unsigned bytes (0x08) are read; save the "
            "data as .npz instead"
        )
    dimensions = file.read(4 * magic[3])
    if len(dimensions) < 4 * magic[3]:
        raise DataError(f"{path} is cut short: it ends within its header; copy or download it again")
    shape = tuple(int(n) for n in np.frombuffer(dimensions, dtype=">u4"))
    return magic + dimensions, shape


# ---- x_train, y_train, x_test, y_test --------------------------------------------------------------------------------


def read_npz(path: str | os.PathLike[str]) -> tuple[Dataset, Dataset | None]:
    """A NumPy archive of ``x_train``, ``y_train`` and, if there are test rows, ``x_test`` and ``y_test``.

    x is (n, features) or pictures (n, height, width[, channels]), which are flattened; uint8 means pixels and is scaled
    to [0, 1]. y is (n,) whole numbers or (n, k) one-hot. Other arrays of the file are not looked at.

    Raises:
        DataError: the file is damaged, an array is missing, needs unpickling, or cannot be used.
    """
    path = Path(path)
    with _reading(path), path.open("rb") as file:  # opened here: NumPy leaves a damaged zip open
        try:
            archive = np.load(file, allow_pickle=False)
        except ValueError:  # neither a zip nor an array: NumPy would try to unpickle it
            raise DataError(f"{path} is not an .npz file; save one by numpy.savez_compressed") from None
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise DataError(f"{path} is a single array, not an .npz file; save it by numpy.savez_compressed")
        with archive:
            arrays = {}
            for name in _array_names(list(archive.files), path):
                with _reading(path, f"{path}: {name}"):
                    arrays[name] = _read_array(archive, name, path)
    return _train_and_test(arrays, path)


def _read_array(archive: Any, name: str, path: Path) -> np.ndarray:
    try:
        array: np.ndarray = archive[name]
    except (ValueError, NotImplementedError, RuntimeError) as error:
        if "allow_pickle" in str(error):
            raise DataError(
                f"{path}: {name} holds Python objects, which are never unpickled; save it as an array of numbers"
            ) from None
        raise DataError(f"{path}: {name} is damaged ({error}); copy or download the file again") from None
    return array


def read_hdf5(path: str | os.PathLike[str]) -> tuple[Dataset, Dataset | None]:
    """An HDF5 file with the arrays that ``read_npz`` describes, at its root.

    Raises:
        DataError: h5py is not installed, the file is damaged, or an array is missing or cannot be used.
    """
    path = Path(path)
    try:
        import h5py
    except ImportError:
        raise DataError(f"{path} needs h5py to be read: pip install 'xpnet[hdf5]'") from None
    with _reading(path), h5py.File(path, "r") as file:
        arrays = {}
        for name in _array_names(list(file), path):
            try:
                item = file[name]
                if isinstance(item, h5py.Dataset):
                    arrays[name] = item[()]
            except (KeyError, RuntimeError) as error:
                raise DataError(f"{path}: {name} cannot be read ({error}); store it again") from None
            if name not in arrays:
                raise DataError(f"{path}: {name} is a group, not a dataset; store the array under that name")
    return _train_and_test(arrays, path)


def _array_names(present: list[str], path: Path) -> tuple[str, ...]:
    """Which of the four names to read."""
    wanted = ARRAY_NAMES if {"x_test", "y_test"} & set(present) else ARRAY_NAMES[:2]
    missing = [name for name in wanted if name not in present]
    if missing:
        have = ", ".join(sorted(present)[:8]) or "nothing"
        raise DataError(f"{path} lacks {' and '.join(missing)} (it has {have}); rename or add the arrays")
    return wanted


def _train_and_test(arrays: dict[str, np.ndarray], path: Path) -> tuple[Dataset, Dataset | None]:
    train = _labelled(arrays["x_train"], arrays["y_train"], path, "train")
    if "x_test" not in arrays:
        return train, None
    test = _labelled(arrays["x_test"], arrays["y_test"], path, "test", train.n_classes)
    shapes = [(train.image_shape, train.n_features), (test.image_shape, test.n_features)]
    if shapes[0] != shapes[1] or train.scale != test.scale:
        x, z = arrays["x_train"], arrays["x_test"]
        raise DataError(
            f"{path}: x_train has rows {x.shape[1:]} of {x.dtype} but x_test {z.shape[1:]} of {z.dtype}; "
            "store both alike"
        )
    return train, test


def _labelled(x: Any, y: Any, path: Path, half: str, n_classes: int | None = None) -> Dataset:
    x_name, y_name = f"{path}: x_{half}", f"{path}: y_{half}"
    x, y = check_rows(x, x_name), check_numbers(y, y_name)
    check_same_length(x, y, x_name, y_name)
    labels, n_classes = check_labels(y, y_name, n_classes, "the labels of y_train")
    dataset = pack(x, labels, n_classes)
    if x.dtype == np.uint8 and dataset.image_shape is None:
        return replace(dataset, image_shape=_square(dataset.n_features))
    return dataset


# ---- CSV -------------------------------------------------------------------------------------------------------------

PIXEL_NAME = re.compile(r"pixel[ _-]?\d+", re.IGNORECASE)
SMALL_INTEGER = re.compile(r"\s*\d{1,3}\s*")


@dataclass(frozen=True)
class _Head:
    """The layout of a CSV file, as its first rows tell it."""

    names: list[str] | None
    width: int
    label: int
    lines_to_skip: int
    integers: bool

    def column(self, index: int) -> str:
        return f"column {index + 1}" + (f" ({self.names[index]})" if self.names else "")


def read_csv(path: str | os.PathLike[str]) -> Dataset:
    """A comma-separated table of numbers, gzip-compressed or plain, one column of which is the class label.

    The header is optional. The label is the column named ``label`` (in any case), else the last column. Features are
    float64 as written, unless they are pixels: whole numbers from 0 to 255 under a header ``pixel0, pixel1, ...``, or
    in at least 64 columns with some value above 16. Pixels are stored as uint8, scaled to [0, 1] if any is above 1,
    and get an ``image_shape`` if they fill a square.

    Raises:
        DataError: naming the file, the line (counted from 1) and the column: text, an empty cell, NaN or infinity, a
            row of another length, a label that is no class; or no rows at all.
    """
    path = Path(path)
    with _reading(path):
        try:
            head = _read_head(path)
            table = _read_table(path, head)
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8 text ({error.reason}); save it as CSV in UTF-8") from None
        except csv.Error as error:
            raise DataError(f"{path} is not a CSV file ({error}); save it as comma-separated text") from None
    y = table[:, head.label].astype(np.int64)
    x = np.delete(table, head.label, axis=1)
    named = head.names is not None and head.names[head.label].lower() == "label"
    if not named and y[0] == y[-1] and (y == y[0]).all():
        raise DataError(
            f"{path}: every row has the label {y[0]} in {head.column(head.label)}, the last one; "
            "if the labels are in another column, give the file a header that calls that one label"
        )
    return _csv_dataset(x, y, head)


def _csv_dataset(x: np.ndarray, y: np.ndarray, head: _Head) -> Dataset:
    features = [name for i, name in enumerate(head.names or []) if i != head.label]
    named_pixels = bool(features) and all(PIXEL_NAME.fullmatch(name) for name in features)
    low, high = x.min(), x.max()
    if (named_pixels or (x.shape[1] >= 64 and high > 16)) and low >= 0 and high <= 255:
        pixels = x.astype(np.uint8)
        if np.array_equal(pixels, x):
            return Dataset(pixels, y, scale=1 / 255 if high > 1 else 1.0, image_shape=_square(x.shape[1]))
    image_shape = _square(x.shape[1]) if named_pixels else None  # pixels that are scaled already
    return Dataset(x.astype(np.float64, copy=False), y, image_shape=image_shape)


def _open_csv(path: Path) -> IO[str]:
    """As text; a byte-order mark, which spreadsheets write, is left out."""
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    opener: Any = gzip.open if compressed else open
    text: IO[str] = opener(path, "rt", encoding="utf-8-sig", newline="")
    return text


def _rows(file: IO[str]) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with the number of its line."""
    reader = csv.reader(file)
    return ((reader.line_num, row) for row in reader if row)


def _read_head(path: Path) -> _Head:
    with _open_csv(path) as file:
        rows = _rows(file)
        line, first = next(rows, (0, []))
        _, second = next(rows, (0, []))
    if not first:
        raise DataError(f"{path} is empty; it should be a table with a label column")
    cells = [cell.strip() for cell in first]
    has_label = any(cell.lower() == "label" for cell in cells)
    names = cells if has_label or all(_number(cell) is None for cell in cells) else None
    label = _label_column(path, line, names) if names else len(cells) - 1
    if names and not second:
        raise DataError(f"{path} has a header but no rows; add rows of numbers below it")
    if len(cells) < 2:
        hint = "; the separator must be a comma" if re.search(r"[;\t|]", first[0]) else ""
        raise DataError(f"{path} has one column, but at least one feature and a label are needed{hint}")
    data = second if names else first
    integers = all(SMALL_INTEGER.fullmatch(cell) for cell in data)
    return _Head(names, len(cells), label, line if names else 0, integers)


def _label_column(path: Path, line: int, names: list[str]) -> int:
    if "" in names:
        raise DataError(
            f"{path}, line {line}, column {names.index('') + 1}: the column has no name; name it, or leave it out if "
            "it only counts the rows (pandas: to_csv(index=False))"
        )
    labels = [i for i, name in enumerate(names) if name.lower() == "label"]
    if len(labels) > 1:
        raise DataError(f"{path}, line {line}, column {labels[1] + 1}: a second column is called label; rename one")
    return labels[0] if labels else len(names) - 1


def _read_table(path: Path, head: _Head) -> np.ndarray:
    """All cells, checked: uint8 if they all fit, else float64; (rows, columns)."""
    table: np.ndarray | None = None
    if head.integers:
        # Tables of pixels are the large ones; as uint8 they take an eighth of the memory.
        with suppress(ValueError, DeprecationWarning):
            table = _parse(path, head, "uint8")
    try:
        if table is None:
            table = _parse(path, head, "float64")
    except ValueError as error:
        if isinstance(error, UnicodeDecodeError):
            raise
        _explain(path, head, str(error))
    labels = table[:, head.label] if table.shape[1] == head.width else None
    if labels is None or label_problem(float(labels.min())) or label_problem(float(labels.max())):
        _explain(path, head, "")
    if table.dtype != np.uint8 and not (np.isfinite(table.min()) and np.isfinite(table.max())):
        _explain(path, head, "")
    if not np.array_equal(labels, np.floor(labels)):
        _explain(path, head, "")
    return table


def _parse(path: Path, head: _Head, dtype: str) -> np.ndarray:
    with _open_csv(path) as file, warnings.catch_warnings():
        # NumPy before 2.3 reads "1.5" as the integer 1 with a DeprecationWarning.
        warnings.simplefilter("error", DeprecationWarning)
        for _ in range(head.lines_to_skip):
            next(file)
        return np.loadtxt(file, dtype=dtype, delimiter=",", comments=None, quotechar='"', ndmin=2)


def _explain(path: Path, head: _Head, reason: str) -> NoReturn:
    """Raise DataError about the first bad line, found by reading cell by cell, which is slow."""
    with _open_csv(path) as file:
        for line, row in _rows(file):
            if line <= head.lines_to_skip:
                continue
            if len(row) != head.width:
                raise DataError(
                    f"{path}, line {line}: {len(row)} cell{'s' if len(row) != 1 else ''} where line "
                    f"{head.lines_to_skip or 'one'} has {head.width}; correct or remove the line"
                )
            for index, cell in enumerate(row):
                problem = _cell_problem(cell, index == head.label)
                if problem:
                    raise DataError(f"{path}, line {line}, {head.column(index)}: {problem}")
    raise DataError(
        f"{path} cannot be read as a table of numbers ({reason or 'no one cell is at fault'}); "
        "save it again as comma-separated text"
    )


def _cell_problem(cell: str, is_label: bool) -> str | None:
    value = _number(cell)
    if not cell.strip():
        return "the cell is empty; put a number there or remove the line"
    if value is None:
        return f"{cell.strip()[:40]!r} is not a number; correct the cell or remove the line"
    if not math.isfinite(value):
        return f"{cell.strip()} is not a finite number; correct the cell or remove the line"
    problem = label_problem(value) if is_label else None
    return f"the label is {cell.strip()}, {problem}" if problem else None


def _number(cell: str) -> float | None:
    """The number written in a cell, or None. NumPy, unlike Python, takes 1_000 for text."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None
