"""Buffers: created once, reused in every step."""

from __future__ import annotations

from math import prod
from typing import Any

from backends import Backend
from backends.typing import Array, Shape

VIEW_LIMIT = 64


class Workspace:
    """Memory that stays: a buffer for each name, grown to the largest shape asked for, seen in the shape asked for."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._memory: dict[Any, Array] = {}
        self._views: dict[Any, dict[Shape, Array]] = {}

    def buffer(self, name: Any, shape: Shape, dtype: Any = None) -> Array:
        """Memory of that shape, its contents arbitrary; a shorter batch gets the front of the longer one's."""
        views = self._views.get(name)
        view = None if views is None else views.get(shape)
        if view is None:
            views = self._views.setdefault(name, {})
            size = prod(shape)
            if name not in self._memory or self._memory[name].shape[0] < size:
                self._memory[name] = self.backend.empty((size,), dtype)
                views.clear()
            elif len(views) >= VIEW_LIMIT:  # somebody predicts with ever new numbers of rows
                views.clear()
            view = views[shape] = self.backend.xp.reshape(self._memory[name][:size], shape)
        return view
