"""Messages that quote what somebody gave."""

from __future__ import annotations

import importlib
import pkgutil
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import backends
import nn
from backends import DeviceError, ErrorKind
from backends.arguments import did_you_mean, shown, unknown
from nn import Linear, Sequential, Softmax, Trainer
from nn.data import DataError
from nn.messages import OneSentence, sentence
from nn.report import plots, write_report

#: Text as it may come: words, control characters, very long words, paths.
TEXT = st.text(max_size=3000) | st.lists(
    st.text(string.ascii_letters + "/\x1b\n\u202e ", max_size=400), max_size=40
).map(" ".join)
#: Errors that are made from more than a message, and errors of the command line, which has its own way to print.
OTHERWISE = {"Ended", "DeviceError", "OutOfMemoryError", "TrainingDiverged", "UsageError", "CublasError", "OutputLost"}


def errors() -> list[type[BaseException]]:
    """Every public error and warning that is defined in ``backends`` and ``nn``."""
    found: dict[str, type[BaseException]] = {}
    for package in (backends, nn):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__") and not module.name.startswith(("nn.estimators", "nn.commands")):
                try:
                    values = vars(importlib.import_module(module.name))
                except ImportError:  # of a library that is not installed
                    continue
                found |= {
                    name: value
                    for name, value in values.items()
                    if isinstance(value, type)
                    and issubclass(value, BaseException)
                    and not name.startswith("_")
                    and value.__module__.partition(".")[0] == package.__name__
                }
    return [value for _, value in sorted(found.items())]


def is_short(said: str) -> bool:
    """Whether a message is a printable line and, but for two paths, shorter than 300 characters."""
    paths = sorted((word for word in said.split() if "/" in word), key=len)[-2:]
    return said.isprintable() and len(said) - sum(map(len, paths)) < 300


@given(TEXT)
def test_any_text_becomes_a_short_printable_line(text: str) -> None:
    assert is_short(sentence(text))


@pytest.mark.parametrize("kind", errors())
def test_errors_say_one_sentence(kind: type[BaseException]) -> None:
    assert issubclass(kind, OneSentence) or kind.__name__ in OTHERWISE

    @given(TEXT)
    def test(text: str) -> None:
        assert is_short(str(kind(text)))

    if issubclass(kind, OneSentence):
        test()


@given(TEXT, TEXT)
def test_errors_of_devices_say_one_sentence(reason: str, spec: str) -> None:
    assert is_short(str(DeviceError(reason, ErrorKind.UNKNOWN, spec)))


@given(TEXT)
def test_a_divergence_is_told_in_one_sentence(text: str) -> None:
    assert is_short(str(nn.TrainingDiverged(text, tensor=text, weights_of=3)))


@given(TEXT, TEXT)
def test_no_memory_is_told_in_one_sentence(text: str, advice: str) -> None:
    assert is_short(str(nn.OutOfMemoryError(text, what=text, advice=advice)))


@given(
    st.recursive(
        st.text() | st.binary() | st.integers() | st.floats() | st.none(),
        lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside),
    ),
    st.integers(30, 120),
)
def test_any_value_is_shown_in_a_short_printable_text(value: Any, most: int) -> None:
    text = shown(value, most)
    assert text.isprintable()
    assert 0 < len(text) <= most


def test_what_cannot_be_shown_is_named_by_its_type() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    assert shown(10**5000) in ("<int>", shown(10**5000))
    assert len(shown(10**5000)) <= 60
    assert "Broken" in shown(Broken())


@given(TEXT)
def test_a_name_that_is_not_known_is_told_in_one_sentence(name: str) -> None:
    assert len(unknown("loss", name, [f"name_of_a_loss_{i}" for i in range(50)])) < 300


