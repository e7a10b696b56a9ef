"""Models, trainers and what was recorded for them are freed with their last reference, by counting alone, with every
array of theirs; and a model that several threads use gives each of them its own results."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from backends import Backend
from nn import SGD, Adam, Callback, Dataset, Dropout, Linear, Optimizer, ReLU, Sequential, Softmax, Trainer
from tests.helpers.with_emulated import WITH_EMULATED, made

RNG = np.random.default_rng(8)
X = RNG.normal(size=(50, 6)).astype(np.float32)
Y = RNG.integers(0, 3, 50)
DATA = Dataset(X, Y)


@pytest.fixture(params=WITH_EMULATED)
def backend(request: pytest.FixtureRequest) -> Backend:
    return made(request.param, "float32")


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def make_trainer(backend: Backend, optimizer: Optimizer | None = None) -> Trainer:
    layers = Linear(6, 16), ReLU(), Dropout(0.3), Linear(16, 3), Softmax()
    return Trainer(
        Sequential(*layers, backend=backend, seed=3), optimizer=optimizer or SGD(0.1, momentum=0.9), metrics=[right]
    )


def right(targets: Any, predictions: Any) -> float:
    return float(np.mean(targets == predictions))


class Reads(Callback):
    def on_batch_end(self, trainer: Trainer, rows: int) -> None:
        assert trainer.model.gradients


def forward_and_backward(trainer: Trainer) -> None:
    backend = trainer.backend
    with backend.use():
        outputs = trainer.model.forward(backend.asarray(X), training=True)
        trainer.model.backward(backend.copy(outputs))


def failing(trainer: Trainer) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        trainer.fit((X[:, :4], Y))


USES: dict[str, Callable[[Trainer], Any]] = {
    "nothing": lambda trainer: None,
    "fit": lambda trainer: trainer.fit(DATA, 3, 16, validation=DATA),
    "fit twice": lambda trainer: (trainer.fit(X, Y, 2, 16), trainer.fit(DATA, 2, 50, validation=0.2)),
    "fit on uploaded rows": lambda trainer: trainer.fit(trainer.upload(DATA), 2, 1),
    "fit with gradients": lambda trainer: trainer.fit(DATA, 2, 16, callbacks=[Reads()]),
    "evaluate": lambda trainer: trainer.evaluate(DATA, batch_size=20),
    "losses": lambda trainer: trainer.losses(DATA),
    "gradients": lambda trainer: trainer.gradients(DATA),
    "predict": lambda trainer: (trainer.predict(X), trainer.predict_proba(X), trainer.model(X)),
    "layer outputs": lambda trainer: trainer.model.layer_outputs(X),
    "forward and backward": forward_and_backward,
    "an error": failing,
}


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("use", USES)
def test_a_model_is_freed_with_its_last_reference_and_all_its_arrays(backend: Backend, use: str) -> None:
    trainer = make_trainer(backend)
    USES[use](trainer)
    store = trainer.model.store
    objects: dict[str, Any] = {
        "trainer": trainer,
        "model": trainer.model,
        "store": store,
        "workspace": store.workspace,
        "optimizer": trainer.optimizer,
        "history": trainer.history,
        "totals": trainer.totals,
        "parameters": store.flat_parameters,
        "gradients": store.flat_gradients,
        "velocity": trainer.optimizer.state["velocity"],
        "weight": store.parameters["0.weight"],
        "a buffer": store.workspace.buffer("x", (16, 6)),
    }
    left = {name: weakref.ref(thing) for name, thing in objects.items()}
    del trainer, store
    objects.clear()
    assert [name for name, reference in left.items() if reference() is not None] == []


@pytest.mark.usefixtures("_no_collector")
def test_a_step_that_cannot_be_made_frees_what_it_noted(backend: Backend) -> None:
    class Breaks(Linear):
        recordable = True

        def backward(self, dy: Any, ctx: Any) -> Any:
            super().backward(dy, ctx)
            raise OSError("no more")

    trainer = Trainer(Sequential(Breaks(6, 3), Softmax(), backend=backend))
    try:
        trainer.fit(DATA)
    except OSError as error:
        error.__traceback__ = error.__context__ = None
    left = [weakref.ref(thing) for thing in (trainer, trainer.model.store.flat_parameters, trainer.totals)]
    del trainer
    assert [reference() for reference in left] == [None] * 3


@pytest.mark.usefixtures("_no_collector")
def test_a_loop_over_models_keeps_the_memory_of_none() -> None:
    """Of 30 models the arrays of one are alive at a time."""
    alive: list[weakref.ref[Any]] = []
    for seed in range(30):
        model = Sequential(Linear(6, 64), ReLU(), Linear(64, 3), Softmax(), backend="cpu", seed=seed)
        Trainer(model, optimizer=Adam()).fit(DATA, 1, 16)
        alive.append(weakref.ref(model.store.flat_parameters))
        assert sum(reference() is not None for reference in alive) == 1


# ---- threads ---------------------------------------------------------------------------------------------------------


def in_threads(work: list[Callable[[], Any]]) -> list[Any]:
    """What each gives in a thread of its own, all begun at once; an error of one of them is raised here."""
    found: list[Any] = [None] * len(work)
    together = threading.Barrier(len(work))

    def run(index: int) -> None:
        try:
            together.wait()
            found[index] = work[index]()
        except BaseException as error:
            found[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in found:
        if isinstance(result, BaseException):
            raise result
    return found


def test_four_threads_that_predict_get_what_one_gets(backend: Backend) -> None:
    trainer = make_trainer(backend)
    trainer.fit(DATA, 1, 16)
    parts = [X[start : start + 11 + start] for start in range(4)]
    calls: list[Callable[[Any], Any]] = [trainer.model, trainer.predict_proba, trainer.model.predict, trainer.model]
    expected = [call(part) for call, part in zip(calls, parts, strict=True)]

    def often(index: int) -> list[Any]:
        return [calls[index](parts[index]) for _ in range(10)]

    fresh = make_trainer(backend)  # whose plans are first made by four threads at once
    fresh.model.load_state_dict(trainer.model.state_dict())
    trainer, calls = fresh, [fresh.model, fresh.model.predict_proba, fresh.model.predict, fresh.model]
    for index, results in enumerate(in_threads([lambda i=i: often(i) for i in range(4)])):  # type: ignore[misc]
        for result in results:
            np.testing.assert_array_equal(result, expected[index])


def test_threads_that_predict_and_evaluate_do_not_disturb_the_one_that_trains(backend: Backend) -> None:
    alone, watched = make_trainer(backend), make_trainer(backend)
    alone.fit(DATA, 4, 16)
    ended = threading.Event()

    def train() -> None:
        try:
            watched.fit(DATA, 4, 16)
        finally:
            ended.set()

    def look() -> int:
        looks = 0
        while not ended.is_set() or looks == 0:
            assert watched.predict(X).shape == (50,)
            assert np.isfinite(watched.evaluate(DATA)["loss"])
            looks += 1
        return looks

    assert min(in_threads([train, look, look])[1:]) > 0
    for name, values in alone.model.state_dict().items():
        np.testing.assert_array_equal(watched.model.state_dict()[name], values)
    assert watched.history["loss"] == alone.history["loss"]


def test_threads_that_predict_by_the_averaged_parameters_take_turns() -> None:
    trainer = Trainer(make_trainer(made(("cpu", True), "float32")).model, optimizer=SGD(0.5), average=0.9)
    trainer.fit(DATA, 3, 16)
    trained, expected = trainer.model.state_dict(), (trainer.predict_proba(X), trainer.evaluate(DATA))
    assert not np.array_equal(expected[0], trainer.model.predict_proba(X))

    def often() -> list[Any]:
        return [(trainer.predict_proba(X), trainer.evaluate(DATA)) for _ in range(10)]

    for results in in_threads([often] * 4):
        for found, values in results:
            np.testing.assert_array_equal(found, expected[0])
            assert values == expected[1]
    for name, values in trainer.model.state_dict().items():
        np.testing.assert_array_equal(values, trained[name])


class AsksElsewhere(Callback):
    """Predicts by the trainer in another thread, and in this one, after each epoch."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []

    def on_epoch_end(self, trainer: Trainer, record: Any) -> None:
        def ask() -> None:
            try:
                trainer.predict(X)
            except RuntimeError as error:
                self.errors.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        assert trainer.predict(X).shape == (50,)


def test_the_averaged_parameters_are_refused_while_another_thread_trains() -> None:
    alone, watched = (
        Trainer(make_trainer(made(("cpu", True), "float32")).model, optimizer=SGD(0.5), average=0.9) for _ in range(2)
    )
    alone.fit(DATA, 3, 16)
    asks = AsksElsewhere()
    watched.fit(DATA, 3, 16, callbacks=[asks])
    assert [str(error).partition(",")[0] for error in asks.errors] == ["another thread trains these parameters"] * 3
    for name, values in alone.model.state_dict().items():
        np.testing.assert_array_equal(watched.model.state_dict()[name], values)
    np.testing.assert_array_equal(alone.predict(X), watched.predict(X))
