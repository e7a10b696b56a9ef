"""Runs of rows that stay in their files, from the command line to the folder that is left."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import train
from nn import Callback, StreamedDataset, Trainer, load_data, load_model
from nn.__main__ import main as commands
from nn.history import Record
from tests.helpers.script import run

FLAGS = ["--device", "cpu", "--hidden", "16", "--standardize", "--lr", "0.05"]
#: The files are small, and so are their chunks and windows.
pytestmark = pytest.mark.filterwarnings("ignore::nn.data.StreamWarning")


def parts() -> dict[str, np.ndarray]:
    """Pictures with their labels, to train on and to test."""
    data = load_data("digits")
    assert data.test is not None
    return {
        "x_train": data.train.x[:600].reshape(-1, 8, 8), "y_train": data.train.y[:600],
        "x_test": data.test.x[:150].reshape(-1, 8, 8), "y_test": data.test.y[:150],
    }  # fmt: skip


def folder_of(folder: Path) -> Path:
    stored = folder / "rows"
    stored.mkdir()
    for name, array in parts().items():
        np.save(stored / f"{name}.npy", array)
    return stored


def hdf5_of(folder: Path) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "rows.h5", "w") as file:
        for name, array in parts().items():
            file.create_dataset(name, data=array, chunks=(8, 8, 8)[: array.ndim], compression="gzip")
    return folder / "rows.h5"


def zarr_of(folder: Path) -> Path:
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(folder / "rows.zarr", mode="w")
    for name, array in parts().items():
        shape = (8, 8, 8)[: array.ndim]
        group.create_array(name, shape=array.shape, chunks=shape, dtype=array.dtype)[...] = array
    return folder / "rows.zarr"


def parquet_of(folder: Path) -> Path:
    pytest.importorskip("pandas")
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    arrays = parts()
    columns: dict[str, Any] = {f"c{i}": arrays["x_train"].reshape(-1, 64)[:, i].astype("f4") for i in range(64)}
    write_table(pyarrow.table(columns | {"label": arrays["y_train"]}), folder / "rows.parquet", row_group_size=16)
    return folder / "rows.parquet"


STORES: list[Callable[[Path], Path]] = [folder_of, hdf5_of, zarr_of, parquet_of]


@pytest.mark.parametrize("store", STORES)
def test_a_run_whose_rows_fit_into_a_window_is_that_of_memory(
    store: Callable[[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(store(tmp_path))
    runs = []
    for size in ("full", "9000", "100"):
        flags = ["--data", path, "--epochs", "3", "--validation", "0.1", "--output", str(tmp_path / size), *FLAGS]
        code, out, err = run(capsys, *flags, "--window", size)
        assert (code, err) == (0, "")
        assert ("read in windows of" in " ".join(out.split())) == (size == "100")
        found = json.loads((tmp_path / size / "settings.json").read_text())["test"]
        runs.append((load_model(tmp_path / size, backend="cpu").state_dict(), found))
    (memory, tested), (one_window, also), (windows, others) = runs
    assert tested == also
    assert others["accuracy"] > 0.5
    assert all((memory[name] == one_window[name]).all() for name in memory)
    assert any((memory[name] != windows[name]).any() for name in memory)


def test_a_report_and_pictures_of_rows_that_are_streamed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    path, report = folder_of(tmp_path), tmp_path / "report.html"
    flags = ["--data", str(path), "--window", "100", "--epochs", "2", "--layers", "4C3-MP2-8N", "--augment-shift", "1"]
    code, out, err = run(
        capsys, *flags, "--device", "cpu", "--report", str(report), "--plots", "--output", str(tmp_path / "out"),
        "--predictions", "2", "--metrics", "macro_f1", "--train-metrics", "--class-weight", "balanced",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "the first 2 test rows" in out
    assert {"confusion.png", "digits.png", "mistakes.png"} <= {file.name for file in (tmp_path / "out").iterdir()}
    assert "<svg" in report.read_text(encoding="utf-8")


def test_a_run_of_streamed_rows_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--data", str(folder_of(tmp_path)), "--window", "100", *FLAGS, "--output"]
    assert run(capsys, *flags, str(tmp_path / "whole"), "--epochs", "4")[0] == 0
    assert run(capsys, *flags, str(tmp_path / "parts"), "--epochs", "2", "--checkpoint-every", "1")[0] == 0
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "--resume", "parts", "--epochs", "4")
    assert (code, err) == (0, "")
    assert "the run goes on after 2 epochs" in out
    one, other = (load_model(tmp_path / name, backend="cpu").state_dict() for name in ("whole", "parts"))
    assert all((one[name] == other[name]).all() for name in one)


def test_a_file_that_changes_while_it_is_read_ends_a_run_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder_of(tmp_path)

    class Changes(Callback):
        def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
            np.save(path / "x_train.npy", parts()["x_train"][::-1])

    monkeypatch.setattr(train, "build_callbacks", lambda settings: [Changes()])
    # It is noticed within 0.1 s; at once, where a thread reads while the file is written.
    code, _, err = run(capsys, "--data", str(path), "--window", "100", "--epochs", "1000", *FLAGS)
    assert code == 2
    (sentence,) = err.splitlines()
    assert re.search("x_train.npy has (changed since it was opened|become shorter while it was read); begin", sentence)


def test_a_run_whose_rows_are_gone_for_a_while_is_told_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rows = folder_of(tmp_path), tmp_path / "rows" / "x_train.npy"
    away = rows.with_name("away")

    class Unplugs(Callback):
        def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
            if record["epoch"] == 2:
                rows.rename(away)

    flags = ["--data", str(path), "--window", "100", *FLAGS, "--output"]
    assert run(capsys, *flags, str(tmp_path / "whole"), "--epochs", "4")[0] == 0
    folder = str(tmp_path / "some parts")
    with monkeypatch.context() as patched:
        patched.setattr(train, "build_callbacks", lambda settings: [Unplugs()])
        patched.setattr("nn.data.streamed.reader.keep_files_open", lambda: None)  # an open file can still be read
        code, _, err = run(capsys, *flags, folder, "--epochs", "40", "--checkpoint-every", "1")
    assert code == 2
    (sentence,) = err.splitlines()
    assert "x_train.npy cannot be read (No such file or directory)" in sentence
    assert sentence.endswith(f"--resume '{folder}'")
    away.rename(rows)
    assert run(capsys, "--resume", folder, "--epochs", "4")[0] == 0
    one, other = (load_model(tmp_path / name, backend="cpu").state_dict() for name in ("whole", "some parts"))
    assert all((one[name] == other[name]).all() for name in one)


@pytest.mark.parametrize(("row", "ends"), [(5036, 2), (5037, 1)], ids=["to train on", "to test with"])
def test_a_row_that_is_no_number_ends_a_run_with_a_sentence(
    row: int, ends: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """When it is needed: one that is held out for the test, after training."""
    x = np.random.default_rng(0).normal(size=(9000, 3)).astype("f4")
    x[row, 1] = np.nan
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", np.arange(9000) % 2)
    flags = ["--data", str(tmp_path / "x.npy"), "--window", "1000", "--epochs", "3", *FLAGS]
    code, _, err = run(capsys, *flags, "--output", str(tmp_path / "out"))
    assert code == ends
    (sentence,) = err.splitlines()
    assert f"x.npy[{row}, 1] is nan; remove the row or put a number there" in sentence
    assert ("weights.safetensors" in {path.name for path in (tmp_path / "out").glob("*")}) == (ends == 1)


def test_what_was_trained_is_saved_though_the_test_rows_are_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder_of(tmp_path)

    class Removes(Callback):
        def on_fit_end(self, trainer: Trainer) -> None:
            (path / "x_test.npy").unlink()

    monkeypatch.setattr(train, "build_callbacks", lambda settings: [Removes()])
    flags = ["--data", str(path), "--window", "100", "--epochs", "1", "--output", str(tmp_path / "out"), *FLAGS]
    code, _, err = run(capsys, *flags)
    (sentence,) = err.splitlines()
    assert code == 1
    assert "x_test.npy cannot be read" in sentence
    assert load_model(tmp_path / "out", backend="cpu").n_outputs == 10


def test_a_run_of_streamed_rows_is_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder_of(tmp_path)
    flags = ["--data", str(path), "--window", "100", "--epochs", "1", "--output", str(tmp_path / "out"), *FLAGS]
    assert run(capsys, *flags)[0] == 0
    tested = json.loads((tmp_path / "out" / "settings.json").read_text())["test"]["accuracy"]
    assert commands(["evaluate", str(tmp_path / "out"), "--rows", "test"]) == 0
    assert f"accuracy {tested:.2%}" in capsys.readouterr().out
    assert commands(["evaluate", str(tmp_path / "out"), "--rows", "all"]) == 0
    assert "750 rows of" in capsys.readouterr().out


@pytest.mark.parametrize(("window", "as_in_memory"), [("100", 50), ("700", 50), ("100", 5000), ("full", 50)])
def test_the_rows_that_a_run_has_held_out_are_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, window: str, as_in_memory: int
) -> None:
    """Of more rows than a window, and than are divided as in memory, others are held out."""
    monkeypatch.setattr("nn.data.streamed.dataset.DIVIDED_AS_IN_MEMORY", as_in_memory)
    x, y = parts()["x_train"], parts()["y_train"]
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "labels.npy", y)
    monkeypatch.chdir(tmp_path)
    flags = ["--data", "x.npy,labels.npy", "--window", window, "--test-fraction", "0.3", "--epochs", "3"]
    assert run(capsys, *flags, "--output", "out", *FLAGS)[0] == 0
    told = json.loads(Path("out/settings.json").read_text())["test"]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")

    def result(*words: str) -> Any:
        assert commands(["evaluate", str(tmp_path / "out"), *words, "--json", "--device", "cpu"]) == 0
        return json.loads(capsys.readouterr().out)

    for words in [], ["../x.npy, ../labels.npy"]:
        found = result(*words)
        assert found["count"] == 180
        assert {name: found[name] for name in told} == pytest.approx(told, rel=1e-6)
    assert result("../x.npy,../labels.npy", "--window", "300", "--test-fraction", "0.4")["count"] == 240


def test_values_of_a_table_in_windows_are_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--data", str(parquet_of(tmp_path)), "--window", "100", "--loss", "mse", "--epochs", "1"]
    assert run(capsys, *flags, "--output", str(tmp_path / "out"), *FLAGS)[0] == 0
    told = json.loads((tmp_path / "out" / "settings.json").read_text())["test"]
    assert commands(["evaluate", str(tmp_path / "out"), "--json", "--device", "cpu"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {name: found[name] for name in told} == pytest.approx(told, rel=1e-6)


def test_large_files_are_evaluated_where_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder_of(tmp_path)
    assert run(capsys, "--data", str(path), "--epochs", "1", "--output", str(tmp_path / "out"), *FLAGS)[0] == 0
    for rows in ("test", "train", "all"):
        assert commands(["evaluate", str(tmp_path / "out"), "--rows", rows]) == 0
    in_memory = capsys.readouterr().out
    for module in ("nn.data.sources", "nn.data.streamed.from_path"):
        monkeypatch.setattr(f"{module}.LOADED", 100)
    assert isinstance(load_data(path).train, StreamedDataset)
    for rows in ("test", "train", "all"):
        assert commands(["evaluate", str(tmp_path / "out"), "--rows", rows]) == 0
    assert capsys.readouterr().out == in_memory
    assert commands(["evaluate", str(tmp_path / "out"), "--rows", "all", "--limit", "20", "--only", "1", "2"]) == 0


def test_devices_are_compared_on_the_first_window(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--data", str(folder_of(tmp_path)), "--window", "100", "--compare", "cpu,cpu/reference"]
    code, out, err = run(capsys, *flags, "--hidden", "8", "--epochs", "1", "--lr", "0.01")
    assert (code, err) == (0, "")
    assert "cpu/reference" in out


def test_a_pair_of_files_is_found_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = parts()
    (tmp_path / "there").mkdir()
    np.save(tmp_path / "there" / "pictures.npy", arrays["x_train"])
    np.save(tmp_path / "there" / "labels.npy", arrays["y_train"])
    monkeypatch.chdir(tmp_path / "there")
    flags = ["--data", "pictures.npy,labels.npy", "--window", "100", *FLAGS, "--checkpoint-every", "1"]
    assert run(capsys, *flags, "--epochs", "1", "--output", "out")[0] == 0
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "--resume", "there/out", "--epochs", "2")[::2] == (0, "")
    assert (
        run(capsys, "--resume", "there/out", "--data", "there/pictures.npy,there/labels.npy", "--epochs", "3")[0] == 0
    )
