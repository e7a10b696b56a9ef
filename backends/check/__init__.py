"""Every operation of a backend, tried on thousands of inputs against formulas whose errors are bounded."""

from __future__ import annotations

from .bounds import Arithmetic, Bounded
from .calls import perform, ways
from .cases import MAKERS, Case, cases, parts
from .check import OPERATIONS, Outcome, Result, check, compare, expected_of, formulas
from .formulas import Formulas

__all__ = [
    "MAKERS",
    "OPERATIONS",
    "Arithmetic",
    "Bounded",
    "Case",
    "Formulas",
    "Outcome",
    "Result",
    "cases",
    "check",
    "compare",
    "expected_of",
    "formulas",
    "parts",
    "perform",
    "ways",
]
