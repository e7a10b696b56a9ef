"""Some of the damaged files of ``benchmarks.fuzz``, in this process; the whole of it takes minutes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.fuzz import __main__ as fuzz
from benchmarks.fuzz.readers import READERS, Reader
from benchmarks.fuzz.work import outcome

#: Inputs by their numbers, each of which is another damage.
FEW, MORE = range(50), range(50, 150)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("numbers", [FEW, pytest.param(MORE, marks=pytest.mark.slow)], ids=["few", "more"])
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_right_or_refused_in_one_sentence(tmp_path: Path, name: str, numbers: range) -> None:
    if name == "HDF5":
        pytest.importorskip("h5py", reason="h5py is not installed")
    reader = READERS[name]
    path = tmp_path / f"file{reader.suffix}"
    faults = []
    for number in numbers:
        content = reader.make(random.Random(f"{name} {number}"))
        path.write_bytes(content)
        kind, how = outcome(reader, path, content)
        if kind not in fuzz.GOOD:
            faults.append(f"{name} {number}: {kind}: {how}")
    assert faults == []


def test_what_is_wrong_is_seen(tmp_path: Path) -> None:
    good = READERS["IDX"]

    def told(reader: Reader) -> str:
        path = tmp_path / "file.idx"
        content = reader.make(random.Random(1))
        path.write_bytes(content)
        return outcome(reader, path, content)[0]

    def raising(error: Exception) -> Reader:
        def read(path: Path) -> None:
            raise error

        return Reader("", ".idx", good.make, read, good.meant, (ValueError,))

    assert told(Reader("", ".idx", good.make, lambda path: "something else", good.meant)) == "wrong"
    assert told(raising(KeyError("x"))) == "other exception"
    assert told(raising(MemoryError())) == "large"
    assert told(raising(ValueError("bad\x1b[31m"))) == "unclear"
    assert told(raising(ValueError("long " * 100))) == "unclear"
    assert told(raising(ValueError("no good; give another"))) == "clean"


def test_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["recipe", "IDX", "--inputs", "20", "--output", str(tmp_path / "fuzz.md")]) == 0
    table = (tmp_path / "fuzz.md").read_text()
    assert "| recipe | 20 |" in table
    assert capsys.readouterr().err == ""
    with pytest.raises(SystemExit):
        fuzz.main(["nothing"])
