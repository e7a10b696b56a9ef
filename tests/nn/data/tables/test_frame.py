"""Tables of pandas and parquet files, with their label; what is learnt of the training rows."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder

from nn.data import DataError, Units, as_dataset, from_frame, load_data, read_csv

pd: Any = pytest.importorskip("pandas", reason="pandas is not installed")

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "age": np.where(np.arange(60) % 7 == 3, np.nan, RNG.normal(40, 10, 60).round(2)),
        "city": RNG.choice(["Bern", "Basel", "Genf"], 60),
        "smokes": np.arange(60) % 2 == 0,
        "kind": RNG.choice(["a", "b"], 60),
    }
)
FRAME.loc[5, "city"] = None
WAYS: dict[str, Callable[..., Any]] = {
    "frame": lambda folder, frame, **options: from_frame(frame, **options),
    "csv": lambda folder, frame, **options: _through(folder / "t.csv", frame, **options),
    "parquet": lambda folder, frame, **options: _through(folder / "t.parquet", frame, **options),
}


def _through(path: Path, frame: Any, **options: Any) -> Any:
    if path.suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    return read_csv(path, **options)


@pytest.mark.parametrize("way", WAYS)
def test_a_table_is_the_same_however_it_comes(tmp_path: Path, way: str) -> None:
    frame = FRAME.assign(smokes=FRAME.smokes.astype(int))
    data = WAYS[way](tmp_path, frame, label="kind", impute="median", categorical=["city"])
    assert data.class_names == ("a", "b")
    assert data.y.tolist() == (frame.kind == "b").astype(int).tolist()
    age = SimpleImputer(strategy="median").fit_transform(frame[["age"]])
    city = frame[["city"]].fillna(frame.city.mode()[0]).astype(object).to_numpy()
    wanted = np.hstack([age, OneHotEncoder(sparse_output=False).fit_transform(city), frame[["smokes"]]])
    np.testing.assert_array_equal(data.x, wanted)
    assert [column.name for column in data.columns or ()] == ["age", "city", "smokes"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "kind", "categorical": ["city"]}, "the value is missing; put one there, .*--impute mean"),
        ({"label": "kind", "impute": "mean"}, "'B.*' is not a number; .*--categorical"),
        ({"label": "kind"}, "(is not a number|the value is missing)"),
        ({"task": "values"}, "which column is the target"),
        ({"label": "kin"}, "there is no column 'kin'; did you mean 'kind'"),
        ({"label": "kind", "categorical": ["town"]}, "there is no column 'town'"),
        ({"label": "kind", "task": "values"}, "(not a number|not all finite numbers)"),
        ({"label": "kind", "impute": "average"}, "impute must be mean, median or most_frequent, not 'average'"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, way: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        WAYS[way](tmp_path, FRAME[["age", "city", "kind"]], **options)


@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_statistics_come_from_the_training_rows(tmp_path: Path, strategy: str, suffix: str) -> None:
    frame, path = FRAME[["age", "kind"]].assign(number=np.arange(60.0)), tmp_path / f"t{suffix}"
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    data = load_data(path, label="kind", impute=strategy)
    assert data.test is not None
    train, test = (part.x[:, 1].astype(int) for part in (data.train, data.test))
    assert sorted([*train, *test]) == list(range(60))
    imputer = SimpleImputer(strategy=strategy).fit(frame[["age"]].to_numpy()[train])
    np.testing.assert_allclose(data.train.x[:, [0]], imputer.transform(frame[["age"]].to_numpy()[train]), rtol=1e-12)
    np.testing.assert_allclose(data.test.x[:, [0]], imputer.transform(frame[["age"]].to_numpy()[test]), rtol=1e-12)
    assert data.train.y.tolist() == (frame.kind == "b").to_numpy()[train].astype(int).tolist()


def test_a_category_of_the_test_rows_alone_is_known(tmp_path: Path) -> None:
    text = "size,kind\n" + "".join(f"s{i},{'ab'[i % 2]}\n" for i in range(20))
    (tmp_path / "t.csv").write_text(text)
    data = load_data(tmp_path / "t.csv", label="kind", categorical=())
    assert data.test is not None
    assert data.train.n_features == data.test.n_features == 20


@pytest.mark.parametrize("mark", ["", "NA", "nan", "?", "null", "None", " N/A "])
def test_what_stands_for_a_missing_value(tmp_path: Path, mark: str) -> None:
    (tmp_path / "t.csv").write_text(f"a,b,label\n1,5,0\n{mark},6,1\n3,7,0\n")
    np.testing.assert_array_equal(read_csv(tmp_path / "t.csv", impute="mean").x, [[1, 5], [2, 6], [3, 7]])
    with pytest.raises(DataError, match=r"t\.csv, line 3, column 1 \(a\): .*have it imputed \(--impute mean"):
        read_csv(tmp_path / "t.csv")


def test_pixels_of_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    x = RNG.integers(0, 256, (9, 64), dtype=np.uint8)
    frame = pd.DataFrame(x, columns=[f"pixel{i}" for i in range(64)]).assign(label=np.arange(9) % 3)
    frame.to_parquet(tmp_path / "t.parquet")
    data = load_data(tmp_path / "t.parquet", test_fraction=0).train
    np.testing.assert_array_equal(data.x, x)
    assert (data.image_shape, data.scale, data.n_classes) == ((8, 8), 1 / 255, 3)


def test_what_is_no_parquet_file(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    (tmp_path / "t.parquet").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"t\.parquet (is not a parquet file|cannot be read)"):
        load_data(tmp_path / "t.parquet")


def test_without_pandas_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    (tmp_path / "t.parquet").write_text("")
    with pytest.raises(DataError, match=r"t\.parquet needs pandas to be read: pip install pandas pyarrow"):
        load_data(tmp_path / "t.parquet")


def test_only_frames_are_frames() -> None:
    with pytest.raises(DataError, match="from_frame needs a DataFrame of pandas or polars as its frame, not "):
        from_frame([[1, 2]])
    with pytest.raises(DataError, match="digits is no table"):
        load_data("digits", label="a")


@pytest.mark.parametrize("name", ["flowers.csv", "flowers.csv.gz", "flowers.parquet", "flowers.h5", "flowers",
                                  "flowers.npy", "flowers.zarr"])  # fmt: skip
def test_a_table_that_is_not_there_is_not_called_something_else(name: str) -> None:
    with pytest.raises(DataError, match=f"'{name}' is neither a file nor a known source"):
        load_data(name, label="species")


@pytest.mark.parametrize("way", WAYS)
def test_another_table_is_read_by_what_was_learnt(tmp_path: Path, way: str) -> None:
    frame = FRAME[["age", "city", "kind"]]
    train = WAYS[way](tmp_path, frame, label="kind", impute="mean", categorical=["city"])
    later = pd.DataFrame({"kind": ["a", "b"], "city": ["Genf", "Bern"], "age": [np.nan, 30.0]})
    data = WAYS[way](tmp_path, later, label="kind", columns=train.columns)
    np.testing.assert_allclose(data.x, [[frame.age.mean(), 0, 0, 1], [30, 0, 1, 0]], rtol=1e-12)
    assert data.columns == train.columns
    for wrong, message in (
        (later.drop(columns="age"), "the table lacks the column age, which the training rows had"),
        (later.assign(town=1.0), "the table has the column town, which the training rows had not"),
        (later.assign(city="Chur"), "'Chur' is a category that the training rows did not have: Basel, Bern, Genf"),
        (later.assign(age="old"), "'old' is not a number"),
    ):
        with pytest.raises(DataError, match=message):
            WAYS[way](tmp_path, wrong, label="kind", columns=train.columns)
    with pytest.raises(DataError, match="columns says what to do with missing values and text; leave out impute"):
        WAYS[way](tmp_path, later, label="kind", columns=train.columns, impute="mean")


def test_a_dataset_of_another_table_is_refused() -> None:
    def data(frame: Any, **options: Any) -> Any:
        return from_frame(frame, label="kind", **options)

    frame = FRAME[["age", "city", "kind"]].fillna({"age": 1.0, "city": "Bern"})
    units = Units.of(data(frame, categorical=["city"]))
    other = data(frame.assign(city=["Bern", "Basel", "Chur"] * 20), categorical=["city"])
    with pytest.raises(DataError, match=r"column 2 of this table has other categories, .*columns=model\.units"):
        as_dataset(other, units)
    numbers = data(frame[["age", "kind"]].assign(x=1.0, y=2.0))
    turned = data(frame[["kind"]].assign(y=1.0, x=2.0, age=1.0))
    with pytest.raises(DataError, match="column 1 of this table has the name 'y', not 'age'"):
        as_dataset(turned, Units.of(numbers))
    assert as_dataset(numbers, Units.of(numbers)) is numbers
