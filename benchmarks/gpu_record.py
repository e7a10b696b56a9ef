"""``python -m benchmarks.gpu_record``: every operation tried on the GPU of this machine, and a record of it to commit.

Writes ``benchmarks/results/gpu-operations.json``. The matrix of proof in ``docs/agreement.md`` says of an operation
that it ran on a GPU only where that file says so. The file is one JSON object:

    format    1
    commit    what was tried, 40 hex digits; nothing under backends/ differed from it
    date      of the run, as 2026-11-21
    seed, every   of the check: which inputs
    text      for each dtype the digest of the CUDA text that ran; the matrix says where the text is another by now
    devices   the devices: spec, library with version, hardware with driver
    tried     a list: spec, fused, dtype, operation (a name of ``backends.check.parts``), calls, wrong, first_wrong
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from backends import Backend, DeviceError, get_backend
from backends.base import DTYPES
from backends.check import check, parts
from backends.check.cases import WITHOUT_RESULT
from backends.cuda.device import CupyDevice
from backends.cuda.launch import texts

ROOT = Path(__file__).parent.parent
OUT = Path(__file__).parent / "results" / "gpu-operations.json"
FORMAT = 1
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Tried:
    """An operation, or a part of one, on a backend: how many calls were made, and in how many of them it was wrong."""

    spec: str
    fused: bool
    dtype: str
    operation: str
    calls: int
    wrong: int = 0
    first_wrong: str = ""


@dataclass(frozen=True)
class Record:
    """What ran on a GPU: see the text of this module."""

    commit: str
    date: str
    seed: int
    every: int
    text: dict[str, str]
    devices: list[dict[str, str]]
    tried: list[Tried]


# ---- trying ----------------------------------------------------------------------------------------------------------


def operations() -> list[str]:
    """What is tried: the parts of all operations, and the operations without a result."""
    return [*parts(), *sorted(WITHOUT_RESULT)]


def try_operations(backend: Backend, seed: int = 0, every: int = 1) -> Iterator[Tried]:
    """Every one of ``operations()`` by the check. One without a result is right if it was called and raised nothing."""
    spec, fused, dtype = backend.device.spec, backend.fused, backend.dtype_name
    calls = dict.fromkeys(sorted(WITHOUT_RESULT), 0)

    def counted(name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            result = operation(*arguments, **options)
            calls[name] += 1
            return result

        return call

    for name in calls:
        setattr(backend, name, counted(name, getattr(backend, name)))
    try:
        for part in parts():
            (result,) = check(backend, seed, operations=[part], every=every)
            yield Tried(spec, fused, dtype, part, result.cases, result.wrong, result.first_wrong)
    finally:
        for name in calls:
            delattr(backend, name)
    for name, count in calls.items():
        yield Tried(spec, fused, dtype, name, count)


def is_gpu(backend: Backend) -> bool:
    """Whether it computes on a GPU, and not on an emulated one."""
    device = backend.device
    return isinstance(device, CupyDevice) and device.cupy.__name__ == "cupy"


def record_of(backends: Sequence[Backend], commit: str, seed: int = 0, every: int = 1) -> Record:
    """Try the operations of those backends, each on a GPU.

    Raises:
        ValueError: one of them is not on a GPU, or ``commit`` is none.
    """
    if not backends or not all(map(is_gpu, backends)):
        raise ValueError(f"a record is of backends on a GPU, not of {', '.join(map(repr, backends)) or 'none'}")
    devices = {backend.device.spec: backend.device for backend in backends}
    tried = [tried for backend in backends for tried in try_operations(backend, seed, every)]
    return checked(
        Record(
            commit=commit,
            date=date.today().isoformat(),
            seed=seed,
            every=every,
            text=text_digests(),
            devices=[{"spec": d.spec, "library": d.version(), "hardware": d.hardware()} for d in devices.values()],
            tried=tried,
        )
    )


def text_digests() -> dict[str, str]:
    """SHA-256 of the CUDA texts, for each dtype."""
    reals = {"float32": "float", "float64": "double"}
    return {dtype: hashlib.sha256("".join(texts(real)).encode()).hexdigest() for dtype, real in reals.items()}


# ---- the file --------------------------------------------------------------------------------------------------------


def write(record: Record, path: Path = OUT) -> None:
    """Write the file, an operation a line."""
    head = json.dumps({"format": FORMAT, **{k: v for k, v in asdict(record).items() if k != "tried"}}, indent=1)
    tried = ",\n  ".join(json.dumps(asdict(it)) for it in record.tried)
    path.write_text(f'{head.rstrip("}").rstrip()},\n "tried": [\n  {tried}\n ]\n}}\n', encoding="utf-8")


def read(path: Path = OUT) -> Record | None:
    """The record; None where no GPU has been recorded yet.

    Raises:
        ValueError: the file is not such a record; the message says what is wrong with it.
    """
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found.pop("format") != FORMAT:
            raise ValueError(f"only format {FORMAT} is known")
        return checked(Record(**{**found, "tried": [Tried(**it) for it in found["tried"]]}))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is no record of a GPU: {error}") from error


def checked(record: Record) -> Record:
    """``record``, or a ValueError that says what cannot be so."""
    if not COMMIT.fullmatch(record.commit):
        raise ValueError(f"a commit is 40 hex digits, not {record.commit!r}")
    if not all(device["library"] and device["hardware"] for device in record.devices):
        raise ValueError("a device without its library or its hardware")
    if record.text.keys() != set(DTYPES):
        raise ValueError(f"`text` must have {', '.join(DTYPES)}, not {', '.join(record.text)}")
    specs = {device["spec"] for device in record.devices}
    for it in record.tried:
        if it.spec not in specs or it.dtype not in DTYPES or not 0 <= it.wrong <= it.calls:
            raise ValueError(f"{it} cannot be")
    return record


# ---- the command line ------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Try and write; 1 if an operation is out of its bounds, 2 if no GPU can be used or it is not clear what ran."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_record", description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda", metavar="SPEC", help="default: cuda")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random inputs")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="try every N-th input only")
    parser.add_argument("--commit", default="", help="what is tried, where this folder is no repository of git")
    parser.add_argument("--output", type=Path, default=OUT, metavar="FILE")
    settings = parser.parse_args(argv)
    try:
        commit = commit_of(ROOT, settings.commit)
        backends = [get_backend(settings.device, dtype, fused) for fused in (True, False) for dtype in DTYPES]
        record = record_of(backends, commit, settings.seed, settings.every)
    except (DeviceError, ValueError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    write(record, settings.output)
    wrong = [it for it in record.tried if it.wrong]
    for it in wrong:
        print(f"{it.operation} {it.dtype}{'' if it.fused else ', reference'}: WRONG in {it.wrong}: {it.first_wrong}")
    print(f"wrote {settings.output}: {len(record.tried)} operations, {sum(it.calls for it in record.tried):,} calls")
    print("commit it, then python -m tests.proof writes the matrix of proof")
    return 1 if wrong else 0


def commit_of(root: Path, given: str = "") -> str:
    """The commit that is checked out in ``root``, or the one ``given`` where git does not know.

    Raises:
        ValueError: files of the backends differ from it, or nobody says which it is.
    """

    def git(*words: str) -> str:
        try:
            done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return ""
        return done.stdout.strip()

    found = git("rev-parse", "HEAD") or given
    if not found:
        raise ValueError("this folder is no repository of git: say what is tried by --commit")
    if given not in ("", found):
        raise ValueError(f"--commit {given} is not what is checked out: that is {found}")
    if changed := git("status", "--porcelain", "--", "backends"):
        raise ValueError(f"commit the changes of backends/ first, so that the record can name what ran:\n{changed}")
    return found


if __name__ == "__main__":
    sys.exit(main())
