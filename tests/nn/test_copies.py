"""Copies and pickles: each trains on as the original would, bit for bit, and neither disturbs the other."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from backends import Backend
from nn import (
    LOSSES,
    SGD,
    AbsentDeviceWarning,
    Adam,
    Callback,
    Dataset,
    Dropout,
    History,
    Linear,
    Optimizer,
    PrintEpochs,
    ProgressBar,
    ReLU,
    Sequential,
    Softmax,
    Trainer,
    TrainingDiverged,
    callbacks,
)
from nn.callbacks import (
    Checkpoint,
    CSVLog,
    EarlyStopping,
    JSONLog,
    LambdaCallback,
    LearningRateSchedule,
    ReduceOnPlateau,
    SaveModel,
    TensorBoard,
)
from nn.layers import Context, Layer
from nn.optimizers import OPTIMIZERS, get_optimizer
from nn.optimizers.schedules import CosineDecay, ExponentialDecay, LinearWarmup, OneCycle, StepDecay
from tests.helpers.with_emulated import EMULATED, WITH_EMULATED, made

ROOT = Path(__file__).parent.parent.parent
RNG = np.random.default_rng(5)
DATA = Dataset(RNG.integers(0, 256, (40, 6), dtype=np.uint8), RNG.integers(0, 3, 40), scale=1 / 255)


@pytest.fixture(params=WITH_EMULATED)
def backend(request: pytest.FixtureRequest) -> Backend:
    return made(request.param, "float32")


@dataclass(frozen=True, repr=False)
class Counts(Layer):
    """Keeps how many rows it was trained on: state, which is not trained. (At the head of a module, so that a pickle
    finds it.)"""

    def state(self) -> dict[str, Any]:
        return {"rows": ((1,), lambda shape, generator: np.zeros(shape))}

    def forward(self, x: Any, ctx: Context) -> Any:
        if ctx.training:
            ctx.state["rows"][...] = ctx.state["rows"] + x.shape[0]
        return x

    def backward(self, dy: Any, ctx: Context) -> Any:
        return dy


def right(targets: Any, predictions: Any) -> float:
    return float(np.mean(targets == predictions))


def halving(update: int) -> float:
    return 0.1 * 0.5 ** (update // 8)


def make_trainer(
    backend: Backend | str = "cpu", optimizer: Optimizer | None = None, callbacks: list[Callback] | None = None
) -> Trainer:
    layers = Linear(6, 16), ReLU(), Counts(), Dropout(0.3), Linear(16, 3), Softmax()
    model = Sequential(*layers, backend=backend, seed=3)
    optimizer = optimizer or SGD(0.1, momentum=0.9, weight_decay=0.01)
    return Trainer(model, optimizer=optimizer, callbacks=callbacks or [], metrics=[right])


def all_arrays(trainer: Trainer) -> dict[str, np.ndarray]:
    to_numpy = trainer.backend.to_numpy
    state = {f"optimizer {name}": to_numpy(array).copy() for name, array in trainer.optimizer.state.items()}
    return trainer.model.state_dict() | state


def same_arrays(first: Trainer, second: Trainer) -> None:
    found, expected = all_arrays(first), all_arrays(second)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, strict=True, err_msg=name)


def losses(trainer: Trainer) -> list[tuple[Any, ...]]:
    return [(record["epoch"], record["loss"], record["accuracy"]) for record in trainer.history]


def through_pickle(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))


def through_joblib(thing: Any) -> Any:
    file = io.BytesIO()
    joblib.dump(thing, file)
    file.seek(0)
    return joblib.load(file)


COPIED: dict[str, Callable[[Any], Any]] = {"copy": copy.copy, "deepcopy": copy.deepcopy}
WAYS: dict[str, Callable[[Any], Any]] = COPIED | {"pickle": through_pickle, "joblib": through_joblib}
#: On the emulated GPU there is no way back from a pickle, as its device is not found by its name.
PICKLED = [which for which in WITH_EMULATED if which.values[0] != EMULATED]  # type: ignore[attr-defined]


def goes_on_alike(trainer: Trainer, other: Trainer) -> None:
    """Both train on alike, one after the other."""
    same_arrays(other, trainer)
    before = all_arrays(trainer)
    other.fit(DATA, 2, 16, validation=DATA)
    for name, values in all_arrays(trainer).items():
        np.testing.assert_array_equal(values, before[name], err_msg=f"{name} was changed by the copy")
    trainer.fit(DATA, 2, 16, validation=DATA)
    same_arrays(other, trainer)
    assert losses(other) == losses(trainer)
    assert other.model.step == trainer.model.step
    assert other.optimizer.steps == trainer.optimizer.steps
    np.testing.assert_array_equal(other.predict(DATA), trainer.predict(DATA))
    assert other.evaluate(DATA) == trainer.evaluate(DATA)


@pytest.mark.parametrize("way", COPIED)
def test_a_copy_of_a_trainer_goes_on_as_the_original(backend: Backend, way: str) -> None:
    trainer = make_trainer(backend)
    trainer.fit(DATA, 3, 16)
    other = WAYS[way](trainer)
    assert other.model is not trainer.model
    assert other.backend is trainer.backend
    assert type(other.model.flat_parameters) is type(trainer.model.flat_parameters)
    goes_on_alike(trainer, other)


@pytest.mark.parametrize("which", PICKLED)
@pytest.mark.parametrize("way", ["pickle", "joblib"])
def test_a_pickle_of_a_trainer_goes_on_as_the_original(which: Any, way: str) -> None:
    trainer = make_trainer(made(which, "float32"))
    trainer.fit(DATA, 3, 16)
    other = WAYS[way](trainer)
    assert repr(other.backend) == repr(trainer.backend)
    goes_on_alike(trainer, other)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", sorted(name for name in OPTIMIZERS if "tests" not in OPTIMIZERS[name].__module__))
def test_every_optimizer_is_copied_with_its_state(name: str, way: str) -> None:
    trainer = make_trainer(optimizer=get_optimizer(name))
    trainer.fit(DATA, 2, 16)
    goes_on_alike(trainer, WAYS[way](trainer))


SCHEDULES = {
    "step": StepDecay(0.1, every=4),
    "exponential": ExponentialDecay(0.1, factor=0.9),
    "cosine": CosineDecay(0.1, length=12),
    "warm-up": LinearWarmup(CosineDecay(0.1, length=12), length=3),
    "one cycle": OneCycle(0.1, length=12),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_copied(name: str, way: str) -> None:
    trainer = make_trainer(optimizer=SGD(SCHEDULES[name], momentum=0.9))
    trainer.fit(DATA, 2, 16)
    other = WAYS[way](trainer)
    assert other.optimizer.learning_rate == SCHEDULES[name]
    goes_on_alike(trainer, other)


@pytest.mark.parametrize("way", WAYS)
def test_a_trainer_that_averages_clips_and_accumulates_is_copied(way: str) -> None:
    model = make_trainer().model
    around: dict[str, Any] = {"clip_norm": 0.5, "clip_value": 0.1, "accumulate": 2, "average": 0.9}
    trainer = Trainer(model, optimizer=SGD(0.1), metrics=[right], **around)
    trainer.fit(DATA, 2, 8)
    goes_on_alike(trainer, WAYS[way](trainer))
    with trainer.averaged(), pytest.raises(RuntimeError, match="make it outside of"):
        WAYS[way](trainer)


@pytest.mark.parametrize("way", WAYS)
def test_a_trainer_with_a_schedule_and_callbacks_is_copied(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = make_trainer(optimizer=Adam(halving), callbacks=[ProgressBar(), PrintEpochs()])
    trainer.fit(DATA, 2, 16)
    goes_on_alike(trainer, WAYS[way](trainer))
    assert capsys.readouterr().out.count("epoch") == 3


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("epochs", [0, 2])
def test_a_model_is_copied_with_all_that_it_knows(way: str, epochs: int) -> None:
    trainer = make_trainer()
    if epochs:
        trainer.fit(Dataset(DATA.x, DATA.y, DATA.scale, class_names=("ant", "bee", "cat")), epochs, 16)
    model = trainer.model
    other = WAYS[way](model)
    names = ("seed", "step", "layers", "task", "units", "class_names", "target_shape", "loss_name", "n_outputs")
    for name in ("output_activation", *names):
        if name != "layers":
            assert getattr(other, name) == getattr(model, name), name
    assert repr(other) == repr(model)
    np.testing.assert_array_equal(other(DATA.x), model(DATA.x))
    optimizer = SGD(0.1), SGD(0.1)
    Trainer(model, optimizer=optimizer[0]).fit(DATA, 2, 16)
    Trainer(other, optimizer=optimizer[1]).fit(DATA, 2, 16)
    for name, values in model.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], values)
    other.reset()
    model.reset()
    np.testing.assert_array_equal(other(DATA.x), model(DATA.x))


def test_parameters_of_a_copy_are_views_of_its_own_buffer() -> None:
    model = make_trainer().model
    for other in (copy.copy(model), through_pickle(model)):
        other.flat_parameters[...] = 2.0
        assert all((array == 2.0).all() for array in other.parameters.values())
        assert not any((array == 2.0).all() for array in model.parameters.values())


@pytest.mark.parametrize("way", WAYS)
def test_an_optimizer_takes_its_state_to_the_next_model_of_the_same_size(way: str) -> None:
    trainer = make_trainer()
    trainer.fit(DATA, 2, 16)
    model, optimizer = WAYS[way](trainer.model), WAYS[way](trainer.optimizer)
    again = WAYS[way](optimizer)  # of one that belongs to no model yet
    other = Trainer(model, optimizer=again, metrics=[right])
    other.epoch, other.history = trainer.epoch, copy.copy(trainer.history)
    goes_on_alike(trainer, other)
    with pytest.raises(ValueError, match="this SGD is a copy of one that moves 176 numbers, and cannot go on with a m"):
        Trainer(Sequential(Linear(2, 2), backend="cpu"), optimizer=optimizer)
    assert WAYS[way](SGD(0.3, momentum=0.5)) == SGD(0.3, momentum=0.5)


def test_models_and_optimizers_that_are_copied_together_stay_apart_from_the_originals() -> None:
    trainer = make_trainer()
    trainer.fit(DATA, 1, 16)
    model, optimizer = copy.deepcopy((trainer.model, trainer.optimizer))
    before = all_arrays(trainer)
    Trainer(model, optimizer=optimizer).fit(DATA, 2)
    for name, values in all_arrays(trainer).items():
        np.testing.assert_array_equal(values, before[name])


@pytest.mark.parametrize("way", WAYS)
def test_losses_histories_and_callbacks_are_copied(way: str) -> None:
    for loss in LOSSES.values():
        assert WAYS[way](loss) == loss
    history = make_trainer().fit(DATA, 2)
    history.stopped = "enough"
    other: History = WAYS[way](history)
    assert other.records == history.records
    assert other.stopped == "enough"
    other.append({"epoch": 3})
    assert len(history) == 2
    shown = WAYS[way](PrintEpochs(every=3))
    assert (shown.every, shown.file) == (3, None)
    assert WAYS[way](ProgressBar(disable=True)).disable is True


def tensorboard(folder: Path) -> Callback:
    try:
        return TensorBoard(folder / "events")
    except ImportError as error:
        pytest.skip(str(error))


#: One of each callback that ships, which writes to a folder if it writes.
CALLBACKS: dict[str, Callable[[Path], Callback]] = {
    "CSVLog": lambda folder: CSVLog(folder / "log.csv"),
    "Checkpoint": lambda folder: Checkpoint(folder, epochs=1, overwrite=True),
    "EarlyStopping": lambda folder: EarlyStopping("loss", patience=1),
    "JSONLog": lambda folder: JSONLog(folder / "log.jsonl"),
    "LambdaCallback": lambda folder: LambdaCallback(on_epoch_end=nothing),
    "LearningRateSchedule": lambda folder: LearningRateSchedule(halving),
    "PrintEpochs": lambda folder: PrintEpochs(every=3),
    "ProgressBar": lambda folder: ProgressBar(disable=False),
    "ReduceOnPlateau": lambda folder: ReduceOnPlateau("loss", patience=0),
    "SaveModel": lambda folder: SaveModel(folder / "{epoch}.safetensors"),
    "TensorBoard": tensorboard,
}


def nothing(trainer: Trainer, record: Any) -> None:
    """Called at the end of an epoch."""


def test_each_callback_that_ships_is_here() -> None:
    ship = {name for name in callbacks.__all__ if name != "Callback" and hasattr(vars(callbacks)[name], "on_fit_end")}
    assert ship == set(CALLBACKS)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CALLBACKS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_callback_is_copied_before_in_and_after_a_fit(name: str, way: str, tmp_path: Path) -> None:
    trainer = make_trainer(callbacks=[CALLBACKS[name](tmp_path)])
    copies, before = CopiesIt(way), WAYS[way](trainer)
    trainer.fit(DATA, 4, 16, callbacks=[copies])
    during, after = copies.made, WAYS[way](trainer)
    assert during is not None
    for other in (before, during, after):
        (callback,) = other.callbacks
        assert type(callback) is type(trainer.callbacks[0])
        assert callback is not trainer.callbacks[0]
        for setting in ("path", "every", "folder", "patience", "disable", "rate"):
            assert getattr(callback, setting, None) == getattr(trainer.callbacks[0], setting, None)
    before.fit(DATA, 4, 16)
    during.fit(DATA, 2, 16)
    for other in (before, during):
        if name != "EarlyStopping":  # which may have ended at another epoch, as it begins anew
            same_arrays(other, trainer)


def test_a_trainer_that_diverged_is_copied() -> None:
    trainer = make_trainer(optimizer=SGD(1e30))
    with pytest.raises(TrainingDiverged):
        trainer.fit(DATA, 3, 16)
    for way in WAYS.values():
        same_arrays(way(trainer), trainer)


def test_a_copy_prints_to_the_same_file_and_a_pickle_to_standard_output() -> None:
    file = io.StringIO()
    assert copy.deepcopy(PrintEpochs(file=file)).file is copy.copy(PrintEpochs(file=file)).file is file
    assert through_pickle(PrintEpochs(file=file)).file is None


class CopiesIt(Callback):
    """Copies the trainer that calls, after its second epoch."""

    reads_gradients = False

    def __init__(self, way: str) -> None:
        self.way = way
        self.made: Trainer | None = None

    def on_epoch_end(self, trainer: Trainer, record: Any) -> None:
        if trainer.epoch == 2:
            self.made = WAYS[self.way](trainer)


@pytest.mark.parametrize("way", WAYS)
def test_a_trainer_is_copied_while_it_trains(way: str) -> None:
    copies = CopiesIt(way)
    trainer = make_trainer(callbacks=[ProgressBar(disable=False)])
    trainer.fit(DATA, 4, 16, callbacks=[copies])
    other = copies.made
    assert other is not None
    assert len(other.history) == 2
    other.fit(DATA, 2, 16)
    same_arrays(other, trainer)
    assert losses(other) == losses(trainer)


def test_a_pickle_from_a_device_that_is_not_here_is_on_the_cpu() -> None:
    """The emulated GPU calls itself cuda:0, which is not found here."""
    trainer = make_trainer(made(EMULATED, "float32"))
    trainer.fit(DATA, 2, 16)
    pickled = pickle.dumps(trainer)
    with pytest.warns(AbsentDeviceWarning, match="pickled on cuda:0, which cannot be used here, and is on the CPU now"):
        other = pickle.loads(pickled)
    assert other.backend.device.spec == "cpu"
    assert other.model.backend is other.backend
    same_arrays(other, trainer)
    trainer.fit(DATA, 2, 16)
    other.fit(DATA, 2, 16)
    for name, values in all_arrays(trainer).items():
        np.testing.assert_allclose(all_arrays(other)[name], values, rtol=1e-4, atol=1e-5, err_msg=name)


def test_what_was_pickled_is_read_by_another_process(tmp_path: Path) -> None:
    trainer = make_trainer()
    trainer.fit(DATA, 2, 16)
    (tmp_path / "trainer.pickle").write_bytes(pickle.dumps(trainer))
    np.save(tmp_path / "x.npy", DATA.x)
    code = (
        "import pickle, numpy; trainer = pickle.load(open('trainer.pickle', 'rb'));"
        "numpy.save('found.npy', trainer.model(numpy.load('x.npy')))"
    )
    path = {"PYTHONPATH": str(ROOT), "PATH": "", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=path, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), trainer.model(DATA.x), rtol=1e-6)


def test_what_cannot_be_pickled_is_said_by_python() -> None:
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(Trainer(Sequential(Linear(2, 2), backend="cpu"), optimizer=SGD(lambda update: 0.1)))


def test_copies_train_in_threads_as_they_do_one_after_the_other() -> None:
    trainer = make_trainer()
    copies = [copy.deepcopy(trainer) for _ in range(4)]
    threads = [threading.Thread(target=lambda each=each: each.fit(DATA, 3, 16)) for each in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trainer.fit(DATA, 3, 16)
    for each in copies:
        same_arrays(each, trainer)
