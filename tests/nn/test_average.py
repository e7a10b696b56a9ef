"""The moving average of the parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backends import Backend
from nn import SGD, Callback, Trainer
from tests.helpers.around_update import DATA, OPTIMIZERS, agree, are_equal, network
from tests.helpers.with_emulated import WITH_EMULATED, made


@pytest.fixture(params=WITH_EMULATED)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Every backend in float64, that on the emulated GPU among them."""
    return made(request.param, "float64")


def averages(decay: float, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    average = parameters[0]
    for now in parameters[1:]:
        average = {name: values + (1.0 - decay) * (now[name] - values) for name, values in average.items()}
    return average


class Notes(Callback):
    """The parameters after each batch."""

    reads_gradients = False

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def on_batch_end(self, trainer: Trainer, rows: int) -> None:
        self.seen.append(trainer.model.state_dict())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_average_is_the_formula(backend: Backend, optimizer: str) -> None:
    """From a copy after the first update on, over two fits; training itself is as without."""
    notes = Notes()
    model, other = network(backend), network(backend)
    trainer = Trainer(model, optimizer=OPTIMIZERS[optimizer](), average=0.8, callbacks=[notes])
    trainer.fit(DATA, 2, 20)
    trainer.fit(DATA, 1, 20)
    alone = Trainer(other, optimizer=OPTIMIZERS[optimizer](), callbacks=[Notes()])
    alone.fit(DATA, 3, 20)
    assert are_equal(model.state_dict(), other.state_dict())
    with trainer.averaged():
        agree(model.state_dict(), averages(0.8, notes.seen), rtol=1e-12)
    assert are_equal(model.state_dict(), other.state_dict())


def test_the_average_is_that_of_pytorch(backend: Backend) -> None:
    """``AveragedModel`` with ``get_ema_multi_avg_fn``, in float64, of the same parameters after each update."""
    torch = pytest.importorskip("torch")
    swa: Any = pytest.importorskip("torch.optim.swa_utils")
    notes = Notes()
    trainer = Trainer(network(backend), optimizer=SGD(0.3), average=0.9, callbacks=[notes])
    trainer.fit(DATA, 2, 10)
    followed = torch.nn.ParameterDict({name.replace(".", "_"): torch.tensor(x) for name, x in notes.seen[0].items()})
    average = swa.AveragedModel(followed, multi_avg_fn=swa.get_ema_multi_avg_fn(0.9))
    for seen in notes.seen:
        with torch.no_grad():
            for name, values in seen.items():
                followed[name.replace(".", "_")].copy_(torch.tensor(values))
        average.update_parameters(followed)
    with trainer.averaged():
        found = trainer.model.state_dict()
    expected = {name: average.module[name.replace(".", "_")].detach().numpy() for name in found}
    agree(found, expected, rtol=1e-12, atol=1e-14)


def test_the_trainer_evaluates_and_predicts_by_the_average(backend: Backend) -> None:
    model = network(backend)
    trainer = Trainer(model, optimizer=SGD(2.0), average=0.95)
    history = trainer.fit(DATA, 3, 10, validation=DATA[:30])
    trained, by_own = model.state_dict(), model.predict_proba(DATA)
    with trainer.averaged():
        average, by_average = model.state_dict(), model.predict_proba(DATA)
        with trainer.averaged():  # once is enough
            assert are_equal(model.state_dict(), average)
        assert are_equal(model.state_dict(), average)
        evaluated = Trainer(model).evaluate(DATA[:30])
    assert are_equal(model.state_dict(), trained)
    assert not np.allclose(by_own, by_average)
    np.testing.assert_array_equal(trainer.predict_proba(DATA), by_average)
    np.testing.assert_array_equal(trainer.predict(DATA), np.argmax(by_average, axis=1))
    assert trainer.evaluate(DATA[:30]) == evaluated
    assert trainer.losses(DATA[:30]).mean() == pytest.approx(evaluated["loss"])
    assert history["val_loss"][-1] == evaluated["loss"]
    np.testing.assert_array_equal(model.predict_proba(DATA), by_own)
    trainer.average = None
    np.testing.assert_array_equal(trainer.predict_proba(DATA), by_own)


def test_the_parameters_are_back_after_an_error_and_fit_is_refused_meanwhile() -> None:
    model = network()
    trainer = Trainer(model, average=0.9)
    trainer.fit(DATA, 1, 10)
    trained = model.state_dict()
    with pytest.raises(RuntimeError, match=r"outside of trainer\.averaged"), trainer.averaged():
        trainer.fit(DATA, 1, 10)
    assert are_equal(model.state_dict(), trained)
    trainer.fit(DATA, 1, 10)


def test_before_the_first_update_and_without_an_average_the_parameters_are_the_models_own() -> None:
    both: tuple[dict[str, Any], ...] = ({}, {"average": 0.9})
    for settings in both:
        model = network()
        before = model.state_dict()
        with Trainer(model, **settings).averaged():
            assert are_equal(model.state_dict(), before)


def test_an_average_begins_anew_where_it_was_off_and_where_the_model_was_reset() -> None:
    model, notes = network(), Notes()
    trainer = Trainer(model, average=0.8, callbacks=[notes])
    trainer.fit(DATA, 1, 20)
    trainer.average = None
    trainer.fit(DATA, 1, 20)
    trainer.average = 0.5
    trainer.fit(DATA, 1, 20)
    with trainer.averaged():
        agree(model.state_dict(), averages(0.5, notes.seen[8:]), rtol=1e-12)
    model.reset()
    trainer.fit(DATA, 1, 20)
    with trainer.averaged():
        agree(model.state_dict(), averages(0.5, notes.seen[12:]), rtol=1e-12)
