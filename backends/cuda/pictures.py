"""The operations on pictures on a CUDA GPU; what each does is said in ``backends.pictures``.

A convolution of few filters is computed by kernels of its own, which read what each window sees from the pictures: one
launch for it, bias and activation included, two for the gradient of its filters, and one for that of its pixels.

Any other is a product by cuBLAS of what each window sees, its patches, with the filters: a launch that gathers patches,
a product for each group of channels, and a launch for bias and activation. Windows of one pixel need no patches. They
are made for so many pictures at a time that they fit into ``PATCH_BYTES`` (or for one picture, where its own are more),
in memory that all convolutions of a thread, or of a recorded step, share.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..activations import get_activation
from ..core import check_beta, check_z_out
from ..pictures import Windows
from ..pictures.convolution import check_convolution
from ..pictures.pooling import check_pooling
from ..pictures.windows import Pair
from ..typing import Array
from .core import CupyCore
from .source.windows import (
    CHUNK,
    CHUNK_BYTES,
    CONVOLVE_THREADS,
    FILTERS,
    GRADIENT_BYTES,
    LANES,
    PIXELS,
    SUM_LANES,
    SUM_TILE,
)

#: Of the patches of a block of pictures. One more block is three launches more, about 6 us, and as many bytes are
#: written in 28 us by an H200 (est.): so blocks cost little even where they are much smaller than what would fit.
PATCH_BYTES = 128 * 2**20
#: Filters of a group, and all their weights, up to which a convolution is made without patches (est.). For each window
#: an H200 writes and reads K numbers of patches in K 2e-12 s (4 TB/s); and it multiplies them with N filters in
#: K N 5.0e-14 s by cuBLAS (60 % of 33.5e12 a second) and in K N 7.5e-14 s by the kernels here (40 %). So these win up
#: to 80 filters or so, as long as the weights stay in the first cache beside the pixels: 64 KB of float32.
DIRECT_FILTERS, DIRECT_WEIGHTS = 64, 1 << 14
#: A gradient of filters without patches: the blocks that share out the windows, about two for each multiprocessor; the
#: windows that a block should have; and the bytes that all blocks may leave to be summed (est.).
GRADIENT_BLOCKS, GRADIENT_WINDOWS, PARTS_BYTES = 256, 64, 16 * 2**20
_MOST_BLOCKS = 65535
_INT_MAX = 2**31 - 1


class PictureOperations(CupyCore):
    """Convolution and pooling of pictures, and the chain rule through them.

    Attributes:
        direct_filters, direct_weights: up to so many filters of a group, and so many weights of all of them, a
            convolution is made without patches. None is for ``direct_filters = 0``.
    """

    direct_filters = DIRECT_FILTERS
    direct_weights = DIRECT_WEIGHTS

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
        check_z_out(op, z_out, out)
        windows = check_convolution(op, x.shape, weight.shape, stride, padding, groups)
        x, weight = self._input(op, "x", x), self._input(op, "weight", weight)
        self._check_apart(op, "out", out, x, weight)
        filters = weight.shape[3]
        shape = (x.shape[0], *windows.grid, filters)
        bias = None if bias is None else self._input(op, "bias", bias, (filters,))
        target = self._target(op, out, shape)
        z_target = None if z_out is None else self._target(op, z_out, shape, "z_out")
        if self._is_direct(windows, x.shape[3] // groups, filters // groups, groups):
            self._convolve(x, weight, bias, activation, windows, groups, float(alpha), target, z_target)
        else:
            z, matrix = _rows(target), _rows(weight)
            for pictures, rows in self._blocks(x.shape[0], x.shape[3], windows):
                patches = self._gathered(op, x[pictures], windows, groups)
                for own, columns in zip(patches, _parts(filters, groups), strict=True):
                    self._multiply(own, matrix[:, columns], z[rows, columns], False, False, float(alpha), 0.0)
            self._activate(target, bias, activation, z_target)
        if z_target is not None:
            self._deliver(z_target, z_out)
        return self._deliver(target, out)

    def _activate(self, z: Array, bias: Array | None, activation: str, z_out: Array | None) -> None:
        """f(z + bias) in place of z."""
        rows = _rows(z)
        self.bias_activation(rows, bias, activation, out=rows, z_out=None if z_out is None else _rows(z_out))

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
        """dz and the bias gradient as in ``bias_activation_backward``; then the gradients of filters and of pixels: for
        each block of pictures the product of patches with dz, and the sums of that of dz with the filters."""
        op = "conv2d_backward"
        windows = check_convolution(op, x.shape, weight.shape, stride, padding, groups)
        check_beta(op, beta, weight_gradient, "weight_gradient")
        x, weight = self._input(op, "x", x), self._input(op, "weight", weight)
        self._check_apart(op, "weight_gradient", weight_gradient, x, weight, dy, saved)
        self._check_apart(op, "out", out, x, weight, dy, saved)
        shape = (x.shape[0], *windows.grid, weight.shape[3])
        dz, slopes, bias_gradient = self._slopes(dy, saved, activation, shape, dz, bias_gradient)
        if isinstance(times, float):
            target = self._target(op, weight_gradient, weight.shape, "weight_gradient")
            if target is not weight_gradient and beta != 0.0:
                self._result(weight_gradient, target)
            self._gradient_of_weight(op, x, slopes, windows, groups, float(alpha * times), float(beta), target)
            weight_gradient = self._deliver(target, weight_gradient)
        else:  # a number that only the device knows multiplies the product
            product = self.empty(weight.shape)
            self._gradient_of_weight(op, x, slopes, windows, groups, float(alpha), 0.0, product)
            product = product * times
            product = product if weight_gradient is None or beta == 0.0 else product + beta * weight_gradient
            weight_gradient = self._result(product, weight_gradient)
        if not needs_dx:
            return None, dz, weight_gradient, bias_gradient
        dx = self._target(op, out, x.shape)
        self._gradient_of_pixels(op, slopes, weight, windows, groups, dx)
        return self._deliver(dx, out), dz, weight_gradient, bias_gradient

    def _gradient_of_weight(
        self, op: str, x: Array, slopes: Array, windows: Windows, groups: int, alpha: float, beta: float, out: Array
    ) -> None:
        """out = alpha patches^T dz + beta out, for each group."""
        m, channels, filters = x.shape[0], x.shape[3], slopes.shape[1]
        if m == 0:
            self._result(beta * out if beta != 0.0 else 0.0, out)
        elif self._is_direct(windows, channels // groups, filters // groups, groups):
            self._sum_gradients(x, slopes, windows, groups, alpha, beta, out)
        else:
            matrix = _rows(out)
            for pictures, rows in self._blocks(m, channels, windows):
                patches = self._gathered(op, x[pictures], windows, groups)
                for own, columns in zip(patches, _parts(filters, groups), strict=True):
                    self._multiply(own, slopes[rows, columns], matrix[:, columns], True, False, alpha, beta)
                beta = 1.0  # further blocks add to what is there

    def _gradient_of_pixels(
        self, op: str, slopes: Array, weight: Array, windows: Windows, groups: int, out: Array
    ) -> None:
        """out = the sums of dz weight^T over the windows of each pixel."""
        (m, _, _, channels), filters = out.shape, weight.shape[3]
        if windows.stride == (1, 1) and self._is_direct(windows, filters // groups, channels // groups, groups):
            (height, width), (above, left) = windows.size, windows.padding
            back = windows._replace(picture=windows.grid, padding=(height - 1 - above, width - 1 - left))
            dz = slopes.reshape(m, *windows.grid, filters)
            self._convolve(dz, weight, None, "identity", back, groups, 1.0, out, None, backward=True)
            return
        matrix = _rows(weight)
        for pictures, rows in self._blocks(m, channels, windows):
            parts = self._memory_of_patches(out[pictures], windows, groups)
            for own, columns in zip(parts, _parts(filters, groups), strict=True):
                self._multiply(slopes[rows, columns], matrix[:, columns], own, False, True, 1.0, 0.0)
            self._sum_patches(op, parts, out[pictures], windows)

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
        dy = self._input(op, "dy", dy, shape)
        is_read = get_activation(activation).derivative is not None
        saved = self._input(op, "saved", saved, shape) if is_read else dy
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
        name = self._chunk(channels // groups, pictures, memory)
        chunk = CHUNK if name == "four" else 1
        arrays = (pictures, memory) if kernel == "patches" else (memory, pictures)
        self._lines(op, f"{kernel}_{name}", lines, width // chunk, *arrays, *_numbers(windows, channels), groups)

    # ---- convolution without patches --------------------------------------------------------------------------------

    def _is_direct(self, windows: Windows, channels: int, filters: int, groups: int) -> bool:
        """Whether a convolution of so many channels and filters in a group is made without patches."""
        return (
            self.precision == "float32"  # which the kernels compute in
            and filters <= self.direct_filters
            and windows.size[0] * windows.size[1] * channels * filters <= self.direct_weights
            and not (groups == 1 and _is_pixel(windows))
        )

    def _convolve(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        activation: str,
        windows: Windows,
        groups: int,
        alpha: float,
        out: Array,
        z_out: Array | None,
        *,
        backward: bool = False,
    ) -> None:
        """f(alpha sum x W + bias), in one launch where the activation has a kernel; backward, the sums for pixels."""
        kernels, known = self._kernels, get_activation(activation)
        name = kernels.activation(known) if known.has_cuda else ""
        is_fused = kernels.has(f"convolve_{name}_one")
        channels, filters = x.shape[3], out.shape[3]
        chunk = self._chunk(channels // groups, x, *((weight,) if backward else ()))
        outs = (out,) if z_out is None else (out, z_out)
        whole = filters // groups % FILTERS == 0 and self._is_aligned(weight, *outs)
        size = out.size // filters
        tasks = -(-size // (PIXELS * LANES)) * LANES * groups * -(-(filters // groups) // FILTERS)
        if tasks > 0:
            self._kernels.launch(
                f"convolve_{name if is_fused else 'identity'}_{chunk}",
                (min(-(-tasks // CONVOLVE_THREADS), _MOST_BLOCKS),),
                CONVOLVE_THREADS,
                *(x, weight, bias if is_fused else None, out, z_out if is_fused else None, alpha),
                *(*_numbers(windows, channels, out.shape[1:3]), filters, groups, whole, backward, size, tasks),
            )
        if not is_fused:
            self._activate(out, bias, activation, z_out)

    def _sum_gradients(
        self, x: Array, slopes: Array, windows: Windows, groups: int, alpha: float, beta: float, out: Array
    ) -> None:
        """out = alpha patches^T dz + beta out, for each group: a launch for parts of all windows, and their sum."""
        channels, (m, filters) = x.shape[3], slopes.shape
        tiles = groups * -(-(out.size // filters) // FILTERS) * -(-(filters // groups) // FILTERS)
        tasks = GRADIENT_BYTES // (FILTERS * FILTERS * self._real.itemsize)  # of a block
        beside = -(-tiles // tasks)
        lanes = tasks // -(-tiles // beside)
        most = min(
            -(-GRADIENT_BLOCKS // beside), PARTS_BYTES // (out.size * self._real.itemsize), m // GRADIENT_WINDOWS
        )
        count = max(most, 1)
        parts = self._buffer("parts", count * out.size, self.dtype)
        whole = filters // groups % FILTERS == 0 and self._is_aligned(slopes)
        self._kernels.launch(
            f"weight_gradient_{self._chunk(channels // groups, x)}",
            (count, beside),
            tasks,
            *(x, slopes, parts, *_numbers(windows, channels), filters, groups, whole, lanes, m, tiles),
        )
        blocks = min(-(-out.size // SUM_TILE), _MOST_BLOCKS)
        self._kernels.launch("sum_parts", (blocks,), SUM_TILE * SUM_LANES, parts, alpha, beta, out, count, out.size)

    def _chunk(self, channels: int, *arrays: Array) -> str:
        """How a kernel reads so many channels of these arrays: one, or four at once."""
        return "four" if channels % CHUNK == 0 and self._is_aligned(*arrays) else "one"

    def _is_aligned(self, *arrays: Array) -> bool:
        return all(int(x.data.ptr) % CHUNK_BYTES == 0 for x in arrays)

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


def _numbers(windows: Windows, channels: int, grid: Pair | None = None) -> tuple[int, ...]:
    """What kernels take of windows, of which there may be others than fit on the pictures."""
    picture, size, stride, padding = windows
    return (*picture, channels, *size, *stride, *padding, *(windows.grid if grid is None else grid))


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
