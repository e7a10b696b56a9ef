"""What reads files, and how it is told whether it read one right."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import random
import struct
import tempfile
import tomllib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import recipes
import train
from nn import Dropout, Linear, ReLU, Sequential, Softmax, load_model, save_model
from nn.cli import UsageError
from nn.data import DataError
from nn.data.archives import read_hdf5, read_npz
from nn.data.idx import read_idx
from nn.data.sources import load_data

from .bombs import csv_bomb, hdf5_bomb, idx_bomb, npz_bomb
from .mutate import BINARY, TEXT, VALUES, WORDS, damaged, safetensors_changed
from .runs import make_checkpoint, make_run, read_checkpoint_file, read_run

ROWS = np.random.default_rng(0).integers(0, 256, (30, 16), dtype=np.uint8)
LABELS = np.arange(30, dtype=np.uint8) % 3
#: So many of the files would grow to gigabytes.
BOMBS = 0.02


@dataclass(frozen=True)
class Reader:
    """A reader of files.

    Attributes:
        name: in the table.
        suffix: of its files.
        make: ``make(random numbers)`` gives the content of a file: mostly a damaged one.
        read: ``read(path)`` gives what is in it, to be compared.
        meant: ``meant(content)`` is what an independent reading of the bytes finds; an error says that they cannot be
            read. None: ``read`` looks for itself whether what it has makes sense, and raises AssertionError if not.
        documented: the errors that it may raise.
    """

    name: str
    suffix: str
    make: Callable[[random.Random], bytes]
    read: Callable[[Path], Any]
    meant: Callable[[bytes], Any] | None
    documented: tuple[type[Exception], ...] = (DataError,)


# ---- arrays ----------------------------------------------------------------------------------------------------------


def idx_file() -> bytes:
    return b"\0\0\x08\x03" + struct.pack(">3I", 30, 4, 4) + ROWS.tobytes()


def make_idx(rng: random.Random) -> bytes:
    if rng.random() < BOMBS:
        return idx_bomb(rng)
    content = idx_file()
    kind = rng.random()
    if kind < 0.3:
        return gzip.compress(damaged(rng, content, BINARY), 1)
    if kind < 0.5:
        return damaged(rng, gzip.compress(content, 1), BINARY)
    return damaged(rng, content, BINARY)


def meant_by_idx(content: bytes) -> Any:
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    zeros, kind, dimensions = struct.unpack(">HBB", content[:4])
    shape = struct.unpack(f">{dimensions}I", content[4 : 4 + 4 * dimensions])
    values = content[4 + 4 * dimensions :]
    assert (zeros, kind) == (0, 8)
    assert len(values) == np.prod(shape, dtype=object) > 0
    return (shape, values)


def read_idx_file(path: Path) -> Any:
    array = read_idx(path)
    return (array.shape, array.tobytes())


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def make_npz(rng: random.Random) -> bytes:
    if rng.random() < BOMBS:
        return damaged(rng, npz_bomb(300), BINARY) if rng.random() < 0.5 else npz_bomb(300)
    members = {"x_train.npy": npy(ROWS), "y_train.npy": npy(LABELS)}
    compression = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))
    inside = rng.random() < 0.5
    if inside:
        name = rng.choice([*members])
        members[name] = damaged(rng, members[name], (*BINARY, *TEXT))
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as file:
        for name, member in members.items():
            file.writestr(name, member)
    return content.getvalue() if inside else damaged(rng, content.getvalue(), BINARY)


def meant_by_npz(content: bytes) -> Any:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return as_lists(archive["x_train"], archive["y_train"])


def as_lists(x: np.ndarray, y: np.ndarray) -> Any:
    y = y.argmax(axis=1) if y.ndim == 2 and y.shape[1] > 1 else y.reshape(-1)
    return (x.reshape(len(x), -1).astype(float).tolist(), y.astype(float).tolist())


def make_hdf5(rng: random.Random) -> bytes:
    import h5py

    if rng.random() < BOMBS:
        bomb = hdf5_bomb(300, rng.choice(((30, 16), (20_000, 100_000))))
        return damaged(rng, bomb, BINARY) if rng.random() < 0.5 else bomb
    content = io.BytesIO()
    with h5py.File(content, "w", track_order=rng.random() < 0.2) as file:
        options = rng.choice(({}, {"compression": "gzip"}, {"chunks": (5, 4)}, {"fletcher32": True}))
        file.create_dataset("x_train", data=ROWS, **options)
        file["y_train"] = LABELS
    return damaged(rng, content.getvalue(), BINARY)


def meant_by_hdf5(content: bytes) -> Any:
    import h5py

    with tempfile.NamedTemporaryFile() as copy:
        copy.write(content)
        copy.flush()
        with h5py.File(copy.name, "r") as file:
            return as_lists(file["x_train"][()], file["y_train"][()])


def read_archive(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    def run(path: Path) -> Any:
        data, _ = read(path)
        return as_lists(data.x, data.y)

    return run


# ---- text ------------------------------------------------------------------------------------------------------------


def make_csv(rng: random.Random) -> bytes:
    if rng.random() < BOMBS:
        return csv_bomb(rng)
    lines = [",".join(map(str, [*row, label])) for row, label in zip(ROWS.tolist(), LABELS.tolist(), strict=True)]
    if rng.random() < 0.3:
        values = [",".join(f"{value / 7:.4g}" for value in row) for row in ROWS]
        lines = [f"{row},{label}" for row, label in zip(values, LABELS, strict=True)]
    if rng.random() < 0.6:
        lines.insert(0, ",".join([*(f"pixel{i}" for i in range(16)), rng.choice(("label", "class"))]))
    content = "\n".join(lines).encode()
    kind = rng.random()
    if kind < 0.15:
        return damaged(rng, gzip.compress(content, 1), BINARY)
    content = damaged(rng, content, TEXT)
    return gzip.compress(content, 1) if kind < 0.25 else content


def meant_by_csv(content: bytes) -> Any:
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    rows = [row for row in csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")) if row]
    head = [cell.strip().lower() for cell in rows[0]]
    label = next((i for i, name in enumerate(head) if name in ("label", "class")), -1)
    try:
        first = [float(cell) for cell in rows[0]]
    except ValueError:
        first = []
    numbers = np.array([[float(cell) for cell in row] for row in (rows if first else rows[1:])])
    labels = numbers[:, label]
    return (np.delete(numbers, label % numbers.shape[1], axis=1).tolist(), labels.tolist())


def read_csv_file(path: Path) -> Any:
    data = load_data(path, test_fraction=0.0).train
    names = data.class_names or ()
    return as_lists(data.x, np.array([float(names[label]) for label in data.y]))  # 1, 2 become 0, 1 with these names


def make_recipe(rng: random.Random) -> bytes:
    name = rng.choice(recipes.names())
    return damaged(rng, (recipes.FOLDER / f"{name}.toml").read_bytes(), TEXT)


def read_recipe(path: Path) -> Any:
    return [part.settings for part in recipes.load(str(path)).parts]


def meant_by_recipe(content: bytes) -> Any:
    def settings(part: Any) -> Any:
        tables = (table for name, table in part.items() if name not in ("title", "author", "reproduced"))
        return {key: value for table in tables for key, value in table.items()}

    document = tomllib.loads(content.decode())
    return [settings(part) for part in document.get("parts", [document])]


# ---- models ----------------------------------------------------------------------------------------------------------


@cache
def model_file() -> bytes:
    model = Sequential(Linear(4, 5), ReLU(), Dropout(0.1), Linear(5, 3), Softmax(), backend="cpu")
    path = Path(train.__file__).with_name(".fuzz.safetensors")
    save_model(model, path)
    try:
        return path.read_bytes()
    finally:
        path.unlink()


def make_model(rng: random.Random) -> bytes:
    whole = model_file()
    if rng.random() < 0.35:
        return damaged(rng, whole, BINARY)
    part = "header" if rng.random() < 0.25 else "tensors" if rng.random() < 0.2 else "xpnet"
    return safetensors_changed(rng, whole, part)


def read_model(path: Path) -> Any:
    """Loads it, and looks whether what it predicts makes sense."""
    model = load_model(path, "cpu")
    x = np.zeros((2, *(model.row_shape or (4,))), np.float32)
    outputs = model(x)
    assert np.isfinite(outputs).all(), "outputs are not finite"
    assert all(np.isfinite(values).all() for values in model.state_dict().values()), "weights are not finite"
    assert len(model.predict(x)) == 2
    assert model.task in ("classes", "labels", "values")
    assert isinstance(model.seed, int)
    assert isinstance(model.step, int)
    return None


# ---- the command line ------------------------------------------------------------------------------------------------


def make_command(rng: random.Random) -> bytes:
    from nn.cli import SETTINGS

    flags = [flag for setting in SETTINGS.values() for flag in setting.flags]
    words: list[str] = []
    for _ in range(rng.randrange(1, 6)):
        flag = rng.choice(flags) if rng.random() < 0.9 else rng.choice(("--nothing", "-x", "--", "data", *WORDS[:20]))
        words.append(flag if rng.random() < 0.95 else damaged(rng, flag.encode(), TEXT).decode(errors="replace"))
        for _ in range(rng.choice((0, 1, 1, 1, 2))):
            value = rng.choice((*WORDS, *VALUES, "3", "0.1", "relu", "adam", "mnist", "cpu", "test", "full"))
            words.append(str(value))
    return json.dumps(words).encode()


def read_command(path: Path) -> Any:
    words = json.loads(path.read_bytes())
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            train.parse(words)
        except SystemExit as end:
            if end.code not in (0, None):
                raise RuntimeError(f"it ends with {end.code}") from None
    return None


READERS = {
    reader.name: reader
    for reader in (
        Reader("IDX", ".idx", make_idx, read_idx_file, meant_by_idx),
        Reader("npz", ".npz", make_npz, read_archive(read_npz), meant_by_npz),
        Reader("HDF5", ".h5", make_hdf5, read_archive(read_hdf5), meant_by_hdf5),
        Reader("CSV", ".csv", make_csv, read_csv_file, meant_by_csv),
        Reader("recipe", ".toml", make_recipe, read_recipe, meant_by_recipe, (UsageError,)),
        Reader("model", ".safetensors", make_model, read_model, None, (ValueError,)),
        Reader("checkpoint", ".safetensors", make_checkpoint, read_checkpoint_file, None, (ValueError,)),
        Reader("run", ".json", make_run, read_run, None, (UsageError,)),
        Reader("command line", ".json", make_command, read_command, None, (UsageError,)),
    )
}
