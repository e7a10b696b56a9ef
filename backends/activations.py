"""Activation functions: each is one entry of one table, with everything every backend needs to compute it.

The derivative is written in terms of the *output* y = f(z), which is all that backward keeps: sigma' = y (1 - y),
tanh' = 1 - y^2, relu' = [y > 0]. Where it cannot be had from y, it is written in terms of z, and ``needs_z`` says that
forward has to keep that instead.

To add an activation, add an entry here, or register it from anywhere, at any time::

    register_activation(
        Activation("softsign", lambda xp, z: z / (1.0 + xp.abs(z)), lambda xp, y: (1.0 - xp.abs(y)) ** 2)
    )

That much works on every backend. With CUDA expressions it is one launch on a GPU, with the NumPy functions it needs no
temporaries on the CPU. (A layer of that name is a class in ``nn/layers/activations.py``.)

``leaky_relu`` and ``elu`` have a number, which may stand in brackets: ``get_activation("leaky_relu(0.2)")``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from . import gelu
from .arguments import unknown
from .typing import Array, Namespace


@dataclass(frozen=True)
class Activation:
    """An elementwise function and its derivative, for the reference, for NumPy in place and for CUDA.

    Attributes:
        name: what layers and the command line call it.
        forward: ``forward(xp, z)`` gives f(z) in array-API calls.
        derivative: ``derivative(xp, y)`` gives f'(z) from y = f(z), or ``derivative(xp, z)`` from z with ``needs_z``;
            ``None`` where it is 1 everywhere.
        numpy_forward: ``numpy_forward(np, z, out)`` writes f(z) into ``out``, which may be ``z``, without temporaries;
            ``None`` leaves it to ``forward``.
        numpy_derivative: ``numpy_derivative(np, y, out)`` writes f'(z) into ``out``, which is not what it
            is given; ``None`` leaves it to ``derivative``.
        cuda_forward: a CUDA expression in ``z`` of type ``REAL`` (``float`` or ``double``).
        cuda_derivative: a CUDA expression of type ``REAL`` in ``y``, or in ``z`` with ``needs_z``. Without both
            expressions a GPU computes by ``forward`` and ``derivative``, and a step with them is not captured.
        needs_z: whether the derivative is written in terms of z, the sum with the bias.
        recordable: whether the NumPy functions call only functions of the ``np`` that they are given, so that a
            recorded step calls those instead of them. What they make with ``np.empty`` or ``np.empty_like`` is then
            made once.
    """

    name: str
    forward: Callable[[Namespace, Array], Array]
    derivative: Callable[[Namespace, Array], Array] | None
    numpy_forward: Callable[[Any, Array, Array], Any] | None = None
    numpy_derivative: Callable[[Any, Array, Array], Any] | None = None
    cuda_forward: str = ""
    cuda_derivative: str = ""
    needs_z: bool = False
    recordable: bool = False

    @property
    def symbol(self) -> str:
        """The name as one that a C function could have."""
        return re.sub(r"\W", "_", self.name)

    @property
    def has_cuda(self) -> bool:
        """Whether there are CUDA expressions."""
        return self.cuda_forward != "" and self.cuda_derivative != ""


def _identity_forward(np: Any, z: Array, out: Array) -> None:
    if out is not z:
        np.copyto(out, z)


def _sigmoid_forward(np: Any, z: Array, out: Array) -> None:
    np.multiply(z, 0.5, out=out)
    np.tanh(out, out=out)
    np.multiply(out, 0.5, out=out)
    np.add(out, 0.5, out=out)


def _sigmoid_derivative(np: Any, y: Array, out: Array) -> None:
    np.subtract(1.0, y, out=out)
    np.multiply(out, y, out=out)


def _tanh_derivative(np: Any, y: Array, out: Array) -> None:
    np.multiply(y, y, out=out)
    np.subtract(1.0, out, out=out)


# ---- SiLU and softplus -----------------------------------------------------------------------------------------------


def _silu(xp: Namespace, z: Array) -> Array:
    half = 0.5 * z
    return half + half * xp.tanh(half)


def _silu_derivative(xp: Namespace, z: Array) -> Array:
    """s + z s (1 - s), s = (1 + t) / 2 the sigmoid of z"""
    half = 0.5 * z
    t = xp.tanh(half)
    return 0.5 * (1.0 + t) + (0.5 * half) * (1.0 - t * t)


def _silu_forward(np: Any, z: Array, out: Array) -> None:
    half = np.empty_like(z)
    np.multiply(z, 0.5, out=half)
    np.tanh(half, out=out)
    np.multiply(out, half, out=out)
    np.add(out, half, out=out)


def _silu_slope(np: Any, z: Array, out: Array) -> None:
    t = np.empty_like(z)
    np.multiply(z, 0.5, out=t)
    np.tanh(t, out=t)
    np.multiply(t, t, out=out)
    np.subtract(1.0, out, out=out)
    np.multiply(out, z, out=out)
    np.multiply(out, 0.25, out=out)
    np.add(t, 1.0, out=t)
    np.multiply(t, 0.5, out=t)
    np.add(out, t, out=out)


def _softplus(xp: Namespace, z: Array) -> Array:
    return xp.maximum(z, xp.zeros_like(z)) + xp.log1p(xp.exp(-xp.abs(z)))


def _softplus_forward(np: Any, z: Array, out: Array) -> None:
    tail = np.empty_like(z)
    np.abs(z, out=tail)
    np.negative(tail, out=tail)
    np.exp(tail, out=tail)
    np.log1p(tail, out=tail)
    np.clip(z, 0.0, np.inf, out=out)
    np.add(out, tail, out=out)


def _softplus_slope(np: Any, y: Array, out: Array) -> None:
    np.negative(y, out=out)
    np.expm1(out, out=out)
    np.negative(out, out=out)


# ---- activations with a number ---------------------------------------------------------------------------------------


def _leaky_relu(name: str, slope: float) -> Activation:
    """y = z above 0, slope z below: max(z, slope z) for a slope between 0 and 1."""
    if not 0.0 < slope < 1.0:
        raise ValueError(f"leaky_relu: the slope below 0 must be above 0 and below 1, not {slope}; relu has 0")

    def forward(np: Any, z: Array, out: Array) -> None:
        low = np.empty_like(z)
        np.multiply(z, slope, out=low)
        np.maximum(z, low, out=out)

    def derivative(np: Any, y: Array, out: Array) -> None:
        above = np.empty(y.shape, np.bool_)
        np.greater(y, 0.0, out=above)
        np.copyto(out, slope)
        np.copyto(out, 1.0, where=above)

    return Activation(
        name=name,
        forward=lambda xp, z: xp.maximum(z, slope * z),
        derivative=lambda xp, y: xp.where(y > 0, xp.ones_like(y), slope * xp.ones_like(y)),
        numpy_forward=forward,
        numpy_derivative=derivative,
        cuda_forward=f"z <= REAL(0) ? REAL({slope!r}) * z : z",
        cuda_derivative=f"y > REAL(0) ? REAL(1) : REAL({slope!r})",
        recordable=True,
    )


def _elu(name: str, alpha: float) -> Activation:
    """y = z above 0, alpha (exp(z) - 1) below; the derivative there is y + alpha."""
    if not 0.0 < alpha < math.inf:
        raise ValueError(f"elu: alpha must be a number above 0, not {alpha}")

    def formula(xp: Namespace, z: Array) -> Array:
        zero = xp.zeros_like(z)
        return xp.maximum(z, zero) + alpha * xp.expm1(xp.minimum(z, zero))

    def forward(np: Any, z: Array, out: Array) -> None:
        low = np.empty_like(z)
        np.minimum(z, 0.0, out=low)
        np.expm1(low, out=low)
        np.multiply(low, alpha, out=low)
        np.clip(z, 0.0, np.inf, out=out)
        np.add(out, low, out=out)

    def derivative(np: Any, y: Array, out: Array) -> None:
        above = np.empty(y.shape, np.bool_)
        np.greater(y, 0.0, out=above)
        np.add(y, alpha, out=out)
        np.copyto(out, 1.0, where=above)

    return Activation(
        name=name,
        forward=formula,
        derivative=lambda xp, y: xp.where(y > 0, xp.ones_like(y), y + alpha),
        numpy_forward=forward,
        numpy_derivative=derivative,
        cuda_forward=f"z > REAL(0) ? z : REAL({alpha!r}) * expm1(z)",
        cuda_derivative=f"y > REAL(0) ? REAL(1) : y + REAL({alpha!r})",
        recordable=True,
    )


#: Those whose number may stand in brackets, and the number that they have without.
WITH_A_NUMBER: dict[str, tuple[Callable[[str, float], Activation], float]] = {
    "leaky_relu": (_leaky_relu, 0.01),
    "elu": (_elu, 1.0),
}


def name_with(name: str, number: float) -> str:
    """The name of an activation ``WITH_A_NUMBER`` that has this one."""
    return name if number == WITH_A_NUMBER[name][1] else f"{name}({float(number)!r})"


ACTIVATIONS: dict[str, Activation] = {
    activation.name: activation
    for activation in (
        Activation(
            name="identity",
            forward=lambda xp, z: z,
            derivative=None,
            numpy_forward=_identity_forward,
            numpy_derivative=None,
            cuda_forward="z",
            cuda_derivative="REAL(1)",
            recordable=True,
        ),
        Activation(
            # sigma(z) = 1 / (1 + exp(-z)) = (1 + tanh(z / 2)) / 2: the second form cannot overflow.
            name="sigmoid",
            forward=lambda xp, z: 0.5 + 0.5 * xp.tanh(0.5 * z),
            derivative=lambda xp, y: y * (1.0 - y),
            numpy_forward=_sigmoid_forward,
            numpy_derivative=_sigmoid_derivative,
            cuda_forward="REAL(0.5) + REAL(0.5) * tanh(REAL(0.5) * z)",
            cuda_derivative="y * (REAL(1) - y)",
            recordable=True,
        ),
        Activation(
            name="tanh",
            forward=lambda xp, z: xp.tanh(z),
            derivative=lambda xp, y: 1.0 - y * y,
            numpy_forward=lambda np, z, out: np.tanh(z, out=out),
            numpy_derivative=_tanh_derivative,
            cuda_forward="tanh(z)",
            cuda_derivative="REAL(1) - y * y",
            recordable=True,
        ),
        Activation(
            # NaN passes through maximum(), and through the CUDA comparison, which is false for it.
            name="relu",
            forward=lambda xp, z: xp.maximum(z, xp.zeros_like(z)),
            derivative=lambda xp, y: xp.astype(y > 0, y.dtype),
            # Three times as fast as np.maximum(z, 0.0), which is what it computes.
            numpy_forward=lambda np, z, out: np.clip(z, 0.0, np.inf, out=out),
            numpy_derivative=lambda np, y, out: np.greater(y, 0.0, out=out, casting="unsafe"),
            cuda_forward="z <= REAL(0) ? REAL(0) : z",
            cuda_derivative="y > REAL(0) ? REAL(1) : REAL(0)",
            recordable=True,
        ),
        Activation(
            # Hendrycks and Gimpel, "Gaussian error linear units (GELUs)", 2016: z times the normal distribution of z.
            name="gelu",
            forward=gelu.forward,
            derivative=gelu.derivative,
            numpy_forward=gelu.numpy_forward,
            numpy_derivative=gelu.numpy_derivative,
            cuda_forward=gelu.CUDA_FORWARD,
            cuda_derivative=gelu.CUDA_DERIVATIVE,
            needs_z=True,
            recordable=True,
        ),
        Activation(
            # Its approximation there: z (1 + tanh(sqrt(2 / pi) (z + 0.044715 z^3))) / 2.
            name="gelu_tanh",
            forward=gelu.tanh_forward,
            derivative=gelu.tanh_derivative,
            numpy_forward=gelu.numpy_tanh_forward,
            numpy_derivative=gelu.numpy_tanh_derivative,
            cuda_forward=gelu.CUDA_TANH_FORWARD,
            cuda_derivative=gelu.CUDA_TANH_DERIVATIVE,
            needs_z=True,
            recordable=True,
        ),
        Activation(
            # z sigma(z) = h + h tanh(h), h = z / 2: no exponential that could overflow.
            name="silu",
            forward=_silu,
            derivative=_silu_derivative,
            numpy_forward=_silu_forward,
            numpy_derivative=_silu_slope,
            cuda_forward="REAL(0.5) * z + REAL(0.5) * z * tanh(REAL(0.5) * z)",
            cuda_derivative=(
                "REAL(0.5) * (REAL(1) + tanh(REAL(0.5) * z))"
                " + REAL(0.25) * z * (REAL(1) - tanh(REAL(0.5) * z) * tanh(REAL(0.5) * z))"
            ),
            needs_z=True,
            recordable=True,
        ),
        Activation(
            # log(1 + exp(z)) = max(z, 0) + log(1 + exp(-|z|)); its derivative sigma(z) is 1 - exp(-y).
            name="softplus",
            forward=_softplus,
            derivative=lambda xp, y: -xp.expm1(-y),
            numpy_forward=_softplus_forward,
            numpy_derivative=_softplus_slope,
            cuda_forward="(z <= REAL(0) ? REAL(0) : z) + log1p(exp(-fabs(z)))",
            cuda_derivative="-expm1(-y)",
            recordable=True,
        ),
        *(make(name, number) for name, (make, number) in WITH_A_NUMBER.items()),
    )
}
#: The names that cannot be registered again.
BUILT_IN = frozenset(ACTIVATIONS)


def register_activation(activation: Activation) -> None:
    """Add an activation to the table, or replace one that was added before; backends see it at once.

    Raises:
        ValueError: its name is that of a built-in activation, or not one that a C function could have.
    """
    name = activation.name
    if name in BUILT_IN:
        raise ValueError(f"activation {name!r} is built in; register yours under another name")
    if not (name.isascii() and name.isidentifier()):
        raise ValueError(f"the name of an activation must be letters, digits and underscores, not {name!r}")
    ACTIVATIONS[name] = activation


def get_activation(name: str) -> Activation:
    """The activation called ``name``; a ValueError that lists the known names otherwise."""
    known = ACTIVATIONS.get(name) or _with_number(name)
    if known is None:
        raise ValueError(unknown("activation", name, ACTIVATIONS))
    return known


@lru_cache(maxsize=256)
def _with_number(name: str) -> Activation | None:
    """The entry that a name like ``leaky_relu(0.2)`` asks for, the same at every call."""
    match = re.fullmatch(r"(\w+)\(([-+.\w]+)\)", name)
    if match is None or match[1] not in WITH_A_NUMBER:
        return None
    try:
        number = float(match[2])
    except ValueError:
        return None
    return WITH_A_NUMBER[match[1]][0](name, number)
