"""The operations on pictures as formulas, in numbers that carry an error bound.

A window at a time is what the docstrings of ``backends.pictures`` say; here it is done for all windows at once.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import numpy as np

from ..pictures import Windows
from ..pictures.windows import Pair
from ..typing import Array
from .activations import activation_formulas
from .bounds import Bounded, Wide
from .core import FormulaCore, Given, Results


class PictureFormulas(FormulaCore):
    """The formulas on pictures."""

    def conv2d(
        self,
        x: Given,
        weight: Array,
        bias: Array | None = None,
        activation: str = "identity",
        *,
        stride: Pair,
        padding: Pair,
        groups: int = 1,
        alpha: float = 1.0,
        z_out: Array | None = None,
    ) -> Results:
        """A product of depth kh kw c, as ``matmul`` is bounded."""
        given = self.given(x)
        windows = _windows(given.value, weight.shape[:2], stride, padding)
        filters = self.real.exact(weight)
        if alpha != 1.0:
            filters = self.real.number(alpha) * filters
        parts = [
            _patches(given, windows, g, groups).matmul(_of(own, lambda w: w.reshape(-1, w.shape[3])))
            for g, own in enumerate(_split(filters, groups))
        ]
        z = _of(_joined(parts, 1), lambda rows: rows.reshape(len(given.value), *windows.grid, weight.shape[3]))
        if bias is not None:
            z = z + self.real.exact(bias)
        y = activation_formulas(activation)[0](z)
        return (y,) if z_out is None else (y, z)

    def conv2d_backward(
        self,
        dy: Given,
        saved: Array,
        x: Given,
        weight: Array,
        activation: str = "identity",
        *,
        stride: Pair,
        padding: Pair,
        groups: int = 1,
        alpha: float = 1.0,
        beta: float = 0.0,
        times: float | Array = 1.0,
        needs_dx: bool = True,
        bias_gradient: Array | None = None,
        weight_gradient: Array | None = None,
        dz: Array | None = None,
    ) -> Results:
        """dW is bounded as ``matmul`` is; an element of dx is a sum of products of depth c_out / groups times the
        number of windows that may have it, in any order."""
        d, given, number = self.given(dy), self.given(x), self.real.number
        if activation != "identity":
            d = d * activation_formulas(activation)[1](self.real.exact(saved))
        windows = _windows(given.value, weight.shape[:2], stride, padding)
        d_groups, filters = _split(d, groups), _split(self.real.exact(weight), groups)
        products = []
        for g, own in enumerate(d_groups):
            rows = _rows(own)
            product = _patches(given, windows, g, groups).T.matmul(rows if alpha == 1.0 else number(alpha) * rows)
            products.append(_of(product, lambda dw: dw.reshape(*weight.shape[:3], -1)))
        dw = _joined(products, 3)
        if not isinstance(times, float) or times != 1.0:
            dw = number(float(np.asarray(times).reshape(()))) * dw
        if beta != 0.0:
            dw = dw + number(beta) * self.real.exact(weight_gradient)
        db = None if bias_gradient is None else _rows(d).sum(0)
        if not needs_dx:
            return None, d, dw, db
        dx = _joined([_gathered(*pair, windows) for pair in zip(d_groups, filters, strict=True)], 3)
        return dx, d, dw, db

    def max_pool2d(self, x: Given, size: Pair, *, stride: Pair, padding: Pair = (0, 0)) -> Results:
        given = self.given(x)
        windows = _windows(given.value, size, stride, padding)
        return (_of(_seen(given, windows, -np.inf).max(0), lambda one: one[0]),)

    def max_pool2d_backward(
        self, dy: Given, x: Array, y: Array, size: Pair, *, stride: Pair, padding: Pair = (0, 0)
    ) -> Results:
        """dy goes to one position of each window, the first of the largest; positions of the padding are none."""
        d, windows = self.given(dy), _windows(x, size, stride, padding)
        seen, is_picture = (
            np.stack(windows.views(_padded(a, windows, fill))) for a, fill in ((x, 0), (np.ones(x.shape, bool), False))
        )
        is_largest = is_picture & ((seen == y) | (np.isnan(seen) & np.isnan(y)))
        first = is_largest & (np.cumsum(is_largest, axis=0) == 1)
        zeros = self.real.exact(np.zeros(d.value.shape))
        return (_spread([d.where(at, zeros) for at in first], windows),)

    def avg_pool2d(
        self, x: Given, size: Pair, *, stride: Pair, padding: Pair = (0, 0), count_padding: bool = True
    ) -> Results:
        given = self.given(x)
        windows = _windows(given.value, size, stride, padding)
        return (_seen(given, windows, 0.0).sum(0) * self._shares(windows, count_padding),)

    def avg_pool2d_backward(
        self,
        dy: Given,
        shape: Pair,
        size: Pair,
        *,
        stride: Pair,
        padding: Pair = (0, 0),
        count_padding: bool = True,
    ) -> Results:
        """Each part is rounded and then added, or, where all windows have as many values, the sum is divided."""
        d, windows = self.given(dy), Windows.over(shape, size, stride, padding)
        shares, positions = self._shares(windows, count_padding), size[0] * size[1]
        result = _spread([d * shares] * positions, windows)
        if shares.value.ndim:
            return (result,)
        return (result.or_as(_spread([d] * positions, windows) * shares),)

    def _shares(self, windows: Windows, count_padding: bool) -> Bounded:
        """1 / the number of values of a window: one, or (rows, columns, 1)."""
        if count_padding or windows.padding == (0, 0):
            return self.real.number(Wide(1) / (windows.size[0] * windows.size[1]))
        return self.real.number(Wide(1) / np.array(windows.counts(), Wide)[:, :, None])


# ---- arrays with a bound, moved as one -------------------------------------------------------------------------------


def _of(x: Bounded, moved: Callable[[Array], Array]) -> Bounded:
    """The same numbers in another arrangement."""
    error = np.zeros((), x.error.dtype) if x.is_exact else x.error
    value = moved(x.value)
    error = np.broadcast_to(error, value.shape) if x.is_exact else moved(error)
    return Bounded(x.arithmetic, value, error, lambda: moved(x.size))


def _joined(xs: list[Bounded], axis: int) -> Bounded:
    value, error = (np.concatenate([getattr(x, name) for x in xs], axis) for name in ("value", "error"))
    return Bounded(xs[0].arithmetic, value, error, lambda: np.concatenate([x.size for x in xs], axis))


def _split(x: Bounded, groups: int) -> list[Bounded]:
    """The last axis in equal parts."""
    part = x.value.shape[-1] // groups
    return [_of(x, lambda a, g=g: a[..., g * part : (g + 1) * part]) for g in range(groups)]  # type: ignore[misc]


def _rows(x: Bounded) -> Bounded:
    """A row for each window or pixel, a column for each channel."""
    return _of(x, lambda a: a.reshape(-1, a.shape[-1]))


# ---- windows ---------------------------------------------------------------------------------------------------------


def _windows(x: Array, size: tuple[int, ...], stride: Pair, padding: Pair) -> Windows:
    return Windows.over((x.shape[1], x.shape[2]), (size[0], size[1]), stride, padding)


def _padded(x: Array, windows: Windows, value: float) -> Array:
    (above, left) = windows.padding
    return np.pad(x, ((0, 0), (above, above), (left, left), (0, 0)), constant_values=value)


def _seen(x: Bounded, windows: Windows, value: float) -> Bounded:
    """What the windows see at each of their positions: (positions, m, rows, columns, channels)."""

    def seen(a: Array, fill: float = 0.0) -> Array:
        return np.stack(windows.views(_padded(a, windows, fill)))

    return Bounded(x.arithmetic, seen(x.value, value), seen(x.error), lambda: seen(x.size))


def _patches(x: Bounded, windows: Windows, group: int, groups: int) -> Bounded:
    """What the windows see of the channels of a group, a row for each window."""
    seen = _seen(_split(x, groups)[group], windows, 0.0)
    rows = _of(seen, lambda a: np.moveaxis(a, 0, 3).reshape(-1, a.shape[0] * a.shape[4]))
    exact = np.broadcast_to(np.zeros((), rows.error.dtype), rows.error.shape)
    return Bounded(rows.arithmetic, rows.value, exact, rows.sized) if x.is_exact else rows


def _most_windows(windows: Windows) -> int:
    """How many windows may have a pixel."""
    (kh, kw), (down, right) = windows.size, windows.stride
    return ceil(kh / down) * ceil(kw / right)


def _added(parts: list[Array], windows: Windows) -> Array:
    """For each pixel, the sum of what each window has there: ``parts[position][i, r, s, c]``."""
    m, _, _, c = parts[0].shape
    result = np.zeros((m, *windows.padded, c), parts[0].dtype)
    for part, (_, _, rows, columns) in zip(parts, windows.positions(), strict=True):
        result[:, rows, columns] += part
    return result[:, *windows.inside]


def _spread(parts: list[Bounded], windows: Windows) -> Bounded:
    """The same sums with their bound: of at most so many terms as windows may have a pixel, in any order."""
    rule, number = parts[0].arithmetic, _most_windows(windows)
    value, error = (_added([getattr(part, name) for part in parts], windows) for name in ("value", "error"))
    if number > 1:
        error = error + rule.of_sum(number - 1) * _added([np.abs(part.value) + part.error for part in parts], windows)
        error = error + (number * rule.underflow if rule.flushes else 0.0)
    result = Bounded(rule, value, error, lambda: _added([part.size for part in parts], windows))
    return result.overflowed()


def _gathered(dz: Bounded, weight: Bounded, windows: Windows) -> Bounded:
    """dx of the channels of a group."""
    rule, rows = dz.arithmetic, _rows(dz)
    shape = *dz.value.shape[:3], weight.value.shape[2]

    def added(left: Array, right: Array) -> Array:
        return _added([(left @ right[a, b].T).reshape(shape) for a, b, _, _ in windows.positions()], windows)

    depth = weight.value.shape[3] * _most_windows(windows)
    w, gamma = np.abs(weight.value), rule.of_sum(depth)
    error = gamma * added(np.abs(rows.value) + rows.error, w) + depth * (1 + gamma) * rule.underflow
    if not rows.is_exact:
        error = error + added(rows.error, w)
    if not weight.is_exact:
        error = error + (1 + gamma) * added(np.abs(rows.value) + rows.error, weight.error)
    value = added(rows.value, weight.value)
    return Bounded(rule, value, error, lambda: added(rows.size, w)).overflowed()
