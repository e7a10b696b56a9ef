"""The state of a training run: all that defines how it goes on, out of a trainer and back into one.

What training moves is in the flat buffers that ``nn.snapshot`` copies. Beside them stand the counters, how far the
epoch has come, what callbacks remember, the history, and what the run was begun with: network, loss, optimizer, rows.
A batch is a function of (seed, epoch, position) and so is all randomness: there is nothing else to keep.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from backends.typing import Array

from ..around_update import settings_around_update
from ..blocks import gathered_totals
from ..data import Units
from ..snapshot import Snapshot, moved_arrays, moved_numbers
from .checkpoint import CheckpointError
from .differences import difference, other_data, tell_differences, where
from .fit import AROUND_UPDATE, Fit, now_of, settings_of
from .model_file import check_description, learn, learnt_of, units_of
from .sense import OF_HISTORY, check_state

#: An ``nn.Trainer`` and an ``nn.Callback``. (Importing them here would be a circle.)
Trainer = Any
Callback = Any
#: What is known only of rows that are larger than memory, and of checkpoints of these.
OF_WINDOWS = ("window", "block", "lanes")


# ---- out of a trainer ------------------------------------------------------------------------------------------------


def state_of(trainer: Trainer, fit: Fit | None) -> dict[str, Any]:
    """All that defines how the run of ``trainer`` goes on, as it is now; arrays are those of the device themselves."""
    numbers, history = moved_numbers(trainer), trainer.history
    if trainer.seen:
        numbers["trainer.epoch"] -= 1  # epochs that have ended
    state: dict[str, Any] = {
        "run": history.run,
        "where": where(trainer.backend),
        "settings": settings_of(trainer) if fit is None else fit.settings,
        "first settings": trainer.first_settings,
        "now": now_of(trainer),
        "learnt": learnt_of(trainer.model),
        "arrays": dict(moved_arrays(trainer)),
        "numbers": numbers,
        "gradient_norm": trainer.backend.to_numpy(trainer.norm_buffer).tolist(),
        "history": {"records": history.records, **{name: getattr(history, name) for name in OF_HISTORY}},
    }
    if fit is None:
        return state
    state["fit"] = {
        **fit.arguments,
        "first": fit.first,
        "data": fit.data,
        "stopping": "" if trainer.interrupted else trainer.stopping,
        "callbacks": [
            {"kind": kind, "settings": callback.settings(), "state": callback.state_dict()}
            for kind, callback in remembering(fit.callbacks)
        ],
        "seen": trainer.seen,
    }
    if trainer.seen:
        before: Snapshot = fit.watch.good
        state["epoch"] = {
            "seconds": perf_counter() - fit.started,
            "now": fit.now,
            "totals": _totals(trainer),
            "before": before.arrays(),
            "before_numbers": before.numbers(),
        }
        if fit.now["accumulate"] > 1:
            state["epoch"]["gradients"] = trainer.model.store.sum_of_gradients
    return state


def _totals(trainer: Trainer) -> list[float]:
    """The totals of the epoch so far; where batches have blocks, of one after the other."""
    backend = trainer.backend
    if trainer.blocks is None:
        return list(backend.to_numpy(trainer.totals).tolist())
    return [number for row in gathered_totals(backend, trainer.totals_of_blocks) for number in row.tolist()]


def remembering(called: Iterable[Callback]) -> list[tuple[str, Callback]]:
    """The callbacks that have something to remember, with their classes' names."""
    return [(type(callback).__name__, callback) for callback in called if callback.remembers]


# ---- and back into one -----------------------------------------------------------------------------------------------


