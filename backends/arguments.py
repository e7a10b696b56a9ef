"""Checks of what users pass to constructors, functions and methods: one line for each argument, and one sentence for
the user: what is wrong, where, and what to do.

In all of them ``name`` is how messages call the argument: ``"batch_size"``, ``"Linear: in_features"``. A value that
cannot be is a ValueError. A value of the wrong kind, text for a number, is an ``ArgumentTypeError``, which is a
TypeError, and a ValueError as well. Numbers of NumPy, and arrays without dimensions, are numbers.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches
from functools import lru_cache
from math import isfinite, isnan
from numbers import Real
from operator import index
from pathlib import Path
from reprlib import Repr
from typing import TYPE_CHECKING, Any

from .messages import OneSentence

#: A value takes so many characters of a message at most.
LONGEST = 60
#: And a list of names that are known so many.
MOST_LISTED = 130
#: The largest whole number, unless a check says otherwise: that of an int64.
LARGEST = 2**63 - 1
#: What other libraries call settings, and what they are called here.
ELSEWHERE = {
    "lr": ("learning_rate",),
    "eta": ("learning_rate",),
    "eps": ("epsilon",),
    "rho": ("alpha",),
    "beta_1": ("beta1",),
    "beta_2": ("beta2",),
    "betas": ("beta1",),
    "decay": ("weight_decay",),
    "l2": ("weight_decay",),
    "wd": ("weight_decay",),
    "p": ("rate",),
    "units": ("out_features",),
    "kernel_initializer": ("weight_init",),
    "bias_initializer": ("bias_init",),
    "use_bias": ("bias",),
    "num_features": ("features",),
    "normalized_shape": ("features",),
    "elementwise_affine": ("affine",),
    "criterion": ("loss",),
    "device": ("backend",),
    "random_state": ("seed",),
    "restore_best_weights": ("restore_best",),
    "gradient_clip_val": ("clip_norm",),
    "clipnorm": ("clip_norm",),
    "clipvalue": ("clip_value",),
    "filepath": ("path",),
    "filename": ("path",),
    "log_dir": ("folder",),
    "logdir": ("folder",),
}


class ArgumentTypeError(OneSentence, TypeError, ValueError):
    """An argument of the wrong kind."""


def shown(value: Any, most: int = LONGEST, *, quotes: bool = True) -> str:
    """``value`` as Python writes it, but in one line, without control characters, and of so many characters at most.

    Args:
        quotes: whether text stands in quotation marks.
    """
    short = Repr()
    short.maxstring = short.maxother = short.maxlong = most
    short.maxlevel = 3
    try:
        text = short.repr(value)
    except Exception:  # of a number of more than 4,300 digits, for one
        text = f"<{type(value).__name__}>"
    if "\n" in text:  # of an array
        text = " ".join(text.split())
    text = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
    if isinstance(value, str) and not quotes:
        text = text[1:-1]
    return text if len(text) <= most else f"{text[: most - 15]}...{text[-12:]}"


# ---- numbers ---------------------------------------------------------------------------------------------------------


def is_number(value: Any) -> bool:
    """Whether it is one real number, of Python or NumPy, be it an array without dimensions; no bool."""
    if isinstance(value, Real):
        return not isinstance(value, bool)
    return getattr(value, "shape", None) == () and getattr(getattr(value, "dtype", None), "kind", "") in ("i", "u", "f")


def check_number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    infinite: bool = False,
    hint: str = "",
) -> float:
    """``value`` as a number of Python: finite, unless ``infinite``, and within these limits.

    Args:
        hint: what else to say of a number that is not.

    Raises:
        ValueError: it is out of them.
        ArgumentTypeError: it is no number.
    """
    if not is_number(value):
        raise ArgumentTypeError(f"{name} must be {_wanted(above, least, below, most)}, not {shown(value)}{hint}")
    try:
        number = value if type(value) in (int, float) else float(value)
        is_finite = isfinite(number)
    except OverflowError:
        is_finite = infinite = False
    if (
        not (is_finite or infinite)
        or isnan(number)
        or (above is not None and not number > above)
        or (least is not None and not number >= least)
        or (below is not None and not number < below)
        or (most is not None and not number <= most)
    ):
        raise ValueError(f"{name} must be {_wanted(above, least, below, most)}, not {shown(value)}{hint}")
    return number


def _wanted(above: float | None, least: float | None, below: float | None, most: float | None) -> str:
    """Which numbers are within these limits."""
    if least is not None and most is not None:
        return f"a number from {least:g} to {most:g}"
    limits = (("above", above), ("of at least", least), ("below", below), ("at most", most))
    wanted = " and ".join(f"{word} {limit:g}" for word, limit in limits if limit is not None)
    return f"a number {wanted}" if wanted else "a finite number"


def check_whole_number(name: str, value: Any, least: int = 1, most: int = LARGEST) -> int:
    """``value`` as an int.

    Raises:
        ValueError: it is below ``least``, or above ``most``.
        ArgumentTypeError: it is no whole number.
    """
    message = f"{name} must be a whole number of at least {least}"
    if not is_whole_number(value):
        raise ArgumentTypeError(f"{message}, not {shown(value)}")
    number = index(value)
    if number < least:
        raise ValueError(f"{message}, not {shown(value)}")
    if number > most:
        raise ValueError(f"{message} and at most {most}, not {shown(value)}")
    return number


def is_whole_number(value: Any) -> bool:
    """Whether it is one whole number, of Python or NumPy, be it an array without dimensions; no bool."""
    try:
        index(value)
    except TypeError:
        return False
    return not isinstance(value, bool)


def check_shape(name: str, value: Any) -> None:
    """Raise an error unless ``value`` is None or a shape, a tuple of whole numbers above 0."""
    if value is None:
        return
    numbers = isinstance(value, tuple | list) and all(map(is_whole_number, value))
    if not (numbers and value and min(value) >= 1):
        kind: type[ValueError] = ValueError if numbers else ArgumentTypeError
        raise kind(f"{name} must be a tuple of whole numbers above 0, not {shown(value)}")


def check_seed(name: str, value: Any) -> int:
    """A seed as an int: a whole number of at least 0, of 128 bits at most."""
    return check_whole_number(name, value, 0, 2**128 - 1)


# ---- True or False, names, text --------------------------------------------------------------------------------------


def check_flag(name: str, value: Any) -> bool:
    """``value``, True or False, of Python or NumPy, as a bool.

    Raises:
        ArgumentTypeError: it is neither.
    """
    if isinstance(value, bool):
        return value
    if getattr(getattr(value, "dtype", None), "kind", "") == "b" and getattr(value, "shape", None) == ():
        return bool(value)
    raise ArgumentTypeError(f"{name} must be True or False, not {shown(value)}")


def check_choice(name: str, value: Any, choices: Collection[str]) -> str:
    """``value``, which is one of ``choices``.

    Raises:
        ValueError: it is not.
        ArgumentTypeError: it is no text.
    """
    *first, last = (repr(choice) for choice in choices)
    message = f"{name} must be {', '.join(first)}{' or ' if first else ''}{last}, not {shown(value)}"
    if not isinstance(value, str):
        raise ArgumentTypeError(message)
    if value not in choices:
        raise ValueError(f"{message}{did_you_mean(value, choices)}")
    return value


def check_text(name: str, value: Any, wanted: str = "text") -> str:
    """``value``, which is a str.

    Args:
        wanted: what it is, for the message.
    """
    if not isinstance(value, str):
        raise ArgumentTypeError(f"{name} must be {wanted}, not {shown(value)}")
    return value


def check_dtype(name: str, value: Any, choices: Collection[str] = ("float32", "float64")) -> str:
    """The name of a dtype: ``"float32"``, ``np.float32``, ``np.dtype("float32")``, ``torch.float32``.

    Raises:
        ValueError: it is none of ``choices``.
        ArgumentTypeError: it is no dtype.
    """
    found = value
    if not isinstance(value, str):
        words = getattr(value, "name", None), getattr(value, "__name__", None), str(value).rpartition(".")[2]
        found = next((word for word in words if isinstance(word, str) and word in choices), value)
        is_type = isinstance(value, type) or "dtype" in type(value).__name__.lower()
        if not isinstance(found, str) and is_type:
            raise ValueError(f"{name} must be {' or '.join(map(repr, choices))}, not {shown(value)}")
    return check_choice(name, found, choices)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``" (did you mean adam?)"``, or "" where nothing that is known is like it."""
    by_lower = {word.lower(): word for word in known}
    near = get_close_matches(name[:LONGEST].lower(), by_lower, 1)
    return f" (did you mean {by_lower[near[0]]}?)" if near else ""


