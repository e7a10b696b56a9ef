"""``python -m tests.nn.optimizers.pytorch_rules``: twenty updates by PyTorch's optimizers in float64, written to
``pytorch_rules.json``, so that they can be compared with on a machine without PyTorch.

The first ``N_WEIGHTS`` parameters are weights, which decay; the others are biases, which do not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from nn.optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSProp

PATH = Path(__file__).with_suffix(".json")
UPDATES, N_WEIGHTS, N_BIASES = 20, 4, 2


@dataclass(frozen=True)
class Rule:
    """An optimizer of xpnet, and the one of PyTorch that makes the same updates.

    Attributes:
        make, settings: of xpnet.
        torch: the name of the optimizer in ``torch.optim``.
        of_torch: its settings.
        decay: its ``weight_decay``, of the weights.
        first: what the first gradient is multiplied by for PyTorch, whose velocity starts at it, undampened.
    """

    make: type[Optimizer]
    settings: dict[str, Any]
    torch: str
    of_torch: dict[str, Any] = field(default_factory=dict)
    decay: float = 0.0
    first: float = 1.0

    @property
    def name(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return f"{self.make.__name__}({settings})"


def rules() -> list[Rule]:
    """Every rule, with every combination of its settings that PyTorch has."""
    found = []
    for decay, l1 in product((0.0, 0.1), (0.0, 0.02)):
        coupled: dict[str, Any] = {"weight_decay": decay, "decoupled": False} if decay else {}
        coupled |= {"l1": l1} if l1 else {}
        momentum: dict[str, Any]
        for momentum in ({}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}):
            found.append(Rule(SGD, {**momentum, **coupled}, "SGD", {"lr": 0.1, **momentum}, decay))
        found.append(Rule(Adam, coupled, "Adam", {}, decay))
        betas = {"beta1": 0.5, "beta2": 0.9, "epsilon": 1e-3}
        found.append(Rule(Adam, {**betas, **coupled}, "Adam", {"betas": (0.5, 0.9), "eps": 1e-3}, decay))
        for velocity, centered in product((0.0, 0.9), (False, True)):
            chosen = {name: value for name, value in (("momentum", velocity), ("centered", centered)) if value}
            found.append(Rule(RMSProp, {**chosen, **coupled}, "RMSprop", chosen, decay))
        found.append(Rule(Adagrad, coupled, "Adagrad", {}, decay))
        both = {"lr_decay": 0.05, "initial_accumulator_value": 0.1}
        found.append(Rule(Adagrad, {**both, **coupled}, "Adagrad", both, decay))
    dampened = {"momentum": 0.9, "dampening": 0.5}
    found.append(Rule(SGD, dampened, "SGD", {"lr": 0.1, **dampened}, first=0.5))
    found.append(Rule(RMSProp, {"alpha": 0.9, "epsilon": 1e-3}, "RMSprop", {"alpha": 0.9, "eps": 1e-3}))
    found.append(Rule(Adagrad, {"epsilon": 1e-3}, "Adagrad", {"eps": 1e-3}))
    found.append(Rule(AdamW, {}, "AdamW", {}, decay=0.01))
    found.append(Rule(AdamW, {"weight_decay": 0.3, "l1": 0.02}, "AdamW", {}, decay=0.3))
    found.append(Rule(Adam, {"weight_decay": 0.3}, "AdamW", {}, decay=0.3))
    return found


def by_torch(rule: Rule, start: Any, gradients: Any) -> Any:
    """The parameters after each update, by PyTorch."""
    import torch

    weights, biases = (torch.tensor(part, requires_grad=True) for part in (start[:N_WEIGHTS], start[N_WEIGHTS:]))
    groups = [{"params": [weights], "weight_decay": rule.decay}, {"params": [biases], "weight_decay": 0.0}]
    optimizer = getattr(torch.optim, rule.torch)(groups, **rule.of_torch)
    after = []
    for update, gradient in enumerate(gradients):
        given = torch.tensor(gradient) * (rule.first if update == 0 else 1.0)
        weights.grad = given[:N_WEIGHTS] + rule.settings.get("l1", 0.0) * weights.detach().sign()
        biases.grad = given[N_WEIGHTS:].clone()
        optimizer.step()
        after.append([*weights.tolist(), *biases.tolist()])
    return np.array(after)


def given_numbers() -> tuple[Any, Any]:
    """The parameters before the first update, and the gradients: numbers with a few digits."""
    rng = np.random.default_rng(2024)
    start, gradients = rng.normal(size=N_WEIGHTS + N_BIASES), rng.normal(size=(UPDATES, N_WEIGHTS + N_BIASES))
    gradients *= [1.0, 1e-3, 30.0, 1.0, 0.1, 1.0]
    gradients[:, 3] = 0.0  # moved by the penalties alone
    return np.round(start, 6), np.round(gradients, 6)


def main() -> None:
    start, gradients = given_numbers()
    written = {
        "start": start.tolist(),
        "gradients": gradients.tolist(),
        # After the first two updates and after the last.
        "after": {rule.name: by_torch(rule, start, gradients)[[0, 1, -1]].tolist() for rule in rules()},
    }
    lines = ",\n".join(f'"{name}": {json.dumps(value)}' for name, value in written["after"].items())
    head = ",\n".join(f'"{name}": {json.dumps(written[name])}' for name in ("start", "gradients"))
    PATH.write_text(f'{{\n{head},\n"after": {{\n{lines}\n}}\n}}\n')


if __name__ == "__main__":
    main()
