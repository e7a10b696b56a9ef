"""The benchmark of rows larger than memory, on a small file: what it times, and that it leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import streaming

SMALL = ["--rows", "6000", "--window", "1500", "--rounds", "1"]


def test_training_takes_turns_with_rows_in_memory_and_the_file_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(streaming, "RESULTS", tmp_path)
    (tmp_path / "here").mkdir()
    assert streaming.main([*SMALL, "--memory", "900", "--folder", str(tmp_path / "here")]) == 0
    assert not [*(tmp_path / "here").iterdir()]
    told = capsys.readouterr().out
    assert (tmp_path / "streaming-cpu-small.md").read_text() == told
    lines = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ") for line in told.splitlines()}
    for name in ("the disk, same blocks", "streamed", "in memory"):
        _, rows, rate, megabytes, peak = lines[name]
        # Two turns of a window of whole batches in memory.
        assert rows == ("2,816" if name == "in memory" else "6,000")
        assert float(rate.replace(",", "")) > 0
        assert float(megabytes.replace(",", "")) == pytest.approx(float(rate.replace(",", "")) * 784 / 1e6, abs=1)
        assert 20 < float(peak.replace(",", "")) < 900
    assert "windows of 1,500 rows" in told
    assert "may take 900 MiB" in told


def test_a_folder_without_room_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        streaming.main(["--rows", str(10**14), "--folder", str(tmp_path)])
    assert raised.value.code == 2
    assert "GB free, and the file takes 78500000.0 GB; name --folder" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]
