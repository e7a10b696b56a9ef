"""How the learning rate changes."""

from __future__ import annotations

import json

import pytest

from nn.callbacks import ReduceOnPlateau
from nn.cli import SETTINGS, UsageError
from nn.optimizers import Constant, CosineDecay, ExponentialDecay, LinearWarmup, OneCycle, StepDecay, schedule_from_json
from tests.cli.settings.runs import Tools, optimizer_of, prepared, trained

#: 120 rows in batches of 30: 4 updates an epoch.
BY_EPOCHS = ["--batch-size", "30", "--epochs", "5"]


def test_schedule(tools: Tools) -> None:
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


def test_warmup(tools: Tools) -> None:
    for flags, wanted in (
        ([], LinearWarmup(Constant(0.1), 2)),
        (["--schedule", "cosine"], LinearWarmup(CosineDecay(0.1, 18), 2)),
        (["--schedule", "one_cycle"], OneCycle(0.1, 20, warmup=0.1)),
    ):
        assert optimizer_of(*BY_EPOCHS, "--warmup", "0.5", *flags).learning_rate == wanted
    with pytest.raises(UsageError, match=r"^--warmup 5 must be less than the 5 epochs of training$"):
        prepared(*BY_EPOCHS, "--warmup", "5")


def test_decay_every(tools: Tools) -> None:
    for name, make in ("step", StepDecay(0.1, 6, 0.1)), ("exponential", ExponentialDecay(0.1, 0.95, 6)):
        assert optimizer_of(*BY_EPOCHS, "--schedule", name, "--decay-every", "1.5").learning_rate == make


def test_decay_factor(tools: Tools) -> None:
    for name, make in ("step", StepDecay(0.1, 40, 0.5)), ("exponential", ExponentialDecay(0.1, 0.5, 4)):
        assert optimizer_of(*BY_EPOCHS, "--schedule", name, "--decay-factor", "0.5").learning_rate == make
    with pytest.raises(UsageError, match=r"^--decay-factor of the schedule plateau must be below 1, not 1.5$"):
        prepared("--schedule", "plateau", "--decay-factor", "1.5")


def test_min_lr(tools: Tools) -> None:
    of_cosine = optimizer_of(*BY_EPOCHS, "--schedule", "cosine", "--min-lr", "0.01")
    assert of_cosine.learning_rate == CosineDecay(0.1, 20, 0.01)
    # A rate so high that the loss does not fall after the first epochs.
    flags = ["--schedule", "plateau", "--plateau-patience", "0", "--lr", "50", "--epochs", "9"]
    assert trained(*flags, "--min-lr", "40").trainer.optimizer.learning_rate == 40.0


def test_plateau_patience(tools: Tools) -> None:
    flags = ["--schedule", "plateau", "--lr", "50", "--epochs", "9"]
    assert trained(*flags).trainer.optimizer.learning_rate == 50.0
    run = trained(*flags, "--plateau-patience", "0", "--decay-factor", "0.5")
    assert run.trainer.optimizer.learning_rate < 50.0
