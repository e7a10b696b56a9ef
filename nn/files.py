"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .messages import sentence

if sys.platform != "win32":
    import fcntl

#: What a file is called while it is written. Nobody can guess the name, and its end says whose it is.
DRAFT = re.compile(r"\.[0-9a-f]{32}\.xpnet-draft")
#: The folders in which this process has looked for drafts of writers that were killed.
_cleaned: set[Path] = set()


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a file so that whoever looks finds the old content or the new, never a part, even after a crash.

    The content goes to a draft beside it, to the disk, and then takes the place of the old file, whose permissions it
    keeps. A link stays one; what is no file, such as ``/dev/null`` or a pipe, is written to. Of several writers of one
    path each leaves a whole file, and the last one stays. Drafts of writers that were killed are removed.

    Raises:
        OSError: it cannot be written; the error names ``path``, and the old content is still there.
    """
    path = Path(path)
    target = path.resolve() if path.is_symlink() else path
    if not target.parent.is_dir():
        where = f"there is no folder {target.parent}"
        raise FileNotFoundError(sentence(f"{path} cannot be written: {where}; make it first"))
    try:
        mode = target.stat().st_mode if target.exists() else None
        if mode is not None and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            target.write_bytes(content)
            return
        remove_drafts(target.parent, again=False)
        with _draft(target.parent) as (draft, file):
            if mode is not None and hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), stat.S_IMODE(mode))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            if sys.platform == "win32":
                file.close()  # an open file has its name for itself there
            draft.replace(target)
        _flush_folder(target.parent)
    except OSError as error:
        # The same error, but with the name that the user knows instead of that of the draft.
        raise OSError(error.errno, error.strerror, str(path)) from None


@contextmanager
def _draft(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file that nobody else has opened, and its name; it is gone afterwards unless it was renamed.

    It is locked while it is written, which tells it from what a killed writer has left.
    """
    while True:
        draft = folder / f".{secrets.token_hex(16)}.xpnet-draft"
        # 0o666: the permissions that the user wants for new files are taken away from these by the system.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        file = os.fdopen(os.open(draft, flags, 0o666), "wb")
        lock(file)
        if sys.platform == "win32" or os.fstat(file.fileno()).st_nlink:
            break
        file.close()  # somebody removed it before it was locked
    try:
        with file:
            yield draft, file
    finally:
        draft.unlink(missing_ok=True)


def lock(file: BinaryIO) -> None:
    """Wait until nobody else has locked an open file, and lock it until it is closed, where system and file system
    can."""
    if sys.platform != "win32":
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)


def remove_drafts(folder: Path, *, again: bool = True) -> None:
    """Remove from ``folder`` what killed writers have left there; not what somebody is writing.

    Args:
        again: whether also if this process has done so before.
    """
    if folder in _cleaned and not again:
        return
    _cleaned.add(folder)
    with suppress(OSError):  # a folder that may be written to, but not read
        for draft in folder.iterdir():
            if DRAFT.fullmatch(draft.name):
                _remove_unless_locked(draft)


def _remove_unless_locked(draft: Path) -> None:
    if sys.platform == "win32":
        with suppress(OSError):  # it is open
            draft.unlink()
        return
    with suppress(OSError), draft.open("rb") as file:  # locked, or gone
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        draft.unlink()


def _flush_folder(folder: Path) -> None:
    """Have the new name on the disk, too."""
    if sys.platform == "win32":
        return
    with suppress(OSError):  # a file system that cannot
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def what_is_no_file(path: Path) -> str:
    """What stands at ``path`` if it is no file: "a folder", "a pipe", "a device" or "a socket"; "" if it is one, or if
    nothing is there. A reader would wait for a pipe that nobody writes to, and never end with a device."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # not there, not to be seen, or no name for a file at all
        return ""
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return "" if stat.S_ISREG(mode) else kinds.get(stat.S_IFMT(mode), "a device")


def check_writable(path: Path, name: str) -> None:
    """See that ``path``, called ``name`` in messages, can be written: to be asked before a long run, not after it.

    Raises:
        ValueError: it is a folder, or its own folder is not there or cannot be written to.
    """
    if path.is_dir():
        raise ValueError(sentence(f"{name} {path}: this is a folder; name a file in it"))
    if not path.parent.is_dir():
        raise ValueError(sentence(f"{name} {path}: there is no folder {path.parent}; make it first"))
    if not os.access(path.parent, os.W_OK):
        raise ValueError(sentence(f"{name} {path}: the folder {path.parent} cannot be written to; name another"))
