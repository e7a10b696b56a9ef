"""Files of a run, damaged: checkpoints, from which it goes on, and ``run.json``."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

import train
from nn import Adam, Callback, Checkpoint, Dropout, Linear, ReLU, Sequential, Trainer, TrainingDiverged
from nn.callbacks import EarlyStopping
from nn.cli.run_record import RECORD, RunRecord

from .mutate import BINARY, TEXT, damaged, json_changed, json_text, safetensors_changed

ROWS = np.random.default_rng(1).standard_normal((30, 4)).astype(np.float32)
LABELS = np.arange(30) % 3
EPOCHS = 3


def trainer_of_run() -> Trainer:
    model = Sequential(Linear(4, 5), ReLU(), Dropout(0.1), Linear(5, 3), backend="cpu", seed=3)
    return Trainer(model, "cross_entropy", Adam(0.01), average=0.9, clip_norm=1.0)


def fit(trainer: Trainer, *callbacks: Callback) -> None:
    stopping = EarlyStopping(patience=9, monitor="loss")
    trainer.fit(ROWS, LABELS, EPOCHS, batch_size=10, callbacks=[stopping, *callbacks])


class _Interrupt(Callback):
    """Interrupts the second epoch in its middle."""

    def on_batch_end(self, trainer: Any, rows: int) -> None:
        if trainer.model.step == 5:
            trainer.interrupt("in the middle")


@cache
def checkpoint_file(in_epoch: bool) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        fit(trainer_of_run(), Checkpoint(folder, epochs=1, keep=1), *([_Interrupt()] if in_epoch else []))
        (path,) = Path(folder).iterdir()
        return path.read_bytes()


def make_checkpoint(rng: random.Random) -> bytes:
    whole = checkpoint_file(rng.random() < 0.7)
    if rng.random() < 0.3:
        return damaged(rng, whole, BINARY)
    kind = rng.random()
    part = "header" if kind < 0.2 else "tensors" if kind < 0.35 else "xpnet-checkpoint"
    return safetensors_changed(rng, whole, part)


def read_checkpoint_file(path: Path) -> None:
    """Goes on with the run, and looks whether what comes of it makes sense."""
    folder = path.with_suffix("")
    folder.mkdir(exist_ok=True)
    shutil.copy(path, folder / "checkpoint-00000001.safetensors")
    trainer = trainer_of_run()
    assert trainer.resume(folder)
    try:
        fit(trainer)
    except TrainingDiverged:  # its weights or its learning rate are what somebody has written there
        return
    assert all(np.isfinite(values).all() for values in trainer.model.state_dict().values()), "weights are not finite"
    assert isinstance(trainer.history.run, str)
    assert isinstance(trainer.model.step, int)
    assert len(trainer.model.predict(ROWS)) == len(ROWS)


@cache
def run_file() -> bytes:
    words = ("--epochs", "3", "--hidden", "20", "10", "--optimizer", "adam", "--class-weight", "1=2", "--momentum")
    (settings,) = train.parse(words[:-1])
    with tempfile.TemporaryDirectory() as folder:
        RunRecord.of(settings).write(Path(folder))
        return Path(folder, RECORD).read_bytes()


def make_run(rng: random.Random) -> bytes:
    if rng.random() < 0.3:
        return damaged(rng, run_file(), TEXT)
    content = json_changed(rng, json.loads(run_file()))
    if rng.random() < 0.8:
        content.pop("sha256", None)
        content["sha256"] = sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return json_text(content).encode()


def read_run(path: Path) -> Any:
    """Reads it as ``--resume`` does, and looks whether what comes of it makes sense."""
    folder = path.with_suffix("")
    folder.mkdir(exist_ok=True)
    shutil.copy(path, folder / RECORD)
    record = RunRecord.read(folder)
    assert record.told.isprintable(), "what is told of it is not printable"
    settings = record.restored()
    assert {*settings.values} >= {*record.settings}
