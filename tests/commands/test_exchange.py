"""``python -m nn export`` and ``import`` as a user meets them."""

from __future__ import annotations

import json
import os
import pickle
import sys
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nn import BatchNorm, Linear, ReLU, Sequential, Softmax, Tanh, Trainer, load_data, load_model, save_model, to_torch
from tests.helpers.command import run

DIGITS: Any = load_data("digits", limit=300)
ROWS = DIGITS.test.x[:20]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of digits, whose rows are scaled."""
    model = Sequential(Linear(64, 12), Tanh(), Linear(12, 10), Softmax(), backend="cpu")
    Trainer(model).fit(DIGITS.train, 3)
    path = tmp_path_factory.mktemp("trained") / "weights.safetensors"
    save_model(model, path)
    return path


@pytest.fixture
def keras(tmp_path: Path) -> Any:
    os.environ.setdefault("KERAS_HOME", str(tmp_path))
    os.environ.setdefault("KERAS_BACKEND", "numpy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("keras", reason="Keras is not installed")


def outputs(path: Path) -> Any:
    return load_model(path, "cpu")(ROWS)


def done(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    code, out, err = run(capsys, *words)
    assert (code, err) == (0, "")
    return out


def test_onnx(trained: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    out = done(capsys, "export", trained.parent, tmp_path / "a.onnx")
    assert out.startswith(f"wrote {tmp_path / 'a.onnx'}, ")
    (found,) = runtime.InferenceSession(tmp_path / "a.onnx").run(None, {"input": ROWS.astype(np.float32)})
    assert np.allclose(found, outputs(trained), atol=1e-5)
    done(capsys, "export", trained, tmp_path / "b.onnx", "--no-preprocessing")
    (found,) = runtime.InferenceSession(tmp_path / "b.onnx").run(None, {"input": (ROWS / 16).astype(np.float32)})
    assert np.allclose(found, outputs(trained), atol=1e-5)


def test_what_the_system_refuses_is_said_without_its_number(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "a.npz"

    def full(*given: Any, **named: Any) -> None:
        raise OSError(28, "No space left on device", str(out))

    monkeypatch.setattr(np, "savez", full)
    monkeypatch.setattr(np, "savez_compressed", full)
    code, _, err = run(capsys, "export", trained, out)
    assert (code, err) == (2, f"python -m nn: error: {out}: No space left on device\n")
    assert not list(tmp_path.glob("*.npz"))


def test_onnx_with_probabilities(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model = Sequential(Linear(64, 10), backend="cpu")
    Trainer(model).fit(DIGITS.train, 1)
    save_model(model, tmp_path / "m.safetensors")
    out = done(capsys, "export", tmp_path / "m.safetensors", tmp_path / "a.onnx", "--probabilities")
    assert "gives probabilities" in out
    (found,) = runtime.InferenceSession(tmp_path / "a.onnx").run(None, {"input": ROWS.astype(np.float32)})
    assert np.allclose(found, model.predict_proba(ROWS), atol=1e-5)


def test_pytorch_there_and_back(trained: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    out = done(capsys, "export", trained, tmp_path / "a.pt")
    assert "(1): Linear(in_features=64, out_features=12, bias=True)" in out
    module = to_torch(Sequential(Linear(64, 12), Tanh(), Linear(12, 10), Softmax(), backend="cpu"))
    state = torch.load(tmp_path / "a.pt", weights_only=True)
    # The module that is printed begins with the scale, which has no weights.
    module.load_state_dict({f"{int(name[0]) - 1}{name[1:]}": value for name, value in state.items()})
    found = module(torch.from_numpy(ROWS / 16).float()).detach().numpy()
    assert np.allclose(found, outputs(trained), atol=1e-5)
    # Only the weights come back; the layers are those of another model, or said.
    empty = Sequential(Linear(64, 12), Tanh(), Linear(12, 10), Softmax(), backend="cpu", seed=9)
    save_model(empty, tmp_path / "empty.safetensors")
    done(capsys, "import", tmp_path / "a.pt", tmp_path / "b.safetensors", "--like", tmp_path / "empty.safetensors")
    assert np.allclose(load_model(tmp_path / "b.safetensors", "cpu")(ROWS / 16), outputs(trained), atol=1e-5)


def test_a_state_dict_in_safetensors(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from safetensors.torch import save_file

    torch.manual_seed(0)
    widths = [64, *[5] * 11, 10]  # so many that the tenth comes before the second in the alphabet
    layers = [torch.nn.Linear(a, b, bias=a != 64) for a, b in pairwise(widths)]
    net = torch.nn.Sequential(*layers)
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    said = ["--activation", "identity", "--loss", "softmax_cross_entropy", "--classes", *"abcdefghij"]
    out = done(capsys, "import", tmp_path / "net.safetensors", tmp_path / "out.safetensors", *said)
    assert "gives     one class of 10: a, b, c, d, e, f, g, h, i, j" in out
    x = np.random.default_rng(0).normal(size=(9, 64)).astype(np.float32)
    model = load_model(tmp_path / "out.safetensors", "cpu")
    assert np.allclose(model(x), net(torch.from_numpy(x)).detach(), atol=1e-5)
    assert set(model.predict_names(x)) <= set("abcdefghij")
    assert model.loss_name == "softmax_cross_entropy"
    np.save(tmp_path / "x.npy", x)
    assert "x.npy[0]: " in done(capsys, "predict", tmp_path / "out.safetensors", tmp_path / "x.npy")


def test_norms_go_into_another_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from safetensors.torch import save_file

    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    net(torch.randn(50, 4))
    net.eval()
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    words = ["import", tmp_path / "net.safetensors", tmp_path / "o.safetensors"]
    code, _, err = run(capsys, *words, "--activation", "relu")
    assert code == 2
    assert "it has '1.num_batches_tracked', which is of no linear layer; say --like MODEL" in err
    like = Sequential(Linear(4, 3), BatchNorm(3), ReLU(), Linear(3, 2), backend="cpu")
    save_model(like, tmp_path / "like.safetensors")
    done(capsys, *words, "--like", tmp_path / "like.safetensors")
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    assert np.allclose(load_model(tmp_path / "o.safetensors", "cpu")(x), net(torch.from_numpy(x)).detach(), atol=1e-5)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_keras_there_and_back(
    keras: Any, trained: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, ending: str
) -> None:
    pytest.importorskip("h5py", reason="h5py is not installed")
    assert run(capsys, "export", trained, tmp_path / f"a.{ending}")[0] == 0
    words = ["import", tmp_path / f"a.{ending}", tmp_path / "b.safetensors", "--loss", "softmax_cross_entropy"]
    if ending == "h5":
        code, _, err = run(capsys, *words)
        assert code == 2
        assert "a whole model in .h5 can run any program when it is read; say --trust" in err
        words.append("--trust")
    done(capsys, *words)
    assert np.allclose(outputs(tmp_path / "b.safetensors"), outputs(trained), atol=1e-5)


def test_scikit_learn_there_and_back(trained: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    done(capsys, "export", trained, tmp_path / "a.joblib")
    words = ["import", tmp_path / "a.joblib", tmp_path / "b.safetensors"]
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "a pickle can run any program when it is read; say --trust if you know who made it" in err
    assert not (tmp_path / "b.safetensors").exists()
    done(capsys, *words, "--trust")
    again = load_model(tmp_path / "b.safetensors", "cpu")
    assert np.allclose(again.predict_proba(ROWS), outputs(trained), atol=1e-5)


def test_arrays_and_json(trained: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    done(capsys, "export", trained, tmp_path / "a.npz")
    other = Sequential(Linear(64, 12), Tanh(), Linear(12, 10), Softmax(), backend="cpu", seed=5)
    save_model(other, tmp_path / "other.safetensors")
    done(capsys, "import", tmp_path / "a.npz", tmp_path / "b.safetensors", "--like", tmp_path / "other.safetensors")
    state, again = (load_model(path, "cpu").state_dict() for path in (trained, tmp_path / "b.safetensors"))
    assert all(np.array_equal(state[name], again[name]) for name in state)
    done(capsys, "export", trained, tmp_path / "a.json")
    found = json.loads((tmp_path / "a.json").read_text())
    assert all(np.array_equal(np.float32(found["arrays"][name]), state[name]) for name in state)
    assert found["units"]["scale"] == 1 / 16


class Attack:
    """A pickle that writes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("ending", ["pt", "pth", "pkl", "joblib"])
