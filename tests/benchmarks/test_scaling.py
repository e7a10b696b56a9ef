"""The benchmark of scaling: its model by hand, what it measures on tiny turns, and what it writes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from benchmarks.scaling import __main__ as scaling
from benchmarks.scaling import report
from benchmarks.scaling.machines import H100, fully_connected
from benchmarks.scaling.model import Compute, Link, Machine, efficiencies, fitted, nccl_allreduce
from tests.helpers.mpi import environment, mpiexec

#: Two processes a node; an exchange of n bytes takes 1 + 0.001 n inside and 10 + 0.01 n between nodes.
MACHINE = Machine("made up", 2, Link(1.0, 0.001), Link(10.0, 0.01), add=0.0001, source="nowhere")


def test_a_sum_by_halves_as_worked_out_by_hand() -> None:
    n = 1600  # 6,400 bytes: halves of 3,200 inside a node, then quarters of 1,600 between nodes
    inside = 2 * (1.0 + 3.2) + 0.32
    between = 2 * (10.0 + 16.0) + 0.16
    assert MACHINE.by_halves(2, n) == pytest.approx(inside)
    assert MACHINE.by_halves(4, n) == pytest.approx(inside + between)
    assert MACHINE.whole(4, n) == pytest.approx((1.0 + 6.4 + 0.64) + (10.0 + 64.0 + 0.64))
    assert MACHINE.by_slices(4, n) == pytest.approx(2 * (1.0 + 2 * 10.0 + 1.6 + 2 * 16.0) + 3 * 0.16)
    assert MACHINE.ring(4, n) == pytest.approx(3 * (2 * (10.0 + 1600 * 0.005) + 0.16))
    assert MACHINE.tree(4, n) == MACHINE.by_halves(4, n)
    assert MACHINE.tree(1, n) == MACHINE.by_slices(1, n) == MACHINE.plain(1, n) == 0.0


def test_efficiencies_as_worked_out_by_hand() -> None:
    compute, n = Compute(2.0, 0.5), 1600
    added = MACHINE.tree(4, n)
    found = efficiencies(MACHINE, compute, n, 100, [1, 4])
    assert found["weak"] == pytest.approx([1.0, 52.0 / (52.0 + added)])
    assert found["strong"] == pytest.approx([1.0, 52.0 / 4 / (2.0 + 12.5 + added)])


def test_a_link_is_found_from_messages() -> None:
    link, sizes = Link(3e-6, 2e-10), [64, 1024, 65_536, 1 << 20, 1 << 24]
    assert fitted(sizes, [link.seconds(size) for size in sizes]) == pytest.approx(link)
    assert fitted(sizes, [1e-6] * 5) == pytest.approx((1e-6, 0.0), abs=1e-12)
    assert fitted([1000, 2000], [1e-6, 4e-6])[0] == 0.0  # no latency below nothing


def test_the_model_of_nccl_is_bound_by_latency_and_by_bandwidth() -> None:
    inside, between = H100.inside.per_byte, H100.between.per_byte
    few, many = (nccl_allreduce(p, 8, 4.0, inside, between) for p in (8, 1024))
    assert few == pytest.approx(6.6e-6 + 14 * 0.6e-6, rel=1e-3)  # a ring in a node
    assert many == pytest.approx(6.8e-6 + 2 * (7 * 0.6e-6 + 7 * 5.0e-6), rel=1e-3)  # a tree of 128 nodes
    assert nccl_allreduce(8, 8, 1e10, inside, between) == pytest.approx(1e10 * 14 / 8 * inside, rel=0.01)


def test_parameters_and_operations_of_a_network() -> None:
    network = fully_connected((784, 30, 10), 8)
    assert network.parameters == 784 * 30 + 30 + 30 * 10 + 10
    assert network.flops == 4 * 784 * 30 + 6 * 30 * 10


def test_measures_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    mpiexec()
    for name in {*os.environ} - {*environment()}:  # another MPI's must not be seen
        monkeypatch.delenv(name)
    quick = ["--networks", "small", "--processes", "2", "4", "--rounds", "2", "--seconds", "0.001", "--batch", "16"]
    assert scaling.main([*quick, "--out", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"scaling.json", "scaling.md", "scaling.png"}
    made = json.loads((tmp_path / "scaling.json").read_text())
    for size in ("2", "4"):
        found = made["measured"][size]["small"]
        assert found["n"] >= 784 * 30 + 30 + 30 * 10 + 10
        for seconds in (*found["sums"].values(), *found["steps"].values()):
            assert len(seconds) == 2
            assert min(seconds) > 0.0
    assert len(made["predictions"]) == 2 * 3
    cases = {(case["machine"], case["sums"]) for case in made["simulated"]}
    assert {machine for machine, _ in cases} >= {"nodes like this machine (2 processes), 40 Gb/s Ethernet"}
    assert {sums for _, sums in cases} == {*report.SUMS}
    assert all(0.0 < part <= 1.0 for case in made["simulated"] for part in case["weak"])
    printed = capsys.readouterr().out
    assert "No GPU has run this" in printed
    assert printed.count("| 784-30-10 |") == 2 + 2 + 1 + 6
    # The tables can be written anew from the figures.
    assert scaling.main(["--from", str(tmp_path / "scaling.json"), "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == printed


def test_without_an_mpi_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scaling, "find_spec", lambda name: None)
    monkeypatch.setattr(scaling, "started", lambda launcher, asked: {})
    assert scaling.main(["--dry"]) == 2
    assert "pip install 'xpnet[mpi]'" in capsys.readouterr().err
