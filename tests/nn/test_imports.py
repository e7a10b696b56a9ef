"""The first decision of the design: network code computes through the backend it is handed, with no array library."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import nn

NETWORK_CODE = ["layers", "activations", "losses", "optimizers", "initializers", "model", "trainer"]
ARRAY_LIBRARIES = {"numpy", "numba", "cupy", "torch", "scipy", "jax", "array_api_compat", "array_api_strict"}


def imported_packages(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(str(node.module).partition(".")[0])
    return names


@pytest.mark.parametrize("module", NETWORK_CODE)
def test_network_code_imports_no_array_library(module: str) -> None:
    path = Path(nn.__file__).parent / f"{module}.py"
    assert imported_packages(path) & ARRAY_LIBRARIES == set()


def test_the_reader_of_imports_sees_them() -> None:
    path = Path(nn.__file__).parent / "data.py"
    assert "numpy" in imported_packages(path)


@pytest.mark.parametrize("module", ["backends", "nn", "train"])
def test_importing_is_light(module: str) -> None:
    heavy = ["sklearn", "tqdm", "pooch", "h5py", "matplotlib", "safetensors", "cupy", "torch", "numba", "pandas"]
    program = f"import sys, {module}; print(*[name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
