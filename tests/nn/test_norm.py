"""LayerNorm and BatchNorm: beside PyTorch's, on every backend, through training, comparison and saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends import Backend
from nn import (
    SGD,
    BatchNorm,
    Callback,
    Dropout,
    LayerNorm,
    Linear,
    ReLU,
    Sequential,
    Softmax,
    Tanh,
    Trainer,
    check_gradients,
    compare_backends,
    load_data,
    load_model,
    save_model,
)
from nn.layers.norm import Normalization
from tests.helpers.backends import make_backend
from tests.helpers.with_emulated import WITH_EMULATED, made

DATA = load_data("digits", limit=200).train
KINDS = (LayerNorm, BatchNorm)
X = [
    [0.5, -1.0, 2.0], [1.5, 0.25, -0.5], [-2.0, 1.0, 0.0], [3.0, -0.75, 1.25], [0.1, 0.2, 0.3], [-1.0, 2.0, -3.0],
    [4.0, 0.5, -1.5], [0.75, -2.5, 1.0],
]  # fmt: skip
Y = [[0.2], [-0.4], [1.0], [0.0], [0.6], [-1.0], [0.3], [0.9]]
#: By PyTorch 2.13 in float64: norm(3), Linear(3, 1, bias=False) with weights 0.5, -1, 0.25, after an epoch of SGD(0.1)
#: on the mean squared error of X and Y in batches of 3, 3 and 2 rows; and its outputs in evaluation.
OF_TORCH: dict[type[Normalization], dict[str, list[float]]] = {
    LayerNorm: {
        "0.weight": [0.8261926444557423, 0.654956524725442, 0.999108834429065],
        "0.bias": [0.010983034303211084, -0.03320791474812369, 0.012060212237896592],
        "1.weight": [0.1420054164826147, -0.6544080950851086, 0.2533627794873285],
        "outputs": [0.8613087291040681, -0.014269067365829904, -0.5209804459123819, 0.7167135127528236,
            0.19255864737562034, -0.836370622958404, -0.0029385664175984455, 0.9033127546757683],
    },
    BatchNorm: {
        "0.weight": [0.8250047614161038, 0.6317865602962384, 0.9467412674033387],
        "0.bias": [0.03456724437044277, -0.10423082735181696, 0.015871534249370284],
        "1.weight": [0.12726246629087182, -0.6334985045985162, 0.027723437567263785],
        "0.running_mean": [0.30050000000000004, -0.04975, -0.028],
        "0.running_variance": [1.9046750000000001, 1.4372624999999999, 1.631075],
        "outputs": [0.44496172623458685, 0.052351219052943654, -0.45402224347813624, 0.5362755992723182,
            -0.021021198357958546, -0.7734468728750061, 0.13852725772474286, 0.9441985601359001],
    },
}  # fmt: skip


@pytest.fixture(params=WITH_EMULATED)
def which(request: pytest.FixtureRequest) -> Any:
    return request.param


class Watching(Callback):
    """Reads the steps as they are, so that they are not recorded."""

    def on_batch_end(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_is_that_of_pytorch(which: tuple[str, bool], kind: type[Normalization]) -> None:
    for dtype, tolerance in (("float64", 1e-11), ("float32", 1e-4)):
        model = Sequential(kind(3), Linear(3, 1, bias=False), backend=made(which, dtype), seed=0)
        model.load_state_dict({**model.state_dict(), "1.weight": np.array([[0.5], [-1.0], [0.25]])})
        Trainer(model, "mse", optimizer=SGD(0.1)).fit((np.array(X), np.array(Y)), 1, 3, shuffle=False)
        found = {**model.state_dict(), "outputs": model(np.array(X))}
        assert found.keys() == OF_TORCH[kind].keys()
        for name, expected in OF_TORCH[kind].items():
            np.testing.assert_allclose(found[name].ravel(), expected, rtol=tolerance, atol=tolerance, err_msg=name)


@settings(max_examples=20, deadline=None)
@given(
    kind=st.sampled_from(KINDS), m=st.integers(4, 30), n=st.integers(2, 20), batch_size=st.integers(4, 30),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_runs_are_those_of_the_pytorch_that_is_here(
    kind: type[Normalization], m: int, n: int, batch_size: int, seed: int
) -> None:
    torch = pytest.importorskip("torch")
    batch_size = m if m % batch_size == 1 else batch_size
    rng = np.random.default_rng(seed)
    x, y = 2.0 + 3.0 * rng.normal(size=(m, n)), rng.normal(size=(m, 1))
    model = Sequential(Linear(n, n), kind(n), Tanh(), Linear(n, 1), backend="cpu", dtype="float64", seed=seed)
    theirs = {LayerNorm: torch.nn.LayerNorm, BatchNorm: torch.nn.BatchNorm1d}[kind]
    net = torch.nn.Sequential(torch.nn.Linear(n, n), theirs(n), torch.nn.Tanh(), torch.nn.Linear(n, 1)).double()
    state = model.state_dict()
    with torch.no_grad():
        for i in (0, 3):
            net[i].weight.copy_(torch.asarray(state[f"{i}.weight"]).T)
            net[i].bias.copy_(torch.asarray(state[f"{i}.bias"]))
    Trainer(model, "mse", optimizer=SGD(0.05)).fit((x, y), 2, batch_size, shuffle=False)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    for i in [*range(0, m, batch_size)] * 2:
        optimizer.zero_grad()
        rows, targets = (torch.asarray(values[i : i + batch_size]) for values in (x, y))
        ((net(rows) - targets) ** 2).mean().backward()
        optimizer.step()
    net.eval()
    state, expected = model.state_dict(), net.state_dict()
    if kind is BatchNorm:
        np.testing.assert_allclose(state["1.running_mean"], expected["1.running_mean"], rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(state["1.running_variance"], expected["1.running_var"], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(state["1.weight"], expected["1.weight"].numpy(), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(model(x), net(torch.asarray(x)).detach().numpy(), rtol=1e-7, atol=1e-9)


def layers() -> list[Any]:
    return [
        Linear(64, 12), BatchNorm(12), ReLU(), Dropout(0.2), Linear(12, 12), LayerNorm(12, affine=False), Tanh(),
        BatchNorm(12, momentum=0.3, affine=False), Linear(12, 10), LayerNorm(10, epsilon=1e-3), Softmax(),
    ]  # fmt: skip


def test_gradients_are_right_and_leave_the_state(which: tuple[str, bool]) -> None:
    model = Sequential(layers(), backend=made(which, "float64"), seed=1)
    x, y = DATA.features("float64")[:9], DATA.y[:9]
    before = model.state_dict()
    assert check_gradients(model, "softmax_cross_entropy", x, y, directions=4).checked == 4
    trainer = Trainer(model)
    trainer.gradients((x, y))
    trainer.evaluate((x, y))
    model.predict(x)
    for name, values in model.state_dict().items():
        np.testing.assert_array_equal(values, before[name])


def test_a_run_is_alike_on_every_backend_and_recorded_as_it_is_eagerly(which: tuple[str, bool]) -> None:
    runs = []
    for on in (made(which, "float64"), make_backend(("cpu", False), "float64")):
        for callbacks in ([], [Watching()]):
            model = Sequential(layers(), backend=on, seed=2)
            trainer = Trainer(model, optimizer=SGD(0.05, momentum=0.9), callbacks=callbacks)
            history = trainer.fit(DATA, 3, 32, validation=DATA[:50])  # the last batch of each epoch is a short one
            runs.append((history["loss"] + history["val_loss"], model.state_dict()))
        assert on.why_eager == ""
    for losses, state in runs[1:]:
        np.testing.assert_allclose(losses, runs[0][0], rtol=1e-8)
        for name, values in state.items():
            np.testing.assert_allclose(values, runs[0][1][name], rtol=1e-6, atol=1e-9, err_msg=name)
    assert runs[0][0][2] < 0.8 * runs[0][0][0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_backends_agree_step_by_step(dtype: str) -> None:
    def make(on: Backend) -> Trainer:
        return Trainer(Sequential(layers(), backend=on), optimizer=SGD(0.1, momentum=0.9))

    backends = [make_backend(which, dtype) for which in (("cpu", True), ("cpu", False), ("array_api_strict", False))]
    result = compare_backends(make, backends, DATA, steps=8)
    assert result.agrees, str(result)


def test_parameters_do_not_decay_and_the_state_is_saved(tmp_path: Path) -> None:
    model = Sequential(layers(), backend="cpu", seed=3)
    trainer = Trainer(model, optimizer=SGD(0.1))
    trainer.fit(DATA, 2, 32)
    weights = sum(64 * 12 if i == 0 else 12 * 12 if i == 4 else 12 * 10 for i in (0, 4, 8))
    assert weights <= model.store.layout.n_decayed < weights + 3 * 16
    save_model(model, tmp_path / "norm.safetensors")
    loaded = load_model(tmp_path / "norm.safetensors", "cpu")
    assert loaded.layers == layers()
    for name, values in model.state_dict().items():
        np.testing.assert_array_equal(loaded.state_dict()[name], values)
    np.testing.assert_array_equal(loaded(DATA), model(DATA))
    model.reset()
    assert (model.state_dict()["1.running_variance"] == 1).all()
    assert not model.state_dict()["1.running_mean"].any()


def test_in_evaluation_a_row_counts_for_itself(which: tuple[str, bool]) -> None:
    model = Sequential(layers(), backend=made(which, "float32"), seed=3)
    Trainer(model, optimizer=SGD(0.1)).fit(DATA, 1, 32)
    together = model(DATA)
    np.testing.assert_allclose(model(DATA[:1]), together[:1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model(DATA[7:40]), together[7:40], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("rows", "batch_size", "written"), [(33, 32, 32), (1, 32, 32), (5, 1, 1), (1, None, 1)])
def test_a_training_batch_of_one_row_is_refused_before_the_first_step(rows: int, batch_size: Any, written: int) -> None:
    model = Sequential(Linear(64, 4), BatchNorm(4), Linear(4, 10), backend="cpu")
    before = model.state_dict()
    message = rf"^layer 1, BatchNorm\(4\): a training batch needs at least 2 rows, but {rows} rows in batches of "
    with pytest.raises(ValueError, match=message + f"{written} leave 1 for the last one; choose another batch_size$"):
        Trainer(model).fit(DATA[:rows], 1, batch_size)
    for name, values in model.state_dict().items():
        np.testing.assert_array_equal(values, before[name])
    Trainer(Sequential(Linear(64, 4), LayerNorm(4), Linear(4, 10), backend="cpu")).fit(DATA[:rows], 1, batch_size)


def test_the_gradients_of_one_row_are_refused() -> None:
    model = Sequential(Linear(64, 4), BatchNorm(4), Linear(4, 10), backend="cpu")
    with pytest.raises(ValueError, match=r"^layer 1, BatchNorm\(4\): a training batch of one row has no variance"):
        Trainer(model).gradients(DATA[:1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BatchNorm(0), "^BatchNorm: features must be a whole number of at least 1, not 0$"),
        (lambda: LayerNorm(2.5), "^LayerNorm: features must be a whole number of at least 1, not 2.5$"),  # type: ignore
        (lambda: LayerNorm(3, epsilon=0.0), "^LayerNorm: epsilon must be a number above 0, not 0.0$"),
        (lambda: BatchNorm(3, momentum=1.5), "^BatchNorm: momentum must be a number from 0 to 1, not 1.5$"),
        (lambda: Sequential(Linear(4, 3), BatchNorm(4), backend="cpu"), "takes rows of 4 numbers, not of shape"),
        (lambda: Sequential(LayerNorm(5), backend="cpu")(np.zeros((2, 2, 2))), "5"),
    ],
)
def test_what_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
