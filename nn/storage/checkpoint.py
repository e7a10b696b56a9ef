"""Checkpoints on disk: what a training run needs to go on, each in one file, the newest ones of a folder.

A file is safetensors: the arrays by name, and in its metadata one JSON text with everything else and a checksum over
both. It is written to a draft, flushed, and renamed; so a run that is killed at any moment leaves whole files. Nothing
in a file is executed.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from backends.typing import Array, HostArray

from ..files import write_atomically
from ..messages import OneSentence, first_line, sentence
from .model_file import checksum

#: The version of the format.
FORMAT = 1
#: What a checkpoint is called: the number says which one is the newest.
NAME = re.compile(r"checkpoint-(\d{6,12})\.safetensors")
#: An entry of the JSON text that stands for an array, and one for a number that JSON does not have.
ARRAY, NUMBER = "$array", "$number"


class CheckpointError(OneSentence, ValueError):
    """A checkpoint that is none, is damaged, is of a newer version or of another run; the message is one sentence."""


class CheckpointWarning(OneSentence, RuntimeWarning):
    """A checkpoint could not be written or not be read, so another one serves; or a run goes on elsewhere, where it is
    the same within rounding only."""


def checkpoints_in(folder: str | Path) -> list[Path]:
    """The checkpoints of a folder, the newest first; none where there is no such folder."""
    with suppress(FileNotFoundError, NotADirectoryError):
        found = [path for path in Path(folder).iterdir() if NAME.fullmatch(path.name)]
        return sorted(found, key=_number, reverse=True)
    return []


def write_checkpoint(
    folder: str | Path, state: Mapping[str, Any], keep: int = 2, to_numpy: Callable[[Array], HostArray] | None = None
) -> Path:
    """Write a state beside the checkpoints of ``folder``, which is made if need be, and remove all but the ``keep``
    newest.

    Args:
        state: texts, numbers, lists, arrays, and dicts of these by name.
        to_numpy: gives an array as one of NumPy, where they are others.

    Returns:
        The file.

    Raises:
        OSError: it cannot be written; what was there is still there.
        TypeError: there is something else in ``state``.
    """
    from safetensors.numpy import save

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, HostArray] = {}
    written = {"format": FORMAT, **_without_arrays(dict(state), "", arrays, to_numpy or (lambda array: array))}
    written["sha256"] = checksum(written, arrays)
    there = checkpoints_in(folder)
    path = folder / f"checkpoint-{_number(there[0]) + 1 if there else 1:08d}.safetensors"
    write_atomically(path, save(arrays, metadata={"xpnet-checkpoint": json.dumps(written)}))
    for old in there[max(keep - 1, 0) :]:
        with suppress(OSError):
            old.unlink()
    return path


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The state in a file, with NumPy arrays.

    Raises:
        CheckpointError: it is no checkpoint, is damaged, or is of a newer version.
        OSError: it cannot be read.
    """
    from safetensors import safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(sentence(f"{path}: there is no such file"))
    try:
        with safe_open(path, framework="numpy") as file:
            written = json.loads((file.metadata() or {})["xpnet-checkpoint"])
            if not isinstance(written, dict):
                raise CheckpointError("its description is no JSON object")
            version = written.get("format")
            if not isinstance(version, int) or version > FORMAT:
                raise CheckpointError(f"a newer version of xpnet wrote it (format {version!r}); update xpnet")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is not a mapping)
        if written.pop("sha256", None) != checksum(written, arrays):
            raise CheckpointError("its checksum is wrong, so something in it has changed")
        state: dict[str, Any] = _with_arrays(written, arrays)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except OSError:
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {first_line(error, 100)}"
        raise CheckpointError(f"{path} is no checkpoint of xpnet ({what})") from None
    return state


def newest_checkpoint(folder: str | Path) -> dict[str, Any] | None:
    """The state in the newest checkpoint of a folder that is whole; None where there is none at all.

    Raises:
        CheckpointError: there are some, but none is whole.
        OSError: one cannot be read.

    Warns:
        CheckpointWarning: the newest is not whole.
    """
    damaged: CheckpointError | None = None
    for path in checkpoints_in(folder):
        try:
            state = read_checkpoint(path)
        except FileNotFoundError:  # whoever goes on with the run has just removed it, for a newer one
            continue
        except CheckpointError as error:
            damaged = damaged or error
            continue
        if damaged is not None:
            warnings.warn(f"{damaged}; {path} serves, which is older", CheckpointWarning, stacklevel=3)
        return state
    if damaged is not None:
        raise damaged
    return None


def _number(path: Path) -> int:
    found = NAME.fullmatch(path.name)
    return int(found[1]) if found else 0


def _without_arrays(value: Any, name: str, arrays: dict[str, HostArray], to_numpy: Callable[[Array], HostArray]) -> Any:
    """``value`` as JSON has it; its arrays go to ``arrays``, by where they stand."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {NUMBER: repr(float(value))}
    if isinstance(value, Mapping):
        if others := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"names in a checkpoint are texts, but {name[1:]} has {others[0]!r}")
        return {key: _without_arrays(item, f"{name}/{key}", arrays, to_numpy) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_arrays(item, f"{name}/{index}", arrays, to_numpy) for index, item in enumerate(value)]
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        if not value.shape:  # a number of NumPy or of the device
            return _without_arrays(value.item(), name, arrays, to_numpy)
        array = to_numpy(value)
        if array.dtype.kind in "biuf":
            called = name[1:] if name[1:] not in arrays else f"{name[1:]} ({len(arrays)})"
            # The library writes memory as it lies there, as if it were of this machine's byte order.
            arrays[called] = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
            return {ARRAY: called}
    raise TypeError(f"a checkpoint can hold numbers, texts, arrays, lists and dicts, but {name[1:]} is {value!r}")


def _with_arrays(value: Any, arrays: Mapping[str, HostArray]) -> Any:
    if isinstance(value, dict):
        if ARRAY in value:
            return arrays[value[ARRAY]]
        if NUMBER in value:
            return float(value[NUMBER])
        return {key: _with_arrays(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_arrays(item, arrays) for item in value]
    return value
