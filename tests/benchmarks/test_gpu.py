"""``python -m benchmarks.gpu`` on the emulated GPU: every part runs, says what is wrong, and is bounded."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends import StepNumbers, get_backend
from backends.cuda import branches
from benchmarks.contenders.config import CONFIGS
from benchmarks.contenders.products import STEPS_OF_GRAPH, Products
from benchmarks.contenders.xpnet import Xpnet
from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import driver, launches, parts, recorded, trained
from tests.helpers import emulated_cuda, emulated_launch
from tests.helpers.emulated_cuda import launched, needs_compiler
from tests.helpers.emulated_driver import EmulatedDriver
from tests.helpers.emulated_gpu import emulated_gpu

TINY = CONFIGS["tiny"]


@pytest.fixture(autouse=True)
def one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each time that is taken: on the emulated GPU, where everything takes long, a median of five says no more."""
    monkeypatch.setattr(launches, "ROUNDS", 1)


@pytest.fixture
def emulated() -> Iterator[EmulatedDriver]:
    with emulated_gpu() as library:
        yield library


def here(module: str, arguments: list[str], seconds: float) -> tuple[int | None, str, str]:
    """Run a part in this process."""
    program = importlib.import_module(module)
    if not hasattr(program, "main"):
        program = importlib.import_module(f"{module}.__main__")
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            code = program.main(arguments)
        except SystemExit as error:
            code = error.code
    return code, output.getvalue(), errors.getvalue()


def rows(n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, 784), dtype=np.uint8), rng.integers(0, 10, n)


# ---- every part, on the emulated GPU ---------------------------------------------------------------------------------


@needs_compiler
def test_every_part_runs_on_the_emulated_gpu(emulated: EmulatedDriver, tmp_path: Path) -> None:
    chosen = [name for name in parts.dry("cuda") if name != "tests"]  # pytest is no guest in its own process
    assert gpu.main(["--dry", "--out", str(tmp_path), "--parts", *chosen, "--commit", "abc"], here) == 0
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert record["about"]["GPU"] == "an emulated GPU"
    assert record["about"]["commit"] == "abc"
    assert {name: part["verdict"] for name, part in record["parts"].items()} == dict.fromkeys(chosen, "passed")
    results = {name: part["result"] for name, part in record["parts"].items()}
    assert {config: found["why_eager"] for config, found in results["launches"]["launches"].items()} == {"tiny": ""}
    assert {name: found["differences"] for name, found in results["recorded"]["recorded"].items()} == {
        "dropout, Adam": [], "tiny": []
    }  # fmt: skip
    assert results["trained"]["trained"]["agree"] is True
    assert results["tiny"]["epoch-cuda-tiny"]["contenders"].keys() == {"products", "xpnet"}
    assert results["growth"]["growth-cuda"].keys() == {"batch"}
    assert "all within their bounds" in record["parts"]["check"]["output"]
    assert {path.name for path in tmp_path.iterdir()} == {
        *("gpu.json", "gpu.md", "epoch-cuda-tiny.json", "epoch-cuda-tiny.md", "growth-cuda.json", "growth-cuda.md")
    }
    text = (tmp_path / "gpu.md").read_text()
    for name in chosen:
        assert f"| {parts.dry('cuda')[name].title} | passed |" in text
    assert (tmp_path / "epoch-cuda-tiny.md").read_text().strip() in text


@needs_compiler
def test_the_part_of_the_tests_runs_those_for_a_gpu(tmp_path: Path) -> None:
    """Here those that launch nothing, so that no kernel is compiled once more."""
    part = parts.real("cuda")["tests"]
    part = replace(part, arguments=(*part.arguments, "-n", "0", "tests/backends/test_devices.py", "-k", "test_spec"))
    outcome = parts.run(part, 60, parts.in_process(parts.EMULATED))
    assert outcome.good, outcome.output + outcome.errors
    assert "3 passed" in outcome.output


def test_the_parts_leave_a_minute_for_the_last_one() -> None:
    real = parts.real("cuda")
    *others, last = real.values()
    assert sum(part.seconds for part in others) + gpu.MACHINE_SECONDS + 60 <= gpu.BUDGET
    assert last.module == "pytest"
    for part in real.values():
        if "--limit" in part.arguments:
            assert float(part.arguments[part.arguments.index("--limit") + 1]) < part.seconds


@pytest.mark.parametrize("name", [name for name in parts.real("cuda") if name != "tests"])
def test_the_programs_take_the_arguments_of_their_parts(name: str) -> None:
    """On a machine without a GPU each says so, and none that its command line is wrong."""
    part = parts.real("cuda:9")[name]
    code, output, errors = here(part.module, [argument.replace(parts.FOLDER, ".") for argument in part.arguments], 9)
    assert code == (1 if name == "doctor" else 2)
    assert re.search("cuda:9.*(not installed|no GPU|no NVIDIA|cannot)", output + errors), output + errors
    assert "unrecognized" not in errors


