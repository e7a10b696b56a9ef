"""Rows of a Parquet file: columns of numbers, and one of labels or targets. A row group is read at a time.

pyarrow is imported by who calls. What a row is called in messages is its number in the whole file, from 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import DataError
from ..reading import check_is_file, library, reading
from ..tables.head import chosen_columns, known_label, question
from ..tables.options import TableOptions, Task
from ..tables.targets import Labels, classes_or_values
from .hdf5 import check_chunk_size
from .open_files import FileState
from .source import sampled_identity

#: An integer of this many bits or fewer is exact in float32.
EXACT_BITS = 16


class ParquetFile:
    """What a Parquet file says of itself.

    Attributes:
        names: of its columns.
        rows: how many there are.
        size: of all columns, unpacked, in bytes.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._library = path, library("pyarrow.parquet", path)
        with reading(path):
            check_is_file(path)
            self.state = FileState(path)
            self._metadata = self._library.read_metadata(path, memory_map=False)
            self.schema = self._metadata.schema.to_arrow_schema()
            groups = [self._metadata.row_group(index) for index in range(self._metadata.num_row_groups)]
            lengths = [group.num_rows for group in groups]
            self.size = sum(group.total_byte_size for group in groups)
            check_chunk_size(max((group.total_byte_size for group in groups), default=0), f"{path}")
        self.names = [str(name) for name in self.schema.names]
        self.ends = np.cumsum(lengths, dtype=np.int64) if lengths else np.zeros(1, np.int64)
        self.rows, self.chunk = int(self.ends[-1]), max(lengths, default=1)

    def groups(self, start: int, stop: int) -> list[tuple[int, int, int]]:
        """The row groups that have some of these rows: number, first row and end."""
        first = int(np.searchsorted(self.ends, start, side="right"))
        last = int(np.searchsorted(self.ends, stop, side="left"))
        begins = [0, *self.ends.tolist()]
        return [(index, begins[index], begins[index + 1]) for index in range(first, last + 1)]

    def read(self, group: int, columns: Sequence[str]) -> Any:
        """A table of some columns of a row group."""
        self.state.check()
        with reading(self.path), self._library.ParquetFile(self.path, metadata=self._metadata) as file:
            return file.read_row_group(group, columns=[*columns], use_threads=False)


class ParquetSource:
    """Columns of numbers of a Parquet file.

    Args:
        file: where they are.
        columns: their names.
        alone: whether it is one column, (n,), instead of (n, k).

    Raises:
        DataError: a column holds no numbers.
    """

    chunks_are = "row groups"

    def __init__(self, file: ParquetFile, columns: Sequence[str], *, alone: bool = False) -> None:
        self._file, self._columns, self._alone = file, list(columns), alone
        self.name, self.chunk = str(file.path), file.chunk
        kinds = [_dtype_of(file, name) for name in columns]
        self.dtype = np.result_type(*kinds)
        self.shape = (file.rows,) if alone else (file.rows, len(self._columns))

    def read(self, start: int, stop: int, out: np.ndarray) -> None:
        """As of ``Source``; a value that is missing is refused."""
        for group, begins, ends in self._file.groups(start, stop):
            table = self._file.read(group, self._columns)
            first, last = max(start, begins), min(stop, ends)
            part = table.slice(first - begins, last - first)
            for index, name in enumerate(self._columns):
                column = part.column(index)
                if column.null_count:
                    row = first + int(np.argmax(np.asarray(column.is_null())))
                    raise DataError(f"{self.name}, row {row}, column {name!r}: the value is missing; fill it before")
                into = out[first - start : last - start]
                (into if self._alone else into[:, index])[...] = column.to_numpy()

    def identity(self) -> dict[str, Any]:
        """As of ``Source``."""
        return {"bytes": self._file.state.size, "columns": self._columns, **sampled_identity(self)}


def _dtype_of(file: ParquetFile, name: str) -> np.dtype[Any]:
    """That in which a column is exact: float32 or float64, or uint8."""
    kind = file.schema.field(name).type
    stored: np.dtype[Any]
    try:
        stored = np.dtype(kind.to_pandas_dtype())
    except (NotImplementedError, TypeError):
        stored = np.dtype(object)
    if stored.kind not in "biuf":
        raise DataError(
            f"{file.path}, column {name!r}: it holds {kind}, but rows that are streamed are numbers; make it numbers, "
            "leave it out, or load the file whole (window='full')"
        )
    if stored == np.uint8:
        return stored
    if stored.kind == "f":
        return np.dtype(np.float32 if stored.itemsize <= 4 else np.float64)
    return np.dtype(np.float32 if 8 * stored.itemsize <= EXACT_BITS else np.float64)


def parquet_targets(
    file: ParquetFile, targets: Sequence[int], task: Task
) -> tuple[ParquetSource | np.ndarray, tuple[str, ...] | None]:
    """Values, or class numbers in memory and the names of the classes, as of the same table in memory.

    Raises:
        DataError: naming the row whose label cannot be used.
    """
    columns = [file.names[index] for index in targets]
    if task == "values" or len(columns) > 1:
        return ParquetSource(file, columns, alone=len(columns) == 1), None
    (name,) = columns
    labels, codes = Labels(), np.empty(file.rows, np.int64)
    fractions, several = 0, _is_float(file, name) and task == "auto"
    for group, begins, ends in file.groups(0, file.rows):
        column = file.read(group, [name]).column(0).combine_chunks()
        if several:  # values, more than half of which have a fraction, are not collected as texts
            numbers = column.to_numpy(zero_copy_only=False)
            fractions += int(np.count_nonzero(numbers != np.floor(numbers)))
            if 2 * fractions > file.rows:
                return ParquetSource(file, columns, alone=True), None
        if not hasattr(column, "indices"):
            column = column.dictionary_encode()
        numbered = np.array([labels("" if value is None else str(value)) for value in column.dictionary.to_pylist()])
        missing = labels("") if column.null_count else 0
        indices = column.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        codes[begins:ends] = np.append(numbered, missing)[indices]
    return classes_or_values(list(labels.numbers), codes, task, lambda row: f"{file.path}, row {row}, column {name!r}")


def _is_float(file: ParquetFile, name: str) -> bool:
    return str(file.schema.field(name).type) in ("halffloat", "float", "double")


def parquet_columns(file: ParquetFile, options: TableOptions) -> tuple[tuple[int, ...], list[str]]:
    """The indices of the columns of targets, and the names of the others.

    Raises:
        DataError: it cannot be told which column is the label; or text or missing values were to be dealt with.
    """
    where, width = str(file.path), len(file.names)
    if options.learns:
        raise DataError(
            f"{where} is too large to be loaded, and missing values and categories are learnt of tables in memory; "
            "store numbers, or load it whole (window='full')"
        )
    if file.rows == 0 or width < 2:
        raise DataError(f"{where} has {file.rows} rows and {width} columns; at least a row, a feature and a label")
    if options.label is not None:
        targets = chosen_columns(options.label, file.names, width, where)
    else:
        found = known_label(file.names, where)
        if found is None:
            raise DataError(question(where, file.names, width, options.task == "values"))
        targets = (found,)
    return targets, [name for index, name in enumerate(file.names) if index not in targets]
