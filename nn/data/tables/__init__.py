"""Tables: text with separators, parquet and pandas frames, one column of which is the label or the target."""

from __future__ import annotations

from .frame import from_frame
from .options import TableOptions
from .read import is_table, read_csv, read_table

__all__ = ["TableOptions", "from_frame", "is_table", "read_csv", "read_table"]
