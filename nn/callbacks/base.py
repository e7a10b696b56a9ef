"""What happens around the training loop."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from difflib import get_close_matches
from typing import Any, ClassVar

from backends.arguments import NamedArguments, check_flag, check_function, shown

from ..history import Record
from ..messages import OneSentence

#: The ``nn.Trainer`` that calls. (Importing it here would be a circle: it imports this module.)
Trainer = Any


class CallbackError(OneSentence, ValueError):
    """A callback cannot do what it is asked to; nothing has been trained yet."""


class Callback(NamedArguments):
    """Called by ``Trainer.fit``. ``trainer.stop(reason)`` ends training after the current batch.

    Attributes:
        reads_gradients: whether the callback reads ``trainer.model.gradients``, which costs a pass over memory in each
            step, and changes the last bits of the run. None: if it overrides ``on_batch_end``.
        takes_parts: whether ``on_batch_end`` may be called once for several batches with all their rows; then they are
            launched in one call, which costs less where they are small.
        of_fit: the names of attributes that belong to one call of ``fit``, such as an open file: a copy and a pickle
            have None instead.
        first_only: whether only the first of processes that train together calls it, as it prints or writes.
        comes_last: whether the callback is called after all those without it; but when training ends, before them, so
            that it finds everything as the last epoch has left it.

    Where processes train together, each calls its callbacks, with the same records, and training ends on all where one
    of them ends it.

    A run that is resumed calls ``on_fit_begin`` of its callbacks, then ``load_state_dict`` of those that have a
    ``state_dict`` of their own. In the middle of an epoch, ``on_epoch_begin`` is not called again.
    """

    reads_gradients: bool | None = None
    takes_parts = False
    of_fit: ClassVar[tuple[str, ...]] = ()
    first_only: ClassVar[bool] = False
    comes_last: ClassVar[bool] = False

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {name: None for name in self.of_fit if name in vars(self)}

    def on_fit_begin(self, trainer: Trainer, rows: int, epochs: int) -> None:
        """Training on ``rows`` rows for ``epochs`` epochs begins. ``trainer.columns`` has the names of what the records
        will tell."""

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        """Epoch ``epoch`` (from 1) begins."""

    def on_batch_end(self, trainer: Trainer, rows: int) -> None:
        """A step on ``rows`` rows, or a part of several steps, has been launched; on a GPU it may still be running."""

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        """An epoch has ended, and ``record`` is its line of the history."""

    def on_interrupt(self, trainer: Trainer) -> None:
        """Training ends by ``trainer.interrupt``, in the middle of an epoch or between two: everything is still as the
        run will go on. In the middle, ``on_epoch_end`` follows, with a record of part of an epoch, which no other one
        should be compared with: it has ``"interrupted"``."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """Training has ended, by itself, by ``stop`` or by an error; ``trainer.diverged`` is that of a divergence."""

    def settings(self) -> dict[str, Any]:
        """What must be the same where a run is resumed: numbers, texts, and lists and dicts of them."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What the callback remembers of the current ``fit``, and needs to go on in another process: numbers, texts,
        arrays of the backend, and lists and dicts of these."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Remember what ``state_dict`` gave; called after ``on_fit_begin``."""

    @property
    def remembers(self) -> bool:
        """Whether there is a ``state_dict`` to be kept in checkpoints."""
        return type(self).state_dict is not Callback.state_dict


class LambdaCallback(Callback):
    """A callback made of functions.

    >>> from nn import LambdaCallback
    >>> show = LambdaCallback(on_epoch_end=lambda trainer, record: print(record["loss"]))

    Args:
        on_fit_begin, on_epoch_begin, on_batch_end, on_epoch_end, on_interrupt, on_fit_end: called as the methods of
            ``Callback`` are.
        reads_gradients, takes_parts: as there.
    """

    def __init__(
        self,
        *,
        on_fit_begin: Callable[[Trainer, int, int], Any] | None = None,
        on_epoch_begin: Callable[[Trainer, int], Any] | None = None,
        on_batch_end: Callable[[Trainer, int], Any] | None = None,
        on_epoch_end: Callable[[Trainer, Record], Any] | None = None,
        on_interrupt: Callable[[Trainer], Any] | None = None,
        on_fit_end: Callable[[Trainer], Any] | None = None,
        reads_gradients: bool | None = None,
        takes_parts: bool = False,
    ) -> None:
        self.reads_gradients, self.takes_parts = reads_gradients, takes_parts
        given = {
            "on_fit_begin": on_fit_begin,
            "on_epoch_begin": on_epoch_begin,
            "on_batch_end": on_batch_end,
            "on_epoch_end": on_epoch_end,
            "on_interrupt": on_interrupt,
            "on_fit_end": on_fit_end,
        }
        for name, function in given.items():
            if function is not None:
                check_function(name, function)
        if reads_gradients is not None:
            check_flag("reads_gradients, unless it is None,", reads_gradients)
        check_flag("takes_parts", takes_parts)
        # Of the instance, so that a hook without a function is one that is not there.
        vars(self).update({name: function for name, function in given.items() if function is not None})


