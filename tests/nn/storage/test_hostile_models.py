"""Model files that somebody made to harm whoever loads them, with the right checksum."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load

from nn import Linear, ReLU, Sequential, load_model, save_model
from nn.storage.model_file import ModelFileError, checksum
from tests.helpers.memory import at_most

DEEP = "[" * 100_000 + "]" * 100_000


def parts(path: Path) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """The header of a file, the description in it, and its numbers."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    return header, json.loads(header["__metadata__"]["xpnet"]), content[8 + size :]


def write(path: Path, header: dict[str, Any], description: Any, numbers: bytes, text: str | None = None) -> None:
    """``text`` is the description as written, if it is no JSON that Python can write."""
    if text is None:
        description.pop("sha256", None)
        description["sha256"] = checksum(description, load(path.read_bytes()))
        text = json.dumps(description)
    header["__metadata__"]["xpnet"] = text
    written = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(written)) + written + numbers)


LAYERS = {
    "gigabytes": ({"type": "Linear", "in_features": 10**9, "out_features": 10**9}, "has shape"),
    "more than can be counted": ({"type": "Linear", "in_features": 2**70, "out_features": 2}, ""),
    "less than nothing": ({"type": "Linear", "in_features": -1, "out_features": 2}, ""),
    "no type": ({"in_features": 4}, "KeyError"),
    "no layer": (3, ""),
    "an unknown setting": ({"type": "Linear", "in_features": 4, "out_features": 3, "__class__": 1}, ""),
    "a method": ({"type": "Linear.forward"}, "not known here"),
}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_model(Sequential(Linear(4, 3), ReLU(), backend="cpu"), tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def refused(path: Path, message: str = "") -> None:
    began = time.perf_counter()
    with at_most(3 << 30), pytest.raises(ModelFileError, match=rf"m\.safetensors.*{message}") as caught:
        load_model(path, "cpu")
    assert time.perf_counter() - began < 20
    assert len(str(caught.value).replace(str(path), "")) < 300
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("kind", LAYERS)
def test_layers_that_no_file_should_have_are_refused(saved: Path, kind: str) -> None:
    header, description, numbers = parts(saved)
    layer, message = LAYERS[kind]
    write(saved, header, description | {"layers": [layer, {"type": "ReLU"}]}, numbers)
    refused(saved, message)


def test_a_file_written_anew_is_read(saved: Path) -> None:
    """So that what is refused above is not refused for the way it was written."""
    write(saved, *parts(saved))
    assert load_model(saved, "cpu").layers == [Linear(4, 3), ReLU()]


@pytest.mark.parametrize("key", ["layers", "units", "class_names", "task", "loss_settings"])
def test_lists_in_lists_are_refused(saved: Path, key: str) -> None:
    header, description, numbers = parts(saved)
    text = json.dumps(description | {key: "deep"}).replace('"deep"', DEEP)
    write(saved, header, None, numbers, text)
    refused(saved)


def test_a_description_of_megabytes_is_refused(saved: Path) -> None:
    header, description, numbers = parts(saved)
    write(saved, header, description | {"layers": [{"type": "ReLU"}] * 100_000}, numbers)
    refused(saved, "array 0.bias is not one of its layers")


@pytest.mark.parametrize("size", [2**63, 2**40, 2**31, 7])
def test_a_header_that_claims_more_than_there_is_is_refused(saved: Path, size: int) -> None:
    saved.write_bytes(struct.pack("<Q", size) + saved.read_bytes()[8:])
    refused(saved, "is not a model that xpnet saved")


@pytest.mark.parametrize(
    "claim",
    [
        {"shape": [2**40, 2**40]},
        {"shape": [4, 3, 2**20]},
        {"data_offsets": [0, 2**50]},
        {"data_offsets": [-8, 40]},
        {"dtype": "F8_E4M3"},
        {"dtype": "I64"},
        {"shape": [], "data_offsets": [0, 0]},
    ],
)
def test_an_array_that_claims_more_than_there_is_is_refused(saved: Path, claim: dict[str, Any]) -> None:
    header, _, numbers = parts(saved)
    text = header["__metadata__"]["xpnet"]
    header["0.weight"].update(claim)
    write(saved, header, None, numbers, text)
    refused(saved)


def test_nothing_at_all_is_refused(saved: Path) -> None:
    for content in (b"", b"\0", bytes(100), b"PK\x03\x04", b"\x80\x04]q\0."):
        saved.write_bytes(content)
        refused(saved, "is not a model that xpnet saved")
