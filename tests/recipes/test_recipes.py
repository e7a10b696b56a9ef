"""Each system of the tutorials as a recipe: the quick ones whole, the long ones on few rows."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recipes
import train
from nn import Data
from nn.report import figures, is_reproduced
from tests.helpers import made_up
from tests.helpers.backends import TRIED, backend_id, is_on_gpu, make_backend

SYSTEMS = {
    "neuron", "feedforward", "people", "zero-logistic", "zero-hidden", "ten-full-batch", "one-vs-two", "ten-relu",
    "momentum", "course-homework", "first-network", "keras-mlp",
    "lenet", "simard-mlp", "ciresan-2500", "mnist-cnn", "mnist-cnn-fast",
}  # fmt: skip
QUICK = ["neuron", "feedforward", "people"]
LONG = sorted(SYSTEMS - set(QUICK))
#: Those that take minutes for what others do in a second, and what they are tried on. Adam divides by roots near 0 in
#: its first steps, so that in float32 three epochs with normalization differ in the fourth digit.
LARGE = ("ciresan-2500", "mnist-cnn", "mnist-cnn-fast", "lenet")
FEW = ["--limit", "100", "--epochs", "3", "--dtype", "float64"]
#: Of 12 million weights array-api-strict makes no more than of 120,000.
SMALLER = {"ciresan-2500": ["--hidden", "250", "200", "150", "100", "50"]}


def made_up_mnist(*_: Any, limit: int | None = None, **__: Any) -> Data:
    """What ``load_data`` gives, without the files."""
    data = made_up.mnist(600, 200)
    assert data.test is not None
    return Data("mnist", data.train[:limit], data.test[:limit])


def run_part(flags: list[str], part: int = 0) -> train.Run:
    run = train.prepare(train.parse([*flags, "--quiet"])[part])
    train.train(run)
    return run


def losses(run: train.Run) -> list[float]:
    return run.trainer.history["loss"]


def test_the_systems_are_there() -> None:
    assert set(recipes.names()) == SYSTEMS


def quick_ones() -> list[Any]:
    """On every backend. That of array-api-strict takes ten seconds for the 4,000 steps of `people`, of which 200 are
    compared with those of NumPy below: all of them are made where that is asked for."""
    found = []
    for name, which in itertools.product(QUICK, TRIED):
        is_slow = name == "people" and which[0].startswith("array_api_strict")
        marks = [*[pytest.mark.gpu] * is_on_gpu(which[0]), *[pytest.mark.slow] * is_slow]
        found.append(pytest.param(name, which, id=f"{name}-{backend_id(which)}", marks=marks))
    return found


@pytest.mark.parametrize(("name", "which_backend"), quick_ones())
def test_the_quick_ones_reproduce_their_figures_on_every_backend(name: str, which_backend: tuple[str, bool]) -> None:
    make_backend(which_backend)
    device, fused = which_backend
    for number, part in enumerate(recipes.load(name).parts):
        run = run_part(["--recipe", name, "--device", device, *([] if fused else ["--reference"])], number)
        found = figures(run.trainer, run.training, run.test, run.settings.predict)
        assert part.reproduced
        for figure, wanted in part.reproduced.items():
            if device == "torch" and wanted[0] == wanted[1]:  # its tanh rounds the last digit otherwise
                assert found[figure] == pytest.approx(wanted[0], rel=1e-15)
            else:
                assert is_reproduced(figure, found[figure], wanted), (figure, found[figure])


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_people_are_told_apart_whatever_the_seed(seed: int) -> None:
    run = run_part(["--recipe", "people", "--device", "cpu", "--seed", str(seed)])
    np.testing.assert_array_equal(run.trainer.predict(run.training) > 0.5, [True, False, False, True])
    woman, man = run.trainer.predict(run.settings.predict)
    assert woman > 0.9
    assert man < 0.1
    assert run.trainer.model.step == 4000


@pytest.mark.parametrize("name", [*LONG, "people"])
def test_the_long_ones_give_the_same_numbers_on_array_api_strict(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nn.cli.rows.load_data", made_up_mnist)
    flags = ["--recipe", name, *(FEW if name in LARGE else ["--epochs", "50" if name == "people" else "2"])]
    flags += SMALLER.get(name, [])
    flags += ["--validation", "50"] if name != "people" else []  # which has four rows
    cpu = run_part([*flags, "--device", "cpu"])
    strict = run_part([*flags, "--device", "array_api_strict:device1"])
    assert np.isfinite(losses(cpu)).all()
    np.testing.assert_allclose(losses(strict), losses(cpu), rtol=1e-4)
    assert cpu.trainer.evaluate(cpu.training)["loss"] < losses(cpu)[0]


@pytest.mark.parametrize("name", LONG)
def test_every_figure_that_a_recipe_names_is_one_of_its_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nn.cli.rows.load_data", made_up_mnist)
    full_batch = recipes.load(name).parts[0].settings["batch_size"] == "full"
    epochs = "101" if full_batch else "2"  # some authors report the cost after 100 passes
    run = run_part(["--recipe", name, "--device", "cpu", "--epochs", epochs, "--validation", "50"])
    found = figures(run.trainer, run.training, run.test)
    assert set(run.settings.author) | set(run.settings.reproduced) <= set(found)
    assert run.settings.reproduced


def test_momentum_reaches_its_figures_on_mnist(mnist_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--recipe", "momentum", "--device", "cpu", "--data-dir", str(mnist_dir)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^test_accuracy .*yes$", out, re.MULTILINE)
    assert re.search(r"^loss .*yes$", out, re.MULTILINE)
    assert "the first 10 test rows" in out


gpu = pytest.mark.gpu


@pytest.mark.slow
@pytest.mark.parametrize(
    "device", ["torch", pytest.param("cuda", marks=gpu), pytest.param("cuda --reference", marks=gpu)]
)
def test_other_libraries_end_with_the_same_accuracy(device: str, mnist_dir: Path) -> None:
    """A whole recipe, in float32, on the real files: within 0.2 points of NumPy."""
    spec, *reference = device.split()
    make_backend((spec, not reference))
    flags = ["--recipe", "momentum", "--data-dir", str(mnist_dir), "--device"]
    accuracies = []
    for run in (run_part([*flags, "cpu"]), run_part([*flags, spec, *reference])):
        assert run.test is not None
        accuracies.append(run.trainer.evaluate(run.test)["accuracy"])
    assert accuracies[1] == pytest.approx(accuracies[0], abs=0.002)
    assert accuracies[0] > 0.97


def test_one_vs_two_has_the_authors_rows(mnist_dir: Path) -> None:
    run = train.prepare(train.parse(["--recipe", "one-vs-two", "--data-dir", str(mnist_dir), "--quiet"])[0])
    assert run.test is not None
    assert (len(run.training), len(run.test)) == (12_700, 2_167)
    assert run.training.class_names == ("1", "2")


def test_the_confusion_matrix_has_the_predicted_classes_as_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the author of `zero-logistic` has it; after no training nearly everything is predicted wrong."""
    monkeypatch.setattr("nn.cli.rows.load_data", made_up_mnist)
    train.main(["--recipe", "zero-logistic", "--device", "cpu", "--epochs", "1"])
    out = capsys.readouterr().out
    assert "rows are the predicted classes, columns the true" in out
    rows = [line.split()[-2:] for line in out.split("columns the true\n")[1].splitlines()[1:3]]
    truly_zero = int(rows[0][1]) + int(rows[1][1])
    assert truly_zero == int((made_up_mnist().test.y == 0).sum())  # type: ignore[union-attr]


