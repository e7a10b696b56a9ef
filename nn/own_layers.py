"""The first use of a layer that somebody else has written: what it gives is looked at, and what is wrong is named.

A result of the wrong shape may well be broadcast by whatever comes next, and a gradient that nobody writes is whatever
stood there before: training goes on, and learns nothing. So before such a layer is trained or predicts, a few rows run
through the network with a look at each of its results. The steps themselves are not looked at, nor networks of xpnet's
own layers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from backends.typing import Array, Shape

from .layers import Layer
from .memory import Store
from .plan import Observer
from .stages import Stage

#: What stands in the gradients before backward writes them: a number that no gradient is, and that stays where a small
#: one is added.
NOT_WRITTEN = 7.0 * 2.0**90

#: So many rows run through the network for that: with one, a layer could not tell a row from all rows.
LOOKED_AT = 2


class FirstUse:
    """An observer of a plan: a ValueError or a TypeError names the layer, what it gave and what it should have given.

    Args:
        store: of the network; its gradients are ``NOT_WRITTEN`` where backward is to be looked at.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._given: Shape | None = None  # the shape of what the next layer is given
        self._inputs: dict[str, Shape | None] = {}

    def __call__(self, phase: str, stage: Stage | None, name: str, array: Array) -> None:
        if phase == "batch" and name == "batch":
            self._given = tuple(array.shape)
        elif stage is None:
            return
        elif phase == "forward" and name == "activation":
            self._look_at_output(stage, array)
        elif phase == "backward" and name == "gradient of the input":
            self._look_at_input_gradient(stage, array)
        elif phase == "backward" and name.startswith("gradient of "):
            self._look_at_gradient(stage, name.rpartition(".")[2])

    def _look_at_output(self, stage: Stage, y: Any) -> None:
        layer, ctx = stage
        given, self._given = self._given, None
        if is_own(layer):
            shape = self._shape_of(stage, "forward", "an array", y)
            row = layer.output_shape(layer.input_shape() if given is None else given[1:])
            rows = given[0] if given is not None else shape[0] if shape else 0
            if row is not None and shape != (rows, *row):
                of = "" if given is None else f" for an input of shape {given}"
                raise ValueError(
                    f"{_name(stage)}: forward gave an array of shape {shape}{of}, but by output_shape it should be "
                    f"{(rows, *row)}"
                )
        self._inputs[ctx.name], self._given = given, tuple(y.shape)

    def _look_at_input_gradient(self, stage: Stage, dx: Any) -> None:
        given = self._inputs.get(stage.ctx.name)
        if not is_own(stage.layer):
            return
        shape = self._shape_of(stage, "backward", "the gradient of its input, which the layer before it needs", dx)
        if given is not None and shape != given:
            raise ValueError(
                f"{_name(stage)}: backward gave an array of shape {shape}, but the gradient of its input has the shape "
                f"of that, {given}"
            )

    def _look_at_gradient(self, stage: Stage, name: str) -> None:
        if not is_own(stage.layer):
            return
        backend = self.store.backend
        gradient = backend.to_numpy(self.store.gradients[f"{stage.ctx.name}.{name}"])
        if (gradient == NOT_WRITTEN).any():
            raise ValueError(
                f"{_name(stage)}: backward did not write the gradient of its parameter {name!r}, of shape "
                f"{gradient.shape}; write it in place, as in ctx.gradients[{name!r}][...] = ..."
            )

    def _shape_of(self, stage: Stage, method: str, expected: str, x: Any) -> Shape:
        backend = self.store.backend
        if not hasattr(x, "shape") or not hasattr(x, "dtype"):
            raise TypeError(
                f"{_name(stage)}: {method} gave {'None' if x is None else type(x).__name__} instead of {expected}"
            )
        if x.dtype != backend.dtype:
            raise TypeError(f"{_name(stage)}: {method} gave numbers of dtype {x.dtype}, not {backend.dtype_name}")
        return tuple(x.shape)


def is_own(layer: Layer) -> bool:
    """Whether it is of a class that somebody else has written."""
    return "." in layer.registered_name


def observer_of(layers: Iterable[Layer], store: Store) -> Observer | None:
    """Who looks at these layers, where one of them is somebody's own."""
    return FirstUse(store) if any(map(is_own, layers)) else None


def _name(stage: Stage) -> str:
    return f"layer {stage.ctx.name}, {stage.layer!r}"
