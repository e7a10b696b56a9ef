"""The history of a run: its records, by row and by column, in a file and as it shows itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from nn import History, Trainer
from tests.helpers.classification import CLASSIFICATION, network

RECORDS = [{"epoch": 1, "loss": 0.5, "val_loss": 0.75}, {"epoch": 2, "loss": 0.25}]


def test_an_epoch_without_an_evaluation_reads_as_none() -> None:
    history = History(RECORDS)
    assert history["val_loss"] == [0.75, None]
    assert history[-1] == {"epoch": 2, "loss": 0.25}
    assert [record["epoch"] for record in history] == [1, 2]
    with pytest.raises(KeyError, match="has no 'accuracy'; it has epoch, loss, val_loss"):
        history["accuracy"]


def test_a_history_without_epochs_has_empty_columns() -> None:
    history = History()
    assert (len(history), history["loss"], history.stopped, history.to_json_lines()) == (0, [], "", "")
    history.append({"epoch": 1, "loss": 0.5})
    assert history["loss"] == [0.5]
    assert len(History()) == 0  # another one has records of its own


def test_a_history_shows_how_long_it_is_and_its_last_record() -> None:
    assert repr(History()) == "<History of 0 epochs>"
    assert repr(History(RECORDS)) == "<History of 2 epochs: {'epoch': 2, 'loss': 0.25}>"


def test_a_history_is_a_line_an_epoch(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    History(RECORDS).save(str(path))
    assert path.read_text() == '{"epoch": 1, "loss": 0.5, "val_loss": 0.75}\n{"epoch": 2, "loss": 0.25}\n'
    assert History.load(str(path)).records == RECORDS


def test_the_best_epoch_and_the_reason_of_stopping_survive_a_file(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history = History([{"epoch": epoch, "val_loss": 1 / epoch} for epoch in (1, 2, 3)])
    history.stopped, history.best_epoch, history.monitor, history.best_is_kept = "the test", 2, "val_loss", True
    history.save(path)
    assert len(path.read_text().splitlines()) == 3
    again = History.load(path)
    assert again.records == history.records
    assert (again.stopped, again.best_epoch, again.monitor, again.best_is_kept) == ("the test", 2, "val_loss", True)


def test_the_best_epoch_is_told_in_words() -> None:
    history = History([{"epoch": 1, "val_loss": 0.5}, {"epoch": 2, "val_loss": 0.07123}])
    assert history.best_text == ""
    history.best_epoch, history.monitor = 2, "val_loss"
    assert history.best_text == "best epoch 2, val_loss 0.07123"
    history.best_is_kept = True
    assert history.best_text == "best epoch 2, val_loss 0.07123; its weights are in the model"


def test_a_value_that_is_undefined_is_null_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    History([{"epoch": 1, "val_auc": float("nan")}]).save(path)
    assert path.read_text() == '{"epoch": 1, "val_auc": null}\n'
    assert math.isnan(History.load(path)[0]["val_auc"])


def test_history_reads_by_row_and_by_column_and_survives_a_file(tmp_path: Any) -> None:
    history = Trainer(network()).fit(CLASSIFICATION, 3)
    assert history["loss"] == [record["loss"] for record in history]
    assert len(history) == 3
    with pytest.raises(KeyError, match="has no 'val_loss'; it has epoch, loss"):
        history["val_loss"]
    history.save(tmp_path / "history.jsonl")
    assert History.load(tmp_path / "history.jsonl").records == history.records
