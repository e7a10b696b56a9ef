"""Rows and targets: data sets, where they come from, and the checks at the door."""

from __future__ import annotations

from .checks import DataError, DataTypeError, check_labels, label_problem
from .dataset import Dataset, as_dataset, as_rows
from .sources import Data, load_data, load_digits
from .targets import encode_targets

__all__ = [
    "Data",
    "DataError",
    "DataTypeError",
    "Dataset",
    "as_dataset",
    "as_rows",
    "check_labels",
    "encode_targets",
    "label_problem",
    "load_data",
    "load_digits",
]
