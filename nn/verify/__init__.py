"""Proof: gradients against differences, devices against each other."""

from __future__ import annotations

from .compare import Comparison, Finding, compare
from .gradients import GradientError, GradientReport, check_gradients

__all__ = ["Comparison", "Finding", "GradientError", "GradientReport", "check_gradients", "compare"]
