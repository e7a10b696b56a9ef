"""Networks to other libraries: what none of them takes, and a library that is not installed."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from nn import Linear, Sequential, from_keras, from_torch, to_keras, to_sklearn, to_torch


class Doubled(Linear):
    def forward(self, x: Any, ctx: Any) -> Any:
        return 2.0 * super().forward(x, ctx)


@pytest.mark.parametrize("to", [to_torch, to_keras, to_sklearn])
def test_a_layer_of_ones_own_is_named(to: Any, keras: Any) -> None:
    model = Sequential(Linear(3, 3), Doubled(3, 2), backend="cpu")
    with pytest.raises(
        TypeError, match=r"layer 1, Doubled\(3, 2\), cannot be expressed in .*: its class computes in a way"
    ):
        to(model)


@pytest.mark.parametrize(
    ("call", "module", "install"),
    [
        (to_torch, "torch", "torch"), (from_torch, "torch", "torch"), (to_keras, "keras", "keras"),
        (from_keras, "keras", "keras"), (to_sklearn, "sklearn.neural_network", "scikit-learn"),
    ],
)  # fmt: skip
def test_without_the_library_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, call: Any, module: str, install: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"nn.{call.__name__} needs {install}, .*: pip install {install}"):
        call(Sequential(Linear(3, 2), backend="cpu"))
