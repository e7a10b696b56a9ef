"""A flag that would do nothing is refused. Which flag is refused when, and which never, is decided here."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import train
from nn import Data, Dataset
from nn.cli import SETTINGS, Settings, UsageError, refuse_idle_on_rows
from tests.helpers.script import run

PEOPLE = ["--recipe", "people"]  # its rows are written out, and there are no test rows
NEURON = ["--recipe", "neuron"]  # nothing is trained
COMPARE = ["--compare", "cpu,cpu/reference"]
ADAM = ["--optimizer", "adam"]

#: Settings that SGD does not have, and their flags.
OF_OTHERS = {
    "alpha": "--alpha",
    "beta1": "--beta1",
    "beta2": "--beta2",
    "epsilon": "--epsilon",
    "lr_decay": "--lr-decay",
    "initial_accumulator_value": "--initial-accumulator-value",
}

#: setting, command line, and the reason that the message gives
REFUSED = [
    ("device", [*COMPARE, "--device", "cpu"], "--compare names the devices itself, as in cpu,cuda/reference"),
    ("reference", [*COMPARE, "--reference"], "--compare names the devices itself, as in cpu,cuda/reference"),
    ("precision", [*COMPARE, "--precision", "bf16"], "--compare allows for the rounding of --dtype alone"),
    ("compare_steps", ["--compare-steps", "5"], "there is no --compare"),
    ("data_dir", ["--data-dir", "x"], "only --data mnist is read from a folder"),
    ("data_dir", [*PEOPLE, "--data-dir", "x"], "the rows are written out"),
    ("test_fraction", [*PEOPLE, "--test-fraction", "0.5"], "the rows are written out"),
    ("test_fraction", ["--data", "{npz}", "--test-fraction", "0.5"], "these data come with test rows"),
    *(
        (name, [f"--{name}", value], "the data are no table")
        for name, value in (("label", "a"), ("task", "values"), ("impute", "mean"), ("categorical", "a"))
    ),
    ("label", [*PEOPLE, "--label", "a"], "the data are no table"),
    ("validation", ["--epochs", "0", "--validation", "0.1"], "nothing is trained"),
    ("validation", [*COMPARE, "--validation", "test"], "--compare evaluates nothing"),
    ("validation", ["--test-fraction", "0", "--validation", "test"], "there are no test rows"),
    ("only", ["--only", "1", "2", "--positive", "1"], "`positive` already says which classes there are"),
    ("hidden", ["--hidden", "8", "--layers", "8C3-9N"], "--layers says which hidden layers there are"),
    ("layers", ["--layers", "8C3-9N", "--hidden", "8"], "--hidden says which hidden layers there are"),
    ("activation", ["--hidden", "--activation", "tanh"], "there is no hidden layer"),
    ("activation", ["--layers", "MP2-GAP", "--activation", "tanh"], "there is no hidden layer"),
    ("norm", ["--layers", "AP2", "--norm", "batch"], "there is no hidden layer"),
    ("dropout", ["--layers", "8C3-GAP", "--dropout", "0.1"], "there is no fully connected hidden layer"),
    ("activation", ["--recipe", "zero-logistic", "--activation", "tanh"], "there is no hidden layer"),
    ("init", [*NEURON, "--init", "zeros"], "the weights are written out"),
    ("bias_init", [*NEURON, "--bias-init", "zeros"], "the biases are written out"),
    ("init", ["--weights", "out", "--init", "zeros"], "--weights gives them"),
    ("bias_init", ["--weights", "out", "--bias-init", "zeros"], "--weights gives them"),
    ("start_from", [*NEURON, "--weights", "out"], "the weights are written out"),
    ("norm", ["--hidden", "--norm", "batch"], "there is no hidden layer"),
    ("dropout", ["--hidden", "--dropout", "0.1"], "there is no hidden layer"),
    ("dropout", ["--epochs", "0", "--dropout", "0.1"], "nothing is trained"),
    ("batch_size", [*NEURON, "--batch-size", "1"], "nothing is trained"),
    ("shuffle", [*NEURON, "--no-shuffle"], "nothing is trained"),
    ("optimizer", [*NEURON, *ADAM], "nothing is trained"),
    ("learning_rate", [*NEURON, "--lr", "1"], "nothing is trained"),
    ("label_smoothing", ["--loss", "mse", "--label-smoothing", "0.1"], "mse has no label_smoothing"),
    ("delta", ["--delta", "0.1"], "softmax_cross_entropy has no delta"),
    ("gamma", ["--loss", "bce", "--gamma", "1"], "bce has no gamma"),
    ("focal_alpha", ["--loss", "bce", "--focal-alpha", "0.5"], "bce has no alpha"),
    ("class_weight", [*NEURON, "--class-weight", "balanced"], "nothing is trained"),
    ("momentum", [*ADAM, "--momentum", "0.3"], "adam has no momentum"),
    ("momentum", ["--recipe", "first-network", "--beta", "0.3"], "adam has no momentum"),
    ("dampening", [*ADAM, "--dampening", "0.3"], "adam has no dampening"),
    ("dampening", ["--momentum", "0", "--dampening", "0.3"], "the momentum is 0"),
    ("nesterov", [*ADAM, "--nesterov"], "adam has no nesterov"),
    ("nesterov", ["--momentum", "0", "--nesterov"], "the momentum is 0"),
    ("weight_decay", [*NEURON, "--weight-decay", "0.1"], "nothing is trained"),
    *(
        (name, [*NEURON, f"--{name.replace('_', '-')}", value], "nothing is trained")
        for name, value in (
            *(("clip_norm", "1"), ("clip_value", "1"), ("accumulate", "2"), ("average", "0.9"), ("blocks", "2")),
            ("processes", "2"),
        )
    ),
    *(
        (f"augment_{name}", [*NEURON, f"--augment-{name}", *values.split()], "nothing is trained")
        for name, values in (
            ("shift", "1"),
            ("rotation", "1"),
            ("scale", "0.1"),
            ("shear", "1"),
            ("elastic", "34 4"),
            ("flip", "both"),
            ("cutout", "1"),
        )
    ),
    ("augment_fill", [*NEURON, "--augment-fill", "1"], "nothing is trained"),
    ("augment_fill", ["--augment-fill", "1"], "no picture is distorted"),
    ("window", [*NEURON, "--window", "9"], "the rows are written out"),
    ("window", ["--window", "9"], "only .npy, zarr, HDF5 and Parquet are read in windows"),
    ("window", ["--data", "{npz}", "--window", "full"], "only .npy, zarr, HDF5 and Parquet are read in windows"),
    ("accumulate", ["--batch-size", "full", "--accumulate", "2"], "all rows at once are one batch"),
    *((name, ["--optimizer", "sgd", flag, "0.5"], f"sgd has no {name}") for name, flag in OF_OTHERS.items()),
    ("epsilon_inside", [*ADAM, "--epsilon-inside"], "adam has no epsilon_inside"),
    ("epsilon_hat", ["--optimizer", "rmsprop", "--epsilon-hat"], "rmsprop has no epsilon_hat"),
    ("centered", ["--optimizer", "adagrad", "--centered"], "adagrad has no centered"),
    ("decoupled", ["--no-decoupled"], "there is no weight decay"),
    ("decoupled", ["--optimizer", "adamw", "--weight-decay", "0", "--no-decoupled"], "there is no weight decay"),
    ("l1", [*NEURON, "--l1", "0.1"], "nothing is trained"),
    ("schedule", [*NEURON, "--schedule", "cosine"], "nothing is trained"),
    ("warmup", ["--schedule", "plateau", "--warmup", "1"], "the schedule is plateau"),
    ("decay_every", ["--decay-every", "1"], "the schedule is constant"),
    ("decay_every", ["--schedule", "plateau", "--decay-every", "1"], "the schedule is plateau"),
    ("decay_factor", ["--schedule", "cosine", "--decay-factor", "0.5"], "the schedule is cosine"),
    ("min_lr", ["--schedule", "step", "--min-lr", "0.5"], "the schedule is step"),
    ("plateau_patience", ["--schedule", "one_cycle", "--plateau-patience", "1"], "the schedule is one_cycle"),
    ("every", [*NEURON, "--every", "2"], "nothing is trained"),
    ("every", ["--quiet", "--every", "2"], "--quiet prints the result only"),
    ("every", [*COMPARE, "--every", "2"], "--compare shows neither epochs nor a test result"),
    ("confusion", ["--quiet", "--confusion", "predicted"], "--quiet prints the result only"),
    ("confusion", [*COMPARE, "--confusion", "predicted"], "--compare shows neither epochs nor a test result"),
    ("confusion", [*PEOPLE, "--confusion", "predicted"], "there are no test rows"),
    ("predictions", ["--quiet", "--predictions", "3"], "--quiet prints the result only"),
    ("predictions", [*COMPARE, "--predictions", "3"], "--compare shows neither epochs nor a test result"),
    ("predictions", ["--test-fraction", "0", "--predictions", "3"], "there are no test rows"),
    *(
        (name, [*before, *flags], why)
        for name, flags in (
            ("early_stopping", ["--early-stopping", "3"]),
            ("log", ["--log", "log.csv"]),
            ("tensorboard", ["--tensorboard", "events"]),
        )
        for before, why in ((NEURON, "nothing is trained"), (COMPARE, "--compare makes every step and shows no epoch"))
    ),
    ("monitor", ["--monitor", "loss"], "there is no early stopping"),
    ("min_delta", ["--min-delta", "0.1"], "there is no early stopping"),
    ("restore_best", ["--no-restore-best"], "there is no early stopping"),
    ("metrics", [*COMPARE, "--metrics", "auc"], "--compare shows neither epochs nor a test result"),
    ("metrics", ["--test-fraction", "0", "--metrics", "auc"], "there are no test rows and no validation rows"),
    ("train_metrics", ["--train-metrics"], "there are no --metrics"),
    ("report", [*COMPARE, "--report", "r.html"], "--compare shows neither epochs nor a test result"),
    ("checkpoint_every", ["--checkpoint-every", "3"], "there is no --output"),
    ("checkpoint_every", [*NEURON, "--output", "x", "--checkpoint-every", "3"], "nothing is trained"),
    ("overwrite", ["--overwrite"], "there is no --output"),
    ("overwrite", ["--plots", "--overwrite"], "there is no --output"),
    ("plots", [*NEURON, "--plots"], "nothing is trained and there are no test rows"),
]

#: A flag that always does something, or asks for nothing but what is so, and why.
NEVER_REFUSED = {
    "recipe": "it names the run",
    "list_recipes": "it is what is done, as --help is",
    "dtype": "there are always numbers",
    "threads": "refused where the device is known: see below",
    "compare": "it is what is done",
    "data": "it overrides the rows that a recipe writes out",
    "limit": "there are always rows; more than there are is all of them",
    "positive": "refused beside --only, which the user is told of --only",
    "shift": "there are always rows",
    "standardize": "there are always columns",
    "loss": "there is always a result",
    "epochs": "0 is a number of passes, too",
    "seed": "somebody who repeats a run with several seeds need not know whether it has any random numbers",
    "output": "there is always something to keep",
    "resume": "it names the run",
    "quiet": "there is always something else that is printed",
}


def npz(folder: Path) -> str:
    path = folder / "rows.npz"
    x, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)
    return str(path)


@pytest.mark.parametrize(("name", "flags", "why"), REFUSED)
def test_a_flag_that_would_do_nothing_is_refused(
    name: str, flags: list[str], why: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, err = run(capsys, *(npz(tmp_path) if flag == "{npz}" else flag for flag in flags))
    (sentence,) = err.splitlines()
    assert (code, out) == (2, "")
    assert sentence == f"train.py: error: {SETTINGS[name].flag} would do nothing here, as {why}; leave it out"


@pytest.mark.parametrize("name", ["a.csv", "a.npz", "a.npy", "a.zarr", "a.h5", "a", "b/a"])
@pytest.mark.parametrize("flags", [["--impute", "mean"], ["--categorical"], ["--window", "9"], ["--label", "x"]])
def test_data_that_are_not_there_are_said_not_to_be(
    name: str, flags: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever they would be: a flag may be for them."""
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "--data", name, *flags)
    assert (code, out) == (2, "")
    where = f"it was looked for in {tmp_path}" if name != "a" else "known are 'digits', .*"
    assert re.fullmatch(rf"train.py: error: '{name}' is neither a file nor a known source; {where}\n", err)


