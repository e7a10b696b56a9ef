from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pytest
import tqdm

from nn import Callback, EarlyStopping, Linear, Metric, PrintEpochs, ProgressBar, Sequential, Softmax, Trainer

DATA = (np.eye(6), np.arange(6) % 2)


def trainer(*callbacks: Callback) -> Trainer:
    return Trainer(Sequential(Linear(6, 2), Softmax(), backend="cpu"), callbacks=callbacks)


def test_a_line_for_each_epoch() -> None:
    out = io.StringIO()
    trainer(PrintEpochs(file=out)).fit(DATA, 3, 2, validation=DATA)
    head, *lines = out.getvalue().splitlines()
    assert head.split() == ["epoch", "loss", "accuracy", "val", "loss", "val", "acc.", "rows/s", "seconds"]
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert len({len(line) for line in [head, *lines]}) == 1


def test_every_tenth_epoch_and_the_last() -> None:
    out = io.StringIO()
    trainer(PrintEpochs(every=10, file=out)).fit(DATA, 25, 6)
    assert [line.split()[0] for line in out.getvalue().splitlines()[1:]] == ["1", "10", "20", "25"]


def test_a_line_has_a_cell_for_each_column_of_the_first_epoch() -> None:
    out = io.StringIO()
    history = trainer(PrintEpochs(file=out)).fit(DATA, 4, 6, validation=DATA, validation_every=3)
    head, *lines = out.getvalue().splitlines()
    assert len({len(line) for line in [head, *lines]}) == 1
    for line, record in zip(lines, history, strict=True):
        expected = [str(record["epoch"]), f"{record['loss']:.5f}", f"{record['accuracy']:.2%}"]
        if "val_loss" in record:
            expected += [f"{record['val_loss']:.5f}", f"{record['val_accuracy']:.2%}"]
        expected += [f"{record['rows_per_second']:,.0f}", f"{record['seconds']:.2f}"]
        assert line.split() == expected


def test_a_run_that_is_stopped_prints_its_last_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    class Stop(Callback):
        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            if trainer.epoch == 3:
                trainer.stop("the test")

    trainer(PrintEpochs(every=10), Stop()).fit(DATA, 25, 6)  # to standard output
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["epoch", "1", "3"]


def test_epochs_of_a_second_fit_are_counted_on() -> None:
    out = io.StringIO()
    again = trainer(PrintEpochs(every=10, file=out))
    again.fit(DATA, 2, 6)
    again.fit(DATA, 2, 6)
    lines = [line.split()[0] for line in out.getvalue().splitlines()]
    assert lines == ["epoch", "1", "2", "epoch", "4"]


def test_the_bar_counts_rows_on_a_terminal_only(capsys: pytest.CaptureFixture[str]) -> None:
    trainer(ProgressBar()).fit(DATA, 2, 2)
    assert capsys.readouterr().err == ""
    trainer(ProgressBar(disable=False)).fit(DATA, 2, 2)
    shown = capsys.readouterr().err
    assert "/12.0" in shown  # rows of both epochs
    assert "row/s" in shown


def test_the_bar_names_the_epoch(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    bars = []

    class Seen(tqdm.tqdm):  # type: ignore[misc]
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            bars.append(self)

    monkeypatch.setattr(tqdm, "tqdm", Seen)
    seen = []

    class Look(Callback):
        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            seen.append((bars[0].desc, bars[0].n))

    trainer(ProgressBar(disable=False), Look()).fit(DATA, 2, 4)
    assert bars[0].leave is False  # nothing of it stays on the terminal
    assert seen == [("epoch 1/2: ", 4), ("epoch 1/2: ", 6), ("epoch 2/2: ", 10), ("epoch 2/2: ", 12)]


def test_metrics_have_columns_and_the_best_epoch_is_told_in_the_end() -> None:
    out = io.StringIO()
    left = [0.25, 0.75, 0.5]
    score = Metric("score", lambda targets, found: left.pop(0), larger_is_better=True)
    model = Sequential(Linear(6, 2), Softmax(), backend="cpu")
    Trainer(model, callbacks=[PrintEpochs(file=out), EarlyStopping("val_score")], metrics=[score]).fit(
        DATA, 3, 2, validation=DATA
    )
    head, *lines, best = out.getvalue().splitlines()
    assert re.split(r" {2,}", head.strip()) == [
        "epoch", "loss", "accuracy", "val loss", "val acc.", "val score", "rows/s", "seconds"
    ]  # fmt: skip
    assert [line.split()[5] for line in lines] == ["0.2500", "0.7500", "0.5000"]
    assert best == "best epoch 2, val_score 0.75; its weights are in the model"


def test_values_have_no_accuracy() -> None:
    out = io.StringIO()
    model = Sequential(Linear(6, 1), backend="cpu")
    Trainer(model, "mse", callbacks=[PrintEpochs(file=out)]).fit((np.eye(6), np.arange(6) / 6), 1, 2, validation=0.5)
    assert out.getvalue().splitlines()[0].split() == ["epoch", "loss", "val", "loss", "rows/s", "seconds"]
