"""One process of a run: ``python -m benchmarks.crash.work RUN WHAT`` in its folder, RUN being a ``Drawn`` in JSON.

``whole`` makes the run without checkpoints, and again with them, neither interrupted, and prints how long that took.
``killed`` goes on with the checkpoints that are there, tells in a page of memory what it is doing, and, if it is let
live so long, ends the run. Both write what a run amounts to: all arrays, all numbers, all files.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import time
import warnings
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from backends import get_backend
from nn import (
    Callback,
    Checkpoint,
    CSVLog,
    Dataset,
    Dropout,
    EarlyStopping,
    JSONLog,
    Layer,
    LearningRateSchedule,
    Linear,
    ReduceOnPlateau,
    SaveModel,
    Sequential,
    Sigmoid,
    Softmax,
    Trainer,
    get_loss,
)
from nn.files import write_atomically
from nn.history import Record
from nn.layers import ACTIVATION_LAYERS, NORMS
from nn.optimizers import (
    Constant,
    CosineDecay,
    ExponentialDecay,
    LinearWarmup,
    OneCycle,
    StepDecay,
    get_optimizer,
)

from .draw import RATES, Drawn
from .phase import BETWEEN, ENDING, EPOCH, Phase

#: The folders of a run: without an interruption, likewise but with checkpoints, and killed.
PLAIN, WHOLE, KILLED = "plain", "whole", "killed"
#: What is in each.
ARRAYS, NUMBERS, PHASE, CHECKPOINTS, MODELS = "arrays.safetensors", "numbers.json", "phase", "checkpoints", "models"
#: What a record has that no two runs share.
TIMES = ("seconds", "rows_per_second")


class Own(Callback):
    """A callback of one's own, with a memory of numbers and of an array: it counts, and adds up parameters."""

    reads_gradients = False

    def __init__(self) -> None:
        self.calls, self.sum = {"epochs": 0, "rows": 0, "ends": 0}, np.zeros(3)

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        self.calls["epochs"] += 1

    def on_batch_end(self, trainer: Trainer, rows: int) -> None:
        self.calls["rows"] += rows
        self.sum += trainer.backend.to_numpy(trainer.model.flat_parameters)[:3]

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        self.calls["ends"] += 1

    def state_dict(self) -> dict[str, Any]:
        return {"calls": dict(self.calls), "sum": self.sum.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.calls, self.sum = state["calls"], np.array(state["sum"])


class Tells(Callback):
    """Tells what the process is doing."""

    reads_gradients = False
    takes_parts = True

    def __init__(self, phase: Phase) -> None:
        self.phase = phase

    def on_fit_begin(self, trainer: Trainer, rows: int, epochs: int) -> None:
        self.phase.set(doing=EPOCH if trainer.seen else BETWEEN, epoch=trainer.epoch, step=trainer.model.step)
        print("begun", flush=True)

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        self.phase.set(doing=EPOCH, epoch=epoch)

    def on_batch_end(self, trainer: Trainer, rows: int) -> None:
        self.phase.set(step=trainer.model.step)

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        self.phase.set(doing=BETWEEN)


class Watched(Trainer):
    """A trainer that tells when it writes a checkpoint."""

    phase: Phase

    def save_checkpoint(self, folder: str | Path, keep: int = 2) -> Path:
        with self.phase.writing():
            return super().save_checkpoint(folder, keep)


def pinball(xp: Any, outputs: Any, targets: Any) -> Any:
    """A loss of one's own: the 0.7 quantile."""
    short = targets - outputs
    losses = xp.mean(xp.maximum(0.7 * short, -0.3 * short), axis=1)
    return losses, (0.3 - xp.astype(short > 0, outputs.dtype)) / outputs.shape[1]


def build(drawn: Drawn, kind: type[Trainer] = Trainer) -> Trainer:
    """The trainer of a run, as each of its processes builds it."""
    name, _, reference = drawn.device.partition("/")
    backend = get_backend(name, drawn.dtype, fused=not reference)
    loss = get_loss(pinball if drawn.loss[0] == "own function" else drawn.loss[0], **drawn.loss[1])
    layers: list[Layer] = []
    width = drawn.features
    for hidden in drawn.hidden:
        layers.append(Linear(width, hidden))
        layers += [NORMS[drawn.norm](hidden)] if drawn.norm else []
        layers.append(ACTIVATION_LAYERS[drawn.activation]())
        layers += [Dropout(drawn.dropout)] if drawn.dropout else []
        width = hidden
    layers.append(Linear(width, drawn.classes if loss.targets == "classes" else 1))
    if loss.output_activation:
        layers.append({"softmax": Softmax, "sigmoid": Sigmoid}[loss.output_activation]())
    trainer = kind(
        Sequential(layers, backend=backend, seed=drawn.seed),
        loss,
        get_optimizer(drawn.optimizer[0], learning_rate=rate_of(drawn), **drawn.optimizer[1]),
        callbacks=[callback_of(name, drawn) for name in drawn.callbacks],
        train_metrics=drawn.train_metrics,
        clip_norm=drawn.clip_norm,
        clip_value=drawn.clip_value,
        accumulate=drawn.accumulate,
        average=drawn.average,
    )
    trainer.history.run = f"run-{drawn.number}"  # which every file of it carries
    return trainer


def rate_of(drawn: Drawn) -> Any:
    """The learning rate: a number, or a schedule over about the updates of the run."""
    rate, updates = RATES[drawn.optimizer[0]], drawn.updates
    schedules: dict[str, Any] = {
        "": rate,
        "constant": Constant(rate),
        "step": StepDecay(rate, every=max(updates // 4, 1), factor=0.5),
        "exponential": ExponentialDecay(rate, factor=0.9, every=max(updates // 10, 1)),
        "cosine": CosineDecay(rate, length=updates),
        "warmup": LinearWarmup(CosineDecay(rate, length=updates), length=max(updates // 5, 1)),
        "one_cycle": OneCycle(rate, length=updates),
        "own function": lambda update: rate / (1.0 + 0.01 * update),
    }
    return schedules[drawn.schedule]


def callback_of(name: str, drawn: Drawn) -> Callback:
    column = "val_loss" if drawn.validation else "loss"
    made: dict[str, Any] = {
        "EarlyStopping": lambda: EarlyStopping(column, patience=2, min_delta=1e-3),
        "EarlyStopping of the last": lambda: EarlyStopping(column, patience=3, restore_best=False),
        "ReduceOnPlateau": lambda: ReduceOnPlateau(column, factor=0.5, patience=1, cooldown=1, min_delta=0.02),
        "LearningRateSchedule": lambda: LearningRateSchedule(lambda epoch: RATES[drawn.optimizer[0]] / epoch**0.5),
        "SaveModel": lambda: SaveModel(f"{MODELS}/best.safetensors", monitor=column),
        "SaveModel of each": lambda: SaveModel(f"{MODELS}/epoch-{{epoch:03d}}.safetensors", every=2),
        "JSONLog": lambda: JSONLog(f"{MODELS}/log.jsonl"),
        "CSVLog": lambda: CSVLog(f"{MODELS}/log.csv"),
        "own": Own,
    }
    callback: Callback = made[name]()
    return callback


def arguments_of(drawn: Drawn) -> dict[str, Any]:
    """What ``fit`` is called with."""
    random = np.random.default_rng(drawn.seed)
    classes = drawn.loss[0] in ("softmax_cross_entropy", "binary_cross_entropy", "focal")
    held_out = 3 * drawn.classes + 20 if drawn.validation == "rows" else 0
    n = drawn.rows + held_out
    x = random.standard_normal((n, drawn.features)).astype(np.float32)
    wanted = x @ random.standard_normal((drawn.features, drawn.classes)).astype(np.float32) / drawn.features**0.5
    wanted += 0.3 * random.standard_normal(wanted.shape).astype(np.float32)
    y = np.argmax(wanted, axis=1) if classes else wanted[:, 0]
    if classes:
        y[: drawn.classes] = np.arange(drawn.classes)  # each has a row
    if drawn.stored == "uint8":
        x = np.clip(40.0 * x + 128.0, 0.0, 255.0).astype(np.uint8)
    scale, shift = (1.0 / 40.0, -3.2) if drawn.stored == "uint8" else (1.0, 0.0)
    rows = Dataset(x, y, scale=scale, shift=shift)
    given: dict[str, Any] = {
        "train": rows[: drawn.rows],
        "epochs": drawn.epochs,
        "batch_size": drawn.batch_size,
        "shuffle": drawn.shuffle,
        "validation_every": drawn.validation_every,
    }
    if drawn.validation:
        given["validation"] = rows[drawn.rows :] if drawn.validation == "rows" else 0.2
    if drawn.weights == "rows":
        given["sample_weight"] = random.uniform(0.1, 2.0, drawn.rows)
    elif drawn.weights and classes:
        counts = {index: 1.0 + index for index in range(drawn.classes)}
        given["class_weight"] = "balanced" if drawn.weights == "balanced" else counts
    return given


def write_outcome(trainer: Trainer) -> None:
    """Write all that two runs have in common if they are the same one."""
    history, optimizer, model = trainer.history, trainer.optimizer, trainer.model
    with trainer.averaged():
        arrays = {f"averaged {name}": array for name, array in model.state_dict().items()}
    arrays |= model.state_dict()
    arrays |= {f"optimizer {name}": trainer.backend.to_numpy(array).copy() for name, array in optimizer.state.items()}
    numbers = {
        "records": [{key: value for key, value in record.items() if key not in TIMES} for record in history],
        "history": [history.stopped, history.best_epoch, history.monitor, history.best_is_kept],
        "counters": [trainer.epoch, trainer.seen, model.step, optimizer.steps, trainer.interrupted],
        "learning rate": optimizer.rate(optimizer.steps + 1),
        "gradient norm": trainer.gradient_norm,
        "callbacks": [
            {type(callback).__name__: callback.state_dict()} for callback in trainer.callbacks if callback.remembers
        ],
        "learnt": [str(model.units), model.task, model.loss_name, model.class_names, model.target_shape],
        "files": {path.name: content_of(path) for path in sorted(Path(MODELS).iterdir())},
    }
    write_atomically(ARRAYS, save(arrays))
    write_atomically(NUMBERS, json.dumps(numbers, default=repr, indent=1).encode())


def content_of(path: Path) -> Any:
    """What a file holds, but for seconds: the lines of a log, the checksum of a model."""
    if path.suffix not in (".jsonl", ".csv"):
        return sha256(path.read_bytes()).hexdigest()
    with path.open(newline="") as file:
        lines = [json.loads(line) for line in file] if path.suffix == ".jsonl" else [*csv.DictReader(file)]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def checkpoint_of(drawn: Drawn) -> Checkpoint:
    often: Any = drawn.often
    return Checkpoint(CHECKPOINTS, **often)


def make_whole(drawn: Drawn) -> None:
    """The run without an interruption: without checkpoints, whose outcome goes to ``plain``, and with them."""
    here, seconds = Path.cwd(), 0.0
    for folder in (PLAIN, WHOLE):
        Path(here, folder, MODELS).mkdir(parents=True)
        os.chdir(here / folder)  # files have the same names in each
        trainer, given = build(drawn), arguments_of(drawn)
        began = time.perf_counter()
        trainer.fit(**given, callbacks=[checkpoint_of(drawn)] if folder == WHOLE else [])
        seconds = time.perf_counter() - began
        write_outcome(trainer)
    print(json.dumps({"seconds": seconds}), flush=True)


def go_on(drawn: Drawn) -> None:
    """The run from its newest checkpoint on, if there is one."""
    Path(MODELS).mkdir(exist_ok=True)
    phase = Phase(Path(PHASE))
    trainer = build(drawn, Watched)
    assert isinstance(trainer, Watched)
    trainer.phase = phase
    trainer.resume(CHECKPOINTS, missing_ok=True)
    trainer.callbacks = [Tells(phase), *trainer.callbacks]
    trainer.fit(**arguments_of(drawn), callbacks=[checkpoint_of(drawn)])
    phase.set(doing=ENDING)
    write_outcome(trainer)


def main(arguments: list[str]) -> int:
    run, what = arguments
    warnings.simplefilter("error")
    {"whole": make_whole, "killed": go_on}[what](Drawn.of_json(run))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