#: The methods that are called, with what they are called with.
HOOKS = {
    name: tuple(inspect.signature(method).parameters)[1:]
    for name, method in vars(Callback).items()
    if name.startswith("on_")
}
#: What other trainers call these moments.
ELSEWHERE = {
    "on_train_begin": "on_fit_begin", "on_train_start": "on_fit_begin", "on_fit_start": "on_fit_begin",
    "on_train_end": "on_fit_end", "on_exception": "on_fit_end",
    "on_epoch_start": "on_epoch_begin", "on_train_epoch_start": "on_epoch_begin",
    "on_epoch_finish": "on_epoch_end", "on_epoch_finished": "on_epoch_end", "on_train_epoch_end": "on_epoch_end",
    "on_validation_end": "on_epoch_end", "on_validation_epoch_end": "on_epoch_end", "on_test_end": "on_epoch_end",
    "on_batch_begin": "on_batch_end", "on_batch_start": "on_batch_end", "on_train_batch_begin": "on_batch_end",
    "on_train_batch_start": "on_batch_end", "on_train_batch_end": "on_batch_end", "on_step_end": "on_batch_end",
}  # fmt: skip
#: Parameters of hooks elsewhere, which nothing here is called with.
OTHER_PARAMETERS = {"logs", "pl_module", "net", "batch", "batch_idx"}


def check_callbacks(callbacks: Iterable[Callback]) -> list[Callback]:
    """``callbacks`` as a list.

    Raises:
        TypeError: they are no list, or something in it is no callback; or one has a method that looks like a hook and
            would never be called, or a hook that takes something else.
    """
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks are a list, as in callbacks=[{shown(callbacks)}]")
    found = list(callbacks)
    for callback in found:
        if not isinstance(callback, Callback):
            raise TypeError(f"a callback is a Callback, not {shown(callback)}{_how_to_make_one(callback)}")
        _check_hooks(callback)
    return sorted(found, key=lambda callback: callback.comes_last)


def _how_to_make_one(thing: Any) -> str:
    if isinstance(thing, type):
        return f"; write {thing.__name__}()" if issubclass(thing, Callback) else _how_to_make_one_of_class(thing)
    if any(hasattr(thing, name) for name in (*HOOKS, *ELSEWHERE)):
        return _how_to_make_one_of_class(type(thing))
    if callable(thing):
        name = getattr(thing, "__name__", "function").replace("<lambda>", "function")
        return f"; to have it called after each epoch, write LambdaCallback(on_epoch_end={name})"
    return ""


def _how_to_make_one_of_class(kind: type) -> str:
    return f"; derive its class from nn.Callback, as in class {kind.__name__}(nn.Callback)"


#: The classes of callbacks whose hooks have been looked at: that takes longer than a step on a few rows.
_CHECKED: weakref.WeakSet[type[Callback]] = weakref.WeakSet()


def _check_hooks(callback: Callback) -> None:
    if type(callback) not in _CHECKED:
        _check_all(callback, dir(callback))
        _CHECKED.add(type(callback))
    elif own := [name for name in vars(callback) if name.startswith("on_")]:
        _check_all(callback, own)


def _check_all(callback: Callback, names: Iterable[str]) -> None:
    kind = type(callback).__name__
    for name in names:
        if not name.startswith("on_") or not callable(getattr(callback, name)):
            continue
        if name not in HOOKS:
            hook = ELSEWHERE.get(name) or next(iter(get_close_matches(name, HOOKS, 1, 0.0)))
            raise TypeError(f"{kind}.{name} would never be called; the hook that is, is {_written(hook)}")
        if listens(callback, name):
            _check_parameters(getattr(callback, name), name, kind)


def _check_parameters(method: Callable[..., Any], hook: str, kind: str) -> None:
    try:
        signature = inspect.signature(method)
    except (ValueError, TypeError):  # some that are written in C have none
        return
    names = list(signature.parameters)
    try:
        signature.bind(*HOOKS[hook])
        fits = not OTHER_PARAMETERS & {*names} and names[:1] != ["epoch"]
    except TypeError:
        fits = False
    if not fits:
        raise TypeError(f"{kind}.{hook} takes ({', '.join(names)}), but is called as {_written(hook)}; write it so")


def _written(hook: str) -> str:
    return f"{hook}({', '.join(('self', *HOOKS[hook]))})"


def listens(callback: Callback, hook: str) -> bool:
    """Whether a callback does anything when it is called there."""
    return getattr(getattr(callback, hook), "__func__", None) is not getattr(Callback, hook)


def reads_gradients(callback: Callback) -> bool:
    """Whether gradients must still be there when this callback is called after a batch."""
    return listens(callback, "on_batch_end") if callback.reads_gradients is None else callback.reads_gradients


def end_all(callbacks: Iterable[Callback], trainer: Trainer) -> None:
    """Call ``on_fit_end`` of all, those that come last before the others, even where one of them raises an error."""
    in_order = sorted(callbacks, key=lambda callback: not callback.comes_last)
    with ExitStack() as stack:
        for callback in reversed(in_order):
            stack.callback(callback.on_fit_end, trainer)
