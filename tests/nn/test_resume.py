"""A run that is interrupted goes on bit for bit: stopped anywhere, up to five times, with everything on."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nn import (
    SGD,
    Adam,
    BatchNorm,
    Callback,
    Checkpoint,
    CheckpointError,
    CheckpointWarning,
    EarlyStopping,
    Linear,
    ReLU,
    SaveModel,
    Sequential,
    Softmax,
    Trainer,
    TrainingDiverged,
    load_model,
    save_model,
)
from nn.callbacks import CallbackError
from nn.storage.checkpoint import checkpoints_in, read_checkpoint, write_checkpoint
from tests.helpers.emulated_cuda import needs_compiler
from tests.helpers.resumed import EPOCHS, HELD_OUT, RUNS, Kill, Killed, X, Y, fit, model, outcome


def interrupted_run(folder: Path, name: str, backend: str, kills: list[Kill], **often: Any) -> Trainer:
    """A run in several processes, as it were: each one is killed, but for the last."""
    for kill in kills:
        trainer = RUNS[name](backend)
        trainer.resume(folder, missing_ok=True)
        try:
            fit(trainer, Checkpoint(folder, **often), kill)
        except Killed:
            continue
        return trainer
    trainer = RUNS[name](backend)
    trainer.resume(folder, missing_ok=True)
    fit(trainer, Checkpoint(folder, **often))
    return trainer


@pytest.mark.parametrize("backend", ["cpu", pytest.param("cpu/reference", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_is_killed_once_goes_on_bit_for_bit(tmp_path: Path, name: str, backend: str) -> None:
    whole = RUNS[name](backend)
    fit(whole)
    for batch in (1, 7, 9, 20):
        trainer = interrupted_run(tmp_path / str(batch), name, backend, [Kill(batch)], steps=1)
        assert outcome(trainer) == outcome(whole)


@needs_compiler
@pytest.mark.parametrize("name", RUNS)
def test_a_run_on_a_gpu_goes_on_bit_for_bit_with_its_recorded_steps(tmp_path: Path, name: str) -> None:
    whole = RUNS[name]("emulated")
    fit(whole)
    trainer = interrupted_run(tmp_path, name, "emulated", [Kill(9), Kill(4)], steps=1)  # in the middle of epochs
    assert trainer.backend.why_eager == ""
    assert outcome(trainer) == outcome(whole)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from([*RUNS]),
    kills=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), min_size=1, max_size=5),
    often=st.sampled_from([{"steps": 1}, {"steps": 3}, {"epochs": 1}, {"epochs": 2}, {"minutes": 1e-9}]),
)
def test_a_run_that_is_killed_up_to_five_times_goes_on_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, name: str, kills: list[tuple[int, int]], often: dict[str, Any]
) -> None:
    whole = RUNS[name]("cpu")
    fit(whole)
    folder = tmp_path_factory.mktemp("run")
    trainer = interrupted_run(folder, name, "cpu", [Kill(*kill) for kill in kills], **often)
    assert outcome(trainer) == outcome(whole)
    assert len(checkpoints_in(folder)) <= 2


def test_an_interrupted_run_tells_of_its_epoch_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    class Interrupt(Callback):
        reads_gradients = False

        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            if trainer.model.step == 10:
                trainer.interrupt("SIGTERM")

    whole = RUNS["momentum"]("cpu")
    fit(whole)
    trainer = RUNS["momentum"]("cpu")
    fit(trainer, Checkpoint(tmp_path), Interrupt())
    assert trainer.interrupted
    assert trainer.history.stopped == "SIGTERM"
    assert trainer.history[-1]["interrupted"] == 24  # three batches of eight in the second epoch
    assert "val_loss" not in trainer.history[-1]
    assert trainer.epoch == 2
    later = RUNS["momentum"]("cpu")
    assert later.resume(tmp_path)
    assert len(later.history) == 1
    fit(later)
    assert not later.interrupted
    assert outcome(later) == outcome(whole)


def test_a_run_interrupted_between_epochs_has_a_checkpoint_of_that_moment(tmp_path: Path) -> None:
    class Interrupt(Callback):
        comes_last = True

        def on_epoch_end(self, trainer: Trainer, record: dict[str, Any]) -> None:
            if record["epoch"] == 3:
                trainer.interrupt("SIGTERM")

    whole = RUNS["early stopping"]("cpu")
    fit(whole)
    trainer = RUNS["early stopping"]("cpu")
    fit(trainer, Checkpoint(tmp_path), Interrupt())  # which is called after the checkpoint's own
    assert "interrupted" not in trainer.history[-1]
    later = RUNS["early stopping"]("cpu")
    later.resume(tmp_path)
    assert later.epoch == 3
    fit(later)
    assert outcome(later) == outcome(whole)


def test_a_finished_run_has_nothing_left_to_do_and_can_be_made_longer(tmp_path: Path) -> None:
    whole = RUNS["momentum"]("cpu")
    fit(whole, Checkpoint(tmp_path))
    again = RUNS["momentum"]("cpu")
    again.resume(tmp_path)
    fit(again)
    assert outcome(again) == outcome(whole)
    longer, at_once = RUNS["momentum"]("cpu"), RUNS["momentum"]("cpu")
    longer.resume(tmp_path)
    fit(longer, epochs=EPOCHS + 2)
    fit(at_once, epochs=EPOCHS + 2)
    assert outcome(longer) == outcome(at_once)


def test_a_run_that_early_stopping_ended_is_still_ended(tmp_path: Path) -> None:
    def make() -> Trainer:
        return Trainer(model(), optimizer=SGD(1e-9), callbacks=[EarlyStopping("loss", patience=1, min_delta=1.0)])

    whole = make()
    fit(whole, Checkpoint(tmp_path))
    assert whole.history.stopped.startswith("early stopping")
    again = make()
    again.resume(tmp_path)
    fit(again)
    assert outcome(again) == outcome(whole)


def test_the_second_of_two_fits_goes_on(tmp_path: Path) -> None:
    def make() -> Trainer:
        return Trainer(model(), optimizer=SGD(0.1, momentum=0.9))

    whole = make()
    fit(whole, epochs=2)
    fit(whole, epochs=3, batch_size=10)
    trainer = make()
    fit(trainer, Checkpoint(tmp_path), epochs=2)
    with pytest.raises(Killed):
        fit(trainer, Checkpoint(tmp_path, steps=1), Kill(7), epochs=3, batch_size=10)
    later = make()
    later.resume(tmp_path)
    fit(later, Checkpoint(tmp_path), epochs=3, batch_size=10)
    assert outcome(later) == outcome(whole)


def test_a_divergence_after_the_resume_is_the_same(tmp_path: Path) -> None:
    class Explode(Callback):
        def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
            if epoch == 3:
                trainer.optimizer.learning_rate = 1e30

    def make() -> Trainer:
        return Trainer(Sequential(Linear(6, 9), ReLU(), Linear(9, 2), backend="cpu"), "mse", SGD(0.1, momentum=0.9))

    whole = make()
    with pytest.raises(TrainingDiverged) as error:
        whole.fit((X, X[:, :2]), 4, 8, callbacks=[Explode()])
    trainer = make()
    with pytest.raises(Killed):
        trainer.fit((X, X[:, :2]), 4, 8, callbacks=[Explode(), Checkpoint(tmp_path, steps=1), Kill(15)])
    later = make()
    later.resume(tmp_path)
    assert later.seen == 8
    with pytest.raises(TrainingDiverged) as again:
        later.fit((X, X[:, :2]), 4, 8, callbacks=[Explode()])
    assert str(again.value) == str(error.value)
    assert outcome(later) == outcome(whole)


def test_a_model_that_callbacks_save_is_the_same(tmp_path: Path) -> None:
    def make(folder: Path) -> Trainer:
        folder.mkdir(exist_ok=True)
        return Trainer(model(), optimizer=SGD(0.1), callbacks=[SaveModel(str(folder / "best.safetensors"), "val_loss")])

    fit(make(tmp_path / "whole"))
    folder = tmp_path / "killed"
    with pytest.raises(Killed):
        fit(make(folder), Checkpoint(folder, steps=1), Kill(25))
    later = make(folder)
    later.resume(folder)
    fit(later)
    best = [load_model(path / "best.safetensors", "cpu").state_dict() for path in (tmp_path / "whole", folder)]
    assert all((best[0][name] == best[1][name]).all() for name in best[0])


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the checkpoint of an interrupted run."""
    with pytest.raises(Killed):
        fit(RUNS["momentum"]("cpu"), Checkpoint(tmp_path, steps=1), Kill(10))
    return tmp_path


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Trainer(model(seed=4), optimizer=SGD(0.1, momentum=0.9)), "its seed is 3, and here 4"),
        (lambda: Trainer(model(), optimizer=SGD(0.1)), "its optimizer.momentum is 0.9, and here 0"),
        (lambda: Trainer(model(), optimizer=SGD(0.2, momentum=0.9)), "learning_rate is 0.1, and here 0.2"),
        (lambda: Trainer(model(), optimizer=Adam(0.1)), "its optimizer is sgd, and here adam"),
        (
            lambda: Trainer(Sequential(Linear(6, 2), Softmax(), backend="cpu", seed=3), optimizer=SGD(0.1)),
            "its number of layers is 6, and here 2",
        ),
        (
            lambda: Trainer(
                Sequential(*(Linear(6, 13), BatchNorm(13), *model().layers[2:4], Linear(13, 2), Softmax()), seed=3)
            ),
            "its layers[0].out_features is 12, and here 13",
        ),
        (
            lambda: Trainer(model(), optimizer=SGD(0.1, momentum=0.9, weight_decay=1e-3)),
            "its clip_norm is 0.5, and here None",
        ),
    ],
)  # fmt: skip
def test_another_trainer_is_refused_with_the_difference(folder: Path, make: Callable[[], Trainer], said: str) -> None:
    trainer = make()
    before = outcome(trainer)
    with pytest.raises(CheckpointError) as error:
        trainer.resume(folder)
    assert said in str(error.value)
    assert outcome(trainer) == before


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"batch_size": 10}, "its batch_size is 8, and here 10"),
        ({"shuffle": False}, "its shuffle is True, and here False"),
        ({"validation_every": 1}, "its validation_every is 2, and here 1"),
        ({"validation": None}, "it has validation rows, and here there are none"),
        ({"validation": (X[:14], Y[:14])}, "its validation rows are 15, and here 14"),
        ({"validation": (X[1:16], Y[1:16])}, "its validation rows are others than those here"),
        ({"sample_weight": np.arange(50)}, "its rows to train on are others than those here"),
    ],
)
def test_another_fit_is_refused_with_the_difference(folder: Path, changed: dict[str, Any], said: str) -> None:
    trainer = RUNS["momentum"]("cpu")
    trainer.resume(folder)
    with pytest.raises(CheckpointError) as error:
        fit(trainer, **changed)
    assert said in str(error.value)
    whole = RUNS["momentum"]("cpu")
    fit(whole)
    fit(trainer)  # what was refused has done no harm
    assert outcome(trainer) == outcome(whole)


