"""Class labels by name, in everything that holds them: text, numbers that are names, booleans, pandas."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import LabelEncoder

from nn import Linear, Sequential, Sigmoid, Softmax, Trainer, load_data, load_model, save_model
from nn.data import DataError, Dataset, Units, as_dataset
from nn.data.labels import LabelsWarning
from nn.data.weights import by_class

X = np.random.default_rng(0).normal(size=(6, 3))
NAMES = ["cat", "dog", "ant", "cat", "ant", "dog"]


def pandas() -> Any:
    return pytest.importorskip("pandas", reason="pandas is not installed")


HELD: dict[str, Callable[[list[str]], Any]] = {
    "list": list,
    "tuple": tuple,
    "text array": np.array,
    "object array": lambda names: np.array(names, dtype=object),
    "column": lambda names: np.array(names)[:, None],
    "Series": lambda names: pandas().Series(names, index=range(5, 5 + len(names))),
    "Categorical": lambda names: pandas().Series(pandas().Categorical(names, categories=["dog", "cat", "ant", "bee"])),
    "frame": lambda names: pandas().DataFrame({"kind": names}),
}


@pytest.mark.parametrize("held", HELD)
def test_text_labels_are_classes(held: str) -> None:
    data = as_dataset((X, HELD[held](NAMES)))
    assert data.class_names == ("ant", "cat", "dog")
    assert data.y.tolist() == [1, 2, 0, 1, 0, 2]


@settings(deadline=None)
@given(names=st.lists(st.text(min_size=1).filter(lambda text: "\0" not in text), min_size=1, max_size=8))
def test_names_are_sorted_as_scikit_learn_sorts_them(names: list[str]) -> None:
    data = as_dataset((np.ones((len(names), 2)), names))
    encoder = LabelEncoder().fit(names)
    assert data.class_names == tuple(encoder.classes_.tolist())
    assert data.y.tolist() == encoder.transform(names).tolist()


def test_booleans_are_two_classes() -> None:
    y = [True, True, False]
    for held in (y, np.array(y), pandas().Series(y), pandas().Series(y, dtype="boolean")):
        data = as_dataset((X[:3], held))
        assert (data.y.tolist(), data.class_names) == ([1, 1, 0], ("False", "True"))


@pytest.mark.parametrize("dtype", ["Int64", "int32", "object", "UInt8"])
def test_numbers_of_pandas_are_numbers(dtype: str) -> None:
    data = as_dataset((X, pandas().Series([0, 1, 2, 0, 1, 2], dtype=dtype)))
    assert (data.y.tolist(), data.class_names) == ([0, 1, 2, 0, 1, 2], ("0", "1", "2"))


def test_a_missing_label_is_named() -> None:
    for y in (["a", None, "b"], pandas().Series(["a", None, "b"]), pandas().Series([0, None, 1], dtype="Int64")):
        with pytest.raises(DataError, match=r"y\[1\] is missing"):
            as_dataset((X[:3], y))
    masked = np.ma.MaskedArray([0, 1, 1], [False, True, False])
    with pytest.raises(DataError, match=r"y\[1\] is masked; give y\.filled\(value\), or leave out the row"):
        as_dataset((X[:3], masked))
    assert as_dataset((X[:3], np.ma.MaskedArray([0, 1, 1], False))).y.tolist() == [0, 1, 1]


def network(n_outputs: int = 3) -> Trainer:
    end = [Softmax()] if n_outputs > 1 else [Sigmoid()]
    loss = "softmax_cross_entropy" if n_outputs > 1 else "bce"
    return Trainer(Sequential(Linear(3, n_outputs), *end, backend="cpu"), loss)


def test_later_labels_go_by_the_names_of_the_training_rows(tmp_path: Path) -> None:
    trainer = network()
    trainer.fit((X, NAMES), validation=(X[:2], ["cat", "cat"]))
    numbers = np.array([1, 2, 0, 1, 0, 2])
    save_model(trainer.model, tmp_path / "m.safetensors")
    loaded = Trainer(load_model(tmp_path / "m.safetensors", "cpu"), "softmax_cross_entropy")
    for one in (trainer, loaded):
        wanted = one.evaluate(Dataset(X, numbers))
        assert one.evaluate((X, NAMES)) == wanted
        assert one.evaluate((X[3:], NAMES[3:])) == one.evaluate((X[3:], numbers[3:]))
        assert one.evaluate(Dataset(X, np.array([0, 1, 2, 0, 2, 1]), class_names=("cat", "dog", "ant"))) == wanted
        with pytest.raises(DataError, match=r"y\[1\] is 'bee', a class that is not among .*: ant, cat, dog; correct"):
            one.evaluate((X[:2], ["cat", "bee"]))
    with pytest.raises(DataError, match=r"y\[0\] is 'bee', a class that is not among"):
        network().fit((X, NAMES), validation=(X[:1], ["bee"]))


@pytest.mark.parametrize(
    ("labels", "n_outputs", "names"),
    [([1, 2, 3, 1, 2, 3], 3, "123"), ([-1, 1, 1, -1, 1, 1], 1, ["-1", "1"]), ([7, 3, 7, 3, 7, 3], 2, "37")],
)
def test_integers_that_are_no_class_numbers_are_names(labels: list[int], n_outputs: int, names: Any) -> None:
    trainer = network(n_outputs)
    numbers = LabelEncoder().fit_transform(labels)
    with pytest.warns(LabelsWarning, match=rf"the labels {', '.join(names)} are names .*: predict gives these numbers"):
        trainer.fit((X, labels))
    assert trainer.model.units is not None
    assert trainer.model.units.class_names == tuple(names)
    assert trainer.evaluate((X, labels)) == trainer.evaluate(Dataset(X, numbers, class_names=tuple(names)))
    assert trainer.evaluate((X, [str(label) for label in labels])) == trainer.evaluate((X, labels))
    with pytest.raises(DataError, match=r"y\[0\] is 9, a class that is not among"):
        trainer.evaluate((X[:1], [9]))


def test_integers_that_fit_as_names_and_as_numbers_are_refused() -> None:
    trainer = network()
    data = Dataset(X, np.array([0, 1, 2, 0, 1, 2]), class_names=("1", "2", "3"))
    trainer.fit(data)
    wanted = trainer.evaluate(data)
    assert trainer.evaluate((X, data.y)) == trainer.evaluate((X, data.y + 1)) == wanted
    with pytest.raises(DataError, match=r"y\[0\] is 1, which is both a class number and the name of a class"):
        trainer.evaluate((X[:2], [1, 2]))
    assert trainer.evaluate((X[:2], ["1", "2"])) == trainer.evaluate(data[:2])
    with pytest.raises(DataError, match=r"y\[1\] is 4, a class that is not among"):
        trainer.evaluate((X[:2], [1, 4]))


def test_class_numbers_of_one_class_against_the_rest() -> None:
    data = Dataset(X, np.array([0, 1, 2, 0, 1, 2])).one_against_rest(2)
    trainer = network(2)
    trainer.fit(data)
    assert trainer.evaluate((X, data.y)) == trainer.evaluate(data)


@pytest.mark.parametrize(("labels", "n_outputs"), [([1, 2, 1, 2, 1, 2], 3), ([0, 2, 0, 2, 0, 2], 3), ([2] * 6, 3)])
def test_integers_that_fit_the_outputs_are_class_numbers(labels: list[int], n_outputs: int) -> None:
    trainer = network(n_outputs)
    trainer.fit((X, labels))
    assert trainer.evaluate((X, labels)) == trainer.evaluate(Dataset(X, np.array(labels)))


def test_other_integers_are_refused() -> None:
    with pytest.raises(DataError, match=r"y\[5\] is 12, outside the classes 0 to 2"):
        network(3).fit((X, [1, 2, 1, 0, 1, 12]))
    with pytest.raises(DataError, match=r"y\[0\] is -1, but labels count from 0"):
        network(3).fit((X, [-1, 2, -1, 2, -1, 2]))
    trainer = network(3)
    trainer.fit((X, [0, 1, 2, 0, 1, 2]))
    with pytest.raises(DataError, match="y has text in it, but the network was trained on class numbers"):
        trainer.evaluate((X, NAMES))


@pytest.mark.parametrize(
    ("y_train", "y_test", "names", "y"),
    [
        ([1, 2, 3, 1, 2, 3], [3, 1], ("1", "2", "3"), [2, 0]),
        (NAMES, ["dog", "ant"], ("ant", "cat", "dog"), [2, 0]),
        ([0, 2, 0, 2, 0, 0], [1, 2], ("0", "1", "2"), [1, 2]),
    ],
)
def test_labels_of_an_archive(tmp_path: Path, y_train: list[Any], y_test: list[Any], names: Any, y: list[int]) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x_train=X, y_train=y_train, x_test=X[:2], y_test=y_test)
    data = load_data(path)
    assert data.test is not None
    assert data.train.class_names == data.test.class_names == names
    assert data.test.y.tolist() == y
    np.savez(path, x_train=X, y_train=np.array(y_train), x_test=X[:1], y_test=["bee"])
    with pytest.raises(DataError, match=r"y_test"):
        load_data(path)


def test_classes_are_chosen_by_name_or_number() -> None:
    data = Dataset(X, np.array([0, 1, 2, 0, 1, 2]), class_names=("ant", "cat", "dog"))
    assert data.only(["dog", 0]).class_names == ("dog", "ant")
    assert data.only(["dog", 0]).y.tolist() == [1, 0, 1, 0]
    assert data.one_against_rest("cat").y.tolist() == [0, 1, 0, 0, 1, 0]
    with pytest.raises(DataError, match="class bee has no rows; the classes are ant, cat, dog"):
        data.only(["bee", "cat"])


def test_names_are_in_the_units() -> None:
    units = Units.of(as_dataset((X, NAMES)))
    assert Units.from_dict(units.to_dict()) == units
    assert units.class_names == ("ant", "cat", "dog")
    assert Units.of(as_dataset((X, [0, 1, 2, 0, 1, 2]))).class_names is None


def test_a_weight_is_of_the_label_as_written() -> None:
    data = Dataset(X, np.array([0, 1, 2, 0, 1, 2]), class_names=("1", "2", "3"))
    for key in (1, "1", np.int64(1)):
        weights = by_class(data, {key: 5.0}).weights
        assert weights is not None
        assert weights.tolist() == [5.0, 1.0, 1.0, 5.0, 1.0, 1.0]
