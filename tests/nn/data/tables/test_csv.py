"""CSV files: ordinary ones, pixels in them, and what is said of bad ones."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from nn.data import DataError
from nn.data.sources import load_data
from nn.data.tables import read_csv


def table(tmp_path: Path, text: str, name: str = "t.csv") -> Path:
    path = tmp_path / name
    content = text.encode()
    path.write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "a,b,label\n1.5,2,0\n3,4,1\n5,6,2\n",
        "a,b,c\n1.5,2,0\n3,4,1\n5,6,2\n",
        "1.5,2,0\n3,4,1\n5,6,2\n",
        "1.5,2,0\n3,4,1\n5,6,2",
        "\n1.5,2,0\n\n3,4,1\n5,6,2\n\n",
        "LABEL,a,b\n0,1.5,2\n1,3,4\n2,5,6\n",
        "a, Label ,b\r\n1.5, 0,2\r\n3,1 ,4\r\n5,2,6\r\n",
        '"a","label","b"\n"1.5","0","2"\n3,1,4\n5,2,6\n',
        '"a\nb","label",c\n1.5,0,2\n3,1,4\n5,2,6\n',
        "\ufefflabel,a,b\n0.0,1.5,2\n1.0,3,4\n2e0,5,6\n",
        "0,1,label\n1.5,2,0\n3,4,1\n5,6,2\n",
    ],
)
@pytest.mark.parametrize("file", ["t.csv", "t.csv.gz", "T.CSV"])
def test_an_ordinary_table(tmp_path: Path, text: str, file: str) -> None:
    data = load_data(table(tmp_path, text, file), test_fraction=0)
    np.testing.assert_array_equal(data.train.x, [[1.5, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert data.train.x.dtype == np.float64
    assert data.train.y.tolist() == [0, 1, 2]
    assert (data.train.scale, data.train.image_shape, data.train.n_classes) == (1.0, None, 3)


def test_small_integers_in_a_table_are_not_pixels(tmp_path: Path) -> None:
    data = read_csv(table(tmp_path, "a,b,c,d,label\n0,255,17,3,0\n1,2,3,4,1\n"))
    assert data.x.dtype == np.float64
    assert (data.scale, data.image_shape) == (1.0, None)
    np.testing.assert_array_equal(data.x, [[0, 255, 17, 3], [1, 2, 3, 4]])


def pixel_table(tmp_path: Path, x: np.ndarray, header: str = "") -> Path:
    """Rows with their number as the label in front, under a header that says so."""
    names = ["label", *(f"{header or 'c'}{i}" for i in range(x.shape[1]))]
    rows = [",".join(str(cell) for cell in (label, *row)) for label, row in enumerate(x.tolist())]
    return table(tmp_path, "\n".join([",".join(names), *rows]))


@pytest.mark.parametrize(
    ("x", "header", "scale", "image_shape"),
    [
        (np.array([[0, 255, 3, 4]]), "pixel", 1 / 255, (2, 2)),
        (np.array([[0, 2, 1, 0]]), "Pixel_", 1 / 255, (2, 2)),
        (np.array([[0, 1, 1, 0]]), "pixel", 1.0, (2, 2)),
        (np.array([[0, 255, 3]]), "pixel", 1 / 255, None),
        (np.array([[0.0, 255.0, 3.0, 4.0]]), "pixel", 1 / 255, (2, 2)),
        (np.arange(64).reshape(1, 64) * 4, "", 1 / 255, (8, 8)),
        (np.arange(192).reshape(1, 192), "", 1 / 255, None),
        (np.arange(64).reshape(1, 64), "pixel", 1 / 255, (8, 8)),
    ],
)
def test_pixels_in_a_table(
    tmp_path: Path, x: np.ndarray, header: str, scale: float, image_shape: tuple[int, int] | None
) -> None:
    x = np.vstack([x, x])
    data = read_csv(pixel_table(tmp_path, x, header))
    assert data.x.dtype == np.uint8
    np.testing.assert_array_equal(data.x, x)
    assert (data.scale, data.image_shape) == (scale, image_shape)
    assert data.y.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("x", "header", "image_shape"),
    [
        (np.arange(63).reshape(1, 63) * 4, "", None),
        (np.arange(65).reshape(1, 65) * 3, "", None),
        (np.arange(49).reshape(1, 49) * 5, "", None),
        (np.arange(64).reshape(1, 64), "", None),
        (np.arange(64).reshape(1, 64) % 17, "", None),
        (np.arange(64).reshape(1, 64) * 5, "", None),
        (np.arange(64).reshape(1, 64) - 1, "", None),
        (np.arange(64).reshape(1, 64) + 0.5, "", None),
        (np.array([[0.0, 0.5, 1.0, 0.25]]), "pixel", (2, 2)),
        (np.array([[0, 256, 1, 3]]), "pixel", (2, 2)),
        (np.array([[0, 1e300, 1, 3]]), "pixel", (2, 2)),
    ],
)
def test_other_numbers_in_a_table(
    tmp_path: Path, x: np.ndarray, header: str, image_shape: tuple[int, int] | None
) -> None:
    x = np.vstack([x, x])
    data = read_csv(pixel_table(tmp_path, x, header))
    assert data.x.dtype == np.float64
    np.testing.assert_array_equal(data.x, x)
    assert (data.scale, data.image_shape) == (1.0, image_shape)


def test_a_large_label_beside_pixels(tmp_path: Path) -> None:
    data = read_csv(table(tmp_path, "label,pixel0\n0,255\n300,128\n"))
    assert data.y.tolist() == [0, 300]
    assert data.x.dtype == np.uint8


HEADER = "a,petal,label\n"
BAD_TABLES = {
    "text": (HEADER + "1,2,0\n1,blue,1\n", r"line 3, column 2 \(petal\): 'blue' is not a number"),
    "text without a header": ("1,2,0\n1,blue,1\n", r"line 2, column 2: 'blue' is not a number; correct the cell"),
    "text among the first numbers": ("1,blue,0\n1,2,1\n", r"line 1, column 2: 'blue' is not a number"),
    "text as label": (
        HEADER + "1,2,0\n3,4,cat\n1,2,0\n",
        r"line 3, column 3 \(label\): 'cat' is not a number, but other labels are; correct the cell",
    ),
    "a number as label": (
        HEADER + "1,2,cat\n3,4,7\n1,2,dog\n",
        r"line 3, column 3 \(label\): '7' is a number, but other labels are text; correct the cell",
    ),
    "no label": (HEADER + "1,2,cat\n3,4, \n", r"line 3, column 3 \(label\): the cell is empty: there is no label"),
    "underscore": (HEADER + "1_000,2,0\n", r"line 2, column 1 \(a\): '1_000' is not a number"),
    "after a blank line": (HEADER + "1,2,0\n\n1,blue,1\n", "line 4, column 2"),
    "below a header of two lines": ('"a\nb",petal,label\n1,blue,0\n', "line 3, column 2"),
    "short row": (HEADER + "1,2,0\n1,2\n", "line 3: 2 cells where line 1 has 3"),
    "long row": (HEADER + "1,2,0\n1,2,0,4\n", "line 3: 4 cells where line 1 has 3"),
    "all rows short": (HEADER + "1,0\n2,1\n", "line 2: 2 cells where line 1 has 3"),
    "row of blanks": (HEADER + "1,2,0\n   \n", "line 3: 1 cell where line 1 has 3"),
    "trailing comma": (HEADER + "1,2,0,\n", "line 2: 4 cells"),
    "empty cell": (HEADER + "1,2,0\n1,,1\n", r"line 3, column 2 \(petal\): the cell is empty"),
    "NaN": (HEADER + "1,2,0\n1,nan,1\n", r"line 3, column 2 \(petal\): nan is not a finite number"),
    "infinity": (HEADER + "-inf,2,0\n", r"line 2, column 1 \(a\): -inf is not a finite number"),
    "too large": (HEADER + "1e999,2,0\n", r"line 2, column 1 \(a\): 1e999 is not a finite number"),
    "NaN label": (HEADER + "1,2,0\n1,2,nan\n", r"line 3, column 3 \(label\): the label is nan; put one there"),
    "fractional label": (
        HEADER + "1,2,0\n1,2,0.5\n1,2,1\n",
        r"line 3, column 3 \(label\): the label is 0\.5, .*no class",
    ),
    "a fraction before the cell at fault": (HEADER + "1.5,-7,0\n1,nan,1\n", r"line 3, column 2 \(petal\): nan is not"),
    "huge label": (HEADER + "1,2,0\n1,2,100001\n", "line 3, .*the label is 100001, which looks like a value"),
    "empty": ("", "is empty"),
    "blank": ("\n\n", "is empty"),
    "header only": (HEADER, "has a header but no rows"),
    "one column": ("label\n1\n", "has one column, but at least one feature and a label are needed$"),
    "two labels": ("label,a,Label\n0,1,1\n", "line 1, column 3: a second column is called label"),
    "index column": (",a,label\n0,1,1\n", r"line 1, column 1: the column has no name.*index=False"),
    "label in front, without a header": ("0,7,0\n1,8,0\n", r"which column is the label\? Say --label -1 for the last"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_bad_table_is_named_by_file_line_and_column(tmp_path: Path, case: str) -> None:
    text, message = BAD_TABLES[case]
    with pytest.raises(DataError, match=rf"t\.csv.*{message}") as caught:
        load_data(table(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_one_class_is_fine_in_a_column_called_label(tmp_path: Path) -> None:
    assert read_csv(table(tmp_path, HEADER + "1,2,0\n3,4,0\n")).y.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEADER.encode() + b"1,\xff\xfe,0\n", r"t\.csv is not UTF-8 text"),
        (b"\xff\xfe" + HEADER.encode("utf-16-le"), r"t\.csv is not UTF-8 text"),
        (gzip.compress(np.random.default_rng(0).bytes(10_000), mtime=0)[:-2000], r"t\.csv is (damaged|not UTF-8 text)"),
        (gzip.compress(HEADER.encode() + b"1,2,0\n" * 5000, mtime=0)[:-10], r"t\.csv is damaged"),
        (b'a,b,label\n1,2,"' + b"0" * 200_000 + b'"\n', r"t\.csv is not a CSV file"),
    ],
)
def test_what_is_no_table_at_all(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_csv(tmp_path / "t.csv")


def test_csv_rows_are_divided_by_class(tmp_path: Path) -> None:
    text = HEADER + "".join(f"{i},{i / 2},{i % 2}\n" for i in range(20))
    data = load_data(table(tmp_path, text), seed=3)
    assert data.test is not None
    assert np.bincount(data.train.y).tolist() == [8, 8]
    assert sorted([*data.train.x[:, 0], *data.test.x[:, 0]]) == list(range(20))
    with pytest.raises(DataError, match=r"t\.csv has no test rows, and dividing it failed: class 1 has only one row"):
        load_data(table(tmp_path, HEADER + "1,2,0\n2,3,0\n3,4,1\n"))
