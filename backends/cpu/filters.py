"""Which way a convolution goes: without patches where windows are close, without products where channels are few."""

from __future__ import annotations

from math import prod

from .blas import Blas
from .blocks import Convolution, Filters
from .depthwise import DepthwiseFilters
from .grouped import GroupedFilters
from .patched import PatchedFilters
from .phases import extent_of_phases, phases_of
from .shifted import ShiftedFilters

#: ``shifted`` has at least so many numbers side by side, in the forward pass of fewer filters twice as many.
LEAST_RUN, LEAST_FILTERS = 8, 8
#: It computes at most so many windows for each that there is: in the forward pass, and in the backward pass, where
#: patches cost three times as much.
MOST_WASTE = 1.5, 3.0
#: Up to so many channels in a group, where ``shifted`` is not possible, are computed without products of matrices.
FEW_CHANNELS = 2


def make_filters(it: Convolution, blas: Blas | None) -> Filters:
    """The filters of a convolution, for the way that is fastest of those that can be gone."""
    if it.groups == 1:
        return PatchedFilters(it) if blas is None or not is_shifted(it) else ShiftedFilters(it, blas)
    of_group = it.of_group
    if of_group.channels == 1 or (of_group.channels <= FEW_CHANNELS and not is_shifted(of_group)):
        shape = it.groups, of_group.channels, of_group.filters
        return DepthwiseFilters(it.windows, shape, it.dtype, it.backward)
    return GroupedFilters(it, [make_filters(of_group, blas) for _ in range(it.groups)])


def is_shifted(it: Convolution) -> bool:
    """Whether ``shifted`` is the way, where there is a BLAS, for a convolution of one group."""
    if not it.backward and it.windows.stride != (1, 1):  # patches are as fast
        return False
    least = min(phase.taps[1] for phase in phases_of(it.windows)) * it.channels
    pixels, grid = prod(extent_of_phases(it.windows)), prod(it.windows.grid)
    least_run = LEAST_RUN if it.backward or it.filters >= LEAST_FILTERS else 2 * LEAST_RUN
    return least >= least_run and pixels <= MOST_WASTE[it.backward] * grid
