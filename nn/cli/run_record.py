"""Which run a folder holds: its ``run.json``, written before training begins, from which the run can be made again."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..files import write_atomically
from ..messages import first_line
from ..version import __version__
from .flags import command_line
from .kinds import SIZE, UsageError
from .settings import SETTINGS, Settings

RECORD = "run.json"
#: The version of the format.
FORMAT = 1
#: No file of settings is larger, in bytes.
MOST_BYTES = 50_000_000
#: What recipes say beside settings, and which settings were given by flags.
BESIDE = ("title", "author", "reproduced", "given", "changed")
#: Settings that belong to one call of the command, not to the run.
OF_A_CALL = ("resume", "overwrite")


@dataclass(frozen=True)
class RunRecord:
    """What is known of a run before it begins.

    Attributes:
        settings: the values of all settings, as JSON has them.
        beside: what stands beside them, by name.
        run: its id, which every file of it carries: 16 hexadecimal digits.
        begun: when it began first, in UTC, as ISO 8601 has it.
        folder: the working directory in which it began, which relative paths start from.
        command: the command that repeats it.
        device: where it is trained.
        process: the id of the process that trained it last.
        xpnet: the version that trained it last.
    """

    settings: dict[str, Any]
    beside: dict[str, Any]
    run: str = field(default_factory=lambda: secrets.token_hex(8))
    begun: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    folder: str = field(default_factory=lambda: working_directory())
    command: str = ""
    device: str = ""
    process: int = field(default_factory=os.getpid)
    xpnet: str = __version__

    @classmethod
    def of(cls, settings: Settings) -> RunRecord:
        """The record of a new run."""
        values = json.loads(json.dumps({name: settings.values[name] for name in SETTINGS if name not in OF_A_CALL}))
        beside = {name: getattr(settings, name) for name in BESIDE} | {"given": sorted(settings.given)}
        return cls(values, json.loads(json.dumps(beside)), command=command_line(settings))

    def going_on(self, settings: Settings) -> RunRecord:
        """The record of the same run when it goes on with these settings."""
        new = RunRecord.of(settings)
        return replace(new, run=self.run, begun=self.begun, folder=self.folder)

    def restored(self) -> Settings:
        """The settings.

        Raises:
            UsageError: one of them is none that this version knows, or has a value that it does not take.
        """
        known = {name: entry for name, entry in SETTINGS.items() if name not in OF_A_CALL}
        if unknown := sorted(set(self.settings) - set(known)):
            raise UsageError(f"its setting {unknown[0]!r} is unknown here; update xpnet")
        values = {name: _value(name, value) for name, value in self.settings.items()}
        if not _makes_sense(self.beside):
            raise UsageError(f"what {RECORD} says beside its settings makes no sense; begin another run")
        beside = self.beside | {"given": frozenset(self.beside["given"]), "changed": tuple(self.beside["changed"])}
        return Settings(**values, **beside)

    @property
    def told(self) -> str:
        """Which run it is, in words."""
        return f"the run {self.run} of {self.begun[:16].replace('T', ' ')} UTC"

    def write(self, folder: Path) -> None:
        """Write it to a folder, whole or not at all."""
        told = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        content = {"format": FORMAT, **{name: told.pop(name) for name in (*told,)[2:]}, **told}  # settings come last
        content["sha256"] = _checksum(content)
        write_atomically(folder / RECORD, (json.dumps(content, indent=2) + "\n").encode())

    @classmethod
    def read(cls, folder: Path) -> RunRecord:
        """The record of the run that a folder holds.

        Raises:
            UsageError: it has none, or one that is damaged, or of a newer version.
        """
        path = folder / RECORD
        try:
            if not path.is_file():
                if not folder.is_dir():
                    told = "is a file, and no folder" if folder.exists() else "is not there"
                    raise UsageError(f"{folder} {told}; name the folder that --output of the run has named")
                if (folder.parent / RECORD).is_file():
                    raise UsageError(f"{folder} is inside of the folder of a run; name that: {folder.parent}")
                raise UsageError(
                    f"{folder} holds no run: there is no {RECORD}; name another folder, or begin the run again, as one "
                    "that was killed before it had begun to train"
                )
            if path.stat().st_size > MOST_BYTES:
                raise ValueError("it is too large")
            content = json.loads(path.read_bytes())
            written = content.pop("format")
            if isinstance(written, int) and written > FORMAT:
                raise UsageError(f"{path}: a newer version of xpnet wrote it (format {written}); update xpnet")
            if content.pop("sha256") != _checksum({"format": written, **content}):
                raise ValueError("its checksum is wrong")
            record = cls(**content)
            kinds = {"settings": dict, "beside": dict, "process": int}
            for entry in fields(record):
                if not isinstance(getattr(record, entry.name), kinds.get(entry.name, str)):
                    raise ValueError(f"its {entry.name} is none")
            if not (record.run + record.begun).isprintable():
                raise ValueError("its id or its time is none")
            return record
        except UsageError:
            raise
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
        except Exception as error:  # whatever the bytes are
            raise UsageError(f"{path} is damaged ({first_line(error)}); a new run replaces it by --overwrite") from None


def _makes_sense(beside: dict[str, Any]) -> bool:
    """Whether these are values of ``BESIDE``."""
    if {*beside} != {*BESIDE} or not isinstance(beside["title"], str):
        return False
    lists, tables = (beside["given"], beside["changed"]), (beside["author"], beside["reproduced"])
    return all(isinstance(table, dict) for table in tables) and all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists
    )


def working_directory() -> str:
    """The current folder; "" if it is gone."""
    try:
        return str(Path.cwd())
    except OSError:
        return ""


def _value(name: str, value: Any) -> Any:
    """What a run holds for a value that was written as JSON."""
    entry = SETTINGS[name]
    if value == json.loads(json.dumps(entry.default)):
        return entry.default
    if value is None and entry.kind is SIZE:
        return None
    found = entry.kind.from_recipe(value)
    if entry.name != "compare" and (problem := entry.problem(found)):
        raise UsageError(f"its setting {name}{problem}")
    return entry.kind.final(found)


def _checksum(content: dict[str, Any]) -> str:
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
