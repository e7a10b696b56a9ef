"""An activation, a layer with state, an optimizer rule and a metric of one's own: each is written in one place, and is
then trained, compared, checked, saved and loaded like those that come with xpnet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from backends import Backend
from backends.activations import ACTIVATIONS, Activation, register_activation
from backends.updates import RULES, Rule, register_rule
from nn import (
    METRICS,
    SGD,
    Context,
    Dataset,
    Layer,
    Linear,
    Metric,
    Optimizer,
    ReLU,
    Sequential,
    Softmax,
    Tanh,
    Trainer,
    check_gradients,
    compare_backends,
    load_data,
    load_model,
    register_loss,
    register_metric,
    save_model,
)
from nn.initializers import Constant
from nn.layers import LAYERS, ElementwiseActivation
from nn.losses import LOSSES, get_loss
from nn.optimizers import OPTIMIZERS, get_optimizer
from tests.helpers.backends import make_backend
from tests.helpers.with_emulated import WITH_EMULATED, made

DATA = load_data("digits", limit=300).train


@pytest.fixture(autouse=True)
def tables() -> Iterator[None]:
    """What a test adds is forgotten afterwards."""
    every: list[dict[str, Any]] = [ACTIVATIONS, RULES, LAYERS, OPTIMIZERS, METRICS]
    before = [dict(table) for table in every]
    yield
    for table, content in zip(every, before, strict=True):
        table.clear()
        table.update(content)


@pytest.fixture(params=WITH_EMULATED)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Every backend in float64, that on the emulated GPU among them."""
    return made(request.param, "float64")


# ---- an activation: GELU, whose derivative needs z ------------------------------------------------------------------

A, B = (2 / np.pi) ** 0.5, 0.044715


def _gelu(xp: Any, z: Any) -> Any:
    return 0.5 * z * (1.0 + xp.tanh(A * (z + B * (z * z * z))))


def _gelu_derivative(xp: Any, z: Any) -> Any:
    t = xp.tanh(A * (z + B * (z * z * z)))
    return 0.5 * (1.0 + t) + 0.5 * z * (1.0 - t * t) * (A * (1.0 + 3.0 * B * (z * z)))


def add_gelu() -> Any:
    """Hendrycks and Gimpel, "Gaussian error linear units", 2016, in the form with tanh."""
    register_activation(
        Activation(
            "own_gelu",
            forward=_gelu,
            derivative=_gelu_derivative,
            needs_z=True,
            cuda_forward=f"REAL(0.5) * z * (REAL(1) + tanh(REAL({A}) * (z + REAL({B}) * (z * z * z))))",
            cuda_derivative=f"REAL(0.5) * (REAL(1) + tanh(REAL({A}) * (z + REAL({B}) * (z * z * z)))) + REAL(0.5) * z "
            f"* (REAL(1) - pow(tanh(REAL({A}) * (z + REAL({B}) * (z * z * z))), REAL(2))) "
            f"* (REAL({A}) * (REAL(1) + REAL({3 * B}) * (z * z)))",
        )
    )

    @dataclass(frozen=True, repr=False)
    class GELU(ElementwiseActivation):
        """y = z/2 (1 + tanh(sqrt(2 / pi) (z + 0.044715 z^3)))"""

        function: ClassVar[str] = "own_gelu"

    return GELU


