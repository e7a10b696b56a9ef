"""The folder of a run: it holds one run, whose files belong together whenever the program ends."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from ..files import remove_drafts, write_atomically
from ..report.plots import PICTURES
from ..storage.checkpoint import NAME as CHECKPOINT_NAME
from ..storage.model_file import SETTINGS as SETTINGS
from ..storage.model_file import WEIGHTS as WEIGHTS
from .kinds import UsageError
from .run_record import RECORD, RunRecord
from .settings import Settings

if sys.platform != "win32":
    import fcntl

HISTORY = "history.jsonl"
COMPARISON = ("compare.jsonl", "compare.png")
CHECKPOINTS = "checkpoints"
T = TypeVar("T")
#: What a folder of a run has at least one of.
OF_A_RUN = (RECORD, SETTINGS, WEIGHTS, HISTORY, COMPARISON[0])


class RunFolder:
    """The folder that ``--output`` names, or that pictures alone go to.

    From ``lock`` to ``close`` no other process can train into it.

    Attributes:
        path: of the folder.
        record: of the run.
        pictures_alone: whether nothing but pictures is written to it.
        flag: the one that names it, for messages.
        has_begun: whether it says that it holds this run.
    """

    def __init__(self, path: Path, record: RunRecord, *, pictures_alone: bool = False, flag: str = "--output") -> None:
        self.path, self.flag = path, flag
        self.record = record
        self.pictures_alone = pictures_alone
        self.has_begun = False
        self._lock: int | None = None

    # ---- before training ---------------------------------------------------------------------------------------------

    def open(self, *, may_hold_run: bool = False) -> None:
        """Make the folder where it is not there, and see that it can be written to, holds no run and is nobody else's.

        Args:
            may_hold_run: whether that is what is wanted.

        Raises:
            UsageError: in one sentence.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = "it is a file" if self.path.is_file() else error.strerror or error
            raise self._refused(f"cannot be made: {reason}") from None
        if not os.access(self.path, os.W_OK):
            raise self._refused("cannot be written to")
        self.lock()
        if not may_hold_run and (held := self.held()):
            if self.pictures_alone:
                raise UsageError(f"--plots: {self.path} holds {held}; name another folder by --output")
            go_on = "" if "earlier version" in held else f"go on with it by --resume {self.path}, "
            raise UsageError(
                f"--output {self.path}: this folder holds {held}; {go_on}replace it by --overwrite, or name another"
            )

    def _refused(self, why: str) -> UsageError:
        if self.pictures_alone:
            return UsageError(f"--plots: the folder {self.path} {why}; name another by --output")
        remedy = "name another" if self.flag == "--output" else "a run goes on where it is written to"
        return UsageError(f"{self.flag} {self.path}: this folder {why}; {remedy}")

    def held(self) -> str:
        """Which run it holds, in words; "" if it holds none."""
        if not any(self._is_there(name) for name in OF_A_RUN) and not any(self._checkpoints()):
            return ""
        if not self._is_there(RECORD):
            return "a run of an earlier version"
        try:
            return RunRecord.read(self.path).told
        except UsageError:
            return f"a run whose {RECORD} cannot be read"

    def lock(self) -> None:
        """Keep other processes out until ``close``, where the system can.

        Raises:
            UsageError: another process trains into this folder.
        """
        if sys.platform == "win32":
            return
        self.close()
        with suppress(OSError):
            self._lock = os.open(self.path, os.O_RDONLY)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.close()
                raise UsageError(f"{self.path} is being trained by {self._other_process()}; name another") from None

    def _other_process(self) -> str:
        try:
            return f"process {RunRecord.read(self.path).process}"
        except UsageError:
            return "another process"

    def close(self) -> None:
        """Let others in."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __del__(self) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        """A copy has no lock, as it would be closed twice."""
        return vars(self) | {"_lock": None}

    def begin(self) -> None:
        """Remove what an earlier run has left here, unless it is this run, and write down which one begins.

        Raises:
            UsageError: that cannot be done.
        """
        try:
            if self.pictures_alone:
                self._remove(PICTURES)
                return
            if not self._is_ours():  # the first to go is what says that the others belong together
                checkpoints = (path.name for path in self._checkpoints())
                self._remove((SETTINGS, *checkpoints, WEIGHTS, HISTORY, *PICTURES, *COMPARISON))
            self.record.write(self.path)
            self.has_begun = True
        except OSError as error:
            reason = error.strerror or error
            raise self._refused(f"cannot be written to: {reason}") from None

    def keep(self) -> None:
        """Make the folder again, with the record of the run, if it was deleted, as far as that can be done now."""
        with suppress(OSError):
            if not self.pictures_alone and not self._is_there(RECORD):
                self._make_again()
                self.record.write(self.path)

    def _is_ours(self) -> bool:
        try:
            return RunRecord.read(self.path).run == self.record.run
        except UsageError:
            return False

    def _remove(self, names: tuple[str, ...]) -> None:
        """Remove files of these names, here or among the checkpoints, and nothing else."""
        checkpoints = self.path / CHECKPOINTS
        for name in names:
            ((checkpoints if CHECKPOINT_NAME.fullmatch(name) else self.path) / name).unlink(missing_ok=True)
        remove_drafts(self.path)
        if checkpoints.is_dir():
            remove_drafts(checkpoints)
            with suppress(OSError):  # something else is in it
                checkpoints.rmdir()

    def _is_there(self, name: str) -> bool:
        return os.path.lexists(self.path / name)

    def _checkpoints(self) -> Iterator[Path]:
        with suppress(OSError):
            yield from (path for path in (self.path / CHECKPOINTS).iterdir() if CHECKPOINT_NAME.fullmatch(path.name))

    # ---- after training ----------------------------------------------------------------------------------------------

    def commit(
        self, files: Mapping[str, bytes], about: Mapping[str, Any], draw: Callable[[Path], list[str]]
    ) -> tuple[Path, list[str], OSError | None]:
        """Write what a run has come to: where it went, the names of what was written, and why it went elsewhere, if so.

        Whoever finds ``settings.json`` finds files of one run, all of them whole: it goes first and comes last, and has
        the SHA-256 of the others. A folder that was deleted is made again. One that cannot be written to costs nothing:
        then all goes to a new folder in the current folder, in the home folder, or in that for temporary files.

        Args:
            files: by name, in their order; none for pictures alone.
            about: what ``settings.json`` says.
            draw: writes the pictures to a folder, and returns their names.

        Raises:
            OSError: none of these folders can be written to.
        """
        try:
            self._make_again()
            return self.path, self._commit(self.path, files, about, draw), None
        except OSError as error:
            path, names = elsewhere(lambda folder: self._commit(folder, files, about, draw), error)
            return path, names, error

    def _make_again(self) -> None:
        """Make the folder again if it was deleted; whoever has taken its name in the meantime keeps it."""
        try:
            if not self.path.is_dir():
                self.path.mkdir(parents=True)
                self.lock()
            if not self.pictures_alone and self._is_there(RECORD) and not self._is_ours():
                raise OSError(errno.EEXIST, "another run has been made in it")
        except UsageError as error:
            raise OSError(errno.EEXIST, str(error)) from None

    def _commit(
        self, folder: Path, files: Mapping[str, bytes], about: Mapping[str, Any], draw: Callable[[Path], list[str]]
    ) -> list[str]:
        if not files:
            return draw(folder)
        if not (folder / RECORD).is_file():
            self.record.write(folder)
        (folder / SETTINGS).unlink(missing_ok=True)
        for name, content in files.items():
            write_atomically(folder / name, content)
        try:
            pictures = draw(folder)
        finally:  # a picture that cannot be drawn does not cost the others
            checksums = {name: sha256(content).hexdigest() for name, content in files.items()}
            told = {"run": self.record.run, **about, "sha256": checksums}
            write_atomically(folder / SETTINGS, (json.dumps(told, indent=2) + "\n").encode())
        return [*files, SETTINGS, *pictures]


def elsewhere(write: Callable[[Path], T], error: OSError) -> tuple[Path, T]:
    """Write to a new folder in the current folder, in the home folder, or in that for temporary files: the first that
    can be written to; it, and what ``write`` gives.

    Raises:
        OSError: ``error``, which says why not where it belongs; none of them can.
    """
    for base in (os.getcwd, Path.home, tempfile.gettempdir):
        with suppress(OSError, RuntimeError):  # it is gone, or there is none
            folder = Path(tempfile.mkdtemp(prefix="xpnet-", dir=base()))
            try:
                return folder, write(folder)
            except OSError:
                shutil.rmtree(folder, ignore_errors=True)
    raise error


def folder_of(settings: Settings, record: RunRecord) -> RunFolder | None:
    """The folder of a run; None where nothing is written to one. Pictures alone go to that of a recipe or of data."""
    if settings.output is None and not settings.plots:
        return None
    flag = "--output" if settings.resume is None else "--resume"
    return RunFolder(path_of(settings), record, pictures_alone=settings.output is None, flag=flag)


def path_of(settings: Settings) -> Path:
    """The path of that folder."""
    path = Path(settings.output or Path("runs") / (settings.recipe or Path(settings.data).stem))
    return path / str(settings.part) if settings.part else path
