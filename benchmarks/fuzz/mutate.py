"""Ways to damage a file, from a generator of random numbers."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from typing import Any

from safetensors.numpy import load

from nn.storage.model_file import checksum

Mutation = Callable[[random.Random, bytes], bytes]

#: Numbers at which programs break.
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**63, 2**64 - 1)
WORDS = (
    *("0", "-1", "1e999", "nan", "inf", "-inf", "1e-400", "0x10", "1_000", "9" * 30, "9" * 400, "1,5", "1;5", "1\t5"),
    *(
        "",
        " ",
        '"',
        '""',
        "'",
        "#",
        "=",
        "[",
        "]]",
        "{",
        "}",
        "\\",
        "\n",
        "\r",
        "\0",
        "\x1b[31m",
        "\ufeff",
        "é",
        "\u202e",
    ),
    *("true", "null", "None", "label", "NaN", "NA", "?", "../../etc/passwd", "%s%n", "${x}", "A" * 3000, "(" * 500),
)
#: Values for a place in a JSON document.
VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        3,
        1.5,
        -0.0,
        2**31,
        2**63,
        2**70,
        1e308,
        "",
        "a",
        "softmax",
        "\x1b[31m",
        [],
        {},
        [[]],
    ),
    *([0], [1, -1], ["a"], {"type": "Linear"}, {"a": None}, "A" * 3000),
)


def bytes_changed(rng: random.Random, content: bytes) -> bytes:
    """Some bytes have other values."""
    damaged = bytearray(content or b"\0")
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        damaged[rng.randrange(len(damaged))] = rng.choice((rng.randrange(256), 0, 255, 10, 44, 0x80))
    return bytes(damaged)


def bit_flipped(rng: random.Random, content: bytes) -> bytes:
    """One bit is another."""
    damaged = bytearray(content or b"\0")
    damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def cut(rng: random.Random, content: bytes) -> bytes:
    """The end is missing, or the beginning."""
    where = rng.randrange(len(content) + 1)
    return content[:where] if rng.random() < 0.7 else content[where:]


def piece_gone(rng: random.Random, content: bytes) -> bytes:
    """A piece in the middle is missing."""
    start = rng.randrange(len(content) + 1)
    return content[:start] + content[start + rng.randrange(1, 200) :]


def piece_repeated(rng: random.Random, content: bytes) -> bytes:
    """A piece stands there several times."""
    start = rng.randrange(len(content) + 1)
    piece = content[start : start + rng.randrange(1, 200)]
    return content[:start] + piece * rng.choice((2, 3, 50)) + content[start + len(piece) :]


def number_written(rng: random.Random, content: bytes) -> bytes:
    """A binary number of 1 to 8 bytes is one at which programs break."""
    size = rng.choice((1, 2, 4, 8))
    number = (rng.choice(NUMBERS) % (1 << 8 * size)).to_bytes(size, "little")[:: rng.choice((1, -1))]
    start = rng.randrange(max(len(content) - size, 0) + 1)
    return content[:start] + number + content[start + size :]


def word_written(rng: random.Random, content: bytes) -> bytes:
    """A word takes the place of some characters, or stands between them."""
    start, word = rng.randrange(len(content) + 1), rng.choice(WORDS).encode()
    return content[:start] + word + content[start + rng.choice((0, 0, 1, 3, 10)) :]


def begun_alike(rng: random.Random, content: bytes) -> bytes:
    """The beginning is right, the rest is noise."""
    return content[: rng.randrange(min(len(content), 600) + 1)] + rng.randbytes(rng.randrange(400))


def mixed_up(rng: random.Random, content: bytes) -> bytes:
    """Two pieces have changed places."""
    a, b = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return content[b:] + content[a:b] + content[:a]


BINARY: tuple[Mutation, ...] = (
    *(bytes_changed, bit_flipped, cut, piece_gone, piece_repeated, number_written, begun_alike, mixed_up),
)
TEXT: tuple[Mutation, ...] = (word_written, word_written, word_written, bytes_changed, cut, piece_gone, piece_repeated)


def damaged(rng: random.Random, content: bytes, mutations: tuple[Mutation, ...]) -> bytes:
    """The content after one to three mutations."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        content = rng.choice(mutations)(rng, content)
    return content


#: Stands for lists in lists, deeper than a reader can follow.
DEEP = "a deep place"


def json_text(document: Any) -> str:
    """The document as text, ``DEEP`` as what it stands for."""
    return json.dumps(document).replace(json.dumps(DEEP), "[" * 5000 + "]" * 5000)


def json_changed(rng: random.Random, document: Any) -> Any:
    """A JSON document with another value, or without one, at a place somewhere in it; to be written by
    ``json_text``."""
    changed = json.loads(json.dumps(document))
    places: list[tuple[Any, Any]] = []

    def visit(node: Any) -> None:
        for key in [*node] if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                visit(node[key])

    visit(changed)
    for _ in range(rng.choice((1, 1, 2))):
        node, key = rng.choice(places)
        kind = rng.random()
        if kind < 0.15 and isinstance(node, dict):
            node.pop(key, None)
        elif kind < 0.25 and isinstance(node, dict):
            node[rng.choice(WORDS)[:50]] = rng.choice(VALUES)
        elif kind < 0.3:
            node[key] = DEEP
        elif isinstance(node, dict) or key < len(node):
            node[key] = rng.choice(VALUES)
    return changed


def safetensors_changed(rng: random.Random, whole: bytes, part: str) -> bytes:
    """A safetensors file with a change in its ``"header"``, in its ``"tensors"``, or in what the entry of that name in
    its metadata says, which then has the checksum of an attacker."""
    (size,) = struct.unpack("<Q", whole[:8])
    header, tensors = json.loads(whole[8 : 8 + size]), whole[8 + size :]
    if part == "header":
        header = json_changed(rng, header)
    elif part == "tensors":
        tensors = damaged(rng, tensors, BINARY)
    else:
        said = json_changed(rng, json.loads(header["__metadata__"][part]))
        said.pop("sha256", None)
        said["sha256"] = checksum(said, load(whole))
        header["__metadata__"][part] = json_text(said)
    text = json_text(header).encode()
    return struct.pack("<Q", len(text)) + text + tensors
