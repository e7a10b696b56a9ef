"""Whether processes that train together train the same: what they were started with, and what they have come to."""

from __future__ import annotations

import json
import weakref
from collections.abc import Sequence
from hashlib import blake2b
from socket import gethostname
from typing import Any

from backends.collectives import ProcessError

from .storage.fit import Fit
from .version import __version__

#: An ``nn.Trainer``. (Importing it here would be a circle: it imports this module.)
Trainer = Any


def check_start(trainer: Trainer, fit: Fit) -> None:
    """Before training: all processes have the same settings, rows, versions and parameters, and a row each of a batch.

    Raises:
        ProcessError: on all of them; they do not.
    """
    collectives = trainer.backend.collectives
    if collectives.size == 1:
        return
    size = fit.arguments["batch_size"]
    facts = {
        "version": __version__,
        "settings": {**fit.settings, **fit.arguments, "epochs": fit.last, "blocks": trainer.blocks.count},
        "data": fit.data,
        "rows of a batch": min(size, len(fit.rows)),
        "parameters": digest(trainer),
        "resumed": trainer.epoch,
    }
    # As JSON, for what is compared is what is written down, however a process came to it.
    found = [json.loads(text) for text in collectives.gather(json.dumps([gethostname(), facts], default=_kind))]
    if text := differs(found):
        raise ProcessError(text)


def differs(found: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """Why processes cannot train together, in a sentence; "" if they can.

    Args:
        found: the host of each, by rank, and what it has.
    """
    first = found[0][1]
    for rank, (host, facts) in enumerate(found):
        who = f"process {rank}, on {host},"
        if facts["version"] != first["version"]:
            return (
                f"{who} has version {facts['version']} of xpnet, process 0 {first['version']}; install the same one "
                "for all"
            )
        if text := _setting(first["settings"], facts["settings"]):
            return f"{who} was started with other settings: {text}; start all processes with the same ones"
        if facts["data"] != first["data"]:
            which = next(name for name in first["data"] if facts["data"].get(name) != first["data"][name])
            return f"{who} has other {which} than process 0; give all processes the same data"
        if facts["resumed"] != first["resumed"]:
            return f"{who} is at epoch {facts['resumed']}, process 0 at {first['resumed']}; resume all or none"
        if facts["parameters"] != first["parameters"]:
            return f"{who} has other parameters than process 0; begin with the same seed and weights on all processes"
    if first["rows of a batch"] < len(found):
        return (
            f"{len(found)} processes cannot share batches of {first['rows of a batch']} rows; start at most as many "
            "as a batch has rows, or choose a larger batch_size"
        )
    return ""


def tell_where(trainer: Trainer) -> None:
    """Let the message that a process hangs, or is gone, say how far the training is."""
    collectives, reference = trainer.backend.collectives, weakref.ref(trainer)

    def at() -> str:
        trainer = reference()
        return "" if trainer is None else f"in epoch {trainer.epoch}, after step {trainer.model.step}"

    collectives.tell_where(at)


def check_parameters(trainer: Trainer) -> None:
    """After an epoch: all processes have the same parameters.

    Raises:
        ProcessError: on all of them; a layer or a callback of one has computed something else.
    """
    collectives = trainer.backend.collectives
    if collectives.size == 1:
        return
    found = collectives.gather((gethostname(), digest(trainer)))
    for rank, (host, own) in enumerate(found):
        if own != found[0][1]:
            raise ProcessError(
                f"after epoch {trainer.epoch} the parameters of process {rank}, on {host}, are others than those of "
                "process 0; callbacks and layers must do the same on all processes"
            )


def digest(trainer: Trainer) -> str:
    """Of all that a prediction is made with."""
    store, backend = trainer.model.store, trainer.backend
    found = blake2b(digest_size=16)
    for array in (store.flat_parameters, store.flat_state, store.flat_average):
        if array is not None:
            found.update(backend.to_numpy(array).tobytes())
    return found.hexdigest()


def _setting(first: Any, here: Any, name: str = "") -> str:
    """The first setting that differs, in words; "" where none does."""
    if isinstance(first, dict) and isinstance(here, dict):
        keys = dict.fromkeys([*first, *here])
        pairs = ((f"{name}.{key}" if name else key, first.get(key), here.get(key)) for key in keys)
        return next((text for key, one, other in pairs if (text := _setting(one, other, key))), "")
    if isinstance(first, list) and isinstance(here, list) and len(first) == len(here):
        pairs = ((f"{name}[{index}]", one, other) for index, (one, other) in enumerate(zip(first, here, strict=True)))
        return next((text for key, one, other in pairs if (text := _setting(one, other, key))), "")
    return "" if first == here else f"{name} is {here} there and {first} in process 0"


def _kind(value: Any) -> str:
    return type(value).__name__
