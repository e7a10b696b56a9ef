"""What is no callback, or would never be called as one, is refused with the name of what is meant."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nn import Callback, LambdaCallback, Linear, Sequential, Softmax, Trainer

DATA = np.eye(6), np.arange(6) % 2


def trainer(*callbacks: Any) -> Trainer:
    return Trainer(Sequential(Linear(6, 2), Softmax(), backend="cpu"), callbacks=callbacks)


def print_loss(trainer: Trainer, record: dict[str, Any]) -> None:
    print(record["loss"])


class Duck:
    def on_epoch_end(self, trainer: Trainer, record: dict[str, Any]) -> None: ...


class KerasDuck:
    def on_train_begin(self, logs: Any = None) -> None: ...


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (print_loss, r"a callback is a Callback, not <function print_loss .*LambdaCallback\(on_epoch_end=print_loss\)"),
        (lambda: None, r"LambdaCallback\(on_epoch_end=function\)"),
        (Duck(), r"derive its class from nn\.Callback, as in class Duck\(nn\.Callback\)"),
        (KerasDuck(), r"derive its class from nn\.Callback, as in class KerasDuck\(nn\.Callback\)"),
        (Duck, r"derive its class from nn\.Callback, as in class Duck\(nn\.Callback\)"),
        (Callback, r"; write Callback\(\)$"),
        (3, "a callback is a Callback, not 3$"),
    ],
)
def test_what_is_no_callback_is_told_how_to_become_one(given: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        trainer(given)
    with pytest.raises(TypeError, match=message):
        trainer().fit(DATA, callbacks=[given])


@pytest.mark.parametrize(
    ("method", "hook"),
    [
        ("on_train_begin", r"on_fit_begin\(self, trainer, rows, epochs\)"),
        ("on_train_end", r"on_fit_end\(self, trainer\)"),
        ("on_epoch_finish", r"on_epoch_end\(self, trainer, record\)"),
        ("on_train_epoch_start", r"on_epoch_begin\(self, trainer, epoch\)"),
        ("on_validation_epoch_end", r"on_epoch_end\(self, trainer, record\)"),
        ("on_train_batch_end", r"on_batch_end\(self, trainer, rows\)"),
        ("on_batch_begin", r"on_batch_end\(self, trainer, rows\)"),
        ("on_epoch_ends", r"on_epoch_end\(self, trainer, record\)"),
        ("on_fit_finished", r"on_fit_end\(self, trainer\)|on_fit_begin\(self, trainer, rows, epochs\)"),
    ],
)
def test_a_method_that_would_never_be_called_is_answered_with_the_one_that_is(method: str, hook: str) -> None:
    mine = type("Mine", (Callback,), {method: lambda self, *args: None})
    with pytest.raises(TypeError, match=f"^Mine.{method} would never be called; the hook that is, is {hook}$"):
        trainer(mine())


class KerasEnd(Callback):
    def on_epoch_end(self, epoch: Any, logs: Any = None) -> None: ...


class KerasBegin(Callback):
    def on_epoch_begin(self, epoch: Any, logs: Any = None) -> None: ...  # type: ignore[override]


class KerasBatch(Callback):
    def on_batch_end(self, batch: Any, logs: Any = None) -> None: ...


class Lightning(Callback):
    def on_fit_end(self, trainer: Any, pl_module: Any) -> None: ...  # type: ignore[override]


class LightningEpoch(Callback):
    def on_epoch_end(self, trainer: Any, pl_module: Any) -> None: ...


class Skorch(Callback):
    def on_epoch_end(self, net: Any, **kwargs: Any) -> None: ...  # type: ignore[override]


class TooFew(Callback):
    def on_fit_begin(self, trainer: Any) -> None: ...  # type: ignore[override]


@pytest.mark.parametrize(
    ("kind", "hook", "takes", "called"),
    [
        (KerasEnd, "on_epoch_end", "epoch, logs", "self, trainer, record"),
        (KerasBegin, "on_epoch_begin", "epoch, logs", "self, trainer, epoch"),
        (KerasBatch, "on_batch_end", "batch, logs", "self, trainer, rows"),
        (Lightning, "on_fit_end", "trainer, pl_module", "self, trainer"),
        (LightningEpoch, "on_epoch_end", "trainer, pl_module", "self, trainer, record"),
        (Skorch, "on_epoch_end", "net, kwargs", "self, trainer, record"),
        (TooFew, "on_fit_begin", "trainer", "self, trainer, rows, epochs"),
    ],
)
def test_a_hook_that_takes_something_else_is_told_what_it_is_given(
    kind: type[Callback], hook: str, takes: str, called: str
) -> None:
    with pytest.raises(TypeError) as raised:
        trainer(kind())
    assert str(raised.value) == (
        f"{kind.__name__}.{hook} takes ({takes}), but is called as {hook}({called}); write it so"
    )


def test_other_names_of_parameters_and_other_methods_are_welcome() -> None:
    class Mine(Callback):
        def on_epoch_end(self, _: Any, line: Any) -> None:
            self.once = line["epoch"]

        def on_fit_end(self, *whatever: Any) -> None: ...

        def only_helps(self) -> None: ...

    mine = Mine()
    trainer(mine).fit(DATA, 2)
    assert mine.once == 2


def test_functions_are_called_where_they_are_told() -> None:
    calls: list[Any] = []
    show = LambdaCallback(
        on_fit_begin=lambda trainer, rows, epochs: calls.append(("begin", rows, epochs)),
        on_epoch_begin=lambda trainer, epoch: calls.append(("epoch", epoch)),
        on_batch_end=lambda trainer, rows: calls.append(("batch", rows)),
        on_epoch_end=lambda trainer, record: calls.append(("end", record["epoch"])),
        on_fit_end=lambda trainer: calls.append("done"),
    )
    trainer(show).fit(DATA, 1, 4)
    assert calls == [("begin", 6, 1), ("epoch", 1), ("batch", 4), ("batch", 2), ("end", 1), "done"]


def test_a_function_for_the_end_of_an_epoch_leaves_the_steps_alone() -> None:
    """Gradients are kept, and steps made one by one, for callbacks only that are called after batches."""
    plain, watched = trainer(), trainer(LambdaCallback(on_epoch_end=lambda trainer, record: None))
    for one in (plain, watched):
        one.fit(DATA, 3, 2)
        with pytest.raises(RuntimeError, match="did not keep its gradients"):
            _ = one.model.gradients
    reading = trainer(LambdaCallback(on_batch_end=lambda trainer, rows: trainer.model.gradients))
    reading.fit(DATA, 1, 2)


def test_a_function_that_takes_something_else_is_refused_too() -> None:
    with pytest.raises(TypeError, match=r"LambdaCallback.on_epoch_end takes \(logs\), but is called as on_epoch_end"):
        trainer(LambdaCallback(on_epoch_end=lambda logs: None))  # type: ignore[misc, arg-type]


def test_all_callbacks_are_ended_even_where_one_of_them_fails_then() -> None:
    calls: list[str] = []

    def fails(trainer: Trainer) -> None:
        calls.append("first")
        raise OSError("the disk is full")

    first = LambdaCallback(on_fit_end=fails)
    second = LambdaCallback(on_fit_end=lambda trainer: calls.append("second"))
    with pytest.raises(OSError, match="the disk is full"):
        trainer(first, second).fit(DATA)
    assert calls == ["first", "second"]