def test_a_confusion_matrix_needs_labels_and_predictions_do_not() -> None:
    values, labels = (Dataset(np.ones((4, 2)), y) for y in (np.ones((4, 1), "f4"), np.array([0, 1, 0, 1])))
    settings = replace(Settings(), given=frozenset({"confusion"}))
    refuse_idle_on_rows(settings, Data("mine", labels, labels), own_test_rows=True)
    refuse_idle_on_rows(
        replace(settings, given=frozenset({"predictions"})), Data("mine", values, values), own_test_rows=True
    )
    with pytest.raises(UsageError) as caught:
        refuse_idle_on_rows(settings, Data("mine", values, values), own_test_rows=True)
    why = "the rows have no class labels"
    assert str(caught.value) == f"--confusion would do nothing here, as {why}; leave it out"


def test_every_flag_is_decided() -> None:
    refused = {name for name, _, _ in REFUSED}
    assert not refused & set(NEVER_REFUSED)
    assert refused | set(NEVER_REFUSED) == {name for name, setting in SETTINGS.items() if setting.flags}


@pytest.mark.parametrize(
    "flags",
    [
        ["--every", "50"],  # more than there are epochs: the first and the last are printed
        ["--quiet", "--every", "2", "--validation", "0.2"],  # it is evaluated on them
        ["--quiet", "--confusion", "predicted", "--plots"],  # it is drawn
        ["--batch-size", "full", "--no-shuffle"],  # all rows at once are in their order
        ["--batch-size", "9999"],
        ["--device", "array_api_strict", "--reference"],  # it has no others, and these are what was asked for
        ["--limit", "9999"],
        ["--predictions", "9999"],
        [*ADAM, "--weight-decay", "0.1"],
        ["--hidden", "--dtype", "float32"],  # a default, given
        ["--momentum", "0.9", "--dampening", "0"],
        [*PEOPLE, "--data", "digits", "--loss", "softmax_cross_entropy", "--validation", "0.1"],  # overrides its rows
    ],
)
def test_a_flag_that_does_what_it_says_is_not_refused(flags: list[str], tmp_path: Path) -> None:
    if "--plots" in flags:
        pytest.importorskip("matplotlib", reason="matplotlib is not installed")
        flags = [*flags, "--output", str(tmp_path)]
    epochs = [] if "--epochs" in flags else ["--epochs", "1"]
    train.prepare(train.parse([*flags, *epochs])[0])


