"""When training ends before its last epoch."""

from __future__ import annotations

import numpy as np

import train
from tests.cli.settings.runs import SMALL, Tools, parameters, trained


def stopping(*flags: str) -> train.Run:
    """Sixty epochs at most, with a rate at which the validation loss soon becomes worse."""
    return trained("--epochs", "60", "--validation", "0.3", "--lr", "1.0", *flags)


def test_early_stopping(tools: Tools) -> None:
    history = stopping("--early-stopping", "4").trainer.history
    losses = history["val_loss"]
    assert (len(history), history.best_epoch) == (losses.index(min(losses)) + 5, losses.index(min(losses)) + 1)
    assert history.stopped == "early stopping: val_loss has not become better for 4 epochs"
    out = tools.printed("--epochs", "60", "--validation", "0.3", "--lr", "1.0", "--early-stopping", "4")
    assert f"\nbest epoch {history.best_epoch}, val_loss {min(losses):.4g}; its weights are in the model\n" in out
    assert f"\nstopped by {history.stopped}\n" in out
    without_rows = trained("--early-stopping", "1").trainer.history
    assert (without_rows.monitor, without_rows.best_epoch) == ("loss", 2)


def test_monitor(tools: Tools) -> None:
    history = stopping("--early-stopping", "4", "--monitor", "val_accuracy").trainer.history
    accuracies = history["val_accuracy"]
    assert (history.monitor, history.best_epoch) == ("val_accuracy", accuracies.index(max(accuracies)) + 1)
    assert train.main([*SMALL, "--early-stopping", "4", "--monitor", "val_luck", "--quiet"]) == 2
    assert "there is no 'val_luck' to monitor, as there are no validation rows" in tools.capsys.readouterr().err


def test_min_delta(tools: Tools) -> None:
    history = trained("--epochs", "9", "--early-stopping", "2", "--min-delta", "100").trainer.history
    assert (history.best_epoch, len(history)) == (1, 3)  # nothing is better by so much


def test_restore_best(tools: Tools) -> None:
    kept, last = stopping("--early-stopping", "4"), stopping("--early-stopping", "4", "--no-restore-best")
    best = kept.trainer.history.best_epoch
    assert kept.trainer.history["val_loss"] == last.trainer.history["val_loss"]
    assert (kept.trainer.history.best_is_kept, last.trainer.history.best_is_kept) == (True, False)
    for run, epochs in ((kept, best), (last, len(last.trainer.history))):
        twin = trained("--epochs", str(epochs), "--validation", "0.3", "--lr", "1.0")
        for name, values in parameters(run).items():
            np.testing.assert_array_equal(values, parameters(twin)[name])