# ---- time, and what is kept ------------------------------------------------------------------------------------------

QUICK = parts.Part("A quick one", "timeit", ("-n", "1", "-r", "1", "print('said', flush=True)"), 60)
SLOW = replace(QUICK, arguments=(*QUICK.arguments, "import time; time.sleep(60)"))


def test_a_part_that_overruns_is_stopped_and_keeps_what_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "LEAST", 1.0)
    begun = time.monotonic()
    outcome = parts.run(SLOW, 2.0, parts.in_process())
    assert time.monotonic() - begun < 30
    assert outcome.verdict == "stopped after 2 s"
    assert not outcome.good
    assert outcome.output == "said\n"


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="this system has no groups of processes")
def test_the_processes_of_a_part_that_is_stopped_end_with_it(tmp_path: Path) -> None:
    sign = tmp_path / "sign"
    child = f"import time, pathlib; time.sleep(1.5); pathlib.Path({str(sign)!r}).touch()"
    start = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    code, _, _ = parts.in_process()("timeit", ["-n", "1", "-r", "1", start], 1.0)
    assert code is None
    time.sleep(1.5)
    assert not sign.exists()


def test_a_part_that_fails_says_how() -> None:
    outcome = parts.run(replace(QUICK, arguments=("no such thing",)), 60, parts.in_process())
    assert outcome.verdict == "failed (1)"
    assert "SyntaxError" in outcome.output + outcome.errors


def told(module: str, arguments: list[str], seconds: float) -> tuple[int | None, str, str]:
    """Programs that find nothing wrong and say who they are."""
    return 0, '{"GPU": "made up"}' if module == "benchmarks.gpu.machine" else f"{module} was here\n", ""


def test_a_run_that_is_killed_keeps_what_it_had(tmp_path: Path) -> None:
    def killed(module: str, arguments: list[str], seconds: float) -> tuple[int | None, str, str]:
        if module == "benchmarks.gpu.launches":
            raise KeyboardInterrupt
        return told(module, arguments, seconds)

    with pytest.raises(KeyboardInterrupt):
        gpu.main(["--out", str(tmp_path), "--parts", "doctor", "recorded", "launches", "small"], killed)
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert record["about"]["GPU"] == "made up"
    verdicts = {name: part["verdict"] for name, part in record["parts"].items()}
    assert verdicts == {"doctor": "passed", "recorded": "passed", "launches": "not begun", "small": "not begun"}
    text = (tmp_path / "gpu.md").read_text()
    assert "benchmarks.gpu.recorded was here" in text
    assert "| An epoch of small | not begun |" in text


def test_what_there_is_no_time_for_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun: list[str] = []

    def slow(module: str, arguments: list[str], seconds: float) -> tuple[int | None, str, str]:
        begun.append(module)
        assert seconds <= 30
        time.sleep(0.6)
        return told(module, arguments, seconds)

    flags = ["--out", str(tmp_path), "--budget", str(parts.LEAST + 1), "--parts", "doctor", "recorded", "check"]
    assert gpu.main(flags, slow) == 1
    assert begun == ["benchmarks.gpu.machine", "backends"]
    assert "left out: " in (tmp_path / "gpu.md").read_text()


def test_a_part_with_something_wrong_gives_the_exit_code_1(tmp_path: Path) -> None:
    def one_fails(module: str, arguments: list[str], seconds: float) -> tuple[int | None, str, str]:
        code, output, errors = told(module, arguments, seconds)
        return (1, output, "too far from the formula") if "check" in arguments else (code, output, errors)

    assert gpu.main(["--out", str(tmp_path), "--parts", "doctor", "check", "growth"], one_fails) == 1
    text = (tmp_path / "gpu.md").read_text()
    assert "failed (1)" in text
    assert "too far from the formula" in text
    assert json.loads((tmp_path / "gpu.json").read_text())["parts"]["growth"]["verdict"] == "passed"


def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--device", "cuda:9", "--out", str(tmp_path)], here) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: there is no GPU to measure on: cuda:9: ")
    assert said.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_part_that_is_unknown_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--parts", "doctor", "lunch"], told) == 2
    assert "there is no part lunch; there are doctor, " in capsys.readouterr().err


# ---- the floor is a recorded one -------------------------------------------------------------------------------------


