"""Buffers on the device: created with the model and reused in every step."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from backends import Backend
from backends.typing import Array, Shape

from .portable import backend_settings, restored_backend

#: Parameters start at multiples of this many elements in the flat buffers: 64 bytes of float32, a cache line.
ALIGNMENT = 16
VIEW_LIMIT = 64


class _Buffers(threading.local):
    """Memory by name, and its views by shape: one set for each thread that looks, so that a model may predict in
    several threads, or in one while it is trained in another."""

    def __init__(self) -> None:
        self.memory: dict[Any, Array] = {}
        self.views: dict[Any, dict[Shape, Array]] = {}
        self.holder: object | None = None


class Workspace:
    """Buffers by name, each grown to the largest shape asked for and seen in the shape asked for; every thread has its
    own."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._buffers = _Buffers()

    @property
    def holder(self) -> object | None:
        """What the network's buffers of this thread hold the values of, as whoever left them there has said; None once
        something else was computed in them."""
        return self._buffers.holder

    @holder.setter
    def holder(self, holder: object | None) -> None:
        self._buffers.holder = holder

    def release(self) -> None:
        """Let go of all buffers of this thread; they are made anew."""
        self._buffers.memory.clear()
        self._buffers.views.clear()
        self._buffers.holder = None

    def buffer(self, name: Any, shape: Shape, dtype: Any = None) -> Array:
        """A buffer of that shape, its contents arbitrary; a shorter batch gets the front of the longer one's."""
        views = self._buffers.views.get(name)
        view = None if views is None else views.get(shape)
        return self._make(name, shape, dtype) if view is None else view

    def _make(self, name: Any, shape: Shape, dtype: Any) -> Array:
        memory, views = self._buffers.memory, self._buffers.views.setdefault(name, {})
        size = prod(shape)
        if name not in memory or memory[name].shape[0] < size:
            memory[name] = self.backend.empty((size,), dtype)
            views.clear()
        elif len(views) >= VIEW_LIMIT:  # somebody predicts with ever new numbers of rows
            views.clear()
        view = views[shape] = self.backend.xp.reshape(memory[name][:size], shape)
        return view


