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
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
    """

    name: str
    forward: Callable[[Namespace, Array], Array]
    derivative: Callable[[Namespace, Array], Array] | None
    numpy_forward: Callable[[Any, Array, Array], Any] | None = None
    numpy_derivative: Callable[[Any, Array, Array], Any] | None = None
    cuda_forward: str = ""
    cuda_derivative: str = ""
    needs_z: bool = False

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
        ),
        Activation(
            name="tanh",
            forward=lambda xp, z: xp.tanh(z),
            derivative=lambda xp, y: 1.0 - y * y,
            numpy_forward=lambda np, z, out: np.tanh(z, out=out),
            numpy_derivative=_tanh_derivative,
            cuda_forward="tanh(z)",
            cuda_derivative="REAL(1) - y * y",
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
        ),
    )
}
#: Their functions for NumPy call only functions of the ``np`` that they are given, and so can be recorded.
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
    try:
        return ACTIVATIONS[name]
    except KeyError:
        raise ValueError(f"unknown activation {name!r}; known are {', '.join(ACTIVATIONS)}") from None
