"""Where a run is computed, and how devices are compared."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info

import train
from backends import Backend, get_backend
from nn.cli import Settings
from tests.cli.settings.runs import SMALL, Tools, parameters, prepared


def test_device(tools: Tools) -> None:
    assert prepared("--device", "array_api_strict:device1").trainer.backend.device.spec == "array_api_strict:device1"
    assert "device    cpu: numpy " in tools.printed()


def test_dtype(tools: Tools) -> None:
    assert {values.dtype for values in parameters(prepared("--dtype", "float64")).values()} == {np.dtype("float64")}
    assert {values.dtype for values in parameters(prepared()).values()} == {np.dtype("float32")}


def test_threads(tools: Tools) -> None:
    def now() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    before, meanwhile, original = now(), [], train.train

    def training(run: train.Run, *signals: Any) -> None:
        meanwhile.append(now())
        original(run, *signals)

    tools.monkeypatch.setattr(train, "train", training)
    for count in (1, 2):
        assert f"BLAS threads: {count}" in tools.printed("--threads", str(count))
    assert meanwhile == [{1}, {2}]
    assert now() == before


def test_processes(tools: Tools) -> None:
    """With an MPI there are tests in test_processes.py; here: they are started, with the command line as it is."""
    started: list[Any] = []

    def start(settings: Settings, argv: list[str], tell: Callable[[str], None]) -> int:
        started.append(argv)
        return 0

    tools.monkeypatch.setattr(train, "start_processes", start)
    assert train.main([*SMALL, "--processes", "2"]) == 0
    assert started == [[*SMALL, "--processes", "2"]]
    assert "processes" not in tools.printed("--processes", "1")


def test_precision(tools: Tools) -> None:
    """On a GPU there are tests in tests/backends/cuda; here: it reaches the backend, and the header tells it."""
    asked = []

    def backend(spec: str, dtype: str, fused: bool, precision: str) -> Backend:
        asked.append(precision)
        return get_backend(spec, dtype, fused)

    tools.monkeypatch.setattr(train, "get_backend", backend)
    assert "products in tf32" in tools.printed("--precision", "tf32")
    assert "products in" not in tools.printed()
    assert asked == ["tf32", "float32"]


def test_reference(tools: Tools) -> None:
    assert type(prepared("--reference").trainer.backend) is Backend
    assert type(prepared().trainer.backend) is not Backend


def test_compare(tools: Tools) -> None:
    tools.monkeypatch.setattr(train, "train", lambda run: pytest.fail("there was a training run"))
    flags = [flag for flag in SMALL if flag not in ("--device", "cpu")]
    assert train.main([*flags, "--compare", "cpu,cpu/reference"]) == 0
    assert re.search(r"^cpu/reference .* in 8 steps", tools.capsys.readouterr().out, re.MULTILINE)


def test_compare_steps(tools: Tools) -> None:
    flags = [flag for flag in SMALL if flag not in ("--device", "cpu")]
    assert train.main([*flags, "--compare", "cpu,cpu/reference", "--compare-steps", "3", "--quiet"]) == 0
    assert " in 3 steps" in tools.capsys.readouterr().out
