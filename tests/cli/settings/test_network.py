"""Which network is trained, and its initial values."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

import train
from nn import GELU, BatchNorm, LayerNorm, Linear, Sequential
from nn.layers import Dropout, Tanh
from tests.cli.settings.runs import SMALL, Tools, losses, parameters, prepared, trained


def test_hidden(tools: Tools) -> None:
    assert "64-12-7-10, relu" in tools.printed("--hidden", "12", "7")
    shapes = [values.shape for name, values in parameters(prepared("--hidden", "12", "7")).items() if "weight" in name]
    assert shapes == [(64, 12), (12, 7), (7, 10)]
    assert [values.shape for values in parameters(prepared("--hidden")).values()] == [(64, 10), (10,)]


def test_layers(tools: Tools) -> None:
    flags = ["--layers", "6C3-MP2-4C3s2p1-AP2-7N", "--dropout", "0.1", "--norm", "batch"]
    small = [flag for flag in SMALL if flag not in ("--hidden", "8")]
    assert train.main([*small, *flags]) == 0
    out, err = tools.capsys.readouterr()
    assert "8x8-6C3-MP2-4C3s2p1-AP2-7N-10, relu" in re.sub(r"\s+", " ", out)
    assert err == ""
    run = train.prepare(train.parse([*small, "--quiet", *flags])[0])
    assert [repr(layer) for layer in run.trainer.model.layers] == [
        "Reshape(8, 8, 1)",
        *("Conv2d(1, 6, 3)", "BatchNorm2d(6)", "ReLU()", "MaxPool2d(2)"),
        *("Conv2d(6, 4, 3, stride=2, padding=1)", "BatchNorm2d(4)", "ReLU()", "AvgPool2d(2)"),
        *("Flatten()", "Linear(4, 7)", "BatchNorm(7)", "ReLU()", "Dropout(rate=0.1)"),
        *("Linear(7, 10)", "Softmax()"),
    ]
    train.train(run)
    assert losses(run)[1] < losses(run)[0]


def test_activation(tools: Tools) -> None:
    functions: dict[str, Callable[[Any], Any]] = {
        "identity": lambda z: z,
        "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
        "tanh": np.tanh,
        "relu": lambda z: np.maximum(z, 0),
    }
    for name, function in functions.items():
        run = prepared("--activation", name, "--loss", "mse", "--dtype", "float64")
        first, second, third, fourth = parameters(run).values()
        y = function(run.training.features("float64") @ first + second) @ third + fourth
        np.testing.assert_allclose(run.trainer.model(run.training), 1 / (1 + np.exp(-y)), rtol=1e-12)
    assert any(isinstance(layer, Tanh) for layer in prepared("--activation", "tanh").trainer.model.layers)


def test_init(tools: Tools) -> None:
    for spec in ("constant:0.25", "0.25"):
        for name, values in parameters(prepared("--init", spec)).items():
            np.testing.assert_array_equal(values, 0.25 if "weight" in name else 0.0)
    weights = parameters(prepared("--init", "uniform:2,3"))["0.weight"]
    assert 2 <= weights.min() < 2.1
    assert 2.9 < weights.max() <= 3


def test_bias_init(tools: Tools) -> None:
    for name, values in parameters(prepared("--bias-init", "constant:0.25")).items():
        assert ("bias" in name) == (values == np.float32(0.25)).all()


def test_start_from(tools: Tools) -> None:
    first = trained("--output", str(tools.folder / "first"))
    train.save(first)
    begun = prepared("--weights", str(tools.folder / "first"), "--seed", "5", "--dropout", "0.5")
    for values, others in zip(parameters(begun).values(), parameters(first).values(), strict=True):
        np.testing.assert_array_equal(values, others)
    again = trained("--weights", str(tools.folder / "first" / "weights.safetensors"))
    assert again.trainer.model.step == 2 * first.trainer.model.step
    assert losses(again)[0] < losses(first)[-1]
    assert "as trained in" in tools.printed("--weights", str(tools.folder / "first"))


def test_norm(tools: Tools) -> None:
    for name, kind in (("batch", BatchNorm), ("layer", LayerNorm)):
        run = trained("--norm", name, "--activation", "gelu", "--dropout", "0.1", "--hidden", "8", "6")
        kinds = [type(layer) for layer in run.trainer.model.layers]
        assert kinds[:9] == [Linear, kind, GELU, Dropout, Linear, kind, GELU, Dropout, Linear]
        assert losses(run) != losses(trained("--activation", "gelu", "--dropout", "0.1", "--hidden", "8", "6"))


def test_standardize(tools: Tools) -> None:
    run = trained("--standardize", "--hidden", "8")
    seen = run.trainer.model.layer_outputs(run.training)["0"]
    varies = run.training.x.std(axis=0) > 0
    np.testing.assert_allclose(seen.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(seen.std(axis=0), varies.astype(float), rtol=1e-4)
    assert [type(layer) for layer in run.trainer.model.layers[1:]] == [type(layer) for layer in trained().trainer.model]


def test_dropout(tools: Tools) -> None:
    run = trained("--dropout", "0.5", "--hidden", "8", "6")
    assert [layer.rate for layer in run.trainer.model.layers if isinstance(layer, Dropout)] == [0.5, 0.5]
    assert losses(run) != losses(trained("--hidden", "8", "6"))
    assert run.trainer.evaluate(run.training) == run.trainer.evaluate(run.training)  # no units are left out here


def test_layers_are_those_of_python() -> None:
    """The network of ``train.py`` is one that a user can write down."""
    run = prepared("--hidden", "12", "--activation", "tanh", "--seed", "4")
    layers = [Linear(64, 12), Tanh(), Linear(12, 10), run.trainer.model.layers[-1]]
    for name, values in Sequential(layers, backend="cpu", seed=4).state_dict().items():
        np.testing.assert_array_equal(values, parameters(run)[name])
