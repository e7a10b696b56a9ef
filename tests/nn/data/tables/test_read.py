"""Tables in text files: separators, headers, which column is the label, and what its labels mean."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import LabelEncoder

from nn.data import DataError, Dataset, load_data
from nn.data.tables import read_csv

FLOWERS = "length,width,species\n5.1,3.5,setosa\n7.0,3.2,versicolor\n6.3,3.3,virginica\n4.9,3.0,setosa\n"


def table(folder: Path, text: str, name: str = "t.csv") -> Path:
    path = folder / name
    content = text.encode()
    path.write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
    return path


def read(folder: Path, text: str, **options: Any) -> Dataset:
    return read_csv(table(folder, text), **options)


# ---- separators ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz", "t.tsv.gz"])
def test_what_stands_between_cells_is_seen(tmp_path: Path, separator: str, name: str) -> None:
    data = load_data(table(tmp_path, FLOWERS.replace(",", separator), name), test_fraction=0).train
    np.testing.assert_array_equal(data.x, [[5.1, 3.5], [7.0, 3.2], [6.3, 3.3], [4.9, 3.0]])
    assert data.class_names == ("setosa", "versicolor", "virginica")


def test_a_decimal_comma_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 2, column 1 \(a\): 1,5 has a decimal comma; write a decimal point"):
        read(tmp_path, "a;b;label\n1,5;2,5;0\n3,5;4,5;1\n")


# ---- labels ----------------------------------------------------------------------------------------------------------


def test_text_labels_are_classes_with_names(tmp_path: Path) -> None:
    data = read(tmp_path, FLOWERS)
    assert data.y.tolist() == [0, 1, 2, 0]
    assert data.class_names == ("setosa", "versicolor", "virginica")
    assert [column.name for column in data.columns or ()] == ["length", "width"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(labels=st.lists(st.sampled_from(["cat", "dog", "Émile", "z z", "a;b", "x_1"]), min_size=2, max_size=9))
def test_names_are_sorted_as_scikit_learn_sorts_them(tmp_path: Path, labels: list[str]) -> None:
    data = read(tmp_path, "a,label\n" + "".join(f"{i},{label}\n" for i, label in enumerate(labels)))
    encoder = LabelEncoder().fit(labels)
    assert data.class_names == tuple(encoder.classes_)
    assert data.y.tolist() == encoder.transform(labels).tolist()


@pytest.mark.parametrize(
    ("labels", "y", "names"),
    [
        ([1, 2, 3, 1], [0, 1, 2, 0], ("1", "2", "3")),
        ([-1, 1, 1, -1], [0, 1, 1, 0], ("-1", "1")),
        ([7, 3, 7, 3], [1, 0, 1, 0], ("3", "7")),
        ([10, 9, 9, 10], [1, 0, 0, 1], ("9", "10")),
        ([0, 2, 0, 2], [0, 2, 0, 2], ("0", "1", "2")),
        (["1.0", "2.0", "1", "2"], [0, 1, 0, 1], ("1", "2")),
        (["True", "False", "True", "False"], [1, 0, 1, 0], ("False", "True")),
    ],
)
def test_labels_that_begin_with_0_are_numbers_and_all_others_are_names(
    tmp_path: Path, labels: list[Any], y: list[int], names: tuple[str, ...]
) -> None:
    data = read(tmp_path, "a,b,label\n" + "".join(f"1.5,{i},{label}\n" for i, label in enumerate(labels)))
    assert data.y.tolist() == y
    assert data.class_names == names


def test_more_text_labels_than_a_byte_can_count(tmp_path: Path) -> None:
    rows = "".join(f"{i % 256},name{i:03}\n" for i in range(300))
    data = read(tmp_path, "pixel0,label\n" + rows)
    assert data.y.tolist() == list(range(300))
    assert data.x.dtype == np.uint8


@pytest.mark.parametrize(
    ("task", "y", "names"),
    [("auto", [25.5, 346.25, 7.0], None), ("values", [25.5, 346.25, 7.0], None)],
)
def test_targets_with_a_fraction_are_values(tmp_path: Path, task: Any, y: list[float], names: None) -> None:
    data = read(tmp_path, "a,target\n1,25.5\n2,346.25\n3,7\n", task=task)
    assert (data.y.tolist(), data.class_names) == (y, names)


def test_whole_numbers_are_values_where_that_is_said(tmp_path: Path) -> None:
    text = "a,target\n1,25\n2,346\n3,7\n"
    assert read(tmp_path, text, task="values").y.tolist() == [25.0, 346.0, 7.0]
    assert read(tmp_path, text).class_names == ("7", "25", "346")
    with pytest.raises(DataError, match=r"line 3, column 2 \(target\): 'b' is not a number, as targets are"):
        read(tmp_path, "a,target\n1,25\n2,b\n", task="values")
    with pytest.raises(DataError, match=r"line 3, column 2 \(target\): the label is 2\.5, .*no class"):
        read(tmp_path, "a,target\n1,2\n2,2.5\n", task="classes")


def test_several_targets(tmp_path: Path) -> None:
    data = read(tmp_path, "a,up,b,down\n1,2,3,4\n5,6,7,8\n", label=["down", "up"], task="values")
    assert data.y.tolist() == [[4.0, 2.0], [8.0, 6.0]]
    assert data.x.tolist() == [[1.0, 3.0], [5.0, 7.0]]


# ---- which column ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["kind", "KIND", 2, "2", -2, "-2", [2]])
def test_the_column_that_is_named(tmp_path: Path, label: Any) -> None:
    data = read(tmp_path, "a,kind,b\n1,0,3\n4,1,6\n", label=label)
    assert data.x.tolist() == [[1.0, 3.0], [4.0, 6.0]]
    assert data.y.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("knd", "there is no column 'knd'; did you mean 'kind'"),
        ("zzz", "there is no column 'zzz'; the columns are a, kind, b"),
        (0, "there is no column 0; there are 3, which count from 1, or from the end by -1"),
        (4, "there is no column 4"),
        (-4, "there is no column -4"),
        (["a", "a"], r"name each column once"),
    ],
)
def test_a_column_that_is_not_there(tmp_path: Path, label: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, "a,kind,b\n1,0,3\n4,1,6\n", label=label)


@pytest.mark.parametrize("name", ["label", "Class", "target", "y", "species", "Diagnosis", "outcome"])
@pytest.mark.parametrize("position", [0, 3])
def test_a_label_is_known_by_its_name(tmp_path: Path, name: str, position: int) -> None:
    names, rows = ["a", "b", "c"], [["1", "2", "3"], ["4", "5", "6"], ["1", "5", "6"]]
    names.insert(position, name)
    for row, label in zip(rows, "011", strict=True):
        row.insert(position, label)
    data = read(tmp_path, "\n".join(",".join(row) for row in [names, *rows]))
    assert data.y.tolist() == [0, 1, 1]
    assert data.x.tolist() == [[1, 2, 3], [4, 5, 6], [1, 5, 6]]


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("x,class,target\n1,0,1\n2,1,0\n", r"which column is the label\? Say --label class or --label target"),
        ("age,size,color\n1,2,0\n2,3,1\n1,2,1\n", r"which column is the label\? Say --label color, --label age, or"),
        ("1,2,0\n2,3,1\n1,2,1\n", r"which column is the label\? Say --label -1 for the last column, --label 1 for"),
        ("1.5,2,0.5\n2.5,3,1\n1,2,1\n", r"which column is the label\?"),
        ("x,y,z\n1,2,3\n2,3,1\n1,2,1\n", r"which column is the label\?"),
        ("7,2.5,1.5\n8,3,1.5\n9,2,2.5\n", r"which column is the label\?"),
    ],
)
def test_what_cannot_be_told_is_asked(tmp_path: Path, text: str, question: str) -> None:
    with pytest.raises(DataError, match=rf"t\.csv: {question}"):
        read(tmp_path, text)


def test_the_target_is_asked_for_where_values_are_fitted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"which column is the target\? Say --label c, --label a, or another"):
        read(tmp_path, "a,b,c\n1,2.5,3\n1,2.5,3\n", task="values")
    assert read(tmp_path, "target,b,c\n1,2.5,3\n1,2.5,3\n", task="values").y.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "text",
    [
        "setosa,5.1,3.5\nvirginica,6.3,3.3\nsetosa,4.9,3.0\n",
        "1,5.1,3.5\n2,6.3,3.3\n1,4.9,3.0\n",
        "kind,length,width\n1,5.1,3.5\n2,6.3,3.3\n1,4.9,3.0\n",
        "5.1,3.5,1\n6.3,3.3,2\n4.9,3.0,1\n",
        "length,width,kind\n5.1,3.5,I.\n6.3,3.3,II.\n4.9,3.0,I.\n",
    ],
)
def test_the_only_column_at_an_end_that_can_hold_classes_is_the_label(tmp_path: Path, text: str) -> None:
    data = read(tmp_path, text)
    assert data.x.tolist() == [[5.1, 3.5], [6.3, 3.3], [4.9, 3.0]]
    assert data.y.tolist() == [0, 1, 0]


def test_mnist_as_it_is_handed_round(tmp_path: Path) -> None:
    """The label in front, 784 pixels, no header; the last pixel is always 0."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (40, 784))
    x[:, -1] = 0
    path = tmp_path / "mnist_train.csv"
    np.savetxt(path, np.c_[np.arange(40) % 10, x], fmt="%d", delimiter=",")
    data = read_csv(path)
    np.testing.assert_array_equal(data.x, x)
    assert data.x.dtype == np.uint8
    assert (data.image_shape, data.n_classes) == ((28, 28), 10)


# ---- headers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["0,1,2,3,4", "0,1,2,3,target", "label,0,1,2,3"])
def test_a_header_of_numbers_as_pandas_writes_it(tmp_path: Path, header: str) -> None:
    data = read(tmp_path, f"{header}\n5,1.5,2,3.5,6\n7,1,2,3,6\n", label="label" if "label" in header else -1)
    assert len(data) == 2


def test_a_short_line_of_numbers_may_be_a_row(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 1: is 0,1,2 a row, or a header as pandas writes it for an array\?"):
        read(tmp_path, "0,1,2\n1.5,2.5,1\n", label=-1)
    assert len(read(tmp_path, "0,1,3\n1.5,2.5,1\n", label=-1)) == 2
    assert len(read(tmp_path, "5.1,3.5,y\n4.5,2.5,n\n", label=-1)) == 2


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 1, column 3: a second column is called .n.; rename one"):
        read(tmp_path, "republican,n,n,y\ndemocrat,y,n,n\n")
