"""Logs, event files and saved models: written as epochs end, and gone on with by a run that goes on."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nn import (
    SGD,
    Callback,
    Checkpoint,
    CSVLog,
    JSONLog,
    LambdaCallback,
    LearningRateSchedule,
    Linear,
    Metric,
    SaveModel,
    Sequential,
    Softmax,
    TensorBoard,
    Trainer,
    load_model,
)
from nn.callbacks.logs import LogWarning, log_to
from nn.callbacks.tensorboard import find_library
from nn.history import Record

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4))
DATA = X, (X @ RNG.normal(size=(4, 3))).argmax(axis=1)


def trainer_with(*callbacks: Callback, **settings: Any) -> Trainer:
    return Trainer(Sequential(Linear(4, 3), Softmax(), backend="cpu"), callbacks=callbacks, **settings)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_log_of_json_lines_is_the_history(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    history = trainer_with(JSONLog(path)).fit(DATA, 3, 8, validation=DATA)
    assert [json.loads(line) for line in path.read_text().splitlines()] == history.records


def test_a_log_in_csv_is_the_history_with_empty_cells(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    history = trainer_with(CSVLog(path)).fit(DATA, 4, 8, validation=DATA, validation_every=3)
    lines = table(path)
    assert list(lines[0]) == list(history[0])
    assert [line["val_loss"] == "" for line in lines] == [False, True, False, False]
    for line, record in zip(lines, history, strict=True):
        assert {name: float(value) for name, value in line.items() if value} == record


@pytest.mark.parametrize("name", ["log.jsonl", "log.csv"])
def test_a_line_is_in_the_file_as_soon_as_its_epoch_has_ended(name: str, tmp_path: Path) -> None:
    path, seen = tmp_path / name, []
    look = LambdaCallback(on_epoch_end=lambda trainer, record: seen.append(len(path.read_text().splitlines())))
    trainer_with(log_to(path), look).fit(DATA, 3, 8)
    head = name.endswith("csv")
    assert seen == [1 + head, 2 + head, 3 + head]


@pytest.mark.parametrize("name", ["log.jsonl", "log.csv"])
def test_a_run_that_goes_on_appends_its_own_epochs(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    trainer = trainer_with(log_to(path))
    trainer.fit(DATA, 5, 8)
    again = trainer_with(log_to(path))  # from a checkpoint of epoch 3, say
    again.epoch = 3
    again.fit(DATA, 4, 8, validation=DATA)
    records = [json.loads(line) for line in path.read_text().splitlines()] if name == "log.jsonl" else table(path)
    assert [int(record["epoch"]) for record in records] == [1, 2, 3, 4, 5, 6, 7]
    assert float(records[2]["loss"]) == trainer.history["loss"][2]
    assert float(records[3]["loss"]) == again.history["loss"][0]
    assert [bool(record.get("val_loss")) for record in records] == [False] * 3 + [True] * 4
    trainer_with(log_to(path)).fit(DATA, 1, 8)  # a new run
    assert len(path.read_text().splitlines()) == (1 if name == "log.jsonl" else 2)


@pytest.mark.parametrize("name", ["log.jsonl", "log.csv"])
def test_a_file_that_is_no_log_is_left_alone(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("length,width\n1,2\n")
    trainer = trainer_with(log_to(path))
    with pytest.raises(ValueError, match=r"log\.\w+ is there already, and is no log of epochs; name another"):
        trainer.fit(DATA, 1)
    assert path.read_text() == "length,width\n1,2\n"
    assert trainer.model.step == 0


def test_a_log_without_a_folder_is_told_before_training(tmp_path: Path) -> None:
    trainer = trainer_with(JSONLog(tmp_path / "nowhere" / "log.jsonl"))
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        trainer.fit(DATA, 1)
    assert trainer.model.step == 0


def test_the_ending_of_a_name_decides_the_kind_of_a_log() -> None:
    assert isinstance(log_to("a.jsonl"), JSONLog)
    assert isinstance(log_to("a.CSV"), CSVLog)
    with pytest.raises(ValueError, match=r"ends in \.jsonl or \.csv, not 'a\.txt'"):
        log_to("a.txt")


def test_a_value_that_is_undefined_is_null_or_nan(tmp_path: Path) -> None:
    metrics = [Metric("odd", lambda targets, found: float("nan"))]
    trainer = trainer_with(JSONLog(tmp_path / "a.jsonl"), CSVLog(tmp_path / "a.csv"), metrics=metrics)
    trainer.fit(DATA, 1, validation=DATA)
    assert json.loads((tmp_path / "a.jsonl").read_text())["val_odd"] is None
    assert table(tmp_path / "a.csv")[0]["val_odd"] == "nan"


# ---- TensorBoard -----------------------------------------------------------------------------------------------------


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard itself reads."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulator.EventAccumulator(str(folder))
    read.Reload()
    return {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


@pytest.mark.parametrize("library", ["tensorboardX", "tensorboard"])
def test_a_folder_for_event_files_that_is_none_is_refused(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(library)
    monkeypatch.setattr("nn.callbacks.tensorboard.find_library", lambda: library)
    (tmp_path / "file").write_text("mine")
    trainer = trainer_with(TensorBoard(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"file cannot be made, or not written to: .*; name another folder"):
        trainer.fit(DATA)
    assert trainer.epoch == 0
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("library", ["tensorboardX", "tensorboard"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_reads_the_history(library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(library)
    monkeypatch.setattr("nn.callbacks.tensorboard.find_library", lambda: library)
    history = trainer_with(TensorBoard(tmp_path)).fit(DATA, 3, 8, validation=DATA)
    found = events(tmp_path)
    assert set(found) == {
        "loss/training", "loss/validation", "accuracy/training", "accuracy/validation", "learning_rate",
        "rows_per_second",
    }  # fmt: skip
    for tag, column in (("loss/training", "loss"), ("accuracy/validation", "val_accuracy")):
        assert [step for step, _ in found[tag]] == [1, 2, 3]
        np.testing.assert_allclose([value for _, value in found[tag]], history[column], rtol=1e-6)


@pytest.mark.parametrize("library", ["tensorboardX", "tensorboard"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_shows_each_epoch_of_a_run_that_goes_on_once(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(library)
    monkeypatch.setattr("nn.callbacks.tensorboard.find_library", lambda: library)
    trainer_with(TensorBoard(tmp_path)).fit(DATA, 5, 8)
    again = trainer_with(TensorBoard(tmp_path), optimizer=SGD(0.01))
    again.epoch = 3
    again.fit(DATA, 3, 8)
    found = dict(events(tmp_path)["loss/training"])
    assert list(found) == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose([found[4], found[5], found[6]], again.history["loss"], rtol=1e-6)


def test_without_a_library_for_event_files_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"event files for TensorBoard need a library .* pip install tensorboardX"):
        TensorBoard(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True if name == "tensorboard" else None)
    assert find_library() == "tensorboard"


# ---- what goes wrong while training runs -----------------------------------------------------------------------------

LIBRARIES = [name for name in ("tensorboardX", "tensorboard") if importlib.util.find_spec(name) is not None]


@contextmanager
def files_may_not_grow(path: Path) -> Iterator[None]:
    """As on a full disk: no file may be larger than this one is now."""
    resource = pytest.importorskip("resource", reason="this system has no limits on files")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def in_epochs(first: int, last: int, before: Callable[[], Any], after: Callable[[], Any]) -> list[Callback]:
    """Callbacks that call ``before`` when an epoch begins, and ``after`` when another one has ended."""

    def begins(trainer: Trainer, epoch: int) -> None:
        if epoch == first:
            before()

    def ends(trainer: Trainer, record: Record) -> None:
        if record["epoch"] == last:
            after()

    return [LambdaCallback(on_epoch_begin=begins, on_epoch_end=ends)]


@pytest.mark.parametrize("name", ["log.jsonl", "log.csv"])
def test_a_full_disk_costs_no_training_and_what_is_missing_is_written_later(name: str, tmp_path: Path) -> None:
    path, stack = tmp_path / name, ExitStack()
    full = in_epochs(3, 90, lambda: stack.enter_context(files_may_not_grow(path)), stack.close)
    trainer = trainer_with(log_to(path), *full)
    with stack, pytest.warns(LogWarning, match=rf"{name} cannot be written: File too large; training goes on") as seen:
        trainer.fit(DATA, 100, 8)
    assert len(seen) == 1
    records = [json.loads(line) for line in path.read_text().splitlines()] if name == "log.jsonl" else table(path)
    assert [float(record["loss"]) for record in records] == trainer.history["loss"]
    assert len(records) == 100


@pytest.mark.parametrize("name", ["log.jsonl", "log.csv"])
def test_a_log_that_is_deleted_is_written_again(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    gone = in_epochs(3, 5, lambda: shutil.rmtree(folder), folder.mkdir)
    trainer = trainer_with(log_to(folder / name), *gone)
    with pytest.warns(LogWarning, match="there is no folder") as seen:
        trainer.fit(DATA, 7, 8)
    assert len(seen) == 1
    assert len((folder / name).read_text().splitlines()) == (7 if name == "log.jsonl" else 8)
    unlinked = in_epochs(3, 3, (folder / name).unlink, lambda: None)
    trainer_with(log_to(folder / name), *unlinked).fit(DATA, 4, 8)  # without a warning
    assert len((folder / name).read_text().splitlines()) == (4 if name == "log.jsonl" else 5)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_event_files_that_cannot_be_written_cost_no_training(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of more epochs than the libraries' own queues hold, which would wait for ever."""
    monkeypatch.setattr("nn.callbacks.tensorboard.find_library", lambda: library)
    folder, stack = tmp_path / "full", ExitStack()
    full = in_epochs(3, 30, lambda: stack.enter_context(files_may_not_grow(next(folder.iterdir()))), stack.close)
    trainer = trainer_with(TensorBoard(folder), *full)
    with stack, pytest.warns(LogWarning, match="full cannot be written: File too large; training goes on") as seen:
        trainer.fit(DATA, 40, 8)
    assert len(seen) == 1
    assert [step for step, _ in events(folder)["loss/training"]] == list(range(1, 41))
    gone = in_epochs(3, 5, lambda: shutil.rmtree(folder), lambda: None)
    history = trainer_with(TensorBoard(folder), *gone).fit(DATA, 7, 8)
    found = events(folder)["loss/training"]
    assert [step for step, _ in found] == [1, 2, 3, 4, 5, 6, 7]
    np.testing.assert_allclose([value for _, value in found], history["loss"], rtol=1e-6)


