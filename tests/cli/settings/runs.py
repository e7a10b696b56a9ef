"""Runs of few rows and epochs that print nothing, and what a test of a setting may ask of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import train
from nn import load_data

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


def optimizer_of(*flags: str) -> Any:
    return prepared(*flags).trainer.optimizer


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
