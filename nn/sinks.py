"""Where products go: to the gradients, or at once to what an update would make of them; and what they are scaled by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from backends.typing import Array

from .layers import Layer
from .layers.base import Sink
from .memory import Store
from .optimizers import Optimizer
from .optimizers.base import Fold
from .stages import Stage


def takes_input_scale(layers: Sequence[Layer]) -> bool:
    """Whether the first product of the network can multiply the rows by a number, so that no pass over them has to."""
    first = next((layer for layer in layers if not layer.only_moves), None)
    return first is not None and {"output", "weight"} <= {*first.products}


def scale_input(stages: Sequence[Stage], scale: float) -> None:
    """(s x) W = s (x W), and the gradient of W is s x^T dz."""
    sinks = next(ctx.sinks for layer, ctx in stages if not layer.only_moves)
    for name in ("output", "weight"):
        sinks[name]["alpha"] = scale * sinks[name].get("alpha", 1.0)


def fold_gradients(stages: Sequence[Stage], store: Store, optimizer: Optimizer) -> dict[str, Sink]:
    """Let products add gradients to the velocity, v <- kept v + fresh gradient; the sinks, by the names of those
    parameters."""
    backend = store.backend
    fold = optimizer.fold() if backend.accumulates else None
    if fold is None or not fold.state:
        return {}
    products = _gradients_by_products(stages)
    if sum(prod(stage.ctx.gradients[name].shape) for stage, name in products) < backend.accumulates_from:
        return {}
    return _redirect(products, fold, store.layout.views(backend, optimizer.state[fold.state]))


def move_parameters(stages: Sequence[Stage], store: Store, optimizer: Optimizer) -> dict[str, Sink]:
    """Let products move parameters, W <- W - learning_rate gradient: those of the first layer that has any, which no
    product reads after that. The sinks, by the names of the parameters."""
    fold = optimizer.fold() if store.backend.multiplies else None
    if fold is None or fold.state:
        return {}
    products = [(stage, name) for stage, name in _gradients_by_products(stages) if not stage.ctx.needs_dx]
    return _redirect(products, fold, store.parameters)


def _gradients_by_products(stages: Sequence[Stage]) -> list[tuple[Stage, str]]:
    """The parameters whose gradients are one product each."""
    return [(stage, name) for stage in stages for name in {*stage.layer.products} & {*stage.ctx.gradients}]


def _redirect(products: list[tuple[Stage, str]], fold: Fold, targets: Mapping[str, Array]) -> dict[str, Sink]:
    """Let products add the gradients that they compute to these arrays; the new sinks, by the parameters' names."""
    sinks: dict[str, Sink] = {}
    for (layer, ctx), name in products:
        full = f"{ctx.name}.{name}"
        alpha = fold.fresh * ctx.sinks[name].get("alpha", 1.0)
        ctx.sinks[name] = sinks[full] = {"alpha": alpha, "beta": fold.kept, layer.target: targets[full]}
    return sinks