@pytest.mark.parametrize("name", ["log.jsonl", "log.csv"])
def test_an_interrupted_epoch_is_marked_and_then_whole(name: str, tmp_path: Path) -> None:
    path, checkpoints = tmp_path / name, tmp_path / "checkpoints"

    def read() -> list[dict[str, Any]]:
        return [json.loads(line) for line in path.read_text().splitlines()] if name == "log.jsonl" else table(path)

    class Stops(Callback):
        reads_gradients = False

        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            if trainer.epoch == 3 and trainer.seen == 16:
                trainer.interrupt("a signal")

    trainer_with(log_to(path), Stops(), Checkpoint(checkpoints)).fit(DATA, 5, 8)
    marked = read()
    assert [record.get("interrupted") or "" for record in marked[:2]] == ["", ""]
    assert int(marked[2]["interrupted"]) == 16
    resumed = trainer_with(log_to(path), Checkpoint(checkpoints))
    resumed.resume(checkpoints)
    resumed.fit(DATA, 5, 8)
    records = read()
    assert [int(record["epoch"]) for record in records] == [1, 2, 3, 4, 5]
    assert not any("interrupted" in record for record in records)
    assert {record["run"] for record in records} == {resumed.history.run}
    whole = trainer_with()
    whole.fit(DATA, 5, 8)
    assert [float(record["loss"]) for record in records] == whole.history["loss"]


