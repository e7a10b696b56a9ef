"""What tests of pictures share."""

from __future__ import annotations

import pytest

from nn import Linear, Sigmoid, Softmax, Trainer
from tests.nn.report.plots.drawn import DIGITS, trained


@pytest.fixture(scope="module")
def ten() -> Trainer:
    """A network that has learned the digits badly: there are mistakes."""
    return trained(DIGITS, Linear(64, 12), Sigmoid(), Linear(12, 10), Softmax(), epochs=3)
