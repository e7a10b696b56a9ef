"""Buffers by name, and where arrays lie in a flat buffer."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import Backend, get_backend
from nn.memory import ALIGNMENT, VIEW_LIMIT, Layout, Store, Workspace


def test_a_buffer_is_the_same_at_every_call(backend: Backend) -> None:
    workspace = Workspace(backend)
    first = workspace.buffer("y", (4, 3))
    assert first.shape == (4, 3)
    assert first.dtype == backend.dtype
    assert workspace.buffer("y", (4, 3)) is first
    assert workspace.buffer("z", (4, 3)) is not first
    assert workspace.buffer(("y", 1), (4, 3)) is not first


def test_a_shorter_batch_gets_the_front_of_the_longer_ones() -> None:
    workspace = Workspace(get_backend("cpu"))
    long = workspace.buffer("y", (10, 3))
    short = workspace.buffer("y", (4, 3))
    assert short.ctypes.data == long.ctypes.data
    assert workspace.buffer("y", (10, 3)) is long
    longer = workspace.buffer("y", (11, 3))
    assert not np.shares_memory(longer, long)
    assert workspace.buffer("y", (10, 3)).ctypes.data == longer.ctypes.data  # not what was there before
    assert not np.shares_memory(longer, workspace.buffer("z", (11, 3)))
    assert workspace.buffer("labels", (5,), np.int64).dtype == np.int64


def test_any_number_of_shapes_can_be_asked_for() -> None:
    workspace = Workspace(get_backend("cpu"))
    longest = workspace.buffer("y", (3 * VIEW_LIMIT, 2))
    for rows in range(1, 3 * VIEW_LIMIT):
        view = workspace.buffer("y", (rows, 2))
        assert view.shape == (rows, 2)
        assert view.ctypes.data == longest.ctypes.data


def test_weights_come_first_and_everything_is_aligned() -> None:
    layout = Layout.of({"0.weight": (5, 4), "0.bias": (4,), "1.weight": (4, 2, 2), "1.bias": (17,), "1.scale": ()})
    assert ALIGNMENT == 16  # elements of float32 are a cache line
    assert layout.offsets == {"0.weight": 0, "1.weight": 32, "0.bias": 48, "1.bias": 64, "1.scale": 96}
    assert (layout.n_decayed, layout.size) == (48, 112)
    assert layout.span("1.bias") == slice(64, 81)
    assert layout.span("0.weight") == slice(0, 20)
    nothing = Layout.of({})
    assert (nothing.offsets, nothing.n_decayed, nothing.size) == ({}, 0, 0)


@given(st.lists(st.lists(st.integers(1, 9), max_size=3).map(tuple), max_size=6))
def test_arrays_do_not_overlap_and_all_are_inside(shapes: list[tuple[int, ...]]) -> None:
    layout = Layout.of({str(number): shape for number, shape in enumerate(shapes)})
    flat = np.zeros(layout.size)
    for name, view in layout.views(get_backend("cpu", "float64"), flat).items():
        assert view.shape == layout.shapes[name]
        assert not view.any()
        view[...] = 1.0
        assert (layout.offsets[name] < layout.n_decayed) == (view.ndim > 1)
        assert layout.offsets[name] % ALIGNMENT == 0
    assert flat.sum() == sum(np.prod(shape, dtype=int) for shape in shapes)


SHAPES = st.lists(st.lists(st.integers(1, 30), max_size=3).map(tuple), max_size=9)


@given(SHAPES, st.integers(1, 600), st.integers(1, 4))
def test_parts_in_turn_are_the_whole_buffer(shapes: list[tuple[int, ...]], least: int, most: int) -> None:
    layout = Layout.of({str(number): shape for number, shape in enumerate(shapes)})
    parts = layout.in_turn(least, most)
    elements = [i for part in parts for i in range(part.start, part.stop)]
    assert sorted(elements) == [*range(layout.size)]
    if len(parts) > 1:
        of_weights = [part for part in parts if part.stop <= layout.n_decayed]
        assert 2 <= len(of_weights) <= most
        assert parts[-1].start == 0
        assert {part.start for part in of_weights} <= {*layout.offsets.values()}
        for part in of_weights[:-1]:
            assert least <= part.stop - part.start <= part.stop / 2
        assert [part.stop for part in of_weights[1:]] == [part.start for part in of_weights[:-1]]


def test_the_last_layers_are_the_first_part() -> None:
    """Six weights of 128 and 256 elements; each part has at most half of what those before it leave."""
    layers = [*enumerate(pairwise((8, *(16,) * 6)))]
    layout = Layout.of({f"{i}.weight": shape for i, shape in layers} | {f"{i}.bias": shape[1:] for i, shape in layers})
    assert (layout.n_decayed, layout.size) == (1408, 1504)
    biases = slice(1408, 1504)
    assert layout.in_turn(1) == [slice(896, 1408), slice(640, 896), biases, slice(0, 640)]
    assert layout.in_turn(257) == [slice(896, 1408), biases, slice(0, 896)]
    assert layout.in_turn(513) == layout.in_turn(1, most=1) == [slice(0, 1504)]


def test_a_store_has_a_view_for_each_array_and_buffers_for_each_layer() -> None:
    store = Store(get_backend("cpu"), {"0.weight": (3, 2), "0.bias": (2,)}, {"1.mean": (2,)})
    store.parameters["0.bias"][...] = 5.0
    assert store.flat_parameters[store.layout.span("0.bias")].tolist() == [5.0, 5.0]
    store.gradients["0.weight"][...] = 7.0
    assert store.flat_gradients.sum() == 42.0
    store.state["1.mean"][...] = 3.0
    assert store.flat_state.sum() == 6.0
    assert store.gradients_are_kept
    assert store.workspace_of(1) is store.workspace_of(1)
    buffers = [store.workspace, store.workspace_of(0), store.workspace_of(1)]
    addresses = {workspace.buffer("y", (3,)).ctypes.data for workspace in buffers}
    assert len(addresses) == 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_store_is_of_the_dtype_of_its_backend(dtype: str) -> None:
    store = Store(get_backend("cpu", dtype), {"w": (3, 2)}, {"s": (1,)})
    assert {store.flat_parameters.dtype, store.flat_gradients.dtype, store.flat_state.dtype} == {np.dtype(dtype)}
