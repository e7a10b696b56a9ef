"""A folder holds one run, whose files belong together however the program ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import train
from nn import History, JSONLog, SaveModel, load_model
from nn.__main__ import main as commands
from nn.cli import UsageError
from nn.cli.run_record import RunRecord
from tests.helpers.process import SCRIPT, ended
from tests.helpers.script import run

ROOT = Path(train.__file__).parent
FAST = ["--epochs", "2", "--limit", "100", "--hidden", "8", "--device", "cpu", "--quiet"]
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="locks, limits and permissions as POSIX has them")


def script(*flags: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "train.py"), *FAST, *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **options)


def ids(folder: Path) -> dict[str, str]:
    """The id of the run that each file carries."""
    from safetensors import safe_open

    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".safetensors":
            with safe_open(path, framework="numpy") as file:
                found[path.name] = json.loads(file.metadata()["xpnet"])["run"]
        elif path.suffix == ".jsonl":
            (found[path.name],) = {json.loads(line)["run"] for line in path.read_text().splitlines()}
        elif path.suffix == ".csv":
            (found[path.name],) = {line.split(",")[-1] for line in path.read_text().splitlines()[1:]}
        elif path.suffix == ".json":
            found[path.name] = json.loads(path.read_text())["run"]
        elif path.suffix == ".png":
            (match,) = re.findall(rb"tEXtrun\0([0-9a-f]{16})", path.read_bytes())
            found[path.name] = match.decode()
        elif path.suffix == ".html":
            found[path.name] = re.findall(r'"run":"([0-9a-f]{16})"', path.read_text())[0]
    return found


def assert_whole(folder: Path) -> None:
    """What ``settings.json`` promises."""
    settings = json.loads((folder / "settings.json").read_text())
    assert set(settings["sha256"]) == {"weights.safetensors", "history.jsonl"}
    for name, checksum in settings["sha256"].items():
        assert sha256((folder / name).read_bytes()).hexdigest() == checksum
    assert len({*ids(folder).values()}) == 1


def test_every_file_carries_the_id_of_the_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, digits_file: str
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    folder = tmp_path / "a"
    folder.mkdir()
    beside = ["--report", str(folder / "r.html"), "--log", str(folder / "log.csv"), "--plots"]
    # Rows that are not shown as pictures: two pictures of what was learned say as much as five.
    assert run(capsys, *FAST, "--data", digits_file, "--output", str(folder), *beside)[0] == 0
    found = ids(folder)
    assert {*found} >= {"run.json", "settings.json", "history.jsonl", "weights.safetensors", "cost.png", "r.html"}
    assert {*found} == {path.name for path in folder.iterdir()} - {"checkpoints"}
    assert len({*found.values()}) == 1
    assert History.load(folder / "history.jsonl").run == found["run.json"]
    assert load_model(folder / "weights.safetensors", "cpu").n_outputs == 10
    assert_whole(folder)
    assert run(capsys, *FAST, "--output", str(tmp_path / "b"))[0] == 0
    assert ids(tmp_path / "b")["run.json"] != found["run.json"]


def test_the_record_of_a_run_says_what_it_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run(capsys, *FAST, "--output", str(tmp_path), "--class-weight", "0=2.0", "3=1.5", "--batch-size", "full")
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["format"] == 1
    assert record["process"] == os.getpid()
    assert record["folder"] == str(Path.cwd())
    assert record["device"].startswith("cpu: numpy ")
    assert record["command"].startswith("python train.py --device cpu --limit 100 ")
    assert record["settings"]["epochs"] == 2
    settings = RunRecord.read(tmp_path).restored()
    assert settings.class_weight == {0: 2.0, 3: 1.5}
    assert (settings.batch_size, settings.hidden) == (None, (8,))


@pytest.mark.parametrize("name", ["run.json", "settings.json", "weights.safetensors", "history.jsonl"])
def test_a_folder_that_holds_a_run_is_refused(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / name).write_text("{}")
    code, out, err = run(capsys, *FAST, "--output", str(tmp_path))
    assert (code, out) == (2, "")
    held = "a run whose run.json cannot be read; go on with it by --resume" if name == "run.json" else "a run of an ear"
    assert err.startswith(f"train.py: error: --output {tmp_path}: this folder holds {held}")
    assert err.endswith("replace it by --overwrite, or name another\n")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_new_run_replaces_the_files_of_the_old_one_and_no_others(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, digits_file: str
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    run(capsys, *FAST, "--data", digits_file, "--output", str(tmp_path), "--plots")
    assert len(list(tmp_path.glob("*.png"))) == 2
    (tmp_path / "checkpoints").mkdir(exist_ok=True)
    (tmp_path / "checkpoints" / "checkpoint-000000009999.safetensors").write_bytes(b"old")
    mine = {"mine.txt": tmp_path / "mine.txt", "mine.png": tmp_path / "checkpoints" / "mine.png"}
    for path in mine.values():
        path.write_text("mine")
    assert run(capsys, *FAST, "--output", str(tmp_path), "--overwrite")[0] == 0
    assert_whole(tmp_path)
    assert [path.read_text() for path in mine.values()] == ["mine", "mine"]
    assert not (tmp_path / "checkpoints" / "checkpoint-000000009999.safetensors").exists()
    assert not list(tmp_path.glob("*.png"))


def test_nothing_is_removed_for_a_run_that_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Neither before the data are read, nor where training itself refuses to begin."""
    folder = tmp_path / "a"
    run(capsys, *FAST, "--output", str(folder))
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    (tmp_path / "log.jsonl").write_text("no log\n")
    for flags in (["--data", "nowhere.csv"], ["--log", str(tmp_path / "log.jsonl")], ["--metrics", "r2"]):
        assert run(capsys, *FAST, "--output", str(folder), "--overwrite", *flags)[0] == 2
        assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_pictures_alone_replace_pictures_and_leave_runs_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, digits_file: str
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / Path(digits_file).stem
    fast = [*FAST, "--data", digits_file]
    assert run(capsys, *fast, "--plots")[0] == 0
    (folder / "values.png").write_bytes(b"of another run")
    assert run(capsys, *fast, "--plots")[0] == 0
    assert len({*ids(folder).values()}) == 1
    assert "values.png" not in ids(folder)
    assert run(capsys, *fast, "--output", f"runs/{folder.name}")[0] == 0
    code, _, err = run(capsys, *fast, "--plots")
    assert code == 2
    assert f"--plots: runs/{folder.name} holds the run " in err.replace("\\", "/")
    assert "name another folder by --output" in err


