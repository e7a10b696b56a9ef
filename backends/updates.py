"""The rules of optimizers: each is one entry of one table, with everything every backend needs to compute it.

A rule says in which direction the parameters move against, from the gradient and from what it keeps of earlier ones.
``Backend.update`` does what all rules have in common, on flat buffers, in place:

    params <- params - learning_rate * (direction + weight_decay * params)

the decay for the first ``n_decayed`` elements only; it is decoupled: it does not pass through the state (Loshchilov and
Hutter, "Decoupled weight decay regularization", ICLR 2019).

To add a rule, add an entry here, or register it from anywhere, at any time::

    def sign(xp, gradient, state, number):
        return xp.sign(gradient), {}

    register_rule(Rule("sign", sign))

That much works on every backend. With a CUDA text it is one launch on a GPU. (An optimizer of that name is a class in
``nn/optimizers``.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import expm1, log
from typing import Any

from .typing import Array, Namespace


@dataclass(frozen=True)
class Rule:
    """A rule of updating: its state, its settings and its formula.

    Attributes:
        name: what ``Backend.update`` and optimizers call it.
        direction: ``direction(xp, gradient, state, number, **settings)`` gives, in array-API calls, the direction and
            the new state (a dict like ``state``); it changes no array. ``number`` is that of the update, from 1: an
            int, or an array of shape (1,) of the backend's wide float dtype.
        state: the names of the arrays that it keeps, each as long as the parameters; they start at 0, unless the
            optimizer says otherwise.
        settings: the names of its settings with their defaults, numbers or booleans.
        optional: for an array that is not always kept, the setting without which (0 or False) it is not.
        cuda: CUDA statements for one element that set ``direction`` and change the state. In them ``gradient`` and the
            arrays of the state go by their names and are of type ``REAL`` (an array that is not kept is 0, and its
            pointer, named ``..._of``, is null), settings and ``number`` are of type ``double`` (booleans ``int``).
            Without them a GPU computes by ``direction``, and a step with it is not captured.
    """

    name: str
    direction: Callable[..., tuple[Array, dict[str, Array]]]
    state: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    optional: Mapping[str, str] = field(default_factory=dict)
    cuda: str = ""

    def with_defaults(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """All settings: those given, and the defaults of the others.

        Raises:
            TypeError: there is no such setting.
        """
        if unknown := settings.keys() - self.settings.keys():
            known = ", ".join(self.settings) or "none"
            raise TypeError(f"update: rule {self.name!r} has no setting {', '.join(sorted(unknown))}; it has {known}")
        return {**self.settings, **settings}

    def state_names(self, settings: Mapping[str, Any]) -> tuple[str, ...]:
        """The names of the arrays that are kept with these settings."""
        full = self.with_defaults(settings)
        return tuple(name for name in self.state if name not in self.optional or full[self.optional[name]])

    def check_state(self, state: Mapping[str, Array], settings: Mapping[str, Any]) -> None:
        """Raise a ValueError unless ``state`` has the arrays that are kept with these settings."""
        missing = [name for name in self.state_names(settings) if name not in state]
        if missing:
            names = ", ".join(missing)
            raise ValueError(
                f"update: rule {self.name!r} with these settings keeps {names}: pass arrays of zeros under these names "
                "in `state` at the first update"
            )


def bias_correction(xp: Namespace, beta: float, number: int | Array, dtype: Any) -> Any:
    """1 - beta^number, by which a running mean that started at 0 is divided, as a Python number or in ``dtype``.

    As -expm1(number log(beta)) it loses nothing where beta^number is close to 1.
    """
    if beta == 0.0:
        return 1.0
    if isinstance(number, int):
        return -expm1(number * log(beta))
    return xp.astype(-xp.expm1(number * log(beta)), dtype)


def _sgd(
    xp: Namespace,
    gradient: Array,
    state: Mapping[str, Array],
    number: int | Array,
    *,
    momentum: float,
    dampening: float,
    nesterov: bool,
) -> tuple[Array, dict[str, Array]]:
    """v <- momentum v + (1 - dampening) g;  direction = v, or with Nesterov (1 - dampening) g + momentum v.

    Without a velocity it is g. ``dampening = momentum`` makes v an exponential moving average. Nesterov's form as in
    Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013.
    """
    if "velocity" not in state:
        return gradient, {}
    pushed = (1.0 - dampening) * gradient
    velocity = momentum * state["velocity"] + pushed
    direction = pushed + momentum * velocity if nesterov else velocity
    return direction, {"velocity": velocity}


def _adam(
    xp: Namespace,
    gradient: Array,
    state: Mapping[str, Array],
    number: int | Array,
    *,
    beta1: float,
    beta2: float,
    epsilon: float,
    epsilon_hat: bool,
) -> tuple[Array, dict[str, Array]]:
    """mean <- beta1 mean + (1 - beta1) g;  square <- beta2 square + (1 - beta2) g^2;
    direction = mean / (1 - beta1^number) / (sqrt(square / (1 - beta2^number)) + epsilon), or with epsilon hat
    mean / (1 - beta1^number) sqrt(1 - beta2^number) / (sqrt(square) + epsilon).

    Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015; epsilon hat is at the end of section 2.
    """
    mean = beta1 * state["mean"] + (1.0 - beta1) * gradient
    square = beta2 * state["square"] + (1.0 - beta2) * (gradient * gradient)
    corrected = mean / bias_correction(xp, beta1, number, mean.dtype)
    correction = bias_correction(xp, beta2, number, square.dtype)
    if epsilon_hat:
        epsilon = epsilon / correction**0.5
    return corrected / (xp.sqrt(square / correction) + epsilon), {"mean": mean, "square": square}


def _rmsprop(
    xp: Namespace,
    gradient: Array,
    state: Mapping[str, Array],
    number: int | Array,
    *,
    alpha: float,
    epsilon: float,
    momentum: float,
    centered: bool,
    epsilon_inside: bool,
) -> tuple[Array, dict[str, Array]]:
    """square <- alpha square + (1 - alpha) g^2;  direction = g / (sqrt(square) + epsilon), or with the epsilon inside
    g / sqrt(square + epsilon). Centered, mean <- alpha mean + (1 - alpha) g, and square - mean^2 stands for the square.
    With a momentum, velocity <- momentum velocity + that, and the direction is the velocity.

    Tieleman and Hinton, "Lecture 6.5: RMSProp", 2012; centered as in Graves, "Generating sequences with recurrent
    neural networks", 2013. Rounding may make the difference negative, which stands for 0.
    """
    square = alpha * state["square"] + (1.0 - alpha) * (gradient * gradient)
    changed, spread = {"square": square}, square
    if "mean" in state:
        changed["mean"] = mean = alpha * state["mean"] + (1.0 - alpha) * gradient
        if centered:
            spread = xp.maximum(square - mean * mean, xp.zeros_like(square))
    direction = gradient / (xp.sqrt(spread + epsilon) if epsilon_inside else xp.sqrt(spread) + epsilon)
    if "velocity" in state:
        changed["velocity"] = direction = momentum * state["velocity"] + direction
    return direction, changed


def _adagrad(
    xp: Namespace,
    gradient: Array,
    state: Mapping[str, Array],
    number: int | Array,
    *,
    epsilon: float,
    epsilon_inside: bool,
) -> tuple[Array, dict[str, Array]]:
    """squares <- squares + g^2;  direction = g / (sqrt(squares) + epsilon), or with the epsilon inside
    g / sqrt(squares + epsilon).

    Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic optimization", JMLR 2011.
    """
    squares = state["squares"] + gradient * gradient
    root = xp.sqrt(squares + epsilon) if epsilon_inside else xp.sqrt(squares) + epsilon
    return gradient / root, {"squares": squares}


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            name="sgd",
            direction=_sgd,
            state=("velocity",),
            settings={"momentum": 0.0, "dampening": 0.0, "nesterov": False},
            optional={"velocity": "momentum"},
        ),
        Rule(
            name="adam",
            direction=_adam,
            state=("mean", "square"),
            settings={"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "epsilon_hat": False},
        ),
        Rule(
            name="rmsprop",
            direction=_rmsprop,
            state=("square", "mean", "velocity"),
            settings={
                "alpha": 0.99,
                "epsilon": 1e-8,
                "momentum": 0.0,
                "centered": False,
                "epsilon_inside": False,
            },
            optional={"mean": "centered", "velocity": "momentum"},
            cuda="""
        square = REAL(alpha) * square + REAL(1 - alpha) * (gradient * gradient);
        mean = REAL(alpha) * mean + REAL(1 - alpha) * gradient;
        REAL spread = square;
        if (centered) {
            spread = square - mean * mean;
            if (spread < 0) spread = 0;
        }
        direction = gradient / (epsilon_inside ? sqrt(spread + REAL(epsilon)) : sqrt(spread) + REAL(epsilon));
        if (velocity_of) direction = velocity = REAL(momentum) * velocity + direction;
    """,
        ),
        Rule(
            name="adagrad",
            direction=_adagrad,
            state=("squares",),
            settings={"epsilon": 1e-10, "epsilon_inside": False},
            cuda="""
        squares = squares + gradient * gradient;
        direction = gradient / (epsilon_inside ? sqrt(squares + REAL(epsilon)) : sqrt(squares) + REAL(epsilon));
    """,
        ),
    )
}
#: Backends have code of their own for these.
BUILT_IN = frozenset(RULES)


def register_rule(rule: Rule) -> None:
    """Add a rule to the table, or replace one that was added before; backends see it at once.

    Raises:
        ValueError: its name is that of a built-in rule, or a name in it is not one that C could have.
    """
    if rule.name in BUILT_IN:
        raise ValueError(f"rule {rule.name!r} is built in; register yours under another name")
    for name in (rule.name, *rule.state, *rule.settings):
        if not (name.isascii() and name.isidentifier()):
            raise ValueError(f"the names of a rule must be letters, digits and underscores, not {name!r}")
    RULES[rule.name] = rule


def get_rule(name: str) -> Rule:
    """The rule called ``name``; a ValueError that lists the known names otherwise."""
    try:
        return RULES[name]
    except KeyError:
        raise ValueError(f"unknown rule {name!r}; known are {', '.join(RULES)}") from None
