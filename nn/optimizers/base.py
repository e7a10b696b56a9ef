"""What an optimizer is: how parameters move against their gradients, the whole flat buffer in one operation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from math import inf
from typing import Any, ClassVar, NamedTuple, SupportsFloat

from backends import Backend
from backends.typing import Array
from backends.updates import get_rule

from ..memory import Store

#: A learning rate that changes: called with the number of the update, from 1.
Schedule = Callable[[int], float]
#: The update of a section of the flat buffers: ``update(number=..., learning_rate=...)``.
Update = Callable[..., Array]


class Fold(NamedTuple):
    """That all an optimizer does with a gradient is ``state <- kept state + fresh gradient``, the state then being the
    direction of the step: so whoever computes the gradient can add it there at once. Or that it does no more than move
    the parameters, ``parameters <- parameters - learning_rate gradient``: so even that can be done there.

    Attributes:
        state: the name of the array; "" for the parameters themselves.
        kept, fresh: the factors.
    """

    state: str
    kept: float = 1.0
    fresh: float = -1.0


class Optimizer:
    """Moves the parameters of one model by a rule of ``backends.updates``.

    A subclass is a dataclass that names its rule; its fields are ``learning_rate``, the settings of the rule and, for
    decoupled weight decay, ``weight_decay``. It can be asked for by the name of its rule as soon as it is defined; a
    subclass of it that names no rule of its own cannot, and leaves that name to it.

    Attributes:
        rule: the name of its row in ``backends.updates.RULES``.
        learning_rate: step size, or a function that gives that of update 1, 2, ...; may be changed between epochs.
        state: arrays as long as the flat parameters, by name; they start at 0.
        steps: how many updates have been made.
    """

    rule: ClassVar[str]
    learning_rate: Any  # float | Schedule, but so that typed code may say learning_rate *= 0.5
    weight_decay: float = 0.0
    state: dict[str, Array]
    steps: int = 0
    _store: Store | None = None

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "rule" in vars(cls):
            OPTIMIZERS[cls.rule] = cls

    def settings(self) -> dict[str, Any]:
        """The settings by name."""
        return {setting.name: getattr(self, setting.name) for setting in fields(self)}  # type: ignore[arg-type]

    def settings_of_rule(self) -> dict[str, Any]:
        """Those that the rule has."""
        return {name: getattr(self, name) for name in get_rule(self.rule).settings}

    def rate(self, update: int) -> float:
        """The learning rate of update ``update``, from 1.

        Raises:
            ValueError: a schedule gives no number of at least 0.
        """
        rate = self.learning_rate
        if not callable(rate):
            return float(rate)
        rate = rate(update)
        if not (_is_number(rate) and 0.0 <= rate < inf):
            raise ValueError(f"learning_rate({update}) must give a number of at least 0, not {rate!r}")
        return float(rate)

    def bind(self, store: Store) -> None:
        """Make the state for the parameters of a model.

        Raises:
            ValueError: the optimizer already belongs to another model.
        """
        if self._store is not None and self._store is not store:
            raise ValueError("this optimizer belongs to another model, whose state it keeps; make a new one")
        if self._store is None:
            self._store, self.state = store, {}
        for name in self.kept():
            if name not in self.state:
                self.state[name] = store.backend.zeros(store.flat_parameters.shape)

    def kept(self) -> tuple[str, ...]:
        """The names of the arrays that the rule keeps with these settings. (``state`` may have more, of others.)"""
        return get_rule(self.rule).state_names(self.settings_of_rule())

    def fold(self) -> Fold | None:
        """How a gradient can be added to the state by the product that computes it; None where it cannot."""
        return None

    def update_of(
        self,
        backend: Backend,
        parameters: Array,
        gradient: Array,
        state: dict[str, Array],
        *,
        n_decayed: int,
        folded: bool = False,
    ) -> Update:
        """The update of a section of the flat buffers, in place. The gradient's contents are arbitrary afterwards.

        Args:
            state: its arrays, by name; those that the settings do without are left alone.
            n_decayed: how many elements at the beginning of the section decay.
            folded: whether the state already has the gradient, as ``fold`` says.
        """
        # Arguments that are their own defaults are left out: each costs a little in every step.
        decay: dict[str, Any] = {}
        if self.weight_decay != 0.0 and n_decayed > 0:
            decay = {"weight_decay": self.weight_decay, "n_decayed": n_decayed}
        fold = self.fold() if folded else None
        if fold is not None:  # what is left to do is a plain step along the state
            return partial(backend.update, "sgd", parameters, state[fold.state], {}, **decay)
        kept = {name: state[name] for name in self.kept()}
        defaults = get_rule(self.rule).settings
        settings = {name: value for name, value in self.settings_of_rule().items() if value != defaults[name]}
        return partial(backend.update, self.rule, parameters, gradient, kept, **decay, **settings)

    def step(self, model: Any) -> None:
        """Move the parameters of a ``Sequential`` by the gradients that its ``backward`` left, and use these up. For
        training loops of one's own: ``forward``, ``backward``, ``step``."""
        store: Store = model.store
        self.bind(store)
        self.steps += 1
        store.gradients_are_kept = False
        update = self.update_of(
            store.backend, store.flat_parameters, store.flat_gradients, self.state, n_decayed=store.layout.n_decayed
        )
        update(number=self.steps, learning_rate=self.rate(self.steps))

    def check(self, least: dict[str, float], below: float = inf) -> None:
        """Raise a ValueError for a setting that is not a number from ``least`` (by name) up to below ``below``."""
        rate = self.learning_rate
        if not callable(rate) and not (_is_number(rate) and 0.0 < rate < inf):
            raise ValueError(
                f"{type(self).__name__}: learning_rate must be above 0, or a function of the update's number, "
                f"not {rate!r}"
            )
        for name, lowest in least.items():
            value = getattr(self, name)
            if not (_is_number(value) and lowest <= value < below):
                limit = f" and below {below:g}" if below < inf else ""
                raise ValueError(f"{type(self).__name__}: {name} must be at least {lowest:g}{limit}, not {value!r}")


def _is_number(value: Any) -> bool:
    """Whether it is a number of Python, NumPy or another library, an array of one element among them, but no text."""
    return isinstance(value, SupportsFloat) and not isinstance(value, str)


#: The optimizers by the names of their rules.
OPTIMIZERS: dict[str, type[Optimizer]] = {}
