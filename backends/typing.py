"""Names for what has no one type: the arrays of many libraries."""

from __future__ import annotations

from typing import Any

#: An array of the backend's library, on its device.
Array = Any
#: A NumPy array on the host. (Network code imports no array library, so the name says it, not the type.)
HostArray = Any
#: An array-API namespace.
Namespace = Any
Shape = tuple[int, ...]
