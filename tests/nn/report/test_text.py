"""What a run is told by at its end: reports of predictions, of classes and of the inside of a network."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from nn import Dataset, Linear, Sequential, Softmax, Trainer
from nn.report import (
    classification_text,
    figure_text,
    figures,
    inside_text,
    predictions_text,
    reproduced_text,
    result_text,
)

#: A network that gives the class of the larger number, and rows of which the second and the last are labelled wrong.
X = np.array([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0], [0.0, 2.0], [0.0, 2.0], [2.0, 0.0]])
DATA = Dataset(X, np.array([0, 1, 1, 1, 1, 1]), class_names=("ham", "spam"))


@pytest.fixture
def trainer() -> Trainer:
    layers = Linear(2, 2, weight_init=[[1.0, 0.0], [0.0, 1.0]]), Softmax()
    return Trainer(Sequential(*layers, backend="cpu", dtype="float64"))


def test_predictions_stand_beside_labels_and_wrong_ones_are_marked(trainer: Trainer) -> None:
    lines = predictions_text(trainer, DATA, 3).splitlines()
    assert lines[0] == "the first 3 test rows"
    assert [line.split() for line in lines[1:]] == [
        ["predicted", "label"], ["ham", "ham"], ["ham", "spam", "wrong"], ["spam", "spam"],
    ]  # fmt: skip
    assert predictions_text(trainer, DATA, 100).splitlines()[0] == "the first 6 test rows"
    assert lines[1:] == ["  predicted  label", "        ham    ham", "        ham   spam  wrong", "       spam   spam"]


def test_a_guess_that_is_no_class_is_shown_by_its_number() -> None:
    layers = Linear(2, 3, weight_init=[[0.0, 0.0, 9.0], [0.0, 1.0, 0.0]]), Softmax()
    lines = predictions_text(Trainer(Sequential(*layers, backend="cpu")), DATA, 3).splitlines()
    assert [line.split() for line in lines[2:]] == [["2", "ham", "wrong"], ["2", "spam", "wrong"], ["spam", "spam"]]


def test_values_are_shown_beside_the_true_ones() -> None:
    data = Dataset(X, np.array([0.5, 1.0, 2.0, 4.0, 1e6, -1 / 3]))
    trainer = Trainer(Sequential(Linear(2, 1, weight_init=[[1.0], [-1.0]]), backend="cpu"), "mean_squared_error")
    assert predictions_text(trainer, data, 2).splitlines() == [
        "the first 2 test rows",
        "  predicted  true",
        "          2   0.5",
        "          2     1",
    ]
    two = Dataset(X, np.array([[0.5, 1.0]] * 6))
    trainer = Trainer(Sequential(Linear(2, 2, weight_init="zeros"), backend="cpu"), "mean_squared_error")
    assert predictions_text(trainer, two, 1).splitlines()[2].split("  ")[-2:] == [" 0, 0", "0.5, 1"]


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ({"loss": 0.25, "accuracy": 0.975}, "test accuracy 97.50% (39 of 40), loss 0.25000"),
        ({"loss": 0.25}, "test loss 0.25000"),
        (
            {"loss": 0.25, "accuracy": 1.0, "f1": 0.12345678},
            "test accuracy 100.00% (40 of 40), loss 0.25000, f1 0.12346",
        ),
    ],
)
def test_a_result_in_a_line(result: dict[str, float], text: str) -> None:
    assert result_text(result, 40) == text


BY_TRUE = "rows are the true classes, columns the predicted", [["ham", "1", "0"], ["spam", "2", "3"]]
BY_PREDICTED = "rows are the predicted classes, columns the true", [["ham", "1", "2"], ["spam", "0", "3"]]


@pytest.mark.parametrize(
    ("options", "columns", "matrix"),
    [({}, *BY_TRUE), ({"rows_are": "true"}, *BY_TRUE), ({"rows_are": "predicted"}, *BY_PREDICTED)],
)
def test_the_confusion_matrix_says_which_way_round_it_is(
    trainer: Trainer, options: Any, columns: str, matrix: list[list[str]]
) -> None:
    text = classification_text(trainer, DATA, **options)
    *_, head, names, first, second = text.splitlines()
    assert head == f"confusion matrix: {columns}"
    assert [line.split() for line in (names, first, second)] == [["ham", "spam"], *matrix]
    assert len({len(line) for line in (names, first, second)}) == 1
    report = text.partition("confusion")[0]
    scores = {line.split()[0]: line.split()[1:] for line in report.splitlines() if line.split()}
    assert scores["ham"] == ["0.3333", "1.0000", "0.5000", "1"]
    assert scores["spam"] == ["1.0000", "0.6000", "0.7500", "5"]


@pytest.mark.parametrize(
    ("copies", "names", "matrix"),
    [
        (1, ("ham", "spam"), ["         ham  spam", "   ham     1     0", "  spam     2     3"]),
        (50, ("h", "s"), ["         h    s", "    h   50    0", "    s  100  150"]),
    ],
)
def test_columns_of_the_confusion_matrix_are_as_wide_as_the_longest_name_or_number(
    trainer: Trainer, copies: int, names: tuple[str, ...], matrix: list[str]
) -> None:
    data = Dataset(np.tile(X, (copies, 1)), np.tile(DATA.y, copies), class_names=names)
    assert classification_text(trainer, data).splitlines()[-3:] == matrix


def test_a_class_that_nobody_predicts_or_has_is_reported_as_zero(trainer: Trainer) -> None:
    text = classification_text(trainer, Dataset(X[:1], np.array([0]), class_names=("ham", "spam")))
    assert next(line.split() for line in text.splitlines() if "spam" in line) == [
        "spam",
        "0.0000",
        "0.0000",
        "0.0000",
        "0",
    ]
    assert text.splitlines()[-1].split() == ["spam", "0", "0"]


def values(text: str, start: str) -> Any:
    """What stands after ``start`` in the line that begins so."""
    (line,) = [line for line in text.splitlines() if line.startswith(start)]
    return json.loads(line.removeprefix(start))


def test_the_inside_of_a_network_is_what_was_asked_for(trainer: Trainer) -> None:
    outputs, hidden = trainer.model(X), trainer.model.layer_outputs(X)
    text = inside_text(trainer, DATA, ["outputs", "loss", "gradients"], [[1.0, 2.0], [3.0, 4.0]])
    assert [line.partition(":")[0].partition(" ->")[0] for line in text.splitlines()] == [
        "outputs", "loss", "gradient of 0.weight", "gradient of 0.bias", "[1.0, 2.0]", "[3.0, 4.0]",
    ]  # fmt: skip
    assert values(text, "outputs: ") == outputs.tolist()
    assert values(text, "loss: ") == trainer.evaluate(DATA)["loss"]
    assert values(text, "gradient of 0.weight: ") == trainer.gradients(DATA)["0.weight"].tolist()
    assert values(text, "[3.0, 4.0] -> ") == trainer.model([[1.0, 2.0], [3.0, 4.0]])[1].tolist()

    text = inside_text(trainer, DATA, ["layers", "outputs"], None)  # the last of the layers is the outputs
    assert [line.partition(":")[0] for line in text.splitlines()] == [f"layer {name}" for name in hidden]
    assert values(text, "layer 0: ") == hidden["0"].tolist()
    assert inside_text(trainer, DATA, [], None) == ""


def test_figures_of_a_run_are_found_by_name(trainer: Trainer) -> None:
    trainer.fit(DATA, 3, 2, validation=DATA)
    history = trainer.history
    found = figures(trainer, DATA, DATA, [[1.0, 2.0]])
    for column in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert found[f"start_{column}"] == history[0][column] == found[f"{column}@1"]
        assert found[column] == history[-1][column] == found[f"{column}@3"]
        assert found[f"{column}@2"] == history[1][column]
    test = trainer.evaluate(DATA)
    assert (found["test_loss"], found["test_accuracy"], found["train_loss"]) == (
        test["loss"],
        test["accuracy"],
        test["loss"],
    )
    assert found["predictions"] == trainer.predict(X).tolist()
    assert found["output[4,1]"] == trainer.model(X)[4, 1]
    assert found["layer 0[4,1]"] == trainer.model.layer_outputs(X)["0"][4, 1]
    assert found["gradient 0.weight[1,0]"] == trainer.gradients(DATA)["0.weight"][1, 0]
    assert found["gradient 0.bias[1]"] == trainer.gradients(DATA)["0.bias"][1]
    assert found["prediction[0,1]"] == trainer.model([[1.0, 2.0]])[0, 1]


def test_figures_of_single_numbers_are_those_of_small_data_only(trainer: Trainer) -> None:
    ten, more = (Dataset(np.ones((n, 2)), np.zeros(n, int), class_names=("a", "b")) for n in (10, 11))
    assert "output[9,1]" in figures(trainer, ten, None)
    assert figures(trainer, more, None) == {}
    assert list(figures(trainer, more, more)) == ["test_loss", "test_accuracy", "predictions"]
    assert len(figures(trainer, more, more)["predictions"]) == 10
    without_targets = Dataset(np.ones((2, 2)), np.empty((2, 0)))
    assert not any("loss" in name or "gradient" in name for name in figures(trainer, without_targets, None))


def test_figures_are_written_as_people_write_them() -> None:
    assert figure_text("predictions", [7, 2, 1]) == "7, 2, 1"
    assert figure_text("val_accuracy@3", 0.97654) == "97.65%"
    assert figure_text("loss", 1.23456789) == "1.2346"
    assert figure_text("output[0,0]", 0.9990889488055994) == "0.9990889488055994"


def test_figures_are_held_against_those_of_the_author() -> None:
    found = {"loss": 0.5, "accuracy": 0.9, "val_loss": 3.0, "predictions": [1, 2, 3], "seconds": 1}
    author = {"loss": "0.49", "not measured": "7", "predictions": "1, 2"}
    wanted: dict[str, list[Any]] = {
        "loss": [0.4, 0.5], "accuracy": [0.9, 0.9], "val_loss": [1, 2], "predictions": [1, 2], "absent": [0, 1],
    }  # fmt: skip
    head, *lines = reproduced_text(found, author, wanted).splitlines()
    cells = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]
    assert [cell.strip() for cell in head.split("  ") if cell.strip()] == [
        "figure", "the author", "reproduced if in", "this run",
    ]  # fmt: skip
    assert cells == [
        ["loss", "0.49", "0.4 to 0.5", "0.5", "yes"],
        ["predictions", "1, 2", "1, 2", "1, 2", "yes"],
        ["accuracy", "90.00%", "90.00%", "yes"],
        ["val_loss", "1 to 2", "3", "no"],
    ]
    assert len({line.rfind(line.split()[-1]) for line in lines}) == 1  # one below the other
    assert reproduced_text(found, author, wanted).splitlines() == [
        "figure       the author  reproduced if in  this run",
        "loss         0.49        0.4 to 0.5        0.5       yes",
        "predictions  1, 2        1, 2              1, 2      yes",
        "accuracy                 90.00%            90.00%    yes",
        "val_loss                 1 to 2            3         no",
    ]
    table, note = reproduced_text(found, author, wanted, ["--epochs", "--loss"]).rsplit("\n", 1)
    assert [line.split() for line in table.splitlines()[1:]] == [
        ["loss", "0.49", "0.5"], ["predictions", "1,", "2"], ["accuracy", "90.00%"], ["val_loss", "3"],
    ]  # fmt: skip
    assert note == "nothing is reproduced: --epochs, --loss made this another run than the author's"
    only_said = reproduced_text({"predictions": [1]}, {"predictions": "1"}, {}).splitlines()[1]
    assert only_said.split() == ["predictions", "1"]


def test_names_from_files_cannot_control_the_terminal() -> None:
    data = Dataset(X[:2], np.array([0, 1]), class_names=("\x1b[31mred", "猫"))
    trainer = Trainer(Sequential(Linear(X.shape[1], 2), Softmax(), backend="cpu"))
    text = classification_text(trainer, data) + predictions_text(trainer, data, 2)
    assert "\x1b" not in text
    assert text.count(r"\x1b[31mred") >= 3
    assert "猫" in text