@needs_compiler
def test_products_are_captured_and_are_the_right_ones(emulated: EmulatedDriver) -> None:
    x, y = rows(64 * (STEPS_OF_GRAPH + 3) + 40)
    floor, of_cpu = Products(TINY, x, y, "cuda"), Products(TINY, x, y, "cpu")
    cuda: Any = floor.backend
    with driver.noting(cuda.cupy.cuda, emulated) as noted:
        floor.epoch()
        floor.epoch()
        found = [Counter(node.name for node in graph.nodes()) for graph in noted.graphs]
    assert found == [{"gemm": 5 * steps, "advance_numbers": 1} for steps in (STEPS_OF_GRAPH, 3, 1)]
    launched.names.clear()
    floor.epoch()
    assert launched.names == ["set_numbers", *["graph"] * 3]
    assert floor.remark() == ""
    for _ in range(3):
        of_cpu.epoch()
    for mine, expected in zip(floor.gradients, of_cpu.gradients, strict=True):
        np.testing.assert_allclose(floor.backend.to_numpy(mine), expected, rtol=1e-4, atol=1e-5)


@needs_compiler
def test_a_floor_that_is_not_recorded_says_so(emulated: EmulatedDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulated_cuda.Stream, "end_capture", fails)
    floor = Products(TINY, *rows(), "cuda")
    for _ in range(3):
        floor.epoch()
    assert floor.remark() == "not recorded as a CUDA graph (ValueError: not today)"


def fails(*_: Any) -> None:
    raise ValueError("not today")


# ---- recorded against call by call -----------------------------------------------------------------------------------


