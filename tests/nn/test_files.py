"""Files are written whole or not at all, whatever stands in the way."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nn.files import DRAFT, remove_drafts, write_atomically

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="permissions, links and signals as POSIX has them")


def drafts(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if DRAFT.fullmatch(entry.name)]


def test_a_file_is_written_and_written_again(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    for content in (b"one", b"", b"three" * 1000):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere; make it first"):
        write_atomically(tmp_path / "nowhere" / "a.bin", b"")


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_what_was_there_stays_where_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    path = tmp_path / "a.bin"
    write_atomically(path, b"old")

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "some draft")

    where: object = os if fails == "fsync" else Path
    monkeypatch.setattr(where, fails, full)
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.bin'"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


@POSIX
def test_permissions_stay_and_new_files_get_those_that_the_user_wants(tmp_path: Path) -> None:
    path, new = tmp_path / "a.bin", tmp_path / "new.bin"
    path.write_bytes(b"old")
    path.chmod(0o604)
    before = os.umask(0o027)
    try:
        write_atomically(path, b"new")
        write_atomically(new, b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert stat.S_IMODE(new.stat().st_mode) == 0o640


@POSIX
def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "a.bin", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


@POSIX
def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    write_atomically(pipe, b"content")
    reader.join(10)
    assert found == [b"content"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_folder_of_that_name_is_refused_and_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match=r"'.*a'$"):
        write_atomically(tmp_path / "a", b"")
    assert drafts(tmp_path) == []


def test_of_two_writers_each_leaves_a_whole_file(tmp_path: Path) -> None:
    path, contents = tmp_path / "a.bin", [bytes([n]) * 200_000 for n in range(4)]
    found: set[bytes] = set()

    def write(content: bytes) -> None:
        for _ in range(20):
            write_atomically(path, content)
            found.add(path.read_bytes())

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert found <= set(contents)
    assert path.read_bytes() in contents
    assert drafts(tmp_path) == []


#: Writes the file given to it, and stops for ever just before the draft takes its place.
STUCK = """
import sys, time
from pathlib import Path
from nn.files import write_atomically
def stuck(self, target):
    print("written", flush=True)
    time.sleep(60)
Path.replace = stuck
write_atomically(sys.argv[1], b"new")
"""


@POSIX
def test_a_killed_writer_leaves_the_old_file_and_its_draft_goes_with_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with subprocess.Popen([sys.executable, "-c", STUCK, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        assert len(drafts(tmp_path)) == 1
        remove_drafts(tmp_path)
        assert len(drafts(tmp_path)) == 1  # it is being written
        writer.kill()
    assert path.read_bytes() == b"old"
    assert len(drafts(tmp_path)) == 1
    remove_drafts(tmp_path)
    assert drafts(tmp_path) == []


def test_the_next_run_removes_drafts_by_writing_any_file(tmp_path: Path) -> None:
    (tmp_path / f".{'0' * 32}.xpnet-draft").write_bytes(b"part")
    (tmp_path / ".other.xpnet-draft").write_bytes(b"not ours")
    write_atomically(tmp_path / "a.bin", b"")
    assert drafts(tmp_path) == []
    assert (tmp_path / ".other.xpnet-draft").exists()


def test_names_of_drafts_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    real = Path.replace

    def replace(draft: Path, target: Path) -> Path:
        seen.append(draft.name)
        return real(draft, target)

    monkeypatch.setattr(Path, "replace", replace)
    for _ in range(3):
        write_atomically(tmp_path / "a.bin", b"")
    assert len({*seen}) == 3
    assert all(DRAFT.fullmatch(name) for name in seen)
