"""The table of activations: what it promises of its entries, and that one more is one entry, wherever it is made."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from backends import Backend, get_backend
from backends.activations import ACTIVATIONS, Activation, get_activation, register_activation
from backends.check import check
from backends.step import StepNumbers
from tests.helpers import with_emulated
from tests.helpers.emulated_cuda import launched, needs_compiler
from tests.helpers.with_emulated import EMULATED, WITH_EMULATED

# ---- an activation in one place: GELU, whose derivative cannot be had from y ----------------------------------------

#: Hendrycks and Gimpel, "Gaussian error linear units", 2016: z/2 (1 + tanh(A (z + B z^3))), in the derivative at z
#: no further from 0 than 10, where tanh is 1 in any dtype and z^2 of a huge z would be infinite.
A, B = (2 / np.pi) ** 0.5, 0.044715


def gelu(xp: Any, z: Any) -> Any:
    return 0.5 * z * (1.0 + xp.tanh(A * (z + B * (z * z * z))))


def gelu_derivative(xp: Any, z: Any) -> Any:
    z = xp.maximum(xp.minimum(z, 10.0 * xp.ones_like(z)), -10.0 * xp.ones_like(z))
    t = xp.tanh(A * (z + B * (z * z * z)))
    return 0.5 * (1.0 + t) + 0.5 * z * (1.0 - t * t) * (A * (1.0 + 3.0 * B * (z * z)))


CLOSE = "(z > REAL(10) ? REAL(10) : z < REAL(-10) ? REAL(-10) : z)"
TANH = f"tanh(REAL({A!r}) * (@ + REAL({B!r}) * (@ * @ * @)))"
SLOPE = f"REAL(0.5) * (REAL(1) + {TANH}) + REAL(0.5) * @ * (REAL(1) - {TANH} * {TANH})"
SLOPE += f" * (REAL({A!r}) * (REAL(1) + REAL({3.0 * B!r}) * (@ * @)))"
GELU = Activation(
    name="gelu",
    forward=gelu,
    derivative=gelu_derivative,
    cuda_forward=f"REAL(0.5) * z * (REAL(1) + {TANH})".replace("@", "z"),
    cuda_derivative=SLOPE.replace("@", CLOSE),
    needs_z=True,
)
PLAIN_GELU = dataclasses.replace(GELU, cuda_forward="", cuda_derivative="")


@pytest.fixture(params=WITH_EMULATED)
def which(request: pytest.FixtureRequest) -> Any:
    return request.param


def made(which: tuple[str, bool], dtype: str) -> Backend:
    """The backend, that on the emulated GPU among them, with its kernels compiled: before GELU is registered."""
    backend = with_emulated.made(which, dtype)
    with backend.use():
        backend.bias_activation(backend.zeros((1, 1)), None, "relu")
    return backend


@pytest.fixture
def table() -> Iterator[None]:
    """What a test registers is forgotten afterwards."""
    before = dict(ACTIVATIONS)
    yield
    ACTIVATIONS.clear()
    ACTIVATIONS.update(before)


def forward_and_backward(backend: Backend, z: Any, bias: Any, dy: Any, name: str = "gelu") -> list[Any]:
    """y, z + bias, dz and the bias gradient, on the host."""
    with backend.use():
        on_device = backend.asarray(z.copy())
        kept, sums = backend.empty(z.shape), backend.empty(bias.shape)
        y = backend.bias_activation(on_device, backend.asarray(bias), name, out=on_device, z_out=kept)
        dz, sums = backend.bias_activation_backward(backend.asarray(dy), kept, name, bias_gradient=sums)
        return [backend.to_numpy(x) for x in (y, kept, dz, sums)]


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("entry", [GELU, PLAIN_GELU], ids=["with CUDA text", "formulas only"])
def test_gelu_is_one_entry(which: tuple[str, bool], entry: Activation) -> None:
    """Registered after the kernels of the others were compiled; against differences, and by the cases of the check."""
    rng = np.random.default_rng(0)
    z, bias, dy = 3 * rng.normal(size=(40, 7)), rng.normal(size=7), rng.normal(size=(40, 7))
    x, h = z + bias, 1e-5
    slope = (8 * (gelu(np, x + h) - gelu(np, x - h)) - gelu(np, x + 2 * h) + gelu(np, x - 2 * h)) / (12 * h)
    expected = [gelu(np, x), x, dy * slope, (dy * slope).sum(axis=0)]
    for dtype, tolerance in (("float64", 1e-9), ("float32", 2e-6)):
        backend = made(which, dtype)
        register_activation(entry)
        for found, value in zip(forward_and_backward(backend, z, bias, dy), expected, strict=True):
            np.testing.assert_allclose(found, value, rtol=tolerance, atol=10 * tolerance)
        operations = ["bias_activation", "bias_activation_backward"]
        results = check(backend, operations=operations, every=1 if which == ("cpu", True) else 11)
        assert [result.first_wrong for result in results] == ["", ""]
        del ACTIVATIONS["gelu"]


@pytest.mark.usefixtures("table")
def test_gelu_is_that_of_torch() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    z, bias, dy = 3 * rng.normal(size=(40, 7)), rng.normal(size=7), rng.normal(size=(40, 7))
    x = torch.tensor(z + bias, requires_grad=True)
    y = torch.nn.functional.gelu(x, approximate="tanh")
    y.backward(torch.tensor(dy))
    expected = [y.detach().numpy(), z + bias, x.grad.numpy(), x.grad.numpy().sum(axis=0)]
    register_activation(GELU)
    for found, value in zip(forward_and_backward(get_backend("cpu", "float64"), z, bias, dy), expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-13, atol=1e-12)


@pytest.mark.usefixtures("table")
@needs_compiler
def test_on_a_gpu_it_is_one_launch_and_without_cuda_text_it_is_not_captured() -> None:
    for entry, why in ((GELU, ""), (PLAIN_GELU, "the step allocates memory")):
        backend = made(EMULATED, "float32")
        register_activation(entry)
        z, y = backend.asarray(np.linspace(-3, 3, 12, dtype="f").reshape(4, 3)), backend.zeros((4, 3))

        def step(numbers: StepNumbers, count: int, backend: Backend = backend, z: Any = z, y: Any = y) -> None:
            backend.bias_activation(z, None, "gelu", out=y)

        recorded = backend.record(step)
        with backend.use():
            launched.names.clear()
            for number in range(4):
                y[...] = 0
                recorded(StepNumbers(number, number, number + 1, 0.1), 1)
            np.testing.assert_allclose(backend.to_numpy(y), gelu(np, backend.to_numpy(z)), atol=1e-6)
        assert backend.why_eager.startswith(why)
        assert (backend.why_eager == "") == (why == "")
        assert any(name.startswith("bias_activation_gelu") for name in launched.names) == (why == "")


def times(factor: float) -> Activation:
    text = f"REAL({factor})"
    return Activation(
        "times",
        lambda xp, z: factor * z,
        lambda xp, y: factor * xp.ones_like(y),
        cuda_forward=f"{text} * z",
        cuda_derivative=text,
    )


@pytest.mark.usefixtures("table")
def test_an_entry_that_is_registered_again_is_seen(which: tuple[str, bool]) -> None:
    backend = made(which, "float64")
    z, zero = np.array([[-2.0, 0.5, 3.0]]), np.zeros(3)
    for factor in (2.0, 3.0, 2.0):
        register_activation(times(factor))
        y, kept, dz, sums = forward_and_backward(backend, z, zero, np.ones((1, 3)), "times")
        assert (y == factor * z).all()
        assert (kept == z).all()
        assert (dz == factor).all()
        assert (sums == factor).all()


def test_what_may_be_registered() -> None:
    with pytest.raises(ValueError, match=r"^activation 'relu' is built in; register yours under another name$"):
        register_activation(dataclasses.replace(GELU, name="relu"))
    for name in ("", "leaky relu", "hard-swish", "2nd", "gelü"):
        with pytest.raises(ValueError, match=r"^the name of an activation must be letters, digits and underscores"):
            register_activation(dataclasses.replace(GELU, name=name))
    assert "gelu" not in ACTIVATIONS


# ---- what holds for every entry --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_derivative_is_the_central_difference(which: tuple[str, bool], name: str) -> None:
    backend = made(which, "float64")
    z, h = np.linspace(-4, 4, 40).reshape(8, 5), 1e-5  # no point within h of the kink of relu
    dy = np.cos(z)
    with backend.use():
        low, y, high = (backend.bias_activation(backend.asarray(z + d), None, name) for d in (-h, 0.0, h))
        saved = backend.asarray(z) if get_activation(name).needs_z else y
        dz, _ = backend.bias_activation_backward(backend.asarray(dy), saved, name)
        difference = (backend.to_numpy(high) - backend.to_numpy(low)) / (2 * h)
        np.testing.assert_allclose(backend.to_numpy(dz), dy * difference, atol=1e-9)


def test_an_unknown_activation(which: tuple[str, bool]) -> None:
    backend = made(which, "float32")
    one = backend.zeros((1, 1))
    for call in (backend.bias_activation, backend.bias_activation_backward):
        with pytest.raises(ValueError, match=r"unknown activation 'swish'; known are identity, .*relu"):
            call(one, one, "swish")
    with pytest.raises(ValueError, match="unknown activation"):
        get_activation("Sigmoid")


def test_z_out_is_not_out(which: tuple[str, bool]) -> None:
    backend = made(which, "float32")
    z = backend.zeros((2, 3))
    for activation in ("identity", "tanh"):
        with pytest.raises(ValueError, match=r"^bias_activation: z_out must not be out, which gets"):
            backend.bias_activation(z, None, activation, out=z, z_out=z)


def test_large_arguments_saturate(which: tuple[str, bool]) -> None:
    backend = made(which, "float32")
    with backend.use():
        z = backend.asarray([[1e4, -1e4, 0.0]])
        for name, y in (("sigmoid", [1, 0, 0.5]), ("tanh", [1, -1, 0]), ("relu", [1e4, 0, 0])):
            np.testing.assert_array_equal(backend.to_numpy(backend.bias_activation(z, None, name)), [y])
        np.testing.assert_array_equal(backend.to_numpy(backend.softmax(z)), [[1, 0, 0]])


def test_no_backend_needs_the_numpy_or_cuda_forms() -> None:
    """Each built-in entry, bare of them, under another name: within the bounds of the same formulas."""
    backend = get_backend("cpu")
    z = np.linspace(-3, 3, 24, dtype="f").reshape(6, 4)
    for known in list(ACTIVATIONS.values()):
        bare = Activation(f"bare_{known.name}", known.forward, known.derivative, needs_z=known.needs_z)
        try:
            register_activation(bare)
            found, expected = (
                forward_and_backward(backend, z, np.ones(4, "f"), np.cos(z), name) for name in (bare.name, known.name)
            )
        finally:
            ACTIVATIONS.pop(bare.name, None)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
