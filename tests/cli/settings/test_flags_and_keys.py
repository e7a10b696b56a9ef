"""A flag and a key of recipes that are of one setting say the same."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import recipes
import train
from nn.cli import SETTINGS, Settings, UsageError
from nn.cli.combine import OF_OPTIMIZER

#: For each setting that both can say: the words of the flag, and the value in TOML.
BOTH = {
    "dtype": ("float64", '"float64"'),
    "data": ("mnist", '"mnist"'),
    "data_dir": ("there", '"there"'),
    "window": ("full", '"full"'),
    "limit": ("70", "70"),
    "test_fraction": ("0.25", "0.25"),
    "validation": ("0.3", "0.3"),
    "label": ("kind -1", '["kind", -1]'),
    "task": ("values", '"values"'),
    "impute": ("median", '"median"'),
    "categorical": ("size 2", '["size", 2]'),
    "only": ("1 cat", '[1, "cat"]'),
    "positive": ("4", "4"),
    "shift": ("-0.5", "-0.5"),
    "augment_shift": ("1.5", "1.5"),
    "augment_rotation": ("15.0", "15.0"),
    "augment_scale": ("0.15", "0.15"),
    "augment_shear": ("10.0", "10.0"),
    "augment_elastic": ("34.0 4.0", "[34.0, 4.0]"),
    "augment_flip": ("both", '"both"'),
    "augment_cutout": ("4", "4"),
    "augment_fill": ("255.0", "255.0"),
    "hidden": ("30 20", "[30, 20]"),
    "layers": ("8C3-MP2-20N", '"8C3-MP2-20N"'),
    "activation": ("tanh", '"tanh"'),
    "init": ("normal:0.01", '"normal:0.01"'),
    "start_from": ("out", '"out"'),
    "bias_init": ("0.5", "0.5"),
    "standardize": ("", "true"),
    "norm": ("batch", '"batch"'),
    "dropout": ("0.2", "0.2"),
    "loss": ("mse", '"mse"'),
    "label_smoothing": ("0.2", "0.2"),
    "delta": ("0.5", "0.5"),
    "gamma": ("3", "3"),
    "focal_alpha": ("0.5", "0.5"),
    "class_weight": ("0=2 7=0.5", '["0=2", "7=0.5"]'),
    "epochs": ("3", "3"),
    "batch_size": ("full", '"full"'),
    "shuffle": ("", "false"),
    "optimizer": ("adam", '"adam"'),
    "learning_rate": ("0.3", "0.3"),
    "momentum": ("0.4", "0.4"),
    "dampening": ("0.6", "0.6"),
    "nesterov": ("", "true"),
    "alpha": ("0.8", "0.8"),
    "beta1": ("0.7", "0.7"),
    "beta2": ("0.6", "0.6"),
    "epsilon": ("0.001", "0.001"),
    "epsilon_inside": ("", "true"),
    "epsilon_hat": ("", "true"),
    "clip_norm": ("1.5", "1.5"),
    "clip_value": ("0.5", "0.5"),
    "accumulate": ("4", "4"),
    "average": ("0.99", "0.99"),
    "blocks": ("4", "4"),
    "centered": ("", "true"),
    "lr_decay": ("0.5", "0.5"),
    "initial_accumulator_value": ("0.1", "0.1"),
    "weight_decay": ("0.01", "0.01"),
    "decoupled": ("", "false"),
    "l1": ("0.001", "0.001"),
    "schedule": ("cosine", '"cosine"'),
    "warmup": ("0.5", "0.5"),
    "decay_every": ("2", "2.0"),
    "decay_factor": ("0.5", "0.5"),
    "min_lr": ("0.001", "0.001"),
    "plateau_patience": ("3", "3"),
    "seed": ("9", "9"),
    "every": ("4", "4"),
    "early_stopping": ("3", "3"),
    "monitor": ("loss", '"loss"'),
    "min_delta": ("0.5", "0.5"),
    "restore_best": ("", "false"),
    "metrics": ("auc macro_f1", '["auc", "macro_f1"]'),
    "train_metrics": ("", "true"),
    "confusion": ("predicted", '"predicted"'),
    "predictions": ("6", "6"),
}


#: What a setting needs beside it in order not to be refused.
BESIDE = dict.fromkeys(("label", "task", "impute", "categorical"), ("data", '"t.csv"')) | {
    "data_dir": ("data", '"mnist"'),
    "window": ("data", '"rows.h5"'),
    "delta": ("loss", '"huber"'),
    "gamma": ("loss", '"focal"'),
    "focal_alpha": ("loss", '"focal"'),
    **dict.fromkeys(("alpha", "epsilon", "epsilon_inside", "centered"), ("optimizer", '"rmsprop"')),
    **dict.fromkeys(("beta1", "beta2", "epsilon_hat", "decoupled"), ("optimizer", '"adamw"')),
    **dict.fromkeys(("lr_decay", "initial_accumulator_value"), ("optimizer", '"adagrad"')),
    **dict.fromkeys(("decay_every", "decay_factor"), ("schedule", '"step"')),
    **dict.fromkeys(("min_lr", "plateau_patience"), ("schedule", '"plateau"')),
}
BESIDE |= dict.fromkeys(("monitor", "min_delta", "restore_best"), ("early_stopping", "3"))
BESIDE["train_metrics"] = "metrics", '["auc"]'
BESIDE["augment_fill"] = "augment_cutout", "3"


def test_every_setting_that_both_can_say_is_there() -> None:
    assert set(BOTH) == {name for name, setting in SETTINGS.items() if setting.flags and setting.table}


@pytest.mark.parametrize("name", BOTH)
def test_a_flag_and_its_key_say_the_same(name: str, tmp_path: Path) -> None:
    words, toml = BOTH[name]
    setting, path = SETTINGS[name], tmp_path / "mine.toml"
    texts = [f"[{setting.table}]\n{name} = {toml}\n"]
    beside = []
    if name in BESIDE:
        other, value = BESIDE[name]
        texts = [f"[{setting.table}]\n{other} = {value}\n{name} = {toml}\n"]
        beside = [SETTINGS[other].flag, value.strip('"[]')]
    path.write_text("".join(texts), encoding="utf-8")
    (from_recipe,) = train.parse(["--recipe", str(path)])
    assert getattr(from_recipe, name) != getattr(Settings(), name)
    for flag in setting.flags:
        (from_flag,) = train.parse([flag, *words.split(), *beside])
        assert getattr(from_flag, name) == getattr(from_recipe, name), flag
        assert name in from_flag.given
        assert name not in from_recipe.given


@pytest.mark.parametrize("name", BOTH)
def test_a_flag_overrides_its_key_and_other_keys_stay(name: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[training]\nepochs = 6\nseed = 8\n[network]\nhidden = [5]\n[report]\nevery = 2\n")
    kept = {"epochs": 6, "seed": 8, "hidden": (5,), "every": 2}
    words, _ = BOTH[name]
    beside = [SETTINGS[BESIDE[name][0]].flag, BESIDE[name][1].strip('"[]')] if name in BESIDE else []
    (settings,) = train.parse(["--recipe", str(path), SETTINGS[name].flag, *words.split(), *beside])
    overridden = {name, "hidden"} if name == "layers" else {name}
    for key, value in kept.items():
        assert (getattr(settings, key) == value) == (key not in overridden), key


@given(flags=st.sets(st.sampled_from(sorted(BOTH))), keys=st.sets(st.sampled_from(sorted(BOTH))))
def test_nothing_that_is_said_is_lost_in_silence(flags: set[str], keys: set[str]) -> None:
    """Whatever flags and keys come together: each is there in the end, or overridden, or idle, or refused."""
    final = {name: SETTINGS[name].kind.final(tomllib.loads(f"x = {toml}")["x"]) for name, (_, toml) in BOTH.items()}
    by_flag = {name: tomllib.loads(f"x = {BOTH[name][1]}")["x"] for name in flags}
    part = recipes.Part("mine", {name: tomllib.loads(f"x = {BOTH[name][1]}")["x"] for name in keys}, where="mine: ")
    try:
        settings = part.run_with(by_flag)
    except UsageError as error:
        refused = re.match(r"(mine: \[\w+\] (?P<key>\w+)|(?P<flag>--[\w-]+)) would do nothing here, as ", str(error))
        assert refused is not None
        assert refused["key"] in keys or refused["flag"] in {SETTINGS[name].flag for name in flags}
        return
    assert settings.given == flags
    for name in flags:
        assert getattr(settings, name) == final[name]
        assert SETTINGS[name].why_idle(settings) == ""
    for name in keys - flags:
        kept = getattr(settings, name) == final[name]
        other_optimizer = name in OF_OPTIMIZER and "optimizer" in flags - keys
        assert kept or SETTINGS[name].why_idle(replace(settings, **{name: final[name]})) or other_optimizer
    for name in set(SETTINGS) - flags - keys:
        assert getattr(settings, name) == getattr(Settings(), name)
