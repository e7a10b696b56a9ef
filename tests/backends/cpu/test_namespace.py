"""The CPU's array namespace: NumPy's, and the standard's where that is another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import backends
from backends import get_backend

X = np.array([[2.0, 1.0, 2.0], [0.0, 3.0, 0.0]], dtype=np.float32)


@pytest.fixture
def xp() -> Any:
    return get_backend("cpu").xp


def test_what_numpy_has_by_the_standard_is_numpys(xp: Any) -> None:
    for name in ("matmul", "sum", "float32", "permute_dims", "isdtype", "linalg", "__array_namespace_info__", "pi"):
        assert getattr(xp, name) is getattr(np, name)
    assert (xp.__name__, {*dir(np)} - {*dir(xp)}) == ("numpy", set())
    with pytest.raises(AttributeError, match="no_such_function"):
        _ = xp.no_such_function


def test_what_numpy_has_otherwise_is_as_the_standard_says(xp: Any) -> None:
    assert xp.sort(X, descending=True).tolist() == [[2.0, 2.0, 1.0], [3.0, 0.0, 0.0]]
    assert xp.argsort(X, descending=True).tolist() == [[0, 2, 1], [1, 0, 2]]  # equals in the order in which they came
    many = np.tile(np.array([1.0, 0.0]), 100)
    assert xp.argsort(many).tolist() == [*range(1, 200, 2), *range(0, 200, 2)]
    assert xp.take_along_axis(X, np.array([[1], [0]])).tolist() == [[1.0], [0.0]]
    assert xp.clip(X, np.float64(0.5), np.float64(2.5)).dtype == np.float32
    assert xp.finfo(X).eps == xp.finfo(xp.float32).eps == xp.finfo("float32").eps
    assert xp.iinfo(np.arange(3, dtype=np.uint8)).max == 255


def test_the_dtype_of_a_sum_of_all_is_changed_like_that_of_an_array(xp: Any) -> None:
    total = xp.astype(xp.sum(X), xp.float64)
    assert (total.dtype, float(total)) == (np.float64, 8.0)
    assert xp.astype(X, xp.float32, copy=False) is X
    assert xp.astype(X, xp.float32) is not X


def test_training_loads_no_wrapper_of_numpy() -> None:
    """It takes a tenth of a second."""
    program = (
        "import sys, numpy as np, nn\n"
        "model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2), backend='cpu')\n"
        "nn.Trainer(model, optimizer=nn.Adam()).fit(np.ones((8, 4)), np.arange(8) % 2, epochs=2)\n"
        "print('array_api_compat.numpy' in sys.modules)"
    )
    root = Path(backends.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "False"
