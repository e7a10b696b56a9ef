"""A run that goes on: its settings, as its folder tells them, and its trainer, as its last checkpoint tells."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from ..callbacks import Callback, Checkpoint
from ..data.sources import OWN_SOURCES
from ..history import Record
from ..storage.checkpoint import CheckpointError, checkpoints_in, newest_checkpoint
from ..trainer import Trainer
from .flags import words_of, words_of_program
from .kinds import SWITCH, UsageError, times_of_checkpoints
from .run_folder import CHECKPOINTS, SETTINGS, RunFolder, path_of
from .run_record import RECORD, RunRecord, working_directory
from .settings import SETTINGS as ENTRIES
from .settings import Settings

#: What may be others when a run goes on: where it is computed, what is printed and drawn, how long it is, and where the
#: data are, which are known by their hash.
MAY_DIFFER = {
    "device", "threads", "processes", "epochs", "data", "data_dir", "confusion", "predictions", "plots", "report",
    "log", "tensorboard", "quiet", "checkpoint_every",
}  # fmt: skip
#: How often a launcher has started a command again: torchrun, and SLURM, which has put a job into the queue again.
TIMES_STARTED_AGAIN = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
#: Settings that are paths, which start from the folder in which the run began.
PATHS = ("data", "data_dir", "start_from", "report", "log", "tensorboard")


def started_again(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags of a run; with ``--resume``, where torchrun or SLURM say that they have started the same command again,
    as a process or a machine had failed, and the folder of ``--output`` holds the run of the first time."""
    again = any(os.environ.get(name, "0") not in ("", "0") for name in TIMES_STARTED_AGAIN)
    known = again and "output" in flags and (Path(flags["output"]) / RECORD).is_file()
    return {**flags, "resume": flags["output"]} if known and not {"resume", "overwrite"} & {*flags} else dict(flags)


def resumed_settings(flags: Mapping[str, Any]) -> Settings:
    """The settings of the run that the folder of ``--resume`` holds, with those that other flags change.

    Raises:
        UsageError: the folder holds no run, or its record is damaged; or a flag differs from the run.
    """
    folder = Path(flags["resume"])
    record = RunRecord.read(folder)
    try:
        settings = record.restored()
    except UsageError as error:
        raise UsageError(f"--resume {folder}: {error}") from None
    if settings.compare:
        raise UsageError(f"--resume {folder}: it holds a comparison of devices, which does not go on; repeat it")
    changed = {name: _changed(name, value, settings, folder) for name, value in flags.items() if name != "resume"}
    changed = {name: value for name, value in changed.items() if name in MAY_DIFFER}
    here = {name: _from_here(name, value, record.folder) for name, value in changed.items()}
    there = {name: _found_again(name, getattr(settings, name), record.folder) for name in PATHS if name not in changed}
    output = {"output": str(folder), "resume": str(folder), "quiet": "quiet" in flags}
    given = settings.given | frozenset(changed) | {"output"}
    settings = replace(settings, **{**there, **here, **output}, given=given)
    for name in changed:
        if why := ENTRIES[name].why_idle(settings):
            raise UsageError(f"{ENTRIES[name].flag} would do nothing here, as {why}; leave it out")
    return settings


def _changed(name: str, value: Any, settings: Settings, folder: Path) -> Any:
    """The value of a flag, which may differ from that of the run, or does not."""
    entry, value = ENTRIES[name], ENTRIES[name].kind.final(value)
    if name == "overwrite":
        raise UsageError("--overwrite would do nothing here, as --resume goes on with the run; leave it out")
    if name == "output":
        known, is_same = str(folder), os.path.realpath(value) == os.path.realpath(folder)
    else:
        known, is_same = getattr(settings, name), value == getattr(settings, name)
        if name == "recipe" and known is not None:
            is_same = Path(value).stem == known
    if name not in MAY_DIFFER and not is_same:
        was = "the run was begun without it" if known is None else f"that of the run is {_told(name, known)}"
        said = f"{entry.flag} {_told(name, value)}".strip()
        raise UsageError(f"{said}: a run goes on as it was begun, and {was}; leave it out, or begin another run")
    return value


def _told(name: str, value: Any) -> str:
    """The words of a flag."""
    return "" if ENTRIES[name].kind is SWITCH else " ".join(words_of(ENTRIES[name], value))


