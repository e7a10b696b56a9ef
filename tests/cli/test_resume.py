"""``train.py --resume``: a run that was killed is the run that was not, and another run is refused by name."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import train
from nn import load_model
from tests.helpers.process import SCRIPT
from tests.helpers.process import ended as ended_process
from tests.helpers.script import run

SMALL = ["--limit", "200", "--hidden", "8", "--device", "cpu", "--batch-size", "16", "--quiet"]
TIMES = {"seconds", "rows_per_second"}
#: Kills itself, as by SIGKILL, when it has made so many steps.
KILLED = """
import os, sys
import train
from nn import Callback
class Killed(Callback):
    reads_gradients = False
    def on_batch_end(self, trainer, rows):
        if trainer.model.step == last:
            os._exit(9)
last, build = int(sys.argv.pop(1)), train.build_callbacks
train.build_callbacks = lambda settings: [*build(settings), Killed()]
sys.exit(train.main())
"""


def killed(step: int, *flags: str) -> None:
    done = ended_process(KILLED, str(step), *flags)
    assert (done.returncode, done.stderr) == (9, "")


def twin(folder: Path) -> Path:
    """Another folder with the same run, which has not begun training."""
    other = folder.with_name(f"{folder.name}, never killed")
    other.mkdir()
    shutil.copy(folder / "run.json", other)
    return other


def history(folder: Path, leave_out: set[str] = TIMES) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [{name: value for name, value in record.items() if name not in leave_out} for record in records]


def assert_same(folder: Path, other: Path) -> None:
    """Two folders of the same run, bit for bit."""
    assert (folder / "weights.safetensors").read_bytes() == (other / "weights.safetensors").read_bytes()
    assert history(folder) == history(other)
    about, other_about = (json.loads((path / "settings.json").read_text()) for path in (folder, other))
    assert (about["test"], about["stopped"]) == (other_about["test"], other_about["stopped"])


@pytest.mark.parametrize(
    "flags",
    [
        ["--momentum", "0.9", "--dropout", "0.2"],
        ["--optimizer", "adam", "--schedule", "cosine", "--warmup", "1", "--average", "0.9", "--validation", "0.2"],
        ["--validation", "0.2", "--early-stopping", "1", "--lr", "1", "--accumulate", "3", "--clip-norm", "1"],
        ["--schedule", "plateau", "--plateau-patience", "0", "--norm", "batch", "--batch-size", "full"],
    ],
)
def test_a_run_that_is_killed_three_times_is_the_run_that_was_not(
    flags: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "a"
    steps = (2, 4, 6) if "full" in flags else (15, 31, 40)
    often = ["--checkpoint-every", "1 steps"]
    killed(steps[0], *SMALL, "--epochs", "8", *flags, "--output", str(folder), *often)
    for step in steps[1:]:
        killed(step, "--resume", str(folder), "--quiet")
    assert run(capsys, "--resume", str(folder), "--quiet")[0] == 0
    code, _, err = run(capsys, "--resume", str(twin(folder)), "--quiet")
    assert (code, err) == (0, "")
    assert_same(folder, tmp_path / "a, never killed")


def test_the_log_of_a_run_that_is_killed_is_that_of_the_run_that_was_not(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder, log = tmp_path / "a", tmp_path / "log.csv"
    flags = [*SMALL, "--epochs", "4", "--checkpoint-every", "1 steps", "--log", str(log)]
    killed(20, *flags, "--output", str(folder))  # of 13 a epoch
    assert len(log.read_text().splitlines()) == 2
    assert run(capsys, "--resume", str(folder), "--quiet")[0] == 0
    lines = [line.split(",") for line in log.read_text().splitlines()]
    assert lines[0] == [*history(folder, set())[0]]
    assert [line[:4] for line in lines[1:]] == [
        [str(value) for value in record.values()][:4] for record in history(folder)
    ]


def test_a_run_that_has_ended_tells_its_result_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, result, _ = run(capsys, *SMALL, "--epochs", "2", "--output", str(tmp_path))
    before = (tmp_path / "weights.safetensors").read_bytes(), history(tmp_path, set())
    assert run(capsys, "--resume", str(tmp_path), "--quiet") == (0, result, "")
    assert before == ((tmp_path / "weights.safetensors").read_bytes(), history(tmp_path, set()))


def test_more_epochs_are_trained_on(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "a"
    run(capsys, *SMALL, "--epochs", "2", "--output", str(folder))
    other = twin(folder)
    for path, times in ((folder, ["4"]), (other, ["4"])):
        for epochs in times:
            assert run(capsys, "--resume", str(path), "--epochs", epochs, "--quiet")[0] == 0
    assert_same(folder, other)
    assert len(history(folder)) == 4
    assert json.loads((folder / "run.json").read_text())["settings"]["epochs"] == 4
    code, _, err = run(capsys, "--resume", str(folder), "--epochs", "3")
    assert code == 2
    assert "--epochs 3: the run " in err


def test_a_schedule_over_all_epochs_is_no_longer_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run(capsys, *SMALL, "--epochs", "2", "--schedule", "cosine", "--output", str(tmp_path))
    before = (tmp_path / "run.json").read_bytes()
    code, _, err = run(capsys, "--resume", str(tmp_path), "--epochs", "4", "--quiet")
    assert code == 2
    assert "its optimizer.learning_rate.length is 26, and here 52" in err
    assert (tmp_path / "run.json").read_bytes() == before


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("ended")
    assert train.main([*SMALL, "--epochs", "1", "--lr", "0.2", "--output", str(folder)]) == 0
    return folder


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--lr", "0.5"],
            "--lr 0.5: a run goes on as it was begun, and that of the run is 0.2; leave it out, or begin",
        ),
        (["--hidden", "8", "4"], "--hidden 8 4: a run goes on as it was begun, and that of the run is 8; leave"),
        (["--seed", "1"], "--seed 1: a run goes on as it was begun, and that of the run is 0"),
        (["--dtype", "float64"], "--dtype float64: a run goes on as it was begun, and that of the run is float32"),
        (["--average", "0.9"], "--average 0.9: a run goes on as it was begun, and the run was begun without it"),
        (["--every", "2"], "--every 2: a run goes on"),
        (["--metrics", "auc"], "--metrics auc: a run goes on"),
        (["--no-shuffle"], "--no-shuffle: a run goes on"),
        (["--recipe", "momentum"], "--recipe momentum: a run goes on"),
        (["--compare", "cpu,cpu/reference"], "--compare cpu,cpu/reference: a run goes on"),
        (["--output", "elsewhere"], "--output elsewhere: a run goes on as it was begun, and that of the run is "),
        (["--overwrite"], "--overwrite would do nothing here, as --resume goes on with the run; leave it out"),
        (["--limit", "300"], "--limit 300: a run goes on"),
        (
            ["--confusion", "predicted", "--quiet"],
            "--confusion would do nothing here, as --quiet prints the result only",
        ),
    ],
)
def test_what_differs_from_the_run_is_refused_by_name(
    flags: list[str], message: str, ended: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in ended.iterdir() if path.is_file()}
    code, out, err = run(capsys, "--resume", str(ended), *flags)
    assert (code, out) == (2, "")
    (sentence,) = err.splitlines()
    assert message in sentence
    assert {path.name: path.read_bytes() for path in ended.iterdir() if path.is_file()} == before


def test_what_is_the_same_or_may_differ_is_not_refused(ended: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = ["--lr", "0.2", "--hidden", "8", "--batch-size", "16", "--output", str(ended)]
    other = ["--predictions", "3", "--confusion", "predicted", "--checkpoint-every", "5 steps", "--threads", "1"]
    code, out, err = run(capsys, "--resume", str(ended), *same, *other)
    assert (code, err) == (0, "")
    assert "the run goes on after 1 epoch\n" in out
    assert "rows are the predicted classes" in out


def table(folder: Path, rows: int = 90) -> Path:
    rng = np.random.default_rng(0)
    lines = [f"{a:.3f},{b:.3f},{int(a > b)}" for a, b in rng.normal(size=(rows, 2))]
    path = folder / "data.csv"
    path.write_text("\n".join(["a,b,label", *lines]) + "\n")
    return path


def test_paths_are_found_again_from_another_folder(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    flags = ["--data", "data.csv", "--log", "log.jsonl", "--epochs", "2", "--device", "cpu", "--quiet"]
    assert run(capsys, *flags, "--output", "out")[0] == 0
    monkeypatch.chdir(tmp_path / "elsewhere")
    for epochs in ("3", "4"):  # also when it has gone on before
        code, _, err = run(capsys, "--resume", "../out", "--epochs", epochs, "--quiet")
        assert (code, err) == (0, "")
        assert len((tmp_path / "log.jsonl").read_text().splitlines()) == int(epochs)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    shutil.copy(tmp_path / "data.csv", tmp_path / "elsewhere" / "moved.csv")
    (tmp_path / "data.csv").unlink()
    assert run(capsys, "--resume", "../out", "--quiet")[0] == 2
    assert run(capsys, "--resume", "../out", "--data", "moved.csv", "--quiet")[0] == 0
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "--resume", "out", "--quiet")[0] == 0  # it is known where they are now


def test_other_data_are_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = table(tmp_path)
    out = str(tmp_path / "out")
    run(capsys, "--data", str(path), "--epochs", "2", "--device", "cpu", "--quiet", "--output", out)
    path.write_text(path.read_text().replace("0.1", "0.2"))
    code, _, err = run(capsys, "--resume", out, "--quiet", "--epochs", "3")
    assert code == 2
    assert "its rows to train on are others than those here: as many, but with other numbers" in err
    table(tmp_path, 80)
    assert "its rows to train on are 72, and here 64" in run(capsys, "--resume", out, "--quiet")[2]


# ---- folders that lack something -------------------------------------------------------------------------------------


def test_a_run_without_a_checkpoint_begins_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "a"
    killed(5, *SMALL[:-1], "--epochs", "2", "--output", str(folder))
    assert [path.name for path in folder.iterdir()] == ["run.json"]
    code, out, err = run(capsys, "--resume", str(folder))
    assert (code, err) == (0, "")
    run_id = json.loads((folder / "run.json").read_text())["run"]
    assert f"there is no checkpoint: the run {run_id} of " in out
    other = twin(folder)
    run(capsys, "--resume", str(other))
    assert_same(folder, other)


@pytest.mark.parametrize("damaged", [1, 2])
def test_damaged_checkpoints_cost_time_alone(damaged: int, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The newest is damaged, and the one before it serves; or both are, and the run begins again."""
    folder = tmp_path / "a"
    killed(40, *SMALL, "--epochs", "4", "--output", str(folder), "--checkpoint-every", "5 steps")
    checkpoints = sorted((folder / "checkpoints").iterdir(), reverse=True)
    assert len(checkpoints) == 2
    for path in checkpoints[:damaged]:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    done = ended_process(SCRIPT, "--resume", str(folder))
    assert done.returncode == 0
    if damaged == 1:
        assert "goes on after " in done.stdout
        assert "its checksum is wrong" in done.stderr
        assert done.stderr.startswith("train.py: warning: ")
    else:
        assert "no checkpoint is whole: the run " in done.stdout
    other = twin(folder)
    run(capsys, "--resume", str(other), "--quiet")
    assert_same(folder, other)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no run: there is no run.json"),
        (b"{", "run.json is damaged ("),
        (b'{"format": 7}', "a newer version of xpnet wrote it (format 7); update xpnet"),
    ],
)
def test_a_folder_without_a_record_is_refused(
    content: bytes | None, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "run.json").write_bytes(content)
    code, out, err = run(capsys, "--resume", str(tmp_path))
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_run_that_had_no_checkpoints_does_not_go_on(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run(capsys, *SMALL, "--epochs", "1", "--output", str(tmp_path), "--checkpoint-every", "never")
    code, _, err = run(capsys, "--resume", str(tmp_path))
    assert code == 2
    assert "there is no checkpoint, so the run " in err
    assert "begin it again by --overwrite" in err


def test_checkpoints_of_another_run_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(capsys, *SMALL, "--epochs", "1", "--output", str(tmp_path / name))
    shutil.copy(tmp_path / "b" / "run.json", tmp_path / "a")
    code, _, err = run(capsys, "--resume", str(tmp_path / "a"))
    assert code == 2
    assert "has checkpoints of another run, " in err


def test_on_another_device_it_goes_on_within_rounding(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(capsys, *SMALL, "--epochs", "1", "--output", str(tmp_path))[0] == 0
    flags = ["--epochs", "2", "--device", "array_api_strict", "--quiet"]
    done = ended_process(SCRIPT, "--resume", str(tmp_path), *flags)
    assert done.returncode == 0
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith(
        "train.py: warning: the run goes on elsewhere than it was (device cpu, now array_api_str"
    )
    assert len(history(tmp_path)) == 2


def test_a_recipe_of_several_runs_goes_on_by_each(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    recipe = tmp_path / "two.toml"
    part = "[[parts]]\ntitle = '{}'\n[parts.training]\nepochs = 1\n[parts.data]\nlimit = 50\n"
    recipe.write_text(part.format("one") + part.format("two"))
    run(capsys, "--recipe", str(recipe), "--quiet", "--output", str(tmp_path / "out"))
    recipe.unlink()
    code, out, _ = run(capsys, "--resume", str(tmp_path / "out" / "2"), "--epochs", "2")
    assert code == 0
    assert re.search(r"^recipe +two: two$", out, flags=re.MULTILINE)
    assert len(history(tmp_path / "out" / "2")) == 2
    assert len(history(tmp_path / "out" / "1")) == 1


@pytest.mark.skipif(os.name == "nt", reason="the limit of names, in the words of POSIX")
@pytest.mark.parametrize("flag", ["--resume {}", "--output {}", "--log {}.csv", "--report {}.html", "--tensorboard {}"])
def test_a_path_that_the_system_refuses_is_a_sentence(
    flag: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """As one in a folder that may not be looked into, which root, who runs tests in containers, may."""
    if "tensorboard" in flag:
        pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    flag, path = flag.format(tmp_path / ("x" * 300)).split()
    beside = [] if flag == "--resume" else [*SMALL, "--epochs", "1"]
    code, out, err = run(capsys, *beside, flag, path)
    assert (code, out.count("\n1 ")) == (2, 0)
    assert "File name too long" in err
    assert "Errno" not in err
    assert err.count("\n") == 1
    assert len(err) < 320
    assert not [*tmp_path.iterdir()]


def test_what_is_no_folder_of_a_run_is_called_what_it_is(
    ended: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for path, told in (
        (tmp_path / "absent", "is not there; name the folder that --output of the run has named"),
        (ended / "run.json", "is a file, and no folder; name the folder that --output of the run has named"),
        (ended / "checkpoints", f"is inside of the folder of a run; name that: {ended}"),
    ):
        assert run(capsys, "--resume", str(path)) == (2, "", f"train.py: error: {path} {told}\n")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to_does_not_go_on(ended: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended.chmod(0o500)
    try:
        code, _, err = run(capsys, "--resume", str(ended))
    finally:
        ended.chmod(0o700)
    assert code == 2
    assert f"--resume {ended}: this folder cannot be written to" in err


@pytest.mark.parametrize("variable", ["TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"])
def test_the_same_command_that_a_launcher_starts_again_goes_on(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags, ended, whole = [*SMALL, "--epochs", "3", "--checkpoint-every", "1"], tmp_path / "killed", tmp_path / "whole"
    monkeypatch.setenv(variable, "0")
    killed(15, *flags, "--output", str(ended))
    assert run(capsys, *flags, "--output", str(whole))[0] == 0
    code, _, err = run(capsys, *flags, "--output", str(ended))
    assert (code, "this folder holds the run" in err) == (2, True), err
    monkeypatch.setenv(variable, "1")
    code, _, err = run(capsys, *flags, "--output", str(ended))
    assert (code, err) == (0, ""), err
    for name, values in load_model(whole).state_dict().items():
        np.testing.assert_array_equal(load_model(ended).state_dict()[name], values)
    assert history(ended, TIMES | {"run"}) == history(whole, TIMES | {"run"})
    code, _, err = run(capsys, *flags, "--seed", "9", "--output", str(ended))
    assert (code, "--seed 9: a run goes on as it was begun" in err) == (2, True), err
    assert run(capsys, *flags, "--output", str(tmp_path / "new"))[0] == 0  # the first time it did not come so far
