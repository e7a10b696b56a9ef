"""Networks on pictures: convolution, pooling, normalization and shapes, trained from the first row to the last."""

from __future__ import annotations

import pytest

from nn import (
    SGD,
    AvgPool2d,
    BatchNorm2d,
    ChannelsLast,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Reshape,
    Sequential,
    Softmax,
    Tanh,
    Trainer,
    load_data,
)

DIGITS = load_data("digits", limit=1200)
NETWORKS: dict[str, list[Layer]] = {
    "flat rows": [
        Reshape(8, 8, 1), Conv2d(1, 8, 3, padding="same"), BatchNorm2d(8), ReLU(), MaxPool2d(2),
        Conv2d(8, 16, 3, padding=1, groups=2), Tanh(), AvgPool2d(2), Flatten(), Linear(64, 10), Softmax(),
    ],
    "pictures": [Conv2d(1, 16, 3), ReLU(), Conv2d(16, 32, 3), ReLU(), GlobalMaxPool2d(), Linear(32, 10), Softmax()],
    "channels first": [
        Reshape(1, 8, 8), ChannelsLast(), Conv2d(1, 16, 3), MaxPool2d(3, stride=1, padding=1), ReLU(),
        Conv2d(16, 24, 3), ReLU(), GlobalAvgPool2d(), Linear(24, 10),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("network", "least"), [("flat rows", 0.9), ("pictures", 0.85), ("channels first", 0.7)])
def test_a_network_learns_digits(network: str, least: float) -> None:
    model = Sequential(*NETWORKS[network], backend="cpu", seed=1)
    trainer = Trainer(model, optimizer=SGD(0.1, momentum=0.9))
    history = trainer.fit(DIGITS.train, epochs=4, batch_size=32, validation=DIGITS.test)
    assert history[-1]["val_accuracy"] >= least
