"""NumPy as an array-API namespace, without what loading array-api-compat's costs: a tenth of a second in each program,
since that imports all of NumPy, its compiler of Fortran among it."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

#: Where NumPy is not what the standard says: no ``descending``, an order of equals that is any, limits that change the
#: dtype of what is clipped, no axis that is the last one unless it is named.
NOT_AS_THE_STANDARD = {"argsort", "clip", "iinfo", "sort", "take_along_axis"}


class NumpyNamespace(ModuleType):
    """NumPy's main namespace, which is the standard's since NumPy 2; what deviates comes from array-api-compat, which
    is loaded for it when it is first asked for. Layers of one's own may call it; none of ours does."""

    def __init__(self) -> None:
        super().__init__("numpy", np.__doc__)

    def __getattr__(self, name: str) -> Any:
        source = import_module("array_api_compat.numpy") if name in NOT_AS_THE_STANDARD else np
        found = getattr(source, name)
        setattr(self, name, found)  # the next time it is an attribute like any other
        return found

    def __dir__(self) -> list[str]:
        return dir(np)

    def astype(self, x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
        """As NumPy's, which before 2.2 takes no numbers: what a sum of all is there."""
        return x.astype(dtype, copy=copy)

    def finfo(self, kind: Any, /) -> Any:
        """As NumPy's, of arrays too."""
        return np.finfo(kind.dtype if isinstance(kind, np.ndarray) else kind)
