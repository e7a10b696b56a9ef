"""The page of wishes: every line of its table runs and grants what was wished for."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import neural_network

from backends import Backend, get_backend
from backends.cuda.cupy_backend import CupyBackend
from nn import Callback, Checkpoint, Trainer, save_model
from tests.helpers.emulated_cuda import HAS_COMPILER, EmulatedCudaDevice, needs_compiler

PAGE = Path(__file__).parent.parent / "docs" / "wishes.md"
TEXT = PAGE.read_text(encoding="utf-8")
ROW = re.compile(r"^\| .* \| (?P<asked>[^|]+) \| [^|]+ \| `(?P<line>[^|]+)` \| `(?P<test>test_\w+)` \|$", re.MULTILINE)
ROWS = {row["test"]: row["line"] for row in ROW.finditer(TEXT)}
(SETUP,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def devices() -> list[Backend]:
    """What stands for CPU and GPU here."""
    emulated = [CupyBackend(EmulatedCudaDevice(), "float32")] if HAS_COMPILER else []
    return [get_backend("cpu"), get_backend("cpu", fused=False), *emulated]


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the lines use."""
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {"__name__": "wishes"}
    exec(compile(SETUP, str(PAGE), "exec", dont_inherit=True), found)
    return found


def grant(names: dict[str, Any], test: str) -> Any:
    return eval(compile(ROWS[test], str(PAGE), "eval", dont_inherit=True), names)


def test_class_weights(names: dict[str, Any]) -> None:
    """Rows of the rare class get a higher probability of being so."""
    weighted = grant(names, "test_class_weights")
    plain = names["MLPClassifier"](random_state=0).fit(names["x"], names["rare"])
    truth = names["y_new"] == 8
    found = [model.predict_proba(names["x_new"])[truth, 1].mean() for model in (weighted, plain)]
    assert found[0] > found[1]


def test_own_validation_rows(names: dict[str, Any]) -> None:
    model = grant(names, "test_own_validation_rows")
    assert model.best_validation_score_ == pytest.approx(model.score(names["x_new"], names["y_new"]))


def test_validation_loss_curve(names: dict[str, Any]) -> None:
    curve = grant(names, "test_validation_loss_curve")
    assert len(curve) > 5
    assert min(curve) < 0.5 * curve[0]


def test_leaky_relu(names: dict[str, Any]) -> None:
    model = grant(names, "test_leaky_relu")
    z = names["x_new"] @ model.coefs_[0] + model.intercepts_[0]
    logits = np.where(z > 0, z, 0.01 * z) @ model.coefs_[1] + model.intercepts_[1]
    assert np.array_equal(logits.argmax(1), model.predict(names["x_new"]))
    assert model.score(names["x"], names["y"]) > 0.95


def test_dropout(names: dict[str, Any]) -> None:
    """The loss of training is higher, and no unit is left out of predictions."""
    model = grant(names, "test_dropout")
    plain = names["MLPClassifier"](random_state=0).fit(names["x"], names["y"])
    assert model.loss_curve_[20] > 1.1 * plain.loss_curve_[20]
    z = np.maximum(names["x_new"] @ model.coefs_[0] + model.intercepts_[0], 0)
    assert np.array_equal((z @ model.coefs_[1] + model.intercepts_[1]).argmax(1), model.predict(names["x_new"]))


def test_mean_absolute_error(names: dict[str, Any]) -> None:
    """Of rows without information the answer is the median, however wild a few values are."""
    model = grant(names, "test_mean_absolute_error")
    values = names["values"]
    assert model.predict(names["x"][:1])[0] == pytest.approx(np.median(values), abs=1)
    assert values.mean() > 500


def test_bounded_memory(names: dict[str, Any]) -> None:
    """Much less than scikit-learn's, which has all rows of the hidden layer at once."""
    x, y = names["x"], names["y"]
    peaks = []
    theirs = neural_network.MLPClassifier((400,), max_iter=1).fit(x, y)
    grant(names, "test_bounded_memory")  # what is made once
    asks: list[Callable[[], Any]] = [
        lambda: grant(names, "test_bounded_memory"),
        lambda: theirs.predict_proba(np.tile(x, (50, 1))),
    ]
    for ask in asks:
        tracemalloc.start()
        found = ask()
        peaks.append(tracemalloc.get_traced_memory()[1] - 50 * x.nbytes - found.nbytes)
        tracemalloc.stop()
    assert found.shape == (50 * len(x), 10)
    assert peaks[0] < 0.5 * peaks[1]