def test_start_values_and_shuffles_do_not_depend_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nn.cli.rows.load_data", made_up_mnist)
    for name in LONG:
        states = [
            train.prepare(
                train.parse(["--recipe", name, "--validation", "50", "--device", device])[0]
            ).trainer.model.state_dict()
            for device in ("cpu", "array_api_strict:device1")
        ]
        for key, values in states[0].items():
            np.testing.assert_array_equal(values, states[1][key])


# ---- the language ----------------------------------------------------------------------------------------------------

MINE = """
title = "mine"
[data]
data = "digits"
[network]
hidden = [12]
activation = "tanh"
[training]
epochs = 3
batch_size = "full"
learning_rate = 1
[report]
predictions = 3
[author]
test_accuracy = "good"
[reproduced]
test_accuracy = [0.1, 1.0]
"""


def test_a_users_own_recipe_works_and_flags_override_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    assert train.main(["--recipe", str(path), "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    for words in ("recipe    mine: mine", "64-12-10, tanh", "3 epochs, all rows at once", "the first 3 test rows"):
        assert words in out
    assert train.main(["--recipe", str(path), "--device", "cpu", "--epochs", "2", "--hidden", "7", "5"]) == 0
    out = capsys.readouterr().out
    assert "64-7-5-10, tanh" in out
    assert "2 epochs" in out


@pytest.mark.parametrize(
    ("flags", "changed"),
    [
        ("", []),
        ("--seed 3 --device cpu --dtype float64 --every 2 --threads 1", []),
        ("--epochs 3 --hidden 12 --lr 1", []),  # as the recipe has it
        ("--epochs 4 --hidden 7 --activation relu", ["--hidden", "--activation", "--epochs"]),
        (
            "--loss mse --batch-size 9 --no-shuffle --momentum 0",
            ["--loss", "--batch-size", "--no-shuffle", "--momentum"],
        ),
        ("--optimizer adam", ["--optimizer"]),
        ("--data mnist --limit 9 --only 1 2 --validation 0.1", ["--data", "--limit", "--validation", "--only"]),
    ],
)
def test_flags_that_make_it_another_problem_are_known(flags: str, changed: list[str], tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINE.replace('batch_size = "full"', "batch_size = 10"))
    (settings,) = train.parse(["--recipe", str(path), *flags.split()])
    assert list(settings.changed) == changed
    assert train.parse(flags.split())[0].changed == ()  # there is no recipe to differ from


def test_a_run_that_was_stopped_reproduces_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    run = train.prepare(train.parse(["--recipe", str(path), "--device", "cpu"])[0])
    train.train(run)
    assert re.search(r"^test_accuracy .*yes$", train.report(run), re.MULTILINE)
    run.trainer.history.stopped = "Ctrl-C in epoch 2"
    text = train.report(run)
    assert not re.search(r"^test_accuracy .*yes$", text, re.MULTILINE)
    assert "nothing is reproduced: Ctrl-C in epoch 2 made this another run than the author's" in text


def test_another_optimizer_brings_its_own_learning_rate(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    rates = {
        flags: train.parse(["--recipe", str(path), *flags.split()])[0].learning_rate
        for flags in ("", "--optimizer adam", "--optimizer adam --lr 0.01", "--optimizer sgd")
    }
    assert list(rates.values()) == [1, None, 0.01, 1]


def test_ten_relu_trains_on_all_but_a_thousand_rows_of_a_csv(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = np.c_[np.arange(1100) % 10, rng.integers(0, 256, size=(1100, 784))]
    header = ",".join(["label", *(f"pixel{i}" for i in range(784))])
    np.savetxt(tmp_path / "train.csv", table, fmt="%d", delimiter=",", header=header, comments="")
    run = train.prepare(train.parse(["--recipe", "ten-relu", "--data", str(tmp_path / "train.csv"), "--quiet"])[0])
    assert run.validation is not None
    assert (len(run.training), len(run.validation), run.test) == (100, 1000, None)


@pytest.mark.parametrize("suffix", ["npz", "csv", "h5"])
def test_a_recipe_runs_on_every_form_of_data(tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    data, path = made_up_mnist(), tmp_path / f"rows.{suffix}"
    assert data.test is not None
    arrays: dict[str, Any] = {
        "x_train": data.train.x,
        "y_train": data.train.y,
        "x_test": data.test.x,
        "y_test": data.test.y,
    }
    if suffix == "npz":
        np.savez(path, **arrays)
    elif suffix == "csv":
        header = ",".join(["label", *(f"pixel{i}" for i in range(784))])
        np.savetxt(path, np.c_[data.train.y, data.train.x], fmt="%d", delimiter=",", header=header, comments="")
    else:
        h5py = pytest.importorskip("h5py", reason="h5py is not installed")
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file[name] = values / np.float32(255) if name.startswith("x") else values
    assert train.main(["--recipe", "momentum", "--data", str(path), "--device", "cpu", "--epochs", "9"]) == 0
    found = re.search(r"test accuracy ([\d.]+)%", capsys.readouterr().out)
    assert found is not None
    assert float(found[1]) > 90


def test_the_list_has_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--list-recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} == SYSTEMS
    assert all(len(line.split()) > 3 for line in lines)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("epochs = 3", "epoch = 3"), r"mine.toml: \[training\] unknown key 'epoch'; did you mean epochs\?$"),
        (
            ("epochs = 3", "xyzzy = 3"),
            r"mine.toml: \[training\] unknown key 'xyzzy'; known are dtype, loss, label_smoothing, ",
        ),
        (("epochs = 3", "lr = 3"), r"mine.toml: \[training\] unknown key 'lr'; did you mean learning_rate\?$"),
        (("epochs = 3", "hidden = [3]"), r"mine.toml: \[training\] hidden belongs to \[network\]$"),
        (("epochs = 3", "hiden = 3"), r"unknown key 'hiden'; did you mean hidden, which belongs to \[network\]\?$"),
        (("epochs = 3", "quiet = true"), r"\[training\] quiet is no key of a recipe: it is said by the flag --quiet"),
        (("title =", "epochs = 3\ntitle ="), r"mine.toml: epochs belongs to \[training\]$"),
        (("title =", "titel ="), r"mine.toml: unknown key 'titel'; did you mean title\?$"),
        (("[report]", "[reports]"), r"mine.toml: unknown key 'reports'; did you mean \[report\]\?$"),
        (("[report]", "[xyzzy]"), r"mine.toml: unknown key 'xyzzy'; known are title, \[data\], \[network\], "),
        (("epochs = 3", 'epochs = "3"'), r"mine.toml: \[training\] epochs must be a whole number, not '3'"),
        (("epochs = 3", "epochs = true"), r"mine.toml: \[training\] epochs must be a whole number, not True"),
        (("hidden = [12]", "hidden = 12"), r"\[network\] hidden must be a list of whole numbers, not 12"),
        (('"full"', "1.5"), r"\[training\] batch_size must be a whole number or full, not 1.5"),
        (("[0.1, 1.0]", "[1.0, 0.1]"), r"\[reproduced\] test_accuracy must be \[low, high\], not \[1.0, 0.1\]"),
        (("[0.1, 1.0]", '"high"'), r"\[reproduced\] test_accuracy must be a list of numbers"),
        (('"good"', "0.9"), r"\[author\] test_accuracy must be a string, not 0.9"),
        (
            ("test_accuracy = [0.1, 1.0]", "test_acuracy = [0.1, 1.0]"),
            r"\[reproduced\] unknown figure 'test_acuracy'; did you mean test_accuracy\?$",
        ),
        (
            ("test_accuracy = [0.1, 1.0]", '"output[x]" = [0.1, 1.0]'),
            r"\[reproduced\] unknown figure 'output\[x\]'; known are loss, accuracy, ",
        ),
        (("title =", "parts = 3\ntitle ="), r"mine.toml: parts must be tables, as in \[\[parts\]\], not 3$"),
        (("[network]", "network = 3\n[training.x]"), r"mine.toml"),
        (
            ('"tanh"', '"tan"'),
            r"\[network\] activation must be identity, .*, not 'tan'; did you mean tanh\?$",
        ),
        (
            ("predictions = 3", 'show = ["output"]'),
            r"\[report\] show must be .* not 'output'; did you mean outputs\?$",
        ),
        (("learning_rate = 1", "learning_rate = inf"), r"\[training\] learning_rate must be finite, not inf$"),
        (("epochs = 3", "epochs = -3"), r"mine.toml: \[training\] epochs must be at least 0, not -3$"),
        (("title =", "title"), r"mine.toml is not TOML: "),
    ],
)
def test_a_mistake_in_a_recipe_names_file_and_key(
    tmp_path: Path, change: tuple[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.toml"
    assert change[0] in MINE
    path.write_text(MINE.replace(*change))
    assert train.main(["--recipe", str(path), "--device", "cpu"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("train.py: error: ")
    assert captured.err.count("\n") == 1
    assert re.search(message, captured.err)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nonsense", "no recipe 'nonsense'; known are ciresan-2500, course-homework, "),
        ("none.toml", "none.toml cannot be read: "),
    ],
)
def test_a_recipe_that_is_not_there(name: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--recipe", name]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("given", ["weights = [[[0]]]", "biases = [[0]]"])
def test_written_out_values_must_be_there_for_every_layer(
    tmp_path: Path, given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINE.replace("hidden = [12]", f"hidden = [12]\n{given}"))
    assert train.main(["--recipe", str(path), "--device", "cpu"]) == 2
    name = given.partition(" ")[0]
    assert f"{name} must hold one entry for each of the 2 layers, not 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("rows = [[1, 2], [3, 4]]", "the recipe's `rows` have no `targets` to train on; add them, or say epochs = 0"),
        (
            "rows = [[1, 2], [3]]\ntargets = [0, 1]",
            "the recipe's `rows` and `targets` cannot be used: x is ragged: x[0] has 2 values",
        ),
    ],
)
def test_rows_written_out_are_checked_before_anything_is_printed(
    tmp_path: Path, rows: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f"[data]\n{rows}\n")
    assert train.main(["--recipe", str(path), "--device", "cpu"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err


def test_one_blank_line_parts_the_header_from_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    for recipe in ("neuron", "people"):
        assert train.main(["--recipe", recipe, "--device", "cpu"]) == 0
        assert "\n\n\n" not in capsys.readouterr().out


def test_parts_stand_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[data]\ndata = "digits"\n[[parts]]\ntitle = "one"\n')
    with pytest.raises(recipes.RecipeError, match=r"beside \[\[parts\]\] there may only be a title, not data"):
        recipes.load(str(path))
