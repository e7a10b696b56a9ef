"""How the pictures of training batches are distorted."""

from __future__ import annotations

from typing import Any

import numpy as np

import train
from nn import Augment
from tests.cli.settings.runs import SMALL, Tools, losses, of_recipe, parameters, prepared, trained


def assert_augmented(flags: list[str], **settings: Any) -> None:
    """Training with these flags is training on pictures that are distorted so, and not on the pictures themselves."""
    run, wanted, plain = trained(*flags), prepared(), trained()
    wanted.trainer.augment = Augment(**settings)
    train.train(wanted)
    for name, values in parameters(run).items():
        np.testing.assert_array_equal(values, parameters(wanted)[name])
    assert losses(run) != losses(plain)


def test_augment_shift(tools: Tools) -> None:
    assert_augmented(["--augment-shift", "1.5"], shift=1.5)
    assert "\naugment   shift 2, elastic 8 3\n" in tools.printed("--augment-shift", "2", "--augment-elastic", "8", "3")


def test_augment_rotation(tools: Tools) -> None:
    assert_augmented(["--augment-rotation", "15"], rotation=15)


def test_augment_scale(tools: Tools) -> None:
    assert_augmented(["--augment-scale", "0.15"], scale=0.15)


def test_augment_shear(tools: Tools) -> None:
    assert_augmented(["--augment-shear", "10"], shear=10)


def test_augment_elastic(tools: Tools) -> None:
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


def test_augment_flip(tools: Tools) -> None:
    assert_augmented(["--augment-flip", "horizontal"], flip_horizontal=True)
    assert_augmented(["--augment-flip", "vertical"], flip_vertical=True)
    assert_augmented(["--augment-flip", "both"], flip_horizontal=True, flip_vertical=True)


def test_augment_cutout(tools: Tools) -> None:
    assert_augmented(["--augment-cutout", "3"], cutout=3)
    rows = "[data]\nrows = [[1.0, 2.0], [2.0, 1.0]]\ntargets = [0, 1]\naugment_cutout = 1\n"
    assert train.main([*tools.recipe(rows), "--epochs", "1"]) == 2
    assert "augment distorts pictures, and rows of shape (2,) are not known to be any" in tools.capsys.readouterr().err


def test_augment_fill(tools: Tools) -> None:
    assert_augmented(["--augment-cutout", "3", "--augment-fill", "16"], cutout=3, fill=16)
    assert train.main([*SMALL, "--augment-fill", "16"]) == 2
    assert "--augment-fill would do nothing here, as no picture is distorted" in tools.capsys.readouterr().err