def unknown(kind: str, name: Any, known: Iterable[str], more: str = "") -> str:
    """The sentence for a name that is not known.

    Args:
        kind: what it should be the name of.
        more: how else to give one.
    """
    known = [*known]
    listed = ", ".join(known)
    if len(listed) > MOST_LISTED:
        listed = f"{listed[:MOST_LISTED].rpartition(', ')[0]}, ... ({len(known)} in all)"
    meant = did_you_mean(name, known) if isinstance(name, str) else ""
    return f"unknown {kind} {shown(name)}{meant}; known are {listed}{more}"


# ---- paths, objects, functions ---------------------------------------------------------------------------------------


def check_path(name: str, value: Any) -> Path:
    """``value``, a str or a ``Path``, as a Path.

    Raises:
        ValueError: it is empty, or has a null character.
        ArgumentTypeError: it is no path.
    """
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str):
        raise ArgumentTypeError(f"{name} must be a path, a text or a pathlib.Path, not {shown(value)}")
    if not text or "\0" in text:
        raise ValueError(f"{name} must be a path, not {shown(text)}; name a file or a folder")
    return Path(text)


def check_kind(name: str, value: Any, kind: type | tuple[type, ...], wanted: str) -> None:
    """Raise an ArgumentTypeError unless ``value`` is of ``kind``, which messages call ``wanted``."""
    if not isinstance(value, kind):
        is_class = isinstance(value, type) and issubclass(value, kind)
        hint = f"; write {value.__name__}(...)" if is_class else ""
        raise ArgumentTypeError(f"{name} must be {wanted}, not {shown(value)}{hint}")