def test_who_is_meant_is_asked() -> None:
    known = ["adam", "sgd", "AdamW"]
    assert unknown("optimizer", "adamw", known) == (
        "unknown optimizer 'adamw' (did you mean AdamW?); known are adam, sgd, AdamW"
    )
    assert unknown("optimizer", "nothing like it", known) == (
        "unknown optimizer 'nothing like it'; known are adam, sgd, AdamW"
    )
    assert did_you_mean("SDG", known) == " (did you mean sgd?)"


def test_what_is_short_and_printable_stays() -> None:
    text = "x[3] is -1 (column 2, “width”), but must be at least 0; correct it"
    assert sentence(text) == text


def test_control_characters_are_shown_and_not_sent() -> None:
    assert str(DataError("column \x1b[31mred\x07 is\nmissing")) == r"column \x1b[31mred\x07 is\nmissing"
    assert sentence("exe\u202efdp.csv") == r"exe\u202efdp.csv"


def test_long_words_are_cut_and_two_paths_are_not() -> None:
    path = "/folder/" + "a" * 200
    assert sentence(f"{path} has a column {'b' * 500}; rename it") == (
        f"{path} has a column {'b' * 40}...{'b' * 9}; rename it"
    )
    assert sentence("word " * 500).endswith("word ...")
    assert len(sentence("word " * 500)) < 300
    assert len(sentence(f"{path} " * 50)) < 2 * len(path) + 300


# ---- files in folders that are not there -----------------------------------------------------------------------------


def trained() -> Trainer:
    trainer = Trainer(Sequential(Linear(2, 2), Softmax(), backend="cpu"))
    trainer.fit(([[0.0, 1.0], [1.0, 0.0]], [0, 1]))
    return trainer


def fit_with(callback: nn.Callback) -> None:
    Trainer(Sequential(Linear(2, 2), Softmax(), backend="cpu"), callbacks=[callback]).fit(([[0.0, 1.0]], [0]))


def draw(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    plots.draw_all(trained(), None, folder, "true")


def export(folder: Path) -> None:
    pytest.importorskip("onnx")
    nn.export_onnx(trained().model, folder / "model.onnx")


WRITERS: dict[str, Callable[[Path], Any]] = {
    "save_model": lambda folder: nn.save_model(trained().model, folder / "model.safetensors"),
    "History.save": lambda folder: trained().history.save(folder / "history.jsonl"),
    "write_report": lambda folder: write_report(folder / "report.html", trained()),
    "draw_all": draw,
    "export_onnx": export,
    "CSVLog": lambda folder: fit_with(nn.CSVLog(folder / "log.csv")),
    "JSONLog": lambda folder: fit_with(nn.JSONLog(folder / "log.jsonl")),
    "SaveModel": lambda folder: fit_with(nn.SaveModel(folder / "best.safetensors")),
}


@pytest.mark.parametrize("name", ["nowhere", "red\x1b[31m", "x" * 120, "två ord"])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_folder_that_is_not_there_is_named(writer: str, name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    with pytest.raises(OSError, match="there is no folder") as caught:
        WRITERS[writer](folder)
    said = str(caught.value)
    assert isinstance(caught.value, FileNotFoundError)
    assert "draft" not in said
    assert "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(folder)) in said
    assert is_short(said)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_in_the_place_of_the_folder_is_named(writer: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OSError, match="there is no folder") as caught:
        WRITERS[writer](tmp_path / "file")
    assert str(tmp_path / "file") in str(caught.value)
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize(
    "read",
    [
        lambda path: nn.load_model(path, "cpu"),
        nn.History.load,
        nn.data.read_csv,
        nn.load_data,
        lambda path: trained().resume(path),
    ],
)
@pytest.mark.parametrize("name", ["nowhere.csv", "red\x1b[31m.csv"])
def test_a_file_that_is_not_there_is_named(read: Callable[[Path], Any], name: str, tmp_path: Path) -> None:
    with pytest.raises((OSError, ValueError)) as caught:
        read(tmp_path / name)
    said = str(caught.value)
    assert is_short(said)
    assert name.replace("\x1b", r"\x1b") in said
