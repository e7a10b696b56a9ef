"""What a data set says of its rows, whether they are in memory or not."""

from __future__ import annotations

import math
from typing import Protocol, TypeVar

from backends.typing import Shape

from .checks import DataError


class Rows(Protocol):
    """Rows, as far as ``DatasetBase`` needs to know them."""

    @property
    def class_names(self) -> tuple[str, ...] | None: ...

    @property
    def row_shape(self) -> Shape: ...


class ShapedRows(Rows, Protocol):
    """Rows that can be given another shape."""

    @property
    def image_shape(self) -> tuple[int, ...] | None: ...

    def shaped_for(self: D, row_shape: Shape | None) -> D: ...


D = TypeVar("D", bound=ShapedRows)


class DatasetBase:
    """What ``Dataset`` and ``StreamedDataset`` have in common."""

    @property
    def has_classes(self: Rows) -> bool:
        """Whether the targets are class labels."""
        return self.class_names is not None

    @property
    def n_classes(self: Rows) -> int:
        """How many classes there are, whether or not each has a row here; 0 where the targets are not classes."""
        return len(self.class_names or ())

    @property
    def n_features(self: Rows) -> int:
        """How many numbers a row has."""
        return math.prod(self.row_shape)

    def as_pictures(self: D) -> D:
        """The same rows as pictures (n, height, width[, channels]), a view: for layers that take any size.

        Raises:
            DataError: the rows are not known to be pictures.
        """
        if self.image_shape is None and len(self.row_shape) == 1:
            raise DataError(
                f"rows of {self.row_shape[0]} numbers are not known to be pictures; pass x as (n, height, width[, "
                "channels]), or a Dataset with an image_shape"
            )
        return self.shaped_for(self.image_shape)
