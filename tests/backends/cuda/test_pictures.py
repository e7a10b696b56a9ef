"""Operations on pictures on the emulated GPU: against the reference, in blocks, in a graph, and without allocations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from backends import StepNumbers, get_backend
from backends.activations import ACTIVATIONS, get_activation
from backends.cuda import pictures
from backends.cuda.cupy_backend import CupyBackend
from tests.helpers.emulated_cuda import EmulatedCudaDevice, Stream, launched, needs_compiler

pytestmark = needs_compiler

NAN = float("nan")
Options = dict[str, Any]

sides = st.tuples(st.integers(1, 3), st.integers(1, 3))


class Pair:
    """The emulated GPU and the reference, in one dtype."""

    def __init__(self, dtype: str, threads: int) -> None:
        self.cuda: Any = CupyBackend(EmulatedCudaDevice(threads), dtype)
        self.reference: Any = get_backend("cpu", dtype, fused=False)
        self.dtype = dtype

    def up(self, x: np.ndarray, layout: str = "C") -> Any:
        """``x`` on the emulated device; with gaps for "::2"."""
        if layout == "C":
            return self.cuda.cupy.asarray(x)
        wide = self.cuda.empty((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]

    def same(self, actual: Any, expected: Any) -> None:
        assert (actual is None) == (expected is None)
        if actual is not None:
            tolerance = 1e-12 if self.dtype == "float64" else 1e-5
            actual = self.cuda.to_numpy(actual)
            assert actual.dtype == expected.dtype
            np.testing.assert_allclose(actual, expected, rtol=10 * tolerance, atol=100 * tolerance, strict=True)


PAIRS = {key: Pair(*key) for key in [("float32", 1), ("float64", 1), ("float64", 4)]}
pairs = st.sampled_from(list(PAIRS.values()))


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], Options]:
    """Shapes of pictures and of filters, and how these slide."""
    size, padding = draw(sides), draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    least = (max(extent - 2 * around, 1) for extent, around in zip(size, padding, strict=True))
    height, width = (draw(st.integers(extent, 7)) for extent in least)
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels, filters = draw(st.sampled_from([1, 2, 4, 5, 8])), draw(st.sampled_from([1, 3, 5, 8, 11, 16]))
    options: Options = {"stride": draw(sides), "padding": padding, "groups": groups}
    return (draw(st.integers(0, 3)), height, width, groups * channels), (*size, channels, groups * filters), options


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "patches"])
@given(pairs, convolutions(), st.sampled_from(list(ACTIVATIONS)), st.integers(0, 2**32 - 1), st.data())
@settings(max_examples=60, deadline=None)
def test_convolution(direct: bool, pair: Pair, shapes: Any, activation: str, seed: int, data: st.DataObject) -> None:
    of_x, of_weight, options = shapes
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(pair.dtype)

    x, weight = normal(*of_x), normal(*of_weight)
    bias = normal(of_weight[3]) if data.draw(st.booleans()) else None
    layout = data.draw(st.sampled_from(["C", "::2"]))
    with pytest.MonkeyPatch.context() as patch:
        if direct:
            patch.setattr(pictures, "GRADIENT_WINDOWS", data.draw(st.sampled_from([1, 7, 64])))
        else:
            patch.setattr(pair.cuda, "direct_filters", 0)
            patch.setattr(pictures, "PATCH_BYTES", data.draw(st.sampled_from([1, 3000, pictures.PATCH_BYTES])))

        forward: Options = {**options, "alpha": 0.5}
        y = pair.reference.conv2d(x, weight, bias, activation, **forward)
        z = np.empty_like(y)
        pair.reference.conv2d(x, weight, bias, activation, z_out=z, **forward)
        device_bias = None if bias is None else pair.up(bias)
        inputs = pair.up(x, layout), pair.up(weight, layout), device_bias, activation
        pair.same(pair.cuda.conv2d(*inputs, **forward), y)
        out, z_out = (pair.up(np.full_like(y, NAN), layout) for _ in range(2))
        assert pair.cuda.conv2d(*inputs, out=out, z_out=z_out, **forward) is out
        pair.same(out, y)
        pair.same(z_out, z)

        saved = z if get_activation(activation).needs_z else y
        dy, before, times = normal(*y.shape), normal(*of_weight), data.draw(st.sampled_from([1.0, 0.25]))
        sink: Options = {"alpha": 0.5, "beta": data.draw(st.sampled_from([0.0, 0.9])), "times": times}
        expected = pair.reference.conv2d_backward(
            *(dy, saved, x, weight, activation),
            **options,
            **sink,
            bias_gradient=np.empty(of_weight[3], pair.dtype),
            weight_gradient=before.copy(),
        )
        to: Options = {
            "weight_gradient": pair.up(before, layout),
            "bias_gradient": pair.up(np.full(of_weight[3], NAN, pair.dtype)),
        }
        if data.draw(st.booleans()):
            to |= {"out": pair.up(np.full_like(x, NAN), layout), "dz": pair.up(np.full_like(y, NAN), layout)}
        if times != 1.0 and data.draw(st.booleans()):
            sink["times"] = pair.up(np.full(1, times, pair.dtype))
        device = pair.up(dy, layout), pair.up(saved, layout), *inputs[:2]
        found = pair.cuda.conv2d_backward(*device, activation, **options, **sink, **to)
        for actual, wanted in zip(found, expected, strict=True):
            pair.same(actual, wanted)
        for name, k in (("out", 0), ("dz", 1), ("weight_gradient", 2), ("bias_gradient", 3)):
            assert name not in to or to[name] is found[k]
        pair.same(device[0], dy)  # nobody asked for dz in its place

        found = pair.cuda.conv2d_backward(*device, activation, dz=device[0], needs_dx=False, **options)
        assert found[0] is None
        assert found[1] is device[0]
        assert found[3] is None
        pair.same(device[0], expected[1])


@given(pairs, sides, sides, st.tuples(st.integers(1, 7), st.integers(1, 7)), st.integers(0, 2**32 - 1), st.data())
@settings(max_examples=60, deadline=None)
def test_pooling(pair: Pair, size: Any, stride: Any, picture: Any, seed: int, data: st.DataObject) -> None:
    padding = data.draw(st.tuples(*(st.integers(0, side // 2) for side in size)))
    assume(all(s <= p + 2 * a for s, p, a in zip(size, picture, padding, strict=True)))
    rng, options = np.random.default_rng(seed), {"stride": stride, "padding": padding}
    x = rng.integers(-2, 3, (data.draw(st.integers(0, 3)), *picture, 3)).astype(pair.dtype)  # many are equal
    x[rng.random(x.shape) < 0.05] = NAN
    layout = data.draw(st.sampled_from(["C", "::2"]))
    y = pair.reference.max_pool2d(x, size, **options)
    out = pair.up(np.full_like(y, NAN), layout)
    device = pair.up(x, layout)
    assert pair.cuda.max_pool2d(device, size, out=out, **options) is out
    np.testing.assert_array_equal(pair.cuda.to_numpy(out), y)
    dy = rng.standard_normal(y.shape).astype(pair.dtype)
    expected = pair.reference.max_pool2d_backward(dy, x, y, size, **options)
    dx = pair.up(np.full_like(x, NAN), layout)
    assert pair.cuda.max_pool2d_backward(pair.up(dy, layout), device, out, size, out=dx, **options) is dx
    pair.same(dx, expected)
    for count_padding in (True, False):
        options["count_padding"] = count_padding
        x = np.nan_to_num(x)
        expected = pair.reference.avg_pool2d(x, size, **options)
        pair.same(pair.cuda.avg_pool2d(pair.up(x, layout), size, **options), expected)
        expected = pair.reference.avg_pool2d_backward(dy, picture, size, **options)
        pair.same(pair.cuda.avg_pool2d_backward(pair.up(dy, layout), picture, size, **options), expected)


def test_padding_is_never_the_largest() -> None:
    """Of windows that see nothing but -inf and their padding, a value on the picture gets the gradient."""
    pair = PAIRS["float64", 1]
    x, dy = np.full((1, 2, 2, 1), -np.inf), np.ones((1, 2, 2, 1))
    options: Options = {"size": (2, 2), "stride": (2, 2), "padding": (1, 1)}
    y = pair.cuda.max_pool2d(pair.up(x), **options)
    assert np.all(pair.cuda.to_numpy(y) == -np.inf)
    dx = pair.cuda.max_pool2d_backward(pair.up(dy), pair.up(x), y, **options)
    pair.same(dx, np.ones_like(x))


def small_step(pair: Pair) -> tuple[Any, list[Any]]:
    """A step through every operation on pictures, and the arrays that it writes."""
    rng = np.random.default_rng(3)
    cuda = pair.cuda

    def made(*shape: int) -> Any:
        return pair.up(rng.standard_normal(shape).astype(pair.dtype))

    x, weight, bias, thin = made(3, 6, 7, 4), made(3, 3, 2, 6), made(6), made(1, 1, 6, 5)
    options: Options = {"stride": (1, 2), "padding": (1, 1), "groups": 2}
    y, dz = made(3, 6, 4, 6), made(3, 6, 4, 6)
    pooled, meant, end = made(3, 3, 2, 6), made(3, 2, 2, 6), made(3, 2, 2, 5)
    d_meant, d_pooled, dx, dw, db, d_thin = (
        *(made(3, 2, 2, 6), made(3, 3, 2, 6), made(3, 6, 7, 4), made(3, 3, 2, 6)),
        *(made(6), made(1, 1, 6, 5)),
    )
    two: Options = {"size": (2, 2), "stride": (2, 2)}
    by_one: Options = {"size": (2, 1), "stride": (1, 1), "count_padding": False}

    def step(numbers: Any, count: int) -> None:
        cuda.conv2d(x, weight, bias, "relu", out=y, **options)
        cuda.max_pool2d(y, **two, out=pooled)
        cuda.avg_pool2d(pooled, **by_one, out=meant)
        cuda.conv2d(meant, thin, out=end)
        cuda.conv2d_backward(end, end, meant, thin, weight_gradient=d_thin, out=d_meant)
        cuda.avg_pool2d_backward(d_meant, (3, 2), **by_one, out=d_pooled)
        cuda.max_pool2d_backward(d_pooled, y, pooled, **two, out=dz)
        cuda.conv2d_backward(
            *(dz, y, x, weight, "relu"),
            **options,
            alpha=0.5,
            beta=0.9,
            dz=dz,
            weight_gradient=dw,
            bias_gradient=db,
            out=dx,
        )

    return step, [y, pooled, meant, end, d_meant, d_pooled, dz, dx, dw, db, d_thin]


#: Without patches, and with patches of one picture and of all pictures at a time.
WAYS = [(64, 1), (0, 1), (0, pictures.PATCH_BYTES)]


@pytest.mark.parametrize(("filters", "block"), WAYS)
def test_a_step_is_captured(filters: int, block: int, streams: list[Stream], monkeypatch: pytest.MonkeyPatch) -> None:
    pair = PAIRS["float32", 1]
    monkeypatch.setattr(pair.cuda, "direct_filters", filters)
    monkeypatch.setattr(pictures, "PATCH_BYTES", block)
    backend = pair.cuda
    (plain, expected), (step, found) = small_step(pair), small_step(pair)
    recorded = backend.record(step)
    numbers = StepNumbers(0, 0, 1, 0.0)
    for number in range(3):
        plain(numbers, 3)
        launched.names.clear()
        recorded(numbers, 3)
        numbers = numbers.after(3)
        assert ("graph" in launched.names) == (number > 0)
        for actual, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(backend.to_numpy(actual), backend.to_numpy(wanted))
    assert streams
    assert not backend.why_eager


@pytest.mark.parametrize(("filters", "block"), WAYS)
def test_allocates_nothing_after_the_first(filters: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = PAIRS["float32", 1]
    monkeypatch.setattr(pair.cuda, "direct_filters", filters)
    monkeypatch.setattr(pictures, "PATCH_BYTES", block)
    step, _ = small_step(pair)
    numbers = StepNumbers(0, 0, 1, 0.0)
    step(numbers, 3)
    before = pair.cuda.cupy.allocate.count
    step(numbers, 3)
    assert pair.cuda.cupy.allocate.count == before


@pytest.mark.parametrize(("together", "blocks"), [(1, 3), (2, 2), (3, 1)])
def test_memory_of_patches_is_bounded(together: int, blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many pictures at a time as their patches fit; what is allocated is at most twice that."""
    pair = Pair("float32", 1)
    x, weight = pair.up(np.zeros((3, 4, 4, 2), "float32")), pair.up(np.zeros((3, 3, 2, 5), "float32"))
    out = pair.cuda.empty((3, 2, 2, 5))
    pair.cuda.matmul(pair.up(np.ones((1, 1), "float32")), pair.up(np.ones((1, 1), "float32")))  # the workspace
    bytes_of_picture = 4 * (2 * 2) * (3 * 3 * 2)
    monkeypatch.setattr(pair.cuda, "direct_filters", 0)
    monkeypatch.setattr(pictures, "PATCH_BYTES", together * bytes_of_picture)
    monkeypatch.setattr(pair.cuda.cupy.allocate, "limit", 2 * together * bytes_of_picture)
    launched.names.clear()
    pair.cuda.conv2d(x, weight, out=out)
    assert launched.count("gemm") == blocks


