"""``python -m nn predict`` as a user meets it."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nn import (
    Adam,
    ChannelsLast,
    DataError,
    Dataset,
    GlobalAvgPool2d,
    Linear,
    ReLU,
    Reshape,
    Sequential,
    Sigmoid,
    Softmax,
    Standardize,
    Trainer,
    load_data,
    load_model,
    save_model,
    streamed_feed,
)
from nn.commands import inputs
from nn.commands.inputs import Options, parts_of
from nn.data import read_csv
from nn.data.pictures import centred
from nn.data.streamed import unlabelled
from tests.helpers.command import run, stdin_holds
from tests.helpers.drawings import as_picture, on_paper, write_pictures
from tests.helpers.stored import hdf5, npy_folder, npy_shards, zarr_group

DIGITS: Any = load_data("digits")
SCALES = (0.75, 1.0, 5.0)


def trained(data: Dataset, *layers: Any, epochs: int = 5, **settings: Any) -> Sequential:
    model = Sequential(*layers, backend="cpu")
    Trainer(model, optimizer=Adam(1e-2), **settings).fit(data, epochs, 64)
    return model


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on scikit-learn's digits, rows of 64 numbers."""
    folder = tmp_path_factory.mktemp("digits")
    save_model(trained(DIGITS.train, Linear(64, 32), ReLU(), Linear(32, 10)), folder / "weights.safetensors")
    return folder


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


# ---- pictures --------------------------------------------------------------------------------------------------------


def read_right(
    capsys: pytest.CaptureFixture[str], model: Path, folder: Path, digits: np.ndarray, labels: list[int], scale: float,
    light_paper: bool,
) -> int:  # fmt: skip
    """How many digits of a folder of pictures are read."""
    paths = write_pictures(folder, digits, scale, light_paper)
    code, out, err = run(capsys, "predict", model, *paths, "--json", "--device", "cpu")
    assert (code, err) == (0, "")
    found = lines(out)
    assert [answer["file"] for answer in found] == list(map(str, paths))
    return sum(answer["class"] == str(label) for answer, label in zip(found, labels, strict=True))


@pytest.fixture(scope="module")
def trained_on_mnist(mnist_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray, list[int]]:
    """A model of MNIST after a few seconds of training, and the first 100 test digits with their labels."""
    pytest.importorskip("PIL", reason="pictures need Pillow")
    data: Any = load_data("mnist", mnist_dir)
    model = Sequential(Linear(784, 128), ReLU(), Linear(128, 10), Softmax(), backend="cpu")
    Trainer(model, optimizer=Adam(1e-3)).fit(data.train, 3, 128)
    path = tmp_path_factory.mktemp("mnist") / "model.safetensors"
    save_model(model, path)
    return path, data.test.x[:100].reshape(-1, 28, 28), data.test.y[:100].tolist()


@pytest.mark.parametrize("light_paper", [False, True])
@pytest.mark.parametrize("scale", SCALES)
def test_real_digits_are_read_in_any_size_and_polarity(
    trained_on_mnist: tuple[Path, np.ndarray, list[int]],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    scale: float,
    light_paper: bool,
) -> None:
    model, digits, labels = trained_on_mnist
    assert read_right(capsys, model, tmp_path, digits, labels, scale, light_paper) >= 95


@pytest.mark.parametrize("light_paper", [False, True])
def test_real_digits_are_read_anywhere_on_the_paper(
    trained_on_mnist: tuple[Path, np.ndarray, list[int]],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    light_paper: bool,
) -> None:
    model, digits, labels = trained_on_mnist
    rng = np.random.default_rng(0)
    found = 0
    for index, scale in enumerate(SCALES):
        paths = [tmp_path / f"{index}-{number}.png" for number in range(100)]
        for path, digit in zip(paths, digits, strict=True):
            as_picture(on_paper(digit, rng), scale, light_paper).save(path)
        _, out, _ = run(capsys, "predict", model, *paths, "--json", "--device", "cpu")
        found += sum(answer["class"] == str(label) for answer, label in zip(lines(out), labels, strict=True))
    assert found >= 285