def test_each_run_of_a_recipe_has_a_folder_of_its_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    recipe = tmp_path / "two.toml"
    part = "[[parts]]\ntitle = '{}'\n[parts.training]\nepochs = 1\n[parts.data]\nlimit = 50\n"
    recipe.write_text(part.format("one") + part.format("two"))
    assert run(capsys, "--recipe", str(recipe), "--quiet", "--output", str(tmp_path / "out"))[0] == 0
    for number, title in ((1, "one"), (2, "two")):
        assert_whole(tmp_path / "out" / str(number))
        assert json.loads((tmp_path / "out" / str(number) / "settings.json").read_text())["title"] == title


# ---- the record ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("record")
    RunRecord.of(train.parse(["--epochs", "3", "--class-weight", "0=2.0"])[0]).write(folder)
    return folder


@given(data=st.data())
def test_whatever_happens_to_the_record_it_is_read_rightly_or_refused_in_a_sentence(
    record: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray((record / "run.json").read_bytes())
    folder = tmp_path_factory.mktemp("damaged")
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        content[start : start + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=9))
    (folder / "run.json").write_bytes(content)
    with suppress(UsageError):
        assert RunRecord.read(folder) == RunRecord.read(record)  # a blank was changed
        assert RunRecord.read(folder).restored() == RunRecord.read(record).restored()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "is damaged"),
        (b'{"format": 9, "new": 1}', r"a newer version of xpnet wrote it \(format 9\); update xpnet"),
        (b"\xff", "is damaged"),
        (b"null", "is damaged"),
    ],
)
def test_a_record_that_is_none_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        RunRecord.read(tmp_path)


# ---- the end is a commit ---------------------------------------------------------------------------------------------