def test_threads_are_those_of_numpys_products(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    with pytest.raises(UsageError, match="--threads would do nothing on torch:cpu; leave it out, or say --device cpu"):
        train.prepare(train.parse(["--device", "torch", "--threads", "1"])[0])


# ---- recipes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[training]\noptimizer = 'adam'\nmomentum = 0.9\n",
            "[training] momentum would do nothing here, as adam has no",
        ),
        (
            "[training]\nmomentum = 0.0\ndampening = 0.9\n",
            "[training] dampening would do nothing here, as the momentum",
        ),
        ("[training]\nepochs = 0\nlearning_rate = 0.1\n", "[training] learning_rate would do nothing here, as nothing"),
        ("[network]\nhidden = []\nactivation = 'tanh'\n", "[network] activation would do nothing here, as there is no"),
        ("[network]\nweights = [1]\ninit = 'zeros'\n", "[network] init would do nothing here, as the weights are"),
        ("[data]\nrows = [[1]]\ndata = 'mnist'\n", "[data] data would do nothing here, as the rows are written out"),
        ("[data]\ntargets = [[1]]\n", "[data] targets would do nothing here, as there are no `rows`"),
        ("[data]\nonly = [1, 2]\npositive = 1\n", "[data] only would do nothing here, as `positive` already says"),
        (
            "[[parts]]\n[parts.training]\nnesterov = true\nmomentum = 0\n",
            "parts 1: [training] nesterov would do nothing",
        ),
    ],
)
def test_a_key_that_its_own_recipe_makes_idle_is_refused(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    code, out, err = run(capsys, "--recipe", str(path))
    assert (code, out) == (2, "")
    assert err.startswith(f"train.py: error: {path}: {message}")


@pytest.mark.parametrize(
    ("flags", "left_out"),
    [
        (["--recipe", "momentum", *ADAM], {"momentum": None, "dampening": 0.0, "learning_rate": None}),
        (["--recipe", "momentum", "--momentum", "0"], {"dampening": 0.0}),
        (["--recipe", "momentum", "--hidden"], {"activation": "relu"}),
        (["--recipe", "momentum", "--epochs", "0"], {"validation": None, "batch_size": 32, "learning_rate": None}),
        (["--recipe", "momentum", "--quiet"], {"predictions": 0}),
        (["--recipe", "zero-hidden", "--only", "1", "2"], {"positive": None, "only": (1, 2)}),
        ([*PEOPLE, "--data", "mnist"], {"rows": None, "targets": None, "data": "mnist"}),
    ],
)
def test_a_key_that_a_flag_makes_idle_is_left_out(flags: list[str], left_out: dict[str, object]) -> None:
    (settings,) = train.parse(flags)
    assert {name: getattr(settings, name) for name in left_out} == left_out


def test_a_key_for_other_rows_may_stand_in_a_recipe() -> None:
    """`ten-relu` says how much of a CSV file to set aside; on MNIST, which has test rows, that is no mistake."""
    (settings,) = train.parse(["--recipe", "ten-relu"])
    assert (settings.data, settings.test_fraction) == ("mnist", 0)