def test_an_activation_of_ones_own_trains_alike_on_every_backend(backend: Backend) -> None:
    gelu = add_gelu()
    losses = []
    for on in (backend, make_backend(("cpu", False), "float64")):
        layers = [Linear(64, 12), gelu(), Linear(12, 12), gelu(), gelu(), Linear(12, 10), Softmax()]
        trainer = Trainer(Sequential(layers, backend=on, seed=2), optimizer=SGD(0.05, momentum=0.9))
        losses.append(trainer.fit(DATA, 5, 32)["loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-9)
    assert losses[0][-1] < 0.7 * losses[0][0]


def test_an_activation_of_ones_own_is_checked_compared_and_saved(tmp_path: Path) -> None:
    gelu = add_gelu()
    layers = [Linear(64, 12), gelu(), Linear(12, 10), gelu(), Softmax()]
    model = Sequential(layers, backend="cpu", dtype="float64")
    check_gradients(model, "softmax_cross_entropy", DATA.features("float64")[:9], DATA.y[:9])
    result = compare_backends(
        lambda on: Trainer(Sequential(layers, backend=on), optimizer=SGD(0.1)), ["cpu", "cpu/reference"], DATA, steps=20
    )
    assert result.agrees, str(result)
    save_model(model, tmp_path / "gelu.safetensors")
    np.testing.assert_array_equal(load_model(tmp_path / "gelu.safetensors", "cpu").predict(DATA), model.predict(DATA))


def test_an_activation_of_ones_own_is_that_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    z = np.linspace(-6, 6, 101)[None]
    model = Sequential(add_gelu()(), Linear(101, 1), backend="cpu", dtype="float64")
    expected = torch.nn.functional.gelu(torch.asarray(z), approximate="tanh").numpy()
    np.testing.assert_allclose(model.layer_outputs(z)["0"], expected, rtol=1e-12, atol=1e-15)


@dataclass(frozen=True, repr=False)
class Leaky(ReLU):
    """y = x above 0, else x / 2: an activation that changes what it inherits."""

    def forward(self, x: Any, ctx: Context) -> Any:
        ctx.saved = x
        return np.where(x > 0, x, 0.5 * x)

    def backward(self, dy: Any, ctx: Context) -> Any:
        return dy * np.where(ctx.saved > 0, 1.0, 0.5)


@dataclass(frozen=True, repr=False)
class Twice(Linear):
    """y = 2 x W: without bias and activation, whatever its parent has of these."""

    def forward(self, x: Any, ctx: Context) -> Any:
        ctx.saved = x
        return 2.0 * (x @ ctx.parameters["weight"])

    def backward(self, dy: Any, ctx: Context) -> Any:
        ctx.gradients["weight"][...] = 2.0 * (ctx.saved.T @ dy)
        return 2.0 * (dy @ ctx.parameters["weight"].T)


def test_a_layer_that_computes_in_a_way_of_its_own_is_not_joined_to_another() -> None:
    x = DATA.features("float64")
    leaky = Sequential(Linear(64, 3), Leaky(), backend="cpu", dtype="float64")
    z = x @ leaky.state_dict()["0.weight"]
    np.testing.assert_allclose(leaky(x), np.where(z > 0, z, 0.5 * z), rtol=1e-12)
    twice = Sequential(Twice(64, 3, bias=False), Tanh(), backend="cpu", dtype="float64")
    np.testing.assert_allclose(twice(x), np.tanh(2.0 * (x @ twice.state_dict()["0.weight"])), rtol=1e-12)
    for model in (leaky, twice):
        report = check_gradients(model, "mse", x[:4], np.ones((4, 3)))
        assert report, str(report)


# ---- a layer with state: a running mean that is subtracted ----------------------------------------------------------


def add_center() -> Any:
    @dataclass(frozen=True, repr=False)
    class Center(Layer):
        """y = x - mean + shift: the mean over the batch in training, a running mean of those afterwards."""

        n: int
        keep: float = 0.8

        def parameters(self) -> Any:
            return {"shift": ((self.n,), Constant(0.0))}

        def state(self) -> Any:
            return {"mean": ((self.n,), Constant(0.0))}

        def output_shape(self, shape: Any) -> Any:
            if shape not in (None, (self.n,)):
                raise ValueError(f"{self!r} takes rows of {self.n} numbers, not of shape {shape}")
            return (self.n,)

        def forward(self, x: Any, ctx: Context) -> Any:
            mean = ctx.state["mean"]
            if ctx.training:
                of_batch = ctx.backend.column_sum(x) / x.shape[0]
                mean[...] = self.keep * mean + (1.0 - self.keep) * of_batch
                mean = of_batch
            return x - mean + ctx.parameters["shift"]

        def backward(self, dy: Any, ctx: Context) -> Any:
            total = ctx.backend.column_sum(dy, out=ctx.gradients["shift"])
            return dy - total / dy.shape[0]

    return Center


def test_a_layer_with_state_trains_alike_on_every_backend(backend: Backend) -> None:
    center = add_center()
    runs = []
    for on in (backend, make_backend(("cpu", False), "float64")):
        model = Sequential(Linear(64, 12), center(12), Linear(12, 10), Softmax(), backend=on, seed=2)
        history = Trainer(model, optimizer=SGD(0.05, momentum=0.9)).fit(DATA, 4, 32, validation=DATA)
        runs.append((history["loss"] + history["val_loss"], model.state_dict()))
    np.testing.assert_allclose(runs[0][0], runs[1][0], rtol=1e-9)
    assert list(runs[0][1]) == ["0.weight", "0.bias", "1.shift", "2.weight", "2.bias", "1.mean"]
    assert np.abs(runs[0][1]["1.mean"]).min() > 0
    np.testing.assert_allclose(runs[0][1]["1.mean"], runs[1][1]["1.mean"], rtol=1e-9)


def test_state_is_not_trained_and_is_saved_restored_and_reset(tmp_path: Path) -> None:
    center = add_center()
    layers = [Linear(64, 12), center(12), Linear(12, 10), Softmax()]
    model = Sequential(layers, backend="cpu", dtype="float64", seed=2)
    assert model.parameter_count == 64 * 12 + 12 + 12 + 12 * 10 + 10
    x, y = DATA.features("float64")[:9], DATA.y[:9]
    check_gradients(model, "softmax_cross_entropy", x, y)
    assert not model.state_dict()["1.mean"].any()  # the check leaves no trace
    trainer = Trainer(model)
    trainer.fit(DATA, 1, 32)
    mean = model.state_dict()["1.mean"]
    trainer.evaluate(DATA)
    trainer.predict(DATA)
    trainer.gradients(DATA)
    np.testing.assert_array_equal(model.state_dict()["1.mean"], mean)  # only training moves it
    save_model(model, tmp_path / "center.safetensors")
    loaded = load_model(tmp_path / "center.safetensors", "cpu")
    assert loaded.layers[1] == center(12)
    np.testing.assert_array_equal(loaded.state_dict()["1.mean"], mean)
    np.testing.assert_array_equal(loaded(DATA), model(DATA))
    model.reset()
    assert not model.state_dict()["1.mean"].any()


def test_layers_are_registered_by_their_names_and_others_with_their_module() -> None:
    """Model files hold these names."""
    assert {"Linear", "Flatten", "Dropout", "Sigmoid", "Tanh", "ReLU", "Softmax"} <= set(LAYERS)
    center = add_center()
    assert center.registered_name == f"{__name__}.add_center.<locals>.Center"
    assert LAYERS[center.registered_name] is center


def test_a_layer_with_state_is_compared() -> None:
    center = add_center()

    def make(on: Backend) -> Trainer:
        return Trainer(
            Sequential(Linear(64, 12), center(12), Linear(12, 10), Softmax(), backend=on), optimizer=SGD(0.1)
        )

    assert compare_backends(make, ["cpu", "cpu/reference"], DATA, steps=20).agrees


# ---- an optimizer rule: RMSProp -------------------------------------------------------------------------------------


def add_rmsprop() -> Any:
    """Hinton, "Neural networks for machine learning", lecture 6e, 2012; PyTorch's form."""

    def direction(xp: Any, gradient: Any, state: Any, number: Any, *, alpha: float, epsilon: float) -> Any:
        square = alpha * state["square"] + (1.0 - alpha) * (gradient * gradient)
        return gradient / (xp.sqrt(square) + epsilon), {"square": square}

    cuda = "square = REAL(alpha) * square + REAL(1 - alpha) * (gradient * gradient);"
    cuda += "direction = gradient / (sqrt(square) + REAL(epsilon));"
    register_rule(Rule("own_rmsprop", direction, ("square",), {"alpha": 0.99, "epsilon": 1e-8}, cuda=cuda))

    @dataclass
    class OwnRMSProp(Optimizer):
        rule: ClassVar[str] = "own_rmsprop"

        learning_rate: Any = 0.01
        alpha: float = 0.99
        epsilon: float = 1e-8
        weight_decay: float = 0.0

    return OwnRMSProp


def test_a_rule_of_ones_own_trains_alike_on_every_backend(backend: Backend) -> None:
    add_rmsprop()
    runs = []
    for on in (backend, make_backend(("cpu", False), "float64")):
        model = Sequential(Linear(64, 12, activation="tanh"), Linear(12, 10), Softmax(), backend=on, seed=2)
        history = Trainer(model, optimizer=get_optimizer("own_rmsprop", learning_rate=0.003)).fit(DATA, 5, 32)
        runs.append((history["loss"], model.state_dict()))
    np.testing.assert_allclose(runs[0][0], runs[1][0], rtol=1e-8)
    assert runs[0][0][-1] < 0.7 * runs[0][0][0]
    for name, values in runs[0][1].items():
        np.testing.assert_allclose(values, runs[1][1][name], rtol=1e-6, atol=1e-9)


def test_a_rule_of_ones_own_is_that_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    rmsprop = add_rmsprop()
    model = Sequential(Linear(4, 3, bias=False), backend="cpu", dtype="float64")
    w = torch.asarray(model.state_dict()["0.weight"]).requires_grad_()
    theirs, ours = torch.optim.RMSprop([w], lr=0.01), rmsprop(0.01)
    rng = np.random.default_rng(0)
    for gradient in rng.normal(size=(20, 4, 3)):
        model.store.gradients["0.weight"][...] = gradient
        ours.step(model)
        w.grad = torch.asarray(gradient)
        theirs.step()
    np.testing.assert_allclose(model.state_dict()["0.weight"], w.detach().numpy(), rtol=1e-12)


def test_a_subclass_with_a_rule_of_its_own_moves_by_that_rule_and_not_by_its_parents() -> None:
    """It inherits from SGD what a product may do with the gradients, which is true of SGD's formula only."""

    def direction(xp: Any, gradient: Any, state: Any, number: Any, *, momentum: float, **_: Any) -> Any:
        velocity = momentum * state["velocity"] + xp.sign(gradient)
        return velocity, {"velocity": velocity}

    of_sgd = {"momentum": 0.0, "dampening": 0.0, "nesterov": False}
    register_rule(Rule("signs", direction, ("velocity",), of_sgd))

    @dataclass
    class Signs(SGD):
        rule: ClassVar[str] = "signs"

    runs = []
    for fused in (True, False):
        model = Sequential(Linear(64, 10), Softmax(), backend=make_backend(("cpu", fused), "float64"), seed=2)
        before = model.state_dict()
        Trainer(model, optimizer=get_optimizer("signs", learning_rate=0.01, momentum=0.9)).fit(DATA[:32], 1, None)
        runs.append(model.state_dict())
        moved = np.abs(runs[-1]["0.bias"] - before["0.bias"])
        np.testing.assert_allclose(moved, 0.01, rtol=1e-9)
    for name, values in runs[0].items():
        np.testing.assert_allclose(values, runs[1][name], rtol=1e-9, atol=1e-12)


def test_a_subclass_that_names_no_rule_leaves_the_name_to_its_parent() -> None:
    @dataclass
    class Slow(SGD):
        def rate(self, update: int) -> float:
            return 0.01 * super().rate(update)

    assert OPTIMIZERS["sgd"] is SGD
    runs = []
    for optimizer in (Slow(10.0, momentum=0.9), SGD(0.1, momentum=0.9)):
        model = Sequential(Linear(64, 10), Softmax(), backend="cpu", seed=2)
        runs.append(Trainer(model, optimizer=optimizer).fit(DATA, 2, 32)["loss"])
    np.testing.assert_allclose(runs[0], runs[1], rtol=1e-6)


# ---- a metric -------------------------------------------------------------------------------------------------------


def add_top2() -> None:
    def top2(targets: Any, probabilities: Any) -> float:
        """How often the class is among the two that are most probable."""
        best = np.argsort(-probabilities, axis=1)[:, :2]
        return float((best == targets[:, None]).any(axis=1).mean())

    register_metric(Metric("top2", top2, of="probabilities"))


def test_a_metric_of_ones_own_is_in_the_history_and_in_evaluate(backend: Backend) -> None:
    from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

    add_top2()
    model = Sequential(Linear(64, 10), backend=backend, seed=2)
    trainer = Trainer(model, metrics=["top2", balanced_accuracy_score], optimizer=SGD(0.1))
    history = trainer.fit(DATA, 2, 32, validation=DATA)
    found = trainer.evaluate(DATA)
    assert list(found) == ["loss", "accuracy", "top2", "balanced_accuracy_score"]
    assert found["top2"] == pytest.approx(top_k_accuracy_score(DATA.y, model.predict_proba(DATA), k=2))
    assert found["balanced_accuracy_score"] == pytest.approx(balanced_accuracy_score(DATA.y, model.predict(DATA)))
    assert history[-1]["val_top2"] == found["top2"] > found["accuracy"]


@pytest.mark.parametrize("columns", [False, True], ids=["targets (m,)", "targets (m, 1)"])
@pytest.mark.parametrize("loss", ["mean_squared_error", "binary_cross_entropy"])
def test_a_metric_of_one_number_a_row_gets_pairs_and_not_a_table(loss: str, columns: bool) -> None:
    y = (DATA.y % 2).astype(np.float32)
    data = (DATA.features(), y[:, None] if columns else y)
    shapes: list[Any] = []

    def squared(targets: Any, found: Any) -> Any:
        shapes.append((targets.shape, found.shape))
        return np.mean((targets - found) ** 2)

    model = Sequential(Linear(64, 1), backend="cpu", seed=1)
    metrics: list[Any] = [squared, Metric("of outputs", squared, of="outputs")]
    found = Trainer(model, loss, metrics=metrics).evaluate(data)
    assert {*shapes} == {((len(y),), (len(y),))}
    if loss == "mean_squared_error":
        assert found["squared"] == pytest.approx(found["loss"], rel=1e-5)


class HowMany:
    """A metric that is no function, and so has no name of its own."""

    def __call__(self, targets: Any, predictions: Any) -> int:
        return len(predictions)


def test_a_metric_without_a_name_is_called_by_its_class() -> None:
    trainer = Trainer(Sequential(Linear(64, 10), backend="cpu"), metrics=[HowMany()])
    assert list(trainer.evaluate(DATA)) == ["loss", "accuracy", "HowMany"]
    assert trainer.evaluate(DATA)["HowMany"] == 300.0


@pytest.mark.usefixtures("tables")
def test_metrics_that_are_known_by_name_are_listed() -> None:
    for name in ("first", "second"):
        register_metric(Metric(name, lambda targets, found: 0.0))
    with pytest.raises(ValueError, match=r"unknown metric 'third'; known are loss, .*first, second, .*or give a"):
        Trainer(Sequential(Linear(64, 10), backend="cpu"), metrics=["third"])


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        (["top2"], ValueError, "unknown metric 'top2'; known are loss, accuracy, auc, .*, or give a function"),
        ([3], TypeError, "a metric is a name, a Metric or a function, not 3"),
        ([Metric("accuracy", max)], ValueError, "the metric 'accuracy' is there already"),
        ([Metric("loss", max)], ValueError, "the metric 'loss' is there already"),
        ([max, max], ValueError, "the metric 'max' is there already"),
    ],
)
def test_metrics_that_are_none(metrics: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Trainer(Sequential(Linear(64, 10), backend="cpu"), metrics=metrics)
    with pytest.raises(
        ValueError, match="`of` must be 'predictions', 'probabilities', 'scores' or 'outputs', not 'guesses'"
    ):
        Metric("m", max, of="guesses")


# ---- a layer that is wrong is named ---------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Scale(Layer):
    """y = scale x, with one of several mistakes."""

    n: int
    mistake: str = ""

    def parameters(self) -> Any:
        return {"scale": ((self.n,), Constant(1.0))}

    def output_shape(self, shape: Any) -> Any:
        return (3,) if self.mistake == "shape" else shape

    def forward(self, x: Any, ctx: Context) -> Any:
        ctx.saved = x
        y = x * ctx.parameters["scale"]
        wrong = {"nothing": None, "one row": y[:1, ...], "dtype": ctx.backend.xp.astype(y, ctx.backend.xp.float32)}
        return wrong.get(self.mistake, y)

    def backward(self, dy: Any, ctx: Context) -> Any:
        gradient = ctx.backend.column_sum(dy * ctx.saved)
        if self.mistake == "another array":
            ctx.gradients["scale"] = gradient
        elif self.mistake == "added":
            ctx.gradients["scale"][...] += gradient
        elif self.mistake == "a part":
            ctx.gradients["scale"][1:] = gradient[1:]
        elif self.mistake != "unwritten":
            ctx.gradients["scale"][...] = gradient
        if self.mistake == "summed":
            return gradient
        return None if self.mistake == "no dx" else dy * ctx.parameters["scale"]


NOT_WRITTEN = (
    r"backward did not write the gradient of its parameter 'scale', of shape \(4,\); write it in place, as in "
    r"ctx.gradients\['scale'\]\[...\] = ...$"
)
MISTAKES: dict[str, tuple[type[Exception], str]] = {
    "nothing": (TypeError, "forward gave None instead of an array$"),
    "dtype": (TypeError, "forward gave numbers of dtype .*float32, not float64$"),
    "one row": (
        ValueError,
        r"forward gave an array of shape \(1, 4\) for an input of shape \(2, 4\), but by output_shape it should be "
        r"\(2, 4\)$",
    ),
    "shape": (
        ValueError,
        r"forward gave an array of shape \(2, 4\) for an input of shape \(2, 4\), but by output_shape it should be "
        r"\(2, 3\)$",
    ),
    "no dx": (TypeError, "backward gave None instead of the gradient of its input, which the layer before it needs$"),
    "summed": (
        ValueError,
        r"backward gave an array of shape \(4,\), but the gradient of its input has the shape of that, \(2, 4\)$",
    ),
    **dict.fromkeys(("unwritten", "another array", "added", "a part"), (ValueError, NOT_WRITTEN)),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_layer_of_ones_own_that_is_wrong_is_named_before_the_first_step(backend: Backend, mistake: str) -> None:
    error, message = MISTAKES[mistake]
    layers = [Linear(64, 4), Scale(4, mistake), Linear(3 if mistake == "shape" else 4, 10)]
    model = Sequential(layers, backend=backend, seed=1)
    before = model.state_dict()
    message = rf"^layer 1, Scale\(4, mistake='{mistake}'\): {message}"
    with pytest.raises(error, match=message):
        Trainer(model).fit(DATA[:9], 1, None)
    with pytest.raises(error, match=message):
        Trainer(model).gradients(DATA[:9])
    for name, values in model.state_dict().items():
        np.testing.assert_array_equal(values, before[name])
    if "forward" in message:
        with pytest.raises(error, match=message):
            model(DATA[:9])
    else:
        assert model(DATA[:9]).shape == (9, 10)


def test_a_layer_of_ones_own_that_is_right_trains_as_if_nobody_had_looked(backend: Backend) -> None:
    runs = []
    for own in (Scale(12), Linear(12, 12, bias=False, weight_init=np.eye(12).tolist())):
        layers: list[Layer] = [Linear(64, 12), own, Linear(12, 10)]
        model = Sequential(layers, backend=backend, seed=1)
        runs.append(Trainer(model, optimizer=SGD(1e-12)).fit(DATA, 2, 32)["loss"])
        report = check_gradients(model, "softmax_cross_entropy", DATA.features("float64")[:9], DATA.y[:9])
        assert report, str(report)
    np.testing.assert_allclose(runs[0], runs[1], rtol=1e-9)


def test_what_is_looked_at_is_no_step_and_steps_are_not_looked_at() -> None:
    calls: list[str] = []

    @dataclass(frozen=True, repr=False)
    class Counted(Tanh):
        def forward(self, x: Any, ctx: Context) -> Any:
            calls.append("training" if ctx.training else "")
            return super().forward(x, ctx)

        def inside(self, phase: str, ctx: Context, given: Any) -> Any:
            calls.append("observed")
            return {}

    model = Sequential(Linear(64, 4), Counted(), Linear(4, 10), backend="cpu", seed=1)
    trainer = Trainer(model)
    trainer.fit(DATA[:64], 3, 32)
    assert calls[:3] == ["training", "observed", "observed"]  # the look: forward and backward of one batch
    assert calls[3:] == ["training"] * 6
    assert model.step == 6
    calls.clear()
    trainer.fit(DATA[64:128], 1, 32)
    trainer.evaluate(DATA[:64], 32)
    assert calls == ["training"] * 2 + [""] * 2  # other rows are no other use
    calls.clear()
    trainer.loss = get_loss("mse")
    trainer.fit(Dataset(DATA.x[:8], np.eye(10)[DATA.y[:8]], scale=DATA.scale), 1, 8)
    assert calls == ["training", "observed", "observed", "training"]  # another loss gives other gradients


@dataclass(frozen=True, repr=False)
class EveryOther(Layer):
    """Every other column, which its output_shape forgets to say."""

    def forward(self, x: Any, ctx: Context) -> Any:
        return x[:, ::2]


def test_a_layer_of_ones_own_that_does_not_fit_the_next_is_named() -> None:
    message = (
        r"layer 2 does not fit .* takes rows of 4 numbers, not of shape \(8,\); by its output_shape EveryOther\(\) "
    )
    with pytest.raises(ValueError, match=message + r"gives rows of shape \(8,\)"):
        Sequential(Linear(16, 8), EveryOther(), Linear(4, 10), backend="cpu")


def test_a_registered_loss_is_found_again_by_a_loaded_model(tmp_path: Path) -> None:
    def cubed(xp: Any, outputs: Any, targets: Any) -> Any:
        short = xp.abs(outputs - targets)
        return xp.mean(short**3, axis=1), 3.0 * short * (outputs - targets) / outputs.shape[1]

    model = Sequential(Linear(3, 1), backend="cpu")
    x, y = np.ones((4, 3), np.float32), np.zeros(4, np.float32)
    Trainer(model, cubed).fit(x, y)
    save_model(model, tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=r"register it \(nn.register_loss\) or pass it to the Trainer"):
        Trainer(load_model(tmp_path / "m.safetensors", "cpu"))
    try:
        made = register_loss(cubed)
        assert Trainer(load_model(tmp_path / "m.safetensors", "cpu")).loss is made
        assert Trainer(model, "cubed").loss is made
    finally:
        LOSSES.pop("cubed", None)
    with pytest.raises(ValueError, match="mean_squared_error' is built in; register yours under another name"):
        register_loss(get_loss("mean_squared_error"))
