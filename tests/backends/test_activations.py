"""The table of activations: what it promises of its entries, and that one more is one entry, wherever it is made."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from backends import Backend, get_backend
from backends.activations import ACTIVATIONS, Activation, get_activation, name_with, register_activation
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
    name="own_gelu",
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


def forward_and_backward(backend: Backend, z: Any, bias: Any, dy: Any, name: str = "own_gelu") -> list[Any]:
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
        operations = [f"bias_activation {entry.name}", f"bias_activation_backward {entry.name}"]
        results = check(backend, operations=operations, every=1 if which == ("cpu", True) else 5)
        assert [result.first_wrong for result in results] == ["", ""]
        del ACTIVATIONS["own_gelu"]


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
            backend.bias_activation(z, None, "own_gelu", out=y)

        recorded = backend.record(step)
        with backend.use():
            launched.names.clear()
            for number in range(4):
                y[...] = 0
                recorded(StepNumbers(number, number, number + 1, 0.1), 1)
            np.testing.assert_allclose(backend.to_numpy(y), gelu(np, backend.to_numpy(z)), atol=1e-6)
        assert backend.why_eager.startswith(why)
        assert (backend.why_eager == "") == (why == "")
        assert any(name.startswith("bias_activation_own_gelu") for name in launched.names) == (why == "")


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
    assert "own_gelu" not in ACTIVATIONS


# ---- those of the table, beside PyTorch's ----------------------------------------------------------------------------

Z = [-12.0, -5.0, -2.5, -1.0, -0.3, -1e-3, 0.0, 0.2, 1.0, 1.7, 4.0, 15.0]
#: f(Z) and f'(Z) by PyTorch 2.13 in float64.
OF_TORCH = {
    "gelu": (
        [-0.0, -1.4332578593401202e-06, -0.015524163314440398, -0.15865525393145702, -0.1146265733433142,
         -0.000499601057786089, 0.0, 0.11585194188782061, 0.841344746068543, 1.6242387133104768, 3.9998733150326675,
         15.0],
        [-2.5756604827956727e-31, -7.1469460018034646e-06, -0.03761108590814519, -0.08331547058768635,
         0.26767223317289013, 0.4992021157051586, 0.5, 0.6574682482341941, 1.0833154705876864, 1.1153179687821648,
         1.0005036496612265, 1.0],
    ),
    "gelu_tanh": (
        [-0.0, -2.2917961972623857e-07, -0.015084266089998577, -0.15880800939172324, -0.11462907645724074,
         -0.000499601057786418, 0.0, 0.11585142978210627, 0.8411919906082768, 1.624105895551156, 3.9999297540518075,
         15.0],
        [0.0, -1.5463619879596227e-06, -0.03795157621266618, -0.08296408384578252, 0.26770454836119817,
         0.499202115706475, 0.5, 0.6574581491956996, 1.0829640838457826, 1.115914631452605, 1.000335123197122, 1.0],
    ),
    "silu": (
        [-7.373009522657661e-05, -0.03346425462142428, -0.18964545005310887, -0.2689414213699951, -0.1276672449565023,
         -0.0004997500000208334, 0.0, 0.1099667994624956, 0.7310585786300049, 1.437409049357991, 3.928055160151634,
         14.999995411466594],
        [-6.758546761378339e-05, -0.026547432429665917, -0.09940111134152683, 0.07232948812851325, 0.3522199896811173,
         0.4995000000833333, 0.5, 0.59933731185485, 0.9276705118714869, 1.067564504759019, 1.0526646148910728,
         1.0000042826297741],
    ),
    "softplus": (
        [6.144193477732806e-06, 0.006715348489118068, 0.07888973429254963, 0.31326168751822286, 0.5543552444685271,
         0.6926473055599401, 0.6931471805599453, 0.7981388693815918, 1.3132616875182228, 1.867786029386266,
         4.0181499279178094, 15.000000305902274],
        [6.144174602214718e-06, 0.006692850924284856, 0.07585818002124356, 0.2689414213699951, 0.425557483188341,
         0.49975000002083336, 0.5, 0.549833997312478, 0.7310585786300049, 0.8455347349164652, 0.9820137900379085,
         0.9999996940977731],
    ),
    "leaky_relu": (
        [-0.12, -0.05, -0.025, -0.01, -0.003, -1e-05, 0.0, 0.2, 1.0, 1.7, 4.0, 15.0],
        [0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 1.0, 1.0, 1.0, 1.0, 1.0],
    ),
    "elu": (
        [-0.9999938557876467, -0.9932620530009145, -0.9179150013761013, -0.6321205588285577, -0.2591817793182821,
         -0.0009995001666250085, 0.0, 0.2, 1.0, 1.7, 4.0, 15.0],
        [6.14421235332821e-06, 0.006737946999085467, 0.0820849986238988, 0.36787944117144233, 0.7408182206817179,
         0.999000499833375, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
    ),
    "leaky_relu(0.2)": (
        [-2.4000000000000004, -1.0, -0.5, -0.2, -0.06, -0.0002, 0.0, 0.2, 1.0, 1.7, 4.0, 15.0],
        [0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 1.0, 1.0, 1.0, 1.0, 1.0],
    ),
    "elu(0.5)": (
        [-0.49999692789382333, -0.49663102650045726, -0.45895750068805063, -0.31606027941427883, -0.12959088965914106,
         -0.0004997500833125042, 0.0, 0.2, 1.0, 1.7, 4.0, 15.0],
        [3.072106176664105e-06, 0.0033689734995427335, 0.0410424993119494, 0.18393972058572117, 0.37040911034085894,
         0.4995002499166875, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0],
    ),
}  # fmt: skip


def values_and_slopes(backend: Backend, z: Any, name: str) -> list[Any]:
    """f(z), in the memory of z as layers compute it, and f'(z), on the host."""
    with backend.use():
        on_device = backend.asarray(z.copy())
        kept = backend.empty(z.shape) if get_activation(name).needs_z else None
        y = backend.bias_activation(on_device, None, name, out=on_device, z_out=kept)
        dy = backend.asarray(np.ones_like(z))
        dz, _ = backend.bias_activation_backward(dy, y if kept is None else kept, name, out=dy)
        return [backend.to_numpy(x) for x in (y, dz)]


