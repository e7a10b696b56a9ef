"""Random networks of convolutions, pooling, batch norms and shapes beside PyTorch, in float64."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from nn import SGD, Sequential, Trainer
from tests.helpers.picture_networks import ByHand, Drawn, drawn

torch = pytest.importorskip("torch")

NETWORKS = 200
EVERY = {
    "AvgPool2d", "BatchNorm2d", "ChannelsLast", "Conv2d", "ELU", "Flatten", "GELU", "GlobalAvgPool2d",
    "GlobalMaxPool2d", "LeakyReLU", "Linear", "MaxPool2d", "ReLU", "Reshape", "SiLU", "Sigmoid", "Softplus", "Tanh",
}  # fmt: skip


def model_of(network: Drawn, seed: int) -> Sequential:
    """With random biases and weights of norms: at 0, many values would stand exactly where an activation bends."""
    model = Sequential(network.layers, backend="cpu", dtype="float64", seed=seed)
    rng = np.random.default_rng(seed)
    state = model.state_dict()
    moved = {name: values + 0.3 * rng.normal(size=values.shape) for name, values in state.items() if "run" not in name}
    model.load_state_dict(state | moved)
    return model


def loss_of(kind: str, outputs: Any, network: Drawn) -> Any:
    labels = torch.tensor(network.labels)
    if kind == "softmax_cross_entropy":
        return torch.nn.functional.cross_entropy(outputs, labels)
    return torch.nn.functional.mse_loss(outputs, torch.eye(network.outputs, dtype=torch.float64)[labels])


def targets_of(kind: str, network: Drawn) -> Any:
    return network.labels if kind == "softmax_cross_entropy" else np.eye(network.outputs)[network.labels]


def test_the_networks_have_every_layer() -> None:
    used = Counter(type(layer).__name__ for seed in range(NETWORKS) for layer in drawn(seed).layers)
    assert used.keys() == EVERY
    assert min(used.values()) >= 30


@pytest.mark.parametrize("first", range(0, NETWORKS, 20))
def test_gradients_are_those_of_pytorch(first: int) -> None:
    for seed in range(first, first + 20):
        network = drawn(seed)
        model = model_of(network, seed)
        kind = ("softmax_cross_entropy", "mean_squared_error")[seed % 2]
        ours = Trainer(model, kind).gradients(network.x, targets_of(kind, network))
        theirs = ByHand(model)
        loss_of(kind, theirs(network.x, training=True), network).backward()
        expected = theirs.gradients()
        assert ours.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_allclose(ours[name], values, rtol=0, atol=1e-10, err_msg=f"{seed}: {name} of {model}")


@pytest.mark.parametrize("first", range(0, NETWORKS, 40))
def test_gradients_in_evaluation_are_those_of_pytorch(first: int) -> None:
    """Those of a batch norm go through its running statistics."""
    for seed in range(first, first + 40):
        network = drawn(seed)
        model = model_of(network, seed)
        Trainer(model, optimizer=SGD(0.01)).fit(network.x, network.labels, epochs=1)  # so that these are some
        theirs = ByHand(model)
        outputs = theirs(network.x, training=False)
        outputs.retain_grad()
        loss_of("softmax_cross_entropy", outputs, network).backward()
        np.testing.assert_allclose(model.forward(network.x), outputs.detach().numpy(), rtol=0, atol=1e-10)
        model.backward(outputs.grad.numpy().copy())
        for name, values in theirs.gradients().items():
            ours = model.gradients[name]
            np.testing.assert_allclose(ours, values, rtol=0, atol=1e-10, err_msg=f"{seed}: {name} of {model}")


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_training_runs_are_those_of_pytorch(first: int) -> None:
    """Three epochs in batches of 3 and 2 rows; then the outputs in evaluation, by the running statistics."""
    for seed in range(first, first + 10):
        network = drawn(seed)
        model = model_of(network, seed)
        theirs = ByHand(model)
        optimizer = torch.optim.SGD([*theirs.parameters.values()], lr=0.02, momentum=0.9)
        trainer = Trainer(model, optimizer=SGD(0.02, momentum=0.9))
        trainer.fit(network.x, network.labels, epochs=3, batch_size=3, shuffle=False)
        for _ in range(3):
            for part in (slice(0, 3), slice(3, 5)):
                optimizer.zero_grad()
                batch = network._replace(x=network.x[part], labels=network.labels[part])
                loss_of("softmax_cross_entropy", theirs(batch.x, training=True), batch).backward()
                optimizer.step()
        state = model.state_dict()
        with torch.no_grad():
            outputs = theirs(network.x, training=False).numpy()
        for name, values in {**theirs.parameters, **theirs.running}.items():
            np.testing.assert_allclose(state[name], values.detach().numpy(), rtol=1e-8, atol=1e-8, err_msg=str(model))
        np.testing.assert_allclose(model(network.x), outputs, rtol=1e-8, atol=1e-8, err_msg=str(model))
