"""What a metric is: one function, of the targets and of what a network makes of the rows.

``loss`` and ``accuracy`` cost nothing: the loss operation of a step counts both on the device. Any other metric is
computed on the host from NumPy arrays, so scikit-learn's functions fit as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from inspect import signature
from typing import Any

from backends.arguments import (
    NamedArguments,
    check_choice,
    check_flag,
    check_function,
    check_kind,
    check_text,
    check_whole_number,
    shown,
    unknown,
)
from backends.typing import HostArray

from ..data.checks import DataError


@dataclass(frozen=True)
class Metric(NamedArguments):
    """A number that says how good a network is.

    Attributes:
        name: its column in the history.
        function: ``function(targets, found)`` of NumPy arrays gives the number.
        of: what ``found`` is: ``"predictions"`` (of ``Sequential.predict``), ``"probabilities"`` (of
            ``Sequential.predict_proba``), ``"scores"`` (the probabilities where the network has any, else the outputs)
            or ``"outputs"``. One number a row is (m,), here and in the targets.
        larger_is_better: whether more of it is better, which early stopping asks; None where nobody has said.
        needs: which targets it is a metric of: ``"classes"``, ``"values"`` or "" for any.
        least_outputs: of how many outputs of the network, at least.
    """

    name: str
    function: Callable[[HostArray, HostArray], Any]
    of: str = "predictions"
    larger_is_better: bool | None = None
    needs: str = ""
    least_outputs: int = 1

    def value(self, targets: HostArray, found: HostArray, weights: HostArray | None = None) -> float:
        """The number; weighted, where rows have weights and the function takes a ``sample_weight``.

        Raises:
            TypeError: the function gives none.
            ValueError: it cannot be computed of these.
        """
        of_rows = {"sample_weight": weights} if weights is not None and takes_weights(self.function) else {}
        try:
            value = self.function(targets, found, **of_rows)
        except ValueError as error:
            raise ValueError(f"metric {self.name}: {error}") from error
        try:
            return float(value)
        except (TypeError, ValueError):
            raise TypeError(f"metric {self.name}: its function must give a number, not {value!r}") from None

    def __post_init__(self) -> None:
        name = f"metric {shown(check_text('the name of a metric', self.name))[1:-1]}"
        check_function(f"{name}: its function", self.function, "a function of (targets, predictions)")
        check_choice(f"{name}: `of`", self.of, ("predictions", "probabilities", "scores", "outputs"))
        check_choice(f"{name}: `needs`", self.needs, ("", "classes", "values"))
        if self.larger_is_better is not None:
            check_flag(f"{name}: larger_is_better, unless it is None,", self.larger_is_better)
        check_whole_number(f"{name}: least_outputs", self.least_outputs)


def takes_weights(function: Callable[..., Any]) -> bool:
    """Whether it has a parameter ``sample_weight``, as scikit-learn's metrics have."""
    try:
        return "sample_weight" in signature(function).parameters
    except (ValueError, TypeError):  # some that are written in C have no signature
        return False


#: What is asked for: names, metrics, or functions of (targets, predictions).
Metrics = Iterable[str | Metric | Callable[[HostArray, HostArray], Any]]
#: The metrics by name.
METRICS: dict[str, Metric] = {}
#: Those whose names have a number in them: what makes one of a name, None where that is no such name.
PATTERNS: dict[str, Callable[[str], Metric | None]] = {}
#: What is always told (the accuracy of classes), and what asking for it by name changes nothing about.
ALWAYS = ("loss", "accuracy")


def register_metric(metric: Metric) -> Metric:
    """Let ``metric`` be asked for by its name.

    Raises:
        TypeError: it is no Metric.
    """
    check_kind("what is registered", metric, Metric, "a Metric")
    METRICS[metric.name] = metric
    return metric


def metric_names() -> list[str]:
    """What metrics can be called."""
    return [*ALWAYS, *METRICS, *PATTERNS]


def get_metrics(metrics: Metrics) -> list[Metric]:
    """The metrics that are named, described, or given as functions of (targets, predictions), without loss and
    accuracy, which are there anyhow.

    Of a function whose name ends as scikit-learn's do, ``_score``, ``_error`` or ``_loss``, more is better, or less.

    Raises:
        ValueError: a name is not known, or given twice.
        TypeError: something is no metric, or they are no list.
    """
    if isinstance(metrics, str | Metric) or not isinstance(metrics, Iterable):
        raise TypeError(f"metrics are a list, as in metrics=[{shown(metrics)}]")
    found: dict[str, Metric] = {}
    for metric in metrics:
        if isinstance(metric, str):
            if metric in ALWAYS:
                continue
            one = _by_name(metric)
        elif isinstance(metric, Metric):
            one = metric
        elif callable(metric):
            name = getattr(metric, "__name__", type(metric).__name__)
            more = name.endswith("_score")
            one = Metric(name, metric, larger_is_better=more if more or name.endswith(("_error", "_loss")) else None)
        else:
            raise TypeError(f"a metric is a name, a Metric or a function, not {shown(metric)}")
        if one.name in found or one.name in ALWAYS:
            raise ValueError(f"the metric {one.name!r} is there already")
        found[one.name] = one
    return list(found.values())


def is_metric(name: str) -> bool:
    """Whether a metric can be asked for by this name, beside loss and accuracy."""
    return _known(name) is not None


def _by_name(name: str) -> Metric:
    metric = _known(name)
    if metric is None:
        raise ValueError(unknown("metric", name, metric_names(), ", or give a function of (targets, predictions)"))
    return metric


def _known(name: str) -> Metric | None:
    made = (make(name) for make in PATTERNS.values())
    return METRICS.get(name) or next((metric for metric in made if metric is not None), None)


def check_metrics(metrics: Iterable[Metric], classes: bool, n_outputs: int) -> None:
    """Whether they can be computed of such targets.

    Args:
        classes: whether the network tells classes apart (or answers yes or no), and does not fit values.
        n_outputs: of the network.

    Raises:
        DataError: (a ValueError) one of them cannot.
    """
    kind, there = ("values", "classes") if classes else ("classes", "values")
    for metric in metrics:
        if metric.needs == kind:
            others = ", ".join(name for name, other in METRICS.items() if other.needs == there)
            raise DataError(
                f"the metric {metric.name} is one of {kind}, but these targets are {there}, of which there are {others}"
            )
        if n_outputs < metric.least_outputs:
            raise DataError(
                f"the metric {metric.name} says nothing of a network with {n_outputs} outputs; it needs at least "
                f"{metric.least_outputs}"
            )


def without_column(x: HostArray) -> HostArray:
    """(m, 1) as (m,): in NumPy, (m, 1) minus (m,) are the differences of all pairs."""
    return x[:, 0] if x.ndim == 2 and x.shape[1] == 1 else x


def means(totals: HostArray, rows: int, classes: bool) -> dict[str, float]:
    """Loss and, for classes, accuracy: from [loss sum, correct rows] over so many rows."""
    loss_sum, correct = totals.tolist()
    return {"loss": loss_sum / rows} | ({"accuracy": correct / rows} if classes else {})


def loss_names(classes: bool) -> list[str]:
    """The names of what ``means`` gives."""
    return ["loss", "accuracy"] if classes else ["loss"]


def larger_is_better(name: str, metrics: Iterable[Metric]) -> bool | None:
    """Whether more is better of the loss, the accuracy or one of these metrics; None where that is not known."""
    known = {metric.name: metric.larger_is_better for metric in metrics}
    return {**dict(zip(ALWAYS, (False, True), strict=True)), **known}.get(name)