# ---- saved models ----------------------------------------------------------------------------------------------------


def test_a_model_is_saved_after_every_so_many_epochs_and_the_last(tmp_path: Path) -> None:
    save = SaveModel(tmp_path / "epoch-{epoch:02d}.safetensors", every=2)
    trainer = trainer_with(save)
    trainer.fit(DATA, 5, 8)
    assert [path.name for path in save.saved] == [f"epoch-0{n}.safetensors" for n in (2, 4, 5)]
    twin = trainer_with()
    twin.fit(DATA, 2, 8)
    saved = load_model(save.saved[0], "cpu")
    for name, values in twin.model.state_dict().items():
        np.testing.assert_array_equal(saved.state_dict()[name], values)


def test_only_the_best_models_are_saved(tmp_path: Path) -> None:
    left = [1.0, 3.0, 2.0, 4.0]
    metric = Metric("score", lambda targets, found: left.pop(0), larger_is_better=True)
    save = SaveModel(tmp_path / "best-{val_score:.0f}.safetensors", monitor="val_score")
    trainer_with(save, metrics=[metric]).fit(DATA, 4, 8, validation=DATA)
    assert [path.name for path in save.saved] == ["best-1.safetensors", "best-3.safetensors", "best-4.safetensors"]


def test_the_last_epoch_of_a_run_that_is_stopped_is_saved(tmp_path: Path) -> None:
    stop = LambdaCallback(on_batch_end=lambda trainer, rows: trainer.stop("enough") if trainer.epoch == 3 else None)
    save = SaveModel(tmp_path / "{epoch}.safetensors", every=10)
    trainer_with(stop, save).fit(DATA, 9, 8)
    assert [path.name for path in save.saved] == ["3.safetensors"]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("nowhere/a.safetensors", {}, "cannot be written: there is no folder"),
        ("{val_loss}.safetensors", {}, r"there is no {val_loss} \(there are epoch, loss, accuracy, learning_rate"),
        ("a.safetensors", {"monitor": "val_loss"}, "no 'val_loss' to monitor, as there are no validation rows"),
    ],
)
def test_what_cannot_be_saved_is_told_before_training(
    name: str, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    trainer = trainer_with(SaveModel(tmp_path / name, **settings))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        trainer.fit(DATA, 1)
    assert trainer.model.step == 0
    with pytest.raises(ValueError, match="every must be a whole number of at least 1, not 0"):
        SaveModel("a.safetensors", every=0)


# ---- learning rates by epoch -----------------------------------------------------------------------------------------


def test_the_learning_rate_of_each_epoch_is_that_of_the_function() -> None:
    scheduled = trainer_with(LearningRateSchedule(lambda epoch: 0.5 / epoch), optimizer=SGD(9.0))
    assert scheduled.fit(DATA, 3, 8)["learning_rate"] == [0.5, 0.25, 0.5 / 3]
    by_hand = trainer_with(optimizer=SGD(0.5))
    for epoch in (1, 2, 3):
        by_hand.optimizer.learning_rate = 0.5 / epoch
        by_hand.fit(DATA, 1, 8)
    assert scheduled.history["loss"] == by_hand.history["loss"]


def test_a_function_that_gives_no_rate_is_refused() -> None:
    for bad in (-1.0, float("nan"), "much", None):
        with pytest.raises(ValueError, match="the learning rate of epoch 1 must be a number of at least 0, not "):
            trainer_with(LearningRateSchedule(lambda epoch, bad=bad: bad)).fit(DATA, 1)  # type: ignore[misc]
    with pytest.raises(TypeError, match=r"rate is a function of the epoch, not 0\.1"):
        LearningRateSchedule(0.1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the optimizer's learning rate is a schedule already"):
        trainer_with(LearningRateSchedule(lambda epoch: 0.1), optimizer=SGD(lambda update: 0.1)).fit(DATA, 1)
