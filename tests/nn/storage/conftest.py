"""The libraries that networks go to; tests without them are skipped."""

from __future__ import annotations

import os
import warnings
from typing import Any

import pytest


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.fixture(scope="module")
def keras(tmp_path_factory: pytest.TempPathFactory) -> Any:
    os.environ.setdefault("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
    os.environ.setdefault("KERAS_BACKEND", "numpy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("keras", reason="Keras is not installed")
