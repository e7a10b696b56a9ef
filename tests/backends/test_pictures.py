"""Operations on pictures: what they refuse, where windows lie, and PyTorch's results in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends import Backend, get_backend
from backends.pictures import Windows

Array = Any
Pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


# ---- windows ---------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.tuples(st.integers(1, 9), st.integers(1, 9)), Pairs, Pairs, st.tuples(st.integers(0, 2), st.integers(0, 2)))
def test_windows_see_what_lies_beneath_them(picture: Any, size: Any, stride: Any, padding: Any) -> None:
    if any(p + 2 * around < s for p, around, s in zip(picture, padding, size, strict=True)):
        with pytest.raises(ValueError, match="do not fit pictures"):
            Windows.over(picture, size, stride, padding)
        return
    windows = Windows.over(picture, size, stride, padding)
    x = np.pad(1.0 + np.arange(picture[0] * picture[1]).reshape(picture), [(p, p) for p in padding])
    assert x.shape == windows.padded
    np.testing.assert_array_equal(x[windows.inside], 1.0 + np.arange(picture[0] * picture[1]).reshape(picture))
    views = windows.views(x[None, :, :, None])
    for r in range(windows.grid[0]):
        for s in range(windows.grid[1]):
            seen = x[r * stride[0] : r * stride[0] + size[0], s * stride[1] : s * stride[1] + size[1]]
            assert seen.shape == size  # and so there are not too many
            assert [view[0, r, s, 0] for view in views] == seen.ravel().tolist()
            assert windows.counts()[r][s] == np.count_nonzero(seen)
    beyond = tuple(n * step + s for n, step, s in zip(windows.grid, stride, size, strict=True))
    assert all(end > side for end, side in zip(beyond, x.shape, strict=True))  # nor too few


# ---- what is refused -------------------------------------------------------------------------------------------------

X, DY = (2, 5, 6, 4), (2, 3, 4, 6)
REFUSED: list[tuple[str, tuple[Any, ...], dict[str, Any], str]] = [
    ("conv2d", ((2, 5, 6), (3, 3, 4, 6)), {}, r"x must be \(m, h, w, c_in\) and weight"),
    ("conv2d", (X, (3, 3, 4)), {}, r"x must be \(m, h, w, c_in\) and weight"),
    ("conv2d", (X, (3, 3, 3, 6)), {}, "1 groups of filters for 3 channels each, 6 filters in all, do not fit"),
    ("conv2d", (X, (3, 3, 2, 5)), {"groups": 2}, "2 groups of filters for 2 channels each, 5 filters"),
    ("conv2d", (X, (3, 3, 4, 6)), {"groups": 0}, "0 groups"),
    ("conv2d", (X, (6, 3, 4, 6)), {}, "windows of 6 x 3 do not fit pictures of"),
    ("conv2d", (X, (3, 9, 4, 6)), {"padding": (1, 1)}, "windows of 3 x 9 do not fit pictures of .* with a padding of"),
    ("conv2d", (X, (3, 3, 4, 6)), {"stride": (0, 1)}, "a stride of at least 1"),
    ("conv2d", (X, (3, 3, 4, 6)), {"padding": (0, -1)}, "a padding of at least 0"),
    ("conv2d_backward", (DY, DY, X, (3, 3, 3, 6)), {}, "3 channels each"),
    ("conv2d_backward", (DY, DY, X, (3, 9, 4, 6)), {}, "do not fit pictures"),
    ("conv2d_backward", (DY, DY, X, (3, 3, 4, 6)), {"beta": 1.0}, "conv2d_backward with beta needs the array"),
    ("max_pool2d", ((5, 6, 4), 2), {}, r"x must be \(m, h, w, c\), not of shape"),
    ("max_pool2d", (X, 7), {}, "windows of 7 x 7 do not fit pictures"),
    ("max_pool2d", (X, 2), {"stride": (1, 0)}, "a stride of at least 1"),
    ("max_pool2d", (X, 3), {"padding": (1, 2)}, "is more than half of windows of"),
    ("max_pool2d_backward", (DY, X, DY, 7), {}, "windows of 7 x 7 do not fit pictures"),
    ("avg_pool2d", (X, 3), {"padding": (2, 1)}, "is more than half of windows of"),
    ("avg_pool2d", ((5, 6), 2), {}, r"x must be \(m, h, w, c\), not of shape"),
    ("avg_pool2d_backward", (DY, (5, 6), 7), {}, "windows of 7 x 7 do not fit pictures"),
]


@pytest.mark.parametrize(("operation", "inputs", "options", "said"), REFUSED)
def test_what_does_not_fit_is_refused(
    backend: Backend, operation: str, inputs: tuple[Any, ...], options: dict[str, Any], said: str
) -> None:
    first, *others = inputs
    given = [backend.zeros(first)]
    given += [(x, x) if isinstance(x, int) else backend.zeros(x) if len(x) > 2 else x for x in others]
    with pytest.raises(ValueError, match=said):
        getattr(backend, operation)(*given, **{"stride": (1, 1), "padding": (0, 0)} | options)


def test_z_out_must_not_be_out(backend: Backend) -> None:
    x, weight, y = backend.zeros((1, 3, 3, 1)), backend.zeros((3, 3, 1, 2)), backend.zeros((1, 1, 1, 2))
    with pytest.raises(ValueError, match="conv2d: z_out must not be out"):
        backend.conv2d(x, weight, activation="gelu", z_out=y, out=y)


# ---- PyTorch's results -----------------------------------------------------------------------------------------------


@st.composite
def drawn(draw: st.DrawFn) -> dict[str, Any]:
    """Random pictures and where windows lie on them."""
    groups = draw(st.integers(1, 3))
    return {
        "x": (
            draw(st.integers(1, 9)),
            draw(st.integers(4, 9)),
            draw(st.integers(4, 9)),
            groups * draw(st.integers(1, 4)),
        ),
        "size": draw(st.tuples(st.integers(1, 4), st.integers(1, 4))),
        "filters": groups * draw(st.integers(1, 5)),
        "groups": groups,
        "stride": draw(Pairs),
        "padding": draw(st.tuples(st.integers(0, 2), st.integers(0, 2))),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


NUMPY = pytest.mark.parametrize("fused", [True, False])
SETTINGS = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def to_torch(torch: Any, x: Array, axes: tuple[int, ...] = (0, 3, 1, 2)) -> Any:
    return torch.tensor(np.ascontiguousarray(x.transpose(axes)), requires_grad=True)


def of_torch(x: Any, axes: tuple[int, ...] = (0, 2, 3, 1)) -> Array:
    return x.detach().numpy().transpose(axes)


def assert_equal(found: Array, expected: Array) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@NUMPY
@SETTINGS
@given(it=drawn())
def test_convolution_is_pytorchs(fused: bool, it: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    backend, rng = get_backend("cpu", "float64", fused=fused), np.random.default_rng(it["seed"])
    placed = {name: it[name] for name in ("stride", "padding", "groups")}
    x, bias = rng.normal(size=it["x"]), rng.normal(size=it["filters"])
    weight = rng.normal(size=(*it["size"], it["x"][3] // it["groups"], it["filters"]))
    y = backend.conv2d(x, weight, bias, "tanh", alpha=0.5, **placed)
    tx, tw, tb = to_torch(torch, x), to_torch(torch, weight, (3, 2, 0, 1)), torch.tensor(bias, requires_grad=True)
    ty = torch.tanh(0.5 * torch.nn.functional.conv2d(tx, tw, None, **placed) + tb[:, None, None])
    assert_equal(y, of_torch(ty))
    dy = rng.normal(size=y.shape)
    ty.backward(to_torch(torch, dy).detach())
    db, before = np.empty_like(bias), rng.normal(size=weight.shape)
    dx, dz, dw, db_too = backend.conv2d_backward(
        dy, y, x, weight, "tanh", alpha=0.5, beta=0.25, weight_gradient=before.copy(), bias_gradient=db, **placed
    )
    assert db_too is db
    assert_equal(dz, dy * (1 - y * y))
    assert dx is not None
    for found, expected in (
        (0.5 * dx, of_torch(tx.grad)),  # the chain rule through alpha is left out of dx
        (dw - 0.25 * before, of_torch(tw.grad, (2, 3, 1, 0))),
        (db, tb.grad.numpy()),
    ):
        assert_equal(found, expected)


@NUMPY
@SETTINGS
@given(it=drawn(), has_ties=st.booleans())
def test_pooling_is_pytorchs(fused: bool, it: dict[str, Any], has_ties: bool) -> None:
    torch = pytest.importorskip("torch")
    backend, rng = get_backend("cpu", "float64", fused=fused), np.random.default_rng(it["seed"])
    size, stride = it["size"], it["stride"]
    padding = tuple(min(around, side // 2) for around, side in zip(it["padding"], size, strict=True))
    x = rng.integers(-1, 2, it["x"]).astype(float) if has_ties else rng.normal(size=it["x"])
    if has_ties:
        x[0] = -np.inf  # which is no larger than the padding
    placed = {"stride": stride, "padding": padding}
    tx = to_torch(torch, x)
    ty = torch.nn.functional.max_pool2d(tx, size, **placed)
    y = backend.max_pool2d(x, size, **placed)
    assert np.array_equal(y, of_torch(ty))
    dy = rng.normal(size=y.shape)
    ty.backward(to_torch(torch, dy).detach())
    assert_equal(backend.max_pool2d_backward(dy, x, y, size, **placed), of_torch(tx.grad))
    x[0] = 1.0
    for count_padding in (True, False):
        tx = to_torch(torch, x)
        ty = torch.nn.functional.avg_pool2d(tx, size, count_include_pad=count_padding, **placed)
        assert_equal(backend.avg_pool2d(x, size, count_padding=count_padding, **placed), of_torch(ty))
        ty.backward(to_torch(torch, dy).detach())
        found = backend.avg_pool2d_backward(dy, x.shape[1:3], size, count_padding=count_padding, **placed)
        assert_equal(found, of_torch(tx.grad))
