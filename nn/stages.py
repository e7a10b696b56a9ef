"""Stages: the layers of a network that compute, and what with. An activation is joined to the layer before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from backends.typing import Array

from .layers import Context, ElementwiseActivation, Layer, Sigmoid, Softmax
from .memory import Store


class Stage(NamedTuple):
    """A layer and what it computes with."""

    layer: Layer
    ctx: Context


def context_of(
    index: int,
    layer: Layer,
    store: Store,
    gradients: Mapping[str, Array],
    seed: int,
    training: bool,
    block: int,
) -> Context:
    """What a layer computes with, its gradients in these arrays and its random numbers from this seed."""

    def of_layer(arrays: Mapping[str, Array], names: Mapping[str, Any]) -> dict[str, Array]:
        return {name: arrays[f"{index}.{name}"] for name in names}

    own_gradients = of_layer(gradients, layer.parameters())
    return Context(
        backend=store.backend,
        parameters=of_layer(store.parameters, layer.parameters()),
        gradients=own_gradients,
        state=of_layer(store.state, layer.state()),
        buffer=store.workspace_of(index).buffer,
        sinks={"output": {}} | {name: {layer.target: gradient} for name, gradient in own_gradients.items()},
        seed=seed,
        name=str(index),
        block=block,
        training=training,
    )


def join_activations(layers: Sequence[Layer]) -> list[tuple[int, Layer]]:
    """The layers and their indices, an activation after a layer that can end in one (``Linear``, ``Conv2d``) joined
    into it: bias and activation are one operation. An output activation stays by itself, so that its loss can be
    computed before it; and so does a layer that computes in a way of its own."""
    joined: list[tuple[int, Layer]] = []
    end = end_of(layers)
    for index, layer in enumerate(layers):
        at_end = index == end and isinstance(layer, Sigmoid)
        previous = joined[-1][1] if joined else None
        if (
            isinstance(layer, ElementwiseActivation)
            and not at_end
            and not layer.own_way
            and previous is not None
            and previous.ends_in_activation
            and not previous.own_way
            and function_of(previous) == "identity"
        ):
            joined[-1] = (joined[-1][0], _ending_in(previous, layer.activation))
        else:
            joined.append((index, layer))
    return joined


def _ending_in(layer: Layer, activation: str) -> Layer:
    """A layer that ends in an activation, with another one."""
    ending: Layer = replace(layer, activation=activation)  # type: ignore[type-var]
    return ending


def end_of(layers: Sequence[Layer]) -> int:
    """The index of the last layer that computes: those that only move numbers may follow it."""
    computing = [i for i, layer in enumerate(layers) if not layer.only_moves]
    return computing[-1] if computing else len(layers) - 1


def function_of(layer: Layer) -> str:
    """The activation that a layer is or ends in; ``"identity"`` for none."""
    name: str = getattr(layer, "activation" if layer.ends_in_activation else "function", "identity")
    return name


def output_activation_of(layers: Sequence[Layer]) -> str:
    """What a network makes of its values at the end: ``"softmax"``, ``"sigmoid"``, or ``""`` for no probabilities."""
    name = function_of(layers[end_of(layers)])
    return name if name in (Softmax.function, Sigmoid.function) else ""


def without_output_activation(joined: list[tuple[int, Layer]], activation: str) -> list[tuple[int, Layer]]:
    """The stages without the activation that a loss contains, which is computed from the values before it."""
    layers = [layer for _, layer in joined]
    if not activation or output_activation_of(layers) != activation:
        return joined
    end = end_of(layers)
    index, last = joined[end]
    instead = [(index, _ending_in(last, "identity"))] if last.ends_in_activation else []
    return [*joined[:end], *instead, *joined[end + 1 :]]
