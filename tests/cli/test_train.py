"""The train script as a user meets it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import train
from nn import (
    SGD,
    Adam,
    Callback,
    Data,
    History,
    LearningRateSchedule,
    Linear,
    PrintEpochs,
    ReLU,
    Sequential,
    Softmax,
    Trainer,
    load_data,
    load_model,
)
from nn.cli import Settings, build_callbacks
from nn.history import Record
from tests.helpers.script import run

ROOT = Path(train.__file__).parent
FAST = ["--epochs", "2", "--limit", "200", "--device", "cpu"]


def accuracy(out: str) -> float:
    found = re.search(r"test accuracy ([\d.]+)%", out)
    assert found is not None
    return float(found[1])


def losses(out: str) -> list[float]:
    epochs, _, _ = out.partition("test accuracy")
    return [float(line.split()[1]) for line in epochs.splitlines() if re.match(r" +\d+ +\d\.", line)]


def unwrapped(out: str) -> str:
    """The output as one line, as if the header were of any width."""
    return " ".join(out.split())


def test_without_flags_it_learns_the_digits(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys)
    assert (code, err) == (0, "")
    assert accuracy(out) >= 96.0
    for words in (
        "device    ", "float32", "GPU", "digits: 1,437 training rows, 360 test rows", "10 classes",
        "64-64-10, relu, softmax_cross_entropy: 4,810 parameters",
        "sgd: learning_rate 0.1, momentum 0.9,", "rows/s", "precision", "f1-score",
        "confusion matrix",
    ):  # fmt: skip
        assert words in out
    assert re.search(r"device    (cpu: numpy|numba: numba|cuda:0: cupy) \d", out)
    matrix = [[int(cell) for cell in line.split()[1:]] for line in out.strip().splitlines()[-10:]]
    correct = sum(matrix[i][i] for i in range(10))
    assert sum(map(sum, matrix)) == 360
    assert f"({correct} of 360)" in out
    assert len(losses(out)) == 30


def test_mnist_as_in_the_tutorial(capsys: pytest.CaptureFixture[str], mnist_dir: Path) -> None:
    code, out, _ = run(
        capsys, "--data", "mnist", "--data-dir", str(mnist_dir), "--hidden", "64", "--activation", "sigmoid",
        "--lr", "0.4", "--momentum", "0.9", "--batch-size", "128", "--epochs", "9", "--device", "cpu",
    )  # fmt: skip
    assert code == 0
    assert accuracy(out) >= 97.0
    assert "of 10,000" in out


@pytest.mark.parametrize("device", ["array_api_strict", "array_api_strict:device1", "torch"])
def test_other_devices_give_the_same_losses(capsys: pytest.CaptureFixture[str], device: str) -> None:
    if device == "torch":
        pytest.importorskip("torch", reason="PyTorch is not installed")
    flags = ["--limit", "300", "--epochs", "3", "--hidden", "20", "10", "--dropout", "0.1", "--validation", "0.2"]
    _, cpu, _ = run(capsys, *flags, "--device", "cpu")
    code, other, _ = run(capsys, *flags, "--device", device)
    assert code == 0
    np.testing.assert_allclose(losses(other), losses(cpu), atol=2e-5)
    assert len(losses(cpu)) == 3


def test_the_tutorials_spellings(capsys: pytest.CaptureFixture[str]) -> None:
    _, ours, _ = run(
        capsys, *FAST, "--hidden", "16", "--momentum", "0.8", "--batch-size", "16", "--learning-rate", "0.2"
    )
    _, theirs, _ = run(capsys, *FAST, "--n_h", "16", "--beta", "0.8", "--batch_size", "16", "--lr", "0.2")
    assert losses(ours) == losses(theirs)


def test_the_reference_operations_give_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    _, fused, _ = run(capsys, *FAST)
    _, reference, _ = run(capsys, *FAST, "--reference")
    assert "reference operations" in reference
    np.testing.assert_allclose(losses(reference), losses(fused), atol=2e-5)


def test_momentum_on_the_command_line_is_that_of_sgd_in_python(capsys: pytest.CaptureFixture[str]) -> None:
    """Not dampened, as in PyTorch."""
    _, out, _ = run(capsys, *FAST, "--momentum", "0.8", "--lr", "0.1")
    data = load_data("digits", limit=200)
    layers = Linear(64, 64), ReLU(), Linear(64, 10), Softmax()
    trainer = Trainer(Sequential(*layers, backend="cpu"), optimizer=SGD(0.1, momentum=0.8))
    np.testing.assert_allclose(losses(out), trainer.fit(data.train, 2, 32)["loss"], atol=1e-5)
    # The dampened form makes the same steps with a learning rate 1 / (1 - 0.8) times as large.
    _, dampened, _ = run(capsys, *FAST, "--momentum", "0.8", "--dampening", "0.8", "--lr", "0.5")
    assert "learning_rate 0.5, momentum 0.8, dampening 0.8," in unwrapped(dampened)
    np.testing.assert_allclose(losses(dampened), losses(out), rtol=1e-3)


def test_the_defaults_are_those_of_the_optimizers(capsys: pytest.CaptureFixture[str]) -> None:
    for flags, rate in ([], SGD().learning_rate), (["--optimizer", "adam"], Adam().learning_rate):
        assert f"learning_rate {rate:g}," in run(capsys, *FAST, *flags)[1]


@pytest.mark.parametrize(
    "flags",
    [
        ["--hidden"],
        ["--hidden", "32", "16", "8", "--activation", "tanh", "--init", "he_normal"],
        ["--batch-size", "full", "--no-shuffle", "--momentum", "0"],
        ["--batch-size", "1", "--lr", "0.05"],
        ["--nesterov", "--weight-decay", "0.001", "--dtype", "float64", "--seed", "3"],
        ["--loss", "mse", "--activation", "sigmoid"],
        ["--activation", "identity", "--dropout", "0.1"],
        ["--epochs", "0"],
    ],
)
def test_flags_that_work(capsys: pytest.CaptureFixture[str], flags: list[str]) -> None:
    code, out, err = run(capsys, *FAST, *flags)
    assert (code, err) == (0, "")
    assert "test accuracy" in out


def test_output_holds_the_model_the_history_and_the_settings(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / "one"
    _, out, _ = run(capsys, *FAST, "--output", str(folder))
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoints", "history.jsonl", "run.json", "settings.json", "weights.safetensors",
    ]  # fmt: skip
    history = History.load(folder / "history.jsonl")
    np.testing.assert_allclose(history["loss"], losses(out), atol=1e-5)
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["settings"]["epochs"] == 2
    assert settings["optimizer"] == {
        "learning_rate": 0.1, "momentum": 0.9, "dampening": 0.0, "nesterov": False, "weight_decay": 0.0,
        "decoupled": True, "l1": 0.0
    }  # fmt: skip
    model, test = load_model(folder / "weights.safetensors", "cpu"), load_data("digits", limit=200).test
    assert test is not None
    assert (model.predict(test) == test.y).mean() == pytest.approx(settings["test"]["accuracy"])


def test_quiet_prints_the_result_only(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = run(capsys, *FAST, "--quiet", "--output", str(tmp_path))
    assert (code, err) == (0, "")
    assert re.fullmatch(r"test accuracy [\d.]+% \(\d+ of 200\), loss [\d.]+\n", out)
    assert run(capsys, *FAST, "--quiet", "--test-fraction", "0")[1] == "there are no test rows\n"
    assert run(capsys, "--recipe", "neuron", "--quiet")[1] == "outputs: [[0.9990889488055994]]\n"


def test_two_classes_from_a_csv(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    lines = ["a,b,c,label"] + [f"{r[0]},{r[1]},{r[2]},{int(r[0] > 0)}" for r in x]
    (tmp_path / "two.csv").write_text("\n".join(lines))
    code, out, _ = run(capsys, "--data", str(tmp_path / "two.csv"), "--loss", "bce", "--hidden", "8", "--device", "cpu")
    assert code == 0
    assert accuracy(out) > 90


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--device", "cuda:99"], "cuda:99: "),
        (["--device", "nonsense"], "unknown device 'nonsense'; known are auto, cpu, "),
        (["--device", "gpu"], "unknown device 'gpu' (did you mean cuda?)"),
        (["--device", "cpu", "--precision", "tf32"], "cpu has no tf32 products"),
        (["--precision", "fp8"], "--precision must be float32, tf32 or bf16, not 'fp8'"),
        (["--threads", "0"], "--threads must be at least 1, not 0"),
        (["--data", "mnist", "--data-dir", "/nonexistent"], "/nonexistent"),
        (["--data", "nonsense.csv"], "nonsense.csv"),
        (["--epochs", "-1"], "--epochs must be at least 0, not -1"),
        (["--epochs", "two"], "--epochs must be a whole number, not 'two'"),
        (["--batch-size", "0"], "--batch-size must be at least 1, not 0"),
        (["--batch-size", "half"], "--batch-size must be a whole number or full, not 'half'"),
        (["--hidden", "64", "0"], "--hidden must be at least 1, not 0"),
        (["--limit", "0"], "--limit must be at least 1, not 0"),
        (["--lr", "0"], "--lr must be above 0, not 0"),
        (["--momentum", "1"], "--momentum must be at least 0 and below 1, not 1"),
        (["--weight-decay", "-0.5"], "--weight-decay must be at least 0, not -0.5"),
        (["--dropout", "1"], "--dropout must be at least 0 and below 1, not 1"),
        (["--test-fraction", "1"], "--test-fraction must be at least 0 and below 1, not 1"),
        (["--lr", "nan"], "--lr must be finite, not nan"),
        (["--bias-init", "1e400"], "--bias-init must be finite, not inf"),
        (["--init", "normal:x"], "--init: initial values 'normal:x': 'x' must be numbers with commas between them"),
        *(([flag, ""], f"{flag} needs a value") for flag in ("--report", "--output", "--data", "--device", "--recipe")),
        (["--"], "unknown flag --; --help lists all"),
        (["--rows", "3"], "unknown flag --rows; rows is a key of [data] in recipes, and no flag"),
        (["--output-activation", "relu"], "output_activation is a key of [network] in recipes, and no flag"),
        (["--recipe", "people", "--only", "0"], "classes cannot be chosen: the targets are values, not classes"),
        (["--init", "xavier"], "--init: unknown "),
        (["--bias-init", "normal:0.1,0.2,0.3"], "--bias-init: "),
        (
            ["--norm", "batch", "--limit", "97"],
            "layer 1, BatchNorm(64): a training batch needs at least 2 rows, but 97 rows in batches of 32 leave 1 for",
        ),
        (["--activation", "swiss"], "--activation must be identity, sigmoid, "),
        (["--loss", "mse", "--delta", "1"], "--delta would do nothing here, as mse has no delta"),
        *((["--validation", value], f"or test, not {value}") for value in ("0", "-0.5")),
        (["--validation", "0.0"], "or test, not 0"),
        (["--validation", "1.5"], "must be a fraction between 0 and 1, a number of rows or test, not 1.5"),
        (["--hiden", "30"], "unknown flag --hiden; did you mean --hidden? (--help lists all)"),
        (["--hiden=30"], "unknown flag --hiden; did you mean --hidden? (--help lists all)"),
        (["--optimiser", "sgd"], "unknown flag --optimiser; did you mean --optimizer?"),
        (["--ep", "3"], "unknown flag --ep; did you mean --eps?"),
        (["-lr", "3"], "unknown flag -lr; did you mean --lr?"),
        (["--xyzzy"], "unknown flag --xyzzy; --help lists all"),
        (["mnist"], "unexpected 'mnist': settings are flags, as in --data mnist"),
        (["--epochs"], "--epochs needs a value"),
        (["--only"], "--only needs a value"),
        (["--learning-rate", "--quiet"], "--lr needs a value"),
        (["--quiet=yes"], "--quiet takes no value"),
        (
            ["--optimizer", "adm"],
            "--optimizer must be adagrad, adam, adamw, rmsprop or sgd, not 'adm'; did you mean adam?",
        ),
        (["--loss", "mes"], "not 'mes'; did you mean mse?"),
        (["--recipe", "momentm"], "no recipe 'momentm'; did you mean momentum?"),
        (["--output", "/dev/null/x"], "--output /dev/null/x: this folder cannot be made: Not a directory; name"),
        (
            ["--recipe", "feedforward", "--report", "r.html"],
            "--report tells of one run, but the recipe feedforward has",
        ),
        (["--report", "."], "--report .: this is a folder; name a file in it"),
        (["--report", "mine.csv"], "--report mine.csv: a report is a page; name a file that ends in .html"),
        (["--report", "/nowhere/r.html"], "--report /nowhere/r.html: there is no folder /nowhere; make it first"),
        (["--output", __file__], f"--output {__file__}: this folder cannot be made: it is a file; name another"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    code, out, err = run(capsys, *flags)
    assert code == 2
    assert out == ""
    (sentence,) = err.splitlines()
    assert sentence.startswith("train.py: error: ")
    assert message in sentence


def test_divergence_is_one_sentence_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, *FAST, "--lr", "1e30")
    assert code == 1
    (sentence,) = err.splitlines()  # without NumPy's warnings
    assert re.search(
        r"error: training diverged in step 2 \(epoch 1\): the output of layer \d \(Linear\(\d+, \d+\)\) became \w+; "
        r"the learning rate was 1e\+30: use a smaller one",
        sentence,
    )


def test_the_last_good_weights_of_a_run_that_diverges_are_saved(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Weights, history and settings are those of a run that ended with the epoch before."""
    good, bad = tmp_path / "good", tmp_path / "bad"
    assert run(capsys, *FAST, "--epochs", "2", "--output", str(good))[0] == 0

    def with_a_rate_of_1e30_in_epoch_3(settings: Settings) -> list[Callback]:
        return [*build_callbacks(settings), LearningRateSchedule(lambda epoch: 1e30 if epoch == 3 else 0.1)]

    monkeypatch.setattr(train, "build_callbacks", with_a_rate_of_1e30_in_epoch_3)
    code, out, err = run(capsys, *FAST, "--epochs", "9", "--output", str(bad))
    assert code == 1
    (sentence,) = err.splitlines()
    assert re.search(r"diverged in step \d+ \(epoch 3\): ", sentence)
    assert sentence.endswith(f"; the model has the weights of epoch 2 again, saved in {bad}")
    assert f"wrote weights.safetensors, history.jsonl, settings.json to {bad}" in out
    assert "test accuracy" not in out
    for name, values in load_model(good / "weights.safetensors", "cpu").state_dict().items():
        np.testing.assert_array_equal(load_model(bad / "weights.safetensors", "cpu").state_dict()[name], values)
    records = [json.loads(line) for line in (bad / "history.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2]
    assert json.loads((bad / "settings.json").read_text())["stopped"] == "divergence in epoch 3"


def test_nothing_is_saved_where_no_epoch_went_well(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, *FAST, "--lr", "1e30", "--output", str(tmp_path / "out"))
    assert (code, list((tmp_path / "out").iterdir())) == (1, [tmp_path / "out" / "run.json"])
    assert "wrote" not in out


def test_a_regression_ends_with_its_figures(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 3))
    y = x @ [1.0, -2.0, 0.5] + rng.normal(size=100)
    path = tmp_path / "values.csv"
    rows = "".join(",".join(map(str, row)) + "\n" for row in np.column_stack([x, y]).tolist())
    path.write_text(f"a,b,c,target\n{rows}", encoding="utf-8")
    code, out, _ = run(
        capsys, "--data", str(path), "--loss", "mse", "--hidden", "--device", "cpu", "--lr", "0.01", "--epochs", "9",
        "--validation", "0.2", "--metrics", "r2", "--output", str(tmp_path),
    )  # fmt: skip
    assert code == 0
    test = load_data(path, task="values").test
    assert test is not None
    guess = load_model(tmp_path / "weights.safetensors", "cpu").predict(test)
    assert guess.shape == test.y.shape == (20,)
    expected = (f"{metric(test.y, guess):.5g}" for metric in (mean_absolute_error, root_mean_squared_error, r2_score))
    figures = ", ".join(f"{name} {value}" for name, value in zip(("mae", "rmse", "r2"), expected, strict=True))
    assert re.search(rf"^test loss [\d.]+, {figures}$", out, flags=re.MULTILINE)
    head = next(line for line in out.splitlines() if line.startswith("epoch"))
    assert head.split() == ["epoch", "loss", "val", "loss", "val", "r2", "rows/s", "seconds"]


def test_the_script_calls_itself_as_it_was_called(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for started, name in (
        ("train.py", "train.py"),
        ("/somewhere/bin/xpnet-train", "xpnet-train"),
        ("xpnet-train.exe", "xpnet-train"),
        ("/somewhere/bin/xpnet", "xpnet train"),
        ("/somewhere/bin/pytest", "train.py"),
    ):
        monkeypatch.setattr(sys, "argv", [started])
        assert run(capsys, "--epochs", "-1")[2] == f"{name}: error: --epochs must be at least 0, not -1\n"
        assert run(capsys, "--help")[1].startswith(f"usage: {name} [FLAG ...]\n")


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is sent to other processes in another way on Windows")
def test_ctrl_c_ends_cleanly_with_what_was_learned(tmp_path: Path, digits_file: str) -> None:
    command = [sys.executable, "train.py", "--data", digits_file, "--device", "cpu", "--epochs", "1000000"]
    command += ["--output", str(tmp_path)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    pipe = subprocess.PIPE

    def inherited() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # what is started in the background ignores it

    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=pipe, stderr=pipe, preexec_fn=inherited
    ) as script:
        assert script.stdout is not None
        assert script.stderr is not None
        seen = ""
        while "rows/s" not in seen:
            line = script.stdout.readline()
            assert line
            seen += line
        time.sleep(0.2)
        script.send_signal(signal.SIGINT)
        rest, errors = script.communicate(timeout=60)
    assert script.returncode == 130
    assert re.fullmatch(
        rf"train.py: stopped by Ctrl-C in epoch \d+; go on with: python train.py --resume {tmp_path}\n", errors
    )
    assert re.search(r"stopped by Ctrl-C in epoch \d+", rest)
    assert accuracy(rest) > 50
    assert len(History.load(tmp_path / "history.jsonl")) >= 1
    assert load_model(tmp_path / "weights.safetensors", "cpu").parameter_count == 4810
    assert "Ctrl-C" in json.loads((tmp_path / "settings.json").read_text())["stopped"]


def test_rows_are_loaded_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    loads = list[str]()

    def counted(source: str, *others: Any, **named: Any) -> Data:
        loads.append(source)
        return load_data(source, *others, **named)

    monkeypatch.setattr("nn.cli.rows.load_data", counted)
    assert run(capsys, *FAST, "--test-fraction", "0.3")[0] == 0
    assert loads == ["digits"]


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGPIPE on Windows")
def test_a_reader_that_leaves_is_no_traceback(digits_file: str) -> None:
    command = [sys.executable, "train.py", "--data", digits_file, "--device", "cpu", "--epochs", "1000000"]
    with subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as script:
        assert script.stdout is not None
        assert script.stderr is not None
        assert script.stdout.readline().startswith("xpnet")
        script.stdout.close()
        assert script.stderr.read() == ""
        assert script.wait(timeout=60) == 141


def test_the_installed_command_is_the_script(tmp_path: Path, digits_file: str) -> None:
    """From another folder, as an installed package: `backends`, `nn` and `train` are importable by these names."""
    command = Path(sys.executable).with_name("xpnet-train")
    if not command.exists():
        pytest.skip("xpnet is not installed in this environment (pip install -e .)")
    flags = [*FAST, "--data", digits_file, "--quiet"]
    done = subprocess.run([command, *flags], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "test accuracy" in done.stdout
    done = subprocess.run([command, "--hiden", "3"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr.startswith("xpnet-train: error: unknown flag --hiden")


@pytest.mark.parametrize("program", ["train.py", "xpnet-train", "xpnet", "a notebook"])
def test_ctrl_c_while_libraries_are_loaded(program: str, tmp_path: Path) -> None:
    """Of a command it is exit code 130 and silence; whoever imports the module gets the exception."""
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").write_text("raise KeyboardInterrupt")
    script = ROOT / "train.py"
    if program != "train.py":
        script = tmp_path / program.replace(" ", "_")
        module = "xpnet" if program == "xpnet" else "train"
        caught = "try:\n    import train\nexcept KeyboardInterrupt:\n    print('caught')"
        script.write_text(
            caught if program == "a notebook" else f"import sys\nfrom {module} import main\nsys.exit(main())"
        )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    expected = (0, "caught\n", "") if program == "a notebook" else (130, "", "")
    assert (done.returncode, done.stdout, done.stderr) == expected


def test_an_error_of_a_callback_is_no_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes through, with its traceback; rows that do not fit the loss are the user's to change."""

    class Faulty(PrintEpochs):
        def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
            raise ValueError("a mistake in this callback")

    monkeypatch.setattr("nn.cli.callbacks.PrintEpochs", Faulty)
    with pytest.raises(ValueError, match=r"^a mistake in this callback$"):
        train.main(FAST)


def test_a_run_that_is_stopped_before_its_first_epoch_ends_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a Ctrl-C while callbacks begin."""

    class Stops(Callback):
        def on_fit_begin(self, trainer: Trainer, rows: int, epochs: int) -> None:
            trainer.stop("Ctrl-C in epoch 0")

    monkeypatch.setattr(train, "build_callbacks", lambda settings: [Stops()])
    assert train.main(["--device", "cpu", "--limit", "100", "--epochs", "3"]) == 0
    assert "stopped by Ctrl-C in epoch 0" in capsys.readouterr().out
