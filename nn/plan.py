"""A plan: a network compiled for one use, be it training, evaluation or gradients. A step stands here, and only here.

A plan is made once and does not change: it knows which layers compute (activations are joined to the layers before
them), where the forward pass ends (before the output activation, where the loss contains it), who needs dx, what the
first product multiplies the rows by, and where each gradient goes. So no layer, loss or optimizer has to know.

A gradient goes to the gradient buffer; or, in a training step whose gradients nobody reads, the matrix product that
computes it adds it to the velocity of the optimizer at once (beta of the GEMM), which spares the update a pass over
memory; and where there is no velocity, to the parameter itself. That is decided for each parameter by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple, Protocol

from backends.typing import Array

from .around_update import Average, Clipping, Share
from .layers import Layer
from .layers.base import Sink
from .losses import Loss
from .memory import Layout, Store
from .optimizers import Optimizer
from .optimizers.base import Update
from .sinks import fold_gradients, move_parameters, scale_input
from .stages import Stage, context_of, join_activations, without_output_activation


class Observer(Protocol):
    """Who looks at a plan at work: called with each tensor as soon as it is computed, and free to write into it.

    The phases are ``"batch"`` (the rows and targets), ``"forward"``, ``"loss"``, ``"backward"``, ``"accumulate"``,
    ``"clip"``, ``"update"`` and ``"average"``; and before each of the last four ``"before update"`` and so on, with the
    flat buffers that it is about to use or to change.
    """

    def __call__(self, phase: str, stage: Stage | None, name: str, array: Array) -> None: ...


class Section(NamedTuple):
    """A part of the flat buffers that is updated at once.

    Attributes:
        update: does so; ``update(number=..., learning_rate=...)``.
        gradient: of its parameters.
        used_up: what ``update`` uses up instead, where the gradient is to be kept; None where it is not.
        folded: whether its gradients are added to the optimizer's state by the products that compute them.
    """

    update: Update
    gradient: Array
    used_up: Array | None
    folded: bool


@dataclass(frozen=True)
class Plan:
    """A network compiled for one use; ``compile_plan`` makes it.

    Attributes:
        store: the arrays of the network.
        stages: the layers that compute, with their contexts.
        loss: what ``gradients`` differentiates and ``evaluate`` adds up; None for outputs alone.
        optimizer: whose updates ``train`` makes.
        sections: the parts of the flat buffers that it updates.
        moving: the sinks of products that move parameters themselves, and so take the learning rate of each step.
        observer: who looks at every tensor; None for nobody.
        keeps_gradients: whether the gradients of a step are still there after its update.
        clipping: how gradients are clipped before an update; None for not at all.
        total: (n,) for the weighted sum of the gradients of several batches, where these make an update together.
        average: the average of the parameters that an update moves on; None for none.
    """

    store: Store
    stages: tuple[Stage, ...]
    loss: Loss | None = None
    optimizer: Optimizer | None = None
    sections: tuple[Section, ...] = ()
    moving: tuple[Sink, ...] = ()
    observer: Observer | None = None
    keeps_gradients: bool = True
    clipping: Clipping | None = None
    total: Array | None = None
    average: Average | None = None

    @property
    def recordable(self) -> bool:
        """Whether all that a step computes, it computes by operations of the backend."""
        of_loss = self.loss is None or self.loss.recordable
        return self.observer is None and of_loss and all(layer.recordable for layer, _ in self.stages)

    def train(
        self,
        x: Array,
        targets: Array,
        totals: Array,
        *,
        step: int | Array,
        update: int | Array,
        learning_rate: float | Array,
        weights: Array | None = None,
        share: Share | None = None,
    ) -> Array:
        """A training step: forward, loss, backward, update. Adds to ``totals`` as a loss does. Never waits for the
        device.

        Args:
            step: the number of the training step, from 0.
            update: the number of the update, from 1.
            learning_rate: of this update. All three may be arrays of shape (1,) on the device.
            weights: (m,), what each row counts; 1 by default.
            share: which batch of an update this is, where several make one: the last one makes the update.
        """
        for sink in self.moving:
            sink["times"] = learning_rate
        totals = self.gradients(x, targets, totals, step, weights)
        if share is not None:
            self.accumulate(x.shape[0], share)
        if share is None or share.is_last:
            self.update(update, learning_rate)
        return totals

    def gradients(
        self,
        x: Array,
        targets: Array,
        totals: Array,
        step: int | Array,
        weights: Array | None = None,
        *,
        scale: float | None = None,
    ) -> Array:
        """Forward, loss and backward: leaves the gradients of the mean loss where they belong; or those of the sum of
        the rows' losses, times ``scale``."""
        assert self.loss is not None
        if self.observer is not None:
            of_rows = {} if weights is None else {"weights": weights}
            self._show("batch", None, {"batch": x, "targets": targets, **of_rows})
        outputs = self.outputs(x, step)
        buffer = self.store.workspace.buffer("doutputs", outputs.shape)
        options: dict[str, Any] = {} if scale is None else {"scale": scale}  # a loss of one's own may not know it
        totals, doutputs = self.loss(
            self.store.backend, outputs, targets, totals=totals, weights=weights, out=buffer, **options
        )
        if self.observer is not None:
            found = {"loss": totals[:1], "correct rows": totals[1:], "gradient of the outputs": doutputs}
            self._show("loss", None, found)
        self.backward(doutputs)
        return totals

    def evaluate(
        self,
        x: Array,
        targets: Array,
        totals: Array,
        step: int | Array = 0,
        weights: Array | None = None,
        losses: Array | None = None,
    ) -> Array:
        """Forward and loss: adds loss sum and correct rows to ``totals``, both by weight, and writes the loss of each
        row, without its weight, to ``losses``. (The step matters to a plan of training: the check of gradients asks for
        the loss of one.)"""
        assert self.loss is not None
        backend, outputs = self.store.backend, self.outputs(x, step)
        totals, _ = self.loss(backend, outputs, targets, totals=totals, gradient=False, weights=weights, losses=losses)
        return totals

    def outputs(self, x: Array, step: int | Array = 0) -> Array:
        """Forward: the outputs of the last stage for the rows ``x``."""
        self.store.workspace.holder = None
        for stage in self.stages:
            layer, ctx = stage
            ctx.step = step
            given, x = x, layer.forward(x, ctx)
            if self.observer is not None:
                state = {f"state {ctx.name}.{name}": array for name, array in ctx.state.items()}
                self._show("forward", stage, {**layer.inside("forward", ctx, given), "activation": x, **state})
        return x

    def backward(self, dy: Array) -> None:
        """The gradients of a loss whose gradient with respect to the last ``outputs`` is ``dy``. Overwrites ``dy``."""
        self.store.gradients_are_kept = self.keeps_gradients
        for stage in reversed(self.stages):
            layer, ctx = stage
            given, dy = dy, layer.backward(dy, ctx)
            if self.observer is not None:
                # Of Linear the bias first, as it is computed.
                gradients = {f"gradient of {ctx.name}.{name}": g for name, g in reversed(ctx.gradients.items())}
                of_input = {"gradient of the input": dy} if ctx.needs_dx else {}
                self._show("backward", stage, {**layer.inside("backward", ctx, given), **gradients, **of_input})
            if not ctx.needs_dx:
                break

    def accumulate(self, rows: int, share: Share) -> None:
        """Add the gradients of a batch to those of the batches before it, each times its part of all rows: the sum is
        the gradient of the mean loss over all of them. After the last batch it is where gradients are."""
        assert self.total is not None
        add, gradients, part = self.store.backend.axpby, self.store.flat_gradients, rows / share.rows
        if share.is_first and share.is_last:
            return
        if self.observer is not None:
            self._show("before accumulate", None, {"gradient of the batch": gradients, "total": self.total})
        if share.is_last:
            result = add(1.0, self.total, part, gradients)
        else:
            result = add(part, gradients, 0.0 if share.is_first else 1.0, self.total)
        if self.observer is not None:
            self._show_parameters("accumulate", "sum of gradients", result)

    def clip(self) -> None:
        """Clip the gradients, all of them together."""
        assert self.clipping is not None
        backend, gradients = self.store.backend, self.store.flat_gradients
        value, limit, norm = self.clipping
        if value is not None:
            if self.observer is not None:
                self._show("before clip", None, {"gradient before clip_value": gradients})
            backend.clip_values(gradients, value)
            if self.observer is not None:
                self._show_parameters("clip", "gradient after clip_value", gradients)
        if limit is not None:
            if self.observer is not None:
                self._show("before clip", None, {"gradient before clip_norm": gradients})
            backend.clip_norm(gradients, limit, norm=norm)
            if self.observer is not None:
                self._show_parameters("clip", "gradient after clip_norm", gradients)

    def update(self, number: int | Array, learning_rate: float | Array) -> None:
        """Move the parameters against the gradients, which are clipped before: update ``number``, from 1. Then move
        their average."""
        assert self.optimizer is not None
        store = self.store
        if self.clipping is not None:
            self.clip()
        if self.observer is not None:
            buffers = {**self.optimizer.state, "parameter": store.flat_parameters}
            self._show("before update", None, {**buffers, "gradient": store.flat_gradients})
        for section in self.sections:
            if section.used_up is not None:
                store.backend.copy(section.gradient, section.used_up)
            section.update(number=number, learning_rate=learning_rate)
        if self.observer is not None:
            for buffer, array in buffers.items():
                self._show_parameters("update", buffer, array)
        if self.average is not None:
            array, decay, first = self.average
            if self.observer is not None:
                self._show("before average", None, {"average": array, "new parameter": store.flat_parameters})
            store.backend.update_average(array, store.flat_parameters, decay, number=number, first=first)
            if self.observer is not None:
                self._show_parameters("average", "average", array)

    def _show_parameters(self, phase: str, what: str, flat: Array) -> None:
        """A flat buffer, parameter by parameter."""
        views = self.store.layout.views(self.store.backend, flat)
        self._show(phase, None, {f"{what} {name}": view for name, view in views.items()})

    def _show(self, phase: str, stage: Stage | None, arrays: dict[str, Array]) -> None:
        assert self.observer is not None
        for name, array in arrays.items():
            self.observer(phase, stage, name, array)