def test_other_rows_are_refused(folder: Path) -> None:
    trainer = RUNS["momentum"]("cpu")
    trainer.resume(folder)
    other = X.copy()
    other[7, 3] = np.nextafter(other[7, 3], np.float32(1.0))
    with pytest.raises(CheckpointError, match="its rows to train on are others than those here"):
        trainer.fit(other, Y, EPOCHS, 8, validation=HELD_OUT, validation_every=2)


def test_other_callbacks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        fit(RUNS["early stopping"]("cpu"), Checkpoint(tmp_path, steps=1), Kill(10))
    trainer = RUNS["early stopping"]("cpu")
    trainer.callbacks = []
    trainer.resume(tmp_path)
    with pytest.raises(CheckpointError, match="its callbacks with a memory are EarlyStopping, and here none"):
        fit(trainer)
    trainer.callbacks = [EarlyStopping(patience=3)]
    with pytest.raises(CheckpointError, match=r"its EarlyStopping.patience is 2, and here 3"):
        fit(trainer)


def test_a_folder_with_another_run_is_refused_or_replaced(folder: Path) -> None:
    there = [path.read_bytes() for path in checkpoints_in(folder)]
    trainer = RUNS["momentum"]("cpu")
    with pytest.raises(CallbackError, match="has checkpoints of another run"):
        fit(trainer, Checkpoint(folder))
    assert trainer.model.step == 0
    assert [path.read_bytes() for path in checkpoints_in(folder)] == there
    fit(trainer, Checkpoint(folder, overwrite=True))
    assert {read_checkpoint(path)["run"] for path in checkpoints_in(folder)} == {trainer.history.run}


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    trainer = RUNS["momentum"]("cpu")
    assert not trainer.resume(tmp_path, missing_ok=True)
    assert not trainer.resume(tmp_path / "nothing", missing_ok=True)
    with pytest.raises(FileNotFoundError, match="there is no checkpoint to resume"):
        trainer.resume(tmp_path)