@dataclass(frozen=True)
class Layout:
    """Where arrays with names lie in a flat buffer: weights first, which decay, then all others.

    Attributes:
        shapes: of each array, by name.
        offsets: the index of its first element.
        n_decayed: how many elements the weights take, those of two dimensions or more.
        size: of the whole buffer, gaps of the alignment included.
    """

    shapes: dict[str, Shape]
    offsets: dict[str, int]
    n_decayed: int
    size: int

    @classmethod
    def of(cls, shapes: Mapping[str, Shape]) -> Layout:
        """The layout for arrays of these shapes."""
        offsets: dict[str, int] = {}
        end = n_decayed = 0
        for decays in (True, False):
            for name, shape in shapes.items():
                if (len(shape) > 1) == decays:
                    offsets[name] = end
                    end += -(-prod(shape) // ALIGNMENT) * ALIGNMENT
            if decays:
                n_decayed = end
        return cls(dict(shapes), offsets, n_decayed, end)

    def span(self, name: str) -> slice:
        """Where the array called ``name`` lies."""
        start = self.offsets[name]
        return slice(start, start + prod(self.shapes[name]))

    def parts(self, apart: bool) -> list[slice]:
        """The whole buffer, if it is not empty; or where each array lies, without the gaps between them."""
        if apart:
            return [self.span(name) for name in self.offsets]
        return [slice(0, self.size)] if self.offsets else []

    def in_turn(self, least: int, most: int = 3) -> list[slice]:
        """The buffer in parts, in the order in which a backward pass has written the gradients there: the weights in up
        to ``most`` parts of at least so many elements, the last layers first, each with at most half of what is left,
        since it is summed while the rest is computed; and before the last of them all that is no weight."""
        starts, parts, end = sorted(self.offsets.values()), list[slice](), self.n_decayed
        while len(parts) < most - 1:
            start = next((start for start in starts if 2 * start >= end), end)
            if start >= end or end - start < least:
                break
            parts.append(slice(start, end))
            end = start
        if not parts:
            return [slice(0, self.size)]
        return [*parts, *([slice(self.n_decayed, self.size)] if self.size > self.n_decayed else []), slice(0, end)]

    def n_decayed_in(self, part: slice) -> int:
        """How many elements at the beginning of a part of the buffer decay."""
        start, end = int(part.start), int(part.stop)
        return max(min(self.n_decayed, end) - start, 0)

    def views(self, backend: Backend, flat: Array) -> dict[str, Array]:
        """The arrays by name, as views into ``flat``, a buffer with this layout."""
        return {name: backend.xp.reshape(flat[self.span(name)], shape) for name, shape in self.shapes.items()}


class Store:
    """What a network keeps on the device: its parameters, their gradients, and the state of its layers.

    Each is one flat buffer with a view for each name, ``"0.weight"``, ``"0.bias"``, ...: the index of the layer and the
    name of its array. So an update, a check or a copy is one operation over all of them.

    Attributes:
        layout, state_layout: where parameters (and gradients) lie, and where the state does.
        flat_parameters, flat_gradients, flat_state: (size,) each.
        parameters, gradients, state: the views by name.
        workspace: the buffers that are not of one layer; ``workspace_of(index)`` those of a layer.
        flat_average: (size,), the average of the parameters over the updates, where a trainer keeps one; else None.
        average_from: the number of the update that it begins with.
        gradients_are_kept: whether ``gradients`` holds the gradients of the last backward. A training step that nobody
            watches adds them straight to a velocity, or uses their buffer up.
    """

    def __init__(self, backend: Backend, parameters: Mapping[str, Shape], state: Mapping[str, Shape]) -> None:
        self.backend = backend
        self.layout, self.state_layout = Layout.of(parameters), Layout.of(state)
        self.flat_parameters = backend.zeros((self.layout.size,))
        self.flat_gradients = backend.zeros((self.layout.size,))
        self.flat_state = backend.zeros((self.state_layout.size,))
        self.parameters = self.layout.views(backend, self.flat_parameters)
        self.gradients = self.layout.views(backend, self.flat_gradients)
        self.state = self.state_layout.views(backend, self.flat_state)
        self.workspace = Workspace(backend)
        self._of_layers: dict[int, Workspace] = {}
        self.gradients_are_kept = True
        self.flat_average: Array | None = None
        self.average_from = 1

    @property
    def sum_of_gradients(self) -> Array:
        """(size,): the gradients of the batches so far that share an update."""
        return self.workspace.buffer("sum of gradients", self.flat_gradients.shape)

    # ---- copies and pickles: the flat buffers and what is counted; views and workspaces are made anew ----------------

    def __deepcopy__(self, memo: dict[int, Any]) -> Store:
        """A store of the same contents on the same device."""
        new = Store(self.backend, self.layout.shapes, self.state_layout.shapes)
        memo[id(self)] = new
        with self.backend.use():
            for name, array in self._flat().items():
                setattr(new, name, self.backend.copy(array, getattr(new, name)))
        vars(new).update(self._numbers())
        return new

    def __copy__(self) -> Store:
        return self.__deepcopy__({})

    def __getstate__(self) -> dict[str, Any]:
        return {
            "backend": backend_settings(self.backend),
            "shapes": (self.layout.shapes, self.state_layout.shapes),
            "arrays": {name: self.backend.to_numpy(array).copy() for name, array in self._flat().items()},
            "numbers": self._numbers(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        backend = restored_backend(state["backend"])
        with backend.use():
            self.__init__(backend, *state["shapes"])  # type: ignore[misc]
            for name, values in state["arrays"].items():
                array = backend.asarray(values)
                setattr(self, name, backend.copy(array, getattr(self, name)))
        vars(self).update(state["numbers"])

    def _flat(self) -> dict[str, Array]:
        return {name: x for name, x in vars(self).items() if name.startswith("flat_") and x is not None}

    def _numbers(self) -> dict[str, int]:
        return {name: number for name, number in vars(self).items() if isinstance(number, int)}

    def workspace_of(self, index: int) -> Workspace:
        """The buffers of the layer with that index, the same for every plan."""
        return self._of_layers.setdefault(index, Workspace(self.backend))

    def release(self) -> None:
        """Let go of all buffers of this thread."""
        for workspace in [self.workspace, *self._of_layers.values()]:
            workspace.release()
