"""Devices of processes that train together: of one kind, and a GPU for each."""

from __future__ import annotations

import pytest

from backends import DeviceError, ErrorKind, get_backend
from backends.collectives import Collectives, ProcessError
from backends.core import unlike
from backends.cuda.device import own_gpu
from tests.helpers.processes import together


@pytest.mark.parametrize(
    ("dtype", "fused", "told"), [("float64", True, "in float64; process 0"), ("float32", False, "by the reference")]
)
def test_processes_that_compute_in_different_ways_are_refused_on_all(dtype: str, fused: bool, told: str) -> None:
    def work(collectives: Collectives) -> str:
        backend = get_backend("cpu", dtype, fused) if collectives.rank == 1 else get_backend("cpu")
        with pytest.raises(ProcessError) as refused:
            backend.train_with(collectives)
        assert backend.collectives.size == 1
        return str(refused.value)

    first, second = together(2, work)
    assert first == second
    assert first.startswith("process 1, on ")
    assert told in first


@pytest.mark.parametrize(
    ("others", "told"),
    [
        ([("a", "cuda", "0"), ("b", "cuda", "0")], ""),
        ([("a", "cuda", "0"), ("a", "cuda", "1")], ""),
        ([("a", "cpu", ""), ("a", "cpu", "")], ""),
        (
            [("a", "cuda", "0"), ("b", "cuda", "0"), ("a", "cuda", "0")],
            "processes 0 and 2 would share the GPU 0 of a; ",
        ),
        ([("a", "cuda", "0"), ("b", "cpu", "")], "process 1, on b, computes on cpu; process 0 on cuda; "),
    ],
)
def test_what_is_said_of_them(others: list[tuple[str, str, str]], told: str) -> None:
    found = unlike(others)
    assert found.startswith(told)
    assert bool(found) == bool(told)


@pytest.mark.parametrize(
    ("rank", "gpus", "number"), [(None, 4, "0"), ("0", 4, "0"), ("3", 4, "3"), ("3", 1, "0"), ("0", 1, "0")]
)
def test_which_gpu_is_a_process_s_own(
    monkeypatch: pytest.MonkeyPatch, rank: str | None, gpus: int, number: str
) -> None:
    if rank is not None:
        monkeypatch.setenv("WORLD_SIZE", "8")
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert own_gpu(lambda: [str(gpu) for gpu in range(gpus)]) == number


def test_a_machine_with_fewer_gpus_than_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(DeviceError, match=r"this is process 2, counted from 0, of a machine with 2 GPUs") as refused:
        own_gpu(lambda: ["0", "1"])
    assert refused.value.kind is ErrorKind.NO_SUCH_DEVICE
