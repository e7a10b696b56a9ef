"""Metrics: numbers that say how good a network is, each a function of the targets and of what it makes of the rows."""

from __future__ import annotations

from .base import (
    METRICS,
    Metric,
    Metrics,
    check_metrics,
    get_metrics,
    is_metric,
    larger_is_better,
    loss_names,
    means,
    metric_names,
    register_metric,
    without_column,
)
from .scores import TopK

__all__ = [
    "METRICS",
    "Metric",
    "Metrics",
    "TopK",
    "check_metrics",
    "get_metrics",
    "is_metric",
    "larger_is_better",
    "loss_names",
    "means",
    "metric_names",
    "register_metric",
    "without_column",
]
