"""``--help``."""

from __future__ import annotations

import re

import pytest

import train
from nn import SGD, Adam
from nn.cli import SETTINGS


def test_help_tells_every_flag_and_its_default_in_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as done:
        train.main(["--help"])
    assert done.value.code == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    text = re.sub(r"\s+", " ", out)
    for setting in SETTINGS.values():
        for flag in setting.flags:
            assert f" {flag} " in text or f" {flag}," in text
        if setting.flags and setting.default_text:
            assert f"(default: {setting.default_text})" in text
    assert re.search(rf"learning rate \(default: .*\b{SGD().learning_rate:g} for sgd\b", text)
    assert re.search(rf"learning rate \(default: .*\b{Adam().learning_rate:g} for adam\b", text)
    assert "None" not in text
    headings = [line for line in out.splitlines() if re.fullmatch(r"\S.*:", line)]
    assert headings == ["options:", "recipes:", "where to compute:", "data:", "network:", "training:", "output:"]


#: What stands behind a flag in the help.
PLACEHOLDERS = {
    "recipe": "NAME",
    "device": "DEVICE",
    "dtype": "{float32,float64}",
    "threads": "N",
    "processes": "N",
    "precision": "{float32,tf32,bf16}",
    "compare": "DEVICES",
    "compare_steps": "N",
    "data": "SOURCE",
    "data_dir": "DIR",
    "window": "ROWS",
    "limit": "ROWS",
    "test_fraction": "FRACTION",
    "validation": "ROWS",
    "only": "CLASS [CLASS ...]",
    "positive": "CLASS",
    "shift": "X",
    "augment_shift": "PIXELS",
    "augment_rotation": "DEGREES",
    "augment_scale": "X",
    "augment_shear": "DEGREES",
    "augment_elastic": "ALPHA SIGMA",
    "augment_flip": "{horizontal,vertical,both}",
    "augment_cutout": "PIXELS",
    "augment_fill": "X",
    "hidden": "[UNITS ...]",
    "layers": "LAYERS",
    "activation": "NAME",
    "init": "NAME",
    "start_from": "MODEL",
    "bias_init": "NAME",
    "norm": "{batch,layer}",
    "dropout": "RATE",
    "loss": "NAME",
    "label_smoothing": "X",
    "delta": "X",
    "gamma": "X",
    "focal_alpha": "X",
    "class_weight": "WEIGHT [WEIGHT ...]",
    "epochs": "N",
    "batch_size": "ROWS",
    "optimizer": "NAME",
    "learning_rate": "RATE",
    "momentum": "X",
    "dampening": "X",
    "alpha": "X",
    "beta1": "X",
    "beta2": "X",
    "epsilon": "X",
    "lr_decay": "X",
    "initial_accumulator_value": "X",
    "weight_decay": "RATE",
    "clip_norm": "X",
    "clip_value": "X",
    "accumulate": "N",
    "blocks": "N",
    "average": "X",
    "l1": "X",
    "schedule": "NAME",
    "warmup": "EPOCHS",
    "decay_every": "EPOCHS",
    "decay_factor": "X",
    "min_lr": "RATE",
    "plateau_patience": "N",
    "seed": "N",
    "every": "N",
    "confusion": "{true,predicted}",
    "predictions": "N",
    "output": "DIR",
    "early_stopping": "PATIENCE",
    "monitor": "NAME",
    "min_delta": "X",
    "metrics": "NAME [NAME ...]",
    "log": "FILE",
    "resume": "DIR",
    "checkpoint_every": "WHEN",
    "tensorboard": "DIR",
    "report": "FILE",
    "label": "COLUMN [COLUMN ...]",
    "task": "{auto,classes,values}",
    "impute": "{mean,median,most_frequent}",
    "categorical": "[COLUMN ...]",
}


def test_help_shows_what_kind_of_value_a_flag_takes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train.main(["--help"])
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    for name, placeholder in PLACEHOLDERS.items():
        help_begins = SETTINGS[name].help.split()[0]
        assert f" {SETTINGS[name].flags[-1]} {placeholder} {help_begins}" in text, name
    without = {name for name, setting in SETTINGS.items() if setting.flags and name not in PLACEHOLDERS}
    assert without == {
        "list_recipes",
        "reference",
        "shuffle",
        "nesterov",
        "epsilon_inside",
        "epsilon_hat",
        "centered",
        "decoupled",
        "standardize",
        "plots",
        "quiet",
        "restore_best",
        "train_metrics",
        "overwrite",
    }