def _is_relative(name: str, value: Any) -> bool:
    is_path = name in PATHS and value is not None and not (name == "data" and value.lower() in OWN_SOURCES)
    return is_path and not Path(value).is_absolute()


def _found_again(name: str, value: Any, began_in: str) -> Any:
    """A path of the run, which has begun in that folder, as it is from here."""
    if not began_in or began_in == working_directory() or not _is_relative(name, value):
        return value
    if name == "data" and "," in value:  # two files
        return ",".join(_found_again(name, part.strip(), began_in) for part in value.split(","))
    there = Path(began_in) / value
    return str(there) if (there if name in ("data", "data_dir", "start_from") else there.parent).exists() else value


def _from_here(name: str, value: Any, began_in: str) -> Any:
    """A path that is given now, as it is from the folder in which the run has begun."""
    if began_in == working_directory() or not _is_relative(name, value):
        return value
    if name == "data" and "," in value:
        return ",".join(_from_here(name, part.strip(), began_in) for part in value.split(","))
    return os.path.abspath(value)


def record_of(settings: Settings) -> RunRecord:
    """The record of a new run, or of that which goes on."""
    if settings.resume is None:
        return RunRecord.of(settings)
    return RunRecord.read(Path(settings.resume)).going_on(settings)


def go_on(settings: Settings, folder: RunFolder, trainer: Trainer) -> str:
    """Let a trainer, built for the run that a folder holds, be as its last checkpoint tells; what to say of it.

    Raises:
        UsageError: the checkpoints are of another run, or of one with other settings; or the run has ended, and there
            is none.
    """
    checkpoints, record = folder.path / CHECKPOINTS, folder.record
    try:
        if trainer.resume(checkpoints, missing_ok=True):
            if trainer.history.run != record.run:
                raise UsageError(f"{checkpoints} has checkpoints of another run, {trainer.history.run}; remove them")
            if settings.epochs < trainer.epoch + bool(trainer.seen):
                made = trainer.epoch + bool(trainer.seen)
                raise UsageError(
                    f"--epochs {settings.epochs}: {record.told} has begun {made} already; say how many in all"
                )
            return _where(trainer)
        why = "there is no checkpoint"
    except CheckpointError as error:
        if "newer version" in str(error) or is_whole(checkpoints):
            raise UsageError(f"--resume {folder.path}: {error}") from None
        why = "no checkpoint is whole"
    if (folder.path / SETTINGS).exists() and settings.epochs:
        raise UsageError(
            f"--resume {folder.path}: {why}, so {record.told}, which has ended, cannot go on; begin it again by "
            "--overwrite"
        )
    trainer.history.run = record.run
    return f"{why}: {record.told} begins again"


def is_whole(checkpoints: Path) -> bool:
    """Whether the newest checkpoint of a folder, or an older one, can be read."""
    try:
        return newest_checkpoint(checkpoints) is not None
    except CheckpointError:
        return False


def _where(trainer: Trainer) -> str:
    done = f"{trainer.epoch} epoch{'s' * (trainer.epoch != 1)}"
    rows = f" and {trainer.seen:,} rows of the next" if trainer.seen else ""
    return f"the run goes on after {done}{rows}"


class HoldsRun(Callback):
    """Has the folder say from the beginning which run it holds, also if it is deleted while training runs."""

    first_only: ClassVar[bool] = True

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def on_fit_begin(self, trainer: Trainer, rows: int, epochs: int) -> None:
        self.folder.begin()

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        self.folder.keep()


def folder_callbacks(settings: Settings, folder: RunFolder) -> list[Callback]:
    """What a folder needs while training runs: who says which run it holds, and who writes checkpoints."""
    when = times_of_checkpoints(settings.checkpoint_every)
    has_checkpoints = when and not folder.pictures_alone
    return [HoldsRun(folder), *([Checkpoint(folder.path / CHECKPOINTS, **when)] if has_checkpoints else [])]


def way_to_go_on(settings: Settings) -> str:
    """The command by which a run with a folder goes on, to be read after another sentence; "" if it cannot."""
    path = path_of(settings)
    can_go_on = checkpoints_in(path / CHECKPOINTS) or not (path / SETTINGS).exists()
    if not (can_go_on and (path / RECORD).is_file()):
        return ""
    return f"; go on with: {shlex.join([*words_of_program(), '--resume', str(path)])}"