def compile_plan(
    layers: Sequence[Layer],
    store: Store,
    *,
    seed: int = 0,
    training: bool = False,
    loss: Loss | None = None,
    optimizer: Optimizer | None = None,
    input_scale: float = 1.0,
    keep_gradients: bool = False,
    observer: Observer | None = None,
    clipping: Clipping | None = None,
    shares: bool = False,
    average: Average | None = None,
    block: int | None = None,
    flat_gradients: Array | None = None,
) -> Plan:
    """The plan of a network for one use.

    Args:
        layers: of the network; they fit each other.
        store: its arrays.
        seed: of the dropout masks.
        training: whether layers behave as in training (dropout).
        loss: what is computed of the outputs.
        optimizer: for training steps, bound to the store.
        input_scale: what rows are multiplied by, by the first product; 1 unless ``takes_input_scale(layers)``.
        keep_gradients: whether somebody reads the gradients of a step.
        observer: who looks at each tensor. Its steps keep their gradients.
        clipping: of the gradients before each update.
        shares: whether several batches share an update, which is made by all of their gradients.
        average: of the parameters, to be moved by each update.
        block: which block of a batch it is for, where the gradients of several are added up before the update.
        flat_gradients: (n,), laid out as those of the store, where the gradients of this block go instead.
    """
    keep_gradients = keep_gradients or observer is not None or optimizer is None
    joined = join_activations(layers)
    if loss is not None:
        joined = without_output_activation(joined, loss.output_activation)
    gradients = store.gradients if flat_gradients is None else store.layout.views(store.backend, flat_gradients)
    stages = tuple(
        Stage(layer, context_of(index, layer, store, gradients, seed, training, block or 0)) for index, layer in joined
    )
    first = next((i for i, (layer, _) in enumerate(stages) if layer.parameters()), len(stages))
    for i, (_, ctx) in enumerate(stages):
        ctx.needs_dx = i > first
    if input_scale != 1.0:
        scale_input(stages, input_scale)
    sections: tuple[Section, ...] = ()
    moving: tuple[Sink, ...] = ()
    if optimizer is not None:
        # All gradients, before the update:
        in_buffer = keep_gradients or clipping is not None or shares or block is not None
        moved = {} if in_buffer else move_parameters(stages, store, optimizer)
        folded = {} if in_buffer else fold_gradients(stages, store, optimizer)
        sections = tuple(_sections(store, optimizer, {*folded}, {*moved}, keep_gradients))
        moving = tuple(moved.values())
    total = store.sum_of_gradients if shares else None
    return Plan(store, stages, loss, optimizer, sections, moving, observer, keep_gradients, clipping, total, average)


