"""Convolutions: the specification, written as patches and one matrix product for each group of channels."""

from __future__ import annotations

from ..activations import get_activation
from ..core import Core, check_beta, check_z_out, scaled
from ..typing import Array
from .windows import Pair, Windows


class ConvolutionOperations(Core):
    """Convolution of pictures with a bank of filters, and the chain rule through it."""

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
        """y = f(z + bias), z[i, r, s, o] = alpha sum_{a, b, c} x[i, r stride[0] + a, s stride[1] + b, c] W[a, b, c, o].

        That is the cross-correlation which networks call convolution. x has ``padding`` rows and columns of zeros
        around it, from which the first index counts. The channels and the filters are split into ``groups`` of
        neighbours; the filters of a group see the channels of that group alone, c counts within it.

        Args:
            x: (m, h, w, c_in).
            weight: (kh, kw, c_in / groups, c_out).
            bias: (c_out,) or None.
            activation: f, one of ``backends.activations``.
            z_out: where z + bias is left as well, for an activation whose derivative needs it; must not be ``out``.
            out: (m, rows, columns, c_out), where y goes; must overlap neither x nor weight. ``Windows`` says how many
                rows and columns there are.

        Raises:
            ValueError: the shapes do not fit each other.
        """
        check_z_out("conv2d", z_out, out)
        xp, windows = self.xp, check_convolution("conv2d", x.shape, weight.shape, stride, padding, groups)
        patches = self._patches(x, windows)
        parts = [
            xp.matmul(self._of_group(patches, g, groups), _matrix(xp, weight[:, :, :, columns]))
            for g, columns in enumerate(_parts(weight.shape[3], groups))
        ]
        z = xp.reshape(xp.concat(parts, axis=1), (x.shape[0], *windows.grid, weight.shape[3]))
        if alpha != 1.0:
            z = alpha * z
        if bias is not None:
            z = z + bias
        if z_out is not None:
            z = self._result(z, z_out)
        return self._result(get_activation(activation).forward(xp, z), out)

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
        """The chain rule through ``conv2d``, but for its ``alpha``: dz = dy f'(z + bias), and from that

        - dW[a, b, c, o] = times alpha sum_{i, r, s} x[i, r stride[0] + a, s stride[1] + b, c] dz[i, r, s, o]
          + beta weight_gradient, as in a GEMM;
        - the bias gradient, the sums of dz over all but the channels;
        - dx[i, p, q, c], the sum of W[a, b, c, o] dz[i, r, s, o] over all windows (r, s) that have (p, q) at (a, b).

        Args:
            dy: (m, rows, columns, c_out).
            saved: what f' is computed from: y, or z + bias for an activation with ``needs_z``.
            x, weight, stride, padding, groups: as ``conv2d`` had them.
            needs_dx: whether dx is computed.
            bias_gradient: (c_out,), where that gradient goes; it is not computed for None.
            weight_gradient: in the shape of weight, where dW goes. With ``beta == 0`` its contents, NaN included, are
                not read.
            dz: in the shape of dy, where dz goes; may be dy.
            out: in the shape of x, where dx goes; must overlap nothing else.

        Returns:
            ``(dx, dz, weight_gradient, bias_gradient)``, None for what was not asked for.
        """
        operation = "conv2d_backward"
        xp, windows = self.xp, check_convolution(operation, x.shape, weight.shape, stride, padding, groups)
        check_beta(operation, beta, weight_gradient, "weight_gradient")
        derivative = get_activation(activation).derivative
        dz = self._result(dy if derivative is None else dy * derivative(xp, saved), dz)
        rows = xp.reshape(dz, (-1, dz.shape[3]))
        if bias_gradient is not None:
            bias_gradient = self._result(xp.sum(rows, axis=0, dtype=rows.dtype), bias_gradient)
        of_groups = _parts(weight.shape[3], groups)
        patches = self._patches(x, windows)
        products = [
            xp.reshape(
                xp.matmul(self._of_group(patches, g, groups).T, rows[:, columns]),
                (*weight.shape[:3], rows.shape[1] // groups),
            )
            for g, columns in enumerate(of_groups)
        ]
        product = scaled(xp.concat(products, axis=3), alpha, beta, times, weight_gradient)
        weight_gradient = self._result(product, weight_gradient)
        if not needs_dx:
            return None, dz, weight_gradient, bias_gradient
        dpatches = xp.concat(
            [
                xp.reshape(
                    xp.matmul(rows[:, columns], _matrix(xp, weight[:, :, :, columns]).T),
                    (x.shape[0], *windows.grid, windows.size[0] * windows.size[1], weight.shape[2]),
                )
                for columns in of_groups
            ],
            axis=4,
        )
        dx = xp.zeros((x.shape[0], *windows.padded, x.shape[3]), dtype=x.dtype, device=self.device.handle)
        for position, (_, _, down, right) in enumerate(windows.positions()):
            dx[:, down, right, :] = dx[:, down, right, :] + dpatches[:, :, :, position, :]
        return self._result(dx[:, *windows.inside, :], out), dz, weight_gradient, bias_gradient

    def _patches(self, x: Array, windows: Windows) -> Array:
        """What each window sees: (m rows columns, positions in a window, c_in)."""
        patches = self.xp.stack(windows.views(padded(self, x, windows)), axis=3)
        return self.xp.reshape(patches, (-1, windows.size[0] * windows.size[1], x.shape[3]))

    def _of_group(self, patches: Array, group: int, groups: int) -> Array:
        """The channels of a group of patches, as a matrix with a row for each window."""
        own = patches[:, :, _parts(patches.shape[2], groups)[group]]
        return self.xp.reshape(own, (patches.shape[0], own.shape[1] * own.shape[2]))


def padded(core: Core, x: Array, windows: Windows, value: float = 0.0) -> Array:
    """The pictures with their padding of that value; the pictures themselves, where there is none."""
    if windows.padding == (0, 0):
        return x
    shape = (x.shape[0], *windows.padded, x.shape[3])
    result = core.xp.full(shape, value, dtype=x.dtype, device=core.device.handle)
    result[:, *windows.inside, :] = x
    return result


def check_convolution(
    operation: str, x: tuple[int, ...], weight: tuple[int, ...], stride: Pair, padding: Pair, groups: int
) -> Windows:
    """The windows of a convolution of pictures of shape ``x`` with filters of shape ``weight``.

    Raises:
        ValueError: they do not fit each other.
    """
    if len(x) != 4 or len(weight) != 4:
        raise ValueError(
            f"{operation}: x must be (m, h, w, c_in) and weight (kh, kw, c_in / groups, c_out), not of shapes {x} and "
            f"{weight}"
        )
    if groups < 1 or weight[2] * groups != x[3] or weight[3] % groups:
        raise ValueError(
            f"{operation}: {groups} groups of filters for {weight[2]} channels each, {weight[3]} filters in all, do "
            f"not fit pictures of {x[3]} channels"
        )
    return Windows.over((x[1], x[2]), (weight[0], weight[1]), stride, padding)


def _parts(size: int, groups: int) -> list[slice]:
    """The columns of each group."""
    part = size // groups
    return [slice(g * part, (g + 1) * part) for g in range(groups)]


def _matrix(xp: Array, weight: Array) -> Array:
    """The filters as columns: (kh kw c, c_out)."""
    return xp.reshape(weight, (-1, weight.shape[3]))