#: Ends the process without a word just before the n-th file of a run is written.
KILLED = """
import os, sys
import nn.cli.run_folder as folder
left, write = int(sys.argv.pop(1)), folder.write_atomically
def killed(path, content):
    global left
    if left == 0:
        os._exit(9)
    left -= 1
    write(path, content)
folder.write_atomically = killed
import train
sys.exit(train.main())
"""


@pytest.mark.parametrize("written", range(4))
def test_whoever_finds_settings_finds_files_that_belong_together(
    written: int, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Killed before each of its writes, over the files of an earlier run."""
    run(capsys, *FAST, "--output", str(tmp_path), "--seed", "1")
    old = ids(tmp_path)["run.json"]
    done = ended(KILLED, str(written), *FAST, "--output", str(tmp_path), "--overwrite")
    assert (done.returncode, done.stderr) == (9 if written < 3 else 0, "")
    found = ids(tmp_path)
    assert set(found.values()) != {old}
    assert len({*found.values()}) == 1
    assert ("settings.json" in found) == (written == 3)
    if written < 3:
        assert run(capsys, "--resume", str(tmp_path), "--quiet")[0] == 0
        assert ids(tmp_path)["run.json"] == found["run.json"]
    assert_whole(tmp_path)


# ---- folders that fail -----------------------------------------------------------------------------------------------


def fallback(err: str) -> Path:
    """The folder that the message names."""
    (found,) = re.findall(r"; the files are in (.*)$", err, flags=re.MULTILINE)
    return Path(found)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which what cannot be written where it belongs goes to."""
    folder = tmp_path / "current"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


#: Removes or spoils the folder of the run while it trains.
SPOILED = """
import os, shutil, signal, sys
from pathlib import Path
import train
from nn import LambdaCallback
folder, how = Path(sys.argv[sys.argv.index("--output") + 1]), sys.argv.pop(1)
def spoil(trainer, record):
    if record["epoch"] == 1:
        shutil.rmtree(folder)
        if how != "deleted":
            folder.write_text("a file")
    if record["epoch"] == 2 and how == "replaced by a file, and ended":
        os.kill(os.getpid(), signal.SIGTERM)
build = train.build_callbacks
train.build_callbacks = lambda settings: [*build(settings), LambdaCallback(on_epoch_end=spoil)]
sys.exit(train.main())
"""


def spoiled(how: str, output: Path, current: Path) -> subprocess.CompletedProcess[str]:
    return ended(SPOILED, how, *FAST, "--output", str(output), cwd=current)


@POSIX
def test_a_folder_that_was_deleted_is_made_again(tmp_path: Path, elsewhere: Path) -> None:
    done = spoiled("deleted", tmp_path / "a", elsewhere)
    assert (done.returncode, done.stderr) == (0, "")
    assert_whole(tmp_path / "a")
    assert "run.json" in ids(tmp_path / "a")


@POSIX
def test_a_folder_that_cannot_be_made_again_does_not_cost_the_weights(tmp_path: Path, elsewhere: Path) -> None:
    done = spoiled("replaced by a file", tmp_path / "a", elsewhere)
    assert done.returncode == 1
    warning, sentence = done.stderr.splitlines()
    assert warning.startswith("train.py: warning: no checkpoint could be written to ")
    assert warning.endswith("; training goes on")
    assert sentence.startswith(f"train.py: error: {tmp_path / 'a'} cannot be written to: ")
    assert fallback(done.stderr).parent == elsewhere
    assert fallback(done.stderr).name.startswith("xpnet-")
    assert_whole(fallback(done.stderr))
    assert "test accuracy" in done.stdout
    assert (tmp_path / "a").read_text() == "a file"


@POSIX
def test_what_was_learned_before_a_signal_is_kept_where_no_checkpoint_can_be(tmp_path: Path, elsewhere: Path) -> None:
    done = spoiled("replaced by a file, and ended", tmp_path / "a", elsewhere)
    assert done.returncode == 143
    _, sentence, last = done.stderr.splitlines()
    assert_whole(fallback(sentence))
    assert last.startswith("train.py: stopped by SIGTERM")
    assert "--resume" not in last  # there is nothing to go on with


@POSIX
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root mounts file systems")
def test_a_full_disk_does_not_cost_the_weights(tmp_path: Path, elsewhere: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(full)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this system does not let root mount a file system")
    try:
        more = ["--hidden", "64", "--output", str(full / "a"), "--report", str(full / "r.html")]
        done = ended(SCRIPT, *FAST, *more, cwd=elsewhere)
        assert done.returncode == 1
        warning, folder, report = done.stderr.splitlines()
        assert re.search(
            r"warning: no checkpoint could be written .*\(No space left on device\); training goes", warning
        )
        assert folder.startswith(f"train.py: error: {full / 'a'} cannot be written to: No space left on device; ")
        assert report.startswith(f"train.py: error: {full / 'r.html'} cannot be written: No space left on device; ")
        assert_whole(fallback(done.stderr))
        assert not (full / "a" / "settings.json").exists()
        assert len(list(elsewhere.glob("xpnet-*/r.html"))) == 1
    finally:
        subprocess.run(["umount", str(full)], check=True)


@POSIX
def test_a_limit_on_the_size_of_files_is_a_sentence(tmp_path: Path, digits_file: str) -> None:
    """A file of weights that may be written nowhere: nothing is left behind, and the exit code is 1."""
    import resource

    def limit() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    (tmp_path / "tmp").mkdir()
    environment = os.environ | {"HOME": str(tmp_path / "tmp"), "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(ROOT)}
    done = script(
        "--data", digits_file, "--hidden", "64", "--output", str(tmp_path / "a"), cwd=tmp_path / "tmp",
        env=environment, preexec_fn=limit,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.endswith(f"error: nothing can be written to {tmp_path / 'a'}, nor elsewhere: File too large\n")
    assert "test accuracy" in done.stdout
    assert list((tmp_path / "tmp").iterdir()) == []


@POSIX
def test_two_processes_do_not_train_into_one_folder(tmp_path: Path, digits_file: str) -> None:
    command = [sys.executable, "train.py", "--data", digits_file, "--device", "cpu", "--epochs", "1000000"]
    command += ["--output", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as first:
        assert first.stdout is not None
        while "rows/s" not in first.stdout.readline():
            pass
        for more in ([], ["--overwrite"]):
            done = ended(SCRIPT, *FAST, "--output", str(tmp_path), *more)
            assert done.returncode == 2
            assert f"{tmp_path} is being trained by process {first.pid}; name another" in done.stderr
        first.kill()
    assert ended(SCRIPT, *FAST, "--output", str(tmp_path), "--overwrite").returncode == 0


def test_files_of_one_run_are_known_by_callbacks_too(tmp_path: Path) -> None:
    """A log beside the folder keeps lines of its own run alone."""
    log = tmp_path / "log.jsonl"
    for _ in range(2):
        prepared = train.prepare(train.parse([*FAST, "--log", str(log)])[0])
        train.train(prepared)
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        assert [line["epoch"] for line in lines] == [1, 2]
        assert {line["run"] for line in lines} == {prepared.record.run}
    assert any(isinstance(callback, JSONLog) for callback in prepared.trainer.callbacks)
    assert not any(isinstance(callback, SaveModel) for callback in prepared.trainer.callbacks)
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are any bytes on Linux alone")
def test_names_that_are_no_text_are_those_of_files_nevertheless(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """In Latin-1, for instance, where the system has UTF-8."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    (folder / "a.csv").write_text("x,z,label\n" + "1,2,a\n2,1,b\n" * 20)
    data, out, report = (str(folder / name) for name in ("a.csv", "out", "r.html"))
    flags = ["--data", data, "--epochs", "1", "--device", "cpu", "--output", out, "--report", report]
    assert run(capsys, *flags)[0] == 0
    assert "caf\ufffd" in Path(report).read_text(encoding="utf-8")
    assert commands(["compare", report, report, "--output", str(folder / "both.html")]) == 0
    assert commands(["predict", out, str(folder / "absent.csv")]) == 2
    told = f"{folder}/absent.csv: there is no such file".replace("\udce9", "\\udce9")
    assert capsys.readouterr().err == f"python -m nn: error: {told}\n"


def test_pictures_alone_that_have_no_folder_are_told_how_to_name_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("")
    told = "--plots: the folder runs/digits cannot be made: Not a directory; name another by --output"
    assert run(capsys, "--plots", "--epochs", "1") == (2, "", f"train.py: error: {told}\n")
