"""The library of the BLAS that NumPy itself was linked with, and its functions by their names."""

from __future__ import annotations

import ctypes
import sys
from typing import Any


def find_function(library: ctypes.CDLL, name: str, forms: tuple[str, ...]) -> Any:
    """The function of that name, in the first of these forms in which the library has it.

    Raises:
        AttributeError: it has none.
    """
    for form in forms:
        function = getattr(library, form.format(name), None)
        if function is not None:
            return function
    raise AttributeError(name)


def file_of_numpy() -> str:
    """The module of NumPy that is linked with its BLAS: a name is looked up in all that it is linked with.

    Raises:
        KeyError, AttributeError: this NumPy has none.
    """
    return str(sys.modules["numpy._core._multiarray_umath"].__file__)