class Interrupted:
    """A run that was interrupted, as a checkpoint tells of it.

    Args:
        state: what ``state_of`` gave, with NumPy arrays.
    """

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def restore(self, trainer: Trainer) -> None:
        """Let ``trainer``, which was built as that of the run, be as that one was.

        Raises:
            CheckpointError: it is of another network, loss or optimizer, or makes no sense; nothing is changed then.

        Warns:
            CheckpointWarning: the run was on another device or with other versions.
        """
        state = self.state
        with _making_sense():
            check_state(state)
            units = _units_for(trainer, state)
        here, first = settings_of(trainer), state.get("first settings")
        if (text := difference(state["settings"], here)) and (first is None or difference(first, here)):
            raise CheckpointError(
                f"this run cannot go on, as {text}; build model and trainer as for the run, or begin another"
            )
        before, now = Snapshot.of(trainer), now_of(trainer)
        with _making_sense():
            try:
                _set(trainer, state["epoch"]["now"] if self.seen else state["now"])
                _bind(trainer)
                with trainer.backend.use():
                    Snapshot(_on_device(state["arrays"], trainer), state["numbers"]).restore(trainer)
                    _fill(trainer.norm_buffer, state["gradient_norm"])
            except Exception:
                _set(trainer, now)
                _bind(trainer)
                before.restore(trainer)
                raise
        learn(trainer.model, state["learnt"], units)
        trainer.first_settings = first
        history = trainer.history
        history.records[:] = [dict(record) for record in state["history"]["records"]]
        history.run = state["run"]
        self._restore_best(trainer)
        trainer.seen = self.seen
        tell_differences(state["where"], where(trainer.backend))

    def _restore_best(self, trainer: Trainer) -> None:
        """What the history has beside its records."""
        for name in OF_HISTORY:
            setattr(trainer.history, name, self.state["history"][name])

    @property
    def seen(self) -> int:
        """How many rows of its epoch steps were made on; 0 between epochs."""
        return int(self.state.get("fit", {}).get("seen", 0))

    @property
    def first(self) -> int:
        """How many epochs there had been before the call of ``fit``."""
        return int(self.state["fit"]["first"])

    @property
    def is_in_fit(self) -> bool:
        """Whether it is of a call of ``fit``, which the next call goes on with."""
        return "fit" in self.state

    def check_fit(self, fit: Fit) -> None:
        """Whether a call of ``fit`` is that of the run.

        Raises:
            CheckpointError: it has other rows, other arguments or other callbacks.
        """
        known, made = self.state["fit"], int(self.state["numbers"]["trainer.epoch"]) + bool(self.seen)
        if fit.last < made:
            raise CheckpointError(
                f"this run cannot go on for {fit.last - fit.first} epochs, as it has made {made - fit.first} already; "
                "say how many in all"
            )
        with _making_sense():
            arguments = {name: known[name] for name in fit.arguments if name not in OF_WINDOWS}
            arguments |= {name: known[name] for name in OF_WINDOWS if name in known}
            text = difference(arguments, fit.arguments) or other_data(known["data"], fit.data)
        if text:
            raise CheckpointError(f"this run cannot go on, as {text}; call fit as for the run")
        here = [{"kind": kind, "settings": callback.settings()} for kind, callback in remembering(fit.callbacks)]
        there = [{"kind": entry["kind"], "settings": entry["settings"]} for entry in known["callbacks"]]
        kinds, own_kinds = [entry["kind"] for entry in there], [entry["kind"] for entry in here]
        if sorted(kinds) != sorted(own_kinds):
            raise CheckpointError(
                f"this run cannot go on, as its callbacks with a memory are {', '.join(kinds) or 'none'}, and here "
                f"{', '.join(own_kinds) or 'none'}; give the same ones"
            )
        for entry, own in zip(sorted(there, key=_kind), sorted(here, key=_kind), strict=True):
            if text := difference(entry["settings"], own["settings"], entry["kind"]):
                raise CheckpointError(f"this run cannot go on, as {text}; give the same callbacks")

    def restore_callbacks(self, trainer: Trainer, fit: Fit) -> None:
        """Let the callbacks remember what those of the run did."""
        known = sorted(self.state["fit"]["callbacks"], key=_kind)
        own = sorted(remembering(fit.callbacks), key=lambda entry: entry[0])
        for entry, (kind, callback) in zip(known, own, strict=True):
            try:
                callback.load_state_dict(_on_device(entry["state"], trainer))
            except Exception as error:
                raise CheckpointError(
                    f"what {kind} remembers of this run cannot be used ({type(error).__name__}: {error})"
                ) from error
        self._restore_best(trainer)
        trainer.stopping = self.state["fit"]["stopping"]

    def restore_epoch(self, trainer: Trainer, fit: Fit) -> None:
        """Let the epoch, which was interrupted in its middle, be as it was."""
        with _making_sense():
            epoch = self.state["epoch"]
            if trainer.blocks is None:
                _fill(trainer.totals, epoch["totals"])
            else:
                for index, block in enumerate(trainer.blocks.own):
                    _fill(trainer.totals_of_blocks[index, ...], epoch["totals"][2 * block : 2 * block + 2])
            fit.watch.good = Snapshot(_on_device(epoch["before"], trainer), dict(epoch["before_numbers"]))
            if "gradients" in epoch:
                trainer.model.store.sum_of_gradients[...] = _on_device(epoch["gradients"], trainer)
            fit.now, now = epoch["now"], self.state["now"]
            _set(trainer, _changes(fit.now, now))  # for the next epoch
            fit.started = perf_counter() - epoch["seconds"]


@contextmanager
def _making_sense() -> Iterator[None]:
    """Turns whatever values that nobody meant lead to into a CheckpointError."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"the checkpoint makes no sense ({type(error).__name__}: {error})") from None


def _kind(entry: Mapping[str, Any]) -> str:
    return str(entry["kind"])


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Those of them that are others than before."""
    changed = {name: value for name, value in now["optimizer"].items() if value != before["optimizer"].get(name)}
    names = (*AROUND_UPDATE, "augment")  # which checkpoints of older versions have not
    return {name: now.get(name) for name in names if now.get(name) != before.get(name)} | {"optimizer": changed}


def _set(trainer: Trainer, now: Mapping[str, Any]) -> None:
    """Those settings as ``now_of`` gave them."""
    for name in (*AROUND_UPDATE, "augment"):
        if name in now:
            setattr(trainer, name, now[name])
    optimizer = trainer.optimizer
    for name, value in now["optimizer"].items():
        if getattr(optimizer, name) != value:
            setattr(optimizer, name, value)


def _bind(trainer: Trainer) -> None:
    """Have the arrays that belong to the settings."""
    with trainer.backend.use():
        trainer.optimizer.bind(trainer.model.store)
        settings_around_update(trainer)


def _on_device(value: Any, trainer: Trainer) -> Any:
    """``value`` with its arrays on the device, each of its own dtype."""
    if isinstance(value, dict):
        return {name: _on_device(item, trainer) for name, item in value.items()}
    if isinstance(value, list):
        return [_on_device(item, trainer) for item in value]
    return trainer.backend.device.from_numpy(value) if hasattr(value, "shape") else value


def _fill(array: Array, numbers: Iterable[float]) -> None:
    """Set the elements of an array, whatever its dtype: what counts rows and losses is wider than the rest."""
    for index, number in enumerate(numbers):
        array[index : index + 1] = number


def _units_for(trainer: Trainer, state: Mapping[str, Any]) -> Units | None:
    """The units that the run has learnt; what it has learnt fits the layers."""
    of_model = {"dtype": trainer.model.backend.dtype_name, "seed": trainer.model.seed}
    check_description(dict(state["learnt"]) | of_model | {"step": state["numbers"]["model.step"]}, trainer.model.layers)
    return units_of(state["learnt"])
