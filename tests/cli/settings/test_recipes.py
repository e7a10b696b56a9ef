"""Recipes, and what they alone can say: rows and weights that are written out, and what is shown of them."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import numpy as np
import pytest

import recipes
import train
from tests.cli.settings.runs import WRITTEN_OUT, Tools, of_recipe, parameters, prepared


def test_recipe(tools: Tools) -> None:
    settings = train.parse(["--recipe", "ten-relu"])[0]
    for table in ("data", "network", "training", "report"):
        for key, value in tomllib.loads((recipes.FOLDER / "ten-relu.toml").read_text())[table].items():
            wanted = {"full": None}.get(value, value) if isinstance(value, str) else value
            assert getattr(settings, key) == (tuple(value) if isinstance(value, list) else wanted), key
    mine = train.parse(tools.recipe('title = "my own"\n[training]\nepochs = 7\n'))[0]
    assert (mine.recipe, mine.title, mine.epochs) == ("mine", "my own", 7)


def test_list_recipes(tools: Tools) -> None:
    tools.monkeypatch.setattr(train, "prepare", lambda settings: pytest.fail("there was a run"))
    assert [line.split()[0] for line in tools.printed("--list-recipes").splitlines()] == recipes.names()


def test_rows(tools: Tools) -> None:
    np.testing.assert_array_equal(of_recipe(tools.recipe(WRITTEN_OUT)).training.features(), [[1, 2], [3, 4], [5, 6]])


def test_targets(tools: Tools) -> None:
    run = of_recipe(tools.recipe(WRITTEN_OUT))
    np.testing.assert_array_equal(run.training.y, [0.5, 0.25, 1.0])
    outputs = np.array([0.125, 0.625, 1.125])  # x W + b
    assert run.trainer.evaluate(run.training)["loss"] == pytest.approx(np.mean((outputs - run.training.y) ** 2))


def test_outputs(tools: Tools) -> None:
    run = of_recipe([*tools.recipe("[network]\noutputs = 12\n[training]\nepochs = 1\n"), "--limit", "50"])
    assert run.trainer.model.n_outputs == 12
    assert prepared().trainer.model.n_outputs == 10
    assert prepared("--positive", "3", "--loss", "bce").trainer.model.n_outputs == 1


def test_output_activation(tools: Tools) -> None:
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


def test_weights(tools: Tools) -> None:
    run = of_recipe(tools.recipe(WRITTEN_OUT))
    np.testing.assert_array_equal(parameters(run)["0.weight"], [[0.5], [-0.25]])


def test_biases(tools: Tools) -> None:
    np.testing.assert_array_equal(parameters(of_recipe(tools.recipe(WRITTEN_OUT)))["0.bias"], [0.125])


def test_predict(tools: Tools) -> None:
    tools.recipe(WRITTEN_OUT + "[report]\npredict = [[2, 2], [0, 1]]\n")
    assert train.main(["--recipe", str(tools.folder / "mine.toml")]) == 0
    out = tools.capsys.readouterr().out
    assert "[2, 2] -> [0.625]" in out
    assert "[0, 1] -> [-0.125]" in out


def test_show(tools: Tools) -> None:
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
