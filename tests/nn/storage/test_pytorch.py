"""Networks to and from PyTorch: the same outputs, both ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from nn import (
    BatchNorm,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Trainer,
    from_torch,
    to_torch,
)
from nn.data import Units
from tests.helpers.exchanged import SEEDS, same, statistics_of
from tests.helpers.networks import fill, networks, rows_for
from tests.helpers.picture_networks import drawn

RNG = np.random.default_rng(0)


@settings(max_examples=60)
@given(model=networks(), seed=SEEDS)
def test_random_networks_to_pytorch_and_back(model: Sequential, seed: int) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = rows_for(model, 7, seed)
    module = to_torch(model)
    assert not module.training
    same(module(torch.from_numpy(x)).detach().numpy(), model(x))
    back = from_torch(module, "cpu")
    assert back.backend.dtype_name == model.backend.dtype_name
    same(back(x), model(x))
    for name, array in to_torch(back).state_dict().items():
        np.testing.assert_array_equal(array, module.state_dict()[name])
    other = Sequential(model.layers, backend="cpu", dtype=model.backend.dtype_name, seed=model.seed + 1)
    other.units = model.units
    other.load_state_dict(other.state_dict() | statistics_of(model))
    assert from_torch(module.state_dict(), into=other) is other
    same(other(x), model(x))


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_random_networks_on_pictures_to_pytorch_and_back(first: int, torch: Any) -> None:
    for seed in range(first, first + 20):
        network = drawn(seed, rows=6, dropout=True)
        dtype = ("float32", "float64")[seed % 2]
        model = Sequential(network.layers, backend="cpu", dtype=dtype, seed=seed)
        fill(model, seed)
        x = network.x.astype(dtype)
        if seed % 3 == 0:
            model.units = Units(scale=0.5, shift=0.25)
        module = to_torch(model)
        same(module(torch.from_numpy(x)).detach().numpy(), model(x))
        back = from_torch(module, "cpu")
        same(back(x), model(x))
        same(to_torch(back)(torch.from_numpy(x)).detach().numpy(), model(x))
        other = Sequential(model.layers, backend="cpu", dtype=dtype, seed=seed + 1)
        other.units = model.units
        same(from_torch(module.state_dict(), into=other)(x), model(x))


def test_modules_of_pytorch_on_pictures(torch: Any) -> None:
    nn = torch.nn
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding="same"), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 4, (3, 1), stride=(2, 1), padding=1, groups=2, bias=False), nn.Tanh(), nn.AvgPool2d(2, padding=1),
        nn.Dropout(0.1), nn.Flatten(), nn.LayerNorm(4 * 2 * 4), nn.GELU(), nn.BatchNorm1d(4 * 2 * 4), nn.Linear(32, 3),
    )  # fmt: skip
    for _ in range(3):
        module(torch.randn(9, 2, 8, 9))
    x = torch.randn(5, 2, 8, 9)
    model = from_torch(module, "cpu")
    assert repr(model[1]) == "Conv2d(2, 6, 3, padding='same')"
    assert [type(layer).__name__ for layer in model][:4] == ["ChannelsLast", "Conv2d", "BatchNorm2d", "ReLU"]
    assert repr(model[4]) == "MaxPool2d(2)"
    same(model(x), module.eval()(x).detach().numpy())
    pooled = nn.Sequential(
        nn.Unflatten(1, (1, 8, 9)), nn.Conv2d(1, 4, 3, padding="valid"), nn.AdaptiveMaxPool2d(1), nn.SiLU(),
        nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip
    x = torch.randn(5, 72)
    model = from_torch(pooled, "cpu")
    assert [repr(layer) for layer in model][:3] == ["Reshape(8, 9, 1)", "Conv2d(1, 4, 3)", "GlobalMaxPool2d()"]
    same(model(x), pooled(x).detach().numpy())


def test_weights_of_a_module_on_pictures_go_into_a_model(torch: Any) -> None:
    """Its first linear layer has the columns of pictures with their channels first."""

    class Mine(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.filters = torch.nn.Conv2d(1, 5, 3)
            self.norm = torch.nn.BatchNorm2d(5)
            self.hidden = torch.nn.Linear(5 * 4 * 3, 6)
            self.out = torch.nn.Linear(6, 2)

        def forward(self, x: Any) -> Any:
            y = torch.relu(self.norm(self.filters(x))).flatten(1)
            return self.out(torch.tanh(self.hidden(y)))

    layers = [
        Conv2d(1, 5, 3), BatchNorm2d(5), ReLU(), Flatten(), Linear(60, 6, activation="tanh"), Linear(6, 2),
    ]  # fmt: skip
    mine, model = Mine().eval(), Sequential(*layers, backend="cpu")
    x = torch.randn(4, 1, 6, 5)
    from_torch(mine.state_dict(), into=model)
    same(model(x[:, 0]), mine(x).detach().numpy())
    unknown = Sequential(MaxPool2d(2), Flatten(), Linear(60, 6), backend="cpu")
    with pytest.raises(ValueError, match=r"layer 2, Linear\(60, 6\): it is not known how many channels .* Reshape\("):
        from_torch(torch.nn.Linear(60, 6).state_dict(), into=unknown)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda nn: nn.Conv2d(2, 4, 3, dilation=2), "xpnet has no dilation"),
        (lambda nn: nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"), "cannot be expressed in xpnet$"),
        (lambda nn: nn.Conv2d(2, 4, 4, padding="same"), "needs a kernel_size of odd numbers, not 4"),
        (lambda nn: nn.MaxPool2d(2, ceil_mode=True), "neither ceil_mode nor return_indices"),
        (lambda nn: nn.AvgPool2d(2, divisor_override=3), "cannot be expressed in xpnet$"),
        (lambda nn: nn.AdaptiveAvgPool2d(2), "whole pictures to one number for each channel"),
        (lambda nn: nn.Dropout2d(0.5), "cannot be expressed in xpnet$"),
        (lambda nn: nn.Sequential(nn.Conv2d(2, 4, 3), nn.Linear(4, 3)), "takes rows of numbers; put Flatten before it"),
        (lambda nn: nn.Sequential(nn.MaxPool2d(2), nn.Flatten()), "how many channels its pictures have is not known"),
        (
            lambda nn: nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.ReLU()),
            "last; let a linear layer follow",
        ),
        (lambda nn: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(2, 4, 1)), "xpnet has none of after global pool"),
    ],
)
def test_modules_on_pictures_that_cannot_be_expressed(torch: Any, make: Any, why: str) -> None:
    with pytest.raises(TypeError, match=why):
        from_torch(make(torch.nn), "cpu")


def test_weights_lie_as_pytorch_keeps_them(torch: Any) -> None:
    model = Sequential(Linear(3, 2), BatchNorm(2), Linear(2, 1, bias=False), backend="cpu")
    state = to_torch(model).state_dict()
    assert state["0.weight"].shape == (2, 3)
    assert state["0.weight"].is_contiguous()
    np.testing.assert_array_equal(state["0.weight"], model.state_dict()["0.weight"].T)
    assert set(state) == {
        "0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked",
        "2.weight",
    }  # fmt: skip


def test_modules_of_pytorch(torch: Any) -> None:
    nn = torch.nn
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Flatten(),
        nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8, momentum=0.3, affine=False), nn.LeakyReLU(0.0)),
        nn.Identity(), nn.Linear(8, 8, bias=False), nn.LayerNorm(8, elementwise_affine=False), nn.ELU(0.3),
        nn.Dropout(0.2), nn.Linear(8, 8), nn.LayerNorm(8, bias=False), nn.GELU("tanh"), nn.Softplus(),
        nn.Linear(8, 3), nn.Softmax(dim=-1),
    )  # fmt: skip
    for _ in range(3):
        module(torch.randn(9, 3, 4))
    x = torch.randn(5, 3, 4)
    model = from_torch(module, "cpu")
    assert [type(layer).__name__ for layer in model][:4] == ["Flatten", "Linear", "BatchNorm", "ReLU"]
    assert model[2] == BatchNorm(8, affine=False, momentum=0.3)
    assert module.training
    same(model(x), module.eval()(x).detach().numpy())
    assert from_torch(module.double(), "cpu").backend.dtype_name == "float64"
    assert from_torch(module.half(), "cpu").backend.dtype_name == "float32"


def test_a_state_dict_of_a_module_of_ones_own(torch: Any) -> None:
    class Mine(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Linear(4, 3)
            self.norm = torch.nn.BatchNorm1d(3)
            self.last = torch.nn.Linear(3, 2)

        def forward(self, x: Any) -> Any:
            return self.last(torch.relu(self.norm(self.first(x))))

    module, x = Mine().eval(), torch.randn(5, 4)
    model = Sequential(Linear(4, 3), BatchNorm(3), ReLU(), Linear(3, 2), backend="cpu")
    for source in (module, module.state_dict()):
        model.reset(1)
        from_torch(source, into=model)
        same(model(x), module(x).detach().numpy())
    with pytest.raises(TypeError, match=r"PyTorch's module, Mine, cannot be expressed in xpnet"):
        from_torch(module)
    with pytest.raises(TypeError, match="does not say which layers there are; give from_torch"):
        from_torch(module.state_dict())


def test_state_dicts_that_do_not_fit_change_nothing(torch: Any) -> None:
    model = Sequential(Linear(4, 3), ReLU(), Linear(3, 2), backend="cpu")
    before = model.state_dict()
    wrong = {
        r"have 1 layers with weights, but the model has 2": torch.nn.Linear(4, 3),
        r"do not fit layer 2, Linear\(3, 2\): they have no bias": torch.nn.Sequential(
            torch.nn.Linear(4, 3), torch.nn.Linear(3, 2, bias=False)
        ),
        r"layer 2, Linear\(3, 2\): its weight has shape \(3, 2\), not \(3, 5\)": torch.nn.Sequential(
            torch.nn.Linear(4, 3), torch.nn.Linear(3, 5)
        ),
        r"layer 0, Linear\(4, 3\): they have a running_mean that the model has not": torch.nn.Sequential(
            torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 2)
        ),
    }
    for match, module in wrong.items():
        with pytest.raises(ValueError, match=match):
            from_torch(module.state_dict(), into=model)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    with pytest.raises(TypeError, match=r"takes a torch.nn.Module or its state_dict\(\), not list"):
        from_torch([], into=model)
    with pytest.raises(TypeError, match=r"takes a torch.nn.Sequential or a state_dict, not int"):
        from_torch(3)


@pytest.mark.parametrize(
    "make",
    [
        "torch.nn.Hardswish()", "torch.nn.Conv1d(1, 1, 1)", "torch.nn.Softmax(dim=0)", "torch.nn.LeakyReLU(2.0)",
        "torch.nn.Softplus(beta=2)", "torch.nn.Softplus(threshold=1)", "torch.nn.Dropout(1.0)",
        "torch.nn.Flatten(0)", "torch.nn.LayerNorm((2, 2))", "torch.nn.BatchNorm1d(4, track_running_stats=False)",
        "torch.nn.BatchNorm1d(4, momentum=None)",
    ],
)  # fmt: skip
def test_modules_that_cannot_be_expressed_are_named(torch: Any, make: str) -> None:
    part = eval(make, {"torch": torch})
    name = type(part).__name__
    with pytest.raises(TypeError, match=rf"PyTorch's module 1.0, {name}\(.*cannot be expressed in xpnet"):
        from_torch(torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Sequential(part)))


def test_logits_mean_what_the_loss_says(torch: Any) -> None:
    module, x = torch.nn.Sequential(torch.nn.Linear(4, 3)), RNG.normal(size=(9, 4)).astype("float32")
    assert from_torch(module, "cpu").task == "values"
    model = from_torch(module, "cpu", loss="cross_entropy")
    assert (model.task, model.loss_name) == ("classes", "softmax_cross_entropy")
    np.testing.assert_array_equal(model.predict(x), module(torch.from_numpy(x)).argmax(dim=1))
    Trainer(model).fit(x, np.arange(9) % 3)


def test_pixels_of_an_imported_network_are_not_scaled(torch: Any) -> None:
    module, x = torch.nn.Sequential(torch.nn.Linear(64, 3)), RNG.integers(0, 256, (9, 64))
    same(from_torch(module, "cpu")(x), module(torch.from_numpy(x).float()).detach().numpy())
