"""Losses: their values and gradients beside PyTorch's, their settings, functions as losses, the targets they take."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends import Backend, get_backend
from nn import (
    SGD,
    Adam,
    Dataset,
    Linear,
    ReLU,
    Sequential,
    Sigmoid,
    Trainer,
    check_gradients,
    compare_backends,
    load_model,
    save_model,
)
from nn.losses import (
    LOSSES,
    BinaryCrossEntropy,
    CustomLoss,
    Focal,
    Huber,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    SoftmaxCrossEntropy,
    get_loss,
    loss_settings,
)
from nn.verify.gradients import GradientError
from tests.helpers.with_emulated import WITH_EMULATED, made

OUTPUTS = np.array([[1.5, -0.25, 0.75, -2.0], [-1.0, 0.5, 3.0, 0.125], [0.0, -0.5, 2.5, -3.0]])
LABELS = np.array([0, 3, 2])
YES = np.array([[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 0.0, 0.0]])
VALUES = np.array([[1.0, 0.5, 0.75, -4.0], [0.0, 0.25, -0.5, 1.5], [0.125, 2.0, 2.5, -3.5]])
#: Loss, targets, mean loss and gradient of PyTorch 2.13 in float64: cross_entropy, binary_cross_entropy_with_logits,
#: the focal loss as torchvision writes it, mse_loss, l1_loss and huber_loss.
PYTORCH: list[tuple[Loss, np.ndarray, float, list[list[float]]]] = [
    (
        SoftmaxCrossEntropy(),
        LABELS,
        1.2215869138977669,
        [
            [-0.1344871834091116, 0.03455427961227044, 0.0939282703655276, 0.0060046334313135505],
            [0.005277597182379716, 0.023652549609918146, 0.28814704277806713, -0.31707718957036496],
            [0.024086846532025006, 0.014609410917466085, -0.03989547092454726, 0.0011992134750561756],
        ],
    ),
    (
        SoftmaxCrossEntropy(label_smoothing=0.1),
        LABELS,
        1.3455452472311002,
        [
            [-0.10948718340911155, 0.026220946278937122, 0.0855949370321943, -0.0023286999020197805],
            [-0.0030557361509536162, 0.015319216276584818, 0.2798137094447338, -0.292077189570365],
            [0.015753513198691678, 0.006276077584132754, -0.014895470924547244, -0.007134119858277157],
        ],
    ),
    (
        BinaryCrossEntropy(),
        YES,
        1.1086981686845876,
        [
            [-0.015202126983863029, 0.03648529159285016, 0.05659822493128275, -0.07339975649815687],
            [0.02241178511416626, 0.05187161093348788, 0.07938117723520279, -0.03906588555218698],
            [-0.041666666666666664, -0.05187161093348788, 0.07701181833156305, 0.003952156098130565],
        ],
    ),
    (
        Focal(),
        YES,
        0.42411990530530835,
        [
            [-0.00035481469215074845, 0.01300352369530402, 0.04061152032773774, -0.02243153605101004],
            [0.0032863206235975388, 0.03288448886716144, 0.07042186753968051, -0.005223419811382194],
            [-0.006214308232083048, -0.010961496289053813, 0.07021269209716849, 1.9679490405517562e-05],
        ],
    ),
    (
        Focal(gamma=0.5, alpha=None),
        YES,
        0.9573377533635524,
        [
            [-0.009423561689206892, 0.03306830771847373, 0.05916824757972413, -0.07880065009356602],
            [0.016571193483301546, 0.05301397707033586, 0.08335561165379075, -0.03633451611145615],
            [-0.03967380487723684, -0.05301397707033586, 0.08186920759790028, 0.0012806502521417785],
        ],
    ),
    (
        MeanSquaredError(),
        VALUES,
        2.2109375,
        [
            [0.08333333333333333, -0.125, 0.0, 0.3333333333333333],
            [-0.16666666666666666, 0.041666666666666664, 0.5833333333333333, -0.22916666666666666],
            [-0.020833333333333332, -0.41666666666666663, 0.0, 0.08333333333333333],
        ],
    ),
    (
        MeanAbsoluteError(),
        VALUES,
        1.0416666666666667,
        [
            [0.08333333333333333, -0.08333333333333333, 0.0, 0.08333333333333333],
            [-0.08333333333333333, 0.08333333333333333, 0.08333333333333333, -0.08333333333333333],
            [-0.08333333333333333, -0.08333333333333333, 0.0, 0.08333333333333333],
        ],
    ),
    (
        Huber(),
        VALUES,
        0.7037760416666666,
        [
            [0.041666666666666664, -0.0625, 0.0, 0.08333333333333333],
            [-0.08333333333333333, 0.020833333333333332, 0.08333333333333333, -0.08333333333333333],
            [-0.010416666666666666, -0.08333333333333333, 0.0, 0.041666666666666664],
        ],
    ),
    (
        Huber(delta=0.3),
        VALUES,
        0.2763802083333333,
        [
            [0.024999999999999998, -0.024999999999999998, 0.0, 0.024999999999999998],
            [-0.024999999999999998, 0.020833333333333332, 0.024999999999999998, -0.024999999999999998],
            [-0.010416666666666666, -0.024999999999999998, 0.0, 0.024999999999999998],
        ],
    ),
]


@pytest.fixture(params=WITH_EMULATED)
def backend(request: pytest.FixtureRequest) -> Backend:
    return made(request.param, "float64")


@pytest.mark.parametrize(("loss", "targets", "value", "gradient"), PYTORCH, ids=lambda x: repr(x) * isinstance(x, Loss))
def test_losses_are_pytorchs(
    backend: Backend, loss: Loss, targets: np.ndarray, value: float, gradient: list[list[float]]
) -> None:
    with backend.use():
        outputs, on_device = backend.asarray(OUTPUTS), backend.asarray(targets)
        by_row = backend.empty((3,))
        totals, found = loss(backend, outputs, on_device, losses=by_row)
        np.testing.assert_allclose(backend.to_numpy(totals)[0] / 3, value, rtol=1e-12)
        np.testing.assert_allclose(backend.to_numpy(by_row).mean(), value, rtol=1e-12)
        assert found is not None
        np.testing.assert_allclose(backend.to_numpy(found), gradient, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("seed", range(3))
def test_losses_are_those_of_the_pytorch_that_is_here(seed: int) -> None:
    torch = pytest.importorskip("torch")
    functional, rng, backend = torch.nn.functional, np.random.default_rng(seed), get_backend("cpu", "float64")
    z, values, labels = rng.normal(0, 3, (20, 6)), rng.normal(0, 3, (20, 6)), rng.integers(0, 6, 20)
    smoothing, delta = rng.uniform(0, 0.9), rng.uniform(0.1, 3)
    cases: list[tuple[Loss, np.ndarray, Any]] = [
        (
            SoftmaxCrossEntropy(smoothing),
            labels,
            lambda x, t: functional.cross_entropy(x, t, label_smoothing=smoothing),
        ),
        (Huber(delta), values, lambda x, t: functional.huber_loss(x, t, delta=delta)),
        (MeanAbsoluteError(), values, functional.l1_loss),
        (MeanSquaredError(), values, functional.mse_loss),
    ]
    for loss, targets, theirs in cases:
        x = torch.tensor(z, requires_grad=True)
        expected = theirs(x, torch.tensor(targets))
        expected.backward()
        totals, gradient = loss(backend, z, targets)
        assert totals[0] / 20 == pytest.approx(expected.item(), rel=1e-12), loss
        np.testing.assert_allclose(np.asarray(gradient), x.grad.numpy(), rtol=1e-11, atol=1e-15, err_msg=repr(loss))


def test_limits_of_settings_are_the_losses_without_them() -> None:
    backend = get_backend("cpu", "float64")
    focal = Focal(gamma=0.0, alpha=None)(backend, OUTPUTS, YES)
    for found, expected in zip(focal, BinaryCrossEntropy()(backend, OUTPUTS, YES), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-14)
    (_, half), (_, whole) = (loss(backend, OUTPUTS, VALUES) for loss in (Huber(delta=1e9), MeanSquaredError()))
    np.testing.assert_allclose(2 * np.asarray(half), np.asarray(whole), rtol=1e-14)
    # A small delta: delta (|d| - delta / 2).
    np.testing.assert_allclose(
        Huber(delta=1e-9)(backend, OUTPUTS, VALUES)[0][0] / 1e-9,
        MeanAbsoluteError()(backend, OUTPUTS, VALUES)[0][0],
        rtol=1e-8,
    )


NOTHING: Any = [3]


# ---- settings, names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("huber", {"delta": 0.5}, Huber(0.5)),
        ("cross_entropy", {"label_smoothing": 0.1}, SoftmaxCrossEntropy(0.1)),
        ("focal", {"gamma": 1, "alpha": None}, Focal(1.0, None)),
        ("mae", {}, MeanAbsoluteError()),
        ("bce", {}, BinaryCrossEntropy()),
    ],
)
def test_a_loss_is_known_by_name_and_settings(name: str, settings: dict[str, Any], expected: Loss) -> None:
    found = get_loss(name, **settings)
    assert found == expected
    assert hash(found) == hash(expected)
    assert set(settings) <= set(loss_settings(name))
    assert eval(repr(found)) == found  # the repr rebuilds it
    assert get_loss(expected) is expected
    if settings:
        assert found != LOSSES[expected.name]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: get_loss("nonsense"), ValueError, "unknown loss 'nonsense'; known are softmax_cross_entropy, "),
        (
            lambda: get_loss("mse", delta=1.0),
            ValueError,
            "the loss mean_squared_error has no setting 'delta'; it has none",
        ),
        (lambda: get_loss("huber", gamma=1.0), ValueError, "the loss huber has no setting 'gamma'; it has delta"),
        (lambda: get_loss(NOTHING), TypeError, "a loss is a name, a Loss or a function"),
        (lambda: get_loss(Huber), TypeError, r"write Huber\(\)"),
        (
            lambda: Huber(0.0),
            ValueError,
            "delta must be a number above 0, not 0.0; at 0 it would be mean_absolute_error",
        ),
        (lambda: Huber(math.inf), ValueError, "delta must be a number above 0, not inf"),
        (lambda: Huber(NOTHING), ValueError, "delta must be a number"),
        (
            lambda: SoftmaxCrossEntropy(1.0),
            ValueError,
            "label_smoothing must be a number of at least 0 and below 1, not 1.0",
        ),
        (lambda: Focal(-1.0), ValueError, "gamma must be a number of at least 0, not -1.0"),
        (lambda: Focal(2.0, 1.5), ValueError, "alpha must be a number from 0 to 1, not 1.5"),
        (lambda: Focal(math.nan), ValueError, "gamma must be a number"),
        (lambda: CustomLoss(pinball, name="mse"), ValueError, "there is a loss mse already"),
    ],
)
def test_what_is_no_loss_is_refused(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("loss", [Huber(0.25), SoftmaxCrossEntropy(0.2), Focal(1.0, None), MeanAbsoluteError()])
def test_a_saved_model_knows_the_loss_with_its_settings(loss: Loss, tmp_path: Path) -> None:
    model = Sequential(Linear(3, 4), backend="cpu")
    targets = {"classes": LABELS, "values": YES}[loss.targets]
    Trainer(model, loss).fit(OUTPUTS[:, :3], targets)
    save_model(model, tmp_path / "m.safetensors")
    assert Trainer(load_model(tmp_path / "m.safetensors", backend="cpu")).loss == loss
    assert Trainer(model).loss == loss


# ---- training --------------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(7)
X = RNG.normal(size=(60, 5))
CLASSES = (X @ RNG.normal(size=(5, 4))).argmax(axis=1)
SEVERAL = (X @ RNG.normal(size=(5, 4)) > 0.3).astype(np.float64)
NUMBERS = X @ RNG.normal(size=(5, 4))


def pinball(xp: Any, outputs: Any, targets: Any) -> tuple[Any, Any]:
    """The loss of the 0.9-quantile."""
    short = targets - outputs
    losses = xp.mean(xp.maximum(0.9 * short, -0.1 * short), axis=1)
    return losses, xp.where(short > 0, -0.9 * xp.ones_like(short), 0.1 * xp.ones_like(short)) / outputs.shape[1]


def own_cross_entropy(xp: Any, z: Any, labels: Any) -> tuple[Any, Any]:
    n = z.shape[1]
    hit = xp.astype(labels[:, None] == xp.arange(n, dtype=xp.int64, device=z.device), z.dtype)
    shifted = z - xp.max(z, axis=1, keepdims=True)
    total = xp.sum(xp.exp(shifted), axis=1, keepdims=True)
    return xp.log(total[:, 0]) - xp.sum(hit * shifted, axis=1), xp.exp(shifted) / total - hit


OWN = CustomLoss(own_cross_entropy, targets="classes", output_activation="softmax")
TRAINED: list[tuple[Loss, np.ndarray]] = [
    (SoftmaxCrossEntropy(0.1), CLASSES),
    (BinaryCrossEntropy(), CLASSES),
    (BinaryCrossEntropy(), SEVERAL),
    (Focal(), CLASSES),
    (Focal(0.7, None), SEVERAL),
    (MeanAbsoluteError(), NUMBERS),
    (Huber(0.4), NUMBERS),
    (CustomLoss(pinball), NUMBERS),
    (OWN, CLASSES),
]
NAMED = [f"{loss.name}, {targets.dtype.kind}" for loss, targets in TRAINED]


def trainer(loss: Any, backend: Any = "cpu", **options: Any) -> Trainer:
    layers = [Linear(5, 8), ReLU(), Linear(8, 4)]
    return Trainer(Sequential(layers, backend=backend, dtype="float64", seed=3), loss, Adam(0.01), **options)


@pytest.mark.parametrize(("loss", "targets"), TRAINED, ids=NAMED)
def test_gradients_are_central_differences(loss: Loss, targets: np.ndarray) -> None:
    weights = RNG.uniform(0.1, 2.0, 60)
    report = check_gradients(trainer(loss).model, loss, X, targets, sample_weight=weights)
    assert report.checked == 10


@pytest.mark.parametrize(("loss", "targets"), TRAINED, ids=NAMED)
@pytest.mark.parametrize("weighted", [False, True])
def test_every_backend_makes_the_same_run(backend: Backend, loss: Loss, targets: np.ndarray, weighted: bool) -> None:
    """Recorded where it can be, beside the reference operations of NumPy, each step as it is."""
    weights = np.linspace(0.5, 2.0, 60) if weighted else None
    runs = []
    for on in (backend, made(("cpu", False), "float64")):
        run = trainer(loss, on)
        history = run.fit(X, targets, epochs=3, batch_size=16, validation=(X, targets), sample_weight=weights)
        runs.append((history["loss"], history["val_loss"], *run.model.state_dict().values()))
    for found, expected in zip(*runs, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("loss", "targets"), TRAINED, ids=NAMED)
def test_training_makes_the_loss_small_and_lockstep_takes_it(loss: Loss, targets: np.ndarray) -> None:
    run = trainer(loss)
    history = run.fit(X, targets, epochs=60, batch_size=16)
    assert history[-1]["loss"] < 0.5 * history[0]["loss"] or loss.name == "softmax_cross_entropy"
    assert history[-1]["loss"] < 0.85 * history[0]["loss"]
    reference = made(("cpu", False), "float64")
    comparison = compare_backends(
        lambda on: trainer(loss, on), {"cpu": get_backend("cpu", "float64"), "reference": reference},
        Dataset(X, targets), 1, 16,
    )  # fmt: skip
    assert comparison.agrees, str(comparison)


# ---- class labels for n sigmoid outputs ------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [[], [Sigmoid()]], ids=["logits", "sigmoid"])
@pytest.mark.parametrize("loss", [BinaryCrossEntropy(), Focal()], ids=repr)
def test_class_labels_are_one_of_n_answers(backend: Backend, loss: Loss, end: list[Any]) -> None:
    model = Sequential(Linear(5, 12), ReLU(), Linear(12, 4), *end, backend=backend, seed=3)
    run = Trainer(model, loss, SGD(0.5, momentum=0.9))
    history = run.fit(X, CLASSES, epochs=30, batch_size=20, validation=(X, CLASSES))
    assert model.task == "classes"
    predicted = model.predict(X)
    assert predicted.shape == (60,)
    np.testing.assert_array_equal(predicted, model.predict_proba(X).argmax(axis=1))
    accuracy = float((predicted == CLASSES).mean())
    assert accuracy > 0.8
    assert history[-1]["val_accuracy"] == pytest.approx(accuracy)
    assert run.evaluate(X, CLASSES)["accuracy"] == pytest.approx(accuracy)
    # The loss and its gradient are those of one-hot floats, of which there is no accuracy.
    one_hot = np.eye(4)[CLASSES]
    found = run.evaluate(X, one_hot)
    assert found["loss"] == pytest.approx(run.evaluate(X, CLASSES)["loss"], rel=1e-6)
    assert "accuracy" not in found


def test_two_classes_and_one_output_are_one_question() -> None:
    model = Sequential(Linear(5, 1), backend="cpu")
    run = Trainer(model, "bce", SGD(0.5))
    yes = (CLASSES == 1).astype(int)
    run.fit(X, yes, epochs=30)
    assert run.evaluate(X, yes)["accuracy"] == pytest.approx(float((model.predict(X) == yes).mean()))


# ---- what is one-hot never hangs on the rows -------------------------------------------------------------------------


def test_rows_that_happen_to_be_one_hot_are_taken_as_all_others() -> None:
    """Several answers each: the first 20 rows have one each, by chance."""
    several = np.concatenate([np.eye(4, dtype=int)[np.arange(20) % 4], np.tile([1, 0, 1, 0], (40, 1))])
    for dtype in (np.int64, np.uint8, np.bool_, np.float32):
        run = trainer("bce")
        run.fit(X, several.astype(dtype), epochs=2, batch_size=20, validation=(X[:20], several[:20].astype(dtype)))
        assert run.model.task == "labels"
        assert "val_accuracy" not in run.history[-1]
        part = run.evaluate(X[:20], several[:20].astype(dtype))
        assert set(part) == {"loss"}
        assert part["loss"] == pytest.approx(run.losses(X, several.astype(dtype))[:20].mean())


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool", "float32", "float64"])
def test_one_hot_rows_are_labels_for_a_loss_of_classes(dtype: str) -> None:
    by_label, one_hot = trainer("cross_entropy"), trainer("cross_entropy")
    by_label.fit(X, CLASSES, epochs=2, validation=0.25, class_weight="balanced")
    one_hot.fit(X, np.eye(4)[CLASSES].astype(dtype), epochs=2, validation=0.25, class_weight="balanced")
    assert one_hot.history["val_loss"] == by_label.history["val_loss"]
    assert one_hot.history["val_accuracy"] == by_label.history["val_accuracy"]
    with pytest.raises(ValueError, match=r"y\[2\] is not one-hot"):
        one_hot.evaluate(X[:3], np.array([[1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0]]).astype(dtype))


@pytest.mark.parametrize("loss", ["cross_entropy", "bce", "mse", "huber"])
def test_rows_that_lack_a_class_are_evaluated_as_any_others(loss: str) -> None:
    """The last class is in the training rows alone."""
    run = trainer(loss)
    few = CLASSES < 2
    run.fit(X, CLASSES, epochs=3, validation=(X[few], CLASSES[few]))
    wanted = float((run.predict(X[few]) == CLASSES[few]).mean())
    assert run.history[-1]["val_accuracy"] == pytest.approx(wanted)
    assert run.history[-1]["val_loss"] == pytest.approx(run.losses(X, CLASSES)[few].mean(), rel=1e-6)


# ---- functions as losses ---------------------------------------------------------------------------------------------


def test_a_function_is_a_loss(backend: Backend) -> None:
    run = trainer(pinball, backend)
    assert run.loss.name == "pinball"
    run.fit(X, NUMBERS[:, :4], epochs=50, batch_size=20)
    below = float((run.predict(X) >= NUMBERS).mean())
    assert 0.75 < below <= 1.0  # nine tenths of the targets lie below their 0.9-quantile


def test_a_function_for_classes_is_the_built_in_one() -> None:
    runs = [trainer(OWN), trainer("cross_entropy")]
    for run in runs:
        run.fit(X, CLASSES, epochs=3, batch_size=16)
    np.testing.assert_allclose(runs[0].history["loss"], runs[1].history["loss"], rtol=1e-10)
    assert runs[0].history["accuracy"] == runs[1].history["accuracy"]
    np.testing.assert_array_equal(runs[0].predict(X), runs[1].predict(X))
    np.testing.assert_allclose(runs[0].predict_proba(X), runs[1].predict_proba(X), rtol=1e-9)


def test_the_gradient_check_finds_a_slope_that_is_wrong() -> None:
    def wrong(xp: Any, outputs: Any, targets: Any) -> tuple[Any, Any]:
        difference = outputs - targets
        return xp.mean(difference * difference, axis=1), difference / outputs.shape[1]  # the factor 2 is missing

    with pytest.raises(GradientError, match="random direction 0"):
        check_gradients(trainer("mse").model, wrong, X, NUMBERS)


def test_a_step_with_a_function_is_recorded_only_where_it_says_so() -> None:
    """A function that counts its calls: of a recorded step none is left."""
    calls = []

    def counted(xp: Any, outputs: Any, targets: Any) -> tuple[Any, Any]:
        calls.append(1)
        return pinball(xp, outputs, targets)

    trainer(counted).fit(X, NUMBERS, epochs=5, batch_size=20)
    assert len(calls) == 15


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda xp, o, t: xp.mean(o, axis=1), TypeError, "its function must give two arrays, .* not ndarray"),
        (lambda xp, o, t: (xp.mean(o), o), ValueError, r"gave arrays of shapes \(\) and \(16, 4\); for outputs"),
        (lambda xp, o, t: (o, o), ValueError, r"the losses of the rows are \(16,\) and their derivatives \(16, 4\)"),
    ],
)
def test_what_a_function_must_give(function: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        trainer(function).fit(X, NUMBERS, epochs=1, batch_size=16)
