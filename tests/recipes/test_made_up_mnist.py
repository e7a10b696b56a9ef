"""What the script and the recipes do with MNIST, without it: on made-up rows, in files of MNIST's form and names."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

import train
from nn.data import mnist
from tests.helpers import made_up
from tests.helpers.backends import make_backend
from tests.helpers.idx_files import idx_bytes
from tests.helpers.script import run

DATA = made_up.mnist(1200, 300)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the four files of MNIST's names, which pass for them; no other folder is known."""
    monkeypatch.delenv("XPNET_DATA", raising=False)
    hashes = {}
    for half, rows in (("train", DATA.train), ("t10k", DATA.test)):
        assert rows is not None
        for name, array in (("images-idx3", rows.x.reshape(-1, 28, 28)), ("labels-idx1", rows.y)):
            path = tmp_path / f"{half}-{name}-ubyte"
            path.write_bytes(idx_bytes(array.astype(np.uint8)))
            hashes[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(mnist, "MNIST_SHA256", hashes)
    return tmp_path


def test_files_and_where(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["--data", "mnist", "--hidden", "16", "--epochs", "4", "--device", "cpu"]
    code, by_flag, _ = run(capsys, *flags, "--data-dir", str(folder))
    assert code == 0
    assert "1,200 training rows, 300 test rows" in by_flag
    assert "784-16-10" in by_flag
    found = re.search(r"test accuracy ([\d.]+)% \(\d+ of 300\)", by_flag)
    assert found is not None
    assert float(found[1]) > 90
    monkeypatch.setenv("XPNET_DATA", str(folder))
    code, by_variable, _ = run(capsys, *flags)
    assert code == 0
    assert found[0] in by_variable


def test_a_recipe_tells_which_figures_are_reproduced(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After nine epochs the made-up rows, far easier than MNIST, are told apart; the cost is below the author's."""
    _, trained, _ = run(capsys, "--recipe", "momentum", "--device", "cpu", "--data-dir", str(folder))
    assert re.search(r"^test_accuracy .*yes$", trained, re.MULTILINE)
    assert re.search(r"^loss .*no$", trained, re.MULTILINE)
    assert "the first 10 test rows" in trained
    _, untrained, _ = run(
        capsys, "--recipe", "momentum", "--device", "cpu", "--data-dir", str(folder), "--epochs", "1", "--lr", "1e-6"
    )
    assert not re.search(r"(yes|no)$", untrained, re.MULTILINE)
    assert "nothing is reproduced: --epochs, --lr made this another run than the author's\n" in untrained


def test_every_backend_ends_a_recipe_with_the_same_accuracy(folder: Path, which_backend: tuple[str, bool]) -> None:
    make_backend(which_backend)
    device, fused = which_backend
    flags = ["--recipe", "momentum", "--quiet", "--epochs", "3", "--data-dir", str(folder), "--device"]
    accuracies = []
    for which in (["cpu"], [device, *([] if fused else ["--reference"])]):
        prepared = train.prepare(train.parse([*flags, *which])[0])
        train.train(prepared)
        assert prepared.test is not None
        accuracies.append(prepared.trainer.evaluate(prepared.test)["accuracy"])
    assert accuracies[1] == pytest.approx(accuracies[0], abs=0.004)
    assert accuracies[0] > 0.9


def test_one_vs_two_has_the_rows_of_these_two_digits(folder: Path) -> None:
    prepared = train.prepare(train.parse(["--recipe", "one-vs-two", "--data-dir", str(folder), "--quiet"])[0])
    assert prepared.training.class_names == ("1", "2")
    for rows, source in ((prepared.training, DATA.train), (prepared.test, DATA.test)):
        assert rows is not None
        assert source is not None
        chosen = np.isin(source.y, (1, 2))
        np.testing.assert_array_equal(np.asarray(rows.y).ravel(), source.y[chosen] - 1)
        np.testing.assert_array_equal(rows.x.reshape(len(rows), -1), source.x[chosen])