def test_nothing_in_a_file_is_run_unless_it_is_trusted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, ending: str
) -> None:
    if ending.startswith("pt"):
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        torch.save({"0.weight": Attack(tmp_path / "run")}, tmp_path / f"a.{ending}")
    else:
        (tmp_path / f"a.{ending}").write_bytes(pickle.dumps(Attack(tmp_path / "run")))
    code, out, err = run(capsys, "import", tmp_path / f"a.{ending}", tmp_path / "o.safetensors", "--activation", "relu")
    assert (code, out) == (2, "")
    assert "can run any program when it is read; say --trust" in err
    assert not (tmp_path / "run").exists()


def test_an_old_library_is_not_trusted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.save({"0.weight": torch.zeros(2, 3)}, tmp_path / "a.pt")
    words = ["import", tmp_path / "a.pt", tmp_path / "o.safetensors", "--activation", "relu"]
    done(capsys, *words)
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "with torch before 2.6 such a file can run any program" in err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["export", "{model}", "a.tar"], "has an ending that says no format; known are .onnx, "),
        (["export", "{model}", "nowhere/a.npz"], "there is no folder nowhere"),
        (["export", "{model}", "a.npz", "--probabilities"], "--probabilities is for .onnx"),
        (["export", "nowhere", "a.npz"], "nowhere: there is no such file"),
        (["import", "missing.pt", "o.safetensors"], "missing.pt: there is no such file"),
        (["import", "a.txt", "o.safetensors"], "a.txt cannot be imported; known are .safetensors, "),
        (["import", "a.onnx", "o.safetensors"], "ONNX files are not read"),
        (["import", "a.npz", "o.txt"], "a model is a file .safetensors; name one"),
        (["import", "a.npz", "o.safetensors"], "arrays do not say which layers there are; say --like MODEL"),
        (["import", "a.npz", "o.safetensors", "--like", "{model}"], "the parameters do not fit"),
        (["import", "{model}", "o.safetensors"], "is a model of xpnet already"),
        (["import", "state.safetensors", "o.safetensors"], "say --like MODEL, or --activation NAME"),
        (["import", "state.safetensors", "o.safetensors", "--activation", "x"], "--activation must be one of identity"),
        (["import", "state.safetensors", "o.safetensors", "--activation", "relu", "--classes", "a", "b"],
         "--classes is for a network that tells classes apart"),
        (["import", "state.safetensors", "o.safetensors", "--activation", "relu", "--loss", "bce", "--classes", "a"],
         "--classes: the network tells 2 classes apart; name each once"),
        (["import", "broken.safetensors", "o.safetensors", "--activation", "relu"], "broken.safetensors"),
        (["import", "broken.pt", "o.safetensors", "--activation", "relu"], "no file that torch.save wrote"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_sentence_and_exit_code_2(
    trained: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    sentence: str,
) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from safetensors.numpy import save_file

    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "a.onnx", "broken.safetensors", "broken.pt"):
        (tmp_path / name).write_bytes(b"hello")
    np.savez("a.npz", x=np.ones(3))
    save_file({"0.weight": np.ones((1, 3), np.float32), "0.bias": np.ones(1, np.float32)}, "state.safetensors")
    code, out, err = run(capsys, *(word.format(model=trained) for word in words))
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("python -m nn: error: ")
    assert sentence in line
    assert not (tmp_path / "o.safetensors").exists()


@pytest.mark.parametrize(("name", "ending"), [("torch", "pt"), ("keras", "keras"), ("onnx", "onnx")])
def test_a_library_that_is_missing_is_named(
    trained: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    ending: str,
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    code, out, err = run(capsys, "export", trained, tmp_path / f"a.{ending}")
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert f"pip install {name}" in line