def test_many_tiles_of_weights() -> None:
    """More than a block takes: 18 by 8, and windows that are no multiple of anything."""
    pair = PAIRS["float32", 1]
    rng = np.random.default_rng(5)
    x, weight = rng.standard_normal((3, 5, 7, 16)), rng.standard_normal((3, 3, 16, 64))
    dy = rng.standard_normal((3, 5, 7, 64))
    arrays = [array.astype("float32") for array in (dy, dy, x, weight)]
    options: Options = {"padding": (1, 1)}
    expected = pair.reference.conv2d_backward(*arrays, **options)
    launched.names.clear()
    found = pair.cuda.conv2d_backward(*map(pair.up, arrays), **options)
    kernels = [name for name in launched.names if name != "copy"]
    assert kernels == ["weight_gradient_four", "sum_parts", "convolve_identity_four"]
    for actual, wanted in zip(found, expected, strict=True):
        pair.same(actual, wanted)


def by_what(backend: Any, filters: int, channels: int = 3, side: int = 3, groups: int = 1) -> list[str]:
    """What a convolution launches, with relu and without bias."""
    cupy = backend.cupy
    x = cupy.asarray(np.zeros((2, 5, 5, channels * groups), "float32"))
    weight = cupy.asarray(np.zeros((side, side, channels, filters * groups), "float32"))
    launched.names.clear()
    backend.conv2d(x, weight, None, "relu", groups=groups)
    return list(launched.names)


