"""Every setting does what it says: a test for each, and none may lack one.

A run here is of few rows and epochs, and prints nothing; what it must have done is computed beside it.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from threadpoolctl import threadpool_info

import recipes
import train
from backends import Backend, get_backend
from nn import (
    GELU,
    SGD,
    Adam,
    Augment,
    BatchNorm,
    Callback,
    Dataset,
    LayerNorm,
    Linear,
    Sequential,
    StreamedDataset,
    Trainer,
    load_data,
    load_model,
)
from nn.callbacks import ReduceOnPlateau
from nn.cli import SETTINGS, Setting, Settings, UsageError
from nn.cli.combine import OF_OPTIMIZER
from nn.cli.kinds import INTEGER, SIZE, WIDTHS, WINDOW
from nn.layers import Dropout, Sigmoid, Tanh
from nn.losses import Focal, Huber, SoftmaxCrossEntropy
from nn.optimizers import (
    Adagrad,
    AdamW,
    Constant,
    CosineDecay,
    ExponentialDecay,
    LinearWarmup,
    OneCycle,
    RMSProp,
    StepDecay,
    schedule_from_json,
)

SMALL = ["--limit", "120", "--epochs", "2", "--hidden", "8", "--device", "cpu"]
#: One step on all rows: what it moved can be computed by hand.
ONE_STEP = ["--epochs", "1", "--batch-size", "full", "--dtype", "float64"]


@dataclass
class Tools:
    """What a behaviour test may need of pytest."""

    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch
    folder: Path

    def printed(self, *flags: str) -> str:
        """What a run that succeeds prints."""
        code = train.main([*SMALL, *flags])
        out, err = self.capsys.readouterr()
        assert (code, err) == (0, "")
        return out

    def recipe(self, text: str) -> list[str]:
        """The flags for a recipe of this text."""
        path = self.folder / "mine.toml"
        path.write_text(text, encoding="utf-8")
        return ["--recipe", str(path), "--device", "cpu", "--quiet"]


def prepared(*flags: str) -> train.Run:
    return train.prepare(train.parse([*SMALL, "--quiet", *flags])[0])


def trained(*flags: str) -> train.Run:
    run = prepared(*flags)
    train.train(run)
    return run


def of_recipe(flags: list[str]) -> train.Run:
    run = train.prepare(train.parse(flags)[0])
    train.train(run)
    return run


def parameters(run: train.Run) -> dict[str, np.ndarray]:
    return {name: values.copy() for name, values in run.trainer.model.state_dict().items()}


def losses(run: train.Run) -> list[float]:
    return run.trainer.history["loss"]


def digits() -> Any:
    return load_data("digits")


def by_hand(run: train.Run, steps: int, rate: float, **sgd: Any) -> dict[str, np.ndarray]:
    """The parameters after so many steps of SGD on all rows, from those of ``run``; the formulas of SGD once more."""
    momentum, dampening = sgd.get("momentum", 0.0), sgd.get("dampening", 0.0)
    values = parameters(run)
    velocity = {name: np.zeros_like(value) for name, value in values.items()}
    for _ in range(steps):
        run.trainer.model.load_state_dict(values)
        for name, gradient in run.trainer.gradients(run.training).items():
            pushed = (1 - dampening) * gradient
            velocity[name] = momentum * velocity[name] + pushed
            step = pushed + momentum * velocity[name] if sgd.get("nesterov") else velocity[name]
            shrunk = sgd.get("weight_decay", 0.0) * values[name] if "weight" in name else 0.0
            values[name] = values[name] - rate * (step + shrunk)
    return values


def assert_sgd(flags: list[str], steps: int, rate: float, **sgd: Any) -> None:
    """Training with these flags is ``steps`` steps of SGD with these settings, and not of plain SGD with that rate."""
    flags = [*ONE_STEP, "--epochs", str(steps), *flags]
    found, wanted = parameters(trained(*flags)), by_hand(prepared(*flags), steps, rate, **sgd)
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-10, atol=1e-13)


# ---- a test for each setting -----------------------------------------------------------------------------------------

BEHAVIOUR: dict[str, Callable[[Tools], None]] = {}


def behaviour(test: Callable[[Tools], None]) -> Callable[[Tools], None]:
    """Take the function as the test of the setting that has its name, perhaps with a ``_`` before it."""
    BEHAVIOUR[test.__name__.removeprefix("_")] = test
    return test


@behaviour
def recipe(tools: Tools) -> None:
    settings = train.parse(["--recipe", "ten-relu"])[0]
    for table in ("data", "network", "training", "report"):
        for key, value in tomllib.loads((recipes.FOLDER / "ten-relu.toml").read_text())[table].items():
            wanted = {"full": None}.get(value, value) if isinstance(value, str) else value
            assert getattr(settings, key) == (tuple(value) if isinstance(value, list) else wanted), key
    mine = train.parse(tools.recipe('title = "my own"\n[training]\nepochs = 7\n'))[0]
    assert (mine.recipe, mine.title, mine.epochs) == ("mine", "my own", 7)


@behaviour
def list_recipes(tools: Tools) -> None:
    tools.monkeypatch.setattr(train, "prepare", lambda settings: pytest.fail("there was a run"))
    assert [line.split()[0] for line in tools.printed("--list-recipes").splitlines()] == recipes.names()


@behaviour
def device(tools: Tools) -> None:
    assert prepared("--device", "array_api_strict:device1").trainer.backend.device.spec == "array_api_strict:device1"
    assert "device    cpu: numpy " in tools.printed()


@behaviour
def dtype(tools: Tools) -> None:
    assert {values.dtype for values in parameters(prepared("--dtype", "float64")).values()} == {np.dtype("float64")}
    assert {values.dtype for values in parameters(prepared()).values()} == {np.dtype("float32")}


@behaviour
def threads(tools: Tools) -> None:
    def now() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    before, meanwhile, original = now(), [], train.train

    def training(run: train.Run, *signals: Any) -> None:
        meanwhile.append(now())
        original(run, *signals)

    tools.monkeypatch.setattr(train, "train", training)
    for count in (1, 2):
        assert f"BLAS threads: {count}" in tools.printed("--threads", str(count))
    assert meanwhile == [{1}, {2}]
    assert now() == before


@behaviour
def processes(tools: Tools) -> None:
    """With an MPI there are tests in test_processes.py; here: they are started, with the command line as it is."""
    started: list[Any] = []

    def start(settings: Settings, argv: list[str], tell: Callable[[str], None]) -> int:
        started.append(argv)
        return 0

    tools.monkeypatch.setattr(train, "start_processes", start)
    assert train.main([*SMALL, "--processes", "2"]) == 0
    assert started == [[*SMALL, "--processes", "2"]]
    assert "processes" not in tools.printed("--processes", "1")


@behaviour
def blocks(tools: Tools) -> None:
    in_blocks = prepared("--blocks", "4").trainer.blocks
    assert in_blocks is not None
    assert in_blocks.count == 4
    assert prepared().trainer.blocks is None
    assert "processes this one alone; batches in 4 blocks of rows\n" in tools.printed("--blocks", "4")


@behaviour
def precision(tools: Tools) -> None:
    """On a GPU there are tests in tests/backends/cuda; here: it reaches the backend, and the header tells it."""
    asked = []

    def backend(spec: str, dtype: str, fused: bool, precision: str) -> Backend:
        asked.append(precision)
        return get_backend(spec, dtype, fused)

    tools.monkeypatch.setattr(train, "get_backend", backend)
    assert "products in tf32" in tools.printed("--precision", "tf32")
    assert "products in" not in tools.printed()
    assert asked == ["tf32", "float32"]


@behaviour
def reference(tools: Tools) -> None:
    assert type(prepared("--reference").trainer.backend) is Backend
    assert type(prepared().trainer.backend) is not Backend


@behaviour
def compare(tools: Tools) -> None:
    tools.monkeypatch.setattr(train, "train", lambda run: pytest.fail("there was a training run"))
    flags = [flag for flag in SMALL if flag not in ("--device", "cpu")]
    assert train.main([*flags, "--compare", "cpu,cpu/reference"]) == 0
    assert re.search(r"^cpu/reference .* in 8 steps", tools.capsys.readouterr().out, re.MULTILINE)


@behaviour
def compare_steps(tools: Tools) -> None:
    flags = [flag for flag in SMALL if flag not in ("--device", "cpu")]
    assert train.main([*flags, "--compare", "cpu,cpu/reference", "--compare-steps", "3", "--quiet"]) == 0
    assert " in 3 steps" in tools.capsys.readouterr().out


@behaviour
def data(tools: Tools) -> None:
    x, y = np.arange(24.0).reshape(8, 3), np.array([0, 1] * 4)
    path = tools.folder / "mine.npz"
    np.savez(path, x_train=x[:6], y_train=y[:6], x_test=x[6:], y_test=y[6:])
    run = prepared("--data", str(path))
    assert run.test is not None
    np.testing.assert_array_equal(run.training.features(), x[:6])
    np.testing.assert_array_equal(run.test.y, y[6:])
    assert prepared().training.n_features == 64


@behaviour
def data_dir(tools: Tools) -> None:
    """The files are looked for there, wherever the environment says."""
    (tools.folder / "empty").mkdir()
    (tools.folder / "other").mkdir()
    tools.monkeypatch.setenv("XPNET_DATA", str(tools.folder / "other"))
    assert train.main(["--data", "mnist", "--data-dir", str(tools.folder / "empty")]) == 2
    error = tools.capsys.readouterr().err
    assert str(tools.folder / "empty") in error
    assert str(tools.folder / "other") not in error


@behaviour
def window(tools: Tools) -> None:
    """Rows stay in the file, of which so many are in memory; where these are all, the run is that of memory."""
    rows = digits()
    assert rows.test is not None
    for name, array in {"x_train": rows.train.x, "x_test": rows.test.x}.items():
        np.save(tools.folder / f"{name}.npy", array)
        np.save(tools.folder / f"y{name[1:]}.npy", rows.train.y if name == "x_train" else rows.test.y)
    flags = ["--data", str(tools.folder), "--epochs", "2", "--hidden", "8", "--device", "cpu", "--quiet", "--window"]
    weights = []
    for size in ("full", "5000", "100"):
        run = train.prepare(train.parse([*flags, size])[0])
        assert isinstance(run.training, Dataset if size == "full" else StreamedDataset)
        assert isinstance(run.test, Dataset if size == "full" else StreamedDataset)
        if isinstance(run.training, StreamedDataset):
            assert run.training.window == int(size)
        train.train(run)
        weights.append(run.trainer.model.state_dict())
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
    assert not all((weights[0][name] == weights[2][name]).all() for name in weights[0])
    tools.capsys.readouterr()
    for size, batch, told in (
        ("100", "25", "read in windows of 100 rows, 10 classes"),
        ("100", "32", "read in windows of 96 rows (whole batches), 10 classes"),
        ("8", "32", "read in windows of 32 rows (a batch, as 8 would be less), 10 classes"),
    ):
        words = ["--epochs", "1", "--device", "cpu", "--window", size, "--batch-size", batch]
        assert train.main([*flags[:2], *words]) == 0
        assert f"64 inputs, {told} " in f"{' '.join(tools.capsys.readouterr().out.split())} "


@behaviour
def limit(tools: Tools) -> None:
    run, rows = prepared("--limit", "50"), digits()
    assert run.test is not None
    for found, all_rows in ((run.training, rows.train), (run.test, rows.test)):
        np.testing.assert_array_equal(found.x, all_rows.x[:50])
        np.testing.assert_array_equal(found.y, all_rows.y[:50])
    text = '[data]\nrows = [[1], [2], [3]]\ntargets = [1.0, 2.0, 3.0]\n[training]\nloss = "mse"\n'
    assert of_recipe([*tools.recipe(text), "--limit", "2"]).training.y.tolist() == [1.0, 2.0]


@behaviour
def _test_fraction(tools: Tools) -> None:
    run = train.prepare(train.parse(["--test-fraction", "0.5"])[0])
    assert run.test is not None
    assert (len(run.training), len(run.test)) == (898, 899)
    assert prepared("--test-fraction", "0").test is None


@behaviour
def validation(tools: Tools) -> None:
    """The rows held out are all the others, by class; they are never trained on."""
    fitted: list[Any] = []
    original = Trainer.fit

    def fit(self: Trainer, rows: Any, *arguments: Any, **others: Any) -> Any:
        fitted.append(rows)
        return original(self, rows, *arguments, **others)

    tools.monkeypatch.setattr(Trainer, "fit", fit)
    every = {row.tobytes() for row in digits().train.x[:120]}
    for share, count in (("0.25", 30), ("20", 20)):
        run = trained("--validation", share)
        assert run.validation is not None
        held_out, rest = ({row.tobytes() for row in rows.x} for rows in (run.validation, fitted[-1]))
        assert len(run.validation) == count
        assert held_out | rest == every
        assert not held_out & rest
        assert np.bincount(run.validation.y).min() >= 1
        last = run.trainer.history[-1]
        assert last["val_loss"] == pytest.approx(run.trainer.evaluate(run.validation)["loss"], rel=1e-6)
    run = trained("--validation", "test")
    assert run.test is not None
    assert len(fitted[-1]) == 120
    assert run.trainer.history[-1]["val_loss"] == pytest.approx(run.trainer.evaluate(run.test)["loss"], rel=1e-6)


@behaviour
def only(tools: Tools) -> None:
    run, rows = prepared("--only", "7", "3"), digits().train[:120]
    np.testing.assert_array_equal(run.training.x, rows.x[(rows.y == 3) | (rows.y == 7)])
    np.testing.assert_array_equal(run.training.y, (rows.y == 3)[(rows.y == 3) | (rows.y == 7)])
    assert run.training.class_names == ("7", "3")
    assert run.test is not None
    assert run.test.class_names == ("7", "3")


@behaviour
def positive(tools: Tools) -> None:
    run = prepared("--positive", "3")
    np.testing.assert_array_equal(run.training.y, digits().train.y[:120] == 3)
    assert run.training.class_names == ("not 3", "3")


FLOWERS = "length,size,kind\n" + "1.5,small,a\n,large,b\n2.5,small,b\n8.5,small,a\n" * 30


def of_flowers(tools: Tools, *flags: str) -> train.Run:
    (tools.folder / "t.csv").write_text(FLOWERS, encoding="utf-8")
    return prepared("--data", str(tools.folder / "t.csv"), *flags)


@behaviour
def label(tools: Tools) -> None:
    cleaned = ("--impute", "mean", "--categorical", "--test-fraction", "0")
    for words in (["kind"], ["3"], ["-1"]):
        assert of_flowers(tools, *cleaned, "--label", *words).training.class_names == ("a", "b")
    assert of_flowers(tools, *cleaned, "--label", "size").training.class_names == ("large", "small")
    (tools.folder / "v.csv").write_text("a,b,c\n" + "1,2,3\n4,5,7\n" * 20, encoding="utf-8")
    run = prepared("--data", str(tools.folder / "v.csv"), "--label", "c", "1", "--loss", "mse", "--test-fraction", "0")
    assert run.training.y[:2].tolist() == [[3.0, 1.0], [7.0, 4.0]]
    assert run.trainer.model.n_outputs == 2


@behaviour
def task(tools: Tools) -> None:
    (tools.folder / "v.csv").write_text("a,target\n" + "1.5,2\n4,5\n" * 20, encoding="utf-8")
    flags = ("--data", str(tools.folder / "v.csv"), "--loss", "mse", "--test-fraction", "0")
    for more, targets, n_outputs in (((), [2.0, 5.0], 1), (("--task", "classes"), [0, 1], 2)):
        run = prepared(*flags, *more)
        assert run.training.y[:2].tolist() == targets
        assert run.trainer.model.n_outputs == n_outputs
        assert isinstance(run.trainer.model.layers[-1], Sigmoid) == (n_outputs == 2)


@behaviour
def impute(tools: Tools) -> None:
    flags = ("--label", "kind", "--categorical", "--test-fraction", "0")
    for name, value in (("mean", 12.5 / 3), ("median", 2.5), ("most_frequent", 1.5)):
        run = of_flowers(tools, *flags, "--impute", name)
        np.testing.assert_allclose(run.training.x[:4, 0], [1.5, value, 2.5, 8.5], rtol=1e-12)
    with pytest.raises(UsageError, match=r"t\.csv, line 3, column 1 \(length\): the value is missing; .*--impute"):
        of_flowers(tools, *flags)


@behaviour
def categorical(tools: Tools) -> None:
    flags = ("--label", "kind", "--impute", "mean", "--test-fraction", "0")
    for words in ([], ["size"], ["2"], ["length", "size"]):
        run = of_flowers(tools, *flags, "--categorical", *words)
        np.testing.assert_array_equal(run.training.x[:4, -2:], [[0, 1], [1, 0], [0, 1], [0, 1]])
        assert run.training.n_features == (5 if "length" in words else 3)
    with pytest.raises(UsageError, match=r"t\.csv, line 2, column 2 \(size\): 'small' is not a number"):
        of_flowers(tools, *flags)


@behaviour
def standardize(tools: Tools) -> None:
    run = trained("--standardize", "--hidden", "8")
    seen = run.trainer.model.layer_outputs(run.training)["0"]
    varies = run.training.x.std(axis=0) > 0
    np.testing.assert_allclose(seen.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(seen.std(axis=0), varies.astype(float), rtol=1e-4)
    assert [type(layer) for layer in run.trainer.model.layers[1:]] == [type(layer) for layer in trained().trainer.model]


@behaviour
def shift(tools: Tools) -> None:
    run = prepared("--shift", "-0.5")
    assert run.test is not None
    np.testing.assert_allclose(run.training.features(), digits().train.x[:120] / 16 - 0.5, atol=1e-6)
    np.testing.assert_allclose(run.test.features(), digits().test.x[:120] / 16 - 0.5, atol=1e-6)


WRITTEN_OUT = """
[data]
rows = [[1, 2], [3, 4], [5, 6]]
targets = [0.5, 0.25, 1]
[network]
hidden = []
weights = [[[0.5], [-0.25]]]
biases = [[0.125]]
output_activation = "identity"
[training]
loss = "mean_squared_error"
epochs = 0
dtype = "float64"
"""


@behaviour
def rows(tools: Tools) -> None:
    np.testing.assert_array_equal(of_recipe(tools.recipe(WRITTEN_OUT)).training.features(), [[1, 2], [3, 4], [5, 6]])


@behaviour
def targets(tools: Tools) -> None:
    run = of_recipe(tools.recipe(WRITTEN_OUT))
    np.testing.assert_array_equal(run.training.y, [0.5, 0.25, 1.0])
    outputs = np.array([0.125, 0.625, 1.125])  # x W + b
    assert run.trainer.evaluate(run.training)["loss"] == pytest.approx(np.mean((outputs - run.training.y) ** 2))


@behaviour
def hidden(tools: Tools) -> None:
    assert "64-12-7-10, relu" in tools.printed("--hidden", "12", "7")
    shapes = [values.shape for name, values in parameters(prepared("--hidden", "12", "7")).items() if "weight" in name]
    assert shapes == [(64, 12), (12, 7), (7, 10)]
    assert [values.shape for values in parameters(prepared("--hidden")).values()] == [(64, 10), (10,)]


@behaviour
def layers(tools: Tools) -> None:
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


@behaviour
def outputs(tools: Tools) -> None:
    run = of_recipe([*tools.recipe("[network]\noutputs = 12\n[training]\nepochs = 1\n"), "--limit", "50"])
    assert run.trainer.model.n_outputs == 12
    assert prepared().trainer.model.n_outputs == 10
    assert prepared("--positive", "3", "--loss", "bce").trainer.model.n_outputs == 1


@behaviour
def activation(tools: Tools) -> None:
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


@behaviour
def output_activation(tools: Tools) -> None:
    z = np.array([[0.125], [0.625], [1.125]])
    functions: dict[str, np.ndarray] = {
        "identity": z,
        "sigmoid": 1 / (1 + np.exp(-z)),
        "tanh": np.tanh(z),
        "relu": z,
        "softmax": np.ones((3, 1)),
    }
    for name, wanted in functions.items():
        run = of_recipe(tools.recipe(WRITTEN_OUT.replace('"identity"', f'"{name}"')))
        np.testing.assert_allclose(run.trainer.model(run.training), wanted, rtol=1e-12)


@behaviour
def init(tools: Tools) -> None:
    for spec in ("constant:0.25", "0.25"):
        for name, values in parameters(prepared("--init", spec)).items():
            np.testing.assert_array_equal(values, 0.25 if "weight" in name else 0.0)
    weights = parameters(prepared("--init", "uniform:2,3"))["0.weight"]
    assert 2 <= weights.min() < 2.1
    assert 2.9 < weights.max() <= 3


@behaviour
def bias_init(tools: Tools) -> None:
    for name, values in parameters(prepared("--bias-init", "constant:0.25")).items():
        assert ("bias" in name) == (values == np.float32(0.25)).all()


@behaviour
def weights(tools: Tools) -> None:
    run = of_recipe(tools.recipe(WRITTEN_OUT))
    np.testing.assert_array_equal(parameters(run)["0.weight"], [[0.5], [-0.25]])


@behaviour
def biases(tools: Tools) -> None:
    np.testing.assert_array_equal(parameters(of_recipe(tools.recipe(WRITTEN_OUT)))["0.bias"], [0.125])


@behaviour
def start_from(tools: Tools) -> None:
    first = trained("--output", str(tools.folder / "first"))
    train.save(first)
    begun = prepared("--weights", str(tools.folder / "first"), "--seed", "5", "--dropout", "0.5")
    for values, others in zip(parameters(begun).values(), parameters(first).values(), strict=True):
        np.testing.assert_array_equal(values, others)
    again = trained("--weights", str(tools.folder / "first" / "weights.safetensors"))
    assert again.trainer.model.step == 2 * first.trainer.model.step
    assert losses(again)[0] < losses(first)[-1]
    assert "as trained in" in tools.printed("--weights", str(tools.folder / "first"))


@behaviour
def norm(tools: Tools) -> None:
    for name, kind in (("batch", BatchNorm), ("layer", LayerNorm)):
        run = trained("--norm", name, "--activation", "gelu", "--dropout", "0.1", "--hidden", "8", "6")
        kinds = [type(layer) for layer in run.trainer.model.layers]
        assert kinds[:9] == [Linear, kind, GELU, Dropout, Linear, kind, GELU, Dropout, Linear]
        assert losses(run) != losses(trained("--activation", "gelu", "--dropout", "0.1", "--hidden", "8", "6"))


@behaviour
def dropout(tools: Tools) -> None:
    run = trained("--dropout", "0.5", "--hidden", "8", "6")
    assert [layer.rate for layer in run.trainer.model.layers if isinstance(layer, Dropout)] == [0.5, 0.5]
    assert losses(run) != losses(trained("--hidden", "8", "6"))
    assert run.trainer.evaluate(run.training) == run.trainer.evaluate(run.training)  # no units are left out here


@behaviour
def loss(tools: Tools) -> None:
    run = prepared("--loss", "mse", "--dtype", "float64")
    outputs, targets = run.trainer.model(run.training), np.eye(10)[run.training.y]
    assert run.trainer.evaluate(run.training)["loss"] == pytest.approx(np.mean((outputs - targets) ** 2))
    run = prepared("--loss", "bce", "--positive", "3", "--dtype", "float64")
    p = run.trainer.model(run.training)[:, 0]
    cross_entropy = -np.mean(np.where(run.training.y, np.log(p), np.log(1 - p)))
    assert run.trainer.evaluate(run.training)["loss"] == pytest.approx(cross_entropy)
    run = trained("--loss", "bce", "--epochs", "5", "--dtype", "float64")  # ten questions, of which one is answered yes
    p, yes = run.trainer.predict_proba(run.training), np.eye(10)[run.training.y]
    assert p.shape == (120, 10)
    found = run.trainer.evaluate(run.training)
    assert found["loss"] == pytest.approx(-np.mean(np.log(np.where(yes, p, 1 - p))))
    assert found["accuracy"] == np.mean(run.trainer.predict(run.training) == run.training.y)
    run = prepared("--dtype", "float64")
    p = run.trainer.model(run.training)[np.arange(120), run.training.y]
    assert run.trainer.evaluate(run.training)["loss"] == pytest.approx(-np.mean(np.log(p)))


@behaviour
def epochs(tools: Tools) -> None:
    for count in (0, 1, 3):
        assert len(trained("--epochs", str(count)).trainer.history) == count
    assert parameters(trained("--epochs", "0"))["0.weight"].tolist() == parameters(prepared())["0.weight"].tolist()


@behaviour
def batch_size(tools: Tools) -> None:
    for size in (50, 120, 1):
        assert trained("--batch-size", str(size)).trainer.model.step == 2 * math.ceil(120 / size)
    assert trained("--batch-size", "full").trainer.model.step == 2


@behaviour
def shuffle(tools: Tools) -> None:
    """In the order of the rows: the loss of the second batch is that of these rows after a step on the first ones."""
    flags = ["--epochs", "1", "--batch-size", "60", "--momentum", "0", "--dtype", "float64"]
    run = prepared(*flags)
    first, second = run.training[:60], run.training[60:]
    begin = run.trainer.evaluate(first)["loss"]
    gradients = run.trainer.gradients(first)
    run.trainer.model.load_state_dict({name: v - 0.1 * gradients[name] for name, v in parameters(run).items()})
    wanted = (begin + run.trainer.evaluate(second)["loss"]) / 2
    assert losses(trained(*flags, "--no-shuffle")) == pytest.approx([wanted], rel=1e-9)
    assert losses(trained(*flags)) != pytest.approx([wanted], rel=1e-6)


@behaviour
def optimizer(tools: Tools) -> None:
    run = trained("--optimizer", "adam", *ONE_STEP)
    assert isinstance(run.trainer.optimizer, Adam)
    start = prepared("--optimizer", "adam", *ONE_STEP)
    gradients = start.trainer.gradients(start.training)
    for name, values in parameters(start).items():  # the first step of Adam: rate * g / (|g| + epsilon)
        step = 0.001 * gradients[name] / (np.abs(gradients[name]) + 1e-8)
        np.testing.assert_allclose(parameters(run)[name], values - step, rtol=1e-9, atol=1e-12)
    assert isinstance(prepared().trainer.optimizer, SGD)


@behaviour
def learning_rate(tools: Tools) -> None:
    for flags, rate in ([], 0.1), (["--lr", "0.7"], 0.7), (["--learning-rate", "0.2"], 0.2):
        assert_sgd(flags, 1, rate)
    assert prepared("--optimizer", "adam", "--lr", "0.02").trainer.optimizer.learning_rate == 0.02


@behaviour
def momentum(tools: Tools) -> None:
    """That of PyTorch: not dampened."""
    for flags, value in ([], 0.9), (["--momentum", "0.5"], 0.5), (["--beta", "0.3"], 0.3), (["--momentum", "0"], 0.0):
        assert_sgd(flags, 3, 0.1, momentum=value)


@behaviour
def label_smoothing(tools: Tools) -> None:
    run = prepared("--label-smoothing", "0.2", "--dtype", "float64")
    assert run.trainer.loss == SoftmaxCrossEntropy(0.2)
    targets = 0.8 * np.eye(10)[run.training.y] + 0.02
    wanted = -(targets * np.log(run.trainer.predict_proba(run.training))).sum(axis=1).mean()
    assert run.trainer.evaluate(run.training)["loss"] == pytest.approx(wanted)


@behaviour
def delta(tools: Tools) -> None:
    run = prepared("--loss", "huber", "--delta", "0.25")
    assert run.trainer.loss == Huber(0.25)
    assert prepared("--loss", "huber").trainer.loss == Huber(1.0)
    far = np.abs(np.asarray(run.trainer.model(run.training)) - np.eye(10)[run.training.y])
    wanted = np.where(far <= 0.25, far**2 / 2, 0.25 * (far - 0.125)).mean()
    assert run.trainer.evaluate(run.training)["loss"] == pytest.approx(wanted, rel=1e-5)


@behaviour
def gamma(tools: Tools) -> None:
    run = prepared("--loss", "focal", "--gamma", "1.5")
    assert run.trainer.loss == Focal(1.5)
    assert prepared("--loss", "focal").trainer.loss == Focal(2.0)
    p, yes = run.trainer.predict_proba(run.training), np.eye(10)[run.training.y] == 1
    p = np.where(yes, p, 1 - p)
    wanted = (np.where(yes, 0.25, 0.75) * (1 - p) ** 1.5 * -np.log(p)).mean()
    assert run.trainer.evaluate(run.training)["loss"] == pytest.approx(wanted, rel=1e-5)


@behaviour
def focal_alpha(tools: Tools) -> None:
    assert prepared("--loss", "focal", "--focal-alpha", "0.75").trainer.loss == Focal(alpha=0.75)
    # --alpha is of RMSProp, and leaves that of the loss alone
    run = prepared("--loss", "focal", "--optimizer", "rmsprop", "--alpha", "0.9")
    assert run.trainer.loss == Focal()
    assert run.trainer.optimizer.settings()["alpha"] == 0.9


@behaviour
def class_weight(tools: Tools) -> None:
    run = prepared("--class-weight", "0=5", "7=0", "--validation", "0.2")
    weights = np.where(run.training.y == 0, 5.0, np.where(run.training.y == 7, 0.0, 1.0))
    np.testing.assert_array_equal(run.training.weights, weights)
    assert run.validation is not None
    assert run.validation.weights is None
    for text in ('["0=5", "7=0"]', "{0 = 5, 7 = 0.0}"):  # the two forms of a recipe
        recipe = tools.recipe(f"[data]\nvalidation = 0.2\n[training]\nclass_weight = {text}\n")
        np.testing.assert_array_equal(prepared(*recipe).training.weights, weights)
    found = prepared("--class-weight", "balanced").training
    alone = prepared(*tools.recipe('[training]\nclass_weight = "balanced"\n')).training
    np.testing.assert_array_equal(alone.weights, found.weights)
    each = [found.weights[found.y == label].sum() for label in range(10)]  # type: ignore[index]
    np.testing.assert_allclose(each, len(found) / 10)
    for words, message in (
        (["0=1", "balanced"], "`balanced` alone, or CLASS=WEIGHT for some classes, not both"),
        (["0=1", "0=2"], "class 0 is named twice"),
        (["0=x"], "must be balanced or a list of CLASS=WEIGHT"),
        (["=1"], "must be balanced or a list of CLASS=WEIGHT"),
        (["12=1"], "there is no class 12"),
        (["1=-1"], r"class_weight\[1\] is -1.0, but a weight is a finite number of at least 0"),
    ):
        with pytest.raises(UsageError, match=message):
            prepared("--class-weight", *words)


@behaviour
def dampening(tools: Tools) -> None:
    assert_sgd(["--momentum", "0.5", "--dampening", "0.75"], 3, 0.1, momentum=0.5, dampening=0.75)


@behaviour
def nesterov(tools: Tools) -> None:
    assert_sgd(["--nesterov"], 3, 0.1, momentum=0.9, nesterov=True)


@behaviour
def weight_decay(tools: Tools) -> None:
    """Weights shrink, biases do not; with Adam too, beside its step."""
    assert_sgd(["--weight-decay", "0.5", "--bias-init", "1"], 2, 0.1, momentum=0.9, weight_decay=0.5)
    flags = ["--optimizer", "adam", "--bias-init", "1", *ONE_STEP]
    start, plain, decayed = prepared(*flags), trained(*flags), trained(*flags, "--weight-decay", "0.5")
    for name, values in parameters(start).items():
        shrunk = 0.001 * 0.5 * values if "weight" in name else np.zeros_like(values)
        difference = parameters(plain)[name] - parameters(decayed)[name]
        np.testing.assert_allclose(difference, shrunk, atol=1e-12)


@behaviour
def decoupled(tools: Tools) -> None:
    """Twice the decay, added to the gradient: it passes through the velocity."""
    flags = ["--weight-decay", "0.5", "--no-decoupled", "--bias-init", "1"]
    run, start = trained(*ONE_STEP, "--epochs", "2", *flags), prepared(*ONE_STEP, *flags)
    values = parameters(start)
    velocity = {name: np.zeros_like(value) for name, value in values.items()}
    for _ in range(2):
        start.trainer.model.load_state_dict(values)
        for name, gradient in start.trainer.gradients(start.training).items():
            decay = 0.5 * values[name] if "weight" in name else 0.0
            velocity[name] = 0.9 * velocity[name] + gradient + decay
            values[name] = values[name] - 0.1 * velocity[name]
    for name, wanted in values.items():
        np.testing.assert_allclose(parameters(run)[name], wanted, rtol=1e-10, atol=1e-13)


@behaviour
def l1(tools: Tools) -> None:
    flags = [*ONE_STEP, "--momentum", "0"]
    start, plain, pulled = prepared(*flags), trained(*flags), trained(*flags, "--l1", "0.25")
    for name, values in parameters(start).items():
        moved = 0.1 * 0.25 * np.sign(values) if "weight" in name else np.zeros_like(values)
        np.testing.assert_allclose(parameters(plain)[name] - parameters(pulled)[name], moved, atol=1e-12)


def optimizer_of(*flags: str) -> Any:
    return prepared(*flags).trainer.optimizer


@behaviour
def alpha(tools: Tools) -> None:
    """The first step of RMSProp: rate * g / (sqrt(1 - alpha) |g| + epsilon)."""
    flags = ["--optimizer", "rmsprop", *ONE_STEP]
    start, run = prepared(*flags), trained(*flags, "--alpha", "0.75", "--eps", "1")
    for name, gradient in start.trainer.gradients(start.training).items():
        step = 0.01 * gradient / (0.5 * np.abs(gradient) + 1.0)
        np.testing.assert_allclose(parameters(run)[name], parameters(start)[name] - step, rtol=1e-9, atol=1e-12)
    assert optimizer_of("--optimizer", "rmsprop") == RMSProp()
    assert optimizer_of("--optimizer", "rmsprop", "--momentum", "0.5", "--rho", "0.9") == RMSProp(
        alpha=0.9, momentum=0.5
    )


@behaviour
def beta1(tools: Tools) -> None:
    assert optimizer_of("--optimizer", "adam", "--beta1", "0.5") == Adam(beta1=0.5)
    assert optimizer_of("--optimizer", "adamw") == AdamW()


@behaviour
def beta2(tools: Tools) -> None:
    assert optimizer_of("--optimizer", "adamw", "--beta2", "0.5") == AdamW(beta2=0.5)


@behaviour
def epsilon(tools: Tools) -> None:
    for flag in ("--epsilon", "--eps"):
        assert optimizer_of("--optimizer", "adam", flag, "0.5") == Adam(epsilon=0.5)
    assert optimizer_of("--optimizer", "adagrad", "--epsilon", "0") == Adagrad(epsilon=0.0)


@behaviour
def epsilon_inside(tools: Tools) -> None:
    assert optimizer_of("--optimizer", "adagrad", "--epsilon-inside") == Adagrad(epsilon_inside=True)


@behaviour
def epsilon_hat(tools: Tools) -> None:
    assert optimizer_of("--optimizer", "adam", "--epsilon-hat") == Adam(epsilon_hat=True)


@behaviour
def centered(tools: Tools) -> None:
    assert optimizer_of("--optimizer", "rmsprop", "--centered") == RMSProp(centered=True)


@behaviour
def lr_decay(tools: Tools) -> None:
    assert optimizer_of("--optimizer", "adagrad", "--lr-decay", "0.5") == Adagrad(lr_decay=0.5)


@behaviour
def initial_accumulator_value(tools: Tools) -> None:
    flags = ["--optimizer", "adagrad", "--initial-accumulator-value", "0.25"]
    assert optimizer_of(*flags) == Adagrad(initial_accumulator_value=0.25)
    np.testing.assert_array_equal(optimizer_of(*flags).state["squares"], np.float32(0.25))


#: 120 rows in batches of 30: 4 updates an epoch.
BY_EPOCHS = ["--batch-size", "30", "--epochs", "5"]


@behaviour
def schedule(tools: Tools) -> None:
    made = {
        "constant": 0.1,
        "step": StepDecay(0.1, 40, 0.1),
        "exponential": ExponentialDecay(0.1, 0.95, 4),
        "cosine": CosineDecay(0.1, 20),
        "one_cycle": OneCycle(0.1, 20),
        "plateau": 0.1,
    }
    assert list(made) == list(SETTINGS["schedule"].choices)
    for name, wanted in made.items():
        assert optimizer_of(*BY_EPOCHS, "--schedule", name).learning_rate == wanted, name
    held_out = optimizer_of(*BY_EPOCHS, "--schedule", "cosine", "--validation", "0.5")  # 60 rows are trained on
    assert held_out.learning_rate == CosineDecay(0.1, 10)
    together = trained(*BY_EPOCHS, "--schedule", "cosine", "--accumulate", "3")  # 3 batches and 1 are 2 updates
    assert together.trainer.optimizer.learning_rate == CosineDecay(0.1, 10)
    assert together.trainer.optimizer.steps == 10
    full = optimizer_of("--batch-size", "full", "--epochs", "5", "--schedule", "cosine", "--lr", "0.5")
    assert full.learning_rate == CosineDecay(0.5, 5)
    # The training loss falls in each of two epochs; the loss of validation rows that are the test rows does so, too.
    run = trained("--schedule", "plateau", "--validation", "test")
    (lowering,) = (callback for callback in run.trainer.callbacks if isinstance(callback, ReduceOnPlateau))
    assert lowering.best == min(run.trainer.history["val_loss"])
    folder = tools.folder / "run"
    tools.printed("--schedule", "cosine", "--output", str(folder))
    written = json.loads((folder / "settings.json").read_text())["optimizer"]["learning_rate"]
    assert schedule_from_json(written) == CosineDecay(0.1, 8)


@behaviour
def warmup(tools: Tools) -> None:
    for flags, wanted in (
        ([], LinearWarmup(Constant(0.1), 2)),
        (["--schedule", "cosine"], LinearWarmup(CosineDecay(0.1, 18), 2)),
        (["--schedule", "one_cycle"], OneCycle(0.1, 20, warmup=0.1)),
    ):
        assert optimizer_of(*BY_EPOCHS, "--warmup", "0.5", *flags).learning_rate == wanted
    with pytest.raises(UsageError, match=r"^--warmup 5 must be less than the 5 epochs of training$"):
        prepared(*BY_EPOCHS, "--warmup", "5")


@behaviour
def decay_every(tools: Tools) -> None:
    for name, make in ("step", StepDecay(0.1, 6, 0.1)), ("exponential", ExponentialDecay(0.1, 0.95, 6)):
        assert optimizer_of(*BY_EPOCHS, "--schedule", name, "--decay-every", "1.5").learning_rate == make


@behaviour
def decay_factor(tools: Tools) -> None:
    for name, make in ("step", StepDecay(0.1, 40, 0.5)), ("exponential", ExponentialDecay(0.1, 0.5, 4)):
        assert optimizer_of(*BY_EPOCHS, "--schedule", name, "--decay-factor", "0.5").learning_rate == make
    with pytest.raises(UsageError, match=r"^--decay-factor of the schedule plateau must be below 1, not 1.5$"):
        prepared("--schedule", "plateau", "--decay-factor", "1.5")


@behaviour
def min_lr(tools: Tools) -> None:
    of_cosine = optimizer_of(*BY_EPOCHS, "--schedule", "cosine", "--min-lr", "0.01")
    assert of_cosine.learning_rate == CosineDecay(0.1, 20, 0.01)
    # A rate so high that the loss does not fall after the first epochs.
    flags = ["--schedule", "plateau", "--plateau-patience", "0", "--lr", "50", "--epochs", "9"]
    assert trained(*flags, "--min-lr", "40").trainer.optimizer.learning_rate == 40.0


@behaviour
def plateau_patience(tools: Tools) -> None:
    flags = ["--schedule", "plateau", "--lr", "50", "--epochs", "9"]
    assert trained(*flags).trainer.optimizer.learning_rate == 50.0
    run = trained(*flags, "--plateau-patience", "0", "--decay-factor", "0.5")
    assert run.trainer.optimizer.learning_rate < 50.0


def assert_one_clipped_step(flags: list[str], clip: Callable[[Any], Any]) -> None:
    """A step of plain gradient descent, its gradients (all of them, in one array) clipped so."""
    flags = [*ONE_STEP, "--momentum", "0", *flags]
    start, found = prepared(*flags), parameters(trained(*flags))
    gradients = start.trainer.gradients(start.training)
    clipped = clip(np.concatenate([gradient.ravel() for gradient in gradients.values()]))
    at = 0
    for name, gradient in gradients.items():
        change = 0.1 * clipped[at : at + gradient.size].reshape(gradient.shape)
        at += gradient.size
        np.testing.assert_allclose(found[name], parameters(start)[name] - change, rtol=1e-10, atol=1e-13)


@behaviour
def clip_norm(tools: Tools) -> None:
    assert_one_clipped_step(["--clip-norm", "0.01"], lambda g: g * 0.01 / (np.sqrt(np.sum(g * g)) + 1e-6))
    assert_one_clipped_step(["--clip-norm", "1000"], lambda g: g)


@behaviour
def clip_value(tools: Tools) -> None:
    assert_one_clipped_step(["--clip-value", "0.002"], lambda g: np.clip(g, -0.002, 0.002))


@behaviour
def accumulate(tools: Tools) -> None:
    """As batches so many times as large; the same updates, more steps."""
    flags = ["--dtype", "float64", "--batch-size"]
    large, several = trained(*flags, "30"), trained(*flags, "10", "--accumulate", "3")
    for name, values in parameters(large).items():
        np.testing.assert_allclose(parameters(several)[name], values, rtol=1e-9, atol=1e-12)
    assert (several.trainer.optimizer.steps, several.trainer.model.step) == (8, 24)


@behaviour
def average(tools: Tools) -> None:
    """What is evaluated and saved is half of the parameters before the second update and half of those after it."""
    flags = ["--batch-size", "60", "--epochs", "1", "--dtype", "float64", "--limit", "120"]
    folder = tools.folder / "out"
    out = tools.printed(*flags, "--average", "0.5", "--output", str(folder))
    after = parameters(trained(*flags))
    run = prepared(*flags, "--average", "0.5")
    seen: list[dict[str, np.ndarray]] = []

    class Notes(Callback):
        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            seen.append(parameters(run))

    run.trainer.callbacks.append(Notes())
    train.train(run)
    saved = load_model(folder / "weights.safetensors", "cpu").state_dict()
    for name, values in saved.items():
        np.testing.assert_allclose(seen[1][name], after[name], rtol=1e-12)
        np.testing.assert_allclose(values, (seen[0][name] + seen[1][name]) / 2, rtol=1e-12, atol=1e-15)
    run.trainer.model.load_state_dict(saved)
    run.trainer.average = None
    assert run.test is not None
    assert f"loss {run.trainer.evaluate(run.test)['loss']:.4f}" in out


def assert_augmented(flags: list[str], **settings: Any) -> None:
    """Training with these flags is training on pictures that are distorted so, and not on the pictures themselves."""
    run, wanted, plain = trained(*flags), prepared(), trained()
    wanted.trainer.augment = Augment(**settings)
    train.train(wanted)
    for name, values in parameters(run).items():
        np.testing.assert_array_equal(values, parameters(wanted)[name])
    assert losses(run) != losses(plain)


@behaviour
def augment_shift(tools: Tools) -> None:
    assert_augmented(["--augment-shift", "1.5"], shift=1.5)
    assert "\naugment   shift 2, elastic 8 3\n" in tools.printed("--augment-shift", "2", "--augment-elastic", "8", "3")


@behaviour
def augment_rotation(tools: Tools) -> None:
    assert_augmented(["--augment-rotation", "15"], rotation=15)


@behaviour
def augment_scale(tools: Tools) -> None:
    assert_augmented(["--augment-scale", "0.15"], scale=0.15)


@behaviour
def augment_shear(tools: Tools) -> None:
    assert_augmented(["--augment-shear", "10"], shear=10)


@behaviour
def augment_elastic(tools: Tools) -> None:
    assert_augmented(["--augment-elastic", "8", "3"], elastic=(8, 3))
    of_recipe_too = tools.recipe("[data]\nlimit = 120\naugment_elastic = [8, 3]\n[training]\nepochs = 1\n")
    assert of_recipe(of_recipe_too).trainer.augment == Augment(elastic=(8, 3))
    for words, complaint in (
        (["8"], "--augment-elastic needs two values"),
        (["8", "x"], "--augment-elastic must be two numbers, not 'x'"),
        (["8", "0"], "sigma of elastic must be a number above 0, not 0.0; it is in pixels"),
    ):
        assert train.main([*SMALL, "--augment-elastic", *words]) == 2
        assert complaint in tools.capsys.readouterr().err


@behaviour
def augment_flip(tools: Tools) -> None:
    assert_augmented(["--augment-flip", "horizontal"], flip_horizontal=True)
    assert_augmented(["--augment-flip", "vertical"], flip_vertical=True)
    assert_augmented(["--augment-flip", "both"], flip_horizontal=True, flip_vertical=True)


@behaviour
def augment_cutout(tools: Tools) -> None:
    assert_augmented(["--augment-cutout", "3"], cutout=3)
    rows = "[data]\nrows = [[1.0, 2.0], [2.0, 1.0]]\ntargets = [0, 1]\naugment_cutout = 1\n"
    assert train.main([*tools.recipe(rows), "--epochs", "1"]) == 2
    assert "augment distorts pictures, and rows of shape (2,) are not known to be any" in tools.capsys.readouterr().err


@behaviour
def augment_fill(tools: Tools) -> None:
    assert_augmented(["--augment-cutout", "3", "--augment-fill", "16"], cutout=3, fill=16)
    assert train.main([*SMALL, "--augment-fill", "16"]) == 2
    assert "--augment-fill would do nothing here, as no picture is distorted" in tools.capsys.readouterr().err


@behaviour
def seed(tools: Tools) -> None:
    """Of initial values, shuffles, dropout and validation rows, each by itself; not of the test rows."""
    same = ["--init", "constant:0.01", "--bias-init", "constant:0.01", "--activation", "tanh"]
    full = ["--batch-size", "full"]
    for flags, what in (
        (same, losses),
        ([*same, *full, "--dropout", "0.5"], losses),
        (["--epochs", "0"], lambda run: parameters(run)["0.weight"]),
        (["--validation", "0.5"], lambda run: run.validation.x),
    ):
        assert np.array_equal(what(trained(*flags, "--seed", "1")), what(trained(*flags, "--seed", "1")))
        assert not np.array_equal(what(trained(*flags, "--seed", "1")), what(trained(*flags, "--seed", "2")))
    # Only the validation rows depend on it there, so these cannot be told apart by anything else.
    assert np.array_equal(losses(trained(*same, *full, "--seed", "1")), losses(trained(*same, *full, "--seed", "2")))
    one, two = prepared("--seed", "1"), prepared("--seed", "2")
    assert one.test is not None
    assert two.test is not None
    np.testing.assert_array_equal(one.test.x, two.test.x)


@behaviour
def every(tools: Tools) -> None:
    out = tools.printed("--epochs", "5", "--every", "2", "--validation", "0.25")
    lines = [line.split() for line in out.splitlines() if re.match(r" +\d+ +\d\.\d{5} ", line)]
    assert [line[0] for line in lines] == ["1", "2", "4", "5"]
    run = trained("--epochs", "5", "--every", "2", "--validation", "0.25")
    assert [record["epoch"] for record in run.trainer.history if "val_loss" in record] == [1, 2, 4, 5]


@behaviour
def confusion(tools: Tools) -> None:
    def matrix(*flags: str) -> np.ndarray:
        rest = tools.printed("--epochs", "1", *flags).partition("\nconfusion matrix: rows are the ")[2]
        assert rest.startswith("predicted" if flags else "true")
        return np.array([line.split()[1:] for line in rest.splitlines()[2:12]], dtype=int)

    true = matrix()
    assert (true.sum(axis=1) == np.bincount(digits().test.y[:120])).all()
    np.testing.assert_array_equal(matrix("--confusion", "predicted"), true.T)
    assert (true != true.T).any()


@behaviour
def predictions(tools: Tools) -> None:
    run = trained()
    out = tools.printed("--predictions", "12").partition("the first 12 test rows\n")[2]
    found = [line.split()[:2] for line in out.splitlines()[1:13]]
    assert run.test is not None
    wanted = zip(run.trainer.predict(run.test[:12]), run.test.y[:12], strict=True)
    assert found == [[str(guess), str(label)] for guess, label in wanted]


@behaviour
def predict(tools: Tools) -> None:
    tools.recipe(WRITTEN_OUT + "[report]\npredict = [[2, 2], [0, 1]]\n")
    assert train.main(["--recipe", str(tools.folder / "mine.toml")]) == 0
    out = tools.capsys.readouterr().out
    assert "[2, 2] -> [0.625]" in out
    assert "[0, 1] -> [-0.125]" in out


@behaviour
def show(tools: Tools) -> None:
    cases: dict[str, list[tuple[str, Any]]] = {
        "outputs": [("outputs", [[0.125], [0.625], [1.125]])],
        "layers": [("layer 0", [[0.125], [0.625], [1.125]])],
        "loss": [("loss", (0.375**2 + 0.375**2 + 0.125**2) / 3)],
        "gradients": [("gradient of 0.weight", [[2.75 / 3], [1.0]]), ("gradient of 0.bias", [0.25 / 3])],
    }
    for name, wanted in cases.items():
        assert train.main(tools.recipe(WRITTEN_OUT + f'[report]\nshow = ["{name}"]\n')) == 0
        found = [line.split(": ") for line in tools.capsys.readouterr().out.splitlines()]
        for (label, numbers), (wanted_label, wanted_numbers) in zip(found, wanted, strict=True):
            assert label == wanted_label
            np.testing.assert_allclose(json.loads(numbers), wanted_numbers, rtol=1e-12)


@behaviour
def plots(tools: Tools) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    tools.monkeypatch.chdir(tools.folder)
    out = tools.printed("--plots").replace("\\", "/")
    assert out.endswith("\nwrote cost.png, confusion.png, digits.png, mistakes.png, weights.png to runs/digits\n")
    pictures = {"cost.png", "confusion.png", "digits.png", "mistakes.png", "weights.png"}
    assert {path.name for path in (tools.folder / "runs" / "digits").iterdir()} == pictures
    for name in pictures:
        assert (tools.folder / "runs" / "digits" / name).read_bytes().startswith(b"\x89PNG")


@behaviour
def output(tools: Tools) -> None:
    folder = tools.folder / "a" / "b"
    run = trained("--seed", "5")
    out = tools.printed("--seed", "5", "--output", str(folder))
    assert out.endswith(f"\nwrote weights.safetensors, history.jsonl, settings.json to {folder}\n")
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoints", "history.jsonl", "run.json", "settings.json", "weights.safetensors",
    ]  # fmt: skip
    for name, values in load_model(folder / "weights.safetensors", "cpu").state_dict().items():
        np.testing.assert_array_equal(values, parameters(run)[name])
    record = json.loads((folder / "settings.json").read_text())["settings"]
    assert record["seed"] == 5
    assert list(record) == list(SETTINGS)


@behaviour
def overwrite(tools: Tools) -> None:
    folder = tools.folder / "a"
    tools.printed("--output", str(folder))
    before = json.loads((folder / "run.json").read_text())["run"]
    assert train.main([*SMALL, "--output", str(folder)]) == 2
    assert f"holds the run {before} of " in tools.capsys.readouterr().err
    tools.printed("--output", str(folder), "--overwrite")
    assert json.loads((folder / "settings.json").read_text())["run"] != before


@behaviour
def resume(tools: Tools) -> None:
    """Half an epoch, and then the rest: the same run as one that was never stopped."""
    whole, parts = tools.folder / "whole", tools.folder / "parts"
    flags = ["--epochs", "3", "--batch-size", "16", "--dropout", "0.2", "--quiet"]
    tools.printed(*flags, "--output", str(whole))

    class Stops(Callback):
        reads_gradients = False

        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            if trainer.model.step == 12:  # of 24
                trainer.interrupt("test")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "build_callbacks", lambda settings: [Stops()])
        tools.printed(*flags, "--output", str(parts))
    assert '"interrupted": 64' in (parts / "history.jsonl").read_text()
    assert train.main(["--resume", str(parts), "--quiet"]) == 0
    assert tools.capsys.readouterr().out.startswith("test accuracy")
    assert len((parts / "history.jsonl").read_text().splitlines()) == 3
    run_of = {folder: json.loads((folder / "run.json").read_text())["run"].encode() for folder in (whole, parts)}
    found = [(folder / "weights.safetensors").read_bytes().replace(run_of[folder], b"") for folder in (whole, parts)]
    assert found[0] == found[1]


@behaviour
def checkpoint_every(tools: Tools) -> None:
    written: list[int] = []
    save = Trainer.save_checkpoint

    def saved(self: Trainer, *arguments: Any) -> Path:
        written.append(self.model.step)
        return save(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "save_checkpoint", saved)
        for when, steps in (("2 steps", None), ("1", [4, 8]), ("2 epochs", [8]), ("10 minutes", [8]), ("never", [])):
            folder = tools.folder / when
            tools.printed("--output", str(folder), "--checkpoint-every", when, "--quiet")
            if steps is None:  # of several steps that are launched in one call, the last one
                assert written[-1] == 8
                assert all(later - earlier >= 2 for earlier, later in pairwise([0, *written[:-1]]))
            else:
                assert written == steps, when
            written.clear()
            assert (folder / "checkpoints").exists() == (when != "never")
    for bad in ("sometimes", "0", "1.5 steps", "0 minutes", "-1", "2 hours"):
        assert train.main([*SMALL, "--output", "x", f"--checkpoint-every={bad}"]) == 2
        assert "--checkpoint-every: checkpoints are for every '10 minutes', " in tools.capsys.readouterr().err


@behaviour
def report(tools: Tools) -> None:
    path = tools.folder / "report.html"
    tools.printed("--report", str(path), "--quiet", "--seed", "3")
    page = path.read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert f"--limit 120 --hidden 8 --epochs 2 --seed 3 --report {path} --quiet" in page
    assert "digits: 64-8-10, relu" in page


def stopping(*flags: str) -> train.Run:
    """Sixty epochs at most, with a rate at which the validation loss soon becomes worse."""
    return trained("--epochs", "60", "--validation", "0.3", "--lr", "1.0", *flags)


@behaviour
def early_stopping(tools: Tools) -> None:
    history = stopping("--early-stopping", "4").trainer.history
    losses = history["val_loss"]
    assert (len(history), history.best_epoch) == (losses.index(min(losses)) + 5, losses.index(min(losses)) + 1)
    assert history.stopped == "early stopping: val_loss has not become better for 4 epochs"
    out = tools.printed("--epochs", "60", "--validation", "0.3", "--lr", "1.0", "--early-stopping", "4")
    assert f"\nbest epoch {history.best_epoch}, val_loss {min(losses):.4g}; its weights are in the model\n" in out
    assert f"\nstopped by {history.stopped}\n" in out
    without_rows = trained("--early-stopping", "1").trainer.history
    assert (without_rows.monitor, without_rows.best_epoch) == ("loss", 2)


@behaviour
def monitor(tools: Tools) -> None:
    history = stopping("--early-stopping", "4", "--monitor", "val_accuracy").trainer.history
    accuracies = history["val_accuracy"]
    assert (history.monitor, history.best_epoch) == ("val_accuracy", accuracies.index(max(accuracies)) + 1)
    assert train.main([*SMALL, "--early-stopping", "4", "--monitor", "val_luck", "--quiet"]) == 2
    assert "there is no 'val_luck' to monitor, as there are no validation rows" in tools.capsys.readouterr().err


@behaviour
def min_delta(tools: Tools) -> None:
    history = trained("--epochs", "9", "--early-stopping", "2", "--min-delta", "100").trainer.history
    assert (history.best_epoch, len(history)) == (1, 3)  # nothing is better by so much


@behaviour
def restore_best(tools: Tools) -> None:
    kept, last = stopping("--early-stopping", "4"), stopping("--early-stopping", "4", "--no-restore-best")
    best = kept.trainer.history.best_epoch
    assert kept.trainer.history["val_loss"] == last.trainer.history["val_loss"]
    assert (kept.trainer.history.best_is_kept, last.trainer.history.best_is_kept) == (True, False)
    for run, epochs in ((kept, best), (last, len(last.trainer.history))):
        twin = trained("--epochs", str(epochs), "--validation", "0.3", "--lr", "1.0")
        for name, values in parameters(run).items():
            np.testing.assert_array_equal(values, parameters(twin)[name])


@behaviour
def metrics(tools: Tools) -> None:
    run = trained("--metrics", "auc", "top3_accuracy", "--validation", "0.5")
    assert list(run.trainer.history[0])[3:7] == ["val_loss", "val_accuracy", "val_auc", "val_top3_accuracy"]
    assert run.test_result is not None
    assert list(run.test_result) == ["loss", "accuracy", "auc", "top3_accuracy"]
    out = tools.printed("--metrics", "auc", "--quiet")
    assert re.fullmatch(r"test accuracy \S+ \(.*\), loss [\d.]+, auc 0\.\d+\n", out)
    assert train.main([*SMALL, "--metrics", "luck"]) == 2
    assert "--metrics: unknown metric 'luck'; known are loss, accuracy, auc" in tools.capsys.readouterr().err
    assert train.main([*SMALL, "--metrics", "r2", "--quiet"]) == 2
    assert "the metric r2 is one of values, but these targets are classes" in tools.capsys.readouterr().err


@behaviour
def train_metrics(tools: Tools) -> None:
    run = trained("--metrics", "macro_f1", "--train-metrics")
    guess = run.trainer.predict(run.training)
    assert run.trainer.history[-1]["macro_f1"] == f1_score(run.training.y, guess, average="macro")
    assert "macro_f1" not in trained("--metrics", "macro_f1").trainer.history[-1]


@behaviour
def log(tools: Tools) -> None:
    again: list[str] = []
    for name in ("log.jsonl", "log.csv"):
        tools.printed("--log", str(tools.folder / name), "--quiet", "--output", str(tools.folder), *again)
        again = ["--overwrite"]
    lines = (tools.folder / "log.jsonl").read_text().splitlines()
    known = [json.loads(line) for line in (tools.folder / "history.jsonl").read_text().splitlines()]
    timed = {"seconds", "rows_per_second"}
    assert [json.loads(line)["loss"] for line in lines] == [record["loss"] for record in known]
    head, *rows = (tools.folder / "log.csv").read_text().splitlines()
    assert head.split(",") == list(known[0])
    assert [float(row.split(",")[1]) for row in rows] == [record["loss"] for record in known]
    assert timed <= {*known[0]}
    assert train.main([*SMALL, "--log", "log.txt"]) == 2
    assert "--log: a log is a file whose name ends in .jsonl or .csv, not 'log.txt'" in tools.capsys.readouterr().err
    assert train.main([*SMALL, "--log", str(tools.folder / "nowhere" / "log.csv"), "--quiet"]) == 2
    assert "there is no folder" in tools.capsys.readouterr().err


@behaviour
def tensorboard(tools: Tools) -> None:
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    tools.printed("--tensorboard", str(tools.folder / "events"), "--quiet")
    assert [path.name.startswith("events.out.tfevents.") for path in (tools.folder / "events").iterdir()] == [True]
    tools.monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert train.main([*SMALL, "--tensorboard", "events"]) == 2
    assert "--tensorboard: event files for TensorBoard need a library" in tools.capsys.readouterr().err


@behaviour
def quiet(tools: Tools) -> None:
    assert re.fullmatch(r"test accuracy [\d.]+% \(\d+ of 120\), loss [\d.]+\n", tools.printed("--quiet"))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_does_what_it_says(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert name in BEHAVIOUR, f"write a function {name} with @behaviour, which shows what this setting does"
    BEHAVIOUR[name](Tools(capsys, monkeypatch, tmp_path))


#: The least value of each setting that has one.
LEAST = {
    "threads": 1, "processes": 1, "blocks": 1, "compare_steps": 1,
    "window": 1, "limit": 1, "hidden": 1, "outputs": 1, "epochs": 0, "batch_size": 1,
    "accumulate": 1,
    "augment_shift": 0,
    "augment_cutout": 0,
    "gamma": 0,
    "early_stopping": 0,
    "min_delta": 0,
    "weight_decay": 0, "seed": 0, "every": 1, "predictions": 0, "epsilon": 0, "lr_decay": 0, "l1": 0,
    "initial_accumulator_value": 0, "min_lr": 0, "plateau_patience": 0,
}  # fmt: skip


@pytest.mark.parametrize("name", LEAST)
def test_the_least_value_is_taken_and_one_less_refused(name: str) -> None:
    setting, least = SETTINGS[name], LEAST[name]
    values = [(least,), (least - 1,)] if setting.kind.is_list else [least, least - 1]
    problems = [setting.problem(value) for value in values]
    assert problems == ["", f" must be at least {least}, not {least - 1}"]


def test_every_setting_with_a_least_value_is_there() -> None:
    of_one_bound = re.compile(r"at least \d+")
    assert set(LEAST) == {name for name, s in SETTINGS.items() if s.check and of_one_bound.fullmatch(s.check.words)}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--hidden", "30", "two"], "--hidden must be whole numbers, not 'two'"),
        (["--limit", "1.5"], "--limit must be a whole number, not '1.5'"),
        (["--epochs", "two"], "--epochs must be a whole number, not 'two'"),
        (["--compare", "cpu"], "--compare must be two devices or more with commas between them, not 'cpu'"),
        (["--lr", "nan"], "--lr must be finite, not nan"),
        (["--data", ""], "--data needs a value"),
    ],
)
def test_words_that_stand_for_no_value(flags: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        train.parse(flags)
    assert str(caught.value) == message


WHOLE = [entry for entry in SETTINGS.values() if entry.kind in (INTEGER, WIDTHS, SIZE, WINDOW) and entry.flags]


@pytest.mark.parametrize("entry", [entry for entry in WHOLE if entry.name != "seed"], ids=lambda entry: entry.name)
def test_a_whole_number_beyond_all_is_refused_by_the_name_of_its_flag(
    entry: Setting,
) -> None:
    with pytest.raises(UsageError, match=rf"^{entry.flag} must be at least \d and at most \d+, not {'9' * 20}$"):
        train.parse([entry.flag, "9" * 20])


def test_there_is_no_test_of_a_setting_that_is_gone() -> None:
    assert set(BEHAVIOUR) == set(SETTINGS)


# ---- flags and keys say the same -------------------------------------------------------------------------------------

#: For each setting that both can say: the words of the flag, and the value in TOML.
BOTH = {
    "dtype": ("float64", '"float64"'),
    "data": ("mnist", '"mnist"'),
    "data_dir": ("there", '"there"'),
    "window": ("full", '"full"'),
    "limit": ("70", "70"),
    "test_fraction": ("0.25", "0.25"),
    "validation": ("0.3", "0.3"),
    "label": ("kind -1", '["kind", -1]'),
    "task": ("values", '"values"'),
    "impute": ("median", '"median"'),
    "categorical": ("size 2", '["size", 2]'),
    "only": ("1 cat", '[1, "cat"]'),
    "positive": ("4", "4"),
    "shift": ("-0.5", "-0.5"),
    "augment_shift": ("1.5", "1.5"),
    "augment_rotation": ("15.0", "15.0"),
    "augment_scale": ("0.15", "0.15"),
    "augment_shear": ("10.0", "10.0"),
    "augment_elastic": ("34.0 4.0", "[34.0, 4.0]"),
    "augment_flip": ("both", '"both"'),
    "augment_cutout": ("4", "4"),
    "augment_fill": ("255.0", "255.0"),
    "hidden": ("30 20", "[30, 20]"),
    "layers": ("8C3-MP2-20N", '"8C3-MP2-20N"'),
    "activation": ("tanh", '"tanh"'),
    "init": ("normal:0.01", '"normal:0.01"'),
    "start_from": ("out", '"out"'),
    "bias_init": ("0.5", "0.5"),
    "standardize": ("", "true"),
    "norm": ("batch", '"batch"'),
    "dropout": ("0.2", "0.2"),
    "loss": ("mse", '"mse"'),
    "label_smoothing": ("0.2", "0.2"),
    "delta": ("0.5", "0.5"),
    "gamma": ("3", "3"),
    "focal_alpha": ("0.5", "0.5"),
    "class_weight": ("0=2 7=0.5", '["0=2", "7=0.5"]'),
    "epochs": ("3", "3"),
    "batch_size": ("full", '"full"'),
    "shuffle": ("", "false"),
    "optimizer": ("adam", '"adam"'),
    "learning_rate": ("0.3", "0.3"),
    "momentum": ("0.4", "0.4"),
    "dampening": ("0.6", "0.6"),
    "nesterov": ("", "true"),
    "alpha": ("0.8", "0.8"),
    "beta1": ("0.7", "0.7"),
    "beta2": ("0.6", "0.6"),
    "epsilon": ("0.001", "0.001"),
    "epsilon_inside": ("", "true"),
    "epsilon_hat": ("", "true"),
    "clip_norm": ("1.5", "1.5"),
    "clip_value": ("0.5", "0.5"),
    "accumulate": ("4", "4"),
    "average": ("0.99", "0.99"),
    "blocks": ("4", "4"),
    "centered": ("", "true"),
    "lr_decay": ("0.5", "0.5"),
    "initial_accumulator_value": ("0.1", "0.1"),
    "weight_decay": ("0.01", "0.01"),
    "decoupled": ("", "false"),
    "l1": ("0.001", "0.001"),
    "schedule": ("cosine", '"cosine"'),
    "warmup": ("0.5", "0.5"),
    "decay_every": ("2", "2.0"),
    "decay_factor": ("0.5", "0.5"),
    "min_lr": ("0.001", "0.001"),
    "plateau_patience": ("3", "3"),
    "seed": ("9", "9"),
    "every": ("4", "4"),
    "early_stopping": ("3", "3"),
    "monitor": ("loss", '"loss"'),
    "min_delta": ("0.5", "0.5"),
    "restore_best": ("", "false"),
    "metrics": ("auc macro_f1", '["auc", "macro_f1"]'),
    "train_metrics": ("", "true"),
    "confusion": ("predicted", '"predicted"'),
    "predictions": ("6", "6"),
}
#: What a setting needs beside it in order not to be refused.
BESIDE = dict.fromkeys(("label", "task", "impute", "categorical"), ("data", '"t.csv"')) | {
    "data_dir": ("data", '"mnist"'),
    "window": ("data", '"rows.h5"'),
    "delta": ("loss", '"huber"'),
    "gamma": ("loss", '"focal"'),
    "focal_alpha": ("loss", '"focal"'),
    **dict.fromkeys(("alpha", "epsilon", "epsilon_inside", "centered"), ("optimizer", '"rmsprop"')),
    **dict.fromkeys(("beta1", "beta2", "epsilon_hat", "decoupled"), ("optimizer", '"adamw"')),
    **dict.fromkeys(("lr_decay", "initial_accumulator_value"), ("optimizer", '"adagrad"')),
    **dict.fromkeys(("decay_every", "decay_factor"), ("schedule", '"step"')),
    **dict.fromkeys(("min_lr", "plateau_patience"), ("schedule", '"plateau"')),
}
BESIDE |= dict.fromkeys(("monitor", "min_delta", "restore_best"), ("early_stopping", "3"))
BESIDE["train_metrics"] = "metrics", '["auc"]'
BESIDE["augment_fill"] = "augment_cutout", "3"


def test_every_setting_that_both_can_say_is_there() -> None:
    assert set(BOTH) == {name for name, setting in SETTINGS.items() if setting.flags and setting.table}


@pytest.mark.parametrize("name", BOTH)
def test_a_flag_and_its_key_say_the_same(name: str, tmp_path: Path) -> None:
    words, toml = BOTH[name]
    setting, path = SETTINGS[name], tmp_path / "mine.toml"
    texts = [f"[{setting.table}]\n{name} = {toml}\n"]
    beside = []
    if name in BESIDE:
        other, value = BESIDE[name]
        texts = [f"[{setting.table}]\n{other} = {value}\n{name} = {toml}\n"]
        beside = [SETTINGS[other].flag, value.strip('"[]')]
    path.write_text("".join(texts), encoding="utf-8")
    (from_recipe,) = train.parse(["--recipe", str(path)])
    assert getattr(from_recipe, name) != getattr(Settings(), name)
    for flag in setting.flags:
        (from_flag,) = train.parse([flag, *words.split(), *beside])
        assert getattr(from_flag, name) == getattr(from_recipe, name), flag
        assert name in from_flag.given
        assert name not in from_recipe.given


@pytest.mark.parametrize("name", BOTH)
def test_a_flag_overrides_its_key_and_other_keys_stay(name: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[training]\nepochs = 6\nseed = 8\n[network]\nhidden = [5]\n[report]\nevery = 2\n")
    kept = {"epochs": 6, "seed": 8, "hidden": (5,), "every": 2}
    words, _ = BOTH[name]
    beside = [SETTINGS[BESIDE[name][0]].flag, BESIDE[name][1].strip('"[]')] if name in BESIDE else []
    (settings,) = train.parse(["--recipe", str(path), SETTINGS[name].flag, *words.split(), *beside])
    overridden = {name, "hidden"} if name == "layers" else {name}
    for key, value in kept.items():
        assert (getattr(settings, key) == value) == (key not in overridden), key


@given(flags=st.sets(st.sampled_from(sorted(BOTH))), keys=st.sets(st.sampled_from(sorted(BOTH))))
def test_nothing_that_is_said_is_lost_in_silence(flags: set[str], keys: set[str]) -> None:
    """Whatever flags and keys come together: each is there in the end, or overridden, or idle, or refused."""
    final = {name: SETTINGS[name].kind.final(tomllib.loads(f"x = {toml}")["x"]) for name, (_, toml) in BOTH.items()}
    by_flag = {name: tomllib.loads(f"x = {BOTH[name][1]}")["x"] for name in flags}
    part = recipes.Part("mine", {name: tomllib.loads(f"x = {BOTH[name][1]}")["x"] for name in keys}, where="mine: ")
    try:
        settings = part.run_with(by_flag)
    except UsageError as error:
        refused = re.match(r"(mine: \[\w+\] (?P<key>\w+)|(?P<flag>--[\w-]+)) would do nothing here, as ", str(error))
        assert refused is not None
        assert refused["key"] in keys or refused["flag"] in {SETTINGS[name].flag for name in flags}
        return
    assert settings.given == flags
    for name in flags:
        assert getattr(settings, name) == final[name]
        assert SETTINGS[name].why_idle(settings) == ""
    for name in keys - flags:
        kept = getattr(settings, name) == final[name]
        other_optimizer = name in OF_OPTIMIZER and "optimizer" in flags - keys
        assert kept or SETTINGS[name].why_idle(replace(settings, **{name: final[name]})) or other_optimizer
    for name in set(SETTINGS) - flags - keys:
        assert getattr(settings, name) == getattr(Settings(), name)


# ---- help and docs ---------------------------------------------------------------------------------------------------


def test_help_tells_every_flag_and_its_default_in_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as done:
        train.main(["--help"])
    assert done.value.code == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    text = re.sub(r"\s+", " ", out)
    for setting in SETTINGS.values():
        for flag in setting.flags:
            assert f" {flag} " in text or f" {flag}," in text
        if setting.flags and setting.default_text:
            assert f"(default: {setting.default_text})" in text
    assert re.search(rf"learning rate \(default: .*\b{SGD().learning_rate:g} for sgd\b", text)
    assert re.search(rf"learning rate \(default: .*\b{Adam().learning_rate:g} for adam\b", text)
    assert "None" not in text
    headings = [line for line in out.splitlines() if re.fullmatch(r"\S.*:", line)]
    assert headings == ["options:", "recipes:", "where to compute:", "data:", "network:", "training:", "output:"]


#: What stands behind a flag in the help.
PLACEHOLDERS = {
    "recipe": "NAME",
    "device": "DEVICE",
    "dtype": "{float32,float64}",
    "threads": "N",
    "processes": "N",
    "precision": "{float32,tf32,bf16}",
    "compare": "DEVICES",
    "compare_steps": "N",
    "data": "SOURCE",
    "data_dir": "DIR",
    "window": "ROWS",
    "limit": "ROWS",
    "test_fraction": "FRACTION",
    "validation": "ROWS",
    "only": "CLASS [CLASS ...]",
    "positive": "CLASS",
    "shift": "X",
    "augment_shift": "PIXELS",
    "augment_rotation": "DEGREES",
    "augment_scale": "X",
    "augment_shear": "DEGREES",
    "augment_elastic": "ALPHA SIGMA",
    "augment_flip": "{horizontal,vertical,both}",
    "augment_cutout": "PIXELS",
    "augment_fill": "X",
    "hidden": "[UNITS ...]",
    "layers": "LAYERS",
    "activation": "NAME",
    "init": "NAME",
    "start_from": "MODEL",
    "bias_init": "NAME",
    "norm": "{batch,layer}",
    "dropout": "RATE",
    "loss": "NAME",
    "label_smoothing": "X",
    "delta": "X",
    "gamma": "X",
    "focal_alpha": "X",
    "class_weight": "WEIGHT [WEIGHT ...]",
    "epochs": "N",
    "batch_size": "ROWS",
    "optimizer": "NAME",
    "learning_rate": "RATE",
    "momentum": "X",
    "dampening": "X",
    "alpha": "X",
    "beta1": "X",
    "beta2": "X",
    "epsilon": "X",
    "lr_decay": "X",
    "initial_accumulator_value": "X",
    "weight_decay": "RATE",
    "clip_norm": "X",
    "clip_value": "X",
    "accumulate": "N",
    "blocks": "N",
    "average": "X",
    "l1": "X",
    "schedule": "NAME",
    "warmup": "EPOCHS",
    "decay_every": "EPOCHS",
    "decay_factor": "X",
    "min_lr": "RATE",
    "plateau_patience": "N",
    "seed": "N",
    "every": "N",
    "confusion": "{true,predicted}",
    "predictions": "N",
    "output": "DIR",
    "early_stopping": "PATIENCE",
    "monitor": "NAME",
    "min_delta": "X",
    "metrics": "NAME [NAME ...]",
    "log": "FILE",
    "resume": "DIR",
    "checkpoint_every": "WHEN",
    "tensorboard": "DIR",
    "report": "FILE",
    "label": "COLUMN [COLUMN ...]",
    "task": "{auto,classes,values}",
    "impute": "{mean,median,most_frequent}",
    "categorical": "[COLUMN ...]",
}


def test_help_shows_what_kind_of_value_a_flag_takes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train.main(["--help"])
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    for name, placeholder in PLACEHOLDERS.items():
        help_begins = SETTINGS[name].help.split()[0]
        assert f" {SETTINGS[name].flags[-1]} {placeholder} {help_begins}" in text, name
    without = {name for name, setting in SETTINGS.items() if setting.flags and name not in PLACEHOLDERS}
    assert without == {
        "list_recipes",
        "reference",
        "shuffle",
        "nesterov",
        "epsilon_inside",
        "epsilon_hat",
        "centered",
        "decoupled",
        "standardize",
        "plots",
        "quiet",
        "restore_best",
        "train_metrics",
        "overwrite",
    }


def header(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    """What stands in the header, its lines joined, without those on versions and machines."""
    assert train.main(["--epochs", "1", "--limit", "120", *flags]) == 0
    return re.sub(r"\n {10}", " ", capsys.readouterr().out.partition("\n\n")[0])


def test_the_header_says_what_is_computed(capsys: pytest.CaptureFixture[str]) -> None:
    text = header(capsys, "--device", "cpu")
    assert re.match(r"xpnet +\d\S+, Python \d\S+, \w+\ndevice +cpu: numpy \S+ on \S.*, float32\n", text)
    assert text.splitlines()[2:] == [
        "data      digits: 120 training rows, 120 test rows, 64 inputs, 10 classes",
        "model     64-64-10, relu, softmax_cross_entropy: 4,810 parameters, initial values glorot_uniform",
        "training  1 epochs, batches of 32, sgd: learning_rate 0.1, momentum 0.9, seed 0",
    ]
    text = header(
        capsys, "--device", "cpu", "--reference", "--threads", "1", "--dtype", "float64", "--validation", "0.25",
        "--test-fraction", "0", "--hidden", "7", "5", "--activation", "tanh", "--init", "he_normal",
        "--dropout", "0.25", "--optimizer", "adam", "--batch-size", "full", "--seed", "3", "--only", "1", "2",
        "--loss", "bce",
    )  # fmt: skip
    assert ", float64, BLAS threads: 1, reference operations\n" in text
    rows = len(load_data("digits", limit=120, test_fraction=0).train.only([1, 2]))
    held_out = math.ceil(rows / 4)
    assert text.splitlines()[2].startswith(f"data      digits: {rows - held_out} training rows, {held_out} for valid")
    assert text.splitlines()[2].endswith("ation, 64 inputs, 2 classes: 1, 2")
    assert text.splitlines()[3:] == [
        "model     64-7-5-1, tanh, bce: 501 parameters, initial values he_normal, dropout 0.25",
        "training  1 epochs, all rows at once, adam: learning_rate 0.001, beta1 0.9, beta2 0.999, "
        "epsilon 1e-08, seed 3",
    ]
    told = header(capsys, "--compare", "cpu,cpu/reference", "--compare-steps", "2").partition("compare   ")[2]
    assert re.match(r"cpu: numpy \S+ on [^,]*, float32 cpu/reference: numpy \S+ on [^,]*, float32, reference ", told)
    assert "every tensor of at most 2 steps" in told


def test_the_header_of_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--recipe", "neuron", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.partition("\n\n")[0].splitlines()
    assert lines[0] == "recipe    neuron: one sigmoid neuron with given weights"
    assert lines[3:] == [
        "data      the recipe's rows: 1 training rows, 2 inputs",
        "model     2-1, mean_squared_error: 3 parameters, given initial values",
        "training  none",
    ]


def test_the_header_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    long = ["--hidden", *["100"] * 9, "--loss", "softmax_cross_entropy", "--init", "uniform:-0.05,0.05"]
    for flags in (
        ["--device", "auto"],
        [*long, "--dropout", "0.1", "--nesterov", "--weight-decay", "0.001", "--validation", "0.2"],
        ["--recipe", "one-vs-two", "--data", "digits"],
        ["--compare", "cpu,cpu/reference,array_api_strict:device1"],
    ):
        assert train.main(["--epochs", "1", "--limit", "120", *flags]) == 0
        head = capsys.readouterr().out.partition("\n\n")[0]
        assert "xpnet     " in head
        assert max(map(len, head.splitlines())) <= 80
        assert all(re.match(r"(\w+ +|          )\S", line) for line in head.splitlines())


def test_the_page_on_recipes_is_the_one_made_from_the_settings(tmp_path: Path) -> None:
    from nn.cli.__main__ import main

    page = Path(train.__file__).parent / "docs" / "recipes.md"
    copy = tmp_path / "recipes.md"
    copy.write_text(re.sub(r"^\|.*\n", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE), encoding="utf-8")
    assert main([str(copy)]) == 0
    assert copy.read_text(encoding="utf-8") == page.read_text(encoding="utf-8"), "run python -m nn.cli docs/recipes.md"
    for setting in SETTINGS.values():
        assert setting.help.replace("|", "\\|") in page.read_text(encoding="utf-8")


def test_a_page_without_marks_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from nn.cli.__main__ import main

    page = tmp_path / "page.md"
    page.write_text("words\n")
    assert main([str(page)]) == 2
    assert "there is no <!-- settings" in capsys.readouterr().err
    assert page.read_text() == "words\n"
    assert main([]) == 2


def test_what_stands_around_the_tables_stays_as_it_is(tmp_path: Path) -> None:
    from nn.cli.__main__ import BEGIN, END, main

    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}old\n{END}\nbetween\n{BEGIN}example\n{END} after\n")
    assert main([str(page)]) == 0
    head, _, rest = page.read_text().partition(BEGIN)
    table, _, tail = rest.partition(END)
    assert head == "before\n"
    assert "| `epochs` | `--epochs` |" in table
    assert tail == f"\nbetween\n{BEGIN}example\n{END} after\n"


def test_the_recipe_on_that_page_works(tmp_path: Path) -> None:
    text = (Path(train.__file__).parent / "docs" / "recipes.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    path = tmp_path / "page.toml"
    path.write_text(block)
    run = of_recipe(["--recipe", str(path), "--quiet", "--device", "cpu"])
    assert run.test_result is not None
    low, high = run.settings.reproduced["test_accuracy"]
    assert low <= run.test_result["accuracy"] <= high


def test_layers_are_those_of_python() -> None:
    """The network of ``train.py`` is one that a user can write down."""
    run = prepared("--hidden", "12", "--activation", "tanh", "--seed", "4")
    layers = [Linear(64, 12), Tanh(), Linear(12, 10), run.trainer.model.layers[-1]]
    for name, values in Sequential(layers, backend="cpu", seed=4).state_dict().items():
        np.testing.assert_array_equal(values, parameters(run)[name])


def test_kinds_are_called_by_what_a_user_would_call_them() -> None:
    """As in "--epochs must be a whole number, not 'two'", and in the tables of the page on recipes."""
    assert {setting.kind.words for setting in SETTINGS.values()} == {
        "true or false", "a string", "a whole number", "a number", "two numbers", "a list of whole numbers",
        "a list of strings",
        "a class, by its number or name", "a list of classes, by number or name",
        "a list of columns, by name or number", "balanced or a list of CLASS=WEIGHT",
        "a list of numbers, or of lists of them", "a name of initial values or a number", "a whole number or full",
        "a fraction between 0 and 1, a number of rows or test", "two devices or more with commas between them",
    }  # fmt: skip
