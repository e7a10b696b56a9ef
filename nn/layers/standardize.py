"""Standardization of the columns of a table, by statistics of the training rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from backends.arguments import ArgumentTypeError, check_number, shown
from backends.typing import Array, Shape

from ..data import Dataset, as_rows
from ..data.statistics import column_statistics
from ..initializers import Initializer, get_initializer
from .base import Context, Layer, check_features, check_sizes


@dataclass(frozen=True, repr=False)
class Standardize(Layer):
    """y = (x - mean) / sqrt(variance), column by column: the first layer of a network that takes a raw table.

    Mean and variance are those of the training rows, scikit-learn's ``StandardScaler``: divided by the number of rows,
    and 1 in place of the variance of a constant column, which becomes 0. They are state of the layer, saved with the
    model and not trained. The first ``fit`` learns them, from the rows that it trains on and no others;
    ``Standardize.from_data`` learns them at once.

    Args:
        features: the number of columns of x and y.
        mean_init, variance_init: the statistics of each column, where they are known; else ``fit`` learns them.
    """

    features: int
    mean_init: Any = None
    variance_init: Any = None

    def __post_init__(self) -> None:
        check_sizes(self, "features")
        if (self.mean_init is None) != (self.variance_init is None):
            raise ValueError("Standardize: give both mean_init and variance_init, or neither, for fit to learn them")
        for name in ("mean_init", "variance_init"):
            values = getattr(self, name)
            if values is None:
                continue
            if isinstance(values, str) or not hasattr(values, "__len__"):
                raise ArgumentTypeError(f"Standardize: {name} must be {self.features} numbers, not {shown(values)}")
            if len(values) != self.features:
                raise ValueError(f"Standardize: {name} must have {self.features} numbers, not {len(values)}")
            for index, value in enumerate(values):
                check_number(f"Standardize: {name}[{index}]", value)
        if self.variance_init is not None and not all(value > 0 for value in self.variance_init):
            raise ValueError("Standardize: each variance must be above 0; say 1 for a constant column")

    @classmethod
    def from_data(cls, data: Any) -> Standardize:
        """A layer with the statistics of these rows: a ``Dataset``, an array or a DataFrame."""
        rows = data if isinstance(data, Dataset) else as_rows(data)
        mean, variance = column_statistics(rows)
        return cls(rows.n_features, tuple(mean.tolist()), tuple(variance.tolist()))

    def state(self) -> dict[str, tuple[Shape, Initializer]]:
        """The statistics, and 1 where they have been learnt."""
        shape, known = (self.features,), self.mean_init is not None
        return {
            "mean": (shape, get_initializer(list(self.mean_init) if known else "zeros")),
            "variance": (shape, get_initializer(list(self.variance_init) if known else "constant:1")),
            "learnt": ((1,), get_initializer("constant:1" if known else "zeros")),
        }

    def input_shape(self) -> Shape:
        return (self.features,)

    def output_shape(self, shape: Shape | None) -> Shape:
        check_features(self, self.features, shape)
        return (self.features,)

    def forward(self, x: Array, ctx: Context) -> Array:
        """y = (x - mean) / sqrt(variance)"""
        mean, variance = ctx.state["mean"], ctx.state["variance"]
        return ctx.backend.normalize_by(x, mean, variance, None, None, epsilon=0.0, out=ctx.buffer("y", x.shape))

    def backward(self, dy: Array, ctx: Context) -> Array | None:
        """dx = dy / sqrt(variance), which nobody asks for in a network, as the layer comes first."""
        return dy / ctx.backend.xp.sqrt(ctx.state["variance"])
