"""How long a run trains, on which batches, and what is done around updates."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import train
from nn import Callback, Trainer, load_model
from tests.cli.settings.runs import ONE_STEP, Tools, losses, parameters, prepared, trained


def test_epochs(tools: Tools) -> None:
    for count in (0, 1, 3):
        assert len(trained("--epochs", str(count)).trainer.history) == count
    assert parameters(trained("--epochs", "0"))["0.weight"].tolist() == parameters(prepared())["0.weight"].tolist()


def test_batch_size(tools: Tools) -> None:
    for size in (50, 120, 1):
        assert trained("--batch-size", str(size)).trainer.model.step == 2 * math.ceil(120 / size)
    assert trained("--batch-size", "full").trainer.model.step == 2


def test_shuffle(tools: Tools) -> None:
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


def test_clip_norm(tools: Tools) -> None:
    assert_one_clipped_step(["--clip-norm", "0.01"], lambda g: g * 0.01 / (np.sqrt(np.sum(g * g)) + 1e-6))
    assert_one_clipped_step(["--clip-norm", "1000"], lambda g: g)


def test_clip_value(tools: Tools) -> None:
    assert_one_clipped_step(["--clip-value", "0.002"], lambda g: np.clip(g, -0.002, 0.002))


def test_accumulate(tools: Tools) -> None:
    """As batches so many times as large; the same updates, more steps."""
    flags = ["--dtype", "float64", "--batch-size"]
    large, several = trained(*flags, "30"), trained(*flags, "10", "--accumulate", "3")
    for name, values in parameters(large).items():
        np.testing.assert_allclose(parameters(several)[name], values, rtol=1e-9, atol=1e-12)
    assert (several.trainer.optimizer.steps, several.trainer.model.step) == (8, 24)


def test_blocks(tools: Tools) -> None:
    in_blocks = prepared("--blocks", "4").trainer.blocks
    assert in_blocks is not None
    assert in_blocks.count == 4
    assert prepared().trainer.blocks is None
    assert "processes this one alone; batches in 4 blocks of rows\n" in tools.printed("--blocks", "4")


def test_average(tools: Tools) -> None:
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


def test_seed(tools: Tools) -> None:
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