def check_function(name: str, value: Any, wanted: str = "a function") -> None:
    """Raise an ArgumentTypeError unless ``value`` can be called. A class is no function."""
    if isinstance(value, type) or not callable(value):
        raise ArgumentTypeError(f"{name} must be {wanted}, not {shown(value)}")


# ---- names of arguments ----------------------------------------------------------------------------------------------


class NamedArguments:
    """The base of classes that users make objects of: an argument that there is not is refused by its name, with the
    one that may be meant."""

    if not TYPE_CHECKING:  # for type checkers the arguments are those of __init__

        def __new__(cls, *given, **settings):
            if given or settings:  # copy and pickle make an object without any
                check_arguments(cls, given, settings)
            new = super().__new__
            return new(cls) if new is object.__new__ else new(cls, *given, **settings)


def check_arguments(cls: type, given: tuple[Any, ...], settings: Collection[str]) -> None:
    """Raise an ArgumentTypeError unless ``cls`` can be called with these arguments, by position and by name."""
    signature, taken, needed = _signature_of(cls.__init__)  # type: ignore[misc]
    if len(given) <= len(taken):
        named = {*taken[: len(given)], *settings}
        if len(named) == len(given) + len(settings) and needed <= named and named.issubset(taken):
            return
    parameters = signature.parameters.values()
    names = [parameter.name for parameter in parameters if parameter.kind not in (parameter.VAR_POSITIONAL,)]
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    for name in settings:
        if name not in names and not takes_any:
            raise ArgumentTypeError(unknown_setting(cls, name, names))
    try:
        signature.bind(*given, **dict.fromkeys(settings))
    except TypeError as error:
        raise ArgumentTypeError(f"{cls.__name__}: {error}; it takes {_listed(names)}") from None


@lru_cache(512)
def _signature_of(initialize: Callable[..., None]) -> tuple[inspect.Signature, tuple[str, ...], frozenset[str]]:
    """That of an object's ``__init__`` without the object; the parameters that are taken by position and by name, in
    order; and those without a default. Kept, as it takes longer than a small prediction."""
    if initialize is object.__init__:
        return inspect.Signature(), (), frozenset()
    parameters = [*inspect.signature(initialize).parameters.values()][1:]
    either = [parameter for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    needed = {p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    return inspect.Signature(parameters), tuple(parameter.name for parameter in either), frozenset(needed)


def unknown_setting(cls: type, name: str, known: Collection[str]) -> str:
    """What is to be said of a name that is none of its settings."""
    meant = next((word for word in ELSEWHERE.get(name, ()) if word in known), "")
    near = meant or next(iter(get_close_matches(name[:LONGEST], known, 1)), "")
    hint = f"did you mean {near}?" if near else f"it has {_listed(known)}"
    return f"{cls.__name__} has no setting {shown(name)}; {hint}"


def _listed(names: Collection[str]) -> str:
    return ", ".join(names) or "none"
