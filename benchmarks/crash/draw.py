"""What each run of the benchmark is: its network, data, optimizer, callbacks, and when it is killed.

A run is a function of the benchmark's seed and the run's number alone, so that any can be made again.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

#: On what runs are made, with how often each is drawn; what is not installed counts as ``cpu``.
DEVICES = {"cpu": 12, "cpu/reference": 4, "numba": 2, "array_api_strict": 2}
OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("sgd", {}),
    ("sgd", {"momentum": 0.9, "weight_decay": 1e-3}),
    ("sgd", {"momentum": 0.9, "nesterov": True}),
    ("sgd", {"momentum": 0.8, "dampening": 0.3}),
    ("adam", {}),
    ("adam", {"decoupled": False, "weight_decay": 1e-3, "l1": 1e-4}),
    ("adamw", {}),
    ("rmsprop", {}),
    ("rmsprop", {"momentum": 0.5, "centered": True}),
    ("adagrad", {"initial_accumulator_value": 0.1}),
    ("adagrad", {"lr_decay": 0.01}),
]
RATES = {"sgd": 0.05, "adam": 0.003, "adamw": 0.003, "rmsprop": 0.002, "adagrad": 0.02}
SCHEDULES = ("constant", "step", "exponential", "cosine", "warmup", "one_cycle", "own function")
LOSSES: list[tuple[str, dict[str, Any]]] = [
    ("softmax_cross_entropy", {}),
    ("softmax_cross_entropy", {"label_smoothing": 0.1}),
    ("binary_cross_entropy", {}),
    ("focal", {"gamma": 1.5}),
    ("mean_squared_error", {}),
    ("mean_absolute_error", {}),
    ("huber", {"delta": 0.5}),
    ("own function", {}),
]
ACTIVATIONS = ("relu", "sigmoid", "tanh", "gelu", "silu", "elu")
MOST_KILLS = 5
#: What ends a run of the command line.
SIGNALS = ("SIGKILL", "SIGKILL", "SIGTERM", "SIGHUP", "SIGINT")


@dataclass(frozen=True)
class Drawn:
    """A run.

    Attributes:
        device: a device's name, with ``/reference`` for the backend that is the specification itself.
        large: whether its state is of several megabytes, written after every step: most kills fall into a write.
        stored: how rows are kept: as float32, or as uint8 with a scale.
        schedule: of the learning rate; "" for a number.
        validation: "rows", "fraction" or "".
        weights: "rows", "classes", "balanced" or "".
        callbacks: names of those that it has, beside the checkpoints.
        often: arguments of ``Checkpoint``.
        kills: when it is killed: parts of the time that training takes, in order.
        early: whether the first kill falls before training, while the process starts.
        command_line: whether it is made by ``train.py``.
        signals: by which it is killed each time.
    """

    number: int
    seed: int
    device: str
    dtype: str
    large: bool
    rows: int
    features: int
    classes: int
    stored: str
    hidden: tuple[int, ...]
    norm: str
    activation: str
    dropout: float
    loss: tuple[str, dict[str, Any]]
    optimizer: tuple[str, dict[str, Any]]
    schedule: str
    batch_size: int
    epochs: int
    shuffle: bool
    accumulate: int
    average: float | None
    clip_norm: float | None
    clip_value: float | None
    validation: str
    validation_every: int
    weights: str
    train_metrics: bool
    callbacks: tuple[str, ...]
    often: dict[str, float]
    kills: tuple[float, ...] = field(default=())
    early: bool = False
    command_line: bool = False
    signals: tuple[str, ...] = ()

    @classmethod
    def of_json(cls, text: str) -> Drawn:
        """That of which ``text`` is the ``json.dumps(asdict(...))``."""
        read = json.loads(text).items()
        values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in read}
        return cls(**values)

    @property
    def updates(self) -> int:
        """About how many updates it makes."""
        return max(self.rows // (self.batch_size * self.accumulate), 1) * self.epochs


def draw(number: int, seed: int = 0, devices: Sequence[str] = (*DEVICES,)) -> Drawn:
    """Run ``number`` of the benchmark with that seed; on one of ``devices``."""
    dice = random.Random(f"{seed} {number}")
    device = dice.choices([*DEVICES], [*DEVICES.values()])[0]
    device = device if device in devices else devices[number % len(devices)]
    slow = device in ("array_api_strict", "emulated")
    large = dice.random() < 0.3 and not slow
    often: dict[str, float] = dice.choice(
        [
            {"steps": 1},
            {"steps": dice.randint(2, 30)},
            {"epochs": 1},
            {"epochs": 2, "steps": 50},
            {"minutes": 0.05 / 60},
        ]
    )
    each_step = large or often == {"steps": 1}
    loss = dice.choice(LOSSES)
    batch_size = dice.choice([16, 32, 50])
    command_line = number % 4 == 3
    batches = dice.choice([3, 5, 8] if each_step else [10, 20] if slow else [40, 80, 200])
    batches = batches if large or not command_line else 30 if each_step else 4 * batches  # it is harder to hit
    rest = dice.choice([0, 0, 2, batch_size // 2, batch_size - 1])
    norm, validation = dice.choice(["", "batch", "layer"]), dice.choice(["", "rows", "rows", "fraction"])
    if norm == "batch" and validation == "fraction":
        validation = "rows"  # what is left might end with a batch of one row
    schedule = dice.choice((*[""] * len(SCHEDULES), *SCHEDULES))
    kills = tuple(sorted(dice.random() for _ in range(dice.randint(1, MOST_KILLS))))
    return Drawn(
        number=number,
        seed=dice.randint(0, 2**31),
        device=device,
        dtype=dice.choice(["float32", "float32", "float64"]),
        large=large,
        rows=batches * batch_size + rest,
        features=256 if large else dice.choice([5, 12, 30]),
        classes=dice.choice([3, 5]) if loss[0].startswith("softmax") else 2,
        stored=dice.choice(["float", "float", "uint8"]),
        hidden=(dice.choice([384, 512]),) if large else dice.choice([(16,), (64, 32), (128,), (200, 100)]),
        norm=norm,
        activation=dice.choice(ACTIVATIONS),
        dropout=dice.choice([0.0, 0.2, 0.5]),
        loss=loss,
        optimizer=dice.choice(OPTIMIZERS),
        schedule=schedule,
        batch_size=batch_size,
        epochs=dice.randint(3, 6) if each_step else dice.randint(5, 12),
        shuffle=dice.random() < 0.75,
        accumulate=dice.choice([1, 1, 1, 2, 3]),
        average=dice.choice([None, None, 0.9, 0.99]),
        clip_norm=dice.choice([None, None, 0.5]),
        clip_value=dice.choice([None, None, None, 0.05]),
        validation=validation,
        validation_every=dice.choice([1, 1, 2, 3]),
        weights=dice.choice(["", "", "rows", "classes", "balanced"]),
        train_metrics=dice.random() < 0.3,
        callbacks=_callbacks(dice, schedule),
        often={"steps": 1} if large else often,
        kills=kills,
        early=dice.random() < 0.1,
        command_line=command_line,
        signals=tuple(dice.choice(SIGNALS) if command_line else "SIGKILL" for _ in kills),
    )


def _callbacks(dice: random.Random, schedule: str) -> tuple[str, ...]:
    of_rate = [""] if schedule else ["", "ReduceOnPlateau", "LearningRateSchedule"]
    drawn = [
        dice.choice(["", "EarlyStopping", "EarlyStopping of the last"]),
        dice.choice(of_rate),
        dice.choice(["", "SaveModel", "SaveModel of each"]),
        dice.choice(["", "JSONLog", "CSVLog"]),
        dice.choice(["", "own"]),
    ]
    return tuple(name for name in drawn if name)