# ---- files -----------------------------------------------------------------------------------------------------------


def test_two_are_kept_and_a_damaged_one_is_passed_over(folder: Path) -> None:
    newest, older = checkpoints_in(folder)
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    trainer = RUNS["momentum"]("cpu")
    with pytest.warns(CheckpointWarning, match="checksum"):
        trainer.resume(folder)
    assert trainer.model.step == read_checkpoint(older)["numbers"]["model.step"]
    whole = RUNS["momentum"]("cpu")
    fit(whole)
    fit(trainer, Checkpoint(folder))
    assert outcome(trainer) == outcome(whole)
    for path in checkpoints_in(folder):
        path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="is no checkpoint of xpnet"):
        RUNS["momentum"]("cpu").resume(folder)


def test_a_newer_version_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nn.storage.checkpoint.FORMAT", 99)
    write_checkpoint(folder / "new", {"run": "x"})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="a newer version of xpnet wrote it"):
        read_checkpoint(checkpoints_in(folder / "new")[0])


def test_every_kind_of_value_comes_back(tmp_path: Path) -> None:
    state = {
        "numbers": [1, -2.5, math.inf, -math.inf, True, None, "text", 0.1],
        "arrays": {"a": np.arange(6.0).reshape(2, 3), "b": [np.zeros(0, np.float32), np.array([1, 2])]},
        "scalar": np.float64(0.3),
    }
    path = write_checkpoint(tmp_path, state)
    again = read_checkpoint(path)
    assert again["numbers"] == state["numbers"]
    assert (again["arrays"]["a"] == state["arrays"]["a"]).all()  # type: ignore[index]
    assert again["arrays"]["b"][0].dtype == np.float32
    assert again["arrays"]["b"][1].tolist() == [1, 2]
    assert again["scalar"] == 0.3
    assert math.isnan(read_checkpoint(write_checkpoint(tmp_path, {"x": math.nan}))["x"])
    with pytest.raises(TypeError, match="a checkpoint can hold"):
        write_checkpoint(tmp_path, {"x": object()})


