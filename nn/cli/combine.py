"""From what flags and a recipe say to the settings of a run; what would do nothing is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..data import Data
from .kinds import UsageError
from .settings import SAME_PROBLEM, SETTINGS, Settings

#: What several optimizers have, each with a usual value of its own.
OF_OPTIMIZER = ("learning_rate", "momentum", "alpha", "epsilon", "epsilon_inside")


def combine(flags: Mapping[str, Any], recipe: Mapping[str, Any] | None = None, where: str = "") -> Settings:
    """The settings of a run. A flag that would do nothing is refused, and so is a key of a recipe, if the recipe itself
    makes it idle; where a flag makes it so, ``--optimizer adam`` its momentum for instance, the key is left out.

    Args:
        flags: the checked values that the command line gives.
        recipe: those that a recipe gives.
        where: what to call the recipe in a message.

    Raises:
        UsageError: a flag or a key would do nothing.
    """
    said = dict(recipe or {})
    alone = _settings(said, {})
    for name in said:
        if why := SETTINGS[name].why_idle(alone):
            key = f"{where}[{SETTINGS[name].table}] {name}"
            raise UsageError(f"{key} would do nothing here, as {why}; leave it out")
    if flags.get("optimizer", alone.optimizer) != alone.optimizer:
        for name in OF_OPTIMIZER:  # they are for the recipe's own optimizer
            said.pop(name, None)
    settings = _settings(said, flags)
    while idle := [name for name in said if name not in flags and SETTINGS[name].why_idle(settings)]:
        said = {name: value for name, value in said.items() if name not in idle}
        settings = _settings(said, flags)
    for name in flags:
        if why := SETTINGS[name].why_idle(settings):
            raise UsageError(f"{SETTINGS[name].flag} would do nothing here, as {why}; leave it out")
    return settings


def _settings(recipe: Mapping[str, Any], flags: Mapping[str, Any]) -> Settings:
    values = {name: SETTINGS[name].kind.final(value) for name, value in {**recipe, **flags}.items()}
    return Settings(**values, given=frozenset(flags))


def changed_problem(settings: Settings, recipe: Mapping[str, Any]) -> tuple[str, ...]:
    """The flags by which a run is of another problem than its recipe: other data, another network, other training.

    Args:
        settings: of the run.
        recipe: the values that the recipe gives.
    """
    own = _settings(recipe, {})
    return tuple(
        entry.flag
        for name, entry in SETTINGS.items()
        if name in settings.given
        and entry.table in ("data", "network", "training")
        and name not in SAME_PROBLEM
        and getattr(settings, name) != getattr(own, name)
    )


def refuse_idle_on_rows(settings: Settings, data: Data, own_test_rows: bool) -> None:
    """Refuse flags that would do nothing on these rows. Keys of recipes are let through, as recipes can be run on other
    data.

    Args:
        data: the rows that will be used.
        own_test_rows: whether the data came with test rows, so that none were set aside.

    Raises:
        UsageError: a flag would do nothing.
    """
    no_test = "there are no test rows" if data.test is None else ""
    no_labels = no_test or ("" if data.train.has_classes else "the rows have no class labels")
    evaluated = settings.validation is not None or settings.train_metrics
    no_metrics = "" if evaluated or not no_test else f"{no_test} and no validation rows"
    for name, why in (
        ("test_fraction", "these data come with test rows" if own_test_rows else ""),
        ("validation", no_test if settings.validation == "test" else ""),
        ("metrics", no_metrics),
        ("confusion", no_labels),
        ("predictions", no_test),
        ("plots", no_test and settings.epochs == 0 and not settings.compare and f"nothing is trained and {no_test}"),
    ):
        if why and name in settings.given:
            raise UsageError(f"{SETTINGS[name].flag} would do nothing here, as {why}; leave it out")
