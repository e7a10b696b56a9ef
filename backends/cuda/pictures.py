"""The operations on pictures on a CUDA GPU; what each does is said in ``backends.pictures``.

A convolution is a product by cuBLAS of what each window sees, its patches, with the filters: a launch that gathers
patches, a product for each group of channels, and a launch for bias and activation. Windows of one pixel need no
patches. They are made for so many pictures at a time that they fit into ``PATCH_BYTES`` (or for one picture, where its
own are more), in memory that all convolutions of a thread, or of a recorded step, share.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..pictures import Windows
from ..pictures.convolution import check_convolution
from ..pictures.pooling import check_pooling
from ..pictures.windows import Pair
from ..typing import Array
from .core import CupyCore
from .picture_source import CHUNK, CHUNK_BYTES

#: Of the patches of a block of pictures. One more block is three launches more, about 6 us, and as many bytes are
#: written in 28 us by an H200 (est.): so blocks cost little even where they are much smaller than what would fit.
PATCH_BYTES = 128 * 2**20
_INT_MAX = 2**31 - 1


class PictureOperations(CupyCore):
    """Convolution and pooling of pictures, and the chain rule through them."""

    # ---- convolution ------------------------------------------------------------------------------------------------

    def conv2d(
        self,
        x: Array,
        weight: Array,
        bias: Array | None = None,
        activation: str = "identity",
        *,
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        groups: int = 1,
        alpha: float = 1.0,
        z_out: Array | None = None,
        out: Array | None = None,
    ) -> Array:
        """Patches and a product for each group, block by block; then one launch for bias and activation."""
        op = "conv2d"
        if z_out is not None and z_out is out:
            raise ValueError(f"{op}: z_out must not be out, which gets the activation's result")
        windows = check_convolution(op, x.shape, weight.shape, stride, padding, groups)
        x, weight = self._input(op, "x", x), self._input(op, "weight", weight)
        self._check_apart(op, "out", out, x, weight)
        filters = weight.shape[3]
        shape = (x.shape[0], *windows.grid, filters)
        bias = None if bias is None else self._input(op, "bias", bias, (filters,))
        target = self._target(op, out, shape)
        z_target = None if z_out is None else self._target(op, z_out, shape, "z_out")
        z, matrix = _rows(target), _rows(weight)
        for pictures, rows in self._blocks(x.shape[0], x.shape[3], windows):
            patches = self._gathered(op, x[pictures], windows, groups)
            for own, columns in zip(patches, _parts(filters, groups), strict=True):
                self._multiply(own, matrix[:, columns], z[rows, columns], False, False, float(alpha), 0.0)
        z_rows = None if z_target is None else _rows(z_target)
        self.bias_activation(z, bias, activation, out=z, z_out=z_rows)
        if z_target is not None:
            self._deliver(z_target, z_out)
        return self._deliver(target, out)

    def conv2d_backward(
        self,
        dy: Array,
        saved: Array,
        x: Array,
        weight: Array,
        activation: str = "identity",
        *,
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        groups: int = 1,
        alpha: float = 1.0,
        beta: float = 0.0,
        times: float | Array = 1.0,
        needs_dx: bool = True,
        bias_gradient: Array | None = None,
        weight_gradient: Array | None = None,
        dz: Array | None = None,
        out: Array | None = None,
    ) -> tuple[Array | None, Array, Array, Array | None]:
        """dz and the bias gradient as in ``bias_activation_backward``. Then, for each block of pictures, the product of
        their patches with dz; and, in the same memory, that of dz with the filters, and its sums for each pixel."""
        op = "conv2d_backward"
        windows = check_convolution(op, x.shape, weight.shape, stride, padding, groups)
        if beta != 0.0 and weight_gradient is None:
            raise ValueError(f"{op} with beta needs the array `weight_gradient` that beta scales")
        x, weight = self._input(op, "x", x), self._input(op, "weight", weight)
        (m, _, _, channels), filters = x.shape, weight.shape[3]
        self._check_apart(op, "weight_gradient", weight_gradient, x, weight, dy, saved)
        self._check_apart(op, "out", out, x, weight, dy, saved)
        dz, slopes, bias_gradient = self._slopes(dy, saved, activation, (m, *windows.grid, filters), dz, bias_gradient)
        if isinstance(times, float):
            target = self._target(op, weight_gradient, weight.shape, "weight_gradient")
            if target is not weight_gradient and beta != 0.0:
                self._result(weight_gradient, target)
            coefficients = float(alpha * times), float(beta)
        else:  # a number that only the device knows multiplies the product
            target, coefficients = self.empty(weight.shape), (float(alpha), 0.0)
        dx = self._target(op, out, x.shape) if needs_dx else None
        matrix, gradient = _rows(weight), _rows(target)
        for pictures, rows in self._blocks(m, channels, windows):
            patches = self._gathered(op, x[pictures], windows, groups)
            of_groups = _parts(filters, groups)
            for own, columns in zip(patches, of_groups, strict=True):
                self._multiply(own, slopes[rows, columns], gradient[:, columns], True, False, *coefficients)
            coefficients = coefficients[0], 1.0  # further blocks add to what is there
            if dx is not None:
                parts = self._memory_of_patches(dx[pictures], windows, groups)
                for own, columns in zip(parts, of_groups, strict=True):
                    self._multiply(slopes[rows, columns], matrix[:, columns], own, False, True, 1.0, 0.0)
                self._sum_patches(op, parts, dx[pictures], windows)
        if m == 0:
            self._result(coefficients[1] * target if coefficients[1] != 0.0 else 0.0, target)
        if not isinstance(times, float):
            product = target * times
            product = product if weight_gradient is None or beta == 0.0 else product + beta * weight_gradient
            weight_gradient = self._result(product, weight_gradient)
        else:
            weight_gradient = self._deliver(target, weight_gradient)
        return None if dx is None else self._deliver(dx, out), dz, weight_gradient, bias_gradient

    def _slopes(
        self,
        dy: Array,
        saved: Array,
        activation: str,
        shape: tuple[int, ...],
        dz: Array | None,
        bias_gradient: Array | None,
    ) -> tuple[Array, Array, Array | None]:
        """dz, where it was asked for and as a contiguous matrix with a row for each window, and the bias gradient."""
        op, given = "conv2d_backward", dy
        dy, saved = self._input(op, "dy", dy, shape), self._input(op, "saved", saved, shape)
        rows = _rows(dy)
        target = None if dz is None else self._target(op, dz, shape, "dz")
        to = None if target is None else rows if target is dy else _rows(target)
        slopes, bias_gradient = self.bias_activation_backward(
            rows, _rows(saved), activation, out=to, bias_gradient=bias_gradient
        )
        if target is None:
            return given if slopes is rows else slopes.reshape(shape), slopes, bias_gradient
        return self._deliver(target, dz), slopes, bias_gradient

    def _blocks(self, m: int, channels: int, windows: Windows) -> Iterator[tuple[slice, slice]]:
        """The pictures of each block, and the rows of its windows."""
        (height, width), (rows, columns) = windows.size, windows.grid
        each = rows * columns * height * width * channels * self._real.itemsize
        count = max(m if _is_pixel(windows) else PATCH_BYTES // max(each, 1), 1)
        for first in range(0, m, count):
            last = min(first + count, m)
            yield slice(first, last), slice(first * rows * columns, last * rows * columns)

    def _memory_of_patches(self, pictures: Array, windows: Windows, groups: int) -> list[Array]:
        """Where the patches of the pictures go, a matrix for each group with a row for each window; of windows of one
        pixel the pictures themselves."""
        m, channels = pictures.shape[0], pictures.shape[3]
        if _is_pixel(windows):
            return [_rows(pictures)[:, part] for part in _parts(channels, groups)]
        count, positions = m * windows.grid[0] * windows.grid[1], windows.size[0] * windows.size[1]
        size = count * positions * channels
        memory = self._buffer("patches", size, self.dtype)[:size]
        matrices = memory.reshape(groups, count, positions * (channels // groups))
        return [matrices[group] for group in range(groups)]

    def _gathered(self, op: str, pictures: Array, windows: Windows, groups: int) -> list[Array]:
        """What each window sees, likewise."""
        patches = self._memory_of_patches(pictures, windows, groups)
        if not _is_pixel(windows):
            (columns, channels), positions = (windows.grid[1], pictures.shape[3]), windows.size[0] * windows.size[1]
            lines = pictures.shape[0] * windows.grid[0]
            self._chunks(op, "patches", lines, columns * positions * channels, pictures, patches, windows)
        return patches

    def _sum_patches(self, op: str, patches: list[Array], pictures: Array, windows: Windows) -> None:
        """The sums of what windows have at each pixel, to the pictures."""
        if not _is_pixel(windows):
            m, h, w, channels = pictures.shape
            self._chunks(op, "sum_patches", m * h, w * channels, pictures, patches, windows)

    def _chunks(
        self, op: str, kernel: str, lines: int, width: int, pictures: Array, patches: list[Array], windows: Windows
    ) -> None:
        """Launch a kernel from pictures to patches, or back, which takes several channels at once where it can."""
        groups, channels = len(patches), pictures.shape[3]
        size = groups * patches[0].size
        memory = self._buffer("patches", size, self.dtype)[:size]
        is_aligned = all(int(x.data.ptr) % CHUNK_BYTES == 0 for x in (pictures, memory))
        chunk, name = (CHUNK, "four") if is_aligned and channels // groups % CHUNK == 0 else (1, "one")
        arrays = (pictures, memory) if kernel == "patches" else (memory, pictures)
        self._lines(op, f"{kernel}_{name}", lines, width // chunk, *arrays, *_numbers(windows, channels), groups)

    # ---- pooling ----------------------------------------------------------------------------------------------------

    def max_pool2d(
        self, x: Array, size: Pair, *, stride: Pair, padding: Pair = (0, 0), out: Array | None = None
    ) -> Array:
        """In one launch."""
        op = "max_pool2d"
        windows = check_pooling(op, x.shape, size, stride, padding)
        return self._pooled(op, "max_pool", x, windows, out)

    def max_pool2d_backward(
        self,
        dy: Array,
        x: Array,
        y: Array,
        size: Pair,
        *,
        stride: Pair,
        padding: Pair = (0, 0),
        out: Array | None = None,
    ) -> Array:
        """In one launch, which finds the largest values again."""
        op = "max_pool2d_backward"
        windows = check_pooling(op, x.shape, size, stride, padding)
        x = self._input(op, "x", x)
        m, h, w, channels = x.shape
        shape = (m, *windows.grid, channels)
        dy, y = self._input(op, "dy", dy, shape), self._input(op, "y", y, shape)
        self._check_apart(op, "out", out, dy, x, y)
        target = self._target(op, out, x.shape)
        numbers = _numbers(windows, channels)
        self._lines(op, "max_pool_backward", m * h, w * channels, dy, x, y, target, *numbers)
        return self._deliver(target, out)

    def avg_pool2d(
        self,
        x: Array,
        size: Pair,
        *,
        stride: Pair,
        padding: Pair = (0, 0),
        count_padding: bool = True,
        out: Array | None = None,
    ) -> Array:
        """In one launch."""
        op = "avg_pool2d"
        windows = check_pooling(op, x.shape, size, stride, padding)
        return self._pooled(op, "avg_pool", x, windows, out, _share(windows, count_padding))

    def avg_pool2d_backward(
        self,
        dy: Array,
        shape: Pair,
        size: Pair,
        *,
        stride: Pair,
        padding: Pair = (0, 0),
        count_padding: bool = True,
        out: Array | None = None,
    ) -> Array:
        """In one launch."""
        op, (m, _, _, channels) = "avg_pool2d_backward", dy.shape
        windows = check_pooling(op, (m, *shape, channels), size, stride, padding)
        dy = self._input(op, "dy", dy, (m, *windows.grid, channels))
        self._check_apart(op, "out", out, dy)
        target = self._target(op, out, (m, *shape, channels))
        numbers = *_numbers(windows, channels), _share(windows, count_padding)
        self._lines(op, "avg_pool_backward", m * shape[0], shape[1] * channels, dy, target, *numbers)
        return self._deliver(target, out)

    def _pooled(self, op: str, kernel: str, x: Array, windows: Windows, out: Array | None, *settings: float) -> Array:
        x = self._input(op, "x", x)
        m, channels = x.shape[0], x.shape[3]
        rows, columns = windows.grid
        self._check_apart(op, "out", out, x)
        target = self._target(op, out, (m, rows, columns, channels))
        self._lines(op, kernel, m * rows, columns * channels, x, target, *_numbers(windows, channels), *settings)
        return self._deliver(target, out)

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _lines(self, op: str, kernel: str, m: int, n: int, *arguments: Any) -> None:
        """Launch a kernel that gives a block to each of ``m`` lines of ``n`` elements."""
        if n > _INT_MAX:
            raise ValueError(f"{op}: a row of a picture has {n:,} values to compute, and no more than {_INT_MAX:,} fit")
        self._kernels.rows(kernel, m, n, *arguments)

    def _check_apart(self, op: str, name: str, out: Array | None, *others: Array) -> None:
        if out is not None and any(self.cupy.may_share_memory(out, other) for other in others):
            raise ValueError(f"{op}: {name} must not overlap what is read")


def _numbers(windows: Windows, channels: int) -> tuple[int, ...]:
    """What kernels take of windows."""
    picture, size, stride, padding = windows
    return (*picture, channels, *size, *stride, *padding, *windows.grid)


def _share(windows: Windows, count_padding: bool) -> float:
    """1 / the number of values of a window, where all have as many; else 0."""
    return 1.0 / (windows.size[0] * windows.size[1]) if count_padding or windows.padding == (0, 0) else 0.0


def _is_pixel(windows: Windows) -> bool:
    """Whether windows see one pixel each, and all in their order."""
    return windows.size == windows.stride == (1, 1) and windows.padding == (0, 0)


def _parts(size: int, groups: int) -> list[slice]:
    """The columns of each group."""
    part = size // groups
    return [slice(group * part, (group + 1) * part) for group in range(groups)]


def _rows(x: Array) -> Array:
    """A contiguous array as a matrix with its last axis as columns."""
    return x.reshape(-1, x.shape[-1])
