"""A table with columns of text or missing values, before anything was learnt of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..columns import Column, as_texts, column_order, encode, learn
from ..dataset import Dataset


@dataclass(frozen=True, eq=False)
class Table:
    """A table as read, before anything was learnt of it.

    Attributes:
        raw: the features, a column each: float64 with NaN, or objects (str or None).
        names: of these columns; None where there is no header.
        y, class_names: as of a ``Dataset``.
        place: what messages call a cell, by its row and the index of its feature.
        categorical: the indices of the columns of categories.
        impute, columns: as of ``TableOptions``.
    """

    raw: list[np.ndarray]
    names: tuple[str, ...] | None
    y: np.ndarray
    class_names: tuple[str, ...] | None
    place: Callable[[int, int], str]
    categorical: tuple[int, ...]
    impute: str | None
    columns: Sequence[Column] | None = None

    def __len__(self) -> int:
        return len(self.y)

    def targets(self) -> Dataset:
        """The targets alone, with rows of nothing: what a split goes by."""
        return Dataset(np.zeros((len(self), 1)), self.y, class_names=self.class_names)

    def dataset(self, training: np.ndarray) -> Dataset:
        """All rows, with what the training rows, given by their indices, teach.

        Raises:
            DataError: a value is missing, or is text, and nobody said what is to become of it.
        """
        names, raw, place = self.names or ("",) * len(self.raw), self.raw, self.place
        columns = self.columns
        if columns is None:
            columns = learn(names, raw, training, self.impute, self.categorical)
        else:
            order = column_order(self.names, columns, len(raw))
            raw = [raw[index] for index in order]
            raw = [as_texts(values) if c.categories else values for c, values in zip(columns, raw, strict=True)]

            def place(row: int, feature: int) -> str:
                return self.place(row, order[feature])

        x = encode(columns, raw, place)
        return Dataset(x, self.y, class_names=self.class_names, columns=tuple(columns))
