"""A model that is loaded is the model that was saved: whatever it is asked, and however it is trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nn import SGD, Dataset, Dropout, Linear, ReLU, Sequential, Sigmoid, Softmax, Trainer, load_model, save_model
from nn.losses import Focal, Huber, SoftmaxCrossEntropy

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 17, size=(40, 6), dtype=np.uint8)
LABELS = RNG.integers(0, 3, 40)
YES_OR_NO = (RNG.uniform(size=(40, 3)) > 0.5).astype(np.float32)
VALUES = RNG.uniform(size=(40, 3))


def through_a_file(model: Sequential, folder: Path, **options: Any) -> Sequential:
    save_model(model, folder / "model.safetensors")
    return load_model(folder / "model.safetensors", "cpu", **options)


def data(y: np.ndarray) -> Dataset:
    return Dataset(PIXELS, y, scale=1 / 16, shift=-0.5)


#: The end of the network, the loss and the targets; between them every output activation and every kind of prediction.
TASKS: dict[str, tuple[list[Any], str, np.ndarray]] = {
    "softmax": ([Linear(8, 3), Softmax()], "softmax_cross_entropy", LABELS),
    "logits of classes": ([Linear(8, 3)], "softmax_cross_entropy", LABELS),
    "sigmoid, labels": ([Linear(8, 3), Sigmoid()], "binary_cross_entropy", YES_OR_NO),
    "logits of labels": ([Linear(8, 3)], "binary_cross_entropy", YES_OR_NO),
    "sigmoid, two classes": ([Linear(8, 1), Sigmoid()], "binary_cross_entropy", LABELS % 2),
    "values": ([Linear(8, 3)], "mean_squared_error", VALUES),
    "values between 0 and 1": ([Linear(8, 3), Sigmoid()], "mean_squared_error", VALUES),
    "classes by squared error": ([Linear(8, 3), Sigmoid()], "mean_squared_error", LABELS),
}


def trained(task: str, dtype: str = "float32") -> Sequential:
    end, loss, y = TASKS[task]
    model = Sequential(Linear(6, 8), ReLU(), Dropout(0.3), *end, backend="cpu", dtype=dtype, seed=9)
    Trainer(model, loss, SGD(0.5)).fit(data(y), 2, 16)
    return model


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_answers_alike(task: str, dtype: str, tmp_path: Path) -> None:
    """On raw pixels, which the model itself scales and shifts: bit for bit, in the model's own dtype."""
    model = trained(task, dtype)
    loaded = through_a_file(model, tmp_path)
    assert loaded.backend.dtype_name == dtype
    asked = [Sequential.__call__, Sequential.predict]
    if TASKS[task][1] != "mean_squared_error":
        asked.append(Sequential.predict_proba)
    for ask in asked:
        np.testing.assert_array_equal(ask(loaded, PIXELS), ask(model, PIXELS), strict=True)


def test_what_has_no_probabilities_has_none_afterwards(tmp_path: Path) -> None:
    loaded = through_a_file(trained("values"), tmp_path)
    with pytest.raises(ValueError, match="gives no probabilities"):
        loaded.predict_proba(PIXELS)


@pytest.mark.parametrize("y", [LABELS, VALUES, VALUES[:, 0]], ids=["classes", "three values", "a value"])
def test_names_shapes_and_the_loss_are_kept(y: np.ndarray, tmp_path: Path) -> None:
    names = ("ant", "bee", "cat") if y is LABELS else None
    end = Linear(6, 1 if y.ndim == 1 and names is None else 3)
    model = Sequential(end, backend="cpu")
    Trainer(model, "softmax_cross_entropy" if names else "mse").fit(Dataset(PIXELS, y, class_names=names))
    loaded = through_a_file(model, tmp_path)
    assert loaded.class_names == model.class_names == names
    assert loaded.target_shape == model.target_shape == y.shape[1:]
    assert loaded.loss_name == model.loss_name == ("softmax_cross_entropy" if names else "mean_squared_error")
    assert Trainer(loaded).loss.name == model.loss_name
    np.testing.assert_array_equal(loaded.predict(PIXELS), model.predict(PIXELS))
    if names:
        assert loaded.predict_names(PIXELS) == [names[i] for i in model.predict(PIXELS)]


def quantile(xp: Any, outputs: Any, targets: Any) -> Any:
    short = targets - outputs
    return xp.mean(xp.maximum(0.9 * short, -0.1 * short), axis=1), xp.where(short > 0, -0.9, 0.1) / outputs.shape[1]


def test_a_loss_is_kept_with_its_settings_unless_it_is_ones_own(tmp_path: Path) -> None:
    model = Sequential(Linear(6, 3), backend="cpu")
    for loss in (Huber(0.25), SoftmaxCrossEntropy(label_smoothing=0.1), Focal(gamma=1.0, alpha=None)):
        Trainer(model, loss).fit(data(LABELS if loss.targets == "classes" else YES_OR_NO))
        assert Trainer(through_a_file(model, tmp_path)).loss == loss
    own: Any = quantile
    Trainer(model, own).fit(data(VALUES))
    with pytest.raises(
        ValueError, match="trained with the loss 'quantile', which is not known here by its name; register it"
    ):
        Trainer(through_a_file(model, tmp_path))


@pytest.mark.parametrize("task", ["softmax", "logits of labels"])
def test_it_trains_on_alike(task: str, tmp_path: Path) -> None:
    """The seed decides the shuffles, seed and step the masks of dropout: another network otherwise."""
    _, loss, y = TASKS[task]
    model = trained(task)
    loaded = through_a_file(model, tmp_path)
    for each in (model, loaded):
        Trainer(each, loss, SGD(0.5, momentum=0.9)).fit(data(y), 2, 16)
    for name, values in model.state_dict().items():
        np.testing.assert_array_equal(loaded.state_dict()[name], values)


def test_an_untrained_model_takes_numbers_as_they_are(tmp_path: Path) -> None:
    model = Sequential(Linear(6, 3), Softmax(), backend="cpu", dtype="float64")
    np.testing.assert_array_equal(through_a_file(model, tmp_path)(PIXELS), model(PIXELS))


def test_another_dtype_is_that_of_everything(tmp_path: Path) -> None:
    loaded = through_a_file(trained("softmax", "float64"), tmp_path, dtype="float32")
    assert loaded(PIXELS).dtype == np.float32
    assert all(values.dtype == np.float32 for values in loaded.state_dict().values())