@needs_compiler
def test_a_graph_that_leaves_something_out_is_noticed(
    emulated: EmulatedDriver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def launch(self: emulated_cuda.Graph) -> None:
        for node in self.nodes:
            if node.name != "adam_update":
                node.work()

    monkeypatch.setattr(emulated_cuda.Graph, "launch", launch)
    assert recorded.main(["--case", "dropout, Adam", "--steps", "3"]) == 1
    assert "DIFFERENT in 0.weight (" in capsys.readouterr().out


@needs_compiler
def test_a_run_without_graphs_is_no_proof(
    emulated: EmulatedDriver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(emulated_cuda.Stream, "end_capture", fails)
    assert recorded.main(["--case", "dropout, Adam", "--steps", "3"]) == 1
    assert "NOT RECORDED: ValueError: not today" in capsys.readouterr().out


@needs_compiler
@pytest.mark.parametrize("graphs", [[1, 0], [2, 1]])
def test_graphs_must_be_where_they_belong(graphs: list[int]) -> None:
    outcome = {"steps": 9, "sizes": 2, "graphs": graphs, "why_eager": "", "differences": []}
    assert not recorded.is_equal(outcome)
    assert "NOT SHOWN" in recorded.verdict(outcome)
    assert recorded.is_equal(outcome | {"graphs": [2, 0]})


@needs_compiler
def test_call_by_call_means_no_graph(emulated: EmulatedDriver) -> None:
    backend = recorded.call_by_call(get_backend("cuda"))
    launched.names.clear()
    _, graphs = recorded.train(recorded.CASES["one row a step"], backend, 4)
    assert graphs == 0
    assert launched.count("graph") == 0
    assert launched.count("gemm") >= 4 * recorded.EPOCHS


# ---- launches --------------------------------------------------------------------------------------------------------

FEW = ["--config", "tiny", "--rows", "200", "--copies", "2", "--steps", "2"]


def found_launches(tmp_path: Path, *flags: str) -> dict[str, Any]:
    launches.main([*FEW, *flags, "--json", str(tmp_path / "found.json")])
    found: dict[str, Any] = json.loads((tmp_path / "found.json").read_text())["tiny"]
    return found


@needs_compiler
def test_the_launches_are_those_of_the_step(emulated: EmulatedDriver, tmp_path: Path) -> None:
    made = Xpnet(TINY, *rows(), "cuda")
    step = launches.recorded_step(made)
    launched.names.clear()
    with made.trainer.backend.use():
        step(StepNumbers(0, 0, 1, 1e-6), TINY.batch_size)  # the first call runs the operations themselves
    expected = Counter(launched.names) - Counter(["set_numbers"])
    found = found_launches(tmp_path)
    assert Counter({launch["name"]: launch["count"] for launch in found["launches"]}) == expected
    assert found["nodes"] == expected.total()
    assert all(len(launch["us"]) == launch["count"] and min(launch["us"]) > 0 for launch in found["launches"])
    assert found["step_us"] > found["python_us"] > 0
    assert min(found["fit_us"], found["fit_ordinary_us"]) > 0
    assert found["why_not_dependent"] == ""


@needs_compiler
def test_steps_of_fit_are_timed_with_dependent_launches_and_without(
    emulated: EmulatedDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    early: list[int] = []
    of_fit = launches.of_fit

    def counted(made: Xpnet, batch_size: int, rows: int) -> float:
        emulated_launch.driver.names.clear()
        us = of_fit(made, batch_size, rows)
        early.append(len(emulated_launch.driver.names))
        return us

    monkeypatch.setattr(launches, "of_fit", counted)
    found_launches(tmp_path)
    assert early[0] > 0 == early[1]
    monkeypatch.setattr(emulated_launch.driver, "version", 12020)
    why = "the driver is of CUDA 12.2: it takes 12.3 or newer"
    assert f"(so are all: {why}; the difference is chance)." in launches.table("tiny", found_launches(tmp_path))


@needs_compiler
def test_a_step_with_two_branches(
    emulated: EmulatedDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The weights of the second layer, and the biases, are updated beside the gradient of the first one."""
    of_one = found_launches(tmp_path)
    monkeypatch.setattr(branches, "SECTION", 160)
    found = found_launches(tmp_path)
    assert "in_a_row_us" not in of_one
    assert found["in_a_row_us"] > 0
    updates = {launch["name"]: len(launch["us"]) for launch in found["launches"] if "update" in launch["name"]}
    assert updates == {"sgd_update": 2, "gradients_and_update_1": 1}
    assert " us with all in a row), its Python " in capsys.readouterr().out


@needs_compiler
def test_a_launch_is_timed_by_a_row_of_its_like(emulated: EmulatedDriver) -> None:
    backend: Any = get_backend("cuda")
    total, one = backend.zeros((4, 4)), backend.asarray(np.eye(4, dtype=np.float32))

    def step(numbers: StepNumbers, count: int) -> None:
        backend.matmul(one, one, beta=1.0, out=total)

    recording = backend.record(step)
    with backend.use(), driver.noting(backend.cupy.cuda, emulated) as noted:
        for _ in range(2):
            recording(StepNumbers(0, 0, 1, 0.1), 4)
        (graph,) = noted.graphs
        gemm = next(node for node in graph.nodes() if node.name == "gemm")
        before = backend.to_numpy(total)[0, 0]
        chain = graph.chain_of(gemm, 5)
        chain.launch(backend.device.stream.ptr)
        chain.close()
        assert backend.to_numpy(total)[0, 0] == before + 5
    assert not [thing for thing in emulated.objects.values() if isinstance(thing, emulated_cuda.Graph)]


@needs_compiler
def test_a_node_that_cannot_be_copied_is_told(emulated: EmulatedDriver, tmp_path: Path) -> None:
    nodes = found_launches(tmp_path)["nodes"]
    emulated.refuse = {"cuGraphAddKernelNode_v2"}
    found = found_launches(tmp_path)
    why = "cuGraphAddKernelNode_v2: CUDA_ERROR_INVALID_VALUE"
    assert {launch["why"] for launch in found["launches"]} == {why}
    assert found["nodes"] == nodes
    assert f"not timed: {why}" in launches.table("tiny", found)


@needs_compiler
def test_a_driver_that_shows_no_graph_breaks_no_capture(emulated: EmulatedDriver, tmp_path: Path) -> None:
    emulated.refuse = {"cuGraphClone"}
    assert found_launches(tmp_path)["why_eager"] == "cuGraphClone: CUDA_ERROR_INVALID_VALUE"
    launched.names.clear()
    made = Xpnet(TINY, *rows(), "cuda")
    with driver.noting(made.trainer.backend.cupy.cuda, emulated):  # type: ignore[attr-defined]
        for _ in range(3):
            made.epoch()
    assert made.remark() == ""
    assert launched.count("graph") > 0


@needs_compiler
def test_a_step_that_is_not_recorded_is_told(
    emulated: EmulatedDriver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(emulated_cuda.Stream, "end_capture", fails)
    assert launches.main(FEW) == 1
    assert capsys.readouterr().out == "tiny: not recorded: ValueError: not today.\n\n"


# ---- trained ---------------------------------------------------------------------------------------------------------


@needs_compiler
def test_a_device_that_trains_another_network_is_noticed(
    emulated: EmulatedDriver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its update does nothing."""

    def launch(self: emulated_cuda.RawKernel, *arguments: Any) -> None:
        if not self.name.startswith(("sgd_update", "gradients_and_update")):
            call(self, *arguments)

    call = emulated_cuda.RawKernel.__call__
    monkeypatch.setattr(emulated_cuda.RawKernel, "__call__", launch)
    assert trained.main(["--digits", "--limit", "300", "--epochs", "3", "--steps", "3"]) == 1
    said = capsys.readouterr().out
    assert "The accuracies are NOT the same." in said
    assert "in step 1" in said
