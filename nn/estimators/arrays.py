"""Arrays as they come: of any library in, and, where scikit-learn is asked for it, results of the same kind out."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import array_api_compat
import numpy as np
from scipy.sparse import issparse
from sklearn import get_config

from backends.arguments import shown
from backends.devices import array_like, as_numpy

#: A sparse matrix is made dense for training if that takes no more bytes than this.
MOST_BYTES = 4 << 30
#: So many rows of a sparse matrix are dense at a time for predictions.
ROWS_AT_A_TIME = 4096


class Kind(NamedTuple):
    """Of which library an array is, and on which device."""

    library: str
    device: str


def on_host(x: Any) -> Any:
    """An array of another library than NumPy as a NumPy array; all else as it is.

    Raises:
        TypeError: it is a path.
    """
    if isinstance(x, str | os.PathLike):
        raise TypeError(
            f"an estimator takes arrays, not {shown(os.fspath(x))}; load the file first (numpy.load), or train on rows "
            "that are larger than memory by nn.Trainer(model).fit('x.npy', 'y.npy')"
        )
    if array_api_compat.is_array_api_obj(x) and not isinstance(x, np.ndarray | np.generic):
        return as_numpy(x)
    return x


def dispatched_kind(x: Any) -> Kind | None:
    """The kind of ``x`` where scikit-learn is to give results of it (``array_api_dispatch``); else None."""
    if not get_config()["array_api_dispatch"] or not array_api_compat.is_array_api_obj(x):
        return None
    return Kind(array_api_compat.array_namespace(x).__name__, str(array_api_compat.device(x)))


def like(result: np.ndarray, x: Any) -> Any:
    """``result`` as an array of the library and on the device of ``x``, where scikit-learn is asked for it; texts stay
    a NumPy array."""
    kind = dispatched_kind(x)
    if kind is None or isinstance(x, np.ndarray) or issparse(result) or result.dtype.kind not in "biuf":
        return result
    return array_like(result, x)


def dense(x: Any) -> Any:
    """All rows of a sparse matrix, or an array as it is.

    Raises:
        ValueError: that would take more than ``MOST_BYTES``.
    """
    if not issparse(x):
        return x
    size = x.shape[0] * x.shape[1] * x.dtype.itemsize
    if size > MOST_BYTES:
        raise ValueError(
            f"this sparse matrix of {x.shape[0]} x {x.shape[1]} would take {size / 2**30:,.1f} GiB when it is dense, "
            f"which training needs, and at most {MOST_BYTES / 2**30:g} are taken; call partial_fit with parts of the "
            "rows, or reduce the columns"
        )
    return x.toarray()