def test_convolutions_of_few_filters_are_one_launch() -> None:
    backend = PAIRS["float32", 1].cuda
    by_patches = ["patches_one", "gemm", "bias_activation_relu"]
    assert by_what(backend, 32) == ["convolve_relu_one"]
    assert by_what(backend, 32, channels=16) == ["convolve_relu_four"]
    assert by_what(backend, 32, channels=3, groups=2) == ["convolve_relu_one"]
    assert by_what(backend, backend.direct_filters + 1) == by_patches
    assert by_what(backend, 64, channels=32) == ["patches_four", *by_patches[1:]]  # too many weights for the cache
    assert by_what(backend, 32, side=1) == by_patches[1:]
    assert by_what(CupyBackend(EmulatedCudaDevice(), precision="tf32"), 32) == by_patches


def test_rows_of_normalized_columns_are_shared_out() -> None:
    """Of many rows, as the pixels of pictures are, also in place and with running statistics."""
    pair = PAIRS["float64", 4]
    rng = np.random.default_rng(9)
    x, weight, bias, dy = (rng.standard_normal(shape) for shape in ((1100, 35), 35, 35, (1100, 35)))
    running = {"mean": rng.standard_normal(35), "variance": rng.uniform(1, 2, 35)}
    moved = {name: pair.up(values) for name, values in running.items()}
    options: Options = {"axis": 0, "epsilon": 1e-5, "momentum": 0.1}
    y, normalized, inverse = pair.reference.normalize(3.0 + x, weight, bias, running, **options)
    place = pair.up(3.0 + x)
    launched.names.clear()
    found = pair.cuda.normalize(place, pair.up(weight), pair.up(bias), moved, out=place, **options)
    kernels = [name for name in launched.names if name != "copy"]
    assert kernels == ["activation_backward_identity", "squares_of_groups", "normalize_groups"]
    assert found[0] is place
    for actual, wanted in zip(found, (y, normalized, inverse), strict=True):
        pair.same(actual, wanted)
    for name, values in running.items():
        pair.same(moved[name], values)
    sums: Options = {"bias_gradient": np.empty(35), "gain_gradient": np.empty(35)}
    expected = pair.reference.normalize_backward(dy, normalized, inverse, weight, axis=0, **sums)
    sums = {name: pair.up(np.full(35, NAN)) for name in sums}
    arguments = pair.up(dy), pair.up(normalized), pair.up(inverse), pair.up(weight)
    for actual, wanted in zip(pair.cuda.normalize_backward(*arguments, axis=0, **sums), expected, strict=True):
        pair.same(actual, wanted)


