"""Rows to train on and rows to hold out, of so many that lists of them are made sparingly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from backends.random import generator

from ..dataset import checked_split


def divided_in_order(
    n: int, labels: np.ndarray | None, fraction: Any, seed: Any, names: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of ``n`` rows, those that stay and those that are held out, both ascending: as many of each class as
    ``Dataset.split`` holds out, within one, drawn by a stream of (seed, class).

    Some 20 bytes for each row are needed meanwhile, a fifth of what scikit-learn takes.

    Args:
        labels: (n,) integers of any dtype; None for no classes.
    """
    fraction, seed = checked_split(n, labels, fraction, seed, names)
    count = fraction if isinstance(fraction, int) and fraction >= 1 else math.ceil(fraction * n)
    is_held_out = np.zeros(n, bool)
    if labels is None:
        is_held_out[generator(seed, "split").choice(n, count, replace=False, shuffle=False)] = True
    else:
        classes, counts = np.unique(labels, return_counts=True)
        for label, of_class in zip(classes.tolist(), _shares(counts, count), strict=True):
            rows = np.flatnonzero(labels == label)
            drawn = generator(seed, "split", label).choice(len(rows), of_class, replace=False, shuffle=False)
            is_held_out[rows[drawn]] = True
    held_out = np.flatnonzero(is_held_out)
    np.logical_not(is_held_out, out=is_held_out)
    return np.flatnonzero(is_held_out), held_out


def _shares(counts: np.ndarray, total: int) -> list[int]:
    """Whole numbers in the proportion of ``counts`` whose sum is ``total``: what is left after rounding down goes to
    the largest remainders."""
    exact = counts * (total / counts.sum())
    shares = np.floor(exact).astype(np.int64)
    largest = np.argsort(shares - exact, kind="stable")
    shares[largest[: total - int(shares.sum())]] += 1
    found: list[int] = shares.tolist()
    return found
