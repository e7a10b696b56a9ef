"""Results in the kind of array or table that somebody has given."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from backends.devices import array_like, as_numpy

from .values import is_frame, is_series, library_of


def as_given(values: Any, like: Any, names: Sequence[str] | None = None) -> Any:
    """``values``, an array of any library, in the kind of ``like``: an array of its library on its device, without a
    copy where the library allows that; or a Series for (n,) and a DataFrame for (n, k) of pandas or polars, pandas with
    the index of ``like``.

    Args:
        names: of the k columns.

    Raises:
        TypeError: ``like`` is none of these.
    """
    if not (is_frame(like) or is_series(like)):
        return array_like(values, like)
    library, host = sys.modules[library_of(like)], as_numpy(values)
    columns = None if names is None or host.shape[1:] != (len(names),) else [*names]
    if library_of(like) == "polars":
        return library.Series(values=host) if host.ndim == 1 else library.DataFrame(host, schema=columns)
    index = getattr(like, "index", None)
    index = index if index is not None and len(index) == len(host) else None
    if host.ndim == 1:
        return library.Series(host, index=index)
    return library.DataFrame(host, index=index, columns=columns)