def test_partial_fit_of_several_labels(names: dict[str, Any]) -> None:
    """It learns as `fit` does: by calls for parts of the rows."""
    model = grant(names, "test_partial_fit_of_several_labels")
    x, labels = names["x"], names["labels"]
    assert model.predict(x).shape == labels.shape
    for _ in range(60):
        model.partial_fit(x[:200], labels[:200]).partial_fit(x[200:], labels[200:])
    assert (model.predict(x) == labels).mean() > 0.93


def test_progress_bar(names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    names["ProgressBar"] = lambda bar=names["ProgressBar"]: bar(disable=False)  # also where nobody looks
    grant(names, "test_progress_bar")
    assert "/800 [" in capsys.readouterr().err  # rows of two epochs


def test_device(names: dict[str, Any]) -> None:
    model = grant(names, "test_device")
    assert model.model_.backend.device.spec == get_backend("auto").device.spec
    assert model.score(names["x_new"], names["y_new"]) > 0.8


@needs_compiler
def test_numpy_and_cupy(names: dict[str, Any]) -> None:
    names["devices"] = devices()
    losses = [history[-1]["loss"] for history in grant(names, "test_numpy_and_cupy")]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


@needs_compiler
def test_the_same_run_on_every_device(names: dict[str, Any]) -> None:
    names["devices"] = devices()
    assert grant(names, "test_the_same_run_on_every_device").agrees
    first, *others = [names["make"](device).model.state_dict() for device in devices()]
    assert all(np.array_equal(first[key], other[key]) for other in others for key in first)


class Killed(BaseException):
    """What ends a process."""


class KillIt(Callback):
    """In the second epoch's third batch."""

    comes_last = True
    reads_gradients = False

    def on_batch_end(self, trainer: Trainer, rows: int) -> None:
        if trainer.model.step == 16:
            raise Killed


def test_resume_in_the_middle_of_an_epoch(names: dict[str, Any]) -> None:
    x, y, make = names["x"], names["y"], names["make"]
    whole = make("cpu")
    whole.fit(x, y, epochs=3)
    with pytest.raises(Killed):
        make("cpu").fit(x, y, epochs=3, callbacks=[Checkpoint("checkpoints", steps=1), KillIt()])
    names["trainer"] = trainer = make("cpu")
    assert grant(names, "test_resume_in_the_middle_of_an_epoch")
    assert 0 < trainer.seen < len(x)
    trainer.fit(x, y, epochs=3)
    assert np.array_equal(trainer.model(x), whole.model(x))


@needs_compiler
def test_from_a_gpu(names: dict[str, Any]) -> None:
    trainer = names["make"](CupyBackend(EmulatedCudaDevice(), "float32"))
    trainer.fit(names["x"], names["y"], epochs=1)
    save_model(trainer.model, "from-a-gpu.safetensors")
    model = grant(names, "test_from_a_gpu")
    assert model.backend.device.spec == "cpu"
    expected = trainer.model.state_dict()
    assert all(np.array_equal(value, expected[key]) for key, value in model.state_dict().items())


def test_weights_of_one(names: dict[str, Any]) -> None:
    weighted = grant(names, "test_weights_of_one")
    plain = names["make"]("cpu").fit(names["x"], names["y"], epochs=3)
    assert weighted["loss"] == plain["loss"]


def test_every_row_has_its_test_and_its_issue() -> None:
    tests = {name for name in globals() if name.startswith("test_")} - {"test_every_row_has_its_test_and_its_issue"}
    assert set(ROWS) == tests
    assert len(ROWS) >= 12
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and "`test_" in line]
    assert len(rows) == len(ROWS)
    for row in rows:
        assert re.search(r"\[#(\d+)\]\(https://github\.com/[\w-]+/[\w-]+/(?:issues|pull)/\1\) \"", row), row
