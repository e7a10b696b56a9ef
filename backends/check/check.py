"""A backend proved on this machine: every operation, on every kind of input, against bounds that have a reason.

``python -m backends check`` prints what ``check`` finds. An operation is computed by the backend and, apart from it, by
the formulas of ``backends.check.formulas`` on NumPy in at least float64; each element must be within its own bound
(``backends.check.bounds``), be NaN or infinite where the formula is, and, where nothing is rounded, be equal bit for
bit.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from ..arguments import ArgumentTypeError, check_kind, check_seed, check_whole_number, shown
from ..base import Backend
from ..typing import Array
from .bounds import Arithmetic, Bounded, Wide
from .calls import perform, ways
from .cases import MAKERS, Case, cases
from .formulas import Formulas, Shape

OPERATIONS = tuple(MAKERS)


@dataclass
class Result:
    """What was found of one operation in one dtype.

    Attributes:
        cases: how many calls were compared.
        error: the largest error, in relation to the size of the terms that the result is added up from.
        ratio: the largest error in units of its own bound; above 1 is wrong.
        worst: the case of that ratio.
        wrong: how many cases were out of bounds, ``first_wrong`` the first of them and what was wrong with it.
    """

    operation: str
    dtype: str
    cases: int = 0
    error: float = 0.0
    ratio: float = 0.0
    worst: str = ""
    wrong: int = 0
    first_wrong: str = ""

    @property
    def verdict(self) -> str:
        return f"WRONG in {self.wrong}" if self.wrong else "ok"


@dataclass(frozen=True)
class Outcome:
    """How one call compares: errors as in ``Result``, and what is wrong, if anything."""

    error: float = 0.0
    ratio: float = 0.0
    complaint: str = ""


def check(
    backend: Backend,
    seed: int = 0,
    *,
    against: Backend | None = None,
    operations: Collection[str] = OPERATIONS,
    every: int = 1,
) -> list[Result]:
    """Try the operations of ``backend`` on all inputs, each plainly and in one other of the ``ways`` to call.

    Args:
        seed: of the random inputs.
        against: another backend of the same dtype, to be within the sum of both bounds of; by default the backend is
            compared with the formulas themselves.
        operations: which ones, by their names or those of ``parts``.
        every: try every so manieth input only.

    Returns:
        A ``Result`` for each operation.
    """
    check_kind("backend", backend, Backend, "a Backend")
    check_kind("against, unless it is None,", against, (Backend, type(None)), "a Backend")
    seed, every = check_seed("seed", seed), check_whole_number("every", every)
    if isinstance(operations, str) or not isinstance(operations, Collection):
        raise ArgumentTypeError(f"operations must be a list of names, not {shown(operations)}")
    for operation in operations:  # all of them before the first is tried
        next(cases(operation, backend.dtype_name))
    if against is not None and against.dtype_name != backend.dtype_name:
        raise ValueError(f"{backend!r} and {against!r} differ in dtype; there is nothing to compare")
    with np.errstate(all="ignore"):
        return [_check(backend, operation, seed, against, every) for operation in operations]


def formulas(*backends: Backend, confidence: float = inf, with_reference: bool = True) -> Formulas:
    """The formulas with the bounds that hold for all of some backends of one dtype.

    On a GPU, float32 denormals may be flushed to 0, as CuPy has it.

    Args:
        confidence: as of ``Arithmetic``.
        with_reference: whether results are compared with those of the formulas, which are then evaluated in NumPy's
            widest float; otherwise it is done in float64, which is fast, and enough for bounds.
    """
    dtype = backends[0].dtype_name
    flushes = dtype == "float32" and any("cuda" in backend.device.spec for backend in backends)
    wide = "float64" if all(backend.device.has_float64 for backend in backends) else "float32"
    reference = Wide if with_reference else np.float64
    real, of_sums = (
        Arithmetic(name, flushes and name == "float32", confidence, reference, with_reference) for name in (dtype, wide)
    )
    return Formulas(real, of_sums)


def _check(backend: Backend, operation: str, seed: int, against: Backend | None, every: int) -> Result:
    result = Result(operation, backend.dtype_name)
    flushes = formulas(*(b for b in (backend, against) if b is not None)).real.flushes
    for case in itertools.islice(cases(operation, backend.dtype_name, seed, flushes), 0, None, every):
        expected = expected_of(formulas(backend), case)
        plain, *others = ways(case)
        draw = zlib.crc32(f"{seed} {result.cases} {case.name}".encode())
        for way in (plain, others[draw % len(others)]) if others else (plain,):
            outcome = _outcome(backend, against, case, way, expected)
            name = f"{case.name}, {way}" if way != "plain" else case.name
            result.cases += 1
            result.error = max(result.error, outcome.error)
            if outcome.ratio > result.ratio:
                result.ratio, result.worst = outcome.ratio, name
            if outcome.complaint:
                result.wrong += 1
                result.first_wrong = result.first_wrong or f"{name}: {outcome.complaint}"
    return result


def _outcome(backend: Backend, against: Backend | None, case: Case, way: str, expected: tuple[Any, ...]) -> Outcome:
    try:
        found = perform(backend, case, way)
    except Exception as error:  # whatever a library raises is a finding, not the end of the check
        return Outcome(np.inf, np.inf, f"{type(error).__name__}: {error}".partition("\n")[0])
    if against is None:
        return compare(found, expected)
    try:
        others = perform(against, case, way)
    except Exception as error:
        return Outcome(np.inf, np.inf, f"{against!r}: {type(error).__name__}: {error}".partition("\n")[0])
    both = expected_of(formulas(against), case)
    return compare(found, tuple(_around(*three) for three in zip(others, expected, both, strict=True)))


def _around(other: Array, expected: Any, theirs: Any) -> Any:
    """What another backend found, with the sum of the two bounds about it."""
    if not isinstance(expected, Bounded):
        return other if isinstance(expected, np.ndarray) else expected
    value = other.astype(expected.value.dtype)
    error = np.where(np.isfinite(value), expected.error + theirs.error, 0)
    return Bounded(expected.arithmetic, value, error, expected.size)


# ---- what is expected, and how a result compares ---------------------------------------------------------------------


def expected_of(formulas: Formulas, case: Case) -> tuple[Any, ...]:
    """The results by the formula: ``Bounded``, arrays that must be equal bit for bit, None, or a ``Shape``."""
    results: tuple[Any, ...] = getattr(formulas, case.operation)(*case.inputs, **case.options)
    return results


def compare(found: tuple[Any, ...], expected: tuple[Any, ...]) -> Outcome:
    """The largest errors over the results of a call."""
    if len(found) != len(expected):
        return Outcome(np.inf, np.inf, f"{len(found)} results instead of {len(expected)}")
    outcomes = [_compare(*pair) for pair in zip(found, expected, strict=True)]
    complaints = [outcome.complaint for outcome in outcomes if outcome.complaint]
    return Outcome(max(o.error for o in outcomes), max(o.ratio for o in outcomes), "; ".join(complaints))


def _compare(found: Any, expected: Any) -> Outcome:
    if expected is None:
        return Outcome() if found is None else Outcome(np.inf, np.inf, "a result where there should be none")
    if isinstance(expected, Bounded):
        dtype, shape = expected.arithmetic.dtype, expected.value.shape
    else:
        dtype, shape = str(expected.dtype), expected.shape
    if not isinstance(found, np.ndarray) or str(found.dtype) != dtype or found.shape != shape:
        got = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
        return Outcome(np.inf, np.inf, f"got {got} instead of {dtype} {shape}")
    if isinstance(expected, Shape) or found.size == 0:
        return Outcome()
    return _within(found, expected) if isinstance(expected, Bounded) else _equal(found, expected)


def _equal(found: Array, expected: Array) -> Outcome:
    """Equal bit for bit, -0 and all; one NaN is as good as another."""
    same = (found == expected) & (np.signbit(found) == np.signbit(expected)) if found.dtype.kind == "f" else None
    if same is None:
        same = found == expected
    else:
        same |= np.isnan(found) & np.isnan(expected)
    if np.all(same):
        return Outcome()
    index = tuple(int(i) for i in np.argwhere(~same)[0])
    return Outcome(np.inf, np.inf, f"got {found[index]!r} instead of exactly {expected[index]!r} at {index}")


def _within(found: Array, expected: Bounded) -> Outcome:
    value, bound = expected.value, expected.error
    x = found.astype(value.dtype)
    error = np.abs(x - value)
    if not error.any():
        return Outcome()
    ratio = np.where(error == 0, 0, error / bound)
    relative = error / np.maximum(expected.size, expected.arithmetic.smallest_normal)
    if not np.isfinite(error).all():
        ratio, relative = _with_specials(x, expected, ratio, relative)
    index = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    largest = float(ratio[index])
    complaint = ""
    if not largest <= 1:
        where = f" at {tuple(int(i) for i in index)}" if index else ""
        complaint = f"got {x[index]:.9g} instead of {value[index]:.9g} +- {bound[index]:.2g}{where}"
    return Outcome(float(np.max(relative)), largest, complaint)


def _with_specials(x: Array, expected: Bounded, ratio: Array, relative: Array) -> tuple[Array, Array]:
    """Both kinds of errors, where numbers may not be finite: 0 where they agree, infinite where not."""
    value, bound = expected.value, expected.error
    # Two that are not finite agree if they are the same; one that is not finite agrees with nothing, except with a
    # number so near the largest that rounding may reach infinity.
    same = (x == value) | (np.isnan(x) & np.isnan(value))
    edge = np.isinf(x) & (np.sign(x) == np.sign(value)) & (np.abs(value) + bound >= expected.arithmetic.largest)
    special = ~(np.isfinite(x) & np.isfinite(value))
    of_special = np.where(same | edge, 0, np.inf)
    return np.where(special, of_special, ratio), np.where(special, of_special, relative)
