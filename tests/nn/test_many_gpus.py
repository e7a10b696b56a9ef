"""Processes with a GPU each, emulated: gradients go by NCCL, also in captured steps, with the bits of one process."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from nn import load_model
from tests.helpers.emulated_cuda import needs_compiler
from tests.helpers.ranks import Ended, run

EMULATED = ["-m", "tests.helpers.emulated_gpu"]
PROGRAM = [*EMULATED, "tests.helpers.mpi_program"]
ON_GPU = {"XPNET_TEST_DEVICE": "cuda"}

pytestmark = needs_compiler


def by_rank_0(found: list[Ended]) -> list[str]:
    """The lines of results; only the first process prints."""
    assert [process.code for process in found] == [0] * len(found), "".join(process.err for process in found)
    assert not any("Exception ignored" in process.err for process in found)
    assert [process.out for process in found[1:]] == [""] * (len(found) - 1)
    return [line for line in found[0].out.splitlines() if len(line.split()) > 4 and len(line.split()[1]) == 16]


@cache
def steps_alone(large: str | None) -> list[str]:
    """What one process prints of the captured steps. It has nobody to sum with, so it matters not how that is done."""
    more = ON_GPU if large is None else ON_GPU | {"XPNET_TEST_LARGE": large}
    return by_rank_0(run(1, [*PROGRAM, "captured", "2", "0", "8"], more=more))


MANY = [2, pytest.param(4, marks=pytest.mark.slow)]


@pytest.mark.parametrize("processes", MANY)
def test_sums_at_once_by_slices_and_by_halves_have_the_bits_of_the_tree(processes: int) -> None:
    found = run(processes, [*PROGRAM, "sums_on_gpus"], more=ON_GPU)
    assert [process.out for process in found] == [f"process {r} has found NCCL right\n" for r in range(processes)], [
        process.err for process in found
    ]


@pytest.mark.parametrize("processes", MANY)
def test_any_number_of_gpus_has_the_bits_of_one(processes: int) -> None:
    blocks = str(processes)
    alone = by_rank_0(run(1, [*PROGRAM, "bits", blocks], more=ON_GPU))
    assert len(alone) == 8
    assert by_rank_0(run(processes, [*PROGRAM, "bits", blocks], more=ON_GPU)) == alone


@pytest.mark.parametrize(
    ("short", "by_slices", "calls"),
    [
        pytest.param(0, 8, (1, 1), id="by slices", marks=pytest.mark.slow),  # the next test but one does so
        pytest.param(0, 1, (0, 2), id="by halves"),
        pytest.param(1 << 20, 8, (1, 0), id="at once", marks=pytest.mark.slow),
    ],
)
def test_captured_steps_have_the_sums_in_them(short: int, by_slices: int, calls: tuple[int, int]) -> None:
    program = [*PROGRAM, "captured", "2", str(short), str(by_slices)]
    alone, two = steps_alone(None), by_rank_0(run(2, program, more=ON_GPU))
    assert [line.split()[:3] for line in two] == [line.split()[:3] for line in alone]  # bits and steps
    assert [line.split()[4:] for line in alone] == [["0", "0", "-"]] * 2
    for line, sums in zip(two, (1, 2), strict=True):  # of gradients; and of statistics
        _, _, steps, graphs, gathered, exchanged, _ = line.split()
        assert (steps, graphs) == ("24", "23")  # the first step alone is launched call by call
        assert (int(gathered), int(exchanged)) == (sums * calls[0], sums * calls[1])


LARGE = ON_GPU | {"XPNET_TEST_LARGE": "150"}


@pytest.mark.parametrize("processes", MANY)
def test_sums_in_parts_have_the_bits_of_one_process(processes: int) -> None:
    """Also where the updates of the parts are beside, and where something needs all gradients at once."""
    alone = by_rank_0(run(1, [*PROGRAM, "bits", "4"], more=LARGE))
    assert len(alone) == 8
    assert by_rank_0(run(processes, [*PROGRAM, "bits", "4"], more=LARGE)) == alone


@pytest.mark.parametrize(
    "by_slices", [pytest.param(8, id="by slices"), pytest.param(1, id="by halves", marks=pytest.mark.slow)]
)
def test_the_sums_of_the_last_layers_run_beside_the_layers_before(by_slices: int) -> None:
    program = [*PROGRAM, "captured", "2", "0", str(by_slices)]
    alone, two = steps_alone(LARGE["XPNET_TEST_LARGE"]), by_rank_0(run(2, program, more=LARGE))
    assert [line.split()[:3] for line in two] == [line.split()[:3] for line in alone]
    exchanges = ["all to all", "all gather"] if by_slices > 1 else ["all to all"] * 2
    for line in two:
        calls = [int(count) for count in line.split()[4:6]]
        beside = line.split()[6].split("+")
        parts = 3 + (line.startswith("BatchNorm"))  # two of weights, then all else, and then statistics
        assert calls == [parts * exchanges.count(name) for name in ("all gather", "all to all")]
        assert (beside[0], beside.count("copy")) == ("all_to_all", 0)
        assert "sgd_update" in beside


def test_a_capture_that_one_process_loses_is_lost_for_all() -> None:
    """The stand-in for NCCL refuses calls that are captured on one process and not on another."""
    found = run(2, [*PROGRAM, "interrupted_capture"], more=ON_GPU)
    assert [process.code for process in found] == [0, 0], found[1].err
    assert [process.out for process in found] == ["24 22 2\n"] * 2


def test_a_process_takes_the_gpu_of_its_number(tmp_path: Path) -> None:
    flags = ["train", "--device", "cuda", "--limit", "120", "--hidden", "8", "--epochs", "2", "--blocks", "2"]
    folders = [tmp_path / "alone", tmp_path / "two"]
    for processes, folder in enumerate(folders, 1):
        found = run(processes, [*EMULATED, *flags, "--output", str(folder)])
        assert [process.code for process in found] == [0] * processes, found[0].err
        assert "device    cuda:0: " in found[0].out
    assert "processes 2, by NCCL; batches in 2 blocks of rows\n" in found[0].out
    one, two = (load_model(folder, backend="cpu").state_dict() for folder in folders)
    assert {name: x.tobytes() for name, x in one.items()} == {name: x.tobytes() for name, x in two.items()}


def test_two_processes_on_one_gpu_are_refused() -> None:
    found = run(2, [*PROGRAM, "bits", "2"], more={"XPNET_TEST_DEVICE": "cuda:1"})
    errors = "".join(process.err for process in found)
    assert all(process.code == 1 for process in found)
    assert errors.count("processes 0 and 1 would share the GPU emulated 1 of ") == 1, errors