def test_a_disk_that_is_full_costs_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = True

    def write(path: Path, content: bytes) -> None:
        if full:
            raise OSError(28, "No space left on device", str(path))
        path.write_bytes(content)

    monkeypatch.setattr("nn.storage.checkpoint.write_atomically", write)
    trainer, checkpoint = RUNS["momentum"]("cpu"), Checkpoint(tmp_path, epochs=1)
    with pytest.warns(CheckpointWarning, match="No space left on device.*training goes on") as warned:
        fit(trainer, checkpoint)
    assert len(warned) == 1
    assert "No space left" in checkpoint.failure
    assert len(trainer.history) == EPOCHS
    full = False
    fit(trainer, checkpoint, epochs=1)
    assert checkpoint.failure == ""
    assert len(checkpoints_in(tmp_path)) == 1


def test_from_one_device_to_another_it_is_the_same_within_rounding(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        fit(RUNS["momentum"]("cpu"), Checkpoint(tmp_path, steps=1), Kill(10))
    whole, later = RUNS["momentum"]("cpu"), RUNS["momentum"]("cpu/reference")
    fit(whole)
    with pytest.warns(CheckpointWarning, match="device cpu, now cpu/reference"):
        later.resume(tmp_path)
    fit(later)
    for name, array in whole.model.state_dict().items():
        np.testing.assert_allclose(later.model.state_dict()[name], array, rtol=1e-3, atol=1e-4)


def test_a_model_may_be_saved_from_a_resumed_trainer(folder: Path) -> None:
    trainer = RUNS["momentum"]("cpu")
    trainer.resume(folder)
    save_model(trainer.model, folder / "model.safetensors")
    assert load_model(folder / "model.safetensors", "cpu").step == trainer.model.step


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"epochs": 0}, "epochs must be"),
        ({"steps": 1.5}, "steps must be"),
        ({"minutes": 0}, "minutes must be a number above 0"),
        ({"minutes": "5"}, "minutes must be a number above 0"),
        ({"keep": 0}, "keep must be"),
    ],
)
def test_arguments_of_checkpoint(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=said):
        Checkpoint(tmp_path, **wrong)
