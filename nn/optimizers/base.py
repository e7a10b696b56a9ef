"""What an optimizer is: how parameters move against their gradients, the whole flat buffer in one operation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import fields
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, SupportsFloat

from backends import Backend
from backends.arguments import ArgumentTypeError, NamedArguments, check_flag, shown, unknown_setting
from backends.typing import Array, Shape
from backends.updates import get_rule

from ..memory import Store
from .schedules import schedule_to_json

#: A learning rate that changes: called with the number of the update, from 1.
Schedule = Callable[[int], float]
#: The update of a section of the flat buffers: ``update(number=..., learning_rate=...)``.
Update = Callable[..., Array]
#: The smallest number of float32 with all its digits.
_LEAST_EPSILON = 2.0**-126


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


class Optimizer(NamedArguments):
    """Moves the parameters of one model by a rule of ``backends.updates``.

    A subclass is a dataclass that names its rule; its fields are ``learning_rate``, the settings of the rule and, if it
    has them, ``weight_decay``, ``decoupled`` and ``l1``. It can be asked for by the name of its rule, or its own
    ``name``, as soon as it is defined; a subclass of it that names neither cannot, and leaves that name to it.

    A setting may be changed at any time. The new value is checked as the constructor checks it, and takes effect: the
    learning rate with the next update, all else with the next epoch of ``Trainer.fit`` or the next ``step``. Where an
    array is kept from then on, it starts then. What is no setting cannot be set.

    Attributes:
        rule: the name of its row in ``backends.updates.RULES``.
        name: by which it is asked for; that of the rule unless it says otherwise.
        fixed: settings that only count before the first update, and cannot be changed later.
        learning_rate: step size, or a function that gives that of update 1, 2, ...
        weight_decay: of the weights (not the biases), decoupled or not.
        decoupled: how weights decay. True: each step also shrinks them by ``learning_rate * weight_decay``, beside the
            rule (Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019). False: ``weight_decay``
            times the weights is added to their gradient before the rule, as by a loss with ``weight_decay / 2`` times
            their squares.
        l1: this times their sign is added to the gradient of the weights before the rule, as by a loss with ``l1``
            times their absolute values.
        state: arrays as long as the flat parameters, by name.
        steps: how many updates have been made.
    """

    rule: ClassVar[str]
    name: ClassVar[str]
    fixed: ClassVar[tuple[str, ...]] = ()
    learning_rate: Any  # float | Schedule, but so that typed code may say learning_rate *= 0.5
    weight_decay: float = 0.0
    decoupled: bool = True
    l1: float = 0.0
    state: dict[str, Array]
    steps: int = 0
    _store: Store | None = None
    _is_made: bool = False

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "rule" in vars(cls) and "name" not in vars(cls):
            cls.name = cls.rule
        if "name" in vars(cls):
            OPTIMIZERS[cls.name] = cls

    def __post_init__(self) -> None:
        self.validate()
        self._is_made = True

    if not TYPE_CHECKING:  # so that type checkers still know which names there are

        def __setattr__(self, name: str, value: Any) -> None:
            if name in _NO_SETTINGS or not self._is_made or name.startswith("_"):
                object.__setattr__(self, name, value)
                return
            known = [setting.name for setting in fields(self)]
            if name not in known:
                if hasattr(type(self), name) and name not in {*vars(Optimizer), *Optimizer.__annotations__}:
                    object.__setattr__(self, name, value)  # of a subclass, which says that it has it
                    return
                raise AttributeError(unknown_setting(type(self), name, known))
            before = getattr(self, name)
            if name in self.fixed and self._store is not None and value != before:
                raise ValueError(
                    f"{type(self).__name__}: {name} counts at the beginning only, and this optimizer already belongs "
                    "to a model; make a new one"
                )
            object.__setattr__(self, name, value)
            try:
                self.validate()
            except BaseException:
                object.__setattr__(self, name, before)
                raise

    def validate(self) -> None:
        """Raise a ValueError for a setting that cannot be used. Called after construction and after each change."""
        self.check({"weight_decay": 0.0, "l1": 0.0})
        self.check_flags("decoupled")

    def settings(self) -> dict[str, Any]:
        """The settings by name."""
        return {setting.name: getattr(self, setting.name) for setting in fields(self)}  # type: ignore[arg-type]

    def telling(self) -> dict[str, Any]:
        """The settings that somebody should be told: not those that are 0 or False, and of decay that it is decoupled
        only where it is not."""
        found = {name: value for name, value in self.settings().items() if value and name != "decoupled"}
        return found | ({} if self.decoupled or not self.weight_decay else {"decoupled": False})

    def to_json(self) -> dict[str, Any]:
        """The settings as numbers, texts and dicts, a schedule by ``schedule_to_json``.

        Raises:
            TypeError: the learning rate is a function that is no ``RateSchedule``.
        """
        rate = self.learning_rate
        written: dict[str, Any] = {"learning_rate": schedule_to_json(rate) if callable(rate) else float(rate)}
        for name, value in self.settings().items():
            if name != "learning_rate":
                written[name] = value if isinstance(value, bool) else float(value)
        return written

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
            raise ValueError(f"learning_rate({update}) must give a number of at least 0, not {shown(rate)}")
        return float(rate)

    @property
    def rate_changes(self) -> bool:
        """Whether the learning rate may differ from update to update."""
        return callable(self.learning_rate)

    @property
    def divides_zeros(self) -> bool:
        """Whether an element whose gradients have all been 0 is moved by 0 / 0: where its mean square or their sum is
        divided by, and the rule adds no ``epsilon`` to it, or one that float32 may not tell from 0. What lies between
        parameters in the flat buffers is such an element, so each parameter is updated by itself then."""
        return "epsilon" in get_rule(self.rule).settings and self.settings_of_rule()["epsilon"] < _LEAST_EPSILON

    def bind(self, store: Store) -> None:
        """Make the state for the parameters of a model.

        Raises:
            ValueError: the optimizer already belongs to another model.
        """
        if self._store is not None and self._store is not store:
            raise ValueError("this optimizer belongs to another model, whose state it keeps; make a new one")
        if self._store is None:
            self._store, self.state = store, self._state_for(store)
            self._is_made = True  # a subclass may have a __post_init__ of its own
        missing = [name for name in self.kept() if name not in self.state]
        self.state |= self.new_state(store.backend, store.flat_parameters.shape, missing)

    def _state_for(self, store: Store) -> dict[str, Array]:
        """What a copy or a pickle has brought along, on the device of this store."""
        backend, shape = store.backend, tuple(store.flat_parameters.shape)
        state = {}
        for name, array in vars(self).get("state", {}).items():
            if tuple(array.shape) != shape:
                raise ValueError(
                    f"this {type(self).__name__} is a copy of one that moves {array.shape[0]} numbers, and cannot go "
                    f"on with a model of {shape[0]}; make a new one"
                )
            state[name] = backend.copy(backend.asarray(array, backend.dtype))
        return state

    # A copy belongs to no model: it takes its state to the first one of the same parameters that it is used with.

    def __deepcopy__(self, memo: dict[int, Any]) -> Optimizer:
        new: Optimizer = object.__new__(type(self))
        memo[id(self)] = new
        kept = {name: value for name, value in vars(self).items() if name not in ("state", "_store")}
        vars(new).update(deepcopy(kept, memo))
        if "state" in vars(self):
            store = self._store
            with nullcontext() if store is None else store.backend.use():
                copied = deepcopy if store is None else store.backend.copy
                vars(new)["state"] = {name: copied(array) for name, array in self.state.items()}
        return new

    def __copy__(self) -> Optimizer:
        return deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in vars(self).items() if name != "_store"}
        if "state" in kept and self._store is not None:
            to_numpy = self._store.backend.to_numpy
            kept["state"] = {name: to_numpy(array).copy() for name, array in self.state.items()}
        return kept

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def kept(self) -> tuple[str, ...]:
        """The names of the arrays that the rule keeps with these settings. (``state`` may have more, of others.)"""
        return get_rule(self.rule).state_names(self.settings_of_rule())

    def new_state(self, backend: Backend, shape: Shape, names: Iterable[str] | None = None) -> dict[str, Array]:
        """The arrays of that shape before the first update: all that are kept, or those of these names."""
        state, initial = {}, self.initial()
        for name in self.kept() if names is None else names:
            state[name] = array = backend.zeros(shape)
            if name in initial:
                array[...] = initial[name]
        return state

    def initial(self) -> Mapping[str, float]:
        """With what arrays of the state start that do not start at 0, by name."""
        return {}

    def penalty(self) -> dict[str, float]:
        """What is added to the gradient of the weights, as the arguments of ``Backend.add_penalty``."""
        l2 = 0.0 if self.decoupled else self.weight_decay
        return {name: times for name, times in (("l1", self.l1), ("l2", l2)) if times != 0.0}

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
        if self.decoupled and self.weight_decay != 0.0 and n_decayed > 0:
            decay = {"weight_decay": self.weight_decay, "n_decayed": n_decayed}
        fold = self.fold() if folded else None
        if fold is not None:  # what is left to do is a plain step along the state
            return partial(backend.update, "sgd", parameters, state[fold.state], {}, **decay)
        kept = {name: state[name] for name in self.kept()}
        defaults = get_rule(self.rule).settings
        settings = {name: value for name, value in self.settings_of_rule().items() if value != defaults[name]}
        update = partial(backend.update, self.rule, parameters, gradient, kept, **decay, **settings)
        penalty = self.penalty()
        if not penalty or n_decayed == 0:
            return update
        weights, of_weights = parameters[:n_decayed], gradient[:n_decayed]

        def update_with_penalty(**numbers: Any) -> Array:
            backend.add_penalty(of_weights, weights, out=of_weights, **penalty)
            return update(**numbers)

        return update_with_penalty

    def step(self, model: Any) -> None:
        """Move the parameters of a ``Sequential`` by the gradients that its ``backward`` left, and use these up. For
        training loops of one's own: ``forward``, ``backward``, ``step``."""
        try:
            store: Store = model.store
        except AttributeError:
            raise ArgumentTypeError(f"step moves the parameters of a Sequential, not of {shown(model)}") from None
        self.bind(store)
        self.steps += 1
        store.gradients_are_kept = False
        for part in store.layout.parts(self.divides_zeros):
            update = self.update_of(
                store.backend,
                store.flat_parameters[part],
                store.flat_gradients[part],
                {name: array[part] for name, array in self.state.items()},
                n_decayed=store.layout.n_decayed_in(part),
            )
            update(number=self.steps, learning_rate=self.rate(self.steps))

    def check(self, least: dict[str, float], below: float = inf) -> None:
        """Raise a ValueError for a setting that is not a number from ``least`` (by name) up to below ``below``."""
        rate = self.learning_rate
        if isinstance(rate, type) or not (callable(rate) or (_is_number(rate) and 0.0 < rate < inf)):
            hint = f"; write {rate.__name__}(...)" if isinstance(rate, type) else ""
            raise ValueError(
                f"{type(self).__name__}: learning_rate must be above 0, or a function of the update's number, "
                f"not {shown(rate)}{hint}"
            )
        for name, lowest in least.items():
            value = getattr(self, name)
            if not (_is_number(value) and lowest <= value < below):
                limit = f" and below {below:g}" if below < inf else ""
                raise ValueError(
                    f"{type(self).__name__}: {name} must be at least {lowest:g}{limit}, not {shown(value)}"
                )

    def check_flags(self, *names: str) -> None:
        """Raise a ValueError for a setting that is neither True nor False."""
        for name in names:
            object.__setattr__(self, name, check_flag(f"{type(self).__name__}: {name}", getattr(self, name)))


def _is_number(value: Any) -> bool:
    """Whether it is one number of Python, NumPy or another library, be it an array of one element, but no text."""
    if type(value) is float:  # the usual case, which the rest takes many times as long for
        return True
    if not isinstance(value, SupportsFloat) or isinstance(value, str | bool):
        return False
    try:
        float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # an array of several
        return False
    return True


#: What is set without being a setting.
_NO_SETTINGS = frozenset({"steps", "state"})

#: The optimizers by the names of their rules.
OPTIMIZERS: dict[str, type[Optimizer]] = {}
