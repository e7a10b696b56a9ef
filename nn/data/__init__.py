"""Rows and targets: data sets, where they come from, and the validation of what users pass."""

from __future__ import annotations

from .augment import Augment
from .checks import DataError, DataTypeError, check_labels, label_problem
from .dataset import Dataset
from .kinds import as_given
from .rows import as_dataset, as_rows
from .sources import Data, load_data, load_digits
from .streamed import StreamedDataset, StreamWarning
from .tables import from_frame, read_csv
from .targets import encode_targets
from .units import Units, UnitsWarning

__all__ = [
    "Augment",
    "Data",
    "DataError",
    "DataTypeError",
    "Dataset",
    "StreamWarning",
    "StreamedDataset",
    "Units",
    "UnitsWarning",
    "as_dataset",
    "as_given",
    "as_rows",
    "check_labels",
    "encode_targets",
    "from_frame",
    "label_problem",
    "load_data",
    "load_digits",
    "read_csv",
]
