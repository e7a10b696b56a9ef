"""A snapshot: all that training moves, copied on the device, to go back to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from backends.arguments import check_whole_number
from backends.typing import Array

#: An ``nn.Trainer``. (Importing it here would be a circle: it imports this module.)
Trainer = Any


class Snapshot:
    """The parameters, the state of layers and optimizer, and the counters of a training run, as they were.

    A run that goes on from a restored snapshot makes the steps that it would have made then, bit for bit: what is not
    in it (rows, settings, callbacks) is as it is when it is restored.

    >>> from nn import Linear, Sequential, Trainer
    >>> from nn.snapshot import Snapshot
    >>> trainer = Trainer(Sequential(Linear(3, 2), backend="cpu"))
    >>> snapshot = Snapshot.of(trainer)
    >>> history = trainer.fit(([[1.0, 2.0, 3.0]], [1]), epochs=2)
    >>> snapshot.restore(trainer)
    >>> trainer.epoch, trainer.model.step
    (0, 0)
    """

    def __init__(self, arrays: dict[str, Array], numbers: dict[str, Any]) -> None:
        self._arrays = arrays
        self._numbers = numbers

    @classmethod
    def from_file(cls, arrays: Any, numbers: Any) -> Snapshot:
        """One of what ``arrays()`` and ``numbers()`` gave, as a file says.

        Raises:
            ValueError: they cannot be that.
        """
        are_arrays = isinstance(arrays, dict) and all(hasattr(array, "shape") for array in arrays.values())
        counted = ("trainer.epoch", "model.step", "optimizer.steps")
        if not (are_arrays and isinstance(numbers, dict) and {*counted} <= {*numbers}):
            raise ValueError("this is no snapshot of a training run")
        for name in counted:
            check_whole_number(name, numbers[name], least=0)
        return cls(arrays, numbers)

    @classmethod
    def of(cls, trainer: Trainer) -> Snapshot:
        """What ``trainer`` moves, as it is now; its later steps leave the snapshot alone."""
        backend = trainer.backend
        with backend.use():
            return cls({name: backend.copy(array) for name, array in moved_arrays(trainer)}, moved_numbers(trainer))

    def renew(self, trainer: Trainer) -> Snapshot:
        """A snapshot of ``trainer`` as it is now, in the memory of this one where that fits; this one is used up."""
        backend, old = trainer.backend, self._arrays
        with backend.use():
            arrays = {}
            for name, array in moved_arrays(trainer):
                memory = old.get(name)
                fits = memory is not None and memory.shape == array.shape and memory.dtype == array.dtype
                arrays[name] = backend.copy(array, memory if fits else None)
        return Snapshot(arrays, moved_numbers(trainer))

    def restore(self, trainer: Trainer) -> None:
        """Let everything be as it was, in the arrays that ``trainer`` has; the snapshot can be restored again.

        Raises:
            ValueError: it is of another network or another optimizer; nothing is changed then.
        """
        now = dict(moved_arrays(trainer))
        for name, array in self._arrays.items():
            if name not in now or now[name].shape != array.shape:
                has = "none" if name not in now else f"one of shape {tuple(now[name].shape)}"
                raise ValueError(
                    f"this snapshot is of another training run: it has {name} of shape {tuple(array.shape)}, "
                    f"the trainer has {has}"
                )
        backend, numbers = trainer.backend, self._numbers
        with backend.use():
            for name, array in now.items():
                # What a run has begun to keep since, a velocity for instance, began with zeros.
                array[...] = self._arrays.get(name, 0.0)
            # Of no step now; and what lies between its arrays may have become NaN, which the next update would spread.
            trainer.model.store.flat_gradients[...] = 0.0
        # An average that was begun since begins again, with the next update.
        trainer.model.store.average_from = numbers.get("average.from", numbers["optimizer.steps"] + 1)
        trainer.epoch = numbers["trainer.epoch"]
        trainer.model.step = numbers["model.step"]
        trainer.optimizer.steps = numbers["optimizer.steps"]
        if "optimizer.learning_rate" in numbers:
            trainer.optimizer.learning_rate = numbers["optimizer.learning_rate"]

    def arrays(self) -> dict[str, Array]:
        """The arrays on the device by name: ``"parameters"``, ``"state"``, ``"average"`` (where weights are averaged),
        and ``"optimizer."`` with the name of each that the optimizer keeps."""
        return dict(self._arrays)

    def numbers(self) -> dict[str, Any]:
        """The counters by name, ``"trainer.epoch"``, ``"model.step"``, ``"optimizer.steps"``; ``"average.from"``, the
        update that an average begins with, where there is one; and ``"optimizer.learning_rate"``, where that is a
        number and no schedule."""
        return dict(self._numbers)


def moved_arrays(trainer: Trainer) -> Iterator[tuple[str, Array]]:
    """What training moves on the device, by name: the flat buffers themselves."""
    store = trainer.model.store
    yield "parameters", store.flat_parameters
    yield "state", store.flat_state
    if store.flat_average is not None:
        yield "average", store.flat_average
    for name, array in trainer.optimizer.state.items():
        yield f"optimizer.{name}", array


def moved_numbers(trainer: Trainer) -> dict[str, Any]:
    """What training counts, by name."""
    optimizer = trainer.optimizer
    counted = {
        "trainer.epoch": trainer.epoch,
        "model.step": trainer.model.step,
        "optimizer.steps": optimizer.steps,
    }
    store = trainer.model.store
    if store.flat_average is not None:
        counted["average.from"] = store.average_from
    rate = optimizer.learning_rate
    return counted if callable(rate) else counted | {"optimizer.learning_rate": float(rate)}