def test_wrong_arguments() -> None:
    pair = PAIRS["float32", 1]
    cuda, x, weight = pair.cuda, np.zeros((2, 4, 4, 2), "float32"), np.zeros((3, 3, 2, 2), "float32")
    with pytest.raises(TypeError, match="conv2d: x must be an array on cuda:0, not ndarray"):
        cuda.conv2d(x, weight)
    device, filters = pair.up(x), pair.up(weight)
    with pytest.raises(TypeError, match="conv2d: weight must be of dtype float32, not float64"):
        cuda.conv2d(device, pair.up(weight.astype("float64")))
    with pytest.raises(ValueError, match="conv2d: out must have shape"):
        cuda.conv2d(device, filters, out=pair.up(x))
    with pytest.raises(ValueError, match="conv2d: out must not overlap what is read"):
        cuda.conv2d(device, filters, padding=(1, 1), out=device)
    with pytest.raises(ValueError, match="max_pool2d: out must not overlap what is read"):
        cuda.max_pool2d(device, (1, 1), stride=(1, 1), out=device)
    dy = pair.up(np.zeros((2, 2, 2, 2), "float32"))
    with pytest.raises(ValueError, match="conv2d_backward with beta needs the array `weight_gradient`"):
        cuda.conv2d_backward(dy, dy, device, filters, beta=1.0)
    with pytest.raises(ValueError, match="conv2d_backward: dy must have shape"):
        cuda.conv2d_backward(device, dy, device, filters)
    out = cuda.empty((2, 2, 2, 2))
    with pytest.raises(ValueError, match="conv2d: z_out must not be out"):
        cuda.conv2d(device, filters, out=out, z_out=out)
