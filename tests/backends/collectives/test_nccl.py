"""What is set before NCCL connects processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from backends.collectives import Collectives, ProcessError
from backends.collectives.nccl import OLDEST, Nccl


@pytest.mark.parametrize(("given", "expected"), [(None, "0"), ("1", "1")])
def test_memory_of_captured_calls_is_not_registered_unless_somebody_asks_for_it(
    given: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str | None] = []

    def communicator(size: int, name: bytes, rank: int) -> Any:
        found.append(os.environ.get("NCCL_GRAPH_REGISTER"))
        return SimpleNamespace()

    nccl: Any = ModuleType("no_cupy.cuda.nccl")
    nccl.available, nccl.get_version, nccl.get_unique_id = True, lambda: OLDEST, lambda: b""
    nccl.NcclCommunicator, nccl.NCCL_FLOAT32, nccl.NCCL_FLOAT64 = communicator, 7, 8
    monkeypatch.setitem(sys.modules, nccl.__name__, nccl)
    monkeypatch.setenv("NCCL_GRAPH_REGISTER", "")  # so that it is as it was, afterwards
    monkeypatch.delenv("NCCL_GRAPH_REGISTER")
    if given is not None:
        monkeypatch.setenv("NCCL_GRAPH_REGISTER", given)
    Nccl(SimpleNamespace(__name__="no_cupy", cuda=None), Collectives())
    assert found == [expected]


def test_without_nccl_there_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CuPy 14 imports its module all the same, and warns."""
    text = "import warnings\navailable = False\nwarnings.warn('nccl library could not be loaded.\\n\\nReason: ...')\n"
    (tmp_path / "cupy_without_nccl" / "cuda").mkdir(parents=True)
    (tmp_path / "cupy_without_nccl" / "cuda" / "nccl.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ProcessError, match="has no NCCL that CuPy finds; pip install nvidia-nccl-cu12 or nvidia-nccl"):
        Nccl(SimpleNamespace(__name__="cupy_without_nccl", cuda=None), Collectives())