@pytest.fixture(scope="module")
def drawn_digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray, list[int]]:
    """A model of scikit-learn's digits as 28x28 pixels, and 100 test digits of 32x32 with their labels."""
    pytest.importorskip("PIL", reason="pictures need Pillow")

    def large(rows: np.ndarray) -> np.ndarray:
        small = (rows.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
        return np.array([np.asarray(as_picture(np.pad(row, 1), 4, light_paper=False)) for row in small])

    train = DIGITS.train
    x = np.array([np.rint(centred(digit / 255) * 255) for digit in large(train.x)]).astype(np.uint8)
    model = trained(Dataset(x.reshape(-1, 784), train.y, scale=1 / 255, image_shape=(28, 28)), Linear(784, 64), ReLU(),
                    Linear(64, 10), epochs=8)  # fmt: skip
    path = tmp_path_factory.mktemp("drawn") / "model.safetensors"
    save_model(model, path)
    return path, large(DIGITS.test.x[:100]), DIGITS.test.y[:100].tolist()


@pytest.mark.parametrize("light_paper", [False, True])
@pytest.mark.parametrize("scale", [0.5, 1.0, 4.0])
def test_bundled_digits_are_read_in_any_size_and_polarity(
    drawn_digits: tuple[Path, np.ndarray, list[int]],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    scale: float,
    light_paper: bool,
) -> None:
    model, digits, labels = drawn_digits
    rng = np.random.default_rng(1)
    assert read_right(capsys, model, tmp_path, digits, labels, scale, light_paper) >= 90
    for digit in digits[:10]:
        as_picture(on_paper(digit, rng), scale, light_paper).save(tmp_path / "moved.png")
        _, here, _ = run(capsys, "predict", model, tmp_path / "moved.png")
        assert here.startswith(f"{tmp_path / 'moved.png'}: ")


def test_pictures_of_other_shapes_are_stretched(
    digits: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("PIL", reason="pictures need Pillow")
    rows = (DIGITS.test.x[:100].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    labels = DIGITS.test.y[:100].tolist()
    for scale in (1.0, 3.0):
        assert read_right(capsys, digits, tmp_path, rows, labels, scale, light_paper=False) >= 93
    # Dark on light is another picture to such a model, unless that is said.
    paths = write_pictures(tmp_path, rows, 1.0, light_paper=True)
    _, out, _ = run(capsys, "predict", digits, *paths, "--json", "--invert")
    assert sum(a["class"] == str(label) for a, label in zip(lines(out), labels, strict=True)) >= 93
    code, _, _ = run(capsys, "predict", digits, paths[0], "--fit", "centre")
    assert code == 0


@pytest.mark.parametrize("flat", [True, False])
def test_pictures_of_a_network_that_moves_their_channels(
    flat: bool, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Its rows are (channels, height, width), or flat in that order; a file is read as (height, width, channels)."""
    image = pytest.importorskip("PIL.Image", reason="pictures need Pillow")
    colours = np.random.default_rng(0).integers(0, 60, (90, 3, 7, 6)).astype(np.uint8)
    labels = np.arange(90) % 3
    colours[np.arange(90), labels] += 190
    first = [Reshape(3, 7, 6), ChannelsLast()] if flat else [ChannelsLast()]
    rows = Dataset(colours.reshape(90, -1) if flat else colours, labels, scale=1 / 255)
    model = trained(rows, *first, GlobalAvgPool2d(), Linear(3, 3), Softmax(), epochs=60)
    save_model(model, tmp_path / "m.safetensors")
    for label in range(3):
        image.fromarray(np.moveaxis(colours[label], 0, -1)).save(tmp_path / f"{label}.png")
        code, out, _ = run(capsys, "predict", tmp_path / "m.safetensors", tmp_path / f"{label}.png", "--json")
        assert (code, lines(out)[0]["class"]) == (0, str(label))


def test_a_model_of_a_table_takes_no_pictures(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("PIL", reason="pictures need Pillow")
    save_model(trained(Dataset(np.eye(4), np.arange(4)), Linear(4, 4)), tmp_path / "m.safetensors")
    as_picture(np.eye(8, dtype=np.uint8), 1, light_paper=True).save(tmp_path / "a.png")
    code, out, err = run(capsys, "predict", tmp_path / "m.safetensors", tmp_path / "a.png")
    assert (code, out) == (2, "")
    assert "a.png is a picture, but the model takes rows of 4 numbers that are no pictures" in err


# ---- arrays and tables -----------------------------------------------------------------------------------------------

ROWS = DIGITS.test.x[:7]


def idx(rows: np.ndarray) -> bytes:
    shape = (len(rows), 8, 8)
    return b"\0\0\x08\x03" + np.array(shape, ">u4").tobytes() + rows.astype(np.uint8).tobytes()


def npy(rows: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, rows)
    return file.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def table(rows: np.ndarray, header: str = "", separator: str = ",") -> bytes:
    body = "\n".join(separator.join(f"{value:g}" for value in row) for row in rows.astype(float))
    return f"{header}{body}\n".encode()


FILES = {
    "a.npy": npy(ROWS), "pictures.npy": npy(ROWS.reshape(-1, 8, 8)), "a.npz": npz(anything=ROWS),
    "several.npz": npz(x=ROWS, y=np.arange(7)), "test.npz": npz(x_train=np.ones((2, 64)), x_test=ROWS),
    "a.csv": table(ROWS), "a.tsv": table(ROWS, separator="\t"), "a.csv.gz": gzip.compress(table(ROWS)),
    "numbered.csv": table(ROWS, header=",".join(map(str, range(64))) + "\n"),
    "labelled.csv": table(np.c_[np.full(7, 5), ROWS], header="label," + ",".join(f"p{i}" for i in range(64)) + "\n"),
    "a-ubyte": idx(ROWS), "a.gz": gzip.compress(idx(ROWS)), "wrong-ending.png": table(ROWS, separator=";"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("from_stdin", [False, True])
def test_rows_of_every_format_are_answered_as_by_python(
    digits: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    from_stdin: bool,
) -> None:
    path = tmp_path / name
    path.write_bytes(FILES[name])
    if from_stdin:
        stdin_holds(monkeypatch, FILES[name])
    code, out, err = run(capsys, "predict", digits, "-" if from_stdin else path, "--json", "--probabilities")
    assert (code, err) == (0, "")
    model = load_model(digits / "weights.safetensors", "cpu")
    shares = model.predict_proba(ROWS)
    for index, answer in enumerate(lines(out)):
        assert answer["file"] == ("-" if from_stdin else str(path))
        assert answer["row"] == index
        assert answer["class"] == str(shares[index].argmax())
        assert answer["probability"] == pytest.approx(float(shares[index].max()), rel=1e-4)
        assert list(answer["probabilities"].values()) == pytest.approx(shares[index].tolist(), rel=1e-3, abs=1e-7)
    assert len(lines(out)) == 7


def test_one_row_of_an_array(digits: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", ROWS[0])
    code, out, _ = run(capsys, "predict", digits, tmp_path / "one.npy")
    assert code == 0
    assert out.startswith(f"{tmp_path / 'one.npy'}: ")


TABLE = """\
colour,size,weight,price
red,1,10,1.5
green,2,20,3.0
red,3,,4.5
blue,4,40,6.0
green,5,50,7.5
blue,6,60,9.0
"""


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of values, whose columns have names, categories and missing values."""
    folder = tmp_path_factory.mktemp("prices")
    (folder / "train.csv").write_text(TABLE)
    data = read_csv(folder / "train.csv", label="price", task="values", impute="mean", categorical=["colour"])
    model = trained(data, Standardize(5), Linear(5, 1), loss="mse", epochs=300)
    save_model(model, folder / "model.safetensors")
    return folder / "model.safetensors"


def test_columns_are_taken_by_their_names(prices: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    new = tmp_path / "new.csv"
    new.write_text("weight;remark;size;colour\n20;none;2;green\n;x;3;red\n")
    code, out, err = run(capsys, "predict", prices, new)
    assert (code, err) == (0, "")
    values = [float(line.split(": ")[1]) for line in out.splitlines()]
    model = load_model(prices, "cpu")
    expected = model.predict([["green", 2, 20], ["red", 3, None]])
    assert values == pytest.approx(expected.tolist(), rel=1e-5)
    _, out, _ = run(capsys, "predict", prices, new, "--json")
    assert [answer["values"] for answer in lines(out)] == pytest.approx(expected.tolist(), rel=1e-6)
    _, out, _ = run(capsys, "predict", prices, new, "--csv")
    assert out.splitlines()[0] == "file,row,value"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("weight,size\n1,2\n", "lacks the column colour, which the training rows had"),
        ("colour,size,weight\npink,2,3\n", "line 2, column 1 (colour): "),
        ("colour,size,weight\nred,big,3\n", "line 2, column 2 (size): 'big' is not a number"),
        ("colour,size,weight\nred,1,3\nred,1\n", "line 3: 2 cells, but the first line has 3"),
        ("colour,size,weight\n", "has no rows"),
        ("colour,size,size,weight\nred,1,1,3\n", "two columns are called 'size'"),
        ("red,1\n", "has 2 columns, but the model takes 3"),
        ("red,1,2,3\n", "has 4 columns, but the model takes 3; leave out what is no feature by --drop COLUMN"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(
    prices: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, sentence: str
) -> None:
    (tmp_path / "new.csv").write_text(text)
    code, out, err = run(capsys, "predict", prices, tmp_path / "new.csv")
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith(f"python -m nn: error: {tmp_path / 'new.csv'}")
    assert sentence in line


def test_columns_that_are_no_features_are_dropped(
    prices: Path, digits: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "new.csv").write_text("red,1,2,3\n")
    assert run(capsys, "predict", prices, tmp_path / "new.csv", "--drop", "-1")[0] == 0
    (tmp_path / "digits.csv").write_bytes(table(np.c_[ROWS, np.full(7, 5)]))
    assert run(capsys, "predict", digits, tmp_path / "digits.csv")[0] == 2
    code, out, _ = run(capsys, "predict", digits, tmp_path / "digits.csv", "--drop", "65")
    assert (code, len(out.splitlines())) == (0, 7)


# ---- what is printed -------------------------------------------------------------------------------------------------


def test_several_answers(digits: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS[:1])
    shares = load_model(digits / "weights.safetensors", "cpu").predict_proba(ROWS[:1])[0]
    best = np.argsort(-shares)[:3]
    _, out, _ = run(capsys, "predict", digits, tmp_path / "a.npy", "--top", "3")
    said = ", ".join(f"{index} ({100 * shares[index]:.1f} %)" for index in best)
    assert out == f"{tmp_path / 'a.npy'}: {said}\n"
    _, out, _ = run(capsys, "predict", digits, tmp_path / "a.npy", "--top", "3", "--json")
    assert [found["class"] for found in lines(out)[0]["top"]] == [str(index) for index in best]
    _, out, _ = run(capsys, "predict", digits, tmp_path / "a.npy", "--top", "2", "--csv", "--probabilities")
    (answer,) = csv.DictReader(io.StringIO(out))
    assert [answer["class"], answer["class_2"]] == [str(index) for index in best[:2]]
    assert float(answer["p_3"]) == pytest.approx(float(shares[3]), rel=1e-4)


def test_names_of_two_classes_and_one_output(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200)
    data = Dataset(rng.normal(size=(200, 3)) + 3 * y[:, None], y, class_names=("ham", "späm"))
    save_model(
        trained(data, Linear(3, 1), Sigmoid(), loss="binary_cross_entropy", epochs=150), tmp_path / "m.safetensors"
    )
    (tmp_path / "new.csv").write_text("0,0,0\n3,3,3\n")
    _, out, _ = run(capsys, "predict", tmp_path / "m.safetensors", tmp_path / "new.csv", "--json", "--probabilities")
    assert [answer["class"] for answer in lines(out)] == ["ham", "späm"]
    assert all(sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-6) for answer in lines(out))


def test_yes_or_no_for_each_of_several_labels(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2))
    model = trained(Dataset(x, (x > 0).astype(np.float32)), Linear(2, 2), loss="binary_cross_entropy", epochs=200)
    save_model(model, tmp_path / "m.safetensors")
    (tmp_path / "new.csv").write_text("2,-2\n-2,2\n")
    code, out, _ = run(capsys, "predict", tmp_path / "m.safetensors", tmp_path / "new.csv", "--json", "--probabilities")
    assert code == 0
    assert [answer["values"] for answer in lines(out)] == [[1, 0], [0, 1]]
    assert lines(out)[0]["probabilities"]["0"] > 0.9


def test_a_batch_is_as_good_as_another(digits: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    words = ["predict", digits, tmp_path / "a.npy", "--device", "cpu"]
    assert run(capsys, *words, "--batch-size", "2") == run(capsys, *words)


# ---- rows that are not loaded ----------------------------------------------------------------------------------------


def zarr_array(folder: Path, parts: dict[str, np.ndarray]) -> Path:
    zarr = pytest.importorskip("zarr")
    zarr.save_array(folder / "rows.zarr", parts["x"])
    return folder / "rows.zarr"


def one_npy(folder: Path, parts: dict[str, np.ndarray]) -> Path:
    np.save(folder / "rows.npy", parts["x"])
    return folder / "rows.npy"


def parquet(folder: Path, parts: dict[str, np.ndarray]) -> Path:
    pyarrow, file = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {f"p{i}": parts["x"][:, i] for i in range(64)}
    file.write_table(pyarrow.table(columns | {"label": parts["y"]}), folder / "rows.parquet", row_group_size=50)
    return folder / "rows.parquet"


STORES: list[Callable[[Path, dict[str, np.ndarray]], Path]] = [
    one_npy, npy_folder, npy_shards, hdf5, zarr_group, zarr_array, parquet
]  # fmt: skip


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("from_stdin", [False, True])
def test_rows_that_stay_in_their_file_have_the_answers_of_memory(
    digits: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    store: Callable[[Path, dict[str, np.ndarray]], Path],
    from_stdin: bool,
) -> None:
    path = store(tmp_path, {"x": DIGITS.train.x[:330], "y": DIGITS.train.y[:330]})
    if from_stdin and path.is_dir():
        pytest.skip("a folder is no stream")
    words = ["predict", digits, "-" if from_stdin else path, "--json", "--probabilities", "--device", "cpu"]

    def answers() -> tuple[int, str, str]:
        if from_stdin:
            stdin_holds(monkeypatch, path.read_bytes())
        return run(capsys, *words, "--batch-size", "40")

    expected = answers()
    assert expected[0] == 0
    assert [line["row"] for line in lines(expected[1])] == list(range(330))
    loads: list[Any] = []
    monkeypatch.setattr(inputs, "loaded", loads.append)
    monkeypatch.setattr(unlabelled, "loaded", loads.append)
    monkeypatch.setattr(unlabelled, "WINDOW_BYTES", 5000)
    monkeypatch.setattr(streamed_feed, "WINDOW_IN_ORDER", 100 * 64)
    assert answers() == expected
    assert not loads


def test_rows_that_cannot_be_used_are_named_where_they_are_in_their_file(
    digits: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unlabelled, "WINDOW_BYTES", 5000)
    monkeypatch.setattr(streamed_feed, "WINDOW_IN_ORDER", 8 * 64 * 8)
    for value, told in ((np.nan, "is nan"), (1e300, "is 1e+300, but the network computes in float32")):
        rows = np.zeros((60_000, 64))
        rows[40, 7] = value  # between those that are looked at before
        np.save(tmp_path / "a.npy", rows)
        code, out, err = run(capsys, "predict", digits, tmp_path / "a.npy", "--batch-size", "8", "--device", "cpu")
        assert code == 2
        assert len(out.splitlines()) == 40  # those before it
        assert f"{tmp_path / 'a.npy'}[40, 7] {told}" in err


def test_columns_of_parquet_are_taken_as_those_of_text(
    prices: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    text = "size,note,weight,colour\n7,x,70,green\n8,y,,blue\n"
    (tmp_path / "new.csv").write_text(text)
    pandas.read_csv(io.StringIO(text)).to_parquet(tmp_path / "new.parquet")
    words = ["--csv", "--device", "cpu"]
    _, expected, _ = run(capsys, "predict", prices, tmp_path / "new.csv", *words)
    code, out, err = run(capsys, "predict", prices, tmp_path / "new.parquet", *words)
    assert (code, err) == (0, "")
    assert out.replace(".parquet", ".csv") == expected


FLAT = """
import resource, sys
import numpy as np
from nn.__main__ import main

model, folder = sys.argv[1:]
np.save(f"{folder}/small.npy", np.ones((3, 8192), np.float32))
assert main(["predict", model, f"{folder}/small.npy", "--device", "cpu"]) == 0
pages = open("/proc/self/statm").read().split()
used = resource.getpagesize() * int(pages[5])
resource.setrlimit(resource.RLIMIT_DATA, (used + 150_000_000, resource.RLIM_INFINITY))
sys.exit(main(["predict", model, f"{folder}/large.npy", "--device", "cpu"]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_rows_larger_than_memory_are_answered(tmp_path: Path) -> None:
    """310 MB of rows with 150 MB of memory."""
    save_model(Sequential(Linear(8192, 2), backend="cpu"), tmp_path / "model.safetensors")
    rows = np.lib.format.open_memmap(tmp_path / "large.npy", "w+", np.float32, (9500, 8192))
    rows[9000:] = 1.0
    rows.flush()
    command = [sys.executable, "-c", FLAT, str(tmp_path / "model.safetensors"), str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (found.returncode, found.stderr) == (0, "")
    answers = [[float(number) for number in line.rpartition(": ")[2].split(", ")] for line in found.stdout.splitlines()]
    ones, zeros, more_ones = answers[:3], answers[3:9003], answers[9003:]
    assert len(more_ones) == 500
    np.testing.assert_array_equal(zeros, 0.0)
    np.testing.assert_allclose(more_ones, np.tile(ones[0], (500, 1)), rtol=1e-4)


# ---- what cannot be done ---------------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_used_is_told_of_and_the_others_are_answered(
    digits: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    good = [tmp_path / "a.npy", tmp_path / "b.npy"]
    for path in good:
        np.save(path, ROWS[:1])
    bad = {
        "missing.png": None, "empty.csv": b"", "pickled.npy": npy(np.array([{}], dtype=object)),
        "cut.npy": npy(ROWS)[:-3], "noise.bin": bytes(range(128, 256)), "cut.png": b"\x89PNG\r\n\x1a\n",
        "cut.csv.gz": gzip.compress(table(ROWS))[:-30], "bad.gz": b"\x1f\x8b\x08\0 hello",
        "wide.npy": npy(np.full((2, 65), 16)), "nan.npy": npy(np.full((2, 64), np.nan)), "a.h5": b"\x89HDF\r\n\x1a\n",
        "a.parquet": b"PAR1", "a.tif": b"II*\0", "a.heic": b"\0\0\0\x18ftypheic", "a.pdf": b"%PDF-1.7",
        "names.npz": npz(a=ROWS, b=ROWS), "text.csv": b"hello,world\n1,2\n",
    }  # fmt: skip
    for name, content in bad.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
    code, out, err = run(capsys, "predict", digits, good[0], *(tmp_path / name for name in bad), good[1])
    assert code == 2
    assert [line.partition(": ")[0] for line in out.splitlines()] == list(map(str, good))
    for name, line in zip(bad, err.splitlines(), strict=True):
        assert line.startswith("python -m nn: error: ")
        assert str(tmp_path / name) in line


@settings(max_examples=150)
@given(data=st.data())
def test_damaged_files_are_answered_or_refused_in_a_sentence(
    digits: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    model = load_model(digits / "weights.safetensors", "cpu")
    path = tmp_path_factory.getbasetemp() / "damaged"
    content = bytearray(FILES[data.draw(st.sampled_from(sorted(FILES)))])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    refused = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            assert sum(len(part.rows) for part in parts_of(model, str(path), Options(), 4))
        except DataError as error:
            refused = str(error)
    assert str(path) in refused or not refused


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["predict", "{model}", "{empty}"], "empty is a folder without x.npy; name the files in it"),
        (["predict", "{model}"], "the following arguments are required: FILE"),
        (["predict", "{model}", "-", "-"], "standard input can be read once"),
        (["predict", "{model}", "x", "--top", "0"], "--top must be at least 1, not 0"),
        (["predict", "{model}", "x", "--batch-size", "-1"], "--batch-size must be at least 1, not -1"),
        (["predict", "{model}", "x", "--top", "many"], "error: --top must be a whole number, not 'many'"),
        (["predict", "{model}", "x", "--json", "--csv"], "not allowed with argument"),
        (["predict", "{model}", "x", "--device", "toaster"], "unknown device 'toaster'"),
        (["predict", "{empty}", "x"], "is a folder without weights.safetensors"),
        (["predict", "nowhere", "x"], "nowhere: there is no such file"),
        (["predict", "{broken}", "x"], "is not a model that xpnet saved"),
        (["predict", "{model}", "nowhere.h5"], "error: nowhere.h5: there is no such file"),
        *(
            (["predict", "{model}", f"{{broken}}{ending}"], f"broken{ending} is no {called}, and no table that the")
            for ending, called in ((".h5", "HDF5 file"), (".parquet", "Parquet file"), (".npy", ".npy file"))
        ),
        (["predikt", "{model}", "x"], "unknown command 'predikt'; did you mean predict?"),
        ([], "name a command: predict, "),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_exit_code_2(
    digits: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], sentence: str
) -> None:
    (tmp_path / "empty").mkdir()
    for ending in ("", ".h5", ".parquet", ".npy"):
        (tmp_path / f"broken{ending}").write_bytes(b"broken")
    names = {"model": digits, "empty": tmp_path / "empty", "broken": tmp_path / "broken"}
    code, out, err = run(capsys, *(word.format(**names) for word in words))
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("python -m nn: error: ")
    assert sentence in line


def test_a_flag_that_would_do_nothing_is_refused(
    prices: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for flags in (["--top", "2"], ["--probabilities"]):
        code, out, err = run(capsys, "predict", prices, "x.csv", *flags)
        assert (code, out) == (2, "")
        assert f"{flags[0]} would do nothing here, as the model " in err
    x = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    save_model(trained(Dataset(x.reshape(20, -1), np.arange(20) % 2, scale=1 / 255, image_shape=(28, 28)),
                       Linear(784, 2), epochs=1), tmp_path / "m.safetensors")  # fmt: skip
    code, _, err = run(capsys, "predict", tmp_path / "m.safetensors", "x.png", "--invert")
    assert code == 2
    assert "--invert would do nothing here, as drawings are read either way round" in err
    code, _, err = run(capsys, "predict", tmp_path / "m.safetensors", "x.png", "--invert", "--fit", "stretch")
    assert "x.png: there is no such file" in err


def test_rows_in_other_units_are_warned_of(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (50, 64), dtype=np.uint8)
    model = trained(Dataset(x, np.arange(50) % 2, scale=1 / 255), Linear(64, 2))
    save_model(model, tmp_path / "m.safetensors")
    np.save(tmp_path / "a.npy", x[:2] / 255)
    code, out, err = run(capsys, "predict", tmp_path / "m.safetensors", tmp_path / "a.npy")
    assert (code, len(out.splitlines())) == (0, 2)
    assert err.startswith("python -m nn: warning: the training rows went from 0 to 255, but x goes from 0")


def test_what_a_file_says_cannot_write_on_the_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = Dataset(np.eye(2), np.arange(2), class_names=("\x1b[2Jgone", "b\nc"))
    save_model(trained(data, Linear(2, 2)), tmp_path / "m.safetensors")
    np.save(tmp_path / "a.npy", np.eye(2))
    for words in (["predict", tmp_path / "m.safetensors", tmp_path / "a.npy", "--top", "2"],
                  ["describe", tmp_path / "m.safetensors"]):  # fmt: skip
        _, out, _ = run(capsys, *words)
        assert "\x1b" not in out
        assert "\\x1b[2Jgone" in out
        assert "b\\nc" in out


def test_a_closed_standard_input(
    digits: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert run(capsys, "predict", digits, "-")[2] == "python -m nn: error: standard input is closed; name a file\n"


def test_a_reader_that_leaves_early_is_no_error(digits: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "many.npy", np.repeat(ROWS, 2000, axis=0))
    command = [sys.executable, "-m", "nn", "predict", str(digits), str(tmp_path / "many.npy"), "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert b"many.npy[0]: " in process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_a_sentence(digits: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    command = [sys.executable, "-m", "nn", "predict", str(digits), str(tmp_path / "a.npy"), "--device", "cpu"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "python -m nn: error: the output cannot be written: No space left on device\n"


def test_names_that_the_terminal_cannot_write(tmp_path: Path) -> None:
    data = Dataset(np.eye(2), np.arange(2), class_names=("ä", "ö"))
    save_model(trained(data, Linear(2, 2)), tmp_path / "m.safetensors")
    np.save(tmp_path / "a.npy", np.eye(2))
    command = [sys.executable, "-m", "nn", "predict", str(tmp_path / "m.safetensors"), str(tmp_path / "a.npy")]
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "LANG": "C"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xe4 (" in done.stdout or "\\xf6 (" in done.stdout


def test_help_is_an_overview_and_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert "python -m nn predict out/ three.png" in out
    code, out, _ = run(capsys, "predict", "--help")
    assert code == 0
    assert "examples:" in out
