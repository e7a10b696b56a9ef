"""One process that reads damaged files, a line of JSON for each: ``python -m benchmarks.fuzz.work NAME FIRST LAST``."""

from __future__ import annotations

import json
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from .readers import READERS, Reader

#: A file may take so long of the processor, whatever else it does, and so much memory.
SECONDS = 2.0
BYTES = 400_000_000
#: What the process may take at all: with more, the machine would suffer.
LIMIT = 4 << 30
LONGEST = 300
#: After so many seconds a reader is given up.
GIVEN_UP = 20


class GivenUp(BaseException):
    """A reader takes too long."""


def give_up(*_: object) -> None:
    raise GivenUp


def outcome(reader: Reader, path: Path, content: bytes) -> tuple[str, str]:
    """What the reader made of a file, and, where that is wrong, how."""
    try:
        found = reader.read(path)
    except AssertionError as error:
        return "wrong", str(error)
    except reader.documented as error:
        said = str(error).replace(str(path.parent), "")
        if not said or len(said) > LONGEST or not said.isprintable():
            return "unclear", said
        return "clean", ""
    except MemoryError:
        return "large", "MemoryError"
    except Exception as error:
        return "other exception", f"{type(error).__name__}: {error}"
    if reader.meant is None:
        return "right", ""
    try:
        meant = reader.meant(content)
    except Exception as error:
        return "wrong", f"it was read, but {type(error).__name__}: {error}"
    return ("right", "") if same(found, meant) else ("wrong", f"{str(found)[:200]} is not {str(meant)[:200]}")


def same(a: Any, b: Any) -> bool:
    return bool(a == b) or repr(a) == repr(b)  # NaN is not equal to itself


def main(name: str, first: int, last: int) -> None:
    reader = READERS[name]
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, give_up)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{reader.suffix}"
        for number in range(first, last):
            print(json.dumps({"begun": number}), flush=True)
            content = reader.make(random.Random(f"{name} {number}"))
            path.write_bytes(content)
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            began = time.process_time()
            signal.setitimer(signal.ITIMER_REAL, GIVEN_UP)
            try:
                kind, how = outcome(reader, path, content)
            except GivenUp:
                kind, how = "slow", f"more than {GIVEN_UP} s"
            signal.setitimer(signal.ITIMER_REAL, 0)
            seconds = time.process_time() - began
            taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most) * 1024
            if kind in ("right", "clean"):
                kind, how = ("slow", f"{seconds:.1f} s") if seconds > SECONDS else (kind, how)
                kind, how = ("large", f"{taken / 1e6:,.0f} MB") if taken > BYTES else (kind, how)
            print(json.dumps({"number": number, "outcome": kind, "how": how[:400]}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
