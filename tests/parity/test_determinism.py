"""Two runs with one seed are equal bit for bit: in two processes, with any fixed number of BLAS threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import train
from nn import SGD, Linear, PrintEpochs, ProgressBar, ReLU, Sequential, Softmax, Trainer, load_data

ROOT = Path(train.__file__).parent
DATA = load_data("digits", limit=500)


def weights(folder: Path, threads: str | None) -> bytes:
    """The file of weights that a run of the script writes, in a process of its own, without the id of the run."""
    variables = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")  # one thread in this suite
    environment = {name: value for name, value in os.environ.items() if name not in variables}
    if threads is not None:
        environment |= dict.fromkeys(variables, threads)
    flags = ["--hidden", "300", "100", "--batch-size", "200", "--epochs", "2", "--dropout", "0.1", "--device", "cpu"]
    command = [sys.executable, "train.py", *flags, "--quiet", "--output", str(folder)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    run = json.loads((folder / "run.json").read_text())["run"].encode()
    written = (folder / "weights.safetensors").read_bytes()
    assert written.count(run) == 1
    return written.replace(run, b"")


@pytest.mark.parametrize("threads", [None, *(pytest.param(number, marks=pytest.mark.slow) for number in ("1", "2"))])
def test_two_processes_write_the_same_bytes(tmp_path: Path, threads: str | None) -> None:
    """With the same number of threads: more of them may add up a sum in another order."""
    assert weights(tmp_path / "a", threads) == weights(tmp_path / "b", threads)


def trained(**fit: object) -> dict[str, np.ndarray]:
    model = Sequential(Linear(64, 30), ReLU(), Linear(30, 10), Softmax(), backend="cpu", seed=3)
    Trainer(model, optimizer=SGD(0.3, momentum=0.9, dampening=0.9)).fit(DATA.train, 3, 32, **fit)
    return model.state_dict()


@pytest.mark.parametrize(
    "fit",
    [
        {"callbacks": [ProgressBar(disable=False)]},
        {"callbacks": [PrintEpochs()]},
        {"validation": DATA.test},
        {"validation": DATA.test, "validation_every": 2},
        {"validation": (DATA.test.x[::-1], DATA.test.y[::-1]) if DATA.test is not None else None},
    ],
    ids=["bar", "lines", "validation", "every second", "another order"],
)
def test_what_is_shown_or_evaluated_changes_nothing(fit: dict[str, object]) -> None:
    plain, watched = trained(), trained(**fit)
    for name, values in plain.items():
        np.testing.assert_array_equal(watched[name], values)