# ---- what is updated at once -----------------------------------------------------------------------------------------


def _sections(
    store: Store, optimizer: Optimizer, folded: set[str], moved: set[str], keep_gradients: bool
) -> Iterator[Section]:
    """Neighbours in the flat buffers that are updated alike, together; without those that products have moved."""
    backend = store.backend
    for part, is_folded in _updated_together(store.layout, optimizer, folded, moved):
        gradient = store.flat_gradients[part]
        name = "gradient to use up", part.start
        used_up = store.workspace.buffer(name, gradient.shape) if keep_gradients else None
        update = optimizer.update_of(
            backend,
            store.flat_parameters[part],
            gradient if used_up is None else used_up,
            {name: array[part] for name, array in optimizer.state.items()},
            n_decayed=store.layout.n_decayed_in(part),
            folded=is_folded,
        )
        yield Section(update, gradient, used_up, is_folded)


def _updated_together(
    layout: Layout, optimizer: Optimizer, folded: set[str], moved: set[str]
) -> Iterator[tuple[slice, bool]]:
    """The parts of the flat buffers that have an update of their own, and whether their gradients are folded."""
    if not (folded or moved):
        yield from ((part, False) for part in layout.parts(optimizer.divides_zeros))
        return
    names = sorted(layout.offsets, key=lambda name: layout.offsets[name])
    start = 0
    for (is_folded, is_moved), group in groupby(names, key=lambda name: (name in folded, name in moved)):
        last = [*group][-1]
        following = names[names.index(last) + 1 :]
        begin, start = start, layout.offsets[following[0]] if following else layout.size
        if not is_moved:
            yield slice(begin, start), is_folded
