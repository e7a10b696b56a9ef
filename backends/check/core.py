"""``FormulaCore``: what every formula is written upon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..typing import Array
from .bounds import Arithmetic, Bounded

Results = tuple[Any, ...]
#: Numbers that a device has exactly, or with an error.
Given = Array | Bounded


@dataclass(frozen=True)
class FormulaCore:
    """The arithmetic of the device, and that of sums of losses, ``wide``."""

    real: Arithmetic
    wide: Arithmetic

    def given(self, x: Given) -> Bounded:
        """What an operation is given: with its error, if it was computed before."""
        return x if isinstance(x, Bounded) else self.real.exact(x)
