"""A run that a signal interrupts, at whatever line of code: it goes on as if nothing had happened."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from nn import SGD, Adam, Callback, Checkpoint, EarlyStopping, LambdaCallback, ReduceOnPlateau, SaveModel, Trainer
from nn.files import DRAFT
from tests.helpers.resumed import Counts, fit, model, outcome

#: The files in whose lines a signal is let arrive.
FILES = (
    "nn/trainer.py", "nn/fitting.py", "nn/callbacks/checkpoint.py", "nn/callbacks/base.py", "nn/divergence.py",
    "nn/storage/",
)  # fmt: skip
EPOCHS = 4


class AtLine:
    """Calls a function when so many lines of ``FILES`` have run; the first is line 0."""

    def __init__(self, number: int = -1, function: Callable[[], None] = lambda: None) -> None:
        self.number, self.function, self.lines = number, function, 0

    def __call__(self, frame: FrameType, event: str, value: Any) -> AtLine | None:
        if event == "call":
            return self if any(name in frame.f_code.co_filename.replace("\\", "/") for name in FILES) else None
        if event == "line":
            if self.lines == self.number:
                self.function()
            self.lines += 1
        return self

    def __enter__(self) -> AtLine:
        self.before = sys.gettrace()
        sys.settrace(self)
        return self

    def __exit__(self, *error: object) -> None:
        sys.settrace(self.before)


def make(folder: Path) -> Trainer:
    """A run with callbacks that look at each record; its models go to ``folder``."""
    folder.mkdir(exist_ok=True)
    callbacks = [
        EarlyStopping("loss", patience=1, min_delta=0.05),
        SaveModel(folder / "best.safetensors", "loss", every=2),
        SaveModel(folder / "epoch-{epoch}.safetensors", every=2),
        Counts(),
    ]
    return Trainer(model(), optimizer=Adam(0.003), accumulate=2, average=0.9, callbacks=callbacks)


def models(folder: Path) -> dict[str, Any]:
    """What SaveModel has written: the arrays of each."""
    from safetensors.numpy import load_file

    files = [path for path in sorted(folder.iterdir()) if not DRAFT.fullmatch(path.name)]
    return {path.name: {name: a.tobytes() for name, a in load_file(path).items()} for path in files}


def told(trainer: Trainer) -> dict[str, Any]:
    """The outcome, without the folders that the models were saved in."""
    found = outcome(trainer)
    found["callbacks"] = [
        {key: value for key, value in state.items() if key != "saved"} for state in found["callbacks"]
    ]
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any], int]:
    """A run that is not interrupted: its outcome, its models, and how many lines it has."""
    folder = tmp_path_factory.mktemp("whole")
    first = folder / "first"  # some lines run once in a process: the classes of callbacks are looked at
    fit(make(first), Checkpoint(first), epochs=1)
    trainer = make(folder / "models")
    with AtLine() as lines:
        fit(trainer, Checkpoint(folder, steps=6), epochs=EPOCHS)
    return told(trainer), models(folder / "models"), lines.lines


#: Places that are spread over all lines; two thirds of them are left to those who ask for slow tests.
PARTS = [pytest.param(n / 60, marks=[pytest.mark.slow] if n % 3 else []) for n in range(60)]


@pytest.mark.parametrize("part", PARTS)
def test_a_signal_may_come_at_any_line(
    tmp_path: Path, whole: tuple[dict[str, Any], dict[str, Any], int], part: float
) -> None:
    trainer = make(tmp_path / "models")
    with AtLine(int(part * whole[2]), lambda: trainer.interrupt("SIGTERM")) as lines:
        fit(trainer, Checkpoint(tmp_path, steps=6), epochs=EPOCHS)
    assert lines.lines > lines.number
    if not trainer.interrupted:  # it was over before it could be interrupted
        assert told(trainer) == whole[0]
    later = make(tmp_path / "models")
    assert later.resume(tmp_path)
    fit(later, Checkpoint(tmp_path, steps=6), epochs=EPOCHS)
    assert told(later) == whole[0]
    assert models(tmp_path / "models") == whole[1]


def test_another_thread_may_interrupt(tmp_path: Path) -> None:
    trainer = Trainer(model(), optimizer=SGD(0.1, momentum=0.9))
    has_begun = threading.Event()
    begins = LambdaCallback(on_batch_end=lambda trainer, rows: has_begun.set(), reads_gradients=False)

    def interrupt() -> None:
        has_begun.wait()
        trainer.interrupt("enough")

    thread = threading.Thread(target=interrupt)
    thread.start()
    fit(trainer, begins, Checkpoint(tmp_path), epochs=100_000)
    thread.join()
    assert trainer.interrupted
    epochs = trainer.epoch
    later, whole = (Trainer(model(), optimizer=SGD(0.1, momentum=0.9)) for _ in range(2))
    later.resume(tmp_path)
    fit(later, epochs=epochs)
    fit(whole, epochs=epochs)
    assert outcome(later) == outcome(whole)


def test_what_is_interrupted_before_it_begins_ends_at_once(tmp_path: Path) -> None:
    trainer = Trainer(model())
    trainer.interrupt("SIGTERM")
    fit(trainer, Checkpoint(tmp_path))
    assert (trainer.epoch, trainer.model.step, trainer.history.stopped) == (0, 0, "SIGTERM")
    later, whole = Trainer(model()), Trainer(model())
    later.resume(tmp_path)
    fit(later)
    fit(whole)
    assert outcome(later) == outcome(whole)
    fit(trainer)  # the signal is over
    assert not trainer.interrupted
    assert trainer.epoch == 6


def test_callbacks_are_told_before_anything_changes(tmp_path: Path) -> None:
    told: list[tuple[int, int, int]] = []

    def tell(trainer: Trainer) -> None:
        told.append((trainer.epoch, trainer.seen, len(trainer.history)))

    def interrupt(trainer: Trainer, rows: int) -> None:
        if trainer.model.step == 10:
            trainer.interrupt("SIGTERM")

    callback = LambdaCallback(on_interrupt=tell, on_batch_end=interrupt, reads_gradients=False)
    fit(Trainer(model(), callbacks=[callback]))
    assert told == [(2, 24, 1)]


def test_part_of_an_epoch_is_no_better_epoch() -> None:
    """Its loss is that of other rows: of the first ones, which are the easiest here."""

    def interrupt(trainer: Trainer, rows: int) -> None:
        if trainer.epoch == 2:
            trainer.interrupt("SIGTERM")

    class Looks(Callback):
        def on_epoch_end(self, trainer: Trainer, record: dict[str, object]) -> None:
            if "interrupted" in record:
                record["loss"] = 0.0

    stopping, plateau = EarlyStopping("loss", patience=0), ReduceOnPlateau("loss", patience=0)
    callbacks = [Looks(), LambdaCallback(on_batch_end=interrupt, reads_gradients=False), stopping, plateau]
    trainer = Trainer(model(), callbacks=callbacks)
    fit(trainer)
    assert trainer.history[-1]["loss"] == 0.0
    assert stopping.monitor.epoch == 1
    assert trainer.history.best_epoch == 1
    assert plateau.best == trainer.history[0]["loss"]
    assert trainer.history.stopped == "SIGTERM"
