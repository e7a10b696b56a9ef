"""Runs that go on in unusual circumstances: whatever is not the same is refused, and what goes on is the same."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from backends import get_backend
from backends.cuda.cupy_backend import CupyBackend
from nn import (
    SGD,
    Adam,
    Callback,
    Checkpoint,
    CheckpointError,
    CheckpointWarning,
    Context,
    CSVLog,
    EarlyStopping,
    JSONLog,
    LambdaCallback,
    Layer,
    LearningRateSchedule,
    Linear,
    SaveModel,
    Sequential,
    Softmax,
    Trainer,
)
from nn.callbacks import CallbackError
from nn.storage.checkpoint import checkpoints_in, read_checkpoint, write_checkpoint
from tests.helpers.emulated_cuda import HAS_COMPILER, EmulatedCudaDevice
from tests.helpers.resumed import EPOCHS, HELD_OUT, RUNS, Kill, Killed, X, Y, fit, model, outcome


def kill(trainer: Trainer, folder: Path, batches: int = 10, **given: Any) -> None:
    with pytest.raises(Killed):
        fit(trainer, Checkpoint(folder, steps=1), Kill(batches), **given)


def assert_goes_on(make: Callable[[], Trainer], folder: Path, **given: Any) -> Trainer:
    """A run that is killed in the middle of an epoch ends as one that is not."""
    whole, later = make(), make()
    fit(whole, **given)
    kill(make(), folder, **given)
    assert later.resume(folder)
    fit(later, **given)
    assert outcome(later) == outcome(whole)
    return later


# ---- what is one's own -----------------------------------------------------------------------------------------------


class Doubles(Layer):
    """A layer that is no dataclass."""

    def forward(self, x: Any, ctx: Context) -> Any:
        return 2 * x

    def backward(self, dy: Any, ctx: Context) -> Any:
        return 2 * dy


@dataclass(frozen=True)
class Applies(Layer):
    """A layer with a setting that no file can hold."""

    function: Callable[[Any], Any]

    def forward(self, x: Any, ctx: Context) -> Any:
        return self.function(x)

    def backward(self, dy: Any, ctx: Context) -> Any:
        return self.function(dy)


@pytest.mark.parametrize("own", [Doubles, lambda: Applies(lambda x: 3 * x)])
def test_a_layer_of_ones_own_that_no_file_can_hold(tmp_path: Path, own: Callable[[], Layer]) -> None:
    def make() -> Trainer:  # anew in each process, so that nothing has its address again
        return Trainer(Sequential(Linear(6, 4), own(), Linear(4, 2), Softmax(), backend="cpu"), optimizer=Adam(0.01))

    assert_goes_on(make, tmp_path)


class Remembers(Callback):
    """A callback that remembers whatever it is given."""

    reads_gradients = False

    def __init__(self, memory: Any) -> None:
        self.memory, self.loaded = memory, None

    def state_dict(self) -> dict[str, Any]:
        return {"memory": self.memory}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loaded = state["memory"]


def test_arrays_whose_names_would_be_the_same_are_not_mixed(tmp_path: Path) -> None:
    state = {"a/b": np.ones(2), "a": {"b": np.zeros(3)}}
    again = read_checkpoint(write_checkpoint(tmp_path, state))
    assert again["a/b"].tolist() == [1.0, 1.0]
    assert again["a"]["b"].tolist() == [0.0, 0.0, 0.0]


def test_names_that_are_no_texts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"names in a checkpoint are texts, but counts has 3"):
        write_checkpoint(tmp_path, {"counts": {3: 1}})


@pytest.mark.parametrize(
    "array", [np.arange(6.0).reshape(2, 3).T, np.arange(6)[::2], np.array([True, False]), np.arange(3, dtype=">f8")]
)
def test_an_array_of_any_layout_comes_back(tmp_path: Path, array: np.ndarray) -> None:
    assert (read_checkpoint(write_checkpoint(tmp_path, {"a": array}))["a"] == array).all()


@pytest.mark.parametrize("memory", [{1, 2}, np.array(["a"]), np.array([1j]), {3: 4}, object()])
def test_a_memory_that_no_file_can_hold_costs_no_training(tmp_path: Path, memory: Any) -> None:
    trainer = Trainer(model())
    with pytest.warns(CheckpointWarning, match=r"\(.* checkpoint .*fit/callbacks/0/state/memory.*\); training goes on"):
        fit(trainer, Remembers(memory), Checkpoint(tmp_path))
    assert trainer.epoch == EPOCHS


@pytest.mark.parametrize("memory", [np.array([0.1, 1e300]), np.float64(0.1), [1, (2, {"a": None})], -0.0, 2**80, ""])
def test_a_memory_comes_back_as_it_was(tmp_path: Path, memory: Any) -> None:
    with pytest.raises(Killed):
        fit(Trainer(model()), Remembers(memory), Checkpoint(tmp_path, steps=1), Kill(3))
    trainer, remembers = Trainer(model()), Remembers(None)
    trainer.resume(tmp_path)
    fit(trainer, remembers)
    assert json.dumps(remembers.loaded, default=np.ndarray.tolist) == json.dumps(memory, default=np.ndarray.tolist)


# ---- how it goes on --------------------------------------------------------------------------------------------------


def test_a_fit_that_was_refused_may_be_called_again(tmp_path: Path) -> None:
    def make(folder: Path) -> Trainer:
        return Trainer(model(), optimizer=SGD(0.1, momentum=0.9), callbacks=[SaveModel(folder / "m.safetensors")])

    (tmp_path / "models").mkdir()
    whole, later = make(tmp_path / "models"), make(tmp_path / "models")
    fit(whole)
    kill(make(tmp_path / "models"), tmp_path)
    later.resume(tmp_path)
    (tmp_path / "models").rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError):
        fit(later)
    (tmp_path / "away").rename(tmp_path / "models")
    fit(later)
    assert outcome(later) == outcome(whole)


def test_fewer_epochs_than_were_made_are_refused(tmp_path: Path) -> None:
    kill(RUNS["momentum"]("cpu"), tmp_path, 25)  # in epoch 4
    trainer = RUNS["momentum"]("cpu")
    trainer.resume(tmp_path)
    with pytest.raises(CheckpointError, match="cannot go on for 3 epochs, as it has made 4 already"):
        fit(trainer, epochs=3)
    whole = RUNS["momentum"]("cpu")
    fit(trainer, epochs=4)
    fit(whole, epochs=4)
    assert outcome(trainer) == outcome(whole)


def test_what_was_resumed_may_be_saved_elsewhere_before_it_goes_on(tmp_path: Path) -> None:
    kill(RUNS["early stopping"]("cpu"), tmp_path / "a")
    first, whole, later = (RUNS["early stopping"]("cpu") for _ in range(3))
    first.resume(tmp_path / "a")
    first.save_checkpoint(tmp_path / "b")
    later.resume(tmp_path / "b")
    fit(later)
    fit(whole)
    assert outcome(later) == outcome(whole)


def test_the_averaged_parameters_are_not_saved_as_those_of_training(tmp_path: Path) -> None:
    trainer = RUNS["adam and a schedule"]("cpu")
    fit(trainer)
    with trainer.averaged(), pytest.raises(RuntimeError, match=r"outside of trainer.averaged\(\)"):
        trainer.save_checkpoint(tmp_path)
    assert checkpoints_in(tmp_path) == []


def test_another_thread_cannot_save_the_middle_of_a_step(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    errors: list[BaseException | None] = []

    def save(trainer: Trainer, record: dict[str, Any]) -> None:
        with ThreadPoolExecutor(1) as pool:
            errors.append(pool.submit(trainer.save_checkpoint, tmp_path).exception())

    fit(Trainer(model(), callbacks=[LambdaCallback(on_epoch_end=save)]), epochs=1)
    assert "another thread" in str(errors[0])


def test_a_setting_that_was_changed_in_an_epoch_takes_effect_with_the_next(tmp_path: Path) -> None:
    class Changes(Callback):
        reads_gradients = False

        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            if trainer.model.step == 9:  # in epoch 2
                trainer.optimizer.momentum = 0.3  # type: ignore[attr-defined]
                trainer.optimizer.learning_rate = 0.02
                trainer.clip_norm = 0.01

    def make() -> Trainer:
        return Trainer(model(), optimizer=SGD(0.1, momentum=0.9), callbacks=[Changes()], clip_norm=0.5)

    assert_goes_on(make, tmp_path)


def test_what_a_callback_has_changed_in_an_earlier_fit_is_no_other_trainer(tmp_path: Path) -> None:
    def make() -> Trainer:
        callbacks = [LearningRateSchedule(lambda epoch: 0.3 / epoch)]
        return Trainer(model(), optimizer=SGD(0.3, momentum=0.9), callbacks=callbacks)

    whole, killed, later = make(), make(), make()
    for trainer in (whole, killed):
        fit(trainer, epochs=2)
    fit(whole)
    kill(killed, tmp_path)
    later.resume(tmp_path)
    fit(later)
    assert outcome(later) == outcome(whole)


def test_what_is_changed_between_resume_and_fit_stays(tmp_path: Path) -> None:
    kill(RUNS["momentum"]("cpu"), tmp_path)
    trainer = RUNS["momentum"]("cpu")
    trainer.resume(tmp_path)
    trainer.optimizer.learning_rate = 0.01
    fit(trainer)
    assert trainer.optimizer.learning_rate == 0.01
    assert trainer.history["learning_rate"][1:] == [0.01] * 5


@pytest.mark.parametrize("kind", [JSONLog, CSVLog])
def test_a_log_whose_last_line_was_not_written_to_its_end_goes_on(tmp_path: Path, kind: Any) -> None:
    log = tmp_path / "log"

    def make() -> Trainer:
        return Trainer(model(), callbacks=[kind(log)])

    kill(make(), tmp_path / "run", 25)
    log.write_bytes(log.read_bytes()[:-20])
    later = make()
    later.resume(tmp_path / "run")
    fit(later)
    assert [int(record["epoch"]) for record in kind(log).read()] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("kind", [JSONLog, CSVLog])
@pytest.mark.parametrize("text", ["a note", "name,value\n", "name,value\nx", "{}\n"])
def test_a_file_that_is_no_log_is_left_alone(tmp_path: Path, kind: Any, text: str) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(CallbackError, match="is no log of epochs"):
        fit(Trainer(model(), callbacks=[kind(tmp_path / "file")]))
    assert (tmp_path / "file").read_text() == text


def test_copies_and_pickles_go_on_too(tmp_path: Path) -> None:
    kill(RUNS["early stopping"]("cpu"), tmp_path)
    whole = RUNS["early stopping"]("cpu")
    fit(whole)
    resumed = RUNS["early stopping"]("cpu")
    resumed.resume(tmp_path)
    for trainer in (copy.deepcopy(resumed), pickle.loads(pickle.dumps(resumed))):
        fit(trainer)
        assert outcome(trainer) == outcome(whole)


def test_a_model_that_was_trained_before(tmp_path: Path) -> None:
    def make() -> Trainer:
        trained = model()
        Trainer(trained, optimizer=Adam(0.01)).fit(X, Y, 2, 10)
        return Trainer(trained, optimizer=SGD(0.1, momentum=0.9), callbacks=[EarlyStopping("loss", patience=1)])

    assert_goes_on(make, tmp_path)


def test_counters_beyond_32_bits(tmp_path: Path) -> None:
    def make() -> Trainer:
        trainer = RUNS["adam and a schedule"]("cpu")
        trainer.model.step, trainer.optimizer.steps = 2**40, 2**33
        return trainer

    assert_goes_on(make, tmp_path)


@pytest.mark.parametrize(
    "given",
    [
        {"validation": 0.3},
        {"class_weight": "balanced"},
        {"class_weight": {0: 2.0, 1: 0.5}},
        {"sample_weight": np.linspace(0.1, 2.0, 50)},
        {"batch_size": None},
        {"batch_size": 50, "shuffle": True},
        {"validation": None},
    ],
)
def test_rows_given_in_any_way(tmp_path: Path, given: dict[str, Any]) -> None:
    def make() -> Trainer:
        return Trainer(model(), optimizer=Adam(0.01), average=0.9)

    whole, later = make(), make()
    fit(whole, **given)
    with pytest.raises(Killed):
        fit(make(), Checkpoint(tmp_path, steps=1), Kill(4), **given)
    later.resume(tmp_path)
    fit(later, **given)
    assert outcome(later) == outcome(whole)


def test_rows_that_were_uploaded(tmp_path: Path) -> None:
    def run(trainer: Trainer, *callbacks: Callback) -> None:
        rows, held_out = trainer.upload(trainer.model.dataset((X, Y))), trainer.upload(trainer.model.dataset(HELD_OUT))
        trainer.fit(rows, EPOCHS, 8, validation=held_out, callbacks=callbacks)

    whole, killed, later = (Trainer(model(), optimizer=Adam(0.01)) for _ in range(3))
    run(whole)
    with pytest.raises(Killed):
        run(killed, Checkpoint(tmp_path, steps=1), Kill(10))
    later.resume(tmp_path)
    run(later)
    assert outcome(later) == outcome(whole)


def test_rows_of_a_frame(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({f"column {index}": X[:, index] for index in range(6)})
    frame["kind"] = pandas.Categorical(np.where(Y, "a", "b"))

    def run(trainer: Trainer, *callbacks: Callback) -> None:
        trainer.fit(frame.drop(columns="kind"), frame["kind"], EPOCHS, 8, callbacks=callbacks)

    whole, killed, later = (Trainer(model(), optimizer=Adam(0.01)) for _ in range(3))
    run(whole)
    with pytest.raises(Killed):
        run(killed, Checkpoint(tmp_path, steps=1), Kill(10))
    later.resume(tmp_path)
    run(later)
    assert outcome(later) == outcome(whole)
    assert list(later.model.predict_names(frame.drop(columns="kind"))) == list(
        whole.model.predict_names(frame.drop(columns="kind"))
    )


# ---- files -----------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_removed_while_training_runs_is_made_again(tmp_path: Path) -> None:
    import shutil

    def remove(trainer: Trainer, epoch: int) -> None:
        if epoch == 3:
            shutil.rmtree(tmp_path / "run")

    trainer, whole, later = (RUNS["momentum"]("cpu") for _ in range(3))
    fit(whole)
    with pytest.raises(Killed):
        fit(trainer, LambdaCallback(on_epoch_begin=remove), Checkpoint(tmp_path / "run", steps=1), Kill(20))
    later.resume(tmp_path / "run")
    fit(later)
    assert outcome(later) == outcome(whole)


def test_a_file_in_the_place_of_the_folder_costs_no_training(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    trainer = RUNS["momentum"]("cpu")
    with pytest.warns(CheckpointWarning, match="training goes on"):
        fit(trainer, Checkpoint(tmp_path / "run"))
    assert trainer.epoch == EPOCHS


def test_memory_that_is_not_there_costs_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(*arguments: Any, **more: Any) -> bytes:
        raise MemoryError

    monkeypatch.setattr("safetensors.numpy.save", save)
    trainer, checkpoint = RUNS["momentum"]("cpu"), Checkpoint(tmp_path, epochs=1)
    with pytest.warns(CheckpointWarning, match="out of memory.*training goes on"):
        fit(trainer, checkpoint)
    assert trainer.epoch == EPOCHS
    assert "out of memory" in checkpoint.failure


def test_a_checkpoint_that_another_process_removes_while_it_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2):
        write_checkpoint(tmp_path, {"step": step})
    newest = checkpoints_in(tmp_path)[0]

    def read(path: Path) -> dict[str, Any]:
        newest.unlink(missing_ok=True)
        return read_checkpoint(path)

    monkeypatch.setattr("nn.storage.checkpoint.read_checkpoint", read)
    from nn.storage.checkpoint import newest_checkpoint

    found = newest_checkpoint(tmp_path)
    assert found is not None
    assert found["step"] == 1


def test_a_clock_that_jumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: -1e9)
    fit(RUNS["momentum"]("cpu"), Checkpoint(tmp_path, minutes=1e-9))
    assert len(checkpoints_in(tmp_path)) == 2


# ---- from one process, and from one device, to another ---------------------------------------------------------------


def test_what_else_a_process_has_imported_is_no_other_place() -> None:
    def products(also: str) -> str:
        code = f"{also}; from backends import get_backend; from nn.storage.differences import where; "
        code += "print(where(get_backend('cpu'))['products'])"
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        return done.stdout

    pytest.importorskip("scipy")
    assert products("import numpy") == products("import scipy.linalg")


def test_another_number_of_threads_is_told(tmp_path: Path) -> None:
    with threadpool_limits(1, user_api="blas"):
        kill(RUNS["momentum"]("cpu"), tmp_path)
        RUNS["momentum"]("cpu").resume(tmp_path)
    with threadpool_limits(2, user_api="blas"), pytest.warns(CheckpointWarning, match="threads of products 1, now 2"):
        RUNS["momentum"]("cpu").resume(tmp_path)


@pytest.mark.skipif(not HAS_COMPILER, reason="no g++ to run the CUDA text on the CPU")
def test_a_run_on_a_gpu_goes_on_where_there_is_none(tmp_path: Path) -> None:
    def make(on_gpu: bool) -> Trainer:
        backend = CupyBackend(EmulatedCudaDevice()) if on_gpu else get_backend("cpu")
        layers = model().layers
        return Trainer(
            Sequential(list(layers), backend=backend, seed=3), optimizer=SGD(0.1, momentum=0.9), average=0.9,
            callbacks=[EarlyStopping("loss", patience=3)],
        )  # fmt: skip

    whole, later, again = make(True), make(False), make(True)
    fit(whole)
    kill(make(True), tmp_path)
    with pytest.warns(CheckpointWarning, match="goes on elsewhere"):
        later.resume(tmp_path)
    fit(later)
    again.resume(tmp_path)
    fit(again)
    assert outcome(again) == outcome(whole)
    for name, array in whole.model.state_dict().items():
        np.testing.assert_allclose(later.model.state_dict()[name], array, rtol=1e-3, atol=1e-4)
