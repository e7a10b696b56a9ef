"""What networks that go to other libraries and back are compared by."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from nn import Sequential, Standardize

SEEDS = st.integers(0, 2**32 - 1)


def same(found: Any, expected: Any) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def statistics_of(model: Sequential) -> dict[str, Any]:
    """What ``Standardize`` has learnt, which is no weight elsewhere."""
    learnt = {str(index) for index, layer in enumerate(model) if isinstance(layer, Standardize)}
    return {name: array for name, array in model.state_dict().items() if name.partition(".")[0] in learnt}