@pytest.mark.parametrize("name", OF_TORCH)
def test_values_and_slopes_are_those_of_pytorch(which: tuple[str, bool], name: str) -> None:
    for dtype, tolerance in (("float64", 1e-14), ("float32", 2e-6)):
        found = values_and_slopes(made(which, dtype), np.array([Z], dtype), name)
        for x, expected in zip(found, OF_TORCH[name], strict=True):
            np.testing.assert_allclose(x[0], expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", OF_TORCH)
def test_values_and_slopes_are_those_of_the_pytorch_that_is_here(name: str) -> None:
    functional = pytest.importorskip("torch.nn.functional")
    torch = pytest.importorskip("torch")
    function, _, number = name.rstrip(")").partition("(")
    options = [float(number)] if number else []
    z = np.random.default_rng(0).normal(size=(1, 5000)) * 4
    x = torch.tensor(z, requires_grad=True)
    if name == "gelu_tanh":
        y = functional.gelu(x, approximate="tanh")
    else:
        y = getattr(functional, function)(x, *options)
    y.sum().backward()
    for found, expected in zip(
        values_and_slopes(get_backend("cpu", "float64"), z, name), (y.detach().numpy(), x.grad.numpy()), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(("dtype", "units"), [("float64", 8), ("float32", 8)])
def test_gelu_is_right_to_rounding_wherever_its_tail_is_a_number(dtype: str, units: float) -> None:
    """PyTorch's z (1 + erf(z / sqrt 2)) / 2 has no correct digit below -8; here the exponential's argument alone
    costs z^2 / 2 roundings."""
    z = np.linspace(-8 if dtype == "float32" else -30, 8, 4001).astype(dtype)[None]
    exact = np.array([x / 2 * math.erfc(-x / math.sqrt(2)) for x in z[0].astype(float)])
    (found, _) = values_and_slopes(get_backend("cpu", dtype), z, "gelu")
    off = np.abs(found[0] / np.where(exact == 0, 1, exact) - 1) / np.finfo(dtype).eps
    assert (off[exact != 0] <= (units + 1.5 * z[0].astype(float) ** 2)[exact != 0]).all()


def test_a_number_in_brackets() -> None:
    assert get_activation("leaky_relu(0.2)") is get_activation("leaky_relu(0.2)")
    assert name_with("leaky_relu", 0.01) == "leaky_relu"
    assert name_with("elu", 2) == "elu(2.0)"
    assert get_activation("elu(2.0)").symbol == "elu_2_0_"
    for name in ("relu(0.2)", "leaky_relu(much)", "leaky_relu()", "elu(1", "gelu(1.0)"):
        with pytest.raises(ValueError, match=r"^unknown activation"):
            get_activation(name)
    for name in ("leaky_relu(0)", "leaky_relu(1.0)", "leaky_relu(-0.1)", "leaky_relu(nan)"):
        with pytest.raises(ValueError, match=r"^leaky_relu: the slope below 0 must be above 0 and below 1, not "):
            get_activation(name)
    for name in ("elu(0)", "elu(-1)", "elu(inf)", "elu(nan)"):
        with pytest.raises(ValueError, match=r"^elu: alpha must be a number above 0, not "):
            get_activation(name)


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
        ends: dict[str, list[float]] = {"sigmoid": [1, 0, 0.5], "tanh": [1, -1, 0], "elu": [1e4, -1, 0]}
        ends |= {name: [1e4, 0, 0] for name in ("relu", "gelu", "gelu_tanh", "silu")}
        for name, y in ends.items():
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
